"""The `quality` group, and the rules that it switches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BeforeValidator, PositiveInt, model_validator
from pydantic.dataclasses import dataclass

from nat.core.schema import STRICT
from nat.quality.marks import CheckName

if TYPE_CHECKING:
    pass

# A rule's name is its key in conf/quality/, and where a check finds what it drops, the check's name.
CollectionRule: TypeAlias = Literal["conflicting_labels", "exact_duplicates", "max_per_question"]


Rule: TypeAlias = (
    Literal["infrastructure", "min_agent_turns", "max_agent_turns", "max_characters"] | CheckName | CollectionRule
)


CHECK_RULES: tuple[CheckName, ...] = get_args(CheckName)


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
ERRORS: tuple[CheckName, ...] = ("unparsed_action", "observation_error", "calculator_slip")


def _tolerance(value: Any) -> Any:
    if not isinstance(value, bool) and not (isinstance(value, int) and value >= 1):
        raise ValueError(f"{value!r}: it must be false (keep), true (drop) or the number, from 1, that is one too many")
    return value


Findings: TypeAlias = Annotated[bool | int, BeforeValidator(_tolerance)]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class QualityConfig:
    """Values and their meaning: conf/quality/default.yaml."""

    infrastructure: bool
    min_agent_turns: PositiveInt | None
    max_agent_turns: PositiveInt | None
    max_characters: PositiveInt | None
    empty_turn: Findings
    ends_on_user_turn: bool
    unfinished: bool
    unparsed_action: Findings
    observation_error: Findings
    calculator_slip: Findings
    mixed_languages: Findings
    secret: Findings
    email_address: Findings
    conditioning_words: Findings
    label_in_text: Findings
    odd_characters: Findings
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
