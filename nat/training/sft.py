"""Fine-tuning on tokenised examples, with TRL's SFTTrainer."""

from __future__ import annotations

import difflib
import gc
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from nat.core.progress import Advance, progress
from nat.examples.tokenization import ChatFormat, trained_token_count
from nat.tracking import Tracker
from nat.training.checkpoints import CHECKPOINTS, last_checkpoint, training_state
from nat.training.config import SET_ELSEWHERE, SftTraining, Training
from nat.training.objectives import TrainingResult
from nat.types import Example, RequestError


def sft_config(config: SftTraining, seed: int, output_dir: Path, device: Literal["cpu", "cuda"]) -> Any:
    """TRL's `SFTConfig`: `training.sft`, and what nat sets around it.

    Raises:
        RequestError: a name that SFTConfig has not (with the closest ones), or a value that it refuses.
    """
    import dataclasses

    from trl.trainer.sft_config import SFTConfig

    names = {field.name for field in dataclasses.fields(SFTConfig) if field.init}
    for name in config.sft:
        if name not in names:
            close = difflib.get_close_matches(name, names - set(SET_ELSEWHERE), n=3)
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            raise RequestError(f"training.sft.{name}: TRL's SFTConfig has no such field{hint}")
    sft = dict(config.sft)
    if "gradient_checkpointing" in sft and "activation_checkpointing" in names:
        # TRL's documented name is deprecated in newer transformers, which would warn
        sft.setdefault("activation_checkpointing", sft.pop("gradient_checkpointing"))
    settings = {
        "bf16": device == "cuda" and not config.sft.get("fp16", False),
        "max_steps": -1 if config.max_steps is None else config.max_steps,
        "num_train_epochs": 1.0 if config.epochs is None else config.epochs,
        "use_cpu": device == "cpu",
        # pinning needs an accelerator and warns without one
        "dataloader_pin_memory": device == "cuda",
        **sft,
        "seed": seed,
        "data_seed": seed,
        "output_dir": str(output_dir),
        "report_to": "none",
        "disable_tqdm": True,
        "logging_nan_inf_filter": False,
        "max_length": None,
        "packing": False,
        "remove_unused_columns": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "save_strategy": "no" if config.checkpoint_every is None else "steps",
        "save_steps": config.checkpoint_every or 0,
        "save_total_limit": 1,
        **_sharding(config),
    }
    try:
        arguments = SFTConfig(**settings)
    except (ValueError, TypeError, KeyError) as error:
        raise RequestError(f"training.sft: {_one_line(error)}") from error
    if device == "cuda" and arguments.parallel_mode.name == "NOT_DISTRIBUTED":
        # A plain process with several visible GPUs would be wrapped in DataParallel, which TRL refuses: use the first.
        arguments._n_gpu = 1
    if config.sharding != "none" and (arguments.bf16 or arguments.fp16):
        import torch
        from torch.distributed.fsdp import MixedPrecisionPolicy

        # accelerate's own choice sums gradients and rounds the loss of every token in half precision, which the
        # training of whole models (DDP) does not
        half = torch.bfloat16 if arguments.bf16 else torch.float16
        policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32)
        plugin: Any = arguments.fsdp_plugin_args
        plugin["mixed_precision_policy"] = policy
    return arguments


def _sharding(config: Training) -> dict[str, Any]:
    """Fields of SFTConfig for accelerate's FSDP2; the units of sharding are the layers that the model's class names."""
    if config.sharding == "none":
        return {}
    return {
        "fsdp": True,
        "fsdp_config": {
            "version": 2,
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "reshard_after_forward": True,
            # the first process has read the weights (nat.training.distributed) and sends the others their shards
            "cpu_ram_efficient_loading": True,
            # each process writes its shard: Adam's whole state would not fit into the first one's memory
            "state_dict_type": "SHARDED_STATE_DICT",
        },
    }


def train(
    model: Any,
    format: ChatFormat,
    examples: Sequence[Example],
    config: SftTraining,
    *,
    seed: int,
    device: Literal["cpu", "cuda"],
    run_dir: Path,
    tracker: Tracker,
    resume: bool = False,
    show: Callable[..., AbstractContextManager[Advance]] = progress,
) -> TrainingResult:
    """Fine-tune `model` in place on the examples' labels.

    Logs `loss` and `token_accuracy` (overall and `/<class>`, means over the window's trained tokens),
    `learning_rate`, `grad_norm`, `tokens`, `trained_tokens`, `tokens_per_second` every `training.sft.logging_steps`.

    Args:
        resume: go on from the last complete checkpoint in `run_dir/checkpoints`, where there is one.
        show: what is told the progress, called as `nat.core.progress.progress`.

    In one of several processes that train together (`nat.training.distributed`) this one takes its part of every
    step, and the first process alone writes files.

    Raises:
        RequestError: a setting that cannot be used. StageError: the loss is no longer a number.
    """
    if not any(trained_token_count(example) for example in examples):
        raise RequestError("training: no example has a token to train")
    import torch
    from transformers import set_seed

    from nat.training.sft_trainer import ClassLossTrainer, library_messages_to_log, only_trained_positions_scored

    output_dir = run_dir / CHECKPOINTS
    with library_messages_to_log():
        arguments = sft_config(config, seed, output_dir, device)
    checkpoint = last_checkpoint(output_dir) if resume else None
    first_step = 0 if checkpoint is None else training_state(checkpoint)["global_step"]
    if arguments.process_index == 0:
        if checkpoint is None and output_dir.exists():
            shutil.rmtree(output_dir)  # of an earlier run in the same place: its files must not be taken for this one's
        tracker.rewind(first_step)

    set_seed(seed)
    forward = model.__dict__.get("forward")  # TRL's fused head and accelerate's autocast are put in its place
    start = time.monotonic()
    with library_messages_to_log():
        trainer = ClassLossTrainer(model=model, args=arguments, format=format, examples=examples, tracker=tracker)
        total = trainer.planned_steps()
        if first_step < total:
            with only_trained_positions_scored(), show(total, "training", "steps", done=first_step) as advance:
                trainer.report = advance
                trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        else:  # the training was finished when the run was cut off: Trainer would take one step more
            assert checkpoint is not None
            trainer.load_finished(str(checkpoint))
    if forward is None:
        model.__dict__.pop("forward", None)
    else:
        model.forward = forward
    model.eval()
    if arguments.gradient_checkpointing:  # it forbids the key-value cache in roll-outs
        getattr(model, "activation_checkpointing_disable", model.gradient_checkpointing_disable)()
    metrics, steps = trainer.last_metrics(), trainer.state.global_step
    del trainer  # with the optimiser's state, which roll-outs have no room for on a GPU
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    return TrainingResult(
        steps=steps,
        resumed_from=first_step,
        seconds=time.monotonic() - start,
        tokens=int(metrics.get("tokens", 0)),
        trained_tokens=int(metrics.get("trained_tokens", 0)),
        metrics=metrics,
    )


def meet(config: SftTraining, *, seed: int, device: Literal["cpu", "cuda"], run_dir: Path) -> int:
    """In one of several processes: wait for the others, as `training.sft` says (`ddp_timeout`, ...); their number.

    Raises RequestError as `sft_config` does.
    """
    return sft_config(config, seed, run_dir / CHECKPOINTS, device).world_size


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
