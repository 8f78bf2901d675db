"""What is committed under experiments/ can be reported again, and goes on where it was."""

import shutil

import pytest

from nat import composition, report, sweep
from tests.conftest import ROOT

# folder of the cells: the command that goes on with them; None where the cells are older than the hashes, say
SWEEPS = {
    "failure_rates": None,
    "ratio_sweep": ["experiment=ratio_sweep"],
    "strategies": ["experiment=strategies"],
    "controls_arithmetic": ["experiment=controls", "environment=arithmetic"],
    "controls_multihop": ["experiment=controls", "environment=multihop"],
    "self_improvement": None,  # its trajectories are a model's own, collected by the command before
    "self_improvement_rounds": None,  # likewise, by the script beside it
    "controls_strategic": ["experiment=controls", "environment=strategic"],
    "strategyqa": ["experiment=strategyqa"],
    "hotpotqa": ["experiment=hotpotqa"],
    "scarcity": ["experiment=scarcity"],
    "methods_by_benchmark": ["experiment=methods_by_benchmark"],
    "quality_of_negatives": ["experiment=quality_of_negatives"],
    "agent_style": ["experiment=agent_style"],
    "equal_epochs_arithmetic": ["experiment=equal_epochs", "environment=arithmetic"],
}
EXPERIMENTS = ROOT / "experiments"

pytestmark = pytest.mark.skipif(
    not list(EXPERIMENTS.glob("*/*=*")), reason="the committed cells are in a checkout only, not in an sdist"
)


@pytest.mark.slow
@pytest.mark.parametrize("name", SWEEPS)
def test_a_committed_report_is_what_its_cells_say(tmp_path, name):
    def ignore(folder: str, names: list[str]) -> set[str]:
        return {
            file for file in names if file.endswith((".md", ".html", ".csv", ".png", ".svg")) and file != "outcomes.csv"
        }

    copied = shutil.copytree(EXPERIMENTS / name, tmp_path / name, ignore=ignore)
    report.write(copied)
    for file in ("report.md", "arms.csv", "results.csv"):
        assert (copied / file).read_text() == (EXPERIMENTS / name / file).read_text(), file


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, command in SWEEPS.items() if command])
def test_the_command_of_an_experiment_finds_its_committed_cells(name):
    """A change of YAML that would make them other cells is a change of the experiment: measure it again."""
    planned = composition.plan(SWEEPS[name] or [])
    assert {cell.hash for cell in planned.cells} == set(sweep.completed(EXPERIMENTS / name))
