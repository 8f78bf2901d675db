"""Every table of measured rates in experiments/ says what the results.csv beside it says.

A comment directly above a table says where its numbers come from. One line an entry, `LABEL: TOKEN TOKEN ...`:

    <!-- measured
    50: positives=50
    NUT: method=nut
    NAT: method=nat
    1:8: ratio=1:8
    gain, points: ratio=1:8 arms=difference x100
    minutes: unchecked
    -->
    | successes | method | 1:8 | gain, points | minutes |
    |---|---|---|---|---|
    | 50 | NUT | 0.380 | +31.5 [25.9, 36.8] | 17 |
    | 50 | **NAT** | 0.369 (.385, .355, .368) | +30.4 [23.5, 37.0] | 18 |

A column whose heading has an entry is checked; every other column is one of row labels, each of which needs an entry
(`**` and backticks do not count; an entry that ends in `...` stands for all labels that begin so). An entry for all
labels of a row together, `1 | NUT`, says what none of them says alone. A cell's tokens are those of its row's labels
and of its heading together:

    COLUMN=VALUE          only runs with this value in this column of results.csv (0.10 is 0.1); one run a seed must be
                          left over
    folder=DIR            results.csv and arms.csv lie there, seen from the README; without it, beside the README
    value=COLUMN          the number, from results.csv; without it test_success
    less=COLUMN           minus this column, run by run
    against.COLUMN=VALUE  minus the run of the same seed for which COLUMN is VALUE and the other filters are as they are
    arms=COLUMN           the number from arms.csv, of the arm that the runs belong to, such as `difference` (to the
                          successes alone) and `text_difference` (to NUT); its interval from COLUMN_low and COLUMN_high
    x100                  in points or percent
    rows=COLUMN           in a heading's entry: a column of labels that are themselves values of COLUMN, but for those
                          that have an entry
    unchecked             alone, for a column or a row that nothing in these files gives

A cell is a mean over seeds `0.312`, with each seed in order `0.312 (.305, .398, .233)`, with its 95% interval
`+7.8 [2.2, 13.3]` (with `against`: Student's over seeds), each seed alone `-2.8, -1.8, -2.2`, or `-` (or nothing) where
the files have no number. As many decimals are compared as are written.
"""

import csv
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from nat.statistics import mean_interval
from tests.conftest import ROOT

EXPERIMENTS = ROOT / "experiments"
UNMARKED = {  # READMEs whose tables come from elsewhere than a sweep's cells
    "benchmarks": "JSON files of its scripts: seconds, memory, counts",
    "seed_variation": "variation.json; tests/test_experiments.py compares",
    "paper": "figures.py prints them; tests/test_paper_figures.py compares",
    "tiny_model": "results.json and difficulty.json",
    "tiny_search": "results.json and results_first.json",
}
MARKER = "<!-- measured"
NUMBER = r"[+\-−]?\d*\.?\d+"
NUMBERS = rf"{NUMBER}(?:\s*,\s*{NUMBER})*"
CELL = re.compile(rf"(?P<numbers>{NUMBERS})?\s*(?:\((?P<each>{NUMBERS})\))?\s*(?:\[(?P<interval>{NUMBERS})\])?")
RATE = re.compile(r"(?<![\w.])[+\-−]?\d*\.\d+(?![\w.]*\w)|\d\s?%|\d points?\b")
COUNTS = ("positives", "negatives")
MEANING = ("folder", "value", "less", "arms", "x100", "rows", "unchecked")  # tokens that are no filter


@dataclass(frozen=True)
class Table:
    """A table of a Markdown file; cells without the marks of bold type and code."""

    line: int  # of its head, from 1
    head: list[str]
    rows: list[list[str]]
    marker: dict[str, dict[str, str]] | None  # label: token: value


def tables(text: str) -> list[Table]:
    lines = text.splitlines()
    found = []
    for place in range(1, len(lines)):
        if not re.fullmatch(r"\s*\|?(\s*:?-+:?\s*\|)+(\s*:?-+:?\s*)?", lines[place]):
            continue
        rows = [_cells(line) for line in _until(lines[place + 1 :], lambda line: not line.lstrip().startswith("|"))]
        found.append(Table(place, _cells(lines[place - 1]), rows, _marker(lines[: place - 1])))
    return found


def _cells(line: str) -> list[str]:
    return [re.sub(r"\*\*|`", "", cell).strip() for cell in line.strip().strip("|").split("|")]


def _until(lines: list[str], ends: Callable[[str], bool]) -> list[str]:
    return lines[: next((place for place, line in enumerate(lines) if ends(line)), len(lines))]


def _marker(above: list[str]) -> dict[str, dict[str, str]] | None:
    """The entries of a comment at the end of these lines, blank lines aside."""
    while above and not above[-1].strip():
        above = above[:-1]
    if not above or above[-1].strip() != "-->" or MARKER not in above:
        return None
    inside = above[len(above) - above[::-1].index(MARKER) : -1]
    entries = (re.fullmatch(r"\s*(.*):\s+(\S.*)", line) for line in inside if line.strip())
    marker = {}
    for entry in entries:
        assert entry, f"an entry of a marker is `LABEL: TOKEN ...`: {inside}"
        label, tokens = entry.groups()
        marker[re.sub(r"\*\*|`", "", label).strip()] = {
            key: value for key, _, value in (token.partition("=") for token in tokens.split())
        }
    return marker


def complaints(readme: Path) -> list[str]:
    """What a README's tables say that the files do not, and tables that do not say where they come from."""
    found = []
    for table in tables(readme.read_text(encoding="utf-8")):
        place = f"{readme.parent.name}/{readme.name}:{table.line}"
        if table.marker is not None:
            found += [f"{place}: {complaint}" for complaint in _of_table(table, table.marker, readme.parent)]
        elif readme.parent.name not in UNMARKED and any(RATE.search(cell) for row in table.rows for cell in row):
            found.append(f"{place}: a table of rates needs `{MARKER}` above it (see tests/test_experiment_tables.py)")
    return found


def _of_table(table: Table, marker: Mapping[str, dict[str, str]], folder: Path) -> list[str]:
    found = []
    used: set[str] = set()

    def entry(label: str) -> dict[str, str] | None:
        fitting = (key for key in marker if key == label or (key.endswith("...") and label.startswith(key[:-3])))
        key = max(fitting, key=len, default=None)
        used.update([key] if key is not None else [])
        return marker[key] if key is not None else None

    headings = [entry(heading) for heading in table.head]
    for row in table.rows:
        if len(row) != len(table.head):
            found.append(f"a row of {len(row)} cells below a head of {len(table.head)}: {row}")
            continue
        of_row: dict[str, str] = {}
        labels = []
        for heading, cell in zip(headings, row, strict=True):
            if heading is None or "rows" in heading:
                labels.append(cell)
                of_label = entry(cell) or ({heading["rows"]: cell} if heading else None)
                if of_label is None:
                    found.append(f"no entry for the label {cell!r} in the marker")
                of_row |= of_label or {"unchecked": ""}
        if len(labels) > 1:
            of_row |= entry(" | ".join(labels)) or {}
        for name, heading, cell in zip(table.head, headings, row, strict=True):
            if heading is None or "rows" in heading or "unchecked" in {**heading, **of_row}:
                continue
            try:
                if any(heading[token] != of_row[token] for token in heading.keys() & of_row.keys()):
                    raise ValueError("the row's label and the heading say different things")
                complaint = _of_cell(cell, of_row | heading, folder)
            except ValueError as error:
                complaint = str(error)
            if complaint:
                found.append(f"{row[0]!r}, {name!r}: {complaint}")
    return found + [f"nothing in the table is called {label!r}" for label in marker if label not in used]


def _of_cell(cell: str, tokens: Mapping[str, str], folder: Path) -> str | None:
    mean, each, interval = _expected(tokens, folder / tokens.get("folder", "."))
    if cell in ("", "-"):
        return None if mean is None else f"the files have {mean:.4f} where the table has nothing"
    if mean is None:
        return f"{cell} stands there, and the files have no number"
    if not (written := CELL.fullmatch(cell)):
        return f"{cell!r} is no number with seeds in (...) or an interval in [...]"
    numbers = _split(written["numbers"])
    if len(numbers) > 1 or (written["each"] and not numbers):
        shown = [(numbers, each, "seeds")]
    else:
        shown = [(numbers, [mean], "mean"), (_split(written["each"]), each, "seeds")]
    shown.append((_split(written["interval"]), interval, "interval"))
    scale = 100 if "x100" in tokens else 1
    for texts, values, name in shown:
        if not texts:
            continue
        if len(texts) != len(values):
            return f"{len(texts)} numbers for the {name} in {cell}; the files have {len(values)}"
        for text, value in zip(texts, values, strict=True):
            decimals = len(text.partition(".")[2])
            # A half may be rounded either way, and the files themselves hold six decimals.
            if abs(float(text.replace("−", "-")) - scale * value) > 0.5 * 10**-decimals + scale * 1e-6:
                return f"{text} in {cell}; the files have {scale * value:.{decimals + 2}f}"
    return None


def _split(numbers: str | None) -> list[str]:
    return [number.strip() for number in (numbers or "").split(",") if number.strip()]


def _expected(tokens: Mapping[str, str], folder: Path) -> tuple[float | None, list[float], list[float]]:
    """Mean, each seed's number and the ends of the interval; None and nothing where the files have no number."""
    filters = {key: value for key, value in tokens.items() if key not in MEANING and not key.startswith("against.")}
    runs = _chosen(folder, filters)
    if "arms" in tokens:
        return _of_arm(folder, runs, tokens["arms"])
    by_seed = [{seed: _number(run, tokens.get("value", "test_success")) for seed, run in runs.items()}]
    if "less" in tokens:
        by_seed.append({seed: _number(run, tokens["less"]) for seed, run in runs.items()})
    against = {key.removeprefix("against."): value for key, value in tokens.items() if key.startswith("against.")}
    if against:
        others = _chosen(folder, filters | against)
        if others.keys() != runs.keys():
            raise ValueError(f"seeds {sorted(runs)} against seeds {sorted(others)}")
        by_seed.append({seed: _number(run, tokens.get("value", "test_success")) for seed, run in others.items()})
    each = []
    for seed in sorted(runs, key=int):
        numbers = [number for column in by_seed if (number := column[seed]) is not None]
        if len(numbers) < len(by_seed):
            return None, [], []
        each.append(numbers[0] - sum(numbers[1:]))
    interval = list(mean_interval(each)[1]) if against and len(each) > 1 else []
    return sum(each) / len(each), each, interval


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise ValueError(f"there is no {path.parent.name}/{path.name}")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _chosen(folder: Path, filters: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Completed runs by seed."""
    rows = _read(folder / "results.csv")
    if missing := [column for column in filters if column not in rows[0]]:
        raise ValueError(f"results.csv has no column {', '.join(missing)}")
    chosen = [row for row in rows if all(_same(row[column], value) for column, value in filters.items())]
    chosen = [row for row in chosen if row["status"] == "completed"]
    said = " ".join(f"{column}={value}" for column, value in filters.items())
    if not chosen:
        raise ValueError(f"no run of results.csv has {said}")
    by_seed = {row["seed"]: row for row in chosen}
    if len(by_seed) < len(chosen):
        raise ValueError(f"{said} fits {len(chosen)} runs of {len(by_seed)} seeds: say which of them")
    return by_seed


def _same(first: str, second: str) -> bool:
    try:
        return first == second or float(first) == float(second)
    except ValueError:
        return False


def _number(row: Mapping[str, str], column: str) -> float | None:
    if column not in row:
        raise ValueError(f"no column {column!r} in the file")
    return float(row[column]) if row[column] else None


def _of_arm(folder: Path, runs: Mapping[str, Mapping[str, str]], column: str) -> tuple[float | None, list, list[float]]:
    listed = _read(folder / "arms.csv")
    if len(listed) == 1 and column in ("difference", "text_difference"):
        return None, [], []  # a sweep of one arm has no such column
    arms = [arm for arm in listed if _belong_to(arm, runs.values())]
    if len(arms) != 1:
        raise ValueError(
            f"{len(arms)} arms of arms.csv have exactly these runs: {[run['run'] for run in runs.values()]}"
        )
    ends = [_number(arms[0], f"{column}_{end}") for end in ("low", "high") if f"{column}_{end}" in arms[0]]
    return _number(arms[0], column), [], [end for end in ends if end is not None]


def _belong_to(arm: Mapping[str, str], runs: Collection[Mapping[str, str]]) -> bool:
    """Whether an arm's seeds, method, text, setting and counts (means of its runs') are those of the runs."""
    columns = list(arm)
    setting = [column for column in columns[: columns.index("n_seeds")] if column not in ("arm", *COUNTS)]
    if arm["seeds"].split() != sorted((run["seed"] for run in runs), key=int):
        return False
    if not all(_same(run[column], arm[column]) for run in runs for column in setting):
        return False
    for column in COUNTS:
        counts = [number for run in runs if (number := _number(run, column)) is not None]
        if (round(sum(counts) / len(counts)) if counts else None) != _number(arm, column):
            return False
    return True


# ---- the committed files ----

READMES = sorted([*EXPERIMENTS.glob("README.md"), *EXPERIMENTS.glob("*/README.md")])
REPORTS = [path for path in sorted(EXPERIMENTS.glob("*/report.md")) if path.with_name("arms.csv").is_file()]


@pytest.mark.parametrize("readme", READMES, ids=lambda readme: readme.parent.name)
def test_the_tables_of_an_experiment_say_what_was_measured(readme):
    assert complaints(readme) == []


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.parent.name)
def test_the_arms_of_a_report_are_the_means_of_its_runs(report):
    """Of every folder, those without a README of their own (demo, controls_*) included."""
    arms, runs = _read(report.with_name("arms.csv")), _read(report.with_name("results.csv"))
    table = next(
        table for table in tables(report.read_text(encoding="utf-8")) if table.head[:2] == ["method", "strategy"]
    )
    success = table.head.index("success")
    for arm, row in zip(arms, table.rows, strict=True):
        assert row[:2] == [arm["method"], arm["strategy"]]
        settings = [column for column in arm if "." in column and column in runs[0]]  # empty: the value of the group
        members = [
            run
            for run in runs
            if _belong_to({**arm, "seeds": run["seed"]}, [run]) and all(run[key] == arm[key] for key in settings)
        ]
        assert sorted(run["seed"] for run in members) == sorted(arm["seeds"].split()), arm["arm"]
        mean = sum(float(run["test_success"]) for run in members) / len(members)
        assert float(arm["test_success"]) == pytest.approx(mean, abs=2e-6), arm["arm"]
        assert float(row[success]) == pytest.approx(mean, abs=0.000502), arm["arm"]


def test_the_page_says_of_marked_arms_what_all_reports_say():
    tables_of_arms = [_read(path) for path in sorted(EXPERIMENTS.glob("*/arms.csv"))]
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


# ---- what the mechanism finds ----

# Three seeds of two arms: means 0.3 and 0.4, differences .1, .2, 0 with Student's half width 4.30265 * 0.1 / 3**.5.
RESULTS = """run,status,method,strategy,positives,negatives,seed,test_success,f1
a,completed,positive_only,none,50,0,0,0.2,0.25
b,completed,positive_only,none,50,0,1,0.3,0.35
c,completed,positive_only,none,50,0,2,0.4,
d,completed,nut,none,50,400,0,0.3,0.5
e,completed,nut,none,50,400,1,0.5,0.6
f,completed,nut,none,50,400,2,0.4,0.7
g,failed,nut,none,50,400,2,,
"""
ARMS = """arm,method,strategy,positives,negatives,n_seeds,seeds,test_success,difference,difference_low,difference_high
positive_only,positive_only,none,50,0,3,0 1 2,0.3,,,
nut,nut,none,50,400,3,0 1 2,0.4,0.1,-0.15,0.35
"""
README = """# A title

<!-- measured
successes: rows=positives
`alone`: method=positive_only
with fail...: method=nut
success: value=test_success
points: arms=difference x100
gain: against.method=positive_only
gained: value=test_success less=f1
minutes: unchecked
-->
| successes | trained on | success | points | gain | gained | minutes |
|---|---|:--|---|---|---|---|
| 50 | `alone` | 0.300 (.2, .3, .4) | - | 0 | - | 7.5 |
| 50 | with failures | **0.4** | +10 [-15, 35.0] | 0.10 [-0.15, +0.35] | -.2, -.1, -.3 | 8.5 |
"""


def complaints_of(tmp_path: Path, readme: str, results: str = RESULTS, arms: str = ARMS) -> list[str]:
    (tmp_path / "results.csv").write_text(results)
    (tmp_path / "arms.csv").write_text(arms)
    (tmp_path / "README.md").write_text(readme)
    return complaints(tmp_path / "README.md")


def test_a_table_that_says_what_the_files_say_passes(tmp_path):
    # Half width 0.2484. The f1 of one seed of `alone` is not known, so that "gained" has no number there.
    assert complaints_of(tmp_path, README) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("**0.4**", "**0.41**", "0.41 in 0.41; the files have 0.4000"),
        (".3, .4)", ".3, .5)", ".5 in 0.300 (.2, .3, .5); the files have 0.400"),
        (" (.2, .3, .4)", " (.2, .3)", "2 numbers for the seeds in 0.300 (.2, .3); the files have 3"),
        ("+10 [-15, 35.0]", "-10 [-15, 35.0]", "-10 in -10 [-15, 35.0]; the files have 10.00"),
        ("+10 [-15, 35.0]", "+10 [-15, 35.1]", "35.1 in +10 [-15, 35.1]; the files have 35.000"),
        ("+0.35]", "+0.36]", "+0.36 in 0.10 [-0.15, +0.36]; the files have 0.3484"),
        ("+10 [-15, 35.0]", "-", "the files have 0.1000 where the table has nothing"),
        ("(.2, .3, .4) | -", "(.2, .3, .4) | 0", "0 stands there, and the files have no number"),
        ("**0.4**", "about 0.4", "'about 0.4' is no number with seeds in (...) or an interval in [...]"),
        ("| with failures", "| mixed", "no entry for the label 'mixed' in the marker"),
        ("minutes: unchecked\n", "", "no entry for the label '7.5' in the marker"),
        ("minutes: unchecked", "hours: unchecked", "nothing in the table is called 'hours'"),
        ("rows=positives", "rows=ratio", "results.csv has no column ratio"),
        ("method=nut", "method=nat", "no run of results.csv has positives=50 method=nat"),
        ("method=nut", "strategy=none", "positives=50 strategy=none fits 6 runs of 3 seeds: say which of them"),
        ("gain: ", "gain: method=nat ", "the row's label and the heading say different things"),
        ("value=test_success\n", "value=bleu\n", "no column 'bleu' in the file"),
        ("| 8.5 |", "|", "a row of 6 cells below a head of 7"),
        ("<!-- measured", "<!-- computed", "a table of rates needs `<!-- measured` above it"),
        ("\n-->\n", "\n-->\nA line between.\n", "a table of rates needs `<!-- measured` above it"),
    ],
)
def test_a_table_that_was_edited_fails(tmp_path, old, new, expected):
    assert README.count(old) == 1
    assert expected in "\n".join(complaints_of(tmp_path, README.replace(old, new)))


def test_a_run_that_was_measured_again_fails_the_table(tmp_path):
    found = complaints_of(
        tmp_path, README, RESULTS.replace("d,completed,nut,none,50,400,0,0.3", "d,completed,nut,none,50,400,0,0.6")
    )
    assert any("0.4 in 0.4; the files have 0.500" in complaint for complaint in found)


def test_an_entry_for_all_labels_of_a_row_is_of_that_row_alone(tmp_path):
    """50 means NUT's runs, but for the row that says something else."""
    table = "| successes | method | success |\n|---|---|---|\n| 50 | NUT | 0.4 |\n| 50 | alone | 0.3 |\n"
    labels = "50: positives=50 method=nut\nNUT: strategy=none\nalone: strategy=none\nsuccess: value=test_success\n"
    without = f"<!-- measured\n{labels}-->\n{table}"
    assert any("0.3 in 0.3; the files have 0.40" in complaint for complaint in complaints_of(tmp_path, without))
    assert complaints_of(tmp_path, without.replace("-->", "50 | alone: method=positive_only\n-->")) == []


@pytest.mark.parametrize(
    ("cell", "column", "expected"),
    [
        ("", "difference", ""),
        ("-", "text_difference", ""),
        ("+10.0", "difference", "+10.0 stands there, and the files have no number"),
        ("", "diference", "no column 'diference' in the file"),
    ],
)
def test_a_sweep_of_one_arm_has_no_difference(tmp_path, cell, column, expected):
    arms = "arm,method,strategy,positives,negatives,n_seeds,seeds\npositive_only,positive_only,none,50,0,3,0 1 2\n"
    marker = (
        f"<!-- measured\nalone: method=positive_only\nsuccess: value=test_success\npoints: arms={column} x100\n-->\n"
    )
    table = f"| trained on | success | points |\n|---|---|---|\n| alone | 0.3 | {cell} |\n"
    found = complaints_of(tmp_path, marker + table, arms=arms)
    assert found == [] if not expected else [expected in one for one in found] == [True]


@pytest.mark.parametrize("cell", ["0.31", "31%", "+30 points", "from .15 to .23", "**0.5**"])
def test_only_tables_without_rates_need_no_marker(tmp_path, cell):
    table = "| file | content |\n|---|---|\n| pretrain.py | version 1.2.3, 40 cells |\n"
    assert complaints_of(tmp_path, table) == []
    assert len(complaints_of(tmp_path, table + f"| b | {cell} |\n")) == 1
