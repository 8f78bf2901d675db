"""The verdict: whether to use the failures, at which ratio and with which text.

Each yes, no or undecided is `nat.comparison.contrasts.verdict_of`; here is chosen what is asked of it, and said.

What is best is chosen on validation answers and its effect is stated on test answers: the best of many arms looks
better than it is on the answers that chose it. Without validation answers one half of the questions chooses, the other
states.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from nat.comparison.arms import ratio_text, references_of, setting_of, unmarked_of
from nat.comparison.config import ReportConfig
from nat.comparison.contrasts import LEVEL, SHARED, contrasts_of, paired
from nat.comparison.types import Arm, Contrast, Finding, How, Pair, RunResult
from nat.core.methods import BY_NAME, MARKED, REFERENCE, UNNAMED
from nat.core.statistics import Assumed, CrossedDifference, crossed_difference, seeds_needed

MANY_SEEDS = 50  # more than this are no advice


def findings_of(
    arms: Sequence[Arm], text_contrasts: Sequence[Contrast], split: str, config: ReportConfig
) -> tuple[Finding, ...]:
    """Answers to those of the three questions that the arms can answer.

    The findings' contrasts are one Holm family, those at other numbers of positives or in other settings another.
    """
    drafts = [draft for draft in (_failures(arms, split), _ratio(arms, split), _text(arms, split)) if draft is not None]
    chosen, contrasts = _settled([draft.chosen for draft in drafts], config)
    others, other_contrasts = _settled([choice for draft in drafts for choice in draft.also], config)
    elsewhere = iter(zip(others, other_contrasts, strict=True))
    findings = []
    for draft, choice, contrast in zip(drafts, chosen, contrasts, strict=True):
        levels = [next(elsewhere) for _ in draft.also]
        also = tuple(other for _, other in levels)
        depends = _depends(draft.question, (contrast, *also), config)
        sentences = [_words(draft, choice, contrast, also if depends else (), len(drafts), config)]
        if draft.question == RATIO:
            sentences += _neighbours(choice, draft.candidates, split, "It")
        sentences += _elsewhere(draft, contrast, levels, len(others), split)
        if draft.question == TEXT:
            sentences += _tally(text_contrasts)
        sentences += _what_would_decide(choice.pair, contrast, len(drafts), config)
        findings.append(
            Finding(
                draft.question,
                contrast.verdict,
                " ".join(sentences),
                contrast,
                also,
                depends,
                recommended=_recommended(draft.question, contrast),
                chosen_on="half" if choice.is_half else choice.best.how,
            )
        )
    return tuple(findings)


def no_verdict(arms: Sequence[Arm]) -> str:
    """Why the runs answer none of the three questions."""
    methods = {arm.method for arm in arms}
    if not any(has_failures(arm) for arm in arms):
        return "No verdict: no run here was trained on failures (method nut, nat or nat_graded)."
    if REFERENCE not in methods:
        return "No verdict: no run on the successes alone (method=positive_only) to compare with."
    return "No verdict: no two arms here differ in their failures, ratio or text alone."


def interval_note(contrast: Contrast) -> str | None:
    """Why a yes may stand beside an interval that holds 0; None where it does not."""
    if contrast.verdict != "yes" or contrast.adjusted_ci[0] > 0:
        return None
    return (
        f"{contrast.treatment.label}: the interval of the family holds 0 and the verdict is yes, as the verdict is "
        "Holm's, which finds more than Bonferroni's intervals at the same rate of false verdicts."
    )


FAILURES, RATIO, TEXT = "Use the failures?", "At which ratio?", "With which text?"


@dataclass(frozen=True)
class Chosen:
    """The best of several arms, and on how much it was chosen."""

    arm: Arm
    how: How
    n_seeds: int  # fewest of an arm; 0 where there was nothing to choose
    n_questions: int  # fewest of a run


@dataclass(frozen=True)
class Choice:
    """The best arm of several, beside its reference."""

    pair: Pair
    best: Chosen
    is_half: bool  # whether one half of the questions chose the arm or its reference, and the other half states
    reference_how: How = "only"
    rivals: tuple[Pair, ...] = ()  # the arm beside what else it could be held against
    has_swapped: bool = False  # whether the pair was a rival: what did better on validation is beaten, this one is not
    # An arm that did better still on the seeds that all have, but has one seed only; `pair` is then the best of those
    # that have more.
    single: Choice | None = None


@dataclass(frozen=True)
class Draft:
    """A finding before its family is known."""

    question: str
    candidates: tuple[Arm, ...]
    chosen: Choice
    also: tuple[Choice, ...]  # at other numbers of positives or in other settings


def _settled(choices: Sequence[Choice], config: ReportConfig) -> tuple[list[Choice], tuple[Contrast, ...]]:
    """One family's contrasts. An arm with several seeds can show that failures help although another might help more;
    but where it does not show that, the other one, with its single seed, is what the question hangs on. And a yes has
    to hold against every reference: of those it does not hold against, the verdict is of the one that is most ahead.
    """

    def contrasts_with(settled: Sequence[Choice]) -> tuple[Contrast, ...]:
        return contrasts_of([choice.pair for choice in settled], config.smallest_effect)

    settled = list(choices)
    for place, contrast in enumerate(contrasts_with(choices)):
        choice = choices[place]
        if contrast.verdict != "yes":
            settled[place] = choice.single or choice
            continue
        unbeaten = []
        for rival in choice.rivals:
            rest = tuple(pair for pair in (choice.pair, *choice.rivals) if pair is not rival)
            swapped = replace(choice, pair=rival, rivals=rest, has_swapped=True)
            against = contrasts_with([*choices[:place], swapped, *choices[place + 1 :]])[place]
            if against.verdict != "yes":
                unbeaten.append((against.difference.difference, swapped))
        if unbeaten:
            settled[place] = min(unbeaten, key=lambda found: found[0])[1]
    return settled, contrasts_with(settled)


# ---- choosing ----


def choosing_half(question: str) -> bool:
    """Whether a question chooses, where one half of them has to; the other half states the effect."""
    return hashlib.sha256(f"choose:{question}".encode()).digest()[0] % 2 == 0


def stating_half(question: str) -> bool:
    return not choosing_half(question)


def choose(candidates: Sequence[Arm], split: str) -> Chosen:
    """The arm with the highest mean success on the answers that choose; of equals the one with fewer failures.

    In a partial sweep the seeds that all arms have choose: one that was lucky for some arms must not count for them.
    So do the seeds that all arms have validation answers of, where some runs have none.
    """
    if len(candidates) == 1:
        return Chosen(candidates[0], "only", 0, 0)
    runs = _choosing_runs(candidates, "validation") if split != "validation" else []
    how: How = "validation" if runs else "half"
    on = "validation" if runs else split
    runs = runs or _choosing_runs(candidates, split)
    asked = [run.answers[on].keys() for some in runs for run in some]
    common = set(asked[0]).intersection(*asked[1:])
    if len(common) < SHARED * max(map(len, asked)):
        common = set()  # arms in different worlds have few questions in common: each then stands for itself
    rates, counts = [], []
    for arm, some in zip(candidates, runs, strict=True):
        shares = []
        for run in some:
            questions = common or run.answers[on].keys()
            given = [run.answers[on][q].success for q in questions if how == "validation" or choosing_half(q)]
            shares.append(sum(given) / len(given) if given else 0.0)
            counts.append(len(given))
        rates.append((-round(sum(shares) / len(shares), 9), arm.negatives or 0))
    return Chosen(candidates[rates.index(min(rates))], how, min(map(len, runs)), min(counts))


def _choosing_runs(candidates: Sequence[Arm], on: str) -> list[list[RunResult]]:
    """Each arm's runs with answers on this split, of the seeds that all have; none where an arm has no such run."""
    runs = [[run for run in arm.runs if run.answers.get(on)] for arm in candidates]
    if not all(runs):
        return []
    seeds = set.intersection(*({run.seed for run in some} for some in runs))
    return [[run for run in some if run.seed in seeds] for some in runs] if seeds else runs


def _chosen(candidates: Sequence[Arm], others: Callable[[Arm], Sequence[Arm]], split: str) -> Choice | None:
    """The best of those that can be compared, and the comparison; None where none can."""
    pairs = {
        arm.label: found
        for arm in candidates
        if (found := [pair for other in others(arm) if (pair := _pair(arm, other, split)) is not None])
    }
    comparable = [arm for arm in candidates if arm.label in pairs]
    if not comparable:
        return None

    def held_against(best: Chosen) -> Choice | None:
        """Of several references that one which chooses best, as a user would take it; the others are its rivals."""
        several = [pair for pair in pairs[best.arm.label] if pair.n_seeds > 1] or pairs[best.arm.label]
        reference = choose([pair.reference for pair in several], split)
        is_half = "half" in (best.how, reference.how)
        keep = stating_half if is_half else None
        stated = [_pair(best.arm, pair.reference, split, keep) for pair in several]
        found = sorted(
            (pair for pair in stated if pair is not None), key=lambda pair: pair.reference is not reference.arm
        )
        return Choice(found[0], best, is_half, reference.how, tuple(found[1:])) if found else None

    best = choose(comparable, split)
    choice = held_against(best)
    if choice is None or choice.pair.n_seeds > 1:
        return choice
    several = [
        arm
        for arm in comparable
        if any(pair.n_seeds > 1 for pair in pairs[arm.label]) and level_of(arm) == level_of(best.arm)
    ]
    if not several:
        return choice
    # Chosen in the same way as among all, so that the same answers choose and state.
    again = choose(several, split)
    instead = held_against(replace(again, how=best.how) if again.how == "only" else again)
    return choice if instead is None else replace(instead, single=choice)


def _pair(arm: Arm, reference: Arm, split: str, keep: Callable[[str], bool] | None = None) -> Pair | None:
    pair = paired(arm, reference, split, keep)
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
    """Whether it was trained on failures, as far as is known: a method of others has to say on how many."""
    if arm.method in ("base", REFERENCE):
        return False
    return bool(arm.negatives) or (arm.negatives is None and arm.method in BY_NAME)


# ---- the three questions ----


def _failures(arms: Sequence[Arm], split: str) -> Draft | None:
    candidates = [arm for arm in arms if has_failures(arm)]
    return _draft(FAILURES, candidates, lambda arm: references_of(arm, arms), split)


def _text(arms: Sequence[Arm], split: str) -> Draft | None:
    candidates = [arm for arm in arms if arm.method in MARKED]

    def other(arm: Arm) -> Sequence[Arm]:
        unmarked = unmarked_of(arm, arms)
        return () if unmarked is None else (unmarked,)

    return _draft(TEXT, candidates, other, split)


def _ratio(arms: Sequence[Arm], split: str) -> Draft | None:
    """The best number of failures against the smallest one; where the smallest is best, against the next."""
    curves: dict[str, list[Arm]] = {}
    for arm in arms:
        if has_failures(arm) and arm.negatives is not None:
            curves.setdefault(_curve(arm), []).append(arm)
    candidates = [arm for curve in curves.values() for arm in curve if len(curve) > 1]

    def other(arm: Arm) -> Sequence[Arm]:
        smallest, following, *_ = sorted(curves[_curve(arm)], key=lambda each: each.negatives or 0)
        return (following,) if arm is smallest else (smallest,)

    return _draft(RATIO, candidates, other, split)


def _curve(arm: Arm) -> str:
    """What arms share that differ in their number of failures alone."""
    setting = {key: value for key, value in arm.setting.items() if key != "mixing.ratio"}
    positives = None if "mixing.tokens" in setting else arm.positives
    return repr((arm.method, arm.strategy, positives, sorted(setting.items())))


def _neighbours(choice: Choice, candidates: Sequence[Arm], split: str, subject: str) -> Iterator[str]:
    """Whether the next ratios on either side can be told from the chosen one; and whether it lies at the edge."""
    best = choice.pair.treatment
    curve = sorted((arm for arm in candidates if _curve(arm) == _curve(best)), key=lambda arm: arm.negatives or 0)
    place = [arm.label for arm in curve].index(best.label)
    told = []
    for neighbour in (*curve[max(place - 1, 0) : place], *curve[place + 1 : place + 2]):
        if neighbour is choice.pair.reference:
            continue  # stated already
        pair = _pair(best, neighbour, split, stating_half if choice.is_half else None)
        if pair is not None:
            told.append(f"{points_of(crossed_difference(pair.first, pair.second))} than {_ratio_of(neighbour)}")
    if told:
        yield f"{subject} solves {' and '.join(told)} ({'each interval' if told[1:] else 'the interval'} by itself)."
    if place == len(curve) - 1:
        yield f"{subject} is the largest ratio tried."


def _draft(
    question: str, candidates: Sequence[Arm], others: Callable[[Arm], Sequence[Arm]], split: str
) -> Draft | None:
    chosen = _chosen(candidates, others, split)
    if chosen is None:
        return None
    levels = (_chosen(members, others, split) for members in _by_level(candidates, chosen.pair.treatment))
    return Draft(question, tuple(candidates), chosen, tuple(level for level in levels if level is not None))


# ---- words ----


def who(arm: Arm) -> str:
    """An arm in a sentence: "NAT (suffix) with 1:4 (200 + 800)"."""
    known = BY_NAME.get(arm.method)
    word = known.words if known else f"method {arm.method}"  # names of others keep their small letters
    if arm.strategy != "none":
        word += " (text not named)" if arm.strategy == UNNAMED else f" ({arm.strategy})"
    if has_failures(arm) and (ratio := ratio_text(arm.positives, arm.negatives)) is not None:
        word += f" with {ratio} ({arm.positives} + {arm.negatives})"
    elif has_failures(arm) and arm.negatives is not None:
        word += f" with {arm.negatives} failures"
    return ", ".join([word, *(f"{key.rpartition('.')[2]} {value}" for key, value in arm.setting.items())])


def _words(
    draft: Draft, choice: Choice, contrast: Contrast, others: Sequence[Contrast], family: int, config: ReportConfig
) -> str:
    """The answer itself and the figures that carry it. `others`: those of other levels, where the answer depends."""
    pair, difference, question = choice.pair, contrast.difference, draft.question
    rate, other_rate = (mean_of(side) for side in (pair.first, pair.second))
    half = "other half of the " if choice.is_half else ""
    p = f"{'adjusted ' if family > 1 else ''}p {p_text(contrast.p_holm)}"
    more = f"{points_of(difference)} than {_reference_words(question, contrast.reference)} ({other_rate:.3f}; "
    figures = f"solves {rate:.3f} of the {half}{pair.split} questions, {more}{_seeds(difference.n_seeds)}, "
    figures += f"{difference.n_questions} questions, {p})"
    chosen = CHOSEN[choice.best.how] or ("," if contrast.treatment.setting else "")
    sentence = f"{who(contrast.treatment)}{chosen} {figures}."
    headline = _headline(draft, choice, contrast, others, config)
    better = ""
    if choice.single is not None:
        better = f" {_capital(who(choice.single.pair.treatment))} did better still, but with one seed only."
    on_few = _chosen_on_few(choice.best, difference)
    return f"{headline} {_capital(sentence)}{on_few}{_rivals(choice)}{_why(contrast, family, config)}{better}"


def mean_of(side: Sequence[Mapping[str, float]]) -> float:
    """Mean success of one side of a pair, over its questions and seeds."""
    return sum(sum(successes.values()) / len(successes) for successes in side) / len(side)


def _seeds(n: int) -> str:
    return f"{n} seeds" if n != 1 else "1 seed"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _chosen_on_few(best: Chosen, difference: CrossedDifference) -> str:
    """How much chose, where that is less than what states (one half of the questions is about as many as the other)."""
    if best.how == "only" or not best.n_seeds:
        return ""
    if best.n_seeds >= difference.n_seeds and best.n_questions >= SHARED * difference.n_questions:
        return ""
    return f" It was chosen on {_seeds(best.n_seeds)}, {best.n_questions} questions."


def _rivals(choice: Choice) -> str:
    """The arm beside the other arms on the successes alone, whichever text these have."""
    told = []
    for rival in choice.rivals:
        difference = crossed_difference(rival.first, rival.second)
        reference = _reference_words(FAILURES, rival.reference)
        told.append(f"{points_of(difference)} than {reference} ({mean_of(rival.second):.3f}; the interval by itself)")
    if not told:
        return ""
    figures = " and ".join(told)
    if choice.has_swapped:
        return f" It solves {figures}, but a yes has to hold against all of the successes alone."
    chosen = f"what did best of the successes alone {CHOSE_REFERENCE[choice.reference_how]}"
    return f" It is held against {chosen}; it solves {figures}."


CHOSE_REFERENCE = {"only": "", "validation": "on validation", "half": "on one half of the questions"}
CHOSEN = {"only": "", "validation": ", best on validation,", "half": ", best on one half of the questions,"}


def _reference_words(question: str, reference: Arm) -> str:
    if question == FAILURES:
        return "the successes alone" + (f" ({reference.strategy})" if reference.strategy != "none" else "")
    if question == RATIO:
        return str(_ratio_of(reference))
    return "the same without a mark" + (f" ({reference.strategy})" if reference.strategy != "none" else "")


def _ratio_of(arm: Arm) -> str:
    return ratio_text(arm.positives, arm.negatives) or (
        arm.label if arm.negatives is None else f"{arm.negatives} failures"
    )


def _depends(question: str, contrasts: Sequence[Contrast], config: ReportConfig) -> bool:
    """Whether the levels answer differently: by their verdicts, and by which ratio or text it is."""
    if question == FAILURES:
        return len({contrast.verdict for contrast in contrasts}) > 1
    return len({_short(question, contrast, config) for contrast in contrasts}) > 1


def _headline(
    draft: Draft, choice: Choice, contrast: Contrast, others: Sequence[Contrast], config: ReportConfig
) -> str:
    """The answer in a few words; where it depends on the positives or the setting, all of its answers."""
    if not others:
        words = _short(draft.question, contrast, config)
        if contrast.verdict == "no" and draft.question != RATIO:
            words += _where(choice, draft.candidates)
        return f"{words if words == contrast.treatment.strategy else _capital(words)}."
    levels = (others[0], *[contrast] * len(others))  # whom each one's level is told apart from
    told = [
        f"{_level_words(each.treatment, other.treatment)} {_short(draft.question, each, config)}"
        for each, other in zip((contrast, *others), levels, strict=True)
    ]
    return f"It depends: {', '.join(told)}."


def _is_worse(contrast: Contrast) -> bool:
    return contrast.p_holm < LEVEL and contrast.difference.difference < 0


def _recommended(question: str, contrast: Contrast) -> Arm | None:
    if contrast.verdict == "undecided":
        return None
    if contrast.verdict == "yes":
        return contrast.treatment
    if question == RATIO and not _is_worse(contrast):
        # The chosen one's lead is too small to matter, so the one of fewer failures will do: it may be the chosen one.
        return min(contrast.treatment, contrast.reference, key=lambda arm: arm.negatives or 0)
    return contrast.reference


def _short(question: str, contrast: Contrast, config: ReportConfig) -> str:
    is_worse, is_yes = _is_worse(contrast), contrast.verdict == "yes"
    recommended = _recommended(question, contrast)
    if recommended is None:
        return "undecided"
    if question == FAILURES:
        return "yes" if is_yes else "no: they cost success" if is_worse else f"no: no gain of {_limit(config)} or more"
    if question == RATIO:
        return f"{_ratio_of(recommended)}{'' if is_yes else ' is better' if is_worse else ' will do'}"
    if is_yes:
        return (
            "a text that its file does not name"
            if contrast.treatment.strategy == UNNAMED
            else contrast.treatment.strategy
        )
    return "none: the mark costs success" if is_worse else f"none: the mark adds less than {_limit(config)}"


def _limit(config: ReportConfig) -> str:
    return f"{100 * config.smallest_effect:g} points"


def _where(choice: Choice, candidates: Sequence[Arm]) -> str:
    """What was chosen of several, for which alone a no is shown: " at the ratio that validation chose"."""
    level = [arm for arm in candidates if level_of(arm) == level_of(choice.pair.treatment)]
    what = ["ratio"] if len({arm.negatives for arm in level}) > 1 else []
    what += ["text"] if len({(arm.method, arm.strategy) for arm in level}) > 1 else []
    if not what or choice.best.how == "only":
        return ""
    return f" at the {' and '.join(what)} that {'validation' if choice.best.how == 'validation' else 'one half'} chose"


def _why(contrast: Contrast, family: int, config: ReportConfig) -> str:
    """What keeps a verdict from being plain."""
    difference = contrast.difference
    limit = _limit(config)
    if difference.n_seeds < 2:
        return " That is these runs only: one training seed does not show what another would give."
    if contrast.verdict == "no":
        most = f"{100 * max(contrast.adjusted_ci[1], 0.0):.1f}"
        # What is below the limit may be rounded up to it.
        is_near = float(most) >= 100 * config.smallest_effect
        return f" An effect that matters ({limit}) is excluded" + (
            "." if is_near else f": it is at most {most} points."
        )
    if contrast.verdict == "yes":
        is_small = contrast.adjusted_ci[1] < config.smallest_effect
        return f" It is there, but smaller than what matters ({limit})." if is_small else ""
    low, high = difference.ci95
    if low > 0 and contrast.p_holm >= LEVEL:
        return f" That is beyond chance by itself, but not as one of {family} comparisons."
    if high < 0 or (contrast.p_holm < LEVEL and difference.difference < 0):
        return " That speaks against it, but an effect that matters is not excluded."
    return f" Neither a gain nor its absence (less than {limit}) is shown."


def _elsewhere(
    draft: Draft, contrast: Contrast, levels: Sequence[tuple[Choice, Contrast]], family: int, split: str
) -> Iterator[str]:
    """The same question at other numbers of positives or in other settings, each with its figures.

    `family`: how many contrasts elsewhere there are of all questions; their p-values are adjusted over them.
    """
    for choice, other in levels:
        where, few = _level_words(other.treatment, contrast.treatment), _chosen_on_few(choice.best, other.difference)
        is_ratio = draft.question == RATIO
        arm = _ratio_of(other.treatment) if is_ratio else who(other.treatment)
        than = ""
        if is_ratio or choice.rivals:
            than = f" against {_reference_words(draft.question, other.reference)}"
        verdict = other.verdict + (" too" if other.verdict == contrast.verdict else "")
        p = f"{'adjusted ' if family > 1 else ''}p {p_text(other.p_holm)}"
        yield f"{_capital(where)}: {verdict} ({arm}{than}, {_signed(other.difference)} points, {p}).{few}"
        if is_ratio:
            yield from _neighbours(choice, draft.candidates, split, f"{_capital(where)} {arm}")


def _level_words(arm: Arm, other: Arm) -> str:
    """What tells the level of one arm from that of another: "with 50 successes"."""
    here, there = setting_of(arm), setting_of(other)
    parts = []
    if arm.positives != other.positives:
        parts.append(
            "a number of successes that is not stated" if arm.positives is None else f"{arm.positives} successes"
        )
    parts += [f"{key.rpartition('.')[2]} {value}" for key, value in here.items() if there.get(key) != value]
    return "with " + ", ".join(parts or [arm.label])


def _tally(contrasts: Sequence[Contrast]) -> Iterator[str]:
    """All comparisons of the text at once: the chosen one is not the only evidence. One seed is evidence of nothing."""
    several = [contrast for contrast in contrasts if contrast.difference.n_seeds > 1]
    if len(several) < 2:
        return
    ahead, behind = (sum(sign * c.difference.difference > 0 for c in several) for sign in (1, -1))
    clear = [sum(c.p_holm < LEVEL and sign * c.difference.difference > 0 for c in several) for sign in (1, -1)]
    arms = f"Of all {len(several)} arms with a text"
    arms += " and several seeds" if len(several) < len(contrasts) else ""
    yield (
        f"{arms} {ahead} are ahead of the same without and {behind} behind, {clear[0]} and {clear[1]} beyond chance "
        "(adjusted)."
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
    effect = (
        f"As these {difference.n_seeds} seeds vary, a true gain of {100 * config.wanted_effect:g} points would take"
    )
    seen = f"to be seen in {100 * config.power:g}% of such sweeps."
    if needed is None or needed > MANY_SEEDS:
        yield f"{effect} more questions than {n} {seen}"
    elif needed > difference.n_seeds:
        yield f"{effect} {needed} seeds of {n} questions {seen}"


def p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def points_of(difference: CrossedDifference) -> str:
    """ "31.2 points [24.0, 38.4] more"; a loss is told as fewer."""
    sign = -1 if difference.difference < 0 else 1
    low, high = sorted(sign * 100 * bound for bound in difference.ci95)
    return f"{sign * 100 * difference.difference:.1f} points [{low:.1f}, {high:.1f}] {'more' if sign > 0 else 'less'}"


def _signed(difference: CrossedDifference) -> str:
    low, high = difference.ci95
    return f"{100 * difference.difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
