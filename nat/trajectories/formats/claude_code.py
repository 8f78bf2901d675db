"""Claude Code's sessions, a record a line: one trajectory a session, and one for each agent that it sent out. Records:

    {"type": "user", "sessionId": "s1", "uuid": "u1", "parentUuid": null, "isSidechain": false,
     "message": {"role": "user", "content": "Fix it"}}
    {"type": "assistant", "sessionId": "s1", "uuid": "u2", "parentUuid": "u1", "message": {"id": "m1",
     "role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}]}}
    {"type": "user", "sessionId": "s1", "uuid": "u3", "parentUuid": "u2", "message": {"role": "user", "content": [
     {"type": "tool_result", "tool_use_id": "t1", "content": "a.py"}]}}

What `claude -p --output-format=stream-json` prints is read as well (`session_id`, `parent_tool_use_id`, a last record
of the type `result`), and a session in one object, `{"sessionId": "s1", "records": [...]}`. The parts of one answer
stand in several records with the same `message.id`, and are one turn. Records whose `isSidechain` is true are another
agent's: `SESSION:AGENT`. After a summary (`isCompactSummary`) the agent no longer saw what stands before it, so that it
begins a trajectory of its own, `SESSION:1`, of the same task. Turns that the user went back behind (a branch of
`parentUuid` that does not lead to the last record) are left out, as are records of other types, and answers that Claude
Code wrote itself (API errors): all counted. `isMeta` marks what Claude Code says to the agent in a user's place; the
agent saw it, so it is kept, and counted.

There is no label in a session: join one by its id (`sessionId`), say it by the file, or write it into the object before
`records`. A session that ends in an API error is `infrastructure`; a `result` says `out_of_turns` by `error_max_turns`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nat.core.rows.bad import BadRow
from nat.core.rows.json_records import Record
from nat.trajectories.formats.coding_runs import counted
from nat.trajectories.formats.conversations import Conversation, conversation
from nat.trajectories.formats.episodes import facts
from nat.trajectories.formats.exit_status import failure_of_error
from nat.trajectories.formats.turns import read_turns
from nat.types import Failure

NAME = "claude_code"
PLACE = 14
IDS = ("sessionId", "session_id")
TYPES = ("user", "assistant", "system", "summary", "attachment", "result")
# Records that hold nothing which the agent saw or said.
SILENT = {
    *("file-history-snapshot", "progress", "queue-operation", "last-prompt", "ai-title", "custom-title", "agent-name"),
    *("permission-mode", "mode", "pr-link", "worktree-state", "tag", "stream_event", "tool_progress", "result"),
}
OF_A_SESSION = ("records", "goes_on", *IDS)
KEPT = ("cwd", "gitBranch", "version", "entrypoint")  # of the first record that has them
ENDS: Mapping[str, Failure] = {
    "error_max_turns": "out_of_turns",
    "error_max_budget_usd": "out_of_turns",
    "error_during_execution": "infrastructure",
}


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: one of a session's."""
    if _is_session(value):
        return True
    kind = value.get("type")
    if not isinstance(kind, str) or "messages" in value or "role" in value:
        return False
    if kind in ("user", "assistant"):
        is_one = any(key in value for key in (*IDS, "parentUuid", "parent_tool_use_id"))
        return is_one and isinstance(value.get("message"), Mapping)
    if kind in SILENT - {"result"} or kind in TYPES:
        return _session_of(value) is not None or "leafUuid" in value or "messageId" in value
    return False


def grouped(records: Iterable[tuple[str, Record]]) -> Iterator[tuple[str, Record]]:
    """The sessions of a file, each as one record `{"sessionId": ..., "records": [...]}`; one is held at a time."""
    ended: set[str] = set()
    session: str | None = None
    place: tuple[str, Record] | None = None
    held: list[dict[str, Any]] = []
    for where, record in records:
        of = _session_of(record.value)
        is_whole = _is_session(record.value)
        if place is not None and (is_whole or (of is not None and session is not None and of != session)):
            yield place[0], _session(place[1], session, held, ended)
            place, held, session = None, [], None
        if is_whole:
            yield where, record
            continue
        place = place or (where, record)
        session = session or of
        held.append(record.value)
    if place is not None:
        yield place[0], _session(place[1], session, held, ended)


def _session(first: Record, session: str | None, records: list[dict[str, Any]], ended: set[str]) -> Record:
    value = {**first.outer, "sessionId": session, "records": records, "goes_on": session in ended}
    if session is not None:
        ended.add(session)
    return first._replace(value=value)


def _is_session(value: Mapping[str, Any]) -> bool:
    records = value.get("records")
    first = records[0] if isinstance(records, list) and records else None
    return isinstance(first, Mapping) and _session_of(value) is not None and isinstance(first.get("type"), str)


def _session_of(value: Mapping[str, Any]) -> str | None:
    return next((value[key] for key in IDS if isinstance(value.get(key), str)), None)


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """Those of a session: of the agent that the user spoke with, and of those that it sent out."""
    value = record.value
    records = value.get("records")
    if not isinstance(records, list):  # of a file that is not read by sessions
        records, record = [value], record._replace(value={})
    if any(not isinstance(one, Mapping) for one in records):
        raise BadRow(where, "wrong_value", "'records' must be a list of objects.")
    session = _session_of(value)
    if value.get("goes_on") is True:
        problem = (
            f"the session {session!r:.80} goes on here after another one.\nKeep the records of a session together."
        )
        raise BadRow(where, "wrong_value", problem)
    chains = _chains(records)
    refused: BadRow | None = None
    for agent, chain in chains.items():
        try:
            yield from _of_chain(where, record, session, agent, chain)
        except BadRow as bad:
            refused = refused or bad
    if refused is not None:
        raise refused
    if not chains:
        raise BadRow(where, "no_agent_turn", f"none of its {len(records)} records is a message.")


def _chains(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The records by agent; `""` is the one that the user spoke with. An agent has a message at least."""
    chains: dict[str, list[Mapping[str, Any]]] = {}
    of: dict[str, str] = {}  # the agent of a record, by its uuid
    for record in records:
        uuid, parent = (str(record.get(key) or "") for key in ("uuid", "parentUuid"))
        agent = ""
        if record.get("isSidechain") is True or record.get("parent_tool_use_id") is not None:
            stated = next((record[key] for key in ("agentId", "parent_tool_use_id") if record.get(key)), None)
            agent = str(stated or of.get(parent) or uuid or "sidechain")
        of[uuid] = agent
        chains.setdefault(agent, []).append(record)
    return {agent: chain for agent, chain in chains.items() if any(map(_is_message, chain))}


def _is_message(record: Mapping[str, Any]) -> bool:
    return record.get("type") in ("user", "assistant")


# ---- one agent ----


@dataclass
class _Part:
    """What an agent had before it at once: a session, or what comes of it after a summary of what was before."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    of_answers: dict[str, dict[str, Any]] = field(default_factory=dict)  # turns by the id of the model's answer


def _of_chain(
    where: str, record: Record, session: str | None, agent: str, chain: Sequence[Mapping[str, Any]]
) -> list[Conversation]:
    left_out: Counter[str] = Counter()
    parts = [_Part()]
    broke: Failure | None = None
    n_meta = 0
    failure: Failure | None = None
    current = _current(chain)
    for one in chain:
        kind = str(one.get("type"))
        if kind == "result":
            failure = ENDS.get(str(one.get("subtype"))) or ("infrastructure" if one.get("is_error") is True else None)
        if not _is_message(one):
            left_out[kind] += kind not in SILENT
            continue
        message = one.get("message")
        if not isinstance(message, Mapping):
            raise BadRow(where, "wrong_value", f"the 'message' of a record is {message!r:.80}; it must be an object.")
        if id(one) not in current:
            left_out["left_branches"] += 1
        elif kind == "assistant":
            if _is_own(one, message):
                broke = failure_of_error(_said(message)) if _is_error(one) else None
                left_out["harness_messages"] += 1
                continue
            broke = None
            _take(parts[-1], message)
        else:
            if one.get("isCompactSummary") is True and parts[-1].messages:
                parts.append(_Part())
            n_meta += one.get("isMeta") is True
            if seen := _seen(message.get("content")):
                parts[-1].messages.append({"role": "user", "content": seen})
    acting = [part for part in parts if any(message["role"] == "assistant" for message in part.messages)]
    failure = broke or failure
    if not acting:
        reason = "infrastructure" if failure == "infrastructure" else "no_agent_turn"
        raise BadRow(where, reason, f"none of the {len(chain)} records of {agent or 'the session'!r:.80} is a turn.")
    stated = {key: next((one[key] for one in chain if one.get(key)), None) for key in KEPT}
    models = [model for one in chain if (model := _model(one)) is not None]
    fields = {**stated, "agent": agent or None, "model": models[0] if models else None, "meta_messages": n_meta or None}
    said = {key: member for key, member in record.value.items() if key not in OF_A_SESSION}
    value = {**said, "sessionId": session, **{key: member for key, member in fields.items() if member is not None}}
    found: list[Conversation] = []
    for number, part in enumerate(acting):
        turns = read_turns(part.messages, where)
        if part is acting[-1]:
            turns = counted(turns, left_out)
        suffix = (f":{agent}" if agent else "") + (f":{number}" if number else "")
        given: dict[str, Any] = {"id": session, "suffix": suffix, "facts": facts(said)}
        if part is acting[-1]:
            given["failure"] = failure
        if len(acting) > 1:
            given["task"] = f"{session}:{agent}" if agent else session
        made = conversation(where, record._replace(value=value), turns, (), **given)
        found.append(replace(made, prompt=next(i for i, m in enumerate(made.messages) if m.role == "assistant")))
    return found


def _take(part: _Part, message: Mapping[str, Any]) -> None:
    """Add an answer, or one more of the records that it came in."""
    content = message.get("content")
    blocks = list(content) if isinstance(content, list) else [{"type": "text", "text": content or ""}]
    name = message.get("id")
    turn = part.of_answers.get(name) if isinstance(name, str) else None
    if turn is None:
        turn = {"role": "assistant", "content": blocks}
        part.messages.append(turn)
        if isinstance(name, str):
            part.of_answers[name] = turn
        return
    calls = {str(block.get("id")) for block in turn["content"] if isinstance(block, Mapping) and "input" in block}
    for block in blocks:
        is_there = isinstance(block, Mapping) and "input" in block and str(block.get("id")) in calls
        if not is_there and block not in turn["content"]:
            turn["content"].append(block)


def _is_own(record: Mapping[str, Any], message: Mapping[str, Any]) -> bool:
    """Whether Claude Code wrote an answer itself."""
    return _is_error(record) or message.get("model") == "<synthetic>"


def _is_error(record: Mapping[str, Any]) -> bool:
    return record.get("isApiErrorMessage") is True or record.get("is_api_error_message") is True


def _said(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    blocks = content if isinstance(content, list) else [content]
    texts = [block.get("text") if isinstance(block, Mapping) else block for block in blocks]
    return "\n".join(text for text in texts if isinstance(text, str)) or "error"


def _model(record: Mapping[str, Any]) -> str | None:
    message = record.get("message")
    model = message.get("model") if isinstance(message, Mapping) else None
    return model if isinstance(model, str) and model != "<synthetic>" else None


def _seen(content: Any) -> Any:
    """What a user's record says; names of tools that a result refers to are text."""
    if not isinstance(content, list):
        return content
    return [
        {**block, "content": [_named(part) for part in block["content"]]}
        if isinstance(block, Mapping) and isinstance(block.get("content"), list)
        else block
        for block in content
    ]


def _named(part: Any) -> Any:
    if isinstance(part, Mapping) and part.get("type") == "tool_reference":
        return {"type": "text", "text": str(part.get("tool_name"))}
    return part


# ---- which records the last one follows ----


def _current(chain: Sequence[Mapping[str, Any]]) -> set[int]:
    """The records, by identity, that lead to the last message; others are of branches that the user went back behind.

    A record whose parent is not in the file follows the one before it; a user's without a parent begins anew. Parts of
    one answer, and the results of its calls, each follow another part of it, so that not all of them lead to the last.
    """
    by_uuid = {str(one["uuid"]): i for i, one in enumerate(chain) if one.get("uuid")}
    leading: set[int] = set()
    at = max(i for i, one in enumerate(chain) if _is_message(one))
    while at >= 0:
        leading.add(at)
        one = chain[at]
        if one.get("type") == "user" and one.get("parentUuid", "") is None and not one.get("isCompactSummary"):
            break
        parent = by_uuid.get(str(one.get("parentUuid") or ""))
        at = at - 1 if parent is None or parent >= at else parent
    answers = {name for i in leading if (name := _answer_of(chain[i])) is not None}
    leading |= {i for i, one in enumerate(chain) if _answer_of(one) in answers}
    calls = {name for i in leading for name in _ids(chain[i], "tool_use", "id")}
    leading |= {i for i, one in enumerate(chain) if calls & _ids(one, "tool_result", "tool_use_id")}
    return {id(chain[i]) for i in leading}


def _answer_of(record: Mapping[str, Any]) -> str | None:
    message = record.get("message")
    name = message.get("id") if isinstance(message, Mapping) else None
    return name if isinstance(name, str) else None


def _ids(record: Mapping[str, Any], kind: str, key: str) -> set[str]:
    message = record.get("message")
    content = message.get("content") if isinstance(message, Mapping) else None
    blocks = content if isinstance(content, list) else []
    return {str(block.get(key)) for block in blocks if isinstance(block, Mapping) and block.get("type") == kind}
