"""The live board of a sweep: what is done, running, failed and left, read from the cells' directories.

It reads files only, so it shows cells of every launcher and of other processes that share the directory.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nat.runs.directory import read_results, results_of
from nat.runs.packed import RunFiles
from nat.runs.results import Results
from nat.sweeps import cells
from nat.sweeps.composition import Cell

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_LINES = 60.0  # where stderr is no terminal
SHOWN_RUNNING = 8  # running cells on the board; a cluster may run hundreds


@dataclass(frozen=True)
class CellState:
    """`state` as `nat.sweeps.cells.state` tells it; `doing` is the stage's progress; `rate` the success rate to
    choose by.

    That is the one on the validation questions, where there are any; `split` says which it is.
    """

    name: str
    state: str
    doing: str = ""
    rate: float | None = None
    seconds: float | None = None
    error: str = ""
    split: str = "test"


def look(cell: Cell) -> CellState:
    """The state of one cell, from its directory."""
    results = read_results(cell.directory)
    return _as_state(cell, cells.state(cell, results), results)


def _as_state(cell: Cell, state: str, results: Results) -> CellState:
    to_choose_by = results.validation or results.inference
    return CellState(
        cell.directory.name,
        state,
        _doing(cell.directory / cells.PROGRESS) if state == "running" else "",
        to_choose_by.success_rate if to_choose_by else None,
        results.seconds if state == "completed" else None,
        results.error.first_line if results.error and state == "failed" else "",
        to_choose_by.split if to_choose_by else "test",
    )


def _doing(path: Path) -> str:
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if "done" not in facts:
            return str(facts["what"])
        return f"{facts['what']} {facts['done']}/{facts['total']} {facts['unit']} {facts['status']}".strip()
    except (OSError, ValueError, KeyError):
        return "starting"  # or between two stages


def summary(states: Sequence[CellState]) -> str:
    """One line: counts, the time left at the pace of the completed cells, the best so far."""
    count = {name: sum(state.state == name for state in states) for name in ("completed", "running", "failed")}
    left = len(states) - count["completed"] - count["failed"]
    parts = [f"{count['completed']} of {len(states)} cells done", f"{count['running']} running"]
    parts += [f"{count['failed']} failed"] if count["failed"] else []
    durations = [state.seconds for state in states if state.seconds is not None]
    if durations and left:
        # A running cell is half done on average.
        cells_left = left - count["running"] / 2
        parts.append(f"about {_span(cells_left * sum(durations) / len(durations) / max(1, count['running']))} left")
    rated = [state for state in states if state.state == "completed" and state.rate is not None]
    if rated:
        best = max(rated, key=lambda state: state.rate or 0.0)
        parts.append(f"best so far {best.rate:.3f} on {best.split} ({best.name})")
    return ", ".join(parts)


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def ending(state: CellState) -> str | None:
    """What is printed once when a cell comes to its end."""
    if state.state == "completed":
        rate = f"success {state.rate:.3f} on {state.split}" if state.rate is not None else "not evaluated"
        return f"done    {state.name}  {rate}  {_span(state.seconds or 0.0)}"
    if state.state in ("failed", "killed"):
        return f"{state.state:7} {state.name}: {state.error or 'ended without a result'}"
    return None


@contextmanager
def shown(planned: Sequence[Cell], completed: Mapping[str, RunFiles] | None = None) -> Iterator[None]:
    """Show the board on stderr while the cells run: live in a terminal, lines elsewhere.

    Args:
        completed: the files of the cells that were completed before, by hash; their directory may have another name.
    """
    stop = threading.Event()
    states = {cell.hash: look(cell) for cell in planned}
    for cell in planned:
        if (files := (completed or {}).get(cell.hash)) is not None:
            states[cell.hash] = _as_state(cell, "completed", results_of(files))
    thread = threading.Thread(target=_watch, args=(planned, states, stop), daemon=True, name="board")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _watch(planned: Sequence[Cell], states: dict[str, CellState], stop: threading.Event) -> None:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    live = Live(console=console, refresh_per_second=2, transient=True) if console.is_terminal else None
    said = time.monotonic()

    def refresh() -> None:
        nonlocal said
        for cell in planned:
            if states[cell.hash].state == "completed":
                continue
            state = look(cell)
            if state.state != states[cell.hash].state and (line := ending(state)):
                console.print(Text(line, style="red" if state.state in ("failed", "killed") else ""))
                said = time.monotonic()
            states[cell.hash] = state
        now = list(states.values())
        if live is not None:
            running = [state for state in now if state.state == "running"]
            lines = [Text(f"  {state.name}  {state.doing}", overflow="ellipsis") for state in running[:SHOWN_RUNNING]]
            more = [Text(f"  and {len(running) - SHOWN_RUNNING} more")] if len(running) > SHOWN_RUNNING else []
            live.update(Group(*lines, *more, Text(summary(now), style="bold")))
        elif time.monotonic() - said > SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            doing = "; ".join(f"{state.name}: {state.doing}" for state in now if state.state == "running")
            print(f"{summary(now)}{f' [{doing}]' if doing else ''}", file=sys.stderr, flush=True)

    if live is not None:
        live.start()
    try:
        while not stop.wait(SECONDS_BETWEEN_LOOKS):
            with suppress(OSError):  # a directory that cannot be read for a moment must not end the board
                refresh()
        refresh()
    finally:
        if live is not None:
            live.stop()
    console.print(summary(list(states.values())))
