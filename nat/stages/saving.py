"""What a run writes beside its results: where it stands among others, and what a saved model needs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nat.config.tree import Config
from nat.core.files import write_json
from nat.examples.mixing import RatioMixing, ReplacedMixing
from nat.model import QUESTION, save_model
from nat.runs.outcomes import OUTCOMES
from nat.runs.results import Coordinates
from nat.search import search
from nat.stages.manifest import Prepared
from nat.training.checkpoints import MEETING_PLACE
from nat.trajectories import reading as trajectory_files
from nat.trajectories.label_files import label_paths
from nat.types import Message

SAVED_GROUPS = ("environment", "agent", "search", "trajectories", "strategy", "evaluation", "tracking")


def remove_earlier_files(run_dir: Path) -> None:
    """What another run left in this directory must not be taken for this one's."""
    for path in (
        *(run_dir / name for name in ("metrics.jsonl", "manifest.json", OUTCOMES)),
        *run_dir.glob("rollouts*.jsonl"),
    ):
        path.unlink(missing_ok=True)
    shutil.rmtree(run_dir / "model", ignore_errors=True)
    shutil.rmtree(run_dir / MEETING_PLACE, ignore_errors=True)


def begin_directory(run_dir: Path, manifest: Mapping[str, Any], resume: bool) -> bool:
    """Write the manifest, and clear away another run's files. Whether the run goes on with what is there."""
    resume = resume and _saved_hash(run_dir) == manifest["hash"]
    if not resume:
        remove_earlier_files(run_dir)
    write_json(run_dir / "manifest.json", manifest)
    return resume


def _saved_hash(run_dir: Path) -> str | None:
    try:
        return json.loads((run_dir / "manifest.json").read_text(encoding="utf-8"))["hash"]
    except (OSError, ValueError, KeyError):
        return None


OF_TRAINING = ("method", "strategy", "ratio", "positives", "negatives", "seed", "manifest")


def as_trained(coordinates: Coordinates, model_path: str) -> Coordinates:
    """Where a model that `nat` saved was trained stands before where it is evaluated; others stay as they are."""
    facts = _facts_of_saved(model_path)
    return replace(coordinates, **{key: facts[key] for key in OF_TRAINING if key in facts})


def threads_of_saved(model_path: str) -> int | None:
    """`model.threads` of the training; None where `nat` did not save the model."""
    return _facts_of_saved(model_path).get("threads")


def _facts_of_saved(model_path: str) -> dict[str, Any]:
    try:
        return json.loads((Path(model_path) / "nat.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def save_trained(config: Config, prepared: Prepared, model: Any, place: Coordinates, directory: Path) -> None:
    """The trained model with its prompt, and what `nat evaluate` needs beside it."""
    prompt = _prompt_to_save(prepared, config.strategy.infer_as)
    save_model(model, prepared.format, directory, prompt, config.evaluation.decoding.stop, asdict(place))
    save_configuration(config, place, directory)


def _prompt_to_save(prepared: Prepared, class_name: str) -> tuple[Message, ...]:
    """The prompt of inference with QUESTION in it; of own trajectories that of the first one that was trained on."""
    if prepared.environment.protocol != "own" or prepared.made is None:
        return prepared.prompt(prepared.environment, QUESTION, class_name)
    first = prepared.made.mixed.selected[0]
    asking = max((i for i, message in enumerate(first.prompt) if message.role == "user"), default=None)
    asked = tuple(replace(m, content=QUESTION) if i == asking else m for i, m in enumerate(first.prompt))
    asked = asked if asking is not None else (*asked, Message("user", QUESTION))
    return prepared.trajectory_prompt(replace(first, question=QUESTION, prompt=asked), class_name)


def save_configuration(config: Config, coordinates: Coordinates, directory: Path) -> None:
    """What `nat evaluate` needs beside the weights: the groups that make prompts and questions, as option files.

    `conf/GROUP/saved.yaml` below the model's directory; `nat.json` holds the facts of its training.
    """
    tree = json.loads(json.dumps(asdict(config)))
    pattern = tree["trajectories"].get("path")
    if pattern is not None:  # relative to where training was started
        tree["trajectories"]["path"] = [str(path.absolute()) for path in trajectory_files.paths(pattern)]
    if question_file := trajectory_files.question_file(config.trajectories):
        tree["trajectories"]["questions"] = str(question_file.absolute())
    if files := label_paths(tree["trajectories"].get("labels")):
        tree["trajectories"]["labels"] = [str(path.absolute()) for path in files]
    if files := search.files(config.search):
        tree["search"]["path"] = [str(path.absolute()) for path in files]
    for group in ("environment", "search"):
        questions = tree[group].get("questions")
        if questions is not None and Path(questions).is_file():  # no file: held_out, or a name on the hub
            tree[group]["questions"] = str(Path(questions).absolute())
    for group in SAVED_GROUPS:
        (directory / "conf" / group).mkdir(parents=True, exist_ok=True)
        write_json(directory / "conf" / group / "saved.yaml", tree[group])  # JSON is YAML
    write_json(directory / "nat.json", {**asdict(coordinates), "threads": config.model.threads})


def coordinates(config: Config, prepared: Prepared) -> Coordinates:
    """Where the run stands among others; of a saved model that is only evaluated, as its training stood."""
    mixed = prepared.made and prepared.made.mixed
    n_positives, n_negatives = (len(mixed.positives), len(mixed.negatives)) if mixed else (0, 0)
    found = Coordinates(
        method=config.method(n_negatives),
        environment=config.environment.name,
        strategy=config.strategy.name,
        ratio=config.mixing.ratio if isinstance(config.mixing, RatioMixing | ReplacedMixing) else None,
        positives=n_positives,
        negatives=n_negatives,
        seed=config.seed,
        model=config.model.name,
        split=config.evaluation.split,
        manifest=prepared.manifest["hash"],
    )
    return found if config.trains else as_trained(found, config.model.path)
