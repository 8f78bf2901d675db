"""A cell is one run of a command. Hydra starts each; here its status is kept, whatever becomes of it."""

from __future__ import annotations

import json
import logging
import platform
import secrets
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nat import composition, report, run
from nat.cell_hash import cell_hash
from nat.config import Config, settled
from nat.files import write_json, write_text
from nat.types import RequestError, StageError

if TYPE_CHECKING:
    from nat.composition import Plan

logger = logging.getLogger(__name__)
# In worker processes of a launcher this import is what makes Hydra's interpolations work.
composition.register_resolvers()

# What a run may differ in without being another run: a directory with the same rest is resumed.
NOT_OF_THE_RUN = ("sweep", "format", "examples")
LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "hydra-core", "wandb")


def run_cell(composed: Any) -> None:
    """Hydra's task function. Never raises but for an interrupt: a failure is printed, logged and written down.

    (An exception would make Hydra print a traceback, and `sys.exit` would end a whole sweep.)
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    run_dir = Path(hydra.runtime.output_dir)
    overrides = list(hydra.overrides.task)
    if hydra.mode == RunMode.MULTIRUN:
        print(f"\n[{hydra.job.num + 1}] {run_dir.name}", flush=True)
    results: dict[str, Any] = {"status": "running", "overrides": overrides}
    try:
        is_sweep = hydra.mode == RunMode.MULTIRUN
        config = settled(composition.checked(composed, overrides), is_sweep)
        results["cell"] = cell_hash(config)
        resume = is_unfinished_run_of(config, run_dir)
        earlier = _results(run_dir).get("tracking_id") if resume else None
        tracking_id = str(earlier or secrets.token_hex(4))
        results["tracking_id"] = tracking_id
        write_json(run_dir / "results.json", results)
        write_text(run_dir / "config.yaml", as_yaml(config))
        results |= run.run(
            config,
            run_dir,
            lambda line: print(line, flush=True),
            resume=resume,
            save=bool(config.training.save),
            tracking_id=tracking_id,
        )
        results |= {"versions": versions(), "git": git_state(), "status": "completed"}
        write_json(run_dir / "results.json", results)
    except KeyboardInterrupt:
        _fail(run_dir, results, "interrupted", "interrupted")
        raise
    except RequestError as error:
        _fail(run_dir, results, "request", str(error))
    except StageError as error:
        logger.exception("a stage failed")
        _fail(run_dir, results, "stage", str(error))
    except Exception as error:
        logger.exception("a stage failed")
        if hydra.verbose is True:
            traceback.print_exception(error)
        first_line = (str(error).splitlines() or [""])[0]
        _fail(run_dir, results, "stage", f"{type(error).__name__}: {first_line}\nTraceback: {run_dir / 'nat.log'}")


def _fail(run_dir: Path, results: Mapping[str, Any], kind: str, message: str) -> None:
    word = "error" if kind == "request" else "failed"
    if kind != "interrupted":
        print(f"{word}: {message}", file=sys.stderr, flush=True)
    try:
        write_json(
            run_dir / "results.json", {**results, "status": "failed", "error": {"kind": kind, "message": message}}
        )
    except OSError as error:  # a full disk: the cell then counts as failed because it has no completed results
        print(f"failed: {run_dir / 'results.json'} cannot be written ({error.strerror})", file=sys.stderr)


def as_yaml(config: Config) -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(json.loads(json.dumps(asdict(config)))))


def is_unfinished_run_of(config: Config, run_dir: Path) -> bool:
    """Whether the directory holds a run of this very configuration that did not come to its end."""
    from omegaconf import OmegaConf

    saved, results = run_dir / "config.yaml", run_dir / "results.json"
    if not saved.exists() or not results.exists():
        return False
    try:
        before = OmegaConf.to_container(OmegaConf.load(saved))
        finished = json.loads(results.read_text(encoding="utf-8")).get("status") == "completed"
    except (ValueError, OSError):
        return False
    return not finished and _same_run(config, before)


def _same_run(config: Config, saved: Any) -> bool:
    now = json.loads(json.dumps(asdict(config)))
    return isinstance(saved, dict) and all(saved.get(k) == v for k, v in now.items() if k not in NOT_OF_THE_RUN)


def conclude(plan: Plan) -> int:
    """Say how a command's cells ended; returns the exit code."""
    ended = [(cell, _results(cell.directory)) for cell in plan.cells]
    failed = [(cell, results) for cell, results in ended if results.get("status") != "completed"]
    if not plan.is_sweep:
        results = ended[0][1]
        if not failed:
            files = ", ".join(sorted(path.name for path in plan.directory.iterdir() if not path.name.startswith(".")))
            print(f"written to    {plan.directory} ({files})")
            return 0
        return 2 if (results.get("error") or {}).get("kind") == "request" else 1
    print()
    if len(failed) < len(ended):
        print(report.write(plan.directory))
    for cell, results in failed:
        message = str((results.get("error") or {}).get("message", "no results were written")).splitlines()[0]
        print(f"failed: {cell.directory.name}: {message}", file=sys.stderr)
    return 1 if failed else 0


def _results(run_dir: Path) -> dict[str, Any]:
    try:
        return json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def check_data(plan: Plan) -> None:
    """Read the trajectories of every cell of a sweep and count them, before the first cell starts.

    Raises RequestError, which names the cell, where a cell asks for more than there is.
    """
    pools: dict[str, Any] = {}
    for cell in plan.cells:
        config = cell.config
        if config.training.objective == "none" or config.trajectories.kind == "scripted":
            continue  # counted by `nat.config.check`
        key = repr((config.trajectories, config.environment, config.evaluation.split, config.evaluation.n_questions))
        if key not in pools:
            pools[key] = run.set_questions_apart(config, run.read_trajectories(config))[1]
        try:
            run.check_pool(config, pools[key])
        except RequestError as error:
            raise RequestError(f"cell {cell.directory.name}: {error}") from None


def make_directories(plan: Plan) -> None:
    """Make every cell's directory, before the first one starts.

    Raises RequestError where one cannot be made, or where a single run's holds a finished run of another configuration:
    a request that turns out to be wrong must not cost somebody's results.
    """
    from omegaconf import OmegaConf

    for cell in plan.cells:
        key = "hydra.sweep.dir" if plan.is_sweep else "hydra.run.dir"
        try:
            cell.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"{key}={plan.directory}: cannot be made ({error.strerror}).") from None
        if not plan.is_sweep and _results(cell.directory).get("status") == "completed":
            saved = OmegaConf.to_container(OmegaConf.load(cell.directory / "config.yaml"))
            if not _same_run(cell.config, saved):
                raise RequestError(
                    f"{key}={plan.directory}: {cell.directory} holds a finished run of another configuration.\n"
                    "Name another directory, or remove this one."
                )


def write_plan(plan: Plan) -> None:
    """What a sweep is going to run, so that a report can say what is missing."""
    plan.directory.mkdir(parents=True, exist_ok=True)
    cells = [{"name": cell.directory.name, "overrides": list(cell.overrides)} for cell in plan.cells]
    write_json(plan.directory / "sweep.json", {"cells": cells})


def evaluation_arguments(model_dir: Path, overrides: Sequence[str], config_dir: str | None) -> list[str]:
    """The command line under which a saved model is rolled out: as in the run that made it, without its training.

    Its prompt, questions and decoding lie beside it (`nat.run.save_configuration`); overrides change them.
    """
    if not (model_dir / "config.json").is_file() and (model_dir / "model" / "config.json").is_file():
        model_dir = model_dir / "model"
    if not (model_dir / "config.json").is_file():
        raise RequestError(f"nat evaluate {model_dir}: no model there (no config.json); give a run's model/ directory.")
    named = {override.lstrip("+~").partition("=")[0] for override in overrides}
    saved = [g for g in run.SAVED_GROUPS if g not in named and (model_dir / "conf" / g / "saved.yaml").is_file()]
    folders = [Path(folder).absolute() for folder in (config_dir, model_dir / "conf") if folder is not None]
    searchpath = ",".join(composition.quote(f"file://{folder}") for folder in folders)
    return [
        *(f"{group}=saved" for group in saved),
        "training=none",
        "mixing=positive_only",
        "model=hub",
        f"model.path={composition.quote(model_dir)}",
        f"model.threads={json.dumps(run.facts_of_saved(str(model_dir)).get('threads'))}",
        f"hydra.searchpath=[{searchpath}]",
        *overrides,
    ]


def versions() -> dict[str, str]:
    from nat import __version__

    found = {"nat": __version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_state() -> dict[str, Any] | None:
    """Commit of the working directory and whether it has changes; None outside a repository."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
