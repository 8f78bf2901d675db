"""Rows that `harbor traces export` makes of trials, one an episode, which is one turn of the agent. A row:

    {"conversations": [{"role": "user", "content": "Make a file a.txt"},
        {"role": "assistant", "content": "<think>Easy.</think>\\nI write it."}],
     "agent": "terminus-2", "model": "m", "date": "2025-10-16", "task": "make-a-file", "episode": "episode-0",
     "run_id": "r1", "trial_name": "make-a-file__Xa1", "result": "1.0"}

Each row of a trial begins with the one before it, so that of such rows the last is read, whose turns are all of them.
`result` is the label, a reward; or the name of an exception, which is `infrastructure`, but for the agent's own limits
(`formats/atif.py`), with which it failed. `task` is the task, `trial_name` the id. Thoughts and calls stand in the
texts, and are taken out of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import require
from nat.core.rows.json_records import Record
from nat.trajectories.formats.atif import failure_of
from nat.trajectories.formats.conversations import Conversation, conversation, tools_in
from nat.trajectories.formats.episodes import facts, without_label
from nat.trajectories.formats.turns import read_turns
from nat.types import Failure

NAME = "harbor"
PLACE = 13
ROWS = "rows_of_its_trial"  # in metadata: how many rows this one stands for


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: a conversation of a trial's episode."""
    return isinstance(value.get("conversations"), list) and {"episode", "trial_name", "run_id"} <= value.keys()


def grouped(records: Iterator[tuple[str, Record]]) -> Iterator[tuple[str, Record]]:
    """The records; of those of a trial, one after another, that begin with the one before only the last."""
    held: tuple[str, Record] | None = None
    rows = 1
    for where, record in records:
        if held is not None and _goes_on(held[1].value, record.value):
            rows += 1
        elif held is not None:
            yield _with_rows(held, rows)
            rows = 1
        held = (where, record)
    if held is not None:
        yield _with_rows(held, rows)


def _goes_on(before: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    told, now = before.get("conversations"), value.get("conversations")
    same = all(before.get(key) == value.get(key) for key in ("run_id", "trial_name"))
    return same and isinstance(told, list) and isinstance(now, list) and now[: len(told)] == told


def _with_rows(held: tuple[str, Record], rows: int) -> tuple[str, Record]:
    where, record = held
    return (where, record._replace(value={**record.value, ROWS: rows})) if rows > 1 else held


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The one conversation of a row."""
    value = record.value
    given = require(value, "conversations", list, where)
    if not given:
        raise BadRow(where, "empty_conversation", "'conversations' is empty: the agent never acted.")
    result, failure = _result(value.get("result"), where)
    found = facts(value)
    if result is not None:
        found = {**without_label(found), "reward": result}
    task, trial, episode = (value.get(key) for key in ("task", "trial_name", "episode"))
    named: dict[str, Any] = {"task": task} if isinstance(task, str) and task else {}
    if isinstance(trial, str) and trial:
        named["id"] = f"{trial}:{episode}" if isinstance(episode, str) else trial
    turns = read_turns(given, where, value)
    used = ("conversations", "conversations_sharegpt", "tool_definitions")
    tools = tools_in(value.get("tool_definitions")) or ()
    yield conversation(where, record, turns, used, facts=found, tools=tools, failure=failure, **named)


def _result(given: Any, where: str) -> tuple[float | None, Failure | None]:
    """The reward that `result` is, or the failure that its exception stands for, with a reward of 0."""
    if given is None or given == "":
        return None, None
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise BadRow(where, "wrong_value", f"'result' is {given!r:.80}; it must be a reward or an exception's name.")
    try:
        return float(given), None
    except (ValueError, OverflowError):
        return 0.0, failure_of(str(given))
