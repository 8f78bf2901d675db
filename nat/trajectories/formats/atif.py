"""The Agent Trajectory Interchange Format, 1.0 to 1.8, as Harbor's trials leave it, a trajectory a file. A record:

    {"schema_version": "ATIF-v1.6", "session_id": "s1", "agent": {"name": "terminus-2", "version": "2.0.0"},
     "steps": [
        {"step_id": 1, "source": "user", "message": "Make a file a.txt"},
        {"step_id": 2, "source": "agent", "message": "I write it.", "reasoning_content": "Easy.",
         "tool_calls": [{"tool_call_id": "c1", "function_name": "bash", "arguments": {"cmd": "touch a.txt"}}],
         "observation": {"results": [{"source_call_id": "c1", "content": "ok"}]}},
        {"step_id": 3, "source": "agent", "message": "Done."}]}

The label stands in the trial's `result.json`, in the file's folder or one of the two above it: the `reward` of
`verifier_result.rewards`, or the only one there; `trajectories.label='rewards.NAME >= 1'` names another. Its
`exception_info` is `infrastructure`, but a time limit of the agent is `out_of_turns`, a full context `no_answer`. Its
`task_name` is the task, its `trial_name` the id. `agent.tool_definitions` are the tools.

Steps that are copied from an earlier trajectory (`is_copied_context`), and those that no model wrote (`llm_call_count`
0), carry no loss. Trajectories of subagents are trajectories of their own, with the trial's label: a file beside, or
an entry of `subagent_trajectories`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from nat.core import archives
from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import optional, require
from nat.core.rows.json_records import Record
from nat.trajectories.formats.conversations import Conversation, conversation, tools_in
from nat.trajectories.formats.episodes import facts, without_label
from nat.trajectories.formats.turns import COPIED, Turns, json_in, read_turns, text_of
from nat.types import Failure

NAME = "atif"
PLACE = 12
ROLES = {"system": "system", "user": "user", "agent": "assistant"}  # of a step's source
RESULT = "result.json"
ABOVE = 3  # folders of a trajectory's file that may hold its trial's result
OF_A_TRIAL = ("trial_name", "verifier_result", "exception_info")  # a job's result has none of them
# What Harbor calls the ends that are the policy's; all other exceptions are the harness's.
OF_THE_AGENT: Mapping[str, Failure] = {
    "AgentTimeoutError": "out_of_turns",
    "ContextLengthExceededError": "no_answer",
    "OutputLengthExceededError": "no_answer",
}


def recognises(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: it says so, or holds steps of a `source` beside its agent."""
    steps = value.get("steps")
    if not isinstance(steps, list):
        return False
    version = value.get("schema_version")
    if isinstance(version, str) and version.upper().startswith("ATIF"):
        return True
    first = steps[0] if steps else None
    return (
        isinstance(first, Mapping) and first.get("source") in tuple(ROLES) and isinstance(value.get("agent"), Mapping)
    )


def conversations(where: str, record: Record) -> Iterable[Conversation]:
    """The conversation of a trajectory, and those of the subagents in it."""
    value = record.value
    trial = _trial(record.path, where)
    file = record.path.stem if record.path is not None else ""
    part = file.removeprefix("trajectory").removeprefix(".") if file.startswith("trajectory.") else ""
    yield _conversation(where, value, trial, f":{part}" if part else "")
    for number, inner in enumerate(optional(value, "subagent_trajectories", list, where) or []):
        if not isinstance(inner, dict):
            raise BadRow(where, "wrong_value", f"a subagent's trajectory is {inner!r:.80}; it must be an object.")
        name = inner.get("trajectory_id")
        suffix = f":{part}" if part else ""
        named = name if isinstance(name, str) and name else str(number)
        one = _conversation(where, inner, trial, f"{suffix}:{named}")
        yield replace(one, id=_own_id(value, trial))


def _conversation(where: str, value: dict[str, Any], trial: _Trial, suffix: str) -> Conversation:
    agent = value.get("agent")
    of_agent = agent if isinstance(agent, Mapping) else {}
    extra = value.get("extra")
    turns = _turns(value, of_agent, where)
    found = facts(value, (extra,))
    if trial.rewards:
        found = without_label(found)
        name = "reward" if "reward" in trial.rewards else next(iter(trial.rewards))
        if name == "reward" or len(trial.rewards) == 1:
            found["reward"] = trial.rewards[name]
    elif trial.failure is not None:  # nothing was verified
        found = {**without_label(found), "reward": 0.0}
    named: dict[str, Any] = {} if trial.task is None else {"task": trial.task}
    own = _own_id(value, trial)
    return conversation(
        where,
        Record(None, value),
        turns,
        ("steps", "subagent_trajectories"),
        places=(extra,),
        facts=found,
        id=own,
        suffix=suffix,
        tools=tools_in(of_agent.get("tool_definitions")) or (),
        failure=trial.failure,
        no_label=trial.missing,
        metadata=trial.metadata,
        **named,
    )


def _own_id(value: Mapping[str, Any], trial: _Trial) -> str | None:
    names = (trial.name, value.get("trajectory_id"), value.get("session_id"))
    return next((name for name in names if isinstance(name, str) and name), None)


# ---- steps ----


def _turns(value: Mapping[str, Any], agent: Mapping[str, Any], where: str) -> Turns:
    steps = require(value, "steps", list, where)
    left_out: Counter[str] = Counter()
    messages: list[dict[str, Any]] = []
    extra = agent.get("extra")
    prompt = extra.get("system_prompt") if isinstance(extra, Mapping) else None
    if isinstance(prompt, str) and prompt and not any(_source(step) == "system" for step in steps[:1]):
        messages.append({"role": "system", "content": prompt})
    for step in steps:
        messages += _messages(step, where, left_out)
    read = read_turns(messages, where)
    return read._replace(left_out=Counter(read.left_out) + left_out)


def _source(step: Any) -> Any:
    return step.get("source") if isinstance(step, Mapping) else None


def _messages(step: Any, where: str, left_out: Counter[str]) -> Iterator[dict[str, Any]]:
    """The messages of a step: what was said, and what was seen after it."""
    if not isinstance(step, dict):
        raise BadRow(where, "wrong_value", f"a step is {step!r:.80}; it must be an object.")
    source = require(step, "source", str, where)
    if source not in ROLES:
        raise BadRow(where, "wrong_value", f"unknown source {source!r:.60}; the sources are {', '.join(ROLES)}.")
    results = list(_results(step, where, left_out))
    said = step.get("message")
    if source == "system" and not results and _refers(step):  # a note that a subagent did something, which none saw
        left_out["system_steps"] += 1
        return
    turn: dict[str, Any] = {"role": ROLES[source], "content": said}
    if source == "agent":
        calls = optional(step, "tool_calls", list, where) or []
        copied = bool(step.get(COPIED)) or step.get("llm_call_count") == 0
        reasoning = optional(step, "reasoning_content", str, where)
        turn |= {"tool_calls": calls, "reasoning_content": reasoning, COPIED: copied}
    yield turn
    yield from results


def _results(step: Mapping[str, Any], where: str, left_out: Counter[str]) -> Iterator[dict[str, Any]]:
    observation = optional(step, "observation", dict, where) or {}
    for result in optional(observation, "results", list, where) or []:
        if not isinstance(result, dict):
            raise BadRow(where, "wrong_value", f"a result is {result!r:.80}; it must be an object with 'content'.")
        call, content = result.get("source_call_id"), result.get("content")
        if content is None and result.get("subagent_trajectory_ref"):
            left_out["subagent_results"] += 1  # what the subagent did stands in its own trajectory
        if content is not None or call is not None:
            shown = "" if content is None else text_of(content, where)
            yield {"role": "tool", "tool_call_id": call, "content": shown}


def _refers(step: Mapping[str, Any]) -> bool:
    observation = step.get("observation")
    results = observation.get("results") if isinstance(observation, Mapping) else None
    return isinstance(results, list) and any(
        isinstance(result, Mapping) and result.get("subagent_trajectory_ref") for result in results
    )


# ---- the trial ----


class _Trial(NamedTuple):
    """What the result beside a trajectory says. `missing` says which file it would have stood in."""

    rewards: Mapping[str, Any] = {}
    failure: Failure | None = None
    task: str | None = None
    name: str | None = None
    missing: str = ""
    metadata: Mapping[str, Any] = {}


def failure_of(exception: str) -> Failure:
    """Why a trial ended that raised an exception of this name."""
    return OF_THE_AGENT.get(exception, "infrastructure")


def _trial(path: Path | None, where: str) -> _Trial:
    if path is None:
        return _Trial()
    folders = path.parents[:ABOVE]
    for folder in folders:
        value = _read(folder / RESULT, where)
        if value is not None and any(key in value for key in OF_A_TRIAL):
            return _told(value, path, folder / RESULT)
    wanted = path.parent.parent if path.parent.name == "agent" else path.parent
    return _Trial(missing=f"There is no {wanted / RESULT}, in which Harbor says the reward.")


def _read(path: Path, where: str) -> dict[str, Any] | None:
    """The object of a file; None where there is none. Raises BadRow for one that cannot be read."""
    try:
        if not archives.is_file(path):
            return None
        with archives.opened(path) as file:
            value = json_in(file.read().decode())
    except (*archives.UNREADABLE, UnicodeDecodeError) as error:
        raise BadRow(where, "broken_file", f"{path}, with the trial's reward, cannot be read: {error}.") from None
    if not isinstance(value, dict):
        raise BadRow(where, "broken_file", f"{path}, with the trial's reward, is no JSON object.")
    return value


def _told(value: Mapping[str, Any], path: Path, result: Path) -> _Trial:
    steps = value.get("step_results")
    of_step: Mapping[str, Any] = {}  # a trial of several steps verifies each: steps/NAME/agent/trajectory.json
    for step in steps if isinstance(steps, list) else ():
        if isinstance(step, Mapping) and step.get("step_name") in path.parts[-4:]:
            of_step = step
    verified = of_step.get("verifier_result") if of_step else value.get("verifier_result")
    given = verified.get("rewards") if isinstance(verified, Mapping) else None
    rewards = {name: reward for name, reward in given.items() if reward is not None} if isinstance(given, dict) else {}
    raised = of_step.get("exception_info") or value.get("exception_info")
    exception = raised.get("exception_type") if isinstance(raised, Mapping) else raised
    name = str(exception).rpartition(".")[2] if exception else None
    trial, task = value.get("trial_name"), value.get("task_name")
    noted = {"rewards": rewards or None, "exception": name, "trial_name": trial}
    return _Trial(
        rewards,
        None if name is None else failure_of(name),
        task if isinstance(task, str) and task else None,
        trial if isinstance(trial, str) and trial else None,
        f"{result} holds no single reward: its verifier_result is {json.dumps(verified, ensure_ascii=False):.200}.",
        {key: told for key, told in noted.items() if told is not None},
    )
