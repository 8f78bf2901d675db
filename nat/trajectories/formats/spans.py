"""Spans of OpenTelemetry that hold a model's messages: GenAI's, OpenLLMetry's, OpenInference's. A record, a span:

    {"trace_id": "t1", "span_id": "s1", "parent_id": null, "name": "chat m", "attributes": {
        "gen_ai.operation.name": "chat", "gen_ai.input.messages":
            "[{\\"role\\": \\"user\\", \\"parts\\": [{\\"type\\": \\"text\\", \\"content\\": \\"2 + 3?\\"}]}]",
        "gen_ai.output.messages":
            "[{\\"role\\": \\"assistant\\", \\"parts\\": [{\\"type\\": \\"text\\", \\"content\\": \\"5\\"}]}]",
        "gen_ai.evaluation.name": "correct", "gen_ai.evaluation.score.value": 1.0}}

or OTLP as JSON (`resourceSpans`), Jaeger's `{"traceID": ..., "spans": [...]}`, and rows as Phoenix exports them
(`context.trace_id`, `attributes.llm.input_messages`). Messages stand in `gen_ai.input.messages` and
`gen_ai.output.messages` of a span or of its events, in `gen_ai.prompt.0.content` and `gen_ai.completion.0.content`, in
`llm.input_messages.0.message.content` and so on, or in events, one a message.

All spans of a trace, or of a `gen_ai.conversation.id`, are one record. A call of the model whose input begins with all
that was said before goes on with it; what stands in the first input is the prompt and carries no loss. Calls that go on
with none are trajectories of their own, `ID:0`, `ID:1`, where they have the agent's system message; the rest are
counted (`other_calls`).

The label is what an evaluation says (events `gen_ai.evaluation.result`, or these attributes): one named `success`,
`correct`, `reward`, ..., or the only one; `trajectories.label='evaluations.NAME.score >= 0.5'` names another. Else it
is an attribute of the root span, as are the task (`task_id`) and the reference. The id is the trace's. Where the last
call failed, the trace is `infrastructure`.
"""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nat.core.rows.bad import BadRow
from nat.core.rows.json_records import Record
from nat.trajectories.formats.conversations import Conversation, conversation, tools_in
from nat.trajectories.formats.episodes import PREDICTIONS, REFERENCES, facts
from nat.trajectories.formats.logs import Exchange, Graded, chains, ended, facts_of, of_the_agent, unlabelled
from nat.trajectories.formats.prompts import prompted
from nat.trajectories.formats.turns import Turns, json_in, read_turns, text_of
from nat.types import Failure, Message

NAME = "spans"
PLACE = 16
SPANS = "spans_of_its_trace"
TRACES = ("trace_id", "traceId", "traceID", "context.trace_id")
IDS = ("span_id", "spanId", "spanID", "context.span_id")
PARENTS = ("parent_id", "parentSpanId", "parent_span_id", "parentId")
STARTS = ("start_time", "startTimeUnixNano", "start_time_unix_nano", "startTime", "start_timestamp")
OF_A_MODEL = ("gen_ai.", "llm.", "pydantic_ai.")  # attributes of spans that have to do with one
WHOLE = ("invoke_agent", "invoke_workflow", "create_agent")  # operations that repeat what the calls in them hold
MESSAGE_EVENTS = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
BASE64 = 24  # characters of the 16 bytes of a trace's id
EVALUATION = "gen_ai.evaluation"
CONVERSATION = "gen_ai.conversation.id"


class Span(NamedTuple):
    """A span as all exporters have it; attributes by their whole names."""

    where: str
    trace: str
    parent: str | None
    start: tuple[int, float | str]
    attributes: Mapping[str, Any]
    events: tuple[tuple[str, Mapping[str, Any]], ...]
    failed: bool

    def has(self, *prefixes: str) -> bool:
        of_events = (key for _, attributes in self.events for key in attributes)
        return any(key.startswith(prefixes) for key in (*self.attributes, *of_events)) or any(
            name.startswith(prefixes) for name, _ in self.events
        )


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: a span, or an object that holds spans."""
    if isinstance(value.get("resourceSpans", value.get("resource_spans")), list):
        return True
    if isinstance(value.get("traceID"), str) and isinstance(value.get("spans"), list):
        return True
    return _is_span(value)


def _is_span(value: Mapping[str, Any]) -> bool:
    context = value.get("context")
    places = (value, context) if isinstance(context, Mapping) else (value,)
    named = all(any(_name(place, keys) for place in places) for keys in (TRACES, IDS))
    has_attributes = isinstance(value.get("attributes"), Mapping | list | str)
    return named and (has_attributes or any(key.startswith("attributes.") for key in value))


def _name(place: Mapping[str, Any], keys: Iterable[str]) -> str | None:
    return next((str(place[key]) for key in keys if isinstance(place.get(key), str | int) and place[key] != ""), None)


# ---- spans of a file ----


@dataclass
class _Trace:
    where: str
    record: Record
    spans: list[Span] = field(default_factory=list)


def grouped(records: Iterator[tuple[str, Record]]) -> Iterator[tuple[str, Record]]:
    """A record a trace, or a conversation of several, in the order in which they begin; what holds no span passes."""
    traces: dict[str, _Trace] = {}
    of_conversation: dict[str, str] = {}
    for where, record in records:
        try:
            spans = list(_spans(record.value, where))
        except BadRow:
            yield where, record
            continue
        for span in spans:
            named = _name(span.attributes, (CONVERSATION,))
            if named is not None:
                of_conversation.setdefault(span.trace, named)
            trace = traces.setdefault(span.trace, _Trace(where, record))
            if span.parent is None or span.has(*OF_A_MODEL):  # the rest says nothing that is read
                trace.spans.append(span)
    joined: dict[str, _Trace] = {}
    for name, trace in traces.items():
        whole = joined.setdefault(of_conversation.get(name, name), _Trace(trace.where, trace.record))
        whole.spans += trace.spans
    for name, trace in joined.items():
        if any(span.has(*OF_A_MODEL) for span in trace.spans):
            yield trace.where, Record(name, {SPANS: trace.spans}, path=trace.record.path)


def _spans(value: Mapping[str, Any], where: str) -> Iterator[Span]:
    """The spans of a record. Raises BadRow where it holds none."""
    resources = value.get("resourceSpans", value.get("resource_spans"))
    if isinstance(resources, list):
        for resource in resources:
            for scope in _list(resource, "scopeSpans", "scope_spans", "instrumentationLibrarySpans"):
                yield from (_span(span, where) for span in _list(scope, "spans"))
    elif isinstance(value.get("spans"), list) and isinstance(value.get("traceID"), str):
        yield from (_span(span, where) for span in value["spans"])
    else:
        yield _span(value, where)


def _list(value: Any, *keys: str) -> list[Any]:
    found = next((value[key] for key in keys if isinstance(value.get(key), list)), None) if _is_map(value) else None
    return found or []


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)


def _span(value: Any, where: str) -> Span:
    if not isinstance(value, dict):
        raise BadRow(where, "wrong_value", f"a span is {value!r:.80}; it must be an object.")
    context = value.get("context")
    places = (value, context) if isinstance(context, Mapping) else (value,)
    trace = next((name for place in places if (name := _name(place, TRACES))), None)
    if trace is None:
        raise BadRow(where, "missing_value", f"a span has none of {', '.join(TRACES)}, which say of which trace it is.")
    given = value.get("attributes", value.get("tags"))
    attributes = _attributes(given)
    if given is not None and not isinstance(given, Mapping | list) and not attributes:
        raise BadRow(where, "wrong_value", f"'attributes' is {given!r:.80}; it must be an object, or a list of keys.")
    for key, given in value.items():
        if key.startswith("attributes.") and given is not None:
            attributes |= _flat(given, key.removeprefix("attributes."))
    references = (one for one in _list(value, "references") if _is_map(one) and one.get("refType") == "CHILD_OF")
    parent = _name(value, PARENTS) or next((_name(one, IDS) for one in references), None)
    events = value.get("events", value.get("logs"))
    listed = json_in(events) if isinstance(events, str) else events
    start = next((value[key] for key in STARTS if value.get(key) is not None), 0)
    return Span(
        where,
        _as_hex(trace),
        parent,
        _moment(start),
        attributes,
        tuple(_event(one) for one in (listed if isinstance(listed, list) else ()) if _is_map(one)),
        _failed(value, attributes),
    )


def _as_hex(trace: str) -> str:
    """A trace's id as other files have it; Python's SDK writes 0x before it, protobuf's JSON writes Base64."""
    if len(trace) == BASE64 and trace.endswith("=="):
        try:
            return base64.b64decode(trace, validate=True).hex()
        except ValueError:
            return trace
    return trace.removeprefix("0x")


def _moment(start: Any) -> tuple[int, float | str]:
    """When a span began, as what can be compared: exporters write nanoseconds, also as text, or a date."""
    if isinstance(start, str) and not start.isdecimal():
        return (1, start)
    try:
        number = float(start)
    except (TypeError, ValueError, OverflowError):
        return (0, 0.0)
    return (0, number if math.isfinite(number) else 0.0)


def _event(event: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    attributes = _attributes(event.get("attributes", event.get("fields")))
    body = event.get("body")
    if isinstance(body, Mapping):
        attributes |= _flat(body, "")
    name = event.get("name", event.get("event_name", attributes.get("event")))
    return (name if isinstance(name, str) else "", attributes)


def _failed(value: Mapping[str, Any], attributes: Mapping[str, Any]) -> bool:
    status = value.get("status")
    code = status.get("code", status.get("status_code")) if isinstance(status, Mapping) else value.get("status_code")
    return code in (2, "2", "STATUS_CODE_ERROR", "ERROR") or attributes.get("error") is True


def _attributes(given: Any) -> dict[str, Any]:
    """Attributes by their whole names, from OTLP's list, Jaeger's tags, or objects, nested or not."""
    if isinstance(given, str):
        given = json_in(given)
    if isinstance(given, list):
        pairs = (one for one in given if _is_map(one) and isinstance(one.get("key"), str))
        return {one["key"]: _any_value(one.get("value")) for one in pairs}
    return _flat(given, "") if isinstance(given, Mapping) else {}


def _any_value(value: Any) -> Any:
    """What OTLP's AnyValue holds."""
    if not isinstance(value, Mapping):
        return value
    for key in ("stringValue", "boolValue", "doubleValue", "bytesValue"):
        if key in value:
            return value[key]
    if "intValue" in value:
        number = value["intValue"]
        return (
            int(number) if isinstance(number, str) and number.lstrip("-").isdecimal() and len(number) < 40 else number
        )
    if isinstance(value.get("arrayValue"), Mapping):
        return [_any_value(one) for one in _list(value["arrayValue"], "values")]
    if isinstance(value.get("kvlistValue"), Mapping):
        return _attributes(_list(value["kvlistValue"], "values"))
    return None


def _flat(given: Any, prefix: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        return {prefix: given}
    found: dict[str, Any] = {}
    for key, value in given.items():
        found |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def _below(attributes: Mapping[str, Any], name: str) -> Any:
    """What stands under a name: a value, the JSON of one, or what `NAME.0.role` and the like make together."""
    if name in attributes:
        value = attributes[name]
        parsed = json_in(value) if isinstance(value, str) and value.lstrip()[:1] in ("[", "{") else None
        return _nested(value if parsed is None else parsed)
    rest = {key[len(name) + 1 :]: value for key, value in attributes.items() if key.startswith(f"{name}.")}
    return _tree(rest) if rest else None


def _nested(value: Any) -> Any:
    """The value, with dotted keys in it taken apart."""
    if isinstance(value, list):
        return [_nested(one) for one in value]
    if isinstance(value, Mapping):
        has_dots = any("." in str(key) for key in value)
        return _tree(_flat(value, "")) if has_dots else {key: _nested(one) for key, one in value.items()}
    return value


def _tree(flat: Mapping[str, Any]) -> Any:
    """Objects and lists from dotted keys; a name that is both a value and an object keeps what is below it."""
    root: dict[str, Any] = {}
    for key, value in flat.items():
        *path, last = key.split(".")
        at = root
        for part in path:
            inner = at.get(part)
            if not isinstance(inner, dict):
                inner = at[part] = {}
            at = inner
        if not (isinstance(at.get(last), dict) and at[last]):
            at[last] = _nested(value)
    return _with_lists(root)


def _with_lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: _with_lists(one) for key, one in value.items()}
    if inner and all(key.isdecimal() and len(key) < 10 for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner


# ---- a trace ----


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The conversations of a trace."""
    spans = record.value.get(SPANS)
    if not isinstance(spans, list) or not all(isinstance(span, Span) for span in spans):
        list(_spans(record.value, where))  # raises what is wrong with one of them
        for _, one in grouped(iter([(where, record)])):
            yield from conversations(where, one)
        return
    spans = sorted(spans, key=lambda span: span.start)
    calls = [(span, found) for span in spans if (found := _exchange(span)) is not None]
    single = [(span, found) for span, found in calls if span.attributes.get("gen_ai.operation.name") not in WHOLE]
    calls = single or calls
    if not calls:
        problem = f"none of its {len(spans)} spans holds messages; was their content left out when they were recorded?"
        raise BadRow(where, "missing_value", problem)
    last, (_, answer) = calls[-1]
    failure: Failure | None = ended(_reason(last))
    if last.failed and not answer.completion.messages:
        failure = "infrastructure"
    found, others = of_the_agent(chains(exchange for _, (_, exchange) in calls))
    if not any(one.completion.messages for one in found):
        reason = "infrastructure" if failure == "infrastructure" else "no_agent_turn"
        raise BadRow(where, reason, f"none of its {len(calls)} calls of a model was answered.")
    root = next((span for span in spans if span.parent is None), spans[0])
    evaluations = _evaluations(spans)
    noted: dict[str, Any] = {"calls": len(calls), **({"other_calls": others} if others else {})}
    if evaluations:
        noted["evaluations"] = {name: graded._asdict() for name, graded in evaluations.items()}
    own = _own(root)
    label = facts_of(evaluations)
    said = facts(own, (own.get("metadata"), own.get("attributes")))
    of_root = {key: value for key, value in said.items() if not label or key in (*PREDICTIONS, *REFERENCES)}
    tools = next((listed for _, (listed, _) in calls if listed), ())
    for number, one in enumerate(found):
        turns, prompt = prompted(one.prompt, one.completion, where, "output")
        yield conversation(
            where,
            Record(record.key, own, path=record.path),
            turns,
            (),
            facts={**of_root, **label},
            prompt=prompt,
            tools=tuple(tools),
            failure=failure,
            suffix=f":{number}" if len(found) > 1 else "",
            no_label=unlabelled("evaluations", evaluations),
            metadata=noted,
        )


def _own(root: Span) -> dict[str, Any]:
    """The root span's attributes as a record, which rules and remedies name; no messages among them."""
    held = ("gen_ai.", "llm.", "input.", "output.", "pydantic_ai.", "id", "tools", "system")
    tree = _tree({key: value for key, value in root.attributes.items() if not key.startswith(held)})
    return tree if isinstance(tree, dict) else {}


def _reason(span: Span) -> Any:
    reasons = _below(span.attributes, "gen_ai.response.finish_reasons")
    return reasons[0] if isinstance(reasons, list) and reasons else reasons


def _evaluations(spans: Sequence[Span]) -> dict[str, Graded]:
    """What evaluations of a trace say, by their names; of several of a name, the last."""
    found: dict[str, Graded] = {}
    for span in spans:
        of_events = [attributes for name, attributes in span.events if name.startswith(EVALUATION)]
        for attributes in (span.attributes, *of_events):
            score = attributes.get(f"{EVALUATION}.score.value", attributes.get(f"{EVALUATION}.score"))
            label = attributes.get(f"{EVALUATION}.score.label", attributes.get(f"{EVALUATION}.label"))
            if score is None and label is None:
                continue
            name = attributes.get(f"{EVALUATION}.name")
            found[name if isinstance(name, str) and name else "evaluation"] = Graded(
                score if isinstance(score, bool | int | float) else None, label if isinstance(label, str) else None
            )
    return found


# ---- a call of a model ----


_Call = tuple[tuple[Mapping[str, Any], ...], Exchange]  # the tools that the model was told of, and what was said


def _exchange(span: Span) -> _Call | None:
    """What a span says that a model was told, and said; None where it says nothing of it."""
    merged = {key: value for _, event in span.events for key, value in event.items() if key.startswith("gen_ai.")}
    attributes = {**merged, **span.attributes}
    left_out: Counter[str] = Counter()
    sent, came, tools = _gen_ai(attributes, left_out) or _of_events(span) or _others(attributes) or ([], [], None)
    if not sent and not came:
        return None
    prompt, completion = (read_turns(messages, span.where) for messages in (sent, came))
    if any(message.role != "assistant" for message in completion.messages):  # the whole of it, as some agents write
        completion = _after(prompt.messages, completion)
    listed = tools_in(tools) or ()
    return listed, Exchange(prompt, completion._replace(left_out=Counter(completion.left_out) + left_out))


def _after(prompt: Sequence[Message], completion: Turns) -> Turns:
    n = len(prompt)
    return (
        completion._replace(messages=completion.messages[n:])
        if completion.messages[:n] == tuple(prompt)
        else completion
    )


_Said = tuple[list[dict[str, Any]], list[dict[str, Any]], Any]


def _gen_ai(attributes: Mapping[str, Any], left_out: Counter[str]) -> _Said | None:
    """GenAI's messages of parts, and those that older versions and OpenLLMetry spread over attributes."""
    sent, came = (_below(attributes, f"gen_ai.{side}.messages") for side in ("input", "output"))
    if sent is None and came is None:
        former = [_below(attributes, f"gen_ai.{side}") for side in ("prompt", "completion")]
        sent, came = (value if isinstance(value, str | list) else None for value in former)
    if sent is None and came is None:
        return None
    system = _below(attributes, "gen_ai.system_instructions")
    front = [{"role": "system", "content": _parts_text(system)}] if system else []
    tools = _below(attributes, "gen_ai.tool.definitions")
    if tools is None:
        tools = _below(attributes, "llm.request.functions")
    read = [
        [message for value in _listed(values, role) for message in _message(value, role, left_out)]
        for values, role in ((sent, "user"), (came, "assistant"))
    ]
    return [*front, *read[0]], read[1], tools


def _listed(values: Any, role: str) -> list[Any]:
    if values is None:
        return []
    if isinstance(values, str):
        return [{"role": role, "content": values}]
    return values if isinstance(values, list) else [values]


def _parts_text(parts: Any) -> str:
    return "\n\n".join(
        part if isinstance(part, str) else text_of([part], "")
        for part in (parts if isinstance(parts, list) else [parts])
    )


def _message(value: Any, role: str, left_out: Counter[str]) -> Iterator[dict[str, Any]]:
    """The message, or messages, that one of GenAI's stands for: results of calls are messages of their own."""
    if not isinstance(value, dict):
        yield value  # refused by name when it is read
        return
    message: dict[str, Any] = {"role": role, **value}
    parts = message.pop("parts", None)
    content = message.get("content")
    if parts is None and isinstance(content, str) and content.startswith("["):
        blocks = json_in(content)  # OpenLLMetry writes parts as JSON
        if isinstance(blocks, list) and all(_is_map(block) and "type" in block for block in blocks):
            message["content"] = blocks
    if not isinstance(parts, list):
        yield message
        return
    kept: list[Any] = []
    calls: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in ("tool_call", "server_tool_call"):
            inner = part.get(kind)
            calls.append({**part, **(inner if isinstance(inner, Mapping) else {}), "type": "function"})
        elif kind in ("tool_call_response", "server_tool_call_response"):
            shown = next(
                (part[key] for key in ("response", "result", "content", kind) if part.get(key) is not None), ""
            )
            text = shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)
            results.append({"role": "tool", "tool_call_id": part.get("id"), "content": text})
        else:
            kept.append(part)
    is_agent = message["role"] in ("assistant", "ai", "model")
    if not is_agent:
        left_out.update({"calls_of_others": len(calls)} if calls else {})
        yield from results
    if kept or calls or not results:
        yield {**message, "content": kept, **({"tool_calls": calls} if calls else {})}
    if is_agent:
        yield from results


def _of_events(span: Span) -> _Said | None:
    """Events of a message each, whose attributes, or body, are the message."""
    sent: list[dict[str, Any]] = []
    came: list[dict[str, Any]] = []
    for name, attributes in span.events:
        tree = _tree(attributes)
        if not isinstance(tree, dict):
            continue
        if name in MESSAGE_EVENTS:
            message = {key: given for key, given in tree.items() if key in ("content", "role", "tool_calls")}
            sent.append(_event_message({"role": MESSAGE_EVENTS[name], "tool_call_id": tree.get("id"), **message}))
        elif name == "gen_ai.choice":
            inner = tree.get("message", tree)
            inner = json_in(inner) if isinstance(inner, str) else inner
            if isinstance(inner, dict):
                kept = {key: given for key, given in inner.items() if key in ("content", "tool_calls")}
                came.append(_event_message({"role": "assistant", **kept}))
    return (sent, came, None) if sent or came else None


def _event_message(message: dict[str, Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    return {**message, "tool_calls": json_in(calls)} if isinstance(calls, str) else message


def _others(attributes: Mapping[str, Any]) -> _Said | None:
    """OpenInference's messages, and Pydantic AI's list of all of an agent's."""
    sent, came = (_below(attributes, f"llm.{side}_messages") for side in ("input", "output"))
    if sent is None and came is None:
        whole = _below(attributes, "pydantic_ai.all_messages")
        if not isinstance(whole, list):
            return None
        left_out: Counter[str] = Counter()
        messages = [message for value in whole for message in _message(value, "user", left_out)]
        first = next(
            (i for i, one in enumerate(messages) if _is_map(one) and one.get("role") == "assistant"), len(whole)
        )
        return messages[:first], messages[first:], None
    listed = _below(attributes, "llm.tools")
    schemas = [
        _below(tool, "tool.json_schema") or tool if isinstance(tool, dict) else tool
        for tool in (listed if isinstance(listed, list) else ())
    ]
    tools = [json_in(schema) if isinstance(schema, str) else _schema(schema) for schema in schemas]
    return (
        [_inference(one, "user") for one in _listed(sent, "user")],
        [_inference(one, "assistant") for one in _listed(came, "assistant")],
        tools,
    )


def _schema(tool: Any) -> Any:
    inner = tool.get("tool") if isinstance(tool, Mapping) else None
    schema = inner.get("json_schema") if isinstance(inner, Mapping) else tool
    return json_in(schema) if isinstance(schema, str) else schema


def _inference(value: Any, role: str) -> Any:
    """One of OpenInference's messages: everything in it stands under its own name again."""
    inner = value.get("message") if isinstance(value, dict) else None
    if not isinstance(inner, dict):
        return value
    message: dict[str, Any] = {"role": role, **inner}
    contents = message.pop("contents", None)
    if isinstance(contents, list) and not message.get("content"):
        parts = [part.get("message_content", part) if isinstance(part, Mapping) else part for part in contents]
        message["content"] = parts
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        message["tool_calls"] = [call.get("tool_call", call) if isinstance(call, Mapping) else call for call in calls]
    former = (message.pop("function_call_name", None), message.pop("function_call_arguments_json", None))
    if isinstance(former[0], str) and not message.get("tool_calls"):
        message["function_call"] = {"name": former[0], "arguments": former[1]}
    return message
