"""Question files, good and bad."""

from __future__ import annotations

import json

import pytest

from nat.environments import play
from nat.environments.benchmarks import (
    BenchmarkConfig,
    check_split,
    load_questions,
    make_environment,
    reference_answer,
)
from nat.types import Question, RequestError

ROWS = [
    {"question": "How many bolts?", "answer": "It takes 2/2=<<2/2=1>>1 bolt\n#### 3"},
    {"question": "Wie viele \u00c4pfel?", "answer": "1,800"},
]
QUESTIONS = [Question("q-0", "How many bolts?", "3"), Question("q-1", "Wie viele \u00c4pfel?", "1,800")]


def test_json_lines_with_every_kind_of_line_end(tmp_path):
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    path = tmp_path / "q.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(lines).encode() + b"\n\n")
    assert load_questions(str(path)) == QUESTIONS


def test_a_byte_order_mark_may_stand_on_a_line_of_its_own(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_bytes(b"\xef\xbb\xbf\n" + json.dumps(ROWS[0]).encode())
    assert load_questions(str(path)) == QUESTIONS[:1]


def test_json_and_parquet(tmp_path):
    (tmp_path / "q.json").write_text(json.dumps(ROWS))
    assert load_questions(str(tmp_path / "q.json")) == QUESTIONS
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "q.parquet")
    assert load_questions(str(tmp_path / "q.parquet")) == QUESTIONS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"question": "a", "answer": "1"}\n{"question": "b"\n', r"q\.jsonl:2: not valid JSON"),
        ('{"question": "a", "answer": "1"}\n\n{"question": "b"}\n', r"q\.jsonl:3: 'answer' is missing.*: question"),
        ('{"question": " ", "answer": "1"}\n', r"q\.jsonl:1: 'question' is missing or empty"),
        ('{"question": "a", "answer": "so\\n#### "}\n', r"q\.jsonl:1: nothing follows '####'"),
        ("[1]\n", r"q\.jsonl:1: a list, not an object"),
        ("\n\n", r"q\.jsonl: holds no records"),
    ],
)
def test_bad_lines_are_named(tmp_path, content, message):
    path = tmp_path / "q.jsonl"
    path.write_text(content)
    with pytest.raises(RequestError, match=message):
        load_questions(str(path))


def test_what_is_no_question_file(tmp_path):
    with pytest.raises(RequestError, match=r"absent\.jsonl: no such file"):
        load_questions(str(tmp_path / "absent.jsonl"))
    with pytest.raises(RequestError, match=r"neither a file .* nor a hub id"):
        load_questions("gsm8k")
    (tmp_path / "q.txt").write_text("x")
    with pytest.raises(RequestError, match=r"unknown type; use \.jsonl, \.json, \.parquet"):
        load_questions(str(tmp_path / "q.txt"))
    (tmp_path / "q.json").write_text('{"a": 1,\n "b" 2}')
    with pytest.raises(RequestError, match=r"q\.json:2: not JSON"):
        load_questions(str(tmp_path / "q.json"))
    (tmp_path / "q.parquet").write_text("PAR?")
    with pytest.raises(RequestError, match="not a parquet file"):
        load_questions(str(tmp_path / "q.parquet"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"question": "\xe4", "answer": "1"}\n')
    with pytest.raises(RequestError, match=r"latin\.jsonl:1: not UTF-8"):
        load_questions(str(tmp_path / "latin.jsonl"))


def test_the_hub_is_asked_for_name_config_and_split(monkeypatch):
    import datasets

    asked = []

    def load_dataset(name, config, split):
        asked.append((name, config, split))
        return ROWS

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert [question.answer for question in load_questions("openai/gsm8k:main")] == ["3", "1,800"]
    load_questions("ChilleD/SVAMP")
    load_questions("openai/gsm8k:main:train")
    gsm8k, svamp = "openai/gsm8k", "ChilleD/SVAMP"
    assert asked == [(gsm8k, "main", "test"), (svamp, None, "test"), (gsm8k, "main", "train")]


def test_a_hub_that_does_not_answer_is_a_wrong_request(monkeypatch):
    import datasets

    def load_dataset(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(RequestError, match=r"environment\.questions=a/b: the hub did not give it .*no network"):
        load_questions("a/b")


def test_a_question_file_is_a_test_set():
    for source in ("q.jsonl", "openai/gsm8k:main"):
        check_split(source, "test")
        with pytest.raises(RequestError, match=rf"evaluation.split=validation.*{source}.*\n.*questions=held_out"):
            check_split(source, "validation")
    check_split("held_out", "test")
    check_split("held_out", "validation")


def test_the_reference_stands_behind_the_last_mark():
    assert reference_answer("2 + 1 = 3\n#### 3") == "3"
    assert reference_answer(" 9 ") == "9"


def test_the_environment_calculates_and_scores():
    config = BenchmarkConfig(
        name="gsm8k", kind="benchmark", instructions="Solve.\n", questions="held_out", held_out=0.2, max_turns=2
    )
    environment = make_environment(config)
    assert (environment.name, environment.instructions, environment.max_turns) == ("gsm8k", "Solve.", 2)
    turns = iter(["Action: calculate[600 * 3]", "Action: finish[$1800]"])
    assert play(environment, QUESTIONS[1], lambda messages: next(turns)).outcome.success


def test_an_episode_needs_a_turn():
    with pytest.raises(ValueError, match="greater than 0"):
        BenchmarkConfig(
            name="gsm8k", kind="benchmark", instructions="", questions="held_out", held_out=0.2, max_turns=0
        )
