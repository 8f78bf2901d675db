"""A world of two- and three-hop questions with a search tool, generated from a seed, as HotpotQA's: bridge, comparison.

    What is the country of the home town of whoever wrote Kalo Reno?

    Thought: Author.                       Thought: Miru Tavi. Born.            Thought: Dela Zola. Land.
    Action: search[Kalo Reno author]       Action: search[Miru Tavi born]       Action: search[Dela Zola land]
    (#1 The author of Kalo Reno is         (#1 Miru Tavi was born in            (#1 Dela Zola lies in the land
     Miru Tavi. #2 ...)                     Dela Zola. #2 ...)                   of Obra Fira. #2 ...)

    Thought: Obra Fira. Done.  Action: finish[Obra Fira]

Which words mean which relation, and in which order to follow them, is what a model has to learn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from nat.agents.scoring import exact_match_score
from nat.core.schema import STRICT, Share
from nat.environments.worlds.knowledge_base import (
    RELATIONS,
    KnowledgeBase,
    KnowledgeBaseConfig,
    Split,
    make_knowledge_base,
)
from nat.environments.worlds.search_policy import Plan, SearchErrors, answer_of
from nat.tools.compare import COMPARISON
from nat.types import Environment, Question

# How the questions name what a relation leads to. The first two of each kind read well inside a longer phrase.
PHRASES: Mapping[str, tuple[str, ...]] = {
    "author": ("whoever wrote {x}", "the pen behind {x}", "the person to thank for {x}"),
    "set": ("the scene of {x}", "the place that {x} tells of", "the streets described in {x}"),
    "year": ("the date on the first copies of {x}", "the moment when {x} reached the shops", "the age of {x} in print"),
    "born": ("the home of {x}", "the cradle of {x}", "the place that {x} hails from"),
    "birth": ("the first cry of {x}", "the date when {x} saw the light of day", "the start of the life of {x}"),
    "died": ("the date on the grave of {x}", "the last breath of {x}", "the end of the life of {x}"),
    "spouse": ("the partner of {x}", "the one at the altar with {x}", "the other half of {x}"),
    "teacher": ("the master of {x}", "the one who trained {x}", "the mentor of {x}"),
    "land": ("the country around {x}", "the realm that holds {x}", "the state whose flag flies over {x}"),
    "mayor": ("the head of the council of {x}", "the one who runs {x}", "the holder of the keys to {x}"),
    "founded": ("the date of the first stone of {x}", "the beginning of {x}", "the oldest record of {x}"),
    "capital": ("the chief place of {x}", "the seat of the court of {x}", "the main city of {x}"),
    "ruler": ("the crowned head of {x}", "the one on the throne of {x}", "the sovereign of {x}"),
}
OPENINGS = ("What is {x}?", "Find {x}.", "Which answer fits: {x}?", "Tell me {x}.")
# (relation, rule): how two are compared
COMPARISONS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("year", "first if before"): (
        "Which was in the shops sooner, {a} or {b}?",
        "Which is the older print: {a} or {b}?",
    ),
    ("year", "first if after"): (
        "Which is fresher from the press, {a} or {b}?",
        "Which followed the other: {a} or {b}?",
    ),
    ("birth", "first if before"): ("Who is the elder, {a} or {b}?", "Who has more candles on the cake: {a} or {b}?"),
    ("birth", "first if after"): ("Who is the younger, {a} or {b}?", "Who has fewer candles on the cake: {a} or {b}?"),
    ("died", "first if before"): ("Who went to the grave sooner, {a} or {b}?", "Whose funeral came first: {a} or {b}?"),
    ("died", "first if after"): ("Who outlived the other, {a} or {b}?", "Whose funeral came last: {a} or {b}?"),
    ("founded", "first if before"): ("Which has the older walls, {a} or {b}?", "Which stood first: {a} or {b}?"),
    ("founded", "first if after"): ("Which has the newer walls, {a} or {b}?", "Which stood last: {a} or {b}?"),
}


@dataclass(frozen=True, config=STRICT)
class Hops:
    """Searches of a bridge question, from `min` to `max`."""

    min: Annotated[int, Field(ge=1, le=3)]
    max: Annotated[int, Field(ge=1, le=3)]

    def __post_init__(self) -> None:
        if self.min > self.max:
            raise ValueError(f"min and max must satisfy min <= max, got {self.min} and {self.max}")


@dataclass(frozen=True, config=STRICT)
class MultihopConfig:
    """The world and its scripted policy; its values and their meanings: conf/environment/worlds/multihop.yaml."""

    name: str
    kind: Literal["multihop"]
    instructions: str
    questions: None
    seed: int
    knowledge: KnowledgeBaseConfig
    snippets: Annotated[int, Field(ge=1, le=10)]
    hops: Hops
    comparison_share: Share
    max_turns: PositiveInt
    failure_rate: Share
    errors: SearchErrors
    attempts_per_question: PositiveInt


def knowledge_of(config: MultihopConfig) -> KnowledgeBase:
    return make_knowledge_base(config.knowledge, config.seed, config.snippets)


def make_environment(config: MultihopConfig) -> Environment:
    """Search and comparison; an answer is scored by exact match (success) and token F1 (score)."""
    tools = (knowledge_of(config).tool, COMPARISON)
    return Environment(config.name, config.instructions, tools, exact_match_score, config.max_turns, grades_by_f1=True)


def endless_questions(config: MultihopConfig, split: Split) -> Iterator[Question]:
    """Questions about names of the split's own part of the knowledge base, no text twice."""
    knowledge = knowledge_of(config)
    rng = Random(f"multihop questions {config.seed} {split}")
    seen: set[str] = set()
    drawn_in_vain = 0
    while drawn_in_vain < 10_000:  # a small world runs out of questions
        if rng.random() < config.comparison_share:
            plan, text = draw_comparison(knowledge, split, rng)
        else:
            plan, text = draw_bridge(knowledge, split, rng, rng.randint(config.hops.min, config.hops.max))
        answer = answer_of(plan, knowledge)
        if answer is None or text in seen:
            drawn_in_vain += 1
            continue
        seen.add(text)
        drawn_in_vain = 0
        yield Question(f"multihop-{config.seed}-{split}-{len(seen) - 1:05d}", text, answer, plan.metadata())


def draw_chain(knowledge: KnowledgeBase, split: Split, rng: Random, hops: int) -> tuple[str, tuple[str, ...]]:
    """A start and the relations to follow from it; no fact is walked back."""
    while True:
        kind = rng.choice(("book", "book", "person", "person", "town", "land"))
        start = rng.choice(knowledge.members[split][kind])
        relations: list[str] = []
        while len(relations) < hops:
            last = len(relations) == hops - 1
            options = [
                name
                for name, (of, to, _) in RELATIONS.items()
                if of == kind
                and (to != "year" or last)
                and (not relations or (relations[-1], name) not in (("spouse", "spouse"), ("capital", "land")))
            ]
            name = rng.choice(options)
            relations.append(name)
            kind = RELATIONS[name][1]
        if knowledge.follow(start, relations) not in (None, start):
            return start, tuple(relations)


def draw_bridge(knowledge: KnowledgeBase, split: Split, rng: Random, hops: int) -> tuple[Plan, str]:
    start, relations = draw_chain(knowledge, split, rng, hops)
    phrase = start
    for relation in relations:
        phrase = rng.choice(PHRASES[relation]).format(x=phrase)
    return Plan(((start, relations),), "value"), rng.choice(OPENINGS).format(x=phrase)


def draw_comparison(knowledge: KnowledgeBase, split: Split, rng: Random) -> tuple[Plan, str]:
    relation, rule = rng.choice(list(COMPARISONS))
    a, b = rng.sample(knowledge.members[split][RELATIONS[relation][0]], 2)
    text = rng.choice(COMPARISONS[relation, rule]).format(a=a, b=b)
    return Plan(((a, (relation,)), (b, (relation,))), rule), text
