"""Weights of several evenly spaced levels, with a scale for each output."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from onebit.quantizers.codes import (
    Codes,
    Values,
    along,
    axes_that_share,
    check_bits,
    compute_dtype,
    mean_magnitude,
    widened,
)
from onebit.quantizers.gradients import straight_through
from onebit.quantizers.weights import WeightQuantizer

# The distance between levels that loses least of a normal distribution of deviation 1, for 1 to 8 bits.
# Source: Max, Quantizing for Minimum Distortion (1960), table II; from 6 bits on computed likewise.
STEPS = (1.5958, 0.9957, 0.5860, 0.3352, 0.1881, 0.1041, 0.0569, 0.0308)
# A deviation is so many times the mean magnitude.
DEVIATION = math.sqrt(math.pi / 2)


def scaled_levels(w: Tensor, bits: int, axis: int = 0) -> Codes:
    r"""2^k evenly spaced levels, symmetric around 0 and without 0, at the spacing that suits normally distributed weights best.

    .. math:: \tilde w = s \left( 2 \operatorname{clip}(\lfloor w / 2 s \rfloor, -2^{k-1}, 2^{k-1} - 1) + 1 \right), \qquad
              s = \tfrac 1 2 step_k \sqrt{\pi / 2} \operatorname{mean} |w|

    The mean is that of an output. One bit is `scaled_sign`: s is the mean magnitude. Two bits are the levels -1.5, -0.5, 0.5 and 1.5, times the
    deviation of the weights. The gradient is the identity.

    Args:
        w: latent weights.
        bits: k, 1 to 8.
        axis: the axis of the outputs.

    Returns:
        Codes, odd integers from 1 - 2^k to 2^k - 1, and the scale s (outputs).

    Example:
        >>> scaled_levels(torch.tensor([[-1.0, 1.0, 2.0, 4.0]]), 2).codes
        tensor([[-1.,  1.,  1.,  3.]])

    Source: Liu et al., ParetoQ, arXiv 2502.02631, for levels without 0 at two bits; the scale is learned there.
    """
    half = 1 << (bits - 1)
    with torch.no_grad():
        scale = mean_magnitude(w, "output", axis) * (STEPS[bits - 1] * DEVIATION / 2)
        each = along(scale, w, axis)
    made = compute_dtype(w)

    def codes(v: Tensor) -> Tensor:
        return (widened(v) / (2 * each)).floor_().clamp_(-half, half - 1).mul_(2).add_(1).to(made)

    return Codes(straight_through(w, codes, lambda v: (1 / each).expand_as(v)), scale)


@dataclass(frozen=True)
class ScaledLevels(WeightQuantizer):
    """`scaled_levels` as a quantizer of weights, 1 to 8 bits."""

    bits: int = 2  # type: ignore[assignment]
    values: ClassVar[Values] = "bipolar"
    keeps_magnitude: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_bits("ScaledLevels", self.bits)

    @property
    def planes(self) -> tuple[int, ...]:
        return tuple(1 << i for i in range(self.bits))

    def __call__(self, w: Tensor, axis: int = 0, training: bool = True, progress: float = 0.0) -> Codes:
        return scaled_levels(w, self.bits, axis)

    def scale_axes(self, w: Tensor, axis: int) -> list[int] | None:
        return axes_that_share("output", w, axis)
