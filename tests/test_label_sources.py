"""Where labels come from: rules on a command line, fields that could be one, other files, and what contradicts them."""

import json
from pathlib import Path
from typing import Any

import pytest

import nat
from nat import cli
from nat.auditing.summary import summary
from nat.core.rows.bad import BadRow, refuse
from nat.sweeps import composition
from nat.trajectories.config import files_of
from nat.trajectories.labels import relabel
from nat.trajectories.reading import read_rows
from nat.verbs.request import parse
from tests.conftest import DATA, trajectory_files


def write(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def chat(asked: str, answer: str, /, **fields: Any) -> dict[str, Any]:
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


# ---- what a message offers where no label is found ----


def problem_of(path: Path, row: int = 0) -> str:
    """What is said of a row without label; the file is detected as `nat audit` does it."""
    return problems_of(path)[row]


def problems_of(*paths: Path) -> list[str]:
    bad: list[BadRow] = []
    list(read_rows(trajectory_files("auto", path=[str(path) for path in paths]), bad.append))
    assert {row.reason for row in bad} <= {"no_label", "wrong_value"}
    return [row.problem for row in bad]


@pytest.mark.parametrize(
    ("fields", "offered"),
    [
        ({"reward": {"correct": 1.0, "format": 0.5}}, "reward.correct >= 1"),
        ({"reward": {"format": 0.5, "correct": 0.0}}, "reward.correct >= 1"),
        ({"rewards": [0.0]}, "rewards[0] >= 1"),
        ({"scores": {"match": {"value": "C"}}}, 'scores.match.value == "C"'),
        ({"scores": {"match": {"value": "I"}}}, 'scores.match.value == "C"'),
        ({"verdict": "Failed", "n": 1}, 'verdict != "Failed"'),
        ({"verdict": "true"}, "verdict"),
        ({"eval": {"tests": {"all_passed": False}}, "temperature": 0.7}, "eval.tests.all_passed"),
        ({"failed": True}, "failed == false"),
        ({"failures": 0}, "failures <= 0"),
        ({"tests.passed": True}, "tests.passed"),
    ],
)
def test_a_message_offers_the_likeliest_field_and_its_rule_works(tmp_path, fields, offered):
    path = write(tmp_path / "a.jsonl", chat("2+2?", "4", **fields))
    assert problem_of(path).startswith(
        f"success is nowhere said.\nSay where, e.g. trajectories.label='{offered}'. Its "
    )
    (row,) = read_rows(trajectory_files("auto", path=str(path), label=offered), refuse)
    relabel(row.trajectory, offered, None, row.where)  # no BadRow


def test_a_message_lists_fields_with_their_values_likely_ones_first(tmp_path):
    fields = {"exit": "submitted", "cost": 0.5, "meta": {"n": 3, "judge": {"ok": True}}, "quality": 0.25, "score": None}
    path = write(tmp_path / "a.jsonl", chat("2+2?", "4", **fields))
    assert problem_of(path) == (
        "success is nowhere said.\nSay where, e.g. trajectories.label='meta.judge.ok'. "
        'Its fields: meta.judge.ok = true, quality = 0.25, cost = 0.5, exit = "submitted", meta.n = 3.'
    )


def test_a_rule_that_cannot_work_is_never_offered(tmp_path):
    # What other fields say is no label, and a key with a space no rule can name.
    for fields in ({"temperature": 0.7}, {"answer": "yes"}, {"is correct": True}, {"exit": "submitted"}, {}):
        problem = problem_of(write(tmp_path / "a.jsonl", chat("2+2?", "4", **fields)))
        assert problem.startswith("success is nowhere said.\nSay where its label stands: in another file, ")
    # A label of another scale: its path is the one that a rule can name.
    path = write(tmp_path / "b.jsonl", chat("2+2?", "4", info={"reward": 7}), chat("2+2?", "4", resolved="maybe"))
    assert [problem.split("\n")[1] for problem in problems_of(path)] == [
        "Otherwise say which values are successes, e.g. trajectories.label='info.reward >= 0.5'.",
        "Otherwise say which values are successes, e.g. trajectories.label='resolved == \"maybe\"'.",
    ]


def test_files_of_one_class_each_are_offered_by_name_or_folder(tmp_path):
    good, bad = write(tmp_path / "good.jsonl", chat("2+2?", "4")), write(tmp_path / "bad.jsonl", chat("3+3?", "7"))
    offers = [problem.partition("say which: ")[2].partition(";")[0] for problem in problems_of(good, bad)]
    assert offers == ["trajectories.label='source == \"good\"'", "trajectories.label='source != \"bad\"'"]
    for rule in ("source == good", 'source != "bad"', "file == good.jsonl"):
        found = nat.load_trajectories([good, bad], f"trajectories.label={rule}")
        assert [trajectory.outcome.success for trajectory in found] == [True, False]
    passed = write(tmp_path / "passed" / "a.jsonl", chat("2+2?", "4"))
    failed = write(tmp_path / "failed" / "a.jsonl", chat("3+3?", "7"))
    offers = [problem.partition("say which: ")[2].partition(";")[0] for problem in problems_of(passed, failed)]
    assert offers == ["trajectories.label='folder == \"passed\"'", "trajectories.label='folder != \"failed\"'"]
    found = nat.load_trajectories([passed, failed], "trajectories.label=folder == passed")
    assert [trajectory.outcome.success for trajectory in found] == [True, False]


# ---- labels that lie in another file ----


def joined(tmp_path: Path, labels: Path | list[Path], *more: str, files: Any = None) -> dict[str, tuple[bool, Any]]:
    """Id to (success, failure) of the trajectories below `tmp_path/runs`."""
    named = {"trajectories.labels": [str(path) for path in (labels if isinstance(labels, list) else [labels])]}
    found = nat.load_trajectories(files or tmp_path / "runs", named, *more)
    return {t.id: (t.outcome.success, t.outcome.failure) for t in found}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three instances of SWE-bench, of one agent."""
    rows = [chat(f"Fix {n}", "done", instance_id=f"a__a-{n}", id=f"run-{n}") for n in (1, 2, 3)]
    return write(tmp_path / "runs" / "all.jsonl", *rows)


def as_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


RIGHT, WRONG, BROKE = (True, None), (False, "wrong_answer"), (False, "infrastructure")
REPORT = {
    "total_instances": 300,
    "completed_ids": ["a__a-1", "a__a-2"],
    "incomplete_ids": ["b__b-9"],
    "empty_patch_ids": [],
    "submitted_ids": ["a__a-1", "a__a-2", "a__a-3"],
    "resolved_ids": ["a__a-1"],
    "unresolved_ids": ["a__a-2"],
    "error_ids": ["a__a-3"],
    "schema_version": 2,
}


def test_reports_of_swe_bench(tmp_path, runs):
    labels = as_json(tmp_path / "model.run.json", REPORT)
    # Where the harness broke, nobody failed: such an episode is left out.
    assert joined(tmp_path, labels) == {"run-1": RIGHT, "run-2": WRONG}
    # Those of SWE-bench's experiments say what was resolved; all else was not.
    labels = as_json(tmp_path / "results.json", {"resolved": ["a__a-1"], "no_generation": [], "no_logs": ["a__a-3"]})
    assert joined(tmp_path, labels) == {"run-1": RIGHT, "run-2": WRONG}
    labels = as_json(
        tmp_path / "old.json",
        {"generated": ["a__a-1", "a__a-2", "a__a-3"], "applied": ["a__a-1", "a__a-2"], "resolved": ["a__a-2"]},
    )
    assert joined(tmp_path, labels) == {"run-1": WRONG, "run-2": RIGHT, "run-3": WRONG}


def test_reports_of_single_instances(tmp_path, runs):
    status = {"patch_is_None": False, "resolved": True, "tests_status": {"FAIL_TO_PASS": {"success": ["t"]}}}
    all_in_one = {"a__a-1": status, "a__a-2": {**status, "resolved": False}, "a__a-3": status}
    expected = {"run-1": RIGHT, "run-2": WRONG, "run-3": RIGHT}
    assert joined(tmp_path, as_json(tmp_path / "all.json", all_in_one)) == expected
    for id, report in all_in_one.items():
        (tmp_path / "logs" / id).mkdir(parents=True)
        as_json(tmp_path / "logs" / id / "report.json", {id: report})
    named = f"trajectories.labels='{tmp_path}/logs/**/report.json'"
    found = nat.load_trajectories(runs, named)
    assert {t.id: (t.outcome.success, t.outcome.failure) for t in found} == expected


def test_a_result_of_a_harbor_job_and_of_its_trials(tmp_path):
    for trial in ("task-a__x1", "task-a__x2", "task-b__x3", "task-c__x4"):
        write(tmp_path / "runs" / trial / "agent" / "t.jsonl", chat("a", "b"))
    job = {
        "stats": {
            "n_trials": 4,
            "evals": {
                "agent__model__data": {
                    "metrics": [{"mean": 0.5}],
                    "reward_stats": {"reward": {"1.0": ["task-a__x1", "task-b__x3"], "0.0": ["task-a__x2"]}},
                    "exception_stats": {"AgentTimeoutError": ["task-c__x4", "task-b__x3"]},
                }
            },
        }
    }
    found = joined(tmp_path, as_json(tmp_path / "result.json", job))
    assert {id.split("/")[0]: said for id, said in found.items()} == {
        "task-a__x1": RIGHT,
        "task-a__x2": WRONG,
        "task-b__x3": RIGHT,
    }
    trials = [
        {"trial_name": "task-a__x1", "task_name": "task-a", "verifier_result": {"rewards": {"reward": 0.0}}},
        {"trial_name": "task-a__x2", "task_name": "task-a", "verifier_result": {"rewards": {"reward": 1.0}}},
        {"trial_name": "task-b__x3", "task_name": "task-b", "verifier_result": None, "exception_info": {"x": 1}},
        {"trial_name": "task-c__x4", "task_name": "task-c", "verifier_result": {"rewards": {"reward": 0.5}}},
    ]
    paths = [as_json(tmp_path / f"result{n}.json", trial) for n, trial in enumerate(trials)]
    found = joined(tmp_path, paths)
    assert [said for _, said in sorted(found.items())] == [WRONG, RIGHT, WRONG]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "instance_id,model,resolved\na__a-1,m,True\na__a-2,m,False\na__a-3,m,true\n"),
        ("a.csv", "\ufeffwhat;ok\r\na__a-1;1\r\na__a-2;0.0\r\na__a-3;1\r\n"),
        ("a.tsv", "id\tpassed\nrun-1\tyes\nrun-2\tno\nrun-3\tyes\n"),
        ("a.jsonl", '{"id": "run-1", "ok": 1}\n{"id": "run-2", "ok": 0}\n{"id": "run-3", "ok": 1}\n'),
        ("a.json", '[{"id": 0, "task_id": "a__a-1", "score": {"passed": true}}, {"id": 1, "task_id": "a__a-2", '
                   '"score": {"passed": false}}, {"id": 2, "task_id": "a__a-3", "score": {"passed": true}}]'),
        ("a.json", '{"run-1": true, "run-2": false, "a__a-3": "passed"}'),
        ("a.json", '{"results": [{"task_id": "a__a-1", "is_resolved": true, "failure_mode": "unset"}, {"task_id": '
                   '"a__a-2", "is_resolved": false}, {"task_id": "a__a-3", "is_resolved": true}], "resolved_ids": []}'),
        ("a.yaml", "- {id: run-1, success: true}\n- {id: run-2, success: false}\n- {id: run-3, success: true}\n"),
        ("a.yaml", "run-1: C\nrun-2: I\nrun-3: 1\n"),
        ("a.json", '{"data": [{"id": "s", "traceId": "run-1", "name": "ok", "value": 1}, {"id": "t", "traceId": '
                   '"run-2", "name": "ok", "value": 0}, {"id": "u", "traceId": "run-3", "name": "ok", "value": 1}]}'),
    ],
)  # fmt: skip
def test_rows_of_ids_and_labels(tmp_path, runs, name, text):
    labels = tmp_path / name
    labels.write_text(text, encoding="utf-8", newline="")
    assert joined(tmp_path, labels) == {"run-1": RIGHT, "run-2": WRONG, "run-3": RIGHT}


def test_scores_of_a_trace_are_one_row_and_a_rule_names_one(tmp_path, runs):
    scores = [
        {"traceId": f"run-{n}", "name": name, "value": value, "dataType": "NUMERIC"}
        for n in (1, 2, 3)
        for name, value in (("helpfulness", n), ("judge", 1 if n == 2 else 0.5), ("grade", n % 2))
    ]
    labels = write(tmp_path / "scores.jsonl", *scores)
    with pytest.raises(nat.RequestError, match=r"scores.jsonl:1: several fields could say success: .*judge = 0.5") as e:
        joined(tmp_path, labels)
    assert "trajectories.label='grade >= 1'" in str(e.value)
    assert joined(tmp_path, labels, "trajectories.label=judge >= 1") == {"run-1": WRONG, "run-2": RIGHT, "run-3": WRONG}
    assert joined(tmp_path, labels, "trajectories.label=helpfulness > 1")["run-1"] == WRONG


def test_one_label_a_file_or_folder(tmp_path):
    write(tmp_path / "runs" / "good.jsonl", chat("1?", "1"), chat("2?", "2"))
    write(tmp_path / "runs" / "failed" / "x" / "a.jsonl", chat("3?", "1"))
    write(tmp_path / "runs" / "failed" / "right.jsonl", chat("4?", "1"))
    labels = tmp_path / "labels.yaml"
    labels.write_text("good.jsonl: true\nfailed/: false\nfailed/right.jsonl: true\n", encoding="utf-8")
    found = joined(tmp_path, labels)
    assert sorted(success for success, _ in found.values()) == [False, True, True, True]
    assert [id for id, (success, _) in found.items() if not success] == ["a:1"]


def test_what_is_joined_missing_and_unmatched_is_counted(tmp_path, runs, capsys):
    labels = write(
        tmp_path / "labels.jsonl",
        {"id": "run-1", "success": True},
        {"id": "run-2", "success": None},
        {"id": "other-1", "success": False},
        {"id": "other-2", "success": False},
    )
    made = nat.audit(runs, {"trajectories.labels": str(labels), "audit.output": str(tmp_path / "audit")})
    assert made.labels == {
        "files": [str(labels)],
        "ids": 4,
        "joined": 1,
        "missing": 2,
        "unmatched": 2,
        "unlisted": 0,
        "graded": 0,
        "sharing": 0,
        "first_missing": ["a__a-2", "a__a-3"],
        "first_unmatched": ["other-1", "other-2"],
    }
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())["labels"] == made.labels
    assert [row.detail for row in made.bad_rows] == [
        f"{labels}:2 says nothing of success: it has no further fields.",
        f"trajectories.labels={labels} has no label for run-3, a__a-3.",
    ]
    assert made.n_bad_rows == {"no_label": 2}
    said = " ".join(str(summary(made, 100)).split())
    assert (
        "labels 1 trajectories have theirs from labels.jsonl; 2 have none there (a__a-2, a__a-3); 2 of its 4 ids are "
        "no trajectory's (other-1, other-2)"
    ) in said
    # Where a row without label is an error, it names both places.
    with pytest.raises(nat.RequestError, match=r"all.jsonl:2: .*labels.jsonl:2 says nothing"):
        joined(tmp_path, labels)


def test_a_file_of_which_no_id_matches_is_the_wrong_one(tmp_path, runs):
    labels = write(tmp_path / "labels.jsonl", *({"id": f"other-{n}", "success": True} for n in range(1, 6)))
    for more in ("trajectories.on_bad_row=error", "trajectories.on_bad_row=drop"):
        with pytest.raises(nat.RequestError) as error:
            joined(tmp_path, labels, more)
        assert str(error.value).startswith(
            f"trajectories.labels={labels}: none of its 5 ids is that of a trajectory.\n"
            "Its first: other-1, other-2, other-3; of the trajectories: a__a-1, a__a-2, a__a-3.\n"
        )
    # So it is with a report of which all that is not listed failed.
    with pytest.raises(nat.RequestError, match="none of its 1 ids"):
        joined(tmp_path, as_json(tmp_path / "results.json", {"resolved": ["c__c-1"]}))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"id": "run-1", "ok": 1}\n\n{"id": "run-1", "ok": 0}\n',
         r"a.jsonl:3: 'run-1' has two labels: ok = 1 at \S*a.jsonl:1, ok = 0 at \S*a.jsonl:3"),
        ("a.csv", "id,ok\nrun-1,1\nrun-1,0\n", r"a.csv:3: 'run-1' has two labels: ok = 1 at \S*a.csv:2, ok = 0 at"),
        ("a.json", '{"run-1": true, "run-1": false}', r"a.json: 'run-1' has two labels: true and false"),
        ("a.jsonl", '{"traceId": "t", "name": "a", "value": 1}\n{"traceId": "t", "name": "a", "value": 0}\n',
         r"a.jsonl:2: 't' has two scores 'a': 1 at \S*a.jsonl:1, 0 at \S*a.jsonl:2"),
        ("a.jsonl", '{"id": "run-1", "success": "maybe"}\n', r"a.jsonl:1: 'success' is \"maybe\"; a label is"),
        ("a.jsonl", '{"id": "run-1", "reward": 7}\n', r"a.jsonl:1: 'reward' is 7; .*\n.*label='reward >= 0.5'"),
        ("a.jsonl", '{"id": "run-1", "length": 7, "n": 3}\n', r"a.jsonl:1: no field says success; there are l"),
        ("a.jsonl", '{"id": "run-1"}\n', r"a.jsonl:1: no field says success; there is no other"),
        ("a.jsonl", '{"success": true}\n', r"a.jsonl:1: no field says whose label it holds .*\nIts fields: success"),
        ("a.jsonl", '{"id": "run-1"}\n{"id": \n', r"a.jsonl:2: not valid JSON"),
        ("a.csv", 'id,ok\nrun-1,1,2\n', r"a.csv:2: has more cells than the header"),
        ("a.csv", 'id,ok\n"run-1,1\n', r"a.csv:\d: not valid CSV"),
        ("a.yaml", "a: [1\n", r"a.yaml: not valid YAML"),
        ("a.yaml", "run-1: maybe\n", r"a.yaml: 'run-1' is \"maybe\"; a label is true or false"),
        ("a.yaml", "7\n", r"a.yaml: holds int; it must be a list of rows"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_of_labels(tmp_path, runs, name, text, message):
    labels = tmp_path / name
    labels.write_text(text, encoding="utf-8")
    with pytest.raises(nat.RequestError, match=message):
        joined(tmp_path, labels)


def test_trials_are_told_apart_and_a_task_with_two_labels_is_refused(tmp_path):
    trials = [chat("Fix", "done", task_id="7", trial_id=f"7.{n}") for n in (1, 2)]
    write(tmp_path / "runs" / "a.jsonl", *trials)
    labels = write(
        tmp_path / "labels.jsonl",
        {"task_id": "7", "trial_id": "7.1", "success": True, "run_id": "mine"},
        {"task_id": "7", "trial_id": "7.2", "success": False, "run_id": "mine"},
    )
    assert joined(tmp_path, labels) == {"a:1": RIGHT, "a:2": WRONG}
    write(tmp_path / "runs" / "a.jsonl", chat("Fix", "done", task_id="7"))
    with pytest.raises(
        nat.RequestError, match=r"a.jsonl:1: it has two labels: success = true at \S*:1, success = false"
    ):
        joined(tmp_path, labels)


def test_files_of_labels_are_looked_for(tmp_path, runs):
    for given, message in [
        ("missing.json", "does not exist"),
        ("*.none", "the pattern matches no file"),
        (str(tmp_path), r"is a directory.\nName files, e.g. with the glob"),
    ]:
        with pytest.raises(nat.RequestError, match=f"trajectories.labels=.*{message}"):
            nat.load_trajectories(runs, {"trajectories.labels": given})
    with pytest.raises(nat.RequestError, match="leave one of them out"):
        nat.load_trajectories(runs, {"trajectories.labels": str(runs)}, "trajectories.label=rescore")


def test_a_labels_file_beside_the_trajectories_is_none_of_them_and_changes_the_cell(tmp_path, runs):
    labels = as_json(tmp_path / "runs" / "labels.json", {"run-1": True, "run-2": False, "run-3": False})
    made = nat.audit(tmp_path / "runs", {"trajectories.labels": str(labels), "audit.output": str(tmp_path / "audit")})
    assert [Path(file.path).name for file in made.files] == ["all.jsonl"]
    assert (made.n_successes, made.n_failures, made.n_bad_rows) == (1, 2, {})
    files = ["trajectories=chat", f"trajectories.path={runs}", "mixing=positive_only", f"trajectories.labels={labels}"]
    first = composition.plan(files).cells[0].hash
    as_json(labels, {"run-1": True, "run-2": True, "run-3": False})
    assert composition.plan(files).cells[0].hash != first


def test_labels_of_another_file_go_before_those_of_the_records(tmp_path):
    write(tmp_path / "runs" / "a.jsonl", chat("1?", "1", id="x", success=True), chat("2?", "2", id="y", success=True))
    labels = as_json(tmp_path / "labels.json", {"x": False, "y": True})
    made = nat.audit(tmp_path / "runs", {"trajectories.labels": str(labels), "audit.output": str(tmp_path / "audit")})
    assert (made.n_successes, made.n_failures) == (1, 1)
    (finding,) = [finding for finding in made.findings if finding.name == "label_sources_disagree"]
    assert [sighting.excerpt for sighting in finding.sightings] == [
        f"success = true; labelled failure by {labels}: x: label = false"
    ]
    clean = [json.loads(line) for line in (tmp_path / "audit" / "clean.jsonl").read_text().splitlines()]
    assert clean[0]["metadata"]["label_from"] == f"{labels}: x: label = false"
    # The clean file is labelled: no rule is applied to it twice, none is left out.
    found = nat.load_trajectories(tmp_path / "audit" / "clean.jsonl", "trajectories.label=success")
    assert [trajectory.outcome.success for trajectory in found] == [True, True]


def test_labels_between_0_and_1_are_counted_and_a_rule_may_take_them(tmp_path, runs):
    labels = write(tmp_path / "labels.jsonl", *({"id": f"run-{n}", "reward": n / 3} for n in (1, 2, 3)))
    output = {"trajectories.labels": str(labels), "audit.output": str(tmp_path / "audit")}
    made = nat.audit(runs, output)
    assert made.labels is not None
    assert (made.n_successes, made.n_failures, made.labels["graded"]) == (1, 2, 2)
    assert "2 lie between 0 and 1 and count as failures" in " ".join(str(summary(made, 100)).split())
    made = nat.audit(runs, output, "trajectories.label=reward >= 0.5")
    assert made.labels is not None
    assert (made.n_successes, made.n_failures, made.labels["graded"]) == (2, 1, 0)


def test_a_run_says_what_was_joined(tmp_path):
    rows = [chat(f"{n}?", str(n), id=f"run-{n}") for n in range(4)]
    path = write(tmp_path / "a.jsonl", *rows)
    labels = as_json(tmp_path / "labels.json", {"run-0": True, "run-1": True, "run-2": False, "run-9": False})
    shown = nat.inspect(
        {"trajectories": "chat", "trajectories.path": str(path), "trajectories.labels": str(labels)},
        "trajectories.on_bad_row=drop", "environment=gsm8k", "evaluation=none", "quality=none",
        "mixing=counts", "mixing.positives=2", "mixing.negatives=1",
    )  # fmt: skip
    assert (
        "labels        3 trajectories have theirs from labels.json; 1 have none there (run-3); 1 of its 4 ids are no "
        "trajectory's (run-9)"
    ) in shown.lines
    assert "selected      2 positives, 1 negatives; unused 0 positives, 0 negatives" in shown.lines


# ---- what contradicts a label ----


def findings_of(tmp_path: Path, *rows: dict[str, Any], rule: str | None = None) -> dict[str, Any]:
    path = write(tmp_path / "rows.jsonl", *rows)
    made = nat.audit(path, {"audit.output": str(tmp_path / "audit"), "trajectories.label": rule})
    return {finding.name: finding for finding in made.findings}


def test_rewards_between_0_and_1_that_count_as_failures(tmp_path):
    rows = [chat(f"{n}?", "4", reward=reward) for n, reward in enumerate((1.0, 0.9, 0.1, 0, -1))]
    finding = findings_of(tmp_path, *rows)["graded_labels"]
    assert (finding.severity, finding.count, finding.of) == ("warning", 2, 5)
    assert finding.says.startswith("2 rewards lie between 0 and 1 and count as failures")
    assert finding.remedy.endswith("trajectories.label='reward >= 0.5'.")
    assert [(s.where.rpartition(":")[2], s.excerpt) for s in finding.sightings] == [
        ("2", "reward = 0.9"),
        ("3", "reward = 0.1"),
    ]
    assert findings_of(tmp_path, *rows[2:])["graded_labels"].severity == "note"  # none is half or more
    assert "graded_labels" not in findings_of(tmp_path, *rows, rule="reward >= 0.5")
    # A grade beside a label is none.
    assert "graded_labels" not in findings_of(tmp_path, chat("1?", "4", em=False, f1=0.6), chat("2?", "4", em=True))


def test_fields_of_one_record_that_disagree(tmp_path):
    rows = [
        chat("1?", "4", success=True, reward=0.8),
        chat("2?", "4", success=False, reward=0.1),
        chat("3?", "4", success=True, reward=1, info={"success": True}),
        chat("4?", "4", info={"success": "failed"}, score={"passed": True}),
    ]
    finding = findings_of(tmp_path, *rows)["label_sources_disagree"]
    assert (finding.severity, finding.count, finding.details["shaped_rewards"]) == ("warning", 2, 1)
    assert [s.excerpt for s in finding.sightings] == [
        "success = true, reward = 0.8; labelled success by success",
        'info.success = "failed", score.passed = true; labelled failure by info.success',
    ]
    assert findings_of(tmp_path, *rows[:3])["label_sources_disagree"].severity == "note"  # it may be shaped
    assert "label_sources_disagree" not in findings_of(tmp_path, *rows[:3], rule="success")


def test_failures_with_the_right_answer(tmp_path):
    rows = [
        chat("2+2?", "4", answer="4", correct=True),
        chat("3+3?", "7", answer="7", correct=False),
        chat("3+4?", "7", answer="6", gold="7", correct=False),
        chat("4+4?", "9", answer="9", gold="8", correct=False),
        chat("5+5?", "9", answer="10", correct=False),
    ]
    finding = findings_of(tmp_path, *rows)["right_failures"]
    assert [s.where.rpartition(":")[2] for s in finding.sightings] == ["2", "3"]
    assert finding.sightings[0].excerpt == "prediction and reference are '7'"


def reported(name: str) -> Path:
    path = DATA.parent / "reported" / "formats" / name
    if not path.is_file():
        pytest.skip(f"reported inputs are not here: {path} does not exist")
    return path


def test_reported_inputs(tmp_path):
    def audited(*names: str, **more: Any) -> Any:
        output = {"audit.output": str(tmp_path / "audit"), **more}
        return nat.audit([reported(name) for name in names], output)

    def counts(made: Any) -> tuple[int, int, list[str]]:
        return made.n_successes, made.n_failures, [finding.name for finding in made.findings]

    assert counts(audited("reward_09.jsonl")) == (1, 2, ["graded_labels"])
    assert counts(audited("reward_and_success.jsonl")) == (1, 1, ["label_sources_disagree"])
    assert counts(audited("answer_is_the_models.jsonl")) == (1, 1, [])
    assert counts(audited("label_resolved.jsonl"))[:2] == (1, 1)
    offered = [row.detail.split("'")[1] for row in audited("reward_dict.jsonl").bad_rows]
    assert offered == ["reward.correct >= 1", "rewards[0] >= 1"]
    files = ("good.jsonl", "bad.jsonl")
    assert 'source == "good"' in audited(*files).bad_rows[0].detail
    assert counts(audited(*files, **{"trajectories.label": 'source == "good"'}))[:2] == (1, 1)
