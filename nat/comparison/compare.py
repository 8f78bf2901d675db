"""From finished runs to a `Comparison`: arms, contrasts, the verdict and what limits it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from nat.comparison import environments as elsewhere
from nat.comparison.arms import arms_of, reference_of, split_of, unmarked_of
from nat.comparison.caveats import caveats_of
from nat.comparison.cells import read
from nat.comparison.config import ReportConfig
from nat.comparison.contrasts import contrasts_of, paired
from nat.comparison.types import Arm, Caveat, Comparison, Pair
from nat.comparison.verdict import findings_of


def compare(directory: Path, config: ReportConfig) -> Comparison:
    """Read, group into arms, compare, conclude. Raises RequestError as `nat.comparison.cells.read` does."""
    external = [config.external] if isinstance(config.external, str) else config.external or []
    found = read(directory, [Path(path) for path in external])
    arms = arms_of([run for run in found.runs if run.answers or run.answers_in])
    split = split_of(arms)
    pairs, refused = _pairs(arms, [reference_of(arm, arms) for arm in arms], split)
    text_pairs, text_refused = _pairs(arms, [unmarked_of(arm, arms) for arm in arms], split)
    contrasts = contrasts_of(pairs, config.smallest_effect)
    text_contrasts = contrasts_of(text_pairs, config.smallest_effect)
    findings = findings_of(arms, text_contrasts, split, config)
    remarks = [*refused, *text_refused, *_left_out([*pairs, *text_pairs])]
    missing = tuple(without_paths(line) for line in found.missing)
    return Comparison(
        title=directory.resolve().stem if directory.is_file() else directory.resolve().name,
        arms=arms,
        contrasts=contrasts,
        findings=findings,
        caveats=caveats_of(arms, found.runs, findings, split, remarks, found.planned, missing, found.notes),
        missing=missing,
        runs=found.runs,
        text_contrasts=text_contrasts,
        split=split,
        environments=elsewhere.environments_of(arms, split, config.smallest_effect),
        measured=arms_of([run for run in found.runs if run.results.class_losses]),
    )


def _pairs(arms: Sequence[Arm], references: Sequence[Arm | None], split: str) -> tuple[list[Pair], list[Caveat]]:
    """Arms beside their references, and why some cannot be compared."""
    pairs, refused = [], []
    for arm, reference in zip(arms, references, strict=True):
        if reference is None:
            continue
        pair = paired(arm, reference, split)
        if isinstance(pair, Pair):
            pairs.append(pair)
        else:
            refused.append(Caveat("not_compared", f"{arm.label} is not compared with {reference.label}: {pair}."))
    return pairs, refused


def _left_out(pairs: Sequence[Pair]) -> Iterator[Caveat]:
    some = [pair for pair in pairs if pair.left_out]
    if some:
        most = max(pair.left_out for pair in some)
        yield Caveat(
            "shared_questions",
            f"{len(some)} of {len(pairs)} comparisons are on the questions that both sides answered; "
            f"up to {most} questions are left out of one.",
        )


def without_paths(text: str) -> str:
    """Absolute paths cut down to their last part: where a run lay tells a reader nothing and differs by machine."""
    return re.sub(r"(?<![\w.~:/-])/(?:[^\s/'\",:;()]+/)+", "", text)
