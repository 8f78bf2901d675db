"""Records of a JSON file in any of three shapes, each with the line on which it begins.

[{...}, {...}]             a list
{"6238": {...}, ...}       an object of records by id
{...}\\n{...}               JSON Lines
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from nat.trajectories.json_lines import BadRow, OnBad, check_text, read_objects, readable, shorten
from nat.types import RequestError

_SPACE = re.compile(r"[ \t\r\n]*")


class Record(NamedTuple):
    key: str | None  # under which an object of records holds it
    value: dict[str, Any]


class _Raw(NamedTuple):
    key: str | None
    text: str
    value: Any
    constants: tuple[str, ...]  # NaN and the like, which Python writes but JSON does not know


def read_records(path: Path, on_bad: OnBad) -> Iterator[tuple[str, Record]]:
    """Stream `("file:line", record)`; a record that is no JSON object goes to `on_bad`.

    Raises RequestError for a file that cannot be read, and where a list or an object of records is broken, since the
    records after that place cannot be found.
    """
    try:
        first = _first_line(path)
        if not first:
            return
        if first[0] == "{" and not _is_broken_or_holds_records(first):
            for where, value in read_objects(path, on_bad):
                yield where, Record(None, value)
            return
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise RequestError(f"{path}:{line}: not UTF-8 ({error.reason}); convert the file.") from None
    yield from readable(_members(text, path), _record, on_bad)


def _first_line(path: Path) -> str:
    """The first line that is not empty; what is not UTF-8 in it is found by those who read it for good."""
    with path.open("rb") as file:
        lines = (line.decode("utf-8", errors="replace").strip("\ufeff \t\r\n") for line in file)
        return next((line for line in lines if line), "")


def _is_broken_or_holds_records(first_line: str) -> bool:
    """Whether a file that begins with this line is one object over several lines, or one of records by id."""
    try:
        value = json.loads(first_line)
    except (ValueError, RecursionError):
        return True
    return bool(value) and all(isinstance(member, dict) for member in value.values())


def _record(where: str, raw: _Raw) -> Record:
    if raw.constants:
        raise BadRow(where, "not_json", f"{raw.constants[0]} is not a JSON value.")
    if not isinstance(raw.value, dict):
        kind = type(raw.value).__name__
        raise BadRow(where, "not_json", f"a {kind}, not an object {{...}}: {shorten(raw.text)}")
    check_text(raw.text, where)
    return Record(raw.key, raw.value)


def _members(text: str, path: Path) -> Iterator[tuple[str, _Raw]]:
    """The members of the list or object that `text` is, one after another."""
    constants: list[str] = []
    decoder = json.JSONDecoder(parse_constant=constants.append)
    position = _after_space(text, 0)
    closing = {"[": "]", "{": "}"}.get(text[position])
    line, counted = 1, 0
    try:
        if closing is None:
            raise json.JSONDecodeError("neither a list [...] nor an object {...}", text, position)
        position = _after_space(text, position + 1)
        while not text.startswith(closing, position):
            line, counted = line + text.count("\n", counted, position), position
            key = None
            if closing == "}":
                key, position = decoder.raw_decode(text, position)
                if not isinstance(key, str):
                    raise json.JSONDecodeError("a record's id must be text in quotes", text, counted)
                position = _after_space(text, _after(":", text, position))
            start = position
            value, position = decoder.raw_decode(text, start)
            yield f"{path}:{line}", _Raw(key, text[start:position], value, tuple(constants))
            constants.clear()
            position = _after_space(text, position)
            if not text.startswith(closing, position):
                position = _after_space(text, _after(",", text, position))
        rest = _after_space(text, position + 1)
        if rest < len(text):
            raise json.JSONDecodeError(f"more after the closing {closing!r}", text, rest)
    except json.JSONDecodeError as error:
        at = text[error.pos : error.pos + 80].partition("\n")[0]
        raise RequestError(f"{path}:{error.lineno}: not valid JSON: {error.msg}\n  {at}") from None
    except RecursionError:
        raise RequestError(f"{path}:{line}: not valid JSON: nested too deeply.") from None


def _after(expected: str, text: str, position: int) -> int:
    position = _after_space(text, position)
    if not text.startswith(expected, position):
        raise json.JSONDecodeError(f"expecting {expected!r}", text, position)
    return position + 1


def _after_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    assert match is not None  # it matches the empty text
    return match.end()
