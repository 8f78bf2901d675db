"""The world of two- and three-hop questions."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from itertools import islice
from random import Random

import pytest

from nat.agents.turns import play, take_turn
from nat.environments.worlds import multihop as world
from nat.environments.worlds import worlds
from nat.environments.worlds.knowledge_base import RELATIONS, Split
from nat.environments.worlds.multihop import MultihopConfig
from nat.types import Question
from tests.test_config import compose, refused
from tests.worlds_for_tests import HAND_MADE, KINDS, SMALL, SPLITS, look_up, only, outcomes
from tests.worlds_for_tests import multihop_config as shipped

small = partial(shipped, knowledge=SMALL)
PUBLISHED = Question(
    "q",
    "What is the home of whoever wrote Blue Tome?",
    "Oak Hill",
    {"chains": [["Blue Tome", ["author", "born"]]], "rule": "value"},
)


# ---- questions ----


def test_questions_are_what_this_seed_has_always_given() -> None:
    """Worked by hand: see the facts below; the capital of Dela Musa has a mayor, Jora Nora."""
    config = shipped()
    question = worlds.make_questions(config, "test", 1)[0]
    assert question.id == "multihop-0-test-00000"
    assert question.text == "Which answer fits: the holder of the keys to the main city of Dela Musa?"
    assert question.answer == "Jora Nora"
    assert question.metadata == {"chains": [["Dela Musa", ["capital", "mayor"]]], "rule": "value"}
    facts = world.knowledge_of(config).facts
    assert facts[facts["Dela Musa", "capital"], "mayor"] == "Jora Nora"


@pytest.mark.parametrize("split", SPLITS)
def test_every_answer_follows_from_the_facts(split: Split) -> None:
    config = shipped()
    questions = worlds.make_questions(config, split, 600)
    assert len({question.text for question in questions}) == len({question.id for question in questions}) == 600
    bridges = comparisons = 0
    for question in questions:
        paths = look_up(config, question)
        rule = question.metadata["rule"]
        if rule == "value":
            bridges += 1
            (path,) = paths
            assert question.answer == path[-1] != path[0]
            assert len(path) in (3, 4)
            assert path[0] in question.text and question.answer not in question.text
        else:
            comparisons += 1
            (a, year_a), (b, year_b) = paths
            assert a != b and a in question.text and b in question.text
            assert year_a != year_b, "nobody can say which of two came first in one year"
            sooner, later = (a, b) if int(year_a) < int(year_b) else (b, a)
            assert question.answer == {"first if before": sooner, "first if after": later}[rule]
    assert comparisons / 600 == pytest.approx(0.25, abs=0.07)  # four standard deviations
    hops = [len(question.metadata["chains"][0][1]) for question in questions if question.metadata["rule"] == "value"]
    assert hops.count(2) / bridges == pytest.approx(0.5, abs=0.1)


def test_a_comparison_is_answered_by_either_name_equally_often() -> None:
    questions = worlds.make_questions(shipped(comparison_share=1.0), "train", 1600)
    first = sum(question.answer == question.metadata["chains"][0][0] for question in questions)
    assert abs(first - 800) <= 80  # four standard deviations
    for rule in ("first if before", "first if after"):
        some = [question for question in questions if question.metadata["rule"] == rule]
        n_first = sum(question.answer == question.metadata["chains"][0][0] for question in some)
        assert abs(n_first - len(some) / 2) <= 2 * len(some) ** 0.5


def test_the_texts_say_the_plan() -> None:
    """Undoing the phrases from the outside in gives the relations, last one first: no question has two readings."""
    readings: dict[str, str] = {}
    for relation, phrases in world.PHRASES.items():
        for phrase in phrases:
            assert phrase.count("{x}") == 1
            assert phrase not in readings, "a phrase of two relations"
            readings[phrase] = relation
    openings = "|".join(re.escape(text).replace(r"\{x\}", "(.+)") for text in world.OPENINGS)
    for question in worlds.make_questions(shipped(comparison_share=0.0), "train", 300):
        match = re.fullmatch(openings, question.text)
        assert match is not None
        rest = next(group for group in match.groups() if group)
        relations: list[str] = []
        while found := [
            (relation, inner[1])
            for phrase, relation in readings.items()
            if (inner := re.fullmatch(re.escape(phrase).replace(r"\{x\}", "(.+)"), rest))
        ]:
            assert len(found) == 1
            relations.append(found[0][0])
            rest = found[0][1]
        assert question.metadata["chains"] == [[rest, relations[::-1]]]


def test_every_relation_and_every_date_is_asked_for_in_several_ways() -> None:
    assert set(world.PHRASES) == set(RELATIONS)
    assert all(len(phrases) == 3 for phrases in world.PHRASES.values())
    dates = {relation for relation, (_, to, _) in RELATIONS.items() if to == "year"}
    assert set(world.COMPARISONS) == {(date, f"first if {when}") for date in dates for when in ("before", "after")}
    texts = [text for some in world.COMPARISONS.values() for text in some]
    assert len(set(texts)) == 16 and all("{a}" in text and "{b}" in text for text in texts)


def test_no_question_holds_the_name_of_a_relation() -> None:
    """What to search for is implied; `land`, `born` and so on stand in no question."""
    texts = [text for some in (*world.PHRASES.values(), *world.COMPARISONS.values()) for text in some]
    words = {word for text in (*texts, *world.OPENINGS) for word in re.findall(r"[a-z]+", text.lower())}
    assert not words & set(RELATIONS)


def test_the_settings_decide_what_is_asked() -> None:
    only_bridges = worlds.make_questions(small(comparison_share=0.0, hops={"min": 1, "max": 1}), "train", 50)
    assert {len(question.metadata["chains"][0][1]) for question in only_bridges} == {1}
    three = worlds.make_questions(small(comparison_share=0.0, hops={"min": 3, "max": 3}), "train", 50)
    assert {len(question.metadata["chains"][0][1]) for question in three} == {3}


def test_a_world_that_runs_out_of_questions_ends() -> None:
    tiny = {"lands": 2, "towns": 4, "people": 8, "books": 4, "part": 1.0}
    config = shipped(knowledge=tiny, comparison_share=1.0)
    questions = worlds.make_questions(config, "test", 10_000)
    # Ordered pairs times two rules times two texts: 12 * 4 of books, 56 * 4 births, 56 * 4 deaths, 12 * 4 of towns.
    assert 400 < len(questions) <= 544
    assert len({question.text for question in questions}) == len(questions)


# ---- scoring ----


@pytest.mark.parametrize(
    ("answer", "success", "score", "failure"),
    [
        ("Oak Hill", True, 1.0, None),
        ("oak hill.", True, 1.0, None),
        ("the Oak Hill", True, 1.0, None),
        ("Oak Hill of Ada Moor", False, 4 / 7, "wrong_answer"),  # "of" counts, two of five words are right
        ("Red Hill", False, 0.5, "wrong_answer"),
        ("Elm Ford", False, 0.0, "wrong_answer"),
        ("unknown", False, 0.0, "abstained"),
    ],
)
def test_answers_are_scored_by_exact_match_and_f1(
    answer: str, success: bool, score: float, failure: str | None
) -> None:
    turn = take_turn(world.make_environment(small()), PUBLISHED, 1, f"Thought: Done.\nAction: finish[{answer}]")
    assert turn.outcome is not None
    assert (turn.outcome.success, turn.outcome.score) == (success, pytest.approx(score))
    assert turn.outcome.failure == failure


def test_every_tool_is_explained() -> None:
    environment = world.make_environment(small())
    for action in ("search[query]", "compare[a, b]", "finish[answer]"):
        assert action in environment.instructions
    turn = take_turn(environment, PUBLISHED, 1, "Action: compare[1790, 1820]")
    assert turn.observation == "before"


# ---- trajectories ----


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_the_faultless_policy_always_succeeds_in_the_shipped_world(split: Split) -> None:
    config = shipped(failure_rate=0.0, attempts_per_question=1)
    trajectories = list(islice(worlds.endless_trajectories(config, split), 300))
    assert len(trajectories) == 300 and all(one.outcome.success for one in trajectories)
    assert max(sum(message.role == "assistant" for message in one.messages) for one in trajectories) <= 4


def test_success_is_earned_by_scoring() -> None:
    """Some attempts err and still arrive: they are successes, and nothing but the answer decides."""
    results = outcomes(small(failure_rate=0.3), 300)
    assert all(errors for failure, _, errors in results if failure)
    assert any(errors and failure is None for failure, _, errors in results)
    assert {failure for failure, *_ in results} == {None, "wrong_answer", "abstained", "unparsed_action"}
    partial = [score for failure, score, _ in results if failure and score > 0]
    assert len(partial) >= 10 and all(score < 1 for score in partial)


@pytest.mark.parametrize(
    ("kind", "failures"),
    [
        ("abstention", {"abstained"}),
        ("repeated_search", {None}),
        ("malformed_action", {None, "unparsed_action"}),
        ("early_stop", {None, "wrong_answer"}),  # half of the guesses between two names are right
        ("over_answer", {None, "wrong_answer"}),  # without effect where the answer is one of two names
        ("wrong_conclusion", {"wrong_answer"}),
    ],
)
def test_what_each_kind_of_error_leads_to(kind: str, failures: set[str | None]) -> None:
    results = outcomes(small(failure_rate=1.0, errors=only(kind)))
    assert {failure for failure, *_ in results} == failures
    assert all(set(errors) == {kind} for *_, errors in results)


def test_reading_the_wrong_line_or_asking_for_the_wrong_thing_mostly_fails() -> None:
    for kind in ("wrong_entity", "wrong_relation"):
        results = outcomes(small(failure_rate=1.0, errors=only(kind), comparison_share=0.0))
        assert sum(failure == "wrong_answer" for failure, *_ in results) > 0.9 * len(results)
        assert {failure for failure, *_ in results} <= {None, "wrong_answer"}


def test_over_answers_are_partly_right() -> None:
    results = outcomes(small(failure_rate=1.0, errors=only("over_answer"), comparison_share=0.0))
    # "1744 of Ada Moor": one of four words, F1 = 2 * 1 / (1 + 4). "Oak Hill of Ada Moor": two of five, 2 * 2 / (2 + 5).
    # "Ben Moor of Ada Moor": two of five as well.
    assert {round(score, 4) for _, score, _ in results} == {0.4, round(4 / 7, 4)}
    assert all(failure == "wrong_answer" for failure, *_ in results)


def test_the_policy_of_a_question() -> None:
    """A base made by hand, in place of the world's own."""
    policy, errors = worlds.scripted_policy(small(failure_rate=0.0), PUBLISHED, Random(0))
    environment = world.make_environment(small())
    tools = (HAND_MADE.tool, environment.tools[1])
    rollout = play(replace(environment, tools=tools), PUBLISHED, policy)
    messages = [message.content for message in rollout.messages]
    assert messages == [
        "Thought: Author.\nAction: search[Blue Tome author]",
        "#1 The author of Blue Tome is Ada Moor. #2 Blue Tome is set in Oak Hill.",
        "Thought: Ada Moor. Born.\nAction: search[Ada Moor born]",
        "#1 Ada Moor was born in Oak Hill. #2 Ben Moor was born in Elm Ford.",
        "Thought: Oak Hill. Done.\nAction: finish[Oak Hill]",
    ]
    assert rollout.outcome.success and errors == []


def test_length_alone_tells_little_about_a_failure() -> None:
    """Failures are of the lengths of successes, but for those who give up or never write an action."""
    results = list(islice(worlds.endless_trajectories(small(attempts_per_question=1)), 500))
    read = [one for one in results if one.outcome.failure in (None, "wrong_answer")]
    successes = [len(one.messages) for one in read if one.outcome.success]
    failures = [len(one.messages) for one in read if not one.outcome.success]
    longer = sum((a > b) + 0.5 * (a == b) for a in failures for b in successes)
    assert 0.25 < longer / (len(successes) * len(failures)) < 0.75


# ---- configuration ----


def test_the_world_brings_its_model_along_unless_another_one_is_named() -> None:
    assert compose("environment=multihop").model.name == "tiny_search"
    assert compose("environment=multihop", "model=tiny").model.name == "tiny"
    assert compose("model=tiny", "environment=multihop").model.name == "tiny"
    assert compose("environment=arithmetic").model.name == "tiny"
    assert isinstance(compose("environment=multihop").environment, MultihopConfig)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("environment.failure_rate=1.5", "environment.failure_rate=1.5"),
        ("environment.snippets=0", "environment.snippets=0"),
        ("environment.max_turns=0", "environment.max_turns=0"),
        ("environment.comparison_share=-0.1", "environment.comparison_share=-0.1"),
        ("environment.hops={min:3,max:2}", "environment.hops"),
        ("environment.hops.max=4", "environment.hops.max=4"),
        ("environment.knowledge.people=3000", "environment.knowledge"),
        ("environment.knowledge.towns=1", "environment.knowledge.towns=1"),
        ("environment.knowledge.part=0", "environment.knowledge.part=0"),
        ("environment.knowledge.villages=3", "environment.knowledge.villages"),
        ("+environment.knowledge.villages=3", "environment.knowledge.villages"),
        ("environment.fail_rate=0.1", "environment.fail_rate"),
        ("environment.errors.abstention=-1", "environment.errors.abstention=-1"),
        (
            f"environment.errors={{{','.join(f'{kind}:0' for kind in KINDS)}}}",
            "environment.errors: at least one weight must be above 0",
        ),
        ("environment.questions=mine.jsonl", "environment.questions"),
    ],
)
def test_unfit_values_are_refused_with_their_full_key(override: str, message: str) -> None:
    assert refused("environment=multihop", override).startswith(message)
