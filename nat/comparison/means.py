"""An arm's own figures: mean success or score with its interval, and how its episodes ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from nat.comparison.types import Arm, RunResult
from nat.core.statistics import crossed_difference, mean_interval, wilson_interval
from nat.runs.outcomes import Answer

Measure: TypeAlias = Literal["success", "score"]


@dataclass(frozen=True)
class Mean:
    """An arm's mean over its questions and seeds."""

    value: float
    ci95: tuple[float, float] | None  # over questions, and over seeds where there are several
    per_seed: tuple[float, ...]
    n_questions: int


def arm_mean(arm: Arm, split: str, measure: Measure = "success") -> Mean | None:
    """Mean success (or score) of an arm on a split with its 95% interval; None where none of its runs has it.

    One seed: Wilson's interval of a success rate, Student's of a score; it holds no training variance. Several seeds:
    questions and seeds as crossed levels, the arm being compared with zero. Where the runs' questions differ or are not
    known one by one: Student's interval over seeds.
    """
    scores = [_scores(run, split, measure) for run in arm.runs]
    questions = {question for each in scores for question in each}
    if len(questions) > 1 and all(each.keys() == questions for each in scores):
        rates = tuple(sum(each.values()) / len(each) for each in scores)
        return Mean(sum(rates) / len(rates), _within_0_1(_interval(scores)), rates, len(questions))
    rated = [(run, rate) for run in arm.runs if (rate := _rate(run, split, measure)) is not None]
    if not rated:
        return None
    rates = tuple(rate for _, rate in rated)
    n = max(_n_questions(run, split) for run, _ in rated)
    interval = None
    if len(rated) > 1:
        interval = mean_interval(rates)[1]
    elif measure == "success" and n:
        interval = wilson_interval(round(rates[0] * n), n)
    return Mean(sum(rates) / len(rates), interval and _within_0_1(interval), rates, n)


def _scores(run: RunResult, split: str, measure: Measure) -> dict[str, float]:
    return {question: float(getattr(answer, measure)) for question, answer in _answers(run, split).items()}


def _answers(run: RunResult, split: str) -> Mapping[str, Answer]:
    return run.answers.get(split) or {}


def _rate(run: RunResult, split: str, measure: Measure) -> float | None:
    if scores := _scores(run, split, measure):
        return sum(scores.values()) / len(scores)
    own = run.results.inference
    if own is None or own.split != split:
        return None
    return own.success_rate if measure == "success" else own.mean_score


def _n_questions(run: RunResult, split: str) -> int:
    own = run.results.inference
    return len(_answers(run, split)) or (own.n_questions if own is not None else 0)


def _interval(scores: Sequence[Mapping[str, float]]) -> tuple[float, float]:
    values = list(scores[0].values())
    if len(scores) > 1:
        zeros = dict.fromkeys(scores[0], 0.0)
        return crossed_difference(scores, [zeros] * len(scores)).ci95
    if set(values) <= {0.0, 1.0}:
        return wilson_interval(round(sum(values)), len(values))
    return mean_interval(values)[1]


def _within_0_1(interval: tuple[float, float]) -> tuple[float, float]:
    return max(0.0, interval[0]), min(1.0, interval[1])


def outcome_shares(arm: Arm, split: str) -> dict[str, float]:
    """Share of episodes by how they ended, "success" first, mean over seeds; empty where it is not known."""
    per_run = [shares for run in arm.runs if (shares := _outcome_shares(run, split))]
    kinds = dict.fromkeys(["success", *(kind for shares in per_run for kind in sorted(shares))])
    return {kind: sum(s.get(kind, 0.0) for s in per_run) / len(per_run) for kind in kinds} if per_run else {}


def _outcome_shares(run: RunResult, split: str) -> dict[str, float]:
    counts: Counter[str] = Counter()
    if answers := _answers(run, split):
        counts.update("success" if answer.success else answer.failure or "other" for answer in answers.values())
    elif (n := _n_questions(run, split)) and (rate := _rate(run, split, "success")) is not None:
        own = run.results.inference
        counts.update({"success": round(rate * n), **((own and own.failures) or {})})
    total = counts.total()
    return {kind: count / total for kind, count in counts.items()} if total else {}
