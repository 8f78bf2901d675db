"""Episodes a second: `nat.evaluation.rollouts.roll_out` against one `generate` call a turn. Run by `make bench`.

    python experiments/benchmarks/rollouts.py                # the shipped model, CPU, fp32; writes into results.json

Both get the same model, questions and rules for ending a turn; repeats are interleaved, so that whatever else the
machine does falls on both. The loop plays fewer questions (the first of the same list), since it is slow; the episodes
that both played must be the same.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from results import PATH, note

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))


def main() -> None:
    parser = argparse.ArgumentParser(description="episodes a second, batched and one by one")
    parser.add_argument("--model", default="tiny", help="tiny (shipped) or a directory")
    parser.add_argument("--wording", choices=("plain", "world"), default="plain", help="see README.md")
    parser.add_argument("--questions", type=int, default=300, help="for the batched engine")
    parser.add_argument("--loop-questions", type=int, default=30, help="for the loop: the first of the same")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[128, 300])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path, default=PATH, help="results.json, or one like it")
    arguments = parser.parse_args()

    import torch
    import transformers

    from experiments.benchmarks.generate_loop import generate_loop
    from nat.environments.worlds.worlds import make_environment, make_questions
    from nat.evaluation.config import DecodingConfig
    from nat.evaluation.rollouts import roll_out
    from nat.examples.tokenization import chat_format
    from nat.runs.outcomes import summarise
    from nat.runs.results import Asked
    from nat.types import Message, Question

    torch.set_num_threads(arguments.threads)
    path = HERE.parent.parent / "nat" / "assets" / "tiny" if arguments.model == "tiny" else Path(arguments.model)
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    format = chat_format(transformers.AutoTokenizer.from_pretrained(path))
    world = arithmetic_config()
    environment = make_environment(world)
    questions = plain_questions(arguments.questions)
    if arguments.wording == "world":
        questions = make_questions(world, "test", arguments.questions)

    def prompt(question: Question) -> tuple[Message, ...]:
        return (Message("user", f"{environment.instructions}\n{question.text}"),)

    def decoding(batch_size: int) -> DecodingConfig:
        return DecodingConfig(
            temperature=0.0,
            top_p=1.0,
            seed=0,
            max_new_tokens=128,
            max_context=None,
            stop=["\nObservation:"],
            batch_size=batch_size,
        )

    few = questions[: arguments.loop_questions]
    one = decoding(1)
    generate_loop(model, format, environment, few[:2], prompt, one)  # warm-up
    seconds: dict[str, list[float]] = {}
    same, batched, looped = True, [], []
    for _ in range(arguments.repeats):
        looped = timed(seconds, "loop", lambda: generate_loop(model, format, environment, few, prompt, one))
        for size in arguments.batch_size:
            batched = timed(
                seconds,
                f"batch_{size}",
                lambda size=size: roll_out(model, format, environment, questions, prompt, decoding(size)),
            )
            same = same and batched[: len(few)] == looped
    loop_rate = len(few) / statistics.median(seconds["loop"])
    rates = {name: len(questions) / statistics.median(runs) for name, runs in seconds.items() if name != "loop"}
    # Neighbouring runs share the machine's load, so the ratio is taken within each repeat.
    ratios = {
        name: statistics.median(
            (len(questions) / fast) / (len(few) / slow)
            for fast, slow in zip(seconds[name], seconds["loop"], strict=True)
        )
        for name in rates
    }
    asked = Asked(kind="inference", split="test", asked_for=None, temperature=0.0, environment=environment.name)
    found = summarise(asked, batched)
    result = {
        "episodes_per_second": {name: round(rate, 2) for name, rate in {"loop": loop_rate, **rates}.items()},
        "times_the_loop": {name: round(ratio, 1) for name, ratio in ratios.items()},
        "same_episodes": same,
        "same_episodes_checked": len(few) * len(rates) * arguments.repeats,
        "seconds": {name: [round(run, 3) for run in runs] for name, runs in seconds.items()},
        "questions": {"batched": len(questions), "loop": len(few)},
        "generated_tokens_per_episode": round(sum(r.generated_tokens for r in batched) / len(batched), 1),
        "mean_turns": round(found.mean_turns or 0.0, 2),
        "success_rate": round(found.success_rate, 3),
        "wording": arguments.wording,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "threads": torch.get_num_threads(),
        "load_average_at_end": round(os.getloadavg()[0], 1),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
    note(__file__, result, arguments.output)
    print(json.dumps(result, indent=1))
    if not same:
        sys.exit("the batched engine and the loop gave different episodes")


def timed(seconds: dict[str, list[float]], name: str, run: Callable[[], list]) -> list:
    begun = time.perf_counter()
    result = run()
    seconds.setdefault(name, []).append(time.perf_counter() - begun)
    return result


def plain_questions(n: int) -> list[Any]:
    """New problems in the wording that the tiny model was pre-trained on, so that its episodes are whole ones."""
    from experiments.tiny_model.corpus import draw_conversation
    from nat.agents.actions import Action, parse_action
    from nat.types import Question

    rng, questions = random.Random("roll-out benchmark"), []
    for number in range(n):
        conversation = draw_conversation(rng, plain=True)
        answer = parse_action(conversation[-1].content, ("calculate",))
        assert isinstance(answer, Action)
        user = next(message for message in conversation if message.role == "user")
        questions.append(Question(f"plain-{number}", user.content.split("\n", 1)[1], answer.input))
    return questions


def arithmetic_config():
    """The world as `conf/environment/arithmetic.yaml` has it."""
    from omegaconf import OmegaConf
    from pydantic import TypeAdapter

    from nat.environments.worlds.arithmetic import ArithmeticConfig

    values = OmegaConf.to_container(OmegaConf.load(HERE.parent.parent / "conf" / "environment" / "arithmetic.yaml"))
    return TypeAdapter(ArithmeticConfig).validate_json(json.dumps(values), strict=True)


if __name__ == "__main__":
    main()
