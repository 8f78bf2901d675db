"""Pack the completed cells of sweeps, one file each: DIR/cells.zip, which `nat report` and later sweeps read.

    python experiments/pack.py experiments/demo experiments/scarcity
    python experiments/pack.py experiments/self_improvement --manifests method=nat,seed=0-d61c810c

Cells that are packed already stay in the file. The folders stay too: what is large (roll-outs, logs, weights, manifests
that are not named) is in them alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nat.runs.packed import pack
from nat.types import RequestError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", type=Path, nargs="+", metavar="DIR", help="a sweep's directory")
    parser.add_argument("--manifests", nargs="+", default=(), metavar="CELL", help="keep manifest.json of these cells")
    given = parser.parse_args()
    try:
        for directory in given.directories:
            pack(directory, given.manifests)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
