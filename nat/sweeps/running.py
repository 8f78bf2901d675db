"""What a plan asks for, carried out: one run, or a sweep."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from nat.reporting.write import Report, report
from nat.runs.directory import read_results
from nat.runs.results import Results
from nat.sweeps import cells, composition
from nat.sweeps import sweep as sweeps
from nat.sweeps.composition import Plan
from nat.sweeps.suited import suited
from nat.types import RequestError, StageError


def run_plan(planned: Plan, config_dir: str | None) -> int:
    """Run it, and say how it ended; the exit code of the command."""
    if planned.is_sweep:
        return _run_sweep(planned, config_dir)
    _run_single(planned, config_dir)
    return cells.conclude(planned)


def train(overrides: Sequence[str], config_dir: str | None = None) -> Results:
    """One run. Raises RequestError or StageError where it comes to no results."""
    planned = composition.plan([*overrides, *suited(overrides, config_dir)], False, config_dir)
    if planned.is_sweep:
        raise RequestError("nat.train: this configuration is a sweep of several runs; call nat.sweep.")
    with _logging_as_it_was():
        _run_single(planned, config_dir)
    cells.conclude(planned)
    results = read_results(planned.directory)
    if results.status != "completed":
        error = results.error
        message = error.message if error is not None else f"{planned.directory}: the run ended without results"
        raise (StageError if error is None or error.kind == "stage" else RequestError)(message)
    return results


def sweep(overrides: Sequence[str], config_dir: str | None = None) -> Report:
    """Every combination of values, and the report of them; cells that failed are in its `comparison.missing`."""
    planned = composition.plan([*overrides, *suited(overrides, config_dir)], True, config_dir)
    with _logging_as_it_was():
        _run_sweep(planned, config_dir)
    return report(planned.directory, planned.cells[0].config.report)


def _run_sweep(planned: Plan, config_dir: str | None) -> int:
    done = sweeps.borrow(planned, sweeps.done_here(planned))
    n_questions = cells.check_data(planned, done)
    cells.make_directories(planned, done)
    return sweeps.run(planned, done, config_dir, n_questions)


def _run_single(planned: Plan, config_dir: str | None) -> None:
    """Let Hydra run `nat.sweeps.cells.run_cell` once: it makes the directory's `.hydra/` and its log."""
    from hydra.core.global_hydra import GlobalHydra

    cells.make_directories(planned)
    arguments = [*planned.arguments, *composition.searchpath(config_dir)]
    with composition.shipped_configuration(), composition.composition_errors():
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        hydra.run(config_name="config", task_function=cells.run_cell, overrides=arguments)


@contextmanager
def _logging_as_it_was() -> Iterator[None]:
    """Hydra sends a process's log records to the run's file; whoever called from Python has a log of their own."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
