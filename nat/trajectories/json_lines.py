"""JSON Lines as people really have them: CRLF, a byte-order mark, empty lines, very long lines.

A row that cannot be used is a `BadRow`; what becomes of it says the `on_bad` that every reader takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from nat.types import RequestError

BadReason: TypeAlias = Literal[
    "not_json",
    "missing_value",
    "wrong_value",
    "unknown_key",
    "no_label",
    "contradictory_label",  # the record and its last observation disagree on success
    "empty_conversation",
    "no_agent_turn",
    "goes_on_after_end",  # messages follow the one that says how the episode ended
    "unknown_question",  # its id is not in the question file
    "duplicate_id",
    # Of questions:
    "unscorable",  # the scorer rejects the reference answer itself
    "duplicate_question",  # an earlier record has the same text and the same answer
    "contradictory_answer",  # records with the same text have different answers
    # Of episodes that can be read, and are left out in any case:
    "infrastructure",  # it broke for reasons that are not the policy's
]
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


class BadRow(RequestError):
    """One row that cannot be used. Its message names file:line, value and remedy."""

    def __init__(self, where: str, reason: BadReason, problem: str):
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.reason: BadReason = reason
        self.problem = problem


class DroppedRow(NamedTuple):
    """A row that was left out: "file:line" (or "file: record N"), the kind of flaw, and what is wrong."""

    where: str
    reason: BadReason
    detail: str


OnBad: TypeAlias = Callable[[BadRow], None]


def refuse(bad: BadRow) -> None:
    """Stop at a bad row."""
    raise bad


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
    """Stream `("file:line", object)`.

    A line that is not one JSON object in UTF-8 goes to `on_bad`. Raises RequestError for a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            lines = ((f"{path}:{number}", raw) for number, raw in enumerate(file, start=1))
            yield from ((where, value) for where, value in readable(lines, _line, on_bad) if value is not None)
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}.") from None


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


def check_text(text: str, where: str) -> None:
    """Refuse JSON with half of a surrogate pair: no tokenizer, hash or file could take the text it stands for."""
    if "\\ud" not in text and "\\uD" not in text:
        return
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise BadRow(where, "not_json", f"half of a surrogate pair, {half}, is no character; mend the text.") from None


def shorten(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _line(where: str, raw: bytes) -> dict[str, Any] | None:
    """The object of one line; None where the line is empty."""
    try:
        text = raw.decode("utf-8-sig" if where.endswith(":1") else "utf-8").strip()
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 ({error.reason} at byte {error.start}); convert the file."
        raise BadRow(where, "not_json", problem) from None
    return _object(text, where) if text else None


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadRow(where, "not_json", f"not valid JSON: {error}\n  {shorten(line)}") from None
    if not isinstance(value, dict):
        raise BadRow(where, "not_json", f"a {type(value).__name__}, not an object {{...}}: {shorten(line)}")
    check_text(line, where)
    return value
