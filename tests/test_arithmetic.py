"""The arithmetic world and its scripted fallible policy."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from random import Random

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from nat.agents.turns import play, take_turn
from nat.environments.worlds import arithmetic as world
from nat.environments.worlds import worlds
from nat.environments.worlds.arithmetic import ArithmeticConfig, ErrorWeights
from nat.types import Message, Question, Trajectory
from tests.conftest import ROOT

KINDS = ("wrong_operator", "wrong_number", "skipped_step", "early_stop", "wrong_finish")
STAMPS = Question(
    "stamps",
    "Nora owns 42 stamps. She sells 7. Ivo is 31 years old. The pile doubles. How many stamps are there now?",
    "70",
    {"start": "42", "steps": [["-", "7"], ["*", "2"]], "distracting": ["31"], "values": "plain"},
)


def shipped(**changes: object) -> ArithmeticConfig:
    values = yaml.safe_load((ROOT / "conf" / "environment" / "arithmetic.yaml").read_text(encoding="utf-8"))
    return TypeAdapter(ArithmeticConfig).validate_json(json.dumps({**values, **changes}))


def only(kind: str) -> dict[str, float]:
    return {name: float(name == kind) for name in KINDS}


def trajectories_of(config: ArithmeticConfig, n_questions: int) -> list[Trajectory]:
    return list(islice(worlds.endless_trajectories(config), n_questions * config.attempts_per_question))


def turns(trajectory: Trajectory) -> list[str]:
    return [message.content for message in trajectory.messages]


@pytest.mark.parametrize(
    ("start", "steps", "values"),
    [
        ("42", [("-", "7"), ("*", "2")], ["35", "70"]),
        ("12", [("-", "30"), ("+", "5")], ["-18", "-13"]),
        ("50", [("/", "4"), ("+", "3"), ("*", "2")], ["12.5", "15.5", "31"]),
        ("7", [("/", "4"), ("-", "2")], ["1.75", "-0.25"]),
    ],
)
def test_running_values_are_exact(start: str, steps: list[tuple[str, str]], values: list[str]) -> None:
    assert list(world.apply_steps(start, steps)) == [Fraction(value) for value in values]


def test_questions_are_what_this_seed_has_always_given() -> None:
    """Worked by hand: 109 + 30 = 139, 139 * 5 = 695; the 34 degrees do not count."""
    question = worlds.make_questions(shipped(), "test", 2)[1]
    assert question.id == "arithmetic-0-test-00001"
    assert question.text == (
        "There are 109 stamps in a box of Finn. A neighbour leaves 30 at the door. The stock grows 5-fold. "
        "It is 34 degrees outside. How many stamps is that?"
    )
    assert question.answer == "695"
    assert question.metadata["steps"] == [["+", "30"], ["*", "5"]]
    assert question.metadata["distracting"] == ["34"]


def test_a_smaller_request_is_a_prefix_of_a_larger_one() -> None:
    config = shipped()
    assert worlds.make_questions(config, "validation", 30) == worlds.make_questions(config, "validation", 50)[:30]
    some = trajectories_of(config, 10)
    assert len(some) == 20 and some == trajectories_of(config, 15)[:20]


def test_no_split_shares_a_question_not_even_with_other_numbers_or_another_seed() -> None:
    masked = {
        split: {
            re.sub(r"\d+", "#", question.text)
            for seed in (0, 1)
            for question in worlds.make_questions(shipped(seed=seed), split, 100)
        }
        for split in ("train", "validation", "test")
    }
    assert all(len(texts) > 190 for texts in masked.values())
    assert not masked["train"] & masked["validation"]
    assert not masked["train"] & masked["test"]
    assert not masked["validation"] & masked["test"]


def test_the_split_depends_on_the_words_alone() -> None:
    assert world.split_of("Nora owns 42 stamps. She sells 7.") == world.split_of(
        "nora owns 9  stamps. she sells 12345."
    )
    texts = [f"{name} {verb} {place}" for name in "abcdefghij" for verb in "klmnopqrst" for place in "uvwxyz"]
    shares = {split: sum(world.split_of(text) == split for text in texts) / 600 for split in ("validation", "test")}
    assert shares["validation"] == pytest.approx(0.1, abs=0.04)
    assert shares["test"] == pytest.approx(0.1, abs=0.04)


def test_questions_of_all_kinds_are_told_in_full_and_distractors_do_not_count() -> None:
    config = shipped(decimal_share=0.3, negative_share=0.3)
    questions = worlds.make_questions(config, "train", 200)
    kinds = [question.metadata["values"] for question in questions]
    assert kinds.count("decimal") == pytest.approx(60, abs=25)
    assert kinds.count("negative") == pytest.approx(60, abs=25)
    assert len({question.text for question in questions}) == 200
    for question in questions:
        start, steps = question.metadata["start"], question.metadata["steps"]
        values = list(world.apply_steps(start, [tuple(step) for step in steps]))
        assert Fraction(question.answer) == values[-1]
        assert any(value < 0 for value in values) == (question.metadata["values"] == "negative")
        assert any(value.denominator > 1 for value in values) == (question.metadata["values"] == "decimal")
        assert 2 <= len(steps) <= 4 and len(question.metadata["distracting"]) <= 1
        told: list[str] = re.findall(r"\d+", question.text)
        assert all(number in told for number in question.metadata["distracting"])
        # Every number of the text is the start, a step's or a distractor's; only verbs like "doubles" hide theirs.
        assert set(told) <= {start, *(number for _, number in steps), *question.metadata["distracting"]}


def test_every_operation_is_told_with_many_verbs() -> None:
    assert {operator: len(texts) for operator, texts in world.TEMPLATES.items()} == {"+": 22, "-": 22, "*": 8, "/": 8}
    every = [text for texts in world.TEMPLATES.values() for text, _ in texts]
    assert len(set(every)) == 60
    for text, implied in (pair for texts in world.TEMPLATES.values() for pair in texts):
        assert ("{n}" in text) == (implied is None)


@pytest.mark.parametrize(
    ("answer", "reference", "outcome"),
    [
        ("12.50", "12.5", True),
        ("-13", "-13", True),
        ("13", "-13", False),
        ("-0.25", "-0.25", True),
        ("70 stamps", "70", True),
        ("71", "70", False),
    ],
)
def test_answers_are_scored_by_value(answer: str, reference: str, outcome: bool) -> None:
    environment = world.make_environment(shipped())
    turn = take_turn(environment, replace(STAMPS, answer=reference), 1, f"Thought: Done.\nAction: finish[{answer}]")
    assert turn.outcome is not None and turn.outcome.success is outcome


def play_with(kind: str | None) -> list[str]:
    config = shipped(failure_rate=0.0 if kind is None else 1.0, errors=only(kind or "skipped_step"))
    policy, errors = world.scripted_policy(config, STAMPS, Random(0))
    assert set(errors) == (set() if kind is None else {kind})
    return [message.content for message in play(world.make_environment(config), STAMPS, policy).messages]


def test_the_faultless_policy() -> None:
    assert play_with(None) == [
        "Thought: Subtract.\nAction: calculate[42-7]",
        "35",
        "Thought: Multiply.\nAction: calculate[35*2]",
        "70",
        "Thought: Done.\nAction: finish[70]",
    ]


def test_an_early_stop_and_skipped_steps_finish_with_the_running_value() -> None:
    assert play_with("early_stop") == ["Thought: Done.\nAction: finish[42]"]
    assert play_with("skipped_step") == ["Thought: Done.\nAction: finish[42]"]


def test_a_wrong_operator_keeps_the_numbers_and_its_thought_fits() -> None:
    first, _, second, *_ = play_with("wrong_operator")
    assert re.search(r"calculate\[42[+*/]7\]", first) and re.search(r"calculate\[\S+[-+/]2\]", second)
    for turn in (first, second):
        operator = re.search(r"\d([-+*/])\d+\]", turn)
        assert operator is not None and turn.startswith(f"Thought: {world.THOUGHTS[operator[1]]}\n")


def test_a_wrong_number_is_another_one_of_the_text() -> None:
    first = play_with("wrong_number")[0]
    assert first in {f"Thought: Subtract.\nAction: calculate[42-{number}]" for number in ("42", "2", "31")}


def test_a_wrong_finish_follows_right_steps() -> None:
    *steps, last = play_with("wrong_finish")
    assert steps == play_with(None)[:-1]
    assert last in {f"Thought: Done.\nAction: finish[{number}]" for number in ("42", "35", "7", "2", "31")}


def test_errors_come_at_the_set_rate_and_in_the_set_proportions() -> None:
    config = shipped(failure_rate=0.3, errors={**only("skipped_step"), "wrong_finish": 3.0}, attempts_per_question=1)
    trajectories = trajectories_of(config, 400)
    n_steps = sum(len(question.metadata["steps"]) for question in worlds.make_questions(config, "train", 400))
    errors = [error for trajectory in trajectories for error in trajectory.metadata["errors"]]
    assert len(errors) / n_steps == pytest.approx(0.3, abs=0.04)
    assert errors.count("wrong_finish") / len(errors) == pytest.approx(0.75, abs=0.06)


def test_a_higher_rate_only_adds_errors() -> None:
    low, high = (trajectories_of(shipped(failure_rate=rate, errors=only("skipped_step")), 100) for rate in (0.1, 0.3))
    assert [t.id for t in low] == [t.id for t in high]
    assert all(len(a.metadata["errors"]) <= len(b.metadata["errors"]) for a, b in zip(low, high, strict=True))


def test_success_is_earned_by_scoring() -> None:
    """Some attempts err and still arrive: they are successes, and nothing but the answer decides."""
    trajectories = trajectories_of(shipped(failure_rate=0.5), 200)
    for trajectory in trajectories:
        finish = re.search(r"finish\[(.+)\]", turns(trajectory)[-1])
        assert finish is not None and trajectory.outcome.reference is not None
        assert trajectory.outcome.success == (Fraction(finish[1]) == Fraction(trajectory.outcome.reference))
        assert trajectory.outcome.success or trajectory.metadata["errors"]
        assert trajectory.outcome.failure == (None if trajectory.outcome.success else "wrong_answer")
    assert any(trajectory.outcome.success and trajectory.metadata["errors"] for trajectory in trajectories)


def test_observations_come_from_the_calculator() -> None:
    policy, _ = world.scripted_policy(shipped(failure_rate=0.0), STAMPS, Random(0))
    assert (
        policy((Message("assistant", "..."), Message("tool", "999"))) == "Thought: Multiply.\nAction: calculate[999*2]"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"failure_rate": 1.5}, "failure_rate"),
        ({"steps": {"min": 3, "max": 2}}, "0 <= min <= max"),
        ({"errors": dict.fromkeys(KINDS, 0.0)}, "at least one weight"),
        ({"decimal_share": 0.7, "negative_share": 0.7}, "add up"),
        ({"factor": {"min": 0, "max": 3}}, "factor.min at least 2"),
        ({"start": {"min": 10, "max": 5000}}, "at most 999"),
        ({"fail_rate": 0.1}, "fail_rate"),
    ],
)
def test_unfit_values_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        shipped(**changes)


def test_the_error_weights_are_plain_proportions() -> None:
    assert sum(vars(ErrorWeights(3.0, 3.0, 2.0, 1.0, 1.0)).values()) == 10


def test_other_verbs_are_told_at_their_share_and_leave_usual_questions_as_they_were() -> None:
    def told(config: ArithmeticConfig) -> list[str]:
        return [question.text for question in worlds.make_questions(config, "test", 200)]

    words = (
        "receives|adds|harvests|rescues|presents|ashore|discards|returns|surrenders|crushes|grabs|sink|swells|splits|"
    )
    other = re.compile(words + "multiplied|divided|retains|dwindles")
    assert told(shipped())[0] == "Ada owns 26 stamps. She finds 90. She buys 39. How many stamps are there now?"
    assert not any(map(other.search, told(shipped())))
    n_steps = sum(len(q.metadata["steps"]) for q in worlds.make_questions(shipped(other_verbs_share=0.3), "test", 200))
    n_other = sum(len(other.findall(text)) for text in told(shipped(other_verbs_share=0.3)))
    assert 0.25 < n_other / n_steps < 0.35
    usual = [text for texts in world.TEMPLATES.values() for text, _ in texts]
    assert not any(other.search(text) for text in usual)
