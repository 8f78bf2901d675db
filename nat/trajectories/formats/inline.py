"""What agents and their tools write inside the text of a message, taken apart.

    <think>I look.</think><search>author of E</search><information>Ann wrote E.</information><answer>Ann</answer>

is a turn that thinks, an observation, and a turn that answers: tool results in the agent's own text
(`<information>`, `<tool_response>`, ```` ```output ```` right after a block of code) are what it saw, not what it
wrote, and carry no loss. `<think>` becomes the turn's reasoning, and so does what stands before a `</think>` whose
beginning the template wrote. Calls become the turn's calls where they can be read for certain:

    <tool_call>{"name": "add", "arguments": {"x": 2}}</tool_call>                     Hermes, Qwen
    <tool_call><function=add><parameter=x>2</parameter></function></tool_call>        Qwen3-Coder; alone, OpenHands
    <tool_call>add<arg_key>x</arg_key><arg_value>2</arg_value></tool_call>            GLM
    [TOOL_CALLS][{"name": "add", "arguments": {"x": 2}}]  [TOOL_CALLS]add[ARGS]{"x": 2}   Mistral
    <|python_tag|>{"name": "add", "parameters": {"x": 2}}                             Llama

No turn is half read: where one of its calls cannot be, all stay text, and `left_as_text` counts the turn. Marks inside
blocks of code, and after a backtick, are quoted. A user message that is nothing but `<tool_response>` blocks is a
tool's.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

from nat.agents.calls import read_call
from nat.trajectories.formats.turns import json_in
from nat.types import Message

_OBSERVATION = re.compile(
    r"<(?P<tag>information|tool_response|tool_output|observation)>|^```output[ \t]*\n", re.MULTILINE
)
_MARK = re.compile(r"<(?P<closes>/?)(?P<tag>think|thinking|thought)>")
_CALL = re.compile(r"<tool_call>|<function=")
_FUNCTION = re.compile(r"<function=(?P<name>[\w.:/-]+)>(?P<inside>.*)</function>", re.DOTALL)
_PARAMETER = re.compile(r"\s*<parameter=(?P<name>[\w.:/-]+)>\n?(?P<value>.*?)\n?</parameter>\s*", re.DOTALL)
_KEYED = re.compile(r"(?P<name>[\w.:/-]+)\s*(?P<inside>(?:<arg_key>.*</arg_value>)?)", re.DOTALL)
_PAIR = re.compile(r"\s*<arg_key>(?P<name>.*?)</arg_key>\s*<arg_value>(?P<value>.*?)</arg_value>\s*", re.DOTALL)
_TO_THE_END = re.compile(r"\[TOOL_CALLS\]|<\|python_tag\|>")
_ARGS = re.compile(r"\s*(?P<name>[\w.:/-]+)(?:\[CALL_ID\][\w-]+)?\[ARGS\](?P<arguments>.*)", re.DOTALL)
_STOPS = ("</s>", "<|eom_id|>", "<|eot_id|>")
_UNREAD = re.compile(
    r"<tool_call>|<function=|<function_call>|<\|python_tag\|>|\[TOOL_CALLS\]|<\|tool_calls?_|<\uff5ctool\u2581call|"
    r"<minimax:tool_call>|<invoke name="
)
_FENCE = re.compile(r"^[ \t]*(?P<marks>```+|~~~+)(?P<info>[^\n`]*)$", re.MULTILINE)
_LONGEST_LITERAL = 100_000  # characters that Python's parser is given
Call = Mapping[str, Any]


def taken_apart(messages: Iterable[Message]) -> list[Message]:
    """The messages, with what stands in their texts as such."""
    return [part for message in messages for part in _parts(message)]


def left_as_text(messages: Iterable[Message]) -> int:
    """How many of the agent's turns hold something like a call that stayed text."""
    turns = (message.content for message in messages if message.role == "assistant")
    return sum(bool(_unquoted(_UNREAD, text)) for text in turns)


def _parts(message: Message) -> list[Message]:
    text = message.content
    if "<" not in text and "```output" not in text and "[TOOL_CALLS]" not in text:
        return [message]
    if message.role == "user":
        return _results(message)
    if message.role != "assistant":
        return [message]
    parts: list[Message] = []
    position = 0
    for opening in _unquoted(_OBSERVATION, text):
        if opening.start() < position:
            continue
        before = text[position : opening.start()].rstrip()
        seen = _until(text, opening.end(), f"</{opening['tag']}>" if opening["tag"] else "```")
        # An observation follows something that the agent did; one that opens its turn is quoted. What code printed
        # stands right after it, and one that is cut off right after what asked for it.
        follows = before.endswith(">" if opening["tag"] else "```") if before else bool(parts)
        if not follows and (not before or not opening["tag"] or not seen.is_closed):
            continue
        if before:
            parts.append(_agent_turn(message, text[position : opening.start()].strip("\n"), first=not parts))
        parts.append(Message("tool", seen.inside.strip() if opening["tag"] else seen.inside.removesuffix("\n")))
        position = seen.end
    rest = text[position:]
    if not parts:
        return [_agent_turn(message, text, first=True)]
    if rest.strip() or message.tool_calls:
        last = _agent_turn(message, rest.strip("\n"), first=False)
        parts.append(replace(last, tool_calls=(*last.tool_calls, *message.tool_calls)))
    return parts


def _agent_turn(message: Message, text: str, first: bool) -> Message:
    """A turn with this part of the message's text; the message's own reasoning is the first turn's."""
    thoughts, rest = _thoughts(text)
    calls, rest = _calls(rest)
    whole = first and text == message.content
    own = message.tool_calls if whole else ()
    if [_asks(call) for call in calls] == [_asks(call) for call in own]:
        calls = []  # the text says its calls once more
    reasoning = dict.fromkeys(part for part in (message.reasoning if first else "", *thoughts) if part)
    return replace(
        message,
        content=text if rest == text else rest.strip(),
        reasoning="\n\n".join(reasoning),
        tool_calls=(*own, *calls),
    )


def _results(message: Message) -> list[Message]:
    found = list(re.finditer(r"<tool_response>\s*(.*?)\s*</tool_response>", message.content, re.DOTALL))
    if not found or re.sub(r"<tool_response>.*?</tool_response>", "", message.content, flags=re.DOTALL).strip():
        return [message]
    return [Message("tool", result[1]) for result in found]


# ---- thoughts ----


def _thoughts(text: str) -> tuple[list[str], str]:
    """What the text says as thoughts, and the rest of it."""
    every = list(_MARK.finditer(text))
    marks = _unquoted(_MARK, text) if every else []
    number = {mark.start(): i for i, mark in enumerate(every)}
    thoughts: list[str] = []
    kept: list[str] = []
    position = 0
    first_opening = next((i for i, mark in enumerate(marks) if not mark["closes"]), len(marks))
    if first_opening:  # the template opened the block, so that the turn only closes it
        position = marks[first_opening - 1].end()
        thoughts.append(text[: marks[first_opening - 1].start()])
    for i, mark in enumerate(marks):
        if mark["closes"] or mark.start() < position:
            continue
        closing = _closing(marks, i) or _closing(every, number[mark.start()])
        if closing is None:  # it thinks on to the end
            break
        kept.append(text[position : mark.start()])
        thoughts.append(text[mark.end() : closing.start()])
        position = closing.end()
    kept.append(text[position:])
    return [thought.strip() for thought in thoughts], "".join(kept)


def _closing(marks: Sequence[re.Match[str]], opening: int) -> re.Match[str] | None:
    """The mark that closes this one: of those within one another the last, where each is closed."""
    depth, first = 0, None
    for mark in islice(marks, opening, None):
        if mark["tag"] != marks[opening]["tag"]:
            continue
        depth += -1 if mark["closes"] else 1
        if mark["closes"] and first is None:
            first = mark
        if depth == 0:
            return mark
    return first


# ---- calls ----


def _calls(text: str) -> tuple[list[Call], str]:
    """The calls that the text makes, and the rest of it; none, and all of it, where one of them cannot be read."""
    calls: list[Call] = []
    kept: list[str] = []
    position = 0
    for opening in _unquoted(_CALL, text):
        if opening.start() < position:
            continue
        is_tagged = opening[0] == "<tool_call>"
        inside = _until(text, opening.end(), "</tool_call>" if is_tagged else "</function>")
        call = _tagged(inside.inside.strip()) if is_tagged else _function(text[opening.start() : inside.end])
        if call is None:
            return [], text
        calls.append(call)
        kept.append(text[position : opening.start()])
        position = inside.end
    rest = text[position:]
    last = _unquoted(_TO_THE_END, rest)
    if last:
        listed = _to_the_end(rest[last[0].start() :])
        if not listed:
            return [], text
        calls += listed
        rest = rest[: last[0].start()]
    rest = "".join([*kept, rest])
    return (calls, rest) if calls and not _unquoted(_UNREAD, rest) else ([], text)


def _tagged(inside: str) -> Call | None:
    """The call between `<tool_call>` and its end."""
    if inside.startswith("{"):
        value = json_in(inside)
        return _call(_literal(inside) if value is None else value)
    if inside.startswith("<function="):
        return _function(inside)
    keyed = _KEYED.fullmatch(inside)
    return None if keyed is None else _named(keyed["name"], keyed["inside"], _PAIR)


def _function(text: str) -> Call | None:
    found = _FUNCTION.fullmatch(text)
    if found is None:
        return None
    inside = found["inside"].strip()
    if inside.startswith("{"):
        arguments = json_in(inside)
        return {"name": found["name"], "arguments": arguments} if isinstance(arguments, dict) else None
    return _named(found["name"], found["inside"], _PARAMETER)


def _named(name: str, inside: str, pattern: re.Pattern[str]) -> Call | None:
    """A call whose arguments stand one after another; their values are texts, whatever they were meant as."""
    arguments: dict[str, str] = {}
    position, inside = 0, inside.strip()
    while position < len(inside):
        argument = pattern.match(inside, position)
        if argument is None or argument["name"] in arguments:
            return None
        arguments[argument["name"]] = argument["value"]
        position = argument.end()
    return {"name": name, "arguments": arguments}


def _to_the_end(text: str) -> list[Call]:
    """The calls of a text that begins with their mark and holds nothing else."""
    text = text.rstrip()
    while stop := next((stop for stop in _STOPS if text.endswith(stop)), None):
        text = text.removesuffix(stop).rstrip()
    if text.startswith("<|python_tag|>"):
        values = [json_in(text.removeprefix("<|python_tag|>"))]
    else:
        values = []
        for part in text.split("[TOOL_CALLS]")[1:]:
            with_name = _ARGS.fullmatch(part)
            if with_name is None:
                listed = json_in(part)
                values += listed if isinstance(listed, list) else [listed]
            else:
                arguments = json_in(with_name["arguments"])
                named = {"name": with_name["name"], "arguments": arguments}
                values.append(named if isinstance(arguments, dict) else None)
    calls = [_call(value) for value in values]
    return [call for call in calls if call is not None] if None not in calls else []


def _literal(text: str) -> Any:
    """What Python prints of a call, in single quotes, as JSON has it."""
    try:
        return json_in(json.dumps(ast.literal_eval(text))) if len(text) <= _LONGEST_LITERAL else None
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def _call(value: Any) -> Call | None:
    return value if isinstance(value, dict) and read_call(value) is not None else None


def _asks(call: Call) -> tuple[str, Any] | None:
    """What a call asks for, however its arguments are written."""
    read = read_call(call)
    if read is None:
        return None
    arguments = json_in(read.arguments) if isinstance(read.arguments, str) else read.arguments
    return read.name, read.arguments if arguments is None else arguments


# ---- texts ----


class _Until(NamedTuple):
    inside: str
    end: int  # of what closes it
    is_closed: bool


def _until(text: str, begin: int, closing: str) -> _Until:
    """What stands from there to what closes it, or to the end of the text."""
    at = text.find(closing, begin)
    return _Until(text[begin:], len(text), False) if at < 0 else _Until(text[begin:at], at + len(closing), True)


def _unquoted(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    """The matches that are not inside a block of code, and do not follow a backtick."""
    found = list(pattern.finditer(text))
    if not found or ("`" not in text and "~~~" not in text):
        return found
    blocks = _blocks(text)
    kept = []
    block = 0
    for match in found:
        while block < len(blocks) and blocks[block][1] <= match.start():
            block += 1
        is_code = block < len(blocks) and blocks[block][0] < match.start()
        if not is_code and text[max(match.start() - 1, 0) : match.start()] != "`":
            kept.append(match)
    return kept


def _blocks(text: str) -> list[tuple[int, int]]:
    """Where blocks of code begin and end; one that is not closed is none."""
    blocks: list[tuple[int, int]] = []
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        info = fence["info"].strip()
        if opened is None or info == "output":  # what the code printed, whether or not its block was closed
            opened = fence
        elif not info and fence["marks"].startswith(opened["marks"]):
            blocks.append((opened.start(), fence.end()))
            opened = None
    return blocks
