"""What an index over 100,000 documents costs: to build it, to open it again, to ask it, and to ask it hostile things.

    python experiments/benchmarks/bm25_index.py

Documents are generated: words drawn by Zipf's law from 200,000 made-up ones, 40 to 160 a document. Building and opening
run in a process of their own each, whose highest memory is read at its end. Writes into results.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from results import note

N_WORDS = 200_000
N_QUERIES = 500
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


def write_corpus(path: Path, n_documents: int) -> None:
    import numpy as np

    generator = np.random.default_rng(0)
    frequencies = 1 / np.arange(1, N_WORDS + 1)
    cumulated = np.cumsum(frequencies) / frequencies.sum()
    vocabulary = [word(rank) for rank in range(N_WORDS)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(n_documents):
            ranks = np.searchsorted(cumulated, generator.random(int(generator.integers(40, 161))))
            text = " ".join(vocabulary[rank] for rank in ranks.clip(max=N_WORDS - 1))
            title = " ".join(vocabulary[rank] for rank in generator.integers(0, N_WORDS, 2))
            file.write(json.dumps({"id": number, "title": title, "text": text}) + "\n")


def open_and_ask(corpus_path: Path, directory: Path, n_queries: int) -> dict[str, float]:
    """In this process: seconds to open the corpus (built if need be), milliseconds a query, and the highest memory."""
    import numpy as np

    from nat.search import bm25
    from nat.types import ToolError

    start = time.perf_counter()
    corpus = bm25.open_corpus([corpus_path], directory, "error")
    facts = {"seconds": round(time.perf_counter() - start, 2), "documents": len(corpus.bm25.documents)}
    tool = bm25.make_tool(corpus.bm25, results=3, max_characters=300)
    generator = np.random.default_rng(1)
    milliseconds = []
    for place in generator.integers(0, len(corpus.bm25.documents), n_queries).tolist():
        document = corpus.bm25.documents[place]
        query = " ".join([*document.title.split(), *generator.choice(document.text.split(), 4)])
        start = time.perf_counter()
        tool.run(query)
        milliseconds.append(1000 * (time.perf_counter() - start))
    if milliseconds:
        facts["median_ms"] = round(statistics.median(milliseconds), 2)
        facts["slowest_ms"] = round(max(milliseconds), 2)
        hostile = {
            "100 kB": "ba " * 33_000,
            "500 characters, one frequent word": "ba " * 166,
            "500 characters, the most frequent words": " ".join(word(rank) for rank in range(250))[:500],
            "control characters": "\x00\x1b[31m\r\n" * 60,
        }
        for name, query in hostile.items():
            start = time.perf_counter()
            with suppress(ToolError):
                tool.run(query)
            facts[f"{name}, ms"] = round(1000 * (time.perf_counter() - start), 2)
    facts["highest_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return facts


def in_a_process(*arguments: str) -> dict[str, float]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, __file__, *arguments]
    output = subprocess.run(program, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--open", nargs=3, metavar=("CORPUS", "DIRECTORY", "QUERIES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.open:
        print(json.dumps(open_and_ask(Path(arguments.open[0]), Path(arguments.open[1]), int(arguments.open[2]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        corpus, directory = Path(folder) / "corpus.jsonl", Path(folder) / "index"
        write_corpus(corpus, arguments.documents)
        build = in_a_process("--open", str(corpus), str(directory), "0")
        again = in_a_process("--open", str(corpus), str(directory), str(N_QUERIES))
        sizes = [path.stat().st_size for path in directory.rglob("*") if path.is_file()]
        import bm25s

        summary = {
            "corpus_mb": round(corpus.stat().st_size / 1e6, 1),
            "index_mb": round(sum(sizes) / 1e6, 1),
            "build": build,
            "opened_again": again,
            "queries": N_QUERIES,
            "versions": {"python": platform.python_version(), "bm25s": bm25s.__version__},
            "load_at_the_end": round(os.getloadavg()[0], 2),
        }
    note(__file__, summary)
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
