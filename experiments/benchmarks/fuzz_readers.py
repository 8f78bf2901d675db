"""Generated and mutated trajectory files for every reader: nothing may raise, hang, or cost a good row.

    python experiments/benchmarks/fuzz_readers.py --inputs 20000

writes fuzz_readers.json beside it and exits with 1 if anything was found. Input number i of a target depends on the
seed and on i only (and on whether the real files are there, whose records are mutated too), so that
`--only chat --first 4711 --inputs 1` shows one input again. A file holds good rows around a bad one, or is damaged as a
whole. What is judged: nothing is raised but RequestError, and that only for a file that cannot be read at all; no call
takes more than a second; every good row beside a bad one is read, exactly; what is read can be labelled, written in our
format and read back equal.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, NamedTuple, get_args

from fuzz import Case, Target, command, mutated, noise, plain_text, run, solution, turn, versions

from nat.agents.scoring import exact_match_score
from nat.core.rows.bad import BadReason, BadRow
from nat.trajectories.detection import FORMATS, detect, reader
from nat.trajectories.formats import (
    alpaca,
    chat,
    gsm8k_solutions,
    mapped,
    nat_paper,
    native,
    react,
    sharegpt,
    steps,
    toolbench,
    tora,
)
from nat.trajectories.formats.tool_calls import as_react_text
from nat.trajectories.labels import parse_rule, relabel
from nat.trajectories.mapping import MappingFile, finder
from nat.types import Failure, Question, RequestError, Role, Trajectory

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


def _targets() -> dict[str, Target]:
    targets: dict[str, Target] = {name: partial(draw, format=format) for name, format in READERS.items()}
    return {**targets, "detection": draw_detection, "recognition": draw_recognition, "label_rules": draw_rule}


TARGETS: Mapping[str, Target] = _targets()


# ---- the command ----


def _run_named(name: str, inputs: int, seed: int, first: int) -> dict[str, Any]:
    return run(TARGETS[name], name, inputs, seed, first)


def main() -> int:
    facts = {"real_records": {name: len(format.real()) for name, format in READERS.items()}, "versions": versions()}
    return command(__doc__ or "", Path(__file__), list(TARGETS), _run_named, 20_000, facts)


if __name__ == "__main__":
    sys.exit(main())
