"""Alpaca records: an instruction, its input, and what the agent wrote, in a list or line by line. A record:

    {"instruction": "Answer with Thought and Action steps.", "input": "Who wrote Emma?",
     "output": "Thought: I know it.\\nAction: finish[Jane Austen]", "reward": true}

`instruction` and `input` (where there is one) on a line of its own are the question; `system` and rounds of `history`
(pairs of what was asked and answered) in front of it are set aside and counted. `output` is one turn of the agent,
exactly as it stands; with lines that begin with `Observation:` it is a whole ReAct episode and is cut into turns and
observations as `react` cuts one text. Label, prediction, reference and all other fields are found and kept as in
`sharegpt`; a field `question` takes the place of `instruction` and `input`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nat.core.rows.bad import BadRow, OnBad, refuse
from nat.core.rows.json_lines import optional, readable, require
from nat.core.rows.json_records import Record, read_records
from nat.trajectories.formats.conversations import trajectory_of
from nat.trajectories.formats.episodes import holds
from nat.trajectories.formats.react import holds_observations, split_text
from nat.types import Message, Trajectory

NAME = "alpaca"
PLACE = 7
KEYS = ("instruction", "input", "output", "system", "history")


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: `instruction` and `output` are text, and it holds no messages."""
    return holds(value) is None and all(isinstance(value.get(key), str) for key in ("instruction", "output"))


def read(
    path: Path, label: str = "", on_bad: OnBad = refuse, needs_label: bool = True
) -> Iterator[tuple[str, Trajectory]]:
    """Stream `("file:line", trajectory)`; a record that cannot be trained on goes to `on_bad`.

    `label` stands for the file among several. `needs_label`: see `nat.trajectories.formats.episodes.read_label`.
    """
    make = partial(_trajectory, label=label, file=path.stem, needs_label=needs_label)
    return readable(read_records(path, on_bad), make, on_bad)


def _trajectory(where: str, record: Record, label: str, file: str, needs_label: bool) -> Trajectory:
    value = record.value
    instruction = require(value, "instruction", str, where)
    input = optional(value, "input", str, where) or ""
    output = require(value, "output", str, where)
    asked = f"{instruction}\n{input}" if input.strip() else instruction
    if not asked.strip():
        raise BadRow(where, "missing_value", "'instruction' and 'input' are empty; they must hold the question.")
    if not output:
        raise BadRow(where, "empty_conversation", "'output' is empty: the agent never acted.")
    turns = split_text(output) if holds_observations(output) else [Message("assistant", output)]
    system = optional(value, "system", str, where)
    history = optional(value, "history", list, where) or []
    trajectory = trajectory_of(
        where, record, [Message("user", asked), *turns], used=KEYS, label=label, file=file, needs_label=needs_label
    )
    preamble = bool(system) + 2 * len(history)
    if not preamble:
        return trajectory
    return replace(trajectory, metadata={**trajectory.metadata, "preamble_messages": preamble})
