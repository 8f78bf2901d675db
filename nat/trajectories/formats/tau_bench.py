"""Results of tau-bench and tau2-bench: an agent that serves a simulated user. A record of tau-bench:

    {"task_id": 7, "trial": 0, "reward": 1.0, "info": {"task": {"user_id": "ann_lee_2", "instruction": "Cancel it."}},
     "traj": [{"role": "system", "content": "# Airline Agent Policy\\n..."},
              {"role": "user", "content": "Please cancel my flight."},
              {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function",
                  "function": {"name": "cancel", "arguments": "{\\"reservation\\": \\"Q1\\"}"}}]},
              {"role": "tool", "tool_call_id": "c1", "content": "cancelled"},
              {"role": "assistant", "content": "It is cancelled."},
              {"role": "user", "content": "Thanks. ###STOP###"}]}

and a simulation of tau2-bench, in a file with `info` and `tasks` before the `simulations`:

    {"id": "s1", "task_id": "7", "trial": 0, "termination_reason": "user_stop", "reward_info": {"reward": 1.0},
     "messages": [{"role": "assistant", "content": "Hi! How can I help you today?"},
                  {"role": "user", "content": "Please cancel my flight."},
                  {"role": "assistant", "content": null,
                   "tool_calls": [{"id": "c1", "name": "cancel", "arguments": {"reservation": "Q1"}}]},
                  {"role": "tool", "id": "c1", "content": "cancelled", "requestor": "assistant"}, ...]}

The label is `reward`, the task `task_id` in its domain (`airline/7`; the policy's heading or `info` names the domain).
The question is what the user says first; it differs over trials, the task does not. What the agent says before that is
not its own, and carries no loss. What the user calls, and what comes of it, the agent never sees: it is left out, and
counted. tau2-bench's policy is the system message. An agent that converses gives no answer, so there is no prediction.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import require
from nat.core.rows.json_records import Record
from nat.trajectories.formats import sharegpt
from nat.trajectories.formats.conversations import Conversation, conversation
from nat.trajectories.formats.prompts import joined
from nat.trajectories.formats.turns import REASONING_KEYS, Turns, read_turns
from nat.types import Failure, Message

NAME = "tau_bench"
PLACE = 12
OF_TAU_BENCH = ("task_id", "reward", "info", "traj")
OF_OTHERS = ("question", "instruction", "prompt", "conversations", "completion", "doc_id", "trajectory")
OF_TAU2 = ("task_id", "termination_reason", "messages")
# What tau2-bench says of an end that neither side wished for. `agent_error` is a message of the agent that breaks its
# protocol (empty; text beside calls), `user_error` one of the simulated user.
ENDINGS: Mapping[str, Failure] = {
    "max_steps": "out_of_turns",
    "too_many_errors": "tool_error",
    "agent_error": "unparsed_action",
    "context_window_exceeded": "no_answer",
    **dict.fromkeys(("user_error", "infrastructure_error", "unexpected_error", "timeout"), "infrastructure"),
}
TRANSFER = "transfer_to_human_agents"  # a call that ends an episode of tau-bench
OF_API = "API output: "  # what tool results in user messages begin with, for agents that write actions as text
_POLICY = re.compile(r"\s*#+\s*(\w+) agent policy", re.I)
_DOMAIN = re.compile(r"(?<![a-z])(airline|retail|telecom)(?![a-z])", re.I)


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: a result of tau-bench, or a simulation of tau2-bench."""
    if any(key in value for key in OF_OTHERS) or sharegpt.recognises(value):
        return False
    of_tau_bench = isinstance(value.get("traj"), list) and isinstance(value.get("info"), Mapping)
    return (of_tau_bench and all(key in value for key in OF_TAU_BENCH)) or is_simulation(value)


def is_simulation(value: Mapping[str, Any]) -> bool:
    """Whether a record is one of tau2-bench; a conversation by voice has `ticks` and may have no messages."""
    is_list = isinstance(value.get("messages"), list) or isinstance(value.get("ticks"), list)
    return (
        is_list
        and "traj" not in value
        and isinstance(value.get("termination_reason"), str)
        and all(key in value for key in OF_TAU2)
    )


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The one conversation of a record."""
    return [_of_tau2(where, record) if "traj" not in record.value else _of_tau_bench(where, record)]


# ---- tau-bench ----


def _of_tau_bench(where: str, record: Record) -> Conversation:
    value = record.value
    given = require(value, "traj", list, where)
    info = _member(value, "info")
    turns = read_turns([_with_result(message) for message in given], where)
    system = turns.messages[0].content if turns.messages and turns.messages[0].role == "system" else ""
    error = info.get("error")
    end = _End("infrastructure" if error else _failure_of_end(turns.messages), str(error or ""), value.get("reward"))
    return _conversation(where, record, turns, ("traj",), _domain(info.get("env"), system, record), end)


def _with_result(message: Any) -> Any:
    """The message; what an agent that writes actions as text got for one is a tool's."""
    content = message.get("content") if isinstance(message, Mapping) and message.get("role") == "user" else None
    if not isinstance(content, str) or not content.startswith(OF_API):
        return message
    return {**message, "role": "tool", "content": content[len(OF_API) :]}


def _failure_of_end(messages: Sequence[Message]) -> Failure | None:
    """What kind of failure it is, should it be one, where the last message is a tool's: only TRANSFER ends it there."""
    if not messages or messages[-1].role != "tool":
        return None
    last = next((message for message in reversed(messages) if message.role == "assistant"), None)
    said = "" if last is None else f"{last.content} {last.tool_calls}"
    return "wrong_answer" if TRANSFER in said else "out_of_turns"


# ---- tau2-bench ----


def _of_tau2(where: str, record: Record) -> Conversation:
    value = record.value
    reason = require(value, "termination_reason", str, where)
    failure = ENDINGS.get(reason)
    if value.get("messages") is None and value.get("ticks"):
        raise BadRow(where, "wrong_value", "'messages' is null: of a conversation by voice ('ticks') nothing is read.")
    given = [] if value.get("messages") is None else require(value, "messages", list, where)
    environment = _member(_member(record.outer, "info"), "environment_info")
    task = _task(record.outer.get("tasks"), value.get("task_id"))
    written = _member(task, "initial_state").get("message_history")  # by the author of the task
    seen, unseen, n_written = _as_the_agent_saw(given, len(written) if isinstance(written, list) else 0)
    turns = read_turns(seen, where)
    front: list[Message] = []
    policy = next((text for text in (value.get("policy"), environment.get("policy")) if _is_text(text)), None)
    if policy is not None and not any(message.role == "system" for message in turns.messages):
        front.append(Message("system", policy))
    if not any(message.role == "user" for message in turns.messages) and _is_text(task.get("ticket")):
        front.append(Message("user", task["ticket"]))  # nobody speaks to the agent: it works on this alone
    turns = joined((Turns(tuple(front), unseen, ()), turns))
    reward = _member(value, "reward_info").get("reward")
    if reward is None and failure not in (None, "infrastructure"):
        reward = 0.0  # as tau2-bench itself scores what did not come to its end
    domain = _domain(environment.get("domain_name"), policy or "", record)
    end, used = _End(failure, reason, reward), ("messages", "policy", "ticks")
    return _conversation(where, record, turns, used, domain, end, len(front) + n_written)


def _as_the_agent_saw(given: Sequence[Any], n_written: int) -> tuple[list[Any], Mapping[str, int], int]:
    """The messages without the user's calls and their results; how many these are, and how many of the first stay."""
    seen: list[Any] = []
    unseen: Counter[str] = Counter()
    flat = [(part, i < n_written) for i, message in enumerate(given) for part in _results(message)]
    left = 0
    for message, is_written in flat:
        if isinstance(message, Mapping) and message.get("role") == "user" and message.get("tool_calls"):
            unseen["calls_of_the_user"] += len(message["tool_calls"]) if isinstance(message["tool_calls"], list) else 1
        elif isinstance(message, Mapping) and message.get("role") == "tool" and message.get("requestor") == "user":
            unseen["results_of_the_user"] += 1
        else:
            seen.append(_as_chat(message))
            left += is_written
    return seen, unseen, left


def _results(message: Any) -> Sequence[Any]:
    """The message, or those in one that holds the results of several calls."""
    several = message.get("tool_messages") if isinstance(message, Mapping) else None
    return several if isinstance(several, list) else [message]


def _as_chat(message: Any) -> Any:
    """The message with its results' call, and what the model thought, where other tools write them."""
    if not isinstance(message, Mapping):
        return message
    if message.get("role") == "tool":
        return {"tool_call_id": message.get("id"), **message}
    raw = _member(_member(message, "raw_data"), "message")
    thought = {key: raw[key] for key in REASONING_KEYS if _is_text(raw.get(key))}
    return {**thought, **message}


def _task(tasks: Any, id: Any) -> Mapping[str, Any]:
    listed = tasks if isinstance(tasks, list) else []
    return next((task for task in listed if isinstance(task, Mapping) and task.get("id") == id), {})


# ---- both ----


class _End(NamedTuple):
    """How an episode ended, as the record says it."""

    failure: Failure | None
    said: str  # in its own word
    reward: Any


def _conversation(
    where: str, record: Record, turns: Turns, used: Sequence[str], domain: str | None, end: _End, n_front: int = 0
) -> Conversation:
    """A conversation whose prompt ends with the first thing that the user says, or later: after `n_front` messages."""
    asked = next((i for i, message in enumerate(turns.messages) if message.role == "user"), 0)
    after = range(max(asked, n_front), len(turns.messages))
    prompt = next((i for i in after if turns.messages[i].role == "assistant"), None)
    if prompt is None:
        said = f" ({end.said:.200})" if end.said else ""
        if end.failure == "infrastructure":
            raise BadRow(where, "infrastructure", f"the run broke before the agent's first turn{said}.")
        raise BadRow(where, "no_agent_turn", f"in {len(turns.messages)} messages the agent answers no user{said}.")
    id, trial = record.value.get("task_id"), record.value.get("trial")
    if isinstance(id, bool) or not isinstance(id, str | int) or id == "":
        raise BadRow(where, "wrong_value", f"'task_id' is {id!r:.80}; it must be text or a whole number.")
    name = f"{domain}/{id}" if domain else str(id)
    has_id = record.value.get("id") is not None or record.key is not None
    return conversation(
        where,
        record,
        turns,
        used,
        facts={} if end.reward is None else {"reward": end.reward},
        question=None,
        task=name,
        failure=end.failure,
        prompt=prompt,
        answers=False,
        **({} if has_id or not isinstance(trial, int) else {"id": f"{name}:{trial}"}),
    )


def _domain(given: Any, policy: str, record: Record) -> str | None:
    """What a task's number counts within: as a field names it, else the policy's heading, else the file's name."""
    if isinstance(given, str) and given.strip():
        return given.strip()
    named = _POLICY.match(policy) or (None if record.path is None else _DOMAIN.search(record.path.name))
    return named[1].lower() if named is not None else None


def _member(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return value[key] if isinstance(value.get(key), Mapping) else {}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
