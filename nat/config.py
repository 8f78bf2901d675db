"""The whole configuration as dataclasses, and the one strict way from a composed YAML tree into them.

Hydra composes loosely; `load` merges once and refuses unknown keys (also those added with `+` and `++`), values of
another type and combinations that cannot work. Nothing here imports torch.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import fields, replace
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import Field, PositiveInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from nat import search
from nat.agents import AgentConfig
from nat.audit import AuditConfig
from nat.collection import CollectConfig, ServerCollecting
from nat.comparison import ReportConfig
from nat.core.paths import CONF_DIR
from nat.environments.benchmarks import BenchmarkConfig
from nat.environments.config import EnvironmentConfig
from nat.environments.worlds import WorldConfig, is_world
from nat.labels import parse_rule
from nat.mixing import MixingConfig, ReplacedMixing, check_enough
from nat.model import ModelConfig
from nat.quality import QualityConfig, is_off
from nat.rollouts import EvaluationConfig
from nat.schema import OF_NO_EFFECT, STRICT
from nat.search import NoSearch, SearchConfig
from nat.strategy import StrategyConfig
from nat.tracking import TrackingConfig
from nat.training import NoTraining, Training, TrainingConfig, check_sharding
from nat.trajectories import ScriptedTrajectories, TrajectoriesConfig, TrajectoryFiles
from nat.types import RequestError

SHOWN_ERRORS = 3  # wrong values listed before "and N more": an error stays on a few lines
IN_FULL = 3  # options listed as GROUP=OPTION each; of more, the group is named once


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
        check_also_in(self.also_in, self.environment, self.evaluation, self.search, self.agent, inputs=inputs)
        if isinstance(self.trajectories, TrajectoryFiles):
            parse_rule(self.trajectories.label)
        check_search(self.search, [self.environment, *self.also_in.values()], self.agent, plays=plays, inputs=inputs)
        if isinstance(self.collect, ServerCollecting) and self.collect.endpoint.base_url is not None:
            from nat.tools.web_search import check_url

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
        if not self.trains:
            return "base"
        if n_negatives == 0:
            return "replaced" if isinstance(self.mixing, ReplacedMixing) else "positive_only"
        if not self.strategy.is_marked:
            return "nut"
        return "nat_graded" if self.strategy.is_graded else "nat"

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


@plain_dataclass(frozen=True)
class Kinds:
    """What a group of several kinds can be: the key that says which kind it is, and the keys of each."""

    tag: str
    keys: Mapping[str, tuple[str, ...]]

    @property
    def known(self) -> list[str]:
        """The keys of all kinds, each once."""
        return list(dict.fromkeys(key for keys in self.keys.values() for key in keys))


@cache
def kinds() -> dict[str, Kinds]:
    """The groups of several kinds, by name, as the types of `Config` say."""
    found = {}
    for group, hint in get_type_hints(Config, include_extras=True).items():
        for note in getattr(hint, "__metadata__", ()):
            if tag := getattr(note, "discriminator", None):
                types = get_args(get_args(hint)[0])
                found[group] = Kinds(tag, {kind: keys for type_ in types for kind, keys in _kinds_of(type_, tag)})
    return found


def _kinds_of(type_: type, tag: str) -> list[tuple[str, tuple[str, ...]]]:
    """The kinds that a type stands for (the formats of trajectory files share one), each with its keys."""
    keys = tuple(field.name for field in fields(type_))
    return [(kind, keys) for kind in get_args(get_type_hints(type_)[tag])]


def group_at(path: Sequence[int | str]) -> str | None:
    """The group of several kinds to which a path leads; a further environment is one of `environment`."""
    match path:
        case (str(group),) if group in kinds():
            return group
        case ("also_in", str()):
            return "environment"
    return None


def load(tree: Mapping[str, Any], overrides: Sequence[str] = (), *, inputs: bool = True) -> Config:
    """Check a composed tree (plain containers) and make it a `Config`.

    `overrides` are those of the command line: naming one of `training.max_steps` and `training.epochs` there clears
    the other. Raises RequestError that names each wrong key in full, its value and the remedy.
    """
    tree = _without_what_is_set_aside(_clear_other_budget(tree, overrides))
    try:
        # Through JSON, because pydantic's strict mode then takes objects for dataclasses and arrays for tuples.
        text = json.dumps(tree, allow_nan=False)
    except ValueError:
        raise RequestError("a value is nan or infinite; every number of the configuration must be finite.") from None
    try:
        config = TypeAdapter(Config).validate_json(text, strict=True)
    except ValidationError as error:
        raise RequestError(_describe(error, tree, _named(overrides))) from None
    config.check(inputs=inputs)
    return config


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


def _clear_other_budget(tree: Mapping[str, Any], overrides: Sequence[str]) -> Mapping[str, Any]:
    named = _named(overrides)
    training = tree.get("training")
    if isinstance(training, Mapping):
        for given, other in (("max_steps", "epochs"), ("epochs", "max_steps")):
            if f"training.{given}" in named and f"training.{other}" not in named and training.get(given) is not None:
                return {**tree, "training": {**training, other: None}}
    return tree


def _named(overrides: Sequence[str]) -> set[str]:
    return {override.lstrip("+").partition("=")[0] for override in overrides}


def _without_what_is_set_aside(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree without what stands in it for another kind of a group than the chosen one, where that is meant so.

    Hydra's files add up, and none can delete: null takes out a key that another file has set for another kind (an
    experiment's `trajectories.successes`, where a scale reads files), and a whole environment out of `also_in`. Where
    nothing is trained, all keys of training are set aside: a sweep gives `training.max_steps` to its `method=base` too.
    """
    found = dict(tree)
    for group, of_group in kinds().items():
        if isinstance(values := tree.get(group), Mapping):
            kind = values.get(of_group.tag)
            elsewhere = set(of_group.known) - set(of_group.keys.get(str(kind), of_group.known))
            is_idle = group == "training" and kind == "none"
            found[group] = {k: v for k, v in values.items() if k not in elsewhere or not (is_idle or v is None)}
    if isinstance(further := tree.get("also_in"), Mapping):
        found["also_in"] = {name: given for name, given in further.items() if given is not None}
    return found


def _describe(error: ValidationError, tree: Mapping[str, Any], named: Collection[str]) -> str:
    lines = [_describe_one(dict(item), tree, named) for item in error.errors()]
    lines = list(dict.fromkeys(lines))
    more = [f"... and {len(lines) - SHOWN_ERRORS} more wrong values"] if len(lines) > SHOWN_ERRORS else []
    return "\n".join(lines[:SHOWN_ERRORS] + more)


def _describe_one(item: dict[str, Any], tree: Mapping[str, Any], named: Collection[str]) -> str:
    path, value, siblings = _locate(item["loc"], tree)
    key = ".".join(str(part) for part in path) or "config"
    match item["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            if (group := group_at(path[:-1])) and (others := who_has(path)):
                # Another file may have set it, as experiments do; what was typed is simply left out.
                remedy = "" if key in named else f"; {key}=null takes it out"
                return f"{key}={_shown(value)}: {_chosen(group, siblings)} has no such key; {others}{remedy}"
            own = list(kinds()[group].keys[siblings[kinds()[group].tag]]) if group else []
            known = own or field_names(path[:-1])
            name = str(path[-1])
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            if not close and group and (close := difflib.get_close_matches(name, field_names(path[:-1]), n=1)):
                others = who_has([*path[:-1], *close])
                return f"{key}={_shown(value)}: there is no such key; did you mean {close[0]!r}? {others}"
            left = [name for name in known if name not in siblings] or known
            hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(left)}"
            return f"{key}={_shown(value)}: there is no such key; {hint}"
        case "missing" | "missing_argument":
            return f"{key}: is missing; it must be given: in its YAML file, or as +{key}=VALUE"
        case "value_error":
            message = str(item["ctx"]["error"])
            # A check over several fields begins with the name of the one to change.
            names_field = isinstance(value, Mapping) and re.match(r"\w+", message)[0] in value  # type: ignore[index]
            return f"{key}.{message}" if names_field else f"{key}: {message}"
        case "literal_error":
            return f"{key}={_shown(value)}: it must be one of {item['ctx']['expected']}"
        case "union_tag_invalid":
            tag = item["ctx"]["discriminator"].strip("'")
            return f"{key}.{tag}={item['ctx']['tag']!r}: it must be one of {item['ctx']['expected_tags']}"
        case "union_tag_not_found" | "dict_type" if path[0] == "also_in" and len(path) == 2:
            return f"{key}={value!r}: it must be a whole environment; choose one with +environment@{key}=arithmetic"
    if item["type"] in ("greater_than_equal", "less_than", "greater_than", "less_than_equal"):
        return f"{key}={value!r}: it must be {item['msg'].removeprefix('Input should be ')}"
    wanted = item["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    if value is None:
        return f"{key}=null: it must be given, as {_with_article(wanted)}"
    return f"{key}={value!r}: it must be {_with_article(wanted)}, not {type(value).__name__}"


def _shown(value: Any) -> str:
    return "null" if value is None else repr(value)


def who_has(path: Sequence[int | str]) -> str | None:
    """Which options of a group have a key that its other kinds have not; None where none, or every kind, has it."""
    for depth in range(1, len(path)):
        if group := group_at(path[:depth]):
            of_group = kinds()[group]
            having = [kind for kind, keys in of_group.keys.items() if path[depth] in keys]
            if not 0 < len(having) < len(of_group.keys) or path[-1] not in field_names(path[:-1]):
                return None
            options = [option for option, kind in _kinds_of_options(group).items() if kind in having]
            *others, last = options if len(options) > IN_FULL else [f"{group}={option}" for option in options]
            if not others:
                return f"{last} has it"
            return f"{f'{group}=' * (len(options) > IN_FULL)}{', '.join(others)} and {last} have it"
    return None


def _chosen(group: str, values: Mapping[str, Any]) -> str:
    """A kind as a user chooses it: most are options of that name."""
    tag = kinds()[group].tag
    kind = str(values.get(tag))
    return f"{group}={kind}" if kind in _kinds_of_options(group) else f"{group}.{tag}={kind}"


@cache
def _kinds_of_options(group: str) -> dict[str, str]:
    """Option to kind, of the shipped options that say so themselves (and not through another option's file)."""
    import yaml

    tag = kinds()[group].tag
    files = sorted((CONF_DIR / group).rglob("*.yaml"), key=lambda path: path.stem)
    read = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in files}
    return {option: str(values[tag]) for option, values in read.items() if tag in values}


def _with_article(noun: str) -> str:
    nouns = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false"}
    nouns |= {"list": "a list", "array": "a list"}
    return nouns.get(noun, noun)


def _locate(loc: Sequence[int | str], tree: Any) -> tuple[list[int | str], Any, Mapping[str, Any]]:
    """The path of an error without pydantic's union tags, the value there, and the keys beside it with their values."""
    path: list[int | str] = []
    value: Any = tree
    siblings: Mapping[str, Any] = tree
    is_tag = False  # what follows a group of several kinds in `loc` is its kind
    for depth, part in enumerate(loc):
        if is_tag:
            is_tag = False
            continue
        if isinstance(value, Mapping) and (part in value or depth == len(loc) - 1):
            siblings = {str(key): of_key for key, of_key in value.items()}
            path.append(part)
            value = value.get(part)
            is_tag = group_at(path) is not None
        elif isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
            path.append(part)
            value = value[part]
    return path, value, siblings


def field_names(path: Sequence[int | str]) -> list[str]:
    """The keys that exist at a path of the default schema (of every kind, where a group has several)."""
    schema = _schema()
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


@cache
def _schema() -> dict[str, Any]:
    return TypeAdapter(Config).json_schema()


def _resolve(node: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in node:
        return [schema["$defs"][node["$ref"].rpartition("/")[2]]]
    options = node.get("oneOf") or node.get("anyOf")
    return [found for option in options for found in _resolve(option, schema)] if options else [node]
