"""Trajectories that are there more than once: the same text, or nearly the same.

Which pairs are compared for nearness. Of equal texts one stands for all. Signatures (`nat.auditing.signatures`) propose
pairs: within a question, of which all pairs are looked at where it has up to five texts, else each text's neighbours in
twelve sorted orders; and among all texts, the same neighbours. Those whose lengths alone rule it out are set aside,
and the others are read again and compared for good, those first whose signatures agree most, at most as many pairs as
there are texts. So 10,000 trajectories on one question cost no more than 10,000 on as many.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from nat.auditing.facts import Facts, said
from nat.auditing.signatures import pairs_alike
from nat.auditing.words import numbers_of
from nat.core.progress import Advance

FEWEST_AGREE = 8  # places of two signatures, out of 32: fewer are not compared any closer
LONGEST = 20_000  # characters of a text that are compared; the beginning says enough
AT_LEAST = 1000  # pairs that are compared in any collection


class Groups(NamedTuple):
    """Rows in an order in which those with equal keys stand together, in their own order."""

    order: Any  # [rows]
    starts: Any  # [groups] places in `order`
    sizes: Any  # [groups]


class Near(NamedTuple):
    """Pairs of rows that are nearly the same text, each linking two groups that nothing linked before."""

    pairs: list[tuple[int, int, float]]  # (row, row, similarity)
    proposed: int  # pairs that signatures proposed
    compared: int  # of these; fewer than proposed where the limit was reached, or others linked them already
    is_cut: bool  # the limit was reached


def grouped(*keys: Any) -> Groups:
    """Rows by equal keys; the first is the most significant."""
    import numpy as np

    order = np.lexsort(keys[::-1])
    differs = np.zeros(max(len(order) - 1, 0), bool)
    for key in keys:
        ordered = key[order]
        differs |= ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(np.concatenate([np.ones(min(len(order), 1), bool), differs]))
    return Groups(order, starts, np.diff(np.append(starts, len(order))))


def near_duplicates(facts: Facts, near: float, advance: Advance | None = None) -> Near:
    """Texts that are at least `near` alike: `rapidfuzz`'s ratio, 1 for equal texts, of question and messages.

    Texts on different questions count only where the numbers in the questions are the same: a template filled in anew
    is another question.
    """
    import numpy as np
    from rapidfuzz import fuzz

    rows = facts.arrays()
    if not len(rows):
        return Near([], 0, 0, False)
    texts = grouped(rows["text"][:, 0], rows["text"][:, 1])
    distinct = np.sort(texts.order[texts.starts])
    distinct = distinct[rows["signature"][distinct, 0] != 0]
    signatures = rows["signature"][distinct]
    within = pairs_alike(signatures, FEWEST_AGREE, rows["question"][distinct])
    among = pairs_alike(signatures, FEWEST_AGREE)
    del signatures
    pairs = np.concatenate([within[0], among[0]])
    agree = np.concatenate([within[1], among[1]])
    pairs, at = np.unique(pairs, axis=0, return_index=True)
    agree = agree[at]
    characters = rows["characters"][distinct].astype(np.int64)[pairs]
    # 2 * matching characters / all characters is the ratio; the shorter text's characters match at most
    possible = 2 * characters.min(1) >= near * characters.sum(1)
    pairs, agree = distinct[pairs[possible]], agree[possible]
    pairs = pairs[np.argsort(-agree, kind="stable")]

    limit = AT_LEAST + len(distinct)
    parent: dict[int, int] = {}

    def root(row: int) -> int:
        while (above := parent.get(row, row)) != row:
            parent[row] = parent.get(above, above)
            row = above
        return row

    found: list[tuple[int, int, float]] = []
    compared = 0
    for first, second in pairs.tolist():
        a, b = root(first), root(second)
        if a == b:
            continue
        if compared == limit:
            return Near(found, len(pairs), compared, True)
        compared += 1
        if advance is not None and compared % 256 == 0:
            advance(compared, f"{len(found)} found")
        one, other = facts.row(first).trajectory, facts.row(second).trajectory
        if rows["question"][first] != rows["question"][second] and numbers_of(one.question) != numbers_of(
            other.question
        ):
            continue
        similarity = fuzz.ratio(said(one)[:LONGEST], said(other)[:LONGEST], score_cutoff=100 * near) / 100
        if similarity >= near:
            parent[max(a, b)] = min(a, b)
            found.append((first, second, similarity))
    return Near(found, len(pairs), compared, False)
