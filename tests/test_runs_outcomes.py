"""What a run keeps of its episodes, and the `outcomes.csv` of the first schema (tests/data/schema_1.zip)."""

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nat.core.questions import question_id
from nat.runs.outcomes import (
    Answer,
    Outcomes,
    outcomes_of,
    read_outcomes,
    read_rollouts,
    rollouts_file,
    save_outcomes,
    save_rollouts,
    summarise,
)
from nat.runs.packed import RunFiles
from nat.runs.results import Asked, Pass
from nat.types import Message, Outcome, Question, RequestError, Rollout

SCHEMA_1: Any = zipfile.Path(Path(__file__).parent / "data" / "schema_1.zip")
OWN = Asked(kind="inference", split="test", asked_for="correct", temperature=0.0, environment="arithmetic")
PASSES = (
    OWN,
    replace(OWN, kind="validation", split="validation"),
    replace(OWN, kind="also_as", asked_for="in_correct"),
    replace(OWN, kind="also_at", temperature=0.7),
    replace(OWN, kind="also_in", environment="larger"),
)


def ended(success: bool, failure, turns: int, question: str = "?") -> Rollout:
    messages = (Message("assistant", "a"), Message("tool", "b")) * turns
    return Rollout(Question("q", question, "1"), messages[:-1], Outcome(success, float(success), failure), 10)


def test_summary():
    rollouts = [ended(True, None, 2), ended(False, "wrong_answer", 3), ended(False, "abstained", 1)]
    found = summarise(PASSES[3], [*rollouts, ended(True, None, 2)], search_misses=2)
    assert found == Pass(
        kind="also_at",
        split="test",
        asked_for="correct",
        temperature=0.7,
        environment="arithmetic",
        success_rate=0.5,
        ci95=pytest.approx((0.1500, 0.8500), abs=1e-4),  # Wilson, 2 of 4
        n_questions=4,
        mean_score=0.5,
        failures={"abstained": 1, "wrong_answer": 1},
        mean_turns=2.0,
        generated_tokens=40,
        search_misses=2,
    )
    with pytest.raises(RequestError, match="no roll-outs to summarise"):
        summarise(OWN, [])


# ---- outcomes.csv ----


def test_outcomes_are_read_as_they_were_written(tmp_path):
    answers = (("a1", Answer(True, 1.0, None, 3)), ("b2", Answer(False, 0.25, "wrong_answer", None)))
    written = tuple(Outcomes(asked, answers) for asked in PASSES)
    save_outcomes(tmp_path / "outcomes.csv", written)
    assert read_outcomes(RunFiles("r", tmp_path)) == written
    assert (tmp_path / "outcomes.csv").read_text().splitlines()[:3] == [
        "kind,split,asked_for,temperature,environment,question,success,score,failure,turns",
        "inference,test,correct,0.0,arithmetic,a1,1,1,,3",
        "inference,test,correct,0.0,arithmetic,b2,0,0.25,wrong_answer,",
    ]


def test_a_question_is_known_by_its_text():
    found = outcomes_of(OWN, [ended(True, None, 2, "A  Text"), ended(False, "no_answer", 1, "another")])
    assert found == Outcomes(
        OWN,
        (
            (question_id("a text"), Answer(True, 1.0, None, 2)),
            (question_id("another"), Answer(False, 0.0, "no_answer", 1)),
        ),
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("inference,test,correct,0.0,arithmetic,a1,yes,1,,3", "KeyError: 'yes'"),
        ("guess,test,correct,0.0,arithmetic,a1,1,1,,3", "KeyError: 'guess'"),
        ("inference,test,correct,warm,arithmetic,a1,1,1,,3", "could not convert"),
        ("test,correct,a1,1,1,,3", "KeyError: 'test'"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, line, message):
    path = tmp_path / "outcomes.csv"
    save_outcomes(path, [Outcomes(OWN, (("a0", Answer(True, 1.0, None, 3)),))])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(RequestError, match=rf"^outcomes\.csv cannot be read \(line 3, .*{message}"):
        read_outcomes(RunFiles("r", path.parent), path.name)


def passes_of(name: str) -> list[Asked]:
    return [one.asked for one in read_outcomes(RunFiles("r", SCHEMA_1), f"{name}.csv")]


def test_the_first_schema_told_passes_apart_by_names():
    own = Asked(kind="inference", split="test", asked_for="correct", temperature=None, environment=None)
    also_as = replace(own, kind="also_as", asked_for="incorrect")
    assert passes_of("also_in") == [
        own,
        also_as,
        replace(own, kind="also_in", environment="larger"),
        replace(own, kind="also_in", environment="longer"),
        replace(own, kind="also_in", environment="other_verbs"),
    ]
    assert passes_of("also_at") == [own, also_as, replace(own, kind="also_at", temperature=0.7)]
    assert passes_of("validation") == [own, replace(own, kind="validation", split="validation"), also_as]


def test_answers_of_the_first_schema():
    at = read_outcomes(RunFiles("r", SCHEMA_1), "also_at.csv")[2]
    assert at.answers == (
        ("53c73a6df7a2", Answer(False, 0.0, "abstained", 2)),
        ("184762318289", Answer(False, 0.0, "abstained", 1)),
        ("34b38355dfc9", Answer(True, 1.0, None, 4)),
    )


def test_a_class_may_be_called_like_a_temperature_or_a_model_evaluated_on_validation_questions(tmp_path):
    path = tmp_path / "outcomes.csv"
    rows = ["validation,good,a1,1,1,,3", "validation,bad@2,a1,0,0,wrong_answer,3", "in_b,good,a1,1,1,,3"]
    path.write_text("split,asked_for,question,success,score,failure,turns\n" + "\n".join(rows) + "\n")
    own = Asked(kind="inference", split="validation", asked_for="good", temperature=None, environment=None)
    assert [one.asked for one in read_outcomes(RunFiles("r", path.parent), path.name)] == [
        own,
        replace(own, kind="also_as", asked_for="bad@2"),
        replace(own, kind="also_in", environment="b"),
    ]


# ---- roll-outs ----


def test_every_pass_has_a_file_of_its_own():
    assert [rollouts_file(asked) for asked in PASSES] == [
        "rollouts.jsonl",
        "rollouts_validation.jsonl",
        "rollouts_as_in_correct.jsonl",
        "rollouts_at_0.7.jsonl",
        "rollouts_in_larger.jsonl",
    ]


def test_rollouts_are_read_back_as_they_were_saved(tmp_path):
    rollouts = [
        Rollout(
            Question("q\u00e9", "What?\u2028", "4", {"kind": "sum", "steps": [1, 2]}),
            (Message("assistant", "Action: finish[4]"), Message("tool", "x", False)),
            Outcome(True, 1.0, None, "4", "4"),
            7,
        ),
        Rollout(Question("r", "?", "1"), (), Outcome(False, 0.0, "no_answer", None, "1")),
    ]
    save_rollouts(tmp_path / "rollouts.jsonl", rollouts)
    assert read_rollouts(tmp_path / "rollouts.jsonl") == rollouts
    assert [path.name for path in tmp_path.iterdir()] == ["rollouts.jsonl"]


def test_a_damaged_rollout_file_is_named_with_its_line(tmp_path):
    path = tmp_path / "rollouts.jsonl"
    path.write_text('{"question": 1}\n')
    with pytest.raises(RequestError, match=r"rollouts\.jsonl:1: not a roll-out"):
        read_rollouts(path)
    with pytest.raises(RequestError, match="cannot be read"):
        read_rollouts(tmp_path / "absent.jsonl")
