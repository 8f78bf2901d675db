"""Every shape that was reported, and every real file of an agent tool, at the numbers that were worked out by hand."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nat.agents.calls import read_call
from nat.core.rows.bad import BadRow
from nat.trajectories.formats.tool_calls import as_react_text
from nat.trajectories.labels import relabel
from nat.trajectories.reading import Row, read_rows
from nat.types import Score, Trajectory
from nat.verbs.audit import audit
from tests.audits_for_tests import make_config
from tests.conftest import DATA, trajectory_files

REPORTED = DATA.parent / "reported" / "formats"
AGENTS = DATA / "agents"
NO_LABEL: dict[str, Any] = {"label": "success"}  # a rule, so that a file without labels is read


class Told(NamedTuple):
    """A row as it must be read. None and `...`: EXPECTED.md says nothing of it."""

    question: str
    success: bool | None
    agent: tuple[Any, ...]  # its turns, calls as text actions
    seen: Any = ()  # what tools said
    calls: Any = ()  # structured ones
    prediction: Any = ...
    reference: Any = ...
    task: Any = ...
    reasoning: tuple[str, ...] = ()  # of turns that have some


class Expected(NamedTuple):
    rows: tuple[Told, ...]
    bad: tuple[str, ...] = ()  # reasons
    options: Mapping[str, Any] = {}


SUMS = (
    Told("2+2?", True, ("4",), prediction="4"),
    Told("3+3?", False, ("7",), prediction="7"),
)
PAGES = (
    Told("Which page?", True, ("Action: open[http://x.test]", "A"), ("A",), (("open", {"url": "http://x.test"}),),
         "A", "A"),
    Told("Which name?", False, ("Z",), (), (), "Z", "B"),
)  # fmt: skip
EXPECTED = {
    "answer_is_the_models.jsonl": Expected((
        Told("2+2?", True, ("Answer: 4",), prediction="4", reference="4"),
        Told("3+3?", False, ("Answer: 7",), prediction="7", reference="6"),
    )),
    "anthropic_messages.jsonl": Expected((
        Told("Weather?", True, ("Thought: Let me look.\nAction: weather[X]", "Sun."), ("sun",),
             (("weather", {"city": "X"}),)),
        Told("Wind?", False, ("Dunno",)),
    )),
    "atif_trajectory.json": Expected((
        Told("Make a file a.txt", None, ("Thought: I write it.\nAction: bash[touch a.txt]", "Done."), ("ok",),
             (("bash", {"cmd": "touch a.txt"}),), reasoning=("easy",)),
    ), (), NO_LABEL),
    "bad.jsonl": Expected((), ("no_label",)),
    "chat_args.jsonl": Expected((
        Told("Capital of X?", True, ("Action: lookup[X]", "Y"), ("Y",), (("lookup", {"city": "X"}),)),
        Told("Capital of Q?", False, ("Z",)),
    )),
    "chat_reasoning_content.jsonl": Expected((
        Told("2+2?", True, ("4",), reasoning=("Two and two make four.",)),
        Told("3+3?", False, ("7",), reasoning=("Seven.",)),
    )),
    "claude_code_session.jsonl": Expected((
        Told("Fix it", None, ("Action: Bash[ls]",), ("a.py",), (("Bash", {"command": "ls"}),)),
    ), (), NO_LABEL),
    "content_image.jsonl": Expected((Told("3+3?", False, ("7",)),), ("wrong_value",)),
    "conversation_singular.jsonl": Expected(SUMS),
    "eto_alfworld_sft.json": Expected((
        Told("You are in a room with a desk 1.\n\nYour task is to: put a cup on the desk.", True,
             ("Thought: go\nAction: go to desk 1", "Thought: put it\nAction: put cup 1 in/on desk 1"),
             ("On the desk 1 you see nothing.",)),
        Told("You are in a room with a shelf 1.\n\nYour task is to: heat an egg.", False,
             ("Thought: go\nAction: go to shelf 1",), ("Nothing happened.",)),
    )),
    "few_shot_in_messages.jsonl": Expected((
        Told("5+5?", True, ("Answer: 10",), reference="10", prediction="10"),
        Told("6+6?", False, ("Answer: 13",), reference="12", prediction="13"),
    )),
    "good.jsonl": Expected((), ("no_label",)),
    "gym_responses_reward.jsonl": Expected((
        Told("What is 2+2?", True, ("Action: python[print(2+2)]", "\\boxed{4}"), ("4",),
             (("python", {"code": "print(2+2)"}),), "4", "4"),
        Told("What is 3+3?", False, ("\\boxed{7}",), (), (), "7", "4"),
    )),
    "inspect_log.json": Expected(PAGES),
    "inspect_sample.jsonl": Expected(PAGES),
    "label_in_code.jsonl": Expected((
        Told("Write a counter in Ruby", True,
             ("```ruby\nscore = 0\nwords.each { score += 1 }\n```\nAnswer: done",), prediction="done"),
        Told("Write a timer in Ruby", False, ("Answer: none",), prediction="none"),
    )),
    "label_resolved.jsonl": Expected((
        Told("Fix A", True, ("ls", "done"), task="p__p-1"),
        Told("Fix B", False, ("ls", "done"), task="p__p-2"),
    )),
    "lf_content_value.jsonl": Expected(SUMS),
    "miniswe_one_object.traj.json": Expected((
        Told("Fix the sum in a.py", True, (..., ...), ..., ..., task="p__p-1"),
    )),
    "nebius_trajectory.jsonl": Expected((
        Told("ISSUE A", True, (..., ), ("a.py",), ..., task="p__p-1"),
    )),
    "observation_user_with_tool_calls.jsonl": Expected((
        Told("Capital of X?", True, ("Thought: look\nAction: search[X]", "Thought: done\nAction: finish[Y]"), ("Y",),
             (("search", {"q": "X"}),), "Y"),
        Told("Capital of Q?", False, ("Action: finish[Z]",), prediction="Z"),
    )),
    "openhands_output.jsonl": Expected((
        Told("Fix the sum", True, ("Thought: look\nAction: run[ls]", ...), ("a.py",), ..., task="p__p-1"),
    )),
    "reward_09.jsonl": Expected((
        Told("2+2?", True, ("Answer: 4",)),
        Told("4+4?", False, ("Answer: 8",)),
        Told("3+3?", False, ("Answer: 7",)),
    )),
    "reward_and_success.jsonl": Expected((
        Told("2+2?", True, ("Answer: 4",)),
        Told("3+3?", False, ("Answer: 7",)),
    )),
    "reward_dict.jsonl": Expected((), ("no_label", "no_label")),
    "same_task_many_trials.jsonl": Expected((
        Told("Hi, cancel my order please", True, ("Answer: done",), task="7"),
        Told("Hello! I would like to cancel an order", False, ("Answer: no",), task="7"),
        Told("Hi", True, ("Answer: yes",), task="8"),
        Told("Hi", False, ("Answer: yes.",), task="9"),
    )),
    "search_r1_tags.jsonl": Expected((
        Told("Who wrote E?", True, ("<search>E author</search>", "<answer>Ann</answer>"),
             ("Doc 1: E was written by Ann.",), (), "Ann", "Ann", reasoning=("I look.", "Ann.")),
        Told("Who wrote F?", False, ("<search>F author</search>", "<answer>Cy</answer>"),
             ("Doc 1: F was written by Bo.",), (), "Cy", "Bo", reasoning=("I look.",)),
    )),
    "sharegpt_dpo.json": Expected((
        Told("Sky colour?", True, ("Blue",)),
        Told("Sky colour?", False, ("Green",)),
    )),
    "sharegpt_ok_opening.jsonl": Expected((
        Told("How many rows has T?", True,
             ("Action: Operation\n```sql\nSELECT COUNT(*) FROM T\n```", 'Action: Answer\nFinal Answer: ["3"]')),
        Told("Which name is longest?", False, ('Action: Answer\nFinal Answer: ["Bo"]',)),
    )),
    "splits_object.json": Expected(SUMS),
    "steps_thought_action.jsonl": Expected((
        Told("Which pod fails?", True,
             ("Thought: look\nAction: get_pods[x]", "Thought: p1\nAction: finish[p1]"), ("p1 fails",), ..., "p1"),
        Told("Which node is full?", False, ("Thought: guess\nAction: finish[n9]",), (), ..., "n9"),
    )),
    "sweagent.traj": Expected((Told("ISSUE: sum is wrong", None, (...,), ("a.py",), ...),), (), NO_LABEL),
    "tau2_results.json": Expected((
        Told("Cancel order 7", True, ("Action: cancel[7]", "Done."), ("done",), (("cancel", {"id": 7}),), task="0"),
    )),
    "taubench_traj_tool_calls.json": Expected((
        Told("Please cancel order 7", True,
             ("Thought: Let me look.\nAction: get_order[7]", "Action: cancel[7]", "It is cancelled."),
             ("open", "done"), (("get_order", {"id": 7}), ("cancel", {"id": 7})), task="0"),
        Told("Hi, order 7 must go", False, ("Thought: Let me look.\nAction: get_order[7]", "I cannot."), ("open",),
             (("get_order", {"id": 7}),), task="0"),
        Told("Refund order 9", False, ("Action: refund[9]", "Done."), ("error",), (("refund", {"id": 9}),), task="1"),
    )),
    "tool_call_tags_messages.jsonl": Expected((
        Told("Population of the city of A?", True, ("Action: search[A city]", "<final_answer>7</final_answer>"),
             ("B",), (("search", {"query": "A city"}),), "7", "7", "q1"),
        Told("Population of the city of C?", False, ("<final_answer>9</final_answer>",), (), (), "9", "8", "q2"),
    )),
    "toolbench_answer.json": Expected((
        Told("Weather in X?", True, ("Action: weather[X]",), (), (("weather", {"c": "X"}),)),
    )),
    "tora_outputs.jsonl": Expected((
        Told("2+2?", True, (..., ...), ("4",), (), "4", "4"),
        Told("3+3?", False, (...,), (), (), "7", "6"),
    ), (), {"label": "rescore"}),
    "trajectory_key.jsonl": Expected(SUMS),
    "trl_kto.jsonl": Expected((
        Told("Sky colour?", True, ("Blue",)),
        Told("Grass colour?", False, ("Red",)),
    )),
    "verifiers_results.jsonl": Expected((
        Told("2+2?", True, ("4",), (), (), "4", "4", "t/0"),
        Told("3+3?", False, ("7",), (), (), "7", "6", "t/1"),
    )),
}  # fmt: skip


@pytest.fixture(scope="module")
def reported() -> Path:
    if not REPORTED.is_dir():
        pytest.skip(f"the reported inputs are not here: {REPORTED} does not exist")
    return REPORTED


@pytest.fixture
def agents(data) -> Path:
    if not AGENTS.is_dir():
        pytest.skip(f"trajectories of agent tools are not here: {AGENTS} does not exist")
    return AGENTS


def read(path: Path, **options: Any) -> tuple[list[Row], list[BadRow]]:
    bad: list[BadRow] = []
    rows = list(read_rows(trajectory_files("auto", path=str(path), **options), bad.append))
    return rows, bad


def calls_of(trajectory: Trajectory) -> list[tuple[str, Any]]:
    calls = [read_call(call) for message in trajectory.messages for call in message.tool_calls]
    return [(call.name, parsed(call.arguments)) for call in calls if call is not None]


def parsed(arguments: Any) -> Any:
    return json.loads(arguments) if isinstance(arguments, str) else arguments


def agent_of(trajectory: Trajectory) -> list[str]:
    return [message.content for message in as_react_text(trajectory.messages) if message.role == "assistant"]


def seen_by(trajectory: Trajectory) -> list[str]:
    return [message.content for message in trajectory.messages if message.role == "tool"]


def exact(prediction: str, reference: str) -> Score:
    return Score(prediction == reference, float(prediction == reference))


def check(told: Told, row: Row, rescored: bool = False) -> None:
    trajectory, outcome = row.trajectory, row.trajectory.outcome
    assert trajectory.question == told.question
    if rescored:
        assert outcome.prediction == told.prediction
        assert (outcome.prediction == outcome.reference) is told.success
    elif told.success is not None:
        assert outcome.success is told.success
    texts = agent_of(trajectory)
    assert len(texts) == len(told.agent)
    assert all(wanted is ... or text == wanted for text, wanted in zip(texts, told.agent, strict=True)), texts
    for found, wanted in (
        (tuple(seen_by(trajectory)), told.seen),
        (tuple(calls_of(trajectory)), told.calls),
        (outcome.prediction, told.prediction),
        (outcome.reference, told.reference),
        (trajectory.question_id, told.task),
    ):
        assert wanted is ... or found == wanted
    if told.reasoning:
        assert tuple(message.reasoning for message in trajectory.messages if message.reasoning) == told.reasoning
    # The prompt is not the agent's work, and its own turns are.
    assert not any(message.train for message in trajectory.prompt if message.role == "assistant")
    assert all(message.train for message in trajectory.messages if message.role == "assistant")


@pytest.mark.parametrize("name", EXPECTED)
def test_a_reported_shape_is_read_right(name, reported):
    expected = EXPECTED[name]
    rows, bad = read(reported / name, **expected.options)
    assert [row.reason for row in bad] == list(expected.bad)
    assert len(rows) == len(expected.rows)
    for row, told in zip(rows, expected.rows, strict=True):
        check(told, row, rescored=expected.options.get("label") == "rescore")


def test_every_reported_shape_is_expected(reported):
    assert {path.name for path in reported.iterdir()} - {"EXPECTED.md"} == set(EXPECTED)


@pytest.mark.parametrize("name", ["atif_trajectory.json", "claude_code_session.jsonl", "sweagent.traj"])
def test_a_file_without_label_says_so(name, reported):
    rows, bad = read(reported / name)
    assert (rows, [row.reason for row in bad]) == ([], ["no_label"])


def test_what_agreed_is_a_preamble(reported):
    (first, second), _ = read(reported / "sharegpt_ok_opening.jsonl")
    assert [message.content for message in first.trajectory.prompt] == [
        "Operate a database. Action: Operation or Action: Answer.",
        "Ok.",
        "How many rows has T?",
    ]
    assert first.trajectory.question_id != second.trajectory.question_id


def test_trials_of_a_task_are_one_question(reported):
    rows, _ = read(reported / "taubench_traj_tool_calls.json")
    labels = {task: {r.trajectory.outcome.success for r in rows if r.trajectory.question_id == task} for task in "01"}
    assert labels == {"0": {True, False}, "1": {False}}
    rows, _ = read(reported / "sharegpt_dpo.json")
    assert len({row.trajectory.question_id for row in rows}) == 1


def test_the_label_of_a_trial_of_harbor_stands_in_its_result(reported, tmp_path):
    for name, reward in (("a", 1.0), ("b", 0.0)):
        trial = tmp_path / "jobs" / name
        (trial / "agent").mkdir(parents=True)
        shutil.copy(reported / "atif_trajectory.json", trial / "agent" / "trajectory.json")
        result = {"trial_name": name, "task_name": "file", "verifier_result": {"rewards": {"reward": reward}}}
        (trial / "result.json").write_text(json.dumps(result))
    rows, bad = read(tmp_path / "jobs")
    assert bad == []
    assert [row.trajectory.outcome.success for row in rows] == [True, False]


# ---- what an audit says of them ----


def said_of(paths: list[Path], tmp_path: Path, *overrides: str) -> tuple[str, Any]:
    """All that it writes of these files for a reader, and the audit."""
    lines: list[str] = []
    found = audit(make_config(paths, tmp_path / "out", *overrides), lines.append)
    told = [f"{finding.says} {finding.remedy}" for finding in found.findings]
    return "\n".join([*lines, *told, (tmp_path / "out" / "audit.json").read_text(encoding="utf-8")]), found


def test_files_that_are_labels_are_offered_as_such(reported, tmp_path):
    said, _ = said_of([reported / "good.jsonl", reported / "bad.jsonl"], tmp_path)
    assert "trajectories.label='source == \"good\"'" in said.replace('\\"', '"')


def test_a_member_of_a_reward_is_offered(reported, tmp_path):
    said, _ = said_of([reported / "reward_dict.jsonl"], tmp_path)
    assert "trajectories.label='reward.correct >= 1'" in said
    assert "reward >= 0.5" not in said


def test_rewards_between_are_noted(reported, tmp_path):
    said, _ = said_of([reported / "reward_09.jsonl"], tmp_path)
    assert "between 0 and 1" in said


def test_code_is_no_label(reported, tmp_path):
    _, found = said_of([reported / "label_in_code.jsonl"], tmp_path)
    assert {finding.name for finding in found.findings} & {"label_in_text", "label_leak"} == set()


def test_a_tagged_answer_agrees_with_the_scorer(reported, tmp_path):
    _, found = said_of([reported / "tool_call_tags_messages.jsonl"], tmp_path, "environment=hotpotqa")
    assert "label_disagreement" not in {finding.name for finding in found.findings if finding.count}


def test_a_solution_of_tora_is_labelled_by_its_answer(reported):
    rows, _ = read(reported / "tora_outputs.jsonl", label="rescore")
    assert [relabel(row.trajectory, "rescore", exact).trajectory.outcome.success for row in rows] == [True, False]


# ---- real files ----


def summed(rows: list[Row]) -> dict[str, Any]:
    trajectories = [row.trajectory for row in rows]
    return {
        "rows": len(rows),
        "successes": sum(trajectory.outcome.success for trajectory in trajectories),
        "calls": sum(len(calls_of(trajectory)) for trajectory in trajectories),
    }


def test_tau_bench(agents):
    rows, bad = read(agents / "tau_bench_airline.json")
    assert bad == []
    assert summed(rows) == {"rows": 30, "successes": 10, "calls": 227}
    assert sum(bool(calls_of(row.trajectory)) for row in rows) == 25
    by_task: dict[str, set[bool]] = {}
    for row in rows:
        by_task.setdefault(row.trajectory.question_id, set()).add(row.trajectory.outcome.success)
    assert Counter(len(labels) for labels in by_task.values()) == {2: 10, 1: 5}
    assert all(row.trajectory.prompt[0].role == "system" for row in rows)
    stops = [message for row in rows for message in row.trajectory.messages if "###STOP###" in message.content]
    assert stops == []


def test_mini_swe_agent(agents):
    path = agents / "mini_swe_agent_astropy-7606.traj.json"
    assert [row.reason for row in read(path)[1]] == ["no_label"]
    ((row,), bad) = read(path, **NO_LABEL)
    assert bad == []
    assert len(row.trajectory.prompt) == 2
    given = json.loads(path.read_text())["messages"]
    turns = [message for message in row.trajectory.messages if message.role == "assistant"]
    assert len(given) == 64
    assert len(turns) == sum(message["role"] == "assistant" for message in given)
    assert row.trajectory.question_id == "astropy__astropy-7606"


def test_swe_agent(agents):
    path = agents / "swe_agent_pydicom-1458.traj"
    assert [row.reason for row in read(path)[1]] == ["no_label"]
    ((row,), bad) = read(path, **NO_LABEL)
    assert bad == []
    assert sum(message.role == "assistant" for message in row.trajectory.messages) == 12


@pytest.mark.parametrize(
    ("name", "turns", "calls"), [("atif_summarization.trajectory.json", 7, 7), ("atif_timeout.trajectory.json", 3, 3)]
)
def test_atif(name, turns, calls, agents):
    assert {row.reason for row in read(agents / name)[1]} == {"no_label"}
    rows, bad = read(agents / name, **NO_LABEL)
    assert bad == []
    own = [m for row in rows for m in row.trajectory.messages if m.role == "assistant" and m.train]
    assert (len(own), sum(len(message.tool_calls) for message in own)) == (turns, calls)


def test_nemo_gym(agents):
    rows, bad = read(agents / "nemo_gym_tau2.jsonl")
    assert bad == []
    assert (len(rows), sum(row.trajectory.outcome.success for row in rows)) == (5, 5)
    given = [json.loads(line) for line in (agents / "nemo_gym_tau2.jsonl").read_text().splitlines()]
    # The last response holds its own calls alone; the simulation beside it has all of them.
    turns = [m for row in given for m in row["result"]["messages"] if m["role"] == "assistant"]
    assert sum(len(m.get("tool_calls") or ()) for m in turns) == 20
    assert sum(len(calls_of(row.trajectory)) for row in rows) == 20


def test_inspect(agents):
    rows, bad = read(agents / "inspect_popularity.eval")
    assert bad == []
    assert (len(rows), sum(row.trajectory.outcome.success for row in rows)) == (10, 8)
    assert all(row.trajectory.outcome.reference for row in rows)


def test_llama_factory(agents):
    rows, bad = read(agents / "llama_factory_kto.json")
    assert bad == []
    assert summed(rows) == {"rows": 60, "successes": 38, "calls": 0}
    given = json.loads((agents / "llama_factory_kto.json").read_text())
    turns = [m for row in rows for m in row.trajectory.messages if m.role == "assistant"]
    assert len(turns) == sum(message["role"] == "assistant" for row in given for message in row["messages"])
