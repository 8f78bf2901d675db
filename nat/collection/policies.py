"""Policies of `nat collect` that run on this machine: a world's scripted one, and a local model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from random import Random
from typing import Any, Literal, TypeAlias

from nat.agents.turns import play
from nat.collection.config import ModelCollecting
from nat.collection.episodes import Episode
from nat.environments.config import EnvironmentConfig
from nat.environments.worlds import worlds
from nat.environments.worlds.worlds import WorldConfig
from nat.evaluation.config import DecodingConfig
from nat.evaluation.rollouts import roll_out
from nat.examples.tokenization import chat_format
from nat.model import ModelConfig, load_model, load_tokenizer, merged, resolve_device, use_threads
from nat.types import Environment, Message, Question, RequestError, Rollout

Done: TypeAlias = Callable[[Episode, Rollout, Mapping[str, Any]], None]  # (episode, what came of it, further facts)
Prompt: TypeAlias = Callable[[str], tuple[Message, ...]]  # from a question's text


def check_scripted(world: EnvironmentConfig, environment: Environment) -> WorldConfig:
    """The world; RequestError for an environment or an agent that no scripted policy plays."""
    if not worlds.is_world(world):
        raise RequestError(
            f"collect=scripted: environment={environment.name} has no scripted policy, only the built-in worlds do;\n"
            "take collect=model or collect=openai."
        )
    if environment.protocol != "react":
        raise RequestError(
            "collect=scripted: its policy is a ReAct agent; leave agent=cot out here. Trained on with agent=cot, its "
            "trajectories\nare told as chains of thought."
        )
    return world


def play_scripted(
    seed: int, world: WorldConfig, environment: Environment, episodes: Sequence[Episode], done: Done
) -> None:
    """The scripted policy of a built-in world; its errors depend on `collect.seed`, the question and the sample."""
    for episode in episodes:
        rng = Random(f"collect {seed} {episode.question.id} {episode.sample}")
        policy, errors = worlds.scripted_policy(world, episode.question, rng)
        done(episode, play(environment, episode.question, policy), {"errors": errors})


def play_model(
    asked: ModelCollecting,
    model_config: ModelConfig,
    device: Literal["auto", "cpu", "cuda"],
    seed: int,
    environment: Environment,
    prompt: Prompt,
    episodes: Sequence[Episode],
    done: Done,
) -> None:
    """The model of the group `model`, `turns.at_once` episodes at once.

    An episode's draws depend on `collect.seed`, its question, temperature and sample: not on what else is played, nor
    on how often the collection was interrupted.
    """
    turns = asked.turns
    format = chat_format(load_tokenizer(model_config))
    use_threads(model_config.threads)
    model = merged(load_model(model_config, resolve_device(device), seed))

    def ask(question: Question) -> tuple[Message, ...]:
        return prompt(question.text)

    for (temperature, sample), group in groupby(episodes, lambda episode: (episode.temperature, episode.sample)):
        of_question = {episode.question.id: episode for episode in group}
        decoding = DecodingConfig(
            temperature=temperature or 0.0,
            top_p=turns.top_p,
            seed=draw_seed(asked.seed, temperature, sample),
            max_new_tokens=turns.max_tokens,
            max_context=None,
            stop=turns.stop,
            batch_size=turns.at_once,
        )

        def ended(rollout: Rollout, of_question: Mapping[str, Episode] = of_question) -> None:
            done(of_question[rollout.question.id], rollout, {"tokens": rollout.generated_tokens})

        questions = [episode.question for episode in of_question.values()]
        roll_out(model, format, environment, questions, ask, decoding, ended)


def draw_seed(seed: int, *parts: object) -> int:
    """A seed below 2**31 for each combination; neighbouring ones have nothing in common."""
    return int.from_bytes(hashlib.sha256(repr((seed, *parts)).encode()).digest()[:4]) >> 1
