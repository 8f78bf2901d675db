"""JSON Lines as people really have them: CRLF, a byte-order mark, empty lines, very long lines, cut or packed files.

A row that cannot be used is a `BadRow`; what becomes of it says the `on_bad` that every reader takes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from nat.core.rows import sources
from nat.core.rows.bad import BadRow, OnBad, refuse

DEEPEST = 100  # levels of lists and objects within one another
Row = TypeVar("Row")
Made = TypeVar("Made")

KINDS = {
    str: "text",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    (str, int): "text or a whole number",
    (str, int, float): "text or a number",
}


def readable(
    rows: Iterable[tuple[str, Row]], make: Callable[[str, Row], Made], on_bad: OnBad
) -> Iterator[tuple[str, Made]]:
    """`("file:line", make(where, row))` of every row that `make` does not raise BadRow for."""
    for where, row in rows:
        try:
            made = make(where, row)
        except BadRow as bad:
            on_bad(bad)
            continue
        yield where, made


def read_objects(path: Path, on_bad: OnBad = refuse) -> Iterator[tuple[str, dict[str, Any]]]:
    """Stream `("file:line", object)` of JSON Lines or a gzip of them.

    A line that is not one JSON object in UTF-8 goes to `on_bad`, and so does the place from which a damaged gzip cannot
    be read. Raises RequestError for a file that cannot be read.
    """
    number = 0
    try:
        for number, raw in sources.lines(path):
            where = f"{path}:{number}"
            try:
                value = _line(where, raw)
            except BadRow as bad:
                on_bad(bad)
                continue
            if value is not None:
                yield where, value
    except sources.Broken as broken:
        on_bad(BadRow(f"{path}:{number + 1}", "broken_file", f"{broken}; what follows cannot be read."))


def require(record: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str, remedy: str = "") -> Any:
    """`record[key]`, of the wanted type; raises BadRow that names file, line and key."""
    value = record.get(key)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        problem = "is missing" if key not in record else f"is {shorten(json.dumps(value, ensure_ascii=False))}"
        reason = "wrong_value" if key in record else "missing_value"
        raise BadRow(where, reason, f"{key!r} {problem}; it must be {KINDS[kind]}.{remedy}")
    return value


def optional(record: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """`record[key]`, of the wanted type, or None where it is absent or null."""
    return None if record.get(key) is None else require(record, key, kind, where)


def require_question(record: Mapping[str, Any], where: str) -> str:
    question = require(record, "question", str, where)
    if not question.strip():
        raise BadRow(where, "wrong_value", "'question' is empty; it must be the text that the agent was asked.")
    return question


def check_value(value: Any, text: str, where: str) -> None:
    """Refuse JSON, read from `text`, that the next stages could not take.

    Half of a surrogate pair is no character: no tokenizer, hash or file could take the text it stands for. Whatever
    walks through a value (to copy it, to write it) does so by recursion.
    """
    if text.count("[") + text.count("{") > DEEPEST and _is_deeper(value, DEEPEST):
        raise BadRow(where, "not_json", f"nested more than {DEEPEST} deep; no trajectory is.")
    if "\\u" in text and ("\\ud" in text or "\\uD" in text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(error.object[error.start]):04x}"
            problem = f"half of a surrogate pair, {half}, is no character; mend the text."
            raise BadRow(where, "not_json", problem) from None


def _is_deeper(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        groups = (group.values() if isinstance(group, dict) else group for group in level)
        level = [member for group in groups for member in group if isinstance(member, dict | list)]
    return bool(level)


def shorten(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def excerpt(text: str) -> str:
    """The beginning of what is wrong, fit for a terminal: control characters and stray bytes become escapes."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:80])
    return shown if len(text) <= 80 else f"{shown}… ({len(text)} characters)"


def refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _whole(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # Python reads no whole number of thousands of digits
        raise ValueError(f"{digits:.20} is too large a number") from None


def _finite(digits: str) -> float:
    if math.isinf(value := float(digits)):
        raise ValueError(f"{digits:.20} is too large a number")
    return value


# One for all lines: to make it costs as much as to read one.
_decode = json.JSONDecoder(parse_constant=refuse_constant, parse_float=_finite, parse_int=_whole).decode


def _line(where: str, raw: bytes | None) -> dict[str, Any] | None:
    """The object of one line; None where the line is empty."""
    if raw is None:
        raise BadRow(where, "too_long", f"a line of more than {sources.LONGEST >> 20} MiB; no trajectory is that long.")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 ({error.reason} at byte {error.start}); convert the file."
        raise BadRow(where, "not_json", problem) from None
    text = text.strip()
    if text.startswith("\ufeff") and where.endswith(":1"):
        text = text[1:].strip()
    if not text:
        return None
    try:
        value = _decode(text)
    except RecursionError:
        raise BadRow(where, "not_json", f"not valid JSON: nested too deeply\n  {excerpt(text)}") from None
    except ValueError as error:
        said = f"{error.msg}: character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else error
        raise BadRow(where, "not_json", f"not valid JSON: {said}\n  {excerpt(text)}") from None
    if not isinstance(value, dict):
        raise BadRow(where, "not_json", f"a {type(value).__name__}, not an object {{...}}: {excerpt(text)}")
    check_value(value, text, where)
    return value
