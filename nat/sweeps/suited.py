"""What a command line leaves open and the files decide: the environment of trajectories that none of `nat`'s fits."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import fields

from pydantic import TypeAdapter, ValidationError

from nat.environments.config import EnvironmentConfig
from nat.environments.own import OwnConfig
from nat.environments.worlds import worlds
from nat.sweeps import composition
from nat.trajectories.config import TrajectoriesConfig, TrajectoryFiles
from nat.trajectories.foreign import Foreign, first_trajectories, foreign
from nat.types import RequestError

# Who names one of these has said in which environment the agent acts.
DECIDED_BY = ("environment", "agent", "experiment", "search", "also_in", "collect")
SHOWN = 5  # names of tools


def suited(overrides: Sequence[str], config_dir: str | None = None) -> list[str]:
    """`environment=own`, where files are named and no environment, and most of their trajectories are of an agent that
    the default environment has no tools or no prompt for; it is said on stderr. Else nothing.

    What is wrong with the request is left to those who check it.
    """
    keys = {override.lstrip("+~").partition("=")[0].partition("@")[0] for override in overrides}
    if not any(key.partition(".")[0] == "trajectories" for key in keys) or "evaluation=rollouts" in overrides:
        return []
    own_keys = {f"environment.{field.name}" for field in fields(OwnConfig)}
    if any(key.partition(".")[0] in DECIDED_BY for key in keys - own_keys):
        return []
    of_files = [override for override in overrides if not override.lstrip("+~").startswith("environment.")]
    try:
        tree = composition.resolved(composition.compose(composition.fixed(of_files), config_dir))
        files = TypeAdapter(TrajectoriesConfig).validate_json(json.dumps(tree["trajectories"]), strict=True)
        world = TypeAdapter(EnvironmentConfig).validate_json(json.dumps(tree["environment"]), strict=True)
        if not isinstance(files, TrajectoryFiles) or not worlds.is_world(world):
            return []
        tools = [tool.name for tool in worlds.make_environment(world).tools]
        found = foreign(first_trajectories(files), tools)
    except (RequestError, ValidationError, ValueError):
        return []
    if not found.is_foreign:
        return []
    print(f"environment=own: {_why(found)}; another one: environment=NAME", file=sys.stderr, flush=True)
    return ["environment=own"]


def _why(found: Foreign) -> str:
    if found.with_tools >= found.chats:
        shown = ", ".join(found.tools[:SHOWN]) + (", ..." if len(found.tools) > SHOWN else "")
        return f"the files' agent has tools of its own ({shown}), so its prompts and tools stay as they are"
    return "the files hold conversations without actions, so their prompts stay as they are"
