"""Generated and mutated trajectory files for every reader: nothing may raise, hang, or cost a good row.

    python experiments/benchmarks/fuzz_readers.py --inputs 20000

writes into results.json and exits with 1 if anything was found. Input number i of a target depends on the
seed and on i only (and on whether the real files are there, whose records are mutated too), so that
`--only chat --first 4711 --inputs 1` shows one input again. A file holds good rows around a bad one, or is damaged as a
whole. What is judged: nothing is raised but RequestError, and that only for a file that cannot be read at all; no call
takes more than a second; every good row beside a bad one is read, exactly; what is read can be labelled, written in our
format and read back equal.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from itertools import count
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, NamedTuple, get_args

import pyarrow
from fuzz import Case, Target, command, mutated, noise, plain_text, run, solution, turn, versions

from nat.agents.scoring import exact_match_score
from nat.core.rows.bad import BadReason, BadRow
from nat.trajectories.config import JoinedTrajectoryFiles
from nat.trajectories.detection import FORMATS, detect, reader
from nat.trajectories.formats import (
    alpaca,
    api_log,
    atif,
    chat,
    claude_code,
    gsm8k_solutions,
    harbor,
    inspect_logs,
    langfuse,
    lm_eval,
    mapped,
    mini_swe_agent,
    nat_paper,
    native,
    openhands,
    preferences,
    react,
    responses,
    sharegpt,
    spans,
    steps,
    swe_agent,
    tau_bench,
    toolbench,
    tora,
    trl,
    verifiers,
)
from nat.trajectories.formats.inline import taken_apart
from nat.trajectories.formats.tool_calls import as_react_text
from nat.trajectories.label_files import in_words, read_labels
from nat.trajectories.labels import parse_rule, relabel
from nat.trajectories.mapping import MappingFile, finder
from nat.trajectories.reading import read_rows
from nat.types import Failure, Message, Question, RequestError, Role, Trajectory

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
REAL = 40  # records taken from a real file
DEEP = "@deep@"  # stands for lists within lists, which no encoder would write
PLACES = {"before": 0, "between": 1, "after": 2}  # where the bad row stands beside two good ones


class Format(NamedTuple):
    reader: ModuleType
    good: Callable[[Random, str], dict[str, Any]]  # a record that must be read, with its id
    real: Callable[[], list[dict[str, Any]]]
    options: Mapping[str, Any] = {}


class Read(NamedTuple):
    trajectories: list[Trajectory]
    bad: list[BadRow]
    refused: RequestError | None  # the file as a whole


# ---- records ----


def episode(random: Random, user: str, agent: str, seen: str) -> list[tuple[str, str]]:
    """(role, text) of a question and an agent's turns, under the names of a format's roles."""
    messages = [(user, f"Question: {plain_text(random)}?")]
    for _ in range(random.randint(0, 3)):
        messages += [(agent, turn(random)), (seen, f"Observation: {plain_text(random)}")]
    return [*messages, (agent, solution(random))]


def label(random: Random) -> dict[str, Any]:
    value = random.choice((True, False, 0, 1, 0.5, 1.0))
    field = {random.choice(("reward", "success", "is_correct", "score", "em")): value}
    return random.choice((field, {"info": field}, {"metadata": field}))


def good_native(random: Random, id: str) -> dict[str, Any]:
    turns = episode(random, "user", "assistant", "tool")[1:]
    success = random.random() < 0.5
    return {
        "id": id,
        "question": f"Why {plain_text(random)}?",
        "messages": [{"role": role, "content": text} for role, text in turns],
        "outcome": {"success": success, "score": random.random(), "prediction": "7", "reference": random.choice("78")},
        "metadata": {"temperature": 0.7},
    }


def good_messages(random: Random, id: str, key: str, seen: str = "user") -> dict[str, Any]:
    turns = episode(random, "user", "assistant", seen)
    return {"id": id, key: [{"role": role, "content": text} for role, text in turns], **label(random)}


def good_react(random: Random, id: str) -> dict[str, Any]:
    if random.random() < 0.7:
        return good_messages(random, id, random.choice(("traj", "messages")))
    text = f"Question: {plain_text(random)}?\nThought: a\nAction: search[b]\nObservation: c\nAction: finish[d]\n"
    return {"id": id, "traj": text, **label(random)}


def good_nat(random: Random, id: str) -> dict[str, Any]:
    return {"source": "0.7", **good_messages(random, id, "conversations")}


def good_sharegpt(random: Random, id: str) -> dict[str, Any]:
    turns = episode(random, "human", "gpt", random.choice(("human", "observation")))
    if random.random() < 0.3:
        turns.insert(1, ("function_call", json.dumps({"name": "search", "arguments": {"q": plain_text(random)}})))
    return {"id": id, "conversations": [{"from": role, "value": text} for role, text in turns], **label(random)}


def good_chat(random: Random, id: str) -> dict[str, Any]:
    record = good_messages(random, id, "messages", seen="tool")
    function = {"name": "search", "arguments": random.choice(('{"q": "a"}', "{}", "", {"q": None, "n": 1}))}
    calling = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": function}]}
    record["messages"].insert(random.randint(1, len(record["messages"])), calling)
    return record


def good_alpaca(random: Random, id: str) -> dict[str, Any]:
    text = (
        solution(random) if random.random() < 0.5 else f"{turn(random)}\nObservation: {plain_text(random)}\nAction: a"
    )
    return {"id": id, "instruction": f"Why {plain_text(random)}?", "input": "", "output": text, **label(random)}


def good_solutions(random: Random, id: str) -> dict[str, Any]:
    text = f"{plain_text(random)} 48/2 = <<48/2=24>>24 {plain_text(random)}\nA: 24"
    models = {name: {"is_correct": random.random() < 0.5, "solution": text} for name in ("small", "large")}
    return {"question": f"{id}?", "ground_truth": "48/2 = 24\nA: 24", **models}


def good_responses(random: Random, id: str) -> dict[str, Any]:
    asked = f"Why {plain_text(random)}?"
    items: list[dict[str, Any]] = [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}]}]
    for n in range(random.randint(0, 2)):
        call = random.choice(("function_call", "custom_tool_call"))
        given = {"arguments" if call == "function_call" else "input": plain_text(random)}
        items += [
            {"type": call, "call_id": str(n), "name": "search", **given},
            {"type": f"{call}_output", "call_id": str(n), "output": plain_text(random)},
        ]
    said = {"type": "output_text", "text": f"I. {solution(random)}"}
    items.append({"type": "message", "role": "assistant", "content": [said]})
    given = random.choice((asked, [{"role": "user", "content": asked}]))
    if random.random() < 0.7:
        params = {"responses_create_params": {"input": given, "instructions": "Be good."}}
        return {**params, "response": {"object": "response", "output": items}, "reward": 1.0, "id": id}
    return {"id": id, "object": "response", "input": given, "output": items, **label(random)}


def good_atif(random: Random, id: str) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"step_id": 1, "source": "user", "message": f"Why {plain_text(random)}?"}]
    for n in range(random.randint(0, 2)):
        call = {"tool_call_id": str(n), "function_name": "search", "arguments": {"q": plain_text(random)}}
        seen = {"results": [{"source_call_id": str(n), "content": plain_text(random)}]}
        said = {"message": turn(random), "reasoning_content": "a", "tool_calls": [call], "observation": seen}
        steps.append({"step_id": n + 2, "source": "agent", **said})
    steps.append({"step_id": 9, "source": "agent", "message": solution(random), "is_copied_context": None})
    agent = {"name": "a", "version": "1", "tool_definitions": [{"type": "function", "function": {"name": "search"}}]}
    return {"schema_version": "ATIF-v1.6", "session_id": id, "agent": agent, "steps": steps, **label(random)}


def good_harbor(random: Random, id: str) -> dict[str, Any]:
    row = good_messages(random, id, "conversations")
    trial = {"trial_name": id, "run_id": "r", "episode": "episode-0", "task": "a", "agent": "b"}
    return {
        "conversations": row["conversations"],
        **trial,
        "result": random.choice(("1.0", "0.0", "AgentTimeoutError")),
    }


def good_api_log(random: Random, id: str) -> dict[str, Any]:
    request: dict[str, Any] = {"messages": [{"role": "user", "content": f"Why {plain_text(random)}?"}], "tools": []}
    blocks = [
        {"type": "text", "text": turn(random)},
        {"type": "tool_use", "id": "1", "name": "a", "input": {"q": plain_text(random)}},
    ]
    message = {"role": "assistant", "content": f"I. {solution(random)}"}
    came = random.choice(({"content": blocks, "stop_reason": "tool_use"}, {"choices": [{"message": message}]}))
    return {"id": id, "request": request, "response": came, **label(random)}


def good_spans(random: Random, id: str) -> dict[str, Any]:
    asked, said = f"Why {plain_text(random)}?", f"I. {solution(random)}"
    of_parts = [
        [{"role": role, "parts": [{"type": "text", "content": text}]}]
        for role, text in (("user", asked), ("assistant", said))
    ]
    of_parts[1][0]["parts"].append({"type": "tool_call", "id": "1", "name": "a", "arguments": {"q": "b"}})
    ways: tuple[dict[str, Any], ...] = (
        {f"gen_ai.{side}.messages": json.dumps(m) for side, m in zip(("input", "output"), of_parts, strict=True)},
        {"gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": asked, "gen_ai.completion.0.content": said},
        {"llm": {f"{side}_messages": [{"message.content": t}] for side, t in (("input", asked), ("output", said))}},
    )
    attributes = {**random.choice(ways), **random.choice(({"success": True}, {"gen_ai.evaluation.score.value": 0.5}))}
    span = {"trace_id": id, "span_id": "1", "parent_id": None, "name": "chat", "start_time": 1}
    if "llm" in attributes or random.random() < 0.5:
        return {**span, "attributes": attributes}
    listed = [
        {"key": key, "value": {"doubleValue" if isinstance(value, float) else "boolValue" if value is True else
            "stringValue": value}} for key, value in attributes.items()
    ]  # fmt: skip
    spans = [{"traceId": id, "spanId": "1", "startTimeUnixNano": "12", "attributes": listed}]
    return {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}


def good_langfuse(random: Random, id: str) -> dict[str, Any]:
    sent = [{"role": "user", "content": f"Why {plain_text(random)}?"}]
    sent = random.choice((sent, {"messages": sent, "tools": []}, json.dumps(sent)))
    said = f"I. {solution(random)}"
    came = random.choice((said, {"role": "assistant", "content": said}))
    call = {"id": "1", "type": "GENERATION", "startTime": "2025", "input": sent, "output": came}
    if random.random() < 0.3:
        return {**call, "traceId": id, "metadata": {"reward": random.choice((0, 1))}}
    scores = [{"name": "correct", "value": random.choice((0, 1)), "dataType": "BOOLEAN"}]
    return {"id": id, "input": "a", "output": "b", "observations": [call], "scores": scores}


def coding_turns(random: Random, agent: str, text: str) -> list[dict[str, Any]]:
    """A question, and an agent's turns that write commands."""
    turns = episode(random, "user", agent, "user")
    return [{"role": role, text: said} for role, said in turns]


def good_swe_agent(random: Random, id: str) -> dict[str, Any]:
    status = random.choice(("submitted", "exit_cost", "submitted (exit_context)", "exit_format"))
    row = {"id": id, "instance_id": f"a__{id}", "exit_status": status}
    kind = random.randrange(3)
    if kind == 0:
        messages = json.dumps(coding_turns(random, "assistant", "content"))
        return {**row, "traj_id": f"{id}.x", "resolved": random.random() < 0.5, "messages": messages}
    if kind == 1:
        system = {"role": "system", "system_prompt": "S", "text": None, "mask": False}
        trajectory = [system, *coding_turns(random, "ai", "text")]
        return {**row, "target": random.random() < 0.5, "generated_patch": "d", "trajectory": trajectory}
    demo = {"role": "user", "content": "A demonstration.", "is_demo": True}
    steps = [{"action": "ls", "observation": "a.py", "response": "ls", "thought": "", "state": "{}"}]
    history = [demo, *coding_turns(random, "assistant", "content")]
    info = {"exit_status": status, "resolved": random.random() < 0.5}
    return {"id": id, "environment": "main", "trajectory": steps, "history": history, "info": info}


def good_mini_swe_agent(random: Random, id: str) -> dict[str, Any]:
    messages = coding_turns(random, "assistant", "content")
    function = {"name": "bash", "arguments": '{"command": "ls"}'}
    calling = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": function}]}
    item = {"type": "function_call", "call_id": "1", **function}
    answer = {"object": "response", "output": [item], "extra": {}}
    seen = {"type": "function_call_output", "call_id": "1", "output": "a.py"}
    result = {"role": "tool", "tool_call_id": "1", "content": "a.py"}
    messages += random.choice(([], [calling, result], [answer, seen]))
    info = {"exit_status": "Submitted", "submission": "d", "resolved": random.random() < 0.5}
    messages += random.choice(([], [{"role": "exit", "content": "d", "extra": {"exit_status": "Submitted"}}]))
    return {"id": id, "info": info, "messages": messages, "trajectory_format": "mini-swe-agent-1"}


def good_openhands(random: Random, id: str) -> dict[str, Any]:
    (_, asked), *turns = episode(random, "user", "assistant", "tool")
    row = {"id": id, "instance_id": f"a__{id}", "report": {"resolved": random.random() < 0.5}, "error": None}
    kind = random.randrange(3)
    if kind == 0:
        messages = [{"role": "user", "content": asked}, *({"role": role, "content": text} for role, text in turns)]
        return {**row, "trajectory_id": id, "trajectory": random.choice((messages, json.dumps(messages)))}
    told: list[dict[str, Any]] = []
    for number, (role, text) in enumerate(turns):
        if kind == 1 and role == "assistant":
            told.append({"source": "agent", "action": "run", "args": {"command": text, "thought": "a"}})
        elif kind == 1:
            told.append({"source": "agent", "observation": "run", "content": text, "cause": number})
        elif role == "assistant":
            call = {"id": f"c{number}", "name": "terminal", "arguments": json.dumps({"command": text})}
            thought = [{"type": "text", "text": "a"}]
            told.append({"kind": "ActionEvent", "source": "agent", "thought": thought, "tool_call": call})
        else:
            told.append({"kind": "ObservationEvent", "source": "environment", "observation": {"content": text}})
    question = {"source": "user", "action": "message", "args": {"content": asked}}
    said = {"kind": "MessageEvent", "source": "user", "llm_message": {"role": "user", "content": asked}}
    return {**row, "instruction": asked, "test_result": {}, "history": [question if kind == 1 else said, *told]}


def good_claude_code(random: Random, id: str) -> dict[str, Any]:
    turns = episode(random, "user", "assistant", "user")
    records: list[dict[str, Any]] = [{"type": "summary", "summary": "a", "leafUuid": "u0"}]
    for number, (role, text) in enumerate(turns):
        message = {"role": role, "content": [{"type": "text", "text": text}] if role == "assistant" else text}
        place = {"uuid": f"u{number}", "parentUuid": f"u{number - 1}" if number else None}
        records.append({"type": role, "sessionId": id, **place, "message": message})
    return {"sessionId": id, **label(random), "records": records}


def good_inspect(random: Random, id: str) -> dict[str, Any]:
    call = {"id": "c1", "function": "search", "arguments": random.choice(({"q": plain_text(random)}, {}))}
    score = random.choice(({"value": random.choice("CIPN"), "answer": "7"}, {"value": random.choice((0, 0.5, 1))}))
    answer = random.choice((solution(random), [{"type": "reasoning", "reasoning": "a"}, {"type": "text", "text": "b"}]))
    messages = [
        {"role": "user", "content": "attachment://" + "0" * 32, "source": "input"},
        {"role": "assistant", "content": "", "source": "generate", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": plain_text(random)},
        {"role": "assistant", "content": answer, "source": "generate"},
    ]
    return {
        "id": id,
        "epoch": 1,
        "input": f"Why {plain_text(random)}?",
        "target": random.choice(("7", ["7", "8"])),
        "messages": messages,
        "scores": {"match": score},
        "attachments": {"0" * 32: f"Why {plain_text(random)}?"},
    }


def good_tau_bench(random: Random, id: str) -> dict[str, Any]:
    reward = random.choice((0.0, 1.0))
    turns = [("user", f"Cancel {plain_text(random)}."), ("assistant", solution(random)), ("user", "###STOP###")]
    messages: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in turns]
    call = {"id": "c1", "name": "cancel", "arguments": {"q": plain_text(random)}}
    calling = {"role": "assistant", "content": None, "tool_calls": [call]}
    messages[1:1] = [calling, {"role": "tool", "id": "c1", "tool_call_id": "c1", "content": "done"}]
    if random.random() < 0.5:
        of_task = {"task": {"user_id": "ann"}}
        return {"id": id, "task_id": 7, "trial": 0, "reward": reward, "info": of_task, "traj": messages}
    messages.insert(0, {"role": "assistant", "content": "Hi!"})
    messages.insert(3, {"role": "user", "content": None, "tool_calls": [{**call, "requestor": "user"}]})
    end = {"termination_reason": random.choice(("user_stop", "max_steps")), "reward_info": {"reward": reward}}
    return {"id": id, "task_id": "7", "trial": 0, **end, "messages": messages}


def good_lm_eval(random: Random, id: str) -> dict[str, Any]:
    prompt = f"Why {plain_text(random)}?"
    given = random.choice((prompt, json.dumps([{"role": "user", "content": prompt}])))
    request = random.choice(([[given, {"until": []}]], {"gen_args_0": {"arg_0": given, "arg_1": {}}}))
    answer = solution(random)
    scored = {"filter": "none", "metrics": ["exact_match"], "exact_match": random.choice((0.0, 1.0))}
    resps = {"resps": [[answer]], "filtered_resps": [answer]}
    return {"doc_id": id, "doc": {"question": prompt}, "target": "7", "arguments": request, **resps, **scored}


def good_trl(random: Random, id: str) -> dict[str, Any]:
    (role, asked), *turns = episode(random, "user", "assistant", random.choice(("user", "tool")))
    completion = [{"role": role, "content": text} for role, text in turns]
    messages = [{"role": role, "content": asked}]
    alone = {"completion": [*messages, *completion], "label": random.random() < 0.5}
    completion[0]["content"] += "."  # a completion that says nothing is a bad row
    texts = {"prompt": asked, "completion": f"{turns[0][1]}."}
    both = {"prompt": messages, "completion": completion}
    return {"id": id, **random.choice((alone, {**texts, **label(random)}, {**both, **label(random)}))}


def good_pair(random: Random, id: str) -> dict[str, Any]:
    asked, answers = f"Why {plain_text(random)}?", [f"a {plain_text(random)}", f"b {solution(random)}"]
    user = {"role": "user", "content": asked}
    turns = [{"role": "assistant", "content": answer} for answer in answers]
    chosen, rejected = random.choice((answers, turns, [[turn] for turn in turns]))
    human = {"conversations": [{"from": "human", "value": asked}]}
    prompt = random.choice(({"prompt": asked}, {"prompt": [user]}, {"question": asked}, {"instruction": asked}, human))
    if random.random() < 0.3:
        prompt, chosen, rejected = {}, [user, turns[0]], [user, turns[1]]
    return {"id": id, **prompt, "chosen": chosen, "rejected": rejected, "score_chosen": random.random()}


def good_verifiers(random: Random, id: str) -> dict[str, Any]:
    (role, asked), *turns = episode(random, "user", "assistant", "user")
    first = {"role": role, "content": asked}
    following = [{"role": role, "content": text} for role, text in turns]
    call = {"id": "1", "name": "search", "arguments": '{"q": "a"}'}
    result = [{"role": "assistant", "content": "", "tool_calls": [json.dumps(call)]}, {"role": "tool", "content": "b"}]
    reward = random.choice((0.0, 0.5, 1.0, 1))
    if random.random() < 0.5:
        told = {"example_id": id, "reward": reward, "task": "sums", "answer": "7", "metrics": {}}
        return {"id": id, **told, "prompt": [first], "completion": [*result, *following]}
    messages = [first, *following]
    nodes = [
        {"parent": i - 1 if i else None, "message": message, "sampled": message["role"] == "assistant"}
        for i, message in enumerate(messages)
    ]
    trace = {"id": id, "task": {"key": id}, "rewards": {"a": {"score": reward, "weight": 1.0}}, "nodes": nodes}
    return random.choice((trace, {"id": id, "task": {"key": id}, "traces": [trace], "errors": []}))


def good_steps(random: Random, id: str) -> dict[str, Any]:
    def action() -> Any:
        name, input = random.choice(("tool", "name", "tool_name")), random.choice(("tool_input", "args"))
        return random.choice(("search[a]", {name: "search", input: {"q": "a"}}, {"type": "click", "at": 3}))

    seen = random.choice(("observation", "observations", "result"))
    done: list[Any] = [
        {"thought": plain_text(random), "action": action(), seen: plain_text(random)}
        for _ in range(random.randint(1, 3))
    ]
    key = random.choice(("steps", "trajectory"))
    if random.random() < 0.2:
        key = "intermediate_steps"
        done = [[{"tool": "search", "tool_input": "a", "log": "Thought: b\nAction: search"}, plain_text(random)]]
    return {"id": id, "question": f"Why {plain_text(random)}?", key: done, **label(random)}


def good_toolbench(random: Random, id: str) -> dict[str, Any]:
    call = {"name": "search", "arguments": '{"q": "a"}'}
    path = [
        {"role": "user", "content": f"Why {plain_text(random)}?"},
        {"role": "assistant", "content": random.choice((None, plain_text(random))), "function_call": call},
        {"role": "function", "name": "search", "content": plain_text(random)},
    ]
    leaf = {"node_type": "Action Input", "description": '{"q": "a"}', "observation": plain_text(random), "children": []}
    node = {"node_type": "Action", "description": "search", "children": [leaf]}
    made = {"query": f"Why {plain_text(random)}?", "function": [{"name": "search"}], "final_answer": "7"}
    if random.random() < 0.7:
        made["train_messages"] = [path[:2], path]
    return {"id": id, "win": random.random() < 0.5, "tree": {"tree": {"children": [node]}}, "answer_generation": made}


def good_tora(random: Random, id: str) -> dict[str, Any]:
    codes = [f"```python\nprint(7)\n```\n```output\n7\n```\n{plain_text(random)}"] * random.randint(1, 3)
    scores = {"score": [random.random() < 0.5 for _ in codes]} if random.random() < 0.5 else {}
    answers = [random.choice(("7", "8", "7.0")) for _ in codes]
    return {"id": id, "question": f"Why {plain_text(random)}?", "gt": "7", "code": codes, "pred": answers, **scores}


MAPPING = MappingFile(
    turns="log", role="who", content="said", reasoning="thinks", calls="does", name="op", arguments="with",
    observation="sees", label="result.solved", task="case", tools="tools", roles={"caller": "user", "bot": "assistant"},
)  # fmt: skip
MAPPED = ModuleType("mapped")
MAPPED.__dict__["NAME"] = "mapped"
MAPPED.__dict__["conversations"] = partial(mapped.conversations, finder(MAPPING), False)


def good_mapped(random: Random, id: str) -> dict[str, Any]:
    call = {"op": "search", "with": {"q": plain_text(random)}}
    turns = [
        {"who": "caller", "said": f"Why {plain_text(random)}?"},
        {"who": "bot", "said": turn(random), "does": [call], "sees": plain_text(random), "thinks": plain_text(random)},
        {"who": "bot", "said": solution(random)},
    ]
    return {"id": id, "case": f"case {id}", "log": turns, "result": {"solved": random.random() < 0.5}}


@cache
def real(name: str, limit: int = REAL) -> list[dict[str, Any]]:
    path = DATA / name
    if not path.is_file():
        return []
    if name.endswith(".jsonl"):
        with path.open(encoding="utf-8") as file:
            return [json.loads(line) for line, _ in zip(file, range(limit), strict=False)]
    value = json.loads(path.read_text(encoding="utf-8"))
    return list(value.values() if isinstance(value, dict) else value)[:limit]


@cache
def real_object(name: str) -> list[dict[str, Any]]:
    """The one record of a file, cut: a long one takes most of the time."""
    path = DATA / name
    if not path.is_file():
        return []
    value = json.loads(path.read_text(encoding="utf-8"))
    cut = {key: member[:6] if isinstance(member, list) else member for key, member in value.items()}
    return [cut]


def real_react() -> list[dict[str, Any]]:
    names = ("react_gpt-3.5_messages.json", "react_llama-2-7b_text.json", "react_gpt-4_positives.jsonl")
    return [record for name in names for record in real(f"hotpotqa/{name}")]


def real_nat() -> list[dict[str, Any]]:
    return [record for name in ("positive", "negative") for record in real(f"strategyqa/sample_{name}.json", 60)]


def real_messages() -> list[dict[str, Any]]:
    return real("hotpotqa/react_gpt-4_positives.jsonl")


def real_sharegpt() -> list[dict[str, Any]]:
    names = {"user": "human", "assistant": "gpt"}
    return [
        {"conversations": [{"from": names[m["role"]], "value": m["content"]} for m in record["messages"]]}
        for record in real_messages()
    ]


def real_alpaca() -> list[dict[str, Any]]:
    records = real("hotpotqa/react_llama-2-7b_text.json")
    parts = [record["traj"].partition("### Response:\n") for record in records]
    return [
        {"instruction": head, "input": "", "output": body, "reward": record["reward"]}
        for record, (head, _, body) in zip(records, parts, strict=True)
    ]


def real_trl() -> list[dict[str, Any]]:
    records = real("agents/llama_factory_kto.json")
    return [
        {"prompt": record["messages"][:1], "completion": record["messages"][1:], "label": record["label"]}
        for record in records
    ]


def real_atif() -> list[dict[str, Any]]:
    files = [DATA / "agents" / f"atif_{name}.trajectory.json" for name in ("summarization", "timeout")]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]


QUESTIONS = {f"good-{n}": Question(f"good-{n}", "Question: who?", "yes") for n in range(3)}
READERS: Mapping[str, Format] = {
    "jsonl": Format(native, good_native, list),
    "nat": Format(nat_paper, good_nat, real_nat),
    "nat_joined": Format(nat_paper, good_nat, real_nat, {"questions": QUESTIONS}),
    "react": Format(react, good_react, real_react),
    "gsm8k_solutions": Format(gsm8k_solutions, good_solutions, lambda: real("gsm8k/example_model_solutions.jsonl")),
    "sharegpt": Format(sharegpt, good_sharegpt, real_sharegpt),
    "chat": Format(chat, good_chat, real_messages),
    "alpaca": Format(alpaca, good_alpaca, real_alpaca),
    "responses": Format(responses, good_responses, lambda: real("agents/nemo_gym_tau2.jsonl")),
    "atif": Format(atif, good_atif, real_atif),
    "harbor": Format(harbor, good_harbor, list),
    "api_log": Format(api_log, good_api_log, list),
    "spans": Format(spans, good_spans, list),
    "langfuse": Format(langfuse, good_langfuse, list),
    "swe_agent": Format(swe_agent, good_swe_agent, lambda: real_object("agents/swe_agent_pydicom-1458.traj")),
    "mini_swe_agent": Format(
        mini_swe_agent, good_mini_swe_agent, lambda: real_object("agents/mini_swe_agent_astropy-7606.traj.json")
    ),
    "openhands": Format(openhands, good_openhands, list),
    "claude_code": Format(claude_code, good_claude_code, list),
    "inspect": Format(inspect_logs, good_inspect, list),
    "tau_bench": Format(tau_bench, good_tau_bench, lambda: real("agents/tau_bench_airline.json")),
    "lm_eval": Format(lm_eval, good_lm_eval, list),
    "trl": Format(trl, good_trl, real_trl),
    "preferences": Format(preferences, good_pair, list),
    "verifiers": Format(verifiers, good_verifiers, list),
    "steps": Format(steps, good_steps, list),
    "toolbench": Format(toolbench, good_toolbench, list),
    "tora": Format(tora, good_tora, list),
    "mapped": Format(MAPPED, good_mapped, list),
}


# ---- damage ----

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 7, 0.5, 1e308, float("nan"), float("inf"), 10**400, "", "\x00", "\ud800", "\U0001f642",
    "a" * 5000, [], {}, [[]], [None], {"a": None}, DEEP, "Observation: Episode finished, reward = True", "system",
    "tool", "function", "narrator", "true", "NaN", {"role": "assistant", "content": "a"}, {"from": "gpt", "value": "a"},
)  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything inside a value."""
    for key, member in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(member, dict | list):
            yield from places(member)


def swapped(random: Random, record: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which some values have another type, are gone, stand twice, or are under another name."""
    changed = json.loads(json.dumps(record))
    for _ in range(random.choice((0, 1, 1, 1, 2, 4))):
        container, key = random.choice(list(places(changed)) or [(changed, "a")])
        accident = random.randrange(6)
        value = container.get(key) if isinstance(container, dict) else container[key]
        if accident < 3:
            container[key] = json.loads(json.dumps(random.choice(ODD_VALUES)))
        elif accident == 3:
            del container[key]
        elif isinstance(container, list):
            container.insert(random.randint(0, len(container)), json.loads(json.dumps(value)))
        elif accident == 4:
            name = (
                "id",
                "role",
                "content",
                "messages",
                "traj",
                "outcome",
                "info",
                "metadata",
                "unlabelled",
                key.upper(),
            )
            container[random.choice(name)] = json.loads(json.dumps(value))
        elif isinstance(value, str):
            container[key] = mutated(random, value)
        if not changed:
            break
    return changed


def encoded(random: Random, value: Any, indent: int | None = None) -> bytes:
    text = json.dumps(value, indent=indent, ensure_ascii=random.random() < 0.5)
    depth = random.choice((3, 40, 90, 400, 990, 1010, 5000, 100_000)) if f'"{DEEP}"' in text else 0
    opened, closed = random.choice((("[", "]"), ('{"a":', "}")))
    text = text.replace(f'"{DEEP}"', opened * depth + ("1" if opened != "[" else "") + closed * depth)
    return text.encode(errors="surrogatepass")  # a half of a pair that is not escaped is no UTF-8


def bad_row(random: Random, record: Mapping[str, Any]) -> bytes:
    """One line: a mutated record, or what some accidents leave of its text."""
    if random.random() < 0.6:
        return encoded(random, swapped(random, record))
    text = json.dumps(record, ensure_ascii=random.random() < 0.5)
    kind = random.randrange(6)
    if kind == 0:
        return text.encode()[: random.randint(0, len(text))]
    if kind == 1:
        return noise(random).encode(errors="replace").replace(b"\n", b" ")
    if kind == 2:
        data, place = bytearray(text.encode()), random.randint(0, len(text) - 1)
        data[place : place + 2] = random.randbytes(2)
        return bytes(data).replace(b"\n", b" ")
    if kind == 3:
        return random.choice(
            (b"", b"7", b"null", b"[]", b"{}", b'"a"', b"NaN", b"{", b"[", b"\xff\xfe{", b"\xef\xbb\xbf{}")
        )
    return mutated(random, text).encode(errors="replace").replace(b"\n", b" ")


# ---- reading ----


@cache
def folder() -> Path:
    memory = Path("/dev/shm")  # on a disk, making files takes most of the time
    return Path(tempfile.mkdtemp(prefix="fuzz_readers_", dir=memory if memory.is_dir() else None))


def read(format: Format, content: bytes, needs_label: bool) -> Read:
    path = folder() / f"mine-{os.getpid()}.jsonl"
    path.write_bytes(content)
    trajectories: list[Trajectory] = []
    bad: list[BadRow] = []
    try:
        for _, trajectory in reader(format.reader)(path, "", bad.append, needs_label=needs_label, **format.options):
            trajectories.append(trajectory)
    except RequestError as refused:
        return Read(trajectories, bad, refused)
    return Read(trajectories, bad, None)


def check(format: Format, found: Read, needs_label: bool) -> None:
    """What must hold of all that was read, and of all that was refused."""
    for bad in found.bad:
        assert bad.reason in get_args(BadReason), bad.reason
        assert bad.where and bad.problem and len(str(bad)) < 3000, str(bad)[:100]
        if bad.reason == "no_label" and (
            offered := re.search(r"Say where, e\.g\. trajectories\.label='(.*?)'\.", str(bad))
        ):
            parse_rule(offered[1])
    if found.refused is not None:
        assert not isinstance(found.refused, BadRow), f"a bad row stopped the file: {found.refused}"
        assert len(str(found.refused)) < 3000
    for trajectory in found.trajectories:
        assert trajectory.question.strip(), "no question"
        assert any(m.role == "assistant" for m in trajectory.messages) or format.reader is native
        assert all(m.role in get_args(Role) and isinstance(m.content, str) for m in trajectory.messages)
        assert 0 <= trajectory.outcome.score <= 1
        assert trajectory.outcome.success == (trajectory.outcome.failure is None) or format.reader is native, "kind"
        assert trajectory.outcome.failure in (None, *get_args(Failure))
        assert needs_label <= ("unlabelled" not in trajectory.metadata) or format.reader is native, "no label"
        assert not any(m.tool_calls for m in as_react_text(trajectory.messages) if m.role == "assistant")
        for rule in (None, "rescore", "info.reward", "score >= 0.5"):
            try:
                relabel(trajectory, rule, exact_match_score, "a:1")
            except BadRow as bad:
                assert bad.reason in ("no_label", "wrong_value"), bad
    written = folder() / f"back-{os.getpid()}.jsonl"
    native.write(written, found.trajectories)
    back = [trajectory for _, trajectory in native.read(written, needs_label=needs_label)]
    if format.reader is not native:  # a record of our own may be written differently: a preamble counts only once
        assert back == found.trajectories, "written and read back, it is another"


def draw(random: Random, format: Format) -> Case:
    """Good rows around a bad one, or a damaged file."""
    goods = [format.good(random, f"good-{n}") for n in range(2)]
    pool = format.real()
    record = random.choice(pool) if pool and random.random() < 0.4 else format.good(random, "good-2")
    needs_label = random.random() < 0.7
    kind = random.random()
    if kind < 0.15:
        return damaged(random, format, goods, needs_label)
    as_lines = kind < 0.75
    where = random.choice(tuple(PLACES)) if as_lines else "between"
    row = bad_row(random, record) if as_lines else encoded(random, swapped(random, record), indent=1)
    rows = [encoded(random, good) for good in goods]
    rows.insert(PLACES[where], row)
    content = b"\n".join(rows) + b"\n" if as_lines else b"[\n" + b",\n".join(rows) + b"\n]\n"
    expected = [read_alone(format, encoded(random, good) + b"\n", needs_label) for good in goods]

    def judge(found: Read) -> str:
        check(format, found, needs_label)
        if where == "before" and is_another_file(row):
            return "another kind of file"
        assert found.refused is None, f"refused: {found.refused}"
        kept = [t.messages for t in found.trajectories]
        # In a list, nobody knows where a record ends that is nested too deeply to be parsed.
        is_cut = not as_lines and any("nested too deeply" in bad.problem for bad in found.bad)
        for good in expected[:1] if is_cut else expected:
            assert all(messages in kept for messages in good), f"a good row was lost; bad are {found.bad[:3]}"
        n = sum(map(len, expected))
        return f"{where}: " + ("bad" if found.bad else "read" if len(kept) > n else "nothing")

    return Case(content, lambda: read(format, content, needs_label), judge)


def is_another_file(first_row: bytes) -> bool:
    """Whether a file that begins so is rightly taken for something else than lines of JSON."""
    first = first_row.removeprefix(b"\xef\xbb\xbf").strip()
    return first.startswith((b"[", b"\xff\xfe", b"\x00")) or first.endswith((b"{", b"[", b":"))


def read_alone(format: Format, content: bytes, needs_label: bool) -> list[Any]:
    found = read(format, content, needs_label)
    assert found.trajectories, f"a good row is none: {found.bad} {found.refused}"
    return [trajectory.messages for trajectory in found.trajectories]


def damaged(random: Random, format: Format, goods: list[dict[str, Any]], needs_label: bool) -> Case:
    """A file that ends too early, or is damaged somewhere: what stands before the damage is read."""
    shape = random.choice(("lines", "list", "object", "gzip"))
    rows = [encoded(random, good) for good in goods]
    if shape == "object":
        content = json.dumps(
            {f"good-{n}": good for n, good in enumerate(goods)}, indent=random.choice((None, 1))
        ).encode()
    else:
        content = b"[" + b",\n".join(rows) + b"]" if shape == "list" else b"\n".join(rows) + b"\n"
    first = len(rows[0])
    if shape == "gzip":
        content = gzip.compress(content, mtime=0)
    place = random.randint(0, len(content))
    accident = random.randrange(3)
    if accident == 0:
        content = content[:place]
    elif accident == 1:
        content = content[:place] + random.randbytes(random.randint(1, 8)) + content[place:]
    else:
        content = content[:place] + noise(random).encode(errors="replace")

    def judge(found: Read) -> str:
        check(format, found, needs_label)
        if shape in ("lines", "list") and place > first + 2 and b"\x00" not in content[place:]:
            assert found.trajectories, f"the row before the damage was lost: {found.bad} {found.refused}"
        return f"{shape}: {'refused' if found.refused else 'bad' if found.bad else 'read'}"

    return Case(content, lambda: read(format, content, needs_label), judge)


def draw_detection(random: Random) -> Case:
    """Which format a file is of: its own, or none, with a bad row in it; and none for what is nobody's."""
    name = random.choice([name for name in READERS if name not in ("nat_joined", "mapped")])
    format = READERS[name]
    rows = [encoded(random, format.good(random, f"good-{n}")) for n in range(3)]
    if name == "react":  # a short episode without observations is chat's as well
        rows = [encoded(random, {"id": n, "traj": "Question: a?\nThought: b\nAction: finish[c]"}) for n in range(3)]
    rows.insert(random.randint(1, 3), bad_row(random, format.good(random, "good-3")))
    content = b"\n".join(rows)
    path = folder() / f"detect-{os.getpid()}.jsonl"

    def call() -> str:
        path.write_bytes(content)
        return detect(path).name

    def judge(found: str) -> str:
        assert found == name or (name == "chat" and found == "react"), f"{name} was taken for {found}"
        return found

    return Case(content, call, judge)


def draw_recognition(random: Random) -> Case:
    """Any object is of one format at most."""
    format = random.choice(tuple(READERS.values()))
    pool = format.real()
    record = random.choice(pool) if pool and random.random() < 0.4 else format.good(random, "good-2")
    value = swapped(random, record)
    for other in random.sample(tuple(READERS.values()), random.randint(0, 1)):
        value |= swapped(random, other.good(random, "good-1"))

    def judge(found: list[str]) -> str:
        assert len(found) <= 1, found
        return found[0] if found else "none"

    return Case(value, lambda: [f.name for f in FORMATS if f.recognises(value)], judge)


# ---- containers ----

# Whose records stand alone; of `react` those without observations are chat's as well, so that most may be that.
CONTAINED = ("jsonl", "nat", "sharegpt", "chat", "alpaca", "trl", "preferences", "verifiers")
SHAPES = ("list", "by id", "container", "by id in a container", "splits", "objects", "lines")
PACKINGS = ("plain", "gzip", "zstd", "zip", "tar", "tar.gz", "tar.zst")


def contained(random: Random, rows: list[bytes], shape: str) -> bytes:
    """A file of these records, which are texts of JSON."""
    end = random.choice((b"", b"\n", b"\r\n"))
    between = random.choice((b",", b", ", b",\n", b",\n\n  ", b"\r\n,\t"))
    joined = between.join(rows)
    colon = random.choice((b":", b" : "))
    by_id = between.join(json.dumps(f"k{n}").encode() + colon + row for n, row in enumerate(rows))
    besides = (b'"version": 2, ', b'"info": {"n": 1},\n', b'"items": [1, 2],', b'"tasks": [{"id": "0"}], ', b"")
    beside = random.choice(besides)
    after = random.choice((b"", b', "end": 0', b', "metrics": {"a": null}'))
    key = random.choice((b"samples", b"simulations", b"rollouts", b"results", b"data", b"train"))
    match shape:
        case "list":
            return b"[" + random.choice((b"", b"\n", b"\n  ")) + joined + b"]" + end
        case "by id":
            return b"{" + by_id + b"}" + end
        case "container":
            return b"{" + beside + b'"' + key + b'": [' + joined + b"]" + after + b"}" + end
        case "by id in a container":
            return b"{" + beside + b'"' + key + b'": {' + by_id + b"}" + after + b"}" + end
        case "splits":
            place = random.randint(1, len(rows) - 1)
            first, second = between.join(rows[:place]), between.join(rows[place:])
            return b'{"train": [' + first + b'],\n"test": [' + second + b"]}" + end
        case "objects":
            return random.choice((b"\n", b"\n\n", b" \n")).join(rows) + end
        case _:
            return random.choice((b"\n", b"\r\n", b"\n\n")).join(rows) + end


def packed(random: Random, content: bytes, packing: str) -> bytes:
    """The file as its packing has it; an archive holds other things beside it."""
    others = random.choice(({}, {"README.md": b"# Runs"}, {"a/preds.json": b"{}"}, {".hidden.json": b"{"}))
    members = {random.choice(("rows.json", "a/b/rows.jsonl", "\u00e9.json")): content, **others}
    if packing == "gzip":
        return gzip.compress(content, mtime=0)
    if packing == "zstd":
        return pyarrow.compress(content, "zstd", asbytes=True)
    held = io.BytesIO()
    if packing == "zip":
        with zipfile.ZipFile(held, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            for name, member in members.items():
                archive.writestr(zipfile.ZipInfo(name), member)
    elif packing.startswith("tar"):
        with tarfile.open(
            fileobj=held, mode="w", format=random.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
        ) as tar:
            for name, member in members.items():
                info = tarfile.TarInfo(random.choice(("", "./")) + name)
                info.size = len(member)
                tar.addfile(info, io.BytesIO(member))
    else:
        return content
    whole = held.getvalue()
    if packing == "tar.gz":
        return gzip.compress(whole, mtime=0)
    return pyarrow.compress(whole, "zstd", asbytes=True) if packing == "tar.zst" else whole


def read_files(path: Path, needs_label: bool) -> Read:
    """As a user reads a path: members, formats and what they share are found."""
    config = JoinedTrajectoryFiles(
        kind="auto",
        path=str(path),
        label=None if needs_label else "success",
        question=None,
        task=None,
        on_bad_row="drop",
        on_bad_file="skip",
        questions=None,
        labels=None,
    )
    bad: list[BadRow] = []
    rows: list[Any] = []
    try:
        rows.extend(read_rows(config, bad.append, bad.append))
    except RequestError as refused:
        return Read([row.trajectory for row in rows], bad, refused)
    return Read([row.trajectory for row in rows], bad, None)


def draw_containers(random: Random) -> Case:
    """Records in every shape of file and every packing: whole, with a bad record among them, or damaged."""
    format = READERS[random.choice(CONTAINED)]
    shape, packing = random.choice(SHAPES), random.choice(PACKINGS)
    needs_label = random.random() < 0.7
    indent = random.choice((1, 2)) if shape == "objects" else random.choice((None, None, 1))
    indent = None if shape == "lines" else indent
    goods = [format.good(random, f"good-{n}") for n in range(random.choice((2, 3, 3, 25)))]
    rows = [encoded(random, good, indent) for good in goods]
    kind = random.choice(("whole", "whole", "bad record", "damaged", "damaged packing"))
    if kind == "bad record":
        rows.insert(1, encoded(random, swapped(random, format.good(random, "bad")), indent))
    content = contained(random, rows, shape)
    if kind == "damaged":
        content = hurt(random, content)
    whole = packed(random, content, packing)
    if kind == "damaged packing":
        whole = hurt(random, whole)
    path = folder() / f"packed-{os.getpid()}.{packing}"
    expected = [read_alone(format, encoded(random, good) + b"\n", needs_label) for good in goods]

    def call() -> Read:
        path.write_bytes(whole)
        os.utime(path, ns=(counter(), counter()))  # archives are known by size and time
        return read_files(path, needs_label)

    def judge(found: Read) -> str:
        check(format, found, needs_label)
        kept = [trajectory.messages for trajectory in found.trajectories]
        if kind == "whole":
            assert found.refused is None, found.refused
            assert not found.bad, found.bad[:3]
            assert kept == [messages for good in expected for messages in good], "another order, or another content"
        # Nobody knows where a record ends that is nested too deeply to be parsed.
        problems = [*(bad.problem for bad in found.bad), str(found.refused)]
        if kind == "bad record" and not any("nested too deeply" in problem for problem in problems):
            assert found.refused is None, found.refused
            lost = [messages for good in expected for messages in good if messages not in kept]
            assert not lost, f"a good row was lost: {found.bad[:3]}"
        return f"{kind}: {'refused' if found.refused else 'bad' if found.bad else 'read'}"

    return Case(whole, call, judge)


def hurt(random: Random, content: bytes) -> bytes:
    place = random.randint(0, len(content))
    accident = random.randrange(4)
    if accident == 0:
        return content[:place]
    if accident == 1:
        return content[:place] + random.randbytes(random.randint(1, 8)) + content[place:]
    if accident == 2:
        return content[:place] + noise(random).encode(errors="replace")
    return content[:place] + random.randbytes(4) + content[place + 4 :]


_COUNT = count(10**18)


def counter() -> int:
    return next(_COUNT)


MARKS = (
    "<think>", "</think>", "<thought>", "</thought>", "<tool_call>", "</tool_call>", "<function=f>", "</function>",
    "<parameter=p>", "</parameter>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "<information>",
    "</information>", "<tool_response>", "</tool_response>", "\n```output\n", "\n```python\n", "\n```\n", "`",
    "\n~~~\n",
    "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", '{"name": "f", "arguments": {"a": "w"}}', "{'name': 'f'}",
    '[{"name": "f"}]',
    "<search>", "</search>", "</s>", "{", "}", "[", "]", "\n", " ",
)  # fmt: skip
WHOLE_MARKS = (  # around a word
    "<think>%</think>", "```\n%\n```", "<tool_response>%</tool_response>", "<information>%</information>",
    '<tool_call>{"name": "f", "arguments": {"a": "%"}}</tool_call>',
    "<tool_call>{'name': 'f', 'args': {'a': '%'}}</tool_call>",
    "<function=f><parameter=p>%</parameter></function>", "<parameter=p>\n%</parameter>",
    '<function=f>{"a": "%"}</function>',
    "<tool_call>f<arg_key>k</arg_key><arg_value>%</arg_value></tool_call>",
    "<arg_key>k</arg_key><arg_value>%</arg_value>",
    '[TOOL_CALLS]f[ARGS]{"a": "%"}', '[TOOL_CALLS][{"name": "f", "arguments": {"a": "%"}}]',
    '<|python_tag|>{"name": "%"}', "<tool_call>%</tool_call>", "</think>%",
)  # fmt: skip


def draw_inline(random: Random) -> Case:
    """Marks and words in any order: no word of a turn may vanish, nor be said twice."""
    n = random.choice((3, 8, 20, 60))
    words = [f"w{i}w" for i in range(n)]
    text = ""
    for word in words:
        whole = random.choice(WHOLE_MARKS).replace("%", word)
        text += whole if random.random() < 0.5 else random.choice(MARKS) + word
        text += "\n" if random.random() < 0.3 else ""
    own = ({"name": "f", "arguments": {"a": "w"}},) if random.random() < 0.2 else ()
    message = Message("assistant", text, tool_calls=own, reasoning="r" if random.random() < 0.2 else "")

    def judge(parts: list[Message]) -> str:
        kept = "".join(f"{p.content}\n{p.reasoning}\n{json.dumps(p.tool_calls)}\n" for p in parts)
        assert all(kept.count(word) == 1 for word in words), [word for word in words if kept.count(word) != 1]
        assert all(part.role in ("assistant", "tool") for part in parts)
        is_whole = len(parts) == 1 and parts[0] == message
        return "left as it is" if is_whole else "calls" if any(p.tool_calls for p in parts) else "taken apart"

    return Case(text, lambda: taken_apart([message]), judge)


def draw_rule(random: Random) -> Case:
    """Label rules: read, or refused in a few lines."""
    path = random.choice(("score", "info.reward", "a.0.b-c", "rescore", "", "x y", "1"))
    text = f"{path}{random.choice(('', ' '))}{random.choice(('', '>=', '==', '!=', '<', '=', '>'))} "
    text = mutated(random, text + random.choice(("", "0.5", "true", '"yes"', "yes", "1e999", "NaN", "[1]", "null")))

    def call() -> Any:
        try:
            return parse_rule(text)
        except RequestError as refused:
            return refused

    def judge(found: Any) -> str:
        if isinstance(found, RequestError):
            assert len(str(found)) < 600
            return "refused"
        return type(found).__name__

    return Case(text, call, judge)


LABEL_ROWS: tuple[Callable[[bool], Any], ...] = (
    lambda success: {"resolved_ids": ["a"] * success, "unresolved_ids": ["a"] * (not success), "error_ids": ["b"]},
    lambda success: {"resolved": ["a"] * success, "no_logs": ["b"]},
    lambda success: {"a": {"resolved": success, "tests_status": {}}, "b": {"resolved": False}},
    lambda success: {"stats": {"evals": {"e": {"reward_stats": {"reward": {str(float(success)): ["a"]}}}}}},
    lambda success: [{"id": "a", "score": {"passed": success}}, {"id": "b", "score": {"passed": False}}],
    lambda success: {"data": [{"id": "1", "traceId": "a", "name": "judge", "value": int(success)}]},
    lambda success: {"a": success, "b": "failed"},
    lambda success: [{"trial_name": "a", "verifier_result": {"rewards": {"reward": float(success)}}}],
)


def draw_labels(random: Random) -> Case:
    """Files of labels: whole ones are read exactly, damaged ones are read or refused in a few lines."""
    success, suffix = random.random() < 0.5, random.choice((".json", ".jsonl", ".yaml", ".csv"))
    value = random.choice(LABEL_ROWS)(success)
    rule = parse_rule(random.choice((None, None, "reward >= 1", "score.passed", 'judge == "C"')))
    is_whole = random.random() < 0.3 and suffix != ".csv"
    if suffix == ".csv":
        content = f"id,what,ok\na,{plain_text(random)},{success}\nb,x,0\n".encode()
        is_whole = b"," not in content.split(b"\n")[1][2:].rsplit(b",", 1)[0] and random.random() < 0.3
    elif suffix == ".jsonl" and isinstance(value, list):
        content = b"\n".join(json.dumps(row).encode() for row in value)
    else:
        content = json.dumps(value, indent=random.choice((None, 1))).encode()
    if is_whole:
        rule = None
    else:
        content = mutated(random, content.decode()).encode("utf-8", "surrogatepass")
    path = folder() / f"labels-{os.getpid()}{suffix}"
    path.write_bytes(content)

    def call() -> Any:
        try:
            return read_labels(str(path), rule)
        except RequestError as refused:
            return refused

    def judge(found: Any) -> str:
        if isinstance(found, RequestError):
            assert not is_whole, f"a whole file was refused: {found}"
            assert len(str(found)) < 3000
            return "refused"
        in_words(found.counts())
        places = [table["a"] for table in found.by_name.values() if "a" in table]
        if is_whole and places:
            entry = found.entries[places[0]]
            assert entry.score is not None and entry.score.success == success, "read, it is another label"
        assert places or found.others is not None or not is_whole, "a label was lost"
        return "whole" if is_whole else "read"

    return Case(content, call, judge)


def _targets() -> dict[str, Target]:
    targets: dict[str, Target] = {name: partial(draw, format=format) for name, format in READERS.items()}
    return {
        **targets,
        "detection": draw_detection,
        "recognition": draw_recognition,
        "label_rules": draw_rule,
        "label_files": draw_labels,
        "inline": draw_inline,
        "containers": draw_containers,
    }


TARGETS: Mapping[str, Target] = _targets()


# ---- the command ----


def _run_named(name: str, inputs: int, seed: int, first: int) -> dict[str, Any]:
    return run(TARGETS[name], name, inputs, seed, first)


def main() -> int:
    facts = {"real_records": {name: len(format.real()) for name, format in READERS.items()}, "versions": versions()}
    return command(__doc__ or "", Path(__file__), list(TARGETS), _run_named, 20_000, facts)


if __name__ == "__main__":
    sys.exit(main())
