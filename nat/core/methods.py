"""The methods that are compared: the one list of their names, words, looks and order.

A new one is an entry here. What a run is called follows from what it trained on and how
(`nat.config.tree.Config.method`): of its objective's entries, `of_objective` finds the one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Look:
    """How a series is told apart in pictures: in colour, and without it."""

    colour: str
    marker: str
    line: Any  # Matplotlib's line style
    hatch: str


@dataclass(frozen=True)
class Method:
    """One entry. `look` is None where a method takes the next of the spare ones.

    `objective` is the training objective of which a run on failures is called so; None where a method is called by its
    mixing alone, whatever trains. An objective may have several entries: by what its prompts tell.
    """

    name: str  # in results, tables and file names
    shown: str  # in pictures
    words: str  # in a sentence
    look: Look | None
    objective: str | None = None
    is_marked: bool = False  # the prompt tells successes from failures
    is_graded: bool = False  # by more than success and failure


GRADED = Look("#009E73", "D", (0, (5, 1, 1, 1)), "xxxx")
# In the order of a report's rows. Colours are Okabe and Ito's; those that stand out most on white are taken first.
METHODS: tuple[Method, ...] = (
    Method("base", "untrained", "the untrained model", Look("#6f6f6f", "X", (0, (1, 1.5)), ""), "none"),
    Method("positive_only", "positives only", "the successes alone", Look("#CC79A7", "s", "-.", "----")),
    Method("replaced", "failures replaced", "further successes", None),
    Method("nut", "NUT", "NUT", Look("#D55E00", "o", "--", "////"), "sft"),
    Method("nat", "NAT", "NAT", Look("#0072B2", "^", "-", ""), "sft", is_marked=True),
    Method("nat_graded", "NAT, graded", "graded NAT", GRADED, "sft", is_marked=True, is_graded=True),
)
BY_NAME = {method.name: method for method in METHODS}
ORDER = {method.name: place for place, method in enumerate(METHODS)}
MARKED = tuple(method.name for method in METHODS if method.is_marked)
UNTRAINED = "base"
REFERENCE = "positive_only"  # what every other method is compared with
REPLACED = "replaced"
UNMARKED = "nut"  # what the effect of a text is measured against
UNNAMED = "unnamed"  # the strategy of a text that others' file does not name


def of_objective(objective: str, is_marked: bool, is_graded: bool) -> Method:
    """What a run of an objective stands for: the entry that says the most of its prompts, and nothing that they lack.

    Raises ValueError where the table has none.
    """
    fitting = [
        method
        for method in METHODS
        if method.objective == objective and method.is_marked <= is_marked and method.is_graded <= is_graded
    ]
    if not fitting:
        raise ValueError(
            f"training.objective={objective}: nat/core/methods.py has no entry with objective={objective!r}"
        )
    return max(fitting, key=lambda method: (method.is_marked, method.is_graded))


def shown(name: str) -> str:
    """A method in a picture; those of others by the name they gave."""
    return BY_NAME[name].shown if name in BY_NAME else name
