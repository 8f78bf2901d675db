"""Compare finished runs, from their files alone: a table in the terminal, `report.md` and `results.csv`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nat.files import write_text
from nat.pictures import draw_success
from nat.questions import normalise
from nat.statistics import PairedDifference, mean_interval, paired_difference
from nat.types import RequestError

METHODS = ("base", "positive_only", "nut", "nat", "nat_graded")  # the order of rows
REFERENCE = "positive_only"  # what every other method is compared with
# Overrides that change where results go, not what they are.
OF_NO_EFFECT = ("hydra", "sweep", "tracking", "training.save")
SHOWN_FOLDERS = 8  # a larger sweep's are given by their number
# Overrides in which a run and its reference may differ: they are what makes the method.
OF_THE_METHOD = ("method", "mixing", "mixing.ratio", "mixing.negatives", "training")


@dataclass(frozen=True)
class CellResult:
    """What `results.json` and `rollouts.jsonl` of one run say. `scores` maps a question's text to 1 (success) or 0."""

    directory: Path
    results: Mapping[str, Any]
    scores: Mapping[str, float]
    difference: PairedDifference | None = None

    @property
    def status(self) -> str:
        return str(self.results.get("status", "running"))

    @property
    def is_evaluated(self) -> bool:
        return self.status == "completed" and "success_rate" in self.results and bool(self.scores)

    @property
    def coordinates(self) -> dict[str, str]:
        """Where the run stands in its sweep: its overrides, key to value."""
        pairs = (override.lstrip("+").partition("=") for override in self.results.get("overrides", ()))
        return {key: value.strip("'\"") for key, _, value in pairs if not key.startswith(OF_NO_EFFECT)}

    @property
    def method(self) -> str:
        return str(self.results.get("method") or "unknown")


def write(directory: Path) -> str:
    """Write the report of all runs below `directory`; returns the same as text for the terminal.

    Raises RequestError where there is no such directory or no run in it.
    """
    if not directory.is_dir():
        raise RequestError(f"nat report {directory}: there is no such directory.")
    cells = read_cells(directory)
    if not cells:
        raise RequestError(f"nat report {directory}: no run below it (no results.json).")
    finished = compared([cell for cell in cells if cell.is_evaluated])
    missing = missing_cells(directory, cells)
    rows = table(finished)
    write_text(directory / "report.md", markdown(directory, rows, finished, missing))
    write_text(directory / "results.csv", as_csv(finished))
    pictures = (
        draw_success(picture_rows(finished), _title(directory, finished), directory / "success") if finished else ()
    )
    lines = [aligned(rows)] if finished else ["no finished run with roll-outs yet"]
    if means := seed_means(finished):
        lines += ["", "over seeds:", aligned(means)]
    lines += ["", *caveats(finished, missing)] if missing or finished else []
    lines += ["", "written:", *(f"  {path}" for path in written_files(directory, cells, pictures))]
    return "\n".join(lines)


def read_cells(directory: Path) -> list[CellResult]:
    """All runs below a directory, in the order of the table."""
    cells = []
    for path in sorted(directory.rglob("results.json")):
        if not (path.parent / "config.yaml").exists():
            continue  # not a run's
        try:
            results = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RequestError(f"{path}: not valid JSON ({error}); delete the run or run it again.") from None
        cells.append(CellResult(path.parent, results, _scores(path.parent)))
    return sorted(cells, key=lambda cell: (_rank(cell.method), _sort_key(cell)))


def _rank(method: str) -> int:
    return METHODS.index(method) if method in METHODS else len(METHODS)


def _sort_key(cell: CellResult) -> tuple[Any, ...]:
    results = cell.results
    return (
        str(results.get("strategy")),
        results.get("negatives") or 0,
        results.get("positives") or 0,
        str(cell.directory),  # the swept values, the seed last
    )


def _scores(run_dir: Path) -> dict[str, float]:
    path = run_dir / "rollouts.jsonl"
    if not path.exists():
        return {}
    from nat.rollouts import read_rollouts

    # By text: two worlds, or two files, may give different questions the same id.
    return {normalise(rollout.question.text): float(rollout.outcome.success) for rollout in read_rollouts(path)}


def compared(cells: Sequence[CellResult]) -> list[CellResult]:
    """Each cell with its paired difference to its reference, where it has one."""
    return [
        replace(cell, difference=paired_difference(cell.scores, reference.scores))
        if (reference := reference_of(cell, cells))
        else cell
        for cell in cells
    ]


def reference_of(cell: CellResult, cells: Sequence[CellResult]) -> CellResult | None:
    """The positives-only run to compare with: asked the same questions, and equal in all that is not the method.

    The untrained base has neither seed nor positives: it is compared with the first such run.
    """
    if cell.method == REFERENCE or len(cell.scores) < 2:
        return None
    for other in cells:
        if other.method == REFERENCE and other.scores.keys() == cell.scores.keys():
            same = all(other.results.get(key) == cell.results.get(key) for key in ("seed", "model", "positives"))
            if cell.method == "base" or (same and _setting(other) == _setting(cell)):
                return other
    return None


def _setting(cell: CellResult) -> dict[str, str]:
    """The overrides of a run that are not its method's."""
    pairs = cell.coordinates.items()
    return {key: value for key, value in pairs if key not in OF_THE_METHOD and not key.startswith("strategy")}


def table(cells: Sequence[CellResult]) -> list[list[str]]:
    """Header and one row a cell; coordinates that all cells share are left out."""
    varying = varying_coordinates(cells)
    asked_other = any(_as_other(cell) for cell in cells)
    header = [
        "method",
        *(key.rpartition(".")[2] for key in varying),
        "positives",
        "negatives",
        "success",
        "95% interval",
    ]
    header += ["difference to positive_only"] + (["asked for the other class"] if asked_other else [])
    rows = [header]
    for cell in cells:
        results = cell.results
        low, high = results["ci95"]
        rows.append(
            [
                cell.method,
                *(text for _, text in _coordinates(cell, varying)),
                str(results.get("positives", "")),
                str(results.get("negatives", "")),
                f"{results['success_rate']:.3f}",
                f"[{low:.3f}, {high:.3f}]",
                _difference(cell),
                *([_as_other(cell) or "-"] if asked_other else []),
            ]
        )
    return rows


def seed_means(cells: Sequence[CellResult]) -> list[list[str]]:
    """Header and one row for each group of cells that differ in their seed alone; empty where there is none.

    The difference is the mean of the paired differences, its interval over seeds (Student's): it holds the variance
    of training, and of the questions only as far as it differs between seeds.
    """
    keys = [key for key in varying_coordinates(cells) if key != "seed"]
    groups: dict[tuple[str, ...], list[CellResult]] = {}
    for cell in cells:
        groups.setdefault((cell.method, *(text for _, text in _coordinates(cell, keys))), []).append(cell)
    rows = []
    for group, members in groups.items():
        if len({cell.results.get("seed") for cell in members}) < 2:
            continue
        rates = [cell.results["success_rate"] for cell in members]
        differences = [cell.difference.difference for cell in members if cell.difference is not None]
        difference = "-"
        if len(differences) == len(members):
            mean, (low, high) = mean_interval(differences)
            difference = f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
        rows.append([*group, str(len(members)), f"{sum(rates) / len(rates):.3f}", difference])
    header = [
        "method",
        *(key.rpartition(".")[2] for key in keys),
        "seeds",
        "mean success",
        "difference to positive_only",
    ]
    return [header, *sorted(rows, key=lambda row: (row[1 : len(keys) + 1], _rank(row[0])))] if rows else []


def varying_coordinates(cells: Sequence[CellResult]) -> list[str]:
    """The override keys that tell the cells apart, besides those of the method, which has columns of its own."""
    keys = dict.fromkeys(key for cell in cells for key in cell.coordinates)
    return [
        key
        for key in keys
        if key not in ("method", "mixing") and len({cell.coordinates.get(key) for cell in cells}) > 1
    ]


def _coordinates(cell: CellResult, keys: Sequence[str]) -> list[tuple[str, str]]:
    return [(key.rpartition(".")[2], cell.coordinates.get(key, "-")) for key in keys]


def _difference(cell: CellResult) -> str:
    if cell.difference is None:
        return "-"
    low, high = cell.difference.ci95
    return f"{cell.difference.difference:+.3f} [{low:+.3f}, {high:+.3f}]"


def _as_other(cell: CellResult) -> str:
    prefix = "success_rate_as_"
    others = {key.removeprefix(prefix): value for key, value in cell.results.items() if key.startswith(prefix)}
    return ", ".join(f"{name} {value:.3f}" for name, value in others.items())


def missing_cells(directory: Path, cells: Sequence[CellResult]) -> list[str]:
    """One line for each cell that is not completed, also for those that a sweep planned and never started."""
    lines = [_unfinished(cell) for cell in cells if not cell.is_evaluated]
    planned = directory / "sweep.json"
    if planned.exists():
        started = {cell.directory.name for cell in cells}
        try:
            names = [cell["name"] for cell in json.loads(planned.read_text(encoding="utf-8"))["cells"]]
        except (ValueError, KeyError, TypeError):
            return [*lines, f"{planned.name} cannot be read: cells that never started are not known"]
        lines += [f"{name}: not started" for name in names if name not in started]
    return lines


def _unfinished(cell: CellResult) -> str:
    error = cell.results.get("error") or {}
    message = str(error.get("message", "")).splitlines()
    status = "completed without roll-outs" if cell.status == "completed" else cell.status
    return f"{cell.directory.name}: {status}{': ' + message[0] if message else ''}"


def caveats(cells: Sequence[CellResult], missing: Sequence[str]) -> list[str]:
    """What a reader must know before believing the table."""
    lines = []
    if cells:
        counts = sorted({len(cell.scores) for cell in cells})
        lines.append(
            f"{' / '.join(map(str, counts))} questions a run; intervals are Wilson's, differences are paired on the "
            "same questions (Agresti-Min) and hold the variance over questions only, not that over training seeds."
        )
    if missing:
        lines += [f"{len(missing)} runs are not in the table:", *(f"  {line}" for line in missing)]
    return lines


def markdown(
    directory: Path, rows: Sequence[Sequence[str]], cells: Sequence[CellResult], missing: Sequence[str]
) -> str:
    lines = [f"# {directory.name}", ""]
    if cells:
        lines += markdown_table(rows)
        if means := seed_means(cells):
            lines += ["", "Over seeds (Student's interval of the paired differences):", "", *markdown_table(means)]
        lines += ["", "Failures by kind:", ""]
        lines += [f"- {cell.directory.name}: {_failures(cell)}" for cell in cells]
    if cells:
        lines += ["", "![success rates](success.svg)"]
    lines += ["", *caveats(cells, missing), ""]
    return "\n".join(lines)


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    header, *body = ("| " + " | ".join(row) + " |" for row in rows)
    return [header, "|" + "---|" * len(rows[0]), *body]


def _failures(cell: CellResult) -> str:
    failures = cell.results.get("failures") or {}
    return ", ".join(f"{kind} {count}" for kind, count in failures.items()) or "none"


def as_csv(cells: Sequence[CellResult]) -> str:
    """One row a cell, numbers in full precision; columns that some cells lack are empty there."""
    columns: dict[str, None] = {}
    rows = []
    for cell in cells:
        row: dict[str, Any] = {"run": cell.directory.name}
        for key, value in cell.results.items():
            if isinstance(value, str | int | float) or value is None:
                row[key] = value
        row["ci95_low"], row["ci95_high"] = cell.results["ci95"]
        if cell.difference is not None:
            row["difference"] = cell.difference.difference
            row["difference_low"], row["difference_high"] = cell.difference.ci95
            row["p_mcnemar"] = cell.difference.p_value
        row |= {f"failures_{kind}": count for kind, count in (cell.results.get("failures") or {}).items()}
        columns |= dict.fromkeys(row)
        rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A plain-text table: words to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            text.rjust(width) if rows[-1][column][:1] in "+-.0123456789[" else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _title(directory: Path, cells: Sequence[CellResult]) -> str:
    splits = sorted({str(cell.results.get("split", "test")) for cell in cells})
    return f"{directory.name}: success rate on {' and '.join(splits)} questions, with 95% Wilson interval"


def picture_rows(cells: Sequence[CellResult]) -> list[tuple[str, str, float, tuple[float, float]]]:
    """Label, method, success rate and interval of each cell, in the order of the table."""
    varying = varying_coordinates(cells)
    rows = []
    for cell in cells:
        label = ", ".join([cell.method, *(f"{key} {text}" for key, text in _coordinates(cell, varying) if text != "-")])
        low, high = cell.results["ci95"]
        rows.append((label, cell.method, cell.results["success_rate"], (low, high)))
    return rows


def written_files(directory: Path, cells: Sequence[CellResult], pictures: Sequence[Path]) -> list[Path]:
    folders = [cell.directory for cell in cells]
    if len(folders) > SHOWN_FOLDERS:
        folders = [Path(f"{directory}/*/ ({len(folders)} runs)")]
    return [directory / "report.md", directory / "results.csv", *pictures, *folders]
