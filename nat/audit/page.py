"""The audit as one self-contained HTML page: verdict, findings with their examples, tables, whole trajectories.

Nothing is fetched, and everything that comes from data is escaped here, text and names alike; a content security
policy allows no script but the page's own. The page works without the script, which only sorts and filters.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from string import Template
from typing import Any, NamedTuple

from nat.audit.findings import SEVERITIES, Audit, Finding, Lengths, Shown, Sighting
from nat.audit.summary import count, dealt, figure, largest, output_folder, share, size, unit_of, verdict
from nat.audit.visible import UNSEEN, code, visible
from nat.html_page import asset, policy
from nat.types import Message

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
    css, script = asset("report.css") + asset("audit.css"), asset("tables.js") + asset("audit.js")
    sections = {
        "Verdict": _verdict(audit),
        "Findings": _findings(audit),
        "Contents": _contents(audit),
        "Lengths": _lengths(audit),
        "Left out": _left_out(audit),
        "Examples": _examples(audit),
        "Settings": _settings(audit),
    }
    return Template(asset("audit.html")).substitute(
        policy=policy(css, script),
        title=_attribute(_title(audit)),
        heading=_text(_title(audit)),
        css=css,
        script=script,
        facts=_text(_facts(audit)),
        navigation=" ".join(f'<a href="#{_id(name)}">{name}</a>' for name, made in sections.items() if made),
        sections="\n".join(_section(name, made) for name, made in sections.items() if made),
    )


def _id(name: str) -> str:
    return name.lower().replace(" ", "-")


def _section(name: str, inside: str) -> str:
    id = _id(name)
    return f'<section id="{id}" aria-labelledby="{id}-title"><h2 id="{id}-title">{name}</h2>{inside}</section>'


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


def _text(text: object, most: int = MOST_TEXT) -> str:
    """Escaped, unseen characters by their codes, cut after `most` characters with a note of how much."""
    text = str(text)
    return _marked_up(text[:most]) + _cut(len(text) - most)


def _marked_up(text: str) -> str:
    return UNSEEN.sub(lambda found: f'<span class="unseen">{code(found[0])}</span>', html.escape(text))


def _cut(left: int) -> str:
    return f' <span class="cut">… {left:,} more characters</span>' if left > 0 else ""


def _name(text: object) -> str:
    """A name from data: its writing direction does not reach the text around it."""
    return f"<bdi>{_text(text, MOST_NAME)}</bdi>"


def _attribute(text: object) -> str:
    """For attributes, and for elements that hold text alone."""
    return html.escape(visible(str(text)[:MOST_NAME]))


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


def _verdict(audit: Audit) -> str:
    tone, text = verdict(audit)
    first, _, rest = text.partition(":")
    total = audit.n_successes + audit.n_failures
    bad, dropped = sum(audit.n_bad_rows.values()), sum(audit.n_dropped.values())
    tiles = [
        ("Trajectories", f"{total:,}", f"and {count(bad, 'bad row')}"),
        ("Successes", f"{audit.n_successes:,}", share(audit.n_successes, total)),
        ("Failures", f"{audit.n_failures:,}", share(audit.n_failures, total)),
        ("Questions", f"{audit.n_questions:,}", f"{audit.questions_with.get('both', 0):,} with both classes"),
        ("Left out by rule", f"{dropped:,}", share(dropped, total)),
        ("Left to train on", f"{audit.n_clean:,}", share(audit.n_clean, total)),
    ]
    shown = "".join(
        f"<div><dt>{name}</dt><dd>{value}<small>{_text(note)}</small></dd></div>" for name, value, note in tiles
    )
    partial = (
        '<p class="callout"><strong>Interrupted.</strong> All on this page counts only what was read until then, '
        "and no <code>clean.jsonl</code> was written.</p>"
        if audit.is_partial
        else ""
    )
    folder = output_folder(audit)
    written = f'<p class="note">Files of this audit lie in {_name(folder)}.</p>' if folder else ""
    return (
        f'{partial}<p class="verdict {tone}"><strong>{_text(first)}:</strong>{_text(rest)}</p>'
        f'<dl class="tiles">{shown}</dl>{written}'
    )


# ---- findings ----


def _findings(audit: Audit) -> str:
    if not audit.findings:
        return '<p class="note">Nothing was found.</p>'
    severities = [each for each in SEVERITIES if any(finding.severity == each for finding in audit.findings)]
    boxes = "".join(
        f'<label><input type="checkbox" value="{severity}" checked>'
        f"{count(sum(finding.severity == severity for finding in audit.findings), severity)}</label>"
        for severity in severities
    )
    places = _places(audit)
    ordered = sorted(audit.findings, key=lambda finding: SEVERITIES.index(finding.severity))
    return (
        f'<fieldset id="severity-filter" class="filter" hidden><legend>Show</legend>{boxes}'
        '<p class="note" id="findings-count" role="status"></p></fieldset>'
        '<p class="tools"><button type="button" class="quiet-button" data-all="findings" data-kind="found" hidden>'
        "Open all</button></p>"
        + "".join(_finding(audit, finding, place, places) for place, finding in enumerate(ordered))
    )


def _finding(audit: Audit, finding: Finding, place: int, places: Mapping[tuple[str, str], int]) -> str:
    dropped = audit.n_dropped.get(finding.name, 0)
    all_of_them = "All" if dealt(audit, finding) else f"{dropped:,}"
    gone = f"<p>{all_of_them} left out of <code>clean.jsonl</code> by the rule of this name.</p>" if dropped else ""
    shown = finding.sightings[:MOST_SIGHTINGS]
    sightings = "".join(f"<li>{_sighting(audit, sighting, places)}</li>" for sighting in shown)
    examples = ""
    if shown:
        title = f"{len(shown)} of {finding.count:,}" if len(shown) < finding.count else "All of them"
        examples = f'<p class="note">Where ({title}):</p><ol class="sightings">{sightings}</ol>'
    is_open = " open" if place == 0 and finding.severity == "error" else ""
    remedy = f'<p class="remedy"><strong>What to do:</strong> {_text(finding.remedy)}</p>' if finding.remedy else ""
    return (
        f'<details class="found {TONES[finding.severity]}" data-severity="{finding.severity}"{is_open}>'
        f'<summary><span class="badge">{BADGES[finding.severity]}</span>'
        f"<h3>{_text(finding.name.replace('_', ' '), MOST_NAME)}</h3>"
        f'<span class="amount">{_text(unit_of(finding), MOST_NAME)}</span></summary>'
        f'<div class="inside"><p dir="auto">{_text(finding.says)}</p>{remedy}{gone}{_details(finding.details)}'
        f'{examples}<p class="note">In <code>audit.json</code>: <code>{_text(finding.name, MOST_NAME)}</code></p>'
        "</div></details>"
    )


def _places(audit: Audit) -> dict[tuple[str, str], int]:
    """(where, id) of each trajectory that is shown whole: its place."""
    return {(shown.where, shown.trajectory.id): place for place, shown in enumerate(audit.shown)}


def _sighting(audit: Audit, sighting: Sighting, places: Mapping[tuple[str, str], int]) -> str:
    place = places.get((sighting.where, sighting.id))
    link = f' <a href="#trajectory-{place}">shown whole below</a>' if place is not None else ""
    id = f" · {_name(sighting.id)}" if sighting.id else ""
    message = f" · message {sighting.message + 1}" if sighting.message is not None else ""
    marked = None if place is None else _marked(audit.shown[place], sighting)
    excerpt = f'<p class="excerpt">{_excerpt(sighting.excerpt, marked)}</p>' if sighting.excerpt else ""
    return f'<div class="place">{_name(sighting.where)}{id}{message}{link}</div>{excerpt}'


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


def _excerpt(excerpt: str, marked: tuple[int, int] | None) -> str:
    if marked is None or len(excerpt) > MOST_TEXT:
        return _text(excerpt)
    start, end = marked
    return f"{_text(excerpt[:start])}<mark>{_text(excerpt[start:end])}</mark>{_text(excerpt[end:])}"


def _details(details: Mapping[str, Any]) -> str:
    """A finding's details: values that are made of values as tables, before them a list of the others."""
    if _is_table(details) and not any(map(_is_table, details.values())):
        return _details_table("Details", details)
    plain = {key: value for key, value in details.items() if not _is_table(value)}
    items = "".join(
        f"<dt>{_names([key])}</dt><dd>{_text(_inner(value) or 'none')}</dd>"
        for key, value in list(plain.items())[:MOST_ROWS]
    )
    listed = f'<dl class="facts-list">{items}</dl>' if items else ""
    tables = [_details_table(str(key), value) for key, value in details.items() if key not in plain]
    return f"{listed}{_more(len(plain) - MOST_ROWS, 'in audit.json')}{''.join(tables[:MOST_TABLES])}"


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(each, Mapping) for each in value.values())


def _details_table(caption: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """One row a key; the columns are all keys that any row has."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))[:MOST_COLUMNS]
    numbers = [all(_is_number(row.get(column, 0)) for row in rows.values()) for column in columns]
    heads = [("", False), *zip((str(column).replace("_", " ") for column in columns), numbers, strict=True)]
    cells = [
        [_name_cell(key), *(_any_cell(row[column]) if column in row else Cell("-", None) for column in columns)]
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


class Cell(NamedTuple):
    """What a cell shows, as HTML, and the value it sorts by (None: missing, always last)."""

    shown: str
    value: float | str | None


def _name_cell(text: object) -> Cell:
    return Cell("-", None) if text is None or text == "" else Cell(_name(text), visible(str(text)[:MOST_NAME]))


def _count_cell(n: float) -> Cell:
    return Cell(figure(n) if math.isfinite(n) else str(n), n)


def _share_cell(part: int, whole: int) -> Cell:
    return Cell(html.escape(share(part, whole)), part / whole if whole else None)


def _any_cell(value: object) -> Cell:
    shown = _text(_inner(value), MOST_NAME)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Cell(shown, value)
    return Cell(shown, visible(_inner(value)[:MOST_NAME]))


def _table(caption: str, heads: Sequence[tuple[str, bool]], rows: Sequence[Sequence[Cell]], rest: str = "") -> str:
    """A sortable table in a box that scrolls; `heads` are (name, is a figure). `rest` says where further rows are."""
    head = "".join(
        f'<th scope="col"{" class=number" if is_figure else ""}>{_text(name, MOST_NAME) or "value"}</th>'
        for name, is_figure in heads
    )
    body = []
    for row in rows[:MOST_ROWS]:
        cells = []
        for place, (cell, (name, is_figure)) in enumerate(zip(row, heads, strict=True)):
            tag = "th" if place == 0 else "td"
            kind = "number" if is_figure else "text" if name in WIDE else ""
            cells.append(
                f"<{tag}{' scope=row' if place == 0 else ''}{f' class={kind}' if kind else ''} "
                f'data-sort="{"" if cell.value is None else _attribute(cell.value)}">{cell.shown}</{tag}>'
            )
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{_attribute(caption)}">'
        f'<table class="sortable"><caption>{_text(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
        f"{_more(len(rows) - MOST_ROWS, rest or 'in audit.json')}</div>"
    )


WIDE = ("what is wrong", "value")  # columns that hold sentences


def _more(left: int, where: str) -> str:
    return f'<p class="note more-rows">and {left:,} more, {where}</p>' if left > 0 else ""


# ---- what is in the files ----


def _contents(audit: Audit) -> str:
    files = [
        [
            _name_cell(file.path),
            _name_cell(file.format),
            _count_cell(file.rows),
            _count_cell(file.trajectories),
            _count_cell(file.bad_rows),
            Cell(size(file.bytes), file.bytes),
        ]
        for file in audit.files
    ]
    heads = [("file", False), ("format", False)]
    heads += [(name, True) for name in ("rows", "trajectories", "bad rows", "size")]
    made = [_table("Files", heads, files)] if files else []
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
    if tables:
        made.append(f'<div class="side-by-side">{"".join(tables)}</div>')
    return "".join(made)


# ---- lengths ----

WIDTH, ROW, LABEL, FOOT = 360, 56, 21, 34  # of a picture, in its own units


def _lengths(audit: Audit) -> str:
    if not audit.lengths:
        return ""
    figures, rows = [], []
    for unit, classes in audit.lengths.items():
        limit = audit.token_limit if unit == "tokens" else None
        figures.append(_distribution(unit, classes, limit))
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
    return f'<p class="note">{" ".join(notes)}</p><div class="distributions">{"".join(figures)}</div>' + _table(
        "Lengths by class", heads, rows
    )


def _distribution(unit: str, classes: Mapping[str, Lengths], limit: int | None) -> str:
    """Bars of each class in a row of its own, over one axis; the caption says the same in words."""
    known = [(name, lengths) for name, lengths in classes.items() if lengths.counts]
    words = "; ".join(
        f"{CLASS_NAMES.get(name, name)}: median {figure(lengths.median)}, longest {figure(lengths.maximum)}"
        for name, lengths in classes.items()
    )
    caption = f"<figcaption>{_text(unit.capitalize())} of a trajectory: {_text(words)}.</figcaption>"
    if not known:
        return f"<figure>{caption}</figure>"
    edges = known[0][1].edges
    step = WIDTH / max(1, len(edges) - 1)
    most = max(n / max(1, lengths.n) for _, lengths in known for n in lengths.counts) or 1.0
    parts = []
    for row, (name, lengths) in enumerate(known):
        top = row * (ROW + LABEL)
        base = top + LABEL + ROW
        parts.append(
            f'<text x="0" y="{top + 16}">{_attribute(CLASS_NAMES.get(name, name[:20]))} ({lengths.n:,})</text>'
        )
        for place, n in enumerate(lengths.counts):
            height = ROW * n / max(1, lengths.n) / most
            if n:
                tip = f"{_edge(edges[place])} to {_edge(edges[place + 1])}: {n:,} ({share(n, lengths.n)})"
                parts.append(
                    f'<rect class="{"failure" if name == "failure" else "success"}" x="{place * step + 0.5:.1f}" '
                    f'y="{base - max(1.0, height):.1f}" width="{max(1.0, step - 1):.1f}" '
                    f'height="{max(1.0, height):.1f}"><title>{_attribute(tip)}</title></rect>'
                )
        parts.append(f'<line class="axis" x1="0" x2="{WIDTH}" y1="{base}" y2="{base}"/>')
        x = step * _position(edges, lengths.median)
        parts.append(f'<line class="median" x1="{x:.1f}" x2="{x:.1f}" y1="{top + LABEL}" y2="{base + 4}"/>')
    bottom = len(known) * (ROW + LABEL)
    if limit is not None and edges[0] <= limit <= edges[-1]:
        x = step * _position(edges, limit)
        parts.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom}"/>')
        side = ' text-anchor="end"' if x > WIDTH / 2 else ""
        parts.append(f'<text class="limit-text" x="{x + (-4 if side else 4):.1f}" y="12"{side}>limit {limit:,}</text>')
    every = max(1, round((len(edges) - 1) / 5))
    for place in range(0, len(edges), every):
        anchor = "start" if place == 0 else "end" if place == len(edges) - 1 else "middle"
        parts.append(
            f'<text x="{place * step:.1f}" y="{bottom + 18}" text-anchor="{anchor}">{_edge(edges[place])}</text>'
        )
    label = f"Distribution of {unit}. {words}"
    return (
        f'<figure><svg class="distribution" viewBox="0 0 {WIDTH} {bottom + FOOT - 10}" role="img" '
        f'aria-label="{_attribute(label)}">{"".join(parts)}</svg>{caption}</figure>'
    )


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


def _left_out(audit: Audit) -> str:
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
    made = f'<div class="side-by-side">{"".join(tables)}</div>' if tables else ""
    if audit.bad_rows:
        rows = [
            [_name_cell(row.where), _name_cell(row.reason), Cell(_text(row.detail), visible(row.detail[:MOST_NAME]))]
            for row in audit.bad_rows
        ]
        heads = [("where", False), ("reason", False), ("what is wrong", False)]
        shown = min(len(rows), MOST_ROWS)
        caption = f"Bad rows ({shown:,} of {max(bad, len(rows)):,}; all of them in dropped.jsonl)"
        made += _table(caption, heads, rows, "in dropped.jsonl")
    return made or '<p class="note">Nothing: every row was read, and no rule dropped a trajectory.</p>'


# ---- example trajectories ----


def _examples(audit: Audit) -> str:
    if not audit.shown:
        return ""
    made: list[str] = []
    for longest in LENGTHS_OF_MESSAGES:
        made = [_trajectory(shown, place, longest) for place, shown in enumerate(audit.shown)]
        if sum(len(each.encode()) for each in made) <= TRAJECTORIES_BYTES:
            break
    kept, room = 0, TRAJECTORIES_BYTES
    # Links from findings point at all of them: those that do not fit keep their head.
    for place, each in enumerate(made):
        room -= len(each.encode())
        if room < 0:
            made[place] = _trajectory(audit.shown[place], place, None)
        else:
            kept += 1
    note = (
        "<strong>Trained</strong> turns (solid line) may carry loss; <strong>masked</strong> ones (dotted line) and "
        "all other messages are only read. What a finding is about is marked and named."
    )
    if kept < len(made):
        note += f" {kept} of {len(made)} are shown whole: the page would become too large."
    return (
        f'<p class="note">{note}</p><p class="tools"><button type="button" class="quiet-button" data-all="examples" '
        f'data-kind="trajectory" hidden>Open all</button></p>{"".join(made)}'
    )


def _trajectory(shown: Shown, place: int, longest: int | None) -> str:
    """`longest`: characters of a message; None leaves the messages out."""
    trajectory = shown.trajectory
    outcome = trajectory.outcome
    tone, badge = ("yes", "✓ success") if outcome.success else ("no", f"✗ {outcome.failure or 'failure'}")
    names = list(dict.fromkeys(name for name, _ in shown.found))
    found = f'<span class="amount">{_text(", ".join(names).replace("_", " "), MOST_NAME)}</span>' if names else ""
    facts = {
        "where": shown.where,
        "id": trajectory.id,
        "question id": trajectory.question_id,
        "source": trajectory.source,
        "score": _value(outcome.score),
        "prediction": outcome.prediction,
        "reference": outcome.reference,
    }
    items = "".join(
        f"<dt>{name}</dt><dd><bdi>{_text(value, MOST_NAME)}</bdi></dd>"
        for name, value in facts.items()
        if value is not None and value != ""
    )
    whole = "".join(
        f"<li>{_names([name])}{f': {_text(sighting.excerpt)}' if sighting.excerpt else ''}</li>"
        for name, sighting in shown.found
        if _mark(trajectory.messages, sighting) is None
    )
    on_whole = f'<p class="note">Found in it as a whole:</p><ul class="on-whole">{whole}</ul>' if whole else ""
    messages = (
        '<p class="note">Its messages are left out: the page would become too large.</p>'
        if longest is None
        else f'<ol class="messages">{"".join(_messages(shown, longest))}</ol>'
    )
    return (
        f'<details class="trajectory {tone}" id="trajectory-{place}"><summary><span class="badge">{_text(badge)}</span>'
        f"<h3>{_name(trajectory.id)}</h3>{found}</summary>"
        f'<div class="inside"><dl class="facts-list">{items}</dl>{on_whole}'
        f'<p class="question-text"><span class="note">Question:</span> {_text(trajectory.question)}</p>'
        f"{messages}</div></details>"
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


def _messages(shown: Shown, longest: int) -> Iterator[str]:
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
        if place > last + 1:
            yield f'<li class="skipped">{count(place - last - 1, "message")} left out here</li>'
        last = place
        yield _message(messages[place], place, found.get(place, []), longest)
    if not messages:
        yield '<li class="skipped">It has no message.</li>'


def _message(message: Message, place: int, marks: Sequence[Mark], longest: int) -> str:
    if message.role == "assistant":
        kind, loss = ("trained", "trained: may carry loss") if message.train else ("masked", "masked: carries no loss")
    else:
        kind, loss = "read", "only read"
    whole = "".join(f"<mark>{_names(mark.names)}</mark>" for mark in _apart(marks) if mark.start == mark.end)
    spans = [mark for mark in _apart(marks) if mark.start < mark.end]
    content = "".join(_pieces(message.content, spans, longest)) or '<span class="cut">(empty)</span>'
    calls = ""
    if message.tool_calls:
        text = json.dumps([dict(call) for call in message.tool_calls], ensure_ascii=False, default=str)
        calls = f'<p class="content"><span class="note">tool calls:</span> <code>{_text(text, longest)}</code></p>'
    return (
        f'<li class="{kind}"><div class="role"><span>{place + 1}</span><b>{_text(message.role)}</b>'
        f'<span>{loss}</span>{whole}</div><p class="content">{content}</p>{calls}</li>'
    )


def _names(names: Iterable[str]) -> str:
    return _text(", ".join(names).replace("_", " "), MOST_NAME)


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


def _pieces(content: str, marks: Sequence[Mark], longest: int) -> Iterator[str]:
    """The content with its marks: its first `longest` characters, and what is around marks that lie behind them."""
    place = 0
    for start, end in _windows(len(content), marks, longest):
        yield _gap(start - place)
        place = start
        for mark in marks:
            if place < mark.end and mark.start < end:
                yield _marked_up(content[place : max(place, mark.start)])
                inside = content[max(place, mark.start) : min(end, mark.end)]
                yield f"<mark>{_marked_up(inside)}<small>{_names(mark.names)}</small></mark>"
                place = min(end, mark.end)
        yield _marked_up(content[place:end])
        place = end
    yield _gap(len(content) - place)


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


def _gap(left: int) -> str:
    return f'<span class="cut"> … {left:,} characters are left out here … </span>' if left > 0 else ""


# ---- settings ----


def _settings(audit: Audit) -> str:
    rows = [[_name_cell(key), _any_cell(value)] for key, value in _flat(audit.settings)]
    return _table("As configured", [("setting", False), ("value", False)], rows) if rows else ""


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value
