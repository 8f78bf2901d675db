"""Outputs of ToRA, and of evaluations built on it: sampled solutions with code and what that printed. A record:

    {"idx": 0, "question": "What is 2 + 2?", "gt_cot": "2 + 2 = 4", "gt": "4", "pred": ["4", "5"],
     "code": ["```python\\nprint(2+2)\\n```\\n```output\\n4\\n```\\nIt is $\\\\boxed{4}$.", "It is $\\\\boxed{5}$."],
     "report": [null, null], "score": [true, false]}

Every member of `code` is a trajectory, `IDX:0`, `IDX:1`, ..., all on one question; ```` ```output ```` blocks are what
the agent saw. `pred` has the answer of each, `gt` is the reference, and `score` says which are right. Without `score`,
`pred` is compared with `gt`: equal texts are a success, numbers are compared by value. Formulas that differ as text
may be equal, so these have no label: trajectories.label=rescore asks the environment's scorer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from nat.agents.scoring import numeric_match, plain_text, read_numbers
from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import require
from nat.core.rows.json_records import Record
from nat.trajectories.formats.conversations import Conversation, conversation
from nat.trajectories.formats.episodes import answer_text, holds
from nat.trajectories.formats.turns import Turns
from nat.types import Message

NAME = "tora"
PLACE = 33
OF_SAMPLES = ("code", "pred", "report", "score")  # lists with a member for each sample
_NO_LABEL = (
    "'pred' and 'gt' differ as text, and are formulas that may be equal all the same.\n"
    "Let the environment's scorer tell: trajectories.label=rescore."
)
_FRACTION = re.compile(r"\A\s*([-+]?)\s*\\[dt]?frac\{(\d{1,18})\}\{(\d{1,18})\}\s*\Z")
_FORMULA = re.compile(r"[\\\d^_=+*/{}$()\[\]]")


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: a question with lists `code` and `pred`, and `gt`."""
    has_lists = isinstance(value.get("code"), list) and isinstance(value.get("pred"), list)
    return has_lists and "gt" in value and isinstance(value.get("question"), str) and holds(value) is None


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """A conversation for each sampled solution."""
    value = record.value
    question = require(value, "question", str, where)
    if not question.strip():
        raise BadRow(where, "wrong_value", "'question' is empty; it must be the text that the agent was asked.")
    codes = require(value, "code", list, where)
    if not codes:
        raise BadRow(where, "empty_conversation", "'code' is empty: the agent wrote nothing.")
    for key in ("pred", "report", "score"):
        if isinstance(value.get(key), list) and len(value[key]) != len(codes):
            problem = f"{key!r} has {len(value[key])} members and 'code' {len(codes)}; each solution needs its own."
            raise BadRow(where, "wrong_value", problem)
    index = value.get("idx")
    reference = value.get("gt")
    for number, code in enumerate(codes):
        if not isinstance(code, str):
            raise BadRow(where, "wrong_value", f"'code' holds {code!r:.80}; it must be a list of texts.")
        own = {key: value[key][number] for key in OF_SAMPLES[1:] if isinstance(value.get(key), list)}
        own = {**{key: value[key] for key in OF_SAMPLES[1:] if key in value}, **own}
        found: dict[str, Any] = {"gt": reference, "pred": own.get("pred")}
        label = own.get("score")
        if label is None:
            label = _compared(answer_text(own.get("pred"), "pred", where), answer_text(reference, "gt", where))
        found["success"] = label
        of_code: dict[str, Any] = {
            "facts": {key: fact for key, fact in found.items() if fact is not None},
            "question": question,
            "prompt": 1,
            "suffix": f":{number}" if len(codes) > 1 else "",
            "metadata": {key: member for key, member in own.items() if member is not None},
        }
        if label is None:
            of_code["no_label"] = _NO_LABEL
        if isinstance(index, int | str) and not isinstance(index, bool) and "id" not in value and record.key is None:
            of_code["id"] = str(index)
        turns = Turns((Message("user", question), Message("assistant", code)), {}, ())
        yield conversation(where, record, turns, ("question", "idx", *OF_SAMPLES), **of_code)


def _compared(prediction: str | None, reference: str | None) -> bool | None:
    """Whether the prediction is the reference; None where that cannot be told."""
    if reference is None:
        return None
    if prediction is None:
        return False
    if prediction.strip() == reference.strip():
        return True
    numbers = [_FRACTION.sub(r"\1\2/\3", text) for text in (prediction, reference)]
    if all(map(read_numbers, numbers)):
        return numeric_match(*numbers) == 1
    if _FORMULA.search(prediction) or _FORMULA.search(reference):
        return None
    return plain_text(prediction) == plain_text(reference)
