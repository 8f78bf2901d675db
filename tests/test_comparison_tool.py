"""The tool that says which of two numbers comes first, or whether two texts are the same."""

from __future__ import annotations

import time

import pytest

from nat.tools.compare import COMPARISON, MAX_CHARACTERS, compare
from nat.types import ToolError


@pytest.mark.parametrize(
    ("pair", "relation"),
    [
        ("1790, 1820", "before"),
        ("1820, 1790", "after"),
        ("1790, 1790", "same"),
        ("1790,1820", "before"),
        ("  1820 ,\n1790\t", "after"),
        ("007, 7", "same"),
        ("-5, 3", "before"),
        ("3, -5", "after"),
        ("-0, 0", "same"),
        ("9, 10", "before"),  # as numbers, not as texts
        ("999999999, 1000000000", "different"),  # ten digits are no year: compared as texts
        ("1790.5, 1791", "different"),
        ("\u0661\u0667\u0669\u0660, 1790", "different"),  # Arabic-Indic digits are no number here
    ],
)
def test_two_numbers(pair: str, relation: str) -> None:
    assert compare(pair) == relation


@pytest.mark.parametrize(
    ("pair", "relation"),
    [
        ("Oak Hill, Oak Hill", "same"),
        ("oak  hill, OAK HILL", "same"),
        ("Oak Hill, OakHill", "different"),
        ("Oak Hill, Elm Ford", "different"),
        ("Oak Hill, 1790", "different"),
        ("1790, Oak Hill", "different"),
        ("STRASSE, stra\u00dfe", "same"),
        ("Oak Hill, Oak Hill, Elm Ford", "different"),  # only the first comma parts the two
    ],
)
def test_two_texts(pair: str, relation: str) -> None:
    assert compare(pair) == relation


@pytest.mark.parametrize(
    "pair", ["", " ", ",", "1790", "1790,", ",1790", " , 1790", "Oak Hill and Elm Ford", "1790; 1"]
)
def test_anything_but_a_pair_is_refused(pair: str) -> None:
    with pytest.raises(ToolError, match="two values with a comma between them are needed"):
        compare(pair)


def test_a_long_input_is_refused_and_the_longest_allowed_is_not() -> None:
    half = "x" * (MAX_CHARACTERS // 2 - 1)
    assert compare(f"{half}, {half}") == "same"
    with pytest.raises(ToolError, match="longer than 200 characters"):
        compare(f"{half}, {half}x")


@pytest.mark.parametrize(
    "pair",
    ["9" * 100_000 + ",1", "," * 100_000, "__import__('os').system('x'), 1", "9**9**9**9, 1", "\x00,\x00", "\ud800, 1"],
)
def test_hostile_input_is_answered_or_refused_at_once(pair: str) -> None:
    begun = time.monotonic()
    try:
        assert compare(pair) in ("same", "different")
    except ToolError:
        assert len(pair) > MAX_CHARACTERS
    assert time.monotonic() - begun < 0.5


def test_the_tool_is_called_compare() -> None:
    assert COMPARISON.name == "compare" and COMPARISON.run("1790, 1820") == "before"
