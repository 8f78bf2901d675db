"""What is written is read back: roles, order and every character of every message; and one format for each record."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nat.core.rows.bad import refuse
from nat.core.rows.json_records import read_records
from nat.trajectories.detection import reader
from nat.trajectories.formats import alpaca, chat, gsm8k_solutions, nat_paper, native, react, sharegpt
from nat.types import Message, Outcome, Trajectory
from tests.conftest import make_trajectory

FORMATS = (native, nat_paper, react, gsm8k_solutions, sharegpt, chat, alpaca)
ASKED = "Who made it?"

few = settings(max_examples=40)  # each writes a file; fuzz_readers.py draws many more
# Every character that UTF-8 has; and what readers of text tend to change.
anything = st.text(st.characters(codec="utf-8"), max_size=20)
awkward = st.sampled_from(
    ["", " ", "\n", "\r\n", " a", "a\r\nb\r", "\ta \n", "\ufeffa", "a\u2028b\x85c\x0b", "\x00", "e\u0301", "\U0001f642",
     "Thought: a\n\nAction: search[b]", "Question: c", "Answer: 7", "#### 7", '{"name": "f"}', "an Observation: d"]
)  # fmt: skip
texts = anything | awkward
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
calls = st.fixed_dictionaries(
    {
        "id": texts,
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": st.just("search"), "arguments": texts | values}),
    }
)


def messages_of(*roles: str):
    """Turns after the question; the first is the agent's."""
    others = st.lists(st.tuples(st.sampled_from(["assistant", *roles]), texts, st.booleans()), max_size=6)
    first = st.tuples(st.just("assistant"), texts, st.booleans())
    return st.builds(lambda head, rest: [head, *rest], first, others)


def written(folder: Path, records: list[Any], as_lines: bool, ascii: bool) -> Path:
    path = folder / ("mine.jsonl" if as_lines else "mine.json")
    lines = "".join(f"{json.dumps(record, ensure_ascii=ascii)}\n" for record in records)
    content = lines if as_lines else json.dumps(records, ensure_ascii=ascii, indent=1)
    path.write_bytes(content.encode())  # bytes: Python would otherwise translate line ends
    return path


def read_one(module, path: Path, record_messages: list[Message]) -> Trajectory:
    """The trajectory of the second record; the first one stands around it."""
    (_, first), (_, second), (_, third) = reader(module)(path)
    assert second.messages == tuple(record_messages)
    assert second.question == ASKED
    assert first.messages == third.messages
    return second


@few
@given(messages_of("user", "tool", "system"), st.booleans(), st.booleans())
def test_sharegpt(tmp_path_factory, turns, as_lines, ascii):
    names = {"user": "human", "assistant": "gpt", "tool": "observation", "system": "system"}
    conversations = [{"from": "human", "value": ASKED}]
    conversations += [{"from": names[role], "value": text, "loss": train} for role, text, train in turns]
    plain = {"conversations": [*conversations[:1], {"from": "gpt", "value": "x"}], "reward": 1}
    records = [plain, {"conversations": conversations, "reward": 0}, plain]
    path = written(tmp_path_factory.mktemp("a"), records, as_lines, ascii)
    read_one(sharegpt, path, [Message(role, text, role != "assistant" or train) for role, text, train in turns])


@few
@given(messages_of("user", "tool", "system"), st.lists(calls, max_size=3), st.booleans(), st.booleans())
def test_chat(tmp_path_factory, turns, tool_calls, as_lines, ascii):
    messages: list[dict[str, Any]] = [{"role": "user", "content": ASKED}]
    messages += [{"role": role, "content": text, "weight": int(train)} for role, text, train in turns]
    messages.append({"role": "assistant", "content": None, "tool_calls": tool_calls})
    plain = {"messages": [*messages[:1], {"role": "assistant", "content": "x"}], "reward": 1}
    path = written(tmp_path_factory.mktemp("a"), [plain, {"messages": messages, "reward": 0}, plain], as_lines, ascii)
    kept = [Message(role, text, role != "assistant" or train) for role, text, train in turns]
    read_one(chat, path, [*kept, Message("assistant", "", tool_calls=tuple(tool_calls))])


@few
@given(texts.filter(bool), st.booleans(), st.booleans())
def test_alpaca(tmp_path_factory, output, as_lines, ascii):
    plain = {"instruction": ASKED, "input": "", "output": "x", "reward": 1}
    path = written(tmp_path_factory.mktemp("a"), [plain, {**plain, "output": output}, plain], as_lines, ascii)
    read_one(alpaca, path, [Message("assistant", output)])


@pytest.mark.parametrize(("module", "key"), [(nat_paper, "conversations"), (react, "traj"), (react, "messages")])
@few
@given(turns=messages_of("tool", "system"), as_lines=st.booleans(), ascii=st.booleans())
def test_roles_and_contents(tmp_path_factory, module, key, turns, as_lines, ascii):
    messages = [{"role": "user", "content": ASKED}]
    messages += [{"role": role, "content": text, "loss": train} for role, text, train in turns]
    plain = {key: [*messages[:1], {"role": "assistant", "content": "x"}], "reward": 1}
    path = written(tmp_path_factory.mktemp("a"), [plain, {key: messages, "reward": 0}, plain], as_lines, ascii)
    read_one(module, path, [Message(role, text, role != "assistant" or train) for role, text, train in turns])


trajectories = st.builds(
    lambda id, question, messages, tool_calls, success, score, answers, source, metadata: Trajectory(
        id=id,
        question_id=f"q{id}",
        question=question,
        messages=tuple(
            Message(role, text, train, tuple(tool_calls) if role == "assistant" else ())
            for role, text, train in messages
        ),
        outcome=Outcome(success, score, None if success else "tool_error", *answers),
        source=source,
        metadata=metadata,
    ),
    texts,
    texts.filter(str.strip),
    messages_of("user", "tool", "system"),
    st.lists(calls, max_size=2),
    st.booleans(),
    st.floats(0, 1),
    st.tuples(st.none() | texts, st.none() | texts),
    texts,
    st.dictionaries(texts, values, max_size=3),
)


@few
@given(st.lists(trajectories, max_size=3))
def test_our_own_format_gives_the_equal_trajectory(tmp_path_factory, given_trajectories):
    path = tmp_path_factory.mktemp("a") / "mine.jsonl"
    native.write(path, given_trajectories)
    assert [trajectory for _, trajectory in native.read(path)] == given_trajectories


# ---- which format a record is of ----


def recognised(value: dict[str, Any]) -> list[str]:
    return [module.NAME for module in FORMATS if module.recognises(value)]


TURN = {"role": "assistant", "content": "a"}
SAID = {"from": "gpt", "value": "a"}
SEEN = {"role": "user", "content": "Observation 2: b"}


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (json.loads(json.dumps(asdict(make_trajectory("a")))), ["jsonl"]),
        ({"question": "Q?", "messages": [TURN, SEEN], "outcome": {"success": True}}, ["jsonl"]),
        ({"question": "Q?", "messages": [TURN], "outcome": "success"}, ["chat"]),
        ({"conversations": [TURN], "id": 1}, ["nat"]),
        ({"conversations": [], "info": {}}, ["nat"]),
        ({"conversations": []}, []),
        ({"conversations": [SAID]}, ["sharegpt"]),
        ({"conversations": [{**SAID, "role": "x"}]}, ["sharegpt"]),
        ({"conversations": [SAID], "messages": None, "traj": None, "instruction": None}, ["sharegpt"]),
        ({"conversations": [SAID], "messages": [TURN], "instruction": "a", "output": "b"}, ["sharegpt"]),
        ({"traj": "Question: a"}, ["react"]),
        ({"traj": [TURN], "messages": [TURN]}, ["react"]),
        ({"messages": [TURN, SEEN]}, ["react"]),
        ({"messages": [TURN]}, ["chat"]),
        ({"messages": [], "tools": []}, ["chat"]),
        ({"instruction": "a", "output": "b", "question": "c", "m": {"solution": "d"}}, ["alpaca"]),
        ({"question": "a", "m": {"solution": "b"}}, ["gsm8k_solutions"]),
        ({"question": "a", "answer": "b"}, []),
        ({"messages": "a", "conversations": 7, "traj": {}, "instruction": [], "question": None}, []),
        ({"conversations": [None, SAID], "a": "b"}, []),
        ({}, []),
    ],
)
def test_a_record_is_of_one_format_or_none(value, names):
    assert recognised(value) == names


@given(st.dictionaries(st.sampled_from(["messages", "conversations", "traj", "question", "outcome", "a"]), values))
def test_no_record_is_of_two_formats(value):
    assert len(recognised(value)) <= 1


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("gsm8k/train.jsonl", None),
        ("gsm8k/test.jsonl", None),
        ("gsm8k/example_model_solutions.jsonl", "gsm8k_solutions"),
        ("hotpotqa/react_gpt-3.5_messages.json", "react"),
        ("hotpotqa/react_llama-2-7b_text.json", "react"),
        ("hotpotqa/react_gpt-4_positives.jsonl", "react"),
        ("hotpotqa/dev_questions.json", None),
        ("strategyqa/dev_questions.json", None),
        ("strategyqa/sample_positive.json", "nat"),
        ("strategyqa/sample_negative.json", "nat"),
        ("strategyqa/sample_questions.jsonl", None),
        ("math_word_problems/svamp.jsonl", None),
        ("math_word_problems/multiarith.jsonl", None),
        ("math_word_problems/asdiv.jsonl", None),
    ],
)
def test_every_record_of_the_real_files_is_of_its_format_alone(data, name, format):
    found = {tuple(recognised(record.value)) for _, record in read_records(data / name, refuse)}
    assert found == {() if format is None else (format,)}
