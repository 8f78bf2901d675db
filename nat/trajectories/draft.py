"""A first draft of the mapping of a file that no format recognises, from the shape of its first records.

    {"case": "a7", "solved": true, "log": [{"who": "caller", "said": "Where is order 17?"}, ...]}

becomes

    turns: log
    role: who
    content: said
    label: solved
    task: case
    roles: {caller: user, bot: assistant}

The list of objects with most text is the turns, a member of theirs with few values the role, a field of true and false
the label. Whether the draft reads the records says `Draft.reads`: nothing is promised of what it means.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from pydantic import TypeAdapter, ValidationError

from nat.agents.calls import NAMES, read_call
from nat.core.rows.bad import BadRow
from nat.core.rows.json_records import Record
from nat.trajectories.formats import mapped
from nat.trajectories.formats.acting import ACTIONS, INPUTS, OBSERVATIONS, THOUGHTS, WRITTEN
from nat.trajectories.formats.conversations import QUESTIONS, QUESTIONS_IF_TEXT, TASKS
from nat.trajectories.formats.episodes import (
    EXPLICIT_LABELS,
    GRADES,
    NUMBER_LABELS,
    PREDICTIONS,
    REFERENCES,
    WORD_LABELS,
)
from nat.trajectories.formats.turns import CONTENT_KEYS, REASONING_KEYS, ROLE_KEYS, ROLES
from nat.trajectories.mapping import MappingFile, finder

LONGEST_KEY = 40  # characters of a key that a draft names
DEEPEST = 3  # keys within one another that lead to what a draft names
MOST_RECORDS = 20  # of a container, that are looked at
MOST_TURNS = 2000  # that are looked at
MOST_MEMBERS = 300  # of an object, that are looked at
FEW = 8  # values at most of a member that names roles
LONGEST_ROLE = 30  # characters of a role's name
MOST_ROLES = 5  # names that a draft explains
_WORDS_OF_ROLES = (  # of which the name of a role is one, or holds one
    ("tool", ("tool", "env", "environment", "observation", "result", "function", "executor", "observe")),
    ("system", ("system", "sys", "instruction", "developer")),
    ("assistant", ("assistant", "agent", "bot", "ai", "model", "llm", "gpt", "policy", "solver", "actor", "reply")),
    ("user", ("user", "human", "customer", "caller", "client", "question", "task", "prompt", "ask")),
)
_ROLE_NAMES = (*ROLE_KEYS, "speaker", "who", "sender", "author", "source", "actor", "type", "kind", "name")
_CONTENT_NAMES = (*CONTENT_KEYS, "message", "said", "utterance", "body", "output", *WRITTEN)
_ANSWER_NAMES = ("response", "output", "completion", "generation", "answer", "solution", "prediction", "text")
_ASKED_NAMES = (*QUESTIONS, *QUESTIONS_IF_TEXT, "prompt", "input", "objective", "user_query", "request")
_LABEL_NAMES = (*EXPLICIT_LABELS, *NUMBER_LABELS, *WORD_LABELS, *GRADES)
_WORDS = re.compile(r"[a-z]+")

Path: TypeAlias = tuple[str, ...]


class Draft(NamedTuple):
    """A mapping as YAML, how many of the records it reads, and whether it names a label."""

    text: str
    reads: int
    has_label: bool


def draft(records: Sequence[Mapping[str, Any]]) -> Draft | None:
    """A mapping of records like these; None where they hold nothing that looks like what an agent did."""
    said = _with_records(records) or _of_records(records)
    if said is None:
        return None
    try:
        file = TypeAdapter(MappingFile).validate_python(MappingFile(**said))
    except (ValidationError, TypeError):
        return None
    find = finder(file)
    reads = 0
    for number, record in enumerate(records, 1):
        try:
            reads += bool(list(mapped.conversations(find, False, f"record {number}", Record(None, dict(record)))))
        except BadRow:
            continue
    return Draft(_yaml(said), reads, "label" in said) if reads else None


def _with_records(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The mapping where a single object holds the records: objects, several of which hold lists of turns."""
    if len(records) != 1:
        return None
    for path, value in _members(records[0]):
        if not isinstance(value, list) or len(value) < 2 or not all(isinstance(one, Mapping) for one in value):
            continue
        if _turns(value[:MOST_RECORDS]) is not None and (said := _of_records(value[:MOST_RECORDS])) is not None:
            return {"records": _expression(path), **said}
    return None


def _of_records(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    values = [dict(islice(_members(record), MOST_MEMBERS)) for record in records]
    said: dict[str, Any] = {}
    path = _turns(records)
    if path is None:
        answer = _named(values, _ANSWER_NAMES, _is_long_text)
        question = _named(values, _ASKED_NAMES, _is_long_text, not_in=(answer,))
        if question is None and answer is not None and _label(values) is not None:
            question = _longest_text(values, not_in=(answer,))
        if answer is None or question is None:
            return None
        said["content"] = _expression(answer)
    else:
        said["turns"] = _expression(path)
        turns = [turn for value in values for turn in value.get(path) or [] if isinstance(turn, Mapping)]
        of_turns = _of_turns(turns[:MOST_TURNS])
        if of_turns is None:
            return None
        said |= of_turns
        answer, question = None, _named(values, _ASKED_NAMES, _is_text)
        if question is None and "role" not in said:
            question = _longest_text(values)
            if question is None:
                return None
    taken = [path for path in (answer, question) if path is not None]
    if question is not None:
        said["question"] = _expression(question)
    label = _label(values)
    found = {
        "label": label,
        "task": _task(values),
        "id": _id(values),
        "tools": _named(values, ("tools", "functions", "available_tools", "tool_defs"), _is_tools),
        "reference": _named(values, REFERENCES, _is_answer, not_in=(*taken, label)),
        "prediction": _named(values, (*PREDICTIONS, "final_answer"), _is_answer, not_in=(*taken, label)),
    }
    said |= {key: _expression(path) for key, path in found.items() if path is not None}
    roles = said.pop("roles", None)
    return {**said, "roles": roles} if roles else said


# ---- turns ----


def _turns(records: Sequence[Mapping[str, Any]]) -> Path | None:
    """Where most records hold a list of objects with text, the one with most of it."""
    sizes: Counter[Path] = Counter()
    held: Counter[Path] = Counter()
    for record in records:
        for path, value in islice(_members(record), MOST_MEMBERS):
            if not isinstance(value, list) or not value or not all(isinstance(turn, Mapping) for turn in value):
                continue
            texts = [text for turn in value[:50] for text in turn.values() if isinstance(text, str)]
            if texts and path[-1] not in ("tools", "functions"):
                held[path] += 1
                sizes[path] += sum(map(len, texts)) + 50 * len(value)
    likely = [path for path in held if 2 * held[path] > len(records)]
    return max(likely, key=lambda path: sizes[path], default=None)


def _of_turns(turns: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    values = [dict(islice(_members(turn), MOST_MEMBERS)) for turn in turns]
    said: dict[str, Any] = {}
    role = _role(values)
    if role is not None:
        said["role"] = _expression(role)
        said["roles"] = _roles([value[role] for value in values if isinstance(value.get(role), str)])
    calls = _calls(values)
    reasoning = _named(values, REASONING_KEYS if role is not None else THOUGHTS, _is_text, rarely=True)
    seen = _named(values, OBSERVATIONS, _is_seen, rarely=True, not_in=(role, calls, reasoning))
    taken = (role, calls, reasoning, seen)
    content = _named(values, _CONTENT_NAMES, _is_text_or_parts, rarely=True, not_in=taken)
    if content is None and (role is not None or (calls is None and reasoning is None)):
        content = _longest_text(values, not_in=taken)
    if role is None and content is None and reasoning is not None:
        content, reasoning = reasoning, None
    others = [path for path in _texts(values) if path not in (role, calls, reasoning, seen, content)]
    if role is None and others and seen is None:  # thought, action and observation are written in this order
        seen = others.pop()
    elif role is not None and calls is not None:  # what stands with calls alone: thoughts before them, results after
        acting = [value for value in values if value.get(calls)]
        order = [path for path in (acting[0] if acting else {}) if path == calls or path in others]
        alone = [p for p in order if all(value.get(calls) for value in values if value.get(p))]
        place = order.index(calls) if calls in order else len(order)
        seen = seen or next((path for path in alone if order.index(path) > place), None)
        reasoning = reasoning or next((path for path in alone if order.index(path) < place), None)
    if role is None and others and calls is None:
        calls = others[0]
    for key, path in (("content", content), ("reasoning", reasoning)):
        if path is not None:
            said[key] = _expression(path)
    if calls is not None:
        said["calls"] = _expression(calls)
        said |= _names_of_calls([value.get(calls) for value in values])
    if seen is not None:
        said["observation"] = _expression(seen)
    return said if content is not None or calls is not None else None


def _texts(values: Sequence[Mapping[Path, Any]]) -> list[Path]:
    """The members of turns that are text, in their order, but for ids and times."""
    paths = dict.fromkeys(path for value in values for path in value if len(path) == 1)
    skipped = re.compile(r"(?:.*[_-])?(?:ids?|uuid|time|timestamp|date|status|model|type|at)", re.I)
    kept = [path for path in paths if not skipped.fullmatch(path[0])]
    return [path for path in kept if any(map(_is_text, (value.get(path) for value in values)))]


def _role(values: Sequence[Mapping[Path, Any]]) -> Path | None:
    """The member whose values are few and come again: of those, one called so, or one with names of roles."""
    likely = []
    for path in dict.fromkeys(path for value in values for path in value if len(path) <= 2):
        given = [value[path] for value in values if isinstance(value.get(path), str)]
        names = Counter(given)
        few = 1 < len(names) <= FEW and all(0 < len(name) <= LONGEST_ROLE and name.isprintable() for name in names)
        if not few or len(given) < 0.9 * len(values):
            continue
        known = sum(_guessed(name) is not None for name in names)
        if path[len(path) - 1] in _ROLE_NAMES or known > len(names) / 2:
            likely.append((-known, _place(path[len(path) - 1], _ROLE_NAMES), path))
    return min(likely)[2] if likely else None


def _roles(names: Sequence[str]) -> dict[str, str]:
    """What names that `nat` does not know may mean: by their words, else the first asks and the rest answer."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if name not in ROLES and name.lower() not in ROLES:
            found[name] = _guessed(name) or ""
    known = {ROLES.get(name) or ROLES.get(name.lower()) or found[name] for name in dict.fromkeys(names)}
    for name, guess in found.items():
        if not guess:
            found[name] = next((role for role in ("user", "assistant") if role not in known), "tool")
            known.add(found[name])
    return dict(list(found.items())[:MOST_ROLES])


def _guessed(name: str) -> str | None:
    if (role := ROLES.get(name) or ROLES.get(name.lower())) is not None:
        return role
    words = _WORDS.findall(name.lower())
    return next((role for role, of_role in _WORDS_OF_ROLES if any(word in of_role for word in words)), None)


def _calls(values: Sequence[Mapping[Path, Any]]) -> Path | None:
    named = _named(values, (*ACTIONS, "calls", "call", "tools", "tool"), _is_call, rarely=True)
    if named is not None:
        return named
    paths = dict.fromkeys(path for value in values for path in value if len(path) == 1)
    return next((path for path in paths if _share(values, path, _is_call_object) > 0), None)


def _names_of_calls(given: Sequence[Any]) -> dict[str, str]:
    """Where name and arguments stand in calls, unless they are called as everywhere."""
    calls = [call for one in given for call in (one if isinstance(one, list) else [one]) if isinstance(call, Mapping)]
    if not calls or all(_is_known_call(call) for call in calls):
        return {}
    members = [dict(islice(_members(call), MOST_MEMBERS)) for call in calls]
    name = _named(members, (*NAMES, "op", "action", "action_type", "type", "api", "command", "id"), _is_name)
    if name is None:
        paths = dict.fromkeys(path for member in members for path in member if len(path) == 1)
        name = next((path for path in paths if _share(members, path, _is_name) == 1), None)
    if name is None:
        return {}
    arguments = _named(members, INPUTS, lambda value: value is not None, rarely=True, not_in=(name,))
    if arguments is None:
        paths = dict.fromkeys(path for member in members for path in member if len(path) == 1 and path != name)
        arguments = next((p for p in paths if _share(members, p, lambda value: isinstance(value, Mapping)) > 0), None)
    return {"name": _expression(name), **({"arguments": _expression(arguments)} if arguments is not None else {})}


def _is_known_call(call: Mapping[str, Any]) -> bool:
    read = read_call(call)
    return read is not None and (read.arguments is not None or len(call) == 1)


# ---- fields of a record ----


def _label(values: Sequence[Mapping[Path, Any]]) -> Path | None:
    """A field of true and false, or of 0 and 1: one called so, else the only kind of field that it can be."""
    named = _named(values, _LABEL_NAMES, _is_label)
    if named is not None:
        return named
    paths = dict.fromkeys(path for value in values for path in value)
    is_two = [path for path in paths if _share(values, path, lambda value: isinstance(value, bool)) > 0.9]
    is_two += [path for path in paths if _share(values, path, _is_zero_or_one) > 0.9]
    differs = [path for path in is_two if len({bool(value[path]) for value in values if path in value}) > 1]
    return (differs or is_two or [None])[0]


def _task(values: Sequence[Mapping[Path, Any]]) -> Path | None:
    """What names a task: a field called so, or an id that comes again."""
    named = _named(values, (*TASKS, "task_name", "task", "case"), _is_id)
    if named is not None:
        return named
    return next((path for path in _ids(values) if len({value.get(path) for value in values}) < len(values)), None)


def _id(values: Sequence[Mapping[Path, Any]]) -> Path | None:
    named = [path for path in _ids(values) if len({value.get(path) for value in values}) == len(values)]
    of_runs = [path for path in named if path[-1] not in TASKS]
    return next(iter(sorted(of_runs, key=lambda path: path != ("id",))), None) if len(values) > 1 else None


def _ids(values: Sequence[Mapping[Path, Any]]) -> Iterator[Path]:
    for path in dict.fromkeys(path for value in values for path in value if len(path) == 1):
        words = re.split(r"[_\W]+", path[-1].lower())
        is_id = path[-1].endswith("Id") or words[-1] in ("id", "uuid", "uid", "idx", "index", "key", "run", "number")
        if is_id and _share(values, path, _is_id) == 1:
            yield path


# ---- finding ----


def _members(value: Mapping[str, Any], depth: int = DEEPEST) -> Iterator[tuple[Path, Any]]:
    """What stands in an object and the objects within it, by the keys that lead there."""
    for key, member in value.items():
        if not key or len(key) > LONGEST_KEY or not key.isprintable():
            continue
        yield (key,), member
        if isinstance(member, Mapping) and depth > 1:
            yield from (((key, *path), inner) for path, inner in _members(member, depth - 1))


def _named(
    values: Sequence[Mapping[Path, Any]],
    names: Sequence[str],
    fits: Any,
    rarely: bool = False,
    not_in: Iterable[Path | None] = (),
) -> Path | None:
    """The member with the first of these names that fits in (almost) all values, or in some; the least deep one."""
    taken = set(not_in)
    paths = dict.fromkeys(path for value in values for path in value)
    likely = [path for path in paths if path[-1].lower() in names and path not in taken]
    for path in sorted(likely, key=lambda path: (_place(path[-1].lower(), names), len(path))):
        present = [value for value in values if value.get(path) not in (None, "", [], {})]
        share = _share(values, path, fits)
        if present and (share >= 0.9 if not rarely else all(fits(value[path]) for value in present)):
            return path
    return None


def _longest_text(values: Sequence[Mapping[Path, Any]], not_in: Iterable[Path | None] = ()) -> Path | None:
    """The text of several words that is longest by far, and differs from value to value."""
    taken = set(not_in)
    sizes: Counter[Path] = Counter()
    for path in dict.fromkeys(path for value in values for path in value if path not in taken):
        texts = [value[path] for value in values if isinstance(value.get(path), str)]
        several = sum(len(text.split()) > 1 for text in texts)
        if 2 * len(texts) > len(values) and 2 * several > len(texts):
            sizes[path] = sum(map(len, texts)) + 1
    return max(sizes, key=lambda path: sizes[path], default=None)


def _share(values: Sequence[Mapping[Path, Any]], path: Path, fits: Any) -> float:
    return sum(path in value and bool(fits(value[path])) for value in values) / len(values) if values else 0.0


def _place(name: str, names: Sequence[str]) -> int:
    return names.index(name) if name in names else len(names)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_long_text(value: Any) -> bool:
    return _is_text(value) and len(value.split()) > 1


def _is_text_or_parts(value: Any) -> bool:
    is_parts = isinstance(value, list) and all(isinstance(part, Mapping) and "type" in part for part in value)
    return isinstance(value, str) or value is None or is_parts


def _is_seen(value: Any) -> bool:
    return isinstance(value, str | list | Mapping)


def _is_call(value: Any) -> bool:
    return _is_text(value) or _is_call_object(value) or value in (None, "", [])


def _is_call_object(value: Any) -> bool:
    calls = value if isinstance(value, list) else [value]
    return bool(calls) and all(isinstance(call, Mapping) and any(map(_is_name, call.values())) for call in calls)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.:/-]{0,60}", value) is not None


def _is_label(value: Any) -> bool:
    if isinstance(value, str):
        return value.lower() in ("success", "failure", "true", "false", "pass", "fail", "passed", "failed")
    return isinstance(value, bool | int | float) and 0 <= value <= 1


def _is_zero_or_one(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value in (0, 1)


def _is_id(value: Any) -> bool:
    is_name = isinstance(value, str) and 0 < len(value) <= 200 and len(value.split()) == 1
    return is_name or (isinstance(value, int) and not isinstance(value, bool))


def _is_answer(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _is_tools(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(tool, Mapping) for tool in value)


# ---- writing ----


def _expression(path: Path) -> str:
    plain = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
    quoted = (key.replace("\\", "\\\\").replace('"', '\\"') for key in path)
    return ".".join(key if plain.fullmatch(key) else f'"{key}"' for key in quoted)


def _yaml(said: Mapping[str, Any]) -> str:
    import yaml

    lines = {key: value for key, value in said.items() if key != "roles"}
    text = yaml.safe_dump(lines, sort_keys=False, width=10**6, allow_unicode=True)
    if "roles" in said:
        text += "roles: " + yaml.safe_dump(said["roles"], default_flow_style=True, width=10**6, allow_unicode=True)
    return text.rstrip("\n")
