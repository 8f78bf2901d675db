"""A search world small enough to be worked out by hand, and the shipped ones as their YAML files say."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from typing import Any

import yaml
from pydantic import TypeAdapter

from nat.environments.worlds import multihop, strategic, worlds
from nat.environments.worlds.knowledge_base import KnowledgeBase, Split
from nat.environments.worlds.multihop import MultihopConfig
from nat.environments.worlds.search_policy import SearchErrors
from nat.environments.worlds.strategic import StrategicConfig
from nat.types import Question
from tests.conftest import ROOT

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SMALL = {"lands": 4, "towns": 12, "people": 40, "books": 24, "part": 0.5}  # 570 documents: searched ten times as fast
KINDS = (
    "wrong_entity",
    "wrong_relation",
    "early_stop",
    "repeated_search",
    "over_answer",
    "wrong_conclusion",
    "abstention",
    "malformed_action",
)
# Ada and Ben are a couple. Ada wrote the blue book, Ben the grey one.
FACTS = {
    ("Blue Tome", "author"): "Ada Moor",
    ("Blue Tome", "set"): "Oak Hill",
    ("Blue Tome", "year"): "1790",
    ("Grey Tome", "author"): "Ben Moor",
    ("Grey Tome", "set"): "Elm Ford",
    ("Grey Tome", "year"): "1820",
    ("Ada Moor", "born"): "Oak Hill",
    ("Ada Moor", "birth"): "1750",
    ("Ada Moor", "died"): "1800",
    ("Ada Moor", "spouse"): "Ben Moor",
    ("Ben Moor", "born"): "Elm Ford",
    ("Ben Moor", "birth"): "1740",
    ("Ben Moor", "died"): "1830",
    ("Ben Moor", "spouse"): "Ada Moor",
    ("Oak Hill", "land"): "North Land",
    ("Oak Hill", "mayor"): "Ben Moor",
    ("Oak Hill", "founded"): "1701",
    ("Elm Ford", "land"): "South Land",
    ("Elm Ford", "mayor"): "Ada Moor",
    ("Elm Ford", "founded"): "1720",
    ("North Land", "capital"): "Oak Hill",
    ("North Land", "ruler"): "Ada Moor",
    ("South Land", "capital"): "Elm Ford",
    ("South Land", "ruler"): "Ben Moor",
}
HAND_MADE = KnowledgeBase(
    FACTS,
    {
        "train": {
            "land": ["North Land", "South Land"],
            "town": ["Oak Hill", "Elm Ford"],
            "person": ["Ada Moor", "Ben Moor"],
            "book": ["Blue Tome", "Grey Tome"],
        }
    },
    n_snippets=2,
)


def yaml_values(name: str) -> dict[str, Any]:
    text = (ROOT / "conf" / "environment" / "worlds" / f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def multihop_config(**changes: object) -> MultihopConfig:
    return TypeAdapter(MultihopConfig).validate_json(json.dumps({**yaml_values("multihop"), **changes}))


def strategic_config(**changes: object) -> StrategicConfig:
    return TypeAdapter(StrategicConfig).validate_json(json.dumps({**yaml_values("strategic"), **changes}))


def knowledge_of(config: MultihopConfig | StrategicConfig) -> KnowledgeBase:
    return multihop.knowledge_of(config) if isinstance(config, MultihopConfig) else strategic.knowledge_of(config)


def look_up(config: MultihopConfig | StrategicConfig, question: Question) -> list[list[str]]:
    """The values on the way of each chain, worked out without the worlds' own code."""
    facts = knowledge_of(config).facts
    paths = []
    for start, relations in question.metadata["chains"]:
        path = [start]
        for relation in relations:
            path.append(facts[path[-1], relation])
        paths.append(path)
    return paths


def outcomes(config: MultihopConfig | StrategicConfig, n: int = 120) -> list[tuple[str | None, float, list[str]]]:
    """Failure, score and planned errors of the scripted policy's first `n` episodes, one a question."""
    return [
        (one.outcome.failure, one.outcome.score, list(one.metadata["errors"]))
        for one in islice(worlds.endless_trajectories(replace(config, attempts_per_question=1)), n)
    ]


def only(*kinds: str) -> dict[str, float]:
    """Weights of the kinds of error: these alone."""
    return {kind: float(kind in kinds) for kind in KINDS}


def only_errors(*kinds: str) -> SearchErrors:
    return SearchErrors(**only(*kinds))
