"""Runs that others made and scored, as per-question results in JSON Lines.

One run's answer to one question is a line,

    {"run": "my-nat-seed0", "method": "nat", "seed": 0, "question": "What is 3 + 4?", "success": true,
     "split": "test", "score": 1.0, "strategy": "suffix", "positives": 200, "negatives": 800,
     "failure": null, "turns": 3}

(on one line). The first five are needed. `question` is the question's text, or its id as it stands in an
`outcomes.csv` (twelve hexadecimal digits; without a letter among them it is an id only if a run of `nat` beside it was
asked that question): runs are compared where they share questions. `split` is test (the default) or validation, `score`
lies in [0, 1] (by default 1 on success, else 0), `failure` is a kind of `nat.types.Failure` or a word of your own.
`method` and `strategy` may be words of your own too; `positive_only`, the successes alone, is what others are compared
with. A method of your own counts as trained on failures if its `negatives` are above 0.
All lines of a run have the same method, seed, strategy, positives and negatives.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, NonNegativeInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from nat.comparison.types import RunResult
from nat.core.methods import MARKED, UNNAMED
from nat.core.questions import question_id
from nat.core.schema import STRICT
from nat.runs.outcomes import Answer
from nat.types import RequestError

# Names stand in tables and headings, on one line.
Name: TypeAlias = Annotated[str, Field(min_length=1, pattern=r"^[^\p{Cc}\u{2028}\u{2029}]*$")]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class _Line:
    """One line of a per-question results file; see the module's docstring."""

    run: Name
    method: Name
    seed: NonNegativeInt
    question: Annotated[str, Field(min_length=1)]
    success: bool
    split: Literal["test", "validation"] = "test"
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    strategy: Name | None = None
    positives: NonNegativeInt | None = None
    negatives: NonNegativeInt | None = None
    failure: Name | None = None
    turns: NonNegativeInt | None = None

    @property
    def coordinates(self) -> tuple[Any, ...]:
        return self.method, self.seed, self.strategy, self.positives, self.negatives


COORDINATES = ("method", "seed", "strategy", "positives", "negatives")


def read_external(path: Path, known: Collection[str] = ()) -> list[RunResult]:
    """The runs of a per-question results file. Raises RequestError with file:line, the value and the remedy.

    `known`: ids of the questions that other runs were asked; a number of twelve digits is an id only if it is there.
    """
    try:
        lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror}).") from None
    adapter = TypeAdapter(_Line)
    first: dict[str, _Line] = {}
    by_coordinates: dict[tuple[Any, ...], str] = {}
    answers: dict[str, dict[str, dict[str, Answer]]] = {}
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = adapter.validate_json(text, strict=True)
        except ValidationError as error:
            raise RequestError(f"{path}:{number}: {_wrong(dict(error.errors()[0]), text)}") from None
        begun = first.setdefault(line.run, line)
        for name, here, before in zip(COORDINATES, line.coordinates, begun.coordinates, strict=True):
            if here != before:
                raise RequestError(
                    f"{path}:{number}: {name}={here!r}, but run {line.run!r} began with {name}={before!r}.\n"
                    "All lines of a run have the same one; give runs that differ in it different names."
                )
        same = by_coordinates.setdefault(line.coordinates, line.run)
        if same != line.run:
            raise RequestError(
                f"{path}:{number}: run {line.run!r} has the same method, strategy, positives, negatives and seed as "
                f"run {same!r}.\nGive it a seed of its own, or say in its method or strategy what differs."
            )
        is_id = re.fullmatch("[0-9a-f]{12}", line.question) and (
            not line.question.isdecimal() or line.question in known
        )
        question = line.question if is_id else question_id(line.question)
        given = answers.setdefault(line.run, {}).setdefault(line.split, {})
        if question in given:
            raise RequestError(
                f"{path}:{number}: run {line.run!r} has answered this {line.split} question before: "
                f"{line.question[:80]!r}.\nKeep one line for each run, split and question."
            )
        score = float(line.success) if line.score is None else line.score
        given[question] = Answer(line.success, score, line.failure, line.turns)
    if not first:
        raise RequestError(f"{path}: holds no results; one JSON object a line is needed, see nat report --help.")
    return [
        RunResult(
            name=name,
            files=None,
            status="completed",
            method=line.method,
            strategy=line.strategy or (UNNAMED if line.method in MARKED else "none"),
            positives=line.positives,
            negatives=line.negatives,
            seed=line.seed,
            setting={},
            answers=answers[name],
        )
        for name, line in first.items()
    ]


def _wrong(error: dict[str, Any], text: bytes) -> str:
    key = ".".join(str(part) for part in error["loc"] if isinstance(part, str) and part.islower())
    known = ", ".join(_Line.__dataclass_fields__)
    match error["type"]:
        case "json_invalid" | "dataclass_type" | "dataclass_exact_type":
            return f"{text[:60].decode(errors='replace')!r} is no JSON object; write one object a line."
        case "missing" | "missing_argument":
            return f"{key}: is missing; run, method, seed, question and success must be given."
        case "unexpected_keyword_argument" | "extra_forbidden":
            return f"{key}={error['input']!r}: there is no such key; there are {known}."
        case "string_pattern_mismatch":
            return f"{key}={error['input']!r}: it must be on one line, without control characters; correct the line."
        case "string_too_short":
            return f"{key}='': it must hold at least one character; correct the line."
    if isinstance(error["input"], float) and not math.isfinite(error["input"]):
        return f"{key}={error['input']}: it must be a number; leave {key} out where there is none."
    wanted = error["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    words = {"boolean": "true or false", "integer": "a whole number", "string": "text", "number": "a number"}
    return f"{key}={error['input']!r}: it must be {words.get(wanted, wanted)}; correct the line."
