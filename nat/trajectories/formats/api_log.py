"""Logs of requests to OpenAI or Anthropic, each with its response. A record:

    {"request": {"model": "m", "system": "Use the tool.", "tools": [{"name": "weather", "input_schema": {}}],
        "messages": [{"role": "user", "content": "Weather in X?"}]},
     "response": {"role": "assistant", "stop_reason": "tool_use", "content": [{"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "X"}}]}, "success": true}

OpenAI's responses hold `choices`; requests and responses may be JSON texts, or stand under `body`. A request that
begins with all that a request before it and its response said goes on with that: they are one trajectory, whose label,
task and reference stand beside its last request, by the names that `chat` knows. What was first sent is the prompt and
carries no loss. An error in place of a response is `infrastructure`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nat.core.rows.bad import BadRow
from nat.core.rows.json_records import Record
from nat.trajectories.formats.conversations import Conversation, conversation, tools_in
from nat.trajectories.formats.logs import Exchange, ended, goes_on, gone_on, read_exchange
from nat.trajectories.formats.prompts import prompted
from nat.trajectories.formats.turns import json_in
from nat.types import Failure

NAME = "api_log"
PLACE = 18
REQUESTS, RESPONSES = ("request", "request_body"), ("response", "response_body")
OPEN = 64  # conversations of a file that may go on at the same time
EARLIER = "earlier_requests"  # in a record: those that it goes on with


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: a request with messages, and what answered it."""
    request, response = _part(value, REQUESTS), _part(value, RESPONSES)
    if request is None or not isinstance(request.get("messages"), list):
        return False
    return response is not None and any(key in response for key in ("choices", "content", "error"))


def _part(value: Mapping[str, Any], keys: Iterable[str]) -> Mapping[str, Any] | None:
    """The request, or response, of a record: an object or the JSON text of one, itself or its `body`."""
    for key in keys:
        part = value.get(key)
        for _ in range(2):
            part = json_in(part) if isinstance(part, str) else part
            if isinstance(part, Mapping) and part.get("body") is not None:
                part = part["body"]
        if isinstance(part, Mapping):
            return part
    return None


def grouped(records: Iterator[tuple[str, Record]]) -> Iterator[tuple[str, Record]]:
    """The last record of each conversation, with the earlier ones; records that are none pass as they are."""
    held: list[tuple[Exchange, str, Record]] = []
    for where, record in records:
        try:
            exchange = _exchange(record.value, where)
        except BadRow:
            yield where, record
            continue
        at = next((i for i in range(len(held) - 1, -1, -1) if goes_on(held[i][0], exchange)), None)
        if at is not None:
            before, _, earlier = held.pop(at)
            rest = {key: given for key, given in earlier.value.items() if key != EARLIER}
            told = [*earlier.value.get(EARLIER, ()), rest]
            exchange, record = gone_on(before, exchange), record._replace(value={**record.value, EARLIER: told})
        held.append((exchange, where, record))
        if len(held) > OPEN:
            yield held.pop(0)[1:]
    for _, where, record in held:
        yield where, record


def _exchange(value: Mapping[str, Any], where: str) -> Exchange:
    request, response = _part(value, REQUESTS), _part(value, RESPONSES)
    if request is None:
        raise BadRow(where, "missing_value", "'request' is missing; it must be an object with 'messages'.")
    came: Any = response
    if response is not None and "choices" not in response:  # an error, or Anthropic's content blocks
        content = response.get("content")
        came = None if content in (None, [], "") else {"role": "assistant", "content": content}
    return read_exchange(request, came, where)


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The one conversation of a record and of those that it goes on with."""
    value = record.value
    earlier = value.get(EARLIER)
    first, *others = [one for one in (earlier if isinstance(earlier, list) else ()) if isinstance(one, dict)] + [value]
    whole = _exchange(first, where)
    for one in others:
        whole = gone_on(whole, _exchange(one, where))
    failure = _failure(value)
    if failure == "infrastructure" and not whole.completion.messages:
        raise BadRow(where, "infrastructure", "the request failed before the agent's first turn.")
    turns, prompt = prompted(whole.prompt, whole.completion, where, "response")
    request = _part(value, REQUESTS) or {}
    used = (*REQUESTS, *RESPONSES, EARLIER)
    noted = {"requests": 1 + len(others)} if others else {}
    yield conversation(
        where,
        record,
        turns,
        used,
        prompt=prompt,
        tools=tools_in(request.get("tools")) or (),
        failure=failure,
        metadata=noted,
    )


def _failure(value: Mapping[str, Any]) -> Failure | None:
    response = _part(value, RESPONSES)
    if response is None or response.get("error") or response.get("type") == "error":
        return "infrastructure"
    choices = response.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    reason = choice.get("finish_reason") if isinstance(choice, Mapping) else response.get("stop_reason")
    return ended(reason)
