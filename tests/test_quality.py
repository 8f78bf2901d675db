from __future__ import annotations

import json
import tracemalloc
from dataclasses import asdict, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from nat.core.paths import CONF_DIR
from nat.quality import rules as quality
from nat.quality.checks import CHECKS
from nat.quality.config import CHECK_RULES, KEPT, RULES, QualityConfig
from nat.quality.copies import collection_verdicts, key_of, row_of
from nat.quality.marks import CheckSettings, Mark
from nat.quality.rules import Applies, control, rule_of
from nat.types import Message, Outcome, Trajectory

UNUSED: Any = None  # settings of the checks, where none runs


@cache
def option(name: str) -> QualityConfig:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        tree = OmegaConf.to_container(compose(f"quality/{name}").quality)
    return TypeAdapter(QualityConfig).validate_json(json.dumps(tree), strict=True)


def only(**rules: Any) -> QualityConfig:
    """Every rule off but these."""
    return replace(option("custom"), **rules)


def said(id: str, *contents: str, success: bool = True, question: str = "How many?", **fields: Any) -> Trajectory:
    """Agent turns and observations in turn, beginning with the agent's."""
    messages = tuple(Message("tool" if i % 2 else "assistant", content) for i, content in enumerate(contents))
    failure = fields.pop("failure", "wrong_answer")
    outcome = Outcome(success, float(success), None if success else failure)
    return Trajectory(id, "q", question, messages, outcome, **fields)


def dropped(trajectories: list[Trajectory], config: QualityConfig) -> dict[str, str]:
    """id: rule"""
    return {drop.id: drop.rule for drop in control(trajectories, config, UNUSED).dropped}


# ---- the options ----


def test_default_drops_what_nobody_can_want_and_strict_uses_every_rule():
    on = {name: value for name, value in asdict(option("default")).items() if value is not None and value is not False}
    assert on == {
        "infrastructure": True,
        "min_agent_turns": 1,
        "conflicting_labels": True,
        "exact_duplicates": True,
        "failed_turns": "all",
    }
    off = {name: value for name, value in asdict(option("none")).items() if value is not None and value is not False}
    assert off == {"failed_turns": "all"}
    assert option("custom") == option("none")
    named = yaml.safe_load((CONF_DIR / "quality" / "default.yaml").read_text(encoding="utf-8"))
    assert all(value for name, value in asdict(option("strict")).items() if name in named)
    assert set(asdict(option("strict"))) == {*RULES, "failed_turns"}
    assert len(named) == 20


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"unparsed_action": 0}, "0: it must be false (keep), true (drop) or the number, from 1, that is one too many"),
        ({"secret": "yes"}, "'yes': it must be false (keep), true (drop)"),
        ({"min_agent_turns": 3, "max_agent_turns": 2}, "max_agent_turns=2 with min_agent_turns=3 drops every"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(values, problem):
    with pytest.raises(ValidationError) as error:
        TypeAdapter(QualityConfig).validate_json(json.dumps({**asdict(option("none")), **values}), strict=True)
    assert error.value.error_count() == 1
    assert problem in str(error.value)


def test_every_rule_of_a_check_is_a_check_and_stands_among_the_rules_in_its_order():
    assert tuple(name for name, check in CHECKS.items() if check.rule is not None) == CHECK_RULES
    assert tuple(asdict(option("default"))) == (*RULES, "failed_turns")


def test_a_rule_of_a_check_is_off_where_no_option_names_it_and_the_others_must_be_named():
    def read(values: dict[str, Any]) -> QualityConfig:
        return TypeAdapter(QualityConfig).validate_json(json.dumps(values), strict=True)

    values = asdict(option("strict"))
    del values["secret"]
    assert read(values) == replace(option("strict"), secret=False)
    with pytest.raises(ValidationError, match="secrets"):
        read({**values, "secrets": True})
    del values["exact_duplicates"]
    with pytest.raises(ValidationError, match="exact_duplicates"):
        read(values)


# ---- one trajectory ----


def test_each_length_rule_drops_at_its_threshold_and_not_before():
    two = said("a", "12345", "678", "90", question="12345")  # 2 agent turns, 15 characters
    assert rule_of(two, [], only(min_agent_turns=2, max_agent_turns=2, max_characters=15)) is None
    assert rule_of(two, [], only(min_agent_turns=3)) == Applies(
        "min_agent_turns", "2 agent turns with text or a call, fewer than 3"
    )
    assert rule_of(two, [], only(max_agent_turns=1)) == Applies(
        "max_agent_turns", "2 agent turns with text or a call, more than 1"
    )
    assert rule_of(two, [], only(max_characters=14)) == Applies("max_characters", "15 characters, more than 14")


def test_by_default_an_agent_that_never_says_or_calls_anything_goes():
    calls = Message("assistant", "", tool_calls=({"name": "search"},))
    assert rule_of(said("a", " \n", "x", ""), [], option("default")) == Applies(
        "min_agent_turns", "0 agent turns with text or a call, fewer than 1"
    )
    assert rule_of(replace(said("b"), messages=(calls,)), [], option("default")) is None
    assert rule_of(said("c", "", "x", "y"), [], option("default")) is None
    broken = said("d", "x", success=False, failure="infrastructure")
    assert rule_of(broken, [], option("default")) == Applies(
        "infrastructure", "the episode broke for reasons that are not the policy's"
    )
    assert rule_of(broken, [], option("none")) is None


def test_a_check_drops_from_its_number_on_and_tells_the_first():
    marks = [
        Mark("calculator_slip", 1, 0, 1, "2+2 is 4"),
        Mark("unparsed_action", 2, 0, 1, "no tool named fly"),
        Mark("unparsed_action", 4, 0, 1, "no bracket"),
    ]
    trajectory = said("a", "a", "b", "c", "d", "e")
    assert rule_of(trajectory, marks, only(unparsed_action=3)) is None
    two = Applies("unparsed_action", "message 2: no tool named fly, and 1 more")
    assert rule_of(trajectory, marks, only(unparsed_action=2)) == two
    assert rule_of(trajectory, marks, only(unparsed_action=True)) == two
    # in the order of RULES, not of the marks
    assert rule_of(trajectory, marks, only(unparsed_action=True, calculator_slip=1)) == two
    assert rule_of(trajectory, marks, only(calculator_slip=True)) == Applies("calculator_slip", "message 1: 2+2 is 4")
    assert rule_of(trajectory, [Mark("unfinished", None, 0, 0, "no answer")], only(unfinished=True)) == Applies(
        "unfinished", "no answer"
    )


def test_checks_run_only_where_a_rule_needs_them(monkeypatch):
    asked = []
    monkeypatch.setattr("nat.quality.rules.check", lambda trajectory, settings: asked.append(trajectory.id) or [])
    both = [said("p", "x"), said("n", "y", success=False)]
    control(both, option("default"), UNUSED)
    assert asked == []
    control(both, only(failed_turns="until_first_error"), UNUSED)
    assert asked == ["n"]
    control(both, only(secret=True), UNUSED)
    assert asked == ["n", "p", "n"]


# ---- loss of failed turns ----


def flags(trajectory: Trajectory, marks: list[Mark], failed_turns: str) -> list[bool]:
    return [
        message.train
        for message in quality.with_loss_flags(trajectory, marks, only(failed_turns=failed_turns)).messages
        if message.role == "assistant"
    ]


def test_turns_of_failures_carry_loss_until_the_first_error():
    failure = said("n", "t0", "o1", "t2", "o3", "t4", "o5", "t6", success=False)
    slip = [Mark("calculator_slip", 4, 0, 1, ""), Mark("unparsed_action", 2, 0, 1, "")]
    assert flags(failure, slip, "until_first_error") == [True, True, False, False]
    assert flags(failure, slip, "all") == [True, True, True, True]
    assert flags(failure, slip, "none") == [False, False, False, False]
    without = quality.with_loss_flags(failure, slip, only(failed_turns="none"))
    assert [m.content for m in without.messages if m.train] == ["o1", "o3", "o5"]  # only the agent's turns are touched
    # a refusal belongs to the turn before it
    assert flags(failure, [Mark("observation_error", 3, 0, 1, "")], "until_first_error") == [True, True, False, False]
    # what is no error of the agent's, or stands nowhere, decides nothing: then all turns train
    other = [Mark("secret", 0, 0, 1, ""), Mark("unfinished", None, 0, 0, ""), Mark("observation_error", None, 0, 0, "")]
    assert flags(failure, other, "until_first_error") == [True, True, True, True]


def test_no_turn_is_switched_on_and_successes_stay_as_they_are():
    failure = said("n", "t0", "o1", "t2", "o3", "t4", success=False)
    off = replace(failure, messages=(replace(failure.messages[0], train=False), *failure.messages[1:]))
    error = [Mark("unparsed_action", 2, 0, 1, "")]
    assert flags(off, error, "until_first_error") == [False, True, False]
    assert flags(off, error, "all") == [False, True, True]
    success = said("p", "t0", "o1", "t2")
    assert flags(success, error, "none") == [True, True]
    before = asdict(failure)
    quality.with_loss_flags(failure, error, only(failed_turns="none"))
    assert asdict(failure) == before


def test_flags_are_set_on_what_is_kept_and_copies_are_found_without_them(monkeypatch):
    monkeypatch.setattr("nat.quality.rules.check", lambda trajectory, settings: [Mark("unparsed_action", 0, 0, 1, "")])
    failure = said("n", "t0", "o1", "t2", success=False)
    switched = replace(failure, id="m", messages=tuple(replace(m, train=False) for m in failure.messages))
    found = control([failure, switched], only(failed_turns="until_first_error", exact_duplicates=True), UNUSED)
    assert found.counts == {"exact_duplicates": (0, 1)}
    (kept,) = found.kept
    assert [m.train for m in kept.messages if m.role == "assistant"] == [kept.id == "n", False]


def test_with_the_real_checks_an_episode_trains_up_to_its_slip_and_a_refusal_is_dropped():
    slips = said("slips", "Thought: Subtract.\nAction: calculate[16-3]", "12", "Thought: Done.\nAction: finish[12]",
                 success=False)  # fmt: skip
    refused = said("refused", "Action: calculate[16-]", "Error: the expression cannot be read as arithmetic",
                   "Action: finish[13]")  # fmt: skip
    config = only(observation_error=True, failed_turns="until_first_error")
    found = control([slips, refused], config, CheckSettings(("calculate",), ()))
    assert [[m.train for m in t.messages if m.role == "assistant"] for t in found.kept] == [[True, False]]
    assert [(d.id, d.rule) for d in found.dropped] == [("refused", "observation_error")]
    assert found.dropped[0].detail.startswith("message 1")


# ---- the collection ----


def test_one_of_several_copies_is_kept_whatever_their_order():
    copies = [said(id, "x", question=question) for id, question in (("a", "Who?"), ("b", "who? "), ("c", "Who?"))]
    others = [said("d", "x!", question="Who?"), said("e", "x", question="Whom?")]
    config = only(exact_duplicates=True)
    found = control([*copies, *others], config, UNUSED, wheres=["f:1", "f:2", "f:3", "f:4", "f:5"])
    assert [trajectory.id for trajectory in found.kept] == ["c", "d", "e"]  # the hash of "c" is the smallest
    assert [(d.where, d.id, d.rule, d.detail, d.success) for d in found.dropped] == [
        ("f:1", "a", "exact_duplicates", "the same text with the same label as c (f:3)", True),
        ("f:2", "b", "exact_duplicates", "the same text with the same label as c (f:3)", True),
    ]
    assert found.counts == {"exact_duplicates": (2, 0)}
    assert dropped([*others, *reversed(copies)], config) == {"a": "exact_duplicates", "b": "exact_duplicates"}


def test_roles_contents_boundaries_and_calls_tell_texts_apart():
    base = said("a", "one", "two")
    call = {"name": "f", "arguments": {"x": 1, "y": 2}}
    different = [
        base,
        said("b", "onetwo"),
        said("c", "one", "two", ""),
        replace(base, id="d", messages=(Message("assistant", "one"), Message("user", "two"))),
        replace(base, id="e", messages=(Message("assistant", "one", tool_calls=(call,)), Message("tool", "two"))),
    ]
    assert len({key_of(trajectory) for trajectory in different}) == 5
    other_order = {"arguments": {"y": 2, "x": 1}, "name": "f"}
    same = replace(base, messages=(Message("assistant", "one", tool_calls=(other_order,)), Message("tool", "two")))
    assert key_of(same) == key_of(different[4])
    assert len(key_of(said("f", "half a pair \ud800"))) == 16


def test_a_text_with_both_labels_is_dropped_with_all_its_copies():
    made = [said("p1", "x"), said("n", "x", success=False), said("p2", "x"), said("ok", "y")]
    found = control(made, option("default"), UNUSED)
    assert [trajectory.id for trajectory in found.kept] == ["ok"]
    assert found.counts == {"conflicting_labels": (2, 1)}
    details = {d.id: d.detail for d in found.dropped}
    assert details["p1"] == details["p2"] == "the same text is labelled success and failure; n has the other label"
    assert details["n"].endswith(("; p1 has the other label", "; p2 has the other label"))
    # each rule without the other
    assert dropped(made, only(exact_duplicates=True)) in ({"p1": "exact_duplicates"}, {"p2": "exact_duplicates"})
    assert dropped(made, only(conflicting_labels=True)) == dict.fromkeys(["p1", "n", "p2"], "conflicting_labels")


def test_what_another_rule_drops_takes_no_part():
    broken = said("n", "x", success=False, failure="infrastructure")
    assert dropped([said("p", "x"), broken], option("default")) == {"n": "infrastructure"}


def test_so_many_of_each_label_stay_on_a_question_and_fewer_of_these_where_fewer_are_wanted():
    made = [said(f"{'p' if ok else 'n'}{q}{i}", f"{q}{i}", success=ok, question=f"Q {q}?")
            for q in range(2) for i in range(5) for ok in (True, False)]  # fmt: skip
    left = {}
    for most in (1, 2, 5):
        kept = [t.id for t in control(made, only(max_per_question=most), UNUSED).kept]
        assert sorted(id[:2] for id in kept) == sorted(["n0", "n1", "p0", "p1"] * most)
        left[most] = set(kept)
    assert left[1] < left[2] < left[5]
    found = control(made, only(max_per_question=3), UNUSED)
    assert found.counts == {"max_per_question": (4, 4)}
    assert {d.detail for d in found.dropped} == {"the question has more than 3 of this label"}


def test_copies_do_not_count_among_the_trajectories_of_a_question():
    made = [said("a", "x"), said("b", "x"), said("c", "y")]
    assert dropped(made, only(exact_duplicates=True, max_per_question=2)) == {"a": "exact_duplicates"}


def test_off_means_that_nothing_is_dropped_or_switched_off():
    assert quality.is_off(option("none"))
    assert not quality.is_off(option("default"))
    assert not quality.is_off(only(failed_turns="none"))
    assert not quality.is_off(only(max_per_question=3))


def test_files_can_be_renamed():
    made = [said(f"t{i}", "x") for i in range(9)]
    before = control(made, option("default"), UNUSED, [f"a.jsonl:{i}" for i in range(9)])
    after = control(made, option("default"), UNUSED, [f"b/c.jsonl:{i}" for i in range(9)])
    assert [t.id for t in before.kept] == [t.id for t in after.kept]


def test_nothing_gives_nothing():
    assert control([], option("strict"), UNUSED) == quality.Controlled([], [], {})
    assert len(collection_verdicts(b"", option("strict")).rule) == 0


few = st.sampled_from
trajectories_of_few_kinds = st.lists(
    st.builds(
        said,
        few("abcd"),  # ids recur in what is audited
        few(["x", "y", ""]),
        few(["x", "y"]),
        success=st.booleans(),
        question=few(["Q?", "q?", "R?"]),
        source=few(["", "s"]),
        failure=few(["wrong_answer", "infrastructure"]),
    ),
    max_size=14,
)


@settings(max_examples=150, deadline=None)
@given(trajectories_of_few_kinds, st.randoms(use_true_random=False), st.sampled_from([None, 1, 2]), st.booleans())
def test_order_decides_nothing_and_the_packed_rows_tell_the_same(made, random, most, conflicting):
    config = replace(option("default"), max_per_question=most, conflicting_labels=conflicting)
    wheres = [f"f:{i}" for i in range(len(made))]
    found = control(made, config, UNUSED, wheres)
    assert len(found.kept) + len(found.dropped) == len(made)

    shuffled = random.sample(range(len(made)), len(made))
    again = control([made[i] for i in shuffled], config, UNUSED, [wheres[i] for i in shuffled])
    assert sorted(map(repr, again.kept)) == sorted(map(repr, found.kept))
    assert sorted(again.dropped) == sorted(found.dropped)
    assert again.counts == found.counts

    # by definition, without numpy: what is left holds no text twice and no text with two labels
    texts = [(key_of(t), t.outcome.success) for t in found.kept]
    assert len(set(texts)) == len(texts)
    if conflicting:
        assert len({text for text, _ in texts}) == len(texts)
    # and the rules drop nothing more from it
    assert control(found.kept, config, UNUSED).dropped == []

    rows, own = bytearray(), []
    for where, trajectory in zip(wheres, made, strict=True):
        applies = rule_of(trajectory, [], config)
        own.append(applies)
        rows += row_of(trajectory, where, applies and applies.rule)
    verdicts = collection_verdicts(rows, config)
    streamed = {wheres[i]: RULES[number] for i, number in enumerate(verdicts.rule) if number != KEPT}
    assert streamed == {drop.where: drop.rule for drop in found.dropped}


def test_a_row_takes_less_than_a_hundred_bytes():
    """Rows and all that is made of them, at the peak."""
    one = row_of(said("a", "x"), "f:1", None)
    assert len(one) == 34
    n = 100_000
    texts = np.random.default_rng(0).integers(0, 256, (n, 32), np.uint8)
    rows = bytearray(np.hstack([texts, np.tile(np.array([1, 255], np.uint8), (n, 1))]).tobytes())
    assert len(rows) == 34 * n
    tracemalloc.start()
    verdicts = collection_verdicts(rows, replace(option("default"), max_per_question=1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (verdicts.rule == KEPT).all()
    assert 34 + peak / n < 100
