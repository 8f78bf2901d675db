"""Records that set the prompt apart from what the agent wrote: under keys of their own, each a text or messages.

    {"prompt": [{"role": "user", "content": "2 + 3?"}], "completion": [{"role": "assistant", "content": "5"}]}
    {"prompt": "2 + 3?", "completion": " 5"}

A text is one message, of the user or the agent, unless it is a list of messages written as JSON. Messages that a
completion begins with before the agent's first belong to the prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from nat.core.rows.bad import BadRow
from nat.trajectories.formats.turns import Turns, decoded, read_turns
from nat.types import Message, Role


class Prompted(NamedTuple):
    """The turns of prompt and completion together, and how many of them are the prompt's."""

    turns: Turns
    prompt: int


def read_messages(value: Any, role: Role, where: str, key: str, row: Mapping[str, Any] | None = None) -> Turns:
    """The messages of a field: a text is one of `role`, an object one message. Raises BadRow for what is neither.

    Args:
        key: the field's name, for errors.
        row: see `read_turns`.
    """
    value = decoded(value)
    if isinstance(value, str):
        return Turns((Message(role, value),), {}, ())
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise BadRow(where, "wrong_value", f"{key!r} is {value!r:.80}; it must be text or a list of messages.")
    return read_turns(value, where, row)


def prompted(prompt: Turns, completion: Turns, where: str, key: str = "completion") -> Prompted:
    """Both as one. Raises BadRow where the agent wrote nothing."""
    if not any(_says_something(message) for message in completion.messages if message.role == "assistant"):
        raise BadRow(where, "empty_conversation", f"{key!r} holds no turn of the agent, or an empty one.")
    before = next(i for i, message in enumerate(completion.messages) if message.role == "assistant")
    return Prompted(joined((prompt, completion)), len(prompt.messages) + before)


def _says_something(message: Message) -> bool:
    return bool(message.content.strip() or message.tool_calls or message.reasoning)


def joined(parts: Iterable[Turns]) -> Turns:
    """Turns one after another."""
    messages: list[Message] = []
    left_out: Counter[str] = Counter()
    unread: dict[str, None] = {}
    for part in parts:
        messages += part.messages
        left_out.update(part.left_out)
        unread.update(dict.fromkeys(part.unread_loss_keys))
    return Turns(tuple(messages), left_out, tuple(unread))
