"""The trajectories that may train: read or generated, controlled, and counted against what mixing asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nat.agents.actions import AgentConfig
from nat.core.rows.bad import DroppedRow
from nat.environments.benchmarks import BenchmarkConfig
from nat.environments.config import EnvironmentConfig
from nat.environments.worlds import worlds
from nat.environments.worlds.earning import earn_trajectories
from nat.environments.worlds.worlds import WorldConfig
from nat.examples.mixing import ByRatio, MixingConfig, NotFilled, check_enough, mix, pools
from nat.examples.strategy import StrategyClass, StrategyConfig, classify, shipped_conditioning_texts
from nat.quality.config import QualityConfig
from nat.quality.marks import CheckSettings
from nat.quality.rules import Controlled, control
from nat.stages.environment import make_environment, scorer_of
from nat.trajectories import reading as trajectory_files
from nat.trajectories.config import ScriptedTrajectories, TrajectoriesConfig
from nat.trajectories.label_files import Labels
from nat.trajectories.told import as_agent
from nat.types import Environment, RequestError, Trajectory


def read_trajectories(
    trajectories: TrajectoriesConfig,
    world: EnvironmentConfig,
    agent: AgentConfig,
    *,
    trains: bool,
    dropped: list[DroppedRow] | None = None,
    joined: Labels | None = None,
) -> list[Trajectory]:
    """The pool to choose from; empty where neither training nor held-out questions need one.

    Rows of the files that cannot be used are added to `dropped` (with `trajectories.on_bad_row=drop`; else an error),
    and so are, always, episodes that broke for reasons that are not the policy's (`infrastructure`). Raises
    RequestError where there is none to train on. `joined` are the labels of other files, which count what they met.
    """
    if isinstance(trajectories, ScriptedTrajectories):
        if not trains:
            return []
        assert worlds.is_world(world)
        return _earned(trajectories, world)
    if not trains and world.questions != "held_out":
        return []
    score = scorer_of(make_environment(world, agent)) if trajectories.label is not None else None
    pool = list(trajectory_files.read(trajectories, dropped, score, joined))
    if trains and not pool:
        raise RequestError(f"trajectories.path={trajectories.path}: the files hold no trajectory.")
    return pool


def _earned(trajectories: ScriptedTrajectories, world: WorldConfig) -> list[Trajectory]:
    successes, failures, rate = trajectories.successes, trajectories.failures, trajectories.failures_rate
    if rate is None or rate == world.failure_rate:
        return earn_trajectories(world, "train", {True: successes, False: failures})
    # Both policies try the same questions: their attempts have the same ids.
    asked = "trajectories.failures_rate"
    other = earn_trajectories(replace(world, failure_rate=rate), "train", {True: 0, False: failures}, asked)
    renamed = [replace(trajectory, id=f"{trajectory.id}@{rate:g}") for trajectory in other]
    return earn_trajectories(world, "train", {True: successes, False: 0}) + renamed


def training_pool(
    trajectories: Sequence[Trajectory], environment: Environment, rules: tuple[QualityConfig, CheckSettings] | None
) -> Controlled:
    """What quality control leaves of the trajectories that may train, as the environment's agent would have told it.

    Questions are set apart before, so that every `quality` is evaluated on the same ones. Raises RequestError where
    nothing is left.

    Args:
        rules: of quality control; None for generated trajectories, none of which is left out.
    """
    controlled = Controlled(list(trajectories), [], {})
    if rules is not None:
        controlled = control(trajectories, *rules)
    if trajectories and not controlled.kept:
        counts = ", ".join(f"{rule} {sum(numbers)}" for rule, numbers in controlled.counts.items())
        raise RequestError(
            f"quality: its rules drop every one of the {len(trajectories)} trajectories ({counts}).\n"
            "`nat audit` shows what was found; switch rules off, e.g. quality=default, or none."
        )
    return controlled._replace(kept=[as_agent(environment, trajectory) for trajectory in controlled.kept])


def check_weights(trajectories: Sequence[Trajectory]) -> None:
    """Refuse turns that count more or less than others: no objective weighs them yet. Raises RequestError."""
    weighted = [
        (trajectory, message.weight)
        for trajectory in trajectories
        for message in trajectory.messages
        if message.role == "assistant" and message.train and message.weight != 1
    ]
    if weighted:
        n = len({trajectory.id for trajectory, _ in weighted})
        first, weight = weighted[0]
        raise RequestError(
            f"trajectories: {len(weighted)} turns of {n} trajectories have a loss weight other than 0 and 1 "
            f"(first: {weight:g} in {first.id!r}),\nand training=sft counts every trained token alike.\n"
            "Write 0 (no loss) or 1 there."
        )


def check_settings(world: EnvironmentConfig, environment: Environment, strategy: StrategyConfig) -> CheckSettings:
    """What the checks of trajectories need to know.

    Tools count that agent=cot does not call, and the texts of all strategies: cells that differ in agent or strategy
    alone train on the same trajectories.
    """
    tools = {tool.name for tool in environment.tools}
    if isinstance(world, BenchmarkConfig):
        tools.update(world.tools)
    own = [class_.text for class_ in strategy.classes]
    return CheckSettings(tuple(sorted(tools)), tuple(sorted({*own, *shipped_conditioning_texts()} - {""})))


def classified(
    pool: Sequence[Trajectory],
    held_out: Sequence[Trajectory],
    mixing: MixingConfig,
    strategy: StrategyConfig,
    world: EnvironmentConfig,
    seed: int,
) -> list[StrategyClass]:
    """The class of each trajectory. Raises RequestError where strategy or mixing cannot be served by this pool.

    `held_out` are those that the evaluation took away, for the message.
    """
    try:
        check_enough(mixing, *map(len, pools(pool, mixing)))
    except NotFilled as error:
        successes = sum(trajectory.outcome.success for trajectory in held_out)
        if not held_out:
            raise
        raise NotFilled(
            f"{error}\n{successes} successes and {len(held_out) - successes} failures are kept out of training: their "
            f"questions are evaluated on (environment.questions={world.questions})."
        ) from None
    if not strategy.is_shuffled:
        return classify(pool, strategy)
    if isinstance(mixing, ByRatio) and mixing.hold == "tokens":
        raise RequestError(
            f"mixing.hold=tokens: strategy={strategy.name} deals its marks out among the chosen trajectories, "
            "and tokens are counted after that; take mixing.hold=positives or total."
        )
    # Within what is chosen, so that the marks stay as frequent as the labels are.
    chosen = {trajectory.id for trajectory in mix(pool, mixing, seed).selected}
    classes: dict[str, StrategyClass] = {}
    for group in ([t for t in pool if t.id in chosen], [t for t in pool if t.id not in chosen]):
        classes |= {t.id: class_ for t, class_ in zip(group, classify(group, strategy), strict=True)}
    return [classes[trajectory.id] for trajectory in pool]


def unseen_trajectories(
    held_out: Sequence[Trajectory],
    n: int,
    mixing: MixingConfig,
    environment: Environment,
    generated: WorldConfig | None,
) -> dict[str, list[Trajectory]]:
    """`n` trajectories of each outcome, on questions that nothing is trained on, whose loss is to be measured.

    Of files the held-out ones, in the files' order; of a world (`generated`) the scripted policy's on validation
    questions.
    """
    if n and generated is not None:
        held_out = earn_trajectories(generated, "validation", {True: n, False: n})
    positives, negatives = pools(held_out, mixing)
    return {
        "successes": [as_agent(environment, trajectory) for trajectory in positives[:n]],
        "failures": [as_agent(environment, trajectory) for trajectory in negatives[:n]],
    }
