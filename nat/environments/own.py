"""The agent of the user's own files, as it is there: its system prompt, its tools, its way of asking.

    nat train environment=own trajectories=auto trajectories.path=runs.json

Nothing can be played, since the agent's tools are not here: what is measured is the loss of held-out trajectories under
the text of each class (evaluation.n_class_losses). Success is measured where the agent runs.
"""

from __future__ import annotations

from typing import Annotated, Literal, NoReturn

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from nat.core.schema import STRICT
from nat.trajectories.told import TOOLS
from nat.types import Environment, RequestError


@dataclass(frozen=True, config=STRICT, kw_only=True)
class OwnConfig:
    """Values and their meaning: conf/environment/own.yaml."""

    name: str
    kind: Literal["own"]
    held_out: Annotated[float, Field(gt=0, lt=1)]
    tools: str | None

    @field_validator("tools")
    @classmethod
    def _has_a_place(cls, value: str | None) -> str | None:
        if value is not None and TOOLS not in value:
            raise ValueError(f"the text has no {TOOLS}, where the list of tools is to stand; null tells of none")
        return value

    @property
    def questions(self) -> Literal["held_out"]:
        """As other environments have it: the questions (tasks) held out of the files are kept out of training."""
        return "held_out"


def make_environment(config: OwnConfig) -> Environment:
    """`instructions` are the text about the tools; nothing is played or scored."""
    return Environment(config.name, (config.tools or "").strip(), (), _no_score, 1, protocol="own")


def _no_score(prediction: str, reference: str) -> NoReturn:
    raise RequestError(
        f"environment=own has no scorer for {prediction[:60]!r} (reference {reference[:60]!r}).\n"
        "Name a field that holds the label, trajectories.label=FIELD, or an environment with a scorer."
    )
