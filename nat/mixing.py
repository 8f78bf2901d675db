"""Mixing: which trajectories train the model, at which positive:negative ratio."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from dataclasses import dataclass as plain_dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

from pydantic import NonNegativeInt, field_validator, model_validator
from pydantic.dataclasses import dataclass

from nat.schema import STRICT
from nat.types import RequestError, Trajectory

BY_RATIO = ("ratio", "positive_only", "replaced")  # the kinds whose numbers mixing.ratio and mixing.hold decide
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


@dataclass(frozen=True, config=STRICT, kw_only=True)
class MixingConfig:
    """See the comments in `conf/mixing/`, where the values live."""

    kind: Literal["positive_only", "ratio", "counts", "all", "replaced"]
    ratio: str | None
    hold: Literal["positives", "total", "tokens"]
    positives: NonNegativeInt | None
    negatives: NonNegativeInt | None
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
    def _possible_together(self) -> MixingConfig:
        if self.kind in ("ratio", "replaced"):
            if self.ratio is None:
                raise ValueError(f'ratio: mixing={self.kind} needs one, e.g. mixing.ratio="1:3"')
            if self.negatives is not None:
                raise ValueError(
                    f"negatives={self.negatives} together with ratio={self.ratio!r} says the same thing twice; "
                    "take mixing=counts for exact numbers of both, or leave mixing.negatives null"
                )
        if self.kind == "positive_only" and self.negatives:
            raise ValueError(f"negatives={self.negatives} with mixing=positive_only; take mixing=counts or method=nat")
        if self.kind == "counts" and self.ratio is not None:
            raise ValueError(f"ratio={self.ratio!r} with mixing=counts; take mixing=ratio, or leave mixing.ratio null")
        if self.kind == "all" and any(n is not None for n in (self.ratio, self.positives, self.negatives)):
            raise ValueError("mixing=all takes every trajectory: leave ratio, positives and negatives null")
        if self.kind in BY_RATIO:
            for name, value in (("total", self.total), ("tokens", self.tokens)):
                if self.hold != name and value is not None:
                    raise ValueError(f"{name}={value} has no effect with hold={self.hold}; set mixing.hold={name}")
            for name, value in (("total", self.total), ("tokens", self.tokens)):
                if self.hold == name and value is None:
                    raise ValueError(f"{name}: mixing.hold={name} needs mixing.{name}, the number that stays fixed")
                if self.hold == name and self.positives is not None:
                    raise ValueError(
                        f"positives={self.positives} with hold={name}: ratio and mixing.{name} decide; leave it null"
                    )
        return self


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
    if config.hold == "tokens" and config.kind in BY_RATIO:
        n_positives, n_negatives = _counts_within_tokens(config, positives, negatives, trained_tokens or {})
    else:
        n_positives, n_negatives = check_enough(config, len(positives), len(negatives))
    chosen_positives = _take(positives, n_positives)
    chosen_negatives = _take(negatives, n_negatives)
    if not chosen_positives and not chosen_negatives:
        raise RequestError(
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
    if config.kind in ("all", "counts"):
        n_positives = positives if config.positives is None else config.positives
        n_negatives = negatives if config.negatives is None else config.negatives
    else:
        # positive_only takes the positives that the ratio would take: the methods differ in the negatives alone.
        p, n = _ratio(config)
        if config.hold == "tokens":
            return 0, 0
        if config.hold == "total":
            assert config.total is not None
            n_positives = round_half_up(config.total * p / (p + n))
            n_negatives = config.total - n_positives
        else:
            n_positives = 0 if p == 0 else positives if config.positives is None else config.positives
            n_negatives = negatives if p == 0 else round_half_up(n_positives * n / p)
        if config.kind == "positive_only":
            n_negatives = 0
        elif config.kind == "replaced":
            n_positives, n_negatives = n_positives + n_negatives, 0
    _refuse_too_many(config, n_positives, positives, n_negatives, negatives)
    return n_positives, n_negatives


def _ratio(config: MixingConfig) -> tuple[Fraction, Fraction]:
    return parse_ratio(config.ratio) if config.ratio is not None else (Fraction(1), Fraction(0))


def _counts_within_tokens(
    config: MixingConfig,
    positives: Sequence[Trajectory],
    negatives: Sequence[Trajectory],
    trained_tokens: Mapping[str, int],
) -> tuple[int, int]:
    assert config.tokens is not None
    if config.kind == "replaced":
        return _count_within("positives", positives, Fraction(config.tokens), trained_tokens, config), 0
    p, n = _ratio(config)
    budget = config.tokens * p / (p + n)
    n_positives = _count_within("positives", positives, budget, trained_tokens, config)
    if config.kind == "positive_only":
        return n_positives, 0
    return n_positives, _count_within("negatives", negatives, config.tokens - budget, trained_tokens, config)


def _count_within(
    label: str,
    trajectories: Sequence[Trajectory],
    budget: Fraction,
    trained_tokens: Mapping[str, int],
    config: MixingConfig,
) -> int:
    """How many trajectories, from the front, stay within a budget of trained tokens."""
    available = sum(trained_tokens[t.id] for t in trajectories)
    if available < budget and config.oversample and available > 0:
        rounds, budget = divmod(budget, available)
    elif available < budget:
        raise RequestError(
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


def _refuse_too_many(config: MixingConfig, n_positives: int, positives: int, n_negatives: int, negatives: int) -> None:
    enough = n_positives <= positives and n_negatives <= negatives
    repeats_something = config.oversample and (positives or not n_positives) and (negatives or not n_negatives)
    if enough or repeats_something:
        return
    if config.kind == "replaced":
        raise RequestError(_too_few_to_replace(config, n_positives, positives))
    filtered = "" if config.questions == "any" else f" (after mixing.questions={config.questions})"
    message = (
        f"mixing={config.kind} asks for {n_positives} positives and {n_negatives} negatives; "
        f"there are {positives} and {negatives}{filtered}."
    )
    if config.kind == "ratio" and config.hold == "positives" and config.ratio is not None:
        p, n = parse_ratio(config.ratio)
        message += f"\nAt mixing.ratio={config.ratio} the largest feasible mixing.positives is "
        message += f"{_largest_feasible(p, n, positives, negatives)}."
    elif config.hold == "total" and config.kind == "ratio" and config.ratio is not None:
        p, n = parse_ratio(config.ratio)
        message += f"\nAt mixing.ratio={config.ratio} the largest feasible mixing.total is "
        message += f"{_largest_total(p, n, positives, negatives)}."
    if n_negatives and not negatives:
        raise RequestError(message + "\nWithout failures there is nothing to mix in: take method=positive_only.")
    raise RequestError(message + "\nOr repeat trajectories with mixing.oversample=true.")


def _too_few_to_replace(config: MixingConfig, wanted: int, positives: int) -> str:
    message = (
        f"mixing=replaced asks for {wanted} positives, those in place of negatives included; there are {positives}."
    )
    p, n = _ratio(config)
    if config.hold == "total":
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
    """Of the chosen trajectories, content and order included; their prompts (the strategy) are not part of it."""
    digest = hashlib.sha256()
    for trajectory in trajectories:
        digest.update(json.dumps(asdict(trajectory), sort_keys=True, ensure_ascii=False, default=str).encode())
        digest.update(b"\n")
    return digest.hexdigest()[:16]


def per_source(trajectories: Sequence[Trajectory]) -> dict[str, dict[str, int]]:
    """Counts of positives and negatives by source, for the manifest."""
    counts = Counter((t.source, t.outcome.success) for t in trajectories)
    sources = sorted({source for source, _ in counts})
    return {s: {"positives": counts[s, True], "negatives": counts[s, False]} for s in sources}
