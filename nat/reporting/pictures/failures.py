"""How the episodes of each arm ended."""

from __future__ import annotations

from collections.abc import Sequence

from nat.comparison.means import outcome_shares
from nat.comparison.types import Comparison
from nat.reporting.pictures.looks import (
    MOST_ROWS,
    OUTCOME_LOOKS,
    Picture,
    Row,
    draw_head,
    new_figure,
    row_label,
    rows_axes,
    spread_apart,
)

PLACE = 5
ALTERNATIVE = "Stacked bars of how episodes ended, one row an arm"
CAPTION = "How episodes ended: what an arm gains in success, it loses in some kind of failure."


def draw(comparison: Comparison, rows: Sequence[Row]) -> Picture | None:
    """How episodes ended: stacked shares, a row an arm."""
    split = comparison.split
    shown = [(arm, shares) for arm, _ in spread_apart(list(rows), MOST_ROWS) if (shares := outcome_shares(arm, split))]
    if not any(set(shares) - {"success", "other"} for _, shares in shown):
        return None
    kinds = [kind for kind in OUTCOME_LOOKS if kind != "other" and any(shares.get(kind) for _, shares in shown)]
    has_others = any(share for _, shares in shown for kind, share in shares.items() if kind not in kinds)
    figure = new_figure(1.25 + 0.43 * len(shown))
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
        row_label(axes, place - 0.24, arm.label)
    axes.set_ylim(len(shown) - 0.65, -0.7)
    axes.set_xlim(0, 1)
    rows_axes(axes)
    axes.set_xlabel("share of episodes" + (", mean over seeds" if any(len(arm.runs) > 1 for arm, _ in shown) else ""))
    draw_head(figure, "How episodes ended", list(handles.values()), list(handles), columns=3)
    return Picture(figure, ALTERNATIVE, CAPTION)
