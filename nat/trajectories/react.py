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

And the chat format, line by line, where the last observation alone tells the outcome:

    {"messages": [{"role": "user", "content": "Who was ...?"}, {"role": "assistant", "content": "Thought: ..."}, ...]}
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from nat.questions import question_id
from nat.trajectories.episodes import episode, metadata_of, outcome, question_in, read_messages, split_prompt
from nat.trajectories.json_lines import BadRow, OnBad, optional, readable, refuse, require
from nat.trajectories.json_records import Record, read_records
from nat.types import Message, Trajectory

_HEADS = (
    re.compile(r"(?P<before>.*?)### Instruction:\s*\n(?P<question>.*?)\n\s*### Response:[ \t]*\n?", re.DOTALL),
    re.compile(r"(?P<before>)\s*Question:[ \t]*(?P<question>.*?)\n(?=(?:Thought|Action)(?: ?\d+)?:)", re.DOTALL),
)
_OBSERVATION = re.compile(r"^Observation(?: ?\d+)?:", re.MULTILINE)
_STEP = re.compile(r"^(?:Thought|Action|Observation)(?: ?\d+)?:", re.MULTILINE)


def read(path: Path, label: str = "", on_bad: OnBad = refuse) -> Iterator[tuple[str, Trajectory]]:
    """Stream `("file:line", trajectory)`; a record that cannot be trained on goes to `on_bad`.

    Ids are the records' own, or file name and line; `label` stands for the file among several.
    """
    make = partial(_trajectory, label=label, file=path.stem)
    return readable(read_records(path, on_bad), make, on_bad)


def _trajectory(where: str, record: Record, label: str, file: str) -> Trajectory:
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
    own = optional(value, "id", (str, int), where) if record.key is None else record.key
    # The published files call a trajectory by its question's number, so another policy's file has the same ones.
    name, prefix = (where.rpartition(":")[2], label or file) if own is None else (str(own), label)
    return Trajectory(
        id=f"{prefix}:{name}" if prefix else name,
        question_id=question_id(question),
        question=question,
        messages=kept,
        outcome=outcome(value, kept, ending, where),
        source=file,
        metadata=metadata_of(preamble + _prompt_length(value.get("prompt")), ending),
    )


def _from_text(text: str, where: str) -> tuple[str, int, list[Message]]:
    """The question, the number of texts set aside in front of it, and the messages."""
    head = next((match for pattern in _HEADS if (match := pattern.match(text))), None)
    if head is None or not head["question"].strip():
        problem = "the text begins with neither '### Instruction: ... ### Response:' nor 'Question: ...'."
        raise BadRow(where, "missing_value", problem)
    return head["question"].strip(), int(bool(head["before"].strip())), split_text(text[head.end() :])


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
