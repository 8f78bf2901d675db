"""Arms: finished runs grouped by all but their seed, and which of them is compared with which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nat.comparison.types import Arm, RunResult
from nat.core.methods import MARKED, ORDER, REFERENCE, UNMARKED
from nat.runs.outcomes import Answer

ALIKE = 0.05  # counts this close are the same for a comparison: a longer prompt may push out a few long trajectories
# Settings that make the method: an arm's method, strategy and counts speak for them.
OF_THE_METHOD = ("mixing", "strategy", "trajectories.successes", "trajectories.failures", "training.objective", "cell")


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
    return all(run.files is None for run in arm.runs)


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
