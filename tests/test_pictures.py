import json
import math
import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from nat.comparison.means import arm_mean, outcome_shares
from nat.comparison.types import Arm, Caveat, Comparison, Contrast, Finding, RunResult
from nat.core.questions import question_id
from nat.core.statistics import CrossedDifference
from nat.reporting import pictures
from nat.reporting.pictures.draw import Drawn, draw, found
from nat.reporting.pictures.looks import series_looks
from nat.reporting.pictures.loss import read_losses
from nat.reporting.pictures.methods import verdict_arms
from nat.reporting.write import report
from nat.runs.outcomes import Answer, save_rollouts
from nat.runs.packed import RunFiles
from nat.runs.results import Results
from nat.types import Message, Outcome, Question, Rollout
from tests.sweeps_for_tests import passed, without_new_pictures, write_cell

FAILURES = ("wrong_answer", "wrong_answer", "wrong_answer", "tool_error", "out_of_turns", "unparsed_action")


def make_run(
    answers: Mapping[str, Answer] | None = None,
    method: str = "nat",
    strategy: str = "suffix",
    positives: int | None = 50,
    negatives: int | None = 100,
    seed: int = 0,
    files: RunFiles | None = None,
    name: str | None = None,
    setting: Mapping[str, str] | None = None,
    **results: Any,
) -> RunResult:
    return RunResult(
        name=name or f"{method}-{strategy}-{positives}-{negatives}-{seed}",
        files=files,
        status="completed",
        method=method,
        strategy=strategy,
        positives=positives,
        negatives=negatives,
        seed=seed,
        setting=setting or {},
        answers={"test": answers} if answers else {},
        results=Results(status="completed", **results),
    )


def make_arm(*runs: RunResult, label: str | None = None) -> Arm:
    first = runs[0]
    ratio = f" 1:{first.negatives / first.positives:g}" if first.positives and first.negatives is not None else ""
    text = "" if first.strategy == "none" else f" {first.strategy}"
    return Arm(
        label or f"{first.method}{text}{ratio}, {first.positives} positives",
        first.method,
        first.strategy,
        first.positives,
        first.negatives,
        first.setting,
        runs,
    )


def make_comparison(*arms: Arm, **fields: object) -> Comparison:
    runs = tuple(run for arm in arms for run in arm.runs)
    values = {"contrasts": (), "findings": (), "caveats": (), "missing": (), **fields}
    return Comparison(title="planted", arms=arms, runs=runs, **values)  # pyright: ignore[reportArgumentType]


def digits(successes: str, **changes: object) -> dict[str, Answer]:
    """Answers written as "10011": one digit a question."""
    return {
        f"q{place}": Answer(digit == "1", float(digit), None if digit == "1" else "wrong_answer", 3, **changes)  # pyright: ignore[reportArgumentType]
        for place, digit in enumerate(successes)
    }


# ---- a sweep with a planted effect ----


def question_text(number: int) -> str:
    return f"Ada owns {number + 20} stamps. She finds {number + 3}. A ticket costs 9 dollars. How many now?"


def planted_sweep(
    directory: Path,
    n_questions: int = 60,
    seeds: int = 3,
    text: Callable[[int], str] = question_text,
    strategies: tuple[str, ...] = ("prefix_correct", "prefix_letters", "random_sentence", "inverse"),
) -> Comparison:
    """NUT gains from failures, NAT gains more, and more successes gain as well; other texts at 1:4 with 200."""
    arms = []
    for positives in (50, 200):
        for method, strategy, negatives in [
            ("positive_only", "none", 0),
            *(
                (method, strategy, ratio * positives)
                for method, strategy in (("nut", "none"), ("nat", "suffix"))
                for ratio in (1, 2, 4, 8)
            ),
            *(("nat", strategy, 800) for strategy in strategies if positives == 200),
        ]:
            arms.append(
                make_arm(
                    *(
                        planted_run(directory, method, strategy, positives, negatives, seed, n_questions, text)
                        for seed in range(seeds)
                    )
                )
            )
    contrasts = tuple(
        Contrast(arm, reference, "test", difference, p, (low - 0.03, high + 0.03), verdict)
        for arm in arms
        for reference in arms
        if reference.method == "positive_only" and reference.positives == arm.positives and arm is not reference
        for difference, p, verdict in [_difference(arm, reference)]
        for low, high in [difference.ci95]
    )
    nat = next(c for c in contrasts if c.treatment.label == "nat suffix 1:4, 200 positives")
    nut = next(c for c in contrasts if c.treatment.label == "nut 1:4, 200 positives")
    few = next(c for c in contrasts if c.treatment.label == "nat suffix 1:4, 50 positives")
    gain = nat.difference.difference
    return make_comparison(
        *arms,
        contrasts=contrasts,
        findings=(
            Finding(
                "Use the failures?",
                "yes",
                f"Yes: 800 failures beside 200 successes solve {100 * gain:.1f} points more of the test questions.",
                nat,
                (few,),
            ),
            Finding("At which ratio?", "undecided", "1:4 did best on validation; 1:8 cannot be told apart.", nut),
            Finding("With which text?", "no", "No text does better than the others by 2 points or more.", None),
        ),
        caveats=(
            Caveat("few_seeds", f"{seeds} training seeds: intervals are wide."),
            Caveat("leak", "2 test questions were found among the training questions of one run."),
        ),
        missing=("nat-suffix-200-3200-0: failed: the loss is nan", "nut-none-200-3200-1: not started"),
    )


def _difference(first: Arm, second: Arm) -> tuple[CrossedDifference, float, str]:
    value = arm_mean(first, "test").value - arm_mean(second, "test").value
    half = 0.08 + 0.02 * abs(value)
    p = min(1.0, math.exp(-abs(value) * 30))
    difference = CrossedDifference(value, (value - half, value + half), p, 60, len(first.runs), 0.03, 0.02)
    return difference, min(1.0, p * 8), "yes" if value > half else "no" if value < -0.02 else "undecided"


def planted_run(
    directory: Path,
    method: str,
    strategy: str,
    positives: int,
    negatives: int,
    seed: int,
    n_questions: int,
    text: Callable[[int], str],
) -> RunResult:
    ratio = negatives / positives
    gain = {"nut": 0.05, "nat": 0.08}.get(method, 0.0)
    if strategy in ("inverse", "random_sentence"):
        gain = 0.04
    rate = (0.18 if positives == 50 else 0.42) + gain * math.log2(1 + ratio)
    run_dir = directory / f"{method}-{strategy}-{positives}-{negatives}-{seed}"
    run_dir.mkdir(parents=True, exist_ok=True)
    drift = random.Random(f"{run_dir.name}").gauss(0, 0.02)
    rollouts = []
    for number in range(n_questions):
        hard = random.Random(f"{number}").random()  # of the question
        luck = random.Random(f"{run_dir.name}{number}").random()  # of the run
        success = 0.7 * hard + 0.3 * luck < rate + drift
        failure = None if success else FAILURES[int(luck * 1e6) % len(FAILURES)]
        rollouts.append(planted_rollout(number, text(number), success, failure, int(luck * 1e4) % 3))
    save_rollouts(run_dir / "rollouts.jsonl", rollouts)
    lines = []
    for step in range(10, 301, 10):
        loss = 0.9 * math.exp(-step / 80) + 0.02
        row = {"step": step, "loss": loss, "loss/correct": 0.9 * loss, "tokens": 10}
        if negatives:
            row["loss/incorrect"] = 1.15 * loss
        lines.append(json.dumps(row))
    (run_dir / "metrics.jsonl").write_text("\n".join(lines))
    answers = {
        question_id(r.question.text): Answer(r.outcome.success, r.outcome.score, r.outcome.failure, 3) for r in rollouts
    }
    tokens = 200_000 + 30 * negatives + 1000 * seed
    return make_run(
        answers,
        method,
        strategy,
        positives,
        negatives,
        seed,
        RunFiles(run_dir.name, run_dir),
        steps=300,
        trained_tokens=tokens,
        timing={"training": 80 + negatives / 40 + seed, "evaluation": 13.0},
    )


def planted_rollout(number: int, text: str, success: bool, failure: str | None, variant: int) -> Rollout:
    total = 2 * number + 23
    answer = str(total if success else total + 9 + variant)
    messages = [
        Message("assistant", f"Thought: Add.\nAction: calculate[{number + 20}+{number + 3}]"),
        Message("tool", str(total)),
    ]
    if not success:
        messages += [
            Message("assistant", f"Thought: Add.\nAction: calculate[{total}+{9 + variant}]"),
            Message("tool", answer if failure != "tool_error" else "error: this is not a calculation"),
        ]
    messages.append(Message("assistant", f"Thought: Done.\nAction: finish[{answer}]"))
    score = 1.0 if success else (0.4 if failure == "wrong_answer" and variant == 0 else 0.0)
    outcome = Outcome(success, score, failure, answer, str(total))  # pyright: ignore[reportArgumentType]
    return Rollout(Question(f"test-{number:05d}", text, str(total)), tuple(messages), outcome, 30)


# ---- an arm's figures ----


def test_one_seed_has_wilsons_interval():
    mean = arm_mean(make_arm(make_run(digits("1100"))), "test")
    # 2 of 4: 1.96 / (1 + 3.8415 / 4) * sqrt(0.25 / 4 + 3.8415 / 64) = 0.35 on either side of 1/2.
    assert mean.value == 0.5
    assert mean.ci95 == pytest.approx((0.15, 0.85), abs=5e-4)
    assert (mean.per_seed, mean.n_questions) == ((0.5,), 4)


def test_several_seeds_are_averaged_and_their_spread_widens_the_interval():
    alike = arm_mean(make_arm(*(make_run(digits("1100" * 25), seed=seed) for seed in range(3))), "test")
    apart = arm_mean(
        make_arm(*(make_run(digits(text * 25), seed=seed) for seed, text in enumerate(("1000", "1100", "1110")))),
        "test",
    )
    assert alike.value == apart.value == 0.5
    assert apart.per_seed == (0.25, 0.5, 0.75)
    assert alike.ci95[0] > apart.ci95[0] >= 0
    assert alike.ci95[1] < apart.ci95[1] <= 1


def test_graded_scores_are_a_measure_of_their_own():
    answers = {"a": Answer(True, 1.0), "b": Answer(False, 0.5, "wrong_answer"), "c": Answer(False, 0.0, "abstained")}
    arm = make_arm(make_run(answers))
    assert arm_mean(arm, "test").value == pytest.approx(1 / 3)
    score = arm_mean(arm, "test", "score")
    assert score.value == 0.5
    # Student's: 4.3027 * 0.5 / sqrt(3) = 1.24 on either side, cut at 0 and 1.
    assert score.ci95 == (0.0, 1.0)


def test_runs_without_single_answers_are_told_by_their_results():
    one = make_run(passes=(passed(0.25, failures={"abstained": 3}),))
    assert arm_mean(make_arm(one), "test").value == 0.25
    assert arm_mean(make_arm(one), "validation") is None
    assert outcome_shares(make_arm(one), "test") == {"success": 0.25, "abstained": 0.75}
    two = make_run(passes=(passed(0.75),), seed=1)
    mean = arm_mean(make_arm(one, two), "test")
    # Student's over two seeds: 12.706 * 0.3536 / sqrt(2) is more than 1 on either side.
    assert (mean.value, mean.ci95) == (0.5, (0.0, 1.0))
    assert arm_mean(make_arm(make_run()), "test") is None


def test_shares_of_outcomes_are_means_over_seeds():
    answers = digits("11")
    other = {"q0": Answer(False, 0.0, "tool_error"), "q1": Answer(False, 0.0)}
    arm = make_arm(make_run(answers), make_run(other, seed=1))
    assert outcome_shares(arm, "test") == {"success": 0.5, "other": 0.25, "tool_error": 0.25}


# ---- the pictures ----


def texts_of(svg: Path) -> str:
    """All text of a picture; parsing it shows that it is well formed."""
    return "\n".join(text for text in ElementTree.parse(svg).getroot().itertext() if text.strip())


NAMES = ("negatives", "methods", "strategies", "environments", "failures", "loss", "cost")


def of_these(drawn: Mapping[str, Drawn]) -> list[str]:
    """Those of `NAMES` that were drawn, in their order: a further picture changes nothing about these."""
    return [name for name in drawn if name in NAMES]


def test_the_pictures_in_the_order_of_a_report():
    assert [name for name in found() if name in NAMES] == list(NAMES)


SCRATCH = """
from matplotlib.figure import Figure

from nat.reporting.pictures.looks import Picture

PLACE = 3


def draw(comparison, rows):
    figure = Figure(figsize=(5.2, 1))
    figure.text(0, 0, " and ".join(arm.label for arm, _ in rows))
    return Picture(figure, "The arms in words", "Arms, as they are called.")
"""


def test_a_picture_is_one_file(tmp_path, monkeypatch):
    write_cell(tmp_path / "s" / "p", "positive_only", "1100")
    write_cell(tmp_path / "s" / "n", "nut", "1110", negatives=400)
    report(tmp_path / "s")
    committed = (tmp_path / "s" / "report.md").read_text()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "scratch.py").write_text(SCRATCH)
    monkeypatch.setattr(pictures, "__path__", [*pictures.__path__, str(tmp_path / "more")])
    try:
        said = report(tmp_path / "s").text
    finally:
        sys.modules.pop(f"{pictures.__name__}.scratch", None)
    assert "methods.png/svg, scratch.png/svg, failures.png/svg" in said
    assert "positive_only, 100 positives and nut 1:4, 100 positives" in texts_of(tmp_path / "s" / "scratch.svg")
    later = (tmp_path / "s" / "report.md").read_text()
    assert later.splitlines()[later.splitlines().index("## Pictures") + 2 :][:2] == [
        "![scratch](scratch.svg)",
        "![failures](failures.svg)",
    ]
    page = (tmp_path / "s" / "report.html").read_text()
    assert page.count('<img alt="The arms in words. Success goes from 0.500 (positive_only, 100 positives) to') == 1
    assert page.count("<figcaption>Arms, as they are called.</figcaption>") == 1
    places = [page.index(f"<figcaption>{words}") for words in ("Success by arm", "Arms, as", "How episodes ended")]
    assert places == sorted(places)
    # A report that was committed before is still what its cells say.
    assert later != committed
    assert without_new_pictures(later, committed) == committed


def test_only_new_pictures_are_left_out_of_a_comparison_with_a_committed_report():
    committed = "# s\n\n![methods](methods.svg)\n\n## Arms\n\n| a |\n"
    assert without_new_pictures(committed, committed) == committed
    assert without_new_pictures(f"{committed}\n## Pictures\n\n![new](new.svg)\n", committed) == committed
    missing = f"{committed}\n## Pictures\n\n![new](new.svg)\n\n## Missing\n\n- a\n"
    assert without_new_pictures(missing, committed) == f"{committed}\n## Missing\n\n- a\n"
    other = committed.replace("![methods](methods.svg)", "![methods](other.svg)")
    assert without_new_pictures(other, committed) != committed
    assert without_new_pictures("# s\n\n## Arms\n\n| a |\n", committed) != committed


@pytest.mark.slow
def test_a_sweep_gets_all_pictures(tmp_path):
    drawn = draw(planted_sweep(tmp_path / "cells", n_questions=24), tmp_path)
    assert of_these(drawn) == ["negatives", "methods", "strategies", "failures", "loss", "cost"]
    for name, files in drawn.items():
        assert [files.png.name, files.svg.name] == [f"{name}.png", f"{name}.svg"]
        assert files.png.read_bytes()[:4] == b"\x89PNG"
        root = ElementTree.parse(files.svg).getroot()
        assert root.get("width") == "374.4pt"  # 5.2 inches: its text is still read at the width of a phone
        assert files.svg.stat().st_size < 120_000
    negatives = texts_of(drawn["negatives"].svg)
    for word in ("50 positives", "200 positives", "NUT", "NAT", "1600", "1:8", "24 questions, 3 seeds"):
        assert word in negatives
    assert "inverse" not in negatives  # trained at one ratio only: no line
    strategies = texts_of(drawn["strategies"].svg)
    for word in ("200 positives, 800 negatives", "NUT 0.", "inverse", "prefix_letters", "suffix"):
        assert word in strategies
    assert "tool error" in texts_of(drawn["failures"].svg)
    assert "incorrect" in texts_of(drawn["loss"].svg)
    assert "trained tokens" in texts_of(drawn["cost"].svg)


def test_four_methods_with_one_seed_get_their_bars(tmp_path):
    comparison = make_comparison(
        make_arm(make_run(digits("0000000001"), "base", "none", None, None), label="base"),
        make_arm(make_run(digits("0000000111"), "positive_only", "none", 100, 0), label="positive_only"),
        make_arm(make_run(digits("0001111111"), "nut", "none", 100, 900), label="nut 1:9"),
        make_arm(make_run(digits("0011111111"), "nat", "suffix", 100, 900), label="nat suffix 1:9"),
    )
    drawn = draw(comparison, tmp_path)
    assert of_these(drawn) == ["methods", "failures"]
    bars = texts_of(drawn["methods"].svg)
    for word in ("base", "positive_only", "nut 1:9", "nat suffix 1:9", "0.800", "10 questions, 1 seed"):
        assert word in bars
    assert "F1" not in bars


def test_the_score_is_drawn_where_it_differs_from_success(tmp_path):
    answers = {"a": Answer(True, 1.0), "b": Answer(False, 0.5, "wrong_answer")}
    drawn = draw(make_comparison(make_arm(make_run(answers))), tmp_path)
    assert "F1 0.750" in texts_of(drawn["methods"].svg)


def test_steps_are_a_cost(tmp_path):
    def cost(*steps: int) -> str:
        arms = [
            make_arm(
                make_run(digits("10"), "nut", "none", 10, 10 * n, steps=n, trained_tokens=90 + n), label=str(place)
            )
            for place, n in enumerate(steps)
        ]
        return texts_of(draw(make_comparison(*arms), tmp_path)["cost"].svg)

    assert "trained tokens (300 optimiser steps each)" in cost(300, 300)
    different = cost(300, 600)
    assert "optimiser steps" in different
    assert "steps each" not in different


def test_f1_is_named_only_where_it_is_something_else_than_success(tmp_path):
    graded = make_arm(make_run({"a": Answer(True, 1.0), "b": Answer(False, 0.5, "wrong_answer")}), label="graded")
    plain = make_arm(make_run(digits("10"), "nut", "none"), label="plain")
    drawn = draw(make_comparison(graded, plain), tmp_path)
    assert texts_of(drawn["methods"].svg).count("F1 0.") == 1


@pytest.mark.slow
def test_of_many_arms_those_of_the_verdict_are_drawn(tmp_path):
    comparison = planted_sweep(tmp_path / "cells", n_questions=12)
    drawn = draw(comparison, tmp_path)
    bars = texts_of(drawn["methods"].svg)
    assert "Success of the verdict's arms and their references" in bars
    # The findings' arms, that of the other number of positives, and their references.
    shown = {"nat suffix 1:4, 200 positives", "nut 1:4, 200 positives", "nat suffix 1:4, 50 positives"}
    shown |= {arm.label for arm in comparison.arms if arm.method == "positive_only"}
    assert verdict_arms(comparison) == shown
    for arm in comparison.arms:
        assert (arm.label in bars) == (arm.label in shown)
    few = make_comparison(*comparison.arms[:3], findings=comparison.findings)
    assert verdict_arms(few) == frozenset()


def test_a_line_starts_at_the_positives_alone_of_its_own_text(tmp_path):
    arms = [make_arm(make_run(digits("0001"), "positive_only", "none", 10, 0))]
    arms += [make_arm(make_run(digits("0111"), "nut", "none", 10, count)) for count in (10, 20)]
    drawn = draw(make_comparison(*arms), tmp_path)
    assert {"0", "1:0", "10", "1:1", "20", "1:2"} <= set(texts_of(drawn["negatives"].svg).split())


def test_counts_a_few_trajectories_apart_share_a_panel_and_files_are_the_same_each_time(tmp_path):
    arms = [make_arm(make_run(digits("0111"), "nut", "none", 200, count)) for count in (200, 400)]
    arms += [make_arm(make_run(digits("0111"), "nat", "suffix", 199, count)) for count in (200, 398)]
    arms += [make_arm(make_run(digits("0101"), "nat", "inverse", 200, 396))]
    (tmp_path / "again").mkdir()
    drawn, again = draw(make_comparison(*arms), tmp_path), draw(make_comparison(*arms), tmp_path / "again")
    for name, files in drawn.items():  # equal results, equal files
        assert files.png.read_bytes() == again[name].png.read_bytes()
        assert files.svg.read_bytes() == again[name].svg.read_bytes()
    words = texts_of(drawn["negatives"].svg)
    assert "200 positives" in words
    assert "199 positives" not in words
    assert "200 positives, 400 negatives" in texts_of(drawn["strategies"].svg)


def test_names_from_outside_are_text(tmp_path):
    hostile = '$\\frac{1$ <script>alert(1)</script> & "q" 🦜 \u202eabc\x00\n'
    arms = [
        make_arm(
            make_run(digits("0011"), f"_{number}{hostile}", hostile, 10, count), label=f"{hostile} {number} {count}"
        )
        for number in range(2)
        for count in (5, 10, 20)
    ]
    drawn = draw(make_comparison(*arms), tmp_path)
    for files in drawn.values():
        assert not list(ElementTree.parse(files.svg).getroot().iter("{http://www.w3.org/2000/svg}script"))
    assert "<script>alert(1)</script>" in texts_of(drawn["methods"].svg)


def test_nothing_evaluated_draws_nothing(tmp_path):
    assert draw(make_comparison(), tmp_path) == {}
    assert draw(make_comparison(make_arm(make_run())), tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_no_two_series_look_alike():
    arms = [make_arm(make_run(method=method, strategy=text)) for method in ("nut", "nat") for text in ("a", "b", "c")]
    looks = list(series_looks(arms).values())
    assert len({look.colour for look in looks}) == len({look.marker for look in looks}) == len(looks) == 6


def test_losses_are_read_up_to_a_killed_runs_last_line(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 10, "loss": 0.5, "loss/correct": 0.25, "tokens": 7}\n{"step": 20, "loss": 0.4}\n{"st'
    )
    assert read_losses(RunFiles("r", tmp_path)) == {"loss": [(10, 0.5), (20, 0.4)], "loss/correct": [(10, 0.25)]}
    assert read_losses(RunFiles("r", tmp_path / "nowhere")) == read_losses(None) == {}
