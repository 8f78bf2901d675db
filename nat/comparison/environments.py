"""The arms in further environments (`also_in`) beside their own: one table, and one comparison over all of them.

Answers given there count here alone: neither the main comparison nor the verdict, nor what is chosen on validation,
takes them in. For what is compared here they stand beside the run's own, under the split `in_NAME`.

An arm's mean over environments weighs every environment the same, however many questions it asks, as the mean of a
benchmark table does. Its difference from the successes alone (the same arm as in the main comparison) is made by the
same statistics: the questions of all K environments, N in number, are one set, in which a success on one of an
environment's n questions counts N / (K n), so that the mean over all questions is the mean over environments. Where all
environments ask as many, that is 1. A seed's difference is then that of its mean over environments: what a seed does to
all of them at once widens the interval. Nothing is said of environments that were not asked in; that the questions'
variance takes in how the difference varies between those that were makes the interval a little wider than it must be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from nat.comparison.arms import mean_success, reference_of
from nat.comparison.contrasts import contrasts_of, paired
from nat.comparison.types import Arm, Contrast, Environments, Pair, RunResult


def environments_of(arms: Sequence[Arm], split: str, smallest_effect: float) -> Environments | None:
    """The arms in every environment, and against the successes alone over all; None where no run was asked elsewhere.

    `split`: whose answers are those of the own environment.
    """
    runs = [run for arm in arms for run in arm.runs if _is_asked_elsewhere(run)]
    others = list(dict.fromkeys(name for run in runs for name in run.answers_in))
    if not others:
        return None
    splits = (split, *map(_split_of, others))
    shown = {
        arm.label: _runs_that_count(_side_by_side(arm), splits)
        for arm in arms
        if any(map(_is_asked_elsewhere, arm.runs))
    }
    pairs, refused = [], []
    for arm in arms:
        reference = reference_of(arm, arms)
        if arm.label in shown and reference is not None:
            pair = _pair(arm, reference, shown, splits)
            if isinstance(pair, Pair):
                pairs.append(pair)
            else:
                refused.append(f"{arm.label} is not compared with {reference.label}: {pair}.")
    return Environments(
        splits,
        _names(runs, others),
        tuple(shown.values()),
        contrasts_of(pairs, smallest_effect),
        (*refused, *_left_out(arms, shown, pairs), *_infrastructure(shown, others)),
    )


def _split_of(name: str) -> str:
    """What the answers given in a further environment are called beside the run's own."""
    return f"in_{name}"


def _side_by_side(arm: Arm) -> Arm:
    """The arm with its runs' answers of all environments in one mapping."""
    runs = []
    for run in arm.runs:
        elsewhere = {_split_of(name): given for name, given in run.answers_in.items()}
        runs.append(replace(run, answers={**run.answers, **elsewhere}))
    return replace(arm, runs=tuple(runs))


def mean_over(arm: Arm, splits: Sequence[str]) -> float | None:
    """Mean success over environments, all weighing the same; None unless all of the arm's runs were asked in all."""
    rates = [rate for split in splits if (rate := mean_success(arm, split)) is not None]
    return sum(rates) / len(rates) if _is_asked_in_all(arm, splits) else None


def legend(environments: Environments) -> list[str]:
    """What the table's columns are, and what it leaves out."""
    counts = [_n_questions(environments.arms, split) for split in environments.splits]
    asked = f"{counts[0]} questions in each"
    if len(set(counts)) > 1:
        asked = ", ".join(f"{count} in {name}" for count, name in zip(counts, environments.names, strict=True))
    lines = [
        f"success in each environment ({asked}), mean over seeds; {environments.names[0]} is the own one, and the only "
        "one that the verdict and all other tables are about.",
        "mean: over the environments, each weighing the same.",
    ]
    return lines + list(environments.notes)


def _names(runs: Sequence[RunResult], others: Sequence[str]) -> tuple[str, ...]:
    own = {(run.results.coordinates and run.results.coordinates.environment) or "own" for run in runs}
    name = own.pop() if len(own) == 1 else "own"
    return (f"{name} (own)" if name in others else name, *others)


def _is_asked_elsewhere(run: RunResult) -> bool:
    return any(run.answers_in.values())


def _is_asked_in_all(arm: Arm, splits: Sequence[str]) -> bool:
    return all(run.answers.get(split) for run in arm.runs for split in splits)


def _runs_that_count(arm: Arm, splits: Sequence[str]) -> Arm:
    """The arm's runs that were asked in every environment: its means are then all over the same seeds. Where there is
    none, those that were asked in another environment at all."""
    in_all = tuple(run for run in arm.runs if all(run.answers.get(split) for split in splits))
    return replace(arm, runs=in_all or tuple(filter(_is_asked_elsewhere, arm.runs)))


def _pair(arm: Arm, reference: Arm, shown: Mapping[str, Arm], splits: Sequence[str]) -> Pair | str:
    """Both arms on the questions of all environments, weighted; or why they cannot be compared."""
    for each in (arm, reference):
        if each.label not in shown or not _is_asked_in_all(shown[each.label], splits):
            return f"{each.label} was not asked in every environment"
    pairs = []
    for split in splits:  # the same seeds in all, as every run has answers in all
        pair = paired(shown[arm.label], shown[reference.label], split)
        if not isinstance(pair, Pair):
            return pair
        pairs.append(pair)
    n_questions = sum(len(pair.first[0]) for pair in pairs)
    sides: list[list[dict[str, float]]] = [[{} for _ in pairs[0].first], [{} for _ in pairs[0].second]]
    for pair in pairs:
        weight = n_questions / (len(pairs) * len(pair.first[0]))
        for weighted, successes in zip(sides, (pair.first, pair.second), strict=True):
            for of_seed, scores in zip(weighted, successes, strict=True):
                # Two environments may ask the same question.
                of_seed |= {f"{pair.split} {question}": weight * score for question, score in scores.items()}
    return Pair(
        arm, reference, "all environments", tuple(sides[0]), tuple(sides[1]), sum(pair.left_out for pair in pairs)
    )


def _left_out(arms: Sequence[Arm], shown: Mapping[str, Arm], pairs: Sequence[Pair]) -> Iterator[str]:
    if without := len(arms) - len(shown):
        yield f"Left out: {without} of {len(arms)} arms, asked in no environment besides their own."
    several = [arm for arm in arms if arm.label in shown and len(shown[arm.label].runs) < len(arm.runs)]
    if several:
        runs = sum(len(arm.runs) - len(shown[arm.label].runs) for arm in several)
        of = sum(len(arm.runs) for arm in several)
        yield (
            f"Left out: {runs} of the {of} runs of {', '.join(arm.label for arm in several)}, not asked in every "
            "environment; success in the own one may therefore differ from the other tables'."
        )
    if some := [pair for pair in pairs if pair.left_out]:
        yield (
            f"{len(some)} of {len(pairs)} comparisons are on the questions that both sides answered; up to "
            f"{max(pair.left_out for pair in some)} questions are left out of one."
        )


def _infrastructure(shown: Mapping[str, Arm], others: Iterable[str]) -> Iterator[str]:
    broken = sum(
        answer.failure == "infrastructure"
        for arm in shown.values()
        for run in arm.runs
        for name in others
        for answer in run.answers_in.get(name, {}).values()
    )
    if broken:
        yield (
            f"{broken} episodes in other environments broke for reasons that are not the policy's (infrastructure); "
            "they count as unsolved."
        )


def _n_questions(arms: Sequence[Arm], split: str) -> int:
    return max((len(run.answers.get(split, {})) for arm in arms for run in arm.runs), default=0)


def contrast_of(environments: Environments, arm: Arm) -> Contrast | None:
    """The arm's comparison with the successes alone over all environments; None where it has none."""
    return next((each for each in environments.contrasts if each.treatment.label == arm.label), None)
