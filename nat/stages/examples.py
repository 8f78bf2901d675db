"""From trajectories to training examples: prompts under their class's text, tokens, and what may leak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from nat import cache
from nat.config import Config
from nat.leaks import leaks
from nat.strategy import prompt_messages
from nat.tokenization import ChatFormat, Dropped, tokenize_all
from nat.types import Environment, Example, Message, Question, Trajectory

Row: TypeAlias = tuple[tuple[Message, ...], Trajectory, str]  # what an example is made of: prompt, trajectory, class


def tokenize_rows(format: ChatFormat, rows: Sequence[Row], max_length: int) -> tuple[list[Example], list[Dropped]]:
    """`tokenize_all`, once for the cells that train on the same trajectories under the same texts."""
    tokenizer = cache.tokenizer_fingerprint(format.tokenizer)
    if tokenizer is None:
        return tokenize_all(format, rows, max_length)
    return cache.cached(
        "tokens",
        [tokenizer, cache.fingerprint(rows), max_length],
        lambda: tokenize_all(format, rows, max_length),
        cache.encode_examples,
        cache.decode_examples,
    )


def find_leaks(pool: Sequence[Trajectory], questions: Sequence[Question]) -> list[str]:
    return cache.cached(
        "leaks",
        [cache.fingerprint(pool), cache.fingerprint(question.text for question in questions)],
        lambda: leaks(pool, questions),
        cache.encode_json,
        cache.decode_json,
    )


def prompt_of(config: Config, environment: Environment, question: str, class_name: str) -> tuple[Message, ...]:
    """The prompt of a question under the text of a class; the one function for training and for roll-outs."""
    class_ = config.strategy.class_named(class_name)
    return prompt_messages(config.agent.system, environment.instructions, question, config.strategy, class_)
