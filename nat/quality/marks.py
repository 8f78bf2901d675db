"""What a check of trajectories is, what it is given, and what it says: a mark at a place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from nat.agents.kinds import Agent
from nat.types import Trajectory

Severity: TypeAlias = Literal["error", "warning", "note"]


SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")  # worst first


class Mark(NamedTuple):
    """One thing found. `message` is its index among the trajectory's messages; None: the question, or the whole.

    `start` and `end` delimit it in that message's content (in the question, where `message` is None); both are 0 where
    the whole is meant, or a tool call. A secret's `detail` does not repeat it, but its place shows it: mask it.
    """

    name: str  # of the check
    message: int | None
    start: int
    end: int
    detail: str


@dataclass(frozen=True)
class CheckSettings:
    """`tools`: the names of tools that exist. `conditioning_texts`: what strategies put into prompts (`StrategyClass`).

    A tool that the trajectory's own `tools` name, or whose call was answered by an observation that reports no error,
    exists, too. With texts that hold a word in asterisks (`**correctly**`), that word counts for itself.
    """

    tools: tuple[str, ...]
    conditioning_texts: tuple[str, ...]


class View(NamedTuple):
    """A trajectory as the checks see it, with what several of them need, made once."""

    trajectory: Trajectory
    settings: CheckSettings
    joined: str  # the question and the contents of all messages: what is not in here is nowhere, but for tool calls
    lower: str  # the same in lower case
    agent: Agent  # of what kind it is, and what each of its turns does
    errors: list[Mark]  # the observations that report an error


@dataclass(frozen=True)
class Check:
    """A check, and what a finding made of its marks says. `nat.quality.checks` collects them.

    Checks that name the same function are found by it in one pass.
    """

    name: str  # of its marks, its finding and its rule; stable: a key of audit.json, and of `quality`
    place: int  # marks, findings and rules come in this order, equal ones by name
    severity: Severity  # error: training on it teaches what is wrong; warning: probably unwanted; note: worth knowing
    unit: str  # what is counted: "trajectories", "turns", "observations", "messages" or "places"
    says: str  # one sentence, without figures
    remedy: str
    find: Callable[[View], Iterable[Mark]]
    # The key `quality.NAME` that drops what is found. count: false, true or the number that is one too many; switch:
    # true or false, where a trajectory has one mark at most; None: there is no such key.
    rule: Literal["count", "switch"] | None
    asks: str = "is this so?"  # in place of the remedy where the rule would drop most of a file
    dates_errors: bool = False  # its marks show in which turn an episode went wrong (failed_turns=until_first_error)
