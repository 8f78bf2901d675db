"""What `nat collect` plans, writes, refuses and goes on with; its server is tested in test_openai_policy.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from nat.collection import file as collection_file
from nat.collection.episodes import Episode, Facts, facts_of, plan
from nat.collection.summary import summary
from nat.config.tree import Config
from nat.core.rows.bad import BadRow, DroppedRow
from nat.search.replay import MISS
from nat.stages.environment import make_environment
from nat.sweeps import composition
from nat.trajectories.formats import native
from nat.types import Environment, Message, Question, RequestError, StageError, ToolError
from nat.verbs import collect as collection
from nat.verbs.collect import collect
from tests.conftest import ROOT, make_trajectory


@cache  # composing is most of these tests' time
def config_of(*overrides: str) -> Config:
    """As `nat collect` composes it: nothing is trained."""
    overrides = ("training=none", "mixing=positive_only", *overrides)
    return composition.checked(composition.compose(overrides), overrides)


def scripted(output: Path, *overrides: str) -> Config:
    """Three arithmetic questions, two episodes each; the policy errs often."""
    config = config_of("environment=arithmetic", "environment.failure_rate=0.3", "collect.n_questions=3", *overrides)
    return replace(config, collect=replace(config.collect, output=str(output)))


def quietly(line: str) -> None:
    pass


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


OPENAI = ("collect=openai", "collect.endpoint.model=m")
SIX = [f"arithmetic-0-train-0000{question}/scripted-s{sample}" for sample in (0, 1) for question in (0, 1, 2)]


# ---- the file ----


def test_every_planned_episode_is_written_once_in_nats_own_format(tmp_path):
    output = tmp_path / "new" / "a.jsonl"
    said: list[str] = []
    assert collect(scripted(output), said.append).n_broken == 0
    assert ids(output) == SIX
    trajectories = [trajectory for _, trajectory in native.read(output)]
    first = trajectories[0]
    assert (first.source, first.question_id) == ("scripted", "arithmetic-0-train-00000")
    assert first.outcome.reference is not None and first.messages[-1].content.count("finish[") == 1
    metadata = dict(first.metadata)
    assert len(metadata.pop("settings")) == 12
    assert metadata.keys() == {"temperature", "sample", "policy", "errors"}
    assert (metadata["temperature"], metadata["sample"], metadata["policy"]) == (None, 0, "scripted")
    assert {trajectory.outcome.success for trajectory in trajectories} == {True, False}
    assert said[0] == "collecting    6 episodes on 3 questions of arithmetic by scripted"
    assert said[-1] == f"written to    {output} (6 episodes now)"


def test_the_same_command_again_adds_nothing_and_more_samples_are_added_behind(tmp_path):
    output = tmp_path / "a.jsonl"
    collect(scripted(output), quietly)
    before = output.read_bytes()
    said: list[str] = []
    assert collect(scripted(output), said.append).n_broken == 0
    assert output.read_bytes() == before
    assert said[1] == f"              6 of them are in {output} already"
    assert said[-1] == f"written to    {output} (0 episodes now)"
    collect(scripted(output, "collect.samples=3", "collect.n_questions=4"), quietly)
    assert output.read_bytes().startswith(before)
    assert len(ids(output)) == len(set(ids(output))) == 12


@pytest.mark.parametrize("lost", ["line break", "bracket", "half a line", "a line", "two lines and a half", "all"])
def test_whatever_a_kill_left_the_same_command_makes_the_same_file(tmp_path, lost):
    output = tmp_path / "a.jsonl"
    collect(scripted(output), quietly)
    whole = output.read_bytes()
    lines = whole.splitlines(keepends=True)
    half = len(lines[-1]) // 2
    cut = {
        "line break": 1,
        "bracket": 2,
        "half a line": half,
        "a line": len(lines[-1]),
        "two lines and a half": len(lines[-1]) + len(lines[-2]) + len(lines[-3]) // 2,
        "all": len(whole),
    }[lost]
    output.write_bytes(whole[: len(whole) - cut])
    said: list[str] = []
    assert collect(scripted(output), said.append).n_broken == 0
    assert output.read_bytes() == whole
    is_partial = lost in ("bracket", "half a line", "two lines and a half")
    assert [line for line in said if "cut off" in line] == (
        [line for line in said if line.startswith(f"{output}: the last line was cut off in the middle of a write")]
    )
    assert any("cut off" in line for line in said) == is_partial


def test_a_last_line_longer_than_a_block_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(collection_file, "BLOCK", 16)
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"b": "' + "x" * 100)
    collection_file.mend_last_line(path, quietly)
    assert path.read_text() == '{"a": 1}\n'
    path.write_text('{"only": "' + "x" * 100)
    collection_file.mend_last_line(path, quietly)
    assert path.read_text() == ""


def test_a_bad_line_in_the_middle_is_named(tmp_path):
    output = tmp_path / "a.jsonl"
    collect(scripted(output), quietly)
    lines = output.read_text().splitlines(keepends=True)
    output.write_text(lines[0] + '{"id": \n' + "".join(lines[2:]))
    with pytest.raises(RequestError, match=r"a\.jsonl:2: not valid JSON"):
        collect(scripted(output), quietly)


def test_an_id_that_is_there_twice_is_named(tmp_path):
    output = tmp_path / "a.jsonl"
    collect(scripted(output), quietly)
    lines = output.read_text().splitlines(keepends=True)
    output.write_text("".join(lines) + lines[0])
    with pytest.raises(RequestError, match=r"a\.jsonl:7: id 'arithmetic-0-train-00000/scripted-s0' was there before"):
        collect(scripted(output), quietly)


def test_other_settings_are_refused_by_name(tmp_path):
    output = tmp_path / "a.jsonl"
    collect(scripted(output), quietly)
    before = output.read_bytes()
    with pytest.raises(RequestError) as error:
        collect(scripted(output, "environment.failure_rate=0.4"), quietly)
    assert str(error.value) == (
        f"{output}:1: collected with other settings: environment.failure_rate was 0.3 and is 0.4.\n"
        "Name another file (collect.output=a_2.jsonl), go back to those settings or remove this one."
    )
    (tmp_path / "a.settings.json").unlink()
    with pytest.raises(RequestError, match=r"a\.jsonl:1: this episode was collected with other settings\."):
        collect(scripted(output, "collect.seed=1"), quietly)
    assert output.read_bytes() == before
    assert collect(scripted(output), quietly).n_broken == 0  # the lines know their settings themselves


def test_a_file_that_nat_collect_did_not_write_is_left_alone(tmp_path):
    output = tmp_path / "a.jsonl"
    output.write_text('{"question": "1+1?", "messages": [], "outcome": {"success": false}}\n')
    with pytest.raises(RequestError, match=r"a\.jsonl:1: this line was not written by nat collect"):
        collect(scripted(output), quietly)
    assert len(output.read_text().splitlines()) == 1


def test_a_question_whose_text_was_edited_is_refused(tmp_path):
    questions = [Question("q1", "1+1?", "2")]
    episodes = [Episode("q1/p-s0", questions[0], None, 0)]
    edited = [replace(episodes[0], question=Question("q1", "1+2?", "3"))]
    settings: dict[str, Any] = {"policy": "p"}
    path = tmp_path / "a.jsonl"
    record = {
        "id": "q1/p-s0",
        "question_id": "q1",
        "question": "1+1?",
        "messages": [{"role": "assistant", "content": "Action: finish[2]"}],
        "outcome": {"success": True, "reference": "2"},
        "metadata": {"settings": collection_file.settings_hash(settings)},
    }
    path.write_text(json.dumps(record) + "\n")
    with collection_file.opened(path, settings, episodes, quietly) as file:
        assert file.known == {"q1/p-s0": Facts(True, None, None, None, None)}
    with (
        pytest.raises(RequestError, match=r"a\.jsonl:1: question 'q1' had another text"),
        collection_file.opened(path, settings, edited, quietly),
    ):
        pass


def test_two_processes_do_not_write_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(collection_file, "PATIENCE", 0.0)
    output = tmp_path / "a.jsonl"
    with (
        collection_file.opened(output, {}, [], quietly),
        pytest.raises(RequestError, match="another process is collecting into it"),
    ):
        collect(scripted(output), quietly)
    assert collect(scripted(output), quietly).n_broken == 0


def test_a_full_disk_ends_the_run_and_costs_no_whole_line(tmp_path, monkeypatch):
    output = tmp_path / "a.jsonl"
    collect(scripted(output), quietly)
    whole = output.read_bytes()
    output.unlink()
    write, room = os.write, [len(whole) - 100]

    def full(descriptor: int, data: bytes) -> int:
        written = write(descriptor, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(collection_file.os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        collect(scripted(output), quietly)
    assert output.read_bytes() == whole[:-100]
    monkeypatch.undo()
    collect(scripted(output), quietly)
    assert output.read_bytes() == whole


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"collect\.output=.*a\.jsonl: cannot be written"):
        collect(scripted(tmp_path / "file" / "a.jsonl"), quietly)


# ---- episodes that break ----


def with_broken_tool(monkeypatch, breaks: Any, error: Exception | None = None) -> None:
    """The calculator of the arithmetic world fails where `breaks(number of calls)` says so; by default, it is gone."""
    make, calls = make_environment, [0]

    def broken(*given: Any) -> Environment:
        environment = make(*given)
        [tool] = environment.tools

        def use(text: str) -> str:
            calls[0] += 1
            if breaks(calls[0]):
                raise error or OSError("the calculator is gone")
            return tool.run(text)

        return replace(environment, tools=(replace(tool, run=use),))

    monkeypatch.setattr(collection, "make_environment", broken)


def test_what_broke_is_kept_apart_and_played_again(tmp_path, monkeypatch):
    output = tmp_path / "a.jsonl"
    collect(scripted(output), quietly)
    whole = sorted(output.read_text().splitlines())
    output.unlink()
    with_broken_tool(monkeypatch, lambda number: number == 2)
    said: list[str] = []
    assert collect(scripted(output), said.append).n_broken == 1
    assert len(ids(output)) == 5
    [record] = [json.loads(line) for line in (tmp_path / "a.infrastructure.ndjson").read_text().splitlines()]
    assert record["outcome"]["failure"] == "infrastructure"
    assert record["outcome"]["prediction"] == "OSError: the calculator is gone"
    assert record["id"] not in ids(output)
    assert said[-1].startswith("warning: 1 episodes broke (infrastructure), see ")
    assert "infrastructure" not in output.read_text()
    monkeypatch.undo()
    assert collect(scripted(output), quietly).n_broken == 0
    assert sorted(output.read_text().splitlines()) == whole
    assert not (tmp_path / "a.infrastructure.ndjson").exists()


def test_one_broken_episode_after_another_ends_the_collection(tmp_path, monkeypatch):
    output = tmp_path / "a.jsonl"
    with_broken_tool(monkeypatch, lambda number: number > 5)
    with pytest.raises(StageError) as error:
        collect(scripted(output, "collect.n_questions=10"), quietly)
    first, second = str(error.value).split("\n")
    assert first == ("3 episodes in a row broke (infrastructure), the last one by: OSError: the calculator is gone")
    assert second == f"{len(ids(output))} of 20 episodes are safe in {output}; the same command goes on from there."


def test_a_tool_that_says_the_request_is_wrong_ends_the_collection(tmp_path, monkeypatch):
    with_broken_tool(monkeypatch, lambda number: True, RequestError("search.key_variable=SERPER_API_KEY: not set"))
    with pytest.raises(
        RequestError, match=r"^search\.key_variable=SERPER_API_KEY: not set\nNothing was collected into"
    ):
        collect(scripted(tmp_path / "a.jsonl"), quietly)


# ---- what is asked ----


def made(config: Config) -> Environment:
    return make_environment(config.environment, config.agent, config.search)


def prompts(config: Config):
    examples = getattr(config.environment, "few_shot", None)
    return collection.prompt_maker(config.collect, made(config), config.agent, config.strategy, examples)


def asked(*overrides: str) -> list[Question]:
    config = config_of(*overrides)
    return collection.questions_to_ask(config.collect, config.environment, made(config), config.trajectories, [])


def test_questions_of_a_world_by_split_and_place():
    first = asked("environment=arithmetic", "collect.n_questions=4")
    assert [question.id for question in first] == [f"arithmetic-0-train-0000{n}" for n in range(4)]
    assert asked("environment=arithmetic", "collect.n_questions=2", "collect.skip_questions=2") == first[2:]
    [test] = asked("environment=arithmetic", "collect.n_questions=1", "collect.split=test")
    assert test.id == "arithmetic-0-test-00000"
    with pytest.raises(
        RequestError, match=r"collect\.n_questions=null: environment=arithmetic makes questions without"
    ):
        asked("environment=arithmetic", "collect.n_questions=null")


def test_questions_of_a_file(tmp_path):
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps({"question": f"{n}+1?", "answer": str(n + 1)}) + "\n" for n in range(5)))
    gsm8k = ("environment=gsm8k", f"environment.questions={path}")
    assert [q.text for q in asked(*gsm8k, "collect.n_questions=null")] == ["0+1?", "1+1?", "2+1?", "3+1?", "4+1?"]
    assert [q.text for q in asked(*gsm8k, "collect.n_questions=2", "collect.skip_questions=2")] == ["2+1?", "3+1?"]
    with pytest.raises(RequestError, match=r"collect\.skip_questions=5: .* has 5 questions"):
        asked(*gsm8k, "collect.skip_questions=5")
    with path.open("a") as file:
        file.write('{"question": "", "answer": "1"}\n')
        file.write('{"question": "5+1?", "answer": "six"}\n{"question": "6+1?"}\n')
    left_out: list[DroppedRow] = []
    config = config_of(*gsm8k, "environment.on_bad_row=drop")
    assert (
        len(
            collection.questions_to_ask(config.collect, config.environment, made(config), config.trajectories, left_out)
        )
        == 6
    )
    assert [(row.where, row.reason) for row in left_out] == [
        (f"{path}:6", "missing_value"),
        (f"{path}:8", "missing_value"),
    ]


def test_rows_that_are_left_out_are_counted_and_listed_beside_the_output(tmp_path):
    output, said = tmp_path / "a.jsonl", []
    rows = [
        DroppedRow("q:1", "missing_value", "x"),
        DroppedRow("q:2", "not_json", "y"),
        DroppedRow("q:3", "not_json", "z"),
    ]
    collection_file.list_left_out(output, rows, said.append)
    listed = tmp_path / "a.left_out.ndjson"
    assert said == [
        f"left out      1 rows of the files: missing_value (listed in {listed})",
        f"left out      2 rows of the files: not_json (listed in {listed})",
    ]
    assert [json.loads(line) for line in listed.read_text().splitlines()][2] == {
        "where": "q:3",
        "reason": "not_json",
        "detail": "z",
    }
    collection_file.list_left_out(output, [], said.append)
    assert not listed.exists() and len(said) == 2


def test_a_file_of_questions_has_no_splits_and_dropped_documents_and_rows_are_listed(tmp_path, monkeypatch):
    path, corpus = tmp_path / "q.jsonl", tmp_path / "c.jsonl"
    path.write_text('{"question": "Who?", "answer": "I"}\n{"question": "Where?"}\n')
    corpus.write_text('{"title": "a", "text": "b"}\n{"title": "c"}\n')
    config = config_of(
        *("environment=questions", f"environment.questions={path}", "environment.tools=[search]"),
        *("environment.on_bad_row=drop", "search=bm25", f"search.path={corpus}", "search.on_bad_row=drop"),
        *(
            "collect=openai",
            "collect.endpoint.model=m",
            "collect.n_questions=null",
            f"collect.output={tmp_path}/a.jsonl",
        ),
    )
    monkeypatch.setattr(collection, "policy", lambda *given: lambda episodes, done: None)
    said: list[str] = []
    assert collect(config, said.append).n_broken == 0
    assert said[1] == f"              all 1 questions of {path} (it has no splits; collect.split chooses nothing)"
    assert said[2].startswith("left out      2 rows of the files: missing_value")
    listed = (tmp_path / "a.left_out.ndjson").read_text().splitlines()
    assert [json.loads(line)["where"] for line in listed] == [f"{corpus}:2", f"{path}:2"]


def test_a_row_of_a_file_that_ends_a_collection_is_an_error_of_the_request(tmp_path, monkeypatch):
    """BadRow cannot be made of a message alone."""

    def play(episodes: Any, done: Any) -> None:
        raise BadRow("f:1", "not_json", "no JSON")

    monkeypatch.setattr(collection, "policy", lambda *given: play)
    with pytest.raises(RequestError, match=r"^f:1: no JSON\nNothing was collected into"):
        collect(scripted(tmp_path / "a.jsonl"), quietly)


def test_searches_that_no_recording_answered_are_counted():
    messages = (Message("assistant", "Action: search[x]"), Message("tool", MISS), Message("assistant", MISS))
    trajectory = replace(make_trajectory("a"), messages=messages)
    assert facts_of(trajectory).misses == 1
    lines = list(summary([facts_of(trajectory)] * 3))
    assert "search misses 3 (no recording answered)" in lines


def test_training_questions_of_trajectory_files_are_those_that_are_not_held_out(tmp_path):
    path = tmp_path / "t.jsonl"
    record = {"messages": [{"role": "assistant", "content": "Action: finish[1]"}], "outcome": {"success": True}}
    with path.open("w") as file:
        for number in range(40):
            line = {**record, "question": f"question {number % 20}?", "id": str(number)}
            line["outcome"] = {"success": True, "reference": "1"} if number != 0 and number != 20 else {"success": True}
            file.write(json.dumps(line) + "\n")
    group = ("environment=gsm8k", "trajectories=jsonl", f"trajectories.path={path}", "environment.held_out=0.5")
    by_split = {
        split: {q.text for q in asked(*group, "collect.n_questions=null", f"collect.split={split}")}
        for split in ("train", "validation", "test")
    }
    # One question has no reference: it cannot be scored. No question is in two splits.
    assert sum(map(len, by_split.values())) == len(set.union(*by_split.values())) == 19
    assert "question 0?" not in set.union(*by_split.values())
    assert all(by_split.values())


def test_equal_question_ids_are_refused(tmp_path):
    config = scripted(tmp_path / "a.jsonl")
    with pytest.raises(RequestError, match="2 questions have the id 'q'"):
        plan(config.collect, [Question("q", "1?", "1"), Question("q", "2?", "2")], config.environment.questions)


def test_episodes_are_told_apart_by_question_policy_temperature_and_sample(tmp_path):
    config = config_of("collect=model", "collect.temperatures=[0.2,1]", "collect.samples=2")
    planned = plan(config.collect, [Question("q", "1?", "1"), Question("r", "2?", "2")], config.environment.questions)
    assert [episode.id for episode in planned] == [
        *("q/tiny-t0.2-s0", "r/tiny-t0.2-s0", "q/tiny-t1-s0", "r/tiny-t1-s0"),
        *("q/tiny-t0.2-s1", "r/tiny-t0.2-s1", "q/tiny-t1-s1", "r/tiny-t1-s1"),
    ]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), "Solve.\n1+1?"),
        (("collect.few_shot='Question: 2+2?\n4'",), "Solve.\n\nQuestion: 2+2?\n4\n\n1+1?"),
        (("strategy=suffix_plain", "collect.as_class=inference"), "Solve.\n1+1?\n{correct}"),
        (("strategy=suffix_plain", "collect.as_class=incorrect"), "Solve.\n1+1?\n{incorrect}"),
        (("strategy=prefix_letters", "collect.as_class=null"), "Solve.\n1+1?"),
    ],
)  # fmt: skip
def test_the_prompt(overrides, expected):
    config = config_of("environment=arithmetic", "environment.instructions=Solve.", "collect=model", *overrides)
    [message] = prompts(config)("1+1?")
    texts = {class_.name: class_.text for class_ in config.strategy.classes}
    assert (message.role, message.content) == ("user", expected.format(**texts))


def test_an_unknown_class_is_refused():
    config = config_of("strategy=suffix", "collect=model", "collect.as_class=best")
    with pytest.raises(RequestError, match="has no class 'best'"):
        prompts(config)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("collect=model", "collect.temperatures=null"), "collect.temperatures=null: it must be given, as a list"),
        (("collect=model", "collect.temperatures=[]"), "collect.temperatures"),
        (("collect=model", "collect.temperatures=[0.2,0.2]"), "collect.temperatures=[0.2, 0.2]: each must be there"),
        (("collect=model", "collect.temperatures=[0]", "collect.samples=2"), "collect.samples=2: at temperature 0"),
        (("collect=model", "collect.turns.max_tokens=null"), "collect.turns.max_tokens=null: it must be given"),
        (("collect=scripted", "collect.few_shot=x"), "collect=model and collect=openai have it"),
        (("collect.output=a.json",), "collect.output='a.json'"),
        ((*OPENAI, "collect.endpoint.base_url=localhost:80"), "collect.endpoint.base_url='localhost:80'"),
        (("collect=openai",), "collect.endpoint.model: must be given on the command line"),
        (("collect=openai", "collect.endpoint.modle=m"), "Did you mean collect.endpoint.model?"),
    ],
)  # fmt: skip
def test_wrong_configurations(overrides, message):
    with pytest.raises(RequestError) as error:
        config_of(*overrides)
    assert message in str(error.value)


def test_environments_without_a_scripted_policy_say_so(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "1+1?", "answer": "2"}\n')
    config = config_of("environment=gsm8k", f"environment.questions={path}", f"collect.output={tmp_path / 'a.jsonl'}")
    with pytest.raises(RequestError, match="collect=scripted: environment=gsm8k has no scripted policy"):
        collect(config, quietly)
    with pytest.raises(RequestError, match="its policy is a ReAct agent; leave agent=cot out"):
        collect(scripted(tmp_path / "a.jsonl", "agent=cot"), quietly)
    assert not (tmp_path / "a.jsonl").exists()


# ---- summary ----


def test_summary():
    found = [
        Facts(True, None, 0.2, 10, 100),
        Facts(False, "wrong_answer", 0.2, 20, 200),
        Facts(True, None, 0.7, 1000, 3000),
        Facts(False, "out_of_turns", 0.7, None, None),
        Facts(False, "wrong_answer", 0.7, 0, 0),
    ]
    lines = list(summary(found))
    # Wilson's interval of 2 in 5, from its formula: centre 0.4435, half width 0.3259.
    assert lines[0] == "success rate  0.400 [0.118, 0.769] (2 of 5 episodes)"
    assert lines[1].startswith("  at 0.2      0.500 [") and lines[1].endswith("(1 of 2 episodes)")
    assert lines[2].startswith("  at 0.7      0.333 [") and lines[2].endswith("(1 of 3 episodes)")
    assert lines[3] == "failures      wrong_answer 2, out_of_turns 1"
    assert lines[4] == "tokens        1,030 generated, 3,300 read (1 episodes without a count)"
    assert list(summary([])) == []


# ---- a model ----


@pytest.mark.slow
def test_a_models_episodes_do_not_depend_on_interruptions_and_differ_by_sample(tmp_path):
    output = tmp_path / "a.jsonl"
    config = config_of(
        "environment=arithmetic",
        "collect=model",
        f"collect.output={output}",
        "collect.n_questions=4",
        "collect.temperatures=[0.5,1.5]",
        "collect.samples=2",
        "collect.turns.max_tokens=24",
    )
    assert collect(config, quietly).n_broken == 0
    whole = output.read_text().splitlines()
    records = [json.loads(line) for line in whole]
    assert len({record["id"] for record in records}) == 16
    assert all(record["metadata"]["tokens"] > 0 for record in records)
    by_sample: dict[tuple[str, float], set[str]] = {}
    for record in records:
        key = (record["question_id"], record["metadata"]["temperature"])
        by_sample.setdefault(key, set()).add(json.dumps(record["messages"]))
    assert sum(len(texts) == 2 for (_, temperature), texts in by_sample.items() if temperature == 1.5) >= 3
    output.write_text("".join(line + "\n" for line in whole[::3]))
    smaller = replace(config, collect=replace(config.collect, turns=replace(config.collect.turns, at_once=2)))
    assert collect(smaller, quietly).n_broken == 0
    assert sorted(output.read_text().splitlines()) == sorted(whole)


# ---- real kills ----


@pytest.mark.slow
def test_killed_at_several_moments_and_started_again(tmp_path):
    """SIGKILL, by process group, as the file grows; experiments/benchmarks/collect_kills.py does twenty of them."""
    output = tmp_path / "a.jsonl"
    command = [sys.executable, "-m", "nat", "collect", "environment=arithmetic", f"collect.output={output}"]
    command += ["collect.n_questions=1500", "collect.samples=2"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    quiet["env"] = {**os.environ, "PYTHONPATH": str(ROOT)}
    sizes = [0]
    for _ in range(3):
        process = subprocess.Popen(command, start_new_session=True, **quiet)
        while process.poll() is None and (output.stat().st_size if output.exists() else 0) < sizes[-1] + 40_000:
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        sizes.append(output.stat().st_size)
    assert sizes == sorted(set(sizes))
    assert subprocess.run(command, **quiet).returncode == 0
    assert len(ids(output)) == len(set(ids(output))) == 3000


def test_a_tool_error_is_the_policys_own(tmp_path, monkeypatch):
    """An action that its tool refuses is an observation, and no reason to play the episode again."""
    with_broken_tool(monkeypatch, lambda number: True, ToolError("no"))
    output = tmp_path / "a.jsonl"
    assert collect(scripted(output), quietly).n_broken == 0
    assert len(ids(output)) == 6


def test_a_file_begun_before_a_key_existed_goes_on(tmp_path):
    """`other_verbs_share` came later; at 0 the episodes are what they were without it."""
    output = tmp_path / "a.jsonl"
    config = config_of(
        "environment=arithmetic", "collect=scripted", f"collect.output={output}", "collect.n_questions=2"
    )
    assert collect(config, quietly).n_broken == 0
    assert "other_verbs_share" not in output.read_text()
    other = replace(config, environment=replace(config.environment, other_verbs_share=0.5))
    with pytest.raises(RequestError, match="other_verbs_share"):
        collect(other, quietly)
