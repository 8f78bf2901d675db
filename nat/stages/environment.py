"""The environment of a run, as the configured agent meets it."""

from __future__ import annotations

from nat.agents.actions import AgentConfig
from nat.agents.turns import for_agent
from nat.core.rows.bad import DroppedRow
from nat.environments import benchmarks, custom, own
from nat.environments.benchmarks import BenchmarkConfig
from nat.environments.config import EnvironmentConfig
from nat.environments.custom import CustomConfig
from nat.environments.own import OwnConfig
from nat.environments.worlds import worlds
from nat.search import search
from nat.search.config import SearchConfig
from nat.trajectories.labels import Scorer
from nat.types import Environment


def make_environment(
    world: EnvironmentConfig,
    agent: AgentConfig,
    searched: SearchConfig | None = None,
    left_out: list[DroppedRow] | None = None,
) -> Environment:
    """The configured environment, as the configured agent meets it. Raises RequestError.

    Args:
        searched: what the tool `search` searches; None leaves that tool out, where nothing is played (`score` needs
            none).
        left_out: rows of the search's files that cannot be used are added to it (search.on_bad_row=drop; else an
            error).
    """
    if isinstance(world, OwnConfig):
        return own.make_environment(world)  # the agent is the files' own
    if isinstance(world, CustomConfig):
        environment = custom.make_environment(world)
    elif not isinstance(world, BenchmarkConfig):
        environment = worlds.make_environment(world)
    elif agent.style == "cot" or searched is None:
        environment = benchmarks.make_environment(world, None)  # a chain of thought calls no tool
    else:
        found = search.make_search(searched)
        if found is not None and left_out is not None:
            left_out += found.dropped
        tools = (None, None) if found is None else (found.tool, found.open_tools)
        environment = benchmarks.make_environment(world, *tools)
    return for_agent(environment, agent)


def scorer_of(environment: Environment) -> Scorer | None:
    """Its scorer of (prediction, reference); None where nothing can be scored."""
    return None if environment.protocol == "own" else environment.score
