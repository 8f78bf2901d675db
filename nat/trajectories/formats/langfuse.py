"""Traces as Langfuse exports them, with their observations and scores. A record:

    {"id": "t1", "name": "agent", "input": {"question": "2 + 3?"}, "observations": [
        {"id": "o1", "type": "GENERATION", "startTime": "2025-01-01T00:00:01Z", "model": "m",
         "input": [{"role": "user", "content": "2 + 3?"}], "output": {"role": "assistant", "content": "5"}}],
     "scores": [{"name": "correct", "value": 1, "dataType": "BOOLEAN"}]}

or observations alone, one a row with its `traceId`, of which those of a trace are one record; or a session's `traces`.
Generations are the calls of the model: one whose input begins with all that was said before goes on with it, what the
first was given is the prompt and carries no loss. Generations that go on with none are trajectories of their own where
they have the agent's system message; the rest are counted (`other_calls`). A trace without generations is its own
input and output.

The label is a score of the trace named `success`, `correct`, `reward`, ..., or the only one there is;
`trajectories.label='scores.NAME.score >= 0.5'` names another. Task and reference stand in the trace's `metadata`. The
id is the trace's, by which scores of another file are joined. Where the last generation failed, it is `infrastructure`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import optional
from nat.core.rows.json_records import Record
from nat.trajectories.formats.conversations import Conversation, conversation, tools_in
from nat.trajectories.formats.episodes import PREDICTIONS, REFERENCES, facts
from nat.trajectories.formats.logs import (
    Exchange,
    Graded,
    chains,
    facts_of,
    of_the_agent,
    read_exchange,
    tools_sent,
    unlabelled,
)
from nat.trajectories.formats.prompts import prompted
from nat.trajectories.formats.turns import json_in
from nat.types import Failure

NAME = "langfuse"
PLACE = 17
TYPES = ("GENERATION", "SPAN", "EVENT", "TOOL", "AGENT", "CHAIN", "RETRIEVER", "EVALUATOR", "EMBEDDING", "GUARDRAIL")
STARTS = ("startTime", "start_time")
TRACES = ("traceId", "trace_id")


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: a trace, an observation, or a session."""
    traces = value.get("traces")
    if isinstance(traces, list) and traces and isinstance(traces[0], Mapping):
        return recognises(traces[0]) and "nodes" not in traces[0]
    observations = value.get("observations")
    if isinstance(observations, list):
        typed = [one for one in observations if isinstance(one, Mapping) and one.get("type") in TYPES]
        return bool(typed) or (not observations and {"id", "scores", "output"} <= value.keys())
    return _trace_id(value) is not None and value.get("type") in TYPES and ("input" in value or "output" in value)


def _trace_id(value: Mapping[str, Any]) -> str | None:
    return next((value[key] for key in TRACES if isinstance(value.get(key), str) and value[key]), None)


def grouped(records: Iterator[tuple[str, Record]]) -> Iterator[tuple[str, Record]]:
    """The records, with the observations of a trace that stand alone made one of them, after all others."""
    alone: dict[str, tuple[str, Record, list[Any]]] = {}
    for where, record in records:
        trace = _trace_id(record.value)
        if trace is None or "observations" in record.value or "traces" in record.value:
            yield where, record
        else:
            alone.setdefault(trace, (where, record, []))[2].append(record.value)
    for trace, (where, record, observations) in alone.items():
        roots = [
            one for one in observations if not (one.get("parentObservationId") or one.get("parent_observation_id"))
        ]
        root = roots[0] if roots else observations[0]
        whole = {"id": trace, **{key: root[key] for key in ("input", "output", "metadata", "name") if key in root}}
        yield where, record._replace(value={**whole, "observations": observations})


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The conversations of a trace, or of a session's traces."""
    traces = record.value.get("traces")
    if isinstance(traces, list) and "observations" not in record.value:
        for trace in traces:
            if not isinstance(trace, dict):
                raise BadRow(where, "wrong_value", f"a trace is {trace!r:.80}; it must be an object.")
            yield from _of_trace(where, Record(None, trace, path=record.path))
        return
    yield from _of_trace(where, record)


def _of_trace(where: str, record: Record) -> list[Conversation]:
    value = record.value
    given = optional(value, "observations", list, where) or []
    if any(not isinstance(one, dict) for one in given):
        raise BadRow(where, "wrong_value", "'observations' must be a list of objects.")
    calls = sorted((one for one in given if one.get("type") == "GENERATION"), key=_start)
    exchanges = [read_exchange(one.get("input"), one.get("output"), where) for one in calls]
    if not calls and value.get("output") is not None:
        exchanges = [read_exchange(value.get("input"), value.get("output"), where)]
    failure = _failure(calls, exchanges)
    found, others = of_the_agent(chains(exchanges))
    if not any(one.completion.messages for one in found):
        reason = "infrastructure" if failure == "infrastructure" else "no_agent_turn"
        raise BadRow(where, reason, f"none of its {len(calls)} generations was answered.")
    scores = _scores(value.get("scores"), where)
    about = value.get("metadata")
    about = json_in(about) if isinstance(about, str) else about
    noted: dict[str, Any] = {"calls": len(calls), **({"other_calls": others} if others else {})}
    if scores:
        noted["scores"] = {name: graded._asdict() for name, graded in scores.items()}
    label = facts_of(scores)
    said = facts({key: given for key, given in value.items() if key != "output"}, (about,))
    kept = {key: given for key, given in said.items() if not label or key in (*PREDICTIONS, *REFERENCES)}
    tools = next((listed for one in calls if (listed := tools_in(tools_sent(one.get("input"))))), ())
    made = []
    for number, one in enumerate(found):
        turns, prompt = prompted(one.prompt, one.completion, where, "output")
        made.append(
            conversation(
                where,
                record,
                turns,
                ("observations", "scores", "input", "output"),
                places=(about,),
                facts={**kept, **label},
                prompt=prompt,
                tools=tools,
                failure=failure,
                suffix=f":{number}" if len(found) > 1 else "",
                no_label=unlabelled("scores", scores),
                metadata=noted,
            )
        )
    return made


def _start(observation: Mapping[str, Any]) -> str:
    return next((observation[key] for key in STARTS if isinstance(observation.get(key), str)), "")


def _failure(calls: Sequence[Mapping[str, Any]], exchanges: Sequence[Exchange]) -> Failure | None:
    if not calls or exchanges[-1].completion.messages:
        return None
    return "infrastructure" if calls[-1].get("level") == "ERROR" else None


def _scores(given: Any, where: str) -> dict[str, Graded]:
    """The scores of the trace itself by their names; those of its observations only where it has none."""
    if given is None:
        return {}
    if not isinstance(given, list) or any(not isinstance(score, Mapping) for score in given):
        raise BadRow(where, "wrong_value", f"'scores' is {given!r:.80}; it must be a list of scores.")
    own = [score for score in given if not (score.get("observationId") or score.get("observation_id"))]
    found: dict[str, Graded] = {}
    for score in own or given:
        name = score.get("name")
        kind = score.get("dataType", score.get("data_type"))
        value, text = score.get("value"), score.get("stringValue", score.get("string_value"))
        if isinstance(value, str):
            value, text = None, value
        if kind == "BOOLEAN" and value in (0, 1):
            value = bool(value)
        if kind == "CATEGORICAL":  # its number is that of the category
            value = None
        if isinstance(name, str) and name:
            found[name] = Graded(
                value if isinstance(value, bool | int | float) else None, text if isinstance(text, str) else None
            )
    return found
