"""Roll-outs of verifiers' environments: the results of an evaluation, and traces of its version 1. A result:

    {"example_id": 0, "prompt": [{"role": "user", "content": "2 + 3?"}], "answer": "5", "reward": 1.0,
     "completion": [{"role": "assistant", "content": "5"}], "metrics": {"exact": 1.0}, "stop_condition": "no_tools",
     "error": null, "task": "sums"}

and a trace, which stands alone or among the `traces` of an episode; its messages are a graph:

    {"task": {"key": "sums-0", "data": {"idx": 0, "answer": "5"}}, "rewards": {"exact": {"score": 1.0, "weight": 1.0}},
     "nodes": [{"parent": null, "message": {"role": "user", "content": "2 + 3?"}, "sampled": false},
               {"parent": 0, "message": {"role": "assistant", "content": "5"}, "sampled": true}], "errors": []}

A result without `completion` may hold the `trajectory` of its steps, each a prompt and a completion of its own. Where a
step, or a branch of the graph, does not go on from the one before (its context was rewritten), the record is several
trajectories, `ID:0`, `ID:1`, ..., in which a turn carries loss once.

`example_id` (with `task`, the environment's name) or the trace's key is the task, whose trials are one question; the
label is `reward`, or the sum of `rewards` by their weights; `answer` is the reference. What `error` names is
`infrastructure`, but for errors of the agent's own calls, and so is the deadline of any stage but the agent's;
`max_turns_reached`, `agent_timeout` and the like are `out_of_turns`. An attempt to compact the context from which the
agent did not go on is counted and left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import require
from nat.core.rows.json_records import Record
from nat.trajectories.formats.conversations import Conversation, conversation, tools_in
from nat.trajectories.formats.episodes import EXPLICIT_LABELS, facts, without_label
from nat.trajectories.formats.prompts import joined, prompted, read_messages
from nat.trajectories.formats.turns import ROLES, Turns, json_in, read_turns
from nat.types import Failure, Message, Role

NAME = "verifiers"
PLACE = 34
OF_RESULTS = ("example_id", "metrics", "stop_condition", "is_completed", "is_truncated", "tool_defs")
OF_AGENTS = re.compile(r"Tool(?:Parse|Call)?Error")  # errors that the agent's own calls make
NO_ROOM = re.compile(r"prompt_too_long|context_length|max_(?:\w+_)?tokens\w*|compaction_failed")


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: a result, a trace, or an episode of traces."""
    traces = value.get("traces")
    if isinstance(traces, list) and traces:
        return _is_trace(traces[0])
    steps = value.get("trajectory")
    if isinstance(steps, list) and steps and _is_step(steps[0]):
        return True
    is_result = _is_step(value) and ("reward" in value or "error" in value)
    return _is_trace(value) or (is_result and any(key in value for key in OF_RESULTS))


def _is_step(value: Any) -> bool:
    return isinstance(value, Mapping) and "prompt" in value and "completion" in value


def _is_trace(value: Any) -> bool:
    nodes = value.get("nodes") if isinstance(value, Mapping) else None
    return isinstance(nodes, list) and (not nodes or (isinstance(nodes[0], Mapping) and "message" in nodes[0]))


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The conversations of a result, of a trace, or of an episode."""
    value = record.value
    if "nodes" in value:
        return _of_trace(where, record)
    if "traces" in value:
        return _of_episode(where, record)
    return _of_result(where, record)


# ---- results ----


def _of_result(where: str, record: Record) -> list[Conversation]:
    value = record.value
    failure = _failure(value.get("error"), value.get("stop_condition"))
    steps = value.get("trajectory")
    if value.get("completion") is not None or not isinstance(steps, list) or not steps:
        steps = [value]
    chains = _chains([_step(step, where, failure) for step in steps])
    info = value.get("info")
    if isinstance(info, str):
        info = json_in(info)
    of_info = info if isinstance(info, Mapping) else {}
    tools = tools_in(value.get("tool_defs")) or tools_in(value.get("tools")) or tools_in(of_info.get("oai_tools")) or ()
    label = facts(value)
    if value.get("reward") is not None:  # an explicit metric beside it, `correct` say, goes before it
        label = {**without_label(label, *(key for key in EXPLICIT_LABELS if key in value)), "reward": value["reward"]}
    found = []
    for number, (prompt, completion) in enumerate(chains):
        turns, length = prompted(prompt, completion, where)
        of_result = {"facts": label, "prompt": length, "tools": tools, "failure": failure, "task": _task(value)}
        suffix = f":{number}" if len(chains) > 1 else ""
        used = ("prompt", "completion", "trajectory", "tool_defs")
        found.append(conversation(where, record, turns, used, **of_result, suffix=suffix))
    return found


def _step(step: Any, where: str, failure: Failure | None) -> tuple[Turns, Turns]:
    if not isinstance(step, dict):
        raise BadRow(where, "wrong_value", f"a step of 'trajectory' is {step!r:.80}; it must be an object.")
    if not step.get("completion") and failure == "infrastructure":
        raise BadRow(where, "infrastructure", "the run broke before the agent's first turn.")
    prompt = step.get("prompt")
    read = Turns((), {}, ()) if prompt is None else read_messages(_with_role(prompt, "user"), "user", where, "prompt")
    completion = _with_role(step.get("completion"), "assistant")
    return read, read_messages(completion, "assistant", where, "completion")


def _with_role(messages: Any, role: Role) -> Any:
    """The messages; those of a model that completes texts, whose role is `text`, with this one."""
    if not isinstance(messages, list):
        return messages
    return [{**m, "role": role} if isinstance(m, dict) and m.get("role") == "text" else m for m in messages]


def _chains(steps: Sequence[tuple[Turns, Turns]]) -> list[tuple[Turns, Turns]]:
    """The steps' conversations: those whose prompt is what was there before go on with it."""
    chains: list[tuple[Turns, Turns]] = []
    for prompt, completion in steps:
        before = joined(chains[-1]).messages if chains else ()
        if not before or prompt.messages[: len(before)] != before:
            chains.append((prompt, completion))
            continue
        between = prompt._replace(messages=prompt.messages[len(before) :])
        chains[-1] = (chains[-1][0], joined((chains[-1][1], between, completion)))
    return chains


def _task(value: Mapping[str, Any]) -> str | None:
    example = value.get("example_id")
    if isinstance(example, bool) or not isinstance(example, int | str) or example == "":
        return None
    of = value.get("task") if isinstance(value.get("task"), str) else value.get("env_id")
    return f"{of}/{example}" if isinstance(of, str) and of else str(example)


def _failure(error: Any, stop: Any) -> Failure | None:
    """Why it ended before the agent did, as the record says it."""
    if error:
        said = error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
        return "tool_error" if OF_AGENTS.search(said) else "infrastructure"
    if not isinstance(stop, str):
        return None
    if "timeout" in stop and stop != "agent_timeout":
        return "infrastructure"
    if NO_ROOM.fullmatch(stop):
        return "no_answer"
    return "out_of_turns" if stop in ("max_turns_reached", "max_turns", "agent_timeout") else None


# ---- traces ----


def _of_episode(where: str, record: Record) -> list[Conversation]:
    """The trajectories of an episode's agents that train; those of others, a judge's say, are counted."""
    value = record.value
    traces = require(value, "traces", list, where)
    if any(not isinstance(trace, dict) for trace in traces):
        raise BadRow(where, "wrong_value", "'traces' must be a list of objects.")
    if not traces and value.get("errors"):
        raise BadRow(where, "infrastructure", "the run broke before the agent's first turn.")
    mine = [trace for trace in traces if _member(trace, "agent").get("trainable") is not False]
    if not mine:
        raise BadRow(where, "no_agent_turn", f"none of its {len(traces)} traces is of an agent that trains.")
    # What the environment itself could not do is nobody's failure.
    broke = {"ok": False, "errors": value["errors"]} if value.get("ok") is False and value.get("errors") else {}
    others = {"traces_of_others": len(traces) - len(mine)} if len(mine) < len(traces) else {}
    found = []
    for number, trace in enumerate(mine):
        whole = {"task": value.get("task"), "id": value.get("id"), **trace, **broke}
        suffix = f":{number}" if len(mine) > 1 else ""
        found += [
            replace(one, suffix=suffix + one.suffix, metadata={**one.metadata, **others})
            for one in _of_trace(where, Record(record.key, whole))
        ]
    return found


def _of_trace(where: str, record: Record) -> list[Conversation]:
    value = record.value
    nodes = require(value, "nodes", list, where)
    parents = [_parent(node, i, where) for i, node in enumerate(nodes)]
    errors = value.get("errors")
    failure = _failure(errors if value.get("ok") is not True else None, value.get("stop_condition"))
    if not any(map(_is_sampled, nodes)):
        reason = "infrastructure" if failure == "infrastructure" else "no_agent_turn"
        raise BadRow(where, reason, f"none of its {len(nodes)} messages is the agent's.")
    task = _member(value, "task")
    data = _member(task, "data")
    label = facts(value, (data,))
    reward = _reward(value.get("rewards"), where)
    found = []
    seen: set[int] = set()
    answered = [path for path in _branches(parents) if any(_is_sampled(nodes[i]) for i in path)]
    branches = [path for path in answered if not _is_given_up(nodes, path[-1])] or answered
    given_up = {"compaction_attempts_left_out": len(answered) - len(branches)} if len(branches) < len(answered) else {}
    for number, path in enumerate(branches):
        own = {i for i in path if _is_sampled(nodes[i]) and i not in seen}
        if not own:  # what follows a turn of another branch, and was never answered
            continue
        seen |= own
        read = read_turns([nodes[i]["message"] for i in path], where)
        messages = _with_loss(read.messages, [nodes[i]["message"] for i in path], [i in own for i in path], where)
        sampled = next(k for k, i in enumerate(path) if _is_sampled(nodes[i]))
        prompt = len(read_turns([nodes[i]["message"] for i in path[:sampled]], where).messages)
        of_trace: dict[str, Any] = {
            "facts": label if reward is None else {**without_label(label), "reward": reward},
            "task": _name(task.get("key")) or _name(data.get("idx")),
            "prompt": prompt,
            "failure": failure,
            "suffix": f":{number}" if len(branches) > 1 else "",
            "metadata": {**({} if reward is None else {"reward": reward}), **given_up},
        }
        found.append(conversation(where, record, Turns(messages, *read[1:]), ("nodes",), places=(data,), **of_trace))
    return found


def _parent(node: Any, i: int, where: str) -> int | None:
    parent = node.get("parent") if isinstance(node, dict) else None
    if not isinstance(node, dict) or "message" not in node:
        raise BadRow(where, "wrong_value", f"node {i} is {node!r:.80}; it must be an object with 'message'.")
    if parent is not None and (isinstance(parent, bool) or not isinstance(parent, int) or not 0 <= parent < i):
        raise BadRow(where, "wrong_value", f"the parent of node {i} is {parent!r:.60}; it must be a node before it.")
    return parent


def _is_sampled(node: Mapping[str, Any]) -> bool:
    message = node["message"]
    role = message.get("role") if isinstance(message, Mapping) else None
    return bool(node.get("sampled")) and isinstance(role, str) and ROLES.get(role) == "assistant"


def _branches(parents: Sequence[int | None]) -> list[list[int]]:
    """The paths from a root to each leaf."""
    paths = []
    for leaf in sorted(set(range(len(parents))) - set(parents)):
        path: list[int] = []
        at: int | None = leaf
        while at is not None:
            path.append(at)
            at = parents[at]
        paths.append(path[::-1])
    return paths


def _is_given_up(nodes: Sequence[Mapping[str, Any]], leaf: int) -> bool:
    """Whether a branch ends with a summary of the context from which no other goes on."""

    def links(node: Mapping[str, Any], kind: str) -> list[Any]:
        given = node.get("semantic_parents")
        of_kind = (link for link in given or [] if isinstance(link, Mapping) and link.get("type") == kind)
        return [link.get("node") for link in of_kind] if isinstance(given, list) else []

    is_attempt = bool(links(nodes[leaf], "compaction_attempt"))
    return is_attempt and not any(leaf in links(node, "compaction") for node in nodes)


def _with_loss(
    messages: Sequence[Message], given: Sequence[Any], own: Sequence[bool], where: str
) -> tuple[Message, ...]:
    """The messages, without loss where the agent did not write them, or another branch has them."""
    if len(messages) == len(given):
        flags = own
    else:  # a message of several results became several; none of them is the agent's
        flags = [flag for value, flag in zip(given, own, strict=True) for _ in read_turns([value], where).messages]
    return tuple(
        replace(message, train=message.train and flag) if message.role == "assistant" else message
        for message, flag in zip(messages, flags, strict=True)
    )


def _reward(rewards: Any, where: str) -> float | None:
    """The sum of named rewards by their weights; None where nothing was scored."""
    if not isinstance(rewards, Mapping):
        return None
    total, scored = 0.0, False
    for name, given in rewards.items():
        if given is None:
            continue
        score = given.get("score") if isinstance(given, Mapping) else given
        weight = given.get("weight", 1.0) if isinstance(given, Mapping) else 1.0
        numbers = [
            n for n in (score, weight) if isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < 1e9
        ]
        if len(numbers) < 2:
            problem = f"the reward {name!r:.60} is {given!r:.80}; it must be a score with a weight."
            raise BadRow(where, "wrong_value", problem)
        total, scored = total + numbers[0] * numbers[1], True
    return total if scored else None


def _member(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return value[key] if isinstance(value.get(key), Mapping) else {}


def _name(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None
