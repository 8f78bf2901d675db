"""experiments/paper: the digitised figures, the sampling error computed from them, and what its README says."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from types import ModuleType

import pytest

from nat.core.statistics import crossed_difference
from nat.runs.packed import packed_runs
from tests.conftest import ROOT

FOLDER = ROOT / "experiments" / "paper"
RATIO_SWEEP = ROOT / "experiments" / "ratio_sweep"
needs_cells = pytest.mark.skipif(
    not (RATIO_SWEEP / "cells.zip").exists(), reason="the committed cells are in a checkout only, not in an sdist"
)

if not FOLDER.is_dir():
    pytest.skip("experiments/ is in a checkout only, not in an sdist", allow_module_level=True)


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("paper_figures", FOLDER / "figures.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def paper() -> dict:
    return json.loads((FOLDER / "figures.json").read_text())


def test_the_digitised_figures_are_those_that_were_read_off(paper):
    curves = {(c["method"], c["positives"]): c["values"] for c in paper["math_average"]["curves"]}
    assert paper["math_average"]["negatives"] == list(range(0, 12001, 1000))
    # The first, the seventh and the last point, and the sum of all 13.
    read = {key: (v[0], v[6], v[12], round(sum(v), 1)) for key, v in curves.items()}
    assert read == {
        ("nut", 2000): (56.2, 61.1, 61.8, 788.2),
        ("nat", 2000): (56.2, 62.0, 64.9, 806.5),
        ("nut", 5000): (64.6, 65.3, 66.5, 844.4),
        ("nat", 5000): (64.6, 66.2, 67.0, 854.5),
    }
    assert [(a["method"], a["negatives"], a["em"], a["f1"]) for a in paper["hotpotqa"]["arms"]] == [
        ("positive_only", 0, 27.0, 36.9),
        ("nut", 500, 30.0, 41.8),
        ("nat", 500, 31.2, 43.2),
        ("nat_graded", 500, 30.6, 42.6),
        ("nut", 1000, 28.5, 41.4),
        ("nat", 1000, 28.5, 41.9),
        ("nat_graded", 1000, 30.8, 43.9),
    ]


def test_standard_errors_by_hand(figures):
    assert figures.unpaired_error(0.5, 0.5, [50]) == pytest.approx(0.1)  # (2 * 0.25 / 50) ** 0.5
    assert figures.unpaired_error(0.2, 0.5, [41]) == pytest.approx(0.1)  # ((0.16 + 0.25) / 41) ** 0.5
    # A mean of two sets of 50 has half the variance of one.
    assert figures.unpaired_error(0.5, 0.5, [50, 50]) == pytest.approx(0.1 / 2**0.5)
    assert figures.paired_error(0.25, [100]) == pytest.approx(0.05)
    assert figures.paired_error(0.25, [100, 100]) == pytest.approx(0.05 / 2**0.5)
    assert figures.half_width(0.1) == pytest.approx(0.195996, abs=1e-6)


def test_a_difference_is_inside_up_to_the_half_width(figures):
    # 500 questions, 30.0 against 27.0: ((0.21 + 0.1971) / 500) ** 0.5 = 0.02853, half width 5.59 points.
    def inside(first, disagreement=None):
        return figures._is_inside(figures.Difference("", first, 27.0, (500,)), disagreement)

    assert inside(30.0) and inside(32.5) and not inside(32.8)
    # 15% differ: (0.15 / 500) ** 0.5 = 0.01732, half width 3.39 points, on either side.
    assert inside(30.3, 0.15) and not inside(30.5, 0.15) and not inside(23.5, 0.15)


def test_which_differences_are_counted(figures, paper):
    by_group: dict[str, list[float]] = {}
    for difference in figures.differences(paper):
        by_group.setdefault(difference.group, []).append(difference.points)
    assert by_group["HotpotQA exact match: each arm against successes alone"] == [3.0, 4.2, 3.6, 1.5, 1.5, 3.8]
    assert by_group["HotpotQA exact match: NAT and graded NAT against NUT"] == [1.2, 0.6, 0.0, 2.3]
    assert by_group["math, 5000 successes: NAT against NUT, at each count"] == [
        0.4, -0.3, 0.5, 1.9, 0.2, 0.9, 1.0, 0.3, 0.8, 2.4, 1.5, 0.5,
    ]  # fmt: skip
    assert len(by_group) == 10 and sum(map(len, by_group.values())) == 92


def test_the_trend_of_a_straight_line_is_its_slope(figures, paper):
    curve = {"method": "nut", "positives": 2000, "values": [50 + 0.5 * place for place in range(13)]}
    curve["values"][6] += 1.3  # one point off the line: the middle one, which leaves the slope as it is
    changed = {**paper, "math_average": {**paper["math_average"], "curves": [curve]}}
    # Left over: 1.2 at the middle and -0.1 at twelve points: (1.44 + 0.12) / 11 = 0.1418, whose root is 0.377;
    # the slope's error is that over the root of 182, times 2.201.
    assert figures.trend_table(changed)[2].startswith("| NUT, 2000 successes | +0.50 [+0.44, +0.56] |")
    assert figures.trend_table(changed)[2].endswith("| 0.38 |")


def test_gains_are_of_the_seeds_that_both_have(figures):
    first = {0: {"a": 1.0, "b": 1.0}, 1: {"a": 1.0, "b": 0.0}, 2: {"a": 1.0, "b": 1.0}}
    second = {1: {"a": 0.0, "b": 0.0}, 0: {"a": 1.0, "b": 0.0}}
    assert figures.gain(first, second).difference == 0.5
    assert figures.gain(first, second) == crossed_difference([first[0], first[1]], [second[0], second[1]])


@needs_cells
def test_the_readme_holds_all_that_the_script_prints(figures, paper):
    """That it holds it to the letter is for tests/test_experiment_tables.py."""
    cells, missing = figures.read_cells(RATIO_SWEEP, "success", figures.RATIO_SWEEP)
    assert missing == []
    marked = re.findall(r"<!-- table paper_(\w+) -->", (FOLDER / "README.md").read_text())
    assert len(marked) == 7 and sorted(marked) == sorted(figures.tables(paper, cells))


@pytest.mark.slow
@needs_cells
def test_what_is_missing_is_named_and_left_out(figures, tmp_path, capsys):
    for files in packed_runs(RATIO_SWEEP):
        if re.search("positives=50,ratio=1to[08],seed=0", files.name):
            files.unpack(tmp_path / "ratio_sweep" / files.name)
    figures.main(["--experiments", str(tmp_path), "--output", str(tmp_path)])
    printed = capsys.readouterr()
    named = printed.err.splitlines()
    assert f"{tmp_path.name}/ratio_sweep: strategy=none with 50 successes at 1:8 has 1 of 3 seeds." in named
    assert f"{tmp_path.name}/ratio_sweep: strategy=suffix with 200 successes at 1:0 has 0 of 3 seeds." in named
    assert f"{tmp_path.name}/hotpotqa: there are no cells." in named
    assert "| HotpotQA, exact match | 500 |" in printed.out and "ours (ratio_sweep)" not in printed.out
    assert "not measured yet" in (tmp_path / "figures.svg").read_text()
    assert (tmp_path / "figures.png").stat().st_size > 10_000
