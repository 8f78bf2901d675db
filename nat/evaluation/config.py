"""The `evaluation` group."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, field_validator
from pydantic.dataclasses import dataclass

from nat.core.schema import STRICT


@dataclass(frozen=True, config=STRICT, kw_only=True)
class DecodingConfig:
    """Values and their meaning: conf/evaluation/rollouts.yaml."""

    temperature: NonNegativeFloat
    top_p: Annotated[float, Field(gt=0, le=1)]
    seed: NonNegativeInt
    max_new_tokens: PositiveInt
    max_context: PositiveInt | None
    stop: list[str]
    batch_size: PositiveInt

    @field_validator("stop")
    @classmethod
    def _no_empty_text(cls, value: list[str]) -> list[str]:
        if "" in value:
            raise ValueError("holds an empty text, which would end every turn at once")
        return value


@dataclass(frozen=True, config=STRICT, kw_only=True)
class EvaluationConfig:
    """Values and their meaning: conf/evaluation/rollouts.yaml."""

    kind: Literal["rollouts", "none"]
    n_questions: PositiveInt
    split: Literal["validation", "test"]
    n_validation: NonNegativeInt | None
    also_as: Literal["others"] | list[str]
    also_at: list[NonNegativeFloat]
    n_class_losses: NonNegativeInt
    decoding: DecodingConfig
