"""Items of OpenAI's Responses API: NeMo Gym's roll-outs, responses with their input, and logs of both. A roll-out:

    {"responses_create_params": {"input": [{"role": "user", "content": "What is 2 + 3?", "type": "message"}],
        "tools": [{"type": "function", "name": "calculate", "parameters": {}}]},
     "response": {"object": "response", "output": [
        {"type": "function_call", "call_id": "c1", "name": "calculate", "arguments": "{\\"expression\\": \\"2 + 3\\"}"},
        {"type": "function_call_output", "call_id": "c1", "output": "5"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "5"}]}]},
     "reward": 1.0, "expected_answer": "5", "_ng_task_index": 7, "_ng_rollout_index": 0}

Other records are `{"input": ..., "output": [...]}`, a response object with its `input`, and `{"request":
{"input": ...}, "response": {"output": [...]}}`. `input` is a text, or items or messages; `instructions` is the system
message. Items of one turn (reasoning, a message, calls) are one message of the agent: `formats/items.py`.

The label is `reward`, or what says success itself (`is_correct`); the reference `expected_answer` or the like. The task
is `_ng_task_index` of the agent that `agent_ref` names, unless the row, or its `verifier_metadata`, names one. What
`input` holds is the prompt and carries no loss, unless items of the agent in it have an `id`: those are an earlier
response's, and of the same roll-out. `mask_sample`, `_ng_failure_class` and a response's `error` are `infrastructure`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from nat.core.rows.bad import BadRow
from nat.core.rows.json_records import Record
from nat.trajectories.formats.conversations import TASKS, Conversation, conversation, tools_in
from nat.trajectories.formats.items import are_items, read_items
from nat.trajectories.formats.prompts import joined, prompted
from nat.trajectories.formats.turns import ROLES, Turns, text_of
from nat.types import Failure, Message

NAME = "responses"
PLACE = 14
GYM = "responses_create_params"
TASK_INDEX = "_ng_task_index"
ROLLOUT_INDEX = "_ng_rollout_index"


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: a request's input, and a list of items that answer it."""
    request, response = _both(value)
    output = response.get("output")
    if GYM in value:
        return isinstance(value[GYM], Mapping) and ("reward" in value or isinstance(output, list))
    if response.get("object") == "response":
        return isinstance(output, list)
    return are_items(output) and isinstance(request.get("input"), str | list)


def _both(value: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What was asked, and what came back."""
    given = value.get(GYM, value.get("request"))
    response = value.get("response")
    return (
        given if isinstance(given, Mapping) else value,
        response if isinstance(response, Mapping) else value,
    )


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The one conversation of a record."""
    value = record.value
    request, response = _both(value)
    failure = _failure(value, response)
    output = response.get("output")
    if failure == "infrastructure" and not output:
        raise BadRow(where, "infrastructure", "the run broke before the agent's first turn.")
    if not isinstance(output, list):
        raise BadRow(where, "wrong_value", f"'output' is {output!r:.80}; it must be a list of items.")
    earlier = response.get("previous_response_id") or request.get("previous_response_id")
    if earlier and GYM not in value:
        problem = f"it goes on from the response {earlier!r:.60}, whose conversation the record does not hold."
        raise BadRow(where, "missing_value", f"{problem}\nWrite the whole input (store=false), or join them.")
    asked = request.get("input", response.get("input"))
    items = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    if not isinstance(items, list):
        raise BadRow(where, "missing_value", f"'input' is {asked!r:.80}; it must be text or a list of items.")
    instructions = request.get("instructions") or response.get("instructions")
    if instructions and isinstance(instructions, str | list):
        text = instructions if isinstance(instructions, str) else text_of(instructions, where)
        front = Turns((Message("system", text),), {}, ())
    else:
        front = Turns((), {}, ())
    before, after = joined((front, read_items(items, where))), read_items(output, where)
    turns, prompt = prompted(before, after, where, "output")
    if any(map(_is_earlier_output, items)):
        turns, prompt = joined((front, read_items([*items, *output], where))), None
    metadata = value.get("verifier_metadata")
    one = conversation(
        where,
        record,
        turns,
        (GYM, "request", "response", *(("input", "output", "instructions") if request is value else ())),
        places=(metadata, request.get("metadata")),
        prompt=prompt,
        tools=tools_in(request.get("tools")) or tools_in(response.get("tools")) or (),
        failure=failure,
        answers=turns.messages[-1].role != "user",
    )
    yield _named(one, value, metadata)


def _named(one: Conversation, value: Mapping[str, Any], metadata: Any) -> Conversation:
    """With the task and the id that NeMo Gym's numbers make: what it calls `id` is the task's, shared by its trials."""
    index, rollout = value.get(TASK_INDEX), value.get(ROLLOUT_INDEX)
    named = any(
        place.get(key) is not None for place in (value, metadata) if isinstance(place, Mapping) for key in TASKS
    )
    if isinstance(index, int) and (one.task is None or not named):
        agent = value.get("agent_ref")
        name = agent.get("name") if isinstance(agent, Mapping) else None
        one = replace(one, task=f"{name}/{index}" if isinstance(name, str) else str(index))
    if isinstance(rollout, int):
        own = one.id or one.task
        one = replace(one, id=f"{own}-{rollout}" if own else None, task=one.task or one.id)
    return one


def _is_earlier_output(item: Any) -> bool:
    """Whether an item of the input is what the agent wrote earlier in the same roll-out."""
    if not isinstance(item, Mapping) or not item.get("id"):
        return False
    role = item.get("role")
    made = item.get("type") in ("function_call", "custom_tool_call", "reasoning")
    return made or (isinstance(role, str) and ROLES.get(role) == "assistant")


def _failure(value: Mapping[str, Any], response: Mapping[str, Any]) -> Failure | None:
    """Why it ended before the agent did, as the record says it."""
    broke = (value.get("_ng_failure_class"), value.get("mask_sample") is True, value.get("error"))
    if any(broke) or response.get("error") or response.get("status") == "failed":
        return "infrastructure"
    if value.get("agent_timeout_error") is True:
        return "out_of_turns"
    details = response.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, Mapping) else None
    if reason == "max_output_tokens" or value.get("context_length_exceeded_error") is True:
        return "no_answer"
    return None
