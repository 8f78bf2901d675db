"""JSON Lines as people really have them: CRLF, a byte-order mark, empty lines, very long lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nat.types import RequestError

KINDS = {
    str: "text",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    (str, int): "text or a whole number",
    (str, int, float): "text or a number",
}


def read_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Stream `("file:line", object)`.

    Raises RequestError at a line that is not one JSON object in UTF-8, and for a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                where = f"{path}:{number}"
                line = _decode(raw, "utf-8-sig" if number == 1 else "utf-8", where)
                if line:
                    yield where, _object(line, where)
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}.") from None


def require(record: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str, remedy: str = "") -> Any:
    """`record[key]`, of the wanted type; raises RequestError that names file, line and key."""
    value = record.get(key)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        problem = "is missing" if key not in record else f"is {_shorten(json.dumps(value, ensure_ascii=False))}"
        raise RequestError(f"{where}: {key!r} {problem}; it must be {KINDS[kind]}.{remedy}")
    return value


def optional(record: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """`record[key]`, of the wanted type, or None where it is absent or null."""
    return None if record.get(key) is None else require(record, key, kind, where)


def require_question(record: Mapping[str, Any], where: str) -> str:
    question = require(record, "question", str, where)
    if not question.strip():
        raise RequestError(f"{where}: 'question' is empty; it must be the text that the agent was asked.")
    return question


def _decode(raw: bytes, encoding: str, where: str) -> str:
    try:
        return raw.decode(encoding).strip()
    except UnicodeDecodeError as error:
        raise RequestError(f"{where}: not UTF-8 ({error.reason} at byte {error.start}); convert the file.") from None


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{where}: not valid JSON: {error}\n  {_shorten(line)}") from None
    if not isinstance(value, dict):
        raise RequestError(f"{where}: a {type(value).__name__}, not an object {{...}}: {_shorten(line)}")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _shorten(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
