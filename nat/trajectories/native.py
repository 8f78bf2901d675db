"""Our own format, one JSON object a line. A record (here on several lines):

    {"id": "ducks/175b", "question_id": "ducks", "question": "Janet's ducks lay 16 eggs per day. She eats three ...",
     "messages": [{"role": "assistant", "content": "Thought: She eats 3 of them.\\nAction: calculate[16-3]"},
                  {"role": "tool", "content": "13"},
                  {"role": "assistant", "content": "Thought: That is all.\\nAction: finish[13]"}],
     "outcome": {"success": false, "score": 0.0, "failure": "wrong_answer", "prediction": "13", "reference": "18"},
     "source": "175b_finetuning", "metadata": {"temperature": 0.7}}

Needed are `question`, `messages` and `outcome.success`. `id` defaults to file name and line, `question_id` to a hash of
the question, `score` to 1 or 0, `source` to the file name. Without `outcome.reference` a question cannot be held out
for evaluation. A message may say `"train": false`: then it carries no loss. System and user messages in front, up to
the one that asks the question, are a preamble: `nat` writes the prompt itself, so they are set aside and counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from nat.questions import normalise, question_id
from nat.trajectories.json_lines import read_objects, require
from nat.types import Failure, Message, Outcome, RequestError, Role, Trajectory

KEYS = {"id", "question_id", "question", "messages", "outcome", "source", "metadata"}
LABEL_REMEDY = '\nEvery trajectory needs its label: "outcome": {"success": true} or false.'


def read(path: Path) -> Iterator[tuple[str, Trajectory]]:
    """Stream `("file:line", trajectory)`; raises RequestError at a record that cannot be read."""
    for where, record in read_objects(path):
        if unknown := sorted(record.keys() - KEYS):
            raise RequestError(f"{where}: unknown key {unknown[0]!r}; put what is yours into 'metadata'.")
        question = require(record, "question", str, where)
        messages = [_message(m, where) for m in require(record, "messages", list, where)]
        preamble = _preamble_length(messages, question)
        metadata = dict(record.get("metadata") or {})
        if preamble:
            metadata["preamble_messages"] = preamble
        name, _, line = where.rpartition(":")
        yield (
            where,
            Trajectory(
                id=str(record["id"]) if record.get("id") is not None else f"{Path(name).stem}:{line}",
                question_id=str(record["question_id"]) if record.get("question_id") else question_id(question),
                question=question,
                messages=tuple(messages[preamble:]),
                outcome=_outcome(require(record, "outcome", dict, where, LABEL_REMEDY), where),
                source=str(record.get("source") or path.stem),
                metadata=metadata,
            ),
        )


def write(path: Path, trajectories: Iterable[Trajectory]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for trajectory in trajectories:
            file.write(json.dumps(asdict(trajectory), ensure_ascii=False) + "\n")


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, dict):
        raise RequestError(f"{where}: a message is {value!r:.80}; it must be an object with 'role' and 'content'.")
    role = require(value, "role", str, where)
    if role not in get_args(Role):
        raise RequestError(f"{where}: unknown role {role!r}; the roles are {', '.join(get_args(Role))}.")
    train = value.get("train", True)
    if not isinstance(train, bool):
        raise RequestError(f"{where}: 'train' of a message is {train!r}; it must be true or false.")
    if unknown := sorted(value.keys() - {"role", "content", "train", "tool_calls"}):
        raise RequestError(f"{where}: unknown key {unknown[0]!r} in a message.")
    return Message(role, require(value, "content", str, where), train, tuple(value.get("tool_calls") or ()))


def _outcome(value: dict[str, Any], where: str) -> Outcome:
    success = require(value, "success", bool, where, LABEL_REMEDY)
    if unknown := sorted(value.keys() - {"success", "score", "failure", "prediction", "reference"}):
        raise RequestError(f"{where}: unknown key {unknown[0]!r} in 'outcome'; put what is yours into 'metadata'.")
    score = value.get("score")
    if score is None:
        score = 1.0 if success else 0.0
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise RequestError(f"{where}: outcome.score is {score!r}; it must be a number from 0 to 1.")
    failure = value.get("failure")
    if failure is not None and failure not in get_args(Failure):
        raise RequestError(
            f"{where}: outcome.failure is {failure!r}; it must be null or {', '.join(get_args(Failure))}."
        )
    if failure is None and not success:
        failure = "wrong_answer"
    prediction, reference = value.get("prediction"), value.get("reference")
    return Outcome(
        success=success,
        score=float(score),
        failure=failure,
        prediction=None if prediction is None else str(prediction),
        reference=None if reference is None else str(reference),
    )


def _preamble_length(messages: list[Message], question: str) -> int:
    """How many messages in front only put the question: up to the last one that contains it, else the leading ones.

    A canned agent turn ("OK, I will.") between instructions and question thus goes with the preamble.
    """
    wanted = normalise(question)
    length = 0
    for index, message in enumerate(messages):
        if message.role in ("system", "user") and (wanted in normalise(message.content)):
            length = index + 1
    if length:
        return length
    while length < len(messages) and messages[length].role in ("system", "user"):
        length += 1
    return length
