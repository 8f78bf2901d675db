"""Does the model use the mark? The loss of the same trajectories under the text of each class.

A trained model that ignores the mark gives a failure the same loss whichever text stands in the prompt; one that uses
it finds failures likelier when asked for failures, successes when asked for successes:

    {"failures": {"by_class": {"correct": {"loss": 0.412, "tokens": 5210, "trajectories": 100, ...},
                               "incorrect": {"loss": 0.371, "tokens": 5210, "trajectories": 100,
                                             "difference": -0.043, "standard_error": 0.004}}, ...}, ...}

`loss` is the mean negative log-likelihood per trained token, in nats; `difference` the mean over trajectories of (loss
per token under this class) - (under the class of inference), with its standard error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from nat.examples.strategy import StrategyConfig
from nat.examples.tokenization import MASKED, ChatFormat, Untrainable, tokenize
from nat.runs.results import ClassLoss, GroupLosses
from nat.types import Example, Message, Trajectory

# Tokens, padding included, of one forward pass: two trajectories of 4096 tokens, or some forty of the small worlds. A
# model with a vocabulary of 150,000 then needs 2.5 GB for its logits in 16 bits.
BATCH_TOKENS = 8192


class TrajectoryLoss(NamedTuple):
    """Sum of the negative log-likelihoods (nats) over a trajectory's trained tokens, and their number."""

    total: float
    tokens: int


def losses(model: Any, examples: Sequence[Example], batch_tokens: int = BATCH_TOKENS) -> list[TrajectoryLoss]:
    """The loss of each example, in their order, by a forward pass on the model's device; the model stays as it is.

    Batches hold examples of similar length, padded on the right, of `batch_tokens` tokens at most, and at least one
    example; log-probabilities are taken in float32.
    """
    import torch

    by_length = sorted(range(len(examples)), key=lambda i: len(examples[i].input_ids), reverse=True)
    found: list[TrajectoryLoss] = [TrajectoryLoss(0.0, 0)] * len(examples)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            start = 0
            while start < len(by_length):
                longest = len(examples[by_length[start]].input_ids)
                rows = by_length[start : start + max(1, batch_tokens // max(1, longest))]
                start += len(rows)
                for row, loss in zip(rows, _batch_losses(model, [examples[i] for i in rows]), strict=True):
                    found[row] = loss
    finally:
        model.train(training)
    return found


def _batch_losses(model: Any, examples: Sequence[Example]) -> list[TrajectoryLoss]:
    import torch

    width = max(len(example.input_ids) for example in examples)
    ids = torch.zeros(len(examples), width, dtype=torch.long)  # B L
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, MASKED)
    for row, example in enumerate(examples):
        length = len(example.input_ids)
        ids[row, :length] = torch.tensor(example.input_ids)
        mask[row, :length] = 1
        labels[row, :length] = torch.tensor(example.labels)
    logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False).logits
    result = []
    for row, targets in enumerate(labels[:, 1:].to(logits.device)):
        trained = targets != MASKED
        # Only the trained positions become float32: a large vocabulary over a whole batch would not fit.
        scores = logits[row, :-1][trained].float()  # T V
        total = torch.nn.functional.cross_entropy(scores, targets[trained], reduction="sum").item()
        result.append(TrajectoryLoss(total, int(trained.sum())))
    return result


def mean_loss(found: Sequence[TrajectoryLoss]) -> float:
    """Per trained token, over all of them; nan where there is none."""
    tokens = sum(loss.tokens for loss in found)
    return math.fsum(loss.total for loss in found) / tokens if tokens else math.nan


def losses_under_marks(
    model: Any,
    format: ChatFormat,
    strategy: StrategyConfig,
    prompt: Callable[[Trajectory, str], tuple[Message, ...]],
    groups: Mapping[str, Sequence[Trajectory]],
    *,
    max_length: int,
) -> dict[str, GroupLosses]:
    """The loss of each group of trajectories ("successes", "failures") under the text of every class.

    Args:
        prompt: (trajectory, class name) to the messages before the agent's first turn, as in training.
        groups: trajectories that the model was not trained on.
        max_length: tokens; a trajectory that is longer under any class is left out under all.

    Returns:
        Per group what was measured under each class, and how many trajectories were left out, by reason.
    """
    result: dict[str, GroupLosses] = {}
    for group, trajectories in groups.items():
        examples, left_out = _examples_of_classes(format, strategy, prompt, trajectories, max_length)
        by_text: dict[str, list[TrajectoryLoss]] = {}  # classes with the same text have the same prompts
        for class_ in strategy.classes:
            if class_.text not in by_text:
                by_text[class_.text] = losses(model, examples[class_.name])
        reference = by_text[strategy.inference_class.text]
        measured: dict[str, ClassLoss] = {}
        for class_ in strategy.classes:
            found = by_text[class_.text]
            measured[class_.name] = _measured(found, None if class_.name == strategy.infer_as else reference)
        result[group] = GroupLosses(by_class=measured, left_out=left_out)
    return result


def _examples_of_classes(
    format: ChatFormat,
    strategy: StrategyConfig,
    prompt: Callable[[Trajectory, str], tuple[Message, ...]],
    trajectories: Sequence[Trajectory],
    max_length: int,
) -> tuple[dict[str, list[Example]], dict[str, int]]:
    """Examples of the same trajectories, in the same order, under each class; and how many were left out, by reason."""
    examples: dict[str, list[Example]] = {class_.name: [] for class_ in strategy.classes}
    left_out: dict[str, int] = {}
    for trajectory in trajectories:
        reason = None
        made = []
        try:
            made = [tokenize(format, prompt(trajectory, name), trajectory, name) for name in examples]
        except Untrainable as error:
            reason = error.reason
        if any(len(example.input_ids) > max_length for example in made):
            reason = "too_long"
        if reason is not None:
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        for example in made:
            examples[example.class_name].append(example)
    return examples, left_out


def _measured(found: Sequence[TrajectoryLoss], reference: Sequence[TrajectoryLoss] | None) -> ClassLoss:
    """`reference`: the same trajectories' losses under the class of inference; None for that class itself."""
    tokens = sum(loss.tokens for loss in found)
    difference, standard_error = (None, None) if reference is None else _paired_difference(found, reference)
    return ClassLoss(
        loss=mean_loss(found) if tokens else None,
        tokens=tokens,
        trajectories=len(found),
        difference=difference,
        standard_error=standard_error,
    )


def _paired_difference(
    found: Sequence[TrajectoryLoss], reference: Sequence[TrajectoryLoss]
) -> tuple[float | None, float | None]:
    """The mean over trajectories, and its standard error; None where there are too few."""
    differences = [(a.total - b.total) / a.tokens for a, b in zip(found, reference, strict=True)]
    n = len(differences)
    if not n:
        return None, None
    mean = math.fsum(differences) / n
    if n == 1:
        return mean, None
    variance = math.fsum((difference - mean) ** 2 for difference in differences) / (n - 1)
    return mean, math.sqrt(variance / n)
