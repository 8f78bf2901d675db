"""Checks of an agent's turns: empty ones, actions that cannot be read, episodes that never finish."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from nat.agents.actions import FINISH, Action, UnparsedAction, parse_action, parse_answer
from nat.quality.marks import Kind, Mark
from nat.types import Message, Trajectory

_THOUGHT = re.compile(r"\s{0,8}[*_#]{0,4}thought[ \t]{0,4}[0-9]{0,3}[*_]{0,2}:", re.I)


_FINISH_CALL = re.compile(rf"\b{FINISH}[ \t]{{0,4}}\[", re.I)


_OBSERVATION = re.compile(r"\s{0,8}Observation(?: ?[0-9]{1,3})?:[ \t]{0,8}")


_UNKNOWN_NAME = re.compile(r"there is no tool '([^']+)'")


def _is_observation(message: Message) -> bool:
    """A tool message, or a user message that says that it is one."""
    return message.role == "tool" or (message.role == "user" and _OBSERVATION.match(message.content) is not None)


def _read_turns(
    messages: Sequence[Message], tools: Collection[str], errors: Collection[int | None]
) -> tuple[Kind, dict[int, Action | UnparsedAction]]:
    """How the agent writes, and what each of its turns (by index) does."""
    turns = [i for i, message in enumerate(messages) if message.role == "assistant"]
    actions: dict[int, Action | UnparsedAction] = {}
    known = tools
    for i in turns:
        action = _plain_action(messages[i].content, known) or parse_action(messages[i].content, known)
        # A tool that did its work exists, whether or not the settings name it.
        answered = i + 1 < len(messages) and i + 1 not in errors and _is_observation(messages[i + 1])
        if isinstance(action, UnparsedAction) and action.kind == "unknown_tool" and answered:
            name = _UNKNOWN_NAME.match(action.reason)
            if name is not None:
                known = (*known, name[1])
                action = parse_action(messages[i].content, known)
        actions[i] = action
    if any(message.tool_calls for message in messages):
        return "tool_calls", actions
    if any(_is_attempt(action) for action in actions.values()) or any(map(_is_observation, messages)):
        return "react", actions
    named = any(isinstance(parse_answer(messages[i].content), Action) for i in turns)
    if not named and any(_THOUGHT.match(messages[i].content) for i in turns):
        return "react", actions
    return "chain_of_thought", actions


def _plain_action(turn: str, tools: Collection[str]) -> Action | None:
    """What `parse_action` gives for the turns as most are written, at a fifth of its time; None for any other turn.

    Such a turn says "action" once, before a known name in lower case and an input without brackets that ends the text.
    """
    at = turn.find("\nAction: ")
    opening = turn.find("[", at)
    if at < 0 or opening < 0 or turn[-1] != "]":
        return None
    name, input = turn[at + len("\nAction: ") : opening], turn[opening + 1 : -1]
    if (name != FINISH and name not in tools) or not name.islower() or turn.lower().count("action") != 1:
        return None
    if "[" in input or "]" in input or "\n" in input or not input.isascii():
        return None
    return Action(name, input.strip())


def _is_attempt(action: Action | UnparsedAction) -> bool:
    return isinstance(action, Action) or action.kind in ("wrong_brackets", "unknown_tool", "open_bracket")


def _empty_turns(messages: Sequence[Message]) -> Iterator[Mark]:
    for i, message in enumerate(messages):
        if message.role == "assistant" and not message.tool_calls and not message.content.strip():
            yield Mark("empty_turn", i, 0, len(message.content), "")


def _is_finished(trajectory: Trajectory, kind: Kind, actions: Mapping[int, Action | UnparsedAction]) -> bool:
    """Whether the last turn answers; a record that names a prediction says that its environment took an answer."""
    if trajectory.outcome.prediction is not None or trajectory.outcome.failure == "abstained":
        return True
    if not actions:
        return False
    last = max(actions)
    action, message = actions[last], trajectory.messages[last]
    # Of a run-on turn that makes up its own observations, a later action may finish.
    if (isinstance(action, Action) and action.tool == FINISH) or _FINISH_CALL.search(message.content):
        return True
    if kind == "react":
        return False
    if kind == "tool_calls":
        calls = [call.get("function") for call in message.tool_calls]
        if any(isinstance(call, Mapping) and str(call.get("name")).lower() == FINISH for call in calls):
            return True
        return last == len(trajectory.messages) - 1 and not calls and message.content.strip() != ""
    return isinstance(parse_answer(message.content), Action)


def _unparsed(
    messages: Sequence[Message], kind: Kind, actions: Mapping[int, Action | UnparsedAction]
) -> Iterator[Mark]:
    if kind == "tool_calls" or not actions:
        return
    if kind == "chain_of_thought":
        last = max(actions)
        actions = {last: parse_answer(messages[last].content)}
    for i, action in actions.items():
        if isinstance(action, UnparsedAction) and messages[i].content.strip():  # an empty turn is reported as such
            yield Mark("unparsed_action", i, 0, len(messages[i].content), action.kind or action.reason)
