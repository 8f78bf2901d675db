"""Files that appear whole or not at all, so that what a killed process leaves behind never looks finished."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from nat.core import archives


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes; read once for each state of the file, since weights can be large."""
    if archives.archive_of(path) is not None:
        with archives.opened(path) as member:
            return hashlib.sha256(member.read()).hexdigest()
    state = path.stat()
    return _content_hash(str(path.absolute()), state.st_size, state.st_mtime_ns)


@cache
def _content_hash(path: str, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
