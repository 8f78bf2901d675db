import json
from pathlib import Path

import pytest

from nat.comparison.cells import read
from nat.comparison.external import read_external
from nat.core.questions import question_id
from nat.types import RequestError
from tests.sweeps_for_tests import write_cell

LINE = {"run": "mine-0", "method": "nat", "seed": 0, "question": "What is 3 + 4?", "success": True}


def external(tmp_path: Path, *lines: dict[str, object] | str) -> Path:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_runs_of_others_are_read_from_one_object_a_line(tmp_path):
    told = {"split": "validation", "score": 0.5, "failure": "out_of_turns", "turns": 8}
    path = external(
        tmp_path,
        LINE,
        "",
        {**LINE, "question": question_id("what is 2 + 2?"), "success": False, **told},
        {"run": "p-1", "method": "positive_only", "seed": 1, "question": "q", "success": False, "positives": 50},
    )
    mine, other = read_external(path)
    assert (mine.name, mine.method, mine.strategy, mine.seed, mine.files) == ("mine-0", "nat", "unnamed", 0, None)
    assert mine.answers["test"][question_id("what  is 3 + 4?")].success
    answer = mine.answers["validation"][question_id("What is 2 + 2?")]
    assert (answer.success, answer.score, answer.failure, answer.turns) == (False, 0.5, "out_of_turns", 8)
    assert (other.strategy, other.positives, other.negatives) == ("none", 50, None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({**LINE, "success": 1}, r":2: success=1: it must be true or false; correct the line"),
        ({**LINE, "succes": True}, r":2: succes=True: there is no such key; there are run, method, seed"),
        ({k: v for k, v in LINE.items() if k != "seed"}, r":2: seed: is missing; run, method, seed, question"),
        ({**LINE, "question": "q", "score": 1.5}, r":2: score=1.5: it must be less than or equal to 1"),
        ({**LINE, "split": "train"}, r":2: split='train': it must be 'test' or 'validation'"),
        ("{run: 1}", r":2: '{run: 1}' is no JSON object; write one object a line"),
        ("[]", r":2: '\[\]' is no JSON object"),
        ({**LINE, "question": "q", "seed": 1}, r":2: seed=1, but run 'mine-0' began with seed=0"),
        ({**LINE, "question": "what is 3 + 4? "}, r":2: run 'mine-0' has answered this test question before"),
        ({**LINE, "run": "a\nb"}, r":2: run='a\\nb': it must be on one line, without control characters"),
        ({**LINE, "method": "a\x1b[31m"}, r":2: method='a\\x1b\[31m': it must be on one line"),
        ({**LINE, "strategy": "a\u2028b"}, r":2: strategy=.*: it must be on one line"),
        ({**LINE, "failure": "a\tb"}, r":2: failure=.*: it must be on one line"),
        ({**LINE, "method": ""}, r":2: method='': it must hold at least one character"),
        ({**LINE, "score": float("nan")}, r":2: score=nan: it must be a number; leave score out"),
        ({**LINE, "run": "b"}, r":2: run 'b' has the same method, .* as run 'mine-0'"),
    ],
)
def test_a_wrong_line_is_refused_with_its_number(tmp_path, line, said):
    path = external(tmp_path, LINE, line)
    with pytest.raises(RequestError, match=said) as raised:
        read_external(path)
    assert str(raised.value).startswith(str(path))


def test_a_file_without_a_line_is_refused(tmp_path):
    with pytest.raises(RequestError, match="holds no results"):
        read_external(external(tmp_path, ""))
    with pytest.raises(RequestError, match="cannot be read"):
        read_external(tmp_path / "nowhere.jsonl")


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    path = external(tmp_path, LINE)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [run.name for run in read_external(path)] == ["mine-0"]


def test_a_number_of_twelve_digits_is_a_question_unless_its_id_is_known(tmp_path):
    path = external(tmp_path, {**LINE, "question": "123456789012"}, {**LINE, "question": "12345678901a"})
    (run,) = read_external(path)
    assert list(run.answers["test"]) == [question_id("123456789012"), "12345678901a"]
    (run,) = read_external(path, {"123456789012"})
    assert list(run.answers["test"]) == ["123456789012", "12345678901a"]


def test_runs_of_others_stand_beside_ones_own(tmp_path):
    write_cell(tmp_path / "sweep" / "mine-0", "positive_only")
    path = external(tmp_path, LINE)
    own, other = read(tmp_path / "sweep", [path]).runs
    assert (own.name, other.name, other.setting) == ("mine-0", "mine/mine-0", {"from": "mine.jsonl"})
    (alone,) = read(path).runs  # the file itself may be the whole report
    assert (alone.name, alone.setting) == ("mine-0", {})
