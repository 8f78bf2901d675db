"""A sweep: which cells are left, Hydra's launcher for those, and how they ended.

The directory is fixed by `sweep.name`; everything known about a sweep is read from it, so that the same command goes on
where it was killed, whatever killed it, and two machines that share the directory share the work.
"""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nat.core.files import write_json
from nat.core.paths import CONF_DIR
from nat.core.statistics import Assumed, planning_advice
from nat.reporting.write import report
from nat.runs.directory import RESULTS, read_results, results_of
from nat.runs.packed import PLAN, RunFiles, packed_runs
from nat.runs.results import Results
from nat.sweeps import board, cells, composition
from nat.sweeps.composition import Cell, Plan
from nat.types import RequestError

logger = logging.getLogger(__name__)
NOT_BORROWED = ("wandb", "model", "checkpoints", ".lock")
ATTEMPTS = 2  # for a cell whose process is killed: once may be its neighbour's fault, as where memory runs out
SECONDS_BETWEEN_LOOKS = 2.0


def run(plan: Plan, done: Mapping[str, RunFiles], config_dir: str | None, n_questions: int | None) -> int:
    """Run what is left of a sweep; returns the exit code: 0 if every cell is completed, else 1.

    Args:
        done: the cells that are completed already (`borrow`).
        n_questions: how many there are to evaluate on; None: as many as are asked for.
    """
    external = plan.cells[0].config.report.external or []
    for path in [external] if isinstance(external, str) else external:
        if not Path(path).is_file():
            raise RequestError(f"report.external={path}: there is no such file.")
    left = [cell for cell in plan.cells if cell.hash not in done]
    write_plan(plan)
    n_done = len(plan.cells) - len(left)
    before = f": {n_done} completed before, {len(left)} to run" if n_done else ""
    print(f"{len(plan.cells)} cells below {plan.directory}{before}")
    for line in advice(plan, n_questions):
        print(line)
    sys.stdout.flush()
    errors: dict[str, str] = {}
    if left:
        left = [cell for cell in left if _announced(cell, errors)]
        try:
            with board.shown(plan.cells, done):
                launch(plan, left, config_dir, errors)
        except KeyboardInterrupt:
            name = plan.cells[0].config.sweep.name
            print(f"\nthe same command with sweep.name={name} goes on with the cells that are left", file=sys.stderr)
            raise
    return conclude(plan, errors)


def _announced(cell: Cell, errors: dict[str, str]) -> bool:
    try:
        cells.announce(cell)
    except OSError as error:  # its disk is full: the others must run all the same
        errors[cell.hash] = f"{cell.directory}: {error.strerror}"
        print(f"failed  {cell.directory.name}: {error.strerror}", file=sys.stderr)
        return False
    return True


def advice(plan: Plan, n_questions: int | None = None) -> list[str]:
    """What difference the planned questions and seeds can show, said before they are paid for."""
    evaluated = [cell for cell in plan.cells if cell.config.evaluation.kind == "rollouts"]
    if not evaluated:
        return []
    seeds = {cell.config.seed for cell in evaluated}
    arms = len(evaluated) // len(seeds)
    config = evaluated[0].config
    assumed = Assumed(config.report.assumed.disagreement, config.report.assumed.seed_sd)
    n_findings = max(1, min(arms - 1, 3))  # the report chooses on validation and states three differences at most
    settings = config.report
    n_questions = n_questions or config.evaluation.n_questions
    return planning_advice(n_questions, len(seeds), assumed, n_findings, settings.wanted_effect, settings.power)


def launch(plan: Plan, left: Sequence[Cell], config_dir: str | None, errors: dict[str, str]) -> None:
    """Hand the cells that are left to Hydra's launcher, as they were composed and checked.

    (Hydra's own sweeper knows products of value lists only, not a product with the completed cells taken out.) Where
    the launcher breaks, say because a worker was killed, the cells that it took along go to a new one: a cell that was
    killed gets a second attempt, and one at which nothing moves on is given up, with its reason in `errors`.
    """
    from hydra import initialize_config_dir
    from hydra._internal.callbacks import Callbacks
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.plugins import Plugins
    from hydra.types import HydraContext, RunMode

    GlobalHydra.instance().clear()
    arguments = [*plan.arguments, *composition.searchpath(config_dir)]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"), composition.composition_errors():
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        config = hydra.compose_config("config", arguments, run_mode=RunMode.MULTIRUN)
        callbacks = Callbacks(config)
        callbacks.on_multirun_start(config=config, config_name="config")
        context = HydraContext(config_loader=hydra.config_loader, callbacks=callbacks)
        is_queue = "submitit" in str(config.hydra.launcher._target_)
        killed: Counter[str] = Counter()
        while left:
            launcher = Plugins.instance().instantiate_launcher(
                hydra_context=context, task_function=cells.run_cell, config=config
            )
            try:
                launcher.launch([_overrides_of(cell) for cell in left], initial_job_idx=0)
                break
            except Exception as error:
                logger.exception("the launcher broke")
                reason = f"the launcher ended early ({type(error).__name__}: {error})"
                print(f"warning: {reason}", file=sys.stderr)
            if is_queue:
                _wait_for_jobs(left)
                break
            left = _after_a_break(left, killed, errors, reason)
        callbacks.on_multirun_end(config=config, config_name="config")


def _overrides_of(cell: Cell) -> list[str]:
    return [*cell.overrides, f"hydra.sweep.subdir={composition.quote(cell.directory.name)}"]


def _after_a_break(left: Sequence[Cell], killed: Counter[str], errors: dict[str, str], reason: str) -> list[Cell]:
    """The cells for the next launcher, those that never began first."""
    states = {cell.hash: cells.state(cell) for cell in left}
    planned = [cell for cell in left if states[cell.hash] == "planned"]
    again = []
    for cell in left:
        if states[cell.hash] == "killed":
            killed[cell.hash] += 1
            if killed[cell.hash] < ATTEMPTS and _announced(cell, errors):
                again.append(cell)
    if len(planned) == len(left):  # the first one cannot even begin
        errors[planned[0].hash] = reason
        planned = planned[1:]
    return [*planned, *again]


def _wait_for_jobs(left: Sequence[Cell]) -> None:
    """One job of a queue ended badly: the others go on by themselves, and starting them again would run them twice."""
    print("waiting for the cells that are running; Ctrl-C ends the waiting, not the jobs", file=sys.stderr)
    while any(cells.state(cell) == "running" for cell in left):
        time.sleep(SECONDS_BETWEEN_LOOKS)


def completed(directory: Path) -> dict[str, RunFiles]:
    """The completed cells of the sweep in a directory by hash, whatever their folders are called, and those packed.

    Raises RequestError where the packed file cannot be read.
    """
    found: dict[str, RunFiles] = {}
    folders = (RunFiles(path.parent.name, path.parent) for path in sorted(directory.glob(f"*/{RESULTS}")))
    packed = (files for files in packed_runs(directory) if "/" not in files.name)  # not of a sweep below this one
    for files in (*folders, *packed):
        results = results_of(files)
        if results.status == "completed" and results.cell is not None:
            found.setdefault(results.cell, files)
    return found


def done_here(plan: Plan) -> dict[str, RunFiles]:
    """Those of `completed` in the plan's directory that need not be run: a packed cell has no weights to save."""
    saving = {cell.hash for cell in plan.cells if cell.config.saves}
    found = completed(plan.directory)
    return {hash: files for hash, files in found.items() if files.directory is not None or hash not in saving}


def borrow(plan: Plan, done: Mapping[str, RunFiles]) -> dict[str, RunFiles]:
    """Copy in the cells that a sweep beside this one has completed; returns those done here and those copied.

    Cells with one hash give the same results, so that experiments share them. Weights stay where they are: a cell that
    is to save its model is run here.
    """
    left = {cell.hash: cell for cell in plan.cells if cell.hash not in done and not cell.config.saves}
    found = dict(done)
    beside = sorted(path for path in plan.directory.parent.glob("*/") if path.name != plan.directory.name)
    for directory in beside if left else []:
        copied = 0
        for hash, files in _completed_beside(directory).items():
            if hash in left and hash not in found:
                here = left[hash].directory
                if files.directory is None:
                    files.unpack(here)
                else:
                    ignored = shutil.ignore_patterns(*NOT_BORROWED)
                    shutil.copytree(files.directory, here, ignore=ignored, dirs_exist_ok=True)
                found[hash], copied = RunFiles(here.name, here), copied + 1
        if copied:
            print(f"{copied} cells are those of {directory}, and were copied from there", flush=True)
    return found


def _completed_beside(directory: Path) -> dict[str, RunFiles]:
    """As `completed`; where a packed file cannot be read this says so, and its sweep gives nothing."""
    try:
        return completed(directory)
    except RequestError as error:
        print(f"warning: {error}", file=sys.stderr)
        return {}


def write_plan(plan: Plan) -> None:
    """What a sweep is going to run: the launcher's list, and how a report knows what is missing."""
    plan.directory.mkdir(parents=True, exist_ok=True)
    planned = [
        {"name": cell.directory.name, "cell": cell.hash, "overrides": list(cell.overrides)} for cell in plan.cells
    ]
    write_json(plan.directory / PLAN, {"cells": planned})


def conclude(plan: Plan, errors: Mapping[str, str]) -> int:
    """Print the report and every cell that did not come to its end; returns the exit code.

    Args:
        errors: by cell hash, why cells ended that could not write it down themselves.
    """
    done = done_here(plan)
    unfinished = [cell for cell in plan.cells if cell.hash not in done]
    results = [results_of(files) for files in done.values()]
    print()
    if results:
        try:
            print(report(plan.directory, plan.cells[0].config.report).text)
        except Exception as error:  # a full disk, a wrong report.external: what failed must still be said
            logger.exception("no report")
            print(f"failed: no report ({str(error) or type(error).__name__})", file=sys.stderr)
            print(f"nat report {plan.directory} writes it again", file=sys.stderr)
        print("\n".join(_overhead(results)))
    for line, number in Counter(line for one in results for line in one.warnings).items():
        print(f"{line} ({number} cells)", file=sys.stderr)
    for cell in unfinished:
        reason = errors.get(cell.hash) or cells.unwritten.get(cell.hash) or _reason(cell)
        print(f"{cells.state(cell)}: {cell.directory.name}{f': {reason}' if reason else ''}", file=sys.stderr)
    if unfinished:
        name = plan.cells[0].config.sweep.name
        print(
            f"{len(unfinished)} of {len(plan.cells)} cells are not completed; "
            f"the same command with sweep.name={name} runs them again."
        )
    return 1 if unfinished else 0


def _reason(cell: Cell) -> str:
    error = read_results(cell.directory).error
    return error.first_line if error is not None else ""


def _overhead(results: Sequence[Results]) -> Iterator[str]:
    """What a cell costs besides its training and its roll-outs."""
    measured = [(one.seconds, one.timing) for one in results if one.seconds is not None and one.timing]
    if measured:
        total = sum(seconds for seconds, _ in measured)
        useful = sum(timing.get(stage, 0.0) for _, timing in measured for stage in ("training", "evaluation"))
        yield (
            f"{total / len(measured):.0f} s a cell (mean of {len(measured)}), "
            f"{max(0.0, 1 - useful / max(total, 1e-9)):.1%} of it outside training and evaluation"
        )
