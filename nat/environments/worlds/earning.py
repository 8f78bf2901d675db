"""What a built-in world gives to train and evaluate on, made once and kept in the cache."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from itertools import islice

from nat.core import cache
from nat.environments.worlds import worlds
from nat.types import Question, RequestError, Trajectory


def earn_trajectories(
    environment: worlds.WorldConfig,
    split: worlds.Split,
    wanted: dict[bool, int],
    rate_key: str = "environment.failure_rate",
) -> list[Trajectory]:
    """Let the scripted policy play until it has earned the wanted numbers of successes (True) and failures (False).

    Raises RequestError, naming `rate_key` as what set its failure rate, where it does not earn them.
    """
    return cache.cached(
        "trajectories",
        [asdict(environment), split, wanted[True], wanted[False]],
        lambda: _earn_trajectories(environment, split, wanted, rate_key),
        cache.encode_trajectories,
        cache.decode_trajectories,
    )


def _earn_trajectories(
    environment: worlds.WorldConfig, split: worlds.Split, wanted: dict[bool, int], rate_key: str
) -> list[Trajectory]:
    kept: list[Trajectory] = []
    earned: Counter[bool] = Counter()
    limit = 1000 * (sum(wanted.values()) + 1)  # attempts: a policy that (almost) never fails must not play for ever
    attempts = 0
    if not any(wanted.values()):
        return []
    for trajectory in islice(worlds.endless_trajectories(environment, split), limit):
        attempts += 1
        success = trajectory.outcome.success
        if earned[success] < wanted[success]:
            kept.append(trajectory)
            earned[success] += 1
            if all(earned[success] >= number for success, number in wanted.items()):
                return kept
    larger = "" if attempts == limit else ", environment.knowledge (the world has no more questions)"
    raise RequestError(
        f"trajectories: after {attempts} attempts at {rate_key}={environment.failure_rate} the "
        f"policy had earned {earned[True]} of {wanted[True]} successes and {earned[False]} of {wanted[False]} failures."
        f"\nChange {rate_key}{larger}, trajectories.successes or trajectories.failures."
    )


def generate_questions(environment: worlds.WorldConfig, split: worlds.Split, n: int) -> list[Question]:
    return cache.cached(
        "questions",
        [asdict(environment), split, n],
        lambda: worlds.make_questions(environment, split, n),
        cache.encode_questions,
        cache.decode_questions,
    )
