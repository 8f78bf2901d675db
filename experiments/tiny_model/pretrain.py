"""Makes the tiny model that ships with the package: tokenizer, pre-training, figures.

    python experiments/tiny_model/pretrain.py --output nat/assets/tiny

Writes the model's folder and, beside this script, results.json. One thread: faster than two on
shared cores, and the same result on the same machine. An interrupted run goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
import yaml
from pydantic import TypeAdapter
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import corpus  # noqa: E402  (a script's neighbour, importable only from here on)
from lexicon import lexicon_texts  # noqa: E402

from nat.environments.worlds.arithmetic import ArithmeticConfig, Split  # noqa: E402
from nat.environments.worlds.worlds import make_questions  # noqa: E402
from nat.types import Message  # noqa: E402

ROLES = ("system", "user", "assistant", "tool")
SPECIAL_TOKENS = ["<|pad|>", "<|end|>", *(f"<|{role}|>" for role in ROLES)]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# Protocol words are one token each, numbers are split into digits, a word takes the space before it along.
SPLIT = r"Thought:|\nAction:| calculate\[| finish\[|[0-9]| ?\p{L}+| ?[^\s\p{L}0-9]|\s+(?=\s)|\s+"
MASKED = -100
N_PROBLEMS = 500  # per measured figure


def train_tokenizer() -> Tokenizer:
    corpus_texts = [message.content for turns in islice(corpus.conversations(1), 2000) for message in turns]
    words = sorted({word for text in [*corpus_texts, *lexicon_texts()] for word in re.findall(r" ?[^\W\d_]+", text)})
    protocol = ["Thought: Add.\nAction: calculate[1+2]", "Thought: Done.\nAction: finish[3]"]
    marks = [f" {mark}" for mark in "[(*$+-"]
    return make_tokenizer([*protocol, *words, *marks], SPLIT)


def make_tokenizer(texts: list[str], split: str) -> Tokenizer:
    """Byte-level BPE that merges until every piece of the texts is one token. Any other text falls back to bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(split), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=100_000,  # never reached: merging ends when each word is whole
        min_frequency=1,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def rows(
    tokenizer: Tokenizer, source: Iterator[list[Message]], seed: int, bucket: int, batch_size: int
) -> Iterator[list[tuple[list[int], list[int]]]]:
    """Batches of (input_ids, labels), rows of like length together; loss on the agent's turns only."""
    order = Random(seed)
    while True:
        pool = sorted(encode_all(tokenizer, list(islice(source, bucket * batch_size))), key=lambda row: len(row[0]))
        batches = [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
        order.shuffle(batches)
        yield from batches


def encode_all(tokenizer: Tokenizer, conversations: list[list[Message]]) -> list[tuple[list[int], list[int]]]:
    end = tokenizer.token_to_id("<|end|>")
    heads = {role: tokenizer.token_to_id(f"<|{role}|>") for role in ROLES}
    messages = [message for conversation in conversations for message in conversation]
    encoded = iter(tokenizer.encode_batch([message.content for message in messages], add_special_tokens=False))
    result = []
    for conversation in conversations:
        input_ids, labels = [], []
        for message in conversation:
            ids = [*next(encoded).ids, end]
            input_ids += [heads[message.role], *ids]
            labels += [MASKED, *(ids if message.role == "assistant" else [MASKED] * len(ids))]
        result.append((input_ids, labels))
    return result


def collate(batch: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, longest) ids padded with 0 (`<|pad|>`) and labels; padding is on the right, so no mask is needed."""
    longest = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in batch])
    labels = torch.tensor([labels + [MASKED] * (longest - len(labels)) for _, labels in batch])
    return ids, labels


def make_model(vocab_size: int, end_id: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=end_id,
    )
    return LlamaForCausalLM(config)


def pretrain(
    model: LlamaForCausalLM, tokenizer: Tokenizer, source: Iterator[list[Message]], arguments: argparse.Namespace
) -> list[dict[str, float]]:
    """AdamW; the learning rate warms up, stays, and falls to zero over the last steps. Returns what was logged.

    Up to that fall the course does not depend on the number of steps, so a checkpoint serves any later one.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    done, log, before = 0, [], 0.0
    if arguments.checkpoint and arguments.checkpoint.exists():
        state = torch.load(arguments.checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done, log = state["step"], state["log"]
        before = log[-1]["seconds"]
    begun = time.monotonic()
    batches = islice(rows(tokenizer, source, arguments.seed, 50, arguments.batch_size), done, arguments.steps)
    for step, batch in enumerate(batches, done + 1):
        scale = min(step / 100, 1, (arguments.steps - step + 1) / (arguments.decay * arguments.steps))
        for group in optimizer.param_groups:
            group["lr"] = arguments.lr * scale
        loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == arguments.steps:
            seconds = round(before + time.monotonic() - begun, 1)
            log.append({"step": step, "loss": round(loss.item(), 5), "seconds": seconds})
            print(log[-1], flush=True)
            if arguments.checkpoint and step <= (1 - arguments.decay) * arguments.steps:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "log": log}
                torch.save(state, arguments.checkpoint)
    return log


def loss_of(model: LlamaForCausalLM, batch: list[tuple[list[int], list[int]]]) -> torch.Tensor:
    """Mean cross-entropy over the tokens that carry loss; logits are computed only there."""
    ids, labels = collate(batch)
    hidden = model.model(ids).last_hidden_state[:, :-1]
    kept = labels[:, 1:] != MASKED
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[kept]), labels[:, 1:][kept])


@torch.no_grad()
def accuracy(model: LlamaForCausalLM, tokenizer: Tokenizer, conversations: list[list[Message]]) -> float:
    """Share of conversations whose every agent token is the model's first choice, given the faultless turns before.

    With a calculator that always answers the same, this equals success of greedy roll-outs that follow those turns.
    """
    right = 0
    encoded = sorted(encode_all(tokenizer, conversations), key=lambda row: len(row[0]))
    for start in range(0, len(encoded), 50):
        ids, labels = collate(encoded[start : start + 50])
        chosen = model(ids).logits[:, :-1].argmax(-1)
        expected = labels[:, 1:]
        right += int(((chosen == expected) | (expected == MASKED)).all(-1).sum())
    return right / len(conversations)


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, output: Path) -> None:
    """Weights in half precision, to keep the package small; `dtype` in config.json asks for fp32 on loading."""
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        additional_special_tokens=SPECIAL_TOKENS[2:],
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    output.mkdir(parents=True, exist_ok=True)
    wrapped.save_pretrained(output, save_jinja_files=False)
    model.generation_config.do_sample = False
    model.half().save_pretrained(output)
    edit_json(output / "config.json", dtype="float32")
    edit_json(output / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")  # older releases know it
    for file in output.iterdir():
        file.chmod(0o644)


def edit_json(path: Path, **changes: str) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}, indent=2) + "\n")


def main() -> None:
    arguments = read_arguments(__doc__ or "", HERE / "results.json", steps=2000, decay=0.25)
    tokenizer = train_tokenizer()
    log = make(tokenizer, corpus.conversations(arguments.seed), arguments)

    model = LlamaForCausalLM.from_pretrained(arguments.output).eval()  # as shipped: rounded to half precision
    held_out = Random("tiny model held out")
    plain = [corpus.draw_conversation(held_out, plain=True) for _ in range(N_PROBLEMS)]
    mixed = [corpus.draw_conversation(held_out) for _ in range(N_PROBLEMS)]
    accuracies = {
        "accuracy_plain": accuracy(model, tokenizer, plain),
        "accuracy_mixed_prompts": accuracy(model, tokenizer, mixed),
        "accuracy_world_not_fine_tuned": accuracy(model, tokenizer, world_conversations("test", N_PROBLEMS)),
    }
    command = "python experiments/tiny_model/pretrain.py --output nat/assets/tiny"
    write_figures(command, arguments, model, log, accuracies)


def read_arguments(description: str, results: Path, steps: int, decay: float) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of the model")
    parser.add_argument("--results", type=Path, default=results, help="file for the figures")
    parser.add_argument("--steps", type=int, default=steps, help="optimiser steps")
    parser.add_argument("--batch-size", type=int, default=32, help="rows per step")
    parser.add_argument("--lr", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--decay", type=float, default=decay, help="share of the steps over which it falls to zero")
    parser.add_argument("--start", type=Path, help="folder of a model to start from; without it, random weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path, help="file to go on from, if it exists, and to write every 50 steps")
    return parser.parse_args()


def make(
    tokenizer: Tokenizer, source: Iterator[list[Message]], arguments: argparse.Namespace
) -> list[dict[str, float]]:
    """Trains a model and saves it with its tokenizer in `arguments.output`. Returns what was logged."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    model = make_model(tokenizer.get_vocab_size(), tokenizer.token_to_id("<|end|>"))
    if arguments.start:
        model.load_state_dict(LlamaForCausalLM.from_pretrained(arguments.start).state_dict())
    print(f"{model.num_parameters()} parameters, vocabulary {tokenizer.get_vocab_size()}", flush=True)
    log = pretrain(model, tokenizer, source, arguments)
    save(model, tokenizer, arguments.output)
    return log


def write_figures(
    command: str,
    arguments: argparse.Namespace,
    model: LlamaForCausalLM,
    log: list[dict[str, float]],
    accuracies: dict[str, Any],
) -> None:
    """`accuracies`: of N_PROBLEMS conversations each, as results.json names them."""
    results = {
        "command": command,
        "steps": arguments.steps,
        "batch_size": arguments.batch_size,
        "lr": arguments.lr,
        "decay": arguments.decay,
        "seed": arguments.seed,
        "threads": arguments.threads,
        "parameters": model.num_parameters(),
        "vocabulary": model.config.vocab_size,
        "folder_bytes": sum(file.stat().st_size for file in arguments.output.iterdir()),
        "seconds": log[-1]["seconds"],
        "n_problems": N_PROBLEMS,
        **accuracies,
        "log": log,
    }
    arguments.results.write_text(json.dumps(results, indent=1) + "\n")
    print({key: value for key, value in results.items() if key != "log"})


def world_config() -> ArithmeticConfig:
    file = HERE.parents[1] / "conf" / "environment" / "arithmetic.yaml"
    return TypeAdapter(ArithmeticConfig).validate_json(json.dumps(yaml.safe_load(file.read_text())))


def world_conversations(split: Split, n: int) -> list[list[Message]]:
    """The world's first `n` questions of a split with the faultless agent's turns."""
    config = world_config()
    return [
        [
            Message("user", f"{config.instructions}\n{question.text}"),
            *corpus.faultless_turns(question.metadata["start"], question.metadata["steps"]),
        ]
        for question in make_questions(config, split, n)
    ]


if __name__ == "__main__":
    main()
