"""The format of the NAT authors: a JSON list (or JSON Lines) of conversations. A record, and its question's:

    {"conversations": [
        {"role": "assistant", "content": "Thought: Who lived first?\\nAction: search[Genghis Khan]", "loss": true},
        {"role": "user", "content": "Observation:  #1: ... the greatest conqueror to ever live.", "loss": false},
        {"role": "assistant", "content": "Action: finish[No]", "loss": true},
        {"role": "user", "content": "Observation: Episode finished", "loss": false}],
     "info": {"reward": false, "acc": false, "gt": true, "pred": "No"},
     "id": "b8677742616fef051f00", "source": "0.2"}

    {"id": "b8677742616fef051f00", "question": "Are more people related to Genghis Khan than ...?", "answer": true}

`id` is the question's: trajectories are called `id/1`, `id/2` in the file's order. The question comes from
`trajectories.questions`, joined by `id`; without it, from the message before the agent's first turn. `loss` says which
turns train; `source` is the sampling temperature. The label is the first of `reward`, `em`, `acc` and the other fields
that `nat.trajectories.formats.episodes` names, in `info` or in the record. All fields but `conversations`, `id` and
`source` are kept in `metadata`, where a label rule can name them (`info.reward`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nat.core.questions import question_id
from nat.core.rows.bad import BadRow, OnBad, refuse
from nat.core.rows.json_lines import optional, readable, require, require_question
from nat.core.rows.json_records import Record, read_records
from nat.trajectories.formats.conversations import (
    AS_FOUND,
    Conversation,
    Fields,
    Front,
    conversation,
    read_conversations,
)
from nat.trajectories.formats.episodes import (
    UNLABELLED,
    answer_text,
    episode,
    facts,
    holds,
    leftover,
    line_of,
    metadata_of,
    outcome,
    read_label,
)
from nat.trajectories.formats.native import preamble_length
from nat.trajectories.formats.turns import read_turns
from nat.types import Question, RequestError, Trajectory

NAME = "nat"
PLACE = 20
ID_KEYS = ("id", "qid", "_id")  # what question files call it


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: `conversations` whose first message has `role`, or none and `info`."""
    messages = value.get("conversations")
    if holds(value) != "conversations" or not isinstance(messages, list):
        return False
    if not messages:
        return isinstance(value.get("info"), Mapping)
    return isinstance(messages[0], Mapping) and "role" in messages[0] and "from" not in messages[0]


def read(
    path: Path,
    label: str = "",
    on_bad: OnBad = refuse,
    needs_label: bool = True,
    questions: Mapping[str, Question] | None = None,
    fields: Fields = AS_FOUND,
    front: Front | None = None,
) -> Iterator[tuple[str, Trajectory]]:
    """Stream `("file:line", trajectory)`; a record that cannot be trained on goes to `on_bad`.

    `label` stands for the file among several, in the ids: several files hold trajectories on the same questions.
    `questions` are by id; None: the conversations hold their own. `needs_label`: see
    `nat.trajectories.formats.episodes.read_label`.
    """
    numbers: Counter[str] = Counter()
    if questions is None:
        made = partial(_conversations, source=path.stem, numbers=numbers)
        return read_conversations(made, path, label, on_bad, needs_label, fields, front)
    make = partial(
        _trajectory, label=label, source=path.stem, needs_label=needs_label, questions=questions, numbers=numbers
    )
    return readable(read_records(path, on_bad), make, on_bad)


def read_questions(path: Path, on_bad: OnBad = refuse) -> dict[str, Question]:
    """The questions of a file, by id: records of `id`, `question` and (where known) `answer`.

    Raises RequestError where the file cannot be read, or holds no question; a record without id or question, or one
    that gives an id another question, goes to `on_bad`.
    """
    questions: dict[str, Question] = {}

    def make(where: str, record: Record) -> Question:
        question = _question(where, record)
        if questions.setdefault(question.id, question) != question:
            raise BadRow(where, "duplicate_id", f"id {question.id!r} has another question or answer further up.")
        return question

    problems: list[BadRow] = []

    def note(bad: BadRow) -> None:
        problems.append(bad)
        on_bad(bad)

    for _ in readable(read_records(path, note), make, note):
        pass
    if not questions:
        first = f" that can be read; the first problem:\n{problems[0]}" if problems else "."
        raise RequestError(f"{path}: holds no question{first}")
    return questions


def _question(where: str, record: Record) -> Question:
    value = record.value if record.key is None else {"id": record.key, **record.value}
    key = next((key for key in ID_KEYS if key in value), "id")
    id = str(require(value, key, (str, int), where))
    answer = answer_text(value.get("answer"), "answer", where) or ""
    return Question(id, require_question(value, where).strip(), answer.rsplit("####", 1)[-1].strip())


def _name(where: str, record: Record) -> str:
    own = optional(record.value, "id", (str, int), where)
    own = record.key if own is None else str(own)
    return line_of(where) if own is None else own


def _conversations(where: str, record: Record, source: str, numbers: Counter[str]) -> Iterator[Conversation]:
    name = _name(where, record)
    numbers[name] += 1  # of dropped ones too, so that an id does not depend on what is dropped
    value = record.value
    given = require(value, "conversations", list, where)
    if not given:
        raise BadRow(where, "empty_conversation", "'conversations' is empty: the agent never acted.")
    temperature = optional(value, "source", (str, int, float), where)
    optional(value, "info", dict, where)
    yield conversation(
        where,
        record,
        read_turns(given, where, value),
        ("conversations", "id", "source"),
        id=f"{name}/{numbers[name]}",
        source=source if temperature is None else str(temperature),
        any_tool=False,
    )


def _trajectory(
    where: str,
    record: Record,
    label: str,
    source: str,
    needs_label: bool,
    questions: Mapping[str, Question],
    numbers: Counter[str],
) -> Trajectory:
    value = record.value
    asked = optional(value, "id", (str, int), where)
    asked = record.key if asked is None else str(asked)
    name = _name(where, record)
    numbers[name] += 1
    messages = read_turns(require(value, "conversations", list, where), where, value).messages
    if not messages:
        raise BadRow(where, "empty_conversation", "'conversations' is empty: the agent never acted.")
    question = _joined(asked, questions, where)
    front_length = preamble_length(messages, question.text)
    front, rest = messages[:front_length], messages[front_length:]
    kept, ending = episode(rest, where)
    given = optional(value, "source", (str, int, float), where)
    optional(value, "info", dict, where)
    info = facts(value)
    said = read_label(info, ending, where, needs_label, value)
    id = f"{name}/{numbers[name]}"
    return Trajectory(
        id=f"{label}:{id}" if label else id,
        question_id=question.id or question_id(question.text),
        question=question.text,
        messages=kept,
        outcome=outcome(said, info, kept, where, question.answer or None),
        source=source if given is None else str(given),
        metadata={
            **leftover(value, ("conversations", "id", "source")),
            **metadata_of(len(front), ending),
            **({UNLABELLED: True} if said is None else {}),
        },
        prompt=tuple(front),
    )


def _joined(id: str | None, questions: Mapping[str, Question], where: str) -> Question:
    if id is None:
        raise BadRow(where, "missing_value", "'id' is missing; it must name a question of trajectories.questions.")
    if id not in questions:
        problem = f"id {id!r:.60} is none of the {len(questions)} questions in trajectories.questions, whose first is "
        problem += f"{next(iter(questions), None)!r:.60}. Is it the file that belongs to these trajectories?"
        raise BadRow(where, "unknown_question", problem)
    return questions[id]
