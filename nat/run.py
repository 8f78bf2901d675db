"""One run: every stage, in order. `prepare` needs no model; `run` goes on with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nat.config import Config, method_of
from nat.files import write_json
from nat.mixing import mix
from nat.runs.clock import Clock
from nat.stages.environment import make_environment
from nat.stages.evaluation import class_losses, evaluate, rollout_rows
from nat.stages.examples import find_leaks, prompt_of, tokenize_rows
from nat.stages.manifest import Prepared, counts, describe, listed, make_manifest
from nat.stages.pool import check_pool, read_trajectories, training_pool, unseen_trajectories
from nat.stages.questions import set_questions_apart
from nat.stages.saving import coordinates, facts_of_saved, remove_earlier_files, save_configuration, saved_hash
from nat.tokenization import chat_format, trained_token_count
from nat.tracking import WandbTracking
from nat.training import NoTraining, SftTraining
from nat.trajectories.json_lines import DroppedRow


def prepare(config: Config) -> Prepared:
    """Trajectories, evaluation questions, strategy, tokenization and mixing. Raises RequestError."""
    from nat.model import load_tokenizer

    documents: list[DroppedRow] = []
    bad_rows: list[DroppedRow] = []
    environment = make_environment(config, documents)
    pool = read_trajectories(config, bad_rows)
    questions, validation, pool, held_out, left_out, elsewhere = set_questions_apart(config, environment, pool)
    if isinstance(config.training, NoTraining):
        format = chat_format(load_tokenizer(config.model))
        return Prepared(
            environment,
            questions,
            validation,
            format,
            None,
            [],
            {
                "hash": None,
                "held_out": counts(held_out),
                **listed("bad_rows", bad_rows),
                **listed("questions_left_out", left_out),
                **listed("documents_left_out", documents),
            },
            unseen_trajectories(config, held_out),
            elsewhere,
        )

    controlled = training_pool(config, environment, pool)
    pool = controlled.kept
    # Before the tokenizer is loaded: too few stay too few when some are dropped.
    classes = check_pool(config, pool, held_out)
    format = chat_format(load_tokenizer(config.model))
    rows = [
        (prompt_of(config, environment, trajectory.question, class_.name), trajectory, class_.name)
        for trajectory, class_ in zip(pool, classes, strict=True)
    ]
    examples, dropped = tokenize_rows(format, rows, config.model.max_length)
    by_id = {example.trajectory_id: example for example in examples}
    usable = [trajectory for trajectory in pool if trajectory.id in by_id]
    mixed = mix(usable, config.mixing, config.seed, {e.trajectory_id: trained_token_count(e) for e in examples})
    chosen = [by_id[trajectory.id] for trajectory in mixed.selected]
    manifest = make_manifest(config, mixed, chosen, held_out, dropped, controlled, bad_rows)
    manifest |= listed("questions_left_out", left_out) | listed("documents_left_out", documents)
    asked = [*questions, *validation, *(question for other in elsewhere.values() for question in other.questions)]
    if found := find_leaks(pool, asked):
        manifest["leaks"] = found
    unseen = unseen_trajectories(config, held_out)
    return Prepared(environment, questions, validation, format, mixed, chosen, manifest, unseen, elsewhere)


def run(
    config: Config, run_dir: Path, report: Callable[[str], None], *, resume: bool, save: bool, tracking_id: str
) -> dict[str, Any]:
    """The whole run. Returns the results; raises RequestError or StageError.

    Args:
        resume: go on from the last checkpoint in `run_dir`, if it was made with the same trajectories.
        save: write the trained model to `run_dir/model`.
        tracking_id: of the W&B run; the same when a run is resumed.
    """
    from nat.model import QUESTION, load_model, merged, resolve_device, save_model, use_threads
    from nat.rollouts import save_rollouts
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
    results = coordinates(config, method, n_positives, n_negatives, prepared.manifest["hash"])
    if "leaks" in prepared.manifest:
        results["leaks"] = prepared.manifest["leaks"]
    if method == "base":
        facts = facts_of_saved(config.model.path)
        results |= {key: value for key, value in facts.items() if key != "threads"}
        method = results["method"]
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
        if isinstance(config.training, SftTraining) and config.training.processes > 1:
            from nat.distributed import train_in_processes

            with clock("training"):
                trained, model = train_in_processes(prepared.examples, config.model, config.training, **how)
        else:
            with clock("load_model"):
                model = load_model(config.model, device, config.seed)
            with clock("training"):
                trained = train(model, prepared.format, prepared.examples, config.training, **how)
        model = merged(model)
        results |= {"steps": trained.steps, "trained_tokens": trained.trained_tokens, "training": trained.metrics}
        if save:
            with clock("save"):
                prompt = prompt_of(config, prepared.environment, QUESTION, config.strategy.infer_as)
                facts = coordinates(config, method, n_positives, n_negatives, prepared.manifest["hash"])
                stop = config.evaluation.decoding.stop
                save_model(model, prepared.format, run_dir / "model", prompt, stop, facts)
                save_configuration(config, facts, run_dir / "model")
        if any(prepared.unseen.values()):
            with clock("class_losses"):
                results["class_losses"] = class_losses(config, prepared, model, report)
        if config.evaluation.kind == "rollouts":
            with clock("evaluation"):
                results |= evaluate(config, prepared, model, run_dir, report, save_rollouts)
        results["timing"] = clock.seconds
        tracker.summary({key: value for key, value in results.items() if key != "training"})
        if isinstance(config.tracking, WandbTracking) and (run_dir / "rollouts.jsonl").exists():
            tracker.rollouts(rollout_rows(run_dir / "rollouts.jsonl"), config.tracking.rollouts)
        tracker.artifact(run_dir / "manifest.json", "manifest")
    remove_checkpoints(run_dir)
    return results
