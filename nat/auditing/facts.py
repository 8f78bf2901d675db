"""One pass over the rows: what an audit has to remember of each, in columns of some 250 bytes a row.

Rows are written as they are read, in our own format, to a file beside the outputs (`Rows`): from there any of them is
read again by its number, whatever file it came from (a gzip, a table), and clean.jsonl is copied line by line.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, NamedTuple

from nat.agents.actions import Action, parse_action
from nat.agents.kinds import Agent, Kind, calls_of
from nat.auditing.findings import Sighting
from nat.auditing.signatures import WIDTH, signature
from nat.auditing.words import words_of
from nat.core.questions import TASK, normalise, question_id
from nat.core.rows.bad import BadRow, DroppedRow
from nat.core.trajectory_records import from_record, to_record
from nat.quality.check_labels import tells_label
from nat.quality.checks import checked
from nat.quality.config import QualityConfig
from nat.quality.copies import row_of
from nat.quality.marks import CheckSettings, Mark
from nat.quality.rules import agent_turns, characters, rule_of, with_loss_flags
from nat.trajectories.formats import native
from nat.trajectories.formats.episodes import labels_said
from nat.trajectories.labels import LABEL_FROM, Scorer, relabel
from nat.types import Failure, Message, Trajectory

MOST_SOURCES = 10_000  # that are told apart; a "source" that is different in every row must not fill the memory
OTHER_SOURCES = "(other sources)"
MOST_NAMES = 10_000  # of tools, keys, system prompts that are told apart
OTHER_NAMES = "(others)"
PROMPT_SHOWN = 80  # characters of a system prompt
MOST_NUMBERS = 8  # numeric keys of metadata whose skew is looked at, the first that are met
# Metadata that is the label itself, or a number by name only.
NO_NUMBERS = re.compile(
    r".*(?:reward|score|success|correct|label|outcome).*|acc|em|f1|(?:.*_)?id|preamble_messages", re.I
)
EXCERPT = 200  # characters of a sighting's excerpt
ENDING = "final_observation"  # the metadata key under which readers set the message aside that tells the outcome
FAILURES: tuple[Failure, ...] = (
    "wrong_answer", "abstained", "unparsed_action", "tool_error", "out_of_turns", "no_answer", "infrastructure",
)  # fmt: skip

_QUALITY = struct.calcsize("<16sQQBb")
_NUMBERS = f"{MOST_NUMBERS}f"
_ROW = struct.Struct(f"<QQQQIHHHHBBBQ{_NUMBERS}{2 * WIDTH}s{2 * WIDTH}s")


def layout() -> Any:
    """The columns of `Facts.columns`, of little-endian numbers."""
    import numpy as np

    return np.dtype([
        ("text", "<u8", (2,)), ("question", "<u8"), ("order", "<u8"), ("success", "u1"), ("rule", "i1"),  # quality's
        ("offset", "<u8"),  # of the row in `Rows`
        ("id", "<u8"), ("question_id", "<u8"), ("bare_question", "<u8"),  # hashes
        ("characters", "<u4"), ("turns", "<u2"), ("observations", "<u2"), ("source", "<u2"), ("file", "<u2"),
        ("failure", "u1"),  # place in FAILURES, plus 1; 0: none
        ("finishes", "u1"),  # the last turn is `finish[...]`
        # 2: the file names the task, 1: its own id of the question, 0: neither; a hash of it, else of the question
        ("has_task", "u1"), ("task", "<u8"),
        ("numbers", "<f4", (MOST_NUMBERS,)),
        ("signature", "<u2", (WIDTH,)), ("question_signature", "<u2", (WIDTH,)),
    ])  # fmt: skip


class Stored(NamedTuple):
    """A row read again: `dropped` is why a rule on single trajectories leaves it out, empty where none does."""

    where: str
    dropped: str
    trajectory: Trajectory


class Rows:
    """The rows that were read, in a file of three tab-separated JSON values a line: where, why dropped, trajectory."""

    def __init__(self, path: Path):
        self.path = path
        self._file: IO[bytes] = path.open("w+b", buffering=1 << 20)
        self.bytes = 0

    def append(self, where: str, dropped: str, trajectory: Trajectory) -> int:
        """Its offset."""
        text = f"{json.dumps(where)}\t{json.dumps(dropped)}\t{to_json(trajectory)}\n"
        offset = self.bytes
        self.bytes += self._file.write(text.encode("utf-8"))
        return offset

    def at(self, offset: int) -> Stored:
        self._file.seek(int(offset))
        where, dropped, text = self._file.readline().decode("utf-8").split("\t", 2)
        return Stored(json.loads(where), json.loads(dropped), from_json(text))

    def lines(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """(where, why dropped, trajectory with its line break) of every row, in order, as JSON."""
        self._file.flush()
        with self.path.open("rb") as file:  # of its own: rows are read by number in between
            for line in file:
                where, dropped, text = line.split(b"\t", 2)
                yield where, dropped, text

    def remove(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


def to_json(trajectory: Trajectory) -> str:
    """One line of the native format."""
    record = to_record(trajectory)
    try:
        text = json.dumps(record, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:  # a table's metadata
        record["metadata"] = _finite(trajectory.metadata)
        text = json.dumps(record, ensure_ascii=False, default=str)
    # half of a surrogate pair, which only a table can bring along, has no UTF-8
    return text if text.isascii() or _is_utf8(text) else json.dumps(record, default=str)


def _finite(value: Any) -> Any:
    """Without the numbers that JSON does not have."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(member) for key, member in value.items()}
        case list() | tuple():
            return [_finite(member) for member in value]
    return value


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def from_json(text: str) -> Trajectory:
    """What `to_json` wrote."""
    return from_record(json.loads(text))


@dataclass
class FileFacts:
    """Of one input file; its number is its place in `Facts.files`."""

    path: str
    number: int
    format: str = ""
    bytes: int = 0
    trajectories: int = 0
    bad_rows: int = 0


@dataclass
class Found:
    """Marks of one check: how many, in how many trajectories of each class, and where the first ones are."""

    marks: int = 0
    successes: int = 0
    failures: int = 0
    sightings: list[Sighting] = field(default_factory=list)
    of_files: Counter[int] = field(default_factory=Counter)  # file's number: trajectories


@dataclass
class Asked:
    """Where the question of some trajectories was found, and what stood in front of it there."""

    n: int = 0
    fewest: int = 0
    most: int = 0
    before: int | None = None  # a hash of the messages in front, in the first of them
    is_shared: bool = True  # by all of them


@dataclass
class Facts:
    """Everything that is known once the rows are read. `columns` has one record of `layout` a row."""

    rows: Rows
    examples: int  # sightings that are kept of each kind
    columns: bytearray = field(default_factory=bytearray)
    quality: bytearray = field(default_factory=bytearray)  # what `nat.quality.copies.collection_verdicts` takes
    n: int = 0
    files: dict[str, FileFacts] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)  # metadata key: place in the column `numbers`
    found: dict[str, Found] = field(default_factory=dict)  # by check
    rows_of: dict[tuple[str, str], int] = field(default_factory=dict)  # of all sightings: (where, id) to row
    disagreements: Found = field(default_factory=Found)
    contradictions: Found = field(default_factory=Found)  # fields of one record that disagree on success
    shaped: int = 0  # of these, where a success has a reward between 0 and 1, and nothing else speaks against it
    graded: Found = field(default_factory=Found)  # failures by a label between 0 and 1
    graded_fields: Counter[str] = field(default_factory=Counter)  # the fields that hold such labels
    graded_high: int = 0  # of these labels, 0.5 or more
    right_failures: Found = field(default_factory=Found)  # failures whose prediction is their reference
    units: Counter[str] = field(default_factory=Counter)  # all agent turns, observations and messages
    bad_rows: Counter[str] = field(default_factory=Counter)  # by reason
    first_bad_rows: dict[str, list[DroppedRow]] = field(default_factory=dict)  # by reason
    agents: Counter[Kind] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)  # by name
    weights: Counter[float] = field(default_factory=Counter)  # loss weights of turns, but 0 and 1
    weighted: Found = field(default_factory=Found)
    unread_loss_keys: Counter[str] = field(default_factory=Counter)  # trajectories that have such a key
    unread: Found = field(default_factory=Found)
    left_out_parts: Counter[str] = field(default_factory=Counter)  # parts of each kind
    left_out: Found = field(default_factory=Found)
    system_prompts: dict[int, list[Any]] = field(default_factory=dict)  # hash: [trajectories, how it begins]
    asked: dict[str, Asked] = field(default_factory=dict)  # by where the question was found
    set_aside: Found = field(default_factory=Found)  # endings that tell the outcome, which readers took out of the text

    def arrays(self) -> Any:
        """[n] records of `layout`."""
        import numpy as np

        return np.frombuffer(self.columns, layout()) if self.n else np.empty(0, layout())

    def row(self, number: int) -> Stored:
        return self.rows.at(self.arrays()["offset"][number])

    def file(self, path: str) -> FileFacts:
        return self.files.setdefault(path, FileFacts(path, len(self.files)))

    def forget_the_unfinished(self) -> None:
        """After an interrupt: a row that was only half taken in goes."""
        del self.columns[self.n * layout().itemsize :]
        del self.quality[self.n * _QUALITY :]

    def sighting(self, number: int, excerpt: str = "") -> Sighting:
        stored = self.row(number)
        self.rows_of[stored.where, stored.trajectory.id] = number
        return Sighting(stored.where, stored.trajectory.id, excerpt or _short(stored.trajectory.question))


@dataclass(frozen=True)
class Reading:
    """How rows are read: label rule and scorer, checks, quality rules."""

    label: str | None
    score: Scorer | None
    checks: CheckSettings
    quality: QualityConfig


def add(facts: Facts, where: str, format: str, path: str, trajectory: Trajectory, reading: Reading) -> None:
    """Take one row in. Raises BadRow where the label rule cannot label it; then nothing was taken in."""
    trajectory, disagreement = relabel(trajectory, reading.label, reading.score, where)
    marks, agent = checked(trajectory, reading.checks)
    applies = rule_of(trajectory, marks, reading.quality)
    kept = with_loss_flags(trajectory, marks, reading.quality)
    quality = row_of(trajectory, where, applies and applies.rule)
    offset = facts.rows.append(where, "" if applies is None else applies.detail, kept)

    file = facts.file(path)
    file.format, file.trajectories = format, file.trajectories + 1
    number, success = facts.n, trajectory.outcome.success
    ending = trajectory.metadata.get(ENDING)
    if isinstance(ending, str) and tells_label(ending):
        note(facts, facts.set_aside, number, Sighting(where, trajectory.id, _short(ending)), success)
    if disagreement is not None:
        note(facts, facts.disagreements, number, Sighting(where, trajectory.id, _short(disagreement)), success)
    elif _is_right(trajectory):
        answers = f"prediction and reference are {trajectory.outcome.reference!r:.80}"
        note(facts, facts.right_failures, number, Sighting(where, trajectory.id, _short(answers)), success)
    if reading.label is None and format != native.NAME:  # our own format says it in one place
        _compare_labels(facts, number, where, trajectory)
    seen: set[str] = set()
    secrets = [mark for mark in marks if mark.name == "secret"]
    for mark in marks:
        found = facts.found.setdefault(mark.name, Found())
        sighting = _sighting(where, trajectory, mark, secrets)
        note(facts, found, number, sighting, success if mark.name not in seen else None)
        if mark.name not in seen:
            found.of_files[file.number] += 1
        seen.add(mark.name)
    _note_agent(facts, agent, trajectory)
    _note_prompt(facts, trajectory)
    _note_reading(facts, trajectory, number, where)

    turns, observations = agent_turns(trajectory), len(agent.seen)
    facts.units["observations"] += observations
    for message in trajectory.messages:
        facts.units["turns"] += message.role == "assistant"
    facts.units["messages"] += len(trajectory.messages)
    numbers = [float("nan")] * MOST_NUMBERS
    for key, value in trajectory.metadata.items():
        if isinstance(value, int | float) and not NO_NUMBERS.fullmatch(key):
            if key not in facts.numbers and len(facts.numbers) < MOST_NUMBERS:
                facts.numbers[key] = len(facts.numbers)
            if key in facts.numbers and abs(value) < 1e38:
                numbers[facts.numbers[key]] = value
    bare_question, of_question = _of_question(trajectory.question)
    facts.quality += quality
    facts.columns += quality
    facts.columns += _ROW.pack(
        offset,
        digest(trajectory.id),
        digest(trajectory.question_id),
        bare_question,
        min(characters(trajectory), 2**32 - 1),
        min(turns, 2**16 - 1),
        min(observations, 2**16 - 1),
        _source(facts, trajectory.source),
        min(file.number, 2**16 - 1),
        0 if trajectory.outcome.failure is None else 1 + FAILURES.index(trajectory.outcome.failure),
        _finishes(trajectory),
        *_task(trajectory),
        *numbers,
        signature(said(trajectory)),
        of_question,
    )
    facts.n += 1


def _is_right(trajectory: Trajectory) -> bool:
    """Whether a failure gives the very answer that its reference is."""
    outcome = trajectory.outcome
    if outcome.failure in (None, "infrastructure") or outcome.prediction is None or outcome.reference is None:
        return False
    return normalise(outcome.prediction) == normalise(outcome.reference)


def _compare_labels(facts: Facts, number: int, where: str, trajectory: Trajectory) -> None:
    """Note where a record's fields disagree on success, and where a failure is one by a label between 0 and 1."""
    success = trajectory.outcome.success
    told = labels_said(trajectory.metadata)
    if not told or trajectory.outcome.failure == "infrastructure":
        return
    against = [said for said in told if (said.score == 1) != success]
    joined = trajectory.metadata.get(LABEL_FROM)
    if against:
        facts.shaped += success and all(0 < said.score < 1 for said in against)
        shown = ", ".join(f"{said.path} = {json.dumps(said.value)}" for said in told)
        by = joined or (told[0].path if told[0] not in against else "its format")
        text = f"{shown}; labelled {'success' if success else 'failure'} by {by}"
        note(facts, facts.contradictions, number, Sighting(where, trajectory.id, _short(text)), success)
    elif 0 < told[0].score < 1 and joined is None:
        facts.graded_fields[told[0].path] += 1
        facts.graded_high += told[0].score >= 0.5
        text = f"{told[0].path} = {told[0].value}"
        note(facts, facts.graded, number, Sighting(where, trajectory.id, _short(text)), success)


def _note_agent(facts: Facts, agent: Agent, trajectory: Trajectory) -> None:
    facts.agents.update(agent.kinds)
    for i in agent.actions:
        for name in calls_of(trajectory.messages, agent, i):
            _count(facts.calls, name)


def _count(counts: Counter[str], name: str, n: int = 1) -> None:
    counts[name if name in counts or len(counts) < MOST_NAMES else OTHER_NAMES] += n


def _note_prompt(facts: Facts, trajectory: Trajectory) -> None:
    """System prompts, and where the question was found."""
    prompt = trajectory.prompt
    for text in {message.content for message in prompt if message.role == "system"}:
        key = digest(text)
        if key in facts.system_prompts:
            facts.system_prompts[key][0] += 1
        elif len(facts.system_prompts) < MOST_NAMES:
            facts.system_prompts[key] = [1, " ".join(text[: 4 * PROMPT_SHOWN].split())[:PROMPT_SHOWN]]
    field = trajectory.metadata.get("question_from")
    field = field if isinstance(field, str) and not field.startswith("message ") else None
    if not prompt and field is None:
        return
    place = None if field else _asking(prompt, trajectory.question)
    if field is not None or place is None:
        how = "a field of the record" if field is None else f"field {field}"
        place = len(prompt) - (bool(prompt) and prompt[-1].role == "user")
    else:
        how = f"user message {sum(message.role == 'user' for message in prompt[: place + 1])}"
    if how not in facts.asked and len(facts.asked) >= MOST_NAMES:
        return
    front = prompt[:place]
    before = digest("\0".join(f"{message.role}\0{message.content}" for message in front))
    found = facts.asked.setdefault(how, Asked(fewest=len(front), most=len(front), before=before))
    found.n += 1
    found.fewest, found.most = min(found.fewest, len(front)), max(found.most, len(front))
    found.is_shared = found.is_shared and found.before == before


def _asking(prompt: Sequence[Message], question: str) -> int | None:
    """Which message of a prompt asks the question: the last that holds it."""
    places = [i for i in range(len(prompt) - 1, -1, -1) if prompt[i].role == "user"]
    if places and question in prompt[places[0]].content:
        return places[0]
    wanted = normalise(question)
    return next((i for i in places if wanted in normalise(prompt[i].content)), None)


def _note_reading(facts: Facts, trajectory: Trajectory, number: int, where: str) -> None:
    """What the reader could not take, and loss weights."""
    success = trajectory.outcome.success
    unread = trajectory.metadata.get("unread_loss_keys")
    if isinstance(unread, list) and unread:
        for key in map(str, unread):
            _count(facts.unread_loss_keys, key)
        says = ", ".join(map(str, unread))
        note(facts, facts.unread, number, Sighting(where, trajectory.id, _short(says)), success)
    left_out = trajectory.metadata.get("left_out_parts")
    if isinstance(left_out, Mapping) and left_out:
        counts = {str(kind): n for kind, n in left_out.items() if isinstance(n, int)}
        for kind, n in counts.items():
            _count(facts.left_out_parts, kind, n)
        says = ", ".join(f"{n} {kind}" for kind, n in counts.items())
        note(facts, facts.left_out, number, Sighting(where, trajectory.id, _short(says)), success)
    weights = [m.weight for m in trajectory.messages if m.role == "assistant" and m.train and m.weight != 1]
    if weights:
        for weight in weights:
            if weight in facts.weights or len(facts.weights) < MOST_NAMES:
                facts.weights[weight] += 1
        says = ", ".join(f"{weight:g}" for weight in weights)
        note(facts, facts.weighted, number, Sighting(where, trajectory.id, _short(says)), success)


def _task(trajectory: Trajectory) -> tuple[int, int]:
    """The columns `has_task` and `task`."""
    if trajectory.question_id == _id_of(trajectory.question):  # made of the question's text
        return 0, digest(normalise(trajectory.question))
    return 2 if trajectory.metadata.get(TASK) is not None else 1, digest(f"task {trajectory.question_id}")


@lru_cache(maxsize=4096)
def _id_of(question: str) -> str:
    return question_id(question)


def add_bad(facts: Facts, bad: BadRow, listed: int) -> None:
    """Count a row that could not be read."""
    facts.bad_rows[bad.reason] += 1
    kept = facts.first_bad_rows.setdefault(bad.reason, [])
    if len(kept) < listed:
        kept.append(DroppedRow(bad.where, bad.reason, bad.problem))
    # "file:line", "file: record N", "file.eval/member:line", or a whole file
    below = (path for path in facts.files if bad.where == path or bad.where.startswith((f"{path}:", f"{path}/")))
    path = next(below, bad.where.rpartition(":")[0] or bad.where)
    facts.file(path).bad_rows += 1


def note(facts: Facts, found: Found, row: int, sighting: Sighting, success: bool | None) -> None:
    """Count a mark; `success` None: not the first of its trajectory."""
    found.marks += 1
    if success is not None:
        found.successes, found.failures = found.successes + success, found.failures + (not success)
        if len(found.sightings) < facts.examples:  # one a trajectory
            found.sightings.append(sighting)
            facts.rows_of[sighting.where, sighting.id] = row


def said(trajectory: Trajectory) -> str:
    """The text by which trajectories are alike: the question, and all messages."""
    return "\n".join((trajectory.question, *(message.content for message in trajectory.messages)))


def digest(text: str) -> int:
    """64 bits: among ten million texts, two are taken for the same with a chance of 3 in a million."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


@lru_cache(maxsize=4096)  # trajectories of one question often stand together
def _of_question(question: str) -> tuple[int, bytes]:
    """The hash of a question's words and numbers, and its signature."""
    words = words_of(question)
    return digest(words), signature(words, n=4)


def _source(facts: Facts, source: str) -> int:
    if source not in facts.sources and len(facts.sources) >= MOST_SOURCES:
        source = OTHER_SOURCES
    return facts.sources.setdefault(source, len(facts.sources))


def _finishes(trajectory: Trajectory) -> bool:
    last = trajectory.messages[-1] if trajectory.messages else None
    return last is not None and last.role == "assistant" and isinstance(parse_action(last.content, ()), Action)


def _sighting(where: str, trajectory: Trajectory, mark: Mark, secrets: Sequence[Mark]) -> Sighting:
    if mark.message is None:
        return Sighting(where, trajectory.id, _short(mark.detail))
    span = (mark.start, mark.end)
    if mark.name == "secret":  # not to be spread any further
        return Sighting(where, trajectory.id, _short(mark.detail), mark.message, span)
    content = trajectory.messages[mark.message].content
    for secret in secrets:
        if secret.message == mark.message:
            content = masked(content, secret.start, secret.end)
    start = max(0, min(mark.start, mark.end - EXCERPT // 2) - EXCERPT // 4)
    excerpt = content[start : start + EXCERPT]
    return Sighting(where, trajectory.id, excerpt or _short(mark.detail), mark.message, span)


def masked(text: str, start: int, end: int) -> str:
    return text[:start] + "•" * (end - start) + text[end:]


def _short(text: str) -> str:
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"
