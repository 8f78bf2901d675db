"""Training speed at the shape of a 1B-parameter Llama: tokens/s, and the share of what the GPU reaches in a matmul.

    python experiments/benchmarks/train_1b.py                       # needs one CUDA GPU with about 60 GB
    python experiments/benchmarks/train_1b.py --allow-cpu --layers 2 --width 64 --vocabulary 512 --length 64 \\
        --matmul 256 --batch 2                                      # only shows that the code runs

Random weights and tokens, through `nat.training.sft.train` as a run does it: bf16 autocast over fp32 weights, AdamW.
FLOPs a token: 6 x (all weights; the tied embedding counts once, as the head) + 6 x layers x width x length for causal
attention, forward and backward (Chowdhery et al., 2022, appendix B, halved for the causal mask). Recomputation under
`--checkpointing` is not counted.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from nat.examples.tokenization import MASKED, chat_format
from nat.model import ModelConfig, load_tokenizer
from nat.tracking import Tracker
from nat.training.config import SftTraining
from nat.training.sft import train
from nat.types import Example


def random_llama(layers: int, width: int, vocabulary: int, length: int, device: str) -> Any:
    """By default the shape of Llama 3.2 1B: 16 layers of width 2048, 32 heads, 8 key-value heads, tied embeddings."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(4, width // 64),
        num_key_value_heads=max(2, width // 256),
        max_position_embeddings=length,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    with torch.device(device):
        return LlamaForCausalLM(config)


def matmul_peak(size: int, device: str, repeats: int = 20) -> float:
    """TFLOP/s of a bf16 matmul of two size x size matrices (median of `repeats`, after three to warm up)."""
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    b = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    seconds = []
    for _ in range(repeats + 3):
        synchronize(device)
        start = time.perf_counter()
        _ = a @ b
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds[3:]) / 1e12


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=128_256)
    parser.add_argument("--length", type=int, default=2048, help="tokens a row")
    parser.add_argument("--batch", type=int, default=4, help="rows a step")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--matmul", type=int, default=8192, help="side of the matrices that give the peak")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations in the backward pass")
    parser.add_argument("--tokenizer", default="tiny", help="only its padding token is used")
    parser.add_argument("--allow-cpu", action="store_true", help="run without a GPU, to try the code at toy size")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not arguments.allow_cpu:
        sys.exit("This benchmark needs a CUDA GPU and there is none: nothing was measured. (--allow-cpu: toy sizes)")

    generator = random.Random(0)
    examples = []
    for i in range(arguments.steps * arguments.batch):
        ids = [generator.randrange(arguments.vocabulary) for _ in range(arguments.length)]
        examples.append(Example(ids, [MASKED] * 64 + ids[64:] if len(ids) > 64 else ids, "correct", str(i)))
    tokenizer = load_tokenizer(
        ModelConfig(
            name="tokenizer",
            path=arguments.tokenizer,
            revision=None,
            chat_template=None,
            max_length=arguments.length,
            dtype="float32",
            attention="sdpa",
            threads=None,
            lora=None,
        )
    )
    model = random_llama(arguments.layers, arguments.width, arguments.vocabulary, arguments.length, device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    flops_a_token = 6 * parameters + 6 * arguments.layers * arguments.width * arguments.length
    logging_steps = max(1, arguments.steps // 4)
    config = SftTraining(
        objective="sft",
        max_steps=arguments.steps,
        epochs=None,
        device=device,
        processes=1,
        sharding="none",
        checkpoint_every=None,
        save=False,
        sft={
            "per_device_train_batch_size": arguments.batch,
            "learning_rate": 1e-5,
            "train_sampling_strategy": "random",
            "gradient_checkpointing": arguments.checkpointing,
            "logging_steps": logging_steps,
            "optim": "adamw_torch_fused" if device == "cuda" else "adamw_torch",
        },
    )
    peak = matmul_peak(arguments.matmul, device)
    with tempfile.TemporaryDirectory() as directory:
        run_dir = Path(directory)
        tracker = Tracker(run_dir / "metrics.jsonl")
        train(model, chat_format(tokenizer), examples, config, seed=0, device=device, run_dir=run_dir, tracker=tracker)
        lines = [json.loads(line) for line in tracker.metrics_path.read_text(encoding="utf-8").splitlines()]
    # the first window holds the warm-up of kernels and memory pool
    tokens_per_second = statistics.median(line["tokens_per_second"] for line in lines[1:] or lines)
    reached = tokens_per_second * flops_a_token / 1e12
    print(
        json.dumps(
            {
                "device": torch.cuda.get_device_name(0) if device == "cuda" else "cpu: toy figures, no measurement",
                "torch": torch.__version__,
                "parameters": parameters,
                "rows_a_step": arguments.batch,
                "tokens_a_row": arguments.length,
                "steps": arguments.steps,
                "gradient_checkpointing": arguments.checkpointing,
                "tokens_per_second": round(tokens_per_second),
                "tflops": round(reached, 3),
                "matmul_tflops": round(peak, 3),
                "share_of_matmul_peak": round(reached / peak, 4),
                "peak_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 1) if device == "cuda" else None,
                "loss": [round(line["loss"], 3) for line in lines],
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
