"""The board reads cells' directories; what it says of literal ones."""

import json
from pathlib import Path
from typing import Any

from nat.runs.directory import write_results
from nat.runs.packed import RunFiles
from nat.runs.results import Error, Results
from nat.sweeps import board, cells
from nat.sweeps.board import CellState, ending, look, summary
from nat.sweeps.composition import Cell
from tests.sweeps_for_tests import passed


def cell(tmp_path: Path, hash: str = "a" * 16, **results: Any) -> Cell:
    directory = tmp_path / f"cell-{hash[:8]}"
    directory.mkdir(exist_ok=True)
    if results:
        write_results(directory, Results(**{"cell": hash, **results}))
    return Cell((), None, directory, hash)  # type: ignore[arg-type]


def test_states_are_read_from_files(tmp_path):
    assert look(cell(tmp_path, "0" * 16)).state == "planned"
    done = look(cell(tmp_path, "1" * 16, status="completed", passes=(passed(0.25),), seconds=40.0))
    assert (done.state, done.rate, done.seconds) == ("completed", 0.25, 40.0)
    validated = cell(tmp_path, "2" * 16, status="completed", passes=(passed(0.25), passed(0.5, "validation")))
    assert (look(validated).rate, look(validated).split) == (0.5, "validation")
    failed = look(cell(tmp_path, "3" * 16, status="failed", error=Error("stage", "loss is nan\nmore")))
    assert (failed.state, failed.error) == ("failed", "loss is nan")


def test_a_cell_that_says_it_runs_while_nobody_holds_its_lock_was_killed(tmp_path):
    running = cell(tmp_path, status="running")
    assert look(running).state == "killed"
    with cells.lock(running.directory) as is_ours:
        assert is_ours
        (running.directory / cells.PROGRESS).write_text(
            json.dumps({"what": "training", "done": 7, "total": 9, "unit": "steps", "status": "loss 0.4"})
        )
        assert (look(running).state, look(running).doing) == ("running", "training 7/9 steps loss 0.4")
        (running.directory / cells.PROGRESS).write_text('{"what": "loading the model"}')
        assert look(running).doing == "loading the model"
        (running.directory / cells.PROGRESS).write_text('{"what": "tr')
        assert look(running).doing == "starting"


def test_another_cells_results_in_the_directory_are_not_this_ones(tmp_path):
    other = cell(tmp_path, "b" * 16, status="completed")
    assert cells.state(Cell((), None, other.directory, "c" * 16)) == "planned"  # type: ignore[arg-type]


def test_the_summary_counts_estimates_and_names_the_best():
    states = [
        CellState("a", "completed", rate=0.25, seconds=60.0),
        CellState("b", "completed", rate=0.5, seconds=120.0),
        CellState("c", "running"),
        CellState("d", "running"),
        CellState("e", "failed"),
        CellState("f", "planned"),
        CellState("g", "planned"),
        CellState("h", "planned"),
    ]
    # Five are left, two of them half done: 4 cells of 90 s, two at a time: 180 s.
    assert summary(states) == (
        "2 of 8 cells done, 2 running, 1 failed, about 3 min left, best so far 0.500 on test (b)"
    )
    assert summary(states[5:]) == "0 of 3 cells done, 0 running"


def test_a_cells_end_is_one_line():
    assert ending(CellState("a", "completed", rate=0.25, seconds=60.0)) == "done    a  success 0.250 on test  60 s"
    assert ending(CellState("a", "failed", error="loss is nan")) == "failed  a: loss is nan"
    assert ending(CellState("a", "killed")) == "killed  a: ended without a result"
    assert ending(CellState("a", "running")) is None


def test_where_stderr_is_no_terminal_every_end_is_a_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(board, "SECONDS_BETWEEN_LOOKS", 0.01)
    planned = [cell(tmp_path, "1" * 16), cell(tmp_path, "2" * 16)]
    with board.shown(planned):
        cell(tmp_path, "1" * 16, status="completed", passes=(passed(0.5),), seconds=3.0)
        cell(tmp_path, "2" * 16, status="failed", error=Error("stage", "no room"))
    lines = capsys.readouterr().err.splitlines()
    assert "done    cell-11111111  success 0.500 on test  3 s" in lines
    assert "failed  cell-22222222: no room" in lines
    assert lines[-1] == "1 of 2 cells done, 0 running, 1 failed, best so far 0.500 on test (cell-11111111)"


def test_a_cell_completed_before_counts_wherever_it_lies(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(board, "SECONDS_BETWEEN_LOOKS", 0.01)
    here = cell(tmp_path, "1" * 16)
    other = cell(tmp_path, "2" * 16, status="completed", cell="1" * 16, passes=(passed(0.5),), seconds=3.0)
    with board.shown([here], {here.hash: RunFiles(other.directory.name, other.directory)}):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "1 of 1 cells done, 0 running, best so far 0.500 on test (cell-11111111)"
