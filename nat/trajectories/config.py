"""The `trajectories` group: one class for what is generated, one a sort of files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field, NonNegativeInt, model_validator
from pydantic.dataclasses import dataclass

from nat.core.schema import OF_NO_EFFECT, STRICT, WHERE_SET, Share
from nat.trajectories.detection import FORMATS
from nat.types import RequestError

if TYPE_CHECKING:
    WholeFormat: TypeAlias = str
    JoinedFormat: TypeAlias = str
else:  # known where the formats are
    WholeFormat = Literal[tuple(format.name for format in FORMATS if format.read_questions is None)]
    JoinedFormat = Literal[("auto", *(format.name for format in FORMATS if format.read_questions is not None))]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ScriptedTrajectories:
    """Generated in a built-in world. Values and their meaning: conf/trajectories/scripted.yaml."""

    kind: Literal["scripted"]
    successes: NonNegativeInt
    failures: NonNegativeInt
    failures_rate: Share | None

    @model_validator(mode="after")
    def _failures_can_be_earned(self) -> ScriptedTrajectories:
        if self.failures_rate == 0 and self.failures:
            raise ValueError("failures_rate=0.0: a policy that never errs earns no failures; take a rate above 0")
        return self


@dataclass(frozen=True, config=STRICT, kw_only=True)
class TrajectoryFiles:
    """What every kind that is read from files has; `kind` is the format. Values: conf/trajectories/auto.yaml."""

    kind: str
    path: str | list[str] | None
    label: str | None
    labels: Annotated[str | list[str] | None, WHERE_SET]
    question: Annotated[str | None, WHERE_SET]
    task: Annotated[str | None, WHERE_SET]
    on_bad_row: Literal["error", "drop"]
    on_bad_file: Annotated[Literal["error", "skip"], OF_NO_EFFECT]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class WholeTrajectoryFiles(TrajectoryFiles):
    """Records that hold their question."""

    kind: WholeFormat


@dataclass(frozen=True, config=STRICT, kw_only=True)
class JoinedTrajectoryFiles(TrajectoryFiles):
    """Records whose question may stand in another file."""

    kind: JoinedFormat
    questions: str | None


@dataclass(frozen=True, config=STRICT, kw_only=True)
class MappedTrajectoryFiles(TrajectoryFiles):
    """Records of any format, as a mapping file says. Values and their meaning: conf/trajectories/mapped.yaml."""

    kind: Literal["mapped"]
    map: str | None


TrajectoriesConfig: TypeAlias = Annotated[
    ScriptedTrajectories | WholeTrajectoryFiles | JoinedTrajectoryFiles | MappedTrajectoryFiles,
    Field(discriminator="kind"),
]


def files_of(config: TrajectoriesConfig) -> TrajectoryFiles:
    """The configured files; raises RequestError where trajectories are generated."""
    if isinstance(config, ScriptedTrajectories):
        raise RequestError(
            "trajectories=scripted: these are generated, and files are to be read; name them, e.g. trajectories=jsonl "
            "trajectories.path=my_trajectories.jsonl"
        )
    return config
