"""What finished runs say about each other: arms, their differences, and the answers to the user's three questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, NonNegativeFloat, NonNegativeInt
from pydantic.dataclasses import dataclass as checked_dataclass

from nat.core.methods import MARKED, ORDER, REFERENCE, UNMARKED
from nat.runs.outcomes import Answer
from nat.runs.results import Results
from nat.schema import STRICT
from nat.statistics import CrossedDifference, crossed_difference, crossed_interval, holm

Verdict: TypeAlias = Literal["yes", "no", "undecided"]

LEVEL = 0.05  # of the tests; the intervals hold 1 - LEVEL
SHARED = 0.9  # of the questions of either side; with fewer in common two arms are not compared
ALIKE = 0.05  # counts this close are the same for a comparison: a longer prompt may push out a few long trajectories
# Settings that make the method: an arm's method, strategy and counts speak for them.
OF_THE_METHOD = ("mixing", "strategy", "trajectories.successes", "trajectories.failures", "cell")


@checked_dataclass(frozen=True, config=STRICT, kw_only=True)
class AssumedConfig:
    """Variation that is assumed before anything is measured; values and meaning: conf/report/standard.yaml."""

    disagreement: Annotated[float, Field(gt=0, le=1)]
    seed_sd: NonNegativeFloat


@checked_dataclass(frozen=True, config=STRICT, kw_only=True)
class ReportConfig:
    """Values and their meaning: conf/report/standard.yaml."""

    smallest_effect: Annotated[float, Field(gt=0, lt=1)]
    wanted_effect: Annotated[float, Field(gt=0, lt=1)]
    power: Annotated[float, Field(gt=0, lt=1)]
    assumed: AssumedConfig
    browser_questions: NonNegativeInt
    external: str | list[str] | None


@dataclass(frozen=True)
class RunResult:
    """One run, made by `nat` (a cell's directory) or by others (a per-question results file)."""

    name: str
    directory: Path | None  # None: not made by nat
    status: str  # completed | running | failed | not started
    method: str  # base | positive_only | nut | nat | nat_graded, or another's own word
    strategy: str
    positives: int | None
    negatives: int | None
    seed: int
    setting: Mapping[str, str]  # what else the runs differ in: full key to value
    answers: Mapping[str, Mapping[str, Answer]]  # split -> question -> answer, asked for the inference class
    answers_in: Mapping[str, Mapping[str, Answer]] = field(default_factory=dict)  # so in a further environment, by name
    results: Results = field(
        default_factory=lambda: Results(status="completed")
    )  # results.json, where nat made the run


@dataclass(frozen=True)
class Arm:
    """Runs that differ in their seed only, ordered by seed."""

    label: str  # unique in a comparison, short: "nat suffix 1:4, 200 positives"
    method: str
    strategy: str
    positives: int | None
    negatives: int | None
    setting: Mapping[str, str]
    runs: tuple[RunResult, ...]


@dataclass(frozen=True)
class Contrast:
    """One arm against its reference, on the same questions."""

    treatment: Arm
    reference: Arm
    split: str  # whose answers the difference is of
    difference: CrossedDifference
    p_holm: float  # adjusted over the family the contrast belongs to
    adjusted_ci: tuple[float, float]  # at the family's Bonferroni level
    verdict: Verdict


@dataclass(frozen=True)
class Finding:
    """A question of the user's, answered in plain words."""

    question: str  # "Use the failures?", "At which ratio?", "With which text?"
    verdict: Verdict
    answer: str  # one or two sentences with the figures
    evidence: Contrast | None
    also: tuple[Contrast, ...] = ()  # the same question at other numbers of positives or in other settings
    depends: bool = False  # whether those give another answer; `verdict` is then the one of `evidence` alone


@dataclass(frozen=True)
class Environments:
    """The arms in each environment that their models were asked in; made by `nat.elsewhere`.

    `arms` were asked elsewhere; of their runs, those asked in every environment if there are any. The `answers` of
    these runs hold those of all environments, under `splits`.
    """

    splits: tuple[str, ...]  # the own environment's first, then in_NAME
    names: tuple[str, ...]  # of these environments
    arms: tuple[Arm, ...]
    contrasts: tuple[Contrast, ...]  # of the mean over environments, a Holm family of its own
    notes: tuple[str, ...]  # what was left out, and why


@dataclass(frozen=True)
class Comparison:
    """All that a report shows, before it is laid out."""

    title: str
    arms: tuple[Arm, ...]
    contrasts: tuple[Contrast, ...]  # every arm against its reference, one Holm family
    findings: tuple[Finding, ...]  # the verdict, most important first
    caveats: tuple[str, ...]  # what a reader must know before believing it
    missing: tuple[str, ...]  # cells without results, one line each, with the reason
    runs: tuple[RunResult, ...]  # finished ones
    text_contrasts: tuple[Contrast, ...] = ()  # arms with a text against the same without: a Holm family of its own
    split: str = "test"  # whose answers the contrasts are of
    environments: Environments | None = None  # None: no run was asked in an environment besides its own


# ---- arms ----


def arms_of(runs: Sequence[RunResult]) -> tuple[Arm, ...]:
    """Runs grouped by all but their seed; arms in the order of a table, each with its runs by seed."""
    groups: dict[tuple[Any, ...], list[RunResult]] = {}
    for run in runs:
        # Where tokens are held fixed, the counts follow from them and differ from seed to seed.
        counts = (None,) if "mixing.tokens" in run.setting else (run.positives, run.negatives)
        key = (run.method, run.strategy, *counts, *sorted(run.setting.items()))
        groups.setdefault(key, []).append(run)
    arms: list[Arm] = []
    for members in sorted(groups.values(), key=lambda members: _place(members[0])):
        ordered = tuple(sorted(members, key=lambda run: (run.seed, run.name)))
        first = ordered[0]
        positives, negatives = (
            _mean_count([getattr(run, key) for run in ordered]) for key in ("positives", "negatives")
        )
        label = label_of(first.method, first.strategy, positives, negatives, first.setting)
        if any(arm.label == label for arm in arms):  # two settings may read the same when shortened
            label = f"{label} ({first.name})"
        arms.append(Arm(label, first.method, first.strategy, positives, negatives, first.setting, ordered))
    return tuple(arms)


def _place(run: RunResult) -> tuple[Any, ...]:
    method = ORDER.get(run.method, len(ORDER))
    setting = sorted((key, _as_number(value)) for key, value in run.setting.items())
    strategy = "" if run.strategy == "none" else run.strategy
    return run.method != "base", setting, run.positives or 0, method, strategy, run.negatives or 0, run.name


def _as_number(value: str) -> tuple[float, str]:
    try:
        return float(value), ""
    except ValueError:
        return float("inf"), value


def _mean_count(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return round(sum(known) / len(known)) if known else None


def label_of(
    method: str, strategy: str, positives: int | None, negatives: int | None, setting: Mapping[str, str]
) -> str:
    """An arm in a few words: "nat suffix 1:4, 200 positives"."""
    words = [method]
    if strategy != "none":
        words.append(strategy)
    if (text := ratio_text(positives, negatives)) is not None and (negatives or method != REFERENCE):
        words.append(text)
    parts = [" ".join(words)]
    if positives and method != "base":
        parts.append(f"{positives} positives")
    return ", ".join([*parts, *(f"{key.rpartition('.')[2]} {value}" for key, value in setting.items())])


def ratio_text(positives: int | None, negatives: int | None) -> str | None:
    """Positives to negatives as `1:N` (or `P:1` where there are more positives); None where a count is not known."""
    if negatives is None or not positives:
        return None
    if 0 < negatives < positives:
        return f"{positives / negatives:.3g}:1"
    return f"1:{negatives / positives:.3g}"


def mean_success(arm: Arm, split: str) -> float | None:
    """Mean success rate over the runs that answered the split; None where none did."""
    return _mean(arm, split, lambda answer: float(answer.success))


def mean_score(arm: Arm, split: str) -> float | None:
    return _mean(arm, split, lambda answer: answer.score)


def _mean(arm: Arm, split: str, value: Callable[[Answer], float]) -> float | None:
    rates = [sum(map(value, given.values())) / len(given) for run in arm.runs if (given := run.answers.get(split))]
    return sum(rates) / len(rates) if rates else None


def split_of(arms: Sequence[Arm]) -> str:
    """Whose answers are stated: those of test, where there are any."""
    splits = [split for arm in arms for run in arm.runs for split in run.answers]
    return "test" if "test" in splits or not splits else splits[0]


# ---- who is compared with whom ----


def reference_of(arm: Arm, arms: Sequence[Arm]) -> Arm | None:
    """The successes alone: the same positives and setting, without a text if there is such an arm.

    The untrained base has neither: it is compared with the first.
    """
    if arm.method == REFERENCE and arm.strategy == "none":
        return None
    candidates = [other for other in arms if other.method == REFERENCE and other is not arm]
    if arm.method == REFERENCE:
        candidates = [other for other in candidates if other.strategy == "none"]
    if arm.method != "base":
        candidates = [other for other in candidates if is_alike(arm, other)]
    return _closest(arm, candidates, ("none", arm.strategy))


def references_of(arm: Arm, arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """All arms on the successes alone that a user could have instead: `reference_of`'s, and the same with other texts.

    A text may help the successes alone just as much: what the failures add shows against the best of these.
    """
    closest = reference_of(arm, arms)
    if closest is None or arm.method == "base":
        return () if closest is None else (closest,)
    others = [
        other
        for other in arms
        if other.method == REFERENCE
        and other is not arm
        and other is not closest
        and is_alike(arm, other)
        and setting_of(other) == setting_of(closest)
        and is_external(other) == is_external(closest)
    ]
    return closest, *others


def unmarked_of(arm: Arm, arms: Sequence[Arm]) -> Arm | None:
    """NUT, without any text, on as many positives and negatives in the same setting: what the text is measured on."""
    if arm.method not in (*MARKED, UNMARKED) or arm.strategy == "none":
        return None
    candidates = [
        other
        for other in arms
        if other.method == UNMARKED
        and other is not arm
        and is_alike(arm, other)
        and _same_count(arm.negatives, other.negatives)
        and (other.strategy == "none" or arm.method in MARKED)
    ]
    return _closest(arm, candidates, ("none",))


def _closest(arm: Arm, candidates: Sequence[Arm], strategies: Sequence[str]) -> Arm | None:
    """The one that differs least: in its setting, then its strategy, then who made it, then its counts."""

    def distance(other: Arm) -> tuple[Any, ...]:
        strategy = strategies.index(other.strategy) if other.strategy in strategies else len(strategies)
        setting = any(other.setting.get(key) != value for key, value in setting_of(arm).items())
        counts = arm.positives != other.positives, arm.negatives != other.negatives
        return setting, strategy, is_external(arm) != is_external(other), counts

    return min(candidates, key=distance) if candidates else None


def is_external(arm: Arm) -> bool:
    return all(run.directory is None for run in arm.runs)


def is_alike(arm: Arm, other: Arm) -> bool:
    """Whether two arms have the same positives and, apart from what makes the method, the same setting."""
    if not _same_count(arm.positives, other.positives):
        return False
    if is_external(arm) or is_external(other):  # the setting of one is not known
        return True
    return setting_of(arm) == setting_of(other)


def setting_of(arm: Arm) -> dict[str, str]:
    """An arm's setting without what makes its method."""
    return {
        key: value
        for key, value in arm.setting.items()
        if not any(key == group or key.startswith(f"{group}.") for group in OF_THE_METHOD)
    }


def _same_count(count: int | None, other: int | None) -> bool:
    if count is None or other is None:  # others' files need not say
        return True
    return abs(count - other) <= ALIKE * max(count, other)


# ---- differences ----


@dataclass(frozen=True)
class Pair:
    """Two arms on the questions they share, seed by seed where they have the same seeds."""

    treatment: Arm
    reference: Arm
    split: str
    first: tuple[Mapping[str, float], ...]  # question to success (0 or 1; weighted: `nat.elsewhere`), a mapping a seed
    second: tuple[Mapping[str, float], ...]
    left_out: int  # questions that not all runs of both arms have answered

    @property
    def n_seeds(self) -> int:
        return min(len(self.first), len(self.second))


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
