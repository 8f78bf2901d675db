"""What holds for both worlds with a search tool."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import combinations, islice
from typing import Any

import pytest

from nat.environments.worlds import worlds
from nat.environments.worlds.knowledge_base import Split
from nat.environments.worlds.search_policy import Plan
from tests.worlds_for_tests import SMALL, SPLITS, knowledge_of, look_up, multihop_config, outcomes, strategic_config

pytestmark = pytest.mark.parametrize("shipped", [multihop_config, strategic_config], ids=["multihop", "strategic"])
Shipped = Callable[..., Any]


def test_a_smaller_request_is_a_prefix_of_a_larger_one(shipped: Shipped) -> None:
    config = shipped()
    assert worlds.make_questions(config, "validation", 30) == worlds.make_questions(config, "validation", 50)[:30]
    few, more = (list(islice(worlds.endless_trajectories(shipped(knowledge=SMALL)), n)) for n in (20, 30))
    assert few == more[:20]


def test_splits_share_no_question_and_no_name_not_even_on_the_way(shipped: Shipped) -> None:
    config = shipped()
    texts: dict[Split, set[str]] = {}
    names: dict[Split, set[str]] = {}
    for split in SPLITS:
        questions = worlds.make_questions(config, split, 500)
        texts[split] = {question.text for question in questions}
        on_the_way = {value for q in questions for path in look_up(config, q) for value in path}
        in_texts = {name for text in texts[split] for name in re.findall(r"[A-Z][a-z]+ [A-Z][a-z]+", text)}
        names[split] = {value for value in on_the_way if not value.isdigit()}
        assert in_texts & set(knowledge_of(config).kind_of) <= names[split]
        assert len(texts[split]) == 500 and len(names[split]) > 150
    for one, other in combinations(SPLITS, 2):
        assert not texts[one] & texts[other]
        assert not names[one] & names[other]


def test_other_seeds_ask_other_questions(shipped: Shipped) -> None:
    one, other = ({q.text for q in worlds.make_questions(shipped(seed=seed), "test", 200)} for seed in (0, 1))
    assert not one & other


def test_the_plans_metadata_is_all_that_a_policy_needs(shipped: Shipped) -> None:
    for question in worlds.make_questions(shipped(knowledge=SMALL), "train", 20):
        assert set(question.metadata) == {"chains", "rule"}
        assert Plan.read(question.metadata).metadata() == question.metadata


def test_the_environments_tools(shipped: Shipped) -> None:
    config = shipped(knowledge=SMALL)
    environment = worlds.make_environment(config)
    assert [tool.name for tool in environment.tools] == ["search", "compare"]
    assert (environment.name, environment.protocol, environment.max_turns) == (config.kind, "react", 8)


@pytest.mark.parametrize("split", SPLITS)
def test_the_faultless_policy_always_succeeds(shipped: Shipped, split: Split) -> None:
    config = shipped(knowledge=SMALL, failure_rate=0.0)
    trajectories = list(islice(worlds.endless_trajectories(config, split), 200))
    assert all(one.outcome.success and not one.metadata["errors"] for one in trajectories)
    # Two or three searches; or one or two and a comparison; then the answer.
    assert {len(one.messages) for one in trajectories} == {5, 7}


def test_a_higher_rate_only_adds_errors(shipped: Shipped) -> None:
    low, high = (outcomes(shipped(knowledge=SMALL, failure_rate=rate)) for rate in (0.1, 0.4))
    for (*_, few), (*_, many) in zip(low, high, strict=True):
        remaining = iter(many)
        assert all(kind in remaining for kind in few)
    assert sum(len(errors) for *_, errors in high) > 2 * sum(len(errors) for *_, errors in low)
    assert sum(failure is None for failure, *_ in high) < sum(failure is None for failure, *_ in low)
