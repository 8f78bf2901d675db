"""Logs of a model's calls: what was sent, what came back, and which of the calls are one conversation.

    sent  user  2 + 3?                                             came  assistant  calculate(2 + 3)
    sent  user  2 + 3?, assistant calculate(2 + 3), tool 5         came  assistant  5

are one conversation, whose prompt is the first that was sent: `chains`. What was sent first carries no loss.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from nat.agents.calls import read_call
from nat.core.rows.bad import BadRow
from nat.trajectories.formats.episodes import EXPLICIT_LABELS, LABELS, word
from nat.trajectories.formats.prompts import joined
from nat.trajectories.formats.tool_calls import input_text
from nat.trajectories.formats.turns import Turns, json_in, read_turns, text_of
from nat.types import Failure, Message

NO_TURNS = Turns((), {}, ())
FULL = ("length", "max_tokens", "max_output_tokens", "model_context_window_exceeded")  # why a model stopped
_THOUGHT = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)


class Exchange(NamedTuple):
    """One call of a model, or several that go on with one another: the first prompt, and all that came then."""

    prompt: Turns
    completion: Turns


def chains(exchanges: Iterable[Exchange]) -> list[Exchange]:
    """The conversations of calls in their order: a call whose prompt begins with a whole one goes on with it."""
    found: list[Exchange] = []
    for exchange in exchanges:
        at = next((i for i in range(len(found) - 1, -1, -1) if goes_on(found[i], exchange)), None)
        if at is None:
            found.append(exchange)
        else:
            found[at] = gone_on(found[at], exchange)
    return found


def goes_on(before: Exchange, exchange: Exchange) -> bool:
    """Whether what was sent begins with all that was said before. Thoughts, which are often not sent, do not count."""
    told = [*before.prompt.messages, *before.completion.messages]
    sent = exchange.prompt.messages
    return len(told) <= len(sent) and all(_same(*pair) for pair in zip(told, sent, strict=False))


def gone_on(before: Exchange, exchange: Exchange) -> Exchange:
    """Both as one; what was said before stands as it came."""
    told = len(before.prompt.messages) + len(before.completion.messages)
    between = Turns(exchange.prompt.messages[told:], {}, ())
    return Exchange(before.prompt, joined((before.completion, between, exchange.completion)))


def _same(one: Message, other: Message) -> bool:
    return one == other or (one.role == other.role and _told(one) == _told(other))


def _told(message: Message) -> tuple[str, list[tuple[str, str] | None]]:
    text = message.content
    if message.role == "assistant" and "<think" in text:
        text = _THOUGHT.sub("", text)
    read = [read_call(call) for call in message.tool_calls]
    return text.strip(), [None if call is None else (call.name, input_text(call.arguments)) for call in read]


def of_the_agent(found: Sequence[Exchange]) -> tuple[list[Exchange], int]:
    """The agent's own conversations among those of a trace, and how many are others' (a judge's, say).

    Its longest is its own (of equals, the last), and so are those under the same system message.
    """
    if not found:
        return [], 0
    turns = [sum(message.role == "assistant" for message in one.completion.messages) for one in found]
    main = max(range(len(found)), key=lambda i: (turns[i], i))
    system = _system(found[main])
    own = [one for i, one in enumerate(found) if i == main or (system and _system(one) == system)]
    return own, len(found) - len(own)


def _system(one: Exchange) -> str:
    return "\n".join(message.content for message in one.prompt.messages if message.role == "system")


# ---- what was sent and what came, as clients of OpenAI, Anthropic and LangChain write it ----


def read_exchange(sent: Any, came: Any, where: str) -> Exchange:
    """A call of a model. Raises BadRow for what is neither text nor messages."""
    return Exchange(read_sent(sent, where), read_came(came, where))


def read_sent(value: Any, where: str) -> Turns:
    """What was sent: a text, messages, or an object with `messages` and, as Anthropic's requests have it, `system`."""
    value = _parsed(value)
    system = None
    if isinstance(value, Mapping) and "messages" in value:
        system, value = value.get("system"), value["messages"]
    elif isinstance(value, Mapping) and isinstance(value.get("prompt", value.get("input")), str | list):
        value = value.get("prompt", value.get("input"))
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):  # LangChain's batch of one
        value = value[0]
    turns = _messages(value, "user", where, "what was sent")
    if isinstance(system, str | list) and system:
        front = Message("system", text_of(system, where))
        turns = turns._replace(messages=(front, *turns.messages))
    return turns


def read_came(value: Any, where: str) -> Turns:
    """What came back: a text, a message, messages, or a response with `choices` or content blocks."""
    value = _parsed(value)
    if isinstance(value, Mapping) and isinstance(value.get("choices"), list):
        choices = value["choices"]
        first = choices[0] if choices else None
        message = first.get("message", first.get("text")) if isinstance(first, Mapping) else None
        turns = _messages(message, "assistant", where, "what came back")
        return turns._replace(left_out={"other_choices": len(choices) - 1}) if len(choices) > 1 else turns
    return _messages(value, "assistant", where, "what came back")


def tools_sent(value: Any) -> Any:
    """The tools among what was sent; None where it lists none."""
    value = _parsed(value)
    return value.get("tools") if isinstance(value, Mapping) else None


def _parsed(value: Any) -> Any:
    """What a text is that is an object or a list as JSON; everything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        parsed = json_in(value)
        return value if parsed is None else parsed
    return value


def _messages(value: Any, role: str, where: str, what: str) -> Turns:
    if value is None or value in ("", [], {}):
        return NO_TURNS
    if isinstance(value, str):
        return read_turns([{"role": role, "content": value}], where)
    values = value if isinstance(value, list) else [value]
    if role == "assistant" and all(map(_is_block, values)):
        values = [{"role": role, "content": values}]
    read = [_message(one, role) for one in values]
    if any(one is None for one in read):
        raise BadRow(where, "wrong_value", f"{what} is {value!r:.80}; it must be text or messages.")
    return read_turns([one for one in read if one is not None], where)


def _is_block(value: Any) -> bool:
    """Whether a value is a content block, as Anthropic's responses list them."""
    return isinstance(value, Mapping) and isinstance(value.get("type"), str) and not {"role", "content"} & value.keys()


def _message(value: Any, role: str) -> dict[str, Any] | None:
    """A message with its role; LangChain's say theirs as `type`, and stand in `kwargs` where they are serialised."""
    if isinstance(value, str):
        return {"role": role, "content": value}
    if not isinstance(value, dict):
        return None
    inner = value.get("kwargs", value.get("data", value.get("message")))
    if "role" not in value and isinstance(inner, dict) and "content" in inner:
        value = {"type": value.get("type"), **inner}
    if "role" not in value and "from" not in value:
        if not any(key in value for key in ("content", "tool_calls", "text")):
            return None
        kind = value.get("type")
        value = {**value, "role": kind if kind in ("human", "ai", "system", "tool", "function") else role}
    extra = value.get("additional_kwargs")
    if not value.get("tool_calls") and isinstance(extra, Mapping) and extra.get("tool_calls"):
        value = {**value, "tool_calls": extra["tool_calls"]}
    return value


# ---- labels ----


class Graded(NamedTuple):
    """One score of a trace: a number, true or false, or a word."""

    score: bool | float | None
    label: str | None


def facts_of(scores: Mapping[str, Graded]) -> dict[str, Any]:
    """What scores say of success, for `episodes.read_label`: one of a known name, or the only one there is.

    A word that says it goes before a number, which grades it.
    """
    known = [name for name in LABELS if name in scores]
    names = [name for name in known if name in EXPLICIT_LABELS] or known or (list(scores) if len(scores) == 1 else [])
    if not names:
        return {}
    graded = scores[names[0]]
    found: dict[str, Any] = {}
    if graded.label is not None and word(graded.label) is not None:
        found["label"] = graded.label
    if graded.score is not None:
        found["success" if isinstance(graded.score, bool) else "score"] = graded.score
    return found


def unlabelled(what: str, scores: Mapping[str, Graded]) -> str:
    """Why scores, kept as metadata under the name `what`, say nothing of success."""
    if not scores:
        return f"Its trace has no {what}."
    first = next(iter(scores))
    key = "score" if scores[first].score is not None else "label"
    value = ">= 0.5" if key == "score" else '== "..."'
    return f"Its {what} are {', '.join(scores):.200}; name one: trajectories.label='{what}.{first}.{key} {value}'."


def ended(reason: Any) -> Failure | None:
    """The failure that the reason for which a model stopped stands for, if any."""
    return "no_answer" if isinstance(reason, str) and reason in FULL else None
