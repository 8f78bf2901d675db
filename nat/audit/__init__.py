"""`nat audit FILES`: what a pile of trajectories holds, what is wrong with it, and a clean file to train on.

Into `audit.output` go

clean.jsonl     what quality control keeps, in the native format and the order of the input; where ids are used again,
                the later ones get a number ("7#2") and keep their own in metadata.original_id
dropped.jsonl   what is left out, one object a line: bad rows {where, id: "", reason, detail}, then trajectories that a
                rule drops {where, id, rule, detail, success}
audit.json      everything below
audit.html      the same to look at, with example trajectories

audit.json has these keys, which stay as they are:

version         1
is_partial      true after an interrupt: all counts are of what was read until then, and there is no clean.jsonl
seconds         that the audit took
files           [{path, format, bytes, rows, trajectories, bad_rows}]
trajectories    {successes, failures, clean}: numbers, `clean` of those in clean.jsonl
questions       {distinct, successes_only, failures_only, both}: numbers of normalised texts
by_source       {source: {successes, failures}}
by_failure      {failure kind: trajectories}
per_question    {number of trajectories on one question: number of such questions}
lengths         {unit: {class: {n, median, p90, maximum, edges, counts}}}; units are tokens, characters, turns
tokens          {limit, sampled}: `sampled` is null where all were counted, `limit` null where none were
findings        [{name, severity, count, of, unit, says, remedy, sightings, details}], errors first; a sighting is
                {where, id, excerpt, message, span}. Names: those of nat.checks.CHECKS, and bad_rows, exact_duplicates,
                near_duplicates, same_id_other_text, same_text_other_id, same_question_other_id, repeated_questions,
                conflicting_labels, label_disagreement, evaluation_overlap, evaluation_near_overlap, label_leak, skew,
                too_long, one_class, infrastructure, no_agent_turn
bad_rows        {by_reason: {reason: rows}, first: [{where, reason, detail}]}
dropped         {quality rule: trajectories}
not_checked     [what these settings left out]
settings        {trajectories, quality, audit, model, environment, seed} as configured
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from nat.schema import STRICT
from nat.types import RequestError

if TYPE_CHECKING:
    from nat.audit.collection_findings import Collection
    from nat.audit.facts import Facts, Reading
    from nat.audit.findings import Audit, Finding, Lengths, Shown, Sighting
    from nat.audit.lengths import Prompting, Tokens
    from nat.checks import CheckSettings
    from nat.config import Config
    from nat.quality import QualityConfig, Verdicts
    from nat.trajectories import TrajectoryFiles

OUTPUTS = ("clean.jsonl", "dropped.jsonl", "audit.json", "audit.html")
ROWS_BETWEEN = 32  # one advance of the progress bar and the next
MOST_SHOWN = 30  # example trajectories on the page


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AuditConfig:
    """Values and their meaning: conf/audit/standard.yaml."""

    output: str
    fail_on: Literal["never", "warning", "error"]
    evaluation: str | list[str] | None
    examples: PositiveInt
    listed: NonNegativeInt
    token_sample: NonNegativeInt
    near: Annotated[float, Field(ge=0.7, le=1)]


def audit(config: Config, report: Callable[[str], None]) -> Audit:
    """Read the configured files, find what is wrong with them, and write what the module's docstring names.

    An interrupt ends the reading, or the search for what is wrong; what is known by then is summarised and written, but
    for clean.jsonl (`is_partial`). Memory grows by some 300 bytes a trajectory; the disk needs room for the files twice
    over, once more than for clean.jsonl, until the audit ends.

    Raises:
        RequestError: a file is missing or cannot be read at all; `audit.output` would overwrite an input.
    """
    from nat.audit import collection_findings as finders
    from nat.audit import same_questions
    from nat.audit.facts import Facts, Reading, Rows
    from nat.audit.lengths import prompting
    from nat.environments import worlds
    from nat.labels import RESCORE, parse_rule
    from nat.stages.environment import make_environment
    from nat.stages.pool import check_settings
    from nat.trajectories import files_of

    start = time.monotonic()
    files = files_of(config.trajectories)
    folder = _output_folder(config.audit, files)
    world = config.environment
    environment = make_environment(world, config.agent)  # without its search, which would read whole corpora
    asked = same_questions.evaluation_questions(config.audit.evaluation, world, environment, config.evaluation)
    how = None
    if config.audit.token_sample:
        how = prompting(config.model, config.agent, config.strategy, environment.instructions)
    # A built-in world is what is configured where nothing is said: its scorer says nothing of other data.
    scores = parse_rule(files.label) == RESCORE or not worlds.is_world(world)
    checks = check_settings(world, environment, config.strategy)
    reading = Reading(files.label, environment.score if scores else None, checks, config.quality)
    rows = Rows(folder / f".rows.{os.getpid()}.tmp")
    left_out = folder / f".dropped.{os.getpid()}.tmp"
    try:
        facts = Facts(rows, config.audit.examples)
        with left_out.open("w", encoding="utf-8") as dropped:
            is_partial = not _read(files, config.audit.listed, facts, reading, dropped)
            from nat.quality import collection_verdicts

            verdicts = collection_verdicts(facts.quality, config.quality)
            limit, rows_read = config.model.max_length, facts.arrays()
            collection = finders.Collection(
                facts, rows_read, config.audit, config.seed, asked, None, limit, not is_partial
            )
            tokens, findings, is_cut = _find(collection, how, is_partial)
            is_partial = is_partial or is_cut
            for name in OUTPUTS:  # an earlier audit's, kept until here: a request that is wrong costs nothing
                (folder / name).unlink(missing_ok=True)
            if is_partial:
                report("interrupted: this is what was read until then, and no clean.jsonl is written")
            else:
                _write_clean(facts, verdicts, config.quality, folder, dropped)
        made = _make(facts, verdicts, findings, tokens, checks, config.audit.listed)
        made = replace(made, token_limit=None if tokens is None else limit, settings=_settings(config))
        n_clean = 0 if is_partial else made.n_clean
        unchecked = [] if asked else ["overlap with evaluation questions (audit.evaluation=FILE)"]
        unchecked += [] if reading.score else ["labels against a scorer (environment=NAME)"]
        made = replace(made, not_checked=tuple(unchecked))
        made = replace(made, is_partial=is_partial, n_clean=n_clean, seconds=round(time.monotonic() - start, 3))
        left_out.replace(folder / "dropped.jsonl")
        _write(made, folder)
    finally:
        rows.remove()
        left_out.unlink(missing_ok=True)
    return made


def fails(audit: Audit, fail_on: Literal["never", "warning", "error"]) -> bool:
    """Whether a program that asked for clean data should stop: a finding is at least this severe, or no data are left.

    A finding whose every case a quality rule dropped does not count, as in the verdict of the summary.
    """
    from nat.audit.summary import dealt

    severe = {"never": (), "error": ("error",), "warning": ("error", "warning")}[fail_on]
    return not audit.n_clean or any(f.severity in severe and not dealt(audit, f) for f in audit.findings)


# ---- reading ----


def _output_folder(audit: AuditConfig, trajectories: TrajectoryFiles) -> Path:
    """The folder, made where it is missing. Raises RequestError where the outputs would be written over an input."""
    from nat.trajectories import paths, question_file

    folder = Path(audit.output)
    evaluation = audit.evaluation
    inputs = [*paths(trajectories.path)]
    inputs += [Path(file) for file in ([evaluation] if isinstance(evaluation, str) else evaluation or [])]
    inputs += [file for file in (question_file(trajectories),) if file is not None]
    for input in inputs:
        for output in (folder / name for name in OUTPUTS):
            is_same = output.exists() and input.exists() and output.samefile(input)
            if is_same or (input.is_dir() and output.resolve().is_relative_to(input.resolve())):
                raise RequestError(
                    f"audit.output={audit.output}: the audit would write over {input}, which it reads.\n"
                    "Name another folder."
                )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"audit.output={audit.output}: cannot be written to ({error.strerror or error}).\nName a folder."
        ) from None
    return folder


def _read(trajectories: TrajectoryFiles, listed: int, facts: Facts, reading: Reading, dropped: IO[str]) -> bool:
    """Take all rows in; False where an interrupt came before the end."""
    from nat.audit.facts import add, add_bad
    from nat.progress import progress
    from nat.trajectories import paths, read_rows
    from nat.trajectories.json_lines import BadRow

    def on_bad(bad: BadRow) -> None:
        add_bad(facts, bad, listed)
        _write_line(dropped, {"where": bad.where, "id": "", "reason": bad.reason, "detail": bad.problem})

    sizes = {str(path): _bytes(path) for path in paths(trajectories.path)}
    before: dict[str, int] = {}  # bytes of the files in front of each
    for path, size in sizes.items():
        before[path] = sum(sizes[earlier] for earlier in before)
        facts.file(path).bytes = size
    try:
        total = max(sum(sizes.values()), 1)
        with progress(total, "reading", "bytes") as advance:
            begun, path = 0, ""
            for row in read_rows(trajectories, on_bad):
                if row.path != path:
                    begun, path = facts.rows.bytes, row.path
                try:
                    add(facts, row.where, row.format, row.path, row.trajectory, reading)
                except BadRow as bad:
                    on_bad(bad)
                if facts.n % ROWS_BETWEEN == 0:
                    # What is written of a file is about as long as what was read of it.
                    done = before.get(path, 0) + min(facts.rows.bytes - begun, sizes.get(path, 0))
                    advance(min(done, total - 1), f"{facts.n:,} trajectories")
            advance(total, f"{facts.n:,} trajectories")
    except KeyboardInterrupt:
        facts.forget_the_unfinished()
        return False
    return True


def _bytes(path: Path) -> int:
    from nat.trajectories.sources import files

    with suppress(OSError):
        return sum(file.stat().st_size for file in files(path))
    return 0


# ---- finding ----


def _find(collection: Collection, how: Prompting | None, is_partial: bool) -> tuple[Tokens | None, list[Finding], bool]:
    """Token lengths and all findings, errors first; true where an interrupt left some findings out."""
    from nat.audit import collection_findings as finders
    from nat.audit.findings import SEVERITIES
    from nat.audit.lengths import count_tokens

    findings: list[Finding] = []
    tokens, is_cut, facts = None, False, collection.facts
    try:
        if how is not None and facts.n:
            sample = finders.sample(facts.n, collection.config.token_sample, collection.seed)
            tokens = count_tokens(facts, sample, facts.n, how)
            collection = replace(collection, tokens=tokens)
        for find in finders.FINDERS:
            if (finding := find(collection)) is not None:
                findings.append(finding)
        findings += finders.evaluation_overlaps(collection)
        if (finding := finders.near_duplicate_texts(collection)) is not None:
            findings.append(finding)
    except KeyboardInterrupt:
        if is_partial:
            raise  # the second one means it
        is_cut = True
    findings.sort(key=lambda finding: (SEVERITIES.index(finding.severity), -finding.count))
    return tokens, findings, is_cut


def _make(
    facts: Facts,
    verdicts: Verdicts,
    findings: list[Finding],
    tokens: Tokens | None,
    checks: CheckSettings,
    listed: int,
) -> Audit:
    import numpy as np

    from nat.audit.collection_findings import spread
    from nat.audit.duplicates import grouped
    from nat.audit.facts import FAILURES
    from nat.audit.findings import Audit, FileRead
    from nat.audit.lengths import distributions
    from nat.quality import KEPT, RULES

    rows = facts.arrays()
    success = rows["success"] == 1
    questions = grouped(rows["question"])
    of_question = (
        np.add.reduceat(success[questions.order].astype(np.int64), questions.starts) if facts.n else rows["turns"]
    )
    only_successes = int((of_question == questions.sizes).sum())
    only_failures = int((of_question == 0).sum())
    good = np.bincount(rows["source"][success], minlength=len(facts.sources))
    bad = np.bincount(rows["source"][~success], minlength=len(facts.sources))
    kinds = np.bincount(rows["failure"], minlength=len(FAILURES) + 1)
    lengths: dict[str, Mapping[str, Lengths]] = {}
    if tokens is not None and tokens.lengths:
        lengths["tokens"] = distributions("tokens", np.array(tokens.lengths), success[tokens.rows])
    for unit, column in (("characters", "characters"), ("turns", "turns")):
        lengths[unit] = distributions(unit, rows[column], success)
    dropped = Counter(RULES[number] for number in verdicts.rule[verdicts.rule != KEPT].tolist())
    return Audit(
        files=tuple(
            FileRead(f.path, f.format, f.bytes, f.trajectories + f.bad_rows, f.trajectories, f.bad_rows)
            for f in facts.files.values()
        ),
        n_successes=int(success.sum()),
        n_failures=int((~success).sum()),
        n_questions=len(questions.sizes),
        by_source={name: (int(good[i]), int(bad[i])) for name, i in facts.sources.items()},
        by_failure={kind: int(n) for kind, n in zip(FAILURES, kinds[1:], strict=True) if n},
        per_question=dict(sorted(Counter(questions.sizes.tolist()).items())),
        questions_with={
            "successes_only": only_successes,
            "failures_only": only_failures,
            "both": len(questions.sizes) - only_successes - only_failures,
        },
        lengths={unit: found for unit, found in lengths.items() if found},
        token_limit=None,
        tokens_sampled=tokens.sampled if tokens is not None and tokens.is_sample else None,
        findings=tuple(findings),
        bad_rows=tuple(spread(facts.first_bad_rows, listed)),
        n_bad_rows=dict(facts.bad_rows.most_common()),
        n_dropped={rule: dropped[rule] for rule in RULES if dropped[rule]},
        n_clean=facts.n - dropped.total(),
        shown=_shown(facts, findings, checks),
        settings={},
        seconds=0.0,
    )


def _settings(config: Config) -> dict[str, Any]:
    return {
        "trajectories": asdict(config.trajectories),
        "quality": asdict(config.quality),
        "audit": asdict(config.audit),
        "model": config.model.name,
        "environment": config.environment.name,
        "seed": config.seed,
    }


def _shown(facts: Facts, findings: list[Finding], checks: CheckSettings) -> tuple[Shown, ...]:
    """Trajectories in which something was found, of every finding some, and one of each class; secrets are masked."""
    from nat.audit.facts import masked
    from nat.audit.findings import Shown
    from nat.checks import check

    found: dict[tuple[str, str], list[tuple[str, Sighting]]] = {}
    for finding in findings:
        for sighting in finding.sightings:
            found.setdefault((sighting.where, sighting.id), []).append((finding.name, sighting))
    chosen: dict[int, tuple[tuple[str, Sighting], ...]] = {}
    most = max((len(finding.sightings) for finding in findings), default=0)
    for place in range(most):
        for finding in findings:
            sighting = finding.sightings[place] if place < len(finding.sightings) else None
            row = None if sighting is None else facts.rows_of.get((sighting.where, sighting.id))
            if sighting is not None and row is not None and len(chosen) < MOST_SHOWN:
                chosen[row] = tuple(found[sighting.where, sighting.id])
    success = facts.arrays()["success"]
    for label in (1, 0):
        for row in (success == label).nonzero()[0][:1].tolist():
            chosen.setdefault(row, ())
    shown = []
    for row, places in chosen.items():
        where, _, trajectory = facts.row(row)
        messages = list(trajectory.messages)
        for mark in check(trajectory, checks):
            if mark.name != "secret":
                continue
            if mark.message is None:
                trajectory = replace(trajectory, question=masked(trajectory.question, mark.start, mark.end))
            else:
                content = masked(messages[mark.message].content, mark.start, mark.end)
                calls = () if mark.start == mark.end else messages[mark.message].tool_calls
                messages[mark.message] = replace(messages[mark.message], content=content, tool_calls=calls)
        shown.append(Shown(where, replace(trajectory, messages=tuple(messages), metadata={}), places))
    return tuple(shown)


# ---- writing ----


def _write_clean(facts: Facts, verdicts: Verdicts, quality: QualityConfig, folder: Path, dropped: IO[str]) -> None:
    """clean.jsonl, and what quality control drops after the bad rows."""
    from nat.quality import KEPT, RULES, collection_detail

    temporary = folder / f".clean.{os.getpid()}.tmp"
    names = _new_ids(facts, verdicts)
    try:
        with temporary.open("wb") as clean:
            for row, (where, detail, text) in enumerate(facts.rows.lines()):
                number, other = int(verdicts.rule[row]), int(verdicts.other[row])
                if number == KEPT:
                    clean.write(text if row not in names else _renamed(text, names[row]))
                    continue
                record, rule = json.loads(text), RULES[number]
                told = json.loads(detail)
                if not told:
                    same = facts.row(other) if other >= 0 else None
                    told = collection_detail(rule, f"{same.trajectory.id} ({same.where})" if same else "", quality)
                line = {"where": json.loads(where), "id": record["id"], "rule": rule, "detail": told}
                _write_line(dropped, {**line, "success": record["outcome"]["success"]})
        temporary.replace(folder / "clean.jsonl")
    finally:
        temporary.unlink(missing_ok=True)


def _new_ids(facts: Facts, verdicts: Verdicts) -> dict[int, str]:
    """Ids for the kept rows whose own is that of an earlier one: `nat train` knows trajectories by their id."""
    import numpy as np

    from nat.audit.duplicates import grouped
    from nat.audit.facts import digest
    from nat.quality import KEPT

    ids = facts.arrays()["id"]
    kept = np.flatnonzero(verdicts.rule == KEPT)
    groups = grouped(ids[kept])
    again = np.flatnonzero(groups.sizes > 1)
    taken = set(ids.tolist()) if len(again) else set()
    names: dict[int, str] = {}
    for start, size in zip(groups.starts[again].tolist(), groups.sizes[again].tolist(), strict=True):
        members = kept[groups.order[start : start + size]].tolist()
        own, number = facts.row(members[0]).trajectory.id, 2
        for row in members[1:]:
            while digest(f"{own}#{number}") in taken:
                number += 1
            names[row] = f"{own}#{number}"
            number += 1
    return names


def _renamed(text: bytes, id: str) -> bytes:
    record = json.loads(text)
    record["metadata"] = {**record["metadata"], "original_id": record["id"]}
    return (json.dumps({**record, "id": id}) + "\n").encode()


def _write(audit: Audit, folder: Path) -> None:
    from nat.audit.page import page
    from nat.files import write_json, write_text

    write_json(folder / "audit.json", as_json(audit))
    write_text(folder / "audit.html", page(audit))


def as_json(audit: Audit) -> dict[str, Any]:
    """What audit.json holds; the keys are told in the module's docstring."""
    return {
        "version": 1,
        "is_partial": audit.is_partial,
        "seconds": audit.seconds,
        "files": [asdict(file) for file in audit.files],
        "trajectories": {"successes": audit.n_successes, "failures": audit.n_failures, "clean": audit.n_clean},
        "questions": {"distinct": audit.n_questions, **audit.questions_with},
        "by_source": {name: {"successes": good, "failures": bad} for name, (good, bad) in audit.by_source.items()},
        "by_failure": dict(audit.by_failure),
        "per_question": {str(size): number for size, number in audit.per_question.items()},
        "lengths": {
            unit: {name: {k: v for k, v in asdict(lengths).items() if k != "unit"} for name, lengths in classes.items()}
            for unit, classes in audit.lengths.items()
        },
        "tokens": {"limit": audit.token_limit, "sampled": audit.tokens_sampled},
        "findings": [asdict(finding) for finding in audit.findings],
        "bad_rows": {"by_reason": dict(audit.n_bad_rows), "first": [row._asdict() for row in audit.bad_rows]},
        "dropped": dict(audit.n_dropped),
        "not_checked": list(audit.not_checked),
        "settings": dict(audit.settings),
    }


def _write_line(file: IO[str], value: Mapping[str, Any]) -> None:
    # half of a surrogate pair has no UTF-8, its escape has
    text = json.dumps(value, ensure_ascii=False)
    with suppress(UnicodeEncodeError):
        text.encode()
        file.write(f"{text}\n")
        return
    file.write(f"{json.dumps(value)}\n")
