"""How long trajectories are, by class: in tokens as the configured model would see them, in characters, in turns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from nat.agents.actions import AgentConfig
from nat.auditing.facts import Facts
from nat.auditing.findings import Lengths
from nat.examples.prompts import TrajectoryPrompt, prompter, trajectory_prompter
from nat.examples.strategy import StrategyConfig
from nat.examples.tokenization import ChatFormat, Untrainable, chat_format, tokenize
from nat.model import ModelConfig, load_tokenizer
from nat.trajectories.told import as_agent
from nat.types import Environment

BINS = 24
LONGEST = 1_000_000  # characters of a trajectory whose tokens are counted; of more, some 130 bytes of memory each
WIDE = 20  # the largest over the smallest length from which on bins grow with the length


class Tokens(NamedTuple):
    """Of a sample: row numbers, lengths, and why the others cannot be trained on."""

    rows: list[int]
    lengths: list[int]
    untrainable: Counter[str]  # by reason
    sampled: int
    is_sample: bool


class Prompting(NamedTuple):
    """What it takes to see a trajectory as the model would."""

    format: ChatFormat
    environment: Environment
    prompt: TrajectoryPrompt
    class_name: str  # of inference


def prompting(model: ModelConfig, agent: AgentConfig, strategy: StrategyConfig, environment: Environment) -> Prompting:
    """Loads the tokenizer. Raises RequestError where there is none, or its template cannot be used."""
    prompt = trajectory_prompter(environment, prompter(agent, strategy), strategy)
    return Prompting(chat_format(load_tokenizer(model)), environment, prompt, strategy.inference_class.name)


def count_tokens(facts: Facts, rows: Sequence[int], of: int, how: Prompting) -> Tokens:
    """Tokens of these rows with the prompt of inference in front, as `nat train` has them.

    Of a trajectory of more than `LONGEST` characters they are counted in the beginning of each message, and the rest is
    taken to be alike.
    """
    found = Tokens([], [], Counter(), len(rows), len(rows) < of)
    for row in rows:
        trajectory = as_agent(how.environment, facts.row(row).trajectory)
        all_of_it = sum(len(message.content) for message in trajectory.messages)
        shown = min(1.0, LONGEST / max(all_of_it, 1))
        if shown < 1:
            cut = (replace(m, content=m.content[: math.ceil(shown * len(m.content))]) for m in trajectory.messages)
            trajectory = replace(trajectory, messages=tuple(cut))
        try:
            example = tokenize(how.format, how.prompt(trajectory, how.class_name), trajectory, how.class_name)
        except Untrainable as error:
            found.untrainable[error.reason] += 1
            continue
        found.rows.append(row)
        found.lengths.append(round(len(example.input_ids) / shown))
    return found


def distributions(unit: str, values: Any, success: Any) -> Mapping[str, Lengths]:
    """By class; nothing where there are no values.

    Args:
        values: [n] whole numbers.
        success: [n] truth values.
    """
    import numpy as np

    if not len(values):
        return {}
    low, high = int(values.min()), int(values.max())
    steps = min(BINS, high - low + 1)
    wide = high > WIDE * max(low, 1)
    edges = np.geomspace(max(low, 1), high + 1, steps + 1) if wide else np.linspace(low, high + 1, steps + 1)
    edges = np.unique(np.round(edges))
    edges[0] = low
    found = {}
    for name, chosen in (("success", success == 1), ("failure", success == 0)):
        members = values[chosen]
        if len(members):
            found[name] = Lengths(
                unit,
                len(members),
                float(np.median(members)),
                float(np.quantile(members, 0.9)),
                float(members.max()),
                tuple(float(edge) for edge in edges),
                tuple(int(count) for count in np.histogram(members, edges)[0]),
            )
    return found
