"""Pack the completed cells of sweeps, one file each: DIR/cells.zip, which `nat report` and later sweeps read; and what
`nat report` wrote of each sweep as tables, results.csv and arms.csv, into one file for all: experiments/tables.zip.

    python experiments/pack.py experiments/demo experiments/scarcity
    python experiments/pack.py experiments/self_improvement --manifests method=nat,seed=0-d61c810c

Cells that are packed already stay in the file. The folders stay too: what is large (roll-outs, logs, weights, manifests
that are not named) is in them alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from measured import EXPERIMENTS, TABLES, packed_tables

from nat.core.files import write_bytes
from nat.runs.packed import pack, zipped
from nat.types import RequestError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", type=Path, nargs="+", metavar="DIR", help="a sweep's directory")
    parser.add_argument("--manifests", nargs="+", default=(), metavar="CELL", help="keep manifest.json of these cells")
    given = parser.parse_args()
    try:
        for directory in given.directories:
            pack(directory, given.manifests)
        pack_tables(given.directories)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def pack_tables(directories: Iterable[Path]) -> None:
    """Those of these directories take the place of what the file holds of them."""
    members = dict(packed_tables())
    for directory in directories:
        for file in TABLES:
            if (directory / file).is_file():
                members[f"{directory.name}/{file}"] = (directory / file).read_bytes()
    write_bytes(EXPERIMENTS / "tables.zip", zipped(members))


if __name__ == "__main__":
    sys.exit(main())
