"""A sweep: which cells are left, Hydra's launcher for those, and how they ended.

The directory is fixed by `sweep.name`; everything known about a sweep is read from it, so that the same command goes on
where it was killed, whatever killed it, and two machines that share the directory share the work.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nat import board, cells, composition
from nat.config import CONF_DIR
from nat.files import write_json

if TYPE_CHECKING:
    from nat.composition import Cell, Plan

logger = logging.getLogger(__name__)
PLAN = "sweep.json"


def run(plan: Plan, config_dir: str | None) -> int:
    """Run what is left of a sweep; returns the exit code: 0 if every cell is completed, else 1."""
    done = completed(plan.directory)
    left = [cell for cell in plan.cells if cell.hash not in done]
    write_plan(plan)
    n_done = len(plan.cells) - len(left)
    before = f": {n_done} completed before, {len(left)} to run" if n_done else ""
    print(f"{len(plan.cells)} cells below {plan.directory}{before}")
    for line in advice(plan):
        print(line)
    sys.stdout.flush()
    if left:
        for cell in left:
            cells.announce(cell)
        with board.shown(plan.cells, done):
            launch(plan, left, config_dir)
    return conclude(plan)


def advice(plan: Plan) -> list[str]:
    """What difference the planned questions and seeds can show, said before they are paid for."""
    from nat.statistics import Assumed, planning_advice

    evaluated = [cell for cell in plan.cells if cell.config.evaluation.kind == "rollouts"]
    if not evaluated:
        return []
    seeds = {cell.config.seed for cell in evaluated}
    arms = len(evaluated) // len(seeds)
    config = evaluated[0].config
    assumed = Assumed(config.report.assumed.disagreement, config.report.assumed.seed_sd)
    wanted = config.report.wanted_effect
    n_findings = max(1, min(arms - 1, 3))  # the report chooses on validation and states three differences at most
    return planning_advice(config.evaluation.n_questions, len(seeds), assumed, n_findings, wanted)


def launch(plan: Plan, left: Sequence[Cell], config_dir: str | None) -> None:
    """Hand the cells that are left to Hydra's launcher, as they were composed and checked.

    (Hydra's own sweeper knows products of value lists only, not a product with the completed cells taken out.) Where
    the launcher breaks, say because a worker was killed, those that never began go to a new one.
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
        context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config))
        while left:
            launcher = Plugins.instance().instantiate_launcher(
                hydra_context=context, task_function=cells.run_cell, config=config
            )
            batches = [
                [*cell.overrides, f"hydra.sweep.subdir={composition.quote(cell.directory.name)}"] for cell in left
            ]
            try:
                launcher.launch(batches, initial_job_idx=0)
                return
            except Exception as error:
                logger.exception("the launcher broke")
                print(f"warning: the launcher ended early ({type(error).__name__}: {error})", file=sys.stderr)
            never_began = [cell for cell in left if cells.state(cell) == "planned"]
            # A queue's jobs go on by themselves: starting them again would run them twice.
            if "submitit" in str(config.hydra.launcher._target_) or len(never_began) == len(left):
                return
            left = never_began


def completed(directory: Path) -> dict[str, Path]:
    """The completed cells below a directory: hash to run directory, wherever below it they lie."""
    found = {}
    for path in sorted(directory.glob("*/results.json")):
        results = cells.read_results(path.parent)
        if results.get("status") == "completed" and "cell" in results:
            found.setdefault(results["cell"], path.parent)
    return found


def write_plan(plan: Plan) -> None:
    """What a sweep is going to run: the launcher's list, and how a report knows what is missing."""
    plan.directory.mkdir(parents=True, exist_ok=True)
    planned = [
        {"name": cell.directory.name, "cell": cell.hash, "overrides": list(cell.overrides)} for cell in plan.cells
    ]
    write_json(plan.directory / PLAN, {"cells": planned})


def conclude(plan: Plan) -> int:
    """Print the report and every cell that did not come to its end; returns the exit code."""
    from nat import report

    done = completed(plan.directory)
    unfinished = [cell for cell in plan.cells if cell.hash not in done]
    results = [cells.read_results(directory) for directory in done.values()]
    print()
    if results:
        try:
            print(report.write(plan.directory, plan.cells[0].config.report))
        except OSError as error:  # a full disk: what failed must still be said
            print(f"failed: the report: {error.filename}: {error.strerror}", file=sys.stderr)
        print("\n".join(_overhead(results)))
    for line, number in Counter(line for one in results for line in one.get("warnings", ())).items():
        print(f"{line} ({number} cells)", file=sys.stderr)
    for cell in unfinished:
        print(f"{cells.state(cell)}: {cell.directory.name}{_reason(cell)}", file=sys.stderr)
    if unfinished:
        print(f"{len(unfinished)} of {len(plan.cells)} cells are not completed; the same command runs them again.")
    return 1 if unfinished else 0


def _reason(cell: Cell) -> str:
    message = str((cells.read_results(cell.directory).get("error") or {}).get("message", ""))
    return f": {message.splitlines()[0]}" if message else ""


def _overhead(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What a cell costs besides its training and its roll-outs."""
    measured = [one for one in results if "seconds" in one and "timing" in one]
    if measured:
        total = sum(one["seconds"] for one in measured)
        useful = sum(one["timing"].get(stage, 0.0) for one in measured for stage in ("training", "evaluation"))
        yield (
            f"{total / len(measured):.0f} s a cell (mean of {len(measured)}), "
            f"{max(0.0, 1 - useful / max(total, 1e-9)):.1%} of it outside training and evaluation"
        )
