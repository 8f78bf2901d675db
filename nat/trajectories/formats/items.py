"""Items of OpenAI's Responses API as chat messages: what stands in `input` and `output` there, one after another.

    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Two numbers."}], "encrypted_content": null}
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I add them."}]}
    {"type": "function_call", "call_id": "c1", "name": "calculate", "arguments": "{\\"expression\\": \\"2 + 3\\"}"}
    {"type": "function_call_output", "call_id": "c1", "output": "5"}

The first three are one turn of the agent, the last its result. Tools that OpenAI runs itself (`web_search_call`,
`code_interpreter_call`, ...) are calls where the item says what was asked for, and what they show is their result.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from nat.core.rows.bad import BadRow
from nat.trajectories.formats.turns import COPIED, LIKE_A_LOSS_KEY, LOSS_KEYS, ROLES, Turns, read_turns

CALLS = ("function_call", "custom_tool_call")  # the agent's own, each with a name
# Tools of OpenAI, and the members that say what was asked for. Results of the first stand in items of their own.
ANSWERED = {
    "computer_call": ("action", "actions"),
    "local_shell_call": ("action",),
    "shell_call": ("action",),
    "apply_patch_call": ("operation",),
    "tool_search_call": ("arguments",),
}
HOSTED = {
    "web_search_call": ("action",),
    "file_search_call": ("queries",),
    "code_interpreter_call": ("code",),
    "mcp_call": ("arguments",),
}
OUTPUTS = ("function_call_output", "custom_tool_call_output", *(f"{kind}_output" for kind in ANSWERED))
KINDS = ("message", "reasoning", *CALLS, *ANSWERED, *HOSTED, *OUTPUTS)


def are_items(values: Any) -> bool:
    """Whether a list begins with an item that names its kind."""
    first = values[0] if isinstance(values, list) and values else None
    return isinstance(first, Mapping) and isinstance(first.get("type"), str) and first["type"] in KINDS


def read_items(values: Sequence[Any], where: str) -> Turns:
    """The messages of items; what of them could not be kept is counted by kind. Raises BadRow for what is no item."""
    reading = _Reading(where)
    for value in values:
        reading.take(value)
    reading.end_turn()
    read = read_turns(reading.messages, where)
    return read._replace(left_out=Counter(read.left_out) + reading.left_out)


class _Reading:
    """Items on the way to messages. `turn` is the agent's that is not yet at its end."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.messages: list[dict[str, Any]] = []
        self.left_out: Counter[str] = Counter()
        self._turn: dict[str, Any] | None = None
        self._shown: list[dict[str, Any]] = []  # results that stand in the turn's own items
        self._waits = False  # for the result of a call, in an item that follows

    def take(self, item: Any) -> None:
        if not isinstance(item, dict):
            problem = f"an item is {item!r:.80}; it must be an object with 'type' or 'role'."
            raise BadRow(self.where, "wrong_value", problem)
        kind = item.get("type")
        if kind in ("message", None) or (not isinstance(kind, str)):
            self._message(item)
        elif kind == "reasoning":
            self._reasoning(item)
        elif kind in CALLS:
            self._call(item, item)
            self._waits = True
        elif kind in ANSWERED or kind in HOSTED:
            self._tool(kind, item)
        elif kind in OUTPUTS:
            self.end_turn()
            self.messages.append(
                {"role": "tool", "tool_call_id": item.get("call_id"), "content": _shown(item.get("output"))}
            )
        elif "role" in item:
            self._message(item)
        else:
            self.left_out[kind] += 1

    def end_turn(self) -> None:
        if self._turn is not None:
            self.messages += [self._turn, *self._shown]
        self._turn, self._shown, self._waits = None, [], False

    def _message(self, item: dict[str, Any]) -> None:
        role = item.get("role")
        if not isinstance(role, str) or ROLES.get(role) != "assistant" or item.get("tool_calls"):
            self.end_turn()
            self.messages.append(item)
            return
        self._go_on(says=True)
        turn = self._at(item)
        content = item.get("content")
        parts = [] if content is None else content if isinstance(content, list) else [content]
        turn["content"] += ["\n\n", *parts] if turn["content"] and parts else parts

    def _reasoning(self, item: dict[str, Any]) -> None:
        texts = [_joined(item.get(key)) for key in ("content", "summary")]
        text = next((text for text in texts if text), "")
        self._go_on(says=True)
        turn = self._at(item)
        if text:
            before = turn.get("reasoning_content")
            turn["reasoning_content"] = f"{before}\n\n{text}" if before else text
        elif item.get("encrypted_content"):
            self.left_out["encrypted_reasoning"] += 1

    def _tool(self, kind: str, item: dict[str, Any]) -> None:
        asked = {key: item[key] for key in {**ANSWERED, **HOSTED}[kind] if item.get(key) is not None}
        name = item.get("name") if kind == "mcp_call" else kind.removesuffix("_call")
        if not asked or not isinstance(name, str):
            self.left_out[kind] += 1
            return
        (said,) = asked.values() if len(asked) == 1 else (asked,)
        if kind == "web_search_call" and isinstance(said, Mapping):
            said = {key: value for key, value in said.items() if key != "sources"}
        own = item.get("call_id") or item.get("id")
        is_named = isinstance(said, Mapping) or kind == "mcp_call"
        self._call(item, {"call_id": own, "name": name, "arguments": said if is_named else asked})
        self._waits |= kind in ANSWERED
        if kind in HOSTED and (shown := self._result(kind, item)) is not None:
            self._shown.append({"role": "tool", "tool_call_id": own, "content": shown})

    def _result(self, kind: str, item: dict[str, Any]) -> Any:
        """What a hosted tool showed; None, and counted, where the item does not say."""
        if kind == "code_interpreter_call" and isinstance(item.get("outputs"), list):
            logs = [part.get("logs") if isinstance(part, Mapping) else None for part in item["outputs"]]
            self.left_out.update({"code_interpreter_image": logs.count(None)} if None in logs else {})
            return "\n".join(text for text in logs if isinstance(text, str))
        key = {"file_search_call": "results", "mcp_call": "output"}.get(kind, "")
        shown = item.get(key) if item.get(key) is not None else item.get("error")
        if shown is None:
            self.left_out[f"result_of_{kind}"] += 1
        return shown if shown is None else _shown(shown)

    def _call(self, item: dict[str, Any], call: dict[str, Any]) -> None:
        self._at(item).setdefault("tool_calls", []).append(call)

    def _go_on(self, says: bool) -> None:
        """End the turn before, where what comes next is not of the same."""
        turn = self._turn
        if turn is not None and says and not self._waits and (turn["content"] or turn.get("tool_calls")):
            self.end_turn()

    def _at(self, item: dict[str, Any]) -> dict[str, Any]:
        """The turn that an item belongs to, with the item's loss flags."""
        if self._turn is None:
            self._turn = {"role": "assistant", "content": []}
        flags = (key for key in item if key in LOSS_KEYS or key == COPIED or LIKE_A_LOSS_KEY.fullmatch(key))
        self._turn |= {key: item[key] for key in flags}
        return self._turn


def _joined(parts: Any) -> str:
    """The text of a reasoning item's content, or summary."""
    if isinstance(parts, str):
        return parts
    listed = parts if isinstance(parts, list) else []
    texts = (part.get("text") if isinstance(part, Mapping) else part for part in listed)
    return "\n\n".join(text for text in texts if isinstance(text, str) and text)


def _shown(output: Any) -> Any:
    """What a tool gave back: a text, parts with their types, or else JSON as text."""
    if output is None or isinstance(output, str):
        return output or ""
    parts = output if isinstance(output, list) else [output]
    if parts and all(isinstance(part, Mapping) and "type" in part for part in parts):
        return parts
    return json.dumps(output, ensure_ascii=False)
