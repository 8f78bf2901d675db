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

Messages may stand under `messages`, `conversation`, `trajectory`, `traj` or `history`, as a list or as the JSON text of
one, and be written in any way that `nat.trajectories.formats.turns` reads. A record with user messages that begin with
`Observation:` is `react`'s, one with `question` and an `outcome` object `nat`'s own. All fields but the messages are
kept in `metadata`, where a label rule can name them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import require
from nat.core.rows.json_records import Record
from nat.trajectories.formats import native, react
from nat.trajectories.formats.conversations import Conversation, conversation
from nat.trajectories.formats.episodes import messages_in
from nat.trajectories.formats.exit_status import failure_of
from nat.trajectories.formats.turns import read_turns

NAME = "chat"
PLACE = 60


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: messages with roles, and neither `react`'s nor `nat`'s own."""
    held = messages_in(value)
    if held is None or native.recognises(value) or react.recognises(value):
        return False
    key, messages = held
    first = messages[0] if messages else None
    is_papers = key == "conversations" and isinstance(value[key], list)
    return key == "messages" or (not is_papers and isinstance(first, Mapping) and "role" in first)


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The one conversation of a record."""
    key, given = messages_in(record.value) or ("messages", require(record.value, "messages", list, where))
    if not given:
        raise BadRow(where, "empty_conversation", f"{key!r} is empty: the agent never acted.")
    turns = read_turns(given, where, record.value)
    yield conversation(where, record, turns, (key,), failure=failure_of(record.value.get("exit_status")))
