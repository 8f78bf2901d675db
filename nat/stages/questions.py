"""Which questions a run evaluates on, set apart from those it may train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from nat import questions as question_sets
from nat.config import Config
from nat.environments import benchmarks, custom, worlds
from nat.environments.benchmarks import LoadedQuestions
from nat.environments.earning import generate_questions
from nat.stages.environment import make_environment
from nat.training import NoTraining
from nat.trajectories import TrajectoryFiles
from nat.trajectories.json_lines import DroppedRow
from nat.types import Environment, Question, RequestError, Trajectory


class Elsewhere(NamedTuple):
    """A further environment in which the trained model is asked; see `also_in` in conf/config.yaml."""

    environment: Environment
    questions: list[Question]  # of `evaluation.split`


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
    trains = not isinstance(config.training, NoTraining)
    if not pool and isinstance(config.trajectories, TrajectoryFiles) and trains:
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
