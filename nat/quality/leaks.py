"""What in the trajectories gives labels or evaluation questions away.

A label leak in real data (HotpotQA played with a ReAct agent): the environment's last message tells the verdict.

    user: Observation: Episode finished, reward = True
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TypeAlias

from nat.types import Message, Question, Trajectory

Words: TypeAlias = tuple[str, ...]
Place: TypeAlias = Callable[[Trajectory], Sequence[Message]]

LONGEST = 4  # words and signs of a text that is looked for: "reward = true" has 3
SHARE_MARKED = 0.5  # a text is a leak where at least this share of one class has it ...
SHARE_OTHER = 0.02  # ... and at most this share of the other: wide apart, so that what a task itself brings is none
FEWEST = 20  # questions of each class; among fewer, texts separate by chance
MOST = 1000  # questions of each class that are read, evenly spaced: a share is then known to 3 points
FEWEST_WORDS = 6  # of a question that is looked for inside messages; shorter ones recur by chance
SHOWN = 100  # characters of a question in a message

_WORD_OR_SIGN = re.compile(r"\w+|[^\w\s]")
_WORD = re.compile(r"\w+")
_DIGIT_GROUPS = re.compile(r"(?<=\d),(?=\d{3})")


def leaks(trajectories: Sequence[Trajectory], evaluation_questions: Sequence[Question]) -> list[str]:
    """One plain sentence for each way in which the data give labels or questions away, with figures and an example.

    Of each class at most `MOST` questions are read for labels, so that a sample of many will do; evaluation
    questions are looked for in all that is given.

    - A short text in what the environment says, or in the agent's last message, that separates successes from
      failures: at least half of one class has it and at most a fiftieth of the other, each question counted once.
      Failures of another kind than a wrong answer are left aside where there are enough of these: errors and a missing
      end tell of themselves.
    - Evaluation questions among the training questions, equal up to case and punctuation (numbers unchanged), and those
      whose text stands inside a trajectory's question or messages.
    """
    return [*_label_leaks(trajectories), *_question_leaks(trajectories, evaluation_questions)]


# ---- labels ----


@dataclass(frozen=True)
class _Marking:
    """A text that marks one class. `having` are numbers of questions (successes, failures), `example` an id."""

    text: str
    having: tuple[int, int]
    of: tuple[int, int]
    example: str
    is_after_last_turn: bool


def _label_leaks(trajectories: Sequence[Trajectory]) -> Iterator[str]:
    """Over all trajectories, then within each source, since one of several may leak."""
    by_source: dict[str, list[Trajectory]] = defaultdict(list)
    for trajectory in trajectories:
        by_source[trajectory.source].append(trajectory)
    groups = [("", trajectories)]
    if len(by_source) > 1:
        groups += [(f" of source {source}", members) for source, members in by_source.items()]
    told: set[tuple[bool, str]] = set()
    for group, members in groups:
        successes = _one_a_question([t for t in members if t.outcome.success])
        failures = _one_a_question([t for t in members if not t.outcome.success])
        wrong = _one_a_question([t for t in members if t.outcome.failure == "wrong_answer"])
        failures = wrong if len(wrong) >= FEWEST else failures
        if min(len(successes), len(failures)) < FEWEST:
            continue
        for place, chosen in _PLACES.items():
            is_agents = chosen is _last_turn
            markings = [m for m in _markings(successes, failures, chosen) if (is_agents, m.text) not in told]
            if markings:
                told |= {(is_agents, marking.text) for marking in markings}
                yield f"labels leak: {place}{group} tells them; {'; '.join(map(_described, markings))}"


def _described(marking: _Marking) -> str:
    successes, failures = (f"{n} of {of}" for n, of in zip(marking.having, marking.of, strict=True))
    aside = ", after the agent's last turn, where nat trains nothing" if marking.is_after_last_turn else ""
    return f"{marking.text!r} stands in {successes} successes and {failures} failures (e.g. {marking.example}{aside})"


def _one_a_question(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    """The first trajectory on each question, no more than `MOST`, evenly spaced."""
    first: dict[str, Trajectory] = {}
    for trajectory in trajectories:
        first.setdefault(trajectory.question_id, trajectory)
    chosen = list(first.values())
    return chosen[:: -(-len(chosen) // MOST)] if chosen else []


def _observations(trajectory: Trajectory) -> list[Message]:
    first = next((i for i, m in enumerate(trajectory.messages) if m.role == "assistant"), len(trajectory.messages))
    return [message for message in trajectory.messages[first:] if message.role != "assistant"]


def _last_observation(trajectory: Trajectory) -> list[Message]:
    return _observations(trajectory)[-1:]


def _last_turn(trajectory: Trajectory) -> list[Message]:
    return [message for message in trajectory.messages[-1:] if message.role == "assistant"]


_PLACES: Mapping[str, Place] = {
    "the last observation": _last_observation,
    "an observation": _observations,
    "the agent's last message": _last_turn,
}


def _markings(successes: Sequence[Trajectory], failures: Sequence[Trajectory], place: Place) -> list[_Marking]:
    """The text that separates best in each direction, the longest of equally good ones; none where none does."""
    classes = [[[_words(m.content) for m in place(t)] for t in members] for members in (successes, failures)]
    of = (len(successes), len(failures))
    alone = [_documents_with(documents, 1, None) for documents in classes]
    # a text that half of a class has is made of words that half of the class has
    frequent = {words[0] for counts, n in zip(alone, of, strict=True) for words in counts if counts[words] >= n / 2}
    counts = [_documents_with(documents, LONGEST, frequent) for documents in classes]
    found = []
    for marked, members in ((0, successes), (1, failures)):
        other = 1 - marked
        texts = [
            words
            for words, number in counts[marked].items()
            if number >= SHARE_MARKED * of[marked] and counts[other][words] <= SHARE_OTHER * of[other]
        ]
        if texts:
            separation = {w: counts[marked][w] / of[marked] - counts[other][w] / of[other] for w in texts}
            best = max(texts, key=lambda w: (separation[w], w[0].isalnum() and w[-1].isalnum(), len(w), w))
            found.append(_marking(best, (counts[0][best], counts[1][best]), of, members, place))
    return found


def _marking(
    words: Words, having: tuple[int, int], of: tuple[int, int], members: Sequence[Trajectory], place: Place
) -> _Marking:
    pattern = re.compile(r"\s*".join(map(re.escape, words)), re.IGNORECASE)
    for trajectory in members:
        for message in place(trajectory):
            if match := pattern.search(message.content):
                last_turn = max((i for i, m in enumerate(trajectory.messages) if m.role == "assistant"), default=-1)
                is_after = all(message is not earlier for earlier in trajectory.messages[: last_turn + 1])
                return _Marking(match[0], having, of, trajectory.id, is_after)
    return _Marking(" ".join(words), having, of, members[0].id, False)  # letters whose case changes their number


def _documents_with(documents: Sequence[Sequence[list[str]]], longest: int, among: Set[str] | None) -> Counter[Words]:
    """In how many documents each run of up to `longest` words stands, made of the words `among` alone."""
    counts: Counter[Words] = Counter()
    for texts in documents:
        seen: set[Words] = set()
        for words in texts:
            if longest == 1:
                seen.update((word,) for word in set(words))
                continue
            run: list[str] = []
            for word in words:
                if among is not None and word not in among:
                    run = []
                    continue
                run = [*run[1 - longest :], word]
                for start in range(len(run)):
                    seen.add(tuple(run[start:]))
        counts.update(seen)
    return counts


def _words(text: str) -> list[str]:
    return _WORD_OR_SIGN.findall(text.casefold())


# ---- questions ----


def _question_leaks(trajectories: Sequence[Trajectory], questions: Sequence[Question]) -> Iterator[str]:
    asked: dict[str, Question] = {}
    for question in questions:
        asked.setdefault(_bare(question.text), question)
    asked.pop("", None)
    same: dict[str, str] = {}
    inside: dict[str, str] = {}
    by_word = _by_rarest_word([text for text in asked if text.count(" ") + 1 >= FEWEST_WORDS])
    bare_of: dict[str, str] = {}  # several trajectories share a question
    for trajectory in trajectories:
        bare = bare_of.get(trajectory.question)
        if bare is None:
            bare = bare_of[trajectory.question] = _bare(trajectory.question)
            if bare in asked:
                same.setdefault(bare, trajectory.id)
            else:
                _find(bare, by_word, inside, trajectory.id)
        for message in trajectory.messages:
            _find(_bare(message.content), by_word, inside, trajectory.id)
    for found, where in ((same, "are training questions, too, up to case and punctuation"),
                         (inside, "stand inside questions or messages of training trajectories")):  # fmt: skip
        if found:
            text, id = next(iter(found.items()))
            yield (
                f"questions leak: {len(found)} of {len(asked)} evaluation questions {where}, e.g. "
                f"{asked[text].text[:SHOWN]!r} in {id}"
            )


def _bare(text: str) -> str:
    """Lower-case words and numbers with single spaces between them."""
    unified = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_WORD.findall(_DIGIT_GROUPS.sub("", unified)))


def _by_rarest_word(texts: Sequence[str]) -> dict[str, list[str]]:
    """Each text under the word of it that the fewest texts have: where that is missing, the text is too."""
    words = [text.split() for text in texts]
    counts = Counter(word for members in words for word in set(members))
    found: dict[str, list[str]] = defaultdict(list)
    for text, members in zip(texts, words, strict=True):
        found[min(members, key=lambda word: (counts[word], -len(word), word))].append(text)
    return found


def _find(bare: str, by_word: Mapping[str, Sequence[str]], found: dict[str, str], id: str) -> None:
    padded = f" {bare} "
    for word in by_word.keys() & set(bare.split()):
        for text in by_word[word]:
            if text not in found and f" {text} " in padded:
                found[text] = id
