import json
from dataclasses import replace
from pathlib import Path

import pytest

from nat.comparison.compare import compare, without_paths
from nat.comparison.types import Comparison
from nat.reporting import text as report_text
from nat.reporting import write as writing
from nat.reporting.pictures.draw import Drawn
from nat.reporting.tables import markdown_table
from nat.reporting.write import report, standard
from nat.types import RequestError
from tests.golden_for_tests import golden
from tests.sweeps_for_tests import plan, write_cell, write_sweep


@pytest.fixture(autouse=True)
def pages(monkeypatch) -> list[tuple[Comparison, list[str], int]]:
    """What the page is made of; drawing and laying it out is tested in test_pictures.py and test_report_page.py."""
    made = []

    def draw(comparison: Comparison, directory: Path) -> dict[str, Drawn]:
        files = {name: (directory / f"{name}.png", directory / f"{name}.svg") for name in ("methods", "negatives")}
        return {name: Drawn(png, svg, name, name) for name, (png, svg) in files.items()}

    def page(comparison: Comparison, drawn: dict[str, Drawn], browser_questions: int) -> str:
        made.append((comparison, list(drawn), browser_questions))
        return "<!doctype html>"

    monkeypatch.setattr(writing.pictures, "draw", draw)
    monkeypatch.setattr(writing.report_page, "page", page)
    return made


def three_seeds(directory: Path) -> Path:
    """Ten questions, three seeds; NUT solves 6, 7, 7 of them, the successes alone 4."""
    nut, nat = ("1111110000", "1111111000", "1111111000"), ("1111111000", "1111110000", "1111111000")
    for seed in range(3):
        write_cell(directory / f"p{seed}", "positive_only", "1111000000", "10", seed=seed)
        write_cell(directory / f"u{seed}", "nut", nut[seed], "11", negatives=400, seed=seed)
        write_cell(directory / f"n{seed}", "nat", nat[seed], "10", negatives=400, seed=seed)
    return directory


def test_the_report_in_markdown_and_on_the_screen(tmp_path):
    """What stands where; the verdict's own words are in verdicts.txt."""
    shown = report(three_seeds(tmp_path / "s")).text.replace(str(tmp_path), "DIRECTORY") + "\n"
    written = (tmp_path / "s" / "report.md").read_text()
    assert str(tmp_path) not in written
    assert written == golden("report.md", written)
    assert shown == golden("report.txt", shown)
    table = written.splitlines()
    table = table[table.index("## Arms") + 4 :]
    assert table[0] == "| positive_only | none | 100 | 0 | 3 | 0.400 | - | - | - | - |"
    assert table[1].startswith("| nut | none | 100 | 400 | 3 | 0.667 | +26.7 [")  # 6, 7 and 7 of ten questions


def test_the_same_runs_give_the_same_files(tmp_path):
    for name in ("a", "b"):
        report(three_seeds(tmp_path / name / "s"))
    for name in ("report.md", "results.csv", "arms.csv"):
        assert (tmp_path / "a" / "s" / name).read_text() == (tmp_path / "b" / "s" / name).read_text()


def test_tables_for_machines(tmp_path):
    report(three_seeds(tmp_path))
    header, first, *_ = (tmp_path / "results.csv").read_text().splitlines()
    row = dict(zip(header.split(","), first.split(","), strict=True))
    assert {key: row[key] for key in ("run", "method", "negatives", "seed", "test_success", "validation_success")} == {
        "run": "n0",
        "method": "nat",
        "negatives": "400",
        "seed": "0",
        "test_success": "0.7",
        "validation_success": "0.5",
    }
    assert (row["steps"], row["timing.training"], row["failures.wrong_answer"]) == ("300", "1.5", "3")
    assert "tracking_id" not in row
    # Verdicts are the findings'; the tables of arms are another family, whose p might say the opposite.
    assert "verdict" not in (tmp_path / "arms.csv").read_text()
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 10
    header, *rows = (tmp_path / "arms.csv").read_text().splitlines()
    names = header.split(",")
    assert [line.split('"')[1] for line in rows] == [
        "positive_only, 100 positives",
        "nut 1:4, 100 positives",
        "nat suffix 1:4, 100 positives",
    ]
    nut = dict(zip(names[1:], rows[1].split('"', 2)[2].lstrip(",").split('"')[0].split(","), strict=False))
    assert (nut["n_seeds"], nut["seeds"], nut["test_success"], nut["difference"]) == (
        "3",
        "0 1 2",
        "0.666667",
        "0.266667",
    )


def test_names_are_no_markdown():
    hostile = "a\nb | <img src=x> [link](http://x) ![p](y) \\<b> `[5](http://x)"
    (_, _, row) = markdown_table(["name", "interval", "p"], [[hostile, "[-1.0, +2.0]", "< 0.001"]])
    assert row == (
        "| a b \\| \\<img src=x> \\[link]\\(http://x) !\\[p]\\(y) \\\\\\<b> `[5]\\(http://x) | [-1.0, +2.0] | < 0.001 |"
    )


def test_single_seeds_among_several_are_said_to_hold_questions_alone(tmp_path):
    three_seeds(tmp_path)
    write_cell(tmp_path / "one", "nut", "1111110000", "10", negatives=100)
    comparison = compare(tmp_path, standard())
    (line,) = [line for line in report_text.legend(comparison) if line.startswith("vs successes alone")]
    assert line.endswith("95% interval over questions and seeds (questions alone where an arm has one seed).")


def test_one_arm_has_one_rate_in_all_tables(tmp_path):
    """603 of 1200 answers are 0.5025: as a mean over seeds and as a share of the pool they may round apart."""
    for seed, solved in enumerate((150, 195, 258)):
        write_cell(tmp_path / f"n{seed}", "nut", "1" * solved + "0" * (400 - solved), negatives=100, seed=seed)
    report(tmp_path)
    lines = (tmp_path / "report.md").read_text().splitlines()
    (arm,) = [line for line in lines if line.startswith("| nut | none")]
    (ended,) = [line for line in lines if line.startswith("| nut 1:1, 100 positives |")]
    assert arm.split(" | ")[5].rstrip(" |") == ended.split(" | ")[1]


def test_the_page_gets_the_comparison_and_the_pictures(tmp_path, pages):
    report(three_seeds(tmp_path))
    ((comparison, drawn, browser_questions),) = pages
    assert (len(comparison.arms), len(comparison.runs), drawn, browser_questions) == (
        3,
        9,
        ["methods", "negatives"],
        40,
    )
    assert (tmp_path / "report.html").read_text() == "<!doctype html>"


def test_a_partial_sweep_is_reported_with_what_is_missing(tmp_path):
    write_sweep(tmp_path, {("positive_only", 0): 0.3, ("nut", 400): 0.7}, seeds=2)
    lost = [f"nut-100-800-{seed}" for seed in range(10)]
    plan(tmp_path, [*(path.name for path in tmp_path.iterdir()), *lost])
    (tmp_path / lost[0]).mkdir()
    error = {"kind": "stage", "message": f"OSError: {tmp_path}/data/x.jsonl: no space left\nmore"}
    results = {"status": "failed", "cell": f"{lost[0]:->16}"[-16:], "error": error}
    (tmp_path / lost[0] / "results.json").write_text(json.dumps(results))
    text = report(tmp_path).text
    assert "10 of 14 runs are missing" in text
    assert "  nut-100-800-0: failed: OSError: x.jsonl: no space left\n  nut-100-800-1: not started\n" in text
    assert "  ... and 2 more (report.md)" in text
    written = (tmp_path / "report.md").read_text()
    assert written.endswith("- nut-100-800-8: not started\n- nut-100-800-9: not started\n")
    assert str(tmp_path) not in written


def test_one_seed_shows_its_runs(tmp_path):
    write_cell(tmp_path / "p", "positive_only", "1111000000" * 5)
    write_cell(tmp_path / "n", "nut", "1111110000" * 5, negatives=400)
    report(tmp_path)
    written = (tmp_path / "report.md").read_text()
    assert "**Use the failures?** Undecided. NUT with 1:4 (100 + 400) solves 0.600" in written
    assert "| n | 0 | 50 | 0.600 | [0.462, 0.724] |" in written  # Wilson's interval of 30 in 50
    # Agresti and Min: b = 10.5, c = 0.5, n = 52: centre 10/52, half 1.96 * sqrt(11 - 100/52) / 52 = 0.1136.
    assert "| nut | none | 100 | 400 | 1 | 0.600 | +20.0 [+7.9, +30.6] | 0.002 |" in written


def test_a_score_that_is_not_success_has_a_column(tmp_path):
    cell = write_cell(tmp_path / "p", "positive_only", "1000")
    outcomes = cell / "outcomes.csv"
    outcomes.write_text(outcomes.read_text().replace(",0,0,wrong_answer", ",0,0.4,wrong_answer"))
    report(tmp_path)
    assert "| positive_only | none | 100 | 0 | 1 | 0.250 | 0.550 |" in (tmp_path / "report.md").read_text()


def test_a_directory_without_a_finished_run_says_so(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "results.json").write_text('{"status": "running", "cell": "c1"}')
    text = report(tmp_path).text
    assert text.startswith("No finished run with roll-outs yet.")
    assert "a: running, or killed" in text
    assert "No finished run with roll-outs yet." in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        (("positive_only", "base"), "No verdict: no run here was trained on failures (method nut, nat or nat_graded)."),
        (("nut", "base"), "No verdict: no run on the successes alone (method=positive_only) to compare with."),
    ],
)
def test_runs_that_answer_no_question_say_why(tmp_path, methods, said):
    for method in methods:
        write_cell(tmp_path / method, method, "1100", negatives=100 if method == "nut" else 0)
    assert report(tmp_path).text.startswith(said)
    assert said in (tmp_path / "report.md").read_text()


def test_a_file_of_results_is_reported_beside_it(tmp_path):
    lines = [
        {"run": f"{m}{s}", "method": m, "seed": s, "question": f"q{q}", "success": q < solved}
        for m, solved in (("positive_only", 4), ("nat", 9))
        for s in range(3)
        for q in range(10)
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    text = report(path).text
    assert text.startswith("Use the failures? ")
    assert "NAT (text not named) solves 0.900 of the test questions, 50.0 points [" in text.replace("\n  ", " ")
    assert (tmp_path / "mine_report" / "report.md").read_text().startswith("# mine\n")


def test_runs_of_others_are_compared_with_ones_own(tmp_path):
    three_seeds(tmp_path / "s")
    answers = [
        {"run": f"theirs-{seed}", "method": "nat", "seed": seed, "question": f"test question {q}", "success": q < 9}
        for seed in range(3)
        for q in range(10)
    ]
    (tmp_path / "theirs.jsonl").write_text("\n".join(map(json.dumps, answers)))
    config = replace(standard(), external=str(tmp_path / "theirs.jsonl"))
    comparison = compare(tmp_path / "s", config)
    (contrast,) = [c for c in comparison.contrasts if c.treatment.strategy == "unnamed"]
    assert contrast.reference.label == "positive_only, 100 positives"
    assert (contrast.difference.difference, contrast.difference.n_seeds) == (0.5, 3)
    assert "unnamed: a text that the file of results does not name." in report_text.legend(comparison)


def test_there_must_be_something_to_report(tmp_path):
    with pytest.raises(RequestError, match="no run below it"):
        report(tmp_path)
    with pytest.raises(RequestError, match="no such directory"):
        report(tmp_path / "nowhere")


def test_paths_are_cut_and_addresses_are_not():
    assert without_paths("at /a/b c/d.py, see https://x.org/y/z.html: 1/2 of a/b") == (
        "at b c/d.py, see https://x.org/y/z.html: 1/2 of a/b"
    )


def test_the_standard_values_are_those_of_the_configuration():
    config = standard()
    assert (config.smallest_effect, config.power, config.browser_questions, config.external) == (0.02, 0.8, 40, None)
