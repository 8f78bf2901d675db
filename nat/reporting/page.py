"""The report as one self-contained HTML page: verdict, caveats, pictures, tables, and a browser of roll-outs.

Nothing is fetched, and everything that comes from data is text: the template escapes names, and what models wrote
stays in a JSON block that the page's script only ever turns into text nodes. A content security policy allows no other
script. Here is what the page says; its structure is nat/assets/report.html.jinja.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nat.comparison import environments as elsewhere
from nat.comparison import losses
from nat.comparison.arms import mean_success
from nat.comparison.means import Mean, arm_mean
from nat.comparison.types import Arm, Comparison, Contrast, Environments, Finding, RunResult
from nat.comparison.verdict import interval_note, no_verdict, p_text
from nat.core.html import own, script_json, storable, templates
from nat.core.questions import question_id
from nat.reporting.pictures.draw import Drawn
from nat.reporting.text import LOSSES, NOT_PLAYED, other_text

if TYPE_CHECKING:
    from jinja2 import Environment

BADGES = {"yes": "✓ yes", "no": "✗ no", "undecided": "? undecided"}
DEPENDS = "± it depends"  # where other numbers of successes or settings have another answer
BROWSER_BYTES = 1_800_000  # of roll-outs in the page; the rest of it stays well below a megabyte
MOST_MESSAGES = 40  # of an episode; the middle of a longer one is left out
ARMS_SHOWN = 3  # side by side at first


@dataclass(frozen=True)
class IntervalFigure:
    """Where the evidence figure's parts stand on its axis, which is 320 wide with no difference at 160."""

    mean: str
    narrow: tuple[str, str]
    wide: tuple[str, str]


@dataclass(frozen=True)
class ShownContrast:
    treatment: str
    reference: str
    difference: str  # with its own interval
    rest: str  # the adjusted interval, p, what was asked, and a note where interval and verdict seem to disagree
    figure: IntervalFigure


@dataclass(frozen=True)
class Card:
    """A finding. `answer` is its first two sentences, the verdict and what it rests on; `more` is the rest."""

    tone: str
    badge: str
    question: str
    answer: str
    more: str
    evidence: ShownContrast | None  # that the verdict rests on
    also: tuple[ShownContrast, ...]  # the same question elsewhere


@dataclass(frozen=True)
class ShownPicture:
    alternative: str
    caption: str
    svg: str  # base64


class Head(NamedTuple):
    name: str
    is_figure: bool = True


class Cell(NamedTuple):
    """What a cell shows, and the value it sorts by (empty: missing, always last)."""

    text: str
    sort: float | str
    is_name: bool = False  # from data


MISSING = Cell("-", "")


@dataclass(frozen=True)
class Table:
    """A sortable table in a section of its own; a row holds as many cells as there are heads, each beside its head."""

    id: str
    title: str
    note: str
    heads: tuple[Head, ...]
    rows: tuple[tuple[tuple[Head, Cell], ...], ...]


def page(comparison: Comparison, pictures: Mapping[str, Drawn], browser_questions: int) -> str:
    """The report as HTML. `pictures`: by name, see `nat.reporting.pictures.draw.draw`; `browser_questions`: how many
    questions' roll-outs it holds at most, fewer where they would make the page large."""
    means = {arm.label: arm_mean(arm, comparison.split) for arm in comparison.arms}
    browser = browser_data(comparison, browser_questions)
    tables = [
        _arms_table(comparison, means),
        _environments_table(comparison.environments),
        _losses_table(comparison),
        _texts_table(comparison),
        _runs_table(comparison),
    ]
    tables = [table for table in tables if table is not None]
    there = {"verdict", "rollouts", *(table.id for table in tables), *["pictures"] * bool(pictures)}
    names = ("Verdict", "Pictures", "Arms", "Environments", "Losses", "Texts", "Runs", "Roll-outs")
    return (
        _templates()
        .get_template("report.html.jinja")
        .render(
            own=own(["report.css"], ["tables.js", "report.js"]),
            title=comparison.title,
            facts=_facts(comparison, means.values()),
            links=[(id, name) for name in names if (id := name.lower().replace("-", "")) in there],
            cards=[_card(finding) for finding in comparison.findings],
            no_verdict=no_verdict(comparison.arms) if comparison.arms else NOT_PLAYED,
            caveats=[caveat.text for caveat in comparison.caveats],
            missing=comparison.missing,
            pictures=_pictures(comparison, means, pictures),
            tables=tables,
            rollouts_note=_rollouts_note(comparison, browser) if browser else "",
            rollout_data=script_json(browser) if browser else "",
        )
    )


@cache
def _templates() -> Environment:
    return templates(lambda value: _clean(value) if type(value) is str else value, counted=_count)


def _clean(text: str) -> str:
    """Without lone surrogates, which no file can hold, and without control characters that HTML forbids."""
    if text.isprintable():
        return text
    return "".join(
        c if (c >= " " and c != "\x7f") or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in storable(text)
    )


def _facts(comparison: Comparison, means: Iterable[Mean | None]) -> str:
    counts = sorted({mean.n_questions for mean in means if mean is not None})
    seeds = len({run.seed for run in comparison.runs})
    facts = [
        _count(len(comparison.arms or comparison.measured), "arm"),
        _count(len(comparison.runs), "finished run"),
        _count(seeds, "seed"),
    ]
    if counts:
        facts.append(f"{' to '.join(map(str, sorted({counts[0], counts[-1]})))} questions a run")
    if comparison.missing:
        facts.append(f"{len(comparison.missing)} missing")
    return " · ".join(facts)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


# ---- the verdict ----


def _card(finding: Finding) -> Card:
    sentences = re.split(r"(?<=[.)])\s+(?=[A-Z])", finding.answer)
    tone, badge = ("undecided", DEPENDS) if finding.depends else (finding.verdict, BADGES[finding.verdict])
    return Card(
        tone=tone,
        badge=badge,
        question=finding.question,
        answer=" ".join(sentences[:2]),
        more=" ".join(sentences[2:]),
        evidence=None if finding.evidence is None else _shown_contrast(finding.evidence),
        also=tuple(map(_shown_contrast, finding.also)),
    )


def _shown_contrast(contrast: Contrast) -> ShownContrast:
    difference = contrast.difference
    note = interval_note(contrast)
    return ShownContrast(
        treatment=contrast.treatment.label,
        reference=contrast.reference.label,
        difference=f"{difference.difference:+.3f} {_interval(difference.ci95, '+')}",
        rest=(
            f"adjusted {_interval(contrast.adjusted_ci, '+')}, p {p_text(contrast.p_holm)} (Holm); "
            f"{difference.n_questions} {contrast.split} questions, {_count(difference.n_seeds, 'seed')}"
            f"{f'. {note}' if note else ''}"
        ),
        figure=_interval_figure(contrast),
    )


def _interval_figure(contrast: Contrast) -> IntervalFigure:
    mean, narrow, wide = contrast.difference.difference, contrast.difference.ci95, contrast.adjusted_ci
    most = 1.12 * max(0.01, *map(abs, (*narrow, *wide, mean)))

    def x(value: float) -> str:
        return f"{160 + 150 * value / most:.1f}"

    return IntervalFigure(x(mean), (x(narrow[0]), x(narrow[1])), (x(wide[0]), x(wide[1])))


def _interval(interval: tuple[float, float] | None, sign: str = "") -> str:
    return f"[{interval[0]:{sign}.3f}, {interval[1]:{sign}.3f}]" if interval else "-"


# ---- pictures and tables ----


def _pictures(
    comparison: Comparison, means: Mapping[str, Mean | None], pictures: Mapping[str, Drawn]
) -> list[ShownPicture]:
    rated = [(mean.value, arm.label) for arm in comparison.arms if (mean := means[arm.label]) is not None]
    extremes = ""
    if rated:
        (low, worst), (high, best) = min(rated), max(rated)
        extremes = f" Success goes from {low:.3f} ({worst}) to {high:.3f} ({best}); the table of arms has all figures."
    return [
        ShownPicture(f"{one.alternative}.{extremes}", one.caption, base64.b64encode(one.svg.read_bytes()).decode())
        for one in pictures.values()
    ]


def _figure_cell(value: float | None, form: str = ".3f") -> Cell:
    return MISSING if value is None else Cell(f"{value:{form}}", value)


def _name_cell(text: object) -> Cell:
    return MISSING if text is None or text == "" else Cell(str(text), str(text), is_name=True)


def _mean_cells(mean: Mean | None) -> list[Cell]:
    """The mean, and its interval, which sorts by its lower end."""
    interval = mean.ci95 if mean else None
    return [_figure_cell(mean.value if mean else None), Cell(_interval(interval), interval[0] if interval else "")]


def _table(id: str, title: str, note: str, heads: Sequence[Head], rows: Iterable[Sequence[Cell]]) -> Table:
    return Table(id, title, note, tuple(heads), tuple(tuple(zip(heads, row, strict=True)) for row in rows))


CONTRAST_HEADS = (Head("difference"), Head("adjusted interval"), Head("p (Holm)"), Head("against", False))


def _arms_table(comparison: Comparison, means: Mapping[str, Mean | None]) -> Table | None:
    if not comparison.arms:
        return None
    contrasts = {contrast.treatment.label: contrast for contrast in comparison.contrasts}
    keys = list(dict.fromkeys(key for arm in comparison.arms for key in arm.setting))
    scores = {arm.label: arm_mean(arm, comparison.split, "score") for arm in comparison.arms}
    graded = any(
        score is not None and (mean := means[label]) is not None and abs(score.value - mean.value) > 5e-4
        for label, score in scores.items()
    )
    heads = [
        Head("arm", False), Head("success"), Head("95% interval"), *[Head("mean score")] * graded, *CONTRAST_HEADS,
        Head("positives"), Head("negatives"), *(Head(key.rpartition(".")[2], False) for key in keys), Head("seeds"),
    ]  # fmt: skip
    rows = []
    for arm in comparison.arms:
        mean, score = means[arm.label], scores[arm.label]
        rows.append(
            [
                _name_cell(arm.label),
                *_mean_cells(mean),
                *[_figure_cell(score and score.value)] * graded,
                *_contrast_cells(contrasts.get(arm.label)),
                _figure_cell(arm.positives, "d"),
                _figure_cell(arm.negatives, "d"),
                *(_name_cell(arm.setting.get(key)) for key in keys),
                _figure_cell(len(arm.runs), "d"),
            ]
        )
    note = (
        "Means over questions and seeds, with intervals over both (over questions alone where an arm has one seed). "
        "The difference is to the arm named under against, on the same questions; its interval and p are adjusted for "
        f"the {_count(len(comparison.contrasts), 'comparison')} in this table. It is exploratory and holds no verdict: "
        "the verdict's own comparisons are another family. Click a column's head to sort."
    )
    return _table("arms", "Arms", note, heads, rows)


def _contrast_cells(contrast: Contrast | None) -> list[Cell]:
    if contrast is None:
        return [MISSING] * len(CONTRAST_HEADS)
    return [
        _figure_cell(contrast.difference.difference, "+.3f"),
        Cell(_interval(contrast.adjusted_ci, "+"), contrast.adjusted_ci[0]),
        Cell(p_text(contrast.p_holm).lstrip("= "), contrast.p_holm),
        _name_cell(contrast.reference.label),
    ]


def _environments_table(environments: Environments | None) -> Table | None:
    if environments is None:
        return None
    heads = [Head("arm", False), *map(Head, environments.names), Head("mean"), *CONTRAST_HEADS, Head("seeds")]
    rows = [
        [
            _name_cell(arm.label),
            *(_figure_cell(mean_success(arm, split)) for split in environments.splits),
            _figure_cell(elsewhere.mean_over(arm, environments.splits)),
            *_contrast_cells(elsewhere.contrast_of(environments, arm)),
            _figure_cell(len(arm.runs), "d"),
        ]
        for arm in environments.arms
    ]
    note = " ".join(
        [
            *(f"{line[0].upper()}{line[1:]}" for line in elsewhere.legend(environments)),
            "The difference is of that mean to the arm named under against, on the same questions; its interval and p "
            f"are adjusted for the {_count(len(environments.contrasts), 'comparison')} in this table. It is "
            "exploratory and holds no verdict.",
        ]
    )
    return _table("environments", "In each environment", note, heads, rows)


def _losses_table(comparison: Comparison) -> Table | None:
    heads = [Head("arm", False), Head("trajectories", False), Head("loss"), Head("under another text", False)]
    rows = [
        [
            _name_cell(row.arm.label),
            _name_cell(f"{row.trajectories} {row.group}"),
            _figure_cell(row.loss, ".4f"),
            _name_cell("; ".join(map(other_text, row.others)) or "-"),
            _figure_cell(len(row.arm.runs), "d"),
        ]
        for row in losses.losses_of(comparison.measured)
    ]
    note = " ".join(f"{line[0].upper()}{line[1:]}" for line in losses.LEGEND)
    return _table("losses", LOSSES, note, [*heads, Head("seeds")], rows) if rows else None


def _texts_table(comparison: Comparison) -> Table | None:
    if not comparison.text_contrasts:
        return None
    rows = [
        [_name_cell(contrast.treatment.label), _name_cell(contrast.treatment.strategy), *_contrast_cells(contrast)]
        for contrast in comparison.text_contrasts
    ]
    note = (
        "What the text adds: the difference to the same trajectories without one, adjusted over this table. It is "
        "exploratory and holds no verdict."
    )
    return _table("texts", "Texts", note, [Head("arm", False), Head("text", False), *CONTRAST_HEADS], rows)


def _runs_table(comparison: Comparison) -> Table | None:
    if not comparison.runs:
        return None
    arms = {run.name: arm.label for arm in (*comparison.measured, *comparison.arms) for run in arm.runs}
    heads = [
        Head("run", False), Head("arm", False), Head("seed"), Head("success"), Head("95% interval"), Head("questions"),
        Head("mean turns"), Head("steps"), Head("trained tokens"), Head("seconds"),
    ]  # fmt: skip
    rows = []
    for run in comparison.runs:
        # An arm of this one run: its interval is that of a single seed.
        mean = arm_mean(
            Arm(run.name, run.method, run.strategy, run.positives, run.negatives, run.setting, (run,)), comparison.split
        )
        timing = run.results.timing
        seconds = [timing[stage] for stage in ("training", "evaluation") if stage in timing]
        rows.append(
            [
                _name_cell(run.name),
                _name_cell(arms.get(run.name)),
                _figure_cell(run.seed, "d"),
                *_mean_cells(mean),
                _figure_cell(mean and mean.n_questions, "d"),
                _figure_cell(_mean_turns(run, comparison.split), ".2f"),
                _figure_cell(run.results.steps, ",d"),
                _figure_cell(run.results.trained_tokens, ",d"),
                _figure_cell(sum(seconds) if seconds else None, ".0f"),
            ]
        )
    note = "Every finished run by itself. Intervals are Wilson's: they hold the variance over questions only."
    return _table("runs", "Runs", note, heads, rows)


def _mean_turns(run: RunResult, split: str) -> float | None:
    turns = [answer.turns for answer in run.answers.get(split, {}).values() if answer.turns is not None]
    own = run.results.inference
    return sum(turns) / len(turns) if turns else own and own.mean_turns


# ---- the roll-out browser ----


def browser_data(comparison: Comparison, n_questions: int) -> dict[str, Any] | None:
    """What the browser shows, as JSON; None where no run's roll-outs are at hand.

    `episodes` and `texts` hold what recurs once; a question's `episodes[arm][seed]` is a place in the former, and a
    message is [role, place in `texts`]. What does not fit into `BROWSER_BYTES` is left out: first the other seeds, then
    the ends of long texts (and the page says so), then questions.
    """
    arms = [(arm, runs) for arm in comparison.arms if (runs := [run for run in arm.runs if _rollouts_path(run)])]
    chosen = chosen_questions([runs[0] for _, runs in arms], comparison.split, n_questions)
    read = {run.name: _read_episodes(run, set(chosen)) for _, runs in arms for run in runs}
    chosen = [id for id in chosen if any(id in episodes for episodes in read.values())]
    if not chosen:
        return None
    seeds = sorted({run.seed for _, runs in arms for run in runs})
    data: dict[str, Any] = {}
    for seeds_kept, longest, n_kept in _sizes(seeds, len(chosen)):
        data = _assembled(arms, read, chosen[:n_kept], seeds_kept, longest)
        if len(script_json(data).encode()) <= BROWSER_BYTES:
            break
    return {**data, "shown": _arms_shown(comparison, [arm for arm, _ in arms])}


def _sizes(seeds: list[int], n_questions: int) -> Iterator[tuple[list[int] | None, int, int]]:
    """Seeds (None: each arm's first), characters of a text and questions, from all to little."""
    yield seeds, 1500, n_questions
    yield None, 1500, n_questions
    yield None, 400, n_questions
    while n_questions:
        yield None, 150, n_questions
        n_questions //= 2


def chosen_questions(runs: Sequence[RunResult], split: str, n: int) -> list[str]:
    """Up to `n` questions that these runs were asked: those on which they disagree first, each by a hash of its id."""
    successes: dict[str, set[bool]] = {}
    for run in runs:
        for question, answer in run.answers.get(split, {}).items():
            successes.setdefault(question, set()).add(answer.success)

    def order(question: str) -> tuple[bool, str]:
        return len(successes[question]) < 2, hashlib.sha256(question.encode("utf-8", "replace")).hexdigest()

    return sorted(successes, key=order)[: max(0, n)]


def _rollouts_path(run: RunResult) -> Path | None:
    folder = run.files.directory if run.files is not None else None
    path = folder / "rollouts.jsonl" if folder is not None else None
    return path if path is not None and path.is_file() else None


def _read_episodes(run: RunResult, wanted: set[str]) -> dict[str, Mapping[str, Any]]:
    """A run's roll-outs of these questions. Lines that are none are passed over: the rest can still be looked at."""
    path = _rollouts_path(run)
    episodes = {}
    if path is not None and wanted:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    row = json.loads(line)
                    id = question_id(row["question"]["text"])
                    if id in wanted:
                        episodes[id] = {**row, "turns": [(m["role"], str(m["content"])) for m in row["messages"]]}
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue
    return episodes


def _assembled(
    arms: Sequence[tuple[Arm, Sequence[RunResult]]],
    read: Mapping[str, Mapping[str, Mapping[str, Any]]],
    questions: Sequence[str],
    seeds: list[int] | None,
    longest: int,
) -> dict[str, Any]:
    episodes: dict[tuple[Any, ...], int] = {}
    texts: dict[tuple[str, int], int] = {}

    def text_place(text: str) -> int:
        shown = _clean(text[:longest])
        return texts.setdefault((shown, max(0, len(text) - longest)), len(texts))

    def episode_place(row: Mapping[str, Any] | None) -> int | None:
        if row is None:
            return None
        outcome, turns = row.get("outcome") or {}, row["turns"]
        messages = [(role, text_place(text)) for role, text in turns]
        if len(messages) > MOST_MESSAGES:
            head, tail = MOST_MESSAGES * 3 // 4, MOST_MESSAGES // 4
            messages = [*messages[:head], ("skipped", len(messages) - MOST_MESSAGES), *messages[-tail:]]
        prediction = outcome.get("prediction")
        prediction = None if prediction is None else _clean(str(prediction))[:300]
        score = round(float(outcome.get("score") or 0), 3)
        episode = (bool(outcome.get("success")), outcome.get("failure"), prediction, score, tuple(messages))
        return episodes.setdefault(episode, len(episodes))

    listed = []
    for id in questions:
        rows = [[read[run.name].get(id) if run else None for run in _runs_of(runs, seeds)] for _, runs in arms]
        if found := [row for of_arm in rows for row in of_arm if row]:
            question = found[0]["question"]
            listed.append(
                {
                    "text": _clean(str(question["text"])[:4000]),
                    "reference": _clean(str(question.get("answer") or ""))[:300],
                    "episodes": [[episode_place(row) for row in of_arm] for of_arm in rows],
                }
            )
    return {
        "arms": [{"label": _clean(arm.label)} for arm, _ in arms],
        "seeds": ["first of each arm"] if seeds is None else seeds,
        "questions": listed,
        "episodes": [
            dict(zip(("success", "failure", "prediction", "score", "messages"), episode, strict=True))
            for episode in episodes
        ],
        "texts": [[text, left_out] if left_out else text for text, left_out in texts],
    }


def _runs_of(runs: Sequence[RunResult], seeds: list[int] | None) -> list[RunResult | None]:
    """The arm's run of each seed, None where it has none; without seeds its first run."""
    if seeds is None:
        return [runs[0]]
    by_seed = {run.seed: run for run in runs}
    return [by_seed.get(seed) for seed in seeds]


def _arms_shown(comparison: Comparison, arms: Sequence[Arm]) -> list[int]:
    """The arms shown at first: those that the verdict rests on, then one of each method."""
    evidence = [finding.evidence for finding in comparison.findings if finding.evidence]
    wanted = [arm.label for contrast in evidence for arm in (contrast.reference, contrast.treatment)]
    first_of_method = {arm.method: arm.label for arm in reversed(arms)}
    labels = [arm.label for arm in arms]
    order = dict.fromkeys(label for label in [*wanted, *first_of_method.values()] if label in labels)
    return sorted(labels.index(label) for label in list(order)[:ARMS_SHOWN])


def _rollouts_note(comparison: Comparison, browser: Mapping[str, Any]) -> str:
    """What the browser holds."""
    n = len({question for run in comparison.runs for question in run.answers.get(comparison.split, {})})
    without = len(comparison.arms) - len(browser["arms"])
    sentences = [
        f"{len(browser['questions'])} of {n} questions: those that arms disagree on come first, picked by a hash, so "
        "shares counted here are not success rates.",
        "Of each arm, the first seed is kept." if browser["seeds"] == ["first of each arm"] else "",
        f"{_count(without, 'arm')} without roll-outs on disk: not listed." if without else "",
    ]
    return " ".join(filter(None, sentences))
