"""The scripted agent of the search worlds: faultless, and with each kind of error alone."""

from __future__ import annotations

import json
import re
from random import Random

import pytest
from pydantic import ValidationError

from nat.agents.scoring import exact_match_score, yes_no_score
from nat.agents.turns import play
from nat.environments.worlds.knowledge_base import RELATIONS
from nat.environments.worlds.search_policy import Plan, SearchErrors, answer_of, conclude, fallible_policy, perform
from nat.tools.compare import COMPARISON
from nat.types import Environment, Message, Question, Rollout
from tests.worlds_for_tests import HAND_MADE, KINDS, only, only_errors

BRIDGE = Plan((("Blue Tome", ("author", "born", "land")),), "value")
OLDER_BOOK = Plan((("Blue Tome", ("year",)), ("Grey Tome", ("year",))), "first if before")
COULD_HAVE_READ = Plan((("Ada Moor", ("died",)), ("Grey Tome", ("year",))), "yes if after")
NATIVE = Plan((("Blue Tome", ("author", "born")), ("Oak Hill", ())), "yes if same")
ONE_SEARCH = Plan((("Oak Hill", ("land",)),), "value")
CASES = {  # what the thought before the comparison ends with
    OLDER_BOOK: "Before: Blue Tome. After: Grey Tome",
    COULD_HAVE_READ: "After: yes. Before: no. Same: no",
    NATIVE: "Same: yes. Different: no",
}
PLANS = (BRIDGE, OLDER_BOOK, COULD_HAVE_READ, NATIVE, ONE_SEARCH)

FAULTLESS_BRIDGE = [
    "Thought: Author.\nAction: search[Blue Tome author]",
    "#1 The author of Blue Tome is Ada Moor. #2 Blue Tome is set in Oak Hill.",
    "Thought: Ada Moor. Born.\nAction: search[Ada Moor born]",
    "#1 Ada Moor was born in Oak Hill. #2 Ben Moor was born in Elm Ford.",
    "Thought: Oak Hill. Land.\nAction: search[Oak Hill land]",
    "#1 Oak Hill lies in the land of North Land. #2 The capital of North Land is Oak Hill.",
    "Thought: North Land. Done.\nAction: finish[North Land]",
]
FAULTLESS_READING = [
    "Thought: Died.\nAction: search[Ada Moor died]",
    "#1 Ada Moor died in 1800. #2 Ben Moor died in 1830.",
    "Thought: 1800. Year.\nAction: search[Grey Tome year]",
    "#1 Grey Tome came out in the year 1820. #2 Grey Tome is set in Elm Ford.",
    "Thought: 1820. After: yes. Before: no. Same: no.\nAction: compare[1800, 1820]",
    "before",
    "Thought: Before: no. Done.\nAction: finish[no]",
]


def contents(messages: list[Message] | tuple[Message, ...]) -> list[str]:
    return [message.content for message in messages]


def finish(messages: list[Message] | tuple[Message, ...]) -> str:
    return re.findall(r"finish\[(.*?)\]", messages[-1].content)[0]


def environment_for(plan: Plan) -> Environment:
    score = yes_no_score if plan.rule.startswith("yes") else exact_match_score
    return Environment("by hand", "", (HAND_MADE.tool, COMPARISON), score, 8)


def played(plan: Plan, kind: str | None, seed: int = 0) -> tuple[Rollout, list[str]]:
    """An episode with an error of this kind at every search."""
    rate = 0.0 if kind is None else 1.0
    policy, errors = fallible_policy(plan, HAND_MADE, rate, only_errors(kind or "abstention"), Random(seed))
    answer = answer_of(plan, HAND_MADE)
    assert answer is not None
    return play(environment_for(plan), Question("q", "?", answer), policy), errors


# ---- plans ----


@pytest.mark.parametrize(
    ("chains", "rule", "answer"),
    [
        ([["Blue Tome", ["author", "born", "land"]]], "value", "North Land"),
        ([["Grey Tome", ["author", "spouse", "died"]]], "value", "1800"),
        ([["South Land", ["capital", "mayor"]]], "value", "Ada Moor"),
        ([["Blue Tome", ["author", "land"]]], "value", None),  # people lie in no land
        ([["Blue Tome", ["year"]], ["Grey Tome", ["year"]]], "first if before", "Blue Tome"),
        ([["Blue Tome", ["year"]], ["Grey Tome", ["year"]]], "first if after", "Grey Tome"),
        ([["Ada Moor", ["birth"]], ["Ben Moor", ["birth"]]], "first if before", "Ben Moor"),
        ([["Ada Moor", ["birth"]], ["Ada Moor", ["birth"]]], "first if before", None),  # neither comes first
        ([["Ada Moor", ["died"]], ["Blue Tome", ["year"]]], "yes if after", "yes"),
        ([["Ada Moor", ["died"]], ["Grey Tome", ["year"]]], "yes if after", "no"),
        ([["Ada Moor", ["born"]], ["Ben Moor", ["born"]]], "yes if same", "no"),
        ([["Ada Moor", ["born"]], ["Ben Moor", ["born"]]], "yes if different", "yes"),
        ([["Blue Tome", ["author", "born"]], ["Oak Hill", []]], "yes if same", "yes"),
        ([["Grey Tome", ["set", "land"]], ["North Land", []]], "yes if same", "no"),
        ([["Red Tome", ["year"]], ["Grey Tome", ["year"]]], "yes if after", None),  # nobody wrote a Red Tome
    ],
)
def test_the_answer_of_a_plan(chains: list[list[object]], rule: str, answer: str | None) -> None:
    plan = Plan.read({"chains": chains, "rule": rule})
    assert answer_of(plan, HAND_MADE) == answer
    assert plan.metadata() == {"chains": chains, "rule": rule}


def test_a_plan_survives_json() -> None:
    for plan in PLANS:
        assert Plan.read(json.loads(json.dumps(plan.metadata()))) == plan


@pytest.mark.parametrize(
    ("relation", "answer"),
    [("before", "no"), ("after", "yes"), ("same", "no"), ("different", "no"), ("Error: x.", "no")],
)
def test_only_the_wanted_relation_means_yes(relation: str, answer: str) -> None:
    assert conclude(COULD_HAVE_READ, ["1", "2"], relation) == answer


# ---- without errors ----


def test_the_faultless_bridge() -> None:
    assert contents(perform(BRIDGE, HAND_MADE)) == FAULTLESS_BRIDGE
    assert contents(played(BRIDGE, None)[0].messages) == FAULTLESS_BRIDGE


def test_the_faultless_comparison() -> None:
    assert contents(perform(OLDER_BOOK, HAND_MADE)) == [
        "Thought: Year.\nAction: search[Blue Tome year]",
        "#1 Blue Tome came out in the year 1790. #2 Blue Tome is set in Oak Hill.",
        "Thought: 1790. Year.\nAction: search[Grey Tome year]",
        "#1 Grey Tome came out in the year 1820. #2 Grey Tome is set in Elm Ford.",
        "Thought: 1820. Before: Blue Tome. After: Grey Tome.\nAction: compare[1790, 1820]",
        "before",
        "Thought: Before: Blue Tome. Done.\nAction: finish[Blue Tome]",
    ]


def test_the_faultless_yes_or_no() -> None:
    assert contents(perform(COULD_HAVE_READ, HAND_MADE)) == FAULTLESS_READING


def test_a_value_of_the_question_itself_is_not_searched_for() -> None:
    assert contents(perform(NATIVE, HAND_MADE))[4:] == [
        "Thought: Oak Hill. Same: yes. Different: no.\nAction: compare[Oak Hill, Oak Hill]",
        "same",
        "Thought: Same: yes. Done.\nAction: finish[yes]",
    ]


@pytest.mark.parametrize("plan", PLANS)
def test_the_faultless_policy_succeeds(plan: Plan) -> None:
    rollout, errors = played(plan, None)
    assert rollout.outcome.success and rollout.outcome.score == 1 and errors == []


def test_the_policy_reads_what_it_is_shown() -> None:
    """Not the facts: another observation leads elsewhere."""
    policy, _ = fallible_policy(BRIDGE, HAND_MADE, 0.0, only_errors("abstention"), Random(0))
    first = Message("assistant", policy(()))
    told = Message("tool", "#1 The author of Blue Tome is Eva Reed. #2 Blue Tome is set in Oak Hill.")
    assert policy((first, told)) == "Thought: Eva Reed. Born.\nAction: search[Eva Reed born]"


def test_the_policy_goes_on_with_its_own_query_where_nothing_is_found() -> None:
    policy, _ = fallible_policy(BRIDGE, HAND_MADE, 0.0, only_errors("abstention"), Random(0))
    first = Message("assistant", policy(()))
    assert (
        policy((first, Message("tool", "Nothing found.")))
        == "Thought: Blue Tome. Born.\nAction: search[Blue Tome born]"
    )


# ---- each kind of error alone ----


def test_a_wrong_entity_is_the_second_snippets() -> None:
    messages = perform(BRIDGE, HAND_MADE, [None, "wrong_entity"])
    assert contents(messages) == [
        *FAULTLESS_BRIDGE[:4],
        "Thought: Elm Ford. Land.\nAction: search[Elm Ford land]",
        "#1 Elm Ford lies in the land of South Land. #2 The capital of South Land is Elm Ford.",
        "Thought: South Land. Done.\nAction: finish[South Land]",
    ]
    rollout, errors = played(ONE_SEARCH, "wrong_entity")
    assert finish(rollout.messages) == "Oak Hill" and errors == ["wrong_entity"]
    assert (rollout.outcome.failure, rollout.outcome.score) == ("wrong_answer", 0.0)


def test_a_misread_year_turns_the_comparison_around() -> None:
    """Ada died in 1800, but the second snippet says 1830, which is after 1820."""
    messages = perform(COULD_HAVE_READ, HAND_MADE, ["wrong_entity"])
    assert contents(messages)[4:] == [
        "Thought: 1820. After: yes. Before: no. Same: no.\nAction: compare[1830, 1820]",
        "after",
        "Thought: After: yes. Done.\nAction: finish[yes]",
    ]


def test_a_wrong_relation_asks_for_another_fact_about_the_right_name() -> None:
    found = {finish(played(ONE_SEARCH, "wrong_relation", seed)[0].messages) for seed in range(10)}
    assert found == {"Ben Moor", "1701"}  # the mayor of Oak Hill, and when it was founded
    for seed in range(10):
        rollout, _ = played(ONE_SEARCH, "wrong_relation", seed)
        first, *_ = contents(rollout.messages)
        assert first in (
            "Thought: Mayor.\nAction: search[Oak Hill mayor]",
            "Thought: Founded.\nAction: search[Oak Hill founded]",
        )
        assert rollout.outcome.failure == "wrong_answer"


def test_an_early_stop_finishes_with_what_it_has() -> None:
    assert contents(perform(BRIDGE, HAND_MADE, ["early_stop"])) == ["Thought: Done.\nAction: finish[Blue Tome]"]
    assert contents(perform(BRIDGE, HAND_MADE, [None, "early_stop"])) == [
        *FAULTLESS_BRIDGE[:2],
        "Thought: Ada Moor. Done.\nAction: finish[Ada Moor]",
    ]
    assert finish(perform(BRIDGE, HAND_MADE, [None, None, "early_stop"])) == "Oak Hill"


def test_an_early_stop_guesses_where_the_answer_is_one_of_two() -> None:
    for plan, both in ((OLDER_BOOK, {"Blue Tome", "Grey Tome"}), (COULD_HAVE_READ, {"yes", "no"})):
        episodes = [played(plan, "early_stop", seed)[0] for seed in range(12)]
        assert {finish(episode.messages) for episode in episodes} == both
        assert all(len(episode.messages) == 1 for episode in episodes)
        # Half of the guesses are right, and then they are successes: the answer alone decides.
        assert {episode.outcome.success for episode in episodes} == {True, False}


def test_a_repeated_search_costs_a_turn_and_nothing_else() -> None:
    rollout, errors = played(BRIDGE, "repeated_search")
    assert errors == ["repeated_search"] * 3
    doubled = [text for i in (0, 2, 4) for text in FAULTLESS_BRIDGE[i : i + 2] * 2]  # each action and its observation
    assert contents(rollout.messages) == [*doubled, FAULTLESS_BRIDGE[-1]]
    assert rollout.outcome.success


def test_an_over_answer_is_partly_right() -> None:
    """`North Land of Oak Hill`: 2 of 5 words are right and 2 of 2 are there, so F1 is 4/7."""
    rollout, _ = played(BRIDGE, "over_answer")
    assert contents(rollout.messages) == [
        *FAULTLESS_BRIDGE[:-1],
        "Thought: North Land. Done.\nAction: finish[North Land of Oak Hill]",
    ]
    assert not rollout.outcome.success and rollout.outcome.score == pytest.approx(4 / 7)
    assert rollout.outcome.failure == "wrong_answer"


@pytest.mark.parametrize("plan", [OLDER_BOOK, COULD_HAVE_READ, NATIVE])
def test_an_over_answer_has_no_effect_where_the_answer_is_one_of_two(plan: Plan) -> None:
    rollout, errors = played(plan, "over_answer")
    assert rollout.outcome.success and errors
    assert contents(rollout.messages) == contents(perform(plan, HAND_MADE))


def test_a_wrong_conclusion_follows_right_searches() -> None:
    assert contents(played(BRIDGE, "wrong_conclusion")[0].messages) == [
        *FAULTLESS_BRIDGE[:-1],
        "Thought: Oak Hill. Done.\nAction: finish[Oak Hill]",
    ]
    assert contents(played(OLDER_BOOK, "wrong_conclusion")[0].messages)[5:] == [
        "before",
        "Thought: Before: Grey Tome. Done.\nAction: finish[Grey Tome]",
    ]
    assert contents(played(COULD_HAVE_READ, "wrong_conclusion")[0].messages) == [
        *FAULTLESS_READING[:-1],
        "Thought: Before: yes. Done.\nAction: finish[yes]",
    ]


def test_the_family_name_alone_is_partly_right() -> None:
    """Ada's spouse is Ben Moor; the name before it is Ada Moor: one of two words is right."""
    plan = Plan((("Blue Tome", ("author", "spouse")),), "value")
    rollout, _ = played(plan, "wrong_conclusion")
    assert finish(rollout.messages) == "Ada Moor"
    assert not rollout.outcome.success and rollout.outcome.score == 0.5


def test_an_abstention_is_a_failure_of_its_own_kind() -> None:
    rollout, errors = played(COULD_HAVE_READ, "abstention")
    assert contents(rollout.messages) == ["Thought: Done.\nAction: finish[unknown]"]
    assert (rollout.outcome.failure, rollout.outcome.prediction) == ("abstained", "unknown")
    assert errors == ["abstention", "abstention"]
    assert contents(perform(BRIDGE, HAND_MADE, [None, None, "abstention"])) == [
        *FAULTLESS_BRIDGE[:4],
        "Thought: Oak Hill. Done.\nAction: finish[unknown]",
    ]


def test_a_malformed_action_is_mended_in_half_of_the_cases() -> None:
    malformed = "Thought: Land.\nAction: search Oak Hill land"
    refusal = "Error: after 'Action:' comes no tool[input]."
    episodes = [played(ONE_SEARCH, "malformed_action", seed)[0] for seed in range(40)]
    mended = [episode for episode in episodes if episode.outcome.success]
    assert 10 <= len(mended) <= 30
    for episode in episodes:
        if episode.outcome.success:
            assert contents(episode.messages) == [
                malformed,
                refusal,
                "Thought: Land.\nAction: search[Oak Hill land]",
                "#1 Oak Hill lies in the land of North Land. #2 The capital of North Land is Oak Hill.",
                "Thought: North Land. Done.\nAction: finish[North Land]",
            ]
        else:
            assert contents(episode.messages)[::2] == [malformed] * 8
            assert set(contents(episode.messages)[1::2]) == {refusal}
            assert episode.outcome.failure == "unparsed_action"


# ---- rates ----


def test_one_draw_for_each_search_of_the_plan() -> None:
    n_searches = [3, 2, 2, 2, 1]
    for plan, n in zip(PLANS, n_searches, strict=True):
        _, errors = played(plan, "repeated_search")
        assert errors == ["repeated_search"] * n


def test_errors_come_at_the_set_rate_and_in_the_set_proportions() -> None:
    weights = SearchErrors(**{**only("wrong_entity"), "abstention": 3.0})
    planned = [fallible_policy(BRIDGE, HAND_MADE, 0.3, weights, Random(seed))[1] for seed in range(500)]
    errors = [error for one in planned for error in one]
    assert len(errors) / 1500 == pytest.approx(0.3, abs=0.05)
    assert errors.count("abstention") / len(errors) == pytest.approx(0.75, abs=0.08)
    assert set(errors) == {"abstention", "wrong_entity"}


def test_a_higher_rate_only_adds_errors() -> None:
    weights = SearchErrors(**dict.fromkeys(KINDS, 1.0))
    added = 0
    for seed in range(200):
        low, high = (fallible_policy(BRIDGE, HAND_MADE, rate, weights, Random(seed))[1] for rate in (0.1, 0.5))
        remaining = iter(high)
        assert all(kind in remaining for kind in low), "in the same order, with others between them"
        added += len(high) - len(low)
    assert added > 150


def test_the_same_seed_gives_the_same_episode() -> None:
    for plan in PLANS:
        for kind in KINDS:
            assert played(plan, kind, 7)[0] == played(plan, kind, 7)[0]


# ---- thoughts ----


def every_episode() -> list[tuple[Plan, Rollout]]:
    weights = SearchErrors(**dict.fromkeys(KINDS, 1.0))
    episodes = []
    for plan in PLANS:
        answer = answer_of(plan, HAND_MADE) or ""
        for seed in range(60):
            policy, _ = fallible_policy(plan, HAND_MADE, 0.5, weights, Random(seed))
            episodes.append((plan, play(environment_for(plan), Question("q", "?", answer), policy)))
    return episodes


def test_a_thought_fits_its_action_erring_or_not() -> None:
    """It begins with what the last search told, right or misread, and ends with what the action does."""
    seen = set()
    for plan, rollout in every_episode():
        told_so_far = observation = ""
        for message in rollout.messages:
            if message.role == "tool":
                observation = message.content
                told_so_far += observation
                continue
            turn = re.fullmatch(r"Thought: (.+)\.\nAction: (\w+)[\[ ](.+?)\]?", message.content)
            assert turn is not None, message.content
            thought, tool, input = turn.groups()
            *begins, ends = thought.split(". ")
            seen.add(tool)
            if tool == "search":
                assert ends.lower() in RELATIONS and input.endswith(f" {ends.lower()}")
            elif tool == "compare":
                assert thought.endswith(CASES[plan])
                begins = thought.removesuffix(CASES[plan]).rstrip(". ").split(". ")
                assert begins[0] in input.split(", ")
            else:
                assert ends == "Done"
                if begins and ": " in begins[0]:
                    assert begins.pop() == f"{observation.capitalize()}: {input}"
            assert len(begins) <= 1
            assert all(told in told_so_far or told == plan.chains[0][0] for told in begins)
    assert seen == {"search", "compare", "finish"}


@pytest.mark.parametrize(
    ("rule", "cases"),
    [
        ("first if before", "Before: Ada Moor. After: Ben Moor."),
        ("first if after", "After: Ada Moor. Before: Ben Moor."),
        ("yes if before", "Before: yes. After: no. Same: no."),
        ("yes if after", "After: yes. Before: no. Same: no."),
        ("yes if same", "Same: yes. Different: no."),
        ("yes if different", "Different: yes. Same: no."),
    ],
)
def test_before_a_comparison_stands_what_each_result_will_mean(rule: str, cases: str) -> None:
    turns = contents(perform(Plan((("Ada Moor", ("died",)), ("Ben Moor", ("died",))), rule), HAND_MADE))
    assert turns[4] == f"Thought: 1830. {cases}\nAction: compare[1800, 1830]"


def test_every_episode_ends_within_its_turns_and_by_the_agents_own_doing() -> None:
    kinds = {rollout.outcome.failure for _, rollout in every_episode()}
    assert kinds >= {None, "wrong_answer", "abstained", "unparsed_action"}
    assert "infrastructure" not in kinds


# ---- weights ----


def test_weights_must_say_what_can_go_wrong() -> None:
    with pytest.raises(ValidationError, match="at least one weight must be above 0"):
        SearchErrors(**dict.fromkeys(KINDS, 0.0))
    with pytest.raises(ValidationError, match="abstention"):
        SearchErrors(**{**only("wrong_entity"), "abstention": -1.0})
