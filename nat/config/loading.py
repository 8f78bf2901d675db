"""The whole configuration as dataclasses, and the one strict way from a composed YAML tree into them.

Hydra composes loosely; `load` merges once and refuses unknown keys (also those added with `+` and `++`), values of
another type and combinations that cannot work. Nothing here imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nat.config.errors import describe
from nat.config.kinds import kinds
from nat.config.tree import Config
from nat.types import RequestError


def load(tree: Mapping[str, Any], overrides: Sequence[str] = (), *, inputs: bool = True) -> Config:
    """Check a composed tree (plain containers) and make it a `Config`.

    `overrides` are those of the command line: naming one of `training.max_steps` and `training.epochs` there clears
    the other. Raises RequestError that names each wrong key in full, its value and the remedy.
    """
    tree = _without_what_is_set_aside(_clear_other_budget(tree, overrides))
    try:
        # Through JSON, because pydantic's strict mode then takes objects for dataclasses and arrays for tuples.
        text = json.dumps(tree, allow_nan=False)
    except ValueError:
        raise RequestError("a value is nan or infinite; every number of the configuration must be finite.") from None
    try:
        config = TypeAdapter(Config).validate_json(text, strict=True)
    except ValidationError as error:
        raise RequestError(describe(error, tree, _named(overrides))) from None
    config.check(inputs=inputs)
    return config


def _clear_other_budget(tree: Mapping[str, Any], overrides: Sequence[str]) -> Mapping[str, Any]:
    named = _named(overrides)
    training = tree.get("training")
    if isinstance(training, Mapping):
        for given, other in (("max_steps", "epochs"), ("epochs", "max_steps")):
            if f"training.{given}" in named and f"training.{other}" not in named and training.get(given) is not None:
                return {**tree, "training": {**training, other: None}}
    return tree


def _named(overrides: Sequence[str]) -> set[str]:
    return {override.lstrip("+").partition("=")[0] for override in overrides}


def _without_what_is_set_aside(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree without what stands in it for another kind of a group than the chosen one, where that is meant so.

    Hydra's files add up, and none can delete: null takes out a key that another file has set for another kind (an
    experiment's `trajectories.successes`, where a scale reads files), and a whole environment out of `also_in`. Where
    nothing is trained, all keys of training are set aside: a sweep gives `training.max_steps` to its `method=base` too.
    """
    found = dict(tree)
    for group, of_group in kinds().items():
        if isinstance(values := tree.get(group), Mapping):
            kind = values.get(of_group.tag)
            elsewhere = set(of_group.known) - set(of_group.keys.get(str(kind), of_group.known))
            is_idle = group == "training" and kind == "none"
            found[group] = {k: v for k, v in values.items() if k not in elsewhere or not (is_idle or v is None)}
    if isinstance(further := tree.get("also_in"), Mapping):
        found["also_in"] = {name: given for name, given in further.items() if given is not None}
    return found
