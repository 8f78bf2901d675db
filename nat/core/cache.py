"""Work that cells share, kept by what it was made from: the scripted policy's trajectories, questions, tokens, leaks.

An entry is one file, `KIND-KEY`, in the user's cache directory: a SHA-256 of what follows, then JSON or NumPy arrays
(never pickles). The key holds the inputs, all of nat's source code and the versions of the libraries that take part, so
that neither an edit nor an update reads what another state of the code has written. Any number of processes may read
and write at the same time; a place that cannot be written, or is full, only means that nothing is kept.

`NAT_CACHE` names another directory, or is `off`. Not kept, because making them is as cheap as reading them: prompts of
roll-outs (0.1 ms a question) and a model's weights (0.04 s for the tiny one, 0.08 s for 110 M parameters, mapped from
files that the operating system holds in memory; copying them out of a state dict kept by us took 0.4 to 1.1 s).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from nat.core.paths import PACKAGE, __version__
from nat.core.trajectory_records import from_record, to_record
from nat.types import Question, Trajectory

Value = TypeVar("Value")

VARIABLE = "NAT_CACHE"
OFF = ("off", "no", "none", "false", "0")
FORMAT = 1  # of the entries; to be raised when their layout changes
MAX_DISK_BYTES = 2 * 1024**3  # some twenty data sets of 10,000 long trajectories, tokenised; the least recently used go
MAX_MEMORY_BYTES = (
    256 * 1024**2
)  # of encoded entries in this process: little beside torch, and enough for a sweep's data
ABANDONED_SECONDS = 3600.0  # a temporary file this old was left by a killed writer
LIBRARIES = ("transformers", "tokenizers", "jinja2", "numpy", "simpleeval")  # what entries are computed with

_memory: OrderedDict[str, bytes] = OrderedDict()  # the encoded entries last used, oldest first


def cached(
    kind: str,
    inputs: Any,
    compute: Callable[[], Value],
    encode: Callable[[Value], bytes],
    decode: Callable[[bytes], Value],
) -> Value:
    """What `compute` returns, from memory or disk where it was computed from equal inputs before.

    Args:
        kind: names the work; part of the key and of the file's name.
        inputs: everything that the value depends on besides the code, as JSON.
        encode, decode: to bytes and back; what comes back must equal what went in.
    """
    directory = cache_directory()
    if directory is None:
        return compute()
    text = json.dumps([FORMAT, kind, _code(), inputs], sort_keys=True)
    name = f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    payload = _memory.get(name)
    if payload is None:
        payload = _read(directory / name)
    if payload is not None:
        try:
            value = decode(payload)
        except Exception:  # whatever is wrong with an entry, its value can be computed again
            _memory.pop(name, None)
            with suppress(OSError):
                (directory / name).unlink()
        else:
            _remember(name, payload)
            return value
    value = compute()
    payload = encode(value)
    _remember(name, payload)
    _write(directory / name, payload)
    return value


def cache_directory() -> Path | None:
    """Where entries lie: `NAT_CACHE`, or the platform's place for a user's caches; None where it is switched off."""
    given = os.environ.get(VARIABLE, "")
    if given.lower() in OFF:
        return None
    if given:
        return Path(os.path.expanduser(given))
    import platformdirs

    return platformdirs.user_cache_path("negative-aware-training")


def fingerprint(values: Iterable[Any]) -> str:
    """A hash of the values' `repr`: of plain values and of nat's dataclasses, which show all that they hold."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(repr(value).encode("utf-8", "surrogatepass"))
        digest.update(b"\n")
    return digest.hexdigest()


def tokenizer_fingerprint(tokenizer: Any) -> str | None:
    """A hash of all that decides a tokenizer's output; None for one that is written in Python and cannot be hashed."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    return fingerprint(
        [backend.to_str(), tokenizer.chat_template, type(tokenizer).__name__, tokenizer.all_special_tokens]
    )


@cache
def _code() -> str:
    """A hash of nat's source files and of the versions of Python, nat and the libraries that take part.

    All files, though a few would do: which ones take part is a list that nobody would keep up to date.
    """
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()}\n".encode())
        digest.update(path.read_bytes())
    versions = [__version__, platform.python_version(), *map(metadata.version, LIBRARIES)]
    return f"{digest.hexdigest()} {' '.join(versions)}"


def _remember(name: str, payload: bytes) -> None:
    _memory[name] = payload
    _memory.move_to_end(name)
    while sum(map(len, _memory.values())) > MAX_MEMORY_BYTES:
        _memory.popitem(last=False)


# ---- files ----


def _read(path: Path) -> bytes | None:
    """What an entry holds; None where there is none. One whose checksum is wrong is removed."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, payload = content[:32], content[32:]
    is_whole = hashlib.sha256(payload).digest() == digest
    with suppress(OSError):
        if is_whole:
            os.utime(path)  # used just now
        else:
            path.unlink()
    return payload if is_whole else None


def _write(path: Path, payload: bytes) -> None:
    """Under a temporary name first: a reader sees the whole entry or none."""
    if len(payload) > MAX_DISK_BYTES:
        return
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".tmp", delete=False) as file:
            temporary = Path(file.name)
            file.write(hashlib.sha256(payload).digest())
            file.write(payload)
        temporary.replace(path)
        _evict(path.parent)
    except OSError:  # read-only, full, gone: then nothing is kept
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def _evict(directory: Path) -> None:
    """Remove the entries that were not used for longest, until the rest fits into `MAX_DISK_BYTES`."""
    entries: list[tuple[float, int, Path]] = []
    for path in directory.iterdir():
        with suppress(OSError):  # another process may have removed it
            state = path.stat()
            if path.suffix == ".tmp":
                if time.time() - state.st_mtime > ABANDONED_SECONDS:
                    path.unlink()
            elif path.is_file():
                entries.append((state.st_mtime, state.st_size, path))
    excess = sum(size for _, size, _ in entries) - MAX_DISK_BYTES
    for _, size, path in sorted(entries):
        if excess <= 0:
            return
        with suppress(OSError):
            path.unlink()
        excess -= size


# ---- encodings ----


def encode_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def decode_json(payload: bytes) -> Any:
    return json.loads(payload.decode("utf-8", "surrogatepass"))


def encode_questions(questions: Sequence[Question]) -> bytes:
    return encode_json([asdict(question) for question in questions])


def decode_questions(payload: bytes) -> list[Question]:
    return [Question(**fields) for fields in decode_json(payload)]


def encode_trajectories(trajectories: Sequence[Trajectory]) -> bytes:
    return encode_json([to_record(trajectory) for trajectory in trajectories])


def decode_trajectories(payload: bytes) -> list[Trajectory]:
    return [from_record(record) for record in decode_json(payload)]
