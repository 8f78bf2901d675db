"""Success over the number of failures that were mixed in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nat.comparison.types import Comparison
from nat.core.methods import Look
from nat.core.methods import shown as shown_method
from nat.reporting.pictures.looks import (
    Picture,
    Row,
    alike_counts,
    draw_head,
    methods_of_several_strategies,
    new_figure,
    pairs,
    series_looks,
    series_name,
    setting_text,
    success_label,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLACE = 1
ALTERNATIVE = "Line chart of the success rate against the number of negatives, one line a method"
CAPTION = (
    "Success against the number of negatives trained on. Bands: 95% interval of the mean over questions and seeds "
    "(questions alone where there is one seed); faint points: single seeds."
)


def draw(comparison: Comparison, rows: Sequence[Row]) -> Picture | None:
    """Success against the number of negatives: a line a method (and strategy), a panel a number of positives."""
    looks = series_looks(arm for arm, _ in rows)
    panels: dict[tuple[Any, ...], list[Row]] = {}
    positives_of = alike_counts(arm.positives for arm, _ in rows)
    for arm, mean in rows:
        if arm.method != "base" and arm.negatives is not None:
            panels.setdefault((positives_of[arm.positives], setting_text(arm)), []).append((arm, mean))
    lines = {panel: _lines(members) for panel, members in panels.items()}
    lines = {panel: series for panel, series in lines.items() if series}
    if not lines:
        return None
    figure = new_figure(0.9 + 2.5 * len(lines))
    axes = figure.subplots(len(lines), 1, squeeze=False, sharey=True)[:, 0]
    handles = {}
    for panel_axes, ((positives, setting), series) in zip(axes, lines.items(), strict=True):
        for key, points in series.items():
            handles[key] = _draw_line(panel_axes, points, looks[key])
        for arm, mean in rows:
            if arm.method == "base":
                look = looks["base", arm.strategy]
                handles["base"] = panel_axes.axhline(mean.value, color=look.colour, linestyle=look.line, linewidth=1.4)
        ticks = sorted({arm.negatives or 0 for points in series.values() for arm, _ in points})
        labels = [_ratio_label(count, positives) for count in ticks]
        panel_axes.set_xticks(*_apart(ticks, labels))
        panel_axes.set_title(", ".join([f"{positives} positives"] * (positives is not None) + pairs(setting)))
        panel_axes.set_ylabel(success_label([row for points in series.values() for row in points]))
    axes[-1].set_xlabel("negatives" + (" (positives:negatives below)" if any(p for p, _ in lines) else ""))
    axes[0].set_ylim(bottom=0)
    several = methods_of_several_strategies(key for key in handles if key != "base")
    names = [shown_method("base") if key == "base" else series_name(key, several) for key in handles]
    draw_head(figure, "Success by number of negatives", list(handles.values()), names)
    return Picture(figure, ALTERNATIVE, CAPTION)


def _lines(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """The points of each (method, strategy) by their negatives; one count of negatives makes no line.

    A line starts at the positives alone, if they are there: those with its own text, else those without any.
    """
    alone = {arm.strategy: (arm, mean) for arm, mean in rows if arm.method == "positive_only"}
    lines: dict[tuple[str, str], list[Row]] = {}
    for arm, mean in rows:
        if arm.method != "positive_only":
            lines.setdefault((arm.method, arm.strategy), []).append((arm, mean))
    lines = {key: points for key, points in lines.items() if len(points) > 1}
    for (_, strategy), points in lines.items():
        start = alone.get(strategy) or alone.get("none")
        if start and not any(arm.negatives == 0 for arm, _ in points):
            points.append(start)
        points.sort(key=lambda point: point[0].negatives or 0)
    return lines


def _draw_line(axes: Axes, points: Sequence[Row], look: Look) -> Any:
    xs = [arm.negatives or 0 for arm, _ in points]
    bands = [mean.ci95 or (mean.value, mean.value) for _, mean in points]
    axes.fill_between(xs, [low for low, _ in bands], [high for _, high in bands], color=look.colour, alpha=0.14, lw=0)
    for x, (_, mean) in zip(xs, points, strict=True):
        if len(mean.per_seed) > 1:
            axes.plot([x] * len(mean.per_seed), mean.per_seed, look.marker, color=look.colour, alpha=0.4, ms=3.5, mew=0)
    values = [mean.value for _, mean in points]
    (line,) = axes.plot(
        xs, values, color=look.colour, linestyle=look.line, marker=look.marker, ms=6.5, lw=2, mec="white", mew=0.8
    )
    return line


def _ratio_label(negatives: int, positives: int | None) -> str:
    if not positives:
        return str(negatives)
    return f"{negatives}\n1:{round(negatives / positives, 2):g}"


def _apart(ticks: Sequence[int], labels: Sequence[str]) -> tuple[list[int], list[str]]:
    """Those ticks whose labels do not overlap: the last one, and from there down."""
    shown: list[tuple[int, str]] = []
    for tick, label in sorted(zip(ticks, labels, strict=True), reverse=True):
        if not shown or shown[-1][0] - tick >= 0.055 * (ticks[-1] - ticks[0]):
            shown.append((tick, label))
    return [tick for tick, _ in shown], [label for _, label in shown]
