"""Turns and episodes: what an action leads to, and how an episode ends."""

from __future__ import annotations

import logging

import pytest

from nat.environments import Turn, play, take_turn
from nat.environments.scoring import numeric_match
from nat.tools.calculator import CALCULATOR
from nat.types import Environment, Message, Outcome, Question, Tool

ENVIRONMENT = Environment("sums", "Solve it.", (CALCULATOR,), numeric_match, max_turns=3)
QUESTION = Question("q", "What is 2 + 2?", "4")


def scripted(*turns: str):
    """A policy that says these turns, in order."""
    return lambda messages: turns[sum(message.role == "assistant" for message in messages)]


def failure(name: str, prediction: str | None = None, score: float = 0.0) -> Outcome:
    return Outcome(False, score, name, prediction, "4")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "turn"),
    [
        ("Action: calculate[2+2]", Turn("4", None, None)),
        ("Action: calculate[1/0]", Turn("Error: division by zero.", None, "tool_error")),
        ("hello", Turn("Error: there is no line 'Action: tool[input]'.", None, "unparsed_action")),
        ("Action: finish[4]", Turn(None, Outcome(True, 1.0, None, "4", "4"), None)),
        ("Action: finish[5]", Turn(None, failure("wrong_answer", "5"), None)),
        ("Action: finish[]", Turn(None, failure("abstained", ""), None)),
        ("Action: finish[unknown]", Turn(None, failure("abstained", "unknown"), None)),
        ("Action: finish[I don't know]", Turn(None, failure("abstained", "I don't know"), None)),
    ],
)
def test_a_turn_is_observed_or_ends_the_episode(text, turn):
    assert take_turn(ENVIRONMENT, QUESTION, 1, text) == turn


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Action: calculate[2+2]", "out_of_turns"),
        ("Action: calculate[1/0]", "tool_error"),
        ("hello", "unparsed_action"),
        ("Action: finish[5]", "wrong_answer"),
    ],
)
def test_the_last_turns_problem_is_the_failure(text, kind):
    outcome = take_turn(ENVIRONMENT, QUESTION, 3, text).outcome
    assert outcome is not None
    assert outcome.failure == kind


def test_an_episode():
    rollout = play(ENVIRONMENT, QUESTION, scripted("Thought: add.\nAction: calculate[2+2]", "Action: finish[4]"))
    assert rollout.outcome == Outcome(True, 1.0, None, "4", "4")
    assert rollout.messages == (
        Message("assistant", "Thought: add.\nAction: calculate[2+2]"),
        Message("tool", "4"),
        Message("assistant", "Action: finish[4]"),
    )


def test_an_agent_recovers_from_a_bad_action():
    assert play(ENVIRONMENT, QUESTION, scripted("hm", "Action: calculate[", "Action: finish[4]")).outcome.success


def test_turns_run_out():
    rollout = play(ENVIRONMENT, QUESTION, scripted("a", "b", "Action: calculate[1]", "Action: finish[4]"))
    assert rollout.outcome == failure("out_of_turns")
    assert [message.role for message in rollout.messages] == ["assistant", "tool", "assistant", "tool", "assistant"]


def test_a_partial_score_is_no_success():
    halves = Environment("halves", "", (), lambda prediction, reference: 0.5, max_turns=1)
    assert play(halves, QUESTION, scripted("Action: finish[5]")).outcome == failure("wrong_answer", "5", 0.5)


def test_an_unknown_that_is_the_answer_is_right():
    words = Environment("words", "", (), numeric_match, max_turns=1)
    assert play(words, Question("q", "?", "unknown"), scripted("Action: finish[Unknown]")).outcome.success


def test_a_broken_tool_is_not_the_policys_failure(caplog):
    def broken(text: str) -> str:
        raise KeyError("index")

    environment = Environment("broken", "", (Tool("look", broken),), numeric_match, max_turns=3)
    with caplog.at_level(logging.ERROR):
        outcome = play(environment, QUESTION, scripted("Action: look[x]")).outcome
    assert outcome == failure("infrastructure", "KeyError: 'index'")
    assert "KeyError" in caplog.text
