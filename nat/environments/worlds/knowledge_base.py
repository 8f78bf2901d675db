"""The fictional world behind `multihop` and `strategic`: people, books, towns and lands, told in short documents.

One fact, and the document that tells it:

    facts[("Kalo Reno", "born")] == "Tasu Mela"        Document("Kalo Reno", "Kalo Reno was born in Tasu Mela.")

Names are made of two words out of two small inventories, so that documents share words, and a search for one person
also finds others. Training, validation and test questions are asked about three parts that no fact connects.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from functools import cache, cached_property
from itertools import product
from random import Random
from typing import Annotated, Literal, TypeAlias

from pydantic import Field
from pydantic.dataclasses import dataclass

from nat.core.schema import STRICT
from nat.search.bm25 import Bm25, Document, snippets
from nat.types import RequestError, Tool, ToolError

Split: TypeAlias = Literal["train", "validation", "test"]
Kind: TypeAlias = Literal["land", "town", "person", "book"]
Side: TypeAlias = Literal["world", "base"]

FIRST_WORDS = [
    "Balo",
    "Bimi",
    "Dami",
    "Dela",
    "Egna",
    "Felo",
    "Fomu",
    "Gano",
    "Gura",
    "Halu",
    "Hobo",
    "Ilma",
    "Jora",
    "Kalo",
    "Kovu",
    "Lavo",
    "Lemo",
    "Mabe",
    "Mila",
    "Nalu",
    "Nido",
    "Obra",
    "Paru",
    "Pesa",
    "Rabe",
    "Rilu",
    "Sami",
    "Sivu",
    "Tasu",
    "Teko",
    "Tupi",
    "Ulma",
    "Vabo",
    "Vila",
    "Waki",
    "Wila",
    "Yaru",
    "Yomi",
    "Zami",
    "Ziro",
    "Zuna",
    "Ambo",
    "Arlo",
    "Bron",
    "Cira",
    "Dorn",
]
SECOND_WORDS = [
    "Beru",
    "Boka",
    "Doru",
    "Duvo",
    "Eska",
    "Fira",
    "Gesi",
    "Heki",
    "Irto",
    "Juni",
    "Kemi",
    "Kiri",
    "Liru",
    "Luda",
    "Moti",
    "Musa",
    "Neko",
    "Nora",
    "Orsi",
    "Pilo",
    "Poda",
    "Reno",
    "Roga",
    "Selo",
    "Soda",
    "Tavi",
    "Toru",
    "Unda",
    "Veri",
    "Vonu",
    "Wemo",
    "Wusa",
    "Yeso",
    "Zelu",
    "Zola",
    "Akri",
    "Elto",
    "Osti",
    "Brek",
    "Calo",
    "Fenn",
    "Galt",
    "Holm",
    "Jask",
    "Kern",
    "Lund",
]

# relation: (kind it holds for, kind that it leads to, its document). A document ends with what it tells.
RELATIONS: Mapping[str, tuple[Kind, Kind | Literal["year"], str]] = {
    "author": ("book", "person", "The author of {x} is {y}."),
    "set": ("book", "town", "{x} is set in {y}."),
    "year": ("book", "year", "{x} came out in the year {y}."),
    "born": ("person", "town", "{x} was born in {y}."),
    "birth": ("person", "year", "The birth of {x} was in {y}."),
    "died": ("person", "year", "{x} died in {y}."),
    "spouse": ("person", "person", "The spouse of {x} is {y}."),
    "teacher": ("person", "person", "The teacher of {x} was {y}."),
    "land": ("town", "land", "{x} lies in the land of {y}."),
    "mayor": ("town", "person", "The mayor of {x} is {y}."),
    "founded": ("town", "year", "{x} was founded in {y}."),
    "capital": ("land", "town", "The capital of {x} is {y}."),
    "ruler": ("land", "person", "The ruler of {x} is {y}."),
}
FIRST_YEAR, LAST_YEAR = 1700, 1899
NOTHING_FOUND = "Nothing found."
_TOLD = re.compile(r"#\d+ [^#]*?(\d{4}|[A-Z]\w+ [A-Z]\w+)\.(?= #|$)")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class KnowledgeBaseConfig:
    """How many there are of each, in the training part; the other two parts have `part` times as many."""

    lands: Annotated[int, Field(ge=2)]
    towns: Annotated[int, Field(ge=4)]
    people: Annotated[int, Field(ge=8)]
    books: Annotated[int, Field(ge=4)]
    part: Annotated[float, Field(gt=0, le=1)]

    def __post_init__(self) -> None:
        total = self.lands + self.towns + self.people + self.books
        if total * (1 + 2 * self.part) > len(names("world")):
            needed = math.ceil(total * (1 + 2 * self.part))
            raise ValueError(
                f"lands, towns, people and books need {needed} names in all three parts; there are "
                f"{len(names('world'))}: take fewer, or a smaller part"
            )


@plain_dataclass(frozen=True)
class KnowledgeBase:
    """`facts` maps (name, relation) to a name or a year; `members` lists the names of a part by kind."""

    facts: Mapping[tuple[str, str], str]
    members: Mapping[Split, Mapping[Kind, Sequence[str]]]
    n_snippets: int

    @cached_property
    def index(self) -> Bm25:
        return Bm25([Document(x, RELATIONS[relation][2].format(x=x, y=y)) for (x, relation), y in self.facts.items()])

    @cached_property
    def kind_of(self) -> Mapping[str, Kind]:
        return {name: kind for part in self.members.values() for kind, names in part.items() for name in names}

    @cached_property
    def _seen(self) -> dict[str, str]:
        return {}

    def search(self, query: str) -> str:
        """The observation: the best documents as numbered snippets."""
        if not query.strip():
            raise ToolError("the query is empty")
        query = " ".join(query.split())[:200]
        if query not in self._seen:
            self._seen[query] = snippets(self.index.search(query, self.n_snippets)) or NOTHING_FOUND
        return self._seen[query]

    @property
    def tool(self) -> Tool:
        return Tool("search", self.search)

    def follow(self, start: str, relations: Sequence[str]) -> str | None:
        """Where a chain of relations leads; None where a fact is missing on the way."""
        value: str | None = start
        for relation in relations:
            value = self.facts.get((value or "", relation))
        return value


def of_same_kind(relation: str) -> list[str]:
    """All relations that hold for the names that this one holds for, itself included."""
    return [other for other, (kind, _, _) in RELATIONS.items() if kind == RELATIONS[relation][0]]


def told(observation: str) -> list[str]:
    """What each snippet of an observation tells, in their order: the name or the year at its end."""
    return _TOLD.findall(observation)


@cache
def names(side: Side) -> tuple[str, ...]:
    """All names of a side, in a fixed order: the worlds and the tiny model's pre-training share none."""
    pairs = (f"{first} {second}" for first, second in product(FIRST_WORDS, SECOND_WORDS))
    return tuple(name for name in pairs if side_of(name) == side)


def side_of(name: str) -> Side:
    return "world" if int.from_bytes(hashlib.sha256(f"name:{name}".encode()).digest()[:4]) % 5 < 3 else "base"


@cache
def make_knowledge_base(config: KnowledgeBaseConfig, seed: int, n_snippets: int, side: Side = "world") -> KnowledgeBase:
    """The world of a seed. Every part is closed: no fact leads out of it.

    Raises RequestError where the names run out; how many couples need a new one is only known once they are drawn.
    """
    rng = Random(f"knowledge base {seed} {side}")
    unused = list(names(side))
    rng.shuffle(unused)
    facts: dict[tuple[str, str], str] = {}
    members: dict[Split, dict[Kind, list[str]]] = {}
    for split in ("train", "validation", "test"):
        share = 1 if split == "train" else config.part
        numbers: dict[Kind, int] = {
            "land": max(2, round(config.lands * share)),
            "town": max(4, round(config.towns * share)),
            "person": max(8, round(config.people * share)),
            "book": max(4, round(config.books * share)),
        }
        if sum(numbers.values()) > len(unused):
            raise RequestError(
                f"environment.knowledge: this world needs more names than the {len(names(side))} there are "
                "(people who marry may take a second one).\n"
                "Take fewer lands, towns, people or books, or a smaller part."
            )
        members[split] = {kind: [unused.pop() for _ in range(number)] for kind, number in numbers.items()}
        _share_family_names(members[split]["person"], unused, rng)
        facts |= _facts(members[split], rng)
    # The order of the documents decides ties between equally good ones.
    order = list(facts)
    rng.shuffle(order)
    return KnowledgeBase({key: facts[key] for key in order}, members, n_snippets)


def _share_family_names(people: list[str], unused: list[str], rng: Random) -> None:
    """Rename the second of each couple (neighbours in the list), where a name is free, so that both end alike."""
    by_family: dict[str, list[str]] = {}
    for name in unused:
        by_family.setdefault(name.split()[1], []).append(name)
    for place in range(1, len(people), 2):
        free = by_family.get(people[place - 1].split()[1], [])
        if free and rng.random() < 0.8:
            people[place] = free.pop()
            unused.remove(people[place])


def _facts(part: Mapping[Kind, Sequence[str]], rng: Random) -> dict[tuple[str, str], str]:
    lands, towns, people, books = part["land"], part["town"], part["person"], part["book"]
    facts: dict[tuple[str, str], str] = {}
    of_land: dict[str, list[str]] = {land: [] for land in lands}
    for place, town in enumerate(towns):
        land = lands[place] if place < len(lands) else rng.choice(lands)  # every land has a town
        of_land[land].append(town)
        facts[town, "land"] = land
        facts[town, "mayor"] = rng.choice(people)
        facts[town, "founded"] = str(rng.randint(FIRST_YEAR, LAST_YEAR - 49))
    for land in lands:
        facts[land, "capital"] = rng.choice(of_land[land])
        facts[land, "ruler"] = rng.choice(people)
    teachers = rng.sample(people, max(4, len(people) // 4))  # a teacher has several pupils
    for place, person in enumerate(people):
        birth = rng.randint(FIRST_YEAR, LAST_YEAR - 79)
        facts[person, "born"] = rng.choice(towns)
        facts[person, "birth"] = str(birth)
        facts[person, "died"] = str(rng.randint(birth + 30, min(birth + 79, LAST_YEAR)))
        if (partner := place ^ 1) < len(people):
            facts[person, "spouse"] = people[partner]
        facts[person, "teacher"] = rng.choice([teacher for teacher in teachers if teacher != person])
    authors = rng.sample(people, max(3, len(books) // 3))  # an author has several books
    for book in books:
        author = rng.choice(authors)
        facts[book, "author"] = author
        facts[book, "set"] = rng.choice(towns)
        facts[book, "year"] = str(rng.randint(int(facts[author, "birth"]) + 20, int(facts[author, "died"])))
    return facts
