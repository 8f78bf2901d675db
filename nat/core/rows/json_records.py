"""Records of a file, whatever holds them, each with its place: "file:line", or "file: record 7" in a table or in a text
of one line.

[{...}, {...}]             a JSON list
{"6238": {...}, ...}       a JSON object of records by id
{"samples": [{...}], ...}  a JSON object that holds them under one of CONTAINERS, the names of splits among them
{...}\n{...}               JSON Lines, or objects over several lines each, one after another, or a single one
any of these in a gzip, a Zstandard file, or an archive
Inspect's .eval            a zip with a sample a member
a Parquet file, or a directory that datasets' `save_to_disk` wrote

No file is held in memory: text is read on as its records are asked for. Of a key that stands twice in a record the last
value counts, as for other readers of JSON (to look for such keys costs more than half as much as to read); an id that
stands twice in an object of records gives two records.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BufferedReader, BytesIO, RawIOBase
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from nat.core import archives
from nat.core.rows import sources
from nat.core.rows.bad import BadRow, OnBad
from nat.core.rows.json_lines import check_value, excerpt, read_objects, readable
from nat.types import RequestError

_SPACE = re.compile(r"[ \t\r\n]*")
_STRAY_BYTE = re.compile("[\udc80-\udcff]")  # what the decoder makes of a byte that is not UTF-8
_HALF = re.compile("[\ud800-\udfff]")  # such a byte, or half of a surrogate pair written as an escape
_FIRST = 2**21  # bytes of a line that are looked at to tell the shapes apart
_LOOKED_AT = 10  # lines after a first one that is no record, among which one shows that the file is JSON Lines
_CHUNK = 2**20  # characters that are read at least
# Under which an object holds its records.
CONTAINERS = (
    *("samples", "simulations", "trajectories", "rollouts", "episodes", "results", "records", "data", "rows", "items"),
    *("train", "test", "validation", "valid", "val", "dev"),
)
# Under which a record holds its turns or their surroundings, so that it is no object of records by id.
_OF_A_RECORD = {
    *("messages", "conversations", "conversation", "traj", "trajectory", "history", "steps", "turns"),
    *("request", "response", "info", "input", "output", "meta", "metadata", "prompt", "completion"),
}
CLOSING = {"[": "]", "{": "}"}
_OF_A_MESSAGE = ("role", "from")
_BY_ID = 20  # members, all of them objects, from which on they are taken for records by id
_TOKEN = 16  # characters before the end of what was read, in which a number or a word may be cut


NOTHING: Mapping[str, Any] = {}


class Record(NamedTuple):
    key: str | None  # under which an object of records holds it
    value: dict[str, Any]
    outer: Mapping[str, Any] = NOTHING  # what the object that holds it says before its records
    path: Path | None = None  # of its file


def read_records(path: Path, on_bad: OnBad) -> Iterator[tuple[str, Record]]:
    """Stream `("file:line", record)` of a file of any of the shapes above; a record that is no JSON object is bad.

    A file that is broken in the middle gives its records up to there, and one bad row. Raises RequestError for one that
    cannot be read at all.
    """
    if is_eval_log(path):
        yield from _eval_log(path, on_bad)
        return
    if sources.is_table(path):
        yield from _table(path, on_bad)
        return
    if _is_one_text(path):
        for where, record in readable(_members(path), _record, on_bad):
            yield where, record._replace(path=path)
        return
    for where, value in read_objects(path, on_bad):
        yield where, Record(None, value, path=path)


def is_eval_log(path: Path) -> bool:
    """Whether it is an archive that Inspect wrote: a zip of `samples/`. Raises RequestError where it cannot be read."""
    if path.suffix != ".eval" or not path.is_file():
        return False
    try:
        return bool(_samples(path))
    except archives.UNREADABLE as error:
        raise RequestError(f"{path}: a zip archive that cannot be read ({error}).\nMake or copy it again.") from None


def _samples(path: Path) -> list[Path]:
    return [member for member in archives.members(path) if member.parent == path / "samples"]


def _eval_log(path: Path, on_bad: OnBad) -> Iterator[tuple[str, Record]]:
    """Its samples in the order of their ids, each with the log's header."""
    header: dict[str, Any] = {}
    for name in ("header.json", "_journal/start.json"):  # the first is written at the end of an evaluation
        if archives.is_file(path / name):
            header = next((record.value for _, record in read_records(path / name, on_bad)), {})
            break
    numbers = re.compile(r"\d+")
    samples = sorted(_samples(path), key=lambda member: [int(n) for n in numbers.findall(member.name)] or [0])
    for member in samples:
        for where, record in read_records(member, on_bad):
            yield where, record._replace(outer=header, path=path)


def _table(path: Path, on_bad: OnBad) -> Iterator[tuple[str, Record]]:
    number = 0
    try:
        for number, value in enumerate(sources.rows(path), 1):
            where = f"{path}: record {number}"
            if problem := _not_json(value):
                on_bad(BadRow(where, "not_json", problem))
            else:
                yield where, Record(None, value, path=path)
    except sources.Broken as broken:
        on_bad(BadRow(f"{path}: record {number + 1}", "broken_file", f"{broken}; what follows cannot be read."))


def _not_json(value: Any) -> str | None:
    """What a table's row holds that JSON has no place for."""
    if isinstance(value, dict | list):
        members = value.values() if isinstance(value, dict) else value
        return next((problem for member in members if (problem := _not_json(member))), None)
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a JSON value."
    if isinstance(value, str) and not value.isascii() and _STRAY_BYTE.search(value):
        return "bytes that are not UTF-8 text."
    return None


# ---- lists and objects ----


class _Raw(NamedTuple):
    key: str | None
    text: str
    value: Any
    oddities: tuple[str, ...]  # what Python reads, or refuses to read, but JSON does not
    outer: Mapping[str, Any] = NOTHING


def _record(where: str, raw: _Raw | BadRow) -> Record:
    if isinstance(raw, BadRow):
        raise raw
    if raw.oddities:
        raise BadRow(where, "not_json", raw.oddities[0])
    if not isinstance(raw.value, dict):
        kind = type(raw.value).__name__
        raise BadRow(where, "not_json", f"a {kind}, not an object {{...}}: {excerpt(raw.text)}")
    if not raw.text.isascii() and (stray := _STRAY_BYTE.search(raw.text)):
        problem = f"not UTF-8 (byte 0x{ord(stray[0]) - 0xDC00:02x} after {excerpt(raw.text[: stray.start()][-30:])!r})"
        raise BadRow(where, "not_json", f"{problem}; convert the file.")
    if raw.key is not None and _HALF.search(raw.key):
        raise BadRow(where, "not_json", f"the record's id {excerpt(raw.key)!r} is not UTF-8 text; convert the file.")
    check_value(raw.value, raw.text, where)
    return Record(raw.key, raw.value, raw.outer)


def _is_one_text(path: Path) -> bool:
    """Whether a value goes over several lines, or holds the records; else they stand line by line."""
    with sources.opened(path) as file:
        first = next(_filled_lines(file), "").strip()
        if first[:1] == "[":
            return first.endswith(("[", "{", ",")) or not _has_record(file)
        if first[:1] != "{":
            return False
        try:
            value = json.loads(first)
        except (ValueError, RecursionError):
            goes_on = first.endswith(("{", "["))  # what a writer breaks a line after
            return goes_on or not _has_record(file)
        return _shape(value.items()) != "record" and not _has_record(file)  # a row may hold objects alone


Shape: TypeAlias = Literal["record", "by_id", "container"]


def _shape(members: Iterable[tuple[str, Any]]) -> Shape:
    """What an object is, by its members: a record, an object of records by id, or one that holds them beside others."""
    n = n_objects = 0
    for n, (key, value) in enumerate(members, 1):
        if key in CONTAINERS and _are_records(value):
            return "container"
        n_objects += isinstance(value, dict) and key not in _OF_A_RECORD
        first = value[0] if isinstance(value, list) and value else None
        if isinstance(first, dict) and any(key in first for key in _OF_A_MESSAGE):
            return "record"
        if n == n_objects == _BY_ID:
            return "by_id"
    return "by_id" if n_objects and n_objects == n else "record"


def _are_records(value: Any) -> bool:
    """Whether a list holds objects that are no messages; an object, if it holds nothing but objects."""
    if isinstance(value, dict):
        return bool(value) and all(isinstance(member, dict) for member in value.values())
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and not any(key in first for key in _OF_A_MESSAGE)


def _shape_at(path: Path) -> Shape:
    """That of the object which a text begins with; no more of it is read than shows it."""
    with sources.opened(path) as file:
        text = _Text(file)
        return _shape(_looked_at(text)) if text.next() == "{" else "record"


def _looked_at(text: _Text) -> Iterator[tuple[str, Any]]:
    """The members of the object that begins here; of a container no more than its first record.

    They end where it is broken: read for good, it says what is wrong.
    """
    try:
        yield from _members_looked_at(text)
    except (json.JSONDecodeError, RecursionError, sources.Broken):
        return


def _members_looked_at(text: _Text) -> Iterator[tuple[str, Any]]:
    for key in text.members():
        opening = text.next()
        if key in CONTAINERS and opening == "[":
            text.take(opening)
            if text.next() == "{":
                yield key, [text.value()[0]]
                return  # where that does not decide, the object is a record
            yield key, _rest_of_list(text)
        else:
            yield key, text.value()[0]


def _rest_of_list(text: _Text) -> list[Any]:
    """What stands in a list whose bracket was read."""
    found = []
    while text.next() != "]":
        found.append(text.value()[0])
        if text.next() == "]":
            break
        text.take(",")
    text.take("]")
    return found


def _filled_lines(file: BufferedReader) -> Iterator[str]:
    """Lines that are not empty, or their beginnings; what is not UTF-8 is found by those who read for good."""
    while raw := file.readline(_FIRST):
        rest = raw
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(_FIRST)
        line = raw.decode(errors="replace").strip("\ufeff\r\n")
        if line.strip():
            yield line


def _has_record(file: BufferedReader) -> bool:
    """Whether one of the next lines is an object by itself, and begins as far to the left as a first one would."""
    for _, line in zip(range(_LOOKED_AT), _filled_lines(file), strict=False):
        try:
            if line[0] == "{" and isinstance(json.loads(line), dict):
                return True
        except (ValueError, RecursionError):
            continue
    return False


def _members(path: Path) -> Iterator[tuple[str, _Raw | BadRow]]:
    """The records of a text, one after another; the last is a BadRow where the rest cannot be read."""
    shape = _shape_at(path)
    with sources.opened(path) as file:
        text = _Text(file)
        problem, at = None, ""
        first: list[tuple[int, _Raw]] = []  # until the second record shows whether lines tell them apart
        number, by_number = 0, False
        try:
            for number, (line, raw) in enumerate(_each(text, shape), 1):
                if number == 1:
                    first.append((line, raw))
                    continue
                if number == 2:
                    by_number = line == first[0][0]
                    yield f"{path}: record 1" if by_number else f"{path}:{first[0][0]}", first.pop()[1]
                yield f"{path}: record {number}" if by_number else f"{path}:{line}", raw
        except json.JSONDecodeError as error:
            problem, text.position = f"not valid JSON: {error.msg}", error.pos
            at = text.text[error.pos : error.pos + 81].partition("\n")[0]
        except RecursionError:
            problem = "not valid JSON: nested too deeply"
        except sources.Broken as broken:
            problem = str(broken)
        if (cut := sources.cut(file)) is not None:
            problem, at = str(cut), ""
        where = f"{path}: record {number + 1}" if by_number else f"{path}:{text.here()}"
        for line, raw in first:
            yield f"{path}:{line}", raw
    if problem is not None:
        shown = f"\n  {excerpt(at)}" if at else ""
        yield where, BadRow(where, "broken_file", f"{problem}; what follows cannot be read.{shown}")


def _each(text: _Text, shape: Shape) -> Iterator[tuple[int, _Raw]]:
    """The records of a text, each with the line on which it begins; `shape` is that of its first object."""
    opening = text.next()
    if opening == "{" and shape == "record":
        while text.next():
            yield text.here(), text.record(None)
        return
    if opening == "{" and shape == "container":
        yield from _contained(text)
        return
    if opening not in ("[", "{"):
        raise text.error("neither a list [...] nor an object {...}")
    text.take(opening)
    yield from _listed(text, opening, NOTHING)
    if text.next():
        raise text.error(f"more after the closing {CLOSING[opening]!r}")


def _contained(text: _Text) -> Iterator[tuple[int, _Raw]]:
    """The records under each of CONTAINERS; all other members are what is said beside them."""
    outer: dict[str, Any] = {}
    for key in text.members():
        if key in CONTAINERS and text.next() == "[":
            text.take("[")
            if text.next() in ("{", "]"):
                yield from _listed(text, "[", dict(outer))
            else:
                outer[key] = _rest_of_list(text)
            continue
        line = text.here()
        value, written = text.value()
        if key in CONTAINERS and _are_records(value):
            # Once more, one record at a time: what is wrong with one of them is not the others'.
            inside = _Text(BufferedReader(cast(RawIOBase, BytesIO(written.encode(errors="surrogateescape")))))
            inside.take("{")
            yield from ((line + inner - 1, raw) for inner, raw in _listed(inside, "{", dict(outer)))
        else:
            outer[key] = value
    if text.next():
        raise text.error("more after the closing '}'")


def _listed(text: _Text, opening: str, outer: Mapping[str, Any]) -> Iterator[tuple[int, _Raw]]:
    """The records of the list, or object of records by id, whose opening was read."""
    closing = CLOSING[opening]
    if text.next() != closing:
        while True:
            line, key = text.here(), None
            if closing == "}":
                if text.next() != '"':
                    raise text.error("a record's id must be text in quotes")
                key = text.value()[0]
                text.take(":")
                text.next()
            yield line, text.record(key, outer)
            if text.next() == closing:
                break
            text.take(",")
            text.next()
    text.take(closing)


class _Text:
    """A JSON text of which only the part that is being read is held."""

    def __init__(self, file: BufferedReader) -> None:
        self.text = ""
        self.position = 0
        self._line, self._counted = 1, 0  # the line at a position, for each from which it was asked
        self._ended = False
        self._file = file
        self._oddities: list[str] = []
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self._parse = json.JSONDecoder(
            parse_constant=lambda name: self._oddities.append(f"{name} is not a JSON value."),
            parse_float=self._number(float),
            parse_int=self._number(int),
        ).raw_decode
        self._fill()

    def next(self) -> str:
        """The next character that is no space; nothing at the end."""
        while True:
            match = _SPACE.match(self.text, self.position)
            assert match is not None  # it matches the empty text
            self.position = match.end()
            if self.position < len(self.text):
                return self.text[self.position]
            if not self._fill():
                return ""

    def take(self, expected: str) -> None:
        if self.next() != expected:
            raise self.error(f"expecting {expected!r}")
        self.position += 1

    def value(self) -> tuple[Any, str]:
        """The value that begins here, and its text."""
        while True:
            self._oddities.clear()
            try:
                value, end = self._parse(self.text, self.position)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos > len(self.text) - _TOKEN
                if cut and self._fill():
                    continue
                raise
            if end == len(self.text) and self._fill():  # "12" may go on as "123"
                continue
            text = self.text[self.position : end]
            self.position = end
            return value, text

    def record(self, key: str | None, outer: Mapping[str, Any] = NOTHING) -> _Raw:
        value, text = self.value()
        return _Raw(key, text, value, tuple(self._oddities), outer)

    def members(self) -> Iterator[str]:
        """The keys of the object that begins here; whoever asks reads the value of each before the next."""
        self.take("{")
        while self.next() != "}":
            if self.next() != '"':
                raise self.error("a key must be text in quotes")
            key = self.value()[0]
            self.take(":")
            self.next()
            yield key
            if self.next() == "}":
                break
            self.take(",")
        self.take("}")

    def here(self) -> int:
        """The line of the position, from 1."""
        self._line += self.text.count("\n", self._counted, self.position)
        self._counted = self.position
        return self._line

    def error(self, problem: str) -> json.JSONDecodeError:
        return json.JSONDecodeError(problem, self.text, self.position)

    def _number(self, kind: type[int] | type[float]) -> Callable[[str], int | float | None]:
        def parse(digits: str) -> int | float | None:
            try:
                value = kind(digits)
            except ValueError:  # Python reads no whole number of thousands of digits
                value = math.inf
            if value in (math.inf, -math.inf):
                self._oddities.append(f"{digits:.20} is too large a number.")
            return value

        return parse

    def _fill(self) -> bool:
        """Forget what was read, and read as much again as is unread: a long value is then parsed a few times only."""
        if self._ended:
            return False
        self.here()
        unread = self.text[self.position :]
        if len(unread) > sources.LONGEST:
            raise sources.Broken(f"a record of more than {sources.LONGEST >> 20} MiB")
        parts, wanted = [unread], max(_CHUNK, len(unread))
        while wanted > 0 and not self._ended:
            raw = self._file.read1(sources.STEP)
            self._ended = not raw
            parts.append(self._decode(raw, final=self._ended))
            wanted -= len(parts[-1])
        self.text, self.position, self._counted = "".join(parts), 0, 0
        return True
