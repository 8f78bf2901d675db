"""Which questions a run evaluates on, set apart from those it may train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nat.agents.actions import AgentConfig
from nat.core import questions as question_sets
from nat.core.rows.bad import DroppedRow
from nat.environments import benchmarks, custom
from nat.environments.benchmarks import LoadedQuestions
from nat.environments.config import EnvironmentConfig
from nat.environments.worlds import worlds
from nat.environments.worlds.earning import generate_questions
from nat.environments.worlds.knowledge_base import Split
from nat.evaluation.config import EvaluationConfig
from nat.search.config import SearchConfig
from nat.stages.environment import make_environment
from nat.types import Environment, Question, RequestError, Trajectory


class Elsewhere(NamedTuple):
    """A further environment in which the trained model is asked; see `also_in` in conf/config.yaml."""

    environment: Environment
    questions: list[Question]  # of `evaluation.split`
    left_out: list[DroppedRow]  # rows of its question files that are not asked


class SetApart(NamedTuple):
    questions: list[Question]  # of `evaluation.split`
    validation: list[Question]  # the `evaluation.n_validation` that are asked as well; disjoint from `questions`
    kept: list[Trajectory]  # that may train
    held_out: list[Trajectory]  # on a question that is kept for evaluation
    left_out: list[DroppedRow]  # rows of question files that are not asked


def questions_of(
    world: EnvironmentConfig, environment: Environment, split: Split, n: int, pool: Sequence[Trajectory] = ()
) -> LoadedQuestions:
    """The questions of a split: a world's or an own environment's first `n`; all that files or the hub hold.

    A question file has no splits. Those of `held_out` are taken out of the trajectories in `pool`; its split `train` is
    what is left. Raises RequestError where an own environment has none, and for a file that cannot be used.
    """
    if worlds.is_world(world):
        return LoadedQuestions(generate_questions(world, split, n), [])
    if world.questions == "held_out":
        taken = (
            question_sets.not_held_out(pool, world.held_out)
            if split == "train"
            else question_sets.hold_out(pool, world.held_out, split)
        )
        return LoadedQuestions(taken, [])
    if world.questions is None:
        return LoadedQuestions(custom.own_questions(environment, split, n), [])
    return benchmarks.load_questions(world.questions, world.fields, world.on_bad_row, environment.score)


def questions_to_evaluate(
    world: EnvironmentConfig,
    environment: Environment,
    evaluation: EvaluationConfig,
    pool: Sequence[Trajectory] = (),
) -> LoadedQuestions:
    """Those of `evaluation.split`, not yet cut to `n_questions`.

    None of an own environment that makes none, where none are asked (evaluation=none).
    """
    makes_none = world.questions is None and environment.questions is None and not worlds.is_world(world)
    if makes_none and evaluation.kind == "none":
        return LoadedQuestions([], [])
    benchmarks.check_split(world.questions, evaluation.split)
    return questions_of(world, environment, evaluation.split, evaluation.n_questions, pool)


def questions_elsewhere(
    name: str, world: EnvironmentConfig, agent: AgentConfig, searched: SearchConfig, evaluation: EvaluationConfig
) -> Elsewhere:
    """The further environment `also_in.NAME` with as many questions as the run's own.

    Raises RequestError where it has none.
    """
    environment = make_environment(world, agent, searched)
    try:
        found, left_out = questions_to_evaluate(world, environment, evaluation)
    except RequestError as error:
        raise RequestError(str(error).replace("environment.", f"also_in.{name}.")) from None
    if not found and evaluation.kind != "none":
        raise RequestError(f"also_in.{name}.questions={world.questions}: no {evaluation.split} question to ask there.")
    return Elsewhere(environment, found[: evaluation.n_questions], left_out)


def set_questions_apart(
    world: EnvironmentConfig,
    environment: Environment,
    evaluation: EvaluationConfig,
    elsewhere: Mapping[str, Elsewhere],
    pool: Sequence[Trajectory],
) -> SetApart:
    """Nothing is trained and evaluated on the same question, by normalised text. Raises RequestError."""
    found, left_out = questions_to_evaluate(world, environment, evaluation, pool)
    asked = question_sets.texts(found)
    validation: list[Question] = []
    # A question file is a test set, all of it: then there is nothing to validate on.
    validates = evaluation.n_validation and evaluation.split == "test" and evaluation.kind != "none"
    if validates and world.questions in (None, "held_out"):
        candidates, _ = questions_of(world, environment, "validation", evaluation.n_validation or 0, pool)
        fresh = [question for question in candidates if question_sets.normalise(question.text) not in asked]
        validation = fresh[: evaluation.n_validation]
    asked_elsewhere = question_sets.texts([question for other in elsewhere.values() for question in other.questions])
    unavailable = asked | question_sets.texts(validation) | asked_elsewhere
    kept, held_out = [], []
    for trajectory in pool:
        if world.questions == "held_out":  # all of them, not only as many as are asked
            apart = question_sets.is_held_out(trajectory, world.held_out)
            apart = apart or question_sets.normalise(trajectory.question) in asked_elsewhere
        else:
            apart = question_sets.normalise(trajectory.question) in unavailable
        (held_out if apart else kept).append(trajectory)
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
    return SetApart(found[: evaluation.n_questions], validation, kept, held_out, left_out)
