"""What the sweeps of experiments/ measured, as cells of Markdown tables; tables.py says which tables there are.

    sweep = Sweep("ratio_sweep")                                     results.csv and arms.csv in that folder
    nut = sweep.arm(strategy="none", positives=50, negatives=400)    its completed runs, one a training seed
    alone = sweep.arm(strategy="none", positives=50, negatives=0)

    mean(nut.each())             0.380
    mean_and_each(nut.each())    0.380 (.360, .395, .385)
    points(nut.difference())     +31.5 [25.9, 36.8]    to the successes alone, from arms.csv: over questions and seeds
    points(nut.minus(alone))     +31.5 [26.8, 36.2]    seed by seed, with Student's interval over the seeds

A half is rounded as Python does it, which is how report.md has it.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nat.core.statistics import mean_interval

EXPERIMENTS = Path(__file__).parent
TABLES = ("results.csv", "arms.csv")  # a line a run, a line an arm; see docs/sweeps.md
BETWEEN = re.compile(r"(?<=<!-- table )(\w+)( -->\n)(.*?)(?=<!-- end -->)", re.DOTALL)

Row = Mapping[str, str]  # of a CSV file: its column's name to what stands there


# ---- what was measured ----


@dataclass(frozen=True)
class Difference:
    """Of two success rates, with the ends of its 95% interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Arm:
    """Runs of results.csv, one a training seed and in their order, and the rows of arms.csv that may be theirs."""

    runs: tuple[Row, ...]
    summaries: tuple[Row, ...]

    def each(self, column: str = "test_success") -> list[float]:
        """The number of each seed."""
        return [float(run[column]) for run in self.runs]

    def share(self, failure: str) -> float:
        """Of its test questions, how many ended so, such as in `abstained`: a kind that no run had is an empty cell."""
        ended = sum(float(run[f"failures.{failure}"] or 0) for run in self.runs)
        return ended / sum(self.each("test_questions"))

    def difference(self, column: str = "difference") -> Difference | None:
        """Such as `text_difference`, from arms.csv: None where the arm has no such difference.

        Raises ValueError where arms.csv has no or several rows for the arm, or was made from other runs.
        """
        if len(self.summaries) != 1:
            raise ValueError(f"{len(self.summaries)} rows of arms.csv fit {[run['run'] for run in self.runs]}")
        (summary,) = self.summaries
        success = sum(self.each()) / len(self.runs)
        if abs(float(summary["test_success"]) - success) > 2e-6:  # both files hold six decimals
            raise ValueError(f"arms.csv says {summary['test_success']} of {summary['arm']}, results.csv {success:.6f}")
        ends = [summary[name] for name in (column, f"{column}_low", f"{column}_high")]
        return Difference(*map(float, ends)) if all(ends) else None

    def minus(self, other: Arm) -> Difference:
        """Success, seed by seed; ValueError unless both have the same seeds, and at least two."""
        seeds, others = ([run["seed"] for run in arm.runs] for arm in (self, other))
        if seeds != others:
            raise ValueError(f"seeds {seeds} against seeds {others}")
        value, ends = mean_interval([a - b for a, b in zip(self.each(), other.each(), strict=True)])
        return Difference(value, *ends)


@dataclass(frozen=True)
class Sweep:
    """A folder with results.csv and arms.csv, seen from experiments/."""

    folder: str

    def arm(self, **values: object) -> Arm:
        """The completed runs that have these values, one a seed.

        A column is named in full or, as in the names of run directories, by what follows its last dot: `max_steps=30`
        for training.max_steps. Raises ValueError for no runs and for several of one seed.
        """
        runs = [run for run in self._fitting("results.csv", values) if run["status"] == "completed"]
        seeds = [run["seed"] for run in runs]
        if not runs or len(set(seeds)) < len(seeds):
            raise ValueError(f"{len(runs)} runs of {len(set(seeds))} seeds in {self.folder}/results.csv have {values}")
        in_both = {name: value for name, value in values.items() if _column(name, read(self.folder, "arms.csv")[0])}
        summaries = [
            summary
            for summary in self._fitting("arms.csv", in_both)
            if summary["seeds"].split() == sorted(seeds, key=int)
        ]
        return Arm(tuple(sorted(runs, key=lambda run: int(run["seed"]))), tuple(summaries))

    def minutes(self) -> str:
        """Of its runs together, but for those of a sweep beside it from before runs said their seconds."""
        seconds = [run["seconds"] for run in read(self.folder, "results.csv")]
        return f"{sum(float(number) for number in seconds if number) / 60:.0f}"

    def _fitting(self, file: str, values: Mapping[str, object]) -> list[Row]:
        rows = read(self.folder, file)
        columns = {name: _column(name, rows[0]) for name in values}
        if missing := [name for name, column in columns.items() if column is None]:
            raise ValueError(f"{self.folder}/{file} has no column {missing[0]}, or more than one")
        return [row for row in rows if all(_same(row[columns[name] or ""], value) for name, value in values.items())]


@cache
def read(folder: str, file: str) -> list[Row]:
    """The rows of a table that `nat report` wrote: in the sweep's folder, else where they are packed."""
    return list(csv.DictReader(io.StringIO(text_of(folder, file), newline="")))


def text_of(folder: str, file: str) -> str:
    loose = EXPERIMENTS / folder / file
    content = loose.read_bytes() if loose.is_file() else packed_tables()[f"{folder}/{file}"]
    return content.decode("utf-8")


@cache
def packed_tables() -> dict[str, bytes]:
    """The tables of all sweeps, by "folder/file"."""
    with zipfile.ZipFile(EXPERIMENTS / "tables.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _column(name: str, row: Row) -> str | None:
    if name in row:
        return name
    named = [column for column in row if column.rpartition(".")[2] == name]
    return named[0] if len(named) == 1 else None


def _same(written: str, value: object) -> bool:
    if isinstance(value, str):
        return written == value
    return written not in ("", "null") and float(written) == value  # null: a key that has no value


# ---- how it is written ----


def mean(each: Sequence[float]) -> str:
    return f"{sum(each) / len(each):.3f}"


def mean_and_each(each: Sequence[float]) -> str:
    return f"{mean(each)} ({', '.join(f'{number:.3f}'.removeprefix('0') for number in each)})"


def points(difference: Difference | None) -> str:
    """In points of success; nothing where there is no difference."""
    if difference is None:
        return ""
    value, low, high = (100 * number for number in (difference.mean, difference.low, difference.high))
    return f"{value:+.1f} [{low:.1f}, {high:.1f}]"


def points_of_each(first: Sequence[float], second: Sequence[float]) -> str:
    """First minus second, seed by seed, in points."""
    return ", ".join(f"{100 * (a - b):+.1f}" for a, b in zip(first, second, strict=True))


# ---- tables between their markers ----

TABLES: dict[str, Callable[[], list[str]]] = {}  # name in the marker: what makes the lines


def table(*head: str) -> Callable[[Callable[[], Iterable[Sequence[str]]]], None]:
    """The decorated function yields the rows below this head; its name is the table's."""

    def define(rows: Callable[[], Iterable[Sequence[str]]]) -> None:
        TABLES[rows.__name__] = lambda: markdown(head, rows())

    return define


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table whose cells are Markdown themselves."""
    lines = ["|" + "".join(f" {cell} |" if cell else " |" for cell in row) for row in (head, *rows)]
    return [lines[0], "|" + "---|" * len(head), *lines[1:]]


def rewritten(text: str) -> tuple[str, list[str]]:
    """A README with its tables as they should be, and the names of those that were not.

    Raises ValueError for a marker without its end or whose table nobody defines, and for what a table lacks.
    """
    if text.count("<!-- table ") != len(BETWEEN.findall(text)) or text.count("<!-- end -->") != text.count(
        "<!-- table "
    ):
        raise ValueError("a table stands between a line `<!-- table NAME -->` and a line `<!-- end -->`")
    differing = []

    def fill(found: re.Match[str]) -> str:
        name, marker, before = found.groups()
        if name not in TABLES:
            raise ValueError(f"experiments/tables.py defines no table {name!r}, only {', '.join(sorted(TABLES))}")
        try:
            lines = "".join(f"{line}\n" for line in TABLES[name]())
        except ValueError as error:
            raise ValueError(f"table {name}: {error}") from error
        if lines != before:
            differing.append(name)
        return f"{name}{marker}{lines}"

    return BETWEEN.sub(fill, text), differing


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables of READMEs; with --check write nothing, name the tables that differ and return 1."""
    parser = argparse.ArgumentParser(description="Write the tables of experiments/**/README.md from what was measured.")
    parser.add_argument("readmes", nargs="*", type=Path, help="only these files (default: all below experiments/)")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 and name the tables that differ")
    options = parser.parse_args(arguments)
    out_of_date = False
    for readme in options.readmes or sorted(EXPERIMENTS.rglob("README.md")):
        text = readme.read_text(encoding="utf-8")
        try:
            new, differing = rewritten(text)
        except ValueError as error:
            sys.exit(f"error: {readme}: {error}")
        for name in differing:
            print(f"{readme}: table {name} {'is not what was measured: make tables' if options.check else 'written'}")
        out_of_date |= bool(differing)
        if differing and not options.check:
            readme.write_text(new, encoding="utf-8")
    return int(options.check and out_of_date)
