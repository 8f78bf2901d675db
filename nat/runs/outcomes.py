"""What a run keeps of its episodes: every question's outcome (`outcomes.csv`), and the episodes themselves.

A row of `outcomes.csv` names its pass (`nat.runs.results.Asked`) and one question's outcome there:

    kind,split,asked_for,temperature,environment,question,success,score,failure,turns
    inference,test,correct,0.0,arithmetic,4fa1c253eeff,0,0,wrong_answer,2

`question` is a hash of the normalised text (`nat.core.questions.question_id`), the same in all runs and files. In
files of the first schema the columns were `FIRST_COLUMNS`.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from nat.core.files import write_text
from nat.core.questions import question_id
from nat.core.statistics import wilson_interval
from nat.runs.packed import RunFiles
from nat.runs.results import Asked, Pass, PassKind
from nat.types import Message, Outcome, Question, RequestError, Rollout

OUTCOMES = "outcomes.csv"
ASKED = ("kind", "split", "asked_for", "temperature", "environment")
ANSWERED = ("question", "success", "score", "failure", "turns")
KINDS: dict[str, PassKind] = {kind: kind for kind in get_args(PassKind)}
FIRST_COLUMNS = ("split", "asked_for", *ANSWERED)


@dataclass(frozen=True)
class Answer:
    """How one run did on one question."""

    success: bool
    score: float  # in [0, 1]: F1 where the environment grades, else 0 or 1
    failure: str | None = None  # kind, see `nat.types.Failure`; None on success
    turns: int | None = None  # of the agent


@dataclass(frozen=True)
class Outcomes:
    """What one pass gave."""

    asked: Asked
    answers: tuple[tuple[str, Answer], ...]  # the question's hash and its answer, in the order of asking


def summarise(asked: Asked, rollouts: Sequence[Rollout], search_misses: int = 0) -> Pass:
    """Success rate with its 95% Wilson interval, failures by kind, mean turns and generated tokens of a pass.

    Raises RequestError where there are no roll-outs.
    """
    n = len(rollouts)
    if not n:
        raise RequestError("evaluation: there are no roll-outs to summarise")
    successes = sum(rollout.outcome.success for rollout in rollouts)
    failures = Counter(rollout.outcome.failure for rollout in rollouts if rollout.outcome.failure)
    return Pass(
        **asdict(asked),
        success_rate=successes / n,
        ci95=wilson_interval(successes, n),
        n_questions=n,
        mean_score=sum(rollout.outcome.score for rollout in rollouts) / n,
        failures=dict(sorted(failures.items())),
        mean_turns=sum(map(_turns, rollouts)) / n,
        generated_tokens=sum(rollout.generated_tokens for rollout in rollouts),
        search_misses=search_misses,
    )


def outcomes_of(asked: Asked, rollouts: Iterable[Rollout]) -> Outcomes:
    """What `outcomes.csv` keeps of each episode: enough for every statistic, small enough to be committed."""
    answers = []
    for rollout in rollouts:
        outcome = rollout.outcome
        answer = Answer(outcome.success, outcome.score, outcome.failure, _turns(rollout))
        # By text: two worlds, or two files, may give different questions the same id.
        answers.append((question_id(rollout.question.text), answer))
    return Outcomes(asked, tuple(answers))


def _turns(rollout: Rollout) -> int:
    return sum(message.role == "assistant" for message in rollout.messages)


# ---- outcomes.csv ----


def save_outcomes(path: Path, passes: Iterable[Outcomes]) -> None:
    """One row a question and pass; the file appears whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*ASKED, *ANSWERED))
    for one in passes:
        asked = one.asked
        temperature = "" if asked.temperature is None else asked.temperature
        of_pass = (asked.kind, asked.split, asked.asked_for or "", temperature, asked.environment or "")
        for question, answer in one.answers:
            turns = "" if answer.turns is None else answer.turns
            told = (question, int(answer.success), f"{answer.score:.6g}", answer.failure or "", turns)
            writer.writerow((*of_pass, *told))
    write_text(path, text.getvalue())


def read_outcomes(files: RunFiles, name: str = OUTCOMES) -> tuple[Outcomes, ...]:
    """The passes of a run's `outcomes.csv`, in its order. Raises RequestError, which names the line that is wrong."""
    passes: dict[tuple[str, ...], Asked] = {}  # by the columns that tell them apart
    answers: dict[tuple[str, ...], list[tuple[str, Answer]]] = {}
    same: dict[tuple[str, ...], Answer] = {}  # most rows say the same as another
    number = 1
    try:
        rows = csv.reader(io.StringIO(files.read_text(name), newline=""))
        header = tuple(next(rows))
        if header not in ((*ASKED, *ANSWERED), FIRST_COLUMNS):
            raise ValueError(f"its columns are {','.join(header)}")
        is_former, n_asked = header == FIRST_COLUMNS, len(header) - len(ANSWERED)
        for number, row in enumerate(rows, 2):  # noqa: B007 - the number is told where a row is wrong
            columns, (question, *told) = tuple(row[:n_asked]), row[n_asked:]
            if columns not in passes:
                of_inference = next(iter(passes), columns)
                passes[columns] = _asked_of_schema_1(columns, of_inference) if is_former else _asked(columns)
            key = tuple(told)
            if key not in same:
                success, score, failure, turns = told
                n_turns = int(turns) if turns else None
                same[key] = Answer({"0": False, "1": True}[success], float(score), failure or None, n_turns)
            answers.setdefault(columns, []).append((question, same[key]))
    except (OSError, ValueError, KeyError, StopIteration, csv.Error) as error:
        reason = f"{type(error).__name__}: {error}"
        raise RequestError(f"{name} cannot be read (line {number}, {reason}); run the cell again") from None
    return tuple(Outcomes(asked, tuple(answers[columns])) for columns, asked in passes.items())


def _asked(columns: Sequence[str]) -> Asked:
    kind, split, asked_for, temperature, environment = columns
    return Asked(
        kind=KINDS[kind],
        split=split,
        asked_for=asked_for or None,
        temperature=float(temperature) if temperature else None,
        environment=environment or None,
    )


def _asked_of_schema_1(columns: Sequence[str], of_inference: Sequence[str]) -> Asked:
    """A pass of the first schema, which told them apart by names.

    The first pass was that of inference; `in_NAME` was the split of a further environment, `CLASS@T` another
    temperature.
    """
    split, class_name = columns
    own_split, inference = of_inference
    asked = Asked(kind="inference", split=split, asked_for=class_name, temperature=None, environment=None)
    if split.startswith("in_"):
        return replace(asked, kind="also_in", split=own_split, environment=split.removeprefix("in_"))
    if split != own_split:
        return replace(asked, kind="validation")
    name, at, temperature = class_name.rpartition("@")
    if at and name == inference:
        return replace(asked, kind="also_at", asked_for=name, temperature=float(temperature))
    return asked if class_name == inference else replace(asked, kind="also_as")


# ---- roll-outs ----


def rollouts_file(asked: Asked) -> str:
    """The name of the file that holds a pass's episodes."""
    match asked.kind:
        case "inference":
            return "rollouts.jsonl"
        case "validation":
            return "rollouts_validation.jsonl"
        case "also_as":
            return f"rollouts_as_{asked.asked_for}.jsonl"
        case "also_at":
            return f"rollouts_at_{asked.temperature:g}.jsonl"
        case "also_in":
            return f"rollouts_in_{asked.environment}.jsonl"


def save_rollouts(path: Path, rollouts: Iterable[Rollout]) -> None:
    """One JSON object a line; the file appears whole or not at all."""
    lines = (json.dumps(asdict(rollout), ensure_ascii=False, default=dict) + "\n" for rollout in rollouts)
    write_text(Path(path), "".join(lines))


def read_rollouts(path: Path) -> list[Rollout]:
    """What `save_rollouts` wrote. Raises RequestError with file:line."""
    rollouts = []
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror})") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rollouts.append(_rollout(json.loads(line)))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise RequestError(f"{path}:{number}: not a roll-out ({type(error).__name__}: {error})") from None
    return rollouts


def _rollout(row: dict[str, Any]) -> Rollout:
    messages = tuple(
        Message(**{**message, "tool_calls": tuple(message.get("tool_calls", ()))}) for message in row["messages"]
    )
    return Rollout(Question(**row["question"]), messages, Outcome(**row["outcome"]), row.get("generated_tokens", 0))
