"""The normalisation layer of binary normalized networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.nn.synchronize import synchronized_batch_norm
from onebit.normalize import OVERS, Over, normalize_channel, normalize_example


class Normalize(nn.Module):
    r"""Normalise to zero mean and unit standard deviation, without learnable parameters.

    .. math:: y = (x - \mu) / \sqrt{\sigma^2 + \epsilon}

    Args:
        over: the axes of the statistics.
            ``"channel"``: the channels at each position (the paper's choice, and the default).
            ``"example"``: all channels and positions of an example.
            ``"batch"``: for each channel, the batch and all positions in training, and their running mean and variance in evaluation
            (a batch normalisation without learned scale and shift).
        features: the number of channels, needed only for ``"batch"``.
        eps: added to the (biased) variance.
        momentum: the share of a batch in the running statistics.

    Shape:
        (batch, channels, height, width), (batch, features), or for "channel" and "example" also (batch, ..., features); the output has the input's.

    Raises:
        ValueError: `over` is unknown, "batch" lacks `features`, or eps is not positive.

    Example:
        >>> Normalize("channel")(torch.randn(8, 64, 16, 16)).shape
        torch.Size([8, 64, 16, 16])

    Source: arXiv 2509.07025, the Normalize of algorithms 1 to 6.
    """

    running_mean: Tensor | None
    running_var: Tensor | None

    def __init__(
        self, over: Over = "channel", features: int | None = None, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__()
        if over not in OVERS:
            raise ValueError(f"[Normalize] over={over!r}: use 'channel', 'example' or 'batch'")
        if not eps > 0:
            raise ValueError(f"[Normalize] eps={eps}: use a number above 0")
        self.over = over
        self.eps = eps
        self.momentum = momentum
        self.synchronized = False  # whether a batch is divided among processes; see `synchronize_statistics`
        if over == "batch":
            if features is None:
                raise ValueError(
                    "[Normalize] over='batch' needs the number of channels: give features=<number of channels>"
                )
            self.register_buffer("running_mean", torch.zeros(features))
            self.register_buffer("running_var", torch.ones(features))
        else:
            self.running_mean = self.running_var = None

    def forward(self, x: Tensor) -> Tensor:
        if self.over == "channel":
            return normalize_channel(x, self.eps)
        if self.over == "example":
            return normalize_example(x, self.eps)
        if self.synchronized and self.training:
            assert self.running_mean is not None and self.running_var is not None
            return synchronized_batch_norm(x, self.running_mean, self.running_var, None, None, self.momentum, self.eps)
        return F.batch_norm(x, self.running_mean, self.running_var, None, None, self.training, self.momentum, self.eps)

    def extra_repr(self) -> str:
        return f"over={self.over!r}, eps={self.eps}"
