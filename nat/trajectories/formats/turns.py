"""Messages as files have them, in any of the shapes that chat and agent tools write, one reader for all formats.

    {"role": "assistant", "content": "Add them.", "reasoning_content": "Two numbers.", "tool_calls": [{"id": "c1",
        "type": "function", "function": {"name": "calculate", "arguments": "{\\"expression\\": \\"2 + 3\\"}"}}]}
    {"role": "tool", "tool_call_id": "c1", "content": "5"}
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "..."}, {"type": "text", "text": "Add them."},
        {"type": "tool_use", "id": "t1", "name": "calculate", "input": {"expression": "2 + 3"}}]}
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "5"}]}
    {"from": "gpt", "value": "5", "loss": false}

A message has a role (`role`, or `from`), a content (`content`, `value` or `text`: text, parts, or null where a turn is
empty), what the agent thought (`reasoning_content`, `reasoning`, `thinking`, `thought`, thinking parts) and its calls
(`tool_calls`, `function_call`, `tool_use` parts; kept as they stand, see `calls.read_call`; `tool_calls` and each
of them may be JSON text). Results of several calls at once that stand in another order are put in the order of their
calls, by their ids.

Whether a turn carries loss is said by any of LOSS_KEYS: true or false, or a number, 0 for none. Numbers other than 0
and 1 are kept as its weight.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from nat.agents.calls import read_call
from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import check_value, optional, refuse_constant, require
from nat.types import Message, Role

ROLES: Mapping[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "ai", "agent", "model", "bot", "chatgpt"), "assistant"),
    **dict.fromkeys(("function_call", "tool_call"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "function_response"), "tool"),
    **dict.fromkeys(("ipython", "environment"), "tool"),
}
CALLS = ("function_call", "tool_call")  # roles of turns whose text is their calls
ROLE_KEYS = ("role", "from")
CONTENT_KEYS = ("content", "value", "text")
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking", "thought")
LOSS_KEYS = ("loss", "weight", "train", "training", "trainable", "loss_mask", "loss_weight")
COPIED = "is_copied_context"  # true: the turn stands in an earlier trajectory too, and is context here
ROW_LOSS_KEYS = ("loss_mask", "train_mask", "loss_weights")  # of a whole record: a list, one value a message or a turn
# The record has them with other lengths or meanings too (of tokens, say), so that one that cannot be read is said.
LIKE_A_LOSS_KEY = re.compile(r"(?:.*_)?(?:loss|train(?:ed|ing|able)?|trains?|masked|weight)(?:_.*)?", re.I)


class Turns(NamedTuple):
    """The messages of a record, and what of them could not become part of a message, counted by kind."""

    messages: tuple[Message, ...]
    left_out: Mapping[str, int]
    unread_loss_keys: tuple[str, ...]


class _Read(NamedTuple):
    message: Message
    calls: tuple[Any, ...]  # ids of the calls that it makes
    answers: Any  # id of the call whose result it is


def read_turns(values: Sequence[Any], where: str, row: Mapping[str, Any] | None = None) -> Turns:
    """The messages of a record. Raises BadRow for what is no message.

    Args:
        row: the record, for loss flags that it has as one list.
    """
    left_out: Counter[str] = Counter()
    unread: dict[str, None] = {}
    read = [part for value in values for part in _messages(value, where, left_out, unread)]
    if row is not None:
        read = _with_row_flags(read, len(values), row, where, unread)
    return Turns(tuple(_in_order_of_calls(read)), left_out, tuple(unread))


def _messages(value: Any, where: str, left_out: Counter[str], unread: dict[str, None]) -> list[_Read]:
    if not isinstance(value, dict):
        problem = f"a message is {value!r:.80}; it must be an object with 'role' and 'content'."
        raise BadRow(where, "wrong_value", problem)
    key = next((key for key in ROLE_KEYS if key in value), "role")
    name = require(value, key, str, where)
    role = ROLES.get(name)
    if role is None:
        of_key = f" in {key!r}" if key != "role" else ""
        raise BadRow(where, "wrong_value", f"unknown role {name!r:.60}{of_key}; the roles are {', '.join(ROLES)}.")
    parts = _Parts(left_out)
    parts.take(_content(value, role, where), where)
    calls = [*_calls(value, where), *parts.calls] if role == "assistant" else []
    text = "".join(parts.texts)
    if name in CALLS and not calls:
        calls = list(_calls_in(text))
    train, weight = loss_of(value, where) if role == "assistant" else (True, 1.0)
    unread.update(dict.fromkeys(key for key in value if _is_unread_flag(key)))
    reasoning = _reasoning(value, parts.thoughts, text) if role == "assistant" else ""
    own = Message(role, text, train, tuple(calls), reasoning, weight)
    read = [_Read(own, tuple(call_id(call) for call in calls), value.get("tool_call_id") or value.get("call_id"))]
    if parts.results:  # of calls, among the parts of a user message; what else that says comes after them
        results = [_Read(Message("tool", text), (), id) for id, text in parts.results]
        return results + (read if text.strip() else [])
    return read


def _content(value: Mapping[str, Any], role: Role, where: str) -> Any:
    key = next((key for key in CONTENT_KEYS if value.get(key) is not None), None)
    if key is not None:
        return value[key]
    known = next((key for key in CONTENT_KEYS if key in value), None)
    if role in ("assistant", "tool"):
        return ""
    if known is None:
        raise BadRow(where, "missing_value", "'content' is missing; it must be text or a list of text parts.")
    raise BadRow(where, "wrong_value", f"{known!r} is null; it must be text or a list of text parts.")


class _Parts:
    """What the content of one message is made of."""

    def __init__(self, left_out: Counter[str]) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.calls: list[Mapping[str, Any]] = []
        self.results: list[tuple[Any, str]] = []
        self._left_out = left_out

    def take(self, content: Any, where: str) -> None:
        if isinstance(content, str):
            self.texts.append(content)
            return
        if isinstance(content, Mapping):
            content = [content]
        if not isinstance(content, list):
            problem = f"'content' is {content!r:.80}; it must be text or a list of text parts."
            raise BadRow(where, "wrong_value", problem)
        for part in content:
            self._part(part, where)

    def _part(self, part: Any, where: str) -> None:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(part, str):
            self.texts.append(part)
        elif kind in ("thinking", "reasoning"):
            self.thoughts.append(_thought(part))
        elif kind in ("tool_use", "function_call", "tool_call") and read_call(part) is not None:
            self.calls.append(part)
        elif kind == "tool_result":
            inner = _Parts(self._left_out)
            inner.take("" if part.get("content") is None else part["content"], where)
            self.results.append((part.get("tool_use_id"), "".join(inner.texts)))
        elif kind == "redacted_thinking":  # encrypted: there is nothing to read
            self._left_out["redacted_thinking"] += 1
        elif isinstance(part, Mapping) and (text := _part_text(part)) is not None:
            self.texts.append(text)
        else:
            shown = kind if isinstance(part, Mapping) else part
            raise BadRow(where, "wrong_value", f"'content' holds a part {shown!r:.60}; only text can be read.")


def _part_text(part: Mapping[str, Any]) -> str | None:
    return next((part[key] for key in ("text", "value", "content", "refusal") if isinstance(part.get(key), str)), None)


def _thought(part: Mapping[str, Any]) -> str:
    """The text of a thinking part; summaries stand in a list."""
    for key in ("thinking", "reasoning", "text", "content", "summary"):
        given = part.get(key)
        if isinstance(given, str) and given:
            return given
        if isinstance(given, list) and given:
            return "\n".join(text for member in given if isinstance(member, Mapping) and (text := _part_text(member)))
    return ""


def text_of(content: Any, where: str) -> str:
    """The text of a content: text, or a list of text parts joined as they are. Raises BadRow for what is no text."""
    parts = _Parts(Counter())
    parts.take(content, where)
    return "".join(parts.texts)


def _reasoning(value: Mapping[str, Any], thoughts: Sequence[str], text: str) -> str:
    """What the agent thought; nothing where its text says it again, as SWE-agent's does."""
    given = [value[key] for key in REASONING_KEYS if isinstance(value.get(key), str)]
    found = dict.fromkeys(part.strip() for part in (*given, *thoughts))
    return "\n\n".join(part for part in found if part and part not in text)


# ---- calls ----


def call_id(call: Mapping[str, Any]) -> Any:
    return next((call[key] for key in ("call_id", "tool_call_id", "id") if call.get(key) is not None), None)


def _calls(value: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
    given = value.get("tool_calls")
    if isinstance(given, str):  # columnar files keep what has no fixed fields as JSON text
        listed = json_in(given) if given.strip() else []
        value = {**value, "tool_calls": listed if isinstance(listed, list) else given}
    calls: list[Any] = list(optional(value, "tool_calls", list, where) or [])
    calls = [json_in(call) or call if isinstance(call, str) else call for call in calls]
    former = value.get("function_call") if isinstance(value.get("function_call"), dict) else None
    if former is not None and not calls:
        calls = [{"function": former}]
    for call in calls:
        if not isinstance(call, dict) or read_call(call) is None:
            problem = f"a tool call is {call!r:.80}; it must be an object with the name of a function."
            raise BadRow(where, "wrong_value", problem)
    return calls


def json_in(text: str) -> Any:
    """What a text is as JSON; None where it is none, or nothing that the next stages could take."""
    try:
        value = json.loads(text, parse_constant=refuse_constant)
        check_value(value, text, "")
        json.dumps(value, allow_nan=False)  # 1e999 is read as infinity
    except (ValueError, RecursionError, BadRow):
        return None
    return value


def decoded(value: Any) -> Any:
    """The messages of a list that is written as JSON text, as many published data sets have it; else the value."""
    if not isinstance(value, str) or not value[:64].lstrip().startswith("["):
        return value
    listed = _messages_in(value)
    return value if listed is None else listed


@lru_cache(maxsize=1)  # the formats ask one after another; nobody changes what they get
def _messages_in(text: str) -> list[Any] | None:
    listed = json_in(text)
    is_list = isinstance(listed, list) and bool(listed)
    return listed if is_list and all(isinstance(m, dict) and ("role" in m or "from" in m) for m in listed) else None


def _calls_in(text: str) -> tuple[Mapping[str, Any], ...]:
    """The call, or calls, that the JSON of a `function_call` turn makes; none where it is none."""
    value = json_in(text)
    calls = value if isinstance(value, list) else [value]
    return tuple(calls) if calls and all(isinstance(call, dict) and read_call(call) for call in calls) else ()


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


# ---- loss ----


def loss_of(value: Mapping[str, Any], where: str) -> tuple[bool, float]:
    """Whether a turn of the agent may carry loss, and what that counts. Raises BadRow for a flag that is none."""
    weight = 1.0
    for key in LOSS_KEYS:
        if value.get(key) is not None:
            weight *= _weight(value[key], key, where)
    if value.get(COPIED):
        weight = 0.0
    return weight != 0, weight or 1.0


def _weight(given: Any, key: str, where: str) -> float:
    if not isinstance(given, bool | int | float) or not math.isfinite(given):
        raise BadRow(where, "wrong_value", f"{key!r} is {given!r:.80}; it must be true or false, or a number.")
    return float(given)


@lru_cache(maxsize=1024)  # the keys of messages are few, and asked for a million times
def _is_unread_flag(key: str) -> bool:
    return key not in LOSS_KEYS and LIKE_A_LOSS_KEY.fullmatch(key) is not None


def _with_row_flags(
    read: list[_Read], n_values: int, row: Mapping[str, Any], where: str, unread: dict[str, None]
) -> list[_Read]:
    """Flags that the record has as one list: of all its messages, or of the agent's turns."""
    for key in ROW_LOSS_KEYS:
        given = row.get(key)
        if given is None:
            continue
        turns = [i for i, item in enumerate(read) if item.message.role == "assistant"]
        is_list = isinstance(given, list) and all(isinstance(member, bool | int | float) for member in given)
        if is_list and len(given) == n_values == len(read):
            flags = {i: given[i] for i in turns}
        elif is_list and len(given) == len(turns):
            flags = dict(zip(turns, given, strict=True))
        else:  # of tokens, perhaps
            unread[key] = None
            continue
        for i, flag in flags.items():
            message = read[i].message
            weight = _weight(flag, key, where) * (message.weight if message.train else 0.0)
            flagged = replace(message, train=weight != 0, weight=weight or 1.0)
            read[i] = read[i]._replace(message=flagged)
    return read
