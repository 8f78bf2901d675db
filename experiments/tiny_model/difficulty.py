"""How hard the arithmetic world is for the tiny model: fine-tuned on successes only, few and many.

    python experiments/tiny_model/difficulty.py

The world was set by these figures and by pre-training's alone, before any two methods were compared. A plain loop of
its own, so that it depends on no other part of the framework. Writes difficulty.json beside this script.
"""

from __future__ import annotations

import json
import math
import sys
import time
from itertools import islice
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import pretrain  # noqa: E402  (a script's neighbour, importable only from here on)

from nat.environments.worlds.worlds import endless_trajectories  # noqa: E402
from nat.types import Message  # noqa: E402

BASE = HERE.parents[1] / "nat" / "assets" / "tiny"
STEPS, BATCH_SIZE, LR = 600, 16, 1e-3
N_QUESTIONS = 500
CELLS = ((100, 0), (2000, 0))  # (successes, seed)


def fine_tune(n: int, seed: int) -> dict[str, float]:
    """Success on validation questions after training on the scripted policy's first `n` successes."""
    torch.manual_seed(seed)
    order = Random(seed)
    tokenizer = Tokenizer.from_file(str(BASE / "tokenizer.json"))
    model = LlamaForCausalLM.from_pretrained(BASE)
    config = pretrain.world_config()
    successes = (trajectory for trajectory in endless_trajectories(config) if trajectory.outcome.success)
    conversations = [
        [Message("user", f"{config.instructions}\n{trajectory.question}"), *trajectory.messages]
        for trajectory in islice(successes, n)
    ]
    data = pretrain.encode_all(tokenizer, conversations)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    begun = time.monotonic()
    for step in range(1, STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = LR * min(step / 30, (1 + math.cos(math.pi * step / STEPS)) / 2)
        # Of rows drawn at random, those of like length go together.
        rows = sorted(order.choices(data, k=8 * BATCH_SIZE), key=lambda row: len(row[0]))
        at = order.randrange(8) * BATCH_SIZE
        loss = pretrain.loss_of(model, rows[at : at + BATCH_SIZE])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    seconds = time.monotonic() - begun
    asked = pretrain.world_conversations("validation", N_QUESTIONS)
    return {
        "successes": n,
        "distinct_successes": len({str(conversation) for conversation in conversations}),
        "seed": seed,
        "success": pretrain.accuracy(model.eval(), tokenizer, asked),
        "seconds_per_step": round(seconds / STEPS, 3),
        "mean_tokens_per_row": round(sum(len(ids) for ids, _ in data) / n, 1),
    }


def main() -> None:
    torch.set_num_threads(1)
    figures = []
    for n, seed in CELLS:
        figures.append(fine_tune(n, seed))
        print(figures[-1], flush=True)
        content = {"steps": STEPS, "batch_size": BATCH_SIZE, "lr": LR, "n_questions": N_QUESTIONS, "cells": figures}
        (HERE / "difficulty.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
