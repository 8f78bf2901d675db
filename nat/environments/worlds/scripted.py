"""A scripted policy plays a world's questions, through the real episode loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any, TypeAlias

from nat.agents.turns import play
from nat.types import Environment, Message, Question, Trajectory

Policy: TypeAlias = Callable[[tuple[Message, ...]], str]  # from the messages since the prompt to the next turn's text


def scripted_trajectories(
    environment: Environment,
    questions: Iterable[Question],
    policy_of: Callable[[Question, Random], tuple[Policy, list[str]]],
    *,
    world: str,
    attempts_per_question: int,
    failure_rate: float,
) -> Iterator[Trajectory]:
    """All attempts at one question after another.

    Whether a trajectory is a success is the environment's verdict; `metadata["errors"]` only records what was planned.
    An attempt's plan depends on the world's seed, the question and the attempt; a higher rate only adds errors to it.

    Args:
        policy_of: the policy for a question, and the kinds of its planned errors in order.
    """
    for question in questions:
        for attempt in range(attempts_per_question):
            policy, errors = policy_of(question, Random(f"{world} policy {question.id} {attempt}"))
            rollout = play(environment, question, policy)
            yield Trajectory(
                id=f"{question.id}-{attempt}",
                question_id=question.id,
                question=question.text,
                messages=rollout.messages,
                outcome=rollout.outcome,
                source="scripted",
                metadata={"errors": errors, "failure_rate": failure_rate},
            )


def draw_error(weights: Any, failure_rate: float, rng: Random) -> str | None:
    """The kind of error made at one step, or None. `weights`: a dataclass of a relative frequency for each kind."""
    kinds, frequencies = zip(*vars(weights).items(), strict=True)
    # Both are drawn at every step: a higher rate adds errors, and leaves the others' kinds as they were.
    errs, kind = rng.random() < failure_rate, rng.choices(kinds, frequencies)[0]
    return kind if errs else None
