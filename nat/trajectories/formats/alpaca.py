"""Alpaca records: an instruction, its input, and what the agent wrote, in a list or line by line. A record:

    {"instruction": "Answer with Thought and Action steps.", "input": "Who wrote Emma?",
     "output": "Thought: I know it.\\nAction: finish[Jane Austen]", "reward": true}

`instruction` and `input` (where there is one) on a line of its own are the question; `system` and rounds of `history`
(pairs of what was asked and answered) in front of it are set aside and counted. `output` is one turn of the agent,
exactly as it stands; with lines that begin with `Observation:` it is a whole ReAct episode and is cut into turns and
observations as `react` cuts one text. Label, prediction, reference and all other fields are found and kept as in
`sharegpt`; a field `question` takes the place of `instruction` and `input`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import optional, require
from nat.core.rows.json_records import Record
from nat.trajectories.formats.conversations import Conversation, conversation
from nat.trajectories.formats.episodes import holds
from nat.trajectories.formats.react import holds_observations, split_text
from nat.trajectories.formats.turns import Turns
from nat.types import Message

NAME = "alpaca"
PLACE = 70
KEYS = ("instruction", "input", "output", "system", "history")


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: `instruction` and `output` are text, and it holds no messages."""
    is_other = holds(value) is not None or isinstance(value.get("traj"), str)
    return not is_other and all(isinstance(value.get(key), str) for key in ("instruction", "output"))


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The one conversation of a record."""
    value = record.value
    front, _ = asked_before(value, where)
    output = require(value, "output", str, where)
    if not output:
        raise BadRow(where, "empty_conversation", "'output' is empty: the agent never acted.")
    turns = split_text(output) if holds_observations(output) else [Message("assistant", output)]
    stated = value.get("question")
    question = stated if isinstance(stated, str) and stated.strip() else front[-1].content
    yield conversation(where, record, Turns((*front, *turns), {}, ()), KEYS, question=question)


def asked_before(value: Mapping[str, Any], where: str) -> tuple[list[Message], tuple[str, ...]]:
    """The messages in front of the agent's turn, the last of which asks, and the keys that they stand under."""
    instruction = require(value, "instruction", str, where)
    input = optional(value, "input", str, where) or ""
    asked = f"{instruction}\n{input}" if input.strip() else instruction
    if not asked.strip():
        raise BadRow(where, "missing_value", "'instruction' and 'input' are empty; they must hold the question.")
    system = optional(value, "system", str, where)
    front = [Message("system", system)] if system else []
    for round in optional(value, "history", list, where) or []:
        if not isinstance(round, list) or len(round) != 2 or not all(isinstance(text, str) for text in round):
            raise BadRow(where, "wrong_value", f"'history' holds {round!r:.80}; a round is [asked, answered].")
        front += [Message("user", round[0]), Message("assistant", round[1], train=False)]
    return [*front, Message("user", asked)], ("instruction", "input", "system", "history")
