"""What a training step costs through `nat.training.sft.train` (TRL's SFTTrainer) beside a bare PyTorch loop, on the
CPU.

    python experiments/benchmarks/train_overhead.py --threads 2 --steps 30 --repeats 5

A random Llama of about 1 M parameters, 16 rows of about 110 tokens a step. The ways take turns; medians of the repeats
are shown in wall time and in CPU time, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from nat.examples.tokenization import MASKED, ChatFormat, chat_format
from nat.model import ModelConfig, load_tokenizer
from nat.tracking import Tracker
from nat.training.config import SftTraining
from nat.training.sft import train
from nat.training.sft_trainer import LengthGroupedSampler
from nat.types import Example

BATCH, VOCABULARY, PROMPT = 16, 1987, 50  # rows a step; the tiny model's vocabulary; masked tokens of a row


def random_examples(n: int) -> list[Example]:
    generator = random.Random(0)
    examples = []
    for i in range(n):
        length = round(min(160, max(60, generator.gauss(110, 20))))
        ids = [generator.randrange(VOCABULARY) for _ in range(length)]
        examples.append(Example(ids, [MASKED] * PROMPT + ids[PROMPT:], "incorrect" if i % 2 else "correct", str(i)))
    return examples


def random_model() -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
        )
    )


def bare_loop(examples: Sequence[Example], steps: int, grouped: bool) -> Callable[[], None]:
    """A closure that takes `steps` steps; what it needs is built beforehand."""
    model = random_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    collate = DataCollatorForLanguageModeling(pad_token_id=0)
    lengths = [len(example.input_ids) for example in examples]
    order = list(LengthGroupedSampler(lengths, BATCH, 0)) if grouped else list(range(len(examples)))

    def loop() -> None:
        for step in range(steps):
            rows = [examples[i] for i in order[step * BATCH : (step + 1) * BATCH]]
            batch = collate([{"input_ids": row.input_ids, "labels": row.labels} for row in rows])
            model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return loop


def sft_trainer(format: ChatFormat, examples: Sequence[Example], steps: int, sampling: str) -> tuple[float, float]:
    """Milliseconds a step (wall, CPU) by difference of a long and a short training: starting up is not counted."""

    def seconds(n: int) -> tuple[float, float]:
        config = SftTraining(
            objective="sft",
            max_steps=n,
            epochs=None,
            device="cpu",
            processes=1,
            sharding="none",
            checkpoint_every=None,
            save=False,
            sft={
                "per_device_train_batch_size": BATCH,
                "learning_rate": 1e-3,
                "train_sampling_strategy": sampling,
                "gradient_checkpointing": False,
                "logging_steps": 10,
                "optim": "adamw_torch",
            },
        )
        with tempfile.TemporaryDirectory() as directory:
            tracker = Tracker(Path(directory) / "metrics.jsonl")
            model = random_model()
            start, cpu = time.perf_counter(), time.process_time()
            train(model, format, examples, config, seed=0, device="cpu", run_dir=Path(directory), tracker=tracker)
            return time.perf_counter() - start, time.process_time() - cpu

    long, short = seconds(steps + 1), seconds(1)
    return tuple(1000 * (a - b) / steps for a, b in zip(long, short, strict=True))  # type: ignore[return-value]


def timed(loop: Callable[[], None], steps: int) -> tuple[float, float]:
    start, cpu = time.perf_counter(), time.process_time()
    loop()
    return 1000 * (time.perf_counter() - start) / steps, 1000 * (time.process_time() - cpu) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokenizer", default="tiny", help="only its padding token is used")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = ModelConfig(
        name="tiny",
        path=arguments.tokenizer,
        revision=None,
        chat_template=None,
        max_length=4096,
        dtype="float32",
        attention="sdpa",
        threads=None,
        lora=None,
    )
    format = chat_format(load_tokenizer(model))
    steps, examples = arguments.steps, random_examples((arguments.steps + 1) * BATCH)
    ways = {
        "bare loop, random order": lambda: timed(bare_loop(examples, steps, grouped=False), steps),
        "bare loop, grouped by length": lambda: timed(bare_loop(examples, steps, grouped=True), steps),
        "SFTTrainer, random order": lambda: sft_trainer(format, examples, steps, "random"),
        "SFTTrainer, grouped by length": lambda: sft_trainer(format, examples, steps, "group_by_length"),
    }
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(arguments.repeats):
        for name, way in ways.items():
            measured[name].append(way())
    parameters = sum(parameter.numel() for parameter in random_model().parameters())
    print(f"{parameters / 1e6:.2f} M parameters, {BATCH} rows a step, {arguments.threads} threads, ms a step (medians)")
    for name, times in measured.items():
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{name:32} wall {wall:6.1f}   CPU {cpu:6.1f}")


if __name__ == "__main__":
    main()
