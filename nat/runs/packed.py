"""A run's small files, wherever they lie: in its own folder, or in the packed file of its sweep.

`cells.zip` in a sweep's directory holds, for each of its cells, the files of `FILES` as they are, and the sweep's plan:

    sweep.json
    method=nat,seed=0-ef203e7c/config.yaml
    method=nat,seed=0-ef203e7c/results.json
    ...

What is large (roll-outs, logs, weights) stays in the folders. A folder with a completed run stands for the packed cell
of its name.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from nat.core.files import write_bytes
from nat.types import RequestError

PACKED = "cells.zip"
PLAN = "sweep.json"  # what a sweep is going to run, see `nat.sweeps.sweep`
RESULTS = "results.json"
MANIFEST = "manifest.json"  # large; a report takes nothing of it that results.json does not have
FILES = ("config.yaml", RESULTS, "outcomes.csv", "metrics.jsonl", "own.json")  # own.json: of self_improvement's rounds
PRUNED = ("wandb", "model", "checkpoints")  # folders of a run that hold no runs
# What zipfile says of no zip file, a wrong checksum, a stream that ends early or makes no sense, a cipher.
UNREADABLE = (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError)
NEVER_CHANGES = (1980, 1, 1, 0, 0, 0)  # the time that every member has: the same cells give the same bytes


@dataclass(frozen=True)
class RunFiles:
    """The small files of one run."""

    name: str  # its path below the directory that was looked through; that directory's own name for a run in itself
    directory: Path | None  # None: packed
    packed: Mapping[str, bytes] = field(default_factory=dict, repr=False)  # by file name

    def exists(self, name: str) -> bool:
        return name in self.packed if self.directory is None else (self.directory / name).is_file()

    def read_text(self, name: str) -> str | None:
        """None where there is no such file. Raises OSError, or UnicodeDecodeError, where it cannot be read."""
        if not self.exists(name):
            return None
        content = self.packed[name] if self.directory is None else (self.directory / name).read_bytes()
        return content.decode("utf-8")

    def unpack(self, directory: Path) -> None:
        """Write a packed run's files there; `results.json`, which makes it one, comes last."""
        directory.mkdir(parents=True, exist_ok=True)
        for name in sorted(self.packed, key=lambda name: name == RESULTS):
            write_bytes(directory / name, self.packed[name])


@dataclass(frozen=True)
class Below:
    """What lies below a directory, in the order of names; of a packed cell and its folder the one that counts."""

    runs: tuple[RunFiles, ...]  # whatever has a results.json
    plans: Mapping[str, str]  # text of sweep.json by the folder that it lies in; "" for the directory itself
    damaged: tuple[str, ...]  # one line for each packed file that cannot be read


def look_below(directory: Path) -> Below:
    """Every run below a directory, those of packed files included."""
    found: list[tuple[PurePosixPath, RunFiles]] = []  # with the path below the directory
    plans: dict[str, str] = {}
    damaged: list[str] = []
    for folder, files in _folders(directory):
        place = "" if folder == directory else folder.relative_to(directory).as_posix()
        if RESULTS in files:
            found.append((PurePosixPath(place), RunFiles(place or directory.resolve().name, folder)))
        if PLAN in files:
            plans[place] = _text(folder / PLAN)
        if PACKED in files:
            try:
                packed, packed_plans = _content(folder / PACKED, place)
            except UNREADABLE as error:
                damaged.append(_damage(_joined(place, PACKED), error))
                continue
            found += [(PurePosixPath(run.name), run) for run in packed if not _is_completed(directory / run.name)]
            plans = packed_plans | plans
    # As a walk through sorted folders has them; a folder before the packed cell of its name.
    found.sort(key=lambda one: (one[0].parts, one[1].directory is None))
    return Below(tuple(run for _, run in found), plans, tuple(damaged))


def runs_below(directory: Path) -> Iterator[RunFiles]:
    """As `look_below`, without the plans. Raises RequestError where a packed file cannot be read."""
    found = look_below(directory)
    if found.damaged:
        raise RequestError(f"{directory}: {found.damaged[0]}")
    yield from found.runs


def run_files(run_dir: Path, sweep_dir: Path) -> RunFiles:
    """Those of the folder `run_dir`; where no completed run is in it, those that `sweep_dir` has packed of it, if any.

    Raises RequestError where the packed file cannot be read.
    """
    name = run_dir.relative_to(sweep_dir).as_posix()
    if not _is_completed(run_dir):
        for run in packed_runs(sweep_dir):
            if run.name == name:
                return run
    return RunFiles(name, run_dir)


def packed_runs(sweep_dir: Path) -> tuple[RunFiles, ...]:
    """The cells in `sweep_dir`'s packed file; none where there is no such file.

    Raises RequestError, which names the file, where any of it cannot be read.
    """
    return _read_packed(sweep_dir / PACKED)[0]


def pack(directory: Path, manifests: Container[str] = (), say: Callable[[str], None] = print) -> Path:
    """Write the completed cells below a sweep's directory into its `cells.zip`, beside those that it holds already.

    A folder takes the place of the packed cell of its name, and of one with its hash. The folders stay as they are.
    The same cells give the same bytes.

    Args:
        manifests: names of the cells whose `manifest.json` is to be kept too.

    Raises RequestError where there is no completed cell, or where the file that is there cannot be read: it then stays.
    """
    path = directory / PACKED
    packed, packed_plans = _read_packed(path)
    plans = {folder: text.encode() for folder, text in packed_plans.items()}
    left = {run.name: run.packed for run in packed}
    names = {_facts(run.packed[RESULTS]).get("cell"): run.name for run in packed}
    cells: dict[str, Mapping[str, bytes]] = {}
    for folder, files in _folders(directory):
        name = "" if folder == directory else folder.relative_to(directory).as_posix()
        if PLAN in files:
            plans[name] = (folder / PLAN).read_bytes()
        if name and _is_completed(folder):
            kept = (*FILES, MANIFEST) if name in manifests else FILES
            content = {file: (folder / file).read_bytes() for file in kept if file in files}
            hash = _facts(content[RESULTS]).get("cell")
            # What the folder lacks, say a manifest, is that of the same cell.
            cells[name] = {**left.pop(names.get(hash, ""), {}), **content}
    cells = {**left, **cells}
    if not cells:
        raise RequestError(f"{directory}: no completed cell below it, nothing to pack.")
    members = {_joined(name, file): content for name, files in cells.items() for file, content in files.items()}
    members |= {_joined(folder, PLAN): text for folder, text in plans.items()}
    write_bytes(path, zipped(members))
    say(f"{len(cells)} cells in {path} ({len(packed)} before)")
    return path


def zipped(members: Mapping[str, bytes]) -> bytes:
    """A zip file of these members; the same ones give the same bytes."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(members):
            member = zipfile.ZipInfo(name, NEVER_CHANGES)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3  # Unix, on every machine
            member.external_attr = 0o644 << 16
            archive.writestr(member, members[name], compresslevel=9)
    return written.getvalue()


def _folders(directory: Path) -> Iterator[tuple[Path, list[str]]]:
    """All folders that may hold runs, with the names of their files; links followed, each once."""
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(directory, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back, which has no end
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(".") and name not in PRUNED)
        yield Path(folder), files


def _text(path: Path) -> str:
    """Empty where it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def _is_completed(run_dir: Path) -> bool:
    try:
        return _facts((run_dir / RESULTS).read_bytes()).get("status") == "completed"
    except OSError:
        return False


def _facts(results: bytes) -> Mapping[str, Any]:
    """What a `results.json` says; nothing where it is none of ours."""
    try:
        facts = json.loads(results)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _read_packed(path: Path) -> tuple[tuple[RunFiles, ...], dict[str, str]]:
    """As `_content`; nothing where there is no such file. Raises RequestError."""
    if not path.is_file():
        return (), {}
    try:
        return _content(path, "")
    except UNREADABLE as error:
        raise RequestError(_damage(str(path), error)) from None


def _content(path: Path, place: str) -> tuple[tuple[RunFiles, ...], dict[str, str]]:
    """The cells of a packed file, and the texts of its plans by folder; names begin with `place`. Raises UNREADABLE."""
    cells: dict[str, dict[str, bytes]] = {}
    plans: dict[str, str] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            folder, _, name = member.rpartition("/")
            if name in (*FILES, MANIFEST) and folder:
                cells.setdefault(_joined(place, folder), {})[name] = archive.read(member)
            elif name == PLAN:
                plans[_joined(place, folder)] = archive.read(member).decode("utf-8", "replace")
    runs = (RunFiles(name, None, files) for name, files in sorted(cells.items()) if RESULTS in files)
    return tuple(runs), plans


def _damage(path: str, error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return f"{path} cannot be read ({reason}); restore it, or delete it and run its cells again"


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and name else folder or name
