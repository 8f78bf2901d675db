"""Roll-outs: a model acts in an environment, many episodes at once, and every episode is scored."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nat.agents.turns import failed, open_tools, take_turn
from nat.evaluation.config import DecodingConfig
from nat.examples.tokenization import ChatFormat, encode_agent_turn, encode_observations, encode_prompt
from nat.types import Environment, Message, Outcome, Question, Rollout, Tool

if TYPE_CHECKING:
    from nat.evaluation.decoding import Rows

logger = logging.getLogger(__name__)


@plain_dataclass
class _Episode:
    """An episode under way: the one thing here that changes."""

    place: int  # of its question among the caller's
    question: Question
    prompt: list[int]
    tools: tuple[Tool, ...] = ()
    messages: tuple[Message, ...] = ()
    turn_number: int = 1
    generated_tokens: int = 0


def roll_out(
    model: Any,
    format: ChatFormat,
    environment: Environment,
    questions: Sequence[Question],
    prompt: Callable[[Question], tuple[Message, ...]],
    decoding: DecodingConfig,
    progress: Callable[[Rollout], None] | None = None,
) -> list[Rollout]:
    """One episode per question, in the questions' order.

    Args:
        model: a causal language model of transformers, on any device; left in the mode in which it came.
        prompt: everything before the agent's first turn (`nat.examples.prompts.prompt_messages`).
        progress: called with each episode as it ends.

    An episode's result depends on its question, the model and `decoding`, not on the episodes beside it (up to ties
    that rounding decides). One that has no room left in the context fails as `no_answer`.
    """
    if not questions:
        return []
    from nat.evaluation import decoding as engine

    turns = turn_rules(model, format, decoding)
    context = min(engine.context_length(model), decoding.max_context or 1 << 30)
    episodes = []
    for place, question in enumerate(questions):
        messages = [neutralise(format, message) for message in prompt(question)]
        episodes.append(_Episode(place, question, encode_prompt(format, messages)))
    waiting = sorted(episodes, key=lambda episode: len(episode.prompt))  # the longest, at the end, go first
    n_rows = min(decoding.batch_size, len(episodes))
    finished: dict[int, Rollout] = {}

    def finish(episode: _Episode, outcome: Outcome) -> None:
        rollout = Rollout(episode.question, episode.messages, outcome, episode.generated_tokens)
        finished[episode.place] = rollout
        if progress is not None:
            progress(rollout)

    with engine.inference_mode(model):
        sampling = engine.Sampling(decoding.temperature, decoding.top_p, decoding.max_new_tokens)
        room = len(waiting[-1].prompt) + decoding.max_new_tokens
        rows = engine.Rows(model, n_rows, room, context, sampling, turns.watched)
        prompts: list[Any] = [episode.prompt for episode in episodes]
        shared: list[Any] = list(os.path.commonprefix(prompts))[: len(waiting[0].prompt) - 1]
        if len(episodes) > 1 and 0 < len(shared) < context:
            rows.share(shared)  # system text and instructions go through the model once
        living: list[_Episode | None] = [None] * n_rows
        while True:
            free = [row for row, episode in enumerate(living) if episode is None]
            # Newcomers come in groups, so that their prompts go through the model together.
            if waiting and len(free) > len(living) // 8:
                while free and waiting:
                    episode = waiting.pop()
                    if len(episode.prompt) >= context:
                        finish(episode, failed(episode.question, "no_answer"))
                        continue
                    episode.tools, broken = open_tools(environment, episode.question)
                    if broken is not None:
                        finish(episode, broken)
                        continue
                    row = free.pop()
                    living[row] = episode
                    rows.start(row, episode.prompt)
                    _draw(rows, row, episode, decoding)
            elif not waiting:
                living = [living[row] for row in rows.compact()]
            if not any(living):
                break
            for row in rows.step():
                episode = living[row]
                assert episode is not None
                outcome = _after_token(rows, int(row), episode, turns, environment, context)
                if outcome is not None:
                    finish(episode, outcome)
                    living[row] = None
                    rows.release(int(row))
                elif rows.turn_start[row] == rows.known[row]:
                    _draw(rows, int(row), episode, decoding)
        rows.cache.clear()
    return [finished[place] for place in range(len(episodes))]


def _after_token(
    rows: Rows, row: int, episode: _Episode, turns: TurnRules, environment: Environment, context: int
) -> Outcome | None:
    """Look at a row that may have ended its turn; the outcome if the episode is over."""
    tokens = rows.turn(row)
    text, ended = read_turn(turns, tokens)
    full = len(tokens) >= turns.max_new_tokens or int(rows.known[row]) >= context
    if not ended and not full:
        return None  # the watched token was part of no stop text
    episode.generated_tokens += len(tokens)
    episode.messages += (Message("assistant", text),)
    if not ended:
        return failed(episode.question, "no_answer")
    turn = take_turn(environment, episode.question, episode.turn_number, text, episode.tools)
    if turn.outcome is not None:
        return turn.outcome
    observation, following = next_tokens(turns, tokens, text, turn.observation or "")
    episode.messages += (observation,)
    episode.turn_number += 1
    if int(rows.turn_start[row]) + len(following) >= context:
        return failed(episode.question, "no_answer")
    rows.replace_turn(row, following)
    return None


def _draw(rows: Rows, row: int, episode: _Episode, decoding: DecodingConfig) -> None:
    """The turn's random numbers: the episode's own, so that its batch does not matter."""
    if decoding.temperature:
        rows.draws[row] = turn_draws(decoding, episode.question, episode.turn_number)


def turn_draws(decoding: DecodingConfig, question: Question, turn_number: int) -> Any:
    """[max_new_tokens] numbers in [0, 1) for one turn of the episode on this question."""
    import numpy as np

    return np.random.default_rng([decoding.seed, zlib.crc32(question.id.encode()), turn_number]).random(
        decoding.max_new_tokens
    )


# ---- turns as tokens ----


@plain_dataclass(frozen=True)
class TurnRules:
    """How generated tokens become an agent turn, and what is fed after it."""

    format: ChatFormat
    ends: frozenset[int]  # tokens that end a turn
    stop: tuple[str, ...]  # texts that end a turn
    watched: tuple[int, ...]  # tokens after which a turn may be over
    max_new_tokens: int
    between: dict[str, list[int]]  # tokens from one turn to the next, by observation: rendering costs, texts recur


def turn_rules(model: Any, format: ChatFormat, decoding: DecodingConfig) -> TurnRules:
    """The end-of-turn token and the model's own end tokens end a turn, and so do the stop texts."""
    declared = model.generation_config.eos_token_id if model.generation_config else None
    declared = [] if declared is None else [declared] if isinstance(declared, int) else declared
    ends = frozenset([format.end_of_turn_id, *declared])
    watched = set(ends)
    if decoding.stop:
        # A stop text is complete with a token that holds its last character.
        last_characters = {text[-1] for text in decoding.stop}
        for token in range(len(format.tokenizer)):
            if last_characters & set(format.tokenizer.decode([token])):
                watched.add(token)
    return TurnRules(format, ends, tuple(decoding.stop), tuple(sorted(watched)), decoding.max_new_tokens, {})


def read_turn(turns: TurnRules, tokens: Sequence[int]) -> tuple[str, bool]:
    """The turn's text so far, without end token, stop text and what follows it; and whether the turn is over."""
    ended = bool(tokens) and tokens[-1] in turns.ends
    text = turns.format.tokenizer.decode(
        tokens[:-1] if ended else tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    stops = [place for place in (text.find(stop) for stop in turns.stop) if place >= 0]
    if stops:
        return text[: min(stops)].strip(), True
    return text.strip(), ended


def next_tokens(turns: TurnRules, tokens: Sequence[int], text: str, observation: str) -> tuple[Message, list[int]]:
    """The observation as the model sees it, and the sequence from the turn's start to the next generation prompt.

    A turn that ended by its end-of-turn token stays as it was generated; one cut off by a stop text is encoded anew.
    """
    message = neutralise(turns.format, Message("tool", observation))
    between = turns.between.get(message.content)
    if between is None:
        between = turns.between[message.content] = encode_observations(turns.format, [message])
    if tokens[-1] == turns.format.end_of_turn_id:
        return message, [*tokens, *between]
    if tokens[-1] in turns.ends:
        return message, [*tokens[:-1], turns.format.end_of_turn_id, *between]
    return message, [*encode_agent_turn(turns.format, text), *between]


def neutralise(format: ChatFormat, message: Message) -> Message:
    """Break up special-token texts (`<|im_end|>` -> `< |im_end|>`), which would end or forge a turn."""
    content = message.content
    for special in format.special_texts:
        if special in content:
            content = content.replace(special, f"{special[0]} {special[1:]}")
    return message if content == message.content else replace(message, content=content)
