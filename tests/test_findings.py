import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nat.comparison.arms import arms_of
from nat.comparison.compare import compare
from nat.comparison.config import ReportConfig
from nat.comparison.types import Arm, Comparison, Contrast, RunResult
from nat.comparison.verdict import _why, choose, choosing_half, findings_of, interval_note
from nat.core.questions import question_id
from nat.reporting.write import standard
from nat.runs.outcomes import Answer
from nat.runs.results import Git
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
    assert told.startswith("No: they cost success at the ratio that validation chose. NUT with 1:")
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
    # One candidate: nothing was chosen.
    assert told.startswith("No: no gain of 2 points or more. NUT with 1:1 (100 + 100) solves 0.")
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
    assert "As these 3 seeds vary, a true gain of 2 points would take " in told
    assert told.endswith(" to be seen in 80% of such sweeps.")


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


def test_the_half_that_states_does_not_choose(tmp_path):
    """One arm solves the half that chooses and nothing else, the other solves the other half and half of the first."""
    asked = [choosing_half(question_id(f"test question {place}")) for place in range(400)]
    for seed in range(3):
        write_cell(tmp_path / f"p{seed}", "positive_only", [0] * 400, seed=seed)
        write_cell(tmp_path / f"a{seed}", "nut", [int(chooses) for chooses in asked], negatives=100, seed=seed)
        other = [int(not chooses or place % 2 == 0) for place, chooses in enumerate(asked)]
        write_cell(tmp_path / f"b{seed}", "nut", other, negatives=400, seed=seed)
    told = answer(compare(tmp_path, CONFIG), "failures?")
    assert "NUT with 1:1 (100 + 100), best on one half of the questions, solves 0.000 of the other half" in told


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


def test_an_effect_of_the_text_alone_is_no_effect_of_the_failures(tmp_path):
    """The text adds 15 points with failures or without; the failures add none."""
    rates = {("positive_only", 0): 0.45, ("positive_only/suffix", 0): 0.6, ("nut", 400): 0.45, ("nat", 400): 0.6}
    comparison = compare(write_sweep(tmp_path / "s", rates, n_questions=400), CONFIG)
    assert verdicts(comparison)["Use the failures?"] != "yes"
    evidence = comparison.findings[0].evidence
    assert evidence is not None
    assert evidence.reference.label == "positive_only suffix, 100 positives"
    told = answer(comparison, "failures?")
    assert "than the successes alone (suffix) (0.5" in told
    assert re.search(
        r" It is held against what did best of the successes alone on validation; it solves 1\d\.\d points \[[^]]+\] "
        r"more than the successes alone \(0\.4\d\d; the interval by itself\)\.",
        told,
    )


def test_the_failures_are_held_against_what_validation_takes_of_the_successes_alone(tmp_path):
    arms = {"positive_only/none 0": (80, 81), "positive_only/suffix 0": (80, 82), "nut/none 100": (200, 200)}
    comparison = write_arms(tmp_path, arms)
    (evidence,) = [finding.evidence for finding in comparison.findings]
    assert evidence is not None
    assert (evidence.reference.strategy, evidence.verdict, evidence.difference.difference) == ("suffix", "yes", 0.3)
    assert (
        "more than the successes alone (suffix) (0.200; 3 seeds, 400 questions, p < 0.001). It is held against what "
        "did best of the successes alone on validation; it solves 30.0 points" in answer(comparison, "failures?")
    )


def test_a_yes_holds_against_every_text_of_the_successes_alone(tmp_path):
    """On validation the plain successes alone did better; on test those with the text solve as much as the failures."""
    arms = {"positive_only/none 0": (80, 90), "positive_only/suffix 0": (200, 80), "nut/none 100": (200, 200)}
    comparison = write_arms(tmp_path, arms)
    (evidence,) = [finding.evidence for finding in comparison.findings]
    assert evidence is not None
    assert (evidence.reference.strategy, evidence.difference.difference) == ("suffix", 0.0)
    assert evidence.verdict != "yes"
    assert re.search(
        r" It solves 30\.0 points \[[^]]+\] more than the successes alone \(0\.200; the interval by itself\), but a "
        r"yes has to hold against all of the successes alone\.",
        answer(comparison, "failures?"),
    )


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
    for finding in compare(tmp_path, CONFIG).findings:
        assert ", adjusted p = " in finding.answer.partition("With 50 successes: ")[2].partition(").")[0]


def test_a_lead_too_small_to_matter_leaves_the_smaller_ratio(tmp_path):
    """1:1 was best on validation and is held against 1:2; that it is not 2 points ahead is no word for 1:2."""
    comparison = write_arms(tmp_path, {"nut/none 100": (2000, 2100), "nut/none 200": (2000, 2000)}, n=4000)
    (finding,) = comparison.findings
    assert (finding.question, finding.verdict) == ("At which ratio?", "no")
    assert finding.answer.startswith("1:1 will do. NUT with 1:1 (100 + 100), best on validation, solves 0.500")


def test_a_larger_ratio_that_adds_nothing_leaves_the_smaller_one(tmp_path):
    comparison = write_arms(tmp_path, {"nut/none 100": (2000, 2000), "nut/none 200": (2000, 2100)}, n=4000)
    assert answer(comparison, "ratio?").startswith("1:1 will do. NUT with 1:2 (100 + 200), best on validation,")


def test_a_ratio_that_costs_success_leaves_the_other_one(tmp_path):
    comparison = write_arms(tmp_path, {"nut/none 100": (1000, 2100), "nut/none 200": (2000, 2000)}, n=4000)
    assert answer(comparison, "ratio?").startswith("1:2 is better. NUT with 1:1 (100 + 100), best on validation,")


def test_a_limit_reached_by_rounding_is_not_said_to_be_less_than_itself(tmp_path):
    contrast = SimpleNamespace(
        difference=SimpleNamespace(n_seeds=3, ci95=(-0.01, 0.01)), verdict="no", adjusted_ci=(-0.01, 0.0199), p_holm=1.0
    )
    assert _why(contrast, 1, CONFIG) == " An effect that matters (2 points) is excluded."  # type: ignore[arg-type]
    contrast.adjusted_ci = (-0.01, 0.0149)
    assert _why(contrast, 1, CONFIG).endswith("is excluded: it is at most 1.5 points.")  # type: ignore[arg-type]


def test_a_no_is_of_what_was_chosen(tmp_path):
    arms = {"positive_only/none 0": (2000, 2000), "nut/none 100": (2000, 2010), "nut/none 200": (2000, 2000)}
    assert answer(write_arms(tmp_path / "a", arms, n=4000), "failures?").startswith(
        "No: no gain of 2 points or more at the ratio that validation chose. NUT with 1:1 (100 + 100), best on"
    )
    arms["nat/suffix 100"] = (1990, 1990)
    assert answer(write_arms(tmp_path / "b", arms, n=4000), "failures?").startswith(
        "No: no gain of 2 points or more at the ratio and text that validation chose. "
    )


def test_a_yes_beside_an_interval_that_holds_0_is_explained():
    arm = Arm("nat 1:1", "nat", "suffix", 100, 100, {}, ())
    contrast = Contrast(arm, arm, "test", None, 0.04, (-0.01, 0.2), "yes")  # type: ignore[arg-type]
    assert interval_note(contrast) == (
        "nat 1:1: the interval of the family holds 0 and the verdict is yes, as the verdict is Holm's, which finds "
        "more than Bonferroni's intervals at the same rate of false verdicts."
    )
    assert interval_note(replace(contrast, adjusted_ci=(0.01, 0.2))) is None
    assert interval_note(replace(contrast, verdict="undecided")) is None


def test_the_largest_ratio_tried_is_said_at_every_number_of_successes(tmp_path):
    for positives, rates in ((50, (0.1, 0.3, 0.6)), (200, (0.3, 0.6, 0.4))):
        named = {("nut", positives * ratio): rate for ratio, rate in zip((1, 2, 4), rates, strict=True)}
        write_sweep(tmp_path / str(positives), named, n_questions=400, positives=positives)
    told = answer(compare(tmp_path, CONFIG), "ratio?")
    assert re.search(r"^It depends: with \d+ successes 1:[24], with \d+ successes 1:[24]\. ", told)
    assert "1:4 is the largest ratio tried." in told or "It is the largest ratio tried." in told
    assert told.count("largest ratio tried") == 1
    assert "s lead over" not in told
    assert " more than 1:2" in told
    assert " more than 1:4" in told
    (finding,) = compare(tmp_path, CONFIG).findings
    assert finding.depends
    assert finding.verdict == "yes"


def test_one_seed_is_no_part_of_the_tally(tmp_path):
    rates = {("nut", 100): 0.2, ("nat/a", 100): 0.7, ("nat/b", 100): 0.7}
    assert "Of all" not in answer(compare(write_sweep(tmp_path / "one", rates, seeds=1), CONFIG), "text?")
    sweep = write_sweep(tmp_path / "s", rates)
    write_cell(sweep / "c", "nat", "1" * 200, "0" * 200, "c", negatives=100)
    told = answer(compare(sweep, CONFIG), "text?")
    assert "Of all 2 arms with a text and several seeds 2 are ahead of the same without and 0 behind, 2 and 0" in told


# ---- what chose ----


def test_runs_without_validation_answers_do_not_choose_and_are_named(tmp_path):
    for seed in range(3):
        write_cell(tmp_path / f"p{seed}", "positive_only", "1000" * 10, "1000" * 10, seed=seed)
        write_cell(tmp_path / f"a{seed}", "nut", "1100" * 10, "1110" * 10, negatives=100, seed=seed)
        given = "1100" * 10 if seed < 2 else ""
        write_cell(tmp_path / f"b{seed}", "nut", "1100" * 10, given, negatives=400, seed=seed)
    comparison = compare(tmp_path, CONFIG)
    told = answer(comparison, "failures?")
    assert "NUT with 1:1 (100 + 100), best on validation, solves" in told
    assert " It was chosen on 2 seeds, 40 questions." in told
    assert "1 of 9 runs has no validation answers (b2): the seeds that all arms have them of choose." in (
        comparison.caveats
    )
    assert not any("half of the" in line for line in comparison.caveats)


def test_few_validation_questions_are_said(tmp_path):
    for seed in range(3):
        write_cell(tmp_path / f"p{seed}", "positive_only", "1000" * 10, "10", seed=seed)
        write_cell(tmp_path / f"a{seed}", "nut", "1100" * 10, "11", negatives=100, seed=seed)
        write_cell(tmp_path / f"b{seed}", "nut", "1100" * 10, "00", negatives=400, seed=seed)
    assert " It was chosen on 3 seeds, 2 questions." in answer(compare(tmp_path, CONFIG), "failures?")


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


def test_a_method_of_others_uses_failures_only_if_it_says_so(tmp_path):
    path = write_external(tmp_path / "x.jsonl", {("positive_only", None): 20, ("gpt-4-prompted", None): 90})
    comparison = compare(path, CONFIG)
    assert comparison.findings == ()
    assert any(
        line == "No verdict counts gpt-4-prompted: it is not said to be trained on failures (`negatives` above 0)."
        for line in comparison.caveats
    )
    path = write_external(tmp_path / "y.jsonl", {("positive_only", None): 20, ("gpt-4-tuned", 400): 90})
    told = answer(compare(path, CONFIG), "failures?")
    assert told.startswith("Yes. Method gpt-4-tuned with 400 failures solves 0.900 of the test questions, 70.0 points")


def test_what_others_do_not_state_is_put_in_words(tmp_path):
    for seed in range(3):
        write_cell(tmp_path / "s" / f"p{seed}", "positive_only", "1000" * 25, "1000", seed=seed)
        write_cell(tmp_path / "s" / f"n{seed}", "nut", "1100" * 25, "1000", negatives=100, seed=seed)
    lines = [
        {"run": f"t{seed}", "method": "nat", "seed": seed, "question": f"test question {place}", "success": place < 90}
        for seed in range(3)
        for place in range(100)
    ]
    path = tmp_path / "theirs.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    comparison = compare(tmp_path / "s", replace(CONFIG, external=str(path)))
    told = " ".join(finding.answer for finding in comparison.findings)
    assert "NAT (text not named), from theirs.jsonl" in told
    assert "None" not in told
    assert "unnamed" not in told
    assert (
        "3 of 9 runs were not made by nat (theirs.jsonl): their settings, and what counts the file does not state, are "
        "not known, so what differs may be more than the method." in comparison.caveats
    )


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
    assert re.fullmatch(
        r"The untrained model \(0\.780\) solves 29\.0 points \[[\d., ]+\] more than NUT with 1:1 \(100 \+ 100\) "
        r"\(0\.490\): this training lowers success\.",
        comparison.caveats[0],
    )


@pytest.mark.parametrize(
    ("successes", "side"),
    [((1, 2), r"next to nothing \(0\.010 and 0\.020\)"), ((99, 98), "all but everything"), ((1, 3), None)],
)
def test_a_comparison_without_room_for_a_difference_is_a_caveat(tmp_path, successes, side):
    first, second = successes
    comparison = write_arms(tmp_path, {"positive_only/none 0": (first,) * 2, "nut/none 100": (second,) * 2}, n=100)
    told = [line for line in comparison.caveats if line.startswith("Both sides")]
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
    ("changed", "caveat"),
    [
        ({}, None),
        ({"leaks": ("12 questions are in both",)}, "Leak in the data: 12 questions are in both (1 of 6 runs)"),
        ({"git": Git("fedcba9876", dirty=False)}, "The runs were made at 2 commits (0123456, fedcba9)."),
        (
            {"git": Git("0123456789abcdef", dirty=True)},
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
        write_cell(tmp_path / f"p{seed}", "positive_only", "10" * 10, seed=seed)
        write_cell(tmp_path / f"n{seed}", "nut", "10" * 9 + "1", negatives=100, seed=seed)
        write_cell(tmp_path / f"m{seed}", "nut", "10" * 5, negatives=400, seed=seed)
    plan(tmp_path, [f"{arm}{seed}" for arm in "pnmo" for seed in range(5)])
    comparison = compare(tmp_path, CONFIG)
    assert comparison.caveats == (
        "5 of 20 runs are missing (named below): the comparison may change when they are there.",
        "nut 1:4, 100 positives is not compared with positive_only, 100 positives: they share 10 of 20 test questions.",
        "1 of 1 comparisons are on the questions that both sides answered; up to 1 questions are left out of one.",
    )
    assert [contrast.treatment.label for contrast in comparison.contrasts] == ["nut 1:1, 100 positives"]


def test_a_difference_that_is_shown_is_not_called_one_without_room(tmp_path):
    arms = {"positive_only/none 0": (0, 0), "nut/none 100": (19, 19)}
    comparison = write_arms(tmp_path, arms, n=1000)
    assert verdicts(comparison)["Use the failures?"] == "yes"
    assert not [line for line in comparison.caveats if "next to nothing" in line]


def test_episodes_that_broke_are_a_caveat(tmp_path):
    cell = write_cell(tmp_path / "p", "positive_only", "100")
    outcomes = cell / "outcomes.csv"
    outcomes.write_text(outcomes.read_text().replace("wrong_answer", "infrastructure"))
    assert (
        "2 episodes broke for reasons that are not the policy's (infrastructure); they count as unsolved."
        in compare(tmp_path, CONFIG).caveats
    )
