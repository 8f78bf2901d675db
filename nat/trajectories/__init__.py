"""Trajectories: read from files of several formats, or generated in a built-in world."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeInt, model_validator
from pydantic.dataclasses import dataclass

from nat.schema import STRICT
from nat.trajectories import gsm8k_solutions, native
from nat.types import RequestError, Trajectory


@dataclass(frozen=True, config=STRICT, kw_only=True)
class TrajectoriesConfig:
    """See the comments in `conf/trajectories/`, where the values live."""

    kind: Literal["scripted", "jsonl", "gsm8k_solutions"]
    path: str | list[str] | None
    successes: NonNegativeInt | None
    failures: NonNegativeInt | None

    @model_validator(mode="after")
    def _files_are_not_generated(self) -> TrajectoriesConfig:
        if self.kind == "scripted" and self.path is not None:
            given = self.path if isinstance(self.path, str) else f"[{','.join(self.path)}]"
            raise ValueError(
                f"path={self.path!r}: trajectories=arithmetic are generated and no file is read; "
                f"to train on it, add trajectories=jsonl trajectories.path={given}"
            )
        return self


READERS = {"jsonl": native.read, "gsm8k_solutions": gsm8k_solutions.read}


def read(config: TrajectoriesConfig) -> Iterator[Trajectory]:
    """Stream the trajectories of the configured files.

    Raises RequestError for a missing file, for a record that cannot be read (file:line) and for an id that two
    records share, since mixing and the manifest know trajectories by their id.
    """
    seen: dict[str, str] = {}
    found = paths(config.path)
    for path, label in zip(found, labels(found), strict=True):
        for where, trajectory in READERS[config.kind](path, label):
            if trajectory.id in seen:
                raise RequestError(
                    f"{where}: id {trajectory.id!r} was used before, at {seen[trajectory.id]}.\n"
                    "Give every trajectory an id of its own, or none: then file name and line make one."
                )
            seen[trajectory.id] = where
            yield trajectory


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
