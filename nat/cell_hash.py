"""What tells one cell from another: a hash of its configuration and of the content of its input files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from nat import trajectories as trajectory_files
from nat.config import Config
from nat.tokenization import ASSETS

# Groups and keys without effect on a result: where it goes, how it is shown, what is kept beside it.
OF_NO_EFFECT = ("sweep", "tracking", "report", "format", "examples")
TRAINING_OF_NO_EFFECT = ("save", "checkpoint_every")


def cell_hash(config: Config) -> str:
    """Sixteen hexadecimal digits, equal for runs that must give the same results.

    Of the resolved values and of every byte of the trajectory files, a local question file and a local model: an edited
    input makes another cell, whatever it is called, and a renamed sweep or another tracker does not.
    """
    tree = json.loads(json.dumps(asdict(config)))
    tree = {group: values for group, values in tree.items() if group not in OF_NO_EFFECT}
    for key in TRAINING_OF_NO_EFFECT:
        del tree["training"][key]
    if tree["training"].get("processes") == 1:
        del tree["training"]["processes"]  # cells measured before there was the key stay the same cells
    inputs = []
    for keys, label, path in _inputs(config):
        inputs.append([label, content_hash(path)])
        for group, key in keys:
            tree[group][key] = None  # the content stands for the path
    parts: dict[str, Any] = {"config": tree, "inputs": dict(inputs)}
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _inputs(config: Config) -> Iterator[tuple[list[tuple[str, str]], str, Path]]:
    """Every input file: the keys that name it, what it is called in the hash, and where it lies.

    Trajectory and question files keep their short names, which make ids where a record has none.
    """
    if config.trajectories.path is not None:
        paths = trajectory_files.paths(config.trajectories.path)
        for place, (path, label) in enumerate(zip(paths, trajectory_files.labels(paths), strict=True)):
            yield [("trajectories", "path")], f"trajectories {place} {label}", path
    questions: Any = config.environment.questions
    if isinstance(questions, str) and Path(questions).is_file():
        yield [("environment", "questions")], f"questions {Path(questions).stem}", Path(questions)
    model = Path(config.model.path).expanduser()
    if config.model.path == "tiny":
        for path in _files(ASSETS / "tiny"):
            yield [], f"model {path.name}", path
    elif model.is_dir():
        for path in _files(model):
            yield [("model", "path")], f"model {path.relative_to(model).as_posix()}", path
    template = config.model.chat_template
    if template is not None and Path(template).expanduser().is_file():
        yield [("model", "chat_template")], "chat_template", Path(template).expanduser()


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes; read once for each state of the file, since weights can be large."""
    state = path.stat()
    return _content_hash(str(path.absolute()), state.st_size, state.st_mtime_ns)


@cache
def _content_hash(path: str, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
