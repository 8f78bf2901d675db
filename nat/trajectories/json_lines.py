"""JSON Lines as people really have them: CRLF, a byte-order mark, empty lines, very long lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nat.types import RequestError


def read_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Stream `("file:line", object)`; raises RequestError at a line that is not one JSON object in UTF-8."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            where = f"{path}:{number}"
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise RequestError(
                    f"{where}: not UTF-8 ({error.reason} at byte {error.start}); convert the file."
                ) from None
            if not line:
                continue
            try:
                value = json.loads(line, parse_constant=_refuse_constant)
            except (ValueError, RecursionError) as error:
                raise RequestError(f"{where}: not valid JSON: {error}\n  {_shorten(line)}") from None
            if not isinstance(value, dict):
                raise RequestError(f"{where}: a {type(value).__name__}, not an object {{...}}: {_shorten(line)}")
            yield where, value


def require(record: Mapping[str, Any], key: str, kind: type, where: str, remedy: str = "") -> Any:
    """`record[key]`, of the wanted type; raises RequestError that names file, line and key."""
    value = record.get(key)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        problem = "is missing" if key not in record else f"is {_shorten(json.dumps(value, ensure_ascii=False))}"
        names = {str: "text", bool: "true or false", dict: "an object", list: "a list"}
        raise RequestError(f"{where}: {key!r} {problem}; it must be {names[kind]}.{remedy}")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _shorten(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
