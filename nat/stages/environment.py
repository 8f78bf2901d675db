"""The environment of a run, as the configured agent meets it."""

from __future__ import annotations

from collections.abc import Callable

from nat import search
from nat.config import Config
from nat.environments import benchmarks, custom, for_agent, worlds
from nat.environments.benchmarks import BenchmarkConfig
from nat.environments.custom import CustomConfig
from nat.trajectories.json_lines import DroppedRow
from nat.types import Environment, Score


def make_environment(config: Config, left_out: list[DroppedRow] | None = None) -> Environment:
    """The configured environment, as the configured agent meets it. Raises RequestError.

    Rows of the search's files that cannot be used are added to `left_out` (search.on_bad_row=drop; else an error).
    """
    if isinstance(config.environment, CustomConfig):
        environment = custom.make_environment(config.environment)
    elif not isinstance(config.environment, BenchmarkConfig):
        environment = worlds.make_environment(config.environment)
    elif config.agent.style == "cot":
        environment = benchmarks.make_environment(config.environment, None)  # a chain of thought calls no tool
    else:
        found = search.make_search(config.search)
        if found is not None and left_out is not None:
            left_out += found.dropped
        tools = (None, None) if found is None else (found.tool, found.open_tools)
        environment = benchmarks.make_environment(config.environment, *tools)
    return for_agent(environment, config.agent)


def scorer(config: Config) -> Callable[[str, str], Score]:
    """What scores a prediction against its reference, without opening the environment's tools."""
    if isinstance(config.environment, BenchmarkConfig):
        return benchmarks.SCORERS[config.environment.scorer]
    return make_environment(config).score
