"""The same four cells one after the other and two at a time, in turn; and what a cell costs besides its work.

    python experiments/benchmarks/sweep_launchers.py

Wall time of the whole command (start, planning, cells, report), from an empty cache each time, so that neither inherits
the other's shared work. `overhead` is the share of the serial command's wall time that is neither training nor
evaluation. Writes into results.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results import note

from nat.runs.directory import read_results

SWEEP = (
    *("train", "-m", "experiment=ratio_sweep", "mixing.positives=50", "mixing.ratio=1:0,1:4", "seed=0"),
    *("evaluation.n_questions=200", "tracking=none"),
)
LAUNCHERS = {"serial": (), "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")}


def run(launcher: str, steps: int) -> tuple[float, float]:
    """Wall seconds of the command, and the seconds of its cells' training and evaluation, summed."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NAT_CACHE": f"{folder}/cache", "PYTHONPATH": str(Path(__file__).parents[2])}
        sweep = Path(folder) / "sweep"
        overrides = (*LAUNCHERS[launcher], f"training.max_steps={steps}", f"hydra.sweep.dir={sweep}")
        start = time.monotonic()
        program = [sys.executable, "-m", "nat", *SWEEP, *overrides]
        subprocess.run(program, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall = time.monotonic() - start
        timings = [read_results(path.parent).timing for path in sweep.glob("*/results.json")]
    return wall, sum(timing["training"] + timing["evaluation"] for timing in timings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100, help="optimiser steps a cell")
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    walls: dict[str, list[float]] = {launcher: [] for launcher in LAUNCHERS}
    overheads = []
    for _ in range(arguments.repeats):
        for launcher in LAUNCHERS:
            wall, useful = run(launcher, arguments.steps)
            walls[launcher].append(round(wall, 1))
            if launcher == "serial":
                overheads.append(round(1 - useful / wall, 4))
            print(launcher, f"{wall:.1f} s", flush=True)
    ratios = [serial / joblib for serial, joblib in zip(walls["serial"], walls["joblib"], strict=True)]
    summary = {
        "steps": arguments.steps,
        "cells": 4,
        "seconds": walls,
        "speed_up": round(statistics.median(ratios), 2),
        "overhead": statistics.median(overheads),
        "load_at_the_end": os.getloadavg()[0],
    }
    note(__file__, summary)
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
