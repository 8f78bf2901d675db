"""Copies and crowds: what only the whole collection shows, row by row in a packed array."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from nat.core.questions import normalise
from nat.quality.config import KEPT, RULES, CollectionRule, QualityConfig, Rule
from nat.types import Trajectory

if TYPE_CHECKING:
    import numpy as np


class Verdicts(NamedTuple):
    """Of each row: the number in `RULES` of the rule that drops it, and the row that it conflicts with or repeats."""

    rule: np.ndarray[Any, np.dtype[np.int8]]  # [rows]; KEPT: no rule does
    other: np.ndarray[Any, np.dtype[np.int32]]  # [rows]; one with the other label, or the first copy; -1: no such row


TEXT_BYTES = 16  # of 128 bits: among a billion texts no two have the same by chance


NUMBER_BYTES = 8


# The fields of `row_of`, for numpy; `rule` is a number in RULES, or KEPT.
ROW = [("text", "<u8", (2,)), ("question", "<u8"), ("order", "<u8"), ("success", "u1"), ("rule", "i1")]


def key_of(trajectory: Trajectory) -> bytes:
    """16 bytes, equal for trajectories with the same text: roles, contents, tool calls, and the normalised question.

    The label and the loss flags are not part of it.
    """
    calls = [json.dumps(m.tool_calls, sort_keys=True, default=str) if m.tool_calls else "" for m in trajectory.messages]
    said = [(m.role, m.content, call) for m, call in zip(trajectory.messages, calls, strict=True)]
    return _digest((normalise(trajectory.question), said), TEXT_BYTES)


def row_of(trajectory: Trajectory, where: str, rule: Rule | None) -> bytes:
    """What the rules of the collection need to know of a trajectory, in 34 bytes; `rule`: by which it goes already.

    Its order among others is a hash of its id; rows of one id are ordered by a hash of `where`.
    """
    success = trajectory.outcome.success
    number = KEPT if rule is None else RULES.index(rule)
    return b"".join(
        (
            key_of(trajectory),
            _digest(normalise(trajectory.question), NUMBER_BYTES),
            _digest(where, NUMBER_BYTES // 2) + _digest(trajectory.id, NUMBER_BYTES // 2),  # the last byte counts most
            bytes([success]),
            number.to_bytes(1, "little", signed=True),
        )
    )


def _digest(value: object, size: int) -> bytes:
    # `repr` leaves no doubt where one text ends and the next begins, and escapes what UTF-8 cannot hold.
    return blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=size).digest()


def collection_verdicts(rows: bytes | bytearray, config: QualityConfig) -> Verdicts:
    """Which rows are left out: those that came with a rule, by that one, and others by the rules of the collection.

    - `conflicting_labels`: all rows of one text that is labelled both success and failure.
    - `exact_duplicates`: of one text with one label, all rows but the first in the order of `row_of`.
    - `max_per_question`: of each question's successes, and of its failures, all but the first so many in that order. It
      is no random draw: every seed has the same collection.

    Args:
        rows: those of `row_of`, one after another.
    """
    import numpy as np

    layout = np.dtype(ROW)
    packed = np.frombuffer(rows, layout) if rows else np.empty(0, layout)
    rule = packed["rule"].copy()
    other = np.full(len(packed), -1, np.int32)
    if config.conflicting_labels or config.exact_duplicates:
        _judge_copies(packed, rule, other, config)
    if config.max_per_question is not None:
        _judge_crowds(packed, rule, config.max_per_question)
    return Verdicts(rule, other)


def _judge_copies(packed: Any, rule: Any, other: Any, config: QualityConfig) -> None:
    """Write into `rule` and `other` what becomes of rows that share their text."""
    import numpy as np

    order = _sorted(packed, rule, "text")
    starts = _starts(packed["text"][order])
    is_alone = starts & np.append(starts[1:], True)
    order, starts = order[~is_alone], starts[~is_alone]
    if config.conflicting_labels:
        # Within a text failures come first: where its labels differ, the last row is a success.
        firsts = np.flatnonzero(starts)
        sizes = np.diff(firsts, append=len(order))
        lasts = firsts + sizes - 1
        success = packed["success"][order]
        is_both = np.repeat(success[firsts] != success[lasts], sizes)
        opposite = order[np.where(success, np.repeat(firsts, sizes), np.repeat(lasts, sizes))]
        rule[order[is_both]] = RULES.index("conflicting_labels")
        other[order[is_both]] = opposite[is_both]
        order, starts = order[~is_both], starts[~is_both]
    if config.exact_duplicates:
        starts |= _starts(packed["success"][order])
        first_copy = order[np.arange(len(order)) - _places(starts)]
        rule[order[~starts]] = RULES.index("exact_duplicates")
        other[order[~starts]] = first_copy[~starts]


def _judge_crowds(packed: Any, rule: Any, most: int) -> None:
    """Write into `rule` which rows are beyond `most` of their label on their question."""
    order = _sorted(packed, rule, "question")
    starts = _starts(packed["question"][order]) | _starts(packed["success"][order])
    rule[order[_places(starts) >= most]] = RULES.index("max_per_question")


def _sorted(packed: Any, rule: Any, by: str) -> Any:
    """The rows that no rule drops yet, grouped by a field, failures first, then in the order of `row_of`."""
    import numpy as np

    rows = np.flatnonzero(rule == KEPT).astype(np.int32)  # half of the memory that int64 takes
    keys = [packed[name][rows] for name in ("order", "success")]
    return rows[np.lexsort([*keys, *np.atleast_2d(packed[by][rows].T)])]


def _places(starts: Any) -> Any:
    """[n] how far each value is from the start of its group: [True, False, False, True] gives [0, 1, 2, 0]."""
    import numpy as np

    places = np.arange(len(starts), dtype=np.int32)
    return places - np.maximum.accumulate(places * starts)


def _starts(values: Any) -> Any:
    """[n] whether a value differs from the one before it; `values`: [n] or [n, width]."""
    import numpy as np

    differs = np.ones(len(values), bool)
    changed = values[1:] != values[:-1]
    differs[1:] = changed.any(axis=1) if values.ndim == 2 else changed
    return differs


def collection_detail(rule: Rule, other: str, config: QualityConfig) -> str:
    """Why a rule of the collection leaves a trajectory out; `other` names the row of `Verdicts.other`."""
    match cast(CollectionRule, rule):
        case "conflicting_labels":
            return f"the same text is labelled success and failure; {other} has the other label"
        case "exact_duplicates":
            return f"the same text with the same label as {other}"
        case "max_per_question":
            return f"the question has more than {config.max_per_question} of this label"
