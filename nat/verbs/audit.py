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
agents          {kind of agent (nat.agents.kinds): trajectories}; simulated_user stands beside another kind
calls           {turns, calls, tools, by_tool: {name: calls}}: of the agents; by_tool has the most called
tasks           {named, distinct, successes_only, failures_only, both}: trajectories whose file names their task, and
                numbers of tasks (of questions where none is named)
system_prompts  {distinct, first: [{trajectories, text}]}: the most frequent ones, each with how it begins
questions_found [{how, trajectories, before: [fewest, most], is_shared}]: where the question stands in the prompt, and
                how many messages stand before it, the same in all of these or not
per_question    {number of trajectories on one question: number of such questions}
lengths         {unit: {class: {n, median, p90, maximum, edges, counts}}}; units are tokens, characters, turns
tokens          {limit, sampled}: `sampled` is null where all were counted, `limit` null where none were
findings        [{name, severity, count, of, unit, says, remedy, sightings, details}], errors first; a sighting is
                {where, id, excerpt, message, span}. Names: those of nat.quality.checks.CHECKS, and bad_rows,
                exact_duplicates, near_duplicates, same_id_other_text, same_text_other_id, same_question_other_id,
                repeated_questions, conflicting_labels, label_disagreement, label_sources_disagree, graded_labels,
                right_failures, evaluation_overlap, evaluation_near_overlap, label_leak, skew, too_long, one_class,
                infrastructure, no_agent_turn,
                one_question, unread_loss_keys, left_out_parts, loss_weights
bad_rows        {by_reason: {reason: rows}, first: [{where, reason, detail}]}
dropped         {quality rule: trajectories}
labels          null, or of trajectories.labels {files, ids, joined, missing, unmatched, unlisted, sharing, graded,
                first_missing, first_unmatched}: `joined` trajectories found a label, `missing` did not; `unmatched` ids
                are no trajectory's; `unlisted` trajectories failed since their report lists successes only; `sharing`
                ones have a label of several (trials of a task); `graded` labels lie between 0 and 1 and are failures
not_checked     [what these settings left out]
settings        {trajectories, quality, audit, model, environment, seed} as configured
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Literal

from nat.auditing import finders
from nat.auditing.clean import write_clean, write_line
from nat.auditing.config import AuditConfig
from nat.auditing.facts import Facts, Reading, Rows, add, add_bad
from nat.auditing.finders import Collection
from nat.auditing.findings import Audit, Finding
from nat.auditing.lengths import Prompting, Tokens, count_tokens, prompting
from nat.auditing.overlap import Asked, read_questions
from nat.auditing.page import page
from nat.auditing.result import as_json, make
from nat.auditing.summary import dealt, summary
from nat.config.tree import Config
from nat.core.files import write_json, write_text
from nat.core.progress import progress
from nat.core.rows.bad import BadRow
from nat.core.rows.sources import files
from nat.environments.config import EnvironmentConfig
from nat.environments.worlds import worlds
from nat.evaluation.config import EvaluationConfig
from nat.quality.copies import collection_verdicts
from nat.quality.marks import SEVERITIES
from nat.stages.environment import make_environment, scorer_of
from nat.stages.pool import check_settings
from nat.stages.questions import questions_to_evaluate
from nat.sweeps import composition
from nat.trajectories.config import TrajectoryFiles, files_of
from nat.trajectories.label_files import Labels, label_paths
from nat.trajectories.labels import RESCORE, parse_rule
from nat.trajectories.reading import files_to_read, labels_of, map_file, paths, question_file, read_rows
from nat.types import Environment, RequestError
from nat.verbs.request import VALUED, asked_for_help, configured, named, parse, show

OUTPUTS = ("clean.jsonl", "dropped.jsonl", "audit.json", "audit.html")
ROWS_BETWEEN = 32  # one advance of the progress bar and the next


HELP = (
    "usage: nat audit FILES [overrides]   paths, globs, gzip, Parquet, datasets folders; formats are detected\n"
    "writes audit.html, audit.json, clean.jsonl (train on it: trajectories=jsonl) and dropped.jsonl\n"
    "  nat audit 'runs/*.jsonl' environment=hotpotqa audit.evaluation=dev.json\n"
    "  nat audit good.json bad.json trajectories.questions=questions.jsonl\n"
    "  nat audit mine.jsonl trajectories.label='score >= 0.5' quality=strict audit.fail_on=error\n"
    "trajectories=FORMAT overrides the detection, audit.output=DIR says where to write;\n"
    "conf/audit/ and conf/quality/ have all keys"
)
OWN = {  # what differs from training, unless the command line says it
    "trajectories": "auto",
    "trajectories.on_bad_row": "drop",
    "training": "none",
    "evaluation": "none",
    "tracking": "none",
}


def main(argv: Sequence[str]) -> int:
    if asked_for_help(argv):
        print(HELP)
        return 0
    values = [argument for flag, argument in pairwise(argv) if flag in VALUED]
    files = [a for a in argv if not a.startswith("-") and a not in values and ("=" not in a or Path(a).exists())]
    request = parse([a for a in argv if a not in files])
    if request.multirun:
        raise RequestError("nat audit reads all files as one collection; leave -m out.")
    if not files and "trajectories.path" not in named(request.overrides):
        raise RequestError("usage: nat audit FILES, e.g. nat audit trajectories.jsonl 'more/*.json'")
    overrides = arguments(files, request.overrides)
    if request.only_shows:
        return show([*request.flags, *composition.searchpath(request.config_dir), *overrides])
    config = configured(overrides, request.config_dir)
    from rich.console import Console

    found = audit(config, lambda line: print(line, flush=True))
    console = Console(highlight=False)
    console.print(summary(found, console.width), soft_wrap=True)
    if found.is_partial:
        return 130
    return int(fails(found, config.audit.fail_on))


def arguments(files: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The overrides of an audit of these files."""
    given = named(overrides)
    own = [f"{key}={value}" for key, value in OWN.items() if key not in given]
    paths_given = [f"trajectories.path=[{','.join(map(composition.quote, files))}]"] if files else []
    return [*own, *paths_given, *overrides]


def audit(config: Config, say: Callable[[str], None]) -> Audit:
    """Read the configured files, find what is wrong with them, and write what the module's docstring names.

    An interrupt ends the reading, or the search for what is wrong; what is known by then is summarised and written, but
    for clean.jsonl (`is_partial`). Memory grows by some 300 bytes a trajectory; the disk needs room for the files twice
    over, once more than for clean.jsonl, until the audit ends.

    Raises:
        RequestError: a file is missing or cannot be read at all; `audit.output` would overwrite an input.
    """
    start = time.monotonic()
    files = files_of(config.trajectories)
    folder = _output_folder(config.audit, files)
    world = config.environment
    environment = make_environment(world, config.agent)  # without its search, which would read whole corpora
    asked = evaluation_questions(config.audit.evaluation, world, environment, config.evaluation)
    how = None
    if config.audit.token_sample:
        how = prompting(config.model, config.agent, config.strategy, environment)
    # A built-in world is what is configured where nothing is said: its scorer says nothing of other data.
    scores = parse_rule(files.label) == RESCORE or not worlds.is_world(world)
    checks = check_settings(world, environment, config.strategy)
    joined = labels_of(files)
    rule = files.label if joined is None else None  # which the joined labels follow already
    reading = Reading(rule, scorer_of(environment) if scores else None, checks, config.quality)
    rows = Rows(folder / f".rows.{os.getpid()}.tmp")
    left_out = folder / f".dropped.{os.getpid()}.tmp"
    try:
        facts = Facts(rows, config.audit.examples)
        with left_out.open("w", encoding="utf-8") as dropped:
            is_partial = not _read(files, config.audit.listed, facts, reading, dropped, joined)

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
                say("interrupted: this is what was read until then, and no clean.jsonl is written")
            else:
                write_clean(facts, verdicts, config.quality, folder, dropped)
        made = make(facts, verdicts, findings, tokens, checks, config.audit.listed)
        made = replace(made, token_limit=None if tokens is None else limit, settings=_settings(config))
        n_clean = 0 if is_partial else made.n_clean
        unchecked = [] if asked else ["overlap with evaluation questions (audit.evaluation=FILE)"]
        unchecked += [] if reading.score else ["labels against a scorer (environment=NAME)"]
        made = replace(made, not_checked=tuple(unchecked), labels=None if joined is None else joined.counts())
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
    severe = {"never": (), "error": ("error",), "warning": ("error", "warning")}[fail_on]
    return not audit.n_clean or any(f.severity in severe and not dealt(audit, f) for f in audit.findings)


# ---- reading ----


def _output_folder(audit: AuditConfig, trajectories: TrajectoryFiles) -> Path:
    """The folder, made where it is missing. Raises RequestError where the outputs would be written over an input."""
    folder = Path(audit.output)
    evaluation = audit.evaluation
    inputs = [*paths(trajectories.path)]
    inputs += [Path(file) for file in ([evaluation] if isinstance(evaluation, str) else evaluation or [])]
    inputs += [file for file in (question_file(trajectories), map_file(trajectories)) if file is not None]
    inputs += label_paths(trajectories.labels)
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


def _read(
    trajectories: TrajectoryFiles,
    listed: int,
    facts: Facts,
    reading: Reading,
    dropped: IO[str],
    joined: Labels | None,
) -> bool:
    """Take all rows in; False where an interrupt came before the end."""

    def on_bad(bad: BadRow) -> None:
        add_bad(facts, bad, listed)
        write_line(dropped, {"where": bad.where, "id": "", "reason": bad.reason, "detail": bad.problem})

    sizes = {str(path): _bytes(path) for path in files_to_read(trajectories)}
    before: dict[str, int] = {}  # bytes of the files in front of each
    for path, size in sizes.items():
        before[path] = sum(sizes[earlier] for earlier in before)
        facts.file(path).bytes = size
    try:
        total = max(sum(sizes.values()), 1)
        with progress(total, "reading", "bytes") as advance:
            begun, path = 0, ""
            for row in read_rows(trajectories, on_bad, on_bad, joined):
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
    with suppress(OSError):
        return sum(file.stat().st_size for file in files(path))
    return 0


# ---- finding ----


def _find(collection: Collection, how: Prompting | None, is_partial: bool) -> tuple[Tokens | None, list[Finding], bool]:
    """Token lengths and all findings, errors first; true where an interrupt left some findings out."""
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


def _settings(config: Config) -> dict[str, Any]:
    return {
        "trajectories": asdict(config.trajectories),
        "quality": asdict(config.quality),
        "audit": asdict(config.audit),
        "model": config.model.name,
        "environment": config.environment.name,
        "seed": config.seed,
    }


# ---- writing ----


def _write(audit: Audit, folder: Path) -> None:
    write_json(folder / "audit.json", as_json(audit))
    write_text(folder / "audit.html", page(audit))


def evaluation_questions(
    files: str | Sequence[str] | None,
    world: EnvironmentConfig,
    environment: Environment,
    evaluation: EvaluationConfig,
) -> list[Asked]:
    """Those of the files that `audit.evaluation` names (`files`), and those that the environment would ask.

    Raises RequestError for a file that cannot be read or holds no question.
    """
    asked = [q for file in ([files] if isinstance(files, str) else files or []) for q in read_questions(file, world)]
    return [*asked, *_of_environment(world, environment, evaluation)]


def _of_environment(world: EnvironmentConfig, environment: Environment, evaluation: EvaluationConfig) -> list[Asked]:
    """What would be asked in evaluation, but questions that would be held out of these very files."""
    own = world.questions
    if own is not None and Path(own).is_file():
        return read_questions(own, world, "environment.questions")
    if own == "held_out" or (own is None and evaluation.kind == "none"):
        return []
    loaded = questions_to_evaluate(world, environment, evaluation)
    name = own or f"environment={world.name}"
    return [Asked(name, question.id, question.text) for question in loaded.questions]
