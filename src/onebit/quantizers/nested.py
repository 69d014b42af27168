"""Weights of several bits of which the first alone are a coarser version of the same weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from onebit.quantizers.codes import SMALLEST_SCALE, Codes, Values, axes_that_share, compute_dtype, widened
from onebit.quantizers.gradients import straight_through
from onebit.quantizers.weights import WeightQuantizer

MOST_PLANES = 8


def nested_signs(w: Tensor, planes: int, used: int | None = None, axis: int = 0) -> Codes:
    r"""Signs, then the signs of what they leave, each at half the distance of the one before.

    .. math:: r_0 = w - \operatorname{mean}(w), \quad b_p = \operatorname{sign}(r_p), \quad r_{p+1} = r_p - \alpha 2^{-p} b_p, \qquad
              \tilde w = \sum_{p < used} \alpha 2^{-p} b_p, \quad \alpha = \operatorname{mean} |r_0|

    A bit does not depend on how many bits follow it. So one set of bits holds a network for each number of planes.

    Args:
        w: latent weights.
        planes: the number of bits of a weight, 1 to 8.
        used: how many of them count, from the first; None for all.
        axis: the axis of the outputs. Each output has its own mean and alpha.

    Returns:
        Codes, odd integers from ``1 - 2^used`` to ``2^used - 1``, and the scale ``alpha / 2^(used - 1)`` (outputs). The sign of 0 is -1.

    Example:
        >>> nested_signs(torch.tensor([[-3.0, -0.5, 0.5, 3.0]]), 2).codes
        tensor([[-3., -1.,  1.,  3.]])

    Source: the residual signs of Lin et al., arXiv 1711.11294, and Guo et al., arXiv 1707.04693, with distances in powers of two.
    """
    used = planes if used is None else used
    axes = axes_that_share("output", w, axis)
    with torch.no_grad():
        wide = widened(w)
        rest = wide - wide.mean(axes, keepdim=True)
        alpha = rest.abs().mean(axes, keepdim=True).clamp_min(SMALLEST_SCALE)
        codes = torch.zeros_like(rest)
        for plane in range(used):
            bits = torch.where(rest > 0, 1.0, -1.0)
            codes = 2 * codes + bits
            rest = rest - alpha * 2.0**-plane * bits
        scale = alpha / 2 ** (used - 1)
    made = compute_dtype(w)
    result = straight_through(w, lambda v: codes.to(made), lambda v: 1 / scale.to(v.dtype))
    return Codes(result, scale.flatten())


@dataclass(frozen=True)
class NestedSigns(WeightQuantizer):
    """`nested_signs` as a quantizer of weights.

    Args:
        most: the number of bits of a weight, 1 to 8.
        used: how many of them count; None for all. `onebit.nn.use_planes` changes it.

    Raises:
        ValueError: a number is out of range.
    """

    most: int = 2
    used: int | None = None
    values: ClassVar[Values] = "bipolar"
    keeps_magnitude: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if type(self.most) is not int or not 1 <= self.most <= MOST_PLANES:
            raise ValueError(f"[NestedSigns] most={self.most!r}: use 1 to {MOST_PLANES}")
        if self.used is not None and (type(self.used) is not int or not 1 <= self.used <= self.most):
            raise ValueError(f"[NestedSigns] used={self.used!r}: use 1 to {self.most}, or None")

    @property
    def planes(self) -> tuple[int, ...]:
        used = self.most if self.used is None else self.used
        return tuple(1 << (used - 1 - plane) for plane in range(used))

    def __call__(self, w: Tensor, axis: int = 0, training: bool = True, progress: float = 0.0) -> Codes:
        return nested_signs(w, self.most, self.used, axis)

    def scale_axes(self, w: Tensor, axis: int) -> list[int] | None:
        return axes_that_share("output", w, axis)

    def centre(self, w: Tensor, axis: int = 0) -> Tensor:
        return w.mean(axes_that_share("output", w, axis), keepdim=True)
