"""Seconds per stage of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from nat.core.progress import begin

STAGES = {
    "class_losses": "measuring losses",
    "prepare": "reading and tokenizing",
    "load_model": "loading the model",
    "save": "saving the model",
}


@dataclass
class Clock:
    """Seconds per stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begin(STAGES.get(stage, stage))
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = round(time.monotonic() - start, 3)
