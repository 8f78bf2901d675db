"""ShareGPT conversations: roles, calls, loss flags, labels wherever they stand, and flaws."""

import json

import pytest

from nat.core.questions import question_id
from nat.core.rows.bad import BadRow
from nat.trajectories.formats import sharegpt
from nat.trajectories.formats.conversations import read_conversations
from nat.types import Message, Outcome

CALL = '{"name": "find_order", "arguments": {"number": "17"}}'
RECORD = {
    "id": "shop-17",
    "conversations": [
        {"from": "system", "value": "You have the tool find_order."},
        {"from": "human", "value": "Where is my order 17?"},
        {"from": "function_call", "value": CALL},
        {"from": "observation", "value": "sent yesterday"},
        {"from": "gpt", "value": "It was sent yesterday.", "loss": True},
    ],
    "info": {"reward": 1},
}


def read(tmp_path, *records, **options):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(records, indent=1))
    return [trajectory for _, trajectory in read_conversations(sharegpt.conversations, path, **options)]


def turns(*pairs, **fields):
    return {"reward": 0, **fields, "conversations": [{"from": role, "value": text} for role, text in pairs]}


def test_the_record_in_the_documentation(tmp_path):
    assert sharegpt.__doc__ is not None
    begin = sharegpt.__doc__.index("{")
    record = json.JSONDecoder().raw_decode(sharegpt.__doc__, begin)[0]
    assert record == RECORD
    assert sharegpt.recognises(record)
    (trajectory,) = read(tmp_path, record)
    assert trajectory.question == "Where is my order 17?"
    assert (trajectory.id, trajectory.question_id) == ("shop-17", question_id("Where is my order 17?"))
    assert trajectory.messages == (
        Message("assistant", CALL, tool_calls=({"name": "find_order", "arguments": {"number": "17"}},)),
        Message("tool", "sent yesterday"),
        Message("assistant", "It was sent yesterday."),
    )
    assert trajectory.outcome == Outcome(True, 1.0, None, "It was sent yesterday.", None)
    assert trajectory.source == "mine"
    assert trajectory.metadata == {"info": {"reward": 1}, "preamble_messages": 1}


def test_roles_by_all_their_names(tmp_path):
    (trajectory,) = read(
        tmp_path,
        turns(
            ("user", "Q?"), ("assistant", "a"), ("tool", "b"), ("model", "c"), ("function_response", "d"), ("bot", "e")
        ),
    )
    assert [m.role for m in trajectory.messages] == ["assistant", "tool", "assistant", "tool", "assistant"]
    assert [m.content for m in trajectory.messages] == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("flag", [{"loss": False}, {"weight": 0}])
def test_turns_without_loss_do_not_train(tmp_path, flag):
    record = turns(("human", "Q?"), ("gpt", "a"), ("human", "b"), ("gpt", "c"))
    record["conversations"][1].update(flag)
    (trajectory,) = read(tmp_path, record)
    assert [m.train for m in trajectory.messages] == [False, True, True]


def test_a_call_that_is_no_json_stays_text(tmp_path):
    texts = ("find_order(17)", '{"number": 17}', '{"name": "a", "arguments": {"x": 1e999}}', '{"name": "\\ud800"}')
    for text in texts:
        (trajectory,) = read(tmp_path, turns(("human", "Q?"), ("function_call", text)))
        assert trajectory.messages == (Message("assistant", text),)
    several = '[{"name": "a", "arguments": {}}, {"name": "b", "arguments": {}}]'
    (trajectory,) = read(tmp_path, turns(("human", "Q?"), ("function_call", several)))
    assert trajectory.messages == (Message("assistant", several, tool_calls=tuple(json.loads(several))),)


def test_react_in_human_turns_is_read_as_react_and_hides_the_label(tmp_path):
    record = turns(
        ("human", "Question: Who?"),
        ("gpt", "Action: search[it]"),
        ("human", "Observation: Ann."),
        ("gpt", "Action: finish[Ann]"),
        ("human", "Observation: Episode finished, reward = True"),
        reward=None,
    )
    (trajectory,) = read(tmp_path, record)
    assert trajectory.question == "Who?"
    assert trajectory.messages[1:] == (Message("tool", "Ann."), Message("assistant", "Action: finish[Ann]"))
    assert trajectory.outcome == Outcome(True, 1.0, None, "Ann", None)
    assert trajectory.metadata == {"final_observation": "Episode finished, reward = True"}


@pytest.mark.parametrize(
    ("fields", "success", "score"),
    [
        ({"reward": 1}, True, 1.0),
        ({"reward": 0.4}, False, 0.4),
        ({"info": {"reward": True}}, True, 1.0),
        ({"metadata": {"is_correct": False}}, False, 0.0),
        ({"outcome": {"success": True, "score": 0.9}}, True, 0.9),
        ({"outcome": "failure"}, False, 0.0),
        ({"label": "positive"}, True, 1.0),
        ({"score": 0.25}, False, 0.25),
        ({"score": 1.0}, True, 1.0),
        ({"correct": 1, "f1": 0.8}, True, 0.8),
        ({"success": False, "info": {"success": True}}, False, 0.0),  # the record itself comes first
    ],
)
def test_where_the_label_stands(tmp_path, fields, success, score):
    (trajectory,) = read(tmp_path, turns(("human", "Q?"), ("gpt", "Answer: 7"), **{"reward": None, **fields}))
    assert (trajectory.outcome.success, trajectory.outcome.score) == (success, score)
    assert trajectory.metadata == fields


def test_question_source_prediction_and_reference_of_the_record(tmp_path):
    record = turns(("human", "Solve: What is 2 + 3?"), ("gpt", "hm"), question="What is 2 + 3?", source=0.7)
    record |= {"prediction": 6, "answer": "2 + 3 = 5\n#### 5", "failure": "tool_error"}
    (trajectory,) = read(tmp_path, record)
    assert trajectory.question == "What is 2 + 3?"
    assert trajectory.source == "0.7"
    assert trajectory.outcome == Outcome(False, 0.0, "tool_error", "6", "5")
    assert trajectory.metadata == {
        "reward": 0,
        "prediction": 6,
        "answer": "2 + 3 = 5\n#### 5",
        "failure": "tool_error",
    }


def test_a_label_that_a_rule_will_supply_may_be_missing_or_wrong(tmp_path):
    for fields in ({}, {"reward": 7}, {"label": "maybe"}):
        record = turns(("human", "Q?"), ("gpt", "Answer: 7"), **{"reward": None, **fields})
        with pytest.raises(BadRow) as error:
            read(tmp_path, record)
        assert error.value.reason == ("wrong_value" if fields else "no_label")
        (trajectory,) = read(tmp_path, record, needs_label=False)
        assert trajectory.metadata == {**fields, "unlabelled": True}
        assert trajectory.outcome == Outcome(False, 0.0, "wrong_answer", "7", None)


FLAWS = [
    ({"conversations": []}, "empty_conversation", "'conversations' is empty"),
    ({"conversations": "text"}, "wrong_value", "'conversations' is \"text\"; it must be a list"),
    ({"conversations": ["hello"]}, "wrong_value", "a message is 'hello'"),
    ({"conversations": [{"from": "narrator", "value": "a"}]}, "wrong_value", "unknown role 'narrator'"),
    ({"conversations": [{"from": "human", "value": None}]}, "wrong_value", "'value' is null; it must be text"),
    ({"conversations": [{"from": "human", "value": "Q?"}]}, "no_agent_turn", "none of its 0 messages"),
    ({"conversations": [{"from": "gpt", "value": "a"}]}, "missing_value", "no user message with the question"),
    (
        {"conversations": [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "a", "loss": "no"}]},
        "wrong_value",
        "'loss' is 'no'; it must be true or false, or a number",
    ),
    ({"info": {}}, "no_label", "success is nowhere said"),
    ({"info": {"reward": 7}}, "wrong_value", "'reward' is 7; it must be true, false or a number from -1 to 1"),
    ({"id": [1]}, "wrong_value", "'id' is [1]; it must be text or a whole number"),
]


def test_every_flaw_is_named_and_the_rest_is_read(tmp_path):
    bad: list[BadRow] = []
    records = [RECORD]
    for number, (change, _, _) in enumerate(FLAWS):
        records += [{**RECORD, **change}, {**RECORD, "id": number}]
    kept = read(tmp_path, *records, on_bad=bad.append)
    assert [t.id for t in kept] == ["shop-17", *(str(number) for number in range(len(FLAWS)))]
    assert [row.reason for row in bad] == [reason for _, reason, _ in FLAWS]
    for row, (_, _, message) in zip(bad, FLAWS, strict=True):
        assert message in row.problem
        assert row.where.startswith(str(tmp_path / "mine.json:"))
