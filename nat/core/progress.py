"""A progress bar with an estimate of the time left; a line that changes in place in a notebook; elsewhere, where stderr
is no terminal, a line every ten seconds.

The cells of a sweep write theirs to a file instead (`kept_in`), from which the sweep's board reads it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeAlias

from nat.core import interrupts

Advance: TypeAlias = Callable[[int, str], None]  # (done so far, a short status such as "loss 0.412")
SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_WRITES = 1.0
_file: ContextVar[Path | None] = ContextVar("progress file", default=None)


@contextmanager
def kept_in(path: Path) -> Iterator[None]:
    """Inside, progress goes to this file: `{"what": ..., "done": ..., "total": ..., "unit": ..., "status": ...}`."""
    token = _file.set(path)
    try:
        yield
    finally:
        _file.reset(token)
        path.unlink(missing_ok=True)


def begin(stage: str) -> None:
    """Note in a cell's progress file which stage begins; the stages that count their work say more."""
    interrupts.check()
    if (path := _file.get()) is not None:
        with suppress(OSError):
            path.write_text(json.dumps({"what": stage}), encoding="utf-8")


@contextmanager
def progress(total: int, what: str, unit: str, done: int = 0) -> Iterator[Advance]:
    """Show `done` of `total` units of `what` on stderr, as the yielded function is told them.

    Args:
        done: units finished before this call (a resumed training); the time left is estimated without them.
    """
    if (path := _file.get()) is not None:
        yield _interruptible(_into(path, {"what": what, "unit": unit, "total": total}))
    elif sys.stderr.isatty():
        with _bar(total, what, unit, done) as advance:
            yield _interruptible(advance)
    elif (show := shown_in_place()) is not None:
        yield _interruptible(_lines(total, what, unit, done, show, SECONDS_BETWEEN_WRITES))
    else:
        yield _interruptible(_lines(total, what, unit, done, _say, SECONDS_BETWEEN_LINES))


def shown_in_place() -> Callable[[str], None] | None:
    """In a notebook, what shows a text where the one before stood; None elsewhere.

    A notebook's cell output takes updates of plain text without the widgets that progress bars need.
    """
    notebook = sys.modules.get("IPython")  # loaded wherever there is one
    shell = notebook.get_ipython() if notebook is not None else None
    if notebook is None or not hasattr(shell, "kernel"):
        return None
    place: Any = None

    def show(text: str) -> None:
        nonlocal place
        data = {"text/plain": text}
        if place is None:
            place = notebook.display.display(data, raw=True, display_id=True)
        else:
            place.update(data, raw=True)

    return show


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _interruptible(show: Advance) -> Advance:
    def advance(done: int, status: str) -> None:
        interrupts.check()
        show(done, status)

    return advance


@contextmanager
def _bar(total: int, what: str, unit: str, done: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as bar:
        task = bar.add_task(what, total=total, completed=done, status="")
        yield lambda done, status: bar.update(task, completed=done, status=status)


def _lines(total: int, what: str, unit: str, first: int, say: Callable[[str], None], pause: float) -> Advance:
    start = written = time.monotonic()

    def advance(done: int, status: str) -> None:
        nonlocal written
        now = time.monotonic()
        if now - written < pause and done < total:
            return
        written = now
        left = (now - start) / max(done - first, 1) * (total - done)
        say(f"{what}: {done}/{total} {unit}, about {left:.0f} s left {status}".rstrip())

    return advance


def _into(path: Path, facts: dict[str, Any]) -> Advance:
    written = 0.0

    def advance(done: int, status: str) -> None:
        nonlocal written
        if time.monotonic() - written < SECONDS_BETWEEN_WRITES and done < facts["total"]:
            return
        written = time.monotonic()
        with suppress(OSError):  # a full disk must not end a run for its progress bar
            path.write_text(json.dumps({**facts, "done": done, "status": status}), encoding="utf-8")

    return advance
