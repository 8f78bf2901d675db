"""Formats of tracing tools: Responses items, ATIF and Harbor, logs of requests, spans, Langfuse."""

import json
import tarfile

import pytest

from nat.core.rows.bad import BadRow
from nat.trajectories.detection import detect
from nat.trajectories.formats import api_log, atif, chat, harbor, langfuse, responses, spans
from nat.trajectories.formats.conversations import read_conversations
from nat.trajectories.reading import read as read_files
from nat.types import Message, Outcome, Trajectory
from tests.conftest import trajectory_files
from tests.producers_for_tests import produce

MODULES = (responses, atif, harbor, api_log, spans, langfuse)


@pytest.fixture
def reported(data):
    """The folder of self-made files of all formats."""
    folder = data.parent / "reported" / "formats"
    if not folder.is_dir():
        pytest.skip(f"reported files are not here: {folder} does not exist")
    return folder


def read_all(module, path, **options):
    return [trajectory for _, trajectory in read_conversations(module.conversations, path, **options)]


def read(module, tmp_path, *records, **options):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_all(module, path, **options)


def bad_rows(module, tmp_path, *records):
    bad = []
    read(module, tmp_path, *records, on_bad=bad.append)
    return [(row.reason, row.problem) for row in bad]


def said(trajectory: Trajectory) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in trajectory.messages]


def documented(module):
    text = module.__doc__ or ""
    return json.JSONDecoder().raw_decode(text, text.index("    {") + 4)[0]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.NAME)
def test_the_documented_record_is_of_its_format_alone(module, tmp_path):
    record = documented(module)
    path = tmp_path / "one.json"
    path.write_text(json.dumps(record, indent=1))
    assert detect(path).name == module.NAME
    assert [other.NAME for other in (*MODULES, chat) if other.recognises(record)] == [module.NAME]
    assert len(read_all(module, path, needs_label=False)) == 1


# ---- responses ----


def message(text, **fields):
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}], **fields}


def call(name="calculate", id="c1", **fields):
    return {"type": "function_call", "call_id": id, "name": name, "arguments": '{"e": "2 + 3"}', **fields}


def shown(text, id="c1"):
    return {"type": "function_call_output", "call_id": id, "output": text}


def rollout(*output, asked="2 + 3?", **fields):
    return {"responses_create_params": {"input": asked}, "response": {"output": [*output]}, "reward": 1.0, **fields}


def test_the_rollout_in_the_documentation(tmp_path):
    (trajectory,) = read(responses, tmp_path, documented(responses))
    assert trajectory.question == "What is 2 + 3?"
    assert [(m.role, m.content, len(m.tool_calls)) for m in trajectory.messages] == [
        ("assistant", "", 1),
        ("tool", "5", 0),
        ("assistant", "5", 0),
    ]
    assert trajectory.outcome == Outcome(True, 1.0, None, "5", "5")
    assert (trajectory.id, trajectory.question_id) == ("7-0", "7")
    assert [tool["name"] for tool in trajectory.tools] == ["calculate"]


def test_items_of_one_turn_are_one_message(tmp_path):
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Two numbers."}]}
    encrypted = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}
    output = (thought, message("I add."), call(), call(id="c2"), shown("6", "c2"), shown("5"), encrypted, message("5"))
    (trajectory,) = read(responses, tmp_path, rollout(*output))
    first, one, two, last = trajectory.messages
    assert (first.content, first.reasoning, len(first.tool_calls)) == ("I add.", "Two numbers.", 2)
    assert [one, two] == [Message("tool", "5"), Message("tool", "6")]  # in the order of their calls
    assert last == Message("assistant", "5")
    assert trajectory.metadata["left_out_parts"] == {"encrypted_reasoning": 1}


def test_messages_that_follow_one_another_stay_turns(tmp_path):
    (trajectory,) = read(responses, tmp_path, rollout(message("I look."), message("5")))
    assert said(trajectory) == [("assistant", "I look."), ("assistant", "5")]


def test_tools_of_openai_are_calls_with_what_they_show(tmp_path):
    code = {"type": "code_interpreter_call", "id": "k1", "code": "print(5)", "outputs": [{"type": "logs", "logs": "5"}]}
    web = {"type": "web_search_call", "id": "w1", "action": {"type": "search", "query": "sum", "sources": ["a"]}}
    custom = {"type": "custom_tool_call", "call_id": "u1", "name": "patch", "input": "*** Begin"}
    custom_shown = {"type": "custom_tool_call_output", "call_id": "u1", "output": "ok"}
    shell = {"type": "local_shell_call", "call_id": "s1", "action": {"type": "exec", "command": ["ls"]}}
    shell_shown = {"type": "local_shell_call_output", "call_id": "s1", "output": "a.py"}
    listed = {"type": "mcp_list_tools", "server_label": "x", "tools": []}
    output = (listed, code, message("A."), web, message("B."), custom, custom_shown, shell, shell_shown, message("C."))
    (trajectory,) = read(responses, tmp_path, rollout(*output))
    calls = [(c["name"], c.get("arguments", c.get("input"))) for m in trajectory.messages for c in m.tool_calls]
    assert calls == [
        ("code_interpreter", {"code": "print(5)"}),
        ("web_search", {"type": "search", "query": "sum"}),
        ("patch", "*** Begin"),
        ("local_shell", {"type": "exec", "command": ["ls"]}),
    ]
    assert said(trajectory) == [
        *(("assistant", ""), ("tool", "5"), ("assistant", "A."), ("assistant", "B."), ("tool", "ok")),
        *(("assistant", ""), ("tool", "a.py"), ("assistant", "C.")),
    ]
    assert trajectory.metadata["left_out_parts"] == {"mcp_list_tools": 1, "result_of_web_search_call": 1}


def test_the_input_carries_no_loss_unless_the_agent_wrote_it_in_this_rollout(tmp_path):
    shots = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]
    asked = [*shots, {"role": "user", "content": "2 + 3?"}]
    (trajectory,) = read(responses, tmp_path, rollout(message("5"), asked=asked))
    assert (trajectory.question, said(trajectory)) == ("2 + 3?", [("assistant", "5")])
    assert [m.train for m in trajectory.prompt if m.role == "assistant"] == [False]
    earlier = [{"role": "user", "content": "2 + 3?"}, call(), shown("5")]
    (trajectory,) = read(responses, tmp_path, rollout(message("5"), asked=earlier))
    assert said(trajectory) == [("assistant", "5")]
    earlier[1]["id"] = "fc_1"
    (trajectory,) = read(responses, tmp_path, rollout(message("5"), asked=earlier))
    assert said(trajectory) == [("assistant", ""), ("tool", "5"), ("assistant", "5")]


def test_instructions_are_the_system_message(tmp_path):
    record = rollout(message("5"))
    record["responses_create_params"]["instructions"] = "Add."
    (trajectory,) = read(responses, tmp_path, record)
    assert trajectory.prompt == (Message("system", "Add."), Message("user", "2 + 3?"))


def test_trials_of_nemo_gym_share_a_task_and_not_an_id(tmp_path):
    agent = {"agent_ref": {"name": "sums"}, "id": "row-9", "_ng_task_index": 4}
    first, second = read(
        responses, tmp_path, *(rollout(message("5"), **agent, _ng_rollout_index=rollout_) for rollout_ in (0, 1))
    )
    assert [first.id, second.id] == ["row-9-0", "row-9-1"]
    assert first.question_id == second.question_id == "sums/4"
    named = {"verifier_metadata": {"task_id": "sum/4"}, "_ng_task_index": 4, "_ng_rollout_index": 2}
    (trajectory,) = read(responses, tmp_path, rollout(message("5"), **named))
    assert (trajectory.id, trajectory.question_id) == ("sum/4-2", "sum/4")


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ({"mask_sample": True}, "infrastructure"),
        ({"_ng_failure_class": "judge_failed"}, "infrastructure"),
        ({"response": {"status": "failed", "output": [message("a")]}}, "infrastructure"),
        ({"agent_timeout_error": True}, "out_of_turns"),
        (
            {
                "response": {
                    "status": "incomplete",
                    "incomplete_details": {"reason": "max_output_tokens"},
                    "output": [message("a")],
                }
            },
            "no_answer",
        ),
    ],
)
def test_ends_of_rollouts(fields, failure, tmp_path):
    (trajectory,) = read(responses, tmp_path, {**rollout(message("a")), "reward": 0.0, **fields})
    assert trajectory.outcome.failure == failure


def test_an_explicit_label_goes_before_a_shaped_reward(tmp_path):
    (trajectory,) = read(responses, tmp_path, {**rollout(message("5")), "reward": 0.4, "is_correct": True})
    assert trajectory.outcome.success


def test_a_response_with_its_input_and_a_logged_pair(tmp_path):
    dump = {"id": "resp_1", "object": "response", "input": "2 + 3?", "output": [message("5")], "success": True}
    pair = {"request": {"input": "2 + 3?"}, "response": {"object": "response", "output": [message("5")]}, "reward": 1}
    assert responses.recognises(dump)
    assert responses.recognises(pair)
    assert not api_log.recognises(pair)
    one, other = read(responses, tmp_path, dump, pair)
    assert one.id == "resp_1"
    assert said(one) == said(other) == [("assistant", "5")]


def test_what_is_no_rollout_is_refused_with_the_reason(tmp_path):
    picture = {"role": "user", "content": [{"type": "input_image", "image_url": "data:..."}]}
    goes_on = {"object": "response", "previous_response_id": "resp_0", "input": "And?", "output": [message("5")]}
    rows = (
        rollout(message("5"), asked=[picture]),
        rollout(7),
        rollout(),
        {**goes_on, "success": True},
        rollout({"type": "function_call", "call_id": "c1"}),
        {**rollout(), "response": {"output": None, "error": {"message": "rate limit"}}},
    )
    assert [reason for reason, _ in bad_rows(responses, tmp_path, *rows)] == [
        *("wrong_value", "wrong_value", "empty_conversation", "missing_value", "wrong_value", "infrastructure"),
    ]


def test_real_rollouts_of_nemo_gym(data):
    trajectories = read_all(responses, data / "agents" / "nemo_gym_tau2.jsonl")
    assert len(trajectories) == 5
    assert all(trajectory.outcome == Outcome(True, 1.0) for trajectory in trajectories)
    with (data / "agents" / "nemo_gym_tau2.jsonl").open() as file:
        records = [json.loads(line) for line in file]
    for record, trajectory in zip(records, trajectories, strict=True):
        # The simulation that the row also holds says what the agent did.
        done = [one for one in record["result"]["messages"] if one["role"] == "assistant"][1:]  # not the greeting
        calls = [[c["name"] for c in one.get("tool_calls") or ()] for one in done]
        turns = [m for m in trajectory.messages if m.role == "assistant"]
        assert [[c["name"] for c in m.tool_calls] for m in turns] == calls
        assert all(m.train for m in turns)


def test_reported_rollouts(reported):
    right, wrong = read_all(responses, reported / "gym_responses_reward.jsonl")
    assert [right.outcome, wrong.outcome] == [
        Outcome(True, 1.0, None, "4", "4"),
        Outcome(False, 0.0, "wrong_answer", "7", "4"),
    ]
    assert [c["arguments"] for c in right.messages[0].tool_calls] == ['{"code":"print(2+2)"}']
    assert right.messages[1] == Message("tool", "4")


# ---- atif ----

STEPS = [
    {"step_id": 1, "source": "user", "message": "Make a file a.txt"},
    {
        "step_id": 2,
        "source": "agent",
        "message": "I write it.",
        "reasoning_content": "Easy.",
        "tool_calls": [{"tool_call_id": "c1", "function_name": "bash", "arguments": {"cmd": "touch a.txt"}}],
        "observation": {"results": [{"source_call_id": "c1", "content": "ok"}]},
    },
    {"step_id": 3, "source": "agent", "message": "Done."},
]
AGENT = {
    "name": "terminus-2",
    "version": "2.0.0",
    "tool_definitions": [{"type": "function", "function": {"name": "bash"}}],
}
TRAJECTORY = {"schema_version": "ATIF-v1.6", "session_id": "s1", "agent": AGENT, "steps": STEPS}


def trial(tmp_path, name="a__X1", trajectory=TRAJECTORY, file="trajectory.json", **result):
    folder = tmp_path / "job" / name
    (folder / "agent").mkdir(parents=True, exist_ok=True)
    (folder / "agent" / file).write_text(json.dumps(trajectory, indent=1))
    if result:
        (folder / "result.json").write_text(json.dumps({"trial_name": name, "task_name": "a", **result}))
    return folder / "agent" / file


def raised(name):
    return {"exception_info": {"exception_type": name, "exception_message": "..."}}


def rewards(**given):
    return {"verifier_result": {"rewards": given}}


def test_a_trial_with_its_result(tmp_path):
    (trajectory,) = read_all(atif, trial(tmp_path, **rewards(reward=1.0)))
    assert trajectory.question == "Make a file a.txt"
    assert trajectory.messages == (
        Message("assistant", "I write it.", reasoning="Easy.", tool_calls=tuple(STEPS[1]["tool_calls"])),
        Message("tool", "ok"),
        Message("assistant", "Done."),
    )
    assert trajectory.outcome == Outcome(True, 1.0, None, "Done.")
    assert (trajectory.id, trajectory.question_id) == ("a__X1", "a")
    assert trajectory.tools == tuple(AGENT["tool_definitions"])


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (rewards(reward=0.0), (False, "wrong_answer")),
        (rewards(tests=1), (True, None)),  # the only one there is
        (rewards(reward=1.0, style=0.2), (True, None)),
        ({**rewards(reward=0.0), **raised("AgentTimeoutError")}, (False, "out_of_turns")),
        ({**rewards(reward=1.0), **raised("AgentTimeoutError")}, (True, None)),
        ({"verifier_result": None, **raised("AgentTimeoutError")}, (False, "out_of_turns")),
        (
            {"verifier_result": None, **raised("ContextLengthExceededError")},
            (False, "no_answer"),
        ),
        ({**rewards(reward=1.0), **raised("RuntimeError")}, (False, "infrastructure")),
        (raised("VerifierTimeoutError"), (False, "infrastructure")),
    ],
)
def test_results_of_trials(result, expected, tmp_path):
    (trajectory,) = read_all(atif, trial(tmp_path, **result))
    assert (trajectory.outcome.success, trajectory.outcome.failure) == expected


def test_without_a_label_the_file_that_is_missing_is_named(tmp_path):
    path = trial(tmp_path)
    (tmp_path / "job" / "result.json").write_text('{"n_total_trials": 1, "stats": {}}')  # the job's, no trial's
    with pytest.raises(BadRow, match=r"no .*job/a__X1/result.json, in which Harbor says the reward") as error:
        read_all(atif, path)
    assert error.value.reason == "no_label"
    path = trial(tmp_path, **rewards(tests=1, style=0))
    with pytest.raises(BadRow, match="holds no single reward"):
        read_all(atif, path)
    config = trajectory_files("atif", path=str(path), label="rewards.tests >= 1")
    assert [trajectory.outcome.success for trajectory in read_files(config)] == [True]


def test_a_job_as_a_folder_and_as_an_archive(tmp_path):
    for number in range(3):
        trial(tmp_path, f"a__X{number}", **rewards(reward=float(number == 1)))
    (tmp_path / "job" / "a__X0" / "config.json").write_text("{}")
    archive = tmp_path / "job.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(tmp_path / "job", "job")
    for path in (tmp_path / "job", archive):
        found = list(read_files(trajectory_files("auto", path=str(path))))
        assert [trajectory.outcome.success for trajectory in found] == [False, True, False]
        assert {trajectory.question_id for trajectory in found} == {"a"}
        assert len({trajectory.id for trajectory in found}) == 3


def test_a_result_that_cannot_be_read_is_named(tmp_path):
    path = trial(tmp_path, **rewards(reward=1.0))
    (path.parent.parent / "result.json").write_text('{"verifier_result": ')
    with pytest.raises(BadRow, match=r"result\.json, with the trial's reward, is no JSON object"):
        read_all(atif, path)


def test_steps_of_a_trial_are_verified_each(tmp_path):
    folder = tmp_path / "trial"
    steps = [{"step_name": name, **rewards(reward=reward)} for name, reward in (("one", 1.0), ("two", 0.0))]
    for name in ("one", "two"):
        (folder / "steps" / name / "agent").mkdir(parents=True)
        (folder / "steps" / name / "agent" / "trajectory.json").write_text(json.dumps(TRAJECTORY))
    (folder / "steps" / "result.json").write_text(json.dumps({"trial_name": "t", "step_results": steps}))
    found = [read_all(atif, folder / "steps" / name / "agent" / "trajectory.json") for name in ("one", "two")]
    assert [trajectory.outcome.success for (trajectory,) in found] == [True, False]


def test_steps_that_were_copied_or_that_no_model_wrote_carry_no_loss(tmp_path):
    steps = [
        STEPS[0],
        {**STEPS[1], "is_copied_context": True},
        {"step_id": 3, "source": "agent", "message": "Set up.", "llm_call_count": 0},
        {"step_id": 4, "source": "agent", "message": "Done."},
    ]
    (trajectory,) = read_all(atif, trial(tmp_path, trajectory={**TRAJECTORY, "steps": steps}, **rewards(reward=1)))
    assert [m.train for m in trajectory.messages if m.role == "assistant"] == [False, False, True]


def test_content_parts_are_text_or_the_row_is_refused(tmp_path):
    text = [{"type": "text", "text": "Make a file a.txt"}]
    steps = [{**STEPS[0], "message": text}, *STEPS[1:]]
    (trajectory,) = read_all(atif, trial(tmp_path, trajectory={**TRAJECTORY, "steps": steps}, **rewards(reward=1)))
    assert trajectory.question == "Make a file a.txt"
    steps[0]["message"] = [{"type": "image", "source": {"media_type": "image/png", "path": "a.png"}}]
    with pytest.raises(BadRow, match="holds a part 'image'; only text can be read"):
        read_all(atif, trial(tmp_path, trajectory={**TRAJECTORY, "steps": steps}, **rewards(reward=1)))


def test_subagents_are_trajectories_of_their_own(tmp_path):
    ref = {"subagent_trajectory_ref": [{"trajectory_id": "sub-1"}]}
    inner = {"trajectory_id": "sub-1", "agent": AGENT, "steps": [{**STEPS[0], "message": "Sum up."}, STEPS[2]]}
    steps = [
        STEPS[0],
        {**STEPS[1], "observation": {"results": [{"source_call_id": "c1", **ref}]}},
        {"step_id": 3, "source": "system", "message": "Summarised.", "observation": {"results": [ref]}},
        STEPS[2],
    ]
    whole = {**TRAJECTORY, "steps": steps, "subagent_trajectories": [inner]}
    main, sub = read_all(atif, trial(tmp_path, trajectory=whole, **rewards(reward=1)))
    assert said(main) == [("assistant", "I write it."), ("tool", ""), ("assistant", "Done.")]
    assert main.metadata["left_out_parts"] == {"subagent_results": 2, "system_steps": 1}
    assert (main.id, sub.id, sub.question) == ("a__X1", "a__X1:sub-1", "Sum up.")
    assert main.question_id == sub.question_id == "a"
    assert sub.outcome.success
    beside = trial(tmp_path, trajectory={**TRAJECTORY, "steps": inner["steps"]}, file="trajectory.summarization-1.json")
    assert [trajectory.id for trajectory in read_all(atif, beside)] == ["a__X1:summarization-1"]


@pytest.mark.parametrize(
    "step", [7, {"source": "agent", "message": 5}, {"source": "judge", "message": ""}, {"message": "a"}]
)
def test_a_step_that_is_none_is_refused(step, tmp_path):
    with pytest.raises(BadRow):
        read(atif, tmp_path, {**TRAJECTORY, "steps": [STEPS[0], step, STEPS[2]], "reward": 1})


def test_real_trajectories_of_harbor(data, tmp_path):
    for name, steps, turns, calls in (("summarization", 10, 7, 7), ("timeout", 4, 3, 3)):
        record = json.loads((data / "agents" / f"atif_{name}.trajectory.json").read_text())
        assert len(record["steps"]) == steps
        (trajectory,) = read_all(atif, trial(tmp_path, f"{name}__1", trajectory=record, **rewards(reward=0.0)))
        agent = [m for m in trajectory.messages if m.role == "assistant"]
        assert (len(agent), sum(len(m.tool_calls) for m in agent)) == (turns, calls)
        assert trajectory.outcome.failure == "out_of_turns"


def test_reported_trajectory(reported):
    (trajectory,) = read_all(atif, reported / "atif_trajectory.json", needs_label=False)
    assert trajectory.question == "Make a file a.txt"
    assert said(trajectory) == [("assistant", "I write it."), ("tool", "ok"), ("assistant", "Done.")]
    assert trajectory.outcome.prediction == "Done."


# ---- harbor ----


def episode_row(number, trial_name="a__X1", result="1.0"):
    messages = [{"role": "user", "content": "Make a file a.txt"}]
    for n in range(number + 1):
        messages += [{"role": "user", "content": f"shown {n}"}] if n else []
        text = f'I do {n}.\n<tool_call>\n{{"name": "bash", "arguments": {{"n": {n}}}}}\n</tool_call>'
        messages.append({"role": "assistant", "content": text})
    return {
        "conversations": messages,
        "agent": "terminus-2",
        "task": "a",
        "episode": f"episode-{number}",
        "run_id": "r1",
        "trial_name": trial_name,
        "result": result,
    }


def test_of_the_rows_of_a_trial_the_last_is_read(tmp_path):
    rows = [*map(episode_row, range(3)), episode_row(0, "a__X2", "0.0"), episode_row(0, "b__X1", "AgentTimeoutError")]
    first, second, third = read(harbor, tmp_path, *rows)
    assert said(first) == [
        ("assistant", "I do 0."),
        ("tool", "shown 1"),
        ("assistant", "I do 1."),
        ("tool", "shown 2"),
        ("assistant", "I do 2."),
    ]
    assert [len(m.tool_calls) for m in first.messages if m.role == "assistant"] == [1, 1, 1]
    assert first.metadata["rows_of_its_trial"] == 3
    assert (first.id, first.question_id) == ("a__X1:episode-2", "a")
    assert [one.outcome.success for one in (first, second, third)] == [True, False, False]
    assert third.outcome.failure == "out_of_turns"
    (broke,) = read(harbor, tmp_path, episode_row(0, result="RuntimeError"))
    assert broke.outcome.failure == "infrastructure"
    assert bad_rows(harbor, tmp_path, episode_row(0, result=None))[0][0] == "no_label"


# ---- api_log ----

CALL = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "X"}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "sun"}


def test_requests_that_go_on_with_one_another_are_one_trajectory(tmp_path):
    asked = {"role": "user", "content": "Weather in X?"}
    spoke = [{"type": "thinking", "thinking": "Look."}, {"type": "text", "text": "I look."}, CALL]
    sent = [asked, {"role": "assistant", "content": spoke[1:]}, {"role": "user", "content": [RESULT]}]
    other = {
        "request": {"messages": [{"role": "user", "content": "2 + 3?"}]},
        "response": {"choices": [{"message": {"role": "assistant", "content": "5"}, "finish_reason": "length"}]},
        "reward": 0,
    }
    request = {"system": "Use it.", "tools": [{"name": "weather", "input_schema": {}}]}
    rows = (
        {"request": {**request, "messages": [asked]}, "response": {"role": "assistant", "content": spoke}},
        other,
        {
            "request": json.dumps({**request, "messages": sent}),
            "response": {
                "body": json.dumps({"content": [{"type": "text", "text": "Sun."}], "stop_reason": "end_turn"})
            },
            "success": True,
        },
    )
    assert all(map(api_log.recognises, rows))
    short, whole = read(api_log, tmp_path, *rows)
    assert said(whole) == [("assistant", "I look."), ("tool", "sun"), ("assistant", "Sun.")]
    assert whole.messages[0].reasoning == "Look."
    assert whole.prompt == (Message("system", "Use it."), Message("user", "Weather in X?"))
    assert whole.outcome.success
    assert whole.metadata["requests"] == 2
    assert (short.outcome.failure, said(short)) == ("no_answer", [("assistant", "5")])


def test_a_request_that_failed(tmp_path):
    request = {"messages": [{"role": "user", "content": "2 + 3?"}]}
    failed = {"request": request, "response": {"type": "error", "error": {"type": "overloaded_error"}}}
    assert api_log.recognises(failed)
    assert [reason for reason, _ in bad_rows(api_log, tmp_path, failed)] == ["infrastructure"]
    again = {"request": request, "response": {"content": [{"type": "text", "text": "5"}]}, "success": True}
    (trajectory,) = read(api_log, tmp_path, failed, again)  # tried again
    assert said(trajectory) == [("assistant", "5")]


def test_reported_messages_of_anthropic(reported):
    calls, plain = read_all(chat, reported / "anthropic_messages.jsonl")
    assert said(calls) == [("assistant", "Let me look."), ("tool", "sun"), ("assistant", "Sun.")]
    assert [c["input"] for c in calls.messages[0].tool_calls] == [{"city": "X"}]
    assert [calls.outcome.success, plain.outcome.success] == [True, False]


# ---- spans ----

TOOL = {"type": "function", "name": "calc"}


def text(role, *texts):
    return {"role": role, "parts": [{"type": "text", "content": one} for one in texts]}


ASKED = text("user", "2 + 3?")
CALLED = {
    "role": "assistant",
    "parts": [
        {"type": "reasoning", "content": "Two numbers."},
        {"type": "text", "content": "I add."},
        {"type": "tool_call", "id": "c1", "name": "calc", "arguments": {"e": "2 + 3"}},
    ],
}
SENT = {**CALLED, "parts": CALLED["parts"][1:]}
SHOWN = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": 5}]}


def span(number, attributes, trace="t1", parent="root", **fields):
    ids = {"trace_id": trace, "span_id": f"s{number}", "parent_id": parent}
    return {**ids, "name": "chat", "start_time": f"2026-01-01T00:00:0{number}Z", "attributes": attributes, **fields}


def model_call(number, sent, came, trace="t1", **attributes):
    given = {"gen_ai.input.messages": json.dumps(sent), "gen_ai.output.messages": json.dumps(came), **attributes}
    return span(number, {"gen_ai.operation.name": "chat", **given}, trace)


def evaluated(name="Correctness", **said):
    attributes = {"gen_ai.evaluation.name": name, **{f"gen_ai.evaluation.score.{key}": v for key, v in said.items()}}
    return {"name": "gen_ai.evaluation.result", "attributes": attributes}


SYSTEM = {"gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be good."}])}
AGENTS_CALLS = [
    model_call(1, [ASKED], [CALLED], **SYSTEM, **{"gen_ai.tool.definitions": json.dumps([TOOL])}),
    span(2, {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "calc"}),
    model_call(4, [text("user", "Is 5 right?")], [text("assistant", "Yes.")]),  # a judge's
    model_call(3, [ASKED, SENT, SHOWN], [text("assistant", "5")], **SYSTEM),
    span(
        0,
        {"gen_ai.operation.name": "invoke_agent", "task_id": "sum-7", "expected_answer": "5"},
        parent=None,
        events=[evaluated(value=0.9, label="pass")],
    ),
]


def check_the_agents_trajectory(trajectory):
    assert (trajectory.question, trajectory.question_id) == ("2 + 3?", "sum-7")
    assert said(trajectory) == [("assistant", "I add."), ("tool", "5"), ("assistant", "5")]
    first = trajectory.messages[0]
    assert (first.reasoning, [c["arguments"] for c in first.tool_calls]) == ("Two numbers.", [{"e": "2 + 3"}])
    assert trajectory.prompt == (Message("system", "Be good."), Message("user", "2 + 3?"))
    assert trajectory.outcome == Outcome(True, 0.9, None, "5", "5")
    assert trajectory.tools == (TOOL,)
    assert (trajectory.metadata["calls"], trajectory.metadata["other_calls"]) == (3, 1)
    assert trajectory.metadata["evaluations"] == {"Correctness": {"score": 0.9, "label": "pass"}}


def test_a_trace_is_one_trajectory(tmp_path):
    between = model_call(5, [text("user", "Hello?")], [text("assistant", "Hi.")], trace="t2", success=False)
    between["parent_id"] = None
    rows = [*AGENTS_CALLS[:2], between, *AGENTS_CALLS[2:]]
    first, second = read(spans, tmp_path, *rows)
    check_the_agents_trajectory(first)
    assert (first.id, second.id) == ("t1", "t2")
    assert said(second) == [("assistant", "Hi.")]
    assert not second.outcome.success


def otlp(value):
    kinds = {bool: "boolValue", str: "stringValue", float: "doubleValue"}
    if isinstance(value, int) and not isinstance(value, bool):
        return {"intValue": str(value)}
    return {kinds[type(value)]: value}


def otlp_attributes(attributes):
    return [{"key": key, "value": otlp(value)} for key, value in attributes.items()]


def test_otlp_as_json(tmp_path):
    listed = [
        {
            "traceId": "5b8efff798038103d269b633813fc60c",
            "spanId": one["span_id"],
            "parentSpanId": one["parent_id"] or "",
            "startTimeUnixNano": f"{number}000000000",
            "attributes": otlp_attributes(one["attributes"]),
            "events": [
                {"name": event["name"], "attributes": otlp_attributes(event["attributes"])}
                for event in one.get("events", ())
            ],
        }
        for number, one in zip((1, 2, 4, 3, 0), AGENTS_CALLS, strict=True)
    ]
    batches = [{"resourceSpans": [{"scopeSpans": [{"spans": part}]}]} for part in (listed[:2], listed[2:])]
    (trajectory,) = read(spans, tmp_path, *batches)  # a line a batch
    check_the_agents_trajectory(trajectory)
    assert trajectory.id == "5b8efff798038103d269b633813fc60c"
    (tmp_path / "whole.json").write_text(json.dumps(batches[0], indent=2))
    assert detect(tmp_path / "whole.json").name == "spans"


def test_jaegers_tags(tmp_path):
    tags = [{"key": key, "type": "string", "value": value} for key, value in AGENTS_CALLS[0]["attributes"].items()]
    record = {
        "traceID": "t1",
        "spans": [{"traceID": "t1", "spanID": "a", "references": [], "startTime": 7, "tags": tags}],
    }
    path = tmp_path / "jaeger.json"
    path.write_text(json.dumps({"data": [record], "total": 0}))
    assert detect(path).name == "spans"
    (trajectory,) = read_all(spans, path, needs_label=False)
    assert said(trajectory) == [("assistant", "I add.")]


def test_messages_spread_over_attributes(tmp_path):
    def prompt(*messages):
        return {f"gen_ai.prompt.{n}.{key}": value for n, one in enumerate(messages) for key, value in one.items()}

    asked = {"role": "user", "content": '[{"type": "text", "text": "2 + 3?"}]'}
    called = {"role": "assistant", "tool_calls.0.id": "c1", "tool_calls.0.name": "calc", "tool_calls.0.arguments": "{}"}
    seen = {"role": "tool", "content": "5", "tool_call_id": "c1"}
    came = {f"gen_ai.completion.0.{key}": value for key, value in called.items()}
    answer = {"gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": "5"}
    tool = {"llm.request.functions.0.name": "calc"}
    rows = [
        span(1, {**prompt(asked), **came, **tool}),
        span(2, {**prompt(asked, called, seen), **answer}),
        span(0, {"success": True}, parent=None),
    ]
    (trajectory,) = read(spans, tmp_path, *rows)
    assert said(trajectory) == [("assistant", ""), ("tool", "5"), ("assistant", "5")]
    assert (trajectory.question, trajectory.tools) == ("2 + 3?", ({"name": "calc"},))


def test_openinference_flat_nested_and_as_a_table(tmp_path):
    flat = {
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.contents.0.message_content.type": "text",
        "llm.input_messages.0.message.contents.0.message_content.text": "2 + 3?",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": "I add.",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "calc",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": "{}",
        "llm.tools.0.tool.json_schema": '{"name": "calc"}',
    }
    called = [{"tool_call": {"function": {"name": "calc", "arguments": "{}"}}}]
    nested = {
        "llm": {
            "input_messages": [{"message": {"role": "user", "content": "2 + 3?"}}],
            "output_messages": [{"message": {"role": "assistant", "content": "I add.", "tool_calls": called}}],
            "tools": [{"tool": {"json_schema": '{"name": "calc"}'}}],
        }
    }
    row = {
        "context.trace_id": "t3",
        "context.span_id": "c",
        "parent_id": None,
        "attributes.llm.input_messages": [{"message.role": "user", "message.content": "2 + 3?"}],
        "attributes.llm.output_messages": [
            {
                "message.role": "assistant",
                "message.content": "I add.",
                "message.tool_calls": [{"tool_call.function.name": "calc", "tool_call.function.arguments": "{}"}],
            }
        ],
        "attributes.llm.tools": [{"tool.json_schema": '{"name": "calc"}'}],
    }
    rows = [
        {"context": {"trace_id": "0xt1", "span_id": "a"}, "parent_id": None, "attributes": flat},
        {"context": {"trace_id": "t2", "span_id": "b"}, "parent_id": None, "attributes": nested},
        row,
    ]
    assert all(map(spans.recognises, rows))
    found = read(spans, tmp_path, *rows, needs_label=False)
    assert [trajectory.id for trajectory in found] == ["t1", "t2", "t3"]
    for trajectory in found:
        assert said(trajectory) == [("assistant", "I add.")]
        assert [c["function"]["name"] for c in trajectory.messages[0].tool_calls] == ["calc"]
        assert trajectory.tools == ({"name": "calc"},)


def test_messages_in_events(tmp_path):
    answer = json.dumps({"role": "assistant", "content": "5"})
    events = [
        {"name": "gen_ai.system.message", "attributes": {"content": "Be good."}},
        {"name": "gen_ai.user.message", "attributes": {"content": "2 + 3?"}},
        {"name": "gen_ai.choice", "attributes": {"finish_reason": "stop", "message": answer}},
    ]
    details = {
        "gen_ai.input.messages": json.dumps([ASKED]),
        "gen_ai.output.messages": json.dumps([text("assistant", "5")]),
    }
    rows = [
        span(1, {"gen_ai.system": "x", "success": True}, parent=None, events=events),
        span(
            1,
            {"success": True},
            trace="t2",
            parent=None,
            events=[{"name": "gen_ai.client.inference.operation.details", "attributes": details}],
        ),
    ]
    for trajectory in read(spans, tmp_path, *rows):
        assert (trajectory.question, said(trajectory)) == ("2 + 3?", [("assistant", "5")])


def test_traces_of_a_conversation_are_one(tmp_path):
    named = {"gen_ai.conversation.id": "chat-9"}
    more = [ASKED, text("assistant", "5"), text("user", "And + 1?")]
    rows = [
        {**model_call(1, [ASKED], [text("assistant", "5")], trace="t1", **named), "parent_id": None},
        {**model_call(2, more, [text("assistant", "6")], trace="t2", **named, reward=1), "parent_id": None},
    ]
    (trajectory,) = read(spans, tmp_path, *rows, needs_label=False)
    assert trajectory.id == "chat-9"
    assert said(trajectory) == [("assistant", "5"), ("user", "And + 1?"), ("assistant", "6")]


def test_a_context_that_was_rewritten_begins_a_trajectory_of_its_own(tmp_path):
    rows = [
        model_call(1, [ASKED], [CALLED], **SYSTEM),
        model_call(2, [text("user", "So far: nothing. 2 + 3?")], [text("assistant", "5")], **SYSTEM),
        span(0, {"success": True}, parent=None),
    ]
    first, second = read(spans, tmp_path, *rows)
    assert [first.id, second.id] == ["t1:0", "t1:1"]
    assert [said(first), said(second)] == [[("assistant", "I add.")], [("assistant", "5")]]


def test_what_evaluations_say(tmp_path):
    asked = model_call(1, [ASKED], [text("assistant", "5")])

    def labelled(*events):
        return read(spans, tmp_path, {**asked, "events": [*events]}, needs_label=False)[0]

    assert labelled(evaluated(value=1.0)).outcome.success
    assert not labelled(evaluated(label="fail")).outcome.success
    assert labelled(evaluated("correct", value=1), evaluated("style", value=0.1)).outcome.success
    assert "unlabelled" in labelled(evaluated("tone", value=1), evaluated("style", value=0.1)).metadata
    several = {**asked, "events": [evaluated("tone", value=1), evaluated("style", value=0.1)]}
    (row,) = bad_rows(spans, tmp_path, several)
    assert row[0] == "no_label"
    assert "Its evaluations are tone, style; name one: trajectories.label='evaluations.tone.score >= 0.5'" in row[1]
    config = trajectory_files("spans", path=str(tmp_path / "mine.jsonl"), label="evaluations.tone.score >= 0.5")
    assert [trajectory.outcome.success for trajectory in read_files(config)] == [True]


def test_traces_that_broke_or_say_nothing(tmp_path):
    failed = span(1, {"gen_ai.input.messages": json.dumps([ASKED])}, status={"code": 2}, parent=None)
    silent = span(1, {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}, trace="t2", parent=None)
    http = span(1, {"http.method": "GET"}, trace="t3", parent=None)  # nothing of a model: no trajectory, and no fault
    found = bad_rows(spans, tmp_path, failed, silent, http)
    assert [reason for reason, _ in found] == ["infrastructure", "missing_value"]
    assert "was their content left out when they were recorded?" in found[1][1]
    picture = {"role": "user", "parts": [{"type": "blob", "modality": "image", "content": None}]}
    assert bad_rows(spans, tmp_path, model_call(1, [picture], [CALLED]))[0][0] == "wrong_value"


# ---- langfuse ----

GENERATIONS = [
    {"id": "s", "type": "SPAN", "input": 1},
    {
        "id": "o2",
        "type": "GENERATION",
        "startTime": "2026-01-01T00:00:02Z",
        "input": {
            "messages": [
                {"role": "user", "content": "2 + 3?"},
                {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"name": "calc"}}]},
                {"role": "tool", "tool_call_id": "c", "content": "5"},
            ],
            "tools": [TOOL],
        },
        "output": {"role": "assistant", "content": "5"},
    },
    {
        "id": "o1",
        "type": "GENERATION",
        "startTime": "2026-01-01T00:00:01Z",
        "input": json.dumps({"messages": [{"role": "user", "content": "2 + 3?"}]}),
        "output": {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"name": "calc"}}]},
    },
]
TRACE = {"id": "t1", "name": "agent", "input": "2 + 3?", "metadata": {"task_id": "sum-1", "expected_answer": "5"}}


def score(name, value, kind="NUMERIC", **fields):
    return {"name": name, "value": value, "dataType": kind, **fields}


def test_a_trace_of_langfuse(tmp_path):
    scores = [score("speed", 0.2), score("correct", 1, "BOOLEAN")]
    record = {**TRACE, "observations": GENERATIONS, "scores": scores}
    alone = [{**one, "traceId": "t2"} for one in GENERATIONS]
    session = {"id": "chat", "traces": [{**record, "id": "t3"}]}
    assert all(map(langfuse.recognises, (record, alone[1], session)))
    whole, inner, joined = read(langfuse, tmp_path, record, *alone, session, needs_label=False)
    for trajectory in (whole, inner, joined):
        assert said(trajectory) == [("assistant", ""), ("tool", "5"), ("assistant", "5")]
        assert trajectory.tools == (TOOL,)
    assert (whole.id, inner.id, joined.id) == ("t1", "t3", "t2")
    assert whole.outcome == Outcome(True, 1.0, None, "5", "5")
    assert whole.question_id == "sum-1"
    assert whole.metadata["scores"]["speed"] == {"score": 0.2, "label": None}
    assert "unlabelled" in joined.metadata


@pytest.mark.parametrize(
    ("scores", "success"),
    [
        ([score("quality", 1)], True),
        ([score("quality", 0.4)], False),
        ([score("quality", 2, "CATEGORICAL", stringValue="wrong")], False),
        ([score("verdict", "correct", "CATEGORICAL")], True),
        ([score("success", 0, "BOOLEAN"), score("reward", 1)], False),
        ([score("quality", 1), score("quality", 0, observationId="o1")], True),  # of the trace, not of a part
    ],
)
def test_scores_of_langfuse(scores, success, tmp_path):
    (trajectory,) = read(langfuse, tmp_path, {**TRACE, "observations": GENERATIONS, "scores": scores})
    assert trajectory.outcome.success is success


def test_a_trace_without_generations_is_its_input_and_output(tmp_path):
    record = {"id": "t1", "input": {"messages": [{"role": "user", "content": "2 + 3?"}]}, "output": "5"}
    (trajectory,) = read(langfuse, tmp_path, {**record, "observations": [], "scores": [score("correct", 1)]})
    assert said(trajectory) == [("assistant", "5")]


def test_generations_that_failed_or_cannot_be_read(tmp_path):
    failed = {"id": "o", "type": "GENERATION", "input": "2 + 3?", "output": None, "level": "ERROR"}
    odd = {"id": "o", "type": "GENERATION", "input": "2 + 3?", "output": {"tokens": 3}}
    rows = [{"id": str(n), "observations": [one], "scores": []} for n, one in enumerate((failed, odd))]
    found = bad_rows(langfuse, tmp_path, *rows)
    assert [reason for reason, _ in found] == ["infrastructure", "wrong_value"]
    assert "what came back is {'tokens': 3}; it must be text or messages" in found[1][1]


# ---- what the producers themselves write ----

WRITE_ATIF = """
from pathlib import Path
from atif import Trajectory

steps = [
    {"step_id": 1, "source": "system", "message": "You are careful."},
    {"step_id": 2, "source": "user", "message": [{"type": "text", "text": "What time is it?"}]},
    {"step_id": 3, "source": "agent", "message": "Let me check.", "reasoning_content": "A clock.",
     "tool_calls": [{"tool_call_id": "c1", "function_name": "now", "arguments": {}},
                    {"tool_call_id": "c2", "function_name": "zone", "arguments": {}}],
     "observation": {"results": [{"source_call_id": "c2", "content": "UTC"},
                                 {"source_call_id": "c1", "content": "12:00"}]},
     "metrics": {"prompt_tokens": 120, "completion_tokens": 18}},
    {"step_id": 4, "source": "agent", "message": "12:00", "llm_call_count": 1},
]
tools = [{"type": "function", "function": {"name": "now"}}]
agent = {"name": "my-agent", "version": "1.0.0", "tool_definitions": tools}
whole = {"schema_version": "ATIF-v1.8", "session_id": "run-1", "agent": agent, "steps": steps}
Path("trajectory.json").write_text(Trajectory.model_validate(whole).model_dump_json(indent=2))
"""

WRITE_SPANS = """
import json, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

class Model(BaseHTTPRequestHandler):
    def do_POST(self):
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"]
        call = {"id": "c1", "type": "function", "function": {"name": "calc", "arguments": '{"e": "2 + 3"}'}}
        first = {"role": "assistant", "content": "I add.", "tool_calls": [call]}
        message = {"role": "assistant", "content": "5"} if sent[-1]["role"] == "tool" else first
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *a):
        pass

server = HTTPServer(("127.0.0.1", 0), Model)
threading.Thread(target=server.serve_forever, daemon=True).start()

import openai
from openinference.instrumentation.openai import OpenAIInstrumentor as OpenInference
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.instrumentation.openai import OpenAIInstrumentor as OpenLLMetry
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from google.protobuf.json_format import MessageToJson

tools = [{"type": "function", "function": {"name": "calc", "parameters": {"type": "object"}}}]
for name, instrumentor in (("openinference", OpenInference()), ("openllmetry", OpenLLMetry())):
    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    instrumentor.instrument(tracer_provider=provider)
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none", max_retries=0)
    messages = [{"role": "system", "content": "Use the tool."}, {"role": "user", "content": "2 + 3?"}]
    with provider.get_tracer("agent").start_as_current_span("agent") as root:
        root.set_attribute("success", True)
        for _ in range(2):
            message = client.chat.completions.create(model="m", messages=messages, tools=tools).choices[0].message
            messages.append(message.model_dump(exclude_none=True))
            messages += [{"role": "tool", "tool_call_id": "c1", "content": "5"}] if message.tool_calls else []
    instrumentor.uninstrument()
    spans = kept.get_finished_spans()
    Path(f"{name}.jsonl").write_text("".join(span.to_json(indent=None) + "\\n" for span in spans))
    Path(f"{name}.otlp.json").write_text(MessageToJson(encode_spans(spans)))
"""


@pytest.mark.slow
def test_a_trajectory_that_the_package_atif_writes(tmp_path):
    produce(WRITE_ATIF, tmp_path, "atif")
    assert detect(tmp_path / "trajectory.json").name == "atif"
    (trajectory,) = read_all(atif, tmp_path / "trajectory.json", needs_label=False)
    assert trajectory.question == "What time is it?"
    assert said(trajectory) == [
        ("assistant", "Let me check."),
        ("tool", "12:00"),
        ("tool", "UTC"),
        ("assistant", "12:00"),
    ]
    assert [c["function_name"] for c in trajectory.messages[0].tool_calls] == ["now", "zone"]
    assert trajectory.messages[0].reasoning == "A clock."
    assert trajectory.prompt[0] == Message("system", "You are careful.")
    assert [tool["function"]["name"] for tool in trajectory.tools] == ["now"]


@pytest.mark.slow
def test_spans_that_instrumentations_write(tmp_path):
    produce(
        WRITE_SPANS,
        tmp_path,
        *("openai", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-common"),
        *("openinference-instrumentation-openai", "opentelemetry-instrumentation-openai"),
    )
    ids = {}
    for name in ("openinference.jsonl", "openinference.otlp.json", "openllmetry.jsonl", "openllmetry.otlp.json"):
        assert detect(tmp_path / name).name == "spans"
        (trajectory,) = read_all(spans, tmp_path / name)
        assert said(trajectory) == [("assistant", "I add."), ("tool", "5"), ("assistant", "5")], name
        assert len(trajectory.messages[0].tool_calls) == 1
        assert trajectory.prompt == (Message("system", "Use the tool."), Message("user", "2 + 3?"))
        assert trajectory.outcome == Outcome(True, 1.0, None, "5")
        assert len(trajectory.tools) == 1
        ids.setdefault(name.split(".")[0], set()).add(trajectory.id)
    assert all(len(of_both) == 1 for of_both in ids.values())
