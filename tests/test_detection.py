"""Files of every format, told by their content, together and one by one."""

import gzip
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from nat.config.kinds import kinds
from nat.config.options import shipped
from nat.core.rows.bad import BadRow, DroppedRow, refuse
from nat.trajectories import reading as trajectories
from nat.trajectories.config import TrajectoryFiles
from nat.trajectories.detection import FORMATS, detect
from nat.trajectories.reading import Row
from nat.types import RequestError
from tests.conftest import ROOT, trajectory_files

ACTION = {"role": "assistant", "content": "Thought: Add.\nAction: finish[7]"}
ASKED = {"role": "user", "content": "What is 3+4?"}
RECORDS = {
    "jsonl": {"question": "What is 3+4?", "messages": [ACTION], "outcome": {"success": True}},
    "nat": {"conversations": [ASKED, ACTION], "info": {"reward": True}, "id": "q1", "source": "0.2"},
    "react": {"messages": [ASKED, ACTION, {"role": "user", "content": "Observation: Episode finished, reward = True"}]},
    "gsm8k_solutions": {
        "question": "What is 3+4?",
        "ground_truth": "A: 7",
        "6b": {"is_correct": True, "solution": "A: 7"},
    },
    "sharegpt": {
        "conversations": [{"from": "human", "value": "What is 3+4?"}, {"from": "gpt", "value": "It is 7."}],
        "reward": True,
    },
    "chat": {"messages": [ASKED, {"role": "assistant", "content": "It is 7."}], "reward": True},
    "alpaca": {"instruction": "What is 3+4?", "input": "", "output": "It is 7.", "reward": True},
}


def config(path: str | list[str], **changes) -> TrajectoryFiles:
    return trajectory_files(changes.pop("kind", "auto"), path=path, **changes)


def write(path: Path, *records: object) -> Path:
    text = "".join(json.dumps(record) + "\n" for record in records)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_every_format_is_a_kind_and_an_option_with_the_values_of_auto():
    names = [format.name for format in FORMATS]
    assert [name for name in names if name in RECORDS] == list(RECORDS)
    assert {"scripted", "auto", "mapped", *names} == set(kinds()["trajectories"].keys)
    assert {"arithmetic", "scripted", "auto", "mapped", *names} == set(shipped("trajectories"))
    values = yaml.safe_load((ROOT / "conf" / "trajectories" / "auto.yaml").read_text())
    assert {
        **values,
        "path": None,
        "label": None,
        "labels": None,
        "question": None,
        "task": None,
        "on_bad_row": "error",
        "on_bad_file": "skip",
    } == values
    for name in ("auto", "nat"):
        assert shipped("trajectories")[name] == {**values, "kind": name}
    del values["questions"]
    for name in ("jsonl", "react", "gsm8k_solutions", "sharegpt", "chat", "alpaca"):
        assert shipped("trajectories")[name] == {**values, "kind": name}


SCRATCH = '''
"""Questions and answers in two columns of text: {"asks": "What is 3+4?", "says": "It is 7.", "good": true}"""

from functools import partial

from nat.core.questions import question_id
from nat.core.rows.bad import refuse
from nat.core.rows.json_lines import readable, require
from nat.core.rows.json_records import read_records
from nat.types import Message, Outcome, Trajectory

NAME = "scratch"
PLACE = 8


def recognises(value):
    return "asks" in value and "says" in value


def read(path, label="", on_bad=refuse, needs_label=True):
    return readable(read_records(path, on_bad), partial(_trajectory, label or path.stem), on_bad)


def _trajectory(file, where, record):
    asks, says, good = (require(record.value, key, type_, where) for key, type_ in KEYS.items())
    id = f"{file}:{where.rpartition(':')[2]}"
    return Trajectory(id, question_id(asks), asks, (Message("assistant", says),), Outcome(good, float(good)), file)


KEYS = {"asks": str, "says": str, "good": bool}
'''


def nat_with_scratch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`nat`, with one more file among those of nat/trajectories/formats."""
    code = (
        f"import sys; import nat.trajectories.formats as formats; formats.__path__.append({str(folder)!r});"
        f"from nat.cli import run; sys.exit(run({list(arguments)!r}))"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


def test_a_format_is_one_file(tmp_path):
    (tmp_path / "scratch.py").write_text(SCRATCH)
    good = {"asks": "What is 3+4?", "says": "It is 7.", "good": True}
    write(tmp_path / "mine.jsonl", good, {**good, "asks": "What is 3+5?", "good": False}, {**good, "says": 7})
    for option in ([], ["trajectories=scratch"]):
        done = nat_with_scratch(tmp_path, "audit", "mine.jsonl", "quality=none", "audit.output=said", *option)
        assert done.returncode == 0, done.stderr
        audit = json.loads((tmp_path / "said" / "audit.json").read_text())
        (file,) = audit["files"]
        assert (file["format"], file["rows"], file["trajectories"], file["bad_rows"]) == ("scratch", 3, 2, 1)
        kept = [json.loads(line) for line in (tmp_path / "said" / "clean.jsonl").read_text().splitlines()]
        assert [row["question"] for row in kept] == ["What is 3+4?", "What is 3+5?"]
    shown = ("--cfg=job", "--package=trajectories")
    composed = nat_with_scratch(tmp_path, "train", "trajectories=scratch", "trajectories.path=mine.jsonl", *shown)
    values = shipped("trajectories")["chat"]
    assert yaml.safe_load(composed.stdout) == {**values, "kind": "scratch", "path": "mine.jsonl"}
    options = ", ".join(sorted([*shipped("trajectories"), "scratch"]))
    assert nat_with_scratch(tmp_path, "train", "trajectories=scratsh").stderr == (
        f"error: trajectories=scratsh: there is no such option.\ntrajectories can be: {options}\n"
    )
    assert f"\ntrajectories: {options}\n" in nat_with_scratch(tmp_path, "train", "--help").stdout
    refused = nat_with_scratch(tmp_path, "train", "trajectories=scratch", "trajectories.kind=x").stderr
    said, _, names = refused.partition(" must be one of ")
    assert said == "error: trajectories.kind='x': it"
    kinds = [name.strip().strip("'") for name in names.split(", ")]
    assert sorted(kinds) == sorted(["scripted", "auto", "scratch", "mapped", *(format.name for format in FORMATS)])


@pytest.mark.parametrize("name", RECORDS)
def test_each_record_is_recognised_by_its_format_alone_and_read(tmp_path, name):
    assert [format.name for format in FORMATS if format.recognises(RECORDS[name])] == [name]
    path = write(tmp_path / "a.jsonl", RECORDS[name])
    (row,) = trajectories.read_rows(config(str(path)), refuse)
    assert (row.where, row.format, row.path) == (f"{path}:1", name, str(path))
    assert row.trajectory.question == "What is 3+4?"
    assert row.trajectory.outcome.success


def test_files_of_several_formats_and_packings_at_once(tmp_path):
    import datasets

    write(tmp_path / "a.jsonl", RECORDS["jsonl"], RECORDS["jsonl"])
    write(tmp_path / "b.jsonl.gz", RECORDS["chat"])
    (tmp_path / "c.json").write_text(json.dumps({"17": {"traj": [ASKED, ACTION], "em": False}}, indent=1))
    datasets.Dataset.from_list([RECORDS["sharegpt"]]).to_parquet(tmp_path / "d.parquet")
    datasets.DatasetDict({"train": datasets.Dataset.from_list([RECORDS["nat"]])}).save_to_disk(tmp_path / "e")
    paths = [str(tmp_path / name) for name in ("[ab].*", "c.json", "d.parquet", "e")]
    found = list(trajectories.read_rows(config(paths), refuse))
    assert [(row.where.removeprefix(f"{tmp_path}/"), row.format, row.trajectory.id) for row in found] == [
        ("a.jsonl:1", "jsonl", "a:1"),
        ("a.jsonl:2", "jsonl", "a:2"),
        ("b.jsonl.gz:1", "chat", "b.jsonl:1"),
        ("c.json:2", "react", "c:17"),
        ("d.parquet: record 1", "sharegpt", "d:1"),
        ("e/train: record 1", "nat", "train:q1/1"),
    ]
    assert [row.trajectory.outcome.success for row in found] == [True, True, True, False, True, True]


def test_the_format_can_be_said(tmp_path):
    path = write(tmp_path / "a.jsonl", RECORDS["react"])
    (row,) = trajectories.read_rows(config(str(path), kind="react"), refuse)
    assert row.format == "react"
    bad: list[BadRow] = []
    assert list(trajectories.read_rows(config(str(path), kind="jsonl"), bad.append)) == []
    assert [(row.where, row.reason) for row in bad] == [(f"{path}:1", "missing_value")]


def test_most_of_the_first_records_decide(tmp_path):
    odd = [{"comment": "made by hand"}, RECORDS["chat"]]
    path = write(tmp_path / "a.jsonl", *odd, RECORDS["jsonl"], RECORDS["jsonl"])
    assert detect(path).name == "jsonl"
    path.write_text("half a row}\n" + path.read_text())
    bad: list[BadRow] = []
    assert [row.where for row in trajectories.read_rows(config(str(path)), bad.append)] == [f"{path}:4", f"{path}:5"]
    assert [row.where for row in bad] == [f"{path}:{line}" for line in (1, 2, 3)]


def test_what_no_format_recognises(tmp_path):
    path = write(tmp_path / "a.jsonl", {"qid": 1, "question": "?"}, {"qid": 2, "answer": "!\x1b"})
    with pytest.raises(RequestError) as error:
        detect(path)
    assert str(error.value) == (
        f"{path}: no format recognises its records; their keys: qid, question, answer.\n"
        "They hold nothing that looks like the turns of an agent. If they do, say where in a mapping file "
        "(trajectories=mapped, docs/formats.md, section 'mapped: anything else').\n"
        "If it is of a known format, name that (trajectories=chat); else leave the file out. "
        f"Known: {', '.join(format.name for format in FORMATS)}."
    )


@pytest.mark.parametrize("kind", ["auto", "jsonl", "chat"])
def test_files_that_hold_nothing(tmp_path, kind):
    good = write(tmp_path / "good.jsonl", RECORDS["jsonl"], RECORDS["chat"])
    for content in ("", "\n\n", "[]"):
        (tmp_path / "a.jsonl").write_text(content)
        with pytest.raises(RequestError, match=r"a.jsonl: holds no record.\nLeave it out"):
            files = config([str(good), str(tmp_path / "a.jsonl")], kind=kind, on_bad_file="error")
            list(trajectories.read_rows(files, lambda bad: None))


def test_a_file_without_one_good_record_shows_its_first_flaw(tmp_path):
    (tmp_path / "a.txt").write_text("Dear reader,\nthis is a letter.\n")
    with pytest.raises(RequestError, match=r"a.txt: holds no record that can be read; .*:\n.*a.txt:1: not"):
        detect(tmp_path / "a.txt")


def test_a_broken_file_gives_its_rows_and_then_comes_the_next(tmp_path):
    text = json.dumps([RECORDS["chat"]] * 3, indent=1)
    (tmp_path / "a.json").write_text(text[: text.rindex("It is 7")])
    whole = gzip.compress(b"".join(json.dumps({**RECORDS["chat"], "id": i}).encode() + b"\n" for i in range(5)))
    (tmp_path / "b.gz").write_bytes(whole[:-12])
    write(tmp_path / "c.jsonl", RECORDS["jsonl"])
    bad: list[BadRow] = []
    found: list[Row] = list(trajectories.read_rows(config(str(tmp_path / "*")), bad.append))
    assert [(row.reason, row.where.rpartition("/")[2]) for row in bad][:1] == [("broken_file", "a.json:36")]
    assert [row.reason for row in bad] == ["broken_file", "broken_file"]
    assert [row.format for row in found][:2] == ["chat", "chat"]
    assert found[-1].format == "jsonl"

    dropped: list[DroppedRow] = []
    assert len(list(trajectories.read(config(str(tmp_path / "*"), on_bad_row="drop"), dropped))) == len(found)
    assert [row.reason for row in dropped] == ["broken_file", "broken_file"]
    with pytest.raises(BadRow, match=r"a.json:36: not valid JSON"):
        list(trajectories.read(config(str(tmp_path / "*"))))


def test_a_question_file_is_for_files_of_the_nat_format(tmp_path):
    path = write(tmp_path / "a.jsonl", {**RECORDS["nat"], "conversations": [ACTION]})
    questions = write(tmp_path / "q.jsonl", {"id": "q1", "question": "What is 3+4?", "answer": "7"})
    (row,) = trajectories.read_rows(config(str(path), questions=str(questions)), refuse)
    assert (row.trajectory.question, row.trajectory.outcome.reference) == ("What is 3+4?", "7")
    other = write(tmp_path / "b.jsonl", RECORDS["chat"])
    both = config([str(path), str(other)], questions=str(questions))
    assert [row.format for row in trajectories.read_rows(both, refuse)] == ["nat", "chat"]
    with pytest.raises(RequestError, match=r"trajectories.questions=.*q.jsonl: .* joined with it; all are chat.\n"):
        list(trajectories.read_rows(config(str(other), questions=str(questions)), refuse))


def test_a_rule_labels_what_is_read(tmp_path):
    record = {key: value for key, value in RECORDS["chat"].items() if key != "reward"}
    path = str(write(tmp_path / "a.jsonl", {**record, "info": {"grade": 3}}, {**record, "info": {"grade": 1}}, record))
    dropped: list[DroppedRow] = []
    labelled = config(path, label="info.grade >= 2", on_bad_row="drop")
    found = list(trajectories.read(labelled, dropped))
    assert [(t.id, t.outcome.success) for t in found] == [("a:1", True), ("a:2", False)]
    assert [(row.where, row.reason) for row in dropped] == [(f"{path}:3", "no_label")]
    assert len(list(trajectories.read_rows(labelled, refuse))) == 3  # as the files have them


@pytest.mark.parametrize(
    ("pattern", "formats", "rows"),
    [
        ("hotpotqa/react_*", ["react", "react", "react"], 1465),
        ("strategyqa/sample_[np]*.json", ["nat", "nat"], 120),
        ("gsm8k/example_model_solutions.jsonl", ["gsm8k_solutions"], 5276),
    ],
)
def test_real_files_are_told_and_no_row_is_lost(data, pattern, formats, rows):
    settings = config(str(data / pattern))
    assert [detect(path).name for path in trajectories.paths(settings.path)] == formats
    bad: list[BadRow] = []
    assert sum(1 for _ in trajectories.read_rows(settings, bad.append)) + len(bad) == rows


def test_real_question_files_are_no_trajectories(data):
    for name in ("strategyqa/sample_questions.jsonl", "hotpotqa/dev_questions.json", "gsm8k/train.jsonl"):
        with pytest.raises(RequestError, match="holds questions and answers, no trajectories"):
            detect(data / name)


def test_a_file_of_questions_is_told_from_trajectories(tmp_path):
    path = tmp_path / "dev.json"
    path.write_text(json.dumps([{"id": "1", "question": "Who?", "answer": "Ada"}]))
    with pytest.raises(RequestError, match=r"dev.json: holds questions and answers, .*\n.*audit.evaluation=.*dev.json"):
        detect(path)


# ---- several files ----


CHAT = {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}], "success": True}


def test_of_several_files_a_foreign_one_is_named_and_counted(tmp_path):
    good = write(tmp_path / "a" / "good.jsonl", CHAT)
    foreign = write(tmp_path / "a" / "b" / "other.json", {"weights": [1, 2]})
    (tmp_path / "a" / "cut.json").write_text('{"messages": [')
    (tmp_path / "a" / "notes.txt").write_text("no file of records")
    dropped: list[DroppedRow] = []
    read = list(trajectories.read(config(str(tmp_path / "a")), dropped))
    assert [(one.question, one.source) for one in read] == [("2+2?", "good")]
    assert [(row.where, row.reason) for row in dropped] == [
        (str(foreign), "foreign_file"), (str(tmp_path / "a" / "cut.json"), "foreign_file")
    ]  # fmt: skip
    assert dropped[0].detail == "no format recognises its records; their keys: weights."
    with pytest.raises(RequestError, match=r"other.json: no format recognises"):
        list(trajectories.read(config(str(tmp_path / "a"), on_bad_file="error")))
    with pytest.raises(RequestError, match=r"none of its 2 files is read; the first:\n.*other.json: no format"):
        list(trajectories.read(config([str(foreign), str(tmp_path / "a" / "cut.json")])))
    with pytest.raises(RequestError, match=r"other.json: no format recognises"):
        list(trajectories.read(config(str(foreign))))
    assert [one.question for one in trajectories.read(config(str(good)))] == ["2+2?"]


def test_a_folder_and_an_archive_stand_for_the_files_in_them(tmp_path):
    for number in range(3):
        write(tmp_path / "runs" / f"{number}" / "run.json", {**CHAT, "id": number})
        write(tmp_path / "runs" / f"{number}" / "config.json", {"model": "m"})  # beside the records
    with zipfile.ZipFile(tmp_path / "runs.zip", "w") as archive:
        for path in (tmp_path / "runs").rglob("run.json"):
            archive.write(path, path.relative_to(tmp_path))
    for given in ("runs", "runs.zip"):
        found = trajectories.paths(str(tmp_path / given))
        below = tmp_path / ("runs" if given == "runs" else "runs.zip/runs")
        assert found == [below / f"{number}" / "run.json" for number in range(3)]
        assert [t.id for t in trajectories.read(config(str(tmp_path / given)))] == [
            "0/run.json:0",
            "1/run.json:1",
            "2/run.json:2",
        ]
