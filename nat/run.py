"""One run: every stage, in order. `prepare` needs no model; `run` goes on with it."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from nat import cache, search
from nat import questions as question_sets
from nat import trajectories as trajectory_files
from nat.agents import chain_of_thought
from nat.checks import CheckSettings, shipped_conditioning_texts
from nat.config import Config, method_of
from nat.environments import benchmarks, custom, for_agent, worlds
from nat.environments.benchmarks import BenchmarkConfig, LoadedQuestions
from nat.environments.custom import CustomConfig
from nat.files import write_json
from nat.leaks import leaks
from nat.mixing import Mix, check_enough, mix, per_source, pools
from nat.progress import begin
from nat.quality import Controlled, control
from nat.rollouts import DecodingConfig
from nat.strategy import StrategyClass, classify, prompt_messages
from nat.tokenization import ChatFormat, Dropped, chat_format, class_token_counts, tokenize_all, trained_token_count
from nat.training import MEETING_PLACE
from nat.trajectories.json_lines import DroppedRow
from nat.trajectories.tool_calls import as_react_text
from nat.types import Environment, Example, Message, Question, RequestError, Rollout, Score, Trajectory

Row: TypeAlias = tuple[tuple[Message, ...], Trajectory, str]  # what an example is made of: prompt, trajectory, class

SAVED_GROUPS = ("environment", "agent", "search", "trajectories", "strategy", "evaluation", "tracking")


class Elsewhere(NamedTuple):
    """A further environment in which the trained model is asked; see `also_in` in conf/config.yaml."""

    environment: Environment
    questions: list[Question]  # of `evaluation.split`


class Pass(NamedTuple):
    """One evaluation of the model: the same questions asked once each."""

    split: str  # in outcomes.csv: test, validation, or in_NAME
    asked_for: str  # the class whose text stands in the prompt
    questions: Sequence[Question]
    environment: Environment
    decoding: DecodingConfig


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
    unseen: Mapping[str, list[Trajectory]]  # to measure the loss of; empty lists for none
    elsewhere: Mapping[str, Elsewhere]  # further environments to ask in, by their names in `also_in`


def prepare(config: Config) -> Prepared:
    """Trajectories, evaluation questions, strategy, tokenization and mixing. Raises RequestError."""
    from nat.model import load_tokenizer

    documents: list[DroppedRow] = []
    bad_rows: list[DroppedRow] = []
    environment = make_environment(config, documents)
    pool = read_trajectories(config, bad_rows)
    questions, validation, pool, held_out, left_out, elsewhere = set_questions_apart(config, environment, pool)
    if config.training.objective == "none":
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
        if any(prepared.unseen.values()):
            with clock("class_losses"):
                results["class_losses"] = class_losses(config, prepared, model, report)
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


def check_pool(config: Config, pool: Sequence[Trajectory], held_out: Sequence[Trajectory] = ()) -> list[StrategyClass]:
    """The class of each trajectory. Raises RequestError where strategy or mixing cannot be served by this pool.

    `held_out` are those that the evaluation took away, for the message.
    """
    try:
        check_enough(config.mixing, *map(len, pools(pool, config.mixing)))
    except RequestError as error:
        successes = sum(trajectory.outcome.success for trajectory in held_out)
        if not held_out:
            raise
        raise RequestError(
            f"{error}\n{successes} successes and {len(held_out) - successes} failures are kept out of training: their "
            f"questions are evaluated on (environment.questions={config.environment.questions})."
        ) from None
    if not config.strategy.is_shuffled:
        return classify(pool, config.strategy)
    if config.mixing.hold == "tokens":
        raise RequestError(
            f"mixing.hold=tokens: strategy={config.strategy.name} deals its marks out among the chosen trajectories, "
            "and tokens are counted after that; take mixing.hold=positives or total."
        )
    # Within what is chosen, so that the marks stay as frequent as the labels are.
    chosen = {trajectory.id for trajectory in mix(pool, config.mixing, config.seed).selected}
    classes: dict[str, StrategyClass] = {}
    for group in ([t for t in pool if t.id in chosen], [t for t in pool if t.id not in chosen]):
        classes |= {t.id: class_ for t, class_ in zip(group, classify(group, config.strategy), strict=True)}
    return [classes[trajectory.id] for trajectory in pool]


# ---- questions and trajectories ----


def make_environment(config: Config, left_out: list[DroppedRow] | None = None) -> Environment:
    """The configured environment, as the configured agent meets it. Raises RequestError.

    Rows of the search's files that cannot be used are added to `left_out` (search.on_bad_row=drop; else an error).
    """
    if isinstance(config.environment, CustomConfig):
        environment = custom.make_environment(config.environment)
    elif not isinstance(config.environment, BenchmarkConfig):
        environment = worlds.make_environment(config.environment)
    elif config.agent.style == "cot":
        environment = benchmarks.make_environment(config.environment, None)  # a chain of thought calls no tool
    else:
        found = search.make_search(config.search)
        if found is not None and left_out is not None:
            left_out += found.dropped
        tools = (None, None) if found is None else (found.tool, found.open_tools)
        environment = benchmarks.make_environment(config.environment, *tools)
    return for_agent(environment, config.agent)


def read_trajectories(config: Config, dropped: list[DroppedRow] | None = None) -> list[Trajectory]:
    """The pool to choose from; empty where neither training nor held-out questions need one.

    Rows of the files that cannot be used are added to `dropped` (with `trajectories.on_bad_row=drop`; else an error),
    and so are, always, episodes that broke for reasons that are not the policy's (`infrastructure`).
    """
    if config.trajectories.kind == "scripted":
        if config.training.objective == "none":
            return []
        assert worlds.is_world(config.environment)
        world, successes = config.environment, config.trajectories.successes or 0
        failures, rate = config.trajectories.failures or 0, config.trajectories.failures_rate
        if rate is None or rate == world.failure_rate:
            return earn_trajectories(world, "train", {True: successes, False: failures})
        # Both policies try the same questions: their attempts have the same ids.
        asked = "trajectories.failures_rate"
        other = earn_trajectories(replace(world, failure_rate=rate), "train", {True: 0, False: failures}, asked)
        renamed = [replace(trajectory, id=f"{trajectory.id}@{rate:g}") for trajectory in other]
        return earn_trajectories(world, "train", {True: successes, False: 0}) + renamed
    if config.training.objective == "none" and config.environment.questions != "held_out":
        return []
    score = scorer(config) if config.trajectories.label is not None else None
    return list(trajectory_files.read(config.trajectories, dropped, score))


def scorer(config: Config) -> Callable[[str, str], Score]:
    """What scores a prediction against its reference, without opening the environment's tools."""
    if isinstance(config.environment, BenchmarkConfig):
        return benchmarks.SCORERS[config.environment.scorer]
    return make_environment(config).score


def training_pool(config: Config, environment: Environment, trajectories: Sequence[Trajectory]) -> Controlled:
    """What quality control leaves of the trajectories that may train, as the configured agent would have told it.

    Questions are set apart before, so that every `quality` is evaluated on the same ones. Raises RequestError where
    nothing is left.
    """
    controlled = Controlled(list(trajectories), [], {})
    if config.trajectories.kind != "scripted":
        controlled = control(trajectories, config.quality, check_settings(config, environment))
    if trajectories and not controlled.kept:
        rules = ", ".join(f"{rule} {sum(numbers)}" for rule, numbers in controlled.counts.items())
        raise RequestError(
            f"quality: its rules drop every one of the {len(trajectories)} trajectories ({rules}).\n"
            "`nat audit` shows what was found; switch rules off, e.g. quality=default, or none."
        )
    return controlled._replace(kept=[as_agent(config, trajectory) for trajectory in controlled.kept])


def check_settings(config: Config, environment: Environment) -> CheckSettings:
    """What the checks of trajectories need to know.

    Tools count that agent=cot does not call, and the texts of all strategies: cells that differ in agent or strategy
    alone train on the same trajectories.
    """
    tools = {tool.name for tool in environment.tools}
    if isinstance(config.environment, BenchmarkConfig):
        tools.update(config.environment.tools)
    own = [class_.text for class_ in config.strategy.classes]
    return CheckSettings(tuple(sorted(tools)), tuple(sorted({*own, *shipped_conditioning_texts()} - {""})))


def as_agent(config: Config, trajectory: Trajectory) -> Trajectory:
    """The trajectory as the configured agent would have told it: actions as text, or one chain of thought."""
    messages = trajectory.messages
    if any(message.tool_calls for message in messages):
        messages = as_react_text(messages)
    if config.agent.style == "cot":
        messages = chain_of_thought(messages)
    return trajectory if messages is trajectory.messages else replace(trajectory, messages=messages)


def earn_trajectories(
    environment: worlds.WorldConfig,
    split: worlds.Split,
    wanted: dict[bool, int],
    rate_key: str = "environment.failure_rate",
) -> list[Trajectory]:
    """Let the scripted policy play until it has earned the wanted numbers of successes (True) and failures (False).

    Raises RequestError, naming `rate_key` as what set its failure rate, where it does not earn them.
    """
    return cache.cached(
        "trajectories",
        [asdict(environment), split, wanted[True], wanted[False]],
        lambda: _earn_trajectories(environment, split, wanted, rate_key),
        cache.encode_trajectories,
        cache.decode_trajectories,
    )


def _earn_trajectories(
    environment: worlds.WorldConfig, split: worlds.Split, wanted: dict[bool, int], rate_key: str
) -> list[Trajectory]:
    kept: list[Trajectory] = []
    earned: Counter[bool] = Counter()
    limit = 1000 * (sum(wanted.values()) + 1)  # attempts: a policy that (almost) never fails must not play for ever
    attempts = 0
    if not any(wanted.values()):
        return []
    for trajectory in islice(worlds.endless_trajectories(environment, split), limit):
        attempts += 1
        success = trajectory.outcome.success
        if earned[success] < wanted[success]:
            kept.append(trajectory)
            earned[success] += 1
            if all(earned[success] >= number for success, number in wanted.items()):
                return kept
    larger = "" if attempts == limit else ", environment.knowledge (the world has no more questions)"
    raise RequestError(
        f"trajectories: after {attempts} attempts at {rate_key}={environment.failure_rate} the "
        f"policy had earned {earned[True]} of {wanted[True]} successes and {earned[False]} of {wanted[False]} failures."
        f"\nChange {rate_key}{larger}, trajectories.successes or trajectories.failures."
    )


class SetApart(NamedTuple):
    questions: list[Question]  # of `evaluation.split`
    validation: list[Question]  # the `evaluation.n_validation` that are asked as well; disjoint from `questions`
    kept: list[Trajectory]  # that may train
    held_out: list[Trajectory]  # on a question that is kept for evaluation
    left_out: list[DroppedRow]  # rows of question files that are not asked
    elsewhere: dict[str, Elsewhere]  # the questions of further environments, by their names in `also_in`


def questions_elsewhere(config: Config, name: str) -> tuple[Elsewhere, list[DroppedRow]]:
    """A further environment with as many questions as the run's own, and rows of its files that are not asked.

    Raises RequestError where it has none.
    """
    config = replace(config, environment=config.also_in[name])
    environment, evaluation = make_environment(config), config.evaluation
    try:
        found, left_out = questions_of(config, environment, [], evaluation.split, evaluation.n_questions)
    except RequestError as error:
        raise RequestError(str(error).replace("environment.", f"also_in.{name}.")) from None
    if not found and evaluation.kind != "none":
        raise RequestError(
            f"also_in.{name}.questions={config.environment.questions}: no {evaluation.split} question to ask there."
        )
    return Elsewhere(environment, found[: evaluation.n_questions]), left_out


def set_questions_apart(config: Config, environment: Environment, pool: Sequence[Trajectory]) -> SetApart:
    """Nothing is trained and evaluated on the same question, by normalised text. Raises RequestError."""
    world, evaluation = config.environment, config.evaluation
    found, left_out = questions_of(config, environment, pool, evaluation.split, evaluation.n_questions)
    asked = question_sets.texts(found)
    validation: list[Question] = []
    # A question file is a test set, all of it: then there is nothing to validate on.
    validates = evaluation.n_validation and evaluation.split == "test" and evaluation.kind != "none"
    if validates and world.questions in (None, "held_out"):
        candidates, _ = questions_of(config, environment, pool, "validation", evaluation.n_validation or 0)
        fresh = [question for question in candidates if question_sets.normalise(question.text) not in asked]
        validation = fresh[: evaluation.n_validation]
    elsewhere: dict[str, Elsewhere] = {}
    for name in config.also_in:
        elsewhere[name], others_left_out = questions_elsewhere(config, name)
        left_out = [*left_out, *others_left_out]
    asked_elsewhere = question_sets.texts([question for other in elsewhere.values() for question in other.questions])
    unavailable = asked | question_sets.texts(validation) | asked_elsewhere
    kept, held_out = [], []
    for trajectory in pool:
        if world.questions == "held_out":  # all of them, not only as many as are asked
            assert not worlds.is_world(world)
            apart = question_sets.is_held_out(trajectory.question, world.held_out)
            apart = apart or question_sets.normalise(trajectory.question) in asked_elsewhere
        else:
            apart = question_sets.normalise(trajectory.question) in unavailable
        (held_out if apart else kept).append(trajectory)
    if not pool and config.trajectories.kind != "scripted" and config.training.objective != "none":
        raise RequestError(f"trajectories.path={config.trajectories.path}: the files hold no trajectory.")
    if not found and evaluation.kind != "none":
        unscored = sum(trajectory.outcome.reference is None for trajectory in pool)
        raise RequestError(
            f"environment.questions={world.questions}: no {evaluation.split} question to evaluate on "
            f"({len(pool)} trajectories, {unscored} of them without outcome.reference).\n"
            "Give references, raise environment.held_out, name a question file, or take evaluation=none."
        )
    if pool and not kept:
        raise RequestError(
            f"environment.questions={world.questions}: every one of the {len(pool)} trajectories is on an "
            "evaluation question; none is left to train on."
        )
    return SetApart(found[: evaluation.n_questions], validation, kept, held_out, left_out, elsewhere)


def questions_of(
    config: Config, environment: Environment, pool: Sequence[Trajectory], split: Literal["validation", "test"], n: int
) -> LoadedQuestions:
    """The questions of a split: a world's or an own environment's first `n`; all that files or the hub hold."""
    world = config.environment
    if worlds.is_world(world):
        return LoadedQuestions(generate_questions(world, split, n), [])
    if world.questions == "held_out":
        return LoadedQuestions(question_sets.hold_out(pool, world.held_out, split), [])
    if world.questions is None:
        if environment.questions is None and config.evaluation.kind == "none":
            return LoadedQuestions([], [])
        return LoadedQuestions(custom.own_questions(environment, split, n), [])
    benchmarks.check_split(world.questions, split)
    return benchmarks.load_questions(world.questions, world.fields, world.on_bad_row, environment.score)


def unseen_trajectories(config: Config, held_out: Sequence[Trajectory]) -> dict[str, list[Trajectory]]:
    """The trajectories of each outcome, on questions that nothing is trained on, whose loss is to be measured.

    Of files the held-out ones, in the files' order; of a world the scripted policy's on validation questions.
    """
    n = config.evaluation.n_class_losses
    if n and config.trajectories.kind == "scripted" and worlds.is_world(config.environment):
        held_out = earn_trajectories(config.environment, "validation", {True: n, False: n})
    positives, negatives = pools(held_out, config.mixing)
    return {
        "successes": [as_agent(config, trajectory) for trajectory in positives[:n]],
        "failures": [as_agent(config, trajectory) for trajectory in negatives[:n]],
    }


def generate_questions(environment: worlds.WorldConfig, split: worlds.Split, n: int) -> list[Question]:
    return cache.cached(
        "questions",
        [asdict(environment), split, n],
        lambda: worlds.make_questions(environment, split, n),
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
                lambda question, name=name, environment=environment: prompt_of(
                    config, environment, question.text, name
                ),
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
        lambda question, name: prompt_of(config, prepared.environment, question, name),
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
    if question_file := trajectory_files.question_file(config.trajectories):
        tree["trajectories"]["questions"] = str(question_file.absolute())
    if files := search.files(config.search):
        tree["search"]["path"] = [str(path.absolute()) for path in files]
    for group in ("environment", "search"):
        questions = tree[group]["questions"]
        if questions is not None and Path(questions).is_file():  # no file: held_out, or a name on the hub
            tree[group]["questions"] = str(Path(questions).absolute())
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
    controlled: Controlled,
    bad_rows: Sequence[DroppedRow],
) -> dict[str, Any]:
    """What was selected, from where, what was not and why; the four counts add up to what was read.

    Rows that could not be read at all have no label; they stand apart, as `bad_rows`.
    """
    success = {trajectory.id: trajectory.outcome.success for trajectory in controlled.kept}
    reasons = sorted({drop.reason for drop in dropped})
    by_rule = {rule: {"positives": p, "negatives": n} for rule, (p, n) in controlled.counts.items()}
    by_quality = [{"trajectory_id": d.id, "reason": d.rule, "detail": d.detail} for d in controlled.dropped]
    return {
        "hash": mixed.hash,
        "trajectories": config.trajectories.path or f"{config.trajectories.kind} in {config.environment.name}",
        "selected": counts(list({t.id: t for t in mixed.selected}.values())),
        "repeats": len(mixed.selected) - len({t.id for t in mixed.selected}),  # with mixing.oversample
        "unused": counts(mixed.unused),
        "held_out": counts(held_out),
        "dropped": by_rule
        | {
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
        "dropped_trajectories": by_quality + [drop._asdict() for drop in dropped],
        **listed("bad_rows", bad_rows),
    }


def listed(name: str, rows: Sequence[Any]) -> dict[str, list[dict[str, str]]]:
    """Rows of files that are left out, for the manifest; nothing where there are none."""
    return {name: [row._asdict() for row in rows]} if rows else {}


def describe(config: Config, prepared: Prepared) -> Iterator[str]:
    """What was chosen, for the terminal."""
    held_out = config.environment.questions == "held_out"
    origin = "held out of the trajectory files" if held_out else f"of {config.environment.name}"
    yield f"questions     {len(prepared.questions)} {config.evaluation.split} questions {origin}"
    name = config.environment.name
    of_the_world = prepared.mixed and all(t.question_id.startswith(f"{name}-") for t in prepared.mixed.selected)
    if config.trajectories.kind != "scripted" and worlds.is_world(config.environment) and not of_the_world:
        yield f"warning: trained on your files, evaluated in the built-in {name} world (environment={name});"
        yield "         environment=gsm8k evaluates on questions held out of the files"
    if len(prepared.questions) < config.evaluation.n_questions and config.evaluation.kind != "none":
        yield f"              (evaluation.n_questions={config.evaluation.n_questions}: there are no more)"
    manifest = prepared.manifest
    for what in ("questions", "documents"):
        for reason, number in Counter(row["reason"] for row in manifest.get(f"{what}_left_out", ())).items():
            yield f"              {number} rows of the files are no {what}: {reason} (listed in manifest.json)"
    for reason, number in sorted(Counter(row["reason"] for row in manifest.get("bad_rows", ())).items()):
        yield f"left out      {number} rows of the files: {reason} (listed in manifest.json)"
    if config.agent.style == "cot" and any("Action" in class_.text for class_ in config.strategy.classes):
        yield f"warning: strategy={config.strategy.name} tells of Action steps; agent={config.agent.name} takes none."
        yield "         strategy=prefix_correct marks the classes without a word about them"
    if prepared.mixed is None:
        return
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
        "ratio": config.mixing.ratio if config.mixing.kind in ("ratio", "replaced") else None,
        "positives": n_positives,
        "negatives": n_negatives,
        "seed": config.seed,
        "model": config.model.name,
        "split": config.evaluation.split,
        "manifest": manifest_hash,
    }


STAGES = {
    "class_losses": "measuring losses",
    "prepare": "reading and tokenizing",
    "load_model": "loading the model",
    "save": "saving the model",
}


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
