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
        return _layer_norm(last, last.shape[-1:], eps).permute(0, 3, 1, 2)
    return _layer_norm(x, x.shape[-1:], eps)


def normalize_example(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalise over all channels and positions of an image, or over the last axis of features or of a sequence.

    A sequence is never normalised over time, because a causal model would then see its future.

    Args and returns: as in `normalize_channel`.
    """
    if x.dim() == 4:
        if x.is_contiguous(memory_format=torch.channels_last):
            last = x.permute(0, 2, 3, 1)  # the same elements, without a copy
            return _layer_norm(last, last.shape[1:], eps).permute(0, 3, 1, 2)
        return _layer_norm(x, x.shape[1:], eps)
    return _layer_norm(x, x.shape[-1:], eps)


def _layer_norm(x: Tensor, shape: tuple[int, ...], eps: float) -> Tensor:
    """Keep x's precision on every device. Autocast on GPUs would return float32 and double the bytes of all that follows. Sums use float32
    in any case."""
    if x.device.type in ("cpu", "meta"):  # PyTorch does not have autocast on the meta device
        return F.layer_norm(x, shape, eps=eps)
    with torch.autocast(x.device.type, enabled=False):
        return F.layer_norm(x, shape, eps=eps)
