"""What training minimises, and the figures that it shows after an epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from onebit.data.examples import NOT_COUNTED


@dataclass(frozen=True)
class Objective:
    """The cross-entropy of classes, or of the next tokens.

    Args:
        tokens_per_byte: of the validation text, for bits per byte; None: without them.
    """

    tokens_per_byte: float | None = None

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
