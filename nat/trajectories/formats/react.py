"""ReAct episodes of question answering with a search tool. Three shapes of record are read.

Messages, in an object of records by id; `gt` and `pred` are normalised answers, `f1` grades a failure:

    {"6238": {"reward": true, "em": true, "f1": 1.0, "gt": "seth macfarlane", "pred": "seth macfarlane", "prompt": [],
              "traj": [{"role": "user", "content": "Who created the show with Wendy Schaal ...?"},
                       {"role": "assistant", "content": "Thought: ...\\nAction: finish[Seth MacFarlane]"},
                       {"role": "user", "content": "Observation: Episode finished, reward = True"}]}}

The same with one text, in which a line that begins with `Observation:` is an observation up to the next line that
begins with `Thought:` or `Action:`, and everything between two observations is one turn of the agent, however many
thoughts and actions it holds:

    "traj": "### Instruction:\\nWho created ...?\\n\\n### Response:\\nThought: ..\\nAction: search[...]\\nObservation: "

And chat messages, line by line, where the last observation alone tells the outcome. What tells them from the format
`chat` are user messages that begin with `Observation:`:

    {"messages": [{"role": "user", "content": "Who was ...?"}, {"role": "assistant", "content": "Thought: ..."}, ...]}

The label is the first of `reward`, `em`, `acc` and the other fields that `nat.trajectories.formats.episodes` names,
in the record or its `info`. All fields but the messages, `prompt` and `id` are kept in `metadata`, where a label rule
can name them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nat.core.questions import question_id
from nat.core.rows.bad import BadRow, OnBad, refuse
from nat.core.rows.json_lines import optional, readable, require
from nat.core.rows.json_records import Record, read_records
from nat.trajectories.formats import native
from nat.trajectories.formats.episodes import (
    UNLABELLED,
    episode,
    facts,
    holds,
    is_observation,
    leftover,
    line_of,
    metadata_of,
    outcome,
    question_in,
    read_label,
    read_messages,
    split_prompt,
)
from nat.types import Message, Trajectory

NAME = "react"
PLACE = 3
_USED = ("traj", "messages", "conversations", "prompt", "id")
_HEADS = (
    re.compile(r"(?P<before>.*?)### Instruction:\s*\n(?P<question>.*?)\n\s*### Response:[ \t]*\n?", re.DOTALL),
    re.compile(r"(?P<before>)\s*Question:[ \t]*(?P<question>.*?)\n(?=(?:Thought|Action)(?: ?\d+)?:)", re.DOTALL),
)
_OBSERVATION = re.compile(r"^Observation(?: ?\d+)?:", re.MULTILINE)
_STEP = re.compile(r"^(?:Thought|Action|Observation)(?: ?\d+)?:", re.MULTILINE)


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: `traj`, or `messages` with observations in user messages."""
    key = holds(value)
    return key == "traj" or (
        key == "messages" and not native.recognises(value) and any(map(is_observation, value[key]))
    )


def read(
    path: Path, label: str = "", on_bad: OnBad = refuse, needs_label: bool = True
) -> Iterator[tuple[str, Trajectory]]:
    """Stream `("file:line", trajectory)`; a record that cannot be trained on goes to `on_bad`.

    Ids are the records' own, or file name and line; `label` stands for the file among several. `needs_label`: see
    `nat.trajectories.formats.episodes.read_label`.
    """
    make = partial(_trajectory, label=label, file=path.stem, needs_label=needs_label)
    return readable(read_records(path, on_bad), make, on_bad)


def _trajectory(where: str, record: Record, label: str, file: str, needs_label: bool) -> Trajectory:
    value = record.value
    key = next((key for key in ("traj", "messages", "conversations") if key in value), "traj")
    given = value[key] if isinstance(value.get(key), str) else require(value, key, list, where)
    if not given:
        raise BadRow(where, "empty_conversation", f"{key!r} is empty: the agent never acted.")
    if isinstance(given, str):
        question, preamble, messages = _from_text(given, where)
    else:
        front, messages = split_prompt(read_messages(given, where))
        question, preamble = question_in(front, where), len(front) - 1
    kept, ending = episode(messages, where)
    info = facts(value)
    said = read_label(info, ending, where, needs_label)
    own = optional(value, "id", (str, int), where) if record.key is None else record.key
    # The published files call a trajectory by its question's number, so another policy's file has the same ones.
    name, prefix = (line_of(where), label or file) if own is None else (str(own), label)
    return Trajectory(
        id=f"{prefix}:{name}" if prefix else name,
        question_id=question_id(question),
        question=question,
        messages=kept,
        outcome=outcome(said, info, kept, where),
        source=file,
        metadata={
            **leftover(value, _USED),
            **metadata_of(preamble + _prompt_length(value.get("prompt")), ending),
            **({UNLABELLED: True} if said is None else {}),
        },
    )


def _from_text(text: str, where: str) -> tuple[str, int, list[Message]]:
    """The question, the number of texts set aside in front of it, and the messages."""
    head = next((match for pattern in _HEADS if (match := pattern.match(text))), None)
    if head is None or not head["question"].strip():
        problem = "the text begins with neither '### Instruction: ... ### Response:' nor 'Question: ...'."
        raise BadRow(where, "missing_value", problem)
    return head["question"].strip(), int(bool(head["before"].strip())), split_text(text[head.end() :])


def holds_observations(text: str) -> bool:
    return _OBSERVATION.search(text) is not None


def split_text(text: str) -> list[Message]:
    """Agent turns and observations, in their order; only line breaks around each are left out.

    Joined by line breaks they are the text again, but for empty lines between them.
    """
    messages: list[Message] = []
    position = 0
    while position < len(text):
        observation = _OBSERVATION.match(text, position)
        following = _STEP.search(text, observation.end()) if observation else _OBSERVATION.search(text, position)
        end = following.start() if following else len(text)
        part = text[position:end].strip("\n")
        if part:
            messages.append(Message("user" if observation else "assistant", part))
        position = end
    return messages


def _prompt_length(prompt: Any) -> int:
    """How many messages of a few-shot prompt the record holds beside the episode."""
    return len(prompt) if isinstance(prompt, list) else int(bool(prompt))
