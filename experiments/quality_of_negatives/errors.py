"""What the failures hold that an experiment trains on: errors and turns a failure, and how many end without an answer.

    python experiments/quality_of_negatives/errors.py

composes each experiment's NUT with seed 0, chooses its failures as `nat train` would, and writes errors.csv. An error
is one that the scripted policy planned (`metadata.errors` of its trajectories): a step may come out right all the same.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from nat.run import prepare
from nat.sweeps import composition

NUT = ("hydra.mode=RUN", "method=nut", "seed=0", "tracking=none")
EXPERIMENTS = (
    ("experiment=quality_of_negatives", "trajectories.failures_rate=0.05"),
    ("experiment=quality_of_negatives", "trajectories.failures_rate=null"),
    ("experiment=quality_of_negatives", "trajectories.failures_rate=0.6"),
    ("experiment=controls", "environment=arithmetic"),
    ("experiment=controls", "environment=multihop"),
    ("experiment=controls", "environment=strategic"),
    ("experiment=hotpotqa", 'mixing.ratio="1:2"'),
    ("experiment=strategyqa",),
)


def main() -> None:
    rows = list(measure())
    with open(Path(__file__).with_name("errors.csv"), "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


def measure(experiments: Sequence[Sequence[str]] = EXPERIMENTS) -> Iterator[dict[str, str]]:
    """A row an experiment: counts, means per failure, and a share."""
    for overrides in experiments:
        arguments = [*overrides, *NUT]
        made = prepare(composition.checked(composition.compose(arguments), arguments)).made
        assert made is not None
        failures = made.mixed.negatives
        errors = sum(len(failure.metadata["errors"]) for failure in failures)
        turns = sum(message.role == "assistant" for failure in failures for message in failure.messages)
        abstained = sum(failure.outcome.failure == "abstained" for failure in failures)
        yield {
            "experiment": " ".join(overrides),
            "failures": str(len(failures)),
            "errors_per_failure": f"{errors / len(failures):.3f}",
            "turns_per_failure": f"{turns / len(failures):.3f}",
            "ending_without_an_answer": f"{abstained / len(failures):.3f}",
        }


if __name__ == "__main__":
    main()
