"""Which trajectories are successes: as their files say, by a field or a comparison, or by scoring their answers again.

    null                    as the file says
    info.reward             the field's own value: true or false, 1 or 0 (numbers between are failures, graded by it)
    score >= 0.5            a comparison: >= > <= < == != with a number, true, false or "text"
    info.reward == true
    rescore                 the environment's scorer on prediction and reference

A field is named by its path in the record (`info.reward`), as readers keep it in the trajectory's `metadata`; fields
of the native format as they stand there (`outcome.score`, `metadata.temperature`). `success`, `score`, `prediction`,
`reference`, `failure` and `source` without a path are the trajectory's, unless the record has such a field.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias

from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import refuse_constant, shorten
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

_PATH = r"[\w-]+(?:\.[\w-]+)*"
_RULE = re.compile(rf"(?P<path>{_PATH})\s*(?:(?P<operator>>=|<=|==|!=|>|<)\s*(?P<value>\S.*))?", re.S)
_MISSING = object()
_GRAMMAR = (
    'It must be a field (info.reward), a comparison of a field with a number, true, false or "text" '
    "(score >= 0.5), rescore, or null."
)


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
    try:
        value = json.loads(read["value"], parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        value = None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not isinstance(value, bool | int | float | str) or value in (math.inf, -math.inf):
        raise RequestError(
            f"trajectories.label={text:.80}: {read['value']:.40} is neither a number nor true, false or text in double "
            f"quotes.\n{_GRAMMAR}"
        )
    if read["operator"] not in ("==", "!=") and not is_number:
        raise RequestError(
            f"trajectories.label={text:.80}: {read['operator']} compares numbers, and {read['value']:.40} is none.\n"
            "Use == or !=."
        )
    return Comparison(read["path"], read["operator"], value)


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
            raise BadRow(where, "no_label", f"success is nowhere said.\n{_fields(trajectory)}")
        return Labelled(trajectory, _disagreement(trajectory, trajectory.outcome.success, scored, "the file"))
    label = _by_field(trajectory, parsed, is_labelled, where)
    relabelled = _with(trajectory, label)
    return Labelled(relabelled, _disagreement(trajectory, label.success, scored, f"trajectories.label={rule}"))


def field(trajectory: Trajectory, path: str) -> Any:
    """The value at a path, or `KeyError` where there is none."""
    outcome = trajectory.outcome
    own: dict[str, Any] = {
        key: getattr(outcome, key) for key in ("success", "score", "failure", "prediction", "reference")
    }
    if UNLABELLED in trajectory.metadata:
        own = {key: value for key, value in own.items() if key not in ("success", "score", "failure")}
    views = (trajectory.metadata, {**own, "source": trajectory.source, "outcome": own, "metadata": trajectory.metadata})
    for view in views:
        value: Any = view
        for key in path.split("."):
            value = value.get(key, _MISSING) if isinstance(value, Mapping) else _MISSING
        if value is not _MISSING:
            return value
    raise KeyError(path)


def _by_field(trajectory: Trajectory, rule: Field | Comparison, is_labelled: bool, where: str) -> Score:
    try:
        value = field(trajectory, rule.path)
    except KeyError:
        raise BadRow(where, "no_label", f"there is no field {rule.path!r}.\n{_fields(trajectory)}") from None
    if value is None:
        raise BadRow(where, "no_label", f"{rule.path!r} is null.\n{_fields(trajectory)}")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    shown = shorten(json.dumps(value, ensure_ascii=False))
    graded = float(value) if is_number and 0 <= value <= 1 else None
    if isinstance(rule, Field):
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            value = value.strip().lower() == "true"
        if not isinstance(value, bool) and graded is None:
            problem = f"{rule.path!r} is {shown}; it must be true, false or a number from 0 to 1.\n"
            remedy = f"Compare it, e.g. trajectories.label='{rule.path} >= 5' or '{rule.path} == \"yes\"'."
            raise BadRow(where, "wrong_value", problem + remedy)
        success = value == 1
    else:
        is_text = isinstance(rule.value, str)
        if isinstance(value, str) != is_text or not isinstance(value, str | bool | int | float):
            problem = f"{rule.path!r} is {shown}; it cannot be compared with {json.dumps(rule.value)}."
            raise BadRow(where, "wrong_value", problem)
        success = OPERATORS[rule.operator](value, rule.value)
        graded = graded if rule.operator in (">=", ">", "==") else None
    if graded is not None:
        return Score(success, graded)
    if is_labelled and trajectory.outcome.success == success:
        return Score(success, trajectory.outcome.score)
    return Score(success, float(success))


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
    return f"there is no reference answer to score by, and no label.\n{_fields(trajectory)}"


def _fields(trajectory: Trajectory) -> str:
    """The fields that a rule could name, for an error."""
    names: list[str] = []
    for key, value in trajectory.metadata.items():
        if key == UNLABELLED:
            continue
        inner = [f"{key}.{member}" for member in value] if isinstance(value, Mapping) else []
        names += inner or [key]
    shown = ", ".join(name[:60] for name in names[:20]) + (", ..." if len(names) > 20 else "")
    return f"Name one that is there in trajectories.label: {shown}." if names else "Its record has no further fields."
