"""Records of any format, read as a mapping file says (`nat.trajectories.mapping`). A record and its mapping:

    {"run": 7, "result": {"solved": true}, "log": [{"who": "caller", "said": "Where is order 17?"},
        {"who": "bot", "said": "I look.", "does": [{"op": "find", "with": {"n": 17}}], "sees": "sent yesterday"},
        {"who": "bot", "said": "It was sent yesterday."}]}

    turns: log
    role: who
    content: said
    calls: does
    name: op
    arguments: with
    observation: sees
    label: result.solved
    roles: {caller: user, bot: assistant}

`turns`, `role`, `label`, `task`, `question` and `id` must find something in every record in which they are looked for,
and a turn must hold something at all; else the record is a bad row. What a record does not say is looked for in the
object that holds it. What is not mapped is found where most formats have it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nat.core.rows.bad import BadRow
from nat.core.rows.json_records import CONTAINERS, Record
from nat.trajectories.formats.acting import calls_of, observation_text, with_action
from nat.trajectories.formats.conversations import Conversation, conversation, tools_in
from nat.trajectories.formats.episodes import PREDICTIONS, REFERENCES, answer_text, facts, read_label, without_label
from nat.trajectories.formats.turns import ROLES, Turns, text_of
from nat.trajectories.mapping import Finder, path_of
from nat.types import Message

NAMES_OF_TURNS = ("content", "reasoning", "calls", "observation")


def conversations(finder: Finder, needs_label: bool, where: str, record: Record) -> Iterable[Conversation]:
    """The conversations of a record, or of those that `records` finds in it."""
    inside = list(_records(finder, where, record))
    for number, inner in enumerate(inside):
        yield _conversation(finder, needs_label, where, inner, f":{number}" if len(inside) > 1 else "")


def _records(finder: Finder, where: str, record: Record) -> Iterator[Record]:
    value = record.value
    if not finder.has("records"):
        yield record
        return
    found = _find(finder, "records", value, where)
    if found is None and _find(finder, "records", {key: [value] for key in CONTAINERS}, where) is not None:
        found = [value]  # what stands under one of CONTAINERS comes record by record already
    if isinstance(found, Mapping):
        found = list(found.values()) if all(isinstance(one, dict) for one in found.values()) else [found]
    if not isinstance(found, list) or not found:
        raise _wrong(finder, "records", found, "a list of objects", value, where)
    for one in found:
        if not isinstance(one, dict):
            raise _wrong(finder, "records", one, "objects", value, where)
        outer = record.outer if one is value else {**record.outer, **value}
        yield Record(record.key, one, outer, record.path)


def _conversation(finder: Finder, needs_label: bool, where: str, record: Record, suffix: str) -> Conversation:
    left_out: Counter[str] = Counter()
    turns = _turns(finder, record.value, where)
    messages: list[Message] = []
    for number, turn in enumerate(turns, 1):
        messages += _messages(finder, turn, left_out, where, is_last=number == len(turns))
    given: dict[str, Any] = {"suffix": suffix, "facts": _facts(finder, needs_label, record, where)}
    for key in ("question", "id", "task"):
        if finder.has(key):
            given[key] = _name(finder, key, record, where)
    first = next((i for i, message in enumerate(messages) if message.role == "assistant"), len(messages))
    if "question" in given and all(message.role != "user" for message in messages[:first]):
        messages.insert(first, Message("user", given["question"]))
        given["prompt"] = first + 1
    tools = _find_around(finder, "tools", record, where)
    if tools is not None:
        given["tools"] = tools_in(tools)
        if given["tools"] is None:
            raise _wrong(finder, "tools", tools, "a list of objects", record.value, where)
    # What became messages is no metadata; all else stays there, where a label rule may name it.
    rest: Any = record.value
    for key in ("turns",) if finder.has("turns") else NAMES_OF_TURNS:
        if finder.has(key):
            rest = _without(rest, path_of(getattr(finder.file, key)))
    return conversation(where, record._replace(value=rest), Turns(tuple(messages), left_out, ()), (), **given)


def _without(value: Any, path: tuple[str, ...]) -> Any:
    """An object without what stands at a path; a copy as far down as the path goes."""
    if not path or not isinstance(value, Mapping) or path[0] not in value:
        return value
    rest = {key: member for key, member in value.items() if key != path[0]}
    if len(path) == 1:
        return rest
    return {**rest, path[0]: _without(value[path[0]], path[1:])}


# ---- turns ----


def _turns(finder: Finder, value: Mapping[str, Any], where: str) -> list[Any]:
    if not finder.has("turns"):
        return [value]
    found = _find(finder, "turns", value, where)
    if isinstance(found, Mapping):
        found = [found]
    if not isinstance(found, list):
        raise _wrong(finder, "turns", found, "a list", value, where)
    if not found:
        raise BadRow(
            where, "empty_conversation", f"{finder.named('turns')} finds an empty list: the agent never acted."
        )
    return found


def _messages(finder: Finder, turn: Any, left_out: Counter[str], where: str, is_last: bool) -> list[Message]:
    role = _role(finder, turn, where)
    if role == "skip":
        left_out["turn"] += 1
        return []
    given = _find(finder, "content", turn, where)
    if role == "tool":
        return [Message("tool", observation_text(given))]
    content = None if given is None else _text(finder, "content", given, turn, where)
    if role != "assistant":
        if content is None:
            raise _wrong(finder, "content", None, "text", turn, where)
        return [Message("system" if role == "system" else "user", content)]
    thought = _find(finder, "reasoning", turn, where)
    reasoning = "" if thought is None else _text(finder, "reasoning", thought, turn, where)
    calls, action = _calls(finder, turn, where)
    if action is not None:
        content = with_action(content or "", action)
    if content is None and not reasoning and not calls:
        raise _wrong(finder, "content" if finder.has("content") else "calls", None, "something", turn, where)
    train, weight = _loss(finder, turn, where)
    seen = _find(finder, "observation", turn, where)
    each = seen if isinstance(seen, list) and len(seen) == len(calls) > 1 else [] if seen is None else [seen]
    texts = [observation_text(one) for one in each]
    return [
        Message("assistant", content or "", train, calls, reasoning, weight),
        *(Message("tool", text) for text in texts if text or not is_last),
    ]


def _role(finder: Finder, turn: Any, where: str) -> str:
    """The role of a turn, in `nat`'s words, or "skip"."""
    if not finder.has("role"):
        return "assistant"
    found = _find(finder, "role", turn, where)
    if found is None or isinstance(found, list | Mapping):
        raise _wrong(finder, "role", found, "text", turn, where)
    name = str(found).lower() if isinstance(found, bool) else str(found)  # as YAML and JSON write it
    role = finder.file.roles.get(name) or ROLES.get(name) or ROLES.get(name.lower())
    if role is None:
        problem = f"{finder.named('role')} finds {name!r:.60}, which is no role that is known."
        remedy = f"Say in {finder.path or 'the mapping'} what it is, e.g. roles: {{{name:.60}: assistant}}."
        raise BadRow(where, "wrong_value", f"{problem}\n{remedy}")
    return role


def _calls(finder: Finder, turn: Any, where: str) -> tuple[tuple[Mapping[str, Any], ...], str | None]:
    """The calls of a turn, or its text action."""
    if not finder.has("calls"):
        name = _find(finder, "name", turn, where)
        return ((), None) if name is None else ((_call(finder, turn, where),), None)
    found = _find(finder, "calls", turn, where)
    if found is None or found in ("", [], {}):
        return (), None
    if finder.has("name"):
        return tuple(_call(finder, call, where) for call in (found if isinstance(found, list) else [found])), None
    try:
        return calls_of(found, None, where)
    except BadRow:
        raise _wrong(finder, "calls", found, "calls with names (say where: name, arguments)", turn, where) from None


def _call(finder: Finder, call: Any, where: str) -> Mapping[str, Any]:
    name = _find(finder, "name", call, where)
    if not isinstance(name, str) or not name:
        raise _wrong(finder, "name", name, "the name of a tool", call, where)
    return {"name": name, "arguments": _find(finder, "arguments", call, where)}


def _loss(finder: Finder, turn: Any, where: str) -> tuple[bool, float]:
    """Whether a turn carries loss, and what that counts."""
    found = _find(finder, "train", turn, where)
    if found is None:
        return True, 1.0
    if not isinstance(found, bool | int | float) or not 0 <= found < 2**63:
        raise _wrong(finder, "train", found, "true, false or a weight", turn, where)
    return found != 0, float(found) or 1.0


# ---- the record ----


def _facts(finder: Finder, needs_label: bool, record: Record, where: str) -> dict[str, Any]:
    found = facts(record.value)
    if finder.has("label"):
        said = _find_around(finder, "label", record, where)
        found = without_label(found)
        if said is None and needs_label:
            raise _wrong(finder, "label", None, "true or false", record.value, where, reason="no_label")
        if said is not None:
            try:
                read_label({"success": said}, None, where)
            except BadRow:
                compared = f"Compare it, e.g. label: {finder.file.label} >= `0.5`."
                problem = f"{finder.named('label')} finds {said!r:.60}; it must be true, false or a number from 0 to 1."
                raise BadRow(where, "wrong_value", f"{problem}\n{compared}") from None
            found["success"] = said
    for key, keys in (("prediction", PREDICTIONS), ("reference", REFERENCES)):
        if finder.has(key):
            said = _find_around(finder, key, record, where)
            try:
                text = answer_text(said, key, where)
            except BadRow:
                raise _wrong(finder, key, said, "text or a number", record.value, where) from None
            found = {name: fact for name, fact in found.items() if name not in keys}
            if text is not None:
                found[key] = text
    return found


def _name(finder: Finder, key: str, record: Record, where: str) -> str:
    """The text, or number, that the expression of a key must find."""
    found = _find_around(finder, key, record, where)
    if isinstance(found, bool) or not isinstance(found, str | int | float) or not str(found).strip():
        raise _wrong(finder, key, found, "text or a number", record.value, where)
    return str(found)


# ---- finding ----


def _find(finder: Finder, key: str, value: Any, where: str) -> Any:
    try:
        return finder.find(key, value)
    except ValueError as error:
        raise BadRow(where, "wrong_value", f"{error}.") from None


def _find_around(finder: Finder, key: str, record: Record, where: str) -> Any:
    """What an expression finds in a record, or else in what holds it."""
    found = _find(finder, key, record.value, where)
    return _find(finder, key, record.outer, where) if found is None and record.outer else found


def _text(finder: Finder, key: str, found: Any, turn: Any, where: str) -> str:
    if isinstance(found, int | float) and not isinstance(found, bool):
        return str(found)
    try:
        return text_of(found, where)
    except BadRow:
        raise _wrong(finder, key, found, "text", turn, where) from None


def _wrong(finder: Finder, key: str, found: Any, wanted: str, place: Any, where: str, reason: Any = None) -> BadRow:
    """The bad row in which an expression finds nothing, or something else than it must."""
    fields = ", ".join(map(str, place)) if isinstance(place, Mapping) else repr(place)
    said = "nothing" if found is None else f"{found!r:.60}"
    problem = f"{finder.named(key):.200} finds {said}; it must find {wanted}.\nThe fields there: {fields:.200}."
    return BadRow(where, reason or ("missing_value" if found is None else "wrong_value"), problem)
