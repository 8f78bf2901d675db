"""Checkpoints of a training, to resume from the last complete one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHECKPOINTS = "checkpoints"


MEETING_PLACE = (
    ".training"  # of several processes that train together (nat.training.distributed); removed when they have
)


def last_checkpoint(directory: Path) -> Path | None:
    """The newest checkpoint that was written to its end; what a killed process left behind is removed."""
    complete = []
    for path in directory.glob("checkpoint-*"):
        try:
            complete.append((training_state(path)["global_step"], path))
        except (OSError, ValueError, KeyError):  # Trainer writes its state last
            shutil.rmtree(path)
    return max(complete)[1] if complete else None


def remove_checkpoints(run_dir: Path) -> None:
    """To be called when a run is complete: until then, a resumed run needs them."""
    shutil.rmtree(run_dir / CHECKPOINTS, ignore_errors=True)


def training_state(checkpoint: Path) -> Mapping[str, Any]:
    return json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
