"""Two arms against each other, on the questions that both have answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nat.comparison.types import Arm, Contrast, Pair, RunResult, Verdict
from nat.core.statistics import CrossedDifference, crossed_difference, crossed_interval, holm

LEVEL = 0.05  # of the tests; the intervals hold 1 - LEVEL


SHARED = 0.9  # of the questions of either side; with fewer in common two arms are not compared


def paired(treatment: Arm, reference: Arm, split: str, keep: Callable[[str], bool] | None = None) -> Pair | str:
    """The two arms' successes on shared questions, or the reason why they cannot be compared.

    Seeds that both have are paired; without two of them all seeds count, as independent ones. `keep` chooses among
    the questions.
    """
    first_runs, second_runs = _runs_by_seed(treatment, split), _runs_by_seed(reference, split)
    if not first_runs or not second_runs:
        return f"{(reference if first_runs else treatment).label} has no answers to {split} questions"
    both = [seed for seed in first_runs if seed in second_runs]
    if treatment.method == "base" and len(first_runs) == 1:
        # Nothing is trained, so no seed matters: the same answers stand beside every seed of the reference.
        first_runs, both = dict.fromkeys(second_runs, next(iter(first_runs.values()))), list(second_runs)
    if len(both) >= 2 or (both and min(len(first_runs), len(second_runs)) == 1):
        firsts, seconds = [first_runs[seed] for seed in both], [second_runs[seed] for seed in both]
    else:
        firsts, seconds = list(first_runs.values()), list(second_runs.values())
        if min(len(firsts), len(seconds)) == 1:  # one training run says nothing of the spread over seeds
            firsts, seconds = firsts[:1], seconds[:1]
    asked = [run.answers[split].keys() for run in (*firsts, *seconds)]
    if all(questions == asked[0] for questions in asked[1:]):
        shared = list(asked[0])
    else:
        common = set(asked[0]).intersection(*asked[1:])
        shared = [question for question in asked[0] if question in common]
    largest = max(map(len, asked))
    if len(shared) < SHARED * largest:
        return f"they share {len(shared)} of {largest} {split} questions"
    left_out = largest - len(shared)
    if keep is not None:
        shared = [question for question in shared if keep(question)]
    if len(shared) < 2:
        return f"they share {len(shared)} {split} questions"
    return Pair(
        treatment,
        reference,
        split,
        tuple(_successes(run, split, shared) for run in firsts),
        tuple(_successes(run, split, shared) for run in seconds),
        left_out,
    )


def _runs_by_seed(arm: Arm, split: str) -> dict[int, RunResult]:
    runs: dict[int, RunResult] = {}
    for run in arm.runs:
        if run.answers.get(split):
            runs.setdefault(run.seed, run)
    return runs


def _successes(run: RunResult, split: str, questions: Sequence[str]) -> dict[str, float]:
    answers = run.answers[split]
    return {question: 1.0 if answers[question].success else 0.0 for question in questions}


def contrasts_of(pairs: Sequence[Pair], smallest_effect: float) -> tuple[Contrast, ...]:
    """The differences of one family of comparisons, with Holm's adjusted p-values and Bonferroni intervals."""
    if not pairs:
        return ()
    differences = [crossed_difference(pair.first, pair.second) for pair in pairs]
    contrasts = []
    for pair, difference, p_holm in zip(pairs, differences, holm([d.p_value for d in differences]), strict=True):
        interval = crossed_interval(difference, 1 - LEVEL / len(pairs))
        verdict = verdict_of(difference, p_holm, interval[1], smallest_effect)
        contrasts.append(Contrast(pair.treatment, pair.reference, pair.split, difference, p_holm, interval, verdict))
    return tuple(contrasts)


def verdict_of(difference: CrossedDifference, p_holm: float, upper: float, smallest_effect: float) -> Verdict:
    """*yes*: more, beyond chance. *no*: an effect that matters is excluded. Else, and with one seed, *undecided*."""
    if difference.n_seeds < 2:
        return "undecided"
    if p_holm < LEVEL and difference.difference > 0:
        return "yes"
    return "no" if upper < smallest_effect else "undecided"
