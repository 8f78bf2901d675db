"""What formats of coding agents share: a run whose user messages are what the agent saw, and whose answer is a patch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from nat.core.rows.bad import BadRow
from nat.core.rows.json_records import Record
from nat.trajectories.formats.conversations import Conversation, conversation
from nat.trajectories.formats.exit_status import failure_of
from nat.trajectories.formats.turns import Turns


def run(
    where: str, record: Record, turns: Turns, used: Iterable[str], status: Any, first: int | None = None, **found: Any
) -> Conversation:
    """A coding agent's run: what user messages say after its first turn is what it saw; its answer is a patch.

    Args:
        status: of its exit, which tells the kind of a failure.
        first: the number of its first turn, where others stand before; by default the first turn there is.
    """
    messages = turns.messages
    if first is None:
        first = next((i for i, message in enumerate(messages) if message.role == "assistant"), len(messages))
    failure = failure_of(status)
    if not any(message.role == "assistant" for message in messages[first:]):
        reason = "infrastructure" if failure == "infrastructure" else "no_agent_turn"
        raise BadRow(where, reason, f"none of its {len(messages)} messages is the agent's.")
    seen = (replace(m, role="tool") if m.role == "user" else m for m in messages[first:])
    own = turns._replace(messages=(*messages[:first], *seen))
    return conversation(where, record, own, used, prompt=first, failure=failure, answers=False, **found)


def with_thoughts(message: dict[str, Any]) -> dict[str, Any]:
    """A message with the text of its `thinking_blocks`, which Anthropic's models write, as its reasoning."""
    blocks = message.get("thinking_blocks")
    if not isinstance(blocks, list) or isinstance(message.get("reasoning_content"), str):
        return message
    thoughts = [
        block["thinking"] for block in blocks if isinstance(block, Mapping) and isinstance(block.get("thinking"), str)
    ]
    return {**message, "reasoning_content": "\n".join(thoughts)} if thoughts else message
