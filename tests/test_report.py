import json
from pathlib import Path

import pytest

from nat import report
from nat.rollouts import save_rollouts
from nat.statistics import wilson_interval
from nat.types import Outcome, Question, RequestError, Rollout


def write_run(directory: Path, method: str, successes: str, **results) -> None:
    """A run whose episodes are written as "10011": one digit a question."""
    directory.mkdir(parents=True)
    rollouts = [
        Rollout(
            Question(f"q{i}", f"text {i}", "7"),
            (),
            Outcome(digit == "1", float(digit), None if digit == "1" else "wrong_answer"),
        )
        for i, digit in enumerate(successes)
    ]
    save_rollouts(directory / "rollouts.jsonl", rollouts)
    n, k = len(successes), successes.count("1")
    values = {
        "status": "completed",
        "method": method,
        "environment": "arithmetic",
        "strategy": "none",
        "ratio": None,
        "seed": 0,
        "positives": 10,
        "negatives": 0,
        "success_rate": k / n,
        "ci95": list(wilson_interval(k, n)),
        "n_questions": n,
        "failures": {"wrong_answer": n - k},
    }
    (directory / "results.json").write_text(json.dumps({**values, **results}))
    (directory / "config.yaml").write_text("")


def test_a_table_of_methods_with_paired_differences(tmp_path):
    write_run(tmp_path / "b", "nat", "1111110000" * 5, negatives=90, success_rate_as_incorrect=0.125)
    write_run(tmp_path / "a", "positive_only", "1111000000" * 5)
    write_run(tmp_path / "c", "base", "0000000000" * 5, positives=0)
    text = report.write(tmp_path)
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["base", "positive_only", "nat"]
    # nat is right on ten questions more of 50: 0.2, and Wald+2 gives (11 - 0.5 ... by hand:
    # b = 10.5, c = 0.5, n = 52: centre 10/52 = 0.1923, half 1.96 * sqrt(11 - 100/52) / 52 = 0.1136.
    assert "+0.200 [+0.079, +0.306]" in lines[4]
    assert "incorrect 0.125" in lines[4]
    assert "[0.462, 0.724]" in lines[4]  # Wilson's interval of 30 in 50
    assert "-0.400" in lines[2]
    assert " - " in lines[3] or lines[3].rstrip().endswith("-")
    written = (tmp_path / "report.md").read_text()
    assert "| nat | 10 | 90 | 0.600 | [0.462, 0.724] | +0.200 [+0.079, +0.306] | incorrect 0.125 |" in written
    assert "- b: wrong_answer 20" in written
    rows = (tmp_path / "results.csv").read_text().splitlines()
    assert len(rows) == 4
    assert rows[0].startswith("run,status,method,")
    assert str(tmp_path / "report.md") in text
    assert str(tmp_path / "b") in text


def test_a_run_is_compared_with_the_reference_of_its_seed(tmp_path):
    write_run(tmp_path / "p0", "positive_only", "1000", seed=0, overrides=["seed=0", "method=positive_only"])
    write_run(tmp_path / "p1", "positive_only", "0111", seed=1, overrides=["seed=1", "method=positive_only"])
    write_run(tmp_path / "n1", "nut", "0111", seed=1, negatives=5, overrides=["seed=1", "method=nut"])
    cells = report.compared(report.read_cells(tmp_path))
    (nut,) = [cell for cell in cells if cell.method == "nut"]
    assert nut.difference is not None
    assert (nut.difference.only_first, nut.difference.only_second) == (0, 0)
    header, *rows = report.table(cells)
    assert header[:2] == ["method", "seed"]
    assert [row[:2] for row in rows] == [["positive_only", "0"], ["positive_only", "1"], ["nut", "1"]]


def test_a_run_is_compared_with_the_reference_of_its_failure_rate(tmp_path):
    for rate, successes in (("0.1", "1000"), ("0.3", "0111")):
        overrides = [f"environment.failure_rate={rate}", "seed=0"]
        write_run(tmp_path / f"p{rate}", "positive_only", successes, overrides=[*overrides, "method=positive_only"])
        write_run(tmp_path / f"n{rate}", "nat", successes, negatives=9, overrides=[*overrides, "method=nat"])
    cells = report.compared(report.read_cells(tmp_path))
    assert [cell.difference.difference for cell in cells if cell.difference is not None] == [0.0, 0.0]
    assert report.table(cells)[0][:2] == ["method", "failure_rate"]
    report.write(tmp_path)
    assert (tmp_path / "success.png").read_bytes()[:4] == b"\x89PNG"
    assert "nat, failure_rate 0.1" in (tmp_path / "success.svg").read_text()


def test_other_questions_are_not_compared(tmp_path):
    write_run(tmp_path / "p", "positive_only", "1000")
    write_run(tmp_path / "n", "nut", "10001", negatives=5)
    (nut,) = [cell for cell in report.compared(report.read_cells(tmp_path)) if cell.method == "nut"]
    assert nut.difference is None


def test_what_is_missing_is_said(tmp_path):
    write_run(tmp_path / "done-1", "positive_only", "1000")
    for name in ("dead-1", "bad-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("")
    (tmp_path / "dead-1" / "results.json").write_text(json.dumps({"status": "running"}))
    error = {"kind": "stage", "message": "the loss is nan\nmore"}
    (tmp_path / "bad-1" / "results.json").write_text(json.dumps({"status": "failed", "error": error}))
    cells = [{"name": name} for name in ("done-1", "dead-1", "bad-1", "never-1")]
    (tmp_path / "sweep.json").write_text(json.dumps({"cells": cells}))
    text = report.write(tmp_path)
    assert "3 runs are not in the table" in text
    for line in ("dead-1: running", "bad-1: failed: the loss is nan", "never-1: not started"):
        assert f"  {line}\n" in text


def test_nothing_to_report_is_an_error(tmp_path):
    with pytest.raises(RequestError, match="no run below it"):
        report.write(tmp_path)
    with pytest.raises(RequestError, match="no such directory"):
        report.write(tmp_path / "nowhere")
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(RequestError, match=r"results\.json: not valid JSON"):
        report.write(tmp_path)


def test_budgets_are_compared_with_their_own_reference_and_never_across_seeds(tmp_path):
    for steps, successes in (("100", "0001"), ("400", "0011")):
        setting = [f"training.max_steps={steps}"]
        write_run(tmp_path / f"p{steps}", "positive_only", successes, overrides=[*setting, "method=positive_only"])
        write_run(tmp_path / f"n{steps}", "nat", "0111", negatives=9, overrides=[*setting, "method=nat"])
    write_run(tmp_path / "other", "nat", "1111", seed=1, overrides=["training.max_steps=100", "seed=1", "method=nat"])
    cells = {cell.directory.name: cell for cell in report.compared(report.read_cells(tmp_path))}
    assert cells["n100"].difference is not None
    assert cells["n100"].difference.difference == 0.5
    assert cells["n400"].difference is not None
    assert cells["n400"].difference.difference == 0.25
    assert cells["other"].difference is None


def test_equal_ids_of_different_questions_are_not_paired(tmp_path):
    write_run(tmp_path / "p", "positive_only", "0011")
    write_run(tmp_path / "n", "nat", "0111", negatives=9)
    path = tmp_path / "n" / "rollouts.jsonl"
    path.write_text(path.read_text().replace("text ", "another text "))
    assert all(cell.difference is None for cell in report.compared(report.read_cells(tmp_path)))


def test_a_run_without_roll_outs_is_listed_not_fatal(tmp_path):
    write_run(tmp_path / "p", "positive_only", "0011")
    write_run(tmp_path / "n", "nat", "0111")
    results = json.loads((tmp_path / "n" / "results.json").read_text())
    del results["success_rate"], results["ci95"]
    (tmp_path / "n" / "results.json").write_text(json.dumps(results))
    (tmp_path / "sweep.json").write_text("[")
    text = report.write(tmp_path)
    assert "n: completed without roll-outs" in text
    assert "sweep.json cannot be read" in text


def test_seeds_are_summed_up_with_students_interval(tmp_path):
    for seed, nat_successes in ((0, "1100"), (1, "1110"), (2, "1111")):
        where = ["tracking=none"] if seed else []  # an override that changes no result
        write_run(tmp_path / f"p{seed}", "positive_only", "1000", seed=seed, overrides=[f"seed={seed}", *where])
        write_run(tmp_path / f"n{seed}", "nat", nat_successes, seed=seed, negatives=9, overrides=[f"seed={seed}"])
    text = report.write(tmp_path)
    # Differences 0.25, 0.5, 0.75: mean 0.5, standard error 0.25 / sqrt(3) = 0.1443, t(2 df) = 4.3027, half 0.621.
    summary = text.split("over seeds:\n", 1)[1]
    (row,) = [line for line in summary.splitlines() if line.startswith("nat")]
    assert row.split()[1:] == ["3", "0.750", "+0.500", "[-0.121,", "+1.121]"]
    assert "| nat | 3 | 0.750 | +0.500 [-0.121, +1.121] |" in (tmp_path / "report.md").read_text()
