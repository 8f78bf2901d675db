"""What a reader must know before believing a report: one line for each thing, and only what applies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from nat.comparison.arms import is_external, setting_of
from nat.comparison.contrasts import paired
from nat.comparison.types import Arm, Caveat, Finding, Pair, RunResult
from nat.comparison.verdict import has_failures, mean_of, points_of, who
from nat.core.methods import BY_NAME
from nat.core.statistics import crossed_difference

FEW_SEEDS = 5  # fewer than this are worth a word
SHOWN_RUNS = 5  # names in a line
Number = TypeVar("Number", int, float)
NO_ROOM = 0.02  # success rates this near to 0, or to 1, leave no room for a difference between arms


def caveats_of(
    arms: Sequence[Arm],
    runs: Sequence[RunResult],
    findings: Sequence[Finding],
    split: str,
    refused: Sequence[Caveat],
    planned: int,
    missing: Sequence[str],
    notes: Sequence[str],
) -> tuple[Caveat, ...]:
    """The lines, the gravest first.

    Args:
        refused: comparisons that could not be made, or not on all questions, with the reason.
        planned: number of cells that the sweeps planned.
        notes: what was left out on purpose.
    """
    trained = [arm for arm in arms if arm.method != "base"]
    lines = [
        *_leaks(runs),
        *_harm(arms, findings, split),
        *_no_room(findings, split),
        *_seeds(trained),
        *_choice(trained, findings, split),
        *_partial(planned, len(runs), missing),
        *_of_others(arms, runs),
        *refused,
        *_provenance(runs),
        *_compute(trained),
        *_infrastructure(runs, split),
        *(Caveat("note", line) for line in notes),
    ]
    return tuple(dict.fromkeys(lines))


def _leaks(runs: Sequence[RunResult]) -> Iterator[Caveat]:
    by_leak: dict[str, int] = {}
    for run in runs:
        for leak in run.results.leaks:
            by_leak[leak] = by_leak.get(leak, 0) + 1
    for leak, count in by_leak.items():
        yield Caveat(
            "leak", f"Leak in the data: {leak}" + (f" ({count} of {len(runs)} runs)" if count < len(runs) else "")
        )


def _seeds(trained: Sequence[Arm]) -> Iterator[Caveat]:
    counts = sorted({len(arm.runs) for arm in trained})
    if not counts:
        return
    if counts == [1]:
        yield Caveat(
            "one_seed",
            "One training seed: the intervals hold the variance over questions only, so every verdict is undecided; "
            "three seeds are the least that can give one.",
        )
    elif counts[0] == 1:
        single = sum(len(arm.runs) == 1 for arm in trained)
        yield Caveat(
            "single_seeds", f"{single} of {len(trained)} arms have one training seed: their comparisons are undecided."
        )
    elif counts[0] < FEW_SEEDS:
        seeds = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        yield Caveat("few_seeds", f"{seeds} training seeds are few: intervals allow for it (Student's t) and are wide.")


def _harm(arms: Sequence[Arm], findings: Sequence[Finding], split: str) -> Iterator[Caveat]:
    """Which of the arms that the verdict rests on are worse than the model before its training."""
    chosen = [each.treatment for finding in findings for each in (finding.evidence, *finding.also) if each is not None]
    for arm in {arm.label: arm for arm in chosen}.values():
        bases = [
            base
            for base in arms
            if base.method == "base"
            and (
                is_external(arm)
                or is_external(base)
                or all(setting_of(arm).get(key, value) == value for key, value in setting_of(base).items())
            )
        ]
        pair = paired(bases[0], arm, split) if bases else None
        if not isinstance(pair, Pair):
            continue
        difference = crossed_difference(pair.first, pair.second)
        if difference.difference > 0:
            yield Caveat(
                "harm",
                f"The untrained model ({mean_of(pair.first):.3f}) solves {points_of(difference)} than {who(arm)} "
                f"({mean_of(pair.second):.3f}): this training lowers success.",
            )


def _no_room(findings: Sequence[Finding], split: str) -> Iterator[Caveat]:
    """Where both sides of a comparison of the verdict solve next to nothing, or all but everything."""
    contrasts = [each for finding in findings for each in (finding.evidence, *finding.also) if each is not None]
    for contrast in contrasts:
        pair = paired(contrast.reference, contrast.treatment, split)
        if not isinstance(pair, Pair):
            continue
        means = mean_of(pair.first), mean_of(pair.second)
        if contrast.verdict == "yes":
            continue
        side = "next to nothing" if max(means) <= NO_ROOM else "all but everything" if min(means) >= 1 - NO_ROOM else ""
        if side:
            other = "easier" if max(means) <= NO_ROOM else "harder"
            of_setting = ", ".join(f"{key} {value}" for key, value in contrast.treatment.setting.items())
            where = f"With {of_setting}, both" if of_setting else "Both"
            yield Caveat(
                "no_room",
                f"{where} sides of a comparison solve {side} ({means[0]:.3f} and {means[1]:.3f}): that no difference "
                f"is shown says nothing about the failures or the text. Ask {other} questions.",
            )


def _choice(trained: Sequence[Arm], findings: Sequence[Finding], split: str) -> Iterator[Caveat]:
    runs = [run for arm in trained for run in arm.runs]
    without = sorted(run.name for run in runs if not run.answers.get("validation"))
    is_half = any(finding.chosen_on == "half" for finding in findings)
    if is_half and len(without) == len(runs):
        yield Caveat(
            "half_chose",
            f"No validation answers to choose on: half of the {split} questions (by hash) chose what is best, the "
            "other half states its effect.",
        )
    elif without and len(without) < len(runs) and findings:
        has = "has" if len(without) == 1 else "have"
        named = ", ".join(without[:SHOWN_RUNS]) + (", ..." if len(without) > SHOWN_RUNS else "")
        instead = "the seeds that all arms have them of choose."
        if is_half:
            instead = (
                f"where an arm has none, half of the {split} questions (by hash) choose and the other half states."
            )
        yield Caveat(
            "no_validation", f"{len(without)} of {len(runs)} runs {has} no validation answers ({named}): {instead}"
        )


def _of_others(arms: Sequence[Arm], runs: Sequence[RunResult]) -> Iterator[Caveat]:
    unknown = [arm.label for arm in arms if arm.method not in BY_NAME and not has_failures(arm)]
    if unknown:
        is_said = "it is" if len(unknown) == 1 else "they are"
        yield Caveat(
            "not_counted",
            f"No verdict counts {', '.join(unknown)}: {is_said} not said to be trained on failures (`negatives` above "
            "0).",
        )
    others = [run for run in runs if run.files is None]
    if others and len(others) < len(runs):
        files = ", ".join(dict.fromkeys(run.setting["from"] for run in others if "from" in run.setting))
        yield Caveat(
            "not_by_nat",
            f"{len(others)} of {len(runs)} runs were not made by nat ({files}): their settings, and what counts the "
            "file does not state, are not known, so what differs may be more than the method.",
        )


def _partial(planned: int, n_runs: int, missing: Sequence[str]) -> Iterator[Caveat]:
    if missing:
        of = f" of {planned}" if planned == len(missing) + n_runs else ""
        are = "runs are" if len(missing) > 1 else "run is"
        yield Caveat(
            "missing_runs",
            f"{len(missing)}{of} {are} missing (named below): the comparison may change when they are there.",
        )


def _provenance(runs: Sequence[RunResult]) -> Iterator[Caveat]:
    known = [run.results.git for run in runs if run.results.git is not None]
    commits = sorted({state.commit[:7] for state in known})
    if len(commits) > 1:
        shown = ", ".join(commits[:4]) + (", ..." if len(commits) > 4 else "")
        yield Caveat("commits", f"The runs were made at {len(commits)} commits ({shown}).")
    if dirty := sum(state.dirty for state in known):
        yield Caveat(
            "uncommitted", f"{dirty} of {len(runs)} runs were made with uncommitted changes in the working directory."
        )
    versions: dict[str, set[str]] = {}
    for run in runs:
        for library, version in run.results.versions.items():
            versions.setdefault(library, set()).add(version)
    for library, different in versions.items():
        if len(different) > 1:
            yield Caveat("versions", f"The runs used different versions of {library}: {', '.join(sorted(different))}.")


def _compute(trained: Sequence[Arm]) -> Iterator[Caveat]:
    """Adding failures at equal steps means fewer passes over the data; at equal passes more steps."""
    runs = [run for arm in trained for run in arm.runs]
    steps, tokens = _known(run.results.steps for run in runs), _known(run.results.trained_tokens for run in runs)
    epochs = _known(run.results.training.get("epoch") for run in runs)
    if not runs or len(steps) < len(runs) or len(tokens) < len(runs) or min(tokens) == max(tokens):
        return
    low, high = min(tokens), max(tokens)
    if min(steps) == max(steps):
        passes = ""
        if len(epochs) == len(runs) and max(epochs) > 1.02 * min(epochs):
            passes = f"{min(epochs):.2g} to {max(epochs):.2g} passes over the data, "
        yield Caveat(
            "passes", f"Equal steps ({steps[0]:g}), not equal passes: {passes}{low:,} to {high:,} trained tokens a run."
        )
    elif high > 1.02 * low:
        yield Caveat(
            "steps", f"Not equal steps: {min(steps):g} to {max(steps):g} a run, {low:,} to {high:,} trained tokens."
        )


def _known(values: Iterable[Number | None]) -> list[Number]:
    return [value for value in values if value is not None]


def _infrastructure(runs: Sequence[RunResult], split: str) -> Iterator[Caveat]:
    broken = sum(
        answer.failure == "infrastructure" for run in runs for answer in (run.answers.get(split) or {}).values()
    )
    if broken:
        yield Caveat(
            "infrastructure",
            f"{broken} episodes broke for reasons that are not the policy's (infrastructure); they count as unsolved.",
        )
