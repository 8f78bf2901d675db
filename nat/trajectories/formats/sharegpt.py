"""ShareGPT conversations: turns of `from` and `value`, in a list, an object by id, or line by line. A record:

    {"id": "shop-17", "conversations": [
        {"from": "system", "value": "You have the tool find_order."},
        {"from": "human", "value": "Where is my order 17?"},
        {"from": "function_call", "value": "{\\"name\\": \\"find_order\\", \\"arguments\\": {\\"number\\": \\"17\\"}}"},
        {"from": "observation", "value": "sent yesterday"},
        {"from": "gpt", "value": "It was sent yesterday.", "loss": true}],
     "info": {"reward": 1}}

`human` asks (`user`), `gpt` is the agent, `observation` is what a tool said; `nat.trajectories.formats.turns` has the
other names. A `function_call` turn is the agent's: its text stays as it is and, where it is JSON with a `name`, stands
in `tool_calls` too. `loss: false` (or `weight: 0`) on a turn of the agent: it carries no loss. Human turns that begin
with `Observation:` are observations, and one that tells how the episode ended is set aside, as in `react`.

The label is the first of the fields that `nat.trajectories.formats.episodes` names, in the record or its `info`,
`metadata`, `outcome`, ...; `f1` or `score` grades it; prediction and reference are `pred`, `prediction` and `gt`,
`reference`, `ground_truth`, `answer`, .... All other fields are kept in `metadata`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import require
from nat.core.rows.json_records import Record
from nat.trajectories.formats.conversations import Conversation, conversation
from nat.trajectories.formats.episodes import messages_in
from nat.trajectories.formats.turns import read_turns

NAME = "sharegpt"
PLACE = 50


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: messages whose first has `from`."""
    _, messages = messages_in(value) or ("", [])
    return bool(messages) and isinstance(messages[0], Mapping) and "from" in messages[0]


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The one conversation of a record."""
    key, given = messages_in(record.value) or ("", require(record.value, "conversations", list, where))
    if not given:
        raise BadRow(where, "empty_conversation", f"{key!r} is empty: the agent never acted.")
    yield conversation(where, record, read_turns(given, where, record.value), (key,))
