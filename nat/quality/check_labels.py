"""Checks for texts that tell the label: a conditioning text, a reward, a verdict in the agent's words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from nat.quality.check_observations import SHOWN
from nat.quality.check_texts import texts_of
from nat.quality.marks import Check, Mark, View


class _Words(NamedTuple):
    anywhere: re.Pattern[str] | None
    in_front: re.Pattern[str] | None  # `[A]`, `[1]`: footnotes, unless a prompt begins with one
    needles: tuple[str, ...]  # lower case: without any of these, nothing can be found


@lru_cache(maxsize=16)
def _words(texts: tuple[str, ...]) -> _Words:
    starred = {word for text in texts for word in re.findall(r"\*\*[^*\n]+\*\*", text)}
    wanted = {text.strip() for text in texts if text.strip()} - starred
    short = {text for text in wanted if re.fullmatch(r"\W*\w?\W*", text)}
    # A sentence that holds a starred word is found by it.
    rest = {text for text in wanted - short if not any(word in text for word in starred)} | starred
    return _Words(_any_of(rest, ""), _any_of(short, r"(?=\s)"), tuple(sorted(text.lower() for text in rest)))


def _any_of(texts: Iterable[str], after: str) -> re.Pattern[str] | None:
    # The longest first: "... solve this incorrectly." before a text that it may begin with.
    options = "|".join(re.escape(text) for text in sorted(texts, key=lambda text: (-len(text), text)))
    return re.compile(rf"(?:{options}){after}", re.I) if options else None


def _conditioning_words(view: View) -> Iterator[Mark]:
    trajectory, words = view.trajectory, _words(view.settings.conditioning_texts)
    if words.anywhere is not None and any(needle in view.lower for needle in words.needles):
        for i, text in texts_of(trajectory):
            for found in words.anywhere.finditer(text):
                yield Mark("conditioning_words", i, found.start(), found.end(), found[0][:SHOWN])
    if words.in_front is not None:
        asked = [(i, m.content) for i, m in enumerate(trajectory.messages) if m.role in ("user", "system")]
        for i, text in [(None, trajectory.question), *asked]:
            found = words.in_front.match(text)
            if found:
                yield Mark("conditioning_words", i, found.start(), found.end(), found[0])


_VALUE = r"(?:true|false|success|failure|[01](?:\.[0-9]{1,6})?)(?![\w%:/-]|[.,][0-9])"


_LABEL = re.compile(
    rf"""
    (?<![\w$]) (?:
      episode\ finished, \s? reward \s?=\s? [\w.-]{{1,20}}
    | (?:reward|is_correct|is_success|success|score) ["']? \s{{0,2}} [=:] \s{{0,2}} ["']? {_VALUE}
    | (?-i: Answer\ is\ (?:IN)?CORRECT ) (?!\w)
    )
    """,
    re.VERBOSE | re.I,
)


_LABEL_NEEDLES = ("reward", "is_correct", "success", "score", "answer is incorrect", "answer is correct")


def tells_label(text: str) -> bool:
    """Whether a text gives the label away, also one that a reader has set aside (`metadata["final_observation"]`)."""
    return _LABEL.search(text) is not None


def _labels(view: View) -> Iterator[Mark]:
    trajectory = view.trajectory
    if not any(needle in view.lower for needle in _LABEL_NEEDLES):
        return
    turns = [i for i, message in enumerate(trajectory.messages) if message.role == "assistant"]
    last = turns[-1] if turns else -1
    for i, text in texts_of(trajectory):
        for found in _LABEL.finditer(text):
            place = -1 if i is None else i
            where = "before" if place < last else "in" if place == last else "after"
            yield Mark(
                "label_in_text", i, found.start(), found.end(), f"{found[0][:SHOWN]!r} {where} the agent's last turn"
            )


CHECKS = (
    Check(
        name="conditioning_words",
        place=100,
        severity="error",
        unit="places",
        says="Words by which a strategy tells classes apart stand in the data already.",
        remedy=(
            "The model would meet them in both classes: take them out of the texts, or choose a strategy with other "
            "words."
        ),
        find=_conditioning_words,
        rule="count",
    ),
    Check(
        name="label_in_text",
        place=110,
        severity="error",
        unit="places",
        says="A text that the model sees tells whether the trajectory succeeded.",
        remedy=(
            "The model would read its label instead of judging its steps: cut these texts off, or drop the "
            "trajectories (quality.label_in_text=true)."
        ),
        find=_labels,
        rule="count",
    ),
)
