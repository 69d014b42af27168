"""What training minimises, and the figures that it shows after an epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from onebit.data.examples import NOT_COUNTED


@dataclass(frozen=True)
class Measured:
    """What an objective makes of a batch.

    Args:
        loss: the mean over the targets that count; of a share of a batch 0 if none of them do.
        logits: float (examples, classes), what a teacher's logits are compared with.
        right: how many of the targets that count the network has right.
        count: how many count.
    """

    loss: Tensor
    logits: Tensor
    right: Tensor
    count: Tensor


@dataclass(frozen=True)
class Objective:
    """The cross-entropy of classes, or of the next tokens. Other kinds of tasks have subclasses with a `measured` and `figures` of their own.

    Args:
        tokens_per_byte: of the validation text, for bits per byte; None: without them.
    """

    tokens_per_byte: float | None = None

    def measured(self, outputs: Tensor, target: Tensor, whole: bool = True) -> Measured:
        """What a batch gives.

        Args:
            outputs: float32 logits (batch, classes) or (batch, time, classes).
            target: integers (batch,) or (batch, time); see `loss`.
            whole: False: the examples are a share of a batch.
        """
        logits = outputs.flatten(0, -2)
        target = target if target.is_floating_point() else target.flatten()
        count = counted(target).sum()
        loss = self.loss(logits, target, count, whole)
        with torch.no_grad():
            label = target.argmax(1) if target.is_floating_point() else target
            return Measured(loss, logits, (logits.argmax(1) == label).sum(), count)

    def loss(self, logits: Tensor, target: Tensor, count: Tensor, whole: bool = True) -> Tensor:
        """The mean over the targets that count, in nats.

        Args:
            logits: float (examples, classes).
            target: integers (examples); those that are `NOT_COUNTED` do not count. Or distributions (examples, classes), of which all do.
            count: how many do.
            whole: False: the examples are a share of a batch, whose loss is 0 if none of them count.
        """
        if target.is_floating_point():
            return F.cross_entropy(logits, target, reduction="sum") / count.clamp_min(1)
        if whole:
            return F.cross_entropy(logits, target, ignore_index=NOT_COUNTED)
        return F.cross_entropy(logits, target, ignore_index=NOT_COUNTED, reduction="sum") / count.clamp_min(1)

    def figures(self, part: str, loss: float, accuracy: float) -> dict[str, float]:
        """The figures of one part of an epoch, "train" or "val", from its mean loss in nats and its share of right answers."""
        figures = {f"{part}_loss": loss, f"{part}_accuracy": accuracy}
        if self.tokens_per_byte is not None and part == "val":
            figures["val_bits_per_byte"] = loss / math.log(2) * self.tokens_per_byte
        return figures


def counted(target: Tensor) -> Tensor:
    """Which examples or tokens count: bool (examples). Of labels that are distributions (examples, classes) all do."""
    if target.is_floating_point():
        return torch.ones(len(target), dtype=torch.bool, device=target.device)
    return target.flatten() != NOT_COUNTED
