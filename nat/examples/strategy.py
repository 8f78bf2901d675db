"""Strategies: how the model is told which trajectories are correct.

A strategy is a YAML file of literal text (`conf/strategy/`): classes of trajectories, the text of each, the place of
that text in the prompt and the class whose text is used at inference (Wang et al. 2024).
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from nat.core.paths import CONF_DIR
from nat.core.schema import STRICT
from nat.types import RequestError, Trajectory

Value = str | bool | int | float
SHUFFLED_SUCCESS = "shuffled_success"  # a field of the pool, not of one trajectory: see `shuffled_success`


@dataclass(frozen=True, config=STRICT, kw_only=True)
class When:
    """A condition on one field of a trajectory; bounds that are given must all hold."""

    field: str
    equals: Value | None = None
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_kind_of_test(self) -> When:
        if (self.equals is None) == (not self.is_graded):
            raise ValueError("give either `equals` or bounds (`above`, `at_least`, `below`, `at_most`)")
        return self

    @property
    def is_graded(self) -> bool:
        return any(bound is not None for bound in (self.above, self.at_least, self.below, self.at_most))

    def matches(self, value: Any) -> bool:
        if self.equals is not None:
            # True == 1 in Python; a label and a number are different things here.
            return type(value) is type(self.equals) and value == self.equals
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return (
            (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )


@dataclass(frozen=True, config=STRICT, kw_only=True)
class StrategyClass:
    """A class of trajectories and the text that announces it; without `when` it takes whatever comes to it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]  # it names files and curves
    text: str
    when: When | None = None


@dataclass(frozen=True, config=STRICT, kw_only=True)
class StrategyConfig:
    name: str
    classes: Annotated[tuple[StrategyClass, ...], Field(min_length=1)]
    place: Literal["prefix", "suffix", "system"]
    infer_as: str

    @model_validator(mode="after")
    def _check(self) -> StrategyConfig:
        names = [class_.name for class_ in self.classes]
        if len(set(names)) < len(names):
            raise ValueError(f"classes: names must differ, they are {names}")
        if self.infer_as not in names:
            raise ValueError(f"infer_as: {self.infer_as!r} names no class; the classes are {', '.join(names)}")
        gap = uncovered_value(self.classes)
        if gap is not None:
            field, value = gap
            raise ValueError(
                f"classes: no class takes {field} = {value}; close the gap or end with a class without when"
            )
        return self

    @property
    def inference_class(self) -> StrategyClass:
        return self.class_named(self.infer_as)

    def class_named(self, name: str) -> StrategyClass:
        for class_ in self.classes:
            if class_.name == name:
                return class_
        raise RequestError(
            f"strategy={self.name} has no class {name!r}; its classes are "
            f"{', '.join(class_.name for class_ in self.classes)}."
        )

    @property
    def is_marked(self) -> bool:
        """Whether the text tells the classes apart; where it does not, training on failures is NUT."""
        return len({class_.text for class_ in self.classes}) > 1

    @property
    def is_shuffled(self) -> bool:
        return any(class_.when is not None and class_.when.field == SHUFFLED_SUCCESS for class_ in self.classes)

    @property
    def is_graded(self) -> bool:
        return any(class_.when is not None and class_.when.is_graded for class_ in self.classes)


def uncovered_value(classes: Sequence[StrategyClass]) -> tuple[str, Value] | None:
    """A value of the tested field that no class takes, or None if there is none or it cannot be known beforehand.

    Known are `success` and `shuffled_success` (true, false), `score` (from 0 to 1) and any other field that all classes
    grade by bounds.
    """
    tests = [class_.when for class_ in classes if class_.when is not None]
    fields = {test.field for test in tests}
    if len(tests) < len(classes) or len(fields) != 1:
        return None
    field = fields.pop()
    candidates: list[Value]
    if field in ("success", SHUFFLED_SUCCESS):
        candidates = [True, False]
    else:
        if not all(test.is_graded for test in tests):
            return None
        bounds = {bound for test in tests for bound in (test.above, test.at_least, test.below, test.at_most)}
        low, high = (0.0, 1.0) if field == "score" else (-math.inf, math.inf)
        edges = sorted({low, high, *(b for b in bounds if b is not None and low < b < high)})
        # Between two neighbouring edges every value is treated alike, so the edges and one value between are enough.
        between = [_between(a, b) for a, b in itertools.pairwise(edges)]
        candidates = [*(edge for edge in edges if math.isfinite(edge)), *between]
    for value in sorted(candidates):
        if not any(test.matches(value) for test in tests):
            return field, value
    return None


def _between(low: float, high: float) -> float:
    if math.isinf(low):
        return high - 1
    return low + 1 if math.isinf(high) else (low + high) / 2


def field_value(trajectory: Trajectory, field: str) -> Any:
    """The value of `success, score, failure, source` or `metadata.KEY[.KEY ...]`; None where it does not exist."""
    if field in ("success", "score", "failure"):
        return getattr(trajectory.outcome, field)
    if field == "source":
        return trajectory.source
    value: Any = trajectory.metadata if field.startswith("metadata.") else None
    for key in field.split(".")[1:]:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def shuffled_success(trajectories: Sequence[Trajectory]) -> list[bool]:
    """For each trajectory the success of another one: the marks of a control, true as often as the labels are.

    The labels in the order of ids are dealt out in the order of `sha256("shuffled:" + id)`: the permutation depends on
    the ids in the pool alone, not on the order of the files.
    """
    by_id = sorted(trajectories, key=lambda t: t.id)
    by_hash = sorted(trajectories, key=lambda t: hashlib.sha256(f"shuffled:{t.id}".encode()).digest())
    dealt = {taker.id: giver.outcome.success for taker, giver in zip(by_hash, by_id, strict=True)}
    return [dealt[trajectory.id] for trajectory in trajectories]


def classify(trajectories: Sequence[Trajectory], strategy: StrategyConfig) -> list[StrategyClass]:
    """The class of each trajectory: the first whose `when` holds.

    Raises RequestError where a tested field is in none of the trajectories, or a trajectory fits no class.
    """
    values: dict[str, list[Any]] = {}  # of every tested field
    for index, class_ in enumerate(strategy.classes):
        if class_.when is None or not trajectories:
            continue
        field = class_.when.field
        if field == SHUFFLED_SUCCESS:
            values[field] = shuffled_success(trajectories)
            continue
        values[field] = [field_value(trajectory, field) for trajectory in trajectories]
        if all(value is None for value in values[field]) and field != "failure":
            known = ["success", "score", "failure", "source", *sorted(_metadata_fields(trajectories))]
            raise RequestError(
                f"strategy.classes[{index}].when.field={field!r} is in none of the {len(trajectories)} trajectories.\n"
                f"They have: {', '.join(known[:20])}."
            )
    return [
        _class_of(trajectory, {field: column[row] for field, column in values.items()}, strategy)
        for row, trajectory in enumerate(trajectories)
    ]


def _class_of(trajectory: Trajectory, values: Mapping[str, Any], strategy: StrategyConfig) -> StrategyClass:
    for class_ in strategy.classes:
        if class_.when is None or class_.when.matches(values[class_.when.field]):
            return class_
    shown = ", ".join(f"{field} = {value!r}" for field, value in sorted(values.items()))
    raise RequestError(
        f"strategy={strategy.name}: trajectory {trajectory.id!r} fits no class ({shown}).\n"
        "Add a class for it, or end strategy.classes with one that has no `when`."
    )


def _metadata_fields(trajectories: Sequence[Trajectory]) -> set[str]:
    return {f"metadata.{key}" for trajectory in trajectories for key in trajectory.metadata}


def shipped_conditioning_texts() -> tuple[str, ...]:
    """The texts of all strategies in conf/strategy/, each once, sorted."""
    import yaml

    texts: set[str] = set()
    for path in (CONF_DIR / "strategy").glob("*.yaml"):
        strategy = yaml.safe_load(path.read_text(encoding="utf-8"))
        texts.update(class_["text"] for class_ in strategy["classes"] if class_["text"])
    return tuple(sorted(texts))
