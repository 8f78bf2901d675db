import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from nat.comparison.arms import split_of
from nat.comparison.compare import compare
from nat.comparison.types import Comparison, Contrast
from nat.core.questions import question_id
from nat.core.statistics import crossed_difference
from nat.reporting import text as report_text
from nat.reporting import write as writing
from nat.reporting.page import page
from nat.reporting.pictures.draw import draw
from nat.reporting.write import report, standard
from nat.runs.directory import read_results, write_results
from nat.runs.outcomes import Outcomes, save_outcomes
from tests.sweeps_for_tests import outcomes, write_cell


def cell(
    directory: Path,
    method: str,
    own: str,
    seed: int = 0,
    negatives: int = 0,
    failure: str = "wrong_answer",
    asked: Mapping[str, str] | None = None,
    **also_asked: str,
) -> Path:
    """A cell whose answers are written as "1100": one digit a question, those elsewhere by the environment's name."""
    asked = {**(asked or {}), **also_asked}
    setting = {f"also_in.{name}.seed": seed for name in asked}  # no setting of an arm
    written = write_cell(directory, method, own, negatives=negatives, seed=seed, setting=setting)
    passes = [outcomes(own)]
    for name, given in asked.items():
        there = outcomes(given, "also_in", environment=name)
        # The first question everywhere is the same one.
        answers = [
            (
                question_id("test question 0") if place == 0 else question,
                replace(answer, failure=answer.failure and failure),
            )
            for place, (question, answer) in enumerate(there.answers)
        ]
        passes.append(Outcomes(there.asked, tuple(answers)))
    save_outcomes(written / "outcomes.csv", passes)
    return written


def compared(directory: Path) -> Comparison:
    return compare(directory, standard())


def only_contrast(directory: Path) -> Contrast:
    environments = compared(directory).environments
    assert environments is not None
    (contrast,) = environments.contrasts
    return contrast


def two_environments(directory: Path) -> Path:
    """Two seeds; the successes alone solve 1/2 and 1/4 of four questions each, NAT 3/4 and 1/2, and NUT 1/2 and 0."""
    for seed in range(2):
        cell(directory / f"p{seed}", "positive_only", "1100", seed, larger="1000")
        cell(directory / f"u{seed}", "nut", "1010", seed, 400, larger="0000")
        cell(directory / f"n{seed}", "nat", "1110", seed, 400, larger="1100")
    return directory


@pytest.fixture
def undrawn(monkeypatch):
    """Drawing takes seconds; which pictures there are is told by their names."""

    def names(comparison: Comparison, directory: Path) -> dict[str, tuple[Path, Path]]:
        there = ["methods", *["environments"] * (comparison.environments is not None)]
        return {name: (directory / f"{name}.png", directory / f"{name}.svg") for name in there}

    monkeypatch.setattr(writing.pictures, "draw", names)
    monkeypatch.setattr(writing.report_page, "page", lambda *_: "")


@pytest.mark.usefixtures("undrawn")
def test_the_report_has_a_table_of_environments(tmp_path):
    text = report(two_environments(tmp_path / "s")).text
    lines = (tmp_path / "s" / "report.md").read_text().splitlines()
    table = lines[lines.index("## In each environment") + 2 :]
    assert table[0] == "| arm | seeds | arithmetic | larger | mean | vs successes alone | p |"
    assert table[2] == "| positive_only, 100 positives | 2 | 0.500 | 0.250 | 0.375 | - | - |"
    assert table[3].startswith("| nut 1:4, 100 positives | 2 | 0.500 | 0.000 | 0.250 | -12.5 [-")
    assert table[4].startswith("| nat suffix 1:4, 100 positives | 2 | 0.750 | 0.500 | 0.625 | +25.0 [")
    assert table[6].startswith(
        "- success in each environment (4 questions in each), mean over seeds; arithmetic is the"
    )
    assert any("p is adjusted over the 2 comparisons of this table (Holm)" in line for line in table)
    assert "![environments](environments.svg)" in lines
    assert "In each environment:\narm " in text
    with (tmp_path / "s" / "arms.csv").open() as file:
        *_, nat = csv.DictReader(file)
    shown = ("in_larger_success", "environments_success", "environments_seeds", "environments_difference")
    assert [nat[key] for key in shown] == ["0.5", "0.625", "2", "0.25"]
    assert nat["environments_difference_reference"] == "positive_only, 100 positives"
    with (tmp_path / "s" / "results.csv").open() as file:
        nat, *_ = csv.DictReader(file)
    assert [nat[key] for key in ("test_success", "in_larger_success", "in_larger_questions")] == ["0.75", "0.5", "4"]


def test_the_page_has_the_table_and_the_picture(tmp_path):
    comparison = compared(two_environments(tmp_path / "s"))
    drawn = draw(replace(comparison, arms=()), tmp_path)  # this picture alone
    assert list(drawn) == ["environments"]
    text = page(comparison, drawn, 0)
    assert '<a href="#environments">Environments</a>' in text
    assert '<td class="number" data-sort="0.625">0.625</td>' in text
    assert "Success in each environment that the models were asked in" in text
    picture = drawn["environments"][1].read_text()
    for words in ("arithmetic", "larger", "nat suffix 1:4, 100 positives", "4 questions, 2 seeds"):
        assert words in picture


@pytest.mark.usefixtures("undrawn")
def test_runs_asked_nowhere_else_have_no_such_section(tmp_path):
    cell(tmp_path / "s" / "p", "positive_only", "1100")
    cell(tmp_path / "s" / "n", "nat", "1110", negatives=400)
    assert "environment" not in report(tmp_path / "s").text.lower()
    comparison = compared(tmp_path / "s")
    assert comparison.environments is None
    assert "environments" not in page(comparison, {}, 0)
    for file in ("report.md", "arms.csv"):
        assert "environment" not in (tmp_path / "s" / file).read_text()


# ---- what is compared ----


def test_the_difference_is_that_of_all_questions_where_environments_ask_as_many(tmp_path):
    contrast = only_contrast(_one_comparison(tmp_path, seeds=3))
    first = [{"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.0, "e": 1.0, "f": float(seed == 0)} for seed in range(3)]
    second = [{"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0, "e": 0.0, "f": 0.0}] * 3
    assert contrast.difference == crossed_difference(first, second)
    assert (contrast.difference.n_questions, contrast.difference.n_seeds) == (6, 3)
    assert contrast.treatment.label == "nat suffix 1:4, 100 positives"
    assert contrast.reference.label == "positive_only, 100 positives"


def _one_comparison(directory: Path, seeds: int) -> Path:
    for seed in range(seeds):
        cell(directory / f"p{seed}", "positive_only", "100", seed, longer="000")
        cell(directory / f"n{seed}", "nat", "111", seed, 400, longer=f"01{int(seed == 0)}")
    return directory


def test_one_seed_has_mcnemars_test_and_no_verdict(tmp_path):
    contrast = only_contrast(_one_comparison(tmp_path, seeds=1))
    # Four questions on which they differ, in both environments together, all for NAT.
    assert contrast.difference.p_value == pytest.approx(2 * 0.5**4)
    assert contrast.difference.seed_se is None
    assert contrast.verdict == "undecided"
    assert "interval over questions alone; p is adjusted over 1 comparison." in report_text.markdown(
        compared(tmp_path), {}
    )


def test_every_environment_weighs_the_same(tmp_path):
    for seed in range(2):
        cell(tmp_path / f"p{seed}", "positive_only", "00", seed, longer="00000000")
        cell(tmp_path / f"n{seed}", "nat", "10", seed, 400, longer="00001100")
    contrast = only_contrast(tmp_path)
    assert contrast.difference.difference == pytest.approx((1 / 2 + 2 / 8) / 2)  # of all ten questions it were 0.3
    # Weights are 10 / (2 * 2) and 10 / (2 * 8): the questions' squares sum to 2.5^2 + 2 * 0.625^2 = 7.03125.
    centre = 0.375 * 10 / 12
    assert contrast.difference.question_se == pytest.approx(((7.03125 + 1 - 12 * centre**2) / 12**2) ** 0.5)
    environments = compared(tmp_path).environments
    assert environments is not None
    assert report_text.environment_columns(environments)[1][1][2:5] == ["0.500", "0.250", "0.375"]
    assert "(2 in arithmetic, 8 in longer)" in report_text.environment_legend(environments)[0]


def test_what_a_seed_does_to_all_environments_widens_the_interval(tmp_path):
    """The same answers in number: one seed is good everywhere and the other nowhere, or each is good in one place."""
    both, one = tmp_path / "both", tmp_path / "one"
    right, wrong = "1" * 20, "0" * 20
    for seed, own, everywhere, elsewhere in ((0, right, right, wrong), (1, wrong, wrong, right)):
        for directory, other in ((both, everywhere), (one, elsewhere)):
            cell(directory / f"p{seed}", "positive_only", "10" * 10, seed, longer="10" * 10)
            cell(directory / f"n{seed}", "nat", own, seed, 400, longer=other)
    wide, narrow = only_contrast(both).difference, only_contrast(one).difference
    assert wide.seed_se == pytest.approx(0.5, abs=1e-3)  # seeds' differences of +0.5 and -0.5
    assert narrow.seed_se == pytest.approx((1 / (12 * 40**2 * 2)) ** 0.5)  # both 0, known to a fortieth
    assert (wide.difference, narrow.difference) == (0, 0)


def test_the_untrained_model_stands_beside_every_seed(tmp_path):
    two_environments(tmp_path)
    cell(tmp_path / "b", "base", "0000", larger="1000")
    environments = compared(tmp_path).environments
    assert environments is not None
    base = environments.contrasts[0]
    assert (base.treatment.method, base.difference.n_seeds) == ("base", 2)
    assert base.difference.difference == pytest.approx(0.125 - 0.375)
    assert len(environments.contrasts) == 3


# ---- what stays out of the rest ----


def test_answers_given_elsewhere_change_nothing_else(tmp_path):
    for name in ("with", "without"):
        for seed in range(3):
            asked = {"longer": "0101100111", "larger": "1111111111"} if name == "with" and seed != 1 else {}
            cell(tmp_path / name / f"p{seed}", "positive_only", "1100000000", seed, asked=asked)
            cell(tmp_path / name / f"n{seed}", "nat", "1110100000", seed, 400, asked=asked)
            cell(tmp_path / name / f"u{seed}", "nut", "1110000000", seed, 400, asked=asked)
    comparison, plain = compared(tmp_path / "with"), compared(tmp_path / "without")
    assert comparison.environments is not None
    assert [arm.label for arm in comparison.arms] == [arm.label for arm in plain.arms]
    assert [len(arm.runs) for arm in comparison.arms] == [3, 3, 3]
    for with_, without in zip(
        (*comparison.contrasts, *comparison.text_contrasts), (*plain.contrasts, *plain.text_contrasts), strict=True
    ):
        assert (with_.difference, with_.p_holm, with_.split) == (without.difference, without.p_holm, "test")
    assert [finding.answer for finding in comparison.findings] == [finding.answer for finding in plain.findings]
    assert comparison.caveats == plain.caveats
    bare = replace(comparison, environments=None, title="without")
    assert report_text.markdown(bare, {}) == report_text.markdown(plain, {})


def test_the_own_split_is_never_one_of_elsewhere(tmp_path):
    written = cell(tmp_path / "n", "nat", "11", negatives=400, larger="10")
    passes = [outcomes("10", "also_in", environment="larger"), outcomes("1010", "validation")]
    save_outcomes(written / "outcomes.csv", passes)
    assert split_of(compared(tmp_path).arms) == "validation"


# ---- not everybody was asked everywhere ----


def test_runs_that_were_not_asked_everywhere_are_left_out_and_said(tmp_path):
    for seed in range(3):
        asked = {"larger": "1000"} if seed else {}
        cell(tmp_path / f"p{seed}", "positive_only", "1100" if seed else "0000", seed, asked=asked)
        cell(tmp_path / f"n{seed}", "nat", "1110", seed, 400, larger="1100")
        cell(tmp_path / f"u{seed}", "nut", "1110", seed, 400)
    comparison = compared(tmp_path)
    environments = comparison.environments
    assert environments is not None
    header, rows = report_text.environment_columns(environments)
    assert header[:5] == ["arm", "seeds", "arithmetic", "larger", "mean"]
    assert rows[0][:5] == ["positive_only, 100 positives", "2", "0.500", "0.250", "0.375"]  # two seeds, in both
    assert rows[1][:5] == ["nat suffix 1:4, 100 positives", "3", "0.750", "0.500", "0.625"]
    assert len(rows) == 2
    (contrast,) = environments.contrasts
    assert contrast.difference.n_seeds == 2  # those that both have
    assert environments.notes == (
        "Left out: 1 of 3 arms, asked in no environment besides their own.",
        "Left out: 1 of the 3 runs of positive_only, 100 positives, not asked in every environment; success in the own "
        "one may therefore differ from the other tables'.",
    )
    assert [each.difference.n_seeds for each in comparison.contrasts] == [3, 3]


def test_without_successes_alone_that_were_asked_there_nothing_is_compared(tmp_path):
    cell(tmp_path / "p", "positive_only", "1100")
    cell(tmp_path / "n", "nat", "1110", negatives=400, larger="1100", failure="infrastructure")
    environments = compared(tmp_path).environments
    assert environments is not None
    assert report_text.environment_columns(environments) == (
        ["arm", "seeds", "arithmetic", "larger", "mean"],
        [["nat suffix 1:4, 100 positives", "1", "0.750", "0.500", "0.625"]],
    )
    assert environments.notes == (
        "nat suffix 1:4, 100 positives is not compared with positive_only, 100 positives: positive_only, 100 positives "
        "was not asked in every environment.",
        "Left out: 1 of 2 arms, asked in no environment besides their own.",
        "2 episodes in other environments broke for reasons that are not the policy's (infrastructure); they count as "
        "unsolved.",
    )


def test_arms_of_other_environments_have_no_mean_over_all(tmp_path):
    cell(tmp_path / "p", "positive_only", "1100", larger="1000")
    cell(tmp_path / "n0", "nat", "1110", 0, 400, larger="1100", longer="1111")
    cell(tmp_path / "n1", "nat", "0000", 1, 400, larger="0000")  # does not count beside one that was asked in all
    comparison = compared(tmp_path)
    assert comparison.environments is not None
    assert [arm.label for arm in comparison.arms] == ["positive_only, 100 positives", "nat suffix 1:4, 100 positives"]
    _, rows = report_text.environment_columns(comparison.environments)
    assert rows[0] == ["positive_only, 100 positives", "1", "0.500", "0.250", "-", "-"]
    assert rows[1] == ["nat suffix 1:4, 100 positives", "1", "0.750", "0.500", "1.000", "0.750"]
    (png, _) = draw(replace(comparison, arms=()), tmp_path)["environments"]
    assert png.is_file()


def test_the_own_environment_is_told_from_another_of_its_name(tmp_path):
    written = cell(tmp_path / "p", "positive_only", "1100", arithmetic="1000")
    environments = compared(tmp_path).environments
    assert environments is not None
    assert environments.names == ("arithmetic (own)", "arithmetic")
    results = read_results(written)
    assert results.coordinates is not None
    elsewhere = replace(results.coordinates, environment="gsm8k")
    other = cell(tmp_path / "n", "nat", "1100", negatives=400, arithmetic="1000")
    write_results(other, replace(results, cell="f" * 16, coordinates=elsewhere))
    environments = compared(tmp_path).environments
    assert environments is not None
    assert environments.names == ("own", "arithmetic")
