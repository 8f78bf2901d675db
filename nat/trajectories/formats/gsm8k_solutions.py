"""GSM8K model solutions with calculator annotations, read as agent trajectories. A record (shortened):

    {"question": "Janet's ducks lay 16 eggs per day. ...", "ground_truth": "Janet sells ... \\nA: 18",
     "6b_finetuning": {"is_correct": false, "solution": "She has 16 - 3 = <<16-3=13>>13 eggs left\\nA: 13"},
     "175b_verification": {"is_correct": true, "solution": "..."}}

Every key whose value has a `solution` is a model, and the source of one trajectory. `<<16-3=13>>` becomes the action
`calculate[16-3]` with the text before it as the thought and `13` as the observation, as the original calculator gave
it (about 1% of the values are wrong); the last line `A: 13` becomes `finish[13]`. A solution that was cut before its
last line ends in a turn without an action, as it did. The model's other fields (`is_correct`) are kept in `metadata`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from nat.agents.actions import FINISH, render_turn
from nat.core.questions import question_id
from nat.core.rows.bad import BadRow, OnBad, refuse
from nat.core.rows.json_lines import readable, require, require_question
from nat.core.rows.json_records import Record, read_records
from nat.trajectories.formats.episodes import UNLABELLED, holds, leftover, line_of
from nat.types import Message, Outcome, Trajectory

NAME = "gsm8k_solutions"
PLACE = 40
ANNOTATION = re.compile(r"<<([^<>]*)=([^<>=]*)>>")
ANSWER_LINE = re.compile(r"(?:^|\n)A:[ \t]*(.*?)\s*$")


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: a `question`, and objects with a `solution`, one for each model."""
    is_other = holds(value) is not None or any(isinstance(value.get(key), str) for key in ("instruction", "traj"))
    return not is_other and isinstance(value.get("question"), str) and any(map(_is_solution, value.values()))


def read(
    path: Path, label: str = "", on_bad: OnBad = refuse, needs_label: bool = True
) -> Iterator[tuple[str, Trajectory]]:
    """Stream `("file:line", trajectory)`, one per model and question; what cannot be read goes to `on_bad`.

    Ids are `line/model`; with a `label`, which stands for the file among several, `label:line/model`. With
    `needs_label=False`, `is_correct` may be absent: `nat.trajectories.labels.relabel` supplies the label.
    """
    for where, problem in readable(read_records(path, on_bad), _problem, on_bad):
        solutions = ((where, solution) for solution in problem.solutions.items())
        yield from readable(
            solutions, partial(_trajectory, problem=problem, label=label, needs_label=needs_label), on_bad
        )


class _Problem(NamedTuple):
    question: str
    reference: str
    solutions: dict[str, Mapping[str, Any]]  # model: what it gave


def _problem(where: str, given: Record) -> _Problem:
    record = given.value
    question = require_question(record, where)
    truth = require(record, "ground_truth", str, where)
    reference = ANSWER_LINE.search(truth) or re.search(r"####[ \t]*(.*?)\s*$", truth)
    if reference is None:
        raise BadRow(where, "wrong_value", "'ground_truth' ends with neither 'A: answer' nor '#### answer'.")
    models = {key: value for key, value in record.items() if _is_solution(value)}
    if not models:
        problem = "no model's solution; a model is a key with 'is_correct' and 'solution'."
        raise BadRow(where, "missing_value", problem)
    return _Problem(question, reference[1], models)


def _is_solution(value: Any) -> bool:
    return isinstance(value, Mapping) and "solution" in value


def _trajectory(
    where: str, given: tuple[str, Mapping[str, Any]], problem: _Problem, label: str, needs_label: bool
) -> Trajectory:
    model, value = given
    is_unlabelled = not needs_label and value.get("is_correct") is None
    remedy = f"\nThe label of model {model!r} is needed."
    success = False if is_unlabelled else require(value, "is_correct", bool, where, remedy)
    messages, prediction = solution_messages(require(value, "solution", str, where))
    # Ids are read back from manifests and lists of drops: line and model say at once where to look.
    line = line_of(where)
    return Trajectory(
        id=f"{label}:{line}/{model}" if label else f"{line}/{model}",
        question_id=question_id(problem.question),
        question=problem.question,
        messages=messages,
        outcome=Outcome(
            success=success,
            score=1.0 if success else 0.0,
            failure=None if success else "no_answer" if prediction is None else "wrong_answer",
            prediction=prediction,
            reference=problem.reference,
        ),
        source=model,
        metadata={**leftover(value, ("solution",)), **({UNLABELLED: True} if is_unlabelled else {})},
    )


def solution_messages(solution: str) -> tuple[tuple[Message, ...], str | None]:
    """A solution's turns and its final answer (None where it was cut before one)."""
    answer = ANSWER_LINE.search(solution)
    body = solution[: answer.start()] if answer else solution
    messages: list[Message] = []
    position, observation = 0, ""
    for annotation in ANNOTATION.finditer(body):
        thought = _thought(body[position : annotation.start()], observation)
        expression, observation = annotation[1].strip(), annotation[2].strip()
        messages.append(Message("assistant", render_turn(thought, "calculate", expression)))
        messages.append(Message("tool", observation))
        position = annotation.end()
    thought = _thought(body[position:], observation)
    if answer is not None:
        messages.append(Message("assistant", render_turn(thought, FINISH, answer[1])))
        return tuple(messages), answer[1]
    messages.append(Message("assistant", f"Thought: {thought}"))
    return tuple(messages), None


def _thought(text: str, observation: str) -> str:
    """The text between two annotations, on one line, without the result that repeats the observation before it."""
    if observation and text.startswith(observation):
        text = text[len(observation) :]
    sentences = [" ".join(line.split()) for line in text.splitlines()]
    # Lines often end without a full stop; on one line they would run into each other.
    ended = [s if s[-1] in ".!?,:;=" else f"{s}." for s in sentences[:-1] if s]
    return " ".join([*ended, *sentences[-1:]]).strip()
