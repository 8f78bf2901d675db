"""`nat dashboard DIR`: the report's panels as a saved W&B workspace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nat.reporting import dashboard
from nat.types import RequestError
from nat.verbs.request import asked_for_help, positional

HELP = (
    "usage: nat dashboard DIR   creates or updates a saved W&B workspace and page for the sweep in DIR;\n"
    "needs pip install 'negative-aware-training[dashboard]' and a login (wandb login)"
)


def main(argv: Sequence[str]) -> int:
    if asked_for_help(argv):
        print(HELP)
        return 0
    place, rest = positional(argv, "nat dashboard DIR, e.g. nat dashboard outputs/sweeps/demo")
    if rest:
        raise RequestError(f"{rest[0]}: nat dashboard takes a sweep's directory only.")
    print(dashboard.write(Path(place)))
    return 0
