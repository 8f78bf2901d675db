"""What agents and their tools write inside the text of a message, taken apart.

    <think>I look.</think><search>author of E</search><information>Ann wrote E.</information><answer>Ann</answer>

is a turn that thinks, an observation, and a turn that answers: tool results in the agent's own text
(`<information>`, `<tool_response>`, ```` ```output ````) are what it saw, not what it wrote, and carry no loss.
`<think>` becomes the turn's reasoning and `<tool_call>{...}</tool_call>` one of its calls. A user message that is
nothing but `<tool_response>` blocks is a tool's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace

from nat.agents.calls import read_call
from nat.types import Message

_OBSERVATION = re.compile(
    r"<(?P<tag>information|tool_response|tool_output|observation)>\s*(?P<inside>.*?)\s*</(?P=tag)>"
    r"|```output[ \t]*\n(?P<output>.*?)\n?```",
    re.DOTALL,
)
_THOUGHT = re.compile(r"<(think|thinking|thought)>(.*?)</\1>", re.DOTALL)
_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
_CLOSED = re.compile(r"</(?:think|thinking)>")


def taken_apart(messages: Iterable[Message]) -> list[Message]:
    """The messages, with what stands in their texts as such."""
    return [part for message in messages for part in _parts(message)]


def _parts(message: Message) -> list[Message]:
    text = message.content
    if "<" not in text and "```output" not in text:
        return [message]
    if message.role == "user":
        return _results(message)
    if message.role != "assistant":
        return [message]
    parts: list[Message] = []
    position = 0
    for seen in _OBSERVATION.finditer(text):
        before = text[position : seen.start()]
        # An observation follows something that the agent did; one that opens its turn is quoted.
        if not before.strip() and not parts:
            continue
        if before.strip():
            parts.append(_agent_turn(message, before.strip("\n"), first=not parts))
        parts.append(Message("tool", seen["inside"] if seen["output"] is None else seen["output"]))
        position = seen.end()
    rest = text[position:]
    if not parts:
        return [_agent_turn(message, text, first=True)]
    if rest.strip() or message.tool_calls:
        last = _agent_turn(message, rest.strip("\n"), first=False)
        parts.append(replace(last, tool_calls=(*last.tool_calls, *message.tool_calls)))
    return parts


def _agent_turn(message: Message, text: str, first: bool) -> Message:
    """A turn with this part of the message's text; the message's own reasoning is the first turn's."""
    thoughts = [thought.strip() for _, thought in _THOUGHT.findall(text)]
    rest = _THOUGHT.sub("", text)
    closed = _CLOSED.search(rest)
    if closed is not None and not thoughts:  # the template opened the block, so that the turn only closes it
        thoughts, rest = [rest[: closed.start()].strip()], rest[closed.end() :]
    elif not thoughts:
        rest = text
    calls = []
    for found in _CALL.findall(rest):
        try:
            call = json.loads(found)
        except (ValueError, RecursionError):
            call = None
        if not isinstance(call, dict) or read_call(call) is None:
            calls = []  # left as it stands: no call is half read
            break
        calls.append(call)
    if calls:
        rest = _CALL.sub("", rest)
    whole = first and text == message.content
    reasoning = "\n\n".join(part for part in (message.reasoning if first else "", *thoughts) if part)
    return replace(
        message,
        content=rest.strip() if thoughts or calls else rest,
        reasoning=reasoning,
        tool_calls=(*(message.tool_calls if whole else ()), *calls),
    )


def _results(message: Message) -> list[Message]:
    found = list(re.finditer(r"<tool_response>\s*(.*?)\s*</tool_response>", message.content, re.DOTALL))
    if not found or re.sub(r"<tool_response>.*?</tool_response>", "", message.content, flags=re.DOTALL).strip():
        return [message]
    return [Message("tool", result[1]) for result in found]
