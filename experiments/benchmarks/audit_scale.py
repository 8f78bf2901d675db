"""How `nat audit` grows with its input: seconds (of the clock and of CPU time), highest memory, what it finds.

    python experiments/benchmarks/audit_scale.py                        10,000 and 100,000 trajectories
    python experiments/benchmarks/audit_scale.py --rows 1000000         one size (2 GB, and 5 GB of disk while it runs)
    python experiments/benchmarks/audit_scale.py --chat                 as chats with structured calls, of which the
                                                                        questions have to be found

Trajectories are generated: ReAct episodes with a search tool, some 2 KB each, words drawn by Zipf's law, three episodes
a question. Planted are exact copies under new ids, near copies (one word in 25 replaced) on the same question and on a
reworded one, and evaluation questions that stand in the data word for word or reworded (copies on a reworded
question meet a few more than were planted). Each size is audited in a process of its own, whose highest
memory is read at its end. Results are merged into results.json (one entry a size), those of chats apart, and
audit_scale.png is drawn from the others.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results import note, noted

from nat.config.tree import Config
from nat.sweeps.composition import checked, compose
from nat.verbs.audit import audit

HERE = Path(__file__).parent
SIZES = (10_000, 100_000)
COPIES = 0.02  # of all rows: exact copies
NEAR_SAME = 0.02  # of all rows: near copies on the same question
NEAR_OTHER = 0.01  # of all rows: near copies on a reworded question
REPLACED = 0.04  # of a near copy's words
ASKED = {"word for word": 200, "reworded": 100, "new": 200}  # evaluation questions
N_WORDS = 50_000
SYLLABLES = [a + b for a in "bcdfghjklmnprstvz" for b in "aeiou"]


def word(rank: int) -> str:
    """A pronounceable word, another one for every rank; the frequent ones are short."""
    parts = []
    while True:
        rank, place = divmod(rank, len(SYLLABLES))
        parts.append(SYLLABLES[place])
        if rank == 0:
            return "".join(parts)
        rank -= 1


def write_collection(folder: Path, rows: int, seed: int = 0, as_chat: bool = False) -> dict[str, int]:
    """`rows.jsonl` and `evaluation.jsonl`; returns what was planted."""
    import numpy as np

    rng = np.random.default_rng(seed)
    frequencies = 1 / (np.arange(1, N_WORDS + 1) + 10)
    cumulated = np.cumsum(frequencies) / frequencies.sum()
    vocabulary = [word(rank) for rank in range(N_WORDS)]

    drawn: list[int] = []  # a million at a time, of which each is used once

    def words(n: int) -> list[str]:
        if len(drawn) < n:
            drawn.extend(np.searchsorted(cumulated, rng.random(1_000_000)).clip(max=N_WORDS - 1).tolist())
        ranks = drawn[-n:]
        del drawn[-n:]
        return [vocabulary[rank] for rank in ranks]

    def reworded(text: str) -> str:
        """One word of the middle gone, and another punctuation."""
        parts = text.rstrip("?").split()
        del parts[len(parts) // 2]
        return " ".join(parts) + " ?"

    planted = {"exact_duplicates": 0, "near_same_question": 0, "near_other_question": 0}
    asked: list[str] = []
    recent: list[dict[str, Any]] = []  # what is copied: one of the last 1000 originals
    question = ""
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for number in range(rows):
            draw = rng.random()
            if recent and draw < COPIES + NEAR_SAME + NEAR_OTHER:
                source = recent.pop(int(rng.integers(len(recent))))  # each is copied once
                record = {**source, "id": f"copy-{number}"}
                if draw < COPIES:
                    planted["exact_duplicates"] += 1
                else:
                    record["messages"] = [near_copy(message, rng, words) for message in source["messages"]]
                    if draw < COPIES + NEAR_SAME:
                        planted["near_same_question"] += 1
                    else:
                        planted["near_other_question"] += 1
                        record["question"] = reworded(source["question"])
            else:
                if number % 3 == 0 or not question:
                    question = f"Which {' '.join(words(14))} in {int(rng.integers(1000, 2030))}?"
                    if len(asked) < ASKED["word for word"] + ASKED["reworded"]:
                        asked.append(question)
                record = episode(number, question, words, bool(rng.random() < 0.45))
                recent.append(record)
                del recent[:-1000]
            file.write(json.dumps(chat_of(record) if as_chat else record) + "\n")
    texts = [reworded(text) if i >= ASKED["word for word"] else text for i, text in enumerate(asked)]
    texts += [f"Which {' '.join(words(14))} in {int(rng.integers(1000, 2030))}?" for _ in range(ASKED["new"])]
    with (folder / "evaluation.jsonl").open("w", encoding="utf-8") as file:
        for number, text in enumerate(texts):
            file.write(json.dumps({"id": f"e{number}", "question": text, "answer": "x"}) + "\n")
    overlaps = {"evaluation_overlap": ASKED["word for word"], "evaluation_near_overlap": ASKED["reworded"]}
    return {**planted, **overlaps}


def episode(number: int, question: str, words: Any, success: bool) -> dict[str, Any]:
    messages = []
    for _ in range(3):
        thought, query = " ".join(words(15)), " ".join(words(3))
        messages.append({"role": "assistant", "content": f"Thought: I need {thought}.\nAction: search[{query}]"})
        messages.append({"role": "tool", "content": f"{' '.join(words(70))}."})
    answer = " ".join(words(2))
    messages.append({"role": "assistant", "content": f"Thought: That is all.\nAction: finish[{answer}]"})
    return {
        "id": f"r{number}",
        "question": question,
        "messages": messages,
        "outcome": {"success": success, "prediction": answer, "reference": answer if success else "something else"},
        "source": f"policy-{number % 3}",
        "metadata": {"temperature": (number % 4) / 4},
    }


def chat_of(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its prompt, tools and structured calls, as agents write it."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Answer with the tool search. " * 30},
        {"role": "user", "content": record["question"]},
    ]
    for message in record["messages"]:
        thought, _, query = message["content"].partition("\nAction: search[")
        if message["role"] == "tool":
            messages.append({**message, "tool_call_id": "c1"})
        elif query:
            function = {"name": "search", "arguments": json.dumps({"query": query.removesuffix("]")})}
            call = {"id": "c1", "type": "function", "function": function}
            messages.append({"role": "assistant", "content": thought.removeprefix("Thought: "), "tool_calls": [call]})
        else:
            messages.append(message)
    described = {"type": "object", "properties": {"query": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "search", "description": "Looks it up.", "parameters": described}}
    outcome = record["outcome"]
    said = {"reward": float(outcome["success"]), "answer": outcome["reference"], "source": record["source"]}
    return {"id": record["id"], "messages": messages, "tools": [tool], **said, "metadata": record["metadata"]}


def near_copy(message: dict[str, str], rng: Any, words: Any) -> dict[str, str]:
    parts = message["content"].split(" ")
    for place in range(1, len(parts)):
        if parts[place].isalpha() and rng.random() < REPLACED:
            parts[place] = words(1)[0]
    return {**message, "content": " ".join(parts)}


def config_of(folder: Path) -> Config:
    overrides = [
        "trajectories=auto",
        f"trajectories.path={folder / 'rows.jsonl'}",
        "training=none",
        "evaluation=none",
        f"audit.output={folder / 'out'}",
        f"audit.evaluation={folder / 'evaluation.jsonl'}",
    ]
    return checked(compose(overrides), overrides)


def run_one(folder: Path) -> dict[str, Any]:
    """In this process: the audit of `folder`, its seconds, highest memory and findings."""
    config = config_of(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, start_cpu = time.perf_counter(), time.process_time()
    found = audit(config, lambda line: print(line, file=sys.stderr))
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    findings = {finding.name: finding for finding in found.findings}
    near = findings["near_duplicates"].details
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),  # what it would take on an idle machine
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "start_mb": round(before / 1024),
        "found": {
            "exact_duplicates": findings["exact_duplicates"].count,
            "near_same_question": near["same_question"],
            "near_other_question": near["other_question"],
            "evaluation_overlap": findings["evaluation_overlap"].count,
            "evaluation_near_overlap": findings["evaluation_near_overlap"].count,
        },
        "pairs_compared": near["pairs_compared"],
        "clean": found.n_clean,
    }


def measure(rows: int, as_chat: bool = False) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="audit_scale_") as name:
        folder = Path(name)
        planted = write_collection(folder, rows, as_chat=as_chat)
        size = (folder / "rows.jsonl").stat().st_size
        child = [sys.executable, __file__, "--folder", name]
        done = subprocess.run(child, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        facts = json.loads(done.stdout.splitlines()[-1])
    speed = {"rows_per_second": round(rows / facts["cpu_seconds"]), "mb": round(size / 1e6)}
    return {"rows": rows, **speed, **facts, "planted": planted, "machine": platform.machine()}


def draw(results: Sequence[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sizes = [result["rows"] for result in results]
    figure, (time_axes, memory_axes) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axes, key, label in (
        (time_axes, "cpu_seconds", "seconds of CPU time"),
        (memory_axes, "peak_mb", "highest memory, MB"),
    ):
        values = [result[key] for result in results]
        axes.loglog(sizes, values, "o-", color="#2a6f97")
        axes.set_xlabel("trajectories (2 KB each)")
        axes.set_ylabel(label)
        for x, y in zip(sizes, values, strict=True):
            axes.annotate(f"{y:,.0f}", (x, y), textcoords="offset points", xytext=(0, 7), ha="center")
        axes.margins(0.15)
    linear = [results[-1]["cpu_seconds"] * size / sizes[-1] for size in sizes]
    time_axes.loglog(sizes, linear, "--", color="#888", label="linear")
    time_axes.legend(frameon=False)
    memory_axes.axhline(2000, color="#b23a48", linestyle="--", label="2 GB")
    memory_axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=SIZES)
    parser.add_argument("--chat", action="store_true", help="chats with structured calls")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder is not None:
        print(json.dumps(run_one(arguments.folder)))
        return
    name = "audit_scale_chat" if arguments.chat else "audit_scale"
    by_rows = {result["rows"]: result for result in noted(name) or []}
    for rows in arguments.rows:
        by_rows[rows] = measure(rows, arguments.chat)
        print(json.dumps(by_rows[rows]), flush=True)
        results = [by_rows[size] for size in sorted(by_rows)]
        note(name, results)
    if not arguments.chat:
        draw([by_rows[size] for size in sorted(by_rows)], HERE / "audit_scale.png")


if __name__ == "__main__":
    main()
