"""`nat audit` on tiny collections: every finding of the collection, the files that are written, interrupts, and the
real files in ../shared/data with the counts that are known of them."""

import json
from pathlib import Path

import pytest

from nat.auditing import finders as collection_findings
from nat.auditing.facts import layout
from nat.auditing.findings import Audit
from nat.trajectories.formats import native
from nat.types import RequestError
from nat.verbs.audit import audit, fails
from tests.audits_for_tests import audit_rows, found, lines, make_config, row, write_rows

EGGS = "How many eggs are left over when 3 of 16 are eaten?"


def count(audit: Audit, name: str) -> int:
    finding = found(audit, name)
    return 0 if finding is None else finding.count


def test_two_good_rows_and_nothing_found(tmp_path: Path) -> None:
    made = audit_rows(tmp_path, [row("a", "What is 3 + 4?", "7"), row("b", "Is the sky blue?", "no", False)])

    assert made.findings == ()
    assert (made.n_successes, made.n_failures, made.n_questions, made.n_clean) == (1, 1, 2, 2)
    assert made.by_failure == {"wrong_answer": 1}
    assert made.per_question == {1: 2}
    assert made.questions_with == {"successes_only": 1, "failures_only": 1, "both": 0}
    assert made.by_source == {"rows": (1, 1)}
    assert [t.id for _, t in native.read(tmp_path / "out" / "clean.jsonl")] == ["a", "b"]
    assert lines(tmp_path / "out" / "dropped.jsonl") == []
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "audit.html", "audit.json", "clean.jsonl", "dropped.jsonl",
    ]  # fmt: skip


def test_what_is_written_is_what_was_read(tmp_path: Path) -> None:
    given = row("a", "Wie viele Äpfel?", "7", source="policy", metadata={"temperature": 0.7, "note": "x\ty\n"})
    given["messages"][0]["train"] = False
    audit_rows(tmp_path, [given])

    before = list(native.read(tmp_path / "rows.jsonl"))
    after = list(native.read(tmp_path / "out" / "clean.jsonl"))
    assert [t for _, t in after] == [t for _, t in before]


def test_exact_duplicates_under_other_ids_and_conflicting_labels(tmp_path: Path) -> None:
    rows = [
        row("a", "What is 3 + 4?", "7"),
        row("b", "What is 3 + 4?", "7"),  # a copy under another id
        row("c", EGGS, "13"),
        row("d", EGGS, "13", False),  # the same text with the other label
    ]
    made = audit_rows(tmp_path, rows)

    duplicates, conflict, ids = (
        found(made, name) for name in ("exact_duplicates", "conflicting_labels", "same_text_other_id")
    )
    assert duplicates is not None and conflict is not None and ids is not None
    assert (duplicates.count, duplicates.of, duplicates.details["across_files"]) == (1, 4, 0)
    assert duplicates.sightings[0].id == "b"
    assert duplicates.sightings[0].where == f"{tmp_path}/rows.jsonl:2"
    assert duplicates.sightings[0].excerpt == f"= a at {tmp_path}/rows.jsonl:1"
    assert (conflict.count, conflict.severity, conflict.details) == (2, "error", {"texts": 1})
    assert ids.count == 2
    assert made.n_dropped == {"conflicting_labels": 2, "exact_duplicates": 1}
    dropped = lines(tmp_path / "out" / "dropped.jsonl")
    assert sorted((line["rule"], line["where"].rpartition(":")[2]) for line in dropped)[:2] == [
        ("conflicting_labels", "3"),
        ("conflicting_labels", "4"),
    ]
    assert made.n_clean == len(lines(tmp_path / "out" / "clean.jsonl")) == 1


def test_one_id_for_two_texts_gets_a_number_in_the_clean_file(tmp_path: Path) -> None:
    rows = [row("7", "What is 3 + 4?", "7"), row("7", EGGS, "13", False), row("7#2", "Is the sky blue?", "no", False)]
    made = audit_rows(tmp_path, rows)

    finding = found(made, "same_id_other_text")
    assert finding is not None and (finding.count, finding.details["ids"]) == (2, 1)
    clean = lines(tmp_path / "out" / "clean.jsonl")
    assert [line["id"] for line in clean] == ["7", "7#3", "7#2"]
    assert clean[1]["metadata"]["original_id"] == "7"


def test_questions_under_several_ids_and_with_several_trajectories(tmp_path: Path) -> None:
    rows = [
        row("a", "What is 3 + 4?", "7", question_id="q1"),
        row("b", "what is  3 + 4?", "8", False, question_id="q2"),
        row("c", EGGS, "13", question_id="q3"),
    ]
    made = audit_rows(tmp_path, rows)

    other_id, repeated = found(made, "same_question_other_id"), found(made, "repeated_questions")
    assert other_id is not None and repeated is not None
    assert (other_id.count, other_id.of, other_id.unit) == (1, 2, "questions")
    assert [sighting.id for sighting in other_id.sightings] == ["a", "b"]
    assert (repeated.count, repeated.of) == (1, 2)
    assert repeated.details["trajectories_per_question"] == {"1": 1, "2": 1}
    assert repeated.details["trajectories_per_question_id"] == {"1": 3}
    assert made.questions_with == {"successes_only": 1, "failures_only": 0, "both": 1}


def test_evaluation_questions_word_for_word_and_nearly(tmp_path: Path) -> None:
    questions = [
        {"id": "e1", "question": "what is 3 + 4?"},  # the same, normalised
        {"id": "e2", "question": "How many eggs are left over, when 3 of 16 are eaten"},  # other punctuation
        {"id": "e3", "question": "Was the old lighthouse on the northern coast of the island built in 1880?"},  # a word
        {"id": "e4", "question": "How many pears are left over when 5 of 16 are eaten?"},  # another number
        {"id": "e5", "question": "What is 4 - 3?"},
    ]
    asked = write_rows(tmp_path / "test.jsonl", questions)
    rows = [
        row("a", "What is 3 + 4?", "7", question_id="q1"),
        row("b", EGGS, "13", question_id="e2"),
        row("c", "Was the old lighthouse on the northern coast of the isle built in 1880?", "yes"),
        row("d", "What is 4 + 3?", "8", False),
        row("e", "How many pears are left over when 6 of 16 are eaten?", "10"),
    ]
    made = audit_rows(tmp_path, rows, evaluation=str(asked))

    exact, near = found(made, "evaluation_overlap"), found(made, "evaluation_near_overlap")
    assert exact is not None and near is not None
    assert (exact.severity, exact.count, exact.of, exact.unit) == ("error", 1, 5, "questions")
    assert exact.details == {
        "trajectories": 1, "under_another_id": 1, "evaluation_questions": 5, "evaluation_questions_met": 1,
    }  # fmt: skip
    assert (near.severity, [sighting.id for sighting in near.sightings]) == ("warning", ["b", "c"])
    assert near.details["under_another_id"] == 1


def test_near_duplicates_of_one_question_and_of_two(tmp_path: Path) -> None:
    story = " ".join(f"step{i} says that the river bends north of village {i}" for i in range(12))
    first = "Where does the long river end that begins at the old mill?"
    rows = [
        row("a", first, f"{story} at sea"),
        row("b", first, f"{story} at lake", False),
        row("c", "Where does the long river end that starts at the old mill?", f"{story} at sea"),
        row("d", EGGS, "13"),
    ]
    made = audit_rows(tmp_path, rows)

    finding = found(made, "near_duplicates")
    assert finding is not None and finding.count == 2  # of the three, two are not needed
    assert (finding.details["same_question"], finding.details["other_question"]) == (1, 1)
    assert finding.details["other_label"] >= 1
    assert found(audit_rows(tmp_path, rows, near=1.0), "near_duplicates") is None


def test_bad_rows_are_counted_listed_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = json.dumps(row("a", "What is 3 + 4?", "7"))
    nan = good.replace('"a"', '"b"').replace("true", "NaN")
    path.write_text(f"{good}\n{{broken\n{nan}\n{good.replace('question', 'query')}\n", encoding="utf-8")
    made = audit(make_config([path], tmp_path / "out", examples=2, listed=2), lambda line: None)

    finding = found(made, "bad_rows")
    assert finding is not None and (finding.count, finding.of, finding.severity) == (3, 4, "error")
    assert made.n_bad_rows == {"not_json": 2, "missing_value": 1}
    assert [row.where.rpartition(":")[2] for row in made.bad_rows] == ["2", "4"]  # one of each reason
    assert made.files[0].rows == 4 and made.files[0].trajectories == 1 and made.files[0].bad_rows == 3
    dropped = lines(tmp_path / "out" / "dropped.jsonl")
    assert [(line["where"].rpartition(":")[2], line["reason"]) for line in dropped] == [
        ("2", "not_json"), ("3", "not_json"), ("4", "missing_value"),
    ]  # fmt: skip


def test_one_class_infrastructure_and_leak(tmp_path: Path) -> None:
    broken = row("a", "What is 3 + 4?", "7", False)
    broken["outcome"]["failure"] = "infrastructure"
    made = audit_rows(tmp_path, [broken, row("b", EGGS, "12", False)])

    assert count(made, "one_class") == 2
    assert count(made, "infrastructure") == 1
    assert made.by_failure == {"infrastructure": 1, "wrong_answer": 1}
    assert made.n_dropped == {"infrastructure": 1}


def test_a_text_that_separates_the_classes_is_a_leak(tmp_path: Path) -> None:
    rows = []
    for i in range(50):
        rows.append(row(f"r{i}", f"What is {i} + 4?", str(i + 4), i % 2 == 0))
        rows[-1]["messages"][1]["content"] = f"7, reward = {i % 2 == 0}"
    finding = found(audit_rows(tmp_path, rows), "label_leak")

    assert finding is not None and finding.severity == "error"
    assert "'reward = True' stands in 25 of 25 successes and 0 of 25 failures" in finding.says


def test_skew_by_length_source_and_metadata(tmp_path: Path) -> None:
    rows = []
    for i in range(60):
        success = i < 30
        rows.append(row(f"r{i}", f"Question number {i:02}", "x" * (200 if success else 10 + i), success))
        rows[-1]["metadata"] = {"temperature": 0.2 if success or i % 2 else 1.0, "reward": float(success)}
        rows[-1]["source"] = "teacher" if i < 20 or i > 54 else "student"
    finding = found(audit_rows(tmp_path, rows), "skew")

    assert finding is not None and finding.severity == "error"
    features = finding.details["features"]
    assert sorted(features) == ["characters", "metadata.temperature", "source"]
    assert features["characters"]["auc"] == 1.0
    assert features["characters"]["ci95"] == [0.8865, 1.0]  # Wilson's interval of 30 of 30
    # half of the failures are above all successes, the others tie with them: 0.5 * 0 + 0.5 * 0.5
    assert features["metadata.temperature"]["auc"] == 0.25
    # 20 of 30 successes and 5 of 30 failures are the teacher's
    assert features["source"]["auc"] == 0.75
    assert features["source"]["success_rates"] == {"student": 0.2857, "teacher": 0.8}


def test_disagreement_with_the_scorer_of_the_configured_benchmark(tmp_path: Path) -> None:
    rows = [row("a", "What is 3 + 4?", "7"), row("b", EGGS, "13", False)]
    for line in rows:
        line["outcome"]["reference"] = line["outcome"]["prediction"]
    finding = found(audit_rows(tmp_path, rows, "environment=gsm8k"), "label_disagreement")

    assert finding is not None and (finding.count, finding.details["labelled_failure"]) == (1, 1)
    assert finding.sightings[0].id == "b"
    assert found(audit_rows(tmp_path, rows), "label_disagreement") is None  # a built-in world is not theirs
    relabelled = audit_rows(tmp_path, rows, "environment=gsm8k", "trajectories.label=rescore")
    assert relabelled.n_successes == 2


def test_tokens_over_the_limit_are_counted_with_the_prompt(tmp_path: Path) -> None:
    rows = [row("a", "What is 3 + 4?", "7"), row("b", EGGS, "13 " * 300, False)]
    made = audit_rows(tmp_path, rows, "model.max_length=500", token_sample=10)

    finding = found(made, "too_long")
    assert finding is not None and (finding.count, finding.of) == (1, 2)
    assert finding.sightings[0].id == "b"
    assert made.token_limit == 500 and made.tokens_sampled is None
    assert sum(lengths.n for lengths in made.lengths["tokens"].values()) == 2


def test_tokens_of_a_huge_trajectory_are_counted_in_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = row("a", "What is 3 + 4?", "7")
    huge["messages"][0]["content"] = "word " * 20_000
    counted = audit_rows(tmp_path, [huge], token_sample=10).lengths["tokens"]["success"].maximum
    monkeypatch.setattr("nat.auditing.lengths.LONGEST", 10_000)
    estimated = audit_rows(tmp_path, [huge], token_sample=10).lengths["tokens"]["success"].maximum
    assert estimated != counted
    assert estimated == pytest.approx(counted, rel=0.25)  # the prompt is taken to be as much longer


def test_an_interrupt_while_reading_leaves_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [row(f"r{i}", f"What is {i} + 4?", "7") for i in range(5)])
    config = make_config([path], tmp_path / "out")
    audit(config, lambda line: None)
    assert (tmp_path / "out" / "clean.jsonl").exists()
    from nat.auditing import facts

    def interrupted(*arguments: object) -> bytes:
        interrupted.calls += 1  # type: ignore[attr-defined]
        if interrupted.calls == 4:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return bytes(64)

    interrupted.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(facts, "signature", interrupted)
    monkeypatch.setattr(facts, "_of_question", lambda question: (1, bytes(64)))
    said: list[str] = []
    made = audit(config, said.append)

    assert made.is_partial and made.n_successes == 3
    assert "interrupted" in said[0]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["audit.html", "audit.json", "dropped.jsonl"]
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["is_partial"] is True


def test_an_interrupt_while_comparing_leaves_the_other_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(collection: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(collection_findings, "near_duplicate_texts", interrupt)
    made = audit_rows(tmp_path, [row("a", EGGS, "13"), row("b", EGGS, "13")])
    assert made.is_partial and count(made, "exact_duplicates") == 1


def test_an_input_is_never_overwritten(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "clean.jsonl", [row("a", EGGS, "13")])
    before = path.read_bytes()
    with pytest.raises(RequestError, match=r"audit.output=.*clean.jsonl, which it reads"):
        audit(make_config([path], tmp_path), lambda line: None)
    assert path.read_bytes() == before


def test_an_evaluation_file_that_cannot_be_read_to_its_end_is_refused(tmp_path: Path) -> None:
    asked = tmp_path / "test.json"
    asked.write_text('[{"question": "Who?"},\n{"question": "What is 3 + 4')
    with pytest.raises(RequestError, match=r"audit.evaluation=.*test.json: every question .*\n.*test.json:2: "):
        audit_rows(tmp_path, [row("a", "What is 3 + 4?", "7")], evaluation=str(asked))


def test_a_missing_evaluation_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"audit.evaluation=nowhere.jsonl: .* does not exist"):
        audit_rows(tmp_path, [row("a", EGGS, "13")], evaluation="nowhere.jsonl")


def test_secrets_are_masked_in_the_shown_trajectories(tmp_path: Path) -> None:
    key = "sk-a1B2c3D4e5F6g7H8i9J0k1L2m3N4"
    rows = [row("a", EGGS, "13"), row("b", "What is 3 + 4?", "8", False)]
    rows[0]["messages"][1]["content"] = f"the key is {key}, keep it, ask ann.lee@ostrich-farm.com"
    made = audit_rows(tmp_path, rows)

    assert count(made, "secret") == count(made, "email_address") == 1
    assert key not in json.dumps([message.content for shown in made.shown for message in shown.trajectory.messages])
    assert key not in (tmp_path / "out" / "audit.json").read_text()
    assert key not in (tmp_path / "out" / "audit.html").read_text()
    assert key in (tmp_path / "out" / "clean.jsonl").read_text()  # nothing was asked to be dropped


def test_audit_json_has_the_documented_keys(tmp_path: Path) -> None:
    audit_rows(tmp_path, [row("a", EGGS, "13"), row("b", EGGS, "13")])
    told = json.loads((tmp_path / "out" / "audit.json").read_text(encoding="utf-8"))

    assert list(told) == [
        "version", "is_partial", "seconds", "files", "trajectories", "questions", "by_source", "by_failure",
        "agents", "calls", "tasks", "system_prompts", "questions_found",
        "per_question", "lengths", "tokens", "findings", "bad_rows", "dropped", "labels", "not_checked",
        "settings",
    ]  # fmt: skip
    assert told["trajectories"] == {"successes": 2, "failures": 0, "clean": 1}
    assert told["not_checked"] == [
        "overlap with evaluation questions (audit.evaluation=FILE)", "labels against a scorer (environment=NAME)",
    ]  # fmt: skip
    assert told["per_question"] == {"2": 1}
    assert told["by_source"] == {"rows": {"successes": 2, "failures": 0}}


def test_fail_on(tmp_path: Path) -> None:
    warned = audit_rows(tmp_path, [row("a", "What is 3 + 4?", "7"), row("a", EGGS, "13", False)])
    assert [finding.severity for finding in warned.findings] == ["warning"]  # same_id_other_text
    assert (fails(warned, "never"), fails(warned, "error"), fails(warned, "warning")) == (False, False, True)
    settled = audit_rows(tmp_path, [row("a", EGGS, "13"), row("b", EGGS, "13"), row("c", "Is it 3?", "no", False)])
    assert count(settled, "exact_duplicates") == 1
    assert not fails(settled, "warning")  # the rule dropped the copy


def test_nothing_that_can_be_trained_on_fails_whatever_is_asked(tmp_path: Path) -> None:
    made = audit_rows(tmp_path, [{**row("a", EGGS, "13"), "outcome": {}}])
    assert made.n_clean == 0
    assert fails(made, "never")


def test_a_conversation_without_an_agent_turn_is_found_and_dropped(tmp_path: Path) -> None:
    silent = {**row("b", EGGS, "13", False), "messages": []}
    made = audit_rows(tmp_path, [row("a", "What is 3 + 4?", "7"), silent])
    assert count(made, "no_agent_turn") == 1
    assert made.n_dropped == {"min_agent_turns": 1}


def test_a_wrong_request_leaves_the_outputs_of_an_earlier_audit(tmp_path: Path) -> None:
    audit_rows(tmp_path, [row("a", EGGS, "13")])
    with pytest.raises(RequestError):
        audit_rows(tmp_path, [row("a", EGGS, "13")], evaluation="nowhere.jsonl")
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_the_answer_of_the_last_turn_is_scored_where_the_record_does_not_repeat_it(tmp_path: Path) -> None:
    right, wrong = row("a", "What is 3 + 4?", "7", False), row("b", EGGS, "13")
    for one in (right, wrong):
        one["outcome"] = {"success": one["outcome"]["success"], "reference": "7"}
    made = audit_rows(tmp_path, [right, wrong], "environment=gsm8k")
    assert count(made, "label_disagreement") == 2
    made = audit_rows(tmp_path, [right, wrong], "environment=gsm8k", "trajectories.label=rescore")
    kept = [t for _, t in native.read(tmp_path / "out" / "clean.jsonl")]
    assert [(t.id, t.outcome.success, t.outcome.prediction) for t in kept] == [("a", True, "7"), ("b", False, "13")]


def test_a_row_takes_less_than_400_bytes() -> None:
    assert layout().itemsize + 34 < 400  # the columns, and once more what quality control takes


# ---- real files ----


def test_hotpotqa_tells_its_labels_and_is_in_the_evaluation_file(tmp_path: Path, data: Path) -> None:
    config = make_config(
        [data / "hotpotqa" / "react_gpt-3.5_messages.json"],
        tmp_path / "out",
        evaluation=str(data / "hotpotqa" / "dev_questions.json"),
    )
    made = audit(config, lambda line: None)

    assert (made.n_successes, made.n_failures, made.n_questions) == (200, 265, 465)
    leak, overlap = found(made, "label_leak"), found(made, "evaluation_overlap")
    assert leak is not None and (leak.count, leak.of) == (465, 465)
    assert leak.sightings[0].excerpt in ("Episode finished, reward = True", "Episode finished, reward = False")
    assert overlap is not None and (overlap.count, overlap.of) == (465, 465)


def test_strategyqa_has_two_empty_conversations(tmp_path: Path, data: Path) -> None:
    folder = data / "strategyqa"
    files = [folder / "sample_positive.json", folder / "sample_negative.json"]
    questions = f"trajectories.questions={folder / 'sample_questions.jsonl'}"
    asked = str(folder / "dev_questions.json")
    made = audit(make_config(files, tmp_path / "out", questions, evaluation=asked), lambda line: None)

    assert made.n_bad_rows == {"empty_conversation": 2}
    overlap = found(made, "evaluation_overlap")
    assert overlap is not None and (overlap.count, overlap.of) == (10, 69)
    assert overlap.details["under_another_id"] == 10
    assert (made.n_successes, made.n_failures) == (60, 58)
    assert made.per_question == {1: 38, 2: 13, 3: 18}
    assert count(made, "repeated_questions") == 31
    assert made.n_clean == len(lines(tmp_path / "out" / "clean.jsonl")) == 118


@pytest.mark.slow
def test_gsm8k_solutions(tmp_path: Path, data: Path) -> None:
    files = [data / "gsm8k" / "example_model_solutions.jsonl"]
    evaluation = str(data / "gsm8k" / "test.jsonl")
    made = audit(make_config(files, tmp_path / "out", "environment=gsm8k", evaluation=evaluation), lambda line: None)

    assert (made.n_successes, made.n_failures, made.n_questions) == (2001, 3275, 1319)
    assert made.by_source["175b_verification"] == (742, 577)
    assert made.per_question == {4: 1319}
    assert count(made, "calculator_slip") == 51
    assert count(made, "exact_duplicates") == 8
    assert count(made, "evaluation_overlap") == 1319
    assert made.n_clean == 5268
