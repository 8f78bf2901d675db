"""Records of steps, ToolBench's answers and ToRA's outputs: turns, calls, observations, labels, and flaws."""

import json
from pathlib import Path

import pytest

from nat.core.rows.bad import BadRow
from nat.trajectories import reading
from nat.trajectories.detection import FORMATS, detect
from nat.trajectories.formats import steps, toolbench, tora
from nat.trajectories.formats.conversations import read_conversations
from nat.trajectories.formats.tool_calls import as_react_text
from nat.types import Message, Outcome
from tests.conftest import DATA, trajectory_files

RECORDS = (steps, toolbench, tora)
REPORTED = DATA.parent / "reported" / "formats"


def read(tmp_path: Path, format, *records, **options):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(records, indent=1))
    return [trajectory for _, trajectory in read_conversations(format.conversations, path, **options)]


def refused(tmp_path: Path, format, record) -> str:
    with pytest.raises(BadRow) as error:
        read(tmp_path, format, record)
    return f"{error.value.reason}: {error.value.problem}"


def record_of(format) -> dict:
    """The record in a format's documentation."""
    begin = format.__doc__.index("    {")
    return json.JSONDecoder().raw_decode(format.__doc__, begin + 4)[0]


@pytest.fixture
def reported() -> Path:
    """Files as their producers write them; tests that need them skip elsewhere."""
    if not REPORTED.is_dir():
        pytest.skip(f"reported files are not here: {REPORTED} does not exist")
    return REPORTED


@pytest.mark.parametrize("format", RECORDS, ids=lambda format: format.NAME)
def test_the_record_in_the_documentation_is_of_one_format(tmp_path, format):
    record = record_of(format)
    assert [other.name for other in FORMATS if other.recognises(record)] == [format.NAME]
    assert read(tmp_path, format, record)


# ---- steps ----


def with_steps(*given, **fields):
    return {"question": "Which pod fails?", "reward": 1, "steps": list(given), **fields}


def test_steps_become_calls_observations_and_text_actions(tmp_path):
    (trajectory,) = read(tmp_path, steps, record_of(steps))
    assert (trajectory.id, trajectory.question) == ("t1", "Which pod fails?")
    assert trajectory.prompt == (Message("user", "Which pod fails?"),)
    call = {"tool_name": "get_pods", "tool_args": {"ns": "x"}}
    assert trajectory.messages == (
        Message("assistant", "Look.", tool_calls=(call,)),
        Message("tool", "p1 fails"),
        Message("assistant", "Thought: It is p1.\nAction: finish[p1]"),
    )
    assert trajectory.outcome == Outcome(True, 1.0, None, "p1", None)
    assert trajectory.metadata == {"reward": 1}


@pytest.mark.parametrize(
    ("step", "written"),
    [
        ({"thought": "a", "action": "search", "action_input": "b]"}, "Thought: a\nAction: search[b]]"),
        ({"thought": "a", "action": "search", "action_input": {"q": "b"}}, "Thought: a\nAction: search[b]"),
        ({"thought": "a", "tool": "search", "tool_input": {"q": "b"}}, "Thought: a\nAction: search[b]"),
        ({"thought": "a", "action": {"tool": "search", "tool_input": "b"}}, "Thought: a\nAction: search[b]"),
        ({"thought": "a", "action": {"type": "click", "at": 3}}, "Thought: a\nAction: click[3]"),
        ({"thought": "a", "action": {"click": {"at": 3}}}, "Thought: a\nAction: click[3]"),
        ({"thought": "a", "action": {"name": "click", "params": {"at": 3}}}, "Thought: a\nAction: click[3]"),
        ({"thought": "a", "action": '{"name": "click", "arguments": {"at": 3}}'}, "Thought: a\nAction: click[3]"),
        ({"thought": "a", "action": {"name": "stop"}}, "Thought: a\nAction: stop[]"),
        ({"thought": "a", "action": "go to shelf 1"}, "Thought: a\nAction: go to shelf 1"),
        ({"thought": "Thought: a", "action": "Action: search[b]"}, "Thought: a\nAction: search[b]"),
        ({"response": "Thought: a\nAction: search[b]", "action": "search[b]"}, "Thought: a\nAction: search[b]"),
        ({"action": "Final Answer", "thought": "a", "action_input": "b"}, "Thought: a\nFinal Answer: b"),
        ({"thought": "a", "action": None, "answer": "b"}, "a\nAnswer: b"),
    ],
)
def test_actions_by_their_spellings(tmp_path, step, written):
    (trajectory,) = read(tmp_path, steps, with_steps({**step, "observation": "c"}))
    assert [m.content for m in as_react_text(trajectory.messages)] == [written, "c"]


def test_several_calls_of_a_step_with_an_observation_each(tmp_path):
    calls = [{"name": "a", "arguments": {"x": 1}}, {"name": "b", "arguments": {}}]
    (trajectory,) = read(tmp_path, steps, with_steps({"thought": "t", "action": calls, "observation": ["1", {"y": 2}]}))
    assert trajectory.messages == (
        Message("assistant", "t", tool_calls=tuple(calls)),
        Message("tool", "1"),
        Message("tool", '{"y": 2}'),
    )


def test_pairs_as_langchain_writes_them(tmp_path):
    log = "Thought: I look it up.\nAction: search\nAction Input: Emma"
    record = {
        "input": "Who wrote Emma?",
        "intermediate_steps": [[{"tool": "search", "tool_input": "Emma", "log": log}, "By Jane Austen."]],
        "output": "Jane Austen",
        "success": False,
    }
    assert steps.recognises(record)
    (trajectory,) = read(tmp_path, steps, record)
    assert trajectory.question == "Who wrote Emma?"
    assert trajectory.messages == (
        Message("assistant", "I look it up.", tool_calls=({"tool": "search", "tool_input": "Emma"},)),
        Message("tool", "By Jane Austen."),
        Message("assistant", "Jane Austen"),
    )
    assert trajectory.outcome == Outcome(False, 0.0, "wrong_answer", "Jane Austen", None)
    stopped = {**record, "output": "Agent stopped due to max iterations."}
    (trajectory,) = read(tmp_path, steps, stopped)
    assert trajectory.outcome.failure == "out_of_turns"
    assert len(trajectory.messages) == 2


def test_an_observation_that_is_written_first_was_seen_first(tmp_path):
    given = [
        {"observation": "a hall", "thought": "north", "action": "go[north]"},
        {"observation": "a door", "thought": "in", "action": "go[in]"},
    ]
    (trajectory,) = read(tmp_path, steps, {"goal": "Leave the house.", "steps": given, "success": True})
    assert trajectory.question == "Leave the house."
    assert trajectory.prompt == (Message("user", "Leave the house.\n\na hall"),)
    assert [(m.role, m.content) for m in trajectory.messages] == [
        ("assistant", "Thought: north\nAction: go[north]"),
        ("tool", "a door"),
        ("assistant", "Thought: in\nAction: go[in]"),
    ]


def test_labels_of_the_record_go_before_those_of_the_last_step(tmp_path):
    last = {"thought": "t", "action": "finish[a]", "observation": "", "reward": 1}
    (by_step,) = read(tmp_path, steps, {"question": "Q?", "steps": [{**last, "reward": 0}, last]})
    (by_record,) = read(tmp_path, steps, {"question": "Q?", "steps": [last], "info": {"success": False}})
    assert (by_step.outcome.success, by_record.outcome.success) == (True, False)


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ({"error": "openai.RateLimitError"}, "infrastructure"),
        ({"status": "timeout"}, "infrastructure"),
        ({"stop_reason": "max_iterations"}, "out_of_turns"),
        ({"status": "agent context limit"}, "no_answer"),
        ({"status": "completed", "error": None}, "tool_error"),
    ],
)
def test_why_an_episode_ended(tmp_path, fields, failure):
    given = {"thought": "t", "action": "search[a]", "observation": "Error: no such page"}
    (trajectory,) = read(tmp_path, steps, with_steps(given, **{**fields, "reward": 0}))
    assert trajectory.outcome.failure == failure


def test_what_no_turn_can_hold_is_counted(tmp_path):
    given = [{"plan": "First look."}, {"thought": "t", "action": "search[a]", "observation": "b", "screen": "<html>"}]
    (trajectory,) = read(tmp_path, steps, with_steps(*given))
    assert trajectory.metadata["left_out_parts"] == {"step.plan": 1, "step": 1, "step.screen": 1}


def test_steps_that_cannot_be_read(tmp_path):
    assert refused(tmp_path, steps, with_steps()) == "empty_conversation: 'steps' is empty: the agent never acted."
    good = {"thought": "t", "action": "finish[a]", "observation": ""}
    assert refused(tmp_path, steps, with_steps(good, "stop")) == (
        "wrong_value: a step of 'steps' is 'stop'; it must be an object."
    )
    assert refused(tmp_path, steps, with_steps({**good, "action": {"x": 1, "y": 2}})) == (
        "wrong_value: an action is {'x': 1, 'y': 2}; it must be text, or an object that names a tool."
    )
    assert refused(tmp_path, steps, {"steps": [good], "reward": 1}).startswith("missing_value: no user message with")


def test_records_of_other_formats_are_not_taken_for_steps():
    message = {"role": "assistant", "content": "a", "thought": "b", "action": "c", "observation": "d"}
    event = {"source": "agent", "action": "run", "args": {}, "observation": "d"}
    step = {"thought": "t", "action": "finish[a]", "observation": ""}
    for value in ({"steps": [message]}, {"history": [event]}, {"steps": ["look"]}, {"messages": [], "steps": [step]}):
        assert not steps.recognises(value)
    both = {"instruction": "Q?", "output": "a", "steps": [step]}
    assert [format.name for format in FORMATS if format.recognises(both)] == ["steps"]


# ---- ToolBench ----


def nodes(*given):
    """A tree of one path: (type, description, observation)."""
    below: list = []
    for kind, text, *seen in reversed(given):
        observed = {"observation": seen[0]} if seen else {}
        below = [{"node_type": kind, "description": text, "children": below, **observed}]
    return below


def answered(**fields):
    made = {"valid_data": True, "query": "Rain in X?", "finish_type": "give_answer", "function": [{"name": "weather"}]}
    return {"win": False, "answer_generation": {**made, **fields}}


def test_toolbench_reads_the_last_of_the_train_messages(tmp_path):
    (trajectory,) = read(tmp_path, toolbench, record_of(toolbench))
    assert (trajectory.question, trajectory.tools) == ("Weather in X?", ({"name": "weather", "parameters": {}},))
    assert trajectory.prompt == (Message("system", "Use functions."), Message("user", "Weather in X?"))
    call = {"function": {"name": "weather", "arguments": '{"city": "X"}'}}
    assert trajectory.messages == (Message("assistant", "", tool_calls=(call,)),)
    assert trajectory.outcome == Outcome(True, 1.0, None, "Sun.", None)
    assert trajectory.metadata["finish_type"] == "give_answer"


def test_toolbench_reads_the_last_path_of_a_search_that_found_nothing(tmp_path):
    first = nodes(("Action", "weather"), ("Action Input", "{}", "where?"))
    second = nodes(
        ("Thought", "X it is."),
        ("Action", "weather"),
        ("Action Input", '{"c": "X"}', "401"),
        ("Thought", "It does not work."),
    )
    record = {**answered(valid_data=False, final_answer=""), "tree": {"tree": {"children": [*first, *second]}}}
    (trajectory,) = read(tmp_path, toolbench, record)
    assert trajectory.messages == (
        Message("assistant", "X it is.", tool_calls=({"function": {"name": "weather", "arguments": '{"c": "X"}'}},)),
        Message("tool", "401"),
        Message("assistant", "It does not work."),
    )
    assert trajectory.metadata["other_paths"] == 1
    chain = [{key: node[key] for key in node if key != "children"} for node in first]
    chain += [{key: node[key] for key in node if key != "children"} for node in first[0]["children"]]
    tries = {**answered(valid_data=False, train_messages=[]), "trys": [{"chain": []}, {"chain": chain}]}
    (trajectory,) = read(tmp_path, toolbench, tries)
    assert [m.role for m in trajectory.messages] == ["assistant", "tool"]
    assert trajectory.metadata["other_paths"] == 1


def test_toolbench_giving_up_is_abstaining(tmp_path):
    call = {"name": "Finish", "arguments": '{"return_type": "give_up_and_restart"}'}
    path = [{"role": "user", "content": "Rain in X?"}, {"role": "assistant", "content": None, "function_call": call}]
    record = answered(finish_type="give_up", final_answer=call["arguments"], train_messages=[path])
    (trajectory,) = read(tmp_path, toolbench, record)
    assert (trajectory.outcome.failure, trajectory.outcome.success) == ("abstained", False)


def test_what_tooleval_makes_of_answers_has_no_label(tmp_path):
    call = {"name": "weather", "arguments": '{"c": "X"}', "response": "rain"}
    finish = {"role": "tool", "message": str({"name": "Finish", "arguments": "{}", "response": ""}), "next": []}
    details = {"role": "assistant", "message": "I look.", "next": [{"role": "tool", "message": call, "next": [finish]}]}
    answer = {
        "method": "CoT",
        "final_answer": '{"return_type": "give_answer", "final_answer": "Yes."}',
        "answer_details": [{"role": "system", "message": "", "next": [details]}],
    }
    record = {"query": "Rain in X?", "available_tools": [{"name": "weather"}], "answer": answer}
    assert [format.name for format in FORMATS if format.recognises(record)] == ["toolbench"]
    assert refused(tmp_path, toolbench, record).startswith("no_label: success is nowhere said.")
    (trajectory,) = read(tmp_path, toolbench, record, needs_label=False)
    assert (trajectory.question, trajectory.outcome.prediction) == ("Rain in X?", "Yes.")
    assert [(m.role, m.content) for m in trajectory.messages] == [
        ("assistant", "I look."),
        ("assistant", ""),
        ("tool", "rain"),
        ("assistant", ""),
    ]
    assert trajectory.tools == ({"name": "weather"},)


def test_toolbench_answers_that_cannot_be_read(tmp_path):
    assert refused(tmp_path, toolbench, answered()) == (
        "no_agent_turn: neither 'train_messages' nor 'tree' holds a turn of the agent."
    )
    assert refused(tmp_path, toolbench, answered(train_messages=["a"])) == (
        "wrong_value: 'train_messages' ends with 'a'; it must be a list."
    )
    wrong = {**answered(), "tree": {"tree": {"children": nodes(("Action Input", "{}"))}}}
    assert refused(tmp_path, toolbench, wrong) == (
        "wrong_value: a node's type is 'Action Input' where a thought or an action is due."
    )


# ---- ToRA ----


def solved(pred, gt="6", **fields):
    return {"idx": 3, "question": "3 + 3?", "gt": gt, "code": [f"It is {pred}."], "pred": [pred], **fields}


def test_tora_holds_a_trajectory_for_each_sample(tmp_path):
    first, second = read(tmp_path, tora, record_of(tora))
    assert (first.id, second.id, first.question_id) == ("0:0", "0:1", second.question_id)
    assert first.messages == (
        Message("assistant", "```python\nprint(2+2)\n```"),
        Message("tool", "4"),
        Message("assistant", "It is $\\boxed{4}$."),
    )
    assert first.outcome == Outcome(True, 1.0, None, "4", "4")
    assert second.outcome == Outcome(False, 0.0, "wrong_answer", "5", "4")
    assert first.metadata == {"gt": "4", "gt_cot": "2 + 2 = 4", "pred": "4", "score": True}


@pytest.mark.parametrize(
    ("pred", "gt", "success"),
    [
        ("6", "6", True),
        ("6.0", "6", True),
        ("7", "6", False),
        ("", "6", False),
        ("\\frac{3}{2}", "1.5", True),
        ("\\frac{3}{4}", "1.5", False),
        ("Ada", "Bob", False),
        ("x^2", "x^2", True),
    ],
)
def test_tora_compares_prediction_and_reference_where_nothing_is_scored(tmp_path, pred, gt, success):
    (trajectory,) = read(tmp_path, tora, solved(pred, gt))
    assert trajectory.outcome.success == success
    (scored,) = read(tmp_path, tora, solved(pred, gt, score=[not success]))
    assert scored.outcome.success == (not success)


def test_formulas_that_differ_as_text_have_no_label(tmp_path):
    record = solved("2\\sqrt{3}", "\\sqrt{12}")
    assert refused(tmp_path, tora, record).startswith("no_label: 'pred' and 'gt' differ as text, and are formulas")
    (trajectory,) = read(tmp_path, tora, record, needs_label=False)
    assert (trajectory.outcome.prediction, trajectory.outcome.reference) == ("2\\sqrt{3}", "\\sqrt{12}")


def test_tora_outputs_that_cannot_be_read(tmp_path):
    assert refused(tmp_path, tora, solved("6", score=[True, False])) == (
        "wrong_value: 'score' has 2 members and 'code' 1; each solution needs its own."
    )
    assert (
        refused(tmp_path, tora, solved("6", code=[])) == "empty_conversation: 'code' is empty: the agent wrote nothing."
    )
    assert refused(tmp_path, tora, solved("6", code=[7])) == "wrong_value: 'code' holds 7; it must be a list of texts."


# ---- as they lie there ----


@pytest.mark.parametrize(
    ("name", "format", "labels", "first"),
    [
        ("steps_thought_action.jsonl", "steps", [True, False], ["look", "p1 fails", "p1"]),
        ("toolbench_answer.json", "toolbench", [True], [""]),
        ("tora_outputs.jsonl", "tora", [True, False], ["```python\nprint(2+2)\n```", "4", "It is $\\boxed{4}$."]),
    ],
)
def test_reported_files(reported, name, format, labels, first):
    path = reported / name
    assert detect(path).name == format
    bad: list[BadRow] = []
    rows = [row.trajectory for row in reading.read_rows(trajectory_files("auto", path=str(path)), bad.append)]
    assert bad == []
    assert [row.outcome.success for row in rows] == labels
    assert [message.content for message in rows[0].messages] == first
