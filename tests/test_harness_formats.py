"""What evaluation harnesses write: Inspect's logs, results of tau-bench and tau2-bench, samples of lm-eval."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from filelock import FileLock

from nat.core.questions import question_id
from nat.core.rows.bad import BadRow
from nat.trajectories.detection import FORMATS, detect
from nat.trajectories.formats import inspect_logs, lm_eval, tau_bench
from nat.trajectories.formats.conversations import read_conversations
from nat.trajectories.formats.tool_calls import as_react_text
from nat.trajectories.labels import relabel
from nat.trajectories.reading import read_rows
from nat.types import Message, Outcome
from tests.conftest import DATA, trajectory_files

REPORTED = DATA.parent / "reported" / "formats"


def format_of(record: dict[str, Any]) -> str:
    """What a file of such records is taken for."""
    return next(format.name for format in FORMATS if format.recognises(record))


def write(path, value):
    """Lines of a list, where the file is one of lines; else the value as it is."""
    lines = "".join(json.dumps(row) + "\n" for row in value) if path.suffix == ".jsonl" else json.dumps(value, indent=1)
    path.write_text(lines)
    return path


def rows_of(path, **options):
    """The trajectories that reading finds, of whatever format, and the rows that are bad."""
    bad: list[BadRow] = []
    rows = list(read_rows(trajectory_files("auto", path=[str(path)], **options), bad.append, bad.append))
    return [row.trajectory for row in rows], bad


def one(format, tmp_path, record, name="mine.json", **options):
    path = write(tmp_path / name, [record])
    ((_, trajectory),) = read_conversations(format.conversations, path, **options)
    return trajectory


def refused(format, tmp_path, record, name="mine.json"):
    with pytest.raises(BadRow) as error:
        one(format, tmp_path, record, name)
    return error.value


def in_docstring(format, number=0):
    """A record that the docstring of a format shows."""
    doc = format.__doc__.replace(", ...]", "]")
    begin = -1
    for _ in range(number + 1):
        begin = doc.index("\n    {", begin + 1)
    return json.JSONDecoder().raw_decode(doc, begin + 5)[0]


# ---- Inspect ----

SAMPLE = {
    "id": "river",
    "epoch": 1,
    "input": "Which river crosses Turin?",
    "target": "Po",
    "messages": [
        {"role": "user", "content": "Which river crosses Turin?", "source": "input"},
        {
            "role": "assistant",
            "content": "",
            "source": "generate",
            "tool_calls": [{"id": "c1", "function": "look_up", "arguments": {"name": "Turin"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "function": "look_up", "content": "Turin lies on the Po."},
        {"role": "assistant", "content": "The Po.", "source": "generate"},
    ],
    "scores": {"match": {"value": "C", "answer": "Po"}},
}


def sample(**fields):
    return {**SAMPLE, **fields}


def said(*messages, **fields):
    """A sample with these messages after the question's, each (role, content) or as it stands."""
    asked = {"role": "user", "content": "Which river crosses Turin?", "source": "input"}
    given = [m if isinstance(m, dict) else {"role": m[0], "content": m[1]} for m in messages]
    return sample(messages=[asked, *given], **fields)


def test_a_sample_of_inspect(tmp_path):
    assert in_docstring(inspect_logs) == SAMPLE
    assert inspect_logs.recognises(SAMPLE)
    assert format_of(SAMPLE) == "inspect"
    trajectory = one(inspect_logs, tmp_path, SAMPLE)
    assert (trajectory.id, trajectory.question_id) == ("river:1", "river")
    assert trajectory.question == "Which river crosses Turin?"
    assert trajectory.prompt == (Message("user", "Which river crosses Turin?"),)
    assert trajectory.messages == (
        Message("assistant", "", tool_calls=({"id": "c1", "function": "look_up", "arguments": {"name": "Turin"}},)),
        Message("tool", "Turin lies on the Po."),
        Message("assistant", "The Po."),
    )
    assert as_react_text(trajectory.messages)[0].content == "Action: look_up[Turin]"
    assert trajectory.outcome == Outcome(True, 1.0, None, "Po", "Po")
    assert trajectory.metadata["scores"] == {"match": {"value": "C", "answer": "Po"}}


@pytest.mark.parametrize(
    ("value", "success", "score", "failure"),
    [
        ("C", True, 1.0, None),
        ("I", False, 0.0, "wrong_answer"),
        ("P", False, 0.5, "wrong_answer"),
        ("N", False, 0.0, "abstained"),
        ("CORRECT", True, 1.0, None),
        (True, True, 1.0, None),
        (False, False, 0.0, "wrong_answer"),
        (1, True, 1.0, None),
        (0.25, False, 0.25, "wrong_answer"),
    ],
)
def test_values_of_a_scorer(tmp_path, value, success, score, failure):
    trajectory = one(inspect_logs, tmp_path, sample(scores={"match": {"value": value, "answer": "Po"}}))
    outcome = trajectory.outcome
    assert (outcome.success, outcome.score, outcome.failure) == (success, score, failure)


def test_of_several_scorers_the_one_that_decides(tmp_path):
    scores = {"length": {"value": 0.3, "answer": "9"}, "match": {"value": "C", "answer": "Po"}}
    assert one(inspect_logs, tmp_path, sample(scores=scores)).outcome == Outcome(True, 1.0, None, "Po", "Po")
    agreeing = {"match": {"value": "I", "answer": "Arno"}, "includes": {"value": "I", "answer": "the Arno"}}
    outcome = one(inspect_logs, tmp_path, sample(scores=agreeing)).outcome
    assert outcome == Outcome(False, 0.0, "wrong_answer", "Arno", "Po")


@pytest.mark.parametrize(
    ("scores", "problem", "rule", "success"),
    [
        (
            {"match": {"value": "I"}, "graded": {"value": "C"}},
            "its scorers disagree: match 'I', graded 'C'.",
            'scores.match.value == "C"',
            False,
        ),
        ({"f": {"value": 12}}, "no scorer says success or failure: f 12.", "scores.f.value >= 1", True),
        ({"f": {"value": {"exact": 0, "b": 2}}}, "no scorer says success", "scores.f.value.exact >= 1", False),
        ({"f": {"value": "good"}}, "no scorer says success", 'scores.f.value == "good"', True),
    ],
)
def test_a_label_that_a_rule_must_tell(tmp_path, scores, problem, rule, success):
    record = sample(scores=scores)
    row = refused(inspect_logs, tmp_path, record)
    assert row.reason == "no_label"
    assert problem in row.problem
    assert f"trajectories.label='{rule}'" in row.problem
    trajectory = one(inspect_logs, tmp_path, record, needs_label=False)
    assert relabel(trajectory, rule, None).trajectory.outcome.success is success


def test_a_sample_that_was_not_scored(tmp_path):
    row = refused(inspect_logs, tmp_path, sample(scores={}))
    assert (row.reason, row.problem) == ("no_label", "the sample was not scored: 'scores' holds no score.")


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ({"error": {"message": "ConnectionError()", "traceback": "..."}}, "infrastructure"),
        ({"error": {"message": "ConnectionError()"}, "scores": {}}, "infrastructure"),
        ({"invalidation": {"author": "ann"}}, "infrastructure"),
        ({"limit": {"type": "time", "limit": 60}}, "infrastructure"),
        ({"limit": {"type": "working", "limit": 60}}, "infrastructure"),
        ({"limit": {"type": "operator", "limit": 1}}, "infrastructure"),
        ({"limit": {"type": "message", "limit": 9}}, "out_of_turns"),
        ({"limit": {"type": "token", "limit": 9}}, "no_answer"),
        ({"limit": {"type": "context", "limit": 9}}, "no_answer"),
        ({"limit": {"type": "custom", "limit": 9}}, "wrong_answer"),
        ({"scores": {"match": {"value": "I", "reason": "grader_failed"}}}, "infrastructure"),
        (
            {"scores": {"match": {"value": "I"}}, "output": {"choices": [{"stop_reason": "max_tokens"}]}},
            "no_answer",
        ),
    ],
)
def test_ends_that_the_agent_did_not_choose(tmp_path, fields, failure):
    wrong = {"match": {"value": "I", "answer": "Arno"}}
    outcome = one(inspect_logs, tmp_path, sample(**{"scores": wrong, **fields})).outcome
    assert (outcome.success, outcome.failure) == (False, failure)


def test_a_limit_costs_no_success(tmp_path):
    assert one(inspect_logs, tmp_path, sample(limit={"type": "message", "limit": 9})).outcome.success


def test_a_run_that_broke_before_the_agent_acted(tmp_path):
    row = refused(inspect_logs, tmp_path, said(error={"message": "no sandbox"}, scores={}))
    assert (row.reason, row.problem) == (
        "infrastructure",
        "the run broke before the agent's first turn: no sandbox",
    )


def test_turns_of_the_input_carry_no_loss(tmp_path):
    shown = [
        {"role": "assistant", "content": "The Arno crosses Florence.", "source": "input"},
        {"role": "user", "content": "And Turin?", "source": "input"},
        {"role": "assistant", "content": "Hm."},  # put there by a solver
        {"role": "user", "content": "Go on."},
        {"role": "assistant", "content": "The Po.", "source": "generate"},
        {"role": "assistant", "content": "Quoted.", "source": "input"},
        {"role": "assistant", "content": "Done.", "source": "generate"},
    ]
    trajectory = one(inspect_logs, tmp_path, said(*shown))
    assert [(m.role, m.train) for m in trajectory.prompt] == [
        ("user", True),
        ("assistant", False),
        ("user", True),
        ("assistant", False),
        ("user", True),
    ]
    assert [(m.content, m.train) for m in trajectory.messages] == [
        ("The Po.", True),
        ("Quoted.", False),
        ("Done.", True),
    ]


def test_parts_thoughts_errors_and_calls_of_the_provider(tmp_path):
    used = {"type": "tool_use", "tool_type": "web_search", "id": "s1", "name": "web_search", "arguments": '{"q": "Po"}'}
    turn = [
        {"type": "reasoning", "reasoning": "I look.", "signature": "x", "redacted": False},
        {**used, "result": "Po: a river"},
        {"type": "data", "data": {"opaque": 1}},
        {"type": "reasoning", "reasoning": "Zm9v", "redacted": True},
        {"type": "reasoning", "reasoning": "YmFy", "redacted": True, "summary": "It is the Po."},
        {"type": "text", "text": "I ask the map."},
    ]
    call = {"id": "c1", "function": "map", "arguments": {"x": 1}}
    trajectory = one(
        inspect_logs,
        tmp_path,
        said(
            {"role": "assistant", "content": turn, "source": "generate", "tool_calls": [call]},
            {"role": "tool", "content": "", "tool_call_id": "c1", "error": {"type": "timeout", "message": "too slow"}},
            {"role": "assistant", "content": "Po.", "source": "generate"},
        ),
    )
    searched = {**used, "result": "Po: a river"}
    assert trajectory.messages == (
        Message("assistant", "", tool_calls=(searched,), reasoning="I look."),
        Message("tool", "Po: a river"),
        Message("assistant", "I ask the map.", tool_calls=(call,), reasoning="It is the Po."),
        Message("tool", "Error: too slow"),
        Message("assistant", "Po."),
    )
    assert trajectory.metadata["left_out_parts"] == {"data": 1, "redacted_reasoning": 1}


def test_attachments_are_put_back(tmp_path):
    key = "a" * 32
    message = {"role": "assistant", "content": f"See attachment://{key}.", "source": "generate"}
    record = said(message, attachments={key: "the long text"})
    assert one(inspect_logs, tmp_path, record).messages[0].content == "See the long text."
    row = refused(inspect_logs, tmp_path, {**record, "attachments": {}})
    assert (row.reason, row.problem) == (
        "missing_value",
        f"attachment://{key} is not among the sample's 'attachments'.",
    )


def test_targets(tmp_path):
    def reference(target, **fields):
        return one(inspect_logs, tmp_path, sample(target=target, **fields)).outcome.reference

    assert reference(" Yes") == "Yes"
    assert reference(["Padus", "PO"]) == "PO"  # the one that was answered
    assert reference(["Padus", "Eridanos"]) == "Padus"
    assert reference(["A", "C"], choices=["a", "b", "c"]) == "A, C"
    assert reference("") is None


def test_tools_are_those_of_the_events(tmp_path):
    tool = {"name": "look_up", "description": "Look up.", "parameters": {"type": "object", "properties": {}}}
    model = {"event": "model", "tools": [tool]}
    trajectory = one(inspect_logs, tmp_path, sample(events=[{"event": "state"}, model, model]))
    assert trajectory.tools == (tool,)
    assert "events" not in trajectory.metadata


def test_a_sample_without_messages_is_its_input_and_output(tmp_path):
    output = {"choices": [{"message": {"role": "assistant", "content": "The Po."}}]}
    record = {key: value for key, value in sample(output=output).items() if key != "messages"}
    trajectory = one(inspect_logs, tmp_path, record)
    assert trajectory.prompt == (Message("user", "Which river crosses Turin?"),)
    assert trajectory.messages == (Message("assistant", "The Po."),)


def test_numbers_of_loose_samples_are_no_tasks(tmp_path):
    """7 of one data set is not 7 of another; the input is the same in all epochs."""
    trajectory = one(inspect_logs, tmp_path, sample(id=7))
    assert trajectory.question_id == question_id("Which river crosses Turin?")
    assert trajectory.id == "7:1"


def log(*samples):
    return {
        "version": 2,
        "status": "success",
        "eval": {"task": "rivers", "model": "lab/model"},
        "plan": {"steps": []},
        "results": {"total_samples": len(samples), "scores": [{"name": "match"}]},
        "samples": list(samples),
    }


def as_archive(path, value):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", json.dumps({k: v for k, v in value.items() if k != "samples"}))
        for one_sample in value["samples"]:
            archive.writestr(f"samples/{one_sample['id']}_epoch_{one_sample['epoch']}.json", json.dumps(one_sample))
    return path


@pytest.mark.parametrize("name", ["log.json", "log.eval"])
def test_a_log_names_task_and_model(tmp_path, name):
    wrong = {"match": {"value": "I", "answer": "Arno"}}
    value = log(SAMPLE, sample(epoch=2, scores=wrong), sample(id=7, input="Which city?"))
    path = write(tmp_path / name, value) if name.endswith(".json") else as_archive(tmp_path / name, value)
    assert detect(path).name == "inspect"
    read, bad = rows_of(path)
    assert bad == []
    assert sorted((t.id, t.question_id, t.outcome.success, t.source) for t in read) == [
        ("7:1", "rivers/7", True, "lab/model"),
        ("river:1", "rivers/river", True, "lab/model"),
        ("river:2", "rivers/river", False, "lab/model"),
    ]


@pytest.mark.parametrize("name", ["inspect_log.json", "inspect_sample.jsonl"])
def test_reported_logs_of_inspect(data, name):
    read, bad = rows_of(REPORTED / name)
    assert bad == []
    assert [(t.question, t.outcome) for t in read] == [
        ("Which page?", Outcome(True, 1.0, None, "A", "A")),
        ("Which name?", Outcome(False, 0.0, "wrong_answer", "Z", "B")),
    ]
    assert as_react_text(read[0].messages)[0].content == "Action: open[http://x.test]"


def test_a_real_log_of_inspect(data):
    read, bad = rows_of(data / "agents" / "inspect_popularity.eval")
    assert bad == []
    assert Counter(t.outcome.success for t in read) == {True: 8, False: 2}
    assert {t.outcome.reference for t in read} <= {"Yes", "No"}
    assert {t.source for t in read} == {"openai/gpt-4o-mini"}
    assert [t.question_id for t in read] == [f"popularity/{number}" for number in range(1, 11)]
    assert {(m.role, i) for t in read for i, m in enumerate(t.prompt)} == {("system", 0), ("user", 1)}


INSPECT = "inspect-ai>=0.3.285,<0.4"
EVALUATION = '''
import sys
from inspect_ai import Task, eval, task
from inspect_ai.dataset import Sample
from inspect_ai.model import ContentReasoning, ContentText, ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, solver, system_message, use_tools
from inspect_ai.tool import ToolError, tool

@tool
def add():
    async def execute(x: int, y: int):
        """Add two numbers.

        Args:
            x: the first
            y: the second
        """
        if x == 13:
            raise ToolError("an unlucky number")
        return str(x + y)
    return execute

@solver
def breaks():
    async def solve(state, generate):
        if state.sample_id == "broken":
            raise ConnectionError("no sandbox")
        return state
    return solve

LONG = "What is 2 + 4? " + "Think hard. " * 20

@task
def sums():
    samples = [Sample(id="one", input="What is 2 + 3?", target="5"), Sample(id="two", input=LONG, target=["6", "six"]),
               Sample(id="broken", input="What is 9 + 9?", target="18"),
               Sample(id="long", input="Add for ever.", target="0")]
    steps = [system_message("Use the tool."), use_tools(add()), breaks(), generate()]
    return Task(dataset=samples, solver=steps, scorer=includes(), message_limit=8, fail_on_error=False)

def call(x, y):
    return ModelOutput.for_tool_call("mockllm/model", "add", {"x": x, "y": y})

def say(text, thought):
    output = ModelOutput.from_content("mockllm/model", text)
    output.choices[0].message.content = [ContentReasoning(reasoning=thought), ContentText(text=text)]
    return output

outputs = [call(2, 3), say("It is 5.", "Two and three."), call(13, 4), say("It is 7.", "I guess."), *[call(1, 1)] * 6]
for output in outputs:
    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)  # else it loads a tokenizer
for format in ("eval", "json"):
    model = get_model("mockllm/model", custom_outputs=list(outputs), memoize=False)
    eval(sums(), model=model, log_dir=sys.argv[1], log_format=format, display="none", max_samples=1)
'''


def python_with(package: str) -> Path:
    """The interpreter of an environment that holds a package, made once; the test is skipped where there can be none.

    The environments stand in NAT_TEST_ENVIRONMENTS, by default in the user's cache; `off`: there are none.
    """
    chosen = os.environ.get("NAT_TEST_ENVIRONMENTS")
    if chosen == "off":
        pytest.skip("NAT_TEST_ENVIRONMENTS=off: no environments are made for tests")
    base = Path(chosen) if chosen else platformdirs.user_cache_path("nat-test-environments")
    folder = base / "".join(c if c.isalnum() else "_" for c in f"{package}-{sys.version_info[1]}")
    python = folder / "bin" / "python"
    try:
        base.mkdir(parents=True, exist_ok=True)
        with FileLock(base / f"{folder.name}.lock", timeout=400):
            if not (folder / "complete").exists():
                shutil.rmtree(folder, ignore_errors=True)
                run = {"check": True, "capture_output": True, "timeout": 300}
                subprocess.run([sys.executable, "-m", "venv", folder], **run)
                pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]
                subprocess.run(pip, **run)
                (folder / "complete").touch()
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"{package} cannot be installed here: {error}")
    return python


@pytest.mark.slow
def test_logs_that_inspect_itself_writes(tmp_path):
    """Of two formats, with calls, thoughts, an attachment, an error of a tool, one of the harness, and a limit."""
    python = python_with(INSPECT)
    script = tmp_path / "sums.py"
    script.write_text(EVALUATION)
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data"), "INSPECT_LOG_LEVEL": "error"}
    command = [python, script, tmp_path / "logs"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    logs = sorted((tmp_path / "logs").iterdir(), key=lambda path: path.suffix)
    assert [path.suffix for path in logs] == [".eval", ".json"]
    for path in logs:
        read, bad = rows_of(path)
        assert [(row.reason, row.problem) for row in bad] == [
            ("infrastructure", "the run broke before the agent's first turn: ConnectionError('no sandbox')")
        ]
        by_task = {t.question_id: t for t in read}
        assert {task: (t.outcome.success, t.outcome.failure) for task, t in by_task.items()} == {
            "sums/one": (True, None),
            "sums/two": (False, "wrong_answer"),
            "sums/long": (False, "out_of_turns"),
        }
        right, wrong, long = (by_task[f"sums/{name}"] for name in ("one", "two", "long"))
        assert right.question == "What is 2 + 3?"
        assert [m.role for m in right.prompt] == ["system", "user"]
        assert as_react_text(right.messages)[0].content.endswith('Action: add[{"x": 2, "y": 3}]')
        assert [m.content for m in right.messages[1:]] == ["5", "It is 5."]
        assert right.messages[2].reasoning == "Two and three."
        assert right.outcome.reference == "5"
        assert [tool["name"] for tool in right.tools] == ["add"]
        assert wrong.question.startswith("What is 2 + 4? Think hard.")
        assert wrong.messages[1].content == "Error: an unlucky number"
        assert sum(len(m.tool_calls) for m in long.messages) == 3


# ---- tau-bench ----

OF_TAU_BENCH = {
    "task_id": 7,
    "trial": 0,
    "reward": 1.0,
    "info": {"task": {"user_id": "ann_lee_2", "instruction": "Cancel it."}},
    "traj": [
        {"role": "system", "content": "# Airline Agent Policy\n..."},
        {"role": "user", "content": "Please cancel my flight."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "cancel", "arguments": '{"reservation": "Q1"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "cancelled"},
        {"role": "assistant", "content": "It is cancelled."},
        {"role": "user", "content": "Thanks. ###STOP###"},
    ],
}
SIMULATION = {
    "id": "s1",
    "task_id": "7",
    "trial": 0,
    "termination_reason": "user_stop",
    "reward_info": {"reward": 1.0},
    "messages": [
        {"role": "assistant", "content": "Hi! How can I help you today?"},
        {"role": "user", "content": "Please cancel my flight."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "name": "cancel", "arguments": {"reservation": "Q1"}}],
        },
        {"role": "tool", "id": "c1", "content": "cancelled", "requestor": "assistant"},
    ],
}
GREETING, ASKED, CALLING, RESULT = SIMULATION["messages"]
STOP = {"role": "user", "content": "###STOP###"}


def conversed(*after, **fields):
    """A simulation that goes on with these messages."""
    return {**SIMULATION, "messages": [*SIMULATION["messages"], *after], **fields}


def test_a_record_of_tau_bench(tmp_path):
    assert in_docstring(tau_bench) == OF_TAU_BENCH
    assert tau_bench.recognises(OF_TAU_BENCH)
    assert format_of(OF_TAU_BENCH) == "tau_bench"
    trajectory = one(tau_bench, tmp_path, OF_TAU_BENCH)
    assert (trajectory.id, trajectory.question_id) == ("airline/7:0", "airline/7")
    assert trajectory.question == "Please cancel my flight."
    assert [m.role for m in trajectory.prompt] == ["system", "user"]
    assert [m.content for m in trajectory.messages] == ["", "cancelled", "It is cancelled."]
    assert as_react_text(trajectory.messages)[0].content == "Action: cancel[Q1]"
    assert trajectory.outcome == Outcome(True, 1.0)
    assert trajectory.metadata["final_observation"] == "Thanks. ###STOP###"


def test_trials_share_their_task_whatever_the_user_says_first(tmp_path):
    other = [{"role": "user", "content": "Hello! My flight must go."}, *OF_TAU_BENCH["traj"][2:]]
    second = {**OF_TAU_BENCH, "trial": 1, "reward": 0.0, "traj": [OF_TAU_BENCH["traj"][0], *other]}
    read, bad = rows_of(write(tmp_path / "results.json", [OF_TAU_BENCH, second]))
    assert bad == []
    assert [t.question_id for t in read] == ["airline/7", "airline/7"]
    assert [t.question for t in read] == ["Please cancel my flight.", "Hello! My flight must go."]
    assert [t.outcome.failure for t in read] == [None, "wrong_answer"]


@pytest.mark.parametrize(
    ("policy", "name", "task"),
    [
        ("# Retail agent policy\n...", "gpt-airline.json", "retail/7"),
        ("Help.", "gpt-airline.json", "airline/7"),
        ("Help.", "mine.json", "7"),
    ],
)
def test_the_domain_of_a_task(tmp_path, policy, name, task):
    traj = [{"role": "system", "content": policy}, *OF_TAU_BENCH["traj"][1:]]
    assert one(tau_bench, tmp_path, {**OF_TAU_BENCH, "traj": traj}, name).question_id == task


def test_ends_of_tau_bench(tmp_path):
    def failure(*messages):
        traj = [*OF_TAU_BENCH["traj"][:2], *messages]
        return one(tau_bench, tmp_path, {**OF_TAU_BENCH, "reward": 0.0, "traj": traj}).outcome.failure

    result = {"role": "tool", "tool_call_id": "c1", "content": "ok"}
    transfer = {"id": "c1", "type": "function", "function": {"name": "transfer_to_human_agents", "arguments": "{}"}}
    assert failure({"role": "assistant", "content": "Bye."}, STOP) == "wrong_answer"
    assert failure({"role": "assistant", "content": None, "tool_calls": [transfer]}, result) == "wrong_answer"
    assert failure(OF_TAU_BENCH["traj"][2], result) == "out_of_turns"


def test_a_run_of_tau_bench_that_broke(tmp_path):
    broken = {**OF_TAU_BENCH, "reward": 0.0, "info": {"error": "RateLimitError()", "traceback": "..."}, "traj": []}
    row = refused(tau_bench, tmp_path, broken)
    assert (row.reason, row.problem) == (
        "infrastructure",
        "the run broke before the agent's first turn (RateLimitError()).",
    )
    late = {**broken, "traj": OF_TAU_BENCH["traj"]}
    assert one(tau_bench, tmp_path, late).outcome == Outcome(False, 0.0, "infrastructure")


def test_actions_as_text(tmp_path):
    asks = 'Thought:\nI look.\nAction:\n{"name": "get", "arguments": {"id": "Q1"}}'
    answers = 'Action:\n{"name": "respond", "arguments": {"content": "Done."}}'
    traj = [
        *OF_TAU_BENCH["traj"][:2],
        {"role": "assistant", "content": asks},
        {"role": "user", "content": "API output: open"},
        {"role": "assistant", "content": answers},
        {"role": "user", "content": "Thanks."},
        {"role": "assistant", "content": answers},
        STOP,
    ]
    trajectory = one(tau_bench, tmp_path, {**OF_TAU_BENCH, "traj": traj})
    assert [(m.role, m.content) for m in trajectory.messages] == [
        ("assistant", asks),
        ("tool", "open"),
        ("assistant", answers),
        ("user", "Thanks."),
        ("assistant", answers),
    ]


def test_a_simulation_of_tau2(tmp_path):
    assert in_docstring(tau_bench, 1) == SIMULATION
    record = conversed({"role": "assistant", "content": "It is cancelled."}, STOP)
    assert format_of(record) == "tau_bench"
    trajectory = one(tau_bench, tmp_path, record)
    assert (trajectory.id, trajectory.question_id, trajectory.question) == ("s1", "7", "Please cancel my flight.")
    assert trajectory.prompt == (
        Message("assistant", "Hi! How can I help you today?", train=False),
        Message("user", "Please cancel my flight."),
    )
    assert trajectory.messages == (
        Message("assistant", "", tool_calls=tuple(CALLING["tool_calls"])),
        Message("tool", "cancelled"),
        Message("assistant", "It is cancelled."),
    )
    assert trajectory.outcome == Outcome(True, 1.0)


def results(*simulations, **task):
    return {
        "timestamp": "t",
        "info": {"environment_info": {"domain_name": "telecom", "policy": "Help with phones."}},
        "tasks": [{"id": "7", **task}],
        "simulations": list(simulations),
    }


def test_results_name_domain_and_policy(tmp_path):
    read, bad = rows_of(write(tmp_path / "results.json", results(conversed(STOP), conversed(STOP, id="s2"))))
    assert bad == []
    assert [t.question_id for t in read] == ["telecom/7", "telecom/7"]
    assert read[0].prompt[0] == Message("system", "Help with phones.")
    assert [m.role for m in read[0].prompt] == ["system", "assistant", "user"]


def test_what_the_user_does_is_not_the_agents(tmp_path):
    call = {"id": "u1", "name": "toggle_airplane_mode", "arguments": {}, "requestor": "user"}
    record = conversed(
        {"role": "assistant", "content": "Turn it on.", "tool_calls": None},
        {"role": "user", "content": None, "tool_calls": [call, {**call, "id": "u2"}]},
        {"role": "tool", "id": "u1", "content": "on", "requestor": "user", "error": False},
        {"role": "tool", "id": "u2", "content": "off", "requestor": "user", "error": False},
        {"role": "user", "content": "I did."},
        {"role": "assistant", "content": "Good."},
        STOP,
    )
    trajectory = one(tau_bench, tmp_path, record)
    assert [(m.role, m.content) for m in trajectory.messages] == [
        ("assistant", ""),
        ("tool", "cancelled"),
        ("assistant", "Turn it on."),
        ("user", "I did."),
        ("assistant", "Good."),
    ]
    assert trajectory.metadata["left_out_parts"] == {"calls_of_the_user": 2, "results_of_the_user": 2}


def test_results_in_another_order_thoughts_and_several_results_in_one(tmp_path):
    calls = [{"id": name, "name": "get", "arguments": {"n": name}, "requestor": "assistant"} for name in "ab"]
    raw = {"finish_reason": "tool_calls", "message": {"reasoning_content": "Two things."}}
    parts = [{"role": "tool", "id": name, "content": f"{name}!", "requestor": "assistant"} for name in "ba"]
    record = conversed(
        {"role": "assistant", "content": None, "tool_calls": calls, "raw_data": raw},
        {"role": "tool", "tool_messages": parts},
        {"role": "assistant", "content": "Bye."},
    )
    turn, first, second = one(tau_bench, tmp_path, record).messages[2:5]
    assert turn.reasoning == "Two things."
    assert (first.content, second.content) == ("a!", "b!")


@pytest.mark.parametrize(
    ("reason", "failure"),
    [
        ("user_stop", "wrong_answer"),
        ("agent_stop", "wrong_answer"),
        ("max_steps", "out_of_turns"),
        ("too_many_errors", "tool_error"),
        ("agent_error", "unparsed_action"),
        ("context_window_exceeded", "no_answer"),
        ("user_error", "infrastructure"),
        ("infrastructure_error", "infrastructure"),
        ("timeout", "infrastructure"),
    ],
)
def test_termination_reasons(tmp_path, reason, failure):
    record = conversed({"role": "assistant", "content": "Bye."}, termination_reason=reason, reward_info={"reward": 0.0})
    assert one(tau_bench, tmp_path, record).outcome == Outcome(False, 0.0, failure)


def test_a_simulation_that_was_not_rewarded(tmp_path):
    assert refused(tau_bench, tmp_path, conversed(STOP, reward_info=None)).reason == "no_label"
    cut = conversed(reward_info=None, termination_reason="max_steps")  # scored 0 by tau2-bench as well
    assert one(tau_bench, tmp_path, cut).outcome == Outcome(False, 0.0, "out_of_turns")
    broken = conversed(reward_info=None, termination_reason="infrastructure_error")
    assert one(tau_bench, tmp_path, broken).outcome == Outcome(False, 0.0, "infrastructure")
    empty = refused(tau_bench, tmp_path, {**broken, "messages": []})
    assert (empty.reason, "(infrastructure_error)" in empty.problem) == ("infrastructure", True)


def test_a_history_that_the_author_of_a_task_wrote_carries_no_loss(tmp_path):
    written = {"message_history": SIMULATION["messages"]}
    record = conversed({"role": "user", "content": "And?"}, {"role": "assistant", "content": "All done."}, STOP)
    ((trajectory,), _) = rows_of(write(tmp_path / "r.json", results(record, initial_state=written)))
    assert [m.content for m in trajectory.messages] == ["All done."]
    assert not any(m.train for m in trajectory.prompt if m.role == "assistant")


def test_an_agent_that_works_alone_is_asked_by_the_ticket(tmp_path):
    record = {**SIMULATION, "messages": [CALLING, RESULT, {"role": "assistant", "content": "###STOP###"}]}
    ((trajectory,), bad) = rows_of(write(tmp_path / "r.json", results(record, ticket="Cancel Q1.")))
    assert bad == []
    assert trajectory.question == "Cancel Q1."
    assert [m.role for m in trajectory.prompt] == ["system", "user"]
    assert len(trajectory.messages) == 3


@pytest.mark.parametrize(
    ("fields", "reason", "problem"),
    [
        ({"messages": None, "ticks": [{"tick_id": 0}]}, "wrong_value", "a conversation by voice ('ticks')"),
        ({"messages": [GREETING]}, "missing_value", "no user message with the question"),
        ({"messages": [GREETING, ASKED]}, "no_agent_turn", "in 2 messages the agent answers no user (user_stop)"),
        ({"task_id": None}, "wrong_value", "'task_id' is None"),
        ({"reward_info": {"reward": 7}}, "wrong_value", "'reward' is 7"),
    ],
)
def test_flaws_of_simulations(tmp_path, fields, reason, problem):
    row = refused(tau_bench, tmp_path, {**conversed(STOP), **fields})
    assert row.reason == reason
    assert problem in row.problem


def test_reported_results_of_tau_bench(data):
    read, bad = rows_of(REPORTED / "taubench_traj_tool_calls.json")
    assert bad == []
    assert [(t.question_id, t.outcome.success) for t in read] == [("0", True), ("0", False), ("1", False)]
    assert sum(len(m.tool_calls) for t in read for m in t.messages) == 4
    ((simulation,), bad) = rows_of(REPORTED / "tau2_results.json")
    assert bad == []
    assert (simulation.question_id, simulation.question, simulation.outcome.success) == ("0", "Cancel order 7", True)


def test_real_results_of_tau_bench(data):
    read, bad = rows_of(data / "agents" / "tau_bench_airline.json")
    assert bad == []
    assert Counter(t.outcome.success for t in read) == {True: 10, False: 20}
    labels: dict[str, set[bool]] = {}
    for t in read:
        labels.setdefault(t.question_id, set()).add(t.outcome.success)
    assert Counter(map(len, labels.values())) == {2: 10, 1: 5}
    calls = [sum(len(m.tool_calls) for m in t.messages) for t in read]
    assert (sum(calls), sum(n > 0 for n in calls)) == (227, 25)
    assert all([m.role for m in t.prompt] == ["system", "user"] for t in read)
    assert not any("###STOP###" in m.content for t in read for m in t.messages)
    assert {t.outcome.prediction for t in read} == {None}
    assert all(t.question_id.startswith("airline/") for t in read)


def test_many_trials_of_a_task_in_chats(data):
    read, bad = rows_of(REPORTED / "same_task_many_trials.jsonl")
    assert bad == []
    assert [(t.question_id, t.outcome.success) for t in read] == [("7", True), ("7", False), ("8", True), ("9", False)]


# ---- lm-eval ----

ROW = {
    "doc_id": 4,
    "doc": {"question": "What is 2 + 3?", "answer": "2 + 3 = 5\n#### 5"},
    "target": "2 + 3 = 5\n#### 5",
    "arguments": {"gen_args_0": {"arg_0": "Question: What is 2 + 3?\nAnswer:", "arg_1": {"until": ["Question:"]}}},
    "resps": [[" 2 + 3 = 5\n#### 5"]],
    "filtered_resps": ["5"],
    "filter": "strict-match",
    "metrics": ["exact_match"],
    "exact_match": 1.0,
    "doc_hash": "9c1e",
}
SAMPLES = "samples_gsm8k_cot_2024-06-29T17-38-59.123456.jsonl"


def test_a_row_of_lm_eval(tmp_path):
    assert in_docstring(lm_eval) == ROW
    assert lm_eval.recognises(ROW)
    trajectory = one(lm_eval, tmp_path, ROW, SAMPLES)
    assert (trajectory.id, trajectory.question_id, trajectory.question) == ("4", "gsm8k_cot/4", "What is 2 + 3?")
    assert trajectory.prompt == (Message("user", "Question: What is 2 + 3?\nAnswer:"),)
    assert trajectory.messages == (Message("assistant", " 2 + 3 = 5\n#### 5"),)
    assert trajectory.outcome == Outcome(True, 1.0, None, "5", "5")


def test_prompts_of_chats(tmp_path):
    chat_messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "What is 2 + 3?"},
    ]
    text = json.dumps(chat_messages)
    for given in (text, [text], chat_messages):  # as text, as the tuple of one that it is for APIs, as a list
        trajectory = one(lm_eval, tmp_path, {**ROW, "arguments": [[given, {"until": []}]]})
        assert [(m.role, m.train) for m in trajectory.prompt] == [
            ("system", True),
            ("user", True),
            ("assistant", False),
            ("user", True),
        ]
        assert trajectory.question == "What is 2 + 3?"


@pytest.mark.parametrize(
    ("name", "task"),
    [
        (SAMPLES, "gsm8k_cot/4"),
        ("samples_mmlu_pro_2024-06-29T17-38-59.123456.jsonl", "mmlu_pro/4"),
        ("samples_drop.jsonl", "drop/4"),
        ("mine.jsonl", "9c1e"),
    ],
)
def test_the_task_of_a_document(tmp_path, name, task):
    assert one(lm_eval, tmp_path, ROW, name).question_id == task


def filtered(filter, value, doc_id=4):
    found = "5" if value else "[invalid]"
    response = {"resps": [["So it is 5."]], "filtered_resps": [found]}
    return {**ROW, "doc_id": doc_id, "filter": filter, "exact_match": value, **response}


def test_of_several_filters_the_first_counts_and_the_others_are_kept(tmp_path):
    rows = [
        filtered("strict-match", 0.0),
        filtered("strict-match", 1.0, 5),
        filtered("flexible-extract", 1.0),
        filtered("flexible-extract", 1.0, 5),
    ]
    read, bad = rows_of(write(tmp_path / SAMPLES, rows))
    assert bad == []
    assert [(t.id, t.outcome.success) for t in read] == [("4", False), ("5", True)]
    assert [t.outcome.prediction for t in read] == ["So it is 5.", "5"]  # of the first the filter found none
    assert read[0].metadata["filters"] == {
        "strict-match": {"exact_match": 0.0, "filtered_resps": ["[invalid]"]},
        "flexible-extract": {"exact_match": 1.0, "filtered_resps": ["5"]},
    }
    rule = "filters.flexible-extract.exact_match"
    assert [relabel(t, rule, None).trajectory.outcome.success for t in read] == [True, True]


@pytest.mark.parametrize(
    ("metrics", "success", "score"),
    [
        ({"exact_match": 0.0}, False, 0.0),
        ({"f1": 0.4, "exact_match": 1.0}, True, 1.0),
        ({"acc": 1.0, "acc_norm": 0.0}, True, 1.0),
        ({"pass@1": True}, True, 1.0),
        ({"rouge": 0.5}, False, 0.5),
    ],
)
def test_which_metric_is_the_label(tmp_path, metrics, success, score):
    row = {key: value for key, value in ROW.items() if key != "exact_match"}
    outcome = one(lm_eval, tmp_path, {**row, "metrics": list(metrics), **metrics}).outcome
    assert (outcome.success, outcome.score) == (success, score)


LOGLIKELIHOODS = {"gen_args_0": {"arg_0": "Q?", "arg_1": " yes"}, "gen_args_1": {"arg_0": "Q?", "arg_1": " no"}}
FLAWS = [
    (
        {"arguments": LOGLIKELIHOODS, "resps": [[["-1.5", "False"]], [["-2.5", "False"]]]},
        "no_agent_turn",
        "log-likelihoods of 2 continuations, and nothing that the model wrote",
    ),
    ({"resps": [["5", "6", "5"]]}, "no_label", "'resps' holds 3 responses and one label"),
    ({"resps": [[]]}, "wrong_value", "it must hold the text that the model wrote"),
    ({"metrics": ["bypass"], "bypass": 999}, "no_label", "trajectories.label='bypass >= 1'"),
    ({"metrics": ["bleu", "rouge"], "bleu": 0.2, "rouge": 0.3}, "no_label", "bleu 0.2, rouge 0.3"),
    ({"arguments": [["", {"until": []}]]}, "missing_value", "'arguments' hold no prompt"),
    ({"doc_id": None}, "wrong_value", "'doc_id' is None"),
]


@pytest.mark.parametrize(("change", "reason", "problem"), FLAWS)
def test_flaws_of_rows(tmp_path, change, reason, problem):
    row = refused(lm_eval, tmp_path, {**ROW, **change})
    assert row.reason == reason
    assert problem in row.problem


def test_an_empty_response_is_a_failure(tmp_path):
    outcome = one(lm_eval, tmp_path, {**ROW, "resps": [[""]], "filtered_resps": [""], "exact_match": 0.0}).outcome
    assert outcome == Outcome(False, 0.0, "no_answer", None, "5")
