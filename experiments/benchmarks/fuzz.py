"""Generated input for everything that reads what a model or a user wrote: nothing may raise, hang, or read wrongly.

    python experiments/benchmarks/fuzz.py --inputs 100000

writes into results.json and exits with 1 if anything was found. A target is one function that draws a `Case` from a
random number generator; input number i of a target depends on the seed and on i only, so that
`--only calculator --first 4711 --inputs 1` shows one input again. tests/test_fuzz.py draws a few thousand.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import string
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

from results import PATH, note

import nat
from nat.agents.actions import (
    FINISH,
    Action,
    AgentConfig,
    UnparsedAction,
    chain_of_thought,
    parse_action,
    parse_answer,
    render_solution,
    render_turn,
)
from nat.agents.scoring import numeric_score
from nat.agents.turns import MAX_OBSERVATION, for_agent, take_turn
from nat.tools.calculator import CALCULATOR, calculate
from nat.types import Environment, Message, Question, ToolError

LIMIT = 1.0  # CPU seconds that one call may take; wall time would count other programs
SHOWN = 10  # findings of a target that are listed in full


@dataclass(frozen=True)
class Case:
    """One input. `call` is timed and must not raise; `judge` gets its value, asserts what must hold, and names it."""

    input: Any
    call: Callable[[], Any]
    judge: Callable[[Any], str]


Target: TypeAlias = Callable[[Random], Case]


def run(target: Target, name: str, inputs: int, seed: int = 0, first: int = 0) -> dict[str, Any]:
    """Draw `inputs` cases and count what came out; findings are exceptions, broken assertions and slow calls."""
    kinds: Counter[str] = Counter()
    findings: list[dict[str, Any]] = []
    slowest: dict[str, Any] = {"cpu_seconds": -1.0}
    total = 0.0
    characters = 0
    for index in range(first, first + inputs):
        case = target(Random(f"{seed}/{name}/{index}"))
        shown = repr(case.input)
        characters += len(shown)
        begun = time.thread_time()
        try:
            value = case.call()
            error = None
        except Exception as raised:
            value, error = None, raised
        seconds = time.thread_time() - begun
        total += seconds
        what = {"index": index, "cpu_seconds": round(seconds, 6), "length": len(shown), "input": shown[:200]}
        if seconds > slowest["cpu_seconds"]:
            slowest = what
        if error is None:
            try:
                kinds[case.judge(value)] += 1
            except Exception as raised:
                error = raised
        if error is not None:
            findings.append({**what, "found": f"{type(error).__name__}: {str(error)[:300]}"})
        elif seconds > LIMIT:
            findings.append({**what, "found": f"took {seconds:.2f} s"})
    return {
        "inputs": inputs,
        "characters": characters,
        "cpu_seconds_in_calls": round(total, 2),
        "slowest": slowest,
        "outcomes": dict(sorted(kinds.items())),
        "found": len(findings),
        "findings": findings[:SHOWN],
    }


# ---- the targets ----

TOOLS = ("calculate", "search", "look_up")


def draw_action(random: Random) -> Case:
    """parse_action: turns as models write them, and what is left of them after mutation."""
    if random.random() < 0.2:  # must be read back as it was written
        thought, input = plain_text(random), plain_text(random)
        tool = random.choice((*TOOLS, FINISH))
        text = render_turn(thought, tool, input)

        def read_back(value: Any) -> str:
            assert value == Action(tool, input.strip()), value
            return "rendered and read back"

        return Case(text, lambda: parse_action(text, TOOLS), read_back)
    text = mutated(random, turn(random))

    def judge(value: Any) -> str:
        assert isinstance(value, Action | UnparsedAction)
        if isinstance(value, UnparsedAction):
            assert value.kind is not None
            assert 0 < len(value.reason) < 200
            return value.kind
        assert value.tool in (*TOOLS, FINISH)
        assert value.input in text
        more = f"{text}\nObservation: [x]\nThought: y\nAction: finish[z]"
        assert len(text) > 10_000 or parse_action(more, TOOLS) == value, "what follows an action changed it"
        return "action"

    return Case(text, lambda: parse_action(text, TOOLS), judge)


def draw_answer(random: Random) -> Case:
    """parse_answer: solutions as models write them, and what is left of them after mutation."""
    if random.random() < 0.2:
        reasoning, answer = plain_text(random), plain_text(random) or "7"
        text = render_solution(reasoning, answer)

        def read_back(value: Any) -> str:
            assert value == Action(FINISH, answer), value
            return "rendered and read back"

        return Case(text, lambda: parse_answer(text), read_back)
    text = mutated(random, solution(random))

    def judge(value: Any) -> str:
        assert isinstance(value, Action | UnparsedAction)
        if isinstance(value, UnparsedAction):
            assert value.kind == "no_answer"
            return value.kind
        assert value.tool == FINISH
        assert "\n" not in value.input or FINISH in text.lower() or "\\boxed" in text
        return "answer" if value.input else "empty answer"

    return Case(text, lambda: parse_answer(text), judge)


def draw_chain(random: Random) -> Case:
    """chain_of_thought: whole episodes; the answer must survive."""
    messages: list[Message] = []
    for _ in range(random.randint(0, 4)):
        messages.append(Message("assistant", mutated(random, turn(random)), train=random.random() < 0.9))
        messages.append(Message("tool", mutated(random, observation(random))))
    answer = plain_text(random) or "7" if random.random() < 0.5 else None
    if answer is not None:
        messages.append(Message("assistant", render_turn(plain_text(random), FINISH, answer)))

    def judge(value: Any) -> str:
        assert isinstance(value, tuple)
        assert len(value) == bool(messages)
        if not messages:
            return "empty"
        assert value[0].role == "assistant"
        early = any(
            isinstance(action := parse_action(m.content, TOOLS), Action) and action.tool == FINISH
            for m in messages[:-1]
            if m.role == "assistant"
        )
        if answer is None or early:
            return "not finished" if answer is None else "finished early"
        assert value[0].content.endswith(f"Answer: {answer}")
        assert parse_answer(value[0].content) == Action(FINISH, answer)
        return "finished"

    return Case([message.content for message in messages], lambda: chain_of_thought(messages), judge)


def draw_expression(random: Random) -> Case:
    """The calculator: sums of known value, the same after mutation, and anything else."""
    known = random.random() < 0.4
    text, value, size = expression(random, random.randint(0, 4))
    if not known:
        text = mutated(random, text)

    def call() -> str | ToolError:
        try:
            return calculate(text)
        except ToolError as refusal:
            return refusal

    def judge(result: Any) -> str:
        if isinstance(result, ToolError):
            reason = str(result)
            assert 0 < len(reason) < 80
            if known and len(text) <= 300 and value is not None:
                assert size > 1000 or abs(value) >= 10**30, f"refused {value}: {reason}"
                return "too large"
            return "known refused" if known else "refused"
        assert isinstance(result, str)
        assert len(result) < 50
        if not known:
            assert set(result) <= set("-0123456789.")
            return "value"
        assert value is not None, "divided by zero"
        given = Fraction(result)
        if (value * 10**12).denominator == 1:
            assert given == value, f"{result} is not {value}"
        else:
            assert abs(given - value) <= max(abs(value) / 10**7, Fraction(1, 10**30)), f"{result} is not {value}"
        return "known value"

    return Case(text, call, judge)


WORLD = Environment("sums", "", (CALCULATOR,), numeric_score, max_turns=2)
COT_WORLD = for_agent(WORLD, AgentConfig(name="cot", style="cot", system=None, instructions=None))
QUESTION = Question("q", "What is 2 + 2?", "4")


def draw_turn(random: Random) -> Case:
    """take_turn with the real calculator, for both kinds of agents."""
    cot = random.random() < 0.3
    environment = COT_WORLD if cot else WORLD
    if cot:
        text = mutated(random, solution(random))
    elif random.random() < 0.5:
        text = f"Action: calculate[{mutated(random, expression(random, 2)[0])}]"
    else:
        text = mutated(random, turn(random))
    number = random.randint(1, environment.max_turns)

    def judge(value: Any) -> str:
        assert (value.observation is None) != (value.outcome is None)
        if value.observation is not None:
            assert not cot
            assert len(value.observation) <= MAX_OBSERVATION
            return value.problem or "observation"
        assert value.outcome.failure != "infrastructure", value.outcome
        assert value.outcome.success == (value.outcome.failure is None)
        return f"ended: {value.outcome.failure or 'success'}"

    return Case(text, lambda: take_turn(environment, QUESTION, number, text), judge)


TARGETS: Mapping[str, Target] = {
    "parse_action": draw_action,
    "parse_answer": draw_answer,
    "calculator": draw_expression,
    "chain_of_thought": draw_chain,
    "take_turn": draw_turn,
}


# ---- input ----

WORDS = "the answer is action thought observation 7 12.5 1,200 pencils Ada Lovelace so [1] (b) #1 = yes no: not. $5 50%"
ODD = "\x00\x07\x1b\u200b\u2028\ufeff\u0663\uff12\uff3b\uff3d\u3010\u3011\uff1a\u00d7\u00f7\u2212\u00b2\u00b3" + (
    "\ud800\udc00\U0001f642\u0130\u00df"  # halves of a surrogate pair, an emoji, letters that change length with case
)
MARKS = "[](){}<>:*#`_\\|\"'=,.;/%^-+ \n\t\r"
SNIPPETS = (
    "Action:", "Action: finish[", "Action 3:", "**Action:**", "Thought:", "Observation:", "finish[", "search[", "]",
    "Answer:", "\nAnswer: ", "The answer is ", "#### ", "\\boxed{", "Question:", "\nQ:", "A: ", "calculate(",
    "__import__('os')", "().__class__", "9**9**9**9", "lambda: 0", "%s%n", "${HOME}", "<|im_end|>", "\\frac{1}{2}",
    "sqrt(", "1e99", "0x1f", "1_000", "//0", "**-1",
)  # fmt: skip


def plain_text(random: Random) -> str:
    """A few words that hold no mark of any parser's, on one line."""
    words = (
        "seven",
        "12.5",
        "Ada",
        "Lovelace's",
        "1,200",
        "pens;",
        "a-b",
        "yes",
        "(b)",
        "50%",
        "\u00e9t\u00e9",
        "\u6771\u4eac",
    )
    return " ".join(random.choice(words) for _ in range(random.randint(0, 8)))


def some_words(random: Random) -> str:
    return " ".join(random.choice(WORDS.split()) for _ in range(random.randint(0, 12)))


def turn(random: Random) -> str:
    """A ReAct turn, in one of the forms that models use."""
    thought = random.choice(("Thought: ", "Thought 1: ", "**Thought:** ", "", "thought:"))
    between = random.choice(("\n", "\n\n", " ", ""))
    mark = random.choice(
        ("Action: ", "Action 1: ", "**Action:** ", "action:", "Action:\n", "### Action: ", "Next action: ")
    )
    tool = random.choice((*TOOLS, FINISH, "Finish", "SEARCH", "click", "answer"))
    input = expression(random, 2)[0] if tool == "calculate" else some_words(random)
    brackets = random.choice(("[]", "[]", "[]", "[]", "()", "\uff3b\uff3d", "[ ", " ]"))
    text = f"{thought}{some_words(random)}{between}{mark}{tool}{brackets[0]}{input}{brackets[1]}"
    tail = random.choice(
        ("", "", ".", "\n", "\nObservation: 4\nAction: finish[4]", ", search[x]", f" {some_words(random)}")
    )
    return text + tail


def observation(random: Random) -> str:
    return random.choice(
        ("7", "Error: division by zero.", f"#1 {some_words(random)} #2 b", "Observation: 7", some_words(random))
    )


def solution(random: Random) -> str:
    """A chain of thought, with its answer in one of the forms that models use."""
    steps = "\n".join(some_words(random) for _ in range(random.randint(0, 4)))
    answer = random.choice(("7", "1,200", "yes", "Ada Lovelace", "J. R. R. Tolkien", "\\frac{1}{2}", ""))
    form = random.choice(
        (
            "Answer: {}",
            "**Answer:** {}",
            "#### {}",
            "A: {}",
            "So the answer is {}.",
            "finish[{}]",
            "\\boxed{{{}}}",
            "{}",
        )
    )
    return f"{steps}\n{form.format(answer)}"


def expression(random: Random, depth: int) -> tuple[str, Fraction | None, int]:
    """A valid sum, its exact value (None: divides by zero), and the bits of the largest number on the way."""
    text, _, value, size = _sum(random, depth)
    return text + random.choice(("", "", "", " =", " = ?")), value, size


_BINDING = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2, "**": 4}
_SIGNS = {"-": ("-", "\u2212"), "*": ("*", "\u00d7", " x "), "/": ("/", "\u00f7"), "**": ("**", "^")}


def _sum(random: Random, depth: int) -> tuple[str, int, Fraction | None, int]:
    """Text, how tightly its outermost operator binds (5: a number, or brackets), value, bits."""
    choice = random.random()
    if depth == 0 or choice < 0.15:
        return (*_number(random), 20)
    if choice < 0.25:
        text, binding, value, size = _sum(random, depth - 1)
        return (f"-{text if binding >= 3 else f'({text})'}", 3, None if value is None else -value, size)
    if choice < 0.3:
        text, _, value, size = _sum(random, depth - 1)
        return (f"abs({text})", 5, None if value is None else abs(value), size)
    if choice < 0.34:
        n = random.randint(0, 99)
        return (f"sqrt({n * n})", 5, Fraction(n), 20)
    sign = random.choice(tuple(_BINDING))
    own = _BINDING[sign]
    left, left_binding, a, left_size = _sum(random, depth - 1)
    right, right_binding, b, right_size = _sum(random, depth - 1)
    if sign == "**":
        n = random.randint(-2, 4)
        right, right_binding, b, right_size = str(n), 3 if n < 0 else 5, Fraction(n), 3
    # A power binds to the right and before a sign on its left; a sign on its right needs no brackets.
    if left_binding < own or (sign == "**" and left_binding < 5):
        left = f"({left})"
    if right_binding <= own and not (sign == "**" and right_binding >= 3):
        right = f"({right})"
    if sign == "%" and right[0] not in string.digits + ".($":  # "50% -3" would be a percentage
        right = f"({right})"
    space = random.choice(("", " "))
    text = f"{left}{space}{random.choice(_SIGNS.get(sign, (sign,)))}{space}{right}"
    value = None if a is None or b is None else _apply(sign, a, b)
    bits = 0 if value is None else max(value.numerator.bit_length(), value.denominator.bit_length())
    return text, own, value, max(left_size, right_size, bits)


def _number(random: Random) -> tuple[str, int, Fraction]:
    n = random.randint(0, random.choice((9, 99, 9999)))
    kind = random.random()
    if kind < 0.6:
        return str(n), 5, Fraction(n)
    if kind < 0.7:
        return f"{n * 1000:,}", 5, Fraction(n * 1000)
    if kind < 0.8:
        return f"{n}.{n % 10}", 5, n + Fraction(n % 10, 10)
    if kind < 0.87:
        return f"${n}", 5, Fraction(n)
    if kind < 0.94:
        return f"({n}%)", 5, Fraction(n, 100)
    return f"{n % 10}e{n % 4}", 5, Fraction(n % 10 * 10 ** (n % 4))


def _apply(sign: str, a: Fraction, b: Fraction) -> Fraction | None:
    if (sign in ("/", "//", "%") and b == 0) or (sign == "**" and a == 0 and b < 0):
        return None
    if sign == "+":
        return a + b
    if sign == "-":
        return a - b
    if sign == "*":
        return a * b
    if sign == "/":
        return a / b
    if sign == "//":
        return Fraction(a // b)
    if sign == "%":
        return a - b * (a // b)
    return Fraction(a ** int(b))


def mutated(random: Random, text: str) -> str:
    """The text, or what some accidents leave of it; now and then noise, or a great length."""
    if random.random() < 0.03:
        return noise(random)
    for _ in range(random.choice((0, 1, 1, 2, 4, 8))):
        place = random.randint(0, len(text))
        end = min(len(text), place + random.randint(0, 12))
        accident = random.randrange(9)
        if accident == 0:
            text = text[:place] + text[end:]
        elif accident == 1:
            text = text[:place] + random.choice(MARKS) + text[place:]
        elif accident == 2:
            text = text[:place] + random.choice(ODD) + text[place:]
        elif accident == 3:
            text = text[:place] + random.choice(SNIPPETS) + text[place:]
        elif accident == 4:
            text = text[:place] + text[place:end] * random.randint(2, 5) + text[end:]
        elif accident == 5:
            text = text[:place] + text[place:end].swapcase() + text[end:]
        elif accident == 6:
            text = text[:place]  # cut off
        elif accident == 7:
            text = text.replace(random.choice(MARKS), random.choice(MARKS))
        else:
            text = text[place:] + text[:place]
    if random.random() < 0.001:
        part = random.choice((*SNIPPETS, *MARKS, text[:50]))
        text = text + part * (random.choice((1_000, 100_000, 1_000_000)) // max(1, len(part))) + text
    return text


def noise(random: Random) -> str:
    data = random.randbytes(random.randint(0, 300))
    encoding = random.choice(("latin-1", "utf-8", "utf-16-le", "ascii"))
    return data.decode(encoding, errors=random.choice(("replace", "ignore", "backslashreplace")))


# ---- the command ----


def _run_named(name: str, inputs: int, seed: int, first: int) -> dict[str, Any]:
    return run(TARGETS[name], name, inputs, seed, first)


def main() -> int:
    facts = {"versions": {**versions(), "simpleeval": importlib.metadata.version("simpleeval")}}
    return command(__doc__ or "", Path(__file__), list(TARGETS), _run_named, 100_000, facts)


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), "nat": nat.__version__}


def command(
    description: str,
    script: Path,
    targets: list[str],
    run_named: Callable[[str, int, int, int], dict[str, Any]],
    inputs: int,
    facts: Mapping[str, Any],
) -> int:
    """The command line of a script that fuzzes; returns its exit code.

    Args:
        run_named: (target, inputs, seed, first) -> what `run` returns; called in processes of its own.
        inputs: of each target, where the command line says nothing.
        facts: written beside the results.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=inputs, help="of each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", choices=targets, action="append", help="this target; may be given several times")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="targets that are drawn side by side")
    parser.add_argument("--output", type=Path, default=PATH, help="results.json, or one like it")
    arguments = parser.parse_args()
    begun = time.perf_counter()
    results: dict[str, Any] = {}
    names = arguments.only or targets
    with ProcessPoolExecutor(arguments.processes) as pool:
        running = [pool.submit(run_named, n, arguments.inputs, arguments.seed, arguments.first) for n in names]
        for name, future in zip(names, running, strict=True):
            results[name] = result = future.result()
            slow = result["slowest"]
            print(
                f"{name}: {result['inputs']} inputs, {result['found']} findings, {result['cpu_seconds_in_calls']} s in "
                f"calls, slowest {slow['cpu_seconds']:.3f} s on {slow['length']} characters (input {slow['index']})",
                flush=True,
            )
            print(f"  {result['outcomes']}")
            for finding in result["findings"]:
                print(f"  input {finding['index']}: {finding['found']}\n    {finding['input']}", file=sys.stderr)
    found = sum(result["found"] for result in results.values())
    if arguments.only or arguments.first:
        return int(found > 0)  # a look at something, not the benchmark
    record = {
        "command": f"python experiments/benchmarks/{script.name} --inputs {arguments.inputs} --seed {arguments.seed}",
        "seed": arguments.seed,
        "limit_cpu_seconds": LIMIT,
        "inputs": sum(result["inputs"] for result in results.values()),
        "wall_seconds": round(time.perf_counter() - begun, 1),
        **facts,
        "targets": results,
    }
    note(script.name, record, arguments.output)
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
