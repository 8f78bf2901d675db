"""Success of each conditioning text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nat.comparison.types import Comparison
from nat.core.methods import shown as shown_method
from nat.reporting.pictures.looks import (
    LOOKS,
    Picture,
    Row,
    alike_counts,
    draw_head,
    lower_end,
    new_figure,
    pairs,
    row_label,
    rows_axes,
    series_looks,
    setting_text,
    success_label,
    upper_end,
)

PLACE = 3
ALTERNATIVE = "Forest plot of the success rate under each conditioning text"
CAPTION = "Texts side by side: mean, 95% interval and single seeds. Dashed: NUT, the same trajectories without a text."


def draw(comparison: Comparison, rows: Sequence[Row]) -> Picture | None:
    """Texts side by side, a panel for each mix that several of them were trained on; NUT is the line to beat."""
    panels: dict[tuple[Any, ...], list[Row]] = {}
    positives_of, negatives_of = (
        alike_counts(getattr(arm, key) for arm, _ in rows) for key in ("positives", "negatives")
    )
    for arm, mean in rows:
        if arm.negatives:
            mix = (positives_of[arm.positives], negatives_of[arm.negatives], setting_text(arm))
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
    figure = new_figure(0.7 + sum(heights))
    axes = figure.subplots(len(drawn), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights})[:, 0]
    values = [mean for members in panels.values() for _, mean in members]
    low, high = min(lower_end(mean) for mean in values), max(upper_end(mean) for mean in values)
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
            row_label(panel_axes, place - 0.17, name)
            panel_axes.annotate(
                f"{mean.value:.3f}", (1, place), (0, 0), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="right", va="center_baseline", fontsize=9.5,
            )  # fmt: skip
        panel_axes.set_ylim(len(texts) - 0.6, -1.05)
        rows_axes(panel_axes)
        mix = [f"{positives} positives"] * (positives is not None) + [f"{negatives} negatives"]
        panel_axes.set_title(", ".join(mix + pairs(setting)))
    axes[-1].set_xlabel(success_label([row for texts in drawn.values() for row in texts]))
    draw_head(figure, "Success by conditioning text")
    return Picture(figure, ALTERNATIVE, CAPTION)
