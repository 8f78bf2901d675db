"""The `environment` group: one configuration class a kind, told apart by `kind`."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from nat.environments.arithmetic import ArithmeticConfig
from nat.environments.benchmarks import BenchmarkConfig
from nat.environments.custom import CustomConfig
from nat.environments.multihop import MultihopConfig
from nat.environments.strategic import StrategicConfig

EnvironmentConfig: TypeAlias = Annotated[
    ArithmeticConfig | MultihopConfig | StrategicConfig | BenchmarkConfig | CustomConfig, Field(discriminator="kind")
]
