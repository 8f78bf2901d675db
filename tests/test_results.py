import json
import shutil
from pathlib import Path

import pytest

from nat.comparison.cells import read, read_runs
from nat.core.questions import question_id
from nat.runs.outcomes import save_outcomes, save_rollouts
from nat.types import Message, Outcome, Question, RequestError, Rollout
from tests.sweeps_for_tests import outcomes, plan, write_cell

# ---- cells ----


def test_a_cell_is_read_from_results_and_outcomes(tmp_path):
    write_cell(tmp_path / "a", "nat", "110", "01", negatives=400, seed=2)
    ((run,), missing) = read_runs(tmp_path)
    assert missing == []
    assert (run.name, run.method, run.strategy, run.positives, run.negatives, run.seed) == (
        "a",
        "nat",
        "suffix",
        100,
        400,
        2,
    )
    assert {split: [a.success for a in given.values()] for split, given in run.answers.items()} == {
        "test": [True, True, False],
        "validation": [False, True],
    }
    third = run.answers["test"][question_id("test question 2")]
    assert (third.score, third.failure, third.turns) == (0.0, "wrong_answer", 3)
    assert run.results.steps == 300


def test_answers_asked_for_another_class_are_left_out(tmp_path):
    cell = write_cell(tmp_path / "a", "nat")
    own = [outcomes("11", asked_for="good"), outcomes("0", "validation", "good")]
    save_outcomes(cell / "outcomes.csv", [*own, outcomes("00", "also_as", "bad"), outcomes("01", "also_at", "good")])
    ((run,), _) = read_runs(tmp_path)
    assert {split: [a.success for a in given.values()] for split, given in run.answers.items()} == {
        "test": [True, True],
        "validation": [False],
    }


def test_older_cells_are_read_from_their_roll_outs(tmp_path):
    cell = write_cell(tmp_path / "a", "nat", validation="1")
    (cell / "outcomes.csv").unlink()
    turns = (Message("assistant", "Action: calculate[1+1]"), Message("tool", "2"), Message("assistant", "finish[2]"))
    rollouts = [
        Rollout(Question("q0", "A  Text", "2"), turns, Outcome(True, 1.0)),
        Rollout(Question("q1", "another", "3"), turns[:1], Outcome(False, 0.25, "out_of_turns")),
    ]
    save_rollouts(cell / "rollouts.jsonl", rollouts)
    save_rollouts(cell / "rollouts_validation.jsonl", rollouts[1:])
    ((run,), _) = read_runs(tmp_path)
    # By the normalised text: another world may give another question the same id.
    assert run.answers["test"].keys() == {question_id("a text"), question_id("another")}
    assert run.answers["test"][question_id("a text")].turns == 2
    assert run.answers["validation"][question_id("another")].score == 0.25


def test_what_did_not_finish_is_listed_with_its_reason(tmp_path):
    write_cell(tmp_path / "done", "nut")
    for name, results in {
        "dead": {"status": "running", "cell": "c1"},
        "bad": {
            "status": "failed",
            "cell": "c0",
            "error": {"kind": "stage", "message": "the loss is nan\nTraceback: there"},
        },
        "next": {"status": "planned", "cell": "c3"},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(results))
    shutil.copytree(tmp_path / "done", tmp_path / "no answers")
    (tmp_path / "no answers" / "outcomes.csv").unlink()
    results = json.loads((tmp_path / "done" / "results.json").read_text())
    (tmp_path / "no answers" / "results.json").write_text(json.dumps({**results, "cell": "c2"}))
    runs, missing = read_runs(tmp_path)
    assert [run.name for run in runs] == ["done"]
    assert missing == [
        "bad: failed: the loss is nan",
        "dead: running, or killed",
        "next: not started",
        "no answers: completed without roll-outs",
    ]


def test_broken_and_foreign_files_are_named_and_cost_nothing_else(tmp_path):
    write_cell(tmp_path / "done", "nut")
    half = write_cell(tmp_path / "half", "nut")
    (half / "results.json").write_text('{"status": "comp')
    table = write_cell(tmp_path / "table", "nut")
    (table / "outcomes.csv").write_text(
        (table / "outcomes.csv").read_text() + "inference,test,correct,0.0,arithmetic,abc,yes,1,,3\n"
    )
    header = write_cell(tmp_path / "header", "nut")
    (header / "outcomes.csv").write_text("question,success\n")
    foreign = write_cell(tmp_path / "foreign", "nut")
    (foreign / "results.json").write_text('{"accuracy": 0.5}')
    (tmp_path / "other tool").mkdir()
    (tmp_path / "other tool" / "results.json").write_text("[1, 2]")  # nothing of nat's beside it: no run
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "results.json").write_text('{"status": "ok"}')
    (tmp_path / "sweep.json").write_text("[")
    runs, missing = read_runs(tmp_path)
    assert [run.name for run in runs] == ["done"]
    assert [line.partition(" (")[0] for line in missing] == [
        "foreign: results.json was not written by nat",
        "half: results.json cannot be read",
        "header: outcomes.csv cannot be read",
        "sweep.json cannot be read: cells that never started are not known",
        "table: outcomes.csv cannot be read",
    ]
    assert "line 6" in missing[4]


def test_planned_cells_are_known_by_hash_and_in_old_files_by_name(tmp_path):
    write_cell(tmp_path / "renamed", "nut", cell="00000000000a-100")
    write_cell(tmp_path / "b-100", "nut")
    write_cell(tmp_path / "c-100", "nut", cell="another")  # of an earlier configuration
    plan(tmp_path, ["00000000000a-100", "b-100", "c-100", "d-100"])
    found = read(tmp_path)
    assert found.planned == 4
    assert found.missing == ("c-100: not started", "d-100: not started")
    plan(tmp_path, ["b-100", "c-100", "d-100"], hashes=False)
    assert read(tmp_path).missing == ("d-100: not started",)


def test_a_cell_found_twice_counts_once(tmp_path):
    write_cell(tmp_path / "first" / "a", "nut")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    failed = tmp_path / "again"
    shutil.copytree(tmp_path / "first" / "a", failed)
    results = json.loads((failed / "results.json").read_text())
    (failed / "results.json").write_text(json.dumps({**results, "status": "failed"}))
    found = read(tmp_path)
    assert [run.name for run in found.runs] == ["first/a"]
    assert found.missing == ()
    assert found.notes == ("second/a is the same cell as first/a and counts once.",)


def test_a_cell_found_twice_with_other_answers_is_said(tmp_path):
    write_cell(tmp_path / "first" / "a", "nut", "1100", "10")
    write_cell(tmp_path / "second" / "a", "nut", "1001", "10")
    found = read(tmp_path)
    assert [run.name for run in found.runs] == ["first/a"]
    assert found.notes == (
        "second/a is the same cell as first/a, and 2 of its answers are others: one of both is not what its files say. "
        "first/a counts.",
    )


def test_links_are_followed_once(tmp_path):
    write_cell(tmp_path / "elsewhere" / "a", "nut")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "s")
    assert [run.name for run in read(tmp_path / "s").runs] == ["linked/a"]


def test_a_directory_without_any_run_is_an_error(tmp_path):
    with pytest.raises(RequestError, match="no run below it"):
        read_runs(tmp_path)
    with pytest.raises(RequestError, match="no such directory"):
        read_runs(tmp_path / "nowhere")


def test_leaks_are_taken_from_results_and_manifest(tmp_path):
    cell = write_cell(tmp_path / "a", "nut", leaks=("2 labels in the text",))
    (cell / "manifest.json").write_text('{"leaks": ["2 labels in the text", "1 question in both"]}')
    ((run,), _) = read_runs(tmp_path)
    assert run.results.leaks == ("2 labels in the text", "1 question in both")


# ---- what tells runs apart ----


def settings(directory: Path) -> dict[str, dict[str, str]]:
    return {run.name: dict(run.setting) for run in read_runs(directory)[0]}


def test_the_setting_holds_what_differs_besides_method_and_seed(tmp_path):
    for name, method, values in (
        ("p", "positive_only", {"environment.name": "a", "environment.steps": 2, "mixing.kind": "positive_only"}),
        ("n", "nat", {"environment.name": "a", "environment.steps": 2, "mixing.kind": "ratio"}),
        ("o", "nat", {"environment.name": "b", "environment.steps": 9, "mixing.kind": "ratio"}),
    ):
        write_cell(tmp_path / name, method, setting={**values, "tracking.kind": name, "model.threads": len(name)})
    # The name says all: `steps` follows from it, `kind` from the method, and where results are tracked is no setting.
    assert settings(tmp_path) == {"p": {"environment": "a"}, "n": {"environment": "a"}, "o": {"environment": "b"}}


def test_equal_runs_with_one_seed_are_told_apart_by_whatever_differs(tmp_path):
    write_cell(tmp_path / "a", "nut", negatives=10, setting={"evaluation.n_questions": 100})
    write_cell(tmp_path / "b", "nut", negatives=10, setting={"evaluation.n_questions": 400})
    write_cell(tmp_path / "c", "nut", negatives=10, setting={"evaluation.n_questions": 400}, cell="f00f00aaaa")
    assert settings(tmp_path) == {
        "a": {"evaluation.n_questions": "100"},
        "b": {"evaluation.n_questions": "400"},
        "c": {"evaluation.n_questions": "400", "cell": "f00f00"},  # its trajectory file was another one
    }


def test_numbers_of_questions_and_threads_part_no_seeds(tmp_path):
    for seed in range(2):
        setting = {"evaluation.n_questions": 100 + seed, "model.threads": 1 + seed, "mixing.ratio": f"1:{seed}"}
        write_cell(tmp_path / str(seed), "nut", negatives=10, seed=seed, setting=setting)
    assert settings(tmp_path) == {"0": {}, "1": {}}


def test_the_training_of_the_untrained_base_is_no_setting(tmp_path):
    write_cell(tmp_path / "b", "base", setting={"training.max_steps": None, "environment.failure_rate": 0.1})
    for steps in (100, 400):
        write_cell(
            tmp_path / f"n{steps}", "nut", setting={"training.max_steps": steps, "environment.failure_rate": 0.1}
        )
    assert settings(tmp_path) == {
        "b": {},
        "n100": {"training.max_steps": "100"},
        "n400": {"training.max_steps": "400"},
    }


def test_without_a_config_the_overrides_have_to_do(tmp_path):
    for rate in ("0.1", "0.3"):
        cell = write_cell(tmp_path / rate, "nut", overrides=(f"environment.failure_rate={rate}", "tracking=none"))
        (cell / "config.yaml").unlink()
    assert settings(tmp_path) == {r: {"environment.failure_rate": r} for r in ("0.1", "0.3")}


def test_a_path_is_known_by_its_last_part(tmp_path):
    for name in ("old.jsonl", "new.jsonl"):
        write_cell(tmp_path / name, "nut", setting={"trajectories.path": f"/home/me/data/{name}"})
    assert settings(tmp_path)["old.jsonl"] == {"trajectories.path": "old.jsonl"}
