"""Success in each environment in which the models were asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nat.comparison.means import Mean, arm_mean
from nat.comparison.types import Arm, Comparison
from nat.core.methods import REFERENCE
from nat.reporting.pictures.looks import (
    LOOKS,
    MOST_PANELS,
    MOST_ROWS,
    Picture,
    Row,
    draw_head,
    new_figure,
    row_label,
    rows_axes,
    series_looks,
    shown_text,
    spread_apart,
    success_label,
)

PLACE = 4
ALTERNATIVE = "Point plots of the success rate, one panel an environment and one row an arm"
CAPTION = (
    "Success in each environment that the models were asked in, their own first: mean, 95% interval and single "
    "seeds. Dotted: the successes alone, where they are one arm."
)


def draw(comparison: Comparison, rows: Sequence[Row]) -> Picture | None:
    """Success in each environment: a panel an environment, a row an arm; dotted: the successes alone, if one arm."""
    environments = comparison.environments
    if environments is None:
        return None
    arms = spread_apart(list(environments.arms), MOST_ROWS)
    panels = list(zip(environments.names, environments.splits, strict=True))[:MOST_PANELS]
    means = {split: [_mean_in(arm, split) for arm in arms] for _, split in panels}
    figure = new_figure(1.15 + 0.43 * len(arms))
    grid = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    looks = series_looks(arms)
    alone = [place for place, arm in enumerate(arms) if arm.method == REFERENCE]
    for axes, (name, split) in zip(grid, panels, strict=True):
        for place, (arm, mean) in enumerate(zip(arms, means[split], strict=True)):
            if mean:
                look = looks[arm.method, arm.strategy]
                low, high = mean.ci95 or (mean.value, mean.value)
                axes.plot([low, high], [place] * 2, color=look.colour, lw=2.6, alpha=0.55, solid_capstyle="butt")
                axes.plot(mean.per_seed, [place] * len(mean.per_seed), "|", color=look.colour, ms=7, mew=1, alpha=0.8)
                axes.plot(mean.value, place, look.marker, color=look.colour, ms=6.5, mec="white", mew=0.8)
        if len(alone) == 1 and (reference := means[split][alone[0]]):
            axes.axvline(reference.value, color=LOOKS[REFERENCE].colour, ls=":", lw=1.2)
        axes.set_title(shown_text(name, 60 // len(panels)), fontsize=9.5)
        axes.patch.set_visible(False)  # a row's label goes on into the next panel
        axes.tick_params(labelsize=8.8)
    grid[0].set_ylim(len(arms) - 0.65, -0.7)
    grid[0].set_xlim(left=-0.03 * grid[0].get_xlim()[1])  # markers of 0 are whole
    for axes in grid:
        rows_axes(axes)
    for place, arm in enumerate(arms):
        row_label(grid[0], place - 0.2, arm.label).set_in_layout(False)
    asked = [(arm, mean) for of in means.values() for arm, mean in zip(arms, of, strict=True) if mean]
    figure.supxlabel(success_label(asked), fontsize=10)
    draw_head(figure, "Success in each environment")
    return Picture(figure, ALTERNATIVE, CAPTION)


def _mean_in(arm: Arm, split: str) -> Mean | None:
    """Of those runs that were asked there: an arm may have been asked in some environments only."""
    runs = tuple(run for run in arm.runs if run.answers.get(split))
    return arm_mean(replace(arm, runs=runs), split) if runs else None
