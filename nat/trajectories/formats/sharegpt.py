"""ShareGPT conversations: turns of `from` and `value`, in a list, an object by id, or line by line. A record:

    {"id": "shop-17", "conversations": [
        {"from": "system", "value": "You have the tool find_order."},
        {"from": "human", "value": "Where is my order 17?"},
        {"from": "function_call", "value": "{\\"name\\": \\"find_order\\", \\"arguments\\": {\\"number\\": \\"17\\"}}"},
        {"from": "observation", "value": "sent yesterday"},
        {"from": "gpt", "value": "It was sent yesterday.", "loss": true}],
     "info": {"reward": 1}}

`human` asks (`user`), `gpt` is the agent (`chatgpt`, `bot`, `assistant`, `model`), `observation` is what a tool said
(`tool`, `function_response`, `function`). A `function_call` turn is the agent's: its text stays as it is and, where it
is JSON with a `name`, stands in `tool_calls` too. `loss: false` (or `weight: 0`) on a turn of the agent: it carries no
loss. Human turns that begin with `Observation:` are observations, and one that tells how the episode ended is set
aside, as in `react`.

The question is the field `question` (also in `info`, `metadata`), else the last human turn before the agent's first.
The label is the first of `reward`, `em`, `acc`, `success`, `correct`, `is_correct`, `label`, `outcome`, `score` in the
record or its `info`, `metadata`, `outcome`; `f1` or `score` grades it; prediction and reference are `pred`,
`prediction` and `gt`, `reference`, `ground_truth`, `answer`. All other fields are kept in `metadata`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nat.core.rows.bad import BadRow, OnBad, refuse
from nat.core.rows.json_lines import check_value, readable, refuse_constant, require
from nat.core.rows.json_records import Record, read_records
from nat.trajectories.formats.conversations import trajectory_of
from nat.trajectories.formats.episodes import holds
from nat.trajectories.formats.tool_calls import read_call
from nat.types import Message, Role, Trajectory

NAME = "sharegpt"
PLACE = 5
ROLES: Mapping[str, Role] = {
    "system": "system",
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "bot", "assistant", "model", "function_call", "tool_call"), "assistant"),
    **dict.fromkeys(("observation", "tool", "function_response", "tool_response", "function"), "tool"),
}
CALLS = ("function_call", "tool_call")


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: `conversations` whose first turn has `from`."""
    turns = value.get("conversations")
    return holds(value) == "conversations" and bool(turns) and isinstance(turns[0], Mapping) and "from" in turns[0]


def read(
    path: Path, label: str = "", on_bad: OnBad = refuse, needs_label: bool = True
) -> Iterator[tuple[str, Trajectory]]:
    """Stream `("file:line", trajectory)`; a record that cannot be trained on goes to `on_bad`.

    `label` stands for the file among several. `needs_label`: see `nat.trajectories.formats.episodes.read_label`.
    """
    make = partial(_trajectory, label=label, file=path.stem, needs_label=needs_label)
    return readable(read_records(path, on_bad), make, on_bad)


def _trajectory(where: str, record: Record, label: str, file: str, needs_label: bool) -> Trajectory:
    given = require(record.value, "conversations", list, where)
    if not given:
        raise BadRow(where, "empty_conversation", "'conversations' is empty: the agent never acted.")
    messages = [_message(value, where) for value in given]
    used = ("conversations",)
    return trajectory_of(where, record, messages, used=used, label=label, file=file, needs_label=needs_label)


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, dict):
        raise BadRow(where, "wrong_value", f"a turn is {value!r:.80}; it must be an object with 'from' and 'value'.")
    name = require(value, "from", str, where)
    role = ROLES.get(name)
    if role is None:
        raise BadRow(where, "wrong_value", f"unknown role {name!r:.60} in 'from'; the roles are {', '.join(ROLES)}.")
    text = require(value, "value", str, where)
    return Message(role, text, role != "assistant" or trains(value, where), _calls(text) if name in CALLS else ())


def trains(value: Mapping[str, Any], where: str) -> bool:
    """Whether a turn of the agent may carry loss: `loss` (true or false) or `weight` (0 or 1), where given."""
    for key in ("loss", "weight"):
        given = value.get(key)
        if given is None:
            continue
        if given not in (0, 1) or (key == "loss" and not isinstance(given, bool)):
            kinds = "true or false" if key == "loss" else "0 or 1"
            raise BadRow(where, "wrong_value", f"{key!r} is {given!r:.80}; it must be {kinds}.")
        if not given:
            return False
    return True


def _calls(text: str) -> tuple[Mapping[str, Any], ...]:
    """The call, or calls, that the JSON of a `function_call` turn makes; none where it is none."""
    try:
        value = json.loads(text, parse_constant=refuse_constant)
        check_value(value, text, "")
        json.dumps(value, allow_nan=False)  # 1e999 is read as infinity
    except (ValueError, RecursionError, BadRow):
        return ()
    calls = value if isinstance(value, list) else [value]
    return tuple(calls) if calls and all(isinstance(call, dict) and read_call(call) for call in calls) else ()
