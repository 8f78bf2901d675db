"""mini-swe-agent's runs, one object a file. A file:

    {"info": {"exit_status": "Submitted", "submission": "diff --git a/a.py b/a.py", "mini_version": "1.15.0"},
     "messages": [
        {"role": "system", "content": "Your response must hold exactly one bash code block."},
        {"role": "user", "content": "Fix the sum in a.py."},
        {"role": "assistant", "content": "THOUGHT: I look.\\n\\n```bash\\ncat a.py\\n```", "extra": {}},
        {"role": "user", "content": "<returncode>0</returncode>\\n<output>\\nx = 1 - 1\\n</output>"}],
     "trajectory_format": "mini-swe-agent-1", "instance_id": "a__a-1"}

Newer versions have tool calls, and whole answers of OpenAI's Responses API in place of messages; a message of the role
`exit` says how it ended, and is no message of the model's. User messages after the agent's first turn are what it saw.

The label is `info.resolved` where somebody put it there, else it stands in the results of SWE-bench by `instance_id`,
which is the task; without that the file's name is. `info.exit_status` tells the kind of a failure (`exit_status.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nat.core.rows.json_lines import require
from nat.core.rows.json_records import Record
from nat.trajectories.formats.coding_runs import counted, name_of, run, with_observations, with_thoughts
from nat.trajectories.formats.conversations import Conversation, text_at
from nat.trajectories.formats.exit_status import failure_of
from nat.trajectories.formats.turns import read_turns

NAME = "mini_swe_agent"
PLACE = 12


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: messages, and a word of mini-swe-agent's on what they are."""
    if not isinstance(value.get("messages"), list):
        return False
    name, info = value.get("trajectory_format"), value.get("info")
    if isinstance(name, str):
        return name.startswith("mini-swe-agent")
    return isinstance(info, Mapping) and ("mini_version" in info or {"exit_status", "submission"} <= info.keys())


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The one conversation of a record."""
    value = record.value
    given = require(value, "messages", list, where)
    exits = [message for message in given if _is_exit(message)]
    turns = read_turns([_message(message) for message in given if not _is_exit(message)], where, value)
    turns = with_observations(counted(turns, {"exit_messages": len(exits)}))
    statuses = (text_at(value, "info.exit_status"), *(text_at(message, "extra.exit_status") for message in exits))
    status = next((status for status in statuses if status is not None), None)
    stated = text_at(value, "instance_id") or text_at(value, "info.instance_id")
    yield run(where, record, turns, ("messages",), failure_of(status), task=stated or name_of(record.path))


def _is_exit(message: Any) -> bool:
    return isinstance(message, Mapping) and message.get("role") == "exit"


def _message(message: Any) -> Any:
    """A message as chats have it, of an answer or a result as OpenAI's Responses API has those too."""
    if not isinstance(message, Mapping):
        return message
    if message.get("object") == "response" and isinstance(message.get("output"), list):
        return {"role": "assistant", "content": [part for item in message["output"] for part in _parts(item)]}
    if message.get("type") == "function_call_output":
        return {"role": "tool", "tool_call_id": message.get("call_id"), "content": message.get("output")}
    return with_thoughts(dict(message))


def _parts(item: Any) -> list[Any]:
    is_message = isinstance(item, Mapping) and item.get("type") == "message"
    return list(item["content"]) if is_message and isinstance(item.get("content"), list) else [item]
