"""Alpaca records: one turn as it stands, or a ReAct episode cut into turns."""

import json

import pytest

from nat.core.rows.bad import BadRow
from nat.trajectories.formats import alpaca
from nat.trajectories.formats.conversations import read_conversations
from nat.types import Message, Outcome

RECORD = {
    "instruction": "Answer with Thought and Action steps.",
    "input": "Who wrote Emma?",
    "output": "Thought: I know it.\nAction: finish[Jane Austen]",
    "reward": True,
}


def read(tmp_path, *records, **options):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(records, indent=1))
    return [trajectory for _, trajectory in read_conversations(alpaca.conversations, path, **options)]


def test_the_record_in_the_documentation(tmp_path):
    assert alpaca.__doc__ is not None
    record = json.JSONDecoder().raw_decode(alpaca.__doc__, alpaca.__doc__.index("{"))[0]
    assert record == RECORD
    assert alpaca.recognises(record)
    (trajectory,) = read(tmp_path, record)
    assert trajectory.question == "Answer with Thought and Action steps.\nWho wrote Emma?"
    assert trajectory.messages == (Message("assistant", "Thought: I know it.\nAction: finish[Jane Austen]"),)
    assert trajectory.outcome == Outcome(True, 1.0, None, "Jane Austen", None)
    assert trajectory.metadata == {"reward": True}


def test_react_steps_in_the_output_are_cut(tmp_path):
    output = "Thought: Look.\nAction: search[Emma]\nObservation: by Jane\nAusten\nThought: So.\nAction: finish[Ann]\n"
    ending = "Observation: Episode finished, reward = False\n"
    (trajectory,) = read(tmp_path, {"instruction": "Who wrote Emma?", "input": "", "output": output + ending})
    assert trajectory.question == "Who wrote Emma?"
    assert trajectory.messages == (
        Message("assistant", "Thought: Look.\nAction: search[Emma]"),
        Message("tool", "by Jane\nAusten"),
        Message("assistant", "Thought: So.\nAction: finish[Ann]"),
    )
    assert trajectory.outcome == Outcome(False, 0.0, "wrong_answer", "Ann", None)


def test_system_and_history_are_counted_and_a_question_field_is_the_question(tmp_path):
    record = {**RECORD, "system": "Be brief.", "history": [["a", "b"], ["c", "d"]], "question": "Who wrote Emma?"}
    (trajectory,) = read(tmp_path, record)
    assert trajectory.question == "Who wrote Emma?"
    assert trajectory.metadata == {"reward": True, "preamble_messages": 5}
    assert len(trajectory.messages) == 1


FLAWS = [
    ({"instruction": " ", "input": None}, "missing_value", "'instruction' and 'input' are empty"),
    ({"instruction": None}, "wrong_value", "'instruction' is null; it must be text"),
    ({"input": 7}, "wrong_value", "'input' is 7; it must be text"),
    ({"output": ""}, "empty_conversation", "'output' is empty"),
    ({"output": ["a"]}, "wrong_value", "'output' is [\"a\"]; it must be text"),
    ({"history": "a"}, "wrong_value", "'history' is \"a\"; it must be a list"),
    ({"output": "Observation: a"}, "no_agent_turn", "none of its 0 messages is the agent's"),
    ({"reward": None}, "no_label", "success is nowhere said"),
]


@pytest.mark.parametrize(("change", "reason", "message"), FLAWS)
def test_every_flaw_is_named_and_the_rest_is_read(tmp_path, change, reason, message):
    bad: list[BadRow] = []
    kept = read(tmp_path, RECORD, {**RECORD, **change}, RECORD, on_bad=bad.append)
    assert len(kept) == 2
    assert [(row.where, row.reason) for row in bad] == [(f"{tmp_path / 'mine.json'}:8", reason)]
    assert message in bad[0].problem
