"""Intervals and tests against values worked out by hand or published."""

from __future__ import annotations

import pytest

from nat.statistics import mcnemar, mean_interval, paired_difference, wilson_interval


def test_wilson():
    # (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) with z = 1.959964, n = 10, p = 0.5
    assert wilson_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    # p = 0: [0, z^2 / (n + z^2)] = [0, 3.841459 / 103.841459]
    assert wilson_interval(0, 100) == pytest.approx((0.0, 0.036994), abs=1e-6)
    assert wilson_interval(100, 100) == pytest.approx((0.963006, 1.0), abs=1e-6)


def test_mcnemar():
    assert mcnemar(0, 5) == pytest.approx(2 / 32)  # both tails of five equal coin tosses
    assert mcnemar(1, 5) == pytest.approx(2 * (1 + 6) / 64)
    assert mcnemar(3, 3) == 1.0
    assert mcnemar(0, 0) == 1.0


def test_paired_difference_of_successes():
    first = {f"q{i}": float(i < 30) for i in range(100)}  # right on q0 ... q29
    second = {f"q{i}": float(20 <= i < 40) for i in range(100)}  # right on q20 ... q39
    result = paired_difference(first, second)
    assert (result.difference, result.n_questions) == (pytest.approx(0.10), 100)
    assert (result.only_first, result.only_second) == (20, 10)
    # b = 20.5, c = 10.5, n = 102: 10/102 +- 1.959964 * sqrt(31 - 100/102) / 102
    assert result.ci95 == pytest.approx((-0.00723, 0.20331), abs=1e-4)
    assert result.p_value == pytest.approx(mcnemar(20, 10))


def test_methods_that_always_agree_still_have_an_interval():
    scores = {f"q{i}": float(i % 2) for i in range(50)}
    result = paired_difference(scores, dict(scores))
    assert result.difference == 0
    # b = c = 0.5, n = 52: +- 1.959964 * 1 / 52
    assert result.ci95 == pytest.approx((-0.03769, 0.03769), abs=1e-5)


def test_paired_difference_of_graded_scores():
    # Differences 0.1, 0.3: mean 0.2, standard error 0.1, t(0.975, 1) = 12.7062
    result = paired_difference({"a": 0.5, "b": 0.8}, {"b": 0.5, "a": 0.4})
    assert result.difference == pytest.approx(0.2)
    assert result.ci95 == pytest.approx((0.2 - 1.27062, 0.2 + 1.27062), abs=1e-4)


def test_questions_are_matched_by_id_and_must_be_the_same():
    with pytest.raises(ValueError, match=r"different questions \(2 differ\)"):
        paired_difference({"a": 1.0, "b": 0.0}, {"a": 1.0, "c": 0.0})
    with pytest.raises(ValueError, match="at least 2"):
        paired_difference({"a": 1.0}, {"a": 0.0})


def test_mean_over_seeds():
    # 1, 2, 3: mean 2, standard error 1/sqrt(3) = 0.57735, t(2 degrees of freedom, 97.5%) = 4.302653.
    mean, interval = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert interval == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-5)
    with pytest.raises(ValueError, match="at least 2"):
        mean_interval([1.0])
