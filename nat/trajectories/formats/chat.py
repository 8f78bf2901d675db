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

`content` is text, a list of text parts (joined as they are), or null in turns of the agent and of tools (then empty).
`tool_calls` are kept exactly as they stand, and `function_call`, their predecessor, as `{"function": ...}` among them;
`nat.trajectories.formats.tool_calls.as_react_text` writes them as text actions. Results of several calls at once that
stand in another order are put in the order of their calls, by `tool_call_id`. `developer` is a system message,
`function` a tool's. `weight: 0` (or `loss: false`): the turn carries no loss.

A record with user messages that begin with `Observation:` is `react`'s, one with `question` and an `outcome` object
`nat`'s own. Question, label, prediction, reference and all other fields (`tools` too) are found and kept as in
`sharegpt`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from nat.core.rows.bad import BadRow, OnBad, refuse
from nat.core.rows.json_lines import optional, readable, require
from nat.core.rows.json_records import Record, read_records
from nat.trajectories.formats import native, react
from nat.trajectories.formats.conversations import text_of, trajectory_of
from nat.trajectories.formats.episodes import holds
from nat.trajectories.formats.sharegpt import trains
from nat.trajectories.formats.tool_calls import read_call
from nat.types import Message, Role, Trajectory

NAME = "chat"
PLACE = 6
ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: `messages`, and neither `react`'s nor `nat`'s own."""
    return holds(value) == "messages" and not native.recognises(value) and not react.recognises(value)


def read(
    path: Path, label: str = "", on_bad: OnBad = refuse, needs_label: bool = True
) -> Iterator[tuple[str, Trajectory]]:
    """Stream `("file:line", trajectory)`; a record that cannot be trained on goes to `on_bad`.

    `label` stands for the file among several. `needs_label`: see `nat.trajectories.formats.episodes.read_label`.
    """
    make = partial(_trajectory, label=label, file=path.stem, needs_label=needs_label)
    return readable(read_records(path, on_bad), make, on_bad)


def _trajectory(where: str, record: Record, label: str, file: str, needs_label: bool) -> Trajectory:
    given = require(record.value, "messages", list, where)
    if not given:
        raise BadRow(where, "empty_conversation", "'messages' is empty: the agent never acted.")
    messages = _in_order_of_calls([_message(value, where) for value in given])
    used = ("messages",)
    return trajectory_of(where, record, messages, used=used, label=label, file=file, needs_label=needs_label)


class _Read(NamedTuple):
    message: Message
    calls: tuple[Any, ...]  # ids of the calls that it makes
    answers: Any  # id of the call whose result it is


def _message(value: Any, where: str) -> _Read:
    if not isinstance(value, dict):
        problem = f"a message is {value!r:.80}; it must be an object with 'role' and 'content'."
        raise BadRow(where, "wrong_value", problem)
    name = require(value, "role", str, where)
    role = ROLES.get(name)
    if role is None:
        raise BadRow(where, "wrong_value", f"unknown role {name!r:.60}; the roles are {', '.join(ROLES)}.")
    calls = _calls(value, where) if role == "assistant" else ()
    content = value.get("content")
    if content is None and role in ("assistant", "tool"):
        content = ""
    if content is None and "content" not in value:
        raise BadRow(where, "missing_value", "'content' is missing; it must be text or a list of text parts.")
    trained = role != "assistant" or trains(value, where)
    message = Message(role, text_of(content, where, "'content'"), trained, calls)
    return _Read(message, tuple(call.get("id") for call in calls), value.get("tool_call_id"))


def _calls(value: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], ...]:
    calls: list[Any] = list(optional(value, "tool_calls", list, where) or [])
    former = optional(value, "function_call", dict, where)
    if former is not None and not calls:
        calls = [{"function": former}]
    for call in calls:
        if not isinstance(call, dict) or read_call(call) is None:
            problem = f"a tool call is {call!r:.80}; it must be an object with the name of a function."
            raise BadRow(where, "wrong_value", problem)
    return tuple(calls)


def _in_order_of_calls(read: Sequence[_Read]) -> list[Message]:
    """The messages; results that answer the calls just before them, one each, in the order of those."""
    messages: list[Message] = []
    position = 0
    while position < len(read):
        item = read[position]
        messages.append(item.message)
        position += 1
        results = read[position : position + len(item.calls)]
        by_id = {result.answers: result.message for result in results if isinstance(result.answers, str)}
        if len(item.calls) > 1 and len(by_id) == len(results) and set(by_id) == set(map(str, item.calls)):
            messages += [by_id[str(call)] for call in item.calls]
            position += len(results)
    return messages
