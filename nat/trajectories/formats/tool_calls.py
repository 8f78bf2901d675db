"""Structured tool calls as text actions: what function-calling models write, as `nat`'s agents write it.

    {"role": "assistant", "content": "Add them.", "tool_calls": [{"id": "c1", "type": "function", "function":
        {"name": "calculate", "arguments": "{\\"expression\\": \\"2 + 3\\"}"}}]}
    {"role": "tool", "tool_call_id": "c1", "content": "5"}

become the agent's turn `Thought: Add them.\\nAction: calculate[2 + 3]` and the tool message `5`; for an agent that
keeps its own way (environment=own) the turn `Add them.\\n<tool_call>{"name": "calculate", ...}</tool_call>`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nat.agents.calls import Call, read_call
from nat.types import Message


def input_text(arguments: Any) -> str:
    """What stands between the brackets of a text action.

    The value of a single argument; several as JSON text (as it was written, where it was text); nothing where there
    are none. Null members of an object are left out: columnar files put them wherever another row has an argument.
    """
    value = arguments
    if isinstance(arguments, str):
        try:
            value = json.loads(arguments)
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
        except (ValueError, RecursionError):
            return arguments
    if isinstance(value, Mapping):
        given = value if isinstance(arguments, str) else {k: v for k, v in value.items() if v is not None}
        if not given:
            return ""
        if len(given) == 1:
            (value,) = given.values()
        else:
            return arguments if isinstance(arguments, str) else json.dumps(given, ensure_ascii=False)
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def as_react_text(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages with every structured tool call written as `Action: tool[input]`; the rest as it is.

    A turn's text becomes the thought before its call, and so does an agent's text directly before a call without text.
    Several calls at once become one turn each, every one followed by its result (results stand in the order of their
    calls); calls without a result stay in the last of these turns. `train` flags stay. Nothing is checked: an input
    with unbalanced brackets is written as it is, and read back cut.
    """
    written: list[Message] = []
    position = 0
    while position < len(messages):
        message = messages[position]
        position += 1
        if message.role != "assistant" or not message.tool_calls:
            written.append(message)
            continue
        thought = "" if is_call_text(message) else message.content.strip()
        before = messages[position - 2] if position > 1 else None
        if not thought and before is not None and _is_plain_turn(before) and before.train == message.train:
            thought = written.pop().content.strip()
        results: list[Message] = []
        while position < len(messages) and messages[position].role == "tool":
            results.append(messages[position])
            position += 1
        actions = [_action(call) for call in message.tool_calls]
        turns = max(1, min(len(actions), len(results)))
        for turn in range(turns):
            lines = actions[turn:] if turn == turns - 1 else [actions[turn]]
            if turn == 0 and thought:
                lines = [thought if thought.lower().startswith("thought") else f"Thought: {thought}", *lines]
            written.append(replace(message, content="\n".join(lines), tool_calls=()))
            if turn < turns - 1:
                written.append(results[turn])
        written += results[turns - 1 :]
    return tuple(written)


def with_thoughts(messages: Sequence[Message], opening: str) -> Sequence[Message]:
    """The messages with what the agent thought (`reasoning`) in front of its text, after `opening`."""
    if not any(message.reasoning for message in messages):
        return messages
    return tuple(_with_thought(message, opening) if message.reasoning else message for message in messages)


def _with_thought(message: Message, opening: str) -> Message:
    text = "" if is_call_text(message) else message.content.strip()
    text = text.removeprefix(opening) if opening else text  # of two thoughts one is opened
    thought = f"{opening}{message.reasoning.strip()}"
    return replace(message, content=f"{thought}\n{text}" if text else thought, reasoning="")


def as_tagged_text(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages with calls and thoughts in tags, as Qwen's and Hermes' templates write them; the rest as it is.

    <think>\\nTwo numbers.\\n</think>\\n\\nAdd them.\\n<tool_call>{"name": "add", "arguments": {"to": 2}}</tool_call>
    """
    return tuple(_tagged(message) if message.tool_calls or message.reasoning else message for message in messages)


def _tagged(message: Message) -> Message:
    text = "" if is_call_text(message) else message.content.strip()
    parts = [text] if text else []
    parts += [f"<tool_call>{_call_text(call)}</tool_call>" for call in message.tool_calls]
    content = "\n".join(parts)
    if message.reasoning:
        content = f"<think>\n{message.reasoning.strip()}\n</think>\n\n{content}"
    return replace(message, content=content, reasoning="", tool_calls=())


def _call_text(call: Mapping[str, Any]) -> str:
    read = read_call(call)
    if read is None:
        return json.dumps(call, ensure_ascii=False)
    return json.dumps({"name": read.name, "arguments": arguments_of(read)}, ensure_ascii=False)


def arguments_of(call: Call) -> Any:
    """The arguments as an object, where they are one or the text of one; without null members (see `input_text`)."""
    value = call.arguments
    if isinstance(value, str):
        try:
            value = json.loads(value)
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
        except (ValueError, RecursionError):
            return call.arguments
        return value
    if isinstance(value, Mapping):
        return {key: member for key, member in value.items() if member is not None}
    return {} if value is None else value


def is_call_text(message: Message) -> bool:
    """Whether the text of a turn is nothing but its calls as JSON, as ShareGPT's `function_call` turns hold them."""
    if not message.tool_calls or message.content.lstrip()[:1] not in ("{", "["):
        return False
    try:
        value = json.loads(message.content)
    except (ValueError, RecursionError):
        return False
    return (value if isinstance(value, list) else [value]) == list(message.tool_calls)


def _is_plain_turn(message: Message) -> bool:
    return message.role == "assistant" and not message.tool_calls


def _action(call: Mapping[str, Any]) -> str:
    read = read_call(call)
    return (
        f"Action: {json.dumps(call, ensure_ascii=False)}"
        if read is None
        else f"Action: {read.name}[{input_text(read.arguments)}]"
    )
