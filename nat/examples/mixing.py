"""Mixing: which trajectories train the model, at which positive:negative ratio."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, NonNegativeInt, field_validator, model_validator
from pydantic.dataclasses import dataclass

from nat.core.schema import STRICT
from nat.core.trajectory_records import to_record
from nat.types import RequestError, Trajectory

QUOTE_REMEDY = 'write it in quotes, as positives:negatives, e.g. ratio: "1:3" (unquoted, YAML reads 1:3 as a number)'


def parse_ratio(text: str) -> tuple[Fraction, Fraction]:
    """`"P:N"` as two exact numbers, each a non-negative int or decimal, not both 0; raises ValueError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*:\s*(\d+(?:\.\d+)?)\s*", text)
    if match is None:
        raise ValueError(f'must be positives:negatives, two numbers that are not negative, e.g. "1:3"; got {text!r}')
    positives, negatives = (Fraction(Decimal(side)) for side in match.groups())
    if positives == negatives == 0:
        raise ValueError(f"{text!r} asks for nothing; one side must be above 0")
    return positives, negatives


class NotFilled(RequestError):
    """There are fewer trajectories than a mixing asks for."""


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AllMixing:
    """Values and their meaning: conf/mixing/all.yaml."""

    kind: Literal["all"]
    questions: Literal["any", "shared", "disjoint"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class CountsMixing:
    """Values and their meaning: conf/mixing/counts.yaml."""

    kind: Literal["counts"]
    positives: NonNegativeInt | None
    negatives: NonNegativeInt | None
    oversample: bool
    questions: Literal["any", "shared", "disjoint"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ByRatio:
    """What the kinds have in common whose numbers a ratio decides. Values and their meaning: conf/mixing/ratio.yaml.

    Once checked, `total` and `tokens` are numbers exactly where `hold` names them.
    """

    kind: str
    ratio: str | None
    hold: Literal["positives", "total", "tokens"]
    positives: NonNegativeInt | None
    total: NonNegativeInt | None
    tokens: NonNegativeInt | None
    oversample: bool
    questions: Literal["any", "shared", "disjoint"]

    @field_validator("ratio", mode="before")
    @classmethod
    def _ratio_is_text(cls, value: Any) -> Any:
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{value!r} is a number; {QUOTE_REMEDY}")
        return value

    @field_validator("ratio")
    @classmethod
    def _ratio_can_be_read(cls, value: str | None) -> str | None:
        if value is not None:
            parse_ratio(value)
        return value

    @model_validator(mode="after")
    def _one_number_is_held(self) -> Self:
        for name, value in (("total", self.total), ("tokens", self.tokens)):
            if self.hold != name and value is not None:
                raise ValueError(f"{name}={value} has no effect with hold={self.hold}; set mixing.hold={name}")
            if self.hold == name and value is None:
                raise ValueError(f"{name}: mixing.hold={name} needs mixing.{name}, the number that stays fixed")
            if self.hold == name and self.positives is not None:
                raise ValueError(
                    f"positives={self.positives} with hold={name}: ratio and mixing.{name} decide; leave it null"
                )
        return self


@dataclass(frozen=True, config=STRICT, kw_only=True)
class RatioMixing(ByRatio):
    kind: Literal["ratio"]
    ratio: str


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PositiveOnlyMixing(ByRatio):
    """The positives that RatioMixing would take: the methods differ in the negatives alone. Without a ratio all."""

    kind: Literal["positive_only"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ReplacedMixing(ByRatio):
    """As many trajectories as RatioMixing would take, all of them positives."""

    kind: Literal["replaced"]
    ratio: str


MixingConfig: TypeAlias = Annotated[
    AllMixing | CountsMixing | RatioMixing | PositiveOnlyMixing | ReplacedMixing, Field(discriminator="kind")
]


@plain_dataclass(frozen=True)
class Mix:
    """The chosen trajectories, positives first, each class in its fixed order; the rest, and the whole as a hash."""

    positives: tuple[Trajectory, ...]
    negatives: tuple[Trajectory, ...]
    unused: tuple[Trajectory, ...]
    hash: str

    @property
    def selected(self) -> tuple[Trajectory, ...]:
        return self.positives + self.negatives


def mix(
    trajectories: Sequence[Trajectory],
    config: MixingConfig,
    seed: int,
    trained_tokens: Mapping[str, int] | None = None,
) -> Mix:
    """Choose positives and negatives.

    Each class is a prefix of one order by `sha256(seed, id)`: it does not depend on the order of the files, and a
    smaller choice lies inside every larger one. `trained_tokens` (trajectory id to number of loss-carrying tokens) is
    needed for `hold=tokens` alone. Raises RequestError where more is asked for than there is.
    """
    positives, negatives = (_in_order(pool, seed) for pool in pools(trajectories, config))
    if isinstance(config, ByRatio) and config.tokens is not None:
        n_positives, n_negatives = _counts_within_tokens(
            config, config.tokens, positives, negatives, trained_tokens or {}
        )
    else:
        n_positives, n_negatives = check_enough(config, len(positives), len(negatives))
    chosen_positives = _take(positives, n_positives)
    chosen_negatives = _take(negatives, n_negatives)
    if not chosen_positives and not chosen_negatives:
        raise NotFilled(
            f"mixing={config.kind} selects nothing out of {len(positives)} positives and {len(negatives)} negatives.\n"
            "Look at mixing.ratio, mixing.positives, mixing.negatives, mixing.total and mixing.tokens."
        )
    chosen_ids = {t.id for t in (*chosen_positives, *chosen_negatives)}
    return Mix(
        positives=chosen_positives,
        negatives=chosen_negatives,
        unused=tuple(t for t in trajectories if t.id not in chosen_ids),
        hash=_hash((*chosen_positives, *chosen_negatives)),
    )


def pools(trajectories: Sequence[Trajectory], config: MixingConfig) -> tuple[list[Trajectory], list[Trajectory]]:
    """The positives and the negatives that may be chosen, in the order given; `mixing.questions` filters the latter."""
    positives = [t for t in trajectories if t.outcome.success]
    negatives = [t for t in trajectories if not t.outcome.success]
    if config.questions != "any":
        asked_of = {t.question_id for t in positives}
        negatives = [t for t in negatives if (t.question_id in asked_of) == (config.questions == "shared")]
    return positives, negatives


def round_half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def _in_order(trajectories: list[Trajectory], seed: int) -> list[Trajectory]:
    return sorted(trajectories, key=lambda t: hashlib.sha256(f"{seed}:{t.id}".encode()).digest())


def check_enough(config: MixingConfig, positives: int, negatives: int) -> tuple[int, int]:
    """How many of each class to take out of so many; (0, 0) where only token counts can tell (`hold=tokens`).

    Raises RequestError, with both numbers and what is feasible, where more is asked for than there is.
    """
    match config:
        case AllMixing():
            return positives, negatives
        case CountsMixing():
            n_positives = positives if config.positives is None else config.positives
            n_negatives = negatives if config.negatives is None else config.negatives
        case _:
            if config.tokens is not None:
                return 0, 0
            n_positives, n_negatives = _counts_at_ratio(config, positives, negatives)
    _refuse_too_many(config, n_positives, positives, n_negatives, negatives)
    return n_positives, n_negatives


def _counts_at_ratio(config: ByRatio, positives: int, negatives: int) -> tuple[int, int]:
    p, n = _ratio(config)
    if config.total is not None:
        n_positives = round_half_up(config.total * p / (p + n))
        n_negatives = config.total - n_positives
    else:
        n_positives = 0 if p == 0 else positives if config.positives is None else config.positives
        n_negatives = negatives if p == 0 else round_half_up(n_positives * n / p)
    if isinstance(config, PositiveOnlyMixing):
        return n_positives, 0
    if isinstance(config, ReplacedMixing):
        return n_positives + n_negatives, 0
    return n_positives, n_negatives


def _ratio(config: ByRatio) -> tuple[Fraction, Fraction]:
    return parse_ratio(config.ratio) if config.ratio is not None else (Fraction(1), Fraction(0))


def _counts_within_tokens(
    config: ByRatio,
    tokens: int,
    positives: Sequence[Trajectory],
    negatives: Sequence[Trajectory],
    trained_tokens: Mapping[str, int],
) -> tuple[int, int]:
    if isinstance(config, ReplacedMixing):
        return _count_within("positives", positives, Fraction(tokens), trained_tokens, config), 0
    p, n = _ratio(config)
    budget = tokens * p / (p + n)
    n_positives = _count_within("positives", positives, budget, trained_tokens, config)
    if isinstance(config, PositiveOnlyMixing):
        return n_positives, 0
    return n_positives, _count_within("negatives", negatives, tokens - budget, trained_tokens, config)


def _count_within(
    label: str,
    trajectories: Sequence[Trajectory],
    budget: Fraction,
    trained_tokens: Mapping[str, int],
    config: ByRatio,
) -> int:
    """How many trajectories, from the front, stay within a budget of trained tokens."""
    available = sum(trained_tokens[t.id] for t in trajectories)
    if available < budget and config.oversample and available > 0:
        rounds, budget = divmod(budget, available)
    elif available < budget:
        raise NotFilled(
            f"mixing.tokens={config.tokens} at mixing.ratio={config.ratio} needs {int(budget)} trained tokens of "
            f"{label}; there are {available} in {len(trajectories)} trajectories.\n"
            "Lower mixing.tokens, change the ratio, or repeat trajectories with mixing.oversample=true."
        )
    else:
        rounds = 0
    total = 0
    for count, trajectory in enumerate(trajectories):
        total += trained_tokens[trajectory.id]
        if total > budget:
            return int(rounds) * len(trajectories) + count
    return (int(rounds) + 1) * len(trajectories)


def _refuse_too_many(
    config: CountsMixing | ByRatio, n_positives: int, positives: int, n_negatives: int, negatives: int
) -> None:
    enough = n_positives <= positives and n_negatives <= negatives
    repeats_something = config.oversample and (positives or not n_positives) and (negatives or not n_negatives)
    if enough or repeats_something:
        return
    if isinstance(config, ReplacedMixing):
        raise NotFilled(_too_few_to_replace(config, n_positives, positives))
    filtered = "" if config.questions == "any" else f" (after mixing.questions={config.questions})"
    message = (
        f"mixing={config.kind} asks for {n_positives} positives and {n_negatives} negatives; "
        f"there are {positives} and {negatives}{filtered}."
    )
    if isinstance(config, RatioMixing):
        p, n = parse_ratio(config.ratio)
        key, largest = ("positives", _largest_feasible) if config.total is None else ("total", _largest_total)
        message += f"\nAt mixing.ratio={config.ratio} the largest feasible mixing.{key} is "
        message += f"{largest(p, n, positives, negatives)}."
    if n_negatives and not negatives:
        raise NotFilled(message + "\nWithout failures there is nothing to mix in: take method=positive_only.")
    raise NotFilled(message + "\nOr repeat trajectories with mixing.oversample=true.")


def _too_few_to_replace(config: ReplacedMixing, wanted: int, positives: int) -> str:
    message = (
        f"mixing=replaced asks for {wanted} positives, those in place of negatives included; there are {positives}."
    )
    p, n = _ratio(config)
    if config.total is not None:
        message += f"\nLower mixing.total to {positives}"
    elif p == 0:
        message += f"\nAt mixing.ratio={config.ratio} each of the negatives is replaced; take mixing.hold=total"
    else:
        # x + round_half_up(x * n / p) <= positives holds exactly for x * n / p < positives - x + 1/2.
        largest = math.ceil((positives + Fraction(1, 2)) / (1 + n / p)) - 1
        message += f"\nAt mixing.ratio={config.ratio} the largest feasible mixing.positives is {largest}"
    return f"{message}; or give more successes, or repeat them with mixing.oversample=true."


def _largest_feasible(p: Fraction, n: Fraction, positives: int, negatives: int) -> int:
    if p == 0:
        return 0
    if n == 0:
        return positives
    # round_half_up(x * n / p) <= negatives holds exactly for x * n / p < negatives + 1/2.
    limit = (negatives + Fraction(1, 2)) * p / n
    return min(positives, math.ceil(limit) - 1)


def _largest_total(p: Fraction, n: Fraction, positives: int, negatives: int) -> int:
    for total in range(positives + negatives, 0, -1):
        n_positives = round_half_up(total * p / (p + n))
        if n_positives <= positives and total - n_positives <= negatives:
            return total
    return 0


def _take(trajectories: Sequence[Trajectory], count: int) -> tuple[Trajectory, ...]:
    return tuple(trajectories[i % len(trajectories)] for i in range(count))


def _hash(trajectories: Sequence[Trajectory]) -> str:
    """Of the chosen trajectories, content and order included; what the strategy adds is not part of it."""
    digest = hashlib.sha256()
    for trajectory in trajectories:
        record = to_record(trajectory)
        # Figures under experiments/ were measured with hashes of messages that say these two always.
        record["messages"] = [{"train": True, "tool_calls": [], **message} for message in record["messages"]]
        digest.update(json.dumps(record, sort_keys=True, ensure_ascii=False, default=str).encode())
        digest.update(b"\n")
    return digest.hexdigest()[:16]


def per_source(trajectories: Sequence[Trajectory]) -> dict[str, dict[str, int]]:
    """Counts of positives and negatives by source, for the manifest."""
    counts = Counter((t.source, t.outcome.success) for t in trajectories)
    sources = sorted({source for source, _ in counts})
    return {s: {"positives": counts[s, True], "negatives": counts[s, False]} for s in sources}
