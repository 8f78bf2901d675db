"""Intervals and tests for success rates. scipy does the mathematics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


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
