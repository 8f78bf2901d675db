"""A run's directory: its `results.json`, and what is known of the machine that it was made on."""

from __future__ import annotations

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from nat.core.files import write_json
from nat.core.paths import __version__
from nat.runs import results as result_files
from nat.runs.packed import RESULTS, RunFiles
from nat.runs.results import Git, Results

LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "hydra-core", "wandb")


def write_results(run_dir: Path, results: Results) -> None:
    """The file appears whole or not at all."""
    write_json(run_dir / RESULTS, result_files.as_tree(results))


def load_results(files: RunFiles) -> Results:
    """What `results.json` says. Raises OSError or ValueError where it cannot be read or is wrong."""
    tree = json.loads(files.read_text(RESULTS) or "")
    if not isinstance(tree, dict) or "status" not in tree:
        raise ValueError("it has no status")
    return result_files.read(tree)


def read_results(run_dir: Path) -> Results:
    """As `results_of`."""
    return results_of(RunFiles(run_dir.name, run_dir))


def results_of(files: RunFiles) -> Results:
    """As `load_results`; a run without a file that can be read counts as planned, without a hash."""
    try:
        return load_results(files)
    except (OSError, ValueError):
        return Results(status="planned")


def versions() -> dict[str, str]:
    found = {"nat": __version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_state() -> Git | None:
    """Commit of the working directory and whether it has changes; None outside a repository."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return Git(git("rev-parse", "HEAD"), bool(git("status", "--porcelain")))
    except (OSError, subprocess.SubprocessError):
        return None
