"""The six benchmarks and the real trajectories, end to end through the command line: small draws, real tools."""

import json
from pathlib import Path

import pytest

from nat import cli
from tests.conftest import ROOT

DATA = ROOT.parent / "shared" / "data"
TINY = str(ROOT / "nat" / "assets" / "tiny")
SMALL = ("evaluation.n_questions=3", "evaluation.decoding.max_new_tokens=12", "tracking=none")
REACT = str(DATA / "hotpotqa" / "react_gpt-3.5_messages.json")
REPLAY = ("search=replay", "search.format=react", f"search.path={REACT}")
NAT_FILES = f"[{DATA / 'strategyqa' / 'sample_positive.json'},{DATA / 'strategyqa' / 'sample_negative.json'}]"
NAT_QUESTIONS = DATA / "strategyqa" / "sample_questions.jsonl"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data (real questions and trajectories) is not here"),
]


@pytest.fixture
def corpus(tmp_path) -> tuple[str, ...]:
    """BM25 over the facts that StrategyQA's questions come with."""
    questions = json.loads((DATA / "strategyqa" / "dev_questions.json").read_text(encoding="utf-8"))
    path = tmp_path / "facts.jsonl"
    rows = [{"title": q["term"], "text": fact} for q in questions for fact in q["facts"] if q["term"] and fact]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ("search=bm25", f"search.path={path}")


@pytest.mark.parametrize(
    ("environment", "questions"),
    [
        ("gsm8k", "gsm8k/test.jsonl"),
        ("svamp", "math_word_problems/svamp.jsonl"),
        ("multiarith", "math_word_problems/multiarith.jsonl"),
        ("asdiv", "math_word_problems/asdiv.jsonl"),
        ("hotpotqa", "hotpotqa/dev_questions.json"),
        ("strategyqa", "strategyqa/dev_questions.json"),
    ],
)
def test_the_tiny_model_is_rolled_out_on_real_questions(environment, questions, tmp_path, monkeypatch, corpus, capsys):
    monkeypatch.chdir(tmp_path)
    search = {"hotpotqa": REPLAY, "strategyqa": corpus}.get(environment, ())
    arguments = (f"environment={environment}", f"environment.questions={DATA / questions}", *search, *SMALL)
    # The published files hold repeated questions; on_bad_row=drop would be needed for contradictory ones alone.
    assert cli.run(["evaluate", TINY, *arguments, "hydra.run.dir=r"]) == 0, capsys.readouterr().err
    results = json.loads(Path("r/results.json").read_text())
    assert (results["status"], results["n_questions"], results["environment"]) == ("completed", 3, environment)
    assert len(Path("r/rollouts.jsonl").read_text().splitlines()) == 3


def test_real_multihop_trajectories_train_under_graded_marks(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = (
        "environment=hotpotqa",
        "trajectories=react",
        f"trajectories.path={REACT}",
        "strategy=graded_3",
        *REPLAY,
        "mixing.positives=20",
        "training.max_steps=1",
        "training.sft.per_device_train_batch_size=2",
        *SMALL,
    )
    assert cli.run(["train", *arguments, "hydra.run.dir=r"]) == 0, capsys.readouterr().err
    results = json.loads(Path("r/results.json").read_text())
    assert (results["method"], results["positives"], results["negatives"]) == ("nat_graded", 20, 20)
    assert results["f1"] >= results["exact_match"] == results["success_rate"]


def test_real_strategic_trajectories_train_and_bad_rows_are_listed(tmp_path, monkeypatch, capsys, corpus):
    monkeypatch.chdir(tmp_path)
    arguments = (
        "environment=strategyqa",
        "trajectories=nat",
        f"trajectories.path={NAT_FILES}",
        f"trajectories.questions={NAT_QUESTIONS}",
        *corpus,
        "mixing.positives=10",
        "training.max_steps=1",
        "training.sft.per_device_train_batch_size=2",
        *SMALL,
        "hydra.run.dir=r",
    )
    assert cli.run(["train", *arguments]) == 2  # two conversations are empty
    assert "sample_negative.json:2146" in capsys.readouterr().err
    assert cli.run(["train", *arguments, "trajectories.on_bad_row=drop"]) == 0, capsys.readouterr().err
    assert "2 rows of the files: empty_conversation" in capsys.readouterr().out
    manifest = json.loads(Path("r/manifest.json").read_text())
    assert [row["reason"] for row in manifest["bad_rows"]] == ["empty_conversation"] * 2
