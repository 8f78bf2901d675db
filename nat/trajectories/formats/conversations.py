"""From messages to a trajectory, for the formats that hold whole conversations: sharegpt, chat and alpaca."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nat.core.questions import question_id
from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import optional
from nat.core.rows.json_records import Record
from nat.trajectories.formats.episodes import (
    PLACES,
    UNLABELLED,
    episode,
    facts,
    leftover,
    line_of,
    metadata_of,
    outcome,
    question_in,
    read_label,
    split_prompt,
)
from nat.trajectories.formats.native import preamble_length
from nat.types import Message, Trajectory


def trajectory_of(
    where: str,
    record: Record,
    messages: Sequence[Message],
    *,
    used: Sequence[str],
    label: str,
    file: str,
    needs_label: bool,
) -> Trajectory:
    """The trajectory of a record with these messages.

    The question is the field `question` of the record or of its `info`, `metadata` or `outcome`, else the last user
    message before the agent's first turn; it and what stands before it are set aside and counted. All fields but
    `used`, `id`, `source` and `question` are kept in `metadata`. Ids are the records' own, or file name and line.
    """
    value = record.value
    places = (value, *(value.get(key) for key in PLACES))
    given = next((text for text in map(_question, places) if text is not None), None)
    if given is None:
        front, rest = split_prompt(messages)
        question = question_in(front, where)
        asking = 1
    else:
        length = preamble_length(messages, given)
        front, rest = list(messages[:length]), list(messages[length:])
        question, asking = given, sum(message.role == "user" for message in front[-1:])
    kept, ending = episode(rest, where)
    info = facts(value)
    said = read_label(info, ending, where, needs_label)
    own = optional(value, "id", (str, int), where) if record.key is None else record.key
    name, prefix = (line_of(where), label or file) if own is None else (str(own), label)
    source = value.get("source")
    is_source = isinstance(source, str | int | float) and not isinstance(source, bool) and source != ""
    consumed = {*used, "id", *(("source",) if is_source else ()), *(("question",) if _question(value) else ())}
    return Trajectory(
        id=f"{prefix}:{name}" if prefix else name,
        question_id=question_id(question),
        question=question,
        messages=kept,
        outcome=outcome(said, info, kept, where, any_tool=True),
        source=str(source) if is_source else file,
        metadata={
            **leftover(value, consumed),
            **metadata_of(len(front) - asking, ending),
            **({UNLABELLED: True} if said is None else {}),
        },
    )


def _question(place: Any) -> str | None:
    """The question that an object names, or None."""
    question = place.get("question") if isinstance(place, dict) else None
    return question if isinstance(question, str) and question.strip() else None


def text_of(content: Any, where: str, what: str) -> str:
    """A message's text: text, or a list of text parts joined as they are."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRow(where, "wrong_value", f"{what} is {content!r:.80}; it must be text or a list of text parts.")
    return "".join(_part(part, where, what) for part in content)


def _part(part: Any, where: str, what: str) -> str:
    text = part.get("text") if isinstance(part, dict) else part
    if not isinstance(text, str):
        kind = part.get("type") if isinstance(part, dict) else part
        raise BadRow(where, "wrong_value", f"{what} holds a part {kind!r:.60}; only text can be read.")
    return text
