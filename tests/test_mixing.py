import json
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from nat.config.kinds import kinds
from nat.examples.mixing import MixingConfig, mix, parse_ratio, per_source, round_half_up
from nat.types import RequestError
from tests.conftest import make_trajectory

POOL = [make_trajectory(f"p{i}") for i in range(10)] + [make_trajectory(f"n{i}", success=False) for i in range(30)]


def config(kind="ratio", **changes) -> MixingConfig:
    values = {
        "ratio": "1:1",
        "hold": "positives",
        "positives": None,
        "negatives": None,
        "total": None,
        "tokens": None,
        "oversample": False,
        "questions": "any",
    }
    own = {key: value for key, value in values.items() if key in kinds()["mixing"].keys[kind]}
    return TypeAdapter(MixingConfig).validate_json(json.dumps({"kind": kind, **own, **changes}), strict=True)


def ids(trajectories) -> list[str]:
    return [t.id for t in trajectories]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1:3", (1, 3)),
        ("2:1", (2, 1)),
        ("1:0", (1, 0)),
        ("0:1", (0, 1)),
        ("1:0.5", (1, Fraction(1, 2))),
        (" 1 : 2 ", (1, 2)),
    ],
)
def test_a_ratio_is_two_exact_numbers(text, expected):
    assert parse_ratio(text) == expected


@pytest.mark.parametrize("text", ["0:0", "1:-2", "1:x", "3", "1:2:3", "", ":", "1:", "1e3:1", "٣:1:", "nan:1"])
def test_what_is_no_ratio_is_refused_with_its_text(text):
    with pytest.raises(ValueError, match=r"positives:negatives|asks for nothing") as error:
        parse_ratio(text)
    assert repr(text) in str(error.value)


def test_a_ratio_that_yaml_read_as_a_number_is_answered_with_the_remedy():
    with pytest.raises(ValidationError, match=r"63 is a number; write it in quotes"):
        config(ratio=63)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"negatives": 5}, r"(?s)ratio\.negatives\n.*Unexpected keyword argument"),
        ({"ratio": None}, r"(?s)ratio\.ratio\n.*valid string"),
        ({"kind": "positive_only", "negatives": 5}, r"(?s)positive_only\.negatives\n.*Unexpected keyword argument"),
        ({"kind": "counts", "ratio": "1:1"}, r"(?s)counts\.ratio\n.*Unexpected keyword argument"),
        ({"kind": "all", "ratio": "1:1"}, r"(?s)all\.ratio\n.*Unexpected keyword argument"),
        ({"kind": "all", "negatives": 5}, r"(?s)all\.negatives\n.*Unexpected keyword argument"),
        ({"hold": "total"}, "needs mixing.total"),
        ({"hold": "tokens"}, "needs mixing.tokens"),
        ({"hold": "total", "total": 8, "positives": 3}, "leave it null"),
        ({"positives": -1}, "greater than or equal to 0"),
        ({"total": 9}, "total=9 has no effect with hold=positives"),
        ({"hold": "questions"}, "'positives', 'total' or 'tokens'"),
    ],
)
def test_impossible_combinations_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        config(**changes)


def test_the_ratio_adds_negatives_to_all_positives():
    mixed = mix(POOL, config(ratio="1:2"), seed=0)
    assert (len(mixed.positives), len(mixed.negatives), len(mixed.unused)) == (10, 20, 10)
    assert all(t.outcome.success for t in mixed.positives)
    assert not any(t.outcome.success for t in mixed.negatives)


@pytest.mark.parametrize(
    ("ratio", "positives", "expected"),
    [
        ("1:0", None, (10, 0)),
        ("1:3", None, (10, 30)),
        ("2:1", None, (10, 5)),
        ("1:0.25", None, (10, 3)),  # 2.5 is rounded half up
        ("1:1.5", 3, (3, 5)),  # 4.5 is rounded half up
        ("3:1", 4, (4, 1)),  # 1.33
        ("0:1", None, (0, 30)),
    ],
)
def test_counts_when_the_positives_are_held(ratio, positives, expected):
    mixed = mix(POOL, config(ratio=ratio, positives=positives), seed=0)
    assert (len(mixed.positives), len(mixed.negatives)) == expected


@pytest.mark.parametrize(("ratio", "expected"), [("1:0", (9, 0)), ("1:1", (5, 4)), ("1:2", (3, 6)), ("1:8", (1, 8))])
def test_counts_when_the_total_is_held(ratio, expected):
    mixed = mix(POOL, config(ratio=ratio, hold="total", total=9), seed=0)
    assert (len(mixed.positives), len(mixed.negatives)) == expected


def test_counts_when_the_tokens_are_held():
    # 100 tokens at 1:3: 25 of positives (two of 10), 75 of negatives (18 of 4).
    tokens = {t.id: 10 if t.outcome.success else 4 for t in POOL}
    mixed = mix(POOL, config(ratio="1:3", hold="tokens", tokens=100), 0, tokens)
    assert (len(mixed.positives), len(mixed.negatives)) == (2, 18)
    with pytest.raises(RequestError, match="needs 250 trained tokens of positives; there are 100"):
        mix(POOL, config(ratio="1:1", hold="tokens", tokens=500), 0, tokens)
    # 250 tokens of positives: two rounds of all ten (200) and five more.
    again = mix(POOL, config(ratio="1:1", hold="tokens", tokens=500, oversample=True), 0, tokens)
    assert len(again.positives) == 25


def test_positive_only_takes_the_positives_that_the_ratio_would_take():
    with_negatives = mix(POOL, config(ratio="1:2", hold="total", total=9), seed=0)
    alone = mix(POOL, config(kind="positive_only", ratio="1:2", hold="total", total=9), seed=0)
    assert alone.positives == with_negatives.positives
    assert alone.negatives == ()


def test_exact_counts_and_all():
    mixed = mix(POOL, config(kind="counts", positives=2, negatives=7), seed=0)
    assert (len(mixed.positives), len(mixed.negatives)) == (2, 7)
    mixed = mix(POOL, config(kind="all"), seed=0)
    assert (len(mixed.positives), len(mixed.negatives), mixed.unused) == (10, 30, ())


def test_more_than_there_are_names_both_numbers_and_what_is_feasible():
    with pytest.raises(RequestError) as error:
        mix(POOL, config(ratio="1:4"), seed=0)
    assert "asks for 10 positives and 40 negatives; there are 10 and 30" in str(error.value)
    assert "the largest feasible mixing.positives is 7." in str(error.value)
    assert len(mix(POOL, config(ratio="1:4", positives=7), seed=0).negatives) == 28
    with pytest.raises(RequestError, match=r"largest feasible mixing\.total is 20"):
        mix(POOL, config(ratio="1:1", hold="total", total=50), seed=0)


def test_oversampling_repeats_in_the_fixed_order():
    mixed = mix(POOL, config(kind="counts", positives=12, negatives=0, oversample=True), seed=0)
    assert ids(mixed.positives)[10:] == ids(mixed.positives)[:2]


def test_nothing_to_repeat_is_an_error_even_when_oversampling():
    with pytest.raises(RequestError, match="there are 10 and 0"):
        mix(POOL[:10], config(ratio="1:1", oversample=True), seed=0)


def test_a_selection_does_not_depend_on_the_order_of_the_files():
    shuffled = random.Random(1).sample(POOL, len(POOL))
    first, second = mix(POOL, config(positives=4), 0), mix(shuffled, config(positives=4), 0)
    assert (first.selected, first.hash) == (second.selected, second.hash)


def test_seeds_choose_differently_and_the_hash_tells():
    first, second = mix(POOL, config(positives=4), seed=0), mix(POOL, config(positives=4), seed=1)
    assert set(ids(first.positives)) != set(ids(second.positives))
    assert first.hash != second.hash


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 3))
def test_a_smaller_selection_lies_inside_a_larger_one(n, more, seed):
    small = mix(POOL, config(ratio=f"1:{n}", positives=2), seed)
    large = mix(POOL, config(ratio=f"1:{n + more}", positives=2), seed)
    assert ids(large.negatives)[: len(small.negatives)] == ids(small.negatives)
    assert large.positives == small.positives


def test_the_order_is_pinned():
    # As `printf 0:p2 | sha256sum` and so on give it. Runs of different releases stay comparable: it may never change.
    assert ids(mix(POOL, config(positives=3), seed=0).selected) == ["p2", "p7", "p4", "n5", "n1", "n24"]


def test_negatives_of_shared_and_of_other_questions():
    pool = [
        make_trajectory("p", question="a"),
        make_trajectory("n1", success=False, question="a"),
        make_trajectory("n2", success=False, question="b"),
    ]
    assert ids(mix(pool, config(ratio="1:1", questions="shared"), 0).negatives) == ["n1"]
    assert ids(mix(pool, config(ratio="1:1", questions="disjoint"), 0).negatives) == ["n2"]
    with pytest.raises(RequestError, match=r"there are 1 and 1 \(after mixing.questions=shared\)"):
        mix(pool, config(ratio="1:2", questions="shared"), 0)


def test_selecting_nothing_is_an_error():
    with pytest.raises(RequestError, match="selects nothing out of 0 positives and 30 negatives"):
        mix(POOL[10:], config(ratio="1:1"), seed=0)


def test_halves_are_rounded_up():
    assert [round_half_up(Fraction(n, 2)) for n in (0, 1, 2, 3, 5)] == [0, 1, 1, 2, 3]


def test_counts_per_source():
    assert per_source(POOL) == {"test": {"positives": 10, "negatives": 30}}


def test_positive_only_asks_for_no_tokens_of_negatives():
    tokens = {t.id: 10 if t.outcome.success else 4 for t in POOL}
    mixed = mix(POOL, config(kind="positive_only", ratio="1:9", hold="tokens", tokens=1000), 0, tokens)
    assert (len(mixed.positives), len(mixed.negatives)) == (10, 0)


def test_without_failures_the_remedy_is_not_to_mix():
    with pytest.raises(RequestError, match="there are 10 and 0") as error:
        mix(POOL[:10], config(ratio="1:1"), seed=0)
    assert "method=positive_only" in str(error.value)
    assert "oversample" not in str(error.value)


def test_replaced_takes_as_many_as_the_ratio_would_and_the_same_positives_first():
    pool = [*POOL, *(make_trajectory(f"more{i}") for i in range(30))]
    with_negatives = mix(pool, config(ratio="1:2", positives=12), seed=3)
    replaced = mix(pool, config(kind="replaced", ratio="1:2", positives=12), seed=3)
    assert (len(with_negatives.positives), len(with_negatives.negatives)) == (12, 24)
    assert (len(replaced.positives), len(replaced.negatives)) == (36, 0)
    assert ids(replaced.positives)[:12] == ids(with_negatives.positives)
    assert len(set(ids(replaced.positives))) == 36
    assert all(t.outcome.success for t in replaced.selected)


def test_replaced_needs_no_failures():
    successes = [t for t in POOL if t.outcome.success]
    assert len(mix(successes, config(kind="replaced", ratio="1:1", positives=5), 0).positives) == 10


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ratio": "1:1.5", "positives": 3}, 8),  # 3 and, rounded half up, 5
        ({"ratio": "2:1", "positives": 4}, 6),
        ({"ratio": "1:3", "hold": "total", "total": 9}, 9),
        ({"ratio": "1:0"}, 10),
    ],
)
def test_counts_of_replaced(changes, expected):
    assert len(mix(POOL, config(kind="replaced", **changes), 0).selected) == expected


def test_replaced_spends_the_whole_token_budget_on_successes():
    tokens = {t.id: 10 if t.outcome.success else 4 for t in POOL}
    mixed = mix(POOL, config(kind="replaced", ratio="1:3", hold="tokens", tokens=80), 0, tokens)
    assert (len(mixed.positives), len(mixed.negatives)) == (8, 0)


def test_too_few_successes_to_replace_failures_names_what_is_feasible():
    with pytest.raises(RequestError) as error:
        mix(POOL, config(kind="replaced", ratio="1:2"), seed=0)
    assert "mixing=replaced asks for 30 positives, those in place of negatives included; there are 10." in str(
        error.value
    )
    assert "the largest feasible mixing.positives is 3;" in str(error.value)  # 3 and 6; 4 and 8 are more than 10
    assert len(mix(POOL, config(kind="replaced", ratio="1:2", positives=3), seed=0).selected) == 9
    with pytest.raises(RequestError, match="asks for 12 positives"):
        mix(POOL, config(kind="replaced", ratio="1:2", positives=4), seed=0)
    with pytest.raises(RequestError, match=r"asks for 50 .*there are 10.\nLower mixing.total to 10"):
        mix(POOL, config(kind="replaced", hold="total", total=50), seed=0)
    with pytest.raises(RequestError, match=r"asks for 30 .*\n.*take mixing.hold=total"):
        mix(POOL, config(kind="replaced", ratio="0:1"), seed=0)
    again = mix(POOL, config(kind="replaced", ratio="1:2", oversample=True), seed=0)
    assert ids(again.positives)[10:20] == ids(again.positives)[:10]


@pytest.mark.parametrize(("ratio", "most"), [("1:0.5", 6), ("1:1", 5), ("2:3", 4), ("1:9", 1), ("1:10", 0)])
def test_the_largest_feasible_number_to_replace_is_the_largest(ratio, most):
    # Of ten successes at 1:0.5: 6 and 3 are 9; 7 and 3.5, rounded up to 4, would be 11.
    for positives in range(1, 11):
        wanted = config(kind="replaced", ratio=ratio, positives=positives)
        if positives <= most:
            assert len(mix(POOL, wanted, 0).selected) <= 10
        else:
            with pytest.raises(RequestError, match=f"largest feasible mixing.positives is {most}[;]"):
                mix(POOL, wanted, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratio": None}, r"(?s)replaced\.ratio\n.*valid string"),
        ({"negatives": 5}, r"(?s)replaced\.negatives\n.*Unexpected keyword argument"),
        ({"total": 9}, "total=9 has no effect with hold=positives"),
        ({"hold": "total"}, "needs mixing.total"),
    ],
)
def test_impossible_combinations_with_replaced_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        config(kind="replaced", **changes)
