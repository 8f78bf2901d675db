"""Chat messages as OpenAI's API takes them, with and without tool calls; line by line, or in a list. A record:

    {"messages": [
        {"role": "system", "content": "Use the calculator."},
        {"role": "user", "content": "What is 2 + 3?"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function",
            "function": {"name": "calculate", "arguments": "{\\"expression\\": \\"2 + 3\\"}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "5"},
        {"role": "assistant", "content": "Answer: 5"}],
     "tools": [{"type": "function", "function": {"name": "calculate", "parameters": {}}}],
     "score": 1.0, "ground_truth": "5"}

Messages may stand under `messages`, `conversation`, `trajectory`, `traj` or `history`, and be written in any way that
`nat.trajectories.formats.turns` reads. A record with user messages that begin with `Observation:` is `react`'s,
one with `question` and an `outcome` object `nat`'s own. All fields but the messages are kept in `metadata`, where a
label rule can name them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import require
from nat.core.rows.json_records import Record
from nat.trajectories.formats import native, react
from nat.trajectories.formats.conversations import Conversation, conversation
from nat.trajectories.formats.episodes import holds
from nat.trajectories.formats.turns import read_turns

NAME = "chat"
PLACE = 60


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: messages with roles, and neither `react`'s nor `nat`'s own."""
    key = holds(value)
    if key is None or native.recognises(value) or react.recognises(value):
        return False
    first = value[key][0] if value[key] else None
    if isinstance(first, Mapping) and "from" in first:  # `sharegpt`'s
        return False
    return key == "messages" or (key != "conversations" and isinstance(first, Mapping) and "role" in first)


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The one conversation of a record."""
    key = holds(record.value) or "messages"
    given = require(record.value, key, list, where)
    if not given:
        raise BadRow(where, "empty_conversation", f"{key!r} is empty: the agent never acted.")
    yield conversation(where, record, read_turns(given, where, record.value), (key,))
