"""The words and numbers of a question, by which nearly equal ones are found."""

from __future__ import annotations

import re
import unicodedata

# Signs between numbers say what is asked, other punctuation does not: "3 - 4" and "3 + 4" are two questions.
_WORD = re.compile(r"\d+(?:\.\d+)?|\w+|[+*/=%^<>$€£\u00d7\u00f7\u221a]|(?<![^\W\d])-(?=\s?[\d(])")


_DIGIT_GROUPS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def words_of(question: str) -> str:
    """Lower-case words, numbers and the signs between numbers, single spaces between them."""
    unified = unicodedata.normalize("NFKC", question).casefold()
    return " ".join(_WORD.findall(_DIGIT_GROUPS.sub("", unified))) or " ".join(unified.split())


def numbers_of(question: str) -> list[str]:
    """The numbers of a question and the signs between them, in order: where they differ, another thing is asked."""
    return [word for word in words_of(question).split() if not word[0].isalpha() and word[0] != "_"]
