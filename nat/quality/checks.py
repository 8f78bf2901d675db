r"""What can be wrong inside one trajectory, seen from that trajectory alone.

    settings = CheckSettings(tools=("search", "calculate"), conditioning_texts=("[Correct]", "[Incorrect]"))
    check(trajectory, settings)
    # [Mark("calculator_slip", message=1, start=0, end=2, detail="16-3 is 13, not 12")]

A mark names a place for people to look at; `nat.quality.rules` decides what goes. A check is a rule that can be said
in one sentence, and rather stays silent than cries wolf. Everything here is done once for each of a million
trajectories: the texts are joined and looked through for a few plain substrings, and only where one stands does a
pattern run.

Which checks apply depends on what kind of agent it is (`nat.agents.kinds`), found from the whole trajectory:

- text actions: every turn must hold an action. One that `nat` cannot read but that an observation without an error
  answers did something in its own environment; an agent that writes nothing else is not judged by its actions or end;
- native calls: an action need not be written down, and a call whose tool nobody named may well be the end;
- a chain of thought: its last turn must name its answer (`nat.agents.actions.parse_answer`);
- a plain chat, and a conversation with a user: nothing is due.

A check exists by standing in `CHECKS` of a module `nat/quality/check_*.py`; its rule and its finding follow from that.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import NamedTuple

import nat.quality
from nat.agents.kinds import Agent, answer_is_due_in, read_agent, tool_names
from nat.quality.check_observations import observation_errors
from nat.quality.marks import Check, CheckSettings, Mark, View
from nat.types import Trajectory

PREFIX = "check_"  # of the modules that hold checks


def in_order(checks: Iterable[Check]) -> dict[str, Check]:
    """The checks by name, in the order of their places.

    Raises ValueError for a name that two of them have, or that could be no key of the configuration.
    """
    found: dict[str, Check] = {}
    for check in sorted(checks, key=lambda check: (check.place, check.name)):
        if check.name in found:
            raise ValueError(f"two checks in nat/quality/ are called {check.name!r}; a name is one check's")
        if not check.name.isidentifier() or keyword.iskeyword(check.name):
            raise ValueError(f"a check in nat/quality/ is called {check.name!r}; take letters, digits and underscores")
        found[check.name] = check
    return found


_MODULES = [module.name for module in iter_modules(nat.quality.__path__) if module.name.startswith(PREFIX)]
CHECKS = in_order(check for name in _MODULES for check in import_module(f"nat.quality.{name}").CHECKS)
_PASSES = tuple(dict.fromkeys(check.find for check in CHECKS.values()))  # functions: each once


class Checked(NamedTuple):
    """What the checks find in a trajectory, and what kind of agent it is of."""

    marks: list[Mark]
    agent: Agent


def check(trajectory: Trajectory, settings: CheckSettings) -> list[Mark]:
    """Everything that the checks find, in the order of `CHECKS`, then of the messages (the question first)."""
    return checked(trajectory, settings).marks


def checked(trajectory: Trajectory, settings: CheckSettings) -> Checked:
    """What `check` finds, and the kind of agent."""
    messages = trajectory.messages
    joined = "\n".join([trajectory.question, *[message.content for message in messages]])
    errors = observation_errors(messages)
    agent = agent_of(trajectory, settings, errors)
    view = View(trajectory, settings, joined, joined.lower(), agent, errors)
    marks: list[Mark] = []
    for find in _PASSES:
        marks += find(view)
    return Checked(marks, agent)


def agent_of(trajectory: Trajectory, settings: CheckSettings, errors: Sequence[Mark]) -> Agent:
    """What kind of agent it is of; `errors` are its observations that report one."""
    return read_agent(
        trajectory.messages,
        (*settings.tools, *tool_names(trajectory.tools)),
        {mark.message for mark in errors},
        answer_is_due=answer_is_due_in(trajectory.outcome),
        ending=trajectory.metadata.get("final_observation"),
    )
