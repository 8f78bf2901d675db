"""One run: every stage, in order. `gather` needs no tokenizer, `prepare` needs no model; `run` goes on with them.

trajectories -> quality -> mixing -> strategy -> tokenization -> training -> evaluation -> report
------- gather --------    ------------- prepare ------------    --------- run ---------   nat.reporting, of many

Questions to evaluate on are set apart before quality. What may train is marked and tokenized before mixing chooses: it
takes only what fits the model's context, and may count tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from nat.config.tree import Config
from nat.core.rows.bad import DroppedRow
from nat.examples.prompts import prompter, trajectory_prompter
from nat.examples.strategy import StrategyClass
from nat.examples.tokenization import chat_format
from nat.model import load_tokenizer
from nat.quality.rules import Controlled
from nat.runs.clock import Clock
from nat.runs.results import Results
from nat.stages.environment import make_environment
from nat.stages.evaluation import class_losses, evaluate, passes_of, rollout_rows
from nat.stages.examples import find_leaks, make_examples
from nat.stages.manifest import Prepared, counts, describe, listed, make_manifest
from nat.stages.pool import (
    check_settings,
    check_weights,
    classified,
    read_trajectories,
    training_pool,
    unseen_trajectories,
)
from nat.stages.questions import Elsewhere, SetApart, questions_elsewhere, set_questions_apart
from nat.stages.saving import begin_directory, coordinates, save_trained
from nat.stages.training import tracked, train_model
from nat.tracking import WandbTracking
from nat.training.checkpoints import remove_checkpoints
from nat.trajectories.label_files import Labels
from nat.trajectories.reading import labels_of
from nat.types import Environment, Trajectory


@dataclass(frozen=True)
class Gathered:
    """What there is to train and to evaluate on. `pool` is empty where nothing is trained."""

    environment: Environment
    elsewhere: Mapping[str, Elsewhere]
    apart: SetApart
    pool: Controlled
    left_out: Mapping[str, Sequence[DroppedRow]]  # rows of files that cannot be used, by what they would have been
    labels: Mapping[str, Any] | None = None  # what was joined with `trajectories.labels`: `Labels.counts`


def trajectories_of(
    config: Config, dropped: list[DroppedRow] | None = None, joined: Labels | None = None
) -> list[Trajectory]:
    """All trajectories of the configuration, the held-out ones too; what cannot be used is added to `dropped`.

    `joined` are the labels of other files, which count the trajectories that they met.
    """
    files, world = config.trajectories, config.environment
    return read_trajectories(files, world, config.agent, trains=config.trains, dropped=dropped, joined=joined)


def gather(config: Config) -> Gathered:
    """Environments, trajectories, evaluation questions, quality: all that needs no tokenizer. Raises RequestError."""
    documents: list[DroppedRow] = []
    bad_rows: list[DroppedRow] = []
    world, agent = config.environment, config.agent
    environment = make_environment(world, agent, config.search, documents)
    elsewhere = {
        name: questions_elsewhere(name, other, agent, config.search, config.evaluation)
        for name, other in config.also_in.items()
    }
    joined = labels_of(config.trajectories)
    pool = trajectories_of(config, bad_rows, joined)
    apart = set_questions_apart(world, environment, config.evaluation, elsewhere, pool)
    rules = None if config.generates else (config.quality, check_settings(world, environment, config.strategy))
    if config.trains:
        check_weights(apart.kept)
    controlled = training_pool(apart.kept if config.trains else [], environment, rules)
    questions = [*apart.left_out, *(row for other in elsewhere.values() for row in other.left_out)]
    left_out = {"bad_rows": bad_rows, "questions_left_out": questions, "documents_left_out": documents}
    labels = joined.counts() if joined is not None and pool else None
    return Gathered(environment, elsewhere, apart, controlled, left_out, labels)


def classes_of(config: Config, gathered: Gathered) -> list[StrategyClass]:
    """The class of each trajectory. Raises RequestError where mixing or strategy ask for more than there is."""
    held_out = gathered.apart.held_out
    return classified(gathered.pool.kept, held_out, config.mixing, config.strategy, config.environment, config.seed)


def prepare(config: Config) -> Prepared:
    """Everything before a model is loaded: `gather`, then mixing, strategy and tokenization. Raises RequestError."""
    gathered = gather(config)
    environment, apart, pool = gathered.environment, gathered.apart, gathered.pool.kept
    made, manifest = None, {"hash": None, "held_out": counts(apart.held_out)}
    # Before the tokenizer is loaded: too few stay too few when some are dropped.
    classes = classes_of(config, gathered) if config.trains else []
    format = chat_format(load_tokenizer(config.model))
    prompt = prompter(config.agent, config.strategy)
    own_prompt = trajectory_prompter(environment, prompt, config.strategy)
    if config.trains:
        max_length = config.model.max_length
        made = make_examples(pool, classes, own_prompt, config.mixing, format, max_length, config.seed)
        manifest = make_manifest(made, gathered.pool, apart.held_out, config.source)
    if gathered.labels is not None:
        manifest["labels"] = gathered.labels
    for what, rows in gathered.left_out.items():
        manifest |= listed(what, rows)
    asked = [apart.questions, apart.validation, *(other.questions for other in gathered.elsewhere.values())]
    if config.trains and (found := find_leaks(pool, list(chain.from_iterable(asked)))):
        manifest["leaks"] = found
    unseen = unseen_trajectories(
        apart.held_out, config.evaluation.n_class_losses, config.mixing, environment, config.generating_world
    )
    return Prepared(environment, gathered.elsewhere, apart, prompt, own_prompt, format, made, manifest, unseen)


def run(
    config: Config, run_dir: Path, say: Callable[[str], None], *, resume: bool, save: bool, tracking_id: str
) -> Results:
    """The whole run. Raises RequestError or StageError.

    Args:
        resume: go on from the last checkpoint in `run_dir`, if it was made with the same trajectories.
        save: write the trained model to `run_dir/model`.
        tracking_id: of the W&B run; the same when a run is resumed.
    """
    clock = Clock()
    with clock("prepare"):
        prepared = prepare(config)
        resume = begin_directory(run_dir, prepared.manifest, resume)
        for line in describe(config, prepared):
            say(line)
    place = coordinates(config, prepared)
    results = Results(status="completed", coordinates=place, leaks=tuple(prepared.manifest.get("leaks", ())))
    with tracked(config, place, run_dir, tracking_id, say) as tracker:
        trained, model = train_model(
            config.model, config.training, prepared, clock, config.seed, run_dir, tracker, resume
        )
        results = replace(results, steps=trained.steps, trained_tokens=trained.trained_tokens, training=trained.metrics)
        if save:
            with clock("save"):
                save_trained(config, prepared, model, place, run_dir / "model")
        if any(prepared.unseen.values()):
            with clock("class_losses"):
                losses = class_losses(prepared, model, config.strategy, config.model.max_length, say)
            results = replace(results, class_losses=losses)
        if config.evaluation.kind == "rollouts":
            with clock("evaluation"):
                asked = passes_of(prepared, config.evaluation, config.strategy, config.environment.name)
                passes = evaluate(prepared, model, asked, run_dir, say)
            results = replace(results, passes=passes, grades_by_f1=prepared.environment.grades_by_f1)
        results = replace(results, timing=clock.seconds)
        tracker.summary(results)
        if isinstance(config.tracking, WandbTracking) and (run_dir / "rollouts.jsonl").exists():
            tracker.rollouts(rollout_rows(run_dir / "rollouts.jsonl"), config.tracking.rollouts)
        tracker.artifact(run_dir / "manifest.json", "manifest")
    remove_checkpoints(run_dir)
    return results
