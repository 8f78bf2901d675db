"""Rows that cannot be used: why, where, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

from nat.types import RequestError

BadReason: TypeAlias = Literal[
    "not_json",
    "too_long",  # a record of more than sources.LONGEST bytes
    "broken_file",  # from here on the file cannot be read
    "foreign_file",  # one of several files, which holds no trajectories or cannot be read at all
    "missing_value",
    "wrong_value",
    "unknown_key",
    "no_label",
    "contradictory_label",  # the record and its last observation disagree on success
    "empty_conversation",
    "no_agent_turn",
    "goes_on_after_end",  # messages follow the one that says how the episode ended
    "unknown_question",  # its id is not in the question file
    "duplicate_id",
    # Of questions:
    "unscorable",  # the scorer rejects the reference answer itself
    "duplicate_question",  # an earlier record has the same text and the same answer
    "contradictory_answer",  # records with the same text have different answers
    # Of episodes that can be read, and are left out in any case:
    "infrastructure",  # it broke for reasons that are not the policy's
]


class BadRow(RequestError):
    """One row that cannot be used. Its message names file:line, value and remedy."""

    def __init__(self, where: str, reason: BadReason, problem: str):
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.reason: BadReason = reason
        self.problem = problem


class DroppedRow(NamedTuple):
    """A row that was left out: "file:line" (or "file: record N"), the kind of flaw, and what is wrong."""

    where: str
    reason: BadReason
    detail: str


OnBad: TypeAlias = Callable[[BadRow], None]


def refuse(bad: BadRow) -> None:
    """Stop at a bad row."""
    raise bad
