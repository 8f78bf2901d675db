"""A cell is one run of a command. Hydra starts each; here its status is kept, whatever becomes of it."""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import sys
import time
import traceback
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nat import run
from nat.config.tree import Config
from nat.core.files import write_text
from nat.core.progress import begin, kept_in
from nat.runs.directory import RESULTS, git_state, read_results, versions, write_results
from nat.runs.results import Error, Results
from nat.stages.questions import questions_elsewhere
from nat.stages.saving import SAVED_GROUPS, threads_of_saved
from nat.sweeps import composition
from nat.sweeps.cell_hash import cell_hash
from nat.sweeps.composition import Cell, Plan
from nat.tracking import WandbTracking, tracking_id
from nat.types import RequestError, StageError

logger = logging.getLogger(__name__)
PROGRESS = ".progress.json"  # in a cell's directory while it runs
unwritten: dict[str, str] = {}  # by hash: why cells of this process failed that could not write it down


def run_cell(composed: Any) -> None:
    """Hydra's task function. Never raises but for an interrupt: a failure is written down, and printed or on the board.

    (An exception would make Hydra print a traceback, and `sys.exit` would end a whole sweep.)
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    run_dir = Path(hydra.runtime.output_dir)
    is_sweep = hydra.mode == RunMode.MULTIRUN
    logging.raiseExceptions = False  # where nat.log cannot be written, a traceback for every line would bury the reason
    with lock(run_dir, patience=2.0) as is_ours:
        if not is_ours:
            # In a sweep the cell is left to the other process, whose results the board and the report find.
            if not is_sweep:
                print(f"error: hydra.run.dir={run_dir}: another process is running there.", file=sys.stderr)
            return
        with kept_in(run_dir / PROGRESS) if is_sweep else nullcontext():
            _run_locked(composed, run_dir, list(hydra.overrides.task), is_sweep, hydra.verbose is True)
        if is_sweep:
            return_memory()


def _run_locked(composed: Any, run_dir: Path, overrides: list[str], is_sweep: bool, verbose: bool) -> None:
    start = time.monotonic()
    begin("starting")
    results = Results(status="running", overrides=tuple(overrides))

    def say(line: str) -> None:
        nonlocal results
        if line.startswith("warning:"):
            results = replace(results, warnings=(*results.warnings, line))
        if is_sweep:
            logger.info(line)
        else:
            print(line, flush=True)

    try:
        config = composition.checked(composed, overrides).settled(is_sweep)
        hash = cell_hash(config)
        # A single run's `sweep.name` is the time: resumed, it would become another W&B run.
        own_group = config.tracking.group if isinstance(config.tracking, WandbTracking) else None
        group = own_group or config.sweep.name if is_sweep else run_dir.name
        results = replace(results, cell=hash, tracking_id=tracking_id(hash, group))
        earlier = read_results(run_dir)
        if is_sweep and earlier.status == "completed" and earlier.cell == hash:
            return  # by another process, after this one had made its plan
        write_results(run_dir, results)
        write_text(run_dir / "config.yaml", as_yaml(config))
        found = run.run(
            config,
            run_dir,
            say,
            resume=earlier.status != "completed" and earlier.cell == hash,
            save=config.saves,
            tracking_id=tracking_id(hash, group),
        )
        import torch

        found = replace(
            found,
            overrides=results.overrides,
            warnings=results.warnings,
            cell=hash,
            tracking_id=results.tracking_id,
            versions=versions(),
            git=git_state(),
            threads=torch.get_num_threads(),
            seconds=round(time.monotonic() - start, 3),
        )
        write_results(run_dir, found)
    except KeyboardInterrupt:
        _fail(run_dir, results, is_sweep, Error("interrupted", "interrupted"))
        raise
    except RequestError as error:
        _fail(run_dir, results, is_sweep, Error("request", str(error)))
    except StageError as error:
        logger.exception("a stage failed")
        _fail(run_dir, results, is_sweep, Error("stage", str(error)))
    except Exception as error:
        logger.exception("a stage failed")
        if verbose:
            traceback.print_exception(error)
        first_line = (str(error).splitlines() or [""])[0]
        message = f"{type(error).__name__}: {first_line}\nTraceback: {run_dir / 'nat.log'}"
        _fail(run_dir, results, is_sweep, Error("stage", message))


def return_memory() -> None:
    """Give freed memory back to the system between two cells of one process.

    glibc keeps freed blocks of every size that roll-outs used: a serial sweep of thirty cells had grown to 3.4 GB of
    which 0.6 GB were in use.
    """
    gc.collect()
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # another C library has no such call
        ctypes.CDLL(None).malloc_trim(0)


def _fail(run_dir: Path, results: Results, is_sweep: bool, why: Error) -> None:
    word, message = "error" if why.kind == "request" else "failed", why.message
    try:
        write_results(run_dir, replace(results, status="failed", error=why))
        if is_sweep:
            return  # the board reads it there
    except OSError as error:  # a full disk: the cell then counts as killed because it has no results
        unwritten[str(results.cell)] = why.first_line
        message += f"\n{run_dir / RESULTS} cannot be written either ({error.strerror})"
    if why.kind != "interrupted":
        print(f"{word}: {run_dir.name + ': ' if is_sweep else ''}{message}", file=sys.stderr, flush=True)


@contextmanager
def lock(run_dir: Path, patience: float = 0.0) -> Iterator[bool]:
    """Whether this process is now the only one that runs the cell; the lock goes with the process, however it ends.

    Args:
        patience: seconds to wait for it; who only looks whether a cell still runs holds the lock for a moment.
    """
    from filelock import FileLock, Timeout

    guard = FileLock(run_dir / ".lock")
    try:
        guard.acquire(timeout=patience)
    except (Timeout, PermissionError):  # another process's, or in another user's directory
        yield False
        return
    try:
        yield True
    finally:
        guard.release()


def state(cell: Cell, results: Results | None = None) -> str:
    """`planned`, `running`, `completed`, `failed`, or `killed`: it says that it runs, and no process holds its lock.

    Args:
        results: what `read_results` gave, where they have just been read.
    """
    results = read_results(cell.directory) if results is None else results
    if results.cell != cell.hash:
        return "planned"
    if results.status == "running":
        with lock(cell.directory) as is_free:
            if is_free:
                # It may have come to its end between the two looks.
                status = read_results(cell.directory).status
                return "killed" if status == "running" else status
    return results.status


def announce(cell: Cell) -> None:
    """Write down that a cell of a sweep is going to run, unless another process is running it already.

    What an earlier attempt left stays for the cell to resume from.
    """
    with lock(cell.directory) as is_ours:
        if is_ours and read_results(cell.directory).status != "completed":
            write_results(cell.directory, Results(status="planned", cell=cell.hash, overrides=tuple(cell.overrides)))


def as_yaml(config: Config) -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(json.loads(json.dumps(asdict(config)))))


def conclude(plan: Plan) -> int:
    """Say how a single run ended; returns the exit code."""
    results = read_results(plan.directory)
    if results.status == "completed":
        files = ", ".join(sorted(path.name for path in plan.directory.iterdir() if not path.name.startswith(".")))
        print(f"written to    {plan.directory} ({files})")
        return 0
    return 1 if results.error is not None and results.error.kind == "stage" else 2


def check_data(plan: Plan, done: Container[str] = ()) -> int | None:
    """Read the trajectories of every cell of a sweep that is not in `done` and count them, before the first one starts.

    Returns how many questions the files leave to evaluate on (the fewest, where cells differ); None where all are
    generated. Raises RequestError, which names the cell, where a cell asks for more than there is.
    """
    pools: dict[str, run.Gathered] = {}
    asked_elsewhere: set[str] = set()
    fewest: int | None = None
    for cell in plan.cells:
        config = cell.config
        if cell.hash in done:
            continue
        if not config.trains or config.generates:
            # Counted by `nat.config.tree.Config.check`; what is asked elsewhere may lie in files.
            for name in config.also_in:
                key = repr((name, config.also_in[name], config.evaluation))
                if key not in asked_elsewhere:
                    asked_elsewhere.add(key)
                    questions_elsewhere(name, config.also_in[name], config.agent, config.search, config.evaluation)
            continue
        asked = config.evaluation
        where = (config.environment, config.also_in)
        key = repr((config.trajectories, config.quality, where, asked.kind, asked.split, asked.n_questions))
        if key not in pools:
            pools[key] = run.gather(config)
            n_questions = len(pools[key].apart.questions)
            fewest = min(n_questions, fewest or n_questions)
        try:
            run.classes_of(config, pools[key])
        except RequestError as error:
            raise RequestError(f"cell {cell.directory.name}: {error}") from None
    return fewest


def make_directories(plan: Plan, done: Container[str] = ()) -> None:
    """Make the directory of every cell whose hash is not in `done`, before the first one starts.

    Raises RequestError where one cannot be made, or where a single run's holds a finished run of another configuration:
    a request that turns out to be wrong must not cost somebody's results.
    """
    key = "hydra.sweep.dir" if plan.is_sweep else "hydra.run.dir"
    for cell in plan.cells:
        if cell.hash in done:
            continue
        try:
            cell.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"{key}={plan.directory}: cannot be made ({error.strerror}).") from None
        results = read_results(cell.directory)
        if not plan.is_sweep and results.status == "completed" and results.cell != cell.hash:
            raise RequestError(
                f"{key}={plan.directory}: {cell.directory} holds a finished run of another configuration.\n"
                "Name another directory, or remove this one."
            )


def evaluation_arguments(
    model_dir: Path, overrides: Sequence[str], config_dir: str | None, verb: str = "evaluate"
) -> list[str]:
    """The command line under which a saved model is rolled out: as in the run that made it, without its training.

    Its prompt, questions and decoding lie beside it (`nat.stages.saving.save_configuration`); overrides change them.
    """
    if not (model_dir / "config.json").is_file() and (model_dir / "model" / "config.json").is_file():
        model_dir = model_dir / "model"
    if not (model_dir / "config.json").is_file():
        raise RequestError(f"nat {verb} {model_dir}: no model there (no config.json); give a run's model/ directory.")
    named = {override.lstrip("+~").partition("=")[0] for override in overrides}
    saved = [g for g in SAVED_GROUPS if g not in named and (model_dir / "conf" / g / "saved.yaml").is_file()]
    folders = [Path(folder).absolute() for folder in (config_dir, model_dir / "conf") if folder is not None]
    searchpath = ",".join(composition.quote(f"file://{folder}") for folder in folders)
    return [
        *(f"{group}=saved" for group in saved),
        "training=none",
        "mixing=positive_only",
        "model=hub",
        f"model.path={composition.quote(model_dir)}",
        f"model.threads={json.dumps(threads_of_saved(str(model_dir)))}",
        f"hydra.searchpath=[{searchpath}]",
        *overrides,
    ]
