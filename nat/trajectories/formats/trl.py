"""TRL's unpaired rows, which KTO trains on: a prompt, one completion of it, and whether that is wanted. A record:

    {"prompt": [{"role": "user", "content": "What colour is grass?"}],
     "completion": [{"role": "assistant", "content": "Red."}], "label": false}

Prompt and completion are lists of messages, or plain texts. The prompt as a whole carries no loss, with all turns of
the agent in it; a completion without `prompt` is a whole conversation, whose question is found as in `chat`. `label`
(or `kto_tag`, `reward`, ...) says which it is; `tools` is the list of tools, or that as JSON text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nat.core.rows.json_records import Record
from nat.trajectories.formats.conversations import Conversation, conversation
from nat.trajectories.formats.episodes import holds
from nat.trajectories.formats.prompts import prompted, read_messages
from nat.trajectories.formats.turns import Turns

NAME = "trl"
PLACE = 36
USED = ("prompt", "completion")


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: `prompt` and `completion`, each text or messages."""
    completion = value.get("completion")
    if holds(value) is not None or not isinstance(completion, str | list):
        return False
    return isinstance(value.get("prompt"), str | list) or (isinstance(completion, list) and "label" in value)


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The one conversation of a record."""
    value = record.value
    given = value.get("prompt")
    prompt = Turns((), {}, ()) if given is None else read_messages(given, "user", where, "prompt")
    completion = read_messages(value.get("completion"), "assistant", where, "completion", value)
    turns, length = prompted(prompt, completion, where)
    yield conversation(where, record, turns, USED, prompt=None if given is None else length)
