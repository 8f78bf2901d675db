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
from collections.abc import Iterable, Mapping
from typing import Any

from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import require
from nat.core.rows.json_records import Record
from nat.trajectories.formats import native
from nat.trajectories.formats.conversations import Conversation, conversation
from nat.trajectories.formats.episodes import holds, is_observation, messages_in
from nat.trajectories.formats.turns import Turns, decoded, read_turns
from nat.types import Message

NAME = "react"
PLACE = 30
_USED = ("traj", "messages", "conversations", "prompt", "id")
_HEADS = (
    re.compile(r"(?P<before>.*?)### Instruction:\s*\n(?P<question>.*?)\n\s*### Response:[ \t]*\n?", re.DOTALL),
    re.compile(r"(?P<before>)\s*Question:[ \t]*(?P<question>.*?)\n(?=(?:Thought|Action)(?: ?\d+)?:)", re.DOTALL),
)
_OBSERVATION = re.compile(r"^Observation(?: ?\d+)?:", re.MULTILINE)
_STEP = re.compile(r"^(?:Thought|Action|Observation)(?: ?\d+)?:", re.MULTILINE)


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: `traj` without structured calls, or `messages` with user observations."""
    held = messages_in(value)
    if isinstance(value.get("traj"), str) and (held is None or held[0] != "traj"):
        return True
    key, messages = held or ("", [])
    if key == "traj":
        return not any(isinstance(message, Mapping) and "tool_calls" in message for message in messages)
    return key == "messages" and not native.recognises(value) and any(map(is_observation, messages))


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The one episode of a record."""
    value = record.value
    key = next((key for key in ("traj", "messages", "conversations") if key in value), holds(value) or "traj")
    written = decoded(value.get(key))
    given = written if isinstance(written, str | list) else require(value, key, list, where)
    if not given:
        raise BadRow(where, "empty_conversation", f"{key!r} is empty: the agent never acted.")
    prompt = _prompt_length(value.get("prompt"))
    if isinstance(given, str):
        question, before, messages = _from_text(given, where)
        front = (*((Message("system", before),) if before else ()), Message("user", question))
        turns, stated = Turns((*front, *messages), {}, ()), {"question": question}
    else:
        turns, stated = read_turns(given, where, value), {}
    used = tuple(used for used in _USED if used != "id")
    yield conversation(where, record, turns, (*used, key), any_tool=False, shown_before=prompt, **stated)


def _from_text(text: str, where: str) -> tuple[str, str, list[Message]]:
    """The question, what stands in front of it, and the messages."""
    head = next((match for pattern in _HEADS if (match := pattern.match(text))), None)
    if head is None or not head["question"].strip():
        problem = "the text begins with neither '### Instruction: ... ### Response:' nor 'Question: ...'."
        raise BadRow(where, "missing_value", problem)
    return head["question"].strip(), head["before"].strip(), split_text(text[head.end() :])


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
