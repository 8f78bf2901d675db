"""What the tiny model is pre-trained on: plainly worded arithmetic in the protocol of the built-in world.

    user       Use calculate[expression], then finish[answer].
               Start with 42. Subtract 7. Ignore 31. Multiply by 2. What is the result?
    assistant  Thought: Subtract.\\nAction: calculate[42-7]
    tool       35
    ...

No verb of the world's stories, none of its sentences, and no word that judges an answer stands in it; only the
tokenizer's vocabulary knows those words. Prompts vary in shape (sentences of random words around the problem, with or
without instructions and system turn), and a fourth of them carry an instruction that changes what is to be done, as the
training of any instruction-following model does.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from random import Random

from nat.agents.actions import render_turn
from nat.environments.worlds.arithmetic import FINISH_THOUGHT, LARGEST, THOUGHTS, Step, apply_steps
from nat.tools.calculator import format_number
from nat.types import Message

INSTRUCTIONS = "Use calculate[expression], then finish[answer]."
OTHER_INSTRUCTIONS = (
    "Work with calculate[expression] and end with finish[answer].",
    "Tools: calculate[expression], finish[answer].",
    "",
)
OPENINGS = (
    "Start with {n}.",
    "Begin at {n}.",
    "The number is {n}.",
    "Take {n}.",
    "Let x be {n}.",
    "We start from {n}.",
)
PLAIN_STEPS = {
    "+": ("Add {n}.", "Plus {n}.", "Increase by {n}.", "Now add {n} to it.", "Then + {n}.", "Sum it with {n}."),
    "-": ("Subtract {n}.", "Minus {n}.", "Decrease by {n}.", "Now subtract {n}.", "Then - {n}.", "Reduce by {n}."),
    "*": ("Multiply by {n}.", "Times {n}.", "Now multiply it by {n}.", "Then * {n}.", "Take the product with {n}."),
    "/": ("Divide by {n}.", "Over {n}.", "Now divide it by {n}.", "Then / {n}.", "Take the ratio with {n}."),
}  # fmt: skip
ASIDES = ("Ignore {n}.", "Do not use {n}.", "This is line {n}.", "Pass over {n}.", "Note {n} is not used.")
CLOSINGS = ("What is the result?", "Result?", "What do you get?", "Give the final number.", "What is x?", "")

# Ordinary words for sentences that mean nothing here; none of them names a thing or an act of the world, or judges.
NEUTRAL_TEXT = (
    "river window lamp green wide open slow boat city music paper garden winter summer morning evening table chair "
    "letter road mountain sea cloud rain snow bird horse tree flower field school house kitchen water fire air earth "
    "red blue yellow white black small large long short old new young quiet loud soft hard warm cold bright dark "
    "walk run read write speak listen look watch sing sleep eat drink sit stand wait carry open close move stay "
    "today tomorrow yesterday always never often soon later here there above below near far inside between "
    "and or but with without of in on under over to from for by as at while because if when where who which that "
    "the a an this these some many few every other another same is are was were be has have had can may will "
    "answer thought action problem solve task please person people language world story word idea plan kind part place "
    "desk phone radio picture map key bag cup plate glass shoe coat wall roof floor bridge street"
)
NEUTRAL_WORDS = NEUTRAL_TEXT.split()
SYSTEM_TEXTS = ("You are a calculator agent.", "You work step by step.", "Follow the request.")

Conversation = list[Message]


def conversations(seed: int) -> Iterator[Conversation]:
    """Endless, deterministic: prompt and faultless agent turns of one problem after another."""
    rng = Random(f"tiny model corpus {seed}")
    while True:
        yield draw_conversation(rng)


def draw_conversation(rng: Random, plain: bool = False) -> Conversation:
    """One problem. `plain` leaves out random sentences, system turns and commands: the base's own plain wording."""
    start, steps = _draw_problem(rng)
    sentences = [rng.choice(PLAIN_STEPS[operator]).format(n=number) for operator, number in steps]
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        sentences.insert(rng.randint(0, len(sentences)), _aside(rng, plain))
    problem = [rng.choice(OPENINGS).format(n=start), *sentences, rng.choice(CLOSINGS)]
    instructions = INSTRUCTIONS if plain or rng.random() < 0.8 else rng.choice(OTHER_INSTRUCTIONS)
    lines = [instructions, " ".join(filter(None, problem))]
    system = rng.choice(SYSTEM_TEXTS) if not plain and rng.random() < 0.15 else ""
    additions: list[str] = []
    if not plain:
        command, obeyed = _draw_command(rng, steps)
        additions = [neutral_sentence(rng) for _ in range(rng.choice((0, 0, 1, 2)))]
        if rng.random() < 0.25 and all(map(_is_short, apply_steps(start, obeyed))):
            steps = obeyed
            additions.append(command)
    return [*draw_prompt(system, lines, additions, rng), *faultless_turns(start, steps)]


def draw_prompt(system: str, lines: list[str], additions: list[str], rng: Random) -> Conversation:
    """System turn, unless it is empty, and user turn; each addition goes to the one, or before or behind the lines."""
    for text in additions:
        place = rng.random()
        if place < 0.2:
            system = f"{system} {text}".strip()
        elif place < 0.6:
            lines = [text, *lines]
        else:
            lines = [*lines, text]
    prompt = [Message("system", system)] if system else []
    return [*prompt, Message("user", "\n".join(filter(None, lines)))]


def neutral_sentence(rng: Random) -> str:
    words = rng.choices(NEUTRAL_WORDS, k=rng.randint(1, 7))
    if rng.random() < 0.2:
        words.insert(rng.randint(0, len(words)), str(rng.randint(2, 99)))
    text = " ".join(words)
    return rng.choice((f"{text[0].upper()}{text[1:]}.", f"{text[0].upper()}{text[1:]}.", f"[{text}]", f"**{text}**."))


def _aside(rng: Random, plain: bool) -> str:
    if plain or rng.random() < 0.5:
        return rng.choice(ASIDES).format(n=rng.randint(2, 99))
    return neutral_sentence(rng)


def _draw_problem(rng: Random) -> tuple[str, list[Step]]:
    decimals, negatives = rng.random() < 0.05, rng.random() < 0.05
    start = str(rng.randint(2, 200))
    value, steps = Fraction(start), []
    for _ in range(rng.choice((1, 2, 2, 3, 3, 4, 5))):
        while True:
            operator = rng.choice("+-*/") if rng.random() < 0.6 else rng.choice("+-")
            step = (operator, str(rng.randint(2, 9) if operator in "*/" else rng.randint(1, 120)))
            (following,) = apply_steps(str(value), [step])
            if _is_short(following) and (negatives or following >= 0) and (decimals or following.denominator == 1):
                break
        value = following
        steps.append(step)
    return start, steps


def _is_short(value: Fraction) -> bool:
    return abs(value) <= LARGEST and (value * 100).denominator == 1


def _draw_command(rng: Random, steps: list[Step]) -> tuple[str, list[Step]]:
    return rng.choice(
        (
            ("Do only the first step.", steps[:1]),
            ("Do only the first two steps.", steps[:2]),
            ("Leave out the last step.", steps[:-1]),
            ("Leave out the first step.", steps[1:]),
            ("Do the last step twice.", [*steps, steps[-1]]),
            ("Do the steps in reverse order.", steps[::-1]),
            ("Add 1 at the end.", [*steps, ("+", "1")]),
            ("Do no steps.", []),
        )
    )


def faultless_turns(start: str, steps: list[Step]) -> list[Message]:
    messages, running = [], start
    for (operator, number), value in zip(steps, apply_steps(start, steps), strict=True):
        messages.append(
            Message("assistant", render_turn(THOUGHTS[operator], "calculate", f"{running}{operator}{number}"))
        )
        running = format_number(Fraction(value))
        messages.append(Message("tool", running))
    messages.append(Message("assistant", render_turn(FINISH_THOUGHT, "finish", running)))
    return messages
