"""The loss of unseen trajectories under each text, by arm: whether the model reads the mark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nat.comparison.types import Arm
from nat.runs.results import ClassLoss, GroupLosses

LEGEND = (
    "loss: nats per trained token on trajectories that nothing was trained on, under the text of inference, mean over "
    "seeds.",
    "under another text: mean difference to that, a positive number where the other text fits them worse; the standard "
    "error is over seeds, or over trajectories where an arm has one seed.",
    "A model that reads the mark finds successes less likely, and failures more likely, under the text of failures.",
)


@dataclass(frozen=True)
class OtherText:
    """The loss under the text of another class less that under the text of inference, mean over seeds."""

    class_name: str
    difference: float
    standard_error: float | None  # None where a single trajectory was measured


@dataclass(frozen=True)
class ArmLosses:
    """One arm's losses on one group of trajectories ("successes", "failures")."""

    arm: Arm
    group: str
    trajectories: int  # of the first seed
    loss: float
    others: tuple[OtherText, ...]


def losses_of(arms: Sequence[Arm]) -> tuple[ArmLosses, ...]:
    """A row an arm and group, where the losses of such trajectories were measured (`evaluation.n_class_losses`)."""
    rows = []
    for arm in arms:
        measured = [run.results.class_losses for run in arm.runs if run.results.class_losses]
        for group in dict.fromkeys(name for one in measured for name in one):
            row = _row(arm, group, [one[group] for one in measured if group in one])
            if row is not None:
                rows.append(row)
    return tuple(rows)


def _row(arm: Arm, group: str, seeds: Sequence[GroupLosses]) -> ArmLosses | None:
    own = [loss for one in seeds if (loss := _of_inference(one)) is not None and loss.loss is not None]
    if not own:
        return None
    names = dict.fromkeys(name for one in seeds for name, loss in one.by_class.items() if loss.difference is not None)
    others = [_other(name, [one.by_class[name] for one in seeds if name in one.by_class]) for name in names]
    mean = math.fsum(loss.loss or 0.0 for loss in own) / len(own)
    return ArmLosses(arm, group, own[0].trajectories, mean, tuple(other for other in others if other is not None))


def _of_inference(losses: GroupLosses) -> ClassLoss | None:
    return next((loss for loss in losses.by_class.values() if loss.difference is None), None)


def _other(name: str, seeds: Sequence[ClassLoss]) -> OtherText | None:
    differences = [loss.difference for loss in seeds if loss.difference is not None]
    if not differences:
        return None
    n = len(differences)
    mean = math.fsum(differences) / n
    if n == 1:
        return OtherText(name, mean, seeds[0].standard_error)
    variance = math.fsum((each - mean) ** 2 for each in differences) / (n - 1)
    return OtherText(name, mean, math.sqrt(variance / n))
