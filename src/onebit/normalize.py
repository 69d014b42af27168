"""Zero mean and unit standard deviation over named axes, without learnable parameters."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Over = Literal["channel", "example", "batch"]
OVERS: tuple[Over, ...] = ("channel", "example", "batch")


def normalize_channel(x: Tensor, eps: float = 1e-5) -> Tensor:
    r"""Normalise over the channels at each position: axis 1 of an image, the last axis of features or of a sequence.

    .. math:: y = (x - \operatorname{mean}(x)) / \sqrt{\operatorname{var}(x) + \epsilon}

    Args:
        x: (batch, channels, height, width), or (batch, ..., features).
        eps: added to the (biased) variance.

    Returns:
        A tensor of x's shape.

    Source: the Normalize of arXiv 2509.07025, read as a layer normalisation on channels-last data.
    """
    if x.dim() == 4:
        last = x.permute(0, 2, 3, 1)  # (batch, height, width, channels): no copy where x is channels-last in memory
        return F.layer_norm(last, last.shape[-1:], eps=eps).permute(0, 3, 1, 2)
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def normalize_example(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalise over all of an image's channels and positions; over the last axis of features or of a sequence.

    A sequence is never normalised over time: a causal model would see its future.

    Args and returns: as `normalize_channel`.
    """
    if x.dim() == 4:
        if x.is_contiguous(memory_format=torch.channels_last):
            last = x.permute(0, 2, 3, 1)  # the same elements, without a copy
            return F.layer_norm(last, last.shape[1:], eps=eps).permute(0, 3, 1, 2)
        return F.layer_norm(x, x.shape[1:], eps=eps)
    return F.layer_norm(x, x.shape[-1:], eps=eps)
