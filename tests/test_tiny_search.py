"""The model of the search worlds that ships with the package, and what it was trained on."""

from __future__ import annotations

import json
import re
from itertools import islice
from random import Random
from types import ModuleType
from typing import Any

import pytest

from nat.environments.worlds import multihop, strategic
from nat.environments.worlds.knowledge_base import FIRST_WORDS, FIRST_YEAR, LAST_YEAR, RELATIONS, SECOND_WORDS, names
from nat.types import Message
from tests.conftest import ROOT
from tests.tiny_models_for_tests import (
    ODD_TEXT,
    check_no_condition_and_no_judgement,
    check_rows_are_the_chat_templates,
    load_recipe,
)

TINY_SEARCH = ROOT / "nat" / "assets" / "tiny_search"
RECIPE = ROOT / "experiments" / "tiny_search"
# Short enough to be said of any question; the plain wording of the pre-training opens like this as well.
SHARED_OPENINGS = ("What is {x}?", "Find {x}.")


@pytest.fixture(scope="module")
def corpus() -> ModuleType:
    return load_recipe("search_corpus")


@pytest.fixture(scope="module")
def conversations(corpus: ModuleType) -> list[list[Message]]:
    """3000: the stream begins with tasks of one search, so most are drawn as the later ones are."""
    knowledge = corpus.make_knowledge_base.__wrapped__(corpus.SIZE, 12345, 2, "base")
    rng = Random("a seed of this test")
    return [
        *islice(corpus.conversations(0), 500),
        *(corpus.draw_conversation(knowledge, rng) for _ in range(2500)),
    ]


@pytest.fixture(scope="module")
def texts(conversations: list[list[Message]]) -> list[str]:
    return [message.content for conversation in conversations for message in conversation]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TINY_SEARCH)


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(TINY_SEARCH)


# ---- tokens ----


@pytest.mark.parametrize(
    "text",
    [
        ODD_TEXT,
        "[[a]]",
        "a[b[c]]",
        "search[",
        "]][[",
        "Thought: Died.\nAction: search[Kalo Reno died]\n[the end]",
        "Some [random words of a sentence]. Find [x].",
        "[\n\t]",
        "\u65e5[\u672c]",
        "",
    ],
)
def test_any_text_survives_the_tokenizer(tokenizer: Any, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text
    assert not ids or max(ids) < len(tokenizer)


@pytest.mark.parametrize(("text", "back"), [("[ x", "[ x"), ("search[ x ]", "search[ x ]"), ("[  x", "[  x")])
def test_a_space_after_a_bracket_survives_too(tokenizer: Any, text: str, back: str) -> None:
    """Inside, a space follows every bracket; one that was there already must not get lost when it is taken out."""
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == back


def test_a_turn_and_an_observation_in_tokens(tokenizer: Any) -> None:
    assert tokenizer.tokenize("Thought: Died.\nAction: search[Kalo Reno died]") == (
        ["Thought:", "\u0120Died", ".", "\u010aAction:", "\u0120search[", "\u0120Kalo", "\u0120Reno", "\u0120died", "]"]
    )
    assert tokenizer.tokenize("#1 Kalo Reno died in 1790. #2 The") == (
        ["#1", "\u0120Kalo", "\u0120Reno", "\u0120died", "\u0120in", "\u01201790", ".", "\u0120#2", "\u0120The"]
    )
    assert tokenizer.tokenize("Action: compare[1790, 1820]")[-4:] == ["\u01201790", ",", "\u01201820", "]"]


def test_names_years_and_snippet_numbers_are_one_token_anywhere(tokenizer: Any) -> None:
    words = [*FIRST_WORDS, *SECOND_WORDS, *map(str, range(FIRST_YEAR, LAST_YEAR + 1)), "#1", "#2", "#3"]
    for word in words:
        after_a_space = tokenizer.tokenize(f"x {word}")[1:]
        assert after_a_space == [f"\u0120{word}"], word
        if not word.startswith("#"):  # the same token after a bracket: one form of a name to copy
            assert tokenizer.tokenize(f"[{word}")[1:] == after_a_space, word


def test_every_word_of_the_worlds_is_one_token(tokenizer: Any) -> None:
    """So that rows stay short: no question costs more for its wording."""
    phrases = [text for some in (*multihop.PHRASES.values(), *multihop.COMPARISONS.values()) for text in some]
    phrases += [text for family in strategic.FAMILIES for text in family.texts] + [*multihop.OPENINGS]
    documents = [document for *_, document in RELATIONS.values()]
    thoughts = [f"x {text.capitalize()}" for text in (*RELATIONS, "before", "after", "same", "different", "done")]
    told = ["x before after same different yes no unknown"]
    words = {
        word
        for text in (*phrases, *documents, *thoughts, *told)
        for word in re.findall(r" [A-Za-z]+", text.format(x="", y="", a="", b=""))
    }
    assert len(words) > 200
    assert not {word for word in words if len(tokenizer.tokenize(word)) > 1}


def test_real_text_falls_back_to_bytes(tokenizer: Any) -> None:
    text = "Scott Derrickson (born 1966) directed \u201cDoctor Strange\u201d \u2014 in 2016!"
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text
    assert len(ids) <= len(text.encode())


def test_the_chat_template_is_the_other_tiny_models(tokenizer: Any) -> None:
    from transformers import AutoTokenizer

    other = AutoTokenizer.from_pretrained(ROOT / "nat" / "assets" / "tiny")
    assert tokenizer.chat_template == other.chat_template
    assert (tokenizer.eos_token, tokenizer.pad_token) == (other.eos_token, other.pad_token) == ("<|end|>", "<|pad|>")


def test_pre_training_rows_are_the_chat_templates(tokenizer: Any, conversations: list[list[Message]]) -> None:
    check_rows_are_the_chat_templates(tokenizer, conversations[490:520])


# ---- what it was trained on ----


def test_pre_training_holds_no_name_of_the_worlds(texts: list[str]) -> None:
    world, base = set(names("world")), set(names("base"))
    assert len(texts) > 20_000
    seen = {pair for text in texts for pair in re.findall(r"(?=\b([A-Z][a-z]+ [A-Z][a-z]+)\b)", text)}
    assert len(seen & base) > 600
    # Where a name ends and the next one begins ("Kemi Yaru, Lavo Osti") stands a comma or a word.
    assert not seen & world


def test_pre_training_holds_no_phrase_of_the_worlds_questions(conversations: list[list[Message]]) -> None:
    shapes = [text for some in (*multihop.PHRASES.values(), *multihop.COMPARISONS.values()) for text in some]
    shapes += [text for family in strategic.FAMILIES for text in family.texts]
    shapes += [text for text in multihop.OPENINGS if text not in SHARED_OPENINGS]
    # The words between the names are what counts: "whoever wrote", "Could ... have leafed through".
    pieces = [re.split(r"\{[abxy]\}", shape.lower()) for shape in shapes]
    patterns = [".{1,80}?".join(map(re.escape, piece)) for piece in pieces]
    matcher = re.compile("|".join(patterns))
    assert matcher.search("find whoever wrote kalo reno.") and matcher.search("could ada have leafed through emma?")
    prompts = [m.content for conversation in conversations for m in conversation if m.role in ("system", "user")]
    assert len(prompts) >= 3000
    assert not [text for text in prompts if matcher.search(text.lower())]


def test_pre_training_holds_no_condition_text_and_judges_nothing(conversations: list[list[Message]]) -> None:
    check_no_condition_and_no_judgement([message for conversation in conversations for message in conversation])


def test_all_kinds_of_tasks_are_among_them(conversations: list[list[Message]]) -> None:
    last = [conversation[-1].content for conversation in conversations]
    n = len(conversations)
    assert n == 3000
    assert sum("finish[yes]" in text for text in last) / n == pytest.approx(
        sum("finish[no]" in text for text in last) / n, abs=0.04
    )
    named = re.compile(r"Thought: (Before|After): [A-Z][a-z]+ [A-Z][a-z]+\. Done\.")
    assert sum(named.match(text) is not None for text in last) > 0.1 * n
    assert sum("finish[unknown]" in text for text in last) > 0.01 * n  # "Say unknown."
    assert len({len(conversation) for conversation in conversations}) >= 5


def test_the_corpus_is_the_same_again(corpus: ModuleType) -> None:
    one, again = (list(islice(corpus.conversations(0), 5)) for _ in range(2))
    other = list(islice(corpus.conversations(1), 5))
    assert one == again != other


# ---- what it can do ----


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return json.loads((RECIPE / "results.json").read_text(encoding="utf-8"))


def test_the_recorded_figures_belong_to_this_model(figures: dict[str, Any], model: Any, tokenizer: Any) -> None:
    assert figures["parameters"] == model.num_parameters()
    assert figures["vocabulary"] == len(tokenizer)
    assert figures["folder_bytes"] == pytest.approx(sum(f.stat().st_size for f in TINY_SEARCH.iterdir()), rel=0.01)
    assert "--output nat/assets/tiny_search" in figures["command"]
    assert (ROOT / figures["command"].split()[1]).is_file()


REACHED = {"value": 0.85, "first": 0.85, "yes": 0.85}  # the aim, for each kind of task


def test_the_recorded_figures_are_what_was_reached(figures: dict[str, Any]) -> None:
    """And the worlds' wording is new to the model."""
    assert set(figures["accuracy_plain"]) == set(REACHED)
    assert all(share >= REACHED[kind] for kind, share in figures["accuracy_plain"].items())
    assert figures["accuracy_world_not_fine_tuned"]["multihop"] <= 0.05
    assert figures["accuracy_world_not_fine_tuned"]["strategic"] <= 0.05


def test_the_readme_tells_the_recorded_figures(figures: dict[str, Any]) -> None:
    readme = (RECIPE / "README.md").read_text(encoding="utf-8")
    assert f"{figures['parameters']:,}" in readme
    assert str(figures["vocabulary"]) in readme.replace(",", "")
    assert f"{figures['folder_bytes'] / 1e6:.2f} MB" in readme
    shares = [*figures["accuracy_plain"].values(), figures["accuracy_mixed_prompts"]]
    shares += figures["accuracy_world_not_fine_tuned"].values()
    for share in shares:
        assert f"{share:.1%}" in readme
    assert figures["command"] in readme


@pytest.mark.slow
@pytest.mark.parametrize("kind", REACHED)
def test_the_model_solves_tasks_in_its_own_wording(model: Any, tokenizer: Any, corpus: ModuleType, kind: str) -> None:
    pretrain = load_recipe("pretrain")
    rng = Random("a seed of this test")
    knowledge = corpus.make_knowledge_base.__wrapped__(corpus.SIZE, -2, 2, "base")  # facts that it was never told
    plain = [corpus.draw_conversation(knowledge, rng, plain=True, kind=kind) for _ in range(60)]
    # Of 60 tasks, three standard errors and a half below.
    assert pretrain.accuracy(model.eval(), tokenizer.backend_tokenizer, plain) >= REACHED[kind] - 0.2
