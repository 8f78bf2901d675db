import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from nat.config.options import shipped
from nat.core.questions import hold_out, is_held_out, normalise, not_held_out, question_id
from nat.core.rows.bad import DroppedRow, refuse
from nat.core.rows.json_records import read_records
from nat.trajectories import reading as trajectories
from nat.trajectories.config import ScriptedTrajectories, TrajectoriesConfig, TrajectoryFiles
from nat.trajectories.formats import gsm8k_solutions, native
from nat.trajectories.formats.episodes import line_of
from nat.types import Message, Outcome, RequestError, Trajectory
from tests.conftest import make_trajectory, trajectory_files

TURN = {"role": "assistant", "content": "Action: finish[7]"}
RECORD = {
    "question": "What is 3+4?",
    "messages": [TURN],
    "outcome": {"success": True},
}
LABEL = {"outcome": {"success": True}}


def config(kind, path, **changes) -> TrajectoryFiles:
    return trajectory_files(kind, path=str(path) if isinstance(path, Path) else path, **changes)


def read_text(tmp_path: Path, text: str | bytes) -> list[Trajectory]:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(trajectories.read(config("jsonl", path)))


def test_the_least_a_record_needs_and_what_the_rest_becomes(tmp_path):
    assert read_text(tmp_path, json.dumps(RECORD)) == [
        Trajectory(
            id="mine:1",
            question_id=question_id("What is 3+4?"),
            question="What is 3+4?",
            messages=(Message("assistant", "Action: finish[7]"),),
            outcome=Outcome(success=True, score=1.0),
            source="mine",
        )
    ]


def test_the_record_in_the_documentation_can_be_read(tmp_path):
    documented = native.__doc__.split("\n\n")[1]  # type: ignore[union-attr]
    one_line = " ".join(documented.split())
    (trajectory,) = read_text(tmp_path, one_line)
    assert trajectory.id == "ducks/175b"
    assert trajectory.outcome == Outcome(False, 0.0, "wrong_answer", "13", "18")
    assert [m.role for m in trajectory.messages] == ["assistant", "tool", "assistant"]
    assert trajectory.metadata == {"temperature": 0.7}


def test_what_is_written_is_read_back(tmp_path):
    originals = [make_trajectory("a", temperature=0.5), make_trajectory("b", success=False, score=0.25)]
    path = tmp_path / "x.jsonl"
    native.write(path, originals)
    assert list(trajectories.read(config("jsonl", path))) == originals


@given(
    st.lists(
        st.builds(Message, st.sampled_from(["assistant", "tool", "user"]), st.text(), st.booleans()), max_size=5
    ).filter(lambda messages: not messages or messages[0].role == "assistant"),
    st.text(min_size=1).filter(lambda text: text.strip()),
)
def test_messages_survive_a_round_trip_exactly(tmp_path_factory, messages, question):
    original = Trajectory("i", "q", question, tuple(messages), Outcome(True, 1.0), "s", {"k": [1, None, "ü"]})
    path = tmp_path_factory.mktemp("round_trip") / "x.jsonl"
    native.write(path, [original])
    assert [t for _, t in native.read(path)] == [original]


def test_crlf_bom_empty_lines_other_scripts_and_a_message_of_a_megabyte(tmp_path):
    long = {**RECORD, "messages": [{"role": "assistant", "content": "ж" * 1_000_000}]}
    other = {**RECORD, "question": "三加四等于几？"}
    text = "\ufeff" + json.dumps(long) + "\r\n\r\n   \r\n" + json.dumps(other, ensure_ascii=False) + "\r\n"
    first, second = read_text(tmp_path, text)
    assert first.messages[0].content == "ж" * 1_000_000
    assert (second.question, second.id) == ("三加四等于几？", "mine:4")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "x"', r"mine.jsonl:2: not valid JSON"),
        ("[1, 2]", r"mine.jsonl:2: a list, not an object"),
        (json.dumps({**RECORD, "outcome": {}}), r"mine.jsonl:2: 'success' is missing.*\n.*needs its label"),
        (
            json.dumps({k: v for k, v in RECORD.items() if k != "outcome"}),
            r"mine.jsonl:2: 'outcome' is missing.*\n.*label",
        ),
        (json.dumps({**RECORD, "outcome": {"success": "yes"}}), "'success' is \"yes\"; it must be true or false"),
        (json.dumps({**RECORD, "outcome": {"success": True, "score": 7}}), "outcome.score is 7; .* from 0 to 1"),
        (json.dumps({**RECORD, "outcome": {"success": False, "failure": "bad"}}), "outcome.failure is 'bad'"),
        (json.dumps({**RECORD, "messages": [{"role": "robot", "content": ""}]}), "unknown role 'robot'"),
        (json.dumps({**RECORD, "messages": [{"role": "assistant"}]}), "'content' is missing"),
        (json.dumps({**RECORD, "messages": ["hello"]}), "a message is 'hello'"),
        (json.dumps({**RECORD, "question": 3}), "'question' is 3; it must be text"),
        (json.dumps({**RECORD, "reward": 1}), "unknown key 'reward'; put what is yours into 'metadata'"),
        (json.dumps({**RECORD, "question": " \u00a0\n"}), "'question' is empty"),
        (json.dumps({**RECORD, "metadata": "abc"}), "'metadata' is \"abc\"; it must be an object"),
        (json.dumps({**RECORD, "metadata": [1, 2]}), r"'metadata' is \[1, 2\]; it must be an object"),
        (json.dumps({**RECORD, "id": {}}), "'id' is {}; it must be text or a whole number"),
        (json.dumps({**RECORD, "id": True}), "'id' is true; it must be text or a whole number"),
        (json.dumps({**RECORD, "question_id": []}), r"'question_id' is \[\]; it must be text or a whole number"),
        (json.dumps({**RECORD, "source": 5}), "'source' is 5; it must be text"),
        (
            json.dumps({**RECORD, "outcome": {"success": True, "reference": [7]}}),
            r"'reference' is \[7\]; .* or a number",
        ),
        (json.dumps({**RECORD, "outcome": {"success": True, "prediction": {}}}), "'prediction' is {}; .* or a number"),
        (json.dumps({**RECORD, "messages": [{**TURN, "tool_calls": 5}]}), "'tool_calls' is 5; it must be a list"),
        (json.dumps({**RECORD, "messages": [{**TURN, "tool_calls": [5]}]}), "'tool_calls' holds 5; .* an object"),
        ('{"question": NaN}', "NaN is not a JSON value"),
        ("[" * 100_000, "not valid JSON"),
        ('{"question": "\\ud83d"}', r"half of a surrogate pair, \\ud83d, is no character"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_what_cannot_be_read_is_named_by_file_and_line(tmp_path, line, message):
    line = line if isinstance(line, bytes) else line.encode()
    with pytest.raises(RequestError, match=message) as error:
        read_text(tmp_path, json.dumps(RECORD).encode() + b"\n" + line)
    assert "mine.jsonl:2" in str(error.value)
    assert len(str(error.value)) < 600


def test_an_id_used_twice_names_both_places(tmp_path):
    line = json.dumps({**RECORD, "id": "a"})
    with pytest.raises(RequestError, match=r"mine.jsonl:2: id 'a' was used before, at .*mine.jsonl:1"):
        read_text(tmp_path, f"{line}\n{line}\n")


SOLVED = {"question": "Q", "ground_truth": "A: 1", "6b": {"is_correct": True, "solution": "A: 1"}}


@pytest.mark.parametrize(
    ("names", "native_ids", "gsm8k_ids"),
    [
        (["a.jsonl"], ["a:1", "a:2"], ["1/6b", "2/6b"]),
        (["run1/a.jsonl", "run2/b.jsonl"], ["a:1", "a:2", "b:1", "b:2"], ["a:1/6b", "a:2/6b", "b:1/6b", "b:2/6b"]),
        (
            ["run1/x.jsonl", "run2/x.jsonl"],
            ["run1/x.jsonl:1", "run1/x.jsonl:2", "run2/x.jsonl:1", "run2/x.jsonl:2"],
            ["run1/x.jsonl:1/6b", "run1/x.jsonl:2/6b", "run2/x.jsonl:1/6b", "run2/x.jsonl:2/6b"],
        ),
        (
            ["x.jsonl", "x.json"],
            ["x.jsonl:1", "x.jsonl:2", "x.json:1", "x.json:2"],
            ["x.jsonl:1/6b", "x.jsonl:2/6b", "x.json:1/6b", "x.json:2/6b"],
        ),
    ],
)
def test_ids_made_here_tell_files_apart(tmp_path, names, native_ids, gsm8k_ids):
    for kind, record, ids in (("jsonl", RECORD, native_ids), ("gsm8k_solutions", SOLVED, gsm8k_ids)):
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(f"{json.dumps(record)}\n" * 2)
        assert [t.id for t in trajectories.read(config(kind, [str(tmp_path / name) for name in names]))] == ids


def test_ids_given_twice_in_two_files_stay_an_error(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(json.dumps({**RECORD, "id": "mine"}))
    with pytest.raises(RequestError, match=r"b.jsonl:1: id 'mine' was used before, at .*a.jsonl:1"):
        list(trajectories.read(config("jsonl", str(tmp_path / "*.jsonl"))))


def test_a_preamble_is_set_aside_and_counted(tmp_path):
    turn = {"role": "assistant", "content": "Action: finish[7]"}
    messages = [
        {"role": "system", "content": "You are an agent."},
        {"role": "user", "content": "Say OK."},
        {"role": "assistant", "content": "OK", "train": False},
        {"role": "user", "content": "Question: what is  3+4?"},
        turn,
    ]
    (trajectory,) = read_text(tmp_path, json.dumps({**RECORD, "messages": messages}))
    assert trajectory.messages == (Message("assistant", "Action: finish[7]"),)
    assert trajectory.metadata == {"preamble_messages": 4}
    assert [(m.role, m.content, m.train) for m in trajectory.prompt] == [
        ("system", "You are an agent.", True),
        ("user", "Say OK.", True),
        ("assistant", "OK", False),
        ("user", "Question: what is  3+4?", True),
    ]
    (trajectory,) = read_text(tmp_path, json.dumps({**RECORD, "messages": [messages[1], turn]}))
    assert trajectory.metadata == {"preamble_messages": 1}


def test_a_later_message_that_repeats_the_question_is_no_preamble(tmp_path):
    dialogue = [
        {"role": "assistant", "content": "Action: calculate[3+4]"},
        {"role": "user", "content": "Observation: 3+4 = 7"},
        TURN,
    ]
    asked = {"role": "user", "content": "Question: 3+4"}
    (trajectory,) = read_text(tmp_path, json.dumps({"question": "3+4", "messages": [asked, *dialogue], **LABEL}))
    assert [m.content for m in trajectory.messages] == [m["content"] for m in dialogue]
    assert trajectory.metadata == {"preamble_messages": 1}
    # What starts with the agent has no preamble, whatever is said later.
    (trajectory,) = read_text(tmp_path, json.dumps({"question": "3+4", "messages": dialogue, **LABEL}))
    assert [m.content for m in trajectory.messages] == [m["content"] for m in dialogue]
    assert trajectory.metadata == {}


def test_a_preamble_reaches_to_the_turn_of_the_agent(tmp_path):
    asked = [
        {"role": "system", "content": "Q: 3+4"},
        {"role": "user", "content": "3+4"},
        {"role": "user", "content": "Go."},
    ]
    (trajectory,) = read_text(tmp_path, json.dumps({"question": "3+4", "messages": [*asked, TURN], **LABEL}))
    assert trajectory.messages == (Message("assistant", "Action: finish[7]"),)
    assert trajectory.metadata == {"preamble_messages": 3}


def test_null_stands_for_absent_and_numbers_for_their_text(tmp_path):
    nothing = dict.fromkeys(("id", "question_id", "source", "metadata"))
    (trajectory,) = read_text(tmp_path, json.dumps({**RECORD, **nothing, "messages": [{**TURN, "tool_calls": None}]}))
    assert (trajectory.id, trajectory.source, trajectory.metadata) == ("mine:1", "mine", {})
    call = {"name": "calculate", "arguments": {"input": "3+4"}}
    outcome = {"success": True, "prediction": 7.5, "reference": 7}
    given = {"id": 5, "question_id": 0, "outcome": outcome, "messages": [{**TURN, "tool_calls": [call]}]}
    (trajectory,) = read_text(tmp_path, json.dumps({**RECORD, **given}))
    assert (trajectory.id, trajectory.question_id) == ("5", "0")
    assert (trajectory.outcome.prediction, trajectory.outcome.reference) == ("7.5", "7")
    assert trajectory.messages[0].tool_calls == (call,)


def test_a_file_that_the_system_does_not_let_read_is_named(tmp_path):
    with pytest.raises(RequestError, match=rf"{tmp_path} is a directory without a dataset"):
        list(native.read(tmp_path))
    with pytest.raises(RequestError, match=r"trajectories.path=x{5}.*: cannot be read: File name too long"):
        trajectories.paths("x" * 5000)


def test_train_flags_are_kept(tmp_path):
    messages = [{"role": "assistant", "content": "a", "train": False}, {"role": "assistant", "content": "b"}]
    (trajectory,) = read_text(tmp_path, json.dumps({**RECORD, "messages": messages}))
    assert [m.train for m in trajectory.messages] == [False, True]


def test_paths_globs_and_lists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.jsonl", "a.jsonl", "odd [1].jsonl"):
        (tmp_path / name).write_text(json.dumps(RECORD))
    assert [p.name for p in trajectories.paths("[ab].jsonl")] == ["a.jsonl", "b.jsonl"]
    assert [p.name for p in trajectories.paths(["b.jsonl", "*.jsonl"])] == ["b.jsonl", "a.jsonl", "odd [1].jsonl"]
    assert [p.name for p in trajectories.paths("odd [1].jsonl")] == ["odd [1].jsonl"]
    # One file, however it is spelled: its trajectories must not count twice.
    spellings = ["a.jsonl", str(tmp_path / "a.jsonl"), f"../{tmp_path.name}/a.jsonl"]
    assert trajectories.paths(spellings) == [Path("a.jsonl")]
    with pytest.raises(RequestError, match="the pattern matches no file"):
        trajectories.paths("c*.jsonl")
    with pytest.raises(RequestError, match=r"trajectories.path=c.jsonl: .*c.jsonl does not exist"):
        trajectories.paths("c.jsonl")
    assert trajectories.paths(str(tmp_path)) == [tmp_path / name for name in ("a.jsonl", "b.jsonl", "odd [1].jsonl")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="is a directory without a dataset"):
        trajectories.paths(str(tmp_path / "empty"))
    with pytest.raises(RequestError, match="path=null: say which file"):
        trajectories.paths(None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"successes": -1}, "greater than or equal to 0"),
        ({"failures": -3}, "greater than or equal to 0"),
        ({"failures": 3, "failures_rate": 0.0}, "failures_rate=0.0: a policy that never errs earns no failures"),
        ({"path": "mine.jsonl"}, "Unexpected keyword argument"),
        ({"on_bad_row": "error"}, "Unexpected keyword argument"),
    ],
)
def test_what_generated_trajectories_cannot_be(change, message):
    values = {"kind": "scripted", "successes": 1, "failures": 0, "failures_rate": None}
    assert ScriptedTrajectories(**values).failures == 0
    with pytest.raises(ValueError, match=message):
        ScriptedTrajectories(**{**values, **change})


@pytest.mark.parametrize("kind", ["jsonl", "gsm8k_solutions", "react", "scripted"])
def test_questions_are_joined_with_nothing_but_the_nat_format(kind):
    values = shipped("trajectories")[kind]
    with pytest.raises(ValueError, match=rf"(?s){kind}\.questions\n.*Unexpected keyword argument"):
        TypeAdapter(TrajectoriesConfig).validate_json(json.dumps({**values, "questions": "q.jsonl"}), strict=True)


def test_bad_rows_are_dropped_and_listed_on_request(tmp_path):
    path = tmp_path / "mine.jsonl"
    good = json.dumps({**RECORD, "id": "a"})
    rows = [good, "{", "[1]", json.dumps({**RECORD, "outcome": {}}), json.dumps({**RECORD, "x": 1}), good]
    path.write_text("\n".join([*rows, json.dumps({**RECORD, "question": 7}), json.dumps(RECORD)]))
    dropped: list[DroppedRow] = []
    found = list(trajectories.read(config("jsonl", path, on_bad_row="drop"), dropped))
    assert [t.id for t in found] == ["a", "mine:8"]
    assert [(row.where, row.reason) for row in dropped] == [
        (f"{path}:2", "not_json"),
        (f"{path}:3", "not_json"),
        (f"{path}:4", "missing_value"),
        (f"{path}:5", "unknown_key"),
        (f"{path}:6", "duplicate_id"),
        (f"{path}:7", "wrong_value"),
    ]
    assert dropped[5].detail == "'question' is 7; it must be text."
    # Without a list to put them in they are dropped all the same; without on_bad_row=drop the list stays empty.
    assert list(trajectories.read(config("jsonl", path, on_bad_row="drop"))) == found
    with pytest.raises(RequestError, match=r"mine.jsonl:2: not valid JSON"):
        list(trajectories.read(config("jsonl", path), dropped))
    assert len(dropped) == 6


def test_one_models_bad_solution_does_not_drop_the_others(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text(json.dumps({**SOLVED, "12b": {"solution": "A: 2"}}) + "\n{}\n")
    dropped: list[DroppedRow] = []
    found = list(trajectories.read(config("gsm8k_solutions", path, on_bad_row="drop"), dropped))
    assert [t.id for t in found] == ["1/6b"]
    assert [(row.where, row.reason) for row in dropped] == [
        (f"{path}:1", "missing_value"),
        (f"{path}:2", "missing_value"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[{"a": 1},\n{"a": 2},\n\n {"a":\n3}, {"a": 4}]', [(1, None), (2, None), (4, None), (5, None)]),
        ('{"x": {"a": 1},\n"y":\n{"a": 2}}', [(1, "x"), (2, "y")]),
        ('{"x": {"a": 1}, "y": {"a": 2}}', [(1, "x"), (2, "y")]),  # of one line: numbers of records
        ('{"a": [1]}\n\n{"a": {}}\r\n', [(1, None), (3, None)]),
        ('\ufeff\r\n [\r\n{"a": 1}\r\n]\r\n', [(3, None)]),
        ("[]", []),
        ("{}", [(1, None)]),
        ("\n", []),
        ("", []),
    ],
)
def test_records_of_all_shapes_have_their_line_and_key(tmp_path, text, expected):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode())
    assert [(int(line_of(where)), r.key) for where, r in read_records(path, refuse)] == expected


def test_records_of_a_list_that_are_bad_one_by_one(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1},\n[2],\n{"a": NaN},\n{"a": "\\ud800"},\n{"a": "\\ud83d\\ude00"},\n"x"]')
    bad: list[str] = []
    found = list(read_records(path, lambda row: bad.append(str(row).removeprefix(str(path)))))
    assert [record.value for _, record in found] == [{"a": 1}, {"a": "😀"}]
    assert bad == [
        ":2: a list, not an object {...}: [2]",
        ":3: NaN is not a JSON value.",
        ":4: half of a surrogate pair, \\ud800, is no character; mend the text.",
        ':6: a str, not an object {...}: "x"',
    ]


def test_a_line_that_is_not_utf8_is_one_bad_row(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": "x"}\n{"a": "\xff"}\n{"a": "z"}\n')
    bad: list[str] = []
    assert [r.value["a"] for _, r in read_records(path, lambda row: bad.append(row.where))] == ["x", "z"]
    assert bad == [f"{path}:2"]


SOLUTION = (
    "She eats 3 and bakes 4 so 3 + 4 = <<3+4=7>>7 eggs are used\n"
    "She has 16 - 7 = <<16-7=9>>9 eggs left\nShe makes $2 * 9 = $<<2*9=19>>19\nA: 19"
)


def test_annotations_become_calculator_turns():
    messages, prediction = gsm8k_solutions.solution_messages(SOLUTION)
    assert [(m.role, m.content) for m in messages] == [
        ("assistant", "Thought: She eats 3 and bakes 4 so 3 + 4 =\nAction: calculate[3+4]"),
        ("tool", "7"),
        ("assistant", "Thought: eggs are used. She has 16 - 7 =\nAction: calculate[16-7]"),
        ("tool", "9"),
        ("assistant", "Thought: eggs left. She makes $2 * 9 = $\nAction: calculate[2*9]"),
        ("tool", "19"),  # the original calculator's slip is what the agent saw
        ("assistant", "Thought: \nAction: finish[19]"),
    ]
    assert prediction == "19"


@pytest.mark.parametrize(
    ("solution", "contents", "prediction"),
    [
        ("A: 18", ["Thought: \nAction: finish[18]"], "18"),
        ("Half of 7/14.\nA: 7/14", ["Thought: Half of 7/14.\nAction: finish[7/14]"], "7/14"),
        ("So 3/440 = <<3/440=0.00681", ["Thought: So 3/440 = <<3/440=0.00681"], None),
        (
            "x = <<5*2/5=2.0=2.0>>2.0\nA: 2",
            ["Thought: x =\nAction: calculate[5*2/5=2.0]", "2.0", "Thought: \nAction: finish[2]"],
            "2",
        ),
    ],
)
def test_odd_solutions_are_read_as_they_are(solution, contents, prediction):
    messages, found = gsm8k_solutions.solution_messages(solution)
    assert ([m.content for m in messages], found) == (contents, prediction)


def test_gsm8k_records_that_cannot_be_read(tmp_path):
    path = tmp_path / "s.jsonl"
    good = {"question": "Q", "ground_truth": "A: 1", "m": {"is_correct": True, "solution": "A: 1"}}
    for change, message in [
        ({"m": {"solution": "A: 1"}}, "s.jsonl:1: 'is_correct' is missing"),
        ({"m": None}, "s.jsonl:1: no model's solution"),
        ({"question": " "}, "s.jsonl:1: 'question' is empty"),
        ({"ground_truth": "18"}, "s.jsonl:1: 'ground_truth' ends with neither"),
    ]:
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(RequestError, match=message):
            list(trajectories.read(config("gsm8k_solutions", path)))


def test_the_real_file_has_the_counts_that_its_documentation_states(data):
    path = data / "gsm8k" / "example_model_solutions.jsonl"
    found = list(trajectories.read(config("gsm8k_solutions", path)))
    assert Counter((t.source, t.outcome.success) for t in found) == {
        ("6b_finetuning", True): 286,
        ("6b_finetuning", False): 1033,
        ("6b_verification", True): 515,
        ("6b_verification", False): 804,
        ("175b_finetuning", True): 458,
        ("175b_finetuning", False): 861,
        ("175b_verification", True): 742,
        ("175b_verification", False): 577,
    }
    assert Counter(t.outcome.failure for t in found) == {None: 2001, "wrong_answer": 3264, "no_answer": 11}
    assert sum(len(t.messages) == 1 for t in found) == 48  # those without a complete annotation
    assert len({t.question_id for t in found}) == 1319


def test_questions_are_the_same_when_case_space_and_width_are_all_that_differs():
    assert normalise("  What is\u00a0３＋4? ") == normalise("what IS 3+4?")
    assert question_id("What is 3+4?") != question_id("What is 3+5?")


def test_held_out_questions_are_a_share_by_hash_and_the_halves_are_apart():
    pool = [make_trajectory(f"t{i}") for i in range(400)] + [
        make_trajectory(f"again{i}", question=f"question of t{i}") for i in range(400)
    ]
    test, validation = hold_out(pool, 0.5, "test"), hold_out(pool, 0.5, "validation")
    assert not {q.text for q in test} & {q.text for q in validation}
    held_out = {q.text for q in [*test, *validation]}
    assert held_out == {t.question for t in pool if is_held_out(t, 0.5)}
    # Binomial(400, 1/2) stays within four standard deviations of 200.
    assert 160 <= len(held_out) <= 240
    assert hold_out(reversed(pool), 0.5, "test")[0].text == test[0].text
    assert hold_out(pool, 0.25, "test")[0].text in {q.text for q in test}


def test_a_question_without_reference_cannot_be_scored():
    pool = [make_trajectory("a")]
    assert len(hold_out(pool, 1.0, "test")) + len(hold_out(pool, 1.0, "validation")) == 1
    silent = Trajectory("b", "q", "Q", (), Outcome(True, 1.0))
    assert hold_out([silent], 1.0, "test") == hold_out([silent], 1.0, "validation") == []


# ---- what is asked, and of which task ----


def chat(*turns, **fields):
    """A record of messages: the user's and the agent's turns in alternation, a system message as ("system", text)."""
    roles = {"u": "user", "a": "assistant", "s": "system"}
    return {"messages": [{"role": roles[turn[0]], "content": turn[2:]} for turn in turns], "success": True, **fields}


def asked_in(tmp_path, *records, **changes):
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return list(trajectories.read(config("auto", path, **changes)))


@pytest.mark.parametrize(
    ("records", "questions", "first_turns"),
    [
        # Instructions and a priming turn that open every conversation.
        (
            [chat("u:Do as told.", "a:I will do it.", f"u:Task {n}?", f"a:Answer: {n}") for n in range(3)],
            ["Task 0?", "Task 1?", "Task 2?"],
            ["Answer: 0", "Answer: 1", "Answer: 2"],
        ),
        # The same with one record, and with instructions that differ: "OK." tells.
        ([chat("u:Do as told.", "a:OK.", "u:Task 7?", "a:7")], ["Task 7?"], ["7"]),
        (
            [chat(f"u:Do {n}.", "a:Ok. I will.", f"u:Task {n}?", f"a:{n}") for n in (1, 2)],
            ["Task 1?", "Task 2?"],
            ["1", "2"],
        ),
        # A greeting by the agent.
        ([chat("s:Policy.", "a:Hello, how can I help?", "u:Cancel 7.", "a:Done.")], ["Cancel 7."], ["Done."]),
        # Solved examples.
        (
            [chat("s:S", "u:1+1?", "a:Answer: 2", f"u:{n}+{n}?", f"a:Answer: {2 * n}") for n in (5, 6)],
            ["5+5?", "6+6?"],
            ["Answer: 10", "Answer: 12"],
        ),
        # No preamble: the agent's first turn is the same for one question asked twice.
        ([chat("u:Q?", "a:Action: search[Q]", f"u:Observation: {n}", f"a:{n}") for n in (1, 2)], ["Q?", "Q?"], None),
        # Two questions that begin alike, and only the system text is shared.
        ([chat("s:S", f"u:Say {n}.", "a:No.") for n in (1, 2)], ["Say 1.", "Say 2."], ["No.", "No."]),
    ],
)  # fmt: skip
def test_what_all_records_share_is_preamble_and_what_differs_the_question(tmp_path, records, questions, first_turns):
    found = asked_in(tmp_path, *records)
    assert [trajectory.question for trajectory in found] == questions
    if first_turns is not None:
        assert [trajectory.messages[0].content for trajectory in found] == first_turns
    for trajectory, record in zip(found, records, strict=True):
        # Nothing is lost: prompt and turns are the record's messages; in the prompt no turn of the agent carries loss.
        whole = [*trajectory.prompt, *trajectory.messages]
        contents = [message["content"].removeprefix("Observation: ") for message in record["messages"]]
        assert [message.content for message in whole] == contents
        assert not any(message.train for message in trajectory.prompt if message.role == "assistant")


def test_a_field_that_differs_and_reads_like_a_question_is_the_question(tmp_path):
    rows = [chat("u:Go on as you think right.", f"a:{n}", task=f"Count to {n}", kind="counting") for n in (3, 4)]
    found = asked_in(tmp_path, *rows)
    assert [(one.question, one.metadata["question_from"]) for one in found] == [
        ("Count to 3", "task"), ("Count to 4", "task")
    ]  # fmt: skip
    same = [{**row, "task": "the counting task"} for row in rows]
    assert {one.question for one in asked_in(tmp_path, *same)} == {"Go on as you think right."}
    named = asked_in(
        tmp_path, *[{**row, "info": {"asks": f"How {n}?"}} for n, row in enumerate(rows)], question="info.asks"
    )
    assert [one.question for one in named] == ["How 0?", "How 1?"]
    with pytest.raises(RequestError, match=r"asked.jsonl:1: trajectories.question=info.asks: the record holds no text"):
        asked_in(tmp_path, *rows, question="info.asks")
    with pytest.raises(RequestError, match=r"asked.jsonl:2: trajectories.task=trial: there is no 'trial'"):
        asked_in(tmp_path, {**rows[0], "trial": 0}, rows[1], task="trial")


def test_trials_of_a_task_are_one_question_and_two_tasks_that_open_alike_are_two(tmp_path):
    rows = [(7, "Cancel my order"), (7, "Hello, an order to cancel"), (8, "Hi"), (9, "Hi")]
    found = asked_in(tmp_path, *[chat(f"u:{text}", f"a:{n}", task_id=task) for n, (task, text) in enumerate(rows)])
    assert [one.question_id for one in found] == ["7", "7", "8", "9"]
    assert [one.question for one in found] == [text for _, text in rows]
    found = asked_in(tmp_path, *[chat("u:Hi", "a:1", task_id=7, domain=domain) for domain in ("airline", "retail")])
    assert [one.question_id for one in found] == ["airline/7", "retail/7"]
    found = asked_in(tmp_path, chat("u:Hi", "a:1", info={"problem": "p-1"}), task="info.problem")
    assert [one.question_id for one in found] == ["p-1"]


def test_all_trials_of_a_task_are_held_out_together(tmp_path):
    rows = [
        chat(f"u:Trial {trial} of {task}", "a:1", task_id=f"t{task}", answer="1")
        for task in range(40)
        for trial in range(3)
    ]
    found = asked_in(tmp_path, *rows)
    apart = {one.question_id: set() for one in found}
    for one in found:
        apart[one.question_id].add(is_held_out(one, 0.3))
    assert all(len(sides) == 1 for sides in apart.values())
    assert 0 < sum(sides == {True} for sides in apart.values()) < 40
    kept = [question.id for question in not_held_out(found, 0.3)]
    assert sorted(kept) == sorted(task for task, sides in apart.items() if sides == {False})
