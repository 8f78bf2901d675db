"""The report's pictures, drawn from a comparison: PNG and SVG each, equal files for equal results.

Every picture is about five inches wide with text to match, so that it can still be read on a phone.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from nat.comparison.means import arm_mean
from nat.comparison.types import Comparison
from nat.reporting.pictures.cost import _cost
from nat.reporting.pictures.environments import _environments
from nat.reporting.pictures.failures import _failures
from nat.reporting.pictures.looks import STYLE
from nat.reporting.pictures.loss import _loss
from nat.reporting.pictures.methods import _methods
from nat.reporting.pictures.negatives import _negatives
from nat.reporting.pictures.strategies import _strategies

if TYPE_CHECKING:
    pass


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


# ---- shared by the pictures ----
