"""What a wrong configuration is answered with: the full key, the value, and the remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nat.config.kinds import group_at, kinds
from nat.config.options import shipped
from nat.config.tree import Config

SHOWN_ERRORS = 3  # wrong values listed before "and N more": an error stays on a few lines


IN_FULL = 3  # options listed as GROUP=OPTION each; of more, the group is named once


def describe(error: ValidationError, tree: Mapping[str, Any], named: Collection[str]) -> str:
    lines = [_describe_one(dict(item), tree, named) for item in error.errors()]
    lines = list(dict.fromkeys(lines))
    more = [f"... and {len(lines) - SHOWN_ERRORS} more wrong values"] if len(lines) > SHOWN_ERRORS else []
    return "\n".join(lines[:SHOWN_ERRORS] + more)


def _describe_one(item: dict[str, Any], tree: Mapping[str, Any], named: Collection[str]) -> str:
    path, value, siblings = _locate(item["loc"], tree)
    key = ".".join(str(part) for part in path) or "config"
    match item["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            if (group := group_at(path[:-1])) and (others := who_has(path)):
                # Another file may have set it, as experiments do; what was typed is simply left out.
                remedy = "" if key in named else f"; {key}=null takes it out"
                return f"{key}={_shown(value)}: {_chosen(group, siblings)} has no such key; {others}{remedy}"
            own = list(kinds()[group].keys[siblings[kinds()[group].tag]]) if group else []
            known = own or field_names(path[:-1])
            name = str(path[-1])
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            if not close and group and (close := difflib.get_close_matches(name, field_names(path[:-1]), n=1)):
                others = who_has([*path[:-1], *close])
                return f"{key}={_shown(value)}: there is no such key; did you mean {close[0]!r}? {others}"
            left = [name for name in known if name not in siblings] or known
            hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(left)}"
            return f"{key}={_shown(value)}: there is no such key; {hint}"
        case "missing" | "missing_argument":
            return f"{key}: is missing; it must be given: in its YAML file, or as +{key}=VALUE"
        case "value_error":
            message = str(item["ctx"]["error"])
            # A check over several fields begins with the name of the one to change.
            names_field = isinstance(value, Mapping) and re.match(r"\w+", message)[0] in value  # type: ignore[index]
            return f"{key}.{message}" if names_field else f"{key}: {message}"
        case "literal_error":
            return f"{key}={_shown(value)}: it must be one of {item['ctx']['expected']}"
        case "union_tag_invalid":
            tag = item["ctx"]["discriminator"].strip("'")
            return f"{key}.{tag}={item['ctx']['tag']!r}: it must be one of {item['ctx']['expected_tags']}"
        case "union_tag_not_found" | "dict_type" if path[0] == "also_in" and len(path) == 2:
            return f"{key}={value!r}: it must be a whole environment; choose one with +environment@{key}=arithmetic"
    if item["type"] in ("greater_than_equal", "less_than", "greater_than", "less_than_equal"):
        return f"{key}={value!r}: it must be {item['msg'].removeprefix('Input should be ')}"
    wanted = item["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    if value is None:
        return f"{key}=null: it must be given, as {_with_article(wanted)}"
    return f"{key}={value!r}: it must be {_with_article(wanted)}, not {type(value).__name__}"


def _shown(value: Any) -> str:
    return "null" if value is None else repr(value)


def who_has(path: Sequence[int | str]) -> str | None:
    """Which options of a group have a key that its other kinds have not; None where none, or every kind, has it."""
    for depth in range(1, len(path)):
        if group := group_at(path[:depth]):
            of_group = kinds()[group]
            having = [kind for kind, keys in of_group.keys.items() if path[depth] in keys]
            if not 0 < len(having) < len(of_group.keys) or path[-1] not in field_names(path[:-1]):
                return None
            options = [option for option, kind in _kinds_of_options(group).items() if kind in having]
            *others, last = options if len(options) > IN_FULL else [f"{group}={option}" for option in options]
            if not others:
                return f"{last} has it"
            return f"{f'{group}=' * (len(options) > IN_FULL)}{', '.join(others)} and {last} have it"
    return None


def _chosen(group: str, values: Mapping[str, Any]) -> str:
    """A kind as a user chooses it: most are options of that name."""
    tag = kinds()[group].tag
    kind = str(values.get(tag))
    return f"{group}={kind}" if kind in _kinds_of_options(group) else f"{group}.{tag}={kind}"


@cache
def _kinds_of_options(group: str) -> dict[str, str]:
    """Option to kind, of the shipped options that say so themselves (and not through another option's file)."""
    tag = kinds()[group].tag
    return {option: str(values[tag]) for option, values in shipped(group).items() if tag in values}


def _with_article(noun: str) -> str:
    nouns = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false"}
    nouns |= {"list": "a list", "array": "a list"}
    return nouns.get(noun, noun)


def _locate(loc: Sequence[int | str], tree: Any) -> tuple[list[int | str], Any, Mapping[str, Any]]:
    """The path of an error without pydantic's union tags, the value there, and the keys beside it with their values."""
    path: list[int | str] = []
    value: Any = tree
    siblings: Mapping[str, Any] = tree
    is_tag = False  # what follows a group of several kinds in `loc` is its kind
    for depth, part in enumerate(loc):
        if is_tag:
            is_tag = False
            continue
        if isinstance(value, Mapping) and (part in value or depth == len(loc) - 1):
            siblings = {str(key): of_key for key, of_key in value.items()}
            path.append(part)
            value = value.get(part)
            is_tag = group_at(path) is not None
        elif isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
            path.append(part)
            value = value[part]
    return path, value, siblings


def field_names(path: Sequence[int | str]) -> list[str]:
    """The keys that exist at a path of the default schema (of every kind, where a group has several)."""
    schema = _schema()
    nodes = [schema]
    for part in path:
        following = []
        for node in nodes:
            child = node.get("items") if isinstance(part, int) else node.get("properties", {}).get(part)
            if child is None and isinstance(named := node.get("additionalProperties"), dict):
                child = named  # names are the user's own, as in `also_in`
            following += _resolve(child, schema) if child else []
        nodes = following
    return list(dict.fromkeys(name for node in nodes for name in node.get("properties", {})))


@cache
def _schema() -> dict[str, Any]:
    return TypeAdapter(Config).json_schema()


def _resolve(node: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in node:
        return [schema["$defs"][node["$ref"].rpartition("/")[2]]]
    options = node.get("oneOf") or node.get("anyOf")
    return [found for option in options for found in _resolve(option, schema)] if options else [node]
