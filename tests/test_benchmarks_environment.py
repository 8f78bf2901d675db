"""Question files, good and bad, and the environments made of them."""

from __future__ import annotations

import json
from fractions import Fraction
from functools import cache
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from nat.agents.actions import Action, parse_action
from nat.agents.scoring import exact_match_score, numeric_score, yes_no_score
from nat.agents.turns import play
from nat.core.questions import normalise
from nat.core.rows.bad import DroppedRow
from nat.environments.benchmarks import (
    SCORERS,
    BenchmarkConfig,
    FieldNames,
    check_split,
    instructions_text,
    load_questions,
    make_environment,
    reference_answer,
)
from nat.sweeps.composition import compose, resolved
from nat.tools.calculator import CALCULATOR
from nat.types import Question, RequestError, Score, Tool

FIELDS = FieldNames(id=None, question="question", answer="answer")
ROWS = [
    {"question": "How many bolts?", "answer": "It takes 2/2=<<2/2=1>>1 bolt\n#### 3"},
    {"question": "Wie viele \u00c4pfel?", "answer": "1,800"},
]
QUESTIONS = [Question("q-0", "How many bolts?", "3"), Question("q-1", "Wie viele \u00c4pfel?", "1,800")]
SEARCH = Tool("search", lambda query: f"#1 about {query}")
NAMES = ("gsm8k", "svamp", "multiarith", "asdiv", "hotpotqa", "strategyqa")


def load(source, fields=FIELDS, score=numeric_score) -> list[Question]:
    loaded = load_questions(str(source), fields, "error", score)
    assert loaded.dropped == []
    return loaded.questions


def dropped(source, score=numeric_score, fields=FIELDS) -> tuple[list[str], list[DroppedRow]]:
    """Ids of what is kept, and what is dropped."""
    loaded = load_questions(str(source), fields, "drop", score)
    return [question.id for question in loaded.questions], loaded.dropped


def write_lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@cache
def environment_config(name: str, *overrides: str) -> BenchmarkConfig:
    """As composed from the YAML."""
    tree = resolved(compose([f"environment={name}", *overrides]))
    return TypeAdapter(BenchmarkConfig).validate_json(json.dumps(tree["environment"]), strict=True)


# Files


def test_json_lines_with_every_kind_of_line_end(tmp_path):
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    path = tmp_path / "q.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(lines).encode() + b"\n\n")
    assert load(path) == QUESTIONS


def test_a_byte_order_mark_may_stand_on_a_line_of_its_own(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_bytes(b"\xef\xbb\xbf\n" + json.dumps(ROWS[0]).encode())
    assert load(path) == QUESTIONS[:1]


def test_json_and_parquet(tmp_path):
    (tmp_path / "q.json").write_text(json.dumps(ROWS))
    assert load(tmp_path / "q.json") == QUESTIONS
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "q.parquet")
    assert load(tmp_path / "q.parquet") == QUESTIONS


def test_a_json_object_maps_ids_to_records(tmp_path):
    path = tmp_path / "q.json"
    path.write_text(
        '{"6238": {"question": "Who?", "answer": "Ada"}, "a": {"id": 7, "question": "Where?", "answer": "Ulm"}}'
    )
    assert load(path, score=exact_match_score) == [Question("6238", "Who?", "Ada"), Question("a", "Where?", "Ulm")]
    named = FieldNames(id="key", question="question", answer="answer")
    assert [question.id for question in load(path, named, score=exact_match_score)] == ["6238", "a"]


def test_an_id_that_stands_twice_in_a_json_object_is_a_bad_row(tmp_path):
    path = tmp_path / "q.json"
    path.write_text('{"a": {"question": "Who?", "answer": "Ada"}, "a": {"question": "Where?", "answer": "Ulm"}}')
    with pytest.raises(RequestError, match=r"1 of 2 rows cannot be used:\n.*q\.json: the key 'a' stands twice"):
        load(path, score=exact_match_score)
    kept, (drop,) = dropped(path, exact_match_score)
    assert (kept, drop.reason) == (["a"], "duplicate_id")


@pytest.mark.parametrize("name", ["id", "qid", "_id"])
def test_a_records_own_id_is_kept(tmp_path, name):
    row = {name: 12, "question": "How many?", "answer": 3, "type": "bridge", "level": None, "supporting": [1]}
    assert load(write_lines(tmp_path / "q.jsonl", row)) == [Question("12", "How many?", "3", {"type": "bridge"})]


def test_an_empty_id_is_none(tmp_path):
    path = write_lines(tmp_path / "q.jsonl", {"id": "", "qid": None, "_id": True, "question": "How many?", "answer": 3})
    assert load(path) == [Question("q-0", "How many?", "3")]


def test_fields_may_have_other_names(tmp_path):
    fields = FieldNames(id="number", question="Body", answer="Result")
    path = write_lines(tmp_path / "q.jsonl", {"number": "n1", "id": 9, "Body": " 3+4? ", "Result": 7.5})
    assert load(path, fields) == [Question("n1", "3+4?", "7.5")]
    path = write_lines(tmp_path / "q.jsonl", {"id": 9, "Body": "3+4?", "Result": 7})
    with pytest.raises(RequestError, match=r"q\.jsonl:1: 'number' is missing; it must be text or a whole number"):
        load(path, fields)


def test_true_and_false_are_yes_and_no(tmp_path):
    path = write_lines(tmp_path / "q.jsonl", {"question": "A?", "answer": True}, {"question": "B?", "answer": False})
    assert [question.answer for question in load(path, score=yes_no_score)] == ["yes", "no"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"question": "a", "answer": "1"}\n{"question": "b"\n', r"q\.jsonl:2: not valid JSON"),
        ('{"question": "a", "answer": "1"}\n\n{"question": "b"}\n', r"q\.jsonl:3: 'answer' is missing.*: question"),
        ('{"question": " ", "answer": "1"}\n', r"q\.jsonl:1: 'question' is missing or empty"),
        ('{"question": "a", "answer": ["1"]}\n', r"q\.jsonl:1: 'answer' is missing or empty"),
        ('{"question": "a", "answer": null}\n', r"q\.jsonl:1: 'answer' is missing or empty"),
        ('{"question": "a", "answer": NaN}\n', r"q\.jsonl:1: not valid JSON: NaN"),
        ('{"question": "a", "answer": "so\\n#### "}\n', r"q\.jsonl:1: nothing follows '####'"),
        ('{"question": "a", "answer": "!"}\n', r"q\.jsonl:1: the answer '!' is not counted as right itself"),
        ("[1]\n", r"q\.jsonl:1: a list, not an object"),
        ("\n\n", r"q\.jsonl: holds no records"),
    ],
)
def test_bad_lines_are_named(tmp_path, content, message):
    path = tmp_path / "q.jsonl"
    path.write_text(content)
    with pytest.raises(RequestError, match=message):
        load(path)


def test_bad_rows_are_counted_and_the_remedy_named(tmp_path):
    good = {"question": "a", "answer": 1}
    path = write_lines(tmp_path / "q.jsonl", good, {}, {"question": "b"}, {"answer": 2}, {"question": "", "answer": 3})
    with pytest.raises(RequestError) as error:
        load(path)
    lines = str(error.value).splitlines()
    assert lines[0] == f"environment.questions={path}: 4 of 5 rows cannot be used:"
    assert [line.partition(": ")[0] for line in lines[1:4]] == [f"{path}:2", f"{path}:3", f"{path}:4"]
    assert lines[4:] == [
        "... and 1 more",
        "Mend them, or leave them out with environment.on_bad_row=drop.",
    ]


def test_bad_rows_may_be_dropped_and_are_listed(tmp_path):
    path = tmp_path / "q.jsonl"
    rows = [
        '{"question": "a", "answer": 1}',
        '{"question": "b", "ans',
        "[]",
        '{"question": "c"}',
        '{"id": "x", "question": "d", "answer": 4}',
        '{"id": "x", "question": "e", "answer": 5}',
        '{"question": "f", "answer": "####"}',
        '{"question": "g \\ud800", "answer": 6}',
        '{"question": "h", "answer": 7}',
    ]
    path.write_text("\n".join(rows))
    kept, listed = dropped(path)
    assert kept == ["q-0", "x", "q-8"]  # the place of a row makes its id, whatever is dropped before it
    assert [(drop.where.removeprefix(f"{path}:"), drop.reason) for drop in listed] == [
        ("2", "not_json"),
        ("3", "not_json"),
        ("4", "missing_value"),
        ("6", "duplicate_id"),
        ("7", "missing_value"),
        ("8", "not_json"),
    ]
    assert listed[3].detail == f"id 'x' was used before, at {path}:5"


def test_rows_of_json_and_parquet_are_checked_as_well(tmp_path):
    path = tmp_path / "q.json"
    path.write_text('[1, {"question": "a \\ud800", "answer": 1}, {"question": "b", "answer": 2}]')
    kept, listed = dropped(path)
    assert kept == ["q-2"]
    assert [(drop.where, drop.reason) for drop in listed] == [
        (f"{path}: record 1", "wrong_value"),
        (f"{path}: record 2", "wrong_value"),
    ]
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pydict({"question": ["a", "b", None], "answer": [float("nan"), 2.0, 3.0]})
    pyarrow.parquet.write_table(table, tmp_path / "q.parquet")
    kept, listed = dropped(tmp_path / "q.parquet")
    assert (kept, [drop.reason for drop in listed]) == (["q-1"], ["missing_value", "missing_value"])


def test_nothing_left_is_an_error_even_when_dropping(tmp_path):
    path = write_lines(tmp_path / "q.jsonl", {"question": "a"}, {"question": "b"})
    with pytest.raises(RequestError, match=r"none of the 2 rows can be used.\nThe first: .*q\.jsonl:1: 'answer'"):
        dropped(path)


def test_a_question_asked_twice_with_the_same_answer_is_asked_once_and_listed(tmp_path):
    path = write_lines(
        tmp_path / "q.jsonl",
        {"id": 1, "question": "How many?", "answer": "1,800"},
        {"id": 2, "question": "How  MANY?", "answer": "$1800"},
    )
    for on_bad_row in ("error", "drop"):  # no flaw of a row: it does not stop a run
        questions, listed = load_questions(str(path), FIELDS, on_bad_row, numeric_score)
        assert [question.id for question in questions] == ["1"]
        assert listed == [DroppedRow(f"{path}:2", "duplicate_question", f"the same question as at {path}:1")]


def test_a_question_with_two_answers_is_not_asked(tmp_path):
    rows = [("1", "How many?", 3), ("2", "how many?", 4), ("3", "HOW MANY?", 3), ("4", "How few?", 1)]
    path = write_lines(tmp_path / "q.jsonl", *({"id": i, "question": q, "answer": a} for i, q, a in rows))
    with pytest.raises(RequestError, match=r"2 of 4 rows.*\n.*:2: the same question has two answers: '3' at .*:1, '4'"):
        load(path)
    kept, listed = dropped(path)
    assert kept == ["4"]
    assert [(drop.where[-2:], drop.reason) for drop in listed] == [
        (":2", "contradictory_answer"),
        (":3", "duplicate_question"),
        (":1", "contradictory_answer"),
    ]


def test_an_answer_that_the_scorer_rejects_is_a_bad_row(tmp_path):
    path = write_lines(tmp_path / "q.jsonl", {"question": "a", "answer": "yes"}, {"question": "b", "answer": "perhaps"})
    with pytest.raises(RequestError, match=r"1 of 2 rows.*\n.*:2: the answer 'perhaps' is not counted as right"):
        load(path, score=yes_no_score)
    assert dropped(path, yes_no_score)[1][0].reason == "unscorable"


def test_what_is_no_question_file(tmp_path):
    with pytest.raises(RequestError, match=r"absent\.jsonl: no such file"):
        load(tmp_path / "absent.jsonl")
    with pytest.raises(RequestError, match=r"neither a file .* nor a hub id"):
        load("gsm8k")
    (tmp_path / "q.txt").write_text("x")
    with pytest.raises(RequestError, match=r"unknown type; use \.jsonl, \.json, \.parquet"):
        load(tmp_path / "q.txt")
    for content, message in [
        ('{"a": 1,\n "b" 2}', r"q\.json:2: not JSON"),
        ('{"a": 1}', r"q\.json:1: expected a list of records or an object of id: record, got a dict"),
        ("7", r"q\.json:1: expected a list .* got a int"),
        ('[{"question": "a", "answer": NaN}]', r"q\.json: not JSON \(NaN"),
        ("[" * 100_000, r"q\.json: not JSON"),
        ("[]", r"q\.json: holds no records"),
    ]:
        (tmp_path / "q.json").write_text(content)
        with pytest.raises(RequestError, match=message):
            load(tmp_path / "q.json")
    (tmp_path / "q.parquet").write_text("PAR?")
    with pytest.raises(RequestError, match="not a parquet file"):
        load(tmp_path / "q.parquet")
    (tmp_path / "latin.jsonl").write_bytes(b'{"question": "\xe4", "answer": "1"}\n')
    with pytest.raises(RequestError, match=r"latin\.jsonl:1: not UTF-8"):
        load(tmp_path / "latin.jsonl")


def test_the_hub_is_asked_for_name_config_and_split(monkeypatch):
    import datasets

    asked = []

    def load_dataset(name, config, split):
        asked.append((name, config, split))
        return ROWS

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert [question.answer for question in load("openai/gsm8k:main")] == ["3", "1,800"]
    load("ChilleD/SVAMP")
    load("openai/gsm8k:main:train")
    gsm8k, svamp = "openai/gsm8k", "ChilleD/SVAMP"
    assert asked == [(gsm8k, "main", "test"), (svamp, None, "test"), (gsm8k, "main", "train")]


def test_a_hub_that_does_not_answer_is_a_wrong_request(monkeypatch):
    import datasets

    def load_dataset(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(RequestError, match=r"environment\.questions=a/b: the hub did not give it .*no network"):
        load("a/b")


def test_a_question_file_is_a_test_set():
    for source in ("q.jsonl", "openai/gsm8k:main"):
        check_split(source, "test")
        with pytest.raises(RequestError, match=rf"evaluation.split=validation.*{source}.*\n.*questions=held_out"):
            check_split(source, "validation")
    for source in ("held_out", None):
        check_split(source, "test")
        check_split(source, "validation")


def test_the_reference_stands_behind_the_last_mark():
    assert reference_answer("2 + 1 = 3\n#### 3") == "3"
    assert reference_answer(" 9 ") == "9"


# The real files


FILES = {  # benchmark, file, records, of which repeat an earlier question with the same answer
    "gsm8k test": ("gsm8k", "gsm8k/test.jsonl", 1319, 0),
    "gsm8k train": ("gsm8k", "gsm8k/train.jsonl", 7473, 0),
    "svamp": ("svamp", "math_word_problems/svamp.jsonl", 1000, 0),
    "multiarith": ("multiarith", "math_word_problems/multiarith.jsonl", 596, 19),
    "asdiv": ("asdiv", "math_word_problems/asdiv.jsonl", 2023, 1),
    "hotpotqa": ("hotpotqa", "hotpotqa/dev_questions.json", 7405, 0),
    "strategyqa": ("strategyqa", "strategyqa/dev_questions.json", 229, 0),
    "strategyqa sample": ("strategyqa", "strategyqa/sample_questions.jsonl", 71, 0),
}


SHIFTS = (1, 2, 7)  # records between an answer and the one that it is taken for


def raw_records(path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("name", FILES)
def test_real_files_load_whole(data, name):
    benchmark, file, records, repeated = FILES[name]
    config = environment_config(benchmark, f"environment.questions={data / file}")
    loaded = load_questions(config.questions, config.fields, config.on_bad_row, SCORERS[config.scorer])
    assert len(loaded.questions) == records - repeated
    assert [drop.reason for drop in loaded.dropped] == ["duplicate_question"] * repeated
    raw = raw_records(data / file)
    assert len(raw) == records
    ids = {str(row.get("id", row.get("qid"))): normalise(row["question"]) for row in raw}
    if len(ids) == records:  # the file has ids
        assert all(ids[question.id] == normalise(question.text) for question in loaded.questions)
    if benchmark == "hotpotqa":
        assert {question.metadata["type"] for question in loaded.questions} == {"bridge", "comparison"}
    if benchmark == "strategyqa":
        expected = ["yes" if row["answer"] else "no" for row in raw]
        assert [question.answer for question in loaded.questions] == expected


def raw_answer(record: dict[str, Any]) -> str:
    """The reference answer, read here without the loader."""
    if isinstance(record["answer"], bool):
        return "yes" if record["answer"] else "no"
    return record["answer"].split("####")[-1].strip()


def differ(benchmark: str, a: str, b: str) -> bool:
    """Whether two reference answers of a benchmark differ, found without the scorers."""
    if benchmark == "hotpotqa":
        words = [
            "".join(c if c.isalnum() or ord(c) > 127 else " " if c.isspace() else "" for c in answer.lower()).split()
            for answer in (a, b)
        ]
        return [w for w in words[0] if w not in ("a", "an", "the")] != [
            w for w in words[1] if w not in ("a", "an", "the")
        ]
    if benchmark == "strategyqa":
        return a != b
    return Fraction(a.replace(",", "")) != Fraction(b.replace(",", ""))


@pytest.mark.parametrize("name", FILES)
def test_every_gold_answer_is_right_and_every_other_ones_is_wrong(data, name):
    """All records, those that repeat a question included; each answer against those of the next records, too."""
    benchmark, file, records, _ = FILES[name]
    score = SCORERS[environment_config(benchmark).scorer]
    answers = [raw_answer(record) for record in raw_records(data / file)]
    assert [answer for answer in answers if score(answer, answer) != Score(True, 1.0)] == []
    pairs = [(a, answers[(place + step) % records]) for step in SHIFTS for place, a in enumerate(answers)]
    shuffled = [(a, b) for a, b in pairs if differ(benchmark, a, b)]
    assert len(shuffled) > len(pairs) * (0.4 if benchmark == "strategyqa" else 0.8)
    assert [(a, b) for a, b in shuffled if score(a, b).success or score(a, b).score == 1] == []
    wrong = [answer for answer in answers if not score(f" {answer}.", answer).success]
    assert wrong == (["!!!"] if benchmark == "hotpotqa" else [])


# The environments


@pytest.mark.parametrize("name", [*NAMES, "questions"])
def test_instructions_and_examples_name_exactly_the_tools_that_there_are(name):
    config = environment_config(name, *(["environment.questions=q.jsonl"] if name == "questions" else []))
    text = make_environment(config, SEARCH).instructions
    for tool in ("calculate", "search"):
        assert (f"{tool}[" in text) == (tool in config.tools)
    assert "finish" in text and "{" not in text


@pytest.mark.parametrize("name", NAMES)
def test_solved_examples_are_episodes_of_their_environment(name):
    """Every turn parses, the calculator says what the example says, and the last answer can be scored."""
    config = environment_config(name)
    examples = (config.few_shot or "").split("\n\n")[1:]
    assert 2 <= len(examples) <= 3
    score = SCORERS[config.scorer]
    for example in examples:
        assert example.startswith("Question: ")
        turns = example.split("Thought: ")[1:]
        actions = [parse_action(f"Thought: {turn}", config.tools) for turn in turns]
        for turn, action in zip(turns, actions, strict=True):
            assert isinstance(action, Action), turn
            if action.tool == "calculate":
                assert turn.rstrip().endswith(f"Observation: {CALCULATOR.run(action.input)}")
        last = actions[-1]
        assert isinstance(last, Action) and last.tool == "finish" and score(last.input, last.input).success
        assert all(isinstance(action, Action) and action.tool in config.tools for action in actions[:-1])


def test_solved_examples_are_no_benchmark_questions(data):
    asked = {normalise(record["question"]) for *_, file, _, _ in FILES.values() for record in raw_records(data / file)}
    for name in NAMES:
        for example in (environment_config(name).few_shot or "").split("\n\n")[1:]:
            assert normalise(example.partition("\n")[0].removeprefix("Question: ")) not in asked


def test_the_environment_calculates_and_scores():
    config = environment_config("gsm8k", "environment.max_turns=2")
    environment = make_environment(config, None)
    assert (environment.name, environment.max_turns) == ("gsm8k", 2)
    turns = iter(["Action: calculate[600 * 3]", "Action: finish[$1800]"])
    assert play(environment, QUESTIONS[1], lambda messages: next(turns)).outcome.success


def test_the_environment_searches_and_grades():
    environment = make_environment(environment_config("hotpotqa"), SEARCH)
    question = Question("q", "Who sang it?", "Sir Paul McCartney")
    turns = iter(["Action: search[song]", "Action: finish[Paul McCartney]"])
    rollout = play(environment, question, lambda messages: next(turns))
    assert [message.content for message in rollout.messages if message.role == "tool"] == ["#1 about song"]
    assert (rollout.outcome.success, rollout.outcome.score, rollout.outcome.failure) == (False, 0.8, "wrong_answer")


def test_an_abstention_on_a_yes_no_question_is_a_kind_of_its_own():
    environment = make_environment(environment_config("strategyqa"), SEARCH)
    question = Question("q", "Does it float?", "yes")
    for answer, failure in [
        ("It depends", "abstained"),
        ("No", "wrong_answer"),
        ("TRUE", None),
        ("20", "wrong_answer"),
    ]:
        outcome = play(environment, question, lambda messages, answer=answer: f"Action: finish[{answer}]").outcome
        assert outcome.failure == failure


def test_tools_stand_in_the_order_of_the_configuration():
    config = environment_config("hotpotqa", "environment.tools=[search,calculate]")
    assert make_environment(config, SEARCH).tools == (SEARCH, CALCULATOR)
    config = environment_config("hotpotqa", "environment.tools=[calculate,search]")
    environment = make_environment(config, SEARCH, lambda question: (Tool("search", lambda query: question.id),))
    assert environment.tools == (CALCULATOR, SEARCH)
    assert environment.open_tools is not None
    calculate, search = environment.open_tools(Question("q7", "?", "a"))
    assert calculate is CALCULATOR and search.run("x") == "q7"


def test_an_agent_that_calls_no_tool_needs_no_search():
    assert make_environment(environment_config("hotpotqa"), None).tools == ()
    assert make_environment(environment_config("gsm8k"), SEARCH).tools == (CALCULATOR,)


def test_instructions_must_not_tell_of_absent_tools():
    with pytest.raises(
        ValidationError, match=r"instructions tell of search\[...\], .* environment.tools=\['calculate'\]"
    ):
        environment_config("hotpotqa", "environment.tools=[calculate]")
    with pytest.raises(ValidationError, match=r"few_shot tell of search\[...\]"):
        environment_config("hotpotqa", "environment.tools=[]", "environment.instructions=''")
    with pytest.raises(ValidationError, match="each tool is named once"):
        environment_config("gsm8k", "environment.tools=[calculate,calculate]")
    with pytest.raises(ValidationError, match="greater than 0"):
        environment_config("gsm8k", "environment.max_turns=0")


def test_instructions_tell_of_chosen_tools():
    text = "Do one.\nAction: {actions}\n{tools}\nEnd with {finish}.\n"
    assert instructions_text(text, []) == "Do one.\nAction: finish[answer]\nEnd with {finish}."
    two = instructions_text(text, ["search", "calculate"]).splitlines()
    assert two[1] == "Action: search[query] or calculate[expression] or finish[answer]"
    assert [line.split()[0] for line in two] == ["Do", "Action:", "search", "calculate", "End"]


def test_a_users_own_questions_need_no_python(tmp_path):
    path = write_lines(tmp_path / "quiz.jsonl", {"frage": "Wie viel ist 6 * 7?", "antwort": 42})
    config = environment_config(
        "questions",
        f"environment.questions={path}",
        "environment.fields.question=frage",
        "environment.fields.answer=antwort",
        "environment.tools=[calculate]",
        "environment.scorer=numeric",
    )
    environment = make_environment(config, None)
    assert "Action: calculate[expression] or finish[answer]\ncalculate gives you" in environment.instructions
    (question,) = load_questions(config.questions, config.fields, config.on_bad_row, environment.score).questions
    turns = iter(["Action: calculate[6*7]", "Action: finish[42.0]"])
    assert play(environment, question, lambda messages: next(turns)).outcome.success


@pytest.mark.slow
def test_a_users_own_questions_from_the_command_line(tmp_path, monkeypatch, capsys):
    from nat import cli

    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "quiz.jsonl", {"q": "6 * 7?", "a": 42}, {"q": "6 * 7 ?"}, {"q": "5 * 7?", "a": 35})
    command = ["train", "method=base", "tracking=none", "environment=questions", "environment.questions=quiz.jsonl"]
    command += ["environment.fields.question=q", "environment.fields.answer=a", "environment.tools=[calculate]"]
    command += ["environment.scorer=numeric", "hydra.run.dir=run"]
    assert cli.run(command) == 2
    assert "1 of 3 rows cannot be used" in capsys.readouterr().err
    assert cli.run([*command, "environment.on_bad_row=drop"]) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (results["environment"], results["n_questions"]) == ("questions", 2)
