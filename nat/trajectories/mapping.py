"""Mapping files: where things stand in records of a format that nat does not know, a few lines of YAML.

    turns: log               # JMESPath expressions (https://jmespath.org)
    role: who
    content: said
    label: result.solved
    roles: {caller: user, bot: assistant}

`records` is applied to what a file holds, `turns` and the keys of an episode to a record, `role`, `content`,
`reasoning`, `calls`, `observation` and `train` to a turn, `name` and `arguments` to a call.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import fields
from functools import cache
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from nat.core.schema import STRICT
from nat.types import RequestError

LARGEST = 2**16  # bytes of a mapping file: a few lines
PAGE = "docs/formats.md, section 'mapped: anything else'"
_NUMBER = re.compile(r"[-\d]")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class MappingFile:
    """What a mapping file says: JMESPath expressions, and what names of roles mean. Null: there is none."""

    records: str | None = None  # of a file or a line that holds several
    turns: str | None = None  # None: the record is one turn
    role: str | None = None  # None: every turn is the agent's
    content: str | None = None
    reasoning: str | None = None
    calls: str | None = None
    name: str | None = None  # of a call; without `calls`, of the turn itself
    arguments: str | None = None
    observation: str | None = None  # what was seen after a turn: one, or one a call
    train: str | None = None  # whether a turn carries loss: true or false, or its weight
    label: str | None = None
    task: str | None = None
    question: str | None = None
    id: str | None = None
    tools: str | None = None
    reference: str | None = None
    prediction: str | None = None
    roles: dict[str, Literal["system", "user", "assistant", "tool", "skip"]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _expressions_are_readable(self) -> MappingFile:
        for key, expression in self.expressions():
            if problem := _problem(expression):
                raise ValueError(f"{key}: {problem}")
        if not any((self.content, self.calls, self.name)):
            raise ValueError("content: is missing; say where the text of a turn stands, or its calls")
        if self.arguments and not (self.calls or self.name):
            raise ValueError("arguments: of which call? Say its name too, or where the calls stand (calls)")
        if self.roles and not self.role:
            raise ValueError("roles: there is no role that they could name; say where it stands in a turn (role)")
        return self

    def expressions(self) -> Iterator[tuple[str, str]]:
        """The expressions that are given, by key."""
        for field in fields(self):
            expression = getattr(self, field.name)
            if isinstance(expression, str):
                yield field.name, expression


@plain_dataclass(frozen=True)
class Found:
    """Expressions that found something so far. What never does is misspelt, or needless."""

    keys: set[str]


@plain_dataclass(frozen=True)
class Finder:
    """The expressions of a mapping file, ready to be applied."""

    path: str
    file: MappingFile
    compiled: Mapping[str, Any]
    found: Found

    def has(self, key: str) -> bool:
        return key in self.compiled

    def find(self, key: str, value: Any) -> Any:
        """What the expression of a key finds; None where there is none. Raises ValueError where it cannot be applied.

        One such is `join` of what is no text.
        """
        if key not in self.compiled:
            return None
        try:
            found = self.compiled[key].search(value)
        except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
            said = str(error).splitlines()
            raise ValueError(
                f"{self.named(key)} cannot be applied: {said[0] if said else type(error).__name__}"
            ) from None
        if found is not None:
            self.found.keys.add(key)
        return found

    def named(self, key: str) -> str:
        """A key with its expression, for errors."""
        return f"{key}: {getattr(self.file, key)}"

    def never_found(self) -> list[str]:
        return [key for key in self.compiled if key not in self.found.keys]


def finder(file: MappingFile, path: str = "") -> Finder:
    return Finder(path, file, {key: _compiled(expression) for key, expression in file.expressions()}, Found(set()))


def read_mapping(path: str | None) -> Finder:
    """The mapping of a file. Raises RequestError that names file, key, value and remedy."""
    if path is None:
        raise RequestError(
            "trajectories.map=null: say which file maps the records, e.g. trajectories.map=mapping.yaml. What stands "
            f"in it: {PAGE}; nat audit FILE drafts one."
        )
    # Through JSON, because pydantic's strict mode then takes objects for dataclasses.
    text = json.dumps(_yaml(path), default=str)
    try:
        return finder(TypeAdapter(MappingFile).validate_json(text, strict=True), path)
    except ValidationError as error:
        said = "\n".join(f"trajectories.map={path}: {_described(dict(item))}" for item in error.errors()[:3])
        raise RequestError(said) from None


def _yaml(path: str) -> Any:
    import yaml

    try:
        with open(path, "rb") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise RequestError(f"trajectories.map={path}: more than {LARGEST >> 10} KiB; a mapping is a few lines.")
        value = yaml.safe_load(text)
    except OSError as error:
        raise RequestError(f"trajectories.map={path}: cannot be read ({error.strerror or error}).") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        place = getattr(error, "problem_mark", None)
        line = f":{place.line + 1}" if place is not None else ""
        problem = getattr(error, "problem", None) or type(error).__name__
        remedy = "An expression with ': ', ' #' or quotes in it stands in quotes of its own."
        raise RequestError(f"trajectories.map={path}{line}: not YAML: {problem}.\n{remedy}") from None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise RequestError(f"trajectories.map={path}: holds no keys with values, e.g. 'turns: messages'; see {PAGE}.")
    return value


def _described(item: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in item["loc"])
    value = item.get("input")
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    if item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = [field.name for field in fields(MappingFile)]
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        return f"{key}: there is no such key; " + (
            f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
        )
    if item["type"] == "literal_error":
        return f"{key}={value!r:.60}: it must be {item['ctx']['expected']} (skip leaves such turns out)"
    if item["type"] == "string_type":
        return f"{key}={value!r:.60}: it must be a JMESPath expression, as text; in YAML, put it in quotes"
    return f"{key}={value!r:.60}: {item['msg']}"


# ---- expressions ----


@cache
def _compiled(expression: str) -> Any:
    import jmespath

    return jmespath.compile(expression)


def _problem(expression: str) -> str | None:
    """What is wrong with an expression, with its place and a remedy; None where nothing is."""
    from jmespath.exceptions import EmptyExpressionError, JMESPathError

    try:
        parsed = _compiled(expression).parsed
    except EmptyExpressionError:
        return "is empty; give a JMESPath expression, or leave the key out"
    except RecursionError:
        return f"{expression!r:.60} is nested too deeply"
    except JMESPathError as error:
        place = getattr(error, "lex_position", None)
        token = getattr(error, "token_value", None)
        at = f"it cannot be read on at character {place + 1}" if isinstance(place, int) else "it cannot be read"
        if isinstance(place, int) and place >= len(expression):
            at = f"it ends too early, at character {place}"
        near = f", {token!r:.20}" if token is not None else ""
        remedy = ""
        if isinstance(token, int) or (isinstance(token, str) and re.fullmatch(r"-|[-\d.]*\d[-\d.]*", token)):
            remedy = '; numbers stand in backticks (score >= `0.5`), other names in double quotes ("my-key")'
        return f"{expression!r:.100} is no JMESPath expression: {at}{near}{remedy}"
    problem = next(filter(None, map(_wrong_node, _nodes(parsed))), None)
    return problem and f"{expression!r:.100}: {problem}"


def _nodes(node: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, Mapping):
        yield node
        for child in node.get("children") or []:
            yield from _nodes(child)


def _wrong_node(node: Mapping[str, Any]) -> str | None:
    """What only applying an expression would show."""
    from jmespath.functions import Functions

    if node.get("type") == "slice" and node["children"][2] == 0:
        return "the step of a slice is 0; give another number"
    if node.get("type") != "function_expression":
        return None
    known = Functions.FUNCTION_TABLE
    name, n = str(node["value"]), len(node["children"])
    if name not in known:
        close = difflib.get_close_matches(name, list(known), n=1)
        return f"there is no function {name}(); " + (
            f"did you mean {close[0]}()?" if close else "see https://jmespath.org"
        )
    signature = known[name]["signature"]
    is_variadic = bool(signature) and bool(signature[-1].get("variadic"))
    if n < len(signature) or (n > len(signature) and not is_variadic):
        return f"{name}() takes {len(signature)} arguments, and {n} are given"
    return None


def path_of(expression: str) -> tuple[str, ...]:
    """The keys that lead to what an expression finds: ("output", "history") of `output.history[?said]`.

    Nothing where it begins otherwise: with a function, or with several members.
    """
    node: Any = _compiled(expression).parsed
    while node.get("type") in ("index_expression", "projection", "filter_projection", "pipe", "flatten"):
        node = node["children"][0]
    parts = node["children"] if node.get("type") == "subexpression" else [node]
    path: list[str] = []
    for part in parts:
        if part.get("type") != "field":
            break
        path.append(str(part["value"]))
    return tuple(path)
