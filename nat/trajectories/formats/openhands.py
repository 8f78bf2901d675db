"""OpenHands' runs: `output.jsonl` of its evaluations, with the events of either version, and rows of published runs.

    {"instance_id": "a__a-1", "instruction": "Fix the sum.", "error": null, "report": {"resolved": true},
     "test_result": {"git_patch": "diff --git a/a.py b/a.py"}, "history": [
        {"id": 0, "source": "user", "action": "message", "args": {"content": "Fix the sum."}},
        {"id": 1, "source": "agent", "action": "run", "args": {"command": "ls", "thought": "I look."}},
        {"id": 2, "source": "agent", "observation": "run", "content": "a.py", "cause": 1},
        {"id": 3, "source": "agent", "action": "finish", "args": {"final_thought": "Done."}}]}

A file that lists the events of one run, as OpenHands saves a single one, is read too; it says no task and no label.
Older files hold pairs of an action and an observation; files of the software agent SDK hold events with a `kind`:

    {"kind": "ActionEvent", "source": "agent", "thought": [{"type": "text", "text": "I look."}],
     "tool_name": "terminal", "tool_call_id": "c1", "action": {"kind": "TerminalAction", "command": "ls"},
     "llm_response_id": "r1"}

An action is a call, with the agent's `thought` as its text; where the model's own answer stands beside it
(`tool_call_metadata`, `tool_call`), that is the turn, with all calls of it. `instance_id` is the task; the label is
`report.resolved`, or that of `test_result`. What `error` names is `infrastructure`, unless it is a limit of the agent's
(`exit_status.py`). Rows of published runs hold messages in place of events, and `resolved` or `target`:

    {"trajectory_id": "t1", "instance_id": "a__a-1", "resolved": 1, "exit_status": "submit", "tools": [],
     "trajectory": [{"role": "user", "content": "Fix the sum."}, {"role": "assistant", "content": "Done."}]}
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nat.agents.calls import read_call
from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import optional
from nat.core.rows.json_records import Record
from nat.trajectories.formats.coding_runs import counted, run, with_thoughts
from nat.trajectories.formats.conversations import Conversation, text_at, tools_in
from nat.trajectories.formats.episodes import facts, messages_in, without_label
from nat.trajectories.formats.exit_status import failure_of, failure_of_error
from nat.trajectories.formats.turns import read_turns
from nat.types import Failure

NAME = "openhands"
PLACE = 13
OF_ROWS = ("trajectory_id", "run_id", "model_patch", "test_result", "target")
RESULT = "EXECUTION RESULT of ["  # what user messages begin with in runs without tool calls
# Events that are no turn of the agent's and nothing that it saw.
SILENT = {
    "",
    "None",
    "null",
    "agent_state_changed",
    "change_agent_state",
    "recall",
    "start",
    "pause",
    "resume",
    "stop",
    "chat",
}
SILENT |= {"ConversationStateUpdateEvent", "TokenEvent", "PauseEvent", "LLMCompletionLogEvent", "StreamingDeltaEvent"}
# Arguments of actions that are not the agent's.
SETTINGS = {
    *(
        "thought",
        "hidden",
        "blocking",
        "is_static",
        "is_input",
        "cwd",
        "confirmation_state",
        "security_risk",
        "timeout",
    ),
    *("keep_prompt", "impl_source", "include_extra", "kernel_init_code", "return_axtree", "image_urls", "file_urls"),
    *("wait_for_response", "browsergym_send_msg_to_user", "translated_ipython_code", "kind"),
}
TEXTS = ("content", "output", "text", "message", "result")  # of an observation


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: a history of events, one of these, or a row of messages."""
    return _is_output(value) or _is_lone_event(value) or _is_row(value)


def _is_output(value: Mapping[str, Any]) -> bool:
    if "history" in value and not value["history"]:  # the run broke before it began
        return isinstance(value["history"], list | None) and "test_result" in value
    history = value.get(_key(value))
    first = history[0] if isinstance(history, list) and history else None
    return _is_event(first[0] if isinstance(first, list) and first else first)


def _key(value: Mapping[str, Any]) -> str:
    return "history" if "history" in value else "trajectory"


def _is_event(value: Any) -> bool:
    if not isinstance(value, Mapping) or "role" in value:
        return False
    if isinstance(value.get("source"), str) and ("action" in value or "observation" in value):
        return True
    kind = value.get("kind")
    return isinstance(kind, str) and kind.endswith(("Event", "Observation", "Condensation"))


def _is_lone_event(value: Mapping[str, Any]) -> bool:
    """Whether a record is an event, in a file that lists those of one run."""
    is_full = isinstance(value.get("args"), dict) or "content" in value or isinstance(value.get("kind"), str)
    return _is_event(value) and is_full and "source" in value and "timestamp" in value


def grouped(records: Iterable[tuple[str, Record]]) -> Iterator[tuple[str, Record]]:
    """The records of a file; events that stand in it one after another are the history of one."""
    place: tuple[str, Record] | None = None
    held: list[dict[str, Any]] = []
    for where, record in records:
        if _is_lone_event(record.value):
            place = place or (where, record)
            held.append(record.value)
            continue
        if place is not None:
            yield place[0], place[1]._replace(value={**place[1].outer, "history": held})
            place, held = None, []
        yield where, record
    if place is not None:
        yield place[0], place[1]._replace(value={**place[1].outer, "history": held})


def _is_row(value: Mapping[str, Any]) -> bool:
    if not isinstance(value.get("instance_id"), str) or "traj_id" in value or not any(key in value for key in OF_ROWS):
        return False
    _, messages = messages_in(value) or ("", [])
    return bool(messages) and isinstance(messages[0], Mapping) and "role" in messages[0] and "content" in messages[0]


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The one conversation of a record."""
    yield _of_row(where, record) if _is_row(record.value) else _of_output(where, record)


# ---- rows of messages ----


def _of_row(where: str, record: Record) -> Conversation:
    value = record.value
    key, given = messages_in(value) or ("messages", [])
    turns = read_turns([with_thoughts(m) if isinstance(m, dict) else m for m in given], where, value)
    seen = [replace(m, role="tool") if m.role == "user" and m.content.startswith(RESULT) else m for m in turns.messages]
    label = facts(value, _results(value))
    if isinstance(value.get("target"), bool) and "resolved" not in label:
        label = {**without_label(label), "resolved": value["target"]}
    failure = failure_of(value.get("exit_status")) or failure_of_error(value.get("error"))
    turns = turns._replace(messages=tuple(seen))
    return run(where, record, turns, (key,), failure, facts=label)


def _results(value: Mapping[str, Any]) -> tuple[Any, Any]:
    result = value.get("test_result")
    return (result.get("report") if isinstance(result, Mapping) else None, result)


# ---- events ----


def _of_output(where: str, record: Record) -> Conversation:
    value = record.value
    key = _key(value)
    history = optional(value, key, list, where) or []
    events = [event for item in history for event in (item if isinstance(item, list) else [item])]
    read = _Events(where)
    for event in events:
        read.take(event)
    failure = failure_of_error(value.get("error")) or read.failure
    messages = read.messages
    first = next((i for i, message in enumerate(messages) if message["role"] == "assistant"), len(messages))
    instruction = text_at(value, "instruction")
    if instruction is not None and not any(message["role"] == "user" for message in messages[:first]):
        messages.insert(first, {"role": "user", "content": instruction})
    turns = counted(read_turns(messages, where), read.left_out)
    metrics = value.get("metrics")
    noted: dict[str, Any] = {}
    if isinstance(metrics, Mapping):  # those of every single call are long lists
        noted = {"metrics": {key: member for key, member in metrics.items() if not isinstance(member, list)}}
    tools = tools_in(value.get("tools")) or read.tools
    return run(where, record, turns, (key,), failure, places=_results(value), tools=tools, metadata=noted)


@dataclass
class _Events:
    """The messages that events tell of, as `read_turns` takes them."""

    where: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    tools: tuple[Mapping[str, Any], ...] = ()
    failure: Failure | None = None
    answer: Any = None  # id of the model's answer that the last turn is of
    others: list[Any] = field(default_factory=list)  # ids of actions that are not the agent's

    def take(self, event: Any) -> None:
        if not isinstance(event, dict):
            raise BadRow(self.where, "wrong_value", f"an event of 'history' is {event!r:.80}; it must be an object.")
        kind = event.get("kind")
        if isinstance(kind, str) and "source" in event and not isinstance(event.get("action"), str):
            self._of_sdk(event, kind)
        elif "observation" in event:
            self._observation(event)
        elif "action" in event:
            self._action(event)
        elif isinstance(kind, str):
            self._of_sdk(event, kind)
        else:
            keys = ", ".join(map(str, event))
            problem = f"an event of 'history' has neither 'action' nor 'observation' nor 'kind', but {keys:.80}."
            raise BadRow(self.where, "wrong_value", problem)

    def _turn(self, message: dict[str, Any], answer: Any) -> None:
        """A turn; of one answer with several calls there is an event each."""
        if answer is not None and answer == self.answer:
            turn = next((m for m in reversed(self.messages) if m["role"] == "assistant"), None)
            if turn is not None:
                known = [_id(call) for call in turn["tool_calls"]]
                turn["tool_calls"] += [call for call in message["tool_calls"] if _id(call) not in known]
                return
        self.answer = answer
        self.messages.append(message)

    # ---- of the first version ----

    def _action(self, event: dict[str, Any]) -> None:
        name, args = event["action"], event.get("args")
        args = args if isinstance(args, dict) else {}
        source = event.get("source")
        if not isinstance(name, str):
            raise BadRow(self.where, "wrong_value", f"the 'action' of an event is {name!r:.80}; it must be text.")
        if name in SILENT:
            return
        text = args.get("content") if isinstance(args.get("content"), str) else event.get("message")
        if name == "system":
            self.tools = tools_in(args.get("tools")) or self.tools
            self.messages.append({"role": "system", "content": text})
        elif name == "message" and source != "agent":
            self.messages.append({"role": "user", "content": text})
        elif source != "agent" or name.startswith("condensation"):
            self.left_out[name if source == "agent" else "actions_of_others"] += 1
            self.others.append(event.get("id"))
        elif (answered := _answer(event)) is not None:
            self._turn(*answered)
        elif name == "message":
            self._turn({"role": "assistant", "content": text, "tool_calls": []}, None)
        else:
            called = _call_id(event)
            call = {**({"id": called} if called is not None else {}), "name": name, "arguments": _own(args)}
            self._turn({"role": "assistant", "content": args.get("thought"), "tool_calls": [call]}, None)

    def _observation(self, event: dict[str, Any]) -> None:
        cause = event.get("cause")
        if str(event["observation"]) in SILENT or (cause is not None and cause in self.others):
            return
        content = event.get("content")
        text = content if isinstance(content, str | list) else event.get("message")
        self.messages.append({"role": "tool", "tool_call_id": _call_id(event), "content": text})

    # ---- of the software agent SDK ----

    def _of_sdk(self, event: dict[str, Any], kind: str) -> None:
        result = {"role": "tool", "tool_call_id": event.get("tool_call_id")}
        if kind == "SystemPromptEvent":
            self.tools = tools_in(event.get("tools")) or self.tools
            parts = [event[key] for key in ("system_prompt", "dynamic_context") if event.get(key)]
            self.messages.append({"role": "system", "content": parts})
        elif kind == "MessageEvent":
            self._message(event)
        elif kind == "ActionEvent":
            call = event.get("tool_call")
            if not isinstance(call, dict) or read_call(call) is None:
                call = {"name": event.get("tool_name"), "arguments": _own(event.get("action"))}
            call = {**call, "id": event.get("tool_call_id", call.get("id"))}
            turn = with_thoughts({**event, "role": "assistant", "content": event.get("thought"), "tool_calls": [call]})
            kept = ("role", "content", "tool_calls", "reasoning_content")
            self._turn({key: turn[key] for key in kept if key in turn}, event.get("llm_response_id"))
        elif kind == "ObservationEvent":
            content = [*_parts(_seen(event.get("observation"))), *_parts(event.get("extended_content"))]
            self.messages.append({**result, "content": content})
        elif kind == "AgentErrorEvent":
            self.messages.append({**result, "content": event.get("error")})
        elif kind == "UserRejectObservation":
            self.messages.append({**result, "content": f"Action rejected: {event.get('rejection_reason')}"})
        elif kind == "ConversationErrorEvent":
            self.failure = failure_of_error(f"{event.get('code')}: {event.get('detail')}")
        elif kind not in SILENT:
            self.left_out[kind] += 1

    def _message(self, event: dict[str, Any]) -> None:
        given = event.get("llm_message")
        given = given if isinstance(given, dict) else {}
        role = given.get("role") or ("assistant" if event.get("source") == "agent" else "user")
        content = [*_parts(given.get("content")), *_parts(event.get("extended_content"))]
        message = with_thoughts({**given, "role": role, "content": content})
        if role == "assistant":
            message["tool_calls"] = list(optional(message, "tool_calls", list, self.where) or [])
            self._turn(message, event.get("llm_response_id"))
        else:
            self.messages.append(message)


def _answer(event: Mapping[str, Any]) -> tuple[dict[str, Any], Any] | None:
    """The turn as the model gave it, of an action that it called for, and the id of that answer."""
    metadata = event.get("tool_call_metadata")
    answer = metadata.get("model_response") if isinstance(metadata, Mapping) else None
    choices = answer.get("choices") if isinstance(answer, Mapping) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, Mapping) else None
    calls = message.get("tool_calls") if isinstance(message, Mapping) else None
    if not isinstance(message, Mapping) or not isinstance(calls, list) or not calls:
        return None
    turn = with_thoughts({**message, "role": "assistant", "tool_calls": list(calls)})
    return turn, answer.get("id") if isinstance(answer, Mapping) else None


def _call_id(event: Mapping[str, Any]) -> Any:
    metadata = event.get("tool_call_metadata")
    return metadata.get("tool_call_id") if isinstance(metadata, Mapping) else None


def _id(call: Any) -> Any:
    return call.get("id") if isinstance(call, Mapping) else None


def _own(args: Any) -> dict[str, Any]:
    """Of an action's arguments those that the agent gave."""
    given = args.items() if isinstance(args, Mapping) else ()
    return {key: value for key, value in given if key not in SETTINGS and value not in (None, "", False, [], {})}


def _seen(observation: Any) -> Any:
    """What an observation says; all of it as JSON where none of its parts is a text."""
    if not isinstance(observation, Mapping):
        return observation
    found = next((observation[key] for key in TEXTS if isinstance(observation.get(key), str | list)), None)
    if found is not None:
        return found
    rest: Mapping[str, Any] = {key: value for key, value in observation.items() if key not in SETTINGS}
    return json.dumps(rest, ensure_ascii=False) if rest else ""


def _parts(content: Any) -> Sequence[Any]:
    if content is None:
        return ()
    return content if isinstance(content, list) else [content]
