"""Which answers count as the reference answer."""

from __future__ import annotations

import json
import time
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat.agents.scoring import (
    exact_match_score,
    is_abstention,
    normalised_answer,
    numeric_match,
    read_numbers,
    read_yes_no,
    yes_no_score,
)
from nat.types import Score


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
        ("18 million", "18000000"),
        ("$1.8 million", "1,800,000"),
        ("$1.8 Million dollars", "1800000"),
        ("5 dozen eggs", "60"),
        ("5 dozens", "60"),
        ("3k", "3000"),
        ("3K dollars", "3000"),
        ("-2 hundred thousand", "-200000"),
        ("1 1/2-million", "1500000"),
        ("18 million", "18 million"),
        ("3 km", "3"),
        ("3 kg", "3"),
        ("3 kittens", "3"),
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
        ("18 million", "18"),
        ("$1.8 million", "1.8"),
        ("5 dozen", "5"),
        ("3k", "3"),
        ("3 k.", "3"),
        ("18 hundredths", "18"),
        ("18 hundredths", "1800"),
        ("18 (million)", "18"),
        ("$18\\text{ million}$", "18"),
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
        *("Maybe", "Perhaps.", "It depends", "Depends on the year", "unclear", "Uncertain", "That is uncertain."),
        *("It is unclear", "no information was found", "Not specified", "insufficient data", "The answer is unknown"),
        "There is no clear evidence, so opinions differ.",
        "Views vary, and it is hard to say who is right.",
    ],
)
def test_abstentions(text):
    assert is_abstention(text)


@pytest.mark.parametrize(
    "text", ["0", "18", "no", "yes", "known", "Nancy", "nothing compares", "Maybe Baby", "possible worlds"]
)
def test_answers_are_no_abstentions(text):
    assert not is_abstention(text)


def test_a_hedge_after_a_clear_answer_is_an_answer():
    assert not is_abstention("No, although it is hard to say for sure.")


@given(st.integers(-(10**12), 10**12))
def test_an_integer_equals_its_spellings_and_no_neighbour(n):
    assert numeric_match(f"{n:,}", str(n)) == numeric_match(f"{n}.0", str(n)) == numeric_match(f"{n} m", str(n)) == 1.0
    assert numeric_match(str(n + 1), str(n)) == 0.0


@given(st.text(max_size=250), st.text(max_size=250))
def test_any_text_gets_a_score(prediction, reference):
    assert numeric_match(prediction, reference) in (0.0, 1.0)
    assert is_abstention(prediction) in (True, False)


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [
        ("The Beatles.", "beatles", 1.0),
        ("the  LAKE-district", "Lakedistrict", 1.0),  # punctuation vanishes, it does not part words
        ("U.S.", "us", 1.0),
        ("Paul McCartney", "Sir Paul McCartney", 0.8),  # 2 common words of 2 and 3
        ("it was in 1986, I think", "1986", 2 / 7),  # 1 of 6 and 1
        ("New York New York", "New York", 2 / 3),  # 2 of 4 and 2: a word counts as often as both have it
        ("York New", "New York", 1.0),  # as officially: F1 knows no order, exact match does
        ("a the an", "Chief of Protocol", 0.0),
        ("", "Chief of Protocol", 0.0),
        ("yes", "no", 0.0),
        ("yes it is", "yes", 0.0),  # officially 0 where one of the two is yes, no or noanswer
        ("yes", "yes it is", 0.0),
        ("noanswer", "noanswer at all", 0.0),
        ("YES.", "yes", 1.0),
        ("", "yes", 0.0),
        ("The The", "The The", 1.0),  # of which the official rule leaves nothing
        ("the the.", "The The", 1.0),
        ("The", "The The", 0.0),
        ("", "The The", 0.0),
        ("!!!", "The The", 0.0),
        ("!!!", "!!!", 1.0),
        ("The The", "!!!", 0.0),
        ("", "!!!", 0.0),
        ("", "", 0.0),
    ],
)
def test_exact_match_and_token_f1(prediction, reference, score):
    assert exact_match_score(prediction, reference) == (score == 1 and prediction != "York New", score)


def test_normalised_answers():
    assert normalised_answer(' "The" Man\twith a\n Golden-Gun! ') == "man with goldengun"
    assert normalised_answer("theatre an-other A") == "theatre another"
    assert normalised_answer("It\u2019s \u00c9mile") == "it\u2019s \u00e9mile"  # officially ASCII punctuation alone


@pytest.mark.parametrize(
    ("text", "read"),
    [
        *((text, True) for text in ("yes", "Yes.", " YES! ", "true", "True", "**Yes**", "'yes'", "[yes]", "_yes_")),
        *((text, True) for text in ("Yes, because no law forbids it.", "The answer is yes.", "Final answer: Yes")),
        *((text, True) for text in ("Yes it would", "yes\nNo more is known.", "Yes, no law says so")),
        *((text, False) for text in ("no", "No.", "false", "FALSE", "No, it sank.", "No it is not", "no because")),
        *((text, False) for text in ("answer: no", "My answer is no, since", "No - never", "No (never)")),
        *((text, None) for text in ("", "maybe", "20", "yesterday", "nope", "Nobody", "November", "trueish", "Norway")),
        *((text, None) for text in ("yes and no", "Yes or no", "yes/no", "No. Yes.", "no, yes", "true or false?")),
        *(
            (text, None)
            for text in ("No one knows", "No evidence", "no information was found", "Probably not", "not yes")
        ),
        ("It's a mix, but generally No", None),
    ],
)
def test_yes_and_no_are_read(text, read):
    assert read_yes_no(text) is read


def test_yes_no_score():
    assert yes_no_score("Yes, it floats", "yes") == yes_no_score("false", "no") == Score(True, 1.0)
    assert yes_no_score("True", "yes") == yes_no_score("no", "False") == Score(True, 1.0)  # references of either kind
    assert yes_no_score("No", "yes") == yes_no_score("", "no") == yes_no_score("20", "no") == Score(False, 0.0)
    assert yes_no_score("perhaps", "perhaps") == Score(False, 0.0)


@given(st.text(max_size=250), st.text(max_size=250))
def test_any_text_gets_a_score_of_either_kind(prediction, reference):
    for score in (exact_match_score(prediction, reference), yes_no_score(prediction, reference)):
        assert 0 <= score.score <= 1 and (score.score == 1 or not score.success)
    if reference.strip():
        assert exact_match_score(reference, reference) == Score(True, 1.0)


@pytest.mark.parametrize("piece", [" ", "_", "\n", "no ", "yes", "answer", "the ", "it is hard to ", "!", "1,", "a b "])
def test_long_answers_take_no_long_time(piece):
    text = (piece * 100_000)[:100_000]
    start = time.process_time()
    for given_text in (text, f"no{text}x", f"answer {text}"):
        numeric_match(given_text, "3")
        exact_match_score(given_text, "a b")
        yes_no_score(given_text, "yes")
        is_abstention(given_text)
    assert time.process_time() - start < 1  # seconds; linear: some 0.05


# What others scored


@pytest.mark.parametrize("name", ["react_gpt-3.5_messages", "react_llama-2-7b_text"])
def test_hotpotqa_scores_are_those_recorded_with_the_trajectories(data, name):
    """Exact match and F1 of 465 and 500 answers, as the authors of the trajectories computed them."""
    records = json.loads((data / "hotpotqa" / f"{name}.json").read_text(encoding="utf-8")).values()
    assert len(records) in (465, 500)
    scored = [(record, exact_match_score(record["pred"], record["gt"])) for record in records]
    assert [r for r, s in scored if s.success != bool(r["em"]) or s.score != pytest.approx(r["f1"], abs=1e-9)] == []
    assert sum(success for _, (success, _) in scored) == {465: 200, 500: 131}[len(records)]


def test_strategyqa_scores_are_those_recorded_with_the_trajectories(data):
    """All 117 predictions; three of the 60 failures have none."""
    found = Counter()
    for name in ("positive", "negative"):
        for record in json.loads((data / "strategyqa" / f"sample_{name}.json").read_text(encoding="utf-8")):
            info = record["info"]
            if "pred" not in info:
                continue
            success, _ = yes_no_score(info["pred"], str(info["gt"]))
            assert success == info["reward"], info
            kind = "right" if success else "abstained" if is_abstention(info["pred"]) else "wrong_answer"
            found[kind, info["pred"].split()[0]] += 1
    assert found == {
        ("right", "Yes"): 22,
        ("right", "No"): 38,
        ("wrong_answer", "Yes"): 18,
        ("wrong_answer", "No"): 29,
        ("wrong_answer", "20"): 1,
        ("wrong_answer", "It's"): 1,  # "It's a mix, but generally No"
        ("abstained", "Unclear"): 2,
        ("abstained", "Uncertain"): 2,
        ("abstained", "Maybe"): 1,
        ("abstained", "It's"): 1,  # "It's possible, but more research is needed to determine ..."
        ("abstained", "The"): 1,  # "The Seven Deadly Sins ... it is difficult to definitively determine if ..."
        ("abstained", "There"): 1,  # "There is no specific study or source addressing ..."
    }
