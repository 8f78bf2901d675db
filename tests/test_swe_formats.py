"""Runs of coding agents: SWE-agent, mini-swe-agent, OpenHands and Claude Code, each as its tool writes it."""

import json
from collections import Counter
from pathlib import Path

import pytest

from nat.core.questions import question_id
from nat.core.rows.bad import BadRow
from nat.trajectories.detection import detect, reader
from nat.trajectories.formats import chat, claude_code, mini_swe_agent, openhands, sharegpt, swe_agent
from nat.trajectories.formats.exit_status import failure_of, failure_of_error
from nat.trajectories.formats.tool_calls import as_react_text
from nat.types import Message, Outcome
from tests.conftest import DATA

REPORTED = DATA.parent / "reported" / "formats"
AGENTS = DATA / "agents"
LOOK = "Look.\n```\nls\n```"
LS = {"name": "bash", "arguments": '{"command": "ls"}'}


def read(path, on_bad=None, needs_label=True):
    """The trajectories of a file, in the format that it is told to be of."""
    bad: list[BadRow] = []
    rows = list(detect(path).read(path, "", on_bad or bad.append, needs_label=needs_label))
    if bad:
        raise bad[0]
    return [trajectory for _, trajectory in rows]


def written(tmp_path, *records, name="mine.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def one(tmp_path, record, name="mine.jsonl", **options):
    (trajectory,) = read(written(tmp_path, record, name=name), **options)
    return trajectory


def roles(trajectory):
    return [(message.role, message.content) for message in trajectory.messages]


def documented(module, number=0):
    """The records in a module's documentation, as JSON."""
    text, decoder, found, at = module.__doc__, json.JSONDecoder(strict=False), [], 0
    while (at := text.find("    {", at)) >= 0:
        record, at = decoder.raw_decode(text, at + 4)
        found.append(record)
    return found[number]


# ---- what they share ----


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        ("submitted", "wrong_answer"),
        ("Submitted", "wrong_answer"),
        ("submit", "wrong_answer"),
        ("submitted (exit_cost)", "out_of_turns"),
        ("exit_cost", "out_of_turns"),
        ("exit_total_execution_time", "out_of_turns"),
        ("LimitsExceeded", "out_of_turns"),
        ("RuntimeError: Agent reached maximum iteration. Current iteration: 100, max iteration: 100", "out_of_turns"),
        ("AgentStuckInLoopError: Agent got stuck in a loop", "out_of_turns"),
        ("exit_context", "no_answer"),
        ("submitted (exit_context)", "no_answer"),
        ("ContextWindowExceededError", "no_answer"),
        ("exit_format", "unparsed_action"),
        ("RepeatedFormatError", "unparsed_action"),
        ("exit_command_timeout", "tool_error"),
        ("exit_forfeit", "abstained"),
        ("exit_error", "infrastructure"),
        ("exit_api", "infrastructure"),
        ("submitted (exit_environment_error)", "infrastructure"),
        ("early_exit", "infrastructure"),
        ("AttributeError: 'str' object has no attribute 'get'", "infrastructure"),
        ("Timeout: litellm.Timeout: APITimeoutError - Request timed out.", "infrastructure"),
        ("CalledProcessError", "infrastructure"),
        ("UserInterruption", "infrastructure"),
        ("unknown", None),
        ("", None),
        (None, None),
        (1, None),
    ],
)
def test_how_a_run_ended(status, failure):
    assert failure_of(status) == failure


def test_what_a_run_broke_off_with():
    assert failure_of_error(None) is failure_of_error("") is None
    assert failure_of_error("the container is gone") == failure_of_error({"code": 5}) == "infrastructure"
    assert failure_of_error("Agent reached maximum budget") == "out_of_turns"


@pytest.mark.parametrize("module", [swe_agent, mini_swe_agent, openhands, claude_code], ids=lambda module: module.NAME)
def test_the_record_in_the_documentation_is_of_its_format(module, tmp_path):
    record = documented(module)
    assert module.recognises(record)
    assert detect(written(tmp_path, record)).name == module.NAME
    assert not chat.recognises(record) or detect(written(tmp_path, record)).name != "chat"


# ---- messages as JSON text ----


def test_messages_that_are_written_as_json_text_are_messages(tmp_path):
    turns = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
    for key in ("messages", "conversation", "conversations", "trajectory", "history"):
        record = {key: json.dumps(turns), "success": True}
        assert detect(written(tmp_path, record)).name == "chat"
        trajectory = one(tmp_path, record)
        assert (trajectory.question, trajectory.messages) == ("2+2?", (Message("assistant", "4"),))
        assert trajectory.metadata == {"success": True}
    shared = [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]
    record = {"conversations": json.dumps(shared), "success": True}
    assert sharegpt.recognises(record)
    assert one(tmp_path, record).messages == (Message("assistant", "4"),)


@pytest.mark.parametrize("text", ["", "[]", "[1]", "[{]", '{"role": "user"}', '[{"name": "a"}]', "[NaN]"])
def test_other_texts_are_no_messages(text):
    assert not chat.recognises({"messages": text})
    assert not chat.recognises({"conversation": text})


def test_the_status_of_a_run_counts_in_chats(tmp_path):
    turns = [{"role": "user", "content": "Fix A."}, {"role": "assistant", "content": "ls"}]
    row = {"instance_id": "a", "messages": turns, "resolved": False}
    for status, failure in (("exit_cost", "out_of_turns"), ("exit_api", "infrastructure"), (0, "wrong_answer")):
        assert one(tmp_path, {**row, "exit_status": status}).outcome.failure == failure


# ---- SWE-agent ----


def traj(*history, status="submitted", **fields):
    step = {"action": "ls\n", "observation": "a.py\n", "response": LOOK, "state": "{}", "thought": "Look."}
    info = {"exit_status": status, "submission": "diff", **fields.pop("info", {})}
    turns = {"environment": "swe_main", "trajectory": [step], "history": list(history or HISTORY), "info": info}
    return {**turns, **fields}


HISTORY = (
    {"role": "system", "content": "SETTING", "agent": "primary"},
    {"role": "user", "content": "ISSUE: sum is wrong", "agent": "primary"},
    {"role": "assistant", "content": LOOK, "thought": "Look.", "action": "ls\n", "agent": "primary"},
    {"role": "user", "content": "a.py", "agent": "primary"},
)


def test_a_traj_of_swe_agent(tmp_path):
    trajectory = one(tmp_path, traj(), name="a__a-1.traj", needs_label=False)
    assert trajectory.question == "ISSUE: sum is wrong"
    assert trajectory.question_id == "a__a-1"
    assert trajectory.prompt == (Message("system", "SETTING"), Message("user", "ISSUE: sum is wrong"))
    assert trajectory.messages == (Message("assistant", LOOK), Message("tool", "a.py"))
    assert trajectory.outcome == Outcome(False, 0.0, "wrong_answer")
    assert trajectory.metadata == {
        "task": "a__a-1",
        "environment": "swe_main",
        "info": {"exit_status": "submitted", "submission": "diff"},
        "preamble_messages": 1,
        "unlabelled": True,
    }
    with pytest.raises(BadRow, match="success is nowhere said"):
        one(tmp_path, traj(), name="a__a-1.traj")


def test_a_traj_over_many_lines_and_packed_is_named_alike(tmp_path):
    path = tmp_path / "a__a-2.traj.json"
    path.write_text(json.dumps(traj(info={"resolved": True, "edited_files30": "long"}), indent=2))
    (trajectory,) = read(path)
    assert trajectory.question_id == "a__a-2"
    assert trajectory.outcome == Outcome(True, 1.0)
    assert "edited_files30" not in trajectory.metadata["info"]


@pytest.mark.parametrize(
    ("fields", "task"),
    [
        ({}, "mine"),
        ({"environment": "a__a-3"}, "a__a-3"),
        ({"instance_id": "a__a-4"}, "a__a-4"),
        ({"info": {"instance_id": "a__a-5"}}, "a__a-5"),
        ({"replay_config": json.dumps({"problem_statement": {"id": "a__a-6", "text": "ISSUE"}})}, "a__a-6"),
        ({"replay_config": "{", "environment": "a__a-7"}, "a__a-7"),
    ],
)
def test_where_the_task_stands(tmp_path, fields, task):
    assert one(tmp_path, traj(**fields), name="mine.traj", needs_label=False).question_id == task


def test_the_name_of_a_file_of_several_runs_is_no_task(tmp_path):
    trajectory = one(tmp_path, traj(), needs_label=False)
    assert trajectory.question_id == question_id("ISSUE: sum is wrong")
    assert "task" not in trajectory.metadata


def test_demonstrations_belong_to_the_prompt(tmp_path):
    demo = (
        {"role": "user", "content": "DEMO ISSUE", "is_demo": True},
        {"role": "assistant", "content": "DEMO TURN", "is_demo": "True", "action": "ls"},
        {"role": "user", "content": "DEMO SEEN", "is_demo": True},
    )
    trajectory = one(tmp_path, traj(HISTORY[0], *demo, *HISTORY[1:]), needs_label=False)
    assert trajectory.question == "ISSUE: sum is wrong"
    assert [message.content for message in trajectory.prompt] == [
        "SETTING",
        "DEMO ISSUE",
        "DEMO TURN",
        "DEMO SEEN",
        "ISSUE: sum is wrong",
    ]
    assert not any(message.train for message in trajectory.prompt if message.role == "assistant")
    assert roles(trajectory) == [("assistant", LOOK), ("tool", "a.py")]


@pytest.mark.parametrize(
    "text",
    [
        "Exit due to cost limit",
        "Exit due to context window",
        "exit due to runtime error: the container is gone",
        "Exit due to repeated format/blocklist/bash syntax errors",
        "Exiting due to forfeit",
    ],
)
def test_the_harness_words_in_the_agents_place_are_left_out(tmp_path, text):
    words = ({"role": "assistant", "content": text, "action": ""}, {"role": "user", "content": "Exited"})
    trajectory = one(tmp_path, traj(*HISTORY, *words, status="exit_cost"), needs_label=False)
    assert roles(trajectory) == [("assistant", LOOK), ("tool", "a.py")]
    assert trajectory.outcome.failure == "out_of_turns"
    assert trajectory.metadata["left_out_parts"] == {"harness_messages": 2}
    own = {"role": "assistant", "content": "Exit due to cost limit is what the log says.", "action": "ls"}
    assert len(one(tmp_path, traj(*HISTORY, own), needs_label=False).messages) == 3


def test_a_run_that_broke_is_infrastructure_whatever_it_handed_in(tmp_path):
    for status in ("exit_api", "early_exit", "submitted (exit_environment_error)"):
        trajectory = one(tmp_path, traj(status=status, info={"resolved": True}))
        assert trajectory.outcome == Outcome(False, 0.0, "infrastructure")
    words = {"role": "assistant", "content": "Exit due to retry error: 500", "action": ""}
    with pytest.raises(BadRow) as error:
        one(tmp_path, traj(*HISTORY[:2], words, status="exit_api"))
    assert error.value.reason == "infrastructure"
    with pytest.raises(BadRow) as error:
        one(tmp_path, traj(*HISTORY[:2]))
    assert error.value.reason == "no_agent_turn"


def test_structured_calls_and_thoughts_of_swe_agent(tmp_path):
    calling = {
        "role": "assistant",
        "content": "Look.",
        "thought": "Look.",
        "action": "ls",
        "tool_calls": [{"id": "c1", "type": "function", "function": LS}],
        "thinking_blocks": [{"type": "thinking", "thinking": "Which file?", "signature": "x"}],
        "message_type": "action",
    }
    seen = {"role": "tool", "content": [{"type": "text", "text": "a.py"}], "tool_call_ids": ["c1"], "agent": "main"}
    trajectory = one(tmp_path, traj(*HISTORY[:2], calling, seen), needs_label=False)
    turn, result = trajectory.messages
    assert (turn.content, turn.reasoning, result) == ("Look.", "Which file?", Message("tool", "a.py"))
    assert as_react_text(trajectory.messages)[0].content == "Thought: Look.\nAction: bash[ls]"


def test_turns_that_are_in_the_steps_alone_are_counted(tmp_path):
    record = traj()
    record["trajectory"] *= 3
    record["attempts"] = [{}, {}]
    trajectory = one(tmp_path, record, needs_label=False)
    assert trajectory.metadata["left_out_parts"] == {"turns_asked_again": 2, "attempts": 1}


def test_a_traj_without_history_is_read_by_its_steps(tmp_path):
    record = traj()
    del record["history"]
    record["trajectory"][0]["query"] = list(HISTORY[:2])
    trajectory = one(tmp_path, record, needs_label=False)
    assert trajectory.question == "ISSUE: sum is wrong"
    assert roles(trajectory) == [("assistant", LOOK), ("tool", "a.py\n")]


def test_rows_of_swe_smith(tmp_path):
    messages = [{**message, "message_type": "action"} for message in HISTORY]
    row = {"instance_id": "a__a-1", "model": "m", "traj_id": "a__a-1.x", "patch": "diff"}
    rows = [{**row, "resolved": flag, "messages": json.dumps(messages)} for flag in (True, False)]
    path = written(tmp_path, *rows)
    assert detect(path).name == "swe_agent"
    good, bad = read(path)
    assert roles(good) == roles(bad) == [("assistant", LOOK), ("tool", "a.py")]
    assert (good.outcome, bad.outcome) == (Outcome(True, 1.0), Outcome(False, 0.0, "wrong_answer"))
    assert good.question_id == bad.question_id == "a__a-1"
    assert good.metadata["traj_id"] == "a__a-1.x"
    assert "messages" not in good.metadata


def nebius(*texts, target=False, **fields):
    turns = [{"role": "ai" if i % 2 else "user", "text": text, "mask": False} for i, text in enumerate(texts)]
    system = {"role": "system", "system_prompt": "S", "text": None, "mask": False, "cutoff_date": "01.01.2023"}
    row = {"instance_id": "a__a-1", "model_name": "m", "target": target, "trajectory": [system, *turns]}
    return {**row, "exit_status": "submitted", "generated_patch": "d", "eval_logs": "x", **fields}


def test_rows_of_nebius(tmp_path):
    trajectory = one(tmp_path, nebius("ISSUE A", LOOK, "a.py", target=True))
    assert trajectory.prompt == (Message("system", "S"), Message("user", "ISSUE A"))
    assert trajectory.messages == (Message("assistant", LOOK), Message("tool", "a.py"))
    assert (trajectory.outcome, trajectory.question_id) == (Outcome(True, 1.0), "a__a-1")
    assert trajectory.metadata["target"] is True
    cut = one(tmp_path, nebius("ISSUE A", LOOK, "a.py", "Exit due to cost limit", exit_status="submitted (exit_cost)"))
    assert len(cut.messages) == 2
    assert cut.outcome == Outcome(False, 0.0, "out_of_turns")
    masked = nebius("DEMO", LOOK, "ISSUE A", LOOK)
    masked["trajectory"][2]["mask"] = True
    assert [m.train for m in one(tmp_path, masked).messages if m.role == "assistant"] == [False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"history": [], "trajectory": []}, "'trajectory' and 'history' are empty"),
        ({"history": "a"}, "'history' is \"a\"; it must be a list"),
        ({"trajectory": [{**traj()["trajectory"][0]}, 7]}, "'trajectory' must be a list of steps"),
        ({"history": [*HISTORY, {"role": "narrator", "content": "a"}]}, "unknown role 'narrator'"),
    ],
)
def test_flaws_of_a_traj_are_named(tmp_path, change, message):
    with pytest.raises(BadRow, match=message):
        list(reader(swe_agent)(written(tmp_path, {**traj(), **change})))


# ---- mini-swe-agent ----


def mini(*messages, status: str | None = "Submitted", **info):
    front = ({"role": "system", "content": "One command a turn."}, {"role": "user", "content": "Fix a.py."})
    told = {"exit_status": status, "submission": "diff", **info}
    return {"info": told, "messages": [*front, *messages], "trajectory_format": "mini-swe-agent-1"}


BASH = {"role": "assistant", "content": "THOUGHT: look\n\n```bash\nls\n```", "extra": {"response": {}}}
SEEN = {"role": "user", "content": "<returncode>0</returncode>\n<output>\na.py</output>"}


def test_a_run_of_mini_swe_agent(tmp_path):
    path = tmp_path / "a__a-1.traj.json"
    path.write_text(json.dumps(mini(BASH, SEEN, resolved=True), indent=2))
    assert detect(path).name == "mini_swe_agent"
    (trajectory,) = read(path)
    assert trajectory.prompt == (Message("system", "One command a turn."), Message("user", "Fix a.py."))
    assert trajectory.messages == (Message("assistant", BASH["content"]), Message("tool", SEEN["content"]))
    assert (trajectory.outcome, trajectory.question_id) == (Outcome(True, 1.0), "a__a-1")
    assert one(tmp_path, {**mini(BASH, resolved=False), "instance_id": "b__b-1"}).question_id == "b__b-1"


def test_calls_and_the_exit_of_newer_versions(tmp_path):
    calls = [{"id": "c1", "type": "function", "function": LS}, {"id": "c2", "type": "function", "function": LS}]
    calling = {"role": "assistant", "content": None, "reasoning_content": "Which?", "tool_calls": calls}
    results = [{"role": "tool", "tool_call_id": id, "content": text} for id, text in (("c2", "b.py"), ("c1", "a.py"))]
    item = {"type": "function_call", "call_id": "c3", **LS}
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Again."}]}
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "One more."}]}
    answer = {"object": "response", "output": [thought, said, item], "extra": {"actions": []}}
    seen = {"type": "function_call_output", "call_id": "c3", "output": "a.py b.py"}
    end = {"role": "exit", "content": "", "extra": {"exit_status": "LimitsExceeded", "submission": ""}}
    trajectory = one(tmp_path, mini(calling, *results, answer, seen, end, status=None), needs_label=False)
    assert roles(trajectory) == [
        ("assistant", ""),
        ("tool", "a.py"),
        ("tool", "b.py"),
        ("assistant", "Again."),
        ("tool", "a.py b.py"),
    ]
    first, last = trajectory.messages[0], trajectory.messages[3]
    assert (first.tool_calls, first.reasoning) == (tuple(calls), "Which?")
    assert (last.tool_calls, last.reasoning) == ((item,), "One more.")
    assert trajectory.outcome.failure == "out_of_turns"
    assert trajectory.metadata["left_out_parts"] == {"exit_messages": 1}


def test_a_run_of_mini_swe_agent_that_broke(tmp_path):
    assert one(tmp_path, mini(BASH, status="CalledProcessError")).outcome.failure == "infrastructure"
    with pytest.raises(BadRow) as error:
        one(tmp_path, mini(status="AuthenticationError"))
    assert error.value.reason == "infrastructure"


# ---- OpenHands ----


def output(*history, **fields):
    row = {"instance_id": "a__a-1", "instruction": "Fix it", "test_result": {"git_patch": "diff"}, "error": None}
    return {**row, "history": list(history), **fields}


ASKED = {"id": 0, "source": "user", "action": "message", "message": "Fix it", "args": {"content": "Fix it"}}
RUN = {"id": 1, "source": "agent", "action": "run", "args": {"command": "ls", "thought": "look", "hidden": False}}
SAW = {"id": 2, "source": "agent", "observation": "run", "content": "a.py", "cause": 1, "extras": {}}
FINISH = {"id": 3, "source": "agent", "action": "finish", "args": {"final_thought": "done", "outputs": {}}}
RESOLVED = {"report": {"resolved": True}}


def as_text(trajectory):
    return [(m.role, m.content) for m in as_react_text(trajectory.messages)]


RAN = [("assistant", "Thought: look\nAction: run[ls]"), ("tool", "a.py"), ("assistant", "Action: finish[done]")]


def test_events_of_openhands(tmp_path):
    record = output(ASKED, RUN, SAW, FINISH, **RESOLVED)
    assert detect(written(tmp_path, record)).name == "openhands"
    trajectory = one(tmp_path, record)
    assert (trajectory.question, trajectory.question_id) == ("Fix it", "a__a-1")
    assert trajectory.prompt == (Message("user", "Fix it"),)
    assert as_text(trajectory) == RAN
    assert trajectory.outcome == Outcome(True, 1.0)
    assert trajectory.metadata["instruction"] == "Fix it"
    assert one(tmp_path, output(RUN, SAW, FINISH, **RESOLVED)).prompt == (Message("user", "Fix it"),)


def test_pairs_of_an_action_and_an_observation(tmp_path):
    nothing = {"source": "user", "observation": "null", "content": ""}
    pairs = [[ASKED, nothing], [RUN, SAW], [FINISH, {**nothing, "source": "agent"}]]
    assert as_text(one(tmp_path, output(*pairs, **RESOLVED))) == RAN


def test_a_file_of_the_events_of_one_run(tmp_path):
    events = [{**event, "timestamp": "2025-01-01T00:00:00"} for event in (ASKED, RUN, SAW, FINISH)]
    listed = tmp_path / "trajectory.json"
    listed.write_text(json.dumps(events, indent=1))
    for path in (listed, written(tmp_path, *events), written(tmp_path, {"trajectory": events}, name="other.json")):
        assert detect(path).name == "openhands"
        (trajectory,) = read(path, needs_label=False)
        assert (trajectory.question, as_text(trajectory)) == ("Fix it", RAN)
    found = read(written(tmp_path, *events, output(ASKED, RUN, SAW, FINISH)), needs_label=False)
    assert [as_text(trajectory) for trajectory in found] == [RAN, RAN]


def test_events_that_are_no_turn(tmp_path):
    silent = [
        {"source": "user", "action": "recall", "args": {"query": "Fix it"}},
        {"source": "environment", "observation": "recall", "content": "Added workspace context"},
        {"source": "environment", "observation": "agent_state_changed", "content": ""},
    ]
    system = {"source": "agent", "action": "system", "args": {"content": "You act.", "tools": [{"name": "run"}]}}
    others = [
        {"id": 8, "source": "user", "action": "run", "args": {"command": "git init"}},
        {"id": 9, "source": "user", "observation": "run", "content": "Initialised", "cause": 8},
    ]
    trajectory = one(tmp_path, output(system, ASKED, *silent, *others, RUN, SAW, FINISH, **RESOLVED))
    assert trajectory.prompt == (Message("system", "You act."), Message("user", "Fix it"))
    assert trajectory.tools == ({"name": "run"},)
    assert as_text(trajectory) == RAN
    assert trajectory.metadata["left_out_parts"] == {"actions_of_others": 1}


def answered(number, id, text, *calls):
    made = [{"id": call, "type": "function", "function": {"name": "execute_bash", **LS}} for call in calls]
    message = {"role": "assistant", "content": text, "tool_calls": [{**c, "function": LS} for c in made]}
    response = {"id": id, "choices": [{"message": message}]}
    metadata = {"function_name": "bash", "tool_call_id": calls[number], "model_response": response}
    return {"source": "agent", "action": "run", "args": {"command": "ls"}, "tool_call_metadata": metadata}


def saw(call, text):
    return {"source": "agent", "observation": "run", "content": text, "tool_call_metadata": {"tool_call_id": call}}


def test_the_models_own_answer_is_the_turn_and_its_calls_are_one_turn(tmp_path):
    history = [
        ASKED,
        *(answered(0, "r1", "Both.", "c1", "c2"), saw("c1", "a.py")),
        *(answered(1, "r1", "Both.", "c1", "c2"), saw("c2", "b.py")),
        *(answered(0, "r2", "", "c3"), saw("c3", "c.py")),
        {"source": "user", "action": "message", "args": {"content": "Please go on."}},
        {"source": "agent", "action": "message", "args": {"content": "Done."}},
    ]
    trajectory = one(tmp_path, output(*history, **RESOLVED))
    assert roles(trajectory) == [
        ("assistant", "Both."),
        ("tool", "a.py"),
        ("tool", "b.py"),
        ("assistant", ""),
        ("tool", "c.py"),
        ("user", "Please go on."),
        ("assistant", "Done."),
    ]
    assert [[call["id"] for call in message.tool_calls] for message in trajectory.messages] == [
        ["c1", "c2"],
        [],
        [],
        ["c3"],
        [],
        [],
        [],
    ]


@pytest.mark.parametrize(
    ("fields", "success"),
    [
        ({"report": {"resolved": False}}, False),
        ({"test_result": {"report": {"resolved": True}}}, True),
        ({"test_result": {"score": True}}, True),
        ({"resolved": 1}, True),
    ],
)
def test_where_the_label_of_openhands_stands(tmp_path, fields, success):
    assert one(tmp_path, output(ASKED, RUN, SAW, FINISH, **fields)).outcome.success is success


def test_how_a_run_of_openhands_failed(tmp_path):
    failed = {"report": {"resolved": False}}
    for error, failure in (
        ("RuntimeError: Agent reached maximum iteration. Current iteration: 30", "out_of_turns"),
        ("ContextWindowExceededError: the prompt is too long", "no_answer"),
        ("the runtime did not answer", "infrastructure"),
    ):
        assert one(tmp_path, output(ASKED, RUN, SAW, error=error, **failed)).outcome.failure == failure
    assert one(tmp_path, output(ASKED, RUN, SAW, FINISH, **failed)).outcome.failure == "wrong_answer"
    assert one(tmp_path, output(ASKED, RUN, SAW, **failed)).outcome.failure == "out_of_turns"
    with pytest.raises(BadRow) as raised:
        one(tmp_path, output(error="the runtime did not start"))
    assert raised.value.reason == "infrastructure"


def sdk(kind, **fields):
    return {"kind": kind, "id": "e", "timestamp": "2025-11-01T00:00:00", **fields}


def acted(text, response, call, **fields):
    thought = [{"type": "text", "text": text}] if text else []
    made = {"id": call, "name": "terminal", "arguments": '{"command": "ls"}', "origin": "completion"}
    action = {"source": "agent", "thought": thought, "tool_name": "terminal", "tool_call_id": call, "tool_call": made}
    return sdk("ActionEvent", **action, action={"kind": "T", "command": "ls"}, llm_response_id=response, **fields)


def test_events_of_the_software_agent_sdk(tmp_path):
    told = {"tool_name": "terminal", "source": "environment"}
    said = {"role": "user", "content": [{"type": "text", "text": "Fix it"}]}
    history = [
        sdk("SystemPromptEvent", source="agent", system_prompt={"type": "text", "text": "S"}, tools=[{"name": "t"}]),
        sdk("MessageEvent", source="user", llm_message=said, extended_content=[{"type": "text", "text": " now"}]),
        sdk("ConversationStateUpdateEvent", source="environment", key="a", value=1),
        acted("look", "r1", "c1", reasoning_content="Which?"),
        acted("", "r1", "c2"),
        sdk("ObservationEvent", **told, tool_call_id="c1", observation={"content": [{"type": "text", "text": "a"}]}),
        sdk("AgentErrorEvent", tool_name="terminal", source="agent", tool_call_id="c2", error="no such tool"),
        sdk("Condensation", source="environment", forgotten_event_ids=["e"], summary="s"),
        sdk("MessageEvent", source="agent", llm_message={"role": "assistant", "content": "Done."}),
    ]
    trajectory = one(tmp_path, output(*history, **RESOLVED))
    assert trajectory.prompt == (Message("system", "S"), Message("user", "Fix it now"))
    assert trajectory.tools == ({"name": "t"},)
    turn = trajectory.messages[0]
    assert (turn.content, turn.reasoning, [call["id"] for call in turn.tool_calls]) == ("look", "Which?", ["c1", "c2"])
    assert roles(trajectory)[1:] == [("tool", "a"), ("tool", "no such tool"), ("assistant", "Done.")]
    assert trajectory.metadata["left_out_parts"] == {"Condensation": 1}
    broken = sdk("ConversationErrorEvent", source="environment", code="MaxIterationsReached", detail="after 100")
    unlabelled = one(tmp_path, output(*history[:6], broken), needs_label=False)
    assert unlabelled.outcome.failure == "out_of_turns"


def test_rows_of_published_runs_of_openhands(tmp_path):
    call = {"id": "c1", "type": "function", "function": LS}
    messages = [
        {"role": "user", "content": "Fix it", "tool_calls": None},
        {"role": "assistant", "content": "Look.", "tool_calls": [call]},
        {"role": "tool", "content": "a.py", "name": "bash", "tool_call_id": "c1"},
        {"role": "assistant", "content": "Now.\n<function=execute_bash>ls</function>"},
        {"role": "user", "content": "EXECUTION RESULT of [execute_bash]:\na.py"},
        {"role": "user", "content": "Please go on."},
    ]
    row = {"trajectory_id": "t", "instance_id": "a__a-1", "tools": [{"type": "function"}], "exit_status": "submit"}
    for given in (messages, json.dumps(messages)):
        record = {**row, "trajectory": given, "resolved": 0}
        assert detect(written(tmp_path, record)).name == "openhands"
        trajectory = one(tmp_path, record)
        assert [m.role for m in trajectory.messages] == ["assistant", "tool", "assistant", "tool", "user"]
        assert trajectory.messages[0].tool_calls == (call,)
        assert trajectory.outcome == Outcome(False, 0.0, "wrong_answer")
        assert trajectory.tools == ({"type": "function"},)
    assert one(tmp_path, {**row, "messages": messages, "target": True}).outcome == Outcome(True, 1.0)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ("a", "an event of 'history' is 'a'"),
        ({"source": "agent", "id": 7}, "has neither 'action' nor 'observation' nor 'kind', but source, id"),
        ({"source": "agent", "action": 7}, "the 'action' of an event is 7"),
        ({"source": "user", "action": "message", "args": {"content": None}}, "'content' is null"),
    ],
)
def test_flaws_of_events_are_named(tmp_path, event, message):
    with pytest.raises(BadRow, match=message):
        one(tmp_path, output(ASKED, RUN, event, **RESOLVED))


# ---- Claude Code ----


class Session:
    """Records of a session, each following the last one."""

    def __init__(self, id="s1"):
        self.id, self.records = id, []

    def add(self, type, content, parent: str | None = "last", answer=None, **fields):
        uuid = f"{self.id}-{len(self.records)}"
        before = self.records[-1].get("uuid") if self.records else None
        message = {"role": type, "content": content}
        if type == "assistant":
            message |= {"id": answer or f"m-{uuid}", "model": "m"}
        self.records.append(
            {
                "type": type,
                "sessionId": self.id,
                "uuid": uuid,
                "isSidechain": False,
                "cwd": "/w",
                "parentUuid": before if parent == "last" else parent,
                "message": message,
                **fields,
            }
        )
        return uuid


def text(said):
    return [{"type": "text", "text": said}]


def used(id, command="ls"):
    return [{"type": "tool_use", "id": id, "name": "Bash", "input": {"command": command}}]


def result(id, said):
    return [{"type": "tool_result", "tool_use_id": id, "content": said}]


def sessions(tmp_path, *records, **options):
    path = written(tmp_path, *records)
    assert detect(path).name == "claude_code"
    return read(path, needs_label=False, **options)


def test_a_session_is_one_trajectory(tmp_path):
    session = Session()
    session.add("user", "Fix it")
    session.add("assistant", [{"type": "thinking", "thinking": "Which?", "signature": "x"}], answer="m1")
    session.add("assistant", text("Look."), answer="m1")
    session.add("assistant", used("t1"), answer="m1")
    session.add("user", result("t1", "a.py"), toolUseResult={"stdout": "a.py"})
    session.add("assistant", text("Done."))
    summary = {"type": "summary", "summary": "Fixing", "leafUuid": "x"}
    snapshot = {"type": "file-history-snapshot", "messageId": "x", "snapshot": {}}
    (trajectory,) = sessions(tmp_path, summary, snapshot, *session.records)
    assert (trajectory.id, trajectory.question) == ("s1", "Fix it")
    assert trajectory.messages == (
        Message("assistant", "Look.", tool_calls=tuple(used("t1")), reasoning="Which?"),
        Message("tool", "a.py"),
        Message("assistant", "Done."),
    )
    assert trajectory.metadata == {
        "sessionId": "s1",
        "cwd": "/w",
        "model": "m",
        "left_out_parts": {"summary": 1},
        "unlabelled": True,
    }


def test_several_sessions_in_a_file(tmp_path):
    found = []
    for id in ("s1", "s2", "s3"):
        session = Session(id)
        session.add("user", f"Fix {id}")
        session.add("assistant", text(f"Done {id}."))
        found += session.records
    assert [(t.id, t.question, t.messages[0].content) for t in sessions(tmp_path, *found)] == [
        ("s1", "Fix s1", "Done s1."),
        ("s2", "Fix s2", "Done s2."),
        ("s3", "Fix s3", "Done s3."),
    ]
    mixed = [found[0], found[2], found[1], found[3]]
    bad: list[BadRow] = []
    assert sessions(tmp_path, *mixed, on_bad=bad.append) == []
    assert [row.reason for row in bad] == ["no_agent_turn", "no_agent_turn", "wrong_value", "wrong_value"]
    assert "the session 's1' goes on here after another one" in bad[2].problem
    assert bad[2].where.endswith("mine.jsonl:3")


def test_calls_at_once_are_one_turn_in_whatever_order_their_results_come(tmp_path):
    session = Session()
    session.add("user", "Fix it")
    first = session.add("assistant", used("t1"), answer="m1")
    seen = session.add("user", result("t1", "a.py"))
    second = session.add("assistant", used("t2"), parent=first, answer="m1")
    session.add("user", result("t2", "b.py"), parent=second)
    session.add("assistant", text("Done."), parent=seen)
    (trajectory,) = sessions(tmp_path, *session.records)
    assert roles(trajectory) == [("assistant", ""), ("tool", "a.py"), ("tool", "b.py"), ("assistant", "Done.")]
    assert [call["id"] for call in trajectory.messages[0].tool_calls] == ["t1", "t2"]
    again = [*session.records[:2], session.records[1], *session.records[2:]]
    assert sessions(tmp_path, *again) == [trajectory]


def test_what_the_user_went_back_behind_is_left_out(tmp_path):
    session = Session()
    first = session.add("user", "Fix it")
    done = session.add("assistant", text("How?"), parent=first)
    session.add("user", "Badly")
    session.add("assistant", text("So be it."))
    session.add("user", "Well", parent=done)
    session.add("assistant", text("Done."))
    (trajectory,) = sessions(tmp_path, *session.records)
    assert roles(trajectory) == [("assistant", "How?"), ("user", "Well"), ("assistant", "Done.")]
    assert trajectory.metadata["left_out_parts"] == {"left_branches": 2}
    session.add("user", "Fix that", parent=None)
    session.add("assistant", text("Fixed."))
    (trajectory,) = sessions(tmp_path, *session.records)
    assert (trajectory.question, roles(trajectory)) == ("Fix that", [("assistant", "Fixed.")])
    assert trajectory.metadata["left_out_parts"] == {"left_branches": 6}


def test_records_between_messages_lead_on(tmp_path):
    session = Session()
    session.add("user", "Fix it")
    session.records.append(
        {"type": "attachment", "sessionId": "s1", "uuid": "x", "parentUuid": "s1-0", "attachment": {}}
    )
    session.add("assistant", text("Done."), parent="x")
    session.add("user", "And?", parent="gone")  # its parent's line is missing
    session.add("assistant", text("Done too."))
    (trajectory,) = sessions(tmp_path, *session.records)
    assert [message.content for message in trajectory.messages] == ["Done.", "And?", "Done too."]
    assert trajectory.metadata["left_out_parts"] == {"attachment": 1}


@pytest.mark.parametrize("agent", [{"agentId": "a7"}, {}])
def test_agents_that_were_sent_out_are_trajectories_of_their_own(tmp_path, agent):
    session = Session()
    session.add("user", "Fix it")
    call = session.add("assistant", used("t1", "task"))
    side = {**agent, "isSidechain": True}
    name = agent.get("agentId") or session.add("user", "Count files", parent=None, **side)
    if agent:
        session.add("user", "Count files", parent=None, **side)
    session.add("assistant", text("3"), **side)
    session.add("user", result("t1", "3 files"), parent=call)
    session.add("assistant", text("Done."))
    whole, sent = sessions(tmp_path, *session.records)
    assert roles(whole) == [("assistant", ""), ("tool", "3 files"), ("assistant", "Done.")]
    assert (sent.id, sent.question, roles(sent)) == (f"s1:{name}", "Count files", [("assistant", "3")])
    assert sent.metadata["agent"] == name
    alone = [record for record in session.records if record["isSidechain"]]
    assert [t.id for t in sessions(tmp_path, *alone)] == [f"s1:{name}"]


def test_after_a_summary_the_agent_begins_anew(tmp_path):
    session = Session()
    session.add("user", "Fix it")
    session.add("assistant", text("Half."))
    boundary = {"type": "system", "subtype": "compact_boundary", "sessionId": "s1", "uuid": "b", "parentUuid": None}
    session.records.append(boundary)
    session.add("user", "What was done: half.", parent="b", isCompactSummary=True)
    session.add("assistant", text("Done."))
    first, second = sessions(tmp_path, *session.records)
    assert (first.id, first.question, roles(first)) == ("s1", "Fix it", [("assistant", "Half.")])
    assert (second.id, second.question) == ("s1:1", "What was done: half.")
    assert roles(second) == [("assistant", "Done.")]
    assert first.question_id == second.question_id == "s1"
    assert second.metadata["left_out_parts"] == {"system": 1}


def test_what_claude_code_writes_itself_is_no_turn(tmp_path):
    session = Session()
    session.add("user", "<local-command-caveat>", isMeta=True)
    session.add("user", "Fix it")
    session.add("assistant", text("Look."))
    session.add("assistant", text("API Error: 529 Overloaded"), isApiErrorMessage=True)
    (trajectory,) = sessions(tmp_path, *session.records)
    assert trajectory.outcome.failure == "infrastructure"
    assert trajectory.question == "Fix it"
    assert roles(trajectory) == [("assistant", "Look.")]
    assert trajectory.metadata["left_out_parts"] == {"harness_messages": 1}
    assert trajectory.metadata["meta_messages"] == 1
    session.records[-1]["message"]["content"] = text("Prompt is too long")
    assert sessions(tmp_path, *session.records)[0].outcome.failure == "no_answer"
    session.add("user", "Go on")
    session.add("assistant", text("Done."))
    (trajectory,) = sessions(tmp_path, *session.records)
    assert trajectory.outcome.failure == "wrong_answer"
    assert len(trajectory.messages) == 3
    alone = [session.records[1], {**session.records[3], "parentUuid": session.records[1]["uuid"]}]
    bad: list[BadRow] = []
    assert sessions(tmp_path, *alone, on_bad=bad.append) == []
    assert [row.reason for row in bad] == ["no_agent_turn"]


@pytest.mark.parametrize(
    ("end", "failure"),
    [
        ({"subtype": "success", "is_error": False}, "wrong_answer"),
        ({"subtype": "error_max_turns", "is_error": False}, "out_of_turns"),
        ({"subtype": "error_during_execution"}, "infrastructure"),
        ({"subtype": "success", "is_error": True}, "infrastructure"),
    ],
)
def test_what_the_command_line_streams(tmp_path, end, failure):
    front = {"session_id": "s9", "parent_tool_use_id": None}
    records = [
        {"type": "system", "subtype": "init", "session_id": "s9", "tools": ["Bash"], "cwd": "/w"},
        {"type": "user", **front, "message": {"role": "user", "content": "Fix it"}},
        {"type": "assistant", **front, "message": {"id": "m1", "role": "assistant", "content": text("Done.")}},
        {"type": "result", "session_id": "s9", **end},
    ]
    (trajectory,) = sessions(tmp_path, *records)
    assert (trajectory.id, roles(trajectory)) == ("s9", [("assistant", "Done.")])
    assert trajectory.outcome.failure == failure


def test_a_session_in_one_object_may_have_a_label(tmp_path):
    session = Session()
    session.add("user", "Fix it")
    session.add("assistant", text("Done."))
    whole = {"sessionId": "s1", "success": True, "records": session.records}
    other = {"sessionId": "s2", "success": False, "records": [{**r, "sessionId": "s2"} for r in session.records]}
    path = written(tmp_path, whole, other)
    assert detect(path).name == "claude_code"
    assert [(t.id, t.outcome.success) for t in read(path)] == [("s1", True), ("s2", False)]
    assert [(t.id, t.outcome.success) for t in read(written(tmp_path, whole))] == [("s1", True)]


def test_a_session_is_held_alone(tmp_path):
    seen = []

    def records():
        for number in range(6):
            session = Session(f"s{number // 2}")
            session.add("user" if number % 2 == 0 else "assistant", text("a"))
            seen.append(number)
            yield f"f:{number}", claude_code.Record(None, session.records[0])

    first = next(claude_code.grouped(records()))
    assert len(first[1].value["records"]) == 2
    assert seen == [0, 1, 2]  # the third is the first of the next


def test_flaws_of_a_session_are_named(tmp_path):
    session = Session()
    session.add("user", "Fix it")
    session.add("assistant", text("Done."))
    session.records[1]["message"] = "Done."
    bad: list[BadRow] = []
    assert sessions(tmp_path, *session.records, on_bad=bad.append) == []
    assert "the 'message' of a record is 'Done.'; it must be an object" in bad[0].problem


# ---- as the tools write them ----


@pytest.fixture
def reported() -> Path:
    if not REPORTED.is_dir():
        pytest.skip(f"the reported inputs are not here: {REPORTED} does not exist")
    return REPORTED


@pytest.fixture
def agents() -> Path:
    if not AGENTS.is_dir():
        pytest.skip(f"trajectories of agent tools are not here: {AGENTS} does not exist")
    return AGENTS


@pytest.mark.parametrize(
    ("name", "format", "question", "success", "n_roles"),
    [
        ("sweagent.traj", "swe_agent", "ISSUE: sum is wrong", None, {"assistant": 1, "tool": 1}),
        ("nebius_trajectory.jsonl", "swe_agent", "ISSUE A", True, {"assistant": 1, "tool": 1}),
        ("miniswe_one_object.traj.json", "mini_swe_agent", "Fix the sum in a.py", True, {"assistant": 2, "tool": 2}),
        ("openhands_output.jsonl", "openhands", "Fix the sum", True, {"assistant": 2, "tool": 1}),
        ("claude_code_session.jsonl", "claude_code", "Fix it", None, {"assistant": 1, "tool": 1}),
    ],
)
def test_reported_files(reported, name, format, question, success, n_roles):
    path = reported / name
    assert detect(path).name == format
    (trajectory,) = read(path, needs_label=False)
    assert trajectory.question == question
    assert Counter(message.role for message in trajectory.messages) == n_roles
    assert trajectory.metadata.get("unlabelled", False) is (success is None)
    assert trajectory.outcome.success is bool(success)


def test_resolved_is_a_label(reported):
    found = read(reported / "label_resolved.jsonl")
    assert [(t.question, t.outcome.success, t.question_id) for t in found] == [
        ("Fix A", True, "p__p-1"),
        ("Fix B", False, "p__p-2"),
    ]


def test_the_real_run_of_swe_agent(agents):
    (trajectory,) = read(agents / "swe_agent_pydicom-1458.traj", needs_label=False)
    assert Counter(message.role for message in trajectory.messages) == {"assistant": 12, "tool": 11}
    assert [message.role for message in trajectory.prompt] == ["system", "user", "user"]
    assert trajectory.question.startswith("We're currently solving the following issue")
    assert trajectory.outcome.failure == "wrong_answer"
    assert "left_out_parts" not in trajectory.metadata


def test_the_real_run_of_mini_swe_agent(agents):
    (trajectory,) = read(agents / "mini_swe_agent_astropy-7606.traj.json", needs_label=False)
    assert Counter(message.role for message in trajectory.messages) == {"assistant": 31, "tool": 31}
    assert (len(trajectory.prompt), trajectory.question_id) == (2, "astropy__astropy-7606")
