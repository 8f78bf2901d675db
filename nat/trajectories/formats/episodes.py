"""What formats of ReAct episodes share: observations in user messages, a last one that tells the outcome, and `info`.

An agent's turn and what it sees (the second shows the label, so it is set aside and no message of the trajectory):

    {"role": "assistant", "content": "Thought: Both names agree.\\nAction: finish[Seth MacFarlane]"}
    {"role": "user", "content": "Observation: Episode finished, reward = True"}
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

from nat.agents.actions import FINISH, Action, UnparsedAction, parse_action, parse_answer
from nat.agents.kinds import USER_STOP, Agent, ends_episode, is_short_answer, read_agent, takes_turns_with_user
from nat.agents.scoring import is_abstention
from nat.core.rows.bad import BadRow
from nat.trajectories.fields import comparison, named, offered
from nat.trajectories.formats.tool_calls import as_react_text
from nat.trajectories.formats.turns import decoded
from nat.types import Failure, Message, Outcome

# The tools of the published episodes. Another one was no tool there either: its action could not be carried out.
TOOLS = ("search", "lookup", "calculate", "calculator")
# Where a record says how its episode went: by these keys, the first that is there, in the record itself or below one
# of `PLACES`. What says success itself goes before a reward, which may be shaped. The later ones may also be words.
EXPLICIT_LABELS = ("success", "resolved", "is_solved", "solved", "win", "is_correct", "correct", "passed", "is_success")
NUMBER_LABELS = ("reward", "em", "acc")
WORD_LABELS = ("label", "outcome", "kto_tag")
PLACES = ("info", "metadata", "outcome", "meta", "report", "reward_info", "result", "extra_info")
LABELS = (*EXPLICIT_LABELS, *NUMBER_LABELS, *WORD_LABELS)
GRADES = ("f1", "score")
PREDICTIONS = ("pred", "prediction", "extracted_answer")
# `answer` comes last: where the record names its reference otherwise, that is the agent's own.
REFERENCES = ("gt", "reference", "ground_truth", "gold", "gold_answer", "expected_answer", "reference_answer", "answer")
PAIRS = (("chosen", "rejected"), ("preferred_output", "non_preferred_output"))
_SAYING = frozenset(LABELS)
_SAYING_BY_MEMBERS = frozenset((*LABELS, *GRADES))
_HOLDING = tuple(dict.fromkeys((*PLACES, *LABELS, *GRADES)))
UNLABELLED = "unlabelled"  # the key in `metadata` of a trajectory that waits for the label of a rule

_OBSERVATION = re.compile(r"Observation(?: ?\d+)?:[ \t]*")
_QUESTION = re.compile(r"\s*Question:[ \t]*")
_END = re.compile(r"Episode finished(?:,\s*reward\s*=\s*(?P<reward>[\w.-]+))?[\s.]*")
_LABELS = {"true": 1.0, "false": 0.0}
_WORDS = {
    **_LABELS,
    **dict.fromkeys(("success", "succeeded", "correct", "positive", "passed", "pass", "good", "1", "1.0"), 1.0),
    **dict.fromkeys(("failure", "failed", "fail", "incorrect", "wrong", "negative", "bad", "0", "0.0"), 0.0),
}
_LABEL_REMEDY = (
    "Say where its label stands: in another file, trajectories.labels=results.json, or in a field or comparison, "
    "trajectories.label='info.score >= 0.5'. It is found by itself in a field 'reward', 'success', 'is_correct', "
    "'score' ... (true, false, or 0 to 1) of the record or its 'info', or in a last message 'Observation: Episode "
    "finished, reward = True'."
)
_BAD_NAME = re.compile(r"bad|fail|neg|wrong|incorrect|unsuc|unsolved|unresolved|loss|lost|reject", re.I)
_TAGGED_ANSWER = re.compile(r"<(answer|final_answer)>(.*?)</\1>", re.DOTALL)
_THOUGHT = re.compile(r"\s*<(think|thinking|thought)>")
_TOOL_ERROR = re.compile(
    r"\s{0,8}(?:error\b|[\w.]{0,40}(?:Error|Exception)\b|traceback \(most recent call last\)|(?:invalid|unknown) "
    r"(?:action|tool|function|input|argument|call)|(?:tool|function)(?: call)? (?:error|failed|not found))",
    re.I,
)
_INFRASTRUCTURE = re.compile(
    r"rate.?limit(?:error|ed|s? (?:exceeded|reached|hit))|too many requests|insufficient_quota|"
    r"(?:api)?(?:connection|timeout)error|connection (?:error|refused|reset|aborted|timed out)|"
    r"(?:request|read|gateway)[ -]?time(?:d |-)?out|\b50[0234][: ]{1,2}(?:internal server error|bad gateway|service "
    r"(?:temporarily )?unavailable|gateway time-?out)|\bhttp(?: error)?:? 5\d\d\b|internal server error|service "
    r"unavailable|server (?:is )?overloaded|(?:invalid|incorrect|missing) api key|cuda out of memory",
    re.I,
)
_ERROR_LENGTH = 400  # characters at the start of a text that are searched for what an error says


def word(text: str) -> float | None:
    """What a word says of success: 1 or 0, or None where it is no such word."""
    return _WORDS.get(text.strip().lower())


class Label(NamedTuple):
    """What a record says of its episode: `score` in [0, 1] grades it."""

    success: bool
    score: float


def episode(messages: Sequence[Message], where: str) -> tuple[tuple[Message, ...], str | None]:
    """The episode from the agent's first turn, and the text of the message that ended it (None: there is none).

    It is an observation, or the stop mark of a simulated user. Observations in user messages lose `Observation:` and
    become tool messages, as does a user message that stands where the result of an action or call is due; all else
    stays as it is. Raises BadRow where the agent never acts, or goes on after the end: what it does then is conditioned
    on its own label.
    """
    messages = [_as_observation(message) for message in messages]
    for i in range(1, len(messages)):
        if messages[i].role == "user" and messages[i - 1].role == "assistant" and acts(messages[i - 1]):
            messages[i] = replace(messages[i], role="tool")
    ending = None
    if messages and messages[-1].role != "assistant" and _is_ending(messages[-1]):
        ending = messages.pop().content
    if not any(message.role == "assistant" for message in messages):
        raise BadRow(where, "no_agent_turn", f"none of its {len(messages)} messages is the agent's.")
    for message in messages:
        if message.role != "assistant" and _END.fullmatch(message.content):
            raise BadRow(where, "goes_on_after_end", f"messages follow {message.content!r:.80}; cut them off.")
    return tuple(messages), ending


def _is_ending(message: Message) -> bool:
    return _END.fullmatch(message.content) is not None or (message.role == "user" and is_user_stop(message.content))


def is_user_stop(ending: str | None) -> bool:
    """Whether a simulated user ended the conversation."""
    return ending is not None and USER_STOP.search(ending) is not None


def _as_observation(message: Message) -> Message:
    prefix = _OBSERVATION.match(message.content) if message.role in ("user", "tool") else None
    return replace(message, role="tool", content=message.content[prefix.end() :]) if prefix else message


def facts(record: Mapping[str, Any], places: Sequence[Any] = ()) -> dict[str, Any]:
    """What a record says about its outcome, by key: in the record itself, else in one of `PLACES` or `places`.

    An object or a list under such a key says it by members, which a label rule may name.
    """
    found: dict[str, Any] = {}
    for place in (record, *(record.get(key) for key in PLACES), *places):
        if isinstance(place, Mapping):
            for key in (*LABELS, *GRADES, *PREDICTIONS, *REFERENCES, "failure"):
                value = place.get(key)
                by_members = key in (*LABELS, *GRADES, "answer", "extracted_answer") and isinstance(
                    value, Mapping | list
                )
                if value is not None and not by_members:
                    found.setdefault(key, value)
    return found


def without_label(found: Mapping[str, Any], *kept: str) -> dict[str, Any]:
    """Of `facts`, prediction and reference, for formats that say themselves where the label stands; and `kept` keys."""
    return {key: value for key, value in found.items() if key in (*PREDICTIONS, *REFERENCES, *kept)}


class Said(NamedTuple):
    """What one field of a record says of success: `score` is 1 where it says so, below that where it does not."""

    path: str
    value: Any
    score: float


def labels_said(record: Mapping[str, Any]) -> list[Said]:
    """All that a record says of success: the field that `read_label` takes, then the others.

    Looked at are the places of `facts`, and objects under a label's key (`score.passed`).
    """
    found: list[tuple[int, Said]] = []
    for prefix, place in _places(record):
        for key in place.keys() & _SAYING:
            score = _said(key, place[key])
            if score is not None:
                found.append((LABELS.index(key), Said(f"{prefix}{key}", place[key], score)))
    return [said for _, said in sorted(found, key=lambda one: one[0])]


def _places(record: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The record itself, and what `_HOLDING` keys hold in it and in one another, each with its path."""
    yield "", record
    for key in (key for key in _HOLDING if key in record):
        if isinstance(place := record[key], Mapping):
            yield f"{key}.", place
            for inner in sorted(place.keys() & _SAYING_BY_MEMBERS):
                if isinstance(place[inner], Mapping):
                    yield f"{key}.{inner}.", place[inner]


def _said(key: str, value: Any) -> float | None:
    if isinstance(value, str):
        word = value.strip().lower()
        if key in NUMBER_LABELS or (key in WORD_LABELS and word[:1].isdigit()):
            return None  # "1" may be the label of a class
        return _WORDS.get(word)
    is_number = isinstance(value, bool | int | float) and (isinstance(value, bool) or key not in WORD_LABELS)
    return float(value) if is_number and -1 <= value <= 1 else None


def read_label(
    info: Mapping[str, Any],
    ending: str | None,
    where: str,
    needs_label: bool = True,
    fields: Mapping[str, Any] | None = None,
    of_file: str | None = None,
) -> Label | None:
    """The label among `facts`: the first of LABELS and `score`; `f1` or `score` grades it.

    Without any, the observation that ended the episode counts. Full marks (1) are a success; a reward below 0 is a
    failure with a score of 0. With `needs_label=False` None stands for a label that is missing, or wrong: a rule will
    supply it. Otherwise BadRow is raised: `no_label`, `wrong_value`, or `contradictory_label` where record and last
    observation disagree.

    Args:
        fields: those that a rule could name, for the message.
        of_file: a rule by which one of several files would be one class.
    """
    try:
        said = _reward_text(_END.fullmatch(ending or ""))
        given = [_grade(info, key, where) for key in LABELS]
        grades = [_grade(info, key, where) for key in GRADES]
        label = next((value for value in (*given, said, grades[1]) if value is not None), None)
        if label is None:
            raise BadRow(where, "no_label", "success is nowhere said.")
        success = label == 1
        if said is not None and (said == 1) != success:
            problem = f"the record says {'success' if success else 'failure'}, its last observation {ending!r:.60}."
            raise BadRow(where, "contradictory_label", problem)
    except BadRow as bad:
        if not needs_label:
            return None
        if bad.reason == "contradictory_label":
            raise
        wrong = next((key for key in LABELS if info.get(key) is not None), "score") if bad.reason != "no_label" else ""
        raise BadRow(where, bad.reason, f"{bad.problem}\n{_where_to_look(fields or {}, wrong, of_file)}") from None
    return Label(success, max(0.0, next((grade for grade in grades if grade is not None), label)))


def rule_of_file(source: str | None, where: str, label: str) -> str | None:
    """A rule that makes one class of a file, which `label` tells from several others; its name says which."""
    path = Path(where.rpartition(":")[0])
    if not label:
        return None
    if "/" in label:  # files of the same name
        name, field = path.absolute().parent.name, "folder"
    elif source is not None:
        name, field = source, "source"
    else:
        name, field = path.name, "file"
    return f'{field} {"!=" if _BAD_NAME.search(name) else "=="} "{name}"'


def _where_to_look(fields: Mapping[str, Any], wrong: str, of_file: str | None) -> str:
    """What could be the label, for an error. `wrong` is the key whose value is none."""
    rule = comparison(fields, wrong) if wrong else None
    if rule is not None:
        return f"Otherwise say which values are successes, e.g. trajectories.label='{rule}'."
    shown, rule = named(fields), offered(fields)
    if rule is not None:
        return f"Say where, e.g. trajectories.label='{rule}'. Its fields: {shown}."
    if of_file is not None:
        remedy = f"Where a file or folder holds one class, say which: trajectories.label='{of_file}'; where another "
        remedy += "file says it, name that: trajectories.labels=results.json."
    else:
        remedy = _LABEL_REMEDY
    return f"{remedy} Its fields: {shown}." if shown else remedy


def outcome(
    label: Label | None,
    info: Mapping[str, Any],
    messages: Sequence[Message],
    where: str,
    reference: str | None = None,
    any_tool: bool = False,
) -> Outcome:
    """How the episode went. `reference` is used in place of what `info` (see `facts`) says.

    A failure's kind is found by rule, unless the record names one. Without a label it counts as failed until
    `nat.trajectories.labels.relabel` says otherwise.
    """
    prediction = _answer(info, PREDICTIONS, where)
    if prediction is None:
        prediction = final_answer(messages, any_tool)
    if reference is None:
        reference = _answer(info, REFERENCES, where)
        reference = reference and (reference.rsplit("####", 1)[-1].strip() or None)
    success = label is not None and label.success
    kind: Failure | None = next((kind for kind in get_args(Failure) if kind == info.get("failure")), None)
    return Outcome(
        success=success,
        score=0.0 if label is None else label.score,
        failure=None if success else kind or failure_kind(messages, prediction, any_tool, reference),
        prediction=prediction,
        reference=reference,
    )


def failure_kind(
    messages: Sequence[Message], prediction: str | None, any_tool: bool = False, reference: str | None = None
) -> Failure:
    """Why an episode failed: by its last turn, read as `nat` reads a turn in evaluation, and what was said after it.

    - `wrong_answer`, `abstained`: it ended with an answer. A file that names a prediction says that its own
      environment took one, whichever action of a run-on turn that was. `wrong_answer` too where the agent ended it
      otherwise: by a call such as `submit` or by a command, by taking leave of a user, by what a plain chat says last.
    - `infrastructure`: the last observation, or the last turn itself, is an error such as "rate limit exceeded".
    - `no_answer`: the last turn is empty, ends in the middle of a `<think>`, or is a chain of thought without an
      answer.
    - `unparsed_action`: the last turn holds no action that can be read, of an agent whose other actions can.
    - `tool_error`, `out_of_turns`: it does; the observation after it is an error, or not.

    Args:
        any_tool: an action with any name is one, and plain text may be an answer (see `final_answer`); else the names
            are `TOOLS`.
        reference: what an answer is compared with, where there is anything: then one is due.
    """
    answers = [answer for answer in (prediction, final_answer(messages, any_tool)) if answer is not None]
    if answers:
        return "abstained" if any(map(is_abstention, answers)) else "wrong_answer"
    turns = as_react_text(messages)
    last = _last_turn(turns)
    seen = turns[-1].content[:_ERROR_LENGTH] if turns and turns[-1].role != "assistant" else ""
    if _INFRASTRUCTURE.search(seen) and (_TOOL_ERROR.match(seen) or _INFRASTRUCTURE.match(seen)):
        return "infrastructure"
    if _INFRASTRUCTURE.search(last[:_ERROR_LENGTH]) and _TOOL_ERROR.match(last):
        return "infrastructure"
    if not last.strip() or _thinks_on(last):
        return "no_answer"
    agent = _agent(messages, reference)
    if agent.names_answer or _ends_it(messages, agent):
        return "wrong_answer"
    if not (_acts(last, any_tool) or _acted_otherwise(messages, agent)):
        if agent.has_user or agent.writes in ("native_calls", "plain_chat"):
            return "wrong_answer"
        if agent.writes == "chain_of_thought" and any_tool:
            return "no_answer"
        return "unparsed_action"
    return "tool_error" if _TOOL_ERROR.match(seen) else "out_of_turns"


def _agent(messages: Sequence[Message], reference: str | None) -> Agent:
    refused = {i for i, m in enumerate(messages) if m.role != "assistant" and _TOOL_ERROR.match(m.content)}
    return read_agent(messages, TOOLS, refused, answer_is_due=is_short_answer(reference))


def _ends_it(messages: Sequence[Message], agent: Agent) -> bool:
    """Whether the last turn may be the end that was meant: any command may, as the work is judged and no answer."""
    last = max(agent.actions)
    return last in agent.commands or ends_episode(messages[last], agent.actions[last])


def _acted_otherwise(messages: Sequence[Message], agent: Agent) -> bool:
    """Whether the last turn is one of an agent whose actions are in a syntax of its own."""
    last = max(agent.actions)
    return agent.is_foreign and (last in agent.carried_out or last == len(messages) - 1)


def final_answer(messages: Sequence[Message], any_tool: bool = False) -> str | None:
    """What the first action of the last turn finishes with; None where it is another action, or none.

    With `any_tool`, plain text may be the answer: that of an agent that calls tools by structured calls, and a chain
    of thought. Then `Answer: X` and the like count (`nat.agents.actions.parse_answer`), else the text where it is one
    line.
    """
    last = next((message for message in reversed(messages) if message.role == "assistant"), None)
    if last is None:
        return None
    text = as_react_text([last])[-1].content
    action = parse_action(text, TOOLS)
    if isinstance(action, Action):
        return action.input if action.tool == FINISH else None
    if _thinks_on(text):
        return None
    if tagged := list(_TAGGED_ANSWER.finditer(text)):
        return tagged[-1][2].strip() or None
    if not any_tool or action.kind != "no_action" or not text.strip() or _holds_actions(messages):
        return None
    answer = parse_answer(text)
    if isinstance(answer, Action):
        return answer.input
    if takes_turns_with_user(messages):  # it takes leave
        return None
    line = text.strip()
    is_answer = "\n" not in line and len(line) <= 200 and not line.lower().startswith("thought")
    return line if is_answer and not _TOOL_ERROR.match(line) else None


def acts(message: Message) -> bool:
    """Whether a turn of the agent does something that has a result: it calls a tool, or writes an action but finish."""
    if message.tool_calls:
        return True
    action = parse_action(message.content, TOOLS)
    return action.tool != FINISH if isinstance(action, Action) else action.kind == "unknown_tool"


def _acts(turn: str, any_tool: bool) -> bool:
    action = parse_action(turn, TOOLS)
    return isinstance(action, Action) or (any_tool and action.kind == "unknown_tool")


def _thinks_on(turn: str) -> bool:
    """Whether a turn ends in the middle of a thought."""
    begun = _THOUGHT.match(turn)
    return begun is not None and f"</{begun[1]}>" not in turn


def _holds_actions(messages: Iterable[Message]) -> bool:
    """Whether the agent writes actions as text anywhere, readable or not."""
    actions = (parse_action(m.content, TOOLS) for m in messages if m.role == "assistant" and not m.tool_calls)
    return any(not isinstance(action, UnparsedAction) or action.kind != "no_action" for action in actions)


def _last_turn(messages: Sequence[Message]) -> str:
    return next((message.content for message in reversed(messages) if message.role == "assistant"), "")


def _answer(info: Mapping[str, Any], keys: Sequence[str], where: str) -> str | None:
    texts = (answer_text(info.get(key), key, where) for key in keys)
    return next((text for text in texts if text is not None), None)


def answer_text(value: Any, key: str, where: str) -> str | None:
    """An answer as text: booleans are yes and no. None where there is none."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, str | int | float):
        raise BadRow(where, "wrong_value", f"{key!r} is {value!r:.80}; it must be text, a number, true or false.")
    return str(value)


def _grade(info: Mapping[str, Any], key: str, where: str) -> float | None:
    value = info.get(key)
    if value is None:
        return None
    if key in (*EXPLICIT_LABELS, *WORD_LABELS) and isinstance(value, str) and value.strip().lower() in _WORDS:
        return _WORDS[value.strip().lower()]
    if not isinstance(value, bool | int | float) or not -1 <= value <= 1:
        problem = f"{key!r} is {value!r:.80}; it must be true, false or a number from -1 to 1."
        raise BadRow(where, "wrong_value", problem)
    return float(value)


def _reward_text(said: re.Match[str] | None) -> float | None:
    if said is None or said["reward"] is None:
        return None
    text = said["reward"].lower()
    try:
        return _LABELS[text] if text in _LABELS else float(text.rstrip("."))
    except ValueError:
        return None


def metadata_of(preamble: int, ending: str | None) -> dict[str, Any]:
    """What was set aside: the number of messages in front and the observation that told the outcome."""
    metadata: dict[str, Any] = {"preamble_messages": preamble} if preamble else {}
    if ending is not None:
        metadata["final_observation"] = ending
    return metadata


def leftover(record: Mapping[str, Any], used: Collection[str]) -> dict[str, Any]:
    """The fields of a record that became no part of the trajectory, as they stand: a label rule may name them.

    Null fields are left out: columnar files have one for every field of another row.
    """
    return {key: value for key, value in record.items() if value is not None and key not in used and key != UNLABELLED}


def line_of(where: str) -> str:
    """The number in "file:line" or "file: record number"."""
    return where.rpartition(":")[2].rpartition(" ")[2]


def is_pair(record: Mapping[str, Any]) -> bool:
    """Whether a record holds two answers of which one is preferred: each text, a message or messages."""
    return any(all(isinstance(record.get(key), str | list | dict) for key in pair) for pair in PAIRS)


def holds(record: Mapping[str, Any]) -> str | None:
    """The key under which a record holds its messages, or None."""
    held = messages_in(record)
    return None if held is None else held[0]


def messages_in(record: Mapping[str, Any]) -> tuple[str, list[Any]] | None:
    """The key under which a record holds its messages, and those, also where they are written as JSON text.

    None where there are none, and beside a pair of answers, where they are not the whole.
    """
    if is_pair(record):
        return None
    for key in ("traj", "conversations", "messages", "conversation", "trajectory", "history"):
        given = decoded(record.get(key))
        # A mere `history` of texts, or a `trajectory` of steps, is something else.
        if isinstance(given, list) and (key in ("traj", "conversations", "messages") or _are_messages(given)):
            return key, given
    return None


def _are_messages(values: list[Any]) -> bool:
    first = values[0] if values else None
    return isinstance(first, Mapping) and any(isinstance(first.get(key), str) for key in ("role", "from"))


def is_observation(message: Any) -> bool:
    """Whether a message as it stands in a file is an observation in a user message."""
    if not isinstance(message, Mapping) or message.get("role") != "user":
        return False
    content = message.get("content")
    return isinstance(content, str) and _OBSERVATION.match(content) is not None
