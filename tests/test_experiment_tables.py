"""The tables of experiments/**/README.md are those that experiments/tables.py writes; reports say what runs say."""

import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.conftest import ROOT

EXPERIMENTS = ROOT / "experiments"
if not EXPERIMENTS.is_dir():
    pytest.skip("experiments/ is in a checkout only, not in an sdist", allow_module_level=True)

sys.path.insert(0, str(EXPERIMENTS))  # as for `python experiments/tables.py`
measured, tables = import_module("measured"), import_module("tables")

READMES = sorted(EXPERIMENTS.rglob("README.md"))
REPORTS = [path for path in sorted(EXPERIMENTS.glob("*/report.md")) if path.with_name("cells.zip").is_file()]
BY_HAND = {  # README: its tables of texts, and of what no committed file holds
    "experiments": 1,  # the tools
    "benchmarks": 1,  # the trainer beside a bare loop
    "tiny_model": 1,  # the files
    "tiny_search": 2,  # the files; the attempts before the one that ships
}


# ---- the committed files ----


def test_the_committed_tables_are_those_that_the_command_writes():
    done = subprocess.run(
        [sys.executable, EXPERIMENTS / "tables.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_every_table_stands_in_one_readme():
    marked = re.findall(r"<!-- table (\w+) -->", "".join(readme.read_text(encoding="utf-8") for readme in READMES))
    assert sorted(marked) == sorted(tables.TABLES)


def test_no_other_table_holds_measured_numbers():
    outside = {readme: measured.BETWEEN.sub("", readme.read_text(encoding="utf-8")) for readme in READMES}
    counts = {readme.parent.name: text.count("\n|---") for readme, text in outside.items()}
    assert {name: n for name, n in counts.items() if n} == BY_HAND


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.parent.name)
def test_the_arms_of_a_report_are_the_means_of_its_runs(report):
    """Of every folder, those without a README of their own (demo, controls_*) included."""
    arms, runs = (measured.read(report.parent.name, file) for file in ("arms.csv", "results.csv"))
    lines = report.read_text(encoding="utf-8").splitlines()
    (start,) = (place for place, line in enumerate(lines) if line.startswith("| method | strategy |"))
    success = lines[start].split(" | ").index("success")
    columns = list(arms[0])
    settings = columns[1 : columns.index("n_seeds")] + [column for column in columns if "." in column]
    named = [column for column in settings if column in runs[0]]
    for arm, line in zip(arms, lines[start + 2 : start + 2 + len(arms)], strict=True):
        row = line.removeprefix("| ").split(" | ")
        assert row[:2] == [arm["method"], arm["strategy"]]
        seeds = arm["seeds"].split()
        members = [run for run in runs if run["seed"] in seeds and all(run[key] == arm[key] for key in named)]
        assert sorted(run["seed"] for run in members) == sorted(seeds), arm["arm"]
        mean = sum(float(run["test_success"]) for run in members) / len(members)
        assert float(arm["test_success"]) == pytest.approx(mean, abs=2e-6), arm["arm"]
        assert float(row[success]) == pytest.approx(mean, abs=0.000502), arm["arm"]


def test_the_page_says_of_marked_arms_what_all_reports_say():
    tables_of_arms = [measured.read(report.parent.name, "arms.csv") for report in REPORTS]
    marked = {  # an arm that stands in two folders counts once
        tuple(arm[column] for column in ("strategy", "positives", "negatives", "test_success", "text_difference"))
        for arms in tables_of_arms
        for arm in arms
        if arm.get("text_difference") and arm["n_seeds"] == "3" and int(arm["negatives"] or 0) > 0
    }
    differences = [float(difference) for *_, difference in marked]
    n, mean = len(differences), 100 * sum(differences) / len(differences)
    ahead, behind = (sum(sign * one > 0 for one in differences) for sign in (1, -1))
    said = f"Of {n} marked arms with three seeds, {ahead} are ahead of their unmarked NUT and {behind} behind; "
    said += f"the mean difference is {mean:.1f} points"
    assert said in " ".join((EXPERIMENTS / "README.md").read_text(encoding="utf-8").split())


# ---- writing ----


@pytest.fixture
def readme(tmp_path) -> Path:
    return shutil.copy(EXPERIMENTS / "scarcity" / "README.md", tmp_path / "README.md")


def test_an_edited_number_is_found_and_written_again(readme, capsys):
    before = readme.read_text()
    assert before.count("| 0.229 |") == 1
    readme.write_text(edited := before.replace("| 0.229 |", "| 0.299 |"))
    assert measured.main(["--check", str(readme)]) == 1
    assert readme.read_text() == edited
    assert capsys.readouterr().out == f"{readme}: table scarcity is not what was measured: make tables\n"
    assert measured.main([str(readme)]) == 0
    assert readme.read_text() == before
    assert capsys.readouterr().out == f"{readme}: table scarcity written\n"
    assert measured.main(["--check", str(readme)]) == 0


def test_a_run_that_was_measured_again_changes_its_table(readme, monkeypatch):
    """25 successes alone solved .0375, .045 and .0225 with the three seeds; now the first of them .3375."""
    rows = {file: list(measured.read("scarcity", file)) for file in ("results.csv", "arms.csv")}
    (place,) = (
        n
        for n, run in enumerate(rows["results.csv"])
        if (run["positives"], run["negatives"], run["strategy"], run["seed"]) == ("25", "0", "none", "0")
    )
    rows["results.csv"][place] = rows["results.csv"][place] | {"test_success": "0.3375"}
    monkeypatch.setattr(measured, "read", lambda folder, file: rows[file])
    text, differing = measured.rewritten(readme.read_text())
    assert differing == ["scarcity"]
    assert text == readme.read_text().replace("| 25 | 0.035 |", "| 25 | 0.135 |")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("<!-- end -->", "", "a table stands between a line `<!-- table NAME -->` and a line `<!-- end -->`"),
        ("<!-- table scarcity -->", "", "a table stands between"),
        ("table scarcity", "table scarce", "experiments/tables.py defines no table 'scarce', only agent_style, "),
    ],
)
def test_a_wrong_marker_is_refused(readme, old, new, expected):
    readme.write_text(readme.read_text().replace(old, new))
    with pytest.raises(SystemExit) as refused:
        measured.main([str(readme)])
    assert str(refused.value).startswith(f"error: {readme}: ") and expected in str(refused.value)


def test_a_table_is_markdown():
    assert measured.markdown(("", "NUT"), [("`a`", "**1**"), ("b", "")]) == [
        "| | NUT |",
        "|---|---|",
        "| `a` | **1** |",
        "| b | |",
    ]


# ---- numbers ----

# Means .3 and .4; differences .1, .2 and 0, whose Student's half width is 4.30265 * .1 / 3 ** .5 = .2484.
RESULTS = """run,status,method,positives,training.max_steps,seed,test_success,f1,test_questions,failures.lost,seconds
a,completed,positive_only,50,300,0,0.2,0.25,100,,60
b,completed,positive_only,50,300,1,0.3,0.35,100,,60
c,completed,positive_only,50,300,2,0.4,,100,,
e,completed,nut,50,300,10,0.5,0.6,100,10,60
d,completed,nut,50,300,2,0.4,0.5,100,20,60
g,failed,nut,50,300,3,,,,,
h,completed,nat,50,300,0,0.3,0.5,100,,60
i,completed,nat,50,300,1,0.5,0.6,100,,60
j,completed,nat,50,300,2,0.4,0.7,100,5,60
k,completed,nat,100,300.0,0,0.9,0.7,100,5,60
l,completed,nat,100,300.0,1,0.9,0.7,100,5,60
"""
ARMS = """arm,method,positives,n_seeds,seeds,test_success,difference,difference_low,difference_high
positive_only,positive_only,50,3,0 1 2,0.3,,,
nut,nut,50,2,2 10,0.46,0.16,0.1,0.2
nat,nat,50,3,0 1 2,0.4,0.1,-0.15,0.35
"""


@pytest.fixture
def sweep(tmp_path) -> measured.Sweep:
    (tmp_path / "results.csv").write_text(RESULTS)
    (tmp_path / "arms.csv").write_text(ARMS)
    return measured.Sweep(str(tmp_path))


def test_numbers_of_an_arm_are_those_of_its_completed_runs_in_the_order_of_their_seeds(sweep):
    nut, nat = sweep.arm(method="nut", max_steps=300), sweep.arm(method="nat", positives=50)
    assert nut.each() == [0.4, 0.5] and nat.each("f1") == [0.5, 0.6, 0.7]
    assert measured.mean(nat.each()) == "0.400"
    assert measured.mean_and_each(nat.each()) == "0.400 (.300, .500, .400)"
    assert measured.mean_and_each([1.0, 0.0]) == "0.500 (1.000, .000)"
    assert measured.points_of_each(nat.each(), nat.each("f1")) == "-20.0, -10.0, -30.0"
    assert nut.share("lost") == 0.15 and nat.share("lost") == pytest.approx(5 / 300)
    assert sweep.minutes() == "9"  # of nine runs


def test_differences_are_from_arms_csv_or_paired_by_seed(sweep):
    alone, nat = sweep.arm(method="positive_only"), sweep.arm(method="nat", positives=50)
    assert nat.difference() == measured.Difference(0.1, -0.15, 0.35)
    assert measured.points(nat.difference()) == "+10.0 [-15.0, 35.0]"
    assert alone.difference() is None and measured.points(None) == ""
    assert measured.points(nat.minus(alone)) == "+10.0 [-14.8, 34.8]"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"method": "nta"}, "0 runs of 0 seeds in {}/results.csv have {'method': 'nta'}"),
        ({"method": "nat"}, "5 runs of 3 seeds in {}/results.csv have {'method': 'nat'}"),
        ({"ratio": "1:4"}, "{}/results.csv has no column ratio, or more than one"),
    ],
)
def test_values_that_name_no_arm_are_refused(sweep, values, expected):
    with pytest.raises(ValueError) as refused:
        sweep.arm(**values)
    assert str(refused.value) == expected.replace("{}", sweep.folder)


def test_arms_that_do_not_belong_together_are_refused(sweep):
    alone, nut = sweep.arm(method="positive_only"), sweep.arm(method="nut")
    with pytest.raises(ValueError, match=r"seeds \['2', '10'\] against seeds \['0', '1', '2'\]"):
        nut.minus(alone)
    with pytest.raises(ValueError, match=r"arms.csv says 0.46 of nut, results.csv 0.450000"):
        nut.difference()
    both = sweep.arm(max_steps=300, f1=0.25)
    with pytest.raises(ValueError, match=r"0 rows of arms.csv fit \['a'\]"):
        both.difference()
    with pytest.raises(KeyError, match="text_difference"):
        sweep.arm(method="nat", positives=50).difference("text_difference")
