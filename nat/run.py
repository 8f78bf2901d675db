"""One run: every stage, in order. `prepare` needs no model; `run` goes on with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from nat.config import Config, method_of
from nat.files import write_json
from nat.quality import Controlled
from nat.runs.clock import Clock
from nat.runs.outcomes import save_rollouts
from nat.runs.results import Results
from nat.stages.environment import make_environment
from nat.stages.evaluation import class_losses, evaluate, rollout_rows
from nat.stages.examples import find_leaks, make_examples, prompter
from nat.stages.manifest import Prepared, counts, describe, listed, make_manifest
from nat.stages.pool import check_pool, check_settings, read_trajectories, training_pool, unseen_trajectories
from nat.stages.questions import Elsewhere, SetApart, questions_elsewhere, set_questions_apart
from nat.stages.saving import as_trained, coordinates, remove_earlier_files, save_configuration, saved_hash
from nat.strategy import StrategyClass
from nat.tokenization import chat_format
from nat.trajectories.json_lines import DroppedRow
from nat.types import Environment, Trajectory


@dataclass(frozen=True)
class Gathered:
    """What there is to train and to evaluate on. `pool` is empty where nothing is trained."""

    environment: Environment
    elsewhere: Mapping[str, Elsewhere]
    apart: SetApart
    pool: Controlled
    left_out: Mapping[str, Sequence[DroppedRow]]  # rows of files that cannot be used, by what they would have been


def trajectories_of(config: Config, dropped: list[DroppedRow] | None = None) -> list[Trajectory]:
    """All trajectories of the configuration, the held-out ones too; what cannot be used is added to `dropped`."""
    return read_trajectories(
        config.trajectories, config.environment, config.agent, trains=config.trains, dropped=dropped
    )


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
    pool = trajectories_of(config, bad_rows)
    apart = set_questions_apart(world, environment, config.evaluation, elsewhere, pool)
    rules = None if config.generates else (config.quality, check_settings(world, environment, config.strategy))
    controlled = training_pool(apart.kept if config.trains else [], agent, rules)
    questions = [*apart.left_out, *(row for other in elsewhere.values() for row in other.left_out)]
    left_out = {"bad_rows": bad_rows, "questions_left_out": questions, "documents_left_out": documents}
    return Gathered(environment, elsewhere, apart, controlled, left_out)


def check_enough(config: Config, gathered: Gathered) -> list[StrategyClass]:
    """The class of each trajectory. Raises RequestError where mixing or strategy ask for more than there is."""
    held_out = gathered.apart.held_out
    return check_pool(gathered.pool.kept, held_out, config.mixing, config.strategy, config.environment, config.seed)


def prepare(config: Config) -> Prepared:
    """Everything before a model is loaded: `gather`, then mixing, strategy and tokenization. Raises RequestError."""
    from nat.model import load_tokenizer

    gathered = gather(config)
    environment, apart, pool = gathered.environment, gathered.apart, gathered.pool.kept
    made, manifest = None, {"hash": None, "held_out": counts(apart.held_out)}
    # Before the tokenizer is loaded: too few stay too few when some are dropped.
    classes = check_enough(config, gathered) if config.trains else []
    format = chat_format(load_tokenizer(config.model))
    prompt = prompter(config.agent, config.strategy)
    if config.trains:
        prompted, max_length = partial(prompt, environment), config.model.max_length
        made = make_examples(pool, classes, prompted, config.mixing, format, max_length, config.seed)
        manifest = make_manifest(made, gathered.pool, apart.held_out, config.source)
    for what, rows in gathered.left_out.items():
        manifest |= listed(what, rows)
    asked = [apart.questions, apart.validation, *(other.questions for other in gathered.elsewhere.values())]
    if config.trains and (found := find_leaks(pool, list(chain.from_iterable(asked)))):
        manifest["leaks"] = found
    unseen = unseen_trajectories(
        apart.held_out, config.evaluation.n_class_losses, config.mixing, config.agent, config.generating_world
    )
    return Prepared(
        environment,
        apart.questions,
        apart.validation,
        prompt,
        format,
        made and made.mixed,
        made.chosen if made else [],
        manifest,
        unseen,
        gathered.elsewhere,
    )


def run(
    config: Config, run_dir: Path, report: Callable[[str], None], *, resume: bool, save: bool, tracking_id: str
) -> Results:
    """The whole run. Returns what it found; raises RequestError or StageError.

    Args:
        resume: go on from the last checkpoint in `run_dir`, if it was made with the same trajectories.
        save: write the trained model to `run_dir/model`.
        tracking_id: of the W&B run; the same when a run is resumed.
    """
    from nat.model import QUESTION, load_model, merged, resolve_device, save_model, use_threads
    from nat.tracking import track
    from nat.training import remove_checkpoints, train

    clock = Clock()
    with clock("prepare"):
        prepared = prepare(config)
        resume = resume and saved_hash(run_dir) == prepared.manifest["hash"]
        if not resume:
            remove_earlier_files(run_dir)
        write_json(run_dir / "manifest.json", prepared.manifest)
        for line in describe(config, prepared):
            report(line)

    n_positives = len(prepared.mixed.positives) if prepared.mixed else 0
    n_negatives = len(prepared.mixed.negatives) if prepared.mixed else 0
    method = method_of(config, n_negatives)
    place = coordinates(config, method, n_positives, n_negatives, prepared.manifest["hash"])
    if method == "base":
        place = as_trained(place, config.model.path)
        method = place.method
    results = Results(status="completed", coordinates=place, leaks=tuple(prepared.manifest.get("leaks", ())))
    with track(
        config.tracking,
        run_dir,
        asdict(config),
        group=config.sweep.name,
        job_type=method,
        name=run_dir.name,
        tags=(method, config.environment.name, config.strategy.name),
        negatives_per_positive=n_negatives / n_positives if n_positives else None,
        selected={"positives": n_positives, "negatives": n_negatives} if prepared.mixed else None,
        run_id=tracking_id,
        say=report,
    ) as tracker:
        how: Any = {"seed": config.seed, "run_dir": run_dir, "tracker": tracker, "resume": resume}
        device = how["device"] = resolve_device(config.training.device)
        use_threads(config.model.threads)
        if config.training.processes > 1 and config.trains:
            from nat.distributed import train_in_processes

            with clock("training"):
                trained, model = train_in_processes(prepared.examples, config.model, config.training, **how)
        else:
            with clock("load_model"):
                model = load_model(config.model, device, config.seed)
            with clock("training"):
                trained = train(model, prepared.format, prepared.examples, config.training, **how)
        model = merged(model)
        results = replace(results, steps=trained.steps, trained_tokens=trained.trained_tokens, training=trained.metrics)
        if save and config.trains:
            with clock("save"):
                prompt = prepared.prompt(prepared.environment, QUESTION, config.strategy.infer_as)
                stop = config.evaluation.decoding.stop
                save_model(model, prepared.format, run_dir / "model", prompt, stop, asdict(place))
                save_configuration(config, place, run_dir / "model")
        if any(prepared.unseen.values()):
            with clock("class_losses"):
                results = replace(results, class_losses=class_losses(config, prepared, model, report))
        if config.evaluation.kind == "rollouts":
            with clock("evaluation"):
                passes = evaluate(config, prepared, model, run_dir, report, save_rollouts)
            results = replace(results, passes=passes, grades_by_f1=prepared.environment.grades_by_f1)
        results = replace(results, timing=clock.seconds)
        tracker.summary(results)
        if (run_dir / "rollouts.jsonl").exists():
            tracker.rollouts(rollout_rows(run_dir / "rollouts.jsonl"), config.tracking.rollouts)
        tracker.artifact(run_dir / "manifest.json", "manifest")
    remove_checkpoints(run_dir)
    return results
