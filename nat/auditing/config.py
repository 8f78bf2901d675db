"""The `audit` group."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from nat.core.schema import STRICT


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AuditConfig:
    """Values and their meaning: conf/audit/standard.yaml."""

    output: str
    fail_on: Literal["never", "warning", "error"]
    evaluation: str | list[str] | None
    examples: PositiveInt
    listed: NonNegativeInt
    token_sample: NonNegativeInt
    near: Annotated[float, Field(ge=0.7, le=1)]
