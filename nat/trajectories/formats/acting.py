"""What an agent does in a step, as loops log it: actions by all their names, and what was observed.

{"tool_name": "get_pods", "tool_args": {"ns": "x"}}     a call as it stands
{"type": "click", "at": 3}, {"click": {"at": 3}}        the call click(at=3)
"get_pods[x]"                                           a text action
"get_pods" beside the input {"ns": "x"}                 the call get_pods(ns=x)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from nat.agents.calls import ARGUMENTS, NAMES, read_call
from nat.core.rows.bad import BadRow
from nat.trajectories.formats.turns import json_in, text_of

STEPS = ("steps", "trajectory", "intermediate_steps", "history")
THOUGHTS = ("thought", "thoughts", "reasoning", "thinking", "think", "rationale", "reasoning_content")
ACTIONS = ("action", "actions", "tool_calls", "tool_call", "function_call", "code_action")
INPUTS = ("action_input", "action_inputs", "action_args", "action_arguments", *ARGUMENTS, "params")
AFTER = ("next_observation", "next_obs", "new_observation")
OBSERVATIONS = (*AFTER, "observation", "observations", "obs", "tool_output", "tool_response", "tool_result", "result")
WRITTEN = ("response", "model_output", "llm_output", "raw_output", "raw_response")  # the whole text of the turn
_NAMES = (*NAMES, "action", "action_name", "action_type", "type", "api")
_THOUGHT = re.compile(r"\s*Thought(?: ?\d+)?:", re.I)
_ACTION = re.compile(r"\s*Action(?: ?\d+)?:", re.I)
_OF_MESSAGES = ("role", "from", "source")  # members of what is another format's


def steps_key(value: Mapping[str, Any]) -> str | None:
    return next((key for key in STEPS if are_steps(value.get(key))), None)


def are_steps(values: Any) -> bool:
    """Whether one of the first members shows a step; those before may hold a task or a plan."""
    if not isinstance(values, list) or any(isinstance(step, Mapping) and _is_message(step) for step in values[:1]):
        return False
    return any(map(_is_step, values[:3]))


def _is_message(step: Mapping[str, Any]) -> bool:
    return any(isinstance(step.get(key), str) for key in _OF_MESSAGES)


def _is_step(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) == 2 and isinstance(value[0], Mapping) and read_call(unwrapped(value[0])) is not None
    if not isinstance(value, Mapping) or _is_message(value):
        return False
    acts = any(key in value for key in (*ACTIONS, *WRITTEN)) or ("tool" in value or "tool_name" in value)
    return acts and any(key in value for key in (*THOUGHTS, *OBSERVATIONS, *INPUTS))


def calls_of(action: Any, input: Any, where: str) -> tuple[tuple[Mapping[str, Any], ...], str | None]:
    """The calls of an action, or its text where it is text."""
    if action is None:
        return (), None
    if isinstance(action, str):
        if input is not None:
            return ({"name": action.strip(), "arguments": input},), None
        written = json_in(action) if action.lstrip()[:1] in ("{", "[") else None
        if isinstance(written, list) and not (written and all(isinstance(call, Mapping) for call in written)):
            written = None
        calls = () if written is None else _structured(written)
        return (calls, None) if calls else ((), action)
    if isinstance(action, list) and action and all(isinstance(part, str) for part in action):
        return (), "\n".join(action)
    calls = _structured(action, input)
    if not calls:
        problem = f"an action is {action!r:.80}; it must be text, or an object that names a tool."
        raise BadRow(where, "wrong_value", problem)
    return calls, None


def _structured(action: Any, input: Any = None) -> tuple[Mapping[str, Any], ...]:
    """The calls of an object or a list of them; none where one names no tool."""
    given = action if isinstance(action, list) else [action]
    calls = tuple(call_of(one, input) if isinstance(one, Mapping) else None for one in given)
    return tuple(call for call in calls if call is not None) if None not in calls else ()


def call_of(value: Mapping[str, Any], input: Any = None) -> Mapping[str, Any] | None:
    """The call that an object makes; None where it names no tool. `input` is what stands beside it.

    It stays as it is where `tool_calls.read_call` finds all of it; else it is written with `name` and `arguments`:
    {"type": "click", "at": 3} is click(at=3), and so is {"click": {"at": 3}}.
    """
    value = unwrapped(value)
    own = {key: member for key, member in value.items() if key not in ("log", "message_log", "thought", *THOUGHTS)}
    read = read_call(own)
    if read is not None and read.arguments is not None:
        return own
    if isinstance(own.get("function"), Mapping):
        return own if read is not None else None
    named = next((key for key in _NAMES if isinstance(own.get(key), str) and own[key]), None)
    if named is None:
        ((name, arguments),) = own.items() if len(own) == 1 else ((None, None),)
        is_name = isinstance(name, str) and re.fullmatch(r"[A-Za-z_][\w.-]{0,63}", name) is not None
        return {"name": name, "arguments": arguments} if is_name else None
    beside = ("id", "call_id", "tool_call_id", *(("type",) if own.get("type") in ("function", "tool") else ()))
    rest = {key: member for key, member in own.items() if key not in (named, *beside) and member is not None}
    inner = next((rest[key] for key in INPUTS if key in rest), None)
    if inner is None:
        inner = input if input is not None and not rest else rest
    elif len(rest) > 1:
        inner = rest
    if not inner and read is not None and input is None:
        return own
    return {"name": own[named], "arguments": inner}


def unwrapped(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """What LangChain's own serialisation holds."""
    inner = value.get("kwargs")
    return inner if "lc" in value and isinstance(inner, Mapping) else value


def observation_text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, Mapping) and set(value) <= {"type", "message"} and isinstance(value.get("message"), str):
        return value["message"]  # of an error
    if isinstance(value, list):
        try:
            return text_of(value, "")
        except BadRow:
            return json_text(value)
    return json_text(value)


def with_action(thought: str, action: str) -> str:
    """The text of a turn: its thought, and its text action as `Action: ...`; the thought where that says both."""
    if action.strip() and action.strip() in thought:
        return thought
    written = action if _ACTION.match(action) else f"Action: {action}"
    return f"{as_thought(thought)}\n{written}" if thought else written


def as_thought(thought: str) -> str:
    return thought if _THOUGHT.match(thought) else f"Thought: {thought}"


def json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
