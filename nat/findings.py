"""The verdict: whether to use the failures, at which ratio and with which text.

What is best is chosen on validation answers and its effect is stated on test answers: the best of many arms looks
better than it is on the answers that chose it. Without validation answers one half of the questions chooses, the other
states.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from nat.comparison import (
    LEVEL,
    MARKED,
    REFERENCE,
    Arm,
    Contrast,
    Finding,
    Pair,
    ReportConfig,
    contrasts_of,
    paired,
    ratio_text,
    reference_of,
    setting_of,
    unmarked_of,
)
from nat.statistics import Assumed, CrossedDifference, crossed_difference, seeds_needed

MANY_SEEDS = 50  # more than this are no advice
METHOD_WORDS = {"base": "the untrained model", "nut": "NUT", "nat": "NAT", "nat_graded": "graded NAT"}
How = Literal["only", "validation", "half"]


def findings_of(
    arms: Sequence[Arm], text_contrasts: Sequence[Contrast], split: str, config: ReportConfig
) -> tuple[Finding, ...]:
    """Answers to those of the three questions that the arms can answer.

    The findings' contrasts are one Holm family, those at other numbers of positives or in other settings another.
    """
    drafts = [draft for draft in (_failures(arms, split), _ratio(arms, split), _text(arms, split)) if draft is not None]
    chosen, contrasts = _settled([draft.chosen for draft in drafts], config)
    _, others = _settled([choice for draft in drafts for choice in draft.also], config)
    elsewhere = iter(others)
    findings = []
    for draft, choice, contrast in zip(drafts, chosen, contrasts, strict=True):
        also = tuple(next(elsewhere) for _ in draft.also)
        sentences = [_words(draft.question, choice, contrast, also, len(drafts), config)]
        if draft.question == RATIO:
            sentences += _neighbours(choice, draft.candidates, split)
        sentences += _elsewhere(draft.question, contrast, also)
        if draft.question == TEXT and len(text_contrasts) > 1:
            sentences.append(_tally(text_contrasts))
        sentences += _what_would_decide(choice.pair, contrast, len(drafts), config)
        findings.append(Finding(draft.question, contrast.verdict, " ".join(sentences), contrast, also))
    return tuple(findings)


FAILURES, RATIO, TEXT = "Use the failures?", "At which ratio?", "With which text?"


@dataclass(frozen=True)
class Choice:
    """The best arm of several, beside its reference."""

    pair: Pair
    how: How
    # An arm that did better still on the seeds that all have, but has one seed only; `pair` is then the best of those
    # that have more.
    single: Pair | None = None


@dataclass(frozen=True)
class Draft:
    """A finding before its family is known."""

    question: str
    candidates: tuple[Arm, ...]
    chosen: Choice
    also: tuple[Choice, ...]  # at other numbers of positives or in other settings


def _settled(choices: Sequence[Choice], config: ReportConfig) -> tuple[list[Choice], tuple[Contrast, ...]]:
    """One family's contrasts. An arm with several seeds can show that failures help although another might help more;
    but where it does not show that, the other one, with its single seed, is what the question hangs on.
    """
    contrasts = contrasts_of([choice.pair for choice in choices], config.smallest_effect)
    settled = [
        Choice(choice.single, choice.how) if choice.single is not None and contrast.verdict != "yes" else choice
        for choice, contrast in zip(choices, contrasts, strict=True)
    ]
    return settled, contrasts_of([choice.pair for choice in settled], config.smallest_effect)


# ---- choosing ----


def choosing_half(question: str) -> bool:
    """Whether a question chooses, where one half of them has to; the other half states the effect."""
    return hashlib.sha256(f"choose:{question}".encode()).digest()[0] % 2 == 0


def stating_half(question: str) -> bool:
    return not choosing_half(question)


def choose(candidates: Sequence[Arm], split: str) -> tuple[Arm, How]:
    """The arm with the highest mean success on the answers that choose; of equals the one with fewer failures.

    In a partial sweep the seeds that all arms have choose: one that was lucky for some arms must not count for them.
    """
    if len(candidates) == 1:
        return candidates[0], "only"
    seeds = set.intersection(*({run.seed for run in arm.runs} for arm in candidates))
    runs = [[run for run in arm.runs if not seeds or run.seed in seeds] for arm in candidates]
    has_validation = split != "validation" and all(run.answers.get("validation") for some in runs for run in some)
    on = "validation" if has_validation else split
    asked = [run.answers.get(on, {}).keys() for some in runs for run in some]
    common = set(asked[0]).intersection(*asked[1:])
    rates = []
    for arm, some in zip(candidates, runs, strict=True):
        shares = []
        for run in some:
            # Arms in different worlds have no question in common: each then stands for itself.
            questions = common or run.answers.get(on, {}).keys()
            given = [run.answers[on][q].success for q in questions if has_validation or choosing_half(q)]
            shares.append(sum(given) / len(given) if given else 0.0)
        rates.append((-round(sum(shares) / len(shares), 9), arm.negatives or 0))
    return candidates[rates.index(min(rates))], "validation" if has_validation else "half"


def _chosen(candidates: Sequence[Arm], other: Callable[[Arm], Arm | None], split: str) -> Choice | None:
    """The best of those that can be compared, and the comparison; None where none can."""
    pairs = {arm.label: pair for arm in candidates if (pair := _pair(arm, other(arm), split)) is not None}
    comparable = [arm for arm in candidates if arm.label in pairs]
    if not comparable:
        return None

    def stated(arm: Arm, how: How) -> Pair | None:
        return pairs[arm.label] if how != "half" else _pair(arm, other(arm), split, stating_half)

    best, how = choose(comparable, split)
    pair = stated(best, how)
    if pair is None:
        return None
    several = [arm for arm in comparable if pairs[arm.label].n_seeds > 1 and level_of(arm) == level_of(best)]
    if pair.n_seeds == 1 and several:
        # Chosen in the same way as among all, so that the same answers choose and state.
        runner_up, how_again = choose(several, split)
        instead = stated(runner_up, how if how_again == "only" else how_again)
        return Choice(instead, how, single=pair) if instead is not None else Choice(pair, how)
    return Choice(pair, how)


def _pair(arm: Arm, reference: Arm | None, split: str, keep: Callable[[str], bool] | None = None) -> Pair | None:
    pair = paired(arm, reference, split, keep) if reference is not None else None
    return pair if isinstance(pair, Pair) else None


def _by_level(arms: Sequence[Arm], best: Arm) -> Iterator[list[Arm]]:
    """The arms at each other number of positives and in each other setting than the best one's."""
    levels: dict[str, list[Arm]] = {}
    for arm in arms:
        levels.setdefault(level_of(arm), []).append(arm)
    yield from (members for level, members in levels.items() if level != level_of(best))


def level_of(arm: Arm) -> str:
    setting = {key: value for key, value in setting_of(arm).items() if key != "from"}
    return repr((arm.positives, sorted(setting.items())))


def has_failures(arm: Arm) -> bool:
    return arm.method not in ("base", REFERENCE) and (arm.negatives is None or arm.negatives > 0)


# ---- the three questions ----


def _failures(arms: Sequence[Arm], split: str) -> Draft | None:
    candidates = [arm for arm in arms if has_failures(arm)]

    def other(arm: Arm) -> Arm | None:
        return reference_of(arm, arms)

    return _draft(FAILURES, candidates, other, split)


def _text(arms: Sequence[Arm], split: str) -> Draft | None:
    candidates = [arm for arm in arms if arm.method in MARKED]

    def other(arm: Arm) -> Arm | None:
        return unmarked_of(arm, arms)

    return _draft(TEXT, candidates, other, split)


def _ratio(arms: Sequence[Arm], split: str) -> Draft | None:
    """The best number of failures against the smallest one; where the smallest is best, against the next."""
    curves: dict[str, list[Arm]] = {}
    for arm in arms:
        if has_failures(arm) and arm.negatives is not None:
            curves.setdefault(_curve(arm), []).append(arm)
    candidates = [arm for curve in curves.values() for arm in curve if len(curve) > 1]

    def other(arm: Arm) -> Arm | None:
        smallest, following, *_ = sorted(curves[_curve(arm)], key=lambda each: each.negatives or 0)
        return following if arm is smallest else smallest

    return _draft(RATIO, candidates, other, split)


def _curve(arm: Arm) -> str:
    """What arms share that differ in their number of failures alone."""
    setting = {key: value for key, value in arm.setting.items() if key != "mixing.ratio"}
    positives = None if "mixing.tokens" in setting else arm.positives
    return repr((arm.method, arm.strategy, positives, sorted(setting.items())))


def _neighbours(choice: Choice, candidates: Sequence[Arm], split: str) -> Iterator[str]:
    """Whether the next ratios on either side can be told from the chosen one; and whether it lies at the edge."""
    best = choice.pair.treatment
    curve = sorted((arm for arm in candidates if _curve(arm) == _curve(best)), key=lambda arm: arm.negatives or 0)
    place = [arm.label for arm in curve].index(best.label)
    told = []
    for neighbour in (*curve[max(place - 1, 0) : place], *curve[place + 1 : place + 2]):
        if neighbour is choice.pair.reference:
            continue  # stated already
        pair = _pair(best, neighbour, split, stating_half if choice.how == "half" else None)
        if pair is not None:
            lead = crossed_difference(pair.first, pair.second)
            told.append(f"{_ratio_of(neighbour)} is {_signed(lead)} points")
    if told:
        yield f"Its lead over {', over '.join(told)} (each interval by itself)."
    if place == len(curve) - 1:
        yield "It is the largest ratio tried."


def _draft(question: str, candidates: Sequence[Arm], other: Callable[[Arm], Arm | None], split: str) -> Draft | None:
    chosen = _chosen(candidates, other, split)
    if chosen is None:
        return None
    levels = (_chosen(members, other, split) for members in _by_level(candidates, chosen.pair.treatment))
    return Draft(question, tuple(candidates), chosen, tuple(level for level in levels if level is not None))


# ---- words ----


def who(arm: Arm) -> str:
    """An arm in a sentence: "NAT (suffix) with 1:4 (200 + 800)"."""
    word = METHOD_WORDS.get(arm.method, arm.method)
    if arm.method == REFERENCE:
        word = "the successes alone"
    if arm.strategy != "none":
        word += f" ({arm.strategy})"
    if has_failures(arm) and (ratio := ratio_text(arm.positives, arm.negatives)) is not None:
        word += f" with {ratio} ({arm.positives} + {arm.negatives})"
    return ", ".join([word, *(f"{key.rpartition('.')[2]} {value}" for key, value in arm.setting.items())])


def _words(
    question: str, choice: Choice, contrast: Contrast, also: Sequence[Contrast], family: int, config: ReportConfig
) -> str:
    """The answer itself and the figures that carry it."""
    pair, difference = choice.pair, contrast.difference
    rate, other_rate = (sum(sum(s.values()) / len(s) for s in side) / len(side) for side in (pair.first, pair.second))
    half = "other half of the " if choice.how == "half" else ""
    seeds = f"{difference.n_seeds} seeds" if difference.n_seeds > 1 else "1 seed"
    p = f"{'adjusted ' if family > 1 else ''}p {p_text(contrast.p_holm)}"
    more = f"{_points(difference)} than {_reference_words(question, contrast.reference)} ({other_rate:.3f}; "
    figures = f"solves {rate:.3f} of the {half}{pair.split} questions, {more}{seeds}, "
    figures += f"{difference.n_questions} questions, {p})"
    sentence = f"{who(contrast.treatment)}{CHOSEN[choice.how]} {figures}."
    headline = _headline(question, contrast, also)
    better = ""
    if choice.single is not None:
        better = f" {who(choice.single.treatment)} did better still, but with one seed only."
    return f"{headline} {sentence[0].upper()}{sentence[1:]}{_why(contrast, family, config)}{better}"


BEST_OF_HALF = "best on one half of the questions"
CHOSEN = {"only": "", "validation": ", best on validation,", "half": f", {BEST_OF_HALF},"}


def _reference_words(question: str, reference: Arm) -> str:
    if question == FAILURES:
        return "the successes alone" + (f" ({reference.strategy})" if reference.strategy != "none" else "")
    if question == RATIO:
        return str(_ratio_of(reference))
    return "the same without a mark" + (f" ({reference.strategy})" if reference.strategy != "none" else "")


def _ratio_of(arm: Arm) -> str:
    return ratio_text(arm.positives, arm.negatives) or arm.label


def _headline(question: str, contrast: Contrast, also: Sequence[Contrast]) -> str:
    """The answer in a few words; where it depends on the positives or the setting, all of its answers."""
    if len({contrast.verdict, *(other.verdict for other in also)}) == 1:
        words = _short(question, contrast)
        return f"{words if words == contrast.treatment.strategy else words[0].upper() + words[1:]}."
    others = (also[0], *[contrast] * len(also))  # whom each one's level is told apart from
    told = [
        f"{_level_words(each.treatment, other.treatment)} {_short(question, each)}"
        for each, other in zip((contrast, *also), others, strict=True)
    ]
    return f"It depends: {', '.join(told)}."


def _short(question: str, contrast: Contrast) -> str:
    is_worse = contrast.p_holm < LEVEL and contrast.difference.difference < 0
    is_yes = contrast.verdict == "yes"
    if contrast.verdict == "undecided":
        return "undecided"
    if question == FAILURES:
        return "yes" if is_yes else "no: they cost success" if is_worse else "no"
    if question == RATIO:
        return _ratio_of(contrast.treatment) if is_yes else f"{_ratio_of(contrast.reference)} will do"
    if is_yes:
        return contrast.treatment.strategy
    return "none: the mark costs success" if is_worse else "none: the mark adds nothing that matters"


def _why(contrast: Contrast, family: int, config: ReportConfig) -> str:
    """What keeps a verdict from being plain."""
    difference = contrast.difference
    limit = f"{100 * config.smallest_effect:g} points"
    if difference.n_seeds < 2:
        return " That is these runs only: one training seed does not show what another would give."
    if contrast.verdict == "no":
        most = max(contrast.adjusted_ci[1], 0.0)
        return f" An effect that matters ({limit}) is excluded: it is at most {100 * most:.1f} points."
    if contrast.verdict == "yes":
        is_small = contrast.adjusted_ci[1] < config.smallest_effect
        return f" It is there, but smaller than what matters ({limit})." if is_small else ""
    low, high = difference.ci95
    if low > 0 and contrast.p_holm >= LEVEL:
        return f" That is beyond chance by itself, but not as one of {family} comparisons."
    if high < 0 or (contrast.p_holm < LEVEL and difference.difference < 0):
        return " That speaks against it, but an effect that matters is not excluded."
    return f" Neither a gain nor its absence (less than {limit}) is shown."


def _elsewhere(question: str, contrast: Contrast, also: Sequence[Contrast]) -> Iterator[str]:
    """The same question at other numbers of positives or in other settings, each with its figures."""
    for other in also:
        where = _level_words(other.treatment, contrast.treatment)
        arm = _ratio_of(other.treatment) if question == RATIO else who(other.treatment)
        than = f" against {_ratio_of(other.reference)}" if question == RATIO else ""
        verdict = other.verdict + (" too" if other.verdict == contrast.verdict else "")
        p = f"adjusted p {p_text(other.p_holm)}" if len(also) > 1 else f"p {p_text(other.p_holm)}"
        yield f"W{where[1:]}: {verdict} ({arm}{than}, {_signed(other.difference)} points, {p})."


def _level_words(arm: Arm, other: Arm) -> str:
    """What tells the level of one arm from that of another: "with 50 successes"."""
    here, there = setting_of(arm), setting_of(other)
    parts = [f"{arm.positives} successes"] if arm.positives != other.positives else []
    parts += [f"{key.rpartition('.')[2]} {value}" for key, value in here.items() if there.get(key) != value]
    return "with " + ", ".join(parts or [arm.label])


def _tally(contrasts: Sequence[Contrast]) -> str:
    """All comparisons of the text at once: the chosen one is not the only evidence."""
    ahead, behind = (sum(sign * c.difference.difference > 0 for c in contrasts) for sign in (1, -1))
    clear = [sum(c.p_holm < LEVEL and sign * c.difference.difference > 0 for c in contrasts) for sign in (1, -1)]
    return (
        f"Of all {len(contrasts)} arms with a text {ahead} are ahead of the same without and {behind} behind, "
        f"{clear[0]} and {clear[1]} beyond chance (adjusted)."
    )


def _what_would_decide(pair: Pair, contrast: Contrast, family: int, config: ReportConfig) -> Iterator[str]:
    """How many seeds would show the wanted effect, as these runs vary; nothing where they cannot know it."""
    difference = contrast.difference
    if contrast.verdict != "undecided" or difference.seed_se is None:
        return
    # A difference of two runs varies by sqrt(2) of what one does, its mean over S seeds by 1 / sqrt(S) of that; the
    # noise of single answers is no part of what seeds do.
    variance = max(0.0, difference.seed_se**2 - difference.residual_se**2) * difference.n_seeds / 2
    disagreements = [
        sum(first[question] != second[question] for question in first) / len(first)
        for first, second in zip(pair.first, pair.second, strict=False)
    ]
    assumed = Assumed(sum(disagreements) / len(disagreements), math.sqrt(variance))
    n = difference.n_questions
    needed = seeds_needed(config.wanted_effect, n, assumed, family, config.power)
    effect = f"a true gain of {100 * config.wanted_effect:g} points"
    if needed is None or needed > MANY_SEEDS:
        yield f"As these runs vary, {effect} would take more questions than {n} to be seen."
    elif needed > difference.n_seeds:
        yield f"As these runs vary, {effect} would take {needed} seeds of {n} questions to be seen."


def p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _points(difference: CrossedDifference) -> str:
    """ "31.2 points [24.0, 38.4] more"; a loss is told as fewer."""
    sign = -1 if difference.difference < 0 else 1
    low, high = sorted(sign * 100 * bound for bound in difference.ci95)
    return f"{sign * 100 * difference.difference:.1f} points [{low:.1f}, {high:.1f}] {'more' if sign > 0 else 'less'}"


def _signed(difference: CrossedDifference) -> str:
    low, high = difference.ci95
    return f"{100 * difference.difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
