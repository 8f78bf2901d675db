"""A trajectory as a JSON object, and back: what our own format, the audit's files and the cache hold.

Fields that few trajectories have (`prompt`, `tools`), and of messages those that say nothing (`train: true`, no calls,
no reasoning, a weight of 1), are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nat.types import Message, Outcome, Trajectory


def to_record(trajectory: Trajectory) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": trajectory.id,
        "question_id": trajectory.question_id,
        "question": trajectory.question,
        "messages": [message_to_record(message) for message in trajectory.messages],
        "outcome": dict(vars(trajectory.outcome)),
        "source": trajectory.source,
        "metadata": trajectory.metadata,
    }
    if trajectory.prompt:
        record["prompt"] = [message_to_record(message) for message in trajectory.prompt]
    if trajectory.tools:
        record["tools"] = list(trajectory.tools)
    return record


def message_to_record(message: Message) -> dict[str, Any]:
    record: dict[str, Any] = {"role": message.role, "content": message.content}
    if not message.train:
        record["train"] = False
    if message.tool_calls:
        record["tool_calls"] = list(message.tool_calls)
    if message.reasoning:
        record["reasoning"] = message.reasoning
    if message.weight != 1 and message.train:
        record["weight"] = message.weight
    return record


def from_record(record: Mapping[str, Any]) -> Trajectory:
    """What `to_record` made, also after JSON. Nothing is checked: see `nat.trajectories.formats.native` for that."""
    return Trajectory(
        record["id"],
        record["question_id"],
        record["question"],
        tuple(map(message_from_record, record["messages"])),
        Outcome(**record["outcome"]),
        record["source"],
        record["metadata"],
        tuple(map(message_from_record, record.get("prompt", ()))),
        tuple(record.get("tools", ())),
    )


def message_from_record(record: Mapping[str, Any]) -> Message:
    return Message(
        record["role"],
        record["content"],
        record.get("train", True),
        tuple(record.get("tool_calls", ())),
        record.get("reasoning", ""),
        record.get("weight", 1.0),
    )
