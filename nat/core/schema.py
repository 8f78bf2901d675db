"""How config dataclasses are checked: unknown keys and values of another type are refused."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, TypeAlias, get_type_hints

from pydantic import ConfigDict, Field

# Deferred, because the whole configuration's check is built of all of them once: a tenth of a second per command.
STRICT = ConfigDict(extra="forbid", strict=True, defer_build=True)

Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class Effect(Enum):
    """What a key's annotation says of it, besides its type."""

    NONE = "decides where things lie, what they cost or how they are shown, never what a run finds"


OF_NO_EFFECT = Effect.NONE  # as Annotated[int, OF_NO_EFFECT]: the key stays out of a cell's hash


def values_of_effect(config: Any) -> Any:
    """A config dataclass as `dataclasses.asdict` gives it, without the keys marked OF_NO_EFFECT."""
    if is_dataclass(config):
        named = _of_effect(type(config))
        return {name: values_of_effect(getattr(config, name)) for name in named}
    if isinstance(config, Mapping):
        return {name: values_of_effect(value) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return [values_of_effect(value) for value in config]
    return config


@cache
def _of_effect(type_: type) -> tuple[str, ...]:
    hints = get_type_hints(type_, include_extras=True)
    return tuple(
        field.name for field in fields(type_) if OF_NO_EFFECT not in getattr(hints[field.name], "__metadata__", ())
    )
