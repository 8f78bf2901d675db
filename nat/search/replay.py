"""Replay: `search[query]` answered with what a search returned when trajectories were recorded.

A recording is a question, a query asked on the way to its answer, and the observation:

    question     Who created the show with Wendy Schaal doing the voice of Francine?
    query        creator of American Dad
    observation  American Dad! is an American animated sitcom created by Seth MacFarlane, Mike Barker, and ...

A query is answered by the first of: an equal query recorded for the same question; an equal query of any question; the
most alike query of the same question; the most alike one of all. Queries are equal if their words are, in order and
without regard to case and punctuation. Where equal queries have different observations, the one recorded most often
counts, and the first in the files among as many. Otherwise the observation is `MISS`.

Likeness is rapidfuzz's `token_sort_ratio`, after a measurement on the 3,085 published recordings (tests/test_replay.py
repeats a part of it). Every query was answered by its most alike neighbour. From 85 on, that is another query of the
same question for 26% of them (the two observations share half of their words: F1 0.52) and one of another question for
2%. `token_set_ratio` and `WRatio` answer more and worse (F1 0.41 and 0.37; `WRatio` finds something for 97% in other
questions, nearly all of it wrong), because a query that merely contains another one is alike to them.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from nat.agents.actions import Action, parse_action
from nat.core.questions import normalise
from nat.core.rows.bad import BadRow, DroppedRow, OnBad, refuse
from nat.search.bm25 import check_query, words
from nat.trajectories.formats import nat_paper, native, react
from nat.trajectories.formats.conversations import read_conversations
from nat.types import Message, RequestError, Tool, Trajectory

MISS = "No recording answers this query."  # the whole observation of a miss; roll-outs count it
_OBSERVATION = re.compile(r"\s*observation(?: ?\d+)?:\s*", re.IGNORECASE)


def count_misses(messages: Iterable[Message]) -> int:
    """How many searches of an episode no recording answered."""
    return sum(message.role == "tool" and message.content == MISS for message in messages)


class Recording(NamedTuple):
    question: str
    query: str
    observation: str


@dataclass(frozen=True)
class Read:
    recordings: tuple[Recording, ...]
    dropped: tuple[DroppedRow, ...]


def read_recordings(
    paths: Sequence[Path],
    format: Literal["jsonl", "react", "nat"],
    questions: str | None,
    on_bad_row: Literal["error", "drop"],
) -> Read:
    """The searches of trajectory files, in their order; `format` and `questions` as `trajectories.kind` has them.

    A trajectory that several files or lines hold counts as often: only mixing needs them apart. Raises RequestError for
    a record that cannot be read (`error`) and where no file holds a search.
    """
    dropped: list[DroppedRow] = []

    def drop(bad: BadRow) -> None:
        dropped.append(DroppedRow(bad.where, bad.reason, bad.problem))

    on_bad = drop if on_bad_row == "drop" else refuse
    try:
        recordings = tuple(
            recording
            for trajectory in _trajectories(paths, format, questions, on_bad)
            for recording in searches(trajectory.question, trajectory.messages)
        )
    except RequestError as error:
        raise RequestError(
            f"{error}\nsearch.path was read as search.format={format}; leave such rows out with "
            "search.on_bad_row=drop, or name the format: jsonl, react or nat."
        ) from None
    if not recordings:
        left_out = f" ({len(dropped)} rows were left out, the first: {dropped[0].detail:.200})" if dropped else ""
        raise RequestError(
            f"search.path={', '.join(map(str, paths)):.200}: holds no observation of a search{left_out}.\n"
            f"Is it of search.format={format}, and do its agents call search[...]?"
        )
    return Read(recordings, tuple(dropped))


def searches(question: str, messages: Iterable[Message]) -> Iterator[Recording]:
    """The recordings of one episode: each turn that searches, with the message after it.

    Not recorded: an empty observation, and what says of itself that it is none (an earlier replay's `MISS`, `Error:`).
    """
    action = None
    for message in messages:
        if message.role == "assistant":
            action = parse_action(message.content, ["search"])
        elif isinstance(action, Action) and action.tool == "search":
            observation = _OBSERVATION.sub("", message.content, count=1).strip()
            if observation and observation != MISS and not observation.startswith("Error:"):
                yield Recording(question, action.input, observation)
            action = None


class Recordings:
    """Recordings to look queries up in; changes nothing once it is made, so that threads may share it."""

    def __init__(self, recordings: Sequence[Recording], threshold: float | None) -> None:
        """`threshold`: likeness from which a query answers another one, 0 to 100; None: only equal ones do."""
        self._threshold = threshold
        within: defaultdict[str, defaultdict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        overall: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for question, query, observation in recordings:
            key = _key(query)
            if key:
                within[normalise(question)][key][observation] += 1
                overall[key][observation] += 1
        self._within = {question: _most_frequent(queries) for question, queries in within.items()}
        self._overall = _most_frequent(overall)

    def find(self, query: str, question: str | None) -> str:
        """The observation that answers the query, or `MISS`; without a question, from all recordings alike."""
        key = _key(query)
        own = self._within.get(normalise(question), {}) if question is not None else {}
        for recorded in (own, self._overall):
            if key in recorded:
                return recorded[key]
        if self._threshold is None:
            return MISS
        from rapidfuzz import fuzz, process

        for recorded in (own, self._overall):
            # The first of equally alike ones wins, and the order is that of the files.
            best = process.extractOne(key, recorded.keys(), scorer=fuzz.token_sort_ratio, score_cutoff=self._threshold)
            if best is not None:
                return recorded[best[0]]
        return MISS


def make_tool(recordings: Recordings, question: str | None) -> Tool:
    """`search[query]` in an episode on this question; None: in any."""

    def search(query: str) -> str:
        check_query(query)
        return recordings.find(query, question)

    return Tool(name="search", run=search)


def _key(query: str) -> str:
    return " ".join(words(query))


def _most_frequent(observations: dict[str, Counter[str]]) -> dict[str, str]:
    """Of each query; a Counter puts equally frequent ones in the order in which they came."""
    return {query: counts.most_common(1)[0][0] for query, counts in observations.items()}


def _trajectories(
    paths: Sequence[Path], format: Literal["jsonl", "react", "nat"], questions: str | None, on_bad: OnBad
) -> Iterator[Trajectory]:
    match format:
        case "jsonl":
            read = native.read
        case "react":
            read = partial(read_conversations, react.conversations)
        case "nat":
            read = partial(
                nat_paper.read, questions=nat_paper.read_questions(Path(questions), on_bad) if questions else None
            )
    for path in paths:
        for _, trajectory in read(path, "", on_bad):
            yield trajectory
