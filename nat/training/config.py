"""The `training` group."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, PositiveInt, model_validator
from pydantic.dataclasses import dataclass

from nat.core.schema import OF_NO_EFFECT, STRICT
from nat.types import RequestError

Device: TypeAlias = Literal["auto", "cpu", "cuda"]


SET_ELSEWHERE = {  # field of SFTConfig: why it is not free under training.sft
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
            if name in SET_ELSEWHERE or name.startswith(("hub_", "push_to_hub_", "eval_")):
                reason = SET_ELSEWHERE.get(name, "nat uploads nothing and evaluates by roll-outs")
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


# A further objective is one more class here: CONTRIBUTING.md has the other three edits.
TrainingConfig: TypeAlias = Annotated[NoTraining | SftTraining, Field(discriminator="objective")]


def check_sharding(config: NoTraining | Training, lora: object | None) -> None:
    """Raise RequestError where the model has adapters (`model.lora`) and is to be sharded over processes."""
    if isinstance(config, Training) and config.sharding != "none" and lora is not None:
        raise RequestError(
            f"training.sharding={config.sharding}: adapters are folded into whole weights after training, and no "
            "process would have them;\nset model.lora=null to train all weights, or training.sharding=none: adapters "
            "need little memory beside the weights"
        )
