"""One run: every stage, in order. `prepare` needs no model; `run` goes on with it."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from nat import cache
from nat import questions as question_sets
from nat import trajectories as trajectory_files
from nat.config import Config, method_of
from nat.environments import arithmetic, benchmarks
from nat.files import write_json
from nat.mixing import Mix, check_enough, mix, per_source, pools
from nat.progress import begin
from nat.quality import leaks
from nat.strategy import StrategyClass, classify, prompt_messages
from nat.tokenization import ChatFormat, Dropped, chat_format, class_token_counts, tokenize_all, trained_token_count
from nat.training import MEETING_PLACE
from nat.types import Environment, Example, Message, Question, RequestError, Rollout, Trajectory

Row: TypeAlias = tuple[tuple[Message, ...], Trajectory, str]  # what an example is made of: prompt, trajectory, class

SAVED_GROUPS = ("environment", "agent", "trajectories", "strategy", "evaluation", "tracking")


@dataclass(frozen=True)
class Prepared:
    """Everything that a run decides before a model is loaded."""

    environment: Environment
    questions: list[Question]  # of `evaluation.split`
    validation: list[Question]  # asked as well, for the report to choose on; disjoint from `questions`
    format: ChatFormat
    mixed: Mix | None  # None where nothing is trained
    examples: list[Example]
    manifest: dict[str, Any]


def prepare(config: Config) -> Prepared:
    """Trajectories, evaluation questions, strategy, tokenization and mixing. Raises RequestError."""
    from nat.model import load_tokenizer

    environment = make_environment(config)
    pool = read_trajectories(config)
    questions, pool, held_out = set_questions_apart(config, pool)
    validation = validation_questions(config, [*pool, *held_out])
    if config.training.objective == "none":
        format = chat_format(load_tokenizer(config.model))
        return Prepared(
            environment, questions, validation, format, None, [], {"hash": None, "held_out": counts(held_out)}
        )

    classes = check_pool(config, pool)  # before the tokenizer is loaded: too few stay too few when some are dropped
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
    manifest = make_manifest(config, mixed, chosen, held_out, dropped, pool)
    if found := find_leaks(pool, [*questions, *validation]):
        manifest["leaks"] = found
    return Prepared(environment, questions, validation, format, mixed, chosen, manifest)


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
        resume = resume and _saved_hash(run_dir) == prepared.manifest["hash"]
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
        if config.training.processes > 1 and config.training.objective != "none":
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
        if save and config.training.objective != "none":
            with clock("save"):
                prompt = prompt_of(config, prepared.environment, QUESTION, config.strategy.infer_as)
                facts = coordinates(config, method, n_positives, n_negatives, prepared.manifest["hash"])
                stop = config.evaluation.decoding.stop
                save_model(model, prepared.format, run_dir / "model", prompt, stop, facts)
                save_configuration(config, facts, run_dir / "model")
        if config.evaluation.kind == "rollouts":
            with clock("evaluation"):
                results |= evaluate(config, prepared, model, run_dir, report, save_rollouts)
        results["timing"] = clock.seconds
        tracker.summary({key: value for key, value in results.items() if key != "training"})
        if (run_dir / "rollouts.jsonl").exists():
            tracker.rollouts(rollout_rows(run_dir / "rollouts.jsonl"), config.tracking.rollouts)
        tracker.artifact(run_dir / "manifest.json", "manifest")
    remove_checkpoints(run_dir)
    return results


def check_pool(config: Config, pool: Sequence[Trajectory]) -> list[StrategyClass]:
    """The class of each trajectory. Raises RequestError where strategy or mixing cannot be served by this pool."""
    classes = classify(pool, config.strategy)
    check_enough(config.mixing, *map(len, pools(pool, config.mixing)))
    return classes


# ---- questions and trajectories ----


def make_environment(config: Config) -> Environment:
    if isinstance(config.environment, arithmetic.ArithmeticConfig):
        return arithmetic.make_environment(config.environment)
    return benchmarks.make_environment(config.environment)


def read_trajectories(config: Config) -> list[Trajectory]:
    """The pool to choose from; empty where neither training nor held-out questions need one."""
    if config.trajectories.kind == "scripted":
        if config.training.objective == "none":
            return []
        return earn_trajectories(config)
    if config.training.objective == "none" and config.environment.questions != "held_out":
        return []
    return list(trajectory_files.read(config.trajectories))


def earn_trajectories(config: Config) -> list[Trajectory]:
    """Let the scripted policy play until it has earned the configured numbers of successes and failures."""
    numbers = [config.trajectories.successes, config.trajectories.failures]
    return cache.cached(
        "trajectories",
        [asdict(config.environment), *numbers],
        lambda: _earn_trajectories(config),
        cache.encode_trajectories,
        cache.decode_trajectories,
    )


def _earn_trajectories(config: Config) -> list[Trajectory]:
    assert isinstance(config.environment, arithmetic.ArithmeticConfig)
    wanted = {True: config.trajectories.successes or 0, False: config.trajectories.failures or 0}
    kept: list[Trajectory] = []
    earned: Counter[bool] = Counter()
    limit = 1000 * (sum(wanted.values()) + 1)  # attempts: a policy that (almost) never fails must not play for ever
    for trajectory in islice(arithmetic.endless_trajectories(config.environment), limit):
        if all(earned[success] >= number for success, number in wanted.items()):
            return kept
        success = trajectory.outcome.success
        if earned[success] < wanted[success]:
            kept.append(trajectory)
            earned[success] += 1
    raise RequestError(
        f"trajectories: after {limit} attempts at environment.failure_rate={config.environment.failure_rate} the "
        f"policy had earned {earned[True]} of {wanted[True]} successes and {earned[False]} of {wanted[False]} failures."
        "\nChange environment.failure_rate, trajectories.successes or trajectories.failures."
    )


def set_questions_apart(
    config: Config, pool: Sequence[Trajectory]
) -> tuple[list[Question], list[Trajectory], list[Trajectory]]:
    """Evaluation questions, the trajectories that may train, and those on held-out questions.

    Nothing is trained and evaluated on the same question, by normalised text.
    """
    environment, evaluation = config.environment, config.evaluation
    if environment.questions == "held_out":
        assert not isinstance(environment, arithmetic.ArithmeticConfig)
        found = question_sets.hold_out(pool, environment.held_out, evaluation.split)
        unavailable = {t.question for t in pool if question_sets.is_held_out(t.question, environment.held_out)}
    else:
        if isinstance(environment, arithmetic.ArithmeticConfig):
            found = generate_questions(environment, evaluation.split, evaluation.n_questions)
        else:
            benchmarks.check_split(environment.questions, evaluation.split)
            found = benchmarks.load_questions(environment.questions)
        asked = question_sets.texts(found)
        unavailable = {t.question for t in pool if question_sets.normalise(t.question) in asked}
    kept, held_out = [], []
    for trajectory in pool:
        (held_out if trajectory.question in unavailable else kept).append(trajectory)
    if not pool and config.trajectories.kind != "scripted" and config.training.objective != "none":
        raise RequestError(f"trajectories.path={config.trajectories.path}: the files hold no trajectory.")
    if not found and evaluation.kind != "none":
        unscored = sum(trajectory.outcome.reference is None for trajectory in pool)
        raise RequestError(
            f"environment.questions={environment.questions}: no {evaluation.split} question to evaluate on "
            f"({len(pool)} trajectories, {unscored} of them without outcome.reference).\n"
            "Give references, raise environment.held_out, name a question file, or take evaluation=none."
        )
    if pool and not kept:
        raise RequestError(
            f"environment.questions={environment.questions}: every one of the {len(pool)} trajectories is on an "
            "evaluation question; none is left to train on."
        )
    return found[: evaluation.n_questions], kept, held_out


def validation_questions(config: Config, trajectories: Sequence[Trajectory]) -> list[Question]:
    """The `evaluation.n_validation` questions that are asked besides those of `evaluation.split`.

    None where that split is the validation one itself, or where the questions come from a file (all of it is a test
    set). The training trajectories never hold one: `set_questions_apart` keeps both halves of the held-out ones apart.
    """
    environment, number = config.environment, config.evaluation.n_validation or 0
    if not number or config.evaluation.split == "validation" or config.evaluation.kind == "none":
        return []
    if isinstance(environment, arithmetic.ArithmeticConfig):
        return generate_questions(environment, "validation", number)
    if environment.questions == "held_out":
        return question_sets.hold_out(trajectories, environment.held_out, "validation")[:number]
    return []


def generate_questions(environment: arithmetic.ArithmeticConfig, split: arithmetic.Split, n: int) -> list[Question]:
    return cache.cached(
        "questions",
        [asdict(environment), split, n],
        lambda: arithmetic.make_questions(environment, split, n),
        cache.encode_questions,
        cache.decode_questions,
    )


def tokenize_rows(format: ChatFormat, rows: Sequence[Row], max_length: int) -> tuple[list[Example], list[Dropped]]:
    """`tokenize_all`, once for the cells that train on the same trajectories under the same texts."""
    tokenizer = cache.tokenizer_fingerprint(format.tokenizer)
    if tokenizer is None:
        return tokenize_all(format, rows, max_length)
    return cache.cached(
        "tokens",
        [tokenizer, cache.fingerprint(rows), max_length],
        lambda: tokenize_all(format, rows, max_length),
        cache.encode_examples,
        cache.decode_examples,
    )


def find_leaks(pool: Sequence[Trajectory], questions: Sequence[Question]) -> list[str]:
    return cache.cached(
        "leaks",
        [cache.fingerprint(pool), cache.fingerprint(question.text for question in questions)],
        lambda: leaks(pool, questions),
        cache.encode_json,
        cache.decode_json,
    )


# ---- prompts ----


def prompt_of(config: Config, environment: Environment, question: str, class_name: str) -> tuple[Message, ...]:
    """The prompt of a question under the text of a class; the one function for training and for roll-outs."""
    class_ = config.strategy.class_named(class_name)
    return prompt_messages(config.agent.system, environment.instructions, question, config.strategy, class_)


# ---- evaluation ----


def evaluate(
    config: Config,
    prepared: Prepared,
    model: Any,
    run_dir: Path,
    report: Callable[[str], None],
    save: Callable[[Path, Sequence[Rollout]], None],
) -> dict[str, Any]:
    """Roll out under the inference class, then under the others that `evaluation.also_as` names.

    Validation questions are asked under the inference class; their results stand under `validation`.
    """
    from nat.progress import progress
    from nat.rollouts import outcome_rows, roll_out, save_outcomes, summarise

    results: dict[str, Any] = {}
    outcomes: list[dict[str, Any]] = []
    inference, split = config.strategy.inference_class.name, config.evaluation.split
    passes = [(split, inference, prepared.questions)]
    passes += [("validation", inference, prepared.validation)] if prepared.validation else []
    passes += [(split, name, prepared.questions) for name in other_classes(config)]
    for of_split, name, questions in passes:
        asked_for = f", asked for {name!r}" if name != inference else ""
        label = f"evaluating{asked_for}" if of_split == split else "validating"
        finished: Counter[bool] = Counter()
        with progress(len(questions), label, "episodes") as advance:

            def ended(rollout: Rollout, finished: Counter[bool] = finished, advance: Any = advance) -> None:
                finished[rollout.outcome.success] += 1
                advance(finished.total(), f"success {finished[True] / finished.total():.2f}")

            rollouts = roll_out(
                model,
                prepared.format,
                prepared.environment,
                questions,
                lambda question, name=name: prompt_of(config, prepared.environment, question.text, name),
                config.evaluation.decoding,
                ended,
            )
        outcomes += outcome_rows(rollouts, of_split, name)
        summary = summarise(rollouts)
        low, high = summary["ci95"]
        rate = f"{summary['success_rate']:.3f} [{low:.3f}, {high:.3f}] on {summary['n_questions']} questions"
        if of_split != split:
            save(run_dir / f"rollouts_{of_split}.jsonl", rollouts)
            results[of_split] = {key: summary[key] for key in ("success_rate", "ci95", "mean_score", "n_questions")}
            report(f"  on {of_split}: {rate}")
        elif name == inference:
            save(run_dir / "rollouts.jsonl", rollouts)
            results |= summary
            report(f"success rate  {rate}")
            report(f"failures      {', '.join(f'{k} {n}' for k, n in summary['failures'].items()) or 'none'}")
        else:
            save(run_dir / f"rollouts_as_{name}.jsonl", rollouts)
            results[f"success_rate_as_{name}"] = summary["success_rate"]
            report(f"  asked for {name!r}: {rate}")
    save_outcomes(run_dir / "outcomes.csv", outcomes)
    return results


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


# ---- files of a run directory ----


def remove_earlier_files(run_dir: Path) -> None:
    """What another run left in this directory must not be taken for this one's."""
    for path in (
        *(run_dir / name for name in ("metrics.jsonl", "manifest.json", "outcomes.csv")),
        *run_dir.glob("rollouts*.jsonl"),
    ):
        path.unlink(missing_ok=True)
    shutil.rmtree(run_dir / "model", ignore_errors=True)
    shutil.rmtree(run_dir / MEETING_PLACE, ignore_errors=True)


def _saved_hash(run_dir: Path) -> str | None:
    try:
        return json.loads((run_dir / "manifest.json").read_text(encoding="utf-8"))["hash"]
    except (OSError, ValueError, KeyError):
        return None


def facts_of_saved(model_path: str) -> dict[str, Any]:
    """How a model that `nat` saved was trained; nothing for any other model."""
    try:
        facts = json.loads((Path(model_path) / "nat.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    kept = ("method", "strategy", "ratio", "positives", "negatives", "seed", "manifest", "threads")
    return {key: facts[key] for key in kept if key in facts}


def save_configuration(config: Config, facts: Mapping[str, Any], directory: Path) -> None:
    """What `nat evaluate` needs beside the weights: the groups that make prompts and questions, as option files.

    `conf/GROUP/saved.yaml` below the model's directory; `nat.json` holds the facts of its training.
    """
    tree = json.loads(json.dumps(asdict(config)))
    pattern = tree["trajectories"]["path"]
    if pattern is not None:  # relative to where training was started
        tree["trajectories"]["path"] = [str(path.absolute()) for path in trajectory_files.paths(pattern)]
    for group in SAVED_GROUPS:
        (directory / "conf" / group).mkdir(parents=True, exist_ok=True)
        write_json(directory / "conf" / group / "saved.yaml", tree[group])  # JSON is YAML
    write_json(directory / "nat.json", {**facts, "threads": config.model.threads})


def counts(trajectories: Sequence[Trajectory]) -> dict[str, int]:
    positives = sum(trajectory.outcome.success for trajectory in trajectories)
    return {"positives": positives, "negatives": len(trajectories) - positives}


def make_manifest(
    config: Config,
    mixed: Mix,
    examples: Sequence[Example],
    held_out: Sequence[Trajectory],
    dropped: Sequence[Dropped],
    pool: Sequence[Trajectory],
) -> dict[str, Any]:
    """What was selected, from where, what was not and why; the four counts add up to what was read."""
    success = {trajectory.id: trajectory.outcome.success for trajectory in pool}
    reasons = sorted({drop.reason for drop in dropped})
    return {
        "hash": mixed.hash,
        "trajectories": config.trajectories.path or f"{config.trajectories.kind} in {config.environment.name}",
        "selected": counts(list({t.id: t for t in mixed.selected}.values())),
        "repeats": len(mixed.selected) - len({t.id for t in mixed.selected}),  # with mixing.oversample
        "unused": counts(mixed.unused),
        "held_out": counts(held_out),
        "dropped": {
            reason: {
                "positives": sum(success[d.trajectory_id] for d in dropped if d.reason == reason),
                "negatives": sum(not success[d.trajectory_id] for d in dropped if d.reason == reason),
            }
            for reason in reasons
        },
        "per_source": per_source(mixed.selected),
        "trained_tokens": class_token_counts(examples),
        "preambles_replaced": sum("preamble_messages" in trajectory.metadata for trajectory in mixed.selected),
        "positives": [trajectory.id for trajectory in mixed.positives],
        "negatives": [trajectory.id for trajectory in mixed.negatives],
        "dropped_trajectories": [drop._asdict() for drop in dropped],
    }


def describe(config: Config, prepared: Prepared) -> Iterator[str]:
    """What was chosen, for the terminal."""
    held_out = config.environment.questions == "held_out"
    origin = "held out of the trajectory files" if held_out else f"of {config.environment.name}"
    yield f"questions     {len(prepared.questions)} {config.evaluation.split} questions {origin}"
    if config.trajectories.kind != "scripted" and config.environment.kind == "arithmetic":
        yield "warning: trained on your files, evaluated in the built-in arithmetic world (environment=arithmetic);"
        yield "         environment=gsm8k evaluates on questions held out of the files"
    if len(prepared.questions) < config.evaluation.n_questions and config.evaluation.kind != "none":
        yield f"              (evaluation.n_questions={config.evaluation.n_questions}: there are no more)"
    if prepared.mixed is None:
        return
    manifest = prepared.manifest
    selected, unused, held_out = (manifest[key] for key in ("selected", "unused", "held_out"))
    yield f"selected      {_counts_text(selected)}; unused {_counts_text(unused)}"
    if any(held_out.values()):
        yield f"held out      {_counts_text(held_out)}, on questions kept for evaluation"
    for reason, number in manifest["dropped"].items():
        yield f"dropped       {_counts_text(number)}: {reason} (listed in manifest.json)"
    tokens = ", ".join(f"{name} {count}" for name, count in manifest["trained_tokens"].items())
    yield f"trained tokens  {tokens}; manifest {manifest['hash']}"
    for leak in manifest.get("leaks", ()):
        yield f"warning: {leak}"


def _counts_text(number: Mapping[str, int]) -> str:
    return f"{number['positives']} positives, {number['negatives']} negatives"


def coordinates(
    config: Config, method: str, n_positives: int, n_negatives: int, manifest_hash: str | None
) -> dict[str, Any]:
    """Where a run stands among others: the part of `results.json` that is known before it starts."""
    return {
        "method": method,
        "environment": config.environment.name,
        "strategy": config.strategy.name,
        "ratio": config.mixing.ratio if config.mixing.kind == "ratio" else None,
        "positives": n_positives,
        "negatives": n_negatives,
        "seed": config.seed,
        "model": config.model.name,
        "split": config.evaluation.split,
        "manifest": manifest_hash,
    }


STAGES = {"prepare": "reading and tokenizing", "load_model": "loading the model", "save": "saving the model"}


@dataclass
class Clock:
    """Seconds per stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begin(STAGES.get(stage, stage))
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = round(time.monotonic() - start, 3)
