"""Rows of trainers: TRL's unpaired rows, pairs of preference training, verifiers' results and traces."""

import json

import pytest

from nat.core.questions import question_id
from nat.core.rows.bad import BadRow
from nat.trajectories.detection import FORMATS, detect
from nat.trajectories.formats import preferences, trl, verifiers
from nat.trajectories.formats.conversations import read_conversations
from nat.types import Message, Outcome


def read(tmp_path, module, *records, **options):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return [trajectory for _, trajectory in read_conversations(module.conversations, path, **options)]


def refused(tmp_path, module, record):
    with pytest.raises(BadRow) as error:
        read(tmp_path, module, record)
    return error.value


def said(*pairs):
    return [{"role": role, "content": text} for role, text in pairs]


def texts(trajectory):
    return [(message.role, message.content) for message in trajectory.messages]


def prompt_of(trajectory):
    return [(message.role, message.content) for message in trajectory.prompt]


def recognised(record):
    return [format.name for format in FORMATS if format.recognises(record)]


def in_docstring(module, number=0):
    begin = -1
    for _ in range(number + 1):
        begin = module.__doc__.index("\n    {", begin + 1)
    return json.JSONDecoder().raw_decode(module.__doc__, begin + 5)[0]


# ---- trl ----

SKY = {"prompt": said(("user", "Sky?")), "completion": said(("assistant", "Blue.")), "label": True}


def test_an_unpaired_row(tmp_path):
    record = in_docstring(trl)
    assert recognised(record) == ["trl"]
    first, second = read(tmp_path, trl, record, {**record, "label": True, "id": "x"})
    assert (first.id, second.id) == ("mine:1", "x")
    assert first.question == "What colour is grass?"
    assert first.question_id == question_id("What colour is grass?")
    assert first.messages == (Message("assistant", "Red."),)
    assert first.prompt == (Message("user", "What colour is grass?"),)
    assert first.outcome == Outcome(False, 0.0, "wrong_answer", "Red.", None)
    assert second.outcome == Outcome(True, 1.0, None, "Red.", None)
    assert first.metadata == {"label": False}


def test_plain_texts_are_a_prompt_and_a_turn(tmp_path):
    record = {"prompt": "2 + 3?", "completion": " 5", "label": True}
    assert recognised(record) == ["trl"]
    (trajectory,) = read(tmp_path, trl, record)
    assert (trajectory.question, texts(trajectory)) == ("2 + 3?", [("assistant", " 5")])


def test_texts_that_are_messages_as_json(tmp_path):
    record = {"prompt": json.dumps(SKY["prompt"]), "completion": json.dumps(SKY["completion"]), "label": True}
    (trajectory,) = read(tmp_path, trl, record)
    assert (trajectory.question, texts(trajectory)) == ("Sky?", [("assistant", "Blue.")])
    (trajectory,) = read(tmp_path, trl, {"prompt": "[1, 2]", "completion": "[3]", "label": True})  # a list to go on
    assert (trajectory.question, texts(trajectory)) == ("[1, 2]", [("assistant", "[3]")])


def test_a_prompt_carries_no_loss_with_all_its_turns(tmp_path):
    prompt = said(("system", "S"), ("user", "1 + 1?"), ("assistant", "2"), ("user", "2 + 3?"))
    (trajectory,) = read(tmp_path, trl, {**SKY, "prompt": prompt, "completion": said(("assistant", "5"))})
    assert trajectory.question == "2 + 3?"
    assert prompt_of(trajectory) == [("system", "S"), ("user", "1 + 1?"), ("assistant", "2"), ("user", "2 + 3?")]
    assert [message.train for message in trajectory.prompt] == [True, True, False, True]
    assert texts(trajectory) == [("assistant", "5")]
    assert trajectory.metadata == {"label": True, "preamble_messages": 3}


def test_what_stands_before_the_agents_first_turn_is_prompt(tmp_path):
    completion = said(("user", "And grass?"), ("assistant", "Green."))
    (trajectory,) = read(tmp_path, trl, {**SKY, "completion": completion})
    assert prompt_of(trajectory) == [("user", "Sky?"), ("user", "And grass?")]
    assert (trajectory.question, texts(trajectory)) == ("And grass?", [("assistant", "Green.")])


def test_a_completion_with_calls(tmp_path):
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"x": "2+3"}'}}
    completion = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "5"},
        {"role": "assistant", "content": "Answer: 5", "reasoning_content": "It adds."},
    ]
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    (trajectory,) = read(tmp_path, trl, {**SKY, "completion": completion, "tools": json.dumps([tool])})
    assert trajectory.messages == (
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "5"),
        Message("assistant", "Answer: 5", reasoning="It adds."),
    )
    assert trajectory.tools == (tool,)
    assert trajectory.outcome.prediction == "5"


def test_a_completion_alone_is_a_whole_conversation(tmp_path):
    record = {"completion": said(("system", "S"), ("user", "Sky?"), ("assistant", "Blue.")), "label": False}
    assert recognised(record) == ["trl"]
    (trajectory,) = read(tmp_path, trl, record)
    assert trajectory.question == "Sky?"
    assert prompt_of(trajectory) == [("system", "S"), ("user", "Sky?")]
    assert texts(trajectory) == [("assistant", "Blue.")]


@pytest.mark.parametrize(
    ("fields", "success", "score"),
    [
        ({"label": True}, True, 1.0),
        ({"label": 0}, False, 0.0),
        ({"kto_tag": "false"}, False, 0.0),
        ({"reward": 0.25}, False, 0.25),
        ({"label": True, "score": 0.75}, True, 0.75),
    ],
)
def test_where_the_label_of_an_unpaired_row_stands(fields, success, score, tmp_path):
    record = {"prompt": "Sky?", "completion": "Blue.", **fields}
    (trajectory,) = read(tmp_path, trl, record)
    assert (trajectory.outcome.success, trajectory.outcome.score) == (success, score)
    assert trajectory.metadata == fields


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        ({"prompt": ""}, "missing_value", "no user message with the question stands in the prompt"),
        ({"prompt": [7]}, "wrong_value", "a message is 7"),
        ({"prompt": 7}, "wrong_value", "'prompt' is 7; it must be text or a list of messages"),
        ({"completion": ""}, "empty_conversation", "'completion' holds no turn of the agent, or an empty one"),
        ({"completion": []}, "empty_conversation", "'completion' holds no turn of the agent"),
        ({"completion": said(("user", "a"))}, "empty_conversation", "'completion' holds no turn of the agent"),
        ({"completion": None}, "wrong_value", "'completion' is None; it must be text or a list of messages"),
        ({"label": None}, "no_label", "success is nowhere said"),
        ({"label": "maybe"}, "wrong_value", "'label' is 'maybe'"),
    ],
)
def test_flaws_of_unpaired_rows(change, reason, message, tmp_path):
    error = refused(tmp_path, trl, {**SKY, **change})
    assert (error.reason, message in error.problem) == (reason, True), error.problem
    assert error.where == f"{tmp_path}/mine.jsonl:1"


# ---- preferences ----


def test_a_pair_is_a_success_and_a_failure_on_one_question(tmp_path):
    record = in_docstring(preferences)
    assert recognised(record) == ["preferences"]
    wanted, unwanted = read(tmp_path, preferences, {**record, "id": 7})
    assert (wanted.id, unwanted.id) == ("7:chosen", "7:rejected")
    assert wanted.question == unwanted.question == "What colour is the sky?"
    assert wanted.question_id == unwanted.question_id
    assert (texts(wanted), texts(unwanted)) == ([("assistant", "Blue.")], [("assistant", "Green.")])
    assert wanted.outcome == Outcome(True, 1.0, None, "Blue.", None)
    assert unwanted.outcome == Outcome(False, 0.0, "wrong_answer", "Green.", None)
    assert wanted.metadata == unwanted.metadata == {"score_chosen": 9.0, "score_rejected": 2.0}
    assert prompt_of(wanted) == prompt_of(unwanted) == [("user", "What colour is the sky?")]


ASKED = said(("user", "Sky?"))
PAIR = {"chosen": said(("assistant", "Blue.")), "rejected": said(("assistant", "Green."))}
WHOLE = {key: ASKED + answer for key, answer in PAIR.items()}


@pytest.mark.parametrize(
    ("record", "prompt"),
    [
        ({"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."}, [("user", "Sky?")]),
        ({"prompt": ASKED, **PAIR}, [("user", "Sky?")]),
        ({"messages": ASKED, **PAIR}, [("user", "Sky?")]),
        ({"question": "Sky?", **PAIR}, [("user", "Sky?")]),
        ({"query": "Sky?", **PAIR}, [("user", "Sky?")]),
        ({"input": "Sky?", **PAIR}, [("user", "Sky?")]),
        ({"system": "S", "question": "Sky?", **PAIR}, [("system", "S"), ("user", "Sky?")]),
        ({"prompt": ASKED, "chosen": PAIR["chosen"][0], "rejected": PAIR["rejected"][0]}, [("user", "Sky?")]),
        (
            {
                "conversations": [{"from": "human", "value": "Sky?"}],
                "chosen": {"from": "gpt", "value": "Blue."},
                "rejected": {"from": "gpt", "value": "Green."},
            },
            [("user", "Sky?")],
        ),
        (
            {"instruction": "Name a colour.", "input": "Sky?", "history": [["a", "b"]], **PAIR},
            [("user", "a"), ("assistant", "b"), ("user", "Name a colour.\nSky?")],
        ),
        (
            {
                "input": {"messages": ASKED},
                "preferred_output": PAIR["chosen"],
                "non_preferred_output": PAIR["rejected"],
            },
            [("user", "Sky?")],
        ),
        # Without a prompt of its own, and with one that both answers repeat.
        (WHOLE, [("user", "Sky?")]),
        ({"prompt": "Sky?", **WHOLE}, [("user", "Sky?")]),
        ({"prompt": said(("system", "S"), ("user", "Sky?")), **WHOLE}, [("system", "S"), ("user", "Sky?")]),
        (
            {"chosen": "\n\nHuman: Sky?\n\nAssistant: Blue.", "rejected": "\n\nHuman: Sky?\n\nAssistant: Green."},
            [("user", "Sky?")],
        ),
        ({"prompt": "\n\nHuman: Sky?\n\nAssistant:", "chosen": "Blue.", "rejected": "Green."}, [("user", "Sky?")]),
        (
            {"chosen": "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Sky?\n\nAssistant: Blue.",
             "rejected": "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Sky?\n\nAssistant: Green."},
            [("user", "Hi"), ("assistant", "Yes?"), ("user", "Sky?")],
        ),
    ],
)  # fmt: skip
def test_where_a_pairs_prompt_stands(record, prompt, tmp_path):
    assert recognised(record) == ["preferences"]
    wanted, unwanted = read(tmp_path, preferences, record)
    assert prompt_of(wanted) == prompt_of(unwanted) == prompt
    assert wanted.question == prompt[-1][1]
    assert (texts(wanted), texts(unwanted)) == ([("assistant", "Blue.")], [("assistant", "Green.")])
    assert not any(message.train for message in wanted.prompt if message.role == "assistant")


def test_one_of_the_conversations_beside_the_pair_is_no_prompt(tmp_path):
    record = {
        "prompt_id": "p",
        "messages": ASKED + PAIR["chosen"],
        **WHOLE,
    }
    wanted, unwanted = read(tmp_path, preferences, record)
    assert (prompt_of(wanted), texts(wanted)) == ([("user", "Sky?")], [("assistant", "Blue.")])
    assert (prompt_of(unwanted), texts(unwanted)) == ([("user", "Sky?")], [("assistant", "Green.")])


def test_pairs_of_several_turns_share_what_they_begin_with(tmp_path):
    shared = said(("user", "Find it."), ("assistant", "I look."), ("user", "Well?"))
    record = {
        "chosen": shared + said(("assistant", "Here."), ("user", "Thanks"), ("assistant", "Bye.")),
        "rejected": shared + said(("assistant", "No.")),
    }
    wanted, unwanted = read(tmp_path, preferences, record)
    assert prompt_of(wanted) == [("user", "Find it."), ("assistant", "I look."), ("user", "Well?")]
    assert texts(wanted) == [("assistant", "Here."), ("user", "Thanks"), ("assistant", "Bye.")]
    assert texts(unwanted) == [("assistant", "No.")]
    assert not wanted.prompt[1].train


def test_a_pair_keeps_reference_and_tools_and_no_prediction(tmp_path):
    tool = {"type": "function", "function": {"name": "look"}}
    record = {"prompt": "Sky?", **PAIR, "answer": "Blue.", "pred": "x", "tools": [tool], "label": False}
    wanted, unwanted = read(tmp_path, preferences, record)
    assert wanted.outcome == Outcome(True, 1.0, None, "Blue.", "Blue.")
    assert unwanted.outcome == Outcome(False, 0.0, "wrong_answer", "Green.", "Blue.")
    assert wanted.tools == unwanted.tools == (tool,)
    assert wanted.metadata == {"answer": "Blue.", "pred": "x", "label": False}


@pytest.mark.parametrize(
    ("record", "reason", "message"),
    [
        ({"prompt": "Sky?", "chosen": "a", "rejected": "a"}, "wrong_value", "'chosen' and 'rejected' are the same"),
        ({"prompt": "Sky?", "chosen": "a", "rejected": ""}, "missing_value", "'rejected' is missing or empty"),
        ({"prompt": "Sky?", "chosen": "a"}, "missing_value", "'rejected' is missing or empty"),
        ({"chosen": "a", "rejected": "b"}, "missing_value", "no user message with the question"),
        (
            {"chosen": said(("user", "A?"), ("assistant", "a")), "rejected": said(("user", "B?"), ("assistant", "b"))},
            "wrong_value",
            "'chosen' and 'rejected' differ first in a user message",
        ),
        (
            {"chosen": ASKED + PAIR["chosen"], "rejected": ASKED + PAIR["chosen"] + said(("user", "x"))},
            "wrong_value",
            "the other answer begins with all of 'chosen'",
        ),
        ({"prompt": "Grass?", **WHOLE}, "wrong_value", "the prompt 'Grass?' is not asked"),
        ({"prompt": "Sky?", "chosen": [7], "rejected": "b"}, "wrong_value", "a message is 7"),
        ({"prompt": "Sky?", "chosen": 7, "rejected": "b"}, "wrong_value", "'chosen' is 7; it must be text or a list"),
    ],
)
def test_flaws_of_pairs(record, reason, message, tmp_path):
    error = refused(tmp_path, preferences, record)
    assert (error.reason, message in error.problem) == (reason, True), error.problem


# ---- written by TRL itself ----


def test_pairs_and_what_trl_makes_of_them_are_read_alike(tmp_path):
    trainer = pytest.importorskip("trl.data_utils", reason="the extra that trains is not installed")
    datasets = pytest.importorskip("datasets")
    pairs = [
        {"chosen": said(("user", f"{n} + 1?"), ("assistant", f"{n + 1}")),
         "rejected": said(("user", f"{n} + 1?"), ("assistant", f"{n}"))}
        for n in range(4)
    ]  # fmt: skip
    explicit = [trainer.extract_prompt(pair) for pair in pairs]
    unpaired = trainer.unpair_preference_dataset(datasets.Dataset.from_list(explicit))
    path = tmp_path / "unpaired.jsonl"
    unpaired.to_json(path)
    table = tmp_path / "unpaired.parquet"
    unpaired.to_parquet(table)

    def told(trajectories):
        return sorted((t.question, t.outcome.success, texts(t), prompt_of(t)) for t in trajectories)

    expected = told(read(tmp_path, preferences, *pairs))
    assert len(expected) == 8
    assert expected[0] == ("0 + 1?", False, [("assistant", "0")], [("user", "0 + 1?")])
    assert told(read(tmp_path, preferences, *explicit)) == expected
    for written in (path, table):
        assert detect(written).name == "trl"
        assert told(t for _, t in read_conversations(trl.conversations, written)) == expected


# ---- verifiers: results ----

RESULT = {
    "example_id": 0,
    "task": "sums",
    "prompt": said(("user", "2 + 3?")),
    "completion": said(("assistant", "5")),
    "answer": "5",
    "reward": 1.0,
    "metrics": {"exact": 1.0},
    "stop_condition": "no_tools",
    "error": None,
}


def test_a_result(tmp_path):
    record = in_docstring(verifiers)
    assert record == RESULT
    assert recognised(record) == ["verifiers"]
    first, second = read(tmp_path, verifiers, record, {**record, "reward": 0.0, "completion": said(("assistant", "6"))})
    assert (first.id, second.id) == ("mine:1", "mine:2")
    assert first.question == "2 + 3?"
    assert first.question_id == second.question_id == "sums/0"
    assert (texts(first), prompt_of(first)) == ([("assistant", "5")], [("user", "2 + 3?")])
    assert first.outcome == Outcome(True, 1.0, None, "5", "5")
    assert second.outcome == Outcome(False, 0.0, "wrong_answer", "6", "5")
    assert first.metadata == {
        "task": "sums",
        "example_id": 0,
        "answer": "5",
        "reward": 1.0,
        "metrics": {"exact": 1.0},
        "stop_condition": "no_tools",
    }


def test_what_verifiers_writes_of_calls(tmp_path):
    call = {"id": "c1", "name": "add", "arguments": '{"x": "2+3"}'}
    completion = [
        {"role": "assistant", "content": "", "tool_calls": [json.dumps(call)], "reasoning_content": "I add."},
        {"role": "tool", "tool_call_id": "c1", "content": "5"},
        {"role": "assistant", "content": "5"},
    ]
    tools = [{"name": "add", "description": "", "parameters": {}}]
    (trajectory,) = read(tmp_path, verifiers, {**RESULT, "completion": completion, "tool_defs": tools})
    assert trajectory.messages == (
        Message("assistant", "", tool_calls=(call,), reasoning="I add."),
        Message("tool", "5"),
        Message("assistant", "5"),
    )
    assert trajectory.tools == tuple(tools)
    info = {"oai_tools": tools}
    for given in (info, json.dumps(info)):
        (trajectory,) = read(tmp_path, verifiers, {**RESULT, "info": given})
        assert trajectory.tools == tuple(tools)


def test_texts_have_the_role_text_where_a_model_completes_texts(tmp_path):
    record = {**RESULT, "prompt": said(("text", "2 + 3 =")), "completion": said(("text", "5"))}
    (trajectory,) = read(tmp_path, verifiers, record)
    assert (prompt_of(trajectory), texts(trajectory)) == ([("user", "2 + 3 =")], [("assistant", "5")])
    (trajectory,) = read(tmp_path, verifiers, {**RESULT, "prompt": "2 + 3 =", "completion": "5"})
    assert (prompt_of(trajectory), texts(trajectory)) == ([("user", "2 + 3 =")], [("assistant", "5")])


@pytest.mark.parametrize(
    ("fields", "task"),
    [
        ({"example_id": 3, "task": "sums"}, "sums/3"),
        ({"example_id": "a", "task": None, "env_id": "gsm8k"}, "gsm8k/a"),
        ({"example_id": 3, "task": None}, "3"),
        ({"example_id": None, "task": "sums"}, question_id("2 + 3?")),
    ],
)
def test_the_task_of_a_result(fields, task, tmp_path):
    (trajectory,) = read(tmp_path, verifiers, {**RESULT, **fields})
    assert trajectory.question_id == task


@pytest.mark.parametrize(
    ("fields", "success", "score", "failure"),
    [
        ({"reward": 0.5}, False, 0.5, "wrong_answer"),
        ({"reward": -0.5}, False, 0.0, "wrong_answer"),
        ({"reward": 0.5, "correct": True}, True, 1.0, None),  # a metric that says success itself
        ({"reward": 0.0, "score": 1.0}, False, 0.0, "wrong_answer"),
        ({"reward": 0.0, "stop_condition": "max_turns_reached"}, False, 0.0, "out_of_turns"),
        ({"reward": 0.0, "stop_condition": "prompt_too_long"}, False, 0.0, "no_answer"),
        ({"reward": 0.0, "stop_condition": "max_total_completion_tokens_reached"}, False, 0.0, "no_answer"),
        ({"reward": 1.0, "stop_condition": "max_turns_reached"}, True, 1.0, None),
        ({"reward": 1.0, "error": "SandboxError: gone"}, False, 0.0, "infrastructure"),
        ({"reward": 0.0, "error": {"error": "ModelError", "error_chain_str": "timeout"}}, False, 0.0, "infrastructure"),
        ({"reward": 0.0, "error": {"error": "ToolParseError"}}, False, 0.0, "tool_error"),
        ({"reward": 0.0, "error": "ToolCallError('x')"}, False, 0.0, "tool_error"),
        ({"reward": None, "error": "ModelError"}, False, 0.0, "infrastructure"),
        ({"reward": 0.0, "stop_condition": "timeout_reached"}, False, 0.0, "infrastructure"),
    ],
)
def test_how_a_result_ended(fields, success, score, failure, tmp_path):
    (trajectory,) = read(tmp_path, verifiers, {**RESULT, **fields})
    outcome = trajectory.outcome
    assert (outcome.success, outcome.score, outcome.failure) == (success, score, failure)


def test_a_run_that_broke_before_the_first_turn_is_infrastructure(tmp_path):
    for completion in (None, [], ""):
        error = refused(tmp_path, verifiers, {**RESULT, "completion": completion, "error": "ModelError"})
        assert error.reason == "infrastructure", completion
    error = refused(tmp_path, verifiers, {**RESULT, "completion": []})
    assert error.reason == "empty_conversation"


def step(prompt, completion):
    return {"prompt": prompt, "completion": completion, "reward": None}


def test_steps_that_go_on_are_one_trajectory(tmp_path):
    asked, first = said(("user", "Q?")), said(("assistant", "a"))
    result, second = said(("user", "more?")), said(("assistant", "b"))
    steps = [step(asked, first), step(asked + first + result, second)]
    record = {key: value for key, value in RESULT.items() if key not in ("prompt", "completion")}
    assert recognised({**record, "trajectory": steps}) == ["verifiers"]
    (trajectory,) = read(tmp_path, verifiers, {**record, "trajectory": steps})
    assert prompt_of(trajectory) == [("user", "Q?")]
    assert texts(trajectory) == [("assistant", "a"), ("user", "more?"), ("assistant", "b")]
    assert trajectory.id == "mine:1"


def test_steps_whose_context_was_rewritten_are_several_trajectories(tmp_path):
    asked = said(("user", "Q?"))
    summary = said(("user", "Q? So far: a."))
    steps = [step(asked, said(("assistant", "a"))), step(summary, said(("assistant", "b")))]
    record = {key: value for key, value in RESULT.items() if key not in ("prompt", "completion")}
    first, second = read(tmp_path, verifiers, {**record, "id": "r", "trajectory": steps})
    assert (first.id, second.id) == ("r:0", "r:1")
    assert (first.question_id, second.question_id) == ("sums/0", "sums/0")
    assert (texts(first), texts(second)) == ([("assistant", "a")], [("assistant", "b")])
    assert first.outcome.success
    assert second.outcome.success


# ---- verifiers: traces ----


def node(parent, role, text, sampled=False, **more):
    return {"parent": parent, "message": {"role": role, "content": text, **more}, "sampled": sampled}


TRACE = {
    "id": "t1",
    "task": {"key": "sums-0", "data": {"idx": 0, "answer": "5"}},
    "rewards": {"exact": {"score": 1.0, "weight": 1.0}},
    "nodes": [node(None, "user", "2 + 3?"), node(0, "assistant", "5", True)],
    "errors": [],
}


def test_a_trace(tmp_path):
    record = in_docstring(verifiers, 1)
    assert {**record, "id": "t1"} == TRACE
    assert recognised(record) == ["verifiers"]
    (trajectory,) = read(tmp_path, verifiers, TRACE)
    assert (trajectory.id, trajectory.question, trajectory.question_id) == ("t1", "2 + 3?", "sums-0")
    assert (prompt_of(trajectory), texts(trajectory)) == ([("user", "2 + 3?")], [("assistant", "5")])
    assert trajectory.outcome == Outcome(True, 1.0, None, "5", "5")


@pytest.mark.parametrize(
    ("rewards", "success", "score"),
    [
        ({"a": {"score": 0.5, "weight": 1.0}, "b": {"score": 0.5, "weight": 1.0}}, True, 1.0),
        ({"a": {"score": 1.0, "weight": 0.5}, "b": {"score": 1.0, "weight": 0.0}}, False, 0.5),
        ({"a": 1.0}, True, 1.0),
        ({"a": {"score": 1.0}, "b": None}, True, 1.0),
    ],
)
def test_rewards_are_summed_by_their_weights(rewards, success, score, tmp_path):
    (trajectory,) = read(tmp_path, verifiers, {**TRACE, "rewards": rewards})
    assert (trajectory.outcome.success, trajectory.outcome.score) == (success, score)
    assert trajectory.metadata["reward"] == score


def test_branches_are_several_trajectories_in_which_a_turn_carries_loss_once(tmp_path):
    nodes = [
        node(None, "system", "S"),
        node(0, "user", "Q?"),
        node(1, "assistant", "a", True),
        node(2, "user", "more?"),
        node(3, "assistant", "b", True),
        node(2, "user", "or this?"),
        node(5, "assistant", "c", True),
    ]
    first, second = read(tmp_path, verifiers, {**TRACE, "nodes": nodes})
    assert (first.id, second.id) == ("t1:0", "t1:1")
    assert texts(first) == [("assistant", "a"), ("user", "more?"), ("assistant", "b")]
    assert texts(second) == [("assistant", "a"), ("user", "or this?"), ("assistant", "c")]
    assert [m.train for m in first.messages if m.role == "assistant"] == [True, True]
    assert [m.train for m in second.messages if m.role == "assistant"] == [False, True]


def test_turns_that_were_not_sampled_carry_no_loss(tmp_path):
    nodes = [
        node(None, "user", "1 + 1?"),
        node(0, "assistant", "2"),
        node(1, "user", "2 + 3?"),
        node(2, "assistant", "5", True),
    ]
    (trajectory,) = read(tmp_path, verifiers, {**TRACE, "nodes": nodes})
    assert trajectory.question == "2 + 3?"
    assert texts(trajectory) == [("assistant", "5")]
    assert [m.train for m in trajectory.prompt] == [True, False, True]
    marked = [node(None, "system", "S", True), node(0, "user", "Q?"), node(1, "assistant", "5", True)]
    (trajectory,) = read(tmp_path, verifiers, {**TRACE, "nodes": marked})
    assert texts(trajectory) == [("assistant", "5")]  # only the agent's turns are sampled
    unanswered = [*nodes, node(3, "user", "bye"), node(3, "user", "or?")]
    first, *rest = read(tmp_path, verifiers, {**TRACE, "nodes": unanswered})
    assert texts(first)[0] == ("assistant", "5")
    assert rest == []  # what follows a turn of another branch, and was never answered


def test_a_summary_from_which_the_agent_did_not_go_on_is_left_out(tmp_path):
    attempt = {
        **node(1, "assistant", "So far: a.", True),
        "semantic_parents": [{"node": 1, "type": "compaction_attempt"}],
    }
    nodes = [node(None, "user", "Q?"), node(0, "assistant", "a", True), attempt, node(1, "user", "on"),
             node(3, "assistant", "b", True)]  # fmt: skip
    (trajectory,) = read(tmp_path, verifiers, {**TRACE, "nodes": nodes})
    assert texts(trajectory) == [("assistant", "a"), ("user", "on"), ("assistant", "b")]
    assert trajectory.metadata["compaction_attempts_left_out"] == 1
    nodes[3] = {**nodes[3], "semantic_parents": [{"node": 2, "type": "compaction"}]}
    first, second = read(tmp_path, verifiers, {**TRACE, "nodes": nodes})
    assert texts(first) == [("assistant", "a"), ("assistant", "So far: a.")]
    assert "compaction_attempts_left_out" not in first.metadata
    assert texts(second) == texts(trajectory)
    (alone,) = read(tmp_path, verifiers, {**TRACE, "nodes": nodes[:3]})  # nothing else is there
    assert texts(alone) == texts(first)


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ({"stop_condition": "max_turns"}, "out_of_turns"),
        ({"stop_condition": "max_total_tokens"}, "no_answer"),
        ({"stop_condition": "compaction_failed"}, "no_answer"),
        ({"stop_condition": "agent_timeout", "is_timeout": True}, "out_of_turns"),
        ({"stop_condition": "scoring_timeout", "is_timeout": True}, "infrastructure"),
        ({"stop_condition": "sandbox_error", "errors": [{"type": "SandboxError", "message": "x"}]}, "infrastructure"),
        ({"ok": True, "errors": [{"type": "SandboxError", "message": "the first attempt"}]}, "wrong_answer"),
    ],
)
def test_how_a_trace_ended(fields, failure, tmp_path):
    rewards = {"exact": {"score": 0.0, "weight": 1.0}}
    (trajectory,) = read(tmp_path, verifiers, {**TRACE, "rewards": rewards, **fields})
    assert (trajectory.outcome.success, trajectory.outcome.failure) == (False, failure)


def test_an_episode_whose_environment_broke_is_nobodys_failure(tmp_path):
    record = {"id": "e1", "task": TRACE["task"], "traces": [{**TRACE, "ok": True}], "ok": False}
    (trajectory,) = read(tmp_path, verifiers, {**record, "errors": [{"type": "EnvError", "message": "finalize"}]})
    assert (trajectory.outcome.success, trajectory.outcome.failure) == (False, "infrastructure")
    (trajectory,) = read(tmp_path, verifiers, {**record, "ok": True, "errors": [{"type": "EnvError"}]})
    assert trajectory.outcome.success
    error = refused(tmp_path, verifiers, {**record, "traces": [], "errors": [{"type": "EnvError"}]})
    assert error.reason == "infrastructure"


def test_an_episode_of_traces(tmp_path):
    judge = {"agent": {"trainable": False}, "nodes": [node(None, "assistant", "fine", True)]}
    traces = [{key: value for key, value in TRACE.items() if key not in ("id", "task")}, judge]
    record = {"id": "e1", "task": TRACE["task"], "traces": traces}
    assert recognised(record) == ["verifiers"]
    (trajectory,) = read(tmp_path, verifiers, record)
    assert (trajectory.id, trajectory.question_id) == ("e1", "sums-0")
    assert trajectory.metadata["traces_of_others"] == 1
    first, second = read(tmp_path, verifiers, {**record, "traces": [traces[0], traces[0]]})
    assert (first.id, second.id) == ("e1:0", "e1:1")


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        ({"nodes": []}, "no_agent_turn", "none of its 0 messages is the agent's"),
        ({"nodes": [node(None, "user", "Q?")]}, "no_agent_turn", "none of its 1 messages"),
        ({"nodes": [node(None, "user", "Q?")], "errors": ["ModelError"]}, "infrastructure", "none of its 1 messages"),
        ({"nodes": [7]}, "wrong_value", "node 0 is 7"),
        ({"nodes": [node(3, "user", "Q?")]}, "wrong_value", "the parent of node 0 is 3"),
        ({"nodes": [node(0, "user", "Q?")]}, "wrong_value", "the parent of node 0 is 0"),
        ({"nodes": [node(True, "user", "Q?")]}, "wrong_value", "the parent of node 0 is True"),
        ({"rewards": {"a": "b"}}, "wrong_value", "the reward 'a' is 'b'"),
        ({"rewards": {}}, "no_label", "success is nowhere said"),
    ],
)
def test_flaws_of_traces(change, reason, message, tmp_path):
    error = refused(tmp_path, verifiers, {**TRACE, **change})
    assert (error.reason, message in error.problem) == (reason, True), error.problem


def test_files_of_each_are_found(tmp_path):
    records = {"trl": SKY, "preferences": {"prompt": "Sky?", **PAIR}, "verifiers": RESULT}
    for name, record in records.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text(json.dumps(record) + "\n" + json.dumps(record) + "\n")
        assert detect(path).name == name
