"""Trajectories: read from files of several formats, or generated in a built-in world."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeInt, model_validator
from pydantic.dataclasses import dataclass

from nat.schema import STRICT
from nat.trajectories import gsm8k_solutions, nat_paper, native, react
from nat.trajectories.json_lines import BadRow, DroppedRow, OnBad, refuse
from nat.types import RequestError, Trajectory


@dataclass(frozen=True, config=STRICT, kw_only=True)
class TrajectoriesConfig:
    """See the comments in `conf/trajectories/`, where the values live."""

    kind: Literal["scripted", "jsonl", "gsm8k_solutions", "nat", "react"]
    path: str | list[str] | None
    successes: NonNegativeInt | None
    failures: NonNegativeInt | None
    questions: str | None
    on_bad_row: Literal["error", "drop"]

    @model_validator(mode="after")
    def _files_are_not_generated(self) -> TrajectoriesConfig:
        if self.kind == "scripted" and self.path is not None:
            given = self.path if isinstance(self.path, str) else f"[{','.join(self.path)}]"
            raise ValueError(
                f"path={self.path!r}: these trajectories are generated in the world itself and no file is read; "
                f"to train on it, add trajectories=jsonl trajectories.path={given}"
            )
        if self.questions is not None and self.kind != "nat":
            raise ValueError(f"questions={self.questions!r}: trajectories of kind {self.kind} are not joined with it")
        return self


def read(config: TrajectoriesConfig, dropped: list[DroppedRow] | None = None) -> Iterator[Trajectory]:
    """Stream the trajectories of the configured files.

    A row that cannot be trained on raises RequestError (file:line); with `on_bad_row=drop` it is left out and added to
    `dropped`, where a list is given. So is a row with the id of another one, since mixing and the manifest know
    trajectories by their id. An episode whose failure is `infrastructure` is left out, and added, always. Raises
    RequestError for a file that is missing or cannot be read at all.
    """

    def drop(bad: BadRow) -> None:
        if dropped is not None:
            dropped.append(DroppedRow(bad.where, bad.reason, bad.problem))

    on_bad = drop if config.on_bad_row == "drop" else refuse
    seen: dict[str, str] = {}
    found = paths(config.path)
    reader = _reader(config, on_bad)
    for path, label in zip(found, labels(found), strict=True):
        for where, trajectory in reader(path, label, on_bad):
            if trajectory.id in seen:
                problem = f"id {trajectory.id!r} was used before, at {seen[trajectory.id]}."
                remedy = "Give every trajectory an id of its own, or none: then file name and line make one."
                on_bad(BadRow(where, "duplicate_id", f"{problem}\n{remedy}"))
                continue
            seen[trajectory.id] = where
            if trajectory.outcome.failure == "infrastructure":
                # Nothing is wrong with the row, and there is nothing to mend: whoever collected it kept all episodes.
                if dropped is not None:
                    problem = (
                        "the episode broke for reasons that are not the policy's; nothing is to be learned from it"
                    )
                    dropped.append(DroppedRow(where, "infrastructure", problem))
                continue
            yield trajectory


def _reader(config: TrajectoriesConfig, on_bad: OnBad) -> Callable[..., Iterator[tuple[str, Trajectory]]]:
    match config.kind:
        case "gsm8k_solutions":
            return gsm8k_solutions.read
        case "nat":
            path = question_file(config)
            questions = None if path is None else nat_paper.read_questions(path, on_bad)
            return partial(nat_paper.read, questions=questions)
        case "react":
            return react.read
        case _:
            return native.read


def question_file(config: TrajectoriesConfig) -> Path | None:
    """The file that `questions` names, or None. Raises RequestError where there is no such file."""
    if config.questions is None:
        return None
    path = Path(config.questions)
    if not path.is_file():
        kind = "is a directory" if path.is_dir() else "does not exist"
        raise RequestError(f"trajectories.questions={config.questions}: {path.absolute()} {kind}.\nGive a file.")
    return path


def paths(pattern: str | Sequence[str] | None) -> list[Path]:
    """The files of a path, a glob pattern or a list of them, each file once, in the order given."""
    patterns = [pattern] if isinstance(pattern, str) else pattern
    if not patterns:
        raise RequestError(
            "trajectories.path=null: say which file to read, e.g. trajectories.path=my_trajectories.jsonl (a path, "
            "a glob in quotes, or a list [a.jsonl,b.jsonl])."
        )
    found: dict[Path, Path] = {}
    for item in patterns:
        try:
            for match in _files(item):
                found.setdefault(match.resolve(), match)
        except OSError as error:
            raise RequestError(f"trajectories.path={item:.200}: cannot be read: {error.strerror or error}.") from None
    return list(found.values())


def labels(paths: Sequence[Path]) -> list[str]:
    """What tells the files apart in the ids made for their records; nothing where there is one file.

    The names without suffix; where two of these are equal, the paths from the folder that holds all files.
    """
    names = [path.stem for path in paths]
    if len(paths) == 1:
        return [""]
    if len(set(names)) == len(names):
        return names
    absolute = [os.path.abspath(path) for path in paths]
    above = os.path.commonpath([os.path.dirname(path) for path in absolute])
    return [Path(path).relative_to(above).as_posix() for path in absolute]


def _files(item: str) -> list[Path]:
    """The files of one path or pattern; raises RequestError where there are none."""
    is_pattern = glob.has_magic(item) and not Path(item).exists()
    matches = sorted(glob.glob(item, recursive=True)) if is_pattern else [item]
    if not matches:
        raise RequestError(f"trajectories.path={item}: the pattern matches no file below {Path.cwd()}.")
    for match in map(Path, matches):
        if not match.is_file():
            kind = "is a directory" if match.is_dir() else "does not exist"
            raise RequestError(f"trajectories.path={item}: {match.absolute()} {kind}.\nGive a file or a glob.")
    return [Path(match) for match in matches]
