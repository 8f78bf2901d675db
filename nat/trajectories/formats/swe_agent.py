"""SWE-agent's runs: its `.traj` files, and the rows in which SWE-smith and Nebius publish such runs. A `.traj`:

    {"environment": "main",
     "trajectory": [{"thought": "Look.", "action": "ls", "response": "Look.\\n```\\nls\\n```", "observation": "a.py"}],
     "history": [{"role": "system", "content": "SETTING: You are an autonomous programmer.", "agent": "main"},
                 {"role": "user", "content": "Here is a demonstration.", "is_demo": true, "agent": "main"},
                 {"role": "user", "content": "ISSUE: sum() is wrong.", "agent": "main"},
                 {"role": "assistant", "content": "Look.\\n```\\nls\\n```", "thought": "Look.", "action": "ls"},
                 {"role": "user", "content": "a.py", "agent": "main"}],
     "info": {"exit_status": "submitted", "submission": "diff --git a/a.py b/a.py"}}

The messages are those of `history`; demonstrations belong to the prompt, and what follows the agent's first turn in
user messages is what it saw. The label stands elsewhere, in the results of SWE-bench, by the task: `instance_id`, or
the file's name (`astropy__astropy-7606.traj`). Rows have it as `resolved` or `target`:

    {"instance_id": "a__a-1", "model": "m", "traj_id": "a__a-1.x", "resolved": true, "patch": "", "messages": "[...]"}
    {"instance_id": "a__a-1", "model_name": "m", "target": false, "exit_status": "submitted", "generated_patch": "...",
     "trajectory": [{"role": "ai", "text": "Look.\\n```\\nls\\n```", "mask": false}]}

`exit_status` tells the kind of a failure (`exit_status.py`). "Exit due to cost limit" and the like in the agent's place
are the harness' words: they are left out, and counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import require
from nat.core.rows.json_records import Record
from nat.trajectories.formats.coding_runs import counted, name_of, run, with_observations, with_thoughts
from nat.trajectories.formats.conversations import Conversation, text_at
from nat.trajectories.formats.episodes import facts, without_label
from nat.trajectories.formats.exit_status import failure_of
from nat.trajectories.formats.turns import decoded, json_in, read_turns

NAME = "swe_agent"
PLACE = 11
OF_A_STEP = ("response", "observation", "thought", "action")  # `response` is SWE-agent's word
IN_AGENTS_PLACE = re.compile(
    r"Exit(?:ing)? due to (?:cost limit|context window|(?:runtime|retry|environment|unknown|format) error|forfeit"
    r"|repeated format|multiple consecutive|total execution time)",
    re.I,
)
DUPLICATES = re.compile(r"edited_files\d+")  # of the files that a patch changes, in `info`


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: a `.traj`, or a row of one of the two data sets."""
    return _is_traj(value) or _messages_of_row(value) is not None


def _is_traj(value: Mapping[str, Any]) -> bool:
    steps, history = value.get("trajectory"), value.get("history")
    if not isinstance(steps, list) or not (isinstance(value.get("info"), Mapping) or "environment" in value):
        return False
    step = steps[0] if steps else {}
    if not isinstance(step, Mapping) or "role" in step:
        return False
    message = history[0] if isinstance(history, list) and history else None
    return (isinstance(message, Mapping) and "role" in message) or all(key in step for key in OF_A_STEP)


def _messages_of_row(value: Mapping[str, Any]) -> tuple[str, list[Any]] | None:
    """The key of a row's messages, and those: SWE-smith's or Nebius'."""
    if not isinstance(value.get("instance_id"), str):
        return None
    if "traj_id" in value:
        key, needed = "messages", "content"
    elif "target" in value or "generated_patch" in value:
        key, needed = "trajectory", "text"
    else:
        return None
    messages = decoded(value.get(key))
    first = messages[0] if isinstance(messages, list) and messages else None
    return (key, messages) if isinstance(first, Mapping) and "role" in first and needed in first else None


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The one conversation of a record."""
    value = record.value
    row = _messages_of_row(value)
    if row is None:
        yield _of_traj(where, record)
        return
    key, given = row
    label = facts(value)
    if isinstance(value.get("target"), bool):
        label = {**without_label(label), "resolved": value["target"]}
    yield _conversation(where, record, given, (key,), value.get("exit_status"), facts=label)


def _of_traj(where: str, record: Record) -> Conversation:
    value = record.value
    info = value.get("info")
    info = info if isinstance(info, Mapping) else {}
    steps = require(value, "trajectory", list, where)
    if any(not isinstance(step, dict) for step in steps):
        raise BadRow(where, "wrong_value", "'trajectory' must be a list of steps, each an object.")
    history = value.get("history")
    if not steps and not history:
        raise BadRow(where, "empty_conversation", "'trajectory' and 'history' are empty: the agent never acted.")
    given = _messages_of_steps(steps) if not history else require(value, "history", list, where)
    noted: dict[str, Any] = {key: member for key, member in info.items() if not DUPLICATES.fullmatch(key)}
    found: dict[str, Any] = {
        "task": _task(value, info, record.path),
        "metadata": {"info": noted} if noted else {},
    }
    # Its other attempts, which the harness did not choose, are runs of their own; nothing says how they ended.
    attempts = value.get("attempts")
    left_out = {"attempts": len(attempts) - 1} if isinstance(attempts, list) and len(attempts) > 1 else {}
    # Turns whose action could not be read or run are in the steps alone: the agent was asked again without them.
    n_turns = sum(isinstance(message, Mapping) and message.get("role") == "assistant" for message in given)
    if history and len(steps) > n_turns > 0:
        left_out["turns_asked_again"] = len(steps) - n_turns
    used = ("trajectory", "history", "replay_config", "attempts")
    return _conversation(where, record, given, used, info.get("exit_status"), left_out, **found)


def _messages_of_steps(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages of a file without `history`: what the model was first asked, and its turns."""
    asked = next((steps[0][key] for key in ("query", "messages") if isinstance(steps[0].get(key), list)), [])
    messages = list(asked)
    for step in steps:
        messages.append({"role": "assistant", "content": step.get("response"), "thought": step.get("thought")})
        messages.append({"role": "user", "content": step.get("observation") or ""})
    return messages


def _task(value: Mapping[str, Any], info: Mapping[str, Any], path: Path | None) -> str | None:
    """The instance's id: as a field says it, or the configuration in it, or the file's name."""
    config = value.get("replay_config")
    config = json_in(config) if isinstance(config, str) else config
    stated = (
        text_at(value, "instance_id"),
        text_at(info, "instance_id"),
        text_at(config, "problem_statement.id"),
        text_at(value, "environment"),
    )
    for number, name in enumerate(stated):
        if name is not None and (number < 3 or "__" in name):
            return name
    return name_of(path)


def _conversation(
    where: str,
    record: Record,
    given: Sequence[Any],
    used: Iterable[str],
    status: Any,
    left_out: Mapping[str, int] | None = None,
    **found: Any,
) -> Conversation:
    kept, n_harness = _without_harness(given)
    turns = read_turns([_message(message) for message in kept], where, record.value)
    first = len(read_turns([_message(message) for message in kept[: _first(kept)]], where).messages)
    turns = counted(turns, {**(left_out or {}), "harness_messages": n_harness})
    return run(where, record, with_observations(turns, first), used, failure_of(status), first, **found)


def _without_harness(given: Sequence[Any]) -> tuple[list[Any], int]:
    """The messages up to the harness' words in the agent's place, if these end them, and how many that cuts."""
    last = next((i for i in reversed(range(len(given))) if _role(given[i]) in ("assistant", "ai")), None)
    if last is None:
        return list(given), 0
    message = given[last]
    text = message.get("content") if isinstance(message.get("content"), str) else message.get("text")
    if not isinstance(text, str) or not IN_AGENTS_PLACE.match(text) or message.get("action"):
        return list(given), 0
    return list(given[:last]), len(given) - last


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, Mapping) else None


def _is_demo(message: Any) -> bool:
    return isinstance(message, Mapping) and message.get("is_demo") in (True, "True", "true")


def _first(given: Sequence[Any]) -> int:
    """The first turn that is no demonstration's."""
    turns = (i for i, m in enumerate(given) if _role(m) in ("assistant", "ai") and not _is_demo(m))
    return next(turns, len(given))


def _message(message: Any) -> Any:
    """A message with its parts where `read_turns` looks for them."""
    if not isinstance(message, Mapping):
        return message
    made = dict(message)
    if made.get("role") == "system" and made.get("text") is None and isinstance(made.get("system_prompt"), str):
        made["text"] = made["system_prompt"]
    ids = made.get("tool_call_ids")
    if isinstance(ids, list) and len(ids) == 1:
        made.setdefault("tool_call_id", ids[0])
    if made.get("mask") is True or _is_demo(made):
        made["train"] = False
    return with_thoughts(made)
