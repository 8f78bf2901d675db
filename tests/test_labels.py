"""Labels by fields, comparisons and scoring again: rules read and refused, what they say, and where they disagree."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from nat.agents.scoring import exact_match_score, numeric_score
from nat.core.rows.bad import BadRow
from nat.trajectories.detection import reader
from nat.trajectories.formats import gsm8k_solutions, nat_paper, react
from nat.trajectories.labels import Comparison, Field, Labelled, field, parse_rule, relabel
from nat.types import Failure, Message, Outcome, RequestError, Trajectory
from tests.conftest import make_trajectory


def trajectory(
    success: bool = False,
    score: float = 0.0,
    failure: Failure | None = "wrong_answer",
    prediction: str | None = "8",
    reference: str | None = "7",
    **metadata: Any,
) -> Trajectory:
    kept = make_trajectory("a", success=success, **metadata)
    return replace(kept, outcome=Outcome(success, score, failure, prediction, reference))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (None, None),
        ("rescore", "rescore"),
        ("reward", Field("reward")),
        (" info.reward ", Field("info.reward")),
        ("score >= 0.5", Comparison("score", ">=", 0.5)),
        ("score>=.5", None),
        ("info.reward == true", Comparison("info.reward", "==", True)),
        ('verdict == "right "', Comparison("verdict", "==", "right ")),
        ("verdict != 7", Comparison("verdict", "!=", 7)),
        ("info.0.max-score<-1e3", Comparison("info.0.max-score", "<", -1000.0)),
        ('scores.match.value == "C"', Comparison("scores.match.value", "==", "C")),
        ("scores.match.value == 'C'", Comparison("scores.match.value", "==", "C")),
        ("scores.match.value==C", Comparison("scores.match.value", "==", "C")),
        ("verdict = all_right", Comparison("verdict", "==", "all_right")),
        ("verdict = 'it is \"so\"'", Comparison("verdict", "==", 'it is "so"')),
        ("resolved == True", Comparison("resolved", "==", True)),
        ("resolved != FALSE", Comparison("resolved", "!=", False)),
        ("rewards[0] > 0", Comparison("rewards[0]", ">", 0)),
        ("rewards.0", Field("rewards.0")),
        ("rewards[-1].value>=1", Comparison("rewards[-1].value", ">=", 1)),
        ("pass@1 == 1", Comparison("pass@1", "==", 1)),
        ("inspect/match", Field("inspect/match")),
    ],
)
def test_rules(text, rule):
    if rule is None and text is not None:
        with pytest.raises(RequestError, match=r"trajectories.label=score>=.5: .5 is neither a number"):
            parse_rule(text)
    else:
        assert parse_rule(text) == rule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rule"),
        ("score > 0.5 and reward", "0.5 and reward is neither a number"),
        ("score >", "no rule"),
        ("1 if x else 2", "no rule"),
        ("__import__('os')", "no rule"),
        ("a..b", "no rule"),
        ("score >= NaN", "NaN is neither"),
        ("score >= 1e999", "1e999 is neither"),
        ("score == [1]", r"\[1\] is neither"),
        ("score == null", "null is neither"),
        ("verdict == all right", "all right is neither a number nor true, false or text; text of several words needs"),
        ("score == 0.5x", "0.5x is neither a number"),
        ("score == .5", "neither a number"),
        ("a[x] == 1", "no rule"),
        ("a[01] == 1", "no rule"),
        ("a[0", "no rule"),
        ("[0] == 1", "no rule"),
        ("a == 'it''s'", "neither a number"),
        ("score = = 1", "= 1 is neither"),
        ('verdict >= "right"', ">= compares numbers"),
        ("reward > true", "> compares numbers"),
    ],
)
def test_what_is_no_rule(text, message):
    with pytest.raises(RequestError, match=message) as error:
        parse_rule(text)
    assert str(error.value).startswith(f"trajectories.label={text}: ")


def labelled(rule, **values) -> tuple[bool, float, str | None]:
    outcome = relabel(trajectory(**values), rule, None).trajectory.outcome
    return outcome.success, outcome.score, outcome.failure


def test_a_rule_is_read_in_time_linear_in_its_length():
    """The fuzzer found one that took for ever: a million spaces inside a value."""
    with pytest.raises(RequestError, match=r"trajectories.label=a == 1 "):
        parse_rule("a == 1" + " " * 1_000_000 + "x")


def test_a_field_is_the_label():
    assert labelled("reward", reward=True) == (True, 1.0, None)
    assert labelled("info.reward", info={"reward": 1}) == (True, 1.0, None)
    assert labelled("info.reward", info={"reward": 0.4}) == (False, 0.4, "wrong_answer")
    assert labelled("reward", reward="False", success=True, failure=None) == (False, 0.0, "wrong_answer")
    # The file's grade stays where the label does.
    assert labelled("reward", reward=False, score=0.3, failure="out_of_turns") == (False, 0.3, "out_of_turns")
    assert labelled("reward", reward=True, score=0.3) == (True, 1.0, None)
    # The trajectory's own, by name and as they stand in our format.
    assert labelled("success", success=True, score=0.9, failure=None) == (True, 0.9, None)
    assert labelled("metadata.ok", ok=True) == (True, 1.0, None)
    assert labelled("outcome.score >= 0.3", score=0.3) == (True, 0.3, None)


def test_a_comparison_is_the_label():
    assert labelled("score >= 0.5", score=0.5) == (True, 0.5, None)
    assert labelled("score > 0.5", score=0.5) == (False, 0.5, "wrong_answer")
    assert labelled("score >= 5", score=0.2) == (False, 0.2, "wrong_answer")
    assert labelled("info.score >= 5", info={"score": 7}) == (True, 1.0, None)
    assert labelled("errors <= 0.5", errors=0.1) == (True, 1.0, None)  # less is better: no grade
    assert labelled("info.reward == true", info={"reward": 1}) == (True, 1.0, None)
    assert labelled('verdict == "right"', verdict="right") == (True, 1.0, None)
    assert labelled('verdict != "right"', verdict="right", success=True, failure=None) == (False, 0.0, "wrong_answer")


@pytest.mark.parametrize(
    ("rule", "metadata", "reason", "message"),
    [
        ("info.reward", {"info": {"acc": 1, "pred": 2}}, "no_label", "there is no field 'info.reward'.\nName one"),
        ("info.reward", {"info": {"acc": 1, "pred": 2}, "f1": 1}, "no_label", ": info.acc = 1, f1 = 1, info.pred = 2."),
        ("info.reward", {"info": 7}, "no_label", "there is no field 'info.reward'"),
        ("reward", {}, "no_label", "Its record has no further fields"),
        ("reward", {"reward": None, "a": 1}, "no_label", "'reward' is null"),
        ("reward", {"reward": 7}, "wrong_value", "'reward' is 7; it must be true, false or a number from 0 to 1"),
        ("reward", {"reward": 7}, "wrong_value", "with a number, e.g. trajectories.label='reward >= 7'."),
        ("reward", {"reward": "yes"}, "wrong_value", "with text: trajectories.label='reward == \"yes\"'."),
        ("reward", {"reward": [1]}, "wrong_value", "'reward' is [1]"),
        ("reward", {"reward": [1]}, "wrong_value", "Name one that is there, as trajectories.label='reward[0] >= 1'"),
        ("reward >= 1", {"reward": "1"}, "wrong_value", "'reward' is \"1\"; it cannot be compared with 1"),
        ("reward == C", {"reward": True}, "wrong_value", "It is a label as it stands: trajectories.label=reward."),
        ('reward == "1"', {"reward": 1}, "wrong_value", "'reward' is 1; it cannot be compared with \"1\""),
        ("reward == 1", {"reward": {"a": 1}}, "wrong_value", "cannot be compared with 1"),
    ],
)
def test_a_wrong_field_is_named_with_its_place_and_the_fields_that_are_there(rule, metadata, reason, message):
    with pytest.raises(BadRow) as error:
        relabel(trajectory(**metadata), rule, None, where="mine.jsonl:7")
    assert (error.value.where, error.value.reason) == ("mine.jsonl:7", reason)
    assert message in error.value.problem


def test_paths_lead_into_lists_and_through_keys_with_dots():
    assert labelled("rewards[0]", rewards=[1, 0]) == (True, 1.0, None)
    assert labelled("rewards[-1]", rewards=[1, 0]) == (False, 0.0, "wrong_answer")
    assert labelled("runs.1.ok", runs=[{}, {"ok": True}]) == (True, 1.0, None)
    assert labelled("rewards.0", rewards={"0": 1}) == (True, 1.0, None)
    assert labelled('scores.match.value == "C"', scores={"match": {"value": "C"}}) == (True, 1.0, None)
    flat: dict[str, Any] = {"scores.match.value": "C", "scores": {"match": {"value": "I"}}}
    assert labelled("scores.match.value == C", **flat) == (True, 1.0, None)
    assert labelled("a.b.c", **{"a.b": {"d": 0}, "a": {"b.c": 1}}) == (True, 1.0, None)
    assert labelled("ok == true", ok="True") == (True, 1.0, None)
    for path in ("rewards[2]", "rewards[-3]", "rewards.x", "rewards.0.x"):
        with pytest.raises(BadRow, match="there is no field"):
            labelled(path, rewards=[1, 0])


def test_a_rule_names_the_file_of_a_trajectory_and_its_folder():
    given = trajectory(unlabelled=True)
    for where in ("runs/failed/a.jsonl:3", "runs/failed/a.jsonl: record 3", "runs.zip/failed/a.jsonl:3"):
        assert relabel(given, 'folder != "failed"', None, where).trajectory.outcome.failure == "wrong_answer"
        assert relabel(given, "file == a.jsonl", None, where).trajectory.outcome.success
    # A field of the record goes first, as everywhere.
    assert not relabel(replace(given, metadata={"file": "b"}), "file == a.jsonl", None, "a.jsonl:3")[0].outcome.success
    with pytest.raises(BadRow, match="there is no field 'folder'"):
        relabel(given, "folder == failed", None)


def test_fields_of_the_record_come_before_those_of_the_trajectory():
    kept = trajectory(score=0.5)
    assert field(replace(kept, metadata={"score": 3, "metadata": {"a": 1}}), "score") == 3
    assert field(replace(kept, metadata={"metadata": {"a": 1}}), "metadata.a") == 1
    assert field(kept, "source") == "test"
    with pytest.raises(KeyError):
        field(kept, "score.a")


def test_scoring_again():
    wrong, right = trajectory(), trajectory(prediction="7.0")
    assert relabel(wrong, "rescore", numeric_score) == Labelled(wrong, None)
    found = relabel(right, "rescore", numeric_score)
    assert found.trajectory.outcome == Outcome(True, 1.0, None, "7.0", "7")
    assert found.disagreement == "the file says failure, the scorer success: prediction '7.0', reference '7'"
    # Under any other rule the label is the rule's, and the scorer is asked for comparison only.
    found = relabel(right, None, numeric_score)
    assert (found.trajectory, found.disagreement) == (
        right,
        "the file says failure, the scorer success: prediction '7.0', reference '7'",
    )
    found = relabel(trajectory(info={"reward": 1}), "info.reward", numeric_score)
    assert found.trajectory.outcome.success
    assert found.disagreement == (
        "trajectories.label=info.reward says success, the scorer failure: prediction '8', reference '7'"
    )
    assert relabel(right, None, None).disagreement is None


def test_what_cannot_be_scored_again():
    # Nothing was answered: a failure, whatever the file says.
    silent = trajectory(success=True, score=1.0, failure=None, prediction=None)
    silent = replace(silent, messages=(Message("assistant", "Action: search[a]"), Message("tool", "b")))
    found = relabel(silent, "rescore", numeric_score)
    assert found.trajectory.outcome == Outcome(False, 0.0, "out_of_turns", None, "7")
    assert found.disagreement == "the file says success, the scorer failure: no prediction, reference '7'"
    assert relabel(silent, None, numeric_score).disagreement is None
    # Without a reference the file's label stands; without that too there is none.
    unknown = trajectory(reference=None)
    assert relabel(unknown, "rescore", numeric_score) == Labelled(unknown, None)
    for rule, message in [("rescore", "no reference answer to score by"), (None, "success is nowhere said")]:
        with pytest.raises(BadRow, match=message):
            relabel(trajectory(reference=None, unlabelled=True), rule, numeric_score)

    def broken(prediction, reference):
        raise ValueError("no number")

    with pytest.raises(BadRow, match=r"the scorer failed on prediction '8': ValueError: no number"):
        relabel(trajectory(), None, broken)


def test_a_rule_labels_what_the_file_does_not():
    for rule, score in [("reward >= 5", None), ("rescore", exact_match_score)]:
        given = trajectory(prediction="7", unlabelled=True, reward=7)
        found = relabel(given, rule, score)
        assert found == Labelled(
            replace(given, outcome=Outcome(True, 1.0, None, "7", "7"), metadata={"reward": 7}), None
        )
    with pytest.raises(BadRow, match="there is no field 'success'"):
        relabel(trajectory(unlabelled=True), "success", None)


def real(module, path, rule, score=None, **options) -> tuple[Counter[bool], int]:
    found = [relabel(t, rule, score, where) for where, t in reader(module)(path, on_bad=lambda _: None, **options)]
    return Counter(f.trajectory.outcome.success for f in found), sum(f.disagreement is not None for f in found)


def test_real_files_by_their_own_fields(data):
    path = data / "hotpotqa" / "react_gpt-3.5_messages.json"
    counts = Counter({False: 265, True: 200})
    for rule in (None, "reward", "em", "success", "reward == true"):
        assert real(react, path, rule) == (counts, 0)
    # 127 failures have some of the right words; one has all of them, in another order.
    assert real(react, path, "f1 > 0", needs_label=False) == (Counter({True: 328, False: 137}), 0)
    questions = nat_paper.read_questions(data / "strategyqa" / "sample_questions.jsonl")
    path = data / "strategyqa" / "sample_negative.json"
    assert real(nat_paper, path, "info.reward", questions=questions) == (Counter({False: 58}), 0)


def test_real_solutions_scored_again(data):
    path = data / "gsm8k" / "example_model_solutions.jsonl"
    counts, disagreements = real(gsm8k_solutions, path, "rescore", numeric_score)
    assert counts == Counter({False: 3275, True: 2001})
    assert disagreements == 0


def test_nothing_is_changed_in_place():
    given = trajectory(info={"reward": 1}, unlabelled=True)
    before = (given.outcome, dict(given.metadata))
    relabel(given, "info.reward", numeric_score)
    assert (given.outcome, given.metadata) == before
    assert isinstance(given, Trajectory)
