"""Checks of an agent's turns: empty ones, actions that cannot be read, episodes that never finish."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from nat.agents.actions import FINISH, Action, UnparsedAction, parse_action, parse_answer
from nat.quality.marks import Check, Kind, Mark, View
from nat.types import Message

_THOUGHT = re.compile(r"\s{0,8}[*_#]{0,4}thought[ \t]{0,4}[0-9]{0,3}[*_]{0,2}:", re.I)


_FINISH_CALL = re.compile(rf"\b{FINISH}[ \t]{{0,4}}\[", re.I)


OBSERVATION = re.compile(r"\s{0,8}Observation(?: ?[0-9]{1,3})?:[ \t]{0,8}")


_UNKNOWN_NAME = re.compile(r"there is no tool '([^']+)'")


def is_observation(message: Message) -> bool:
    """A tool message, or a user message that says that it is one."""
    return message.role == "tool" or (message.role == "user" and OBSERVATION.match(message.content) is not None)


def read_turns(
    messages: Sequence[Message], tools: Collection[str], errors: Collection[int | None]
) -> tuple[Kind, dict[int, Action | UnparsedAction]]:
    """How the agent writes, and what each of its turns (by index) does."""
    turns = [i for i, message in enumerate(messages) if message.role == "assistant"]
    actions: dict[int, Action | UnparsedAction] = {}
    known = tools
    for i in turns:
        action = _plain_action(messages[i].content, known) or parse_action(messages[i].content, known)
        # A tool that did its work exists, whether or not the settings name it.
        answered = i + 1 < len(messages) and i + 1 not in errors and is_observation(messages[i + 1])
        if isinstance(action, UnparsedAction) and action.kind == "unknown_tool" and answered:
            name = _UNKNOWN_NAME.match(action.reason)
            if name is not None:
                known = (*known, name[1])
                action = parse_action(messages[i].content, known)
        actions[i] = action
    if any(message.tool_calls for message in messages):
        return "tool_calls", actions
    if any(_is_attempt(action) for action in actions.values()) or any(map(is_observation, messages)):
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


def _empty_turns(view: View) -> Iterator[Mark]:
    for i, message in enumerate(view.trajectory.messages):
        if message.role == "assistant" and not message.tool_calls and not message.content.strip():
            yield Mark("empty_turn", i, 0, len(message.content), "")


def _ends_on_user_turn(view: View) -> tuple[Mark, ...]:
    messages = view.trajectory.messages
    if not messages or messages[-1].role != "user" or is_observation(messages[-1]):
        return ()
    return (Mark("ends_on_user_turn", len(messages) - 1, 0, len(messages[-1].content), ""),)


def _unfinished(view: View) -> tuple[Mark, ...]:
    if _is_finished(view):
        return ()
    messages = view.trajectory.messages
    stop = "; ends on an observation" if messages and is_observation(messages[-1]) else ""
    return (Mark("unfinished", None, 0, 0, f"no final answer in {len(view.actions)} agent turns{stop}"),)


def _is_finished(view: View) -> bool:
    """Whether the last turn answers; a record that names a prediction says that its environment took an answer."""
    trajectory, kind, actions = view.trajectory, view.kind, view.actions
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


def _unparsed(view: View) -> Iterator[Mark]:
    messages, kind, actions = view.trajectory.messages, view.kind, view.actions
    if kind == "tool_calls" or not actions:
        return
    if kind == "chain_of_thought":
        last = max(actions)
        actions = {last: parse_answer(messages[last].content)}
    for i, action in actions.items():
        if isinstance(action, UnparsedAction) and messages[i].content.strip():  # an empty turn is reported as such
            yield Mark("unparsed_action", i, 0, len(messages[i].content), action.kind or action.reason)


CHECKS = (
    Check(
        name="empty_turn",
        place=10,
        severity="warning",
        unit="turns",
        says="A turn of the agent holds neither text nor a tool call.",
        remedy="Training on it teaches to say nothing: drop these trajectories (quality.empty_turn=true).",
        find=_empty_turns,
        rule="count",
    ),
    Check(
        name="ends_on_user_turn",
        place=20,
        severity="warning",
        unit="trajectories",
        says="The last message is the user's: the agent's answer to it is missing.",
        remedy=(
            "Look whether the export cut the last turn off, else drop these trajectories "
            "(quality.ends_on_user_turn=true)."
        ),
        find=_ends_on_user_turn,
        rule="switch",
    ),
    Check(
        name="unfinished",
        place=30,
        severity="warning",
        unit="trajectories",
        says="The agent never gives a final answer, and does not abstain either.",
        remedy=(
            "Among failures these are turn limits and cut texts: drop them (quality.unfinished=true) if the agent "
            "should not learn to go on without end."
        ),
        find=_unfinished,
        rule="switch",
    ),
    Check(
        name="unparsed_action",
        place=40,
        severity="warning",
        unit="turns",
        says="A turn of the agent holds no action, or a chain of thought no answer, that nat could carry out.",
        remedy=(
            "In evaluation such a turn fails: drop these trajectories (quality.unparsed_action=true), or name the "
            "tools."
        ),
        find=_unparsed,
        rule="count",
        dates_errors=True,
    ),
)
