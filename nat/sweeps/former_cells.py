"""Cells that were run before groups of several kinds had keys of their own: their configuration in today's shape.

A former `config.yaml` holds every key of every kind, null (or without effect) where the kind has no use for it, and
none of the keys that came after it was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nat.config.kinds import kinds
from nat.core.paths import CONF_DIR

# Keys that came later, and the values under which a run is what it was before.
LATER: Mapping[str, Mapping[str, Any]] = {
    "training": {"processes": 1, "sharding": "none"},
    "agent": {"style": "react", "instructions": None},
    "trajectories": {
        "questions": None,
        "on_bad_row": "error",
        "label": None,
        "labels": None,
        "failures_rate": None,
        "question": None,
        "task": None,
        "on_bad_file": "skip",
    },
    "evaluation": {"also_at": [], "n_class_losses": 0},
}
LATER_OF_ENVIRONMENTS: Mapping[str, Mapping[str, Any]] = {  # by kind
    "arithmetic": {"other_verbs_share": 0.0},
    "benchmark": {
        "fields": {"id": None, "question": "question", "answer": "answer"},
        "on_bad_row": "error",
        "tools": ["calculate"],
        "scorer": "numeric",
        "few_shot": None,
    },
}
# Groups that came later, as the option that changes nothing of a run.
LATER_GROUPS = {
    "search": "none",
    "quality": "none",
    "collect": "scripted",
    "audit": "standard",
    "report": "standard",
}


def former_configuration(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A former cell's resolved configuration as `nat.config.loading.load` takes it; what it says of a run stays the
    same.

    Keys that the kind of a group has not go, keys and groups that came later get the value under which nothing changes.
    A tree of today's shape comes back as it is.
    """
    later = {group: _shipped(group, option) for group, option in LATER_GROUPS.items()}
    # Its file derives the name from other keys; here all are resolved.
    later["collect"]["output"] = f"outputs/collected/{tree['environment']['name']}-scripted.jsonl"
    found = later | {"also_in": {}} | dict(tree)
    for group, values in LATER.items():
        found[group] = {**values, **found[group]}
    environments = {name: _environment(values) for name, values in found["also_in"].items()}
    found |= {"environment": _environment(found["environment"]), "also_in": environments}
    for group, of_group in kinds().items():
        own = of_group.keys[found[group][of_group.tag]]
        found[group] = {key: value for key, value in found[group].items() if key in own}
    return found


def _environment(values: Mapping[str, Any]) -> dict[str, Any]:
    return {**LATER_OF_ENVIRONMENTS.get(values["kind"], {}), **values}


def _shipped(group: str, option: str) -> dict[str, Any]:
    import yaml

    values = yaml.safe_load((CONF_DIR / group / f"{option}.yaml").read_text(encoding="utf-8"))
    others = [other for other in values.pop("defaults", ()) if other != "_self_"]
    return {key: value for other in others for key, value in _shipped(group, other).items()} | values
