"""The report's pictures, drawn from a comparison: PNG and SVG each, equal files for equal results.

Every picture is about five inches wide with text to match, so that it can still be read on a phone.
"""

from __future__ import annotations

import json
import textwrap
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from nat.arm_means import Mean, arm_mean, outcome_shares
from nat.comparison import ALIKE, Arm, Comparison, Environments, references_of, setting_of
from nat.core.methods import METHODS, REFERENCE, Look
from nat.core.methods import shown as shown_method
from nat.runs.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

WIDTH = 5.2  # inches
MOST_ROWS = 24  # arms in a picture with a row each
MOST_BARS = 12  # of more arms than this the verdict's are drawn; without a verdict each method's most negatives
MOST_PANELS = 6  # arms with a loss curve, or environments beside each other; the tables have all
MOST_STEPS = 200  # points of a loss curve

# Fixed ids and no date, so that equal results give equal files; names from outside are never read as formulas.
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "nat",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "legend.borderaxespad": 0.2,
}

LOOKS = {method.name: method.look for method in METHODS if method.look is not None}
# For further strategies of a method, and for methods of others.
SPARE_LOOKS = (
    Look("#009E73", "v", (0, (5, 1, 1, 1)), "\\\\\\\\"),
    Look("#E69F00", "P", (0, (3, 1)), "++++"),
    Look("#56B4E9", "D", (0, (1, 1)), "xx"),
    Look("#000000", "*", "-.", "||||"),
    Look("#CC79A7", "p", (0, (8, 2)), "//"),
)
OUTCOME_LOOKS = {
    "success": ("#009E73", ""),
    "wrong_answer": ("#D55E00", "////"),
    "abstained": ("#F0E442", "//"),
    "unparsed_action": ("#CC79A7", "\\\\\\\\"),
    "tool_error": ("#0072B2", "xxxx"),
    "out_of_turns": ("#56B4E9", "----"),
    "no_answer": ("#E69F00", "||||"),
    "infrastructure": ("#6f6f6f", "++++"),
    "other": ("#c8c8c8", ""),
}


# ---- drawing ----


def draw(comparison: Comparison, directory: Path) -> dict[str, tuple[Path, Path]]:
    """Draw what the data allow, as `directory/NAME.png` and `.svg`; returns both paths by name, most telling first.

    Names: negatives, methods, strategies, environments, failures, loss, cost.
    """
    import matplotlib

    rows = [(arm, mean) for arm in comparison.arms if (mean := arm_mean(arm, comparison.split)) is not None]
    written = {}
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # names may hold any script; the SVG keeps them
        figures = {
            "negatives": _negatives(rows),
            "methods": _methods(rows, comparison),
            "strategies": _strategies(rows),
            "environments": _environments(comparison.environments),
            "failures": _failures(rows, comparison.split),
            "loss": _loss(rows),
            "cost": _cost(rows),
        }
        for name, figure in figures.items():
            if figure is not None:
                png, svg = directory / f"{name}.png", directory / f"{name}.svg"
                figure.savefig(png, dpi=150, facecolor="white", metadata={"Software": None})
                figure.set_layout_engine("none")  # laid out by now
                figure.savefig(svg, facecolor="white", metadata={"Date": None, "Creator": None})
                written[name] = (png, svg)
    return written


Row: TypeAlias = tuple[Arm, Mean]


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def _negatives(rows: Sequence[Row]) -> Figure | None:
    """Success against the number of negatives: a line a method (and strategy), a panel a number of positives."""
    looks = series_looks(arm for arm, _ in rows)
    panels: dict[tuple[Any, ...], list[Row]] = {}
    positives_of = _alike(arm.positives for arm, _ in rows)
    for arm, mean in rows:
        if arm.method != "base" and arm.negatives is not None:
            panels.setdefault((positives_of[arm.positives], _setting(arm)), []).append((arm, mean))
    lines = {panel: _lines(members) for panel, members in panels.items()}
    lines = {panel: series for panel, series in lines.items() if series}
    if not lines:
        return None
    figure = _figure(0.9 + 2.5 * len(lines))
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
        panel_axes.set_title(", ".join([f"{positives} positives"] * (positives is not None) + _pairs(setting)))
        panel_axes.set_ylabel(_success_label([row for points in series.values() for row in points]))
    axes[-1].set_xlabel("negatives" + (" (positives:negatives below)" if any(p for p, _ in lines) else ""))
    axes[0].set_ylim(bottom=0)
    several = _methods_of_several_strategies(key for key in handles if key != "base")
    names = [shown_method("base") if key == "base" else _series_name(key, several) for key in handles]
    _head(figure, "Success by number of negatives", list(handles.values()), names)
    return figure


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


def _methods(rows: Sequence[Row], comparison: Comparison) -> Figure | None:
    """A bar an arm: success, and below it the mean score where it differs."""
    n_arms = len(rows)
    head = "Success by method"
    if labels := verdict_arms(comparison):
        rows = [row for row in rows if row[0].label in labels]
        head = "Success of the verdict's arms and their references"
    elif n_arms > MOST_BARS:
        rows = _with_most_negatives(rows)
        head += ", each with its most negatives" if len(rows) < n_arms else ""
    rows = _spread(list(rows), MOST_ROWS)
    if not rows:
        return None
    scores = [arm_mean(arm, comparison.split, "score") for arm, _ in rows]
    scores = [
        score if score is not None and abs(score.value - mean.value) > 5e-4 else None
        for score, (_, mean) in zip(scores, rows, strict=True)
    ]
    graded = any(scores)
    figure = _figure(1.0 + (0.72 if graded else 0.5) * len(rows))
    axes = figure.subplots()
    looks = series_looks(arm for arm, _ in rows)
    for place, ((arm, mean), score) in enumerate(zip(rows, scores, strict=True)):
        look = looks[arm.method, arm.strategy]
        _bar(axes, place, 0.4 if not graded else 0.3, mean, look, 0.85, "")
        if score is not None:
            _bar(axes, place + 0.32, 0.22, score, look, 0.4, "F1 ")
        _row_label(axes, place - (0.24 if not graded else 0.19), arm.label)
    axes.set_ylim(len(rows) - (0.65 if not graded else 0.45), -0.6)
    axes.set_xlim(0, min(1.2, 1.22 * max([0.02, *(_high(mean) for _, mean in rows), *(_high(s) for s in scores if s)])))
    _rows_axes(axes)
    axes.set_xlabel(
        _success_label(rows, "success rate (exact match) and mean score (F1)" if graded else "success rate")
    )
    _head(figure, head)
    return figure


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
        key = (arm.method, arm.strategy, arm.positives, _setting(arm))
        if key not in chosen or (arm.negatives or 0) > (chosen[key][0].negatives or 0):
            chosen[key] = (arm, mean)
    return list(chosen.values())


def _bar(axes: Axes, y: float, height: float, mean: Mean, look: Look, alpha: float, prefix: str) -> None:
    axes.barh(y, mean.value, height, color=look.colour, alpha=alpha, hatch=look.hatch, edgecolor="white", linewidth=0)
    low, high = mean.ci95 or (mean.value, mean.value)
    axes.plot([low, high], [y, y], color="black", lw=1.3, marker="|", ms=6)
    axes.annotate(
        f"{prefix}{mean.value:.3f}", (high, y), (5, 0), textcoords="offset points", va="center_baseline", fontsize=9.5
    )


def _strategies(rows: Sequence[Row]) -> Figure | None:
    """Texts side by side, a panel for each mix that several of them were trained on; NUT is the line to beat."""
    panels: dict[tuple[Any, ...], list[Row]] = {}
    positives_of, negatives_of = (_alike(getattr(arm, key) for arm, _ in rows) for key in ("positives", "negatives"))
    for arm, mean in rows:
        if arm.negatives:
            mix = (positives_of[arm.positives], negatives_of[arm.negatives], _setting(arm))
            panels.setdefault(mix, []).append((arm, mean))
    panels = {
        mix: members
        for mix, members in panels.items()
        if len({a.strategy for a, _ in members if a.method != "nut"}) > 1
    }
    if not panels:
        return None
    drawn = {}
    for mix, members in panels.items():
        texts = [row for row in members if row[0].method != "nut"]
        drawn[mix] = sorted(texts, key=lambda row: (-row[1].value, row[0].label))
    heights = [0.75 + 0.42 * len(texts) for texts in drawn.values()]
    figure = _figure(0.7 + sum(heights))
    axes = figure.subplots(len(drawn), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights})[:, 0]
    values = [mean for members in panels.values() for _, mean in members]
    low, high = min(_low(mean) for mean in values), max(_high(mean) for mean in values)
    # Room on the left for the texts' names, and on the right for the figures.
    axes[0].set_xlim(max(0, low - 0.25 * (high - low)), high + 0.2 * (high - low) + 1e-3)
    looks = series_looks(arm for arm, _ in rows)
    for panel_axes, ((positives, negatives, setting), texts) in zip(axes, drawn.items(), strict=True):
        references = [mean for arm, mean in panels[positives, negatives, setting] if arm.method == "nut"]
        for reference in references[:1]:
            look = LOOKS["nut"]
            panel_axes.axvline(reference.value, color=look.colour, linestyle=look.line, lw=1.8)
            if reference.ci95:
                panel_axes.axvspan(*reference.ci95, color=look.colour, alpha=0.1, lw=0)
            panel_axes.annotate(
                f"NUT {reference.value:.3f}", (reference.value, 1), (4, -2), xycoords=("data", "axes fraction"),
                textcoords="offset points", va="top", color="#9a4400", fontsize=9.5,
            )  # fmt: skip
        for place, (arm, mean) in enumerate(texts):
            look = looks[arm.method, arm.strategy] if arm.method not in LOOKS else LOOKS[arm.method]
            low, high = mean.ci95 or (mean.value, mean.value)
            panel_axes.plot([low, high], [place, place], color=look.colour, lw=2.6, alpha=0.55, solid_capstyle="butt")
            panel_axes.plot(mean.per_seed, [place] * len(mean.per_seed), "|", color=look.colour, ms=7, mew=1, alpha=0.8)
            panel_axes.plot(mean.value, place, look.marker, color=look.colour, ms=7.5, mec="white", mew=0.8)
            name = arm.strategy if arm.method == "nat" else f"{shown_method(arm.method)} {arm.strategy}"
            _row_label(panel_axes, place - 0.17, name)
            panel_axes.annotate(
                f"{mean.value:.3f}", (1, place), (0, 0), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="right", va="center_baseline", fontsize=9.5,
            )  # fmt: skip
        panel_axes.set_ylim(len(texts) - 0.6, -1.05)
        _rows_axes(panel_axes)
        mix = [f"{positives} positives"] * (positives is not None) + [f"{negatives} negatives"]
        panel_axes.set_title(", ".join(mix + _pairs(setting)))
    axes[-1].set_xlabel(_success_label([row for texts in drawn.values() for row in texts]))
    _head(figure, "Success by conditioning text")
    return figure


def _environments(environments: Environments | None) -> Figure | None:
    """Success in each environment: a panel an environment, a row an arm; dotted: the successes alone, if one arm."""
    if environments is None:
        return None
    arms = _spread(list(environments.arms), MOST_ROWS)
    panels = list(zip(environments.names, environments.splits, strict=True))[:MOST_PANELS]
    means = {split: [_mean_in(arm, split) for arm in arms] for _, split in panels}
    figure = _figure(1.15 + 0.43 * len(arms))
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
        axes.set_title(_shown(name, 60 // len(panels)), fontsize=9.5)
        axes.patch.set_visible(False)  # a row's label goes on into the next panel
        axes.tick_params(labelsize=8.8)
    grid[0].set_ylim(len(arms) - 0.65, -0.7)
    grid[0].set_xlim(left=-0.03 * grid[0].get_xlim()[1])  # markers of 0 are whole
    for axes in grid:
        _rows_axes(axes)
    for place, arm in enumerate(arms):
        _row_label(grid[0], place - 0.2, arm.label).set_in_layout(False)
    rows = [(arm, mean) for of in means.values() for arm, mean in zip(arms, of, strict=True) if mean]
    figure.supxlabel(_success_label(rows), fontsize=10)
    _head(figure, "Success in each environment")
    return figure


def _mean_in(arm: Arm, split: str) -> Mean | None:
    """Of those runs that were asked there: an arm may have been asked in some environments only."""
    runs = tuple(run for run in arm.runs if run.answers.get(split))
    return arm_mean(replace(arm, runs=runs), split) if runs else None


def _failures(rows: Sequence[Row], split: str) -> Figure | None:
    """How episodes ended: stacked shares, a row an arm."""
    shown = [(arm, shares) for arm, _ in _spread(list(rows), MOST_ROWS) if (shares := outcome_shares(arm, split))]
    if not any(set(shares) - {"success", "other"} for _, shares in shown):
        return None
    kinds = [kind for kind in OUTCOME_LOOKS if kind != "other" and any(shares.get(kind) for _, shares in shown)]
    has_others = any(share for _, shares in shown for kind, share in shares.items() if kind not in kinds)
    figure = _figure(1.25 + 0.43 * len(shown))
    axes = figure.subplots()
    handles = {}
    for place, (arm, shares) in enumerate(shown):
        other = sum(share for kind, share in shares.items() if kind not in kinds)
        left = 0.0
        for kind in [*kinds, *["other"] * has_others]:
            share = other if kind == "other" else shares.get(kind, 0.0)
            colour, hatch = OUTCOME_LOOKS[kind]
            bar = axes.barh(place, share, 0.44, left, color=colour, hatch=hatch, edgecolor="white", linewidth=0.6)
            handles.setdefault(kind.replace("_", " "), bar)
            left += share
        _row_label(axes, place - 0.24, arm.label)
    axes.set_ylim(len(shown) - 0.65, -0.7)
    axes.set_xlim(0, 1)
    _rows_axes(axes)
    axes.set_xlabel("share of episodes" + (", mean over seeds" if any(len(arm.runs) > 1 for arm, _ in shown) else ""))
    _head(figure, "How episodes ended", list(handles.values()), list(handles), columns=3)
    return figure


def _loss(rows: Sequence[Row]) -> Figure | None:
    """Loss per class over the steps, each arm's first seed."""
    curves = [(arm, losses) for arm, _ in rows if arm.runs and (losses := read_losses(arm.runs[0].directory))]
    if not curves:
        return None
    curves = _spread(curves, MOST_PANELS)
    columns = min(2, len(curves))
    lines = -(-len(curves) // columns)
    figure = _figure(1.15 + (2.4 if columns == 1 else 1.75) * lines)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    names = dict.fromkeys(["loss", *(name for _, losses in curves for name in losses)])
    looks = dict(zip(names, [Look("#000000", "", (0, (1, 1)), ""), *_class_looks(len(names) - 1)], strict=True))
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
        axes.set_title("\n".join(textwrap.wrap(_shown(arm.label, 60), 27 if columns == 2 else 60)[:2]), fontsize=8.8)
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
    _head(figure, "Training loss by class", [handles[name] for name in order], labels)
    return figure


def read_losses(directory: Path | None) -> dict[str, list[tuple[int, float]]]:
    """(step, loss) of a run's `metrics.jsonl` by key: `loss`, then `loss/CLASS`; empty where there is none."""
    path = directory / "metrics.jsonl" if directory else None
    if path is None or not path.exists():
        return {}
    losses: dict[str, list[tuple[int, float]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            step = int(row["step"])
        except (ValueError, KeyError, TypeError):
            continue  # a killed run's last line
        for key, value in row.items():
            if (key == "loss" or key.startswith("loss/")) and isinstance(value, int | float):
                losses.setdefault(key, []).append((step, float(value)))
    return losses


def _class_looks(count: int) -> list[Look]:
    looks = [LOOKS["nat"], LOOKS["nut"], *SPARE_LOOKS]
    return [looks[place % len(looks)] for place in range(count)]


def _cost(rows: Sequence[Row]) -> Figure | None:
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

    figure = _figure(0.9 + 2.3 * len(panels))
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
    several = _methods_of_several_strategies(handles)
    names = [_series_name(key, several) for key in handles]
    if len(sizes) > 1:
        names += [f"{count} positives" for count in sizes]
        handles |= {count: Line2D([], [], color="#6f6f6f", ls="", marker="o", ms=marker_size(count)) for count in sizes}
    _head(figure, "Success by cost", list(handles.values()), names)
    return figure


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


# ---- shared by the pictures ----


def series_looks(arms: Iterable[Arm]) -> dict[tuple[str, str], Look]:
    """A look for each (method, strategy): a method's own for its first strategy, spare ones for the others."""
    looks: dict[tuple[str, str], Look] = {}
    spare = 0
    for method, strategy in dict.fromkeys((arm.method, arm.strategy) for arm in arms):
        is_first = method not in {other for other, _ in looks}
        # Positives alone look alike whatever text is around them: there is nothing to tell apart.
        if method in LOOKS and (is_first or method in ("base", "positive_only")):
            looks[method, strategy] = LOOKS[method]
        else:
            looks[method, strategy] = SPARE_LOOKS[spare % len(SPARE_LOOKS)]
            spare += 1
    return looks


def _alike(counts: Iterable[int | None]) -> dict[int | None, int | None]:
    """Each count to the largest that is taken for the same: a longer prompt may push a few trajectories out."""
    same: dict[int | None, int | None] = {None: None}
    largest = 0
    for count in sorted({count for count in counts if count is not None}, reverse=True):
        if count < (1 - ALIKE) * largest or not largest:
            largest = count
        same[count] = largest
    return same


def _setting(arm: Arm) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(setting_of(arm).items()))


def _spread(items: list[Any], most: int) -> list[Any]:
    """All of them, or `most` spread evenly over their order, which no result decides."""
    if len(items) <= most:
        return items
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def _rows_axes(axes: Axes) -> None:
    """A row an arm: no y axis, and no tick beyond a rate of 1 (room for figures lies there)."""
    low, high = axes.get_xlim()
    axes.set_yticks([])
    axes.set_xticks([tick for tick in axes.get_xticks() if low <= tick <= min(high, 1.0 + 1e-9)])
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)


def _row_label(axes: Axes, y: float, text: str) -> Annotation:
    """A row's name above its row: beside it there is no room on a phone."""
    return axes.annotate(
        _shown(text, 62), (0, y), (1, 1), xycoords=("axes fraction", "data"), textcoords="offset points",
        va="bottom", fontsize=9.5,
    )  # fmt: skip


def _shown(text: str, most: int = 40) -> str:
    """A name from outside on one line of at most `most` characters."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _head(figure: Figure, title: str, handles: Sequence[Any] = (), names: Sequence[str] = (), columns: int = 4) -> None:
    """The picture's title, and below it what its colours mean."""
    if not handles:
        figure.suptitle(title, x=0.012, horizontalalignment="left", fontsize=11, fontweight="bold")
        return
    # A name that begins with an underscore would be left out.
    by_name = {_shown(name).lstrip("_") or "?": handle for name, handle in zip(names, handles, strict=True)}
    fitting = max(1, min(columns, 62 // (max(map(len, by_name)) + 8)))
    figure.legend(
        list(by_name.values()), list(by_name), loc="outside upper left", ncols=fitting, handlelength=2.6,
        columnspacing=1.2, title=title, alignment="left", title_fontproperties={"size": 11, "weight": "bold"},
    )  # fmt: skip


def _success_label(rows: Sequence[Row], name: str = "success rate") -> str:
    counts = sorted({mean.n_questions for _, mean in rows})
    seeds = sorted({len(mean.per_seed) for _, mean in rows})
    questions = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    runs = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return f"{name}\n{questions} questions, {runs} seed{'s' if seeds[-1] != 1 else ''}"


def _series_name(key: tuple[str, str], several: set[str]) -> str:
    method, strategy = key
    return f"{shown_method(method)} {strategy}" if method in several else shown_method(method)


def _methods_of_several_strategies(keys: Iterable[tuple[str, str]]) -> set[str]:
    counts = Counter(method for method, _ in dict.fromkeys(keys))
    return {method for method, count in counts.items() if count > 1 and method not in ("base", "positive_only")}


def _pairs(setting: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{key.rpartition('.')[2]} {value}" for key, value in setting]


def _low(mean: Mean) -> float:
    return min(mean.per_seed + ((mean.ci95[0],) if mean.ci95 else ()))


def _high(mean: Mean) -> float:
    return max(mean.per_seed + ((mean.ci95[1],) if mean.ci95 else ()))
