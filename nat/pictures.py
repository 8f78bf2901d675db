"""The report's picture: success rates with their intervals, one row a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

# One colour a method, told apart also without red-green vision (Okabe and Ito's palette).
COLOURS = {
    "base": "#7f7f7f",
    "positive_only": "#E69F00",
    "nut": "#56B4E9",
    "nat": "#009E73",
    "nat_graded": "#0072B2",
}


def draw_success(
    rows: Sequence[tuple[str, str, float, tuple[float, float]]], title: str, path: Path
) -> tuple[Path, Path]:
    """Draw rows of (label, method, success rate, 95% interval) from top to bottom, as PNG and SVG beside `path`."""
    import matplotlib
    from matplotlib.figure import Figure

    # Fixed ids and no date, so that equal results give equal files.
    with matplotlib.rc_context({"svg.hashsalt": "nat", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(7.5, 0.9 + 0.36 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for place, (_, method, rate, (low, high)) in enumerate(rows):
            colour = COLOURS.get(method, "#000000")
            axes.plot([low, high], [place, place], color=colour, linewidth=3, alpha=0.45, solid_capstyle="butt")
            axes.plot([rate], [place], "o", color=colour, markersize=7)
            axes.annotate(f"{rate:.3f}", (high, place), (6, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(0, min(1.0, max(high for *_, (_, high) in rows) * 1.15 + 0.02))
        figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=11)
        axes.grid(axis="x", alpha=0.25)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.tick_params(axis="y", length=0)
        png, svg = path.with_suffix(".png"), path.with_suffix(".svg")
        figure.savefig(png, dpi=150, facecolor="white", metadata={"Software": None})
        figure.savefig(svg, facecolor="white", metadata={"Date": None})
    return png, svg
