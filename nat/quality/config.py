"""The `quality` group, and the rules that it switches."""

from __future__ import annotations

from dataclasses import field, make_dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, PositiveInt, model_validator
from pydantic.dataclasses import dataclass

from nat.core.schema import STRICT
from nat.quality.checks import CHECKS

Rule: TypeAlias = str  # one of RULES: its key in conf/quality/, and where a check finds what it drops, the check's name
CollectionRule: TypeAlias = Literal["conflicting_labels", "exact_duplicates", "max_per_question"]


CHECK_RULES: tuple[Rule, ...] = tuple(check.name for check in CHECKS.values() if check.rule is not None)


RULES: tuple[Rule, ...] = (
    "infrastructure",
    "min_agent_turns",
    "max_agent_turns",
    "max_characters",
    *CHECK_RULES,
    "conflicting_labels",
    "exact_duplicates",
    "max_per_question",
)


KEPT = -1  # in place of a rule's number in RULES


# What shows in which turn an episode went wrong, for failed_turns=until_first_error.
ERRORS: tuple[str, ...] = tuple(check.name for check in CHECKS.values() if check.dates_errors)


def _tolerance(value: Any) -> Any:
    if not isinstance(value, bool) and not (isinstance(value, int) and value >= 1):
        raise ValueError(f"{value!r}: it must be false (keep), true (drop) or the number, from 1, that is one too many")
    return value


Findings: TypeAlias = Annotated[bool | int, BeforeValidator(_tolerance)]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class _BeforeChecks:
    infrastructure: bool
    min_agent_turns: PositiveInt | None
    max_agent_turns: PositiveInt | None
    max_characters: PositiveInt | None


# A key for each check that declares a rule, off where no YAML names it: a new check needs no edit here.
_WithChecks: Any = make_dataclass(
    "_WithChecks",
    [(name, {"count": Findings, "switch": bool}[str(CHECKS[name].rule)], field(default=False)) for name in CHECK_RULES],
    bases=(_BeforeChecks,),
    frozen=True,
    kw_only=True,
)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class QualityConfig(_WithChecks):
    """Values and their meaning: conf/quality/default.yaml."""

    conflicting_labels: bool
    exact_duplicates: bool
    max_per_question: PositiveInt | None
    failed_turns: Literal["all", "until_first_error", "none"]

    @model_validator(mode="after")
    def _some_length_is_right(self) -> QualityConfig:
        fewest, most = self.min_agent_turns, self.max_agent_turns
        if fewest is not None and most is not None and most < fewest:
            raise ValueError(
                f"max_agent_turns={most} with min_agent_turns={fewest} drops every trajectory; raise the one or lower "
                "the other"
            )
        return self
