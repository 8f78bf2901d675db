"""Texts whose words are single tokens of the tiny model's vocabulary, so that rows stay short.

The vocabulary knows the words of the world and of the condition texts. The model was never trained on them: none of
these texts is part of corpus.py.
"""

from __future__ import annotations

from nat.environments.worlds import arithmetic as world

CONDITION_WORDS = (
    "correctly incorrectly correct incorrect partly mostly slightly good bad solution right wrong true false quality "
    "high low better worse best worst success failure successful failed score grade wide boats slow sentence agent "
    "laptop screen"
)
COMMON_WORDS = (
    "I you he she it we they me him her us them my your his its our their what how much many more most less least than "
    "then now again also only just even still very too so such no not yes up down out off about after before during "
    "until all any both each one two three four five six seven eight nine ten hundred first second third half twice "
    "do does did done go goes went come came get gets got give gives gave make makes made say said see saw know knew "
    "find found think thought tell told ask asked work worked use used need needs want wants buy bought sell sold pay "
    "paid cost costs total sum left remaining day days week weeks month year years hour hours minute minutes time "
    "money dollar dollars cents price number numbers way thing things man woman child children boy girl friend friends "
    "home car food apples eggs books pencils cookies students per percent if when where why who because called based "
    "film actor director singer band team city country state born died located known American British list search "
    "lookup finish calculate yes no calculator result observation"
)


def lexicon_texts() -> list[str]:
    """Sentences and word lists; every word counts with the space before it, and at a sentence's start without."""
    words = {"name": "", "other": "", "n": "1", "things": ""}
    pronouns = [dict(words, she=she, she_=she.lower()) for she in ("She", "He")]
    stories = [text for texts in world.TEMPLATES.values() for text, _ in texts]
    stories += [*world.DISTRACTORS, *world.OPENINGS, *world.CLOSINGS]
    names = [name for name, _ in world.PEOPLE]
    spaced = " ".join(["", *names, *world.THINGS, *world.LEDGER_THINGS, CONDITION_WORDS, COMMON_WORDS])
    starts = "Answer Solve Write Correct Incorrect Good Bad The This A B Laptop Screen Partly Mostly Slightly What How"
    return [f" {text.format(**pronoun)}" for text in stories for pronoun in pronouns] + [
        spaced,
        *names,
        *starts.split(),
        *CONDITION_WORDS.split(),
        f" {starts}",
    ]
