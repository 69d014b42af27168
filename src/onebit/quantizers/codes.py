"""What all quantizers share: codes and their scale, bits above a mean, signs, levels."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from onebit.errors import shown
from onebit.quantizers.gradients import CLIPPED, IDENTITY, Gradient, straight_through

Values = Literal["unipolar", "bipolar"]
# How a bit reads, 0 or 1 and -1 or +1, and what packed files call it.
VALUES: dict[Values, str] = {"unipolar": "01", "bipolar": "pm1"}
Per = Literal["output", "layer"]
# The least mean of magnitudes, so that latents that are all zero cause no division by zero.
SMALLEST_SCALE = 1e-12


class Codes(NamedTuple):
    """A quantised tensor: `codes * scale`.

    Args:
        codes: integers in a floating tensor, with a straight-through gradient.
        scale: one float, or one for each output (weights) or example or row (activations), shaped to be broadcast; None is 1.
    """

    codes: Tensor
    scale: Tensor | None = None


def values_named(where: str, name: object) -> Values:
    """How a bit reads, by its name or by that of packed files and of version 0.1.0; raises ValueError where it is neither."""
    for values, word in VALUES.items():
        if name in (values, word):
            return values
    raise ValueError(f"[{where}] values={shown(name)}: use 'unipolar' (0 and 1) or 'bipolar' (-1 and +1)")


def threshold_bits(latent: Tensor, axis: int | None = None) -> Tensor:
    r"""The bits of a latent tensor: which of its elements are above the tensor's mean.

    .. math:: b_i = [p_i > \operatorname{mean}(p)]

    Args:
        latent: a floating tensor of any shape. If all elements are equal, none is above the mean: all bits are 0. One NaN makes the mean NaN:
            all bits are 0.
        axis: of the outputs, each of which is then compared with its own mean; None: one mean for the whole tensor.

    Returns:
        A bool tensor of the same shape.

    Example:
        >>> threshold_bits(torch.tensor([1.0, 2.0, 6.0]))
        tensor([False, False,  True])
    """
    return widened(latent) > threshold_of(latent, axis)


def widened(x: Tensor) -> Tensor:
    """Statistics and thresholds are computed in float32 or better, so that bfloat16 latents have the same codes in training and in packing."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def threshold_of(latent: Tensor, axis: int | None) -> Tensor:
    """What the elements of a latent tensor are compared with: one mean, or one for each index on an axis."""
    wide = widened(latent)
    return wide.mean() if axis is None else wide.mean([a for a in range(wide.dim()) if a != axis], keepdim=True)


def to_signs(bits: Tensor) -> Tensor:
    """0 and 1 to -1 and +1, in place and in one pass."""
    if torch.compiler.is_compiling():
        return 2 * bits - 1
    return torch.add(torch.full((), -1.0, dtype=bits.dtype), bits, alpha=2, out=bits)


def signs_of(x: Tensor, dtype: torch.dtype) -> Tensor:
    """-1 and +1 by the sign; the comparison writes numbers directly, which saves passes over the memory and takes a sixth of the time."""
    return to_signs(_compared(torch.ge, x, 0, x, dtype))


def above_mean(latent: Tensor, dtype: torch.dtype, axis: int | None = None) -> Tensor:
    """`threshold_bits` as numbers 0 and 1, written by the comparison directly."""
    return _compared(torch.gt, widened(latent), threshold_of(latent, axis), latent, dtype)


def _compared(comparison: Any, a: Tensor, b: Any, like: Tensor, dtype: torch.dtype) -> Tensor:
    """0 and 1 of the shape of `like`. Writing them into a given tensor spares a pass over the memory; a compiler finds that by itself, and that of
    PyTorch 2.11 takes a function that writes so for one without a gradient."""
    if torch.compiler.is_compiling():
        result: Tensor = comparison(a, b).to(dtype)
        return result
    return comparison(a, b, out=torch.empty_like(like, dtype=dtype))


def compute_dtype(x: Tensor) -> torch.dtype:
    """Codes are small integers, exact in autocast's lower precision, so they are made in it at once."""
    device = x.device.type
    if device == "meta" or not torch.is_autocast_enabled(device):  # PyTorch knows no autocast of shapes alone
        return x.dtype
    return torch.get_autocast_dtype(device)


def binarize(
    latent: Tensor, values: Values = "unipolar", dtype: torch.dtype | None = None, axis: int | None = None
) -> Tensor:
    r"""The binary form of a latent tensor, with the identity as its straight-through gradient.

    .. math:: p_b = [p > \operatorname{mean}(p)] \text{ (unipolar)}, \qquad p_b = 2 [p > \operatorname{mean}(p)] - 1 \text{ (bipolar)},
              \qquad \partial L / \partial p = \partial L / \partial p_b

    Args:
        latent: floating tensor of any shape.
        values: how a bit reads, ``"unipolar"`` as 0 or 1 (the paper), ``"bipolar"`` as -1 or +1.
        dtype: of the result; default the latent's, or autocast's lower precision where that is on (both readings are exact in it).
        axis: of the outputs, each of which is then compared with its own mean; None (the paper): one mean for the whole tensor.

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
    r"""The sign, of zero too: -1 or +1.

    .. math:: y = +1 \text{ for } x \ge 0, \text{ else } -1

    Args:
        x: floating tensor of any shape; NaN reads as -1.
        gradient: used in place of the derivative.
        progress: share of training that is done, 0 to 1; `Tanh` uses it.

    Example:
        >>> sign(torch.tensor([-0.5, 0.0, 3.0]))
        tensor([-1.,  1.,  1.])

    Source: Courbariaux et al., BinaryNet, arXiv 1602.02830, eqs. 1 and 4.
    """
    made = compute_dtype(x)
    return straight_through(x, lambda v: signs_of(v, made), lambda v: gradient(v, progress))


def stochastic_sign(x: Tensor) -> Tensor:
    r"""-1 or +1 at random, the more often +1 the larger the input; the identity as its gradient.

    .. math:: P(y = +1) = \operatorname{clip}((x + 1) / 2, 0, 1)

    Source: Courbariaux et al., BinaryConnect, arXiv 1511.00363, eqs. 2 and 3.
    """
    made = compute_dtype(x)
    return straight_through(x, lambda v: to_signs((torch.rand_like(v) < (v + 1) / 2).to(made)), IDENTITY)


def axes_that_share(per: Per, w: Tensor, axis: int) -> list[int]:
    """The axes along which weights have one mean or one scale: all, or all but that of the outputs."""
    return [a for a in range(w.dim()) if per == "layer" or a != axis]


def mean_magnitude(w: Tensor, per: Per, axis: int) -> Tensor:
    """The mean of |w|, of a whole layer or for each index of `axis`: a scalar, or (outputs)."""
    magnitude = widened(w.abs())
    if per == "layer":
        return magnitude.mean().clamp_min(SMALLEST_SCALE)
    others = [a for a in range(w.dim()) if a != axis]
    return magnitude.mean(others).clamp_min(SMALLEST_SCALE)


def along(scale: Tensor, w: Tensor, axis: int) -> Tensor:
    """A scale for each output in a form that is broadcast against the weight."""
    if scale.dim() == 0:
        return scale
    shape = [1] * w.dim()
    shape[axis] = -1
    return scale.view(shape)


def quantize_unit(x: Tensor, bits: int, made: torch.dtype) -> Tensor:
    """The level, 0 to 2^bits - 1, of each element of a tensor of 0 to 1; the identity as its gradient with respect to level / top."""
    top = (1 << bits) - 1
    return straight_through(
        x, lambda v: (widened(v) * top).round().nan_to_num(0.0).to(made), lambda v: torch.full_like(v, top)
    )


def check_bits(name: str, bits: int) -> None:
    if type(bits) is not int or not 1 <= bits <= 8:
        raise ValueError(f"[{name}] bits={shown(bits)}: use 1 to 8")
