"""Checks for texts that tell the label: a conditioning text, a reward, a verdict in the agent's words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from nat.agents.kinds import called
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


# ---- labels ----


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


# What stands so only where an environment or a judge says it, also among code.
_VERDICT = re.compile(
    r"(?<![\w$])episode\ finished, \s? reward \s?=|(?-i:Answer\ is\ (?:IN)?CORRECT)", re.VERBOSE | re.I
)
_RESULT = re.compile(r"(?:success|score)", re.I)  # what a structured call says of itself: it worked
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]{1,200}`|<(execute_\w+|tool_code|code)>.*?(?:</\1>|\Z)", re.DOTALL)
_CODE_TOOL = re.compile(
    r"(?:^|[_.-])(?:bash|sh|shell|terminal|console|python|ipython|jupyter|node|code|exec|execute|run|command|cmd|script"
    r"|edit|editor|patch|file|files|sql|repl|interpreter|grep|cat|ls|test|tests|lint|compile|write|read|view|open"
    r"|create|commit|git|submit)(?:$|[_.-])|str_replace|(?-i:Bash|Edit|Write|Read|Grep|Glob|Notebook|Python|Code|Shell)",
    re.I,
)


def _labels(view: View) -> Iterator[Mark]:
    trajectory = view.trajectory
    if not any(needle in view.lower for needle in _LABEL_NEEDLES):
        return
    turns = [i for i, message in enumerate(trajectory.messages) if message.role == "assistant"]
    last = turns[-1] if turns else -1
    found_in = [(i, text, found) for i, text in texts_of(trajectory) if (found := list(_LABEL.finditer(text)))]
    codes = bool(found_in) and _codes(view)
    for i, text, labels in found_in:
        code = [span.span() for span in _CODE.finditer(text)] if "`" in text or "<" in text else []
        for found in labels:
            if not _tells(view, i, found, last, codes, code):
                continue
            place = -1 if i is None else i
            where = "before" if place < last else "in" if place == last else "after"
            yield Mark(
                "label_in_text", i, found.start(), found.end(), f"{found[0][:SHOWN]!r} {where} the agent's last turn"
            )


def _tells(
    view: View,
    message: int | None,
    found: re.Match[str],
    last: int,
    codes: bool,
    code: Sequence[tuple[int, int]],
) -> bool:
    """Whether what looks like a label tells it: code, and what a tool returns of itself, does not.

    Args:
        last: the agent's last turn.
        codes: the agent writes code, or works on it.
        code: spans of the text that are marked as code.
    """
    if _VERDICT.match(found[0]):
        return not any(start <= found.start() < end for start, end in code)
    if any(start <= found.start() < end for start, end in code):
        return False
    role = "user" if message is None else view.trajectory.messages[message].role
    if role == "tool":
        if view.agent.writes == "native_calls" and _RESULT.match(found[0]):
            return False
        return not codes
    if not codes:
        return True
    # Among code, an assignment is code wherever it stands; what the user says after the end is none.
    after = message is not None and message > last
    return role == "user" and (after or ":" in found[0])


def _codes(view: View) -> bool:
    """Whether the agent writes code or works on it: by code blocks of its own, commands, or the names of its tools."""
    messages, agent = view.trajectory.messages, view.agent
    if agent.commands or any("```" in m.content for m in messages if m.role == "assistant"):
        return True
    return any(
        _CODE_TOOL.search(name) is not None
        for i, action in agent.actions.items()
        for name in called(messages[i], action)
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
        asks="do these words tell the label?",
    ),
)
