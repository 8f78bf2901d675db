"""A world of yes/no questions with a search tool, generated from a seed, as StrategyQA's: what to look up is implied.

    Could Kalo Reno have leafed through Dela Zola?          (did Kalo Reno die after Dela Zola came out?)

    Thought: Died.                       Thought: 1790. Year.
    Action: search[Kalo Reno died]       Action: search[Dela Zola year]
    (#1 Kalo Reno died in 1790. #2 ...)  (#1 Dela Zola came out in ...)

    Thought: 1768. After: yes. Before: no. Same: no.         Thought: After: yes. Done.
    Action: compare[1790, 1768]                              Action: finish[yes]
    (after)

Half of the questions are answered by yes, in every family of questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass as plain_dataclass
from random import Random
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from nat.agents.scoring import yes_no_score
from nat.core.schema import STRICT, Share
from nat.environments.worlds.knowledge_base import Kind, KnowledgeBase, KnowledgeBaseConfig, Split, make_knowledge_base
from nat.environments.worlds.search_policy import Plan, SearchErrors, answer_of
from nat.tools.compare import COMPARISON
from nat.types import Environment, Question


@plain_dataclass(frozen=True)
class Family:
    """Questions of one sense: two chains, what must hold between their values for yes, and how it is asked."""

    a: tuple[Kind, tuple[str, ...]]
    b: tuple[Kind, tuple[str, ...]]
    rule: str
    texts: tuple[str, ...]


FAMILIES = (
    Family(
        ("person", ("died",)), ("book", ("year",)), "yes if after",
        ("Could {a} have leafed through {b}?", "Did {a} live to see {b} in a shop window?"),
    ),
    Family(
        ("person", ("birth",)), ("book", ("year",)), "yes if after",
        ("Was {b} on the shelves before {a} came into the world?", "Is {b} older than {a}?"),
    ),
    Family(
        ("person", ("birth",)), ("person", ("birth",)), "yes if before",
        ("Was {a} in nappies before {b}?", "Does {a} have more candles on the cake than {b}?"),
    ),
    Family(
        ("person", ("died",)), ("person", ("died",)), "yes if after",
        ("Could {a} have wept at the grave of {b}?", "Was {b} in the grave before {a}?"),
    ),
    Family(
        ("person", ("died",)), ("person", ("birth",)), "yes if before",
        ("Was {a} in the grave when {b} was in the cradle?", "Did {a} leave the world before {b} came into it?"),
    ),
    Family(
        ("town", ("founded",)), ("person", ("birth",)), "yes if before",
        ("Did {a} have walls when {b} was in nappies?", "Could {b} have been baptised in {a}?"),
    ),
    Family(
        ("book", ("year",)), ("book", ("year",)), "yes if before",
        ("Could {b} have quoted from {a}?", "Was {a} dusty when {b} was fresh from the press?"),
    ),
    Family(
        ("person", ("born",)), ("person", ("born",)), "yes if same",
        ("Did {a} and {b} take their first steps in the same streets?", "Do {a} and {b} share a home town?"),
    ),
    Family(
        ("person", ("born",)), ("town", ()), "yes if same",
        ("Would {a} be welcomed in {b} as a native?", "Is {b} the cradle of {a}?"),
    ),
    Family(
        ("town", ("land",)), ("town", ("land",)), "yes if same",
        ("Does one flag fly over {a} and {b}?", "Do {a} and {b} pay taxes to one crown?"),
    ),
    Family(
        ("town", ("land",)), ("town", ("land",)), "yes if different",
        ("Does the road from {a} to {b} cross a border?", "Would one need a passport to go from {a} to {b}?"),
    ),
    Family(
        ("book", ("author",)), ("book", ("author",)), "yes if same",
        ("Did one pen write {a} and {b}?", "Would royalties of {a} and {b} go to one purse?"),
    ),
    Family(
        ("book", ("set",)), ("book", ("set",)), "yes if different",
        ("Would fans of {a} and {b} make their pilgrimage to two towns?", "Are {a} and {b} told in different streets?"),
    ),
    Family(
        ("person", ("teacher",)), ("person", ("teacher",)), "yes if same",
        ("Might {a} and {b} have sat in one classroom?", "Did {a} and {b} fear the same cane?"),
    ),
    Family(
        ("book", ("author", "born")), ("town", ()), "yes if same",
        ("Is {a} the work of a native of {b}?", "Would {b} name a street after the hand behind {a}?"),
    ),
    Family(
        ("book", ("set", "land")), ("land", ()), "yes if same",
        ("Could the hero of {a} bow to the crown of {b}?", "Is the coin in the tale {a} struck in {b}?"),
    ),
    Family(
        ("person", ("born", "land")), ("land", ()), "yes if different",
        ("Would {a} be a foreigner in {b}?", "Does {a} need a visa for {b}?"),
    ),
)  # fmt: skip


@dataclass(frozen=True, config=STRICT)
class StrategicConfig:
    """The world and its scripted policy; its values and their meanings: conf/environment/worlds/strategic.yaml."""

    name: str
    kind: Literal["strategic"]
    instructions: str
    questions: None
    seed: int
    knowledge: KnowledgeBaseConfig
    snippets: Annotated[int, Field(ge=1, le=10)]
    max_turns: PositiveInt
    failure_rate: Share
    errors: SearchErrors
    attempts_per_question: PositiveInt


def knowledge_of(config: StrategicConfig) -> KnowledgeBase:
    return make_knowledge_base(config.knowledge, config.seed, config.snippets)


def make_environment(config: StrategicConfig) -> Environment:
    """Search and comparison; answers are yes or no."""
    tools = (knowledge_of(config).tool, COMPARISON)
    return Environment(config.name, config.instructions, tools, yes_no_score, config.max_turns)


def endless_questions(config: StrategicConfig, split: Split) -> Iterator[Question]:
    """Questions about names of the split's own part of the knowledge base, no text twice."""
    knowledge = knowledge_of(config)
    rng = Random(f"strategic questions {config.seed} {split}")
    seen: set[str] = set()
    drawn_in_vain = 0
    while drawn_in_vain < 100:  # a small world runs out of questions
        family, answer = rng.choice(FAMILIES), rng.choice(("yes", "no"))
        plan = draw_plan(knowledge, split, rng, family.a, family.b, family.rule, answer)
        if plan is None:
            drawn_in_vain += 1
            continue
        text = rng.choice(family.texts).format(a=plan.chains[0][0], b=plan.chains[1][0])
        if text in seen:
            drawn_in_vain += 1
            continue
        seen.add(text)
        drawn_in_vain = 0
        yield Question(f"strategic-{config.seed}-{split}-{len(seen) - 1:05d}", text, answer, plan.metadata())


def draw_plan(
    knowledge: KnowledgeBase,
    split: Split,
    rng: Random,
    a: tuple[Kind, tuple[str, ...]],
    b: tuple[Kind, tuple[str, ...]],
    rule: str,
    answer: str,
) -> Plan | None:
    """Two names of the wanted kinds for which the question has this answer; None if 300 draws find none."""
    members = knowledge.members[split]
    for _ in range(300):
        first, second = rng.choice(members[a[0]]), rng.choice(members[b[0]])
        plan = Plan(((first, a[1]), (second, b[1])), rule)
        if first != second and answer_of(plan, knowledge) == answer and not _equal_years(plan, knowledge):
            return plan
    return None


def _equal_years(plan: Plan, knowledge: KnowledgeBase) -> bool:
    """Whether two events fell into one year, so that nobody can say which came first."""
    values = {knowledge.follow(start, relations) for start, relations in plan.chains}
    return len(values) == 1 and plan.rule.endswith(("before", "after"))
