from pathlib import Path

import numpy as np
import pytest

from nat.comparison import Answer, Comparison, ReportConfig, RunResult, arms_of
from nat.findings import choosing_half, findings_of
from nat.report import compare, standard
from tests.sweeps_for_tests import plan, planted, write_cell, write_sweep

CONFIG: ReportConfig = standard()


def verdicts(comparison: Comparison) -> dict[str, str]:
    return {finding.question: finding.verdict for finding in comparison.findings}


def answer(comparison: Comparison, question: str) -> str:
    (found,) = [finding.answer for finding in comparison.findings if finding.question.endswith(question)]
    return found


# ---- planted effects ----


def test_a_planted_effect_of_the_failures_is_found(tmp_path):
    rates = {("positive_only", 0): 0.3, ("nut", 100): 0.45, ("nut", 400): 0.7, ("nat", 400): 0.7}
    comparison = compare(write_sweep(tmp_path / "s", rates, n_questions=400), CONFIG)
    assert verdicts(comparison)["Use the failures?"] == "yes"
    assert verdicts(comparison)["At which ratio?"] == "yes"
    assert verdicts(comparison)["With which text?"] != "yes"
    told = answer(comparison, "failures?")
    assert told.startswith("Yes. N")
    assert ", best on validation, solves 0." in told
    assert " more than the successes alone (0." in told
    assert "; 3 seeds, 400 questions, adjusted p" in told
    ratio = answer(comparison, "ratio?")
    assert ratio.startswith("1:4. NUT with 1:4 (100 + 400), best on validation, solves")
    assert " more than 1:1 (0." in ratio
    assert "It is the largest ratio tried." in ratio


def test_a_planted_text_is_found(tmp_path):
    rates = {("positive_only", 0): 0.3, ("nut", 400): 0.4, ("nat/inverse", 400): 0.2, ("nat/prefix_good", 400): 0.65}
    comparison = compare(write_sweep(tmp_path / "s", rates, n_questions=400), CONFIG)
    assert verdicts(comparison) == {"Use the failures?": "yes", "With which text?": "yes"}
    told = answer(comparison, "text?")
    assert told.startswith("prefix_good. NAT (prefix_good) with 1:4 (100 + 400), best on validation, solves")
    assert "than the same without a mark (0." in told
    assert told.endswith(
        "Of all 2 arms with a text 1 are ahead of the same without and 1 behind, 1 and 1 beyond chance (adjusted)."
    )


def test_failures_that_cost_success_are_a_no(tmp_path):
    rates = {("positive_only", 0): 0.7, ("nut", 100): 0.3, ("nut", 200): 0.3}
    comparison = compare(write_sweep(tmp_path / "s", rates, n_questions=400), CONFIG)
    assert verdicts(comparison)["Use the failures?"] == "no"
    told = answer(comparison, "failures?")
    assert told.startswith("No: they cost success. NUT with 1:")
    assert "] less than the successes alone" in told
    assert "An effect that matters (2 points) is excluded: it is at most 0.0 points." in told


def test_an_effect_too_small_to_matter_is_a_no(tmp_path):
    for seed in range(4):
        solved = np.arange(2000) % 2
        write_cell(tmp_path / f"p{seed}", "positive_only", solved, seed=seed)
        solved[[2 * seed, 2 * seed + 1]] = 1, 0  # each seed gains one question and loses another
        write_cell(tmp_path / f"n{seed}", "nut", solved, negatives=100, seed=seed)
    comparison = compare(tmp_path, CONFIG)
    assert verdicts(comparison) == {"Use the failures?": "no"}
    told = answer(comparison, "failures?")
    assert told.startswith("No. NUT with 1:1 (100 + 100) solves 0.")  # one candidate: nothing was chosen
    assert "An effect that matters (2 points) is excluded: it is at most 0." in told


def test_a_certain_effect_that_is_too_small_to_matter_says_so(tmp_path):
    for seed in range(4):
        solved = np.arange(2000) % 2
        write_cell(tmp_path / f"p{seed}", "positive_only", solved, seed=seed)
        solved[:40:2] = 1  # twenty questions of 2000 more
        write_cell(tmp_path / f"n{seed}", "nut", solved, negatives=100, seed=seed)
    told = answer(compare(tmp_path, CONFIG), "failures?")
    assert told.startswith("Yes. NUT with 1:1 (100 + 100) solves 0.510 of the test questions, 1.0 points [0.")
    assert told.endswith("It is there, but smaller than what matters (2 points).")


def test_nothing_planted_and_little_data_is_undecided(tmp_path):
    rates = {("positive_only", 0): 0.5, ("nut", 100): 0.5, ("nat", 100): 0.5}
    comparison = compare(write_sweep(tmp_path / "s", rates, seed_sd=0.02), CONFIG)
    assert verdicts(comparison) == {"Use the failures?": "undecided", "With which text?": "undecided"}
    told = answer(comparison, "failures?")
    assert told.startswith("Undecided. ")
    assert "As these runs vary, a true gain of 2 points would take" in told


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
    assert not any("chose" in line for line in comparison.caveats)


def test_without_validation_answers_half_of_the_questions_choose(tmp_path):
    rates = {("positive_only", 0): 0.3, ("nut", 100): 0.5, ("nut", 400): 0.7}
    sweep = write_sweep(tmp_path / "s", rates, n_questions=400, validation=False)
    comparison = compare(sweep, CONFIG)
    told = answer(comparison, "failures?")
    assert ", best on one half of the questions, solves 0." in told
    assert "of the other half of the test questions" in told
    asked = list(comparison.runs[0].answers["test"])
    stating = sum(not choosing_half(question) for question in asked)
    assert 150 < stating < 250
    assert f"3 seeds, {stating} questions, adjusted p" in told
    assert (
        "No validation answers to choose on: half of the test questions (by hash) chose what is best, the other half "
        "states its effect." in comparison.caveats
    )
    # The table of arms chooses nothing and keeps all questions.
    assert {contrast.difference.n_questions for contrast in comparison.contrasts} == {400}


def test_one_seed_never_decides(tmp_path):
    for name, method, negatives, test in (("p", "positive_only", 0, "0" * 100), ("n", "nut", 100, "1" * 100)):
        write_cell(tmp_path / name, method, test, negatives=negatives)
    comparison = compare(tmp_path, CONFIG)
    assert verdicts(comparison) == {"Use the failures?": "undecided"}
    assert answer(comparison, "failures?") == (
        "Undecided. NUT with 1:1 (100 + 100) solves 1.000 of the test questions, 100.0 points [94.7, 100.0] more than "
        "the successes alone (0.000; 1 seed, 100 questions, p < 0.001). That is these runs only: one training seed "
        "does not show what another would give."
    )
    assert comparison.caveats[0].startswith("One training seed: ")


def test_one_lucky_run_does_not_take_a_verdict_away(tmp_path):
    rates = {("positive_only", 0): 0.3, ("nut", 100): 0.7}
    sweep = write_sweep(tmp_path / "s", rates, n_questions=400)
    write_cell(sweep / "lucky", "nut", "1" * 400, "1" * 400, negatives=400)
    comparison = compare(sweep, CONFIG)
    told = answer(comparison, "failures?")
    assert told.startswith("Yes. NUT with 1:1 (100 + 100), best on validation, solves")
    assert told.endswith(" NUT with 1:4 (100 + 400) did better still, but with one seed only.")
    assert "1 of 3 arms have one training seed: their comparisons are undecided." in comparison.caveats


def test_a_partial_sweep_says_no_to_nothing_that_one_seed_promises(tmp_path):
    rates = {("positive_only", 0): 0.7, ("nut", 100): 0.3}
    sweep = write_sweep(tmp_path / "s", rates, n_questions=400)
    assert verdicts(compare(sweep, CONFIG)) == {"Use the failures?": "no"}
    write_cell(sweep / "promising", "nut", "1" * 400, "1" * 400, negatives=400)
    told = answer(compare(sweep, CONFIG), "failures?")
    assert told.startswith(
        "Undecided. NUT with 1:4 (100 + 400), best on validation, solves 1.000 of the test questions,"
    )
    assert "1 seed, 400 questions" in told


def test_a_single_seed_elsewhere_leaves_each_level_its_own_answer(tmp_path):
    write_sweep(tmp_path / "few", {("positive_only", 0): 0.1, ("nut", 400): 0.5}, n_questions=400, positives=50)
    rates = {("positive_only", 0): 0.6, ("nut", 1600): 0.6}
    write_sweep(tmp_path / "many", rates, seeds=1, n_questions=400, positives=200)
    (finding,) = compare(tmp_path, CONFIG).findings
    assert finding.evidence is not None
    arms = [contrast.treatment.label for contrast in (finding.evidence, *finding.also)]
    assert arms == ["nut 1:8, 200 positives", "nut 1:8, 50 positives"]
    assert finding.answer.startswith("It depends: with 200 successes undecided, with 50 successes yes.")


def test_in_a_partial_sweep_the_seeds_that_all_have_choose(tmp_path):
    for seed in range(3):
        write_cell(tmp_path / f"p{seed}", "positive_only", "1000", "1000", seed=seed)
        write_cell(tmp_path / f"a{seed}", "nut", "1100", "1110" if seed < 2 else "0000", negatives=100, seed=seed)
        if seed < 2:
            write_cell(tmp_path / f"b{seed}", "nut", "1100", "1100", negatives=400, seed=seed)
    assert "NUT with 1:1 (100 + 100), best on validation" in answer(compare(tmp_path, CONFIG), "failures?")


def test_where_numbers_of_positives_disagree_the_verdict_says_so(tmp_path):
    write_sweep(tmp_path / "few", {("positive_only", 0): 0.1, ("nut", 400): 0.5}, n_questions=400, positives=50)
    write_sweep(tmp_path / "many", {("positive_only", 0): 0.6, ("nut", 1600): 0.6}, n_questions=400, positives=200)
    comparison = compare(tmp_path, CONFIG)
    told = answer(comparison, "failures?")
    assert told.startswith(
        "It depends: with 200 successes undecided, with 50 successes yes. NUT with 1:8 (200 + 1600), best on validation"
    )
    assert "With 50 successes: yes (NUT with 1:8 (50 + 400), +" in told
    (finding,) = comparison.findings
    assert (finding.verdict, [contrast.verdict for contrast in finding.also]) == ("undecided", ["yes"])


def test_questions_that_the_runs_do_not_hold_are_left_out(tmp_path):
    write_sweep(tmp_path / "texts", {("nut", 100): 0.5, ("nat", 100): 0.5, ("nat/prefix", 100): 0.5}, seeds=2)
    assert list(verdicts(compare(tmp_path / "texts", CONFIG))) == ["With which text?"]
    write_sweep(tmp_path / "alone", {("positive_only", 0): 0.5, ("base", 0): 0.1}, seeds=2)
    assert verdicts(compare(tmp_path / "alone", CONFIG)) == {}


def test_where_the_smallest_ratio_is_best_it_is_held_against_the_next(tmp_path):
    rates = {("nut", 100): 0.7, ("nut", 200): 0.4, ("nut", 400): 0.4}
    comparison = compare(write_sweep(tmp_path / "s", rates, n_questions=400), CONFIG)
    assert verdicts(comparison) == {"At which ratio?": "yes"}
    assert answer(comparison, "ratio?").startswith("1:1. NUT with 1:1 (100 + 100), best on validation, solves")
    assert " more than 1:2 (0." in answer(comparison, "ratio?")


# ---- caveats ----


def two_arms(directory: Path, **of_second: object) -> Comparison:
    """Three seeds of two arms, the last run with other results."""
    for seed in range(3):
        write_cell(directory / f"p{seed}", "positive_only", "1000", "1000", seed=seed)
        other = of_second if seed == 2 else {}
        write_cell(directory / f"n{seed}", "nut", "1100", "1100", negatives=100, seed=seed, **other)  # type: ignore[arg-type]
    return compare(directory, CONFIG)


@pytest.mark.parametrize(
    ("changed", "caveat"),
    [
        ({}, None),
        ({"leaks": ["12 questions are in both"]}, "Leak in the data: 12 questions are in both (1 of 6 runs)"),
        ({"git": {"commit": "fedcba9876", "dirty": False}}, "The runs were made at 2 commits (0123456, fedcba9)."),
        (
            {"git": {"commit": "0123456789abcdef", "dirty": True}},
            "1 of 6 runs were made with uncommitted changes in the working directory.",
        ),
        ({"versions": {"nat": "0.2.0"}}, "The runs used different versions of nat: 0.1.0, 0.2.0."),
        (
            {"trained_tokens": 1200},
            "Equal steps (300), not equal passes: 1,000 to 1,200 trained tokens a run.",
        ),
        (
            {"steps": 900, "trained_tokens": 3000},
            "Not equal steps: 300 to 900 a run, 1,000 to 3,000 trained tokens.",
        ),
    ],
)
def test_what_to_mind_is_said_where_it_applies(tmp_path, changed, caveat):
    comparison = two_arms(tmp_path, **changed)
    few = "3 training seeds are few: intervals allow for it (Student's t) and are wide."
    assert sorted(comparison.caveats) == sorted([few, *([caveat] if caveat else [])])


def test_missing_cells_and_other_questions_are_caveats(tmp_path):
    for seed in range(5):
        write_cell(tmp_path / f"p{seed}", "positive_only", "1" * 20, seed=seed)
        write_cell(tmp_path / f"n{seed}", "nut", "1" * 19, negatives=100, seed=seed)
        write_cell(tmp_path / f"m{seed}", "nut", "1" * 10, negatives=400, seed=seed)
    plan(tmp_path, [f"{arm}{seed}" for arm in "pnmo" for seed in range(5)])
    comparison = compare(tmp_path, CONFIG)
    assert comparison.caveats == (
        "5 of 20 runs are missing (listed at the end): the comparison may change when they are there.",
        "nut 1:4, 100 positives is not compared with positive_only, 100 positives: they share 10 of 20 test questions.",
        "1 of 1 comparisons are on the questions that both sides answered; up to 1 questions are left out of one.",
    )
    assert [contrast.treatment.label for contrast in comparison.contrasts] == ["nut 1:1, 100 positives"]


def test_episodes_that_broke_are_a_caveat(tmp_path):
    cell = write_cell(tmp_path / "p", "positive_only", "100")
    outcomes = cell / "outcomes.csv"
    outcomes.write_text(outcomes.read_text().replace("wrong_answer", "infrastructure"))
    assert (
        "2 episodes broke for reasons that are not the policy's (infrastructure); they count as unsolved."
        in compare(tmp_path, CONFIG).caveats
    )
