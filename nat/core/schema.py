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
    WHERE_SET = "came after cells had been run: null is what they were run with"


OF_NO_EFFECT = Effect.NONE  # as Annotated[int, OF_NO_EFFECT]: the key stays out of a cell's hash
WHERE_SET = Effect.WHERE_SET  # as Annotated[str | None, WHERE_SET]: it stands in the hash where it is not null


def values_of_effect(config: Any) -> Any:
    """A config dataclass as `dataclasses.asdict` gives it, without keys OF_NO_EFFECT and null ones WHERE_SET."""
    if is_dataclass(config):
        named, where_set = _marked(type(config))
        values = {name: getattr(config, name) for name in named}
        return {k: values_of_effect(value) for k, value in values.items() if value is not None or k not in where_set}
    if isinstance(config, Mapping):
        return {name: values_of_effect(value) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return [values_of_effect(value) for value in config]
    return config


@cache
def _marked(type_: type) -> tuple[tuple[str, ...], frozenset[str]]:
    """The keys that have an effect, and those of them that have none where they are null."""
    hints = get_type_hints(type_, include_extras=True)
    marks = {field.name: getattr(hints[field.name], "__metadata__", ()) for field in fields(type_)}
    named = tuple(name for name, marked in marks.items() if OF_NO_EFFECT not in marked)
    return named, frozenset(name for name in named if WHERE_SET in marks[name])
