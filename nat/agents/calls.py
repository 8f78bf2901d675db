"""A structured tool call, in any of the shapes that files have.

{"id": "c1", "type": "function", "function": {"name": "calculate", "arguments": "{\\"expression\\": \\"2 + 3\\"}"}}
{"type": "tool_use", "id": "t1", "name": "calculate", "input": {"expression": "2 + 3"}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

NAMES = ("name", "function_name", "tool_name", "function", "tool")
ARGUMENTS = ("arguments", "args", "parameters", "input", "kwargs", "tool_args", "tool_input")


class Call(NamedTuple):
    """What a structured call asks for. `arguments` are as they stand: an object, or the text of one."""

    name: str
    arguments: Any


def read_call(call: Mapping[str, Any]) -> Call | None:
    """The call that an object of `tool_calls` makes; None where it names no tool.

    OpenAI puts name and arguments under `function`, others beside `type`, Inspect the name itself; NAMES and ARGUMENTS
    are what these are called.
    """
    function = call.get("function")
    function = function if isinstance(function, Mapping) else call
    name = next((function[key] for key in NAMES if isinstance(function.get(key), str) and function[key]), None)
    if name is None:
        return None
    return Call(name, next((function[key] for key in ARGUMENTS if function.get(key) is not None), None))


def call_length(call: Mapping[str, Any]) -> int:
    """Characters of its name and arguments."""
    read = read_call(call)
    if read is None:
        return 0
    given = read.arguments
    written = given if isinstance(given, str) else "" if given is None else json.dumps(given, default=str)
    return len(read.name) + len(written)
