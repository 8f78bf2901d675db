"""Is this answer the reference answer? Numbers by value, text by its words. Nothing is evaluated.

numeric_match("$1,800.00", "1800") == 1.0
numeric_match("18 dollars a day", "18") == 1.0
numeric_match("18 or 19", "18") == 0.0
"""

from __future__ import annotations

import re
from fractions import Fraction

# The calculator shows 8 significant digits, so an answer copied from it is nearer than this to the true value.
RELATIVE_TOLERANCE = Fraction(1, 10**6)
MAX_CHARACTERS = 200  # an answer longer than this is no number; also bounds the work

_NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_ANSWER = re.compile(
    rf"""
    (?: \#{{4}} \s* )?                                      # GSM8K's mark
    (?: (?:the\s+)? (?:final\s+)? answer \s* (?:is|:|=)? | [a-z] \s* = | = )? \s*
    (?P<sign> [-+]? ) \s* [$€£]? \s* (?P<inner_sign> -? )
    (?: (?P<whole> [0-9]+ ) \s+ (?= [0-9]+ \s* / ) )?       # the 1 of "1 1/2"
    (?P<top> {_NUMBER} )
    (?: \s* / \s* (?P<bottom> {_NUMBER} ) )?
    (?: e (?P<exponent> [-+]?[0-9]{{1,2}} ) )?
    \s* (?P<percent> %? )
    (?P<unit> [^0-9]* )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ABSTENTIONS = (
    "unknown|not known|none|null|nan|n/a|na|nothing|no answer|unanswerable|undetermined|unsure|not sure|uncertain|"
    "unclear|inconclusive|idk|not enough information|insufficient information|not given|not provided|impossible to say"
)
_ABSTAINED = re.compile(
    rf"\W*(?:(?:the )?(?:final )?answer (?:is|:) ?)?(?:{_ABSTENTIONS}|"
    r"(?:i |we |it )?(?:do not|don't|dont|cannot|can't|can not|could not|couldn't|am not|unable)\b.{0,80}?"
    r"\b(?:know|determined?|say|tell|answer|answered|find|found|sure|solve|calculate|compute).{0,80})\W*",
    re.IGNORECASE | re.DOTALL,
)


def numeric_match(prediction: str, reference: str) -> float:
    """1.0 if both name the same number, else 0.0; compared as text where the reference is no number.

    Integers must be equal; other values may differ by a relative 1e-6. A percent sign may be read either way, since a
    question that asks "what percentage" has the reference 50 and the answer "50%".
    """
    expected, given = read_numbers(reference), read_numbers(prediction)
    if not expected:
        return float(plain_text(prediction) == plain_text(reference) != "")
    return float(any(_same_number(a, b) for a in given for b in expected))


def read_numbers(text: str) -> tuple[Fraction, ...]:
    """The number that a text names, exactly; `50%` names two (50 and 1/2). Empty if it names none, or several."""
    text = text.strip().replace("\u2212", "-").replace("\\", "")
    match = _ANSWER.fullmatch(text) if len(text) <= MAX_CHARACTERS else None
    if match is None:
        return ()
    value = _fraction(match["top"])
    if match["bottom"]:
        if not _fraction(match["bottom"]):
            return ()
        value /= _fraction(match["bottom"])
    if match["whole"]:
        value += int(match["whole"])
    if match["exponent"]:
        value *= Fraction(10) ** int(match["exponent"])
    if (match["sign"] == "-") != (match["inner_sign"] == "-"):
        value = -value
    return (value, value / 100) if match["percent"] else (value,)


def is_abstention(prediction: str) -> bool:
    """True for an empty answer and for "unknown", "I don't know", "cannot be determined" and the like."""
    text = prediction.strip().replace("\u2019", "'")
    return not re.search(r"\w", text) or (len(text) <= MAX_CHARACTERS and _ABSTAINED.fullmatch(text) is not None)


def plain_text(text: str) -> str:
    """Lower case, without punctuation, single spaces: how answers that are no numbers are compared."""
    return " ".join(re.sub(r"[^\w\s]", " ", text.casefold()).split())


def _fraction(digits: str) -> Fraction:
    return Fraction(digits.replace(",", ""))


def _same_number(a: Fraction, b: Fraction) -> bool:
    if a.denominator == b.denominator == 1:
        return a == b
    return abs(a - b) <= RELATIVE_TOLERANCE * abs(b)
