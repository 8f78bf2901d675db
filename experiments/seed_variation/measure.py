"""How much do training seeds vary? Over all committed arms of three seeds; what nat's advice before a sweep assumes.

    python experiments/seed_variation/measure.py

writes variation.json. An arm's seeds answer the same questions, so that the variance of their success rates is that of
the models (seed_sd squared) plus what single answers add: half of the share of questions on which two of its runs
differ, over the number of questions. Means over arms, so single arms of three seeds need not be precise. Arms that
several experiments share count once; arms below FLOOR, of fewer than LEAST_STEPS or in the folders of LEFT_OUT do not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean, variance

from nat.comparison.arms import arms_of
from nat.comparison.cells import read_runs
from nat.comparison.types import Arm

EXPERIMENTS = Path(__file__).parents[1]
FLOOR = 0.1  # success rate, below which next to nothing can vary
LEAST_STEPS = 100  # of the optimiser; equal_epochs has models of 30, in the middle of learning
LEFT_OUT = ("self_improvement_rounds",)  # a seed has a first model and data of its own there
FEW = 100  # successes; models that train on more of them alone vary less

Scores = Mapping[str, float]  # question to success


@dataclass(frozen=True)
class Variation:
    """Of one arm."""

    positives: int
    negatives: int
    rate: float  # mean success
    variance: float  # of the success rate over seeds
    disagreement: float  # share of questions on which two seeds differ, mean over pairs
    n_questions: int


def main() -> None:
    found = list(variations(arms()))
    kept = [one for one in found if one.rate >= FLOOR]
    groups = {
        "all arms": kept,
        "up to 100 successes alone": [one for one in kept if not one.negatives and one.positives <= FEW],
        "more successes alone": [one for one in kept if not one.negatives and one.positives > FEW],
        "with failures": [one for one in kept if one.negatives],
    }
    summary = {name: summarise(group) for name, group in groups.items()} | {"arms_at_the_floor": len(found) - len(kept)}
    text = json.dumps(summary, indent=2)
    Path(__file__).with_name("variation.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def arms() -> Iterator[Arm]:
    """With three seeds or more; one with the answers of another is left out: the same models by two names."""
    seen: set[tuple[str, ...]] = set()
    for cells in sorted(EXPERIMENTS.glob("*/cells.zip")):
        if cells.parent.name in LEFT_OUT:
            continue
        for arm in arms_of(read_runs(cells.parent)[0]):
            answers = tuple(repr(sorted(run.answers["test"].items())) for run in arm.runs)
            steps = min(run.results.steps or 0 for run in arm.runs)
            if len(arm.runs) >= 3 and steps >= LEAST_STEPS and answers not in seen:
                seen.add(answers)
                yield arm


def variations(arms: Iterable[Arm]) -> Iterator[Variation]:
    for arm in arms:
        runs: list[Scores] = [
            {question: float(answer.success) for question, answer in run.answers["test"].items()} for run in arm.runs
        ]
        rates = [mean(run.values()) for run in runs]
        differing = [mean(one[question] != other[question] for question in one) for one, other in combinations(runs, 2)]
        counts = (arm.positives or 0, arm.negatives or 0)
        yield Variation(*counts, mean(rates), variance(rates), mean(differing), len(runs[0]))


def summarise(found: Sequence[Variation]) -> dict[str, float]:
    """Standard deviations in success rate; disagreement as a share."""
    seen = mean(one.variance for one in found)
    by_answers = mean(one.disagreement / (2 * one.n_questions) for one in found)
    return {
        "arms": len(found),
        "sd_of_the_success_rate": round(math.sqrt(seen), 4),
        "seed_sd": round(math.sqrt(max(0.0, seen - by_answers)), 4),
        "disagreement": round(mean(one.disagreement for one in found), 3),
        "least_disagreement": round(min(one.disagreement for one in found), 3),
        "largest_disagreement": round(max(one.disagreement for one in found), 3),
    }


if __name__ == "__main__":
    main()
