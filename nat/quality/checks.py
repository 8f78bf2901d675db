r"""What can be wrong inside one trajectory, seen from that trajectory alone.

    settings = CheckSettings(tools=("search", "calculate"), conditioning_texts=("[Correct]", "[Incorrect]"))
    check(trajectory, settings)
    # [Mark("calculator_slip", message=1, start=0, end=2, detail="16-3 is 13, not 12")]

A mark names a place for people to look at; `nat.quality.rules` decides what goes. A check is a rule that can be said
in one sentence, and rather stays silent than cries wolf. Everything here is done once for each of a million
trajectories: the texts are joined and looked through for a few plain substrings, and only where one stands does a
pattern run.

Which checks apply depends on how the agent writes. A trajectory is

- of tool calls, where a message has `tool_calls`: an action need not be written down;
- of ReAct, where there are observations (tool messages), or a turn holds `Action: tool[input]` or an attempt at it
  (`calculate(2 + 2)`, a bracket never closed), or a turn begins with `Thought:` and no turn names an answer: every turn
  must hold an action;
- else a chain of thought: its last turn must name its answer (`nat.agents.actions.parse_answer`).
"""

from __future__ import annotations

from nat.quality.check_labels import _conditioning_words, _labels
from nat.quality.check_observations import _calculator_slips, _observation_errors
from nat.quality.check_private import _private
from nat.quality.check_texts import _mixed_languages, _odd_characters
from nat.quality.check_turns import _empty_turns, _is_finished, _is_observation, _read_turns, _unparsed
from nat.quality.marks import CheckSettings, Mark
from nat.types import Trajectory


def check(trajectory: Trajectory, settings: CheckSettings) -> list[Mark]:
    """Everything that the checks find, in the order of `CheckName`, then of the messages (the question first)."""
    messages = trajectory.messages
    joined = "\n".join([trajectory.question, *[message.content for message in messages]])
    lower = joined.lower()
    errors = _observation_errors(messages)
    kind, actions = _read_turns(messages, settings.tools, {mark.message for mark in errors})
    marks: list[Mark] = []
    marks += _empty_turns(messages)
    if messages and messages[-1].role == "user" and not _is_observation(messages[-1]):
        marks.append(Mark("ends_on_user_turn", len(messages) - 1, 0, len(messages[-1].content), ""))
    if not _is_finished(trajectory, kind, actions):
        stop = "; ends on an observation" if messages and _is_observation(messages[-1]) else ""
        marks.append(Mark("unfinished", None, 0, 0, f"no final answer in {len(actions)} agent turns{stop}"))
    marks += _unparsed(messages, kind, actions)
    marks += errors
    marks += _calculator_slips(messages, actions)
    marks += _mixed_languages(trajectory, joined)
    marks += _private(trajectory, joined)
    marks += _conditioning_words(trajectory, lower, settings.conditioning_texts)
    marks += _labels(trajectory, lower)
    marks += _odd_characters(trajectory, joined)
    return marks


# ---- turns ----


# ---- observations ----


# ---- scripts ----


# ---- texts that should not be there ----
