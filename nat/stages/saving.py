"""What a run writes beside its results: where it stands among others, and what a saved model needs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nat import search
from nat import trajectories as trajectory_files
from nat.config import Config
from nat.files import write_json
from nat.mixing import RatioMixing, ReplacedMixing
from nat.training import MEETING_PLACE

SAVED_GROUPS = ("environment", "agent", "search", "trajectories", "strategy", "evaluation", "tracking")


def remove_earlier_files(run_dir: Path) -> None:
    """What another run left in this directory must not be taken for this one's."""
    for path in (
        *(run_dir / name for name in ("metrics.jsonl", "manifest.json", "outcomes.csv")),
        *run_dir.glob("rollouts*.jsonl"),
    ):
        path.unlink(missing_ok=True)
    shutil.rmtree(run_dir / "model", ignore_errors=True)
    shutil.rmtree(run_dir / MEETING_PLACE, ignore_errors=True)


def saved_hash(run_dir: Path) -> str | None:
    try:
        return json.loads((run_dir / "manifest.json").read_text(encoding="utf-8"))["hash"]
    except (OSError, ValueError, KeyError):
        return None


def facts_of_saved(model_path: str) -> dict[str, Any]:
    """How a model that `nat` saved was trained; nothing for any other model."""
    try:
        facts = json.loads((Path(model_path) / "nat.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    kept = ("method", "strategy", "ratio", "positives", "negatives", "seed", "manifest", "threads")
    return {key: facts[key] for key in kept if key in facts}


def save_configuration(config: Config, facts: Mapping[str, Any], directory: Path) -> None:
    """What `nat evaluate` needs beside the weights: the groups that make prompts and questions, as option files.

    `conf/GROUP/saved.yaml` below the model's directory; `nat.json` holds the facts of its training.
    """
    tree = json.loads(json.dumps(asdict(config)))
    pattern = tree["trajectories"].get("path")
    if pattern is not None:  # relative to where training was started
        tree["trajectories"]["path"] = [str(path.absolute()) for path in trajectory_files.paths(pattern)]
    if question_file := trajectory_files.question_file(config.trajectories):
        tree["trajectories"]["questions"] = str(question_file.absolute())
    if files := search.files(config.search):
        tree["search"]["path"] = [str(path.absolute()) for path in files]
    for group in ("environment", "search"):
        questions = tree[group].get("questions")
        if questions is not None and Path(questions).is_file():  # no file: held_out, or a name on the hub
            tree[group]["questions"] = str(Path(questions).absolute())
    for group in SAVED_GROUPS:
        (directory / "conf" / group).mkdir(parents=True, exist_ok=True)
        write_json(directory / "conf" / group / "saved.yaml", tree[group])  # JSON is YAML
    write_json(directory / "nat.json", {**facts, "threads": config.model.threads})


def coordinates(
    config: Config, method: str, n_positives: int, n_negatives: int, manifest_hash: str | None
) -> dict[str, Any]:
    """Where a run stands among others: the part of `results.json` that is known before it starts."""
    return {
        "method": method,
        "environment": config.environment.name,
        "strategy": config.strategy.name,
        "ratio": config.mixing.ratio if isinstance(config.mixing, RatioMixing | ReplacedMixing) else None,
        "positives": n_positives,
        "negatives": n_negatives,
        "seed": config.seed,
        "model": config.model.name,
        "split": config.evaluation.split,
        "manifest": manifest_hash,
    }
