from dataclasses import replace

import pytest

from nat.comparison.arms import Answer, arms_of, mean_success, ratio_text, reference_of, split_of, unmarked_of
from nat.comparison.contrasts import contrasts_of, paired, verdict_of
from nat.comparison.types import Arm, Pair, RunResult
from nat.core.statistics import CrossedDifference


def run(
    method: str,
    negatives: int | None = 0,
    seed: int = 0,
    strategy: str | None = None,
    positives: int | None = 50,
    test: str = "1100",
    setting: dict[str, str] | None = None,
    directory: object = "own",
) -> RunResult:
    """A run whose test answers are written as "10011": one digit a question."""
    strategy = strategy or ("suffix" if method == "nat" else "none")
    answers = {f"q{place}": Answer(digit == "1", float(digit)) for place, digit in enumerate(test)}
    name = f"{method} {negatives} {seed}"
    return RunResult(
        name,
        directory,
        "completed",
        method,
        strategy,
        positives,
        negatives,
        seed,
        setting or {},
        {"test": answers},  # type: ignore[arg-type]
    )


def arm(*arguments: object, **keywords: object) -> Arm:
    (found,) = arms_of([run(*arguments, **keywords)])  # type: ignore[arg-type]
    return found


# ---- arms ----


def test_an_arm_is_what_differs_in_its_seed_alone():
    runs = [run("nat", 200, seed) for seed in (2, 0, 1)]
    arms = arms_of([*runs, run("nat", 100), run("positive_only"), run("base", positives=0), run("nut", 100)])
    assert [(found.label, [r.seed for r in found.runs]) for found in arms] == [
        ("base", [0]),
        ("positive_only, 50 positives", [0]),
        ("nut 1:2, 50 positives", [0]),
        ("nat suffix 1:2, 50 positives", [0]),
        ("nat suffix 1:4, 50 positives", [0, 1, 2]),
    ]


def test_arms_stand_in_order_of_setting_positives_and_method():
    rates = {rate: {"environment.failure_rate": rate} for rate in ("0.1", "0.02")}
    runs = [run(m, n, setting=rates[r]) for r in rates for m, n in (("nut", 100), ("positive_only", 0))]
    assert [found.label for found in arms_of(runs)] == [
        "positive_only, 50 positives, failure_rate 0.02",
        "nut 1:2, 50 positives, failure_rate 0.02",
        "positive_only, 50 positives, failure_rate 0.1",
        "nut 1:2, 50 positives, failure_rate 0.1",
    ]


def test_where_tokens_are_held_fixed_counts_may_differ_between_seeds():
    setting = {"mixing.tokens": "9000", "mixing.ratio": "1:2"}
    (found,) = arms_of([run("nut", 100 + seed, seed, positives=50 - seed, setting=setting) for seed in (0, 2)])
    assert (found.positives, found.negatives, len(found.runs)) == (49, 101, 2)


def test_ratios_are_told_from_counts():
    assert [ratio_text(50, n) for n in (0, 50, 75, 400, 25, None)] == ["1:0", "1:1", "1:1.5", "1:8", "2:1", None]


def test_mean_success_is_over_runs_with_answers():
    (found,) = arms_of([run("nut", 9, 0, test="1100"), run("nut", 9, 1, test="1110"), run("nut", 9, 2, test="")])
    assert mean_success(found, "test") == 0.625
    assert mean_success(found, "validation") is None
    assert split_of([found]) == "test"


# ---- references ----


def test_the_reference_has_the_same_positives_and_setting_and_no_text():
    rate = {"environment.failure_rate": "0.1"}
    nat = arm("nat", 100, setting=rate)
    right = arm("positive_only", setting=rate)
    others = [
        arm("positive_only", setting={"environment.failure_rate": "0.3"}),
        arm("positive_only", positives=200, setting=rate),
        arm("positive_only", strategy="prefix", setting=rate),
        arm("positive_only", strategy="suffix", setting=rate),
    ]
    assert reference_of(nat, [*others, right]) is right
    assert reference_of(nat, others) is others[3]  # then with the same text
    assert reference_of(nat, others[:2]) is None
    assert reference_of(right, [*others, right]) is None
    assert reference_of(others[3], [*others, right]) is right


def test_what_makes_the_method_is_no_other_setting():
    nat = arm("nat", 100, setting={"mixing.questions": "shared", "strategy.place": "prefix"})
    assert reference_of(nat, [right := arm("positive_only")]) is right


def test_a_few_trajectories_pushed_out_by_a_longer_prompt_do_not_matter():
    assert reference_of(arm("nat", 100, positives=98), [right := arm("positive_only", positives=100)]) is right
    assert reference_of(arm("nat", 100, positives=90), [right]) is None


def test_the_base_is_compared_with_the_first_in_its_setting():
    steps = [arm("positive_only", setting={"training.max_steps": n, "environment.name": "b"}) for n in ("1", "2")]
    other = arm("positive_only", setting={"training.max_steps": "1", "environment.name": "a"})
    assert reference_of(arm("base", positives=0, setting={"environment.name": "b"}), [other, *steps]) is steps[0]


def test_a_text_is_measured_on_the_same_trajectories_without_one():
    nut = arm("nut", 100)
    control = arm("nut", 100, strategy="same_text")
    others = [control, arm("nut", 200), arm("nut", 100, positives=200), nut]
    assert unmarked_of(arm("nat", 100), others) is nut
    assert unmarked_of(arm("nat", 100), others[:3]) is control
    assert unmarked_of(control, others) is nut
    assert unmarked_of(nut, others) is None
    assert unmarked_of(arm("positive_only", strategy="suffix"), others) is None


def test_runs_of_others_are_compared_whatever_their_setting_is():
    own = arm("positive_only", setting={"environment.failure_rate": "0.1"})
    theirs = arm("nat", None, positives=None, setting={"from": "mine.jsonl"}, directory=None)
    assert reference_of(theirs, [own]) is own


# ---- pairs ----


def arms(first: list[tuple[int, str]], second: list[tuple[int, str]], method: str = "nut") -> tuple[Arm, Arm]:
    """Two arms by (seed, test answers)."""
    treatment, reference = (
        arms_of([run(m, n, seed, test=test) for seed, test in given])[0]
        for m, n, given in ((method, 9, first), ("positive_only", 0, second))
    )
    return treatment, reference


def seeds_used(found: Pair | str) -> tuple[int, int]:
    assert isinstance(found, Pair)
    return len(found.first), len(found.second)


def test_runs_are_paired_by_seed():
    found = paired(*arms([(1, "1111"), (0, "1110")], [(0, "0000"), (1, "1000")]), "test")
    assert isinstance(found, Pair)
    assert [sum(scores.values()) for scores in (*found.first, *found.second)] == [3, 4, 0, 1]  # seeds 0, 1, 0, 1


def test_a_seed_that_one_side_lacks_is_left_out_of_the_pairs():
    assert seeds_used(paired(*arms([(0, "11"), (1, "11"), (2, "11")], [(0, "01"), (2, "00")]), "test")) == (2, 2)
    assert seeds_used(paired(*arms([(0, "11"), (1, "11"), (2, "11")], [(1, "01")]), "test")) == (1, 1)
    assert seeds_used(paired(*arms([(0, "11"), (1, "11"), (2, "11")], [(7, "01"), (8, "01")]), "test")) == (3, 2)
    assert seeds_used(paired(*arms([(0, "11"), (1, "11")], [(7, "01")]), "test")) == (1, 1)


def test_the_untrained_base_has_no_seed_of_its_own():
    found = paired(*arms([(0, "01")], [(4, "11"), (5, "10"), (6, "11")], method="base"), "test")
    assert seeds_used(found) == (3, 3)


def test_arms_are_compared_on_the_questions_they_share_if_these_are_most():
    found = paired(*arms([(0, "1" * 19)], [(0, "1" * 20)]), "test")
    assert isinstance(found, Pair)
    assert (len(found.first[0]), found.left_out) == (19, 1)
    assert paired(*arms([(0, "1" * 17)], [(0, "1" * 20)]), "test") == "they share 17 of 20 test questions"
    assert (
        paired(*arms([(0, "1" * 17)], [(0, "")]), "test")
        == "positive_only, 50 positives has no answers to test questions"
    )
    half = paired(*arms([(0, "1" * 20)], [(0, "1" * 20)]), "test", keep=lambda question: question < "q11")
    assert isinstance(half, Pair)
    assert list(half.first[0]) == ["q0", "q1", "q10"]


# ---- contrasts ----


def test_p_values_are_adjusted_over_the_family():
    treatment, reference = arms([(0, "1" * 10 + "0" * 10)], [(0, "0" * 20)])
    weak, _ = arms([(0, "1" * 6 + "0" * 14)], [(0, "0" * 20)])
    pairs = [paired(found, reference, "test") for found in (treatment, weak)]
    first, second = contrasts_of(pairs, 0.02)  # type: ignore[arg-type]
    # McNemar's exact p of 10 : 0 is 2 / 2^10, of 6 : 0 2 / 2^6; Holm doubles the smaller one.
    assert (first.difference.p_value, second.difference.p_value) == pytest.approx((2 / 2**10, 2 / 2**6))
    assert (first.p_holm, second.p_holm) == pytest.approx((4 / 2**10, 2 / 2**6))
    assert first.adjusted_ci[0] < first.difference.ci95[0] < 0.5 < first.difference.ci95[1] < first.adjusted_ci[1]
    assert first.verdict == "undecided"  # one seed
    assert contrasts_of([], 0.02) == ()


@pytest.mark.parametrize(
    ("difference", "n_seeds", "p_holm", "upper", "verdict"),
    [
        (0.10, 3, 0.049, 0.2, "yes"),
        (0.10, 3, 0.051, 0.2, "undecided"),
        (0.10, 1, 0.001, 0.2, "undecided"),  # the spread over seeds is not known
        (0.01, 3, 0.049, 0.015, "yes"),  # small, but there
        (-0.10, 3, 0.001, -0.05, "no"),
        (-0.10, 3, 0.001, 0.03, "undecided"),
        (0.00, 3, 1.0, 0.019, "no"),
        (0.00, 3, 1.0, 0.020, "undecided"),
        (-0.10, 1, 0.001, -0.05, "undecided"),
    ],
)
def test_the_verdict_needs_seeds_and_an_interval_that_excludes(difference, n_seeds, p_holm, upper, verdict):
    found = CrossedDifference(difference, (0.0, 0.0), 0.5, 400, n_seeds, 0.01, None if n_seeds == 1 else 0.01)
    assert verdict_of(found, p_holm, upper, 0.02) == verdict


def test_labels_are_unique():
    first = run("nut", 9, setting={"a.rate": "1"})
    labels = [found.label for found in arms_of([first, replace(first, setting={"b.rate": "1"})])]
    assert len(set(labels)) == 2
