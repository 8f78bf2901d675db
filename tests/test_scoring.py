"""Which answers count as the reference answer."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat.environments.scoring import is_abstention, numeric_match, read_numbers


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        ("18", "18"),
        ("18.0", "18"),
        ("$18", "18"),
        ("$18.00", "18"),
        ("1,800", "1800"),
        ("1800", "1,800"),
        ("1/2", "0.5"),
        ("1 1/2", "1.5"),
        ("0.33333333", "1/3"),  # as the calculator shows it
        ("50%", "0.5"),
        ("50%", "50"),  # "what percentage ...?"
        ("50\\%", "50%"),
        ("-3", "-3"),
        ("\u22123", "-3"),
        ("-$3", "-3"),
        ("18 dollars", "18"),
        ("18 dollars per day.", "18"),
        ("#### 39", "39"),
        ("x = 5", "5"),
        ("The answer is 5", "5"),
        ("1e3", "1000"),
        ("Yes.", "yes"),
    ],
)
def test_accepted(prediction, reference):
    assert numeric_match(prediction, reference) == 1.0


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        ("19", "18"),
        ("3", "-3"),
        ("-3", "3"),
        ("18 or 19", "18"),
        ("18 19", "18"),
        ("18, 19", "18"),
        ("not 18", "18"),
        ("180", "1,800"),
        ("100000", "100001"),  # nearer than the tolerance, but both are integers
        ("0.333", "1/3"),
        ("5%", "0.5"),
        ("1/0", "0"),
        ("2:3", "2"),
        ("__import__('os')", "0"),
        ("9**9**9", "1"),
        ("", "0"),
        ("", ""),
        ("no", "yes"),
        ("1" * 300, "1"),
    ],
)
def test_rejected(prediction, reference):
    assert numeric_match(prediction, reference) == 0.0


def test_numbers_are_read_exactly():
    assert read_numbers("0.1") == (Fraction(1, 10),)
    assert read_numbers("12.5%") == (Fraction(25, 2), Fraction(1, 8))
    assert read_numbers("between 1 and 2") == ()


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "?", "unknown", "Unknown.", "None", "N/A", "I don't know", "I don\u2019t know the answer"),
        *("cannot determine", "It cannot be determined from the given information.", "not enough information"),
        "I am not sure",
    ],
)
def test_abstentions(text):
    assert is_abstention(text)


@pytest.mark.parametrize("text", ["0", "18", "no", "yes", "known", "Nancy", "nothing compares"])
def test_answers_are_no_abstentions(text):
    assert not is_abstention(text)


@given(st.integers(-(10**12), 10**12))
def test_an_integer_equals_its_spellings_and_no_neighbour(n):
    assert numeric_match(f"{n:,}", str(n)) == numeric_match(f"{n}.0", str(n)) == numeric_match(f"{n} m", str(n)) == 1.0
    assert numeric_match(str(n + 1), str(n)) == 0.0


@given(st.text(max_size=250), st.text(max_size=250))
def test_any_text_gets_a_score(prediction, reference):
    assert numeric_match(prediction, reference) in (0.0, 1.0)
    assert is_abstention(prediction) in (True, False)


@pytest.mark.parametrize(
    "name", ["gsm8k/test", "gsm8k/train"] + [f"math_word_problems/{name}" for name in ("svamp", "multiarith", "asdiv")]
)
def test_gold_answers_match_themselves_and_no_others(data, name):
    from nat.environments.benchmarks import load_questions

    answers = [question.answer for question in load_questions(str(data / f"{name}.jsonl"))]
    assert len(answers) > 500
    assert [a for a in answers if numeric_match(a, a) != 1.0] == []
    pairs = zip(answers, answers[1:] + answers[:1], strict=True)
    shuffled = [(a, b) for a, b in pairs if a.replace(",", "") != b.replace(",", "")]
    assert len(shuffled) > len(answers) / 2
    assert [(a, b) for a, b in shuffled if numeric_match(a, b)] == []
