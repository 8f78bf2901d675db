"""Whether one simple feature tells successes from failures: then a model can learn that in place of what is right.

The AUC is the chance that a success has a larger value than a failure (ties count half): 0.5 tells nothing.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

NORMAL_95 = 1.959964
FEWEST = 20  # trajectories of each class, and of a source that is looked at alone


class Auc(NamedTuple):
    auc: float
    low: float  # 95% confidence interval
    high: float


def auc(successes: Any, failures: Any) -> Auc:
    """Of a number. Both are arrays with at least one member.

    The interval is Wilson's, at the number of observations that gives a proportion the variance that DeLong et al.
    (1988) find for an AUC; with perfect separation, at the size of the smaller class. It takes trajectories as
    independent: where many are on one question it is too narrow.
    """
    import numpy as np

    m, n = len(successes), len(failures)
    ranks = _ranks(np.concatenate([successes, failures]))
    above = (ranks[:m] - _ranks(successes)) / n  # share of failures below each success
    below = 1 - (ranks[m:] - _ranks(failures)) / m
    value = float(above.mean())
    variance = (float(above.var(ddof=1)) / m if m > 1 else 0.25) + (float(below.var(ddof=1)) / n if n > 1 else 0.25)
    size = min(m, n) if variance <= 0 or value in (0, 1) else max(value * (1 - value) / variance, 1.0)
    return _wilson(value, size)


def _ranks(values: Any) -> Any:
    """From 1; equal values share the middle of theirs."""
    import numpy as np  # scipy.stats has this too, and takes a second to import

    _, place, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(sizes) - (sizes - 1) / 2)[place]


def auc_of_split(with_successes: int, with_failures: int, successes: int, failures: int) -> Auc:
    """Of a yes-or-no feature that so many of each class have."""
    value = 0.5 * (1 + with_successes / successes - with_failures / failures)
    return _wilson(value, min(successes, failures))


def _wilson(p: float, n: float) -> Auc:
    z = NORMAL_95
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(max(p * (1 - p), 0) / n + z * z / (4 * n * n))
    return Auc(p, max(0.0, centre - half), min(1.0, centre + half))


def best_split(successes: Any, failures: Any) -> tuple[Auc, list[int]]:
    """The AUC of the two groups of categories that tell most, and the categories of the more successful group.

    Categories of fewer than `FEWEST` trajectories are left with the less successful ones: among many small ones, some
    are all successes by chance.

    Args:
        successes, failures: [categories] numbers of trajectories.
    """
    import numpy as np

    size = successes + failures
    rate = np.divide(successes, size, out=np.zeros(len(size)), where=size > 0)
    order = [int(i) for i in np.argsort(-rate, kind="stable") if size[i] >= FEWEST]
    m, n = int(successes.sum()), int(failures.sum())
    best, chosen = auc_of_split(0, 0, m, n), []
    for count in range(1, len(order) + 1):
        group = order[:count]
        found = auc_of_split(int(successes[group].sum()), int(failures[group].sum()), m, n)
        if found.auc > best.auc:
            best, chosen = found, group
    return best, chosen
