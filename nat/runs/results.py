"""What a run found, as one type: what `results.json` is written from, and read into, by all who need it.

    {"schema": 2, "status": "completed", "cell": "1f0c...", "method": "nat", "strategy": "suffix", ...,
     "success_rate": 0.41, "ci95": [0.36, 0.47], "n_questions": 300, "failures": {"wrong_answer": 177},
     "passes": [{"kind": "inference", "split": "test", "asked_for": "correct", "temperature": 0.0, ...,
                 "success_rate": 0.41, ...},
                {"kind": "also_as", "split": "test", "asked_for": "incorrect", ...}, ...], ...}

The coordinates stand at the top level, and so do the first figures of the inference pass, for who opens the file; they
are read from `passes` alone. Files without a `schema` are of the first one, and `read` converts them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter, ValidationError

from nat.core.statistics import wilson_interval

SCHEMA = 2  # of results.json

Status: TypeAlias = Literal["planned", "running", "failed", "completed"]
PassKind: TypeAlias = Literal[
    "inference",  # the run's questions, under the text of the class of inference: the run's own figures
    "validation",  # the validation questions, in the same way
    "also_as",  # the run's questions under another class's text (`evaluation.also_as`)
    "also_at",  # the run's questions at another temperature (`evaluation.also_at`)
    "also_in",  # the questions of a further environment (`also_in`)
]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What one evaluation pass asks of the model. None: a file of the first schema does not say."""

    kind: PassKind
    split: str  # whose questions: test | validation
    asked_for: str | None  # the class whose text stands in the prompt
    temperature: float | None
    environment: str | None  # its name; of a pass `also_in` the name there


@dataclass(frozen=True, kw_only=True)
class Pass(Asked):
    """One evaluation pass: what was asked, and how the episodes ended. None: as in `Asked`."""

    success_rate: float  # share of the questions
    ci95: tuple[float, float]  # Wilson's interval of it
    n_questions: int
    mean_score: float | None  # in [0, 1]
    failures: Mapping[str, int] | None  # episodes by kind, see `nat.types.Failure`
    mean_turns: float | None  # of the agent, an episode
    generated_tokens: int | None  # over all episodes
    search_misses: int | None  # searches that no recording answered


@dataclass(frozen=True, kw_only=True)
class ClassLoss:
    """The loss of some trajectories under the text of one class, in nats per trained token; see
    `nat.evaluation.class_losses`."""

    loss: float | None  # None where there are no trajectories
    tokens: int
    trajectories: int
    difference: float | None = None  # mean over trajectories from the class of inference; None for that class itself
    standard_error: float | None = None  # None for fewer than two trajectories


@dataclass(frozen=True, kw_only=True)
class GroupLosses:
    """The losses of one group of unseen trajectories ("successes", "failures")."""

    by_class: Mapping[str, ClassLoss]
    left_out: Mapping[str, int] = field(default_factory=dict)  # trajectories by reason


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """Where a run stands among others: what is known before it starts."""

    method: str
    environment: str | None
    strategy: str
    ratio: str | None  # as `mixing.ratio` writes it; None where the mixing has none
    positives: int | None  # trajectories that were chosen, not those asked for
    negatives: int | None
    seed: int
    model: str | None
    split: str  # whose questions the inference pass asks
    manifest: str | None  # hash of the chosen trajectories; None where nothing is trained


@dataclass(frozen=True)
class Error:
    """Why a run failed. The message may have several lines; the first one says it."""

    kind: Literal["request", "stage", "interrupted"]
    message: str

    @property
    def first_line(self) -> str:
        return (self.message.splitlines() or [""])[0]


@dataclass(frozen=True)
class Git:
    """The state of the working directory that a run was started in."""

    commit: str
    dirty: bool  # it has changes that are not committed


@dataclass(frozen=True, kw_only=True)
class Results:
    """All that `results.json` says of a run. What a run has not come to yet, or does not do, is None or empty."""

    status: Status
    cell: str | None = None  # `nat.sweeps.cell_hash`
    overrides: tuple[str, ...] = ()  # of the command line
    warnings: tuple[str, ...] = ()
    tracking_id: str | None = None  # of the W&B run
    error: Error | None = None
    coordinates: Coordinates | None = None
    leaks: tuple[str, ...] = ()  # between what is trained on and what is asked, a line each
    steps: int | None = None  # of the optimiser
    trained_tokens: int | None = None  # that carried loss, over all steps
    training: Mapping[str, float | None] = field(default_factory=dict)  # the last metrics logged, by name
    class_losses: Mapping[str, GroupLosses] = field(default_factory=dict)  # by group
    grades_by_f1: bool = False  # of the own environment: success is an exact match, the score token F1
    passes: tuple[Pass, ...] = ()  # in the order in which they were made
    timing: Mapping[str, float] = field(default_factory=dict)  # seconds by stage
    versions: Mapping[str, str] = field(default_factory=dict)  # by library
    git: Git | None = None
    threads: int | None = None  # of torch
    seconds: float | None = None  # of the whole run

    @property
    def inference(self) -> Pass | None:
        """The run's own figures; None where nothing was evaluated."""
        return next(self.of_kind("inference"), None)

    @property
    def validation(self) -> Pass | None:
        return next(self.of_kind("validation"), None)

    def of_kind(self, kind: PassKind) -> Iterator[Pass]:
        return (one for one in self.passes if one.kind == kind)


# ---- as a file ----


def as_tree(results: Results) -> dict[str, Any]:
    """What `results.json` holds."""
    tree: dict[str, Any] = {"schema": SCHEMA}
    for name in (each.name for each in fields(results)):
        value = getattr(results, name)
        if name == "coordinates" and value is not None:
            tree |= asdict(value)
        elif name == "passes" and value:
            tree |= _headline(results)
            tree |= {"grades_by_f1": results.grades_by_f1, "passes": [asdict(one) for one in value]}
        elif name == "class_losses":
            tree |= {"class_losses": {group: asdict(losses) for group, losses in value.items()}} if value else {}
        elif name in ("error", "git") and value is not None:
            tree[name] = asdict(value)
        elif name != "grades_by_f1" and value is not None and value != () and value != {}:
            tree[name] = value
    return tree


def _headline(results: Results) -> dict[str, Any]:
    """The first figures of the inference pass, which nothing reads back."""
    own = results.inference
    if own is None:
        return {}
    shown = {"success_rate": own.success_rate, "ci95": own.ci95, "n_questions": own.n_questions}
    graded = {"exact_match": own.success_rate, "f1": own.mean_score} if results.grades_by_f1 else {}
    return {**shown, **graded, "failures": own.failures}


def read(tree: Mapping[str, Any]) -> Results:
    """What `as_tree` made, or a file of the first schema. Raises ValueError, which names what is wrong."""
    tree = tree if "schema" in tree else from_schema_1(tree)
    if tree["schema"] != SCHEMA:
        raise ValueError(f"schema={tree['schema']!r}: this version of nat reads {SCHEMA} and what came before")
    named = [each.name for each in fields(Coordinates)]
    coordinates = {name: tree[name] for name in named if name in tree} if "method" in tree else None
    values = {each.name: tree[each.name] for each in fields(Results) if each.name in tree}
    try:
        return _adapter().validate_python({**values, "coordinates": coordinates})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{key}={first['input']!r}: {first['msg']}") from None


@cache
def _adapter() -> TypeAdapter[Results]:
    return TypeAdapter(Results)


# ---- the first schema ----


def from_schema_1(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A file of the first schema, in which the names of keys told the passes apart, as one of the second.

    There the inference pass stood at the top level, `validation` and each environment of `also_in` had four figures,
    and passes under another class or temperature a success rate, in `success_rate_as_NAME` and `success_rate_at_T`: on
    the questions of the inference pass. Raises ValueError where a pass lacks its figures.
    """
    converted = {"schema": SCHEMA, **tree}
    if "method" in tree:
        converted = {**dict.fromkeys(each.name for each in fields(Coordinates)), **converted}
        converted |= {key: value for key, value in _DEFAULTS_1.items() if tree.get(key) is None}
    converted["grades_by_f1"] = "f1" in tree
    try:
        converted["class_losses"] = {
            group: {
                "by_class": {name: loss for name, loss in losses.items() if name != "left_out"},
                "left_out": losses.get("left_out", {}),
            }
            for group, losses in tree.get("class_losses", {}).items()
        }
        converted["passes"] = list(_passes_of_schema_1(tree))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"an evaluation lacks its figures ({type(error).__name__}: {error})") from None
    return converted


_DEFAULTS_1 = {"strategy": "none", "seed": 0, "split": "test"}  # where the file does not say
_FIGURES_1 = ("success_rate", "ci95", "mean_score", "n_questions")  # of validation and also_in


def _passes_of_schema_1(tree: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    unknown = dict.fromkeys(each.name for each in fields(Pass))
    own = {**unknown, "split": tree.get("split", "test"), "environment": tree.get("environment")}
    for key, value in tree.items():
        if key == "success_rate":
            of_inference = (*_FIGURES_1, "failures", "mean_turns", "generated_tokens")
            figures = {name: tree[name] for name in of_inference}
            yield own | {"kind": "inference", **figures, "search_misses": tree.get("search_misses", 0)}
        elif key == "validation":
            yield own | {"kind": "validation", "split": "validation", **{name: value[name] for name in _FIGURES_1}}
        elif key.startswith("success_rate_as_"):
            name = key.removeprefix("success_rate_as_")
            yield own | {"kind": "also_as", "asked_for": name, **_rate_of_schema_1(tree, value)}
        elif key.startswith("success_rate_at_"):
            temperature = float(key.removeprefix("success_rate_at_"))
            yield own | {"kind": "also_at", "temperature": temperature, **_rate_of_schema_1(tree, value)}
        elif key == "also_in":
            for place, there in value.items():
                yield own | {"kind": "also_in", "environment": place, **{name: there[name] for name in _FIGURES_1}}


def _rate_of_schema_1(tree: Mapping[str, Any], rate: float) -> dict[str, Any]:
    n = tree["n_questions"]
    return {"success_rate": rate, "ci95": wilson_interval(round(rate * n), n), "n_questions": n}


# ---- as a row of a table ----


def by_key(results: Results) -> dict[str, Any]:
    """A run's coordinates and figures, each under a key of its own: what a table of runs shows (W&B, results.csv).

    The inference pass stands at the top level; of the others the success rate is `success_rate_as_NAME` or
    `success_rate_at_T`, and four figures are below `validation` and `also_in.NAME`.
    """
    row: dict[str, Any] = asdict(results.coordinates) if results.coordinates else {}
    row |= {"leaks": list(results.leaks)} if results.leaks else {}
    for key in ("steps", "trained_tokens"):
        row |= {key: value} if (value := getattr(results, key)) is not None else {}
    row["training"] = dict(results.training)
    if results.class_losses:
        row["class_losses"] = {group: _losses_by_key(losses) for group, losses in results.class_losses.items()}
    for one in results.passes:
        if one.kind == "inference":
            row |= _figures(one)
            row |= {"exact_match": one.success_rate, "f1": one.mean_score} if results.grades_by_f1 else {}
        elif one.kind == "validation":
            row["validation"] = _few_figures(one)
        elif one.kind == "also_as":
            row[f"success_rate_as_{one.asked_for}"] = one.success_rate
        elif one.kind == "also_at":
            row[f"success_rate_at_{one.temperature:g}"] = one.success_rate
        else:
            row.setdefault("also_in", {})[str(one.environment)] = _few_figures(one)
    return row | {"timing": dict(results.timing)}


def _figures(one: Pass) -> dict[str, Any]:
    asked = {each.name for each in fields(Asked)}
    figures = {key: value for key, value in asdict(one).items() if key not in asked}
    figures["ci95"] = list(one.ci95)
    if not one.search_misses:
        del figures["search_misses"]
    return figures


def _few_figures(one: Pass) -> dict[str, Any]:
    rate, score = one.success_rate, one.mean_score
    return {"success_rate": rate, "ci95": list(one.ci95), "mean_score": score, "n_questions": one.n_questions}


def _losses_by_key(losses: GroupLosses) -> dict[str, Any]:
    by_class = {
        name: {key: value for key, value in asdict(loss).items() if value is not None or key == "loss"}
        for name, loss in losses.by_class.items()
    }
    return by_class | ({"left_out": dict(losses.left_out)} if losses.left_out else {})
