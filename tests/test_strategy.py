from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from nat.examples.prompts import prompt_messages
from nat.examples.strategy import StrategyConfig, When, classify, uncovered_value
from nat.types import Message, RequestError
from tests.conftest import ROOT, make_trajectory

SHIPPED = sorted((ROOT / "conf" / "strategy").glob("*.yaml"))


def strategy(**values) -> StrategyConfig:
    return TypeAdapter(StrategyConfig).validate_python(values, strict=False)


def shipped(name: str) -> StrategyConfig:
    return strategy(**yaml.safe_load((ROOT / "conf" / "strategy" / f"{name}.yaml").read_text()))


TWO = [
    {"name": "correct", "when": {"field": "success", "equals": True}, "text": "[Yes]"},
    {"name": "incorrect", "when": {"field": "success", "equals": False}, "text": "[No]"},
]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("prefix", (Message("system", "Be brief."), Message("user", "[Yes]\nUse tools.\nWhat is 3+4?"))),
        ("suffix", (Message("system", "Be brief."), Message("user", "Use tools.\nWhat is 3+4?\n[Yes]"))),
        ("system", (Message("system", "Be brief.\n[Yes]"), Message("user", "Use tools.\nWhat is 3+4?"))),
    ],
)
def test_the_text_stands_at_its_place(place, expected):
    chosen = strategy(name="x", classes=TWO, place=place, infer_as="correct")
    assert prompt_messages("Be brief.", "Use tools.", "What is 3+4?", chosen, chosen.inference_class) == expected


def test_empty_parts_leave_no_empty_lines():
    chosen = shipped("none")
    assert prompt_messages(None, "", "What is 3+4?", chosen, chosen.inference_class) == (
        Message("user", "What is 3+4?"),
    )


def test_without_a_system_text_the_mark_alone_makes_the_system_message():
    chosen = strategy(name="x", classes=TWO, place="system", infer_as="correct")
    assert prompt_messages(None, "", "Q", chosen, chosen.classes[1]) == (
        Message("system", "[No]"),
        Message("user", "Q"),
    )


@pytest.mark.parametrize(
    ("name", "place", "correct", "incorrect"),
    [
        ("none", "suffix", "", ""),
        (
            "suffix",
            "suffix",
            "Answer with Thought and Action steps that solve this **correctly**.",
            "Answer with Thought and Action steps that solve this **incorrectly**.",
        ),
        (
            "suffix_plain",
            "suffix",
            "Answer with Thought and Action steps that solve this correctly.",
            "Answer with Thought and Action steps that solve this incorrectly.",
        ),
        ("prefix_correct", "prefix", "[Correct]", "[Incorrect]"),
        ("prefix_good", "prefix", "Write a good solution.", "Write a bad solution."),
        ("suffix_good", "suffix", "Write a good solution.", "Write a bad solution."),
        ("prefix_letters", "prefix", "[A]", "[B]"),
        ("prefix_numbers", "prefix", "[1]", "[2]"),
        ("prefix_objects", "prefix", "[Laptop]", "[Screen]"),
        (
            "random_sentence",
            "suffix",
            "The river is wide and the boats are slow.",
            "The window is open and the lamp is green.",
        ),
        (
            "inverse",
            "suffix",
            "Answer with Thought and Action steps that solve this **incorrectly**.",
            "Answer with Thought and Action steps that solve this **correctly**.",
        ),
    ],
)
def test_shipped_two_class_strategies(name, place, correct, incorrect):
    chosen = shipped(name)
    assert (chosen.name, chosen.place, chosen.infer_as) == (name, place, "correct")
    right, wrong = classify([make_trajectory("a"), make_trajectory("b", success=False)], chosen)
    assert (right.text, wrong.text) == (correct, incorrect)
    assert not chosen.is_graded
    assert chosen.is_marked == (name != "none")


@pytest.mark.parametrize(
    ("name", "grades"),
    [
        ("graded_2_soft", {0.0: "bad", 0.2: "bad", 0.21: "good", 1.0: "good"}),
        ("graded_3", {0.0: "incorrect", 0.01: "partly_correct", 0.99: "partly_correct", 1.0: "correct"}),
        (
            "graded_4",
            {
                0.0: "incorrect",
                0.01: "slightly_correct",
                0.39: "slightly_correct",
                0.4: "mostly_correct",
                0.99: "mostly_correct",
                1.0: "correct",
            },
        ),
    ],
)
def test_shipped_graded_strategies_at_their_thresholds(name, grades):
    chosen = shipped(name)
    trajectories = [make_trajectory(str(score), success=score == 1, score=score) for score in grades]
    assert [class_.name for class_ in classify(trajectories, chosen)] == list(grades.values())
    assert chosen.is_graded
    assert chosen.is_marked
    assert len({class_.text for class_ in chosen.classes}) == len(chosen.classes)


def test_every_shipped_strategy_is_tested_here_and_named_after_its_file():
    assert [path.stem for path in SHIPPED] == sorted(
        [
            "none",
            "suffix",
            "suffix_plain",
            "prefix_correct",
            "prefix_good",
            "suffix_good",
            "prefix_letters",
            "prefix_numbers",
            "prefix_objects",
            "random_sentence",
            "inverse",
            "shuffled",
            "graded_2_soft",
            "graded_3",
            "graded_4",
        ]
    )
    assert [shipped(path.stem).name for path in SHIPPED] == [path.stem for path in SHIPPED]


POOL = [make_trajectory(id, success=id in "ab") for id in "abcdef"]


def test_shuffled_marks_are_pinned():
    # `printf shuffled:a | sha256sum` and so on give 907f, 5401, 6c78, 390e, 8667, 6be4: the order is d b f c e a, which
    # takes the labels of a b c d e f in turn. Runs of different releases stay comparable: it may never change.
    marks = {t.id: class_.name for t, class_ in zip(POOL, classify(POOL, shipped("shuffled")), strict=True)}
    assert [id for id, name in marks.items() if name == "correct"] == ["b", "d"]


def test_shuffled_marks_depend_neither_on_the_order_of_files_nor_on_the_labels():
    chosen = shipped("shuffled")
    marks = {t.id: class_.name for t, class_ in zip(POOL, classify(POOL, chosen), strict=True)}
    other_way = [make_trajectory(t.id, success=t.outcome.success) for t in reversed(POOL)]
    assert {t.id: c.name for t, c in zip(other_way, classify(other_way, chosen), strict=True)} == marks
    assert classify([], chosen) == []


def test_shuffled_marks_are_as_frequent_as_the_labels_and_say_nothing_about_them():
    pool = [make_trajectory(f"t{i}", success=i % 10 == 0) for i in range(2000)]
    classes = classify(pool, shipped("shuffled"))
    assert sum(class_.name == "correct" for class_ in classes) == 200
    both = sum(t.outcome.success for t, class_ in zip(pool, classes, strict=True) if class_.name == "correct")
    # Hypergeometric: 200 * 200 / 2000 = 20 expected, standard deviation 4.0.
    assert 8 <= both <= 32


def test_shuffled_has_the_texts_of_suffix_and_is_complete():
    shuffled, suffix = shipped("shuffled"), shipped("suffix")
    assert [(c.name, c.text) for c in shuffled.classes] == [(c.name, c.text) for c in suffix.classes]
    assert (shuffled.place, shuffled.infer_as) == (suffix.place, suffix.infer_as)
    assert shuffled.is_marked
    assert not shuffled.is_graded
    assert uncovered_value(shuffled.classes[:1]) == ("shuffled_success", False)


def test_the_first_class_that_matches_wins_and_one_without_when_takes_the_rest():
    chosen = strategy(
        name="x",
        classes=[
            {"name": "hot", "when": {"field": "metadata.temperature", "above": 0.6}, "text": "h"},
            {"name": "warm", "when": {"field": "metadata.temperature", "above": 0.3}, "text": "w"},
            {"name": "rest", "text": ""},
        ],
        place="prefix",
        infer_as="hot",
    )
    trajectories = [make_trajectory(str(t), temperature=t) for t in (0.7, 0.5, 0.2)] + [make_trajectory("none")]
    assert [class_.name for class_ in classify(trajectories, chosen)] == ["hot", "warm", "rest", "rest"]


def test_a_field_that_no_trajectory_has_is_an_error_that_lists_those_there_are():
    classes = [{"name": "a", "when": {"field": "metadata.f1", "above": 0.5}, "text": ""}, {"name": "b", "text": ""}]
    chosen = strategy(name="x", classes=classes, place="prefix", infer_as="a")
    with pytest.raises(RequestError, match=r"strategy.classes\[0\].when.field='metadata.f1'.*\n.*metadata.temperature"):
        classify([make_trajectory("t", temperature=0.5)], chosen)


def test_a_trajectory_that_fits_no_class_is_named_with_its_value():
    classes = [{"name": "a", "when": {"field": "source", "equals": "gpt"}, "text": ""}]
    chosen = strategy(name="x", classes=classes, place="prefix", infer_as="a")
    with pytest.raises(RequestError, match=r"trajectory 't7' fits no class \(source = 'test'\)"):
        classify([make_trajectory("t7")], chosen)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (TWO[:1], "no class takes success = False"),
        ([TWO[0], TWO[0]], "names must differ"),
        (
            [
                {"name": "high", "when": {"field": "score", "above": 0.5}, "text": ""},
                {"name": "low", "when": {"field": "score", "below": 0.5}, "text": ""},
            ],
            r"no class takes score = 0\.5",
        ),
        (
            [
                {"name": "high", "when": {"field": "metadata.f1", "at_least": 0.5}, "text": ""},
                {"name": "low", "when": {"field": "metadata.f1", "below": 0.4}, "text": ""},
            ],
            r"no class takes metadata\.f1 = 0\.4",
        ),
        ([{"name": "x", "when": {"field": "score"}, "text": ""}], "either `equals` or bounds"),
        ([{"name": "x", "when": {"field": "score", "equals": 1, "above": 0}, "text": ""}], "either `equals` or bounds"),
        ([], "at least 1 item"),
    ],
)
def test_broken_strategies_are_refused(classes, message):
    with pytest.raises(ValidationError, match=message):
        strategy(name="x", classes=classes, place="prefix", infer_as="correct" if classes == TWO[:1] else "high")


def test_infer_as_must_name_a_class():
    with pytest.raises(ValidationError, match="infer_as: 'right' names no class; the classes are correct, incorrect"):
        strategy(name="x", classes=TWO, place="prefix", infer_as="right")


def test_a_label_is_not_a_number():
    assert not When(field="success", equals=1).matches(True)
    assert not When(field="score", above=0.5).matches(True)
    assert When(field="success", equals=True).matches(True)


def test_a_score_outside_the_bounds_of_all_classes_is_a_gap():
    chosen = shipped("graded_3")
    assert uncovered_value(chosen.classes) is None
    assert uncovered_value(chosen.classes[:2]) == ("score", 0.0)
    assert Path(SHIPPED[0]).exists()
