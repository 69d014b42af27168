"""A latent tensor to its bits: plain functions with straight-through gradients.

The mean threshold is eq. 1 of "1 bit is all we need: binary normalized neural networks" (arXiv 2509.07025).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

Values = Literal["01", "pm1"]
VALUES: tuple[Values, ...] = ("01", "pm1")


def threshold_bits(latent: Tensor) -> Tensor:
    r"""The bits of a latent tensor: which of its elements lie above the tensor's mean.

    .. math:: b_i = [p_i > \operatorname{mean}(p)]

    Args:
        latent: a floating tensor of any shape.

    Returns:
        A bool tensor of the same shape.

    Example:
        >>> threshold_bits(torch.tensor([1.0, 2.0, 6.0]))
        tensor([False, False,  True])
    """
    # The mean is taken in float32 or better, so that a bfloat16 copy of a latent has the bits of the latent.
    return latent > latent.mean(dtype=torch.promote_types(latent.dtype, torch.float32))


class _StraightThrough(torch.autograd.Function):
    """Bits forward, the unchanged gradient backward.

    The paper writes ``p + stop_gradient(p_b - p)``; in floating point that sum is not exactly 0 or 1, so the bits are returned themselves.
    """

    @staticmethod
    def forward(ctx: Any, latent: Tensor, values: Values, dtype: torch.dtype) -> Tensor:
        ctx.latent_dtype = latent.dtype
        bits = threshold_bits(latent).to(dtype)
        return bits if values == "01" else bits.mul_(2).sub_(1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].to(ctx.latent_dtype), None, None


def binarize(latent: Tensor, values: Values = "01", dtype: torch.dtype | None = None) -> Tensor:
    r"""The binary form of a latent tensor, with the identity as its straight-through gradient.

    .. math:: p_b = [p > \operatorname{mean}(p)] \text{ ("01")}, \qquad p_b = 2 [p > \operatorname{mean}(p)] - 1 \text{ ("pm1")},
              \qquad \partial L / \partial p = \partial L / \partial p_b

    Args:
        latent: floating tensor of any shape.
        values: how a bit reads, ``"01"`` as 0 or 1 (the paper), ``"pm1"`` as -1 or +1.
        dtype: of the result; default the latent's, or autocast's lower precision where that is on (both readings are exact in it).

    Returns:
        A tensor of the latent's shape.

    Raises:
        ValueError: `values` is neither of the two.

    Example:
        >>> binarize(torch.tensor([1.0, 2.0, 6.0]), "pm1")
        tensor([-1., -1.,  1.])

    Source: arXiv 2509.07025, eq. 1; the straight-through estimator is Bengio et al., arXiv 1308.3432.
    """
    if values not in VALUES:
        raise ValueError(f"[binarize] values={values!r}: use '01' or 'pm1'")
    if dtype is None:
        device = latent.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else latent.dtype
    result: Tensor = _StraightThrough.apply(latent, values, dtype)  # type: ignore[no-untyped-call]
    return result
