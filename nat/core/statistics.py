"""Intervals and tests for success rates. scipy does the mathematics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a success rate (E. B. Wilson, JASA 22, 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class PairedDifference:
    """One method's mean minus another's on the same questions; `p_value` is McNemar's where both are 0/1."""

    difference: float
    ci95: tuple[float, float]
    n_questions: int
    only_first: int  # questions on which the first method scored higher
    only_second: int
    p_value: float


def paired_difference(first: Mapping[str, float], second: Mapping[str, float]) -> PairedDifference:
    """Compare scores by question id (0/1 successes, or graded scores).

    The interval of a difference of successes is Agresti and Min's "Wald + 2" (Statistics in Medicine 24, 2005), which
    keeps its coverage where methods rarely disagree; that of graded scores is Student's. Both hold the variance over
    questions only: two runs also differ by their training seeds.

    Raises ValueError unless both hold the same question ids, and at least two.
    """
    if first.keys() != second.keys():
        raise ValueError(f"the methods were asked different questions ({len(first.keys() ^ second.keys())} differ)")
    differences = [float(first[id]) - float(second[id]) for id in first]
    n = len(differences)
    if n < 2:
        raise ValueError(f"a paired difference needs at least 2 questions; got {n}")
    only_first, only_second = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    binary = set(map(float, [*first.values(), *second.values()])) <= {0.0, 1.0}
    interval = _wald_plus_2(only_first, only_second, n) if binary else _student(differences)
    return PairedDifference(
        sum(differences) / n, interval, n, only_first, only_second, mcnemar(only_first, only_second)
    )


def mean_interval(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Mean and Student's 95% interval of one number per training seed (S seeds: S - 1 degrees of freedom).

    Raises ValueError for fewer than two.
    """
    if len(values) < 2:
        raise ValueError(f"an interval over seeds needs at least 2 of them; got {len(values)}")
    return sum(values) / len(values), _student(list(values))


def _wald_plus_2(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """Half a question more in each of the four outcomes, then the normal interval."""
    from scipy.stats import norm

    b, c, n_more = only_first + 0.5, only_second + 0.5, n + 2
    centre = (b - c) / n_more
    half = float(norm.ppf(0.975)) * ((b + c - (b - c) ** 2 / n_more) ** 0.5) / n_more
    return max(-1.0, centre - half), min(1.0, centre + half)


def _student(differences: list[float]) -> tuple[float, float]:
    from scipy.stats import sem, t

    mean, half = sum(differences) / len(differences), float(sem(differences) * t.ppf(0.975, len(differences) - 1))
    return mean - half, mean + half


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p-value of McNemar's test: are the questions on which two methods disagree split evenly?"""
    from scipy.stats import binomtest

    return float(binomtest(only_first, only_first + only_second).pvalue) if only_first + only_second else 1.0


@dataclass(frozen=True)
class CrossedDifference:
    """One method's mean minus another's where questions and training seeds are crossed; made by `crossed_difference`.

    The noise of single answers is inside `question_se` and inside `seed_se`; `residual_se` says how much of it, so that
    `crossed_interval` counts it once.
    """

    difference: float  # mean over questions and seeds, in [-1, 1]
    ci95: tuple[float, float]  # both levels, for this difference alone
    p_value: float  # two-sided, by inverting the same interval; McNemar's exact for one seed of 0/1
    n_questions: int
    n_seeds: int  # of the method that has fewer; 1: the interval holds the variance over questions only
    question_se: float  # standard error that the questions' mean differences show
    seed_se: float | None  # standard error that the seeds' mean differences show; None with one seed
    residual_se: float = 0.0  # standard error by answers that neither question nor seed explains


def crossed_difference(
    first: Sequence[Mapping[str, float]], second: Sequence[Mapping[str, float]]
) -> CrossedDifference:
    """Compare scores in [0, 1] of several training seeds, all asked the same questions.

    Each sequence holds one mapping from question id to score per seed. Where both are equally long, the i-th runs share
    a seed and are paired; else each method's seeds are a sample of their own, with the degrees of freedom of the
    smaller one. A method without training has no seeds: give its one run as often as the other method has seeds.

    The model is a two-way analysis of variance with random questions and seeds (D. C. Montgomery, Design and Analysis
    of Experiments, "The random effects model"); see `crossed_interval` for what is made of it.

    Raises ValueError for no runs, different questions, or fewer than two questions.
    """
    import numpy as np

    if not first or not second:
        raise ValueError("a difference needs at least one run of either method")
    ids = list(first[0])
    for scores in (*first, *second):
        if scores.keys() != first[0].keys():
            differ = len(scores.keys() ^ first[0].keys())
            raise ValueError(f"the runs were asked different questions ({differ} differ)")
    n = len(ids)
    if n < 2:
        raise ValueError(f"a difference needs at least 2 questions; got {n}")

    left, right = (np.array([[float(run[id]) for id in ids] for run in runs]) for runs in (first, second))  # S Q
    tables = [left - right] if len(left) == len(right) else [left, right]
    by_question = left.mean(axis=0) - right.mean(axis=0)  # Q
    n_seeds = min(len(left), len(right))
    # Wald + 2 (see `paired_difference`) of the questions' means over seeds: two more questions, of which the methods
    # differ on one, half of it either way. So equal scores everywhere do not give an interval of width 0.
    centre = _shrunk(float(by_question.mean()), n)
    question_variance = (float((by_question**2).sum()) + 1 - (n + 2) * centre**2) / (n + 2) ** 2

    seed_se, residual_se = None, 0.0
    if n_seeds > 1:
        parts = [_seed_and_residual_variance(table) for table in tables]
        seed_se = sum(seed for seed, _ in parts) ** 0.5
        residual_se = sum(residual for _, residual in parts) ** 0.5
    result = CrossedDifference(
        float(by_question.mean()), (0.0, 0.0), 1.0, n, n_seeds, question_variance**0.5, seed_se, residual_se
    )
    if len(left) == len(right) == 1 and np.isin((left, right), (0.0, 1.0)).all():
        p_value = mcnemar(int((by_question > 0).sum()), int((by_question < 0).sum()))
    else:
        p_value = _crossed_p_value(result)
    return replace(result, ci95=crossed_interval(result, 0.95), p_value=p_value)


def crossed_interval(difference: CrossedDifference, confidence: float) -> tuple[float, float]:
    """Interval of a crossed difference at any confidence, such as a Bonferroni family's 1 - 0.05 / comparisons.

    The variance of the mean over S seeds is the sum of two: what the seeds' S mean differences show (seed and
    residual), and what the questions show beyond the residual. Each gets its own critical value,

        half width^2 = t(S - 1)^2 seed_se^2 + z^2 max(0, question_se^2 - residual_se^2),

    which covers at least at the nominal rate whatever the shares of the two are (Banerjee, Sankhya 22, 1960: the
    chance that a normal variable lies within a half width is a concave function of the half width's square). The
    interval is never narrower than the questions' own, z question_se, as seeds may agree by luck. Of four ways to
    combine both levels this was the narrowest that kept its rate in simulations (tests/test_statistics.py).

    Raises ValueError unless confidence lies between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1; got {confidence}")
    centre = _shrunk(difference.difference, difference.n_questions)
    half = _half_width(difference, 1 - confidence)
    return max(-1.0, centre - half), min(1.0, centre + half)


def _shrunk(difference: float, n_questions: int) -> float:
    return difference * n_questions / (n_questions + 2)  # Wald + 2


def _seed_and_residual_variance(table: Any) -> tuple[float, float]:
    """Squared standard errors of the mean of a seeds x questions table: by its seeds' means, and by its residual."""
    import numpy as np

    n_seeds, n_questions = table.shape
    seed_means, question_means, mean = table.mean(axis=1), table.mean(axis=0), table.mean()
    residuals = table - seed_means[:, np.newaxis] - question_means + mean
    mean_square = (residuals**2).sum() / ((n_seeds - 1) * (n_questions - 1))
    # A share of n questions moves in steps of 1/n: two seeds with the same share have a spread below a step, not of 0.
    # The variance of rounding to a step stands for it; it matters where t is huge (two seeds, many comparisons).
    seeds = seed_means.var(ddof=1) + 1 / (12 * n_questions**2)
    return float(seeds / n_seeds), float(mean_square / table.size)


def _half_width(difference: CrossedDifference, alpha: float) -> float:
    from scipy.special import ndtri, stdtrit

    z = -float(ndtri(alpha / 2))
    questions_alone = z * difference.question_se
    if difference.seed_se is None:
        return questions_alone
    beyond_residual = max(0.0, difference.question_se**2 - difference.residual_se**2) ** 0.5
    t = -float(stdtrit(difference.n_seeds - 1, alpha / 2))
    return max(questions_alone, math.hypot(t * difference.seed_se, z * beyond_residual))


def _crossed_p_value(difference: CrossedDifference) -> float:
    """The alpha at which the interval's end touches 0."""
    from scipy.optimize import brentq

    distance = abs(_shrunk(difference.difference, difference.n_questions))
    if distance == 0:
        return 1.0

    def slack(log_alpha: float) -> float:
        return _half_width(difference, math.exp(log_alpha)) - distance

    smallest = math.log(1e-300)  # smaller p-values are given as this one
    return 1e-300 if slack(smallest) < 0 else math.exp(float(brentq(slack, smallest, 0.0, xtol=1e-12)))  # type: ignore[arg-type]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the same order (S. Holm, Scandinavian Journal of Statistics 6, 1979)."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


MOST_QUESTIONS, MOST_SEEDS = 10**9, 10**4  # beyond any plan: more than these are called "no number"
LEAST_SEEDS = 3  # with two, t has one degree of freedom: 12.7 standard errors at 95%, 255 in a family of 20


@dataclass(frozen=True)
class Assumed:
    """What is believed of runs that have not been made yet."""

    disagreement: float  # share of questions, in [0, 1], on which two equally good runs differ in success
    seed_sd: float  # standard deviation of a run's true success rate over training seeds, in [0, 1]


def minimum_detectable_effect(
    n_questions: int, n_seeds: int, assumed: Assumed, n_comparisons: int = 1, power: float = 0.8
) -> float:
    """Smallest true difference that `crossed_difference` finds with this power, in (0, 1].

    Found: the lower bound at the family's Bonferroni level, 1 - 0.05 / n_comparisons, is above 0 (Holm's first step).
    Infinity where no difference is: always with one seed, whose training variance is unknown.

    Raises ValueError for numbers outside their ranges.
    """
    from scipy.optimize import brentq

    _check_plan(n_questions, n_seeds, assumed, n_comparisons, power)

    def lacking(effect: float) -> float:
        return _power(effect, n_questions, n_seeds, assumed, n_comparisons) - power

    if n_seeds < 2 or lacking(1.0) < 0:
        return math.inf
    return float(brentq(lacking, 0.0, 1.0, xtol=1e-6))  # type: ignore[arg-type]


def questions_needed(
    effect: float, n_seeds: int, assumed: Assumed, n_comparisons: int = 1, power: float = 0.8
) -> int | None:
    """Fewest questions a run that find this true difference; None: seeds are the limit, no number is enough.

    Raises ValueError for numbers outside their ranges.
    """
    _check_plan(1, n_seeds, assumed, n_comparisons, power, effect)
    if n_seeds < 2:
        return None
    return _fewest(lambda n: _power(effect, n, n_seeds, assumed, n_comparisons) >= power, 2, MOST_QUESTIONS)


def seeds_needed(
    effect: float, n_questions: int, assumed: Assumed, n_comparisons: int = 1, power: float = 0.8
) -> int | None:
    """Fewest training seeds per arm that find this true difference; None: questions are the limit.

    Raises ValueError for numbers outside their ranges.
    """
    _check_plan(n_questions, 2, assumed, n_comparisons, power, effect)
    return _fewest(lambda n: _power(effect, n_questions, n, assumed, n_comparisons) >= power, 2, MOST_SEEDS)


def planning_advice(
    n_questions: int,
    n_seeds: int,
    assumed: Assumed,
    n_comparisons: int,
    wanted: float = 0.02,
    power: float = 0.8,
) -> list[str]:
    """At most three lines to read before a sweep starts: what it can find, and what finding `wanted` would take.

    To find a difference is to find it in a share `power` of such sweeps.

    No lines where nothing is compared. Raises ValueError for numbers outside their ranges.
    """
    if n_comparisons == 0:
        return []
    seeds = LEAST_SEEDS if n_seeds == 1 else n_seeds
    lines = []
    if n_seeds == 1:
        lines.append(
            "With 1 training seed no verdict is possible, as the spread between seeds stays unknown: "
            f"{LEAST_SEEDS} seeds are the least that gives one."
        )
    comparisons = "1 comparison" if n_comparisons == 1 else f"{n_comparisons} comparisons"
    smallest = minimum_detectable_effect(n_questions, seeds, assumed, n_comparisons, power)
    difference = "not even the largest difference" if math.isinf(smallest) else f"a difference of {_points(smallest)}"
    lines.append(
        f"With {n_questions} questions and {seeds} seeds per arm ({comparisons}), "
        f"{difference} would be found in {100 * power:g}% of such sweeps."
    )
    if smallest <= wanted:
        return lines
    lines.append(_what_would_do(n_questions, seeds, assumed, n_comparisons, wanted, power))
    alone = minimum_detectable_effect(n_questions, seeds, assumed, power=power)
    if n_seeds > 1 and n_comparisons > 1 and not math.isinf(alone):
        lines.append(f"If only one comparison were made, and named in advance, {_points(alone)} would be found.")
    return lines


def _what_would_do(
    n_questions: int, n_seeds: int, assumed: Assumed, n_comparisons: int, wanted: float, power: float
) -> str:
    questions = questions_needed(wanted, n_seeds, assumed, n_comparisons, power)
    seeds = seeds_needed(wanted, n_questions, assumed, n_comparisons, power)
    to_see = f"To see {_points(wanted)} you need"
    if questions is None and seeds is None:
        return f"{to_see} more questions than {n_questions} and more seeds than {n_seeds}."
    if questions is None:
        return (
            f"{to_see} {seeds} seeds per arm with {n_questions} questions: "
            f"with {n_seeds} seeds no number of questions is enough."
        )
    instead = "" if seeds is None else f", or {seeds} seeds per arm with {n_questions}"
    return f"{to_see} {questions} questions a run with {n_seeds} seeds{instead}."


def _points(difference: float) -> str:
    points = f"{100 * difference:.1f}".removesuffix(".0")
    return f"{points} point" if points == "1" else f"{points} points"


def _check_plan(
    n_questions: int, n_seeds: int, assumed: Assumed, n_comparisons: int, power: float, effect: float = 1.0
) -> None:
    if min(n_questions, n_seeds, n_comparisons) < 1:
        counts = f"{n_questions}, {n_seeds} and {n_comparisons}"
        raise ValueError(f"a plan has at least 1 question, 1 seed and 1 comparison; got {counts}")
    if not (0 <= assumed.disagreement <= 1 and 0 <= assumed.seed_sd <= 1):
        raise ValueError(f"disagreement and seed_sd are shares between 0 and 1; got {assumed}")
    if not (0 < effect <= 1 and 0 < power < 1):
        raise ValueError(f"effect and power are shares between 0 and 1; got {effect} and {power}")


def _power(effect: float, n_questions: int, n_seeds: int, assumed: Assumed, n_comparisons: int) -> float:
    """Chance that the lower bound of `crossed_interval` is above 0, at the family's Bonferroni level.

    Normal means; the seeds' variance estimate follows chi-squared, over whose quantiles the chance is averaged. Which
    questions two runs disagree on is taken as new with every seed, and both methods' seeds as independent.
    """
    import numpy as np
    from scipy.special import chdtri, ndtr, ndtri, stdtrit

    alpha = 0.05 / n_comparisons
    z, t = -ndtri(alpha / 2), -stdtrit(n_seeds - 1, alpha / 2)
    # Where one method is ahead they disagree more. A shift of the log odds keeps the product of both one-sided shares.
    disagreement = min(1.0, math.hypot(assumed.disagreement, effect))
    answers = (disagreement - effect**2) / n_questions  # one seed's residual variance
    variance = (2 * assumed.seed_sd**2 + answers) / n_seeds
    quantiles = chdtri(n_seeds - 1, (np.arange(1000) + 0.5) / 1000) / (n_seeds - 1)
    rounding, wald_plus_2 = 1 / (12 * n_questions**2 * n_seeds), 1 / (n_questions + 2) ** 2
    half = np.sqrt(
        np.maximum(
            t**2 * (variance * quantiles + rounding) + z**2 * wald_plus_2, z**2 * (answers / n_seeds + wald_plus_2)
        )
    )
    distance = _shrunk(effect, n_questions) - half
    if variance == 0:
        return float((distance > 0).mean())
    return float(ndtr(distance / variance**0.5).mean())


def _fewest(enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """Smallest integer in low ... high that is enough, where every larger one is too."""
    if enough(low):
        return low
    n = low
    while not enough(n):
        if n == high:
            return None
        low, n = n, min(2 * n, high)
    while n - low > 1:
        middle = (low + n) // 2
        low, n = (low, middle) if enough(middle) else (middle, n)
    return n
