"""Pairs that preference training takes (DPO, reward models): two answers to one question. A record:

    {"prompt": [{"role": "user", "content": "What colour is the sky?"}], "score_chosen": 9.0, "score_rejected": 2.0,
     "chosen": [{"role": "assistant", "content": "Blue."}], "rejected": [{"role": "assistant", "content": "Green."}]}

It is two trajectories on one question, a success `ID:chosen` and a failure `ID:rejected`. The prompt is a text, or
messages, under `prompt`, `conversations`, `messages` or `input`, or Alpaca's `instruction`, `input` and `history`, or
`question`; each answer is a text, a message, or messages. Without a prompt, what both answers begin with is one:
messages, or texts like "\\n\\nHuman: ...\\n\\nAssistant: ...". OpenAI's `preferred_output` and `non_preferred_output`
are read too.

The label stands in the place alone; scores and margins are kept in `metadata`. A pair of equal answers is a bad row, as
is one whose answers are to different questions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from nat.core.questions import normalise
from nat.core.rows.bad import BadRow
from nat.core.rows.json_records import Record
from nat.trajectories.formats.alpaca import asked_before
from nat.trajectories.formats.conversations import Conversation, conversation, tools_in
from nat.trajectories.formats.episodes import PAIRS, PREDICTIONS, facts, is_pair, without_label
from nat.trajectories.formats.prompts import joined, prompted, read_messages
from nat.trajectories.formats.turns import Turns
from nat.types import Message, Role

NAME = "preferences"
PLACE = 35
PROMPTS = ("prompt", "conversations", "messages", "input", "question", "query")
_SAYS = re.compile(r"(?:\A|\n\n)(Human|Assistant):[ \t]?")
_NONE = Turns((), {}, ())


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: two answers, each text, a message or messages."""
    return is_pair(value)


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The two conversations of a record."""
    value = record.value
    pair = next((pair for pair in PAIRS if any(key in value for key in pair)), PAIRS[0])
    for key in pair:
        if not value.get(key):
            raise BadRow(where, "missing_value", f"{key!r} is missing or empty; a pair has {' and '.join(pair)}.")
    given, used = _prompt(value, where)
    answers = [_messages(value[key], "assistant", where, key) for key in pair]
    if answers[0].messages == answers[1].messages:
        raise BadRow(where, "wrong_value", f"{pair[0]!r} and {pair[1]!r} are the same; leave the pair out.")
    length = _opening(answers, given, where, pair)
    if length:  # each is the whole conversation, in which the prompt stands, but for a system message perhaps
        has_system = any(message.role == "system" for message in answers[0].messages[:length])
        kept = () if has_system else tuple(message for message in given.messages if message.role == "system")
        given = given._replace(messages=kept)
    of_input = value.get("input") if isinstance(value.get("input"), Mapping) else {}
    tools = tools_in(value.get("tools")) or tools_in((of_input or {}).get("tools")) or ()
    known = {key: said for key, said in without_label(facts(value)).items() if key not in PREDICTIONS}
    found = []
    for key, answer, success in zip(pair, answers, (True, False), strict=True):
        prompt = joined((given, Turns(answer.messages[:length], {}, ())))
        turns, before = prompted(prompt, answer._replace(messages=answer.messages[length:]), where, key)
        label = {**known, "success": success}
        of_pair = {"facts": label, "prompt": before, "tools": tools, "suffix": f":{key}"}
        found.append(conversation(where, record, turns, (*pair, *used), **of_pair))
    return found


def _prompt(value: Mapping[str, Any], where: str) -> tuple[Turns, tuple[str, ...]]:
    """What both answer, where it has a field of its own, and the keys of that."""
    if isinstance(value.get("instruction"), str):
        front, keys = asked_before(value, where)
        return Turns(tuple(front), {}, ()), keys
    for key in PROMPTS:
        given = value.get(key)
        if key == "input" and isinstance(given, Mapping):
            return read_messages(given.get("messages"), "user", where, "input.messages"), (key,)
        if not given or not isinstance(given, str | list):
            continue
        prompt = _messages(given, "user", where, key)
        # Some have one of the conversations under `messages` beside the pair.
        if key != "messages" or prompt.messages[-1].role != "assistant":
            return prompt, (key,)
    return _NONE, ()


def _messages(value: Any, role: Role, where: str, key: str) -> Turns:
    """The messages of a field; a text in which Human and Assistant take turns is a dialogue."""
    if not isinstance(value, str) or not _SAYS.match(value.lstrip("\n")):
        return read_messages(value, role, where, key)
    parts = _SAYS.split(value.lstrip("\n"))[1:]
    said = zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True)
    messages = [Message("user" if name == "Human" else "assistant", text) for name, text in said]
    if len(messages) > 1 and messages[-1] == Message("assistant", ""):  # where the answer goes on
        messages.pop()
    return Turns(tuple(messages), {}, ())


def _opening(answers: list[Turns], given: Turns, where: str, pair: tuple[str, str]) -> int:
    """How many messages both answers begin with, where each is the whole conversation; 0 where they are answers."""
    chosen, rejected = (answer.messages for answer in answers)
    begin = _begins_with(chosen, given.messages) and _begins_with(rejected, given.messages) and len(given.messages)
    if not begin and all(messages[0].role == "assistant" for messages in (chosen, rejected)):
        return 0
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    for key, messages in zip(pair, (chosen, rejected), strict=True):
        if shared == len(messages):
            raise BadRow(where, "wrong_value", f"the other answer begins with all of {key!r}; no turn is its own.")
        if messages[shared].role != "assistant":
            problem = f"{pair[0]!r} and {pair[1]!r} differ first in a {messages[shared].role} message, "
            raise BadRow(where, "wrong_value", f"{problem}so that they do not answer the same.")
    if not begin and given.messages:
        asked = normalise(given.messages[-1].content)
        if not any(asked in normalise(message.content) for message in chosen[:shared]):
            problem = (
                f"{pair[0]!r} is a conversation in which the prompt {given.messages[-1].content!r:.60} is not asked."
            )
            raise BadRow(where, "wrong_value", problem)
    return shared


def _begins_with(messages: tuple[Message, ...], front: tuple[Message, ...]) -> bool:
    return [(m.role, m.content) for m in messages[: len(front)]] == [(m.role, m.content) for m in front]
