"""The ReAct turn: how an agent's text becomes an action, and an action text.

Thought: 3 boxes of 12 pencils make 36 pencils.
Action: calculate[3 * 12]
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass as plain_dataclass

from pydantic.dataclasses import dataclass

from nat.schema import STRICT

FINISH = "finish"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AgentConfig:
    """Values and their meaning: conf/agent/."""

    name: str
    system: str | None


@plain_dataclass(frozen=True)
class Action:
    tool: str
    input: str


@plain_dataclass(frozen=True)
class UnparsedAction:
    """`reason` is written for the agent: it becomes part of an observation."""

    reason: str


# Repetitions are bounded so that a megabyte of spaces cannot make the search quadratic.
_MARKER = re.compile(r"\baction[ \t]{0,4}[0-9]{0,3}[ \t]{0,4}\*{0,2}[ \t]{0,4}:", re.IGNORECASE)
_CALL = re.compile(r"[\s*`]{0,8}([A-Za-z_][A-Za-z0-9_-]{0,63})[ \t]{0,4}\[")


def parse_action(text: str, tools: Collection[str]) -> Action | UnparsedAction:
    """Read the first action of a turn; everything after its closing bracket is ignored.

    `tools` are the tools' names; `finish` is always known. Names are compared without regard to case and returned as
    the environment spells them. Brackets inside the input are kept if they are balanced.
    """
    names = {name.lower(): name for name in (*tools, FINISH)}
    marked = False
    for marker in _MARKER.finditer(text):
        marked = True
        call = _CALL.match(text, marker.end())
        if call is None:
            continue  # "the next action: add them up" is prose; an action may still follow
        name = names.get(call[1].lower())
        if name is None:
            return UnparsedAction(f"there is no tool {call[1][:40]!r}; use one of {', '.join(sorted(names.values()))}")
        end = _closing_bracket(text, call.end())
        if end is None:
            return UnparsedAction(f"the bracket after {name!r} is never closed")
        return Action(name, text[call.end() : end].strip())
    if marked:
        return UnparsedAction("after 'Action:' comes no tool[input]")
    return UnparsedAction("there is no line 'Action: tool[input]'")


def _closing_bracket(text: str, start: int) -> int | None:
    """Index of the bracket that closes the input starting at `start`.

    An input that opens more brackets than it closes ends at the last bracket of its line.
    """
    following = _MARKER.search(text, start)
    limit = following.start() if following else len(text)
    depth = 1
    for bracket in re.finditer(r"[\[\]]", text[start:limit]):
        depth += 1 if bracket[0] == "[" else -1
        if depth == 0:
            return start + bracket.start()
    line_end = text.find("\n", start, limit)
    last = text.rfind("]", start, limit if line_end < 0 else line_end)
    return None if last < 0 else last


def render_turn(thought: str, tool: str, input: str) -> str:
    """The text of one agent turn, as models are trained to write it."""
    return f"Thought: {thought}\nAction: {tool}[{input}]"
