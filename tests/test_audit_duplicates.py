"""Near-duplicates: which pairs are looked at, what of planted ones is found, and that work stays linear."""

from pathlib import Path
from random import Random

import numpy as np

from nat.auditing.duplicates import Near, near_duplicates
from nat.auditing.facts import Facts, Reading, Rows, add
from nat.auditing.signatures import WIDTH, nearest, pairs_alike, signature
from nat.auditing.skew import auc, best_split
from nat.auditing.words import numbers_of, words_of
from nat.quality.marks import CheckSettings
from nat.types import Message, Outcome, Trajectory
from tests.audits_for_tests import make_config

WORDS = [f"{a}{b}{c}" for a in ("ba", "de", "fi", "go", "lu") for b in ("ka", "me", "ni", "so") for c in "rstnlmd"]


def facts_of(tmp_path: Path, pairs: list[tuple[str, str]]) -> Facts:
    """Of trajectories with one turn: (question, text)."""
    facts = Facts(Rows(tmp_path / "rows"), examples=5)
    config = make_config([], tmp_path)
    reading = Reading(None, None, CheckSettings((), ()), config.quality)
    for i, (question, text) in enumerate(pairs):
        trajectory = Trajectory(str(i), question, question, (Message("assistant", text),), Outcome(True, 1.0))
        add(facts, f"file:{i}", "jsonl", "file", trajectory, reading)
    return facts


def edited(text: str, rng: Random, share: float) -> str:
    """So many of the words replaced, at least one."""
    words = text.split()
    for place in rng.sample(range(len(words)), max(1, round(share * len(words)))):
        words[place] = rng.choice(WORDS)
    return " ".join(words)


def planted(rng: Random, n: int, n_copies: int, questions: int, share: float) -> list[tuple[str, str]]:
    """`n` random texts of 200 words, of the first `n_copies` an edited copy behind them, on `questions` questions."""
    rows = [(f"question {'abcdefghij'[i % questions]}", " ".join(rng.choices(WORDS, k=200))) for i in range(n)]
    return rows + [(question, edited(text, rng, share)) for question, text in rows[:n_copies]]


def recall_and_precision(found: Near, n: int, n_copies: int) -> tuple[float, float]:
    right = {(i, n + i) for i in range(n_copies)}
    said = {(min(a, b), max(a, b)) for a, b, _ in found.pairs}
    return len(said & right) / len(right), len(said & right) / max(len(said), 1)


def test_planted_near_duplicates_are_found_on_ten_questions(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, planted(Random(0), 600, 100, questions=10, share=0.03))
    found = near_duplicates(facts, 0.9)
    assert recall_and_precision(found, 600, 100) == (1.0, 1.0)
    assert found.compared <= 700 + 1000


def test_planted_near_duplicates_are_found_where_all_are_on_one_question(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, planted(Random(1), 1000, 100, questions=1, share=0.05))
    found = near_duplicates(facts, 0.9)
    recall, precision = recall_and_precision(found, 1000, 100)
    assert recall >= 0.99
    assert precision == 1.0


def test_a_template_filled_with_other_numbers_is_another_question(tmp_path: Path) -> None:
    text = "Thought: the train leaves the old station and goes on to the coast. Action: finish[it does]"
    pairs = [(f"When does train {i} leave the old station for the coast?", text) for i in range(2)]
    assert near_duplicates(facts_of(tmp_path, pairs), 0.9).pairs == []
    pairs = [(f"When does train 7 leave the old station for the {w}?", text) for w in ("coast", "coasts")]
    assert len(near_duplicates(facts_of(tmp_path, pairs), 0.9).pairs) == 1


def test_the_number_of_compared_pairs_has_a_limit_where_all_texts_are_alike() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(1, 60000, WIDTH, np.uint16)
    signatures = np.where(rng.random((5000, WIDTH)) < 0.6, base, rng.integers(1, 60000, (5000, WIDTH), np.uint16))
    pairs, agree = pairs_alike(signatures.astype(np.uint16), 8)
    assert len(pairs) == 4 * 5000  # of 12 million
    assert agree[0] == agree.max() and agree[-1] == agree.min()
    assert (pairs[:, 0] < pairs[:, 1]).all()


def test_pairs_alike_stay_within_their_group() -> None:
    same = np.tile(np.arange(1, WIDTH + 1, dtype=np.uint16), (4, 1))
    pairs, agree = pairs_alike(same, 8, groups=np.array([0, 1, 0, 1]))
    assert sorted(map(tuple, pairs.tolist())) == [(0, 2), (1, 3)]
    assert agree.tolist() == [WIDTH, WIDTH]


def test_signatures_agree_as_often_as_the_texts_do() -> None:
    words = Random(2).choices(WORDS, k=400)
    one, other = signature(" ".join(words)), signature(" ".join([*words[:200], *Random(3).choices(WORDS, k=200)]))
    agree = (np.frombuffer(one, "<u2") == np.frombuffer(other, "<u2")).sum()
    assert 4 <= agree <= 18  # a third of 32: half of the words are common, so 1/3 of all n-grams
    assert signature("short") == bytes(2 * WIDTH)  # fewer bytes than an n-gram
    assert signature("short", n=4) != bytes(2 * WIDTH)


def test_nearest_finds_each_wanted_row() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 60000, (1000, WIDTH), np.uint16)
    wanted = rows[[7, 500]].copy()
    wanted[:, :8] = 1  # a quarter differs
    assert nearest(rows, wanted, 10).tolist() in ([[7, 0], [500, 1]], [[500, 1], [7, 0]])


def test_words_and_numbers_of_questions() -> None:
    assert words_of("What IS 3,000 - 4.5?") == "what is 3000 - 4.5"
    assert words_of("What is 3 + 4?") != words_of("What is 3 - 4?")
    assert words_of("A well-known, old inn!") == words_of("a well known old inn")
    assert numbers_of("From 12 to 3 in 1,200 days") == ["12", "3", "1200"]


def test_auc_by_hand() -> None:
    # pairs (success, failure): 2>1, 2=2 (half), 3>1, 3>2 -> 3.5 of 4
    assert auc(np.array([2.0, 3.0]), np.array([1.0, 2.0])).auc == 0.875
    perfect = auc(np.arange(20.0, 40.0), np.arange(20.0))
    assert (perfect.auc, round(perfect.low, 4), perfect.high) == (1.0, 0.8389, 1.0)  # Wilson's of 20 of 20
    even = auc(np.arange(100.0), np.arange(100.0))
    assert even.auc == 0.5 and even.low < 0.45 and even.high > 0.55


def test_best_split_takes_the_more_successful_sources_and_no_small_ones() -> None:
    found, chosen = best_split(np.array([30, 10, 5]), np.array([10, 30, 0]))
    assert chosen == [0]  # the third has 5 trajectories
    assert found.auc == 0.5 * (1 + 30 / 45 - 10 / 40)
