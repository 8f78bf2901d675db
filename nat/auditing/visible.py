"""Text from data files, made safe to look at: what cannot be seen, or moves other text, is written out by its code.

A control character could drive the terminal, a bidirectional override could make a file name or a label read as
another; both are what an audit has to show, not to obey.
"""

from __future__ import annotations

import re

# C0 (without tab and newline), DEL, C1, soft hyphen, zero-width and bidirectional controls, line separators,
# byte-order mark, interlinear marks, lone surrogates, tag characters. Joiners (U+200C, U+200D) belong to scripts and
# emoji and stay.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def code(character: str) -> str:
    """Its code point, as in "U+202E"."""
    return f"U+{ord(character):04X}"


def is_seen(text: str) -> bool:
    """Whether the text has no unseen character."""
    # None of them is printable, which takes a tenth of the time to tell.
    return text.isprintable() or text.replace("\n", "").isprintable() or UNSEEN.search(text) is None


def visible(text: object) -> str:
    """The text with every unseen character as its code in brackets: "⟨U+202E⟩"."""
    text = str(text)
    return text if is_seen(text) else UNSEEN.sub(lambda found: f"⟨{code(found[0])}⟩", text)


def runs(text: str) -> tuple[tuple[str, str], ...]:
    """The text in order as (what can be seen, code of the unseen character behind it); the last has no code."""
    found, place = [], 0
    for each in UNSEEN.finditer(text):
        found.append((text[place : each.start()], code(each[0])))
        place = each.end()
    return (*found, (text[place:], ""))


def one_line(text: object) -> str:
    """`visible`, with line breaks and runs of blanks as one blank."""
    return visible(" ".join(str(text).split()))
