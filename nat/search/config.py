"""The `search` group: one class a kind of search."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from pydantic.dataclasses import dataclass

from nat.core.schema import OF_NO_EFFECT, STRICT


@dataclass(frozen=True, config=STRICT, kw_only=True)
class NoSearch:
    """No tool is built."""

    kind: Literal["none"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class FileSearch:
    """What the kinds that search files have in common."""

    kind: str
    path: str | list[str] | None
    on_bad_row: Literal["error", "drop"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Bm25Search(FileSearch):
    """Values and their meaning: conf/search/bm25.yaml."""

    kind: Literal["bm25"]
    index: Annotated[str | None, OF_NO_EFFECT]
    results: PositiveInt
    max_characters: Annotated[int, Field(ge=20)]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ReplaySearch(FileSearch):
    """Values and their meaning: conf/search/replay.yaml."""

    kind: Literal["replay"]
    format: Literal["jsonl", "react", "nat"]
    questions: str | None
    fuzzy: Annotated[float, Field(gt=0, le=100)] | None

    @model_validator(mode="after")
    def _questions_are_joined_with_one_format(self) -> ReplaySearch:
        if self.questions is not None and self.format != "nat":
            raise ValueError(f"questions={self.questions!r}: only recordings of search.format=nat are joined with it")
        return self


@dataclass(frozen=True, config=STRICT, kw_only=True)
class WebSearch:
    """Values and their meaning: conf/search/web.yaml."""

    kind: Literal["web"]
    results: PositiveInt
    max_characters: Annotated[int, Field(ge=20)]
    url: str
    key_variable: Annotated[str, OF_NO_EFFECT]
    parameters: dict[str, str | int | float | bool]
    timeout: Annotated[PositiveFloat, OF_NO_EFFECT]
    attempts: Annotated[PositiveInt, OF_NO_EFFECT]
    concurrency: Annotated[PositiveInt, OF_NO_EFFECT]
    cache: Annotated[str | None, OF_NO_EFFECT]

    @model_validator(mode="after")
    def _parameters_are_not_our_own(self) -> WebSearch:
        if reserved := {"q", "num"} & set(self.parameters):
            raise ValueError(f"parameters={self.parameters!r}: nat itself sends {min(reserved)!r}; leave it out there")
        return self


SearchConfig: TypeAlias = Annotated[NoSearch | Bm25Search | ReplaySearch | WebSearch, Field(discriminator="kind")]
