"""What formats of ReAct episodes share: observations in user messages, a last one that tells the outcome, and `info`.

An agent's turn and what it sees (the second shows the label, so it is set aside and no message of the trajectory):

    {"role": "assistant", "content": "Thought: Both names agree.\\nAction: finish[Seth MacFarlane]"}
    {"role": "user", "content": "Observation: Episode finished, reward = True"}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from nat.agents import FINISH, Action, parse_action
from nat.environments.scoring import is_abstention
from nat.trajectories.json_lines import BadRow, optional, require
from nat.types import Failure, Message, Outcome, Role

# The tools of the published episodes. Another one was no tool there either: its action could not be carried out.
TOOLS = ("search", "lookup", "calculate", "calculator")

_OBSERVATION = re.compile(r"Observation(?: ?\d+)?:[ \t]*")
_QUESTION = re.compile(r"\s*Question:[ \t]*")
_END = re.compile(r"Episode finished(?:,\s*reward\s*=\s*(?P<reward>[\w.-]+))?[\s.]*")
_LABELS = {"true": 1.0, "false": 0.0}
_LABEL_REMEDY = (
    "\nEvery trajectory needs its label: 'reward', 'em' or 'acc' (true or false), or a last message "
    "'Observation: Episode finished, reward = True'."
)


def read_messages(values: Sequence[Any], where: str) -> list[Message]:
    """Messages of `role`, `content` and, where given, `loss` (false: the turn does not train); else as they stand."""
    return [_message(value, where) for value in values]


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, dict):
        problem = f"a message is {value!r:.80}; it must be an object with 'role' and 'content'."
        raise BadRow(where, "wrong_value", problem)
    role = require(value, "role", str, where)
    if role not in get_args(Role):
        raise BadRow(where, "wrong_value", f"unknown role {role!r}; the roles are {', '.join(get_args(Role))}.")
    loss = optional(value, "loss", bool, where)
    return Message(role, require(value, "content", str, where), role != "assistant" or loss is not False)


def split_prompt(messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    """What comes before the agent's first turn, and the rest. An episode that begins with an action has no prompt."""
    first = next((i for i, message in enumerate(messages) if message.role == "assistant"), len(messages))
    return list(messages[:first]), list(messages[first:])


def question_in(prompt: Sequence[Message], where: str) -> str:
    """The question that the last user message of a prompt asks."""
    asked = [_QUESTION.sub("", message.content, count=1).strip() for message in prompt if message.role == "user"]
    if not asked or not asked[-1]:
        raise BadRow(where, "missing_value", "no user message with the question stands before the agent's first turn.")
    return asked[-1]


def episode(messages: Sequence[Message], where: str) -> tuple[tuple[Message, ...], str | None]:
    """The episode from the agent's first turn, and the text of the observation that ended it (None: there is none).

    Observations in user messages lose `Observation:` and become tool messages; all else stays as it is. Raises BadRow
    where the agent never acts, or goes on after the end: what it does then is conditioned on its own label.
    """
    messages = [_as_observation(message) for message in messages]
    ending = None
    if messages and messages[-1].role != "assistant" and _END.fullmatch(messages[-1].content):
        ending = messages.pop().content
    if not any(message.role == "assistant" for message in messages):
        raise BadRow(where, "no_agent_turn", f"none of its {len(messages)} messages is the agent's.")
    for message in messages:
        if message.role != "assistant" and _END.fullmatch(message.content):
            raise BadRow(where, "goes_on_after_end", f"messages follow {message.content!r:.80}; cut them off.")
    return tuple(messages), ending


def _as_observation(message: Message) -> Message:
    prefix = _OBSERVATION.match(message.content) if message.role in ("user", "tool") else None
    return replace(message, role="tool", content=message.content[prefix.end() :]) if prefix else message


def outcome(
    info: Mapping[str, Any], messages: Sequence[Message], ending: str | None, where: str, reference: str | None = None
) -> Outcome:
    """How the episode went, from what its record says: `reward`, else `em`, else `acc`; `f1` grades it.

    Without any of these, the observation that ended it counts. `reference` is used in place of `gt`. A failure's kind
    is found by rule from the last turn.
    """
    said = _END.fullmatch(ending or "")
    reward = _grade(info, "reward", where)
    labels = [reward, _grade(info, "em", where), _grade(info, "acc", where), _reward_text(said)]
    label = next((label for label in labels if label is not None), None)
    if label is None:
        raise BadRow(where, "no_label", f"success is nowhere said.{_LABEL_REMEDY}")
    success = label == 1
    shown = _reward_text(said)
    if shown is not None and (shown == 1) != success:
        problem = f"the record says {'success' if success else 'failure'}, its last observation {ending!r:.60}."
        raise BadRow(where, "contradictory_label", problem)
    f1 = _grade(info, "f1", where)
    prediction = answer_text(info.get("pred"), "pred", where) or _finished_with(messages)
    reference = answer_text(info.get("gt"), "gt", where) if reference is None else reference
    return Outcome(
        success=success,
        score=label if f1 is None else f1,
        failure=None if success else failure_kind(messages, prediction),
        prediction=prediction,
        reference=reference,
    )


def failure_kind(messages: Sequence[Message], prediction: str | None) -> Failure:
    """Why an episode failed: by its last turn, read as `nat` reads a turn in evaluation.

    A file that names a prediction says that its own environment took an answer, whichever action of a run-on turn that
    was; then the answer was wrong, or none ("unable to find out").
    """
    last = _last_turn(messages)
    answers = [answer for answer in (prediction, _finished_with(messages)) if answer is not None]
    if answers:
        return "abstained" if any(map(is_abstention, answers)) else "wrong_answer"
    if not last.strip():
        return "no_answer"
    return "out_of_turns" if isinstance(parse_action(last, TOOLS), Action) else "unparsed_action"


def _last_turn(messages: Sequence[Message]) -> str:
    return next(message.content for message in reversed(messages) if message.role == "assistant")


def _finished_with(messages: Sequence[Message]) -> str | None:
    """What the first action of the last turn finishes with; None where it is another action, or none."""
    action = parse_action(_last_turn(messages), TOOLS)
    return action.input if isinstance(action, Action) and action.tool == FINISH else None


def answer_text(value: Any, key: str, where: str) -> str | None:
    """An answer as text: booleans are yes and no. None where there is none."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, str | int | float):
        raise BadRow(where, "wrong_value", f"{key!r} is {value!r:.80}; it must be text, a number, true or false.")
    return str(value)


def _grade(info: Mapping[str, Any], key: str, where: str) -> float | None:
    value = info.get(key)
    if value is None:
        return None
    if not isinstance(value, bool | int | float) or not 0 <= value <= 1:
        raise BadRow(where, "wrong_value", f"{key!r} is {value!r:.80}; it must be true, false or a number from 0 to 1.")
    return float(value)


def _reward_text(said: re.Match[str] | None) -> float | None:
    if said is None or said["reward"] is None:
        return None
    text = said["reward"].lower()
    try:
        return _LABELS[text] if text in _LABELS else float(text.rstrip("."))
    except ValueError:
        return None


def metadata_of(preamble: int, ending: str | None) -> dict[str, Any]:
    """What was set aside: the number of messages in front and the observation that told the outcome."""
    metadata: dict[str, Any] = {"preamble_messages": preamble} if preamble else {}
    if ending is not None:
        metadata["final_observation"] = ending
    return metadata
