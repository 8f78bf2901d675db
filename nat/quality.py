"""Quality control: which trajectories are left out, by which rule, and which turns of failures may carry loss.

    rows = bytearray()                                   # 34 bytes a trajectory, all that the second half needs
    for where, trajectory in ...:
        found = rule_of(trajectory, check(trajectory, settings), config)
        rows += row_of(trajectory, where, found and found.rule)
    verdicts = collection_verdicts(rows, config)         # RULES[verdicts.rule[i]] leaves out row i; -1 keeps it

A trajectory's rules look at nothing but that trajectory; the rules of the collection look at those that these keep. A
trajectory is left out by one rule, the first of `RULES` that applies. Nothing depends on the order of the trajectories.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias, cast, get_args

from pydantic import BeforeValidator, PositiveInt, model_validator
from pydantic.dataclasses import dataclass

from nat.checks import CheckName
from nat.questions import normalise
from nat.schema import STRICT
from nat.types import Trajectory

if TYPE_CHECKING:
    import numpy as np

    from nat.checks import CheckSettings, Mark

# A rule's name is its key in conf/quality/, and where a check finds what it drops, the check's name.
CollectionRule: TypeAlias = Literal["conflicting_labels", "exact_duplicates", "max_per_question"]
Rule: TypeAlias = (
    Literal["infrastructure", "min_agent_turns", "max_agent_turns", "max_characters"] | CheckName | CollectionRule
)
CHECK_RULES: tuple[CheckName, ...] = get_args(CheckName)
RULES: tuple[Rule, ...] = (
    "infrastructure",
    "min_agent_turns",
    "max_agent_turns",
    "max_characters",
    *CHECK_RULES,
    "conflicting_labels",
    "exact_duplicates",
    "max_per_question",
)
KEPT = -1  # in place of a rule's number in RULES

# What shows in which turn an episode went wrong, for failed_turns=until_first_error.
ERRORS: tuple[CheckName, ...] = ("unparsed_action", "observation_error", "calculator_slip")


def _tolerance(value: Any) -> Any:
    if not isinstance(value, bool) and not (isinstance(value, int) and value >= 1):
        raise ValueError(f"{value!r}: it must be false (keep), true (drop) or the number, from 1, that is one too many")
    return value


Findings: TypeAlias = Annotated[bool | int, BeforeValidator(_tolerance)]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class QualityConfig:
    """Values and their meaning: conf/quality/default.yaml."""

    infrastructure: bool
    min_agent_turns: PositiveInt | None
    max_agent_turns: PositiveInt | None
    max_characters: PositiveInt | None
    empty_turn: Findings
    ends_on_user_turn: bool
    unfinished: bool
    unparsed_action: Findings
    observation_error: Findings
    calculator_slip: Findings
    mixed_languages: Findings
    secret: Findings
    email_address: Findings
    conditioning_words: Findings
    label_in_text: Findings
    odd_characters: Findings
    conflicting_labels: bool
    exact_duplicates: bool
    max_per_question: PositiveInt | None
    failed_turns: Literal["all", "until_first_error", "none"]

    @model_validator(mode="after")
    def _some_length_is_right(self) -> QualityConfig:
        fewest, most = self.min_agent_turns, self.max_agent_turns
        if fewest is not None and most is not None and most < fewest:
            raise ValueError(
                f"max_agent_turns={most} with min_agent_turns={fewest} drops every trajectory; raise the one or lower "
                "the other"
            )
        return self


class Dropped(NamedTuple):
    """A trajectory that was left out: "file:line" (empty where unknown), its id, the rule, what it found, its label."""

    where: str
    id: str
    rule: Rule
    detail: str
    success: bool


class Controlled(NamedTuple):
    """What quality control keeps and drops, both in the order given."""

    kept: list[Trajectory]
    dropped: list[Dropped]
    counts: Mapping[Rule, tuple[int, int]]  # (successes, failures) dropped, of the rules that dropped any


class Applies(NamedTuple):
    """A rule that leaves a trajectory out, and what it found in it."""

    rule: Rule
    detail: str


class Verdicts(NamedTuple):
    """Of each row: the number in `RULES` of the rule that drops it, and the row that it conflicts with or repeats."""

    rule: np.ndarray[Any, np.dtype[np.int8]]  # [rows]; KEPT: no rule does
    other: np.ndarray[Any, np.dtype[np.int32]]  # [rows]; one with the other label, or the first copy; -1: no such row


def control(
    trajectories: Sequence[Trajectory],
    config: QualityConfig,
    settings: CheckSettings,
    wheres: Sequence[str] | None = None,
) -> Controlled:
    """Leave out what the rules leave out, and switch off the loss of failures' turns (`config.failed_turns`).

    Args:
        settings: of the checks (`nat.checks.check`), which run only where a rule needs them.
        wheres: "file:line" of each trajectory, where known: shown in what is dropped, and needed where ids recur.
    """
    places = [""] * len(trajectories) if wheres is None else wheres
    rows = bytearray()
    found: list[Applies | None] = []
    flagged: list[Trajectory] = []
    for where, trajectory in zip(places, trajectories, strict=True):
        marks = marks_of(trajectory, config, settings)
        applies = rule_of(trajectory, marks, config)
        rows += row_of(trajectory, where, applies and applies.rule)
        found.append(applies)
        flagged.append(with_loss_flags(trajectory, marks, config))
    verdicts = collection_verdicts(rows, config)
    kept: list[Trajectory] = []
    dropped: list[Dropped] = []
    counts: dict[Rule, tuple[int, int]] = {}
    for i, (where, trajectory) in enumerate(zip(places, trajectories, strict=True)):
        number, other = int(verdicts.rule[i]), int(verdicts.other[i])
        if number == KEPT:
            kept.append(flagged[i])
            continue
        of_other = f"{trajectories[other].id} ({places[other]})" if places[other] else trajectories[other].id
        applies = found[i] or Applies(RULES[number], collection_detail(RULES[number], of_other, config))
        dropped.append(Dropped(where, trajectory.id, applies.rule, applies.detail, trajectory.outcome.success))
        successes, failures = counts.get(applies.rule, (0, 0))
        success = trajectory.outcome.success
        counts[applies.rule] = (successes + success, failures + (not success))
    return Controlled(kept, dropped, {rule: counts[rule] for rule in RULES if rule in counts})


def is_off(config: QualityConfig) -> bool:
    """Trajectories are used as they were read."""
    return config.failed_turns == "all" and not any(getattr(config, rule) for rule in RULES)


# ---- one trajectory ----


def marks_of(trajectory: Trajectory, config: QualityConfig, settings: CheckSettings) -> list[Mark]:
    """What the checks find in a trajectory; nothing, at no cost, where `config` has no use for it."""
    of_turns = config.failed_turns == "until_first_error" and not trajectory.outcome.success
    if not of_turns and not any(getattr(config, rule) for rule in CHECK_RULES):
        return []
    from nat.checks import check

    return check(trajectory, settings)


def rule_of(trajectory: Trajectory, marks: Sequence[Mark], config: QualityConfig) -> Applies | None:
    """The first rule that leaves this trajectory out, whatever the others are like; None where none does."""
    if config.infrastructure and trajectory.outcome.failure == "infrastructure":
        return Applies("infrastructure", "the episode broke for reasons that are not the policy's")
    turns = agent_turns(trajectory)
    if config.min_agent_turns is not None and turns < config.min_agent_turns:
        return Applies(
            "min_agent_turns", f"{turns} agent turns with text or a call, fewer than {config.min_agent_turns}"
        )
    if config.max_agent_turns is not None and turns > config.max_agent_turns:
        return Applies(
            "max_agent_turns", f"{turns} agent turns with text or a call, more than {config.max_agent_turns}"
        )
    if config.max_characters is not None and (length := characters(trajectory)) > config.max_characters:
        return Applies("max_characters", f"{length} characters, more than {config.max_characters}")
    for rule in CHECK_RULES:
        fewest = getattr(config, rule)  # true counts as 1: one is too many
        if fewest and len(of_rule := [mark for mark in marks if mark.name == rule]) >= fewest:
            first = of_rule[0]
            place = "" if first.message is None else f"message {first.message}"
            told = ": ".join(part for part in (place, first.detail) if part)
            others = "" if len(of_rule) == 1 else f", and {len(of_rule) - 1} more"
            return Applies(rule, f"{told}{others}")
    return None


def agent_turns(trajectory: Trajectory) -> int:
    """The agent's turns that hold text or a tool call."""
    return sum(m.role == "assistant" and bool(m.tool_calls or m.content.strip()) for m in trajectory.messages)


def characters(trajectory: Trajectory) -> int:
    """Of the question and all messages."""
    return len(trajectory.question) + sum(len(message.content) for message in trajectory.messages)


def with_loss_flags(trajectory: Trajectory, marks: Sequence[Mark], config: QualityConfig) -> Trajectory:
    """A failed trajectory with the loss of the turns switched off that `config.failed_turns` does not let train.

    `until_first_error`: the turns after the first one in which something went wrong that can be checked: an action
    that cannot be read, an observation that reports an error, a calculation that is not so (the checks of `ERRORS`). An
    observation belongs to the turn before it, which still trains. A failure in which nothing of this is found keeps all
    its turns: where it went wrong is not known. A turn that the file switched off stays so, and successes stay as they
    are.
    """
    if trajectory.outcome.success or config.failed_turns == "all":
        return trajectory
    last = -1  # the last message that may carry loss
    if config.failed_turns == "until_first_error":
        turns = [i for i, message in enumerate(trajectory.messages) if message.role == "assistant"]
        wrong = [mark.message for mark in marks if mark.name in ERRORS and mark.message is not None]
        wrong = [message for message in wrong if turns and message >= turns[0]]
        if not wrong:
            return trajectory
        last = max(turn for turn in turns if turn <= min(wrong))
    messages = tuple(
        replace(message, train=False) if message.role == "assistant" and i > last else message
        for i, message in enumerate(trajectory.messages)
    )
    return replace(trajectory, messages=messages)


# ---- the collection ----

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
