"""The common parts of all quantizers: codes and their scale, bits above a mean, signs, and levels."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from onebit.errors import shown
from onebit.quantizers.gradients import CLIPPED, IDENTITY, Gradient, straight_through

Values = Literal["unipolar", "bipolar"]
# The two readings of bits (0 and 1, or -1 and +1), and their names in packed files.
VALUES: dict[Values, str] = {"unipolar": "01", "bipolar": "pm1"}
Per = Literal["output", "layer"]
# The least mean of magnitudes. It prevents division by zero if all latent weights are zero.
SMALLEST_SCALE = 1e-12


class Codes(NamedTuple):
    """A quantised tensor: `codes * scale`.

    Args:
        codes: integers in a floating tensor, with a straight-through gradient.
        scale: one float, or one per output (weights), or one per example or row (activations), in a shape to broadcast. None is 1.
    """

    codes: Tensor
    scale: Tensor | None = None


def values_named(where: str, name: object) -> Values:
    """The reading of bits, from its name or from its name in packed files and in version 0.1.0. Raises ValueError for other names."""
    for values, word in VALUES.items():
        if name in (values, word):
            return values
    raise ValueError(f"[{where}] values={shown(name)}: use 'unipolar' (0 and 1) or 'bipolar' (-1 and +1)")


def threshold_bits(latent: Tensor, axis: int | None = None) -> Tensor:
    r"""The bits of a latent tensor: whether each element lies above the tensor's mean.

    .. math:: b_i = [p_i > \operatorname{mean}(p)]

    Args:
        latent: a floating tensor of any shape. If all elements are equal, all bits are 0. If one is NaN, the mean is NaN and all bits are 0.
        axis: the axis of the outputs. Each output then has its own mean. None: one mean for the whole tensor.

    Returns:
        A bool tensor of the same shape.

    Example:
        >>> threshold_bits(torch.tensor([1.0, 2.0, 6.0]))
        tensor([False, False,  True])
    """
    return widened(latent) > threshold_of(latent, axis)


def widened(x: Tensor) -> Tensor:
    """Compute statistics and thresholds in float32 or better, so that latent weights in bfloat16 have the same codes as in packing."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def threshold_of(latent: Tensor, axis: int | None) -> Tensor:
    """The threshold of a latent tensor: one mean, or one per index of an axis."""
    wide = widened(latent)
    return wide.mean() if axis is None else wide.mean([a for a in range(wide.dim()) if a != axis], keepdim=True)


def to_signs(bits: Tensor) -> Tensor:
    """Turn 0 and 1 into -1 and +1, in place and in one pass."""
    if torch.compiler.is_compiling():
        return 2 * bits - 1
    return torch.add(torch.full((), -1.0, dtype=bits.dtype), bits, alpha=2, out=bits)


def signs_of(x: Tensor, dtype: torch.dtype) -> Tensor:
    """-1 and +1 by the sign. The comparison writes numbers directly, which avoids passes over memory and takes a sixth of the time."""
    return to_signs(_compared(torch.ge, x, 0, x, dtype))


def above_mean(latent: Tensor, dtype: torch.dtype, axis: int | None = None) -> Tensor:
    """`threshold_bits` as numbers 0 and 1, which the comparison writes directly."""
    return _compared(torch.gt, widened(latent), threshold_of(latent, axis), latent, dtype)


def _compared(comparison: Any, a: Tensor, b: Any, like: Tensor, dtype: torch.dtype) -> Tensor:
    """0 and 1 in the shape of `like`. Writing into a given tensor avoids a pass over memory. A compiler does this by itself, and the one of
    PyTorch 2.11 takes a function that writes in this way for one without a gradient."""
    if torch.compiler.is_compiling():
        result: Tensor = comparison(a, b).to(dtype)
        return result
    return comparison(a, b, out=torch.empty_like(like, dtype=dtype))


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype of codes. Codes are small integers, which are exact in autocast's lower precision, so they are made in it."""
    device = x.device.type
    if device == "meta" or not torch.is_autocast_enabled(device):  # PyTorch does not have autocast on the meta device
        return x.dtype
    return torch.get_autocast_dtype(device)


def binarize(
    latent: Tensor, values: Values = "unipolar", dtype: torch.dtype | None = None, axis: int | None = None
) -> Tensor:
    r"""Binarise a latent tensor, with the identity as its straight-through gradient.

    .. math:: p_b = [p > \operatorname{mean}(p)] \text{ (unipolar)}, \qquad p_b = 2 [p > \operatorname{mean}(p)] - 1 \text{ (bipolar)},
              \qquad \partial L / \partial p = \partial L / \partial p_b

    Args:
        latent: floating tensor of any shape.
        values: the values of a bit: ``"unipolar"`` is 0 or 1 (the paper), ``"bipolar"`` is -1 or +1.
        dtype: the dtype of the result. The default is the latent's, or autocast's lower precision if that is on (all values are exact in it).
        axis: the axis of the outputs. Each output then has its own mean. None (the paper): one mean for the whole tensor.

    Returns:
        A tensor of the latent's shape.

    Raises:
        ValueError: `values` is neither of the two.

    Example:
        >>> binarize(torch.tensor([1.0, 2.0, 6.0]), "bipolar")
        tensor([-1., -1.,  1.])

    Source: arXiv 2509.07025, eq. 1; the straight-through estimator is Bengio et al., arXiv 1308.3432.
    """
    read = values_named("binarize", values)
    made = compute_dtype(latent) if dtype is None else dtype
    if read == "unipolar":
        return straight_through(latent, lambda p: above_mean(p, made, axis), IDENTITY)
    return straight_through(latent, lambda p: to_signs(above_mean(p, made, axis)), IDENTITY)


def sign(x: Tensor, gradient: Gradient = CLIPPED, progress: float = 0.0) -> Tensor:
    r"""The sign: -1 or +1. The sign of zero is +1.

    .. math:: y = +1 \text{ for } x \ge 0, \text{ else } -1

    Args:
        x: floating tensor of any shape. NaN gives -1.
        gradient: the straight-through gradient.
        progress: the progress of training, 0 to 1. `Tanh` uses it.

    Example:
        >>> sign(torch.tensor([-0.5, 0.0, 3.0]))
        tensor([-1.,  1.,  1.])

    Source: Courbariaux et al., BinaryNet, arXiv 1602.02830, eqs. 1 and 4.
    """
    made = compute_dtype(x)
    return straight_through(x, lambda v: signs_of(v, made), lambda v: gradient(v, progress))


def stochastic_sign(x: Tensor) -> Tensor:
    r"""-1 or +1 at random; a larger input makes +1 more likely. The gradient is the identity.

    .. math:: P(y = +1) = \operatorname{clip}((x + 1) / 2, 0, 1)

    Source: Courbariaux et al., BinaryConnect, arXiv 1511.00363, eqs. 2 and 3.
    """
    made = compute_dtype(x)
    return straight_through(x, lambda v: to_signs((torch.rand_like(v) < (v + 1) / 2).to(made)), IDENTITY)


def axes_that_share(per: Per, w: Tensor, axis: int) -> list[int]:
    """The axes along which weights share a mean or a scale: all, or all but that of the outputs."""
    return [a for a in range(w.dim()) if per == "layer" or a != axis]


def mean_magnitude(w: Tensor, per: Per, axis: int) -> Tensor:
    """The mean of |w| over a whole layer (a scalar), or per index of `axis` (outputs)."""
    magnitude = widened(w.abs())
    if per == "layer":
        return magnitude.mean().clamp_min(SMALLEST_SCALE)
    others = [a for a in range(w.dim()) if a != axis]
    return magnitude.mean(others).clamp_min(SMALLEST_SCALE)


def along(scale: Tensor, w: Tensor, axis: int) -> Tensor:
    """A scale per output, in a shape that broadcasts against the weight."""
    if scale.dim() == 0:
        return scale
    shape = [1] * w.dim()
    shape[axis] = -1
    return scale.view(shape)


def quantize_unit(x: Tensor, bits: int, made: torch.dtype) -> Tensor:
    """The level, 0 to 2^bits - 1, of each element from 0 to 1. The gradient with respect to level / top is the identity."""
    top = (1 << bits) - 1
    return straight_through(
        x, lambda v: (widened(v) * top).round().nan_to_num(0.0).to(made), lambda v: torch.full_like(v, top)
    )


def check_bits(name: str, bits: int) -> None:
    if type(bits) is not int or not 1 <= bits <= 8:
        raise ValueError(f"[{name}] bits={shown(bits)}: use 1 to 8")
