"""Checks of text: languages mixed within a trajectory, odd characters."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

from nat.quality.marks import Check, Mark, View
from nat.types import Trajectory

FOREIGN_SHARE = 0.2  # of a turn's letters, from which it is mixed


FOREIGN_LETTERS = 12  # the fewest: a formula's Greek letters and a name are no other language


_ACTION_LINE = re.compile(r"^[ \t*]{0,8}action[ \t]{0,4}[0-9]{0,3}[*_]{0,2}[:\uff1a].*$", re.I | re.M)


_LABELS = re.compile(
    r"^[ \t*]{0,8}(?:thought|(?:final[ \t]{1,4})?answer)[ \t]{0,4}[0-9]{0,3}[*_]{0,2}[:\uff1a]", re.I | re.M
)


# What a name in its own script stands in: brackets and quotation marks.
_NAMES = re.compile(
    r"\([^()\n]{0,200}\)|\uff08[^\uff08\uff09\n]{0,200}\uff09|\"[^\"\n]{0,200}\"|\u201c[^\u201c\u201d\n]{0,200}\u201d"
    r"|\u300c[^\u300c\u300d\n]{0,200}\u300d|\u300a[^\u300a\u300b\n]{0,200}\u300b|\u00ab[^\u00ab\u00bb\n]{0,200}\u00bb"
)


# Japanese mixes three scripts and Chinese words; which language a Chinese word belongs to, its letters do not tell.
_SCRIPTS = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "KATAKANA-HIRAGANA": "CJK", "BOPOMOFO": "CJK", "FULLWIDTH": "LATIN"}


_NO_SCRIPTS = ("MATHEMATICAL", "MODIFIER", "DOUBLE-STRUCK", "SCRIPT", "SUPERSCRIPT", "SUBSCRIPT", "MICRO", "FEMININE")


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    """The script of a character by its Unicode name; empty where it is no letter of any."""
    if not letter.isalpha():
        return ""
    name = re.split("[ -]", unicodedata.name(letter, ""), maxsplit=1)[0]
    return "" if name in _NO_SCRIPTS else _SCRIPTS.get(name, name)


def _scripts(text: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for letter, count in Counter(text).items():
        if script := _script(letter):
            counts[script] += count
    return counts


def _shown(script: str) -> str:
    return "Chinese or Japanese" if script == "CJK" else script.title()


def _mixed_languages(view: View) -> Iterator[Mark]:
    """Turns of which a good part is in another script; actions (queries and names) and names in brackets do not count.

    Two languages of one script are not told apart.
    """
    if view.joined.isascii():
        return
    trajectory = view.trajectory
    asked = _scripts(trajectory.question)
    if not asked:
        return
    main = max(asked, key=lambda script: asked[script])
    for i, message in enumerate(trajectory.messages):
        if message.role != "assistant" or (main == "LATIN" and message.content.isascii()):
            continue
        text = _NAMES.sub(" ", _LABELS.sub("", _ACTION_LINE.sub("", message.content)))
        found = _scripts(text)
        letters = found.total()
        foreign = letters - found[main]
        if foreign >= FOREIGN_LETTERS and foreign >= FOREIGN_SHARE * letters:
            del found[main]
            other = max(found, key=lambda script: found[script])
            detail = f"{foreign} of {letters} letters are not {_shown(main)}, most of them {_shown(other)}"
            yield Mark("mixed_languages", i, 0, len(message.content), detail)


def texts_of(trajectory: Trajectory) -> Iterator[tuple[int | None, str]]:
    """The question (None) and the contents of all messages, by index."""
    yield None, trajectory.question
    yield from enumerate(message.content for message in trajectory.messages)


_ODD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffd\ufeff\ufffe\uffff\ud800-\udfff]")


def _odd_characters(view: View) -> Iterator[Mark]:
    """One mark a text: its first odd character, and how many there are of which."""
    if not _ODD.search(view.joined):
        return
    for i, text in texts_of(view.trajectory):
        found = _ODD.search(text)
        if found:
            counts = Counter(_ODD.findall(text)).most_common(3)
            detail = ", ".join(f"{count} x U+{ord(character):04X}" for character, count in counts)
            yield Mark("odd_characters", i, found.start(), found.end(), detail)


CHECKS = (
    Check(
        name="mixed_languages",
        place=70,
        severity="note",
        unit="turns",
        says="A turn of the agent is to a good part in another script than the question.",
        remedy="If the agent should keep to the language of the question, drop these (quality.mixed_languages=true).",
        find=_mixed_languages,
        rule="count",
        asks="is this the language that the agent should write?",
    ),
    Check(
        name="odd_characters",
        place=120,
        severity="note",
        unit="messages",
        says="A text holds null bytes, control characters, byte order marks or replacement characters.",
        remedy="These are traces of a wrong encoding: read the source again as what it is (iconv -f ... -t UTF-8).",
        find=_odd_characters,
        rule="count",
    ),
)
