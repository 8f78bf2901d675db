"""What makes a cell another cell, and what does not."""

import os
import subprocess
import sys

import pytest

from nat.core.paths import PACKAGE
from nat.sweeps import composition
from nat.sweeps.cell_hash import cell_hash
from nat.types import RequestError

MINE = ("environment=gsm8k", "trajectories=jsonl", "mixing=all")


def hash_of(*overrides: str, is_sweep: bool = False) -> str:
    return cell_hash(composition.checked(composition.compose(overrides), overrides).settled(is_sweep))


@pytest.mark.parametrize(
    "override",
    [
        "sweep.name=other",
        "tracking=none",
        "tracking.project=other",
        "collect.samples=5",
        "training.save=false",
        "training.checkpoint_every=10",
        "report.smallest_effect=0.05",
        "format=html",
    ],
)
def test_what_changes_no_result_makes_no_other_cell(override):
    assert hash_of(override) == hash_of()


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "environment.seed=1",
        "mixing.ratio=1:2",
        "strategy=inverse",
        "training.max_steps=7",
        "training.sft.learning_rate=0.002",
        "evaluation.n_questions=7",
        "evaluation.decoding.temperature=0.5",
        "model.path=somebody/model",
    ],
)
def test_what_can_change_a_result_makes_another_cell(override):
    assert hash_of(override) != hash_of()


@pytest.mark.parametrize("override", ["training.max_steps=7", "training.sft.learning_rate=0.1", "training.processes=2"])
def test_how_others_are_trained_makes_no_other_base(override):
    assert hash_of("method=base", override) == hash_of("method=base") != hash_of("method=positive_only")


HASHES_WITH_A_CHECK_MORE = """\
import sys
import nat.quality
nat.quality.__path__.append(sys.argv[1])
from tests.test_cell_hash import MINE, hash_of
for rule in ([], ["+quality.added=false"], ["+quality.added=true"]):
    print(hash_of(*MINE, "trajectories.path=mine.jsonl", *rule))
"""
CHECK = """\
from nat.quality.marks import Check
CHECKS = (Check("added", 1, "note", "turns", "Nothing.", "None.", lambda view: (), "count"),)
"""


def test_a_check_that_is_added_makes_no_other_cells_until_its_rule_is_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.jsonl").write_text('{"question": "1+1?", "messages": [], "outcome": {"success": true}}\n')
    (tmp_path / "added").mkdir()
    (tmp_path / "added" / "check_added.py").write_text(CHECK)
    command = [sys.executable, "-c", HASHES_WITH_A_CHECK_MORE, str(tmp_path / "added")]
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    lines = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    before = hash_of(*MINE, "trajectories.path=mine.jsonl")
    assert lines[:2] == [before, before]
    assert lines[2] != before


def test_what_a_search_costs_makes_no_other_cell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.jsonl").write_text('{"title": "a", "text": "b"}\n')
    (tmp_path / "mine.jsonl").write_text('{"question": "1+1?", "messages": [], "outcome": {"success": true}}\n')
    asked = ("environment=hotpotqa", *MINE[1:], "trajectories.path=mine.jsonl", "search=bm25")
    asked = (*asked, "search.path=corpus.jsonl")
    assert hash_of(*asked, "search.index=elsewhere") == hash_of(*asked) != hash_of(*asked, "search.results=4")
    assert hash_of(*asked, "environment.few_shot=null") == hash_of(*asked)  # `nat collect` alone shows it


def test_the_same_values_in_other_words_are_the_same_cell():
    assert hash_of("mixing.ratio=1:2", "seed=3") == hash_of("seed=3", "mixing.ratio='1:2'", "method=nat")


def test_a_cell_of_a_sweep_asks_validation_questions_too():
    assert hash_of(is_sweep=True) == hash_of("evaluation.n_validation=300") != hash_of()


def test_an_edited_file_makes_another_cell_and_a_moved_one_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = '{"question": "1+1?", "messages": [], "outcome": {"success": true}}\n'
    (tmp_path / "mine.jsonl").write_text(line)
    arguments = (*MINE, "trajectories.path=mine.jsonl")
    before = hash_of(*arguments)
    (tmp_path / "mine.jsonl").write_text(line * 2)
    assert hash_of(*arguments) != before
    (tmp_path / "mine.jsonl").write_text(line)
    assert hash_of(*arguments) == before
    (tmp_path / "questions.jsonl").write_text('{"question": "2+2?", "answer": "4"}\n')
    asked = hash_of(*arguments, "environment.questions=questions.jsonl")
    (tmp_path / "questions.jsonl").write_text('{"question": "2+3?", "answer": "5"}\n')
    assert hash_of(*arguments, "environment.questions=questions.jsonl") != asked


def test_quality_makes_another_cell_where_it_can_drop_something(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.jsonl").write_text('{"question": "1+1?", "messages": [], "outcome": {"success": true}}\n')
    files = (*MINE, "trajectories.path=mine.jsonl")
    assert hash_of("quality=none") == hash_of()  # generated: nothing is left out
    hashes = [hash_of(*files, *more) for more in ((), ("quality=none",), ("quality=strict",), ("quality.secret=true",))]
    assert len(set(hashes)) == 4
    assert hash_of(*files, "quality=custom") == hash_of(*files, "quality=none")
    asked = ("training=none", "environment.questions=mine.jsonl")
    assert hash_of(*files, *asked, "quality=strict") == hash_of(*files, *asked)


def test_a_local_models_weights_count(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    arguments = ("model=hub", f"model.path={tmp_path / 'model'}")
    before = hash_of(*arguments)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    assert hash_of(*arguments) != before


def test_a_missing_file_is_an_error_before_anything_is_hashed():
    with pytest.raises(RequestError, match="no_such"):
        hash_of(*MINE, "trajectories.path=no_such.jsonl")
