"""Samples of lm-evaluation-harness, as `--log_samples` writes them: `samples_TASK_DATE.jsonl`. A row:

    {"doc_id": 4, "doc": {"question": "What is 2 + 3?", "answer": "2 + 3 = 5\\n#### 5"}, "target": "2 + 3 = 5\\n#### 5",
     "arguments": {"gen_args_0": {"arg_0": "Question: What is 2 + 3?\\nAnswer:", "arg_1": {"until": ["Question:"]}}},
     "resps": [[" 2 + 3 = 5\\n#### 5"]], "filtered_resps": ["5"], "filter": "strict-match",
     "metrics": ["exact_match"], "exact_match": 1.0, "doc_hash": "9c1e"}

The prompt is the user's message (with `--apply_chat_template` often a JSON text of messages), the response the agent's
one turn. The label is the first of `metrics` that METRICS lists, else the only one; `target` is the reference,
`filtered_resps` the prediction, and the task `doc_id` in the TASK of the file's name. A response that several filters
scored stands in as many rows: the first is read, and what all of them say is under `filters`, where a label rule finds
it (`filters.flexible-extract.exact_match`). A row of log-likelihoods holds nothing that an agent wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from nat.core.archives import archive_of
from nat.core.questions import normalise
from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import require
from nat.core.rows.json_records import Record, read_records
from nat.trajectories.formats.conversations import QUESTIONS, QUESTIONS_IF_TEXT, Conversation, conversation
from nat.trajectories.formats.prompts import joined, read_messages
from nat.trajectories.formats.turns import Turns
from nat.types import Message

NAME = "lm_eval"
PLACE = 13
OF_A_SAMPLE = ("doc_id", "arguments", "resps", "filtered_resps")
OF_OTHERS = ("question", "instruction", "prompt", "traj", "messages", "conversations")  # in `doc`, but not beside it
METRICS = (
    *("exact_match", "acc", "pass@1", "pass_at_1", "em", "accuracy", "correct", "math_verify", "extractive_match"),
    *("prompt_level_strict_acc", "acc_norm"),
)
NO_MATCH = "[invalid]"  # what a filter gives where it finds nothing
USED = ("arguments", "resps")
_FILE = re.compile(r"samples_(?P<task>.+?)(?:_\d{4}-\d\d-\d\dT[\d.:-]+)?\.jsonl?(?:\.\w+)?")


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: a document with the arguments and responses of its requests."""
    arguments = value.get("arguments")
    has_arguments = isinstance(arguments, list) or (isinstance(arguments, Mapping) and "gen_args_0" in arguments)
    is_sample = isinstance(value.get("resps"), list) and all(key in value for key in OF_A_SAMPLE)
    return has_arguments and is_sample and not any(key in value for key in OF_OTHERS)


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The conversation of a row; none where an earlier row holds the same response."""
    value = record.value
    doc_id = value.get("doc_id")
    if isinstance(doc_id, bool) or not isinstance(doc_id, str | int):
        raise BadRow(where, "wrong_value", f"'doc_id' is {doc_id!r:.80}; it must be a whole number or text.")
    filters = _filters_of(record).get(str(doc_id), {}) if isinstance(value.get("filter"), str) else {}
    if filters and value["filter"] != next(iter(filters)) and value["filter"] in filters:
        return []
    prompt, response = _prompt(value, where), _response(value, where)
    doc = value.get("doc")
    label = _label(value)
    prediction = _prediction(value.get("filtered_resps"))
    target = value.get("target")
    facts = {
        **({} if label is None else {"reward": value[label]}),
        **({} if prediction is None else {"prediction": prediction}),
        **({"reference": target} if isinstance(target, str | int | float) else {}),
    }
    task = _FILE.fullmatch(record.path.name) if record.path is not None else None
    hash = value.get("doc_hash")
    found = conversation(
        where,
        record._replace(key=None),
        joined((prompt, response)),
        USED,
        id=str(doc_id),
        facts=facts,
        no_label=_problem(value),
        question=_question(doc, prompt.messages),
        task=f"{task['task']}/{doc_id}" if task else hash if isinstance(hash, str) and hash else None,
        prompt=len(prompt.messages),
        metadata={"filters": filters} if len(filters) > 1 else {},
    )
    return [found]


# ---- filters ----


def _filters_of(record: Record) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """What the filters of a file say of each document: its metrics and what was filtered, by doc_id and filter."""
    if record.path is None:
        return {}
    file = archive_of(record.path) or record.path
    if not file.is_file():
        return {}
    state = file.stat()
    return _filters(record.path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=2)
def _filters(path: Path, size: int, modified: int) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for _, record in read_records(path, lambda _: None):
        value = record.value
        if recognises(value) and isinstance(value.get("filter"), str) and isinstance(value["doc_id"], str | int):
            said = {name: value[name] for name in _metrics(value)} | {"filtered_resps": value["filtered_resps"]}
            found.setdefault(str(value["doc_id"]), {}).setdefault(value["filter"], said)
    return found


# ---- a row ----


def _request(value: Mapping[str, Any], where: str) -> list[Any]:
    """The arguments of the one request that a row of generation makes."""
    arguments = value.get("arguments")
    if not isinstance(arguments, Mapping | list):
        raise BadRow(where, "wrong_value", f"'arguments' is {arguments!r:.80}; it must hold those of the requests.")
    requests = list(arguments.values()) if isinstance(arguments, Mapping) else arguments
    given = [list(request.values()) if isinstance(request, Mapping) else request for request in requests]
    resps = require(value, "resps", list, where)
    is_generated = len(given) == 1 and isinstance(given[0], list) and len(given[0]) > 1
    if not is_generated or not isinstance(given[0][1], Mapping):
        n = len(resps)
        problem = f"log-likelihoods of {n} continuation{'s' * (n != 1)}, and nothing that the model wrote."
        raise BadRow(where, "no_agent_turn", f"the row holds {problem}")
    return given[0]


def _prompt(value: Mapping[str, Any], where: str) -> Turns:
    given = _request(value, where)[0]
    # Chats that are sent to an API stand as JSON text, which is a tuple of one there and a list here.
    if isinstance(given, list) and len(given) == 1 and isinstance(given[0], str):
        given = given[0]
    read = read_messages(given, "user", where, "arguments")
    if not any(message.role == "user" and message.content.strip() for message in read.messages):
        raise BadRow(where, "missing_value", "'arguments' hold no prompt: nothing was asked.")
    return read


def _response(value: Mapping[str, Any], where: str) -> Turns:
    given = value["resps"]
    texts = given[0] if given and isinstance(given[0], list) else given
    if len(texts) > 1:
        problem = f"'resps' holds {len(texts)} responses and one label: nothing says which of them it is of."
        raise BadRow(where, "no_label", problem)
    if not texts or not isinstance(texts[0], str):
        raise BadRow(where, "wrong_value", f"'resps' is {given!r:.80}; it must hold the text that the model wrote.")
    return Turns((Message("assistant", texts[0]),), {}, ())


def _question(doc: Any, prompt: Iterable[Message]) -> str | None:
    """The question as the document states it, where the prompt repeats it; that may hold solved examples too."""
    asked = [normalise(message.content) for message in prompt if message.role == "user"]
    for key in (*QUESTIONS, *QUESTIONS_IF_TEXT, "prompt", "input", "text"):
        text = doc.get(key) if isinstance(doc, Mapping) else None
        if isinstance(text, str) and text.strip() and asked and normalise(text) in asked[-1]:
            return text.strip()
    return None


def _prediction(filtered: Any) -> str | None:
    while isinstance(filtered, list) and len(filtered) == 1:
        filtered = filtered[0]
    return filtered if isinstance(filtered, str) and filtered.strip() and filtered != NO_MATCH else None


# ---- label ----


def _metrics(value: Mapping[str, Any]) -> list[str]:
    """The metrics of a row; earlier versions do not list them."""
    named = value.get("metrics")
    names = named if isinstance(named, list) else METRICS
    return [name for name in names if isinstance(name, str) and name in value]


def _label(value: Mapping[str, Any]) -> str | None:
    usable = [name for name in _metrics(value) if _is_grade(value[name])]
    known = [name for name in usable if name in METRICS]
    return known[0] if known else usable[0] if len(usable) == 1 and len(_metrics(value)) == 1 else None


def _is_grade(given: Any) -> bool:
    return isinstance(given, bool | int | float) and 0 <= given <= 1


def _problem(value: Mapping[str, Any]) -> str:
    """Why a row has no label, and the rule that would give one."""
    names = _metrics(value)
    if not names:
        return "no metric says success or failure: 'metrics' names none that the row holds."
    said = ", ".join(f"{name} {value[name]!r:.40}" for name in names)
    rule = f"{names[0]} >= 1"
    return f"no metric says success or failure: {said:.200}.\nSay which one counts, e.g. trajectories.label='{rule}'."
