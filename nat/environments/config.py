"""The `environment` group: one configuration class a kind, told apart by `kind`."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from nat.environments.benchmarks import BenchmarkConfig
from nat.environments.custom import CustomConfig
from nat.environments.own import OwnConfig
from nat.environments.worlds.worlds import WorldConfig

EnvironmentConfig: TypeAlias = Annotated[
    WorldConfig | BenchmarkConfig | CustomConfig | OwnConfig, Field(discriminator="kind")
]
