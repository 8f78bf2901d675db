"""The world of yes/no questions that imply what to look up."""

from __future__ import annotations

import re
from collections import Counter
from functools import partial
from itertools import islice
from random import Random

import pytest

from nat.agents.turns import take_turn
from nat.environments.worlds import strategic as world
from nat.environments.worlds import worlds
from nat.environments.worlds.knowledge_base import RELATIONS, Split
from nat.environments.worlds.strategic import FAMILIES, StrategicConfig
from nat.types import Question
from tests.test_config import compose, refused
from tests.worlds_for_tests import HAND_MADE, KINDS, SMALL, SPLITS, look_up, only, outcomes
from tests.worlds_for_tests import strategic_config as shipped

small = partial(shipped, knowledge=SMALL)


def family_and_text(question: Question) -> tuple[int, int]:
    """Which family a question is of, and in which of its wordings, told from its text."""
    (a, _), (b, _) = question.metadata["chains"]
    found = [
        (place, wording)
        for place, family in enumerate(FAMILIES)
        for wording, text in enumerate(family.texts)
        if text.format(a=a, b=b) == question.text
    ]
    assert len(found) == 1, question.text
    return found[0]


# ---- families ----


def test_every_family_fits_the_relations_and_is_asked_in_two_ways() -> None:
    assert len(FAMILIES) == 17
    texts = [text for family in FAMILIES for text in family.texts]
    assert len(set(texts)) == 34 and all(text.count("{a}") == text.count("{b}") == 1 for text in texts)
    for family in FAMILIES:
        ends = []
        for kind, relations in (family.a, family.b):
            to: str = kind
            for relation in relations:
                of, to, _ = RELATIONS[relation]
                assert of == kind
                kind = to  # type: ignore[assignment]
            ends.append(to)
        assert ends[0] == ends[1], "values of one kind are compared"
        dates = ends[0] == "year"
        assert family.rule in (("yes if before", "yes if after") if dates else ("yes if same", "yes if different"))


def test_no_family_can_be_answered_without_a_search() -> None:
    assert all(family.a[1] for family in FAMILIES)
    assert all(family.a != family.b or family.a[1] for family in FAMILIES)


def test_every_kind_of_comparison_is_wanted() -> None:
    rules = Counter(family.rule for family in FAMILIES)
    assert rules == {"yes if same": 7, "yes if different": 3, "yes if before": 4, "yes if after": 3}
    assert {family.rule: sum(len(family.b[1]) == 0 for family in FAMILIES) for family in FAMILIES}["yes if same"] > 0


# ---- questions ----


def test_questions_are_what_this_seed_has_always_given() -> None:
    """Worked by hand: no walls in 1752, the town was founded in 1754."""
    config = shipped()
    question = worlds.make_questions(config, "test", 1)[0]
    assert (question.id, question.answer) == ("strategic-0-test-00000", "no")
    assert question.text == "Did Gano Lund have walls when Ambo Yeso was in nappies?"
    assert question.metadata == {
        "chains": [["Gano Lund", ["founded"]], ["Ambo Yeso", ["birth"]]],
        "rule": "yes if before",
    }
    facts = world.knowledge_of(config).facts
    assert (facts["Gano Lund", "founded"], facts["Ambo Yeso", "birth"]) == ("1754", "1752")


@pytest.mark.parametrize("split", SPLITS)
def test_every_answer_follows_from_the_facts(split: Split) -> None:
    config = shipped()
    questions = worlds.make_questions(config, split, 700)
    assert len({question.text for question in questions}) == len({question.id for question in questions}) == 700
    for question in questions:
        path_a, path_b = look_up(config, question)
        assert path_a[0] != path_b[0], "a question about one name only"
        assert path_a[0] in question.text and path_b[0] in question.text
        a, b = path_a[-1], path_b[-1]
        rule = question.metadata["rule"]
        if a.isdigit():
            assert a != b, "nobody can say which of two came first in one year"
            holds = int(a) < int(b) if rule == "yes if before" else int(a) > int(b)
        else:
            holds = (a == b) == (rule == "yes if same")
        assert question.answer == ("yes" if holds else "no")


@pytest.mark.parametrize("split", ["train", "test"])
def test_yes_and_no_are_balanced_in_every_family_and_every_wording(split: Split) -> None:
    """Within four standard deviations of a fair coin."""
    counts: Counter[tuple[object, str]] = Counter()
    for question in worlds.make_questions(shipped(), split, 3000):
        family, wording = family_and_text(question)
        for group in ("all", family, (family, wording)):
            counts[group, question.answer] += 1
    groups = {group for group, _ in counts}
    assert len(groups) == 1 + 17 + 34
    for group in groups:
        yes, no = counts[group, "yes"], counts[group, "no"]
        assert abs(yes - no) <= 4 * (yes + no) ** 0.5, (group, yes, no)
    assert all(counts[family, "yes"] + counts[family, "no"] > 100 for family in range(17)), "all families are asked"


def test_the_words_of_a_question_do_not_give_its_answer_away() -> None:
    """The best guess by the kind of the question, learned on 2000 training questions, is no better than a coin."""
    learned: Counter[tuple[tuple[int, int], str]] = Counter(
        (family_and_text(question), question.answer) for question in worlds.make_questions(shipped(), "train", 2000)
    )
    test = worlds.make_questions(shipped(), "test", 1000)
    right = sum(
        question.answer == max(("yes", "no"), key=lambda answer: learned[family_and_text(question), answer])
        for question in test
    )
    assert 0.43 < right / 1000 < 0.57


def test_no_question_holds_a_rule_or_the_names_of_what_to_look_up() -> None:
    relations = set(RELATIONS)
    for family in FAMILIES:
        for text in family.texts:
            words = set(re.findall(r"[a-z]+", text.lower()))
            assert not words & (relations & {*family.a[1], *family.b[1]}), text


def test_a_world_that_runs_out_of_questions_ends() -> None:
    config = shipped(knowledge={"lands": 2, "towns": 4, "people": 8, "books": 4, "part": 1.0})
    questions = worlds.make_questions(config, "test", 10_000)
    assert 200 < len(questions) < 2000
    assert len({question.text for question in questions}) == len(questions)


@pytest.mark.parametrize(
    ("a", "b", "rule", "answer", "pairs"),
    [
        # Ada died in 1800, Ben in 1830; the blue book came out in 1790, the grey one in 1820.
        (("person", ("died",)), ("book", ("year",)), "yes if after", "no", {("Ada Moor", "Grey Tome")}),
        (("person", ("birth",)), ("person", ("birth",)), "yes if before", "yes", {("Ben Moor", "Ada Moor")}),
        (("town", ("land",)), ("town", ("land",)), "yes if same", "yes", set()),  # never a town and itself
        (
            ("town", ("land",)), ("land", ()), "yes if same", "yes",
            {("Oak Hill", "North Land"), ("Elm Ford", "South Land")},
        ),
        (
            ("book", ("author", "born")), ("town", ()), "yes if same", "no",
            {("Blue Tome", "Elm Ford"), ("Grey Tome", "Oak Hill")},
        ),
    ],
)  # fmt: skip
def test_a_plan_is_drawn_for_its_answer(a, b, rule: str, answer: str, pairs: set[tuple[str, str]]) -> None:
    drawn = [world.draw_plan(HAND_MADE, "train", Random(seed), a, b, rule, answer) for seed in range(20)]
    assert {(plan.chains[0][0], plan.chains[1][0]) for plan in drawn if plan is not None} == pairs
    assert any(plan is None for plan in drawn) == (not pairs)


# ---- scoring ----


@pytest.mark.parametrize(
    ("answer", "success", "failure"),
    [
        ("no", True, None),
        ("No.", True, None),
        ("yes", False, "wrong_answer"),
        ("unknown", False, "abstained"),
        ("", False, "abstained"),
        ("Gano Lund", False, "wrong_answer"),
    ],
)
def test_answers_are_scored_as_yes_or_no(answer: str, success: bool, failure: str | None) -> None:
    environment = world.make_environment(small())
    turn = take_turn(environment, Question("q", "?", "no"), 1, f"Thought: Done.\nAction: finish[{answer}]")
    assert turn.outcome is not None
    assert (turn.outcome.success, turn.outcome.score, turn.outcome.failure) == (success, float(success), failure)


# ---- trajectories ----


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_the_faultless_policy_always_succeeds_in_the_shipped_world(split: Split) -> None:
    config = shipped(failure_rate=0.0, attempts_per_question=1)
    trajectories = list(islice(worlds.endless_trajectories(config, split), 300))
    assert len(trajectories) == 300 and all(one.outcome.success for one in trajectories)
    questions = worlds.make_questions(config, split, 300)
    assert {family_and_text(question)[0] for question in questions} == set(range(17)), "every family among them"


@pytest.mark.parametrize(
    ("kind", "failures"),
    [
        ("abstention", {"abstained"}),
        ("repeated_search", {None}),
        ("over_answer", {None}),  # an answer is one word
        ("malformed_action", {None, "unparsed_action"}),
        ("early_stop", {None, "wrong_answer"}),
        ("wrong_conclusion", {"wrong_answer"}),
        ("wrong_entity", {None, "wrong_answer"}),
        ("wrong_relation", {None, "wrong_answer"}),
    ],
)
def test_what_each_kind_of_error_leads_to(kind: str, failures: set[str | None]) -> None:
    results = outcomes(small(failure_rate=1.0, errors=only(kind)))
    assert {failure for failure, *_ in results} == failures
    assert all(set(errors) == {kind} for *_, errors in results)


def test_a_guess_is_right_half_of_the_time() -> None:
    results = outcomes(small(failure_rate=1.0, errors=only("early_stop")), 400)
    assert abs(sum(failure is None for failure, *_ in results) - 200) <= 40  # four standard deviations


def test_failures_say_yes_and_no_alike() -> None:
    some = islice(worlds.endless_trajectories(small(attempts_per_question=1, failure_rate=0.5)), 800)
    answers = Counter(one.outcome.prediction for one in some if one.outcome.failure == "wrong_answer")
    assert set(answers) == {"yes", "no"}
    assert 0.25 < answers["yes"] / answers.total() < 0.75


# ---- configuration ----


def test_the_world_brings_its_model_along_unless_another_one_is_named() -> None:
    assert compose("environment=strategic").model.name == "tiny_search"
    assert compose("model=tiny", "environment=strategic").model.name == "tiny"
    assert isinstance(compose("environment=strategic").environment, StrategicConfig)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("environment.failure_rate=1.5", "environment.failure_rate=1.5"),
        ("environment.snippets=11", "environment.snippets=11"),
        ("environment.knowledge.people=3000", "environment.knowledge"),
        ("environment.knowledge.part=1.5", "environment.knowledge.part=1.5"),
        ("+environment.hop=3", "environment.hop=3"),
        ("environment.attempts_per_question=0", "environment.attempts_per_question=0"),
        (
            f"environment.errors={{{','.join(f'{kind}:0' for kind in KINDS)}}}",
            "environment.errors: at least one weight must be above 0",
        ),
    ],
)
def test_unfit_values_are_refused_with_their_full_key(override: str, message: str) -> None:
    assert refused("environment=strategic", override).startswith(message)
