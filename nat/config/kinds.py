"""Groups of several kinds: which there are, and the keys of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import fields
from functools import cache
from typing import get_args, get_type_hints

from nat.config.tree import Config


@plain_dataclass(frozen=True)
class Kinds:
    """What a group of several kinds can be: the key that says which kind it is, and the keys of each."""

    tag: str
    keys: Mapping[str, tuple[str, ...]]

    @property
    def known(self) -> list[str]:
        """The keys of all kinds, each once."""
        return list(dict.fromkeys(key for keys in self.keys.values() for key in keys))


@cache
def kinds() -> dict[str, Kinds]:
    """The groups of several kinds, by name, as the types of `Config` say."""
    found = {}
    for group, hint in get_type_hints(Config, include_extras=True).items():
        for note in getattr(hint, "__metadata__", ()):
            if tag := getattr(note, "discriminator", None):
                types = get_args(get_args(hint)[0])
                found[group] = Kinds(tag, {kind: keys for type_ in types for kind, keys in _kinds_of(type_, tag)})
    return found


def _kinds_of(type_: type, tag: str) -> list[tuple[str, tuple[str, ...]]]:
    """The kinds that a type stands for (the formats of trajectory files share one), each with its keys."""
    keys = tuple(field.name for field in fields(type_))
    return [(kind, keys) for kind in get_args(get_type_hints(type_)[tag])]


def group_at(path: Sequence[int | str]) -> str | None:
    """The group of several kinds to which a path leads; a further environment is one of `environment`."""
    match path:
        case (str(group),) if group in kinds():
            return group
        case ("also_in", str()):
            return "environment"
    return None
