"""Cells of the shape in which every kind of a group held the keys of all: what they are today."""

import zipfile
from pathlib import Path
from typing import Any

import yaml

from nat.config.loading import load
from nat.sweeps import composition
from nat.sweeps.cell_hash import cell_hash
from nat.sweeps.former_cells import former_configuration


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


def test_a_cell_of_the_demo_is_today_that_of_its_command():
    """Its config.yaml as it was committed before."""
    config = zipfile.Path(Path(__file__).parent / "data" / "schema_1.zip", "config.yaml")
    former = yaml.safe_load(config.read_text(encoding="utf-8"))
    planned = composition.plan(["experiment=demo"])
    (of_nat,) = (cell.hash for cell in planned.cells if "method=nat" in cell.overrides)
    assert cell_hash(load(former_configuration(former))) == of_nat
