"""From what a record holds to a trajectory, for all formats that hold conversations: what is asked, and of which task.

A format says what a record holds (`Conversation`); what is preamble and what the question is shows only beside the
other records of the file. What almost all of them open with, word for word, is preamble: instructions, "OK.", solved
examples, a greeting. The question is the last user message between that and the agent's next turn:

    user  Operate a database. ...       the same in every record
    agent Ok.                           the same: no loss, it is part of the prompt
    user  How many rows has T?          differs: the question
    agent Action: Operation ...         the agent's first turn
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from nat.core.questions import TASK, normalise, question_id
from nat.core.rows.bad import BadRow, OnBad, refuse
from nat.core.rows.json_lines import optional, readable
from nat.core.rows.json_records import Record, read_records
from nat.trajectories.formats.episodes import (
    PLACES,
    PREDICTIONS,
    UNLABELLED,
    acts,
    episode,
    facts,
    is_user_stop,
    leftover,
    line_of,
    metadata_of,
    outcome,
    read_label,
    rule_of_file,
)
from nat.trajectories.formats.inline import left_as_text, taken_apart
from nat.trajectories.formats.native import preamble_length
from nat.trajectories.formats.turns import Turns, json_in, text_of
from nat.types import Failure, Message, Trajectory

SAMPLE = 200  # records from which what they share is found
SAMPLE_SIZE = 2**24  # characters of their messages, after which no further one is looked at
SHARED = 0.9  # of them open with the same message, where it is preamble
LONGEST_FRONT = 40  # messages of a preamble, a dozen solved examples
FEW = 4  # records from which on examples in which the agent acts may be taken for a shared preamble

# Where a record states its question; the later ones also name other things, and count where they read like a question.
QUESTIONS = ("question", "query", "problem_statement")
QUESTIONS_IF_TEXT = ("instruction", "task_description", "problem", "goal", "task")
TASKS = ("task_id", "instance_id", "question_id", "problem_id", "sample_id", "example_id")
# What a task's number is counted in: 7 of one benchmark is not 7 of another.
OF_TASKS = ("domain", "benchmark", "dataset", "env_name", "data_source")
_PRIMING = re.compile(
    r"\s*(?:ok(?:ay)?|sure|understood|got it|alright|certainly|yes|i understand|i will|i'll|i am ready|i'm ready)\b"
    r".{0,150}",
    re.I | re.DOTALL,
)
_ASKS_FOR_TASK = re.compile(r"\b(?:questions?|tasks?|problems?|ready|next)\b", re.I)
PICTURES = ("images", "videos", "audios")  # lists of what trainers show a model beside the text
_NUMBER = re.compile(r"\d{1,9}")


@dataclass(frozen=True)
class Conversation:
    """What one record holds, as its format reads it. Messages are all there are, the prompt's included."""

    messages: tuple[Message, ...]
    record: Mapping[str, Any]  # as it stands, for fields that the user names
    facts: Mapping[str, Any] = field(default_factory=dict)  # what it says of its outcome: `episodes.facts`
    metadata: Mapping[str, Any] = field(default_factory=dict)  # fields that became no part of it
    id: str | None = None  # its own; None: file name and line
    source: str | None = None  # None: the file's name
    question: str | None = None  # as a field states it; None: one of the messages
    task: str | None = None  # whose trials are one question; None: the question's text tells
    tools: tuple[Mapping[str, Any], ...] = ()
    failure: Failure | None = None  # where the format marks it: `infrastructure` above all
    any_tool: bool = True  # see `episodes.outcome`
    answers: bool = True  # its last turn holds the agent's answer; False: it takes leave of a user
    prompt: int | None = None  # messages in front that the record itself sets apart as the prompt; None: found
    shown_before: int = 0  # messages of a prompt that the record tells of beside these
    suffix: str = ""  # of its id, where a record holds several
    no_label: str = ""  # what is said where its label cannot be told: why, and which rule would tell it


Conversations: TypeAlias = Callable[[str, Record], Iterable[Conversation]]  # of ("file:line", record)


class Fields(NamedTuple):
    """Which fields of a record the user names as its question and its task (paths, `info.task`); None: found."""

    question: str | None = None
    task: str | None = None


AS_FOUND = Fields()


class Front(NamedTuple):
    """What the records of a file open with. `states` are fields that state the question there."""

    messages: tuple[tuple[str, str], ...]  # (role, content)
    states: tuple[str, ...]


def conversation(
    where: str,
    record: Record,
    turns: Turns,
    used: Iterable[str],
    *,
    places: Sequence[Any] = (),
    **given: Any,
) -> Conversation:
    """A conversation of these turns, with whatever is found where most formats have it.

    The outcome's facts stand in the record, its `info`, `metadata`, ... (`episodes.PLACES`) or in `places`; id, source,
    question, task and tools in fields of these names. A field `system` is the system message of turns without one.
    `given` takes the place of what is found.

    Args:
        used: keys that became messages; all others are kept as metadata, where a label rule may name them.
    """
    value = record.value
    for key in PICTURES:
        if isinstance(value.get(key), list) and value[key]:
            problem = f"{key!r} holds {len(value[key])}, which the agent saw; only text can be read."
            raise BadRow(where, "wrong_value", problem)
    within = [place for place in (value, *map(value.get, PLACES), *places) if isinstance(place, Mapping)]
    own = optional(value, "id", (str, int), where) if record.key is None else record.key
    source = value.get("source")
    is_source = isinstance(source, str | int | float) and not isinstance(source, bool) and source != ""
    consumed = {*used, "id", "tools", *(("source",) if is_source else ())}
    tools = tools_in(value.get("tools"))
    system = None if "system" in consumed else _system(value.get("system"), turns.messages)
    if system is not None:
        consumed.add("system")
        given = {**given, "prompt": given["prompt"] + 1} if given.get("prompt") is not None else given
    found: dict[str, Any] = {
        "facts": facts(value, places),
        "id": None if own is None else str(own),
        "source": str(source) if is_source else None,
        "question": next((text for place in within for key in QUESTIONS if (text := text_at(place, key))), None),
        "task": next((name for place in within for key in TASKS if (name := _task(place, key))), None),
        "tools": tools or (),
        "metadata": {},
    }
    found |= given
    if tools is None:
        consumed.discard("tools")
    if found["question"] is not None and found["question"] == value.get("question"):
        consumed.add("question")
    noted: dict[str, Any] = {"left_out_parts": dict(turns.left_out)} if turns.left_out else {}
    if turns.unread_loss_keys:
        noted["unread_loss_keys"] = list(turns.unread_loss_keys)
    found["metadata"] = {**leftover(value, consumed), **noted, **found["metadata"]}
    front = () if system is None else (Message("system", system),)
    return Conversation(messages=(*front, *turns.messages), record=value, **found)


def tools_in(value: Any) -> tuple[Mapping[str, Any], ...] | None:
    """The tools that a field lists, as they stand; trainers write them as JSON text. None where it lists none."""
    if isinstance(value, str):
        value = json_in(value)
    return tuple(value) if isinstance(value, list) and all(isinstance(tool, dict) for tool in value) else None


def _system(value: Any, messages: Sequence[Message]) -> str | None:
    """What stands in a field `system`: text, or text parts; None where it is neither, or messages have it already."""
    if not value or not isinstance(value, str | list) or any(message.role == "system" for message in messages):
        return None
    try:
        return text_of(value, "") or None
    except BadRow:
        return None


def read_conversations(
    conversations: Conversations,
    path: Path,
    label: str = "",
    on_bad: OnBad = refuse,
    needs_label: bool = True,
    fields: Fields = AS_FOUND,
    front: Front | None = None,
) -> Iterator[tuple[str, Trajectory]]:
    """Stream `("file:line", trajectory)`; a record that cannot be trained on goes to `on_bad`.

    Args:
        conversations: of a record, as its format reads it.
        label: stands for the file among several, in the ids.
        needs_label: see `episodes.read_label`.
        front: what the file's records share; by default found in the first SAMPLE of them.
    """
    made = conversations_of(conversations, path)
    first = sample(made) if front is None else []
    shared = shared_front([one for _, one in first if isinstance(one, Conversation)]) if front is None else front
    make = _Maker(shared, fields, label, path.stem, needs_label)
    yield from readable(chain(first, made), make, on_bad)


Read: TypeAlias = tuple[str, Conversation | BadRow]


def conversations_of(conversations: Conversations, path: Path) -> Iterator[Read]:
    """Every conversation of a file, in its turns what stands inside their texts taken apart; and each bad row there.

    Where several records hold one conversation, its format's module has `grouped`, which makes one of them.
    """
    bad: list[BadRow] = []
    records = read_records(path, bad.append)
    grouped = getattr(sys.modules[conversations.__module__], "grouped", None)
    for where, record in records if grouped is None else grouped(records):
        yield from ((row.where, row) for row in bad)
        bad.clear()
        try:
            for one in conversations(where, record):
                yield where, _taken_apart(one)
        except BadRow as row:
            yield where, row
    yield from ((row.where, row) for row in bad)


def _taken_apart(one: Conversation) -> Conversation:
    length = one.prompt or 0
    prompt, rest = taken_apart(one.messages[:length]), taken_apart(one.messages[length:])
    unread = left_as_text(rest)
    metadata = {**one.metadata, **({"calls_left_as_text": unread} if unread else {})}  # turns of the agent
    return replace(
        one,
        messages=(*prompt, *rest),
        prompt=None if one.prompt is None else len(prompt),
        metadata=metadata,
    )


def sample(made: Iterator[Read]) -> list[Read]:
    """The first rows, SAMPLE at most, and no more than can be held at once."""
    first: list[Read] = []
    size = 0
    for where, one in made:
        first.append((where, one))
        size += sum(len(message.content) for message in one.messages) if isinstance(one, Conversation) else 0
        if len(first) >= SAMPLE or size >= SAMPLE_SIZE:
            break
    return first


# ---- what all records open with ----


def shared_front(conversations: Sequence[Conversation]) -> Front:
    """What most of these open with, up to the message in which their questions differ."""
    rows = [one.messages for one in conversations]
    texts = _shared_messages(rows, {one.task for one in conversations if one.task is not None})
    return Front(texts, _stated(conversations))


def _shared_messages(rows: Sequence[Sequence[Message]], tasks: set[str]) -> tuple[tuple[str, str], ...]:
    if len(rows) < 2 or len(tasks) == 1:  # trials of one task share their question as well
        return ()
    agreed: list[tuple[str, str]] = []
    left = list(rows)
    while len(agreed) < LONGEST_FRONT:
        at = len(agreed)
        here = Counter((row[at].role, row[at].content) for row in left if len(row) > at)
        message, count = here.most_common(1)[0] if here else (("", ""), 0)
        if count < max(2, SHARED * len(rows)):
            break
        agreed.append(message)
        left = [row for row in left if len(row) > at and (row[at].role, row[at].content) == message]
    # The question comes next: a user message that differs, after a turn of the agent that awaits no result.
    following = [row[len(agreed)] for row in left if len(row) > len(agreed)]
    asked = [message for message in following if message.role == "user" and not _is_seen(message)]
    turns = [message for message in left[0][: len(agreed)] if message.role == "assistant"]
    if len(asked) < SHARED * len(left) or (turns and acts(turns[-1])):
        return ()
    return tuple(agreed) if len(rows) >= FEW or not any(map(acts, turns)) else ()


def _is_seen(message: Message) -> bool:
    return message.content.lstrip().startswith(("Observation:", "<tool_response>"))


def _stated(conversations: Sequence[Conversation]) -> tuple[str, ...]:
    """Fields of other names that state the question: text of several words, and not the same in all records."""
    if any(one.question is not None for one in conversations):
        return ()
    found = []
    for key in QUESTIONS_IF_TEXT:
        texts = [_at(one.record, key) for one in conversations]
        is_text = texts and all(isinstance(text, str) and len(text.split()) > 1 for text in texts)
        if is_text and (len(texts) == 1 or len(set(texts)) > 1):
            found.append(key)
    return tuple(found)


# ---- one trajectory ----


_BEFORE = (
    "before the agent's first turn.\nWhere a field holds it, name that: trajectories.question=FIELD; where the "
    "questions stand in a file of their own, trajectories.questions=FILE (joined by id)."
)


class _Asked(NamedTuple):
    question: str
    first: int  # the message with which the agent's own turns begin
    preamble: int  # messages before it, without the one that asks
    found: str  # where the question was found; nothing where it is the first thing that the user says


@dataclass
class _Maker:
    """Makes the trajectories of one file. Prompts that are equal are held once."""

    front: Front
    fields: Fields
    label: str
    file: str
    needs_label: bool
    held: dict[Any, Any] = field(default_factory=dict)

    def __call__(self, where: str, one: Conversation | BadRow) -> Trajectory:
        if isinstance(one, BadRow):
            raise one
        broke = one.failure == "infrastructure"  # whatever it says of success, or does not say
        try:
            asked = self._asked(one, where)
            kept, ending = episode(one.messages[asked.first :], where)
        except BadRow as row:
            if not broke:
                raise
            raise BadRow(
                where, "infrastructure", f"the run broke before the agent's first turn: {row.problem}"
            ) from None
        needs_label = self.needs_label and not broke
        of_file = rule_of_file(self.file if one.source is None else None, where, self.label) if needs_label else None
        try:
            said = read_label(one.facts, ending, where, needs_label, one.metadata, of_file)
        except BadRow as row:
            if row.reason != "no_label" or not one.no_label:
                raise
            raise BadRow(where, "no_label", one.no_label) from None
        name, prefix = (line_of(where), self.label or self.file) if one.id is None else (one.id, self.label)
        info = {**one.facts, "failure": one.failure} if one.failure else one.facts
        ended = outcome(said, info, kept, where, any_tool=one.any_tool)
        takes_leave = is_user_stop(ending) and not any(key in one.facts for key in PREDICTIONS)
        if not one.answers or takes_leave:  # what it says last is a farewell
            ends = {"no_answer", "unparsed_action", "abstained"} | ({"out_of_turns"} if takes_leave else set())
            is_farewell = one.failure is None and ended.failure in ends
            ended = replace(ended, failure="wrong_answer" if is_farewell else ended.failure, prediction=None)
        if broke:
            ended = replace(ended, success=False, score=0.0, failure="infrastructure")
        prompt = tuple(
            replace(message, train=False) if message.role == "assistant" else message
            for message in one.messages[: asked.first]
        )
        task = self._task(one, where)
        return Trajectory(
            id=f"{prefix}:{name}{one.suffix}" if prefix else f"{name}{one.suffix}",
            question_id=question_id(asked.question) if task is None else task,
            question=asked.question,
            messages=kept,
            outcome=ended,
            source=self.file if one.source is None else one.source,
            metadata={
                **({TASK: task} if task is not None else {}),
                **one.metadata,  # the record's own `task` is kept
                **({"question_from": asked.found} if asked.found else {}),
                **metadata_of(asked.preamble + one.shown_before, ending),
                **({UNLABELLED: True} if said is None and not broke else {}),
            },
            prompt=tuple(self._once(message) for message in prompt),
            tools=self._once_of(one.tools),
        )

    def _once(self, message: Message) -> Message:
        key = (message.role, message.content)
        if message.tool_calls or message.reasoning:
            return message
        if len(self.held) > SAMPLE:  # questions, which all differ, are not to be collected
            self.held.clear()
        return self.held.setdefault(key, message)

    def _once_of(self, tools: tuple[Mapping[str, Any], ...]) -> tuple[Mapping[str, Any], ...]:
        return self.held.setdefault(repr(tools), tools) if tools else ()

    def _task(self, one: Conversation, where: str) -> str | None:
        if self.fields.task is None:
            return one.task
        value = _at(one.record, self.fields.task)
        if value is None or isinstance(value, Mapping | list):
            fields = ", ".join(map(str, one.record))
            problem = f"there is no {self.fields.task!r} that could name the task.\nThe record's fields: {fields:.200}."
            raise BadRow(where, "missing_value", f"trajectories.task={self.fields.task}: {problem}")
        return str(value)

    def _asked(self, one: Conversation, where: str) -> _Asked:
        stated, found = one.question, ""
        if self.fields.question is not None:
            stated, found = text_at(one.record, self.fields.question), self.fields.question
            if stated is None:
                fields = ", ".join(map(str, one.record))
                problem = f"trajectories.question={found}: the record holds no text there.\nIts fields: {fields:.200}."
                raise BadRow(where, "missing_value", problem)
        elif stated is None:
            key = next((key for key in self.front.states if text_at(one.record, key)), None)
            stated, found = (text_at(one.record, key), key) if key is not None else (None, "")
        messages = one.messages
        if one.prompt is not None:
            asking = [message.content for message in messages[: one.prompt] if message.role == "user"]
            text = (stated or _QUESTION.sub("", asking[-1] if asking else "", count=1)).strip()
            if not text:
                raise BadRow(where, "missing_value", "no user message with the question stands in the prompt.")
            return _Asked(text, one.prompt, one.prompt - bool(asking), found)
        shared = self._shared_length(messages)
        if stated is not None:
            wanted = normalise(stated)
            prompting = (m for m in messages[shared:] if m.role in ("user", "system"))
            if not any(wanted in normalise(message.content) for message in prompting):
                shared = 0
            length = shared + preamble_length(messages[shared:], stated)
            last = messages[length - 1 : length]
            asking = sum(message.role == "user" for message in last)
            return _Asked(stated.strip(), length, length - asking, found)
        for begin in dict.fromkeys((shared, 0)):
            begin += _priming_length(messages[begin:])
            first = next((i for i in range(begin, len(messages)) if messages[i].role == "assistant"), len(messages))
            asked = [i for i in range(begin, first) if messages[i].role == "user"]
            if asked and (text := _QUESTION.sub("", messages[asked[-1]].content, count=1).strip()):
                later = any(message.role == "assistant" for message in messages[: asked[-1]])
                return _Asked(text, first, first - 1, f"message {asked[-1] + 1}" if later else "")
        raise BadRow(where, "missing_value", f"no user message with the question stands {_BEFORE}")

    def _shared_length(self, messages: Sequence[Message]) -> int:
        front = self.front.messages
        same = [(message.role, message.content) for message in messages[: len(front)]] == list(front)
        return len(front) if same and len(messages) > len(front) else 0


_QUESTION = re.compile(r"\A\s*Question:[ \t]*")


def _priming_length(messages: Sequence[Message]) -> int:
    """Messages in front that prime the agent, of a record that has no others to be compared with.

    A greeting before anything was asked, and "OK." to instructions, where a user message follows that is no
    observation.
    """
    length = 0
    while True:
        turn = next((i for i in range(length, len(messages)) if messages[i].role == "assistant"), None)
        if turn is None or turn + 1 >= len(messages):
            return length
        message, following = messages[turn], messages[turn + 1]
        if following.role != "user" or _is_seen(following) or message.tool_calls or acts(message):
            return length
        asked = any(m.role == "user" for m in messages[length:turn])
        greets = not asked and length == 0
        # "Sure. Could you give me your user id?" asks the user for something: it is a turn of a conversation.
        asks = "?" in message.content and not _ASKS_FOR_TASK.search(message.content)
        primes = _PRIMING.fullmatch(message.content) and not asks
        if not (greets or (asked and primes)):
            return length
        length = turn + 1


# ---- fields ----


def text_at(place: Any, path: str) -> str | None:
    """The text at a path of keys (`info.task`), or None where there is none."""
    value = _at(place, path)
    return value if isinstance(value, str) and value.strip() else None


def _at(place: Any, path: str) -> Any:
    for key in path.split("."):
        place = place.get(key) if isinstance(place, Mapping) else None
    return place


def _task(place: Any, key: str) -> str | None:
    """The id of a task. A mere number is one of its benchmark, where the record names that."""
    value = place.get(key) if isinstance(place, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    name = str(value)
    if _NUMBER.fullmatch(name):
        of = next((place[key] for key in OF_TASKS if isinstance(place.get(key), str)), None)
        name = f"{of}/{name}" if of else name
    return name
