"""How a coding agent's run ended, as its harness words it, as one of `nat`'s kinds of failure.

    submitted, Submitted, submit                   wrong_answer: the agent handed in its work
    exit_cost, LimitsExceeded, maximum iteration   out_of_turns: a limit on what it may spend, or it went in circles
    exit_context, ContextWindowExceededError       no_answer
    exit_format, RepeatedFormatError               unparsed_action
    exit_command_timeout                           tool_error: its commands hung, several in a row
    exit_forfeit, exit_command                     abstained
    exit_api, exit_error, early_exit, any other error or exception's name    infrastructure

`submitted (exit_cost)`: the harness handed in what was there when the limit came; the limit ended the run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nat.types import Failure

_BY_HARNESS = re.compile(r"submitted \((.+)\)", re.DOTALL)
# At the start of a status; the first that fits. An exception's name may stand before what a limit's message says.
_PATTERNS: Mapping[Failure, str] = {
    "wrong_answer": r"(?:submit(?:ted)?|finished|completed|success)\s*$",
    "out_of_turns": (
        r"exit_cost\b|exit_total_execution_time|limitsexceeded|timeexceeded|.{0,60}\bmax_?(?:iterations?|turns|steps)"
        r"|.{0,60}\bmaximum (?:iteration|step|turn|budget)|.{0,40}stuck ?in ?(?:a ?)?loop"
    ),
    "no_answer": (
        r"exit_context\b|.{0,60}context ?(?:window|length)|.{0,60}\bmax(?:imum)?[ _]tokens|.{0,60}prompt is too long"
    ),
    "unparsed_action": r"exit_format\b|(?:repeated)?formaterror",
    "tool_error": r"exit_command_timeout\b",
    "abstained": r"exit_forfeit\b|exit_command\s*$",
    "infrastructure": (
        r"exit_(?:error|api|environment_error)\b|early_exit\b|skipped\b"
        r"|(?:[\w.]*(?:error|exception|interrupt(?:ion)?)|time(?:d ?)?out)\b"
    ),
}
_KINDS: Mapping[Failure, re.Pattern[str]] = {
    failure: re.compile(rf"\s*(?:{pattern})", re.I) for failure, pattern in _PATTERNS.items()
}


def failure_of(status: Any) -> Failure | None:
    """Why a run failed, if it did; None where its status says nothing of it."""
    if not isinstance(status, str):
        return None
    inner = _BY_HARNESS.fullmatch(status.strip())
    text = (inner[1] if inner else status)[:400]
    return next((failure for failure, pattern in _KINDS.items() if pattern.match(text)), None)


def failure_of_error(error: Any) -> Failure | None:
    """Why a run broke off, by what its harness says of that; None where it says nothing."""
    if not error:
        return None
    failure = failure_of(error)
    return "infrastructure" if failure in (None, "wrong_answer") else failure
