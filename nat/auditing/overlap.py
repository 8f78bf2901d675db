"""Questions that stand in the data and in an evaluation file: equal, equal up to punctuation, or nearly so.

Ids are not compared: real data repeat questions under other ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nat.auditing.facts import digest
from nat.auditing.signatures import nearest, signature
from nat.auditing.words import numbers_of, words_of
from nat.core.rows.bad import BadRow
from nat.core.rows.json_records import read_records
from nat.environments.benchmarks import BenchmarkConfig
from nat.environments.config import EnvironmentConfig
from nat.quality.copies import row_of
from nat.types import Outcome, RequestError, Trajectory

ID_FIELDS = ("id", "qid", "_id", "question_id")
TEXT_FIELDS = ("question", "Question", "query", "instruction", "problem")  # after the environment's own
FEWEST_AGREE = 10  # places of two questions' signatures, out of 32: fewer are not compared any closer


class Asked(NamedTuple):
    """An evaluation question and where it stands."""

    where: str
    id: str
    text: str


class Overlap(NamedTuple):
    """A question of the data that stands in the evaluation, too."""

    row: int  # the first trajectory on it
    asked: int  # place among the evaluation questions
    trajectories: int  # on this question
    similarity: float  # 1: equal as `nat.core.questions.normalise` has it


def question_key(text: str) -> int:
    """The hash of a question as the column `question` has it."""
    row = row_of(Trajectory("", "", text, (), Outcome(True, 1.0)), "", None)
    return int.from_bytes(row[16:24], "little")


# ---- evaluation questions ----


def read_questions(source: str, world: EnvironmentConfig, key: str = "audit.evaluation") -> list[Asked]:
    """The questions of the file that `key` names, in any shape that trajectories have; records without are passed over.

    Raises RequestError where it is missing, holds no question, or a record of it cannot be read.
    """
    fields: list[str] = list(TEXT_FIELDS)
    if isinstance(world, BenchmarkConfig):
        fields.insert(0, world.fields.question)
    path = Path(source)
    if not path.exists():
        raise RequestError(f"{key}={source}: {path.absolute()} does not exist.\nGive a file of questions.")
    found: list[Asked] = []

    def refuse(bad: BadRow) -> None:
        problem = "every question of it must be read, or an overlap would be missed; mend the file."
        raise RequestError(f"{key}={source}: {problem}\n{bad}")

    for where, record in read_records(path, refuse):
        text = next((record.value[f] for f in fields if isinstance(record.value.get(f), str)), "")
        if text.strip():
            ids = [record.value.get(field) for field in ID_FIELDS]
            id = next((str(value) for value in ids if isinstance(value, str | int)), record.key or "")
            found.append(Asked(where, id, text))
    if not found:
        raise RequestError(
            f"{key}={source}: no record has a question ({', '.join(fields)}).\n"
            "Name its field in environment.fields.question, or give another file."
        )
    return found


# ---- overlaps ----


def overlaps(facts: Any, asked: Sequence[Asked], near: float) -> tuple[list[Overlap], list[Overlap]]:
    """The questions of the data that are asked in evaluation: (equal, nearly equal), each question once.

    Nearly equal: equal words, numbers and signs, or `rapidfuzz` finds their words at least `near` alike while their
    numbers are the same. All questions are looked at for the former, for the latter those whose signatures agree.
    """
    import numpy as np
    from rapidfuzz import fuzz

    rows = facts.arrays()
    keys, first, counts = np.unique(rows["question"], return_index=True, return_counts=True)
    place: Mapping[int, int] = {}
    words: Mapping[int, int] = {}
    for number, question in enumerate(asked):
        place.setdefault(question_key(question.text), number)
        words.setdefault(digest(words_of(question.text)), number)
    if not asked or not len(rows):
        return [], []
    is_equal = np.isin(keys, np.fromiter(place, np.uint64, len(place)))
    equal = [Overlap(int(first[i]), place[int(keys[i])], int(counts[i]), 1.0) for i in np.flatnonzero(is_equal)]

    rest = np.flatnonzero(~is_equal)
    bare = rows["bare_question"][first[rest]]
    has_words = np.isin(bare, np.fromiter(words, np.uint64, len(words)))
    found = {int(i): (words[int(key)], 1.0) for i, key in zip(rest[has_words], bare[has_words], strict=True)}

    texts = [words_of(question.text) for question in asked]
    wanted = np.frombuffer(b"".join(signature(text, n=4) for text in texts), "<u2").reshape(len(texts), -1)
    rest = rest[~has_words]
    read: dict[int, str] = {}
    for i, number in nearest(rows["question_signature"][first[rest]], wanted, FEWEST_AGREE).tolist():
        question = int(rest[i])
        if question in found:
            continue
        if question not in read:
            read[question] = facts.row(int(first[question])).trajectory.question
        similarity = fuzz.ratio(words_of(read[question]), texts[number]) / 100
        if similarity >= near and numbers_of(read[question]) == numbers_of(asked[number].text):
            found[question] = (number, similarity)
    nearly = [Overlap(int(first[i]), number, int(counts[i]), s) for i, (number, s) in found.items()]
    return sorted(equal), sorted(nearly)
