"""Which trajectories are successes: as their files say, by a field or a comparison, or by scoring their answers again.

    null                          as the file says
    info.reward                   the field's own value: true or false, 1 or 0 (numbers between are failures, graded)
    score >= 0.5                  a comparison: >= > <= < == (or =) != with a number, true, false or text
    scores.match.value == C       text of one word may go without quotes; others are "in these" or 'in these'
    rewards[0] > 0                a place in a list; rewards.0 and rewards[-1] are others
    folder == "failed"            the trajectory's file or the folder it lies in
    rescore                       the environment's scorer on prediction and reference

A field is named by its path in the record (`info.reward`), as readers keep it in the trajectory's `metadata`; a key
with dots in it is found as it stands. Fields of the native format are named as they stand there (`outcome.score`,
`metadata.temperature`). `success`, `score`, `prediction`, `reference`, `failure`, `source`, `file` and `folder` without
a path are the trajectory's, unless the record has such a field. Where `trajectories.labels` names another file, a rule
reads the fields of its rows.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import refuse_constant, shorten
from nat.trajectories.fields import MISSING, PATH, at, keys_of, named, offered
from nat.trajectories.formats.episodes import UNLABELLED, failure_kind, final_answer
from nat.types import RequestError, Score, Trajectory

RESCORE = "rescore"
OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
Scorer: TypeAlias = Callable[[str, str], Score]  # of (prediction, reference)

_RULE = re.compile(rf"(?P<path>{PATH})\s*(?:(?P<operator>>=|<=|==|!=|>|<|=)\s*(?P<value>\S.*))?", re.S)
_WORD = re.compile(r"[^\W\d][\w./@-]*")
_NO_WORDS = ("null", "none", "nan", "inf", "infinity", "and", "or", "not")
_WHERE = re.compile(r"(?P<path>.+?)(?::\d+|: record \d+)", re.S)
_GRAMMAR = (
    "It must be a field (info.reward), a comparison of a field with a number, true, false or text (score >= 0.5, "
    'verdict == "all right"), rescore, or null.'
)
LABEL_FROM = "label_from"  # the key in `metadata` that says where in another file a label was found


@dataclass(frozen=True)
class Field:
    """The field's own value is the label."""

    path: str


@dataclass(frozen=True)
class Comparison:
    """A success is whose field compares so."""

    path: str
    operator: str
    value: bool | int | float | str


Rule: TypeAlias = Field | Comparison | Literal["rescore"] | None


class Labelled(NamedTuple):
    """A trajectory with its label. `disagreement` says where that and the scorer differ; None: nowhere."""

    trajectory: Trajectory
    disagreement: str | None


@lru_cache(maxsize=64)  # one rule labels a million rows
def parse_rule(text: str | None) -> Rule:
    """The rule that `trajectories.label` states. Raises RequestError for what is none."""
    if text is None:
        return None
    read = _RULE.fullmatch(text.strip())
    if read is None:
        raise RequestError(f"trajectories.label={text:.80}: no rule.\n{_GRAMMAR}")
    if read["operator"] is None:
        return RESCORE if read["path"] == RESCORE else Field(read["path"])
    value = _value(read["value"].rstrip())
    if value is None:
        several = " The rules of a sweep are quoted each: \"trajectories.label='a >= 1','b >= 2'\"."
        raise RequestError(
            f"trajectories.label={text:.80}: {read['value']:.40} is neither a number nor true, false or text; text of "
            f"several words needs quotes.\n{_GRAMMAR}{several if ',' in read['value'] else ''}"
        )
    if read["operator"] not in ("==", "=", "!=") and (isinstance(value, bool | str)):
        raise RequestError(
            f"trajectories.label={text:.80}: {read['operator']} compares numbers, and {read['value']:.40} is none.\n"
            "Use == or !=."
        )
    return Comparison(read["path"], "==" if read["operator"] == "=" else read["operator"], value)


def _value(text: str) -> bool | int | float | str | None:
    """What a rule compares with; None where it is nothing of the kind."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _WORD.fullmatch(text):
        return None if text.lower() in _NO_WORDS else text
    if len(text) > 1 and text[0] == text[-1] == "'" and "'" not in text[1:-1] and "\\" not in text:
        return text[1:-1]
    try:
        value = json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, int | float | str) and value not in (math.inf, -math.inf) else None


def relabel(trajectory: Trajectory, rule: str | None, score: Scorer | None, where: str = "") -> Labelled:
    """The trajectory with the label that `rule` gives it, and where that differs from the scorer's.

    With `rescore`, the label is the scorer's; the disagreement is with the file's. A trajectory without a reference
    then keeps the file's label; one without a prediction is a failure. A new failure gets its kind by rule. The score
    is the compared field's where it lies in [0, 1] and more is better; else the file's own where the label stays what
    it was; else 1 or 0.

    Args:
        score: the environment's scorer; None: nothing is scored again, and no disagreement is found.
        where: "file:line" of the trajectory, for errors; by default its id.

    Raises:
        BadRow: `no_label` (the field is not there, or null; nothing to score by), `wrong_value` (it cannot be
            compared so). Its message names place, path and the fields that are there.
        RequestError: `rule` is none.
    """
    parsed = parse_rule(rule)
    where = where or trajectory.id
    if trajectory.outcome.prediction is None and trajectory.outcome.reference is not None:
        # Our own format need not repeat the answer that the last turn gives.
        answer = final_answer(trajectory.messages)
        trajectory = replace(trajectory, outcome=replace(trajectory.outcome, prediction=answer))
    is_labelled = UNLABELLED not in trajectory.metadata
    scored = _scored(trajectory, score, where)
    if parsed == RESCORE:
        if score is not None and trajectory.outcome.reference is not None and trajectory.outcome.prediction is None:
            scored = Score(False, 0.0)
        if scored is not None:
            given = trajectory.outcome.success if is_labelled else None
            return Labelled(_with(trajectory, scored), _disagreement(trajectory, given, scored, "the file"))
        if not is_labelled:
            raise BadRow(where, "no_label", _nothing_to_score(trajectory, score))
        return Labelled(trajectory, None)
    if parsed is None:
        if not is_labelled:
            raise BadRow(where, "no_label", f"success is nowhere said.\n{fields_of(trajectory.metadata)}")
        return Labelled(trajectory, _disagreement(trajectory, trajectory.outcome.success, scored, "the file"))
    label = _by_field(trajectory, parsed, is_labelled, where)
    relabelled = _with(trajectory, label)
    return Labelled(relabelled, _disagreement(trajectory, label.success, scored, f"trajectories.label={rule}"))


def field(trajectory: Trajectory, path: str, where: str = "") -> Any:
    """The value at a path, or `KeyError` where there is none. `where` is "file:line" of the trajectory."""
    outcome = trajectory.outcome
    own: dict[str, Any] = {
        key: getattr(outcome, key) for key in ("success", "score", "failure", "prediction", "reference")
    }
    if UNLABELLED in trajectory.metadata:
        own = {key: value for key, value in own.items() if key not in ("success", "score", "failure")}
    keys = keys_of(path)
    place = _place(where) if keys[0] in ("file", "folder") else {}
    further = {**own, "source": trajectory.source, **place, "outcome": own, "metadata": trajectory.metadata}
    for view in (trajectory.metadata, further):
        value = at(view, keys)
        if value is not MISSING:
            return value
    raise KeyError(path)


def _place(where: str) -> dict[str, str]:
    """The file of a trajectory, and the folder in which it lies."""
    match = _WHERE.fullmatch(where)
    if match is None:
        return {}
    path = Path(match["path"])
    return {"file": path.name, "folder": path.absolute().parent.name}


def _by_field(trajectory: Trajectory, rule: Field | Comparison, is_labelled: bool, where: str) -> Score:
    try:
        value = field(trajectory, rule.path, where)
    except KeyError:
        value = MISSING
    success, graded = judged(value, rule, where, trajectory.metadata)
    if graded is not None:
        return Score(success, graded)
    if is_labelled and trajectory.outcome.success == success:
        return Score(success, trajectory.outcome.score)
    return Score(success, float(success))


def judged(value: Any, rule: Field | Comparison, where: str, record: Mapping[str, Any]) -> tuple[bool, float | None]:
    """Whether a rule takes a value for a success, and its grade where it is one.

    Raises BadRow as `relabel` does; `record` is where the value was looked for.
    """
    if value is MISSING:
        raise BadRow(where, "no_label", f"there is no field {rule.path!r}.\n{fields_of(record)}")
    if value is None:
        raise BadRow(where, "no_label", f"{rule.path!r} is null.\n{fields_of(record)}")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    shown = shorten(json.dumps(value, ensure_ascii=False))
    graded = float(value) if is_number and 0 <= value <= 1 else None
    if isinstance(rule, Field):
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            value = value.strip().lower() == "true"
        if not isinstance(value, bool) and graded is None:
            problem = f"{rule.path!r} is {shown}; it must be true, false or a number from 0 to 1."
            raise BadRow(where, "wrong_value", f"{problem}\n{_compared(record, rule.path, value)}")
        return value == 1, graded
    if isinstance(rule.value, bool) and isinstance(value, str) and value.strip().lower() in ("true", "false"):
        value = value.strip().lower() == "true"
    is_text = isinstance(rule.value, str)
    if isinstance(value, str) != is_text or not isinstance(value, str | bool | int | float):
        problem = f"{rule.path!r} is {shown}; it cannot be compared with {json.dumps(rule.value)}."
        raise BadRow(where, "wrong_value", f"{problem}\n{_compared(record, rule.path, value)}")
    return OPERATORS[rule.operator](value, rule.value), graded if rule.operator in (">=", ">", "==") else None


def labelled(trajectory: Trajectory, label: Score, found: str, broke: bool) -> Trajectory:
    """The trajectory with a label that was found elsewhere (`found`). `broke`: the episode is no fault of the policy.

    An episode of which the record itself says that it broke stays so.
    """
    if broke or trajectory.outcome.failure == "infrastructure":
        label = Score(False, 0.0)
        trajectory = replace(trajectory, outcome=replace(trajectory.outcome, failure="infrastructure"))
    made = _with(trajectory, label)
    return replace(made, metadata={**made.metadata, LABEL_FROM: found})


def _compared(record: Mapping[str, Any], path: str, value: Any) -> str:
    """How a value that is no label by itself can be compared, for an error."""
    if isinstance(value, str):
        return f"Compare it with text: trajectories.label='{path} == {_text(value)}'."
    if isinstance(value, bool):
        return f"It is a label as it stands: trajectories.label={path}."
    if isinstance(value, int | float):
        return f"Compare it with a number, e.g. trajectories.label='{path} >= {json.dumps(value)}'."
    return fields_of(record)


def _text(value: str) -> str:
    """Text in a rule, as short as it may be shown."""
    return json.dumps(value if len(value) <= 40 else "...", ensure_ascii=False)


def _with(trajectory: Trajectory, label: Score) -> Trajectory:
    """The trajectory with this label; the kind of a failure stays what it was."""
    outcome = trajectory.outcome
    failure = None
    if not label.success:
        failure = outcome.failure or failure_kind(
            trajectory.messages, outcome.prediction, any_tool=True, reference=outcome.reference
        )
    metadata = {key: value for key, value in trajectory.metadata.items() if key != UNLABELLED}
    labelled = replace(outcome, success=label.success, score=float(label.score), failure=failure)
    return replace(trajectory, outcome=labelled, metadata=metadata)


def _scored(trajectory: Trajectory, score: Scorer | None, where: str) -> Score | None:
    """What the scorer says; None where there is nothing to score by."""
    outcome = trajectory.outcome
    if score is None or outcome.reference is None or outcome.prediction is None:
        return None
    try:
        return score(outcome.prediction, outcome.reference)
    except RequestError:
        raise
    except Exception as error:  # a scorer of the user's own
        problem = f"the scorer failed on prediction {shorten(outcome.prediction)!r}: {type(error).__name__}: {error}"
        raise BadRow(where, "unscorable", problem) from None


def _disagreement(trajectory: Trajectory, given: bool | None, scored: Score | None, who: str) -> str | None:
    if given is None or scored is None or given == scored.success:
        return None
    prediction, reference = trajectory.outcome.prediction, trajectory.outcome.reference
    answered = "no prediction" if prediction is None else f"prediction {shorten(prediction)!r}"
    words = ("failure", "success")
    compared = f"{answered}, reference {shorten(reference or '')!r}"
    return f"{who} says {words[given]}, the scorer {words[scored.success]}: {compared}"


def _nothing_to_score(trajectory: Trajectory, score: Scorer | None) -> str:
    if score is None:
        return "this environment has no scorer; name a field in trajectories.label."
    return f"there is no reference answer to score by, and no label.\n{fields_of(trajectory.metadata)}"


def fields_of(record: Mapping[str, Any]) -> str:
    """The fields of a record that a rule could name, for an error."""
    shown, rule = named(record), offered(record)
    if not shown:
        return "Its record has no further fields."
    such = f"trajectories.label='{rule}'" if rule is not None else "trajectories.label"
    return f"Name one that is there, as {such}: {shown}."
