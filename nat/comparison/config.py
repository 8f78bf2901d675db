"""The `report` group."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt
from pydantic.dataclasses import dataclass as checked_dataclass

from nat.core.schema import STRICT


@checked_dataclass(frozen=True, config=STRICT, kw_only=True)
class AssumedConfig:
    """Variation that is assumed before anything is measured; values and meaning: conf/report/standard.yaml."""

    disagreement: Annotated[float, Field(gt=0, le=1)]
    seed_sd: NonNegativeFloat


@checked_dataclass(frozen=True, config=STRICT, kw_only=True)
class ReportConfig:
    """Values and their meaning: conf/report/standard.yaml."""

    smallest_effect: Annotated[float, Field(gt=0, lt=1)]
    wanted_effect: Annotated[float, Field(gt=0, lt=1)]
    power: Annotated[float, Field(gt=0, lt=1)]
    assumed: AssumedConfig
    browser_questions: NonNegativeInt
    external: str | list[str] | None
