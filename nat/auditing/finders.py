"""What is found by looking at all trajectories together. Each function makes one finding, or None where nothing is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nat.auditing.config import AuditConfig
from nat.auditing.duplicates import AT_LEAST, Groups, Near, grouped, near_duplicates
from nat.auditing.facts import ENDING, EXCERPT, FAILURES, Facts, digest
from nat.auditing.findings import Finding, Sighting
from nat.auditing.lengths import Tokens
from nat.auditing.overlap import Asked, Overlap, overlaps
from nat.auditing.skew import FEWEST, Auc, auc, best_split
from nat.core.progress import progress
from nat.core.questions import question_id
from nat.quality.checks import CHECKS
from nat.quality.leaks import leaks
from nat.quality.marks import SEVERITIES, Severity

MOST_OF_A_FILE = 0.5  # share of its trajectories from which on a rule that drops them is asked about, not advised
FEWEST_ASKED = 4  # trajectories of which most can have one question by mistake; two may well be trials
FIELDS_READ = 50  # trajectories whose fields are looked through for a question
MANY_BAD_ROWS = 0.1  # share of all rows from which on bad rows are an error
LEAK_SAMPLE = 4000  # trajectories in which texts that separate the classes are looked for
SKEWED: tuple[tuple[float, Severity], ...] = ((0.45, "error"), (0.2, "warning"), (0.1, "note"))  # by |AUC - 0.5|
SOURCES_SHOWN = 20


@dataclass(frozen=True)
class Collection:
    """All that the findings are made of."""

    facts: Facts
    rows: Any  # `Facts.arrays()`
    config: AuditConfig
    seed: int
    asked: Sequence[Asked]  # evaluation questions
    tokens: Tokens | None
    token_limit: int
    shows_progress: bool  # not after an interrupt: it would be raised again there


Finder = Callable[[Collection], Finding | None]


# ---- rows ----


def bad_rows(collection: Collection) -> Finding | None:
    facts = collection.facts
    bad = sum(facts.bad_rows.values())
    if not bad:
        return None
    rows = facts.n + bad
    sightings = [
        Sighting(row.where, "", f"{row.reason}: {row.detail}"[:EXCERPT])
        for row in spread(facts.first_bad_rows, collection.config.examples)
    ]
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in facts.bad_rows.most_common())
    # Where labels are missing, one key may be all that is: the row's own message says which.
    unlabelled = facts.first_bad_rows.get("no_label", [])
    advice = unlabelled[0].detail.partition("\n")[2] if unlabelled else ""
    is_error = bad >= MANY_BAD_ROWS * rows or "broken_file" in facts.bad_rows
    return Finding(
        "bad_rows",
        "error" if is_error else "warning",
        bad,
        rows,
        "rows",
        f"{bad:,} rows cannot be used ({reasons}).",
        f"{advice}{' ' if advice else ''}They are left out and listed in dropped.jsonl, each with its place and the "
        "reason: mend the source, or go on without them.",
        tuple(sightings),
        dict(facts.bad_rows.most_common()),
    )


def spread(by_reason: Mapping[str, Sequence[Any]], most: int) -> list[Any]:
    """The first ones of each reason in turn, so that no reason hides another."""
    chosen: list[Any] = []
    for place in range(max(map(len, by_reason.values()), default=0)):
        chosen += [rows[place] for rows in by_reason.values() if place < len(rows)]
    return chosen[:most]


def of_check(name: str) -> Finder:
    """The finding of one check of single trajectories."""

    def find(collection: Collection) -> Finding | None:
        found = collection.facts.found.get(name)
        if found is None:
            return None
        info = CHECKS[name]
        trajectories = found.successes + found.failures
        of = {"trajectories": collection.facts.n, **collection.facts.units}.get(info.unit, 0)
        count = trajectories if info.unit == "trajectories" else found.marks
        shares = f"{found.successes:,} successes and {found.failures:,} failures"
        return Finding(
            name,
            info.severity,
            count,
            max(of, count) if of else 0,
            info.unit,
            f"{info.says} In {shares}.",
            _advice(collection, name, found.of_files, info.remedy, info.asks),
            tuple(found.sightings),
            {"trajectories": trajectories, "successes": found.successes, "failures": found.failures},
        )

    return find


def _advice(collection: Collection, rule: str, of_files: Mapping[int, int], remedy: str, asks: str) -> str:
    """The remedy; where it would drop most of the trajectories, of all or of one file, a question in its place.

    Args:
        rule: the key `quality.RULE` by which the remedy drops.
        of_files: by file's number, the trajectories that it would drop.
    """
    if f"quality.{rule}=" not in remedy:
        return remedy
    files = [file for file in collection.facts.files.values() if file.trajectories]
    shares = [(of_files.get(file.number, 0), file.trajectories, file.path) for file in files]
    n, of = sum(n for n, _, _ in shares), sum(of for _, of, _ in shares)
    place = ""
    if n <= MOST_OF_A_FILE * of:
        most = max(shares, key=lambda share: share[0] / share[1], default=(0, 1, ""))
        if most[0] <= MOST_OF_A_FILE * most[1]:
            return remedy
        n, of, place = most[0], most[1], f" of {Path(most[2]).name}"
    value = next(match for match in re.findall(rf"quality\.{rule}=(\w+)", remedy))
    return f"{n:,} of {of:,} trajectories{place}: {asks} Only if they should go: quality.{rule}={value} drops them."


def _advice_on_rows(collection: Collection, rule: str, rows: Any, remedy: str, asks: str) -> str:
    """`_advice` on dropping these rows."""
    return _advice(collection, rule, Counter(collection.rows["file"][rows].tolist()), remedy, asks)


def label_disagreement(collection: Collection) -> Finding | None:
    found = collection.facts.disagreements
    if not found.marks:
        return None
    return Finding(
        "label_disagreement",
        "warning",
        found.marks,
        collection.facts.n,
        "trajectories",
        f"The label used and the environment's scorer differ in {found.marks:,} trajectories ({found.successes:,} are "
        f"labelled success, {found.failures:,} failure).",
        "See which is right; trajectories.label=rescore takes the scorer's, if environment is the one of these data.",
        tuple(found.sightings),
        {"labelled_success": found.successes, "labelled_failure": found.failures},
    )


def label_sources_disagree(collection: Collection) -> Finding | None:
    facts = collection.facts
    found, shaped = facts.contradictions, facts.shaped
    if not found.marks:
        return None
    only = f" In {shaped:,} of them a success has a reward between 0 and 1, which may be shaped." if shaped else ""
    return Finding(
        "label_sources_disagree",
        "warning" if shaped < found.marks else "note",
        found.marks,
        facts.n,
        "trajectories",
        f"{found.marks:,} trajectories have fields that disagree on success ({found.successes:,} are labelled success, "
        f"{found.failures:,} failure).{only}",
        "What says success itself (success, resolved, ...) goes before a reward. See which is right, and name it: "
        "trajectories.label=FIELD.",
        tuple(found.sightings),
        {"labelled_success": found.successes, "labelled_failure": found.failures, "shaped_rewards": shaped},
    )


def graded_labels(collection: Collection) -> Finding | None:
    facts = collection.facts
    found = facts.graded
    if not found.marks:
        return None
    ((field, _),) = facts.graded_fields.most_common(1)
    return Finding(
        "graded_labels",
        "warning" if facts.graded_high else "note",
        found.marks,
        facts.n,
        "trajectories",
        f"{found.marks:,} rewards lie between 0 and 1 and count as failures, since only 1 is a success "
        f"({facts.graded_high:,} of them are 0.5 or more).",
        f"If less than 1 is a success, say from where on: trajectories.label='{field} >= 0.5'.",
        tuple(found.sightings),
        {"fields": dict(facts.graded_fields.most_common()), "half_or_more": facts.graded_high},
    )


def right_failures(collection: Collection) -> Finding | None:
    facts = collection.facts
    found = facts.right_failures
    if not found.marks:
        return None
    return Finding(
        "right_failures",
        "warning",
        found.marks,
        facts.n,
        "trajectories",
        f"{found.marks:,} failures give the very answer that their reference is.",
        "Either their label is wrong (trajectories.label=rescore takes the scorer's), or what was taken for the "
        "reference is the agent's own answer: name the right one `reference` in the file.",
        tuple(found.sightings),
    )


def infrastructure(collection: Collection) -> Finding | None:
    import numpy as np

    broken = np.flatnonzero(collection.rows["failure"] == 1 + FAILURES.index("infrastructure"))
    if not len(broken):
        return None
    return _of_rows(
        collection,
        "infrastructure",
        "warning",
        broken,
        f"{len(broken):,} episodes broke for reasons that are not the agent's (a tool or a server failed).",
        _advice_on_rows(
            collection,
            "infrastructure",
            broken,
            "Nothing is to be learned from them: quality.infrastructure=true drops them, and nat train leaves them "
            "out.",
            "did all of these break? nat train leaves them out.",
        ),
    )


def no_agent_turn(collection: Collection) -> Finding | None:
    import numpy as np

    silent = np.flatnonzero(collection.rows["turns"] == 0)
    if not len(silent):
        return None
    return _of_rows(
        collection,
        "no_agent_turn",
        "warning",
        silent,
        f"{len(silent):,} conversations are empty, or no turn of the agent in them says anything.",
        _advice_on_rows(
            collection,
            "min_agent_turns",
            silent,
            "There is nothing to train on in them: quality.min_agent_turns=1 drops them.",
            "are they empty, or does what the agent wrote stand elsewhere in the record?",
        ),
    )


def one_class(collection: Collection) -> Finding | None:
    successes = int(collection.rows["success"].sum())
    failures = len(collection.rows) - successes
    if not len(collection.rows) or (successes and failures):
        return None
    only, other = ("successes", "failures") if successes else ("failures", "successes")
    return Finding(
        "one_class",
        "warning",
        len(collection.rows),
        len(collection.rows),
        "trajectories",
        f"There are only {only}: what a model gains from {other} cannot be asked of these data.",
        "Add the other file, or check the label rule (trajectories.label); nat train needs both for method=nat.",
        details={"successes": successes, "failures": failures},
    )


# ---- reading ----


def one_question(collection: Collection) -> Finding | None:
    """Most trajectories have one question, and they are not the trials of one task."""
    import numpy as np

    rows = collection.rows
    if not len(rows):
        return None
    # Trials of a task count once; without tasks, each trajectory counts.
    own = np.where(rows["has_task"] > 0, rows["task"], np.arange(len(rows), dtype=np.uint64))
    pairs = grouped((rows["has_task"] > 0).astype(np.uint64), own)
    firsts = pairs.order[pairs.starts]
    questions = grouped(rows["question"][firsts])
    largest = int(questions.sizes.argmax())
    n, of = int(questions.sizes[largest]), len(firsts)
    if n < FEWEST_ASKED or n <= MOST_OF_A_FILE * of:
        return None
    first = int(firsts[questions.order[questions.starts[largest]]])
    found = np.flatnonzero(rows["question"] == rows["question"][first])
    text = collection.facts.row(first).trajectory.question
    fields = _fields_of_questions(collection, found[:FIELDS_READ].tolist())
    named = f" (they have {', '.join(fields)})" if fields else ""
    return _of_rows(
        collection,
        "one_question",
        "warning",
        found,
        f"{len(found):,} of {len(rows):,} trajectories have one and the same question ({' '.join(text.split())[:60]!r})"
        + (f", of {n:,} different tasks." if rows["has_task"][found].all() else ", and nothing names them trials."),
        f"Were instructions taken for the question? trajectories.question=FIELD names the field that holds it{named}; "
        "trials of one task are told by trajectories.task=FIELD.",
        {"question": text[:EXCERPT], "fields": fields},
    )


def _fields_of_questions(collection: Collection, rows: Sequence[int]) -> list[str]:
    """Fields of these trajectories' records that read like a question and differ from one to the next."""
    texts: dict[str, set[str]] = {}
    for row in rows:
        for key, value in collection.facts.row(row).trajectory.metadata.items():
            members = value.items() if isinstance(value, Mapping) else ()
            for path, text in ((key, value), *((f"{key}.{inner}", member) for inner, member in members)):
                if isinstance(text, str) and len(text.split()) > 2 and key != ENDING:
                    texts.setdefault(path, set()).add(text)
    return [path for path, found in texts.items() if len(found) > len(rows) / 2][:3]


def unread_loss_keys(collection: Collection) -> Finding | None:
    facts = collection.facts
    if not facts.unread.marks:
        return None
    keys = ", ".join(f"{key!r} in {n:,}" for key, n in facts.unread_loss_keys.most_common(8))
    return Finding(
        "unread_loss_keys",
        "warning",
        facts.unread.marks,
        facts.n,
        "trajectories",
        f"Keys look as if they said which turns carry loss, and are not known: {keys}. All turns of the agent carry "
        "loss there, unless another key says otherwise.",
        "If they say it, call them 'loss' or 'weight' in each message (true, false or a number), or 'loss_mask' in the "
        "record (one value a message).",
        tuple(facts.unread.sightings),
        {"keys": dict(facts.unread_loss_keys.most_common(20))},
    )


def left_out_parts(collection: Collection) -> Finding | None:
    facts = collection.facts
    if not facts.left_out.marks:
        return None
    parts = ", ".join(f"{kind} {n:,}" for kind, n in facts.left_out_parts.most_common(8))
    return Finding(
        "left_out_parts",
        "note",
        facts.left_out_parts.total(),
        0,
        "parts of messages",
        f"{facts.left_out_parts.total():,} parts of messages could not be kept, in {facts.left_out.marks:,} "
        f"trajectories: {parts}.",
        "The messages are read without them: look whether a turn says what it should without its part.",
        tuple(facts.left_out.sightings),
        {"parts": dict(facts.left_out_parts.most_common(20)), "trajectories": facts.left_out.marks},
    )


def loss_weights(collection: Collection) -> Finding | None:
    facts = collection.facts
    if not facts.weighted.marks:
        return None
    turns = facts.weights.total()
    weights = ", ".join(f"{weight:g} in {n:,}" for weight, n in facts.weights.most_common(8))
    return Finding(
        "loss_weights",
        "note",
        turns,
        facts.units["turns"],
        "turns",
        f"{turns:,} turns of the agent have a loss weight other than 0 and 1 ({weights}).",
        "nat train counts such a turn like any other; clean.jsonl keeps the weights (key 'weight').",
        tuple(facts.weighted.sightings),
        {"weights": {f"{weight:g}": n for weight, n in facts.weights.most_common(20)}},
    )


# ---- duplicates ----


def exact_duplicates(collection: Collection) -> Finding | None:
    """Copies of a text with the same label, beyond the first; texts with both labels are `conflicting_labels`."""
    import numpy as np

    rows = collection.rows
    texts = _texts(rows)
    conflicting = _conflicting(rows, texts)
    copies = _beyond_first(texts, ~conflicting & (texts.sizes > 1))
    if not len(copies):
        return None
    first = _first_of(texts, copies)
    across = int((rows["file"][first] != rows["file"][copies]).sum())
    sizes = texts.sizes[~conflicting & (texts.sizes > 1)]
    details = {
        "texts": len(sizes),
        "most_copies_of_one": int(sizes.max()),
        "within_a_file": len(copies) - across,
        "across_files": across,
        "under_another_id": int((rows["id"][first] != rows["id"][copies]).sum()),
        "copies_whatever_the_label": int((texts.sizes - 1).sum()),
    }
    return _of_rows(
        collection,
        "exact_duplicates",
        "warning",
        np.sort(copies),
        f"{len(copies):,} trajectories repeat another one word for word, with the same label ({len(sizes):,} texts, "
        f"one of them {int(sizes.max()):,} times; {across:,} across files).",
        _advice_on_rows(
            collection,
            "exact_duplicates",
            copies,
            "They weigh some trajectories more than others: quality.exact_duplicates=true keeps one of each.",
            "was a file given twice, or are they meant to weigh more?",
        ),
        details,
        lambda row: f"= {_name(collection, int(first[copies == row][0]))}",
    )


def conflicting_labels(collection: Collection) -> Finding | None:
    import numpy as np

    texts = _texts(collection.rows)
    conflicting = _conflicting(collection.rows, texts)
    found = np.sort(_all_of(texts, conflicting))
    if not len(found):
        return None
    return _of_rows(
        collection,
        "conflicting_labels",
        "error",
        found,
        f"{len(found):,} trajectories have a text that is labelled success in one place and failure in another "
        f"({int(conflicting.sum()):,} texts).",
        _advice_on_rows(
            collection,
            "conflicting_labels",
            found,
            "Nothing in the text can tell which label is right: quality.conflicting_labels=true drops all of them, or "
            "trajectories.label=rescore settles it.",
            "is their label the one that is meant (trajectories.label)?",
        ),
        {"texts": int(conflicting.sum())},
        lambda row: "labelled success" if collection.rows["success"][row] else "labelled failure",
    )


def same_id_other_text(collection: Collection) -> Finding | None:
    import numpy as np

    rows = collection.rows
    ids = grouped(rows["id"])
    several = _differs_within(ids, rows["text"][:, 0])
    found = np.sort(_all_of(ids, several))
    if not len(found):
        return None
    return _of_rows(
        collection,
        "same_id_other_text",
        "warning",
        found,
        f"{len(found):,} trajectories share their id with another text ({int(several.sum()):,} ids).",
        "nat train knows trajectories by their id and refuses one that is used twice: give each its own, or none, and "
        "file name and line make one.",
        {"ids": int(several.sum()), "most_of_one_id": int(ids.sizes[several].max())},
    )


def same_text_other_id(collection: Collection) -> Finding | None:
    import numpy as np

    rows = collection.rows
    texts = _texts(rows)
    several = _differs_within(texts, rows["id"])
    copies = _beyond_first(texts, several)
    first = _first_of(texts, copies)
    is_other = rows["id"][copies] != rows["id"][first]
    copies, first = copies[is_other], first[is_other]
    if not len(copies):
        return None
    return _of_rows(
        collection,
        "same_text_other_id",
        "note",
        np.sort(copies),
        f"{len(copies):,} trajectories have the same text as one of another id: ids do not show that they are copies.",
        "Compare texts, not ids, wherever you count or split: quality.exact_duplicates=true keeps one of each.",
        {"texts": int(several.sum())},
        lambda row: f"= {_name(collection, int(first[copies == row][0]))}",
    )


def near_duplicate_texts(collection: Collection) -> Finding | None:
    facts, rows, near = collection.facts, collection.rows, collection.config.near
    found = _near(collection)
    if not found.pairs:
        return None
    pairs = found.pairs
    other_question = sum(int(rows["task"][a] != rows["task"][b]) for a, b, _ in pairs)
    other_label = sum(int(rows["success"][a] != rows["success"][b]) for a, b, _ in pairs)
    other_file = sum(int(rows["file"][a] != rows["file"][b]) for a, b, _ in pairs)
    sightings = []
    for a, b, similarity in sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[: collection.config.examples]:
        row, other = max(a, b), min(a, b)
        sightings.append(facts.sighting(row, f"{similarity:.1%} like {_name(collection, other)}"))
    cut = f" Only the {found.compared:,} likeliest pairs were compared: there may be more." if found.is_cut else ""
    return Finding(
        "near_duplicates",
        "note",
        len(pairs),
        len(rows),
        "trajectories",
        f"{len(pairs):,} trajectories are nearly the text of another one (at least {near:.0%} alike), {other_label:,} "
        f"of them with the other label, {other_question:,} on another question.{cut}",
        "Within a question they add little; with quality.max_per_question fewer are kept. On questions that you "
        "evaluate on, they are leaks.",
        tuple(sightings),
        {
            "same_question": len(pairs) - other_question,
            "other_question": other_question,
            "other_label": other_label,
            "other_file": other_file,
            "pairs_proposed": found.proposed,
            "pairs_compared": found.compared,
            "is_cut": found.is_cut,
        },
    )


def _near(collection: Collection) -> Near:
    if not collection.shows_progress:
        return near_duplicates(collection.facts, collection.config.near)
    with progress(AT_LEAST + len(collection.rows), "comparing texts that may be alike", "pairs") as advance:
        return near_duplicates(collection.facts, collection.config.near, advance)


# ---- questions ----


def repeated_questions(collection: Collection) -> Finding | None:
    import numpy as np

    rows = collection.rows
    questions = grouped(rows["question"])
    several = questions.sizes > 1
    if not several.any():
        return None
    count, most = int(several.sum()), int(questions.sizes.max())
    largest = np.flatnonzero(several)[np.argsort(-questions.sizes[several], kind="stable")]
    found = questions.order[questions.starts[largest[: collection.config.examples]]]
    by_size = Counter(questions.sizes.tolist())
    by_id = Counter(grouped(rows["question_id"]).sizes.tolist())
    number_of = dict(zip(found.tolist(), questions.sizes[largest].tolist(), strict=False))
    said = f"{count:,} of {len(several):,} questions have several trajectories, at most {most:,}."
    return _of_rows(
        collection,
        "repeated_questions",
        "note",
        found,
        said,
        "They are no independent examples: split by question, never by row (nat does), and think of "
        "quality.max_per_question.",
        {
            "trajectories_per_question": {str(size): number for size, number in sorted(by_size.items())},
            "trajectories_per_question_id": {str(size): number for size, number in sorted(by_id.items())},
        },
        lambda row: f"{number_of[row]:,} trajectories: {collection.facts.row(row).trajectory.question}"[:EXCERPT],
        count=count,
        of=len(several),
        unit="questions",
    )


def same_question_other_id(collection: Collection) -> Finding | None:
    import numpy as np

    rows = collection.rows
    questions = grouped(rows["question"], rows["question_id"])
    # of each (question, id) its first row; a question with several of these has several ids
    firsts = questions.order[questions.starts]
    texts = grouped(rows["question"][firsts])
    several = texts.sizes > 1
    if not several.any():
        return None
    found = np.sort(firsts[_all_of(texts, several)])
    count = int(several.sum())
    # nat holds out the tasks that a file names, and questions by their text elsewhere.
    of_tasks = bool((rows["has_task"][found] == 2).all())
    said = "several tasks are asked by the same text" if of_tasks else "a split by id would put them on both sides"
    remedy = "Split by the text of the question (nat does); do not trust ids to tell questions apart."
    if of_tasks:
        remedy = (
            "nat holds out whole tasks, so that such a text can stand on both sides: if these are trials of one task, "
            "name the field that says so (trajectories.task=FIELD)."
        )
    return _of_rows(
        collection,
        "same_question_other_id",
        "warning",
        found,
        f"{count:,} questions stand under several question ids: {said}.",
        remedy,
        {"ids": int(texts.sizes[several].sum())},
        lambda row: (
            f"question id {collection.facts.row(row).trajectory.question_id}: "
            f"{collection.facts.row(row).trajectory.question}"[:EXCERPT]
        ),
        count=count,
        of=len(texts.sizes),
        unit="questions",
    )


def evaluation_overlaps(collection: Collection) -> list[Finding]:
    """`evaluation_overlap` and `evaluation_near_overlap`."""
    equal, nearly = overlaps(collection.facts, collection.asked, collection.config.near)
    same, alike = "stand in the evaluation, too, word for word", "are nearly the same as one of the evaluation"
    made = (
        _overlap(collection, "evaluation_overlap", "error", equal, same),
        _overlap(collection, "evaluation_near_overlap", "warning", nearly, alike),
    )
    return [finding for finding in made if finding is not None]


def _overlap(
    collection: Collection, name: str, severity: Severity, found: Sequence[Overlap], says: str
) -> Finding | None:
    import numpy as np

    if not found:
        return None
    rows, asked = collection.rows, collection.asked
    trajectories = sum(overlap.trajectories for overlap in found)
    of = len(np.unique(rows["question"]))
    with_id = [overlap for overlap in found if asked[overlap.asked].id]
    # Where a file gives its questions no id, nat makes one of the text: that one says nothing.
    own_id = [o for o in with_id if int(rows["question_id"][o.row]) != digest(question_id(asked[o.asked].text))]
    other_id = sum(int(rows["question_id"][o.row]) != digest(asked[o.asked].id) for o in own_id)
    ids = f"; {other_id:,} under another id than there" if other_id else ""
    sightings = []
    for overlap in found[: collection.config.examples]:
        question, text = asked[overlap.asked], collection.facts.row(overlap.row).trajectory.question
        alike = "=" if overlap.similarity == 1 else f"{overlap.similarity:.1%} like"
        excerpt = f"{text[:70]!r} {alike} {question.text[:70]!r} at {question.where}"
        sightings.append(collection.facts.sighting(overlap.row, excerpt[:EXCERPT]))
    return Finding(
        name,
        severity,
        len(found),
        of,
        "questions",
        f"{len(found):,} questions {says} ({trajectories:,} trajectories{ids}).",
        "A model trained on them has seen what it is tested on. nat train environment.questions=FILE leaves out those "
        "that are equal; or evaluate on other questions.",
        tuple(sightings),
        {
            "trajectories": trajectories,
            "under_another_id": other_id,
            "evaluation_questions": len(asked),
            "evaluation_questions_met": len({overlap.asked for overlap in found}),
        },
    )


# ---- labels and lengths ----


def label_leak(collection: Collection) -> Finding | None:
    """Texts that separate the classes, and endings that tell the outcome, which readers have set aside."""
    facts, n = collection.facts, collection.facts.n
    chosen = sample(n, LEAK_SAMPLE, collection.seed)
    told = leaks([facts.row(row).trajectory for row in chosen], [])
    aside = facts.set_aside
    if not told and not aside.marks:
        return None
    said = [sentence.removeprefix("labels leak: ") for sentence in told]
    if aside.marks:
        said.append(
            f"{aside.marks:,} trajectories ended in a message that tells the outcome ({aside.sightings[0].excerpt!r})"
            if aside.sightings
            else f"{aside.marks:,} trajectories ended in a message that tells the outcome"
        )
    sentence = "; ".join(said)
    remedy = "Cut these texts off: a model that reads its label there learns nothing from the steps before."
    if not told:
        remedy = "nat has set that message aside and does not train on it; other tools would show the model its label."
    return Finding(
        "label_leak",
        "error" if told else "warning",
        aside.marks or len(told),
        n if aside.marks else 0,
        "trajectories" if aside.marks else "texts that tell the label",
        f"{sentence[:1].upper()}{sentence[1:]}.",
        remedy,
        tuple(aside.sightings),
        {"separating_texts": list(told), "endings_set_aside": aside.marks, "sampled": len(chosen)},
    )


def skew(collection: Collection) -> Finding | None:
    """Features by which a model could tell the classes apart without understanding anything."""
    measured = skews(collection)
    found = {name: value for name, value in measured.items() if _skew_severity(value) is not None}
    if not found:
        return None
    severities: list[Severity] = [severity for value in found.values() if (severity := _skew_severity(value))]
    ordered = sorted(found.items(), key=lambda item: -abs(item[1]["auc"] - 0.5))
    told = ", ".join(
        f"{name} {value['auc']:.2f} [{value['ci95'][0]:.2f}, {value['ci95'][1]:.2f}]" for name, value in ordered
    )
    return Finding(
        "skew",
        min(severities, key=SEVERITIES.index),
        len(found),
        len(measured),
        "features",
        f"Single features tell successes from failures (AUC, 0.5 is none): {told}.",
        "A model can learn these in place of what makes a step right: balance the classes by them (mixing), or compare "
        "with method=nat_shuffled.",
        details={"features": measured},
    )


def skews(collection: Collection) -> dict[str, dict[str, Any]]:
    """Of each feature the AUC, its 95% interval, and the median of each class, or the success rate of each source.

    Features with one value, and classes of fewer than `FEWEST` trajectories, are not measured.
    """
    import numpy as np

    rows, facts = collection.rows, collection.facts
    success = rows["success"] == 1
    if min(success.sum(), (~success).sum()) < FEWEST:
        return {}
    features = {
        "characters": rows["characters"],
        "agent_turns": rows["turns"],
        "observations": rows["observations"],
        "ends_with_finish": rows["finishes"],
        **{f"metadata.{key}": rows["numbers"][:, place] for key, place in facts.numbers.items()},
    }
    measured: dict[str, dict[str, Any]] = {}
    for name, values in features.items():
        known = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(len(values), bool)
        good, bad = values[known & success], values[known & ~success]
        if min(len(good), len(bad)) < FEWEST or (good.min() == good.max() == bad.min() == bad.max()):
            continue
        medians = {"median_success": float(np.median(good)), "median_failure": float(np.median(bad))}
        measured[name] = {**_auc_json(auc(good, bad)), **medians}
    n_sources = len(facts.sources)
    if n_sources > 1:
        good = np.bincount(rows["source"][success], minlength=n_sources)
        bad = np.bincount(rows["source"][~success], minlength=n_sources)
        value, chosen = best_split(good, bad)
        names = list(facts.sources)
        largest = sorted(range(n_sources), key=lambda i: -(good[i] + bad[i]))[:SOURCES_SHOWN]
        rates = {names[i]: round(int(good[i]) / max(int(good[i] + bad[i]), 1), 4) for i in largest}
        split = {"success_rates": rates, "more_successful": [names[i] for i in chosen[:SOURCES_SHOWN]]}
        measured["source"] = {**_auc_json(value), **split}
    return measured


def _auc_json(value: Auc) -> dict[str, Any]:
    return {"auc": round(value.auc, 4), "ci95": [round(value.low, 4), round(value.high, 4)]}


def _skew_severity(measured: Mapping[str, Any]) -> Severity | None:
    low, high = measured["ci95"]
    if low <= 0.5 <= high:
        return None
    return next((severity for least, severity in SKEWED if abs(measured["auc"] - 0.5) >= least), None)


def too_long(collection: Collection) -> Finding | None:
    tokens, limit = collection.tokens, collection.token_limit
    if tokens is None:
        return None
    long = sorted(((n, row) for row, n in zip(tokens.rows, tokens.lengths, strict=True) if n > limit), reverse=True)
    if not long:
        return None
    of = f"of {tokens.sampled:,} sampled" if tokens.is_sample else f"of {tokens.sampled:,}"
    sightings = [
        collection.facts.sighting(row, f"{n:,} tokens, over {limit:,}") for n, row in long[: collection.config.examples]
    ]
    return Finding(
        "too_long",
        "warning",
        len(long),
        tokens.sampled,
        "sampled trajectories" if tokens.is_sample else "trajectories",
        f"{len(long):,} {of} trajectories have more than {limit:,} tokens with their prompt, the longest "
        f"{long[0][0]:,}.",
        "nat train drops them, it never cuts: raise model.max_length where model and memory allow, or accept the loss.",
        tuple(sightings),
        {"limit": limit, "longest": long[0][0], "untrainable": dict(tokens.untrainable)},
    )


# ---- what the findings above share ----


def sample(n: int, most: int, seed: int) -> list[int]:
    """At most so many of `n` rows, in their order."""
    import numpy as np

    if n <= most:
        return list(range(n))
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False)).tolist()


def _texts(rows: Any) -> Groups:
    return grouped(rows["text"][:, 0], rows["text"][:, 1])


def _conflicting(rows: Any, texts: Groups) -> Any:
    """[groups] whether both labels are in it."""
    return _differs_within(texts, rows["success"])


def _differs_within(groups: Groups, values: Any) -> Any:
    """[groups] whether its members have different values."""
    import numpy as np

    if not len(groups.order):
        return np.zeros(0, bool)
    ordered = values[groups.order]
    return np.minimum.reduceat(ordered, groups.starts) != np.maximum.reduceat(ordered, groups.starts)


def _all_of(groups: Groups, chosen: Any) -> Any:
    """Rows of the chosen groups."""
    import numpy as np

    return groups.order[np.repeat(chosen, groups.sizes)]


def _beyond_first(groups: Groups, chosen: Any) -> Any:
    """Rows of the chosen groups but the first of each."""
    import numpy as np

    is_first = np.zeros(len(groups.order), bool)
    is_first[groups.starts] = True
    return groups.order[np.repeat(chosen, groups.sizes) & ~is_first]


def _first_of(groups: Groups, rows: Any) -> Any:
    """[rows] the first row of each one's group."""
    import numpy as np

    first = np.empty(len(groups.order), np.int64)
    first[groups.order] = np.repeat(groups.order[groups.starts], groups.sizes)
    return first[rows]


def _of_rows(
    collection: Collection,
    name: str,
    severity: Severity,
    rows: Any,
    says: str,
    remedy: str,
    details: Mapping[str, Any] | None = None,
    excerpt: Callable[[int], str] = lambda row: "",
    *,
    count: int | None = None,
    of: int | None = None,
    unit: str = "trajectories",
) -> Finding:
    """A finding whose places are rows, the first of them shown; by default it counts them."""
    first = [int(row) for row in rows[: collection.config.examples]]
    sightings = tuple(collection.facts.sighting(row, excerpt(row)) for row in first)
    n = len(rows) if count is None else count
    return Finding(
        name, severity, n, len(collection.rows) if of is None else of, unit, says, remedy, sightings, details or {}
    )


def _name(collection: Collection, row: int) -> str:
    stored = collection.facts.row(row)
    return f"{stored.trajectory.id} at {stored.where}"


CHECK_FINDERS: tuple[Finder, ...] = tuple(of_check(name) for name in CHECKS)
# The quick ones first: what an interrupt cuts off is the comparing of texts.
FINDERS: tuple[Finder, ...] = (
    bad_rows,
    one_class,
    infrastructure,
    no_agent_turn,
    label_disagreement,
    label_sources_disagree,
    graded_labels,
    right_failures,
    *CHECK_FINDERS,
    one_question,
    unread_loss_keys,
    left_out_parts,
    loss_weights,
    conflicting_labels,
    exact_duplicates,
    same_id_other_text,
    same_text_other_id,
    repeated_questions,
    same_question_other_id,
    skew,
    label_leak,
    too_long,
)
