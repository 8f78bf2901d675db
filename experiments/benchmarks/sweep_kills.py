"""Kill a 12-cell sweep with SIGKILL at 30 random moments, let it end, and compare with one that nobody killed.

    python experiments/benchmarks/sweep_kills.py

Each cell trains the tiny model for thirty steps, with a checkpoint every ten, and rolls it out on eight questions. A
kill goes to the whole process group, after a uniformly drawn time up to MAX_SECONDS, so that planning, training,
roll-outs and the moments between two cells are all hit. Prints, and writes into results.json: how often
each cell was completed (a completed cell whose results are written again would count twice), and whether losses and
answers equal the unbroken sweep's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from results import note

from nat.runs.directory import read_results

KILLS = 30
MAX_SECONDS = 25.0
SWEEP = (
    *("train", "-m", "method=nut,nat", "mixing.ratio='1:0','1:2'", "seed=0,1,2", "mixing.positives=20"),
    *("training.max_steps=30", "training.checkpoint_every=10", "evaluation.n_questions=8", "tracking=none"),
)


def completed(sweep: Path) -> dict[str, int]:
    """When each completed cell was written, by its name."""
    paths = sweep.glob("*/results.json")
    return {
        path.parent.name: path.stat().st_mtime_ns for path in paths if read_results(path.parent).status == "completed"
    }


def outcome_of(cell: Path) -> tuple[str, list[tuple[int, float]]]:
    lines = [json.loads(line) for line in (cell / "metrics.jsonl").read_text().splitlines()]
    return (cell / "outcomes.csv").read_text(), [(line["step"], line["loss"]) for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)

        def start(name: str) -> subprocess.Popen[bytes]:
            program = [sys.executable, "-m", "nat", *SWEEP, f"sweep.name={name}"]
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            return subprocess.Popen(program, cwd=here, env=environment, start_new_session=True, **quiet)

        completions: Counter[str] = Counter()
        seen: dict[str, int] = {}
        killed = restarts = 0
        sweep = here / "outputs" / "sweeps" / "killed"

        def look() -> None:
            for name, written in completed(sweep).items():
                if seen.get(name) != written:
                    seen[name] = written
                    completions[name] += 1

        while killed < arguments.kills:
            process = start("killed")
            try:
                process.wait(moments.uniform(0.0, MAX_SECONDS))
                restarts += 1  # it had come to its end: a re-run of a complete sweep must change nothing
                if len(completed(sweep)) == 12 and restarts > 3:
                    # Begin anew what is left of the kills, in a fresh directory.
                    look()
                    sweep.rename(here / f"completed_{restarts}")
                    seen.clear()
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                killed += 1
            look()
            print(f"{killed} kills, {len(completed(sweep))} of 12 cells completed", flush=True)
        code = start("killed").wait()
        look()
        unbroken_code = start("unbroken").wait()
        unbroken = here / "outputs" / "sweeps" / "unbroken"
        sweeps = [sweep, *sorted(here.glob("completed_*"))]
        equal = [
            outcome_of(one / name) == outcome_of(unbroken / name) for one in sweeps for name in sorted(completed(one))
        ]
        summary = {
            "kills": killed,
            "exit_codes": [code, unbroken_code],
            "sweeps": len(sweeps),
            "cells": len(equal),
            "completions": sum(completions.values()),
            "cells_equal_to_unbroken": sum(equal),
        }
    note(__file__, summary)
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
