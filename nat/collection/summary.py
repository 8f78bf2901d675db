"""What was collected, in a few lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from nat.collection.episodes import Facts
from nat.core.statistics import wilson_interval


def summary(found: Sequence[Facts]) -> Iterator[str]:
    """Success rate with its interval, by temperature where there are several, failures by kind, tokens."""
    if not found:
        return
    yield f"success rate  {_rate(found)}"
    temperatures = sorted({facts.temperature for facts in found if facts.temperature is not None})
    if len(temperatures) > 1:
        for temperature in temperatures:
            label = f"  at {temperature:g}"
            yield f"{label:<14}{_rate([facts for facts in found if facts.temperature == temperature])}"
    failures = Counter(facts.failure for facts in found if facts.failure)
    yield f"failures      {', '.join(f'{kind} {n}' for kind, n in failures.most_common()) or 'none'}"
    if misses := sum(facts.misses for facts in found):
        yield f"search misses {misses} (no recording answered)"
    generated = [facts.tokens for facts in found if facts.tokens is not None]
    if generated:
        read = sum(facts.prompt_tokens or 0 for facts in found)
        unknown = f" ({len(found) - len(generated)} episodes without a count)" if len(generated) < len(found) else ""
        yield f"tokens        {sum(generated):,} generated" + (f", {read:,} read" if read else "") + unknown


def _rate(found: Sequence[Facts]) -> str:
    successes = sum(facts.success for facts in found)
    low, high = wilson_interval(successes, len(found))
    return f"{successes / len(found):.3f} [{low:.3f}, {high:.3f}] ({successes} of {len(found)} episodes)"
