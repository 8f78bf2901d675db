import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest

from nat.comparison.arms import arms_of
from nat.comparison.compare import compare
from nat.comparison.config import ReportConfig
from nat.comparison.types import Arm, CaveatKind, Comparison, Contrast, Finding, RunResult
from nat.comparison.verdict import Chosen, _why, choose, choosing_half, findings_of, interval_note
from nat.core.questions import question_id
from nat.reporting.write import standard
from nat.runs.outcomes import Answer
from nat.runs.results import Git
from tests.golden_for_tests import golden
from tests.sweeps_for_tests import plan, planted, write_cell, write_sweep

CONFIG: ReportConfig = standard()


def verdicts(comparison: Comparison) -> dict[str, str]:
    return {finding.question: finding.verdict for finding in comparison.findings}


def asked(comparison: Comparison, question: str) -> tuple[Finding, Contrast]:
    """The finding of a question, and what it rests on."""
    (found,) = [finding for finding in comparison.findings if finding.question.endswith(question)]
    assert found.evidence is not None
    return found, found.evidence


def labels(contrast: Contrast) -> tuple[str, str]:
    return contrast.treatment.label, contrast.reference.label


def kinds(comparison: Comparison) -> list[str]:
    return [caveat.kind for caveat in comparison.caveats]


Plant = Callable[[Path], Comparison]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Callable[[Plant], Comparison]:
    """The comparison of planted runs, made once for all tests that ask for it."""

    @cache
    def compared(plant: Plant) -> Comparison:
        return plant(tmp_path_factory.mktemp(plant.__name__))

    return compared


# ---- planted effects ----


def failures_that_help(directory: Path) -> Comparison:
    rates = {("positive_only", 0): 0.3, ("nut", 100): 0.45, ("nut", 400): 0.7, ("nat", 400): 0.7}
    return compare(write_sweep(directory, rates, n_questions=400), CONFIG)


def a_text_that_helps(directory: Path) -> Comparison:
    rates = {("positive_only", 0): 0.3, ("nut", 400): 0.4, ("nat/inverse", 400): 0.2, ("nat/prefix_good", 400): 0.65}
    return compare(write_sweep(directory, rates, n_questions=400), CONFIG)


def failures_that_cost(directory: Path) -> Comparison:
    rates = {("positive_only", 0): 0.7, ("nut", 100): 0.3, ("nut", 200): 0.3}
    return compare(write_sweep(directory, rates, n_questions=400), CONFIG)


def an_effect_that_is_none(directory: Path) -> Comparison:
    for seed in range(4):
        solved = np.arange(2000) % 2
        write_cell(directory / f"p{seed}", "positive_only", solved, seed=seed)
        solved[[2 * seed, 2 * seed + 1]] = 1, 0  # each seed gains one question and loses another
        write_cell(directory / f"n{seed}", "nut", solved, negatives=100, seed=seed)
    return compare(directory, CONFIG)


def an_effect_that_is_small(directory: Path) -> Comparison:
    for seed in range(4):
        solved = np.arange(2000) % 2
        write_cell(directory / f"p{seed}", "positive_only", solved, seed=seed)
        solved[:40:2] = 1  # twenty questions of 2000 more
        write_cell(directory / f"n{seed}", "nut", solved, negatives=100, seed=seed)
    return compare(directory, CONFIG)


def nothing_and_little_data(directory: Path) -> Comparison:
    rates = {("positive_only", 0): 0.5, ("nut", 100): 0.5, ("nat", 100): 0.5}
    return compare(write_sweep(directory, rates, seed_sd=0.02), CONFIG)


def test_a_planted_effect_of_the_failures_is_found(made):
    comparison = made(failures_that_help)
    assert verdicts(comparison)["Use the failures?"] == "yes"
    assert verdicts(comparison)["At which ratio?"] == "yes"
    assert verdicts(comparison)["With which text?"] != "yes"
    finding, evidence = asked(comparison, "failures?")
    assert finding.recommended is evidence.treatment
    assert evidence.treatment.method in ("nut", "nat")
    assert finding.chosen_on == "validation"
    assert evidence.reference.label == "positive_only, 100 positives"
    assert evidence.difference.difference > 0.3
    assert (evidence.difference.n_seeds, evidence.difference.n_questions) == (3, 400)
    finding, evidence = asked(comparison, "ratio?")
    assert labels(evidence) == ("nut 1:4, 100 positives", "nut 1:1, 100 positives")
    assert (finding.recommended, finding.chosen_on) == (evidence.treatment, "validation")
    assert evidence.difference.difference > 0


def test_a_planted_text_is_found(made):
    comparison = made(a_text_that_helps)
    assert verdicts(comparison) == {"Use the failures?": "yes", "With which text?": "yes"}
    finding, evidence = asked(comparison, "text?")
    assert labels(evidence) == ("nat prefix_good 1:4, 100 positives", "nut 1:4, 100 positives")
    assert (finding.recommended, finding.chosen_on) == (evidence.treatment, "validation")
    # inverse is behind and prefix_good ahead, both beyond chance.
    told = [(each.treatment.strategy, each.difference.difference > 0) for each in comparison.text_contrasts]
    assert sorted(told) == [("inverse", False), ("prefix_good", True)]
    assert all(each.p_holm < 0.05 for each in comparison.text_contrasts)


def test_failures_that_cost_success_are_a_no(made):
    comparison = made(failures_that_cost)
    assert verdicts(comparison)["Use the failures?"] == "no"
    finding, evidence = asked(comparison, "failures?")
    assert finding.recommended is evidence.reference
    assert finding.chosen_on == "validation"
    assert evidence.p_holm < 0.05
    assert evidence.difference.ci95[1] < 0
    assert evidence.adjusted_ci[1] < 0


def test_an_effect_too_small_to_matter_is_a_no(made):
    comparison = made(an_effect_that_is_none)
    assert verdicts(comparison) == {"Use the failures?": "no"}
    finding, evidence = asked(comparison, "failures?")
    assert finding.chosen_on == "only"  # one candidate: nothing was chosen
    assert finding.recommended is evidence.reference
    assert evidence.treatment.label == "nut 1:1, 100 positives"
    assert 0 < evidence.adjusted_ci[1] < 0.01  # below the two points that matter


def test_a_certain_effect_that_is_too_small_to_matter_is_a_yes(made):
    finding, evidence = asked(made(an_effect_that_is_small), "failures?")
    assert (finding.verdict, finding.recommended) == ("yes", evidence.treatment)
    assert evidence.difference.difference == pytest.approx(0.01)
    assert 0 < evidence.adjusted_ci[0] < evidence.adjusted_ci[1] < 0.02


def test_nothing_planted_and_little_data_is_undecided(made):
    comparison = made(nothing_and_little_data)
    assert verdicts(comparison) == {"Use the failures?": "undecided", "With which text?": "undecided"}
    assert [finding.recommended for finding in comparison.findings] == [None, None]


def test_false_verdicts_are_rare_and_intervals_cover_where_nothing_is_planted():
    """40 sweeps of three arms; the deep simulation stands in test_statistics.py."""
    rates = {("positive_only", 0): 0.4, ("nut", 100): 0.4, ("nut", 400): 0.4}
    false, covered = 0, 0
    for number in range(40):
        arms = arms_of(
            [
                RunResult(
                    *(f"{method}{negatives}{seed}", None, "completed", method, "none", 100, negatives, seed, {}),
                    {s: {str(q): Answer(y == 1, y) for q, y in enumerate(given)} for s, given in answers.items()},
                )
                for (method, negatives), seed, answers in planted(
                    rates, n_questions=60, seed_sd=0.03, random_state=number
                )
            ]
        )
        found = findings_of(arms, (), "test", CONFIG)
        false += any(finding.verdict == "yes" for finding in found)
        (evidence,) = [f.evidence for f in found if f.question == "Use the failures?"]
        assert evidence is not None
        low, high = evidence.difference.ci95
        covered += low <= 0 <= high
    assert false <= 4
    assert covered >= 36


# ---- how a verdict is reached ----


def test_the_best_is_chosen_on_validation_and_stated_on_test(tmp_path):
    for seed in range(3):
        write_cell(tmp_path / f"p{seed}", "positive_only", "10000000", "1000", seed=seed)
        write_cell(tmp_path / f"a{seed}", "nut", "11111111", "1000", negatives=100, seed=seed)
        write_cell(tmp_path / f"b{seed}", "nut", "11000000", "1110", negatives=400, seed=seed)
    comparison = compare(tmp_path, CONFIG)
    (evidence,) = [f.evidence for f in comparison.findings if f.question == "Use the failures?"]
    assert evidence is not None
    assert (evidence.treatment.label, evidence.split, evidence.difference.difference) == (
        "nut 1:4, 100 positives",
        "test",
        0.125,
    )
    assert not {"half_chose", "no_validation"} & set(kinds(comparison))


def no_validation_answers(directory: Path) -> Comparison:
    rates = {("positive_only", 0): 0.3, ("nut", 100): 0.5, ("nut", 400): 0.7}
    return compare(write_sweep(directory, rates, n_questions=400, validation=False), CONFIG)


def test_without_validation_answers_half_of_the_questions_choose(made):
    comparison = made(no_validation_answers)
    finding, evidence = asked(comparison, "failures?")
    assert finding.chosen_on == "half"
    questions = list(comparison.runs[0].answers["test"])
    stating = sum(not choosing_half(question) for question in questions)
    assert 150 < stating < 250
    assert (evidence.difference.n_seeds, evidence.difference.n_questions) == (3, stating)
    assert "half_chose" in kinds(comparison)
    # The table of arms chooses nothing and keeps all questions.
    assert {contrast.difference.n_questions for contrast in comparison.contrasts} == {400}


def test_the_half_that_states_does_not_choose(tmp_path):
    """One arm solves the half that chooses and nothing else, the other solves the other half and half of the first."""
    chooses = [choosing_half(question_id(f"test question {place}")) for place in range(400)]
    for seed in range(3):
        write_cell(tmp_path / f"p{seed}", "positive_only", [0] * 400, seed=seed)
        write_cell(tmp_path / f"a{seed}", "nut", list(map(int, chooses)), negatives=100, seed=seed)
        other = [int(not each or place % 2 == 0) for place, each in enumerate(chooses)]
        write_cell(tmp_path / f"b{seed}", "nut", other, negatives=400, seed=seed)
    finding, evidence = asked(compare(tmp_path, CONFIG), "failures?")
    assert (finding.chosen_on, evidence.treatment.label) == ("half", "nut 1:1, 100 positives")
    assert evidence.difference.difference == 0
    assert evidence.difference.n_questions == chooses.count(False)


def one_seed_alone(directory: Path) -> Comparison:
    for name, method, negatives, test in (("p", "positive_only", 0, "0" * 100), ("n", "nut", 100, "1" * 100)):
        write_cell(directory / name, method, test, negatives=negatives)
    return compare(directory, CONFIG)


def test_one_seed_never_decides(made):
    comparison = made(one_seed_alone)
    assert verdicts(comparison) == {"Use the failures?": "undecided"}
    finding, evidence = asked(comparison, "failures?")
    assert finding.recommended is None
    assert (evidence.difference.difference, evidence.difference.n_seeds, evidence.difference.n_questions) == (1, 1, 100)
    assert evidence.difference.ci95 == pytest.approx((0.947, 1.0), abs=5e-4)
    assert evidence.p_holm < 0.001
    assert kinds(comparison)[0] == "one_seed"


def one_lucky_run(directory: Path) -> Comparison:
    write_sweep(directory, {("positive_only", 0): 0.3, ("nut", 100): 0.7}, n_questions=400)
    write_cell(directory / "lucky", "nut", "1" * 400, "1" * 400, negatives=400)
    return compare(directory, CONFIG)


def one_promising_run(directory: Path) -> Comparison:
    write_sweep(directory, {("positive_only", 0): 0.7, ("nut", 100): 0.3}, n_questions=400)
    write_cell(directory / "promising", "nut", "1" * 400, "1" * 400, negatives=400)
    return compare(directory, CONFIG)


def test_one_lucky_run_does_not_take_a_verdict_away(made):
    comparison = made(one_lucky_run)
    finding, evidence = asked(comparison, "failures?")
    assert (finding.verdict, finding.chosen_on) == ("yes", "validation")
    assert evidence.treatment.label == "nut 1:1, 100 positives"
    assert "single_seeds" in kinds(comparison)


def test_a_partial_sweep_says_no_to_nothing_that_one_seed_promises(made, tmp_path):
    sweep = write_sweep(tmp_path / "s", {("positive_only", 0): 0.7, ("nut", 100): 0.3}, n_questions=400)
    assert verdicts(compare(sweep, CONFIG)) == {"Use the failures?": "no"}
    finding, evidence = asked(made(one_promising_run), "failures?")
    assert (finding.verdict, finding.chosen_on) == ("undecided", "validation")
    assert evidence.treatment.label == "nut 1:4, 100 positives"
    assert (evidence.difference.n_seeds, evidence.difference.n_questions) == (1, 400)


def test_a_single_seed_elsewhere_leaves_each_level_its_own_answer(tmp_path):
    write_sweep(tmp_path / "few", {("positive_only", 0): 0.1, ("nut", 400): 0.5}, n_questions=400, positives=50)
    rates = {("positive_only", 0): 0.6, ("nut", 1600): 0.6}
    write_sweep(tmp_path / "many", rates, seeds=1, n_questions=400, positives=200)
    finding, evidence = asked(compare(tmp_path, CONFIG), "failures?")
    arms = [(contrast.treatment.label, contrast.verdict) for contrast in (evidence, *finding.also)]
    assert arms == [("nut 1:8, 200 positives", "undecided"), ("nut 1:8, 50 positives", "yes")]
    assert finding.depends


def test_in_a_partial_sweep_the_seeds_that_all_have_choose(tmp_path):
    for seed in range(3):
        write_cell(tmp_path / f"p{seed}", "positive_only", "1000", "1000", seed=seed)
        write_cell(tmp_path / f"a{seed}", "nut", "1100", "1110" if seed < 2 else "0000", negatives=100, seed=seed)
        if seed < 2:
            write_cell(tmp_path / f"b{seed}", "nut", "1100", "1100", negatives=400, seed=seed)
    finding, evidence = asked(compare(tmp_path, CONFIG), "failures?")
    assert (finding.chosen_on, evidence.treatment.label) == ("validation", "nut 1:1, 100 positives")


def numbers_of_positives_that_disagree(directory: Path) -> Comparison:
    write_sweep(directory / "few", {("positive_only", 0): 0.1, ("nut", 400): 0.5}, n_questions=400, positives=50)
    write_sweep(directory / "many", {("positive_only", 0): 0.6, ("nut", 1600): 0.6}, n_questions=400, positives=200)
    return compare(directory, CONFIG)


def test_where_numbers_of_positives_disagree_the_verdict_says_so(made):
    comparison = made(numbers_of_positives_that_disagree)
    finding, evidence = asked(comparison, "failures?")
    assert len(comparison.findings) == 1
    assert finding.depends
    assert (finding.verdict, evidence.treatment.label) == ("undecided", "nut 1:8, 200 positives")
    (other,) = finding.also
    assert (other.verdict, other.treatment.label) == ("yes", "nut 1:8, 50 positives")
    assert other.difference.difference > 0


def test_questions_that_the_runs_do_not_hold_are_left_out(tmp_path):
    write_sweep(tmp_path / "texts", {("nut", 100): 0.5, ("nat", 100): 0.5, ("nat/prefix", 100): 0.5}, seeds=2)
    assert list(verdicts(compare(tmp_path / "texts", CONFIG))) == ["With which text?"]
    write_sweep(tmp_path / "alone", {("positive_only", 0): 0.5, ("base", 0): 0.1}, seeds=2)
    assert verdicts(compare(tmp_path / "alone", CONFIG)) == {}


def the_smallest_ratio_is_best(directory: Path) -> Comparison:
    return compare(
        write_sweep(directory, {("nut", 100): 0.7, ("nut", 200): 0.4, ("nut", 400): 0.4}, n_questions=400), CONFIG
    )


def test_where_the_smallest_ratio_is_best_it_is_held_against_the_next(made):
    comparison = made(the_smallest_ratio_is_best)
    assert verdicts(comparison) == {"At which ratio?": "yes"}
    finding, evidence = asked(comparison, "ratio?")
    assert labels(evidence) == ("nut 1:1, 100 positives", "nut 1:2, 100 positives")
    assert (finding.recommended, finding.chosen_on) == (evidence.treatment, "validation")
    assert evidence.difference.difference > 0


# ---- against the best successes-only arm ----


def answers_of(successes: int, n: int = 400, shift: int = 0) -> str:
    """So many successes among n answers; `shift` moves them to other questions."""
    digits = "1" * successes + "0" * (n - successes)
    return digits[-shift:] + digits[:-shift] if shift else digits


def write_arms(directory: Path, arms: dict[str, tuple[int, int]], seeds: int = 3, n: int = 400) -> Comparison:
    """Arms by "method/strategy negatives" with (successes on test, on validation) of n, the same at each seed."""
    for name, (test, validation) in arms.items():
        method, _, rest = name.partition("/")
        strategy, _, negatives = rest.partition(" ")
        for seed in range(seeds):
            solved = answers_of(test, n, seed), answers_of(validation, n, seed)
            cell = directory / f"{method}{strategy}{negatives}-{seed}"
            write_cell(cell, method, *solved, strategy=strategy, negatives=int(negatives), seed=seed)
    return compare(directory, CONFIG)


def an_effect_of_the_text_alone(directory: Path) -> Comparison:
    rates = {("positive_only", 0): 0.45, ("positive_only/suffix", 0): 0.6, ("nut", 400): 0.45, ("nat", 400): 0.6}
    return compare(write_sweep(directory, rates, n_questions=400), CONFIG)


def test_an_effect_of_the_text_alone_is_no_effect_of_the_failures(made):
    """The text adds 15 points with failures or without; the failures add none."""
    comparison = made(an_effect_of_the_text_alone)
    assert verdicts(comparison)["Use the failures?"] != "yes"
    _, evidence = asked(comparison, "failures?")
    assert evidence.reference.label == "positive_only suffix, 100 positives"


def several_successes_alone(directory: Path) -> Comparison:
    arms = {"positive_only/none 0": (80, 81), "positive_only/suffix 0": (80, 82), "nut/none 100": (200, 200)}
    return write_arms(directory, arms)


def test_the_failures_are_held_against_what_validation_takes_of_the_successes_alone(made):
    comparison = made(several_successes_alone)
    (evidence,) = [finding.evidence for finding in comparison.findings]
    assert evidence is not None
    assert (evidence.reference.strategy, evidence.verdict, evidence.difference.difference) == ("suffix", "yes", 0.3)


def a_text_of_the_successes_alone_that_is_as_good(directory: Path) -> Comparison:
    arms = {"positive_only/none 0": (80, 90), "positive_only/suffix 0": (200, 80), "nut/none 100": (200, 200)}
    return write_arms(directory, arms)


def test_a_yes_holds_against_every_text_of_the_successes_alone(made):
    """On validation the plain successes alone did better; on test those with the text solve as much as the failures."""
    comparison = made(a_text_of_the_successes_alone_that_is_as_good)
    (evidence,) = [finding.evidence for finding in comparison.findings]
    assert evidence is not None
    assert (evidence.reference.strategy, evidence.difference.difference) == ("suffix", 0.0)
    assert evidence.verdict != "yes"


# ---- literal verdicts ----


def test_the_findings_p_values_are_adjusted_over_the_findings(tmp_path):
    """McNemar's exact p: 10 to 0 is 2 / 2^10, 6 to 0 is 2 / 2^6; Holm doubles the smaller of two."""
    write_cell(tmp_path / "p", "positive_only", answers_of(0, 40), "0")
    write_cell(tmp_path / "u", "nut", answers_of(4, 40), "0", negatives=100)
    write_cell(tmp_path / "n", "nat", answers_of(10, 40), "1", negatives=100)
    found = {finding.question: finding.evidence for finding in compare(tmp_path, CONFIG).findings}
    failures, text = found["Use the failures?"], found["With which text?"]
    assert failures is not None
    assert text is not None
    assert (failures.difference.p_value, text.difference.p_value) == pytest.approx((2 / 2**10, 2 / 2**6))
    assert (failures.p_holm, text.p_holm) == pytest.approx((4 / 2**10, 2 / 2**6))


def test_p_values_elsewhere_are_adjusted_over_all_questions(tmp_path):
    """Two questions at one other number of successes are two comparisons elsewhere."""
    for positives in (50, 200):
        for seed in range(3):
            of = {"positives": positives, "seed": seed}
            solved = "1000" if positives == 50 else "1100"
            write_cell(tmp_path / f"p{positives}{seed}", "positive_only", "1000", "1000", **of)
            write_cell(tmp_path / f"u{positives}{seed}", "nut", "1100", solved, negatives=4 * positives, **of)
            write_cell(tmp_path / f"n{positives}{seed}", "nat", "1100", solved, negatives=4 * positives, **of)
    elsewhere = [contrast for finding in compare(tmp_path, CONFIG).findings for contrast in finding.also]
    assert [contrast.treatment.positives for contrast in elsewhere] == [50, 50]
    smaller, larger = sorted(contrast.difference.p_value for contrast in elsewhere)
    assert smaller < 0.5
    first, second = min(1, 2 * smaller), min(1, max(2 * smaller, larger))  # Holm's, of two
    assert sorted(contrast.p_holm for contrast in elsewhere) == pytest.approx([first, second])


def a_lead_too_small_to_matter(directory: Path) -> Comparison:
    return write_arms(directory, {"nut/none 100": (2000, 2100), "nut/none 200": (2000, 2000)}, n=4000)


def a_larger_ratio_that_adds_nothing(directory: Path) -> Comparison:
    return write_arms(directory, {"nut/none 100": (2000, 2000), "nut/none 200": (2000, 2100)}, n=4000)


def a_ratio_that_costs_success(directory: Path) -> Comparison:
    return write_arms(directory, {"nut/none 100": (1000, 2100), "nut/none 200": (2000, 2000)}, n=4000)


@pytest.mark.parametrize(
    ("plant", "chosen", "recommended"),
    [
        # 1:1 was best on validation and is held against 1:2; that it is not 2 points ahead is no word for 1:2.
        (a_lead_too_small_to_matter, "nut 1:1, 100 positives", "nut 1:1, 100 positives"),
        (a_larger_ratio_that_adds_nothing, "nut 1:2, 100 positives", "nut 1:1, 100 positives"),
        (a_ratio_that_costs_success, "nut 1:1, 100 positives", "nut 1:2, 100 positives"),
    ],
)
def test_a_ratio_without_a_lead_that_matters_leaves_the_smaller_one_or_the_better_one(made, plant, chosen, recommended):
    comparison = made(plant)
    assert verdicts(comparison) == {"At which ratio?": "no"}
    finding, evidence = asked(comparison, "ratio?")
    assert (finding.chosen_on, evidence.treatment.label) == ("validation", chosen)
    assert finding.recommended is not None
    assert finding.recommended.label == recommended


def test_a_limit_reached_by_rounding_is_not_said_to_be_less_than_itself(tmp_path):
    contrast = SimpleNamespace(
        difference=SimpleNamespace(n_seeds=3, ci95=(-0.01, 0.01)), verdict="no", adjusted_ci=(-0.01, 0.0199), p_holm=1.0
    )
    assert _why(contrast, 1, CONFIG) == " An effect that matters (2 points) is excluded."  # type: ignore[arg-type]
    contrast.adjusted_ci = (-0.01, 0.0149)
    assert _why(contrast, 1, CONFIG).endswith("is excluded: it is at most 1.5 points.")  # type: ignore[arg-type]


def a_no_of_the_chosen_ratio(directory: Path) -> Comparison:
    arms = {"positive_only/none 0": (2000, 2000), "nut/none 100": (2000, 2010), "nut/none 200": (2000, 2000)}
    return write_arms(directory, arms, n=4000)


def a_no_of_the_chosen_ratio_and_text(directory: Path) -> Comparison:
    arms = {"positive_only/none 0": (2000, 2000), "nut/none 100": (2000, 2010), "nut/none 200": (2000, 2000)}
    return write_arms(directory, {**arms, "nat/suffix 100": (1990, 1990)}, n=4000)


@pytest.mark.parametrize("plant", [a_no_of_the_chosen_ratio, a_no_of_the_chosen_ratio_and_text])
def test_a_no_is_of_what_was_chosen(made, plant):
    finding, evidence = asked(made(plant), "failures?")
    assert (finding.verdict, finding.chosen_on) == ("no", "validation")
    assert labels(evidence) == ("nut 1:1, 100 positives", "positive_only, 100 positives")


def test_a_yes_beside_an_interval_that_holds_0_is_explained():
    arm = Arm("nat 1:1", "nat", "suffix", 100, 100, {}, ())
    contrast = Contrast(arm, arm, "test", None, 0.04, (-0.01, 0.2), "yes")  # type: ignore[arg-type]
    note = interval_note(contrast)
    assert note is not None
    assert note == (
        "nat 1:1: the interval of the family holds 0 and the verdict is yes, as the verdict is Holm's, which finds "
        "more than Bonferroni's intervals at the same rate of false verdicts."
    )
    assert interval_note(replace(contrast, adjusted_ci=(0.01, 0.2))) is None
    assert interval_note(replace(contrast, verdict="undecided")) is None


def ratios_at_two_numbers_of_successes(directory: Path) -> Comparison:
    for positives, rates in ((50, (0.1, 0.3, 0.6)), (200, (0.3, 0.6, 0.4))):
        named = {("nut", positives * ratio): rate for ratio, rate in zip((1, 2, 4), rates, strict=True)}
        write_sweep(directory / str(positives), named, n_questions=400, positives=positives)
    return compare(directory, CONFIG)


def test_every_number_of_successes_has_its_own_ratio(made):
    (finding,) = made(ratios_at_two_numbers_of_successes).findings
    assert finding.evidence is not None
    assert finding.depends
    assert finding.verdict == "yes"
    assert sorted((*labels(each), each.verdict) for each in (finding.evidence, *finding.also)) == [
        ("nut 1:2, 200 positives", "nut 1:1, 200 positives", "yes"),
        ("nut 1:4, 50 positives", "nut 1:1, 50 positives", "yes"),
    ]


def texts_of_one_seed(directory: Path) -> Comparison:
    return compare(
        write_sweep(directory, {("nut", 100): 0.2, ("nat/a", 100): 0.7, ("nat/b", 100): 0.7}, seeds=1), CONFIG
    )


def a_text_of_one_seed_among_several(directory: Path) -> Comparison:
    write_sweep(directory, {("nut", 100): 0.2, ("nat/a", 100): 0.7, ("nat/b", 100): 0.7})
    write_cell(directory / "c", "nat", "1" * 200, "0" * 200, "c", negatives=100)
    return compare(directory, CONFIG)


def test_one_seed_is_no_part_of_the_tally(made):
    """The tally itself is words: of none in the first sweep, of two arms in the second (verdicts.txt)."""
    alone, among = made(texts_of_one_seed), made(a_text_of_one_seed_among_several)
    assert [each.difference.n_seeds for each in alone.text_contrasts] == [1, 1]
    assert sorted((each.treatment.strategy, each.difference.n_seeds) for each in among.text_contrasts) == [
        ("a", 3),
        ("b", 3),
        ("c", 1),
    ]
    assert all(each.difference.difference > 0 and each.p_holm < 0.05 for each in among.text_contrasts)


# ---- what chose ----


def a_run_without_validation_answers(directory: Path) -> Comparison:
    for seed in range(3):
        write_cell(directory / f"p{seed}", "positive_only", "1000" * 10, "1000" * 10, seed=seed)
        write_cell(directory / f"a{seed}", "nut", "1100" * 10, "1110" * 10, negatives=100, seed=seed)
        given = "1100" * 10 if seed < 2 else ""
        write_cell(directory / f"b{seed}", "nut", "1100" * 10, given, negatives=400, seed=seed)
    return compare(directory, CONFIG)


def few_validation_questions(directory: Path) -> Comparison:
    for seed in range(3):
        write_cell(directory / f"p{seed}", "positive_only", "1000" * 10, "10", seed=seed)
        write_cell(directory / f"a{seed}", "nut", "1100" * 10, "11", negatives=100, seed=seed)
        write_cell(directory / f"b{seed}", "nut", "1100" * 10, "00", negatives=400, seed=seed)
    return compare(directory, CONFIG)


@pytest.mark.parametrize(
    ("plant", "n_seeds", "n_questions"),
    [(a_run_without_validation_answers, 2, 40), (few_validation_questions, 3, 2)],
)
def test_what_chose_is_counted(made, plant, n_seeds, n_questions):
    comparison = made(plant)
    finding, evidence = asked(comparison, "failures?")
    assert (finding.chosen_on, evidence.treatment.label) == ("validation", "nut 1:1, 100 positives")
    chosen = choose([arm for arm in comparison.arms if arm.method == "nut"], "test")
    assert chosen == Chosen(evidence.treatment, "validation", n_seeds, n_questions)


def test_runs_without_validation_answers_are_named(made):
    comparison = made(a_run_without_validation_answers)
    (caveat,) = [caveat for caveat in comparison.caveats if caveat.kind == "no_validation"]
    assert "(b2)" in caveat.text
    assert "half_chose" not in kinds(comparison)


def test_a_few_questions_in_common_choose_nothing():
    """One question is shared, and there `few` is better; on its own three quarters `many` is."""

    def arm(negatives: int, answers: dict[str, bool]) -> Arm:
        given = {question: Answer(success, float(success)) for question, success in answers.items()}
        run = RunResult("r", None, "completed", "nut", "none", 100, negatives, 0, {}, {"validation": given})
        return arms_of([run])[0]

    few = arm(100, {"shared": True, "a": False, "b": False, "c": False})
    many = arm(400, {"shared": False, "d": True, "e": True, "f": True})
    assert choose([few, many], "test").arm is many


# ---- methods and files of others ----


def write_external(path: Path, arms: dict[tuple[str, int | None], int]) -> Path:
    lines = [
        {
            "run": f"{method}-{negatives}-{seed}",
            "method": method,
            "seed": seed,
            "question": f"question {place}",
            "success": place < solved,
            **({} if negatives is None else {"negatives": negatives}),
        }
        for (method, negatives), solved in arms.items()
        for seed in range(3)
        for place in range(100)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def a_method_that_does_not_say(directory: Path) -> Comparison:
    return compare(
        write_external(directory / "x.jsonl", {("positive_only", None): 20, ("gpt-4-prompted", None): 90}), CONFIG
    )


def a_method_that_says(directory: Path) -> Comparison:
    return compare(
        write_external(directory / "y.jsonl", {("positive_only", None): 20, ("gpt-4-tuned", 400): 90}), CONFIG
    )


def what_others_do_not_state(directory: Path) -> Comparison:
    for seed in range(3):
        write_cell(directory / "s" / f"p{seed}", "positive_only", "1000" * 25, "1000", seed=seed)
        write_cell(directory / "s" / f"n{seed}", "nut", "1100" * 25, "1000", negatives=100, seed=seed)
    lines = [
        {"run": f"t{seed}", "method": "nat", "seed": seed, "question": f"test question {place}", "success": place < 90}
        for seed in range(3)
        for place in range(100)
    ]
    path = directory / "theirs.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return compare(directory / "s", replace(CONFIG, external=str(path)))


def test_a_method_of_others_uses_failures_only_if_it_says_so(made):
    comparison = made(a_method_that_does_not_say)
    assert comparison.findings == ()
    (caveat,) = [caveat for caveat in comparison.caveats if caveat.kind == "not_counted"]
    assert "gpt-4-prompted" in caveat.text
    finding, evidence = asked(made(a_method_that_says), "failures?")
    assert (finding.verdict, evidence.treatment.method, evidence.treatment.negatives) == ("yes", "gpt-4-tuned", 400)
    assert evidence.difference.difference == pytest.approx(0.7)


def test_what_others_do_not_state_is_put_in_words(made):
    comparison = made(what_others_do_not_state)
    told = " ".join(finding.answer for finding in comparison.findings)
    assert "NAT (text not named), from theirs.jsonl" in told
    assert "None" not in told
    assert "unnamed" not in told
    assert "not_by_nat" in kinds(comparison)


# ---- the words ----

PLANTS: list[Plant] = [
    failures_that_help,
    a_text_that_helps,
    failures_that_cost,
    an_effect_that_is_none,
    an_effect_that_is_small,
    nothing_and_little_data,
    no_validation_answers,
    one_seed_alone,
    one_lucky_run,
    one_promising_run,
    numbers_of_positives_that_disagree,
    the_smallest_ratio_is_best,
    an_effect_of_the_text_alone,
    several_successes_alone,
    a_text_of_the_successes_alone_that_is_as_good,
    a_lead_too_small_to_matter,
    a_larger_ratio_that_adds_nothing,
    a_ratio_that_costs_success,
    a_no_of_the_chosen_ratio,
    a_no_of_the_chosen_ratio_and_text,
    ratios_at_two_numbers_of_successes,
    texts_of_one_seed,
    a_text_of_one_seed_among_several,
    a_run_without_validation_answers,
    few_validation_questions,
    a_method_that_says,
    what_others_do_not_state,
]


def test_verdicts_in_words(made):
    text = ""
    for plant in PLANTS:
        text += f"{plant.__name__.replace('_', ' ').upper()}\n"
        text += "".join(f"{finding.question} {finding.answer}\n" for finding in made(plant).findings) + "\n"
    assert text == golden("verdicts.txt", text)


# ---- caveats ----


def test_a_base_that_beats_what_was_chosen_is_a_caveat(tmp_path):
    arms = {
        "base/none 0": (78, 78),
        "positive_only/none 0": (29, 29),
        "nut/none 100": (49, 49),
        "nut/none 200": (48, 48),
    }
    comparison = write_arms(tmp_path, arms, n=100)
    assert verdicts(comparison)["Use the failures?"] == "yes"
    assert kinds(comparison)[0] == "harm"
    _, evidence = asked(comparison, "failures?")
    assert evidence.treatment.label == "nut 1:1, 100 positives"
    assert "(0.780) solves 29.0 points [" in comparison.caveats[0].text


@pytest.mark.parametrize(
    ("successes", "side"),
    [((1, 2), r"next to nothing \(0\.010 and 0\.020\)"), ((99, 98), "all but everything"), ((1, 3), None)],
)
def test_a_comparison_without_room_for_a_difference_is_a_caveat(tmp_path, successes, side):
    first, second = successes
    comparison = write_arms(tmp_path, {"positive_only/none 0": (first,) * 2, "nut/none 100": (second,) * 2}, n=100)
    told = [caveat.text for caveat in comparison.caveats if caveat.kind == "no_room"]
    assert len(told) == (side is not None)
    assert side is None or re.search(side, told[0])


def two_arms(directory: Path, **of_second: object) -> Comparison:
    """Three seeds of two arms, the last run with other results."""
    for seed in range(3):
        write_cell(directory / f"p{seed}", "positive_only", "1000", "1000", seed=seed)
        other = of_second if seed == 2 else {}
        write_cell(directory / f"n{seed}", "nut", "1100", "1100", negatives=100, seed=seed, **other)  # type: ignore[arg-type]
    return compare(directory, CONFIG)


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({}, None),
        ({"leaks": ("12 questions are in both",)}, "leak"),
        ({"git": Git("fedcba9876", dirty=False)}, "commits"),
        ({"git": Git("0123456789abcdef", dirty=True)}, "uncommitted"),
        ({"versions": {"nat": "0.2.0"}}, "versions"),
        ({"trained_tokens": 1200}, "passes"),
        ({"steps": 900, "trained_tokens": 3000}, "steps"),
    ],
)
def test_what_to_mind_is_said_where_it_applies(tmp_path, changed, kind):
    assert sorted(kinds(two_arms(tmp_path, **changed))) == sorted(["few_seeds", *([kind] if kind else [])])


def missing_cells_and_other_questions(directory: Path) -> Comparison:
    for seed in range(5):
        write_cell(directory / f"p{seed}", "positive_only", "10" * 10, seed=seed)
        write_cell(directory / f"n{seed}", "nut", "10" * 9 + "1", negatives=100, seed=seed)
        write_cell(directory / f"m{seed}", "nut", "10" * 5, negatives=400, seed=seed)
    plan(directory, [f"{arm}{seed}" for arm in "pnmo" for seed in range(5)])
    return compare(directory, CONFIG)


def test_missing_cells_and_other_questions_are_caveats(made):
    comparison = made(missing_cells_and_other_questions)
    assert kinds(comparison) == ["missing_runs", "not_compared", "shared_questions"]
    assert len(comparison.missing) == 5
    assert [contrast.treatment.label for contrast in comparison.contrasts] == ["nut 1:1, 100 positives"]
    assert [contrast.difference.n_questions for contrast in comparison.contrasts] == [19]


def test_a_difference_that_is_shown_is_not_called_one_without_room(tmp_path):
    arms = {"positive_only/none 0": (0, 0), "nut/none 100": (19, 19)}
    comparison = write_arms(tmp_path, arms, n=1000)
    assert verdicts(comparison)["Use the failures?"] == "yes"
    assert "no_room" not in kinds(comparison)


def episodes_that_broke(directory: Path) -> Comparison:
    cell = write_cell(directory / "p", "positive_only", "100")
    outcomes = cell / "outcomes.csv"
    outcomes.write_text(outcomes.read_text().replace("wrong_answer", "infrastructure"))
    return compare(directory, CONFIG)


def test_episodes_that_broke_are_a_caveat(made):
    assert "infrastructure" in kinds(made(episodes_that_broke))


def everything_to_mind(directory: Path) -> Comparison:
    two_arms(
        directory,
        leaks=("12 questions are in both",),
        git=Git("fedcba9876", dirty=True),
        versions={"nat": "0.2.0"},
        trained_tokens=1200,
    )
    write_cell(directory / "b", "base", "1111", "1111")
    return compare(directory, CONFIG)


def other_steps(directory: Path) -> Comparison:
    return two_arms(directory, steps=900, trained_tokens=3000)


def no_room(directory: Path) -> Comparison:
    return write_arms(directory, {"positive_only/none 0": (1, 1), "nut/none 100": (2, 2)}, n=100)


def test_caveats_in_words(made):
    plants: list[Plant] = [
        everything_to_mind,
        other_steps,
        no_room,
        one_seed_alone,
        one_lucky_run,
        no_validation_answers,
        a_run_without_validation_answers,
        a_method_that_does_not_say,
        what_others_do_not_state,
        missing_cells_and_other_questions,
        episodes_that_broke,
    ]
    text = ""
    for plant in plants:
        text += f"{plant.__name__.replace('_', ' ').upper()}\n"
        text += "".join(f"{caveat.kind}: {caveat.text}\n" for caveat in made(plant).caveats) + "\n"
    assert text == golden("caveats.txt", text)
    told = {caveat.kind for plant in plants for caveat in made(plant).caveats}
    assert told == set(get_args(CaveatKind)) - {
        "note"
    }  # notes are the readers' of runs: test_results.py, test_external.py
