"""The file that `nat collect` appends to: whole lines only, one process at a time, what is in it is done.

OUTPUT.jsonl                   the episodes, in the format of `nat.trajectories.formats.native`
OUTPUT.settings.json           what decides how they are; its hash is in every line's metadata
OUTPUT.infrastructure.ndjson   episodes of the last run that broke for reasons that are not the policy's
OUTPUT.refused.ndjson          episodes that the server's content filter ended: not asked again while they stand here
OUTPUT.left_out.ndjson         rows of input files that could not be used (on_bad_row=drop), and why
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nat.collection.episodes import Episode, Facts, facts_of
from nat.core.files import write_json, write_text
from nat.core.rows.bad import DroppedRow
from nat.core.trajectory_records import to_record
from nat.trajectories.formats import native
from nat.types import Question, RequestError, Trajectory

PATIENCE = 2.0  # seconds for a process that was just ended to let go of the file
BLOCK = 1 << 16  # bytes read at once on the way back to the last whole line


@dataclass(frozen=True)
class CollectionFile:
    """An open file; `known` grows as episodes are appended."""

    path: Path
    settings_hash: str
    known: dict[str, Facts]
    refused: set[str]  # ids of episodes that the server will not answer
    descriptor: int

    # No .jsonl: a glob over collected files must not take them for the policy's failures.
    @property
    def broken_path(self) -> Path:
        return self.path.with_suffix(".infrastructure.ndjson")

    @property
    def refused_path(self) -> Path:
        return self.path.with_suffix(".refused.ndjson")

    def append(self, trajectory: Trajectory) -> None:
        _write_line(self.descriptor, self.path, trajectory)
        self.known[trajectory.id] = facts_of(trajectory)

    def append_broken(self, trajectory: Trajectory) -> None:
        _append(self.broken_path, trajectory)

    def append_refused(self, trajectory: Trajectory) -> None:
        _append(self.refused_path, trajectory)
        self.refused.add(trajectory.id)


@contextmanager
def opened(
    path: Path, settings: Mapping[str, Any], episodes: Sequence[Episode], say: Callable[[str], None]
) -> Iterator[CollectionFile]:
    """The file for this process alone, what a kill left of a last line cut off, its episodes read.

    Raises RequestError where the file cannot be written, another process writes it, a line cannot be read (file:line)
    or is of an episode that was collected under other settings or on another text.
    """
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        guard = FileLock(path.with_name(f".{path.name}.lock"))
        guard.acquire(timeout=PATIENCE)
    except Timeout:
        raise RequestError(
            f"collect.output={path}: another process is collecting into it; name another file."
        ) from None
    except OSError as error:
        raise RequestError(f"collect.output={path}: cannot be written ({error.strerror or error}).") from None
    try:
        digest = settings_hash(settings)
        if path.exists():
            mend_last_line(path, say)
            known = _read(path, settings, digest, {episode.id: episode.question for episode in episodes})
        else:
            known = {}
        if _settings_of(path) != settings:
            write_json(_settings_path(path), settings)
        descriptor = _open(path)
        try:
            file = CollectionFile(path, digest, known, set(), descriptor)
            file.broken_path.unlink(missing_ok=True)  # they are played again now
            if file.refused_path.exists():
                mend_last_line(file.refused_path, say)
                file.refused.update(
                    trajectory.id
                    for _, trajectory in native.read(file.refused_path)
                    if trajectory.metadata.get("settings") == digest
                )
            yield file
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    finally:
        guard.release()


def list_left_out(path: Path, rows: Sequence[DroppedRow], say: Callable[[str], None]) -> None:
    """Say how many rows of which flaw were left out, and write all of them beside the output at `path`."""
    listed = path.with_suffix(".left_out.ndjson")  # no .jsonl: see `CollectionFile`
    if not rows:
        listed.unlink(missing_ok=True)
        return
    for reason, number in sorted(Counter(row.reason for row in rows).items()):
        say(f"left out      {number} rows of the files: {reason} (listed in {listed})")
    write_text(listed, "".join(json.dumps(row._asdict(), ensure_ascii=False) + "\n" for row in rows))


def settings_hash(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def mend_last_line(path: Path, say: Callable[[str], None]) -> None:
    """Cut off a last line that a kill in the middle of a write left, or end one that only lacks its line break."""
    try:
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            start, tail = size, b""
            while start > 0 and b"\n" not in tail:
                start = max(0, start - BLOCK)
                file.seek(start)
                tail = file.read(size - start)
            last = tail[tail.rfind(b"\n") + 1 :]
            if not last:
                return
            try:
                json.loads(last)
            except ValueError:
                file.truncate(size - len(last))
                say(f"{path}: the last line was cut off in the middle of a write; {len(last)} bytes removed")
            else:
                file.seek(0, os.SEEK_END)
                file.write(b"\n")
    except OSError as error:
        raise RequestError(f"collect.output={path}: cannot be written ({error.strerror or error}).") from None


def _read(path: Path, settings: Mapping[str, Any], digest: str, planned: Mapping[str, Question]) -> dict[str, Facts]:
    """What the file holds, by id."""
    known: dict[str, Facts] = {}
    for where, trajectory in native.read(path):
        if trajectory.metadata.get("settings") != digest:
            raise RequestError(
                f"{where}: {_difference(path, settings, trajectory)}.\n"
                f"Name another file (collect.output={path.stem}_2.jsonl), go back to those settings or remove this one."
            )
        if trajectory.id in known:
            raise RequestError(f"{where}: id {trajectory.id!r} was there before; remove one of the two lines.")
        question = planned.get(trajectory.id)
        if question is not None and (question.text, question.answer) != (
            trajectory.question,
            trajectory.outcome.reference,
        ):
            raise RequestError(
                f"{where}: question {question.id!r} had another text or reference when it was collected; name another "
                "collect.output."
            )
        known[trajectory.id] = facts_of(trajectory)
    return known


def _difference(path: Path, settings: Mapping[str, Any], trajectory: Trajectory) -> str:
    """What is different about the settings of a line, as far as it is still known."""
    theirs = _settings_of(path)
    if "settings" not in trajectory.metadata:
        return "this line was not written by nat collect"
    if theirs is None or settings_hash(theirs) != trajectory.metadata["settings"]:
        return "this episode was collected with other settings"
    changes = list(_changes(theirs, settings))
    named = "; ".join(f"{key} was {old!r:.80} and is {new!r:.80}" for key, old, new in changes[:2])
    return f"collected with other settings: {named}" + (f"; and {len(changes) - 2} more" if len(changes) > 2 else "")


def _changes(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            yield from _changes(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif old != new:
        yield key, old, new


def _settings_path(path: Path) -> Path:
    return path.with_suffix(".settings.json")


def _settings_of(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(_settings_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        raise RequestError(f"collect.output={path}: cannot be written ({error.strerror or error}).") from None


def _append(path: Path, trajectory: Trajectory) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        _write_line(descriptor, path, trajectory)
    finally:
        os.close(descriptor)


def _write_line(descriptor: int, path: Path, trajectory: Trajectory) -> None:
    """One call for the whole line: a kill leaves all of it, or a part that the next start cuts off."""
    # "replace": a local model or a tool may leave half of a surrogate pair, which no UTF-8 file can hold.
    line = (json.dumps(to_record(trajectory), ensure_ascii=False) + "\n").encode("utf-8", "replace")
    if os.write(descriptor, line) < len(line):
        raise OSError(28, "No space left on device", str(path))
