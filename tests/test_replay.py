"""Replay: what counts as a recording, which recording answers a query, and what a miss says."""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from nat.agents.scoring import numeric_score
from nat.agents.turns import play
from nat.search.replay import MISS, Recording, Recordings, make_tool, read_recordings, searches
from nat.trajectories.formats import react
from nat.trajectories.formats.conversations import read_conversations
from nat.types import Environment, Message, Question, RequestError, ToolError

HOTPOTQA = ("react_gpt-3.5_messages.json", "react_gpt-4_positives.jsonl", "react_llama-2-7b_text.json")
Q1, Q2 = "Who created American Dad?", "Who voices Francine?"


def turn(action: str) -> Message:
    return Message("assistant", f"Thought: look.\nAction: {action}")


def test_each_search_is_recorded_with_the_message_after_it():
    messages = (
        turn("search[American Dad creator]"),
        Message("user", "Observation: Created by Seth MacFarlane."),
        Message("assistant", "Action: Search[Seth\nMacFarlane [born]]\nmore"),
        Message("tool", "observation 2:  Born in 1973. "),
        turn("calculate[1 + 1]"),
        Message("tool", "2"),
        Message("assistant", "no action"),
        Message("user", "Observation: Invalid action."),
        turn("search[last]"),
    )
    assert list(searches(Q1, messages)) == [
        Recording(Q1, "American Dad creator", "Created by Seth MacFarlane."),
        Recording(Q1, "Seth\nMacFarlane [born]", "Born in 1973."),
    ]


@pytest.mark.parametrize("observation", [MISS, "Error: the query holds no words.", "", "Observation:  \n"])
def test_what_is_no_observation_is_not_recorded(observation):
    assert list(searches(Q1, (turn("search[x]"), Message("tool", observation), turn("finish[x]")))) == []


def test_only_the_message_right_after_a_search_is_its_observation():
    messages = (turn("search[x]"), turn("search[y]"), Message("tool", "of y"), Message("user", "go on"))
    assert [(r.query, r.observation) for r in searches(Q1, messages)] == [("y", "of y")]


RECORDINGS = (
    Recording(Q1, "American Dad creator", "own exact"),
    Recording(Q1, "the voice of Francine Smith", "own alike"),
    Recording(Q2, "voice of Francine Smith", "other exact"),
    Recording(Q2, "Wendy Schaal birthplace city", "other alike"),
)


@pytest.mark.parametrize(
    ("question", "query", "expected"),
    [
        (Q1, "American Dad creator", "own exact"),
        (Q1, "  american  DAD: creator? ", "own exact"),
        ("WHO created  american dad?", "American Dad creator", "own exact"),  # the question is normalised too
        (Q1, "voice of Francine Smith", "other exact"),  # before the like one of the same question
        (Q1, "the voice of Francine Smiths", "own alike"),
        (Q1, "creator American Dad", "own exact"),  # the same words in another order
        (Q1, "Wendy Schaal birthplace city?!", "other alike"),
        (Q1, "Wendy Schaals birthplace city", "other alike"),
        (None, "American Dad creator", "own exact"),
        (None, "voices of Francine Smith", "other exact"),
        ("A question never asked", "American Dad creator", "own exact"),
        (Q1, "American", MISS),  # contained in a recorded one, but not alike
        (Q1, "population of France", MISS),
        (None, "population of France", MISS),
    ],
)
def test_which_recording_answers(question, query, expected):
    assert Recordings(RECORDINGS, 85.0).find(query, question) == expected


def test_own_recordings_are_tried_first_also_for_alike_queries():
    recordings = [Recording(Q2, "voices of Francine", "nearer"), Recording(Q1, "voices of Francines", "own")]
    assert Recordings(recordings, 85.0).find("voice of Francine", Q1) == "own"
    assert Recordings(recordings, 85.0).find("voice of Francine", Q2) == "nearer"
    assert Recordings(recordings, 85.0).find("voice of Francine", None) == "nearer"


def test_without_a_threshold_only_equal_queries_are_answered():
    recordings = Recordings(RECORDINGS, None)
    assert recordings.find("american dad, creator", Q1) == "own exact"
    assert recordings.find("creator American Dad", Q1) == MISS


def test_of_different_observations_the_most_frequent_counts_then_the_first():
    def found(*observations: str) -> str:
        return Recordings([Recording(Q1, "query", text) for text in observations], None).find("query", Q1)

    assert found("a", "b") == "a"
    assert found("b", "a") == "b"
    assert found("a", "b", "b") == "b"
    assert found("b", "a", "a", "b") == "b"


def test_over_all_questions_the_most_frequent_counts():
    recordings = [Recording(Q1, "query", "a"), Recording(Q2, "query", "b"), Recording("third", "query", "b")]
    assert Recordings(recordings, None).find("query", Q1) == "a"
    assert Recordings(recordings, None).find("query", None) == "b"


def test_a_miss_is_an_observation_and_a_hostile_query_is_refused():
    tool = make_tool(Recordings(RECORDINGS, 85.0), Q1)
    assert tool.name == "search"
    assert tool.run("population of France") == MISS == "No recording answers this query."
    for query in ("x" * 100_000, "", "\x00\x01", "[[["):
        with pytest.raises(ToolError):
            tool.run(query)


def test_thousands_of_recordings_are_searched_in_less_than_fifty_milliseconds():
    generator = random.Random(0)
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
    made = [" ".join(generator.choices(words, k=8)) for _ in range(8000)]
    recordings = Recordings([Recording(f"q{i}", query, str(i)) for i, query in enumerate(made)], 99.0)
    recordings.find("warm up", None)
    start = time.process_time()  # of this process alone: the machine may be busy
    for _ in range(5):
        assert recordings.find("none of these " + "words " * 60, "q7") == MISS
    assert (time.process_time() - start) / 5 < 0.05


# ---- files ----


def native_row(query: str, observation: str) -> str:
    messages = [
        {"role": "assistant", "content": f"Thought: look.\nAction: search[{query}]"},
        {"role": "tool", "content": observation},
        {"role": "assistant", "content": "Thought: done.\nAction: finish[x]"},
    ]
    return json.dumps({"question": Q1, "messages": messages, "outcome": {"success": True}}) + "\n"


def test_nats_own_format_and_equal_ids_in_two_files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(native_row(f"query {name}", f"seen {name}"), encoding="utf-8")
    read = read_recordings([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], "jsonl", None, "error")
    assert read.recordings == (Recording(Q1, "query a", "seen a"), Recording(Q1, "query b", "seen b"))
    assert read.dropped == ()


def test_a_bad_row_stops_or_is_dropped(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("{broken\n" + native_row("query", "seen"), encoding="utf-8")
    with pytest.raises(RequestError, match=rf"{path}:1: .*") as caught:
        read_recordings([path], "jsonl", None, "error")
    assert str(caught.value).splitlines()[-1].startswith("search.path was read as search.format=jsonl; leave such rows")
    read = read_recordings([path], "jsonl", None, "drop")
    assert len(read.recordings) == 1
    assert [(row.where, row.reason) for row in read.dropped] == [(f"{path}:1", "not_json")]


def test_files_without_a_search_are_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(native_row("query", MISS), encoding="utf-8")
    with pytest.raises(RequestError, match=rf"search\.path={path}: holds no observation of a search"):
        read_recordings([path], "jsonl", None, "error")


def test_the_published_trajectories(data: Path):
    """Counts and one recording of each format, read off the files."""
    hotpotqa = read_recordings([data / "hotpotqa" / name for name in HOTPOTQA], "react", None, "drop")
    strategyqa = read_recordings(
        [data / "strategyqa" / f"sample_{label}.json" for label in ("positive", "negative")],
        "nat",
        str(data / "strategyqa" / "sample_questions.jsonl"),
        "drop",
    )
    assert len(hotpotqa.recordings) == 2911
    assert len(strategyqa.recordings) == 174
    assert not [r for r in (*hotpotqa.recordings, *strategyqa.recordings) if "Episode finished" in r.observation]
    recordings = Recordings((*hotpotqa.recordings, *strategyqa.recordings), 85.0)
    show = "Who created the show with Wendy Schaal doing the voice of Francine?"
    asked = "who created the show with Wendy Schaal doing the voice of Francine"
    assert recordings.find(asked, show).startswith("It was finally in '05 that Schaal landed her first major role, ")
    game = "In which American football game was Malcolm Smith named Most Valuable player?"
    assert recordings.find("Malcolm Smith Most Valuable Player", game).startswith("Smith was named the Most Valuable")
    khan = "Are more people today related to Genghis Khan than Julius Caesar?"
    assert recordings.find(khan, khan).startswith("#1: The Mongols were by far the most powerful people")


def test_nearly_every_recorded_query_gets_its_own_observation_back(data: Path):
    """All but 13 of 2,911, whose query was recorded with another observation as well."""
    read = read_recordings([data / "hotpotqa" / name for name in HOTPOTQA], "react", None, "drop")
    recordings = Recordings(read.recordings, 85.0)
    same = sum(recordings.find(r.query, r.question) == r.observation for r in read.recordings)
    assert len(read.recordings) - same == 13


def test_recorded_episodes_play_again_as_they_were(data: Path):
    """The agent's turns of all 465 GPT-3.5 episodes, observed by replay: 773 of 776 observations are the recorded ones.

    Of the other three, two answer queries that their question asked several times with different results; one is no
    search.
    """
    path = data / "hotpotqa" / HOTPOTQA[0]
    recordings = Recordings(read_recordings([path], "react", None, "error").recordings, 85.0)
    n_same = n_observations = 0
    for _, trajectory in read_conversations(react.conversations, path):
        tool = make_tool(recordings, trajectory.question)
        environment = Environment("hotpotqa", "", (tool,), numeric_score, max_turns=20)
        turns = iter([message.content for message in trajectory.messages if message.role == "assistant"])
        question = Question("q", trajectory.question, "x")
        rollout = play(environment, question, lambda messages, turns=turns: next(turns, "Action: finish[end]"))
        recorded, seen = (
            [message.content for message in messages if message.role != "assistant"]
            for messages in (trajectory.messages, rollout.messages)
        )
        n_observations += len(recorded)
        n_same += sum(one == other for one, other in zip(recorded, seen, strict=False))
    assert (n_same, n_observations) == (773, 776)


@pytest.mark.slow
def test_the_measure_behind_the_likeness(data: Path):
    """What the module says of 85: see there. Within a question an answer is half right, others' rarely answer."""
    from rapidfuzz import fuzz, process

    def shared(one: str, other: str) -> float:
        a, b = (Counter(re.findall(r"[^\W_]+", text.casefold())) for text in (one, other))
        return 2 * (a & b).total() / (a.total() + b.total() or 1)

    read = read_recordings([data / "hotpotqa" / name for name in HOTPOTQA], "react", None, "drop").recordings
    keyed = [(r.question, " ".join(re.findall(r"[^\W_]+", r.query.casefold())), r.observation) for r in read]
    by_question = defaultdict(list)
    for recording in keyed:
        by_question[recording[0]].append(recording)
    within: list[tuple[float, float]] = []
    for recordings in by_question.values():
        for _, query, observation in recordings:
            if others := [other for other in recordings if other[1] != query]:
                best = max(others, key=lambda other: fuzz.token_sort_ratio(query, other[1]))
                within.append((fuzz.token_sort_ratio(query, best[1]), shared(observation, best[2])))
    answered = [value for likeness, value in within if likeness >= 85]
    assert 0.2 < len(answered) / len(within) < 0.32
    assert 0.45 < sum(answered) / len(answered) < 0.6
    across = 0
    sample = random.Random(0).sample(keyed, 200)
    for question, query, _ in sample:
        others = [other[1] for other in keyed if other[0] != question]
        across += process.extractOne(query, others, scorer=fuzz.token_sort_ratio, score_cutoff=85) is not None
    assert across / len(sample) < 0.05
