"""The trajectories that may train: read or generated, controlled, and counted against what mixing asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nat import trajectories as trajectory_files
from nat.checks import CheckSettings, shipped_conditioning_texts
from nat.config import Config
from nat.environments import worlds
from nat.environments.benchmarks import BenchmarkConfig
from nat.environments.earning import earn_trajectories
from nat.mixing import ByRatio, check_enough, mix, pools
from nat.quality import Controlled, control
from nat.stages.environment import scorer
from nat.strategy import StrategyClass, classify
from nat.training import NoTraining
from nat.trajectories import ScriptedTrajectories, TrajectoryFiles
from nat.trajectories.json_lines import DroppedRow
from nat.trajectories.told import as_agent
from nat.types import Environment, RequestError, Trajectory


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
    if isinstance(config.mixing, ByRatio) and config.mixing.hold == "tokens":
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


def read_trajectories(config: Config, dropped: list[DroppedRow] | None = None) -> list[Trajectory]:
    """The pool to choose from; empty where neither training nor held-out questions need one.

    Rows of the files that cannot be used are added to `dropped` (with `trajectories.on_bad_row=drop`; else an error),
    and so are, always, episodes that broke for reasons that are not the policy's (`infrastructure`).
    """
    asked = config.trajectories
    is_idle = isinstance(config.training, NoTraining)
    if isinstance(asked, ScriptedTrajectories):
        if is_idle:
            return []
        assert worlds.is_world(config.environment)
        world, successes, failures, rate = config.environment, asked.successes, asked.failures, asked.failures_rate
        if rate is None or rate == world.failure_rate:
            return earn_trajectories(world, "train", {True: successes, False: failures})
        # Both policies try the same questions: their attempts have the same ids.
        key = "trajectories.failures_rate"
        other = earn_trajectories(replace(world, failure_rate=rate), "train", {True: 0, False: failures}, key)
        renamed = [replace(trajectory, id=f"{trajectory.id}@{rate:g}") for trajectory in other]
        return earn_trajectories(world, "train", {True: successes, False: 0}) + renamed
    if is_idle and config.environment.questions != "held_out":
        return []
    score = scorer(config) if asked.label is not None else None
    return list(trajectory_files.read(asked, dropped, score))


def training_pool(config: Config, environment: Environment, trajectories: Sequence[Trajectory]) -> Controlled:
    """What quality control leaves of the trajectories that may train, as the configured agent would have told it.

    Questions are set apart before, so that every `quality` is evaluated on the same ones. Raises RequestError where
    nothing is left.
    """
    controlled = Controlled(list(trajectories), [], {})
    if isinstance(config.trajectories, TrajectoryFiles):
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


def unseen_trajectories(config: Config, held_out: Sequence[Trajectory]) -> dict[str, list[Trajectory]]:
    """The trajectories of each outcome, on questions that nothing is trained on, whose loss is to be measured.

    Of files the held-out ones, in the files' order; of a world the scripted policy's on validation questions.
    """
    n = config.evaluation.n_class_losses
    if n and isinstance(config.trajectories, ScriptedTrajectories) and worlds.is_world(config.environment):
        held_out = earn_trajectories(config.environment, "validation", {True: n, False: n})
    positives, negatives = pools(held_out, config.mixing)
    return {
        "successes": [as_agent(config, trajectory) for trajectory in positives[:n]],
        "failures": [as_agent(config, trajectory) for trajectory in negatives[:n]],
    }
