"""Quality control: which trajectories are left out, by which rule, and which turns of failures may carry loss.

    rows = bytearray()                                   # 34 bytes a trajectory, all that the second half needs
    for where, trajectory in ...:
        found = rule_of(trajectory, check(trajectory, settings), config)
        rows += row_of(trajectory, where, found and found.rule)
    verdicts = collection_verdicts(rows, config)         # RULES[verdicts.rule[i]] leaves out row i; -1 keeps it

A trajectory's rules look at nothing but that trajectory; the rules of the collection look at those that these keep. A
trajectory is left out by one rule, the first of `RULES` that applies. Nothing depends on the order of the trajectories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from nat.agents.calls import call_length
from nat.quality.checks import check
from nat.quality.config import CHECK_RULES, ERRORS, KEPT, RULES, QualityConfig, Rule
from nat.quality.copies import collection_detail, collection_verdicts, row_of
from nat.quality.marks import CheckSettings, Mark
from nat.types import Trajectory


class Dropped(NamedTuple):
    """A trajectory that was left out: "file:line" (empty where unknown), its id, the rule, what it found, its label."""

    where: str
    id: str
    rule: Rule
    detail: str
    success: bool


class Controlled(NamedTuple):
    """What quality control keeps and drops, both in the order given."""

    kept: list[Trajectory]
    dropped: list[Dropped]
    counts: Mapping[Rule, tuple[int, int]]  # (successes, failures) dropped, of the rules that dropped any


class Applies(NamedTuple):
    """A rule that leaves a trajectory out, and what it found in it."""

    rule: Rule
    detail: str


def control(
    trajectories: Sequence[Trajectory],
    config: QualityConfig,
    settings: CheckSettings,
    wheres: Sequence[str] | None = None,
) -> Controlled:
    """Leave out what the rules leave out, and switch off the loss of failures' turns (`config.failed_turns`).

    Args:
        settings: of the checks (`nat.quality.checks.check`), which run only where a rule needs them.
        wheres: "file:line" of each trajectory, where known: shown in what is dropped, and needed where ids recur.
    """
    places = [""] * len(trajectories) if wheres is None else wheres
    rows = bytearray()
    found: list[Applies | None] = []
    flagged: list[Trajectory] = []
    for where, trajectory in zip(places, trajectories, strict=True):
        marks = marks_of(trajectory, config, settings)
        applies = rule_of(trajectory, marks, config)
        rows += row_of(trajectory, where, applies and applies.rule)
        found.append(applies)
        flagged.append(with_loss_flags(trajectory, marks, config))
    verdicts = collection_verdicts(rows, config)
    kept: list[Trajectory] = []
    dropped: list[Dropped] = []
    counts: dict[Rule, tuple[int, int]] = {}
    for i, (where, trajectory) in enumerate(zip(places, trajectories, strict=True)):
        number, other = int(verdicts.rule[i]), int(verdicts.other[i])
        if number == KEPT:
            kept.append(flagged[i])
            continue
        of_other = f"{trajectories[other].id} ({places[other]})" if places[other] else trajectories[other].id
        applies = found[i] or Applies(RULES[number], collection_detail(RULES[number], of_other, config))
        dropped.append(Dropped(where, trajectory.id, applies.rule, applies.detail, trajectory.outcome.success))
        successes, failures = counts.get(applies.rule, (0, 0))
        success = trajectory.outcome.success
        counts[applies.rule] = (successes + success, failures + (not success))
    return Controlled(kept, dropped, {rule: counts[rule] for rule in RULES if rule in counts})


def is_off(config: QualityConfig) -> bool:
    """Trajectories are used as they were read."""
    return config.failed_turns == "all" and not any(getattr(config, rule) for rule in RULES)


# ---- one trajectory ----


def marks_of(trajectory: Trajectory, config: QualityConfig, settings: CheckSettings) -> list[Mark]:
    """What the checks find in a trajectory; nothing, at no cost, where `config` has no use for it."""
    of_turns = config.failed_turns == "until_first_error" and not trajectory.outcome.success
    if not of_turns and not any(getattr(config, rule) for rule in CHECK_RULES):
        return []

    return check(trajectory, settings)


def rule_of(trajectory: Trajectory, marks: Sequence[Mark], config: QualityConfig) -> Applies | None:
    """The first rule that leaves this trajectory out, whatever the others are like; None where none does."""
    if config.infrastructure and trajectory.outcome.failure == "infrastructure":
        return Applies("infrastructure", "the episode broke for reasons that are not the policy's")
    turns = agent_turns(trajectory)
    if config.min_agent_turns is not None and turns < config.min_agent_turns:
        return Applies(
            "min_agent_turns", f"{turns} agent turns with text or a call, fewer than {config.min_agent_turns}"
        )
    if config.max_agent_turns is not None and turns > config.max_agent_turns:
        return Applies(
            "max_agent_turns", f"{turns} agent turns with text or a call, more than {config.max_agent_turns}"
        )
    if config.max_characters is not None and (length := characters(trajectory)) > config.max_characters:
        return Applies("max_characters", f"{length} characters, more than {config.max_characters}")
    for rule in CHECK_RULES:
        fewest = getattr(config, rule)  # true counts as 1: one is too many
        if fewest and len(of_rule := [mark for mark in marks if mark.name == rule]) >= fewest:
            first = of_rule[0]
            place = "" if first.message is None else f"message {first.message}"
            told = ": ".join(part for part in (place, first.detail) if part)
            others = "" if len(of_rule) == 1 else f", and {len(of_rule) - 1} more"
            return Applies(rule, f"{told}{others}")
    return None


def agent_turns(trajectory: Trajectory) -> int:
    """The agent's turns that hold text or a tool call."""
    return sum(m.role == "assistant" and bool(m.tool_calls or m.content.strip()) for m in trajectory.messages)


def characters(trajectory: Trajectory) -> int:
    """Of the question and all messages: what they say, what the agent thought, and its calls."""
    return len(trajectory.question) + sum(
        len(message.content) + len(message.reasoning) + sum(map(call_length, message.tool_calls))
        for message in trajectory.messages
    )


def with_loss_flags(trajectory: Trajectory, marks: Sequence[Mark], config: QualityConfig) -> Trajectory:
    """A failed trajectory with the loss of the turns switched off that `config.failed_turns` does not let train.

    `until_first_error`: the turns after the first one in which something went wrong that can be checked: an action
    that cannot be read, an observation that reports an error, a calculation that is not so (the checks of `ERRORS`). An
    observation belongs to the turn before it, which still trains. A failure in which nothing of this is found keeps all
    its turns: where it went wrong is not known. A turn that the file switched off stays so, and successes stay as they
    are.
    """
    if trajectory.outcome.success or config.failed_turns == "all":
        return trajectory
    last = -1  # the last message that may carry loss
    if config.failed_turns == "until_first_error":
        turns = [i for i, message in enumerate(trajectory.messages) if message.role == "assistant"]
        wrong = [mark.message for mark in marks if mark.name in ERRORS and mark.message is not None]
        wrong = [message for message in wrong if turns and message >= turns[0]]
        if not wrong:
            return trajectory
        last = max(turn for turn in turns if turn <= min(wrong))
    messages = tuple(
        replace(message, train=False) if message.role == "assistant" and i > last else message
        for i, message in enumerate(trajectory.messages)
    )
    return replace(trajectory, messages=messages)
