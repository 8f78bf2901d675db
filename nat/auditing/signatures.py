"""Which of many texts may be alike: MinHash signatures, and neighbours in their sorted order (an LSH forest).

A text's set of character n-grams is hashed once; its signature holds the smallest hash in each of `WIDTH` parts of the
hash range (one permutation hashing: Li, Owen & Zhang, 2012; an empty part takes the next one's). Two texts agree in a
place of their signatures about as often as n-grams are common to them. Signatures are then sorted by `TREES` random
choices of their places, and each is compared with its next `WINDOW` neighbours (LSH forest: Bawa, Condie & Ganesan,
2005). Other than buckets, this stays linear where thousands of texts are much alike.
"""

from __future__ import annotations

from typing import Any

WIDTH = 32  # places of a signature, 2 bytes each
TREES = 12  # sorted orders
WINDOW = 4  # neighbours in each order that a text is compared with
KEY = 8  # places that an order sorts by
PER_TEXT = 4  # candidate pairs a text that are kept at any time, those that agree best
CHUNK = 1 << 17  # texts compared at a time
_HASHES = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9)


def signature(text: str, n: int = 8) -> bytes:
    """2 * WIDTH bytes; zeros where the text has no n-gram.

    Args:
        n: bytes of an n-gram: 2, 4 or 8.
    """
    import numpy as np

    grams = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.uint64)
    size = 1
    while size < n:  # a window of 2, then 4, then 8 bytes as one number
        grams = grams[:-size] | (grams[size:] << np.uint64(8 * size))
        size *= 2
    if not len(grams):
        return bytes(2 * WIDTH)
    with np.errstate(over="ignore"):
        grams = grams * np.uint64(_HASHES[0])
        grams ^= grams >> np.uint64(29)
        grams *= np.uint64(_HASHES[1])
    grams.sort()
    place = np.searchsorted(grams, np.arange(WIDTH, dtype=np.uint64) << np.uint64(59))
    smallest = grams[np.where(place < len(grams), place, 0)]
    # Not the highest bits, which the part decides, and never 0, which stands for no text.
    return ((smallest >> np.uint64(24)).astype(np.uint16) | np.uint16(1)).tobytes()


def pairs_alike(signatures: Any, fewest: int, groups: Any = None) -> tuple[Any, Any]:
    """Pairs of rows that agree in at least `fewest` places, those that agree best first.

    Which pairs are compared: in each of `TREES` orders a row and its next `WINDOW` neighbours. With `groups`, only rows
    of one group are compared, and groups of up to `WINDOW` + 1 rows are compared in full. Work and memory are linear in
    rows.

    Args:
        signatures: [rows, WIDTH] uint16.
        groups: [rows] integers; None: all rows are one group.

    Returns:
        ([pairs, 2] row numbers, the smaller first; [pairs] places that agree)
    """
    import numpy as np

    n = len(signatures)
    found = np.empty(0, np.uint64)  # the agreement, then the two rows: 6, 29 and 29 bits
    generator = np.random.default_rng(0)
    for _ in range(TREES if n > 1 else 0):
        columns = generator.permutation(WIDTH)[:KEY]
        keys = np.ascontiguousarray(signatures[:, columns]).view(np.uint64)
        order = np.lexsort((keys[:, 1], keys[:, 0], *(() if groups is None else (groups,))))
        for offset in range(1, WINDOW + 1):
            for start in range(0, n - offset, CHUNK):
                left, right = order[start : min(start + CHUNK, n - offset)], order[start + offset :][:CHUNK]
                left, right = left[: len(right)], right[: len(left)]
                if groups is not None:
                    same = groups[left] == groups[right]
                    left, right = left[same], right[same]
                agree = (signatures[left] == signatures[right]).sum(1, dtype=np.uint64)
                alike = agree >= fewest
                first, second = np.minimum(left, right)[alike], np.maximum(left, right)[alike]
                packed = (agree[alike] << np.uint64(58)) | (first.astype(np.uint64) << np.uint64(29))
                found = np.concatenate([found, packed | second.astype(np.uint64)])
                if len(found) > 2 * PER_TEXT * n:
                    found = np.unique(found)[-PER_TEXT * n :]
        found = np.unique(found)[-PER_TEXT * n :]
    found = found[::-1]
    rows = np.stack([(found >> np.uint64(29)) & np.uint64(2**29 - 1), found & np.uint64(2**29 - 1)], axis=1)
    return rows.astype(np.int64), (found >> np.uint64(58)).astype(np.int64)


def nearest(signatures: Any, wanted: Any, fewest: int, window: int = 8) -> Any:
    """[pairs, 2] (row of `signatures`, row of `wanted`) that agree in at least `fewest` places, best first.

    In each of `TREES` orders, each of `wanted` is compared with the `window` rows on either side of its place: work
    grows with the number of those that are wanted.
    """
    import numpy as np

    n = len(signatures)
    found: list[Any] = [np.empty((0, 3), np.int64)]
    generator = np.random.default_rng(0)
    for _ in range(TREES if n and len(wanted) else 0):
        columns = generator.permutation(WIDTH)[:4]
        keys = np.ascontiguousarray(signatures[:, columns]).view(np.uint64)[:, 0]
        order = np.argsort(keys)
        places = np.searchsorted(keys[order], np.ascontiguousarray(wanted[:, columns]).view(np.uint64)[:, 0])
        for offset in range(-window, window):
            rows = order[np.clip(places + offset, 0, n - 1)]
            agree = (signatures[rows] == wanted).sum(1)
            alike = np.flatnonzero(agree >= fewest)
            found.append(np.stack([agree[alike], rows[alike], alike], axis=1))
    pairs = np.unique(np.concatenate(found), axis=0)[::-1]
    return pairs[:, 1:]
