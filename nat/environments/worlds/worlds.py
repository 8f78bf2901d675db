"""The built-in worlds: environments that make their own questions and whose scripted policy earns trajectories."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Any, TypeAlias, TypeGuard

from nat.environments.worlds import arithmetic, multihop, strategic
from nat.environments.worlds.arithmetic import ArithmeticConfig
from nat.environments.worlds.knowledge_base import Split
from nat.environments.worlds.multihop import MultihopConfig
from nat.environments.worlds.scripted import Policy, scripted_trajectories
from nat.environments.worlds.search_policy import Plan, fallible_policy
from nat.environments.worlds.strategic import StrategicConfig
from nat.types import Environment, Question, Trajectory

WorldConfig: TypeAlias = ArithmeticConfig | MultihopConfig | StrategicConfig
NAMES = ("arithmetic", "multihop", "strategic")


def is_world(config: object) -> TypeGuard[WorldConfig]:
    return isinstance(config, WorldConfig)


def make_environment(config: WorldConfig) -> Environment:
    return _module(config).make_environment(config)


def make_questions(config: WorldConfig, split: Split, n: int) -> list[Question]:
    """The first `n` questions of a split, no text twice; a smaller `n` gives a prefix of a larger one's."""
    return list(islice(_module(config).endless_questions(config, split), n))


def endless_trajectories(config: WorldConfig, split: Split = "train") -> Iterator[Trajectory]:
    """What the scripted policy does on one question of a split after another; see `scripted_trajectories`."""
    return scripted_trajectories(
        make_environment(config),
        _module(config).endless_questions(config, split),
        lambda question, rng: scripted_policy(config, question, rng),
        world=config.kind,
        attempts_per_question=config.attempts_per_question,
        failure_rate=config.failure_rate,
    )


def scripted_policy(config: WorldConfig, question: Question, rng: Random) -> tuple[Policy, list[str]]:
    """The fallible policy for one of the world's own questions, and the kinds of its planned errors."""
    if isinstance(config, ArithmeticConfig):
        return arithmetic.scripted_policy(config, question, rng)
    plan = Plan.read(question.metadata)
    return fallible_policy(plan, _module(config).knowledge_of(config), config.failure_rate, config.errors, rng)


def _module(config: WorldConfig) -> Any:
    return {"arithmetic": arithmetic, "multihop": multihop, "strategic": strategic}[config.kind]
