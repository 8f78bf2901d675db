"""Where records lie: files (plain, gzip or Zstandard; in archives too), Parquet files and `datasets` directories, told
apart by content.

What cannot be read at all is refused at once, with the remedy; what breaks in the middle raises `Broken` there, so that
what came before it can be used. Nothing here holds more of a file than one line, or one batch of rows.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nat.core import archives
from nat.types import RequestError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LONGEST = 64 * 2**20  # bytes of one record; reading one takes several times its length in memory
STEP = 2**16  # bytes that are unpacked at a time; as many may be lost before a damaged place
HEAD = 4096  # bytes by which a file is recognised
BATCH = 256  # rows of a table that are made at a time

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_PARQUET = b"PAR1"
# What is no text, by its first bytes: what it is, and how it becomes readable.
_OTHERS = (
    (b"PK\x03\x04", "a zip archive", "Unpack it."),
    (b"BZh", "packed with bzip2", "Unpack it: bunzip2 FILE"),
    (b"\xfd7zXZ\x00", "packed with xz", "Unpack it: unxz FILE"),
    (b"ARROW1", "an Arrow file", "Give the directory that `save_to_disk` wrote, or a Parquet file."),
    (b"\xff\xff\xff\xff", "an Arrow stream", "Give the directory that `save_to_disk` wrote, or a Parquet file."),
    (b"\xff\xfe\x00\x00", "UTF-32 text", "Convert it: iconv -f UTF-32 -t UTF-8 FILE > NEW"),
    (b"\xff\xfe", "UTF-16 text", "Convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW"),
    (b"\xfe\xff", "UTF-16 text", "Convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW"),
)
_WHAT_TO_GIVE = (
    "Give JSON, JSON Lines, either packed (gzip, Zstandard, zip, tar), Parquet, or a directory written by datasets' "
    "`save_to_disk`."
)
_UNMARKED_UTF16 = re.compile(rb"[\[{]\x00[^\x00]\x00|\x00[\[{]\x00[^\x00]")
_RECORD_BEGINS = re.compile(rb"^(?:\xef\xbb\xbf)?\s*[\[{]|\n\s*\{\"")


class Broken(Exception):
    """A file ends too early or turns into what cannot be read; what came before was read."""


class _Unpacked(RawIOBase):
    """The content of what is packed. A damaged one ends where it is damaged, so that all before can be read; `cut` says
    why.
    """

    def __init__(self, packed: BufferedReader, is_zstd: bool) -> None:
        self.cut: Broken | None = None
        self._name = "Zstandard file" if is_zstd else "gzip"
        self._file = gzip.GzipFile(fileobj=packed) if not is_zstd else archives.zstd_stream(packed)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        try:
            content = self._read(min(len(view), STEP)) if self.cut is None else b""
        except EOFError:
            self.cut = Broken(f"the {self._name} ends before its end; it was cut, or is still being written")
            return 0
        except (zlib.error, OSError) as error:
            self.cut = Broken(f"the {self._name} is damaged ({error})")
            return 0
        view[: len(content)] = content
        return len(content)

    def _read(self, size: int) -> bytes:
        return self._file.read1(size) if isinstance(self._file, gzip.GzipFile) else self._file.read(size)


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader[Any]]:
    """The bytes of a file, unpacked where it is a gzip; `cut` says whether it ended where it should.

    Raises RequestError where it cannot be read or is no text.
    """
    try:
        with archives.opened(path) as file:
            if file.peek(4).startswith((_GZIP, _ZSTD)):
                unpacked = BufferedReader(_Unpacked(file, file.peek(4).startswith(_ZSTD)), STEP)
                head = unpacked.peek(HEAD)[:HEAD]
                if not head and (why := cut(unpacked)):
                    raise RequestError(f"{path}: nothing of it can be read: {why}.\nMake or copy it again.")
                _refuse_binary(path, head)
                yield unpacked
            else:
                _refuse_binary(path, file.peek(HEAD)[:HEAD])
                yield file
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}.") from None


def cut(file: BufferedReader[Any]) -> Broken | None:
    """Why a file that was read to its end ends there, where that is not its true end."""
    return file.raw.cut if isinstance(file.raw, _Unpacked) else None


def _refuse_binary(path: Path, head: bytes) -> None:
    for magic, name, remedy in _OTHERS:
        if head.startswith(magic):
            raise RequestError(f"{path}: {name}, which is not read.\n{remedy}")
    if _UNMARKED_UTF16.match(head):
        order = "BE" if head.startswith(b"\x00") else "LE"
        raise RequestError(
            f"{path}: UTF-16 text, which is not read.\nConvert it: iconv -f UTF-16{order} -t UTF-8 FILE > NEW"
        )
    # A line with a null byte among others is a bad row; a file that does not even begin like a record is none of ours.
    if b"\x00" in head and not _RECORD_BEGINS.search(head):
        raise RequestError(f"{path}: a binary file.\n{_WHAT_TO_GIVE}")


def lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """`(number, line)` of a file, from 1; None in place of a line longer than `LONGEST`.

    Raises Broken after the last line of a damaged gzip, and RequestError as `opened` does.
    """
    number = 0
    with opened(path) as file:
        while raw := file.readline(LONGEST + 1):
            number += 1
            if len(raw) > LONGEST:
                while raw and not raw.endswith(b"\n"):
                    raw = file.readline(STEP)
                yield number, None
            elif raw.endswith((b"\n", b"}")) or cut(file) is None:  # else the line is part of what was cut off
                yield number, raw
        if (broken := cut(file)) is not None:
            raise broken


# ---- tables ----


def is_table(path: Path) -> bool:
    """Whether it is a Parquet file or a `datasets` directory. Raises RequestError where it cannot be read."""
    if path.is_dir():
        return True
    try:
        with archives.opened(path) as file:
            is_parquet = file.read(len(_PARQUET)) == _PARQUET
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}.") from None
    if is_parquet and archives.archive_of(path) is not None:
        raise RequestError(f"{path}: a Parquet file in an archive, which is not read.\nUnpack it.")
    return is_parquet


def datasets_in(directory: Path) -> list[Path]:
    """The directories that `datasets` can read: this one, its splits, or those in it and their splits, by name."""
    patterns = ("state.json", "*/state.json", "*/*/state.json")
    return sorted(path.parent for pattern in patterns for path in directory.glob(pattern))


def no_dataset(directory: Path) -> str:
    """Why a directory without a dataset is not read, and what to give instead."""
    suffixes = {"".join(path.suffixes[-2:]) for path in directory.iterdir() if path.is_file()}
    readable = sorted(
        suffix for suffix in suffixes if suffix.removesuffix(".gz") in {".json", ".jsonl", ".ndjson", ".parquet"}
    )
    remedy = f"Name its files, e.g. with the glob '{directory}/*{readable[0]}'." if readable else _WHAT_TO_GIVE
    return f"{directory.absolute()} is a directory without a dataset.\n{remedy}"


def files(path: Path) -> list[Path]:
    """The files that a path is made of: itself, or those of a `datasets` directory."""
    return sorted(child for child in path.rglob("*") if child.is_file()) if path.is_dir() else [path]


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Stream the rows of a table as JSON values, without the nulls that stand for keys that other rows have.

    Raises RequestError where the table cannot be opened, and Broken where it cannot be read to its end.
    """
    for row in _dataset_rows(path) if path.is_dir() else _parquet_rows(path):
        yield {key: _json_value(value) for key, value in row.items() if value is not None}


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise RequestError(
            f"{path}: a Parquet file that cannot be read ({_one_line(error)}).\nMake or copy it again; was it cut?"
        ) from None
    with table:
        try:
            for batch in table.iter_batches(BATCH):
                yield from batch.to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            raise Broken(f"the Parquet file is damaged ({_one_line(error)})") from None


def _dataset_rows(path: Path) -> Iterator[dict[str, Any]]:
    if not (path / "state.json").is_file():
        raise RequestError(no_dataset(path))
    import datasets
    import pyarrow

    try:
        dataset = datasets.load_from_disk(str(path))
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        # A state.json of another program, a lost shard, a feature type of a newer version of the library.
        raise RequestError(
            f"{path}: a dataset that cannot be read ({_one_line(error)}).\nWrite it again with `save_to_disk`."
        ) from None
    assert isinstance(dataset, datasets.Dataset)  # a directory with a state.json is no collection of splits
    try:
        for batch in dataset.with_format(None).iter(BATCH):
            assert isinstance(batch, dict)
            for values in zip(*batch.values(), strict=True):
                yield dict(zip(batch, values, strict=True))
    except (pyarrow.ArrowException, OSError) as error:
        raise Broken(f"the dataset is damaged ({_one_line(error)})") from None


def _json_value(value: Any) -> Any:
    """A cell as JSON has it: a table fills the keys that a record lacks with nulls, dates and decimals become text."""
    match value:
        case dict():
            return {key: _json_value(member) for key, member in value.items() if member is not None}
        case list() | tuple():
            return [_json_value(member) for member in value]
        case str() | bool() | int() | float() | None:
            return value
        case bytes():
            return value.decode("utf-8", errors="surrogateescape")
        case _:
            return str(value)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
