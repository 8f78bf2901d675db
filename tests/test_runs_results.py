"""What a run found: the type, its file, and the files of the first schema (tests/data/schema_1.zip, committed ones)."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nat.runs.directory import load_results, read_results, write_results
from nat.runs.packed import RunFiles
from nat.runs.results import (
    ClassLoss,
    Coordinates,
    Error,
    Git,
    GroupLosses,
    Pass,
    Results,
    as_tree,
    by_key,
    from_schema_1,
    read,
)

SCHEMA_1: Any = zipfile.Path(Path(__file__).parent / "data" / "schema_1.zip")
COMPLETED = ["also_in", "base", "class_losses", "graded", "several_classes", "validation"]
INFERENCE = Pass(
    kind="inference",
    split="test",
    asked_for="correct",
    temperature=0.0,
    environment="arithmetic",
    success_rate=0.5,
    ci95=(0.25, 0.75),
    n_questions=4,
    mean_score=0.625,
    failures={"wrong_answer": 2},
    mean_turns=2.5,
    generated_tokens=40,
    search_misses=3,
)
RESULTS = Results(
    status="completed",
    cell="0123456789abcdef",
    overrides=("seed=3",),
    warnings=("warning: few",),
    tracking_id="0123456789abcdef-1",
    coordinates=Coordinates(
        method="nat",
        environment="arithmetic",
        strategy="suffix",
        ratio="1:2",
        positives=20,
        negatives=40,
        seed=3,
        model="tiny",
        split="test",
        manifest="abc",
    ),
    leaks=("2 labels in the text",),
    steps=30,
    trained_tokens=900,
    training={"loss": 0.25},
    class_losses={
        "failures": GroupLosses(
            by_class={
                "correct": ClassLoss(loss=0.5, tokens=10, trajectories=1),
                "incorrect": ClassLoss(loss=0.25, tokens=10, trajectories=1, difference=-0.25),
            },
            left_out={"too_long": 2},
        )
    },
    grades_by_f1=True,
    passes=(
        INFERENCE,
        replace(INFERENCE, kind="validation", split="validation", success_rate=0.75),
        replace(INFERENCE, kind="also_as", asked_for="incorrect", success_rate=0.25),
        replace(INFERENCE, kind="also_at", temperature=0.7, success_rate=0.125),
        replace(INFERENCE, kind="also_in", environment="larger", success_rate=0.0),
    ),
    timing={"training": 1.5},
    versions={"nat": "0.1.0"},
    git=Git("0123abc", dirty=True),
    threads=1,
    seconds=2.5,
)


def tree_of(name: str) -> dict:
    return json.loads((SCHEMA_1 / f"{name}.json").read_text())


# ---- the file ----


def test_a_file_is_read_as_it_was_written(tmp_path):
    for results in (
        RESULTS,
        Results(status="planned", cell="f" * 16, overrides=("seed=1",)),
        Results(status="failed", error=Error("stage", "loss is nan\nTraceback: there")),
    ):
        write_results(tmp_path, results)
        assert load_results(RunFiles("r", tmp_path)) == read_results(tmp_path) == results


def test_the_file_says_first_what_its_readers_look_for():
    tree = as_tree(RESULTS)
    assert (tree["schema"], tree["status"], tree["method"], tree["seed"]) == (2, "completed", "nat", 3)
    assert (tree["success_rate"], tree["ci95"], tree["n_questions"]) == (0.5, (0.25, 0.75), 4)
    assert (tree["failures"], tree["exact_match"], tree["f1"]) == ({"wrong_answer": 2}, 0.5, 0.625)
    assert tree["git"] == {"commit": "0123abc", "dirty": True}
    assert [one["kind"] for one in tree["passes"]] == ["inference", "validation", "also_as", "also_at", "also_in"]
    assert as_tree(Results(status="running", cell="c")) == {"schema": 2, "status": "running", "cell": "c"}


def test_the_figures_on_top_are_for_eyes_alone():
    """Every number is read from its pass."""
    assert read(as_tree(RESULTS) | {"success_rate": 0.9, "n_questions": 7, "failures": {}, "f1": 1.0}) == RESULTS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 3}, "schema=3: this version of nat reads 2 and what came before"),
        ({"status": "ok"}, "status='ok': Input should be 'planned', 'running', 'failed' or 'completed'"),
        ({"steps": "many"}, "steps='many': Input should be a valid integer"),
        ({"passes": [{"kind": "guess"}]}, "passes.0.kind='guess': Input should be 'inference'"),
    ],
)
def test_what_cannot_be_understood_is_named(change, message):
    with pytest.raises(ValueError, match="^" + message.replace(".", r"\.")):
        read(as_tree(RESULTS) | change)


def test_a_run_without_a_file_that_can_be_read_counts_as_planned(tmp_path):
    assert read_results(tmp_path / "nowhere") == Results(status="planned")
    for text in ('{"status": "comp', "[1]", '{"accuracy": 0.5}', '{"schema": 9, "status": "completed"}'):
        (tmp_path / "results.json").write_text(text)
        assert read_results(tmp_path) == Results(status="planned")


# ---- the first schema ----


def test_passes_that_names_told_apart_become_records():
    found = read(tree_of("also_in"))
    unknown = dict.fromkeys(("asked_for", "temperature", "failures", "mean_turns", "generated_tokens", "search_misses"))
    own = {**unknown, "split": "test", "environment": "arithmetic", "n_questions": 300}
    inference = {"failures": {"wrong_answer": 132}, "mean_turns": 3.9233333333333333, "generated_tokens": 13642}
    low = (0.003406618437715286, 0.02898349336233983)
    few = {"success_rate": 0.01, "ci95": low, "mean_score": 0.01}
    rates = {"success_rate": 0.56, "ci95": (0.5034220384378781, 0.6150608050151766), "mean_score": 0.56}
    verbs = {"success_rate": 0.29, "ci95": (0.24156454610318373, 0.34374550181112556), "mean_score": 0.29}
    # Wilson's interval of 165 of the same 300 questions, which the file does not hold.
    asked = {"success_rate": 0.55, "ci95": pytest.approx((0.4934256045, 0.6053100984)), "mean_score": None}
    assert found.passes == (
        Pass(**own | inference | rates | {"kind": "inference", "search_misses": 0}),
        Pass(**own | asked | {"kind": "also_as", "asked_for": "incorrect"}),
        Pass(**own | few | {"kind": "also_in", "environment": "larger"}),
        Pass(**own | few | {"kind": "also_in", "environment": "longer"}),
        Pass(**own | verbs | {"kind": "also_in", "environment": "other_verbs"}),
    )
    assert (found.status, found.cell, found.steps, found.seconds) == ("completed", "1270d480c8a821b7", 300, 174.083)
    assert found.coordinates == Coordinates(
        method="nat",
        environment="arithmetic",
        strategy="suffix",
        ratio="1:9",
        positives=100,
        negatives=900,
        seed=2,
        model="tiny",
        split="test",
        manifest="6ce08c6905b2cadd",
    )
    assert found.timing["training"] == 138.304 and found.versions["nat"] == "0.1.0" and not found.grades_by_f1


def test_a_temperature_and_losses_by_class():
    found = read(tree_of("class_losses"))
    (at,) = found.of_kind("also_at")
    assert (at.temperature, at.success_rate, at.n_questions) == (0.7, 0.28, 400)
    assert at.ci95 == pytest.approx((0.2382514234, 0.3259339861))  # 112 of 400
    failures = found.class_losses["failures"]
    assert failures.by_class["correct"] == ClassLoss(loss=0.2843901142460528, tokens=8534, trajectories=200)
    assert failures.by_class["incorrect"].difference == -9.155967940973653e-05
    assert failures.left_out == {}
    tree = tree_of("class_losses")
    tree["class_losses"]["failures"]["left_out"] = {"too_long": 3}
    assert read(tree).class_losses["failures"].left_out == {"too_long": 3}


def test_a_graded_run_several_classes_and_validation():
    graded = read(tree_of("graded"))
    assert graded.grades_by_f1 and graded.inference is not None
    assert (graded.inference.success_rate, graded.inference.mean_score) == (0.29, 0.3575)
    several = read(tree_of("several_classes"))
    assert [one.asked_for for one in several.of_kind("also_as")] == ["mostly_correct", "slightly_correct", "incorrect"]
    found = read(tree_of("validation"))
    assert found.validation is not None and found.inference is not None
    assert (found.validation.split, found.validation.success_rate) == ("validation", 0.39)
    assert (found.inference.split, found.inference.success_rate) == ("test", 0.415)


def test_a_run_that_trains_nothing_and_one_that_failed():
    base = read(tree_of("base"))
    assert base.coordinates is not None
    assert (base.coordinates.method, base.coordinates.ratio, base.coordinates.manifest) == ("base", None, None)
    assert (base.steps, base.trained_tokens, base.training) == (0, 0, {})
    assert base.git == Git("0ef99363b45fb8c642ef81a0573046e1c778ecf8", dirty=False)
    failed = read(tree_of("failed"))
    assert (failed.status, failed.cell, failed.coordinates, failed.passes) == ("failed", "18a8ba543db6f1f9", None, ())
    assert failed.error is not None and failed.error.kind == "request"
    assert failed.error.first_line.startswith("training.sft: no_such_optimiser is not a valid OptimizerNames")


def test_what_the_committed_files_do_not_hold_is_converted_too():
    tree = tree_of("base") | {"search_misses": 5, "leaks": ["a label"], "warnings": ["warning: few"]}
    found = read(tree)
    assert found.inference is not None and found.inference.search_misses == 5
    assert (found.leaks, found.warnings) == (("a label",), ("warning: few",))
    assert read({"status": "planned", "cell": "c", "overrides": ["seed=1"]}) == Results(
        status="planned", cell="c", overrides=("seed=1",)
    )
    del tree["ci95"]
    with pytest.raises(ValueError, match=r"^an evaluation lacks its figures \(KeyError: 'ci95'\)"):
        read(tree)


@pytest.mark.parametrize("name", [*COMPLETED, "failed"])
def test_a_converted_file_written_again_says_the_same(name):
    found = read(tree_of(name))
    assert read(json.loads(json.dumps(as_tree(found)))) == found
    assert from_schema_1(tree_of(name))["schema"] == 2


# ---- as a row ----


@pytest.mark.parametrize("name", COMPLETED)
def test_a_row_has_the_names_of_the_first_schema(name):
    """What W&B and results.csv show is as it was."""
    tree = tree_of(name)
    beside = ("status", "overrides", "cell", "tracking_id", "versions", "git", "threads", "seconds")
    assert list(by_key(read(tree)).items()) == [(key, value) for key, value in tree.items() if key not in beside]


def test_every_pass_has_its_name_in_a_row():
    row = by_key(RESULTS)
    assert (row["success_rate"], row["mean_turns"], row["search_misses"]) == (0.5, 2.5, 3)
    assert (row["success_rate_as_incorrect"], row["success_rate_at_0.7"]) == (0.25, 0.125)
    assert row["validation"] == {"success_rate": 0.75, "ci95": [0.25, 0.75], "mean_score": 0.625, "n_questions": 4}
    assert row["also_in"]["larger"]["success_rate"] == 0.0
    assert (row["exact_match"], row["f1"]) == (0.5, 0.625)
    assert row["leaks"] == ["2 labels in the text"]
    assert row["class_losses"]["failures"] == {
        "correct": {"loss": 0.5, "tokens": 10, "trajectories": 1},
        "incorrect": {"loss": 0.25, "tokens": 10, "trajectories": 1, "difference": -0.25},
        "left_out": {"too_long": 2},
    }
    assert not {"kind", "asked_for", "temperature", "status", "cell"} & row.keys()
