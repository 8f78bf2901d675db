"""Trajectories, read from files of several formats. (Generated ones: nat/environments/worlds/earning.py.)"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from nat.core.archives import UNREADABLE, archive_of, is_file, members
from nat.core.rows.bad import BadRow, DroppedRow, OnBad, refuse
from nat.core.rows.sources import datasets_in, no_dataset
from nat.trajectories.config import (
    JoinedTrajectoryFiles,
    MappedTrajectoryFiles,
    TrajectoriesConfig,
    TrajectoryFiles,
)
from nat.trajectories.detection import FORMATS, Format, detect, no_record
from nat.trajectories.formats import mapped
from nat.trajectories.formats.conversations import (
    AS_FOUND,
    Conversation,
    Fields,
    Front,
    conversations_of,
    read_conversations,
    shared_front,
)
from nat.trajectories.label_files import Labels, label_paths, read_labels
from nat.trajectories.labels import Scorer, parse_rule, relabel
from nat.trajectories.mapping import Finder, read_mapping
from nat.types import RequestError, Trajectory

FEW_RECORDS = 4  # in a file: too few to show what is preamble
MOST_FILES = 50  # of such files that are looked at together
MOST_HELD = 100_000  # rows without a label that wait for the first that has one


_PACKED = ("", ".gz", ".zst")
RECORDS = (
    *(name + packed for name in (".json", ".jsonl", ".ndjson", ".traj", ".tar") for packed in _PACKED),
    *(".parquet", ".eval", ".zip", ".tgz"),
)
# Files that agent tools write beside their trajectories; a format that needs one looks for it.
BESIDE_RECORDS = ("result.json", "config.json", "lock.json", "preds.json", "all_preds.jsonl", "settings.json")


class Row(NamedTuple):
    """A trajectory, with where it stands ("file:line", or "file: record 7"), in what format, and its file."""

    where: str
    format: str
    path: str
    trajectory: Trajectory


def read_rows(
    config: TrajectoryFiles, on_bad: OnBad, on_bad_file: OnBad = refuse, joined: Labels | None = None
) -> Iterator[Row]:
    """Stream everything that the configured files hold, one file after another, each in its own format.

    A row that cannot be used, and the place from which a file is broken, go to `on_bad`; the rest is read. Of several
    files, one that holds no trajectories, or cannot be read at all, goes to `on_bad_file` (on_bad_file=skip). Where a
    label rule is given, trajectories may come without a label: `nat.trajectories.labels.relabel` gives it. Where other
    files hold the labels, all have theirs (`joined` is what `labels_of` gave, and counts them), by the rule if there is
    one: it is over the fields of those files.

    Raises RequestError for a file that is missing, and for one as above (on_bad_file=error, or where none is left);
    formats are found, and missing files named, before the first row comes.
    """
    joining = labels_of(config) if joined is None else joined
    rows = _rows(config, on_bad, on_bad_file)
    if joining is not None:
        yield from _joined(rows, joining, on_bad)
    else:
        yield from (row for row, _ in rows)


def labels_of(config: TrajectoriesConfig | TrajectoryFiles) -> Labels | None:
    """The labels that other files hold; None where no such files are named."""
    if not isinstance(config, TrajectoryFiles) or config.labels is None:
        return None
    return read_labels(config.labels, parse_rule(config.label))


def _joined(rows: Iterator[tuple[Row, str]], labels: Labels, on_bad: OnBad) -> Iterator[Row]:
    """Rows with their labels. Those without wait for the first that has one: where none has, it is the wrong file.

    Raises RequestError there.
    """
    held: list[BadRow] = []
    has_rows = False
    for row, label in rows:
        has_rows, bad, trajectory = True, None, row.trajectory
        try:
            trajectory = labels.join(trajectory, row.where, row.path, label)
        except BadRow as found:
            bad = found
        if labels.has_met or len(held) == MOST_HELD:
            for waiting in held:
                on_bad(waiting)
            held.clear()
        if bad is None:
            yield row._replace(trajectory=trajectory)
        elif labels.has_met:
            on_bad(bad)
        else:
            held.append(bad)
    if has_rows and not labels.has_met:
        raise labels.nothing_joined()


def _rows(config: TrajectoryFiles, on_bad: OnBad, on_bad_file: OnBad) -> Iterator[tuple[Row, str]]:
    """Rows as the files have them, each with what stands for its file in the ids made for records."""
    finder = read_mapping(config.map) if isinstance(config, MappedTrajectoryFiles) else None
    found, formats = _readable_files(config, finder, on_bad_file)
    questions = question_file(config)
    by_format = {}
    if questions is not None:
        joined = {format.name: format.read_questions for format in formats if format.read_questions is not None}
        by_format = {name: read_questions(questions, on_bad) for name, read_questions in joined.items()}
    if questions is not None and not by_format:
        names = ", ".join(sorted({format.name for format in formats}))
        joining = " or ".join(format.name for format in FORMATS if format.read_questions is not None)
        raise RequestError(
            f"trajectories.questions={questions}: no file of trajectories.path is joined with it; all are {names}.\n"
            f"Leave it out, or say that the files are trajectories={joining}."
        )
    fields = Fields(config.question, config.task)
    fronts = _fronts(found, formats)
    any_read = False
    for path, label, format in zip(found, labels(found), formats, strict=True):
        n = 0

        def count(bad: BadRow) -> None:
            nonlocal n
            n += 1
            on_bad(bad)

        by_id = by_format.get(format.name)
        read = format.read if by_id is None else partial(format.read, questions=by_id)
        if format.conversations is not None and by_id is None:
            read = partial(read, fields=fields, front=fronts.get(format.name))
        elif fields != AS_FOUND:
            key = "question" if fields.question is not None else "task"
            raise RequestError(
                f"trajectories.{key}={getattr(fields, key)}: {path} is of the format {format.name}, whose records say "
                f"it themselves.\nLeave trajectories.{key} out, or read that file by itself."
            )
        for where, trajectory in read(path, label, count, needs_label=_needs_label(config)):
            n += 1
            any_read = True
            yield Row(where, format.name, str(path), trajectory), label
        if not n and (config.on_bad_file == "error" or len(found) == 1):
            raise no_record(path)
        if not n:
            on_bad_file(BadRow(str(path), "foreign_file", "holds no record."))
    if finder is not None and any_read:
        for key in finder.never_found():
            if key != "label" or _needs_label(config):
                problem = f"{finder.named(key):.200} finds nothing in any record.\nMend it, or leave it out."
                on_bad(BadRow(finder.path, "missing_value", problem))


def _readable_files(
    config: TrajectoryFiles, finder: Finder | None, on_bad_file: OnBad
) -> tuple[list[Path], list[Format]]:
    """The configured files that hold trajectories, and the format of each."""
    all_files = files_to_read(config)
    readable: list[tuple[Path, Format]] = []
    foreign: list[tuple[Path, RequestError]] = []
    for path in all_files:
        try:
            readable.append((path, _format(config, finder, path)))
        except RequestError as error:
            if config.on_bad_file == "error" or len(all_files) == 1:
                raise
            foreign.append((path, error))
    if not readable:
        raise RequestError(
            f"trajectories.path: none of its {len(all_files)} files is read; the first:\n{foreign[0][1]}"
        )
    for path, error in foreign:
        on_bad_file(BadRow(str(path), "foreign_file", str(error).removeprefix(f"{path}: ").split("\n")[0]))
    return [path for path, _ in readable], [format for _, format in readable]


def _fronts(paths: Sequence[Path], formats: Sequence[Format]) -> dict[str, Front]:
    """What the records of a format share, where its files hold one each or a few: no file shows that by itself."""
    by_format: dict[str, list[Path]] = {}
    for path, format in zip(paths, formats, strict=True):
        if format.conversations is not None:
            by_format.setdefault(format.name, []).append(path)
    fronts: dict[str, Front] = {}
    for format in {format.name: format for format in formats}.values():
        several = by_format.get(format.name, [])
        if format.conversations is None or len(several) < 2:
            continue
        read: list[Conversation] = []
        for path in several[:MOST_FILES]:
            found = [one for _, one in islice(conversations_of(format.conversations, path), FEW_RECORDS + 1)]
            if len(found) > FEW_RECORDS:
                break
            read += [one for one in found if isinstance(one, Conversation)]
        else:
            fronts[format.name] = shared_front(read)
    return fronts


def _needs_label(config: TrajectoryFiles) -> bool:
    """Whether records must say themselves what a success is: neither a rule nor other files do."""
    return config.label is None and config.labels is None


def _format(config: TrajectoryFiles, finder: Finder | None, path: Path) -> Format:
    if finder is not None:
        conversations = partial(mapped.conversations, finder, _needs_label(config))
        return Format("mapped", lambda _: False, partial(read_conversations, conversations), None, conversations)
    if config.kind == "auto":
        return detect(path)
    return next(format for format in FORMATS if format.name == config.kind)


def read(
    config: TrajectoryFiles,
    dropped: list[DroppedRow] | None = None,
    score: Scorer | None = None,
    joined: Labels | None = None,
) -> Iterator[Trajectory]:
    """Stream the labelled trajectories of the configured files.

    A row that cannot be trained on raises RequestError (file:line); with `on_bad_row=drop` it is left out and added to
    `dropped`, where a list is given. So is a row with the id of another one, since mixing and the manifest know
    trajectories by their id. An episode whose failure is `infrastructure`, and one of several files that holds no
    trajectories (on_bad_file=skip), is left out, and added, always. Raises
    RequestError for a file that is missing or cannot be read at all. `score` is the environment's scorer, for
    `trajectories.label=rescore`; `joined` what `labels_of` gave, where what is joined is to be counted.
    """

    def drop(bad: BadRow) -> None:
        if dropped is not None:
            dropped.append(DroppedRow(bad.where, bad.reason, bad.problem))

    def refuse_or_drop(bad: BadRow) -> None:
        # A run that broke before the agent did anything is no fault of the file either.
        (drop if bad.reason == "infrastructure" else refuse)(bad)

    on_bad = drop if config.on_bad_row == "drop" else refuse_or_drop
    seen: dict[str, str] = {}
    for row in read_rows(config, on_bad, drop, joined):
        where, trajectory = row.where, row.trajectory
        if trajectory.id in seen:
            problem = f"id {trajectory.id!r} was used before, at {seen[trajectory.id]}."
            remedy = "Give every trajectory an id of its own, or none: then file name and line make one."
            on_bad(BadRow(where, "duplicate_id", f"{problem}\n{remedy}"))
            continue
        seen[trajectory.id] = where
        if config.label is not None and config.labels is None:
            try:
                trajectory = relabel(trajectory, config.label, score, where).trajectory
            except BadRow as bad:
                on_bad(bad)
                continue
        if trajectory.outcome.failure == "infrastructure":
            # Nothing is wrong with the row, and there is nothing to mend: whoever collected it kept all episodes.
            if dropped is not None:
                problem = "the episode broke for reasons that are not the policy's; nothing is to be learned from it"
                dropped.append(DroppedRow(where, "infrastructure", problem))
            continue
        yield trajectory


def question_file(config: TrajectoriesConfig | TrajectoryFiles) -> Path | None:
    """The file that `questions` names, or None. Raises RequestError where there is no such file."""
    if not isinstance(config, JoinedTrajectoryFiles) or config.questions is None:
        return None
    path = Path(config.questions)
    if not path.is_file():
        kind = "is a directory" if path.is_dir() else "does not exist"
        raise RequestError(f"trajectories.questions={config.questions}: {path.absolute()} {kind}.\nGive a file.")
    return path


def files_to_read(config: TrajectoryFiles) -> list[Path]:
    """The files that are to hold trajectories; a file of labels may lie among them."""
    of_labels = {path.resolve() for path in label_paths(config.labels)}
    return [path for path in paths(config.path) if path.resolve() not in of_labels]


def map_file(config: TrajectoriesConfig | TrajectoryFiles) -> Path | None:
    """The file that `map` names, or None."""
    if not isinstance(config, MappedTrajectoryFiles) or config.map is None:
        return None
    return Path(config.map)


def paths(pattern: str | Sequence[str] | None) -> list[Path]:
    """The files of a path, a glob pattern or a list of them, each once, in the order given.

    A directory stands for the `datasets` in it, each of which counts as a file, or else for all files below it that
    are named as files of records are; an archive for such members. Inspect's .eval archive is one file.
    """
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
    """The files and datasets of one path or pattern; raises RequestError where there are none."""
    is_pattern = glob.has_magic(item) and not Path(item).exists()
    matches = sorted(glob.glob(item, recursive=True)) if is_pattern else [item]
    if not matches:
        raise RequestError(f"trajectories.path={item}: the pattern matches no file below {Path.cwd()}.")
    found: list[Path] = []
    for match in map(Path, matches):
        if match.is_dir():
            inside = datasets_in(match) or _records_below(match)
            if not inside:
                raise RequestError(f"trajectories.path={item}: {no_dataset(match)}")
            found += inside
        elif is_file(match):
            found += _unpacked(match)
        else:
            raise RequestError(
                f"trajectories.path={item}: {match.absolute()} does not exist.\nGive a file, a glob or a dataset."
            )
    return found


def _records_below(directory: Path) -> list[Path]:
    """The files below a directory that are named as files of records are, sorted; archives are looked into."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and _names_records(path))
    return [inside for path in files for inside in _unpacked(path)]


def _unpacked(path: Path) -> list[Path]:
    """The members of an archive that are named as files of records are; a file that is none is itself."""
    if path.suffix == ".eval":
        return [path]
    try:
        inside = members(path) if archive_of(path) is None else []
    except UNREADABLE as error:
        raise RequestError(f"{path}: an archive that cannot be read ({error}).\nMake or copy it again.") from None
    if not inside:
        return [path]
    named = [member for member in inside if _names_records(member)]
    if not named:
        shown = ", ".join(member.relative_to(path).as_posix() for member in inside[:3])
        raise RequestError(f"{path}: none of its {len(inside)} members is JSON; the first: {shown}.")
    return named


def _names_records(path: Path) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts[-2:])
    return path.name.lower().endswith(RECORDS) and path.name not in BESIDE_RECORDS and not hidden
