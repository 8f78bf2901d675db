"""What is committed under experiments/ can be reported again, and goes on where it was."""

import csv
import importlib
import importlib.util
import json
import re
import shlex
import shutil
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from nat.comparison.types import Arm, RunResult
from nat.config.loading import load
from nat.environments.worlds.earning import generate_questions
from nat.environments.worlds.worlds import is_world
from nat.reporting.write import report
from nat.runs.outcomes import Answer, read_outcomes
from nat.runs.packed import runs_below
from nat.sweeps import composition, sweep
from nat.sweeps.cell_hash import cell_hash
from tests.conftest import ROOT
from tests.sweeps_for_tests import without_new_pictures

# folder of the cells: the command that goes on with them; None where more than one command makes them
SWEEPS = {
    "demo": ["experiment=demo"],
    "failure_rates": ["experiment=failure_rates"],
    "ratio_sweep": ["experiment=ratio_sweep"],
    "strategies": ["experiment=strategies"],
    "controls_arithmetic": ["experiment=controls", "environment=arithmetic"],
    "controls_multihop": ["experiment=controls", "environment=multihop"],
    "self_improvement_first": ["environment=multihop", "method=positive_only", "mixing.positives=50"],
    "self_improvement": None,  # its trajectories are a model's own, collected by the command before
    "self_improvement_rounds": None,  # likewise, by the script beside it
    "controls_strategic": ["experiment=controls", "environment=strategic"],
    "strategyqa": ["experiment=strategyqa"],
    "hotpotqa": ["experiment=hotpotqa"],
    "scarcity": ["experiment=scarcity"],
    "methods_by_benchmark": ["experiment=methods_by_benchmark"],
    "quality_of_negatives": ["experiment=quality_of_negatives"],
    "agent_style": ["experiment=agent_style"],
    "agent_style_easy": [
        *("experiment=agent_style", "agent=cot", "mixing.positives=100", "training.max_steps=200"),
        *("trajectories.successes=200", "trajectories.failures=400", "environment.steps={min:1,max:2}"),
        *("environment.distractors.max=0", "environment.start={min:2,max:9}", "environment.amount={min:1,max:9}"),
        *("environment.factor_share=0.0", "environment.decimal_share=0.0", "environment.negative_share=0.0"),
        *("evaluation.n_questions=300", "evaluation.n_validation=0", "sweep.name=agent_style_easy"),
    ],
    "equal_epochs_arithmetic": ["experiment=equal_epochs", "environment=arithmetic"],
    "equal_epochs_multihop": ["experiment=equal_epochs", "environment=multihop"],
    "equal_epochs_strategic": ["experiment=equal_epochs", "environment=strategic"],
}
EXPERIMENTS = ROOT / "experiments"
sys.path.insert(0, str(EXPERIMENTS))  # as for `python experiments/tables.py`
CELLS = list(EXPERIMENTS.glob("*/cells.zip"))

pytestmark = pytest.mark.skipif(not CELLS, reason="the committed cells are in a checkout only, not in an sdist")


@pytest.mark.slow
@pytest.mark.parametrize("name", SWEEPS)
def test_a_committed_report_is_what_its_cells_say(tmp_path, name):
    (written := tmp_path / name).mkdir()
    shutil.copy(EXPERIMENTS / name / "cells.zip", written)
    report(written)
    measured = importlib.import_module("measured")
    committed = (EXPERIMENTS / name / "report.md").read_text()
    assert without_new_pictures((written / "report.md").read_text(), committed) == committed
    for file in ("arms.csv", "results.csv"):
        assert (written / file).read_bytes().decode() == measured.text_of(name, file), file


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, command in SWEEPS.items() if command])
def test_the_command_of_an_experiment_finds_its_committed_cells(name):
    """A change of YAML that would make them other cells is a change of the experiment: measure it again."""
    planned = composition.plan(SWEEPS[name] or [])
    committed = sweep.completed(EXPERIMENTS / name)
    assert {cell.hash for cell in planned.cells} == committed.keys()
    for hash, files in committed.items():
        assert cell_hash(load(yaml.safe_load(files.read_text("config.yaml") or ""))) == hash
    assert len({cell.directory for cell in planned.cells}) == len(planned.cells)


def test_the_commands_of_the_sweeps_are_those_that_the_pages_print():
    """That of the demo stands in the Makefile."""
    printed = [line.split() for line in re.findall(r"/nat train (.*)", (ROOT / "Makefile").read_text())]
    for page in EXPERIMENTS.glob("*/README.md"):
        for block in re.findall(r"^```\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            lines = block.replace("\\\n", " ").splitlines()
            printed += [shlex.split(line)[2:] for line in lines if line.startswith("nat train ")]
    without_folder = [[one for one in arguments if not one.startswith("hydra.")] for arguments in printed]
    assert [name for name, command in SWEEPS.items() if command and command not in without_folder] == []


# ---- counts that pages name in their text ----


def load_script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{path.stem}_of_{path.parent.name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_what_the_failures_hold_is_what_the_committed_file_says():
    """Two of its eight rows are counted again, an arithmetic one and a strategic one."""
    folder = EXPERIMENTS / "quality_of_negatives"
    errors = load_script(folder / "errors.py")
    with open(folder / "errors.csv", newline="") as file:
        committed = list(csv.DictReader(file))
    assert [row["experiment"] for row in committed] == [" ".join(overrides) for overrides in errors.EXPERIMENTS]
    assert list(errors.measure((errors.EXPERIMENTS[2], errors.EXPERIMENTS[7]))) == [committed[2], committed[7]]

    by_rate = [f"{float(row['errors_per_failure']) + 1e-9:.2f}" for row in committed[:3]]
    page = " ".join((folder / "README.md").read_text().split())
    assert by_rate == ["1.03", "1.13", "1.95"]
    for text in ("5% policy holds 1.03 errors", "of the 15% policy 1.13", "of the 60% policy 1.95"):
        assert text in page
    assert f"{float(committed[7]['ending_without_an_answer']):.0%} of the scripted policy's failures" in " ".join(
        (EXPERIMENTS / "strategyqa" / "README.md").read_text().split()
    )


def test_guessing_in_the_easy_world_is_counted_from_its_questions():
    """agent_style: what the same answer to every question would solve."""
    arguments = [*(SWEEPS["agent_style_easy"] or []), "hydra.mode=RUN"]
    config = composition.checked(composition.compose(arguments), arguments)
    assert is_world(config.environment)
    answers = Counter(question.answer for question in generate_questions(config.environment, "test", 300))
    said = " ".join((EXPERIMENTS / "agent_style" / "README.md").read_text().split())
    assert answers.most_common(1)[0][0] == "5"
    assert f'"5" to each of the 300 questions solves {answers["5"] / 300:.1%}, "10" {answers["10"] / 300:.1%}' in said


def test_how_the_authors_failures_end_is_counted_from_their_rows(data):
    with open(data / "strategyqa" / "sample_negative.json") as file:
        rows = json.load(file)
    answers = [str(row["info"].get("pred")) for row in rows]
    counts = [len(answers), sum(answer in ("Yes", "No") for answer in answers), answers.count("None")]
    said = f"of {counts[0]} rows of their file of failures {counts[1]} end in yes or no, {counts[2]} in nothing"
    assert said in " ".join((EXPERIMENTS / "strategyqa" / "README.md").read_text().split())


def test_the_first_models_roll_outs_are_counted_from_the_manifest_of_a_model_trained_on_them():
    folder = EXPERIMENTS / "self_improvement"
    (files,) = (files for files in runs_below(folder) if files.exists("manifest.json"))
    manifest = json.loads(files.read_text("manifest.json") or "")
    repeated = manifest["dropped"].pop("exact_duplicates")
    assert manifest["dropped"] == {} and not any(manifest["held_out"].values())
    kept = {side: manifest["selected"][side] + manifest["unused"][side] for side in ("positives", "negatives")}
    successes, failures = (kept[side] + repeated[side] for side in ("positives", "negatives"))
    said = " ".join((folder / "README.md").read_text().split())
    assert f"solves {successes / (successes + failures):.3f} of its {successes + failures} episodes" in said
    assert f"{successes} successes and {failures} failures. Quality control" in said
    assert f"{kept['positives']} successes and {kept['negatives']} failures that differ are left" in said


def test_models_that_stop_early_are_counted_from_their_outcomes():
    """Five or six calculations and a finish take six turns or more."""
    early = []
    for files in runs_below(EXPERIMENTS / "methods_by_benchmark"):
        if not files.name.startswith("method=nat,"):
            continue
        (longer,) = (one for one in read_outcomes(files) if one.asked.environment == "longer")
        turns = [answer.turns or 0 for _, answer in longer.answers]
        assert len(turns) == 300
        early.append(sum(number <= 5 for number in turns))
    said = f"end {early[0]}, {early[1]} and {early[2]} after at most four"
    assert said in " ".join((EXPERIMENTS / "methods_by_benchmark" / "README.md").read_text().split())


def test_the_variation_of_seeds_is_computed_from_an_arm_as_by_hand():
    """Rates .5, .75 and .25: variance .0625. Runs differ on 1, 1 and 2 of 4 questions: a third; luck .3333 / 8."""
    measure = load_script(EXPERIMENTS / "seed_variation" / "measure.py")
    runs = tuple(
        RunResult(
            f"run{seed}", None, "completed", "nut", "none", 4, 4, seed, {},
            {"test": {str(n): Answer(letter == "1", float(letter)) for n, letter in enumerate(letters)}},
        )
        for seed, letters in enumerate(("1100", "1110", "1000"))
    )  # fmt: skip
    (found,) = measure.variations([Arm("nut", "nut", "none", 4, 4, {}, runs)])
    assert found == measure.Variation(4, 4, 0.5, 0.0625, pytest.approx(1 / 3), 4)
    assert measure.summarise([found]) == {
        "arms": 1,
        "sd_of_the_success_rate": 0.25,
        "seed_sd": 0.1443,  # (.0625 - .04167) ** .5
        "disagreement": 0.333,
        "least_disagreement": 0.333,
        "largest_disagreement": 0.333,
    }


@pytest.mark.slow
def test_the_advice_before_a_sweep_assumes_what_our_arms_show(tmp_path, monkeypatch):
    folder = EXPERIMENTS / "seed_variation"
    measure = load_script(folder / "measure.py")
    monkeypatch.setattr(measure, "__file__", str(tmp_path / "measure.py"))
    measure.main()
    committed = json.loads((folder / "variation.json").read_text())
    assert json.loads((tmp_path / "variation.json").read_text()) == committed
    assumed = composition.checked(composition.compose([]), []).report.assumed
    everything = committed["all arms"]
    assert assumed.seed_sd == round(everything["seed_sd"], 3)
    assert assumed.disagreement == round(everything["disagreement"], 2)
