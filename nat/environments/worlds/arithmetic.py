"""A world of multi-step word problems, generated from a seed, and a scripted policy that errs at a set rate.

One question and what a faultless agent does on it:

    Nora owns 42 stamps. She sells 7. Ivo is 31 years old. The pile doubles. How many stamps are there now?

    Thought: Subtract.          Thought: Multiply.          Thought: Done.
    Action: calculate[42-7]     Action: calculate[35*2]     Action: finish[70]
    (35)                        (70)

Which verb means which operation, and which numbers do not count, is what a model has to learn.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from random import Random
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field
from pydantic.dataclasses import dataclass

from nat.agents.actions import render_turn
from nat.agents.scoring import numeric_score
from nat.core.schema import STRICT, Share
from nat.environments.worlds.knowledge_base import Split
from nat.environments.worlds.scripted import Policy, draw_error
from nat.tools.calculator import CALCULATOR, format_number
from nat.types import Environment, Message, Question

Step: TypeAlias = tuple[str, str]  # an operator, one of + - * /, and the number's text, applied to the running value

THOUGHTS: Mapping[str, str] = {"+": "Add.", "-": "Subtract.", "*": "Multiply.", "/": "Divide."}
FINISH_THOUGHT = "Done."

# (text, number): a number of None is drawn and told in the text, any other is meant by the verb itself.
TEMPLATES: Mapping[str, tuple[tuple[str, int | None], ...]] = {
    "+": (
        ("{she} finds {n}.", None),
        ("{she} is handed {n}.", None),
        ("{she} buys {n}.", None),
        ("{she} wins {n}.", None),
        ("{she} earns {n}.", None),
        ("{she} gets {n} by post.", None),
        ("{she} collects {n}.", None),
        ("{she} picks up {n}.", None),
        ("A friend brings {n}.", None),
        ("Grandma sends {n}.", None),
        ("{she} digs out {n}.", None),
        ("{she} unpacks {n}.", None),
        ("{she} borrows {n}.", None),
        ("{n} turn up in a drawer.", None),
        ("{n} arrive in a parcel.", None),
        ("{she} inherits {n}.", None),
        ("{she} makes {n}.", None),
        ("{she} swaps a hat for {n}.", None),
        ("{she} scoops up {n}.", None),
        ("{she} is awarded {n}.", None),
        ("{she} gathers {n}.", None),
        ("A neighbour leaves {n} at the door.", None),
    ),
    "-": (
        ("{she} sells {n}.", None),
        ("{she} mails off {n}.", None),
        ("{she} loses {n}.", None),
        ("{she} gives {n} away.", None),
        ("{she} breaks {n}.", None),
        ("{she} hands over {n}.", None),
        ("{she} spends {n}.", None),
        ("{she} donates {n}.", None),
        ("{she} lends a cousin {n}.", None),
        ("{she} throws out {n}.", None),
        ("{she} drops {n} in a well.", None),
        ("{n} go missing.", None),
        ("{n} are stolen.", None),
        ("{she} pays {n} as a fee.", None),
        ("{she} trades {n} for a hat.", None),
        ("{she} ships {n} abroad.", None),
        ("A dog runs off with {n}.", None),
        ("{she} forgets {n} on a train.", None),
        ("{she} buries {n}.", None),
        ("{she} forfeits {n}.", None),
        ("{she} burns {n}.", None),
        ("{n} fall off a cart.", None),
    ),
    "*": (
        ("The pile doubles.", 2),
        ("The pile triples.", 3),
        ("The hoard quadruples.", 4),
        ("The stock grows {n}-fold.", None),
        ("A wizard turns each into {n}.", None),
        ("Soon there are {n} such piles.", None),
        ("Each one becomes {n}.", None),
        ("{she} copies it to have {n} sets.", None),
    ),
    "/": (
        ("{she} keeps half.", 2),
        ("Only a third stays.", 3),
        ("A quarter remains.", 4),
        ("It is split among {n}; {she_} keeps one share.", None),
        ("{she} keeps one of {n} equal heaps.", None),
        ("Just one in {n} survives.", None),
        ("The stock shrinks {n}-fold.", None),
        ("Every {n} melt into one.", None),
    ),
}
# Sentences that no usual question has and no built-in model was pre-trained on: for asking what training did not show.
OTHER_TEMPLATES: Mapping[str, tuple[tuple[str, int | None], ...]] = {
    "+": (
        ("{she} receives {n}.", None),
        ("{she} adds {n}.", None),
        ("{she} harvests {n}.", None),
        ("{she} rescues {n}.", None),
        ("An uncle presents {n}.", None),
        ("{n} wash ashore.", None),
    ),
    "-": (
        ("{she} discards {n}.", None),
        ("{she} returns {n}.", None),
        ("{she} surrenders {n}.", None),
        ("{she} crushes {n}.", None),
        ("A thief grabs {n}.", None),
        ("{n} sink in a lake.", None),
    ),
    "*": (
        ("The heap swells {n}-fold.", None),
        ("Every one splits into {n}.", None),
        ("The lot is multiplied by {n}.", None),
    ),
    "/": (
        ("The lot is divided by {n}.", None),
        ("{she} retains one in {n}.", None),
        ("The heap dwindles {n}-fold.", None),
    ),
}
DISTRACTORS = (
    "{other} is {n} years old.",
    "{other} has {n} {things}.",
    "A ticket costs {n} dollars.",
    "The bus takes {n} minutes.",
    "The shop opens at {n}.",
    "It is {n} degrees outside.",
    "{other} lives at number {n}.",
    "The book has {n} pages.",
)
OPENINGS = ("{name} has {n} {things}.", "{name} owns {n} {things}.", "There are {n} {things} in a box of {name}.")
CLOSINGS = ("How many {things} are there now?", "How many {things} is that?", "What is the count now?")
PEOPLE = (
    ("Nora", "She"), ("Ivo", "He"), ("Mara", "She"), ("Tom", "He"), ("Lena", "She"), ("Omar", "He"), ("Ruth", "She"),
    ("Finn", "He"), ("Ada", "She"), ("Hugo", "He"), ("Zoe", "She"), ("Emil", "He"),
)  # fmt: skip
THINGS = ("shells", "marbles", "stamps", "cards", "beads", "buttons", "stones", "nuts", "pens", "stickers")
LEDGER_THINGS = ("points", "credits")  # counts that may fall below zero

LARGEST = 9999  # bound on any value that a question or an erring step leads to, so that numbers stay short


@dataclass(frozen=True, config=STRICT)
class Range:
    """Whole numbers from `min` to `max`, both included."""

    min: int
    max: int

    def __post_init__(self) -> None:
        if not 0 <= self.min <= self.max:
            raise ValueError(f"min and max must satisfy 0 <= min <= max, got {self.min} and {self.max}")


@dataclass(frozen=True, config=STRICT)
class ErrorWeights:
    """Relative frequencies of the scripted policy's kinds of error."""

    wrong_operator: Annotated[float, Field(ge=0)]
    wrong_number: Annotated[float, Field(ge=0)]
    skipped_step: Annotated[float, Field(ge=0)]
    early_stop: Annotated[float, Field(ge=0)]
    wrong_finish: Annotated[float, Field(ge=0)]

    def __post_init__(self) -> None:
        if not any(vars(self).values()):
            raise ValueError("at least one weight must be above 0")


@dataclass(frozen=True, config=STRICT)
class ArithmeticConfig:
    """The world and its scripted policy; the values and their meanings stand in conf/environment/arithmetic.yaml."""

    name: str
    kind: Literal["arithmetic"]
    instructions: str
    questions: None
    seed: int
    steps: Range
    distractors: Range
    start: Range
    amount: Range
    factor: Range
    factor_share: Share
    decimal_share: Share
    negative_share: Share
    other_verbs_share: Share
    max_turns: Annotated[int, Field(ge=1)]
    failure_rate: Share
    errors: ErrorWeights
    attempts_per_question: Annotated[int, Field(ge=1)]

    def __post_init__(self) -> None:
        if self.steps.min < 1 or self.start.min < 1 or self.amount.min < 1 or self.factor.min < 2:
            raise ValueError("steps.min, start.min and amount.min must be at least 1, factor.min at least 2")
        if max(self.start.max, self.amount.max) > 999 or self.factor.max > 12:
            raise ValueError("start.max and amount.max must be at most 999, factor.max at most 12")
        if self.decimal_share + self.negative_share > 1:
            raise ValueError("decimal_share and negative_share must not add up to more than 1")
        if self.decimal_share > 0 and self.factor_share == 0:
            raise ValueError("decimal_share above 0 needs divisions: factor_share must be above 0")


def make_environment(config: ArithmeticConfig) -> Environment:
    """The calculator and numeric scoring: `12.50` and `12.5` are the same answer."""
    return Environment(config.name, config.instructions, (CALCULATOR,), numeric_score, config.max_turns)


# Questions


def split_of(text: str) -> Split:
    """The split that a question's text belongs to: a hash of the text with its numbers masked.

    A function of the text alone, so splits share no question whatever the seeds, not even with other numbers.
    """
    masked = re.sub(r"\d+", "#", " ".join(text.lower().split()))
    bucket = int.from_bytes(hashlib.sha256(masked.encode()).digest()[:4]) % 10
    return "test" if bucket == 0 else "validation" if bucket == 1 else "train"


def endless_questions(config: ArithmeticConfig, split: Split) -> Iterator[Question]:
    """No text twice."""
    rng = Random(f"arithmetic questions {config.seed} {split}")
    seen: set[str] = set()
    while True:
        question = _draw_question(config, rng, f"arithmetic-{config.seed}-{split}-{len(seen):05d}")
        if question.text not in seen and split_of(question.text) == split:
            seen.add(question.text)
            yield question


def apply_steps(start: str, steps: Iterable[Step]) -> Iterator[Fraction]:
    """The exact running value after each step."""
    value = Fraction(start)
    for operator, number in steps:
        value = _apply(value, operator, number)
        yield value


def _apply(value: Fraction, operator: str, number: str) -> Fraction:
    other = Fraction(number)
    if operator == "+":
        return value + other
    if operator == "-":
        return value - other
    return value * other if operator == "*" else value / other


def _is_short(value: Fraction) -> bool:
    return abs(value) <= LARGEST and (value * 100).denominator == 1


def _draw_question(config: ArithmeticConfig, rng: Random, question_id: str) -> Question:
    draw = rng.random()
    values_kind = "plain"
    if draw < config.decimal_share:
        values_kind = "decimal"
    elif draw < config.decimal_share + config.negative_share:
        values_kind = "negative"
    start, steps, texts = _draw_story(config, rng, values_kind)
    (name, she), (other, _) = rng.sample(PEOPLE, 2)
    things = rng.choice(LEDGER_THINGS if values_kind == "negative" else THINGS)
    words = {"name": name, "she": she, "she_": she.lower(), "other": other, "things": things}
    sentences = [text.format(n=number, **words) for text, (_, number) in zip(texts, steps, strict=True)]
    distracting = []
    for text in rng.sample(DISTRACTORS, rng.randint(config.distractors.min, config.distractors.max)):
        number = str(rng.randint(config.amount.min, config.amount.max))
        distracting.append(number)
        sentences.insert(rng.randint(0, len(sentences)), text.format(n=number, **words))
    opening = rng.choice(OPENINGS).format(n=start, **words)
    closing = rng.choice(CLOSINGS).format(**words)
    answer = format_number(list(apply_steps(start, steps))[-1])
    metadata: dict[str, Any] = {
        "start": start,
        "steps": [list(step) for step in steps],
        "distracting": distracting,
        "values": values_kind,
    }
    return Question(question_id, " ".join([opening, *sentences, closing]), answer, metadata)


def _draw_story(config: ArithmeticConfig, rng: Random, values_kind: str) -> tuple[str, tuple[Step, ...], list[str]]:
    """Draws until a running value is of the wanted kind: with decimals, or negative; else all are whole and >= 0."""
    while True:
        start = str(rng.randint(config.start.min, config.start.max))
        values = [Fraction(start)]
        drawn: list[tuple[Step, str]] = []
        n_steps = rng.randint(config.steps.min, config.steps.max)
        for _ in range(40 * n_steps):  # few draws fail, but a large prime can neither be divided nor multiplied
            step, text = _draw_step(config, rng)
            value = _apply(values[-1], *step)
            whole_enough = value.denominator == 1 or values_kind == "decimal"
            if whole_enough and (value >= 0 or values_kind == "negative") and _is_short(value):
                drawn.append((step, text))
                values.append(value)
            if len(drawn) == n_steps:
                break
        has_kind = {
            "plain": True,
            "decimal": any(value.denominator > 1 for value in values),
            "negative": any(value < 0 for value in values),
        }[values_kind]
        if len(drawn) == n_steps and has_kind:
            return start, tuple(step for step, _ in drawn), [text for _, text in drawn]


def _draw_step(config: ArithmeticConfig, rng: Random) -> tuple[Step, str]:
    operator = rng.choice(("*", "/") if rng.random() < config.factor_share else ("+", "-"))
    # Without a share nothing is drawn, so that usual questions are what they were before there was one.
    other = config.other_verbs_share > 0 and rng.random() < config.other_verbs_share
    text, implied = rng.choice((OTHER_TEMPLATES if other else TEMPLATES)[operator])
    limits = config.factor if operator in ("*", "/") else config.amount
    return (operator, str(implied or rng.randint(limits.min, limits.max))), text


# The scripted fallible policy


def scripted_policy(config: ArithmeticConfig, question: Question, rng: Random) -> tuple[Policy, list[str]]:
    """A policy that knows the steps in `question.metadata` and errs at each with `config.failure_rate`.

    Returns it with the kinds of its planned errors, in order. A thought always fits its action, erring or not.
    """
    start: str = question.metadata["start"]
    true_steps: list[Step] = [(operator, number) for operator, number in question.metadata["steps"]]
    told = [start, *(number for _, number in true_steps), *question.metadata["distracting"]]
    taken: list[Step] = []
    errors: list[str] = []
    value = Fraction(start)
    drawn = [draw_error(config.errors, config.failure_rate, rng) for _ in true_steps]
    for step, kind in zip(true_steps, drawn, strict=True):
        if kind is not None:
            errors.append(kind)
        if kind == "early_stop":
            break
        if kind == "skipped_step":
            continue
        if kind in ("wrong_operator", "wrong_number"):
            step = _err(kind, step, value, told, rng)
        taken.append(step)
        value = _apply(value, *step)
    passed = [start, *map(format_number, apply_steps(start, taken))]
    answer = passed[-1]
    if "wrong_finish" in errors:
        answer = rng.choice([text for text in [*passed, *told] if text != passed[-1]])

    def policy(messages: tuple[Message, ...]) -> str:
        observations = [message.content for message in messages if message.role == "tool"]
        if len(observations) == len(taken):
            return render_turn(FINISH_THOUGHT, "finish", answer)
        operator, number = taken[len(observations)]
        running = observations[-1] if observations else start
        return render_turn(THOUGHTS[operator], "calculate", f"{running}{operator}{number}")

    return policy, errors


def _err(kind: str, step: Step, value: Fraction, told: list[str], rng: Random) -> Step:
    """Another operator, or another number of the text, where possible with a short result: length must not tell."""
    operator, number = step
    operators: list[Step] = [(other, number) for other in TEMPLATES if other != operator]
    numbers: list[Step] = [(operator, other) for other in told if other != number]
    # Dividing by another number rarely comes out short: the policy then mixes up the operator instead.
    preferred = _short(numbers, value) if kind == "wrong_number" else []
    return rng.choice(preferred or _short(operators, value) or operators)


def _short(steps: list[Step], value: Fraction) -> list[Step]:
    return [step for step in steps if _is_short(_apply(value, *step))]
