"""The roll-out loop that everybody writes first: one episode at a time, `model.generate` for every turn.

It keeps its key/value cache from turn to turn and ends turns by the same rules as `nat.evaluation.rollouts.roll_out`,
so both must give the same episodes under greedy decoding in fp32. The benchmark measures against it; tests check
against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os.path import commonprefix
from typing import Any

import torch
from transformers import DynamicCache, StoppingCriteria, StoppingCriteriaList

from nat.agents.turns import failed, take_turn
from nat.evaluation.config import DecodingConfig
from nat.evaluation.decoding import context_length
from nat.evaluation.rollouts import TurnRules, neutralise, next_tokens, read_turn, turn_rules
from nat.examples.tokenization import ChatFormat, encode_prompt
from nat.types import Environment, Message, Question, Rollout


class _TurnEnded(StoppingCriteria):
    def __init__(self, turns: TurnRules, start: int):
        self.turns, self.start, self.watched = turns, start, frozenset(turns.watched)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> Any:
        tokens = input_ids[0, self.start :].tolist()
        ended = tokens[-1] in self.watched and read_turn(self.turns, tokens)[1]
        return torch.tensor([ended])


def generate_loop(
    model: Any,
    format: ChatFormat,
    environment: Environment,
    questions: Sequence[Question],
    prompt: Callable[[Question], tuple[Message, ...]],
    decoding: DecodingConfig,
) -> list[Rollout]:
    """As `nat.evaluation.rollouts.roll_out`, greedy only, on the CPU."""
    assert decoding.temperature == 0
    turns = turn_rules(model, format, decoding)
    context = min(context_length(model), decoding.max_context or 1 << 30)
    model.eval()
    with torch.inference_mode():
        return [_episode(model, turns, environment, question, prompt(question), context) for question in questions]


def _episode(
    model: Any,
    turns: TurnRules,
    environment: Environment,
    question: Question,
    prompt: tuple[Message, ...],
    context: int,
) -> Rollout:
    ids = encode_prompt(turns.format, [neutralise(turns.format, message) for message in prompt])
    cache = DynamicCache(config=model.config)
    messages: tuple[Message, ...] = ()
    generated = 0
    for turn_number in range(1, environment.max_turns + 1):
        if len(ids) >= context:
            return Rollout(question, messages, failed(question, "no_answer"), generated)
        output = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            past_key_values=cache,
            max_new_tokens=min(turns.max_new_tokens, context - len(ids)),
            do_sample=False,
            eos_token_id=sorted(turns.ends),
            pad_token_id=0,
            stopping_criteria=StoppingCriteriaList([_TurnEnded(turns, len(ids))]),
        )
        tokens = output[0, len(ids) :].tolist()
        text, ended = read_turn(turns, tokens)
        generated += len(tokens)
        messages += (Message("assistant", text),)
        if not ended:
            return Rollout(question, messages, failed(question, "no_answer"), generated)
        turn = take_turn(environment, question, turn_number, text)
        if turn.outcome is not None:
            return Rollout(question, messages, turn.outcome, generated)
        observation, following = next_tokens(turns, tokens, text, turn.observation or "")
        messages += (observation,)
        # Of a turn that is written anew, the cache keeps what stays the same.
        keep = len(ids) + len(commonprefix([tokens[:-1], following]))
        if cache.get_seq_length() > keep:
            cache.crop(keep - cache.get_seq_length())
        ids += following
    raise AssertionError("the last turn ends the episode")
