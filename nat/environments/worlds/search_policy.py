"""What a faultless agent does in the search worlds, and a scripted policy that errs at a set rate.

A plan is one or two chains of relations, and what becomes of their values:

    the land where the author of Kalo Reno was born           Kalo Reno: author, born, land   -> the value
    which of two books came out first                         A: year; B: year                -> first if before
    does A come from the town T?                              A: born; T                      -> yes if same
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from random import Random
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from nat.agents.actions import FINISH, render_turn
from nat.core.schema import STRICT
from nat.environments.worlds.knowledge_base import KnowledgeBase, of_same_kind, told
from nat.environments.worlds.scripted import Policy, draw_error
from nat.tools.compare import compare
from nat.types import Message

FINISH_THOUGHT = "Done."
ABSTENTION = "unknown"


@plain_dataclass(frozen=True)
class Plan:
    """`chains`: (start, relations) each; a chain without relations is a value of the question itself.

    `rule` is `value` with one chain. With two: `first if before`, `first if after` (the start whose value is it), or
    `yes if same | different | before | after`.
    """

    chains: tuple[tuple[str, tuple[str, ...]], ...]
    rule: str

    @classmethod
    def read(cls, metadata: Mapping[str, Any]) -> Plan:
        return cls(tuple((start, tuple(relations)) for start, relations in metadata["chains"]), metadata["rule"])

    def metadata(self) -> dict[str, Any]:
        return {"chains": [[start, list(relations)] for start, relations in self.chains], "rule": self.rule}


def answer_of(plan: Plan, knowledge: KnowledgeBase) -> str | None:
    """The right answer; None where a fact is missing, or where two years to choose between are the same."""
    values = [knowledge.follow(start, relations) for start, relations in plan.chains]
    if None in values:
        return None
    relation = compare(f"{values[0]}, {values[-1]}")
    if plan.rule.startswith("first") and relation == "same":
        return None
    return conclude(plan, [value or "" for value in values], relation)


def conclude(plan: Plan, values: Sequence[str], relation: str) -> str:
    """The answer from the chains' values and what `compare` said of them."""
    if plan.rule == "value":
        return values[0]
    who, _, wanted = plan.rule.partition(" if ")
    if who == "yes":
        return "yes" if relation == wanted else "no"
    return plan.chains[0 if relation == wanted else 1][0]


@dataclass(frozen=True, config=STRICT)
class SearchErrors:
    """Relative frequencies of the scripted policy's kinds of error."""

    wrong_entity: Annotated[float, Field(ge=0)]
    wrong_relation: Annotated[float, Field(ge=0)]
    early_stop: Annotated[float, Field(ge=0)]
    repeated_search: Annotated[float, Field(ge=0)]
    over_answer: Annotated[float, Field(ge=0)]
    wrong_conclusion: Annotated[float, Field(ge=0)]
    abstention: Annotated[float, Field(ge=0)]
    malformed_action: Annotated[float, Field(ge=0)]

    def __post_init__(self) -> None:
        if not any(vars(self).values()):
            raise ValueError("at least one weight must be above 0")


def fallible_policy(
    plan: Plan, knowledge: KnowledgeBase, failure_rate: float, errors: SearchErrors, rng: Random
) -> tuple[Policy, list[str]]:
    """A policy that knows the plan, reads the observations, and errs at each search with `failure_rate`.

    Returns it with the kinds of its planned errors, in order: one draw for each search of the plan. A thought always
    fits its action, erring or not.
    """
    drawn = [draw_error(errors, failure_rate, rng) for _, relations in plan.chains for _ in relations]
    choices = [rng.random() for _ in drawn]  # of relations, and whether a malformed action is ever mended
    planned = [kind for kind in drawn if kind is not None]
    turns = _turns(plan, knowledge, drawn, choices)
    next(turns)

    def policy(messages: tuple[Message, ...]) -> str:
        return turns.send(messages[-1].content if messages else "")

    return policy, planned


def _turns(
    plan: Plan, knowledge: KnowledgeBase, drawn: Sequence[str | None], choices: Sequence[float]
) -> Generator[str, str, None]:
    """Is sent an observation and yields the next turn's text. A thought begins with what the last search told."""
    observation = yield ""
    values: list[str] = []
    step = 0
    learned = ""  # from the last search, as a thought says it
    value = previous = plan.chains[0][0]
    for start, relations in plan.chains:
        value = start
        for relation in relations:
            kind, choice = drawn[step], choices[step]
            step += 1
            if kind in ("abstention", "early_stop"):
                guess = ABSTENTION if kind == "abstention" else _guess(plan, value, choice)
                while True:
                    yield render_turn(f"{learned}{FINISH_THOUGHT}", FINISH, guess)
            if kind == "wrong_relation":
                others = [other for other in of_same_kind(relation) if other != relation]
                relation = others[int(choice * len(others))]
            turn = render_turn(f"{learned}{relation.capitalize()}.", "search", f"{value} {relation}")
            if kind == "malformed_action":
                observation = yield turn.replace("[", " ").replace("]", "")
                while choice < 0.5:  # never mended
                    observation = yield turn.replace("[", " ").replace("]", "")
            observation = yield turn
            if kind == "repeated_search":
                observation = yield turn
            previous, value = value, _read(told(observation), kind, value)
            learned = f"{value}. "
        values.append(value)
    relation = ""
    if len(plan.chains) == 2:
        thought = f"{learned}{_cases(plan)}"
        relation = yield render_turn(thought, "compare", f"{values[0]}, {values[1]}")
    answer, thought = conclude(plan, values, relation), f"{learned}{FINISH_THOUGHT}"
    if "wrong_conclusion" in drawn:
        answer = _other(plan, answer, previous)
    if plan.rule != "value":
        thought = f"{relation.capitalize()}: {answer}. {FINISH_THOUGHT}"
    elif "wrong_conclusion" in drawn:
        thought = f"{previous}. {FINISH_THOUGHT}"
    elif "over_answer" in drawn:
        answer = f"{answer} of {previous}"
    while True:
        yield render_turn(thought, FINISH, answer)


def _cases(plan: Plan) -> str:
    """What each result of the comparison will mean, said before it is made: `After: Ada Moor. Before: Ben Moor.`

    A small model that only named the rule (`First if after.`) did not learn to match it with the result.
    """
    who, _, wanted = plan.rule.partition(" if ")
    others = {"same": ("different",), "different": ("same",)}.get(wanted)
    if who == "first":
        others = ("after" if wanted == "before" else "before",)
    relations = (wanted, *(others or (other for other in ("before", "after", "same") if other != wanted)))
    return " ".join(f"{relation.capitalize()}: {conclude(plan, ('', ''), relation)}." for relation in relations)


def _read(names: Sequence[str], kind: str | None, searched: str) -> str:
    """What the policy takes from an observation: the first snippet's fact; erring, another's."""
    if not names:
        return searched
    return next((name for name in names[1:] if name != names[0]), names[0]) if kind == "wrong_entity" else names[0]


def _guess(plan: Plan, found: str, choice: float) -> str:
    """The answer of a policy that stops on the way."""
    if plan.rule == "value":
        return found
    if plan.rule.startswith("first"):
        return plan.chains[int(choice * 2)][0]
    return "yes" if choice < 0.5 else "no"


def _other(plan: Plan, answer: str, previous: str) -> str:
    if plan.rule == "value":
        return previous
    if plan.rule.startswith("first"):
        return next(start for start, _ in plan.chains if start != answer)
    return "no" if answer == "yes" else "yes"


def perform(plan: Plan, knowledge: KnowledgeBase, errors: Sequence[str | None] = ()) -> list[Message]:
    """The turns and observations of an agent that follows a plan; without mistakes, but for `errors`, one a search."""
    steps = sum(len(relations) for _, relations in plan.chains)
    turns = _turns(plan, knowledge, [*errors, *[None] * (steps - len(errors))], [0.9] * steps)
    next(turns)
    messages: list[Message] = []
    observation = ""
    while True:
        text = turns.send(observation)
        messages.append(Message("assistant", text))
        name, _, rest = text.partition("Action: ")[2].partition("[")
        if name == FINISH:
            return messages
        observation = knowledge.search(rest[:-1]) if name == "search" else compare(rest[:-1])
        messages.append(Message("tool", observation))
