"""What each arm cost: steps, trained tokens, seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nat.comparison.types import Arm, Comparison
from nat.reporting.pictures.looks import (
    Picture,
    Row,
    draw_head,
    methods_of_several_strategies,
    new_figure,
    series_looks,
    series_name,
)
from nat.runs.results import Results

PLACE = 7
ALTERNATIVE = (
    "Scatter plots of the success rate against trained tokens, seconds, and optimiser steps where these differ"
)
CAPTION = (
    "Success against its cost: optimiser steps (named where all arms have as many), trained tokens, and seconds of "
    "training and evaluation on the machines used."
)


def draw(comparison: Comparison, rows: Sequence[Row]) -> Picture | None:
    """Success against what it cost: steps, trained tokens, and seconds of training and evaluation."""
    steps = {cost for arm, _ in rows if arm.method != "base" and (cost := _mean_cost(arm, _steps)) is not None}
    measures = [("trained tokens", _trained_tokens), ("seconds of training and evaluation", _seconds)]
    if len(steps) == 1:  # a panel would show one line
        measures[0] = (f"trained tokens ({min(steps):,g} optimiser steps each)", _trained_tokens)
    else:
        measures.insert(0, ("optimiser steps", _steps))
    panels = []
    for name, read in measures:
        points = [(arm, mean, cost) for arm, mean in rows if (cost := _mean_cost(arm, read)) is not None]
        if len(points) > 1:
            panels.append((name, points))
    if not panels:
        return None
    from matplotlib.lines import Line2D
    from matplotlib.ticker import EngFormatter

    figure = new_figure(0.9 + 2.3 * len(panels))
    looks = series_looks(arm for arm, _ in rows)
    sizes = sorted({arm.positives for arm, _ in rows if arm.positives})

    def marker_size(positives: int | None) -> float:
        return 5 + 5 * sizes.index(positives) / (len(sizes) - 1) if positives in sizes[1:] else 5 if sizes[1:] else 6.5

    handles: dict[Any, Any] = {}
    axes = figure.subplots(len(panels), 1, squeeze=False, sharey=True)[:, 0]
    for panel_axes, (name, points) in zip(axes, panels, strict=True):
        for arm, mean, cost in points:
            look = looks[arm.method, arm.strategy]
            low, high = mean.ci95 or (mean.value, mean.value)
            panel_axes.plot([cost, cost], [low, high], color=look.colour, lw=1, alpha=0.4)
            (point,) = panel_axes.plot(
                cost,
                mean.value,
                look.marker,
                color=look.colour,
                ms=marker_size(arm.positives),
                mec="white",
                mew=0.7,
                alpha=0.9,
            )
            handles.setdefault((arm.method, arm.strategy), point)
        panel_axes.set_xlabel(name)
        panel_axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        panel_axes.set_ylabel("success rate")
    axes[0].set_ylim(bottom=0)
    several = methods_of_several_strategies(handles)
    names = [series_name(key, several) for key in handles]
    if len(sizes) > 1:
        names += [f"{count} positives" for count in sizes]
        handles |= {count: Line2D([], [], color="#6f6f6f", ls="", marker="o", ms=marker_size(count)) for count in sizes}
    draw_head(figure, "Success by cost", list(handles.values()), names)
    return Picture(figure, ALTERNATIVE, CAPTION)


def _mean_cost(arm: Arm, read: Callable[[Results], float | None]) -> float | None:
    costs = [cost for run in arm.runs if (cost := read(run.results)) is not None]
    return sum(costs) / len(costs) if costs else None


def _steps(results: Results) -> float | None:
    return results.steps


def _trained_tokens(results: Results) -> float | None:
    return results.trained_tokens


def _seconds(results: Results) -> float | None:
    seconds = [results.timing[stage] for stage in ("training", "evaluation") if stage in results.timing]
    return sum(seconds) if seconds else None
