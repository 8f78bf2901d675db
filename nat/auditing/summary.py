"""`nat audit` in the terminal: one screen. All of it stands in audit.html and audit.json too."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from nat.auditing.findings import Audit, Finding, Lengths, QuestionFound
from nat.auditing.visible import one_line
from nat.quality.marks import SEVERITIES
from nat.trajectories.label_files import in_words

if TYPE_CHECKING:
    from rich.text import Text

LINES = 45  # of the summary of a typical audit, beside what it says of agents
FILES_SHOWN = 3
VALUES_SHOWN = 8  # of sources, of failure kinds and of reasons, on a line
BARS = " ▁▂▃▄▅▆▇█"
BINS_SHOWN = 24
STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold", "clean": "bold green"}

Tone: TypeAlias = Literal["error", "warning", "clean"]
Line: TypeAlias = list[tuple[str, str]]  # pieces of text with rich's name of their style


class Verdict(NamedTuple):
    """What to do with the files: `tone` is that of the worst finding that no quality rule deals with."""

    tone: Tone
    text: str


def summary(audit: Audit, width: int) -> Text:
    """The audit on one screen of `width` columns; `str()` of it, or a print to a file, has no colour.

    A typical audit takes at most `LINES` lines: findings come worst first, and those that do not fit are named.
    """
    from rich.text import Text

    width = max(40, width)
    agents = _agents(audit, width)
    top = [*_head(audit), *_files(audit, width), [], *_counts(audit, width), *agents, *_lengths(audit)]
    bottom = [[], *_outputs(audit, width), *_verdict_lines(audit, width)]
    lines = [*top, *_findings(audit, width, LINES + len(agents) - len(top) - len(bottom)), *bottom]
    text = Text()
    for line in lines:
        shown = Text()
        for piece, style in line:
            shown.append(piece, style)
        shown.truncate(width, overflow="ellipsis")
        shown.rstrip()
        text.append_text(shown).append("\n")
    text.right_crop(1)
    return text


def verdict(audit: Audit) -> Verdict:
    """Whether what was written can be trained on; findings whose every case a quality rule dropped do not count."""
    at_hand = {
        severity: [
            finding.name for finding in audit.findings if finding.severity == severity and not dealt(audit, finding)
        ]
        for severity in SEVERITIES
    }
    errors, warnings = at_hand["error"], at_hand["warning"]
    them = "it" if len(errors) == 1 else "them"
    if not audit.n_clean and not audit.is_partial:
        found = Verdict("error", "NOTHING TO TRAIN ON: no trajectory is left.")
    elif errors:
        found = Verdict(
            "error", f"NOT READY: {count(len(errors), 'error')} ({_names(errors)}). Put {them} right first."
        )
    elif warnings:
        said = f"USABLE WITH CARE: no error, {count(len(warnings), 'warning')} ({_names(warnings)})."
        found = Verdict("warning", said)
    elif audit.is_partial:
        found = Verdict("warning", "nothing was found yet.")
    else:
        found = Verdict("clean", "READY: nothing is left to put right.")
    if audit.is_partial:
        return Verdict(found.tone, f"INTERRUPTED, so of the rows read until then only: {found.text}")
    return found


def dealt(audit: Audit, finding: Finding) -> bool:
    """Whether the quality rule of its name dropped all that the finding counts."""
    return 0 < finding.count <= audit.n_dropped.get(finding.name, 0)


def count(n: int, what: str) -> str:
    if n != 1:
        what = f"{what[:-1]}ies" if what.endswith("ory") else f"{what}{'es' if what.endswith('s') else 's'}"
    return f"{n:,} {what}"


def share(part: int, whole: int) -> str:
    """As a percentage that is 0% or 100% only where it is exactly that."""
    if not whole:
        return "-"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "<0.1%"
    return ">99.9%" if 99.9 < percent < 100 else f"{percent:.1f}%".replace(".0%", "%")


def unit_of(finding: Finding) -> str:
    """The finding's count, of how many, in words."""
    if not finding.of:
        return f"{finding.count:,} {finding.unit}"
    return f"{finding.count:,} of {finding.of:,} {finding.unit} ({share(finding.count, finding.of)})"


def output_folder(audit: Audit) -> str | None:
    """Where the files of the audit lie, as configured."""
    settings = audit.settings.get("audit")
    folder = settings.get("output") if isinstance(settings, Mapping) else None
    return None if folder is None else str(folder)


def severity_counts(findings: Sequence[Finding]) -> str:
    """As "2 errors, 1 warning", worst first."""
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in SEVERITIES}
    return ", ".join(count(n, severity) for severity, n in counts.items() if n)


def largest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The largest first, equals by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def figure(value: float) -> str:
    """As read best: no decimals from 100 on."""
    return f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:,.1f}"


# ---- parts of the screen ----


def _head(audit: Audit) -> list[Line]:
    rows = sum(file.rows for file in audit.files)
    bytes = sum(file.bytes for file in audit.files)
    seconds = f"{audit.seconds:.1f}" if audit.seconds < 10 else f"{audit.seconds:,.0f}"
    facts = f"{count(len(audit.files), 'file')}, {count(rows, 'row')}, {size(bytes)}, {seconds} s"
    partial = "INTERRUPTED: only what was read until then is counted here"
    head: Line = [("nat audit", "bold"), (f"  {facts}", "")]
    return [[(partial, STYLES["warning"])], head] if audit.is_partial else [head]


def size(bytes: int) -> str:
    amount, unit = float(bytes), "bytes"
    for larger in ("kB", "MB", "GB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:,.0f} {unit}" if unit == "bytes" or amount >= 100 else f"{amount:,.1f} {unit}"


def _files(audit: Audit, width: int) -> list[Line]:
    shown = audit.files[: FILES_SHOWN if len(audit.files) > FILES_SHOWN + 1 else FILES_SHOWN + 1]
    figures = [(f"{file.rows:,}", f"{file.bad_rows:,}") for file in shown]
    formats = [_label(file.format) for file in shown]
    room = max(8, width - 2 - max(map(len, formats), default=6) - 2 - 12 - 12)
    wide = min(room, max((len(one_line(file.path)) for file in shown), default=4))
    format_wide = max(6, *map(len, formats)) if formats else 6
    lines: list[Line] = [[(f"  {'file':{wide}}  {'format':{format_wide}}{'rows':>10}{'bad rows':>11}", "dim")]]
    for file, format, (rows, bad) in zip(shown, formats, figures, strict=True):
        path = _end_of(one_line(file.path), wide)
        lines.append([(f"  {_padded(path, wide)}  {format:{format_wide}}{rows:>10}{bad:>11}", "")])
    if left := audit.files[len(shown) :]:
        rows = sum(file.rows for file in left)
        bad_rows = sum(file.bad_rows for file in left)
        lines.append([(f"  and {count(len(left), 'more file')} ({rows:,} rows, {bad_rows:,} bad), see audit.html", "")])
    return lines if shown else []


def _padded(text: str, width: int) -> str:
    """To `width` columns of a terminal, on which some characters take two."""
    from rich.cells import set_cell_size

    return set_cell_size(text, width)


def _end_of(path: str, width: int) -> str:
    """The end of a path says more than its start."""
    return path if len(path) <= width else "…" + path[len(path) - width + 1 :]


def _counts(audit: Audit, width: int) -> list[Line]:
    total = audit.n_successes + audit.n_failures
    classes = (
        f"{total:,}: {count(audit.n_successes, 'success')} ({share(audit.n_successes, total)}), "
        f"{count(audit.n_failures, 'failure')} ({share(audit.n_failures, total)})"
    )
    with_ = {key: audit.questions_with.get(key, 0) for key in ("both", "successes_only", "failures_only")}
    most = max(audit.per_question, default=0)
    questions = (
        f"{audit.n_questions:,}: {with_['both']:,} with both, {with_['successes_only']:,} with successes only, "
        f"{with_['failures_only']:,} with failures only; at most {most:,} trajectories on one"
    )
    sources = sorted(audit.by_source.items(), key=lambda item: (-sum(item[1]), item[0]))
    by_source = [
        f"{_label(name) or '(none)'} {good + bad:,} ({share(good, good + bad)} success)"
        for name, (good, bad) in sources
    ]
    by_failure = [f"{_label(kind)} {n:,}" for kind, n in largest(audit.by_failure)]
    lines = [*_said("trajectories", classes, width, 1)]
    if audit.n_with_task and not audit.tasks_are_questions:  # trials of a task are asked in several ways
        lines += _said("tasks", f"{tasks_said(audit)}; asked in {count(audit.n_questions, 'text')}", width, 2)
    else:
        lines += _said("questions", questions, width, 2)
    if audit.labels is not None:
        lines += _said("labels", one_line(in_words(audit.labels)), width, 3)
    if by_source:
        lines += _said("sources", _listed(by_source), width, 2)
    if by_failure:
        lines += _said("failures", _listed(by_failure), width, 2)
    return lines


KINDS = {
    "text_actions": "actions as text",
    "native_calls": "structured calls",
    "chain_of_thought": "chain of thought",
    "plain_chat": "plain chat",
}
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
SYSTEM_PROMPTS = "environment=own keeps them; other environments replace them"  # what becomes of system prompts


def _agents(audit: Audit, width: int) -> list[Line]:
    """What kinds of agents these are, what they call, and what stands in front of their turns."""
    lines: list[Line] = []
    if audit.agents:
        lines += _said("agents", agents_said(audit), width, 2)
        lines += _said("turns", calls_said(audit), width, 3)
    if audit.questions_found:
        lines += _said("question", "; ".join(map(found_said, audit.questions_found[:2])), width, 2)
    if audit.n_system_prompts:
        heads = [f"{one_line(prompt.text)!r} {prompt.n:,}" for prompt in audit.system_prompts]
        first = f"{audit.n_system_prompts:,}; {SYSTEM_PROMPTS}"
        lines += _said("system prompts", first, width, 1)
        lines += [[(f"{'':15}{_wrapped(head, width - 15, 1)[0]}", "")] for head in heads]
    return lines


def agents_said(audit: Audit) -> str:
    total = audit.n_successes + audit.n_failures
    said = [f"{KINDS[kind]} {audit.agents[kind]:,}" for kind in KINDS if audit.agents.get(kind)]
    with_user = audit.agents.get("simulated_user", 0)
    of = "all" if with_user == total else f"{with_user:,}"
    return ", ".join(said) + (f"; {of} of them take turns with a user" if with_user else "")


def calls_said(audit: Audit) -> str:
    said = f"{count(audit.n_turns, 'turn')} of the agent, {count(audit.n_calls, 'call')}"
    if not audit.n_calls:
        return said
    tools = _listed([f"{_label(name)} {n:,}" for name, n in largest(audit.by_tool)], len(audit.by_tool))
    left = audit.n_tools - len(audit.by_tool)
    return f"{said}: {tools}" + (f" and {left:,} more" if left else "")


def tasks_said(audit: Audit) -> str:
    tasks = audit.tasks
    return (
        f"{tasks['distinct']:,}: {tasks['both']:,} with both classes, {tasks['successes_only']:,} with successes only, "
        f"{tasks['failures_only']:,} with failures only"
    )


def found_said(found: QuestionFound) -> str:
    """Where a question was found, as "the second user message of 2 trajectories; 3 messages before it ..."."""
    name = found.how
    if name.startswith("user message "):
        number = int(name.rpartition(" ")[2])
        ordinal = ORDINALS[number - 1] if number <= len(ORDINALS) else f"{number}th"
        name = f"the {ordinal} user message"
    elif name.startswith("field "):
        name = f"the field {one_line(name.removeprefix('field '))!r}"
    fewest, most = found.before
    of = f"{name} ({count(found.n, 'trajectory')})"
    if not most:
        return of
    if fewest != most:
        return f"{of}, with {fewest:,} to {most:,} messages in front"
    if found.is_shared and found.n > 1:
        opens = "opens" if most == 1 else "open"
        return f"{of}; {count(most, 'message')} before it {opens} every conversation"
    return f"{of}, with {count(most, 'message')} in front"


def _label(text: object, most: int = 30) -> str:
    """A name from outside, short."""
    text = one_line(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def _listed(parts: Sequence[str], most: int = VALUES_SHOWN) -> str:
    return ", ".join(parts[:most]) + (f" and {len(parts) - most} more" if len(parts) > most else "")


def _names(names: Sequence[str]) -> str:
    return _listed([_label(name) for name in names], 6)


def _said(name: str, text: str, width: int, most: int) -> list[Line]:
    """`text` beside its name, on `most` lines."""
    first, *rest = _wrapped(text, width - 15, most)
    return [[(f"{name:13}  ", "bold"), (first, "")], *([(f"{'':15}{line}", "")] for line in rest)]


def _wrapped(text: str, width: int, most: int) -> list[str]:
    return textwrap.wrap(
        text, max(16, width), max_lines=most, placeholder=" …", break_on_hyphens=False, break_long_words=True
    ) or [""]


def _lengths(audit: Audit) -> list[Line]:
    lines: list[Line] = []
    for unit, classes in audit.lengths.items():
        for name, lengths in classes.items():
            label = _label(unit, 11) if name == next(iter(classes)) else ""
            figures = f"{figure(lengths.median):>8}{figure(lengths.p90):>8}{figure(lengths.maximum):>9}"
            lines.append([(f"  {label:12} {_label(name, 9):9}{lengths.n:>9,}{figures}  {sparkline(lengths)}", "")])
    if not lines:
        return []
    notes = []
    if audit.token_limit is not None:
        notes.append(f"limit {audit.token_limit:,} tokens")
    if audit.tokens_sampled is not None:
        notes.append(f"{audit.tokens_sampled:,} sampled")
    head = f"{'lengths':13}  {'class':9}{'number':>9}{'median':>8}{'p90':>8}{'longest':>9}"
    return [[], [(head, "bold"), ("  " + ", ".join(notes), "")], *lines]


def sparkline(lengths: Lengths) -> str:
    """The distribution in a few columns; a bin that holds anything is seen."""
    step = -(-len(lengths.counts) // BINS_SHOWN) or 1
    bins = [sum(lengths.counts[i : i + step]) for i in range(0, len(lengths.counts), step)]
    most = max(bins, default=0) or 1
    return "".join(BARS[-(-n * (len(BARS) - 1) // most)] for n in bins)


def _findings(audit: Audit, width: int, room: int) -> list[Line]:
    findings = audit.findings
    if not findings:
        return [[], [("findings       ", "bold"), ("none", STYLES["clean"])]]
    lines: list[Line] = [[], [("findings       ", "bold"), (severity_counts(findings), "")]]
    ordered = sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
    for place, finding in enumerate(ordered):
        said = _finding(finding, width, dealt(audit, finding))
        rest = ordered[place + 1 :]
        # The last line is kept for naming those that do not fit; the worst finding is shown in any case.
        if place and len(lines) + len(said) + bool(rest) * 2 > room:
            left = ordered[place:]
            names = _listed([f"{_label(each.name)} {each.count:,}" for each in left])
            text = f"and {len(left)} more ({severity_counts(left)}), see audit.html: {names}"
            return lines + [[(f"  {line}", "")] for line in _wrapped(text, width - 2, 2)]
        lines += said
    return lines


def _finding(finding: Finding, width: int, is_dealt: bool) -> list[Line]:
    name = _label(finding.name)
    head: Line = [
        (f"  {finding.severity.upper():8} ", STYLES[finding.severity]),
        (name, "bold"),
        (f"  {one_line(unit_of(finding))}{', all left out by rule' if is_dealt else ''}", ""),
    ]
    says = _wrapped(one_line(finding.says), width - 11, 2)
    remedy = _wrapped("→ " + one_line(finding.remedy), width - 11, 3) if finding.remedy else []
    return [head, *([(f"{'':11}{line}", "")] for line in (*says, *remedy))]


def _outputs(audit: Audit, width: int) -> list[Line]:
    bad = sum(audit.n_bad_rows.values())
    parts = []
    if bad:
        reasons = _listed([f"{_label(reason)} {n:,}" for reason, n in largest(audit.n_bad_rows)], 4)
        parts.append(f"{count(bad, 'bad row')} ({reasons})")
    if dropped := sum(audit.n_dropped.values()):
        rules = _listed([f"{_label(rule)} {n:,}" for rule, n in largest(audit.n_dropped)], 6)
        parts.append(f"{dropped:,} by rule ({rules})")
    lines = _said("left out", "; ".join(parts) or "nothing", width, 2)
    if audit.bad_rows and bad >= audit.n_successes + audit.n_failures:  # more than a flaw here and there
        first = audit.bad_rows[0]
        text = f"e.g. {one_line(first.where)}: {one_line(first.detail)}"
        lines += [[(f"{'':15}{line}", "")] for line in _wrapped(text, width - 15, 2)]
    if audit.not_checked:
        lines += _said("not checked", "; ".join(audit.not_checked), width, 2)
    folder = output_folder(audit)
    where = f"{one_line(folder)}: " if folder else ""
    clean = "" if audit.is_partial else f"clean.jsonl ({audit.n_clean:,} rows), "
    written = f"{where}{clean}dropped.jsonl, audit.html, audit.json{' (no clean.jsonl)' if audit.is_partial else ''}"
    return [*lines, *_said("written", written, width, 2)]


def _verdict_lines(audit: Audit, width: int) -> list[Line]:
    tone, text = verdict(audit)
    first, *rest = _wrapped(text, width - 15, 4)
    style = STYLES[tone]
    return [[("verdict        ", "bold"), (first, style)], *([(f"{'':15}{line}", style)] for line in rest)]
