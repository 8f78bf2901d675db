"""`nat evaluate MODEL_DIR`: a saved model rolled out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nat.runs.results import Results
from nat.sweeps import cells, running
from nat.verbs import train
from nat.verbs.request import asked_for_help, parse, positional

HELP = (
    "usage: nat evaluate MODEL_DIR [overrides]   rolls out a run's model/ on its questions, under its prompt;\n"
    "e.g. nat evaluate outputs/runs/NAME/model evaluation.split=validation evaluation.decoding.temperature=0.7"
)


def main(argv: Sequence[str]) -> int:
    if asked_for_help(argv):
        print(HELP)
        return 0
    model, rest = positional(argv, "nat evaluate MODEL_DIR, e.g. nat evaluate outputs/runs/NAME/model")
    request = parse(rest)
    overrides = cells.evaluation_arguments(Path(model), request.overrides, request.config_dir)
    return train.main([*request.flags, *overrides])


def evaluate(model: Path, overrides: Sequence[str], config_dir: str | None = None) -> Results:
    """A saved model on its questions, under its prompt. Raises RequestError or StageError."""
    return running.train(cells.evaluation_arguments(model, overrides, config_dir))
