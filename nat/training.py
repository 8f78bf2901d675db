"""Fine-tuning on tokenised examples, with TRL's SFTTrainer."""

from __future__ import annotations

import difflib
import gc
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, PositiveInt, model_validator
from pydantic.dataclasses import dataclass

from nat.progress import Advance, progress
from nat.schema import OF_NO_EFFECT, STRICT
from nat.tokenization import ChatFormat, trained_token_count
from nat.types import Example, RequestError, StageError

if TYPE_CHECKING:
    from nat.tracking import Tracker

Device: TypeAlias = Literal["auto", "cpu", "cuda"]

CHECKPOINTS = "checkpoints"
MEETING_PLACE = ".training"  # of several processes that train together (nat.distributed); removed when they have

_SET_ELSEWHERE = {  # field of SFTConfig: why it is not free under training.sft
    "seed": "set the top-level `seed`",
    "data_seed": "set the top-level `seed`",
    "max_steps": "set `training.max_steps`",
    "num_train_epochs": "set `training.epochs`",
    "use_cpu": "set `training.device`",
    "save_steps": "set `training.checkpoint_every`",
    "save_strategy": "set `training.checkpoint_every`",
    "save_total_limit": "nat keeps the last complete checkpoint",
    "save_only_model": "a checkpoint without its optimiser could not be resumed",
    "max_length": "set `model.max_length`; TRL would cut the answer off, nat drops and counts what is longer",
    "truncation_mode": "nothing is ever cut; set `model.max_length`",
    "output_dir": "set `hydra.run.dir`",
    "run_name": "runs are named by nat",
    "report_to": "choose with `tracking=`",
    "disable_tqdm": "nat shows its own progress",
    "logging_strategy": "set `training.sft.logging_steps`",
    "logging_nan_inf_filter": "a loss that is no number stops the run",
    "packing": "packed rows lose their class, and with it the loss per class",
    "packing_strategy": "rows are not packed",
    "eval_packing": "rows are not packed",
    "padding_free": "rows lose their class, and with it the loss per class",
    "remove_unused_columns": "the class of a row is such a column",
    "dataset_kwargs": "rows come tokenised by nat",
    "dataset_text_field": "rows come tokenised by nat",
    "dataset_num_proc": "rows come tokenised by nat",
    "assistant_only_loss": "nat's labels mask all but the agent's turns",
    "completion_only_loss": "nat's labels mask all but the agent's turns",
    "chat_template_path": "set `model.chat_template`",
    "eos_token": "turns end as the chat template says",
    "pad_token": "padding is masked whatever its token",
    "model_init_kwargs": "set the keys of `model`",
    "trust_remote_code": "models that bring their own code are not run",
    "resume_from_checkpoint": "nat resumes from the run directory's last complete checkpoint",
    "length_column_name": "nat knows its rows' lengths",
    "do_train": "nat decides what runs",
    "do_eval": "nat evaluates by roll-outs; see `evaluation`",
    "do_predict": "nat evaluates by roll-outs; see `evaluation`",
    "eval_strategy": "nat evaluates by roll-outs; see `evaluation`",
    "eval_on_start": "nat evaluates by roll-outs; see `evaluation`",
    "load_best_model_at_end": "nat evaluates by roll-outs; see `evaluation`",
    "push_to_hub": "nat uploads nothing",
    "fsdp": "set `training.sharding`",
    "fsdp_config": "set `training.sharding`",
    "deepspeed": "set `training.sharding`",
}


@dataclass(frozen=True, config=STRICT, kw_only=True)
class NoTraining:
    """The model stays as it is. Values and their meaning: conf/training/none.yaml."""

    objective: Literal["none"]
    device: Device


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Training:
    """What every objective has that trains; each adds its own keys, checked without importing what they are for."""

    objective: str
    max_steps: int | None
    epochs: float | None
    device: Device
    processes: PositiveInt
    sharding: Literal["none", "fsdp2"]
    checkpoint_every: Annotated[int | None, OF_NO_EFFECT]
    save: Annotated[bool | None, OF_NO_EFFECT]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if (self.max_steps is None) == (self.epochs is None):
            raise ValueError(
                f"max_steps={self.max_steps}, training.epochs={self.epochs}: exactly one must be set, the other null"
            )
        for key, value in (("max_steps", self.max_steps), ("epochs", self.epochs)):
            if value is not None and value <= 0:
                raise ValueError(f"{key}={value}: must be above 0; to train nothing use training=none")
        if self.sharding != "none" and self.processes == 1:
            raise ValueError(
                f"sharding={self.sharding}: shards the model over several processes, and training.processes=1; raise "
                "training.processes to the number of GPUs, or take training.sharding=none"
            )
        if self.checkpoint_every is not None and self.checkpoint_every < 1:
            raise ValueError(
                f"checkpoint_every={self.checkpoint_every}: must be at least 1 step, or null for no checkpoints"
            )
        return self


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SftTraining(Training):
    """Values and their meaning: conf/training/sft.yaml. Field names under `sft` are checked once TRL is loaded."""

    objective: Literal["sft"]
    sft: dict[str, Any]

    @model_validator(mode="after")
    def _fields_are_free(self) -> Self:
        for name in self.sft:
            if name in _SET_ELSEWHERE or name.startswith(("hub_", "push_to_hub_", "eval_")):
                reason = _SET_ELSEWHERE.get(name, "nat uploads nothing and evaluates by roll-outs")
                raise ValueError(f"sft.{name}: is set by nat; {reason}")
        every, logging_steps = self.checkpoint_every, self.sft.get("logging_steps", 10)
        if not isinstance(logging_steps, int) or logging_steps < 1:
            raise ValueError(f"sft.logging_steps={logging_steps}: must be a whole number of steps, 1 or more")
        if every is not None and every % logging_steps:
            # A resumed run would otherwise begin inside a logging window and log another mean than the unbroken one.
            raise ValueError(
                f"checkpoint_every={every}: must be a multiple of training.sft.logging_steps={logging_steps}"
            )
        return self


# A further objective is one more class here and one more file in conf/training/.
TrainingConfig: TypeAlias = Annotated[NoTraining | SftTraining, Field(discriminator="objective")]


@dataclass(frozen=True)
class TrainingResult:
    """What a training did.

    `steps` are the optimiser's, `resumed_from` the step of the checkpoint it went on from (0: from the start),
    `seconds` this process's wall time, `tokens` all tokens the model read (no padding) and `trained_tokens` those that
    carried loss, both over the whole training; `metrics` is the last logged line (`loss`, `loss/correct`, ...).
    """

    steps: int
    resumed_from: int
    seconds: float
    tokens: int
    trained_tokens: int
    metrics: dict[str, float]


def check_sharding(config: TrainingConfig, lora: object | None) -> None:
    """Raise RequestError where the model has adapters (`model.lora`) and is to be sharded over processes."""
    if isinstance(config, Training) and config.sharding != "none" and lora is not None:
        raise RequestError(
            f"training.sharding={config.sharding}: adapters are folded into whole weights after training, and no "
            "process would have them;\nset model.lora=null to train all weights, or training.sharding=none: adapters "
            "need little memory beside the weights"
        )


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
            close = difflib.get_close_matches(name, names - set(_SET_ELSEWHERE), n=3)
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
            # the first process has read the weights (nat.distributed) and sends the others their shards
            "cpu_ram_efficient_loading": True,
            # each process writes its shard: Adam's whole state would not fit into the first one's memory
            "state_dict_type": "SHARDED_STATE_DICT",
        },
    }


def train(
    model: Any,
    format: ChatFormat,
    examples: Sequence[Example],
    config: TrainingConfig,
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
        show: what is told the progress, called as `nat.progress.progress`.

    In one of several processes that train together (`nat.distributed`) this one takes its part of every step, and the
    first process alone writes files.

    Raises:
        RequestError: a setting that cannot be used. StageError: the loss is no longer a number.
    """
    if isinstance(config, NoTraining):
        return TrainingResult(0, 0, 0.0, 0, 0, {})
    if not any(trained_token_count(example) for example in examples):
        raise RequestError("training: no example has a token to train")
    import torch
    from transformers import set_seed

    from nat.sft_trainer import ClassLossTrainer, library_messages_to_log, only_trained_positions_scored

    output_dir = run_dir / CHECKPOINTS
    with library_messages_to_log():
        arguments = sft_config(config, seed, output_dir, device)
    checkpoint = last_checkpoint(output_dir) if resume else None
    first_step = 0 if checkpoint is None else _state(checkpoint)["global_step"]
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


def last_checkpoint(directory: Path) -> Path | None:
    """The newest checkpoint that was written to its end; what a killed process left behind is removed."""
    complete = []
    for path in directory.glob("checkpoint-*"):
        try:
            complete.append((_state(path)["global_step"], path))
        except (OSError, ValueError, KeyError):  # Trainer writes its state last
            shutil.rmtree(path)
    return max(complete)[1] if complete else None


def remove_checkpoints(run_dir: Path) -> None:
    """To be called when a run is complete: until then, a resumed run needs them."""
    shutil.rmtree(run_dir / CHECKPOINTS, ignore_errors=True)


def _state(checkpoint: Path) -> Mapping[str, Any]:
    return json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def check_finite(loss: float, step: int) -> None:
    if loss != loss or loss in (float("inf"), float("-inf")):
        raise StageError(f"training: the loss is {loss} at step {step}; lower training.sft.learning_rate")
