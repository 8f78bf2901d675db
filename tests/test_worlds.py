"""The built-in worlds, asked for by their configuration alone."""

from __future__ import annotations

from itertools import islice
from random import Random
from typing import Any

import pytest

from nat.agents.turns import play
from nat.environments.worlds import worlds
from nat.environments.worlds.scripted import scripted_trajectories
from nat.environments.worlds.worlds import WorldConfig
from nat.types import Environment, Message, Question, Score, Tool
from tests.test_arithmetic import shipped as arithmetic_config
from tests.test_config import compose
from tests.worlds_for_tests import SMALL, multihop_config, strategic_config

CONFIGS: dict[str, WorldConfig] = {
    "arithmetic": arithmetic_config(),
    "multihop": multihop_config(knowledge=SMALL),
    "strategic": strategic_config(knowledge=SMALL),
}
TOOLS = {"arithmetic": ["calculate"], "multihop": ["search", "compare"], "strategic": ["search", "compare"]}


def test_the_names_of_the_worlds() -> None:
    assert worlds.NAMES == ("arithmetic", "multihop", "strategic")
    assert [config.kind for config in CONFIGS.values()] == [*worlds.NAMES]


@pytest.mark.parametrize("name", worlds.NAMES)
def test_each_world_is_an_environment_option(name: str) -> None:
    environment = compose(f"environment={name}").environment
    assert worlds.is_world(environment) and environment.kind == environment.name == name


def test_a_benchmark_is_no_world() -> None:
    assert not worlds.is_world(
        compose("environment=svamp", "trajectories=jsonl", "trajectories.path=x.jsonl").environment
    )
    assert not worlds.is_world(None)


@pytest.mark.parametrize("name", worlds.NAMES)
def test_a_world_by_its_configuration(name: str) -> None:
    config = CONFIGS[name]
    environment = worlds.make_environment(config)
    assert environment.name == name and [tool.name for tool in environment.tools] == TOOLS[name]
    questions = worlds.make_questions(config, "train", 4)
    assert [question.id for question in questions] == [f"{name}-0-train-{place:05d}" for place in range(4)]
    trajectories = list(islice(worlds.endless_trajectories(config), 8))
    # Two attempts at one question after another.
    assert [one.question_id for one in trajectories] == [q.id for q in questions for _ in range(2)]
    assert [one.id for one in trajectories] == [
        f"{question.id}-{attempt}" for question in questions for attempt in (0, 1)
    ]
    for one in trajectories:
        assert one.source == "scripted" and one.metadata["failure_rate"] == 0.15
        assert one.messages[-1].role in ("assistant", "tool") and one.messages[0].role == "assistant"


@pytest.mark.parametrize("name", worlds.NAMES)
def test_the_scripted_policy_of_a_question_is_the_one_of_the_trajectories(name: str) -> None:
    config = CONFIGS[name]
    environment = worlds.make_environment(config)
    for one in islice(worlds.endless_trajectories(config, "validation"), 6):
        question = next(q for q in worlds.make_questions(config, "validation", 3) if q.id == one.question_id)
        attempt = one.id.rpartition("-")[2]
        policy, errors = worlds.scripted_policy(config, question, Random(f"{name} policy {question.id} {attempt}"))
        assert play(environment, question, policy).messages == one.messages
        assert errors == one.metadata["errors"]


@pytest.mark.parametrize("name", worlds.NAMES)
def test_worlds_of_one_seed_share_no_question_with_another_split(name: str) -> None:
    texts = [
        {q.text for q in worlds.make_questions(CONFIGS[name], split, 100)} for split in ("train", "validation", "test")
    ]
    assert len(set.union(*texts)) == 300


# ---- any scripted policy ----


def echo(answers: dict[str, str]) -> Any:
    """A policy that asks the tool once and gives the answer set for the question."""

    def policy_of(question: Question, rng: Random) -> Any:
        number = rng.randint(0, 999)

        def policy(messages: tuple[Message, ...]) -> str:
            if not messages:
                return f"Action: repeat[{number}]"
            return f"Action: finish[{answers[question.id]}]"

        return policy, ["wrong"] if answers[question.id] != question.answer else []

    return policy_of


def test_success_is_the_environments_verdict() -> None:
    environment = Environment(
        "echo",
        "",
        (Tool("repeat", lambda text: f"you said {text}"),),
        lambda given, wanted: Score(given == wanted, float(given == wanted)),
        3,
    )
    questions = [Question("a", "A?", "1"), Question("b", "B?", "2")]
    made = list(
        scripted_trajectories(
            environment, questions, echo({"a": "1", "b": "9"}), world="echo", attempts_per_question=2, failure_rate=0.5
        )
    )
    assert [(one.id, one.question, one.outcome.success, one.metadata) for one in made] == [
        ("a-0", "A?", True, {"errors": [], "failure_rate": 0.5}),
        ("a-1", "A?", True, {"errors": [], "failure_rate": 0.5}),
        ("b-0", "B?", False, {"errors": ["wrong"], "failure_rate": 0.5}),
        ("b-1", "B?", False, {"errors": ["wrong"], "failure_rate": 0.5}),
    ]
    # An attempt has its own draws, and always the same ones.
    number = Random("echo policy a 0").randint(0, 999)
    assert [message.content for message in made[0].messages] == [
        f"Action: repeat[{number}]",
        f"you said {number}",
        "Action: finish[1]",
    ]
    assert made[0].messages != made[1].messages
