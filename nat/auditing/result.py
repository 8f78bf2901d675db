"""From what was read and found to an `Audit`, and from that to audit.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from nat.agents.kinds import KINDS
from nat.auditing.duplicates import grouped
from nat.auditing.facts import FAILURES, Facts, masked
from nat.auditing.finders import spread
from nat.auditing.findings import Audit, FileRead, Finding, Lengths, QuestionFound, Shown, Sighting, SystemPrompt
from nat.auditing.lengths import Tokens, distributions
from nat.quality.checks import check
from nat.quality.config import KEPT, RULES
from nat.quality.copies import Verdicts
from nat.quality.marks import CheckSettings

MOST_SHOWN = 30  # example trajectories on the page
TOOLS_SHOWN = 10  # names of tools, the most called
SYSTEM_PROMPTS_SHOWN = 5


def make(
    facts: Facts,
    verdicts: Verdicts,
    findings: list[Finding],
    tokens: Tokens | None,
    checks: CheckSettings,
    listed: int,
) -> Audit:
    import numpy as np

    rows = facts.arrays()
    success = rows["success"] == 1
    questions = grouped(rows["question"])
    of_question = (
        np.add.reduceat(success[questions.order].astype(np.int64), questions.starts) if facts.n else rows["turns"]
    )
    only_successes = int((of_question == questions.sizes).sum())
    only_failures = int((of_question == 0).sum())
    tasks = grouped(rows["task"])
    of_task = np.add.reduceat(success[tasks.order].astype(np.int64), tasks.starts) if facts.n else rows["turns"]
    n_tasks, all_right, all_wrong = len(tasks.sizes), int((of_task == tasks.sizes).sum()), int((of_task == 0).sum())
    system_prompts = sorted(facts.system_prompts.values(), key=lambda item: (-item[0], item[1]))
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
        agents={kind: facts.agents[kind] for kind in KINDS if facts.agents[kind]},
        n_turns=facts.units["turns"],
        n_calls=facts.calls.total(),
        by_tool=dict(facts.calls.most_common(TOOLS_SHOWN)),
        n_tools=len(facts.calls),
        n_with_task=int((rows["has_task"] == 2).sum()),
        tasks_are_questions=len(grouped(rows["task"], rows["question"]).sizes) == n_tasks == len(questions.sizes),
        tasks={
            "distinct": n_tasks,
            "successes_only": all_right,
            "failures_only": all_wrong,
            "both": n_tasks - all_right - all_wrong,
        },
        n_system_prompts=len(system_prompts),
        system_prompts=tuple(SystemPrompt(n, text) for n, text in system_prompts[:SYSTEM_PROMPTS_SHOWN]),
        questions_found=tuple(
            QuestionFound(how, found.n, (found.fewest, found.most), found.is_shared)
            for how, found in sorted(facts.asked.items(), key=lambda item: (-item[1].n, item[0]))
        ),
    )


def _shown(facts: Facts, findings: list[Finding], checks: CheckSettings) -> tuple[Shown, ...]:
    """Trajectories in which something was found, of every finding some, and one of each class; secrets are masked."""
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
        "agents": dict(audit.agents),
        "calls": {
            "turns": audit.n_turns,
            "calls": audit.n_calls,
            "tools": audit.n_tools,
            "by_tool": dict(audit.by_tool),
        },
        "tasks": {"named": audit.n_with_task, **audit.tasks},
        "system_prompts": {
            "distinct": audit.n_system_prompts,
            "first": [{"trajectories": prompt.n, "text": prompt.text} for prompt in audit.system_prompts],
        },
        "questions_found": [
            {"how": found.how, "trajectories": found.n, "before": list(found.before), "is_shared": found.is_shared}
            for found in audit.questions_found
        ],
        "per_question": {str(size): number for size, number in audit.per_question.items()},
        "lengths": {
            unit: {name: {k: v for k, v in asdict(lengths).items() if k != "unit"} for name, lengths in classes.items()}
            for unit, classes in audit.lengths.items()
        },
        "tokens": {"limit": audit.token_limit, "sampled": audit.tokens_sampled},
        "findings": [asdict(finding) for finding in audit.findings],
        "bad_rows": {"by_reason": dict(audit.n_bad_rows), "first": [row._asdict() for row in audit.bad_rows]},
        "dropped": dict(audit.n_dropped),
        "labels": None if audit.labels is None else dict(audit.labels),
        "not_checked": list(audit.not_checked),
        "settings": dict(audit.settings),
    }
