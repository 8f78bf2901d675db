"""What is to be played, and what is known of an episode that was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from typing import Any

from nat.collection.config import CollectConfig, PromptedCollecting
from nat.search.replay import count_misses
from nat.types import Question, RequestError, Rollout, Trajectory

REFUSED = "refused"  # in an episode's details: a content filter ended it, and would again


@plain_dataclass(frozen=True)
class Episode:
    """One planned episode; `temperature` is None where nothing is sampled."""

    id: str
    question: Question
    temperature: float | None
    sample: int


@plain_dataclass(frozen=True)
class Facts:
    """What the summary needs of an episode. Token counts are None where they are not known."""

    success: bool
    failure: str | None
    temperature: float | None
    tokens: int | None
    prompt_tokens: int | None
    misses: int = 0  # searches that no recording answered


def plan(asked: CollectConfig, questions: Sequence[Question], source: str | None) -> list[Episode]:
    """Every episode, all questions of a sample and temperature before the next. Raises RequestError for equal ids."""
    name = asked.name
    temperatures = asked.temperatures if isinstance(asked, PromptedCollecting) else [None]
    episodes = []
    for sample in range(asked.samples):
        for temperature in temperatures:
            at = "" if temperature is None else f"-t{temperature:g}"
            episodes += [Episode(f"{q.id}/{name}{at}-s{sample}", q, temperature, sample) for q in questions]
    [(id, number)] = Counter(question.id for question in questions).most_common(1)
    if number > 1:
        raise RequestError(
            f"environment.questions={source}: {number} questions have the id {id!r}; episodes are told apart by it."
        )
    return episodes


def as_trajectory(
    asked: CollectConfig, settings_hash: str, episode: Episode, rollout: Rollout, details: Mapping[str, Any]
) -> Trajectory:
    facts = {"temperature": episode.temperature, "sample": episode.sample, "policy": asked.kind}
    if isinstance(asked, PromptedCollecting) and asked.as_class is not None:
        facts["as_class"] = asked.as_class
    return Trajectory(
        id=episode.id,
        question_id=episode.question.id,
        question=episode.question.text,
        messages=rollout.messages,
        outcome=rollout.outcome,
        source=asked.name,
        metadata={**facts, **details, "settings": settings_hash},
    )


def facts_of(trajectory: Trajectory) -> Facts:
    outcome, metadata = trajectory.outcome, trajectory.metadata
    return Facts(
        outcome.success,
        outcome.failure,
        metadata.get("temperature"),
        metadata.get("tokens"),
        metadata.get("prompt_tokens"),
        count_misses(trajectory.messages),
    )
