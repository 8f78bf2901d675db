"""Negative-Aware Training: should I fine-tune my agent on its failures too?

The commands as functions (`nat.api`), loaded when one is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nat.core.paths import __version__ as __version__

if TYPE_CHECKING:
    from nat.api import audit, collect, evaluate, inspect, load_trajectories, report, sweep, train
    from nat.types import RequestError, StageError

__all__ = [
    "RequestError",
    "StageError",
    "audit",
    "collect",
    "evaluate",
    "inspect",
    "load_trajectories",
    "report",
    "sweep",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nat' has no attribute {name!r}")
    return getattr(import_module("nat.types" if name.endswith("Error") else "nat.api"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
