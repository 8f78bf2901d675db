"""Checks of observations: errors of tools, sums that a calculator got wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache

from nat.agents.actions import Action
from nat.agents.kinds import OBSERVATION, is_observation
from nat.agents.scoring import RELATIVE_TOLERANCE
from nat.quality.marks import Check, Mark, View
from nat.tools.calculator import calculate
from nat.types import Message, ToolError

# An error stands at the beginning of an observation: an article found by a search may be about errors.
_ERROR = re.compile(
    r"""
    (?: \( .{0,400}? \) \s generated\ an\ exception: .*     # ('reflect', '...') generated an exception: Unknown tool
    | (?:[A-Za-z_.]{0,40}(?:Error|Exception)|ERROR|error|Fatal|FATAL): .*
    | Error\b (?: \s+ (?: occurred | code | in | while | executing | running | fetching | [0-9]{3} ) \b .* | [.!]?$ )
    | [\["'{]{1,3} error ["']? \s* [:\]] .*                     # {"error": ...}
    | Invalid\ (?:Action|action|tool|input|arguments?|JSON|API\ key)\b .*
    | Could\ not\ find\b .*
    | (?:No\ such\ tool|Unknown\ (?:tool|action|function))\b .*
    | (?:Tool|Function)\ \S{1,60}\ (?:not\ found|does\ not\ exist|failed)\b .*
    | (?:HTTP\ (?:status\ |Error\ |error\ )?(?:code\ )?)[45][0-9]{2}\b .*
    | [45][0-9]{2}\ (?:Client\ Error|Server\ Error|Bad\ Request|Unauthorized|Forbidden|Not\ Found|Too\ Many\ Requests
        |Internal\ Server\ Error|Bad\ Gateway|Service\ Unavailable|Gateway\ Time-?out)\b .*
    | (?:Bad\ Request|Too\ Many\ Requests|Too\ many\ requests|Internal\ Server\ Error|Bad\ Gateway|Service\ Unavailable
        |Gateway\ Time-?out) (?: [.:!]|$ ) .*
    | (?:API\ |You\ have\ |The\ )?(?:[Rr]ate\ [Ll]imit|[Qq]uota)\ (?:was\ |has\ been\ )?(?:exceeded|reached|hit)\b .*
    | RateLimit\w* .*
    | (?:The\ )? (?:[A-Za-z]{1,20}\ )? (?:[Rr]equest|[Cc]onnection|[Oo]peration|[Rr]ead|[Cc]ommand|[Ee]xecution|[Qq]uery
        |[Ss]earch|[Ss]erver|[Tt]ool|[Cc]all|[Pp]age)\ (?:has\ )?timed\ out\b .*
    | Timed\ out\b .*
    | (?:Timeout|TIMEOUT)\b .{0,80}$
    | (?:Failed|Unable)\ to\ (?:fetch|connect|execute|parse|load|retrieve|open|call|run|reach)\b .*
    | Connection\ (?:refused|reset|error|aborted|closed)\b .*
    )
    """,
    re.VERBOSE,
)


_TRACEBACK = "Traceback (most recent call last)"


SHOWN = 80  # characters of a text in a detail


def observation_errors(messages: Sequence[Message]) -> list[Mark]:
    marks = []
    for i, message in enumerate(messages):
        if message.role in ("assistant", "system"):
            continue
        content = message.content
        prefix = OBSERVATION.match(content)
        if message.role == "user" and prefix is None:
            continue
        start = prefix.end() if prefix else len(content) - len(content.lstrip())
        error = _ERROR.match(content, start)
        if error:
            marks.append(Mark("observation_error", i, start, error.end(), error[0][:SHOWN]))
        elif (at := content.find(_TRACEBACK)) >= 0:
            marks.append(Mark("observation_error", i, at, at + len(_TRACEBACK), "Python traceback"))
    return marks


def _errors(view: View) -> list[Mark]:
    return view.errors


_CALCULATORS = ("calculate", "calculator")


_NUMBER = re.compile(r"[$\u20ac\u00a3]?\s{0,2}([-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.([0-9]*))?)\s{0,2}%?\.?")


_SHORT_SUM = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([-+*/])\s*([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*")


def _calculator_slips(view: View) -> Iterator[Mark]:
    messages = view.trajectory.messages
    for i, action in view.agent.actions.items():
        if not isinstance(action, Action) or action.tool.lower() not in _CALCULATORS or i + 1 >= len(messages):
            continue
        if is_observation(messages[i + 1]):
            content = messages[i + 1].content
            prefix = OBSERVATION.match(content)
            start = prefix.end() if prefix else 0
            value = _slip(action.input, content[start:].strip())
            if value is not None:
                shown = content[start:].strip()[:SHOWN]
                detail = f"{action.input[:SHOWN]} is {value}, not {shown}"
                yield Mark("calculator_slip", i + 1, start, len(content), detail)


@lru_cache(maxsize=20_000)
def _slip(expression: str, observed: str) -> str | None:
    """The expression's value where the observed number is another one; None also where either cannot be read.

    A value rounded to the decimals shown, or to the digits of a floating point number, is right.
    """
    number = _NUMBER.fullmatch(observed) if len(observed) <= 60 else None
    if number is None or not re.search("[0-9]", number[1]):
        return None
    if _is_plainly_right(expression, number[1]):
        return None
    try:
        value = calculate(expression)
    except ToolError:
        return None
    exact, shown = Fraction(value), Fraction(number[1].replace(",", "").removesuffix("."))
    allowed = max(Fraction(1, 2 * 10 ** len(number[2] or "")), RELATIVE_TOLERANCE * abs(exact))
    if "%" in observed and abs(shown / 100 - exact) <= allowed / 100:
        return None
    return None if abs(shown - exact) <= allowed else value


def _is_plainly_right(expression: str, shown: str) -> bool:
    """Whether a sum of two numbers has this value, as far as floats tell: most do, and the exact way is slow."""
    terms = _SHORT_SUM.fullmatch(expression)
    if terms is None:
        return False
    a, operator, b = float(terms[1]), terms[2], float(terms[3])
    if operator == "/" and b == 0:
        return False
    value = a + b if operator == "+" else a - b if operator == "-" else a * b if operator == "*" else a / b
    return abs(value - float(shown.replace(",", ""))) <= 1e-9 * abs(value)


CHECKS = (
    Check(
        name="observation_error",
        place=50,
        severity="note",
        unit="observations",
        says="An observation reports an error of a tool or of the network.",
        remedy=(
            "If the tool was broken, the episode says nothing about the agent: drop it "
            "(quality.observation_error=true)."
        ),
        find=_errors,
        rule="count",
        asks="was the tool broken in all of these, or are errors part of the task?",
        dates_errors=True,
    ),
    Check(
        name="calculator_slip",
        place=60,
        severity="warning",
        unit="observations",
        says="What the calculator is said to have returned is not the value of its expression.",
        remedy="The model would learn that the tool errs: drop these trajectories (quality.calculator_slip=true).",
        find=_calculator_slips,
        rule="count",
        asks="is this calculator one that is meant to err?",
        dates_errors=True,
    ),
)
