"""TRL's SFTTrainer with the loss of each class. Imports torch and TRL: only `nat.training.sft.train` imports it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import datasets
import torch
import transformers
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from transformers import PrinterCallback, TrainerCallback
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from nat.core.progress import Advance
from nat.examples.tokenization import ChatFormat
from nat.tracking import Tracker
from nat.types import Example, StageError

LOSS, CORRECT, COUNT = range(3)  # columns of the sums per class


class ClassLossTrainer(SFTTrainer):
    """Adds to SFTTrainer what it has no setting for.

    Per class, over a logging window: the sum of the loss, of the right guesses and of the trained tokens, read from
    the fused head's output, so that no second forward pass is needed. The order of examples depends on seed and epoch
    alone, so that a resumed training goes on with the same batches.
    """

    def __init__(
        self, model: Any, args: Any, format: ChatFormat, examples: Sequence[Example], tracker: Tracker
    ) -> None:
        self.classes = list(dict.fromkeys(example.class_name for example in examples))
        self.lengths = [len(example.input_ids) for example in examples]
        self.tracker = tracker
        self.report: Advance = lambda done, status: None
        self._class_sums = torch.zeros(len(self.classes), 3, dtype=torch.float64, device=args.device)
        self._counts_before: dict[str, float] | None = None
        self._window_start = time.monotonic()
        self._window_tokens = 0
        self._trained_tokens = 0
        super().__init__(
            model=model,
            args=args,
            train_dataset=datasets.Dataset.from_dict(
                {
                    "input_ids": [example.input_ids for example in examples],
                    "labels": [example.labels for example in examples],
                    "class_index": [self.classes.index(example.class_name) for example in examples],
                }
            ),
            processing_class=format.tokenizer,
            data_collator=_Collator(pad_token_id=_pad_token_id(format), pad_to_multiple_of=args.pad_to_multiple_of),
            callbacks=[_Reporter(self)],
        )
        self.remove_callback(PrinterCallback)  # it prints every logged line to stdout

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.args.fsdp and not self.is_fsdp_enabled:
            # accelerate shards on GPUs only and takes DDP on the CPU, where torch can shard too
            state: Any = self.accelerator.state
            settings: Any = self.args.fsdp_plugin_args
            state.fsdp_plugin = FullyShardedDataParallelPlugin(**settings)
            state.distributed_type = DistributedType.FSDP
            self.is_fsdp_enabled = True

    def planned_steps(self) -> int:
        """Optimiser steps of the whole training."""
        return self.set_initial_training_values(self.args, self.get_train_dataloader())[-1]

    def load_finished(self, checkpoint: str) -> None:
        """Take the weights and the record of a training that had reached its last step."""
        if self.is_fsdp_enabled:  # each process reads its shard, into a sharded model
            self.model, self.optimizer = self.accelerator.prepare(self.model, self.create_optimizer())
        self._load_from_checkpoint(checkpoint)
        self.state = transformers.TrainerState.load_from_json(f"{checkpoint}/trainer_state.json")

    def last_metrics(self) -> dict[str, float]:
        lines = [line for line in self.state.log_history if "loss" in line]
        return {key: value for key, value in lines[-1].items() if key != "step"} if lines else {}

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        class_index = inputs.pop("class_index")

        def remember(**arguments: Any) -> Any:
            outputs = model(**arguments)
            if getattr(outputs, "log_probs", None) is not None:
                self._add(class_index, outputs)
            return outputs

        remembering: Any = remember  # SFTTrainer only calls it
        return super().compute_loss(remembering, inputs, return_outputs, num_items_in_batch)

    @torch.no_grad()
    def _add(self, class_index: torch.Tensor, outputs: Any) -> None:
        # each is B L-1, zero where the label is masked
        columns = (-outputs.log_probs, outputs.is_top1, outputs.label_mask)
        rows = torch.stack([column.to(torch.float64).sum(1) for column in columns], dim=1)  # B 3
        self._class_sums.index_add_(0, class_index, rows)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        metrics = self._metrics["train"]
        metrics.pop("mean_token_accuracy", None)  # a mean over batches, whatever their tokens
        metrics.pop("num_tokens", None)  # our `tokens`, which a resumed training goes on counting
        if "loss" in logs:
            logs = {**logs, **self._window()}
        super().log(logs, start_time)

    def _window(self) -> dict[str, float]:
        """The metrics of the steps since the last call."""
        if self._counts_before is None:
            before = self.last_metrics()  # of the checkpoint that was resumed
            self._counts_before = {name: before.get(name, 0) for name in ("tokens", "trained_tokens")}
        reduced: Any = self.accelerator.reduce(self._class_sums, reduction="sum")  # over processes
        sums = reduced.tolist()
        self._class_sums.zero_()
        logs: dict[str, float] = {}
        totals = [sum(column) for column in zip(*sums, strict=True)]
        for suffix, (loss, correct, count) in zip(
            ["", *(f"/{name}" for name in self.classes)], [totals, *sums], strict=True
        ):
            if count:  # a class may be absent from a short window
                logs[f"loss{suffix}"] = loss / count
                logs[f"token_accuracy{suffix}"] = correct / count
        now = time.monotonic()
        self._trained_tokens += int(totals[COUNT])
        logs["tokens"] = self._counts_before["tokens"] + self._total_train_tokens
        logs["trained_tokens"] = self._counts_before["trained_tokens"] + self._trained_tokens
        logs["tokens_per_second"] = (self._total_train_tokens - self._window_tokens) / (now - self._window_start)
        self._window_start, self._window_tokens = now, self._total_train_tokens
        return logs

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        return LengthGroupedSampler(self.lengths, self.args.train_batch_size, self.args.seed)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: nat writes the model's card itself, once, when it saves the model."""


class LengthGroupedSampler(torch.utils.data.Sampler):
    """Batches of examples of similar length, in random order.

    transformers' own sampler draws from the global generator, so that a resumed epoch would go on in another order, and
    runs through up to fifty batches from the longest to the shortest.
    """

    batches_sorted_together = 8  # more saves padding, fewer mixes better

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        size = self.batch_size * self.batches_sorted_together
        ordered = [
            index for at in range(0, len(order), size) for index in sorted(order[at : at + size], key=self._length)
        ]
        # only whole batches move: the shorter last one must stay last, or every later batch would be cut askew
        whole = len(ordered) // self.batch_size
        for batch in torch.randperm(whole, generator=generator).tolist():
            yield from ordered[batch * self.batch_size : (batch + 1) * self.batch_size]
        yield from ordered[whole * self.batch_size :]

    def _length(self, index: int) -> int:
        return self.lengths[index]


class _Collator(DataCollatorForLanguageModeling):
    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        batch["class_index"] = torch.tensor([example["class_index"] for example in examples])
        return batch


class _Reporter(TrainerCallback):
    """Passes what Trainer logs on to the tracker and the progress bar."""

    def __init__(self, trainer: ClassLossTrainer) -> None:
        self.trainer = trainer
        self.status = ""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.report(state.global_step, self.status)
        if state.global_step >= state.max_steps:
            control.should_log = True  # the last window, however short

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if not logs or "loss" not in logs:
            return
        check_finite(logs["loss"], state.global_step)
        self.status = f"loss {logs['loss']:.3f}"
        if state.is_world_process_zero:  # all processes have the same numbers
            self.trainer.tracker.log(logs, step=state.global_step)


def _pad_token_id(format: ChatFormat) -> int:
    pad = format.tokenizer.pad_token_id
    return format.end_of_turn_id if pad is None else pad  # masked in labels and attention, so any token will do


@contextmanager
def only_trained_positions_scored() -> Iterator[None]:
    """Let the fused head skip masked positions on the CPU too, where it is a third of a tiny model's step.

    TRL scores all positions wherever there is no Triton, since some accelerators recompile for every new shape; the
    CPU does not. A TRL without this switch is left as it is.
    """
    from trl.trainer import utils

    decide = getattr(utils, "_use_triton", None)
    if decide is None:
        yield
        return
    utils._use_triton = lambda device: device.type == "cpu" or decide(device)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        utils._use_triton = decide  # type: ignore[attr-defined]


@contextmanager
def library_messages_to_log() -> Iterator[None]:
    """Messages and bars of transformers, TRL and torch go to the log (or nowhere, if there is none), not the terminal.

    They speak of what nat chose knowingly: a model's special tokens aligned with its tokenizer's, say.
    """
    library, root, silent = logging.getLogger("transformers"), logging.getLogger(), logging.NullHandler()
    handlers, propagate = list(library.handlers), library.propagate
    bars = transformers.utils.logging.is_progress_bar_enabled()
    library.handlers, library.propagate = [], True
    root.addHandler(silent)  # without any handler, Python prints warnings to stderr
    transformers.utils.logging.disable_progress_bar()
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        if bars:
            transformers.utils.logging.enable_progress_bar()
        root.removeHandler(silent)
        library.handlers, library.propagate = handlers, propagate


def check_finite(loss: float, step: int) -> None:
    if loss != loss or loss in (float("inf"), float("-inf")):
        raise StageError(f"training: the loss is {loss} at step {step}; lower training.sft.learning_rate")
