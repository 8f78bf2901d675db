"""Records of steps, each a thought, an action and what was observed, as agent loops log them. A record:

    {"id": "t1", "question": "Which pod fails?", "reward": 1, "steps": [
        {"thought": "Look.", "action": {"tool_name": "get_pods", "tool_args": {"ns": "x"}}, "observation": "p1 fails"},
        {"thought": "It is p1.", "action": "finish[p1]", "observation": ""}]}

Steps stand under one of `acting.STEPS`, with the names listed there; LangChain's
`intermediate_steps` are pairs of an action and an observation. An action that is an object, or a name with an input
beside it, becomes a call; one that is text stays text: `Thought: ...\\nAction: finish[p1]`. Where `observation` is
written before `action` in every step, it is what the agent saw before it acted.

The question is the first of ASKED; `output` or `final_answer` beside the steps is the agent's last turn. The label is
the first of the fields that `nat.trajectories.formats.episodes` names, in the record or, where that says nothing, in
its last step; prediction and reference stand there too. `error` beside the steps makes the episode `infrastructure`,
a status such as "max_iterations" `out_of_turns`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from nat.agents.calls import NAMES, read_call
from nat.core.rows.bad import BadRow
from nat.core.rows.json_records import Record
from nat.trajectories.formats.acting import (
    ACTIONS,
    AFTER,
    INPUTS,
    OBSERVATIONS,
    STEPS,
    THOUGHTS,
    WRITTEN,
    as_thought,
    calls_of,
    json_text,
    observation_text,
    steps_key,
    unwrapped,
    with_action,
)
from nat.trajectories.formats.conversations import Conversation, conversation
from nat.trajectories.formats.episodes import GRADES, LABELS, PREDICTIONS, facts, holds
from nat.trajectories.formats.tool_calls import input_text
from nat.trajectories.formats.turns import Turns, loss_of
from nat.types import Failure, Message

NAME = "steps"
PLACE = 38
ANSWERS = ("final_answer", "answer")  # of a step that does not act
ASKED = (
    *("question", "query", "instruction", "goal", "task_description", "problem_statement", "problem", "objective"),
    *("user_query", "input", "task", "prompt"),
)
ENDS = ("output", "final_answer", "final_output", "final_response")  # beside the steps: what the agent says last
FINISHES = ("finish", "final answer", "final_answer", "answer", "submit_answer")  # calls whose input is the answer
STATUS = ("stop_reason", "finish_reason", "termination_reason", "exit_reason", "exit_status", "status")
_KNOWN = {
    *(*THOUGHTS, *ACTIONS, *INPUTS, *OBSERVATIONS, *WRITTEN, *ANSWERS, *NAMES, "error"),
    *("id", "step", "step_id", "step_number", "index", "type", "timestamp", "time", "is_final_answer", "done"),
}
_STOPPED = re.compile(r"Agent stopped due to (?:max iterations|iteration limit or time limit)\.?")
_LIMIT = re.compile(
    r"max[ _-]?(?:steps?|turns?|iterations?|rounds?)\b|(?:iteration|step|turn|round|task)s?[ _-]limit|"
    r"out[ _]of[ _](?:turns|steps)",
    re.I,
)
_NO_ROOM = re.compile(r"context|max[ _-]?(?:new[ _-])?tokens|token[ _-]limit|\blength\b", re.I)
_BROKE = re.compile(r"\berrors?\b|exception|time[ _-]?out|timed[ _-]out|crash|infrastructure", re.I)
_THOUGHT = re.compile(r"\s*Thought(?: ?\d+)?:\s*", re.I)
_LOGGED_ACTION = re.compile(r"(?:^|\n)\s{0,8}(?:```[a-z]{0,8}\s{0,8})?(?:Action:|\{\s{0,8}\"action\")")
_INVOKING = re.compile(r"\s*Invoking: `[^`]*` with `.*?`\s*(?:responded:\s*)?", re.DOTALL)


class _Turn(NamedTuple):
    message: Message
    answer: str | None  # what it finishes with


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: no messages, but a list of steps that act, think or observe."""
    return holds(value) is None and steps_key(value) is not None


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The one conversation of a record."""
    value = record.value
    key = steps_key(value) or next((key for key in STEPS if key in value), STEPS[0])
    given = value.get(key)
    if not isinstance(given, list):
        problem = "is missing" if key not in value else f"is {given!r:.80}"
        raise BadRow(where, "wrong_value", f"{key!r} {problem}; it must be a list of steps.")
    if not given:
        raise BadRow(where, "empty_conversation", f"{key!r} is empty: the agent never acted.")
    asked_by, question = _question(value)
    left_out: Counter[str] = Counter()
    steps = [_step(step, key, where) for step in given]
    seen_first, steps = _in_order(steps)
    front = "\n\n".join(text for text in (question, seen_first) if text)
    messages = [Message("user", front)] if front else []
    answer = None
    for number, step in enumerate(steps):
        made, said = _messages(step, where, left_out, is_last=number == len(steps) - 1)
        messages += made
        answer = said if made else answer
    end = next((key for key in ENDS if isinstance(value.get(key), str) and value[key].strip()), None)
    stopped = end is not None and _STOPPED.fullmatch(value[end]) is not None
    if end is not None and not stopped and value[end] != answer:
        messages.append(Message("assistant", value[end]))
        answer = value[end] if "\n" not in value[end].strip() else answer
    found = _facts(value, steps)
    if answer is not None and not any(found.get(key) is not None for key in PREDICTIONS):
        found["prediction"] = answer
    given_facts: dict[str, Any] = {"facts": found, "failure": "out_of_turns" if stopped else failure_of(value)}
    used = {key, *([asked_by] if asked_by else []), *([end] if end else [])}
    if question:
        given_facts["question"] = question
    prompt = int(bool(front))
    yield conversation(where, record, Turns(tuple(messages), left_out, ()), used, prompt=prompt, **given_facts)


def _question(value: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The key of the question, and its text."""
    for key in ASKED:
        given = value.get(key)
        if isinstance(given, Mapping):
            given = next((given[inner] for inner in ASKED if isinstance(given.get(inner), str)), None)
            if given and given.strip():
                return None, given  # the object tells more than that
        if isinstance(given, str) and given.strip():
            return key, given
    return None, None


def _step(step: Any, key: str, where: str) -> dict[str, Any]:
    """A step as an object; LangChain's pairs become one."""
    if isinstance(step, list) and len(step) == 2 and isinstance(step[0], Mapping):
        return {"action": step[0], "observation": step[1]}
    if not isinstance(step, dict):
        raise BadRow(where, "wrong_value", f"a step of {key!r} is {step!r:.80}; it must be an object.")
    return step


def _in_order(steps: Sequence[dict[str, Any]]) -> tuple[str, Sequence[dict[str, Any]]]:
    """What the agent saw before its first turn, and the steps with what it saw after each.

    Loops that log what the agent acts upon write `observation` before `action`.
    """
    acting = [step for step in steps if "observation" in step and "action" in step]
    says_next = [step for step in acting if any(key in step for key in AFTER)]
    if acting and len(says_next) == len(acting):
        return observation_text(acting[0]["observation"]), steps
    if not acting or not all(list(step).index("observation") < list(step).index("action") for step in acting):
        return "", steps
    following = [step.get("observation") for step in steps[1:]]
    moved = [{**step, "observation": seen} for step, seen in zip(steps, [*following, None], strict=True)]
    return observation_text(steps[0].get("observation")), moved


def _messages(
    step: Mapping[str, Any], where: str, left_out: Counter[str], is_last: bool
) -> tuple[list[Message], str | None]:
    """The agent's turn and what it saw, and what it answers there."""
    for key, member in step.items():
        if key not in _KNOWN and isinstance(member, str | list | dict) and member:
            left_out[f"step.{key:.40}"] += 1
    turn = _turn(step, where)
    if turn is None:
        left_out["step"] += 1
        return [], None
    seen = _observations(step, len(turn.message.tool_calls))
    texts = [text for text in seen if text or not is_last]
    return [turn.message, *(Message("tool", text) for text in texts)], turn.answer


def _turn(step: Mapping[str, Any], where: str) -> _Turn | None:
    """The agent's turn of a step; None where it does nothing and says nothing."""
    given = next((step[key] for key in ACTIONS if step.get(key) not in (None, "", [], {})), None)
    input = next((step[key] for key in INPUTS if step.get(key) is not None), None)
    if given is None:
        given = next((step[key] for key in ("tool", "tool_name") if isinstance(step.get(key), str) and step[key]), None)
    written = next((step[key] for key in WRITTEN if isinstance(step.get(key), str) and step[key].strip()), "")
    thought = _thought(step, given, where)
    train, weight = loss_of(step, where)
    calls, text = calls_of(given, input, where)
    if text is None and len(calls) == 1 and (read := read_call(calls[0])) is not None:
        name, said = read.name.strip().lower(), input_text(read.arguments)
        answer = said if name in FINISHES and said.strip() else None
        if name == "final answer":  # LangChain's word for the end, which is no tool
            content = "\n".join((*([as_thought(thought)] if thought else []), f"Final Answer: {said}"))
            return _Turn(Message("assistant", content, train, weight=weight), answer)
        return _Turn(Message("assistant", thought or written, train, calls, weight=weight), answer)
    if calls:
        return _Turn(Message("assistant", thought or written, train, calls, weight=weight), None)
    if text is None:
        answer = next((step[key] for key in ANSWERS if isinstance(step.get(key), str) and step[key].strip()), None)
        content = "\n".join((*([thought] if thought else []), *([f"Answer: {answer}"] if answer else [])))
        content = written or content
        return _Turn(Message("assistant", content, train, weight=weight), answer) if content else None
    content = with_action(written if text.strip() in written else thought, text)
    return _Turn(Message("assistant", content, train, weight=weight), None)


def _thought(step: Mapping[str, Any], action: Any, where: str) -> str:
    for key in THOUGHTS:
        if step.get(key):
            given = step[key]
            return given.strip() if isinstance(given, str) else json_text(given)
    log = unwrapped(action).get("log") if isinstance(action, Mapping) else None
    if not isinstance(log, str):
        return ""
    # LangChain's log is the whole text of the turn, the action included.
    return _THOUGHT.sub("", _LOGGED_ACTION.split(_INVOKING.sub("", log, count=1))[0], count=1).strip()


def _observations(step: Mapping[str, Any], n_calls: int) -> list[str]:
    """The texts that were seen: one, or one a call; none where the step says nothing of it."""
    given = next((step[key] for key in OBSERVATIONS if step.get(key) is not None), None)
    if (given is None or given == "") and step.get("error"):
        given = step["error"]
    if given is None:
        return []
    if isinstance(given, list) and n_calls > 1 and len(given) == n_calls:
        return [observation_text(one) for one in given]
    return [observation_text(given)]


def _facts(value: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the record says of its outcome, or else its last step."""
    found = facts(value)
    if not any(found.get(key) is not None for key in (*LABELS, *GRADES)):
        last = {key: steps[-1][key] for key in (*LABELS, *GRADES) if steps[-1].get(key) is not None}
        found |= facts(last)
    return found


def failure_of(value: Mapping[str, Any]) -> Failure | None:
    """Why the episode ended before the agent did, as the record's error or status says it."""
    if value.get("error"):
        return "infrastructure"
    for key in STATUS:
        said = value.get(key)
        if not isinstance(said, str):
            continue
        if _LIMIT.search(said):
            return "out_of_turns"
        if _NO_ROOM.search(said):
            return "no_answer"
        if _BROKE.search(said):
            return "infrastructure"
    return None
