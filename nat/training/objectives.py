"""The objectives, by name: of `training.objective=NAME` the module is `nat.training.NAME`, and this is what it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from pydantic.dataclasses import dataclass

from nat.core.progress import Advance, progress
from nat.examples.tokenization import ChatFormat
from nat.tracking import Tracker
from nat.training.config import Training
from nat.types import Example


@dataclass(frozen=True)
class TrainingResult:
    """What a training did.

    `steps` are the optimiser's, `resumed_from` the step of the checkpoint it went on from (0: from the start),
    `seconds` this process's wall time, `tokens` all tokens the model read (no padding) and `trained_tokens` those that
    carried loss, both over the whole training; `metrics` is the last logged line (`loss`, `loss/correct`, ...).
    """

    steps: int
    resumed_from: int
    seconds: float
    tokens: int
    trained_tokens: int
    metrics: dict[str, float]


UNTRAINED = TrainingResult(steps=0, resumed_from=0, seconds=0.0, tokens=0, trained_tokens=0, metrics={})


class Objective(Protocol):
    """The functions of an objective's module; `config` is the objective's own class, `nat.training.sft` an example."""

    def train(
        self,
        model: Any,
        format: ChatFormat,
        examples: Sequence[Example],
        config: Any,
        *,
        seed: int,
        device: Literal["cpu", "cuda"],
        run_dir: Path,
        tracker: Tracker,
        resume: bool = False,
        show: Callable[..., AbstractContextManager[Advance]] = progress,
    ) -> TrainingResult:
        """Train `model` in place. Raises RequestError for a setting that cannot be used, StageError where it fails."""
        ...

    def meet(self, config: Any, *, seed: int, device: Literal["cpu", "cuda"], run_dir: Path) -> int:
        """In one of several processes: wait for the others. How many came together; all of them then call `train`."""
        ...


def objective_of(config: Training) -> Objective:
    """The module that trains as `config` says."""
    return cast(Objective, import_module(f"nat.training.{config.objective}"))
