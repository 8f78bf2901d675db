"""Success of each method, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nat.comparison.arms import references_of
from nat.comparison.means import arm_mean
from nat.comparison.types import Comparison
from nat.core.methods import REFERENCE
from nat.reporting.pictures.looks import (
    MOST_ROWS,
    Picture,
    Row,
    draw_bar,
    draw_head,
    new_figure,
    row_label,
    rows_axes,
    series_looks,
    setting_text,
    spread_apart,
    success_label,
    upper_end,
)

PLACE = 2
ALTERNATIVE = "Bar chart of the success rate of each method"
CAPTION = "Success by arm, with 95% intervals; where the mean score (F1) differs from success, it stands below."
MOST_BARS = 12  # of more arms than this the verdict's are drawn; without a verdict each method's most negatives


def draw(comparison: Comparison, rows: Sequence[Row]) -> Picture | None:
    """A bar an arm: success, and below it the mean score where it differs."""
    n_arms = len(rows)
    head = "Success by method"
    if labels := verdict_arms(comparison):
        rows = [row for row in rows if row[0].label in labels]
        head = "Success of the verdict's arms and their references"
    elif n_arms > MOST_BARS:
        rows = _with_most_negatives(rows)
        head += ", each with its most negatives" if len(rows) < n_arms else ""
    rows = spread_apart(list(rows), MOST_ROWS)
    if not rows:
        return None
    scores = [arm_mean(arm, comparison.split, "score") for arm, _ in rows]
    scores = [
        score if score is not None and abs(score.value - mean.value) > 5e-4 else None
        for score, (_, mean) in zip(scores, rows, strict=True)
    ]
    graded = any(scores)
    figure = new_figure(1.0 + (0.72 if graded else 0.5) * len(rows))
    axes = figure.subplots()
    looks = series_looks(arm for arm, _ in rows)
    for place, ((arm, mean), score) in enumerate(zip(rows, scores, strict=True)):
        look = looks[arm.method, arm.strategy]
        draw_bar(axes, place, 0.4 if not graded else 0.3, mean, look, 0.85, "")
        if score is not None:
            draw_bar(axes, place + 0.32, 0.22, score, look, 0.4, "F1 ")
        row_label(axes, place - (0.24 if not graded else 0.19), arm.label)
    axes.set_ylim(len(rows) - (0.65 if not graded else 0.45), -0.6)
    axes.set_xlim(
        0, min(1.2, 1.22 * max([0.02, *(upper_end(mean) for _, mean in rows), *(upper_end(s) for s in scores if s)]))
    )
    rows_axes(axes)
    axes.set_xlabel(success_label(rows, "success rate (exact match) and mean score (F1)" if graded else "success rate"))
    draw_head(figure, head)
    of_many = " Of the many arms, those that the verdict rests on and what they are held against." if labels else ""
    return Picture(figure, ALTERNATIVE, CAPTION + of_many)


def verdict_arms(comparison: Comparison) -> frozenset[str]:
    """Labels of the arms that a bar each is drawn of where there are too many: the findings' and their references.

    With few arms, and without findings, none.
    """
    if len(comparison.arms) <= MOST_BARS:
        return frozenset()
    labels = set()
    for finding in comparison.findings:
        for contrast in (finding.evidence, *finding.also):
            if contrast is not None:
                labels |= {contrast.treatment.label, contrast.reference.label}
                if contrast.reference.method == REFERENCE:  # all of the successes alone that it could be held against
                    labels |= {arm.label for arm in references_of(contrast.treatment, comparison.arms)}
    return frozenset(labels)


def _with_most_negatives(rows: Sequence[Row]) -> list[Row]:
    """Of the arms that differ in their negatives only, the one with the most: a choice that no result decides."""
    chosen: dict[tuple[Any, ...], Row] = {}
    for arm, mean in rows:
        key = (arm.method, arm.strategy, arm.positives, setting_text(arm))
        if key not in chosen or (arm.negatives or 0) > (chosen[key][0].negatives or 0):
            chosen[key] = (arm, mean)
    return list(chosen.values())
