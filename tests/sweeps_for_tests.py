"""Sweeps as `nat` leaves them on disk, with answers that a test has planted."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nat.core.questions import question_id
from nat.runs.directory import write_results
from nat.runs.outcomes import Answer, Outcomes, save_outcomes
from nat.runs.results import Asked, Coordinates, Git, Pass, PassKind, Results

STEPS = 300


def outcomes(
    successes: Iterable[int | str],
    kind: PassKind = "inference",
    asked_for: str = "correct",
    split: str | None = None,
    environment: str = "arithmetic",
) -> Outcomes:
    """A pass of `outcomes.csv` from "10011": one digit a question."""
    split = split or ("validation" if kind == "validation" else "test")
    asked = Asked(kind=kind, split=split, asked_for=asked_for, temperature=0.0, environment=environment)
    asked_there = split if kind != "also_in" else environment  # other questions than the run's own
    answers = (
        (
            question_id(f"{asked_there} question {place}"),
            Answer(bool(int(success)), float(success), None if int(success) else "wrong_answer", 3),
        )
        for place, success in enumerate(successes)
    )
    return Outcomes(asked, tuple(answers))


def passed(
    success_rate: float, kind: PassKind = "inference", n_questions: int = 4, split: str | None = None, **figures: Any
) -> Pass:
    """A pass in `results.json`, of which most figures do not matter."""
    values: dict[str, Any] = {
        "asked_for": "correct",
        "temperature": 0.0,
        "environment": "arithmetic",
        "ci95": (0.0, 1.0),
        "mean_score": success_rate,
        "failures": {},
        "mean_turns": 3.0,
        "generated_tokens": 100,
        "search_misses": 0,
    }
    split = split or ("validation" if kind == "validation" else "test")
    return Pass(kind=kind, split=split, success_rate=success_rate, n_questions=n_questions, **{**values, **figures})


def _pass_of(given: Outcomes) -> Pass:
    n, solved = len(given.answers), sum(answer.success for _, answer in given.answers)
    return passed(solved / n, given.asked.kind, n, failures={"wrong_answer": n - solved})


def write_cell(
    directory: Path,
    method: str,
    test: Iterable[int | str] = "1100",
    validation: Iterable[int | str] = "",
    strategy: str | None = None,
    positives: int = 100,
    negatives: int = 0,
    seed: int = 0,
    setting: Mapping[str, object] | None = None,
    environment: str = "arithmetic",
    **results: Any,
) -> Path:
    """A completed cell. `setting` is what its config.yaml says besides the seed, full keys (`training.max_steps`)."""
    directory.mkdir(parents=True)
    own, validated = outcomes(test), outcomes(validation, "validation")
    save_outcomes(directory / "outcomes.csv", [own, validated])
    coordinates = Coordinates(
        method=method,
        environment=environment,
        strategy=strategy or ("suffix" if method in ("nat", "nat_graded") else "none"),
        ratio=None,
        positives=positives,
        negatives=negatives,
        seed=seed,
        model="tiny",
        split="test",
        manifest=None,
    )
    values: dict[str, Any] = {
        "status": "completed",
        "cell": f"{directory.name:->16}"[-16:],
        "overrides": (f"seed={seed}",),
        "steps": STEPS,
        "trained_tokens": 1000,
        "passes": tuple(_pass_of(one) for one in (own, validated) if one.answers),
        "timing": {"training": 1.5},
        "git": Git("0123456789abcdef", dirty=False),
        "versions": {"nat": "0.1.0"},
    }
    write_results(directory, Results(coordinates=coordinates, **{**values, **results}))
    config: dict[str, object] = {"seed": seed, "sweep": {"name": directory.parent.name}}
    for key, value in {"training.objective": "none" if method == "base" else "sft", **(setting or {})}.items():
        node = config
        *groups, last = key.split(".")
        for group in groups:
            node = node.setdefault(group, {})  # type: ignore[assignment]
        node[last] = value
    (directory / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    return directory


def planted(
    rates: Mapping[tuple[str, int], float],
    seeds: int = 3,
    n_questions: int = 200,
    seed_sd: float = 0.01,
    random_state: int = 0,
) -> Iterator[tuple[tuple[str, int], int, dict[str, list[int]]]]:
    """Arm, seed and answers (split to 0/1 a question) of runs whose mean success rates are given by arm.

    Questions differ in difficulty and are the same for all runs; a run's rate varies by `seed_sd` between seeds.
    """
    random = np.random.default_rng(random_state)
    ease = {split: random.normal(0, 1.5, n_questions) for split in ("test", "validation")}
    for arm, rate in rates.items():
        for seed in range(seeds):
            rate_here = min(max(rate + random.normal(0, seed_sd), 0.02), 0.98)
            answers = {}
            for split, given in ease.items():
                # The success rate of a logistic mixture with spread 1.5 is about that of a logit shrunk by 1.35.
                chance = 1 / (1 + np.exp(-(1.35 * np.log(rate_here / (1 - rate_here)) + given)))
                answers[split] = (random.random(n_questions) < chance).astype(int).tolist()
            yield arm, seed, answers


def write_sweep(
    directory: Path,
    rates: Mapping[tuple[str, int], float],
    positives: int = 100,
    validation: bool = True,
    **of_planted: Any,
) -> Path:
    """Cells of planted success rates, by (method or "method/strategy", negatives)."""
    for (name, negatives), seed, answers in planted(rates, **of_planted):
        method, _, strategy = name.partition("/")
        write_cell(
            directory / f"{method}{strategy}-{positives}-{negatives}-{seed}",
            method,
            answers["test"],
            answers["validation"] if validation else (),
            strategy or None,
            positives,
            negatives,
            seed,
        )
    return directory


def plan(directory: Path, names: Iterable[str], hashes: bool = True) -> None:
    """A `sweep.json` that plans these cells."""
    cells = [{"name": name, **({"cell": f"{name:->16}"[-16:]} if hashes else {})} for name in names]
    (directory / "sweep.json").write_text(json.dumps({"cells": cells}))


def without_new_pictures(report: str, committed: str) -> str:
    """A report.md without the pictures that the committed one has not: one a sweep is committed, and new ones come."""
    had = committed.splitlines()
    kept = "\n".join(line for line in report.split("\n") if not line.startswith("![") or line in had)
    kept = re.sub(r"^## Pictures\n\n(\n|\Z)", "", kept, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", kept).rstrip("\n") + "\n"
