"""The report as one self-contained HTML page: verdict, caveats, pictures, tables, and a browser of roll-outs.

Nothing is fetched, and everything that comes from data is text: names are escaped here, and what models wrote stays in
a JSON block that the page's script only ever turns into text nodes. A content security policy allows no other script.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from nat import elsewhere
from nat.arm_means import Mean, arm_mean
from nat.comparison import Arm, Comparison, Contrast, Environments, Finding, RunResult, mean_success
from nat.findings import interval_note, no_verdict, p_text
from nat.html_page import asset, policy
from nat.pictures import verdict_arms
from nat.questions import question_id

BADGES = {"yes": "✓ yes", "no": "✗ no", "undecided": "? undecided"}
DEPENDS = "± it depends"  # where other numbers of successes or settings have another answer
CAPTIONS = {
    "negatives": (
        "Line chart of the success rate against the number of negatives, one line a method",
        "Success against the number of negatives trained on. Bands: 95% interval of the mean over questions and seeds "
        "(questions alone where there is one seed); faint points: single seeds.",
    ),
    "methods": (
        "Bar chart of the success rate of each method",
        "Success by arm, with 95% intervals; where the mean score (F1) differs from success, it stands below.",
    ),
    "strategies": (
        "Forest plot of the success rate under each conditioning text",
        "Texts side by side: mean, 95% interval and single seeds. Dashed: NUT, the same trajectories without a text.",
    ),
    "environments": (
        "Point plots of the success rate, one panel an environment and one row an arm",
        "Success in each environment that the models were asked in, their own first: mean, 95% interval and single "
        "seeds. Dotted: the successes alone, where they are one arm.",
    ),
    "failures": (
        "Stacked bars of how episodes ended, one row an arm",
        "How episodes ended: what an arm gains in success, it loses in some kind of failure.",
    ),
    "loss": (
        "Small line charts of the training loss by class",
        "Training loss by class of trajectory, first seed of each arm (of many arms, a few).",
    ),
    "cost": (
        "Scatter plots of the success rate against trained tokens, seconds, and optimiser steps where these differ",
        "Success against its cost: optimiser steps (named where all arms have as many), trained tokens, and seconds of "
        "training and evaluation on the machines used.",
    ),
}
BROWSER_BYTES = 1_800_000  # of roll-outs in the page; the rest of it stays well below a megabyte
MOST_MESSAGES = 40  # of an episode; the middle of a longer one is left out
ARMS_SHOWN = 3  # side by side at first


def page(comparison: Comparison, pictures: Mapping[str, tuple[Path, Path]], browser_questions: int) -> str:
    """The report as HTML. `pictures`: PNG and SVG by name, see `nat.pictures.draw`; `browser_questions`: how many
    questions' roll-outs it holds at most, fewer where they would make the page large."""
    means = {arm.label: arm_mean(arm, comparison.split) for arm in comparison.arms}
    browser = browser_data(comparison, browser_questions)
    css, script = asset("report.css"), asset("tables.js") + asset("report.js")
    sections = {
        "caveats": _caveats(comparison.caveats),
        "missing": _missing(comparison.missing),
        "pictures": _pictures(comparison, means, pictures),
        "arms": _arms_table(comparison, means),
        "environments": _environments_table(comparison.environments),
        "texts": _texts_table(comparison),
        "runs": _runs_table(comparison),
    }
    names = ("Verdict", "Pictures", "Arms", "Environments", "Texts", "Runs", "Roll-outs")
    links = [(id, name) for name in names if sections.get(id := name.lower().replace("-", ""), "always there")]
    return Template(asset("report.html")).substitute(
        sections,
        policy=policy(css, script),
        title=_text(comparison.title),
        css=css,
        script=script,
        facts=_text(_facts(comparison, means.values())),
        navigation=" ".join(f'<a href="#{id}">{name}</a>' for id, name in links),
        findings=_findings(comparison),
        rollouts_note=_rollouts_note(comparison, browser),
        data=f'<script type="application/json" id="rollout-data">{_json(browser)}</script>' if browser else "",
        footer="Written by <code>nat report</code> from the files of the runs alone.",
    )


def _clean(text: str) -> str:
    """Without lone surrogates, which no file can hold, and without control characters that HTML forbids."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return "".join(c if (c >= " " and c != "\x7f") or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _text(text: object) -> str:
    return html.escape(_clean(str(text)))


def _name(text: object) -> str:
    """A name from data: its writing direction does not reach the text around it."""
    return f"<bdi>{_text(text)}</bdi>"


def _json(value: Any) -> str:
    """JSON that ends no script element and opens no comment, whatever its strings say."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _facts(comparison: Comparison, means: Iterable[Mean | None]) -> str:
    counts = sorted({mean.n_questions for mean in means if mean is not None})
    seeds = len({run.seed for run in comparison.runs})
    facts = [_count(len(comparison.arms), "arm"), _count(len(comparison.runs), "finished run"), _count(seeds, "seed")]
    if counts:
        facts.append(f"{' to '.join(map(str, sorted({counts[0], counts[-1]})))} questions a run")
    if comparison.missing:
        facts.append(f"{len(comparison.missing)} missing")
    return " · ".join(facts)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


# ---- the verdict ----


def _findings(comparison: Comparison) -> str:
    if not comparison.findings:
        return f'<p class="note">{_text(no_verdict(comparison.arms))}</p>'
    cards = []
    for finding in comparison.findings:
        evidence = _evidence(finding)
        tone, badge = ("undecided", DEPENDS) if finding.depends else (finding.verdict, BADGES[finding.verdict])
        cards.append(
            f'<article class="finding {tone}"><header><h3>{_text(finding.question)}</h3>'
            f'<span class="badge">{badge}</span></header>'
            f"{_answer(finding.answer)}{evidence}</article>"
        )
    return f'<div class="findings">{"".join(cards)}</div>'


def _answer(text: str) -> str:
    """The answer's first two sentences, the verdict and what it rests on, larger than the rest."""
    sentences = re.split(r"(?<=[.)])\s+(?=[A-Z])", text)
    first, rest = " ".join(sentences[:2]), " ".join(sentences[2:])
    more = f'<p class="more" dir="auto">{_text(rest)}</p>' if rest else ""
    return f'<p class="answer" dir="auto">{_text(first)}</p>{more}'


def _evidence(finding: Finding) -> str:
    """The contrast that the verdict rests on, and below it the same question elsewhere."""
    if finding.evidence is None:
        return ""
    also = "".join(f"<li>{_contrast(contrast)}</li>" for contrast in finding.also)
    summary = f"<summary>The same elsewhere ({len(finding.also)})</summary>"
    elsewhere = f"<details>{summary}<ul>{also}</ul></details>" if also else ""
    return f'<div class="evidence">{_contrast(finding.evidence)}{_interval_figure(finding.evidence)}{elsewhere}</div>'


def _contrast(contrast: Contrast) -> str:
    difference = contrast.difference
    return (
        f"{_name(contrast.treatment.label)} against {_name(contrast.reference.label)}: "
        f"<strong>{difference.difference:+.3f} {_interval(difference.ci95, '+')}</strong>, "
        f"adjusted {_interval(contrast.adjusted_ci, '+')}, p {_text(p_text(contrast.p_holm))} (Holm); "
        f"{difference.n_questions} {_text(contrast.split)} questions, {_count(difference.n_seeds, 'seed')}"
        f"{f'. {_text(note)}' if (note := interval_note(contrast)) else ''}"
    )


def _interval_figure(contrast: Contrast) -> str:
    """The difference with both its intervals and the line of no difference; the text beside it says the same."""
    mean, narrow, wide = contrast.difference.difference, contrast.difference.ci95, contrast.adjusted_ci
    most = 1.12 * max(0.01, *map(abs, (*narrow, *wide, mean)))

    def x(value: float) -> str:
        return f"{160 + 150 * value / most:.1f}"

    return (
        '<svg class="evidence-figure" viewBox="0 0 320 38" aria-hidden="true">'
        f'<line class="zero" x1="160" x2="160" y1="2" y2="26"/>'
        f'<line class="wide" x1="{x(wide[0])}" x2="{x(wide[1])}" y1="14" y2="14"/>'
        f'<line class="narrow" x1="{x(narrow[0])}" x2="{x(narrow[1])}" y1="14" y2="14"/>'
        f'<circle class="mean" cx="{x(mean)}" cy="14" r="5"/>'
        '<text x="160" y="36" text-anchor="middle">no difference</text>'
        '<text x="2" y="36">worse</text><text x="318" y="36" text-anchor="end">better</text></svg>'
    )


def _interval(interval: tuple[float, float] | None, sign: str = "") -> str:
    return f"[{interval[0]:{sign}.3f}, {interval[1]:{sign}.3f}]" if interval else "-"


def _caveats(caveats: Sequence[str]) -> str:
    if not caveats:
        return ""
    items = "".join(f'<li dir="auto">{_text(caveat)}</li>' for caveat in caveats)
    return (
        '<section class="callout" aria-labelledby="caveats-title"><h2 id="caveats-title">Before believing it</h2>'
        f"<ul>{items}</ul></section>"
    )


def _missing(missing: Sequence[str]) -> str:
    if not missing:
        return ""
    items = "".join(f'<li dir="auto">{_text(line)}</li>' for line in missing)
    is_open = " open" if len(missing) <= 5 else ""
    summary = f"{_count(len(missing), 'cell')} without results, left out of everything below"
    return f'<details class="missing"{is_open}><summary>{summary}</summary><ul>{items}</ul></details>'


# ---- pictures and tables ----


def _pictures(
    comparison: Comparison, means: Mapping[str, Mean | None], pictures: Mapping[str, tuple[Path, Path]]
) -> str:
    if not pictures:
        return ""
    rated = [(mean.value, arm.label) for arm in comparison.arms if (mean := means[arm.label]) is not None]
    extremes = ""
    if rated:
        (low, worst), (high, best) = min(rated), max(rated)
        extremes = f" Success goes from {low:.3f} ({worst}) to {high:.3f} ({best}); the table of arms has all figures."
    figures = []
    for name, (_, svg) in pictures.items():
        alternative, caption = CAPTIONS.get(name, (name, name))
        if name == "methods" and verdict_arms(comparison):
            caption += " Of the many arms, those that the verdict rests on and what they are held against."
        data = base64.b64encode(svg.read_bytes()).decode()
        figures.append(
            f'<figure><img alt="{_text(alternative + "." + extremes)}" src="data:image/svg+xml;base64,{data}">'
            f"<figcaption>{_text(caption)}</figcaption></figure>"
        )
    return (
        '<section id="pictures" aria-labelledby="pictures-title"><h2 id="pictures-title">Pictures</h2>'
        f'<div class="pictures">{"".join(figures)}</div></section>'
    )


# A cell of a table: what it shows as HTML, and the value it sorts by (None: missing, always last).
Cell = tuple[str, float | str | None]


def _figure_cell(value: float | None, form: str = ".3f") -> Cell:
    return ("-", None) if value is None else (f"{value:{form}}", value)


def _name_cell(text: object) -> Cell:
    return ("-", None) if text is None or text == "" else (_name(text), _clean(str(text)))


def _table(id: str, title: str, note: str, heads: Sequence[tuple[str, bool]], rows: Sequence[Sequence[Cell]]) -> str:
    """A sortable table in a box of its own; `heads` are (name, is a figure)."""
    head = "".join(
        f'<th scope="col"{" class=number" if is_figure else ""}>{_text(name)}</th>' for name, is_figure in heads
    )
    body = []
    for row in rows:
        cells = []
        for place, ((shown, value), (_, is_figure)) in enumerate(zip(row, heads, strict=True)):
            tag = 'th scope="row"' if place == 0 else "td"
            sort = "" if value is None else _text(value)
            kind = " class=number" if is_figure else ""
            cells.append(f'<{tag}{kind} data-sort="{sort}">{shown}</{tag.split()[0]}>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<section id="{id}" aria-labelledby="{id}-title"><h2 id="{id}-title">{title}</h2>'
        f'<p class="note" id="{id}-note">{_text(note)}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{id}-title">'
        f'<table class="sortable" aria-labelledby="{id}-title" aria-describedby="{id}-note">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div></section>"
    )


CONTRAST_HEADS = (
    ("difference", True),
    ("adjusted interval", True),
    ("p (Holm)", True),
    ("against", False),
)


def _arms_table(comparison: Comparison, means: Mapping[str, Mean | None]) -> str:
    if not comparison.arms:
        return ""
    contrasts = {contrast.treatment.label: contrast for contrast in comparison.contrasts}
    keys = list(dict.fromkeys(key for arm in comparison.arms for key in arm.setting))
    scores = {arm.label: arm_mean(arm, comparison.split, "score") for arm in comparison.arms}
    graded = any(
        score is not None and (mean := means[label]) is not None and abs(score.value - mean.value) > 5e-4
        for label, score in scores.items()
    )
    heads = [
        ("arm", False), ("success", True), ("95% interval", True), *[("mean score", True)] * graded, *CONTRAST_HEADS,
        ("positives", True), ("negatives", True), *((key.rpartition(".")[2], False) for key in keys), ("seeds", True),
    ]  # fmt: skip
    rows = []
    for arm in comparison.arms:
        mean, score = means[arm.label], scores[arm.label]
        rows.append(
            [
                _name_cell(arm.label),
                _figure_cell(mean and mean.value),
                (_interval(mean and mean.ci95), mean.ci95[0] if mean and mean.ci95 else None),
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
        return [("-", None)] * 4
    return [
        _figure_cell(contrast.difference.difference, "+.3f"),
        (_interval(contrast.adjusted_ci, "+"), contrast.adjusted_ci[0]),
        (_text(p_text(contrast.p_holm).lstrip("= ")), contrast.p_holm),
        _name_cell(contrast.reference.label),
    ]


def _environments_table(environments: Environments | None) -> str:
    if environments is None:
        return ""
    heads = [("arm", False), *((name, True) for name in environments.names), ("mean", True)]
    heads += [*CONTRAST_HEADS, ("seeds", True)]
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


def _texts_table(comparison: Comparison) -> str:
    if not comparison.text_contrasts:
        return ""
    rows = [
        [_name_cell(contrast.treatment.label), _name_cell(contrast.treatment.strategy), *_contrast_cells(contrast)]
        for contrast in comparison.text_contrasts
    ]
    note = (
        "What the text adds: the difference to the same trajectories without one, adjusted over this table. It is "
        "exploratory and holds no verdict."
    )
    return _table("texts", "Texts", note, [("arm", False), ("text", False), *CONTRAST_HEADS], rows)


def _runs_table(comparison: Comparison) -> str:
    if not comparison.runs:
        return ""
    arms = {run.name: arm.label for arm in comparison.arms for run in arm.runs}
    heads = [
        ("run", False), ("arm", False), ("seed", True), ("success", True), ("95% interval", True), ("questions", True),
        ("mean turns", True), ("steps", True), ("trained tokens", True), ("seconds", True),
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
                _figure_cell(mean and mean.value),
                (_interval(mean and mean.ci95), mean.ci95[0] if mean and mean.ci95 else None),
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
        if len(_json(data).encode()) <= BROWSER_BYTES:
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


def _rollouts_note(comparison: Comparison, browser: Mapping[str, Any] | None) -> str:
    """What the browser holds, or why it holds nothing."""
    if browser is None:
        return (
            '<p class="note">No episode can be shown: <code>rollouts.jsonl</code> of the runs are not here (committed '
            "results leave them out), or no questions were asked for. <code>nat report</code> where the runs were made "
            "shows them.</p>"
        )
    n = len({question for run in comparison.runs for question in run.answers.get(comparison.split, {})})
    without = len(comparison.arms) - len(browser["arms"])
    sentences = [
        f"{len(browser['questions'])} of {n} questions: those that arms disagree on come first, picked by a hash, so "
        "shares counted here are not success rates.",
        "Of each arm, the first seed is kept." if browser["seeds"] == ["first of each arm"] else "",
        f"{_count(without, 'arm')} without roll-outs on disk: not listed." if without else "",
    ]
    return (
        f'<p class="note">{" ".join(filter(None, sentences))}</p>'
        '<noscript><p class="note">Picking a question needs JavaScript; all of the above does not.</p></noscript>'
        '<p class="note print-only">The browser of roll-outs is interactive and left out of the print.</p>'
    )
