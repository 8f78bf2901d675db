"""What formats of coding agents share: a run's answer is a patch, and its exit status tells the kind of a failure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nat.core.rows.bad import BadRow
from nat.core.rows.json_records import Record
from nat.trajectories.formats.conversations import Conversation, conversation
from nat.trajectories.formats.turns import Turns
from nat.types import Failure

ENDINGS = (".gz", ".zst", ".json", ".traj")  # of file names; what stands before them names the task


def run(
    where: str,
    record: Record,
    turns: Turns,
    used: Iterable[str],
    failure: Failure | None,
    first: int | None = None,
    **found: Any,
) -> Conversation:
    """A coding agent's run.

    Args:
        failure: its kind, if it failed.
        first: the number of its first turn, where others stand before; by default the first turn there is.
    """
    first = first_turn(turns) if first is None else first
    if not any(message.role == "assistant" for message in turns.messages[first:]):
        reason = "infrastructure" if failure == "infrastructure" else "no_agent_turn"
        raise BadRow(where, reason, f"none of its {len(turns.messages)} messages is the agent's.")
    return conversation(where, record, turns, used, prompt=first, failure=failure, answers=False, **found)


def first_turn(turns: Turns) -> int:
    return next((i for i, m in enumerate(turns.messages) if m.role == "assistant"), len(turns.messages))


def with_observations(turns: Turns, first: int | None = None) -> Turns:
    """The turns; what user messages say after the agent's first turn is what it saw."""
    first = first_turn(turns) if first is None else first
    seen = (replace(m, role="tool") if m.role == "user" else m for m in turns.messages[first:])
    return turns._replace(messages=(*turns.messages[:first], *seen))


def counted(turns: Turns, left_out: Mapping[str, int]) -> Turns:
    """The turns, with more of what was left out."""
    return turns._replace(left_out=Counter(turns.left_out) + Counter(left_out))


def with_thoughts(message: dict[str, Any]) -> dict[str, Any]:
    """A message with the text of its `thinking_blocks`, which Anthropic's models write, as its reasoning."""
    blocks = message.get("thinking_blocks")
    if not isinstance(blocks, list) or isinstance(message.get("reasoning_content"), str):
        return message
    thoughts = [
        block["thinking"] for block in blocks if isinstance(block, Mapping) and isinstance(block.get("thinking"), str)
    ]
    return {**message, "reasoning_content": "\n".join(thoughts)} if thoughts else message


def name_of(path: Path | None) -> str | None:
    """What a run's own file is named after, `a__a-7606` of `a__a-7606.traj.json.gz`; other files hold many runs."""
    name, is_one = "" if path is None else path.name, False
    while (ending := Path(name).suffix) in ENDINGS:
        name = name.removesuffix(ending)
        is_one = is_one or ending == ".traj"
    return name if is_one else None
