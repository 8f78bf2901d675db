"""The whole configuration as dataclasses, and the one strict way from a composed YAML tree into them.

Hydra composes loosely; `load` merges once and refuses unknown keys (also those added with `+` and `++`), values of
another type and combinations that cannot work. Nothing here imports torch.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from nat import search
from nat.agents import AgentConfig
from nat.audit import AuditConfig
from nat.collection import CollectConfig
from nat.comparison import ReportConfig
from nat.core.paths import CONF_DIR
from nat.environments.benchmarks import BenchmarkConfig
from nat.environments.config import EnvironmentConfig
from nat.environments.worlds import WorldConfig, is_world
from nat.labels import parse_rule
from nat.mixing import MixingConfig, check_enough
from nat.model import ModelConfig
from nat.quality import QualityConfig, is_off
from nat.rollouts import EvaluationConfig
from nat.schema import STRICT
from nat.search import SearchConfig
from nat.strategy import StrategyConfig
from nat.tracking import TrackingConfig
from nat.training import TrainingConfig, check_sharding
from nat.trajectories import TrajectoriesConfig
from nat.types import RequestError

SHOWN_ERRORS = 3  # wrong values listed before "and N more": an error stays on a few lines


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
    collect: CollectConfig
    audit: AuditConfig
    tracking: TrackingConfig
    report: ReportConfig
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    format: Literal["terminal", "html"]
    examples: PositiveInt
    sweep: SweepConfig

    @property
    def trains(self) -> bool:
        return self.training.objective != "none"

    @property
    def generates(self) -> bool:
        """The trajectories are generated in a built-in world, not read from files."""
        return self.trajectories.kind == "scripted"

    @property
    def generating_world(self) -> WorldConfig | None:
        return self.environment if self.generates and is_world(self.environment) else None

    @property
    def source(self) -> str | list[str]:
        """Where the trajectories come from, in words or as files."""
        return self.trajectories.path or f"{self.trajectories.kind} in {self.environment.name}"


def load(tree: Mapping[str, Any], overrides: Sequence[str] = (), *, inputs: bool = True) -> Config:
    """Check a composed tree (plain containers) and make it a `Config`.

    `overrides` are those of the command line: naming one of `training.max_steps` and `training.epochs` there clears
    the other. Raises RequestError that names each wrong key in full, its value and the remedy.
    """
    tree = _clear_other_budget(tree, overrides)
    if isinstance(further := tree.get("also_in"), Mapping):  # null takes out what an experiment names
        tree = {**tree, "also_in": {name: given for name, given in further.items() if given is not None}}
    try:
        # Through JSON, because pydantic's strict mode then takes objects for dataclasses and arrays for tuples.
        text = json.dumps(tree, allow_nan=False)
    except ValueError:
        raise RequestError("a value is nan or infinite; every number of the configuration must be finite.") from None
    try:
        config = TypeAdapter(Config).validate_json(text, strict=True)
    except ValidationError as error:
        raise RequestError(_describe(error, tree)) from None
    check(config, inputs=inputs)
    return config


def check(config: Config, *, inputs: bool = True) -> None:
    """Refuse what no single group can see to be impossible."""
    environment = config.environment
    if config.trajectories.kind == "scripted" and not is_world(environment) and config.training.objective != "none":
        raise RequestError(
            f"trajectories=scripted are generated in the built-in worlds, not in environment={environment.name}.\n"
            "Name the files to train on, e.g. trajectories=jsonl trajectories.path=my_trajectories.jsonl"
        )
    generates = config.trajectories.kind == "scripted" and config.training.objective != "none"
    if generates and not is_off(config.quality) and config.quality != _default_quality():
        raise RequestError(
            "quality: its rules are for files; trajectories=scripted are generated, and none of them is left out.\n"
            "Leave quality=default, or write them to a file (nat collect) and train on it with trajectories=jsonl."
        )
    check_sharding(config.training, config.model.lora)
    check_also_in(config, inputs=inputs)
    parse_rule(config.trajectories.label)
    check_search(config, plays=config.evaluation.kind == "rollouts", inputs=inputs)
    endpoint = config.collect.endpoint
    if endpoint is not None and endpoint.base_url is not None:
        from nat.tools.web_search import check_url

        check_url(
            endpoint.base_url,
            "collect.endpoint.base_url",
            "http://localhost:8000/v1",
            "collect.endpoint.key_variable",
        )
    if config.trajectories.kind == "scripted" and config.training.objective != "none":
        # Their numbers are known before a single one is played.
        check_enough(config.mixing, config.trajectories.successes or 0, config.trajectories.failures or 0)
    for name in config.evaluation.also_as if isinstance(config.evaluation.also_as, list | tuple) else ():
        config.strategy.class_named(name)


def check_also_in(config: Config, *, inputs: bool = True) -> None:
    """Refuse a further environment that cannot be told apart, has no questions of its own, or needs another search."""
    for name, environment in config.also_in.items():
        if not re.fullmatch(r"[A-Za-z0-9_]+", name):
            raise RequestError(f"also_in.{name}: a name is letters, digits and underscores; it becomes part of files.")
        if environment == config.environment:
            raise RequestError(
                f"also_in.{name}: is the environment of training itself; change or leave out a key of it."
            )
        if environment.questions == "held_out":
            raise RequestError(
                f"also_in.{name}.questions=held_out: only the training environment's questions are held out of the "
                f"trajectory files.\nName a file or a data set of the hub, e.g. also_in.{name}.questions=test.jsonl"
            )
        if config.evaluation.split == "validation" and environment.questions is not None:
            raise RequestError(
                f"evaluation.split=validation: also_in.{name}.questions={environment.questions} is a test set; "
                "validation questions are those of a generated world."
            )
        plays = config.evaluation.kind == "rollouts"
        if config.search.kind == "none" and _searches(environment, config.agent) and plays and inputs:
            raise RequestError(_search_needed(f"also_in.{name} ({environment.name})"))


def check_search(config: Config, *, plays: bool, inputs: bool = True) -> None:
    """Refuse a search that no tool of the environment uses, and (where episodes are played) a tool without one."""
    environment = config.environment
    searches = _searches(environment, config.agent)
    if config.search.kind != "none":
        if not searches and not any(_searches(other, config.agent) for other in config.also_in.values()):
            raise RequestError(
                f"search={config.search.kind}: nothing in environment={environment.name} with "
                f"agent={config.agent.name} searches with it; take search=none."
            )
        if inputs:  # what is only shown needs neither files nor keys
            search.check(config.search)
    elif searches and plays and inputs:
        raise RequestError(_search_needed(f"environment={environment.name}"))


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


def settled(config: Config, is_sweep: bool) -> Config:
    """The values that are null for "as suits a single run, or a sweep's cell", decided."""
    training, evaluation = config.training, config.evaluation
    save = training.save if training.save is not None else not is_sweep
    n_validation = evaluation.n_validation
    if n_validation is None:
        n_validation = evaluation.n_questions if is_sweep else 0
    return replace(
        config, training=replace(training, save=save), evaluation=replace(evaluation, n_validation=n_validation)
    )


def method_of(config: Config, n_negatives: int) -> str:
    """The method a run stands for in results: derived from what it trains on and how, never declared."""
    if config.training.objective == "none":
        return "base"
    if n_negatives == 0:
        return "replaced" if config.mixing.kind == "replaced" else "positive_only"
    if not config.strategy.is_marked:
        return "nut"
    return "nat_graded" if config.strategy.is_graded else "nat"


def _clear_other_budget(tree: Mapping[str, Any], overrides: Sequence[str]) -> Mapping[str, Any]:
    named = {override.lstrip("+").partition("=")[0] for override in overrides}
    training = tree.get("training")
    if isinstance(training, Mapping):
        for given, other in (("max_steps", "epochs"), ("epochs", "max_steps")):
            if f"training.{given}" in named and f"training.{other}" not in named and training.get(given) is not None:
                return {**tree, "training": {**training, other: None}}
    return tree


def _describe(error: ValidationError, tree: Mapping[str, Any]) -> str:
    lines = [_describe_one(dict(item), tree) for item in error.errors()]
    lines = list(dict.fromkeys(lines))
    more = [f"... and {len(lines) - SHOWN_ERRORS} more wrong values"] if len(lines) > SHOWN_ERRORS else []
    return "\n".join(lines[:SHOWN_ERRORS] + more)


def _describe_one(item: dict[str, Any], tree: Mapping[str, Any]) -> str:
    path, value, siblings = _locate(item["loc"], tree)
    key = ".".join(str(part) for part in path) or "config"
    match item["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            known = [name for name in field_names(path[:-1]) if name not in siblings] or list(field_names(path[:-1]))
            close = difflib.get_close_matches(str(path[-1]), field_names(path[:-1]), n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
            return f"{key}={value!r}: there is no such key; {hint}"
        case "missing" | "missing_argument":
            return f"{key}: is missing; it must be given: in its YAML file, or as +{key}=VALUE"
        case "value_error":
            message = str(item["ctx"]["error"])
            # A check over several fields begins with the name of the one to change.
            names_field = isinstance(value, Mapping) and re.match(r"\w+", message)[0] in value  # type: ignore[index]
            return f"{key}.{message}" if names_field else f"{key}: {message}"
        case "literal_error":
            return f"{key}={value!r}: it must be one of {item['ctx']['expected']}"
        case "union_tag_invalid":
            return f"{key}.kind={item['ctx']['tag']!r}: it must be one of {item['ctx']['expected_tags']}"
        case "union_tag_not_found" | "dict_type" if path[0] == "also_in" and len(path) == 2:
            return f"{key}={value!r}: it must be a whole environment; choose one with +environment@{key}=arithmetic"
    if item["type"] in ("greater_than_equal", "less_than", "greater_than", "less_than_equal"):
        return f"{key}={value!r}: it must be {item['msg'].removeprefix('Input should be ')}"
    wanted = item["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"{key}={value!r}: it must be {_with_article(wanted)}, not {type(value).__name__}"


def _with_article(noun: str) -> str:
    nouns = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false"}
    return nouns.get(noun, noun)


def _locate(loc: Sequence[int | str], tree: Any) -> tuple[list[int | str], Any, list[str]]:
    """The path of an error without pydantic's union tags, the value there, and the keys beside it."""
    path: list[int | str] = []
    value, siblings = tree, list(tree)
    for depth, part in enumerate(loc):
        last = depth == len(loc) - 1
        if isinstance(value, Mapping) and (part in value or (last and value.get("kind") != part)):
            siblings = [str(key) for key in value]
            path.append(part)
            value = value.get(part)
        elif isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
            path.append(part)
            value = value[part]
    return path, value, siblings


def field_names(path: Sequence[int | str]) -> list[str]:
    """The keys that exist at a path of the default schema (of every kind, where a group has several)."""
    schema = TypeAdapter(Config).json_schema()
    nodes = [schema]
    for part in path:
        following = []
        for node in nodes:
            child = node.get("items") if isinstance(part, int) else node.get("properties", {}).get(part)
            if child is None and isinstance(named := node.get("additionalProperties"), dict):
                child = named  # names are the user's own, as in `also_in`
            following += _resolve(child, schema) if child else []
        nodes = following
    return list(dict.fromkeys(name for node in nodes for name in node.get("properties", {})))


def _resolve(node: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in node:
        return [schema["$defs"][node["$ref"].rpartition("/")[2]]]
    options = node.get("oneOf") or node.get("anyOf")
    return [found for option in options for found in _resolve(option, schema)] if options else [node]
