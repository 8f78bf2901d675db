"""Which version of the package this is, and where it, its data and its configuration files lie."""

from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"
PACKAGE = Path(__file__).parents[1]
ASSETS = PACKAGE / "assets"
# In a wheel conf/ lies inside the package; in a checkout it stands at the top of the repository.
CONF_DIR = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
