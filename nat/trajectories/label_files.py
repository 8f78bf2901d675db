"""Labels that lie in another file than the trajectories (`trajectories.labels`), and which one is whose.

What is read, each as JSON, and rows also as JSON Lines, CSV with a header, YAML or a table:

    {"resolved_ids": ["a__a-1"], "unresolved_ids": ["a__a-2"], "error_ids": [...], ...}    a report of SWE-bench
    {"resolved": ["a__a-1"], "no_generation": [...], "no_logs": [...]}                     older ones: all others failed
    {"a__a-1": {"resolved": true, ...}}                                                    of single instances
    {"stats": {"evals": {"...": {"reward_stats": {"reward": {"1.0": ["trial-1"]}}}}}}      result.json of a Harbor job
    {"task_id": "7", "success": true}                                                      rows: an id and a label
    {"traceId": "4bf9", "name": "correctness", "value": 1}                                 scores of Langfuse
    {"good.jsonl": true, "failed/": false}                                                 a label a file, folder or id

A label belongs to the trajectory that has its name: as id, trial or task, else as file or folder. Whose names a row
gives is told by the keys of `ROW_IDS`; the first column of a CSV file counts where it has none of them.
"""

from __future__ import annotations

import csv
import glob
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from nat.core.questions import TASK
from nat.core.rows import sources
from nat.core.rows.bad import BadRow, refuse
from nat.core.rows.json_lines import excerpt, shorten
from nat.core.rows.json_records import CONTAINERS, read_records
from nat.trajectories.fields import as_label, at, could_be_labels, keys_of, named, offered, says_success
from nat.trajectories.formats.episodes import LABELS, PLACES, labels_said, line_of
from nat.trajectories.labels import Comparison, Field, Rule, judged, labelled
from nat.types import RequestError, Score, Trajectory

Kind: TypeAlias = Literal["trial", "id", "task", "any"]  # what a name in a labels file names, strictest first

# By which keys a row says whose label it holds.
ROW_IDS: Mapping[Kind, tuple[str, ...]] = {
    "trial": ("trial_name", "trial_id", "traceId", "trace_id", "run_id", "session_id", "sessionId", "thread_id"),
    "id": ("trajectory_id", "traj_id", "rollout_id", "episode_id", "conversation_id", "uuid", "id"),
    "task": (
        *("instance_id", "task_id", "task_name", "task", "question_id", "problem_id", "sample_id", "example_id"),
        *("exercise",),
    ),
    "any": ("key", "file", "filename", "path", "folder", "name"),
}
# In which of them each name of a trajectory is looked for, before all others.
_LOOKED_IN: Mapping[Kind, tuple[Kind, ...]] = {
    "trial": ("trial", "any"),
    "id": ("id", "any"),
    "task": ("task", "any", "id"),
}
SHOWN = 3  # ids of each side, in messages and counts
_SCORED = ("traceId", "trace_id", "run_id")  # what tools of tracing score, by a name and a value
_SUFFIXES = (".gz", ".zst", ".jsonl", ".ndjson", ".json", ".parquet", ".eval", ".traj", ".trajectory")

# Lists of SWE-bench's reports, of its harness and older ones: what an id in them says.
_SUCCEEDED = ("resolved_ids", "resolved")
_BROKEN = ("error_ids", "no_logs", "install_fail", "reset_failed")
_FAILED = (
    *("unresolved_ids", "empty_patch_ids", "completed_ids", "submitted_ids", "unresolved", "no_generation", "no_apply"),
    *("applied", "generated", "with_logs", "test_errored", "test_timeout"),
)
# Reports with any of these say of every instance that was run what became of it; in others what is not listed failed.
_COMPLETE = ("unresolved_ids", "submitted_ids", "completed_ids", "unresolved", "applied", "generated", "with_logs")


class Named(NamedTuple):
    """A row of a labels file: where it stands, whose it is, what it says; `broke`: the episode is nobody's fault."""

    where: str
    ids: tuple[tuple[Kind, str], ...]
    row: Mapping[str, Any]
    broke: bool = False


class Entry(NamedTuple):
    """A label: `score` None where its row holds none. `shown` is what the row says, for people."""

    where: str
    score: Score | None
    shown: str
    broke: bool


class Clash(NamedTuple):
    """Two labels of one id that differ."""

    first: Entry
    second: Entry


@dataclass
class Labels:
    """The labels of all files; what was joined is counted here, as trajectories come by."""

    files: tuple[str, ...]
    rule: Rule = None  # that they follow
    entries: list[Entry] = field(default_factory=list)
    by_name: dict[Kind, dict[str, int | Clash]] = field(default_factory=dict)  # place in `entries`
    by_ids: dict[tuple[tuple[Kind, str], ...], int] = field(default_factory=dict)  # all names of one row together
    names: list[str] = field(default_factory=list)  # of the entries, as the file has it
    others: str | None = None  # the report in which an instance that is not listed failed
    has_met: bool = False  # whether any id was that of a trajectory
    joined: int = 0  # trajectories that found their label
    missing: int = 0  # trajectories that did not
    unlisted: int = 0  # trajectories that a report does not list, which makes them failures
    graded: int = 0  # trajectories whose label lies between 0 and 1, which makes them failures since no rule is given
    first_missing: list[str] = field(default_factory=list)
    used: Counter[int] = field(default_factory=Counter)  # trajectories of each entry

    def counts(self) -> dict[str, Any]:
        """For audit.json and the manifest."""
        unmatched = [name for place, name in enumerate(self.names) if place not in self.used]
        return {
            "files": list(self.files),
            "ids": len(self.names),
            "joined": self.joined,
            "missing": self.missing,
            "unmatched": len(unmatched),
            "unlisted": self.unlisted,
            "graded": self.graded,
            "sharing": sum(n for n in self.used.values() if n > 1),  # trajectories with the label of another one, too
            "first_missing": list(self.first_missing),
            "first_unmatched": unmatched[:SHOWN],
        }

    def join(self, trajectory: Trajectory, where: str, path: str, label: str) -> Trajectory:
        """The trajectory with its label. Raises BadRow where there is none, or none that is clear.

        Args:
            label: stands for the file among several in the ids; empty for a single one.
        """
        names = _names_of(trajectory, where, path, label)
        place = self._place(names, path)
        self.has_met |= place is not None
        if isinstance(place, Clash):
            raise BadRow(where, "contradictory_label", f"it has two labels: {_clash(*place)}")
        if place is None and self.others is not None:
            self.unlisted += 1
            self._miss(trajectory)
            return labelled(trajectory, Score(False, 0.0), f"{self.others}: not listed as resolved", False)
        entry = None if place is None else self.entries[place]
        if place is not None:
            self.used[place] += 1
        if entry is not None and (entry.broke or entry.score is not None):
            self.joined += 1
            score = entry.score or Score(False, 0.0)
            self.graded += self.rule is None and not score.success and 0 < score.score < 1
            return labelled(trajectory, score, f"{entry.where}: {entry.shown}", entry.broke)
        if trajectory.outcome.failure == "infrastructure":
            return trajectory  # it never trains; whoever judged the others had nothing to judge here
        self.missing += 1
        self._miss(trajectory)
        if entry is not None:
            raise BadRow(where, "no_label", f"{entry.where} says nothing of success: {entry.shown}.")
        looked_for = ", ".join(map(excerpt, dict.fromkeys(name for kind, name in names if kind != "any")))
        raise BadRow(where, "no_label", f"trajectories.labels={','.join(self.files)} has no label for {looked_for}.")

    def nothing_joined(self) -> RequestError:
        """What is said where no id of a labels file is one of any trajectory."""
        theirs = ", ".join(map(excerpt, self.names[:SHOWN])) or "(none)"
        return RequestError(
            f"trajectories.labels={','.join(self.files)}: none of its {len(self.names):,} ids is that of a "
            f"trajectory.\nIts first: {theirs}; of the trajectories: {', '.join(map(excerpt, self.first_missing))}.\n"
            "They are joined by the trajectory's id, its trial, its task (trajectories.task=FIELD), its file or folder."
        )

    def _miss(self, trajectory: Trajectory) -> None:
        if len(self.first_missing) < SHOWN:
            self.first_missing.append(str(trajectory.metadata.get(TASK, trajectory.id)))

    def _place(self, names: Sequence[tuple[Kind, str]], path: str) -> int | Clash | None:
        """Where its label stands: by a name of the same sort, else by any, else by its file or folder."""
        of_sort: Iterator[tuple[Kind, str]] = (
            (table, name) for kind, name in names for table in _LOOKED_IN.get(kind, ())
        )
        of_any: Iterator[tuple[Kind, str]] = ((table, name) for _, name in names for table in self.by_name)
        of_file: Iterator[tuple[Kind, str]] = ((table, name) for name in _names_of_file(path) for table in self.by_name)
        clash: Clash | None = None
        for table, name in chain(of_sort, of_any, of_file):
            found = self.by_name.get(table, {}).get(name)
            if isinstance(found, int):
                return found
            clash = clash or found
        return clash


def in_words(counts: Mapping[str, Any]) -> str:
    """What `Labels.counts` counted, for people."""
    files = ", ".join(Path(file).name for file in counts["files"][:SHOWN])
    files += f" and {len(counts['files']) - SHOWN} more" if len(counts["files"]) > SHOWN else ""
    said = [f"{counts['joined']:,} trajectories have theirs from {files}"]
    if counts["missing"]:
        said.append(f"{counts['missing']:,} have none there ({_first(counts['first_missing'], counts['missing'])})")
    if counts["unlisted"]:
        said.append(f"{counts['unlisted']:,} are not listed there, which makes them failures")
    if counts["unmatched"]:
        first = _first(counts["first_unmatched"], counts["unmatched"])
        said.append(f"{counts['unmatched']:,} of its {counts['ids']:,} ids are no trajectory's ({first})")
    if counts["sharing"]:
        said.append(f"{counts['sharing']:,} share one with others")
    if counts["graded"]:
        said.append(
            f"{counts['graded']:,} lie between 0 and 1 and count as failures (trajectories.label='FIELD >= 0.5')"
        )
    return "; ".join(said)


def _first(names: Sequence[str], of: int) -> str:
    return ", ".join(map(excerpt, names)) + (", ..." if of > len(names) else "")


def read_labels(files: str | Sequence[str], rule: Rule) -> Labels:
    """The labels of these files, each by its own shape.

    Raises RequestError for a file that cannot be read, a row without id, a value that is no label, a label that cannot
    be told among several fields, and two labels of one id that differ.

    Args:
        rule: over the fields of the rows; None: their own label.
    """
    paths = label_paths(files)
    labels = Labels(tuple(map(str, paths)), rule)
    for path in paths:
        judge = _Judge(path, rule)
        for one in _named(path):
            if one.ids:
                _take(labels, one, judge(one))
            else:  # what a report says of all that it does not list
                labels.others = str(path)
        judge.check()
    return labels


def label_paths(files: str | Sequence[str] | None) -> list[Path]:
    """The files that `trajectories.labels` names, globs replaced. Raises RequestError where there is none."""
    found: list[Path] = []
    for item in [files] if isinstance(files, str) else files or []:
        is_pattern = glob.has_magic(item) and not Path(item).exists()
        matches = sorted(glob.glob(item, recursive=True)) if is_pattern else [item]
        if not matches:
            raise RequestError(f"trajectories.labels={item}: the pattern matches no file below {Path.cwd()}.")
        for match in map(Path, matches):
            if match.is_dir() and not sources.datasets_in(match):
                remedy = f"Name files, e.g. with the glob '{match}/**/report.json'."
                raise RequestError(f"trajectories.labels={item}: {match.absolute()} is a directory.\n{remedy}")
            if not match.exists():
                raise RequestError(f"trajectories.labels={item}: {match.absolute()} does not exist.\nGive a file.")
            found.append(match)
    return list(dict.fromkeys(found))


def _take(labels: Labels, one: Named, entry: Entry) -> None:
    known = labels.by_ids.get(one.ids)
    if known is not None:
        there = labels.entries[known]
        if _differ(there, entry):
            raise RequestError(f"{entry.where}: {labels.names[known]!r:.80} has two labels: {_clash(there, entry)}")
        if there.score is None:  # the same, tried again after it broke
            labels.entries[known] = entry
        return
    place = labels.by_ids[one.ids] = len(labels.entries)
    labels.entries.append(entry)
    own = [name for kind, name in one.ids if name not in labels.by_name.get(kind, ())]
    labels.names.append((own or [one.ids[0][1]])[0])
    for kind, name in one.ids:
        there = labels.by_name.setdefault(kind, {}).setdefault(name, place)
        if isinstance(there, int) and _differ(labels.entries[there], entry):
            labels.by_name[kind][name] = Clash(labels.entries[there], entry)  # trials of one task, tasks of one run


def _differ(first: Entry, second: Entry) -> bool:
    return first.score is not None and second.score is not None and first.score.success != second.score.success


def _clash(first: Entry, second: Entry) -> str:
    return f"{first.shown} at {first.where}, {second.shown} at {second.where}."


# ---- what a trajectory is called ----


def _names_of(trajectory: Trajectory, where: str, path: str, label: str) -> list[tuple[Kind, str]]:
    """All that a labels file may call it by; `any` is what need not be shown."""
    id, line = trajectory.id, line_of(where)
    names: list[tuple[Kind, str]] = [("id", id)]
    # An id that was made of file and line is no name of its own without the file.
    is_made = id in (f"{label}:{line}", f"{Path(path).stem}:{line}")
    if not is_made and label and id.startswith(f"{label}:"):
        names.append(("id", id[len(label) + 1 :]))
    metadata = trajectory.metadata
    places = [metadata, *(place for key in PLACES if isinstance(place := metadata.get(key), Mapping))]
    kinds: tuple[tuple[Kind, tuple[str, ...]], ...] = (("trial", ROW_IDS["trial"]), ("task", (TASK, *ROW_IDS["task"])))
    for kind, keys in kinds:
        for key in keys:
            names.extend((kind, str(place[key])) for place in places if isinstance(place.get(key), str | int))
    names.append(("any", trajectory.question_id))
    return list(dict.fromkeys(names))


@lru_cache(maxsize=1024)
def _names_of_file(path: str) -> tuple[str, ...]:
    absolute = Path(path).absolute()
    stem = absolute.name
    while (suffix := Path(stem).suffix) in _SUFFIXES and suffix:
        stem = stem[: -len(suffix)]
    names = [str(absolute)]
    for place in (absolute, *absolute.parents):
        parts = place.parts
        names += ["/".join(parts[begin:]) for begin in range(1, len(parts))]
        if place is absolute:
            names.append(stem)
        else:
            names.append(str(place))
    return tuple(dict.fromkeys(name for name in names if name))


# ---- what a file holds ----


def _named(path: Path) -> Iterator[Named]:
    """The rows of a file of any shape. One without ids says that what is not listed failed."""
    suffixes = [suffix for suffix in path.suffixes if suffix not in (".gz", ".zst")]
    suffix = suffixes[-1].lower() if suffixes else ""
    if suffix in (".csv", ".tsv"):
        yield from _of_rows(path, _csv_rows(path), is_table=True)
        return
    whole = _yaml(path) if suffix in (".yaml", ".yml") else _whole(path)
    if isinstance(whole, dict) and suffix in (".yaml", ".yml") and not _is_special(whole):
        # As `read_records` takes the rows of a JSON object.
        whole = next((whole[key] for key in CONTAINERS if isinstance(whole.get(key), list)), whole)
    if isinstance(whole, list):
        yield from _of_rows(path, ((f"{path}: row {n}", None, row) for n, row in enumerate(whole, 1)))
    elif whole is None or (suffix not in (".yaml", ".yml") and not _is_special(whole)):
        rows = ((where, record.key, record.value) for where, record in read_records(path, refuse))
        yield from _of_rows(path, rows)
    else:
        yield from _of_object(path, whole)


def _whole(path: Path) -> dict[str, Any] | None:
    """The one object that a JSON file is; None where it is something else, or too long to be held."""
    if sources.is_table(path):
        return None
    with sources.opened(path) as file:
        raw = file.read(sources.LONGEST + 1)
    if len(raw) > sources.LONGEST or raw.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{":
        return None
    try:
        value = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=lambda pairs: _once_each(path, pairs))
    except (ValueError, RecursionError):
        return None  # read row by row, what is wrong is said with its line
    return value if isinstance(value, dict) else None


def _once_each(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if isinstance(value, bool | int | float) and found.get(key, value) != value:
            shown = f"{json.dumps(found[key])} and {json.dumps(value)}"
            raise RequestError(f"{path}: {key!r:.80} has two labels: {shown}, in one object.")
        found[key] = value
    return found


def _yaml(path: Path) -> Any:
    import yaml

    try:
        with sources.opened(path) as file:
            value = yaml.safe_load(file.read().decode("utf-8-sig"))
        value = json.loads(json.dumps(value, default=str))  # dates and the like as text
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise RequestError(f"{path}: not valid YAML in UTF-8: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(value, dict | list):
        raise RequestError(
            f"{path}: holds {type(value).__name__}; it must be a list of rows, or names and their labels."
        )
    return value


def _csv_rows(path: Path) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
    csv.field_size_limit(sources.LONGEST)
    with sources.opened(path) as file:
        head = file.peek(sources.HEAD)[: sources.HEAD].split(b"\n", 1)[0]
        delimiter = max(",;\t", key=lambda one: head.count(one.encode()))
        reader = csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline=""), delimiter=delimiter, strict=True)
        try:
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if None in row:
                    raise RequestError(f"{where}: has more cells than the header; put text with commas in quotes.")
                yield where, None, {key: value for key, value in row.items() if value not in (None, "")}
        except UnicodeDecodeError as error:
            raise RequestError(f"{path}:{reader.line_num + 1}: not UTF-8 ({error.reason}); convert the file.") from None
        except csv.Error as error:
            raise RequestError(f"{path}:{reader.line_num}: not valid CSV: {error}.") from None


def _cell(text: str) -> Any:
    """A cell as JSON would have it."""
    if text.strip().lower() in ("true", "false"):
        return text.strip().lower() == "true"
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        return text
    return int(number) if number.is_integer() else number


def _is_special(whole: Mapping[str, Any]) -> bool:
    """Whether an object is a report, and no row or container of rows."""
    return _is_report(whole) or _evals(whole) is not None or _is_by_name(whole) or _is_by_id(whole)


def _is_report(whole: Mapping[str, Any]) -> bool:
    rows = whole.get("results")
    if isinstance(rows, list) and rows and isinstance(rows[0], dict):
        return False  # Terminal-Bench's, which lists the same beside its rows
    return any(_is_ids(whole.get(key)) for key in _SUCCEEDED)


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(id, str | int) for id in value)


def _evals(whole: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    stats = whole.get("stats")
    evals = stats.get("evals") if isinstance(stats, Mapping) else None
    return [each for each in evals.values() if isinstance(each, Mapping)] if isinstance(evals, Mapping) else None


def _is_by_name(whole: Mapping[str, Any]) -> bool:
    is_row = any(key in whole for keys in ROW_IDS.values() for key in keys) or any(key in whole for key in LABELS)
    return bool(whole) and not is_row and all(as_label(value) is not None for value in whole.values())


def _is_by_id(whole: Mapping[str, Any]) -> bool:
    has_labels = (isinstance(value, dict) and bool(labels_said(value)) for value in whole.values())
    return bool(whole) and all(isinstance(value, dict) for value in whole.values()) and any(has_labels)


def _of_object(path: Path, whole: Mapping[str, Any]) -> Iterator[Named]:
    if _is_report(whole):
        yield from _of_report(path, whole)
    elif (evals := _evals(whole)) is not None:
        yield from _of_harbor(path, evals)
    elif _is_by_name(whole):
        for name, value in whole.items():
            yield Named(_within(path, name), (("any", name.removeprefix("./").rstrip("/")),), {"label": value})
    elif all(isinstance(value, dict) for value in whole.values()):
        rows = ((_within(path, key), key, value) for key, value in whole.items())
        yield from _of_rows(path, rows)
    else:
        wrong = next((key for key, value in whole.items() if as_label(value) is None), "")
        raise RequestError(
            f"{path}: {wrong!r:.80} is {shorten(json.dumps(whole.get(wrong), default=str))}; a label is true or false, "
            "0 to 1, or a word as success, failed."
        )


def _within(path: Path, key: str) -> str:
    return f"{path}: {excerpt(key)}"


def _of_report(path: Path, whole: Mapping[str, Any]) -> Iterator[Named]:
    """Every instance of a report of SWE-bench once: what resolved it goes first, then what broke."""
    seen: set[str] = set()
    for keys, success, broke in ((_SUCCEEDED, True, False), (_BROKEN, False, True), (_FAILED, False, False)):
        for key in (key for key in keys if _is_ids(whole.get(key))):
            for id in map(str, whole[key]):
                if id not in seen:
                    seen.add(id)
                    yield Named(_within(path, key), (("task", id), ("any", id)), {"resolved": success}, broke)
    if not any(_is_ids(whole.get(key)) for key in _COMPLETE):
        yield Named(str(path), (), {})


def _of_harbor(path: Path, evals: Iterable[Mapping[str, Any]]) -> Iterator[Named]:
    """The trials of a Harbor job. One that an exception ended is no failure of its agent, unless it has full marks."""
    for each in evals:
        rewards: dict[str, dict[str, Any]] = {}
        for name, by_value in _members(each.get("reward_stats")):
            for value, trials in _members(by_value):
                for trial in trials if _is_ids(trials) else ():
                    rewards.setdefault(str(trial), {})[name] = _cell(value)
        exceptions = [(name, trials) for name, trials in _members(each.get("exception_stats")) if _is_ids(trials)]
        ended = {str(trial): name for name, trials in exceptions for trial in trials}
        for trial in dict.fromkeys((*rewards, *ended)):
            row = rewards.get(trial, {})
            has_full_marks = row.get("reward", next(iter(row.values()), None)) == 1
            row |= {"exception": ended[trial]} if trial in ended else {}
            broke = trial in ended and not has_full_marks
            yield Named(_within(path, trial), (("trial", trial), ("any", trial)), row, broke)


def _members(value: Any) -> Iterable[tuple[str, Any]]:
    return ((str(key), member) for key, member in value.items()) if isinstance(value, Mapping) else ()


def _of_rows(path: Path, rows: Iterable[tuple[str, str | None, Any]], is_table: bool = False) -> Iterator[Named]:
    """Rows of an id and what is said of it; scores of one trace under several names are one row."""
    scores: dict[str, Named] = {}
    for number, (where, key, row) in enumerate(rows):
        if not isinstance(row, Mapping):
            raise RequestError(f"{where}: a {type(row).__name__}, not an object with an id and a label.")
        ids = _ids_of(row, key, number)
        if is_table:
            row = dict(row)
            if not ids and row:  # the first column is
                ids = (_any(row.pop(next(iter(row)))),)
            row = {name: value if name in _IDS else _cell(value) for name, value in row.items()}
        if not ids:
            known = ", ".join(name for kind in ("id", "task", "trial") for name in ROW_IDS[kind][-2:])
            problem = f"{where}: no field says whose label it holds ({known}, ...)."
            raise RequestError(f"{problem}\nIts fields: {', '.join(map(excerpt, list(row)[:12])) or '(none)'}.")
        scored = _scored(row)
        if scored is None:
            yield Named(where, ids, row, _is_broken(row))
            continue
        trace, (name, value) = next(str(row[key]) for key in _SCORED if key in row), scored
        known = scores.setdefault(trace, Named(where, (("trial", trace),), {}))
        if known.row.get(name, value) != value:
            said = f"{json.dumps(known.row[name])} at {known.where}, {json.dumps(value)} at {where}"
            raise RequestError(f"{where}: {trace!r:.80} has two scores {name!r:.80}: {said}.")
        scores[trace] = known._replace(row={**known.row, name: value})
    yield from scores.values()


def _any(name: str) -> tuple[Kind, str]:
    return ("any", name)


_IDS = {key for keys in ROW_IDS.values() for key in keys}


def _ids_of(row: Mapping[str, Any], key: str | None, number: int) -> tuple[tuple[Kind, str], ...]:
    found: list[tuple[Kind, str]] = [] if key is None else [("any", key)]
    for kind, keys in ROW_IDS.items():
        for name in keys:
            value = row.get(name)
            if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
                found.append((kind, str(value)))
    # A number that only counts the rows names none of them, where another field does.
    counting = ("id", str(row.get("id")))
    if len(found) > 1 and counting[1] in (str(number), str(number + 1)) and counting in found:
        found.remove(counting)
    return tuple(found)


def _scored(row: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Name and value of a score, as tools of tracing write it; None where a row is something else."""
    name = next((row[key] for key in ("name", "key") if isinstance(row.get(key), str)), None)
    if name is None or not any(key in row for key in _SCORED):
        return None
    if row.get("dataType") == "CATEGORICAL" and row.get("stringValue") is not None:
        return name, row["stringValue"]
    if row.get("dataType") == "BOOLEAN" and as_label(row.get("value")) is not None:
        return name, as_label(row["value"]) == 1
    return next(((name, row[key]) for key in ("value", "score", "stringValue") if row.get(key) is not None), None)


def _is_broken(row: Mapping[str, Any]) -> bool:
    """Whether a trial of Harbor ended by an exception, and without full marks."""
    if not isinstance(row.get("exception_info"), Mapping):
        return False
    rewards = at(row, ("verifier_result", "rewards"))
    return not (isinstance(rewards, Mapping) and 1 in rewards.values())


# ---- what a row says ----


class _Judge:
    """The labels of one file's rows, all by the same field."""

    def __init__(self, path: Path, rule: Rule) -> None:
        self.path = path
        self.rule = rule
        self._field: tuple[str, ...] | None = None  # found in the first row that says success
        self._shown = ""
        self._unread: Named | None = None  # the first row that does not

    def __call__(self, one: Named) -> Entry:
        if one.broke:
            shown = {key: one.row[key] for key in ("exception", "resolved") if key in one.row}
            return Entry(one.where, None, shorten(json.dumps(shown or "an exception ended it")), True)
        if isinstance(self.rule, Field | Comparison):
            return _by_rule(one, self.rule)
        if self._field is None:
            self._choose(one)
        value = None if self._field is None else at(one.row, self._field)
        if self._field is None or not isinstance(value, bool | int | float | str):
            shown = named({key: value for key, value in one.row.items() if key not in _IDS})
            return Entry(one.where, None, shown or "it has no further fields", False)
        label = as_label(value)
        if label is None:
            problem = (
                f"{self._shown!r} is {shorten(json.dumps(value))}; a label is true or false, 0 to 1, or a word as "
            )
            rule = f"{self._shown} == {json.dumps(value)}" if isinstance(value, str) else f"{self._shown} >= 0.5"
            remedy = f"Say which values are successes, e.g. trajectories.label='{rule}'."
            raise RequestError(f"{one.where}: {problem}success, failed.\n{remedy}")
        return Entry(one.where, Score(label == 1, max(0.0, label)), f"{self._shown} = {json.dumps(value)}", False)

    def check(self) -> None:
        """Raises RequestError where no row said success."""
        if self.rule is None and self._field is None and self._unread is not None:
            row = {key: value for key, value in self._unread.row.items() if key not in _IDS}
            shown, rule = named(row), offered(row)
            raise RequestError(
                f"{self._unread.where}: no field says success; there {f'are {shown}' if shown else 'is no other'}.\n"
                f"Say which is the label, e.g. trajectories.label='{rule or 'score >= 0.5'}'."
            )

    def _choose(self, one: Named) -> None:
        """Find the field that says success. Raises RequestError where several might."""
        row = {key: value for key, value in one.row.items() if key not in _IDS}
        path = _known_field(row)
        if path is None:
            possible = could_be_labels(row)
            telling = [found for found in possible if says_success(found)]
            if len(telling) > 1:
                raise RequestError(
                    f"{one.where}: several fields could say success: {named(row)}.\n"
                    f"Say which, e.g. trajectories.label='{telling[0].rule}'."
                )
            if telling or len(row) == len(possible) == 1:
                path = (telling or possible)[0].path
        if path is not None:
            self._field, self._shown = keys_of(path), path
        elif self._unread is None:
            self._unread = one


def _by_rule(one: Named, rule: Field | Comparison) -> Entry:
    value = at(one.row, keys_of(rule.path))
    try:
        success, graded = judged(value, rule, one.where, one.row)
    except BadRow as bad:
        if bad.reason != "no_label":
            raise
        return Entry(one.where, None, " ".join(bad.problem.split()), False)
    score = Score(success, float(success) if graded is None else graded)
    return Entry(one.where, score, f"{rule.path} = {shorten(json.dumps(value))}", False)


def _known_field(row: Mapping[str, Any]) -> str | None:
    """The field of a row that is known to say success."""
    for path in ("verifier_result.rewards.reward", "rewards.reward", "is_resolved", *LABELS):
        if isinstance(at(row, keys_of(path)), bool | int | float | str):
            return path
    return next((said.path for said in labels_said(row)), None)
