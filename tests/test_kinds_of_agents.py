"""What kind of agent a trajectory is of, and that the audit says nothing of it that is not true of such an agent."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nat.agents.kinds import calls_of, read_agent
from nat.auditing.findings import Audit
from nat.auditing.page import page
from nat.auditing.summary import summary
from nat.core.questions import is_held_out
from nat.quality.checks import check
from nat.quality.marks import CheckSettings
from nat.quality.rules import characters
from nat.trajectories.formats import chat
from nat.trajectories.formats.conversations import read_conversations
from nat.trajectories.formats.episodes import failure_kind
from nat.types import Message, Outcome, Trajectory
from nat.verbs.audit import audit
from tests.audits_for_tests import audit_rows, found, make_config, row, write_rows
from tests.conftest import DATA

SETTINGS = CheckSettings(tools=("search", "calculate"), conditioning_texts=())


def agent(text: str, *names: str) -> Message:
    return Message("assistant", text, tool_calls=tuple(call(name) for name in names))


def call(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": "{}"}}


def tool(text: str) -> Message:
    return Message("tool", text)


def user(text: str) -> Message:
    return Message("user", text)


def bash(command: str) -> Message:
    return agent(f"THOUGHT: go on\n\n```bash\n{command}\n```")


REACT = [agent("Thought: Look.\nAction: search[it]"), tool("Ann made it."), agent("Thought: So.\nAction: finish[Ann]")]
ALFWORLD = [agent("Thought: go\nAction: go to desk 1"), tool("You see a cup."), agent("Thought: t\nAction: take cup 1")]
DATABASE = [
    agent("Action: Operation\n```sql\nSELECT COUNT(*) FROM T\n```"),
    user("[(3,)]"),
    agent('Action: Answer\nFinal Answer: ["3"]'),
]
TAGS = [agent("<search>author of E</search>"), tool("Ann wrote E."), agent("It was she.\n<answer>Ann</answer>")]
MINI_SWE = [
    bash("ls"),
    user("<returncode>0</returncode>\n<output>\na.py\n</output>"),
    bash("echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"),
    user("diff --git a/a.py b/a.py"),
]
SWE_AGENT = [
    agent("Let us look.\n\n```\nopen a.py\n```"),
    user("[File: a.py (1 lines total)]\n1:x\n(Open file: a.py)\nbash-$"),
    agent("Done.\n\n```\nsubmit\n```"),
]
TAU = [
    agent("Which order?"),
    user("Order 7."),
    agent("", "cancel"),
    tool('{"success": true}'),
    agent("It is cancelled."),
    user("Thanks, bye."),
]
CODER = [agent("", "bash"), tool("a.py"), agent("", "submit"), tool("submitted")]
CUT_CODER = [agent("", "str_replace_editor"), tool("edited")]
CHAT = [agent("You could write it like this:\n```python\nprint(1)\n```\nOr shorter.")]
TALK = [agent("Hello! What a day."), user("Tell me more."), agent("It rained.\nThen it did not.")]
COT = [agent("2 + 3 = 5.\nAnswer: 5")]

KINDS = {
    "react": (REACT, ("text_actions",), ["search", "finish"]),
    "alfworld": (ALFWORLD, ("text_actions",), ["action in another syntax"] * 2),
    "database": (DATABASE, ("text_actions",), ["action in another syntax"]),
    "tags": (TAGS, ("text_actions",), ["action in another syntax"]),
    "mini-swe-agent": (MINI_SWE, ("text_actions",), ["command", "command"]),
    "swe-agent": (SWE_AGENT, ("text_actions",), ["command", "command"]),
    "tau-bench": (TAU, ("native_calls", "simulated_user"), ["cancel"]),
    "coder": (CODER, ("native_calls",), ["bash", "submit"]),
    "cut coder": (CUT_CODER, ("native_calls",), ["str_replace_editor"]),
    "chat": (CHAT, ("plain_chat",), []),
    "talk": (TALK, ("plain_chat", "simulated_user"), []),
    "chain of thought": (COT, ("chain_of_thought",), []),
}


def episode(messages: list[Message], reference: str | None = None, **metadata: Any) -> Trajectory:
    outcome = Outcome(False, 0.0, "wrong_answer", None, reference)
    return Trajectory("e", "q", "What is to be done?", tuple(messages), outcome, metadata=metadata)


@pytest.mark.parametrize(("messages", "kinds", "calls"), KINDS.values(), ids=KINDS)
def test_the_kind_of_an_agent_and_what_it_calls(messages, kinds, calls):
    read = read_agent(messages, ("search",))
    assert read.kinds == kinds
    assert [name for turn in read.actions for name in calls_of(messages, read, turn)] == calls


@pytest.mark.parametrize("messages", [messages for messages, _, _ in KINDS.values()], ids=KINDS)
def test_nothing_is_missing_in_an_agent_of_any_kind(messages):
    assert check(episode(messages), SETTINGS) == []


FAILURES = {
    "alfworld": "out_of_turns", "database": "wrong_answer", "tags": "wrong_answer", "mini-swe-agent": "wrong_answer",
    "swe-agent": "wrong_answer", "tau-bench": "wrong_answer", "coder": "wrong_answer", "cut coder": "out_of_turns",
    "chat": "wrong_answer", "talk": "wrong_answer", "chain of thought": "wrong_answer",
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_of_a_kind_that_its_agent_can_have(name):
    assert failure_kind(KINDS[name][0], None, any_tool=True) == FAILURES[name]


def test_an_answer_that_is_due_and_an_action_that_is_unreadable_among_others_are_missed():
    cut = [agent("2 + 3 is\nwell, hard to say")]
    marks = check(episode(cut, reference="5"), SETTINGS)
    assert [(mark.name, mark.message) for mark in marks] == [("unfinished", None), ("unparsed_action", 0)]
    assert failure_kind(cut, None, any_tool=True, reference="5") == "no_answer"
    assert read_agent(cut, answer_is_due=True).kinds == ("chain_of_thought",)
    unreadable = [*REACT[:2], agent("Thought: hm"), tool("Error: there is no line 'Action: tool[input]'."), REACT[2]]
    assert [mark.name for mark in check(episode(unreadable), SETTINGS)] == ["unparsed_action", "observation_error"]
    # tools that are known, and a call without an end
    (mark,) = check(episode([agent("", "search"), tool("Ann.")]), SETTINGS)
    assert mark.name == "unfinished"


def test_a_user_who_never_got_an_answer_and_a_stop_mark():
    assert [mark.name for mark in check(episode([*COT, user("And 3 + 4?")]), SETTINGS)] == ["ends_on_user_turn"]
    stopped = [agent("", "cancel"), tool("done"), agent("It is done.\nAnything else?")]
    assert read_agent(stopped).kinds == ("native_calls",)
    assert read_agent(stopped, ending="###STOP###").kinds == ("native_calls", "simulated_user")


def test_tools_that_the_file_names_exist():
    messages = (agent("Thought: fly\nAction: fly[home]"), tool("Error: bad weather"), *REACT)
    named = replace(episode([]), messages=messages, tools=(call("fly"),))
    assert [mark.name for mark in check(replace(named, tools=()), SETTINGS)] == ["unparsed_action", "observation_error"]
    assert [mark.name for mark in check(named, SETTINGS)] == ["observation_error"]


def test_a_turn_that_only_thinks_is_not_empty():
    assert check(episode([Message("assistant", "", reasoning="Five."), *COT]), SETTINGS) == []
    assert [m.name for m in check(episode([agent(""), *COT]), SETTINGS)] == ["empty_turn"]


def test_calls_and_thoughts_are_characters():
    search = {"function": {"name": "search", "arguments": '{"q": 1}'}}
    calling = Message("assistant", "Go.", tool_calls=(search, {"name": "add", "input": {"a": 1}}), reasoning="Hm.")
    assert characters(replace(episode([calling]), question="Why?")) == 4 + 3 + 3 + (6 + 8) + (3 + 8)


# ---- labels in texts ----


@pytest.mark.parametrize(
    "messages",
    [
        [agent("```ruby\nscore = 0\nwords.each { score += 1 }\n```\nAnswer: done")],
        [agent("First `success = True`, then the rest.\nAnswer: done")],
        [bash("cat a.py"), user("<returncode>0</returncode>\n<output>\nreward=1\n</output>"), bash("exit")],
        [agent("", "bash"), tool("score = 0\nsuccess = True\n"), agent("I set reward=1 there.")],
        [agent("", "get_order"), tool('{"success": true, "order": 7}'), agent("It is open.")],
        [agent("This answer is correct, that one incorrect: a success.\nAnswer: 5")],
    ],
)
def test_code_and_results_of_tools_tell_no_label(messages):
    assert [m for m in check(episode(messages), SETTINGS) if m.name == "label_in_text"] == []


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        ([*CODER, user("reward: 1")], 4),
        ([*CODER, user("reward=1")], 4),
        ([agent("", "bash"), tool("Episode finished, reward = True")], 1),
        ([*REACT[:1], tool('{"is_correct": false}'), REACT[2]], 1),
        ([*REACT, tool("Answer is INCORRECT")], 3),
        ([*COT, user("success: true")], 1),
    ],
)
def test_what_an_environment_says_of_the_label_tells_it(messages, place):
    assert [m.message for m in check(episode(messages), SETTINGS) if m.name == "label_in_text"] == [place]


# ---- the audit ----


def chats(tmp_path: Path, *records: dict[str, Any], **settings: Any) -> Audit:
    path = write_rows(tmp_path / "chats.jsonl", list(records))
    return audit(make_config([path], tmp_path / "out", **settings), lambda line: None)


def told(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def order(number: int, trial: int, asks: str, reward: float) -> dict[str, Any]:
    traj = [
        told("system", "Policy: be  kind.\n" + "x" * 100),
        told("user", asks),
        told("assistant", "", tool_calls=[call("get_order")]),
        told("tool", "open"),
        told("assistant", "Which one?"),
        told("user", "That one."),
        told("assistant", "", tool_calls=[call("cancel"), call("get_order")]),
        told("tool", "done"),
        told("tool", "closed"),
        told("user", "###STOP###"),
    ]
    return {"task_id": number, "trial": trial, "reward": reward, "traj": traj}


def test_an_audit_says_which_agents_these_are_and_what_they_call(tmp_path):
    rows = [order(0, 0, "Cancel order 7", 1.0), order(0, 1, "Order 7 must go", 0.0), order(1, 0, "Refund it", 0.0)]
    made = chats(tmp_path, *rows)
    told = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert told["agents"] == {"native_calls": 3, "simulated_user": 3}
    assert told["calls"] == {"turns": 9, "calls": 9, "tools": 2, "by_tool": {"get_order": 6, "cancel": 3}}
    assert told["tasks"] == {"named": 3, "distinct": 2, "successes_only": 0, "failures_only": 1, "both": 1}
    beginning = "Policy: be kind. " + "x" * 63
    assert told["system_prompts"] == {"distinct": 1, "first": [{"trajectories": 3, "text": beginning}]}
    assert told["questions_found"] == [
        {"how": "user message 1", "trajectories": 3, "before": [1, 1], "is_shared": True}
    ]
    assert told["by_failure"] == {"wrong_answer": 2}
    assert [f["name"] for f in told["findings"] if f["severity"] != "note"] == []
    screen = summary(made, 140).plain
    for line in (
        "agents         structured calls 3; all of them take turns with a user",
        "turns          9 turns of the agent, 9 calls: get_order 6, cancel 3",
        "tasks          2: 1 with both classes, 0 with successes only, 1 with failures only; asked in 3 texts",
        "question       the first user message (3 trajectories); 1 message before it opens every conversation",
        "system prompts  1; environment=own keeps them; other environments replace them",
        f"               '{beginning}' 3",
    ):
        assert line in screen.splitlines()
    html = page(made)
    for text in ("structured calls", "get_order", "environment=own keeps them; other environments replace them"):
        assert text in html


def test_where_the_question_was_found_is_said(tmp_path):
    front = [told("user", "Operate a database."), told("assistant", "Ok.")]
    rows = [
        {"success": bool(i), "messages": [*front, told("user", f"Rows of T{i}?"), told("assistant", "Answer: 3")]}
        for i in range(2)
    ]
    screen = summary(chats(tmp_path, *rows), 140).plain
    said = "the second user message (2 trajectories); 2 messages before it open every conversation"
    assert f"question       {said}" in screen.splitlines()


def test_advice_that_would_drop_most_of_a_file_is_a_question(tmp_path):
    cut = [told("assistant", "Thought: hm\nAction: search[it]"), told("tool", "Nothing.")]
    rows = [row(f"a{i}", f"Question {i}?", "7") for i in range(10)]
    for bad in rows[:8]:
        bad["messages"], bad["outcome"] = cut, {"success": False}
    found_in = found(audit_rows(tmp_path, rows), "unfinished")
    assert found_in is not None and found_in.count == 8
    assert found_in.remedy == (
        "8 of 10 trajectories: are these finished? Only if they should go: quality.unfinished=true drops them."
    )
    rows = [row(f"a{i}", f"Question {i}?", "7") for i in range(10)]
    rows[0]["messages"], rows[0]["outcome"] = cut, {"success": False}
    few = found(audit_rows(tmp_path, rows), "unfinished")
    assert few is not None and "drop them (quality.unfinished=true)" in few.remedy


def test_most_of_one_file_among_several_is_most_of_a_file(tmp_path):
    cut = [told("assistant", "Thought: hm\nAction: search[it]"), told("tool", "Nothing.")]
    good = write_rows(tmp_path / "good.jsonl", [row(f"a{i}", f"Question {i}?", "7") for i in range(8)])
    rows = [{**row(f"b{i}", f"Why {i}?", "7"), "messages": cut, "outcome": {"success": False}} for i in range(3)]
    bad = write_rows(tmp_path / "bad.jsonl", rows)
    found_in = found(audit(make_config([good, bad], tmp_path / "out"), lambda line: None), "unfinished")
    assert found_in is not None and found_in.remedy.startswith("3 of 3 trajectories of bad.jsonl: are these finished?")


def test_one_question_of_most_rows_may_be_instructions(tmp_path):
    def record(i: int, **more: Any) -> dict[str, Any]:
        said = [told("user", "Solve the riddle."), told("assistant", f"Answer: {i}")]
        return {"success": i % 2 == 0, "riddle": f"What has {i} legs?", "messages": said, **more}

    of_one = found(chats(tmp_path, *(record(i) for i in range(5))), "one_question")
    assert of_one is not None and (of_one.count, of_one.of, of_one.severity) == (5, 5, "warning")
    assert of_one.says == (
        "5 of 5 trajectories have one and the same question ('Solve the riddle.'), and nothing names them trials."
    )
    assert "trajectories.question=FIELD" in of_one.remedy and of_one.details["fields"] == ["riddle"]
    trials = chats(tmp_path, *(record(i, task_id="one") for i in range(5)))
    assert found(trials, "one_question") is None
    tasks = found(chats(tmp_path, *(record(i, task_id=f"t{i}") for i in range(5))), "one_question")
    assert tasks is not None and tasks.says.endswith(", of 5 different tasks.")


def test_loss_keys_weights_and_parts_that_are_not_taken_as_they_stand_are_said(tmp_path):
    thought = [{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "Answer: 5"}]
    rows = [
        {"success": True, "messages": [told("user", "2 + 3?"), told("assistant", "Answer: 5", do_train=False)]},
        {"success": False, "messages": [told("user", "2 + 4?"), told("assistant", "Answer: 5", weight=0.5)]},
        {"success": False, "messages": [told("user", "2 + 5?"), {"role": "assistant", "content": thought}]},
    ]
    made = chats(tmp_path, *rows)
    unread, weights, parts = (found(made, name) for name in ("unread_loss_keys", "loss_weights", "left_out_parts"))
    assert unread is not None and (unread.count, unread.severity) == (1, "warning")
    assert unread.details["keys"] == {"do_train": 1}
    assert weights is not None and weights.details["weights"] == {"0.5": 1}
    assert parts is not None and (parts.count, parts.details["parts"]) == (1, {"redacted_thinking": 1})


def test_user_messages_are_no_observations(tmp_path):
    made = chats(tmp_path, *(order(i, 0, f"Cancel order {i}", float(i % 2)) for i in range(4)))
    assert made.n_calls == 12
    errors = [order(0, 0, "Cancel it", 1.0), order(1, 0, "Refund it", 0.0)]
    for each in errors:
        each["traj"][3]["content"] = "Error: order not found"
    error = found(chats(tmp_path, *errors), "observation_error")
    assert error is not None and (error.count, error.of) == (2, 6)  # three results of tools a row, one user message


def test_a_record_with_a_field_task_of_its_own_is_no_trial_of_it(tmp_path):
    rows = [
        {"task": "math", "success": True, "messages": [told("user", f"2 + {i}?"), told("assistant", "Answer: 5")]}
        for i in range(40)
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    read = [t for _, t in read_conversations(chat.conversations, tmp_path / "rows.jsonl")]
    assert len({is_held_out(trajectory, 0.5) for trajectory in read}) == 2
    assert chats(tmp_path, *rows).n_with_task == 0


# ---- real files ----


def test_label_in_code_is_no_error(data, tmp_path):
    reported = DATA.parent / "reported" / "formats" / "label_in_code.jsonl"
    if not reported.is_file():
        pytest.skip(f"{reported} does not exist")
    assert audit(make_config([reported], tmp_path / "out"), lambda line: None).findings == ()


def test_real_agents(data, tmp_path):
    """Figures counted by scripts of their own."""
    made = audit(make_config([data / "agents" / "tau_bench_airline.json"], tmp_path / "out"), lambda line: None)
    assert made.agents == {"native_calls": 25, "plain_chat": 5, "simulated_user": 30}
    assert (made.n_calls, made.n_turns, made.by_tool["get_reservation_details"]) == (227, 429, 74)
    assert {key: made.tasks[key] for key in ("distinct", "both")} == {"distinct": 15, "both": 10}
    assert made.by_failure == {"wrong_answer": 19, "out_of_turns": 1}  # one made 30 turns
    assert [(f.name, f.count, f.of) for f in made.findings if f.name == "observation_error"] == [
        ("observation_error", 18, 227)
    ]
    assert not {"unparsed_action", "unfinished", "ends_on_user_turn"} & {f.name for f in made.findings}
    plain = audit(make_config([data / "agents" / "llama_factory_kto.json"], tmp_path / "out"), lambda line: None)
    assert (plain.agents["simulated_user"], plain.n_calls, plain.n_turns) == (14, 0, 96)
    assert plain.findings == ()


@pytest.mark.parametrize(
    ("name", "commands"), [("mini_swe_agent_astropy-7606.traj.json", 31), ("swe_agent_pydicom-1458.traj", 12)]
)
def test_real_agents_of_commands(data, name, commands):
    ((_, trajectory),) = read_conversations(chat.conversations, data / "agents" / name, needs_label=False)
    read = read_agent(trajectory.messages)
    assert (read.kinds, len(read.commands)) == (("text_actions",), commands)
    assert check(trajectory, SETTINGS) == []
    assert trajectory.outcome.failure == "wrong_answer"
