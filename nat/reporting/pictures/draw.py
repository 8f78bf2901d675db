"""The report's pictures, drawn from a comparison: PNG and SVG each, equal files for equal results.

A picture is a module beside this one (`cost.py` is an example) with

    PLACE                     among the pictures, lower first
    draw(comparison, rows)    a `Picture`, or None where the data allow none; `rows` are the arms that were asked, each
                              with its mean success

Its name is the module's. Modules without a `PLACE` are what pictures share. Every picture is about five inches wide
with text to match, so that it can still be read on a phone.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

from nat.comparison.means import arm_mean
from nat.comparison.types import Comparison
from nat.reporting import pictures
from nat.reporting.pictures.looks import STYLE


@dataclass(frozen=True)
class Drawn:
    """A picture's files, and its words as in `nat.reporting.pictures.looks.Picture`."""

    png: Path
    svg: Path
    alternative: str
    caption: str


def found() -> dict[str, ModuleType]:
    """The pictures that there are, by name, in the order of a report: by `PLACE` and, of equals, by name."""
    names = [module.name for module in iter_modules(pictures.__path__)]
    modules = {name: import_module(f"{pictures.__name__}.{name}") for name in names}
    there = [(name, module) for name, module in modules.items() if hasattr(module, "PLACE")]
    return dict(sorted(there, key=lambda named: (named[1].PLACE, named[0])))


def draw(comparison: Comparison, directory: Path) -> dict[str, Drawn]:
    """Draw what the data allow, as `directory/NAME.png` and `.svg`; returns them by name, in the order of a report."""
    import matplotlib

    rows = [(arm, mean) for arm in comparison.arms if (mean := arm_mean(arm, comparison.split)) is not None]
    written = {}
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # names may hold any script; the SVG keeps them
        figures = {name: module.draw(comparison, rows) for name, module in found().items()}
        for name, picture in figures.items():
            if picture is not None:
                png, svg = directory / f"{name}.png", directory / f"{name}.svg"
                picture.figure.savefig(png, dpi=150, facecolor="white", metadata={"Software": None})
                picture.figure.set_layout_engine("none")  # laid out by now
                picture.figure.savefig(svg, facecolor="white", metadata={"Date": None, "Creator": None})
                written[name] = Drawn(png, svg, picture.alternative, picture.caption)
    return written
