"""The `collect` group: one class a policy's kind."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, JsonValue, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from pydantic.dataclasses import dataclass

from nat.core.schema import STRICT


@dataclass(frozen=True, config=STRICT, kw_only=True)
class TurnsConfig:
    """How a turn is generated. Values and their meaning: conf/collect/model.yaml and openai.yaml."""

    max_tokens: PositiveInt | None
    top_p: Annotated[float, Field(gt=0, le=1)]
    stop: list[Annotated[str, Field(min_length=1)]]
    at_once: PositiveInt


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ModelTurns(TurnsConfig):
    """A turn without a limit might never end: no server decides here."""

    max_tokens: PositiveInt


@dataclass(frozen=True, config=STRICT, kw_only=True)
class EndpointConfig:
    """An OpenAI-compatible server. Values and their meaning: conf/collect/openai.yaml."""

    model: Annotated[str, Field(min_length=1)]
    base_url: Annotated[str, Field(pattern=r"^https?://\S+$")] | None
    key_variable: Annotated[str, Field(min_length=1)] | None
    timeout: PositiveFloat
    tries: PositiveInt
    longest_wait: NonNegativeFloat
    extra: dict[str, JsonValue]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Collecting:
    """What every policy has: which questions it is asked, how often, and where the episodes go."""

    name: Annotated[str, Field(min_length=1)]
    kind: str
    output: Annotated[str, Field(pattern=r"\.jsonl$")]
    split: Literal["train", "validation", "test"]
    n_questions: PositiveInt | None
    skip_questions: NonNegativeInt
    samples: PositiveInt
    seed: NonNegativeInt


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ScriptedCollecting(Collecting):
    """Values and their meaning: conf/collect/scripted.yaml."""

    kind: Literal["scripted"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PromptedCollecting(Collecting):
    """What the policies have that read a prompt and sample their turns."""

    temperatures: Annotated[list[NonNegativeFloat], Field(min_length=1)]
    few_shot: str | None
    as_class: str | None
    turns: TurnsConfig

    @model_validator(mode="after")
    def _every_episode_is_another(self) -> Self:
        if len(set(self.temperatures)) < len(self.temperatures):
            raise ValueError(
                f"temperatures={self.temperatures}: each must be there once; samples plays it several times"
            )
        if 0 in self.temperatures and self.samples > 1:
            raise ValueError(f"samples={self.samples}: at temperature 0 every sample is the same; take samples=1")
        return self


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ModelCollecting(PromptedCollecting):
    """Values and their meaning: conf/collect/model.yaml."""

    kind: Literal["model"]
    turns: ModelTurns


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ServerCollecting(PromptedCollecting):
    """Values and their meaning: conf/collect/openai.yaml."""

    kind: Literal["openai"]
    endpoint: EndpointConfig


CollectConfig: TypeAlias = Annotated[
    ScriptedCollecting | ModelCollecting | ServerCollecting, Field(discriminator="kind")
]
