"""What tells one cell from another: a hash of its configuration and of the content of its input files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nat.config.tree import Config
from nat.core.files import content_hash
from nat.core.paths import ASSETS
from nat.core.rows import sources
from nat.core.schema import values_of_effect
from nat.environments import custom
from nat.model import BUILT_IN
from nat.quality.config import CHECK_RULES
from nat.quality.rules import is_off
from nat.search import search
from nat.search.config import ReplaySearch
from nat.trajectories import reading as trajectory_files
from nat.trajectories.config import TrajectoryFiles
from nat.trajectories.label_files import label_paths

SCHEMA = 2  # of what is hashed; another number makes every cell another one
# Rules of checks that stand in every hash of this schema, also where they are off. Another one stands there only where
# it is on, so that a check that is added leaves all former cells what they were.
HASHED_RULES = (
    *("empty_turn", "ends_on_user_turn", "unfinished", "unparsed_action", "observation_error", "calculator_slip"),
    *("mixed_languages", "secret", "email_address", "conditioning_words", "label_in_text", "odd_characters"),
)


def cell_hash(config: Config) -> str:
    """Sixteen hexadecimal digits, equal for runs that must give the same results.

    Of the resolved values and of every byte of the trajectory files, a local question file and a local model: an edited
    input makes another cell, whatever it is called, and a renamed sweep or another tracker does not. Keys that are
    marked OF_NO_EFFECT where they are declared do not count.
    """
    tree = json.loads(json.dumps(values_of_effect(config)))
    if config.generates or not config.trains or is_off(config.quality):
        del tree["quality"]  # nothing is left out
    else:
        added = {rule for rule in CHECK_RULES if rule not in HASHED_RULES}
        tree["quality"] = {key: value for key, value in tree["quality"].items() if value or key not in added}
    inputs = []
    for keys, label, path in _inputs(config):
        inputs.append([label, content_hash(path)])
        for *parents, key in keys:
            place = tree
            for parent in parents:
                place = place[parent]
            place[key] = None  # the content stands for the path
    parts: dict[str, Any] = {"schema": SCHEMA, "config": tree, "inputs": dict(inputs)}
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _inputs(config: Config) -> Iterator[tuple[list[tuple[str, ...]], str, Path]]:
    """Every input file: the keys that name it, what it is called in the hash, and where it lies.

    Trajectory and question files keep their short names, which make ids where a record has none.
    """
    if isinstance(config.trajectories, TrajectoryFiles) and config.trajectories.path is not None:
        paths = trajectory_files.paths(config.trajectories.path)
        for place, (path, label) in enumerate(zip(paths, trajectory_files.labels(paths), strict=True)):
            for file in sources.files(path):  # a `datasets` folder holds several
                inside = f" {file.relative_to(path).as_posix()}" if path.is_dir() else ""
                yield [("trajectories", "path")], f"trajectories {place} {label}{inside}", file
    question_file = trajectory_files.question_file(config.trajectories)
    if question_file is not None:
        yield [("trajectories", "questions")], "trajectory questions", question_file
    if isinstance(config.trajectories, TrajectoryFiles):
        for place, path in enumerate(label_paths(config.trajectories.labels)):
            for file in sources.files(path):
                yield [("trajectories", "labels")], f"trajectory labels {place} {file.stem}", file
    map_file = trajectory_files.map_file(config.trajectories)
    if map_file is not None:
        yield [("trajectories", "map")], "trajectories map", map_file
    for place, path in enumerate(search.files(config.search)):
        yield [("search", "path")], f"search {place}", path
    if isinstance(config.search, ReplaySearch) and config.search.questions is not None:
        yield [("search", "questions")], "search questions", Path(config.search.questions)
    environments: list[tuple[tuple[str, ...], Any]] = [(("environment",), config.environment)]
    environments += [(("also_in", name), environment) for name, environment in config.also_in.items()]
    for keys, environment in environments:
        said = "" if len(keys) == 1 else f"in {keys[-1]} "
        questions: Any = environment.questions
        if isinstance(questions, str) and Path(questions).is_file():
            yield [(*keys, "questions")], f"{said}questions {Path(questions).stem}", Path(questions)
        if isinstance(environment, custom.CustomConfig):
            for place, path in enumerate(custom.source_files(environment)):
                yield [], f"{said}environment {place} {path.name}", path
    model = Path(config.model.path).expanduser()
    if config.model.path in BUILT_IN:
        for path in _files(ASSETS / config.model.path):
            yield [], f"model {path.name}", path
    elif model.is_dir():
        for path in _files(model):
            yield [("model", "path")], f"model {path.relative_to(model).as_posix()}", path
    template = config.model.chat_template
    if template is not None and Path(template).expanduser().is_file():
        yield [("model", "chat_template")], "chat_template", Path(template).expanduser()


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())
