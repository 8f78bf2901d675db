"""environment=own: the agent of the user's files, with its prompts and tools, and what is measured of it."""

import json
from pathlib import Path

import pytest

from nat.cli import run
from nat.comparison.losses import losses_of
from nat.comparison.types import Arm, RunResult
from nat.examples.prompts import marked_prompt
from nat.examples.strategy import StrategyConfig
from nat.runs.directory import read_results
from nat.runs.results import ClassLoss, GroupLosses, Results
from nat.sweeps import composition
from nat.sweeps.suited import suited
from nat.trajectories.foreign import foreign
from nat.trajectories.formats.tool_calls import as_tagged_text, with_thoughts
from nat.trajectories.told import as_agent
from nat.types import Environment, Message, Outcome, RequestError, Score, Trajectory

MARK = [
    {"name": "correct", "when": {"field": "success", "equals": True}, "text": "[good]"},
    {"name": "incorrect", "when": {"field": "success", "equals": False}, "text": "[bad]"},
]
TOOL = {"type": "function", "function": {"name": "book", "parameters": {"type": "object"}}}
PROMPT = (Message("system", "Policy."), Message("assistant", "Hello?", False), Message("user", "Book 7."))


def strategy(place: str) -> StrategyConfig:
    from pydantic import TypeAdapter

    values = {"name": "test", "classes": MARK, "place": place, "infer_as": "correct"}
    return TypeAdapter(StrategyConfig).validate_json(json.dumps(values))


def trajectory(*messages: Message, prompt: tuple[Message, ...] = PROMPT, tools: tuple = (), success: bool = True):
    return Trajectory("t", "q", "Book 7.", messages, Outcome(success, 1.0), prompt=prompt, tools=tools)


@pytest.mark.parametrize(
    ("place", "contents"),
    [
        ("prefix", ["Policy.", "Hello?", "[bad]\nBook 7."]),
        ("suffix", ["Policy.", "Hello?", "Book 7.\n[bad]"]),
        ("system", ["Policy.\n[bad]", "Hello?", "Book 7."]),
    ],
)
def test_the_text_joins_the_files_own_prompt_at_its_place(place, contents):
    config = strategy(place)
    prompt = marked_prompt(trajectory(), config, config.class_named("incorrect"))
    assert [message.content for message in prompt] == contents
    assert [message.role for message in prompt] == ["system", "assistant", "user"]


def test_a_prompt_without_such_a_message_gets_one():
    suffix, system = strategy("suffix"), strategy("system")
    bad = suffix.class_named("incorrect")
    asked = (Message("user", "Book 7."),)
    assert marked_prompt(trajectory(prompt=asked), system, bad) == (Message("system", "[bad]"), *asked)
    only_system = (Message("system", "Book 7."),)
    assert marked_prompt(trajectory(prompt=only_system), suffix, bad) == (*only_system, Message("user", "[bad]"))
    assert marked_prompt(trajectory(prompt=()), suffix, bad) == (Message("user", "Book 7.\n[bad]"),)


def test_calls_and_thoughts_stand_in_tags():
    calls = (
        {"id": "1", "function": {"name": "book", "arguments": '{"seat": 7}'}},
        {"name": "pay", "args": {"by": "card", "tip": None}},
    )
    (told,) = as_tagged_text([Message("assistant", "I book.", True, calls, "Seat 7 is free.")])
    assert told == Message(
        "assistant",
        "<think>\nSeat 7 is free.\n</think>\n\nI book.\n"
        '<tool_call>{"name": "book", "arguments": {"seat": 7}}</tool_call>\n'
        '<tool_call>{"name": "pay", "arguments": {"by": "card"}}</tool_call>',
    )


@pytest.mark.parametrize(
    ("opening", "content", "told"),
    [
        ("Thought: ", "Action: search[a]", "Thought: I look.\nAction: search[a]"),
        ("Thought: ", "Thought: More.\nAction: search[a]", "Thought: I look.\nMore.\nAction: search[a]"),
        ("", "Answer: 5", "I look.\nAnswer: 5"),
        ("Thought: ", "", "Thought: I look."),
    ],
)
def test_elsewhere_the_thoughts_open_the_turn(opening, content, told):
    assert with_thoughts([Message("assistant", content, reasoning="I look.")], opening) == (Message("assistant", told),)


def test_the_tools_are_told_in_the_system_message():
    own = Environment("own", "Tools:\n{tools}", (), lambda prediction, reference: Score(False, 0.0), 1, protocol="own")
    listed = "Tools:\n" + json.dumps(TOOL)
    told = as_agent(own, trajectory(Message("assistant", "Done."), tools=(TOOL,)))
    assert told.prompt[0] == Message("system", f"Policy.\n\n{listed}") and told.prompt[1:] == PROMPT[1:]
    bare = as_agent(own, trajectory(Message("assistant", "Done."), tools=(TOOL,), prompt=()))
    assert bare.prompt == (Message("system", listed), Message("user", "Book 7."))
    assert as_agent(own, trajectory(Message("assistant", "Done."))).prompt == PROMPT


def test_foreign_are_other_tools_and_chats():
    calls = ({"function": {"name": "book", "arguments": "{}"}},)
    mine = [Message("assistant", "Thought: a\nAction: calculate[1]"), Message("assistant", "Action: finish[1]")]
    theirs = Message("assistant", "", True, calls)
    found = foreign([trajectory(*mine), trajectory(theirs), trajectory(theirs)], ["calculate"])
    assert (found.sampled, found.tools, found.with_tools, found.chats) == (3, ("book",), 2, 0)
    assert found.is_foreign
    assert not foreign([trajectory(*mine), trajectory(*mine), trajectory(theirs)], ["calculate"]).is_foreign
    assert foreign([trajectory(Message("assistant", "You could go by train."))], ["calculate"]).chats == 1
    assert foreign([trajectory(Message("assistant", "4 + 3 = 7\nAnswer: 7"))], ["calculate"]).chats == 0


# ---- a run ----


def airline(n: int, success: bool, call: bool = True) -> dict:
    function = {"name": "book", "arguments": json.dumps({"seat": n})}
    turns = [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "c", "content": "booked"},
        {"role": "assistant", "content": "Done." if success else "I cannot."},
    ]
    asked = [{"role": "system", "content": "Airline policy."}, {"role": "user", "content": f"Book seat {n}."}]
    return {"task_id": n, "success": success, "messages": [*asked, *(turns if call else turns[2:])]}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [airline(n, success) for n in range(20) for success in (True, False)]
    (tmp_path / "airline.json").write_text(json.dumps(rows))
    return tmp_path


FILES = ("trajectories=auto", "trajectories.path=airline.json")


def test_files_with_tools_of_their_own_get_it_without_being_asked(here, capsys):
    assert suited(FILES) == ["environment=own"]
    assert "environment=own: the files' agent has tools of its own (book)" in capsys.readouterr().err
    for said in ("environment=gsm8k", "agent=cot", "evaluation=rollouts"):
        assert suited((*FILES, said)) == []
    assert suited(["trajectories=auto", "trajectories.path=missing.json"]) == []
    assert suited(["seed=1"]) == []
    assert capsys.readouterr().err == ""


def test_an_agent_that_searches_is_foreign_to_a_world_with_a_calculator_alone(here, capsys):
    turns = ["Thought: a\nAction: search[b]", "Observation: c", "Thought: d\nAction: finish[e]"]
    roles = ("assistant", "user", "assistant")
    messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=True)]
    row = {"success": True, "messages": [{"role": "user", "content": "f?"}, *messages]}
    (here / "react.jsonl").write_text(json.dumps(row) + "\n")
    assert suited(["trajectories=auto", "trajectories.path=react.jsonl"]) == ["environment=own"]
    assert "tools of its own (search)" in capsys.readouterr().err
    row["messages"][1]["content"] = "Thought: a\nAction: calculate[1]"
    (here / "react.jsonl").write_text(json.dumps(row) + "\n")
    assert suited(["trajectories=auto", "trajectories.path=react.jsonl"]) == []


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["evaluation=rollouts"], ["evaluation=rollouts", "environment=own plays nothing", "evaluation=none"]),
        (["agent=cot"], ["agent=cot", "environment=own keeps the agent of your files"]),
        (["agent.system=Hi"], ["agent.system='Hi'", "environment=own keeps the agent of your files"]),
        (["environment.tools=none"], ["environment.tools", "{tools}"]),
        (["environment.held_out=1"], ["environment.held_out"]),
        (["+environment@also_in.a=own"], ["also_in.a", "plays nothing"]),
    ],
)
def test_what_it_cannot_do_is_refused(here, overrides, parts):
    with pytest.raises(RequestError) as error:
        composition.plan(["environment=own", *FILES, *overrides])
    assert all(part in str(error.value) for part in parts), str(error.value)


def test_inspect_shows_the_files_own_prompt_and_what_there_is(here, capsys):
    assert run(["inspect", *FILES, "strategy=prefix_correct", "mixing.positives=500", "examples=1"]) == 0
    shown = capsys.readouterr().out
    assert "mixing=ratio asks for 500 positives" in shown and "as mixing=all takes it" in shown
    assert "Airline policy." in shown and "calculate" not in shown
    assert '⟦<tool_call>{"name": "book", "arguments": {"seat": ' in shown


def test_that_nothing_is_held_out_is_said(here, capsys):
    (here / "airline.json").write_text(json.dumps([airline(n, success) for n in (1, 2) for success in (True, False)]))
    assert run(["inspect", *FILES, "environment.held_out=0.001", "examples=1"]) == 0
    assert "warning: of so few tasks none is held out; raise environment.held_out" in capsys.readouterr().out
    assert run(["inspect", *FILES, "environment.held_out=0.999", "evaluation.n_class_losses=1"]) == 2
    assert "every one of the 4 trajectories is on an evaluation question" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["collect", "environment=own"], ["collect", "environment=own", "collect=scripted"]])
def test_nothing_is_collected_in_it(here, capsys, verb):
    assert run([*verb, *FILES]) == 2
    assert "environment=own plays nothing" in capsys.readouterr().err


def test_weights_are_refused_by_an_objective_that_counts_all_alike(here, capsys):
    rows = [airline(n, success) for n in range(20) for success in (True, False)]
    rows[0]["messages"][2]["weight"] = 0.5
    (here / "airline.json").write_text(json.dumps(rows))
    assert run(["inspect", *FILES, "environment.held_out=0.01"]) == 2
    assert "1 turns of 1 trajectories have a loss weight other than 0 and 1 (first: 0.5" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_measures_held_out_losses_under_each_text_and_the_report_says_so(here, capsys):
    overrides = [*FILES, "tracking=none", "training.max_steps=1", "strategy=prefix_correct", "hydra.run.dir=run"]
    assert run(["train", *overrides, "training.save=true"]) == 0
    results = read_results(here / "run")
    assert results.passes == () and set(results.class_losses) == {"successes", "failures"}
    for losses in results.class_losses.values():
        assert set(losses.by_class) == {"correct", "incorrect"} and losses.by_class["incorrect"].trajectories > 0
    prompt = json.loads((here / "run" / "model" / "inference.json").read_text())["prompt"]
    assert prompt[0]["content"] == "Airline policy."
    assert prompt[-1]["content"].endswith("{question}")
    capsys.readouterr()
    assert run(["report", "run"]) == 0
    said = capsys.readouterr().out
    assert "No verdict: nothing was played" in said and "Loss of unseen trajectories under each text" in said
    page = (here / "run" / "report.html").read_text()
    assert "nothing was played" in page and 'id="losses"' in page


def test_losses_are_means_over_seeds_with_their_standard_error():
    def of_seed(seed: int, loss: float, difference: float) -> RunResult:
        by_class = {
            "correct": ClassLoss(loss=loss, tokens=10, trajectories=4),
            "incorrect": ClassLoss(loss=loss, tokens=10, trajectories=4, difference=difference, standard_error=0.5),
        }
        results = Results(status="completed", class_losses={"successes": GroupLosses(by_class=by_class)})
        return RunResult(f"r{seed}", None, "completed", "nat", "suffix", 5, 5, seed, {}, {}, results=results)

    runs = (of_seed(0, 1.0, 0.1), of_seed(1, 2.0, 0.3))
    (row,) = losses_of([Arm("nat", "nat", "suffix", 5, 5, {}, runs)])
    assert (row.group, row.trajectories, row.loss) == ("successes", 4, 1.5)
    (other,) = row.others
    # The standard deviation of 0.1 and 0.3 is 0.1 * sqrt(2); over the root of two seeds 0.1.
    assert other.class_name == "incorrect" and other.difference == pytest.approx(0.2)
    assert other.standard_error == pytest.approx(0.1)
    (single,) = losses_of([Arm("nat", "nat", "suffix", 5, 5, {}, runs[:1])])
    assert single.others[0].standard_error == 0.5
