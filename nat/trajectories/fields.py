"""Fields of a record, as a rule names them (`reward.correct`, `rewards[0]`), and which of them could be a label."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from nat.core.rows.json_lines import shorten

_NAME = r"[\w@/-]+"
PATH = rf"{_NAME}(?:\.{_NAME}|\[(?:0|-?[1-9][0-9]{{0,5}})\])*"
MISSING: Final = object()

_IS_PATH = re.compile(PATH)
_PLACE = re.compile(r"0|-?[1-9][0-9]{0,5}")
_DEEPEST = 5  # levels below a record that are looked at for a label
_MOST_FIELDS = 400  # of a record that are looked at
_MOST_SHOWN = 8
_MOST_OF_LIST = 2  # places of a list that are looked at
# What holds the conversation, or what readers say of it.
_NO_FIELDS = {
    *("messages", "conversations", "conversation", "traj", "trajectory", "history", "steps", "turns", "tools"),
    *("prompt", "completion", "unlabelled", "left_out_parts", "unread_loss_keys", "preamble_messages"),
    *("label_from", "question_from", "final_observation", "tests_status"),
}
_SAYS_SUCCESS = re.compile(
    r"(?:^|_)ok$|succe|correct|solved|pass|reward|score|^acc|accura|^em$|exact_match|^win|^won$|label|verdict|grade|judg|outcome|"
    r"fail|result|value",
    re.I,
)
_SAYS_FAILURE = re.compile(r"fail|error|wrong|incorrect|unsolved|unresolved|reject|timeout|timed_out", re.I)
_SAYS_ELSE = re.compile(
    r"(?:^|_)(?:id|idx|index|seed|step|turn|token|time|duration|latency|second|cost|price|temperature|top_p|weight|"
    r"format|length|len|count|num|n|split|version|year|level|difficulty|stream|truncated|penalty|"
    r"answer|target|gold|pred|prediction|reference|truth)s?(?:_|$)",
    re.I,
)
_GOOD = {"success", "succeeded", "correct", "positive", "passed", "pass", "good", "right", "solved", "resolved"}
_GOOD |= {"yes", "c", "win", "won", "accepted", "true"}
_BAD = {"failure", "failed", "fail", "incorrect", "wrong", "negative", "bad", "unsolved", "unresolved", "no", "i"}
_BAD |= {"loss", "lost", "rejected", "false"}
_OPPOSITE = {"I": "C", "no": "yes", "No": "Yes", "incorrect": "correct", "unsolved": "solved", "unresolved": "resolved"}


class FieldFound(NamedTuple):
    """A field with a plain value. `rank` is lower for what is likelier to be a label, `rule` what would make it one."""

    rank: tuple[int, ...]
    path: str
    value: bool | int | float | str
    rule: str | None


def is_path(text: str) -> bool:
    """Whether a rule can name a field so."""
    return _IS_PATH.fullmatch(text) is not None


@lru_cache(maxsize=64)
def keys_of(path: str) -> tuple[str, ...]:
    return tuple(re.sub(r"\[(-?\d+)\]", r".\1", path).split("."))


def at(value: Any, keys: Sequence[str]) -> Any:
    """What stands under these keys, or MISSING; a key with dots in it goes before those it could be taken apart into.

    A key is a place where it meets a list: 0 the first, -1 the last.
    """
    if not keys:
        return value
    if isinstance(value, list):
        place = int(keys[0]) if _PLACE.fullmatch(keys[0]) else len(value)
        return at(value[place], keys[1:]) if -len(value) <= place < len(value) else MISSING
    if not isinstance(value, Mapping):
        return MISSING
    for length in range(len(keys), 0, -1):
        key = ".".join(keys[:length])
        if key in value and (found := at(value[key], keys[length:])) is not MISSING:
            return found
    return MISSING


def could_be_labels(record: Mapping[str, Any]) -> list[FieldFound]:
    """The plain values in a record that a rule can name, those first that are likeliest to say success.

    True or false, numbers from -1 to 1 and words such as correct or failed go before all else; among these, fields
    whose names speak of success.
    """
    found = []
    for number, (path, value) in enumerate(_plain(record)):
        if number == _MOST_FIELDS:
            break
        if is_path(path) and at(record, keys_of(path)) == value:
            found.append(_judged(path, value, number))
    return sorted(found)


def says_success(found: FieldFound) -> bool:
    """Whether a field is a label by its value and its name, as it stands."""
    name = keys_of(found.path)[-1]
    return _kind(found.value) < 3 and _SAYS_SUCCESS.search(name) is not None and _SAYS_FAILURE.search(name) is None


def as_label(value: Any) -> float | None:
    """What a value says as a label: 1 success, below that failure; None where it says nothing."""
    if isinstance(value, str):
        word = value.strip().lower()
        return 1.0 if word in _GOOD else 0.0 if word in _BAD else None
    return float(value) if isinstance(value, bool | int | float) and -1 <= value <= 1 else None


def named(record: Mapping[str, Any]) -> str:
    """Fields with their values, for a message; nothing where there is none."""
    found = could_be_labels(record)
    shown = [f"{field.path[:60]} = {shorten(_json(field.value), 30)}" for field in found[:_MOST_SHOWN]]
    return ", ".join(shown) + (", ..." if len(found) > _MOST_SHOWN else "")


def offered(record: Mapping[str, Any]) -> str | None:
    """The rule that the likeliest field suggests; None where no field looks like a label."""
    return next((field.rule for field in could_be_labels(record)[:1]), None)


def comparison(record: Mapping[str, Any], key: str) -> str | None:
    """A rule on the field that stands under `key` somewhere in a record; None where a rule cannot name it."""
    for path, value in _plain(record):
        if keys_of(path)[-1] == key and is_path(path) and at(record, keys_of(path)) == value:
            return f"{path} == {_json(value)}" if isinstance(value, str) else f"{path} >= 0.5"
    return None


def _plain(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and depth < _DEEPEST:
        for key, member in value.items():
            if key not in _NO_FIELDS:
                yield from _plain(member, f"{path}.{key}" if path else str(key), depth + 1)
    elif isinstance(value, list) and path and depth < _DEEPEST:
        for place, member in enumerate(value[:_MOST_OF_LIST]):
            yield from _plain(member, f"{path}[{place}]", depth + 1)
    elif isinstance(value, bool | int | float) or (isinstance(value, str) and 0 < len(value) <= 30 and path):
        yield path, value


def _judged(path: str, value: bool | int | float | str, number: int) -> FieldFound:
    names = [name for name in re.split(r"[.\[]", path) if not name.endswith("]")]
    kind = _kind(value)
    # The last names say most: `reward.format` is of a format.
    speaks = 0 if _SAYS_SUCCESS.search(names[-1]) else 1 if any(map(_SAYS_SUCCESS.search, names)) else 2
    if _SAYS_ELSE.search(names[-1]):
        speaks = 3
    rule = None
    if kind < 3 and (speaks < 2 or (speaks == 2 and kind < 2 and not isinstance(value, str))):
        rule = _rule(path, value, is_reversed=_SAYS_FAILURE.search(names[-1]) is not None)
    return FieldFound((int(kind == 3), speaks, kind, number), path, value, rule)


def _kind(value: bool | int | float | str) -> int:
    """0: true or false, 1: a word for them or 0 or 1, 2: a number from -1 to 1, 3: another value."""
    if isinstance(value, bool):
        return 0
    if isinstance(value, str):
        return 1 if value.strip().lower() in _GOOD | _BAD else 3
    return 1 if value in (0, 1) else 2 if -1 <= value <= 1 else 3


def _rule(path: str, value: bool | int | float | str, is_reversed: bool) -> str:
    """`is_reversed`: the field's name says the opposite of success."""
    if isinstance(value, bool) or (isinstance(value, str) and value.strip().lower() in ("true", "false")):
        return f"{path} == false" if is_reversed else path
    if isinstance(value, str):
        if value.strip().lower() in _GOOD:
            return f"{path} == {_json(value)}"
        opposite = _OPPOSITE.get(value)
        return f"{path} != {_json(value)}" if opposite is None else f"{path} == {_json(opposite)}"
    return f"{path} <= 0" if is_reversed else f"{path} >= 1"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
