"""Makes the tiny model of the search worlds that ships with the package: tokenizer, pre-training, figures.

    python experiments/tiny_search/pretrain_search.py --output nat/assets/tiny_search

Writes the model's folder and, beside this script, results.json. What ships was made in two runs, as README.md says. One
thread: faster than two on shared cores, and the same result on the same machine.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from itertools import islice
from pathlib import Path
from random import Random

import yaml
from pydantic import TypeAdapter
from tokenizers import Tokenizer, decoders, normalizers
from transformers import LlamaForCausalLM

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tiny_model")]
import pretrain  # noqa: E402  (the other tiny model's script, importable only from here on)
import search_corpus  # noqa: E402
from lexicon import lexicon_texts  # noqa: E402

from nat.environments.worlds import multihop, strategic  # noqa: E402
from nat.environments.worlds.knowledge_base import FIRST_WORDS, FIRST_YEAR, LAST_YEAR, SECOND_WORDS, make_knowledge_base  # noqa: E402
from nat.environments.worlds.search_policy import Plan, perform  # noqa: E402
from nat.environments.worlds.worlds import make_questions  # noqa: E402
from nat.types import Message  # noqa: E402

# As in the other tiny model, and: a year is one token, a snippet's number is one.
SPLIT = (
    r"Thought:|\nAction:| search\[| compare\[| calculate\[| finish\[| ?#[0-9]| ?1[78][0-9]{2}(?![0-9])|[0-9]"
    r"| ?\p{L}+| ?[^\s\p{L}0-9]|\s+(?=\s)|\s+"
)
PLAIN_KINDS = ("value", "first", "yes")


def train_tokenizer() -> Tokenizer:
    begin = search_corpus.SHORT_WORLDS * search_corpus.CONVERSATIONS_PER_WORLD  # the first ones are of one kind only
    sample = islice(search_corpus.conversations(1), begin, begin + 2000)
    corpus_texts = [message.content for turns in sample for message in turns]
    phrases = [text for texts in multihop.PHRASES.values() for text in texts]
    phrases += [text for texts in multihop.COMPARISONS.values() for text in texts] + list(multihop.OPENINGS)
    phrases += [text for family in strategic.FAMILIES for text in family.texts]
    own = [f" {text.format(x='', a='', b='')}" for text in phrases]
    starts = [text.format(x="", a="", b="") for text in phrases]
    texts = [*corpus_texts, *own, *starts, *lexicon_texts()]
    words = sorted({word for text in texts for word in re.findall(r" ?[^\W\d_]+", text)})
    names = [f"{space}{word}" for word in (*FIRST_WORDS, *SECOND_WORDS) for space in ("", " ")]
    years = [f" {year}" for year in range(FIRST_YEAR, LAST_YEAR + 1)]
    protocol = [f"Thought: Done.\nAction: {tool}[" for tool in ("search", "compare", "calculate", "finish")]
    marks = [f" {mark}" for mark in "[(*$+-"] + ["#1", " #1", "#2", " #2", "#3", " #3"]
    # What `compare` says and what the thoughts make of it.
    said = ["before", "after", "same", "different", " Before", " After", " Same", " Different", " yes", " no"]
    tokenizer = pretrain.make_tokenizer([*protocol, *words, *names, *years, *marks, *said], SPLIT)
    # Inside, a space follows every bracket, so that a name is the same tokens after `search[` as anywhere else: two
    # forms of each word to copy between were not learned in 500 steps. Decoding takes the space out again.
    tokenizer.normalizer = normalizers.Replace("[", "[ ")
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("[ ", "[")])
    return tokenizer


def main() -> None:
    arguments = pretrain.read_arguments(__doc__ or "", HERE / "results.json", steps=2800, decay=0.5)
    tokenizer = train_tokenizer()
    short_worlds = 0 if arguments.start else search_corpus.SHORT_WORLDS
    log = pretrain.make(tokenizer, search_corpus.conversations(arguments.seed, short_worlds), arguments)

    model = LlamaForCausalLM.from_pretrained(arguments.output).eval()  # as shipped: rounded to half precision
    rng = Random("tiny search held out")
    knowledge = make_knowledge_base(search_corpus.SIZE, -1, 2, "base")  # facts that no training conversation told
    n = pretrain.N_PROBLEMS
    plain = {
        kind: [search_corpus.draw_conversation(knowledge, rng, plain=True, kind=kind) for _ in range(n)]
        for kind in PLAIN_KINDS
    }
    mixed = [search_corpus.draw_conversation(knowledge, rng) for _ in range(n)]
    accuracies = {
        "accuracy_plain": {
            kind: pretrain.accuracy(model, tokenizer, conversations) for kind, conversations in plain.items()
        },
        "accuracy_mixed_prompts": pretrain.accuracy(model, tokenizer, mixed),
        "accuracy_world_not_fine_tuned": {
            name: pretrain.accuracy(model, tokenizer, world_conversations(name, "test", n))
            for name in ("multihop", "strategic")
        },
    }
    command = f"python experiments/tiny_search/pretrain_search.py {shlex.join(sys.argv[1:])}"
    pretrain.write_figures(command, arguments, model, log, accuracies)


def world_config(name: str, **changes: object) -> multihop.MultihopConfig | strategic.StrategicConfig:
    file = HERE.parents[1] / "conf" / "environment" / "worlds" / f"{name}.yaml"
    kind = multihop.MultihopConfig if name == "multihop" else strategic.StrategicConfig
    return TypeAdapter(kind).validate_json(json.dumps({**yaml.safe_load(file.read_text()), **changes}))


def world_conversations(name: str, split: str, n: int) -> list[list[Message]]:
    """The world's first `n` questions of a split with the faultless agent's turns."""
    config = world_config(name)
    world = multihop if name == "multihop" else strategic
    return [
        [
            Message("user", f"{config.instructions}\n{question.text}"),
            *perform(Plan.read(question.metadata), world.knowledge_of(config)),
        ]
        for question in make_questions(config, split, n)
    ]


if __name__ == "__main__":
    main()
