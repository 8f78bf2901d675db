"""`calculate[...]`: exact arithmetic on what models write, with limits that no input can pass.

`(1,200 - 20%) x 3` never reaches Python as text: the input is cut into known pieces first, numbers become exact
fractions under a name, and only names, operators and brackets are handed to simpleeval.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from math import isqrt
from typing import Any

from nat.types import Tool, ToolError

MAX_CHARACTERS = 300
MAX_DEPTH = 30  # nested brackets
MAX_DIGITS = 30  # of an integer result
MAX_BITS = 2048  # of a numerator or denominator on the way
SIGNIFICANT_DIGITS = 8  # of a result that no short decimal equals, such as 10/3

_PIECE = re.compile(
    r"""
    (?P<number> (?: (?: [0-9]{1,3}(?:,[0-9]{3})+(?![0-9]) | [0-9]+ ) (?:\.[0-9]*)? | \.[0-9]+ )
        (?: [eE][+-]?[0-9]{1,2}(?![0-9]) )? )
    | (?P<operator> \*\* | // | [-+*/%^()] )
    | (?P<word> [A-Za-z]+ )
    | (?P<space> [ \t\r\n]+ )
    """,
    re.VERBOSE,
)
_SPELLINGS = str.maketrans(
    # signs for times and divided by; minus sign and dashes; currencies and unbreakable spaces
    dict.fromkeys("\u00d7\u00b7\u22c5\u2217", "*")
    | {"\u00f7": "/"}
    | dict.fromkeys("\u2212\u2013\u2014", "-")
    | dict.fromkeys("$\u20ac\u00a3\u00a0\u202f\u2009", " ")
)
_SUPERSCRIPTS = re.compile("[\u00b2\u00b3]+")  # 2 and 3


def calculate(expression: str) -> str:
    """The value of an arithmetic expression as text: `7`, `-2.5`, `3.3333333`.

    Knows + - * / // % ** ^ (power), brackets, `sqrt` and `abs`, thousands separators, `$`, `x` and the signs for times
    and divided by, and `50%` as 0.5 (`%` before a number or a bracket is the remainder). Raises `ToolError` only.
    """
    if len(expression) > MAX_CHARACTERS:
        raise ToolError(f"the expression is longer than {MAX_CHARACTERS} characters")
    source, names = _translate(expression)
    from simpleeval import InvalidExpression, SimpleEval

    functions = {"sqrt": _square_root, "abs": abs}
    evaluator = SimpleEval(operators=_operators(), functions=functions, names=names)
    try:
        value = evaluator.eval(source)
    except ZeroDivisionError:
        raise ToolError("division by zero") from None
    except (InvalidExpression, SyntaxError, ArithmeticError, ValueError, TypeError, RecursionError, MemoryError):
        raise ToolError("the expression cannot be read as arithmetic") from None
    if not isinstance(value, Fraction):
        raise ToolError("the expression cannot be read as arithmetic")
    return format_number(value)


CALCULATOR = Tool(name="calculate", run=calculate)


def format_number(value: Fraction) -> str:
    """An integer without a point, a short decimal exactly, anything else to 8 significant digits (2 decimals at least).

    Raises `ToolError` from 10**30 on.
    """
    if abs(value) >= 10**MAX_DIGITS:
        raise ToolError(f"the result has more than {MAX_DIGITS} digits")
    if value.denominator == 1:
        return str(value.numerator)
    decimals = next((n for n in range(1, 13) if (value * 10**n).denominator == 1), None)
    if decimals is None:
        decimals = max(2, SIGNIFICANT_DIGITS - len(str(int(abs(value)))))
        while abs(value) * 10**decimals < 10 ** (SIGNIFICANT_DIGITS - 1) and decimals < MAX_DIGITS:
            decimals += 1
    scaled = round(abs(value) * 10**decimals)
    whole, rest = divmod(scaled, 10**decimals)
    digits = f"{rest:0{decimals}d}".rstrip("0")
    sign = "-" if value < 0 and scaled else ""
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def _translate(expression: str) -> tuple[str, dict[str, Fraction]]:
    """The expression for simpleeval, and the numbers that its names stand for."""
    # In brackets, so that no digit after it becomes part of the exponent.
    text = _SUPERSCRIPTS.sub(
        lambda run: "^(" + "".join("2" if c == "\u00b2" else "3" for c in run[0]) + ")", expression
    )
    text = re.sub(r"\s*=\s*\??\s*$", "", text.translate(_SPELLINGS)).strip()
    if not text:
        raise ToolError("the expression is empty")
    pieces: list[str] = []
    names: dict[str, Fraction] = {}
    depth = position = 0
    after_value = after_percent = False  # does the text so far end in a value, in "50%"?
    while position < len(text):
        piece = _PIECE.match(text, position)
        if piece is None:
            raise ToolError(f"unexpected {text[position]!a} in the expression")
        position = piece.end()
        kind, token = piece.lastgroup, piece[0]
        if kind == "space":
            continue
        if kind == "word":
            word = token.lower()
            if word == "x" or (word == "of" and after_percent):
                token, kind = "*", "operator"
            elif word in ("sqrt", "abs"):
                if not re.match(r"\s*\(", text[position:]):  # a function is no value: `abs + 1`
                    raise ToolError(f"after {word!r} comes no bracket")
                pieces.append(f"*{word}" if after_value else word)
                after_value = after_percent = False
                continue
            else:
                raise ToolError(f"unknown name {token[:20]!r} in the expression")
        if kind == "number":
            if after_value and not after_percent:
                raise ToolError("two numbers without an operator between them")
            name = f"n{len(names)}"
            names[name] = Fraction(token.replace(",", ""))
            pieces.append(f"*{name}" if after_percent else name)
            after_value, after_percent = True, False
        elif token == "%" and after_value and not re.match(r"\s*[0-9.(]", text[position:]):
            # The brackets around `value/100` keep `2^50%` right; a number is replaced where it stands.
            last = pieces[-1].lstrip("*")
            if last in names:
                names[last] /= 100
            else:
                names["hundred"] = Fraction(100)
                pieces.append("/hundred")
            after_percent = True
        else:
            depth += {"(": 1, ")": -1}.get(token, 0)
            if abs(depth) > MAX_DEPTH:
                raise ToolError(f"more than {MAX_DEPTH} nested brackets")
            pieces.append("*(" if token == "(" and after_value else "**" if token == "^" else token)
            after_value, after_percent = token == ")", False
    if depth:
        raise ToolError("the brackets are not balanced")
    return " ".join(pieces), names


def _operators() -> dict[type, Callable[..., Any]]:
    return {
        ast.Add: _bounded(operator.add),
        ast.Sub: _bounded(operator.sub),
        ast.Mult: _bounded(operator.mul),
        ast.Div: _bounded(operator.truediv),
        ast.FloorDiv: _bounded(operator.floordiv),
        ast.Mod: _bounded(operator.mod),
        ast.Pow: _power,
        ast.USub: operator.neg,
        ast.UAdd: operator.pos,
    }


def _bounded(function: Callable[[Fraction, Fraction], Fraction | int]) -> Callable[[Fraction, Fraction], Fraction]:
    def bounded(left: Fraction, right: Fraction) -> Fraction:
        value = Fraction(function(left, right))
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
            raise ToolError("the numbers become too large")
        return value

    return bounded


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    """Exact for whole exponents; otherwise through floats. The size is checked before anything is computed."""
    if exponent.denominator != 1:
        if base < 0:
            raise ToolError("a negative number has no such power")
        if exponent == Fraction(1, 2):
            return _square_root(base)
        return Fraction(float(base) ** float(exponent))
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if bits > 1 and bits * abs(exponent) > MAX_BITS:
        raise ToolError("the numbers become too large")
    if bits <= 1:  # 0, 1 and -1: the exponent may be huge, only its parity counts
        exponent = Fraction(0 if exponent == 0 else (2 - exponent.numerator % 2) * (1 if exponent > 0 else -1))
    return Fraction(base ** int(exponent))


def _square_root(value: Fraction) -> Fraction:
    if value < 0:
        raise ToolError("a negative number has no square root")
    top, bottom = isqrt(value.numerator), isqrt(value.denominator)
    if top * top == value.numerator and bottom * bottom == value.denominator:
        return Fraction(top, bottom)
    return Fraction(float(value) ** 0.5)
