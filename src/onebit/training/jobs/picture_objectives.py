"""What networks that find objects minimise: the focal loss of centres and the distances of boxes, and the cross-entropy of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from onebit.scenes.boxes import encode
from onebit.scenes.mask_figures import NOT_COUNTED_PIXEL
from onebit.training.objective import Measured, Objective

# Exponents of the focal loss: how little sure answers count, and how little wrong ones near a centre do.
_SURE, _NEAR = 2, 4


@dataclass(frozen=True)
class BoxObjective(Objective):
    r"""The loss of a detector: the focal loss of centres and the mean absolute error of boxes, over the number of objects.

    .. math:: L = -\frac{1}{N} \sum \begin{cases} (1 - p)^2 \log p & y = 1 \\ (1 - y)^4 p^2 \log(1 - p) & \text{else} \end{cases}
        + \frac{1}{N} \sum w |b - \hat b|

    Its accuracy is the share of objects whose centre's most probable class is theirs.

    Source: Zhou et al., arXiv 1904.07850, eq. 1; boxes learned around the centre by weights as in Liu et al., arXiv 1909.00700.
    """

    classes: int = 1

    def measured(self, outputs: Tensor, target: Tensor, whole: bool = True) -> Measured:
        """What a batch gives.

        Args:
            outputs: float32 (batch, classes + 4, rows, columns).
            target: float32 (batch, most, 5): class number or -1, left, top, right, bottom in pixels.
            whole: not used: the loss is a sum over objects.
        """
        rows, columns = outputs.shape[2:]
        wanted = torch.from_numpy(_targets(target.cpu().numpy(), rows, columns, self.classes)).to(outputs.device)
        made = outputs.movedim(1, -1)
        heat, logits = wanted[..., : self.classes], made[..., : self.classes]
        centre = heat == 1
        score = logits.sigmoid()
        right = (1 - score) ** _SURE * F.logsigmoid(logits)
        wrong = (1 - heat) ** _NEAR * score**_SURE * F.logsigmoid(-logits)
        weight = wanted[..., -1:]
        apart = weight * (made[..., self.classes :] - wanted[..., self.classes : -1]).abs()
        count = centre.sum()
        loss = (apart.sum() - torch.where(centre, right, wrong).sum()) / count.clamp_min(1)
        with torch.no_grad():
            best = logits.argmax(-1, keepdim=True)
            hits = centre.gather(-1, best).sum()
        return Measured(loss, logits.flatten(0, -2), hits, count)


def _targets(objects: np.ndarray, rows: int, columns: int, classes: int) -> np.ndarray:
    made = []
    for one in objects:
        one = one[one[:, 0] >= 0]
        made.append(encode(one[:, 1:], one[:, 0].astype(np.int64), rows, columns, classes))
    return np.stack(made)


@dataclass(frozen=True)
class PixelObjective(Objective):
    """The cross-entropy of the class of each pixel that counts."""

    def measured(self, outputs: Tensor, target: Tensor, whole: bool = True) -> Measured:
        """What a batch gives.

        Args:
            outputs: float32 logits (batch, classes, height, width).
            target: uint8 (batch, height, width); 255 does not count.
            whole: False: the pictures are a share of a batch.
        """
        logits = outputs.movedim(1, -1).flatten(0, -2)
        target = target.flatten().long()
        count = (target != NOT_COUNTED_PIXEL).sum()
        loss = F.cross_entropy(logits, target, ignore_index=NOT_COUNTED_PIXEL, reduction="sum") / count.clamp_min(1)
        with torch.no_grad():
            return Measured(loss, logits, (logits.argmax(1) == target).sum(), count)
