"""What an audit finds, as values: the one shape that checks make, and that terminal, page and audit.json show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nat.core.rows.bad import DroppedRow
from nat.quality.marks import Severity
from nat.types import Trajectory


@dataclass(frozen=True)
class Sighting:
    """One place where something was found. `excerpt` is plain text of at most 200 characters around it."""

    where: str  # "file:line"
    id: str  # of the trajectory; empty where the row was none
    excerpt: str = ""
    message: int | None = None  # index among the trajectory's messages, for highlighting
    span: tuple[int, int] | None = None  # of characters in that message's content


@dataclass(frozen=True)
class Finding:
    """`count` things of a kind `unit`, out of `of`; `says` is one sentence with figures, `remedy` what to do."""

    name: str  # stable: a key of audit.json, and of `quality` where a rule drops what it names
    severity: Severity
    count: int
    of: int
    unit: str  # "trajectories", "questions", "turns", "rows"
    says: str
    remedy: str
    sightings: tuple[Sighting, ...] = ()  # the first ones, `audit.examples` at most
    details: Mapping[str, Any] = field(default_factory=dict)  # JSON: distributions, values by class


@dataclass(frozen=True)
class FileRead:
    """One input file. `rows` are all that were looked at: trajectories and bad rows together."""

    path: str
    format: str
    bytes: int
    rows: int
    trajectories: int
    bad_rows: int


@dataclass(frozen=True)
class Lengths:
    """A distribution, of one class: `counts[i]` members lie in [edges[i], edges[i+1]); both classes share the edges."""

    unit: str  # "tokens", "characters", "turns"
    n: int
    median: float
    p90: float
    maximum: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Shown:
    """A trajectory for the page to show, with where it stands and what was found in it."""

    where: str
    trajectory: Trajectory
    found: tuple[tuple[str, Sighting], ...] = ()  # (finding's name, place)


@dataclass(frozen=True)
class SystemPrompt:
    """A system message in front of `n` trajectories; `text` is its beginning."""

    n: int
    text: str


@dataclass(frozen=True)
class QuestionFound:
    """Where the question of `n` trajectories was found: "user message 2", or "field problem".

    `before`: the fewest and the most messages in front of it; `is_shared`: they are the same in all of these.
    """

    how: str
    n: int
    before: tuple[int, int]
    is_shared: bool


@dataclass(frozen=True)
class Audit:
    """Everything that one audit has to say; terminal, page and audit.json are made of it alone."""

    files: tuple[FileRead, ...]
    n_successes: int
    n_failures: int
    n_questions: int  # distinct normalised texts
    by_source: Mapping[str, tuple[int, int]]  # source: (successes, failures)
    by_failure: Mapping[str, int]  # failure kind: trajectories
    per_question: Mapping[int, int]  # trajectories on one question: number of such questions
    questions_with: Mapping[str, int]  # "successes_only", "failures_only", "both": questions
    lengths: Mapping[str, Mapping[str, Lengths]]  # unit: class ("success", "failure"): distribution
    token_limit: int | None  # of the model whose tokenizer counted; None where nothing was counted
    tokens_sampled: int | None  # trajectories whose tokens were counted, where that is fewer than all
    findings: tuple[Finding, ...]  # errors first, then by count
    bad_rows: tuple[DroppedRow, ...]  # the first `audit.listed`; all of them stand in dropped.jsonl
    n_bad_rows: Mapping[str, int]  # reason: rows
    n_dropped: Mapping[str, int]  # quality rule: trajectories
    n_clean: int  # trajectories that were written; 0 after an interrupt, when none are
    shown: tuple[Shown, ...]
    settings: Mapping[str, Any]  # of quality, labels and audit, as configured
    seconds: float
    not_checked: tuple[str, ...] = ()  # what these settings left out, and the key that would ask for it
    labels: Mapping[str, Any] | None = None  # what was joined with `trajectories.labels`: `Labels.counts`
    is_partial: bool = False  # interrupted: everything counts what was read until then
    agents: Mapping[str, int] = field(default_factory=dict)  # kind (nat.agents.kinds.KINDS): trajectories of it
    n_turns: int = 0  # of the agents
    n_calls: int = 0  # that they make: structured calls, text actions that can be read, commands in code blocks
    by_tool: Mapping[str, int] = field(default_factory=dict)  # name: calls, of the tools that are called most
    n_tools: int = 0  # that are called
    n_with_task: int = 0  # trajectories whose file says of which task they are a trial
    tasks: Mapping[str, int] = field(default_factory=dict)  # "distinct", "both", "successes_only", "failures_only"
    tasks_are_questions: bool = True  # each task is asked by one text, and each text asks for one task
    n_system_prompts: int = 0  # different ones
    system_prompts: tuple[SystemPrompt, ...] = ()  # the most frequent ones
    questions_found: tuple[QuestionFound, ...] = ()  # of trajectories that have their prompt, the most frequent first
