"""Kill `nat collect` with SIGKILL at 20 random moments, start it again each time, and look at what the file holds.

    python experiments/benchmarks/collect_kills.py

Half of the kills hit the scripted policy, which writes over a thousand episodes a second on an idle core; the other
half a collection over HTTP from a server on this machine that answers every tenth request with a fault. One kill in
five comes within a second of the start; the others when the file has grown by a share of what is missing, uniformly
drawn up to a half, and up to 30 ms later. A collection that comes to its end is checked, and the kills left go to a new
one.

Prints, and writes into results.json: episodes asked for and found, ids found twice, lines that cannot
be read, whole lines that a later run changed or lost, and (scripted, whose episodes are decided by the seed) lines that
differ from the undisturbed collection's.
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
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from results import note

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))

from tests.openai_server_for_tests import KEY, MODEL, arithmetic_solver, serving  # noqa: E402  # after the path to it

KILLS = 20
QUESTIONS = {"scripted": 4000, "openai": 100}  # of each collection
FAULTS = ("429", "500", "cut", "malformed")


def command(policy: str, output: Path, url: str) -> list[str]:
    program = [sys.executable, "-m", "nat", "collect", "environment=arithmetic", f"collect={policy}"]
    program += [f"collect.output={output}", f"collect.n_questions={QUESTIONS[policy]}"]
    if policy == "scripted":
        return [*program, "collect.samples=2"]
    return [
        *program,
        f"collect.endpoint.base_url={url}",
        f"collect.endpoint.model={MODEL}",
        "collect.endpoint.longest_wait=0.05",
    ]


def asked_for(policy: str) -> int:
    return QUESTIONS[policy] * (2 if policy == "scripted" else 3)  # samples, temperatures


def start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OPENAI_API_KEY": KEY, "NO_PROXY": "127.0.0.1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(arguments, env=environment, start_new_session=True, **quiet)


def wait_for_a_moment(
    process: subprocess.Popen[bytes], output: Path, size: int, moments: random.Random, at_start: bool
) -> None:
    """Returns at the moment of the kill, or when the process has ended by itself. `size`: of a whole file, in bytes."""
    if at_start:
        time.sleep(moments.uniform(0.0, 1.0))
        return
    there = size_of(output)
    target = there + moments.uniform(0.0, 0.5) * (size - there)
    while process.poll() is None and size_of(output) < target:
        time.sleep(0.001)
    time.sleep(moments.uniform(0.0, 0.03))


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def whole_lines(path: Path) -> list[bytes]:
    return (
        [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")] if path.exists() else []
    )


def readable(lines: Sequence[bytes]) -> list[dict[str, Any]]:
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def kill_collections(policy: str, kills: int, moments: random.Random, folder: Path, url: str) -> dict[str, Any]:
    undisturbed = folder / f"{policy}.jsonl"
    codes = [start(command(policy, undisturbed, url)).wait()]
    size = undisturbed.stat().st_size
    expected = sorted(undisturbed.read_bytes().splitlines())
    counts = dict.fromkeys(("asked_for", "found", "ids_twice", "unreadable", "lines_lost", "lines_different"), 0)
    killed = collections = kills_while_growing = partial_lines = 0
    output = folder / f"{policy}_0.jsonl"

    def conclude() -> None:
        """The collection has come to its end: count what its file holds."""
        nonlocal collections, output
        content = output.read_bytes()
        lines = content.splitlines()
        records = readable(lines)
        ids = [record["id"] for record in records]
        counts["asked_for"] += asked_for(policy)
        counts["found"] += len(set(ids))
        counts["ids_twice"] += len(ids) - len(set(ids))
        counts["unreadable"] += len(lines) - len(records) + (not content.endswith(b"\n"))
        if policy == "scripted":
            counts["lines_different"] += sum(a != b for a, b in zip(sorted(lines), expected, strict=False))
        collections += 1
        output = folder / f"{policy}_{collections}.jsonl"

    while killed < kills:
        before = whole_lines(output)
        process = start(command(policy, output, url))
        wait_for_a_moment(process, output, size, moments, at_start=killed % 5 == 2)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
            after = whole_lines(output)
            counts["lines_lost"] += sum(a != b for a, b in zip(before, after, strict=False)) + max(
                0, len(before) - len(after)
            )
            kills_while_growing += len(after) > len(before)
            partial_lines += output.exists() and not output.read_bytes().endswith(b"\n") and output.stat().st_size > 0
            print(f"{policy}: {killed} kills, {len(after)} of {asked_for(policy)} episodes", flush=True)
            if len(after) == asked_for(policy):  # the last kill came after the last line: nothing is left to interrupt
                codes.append(start(command(policy, output, url)).wait())
                conclude()
        else:
            codes.append(process.returncode)
            conclude()
    if output.exists() or not collections:
        codes.append(start(command(policy, output, url)).wait())
        conclude()
    return {
        "kills": killed,
        "kills_after_new_episodes": kills_while_growing,
        "partial_lines_left_by_a_kill": partial_lines,
        "collections": collections,
        "exit_codes": sorted(set(codes)),
        **counts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for policy, kills in (("scripted", arguments.kills // 2), ("openai", arguments.kills - arguments.kills // 2)):

            def fault_of(number: int) -> str | None:
                return FAULTS[number // 10 % len(FAULTS)] if number % 10 == 9 else None

            solver = arithmetic_solver(QUESTIONS["openai"]) if policy == "openai" else None
            with serving(solver, fault_of=fault_of) if solver else nullcontext() as server:
                url = server.url if server else ""
                results[policy] = kill_collections(policy, kills, moments, Path(folder), url)
    text = json.dumps(results, indent=2)
    note(__file__, results)
    print(text)


if __name__ == "__main__":
    main()
