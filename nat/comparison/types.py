"""What a comparison is made of: runs, arms, contrasts, findings. Frozen values; nothing here computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from nat.core.statistics import CrossedDifference
from nat.runs.outcomes import Answer
from nat.runs.packed import RunFiles
from nat.runs.results import Results

Verdict: TypeAlias = Literal["yes", "no", "undecided"]
# What chose the best of several arms: nothing had to, validation answers, or one half of the questions.
How: TypeAlias = Literal["only", "validation", "half"]
CaveatKind: TypeAlias = Literal[
    "leak",  # found in a run's data
    "harm",  # the untrained model does better
    "no_room",  # both sides solve next to nothing, or all but everything
    "one_seed",  # of every arm
    "single_seeds",  # of some arms
    "few_seeds",
    "half_chose",  # there were no validation answers
    "no_validation",  # in some runs
    "missing_runs",
    "not_counted",  # a method that does not say whether it saw failures
    "not_by_nat",
    "not_compared",  # two arms
    "shared_questions",  # a comparison is not on all questions
    "commits",
    "uncommitted",
    "versions",
    "passes",  # equal steps, not equal passes over the data
    "steps",
    "infrastructure",  # episodes that broke
    "note",  # what was left out on purpose
]


@dataclass(frozen=True)
class RunResult:
    """One run, made by `nat` (a cell's directory) or by others (a per-question results file)."""

    name: str
    files: RunFiles | None  # None: not made by nat
    status: str  # see `nat.runs.results.Status`
    method: str  # a name of nat.core.methods, or another's own word
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
    recommended: Arm | None = None  # the arm of `evidence` to take by this answer; None: undecided
    chosen_on: How = "only"  # what chose the arm of `evidence`; "half" as well where that chose its reference


@dataclass(frozen=True)
class Caveat:
    """What a reader must know before believing a report, in one line."""

    kind: CaveatKind
    text: str


@dataclass(frozen=True)
class Environments:
    """The arms in each environment that their models were asked in; made by `nat.comparison.environments`.

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
    caveats: tuple[Caveat, ...]  # the gravest first
    missing: tuple[str, ...]  # cells without results, one line each, with the reason
    runs: tuple[RunResult, ...]  # finished ones
    text_contrasts: tuple[Contrast, ...] = ()  # arms with a text against the same without: a Holm family of its own
    split: str = "test"  # whose answers the contrasts are of
    environments: Environments | None = None  # None: no run was asked in an environment besides its own
    measured: tuple[Arm, ...] = ()  # arms of the runs in which the loss of unseen trajectories was measured


@dataclass(frozen=True)
class Pair:
    """Two arms on the questions they share, seed by seed where they have the same seeds."""

    treatment: Arm
    reference: Arm
    split: str
    first: tuple[
        Mapping[str, float], ...
    ]  # question to success (0 or 1; weighted: `nat.comparison.environments`), a mapping a seed
    second: tuple[Mapping[str, float], ...]
    left_out: int  # questions that not all runs of both arms have answered

    @property
    def n_seeds(self) -> int:
        return min(len(self.first), len(self.second))
