"""Fine-tuning, in this process or in several, of the model as it was saved by someone; W&B beside it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nat.config.tree import Config
from nat.model import ModelConfig, load_model, merged, resolve_device, use_threads
from nat.runs.clock import Clock
from nat.runs.results import Coordinates
from nat.stages.manifest import Prepared
from nat.tracking import Tracker, track
from nat.training.config import Training, TrainingConfig
from nat.training.distributed import train_in_processes
from nat.training.objectives import UNTRAINED, TrainingResult, objective_of


def tracked(
    config: Config, place: Coordinates, run_dir: Path, tracking_id: str, say: Callable[[str], None]
) -> AbstractContextManager[Tracker]:
    """The W&B run, and metrics.jsonl, of this run."""
    positives, negatives = place.positives or 0, place.negatives or 0
    return track(
        config.tracking,
        run_dir,
        asdict(config),
        group=config.sweep.name,
        job_type=place.method,
        name=run_dir.name,
        tags=(place.method, config.environment.name, config.strategy.name),
        negatives_per_positive=negatives / positives if positives and config.trains else None,
        selected={"positives": positives, "negatives": negatives} if config.trains else None,
        run_id=tracking_id,
        say=say,
    )


def train_model(
    model_config: ModelConfig,
    training: TrainingConfig,
    prepared: Prepared,
    clock: Clock,
    seed: int,
    run_dir: Path,
    tracker: Tracker,
    resume: bool,
) -> tuple[TrainingResult, Any]:
    """What training did, and the model after it, its adapters merged in. Raises RequestError or StageError."""
    how: Any = {"seed": seed, "run_dir": run_dir, "tracker": tracker, "resume": resume}
    how["device"] = resolve_device(training.device)
    use_threads(model_config.threads)
    if isinstance(training, Training) and training.processes > 1:
        with clock("training"):
            trained, model = train_in_processes(prepared.examples, model_config, training, **how)
    else:
        with clock("load_model"):
            model = load_model(model_config, how["device"], seed)
        with clock("training"):
            trained = UNTRAINED
            if isinstance(training, Training):
                trained = objective_of(training).train(model, prepared.format, prepared.examples, training, **how)
    return trained, merged(model)
