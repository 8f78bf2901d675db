"""Where labels come from: rules on a command line, fields that could be one, other files, and what contradicts them."""

import json
from pathlib import Path
from typing import Any

import pytest

import nat
from nat import cli
from nat.sweeps import composition
from nat.trajectories.config import files_of
from nat.verbs.request import parse


def write(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def chat(asked: str, answer: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": f"Answer: {answer}"}]
    return {"messages": messages, **fields}


# ---- a rule on a command line ----


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ("score >= 0.5", "score >= 0.5"),
        ('scores.match.value == "C"', 'scores.match.value == "C"'),
        ("scores.match.value == 'C'", "scores.match.value == 'C'"),
        ("verdict == 'it\\'s'", "verdict == 'it\\'s'"),
        ("rewards[0]", "rewards[0]"),
        ("k = a,b", "k = a,b"),
        ("info.reward", "info.reward"),
        ("'score >= 0.5'", "score >= 0.5"),  # in quotes of its own, as it had to be
        ('"score >= 0.5"', "score >= 0.5"),
        ("null", None),
    ],
)
def test_a_rule_may_stand_as_a_shell_leaves_it(given, rule):
    overrides = parse([f"trajectories.label={given}", "trajectories=chat", "trajectories.path=a.jsonl"]).overrides
    assert composition.compose(overrides).trajectories.label == rule
    assert composition.with_rules_quoted(overrides) == list(overrides)


def test_rules_of_a_sweep_are_quoted_each_and_never_misread(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.jsonl", chat("2+2?", "4", a=1, b=2), chat("3+3?", "7", a=0, b=1))
    files = ["trajectories=chat", "trajectories.path=a.jsonl", "mixing=positive_only"]
    given = parse(["trajectories.label='a >= 1','b >= 2'", *files]).overrides
    planned = composition.plan(given, multirun=True)
    assert [files_of(cell.config.trajectories).label for cell in planned.cells] == ["a >= 1", "b >= 2"]
    given = parse(["trajectories.label=a >= 1", *files, "seed=0,1"]).overrides
    planned = composition.plan(given, multirun=True)
    assert [files_of(cell.config.trajectories).label for cell in planned.cells] == ["a >= 1", "a >= 1"]
    given = parse(["trajectories.label=a >= 1,b >= 2", *files]).overrides
    with pytest.raises(nat.RequestError, match=r"1,b >= 2 is neither a number .*\n.*The rules of a sweep are quoted"):
        composition.plan(given, multirun=True)


def test_every_verb_takes_a_rule_as_a_shell_leaves_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.jsonl", chat("2+2?", "4", s={"v": "C"}), chat("3+3?", "7", s={"v": "I"}))
    assert cli.run(["audit", str(path), 'trajectories.label=s.v == "C"']) == 0
    assert "2: 1 success (50%), 1 failure (50%)" in capsys.readouterr().out
    rule = ["trajectories=chat", "trajectories.path=a.jsonl", "trajectories.label=s.v == C"]
    for verb in ("train", "inspect"):
        assert cli.run([verb, *rule, "--cfg", "job"]) == 0
        assert "label: s.v == C\n" in capsys.readouterr().out
    found = nat.load_trajectories(path, "trajectories.label=s.v == C")
    assert [trajectory.outcome.success for trajectory in found] == [True, False]
