"""The model that ships with the package, and what it was trained on."""

from __future__ import annotations

import json
import re
from itertools import islice
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest

from nat.environments.worlds import arithmetic as world
from nat.types import Message
from tests.conftest import ROOT
from tests.tiny_models_for_tests import (
    ODD_TEXT,
    check_no_condition_and_no_judgement,
    check_rows_are_the_chat_templates,
    load_recipe,
)

TINY = ROOT / "nat" / "assets" / "tiny"
SHIPPED = ("tiny", "tiny_search")
RECIPE = ROOT / "experiments" / "tiny_model"
GRAMMAR = "a are as at by every for have in is it of on only out over soon the there to with"


@pytest.fixture(scope="module")
def corpus() -> ModuleType:
    return load_recipe("corpus")


@pytest.fixture(scope="module")
def corpus_messages(corpus: ModuleType) -> list[Message]:
    return [message for conversation in islice(corpus.conversations(0), 5000) for message in conversation]


@pytest.fixture(scope="module")
def corpus_texts(corpus_messages: list[Message]) -> list[str]:
    return [message.content for message in corpus_messages]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TINY)


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(TINY)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_folder_is_small_and_complete(name: str) -> None:
    files = {file.name: file.stat().st_size for file in (TINY.parent / name).iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    assert sum(files.values()) <= 4 * 2**20


@pytest.mark.parametrize("name", SHIPPED)
def test_the_model_is_a_llama_of_a_million_parameters(name: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(TINY.parent / name)
    assert model.config.model_type == "llama"
    assert 0.9e6 < model.num_parameters() < 1.2e6
    assert model.config.max_position_embeddings >= 4096
    assert model.dtype == torch.float32, "stored in half precision, but loaded to be trained"


def test_any_text_survives_the_tokenizer(tokenizer: Any) -> None:
    ids = tokenizer.encode(ODD_TEXT, add_special_tokens=False)
    assert tokenizer.decode(ids) == ODD_TEXT
    assert max(ids) < len(tokenizer)


def test_a_question_and_a_turn_in_tokens(tokenizer: Any) -> None:
    assert tokenizer.tokenize("Ruth sells 17 stamps.") == ["Ruth", "Ġsells", "Ġ", "1", "7", "Ġstamps", "."]
    assert tokenizer.tokenize("Thought: Add.\nAction: calculate[-5+12.5]") == (
        ["Thought:", "ĠAdd", ".", "ĊAction:", "Ġcalculate[", "-", "5", "+", "1", "2", ".", "5", "]"]
    )
    for word in (" correctly", "incorrectly", "Correct", "Incorrect", "Laptop", " melt"):
        assert len(tokenizer.tokenize(word)) == 1


def test_the_chat_template_word_by_word(tokenizer: Any) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 2 + 3?"},
        {"role": "assistant", "content": "Thought: Add."},
        {"role": "tool", "content": "5"},
    ]
    start = "<|system|>Be brief.<|end|><|user|>What is 2 + 3?<|end|>"
    assert tokenizer.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True) == (
        start + "<|assistant|>"
    )
    assert tokenizer.apply_chat_template(messages, tokenize=False) == (
        start + "<|assistant|>Thought: Add.<|end|><|tool|>5<|end|>"
    )
    assert tokenizer.eos_token == "<|end|>" and tokenizer.pad_token == "<|pad|>"


def test_pre_training_rows_are_the_chat_templates(tokenizer: Any, corpus: ModuleType) -> None:
    check_rows_are_the_chat_templates(tokenizer, list(islice(corpus.conversations(3), 20)))


def test_pre_training_holds_no_sentence_of_the_world(corpus_texts: list[str]) -> None:
    shapes = [text for texts in world.TEMPLATES.values() for text, _ in texts]
    shapes += [*world.DISTRACTORS, *world.OPENINGS, *world.CLOSINGS]
    people = "|".join(name.lower() for name, _ in world.PEOPLE)
    things = "|".join((*world.THINGS, *world.LEDGER_THINGS))
    fields = {"{n}": r"\d+", "{she}": "s?he", "{she_}": "s?he", "{things}": f"({things})"}
    fields |= {"{name}": f"({people})", "{other}": f"({people})"}
    patterns = []
    for shape in shapes:
        pattern = re.escape(shape.lower()).replace(r"\{", "{").replace(r"\}", "}")
        for field, expression in fields.items():
            pattern = pattern.replace(field, expression)
        patterns.append(pattern)
    matcher = re.compile("|".join(patterns))
    assert matcher.search("a dog runs off with 12.") and matcher.search("he keeps one of 3 equal heaps.")
    assert not [text for text in corpus_texts if matcher.search(text.lower())]


def test_pre_training_holds_no_thing_person_or_act_of_the_world(corpus_texts: list[str]) -> None:
    seen = set(re.findall(r"[a-z]+", " ".join(corpus_texts).lower()))
    stories = " ".join(text for texts in world.TEMPLATES.values() for text, _ in texts)
    stories += " ".join([*world.THINGS, *world.LEDGER_THINGS, *(name for name, _ in world.PEOPLE)])
    words = set(re.findall(r"[a-z]+", re.sub(r"\{\w+\}", " ", stories).lower()))
    # What is left in common are words of grammar.
    assert words & seen == set(GRAMMAR.split())


def test_pre_training_holds_no_condition_text_and_judges_nothing(corpus_messages: list[Message]) -> None:
    check_no_condition_and_no_judgement(corpus_messages)


def test_pre_training_turns_are_faultless(corpus: ModuleType) -> None:
    """Worked by hand: 6 * 7 = 42, 42 - 50 = -8."""
    assert [message.content for message in corpus.faultless_turns("6", [("*", "7"), ("-", "50")])] == [
        "Thought: Multiply.\nAction: calculate[6*7]",
        "42",
        "Thought: Subtract.\nAction: calculate[42-50]",
        "-8",
        "Thought: Done.\nAction: finish[-8]",
    ]


def test_the_model_solves_problems_in_its_own_wording(model: Any, tokenizer: Any, corpus: ModuleType) -> None:
    pretrain = load_recipe("pretrain")
    rng = Random("a seed of this test")
    plain: list[list[Message]] = [corpus.draw_conversation(rng, plain=True) for _ in range(60)]
    assert pretrain.accuracy(model.eval(), tokenizer.backend_tokenizer, plain) >= 0.9


def test_the_recorded_figures_belong_to_this_model(model: Any, tokenizer: Any) -> None:
    figures = json.loads((RECIPE / "results.json").read_text(encoding="utf-8"))
    assert figures["parameters"] == model.num_parameters()
    assert figures["vocabulary"] == len(tokenizer)
    assert figures["accuracy_plain"] >= 0.95
    assert Path(figures["command"].split()[-1]) == Path("nat/assets/tiny")
