"""Cells of the shape in which every kind of a group held the keys of all: what they are today."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from nat.config.loading import load
from nat.config.tree import Config
from nat.sweeps import cell_hash, composition
from nat.sweeps.former_cells import former_configuration
from nat.trajectories.config import TrajectoryFiles
from tests.conftest import ROOT

CELLS = sorted((ROOT / "experiments").rglob("config.yaml"))
needs_cells = pytest.mark.skipif(not CELLS, reason="the committed cells are in a checkout only, not in an sdist")


def read(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def today(*overrides: str) -> dict[str, Any]:
    return composition.resolved(composition.compose(overrides))


def test_keys_of_other_kinds_go():
    tree = today("method=positive_only", "mixing=counts", "mixing.positives=5", "training=none", "tracking=none")
    former = {
        **tree,
        "search": {"kind": "none", "path": None, "format": None, "questions": None, "results": None, "url": None},
        "trajectories": {
            "kind": "scripted",
            "path": None,
            "successes": 100,
            "failures": 900,
            "failures_rate": None,
            "questions": None,
            "label": None,
            "on_bad_row": "error",
        },
        "mixing": {
            "kind": "counts",
            "ratio": None,
            "hold": "positives",
            "positives": 5,
            "negatives": None,
            "total": None,
            "tokens": None,
            "oversample": False,
            "questions": "any",
        },
        "training": {
            "objective": "none",
            "max_steps": None,
            "epochs": None,
            "device": "auto",
            "processes": 1,
            "sharding": "none",
            "checkpoint_every": None,
            "save": False,
            "sft": {},
        },
        "collect": {
            **tree["collect"],
            "temperatures": None,
            "few_shot": None,
            "as_class": None,
            "turns": None,
            "endpoint": None,
        },
        "tracking": {
            "kind": "none",
            "mode": "disabled",
            "project": "nat",
            "entity": None,
            "group": None,
            "tags": [],
            "rollouts": 0,
        },
    }
    assert former_configuration(former) == tree


def test_what_came_later_gets_the_value_under_which_nothing_changes():
    """As the first committed cells were written."""
    tree = today("quality=none")
    former = {group: tree[group] for group in tree if group not in ("search", "quality", "collect", "audit", "also_in")}
    former["agent"] = {key: tree["agent"][key] for key in ("name", "system")}
    former["environment"] = {k: v for k, v in tree["environment"].items() if k != "other_verbs_share"}
    former["trajectories"] = {"kind": "scripted", "path": None, "successes": 100, "failures": 900}
    former["training"] = {k: v for k, v in tree["training"].items() if k not in ("processes", "sharding")}
    former["evaluation"] = {k: v for k, v in tree["evaluation"].items() if k not in ("also_at", "n_class_losses")}
    del former["report"]
    assert former_configuration(former) == tree
    assert former_configuration(tree) == tree


@needs_cells
def test_the_cells_of_the_demo_are_today_those_of_its_command():
    demo = [path for path in CELLS if path.parent.parent.name == "demo"]
    found = {cell_hash.cell_hash(load(former_configuration(read(path)))) for path in demo}
    assert found == {cell.hash for cell in composition.plan(["experiment=demo"]).cells}
    assert len(found) == len(demo) == 4


@needs_cells
@pytest.mark.slow
def test_committed_cells_are_the_same_cell_today_where_they_were_the_same_before(monkeypatch):
    inputs = cell_hash._inputs

    def at_hand(config: Config):
        """The trajectories of the first models are not committed: their cells differ in nothing else."""
        if not isinstance(config.trajectories, TrajectoryFiles):
            yield from inputs(config)

    monkeypatch.setattr(cell_hash, "_inputs", at_hand)
    assert len(CELLS) == 422
    pairs = set()
    for path in CELLS:
        tree = former_configuration(read(path))
        config = load(tree, inputs=False)
        assert former_configuration(tree) == tree
        before = json.loads((path.parent / "results.json").read_text(encoding="utf-8"))["cell"]
        pairs.add((str(path.parent.parent), before, cell_hash.cell_hash(config)))
    for sweep in {sweep for sweep, _, _ in pairs}:
        of_sweep = [(before, now) for other, before, now in pairs if other == sweep]
        assert len({before for before, _ in of_sweep}) == len({now for _, now in of_sweep}) == len(of_sweep)
