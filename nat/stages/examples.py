"""From trajectories to training examples: mixing, the strategy's text in each prompt, tokens; and what may leak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nat.core import cache
from nat.examples.encoding import decode_examples, encode_examples
from nat.examples.mixing import Mix, MixingConfig, mix
from nat.examples.prompts import TrajectoryPrompt
from nat.examples.strategy import StrategyClass
from nat.examples.tokenization import ChatFormat, Dropped, tokenize_all, trained_token_count
from nat.quality.leaks import leaks
from nat.types import Example, Message, Question, Trajectory

Row: TypeAlias = tuple[tuple[Message, ...], Trajectory, str]  # what an example is made of: prompt, trajectory, class


@dataclass(frozen=True)
class Examples:
    """What was chosen to train on, as the model sees it."""

    mixed: Mix
    chosen: list[Example]  # of `mixed.selected`, in that order
    dropped: list[Dropped]  # what the model cannot be trained on, whatever mixing would have chosen


def make_examples(
    pool: Sequence[Trajectory],
    classes: Sequence[StrategyClass],
    prompt: TrajectoryPrompt,
    mixing: MixingConfig,
    format: ChatFormat,
    max_length: int,
    seed: int,
) -> Examples:
    """Mark, tokenize and mix. Raises RequestError where too few fit.

    All of the pool is marked and tokenized before mixing chooses: it takes what fits the context, and may count tokens
    (mixing.hold).

    Args:
        classes: of each trajectory, as the strategy has them.
        prompt: from a trajectory and a class's name.
        max_length: tokens of an example.
    """
    rows = [
        (prompt(trajectory, class_.name), trajectory, class_.name)
        for trajectory, class_ in zip(pool, classes, strict=True)
    ]
    examples, dropped = tokenize_rows(format, rows, max_length)
    by_id = {example.trajectory_id: example for example in examples}
    fitting = [trajectory for trajectory in pool if trajectory.id in by_id]
    mixed = mix(fitting, mixing, seed, {e.trajectory_id: trained_token_count(e) for e in examples})
    return Examples(mixed, [by_id[trajectory.id] for trajectory in mixed.selected], dropped)


def tokenize_rows(format: ChatFormat, rows: Sequence[Row], max_length: int) -> tuple[list[Example], list[Dropped]]:
    """`tokenize_all`, once for the cells that train on the same trajectories under the same texts."""
    tokenizer = cache.tokenizer_fingerprint(format.tokenizer)
    if tokenizer is None:
        return tokenize_all(format, rows, max_length)
    return cache.cached(
        "tokens",
        [tokenizer, cache.fingerprint(rows), max_length],
        lambda: tokenize_all(format, rows, max_length),
        encode_examples,
        decode_examples,
    )


def find_leaks(pool: Sequence[Trajectory], questions: Sequence[Question]) -> list[str]:
    return cache.cached(
        "leaks",
        [cache.fingerprint(pool), cache.fingerprint(question.text for question in questions)],
        lambda: leaks(pool, questions),
        cache.encode_json,
        cache.decode_json,
    )
