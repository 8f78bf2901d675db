"""What the benchmarks measured, by script: `results.json` beside this file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_suffix(".json")


def note(script: str, value: Any, path: Path = PATH) -> None:
    """Put what a script (its file) measured in the place of what stood there for it."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known[Path(script).stem] = value
    path.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")


def noted(script: str, path: Path = PATH) -> Any:
    """What a script measured last; None where it has not been run."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return known.get(Path(script).stem)
