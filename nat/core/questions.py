"""When two questions are the same, and which questions are kept for evaluation."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal

from nat.types import Question, Trajectory

TASK = "task"  # in a trajectory's metadata: the task of its file, whose trials are one question


def normalise(text: str) -> str:
    """Text by which questions are compared: compatibility characters unified, lower case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def question_id(text: str) -> str:
    """An id for a question that has none, equal for equal normalised texts."""
    return hashlib.sha256(normalise(text).encode()).hexdigest()[:12]


def hold_out(trajectories: Iterable[Trajectory], share: float, split: Literal["validation", "test"]) -> list[Question]:
    """Questions taken out of the trajectories for evaluation, in the order of their hash.

    `share` of all distinct questions is held out, by the hash of the normalised text, or of the task where the
    trajectories have one (all its trials go together, however they were asked): half for validation and half for test,
    the same questions under every seed and in every order of the files. Only questions with a reference answer can be
    scored and are taken.
    """
    # A unit interval by hash: [0, share/2) is the test half, [share/2, share) the validation half.
    low, high = (0.0, share / 2) if split == "test" else (share / 2, share)
    chosen: dict[float, Question] = {}
    for trajectory in trajectories:
        if trajectory.outcome.reference is None:
            continue
        place = _place(trajectory)
        if low <= place < high and place not in chosen:
            chosen[place] = Question(trajectory.question_id, trajectory.question, trajectory.outcome.reference)
    return [chosen[place] for place in sorted(chosen)]


def not_held_out(trajectories: Iterable[Trajectory], share: float) -> list[Question]:
    """The questions with a reference answer that `hold_out` leaves to train on, in the trajectories' order."""
    found: dict[str, Question] = {}
    for trajectory in trajectories:
        if trajectory.outcome.reference is not None and not is_held_out(trajectory, share):
            question = Question(trajectory.question_id, trajectory.question, trajectory.outcome.reference)
            found.setdefault(asked(trajectory), question)
    return list(found.values())


def is_held_out(trajectory: Trajectory, share: float) -> bool:
    return _place(trajectory) < share


def asked(trajectory: Trajectory) -> str:
    """What is the same for all trajectories on one question."""
    # The name itself is the question's id: a record may have a field `task` that says something else.
    if trajectory.metadata.get(TASK) is None:
        return normalise(trajectory.question)
    return f"task {trajectory.question_id}"


def _place(trajectory: Trajectory) -> float:
    return int(hashlib.sha256(f"held_out:{asked(trajectory)}".encode()).hexdigest()[:13], 16) / 16**13


def texts(questions: Sequence[Question]) -> set[str]:
    return {normalise(question.text) for question in questions}
