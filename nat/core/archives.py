"""Files inside zip and tar archives, under paths of their own: `runs.tar/a/b.json` is the member `a/b.json`.

Nothing is unpacked to where the user could see it. A member of a zip, or of a tar that is not packed itself, is read
where it lies; a packed tar (.tar.gz, .tar.zst) is unpacked once into a temporary file without a name, since it has no
beginnings of members.
"""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, BinaryIO, cast

OPEN_AT_ONCE = 16  # archives whose lists of members are held
ZSTD = 93  # a zip's number of that method, which Python's zipfile does not know before 3.14
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_TAR_AT = 257  # bytes before a tar's magic number
UNREADABLE = (OSError, zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, ValueError, RuntimeError)


@dataclass(frozen=True)
class Archive:
    names: tuple[str, ...]  # of the files in it, sorted
    open: Callable[[str], BinaryIO]


def members(path: Path) -> list[Path]:
    """The paths of the files in an archive, sorted; nothing where it is none. Raises UNREADABLE."""
    found = _archive_at(path) if path.is_file() else None
    return [] if found is None else [path / name for name in found.names]


def archive_of(path: Path) -> Path | None:
    """The archive that a member's path names, or None for a path that is none."""
    if path.exists():
        return None
    return next((parent for parent in path.parents if parent.is_file()), None)


def is_file(path: Path) -> bool:
    """Whether there is such a file, in an archive or not."""
    if path.is_file():
        return True
    above = archive_of(path)
    return above is not None and path in members(above)


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """The bytes of a file, or of a member of an archive. Raises OSError."""
    above = archive_of(path)
    if above is None:
        with path.open("rb") as file:
            yield file
        return
    try:
        found = _archive_at(above)
        name = path.relative_to(above).as_posix()
        if found is None:
            raise FileNotFoundError(2, "there is no such file", str(path))
        with found.open(name) as member:
            yield io.BufferedReader(cast(io.RawIOBase, member))
    except KeyError:
        raise FileNotFoundError(2, "there is no such member", str(path)) from None
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise OSError(5, f"the archive is damaged ({error})", str(path)) from error


def zstd_stream(file: IO[bytes]) -> BinaryIO:
    """The content of what is packed with Zstandard."""
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")


def _archive_at(path: Path) -> Archive | None:
    state = path.stat()
    return _archive(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=OPEN_AT_ONCE)
def _archive(path: Path, size: int, modified: int) -> Archive | None:
    with path.open("rb") as file:
        head = file.read(_TAR_AT + 8)
    if head.startswith(_ZIP):
        return _zip(path)
    if head[_TAR_AT : _TAR_AT + 5] == b"ustar":
        return _tar(path.open("rb"))
    if not head.startswith((_GZIP, _ZSTD)):
        return None
    unpack = gzip.open if head.startswith(_GZIP) else None
    with path.open("rb") as packed:
        content = cast(BinaryIO, unpack(packed) if unpack else zstd_stream(packed))
        try:
            beginning = content.read(_TAR_AT + 8)
        except UNREADABLE:
            return None  # damaged: whoever reads it as a packed file says so
        if beginning[_TAR_AT : _TAR_AT + 5] != b"ustar":
            return None
        whole = tempfile.TemporaryFile()  # noqa: SIM115 - it goes when the archive is forgotten
        whole.write(beginning)
        while chunk := content.read(2**20):
            whole.write(chunk)
    whole.seek(0)
    return _tar(cast(BinaryIO, whole))


def _tar(file: BinaryIO) -> Archive:
    archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - as above
    # A name that begins at the root would leave the archive's own path.
    found = {member.name.removeprefix("./").lstrip("/"): member for member in archive.getmembers() if member.isfile()}

    def read(name: str) -> BinaryIO:
        member = archive.extractfile(found[name])
        assert member is not None  # it is a file
        return cast(BinaryIO, member)

    return Archive(tuple(sorted(found)), read)


def _zip(path: Path) -> Archive:
    archive = zipfile.ZipFile(path)
    found = {info.filename.lstrip("/"): info for info in archive.infolist() if not info.is_dir()}

    def read(name: str) -> BinaryIO:
        info = found[name]
        return _zstd_member(path, info) if info.compress_type == ZSTD else cast(BinaryIO, archive.open(info))

    return Archive(tuple(sorted(found)), read)


def _zstd_member(path: Path, info: zipfile.ZipInfo) -> BinaryIO:
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)  # of its local header: the lengths of name and extra field
        name_length, extra_length = struct.unpack("<HH", file.read(4))
        file.seek(name_length + extra_length, 1)
        packed = file.read(info.compress_size)
    return zstd_stream(io.BytesIO(packed))
