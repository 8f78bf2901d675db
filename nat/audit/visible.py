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


def visible(text: object) -> str:
    """The text with every unseen character as its code in brackets: "⟨U+202E⟩"."""
    return UNSEEN.sub(lambda found: f"⟨{code(found[0])}⟩", str(text))


def one_line(text: object) -> str:
    """`visible`, with line breaks and runs of blanks as one blank."""
    return visible(" ".join(str(text).split()))
