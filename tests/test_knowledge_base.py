"""The fictional world of the search environments: its facts, its documents, and what a search finds."""

from __future__ import annotations

import re
from itertools import combinations, product

import pytest

from nat.agents.turns import take_turn
from nat.environments.worlds import multihop, strategic
from nat.environments.worlds.knowledge_base import (
    FIRST_WORDS,
    FIRST_YEAR,
    LAST_YEAR,
    NOTHING_FOUND,
    RELATIONS,
    SECOND_WORDS,
    KnowledgeBase,
    KnowledgeBaseConfig,
    make_knowledge_base,
    names,
    side_of,
    told,
)
from nat.types import Question, RequestError, ToolError
from tests.worlds_for_tests import HAND_MADE, SMALL, multihop_config, strategic_config

SPLITS = ("train", "validation", "test")
SIZE = KnowledgeBaseConfig(lands=12, towns=120, people=260, books=200, part=0.4)


@pytest.fixture(scope="module")
def shipped() -> KnowledgeBase:
    return multihop.knowledge_of(multihop_config())


# ---- a base made by hand ----


@pytest.mark.parametrize(
    ("query", "observation"),
    [
        ("Blue Tome author", "#1 The author of Blue Tome is Ada Moor. #2 Blue Tome is set in Oak Hill."),
        ("Ada Moor born", "#1 Ada Moor was born in Oak Hill. #2 Ben Moor was born in Elm Ford."),
        ("Ada Moor died", "#1 Ada Moor died in 1800. #2 Ben Moor died in 1830."),
        ("Ada Moor birth", "#1 The birth of Ada Moor was in 1750. #2 The birth of Ben Moor was in 1740."),
        ("oak hill LAND?", "#1 Oak Hill lies in the land of North Land. #2 The capital of North Land is Oak Hill."),
        ("  Ada\n\tMoor   died ", "#1 Ada Moor died in 1800. #2 Ben Moor died in 1830."),
        ("nobody has heard", NOTHING_FOUND),
        ("[]]#1", NOTHING_FOUND),
    ],
)
def test_a_search_shows_the_two_best_documents_numbered(query: str, observation: str) -> None:
    assert HAND_MADE.search(query) == observation
    assert HAND_MADE.search(query) == observation, "asked twice, answered alike"


def test_as_many_snippets_as_asked_for_and_only_documents_that_share_a_word() -> None:
    one, five = (KnowledgeBase(HAND_MADE.facts, HAND_MADE.members, n) for n in (1, 5))
    assert one.search("Ada Moor died") == "#1 Ada Moor died in 1800."
    # 1740 is in one document only: four of the five places stay empty.
    assert five.search("1740") == "#1 The birth of Ben Moor was in 1740."


def test_every_fact_of_the_hand_made_base_is_found_first() -> None:
    for (name, relation), value in HAND_MADE.facts.items():
        assert HAND_MADE.search(f"{name} {relation}").startswith(f"#1 {RELATIONS[relation][2].format(x=name, y=value)}")


@pytest.mark.parametrize(
    ("observation", "values"),
    [
        ("#1 Ada Moor died in 1800. #2 Ben Moor died in 1830.", ["1800", "1830"]),
        ("#1 Ada Moor was born in Oak Hill. #2 Elm Ford was founded in 1720.", ["Oak Hill", "1720"]),
        ("#1 The capital of North Land is Oak Hill.", ["Oak Hill"]),
        (NOTHING_FOUND, []),
        ("Error: the query is empty.", []),
        ("", []),
    ],
)
def test_what_an_observation_tells(observation: str, values: list[str]) -> None:
    assert told(observation) == values


def test_following_relations() -> None:
    assert HAND_MADE.follow("Blue Tome", ("author", "born", "land")) == "North Land"
    assert HAND_MADE.follow("Blue Tome", ()) == "Blue Tome"
    assert HAND_MADE.follow("Blue Tome", ("author", "land")) is None
    assert HAND_MADE.follow("Blue Tome", ("year", "author", "born")) is None
    assert HAND_MADE.follow("Red Tome", ("author",)) is None


def test_the_kind_of_every_name() -> None:
    assert HAND_MADE.kind_of["Oak Hill"] == "town" and HAND_MADE.kind_of["Grey Tome"] == "book"
    assert len(HAND_MADE.kind_of) == 8


@pytest.mark.parametrize("query", ["", " ", "\n\t "])
def test_an_empty_query_is_refused(query: str) -> None:
    with pytest.raises(ToolError, match="the query is empty"):
        HAND_MADE.search(query)


@pytest.mark.parametrize(
    ("query", "observation"),
    [
        ("", "Error: the query is empty."),
        ("   ", "Error: the query is empty."),
        ("x" * 100_000, "Error: the input of 'search' is longer than 10000 characters."),
        ("Ada\x00Moor", "Error: the input of 'search' holds the character '\\x00'."),
        ("Ada \x1b[2J", "Error: the input of 'search' holds the character '\\x1b'."),
        ("\ud800", "Error: the input of 'search' holds the character '\\ud800'."),
        ("__import__('os')", NOTHING_FOUND),
        ("\u0416\u65e5\u672c\U0001f642", NOTHING_FOUND),
        ("died " * 1999 + "Ada", "#1 Ada Moor died in 1800. #2 Ben Moor died in 1830."),
        ("]]]] [[[[ Blue Tome author", "#1 The author of Blue Tome is Ada Moor. #2 Blue Tome is set in Oak Hill."),
    ],
)
def test_hostile_queries_get_an_observation(query: str, observation: str) -> None:
    environment = multihop.make_environment(multihop_config(knowledge=SMALL))
    turn = take_turn(environment, Question("q", "?", "a"), 1, f"Action: search[{query}]", (HAND_MADE.tool,))
    assert turn.outcome is None
    if query.startswith("]"):  # the first bracket closes the call: an empty query
        observation = "Error: the query is empty."
    assert turn.observation == observation


def test_a_query_is_cut_before_it_can_take_long() -> None:
    assert HAND_MADE.search("Ada Moor died " + "zzz " * 40) == HAND_MADE.search("Ada Moor died")
    assert HAND_MADE.search("zzz " * 50 + "Ada Moor died") == NOTHING_FOUND


# ---- names ----


def test_names_are_two_words_and_the_worlds_share_none_with_the_base() -> None:
    world, base = set(names("world")), set(names("base"))
    assert not world & base
    assert world | base == {f"{first} {second}" for first, second in product(FIRST_WORDS, SECOND_WORDS)}
    assert (len(world), len(base)) == (1276, 840)
    assert len(set(FIRST_WORDS)) == len(set(SECOND_WORDS)) == 46 and not set(FIRST_WORDS) & set(SECOND_WORDS)
    assert side_of(names("world")[0]) == "world" and side_of(names("base")[0]) == "base"
    # The first words of the base are those of the world: only pairs are new, so no word tells the sides apart.
    assert {name.split()[0] for name in base} == {name.split()[0] for name in world} == set(FIRST_WORDS)


def test_no_name_holds_a_word_of_the_documents() -> None:
    in_documents = {word for *_, text in RELATIONS.values() for word in re.findall(r"[a-z]+", text.lower())}
    assert not {word.lower() for word in (*FIRST_WORDS, *SECOND_WORDS)} & (in_documents | set(RELATIONS))


# ---- the shipped world ----


def test_both_search_worlds_are_told_by_the_same_documents(shipped: KnowledgeBase) -> None:
    assert strategic.knowledge_of(strategic_config()) is shipped
    assert len(shipped.facts) == 4112


def test_the_numbers_of_names(shipped: KnowledgeBase) -> None:
    counts = {split: {kind: len(names) for kind, names in shipped.members[split].items()} for split in SPLITS}
    assert counts["train"] == {"land": 12, "town": 120, "person": 260, "book": 200}
    assert counts["validation"] == counts["test"] == {"land": 5, "town": 48, "person": 104, "book": 80}


def test_every_name_has_every_fact_of_its_kind_and_no_name_is_used_twice(shipped: KnowledgeBase) -> None:
    everybody = [name for part in shipped.members.values() for names in part.values() for name in names]
    assert len(everybody) == len(set(everybody)) == len(shipped.kind_of) == 1066
    assert set(everybody) <= set(names("world"))
    expected = {(x, name) for x, kind in shipped.kind_of.items() for name, (of, *_) in RELATIONS.items() if of == kind}
    assert set(shipped.facts) == expected
    for (_, relation), value in shipped.facts.items():
        to = RELATIONS[relation][1]
        assert FIRST_YEAR <= int(value) <= LAST_YEAR if to == "year" else shipped.kind_of[value] == to


def test_no_fact_leads_out_of_its_part(shipped: KnowledgeBase) -> None:
    part_of = {name: split for split in SPLITS for names in shipped.members[split].values() for name in names}
    for (name, _), value in shipped.facts.items():
        assert value.isdigit() or part_of[value] == part_of[name]


def test_the_facts_of_a_life_are_consistent(shipped: KnowledgeBase) -> None:
    facts = shipped.facts
    people = [name for name, kind in shipped.kind_of.items() if kind == "person"]
    assert len(people) == 468
    for person in people:
        assert 30 <= int(facts[person, "died"]) - int(facts[person, "birth"]) <= 79
        assert facts[facts[person, "spouse"], "spouse"] == person != facts[person, "spouse"]
        assert facts[person, "teacher"] != person
    for book in (name for name, kind in shipped.kind_of.items() if kind == "book"):
        author = facts[book, "author"]
        assert int(facts[author, "birth"]) + 20 <= int(facts[book, "year"]) <= int(facts[author, "died"])
    for land in (name for name, kind in shipped.kind_of.items() if kind == "land"):
        assert facts[facts[land, "capital"], "land"] == land


def test_many_couples_share_a_family_name(shipped: KnowledgeBase) -> None:
    people = [name for name, kind in shipped.kind_of.items() if kind == "person"]
    alike = sum(shipped.facts[person, "spouse"].split()[1] == person.split()[1] for person in people)
    assert alike / len(people) == pytest.approx(0.8, abs=0.1)


def test_a_search_for_a_sample_of_facts_finds_them_first(shipped: KnowledgeBase) -> None:
    assert _found_first(shipped, every=40) == 103


@pytest.mark.slow
def test_a_search_for_any_fact_finds_it_first(shipped: KnowledgeBase) -> None:
    assert _found_first(shipped, every=1) == len(shipped.facts) == 4112


def _found_first(knowledge: KnowledgeBase, every: int) -> int:
    facts = list(knowledge.facts.items())[::every]
    return sum(
        knowledge.search(f"{name} {relation}").startswith(f"#1 {RELATIONS[relation][2].format(x=name, y=value)} #2 ")
        for (name, relation), value in facts
    )


def test_the_world_of_a_seed_is_always_the_same(shipped: KnowledgeBase) -> None:
    """Written down once: another process, machine or Python must not draw another world."""
    assert next(iter(shipped.facts.items())) == (("Yaru Unda", "year"), "1844")
    assert shipped.follow("Dela Musa", ("capital", "mayor")) == "Jora Nora"
    again = make_knowledge_base.__wrapped__(SIZE, 0, 2)
    assert list(again.facts.items()) == list(shipped.facts.items()) and again.members == shipped.members


def test_other_seeds_and_sides_give_other_worlds(shipped: KnowledgeBase) -> None:
    others = [make_knowledge_base(SIZE, seed, 2) for seed in (1, 2)]
    for one, other in combinations([shipped, *others], 2):
        assert one.members["train"]["town"] != other.members["train"]["town"]
        common = set(one.facts.items()) & set(other.facts.items())
        assert len(common) < 0.05 * len(one.facts)
    small = KnowledgeBaseConfig(**SMALL)
    world, base = (make_knowledge_base(small, 0, 2, side) for side in ("world", "base"))
    assert not set(world.kind_of) & set(base.kind_of)


# ---- sizes ----


def test_the_smallest_world_still_has_all_kinds_in_every_part() -> None:
    smallest = make_knowledge_base(KnowledgeBaseConfig(lands=2, towns=4, people=8, books=4, part=0.01), 0, 2)
    for split in SPLITS:
        assert {kind: len(names) for kind, names in smallest.members[split].items()} == {
            "land": 2,
            "town": 4,
            "person": 8,
            "book": 4,
        }


def test_a_world_with_too_many_names_is_refused() -> None:
    """12 + 120 + 260 + 320 are 712; 1.8 times as many are 1281.6, more than the 1276 names there are."""
    with pytest.raises(ValueError, match="need 1282 names in all three parts; there are 1276"):
        KnowledgeBaseConfig(lands=12, towns=120, people=260, books=320, part=0.4)


def test_a_world_whose_couples_use_up_the_names_is_refused_in_words() -> None:
    """632 names fit 1.8 times into 1276, but not together with the new names of those who marry."""
    size = KnowledgeBaseConfig(lands=12, towns=120, people=300, books=200, part=0.4)
    with pytest.raises(RequestError, match=r"environment\.knowledge"):
        make_knowledge_base(size, 0, 2)
