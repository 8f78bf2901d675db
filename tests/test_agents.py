"""What models write, and what is read from it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat.agents import Action, UnparsedAction, parse_action, render_turn

TOOLS = ("calculate",)


def test_a_turn_is_written_as_models_are_trained_to_write_it():
    assert render_turn("3 boxes of 12", "calculate", "3 * 12") == "Thought: 3 boxes of 12\nAction: calculate[3 * 12]"


@pytest.mark.parametrize(
    ("text", "tool", "input"),
    [
        ("Thought: add.\nAction: calculate[2 + 2]", "calculate", "2 + 2"),
        ("Action: finish[18].", "finish", "18"),
        ("Thought: done. Action: finish[18]", "finish", "18"),  # no line break
        ("action: FINISH[18]", "finish", "18"),
        ("Action 2: calculate [2 + 2]", "calculate", "2 + 2"),
        ("**Action:** finish[18]", "finish", "18"),
        ("Action:\nfinish[18]", "finish", "18"),
        ("Action: finish[a[0]]", "finish", "a[0]"),
        ("Action: finish[a[0]", "finish", "a[0"),  # opens more than it closes: up to the line's last bracket
        ("Action: finish[]", "finish", ""),
        ("Action: finish[ 18 ]", "finish", "18"),
        ("Action: calculate[2+2]\nObservation: 4\nAction: finish[4]", "calculate", "2+2"),  # only the first counts
        ("Thought: the next action: add.\nAction: calculate[1+1]", "calculate", "1+1"),
        ("Action: finish[18] because that is it", "finish", "18"),
    ],
)
def test_what_is_accepted(text, tool, input):
    assert parse_action(text, TOOLS) == Action(tool, input)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "there is no line 'Action: tool[input]'"),
        ("finish[18]", "there is no line 'Action: tool[input]'"),
        ("Faction: finish[18]", "there is no line 'Action: tool[input]'"),
        ("Action: I will add them", "after 'Action:' comes no tool[input]"),
        ("Action: search[cats]", "there is no tool 'search'; use one of calculate, finish"),
        ("Action: finish[18", "the bracket after 'finish' is never closed"),
        ("Action: calculate[1+2\nAction: finish[3]", "the bracket after 'calculate' is never closed"),
    ],
)
def test_what_is_rejected_and_why(text, reason):
    assert parse_action(text, TOOLS) == UnparsedAction(reason)


@pytest.mark.parametrize(
    "text", ["Action: finish[" * 70_000, "action" + " " * 1_000_000, "Action: finish" + "[" * 1_000_000]
)
def test_a_megabyte_takes_no_time(text):
    begun = time.process_time()
    assert isinstance(parse_action(text, TOOLS), UnparsedAction)
    assert time.process_time() - begun < 2


@given(st.text(), st.text(alphabet=st.characters(exclude_characters="[]")))
def test_what_is_rendered_is_read_back(thought, input):
    if "action" not in (thought + input).lower():
        assert parse_action(render_turn(thought, "calculate", input), TOOLS) == Action("calculate", input.strip())


@given(st.text())
def test_any_text_gets_an_answer(text):
    assert isinstance(parse_action("Action: " + text, TOOLS), Action | UnparsedAction)
