"""Is this answer the reference answer? Numbers by value, text by its words, yes or no. Nothing is evaluated.

numeric_match("$1,800.00", "1800") == 1.0
numeric_match("18 dollars a day", "18") == 1.0
numeric_match("$1.8 million", "1800000") == 1.0
numeric_match("18 or 19", "18") == 0.0
exact_match_score("The Beatles", "beatles") == (True, 1.0)
exact_match_score("Paul McCartney", "Sir Paul McCartney") == (False, 0.8)
yes_no_score("Yes, because it floats.", "yes") == (True, 1.0)
"""

from __future__ import annotations

import re
import string
from collections import Counter
from fractions import Fraction

from nat.types import Score

# The calculator shows 8 significant digits, so an answer copied from it is nearer than this to the true value.
RELATIVE_TOLERANCE = Fraction(1, 10**6)
MAX_CHARACTERS = 200  # an answer longer than this is no number; also bounds the work

_NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_SCALES = {
    "hundred": 100,
    "thousand": 1000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
    "k": 1000,
}
_SCALE_WORDS = "|".join(word for word in _SCALES if len(word) > 1)
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
    (?P<scales> (?: [\s-]* (?: (?:{_SCALE_WORDS}) s? | k ) (?! [a-z] ) )* )
    # A unit that begins with such a word in another form ("hundredths", "text{{ million}}") makes another number.
    (?! \W* (?: (?:text|mathrm|mbox) \W* )? (?: {_SCALE_WORDS} | k \b ) )
    (?P<unit> [^0-9]* )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ABSTENTIONS = (
    "unknown|not known|none|null|nan|n/a|na|nothing|no answer|unanswerable|undetermined|unsure|not sure|uncertain|"
    "unclear|not clear|ambiguous|inconclusive|idk|not enough information|insufficient (?:information|data|evidence)|"
    "not (?:given|provided|specified|stated|mentioned|available|found|applicable|certain)|impossible to say|"
    "no (?:clear |definite |definitive )?(?:answer|information|data|evidence|results?)"
    "(?: (?:was |were )?(?:found|available))?|"
    "maybe|perhaps|possibly|possible|(?:it )?(?:may|might|could) be|(?:it )?(?:all )?depends(?: on .{0,80})?"
)
_ABSTAINED = re.compile(
    rf"\W*(?:(?:the )?(?:final )?answer (?:is|:) ?)?(?:(?:it|this|that) is )?(?:{_ABSTENTIONS}|"
    r"(?:i |we |it )?(?:do not|don't|dont|cannot|can't|can not|could not|couldn't|am not|unable)\b.{0,80}?"
    r"\b(?:know|determined?|say|tell|answer|answered|find|found|sure|solve|calculate|compute).{0,80})\W*",
    re.IGNORECASE | re.DOTALL,
)
# Said within a longer answer that commits to nothing: "... it is difficult to determine whether ..."
_HEDGED = re.compile(
    r"\b(?:difficult|hard|impossible|not possible|unable)(?: for \w+)? to (?:\w+ly )?"
    r"(?:determine|say|tell|know|answer|give)\b"
    r"|\bmore (?:research|information|data|context) (?:is|are|would be) (?:needed|required|necessary)\b"
    r"|\bthere is no (?:\w+ ){0,3}(?:answer|information|data|evidence|study|source)\b"
    r"|\b(?:cannot|can't|can not) be (?:\w+ly )?(?:determined|answered|known)\b",
    re.IGNORECASE,
)
MAX_HEDGE = 1000  # characters of an answer that are searched for a hedge
# The first word decides, unless its opposite follows at once ("yes and no", "Yes. No."); the "no" of "No one knows" is
# none. Repetitions are bounded so that a megabyte of spaces cannot make the search quadratic.
_YES_NO = re.compile(
    r"""
    \W{0,20} (?: (?: (?:the|my) \s{1,8} )? (?: final \s{1,8} )? answer \s{0,8} (?: is | : | = )? )? [\W_]{0,20}
    (?: (?P<yes> yes | true ) | (?P<no> no | false ) ) (?! [^\W_] )
    (?! \W{1,20} (?: and | or ) \W{1,20} (?(yes) (?: no | false ) | (?: yes | true ) ) \b )
    (?! \W{1,20} (?(yes) (?: no | false ) | (?: yes | true ) ) \s{0,20} (?: $ | [^\w\s] ) )
    (?(no) (?= [\W_]{0,20} $ | [\W_]{0,20} [^\w\s]
        | \s{1,20} (?: it|he|she|they|you|we|this|that|these|those|because|since|as|the ) \b ) )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_CLOSED = ("yes", "no", "noanswer")  # answers that are right or wrong, never half right


def numeric_match(prediction: str, reference: str) -> float:
    """1.0 if both name the same number, else 0.0; compared as text where the reference is no number.

    Integers must be equal; other values may differ by a relative 1e-6. A percent sign may be read either way, since a
    question that asks "what percentage" has the reference 50 and the answer "50%".
    """
    expected, given = read_numbers(reference), read_numbers(prediction)
    if not expected:
        return float(plain_text(prediction) == plain_text(reference) != "")
    return float(any(_same_number(a, b) for a in given for b in expected))


def numeric_score(prediction: str, reference: str) -> Score:
    """`numeric_match` as an environment's score: there is nothing between right and wrong."""
    match = numeric_match(prediction, reference)
    return Score(match == 1, match)


def exact_match_score(prediction: str, reference: str) -> Score:
    """HotpotQA's own metrics: success is normalised exact match, the score is token F1.

    F1 is the harmonic mean of the shares of common words, counted with their repetitions; it is 0 where one of two
    unequal answers is yes, no or noanswer. An answer of which the normalisation leaves nothing (the bands "The The"
    and "!!!" are answers) keeps its articles, or else its punctuation: by the official rule an empty answer would match
    both, with an F1 of 0.
    """
    given, expected = normalised_answer(prediction), normalised_answer(reference)
    if not expected:
        given, expected = _bare(prediction), _bare(reference)
        if not expected:
            given, expected = prediction.strip(), reference.strip()
        match = given == expected != ""
        return Score(match, float(match))
    if given == expected:
        return Score(True, 1.0)
    if given in _CLOSED or expected in _CLOSED:
        return Score(False, 0.0)
    words, wanted = given.split(), expected.split()
    common = (Counter(words) & Counter(wanted)).total()
    return Score(False, 2 * common / (len(words) + len(wanted)))


def normalised_answer(text: str) -> str:
    """HotpotQA's normalisation: lower case, then without ASCII punctuation, a, an, the, and superfluous spaces."""
    return " ".join(_ARTICLES.sub(" ", _bare(text)).split())


def yes_no_score(prediction: str, reference: str) -> Score:
    """StrategyQA's accuracy: both say yes, or both say no. A reference that says neither is never met."""
    given = read_yes_no(prediction)
    match = given is not None and given == read_yes_no(reference)
    return Score(match, float(match))


def read_yes_no(text: str) -> bool | None:
    """True for yes and true, False for no and false, in any case and with words after it; None for anything else.

    `Yes, because ...` and `The answer is no.` are read; `No one knows`, `yes and no` and `Probably not` are not.
    """
    match = _YES_NO.match(text)
    return None if match is None else match["yes"] is not None


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
    for scale in re.findall(rf"{_SCALE_WORDS}|k", match["scales"].lower()):
        value *= _SCALES[scale]
    if (match["sign"] == "-") != (match["inner_sign"] == "-"):
        value = -value
    return (value, value / 100) if match["percent"] else (value,)


def is_abstention(prediction: str) -> bool:
    """True for an answer that is none: empty, "unknown", "Maybe", "It depends", "I don't know" and the like.

    So is a longer text that neither says yes nor no and says that the matter cannot be decided ("... it is difficult to
    determine whether ...").
    """
    text = prediction.strip().replace("\u2019", "'")
    if not re.search(r"\w", text):
        return True
    if len(text) <= MAX_CHARACTERS and _ABSTAINED.fullmatch(text):
        return True
    return read_yes_no(text) is None and _HEDGED.search(text[:MAX_HEDGE]) is not None


def plain_text(text: str) -> str:
    """Lower case, without punctuation, single spaces: how answers that are no numbers are compared."""
    return " ".join(re.sub(r"[^\w\s]", " ", text.casefold()).split())


def _fraction(digits: str) -> Fraction:
    return Fraction(digits.replace(",", ""))


def _same_number(a: Fraction, b: Fraction) -> bool:
    if a.denominator == b.denominator == 1:
        return a == b
    return abs(a - b) <= RELATIVE_TOLERANCE * abs(b)


def _bare(text: str) -> str:
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split())
