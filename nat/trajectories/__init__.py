"""Trajectories: read from files of several formats, or generated in a built-in world."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from nat.schema import STRICT
from nat.trajectories import gsm8k_solutions, native
from nat.types import RequestError, Trajectory


@dataclass(frozen=True, config=STRICT, kw_only=True)
class TrajectoriesConfig:
    """See the comments in `conf/trajectories/`, where the values live."""

    kind: Literal["scripted", "jsonl", "gsm8k_solutions"]
    path: str | list[str] | None
    successes: int | None
    failures: int | None


READERS = {"jsonl": native.read, "gsm8k_solutions": gsm8k_solutions.read}


def read(config: TrajectoriesConfig) -> Iterator[Trajectory]:
    """Stream the trajectories of the configured files.

    Raises RequestError for a missing file, for a record that cannot be read (file:line) and for an id that two
    records share, since mixing and the manifest know trajectories by their id.
    """
    seen: dict[str, str] = {}
    for path in paths(config.path):
        for where, trajectory in READERS[config.kind](path):
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
    found: dict[Path, None] = {}
    for item in patterns:
        matches = (
            sorted(glob.glob(item, recursive=True)) if glob.has_magic(item) and not Path(item).exists() else [item]
        )
        if not matches:
            raise RequestError(f"trajectories.path={item}: the pattern matches no file below {Path.cwd()}.")
        for match in map(Path, matches):
            if not match.is_file():
                kind = "is a directory" if match.is_dir() else "does not exist"
                raise RequestError(f"trajectories.path={item}: {match.absolute()} {kind}.\nGive a file or a glob.")
            found[match] = None
    return list(found)
