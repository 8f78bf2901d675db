"""Training loss over steps, a line an arm."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Any

from nat.comparison.types import Comparison
from nat.core.methods import Look
from nat.reporting.pictures.looks import (
    MOST_PANELS,
    Picture,
    Row,
    class_looks,
    draw_head,
    new_figure,
    shown_text,
    spread_apart,
)
from nat.runs.packed import RunFiles

PLACE = 6
ALTERNATIVE = "Small line charts of the training loss by class"
CAPTION = "Training loss by class of trajectory, first seed of each arm (of many arms, a few)."
MOST_STEPS = 200  # points of a loss curve


def draw(comparison: Comparison, rows: Sequence[Row]) -> Picture | None:
    """Loss per class over the steps, each arm's first seed."""
    curves = [(arm, losses) for arm, _ in rows if arm.runs and (losses := read_losses(arm.runs[0].files))]
    if not curves:
        return None
    curves = spread_apart(curves, MOST_PANELS)
    columns = min(2, len(curves))
    lines = -(-len(curves) // columns)
    figure = new_figure(1.15 + (2.4 if columns == 1 else 1.75) * lines)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    names = dict.fromkeys(["loss", *(name for _, losses in curves for name in losses)])
    looks = dict(zip(names, [Look("#000000", "", (0, (1, 1)), ""), *class_looks(len(names) - 1)], strict=True))
    # The loss over all classes is drawn only where it is something else than its single class's.
    handles: dict[str, Any] = {}
    for axes, (arm, losses) in zip(grid.flat, curves, strict=False):
        for name, points in losses.items():
            if name == "loss" and len(losses) == 2:
                continue
            look = looks[name]
            points = points[:: max(1, len(points) // MOST_STEPS)]
            (line,) = axes.plot(*zip(*points, strict=True), color=look.colour, linestyle=look.line, lw=1.5)
            handles.setdefault(name, line)
        axes.set_title(
            "\n".join(textwrap.wrap(shown_text(arm.label, 60), 27 if columns == 2 else 60)[:2]), fontsize=8.8
        )
        axes.tick_params(labelsize=8.8)
    if all(value > 0 for _, losses in curves for points in losses.values() for _, value in points):
        from matplotlib.ticker import FuncFormatter, NullFormatter

        grid[0, 0].set_yscale("log")
        grid[0, 0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        grid[0, 0].yaxis.set_minor_formatter(NullFormatter())
    for axes in grid.flat[len(curves) :]:
        axes.set_visible(False)
    figure.supxlabel("optimiser step", fontsize=10)
    figure.supylabel("loss per trained token (nats)", fontsize=10)
    order = [name for name in names if name in handles]
    labels = ["all classes" if name == "loss" else name.removeprefix("loss/") for name in order]
    draw_head(figure, "Training loss by class", [handles[name] for name in order], labels)
    return Picture(figure, ALTERNATIVE, CAPTION)


def read_losses(files: RunFiles | None) -> dict[str, list[tuple[int, float]]]:
    """(step, loss) of a run's `metrics.jsonl` by key: `loss`, then `loss/CLASS`; empty where there is none."""
    text = files.read_text("metrics.jsonl") if files is not None else None
    losses: dict[str, list[tuple[int, float]]] = {}
    for line in (text or "").splitlines():
        try:
            row = json.loads(line)
            step = int(row["step"])
        except (ValueError, KeyError, TypeError):
            continue  # a killed run's last line
        for key, value in row.items():
            if (key == "loss" or key.startswith("loss/")) and isinstance(value, int | float):
                losses.setdefault(key, []).append((step, float(value)))
    return losses
