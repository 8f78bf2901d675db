"""What a trained model is asked: roll-outs pass by pass, and the loss of unseen trajectories under each mark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from nat.config import Config
from nat.rollouts import DecodingConfig
from nat.stages.manifest import Prepared
from nat.types import Environment, Question, Rollout


class Pass(NamedTuple):
    """One evaluation of the model: the same questions asked once each."""

    split: str  # in outcomes.csv: test, validation, or in_NAME
    asked_for: str  # the class whose text stands in the prompt
    questions: Sequence[Question]
    environment: Environment
    decoding: DecodingConfig


def evaluate(
    config: Config,
    prepared: Prepared,
    model: Any,
    run_dir: Path,
    report: Callable[[str], None],
    save: Callable[[Path, Sequence[Rollout]], None],
) -> dict[str, Any]:
    """Roll out under the inference class, then under the others that `evaluation.also_as` names.

    Validation questions, and those of further environments, are asked under the inference class; their results stand
    under `validation` and `also_in`.
    """
    from nat.progress import progress
    from nat.rollouts import outcome_rows, roll_out, save_outcomes, summarise

    results: dict[str, Any] = {}
    outcomes: list[dict[str, Any]] = []
    inference, split = config.strategy.inference_class.name, config.evaluation.split
    greedy = config.evaluation.decoding
    own = Pass(split, inference, prepared.questions, prepared.environment, greedy)
    passes = [own]
    passes += [own._replace(split="validation", questions=prepared.validation)] if prepared.validation else []
    passes += [own._replace(asked_for=name) for name in other_classes(config)]
    passes += [own._replace(decoding=replace(greedy, temperature=t)) for t in config.evaluation.also_at]
    names = {f"in_{name}": name for name in prepared.elsewhere}
    passes += [
        own._replace(split=of_split, questions=other.questions, environment=other.environment)
        for of_split, other in zip(names, prepared.elsewhere.values(), strict=True)
    ]
    for of_split, name, questions, environment, decoding in passes:
        at = "" if decoding is greedy else f" at temperature {decoding.temperature:g}"
        asked_for = f", asked for {name!r}" if name != inference else ""
        where = f" in {names[of_split]}" if of_split in names else ""
        label = f"evaluating{asked_for}{at}{where}" if of_split in (split, *names) else "validating"
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
                lambda question, name=name, environment=environment: prepared.prompt(environment, question.text, name),
                decoding,
                ended,
            )
        outcomes += outcome_rows(rollouts, of_split, f"{name}@{decoding.temperature:g}" if at else name)
        summary = summarise(rollouts)
        low, high = summary["ci95"]
        rate = f"{summary['success_rate']:.3f} [{low:.3f}, {high:.3f}] on {summary['n_questions']} questions"
        if broken := summary["failures"].get("infrastructure"):
            report(
                f"warning: {label}: {broken} of {len(rollouts)} episodes broke (infrastructure); they count as no "
                "success, though the model is not to blame"
            )
        if of_split != own.split:
            save(run_dir / f"rollouts_{of_split}.jsonl", rollouts)
            short = {key: summary[key] for key in ("success_rate", "ci95", "mean_score", "n_questions")}
            if of_split in names:
                results.setdefault("also_in", {})[names[of_split]] = short
            else:
                results[of_split] = short
            report(f"  in {names[of_split]}: {rate}" if of_split in names else f"  on {of_split}: {rate}")
        elif at:
            save(run_dir / f"rollouts_at_{decoding.temperature:g}.jsonl", rollouts)
            results[f"success_rate_at_{decoding.temperature:g}"] = summary["success_rate"]
            report(f" {at}: {rate}")
        elif name == inference:
            save(run_dir / "rollouts.jsonl", rollouts)
            results |= summary
            report(f"success rate  {rate}")
            if prepared.environment.grades_by_f1:
                results |= {"exact_match": summary["success_rate"], "f1": summary["mean_score"]}
                report(f"token F1      {summary['mean_score']:.3f} (success is an exact match)")
            report(f"failures      {', '.join(f'{k} {n}' for k, n in summary['failures'].items()) or 'none'}")
            if "search_misses" in summary:
                report(f"search misses {summary['search_misses']} (no recording answered)")
        else:
            save(run_dir / f"rollouts_as_{name}.jsonl", rollouts)
            results[f"success_rate_as_{name}"] = summary["success_rate"]
            report(f"  asked for {name!r}: {rate}")
    save_outcomes(run_dir / "outcomes.csv", outcomes)
    return results


def class_losses(
    config: Config, prepared: Prepared, model: Any, report: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """The loss of the unseen trajectories under the text of every class: does the model use the mark?"""
    from nat.class_losses import losses_under_marks

    found = losses_under_marks(
        model,
        prepared.format,
        config.strategy,
        partial(prepared.prompt, prepared.environment),
        prepared.unseen,
        max_length=config.model.max_length,
    )
    for outcome, by_class in found.items():
        shown = [f"{name!r} {value['loss']:.4f}" for name, value in by_class.items() if value.get("loss") is not None]
        report(f"loss of unseen {outcome} under {', '.join(shown)} (nats per trained token)")
    return found


def other_classes(config: Config) -> list[str]:
    """The classes to ask for besides the one of inference: those whose prompt differs from its."""
    wanted = config.evaluation.also_as
    inference = config.strategy.inference_class
    names = [class_.name for class_ in config.strategy.classes] if wanted == "others" else list(wanted)
    return [name for name in names if config.strategy.class_named(name).text != inference.text]


def rollout_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of the W&B table of roll-outs."""
    from nat.rollouts import read_rollouts

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
