"""What a trained model is asked: roll-outs pass by pass, and the loss of unseen trajectories under each mark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from nat.core.progress import progress
from nat.evaluation.class_losses import losses_under_marks
from nat.evaluation.config import DecodingConfig, EvaluationConfig
from nat.evaluation.rollouts import roll_out
from nat.examples.strategy import StrategyConfig
from nat.runs.outcomes import (
    OUTCOMES,
    outcomes_of,
    read_rollouts,
    rollouts_file,
    save_outcomes,
    save_rollouts,
    summarise,
)
from nat.runs.results import Asked, GroupLosses, Pass
from nat.search.replay import count_misses
from nat.stages.manifest import Prepared
from nat.types import Environment, Question, Rollout


class Ask(NamedTuple):
    """One evaluation pass to come: what is asked, and of whom."""

    asked: Asked
    questions: Sequence[Question]  # each is asked once
    environment: Environment
    decoding: DecodingConfig


def passes_of(
    prepared: Prepared, evaluation: EvaluationConfig, strategy: StrategyConfig, environment_name: str
) -> list[Ask]:
    """The passes of a run in their order: that of inference first."""
    decoding, questions = evaluation.decoding, prepared.apart.questions
    asked = Asked(
        kind="inference",
        split=evaluation.split,
        asked_for=strategy.inference_class.name,
        temperature=decoding.temperature,
        environment=environment_name,
    )
    own = Ask(asked, questions, prepared.environment, decoding)
    passes = [own]
    if prepared.apart.validation:
        validation = replace(asked, kind="validation", split="validation")
        passes.append(own._replace(asked=validation, questions=prepared.apart.validation))
    for name in other_classes(evaluation.also_as, strategy):
        passes.append(own._replace(asked=replace(asked, kind="also_as", asked_for=name)))
    for temperature in evaluation.also_at:
        there = replace(asked, kind="also_at", temperature=temperature)
        passes.append(own._replace(asked=there, decoding=replace(decoding, temperature=temperature)))
    for name, other in prepared.elsewhere.items():
        there = replace(asked, kind="also_in", environment=name)
        passes.append(Ask(there, other.questions, other.environment, decoding))
    return passes


def evaluate(
    prepared: Prepared, model: Any, passes: Sequence[Ask], run_dir: Path, say: Callable[[str], None]
) -> tuple[Pass, ...]:
    """Roll the model out, pass by pass. Writes each pass's episodes and `outcomes.csv`; returns what came of each."""
    found, outcomes = [], []
    for asked, questions, environment, decoding in passes:
        label = _label(asked)
        finished: Counter[bool] = Counter()
        with progress(len(questions), label, "episodes") as advance:

            def ended(rollout: Rollout, finished: Counter[bool] = finished, advance: Any = advance) -> None:
                finished[rollout.outcome.success] += 1
                advance(finished.total(), f"success {finished[True] / finished.total():.2f}")

            rollouts = roll_out(
                model,
                prepared.format,
                environment,
                questions,
                lambda question, name=str(asked.asked_for), environment=environment: prepared.prompt(
                    environment, question.text, name
                ),
                decoding,
                ended,
            )
        one = summarise(asked, rollouts, sum(count_misses(rollout.messages) for rollout in rollouts))
        if broken := (one.failures or {}).get("infrastructure"):
            say(
                f"warning: {label}: {broken} of {len(rollouts)} episodes broke (infrastructure); they count as no "
                "success, though the model is not to blame"
            )
        save_rollouts(run_dir / rollouts_file(asked), rollouts)
        for line in _said(one, prepared.environment.grades_by_f1):
            say(line)
        found.append(one)
        outcomes.append(outcomes_of(asked, rollouts))
    save_outcomes(run_dir / OUTCOMES, outcomes)
    return tuple(found)


def _label(asked: Asked) -> str:
    """What the progress line calls a pass."""
    match asked.kind:
        case "validation":
            return "validating"
        case "also_as":
            return f"evaluating, asked for {asked.asked_for!r}"
        case "also_at":
            return f"evaluating at temperature {asked.temperature:g}"
        case "also_in":
            return f"evaluating in {asked.environment}"
    return "evaluating"


def _said(one: Pass, grades_by_f1: bool) -> list[str]:
    """What is said of a finished pass."""
    low, high = one.ci95
    rate = f"{one.success_rate:.3f} [{low:.3f}, {high:.3f}] on {one.n_questions} questions"
    match one.kind:
        case "validation":
            return [f"  on validation: {rate}"]
        case "also_as":
            return [f"  asked for {one.asked_for!r}: {rate}"]
        case "also_at":
            return [f"  at temperature {one.temperature:g}: {rate}"]
        case "also_in":
            return [f"  in {one.environment}: {rate}"]
    failures: Mapping[str, int] = one.failures or {}
    lines = [f"success rate  {rate}"]
    lines += [f"token F1      {one.mean_score:.3f} (success is an exact match)"] if grades_by_f1 else []
    lines.append(f"failures      {', '.join(f'{kind} {n}' for kind, n in failures.items()) or 'none'}")
    return lines + ([f"search misses {one.search_misses} (no recording answered)"] if one.search_misses else [])


def class_losses(
    prepared: Prepared, model: Any, strategy: StrategyConfig, max_length: int, say: Callable[[str], None]
) -> dict[str, GroupLosses]:
    """The loss of the unseen trajectories under the text of every class: does the model use the mark?"""
    found = losses_under_marks(
        model,
        prepared.format,
        strategy,
        prepared.trajectory_prompt,
        prepared.unseen,
        max_length=max_length,
    )
    for outcome, losses in found.items():
        shown = [f"{name!r} {each.loss:.4f}" for name, each in losses.by_class.items() if each.loss is not None]
        if not shown:
            why = ", ".join(f"{n} {reason}" for reason, n in losses.left_out.items()) or "none is held out"
            say(f"loss of unseen {outcome}: not measured ({why})")
            continue
        say(f"loss of unseen {outcome} under {', '.join(shown)} (nats per trained token)")
    return found


def other_classes(wanted: Literal["others"] | Sequence[str], strategy: StrategyConfig) -> list[str]:
    """The classes to ask for besides the one of inference: those whose prompt differs from its."""
    inference = strategy.inference_class
    names = [class_.name for class_ in strategy.classes] if wanted == "others" else list(wanted)
    return [name for name in names if strategy.class_named(name).text != inference.text]


def rollout_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of the W&B table of roll-outs."""
    return [
        {
            "question_id": rollout.question.id,
            "question": rollout.question.text,
            "reference": rollout.question.answer,
            "prediction": rollout.outcome.prediction,
            "success": rollout.outcome.success,
            "failure": rollout.outcome.failure,
            "turns": "\n".join(f"[{message.role}] {message.content}" for message in rollout.messages),
        }
        for rollout in read_rollouts(path)
    ]
