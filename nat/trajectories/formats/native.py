"""Our own format (`trajectories=jsonl`), one JSON object a line. A record (here on several lines):

    {"id": "ducks/175b", "question_id": "ducks", "question": "Janet's ducks lay 16 eggs per day. She eats three ...",
     "messages": [{"role": "assistant", "content": "Thought: She eats 3 of them.\\nAction: calculate[16-3]"},
                  {"role": "tool", "content": "13"},
                  {"role": "assistant", "content": "Thought: That is all.\\nAction: finish[13]"}],
     "outcome": {"success": false, "score": 0.0, "failure": "wrong_answer", "prediction": "13", "reference": "18"},
     "source": "175b_finetuning", "metadata": {"temperature": 0.7}}

Needed are `question`, `messages` and `outcome.success` (or a label rule that names a field in `metadata`). Defaults:
`id` is file name and line, `question_id` a hash of the question, `score` 1 or 0, `source` the file name. Without
`outcome.reference` a question cannot be held out for evaluation. A message may say `"train": false`: then it carries no
loss; `"weight": 0.5`, what that loss counts; and `"reasoning"`, what the agent thought before. System and user messages
in front, up to the first that asks the question, are a preamble: `nat` writes the prompt itself, so they are set aside
and counted. `environment=own` trains under them. A record may also give them apart, as `"prompt": [...]`, and the
agent's `"tools": [...]`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

from nat.core.questions import normalise, question_id
from nat.core.rows.bad import BadRow, OnBad, refuse
from nat.core.rows.json_lines import optional, readable, require, require_question
from nat.core.rows.json_records import Record, read_records
from nat.core.trajectory_records import to_record
from nat.trajectories.formats.episodes import UNLABELLED, holds, line_of
from nat.types import Failure, Message, Outcome, Role, Trajectory

NAME = "jsonl"
PLACE = 10
KEYS = {"id", "question_id", "question", "messages", "outcome", "source", "metadata", "prompt", "tools"}
PROMPTING = ("system", "user")  # the roles that a preamble is made of
LABEL_REMEDY = '\nEvery trajectory needs its label: "outcome": {"success": true} or false.'


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: `question`, `messages`, and an `outcome` that is an object."""
    return (
        holds(value) == "messages"
        and isinstance(value["messages"], list)
        and isinstance(value.get("question"), str)
        and isinstance(value.get("outcome"), Mapping)
    )


def read(
    path: Path, label: str = "", on_bad: OnBad = refuse, needs_label: bool = True
) -> Iterator[tuple[str, Trajectory]]:
    """Stream `("file:line", trajectory)`; a record that cannot be read goes to `on_bad`.

    `label` stands for the file in the ids of records without one; by default the file's name. With
    `needs_label=False`, `outcome.success` may be absent: `nat.trajectories.labels.relabel` supplies it.
    """
    make = partial(_trajectory, label=label or path.stem, source=path.stem, needs_label=needs_label)
    return readable(read_records(path, on_bad), make, on_bad)


def write(path: Path, trajectories: Iterable[Trajectory]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for trajectory in trajectories:
            file.write(json.dumps(to_record(trajectory), ensure_ascii=False) + "\n")


def _trajectory(where: str, given: Record, label: str, source: str, needs_label: bool) -> Trajectory:
    record = given.value if given.key is None else {"id": given.key, **given.value}
    unknown = sorted(record.keys() - KEYS)
    if unknown and record.keys() >= {"question", "messages", "outcome"}:  # else what is missing says more
        raise BadRow(where, "unknown_key", f"unknown key {unknown[0]!r:.60}; put what is yours into 'metadata'.")
    question = require_question(record, where)
    messages = [_message(m, where) for m in require(record, "messages", list, where)]
    preamble = preamble_length(messages, question)
    apart = [_message(m, where) for m in optional(record, "prompt", list, where) or []]
    tools = optional(record, "tools", list, where) or []
    if any(not isinstance(tool, dict) for tool in tools):
        raise BadRow(where, "wrong_value", f"'tools' is {tools!r:.80}; it must be a list of objects.")
    metadata = optional(record, "metadata", dict, where) or {}
    if preamble:
        metadata["preamble_messages"] = preamble
    ended = record.get("outcome")
    if not needs_label and (ended is None or (isinstance(ended, dict) and ended.get("success") is None)):
        metadata[UNLABELLED] = True
        record = {**record, "outcome": {**(ended or {}), "success": False}}
    id = optional(record, "id", (str, int), where)
    asked = optional(record, "question_id", (str, int), where)
    line = line_of(where)
    named = optional(record, "source", str, where)
    return Trajectory(
        id=f"{label}:{line}" if id is None else str(id),
        question_id=question_id(question) if asked in (None, "") else str(asked),
        question=question,
        messages=tuple(messages[preamble:]),
        outcome=_outcome(require(record, "outcome", dict, where, LABEL_REMEDY), where),
        source=source if named is None else named,
        metadata=metadata,
        prompt=tuple(apart or messages[:preamble]),
        tools=tuple(tools),
    )


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, dict):
        problem = f"a message is {value!r:.80}; it must be an object with 'role' and 'content'."
        raise BadRow(where, "wrong_value", problem)
    role = require(value, "role", str, where)
    if role not in get_args(Role):
        raise BadRow(where, "wrong_value", f"unknown role {role!r:.60}; the roles are {', '.join(get_args(Role))}.")
    train = value.get("train", True)
    if not isinstance(train, bool):
        raise BadRow(where, "wrong_value", f"'train' of a message is {train!r:.60}; it must be true or false.")
    if unknown := sorted(value.keys() - {"role", "content", "train", "tool_calls", "reasoning", "weight"}):
        raise BadRow(where, "unknown_key", f"unknown key {unknown[0]!r:.60} in a message.")
    tool_calls = optional(value, "tool_calls", list, where) or []
    for call in tool_calls:
        if not isinstance(call, dict):
            raise BadRow(where, "wrong_value", f"'tool_calls' holds {call!r:.80}; each call must be an object.")
    weight = value.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise BadRow(where, "wrong_value", f"'weight' of a message is {weight!r:.60}; it must be a number.")
    reasoning = optional(value, "reasoning", str, where) or ""
    content = require(value, "content", str, where)
    return Message(role, content, train and weight != 0, tuple(tool_calls), reasoning, float(weight))


def _outcome(value: dict[str, Any], where: str) -> Outcome:
    success = require(value, "success", bool, where, LABEL_REMEDY)
    if unknown := sorted(value.keys() - {"success", "score", "failure", "prediction", "reference"}):
        problem = f"unknown key {unknown[0]!r:.60} in 'outcome'; put what is yours into 'metadata'."
        raise BadRow(where, "unknown_key", problem)
    score = value.get("score")
    if score is None:
        score = 1.0 if success else 0.0
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise BadRow(where, "wrong_value", f"outcome.score is {score!r:.60}; it must be a number from 0 to 1.")
    failure = value.get("failure")
    if failure is not None and failure not in get_args(Failure):
        problem = f"outcome.failure is {failure!r:.60}; it must be null or {', '.join(get_args(Failure))}."
        raise BadRow(where, "wrong_value", problem)
    if failure is None and not success:
        failure = "wrong_answer"
    prediction = optional(value, "prediction", (str, int, float), where)
    reference = optional(value, "reference", (str, int, float), where)
    return Outcome(
        success=success,
        score=float(score),
        failure=failure,
        prediction=None if prediction is None else str(prediction),
        reference=None if reference is None else str(reference),
    )


def preamble_length(messages: Sequence[Message], question: str) -> int:
    """How many messages in front only put the question: up to the first that contains it and on to the next turn.

    A canned agent turn ("OK, I will.") between instructions and question thus goes with the preamble. The first such
    message, not the last: an observation in a user message may well repeat a short question.
    """
    if not messages or messages[0].role not in PROMPTING:
        return 0
    wanted = normalise(question)
    asking = (i for i, m in enumerate(messages) if m.role in PROMPTING and wanted in normalise(m.content))
    length = next(asking, 0)
    while length < len(messages) and messages[length].role in PROMPTING:
        length += 1
    return length
