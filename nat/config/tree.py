"""The whole configuration as one frozen dataclass, a field a group."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from nat.agents.actions import AgentConfig
from nat.auditing.config import AuditConfig
from nat.collection.config import CollectConfig, ServerCollecting
from nat.comparison.config import ReportConfig
from nat.core import methods
from nat.core.paths import CONF_DIR
from nat.core.schema import OF_NO_EFFECT, STRICT
from nat.core.urls import check_url
from nat.environments.benchmarks import BenchmarkConfig
from nat.environments.config import EnvironmentConfig
from nat.environments.own import OwnConfig
from nat.environments.worlds.worlds import WorldConfig, is_world
from nat.evaluation.config import EvaluationConfig
from nat.examples.mixing import MixingConfig, ReplacedMixing, check_enough
from nat.examples.strategy import StrategyConfig
from nat.model import ModelConfig
from nat.quality.config import QualityConfig
from nat.quality.rules import is_off
from nat.search import search
from nat.search.config import NoSearch, SearchConfig
from nat.tracking import TrackingConfig
from nat.training.config import NoTraining, Training, TrainingConfig, check_sharding
from nat.trajectories.config import MappedTrajectoryFiles, ScriptedTrajectories, TrajectoriesConfig, TrajectoryFiles
from nat.trajectories.labels import RESCORE, parse_rule
from nat.trajectories.mapping import read_mapping
from nat.types import RequestError


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SweepConfig:
    name: str


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Config:
    """One field per config group, in the order in which data flows; values and meanings stand in `conf/`."""

    environment: EnvironmentConfig
    agent: AgentConfig
    search: SearchConfig
    trajectories: TrajectoriesConfig
    quality: QualityConfig
    mixing: MixingConfig
    strategy: StrategyConfig
    model: ModelConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    also_in: dict[str, EnvironmentConfig]
    collect: Annotated[CollectConfig, OF_NO_EFFECT]
    audit: Annotated[AuditConfig, OF_NO_EFFECT]
    tracking: Annotated[TrackingConfig, OF_NO_EFFECT]
    report: Annotated[ReportConfig, OF_NO_EFFECT]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    format: Annotated[Literal["terminal", "html"], OF_NO_EFFECT]
    examples: Annotated[PositiveInt, OF_NO_EFFECT]
    sweep: Annotated[SweepConfig, OF_NO_EFFECT]

    def check(self, *, inputs: bool = True) -> None:
        """Refuse what no single group can see to be impossible. `inputs`: what is searched must be at hand."""
        environment = self.environment
        generated = self.trajectories if isinstance(self.trajectories, ScriptedTrajectories) and self.trains else None
        if generated and not is_world(environment):
            raise RequestError(
                f"trajectories=scripted are generated in the built-in worlds, not in environment={environment.name}.\n"
                "Name the files to train on, e.g. trajectories=jsonl trajectories.path=my_trajectories.jsonl"
            )
        if generated and not is_off(self.quality) and self.quality != _default_quality():
            raise RequestError(
                "quality: its rules are for files; trajectories=scripted are generated, and none of them is left out.\n"
                "Leave quality=default, or write them to a file (nat collect) and train on it with trajectories=jsonl."
            )
        check_sharding(self.training, self.model.lora)
        plays = self.evaluation.kind == "rollouts"
        if isinstance(environment, OwnConfig):
            check_own(self.agent, plays=plays)
        check_also_in(self.also_in, self.environment, self.evaluation, self.search, self.agent, inputs=inputs)
        files = self.trajectories if isinstance(self.trajectories, TrajectoryFiles) else None
        if files and parse_rule(files.label) == RESCORE and files.labels is not None:
            raise RequestError(
                "trajectories.label=rescore: the scorer says what a success is, and trajectories.labels="
                f"{files.labels} too; leave one of them out."
            )
        if inputs and isinstance(self.trajectories, MappedTrajectoryFiles) and self.trajectories.map is not None:
            read_mapping(self.trajectories.map)
        check_search(self.search, [self.environment, *self.also_in.values()], self.agent, plays=plays, inputs=inputs)
        if isinstance(self.collect, ServerCollecting) and self.collect.endpoint.base_url is not None:
            check_url(
                self.collect.endpoint.base_url,
                "collect.endpoint.base_url",
                "http://localhost:8000/v1",
                "collect.endpoint.key_variable",
            )
        if generated:  # their numbers are known before a single one is played
            check_enough(self.mixing, generated.successes, generated.failures)
        for name in self.evaluation.also_as if isinstance(self.evaluation.also_as, list | tuple) else ():
            self.strategy.class_named(name)

    def settled(self, is_sweep: bool) -> Config:
        """The values that are null for "as suits a single run, or a sweep's cell", decided."""
        training, evaluation = self.training, self.evaluation
        if isinstance(training, Training) and training.save is None:
            training = replace(training, save=not is_sweep)
        n_validation = evaluation.n_validation
        if n_validation is None:
            n_validation = evaluation.n_questions if is_sweep else 0
        return replace(self, training=training, evaluation=replace(evaluation, n_validation=n_validation))

    def method(self, n_negatives: int) -> str:
        """The method a run stands for in results: derived from what it trains on and how, never declared."""
        if self.trains and n_negatives == 0:
            return methods.REPLACED if isinstance(self.mixing, ReplacedMixing) else methods.REFERENCE
        is_marked, is_graded = self.strategy.is_marked, self.strategy.is_graded
        return methods.of_objective(self.training.objective, is_marked, is_marked and is_graded).name

    @property
    def trains(self) -> bool:
        return not isinstance(self.training, NoTraining)

    @property
    def saves(self) -> bool:
        return isinstance(self.training, Training) and bool(self.training.save)

    @property
    def generates(self) -> bool:
        """The trajectories are generated in a built-in world, not read from files."""
        return isinstance(self.trajectories, ScriptedTrajectories)

    @property
    def generating_world(self) -> WorldConfig | None:
        return self.environment if self.generates and is_world(self.environment) else None

    @property
    def source(self) -> str | list[str]:
        """Where the trajectories come from, in words or as files."""
        named = self.trajectories.path if isinstance(self.trajectories, TrajectoryFiles) else None
        return named or f"{self.trajectories.kind} in {self.environment.name}"


def check_own(agent: AgentConfig, *, plays: bool) -> None:
    """Refuse what environment=own cannot do: play, and tell trajectories in another agent's way."""
    if plays:
        raise RequestError(
            "evaluation=rollouts: environment=own plays nothing, since your agent's tools are not here.\n"
            "Take evaluation=none: the loss of held-out trajectories is measured under each text "
            "(evaluation.n_class_losses).\nSuccess is measured where your agent runs; nat report compares it "
            "(report.external)."
        )
    changed = next((key for key in ("system", "instructions") if getattr(agent, key) is not None), None)
    if agent.style != "react" or changed is not None:
        said = (
            f"agent={agent.name}"
            if changed is None or agent.style != "react"
            else f"agent.{changed}={getattr(agent, changed)!r:.60}"
        )
        raise RequestError(
            f"{said}: environment=own keeps the agent of your files as it is there, its prompt included.\n"
            "Leave it out, or name an environment (environment=questions) in which this agent is to act."
        )


def check_also_in(
    also_in: Mapping[str, EnvironmentConfig],
    own: EnvironmentConfig,
    evaluation: EvaluationConfig,
    searched: SearchConfig,
    agent: AgentConfig,
    *,
    inputs: bool = True,
) -> None:
    """Refuse a further environment that cannot be told apart, has no questions of its own, or needs another search."""
    for name, environment in also_in.items():
        if not re.fullmatch(r"[A-Za-z0-9_]+", name):
            raise RequestError(f"also_in.{name}: a name is letters, digits and underscores; it becomes part of files.")
        if isinstance(environment, OwnConfig):
            raise RequestError(f"also_in.{name}: environment=own plays nothing; name another environment there.")
        if environment == own:
            raise RequestError(
                f"also_in.{name}: is the environment of training itself; change or leave out a key of it."
            )
        if environment.questions == "held_out":
            raise RequestError(
                f"also_in.{name}.questions=held_out: only the training environment's questions are held out of the "
                f"trajectory files.\nName a file or a data set of the hub, e.g. also_in.{name}.questions=test.jsonl"
            )
        if evaluation.split == "validation" and environment.questions is not None:
            raise RequestError(
                f"evaluation.split=validation: also_in.{name}.questions={environment.questions} is a test set; "
                "validation questions are those of a generated world."
            )
        plays = evaluation.kind == "rollouts"
        if isinstance(searched, NoSearch) and _searches(environment, agent) and plays and inputs:
            raise RequestError(_search_needed(f"also_in.{name} ({environment.name})"))


def check_search(
    searched: SearchConfig,
    environments: Sequence[EnvironmentConfig],
    agent: AgentConfig,
    *,
    plays: bool,
    inputs: bool = True,
) -> None:
    """Refuse a search that no tool of the environments uses, and (where episodes are played) a tool without one.

    `environments`: the run's own, then the further ones.
    """
    own = environments[0]
    if not isinstance(searched, NoSearch):
        if not any(_searches(environment, agent) for environment in environments):
            raise RequestError(
                f"search={searched.kind}: nothing in environment={own.name} with "
                f"agent={agent.name} searches with it; take search=none."
            )
        if inputs:  # what is only shown needs neither files nor keys
            search.check(searched)
    elif _searches(own, agent) and plays and inputs:
        raise RequestError(_search_needed(f"environment={own.name}"))


def _search_needed(where: str) -> str:
    return (
        f"search=none: {where} has the tool search; say what it searches: search=bm25 (your "
        "documents),\nsearch=replay (recorded observations) or search=web (an API), or take agent=cot."
    )


def _searches(environment: EnvironmentConfig, agent: AgentConfig) -> bool:
    return isinstance(environment, BenchmarkConfig) and "search" in environment.tools and agent.style != "cot"


@cache
def _default_quality() -> QualityConfig:
    """What stands in conf/quality/default.yaml: the group as it is where nobody asked for anything."""
    import yaml

    return QualityConfig(**yaml.safe_load((CONF_DIR / "quality" / "default.yaml").read_text(encoding="utf-8")))
