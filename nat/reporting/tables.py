"""The report's tables, as rows, as CSV, as Markdown and for a terminal."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nat.comparison import environments as elsewhere
from nat.comparison.arms import mean_score, mean_success
from nat.comparison.types import Arm, Comparison, Contrast, Environments, RunResult
from nat.runs.results import by_key


def run_row(run: RunResult) -> dict[str, Any]:
    """All scalars of a run, those of some mappings with their key before them."""
    row: dict[str, Any] = {"run": run.name, "method": run.method, "strategy": run.strategy}
    row |= {"positives": run.positives, "negatives": run.negatives, "seed": run.seed, **run.setting}
    elsewhere = {f"in_{name}": answers for name, answers in run.answers_in.items()}
    for split, answers in (*run.answers.items(), *elsewhere.items()):
        n = len(answers)
        row[f"{split}_success"] = round(sum(answer.success for answer in answers.values()) / n, 6)
        row[f"{split}_score"] = round(sum(answer.score for answer in answers.values()) / n, 6)
        row[f"{split}_questions"] = n
    if run.files is None:
        return row
    results = run.results
    known = {"status": results.status, **_known(cell=results.cell), **by_key(results)}
    known |= {"git": None} if results.git is None else {}  # made outside a repository
    known |= _known(threads=results.threads, seconds=results.seconds)
    for key, value in known.items():
        if isinstance(value, Mapping) and key in ("failures", "training", "timing"):
            row |= {f"{key}.{name}": number for name, number in value.items()}
        elif _is_scalar(value) and key not in row:
            row[key] = value
    return row


def _known(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def arm_row(comparison: Comparison, arm: Arm) -> dict[str, Any]:
    row: dict[str, Any] = {"arm": arm.label, "method": arm.method, "strategy": arm.strategy}
    row |= {"positives": arm.positives, "negatives": arm.negatives, **arm.setting}
    row |= {"n_seeds": len(arm.runs), "seeds": " ".join(str(run.seed) for run in arm.runs)}
    for split in dict.fromkeys((comparison.split, "validation")):
        row |= {f"{split}_success": mean_success(arm, split), f"{split}_score": mean_score(arm, split)}
    for contrasts, prefix in ((comparison.contrasts, "difference"), (comparison.text_contrasts, "text_difference")):
        for contrast in contrasts:
            if contrast.treatment is arm:
                row |= _contrast_row(contrast, prefix)
    if comparison.environments is not None:
        row |= _environments_row(comparison.environments, arm)
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}


def _environments_row(environments: Environments, arm: Arm) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for shown in environments.arms:
        if shown.label == arm.label:
            for split in environments.splits[1:]:
                row |= {f"{split}_success": mean_success(shown, split), f"{split}_score": mean_score(shown, split)}
            mean = elsewhere.mean_over(shown, environments.splits)
            row |= {"environments_success": mean, "environments_seeds": len(shown.runs)}
    contrast = elsewhere.contrast_of(environments, arm)
    return row | (_contrast_row(contrast, "environments_difference") if contrast else {})


def _contrast_row(contrast: Contrast, prefix: str) -> dict[str, Any]:
    difference = contrast.difference
    return {
        prefix: difference.difference,
        f"{prefix}_low": difference.ci95[0],
        f"{prefix}_high": difference.ci95[1],
        f"{prefix}_adjusted_low": contrast.adjusted_ci[0],
        f"{prefix}_adjusted_high": contrast.adjusted_ci[1],
        f"{prefix}_p": difference.p_value,
        f"{prefix}_p_holm": contrast.p_holm,
        f"{prefix}_reference": contrast.reference.label,
        f"{prefix}_questions": difference.n_questions,
        f"{prefix}_seeds": difference.n_seeds,
        f"{prefix}_question_se": difference.question_se,
        f"{prefix}_seed_se": difference.seed_se,
    }


def as_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """A table whose columns some rows lack; they are empty there."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(safe(cell).replace("|", "\\|") for cell in row) + " |" for row in (header, *rows)]
    return [lines[0], "|" + "---|" * len(header), *lines[1:]]


def safe(text: str) -> str:
    """Text whose names are no Markdown: on one line, no HTML, links or pictures; intervals keep their brackets."""
    text = " ".join(text.split()).replace("\\", "\\\\")
    text = re.sub(r"<(?=[^\s\d])|\[(?![-+]?\d)", r"\\\g<0>", text)
    return text.replace("](", "]\\(")


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A plain-text table: words to the left, numbers to the right."""
    header, rows = ([" ".join(cell.split()) for cell in header], [[" ".join(c.split()) for c in row] for row in rows])
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    numeric = [all(row[column][:1] in "+-.<0123456789[" for row in rows) for column in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
