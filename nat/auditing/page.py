"""The audit as one self-contained HTML page: verdict, findings with their examples, tables, whole trajectories.

Nothing is fetched, and everything that comes from data, text and names alike, is escaped by the templates; a content
security policy allows no script but the page's own. The page works without the script, which only sorts and filters.
Here is what the page says; its structure is nat/assets/audit.html.jinja and audit_parts.html.jinja.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from nat.auditing.findings import Audit, Finding, Lengths, Shown, Sighting
from nat.auditing.summary import (
    KINDS,
    SYSTEM_PROMPTS,
    count,
    dealt,
    figure,
    found_said,
    largest,
    output_folder,
    share,
    size,
    unit_of,
    verdict,
)
from nat.auditing.visible import is_seen, runs, visible
from nat.core.html import macro, own, templates
from nat.quality.marks import SEVERITIES
from nat.types import Message

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_ROWS = 300  # of a table; audit.json and dropped.jsonl hold the rest
MOST_SIGHTINGS = 50  # of a finding
MOST_TABLES = 5  # of a finding's details
MOST_COLUMNS = 12  # of such a table
MOST_NAME = 300  # characters of a name, of an excerpt, of a cell
MOST_TEXT = 2000  # characters of a sentence, a question, an answer
MOST_MESSAGES = 40  # of a trajectory, beside those in which something was found
MOST_MARKS = 20  # of a message that are looked for behind what is shown of it
AROUND = 120  # characters shown around a mark that lies in the part of a message that is cut away
TRAJECTORIES_BYTES = 1_500_000  # of all example trajectories; the rest of a page stays well below a megabyte
LENGTHS_OF_MESSAGES = (4000, 1000, 300)  # characters of a message, tried in this order until the page is small enough
CLASS_NAMES = {"success": "successes", "failure": "failures"}
TONES = {"error": "error", "warning": "warning", "note": "remark"}
BADGES = {"error": "✗ error", "warning": "! warning", "note": "i note"}


def page(audit: Audit) -> str:
    """The audit as HTML."""
    tone, text = verdict(audit)
    first, _, rest = text.partition(":")
    folder = output_folder(audit)
    said = {
        "contents": _contents(audit),
        "lengths": _lengths(audit),
        "examples": _examples(audit),
        "settings": _settings(audit),
    }
    sections = ("Verdict", "Findings", "Contents", "Lengths", "Left out", "Examples", "Settings")
    return (
        _templates()
        .get_template("audit.html.jinja")
        .render(
            said,
            own=own(["report.css", "audit.css"], ["tables.js", "audit.js"]),
            title=_title(audit)[:MOST_NAME],
            heading=_text(_title(audit)),
            facts=_facts(audit),
            links=[(_id(name), name) for name in sections if said.get(_id(name), "always there")],
            verdict={"tone": tone, "first": _text(first), "rest": _text(rest)},
            is_partial=audit.is_partial,
            tiles=_tiles(audit),
            folder=_name(folder) if folder else None,
            severities=_severities(audit),
            findings=_findings(audit),
            left_out=_left_out(audit),
        )
    )


@cache
def _templates() -> Environment:
    return templates(_legible, section_id=_id, thousands=lambda n: f"{n:,}")


def _legible(value: object) -> object:
    """For the templates: texts with their unseen characters told by their codes, everything else as it is."""
    if type(value) is str:
        return value if value.isprintable() else visible(value)
    return _part("text")(value) if type(value) is Text else value


@cache
def _part(name: str) -> Callable[[object], str]:
    return macro(_templates(), "audit_parts.html.jinja", name)


def _id(section: str) -> str:
    return section.lower().replace(" ", "-")


def _title(audit: Audit) -> str:
    n = len(audit.files)
    name = audit.files[0].path.replace("\\", "/").rpartition("/")[2] if n else "no file"
    return f"Audit of {name[:MOST_NAME]}" + (f" and {count(n - 1, 'more file')}" if n > 1 else "")


def _facts(audit: Audit) -> str:
    facts = [
        count(len(audit.files), "file"),
        count(sum(file.rows for file in audit.files), "row"),
        size(sum(file.bytes for file in audit.files)),
        f"read in {figure(round(audit.seconds, 1))} s",
    ]
    return " · ".join(facts)


# ---- text from data ----


class Text(NamedTuple):
    """A text of which not all is shown, or not as it is: the pieces of `nat.auditing.visible.runs`; `left` counts the
    characters behind."""

    runs: tuple[tuple[str, str], ...]
    left: int = 0


Legible: TypeAlias = str | Text


def _text(text: object, most: int = MOST_TEXT) -> Legible:
    text = str(text)
    if len(text) <= most and is_seen(text):
        return text
    return Text(runs(text[:most]), max(0, len(text) - most))


def _whole(text: str) -> Legible:
    return _text(text, len(text))


def _name(text: object) -> Legible:
    return _text(text, MOST_NAME)


def _names(names: Iterable[str]) -> Legible:
    return _name(", ".join(names).replace("_", " "))


def _value(value: object) -> str:
    """A setting or a detail as text."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


# ---- the verdict ----


def _tiles(audit: Audit) -> list[tuple[str, str, str]]:
    """(title, figure, note)"""
    total = audit.n_successes + audit.n_failures
    bad, dropped = sum(audit.n_bad_rows.values()), sum(audit.n_dropped.values())
    return [
        ("Trajectories", f"{total:,}", f"and {count(bad, 'bad row')}"),
        ("Successes", f"{audit.n_successes:,}", share(audit.n_successes, total)),
        ("Failures", f"{audit.n_failures:,}", share(audit.n_failures, total)),
        ("Questions", f"{audit.n_questions:,}", f"{audit.questions_with.get('both', 0):,} with both classes"),
        ("Left out by rule", f"{dropped:,}", share(dropped, total)),
        ("Left to train on", f"{audit.n_clean:,}", share(audit.n_clean, total)),
    ]


# ---- findings ----


class ShownSighting(NamedTuple):
    where: Legible
    id: Legible | None
    message: int | None  # from 1
    place: int | None  # of its trajectory among those that are shown whole
    excerpt: tuple[tuple[Legible, bool], ...]  # (piece, is what was found)


@dataclass(frozen=True)
class Details:
    """What a finding counts besides: `listed` are single values, `left` of them are not; the others are tables."""

    listed: tuple[tuple[Legible, Legible], ...]
    left: int
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Card:
    """A finding. `left_out`: how many of its cases the quality rule of its name dropped, if any."""

    tone: str
    severity: str
    badge: str
    is_open: bool
    title: Legible
    name: Legible  # in audit.json
    amount: Legible
    says: Legible
    remedy: Legible | None
    left_out: str
    details: Details
    sightings_title: str
    sightings: tuple[ShownSighting, ...]


def _severities(audit: Audit) -> list[tuple[str, str]]:
    """(severity, its number of findings in words), of those that there are."""
    numbers = {each: sum(finding.severity == each for finding in audit.findings) for each in SEVERITIES}
    return [(severity, count(n, severity)) for severity, n in numbers.items() if n]


def _findings(audit: Audit) -> list[Card]:
    places = _places(audit)
    ordered = sorted(audit.findings, key=lambda finding: SEVERITIES.index(finding.severity))
    return [_card(audit, finding, place, places) for place, finding in enumerate(ordered)]


def _card(audit: Audit, finding: Finding, place: int, places: Mapping[tuple[str, str], int]) -> Card:
    dropped = audit.n_dropped.get(finding.name, 0)
    shown = finding.sightings[:MOST_SIGHTINGS]
    return Card(
        tone=TONES[finding.severity],
        severity=finding.severity,
        badge=BADGES[finding.severity],
        is_open=place == 0 and finding.severity == "error",
        title=_names([finding.name]),
        name=_name(finding.name),
        amount=_name(unit_of(finding)),
        says=_text(finding.says),
        remedy=_text(finding.remedy) if finding.remedy else None,
        left_out="" if not dropped else "All" if dealt(audit, finding) else f"{dropped:,}",
        details=_details(finding.details),
        sightings_title=f"{len(shown)} of {finding.count:,}" if len(shown) < finding.count else "All of them",
        sightings=tuple(_sighting(audit, sighting, places) for sighting in shown),
    )


def _places(audit: Audit) -> dict[tuple[str, str], int]:
    """(where, id) of each trajectory that is shown whole: its place."""
    return {(shown.where, shown.trajectory.id): place for place, shown in enumerate(audit.shown)}


def _sighting(audit: Audit, sighting: Sighting, places: Mapping[tuple[str, str], int]) -> ShownSighting:
    place = places.get((sighting.where, sighting.id))
    marked = None if place is None else _marked(audit.shown[place], sighting)
    return ShownSighting(
        where=_name(sighting.where),
        id=_name(sighting.id) if sighting.id else None,
        message=None if sighting.message is None else sighting.message + 1,
        place=place,
        excerpt=_excerpt(sighting.excerpt, marked) if sighting.excerpt else (),
    )


def _marked(shown: Shown, sighting: Sighting) -> tuple[int, int] | None:
    """Which characters of the excerpt the sighting's span holds, where the excerpt is of the message's text."""
    messages = shown.trajectory.messages
    if sighting.message is None or sighting.span is None or not 0 <= sighting.message < len(messages):
        return None
    start, end = sighting.span
    begins = messages[sighting.message].content.find(sighting.excerpt, max(0, start - len(sighting.excerpt)))
    if begins < 0:
        return None
    marked = max(0, start - begins), min(len(sighting.excerpt), end - begins)
    return marked if marked[0] < marked[1] else None


def _excerpt(excerpt: str, marked: tuple[int, int] | None) -> tuple[tuple[Legible, bool], ...]:
    if marked is None or len(excerpt) > MOST_TEXT:
        return ((_text(excerpt), False),)
    start, end = marked
    return (_text(excerpt[:start]), False), (_text(excerpt[start:end]), True), (_text(excerpt[end:]), False)


def _details(details: Mapping[str, Any]) -> Details:
    if _is_table(details) and not any(map(_is_table, details.values())):
        return Details((), 0, (_details_table("Details", details),))
    plain = {key: value for key, value in details.items() if not _is_table(value)}
    tables = [(str(key), value) for key, value in details.items() if key not in plain]
    return Details(
        listed=tuple((_names([key]), _text(_inner(value) or "none")) for key, value in list(plain.items())[:MOST_ROWS]),
        left=len(plain) - MOST_ROWS,
        tables=tuple(_details_table(key, value) for key, value in tables[:MOST_TABLES]),
    )


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(each, Mapping) for each in value.values())


def _details_table(caption: str, rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """One row a key; the columns are all keys that any row has."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))[:MOST_COLUMNS]
    numbers = [all(_is_number(row.get(column, 0)) for row in rows.values()) for column in columns]
    heads = [("", False), *zip((str(column).replace("_", " ") for column in columns), numbers, strict=True)]
    cells = [
        [_name_cell(key), *(_any_cell(row[column]) if column in row else MISSING for column in columns)]
        for key, row in rows.items()
    ]
    return _table(caption.replace("_", " "), heads, cells)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _inner(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_value(each)}" for key, each in list(value.items())[:100])
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(each) for each in value[:100])
    return _value(value)


# ---- tables ----


class Head(NamedTuple):
    name: Legible
    is_figure: bool
    kind: str  # of the cells below it


class Cell(NamedTuple):
    """What a cell shows, and the value it sorts by (empty: missing, always last)."""

    text: Legible
    sort: str
    is_name: bool = False  # from data


MISSING = Cell(_text("-"), "")


@dataclass(frozen=True)
class Table:
    """A sortable table. A row is its first cell, and the others, each beside its head; `left` rows are not here, and
    `rest` says where they are."""

    label: str
    caption: Legible
    heads: tuple[Head, ...]
    rows: tuple[tuple[Cell, tuple[tuple[Head, Cell], ...]], ...]
    left: int
    rest: str


def _name_cell(text: object) -> Cell:
    return MISSING if text is None or text == "" else Cell(_name(text), _sort(text), is_name=True)


def _count_cell(n: float) -> Cell:
    return Cell(_text(figure(n) if math.isfinite(n) else n), str(n))


def _share_cell(part: int, whole: int) -> Cell:
    return Cell(_text(share(part, whole)), str(part / whole) if whole else "")


def _any_cell(value: object) -> Cell:
    inner = _inner(value)
    return Cell(_name(inner), str(value)[:MOST_NAME] if _is_number(value) else _sort(inner))


def _sort(text: object) -> str:
    return visible(str(text)[:MOST_NAME])[:MOST_NAME]


def _table(
    caption: str, heads: Iterable[tuple[str, bool]], rows: Sequence[Sequence[Cell]], rest: str = "in audit.json"
) -> Table:
    """`heads` are (name, is a figure)."""
    made = tuple(
        Head(_name(name or "value"), is_figure, "number" if is_figure else "text" if name in WIDE else "")
        for name, is_figure in heads
    )
    return Table(
        label=caption[:MOST_NAME],
        caption=_text(caption),
        heads=made,
        rows=tuple((row[0], tuple(zip(made[1:], row[1:], strict=True))) for row in rows[:MOST_ROWS]),
        left=len(rows) - MOST_ROWS,
        rest=rest,
    )


WIDE = ("what is wrong", "value")  # columns that hold sentences


# ---- what is in the files ----


@dataclass(frozen=True)
class Contents:
    files: Table | None
    tables: tuple[Table, ...]


def _contents(audit: Audit) -> Contents | None:
    files = [
        [
            _name_cell(file.path),
            _name_cell(file.format),
            _count_cell(file.rows),
            _count_cell(file.trajectories),
            _count_cell(file.bad_rows),
            Cell(_text(size(file.bytes)), str(file.bytes)),
        ]
        for file in audit.files
    ]
    heads = [("file", False), ("format", False)]
    heads += [(name, True) for name in ("rows", "trajectories", "bad rows", "size")]
    of_files = _table("Files", heads, files) if files else None
    sources = sorted(audit.by_source.items(), key=lambda item: (-sum(item[1]), item[0]))
    tables = []
    if sources:
        rows = [
            [
                _name_cell(name or "(none)"),
                *map(_count_cell, (good + bad, good, bad)),
                _share_cell(good, good + bad),
            ]
            for name, (good, bad) in sources
        ]
        heads = [("source", False), *((name, True) for name in ("trajectories", "successes", "failures", "success"))]
        tables.append(_table("By source", heads, rows))
    if audit.by_failure:
        rows = [
            [_name_cell(kind), _count_cell(n), _share_cell(n, audit.n_failures)]
            for kind, n in largest(audit.by_failure)
        ]
        heads = [("kind of failure", False), ("failures", True), ("of failures", True)]
        tables.append(_table("How failures ended", heads, rows))
    tables += _of_agents(audit)
    if audit.per_question:
        rows = [
            [_count_cell(each), _count_cell(n), _share_cell(n, sum(audit.per_question.values()))]
            for each, n in sorted(audit.per_question.items())
        ]
        heads = [("trajectories on one question", True), ("questions", True), ("of questions", True)]
        tables.append(_table("Trajectories per question", heads, rows))
    if audit.questions_with:
        rows = [
            [_name_cell(key.replace("_", " ")), _count_cell(n), _share_cell(n, sum(audit.questions_with.values()))]
            for key, n in audit.questions_with.items()
        ]
        heads = [("questions with", False), ("questions", True), ("of questions", True)]
        tables.append(_table("Successes and failures on the same question", heads, rows))
    return Contents(of_files, tuple(tables)) if of_files or tables else None


def _of_agents(audit: Audit) -> list[Table]:
    """What kinds of agents these are, what they call, and what stands in front of their turns."""
    total = audit.n_successes + audit.n_failures
    tables = []
    if audit.agents:
        names = {**KINDS, "simulated_user": "of these, in turn with a user"}
        rows = [
            [_name_cell(names[kind]), _count_cell(n), _share_cell(n, total)]
            for kind, n in audit.agents.items()
            if kind in names
        ]
        heads = [("kind of agent", False), ("trajectories", True), ("of trajectories", True)]
        tables.append(_table("Agents", heads, rows))
    if audit.by_tool:
        rows = [[_name_cell(name), _count_cell(n), _share_cell(n, audit.n_calls)] for name, n in largest(audit.by_tool)]
        if left := audit.n_tools - len(audit.by_tool):
            other = audit.n_calls - sum(audit.by_tool.values())
            rows.append([_name_cell(count(left, "other tool")), _count_cell(other), _share_cell(other, audit.n_calls)])
        caption = f"{count(audit.n_calls, 'call')} in {count(audit.n_turns, 'turn')} of the agent"
        tables.append(_table(caption, [("tool", False), ("calls", True), ("of calls", True)], rows))
    if audit.n_with_task:
        rows = [
            [_name_cell(key.replace("_", " ")), _count_cell(n), _share_cell(n, audit.tasks.get("distinct", 0))]
            for key, n in audit.tasks.items()
            if key != "distinct"
        ]
        caption = f"{count(audit.tasks.get('distinct', 0), 'task')}, by their trials"
        tables.append(_table(caption, [("tasks with", False), ("tasks", True), ("of tasks", True)], rows))
    if audit.questions_found:
        rows = [[_name_cell(found_said(found)), _count_cell(found.n)] for found in audit.questions_found]
        heads = [("the question is", False), ("trajectories", True)]
        tables.append(_table("Where the question was found", heads, rows))
    if audit.n_system_prompts:
        rows = [[_name_cell(prompt.text), _count_cell(prompt.n)] for prompt in audit.system_prompts]
        caption = f"{count(audit.n_system_prompts, 'system prompt')}: {SYSTEM_PROMPTS}"
        tables.append(_table(caption, [("it begins", False), ("trajectories", True)], rows))
    return tables


# ---- lengths ----

WIDTH, ROW, LABEL, FOOT = 360, 56, 21, 34  # of a picture, in its own units


class Bar(NamedTuple):
    x: str
    y: str
    width: str
    height: str
    tip: str


@dataclass(frozen=True)
class BarRow:
    """One class's bars, with the height of its title, of the bars' top and of their base."""

    kind: str
    title: str
    title_y: int
    top: int
    base: int
    bars: tuple[Bar, ...]
    median_x: str


@dataclass(frozen=True)
class Limit:
    tokens: int
    x: str
    text_x: str
    is_left: bool  # of the line: the text


class Tick(NamedTuple):
    x: str
    edge: str
    anchor: str


@dataclass(frozen=True)
class Bars:
    """The picture of a distribution: bars of each class in a row of its own, over one axis below `bottom`."""

    width: int
    height: int
    bottom: int
    rows: tuple[BarRow, ...]
    limit: Limit | None
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Distribution:
    label: str
    unit: Legible
    words: Legible
    picture: Bars | None  # None where nothing was counted


@dataclass(frozen=True)
class ShownLengths:
    note: str
    distributions: tuple[Distribution, ...]
    table: Table


def _lengths(audit: Audit) -> ShownLengths | None:
    if not audit.lengths:
        return None
    distributions, rows = [], []
    for unit, classes in audit.lengths.items():
        limit = audit.token_limit if unit == "tokens" else None
        distributions.append(_distribution(unit, classes, limit))
        for name, lengths in classes.items():
            numbers = (lengths.n, lengths.median, lengths.p90, lengths.maximum)
            rows.append([_name_cell(unit), _name_cell(CLASS_NAMES.get(name, name)), *map(_count_cell, numbers)])
    heads = [("unit", False), ("class", False)]
    heads += [(name, True) for name in ("number", "median", "90th percentile", "longest")]
    notes = ["A bar is the share of its class that is as long as the axis says; the thin line is the median."]
    if audit.token_limit is not None:
        notes.append(f"The model takes {audit.token_limit:,} tokens.")
    if audit.tokens_sampled is not None:
        notes.append(f"Tokens were counted in a sample of {audit.tokens_sampled:,} trajectories.")
    return ShownLengths(" ".join(notes), tuple(distributions), _table("Lengths by class", heads, rows))


def _distribution(unit: str, classes: Mapping[str, Lengths], limit: int | None) -> Distribution:
    words = "; ".join(
        f"{CLASS_NAMES.get(name, name)}: median {figure(lengths.median)}, longest {figure(lengths.maximum)}"
        for name, lengths in classes.items()
    )
    return Distribution(
        label=f"Distribution of {unit}. {words}"[:MOST_NAME],
        unit=_text(unit.capitalize()),
        words=_text(words),
        picture=_bars([(name, lengths) for name, lengths in classes.items() if lengths.counts], limit),
    )


def _bars(known: Sequence[tuple[str, Lengths]], limit: int | None) -> Bars | None:
    if not known:
        return None
    edges = known[0][1].edges
    step = WIDTH / max(1, len(edges) - 1)
    most = max(n / max(1, lengths.n) for _, lengths in known for n in lengths.counts) or 1.0
    rows = []
    for row, (name, lengths) in enumerate(known):
        top = row * (ROW + LABEL)
        base = top + LABEL + ROW
        bars = []
        for place, n in enumerate(lengths.counts):
            if n:
                height = max(1.0, ROW * n / max(1, lengths.n) / most)
                tip = f"{_edge(edges[place])} to {_edge(edges[place + 1])}: {n:,} ({share(n, lengths.n)})"
                figures = (place * step + 0.5, base - height, max(1.0, step - 1), height)
                bars.append(Bar(*(f"{each:.1f}" for each in figures), tip=tip))
        rows.append(
            BarRow(
                kind="failure" if name == "failure" else "success",
                title=f"{CLASS_NAMES.get(name, name[:20])} ({lengths.n:,})",
                title_y=top + 16,
                top=top + LABEL,
                base=base,
                bars=tuple(bars),
                median_x=f"{step * _position(edges, lengths.median):.1f}",
            )
        )
    bottom = len(known) * (ROW + LABEL)
    line = None
    if limit is not None and edges[0] <= limit <= edges[-1]:
        x = step * _position(edges, limit)
        is_left = x > WIDTH / 2
        line = Limit(limit, f"{x:.1f}", f"{x + (-4 if is_left else 4):.1f}", is_left)
    ticks = []
    for place in range(0, len(edges), max(1, round((len(edges) - 1) / 5))):
        anchor = "start" if place == 0 else "end" if place == len(edges) - 1 else "middle"
        ticks.append(Tick(f"{place * step:.1f}", _edge(edges[place]), anchor))
    return Bars(WIDTH, bottom + FOOT - 10, bottom, tuple(rows), line, tuple(ticks))


def _edge(value: float) -> str:
    if not math.isfinite(value):
        return "∞"
    return f"{value / 1000:,.3g}k" if value >= 10_000 else figure(value)


def _position(edges: Sequence[float], value: float) -> float:
    """Where the value lies among the bins, which are drawn equally wide: 1.5 is the middle of the second."""
    for place in range(len(edges) - 1):
        low, high = edges[place], edges[place + 1]
        if value < high:
            return place + (max(0.0, (value - low) / (high - low)) if math.isfinite(high) and high > low else 0.5)
    return float(len(edges) - 1)


# ---- what is left out ----


@dataclass(frozen=True)
class LeftOut:
    tables: tuple[Table, ...]
    bad_rows: Table | None


def _left_out(audit: Audit) -> LeftOut:
    total = audit.n_successes + audit.n_failures
    tables = []
    if audit.n_dropped:
        rows = [[_name_cell(rule), _count_cell(n), _share_cell(n, total)] for rule, n in largest(audit.n_dropped)]
        heads = [("rule", False), ("trajectories", True), ("of all", True)]
        tables.append(_table("Dropped by quality rules", heads, rows))
    bad = sum(audit.n_bad_rows.values())
    if audit.n_bad_rows:
        rows = [[_name_cell(reason), _count_cell(n), _share_cell(n, bad)] for reason, n in largest(audit.n_bad_rows)]
        heads = [("reason", False), ("rows", True), ("of bad rows", True)]
        tables.append(_table("Rows that could not be read", heads, rows))
    bad_rows = None
    if audit.bad_rows:
        rows = [
            [_name_cell(row.where), _name_cell(row.reason), Cell(_text(row.detail), _sort(row.detail))]
            for row in audit.bad_rows
        ]
        heads = [("where", False), ("reason", False), ("what is wrong", False)]
        shown = min(len(rows), MOST_ROWS)
        caption = f"Bad rows ({shown:,} of {max(bad, len(rows)):,}; all of them in dropped.jsonl)"
        bad_rows = _table(caption, heads, rows, "in dropped.jsonl")
    return LeftOut(tuple(tables), bad_rows)


# ---- example trajectories ----


class Piece(NamedTuple):
    """Of a message: `left_out` characters that are not shown, or a text, and the names of what was `found` in it."""

    text: Legible | None = None
    found: Legible | None = None
    left_out: int = 0


class Turn(NamedTuple):
    """A message that is shown, and how many before it are `skipped`, in words."""

    skipped: str
    kind: Literal["trained", "masked", "read"]
    number: int
    role: Legible
    found: tuple[Legible, ...]  # in it as a whole
    pieces: tuple[Piece, ...]
    calls: Legible | None


@dataclass(frozen=True)
class Example:
    """A trajectory; without `turns` where the page would become too large."""

    place: int
    tone: str
    badge: Legible
    id: Legible
    found: Legible | None
    facts: tuple[tuple[str, Legible], ...]
    on_whole: tuple[tuple[Legible, Legible | None], ...]  # (what was found in it as a whole, excerpt)
    question: Legible
    turns: tuple[Turn, ...] | None


@dataclass(frozen=True)
class Examples:
    trajectories: tuple[str, ...]  # as HTML
    whole: int  # how many of them have their messages


def _examples(audit: Audit) -> Examples | None:
    if not audit.shown:
        return None

    def made(place: int, longest: int | None) -> str:
        return _part("trajectory")(_example(audit.shown[place], place, longest))

    trajectories: list[str] = []
    for longest in LENGTHS_OF_MESSAGES:
        trajectories, room = [], TRAJECTORIES_BYTES
        for place in range(len(audit.shown)):
            trajectories.append(made(place, longest))
            room -= len(trajectories[-1].encode())
            if room < 0 and longest != LENGTHS_OF_MESSAGES[-1]:
                break
        if room >= 0:
            break
    kept, room = 0, TRAJECTORIES_BYTES
    # Links from findings point at all of them: those that do not fit keep their head.
    for place, each in enumerate(trajectories):
        room -= len(each.encode())
        if room < 0:
            trajectories[place] = made(place, None)
        else:
            kept += 1
    return Examples(tuple(trajectories), kept)


def _example(shown: Shown, place: int, longest: int | None) -> Example:
    """`longest`: characters of a message; None leaves the messages out."""
    trajectory = shown.trajectory
    outcome = trajectory.outcome
    tone, badge = ("yes", "✓ success") if outcome.success else ("no", f"✗ {outcome.failure or 'failure'}")
    names = list(dict.fromkeys(name for name, _ in shown.found))
    facts = {
        "where": shown.where,
        "id": trajectory.id,
        "question id": trajectory.question_id,
        "source": trajectory.source,
        "score": _value(outcome.score),
        "prediction": outcome.prediction,
        "reference": outcome.reference,
    }
    return Example(
        place=place,
        tone=tone,
        badge=_text(badge),
        id=_name(trajectory.id),
        found=_names(names) if names else None,
        facts=tuple((key, _name(value)) for key, value in facts.items() if value is not None and value != ""),
        on_whole=tuple(
            (_names([name]), _text(sighting.excerpt) if sighting.excerpt else None)
            for name, sighting in shown.found
            if _mark(trajectory.messages, sighting) is None
        ),
        question=_text(trajectory.question),
        turns=None if longest is None else tuple(_turns(shown, longest)),
    )


class Mark(NamedTuple):
    """Characters [start, end) of a message in which `names` were found; end = start is the message as a whole."""

    start: int
    end: int
    names: tuple[str, ...]


def _mark(messages: Sequence[Message], sighting: Sighting) -> tuple[int, int, int] | None:
    """(message, start, end), within the message; None where the sighting names no message that there is."""
    if sighting.message is None or not 0 <= sighting.message < len(messages):
        return None
    length = len(messages[sighting.message].content)
    start, end = sighting.span or (0, 0)
    start = min(max(0, start), length)
    return sighting.message, start, min(max(start, end), length)


def _turns(shown: Shown, longest: int) -> Iterator[Turn]:
    messages = shown.trajectory.messages
    found: dict[int, list[Mark]] = {}
    for name, sighting in shown.found:
        if (mark := _mark(messages, sighting)) is not None:
            found.setdefault(mark[0], []).append(Mark(mark[1], mark[2], (name,)))
    head, tail = MOST_MESSAGES * 3 // 4, MOST_MESSAGES // 4
    kept = {*range(min(head, len(messages))), *range(max(0, len(messages) - tail), len(messages))}
    kept |= set(sorted(found)[:MOST_MESSAGES])
    last = -1
    for place in sorted(kept):
        skipped = count(place - last - 1, "message") if place > last + 1 else ""
        last = place
        yield _turn(messages[place], place, skipped, _apart(found.get(place, [])), longest)


def _turn(message: Message, place: int, skipped: str, marks: Sequence[Mark], longest: int) -> Turn:
    kind = "read" if message.role != "assistant" else "trained" if message.train else "masked"
    calls = None
    if message.tool_calls:
        text = json.dumps([dict(call) for call in message.tool_calls], ensure_ascii=False, default=str)
        calls = _text(text, longest)
    return Turn(
        skipped=skipped,
        kind=kind,
        number=place + 1,
        role=_text(message.role),
        found=tuple(_names(mark.names) for mark in marks if mark.start == mark.end),
        pieces=tuple(_pieces(message.content, [mark for mark in marks if mark.start < mark.end], longest)),
        calls=calls,
    )


def _apart(marks: Sequence[Mark]) -> list[Mark]:
    """In order, and those that overlap joined to one."""
    joined: list[Mark] = []
    for mark in sorted(marks):
        before = joined[-1] if joined else None
        if before is not None and (mark.start < before.end or mark[:2] == before[:2]):
            names = tuple(dict.fromkeys((*before.names, *mark.names)))
            joined[-1] = Mark(before.start, max(before.end, mark.end), names)
        else:
            joined.append(mark)
    return joined


def _pieces(content: str, marks: Sequence[Mark], longest: int) -> Iterator[Piece]:
    """The content with its marks: its first `longest` characters, and what is around marks that lie behind them."""
    place = 0
    for start, end in _windows(len(content), marks, longest):
        if start > place:
            yield Piece(left_out=start - place)
        place = start
        for mark in marks:
            if place < mark.end and mark.start < end:
                if place < mark.start:
                    yield Piece(_whole(content[place : mark.start]))
                inside = content[max(place, mark.start) : min(end, mark.end)]
                yield Piece(_whole(inside), _names(mark.names))
                place = min(end, mark.end)
        if place < end:
            yield Piece(_whole(content[place:end]))
        place = end
    if place < len(content):
        yield Piece(left_out=len(content) - place)


def _windows(length: int, marks: Sequence[Mark], longest: int) -> list[tuple[int, int]]:
    """The parts of a text of `length` characters that are shown, in order and apart."""
    windows = [(0, min(longest, length))]
    for mark in marks[:MOST_MARKS]:
        start, end = max(0, mark.start - AROUND), min(length, mark.end + AROUND, mark.start + longest)
        if start <= windows[-1][1]:
            windows[-1] = (windows[-1][0], max(end, windows[-1][1]))
        else:
            windows.append((start, end))
    return windows


# ---- settings ----


def _settings(audit: Audit) -> Table | None:
    rows = [[_name_cell(key), _any_cell(value)] for key, value in _flat(audit.settings)]
    return _table("As configured", [("setting", False), ("value", False)], rows) if rows else None


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value
