"""Logs of Inspect: `.eval` archives, `.json` logs, and loose samples. A sample:

    {"id": "river", "epoch": 1, "input": "Which river crosses Turin?", "target": "Po",
     "messages": [{"role": "user", "content": "Which river crosses Turin?", "source": "input"},
                  {"role": "assistant", "content": "", "source": "generate",
                   "tool_calls": [{"id": "c1", "function": "look_up", "arguments": {"name": "Turin"}}]},
                  {"role": "tool", "tool_call_id": "c1", "function": "look_up", "content": "Turin lies on the Po."},
                  {"role": "assistant", "content": "The Po.", "source": "generate"}],
     "scores": {"match": {"value": "C", "answer": "Po"}}}

The label is the value of a scorer: C is a success, I a failure, P half of one, N an abstention; numbers count from 0 to
1. A scorer that says C, I, P or N, true or false, goes before one that gives numbers; where several differ, a rule must
say which counts (`scores.match.value == "C"`). Its `answer` is the prediction, `target` the reference. The task is the
sample's `id` in the eval's task; its epochs are trials. What is before the first turn that was generated is the prompt.

An `error`, an invalidated sample, a scorer that failed, and limits of time, work and the operator are `infrastructure`;
limits of messages and turns are `out_of_turns`, of tokens, context and cost `no_answer`. Tools are those that the
events of calls to the model name. Texts that stand among the `attachments` are put back.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from nat.core.questions import normalise
from nat.core.rows.bad import BadRow
from nat.core.rows.json_records import Record
from nat.trajectories.formats import sharegpt
from nat.trajectories.formats.conversations import Conversation, conversation
from nat.trajectories.formats.prompts import joined, read_messages
from nat.trajectories.formats.turns import Turns, read_turns
from nat.types import Failure

NAME = "inspect"
PLACE = 11
OF_A_SAMPLE = ("id", "epoch", "input", "target")
OF_OTHERS = ("question", "instruction", "prompt", "traj", "conversations", "doc_id", "termination_reason")
# What became messages, says them again, or belongs to the harness; the rest is kept, and a label rule may name it.
USED = (
    *("messages", "input", "events", "events_data", "timelines", "attachments", "store", "output"),
    *("files", "setup", "sandbox", "error", "error_retries"),
)
GRADES = {"c": 1.0, "correct": 1.0, "i": 0.0, "incorrect": 0.0, "p": 0.5, "partial": 0.5, "n": 0.0, "noanswer": 0.0}
LIMITS: Mapping[str, Failure] = {
    **dict.fromkeys(("message", "turn"), "out_of_turns"),
    **dict.fromkeys(("token", "context", "cost"), "no_answer"),
    **dict.fromkeys(("time", "working", "operator"), "infrastructure"),
}
NOT_SCORED = ("grader_failed", "scoring_failed")  # reasons of a score that is the scorer's fault
CUT_OFF = ("max_tokens", "model_length")  # reasons for which a model stopped in the middle
_ATTACHMENT = re.compile(r"attachment://([0-9a-f]{32})")


class Scored(NamedTuple):
    """What the scorers say together. `problem` tells why they say nothing, where `grade` is None."""

    grade: float | None
    answer: Any
    failure: Failure | None
    problem: str = ""


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: a sample of an epoch, with messages, an output or scores."""
    is_sample = all(key in value for key in OF_A_SAMPLE) and isinstance(value["epoch"], int)
    has_turns = isinstance(value.get("messages"), list) or any(key in value for key in ("output", "scores"))
    is_other = any(key in value for key in OF_OTHERS) or sharegpt.recognises(value)
    return is_sample and has_turns and not is_other


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The one conversation of a sample."""
    value = record.value
    attachments = value.get("attachments")
    put_back = _Attachments(attachments if isinstance(attachments, dict) else {}, where)
    scored = _scored(value)
    failure = _failure(value) or scored.failure
    error = value.get("error")
    said = error.get("message") if isinstance(error, Mapping) else error
    turns, prompt = _turns(put_back.within(_messages(value, where)), failure, said, where)
    target = _target(value.get("target"), value.get("choices"), scored.answer)
    own, epoch = value.get("id"), value.get("epoch")
    if isinstance(own, bool) or not isinstance(own, str | int):
        raise BadRow(where, "wrong_value", f"'id' is {own!r:.80}; it must be text or a whole number.")
    of = _member(record.outer, "eval")
    facts: dict[str, Any] = {"reward": scored.grade, "prediction": scored.answer, "reference": target}
    given: dict[str, Any] = {"source": of["model"]} if _is_text(of.get("model")) else {}
    yield conversation(
        where,
        record._replace(key=None),
        turns,
        USED,
        id=f"{own}:{epoch}",
        facts={key: fact for key, fact in facts.items() if fact is not None},
        no_label=scored.problem,
        question=put_back.within(value["input"]) if _is_text(value.get("input")) else None,
        task=_task(of.get("task"), own),
        tools=_tools(value.get("events")),
        failure=failure,
        prompt=prompt,
        metadata={"error": said} if said else {},
        **given,
    )


def _task(task: Any, own: str | int) -> str | None:
    """A sample's id in its task. A mere number says nothing by itself: then the input does, the same in all epochs."""
    if _is_text(task):
        return f"{task}/{own}"
    return None if isinstance(own, int) or own.isdigit() or not own else own


# ---- messages ----


class _Attachments:
    """Long texts that stand by themselves."""

    def __init__(self, texts: Mapping[str, Any], where: str) -> None:
        self._texts = texts
        self._where = where

    def within(self, value: Any) -> Any:
        """The value with every reference in it, at any depth, replaced by what it stands for."""
        if isinstance(value, str):
            return _ATTACHMENT.sub(self._text, value) if "attachment://" in value else value
        if isinstance(value, list):
            return [self.within(member) for member in value]
        if isinstance(value, dict):
            return {key: self.within(member) for key, member in value.items()}
        return value

    def _text(self, reference: re.Match[str]) -> str:
        text = self._texts.get(reference[1])
        if not isinstance(text, str):
            raise BadRow(self._where, "missing_value", f"{reference[0]} is not among the sample's 'attachments'.")
        return text


def _messages(value: Mapping[str, Any], where: str) -> list[Any]:
    """The messages of a sample; of one that was logged without them, what was asked and what came out."""
    given = value.get("messages")
    if isinstance(given, list) and given:
        return given
    if given is not None and not isinstance(given, list):
        raise BadRow(where, "wrong_value", f"'messages' is {given!r:.80}; it must be a list of messages.")
    asked = value.get("input")
    before = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    choices = _member(value, "output").get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    written = first.get("message") if isinstance(first, Mapping) else None
    return [*(before if isinstance(before, list) else []), *([] if written is None else [written])]


def _turns(given: Sequence[Any], failure: Failure | None, error: Any, where: str) -> tuple[Turns, int]:
    """The turns, and how many are the prompt: those before the first that the model wrote."""
    begin = next((i for i, message in enumerate(given) if _is_generated(message)), None)
    if begin is None:
        begin = next((i for i, message in enumerate(given) if _is_agents(message)), None)
    if begin is None:
        if failure == "infrastructure":
            problem = "the run broke before the agent's first turn"
            raise BadRow(where, "infrastructure", f"{problem}: {error!s:.200}" if error else f"{problem}.")
        raise BadRow(where, "no_agent_turn", f"none of its {len(given)} messages was generated.")
    left_out: Counter[str] = Counter()
    front = read_messages(_as_chat(given[:begin], left_out), "user", where, "messages")
    rest = read_turns(_as_chat(given[begin:], left_out), where)
    return joined((front, rest, Turns((), left_out, ()))), len(front.messages)


def _is_agents(message: Any) -> bool:
    return isinstance(message, Mapping) and message.get("role") == "assistant" and message.get("source") != "input"


def _is_generated(message: Any) -> bool:
    return _is_agents(message) and message.get("source") == "generate"


def _as_chat(given: Sequence[Any], left_out: Counter[str]) -> list[Any]:
    """The messages as other tools write them.

    A tool's error is what the model was shown; what a model's own provider did for it (`tool_use` parts) is a call and
    its result; thoughts that are encrypted are counted; a turn that stands in the input carries no loss.
    """
    found: list[Any] = []
    for message in given:
        if not isinstance(message, Mapping):
            found.append(message)
            continue
        error = message.get("error")
        if message.get("role") == "tool" and isinstance(error, Mapping) and _is_text(error.get("message")):
            message = {**message, "content": f"Error: {error['message']}"}
        if message.get("source") == "input" and message.get("role") == "assistant":
            message = {**message, "train": False}
        content = message.get("content")
        found += _parted(message, content, left_out) if isinstance(content, list) else [message]
    return found


def _parted(message: Mapping[str, Any], content: Sequence[Any], left_out: Counter[str]) -> list[Mapping[str, Any]]:
    """A message of several parts: one, or several where the provider called tools in between."""
    found: list[Mapping[str, Any]] = []
    parts: list[Any] = []
    without_calls = {key: member for key, member in message.items() if key != "tool_calls"}
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "data":  # of the provider's own, for replay
            left_out["data"] += 1
        elif kind == "reasoning" and part.get("redacted"):
            if _is_text(part.get("summary")):
                parts.append({"type": "reasoning", "reasoning": part["summary"]})
            else:
                left_out["redacted_reasoning"] += 1
        elif kind == "tool_use" and isinstance(part.get("result"), str):
            result = f"Error: {part['error']}" if _is_text(part.get("error")) else part["result"]
            found += [{**without_calls, "content": [*parts, part]}, {"role": "tool", "content": result}]
            parts = []
        else:
            parts.append(part)
    if parts or not found or message.get("tool_calls"):
        found.append({**message, "content": parts})
    return found


def _tools(events: Any) -> tuple[Mapping[str, Any], ...]:
    """The tools that the model was offered, each once."""
    tools: dict[str, Mapping[str, Any]] = {}
    for event in events if isinstance(events, list) else []:
        offered = event.get("tools") if isinstance(event, Mapping) and event.get("event") == "model" else None
        for tool in offered if isinstance(offered, list) else []:
            if isinstance(tool, Mapping) and isinstance(tool.get("name"), str):
                tools.setdefault(tool["name"], tool)
    return tuple(tools.values())


# ---- outcome ----


def _failure(value: Mapping[str, Any]) -> Failure | None:
    """Why the sample ended before the agent did."""
    if value.get("error") or value.get("invalidation"):
        return "infrastructure"
    limit = value.get("limit")
    kind = limit.get("type") if isinstance(limit, Mapping) else limit
    return LIMITS.get(kind) if isinstance(kind, str) else None


def _scored(value: Mapping[str, Any]) -> Scored:
    given = value.get("scores")
    by_scorer = {name: score for name, score in _members(given).items() if isinstance(score, Mapping)}
    if not by_scorer and isinstance(value.get("score"), Mapping):  # logs of the first version
        by_scorer = {"score": value["score"]}
    failed = [name for name, score in by_scorer.items() if score.get("reason") in NOT_SCORED]
    if failed and len(failed) == len(by_scorer):
        return Scored(None, None, "infrastructure", f"the scorers failed: {', '.join(failed):.200}.")
    counted = {name: score for name, score in by_scorer.items() if name not in failed}
    said = {name: _verdict(score.get("value")) for name, score in counted.items()}
    graded = said if any(grade is not None for grade in said.values()) else {}
    if not graded:
        graded = {name: _number(score.get("value")) for name, score in counted.items()}
    grades = {name: grade for name, grade in graded.items() if grade is not None}
    if not grades or len({grade == 1 for grade in grades.values()}) > 1:
        return Scored(None, None, None, _problem(grades, by_scorer))
    chosen = next(iter(grades))
    score = counted[chosen]
    return Scored(grades[chosen], score.get("answer"), _kind(score, value))


def _kind(score: Mapping[str, Any], value: Mapping[str, Any]) -> Failure | None:
    """What kind of failure it is, should it be one, where the scorer or the model's last output says so."""
    given = score.get("value")
    if isinstance(given, str) and given.strip().lower() in ("n", "noanswer"):
        return "abstained"
    choices = _member(value, "output").get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    is_cut = isinstance(first, Mapping) and first.get("stop_reason") in CUT_OFF
    return "no_answer" if is_cut and not score.get("answer") else None


def _verdict(given: Any) -> float | None:
    """What a scorer that decides says."""
    if isinstance(given, bool):
        return float(given)
    return GRADES.get(given.strip().lower()) if isinstance(given, str) else None


def _number(given: Any) -> float | None:
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    return float(given) if is_number and -1 <= given <= 1 else None


def _problem(grades: Mapping[str, float], by_scorer: Mapping[str, Mapping[str, Any]]) -> str:
    """Why there is no label, and the rules that would give one."""
    if not by_scorer:
        return "the sample was not scored: 'scores' holds no score."
    said = ", ".join(f"{name} {score.get('value')!r:.40}" for name, score in by_scorer.items())
    opening = f"its scorers disagree: {said:.200}." if grades else f"no scorer says success or failure: {said:.200}."
    name, score = next(iter(by_scorer.items()))
    place, value = f"scores.{name}.value", score.get("value")
    if isinstance(value, Mapping) and value:
        place, value = f"{place}.{next(iter(value))}", next(iter(value.values()))
    rule = f'{place} == "{value if not grades else "C"}"' if isinstance(value, str) else f"{place} >= 1"
    return f"{opening}\nSay which one counts, e.g. trajectories.label='{rule:.120}'."


def _target(target: Any, choices: Any, answer: Any) -> str | None:
    """The reference. Of several targets, all where they are letters of choices, else the one that was answered."""
    if not isinstance(target, list):
        return str(target).strip() or None if isinstance(target, str | int | float) else None
    texts = [text for text in target if isinstance(text, str) and text.strip()]
    if isinstance(choices, list) and choices:
        return ", ".join(texts) or None
    wanted = normalise(answer) if isinstance(answer, str) else None
    return next((text for text in texts if normalise(text) == wanted), texts[0] if texts else None)


def _members(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _member(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return _members(value.get(key))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
