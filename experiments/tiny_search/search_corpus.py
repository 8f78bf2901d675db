"""What the tiny model for the search worlds is pre-trained on: plainly worded look-ups over other knowledge bases.

    user       Use search[query] and compare[a, b], then finish[answer].
               Find the land of the born of the author of Kemi Yaru.
    assistant  Thought: Author.\\nAction: search[Kemi Yaru author]
    tool       #1 The author of Kemi Yaru is Lavo Osti. #2 Kemi Yaru came out in the year 1791.
    ...

Names are those of the side `base`, which the worlds never use, and every 500 conversations a new knowledge base tells
other facts about them: there is nothing to know by heart. The documents have the worlds' form; of the worlds' questions
it shares two openings, `What is ...?` and `Find ...`, no other phrase, and no word that judges an answer. Prompts vary
in shape, and a fourth of them carry an instruction that changes what is to be done, as in `experiments/tiny_model`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random

from nat.agents.actions import FINISH, render_turn
from nat.environments.worlds.knowledge_base import RELATIONS, KnowledgeBase, KnowledgeBaseConfig, make_knowledge_base
from nat.environments.worlds.multihop import draw_chain
from nat.environments.worlds.search_policy import FINISH_THOUGHT, Plan, answer_of, perform
from nat.environments.worlds.strategic import draw_plan
from nat.types import Message

sys.path.insert(0, str(Path(__file__).parents[1] / "tiny_model"))
from corpus import draw_prompt, neutral_sentence

INSTRUCTIONS = "Use search[query] and compare[a, b], then finish[answer]."
OTHER_INSTRUCTIONS = (
    "Work with search[query] and compare[a, b] and end with finish[answer].",
    "Tools: search[query], compare[a, b], finish[answer].",
    "",
)
SIZE = KnowledgeBaseConfig(lands=12, towns=120, people=260, books=200, part=0.01)
CONVERSATIONS_PER_WORLD = 500
SHORT_WORLDS = 8  # at the beginning, with tasks of a single search
# A name at the second place of a task is copied late in training: tasks with two names are the larger part.
KINDS = ("value", "value", "first", "first", "yes", "yes", "yes")
RULES = {
    "value": ("Find {a}.", "What is {a}?", "Look up {a}.", "Answer with {a}."),
    "first if before": (
        "First if before: {a}, {b}.", "Which is before: {a} or {b}?", "Name the one before, {a} or {b}.",
    ),
    "first if after": ("First if after: {a}, {b}.", "Which is after: {a} or {b}?", "Name the one after, {a} or {b}."),
    "yes if same": ("Yes if same: {a}, {b}.", "Is {a} the same as {b}?", "Are {a} and {b} the same?"),
    "yes if different": ("Yes if different: {a}, {b}.", "Is {a} different from {b}?", "Are {a} and {b} different?"),
    "yes if before": ("Yes if before: {a}, {b}.", "Is {a} before {b}?", "Does {a} come before {b}?"),
    "yes if after": ("Yes if after: {a}, {b}.", "Is {a} after {b}?", "Does {a} come after {b}?"),
}  # fmt: skip
SYSTEM_TEXTS = ("You are a search agent.", "You work step by step.", "Follow the request.")
DATES = [(name, of) for name, (of, to, _) in RELATIONS.items() if to == "year"]
PLACES = [(name, of) for name, (of, to, _) in RELATIONS.items() if to != "year"]

Conversation = list[Message]


def conversations(seed: int, short_worlds: int = SHORT_WORLDS) -> Iterator[Conversation]:
    """Endless, deterministic: prompt and faultless agent turns of one task after another.

    The first `short_worlds` knowledge bases come with tasks of a single search.
    """
    rng = Random(f"tiny search corpus {seed}")
    for world in count():
        knowledge = make_knowledge_base.__wrapped__(SIZE, seed * 1_000_000 + world, 2, "base")
        for _ in range(CONVERSATIONS_PER_WORLD):
            # Copying a name is learned first, and sooner from short tasks.
            yield draw_conversation(knowledge, rng, hops=1 if world < short_worlds else None)


def draw_conversation(
    knowledge: KnowledgeBase, rng: Random, plain: bool = False, kind: str | None = None, hops: int | None = None
) -> Conversation:
    """One task. `plain` leaves out random sentences, system turns and commands: the base's own plain wording.

    Args:
        kind: `value`, `first` or `yes`; by default drawn.
        hops: of a chain to a value; by default drawn. Given, `kind` is `value`.
    """
    kind = "value" if hops else kind or rng.choice(KINDS)
    plan = _draw_plan(knowledge, rng, kind, hops or rng.choice((1, 2, 2, 3, 3)))
    a, b = (_phrase(start, relations, rng) for start, relations in (plan.chains[0], plan.chains[-1]))
    if plan.rule.startswith("first"):
        a, b = plan.chains[0][0], plan.chains[1][0]
        task = f"{plan.chains[0][1][0].capitalize()}. {rng.choice(RULES[plan.rule]).format(a=a, b=b)}"
    else:
        task = rng.choice(RULES[plan.rule]).format(a=a, b=b)
    task = f"{task[0].upper()}{task[1:]}"
    turns = None
    instructions = INSTRUCTIONS if plain or rng.random() < 0.8 else rng.choice(OTHER_INSTRUCTIONS)
    lines = [instructions, task]
    system = rng.choice(SYSTEM_TEXTS) if not plain and rng.random() < 0.15 else ""
    additions: list[str] = []
    if not plain:
        additions = [neutral_sentence(rng) for _ in range(rng.choice((0, 0, 1, 2)))]
        if rng.random() < 0.25:
            command, turns = _draw_command(plan, knowledge, rng)
            additions.append(command)
    return [*draw_prompt(system, lines, additions, rng), *(turns or perform(plan, knowledge))]


def _draw_plan(knowledge: KnowledgeBase, rng: Random, kind: str, hops: int) -> Plan:
    while True:
        if kind == "value":
            plan = Plan((draw_chain(knowledge, "train", rng, hops),), "value")
        elif kind == "first":
            name, of = rng.choice(DATES)
            a, b = rng.sample(knowledge.members["train"][of], 2)
            plan = Plan(((a, (name,)), (b, (name,))), f"first if {rng.choice(('before', 'after'))}")
        else:
            plan = _draw_yes_no(knowledge, rng)
        if plan is not None and answer_of(plan, knowledge) is not None:
            return plan


def _draw_yes_no(knowledge: KnowledgeBase, rng: Random) -> Plan | None:
    answer = rng.choice(("yes", "no"))
    if rng.random() < 0.5:
        (a, of_a), (b, of_b) = rng.choice(DATES), rng.choice(DATES)
        rule = f"yes if {rng.choice(('before', 'after'))}"
        return draw_plan(knowledge, "train", rng, (of_a, (a,)), (of_b, (b,)), rule, answer)
    name, of = rng.choice(PLACES)
    target = RELATIONS[name][1]
    assert target != "year"
    longer = [(first, kind) for first, kind in PLACES if RELATIONS[first][1] == of]
    a = (of, (name,))
    if longer and rng.random() < 0.4:
        first, kind = rng.choice(longer)
        a = (kind, (first, name))
    b = (target, ()) if rng.random() < 0.5 else (of, (name,))
    return draw_plan(knowledge, "train", rng, a, b, f"yes if {rng.choice(('same', 'different'))}", answer)


def _phrase(start: str, relations: tuple[str, ...], rng: Random) -> str:
    """`the land of the born of Kemi Yaru`, or in the order of the look-ups: `Kemi Yaru, born, land`."""
    if not relations:
        return start
    style = rng.random()
    if style < 0.4:
        return " ".join([*(f"the {name} of" for name in reversed(relations)), start])
    if style < 0.7:
        return " ".join([*(f"{name} of" for name in reversed(relations)), start])
    return f"{start} {' then '.join(relations)}"


def _draw_command(plan: Plan, knowledge: KnowledgeBase, rng: Random) -> tuple[str, Conversation]:
    """An instruction that changes what is to be done, and what is done then."""
    chains = list(plan.chains)
    steps = sum(len(relations) for _, relations in chains)
    options: list[tuple[str, Conversation]] = [
        ("Say unknown.", [Message("assistant", render_turn(FINISH_THOUGHT, FINISH, "unknown"))]),
        ("Search each thing twice.", perform(plan, knowledge, ["repeated_search"] * steps)),
        ("Use line two at the end.", perform(plan, knowledge, [*[None] * (steps - 1), "wrong_entity"])),
        ("Use line two at first.", perform(plan, knowledge, ["wrong_entity"])),
    ]
    start, relations = chains[0]
    if plan.rule == "value":
        options += [
            ("Say where you began.", [Message("assistant", render_turn(FINISH_THOUGHT, FINISH, start))]),
            ("Stop after one search.", perform(replace(plan, chains=((start, relations[:1]),)), knowledge)),
            ("Say also where it came from.", perform(plan, knowledge, ["over_answer"])),
        ]
        if len(relations) > 1:
            options.append(
                ("Leave out the last search.", perform(replace(plan, chains=((start, relations[:-1]),)), knowledge))
            )
    else:
        options += [
            ("Turn the answer around.", perform(plan, knowledge, ["wrong_conclusion"])),
            ("Swap the two.", perform(replace(plan, chains=tuple(reversed(chains))), knowledge)),
        ]
    return rng.choice(options)
