"""Answers of ToolBench: what a chain or a tree search over tool calls came to, one object a file. A record:

    {"win": true, "tree": {"size": 3, "tree": {"node_type": "Action Input", "children": []}}, "forward_args": {},
     "answer_generation": {"valid_data": true, "query": "Weather in X?", "finish_type": "give_answer",
        "final_answer": "{\\"return_type\\": \\"give_answer\\", \\"final_answer\\": \\"Sun.\\"}",
        "function": [{"name": "weather", "parameters": {}}],
        "train_messages": [[{"role": "system", "content": "Use functions."},
                            {"role": "user", "content": "Weather in X?"},
                            {"role": "assistant", "content": null,
                             "function_call": {"name": "weather", "arguments": "{\\"city\\": \\"X\\"}"}}]]}}

The last of `train_messages` is the whole path to the answer. Where there is none, the search found no answer: then the
path to the last leaf of `tree` is read, or the last of `trys`, and the other leaves are counted (`other_paths`).
`win` is the label, `query` the question, `function` the tools, `final_answer` the prediction; a path that gave up is
`abstained`. What ToolEval makes of these files (`query`, `available_tools`, `answer.answer_details`) is read too; it
has no label.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import optional, require
from nat.core.rows.json_records import Record
from nat.trajectories.formats.acting import observation_text
from nat.trajectories.formats.conversations import Conversation, conversation, tools_in
from nat.trajectories.formats.episodes import facts, holds
from nat.trajectories.formats.turns import json_in, read_turns
from nat.types import Message

NAME = "toolbench"
PLACE = 32
USED = ("answer_generation", "answer", "query", "available_tools", "tree", "trys", "compare_candidates")
OF_ANSWERS = ("valid_data", "finish_type", "query_count", "total_tokens", "method", "total_steps")


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: `answer_generation` with its query, or an answer's `answer_details`."""
    if holds(value) is not None:
        return False
    made, answer = value.get("answer_generation"), value.get("answer")
    if isinstance(made, Mapping):
        return isinstance(made.get("query"), str) and ("function" in made or "train_messages" in made)
    return isinstance(answer, Mapping) and "answer_details" in answer and isinstance(value.get("query"), str)


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The one conversation of a record."""
    value = record.value
    if "answer_generation" in value:
        made = require(value, "answer_generation", dict, where)
        query, tools = require(made, "query", str, where), made.get("function")
    else:
        made = require(value, "answer", dict, where)
        query, tools = require(value, "query", str, where), value.get("available_tools")
    if not query.strip():
        raise BadRow(where, "wrong_value", "'query' is empty; it must be the text that the agent was asked.")
    given, others = _path(value, made, where)
    turns = read_turns(given, where)
    if all(message.role != "user" for message in turns.messages):
        turns = turns._replace(messages=(Message("user", query), *turns.messages))
    first = next((i for i, m in enumerate(turns.messages) if m.role == "assistant"), len(turns.messages))
    said = _answer(made.get("final_answer"))
    of_record: dict[str, Any] = {
        "facts": {**facts(value), **({"prediction": said} if said else {})},
        "question": query.strip(),
        "prompt": first,
        "tools": tools_in(tools) or (),
        "metadata": {
            **{key: made[key] for key in OF_ANSWERS if made.get(key) is not None},
            **({"other_paths": others} if others else {}),
        },
    }
    of_record["facts"].pop("answer", None)
    if made.get("finish_type") == "give_up":
        of_record["failure"] = "abstained"
    yield conversation(where, record, turns, USED, **of_record)


def _answer(given: Any) -> str | None:
    """The text of a final answer; None for giving up."""
    if not isinstance(given, str):
        return None
    call = json_in(given)
    if isinstance(call, Mapping):
        given = call.get("final_answer")
    return given.strip() or None if isinstance(given, str) else None


# ---- paths ----


def _path(value: Mapping[str, Any], made: Mapping[str, Any], where: str) -> tuple[Sequence[Any], int]:
    """The messages of the path that was taken, and how many other paths of the search are not read."""
    paths = optional(made, "train_messages", list, where)
    if paths:
        if not isinstance(paths[-1], list):
            raise BadRow(where, "wrong_value", f"'train_messages' ends with {paths[-1]!r:.80}; it must be a list.")
        return paths[-1], 0
    details = made.get("answer_details")
    if isinstance(details, list) and details:
        return _of_details(details, where)
    tries = value.get("trys")
    if (
        isinstance(tries, list)
        and tries
        and isinstance(tries[-1], Mapping)
        and isinstance(tries[-1].get("chain"), list)
    ):
        return _of_nodes(tries[-1]["chain"], where), len(tries) - 1
    tree = value.get("tree")
    root = tree.get("tree") if isinstance(tree, Mapping) else None
    if not isinstance(root, Mapping) or not root.get("children"):
        raise BadRow(where, "no_agent_turn", "neither 'train_messages' nor 'tree' holds a turn of the agent.")
    nodes, leaves = _last_path(root, where)
    return _of_nodes(nodes, where), leaves - 1


def _last_path(root: Mapping[str, Any], where: str) -> tuple[list[Any], int]:
    """The nodes from the root to the last leaf, and the number of leaves."""
    nodes: list[Any] = []
    at: Any = root
    while isinstance(at, Mapping) and at.get("children"):
        children = at["children"]
        if not isinstance(children, list):
            raise BadRow(where, "wrong_value", f"'children' of a node is {children!r:.80}; it must be a list.")
        at = children[-1]
        nodes.append(at)
    leaves, level = 0, [root]
    while level:
        below = [node.get("children") for node in level]
        leaves += sum(not isinstance(children, list) or not children for children in below)
        level = [node for children in below if isinstance(children, list) for node in children]
        level = [node for node in level if isinstance(node, Mapping)]
    return nodes, leaves


def _of_nodes(nodes: Sequence[Any], where: str) -> list[dict[str, Any]]:
    """Messages of a path's nodes: a thought, the name of an action, and its input with what was observed."""
    messages: list[dict[str, Any]] = []
    thought, name = "", None
    for node in nodes:
        if not isinstance(node, Mapping) or not isinstance(node.get("description"), str):
            raise BadRow(where, "wrong_value", f"a node is {node!r:.80}; it must be an object with 'description'.")
        kind, text = node.get("node_type"), node["description"]
        if kind == "Thought":
            if thought:
                messages.append({"role": "assistant", "content": thought})
            thought = text
        elif kind == "Action":
            name = text
        elif kind == "Action Input" and name:
            call = {"name": name, "arguments": text}
            messages.append({"role": "assistant", "content": thought, "function_call": call})
            if isinstance(node.get("observation"), str):
                messages.append({"role": "function", "content": node["observation"]})
            thought, name = "", None
        else:
            raise BadRow(where, "wrong_value", f"a node's type is {kind!r:.60} where a thought or an action is due.")
    if name:  # the search ended before the call was made
        messages.append({"role": "assistant", "content": thought, "function_call": {"name": name, "arguments": ""}})
    elif thought:
        messages.append({"role": "assistant", "content": thought})
    return messages


def _of_details(details: Sequence[Any], where: str) -> tuple[list[dict[str, Any]], int]:
    """Messages of ToolEval's chain of nodes, each with those that follow it under `next`."""
    messages: list[dict[str, Any]] = []
    others = len(details) - 1
    level: Any = details
    while isinstance(level, list) and level:
        node = level[0]
        if not isinstance(node, Mapping) or not isinstance(node.get("role"), str):
            raise BadRow(where, "wrong_value", f"a node of 'answer_details' is {node!r:.80}; it must have a 'role'.")
        said = node.get("message")
        if node["role"] == "tool":
            call = _tool_message(said)
            if call is None:
                problem = f"a tool's message is {said!r:.80}; it must have 'name', 'arguments' and 'response'."
                raise BadRow(where, "wrong_value", problem)
            asked = {"name": call["name"], "arguments": call.get("arguments")}
            messages.append({"role": "assistant", "content": "", "function_call": asked})
            if call.get("response") not in (None, ""):
                messages.append({"role": "function", "content": observation_text(call["response"])})
        elif said:
            messages.append({"role": node["role"], "content": said})
        level = node.get("next")
        others += max(0, len(level) - 1) if isinstance(level, list) else 0
    return messages, others


def _tool_message(said: Any) -> Mapping[str, Any] | None:
    """What a tool node says; files that went through Python have it as the text of a dictionary."""
    if isinstance(said, str):
        read = json_in(said)
        if read is None:
            try:
                read = ast.literal_eval(said)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                return None
        said = read
    return said if isinstance(said, Mapping) and isinstance(said.get("name"), str) and said["name"] else None
