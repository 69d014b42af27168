"""A float tensor to its bits: one function and one thin class for each of the literature's ways, with its straight-through gradient.

A quantiser of weights gives `Codes`: small integers (bits read as {0,1} or {-1,+1}, or sums of them) and a scale. A layer multiplies by the codes and
scales the sum, so that what a network was trained with is what the engine computes. A quantiser of activations gives codes and a scale too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from onebit.errors import shown
from onebit.gradients import CLIPPED, IDENTITY, Gradient, straight_through

Values = Literal["01", "pm1"]
VALUES: tuple[Values, ...] = ("01", "pm1")
Per = Literal["output", "layer"]
# What a mean of magnitudes is at least, so that latents of nothing but zeros divide nothing by zero.
SMALLEST_SCALE = 1e-12
# The least range of an activation row, as in BitNet's code.
SMALLEST_RANGE = 1e-5


class Codes(NamedTuple):
    """A quantised tensor: `codes * scale`.

    Args:
        codes: integers in a floating tensor, with a straight-through gradient.
        scale: one float, or one for each output (weights) or example or row (activations), shaped to be broadcast; None is 1.
    """

    codes: Tensor
    scale: Tensor | None = None


def threshold_bits(latent: Tensor, axis: int | None = None) -> Tensor:
    r"""The bits of a latent tensor: which of its elements lie above the tensor's mean.

    .. math:: b_i = [p_i > \operatorname{mean}(p)]

    Args:
        latent: a floating tensor of any shape. Where all elements are equal none lies above the mean: all bits are 0. One NaN makes the mean NaN: all
            bits are 0.
        axis: of the outputs, each of which is then compared with its own mean; None: one mean for the whole tensor.

    Returns:
        A bool tensor of the same shape.

    Example:
        >>> threshold_bits(torch.tensor([1.0, 2.0, 6.0]))
        tensor([False, False,  True])
    """
    return _wide(latent) > _mean(latent, axis)


def _wide(x: Tensor) -> Tensor:
    """Statistics and thresholds are taken in float32 or better: latents kept in bfloat16 then have the codes that packing finds."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _mean(latent: Tensor, axis: int | None) -> Tensor:
    """What the elements of a latent tensor are compared with: one mean, or one for each index on an axis."""
    wide = _wide(latent)
    return wide.mean() if axis is None else wide.mean([a for a in range(wide.dim()) if a != axis], keepdim=True)


def _to_signs(bits: Tensor) -> Tensor:
    """0 and 1 to -1 and +1, in place and in one pass."""
    if torch.compiler.is_compiling():
        return 2 * bits - 1
    return torch.add(torch.full((), -1.0, dtype=bits.dtype), bits, alpha=2, out=bits)


def _signs_of(x: Tensor, dtype: torch.dtype) -> Tensor:
    """-1 and +1 by the sign; the comparison writes numbers at once, which spares passes over the memory and takes a sixth of the time."""
    return _to_signs(_compared(torch.ge, x, 0, x, dtype))


def _above_mean(latent: Tensor, dtype: torch.dtype, axis: int | None = None) -> Tensor:
    """`threshold_bits` as numbers 0 and 1, written by the comparison at once."""
    return _compared(torch.gt, _wide(latent), _mean(latent, axis), latent, dtype)


def _compared(comparison: Any, a: Tensor, b: Any, like: Tensor, dtype: torch.dtype) -> Tensor:
    """0 and 1 of the shape of `like`. Writing them into a given tensor spares a pass over the memory; a compiler finds that by itself, and that of
    PyTorch 2.11 takes a function that writes so for one without a gradient."""
    if torch.compiler.is_compiling():
        result: Tensor = comparison(a, b).to(dtype)
        return result
    return comparison(a, b, out=torch.empty_like(like, dtype=dtype))


def _compute_dtype(x: Tensor) -> torch.dtype:
    """Codes are small integers, exact in autocast's lower precision, so they are made in it at once."""
    device = x.device.type
    if device == "meta" or not torch.is_autocast_enabled(device):  # PyTorch knows no autocast of shapes alone
        return x.dtype
    return torch.get_autocast_dtype(device)


def binarize(
    latent: Tensor, values: Values = "01", dtype: torch.dtype | None = None, axis: int | None = None
) -> Tensor:
    r"""The binary form of a latent tensor, with the identity as its straight-through gradient.

    .. math:: p_b = [p > \operatorname{mean}(p)] \text{ ("01")}, \qquad p_b = 2 [p > \operatorname{mean}(p)] - 1 \text{ ("pm1")},
              \qquad \partial L / \partial p = \partial L / \partial p_b

    Args:
        latent: floating tensor of any shape.
        values: how a bit reads, ``"01"`` as 0 or 1 (the paper), ``"pm1"`` as -1 or +1.
        dtype: of the result; default the latent's, or autocast's lower precision where that is on (both readings are exact in it).
        axis: of the outputs, each of which is then compared with its own mean; None (the paper): one mean for the whole tensor.

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
    made = _compute_dtype(latent) if dtype is None else dtype
    if values == "01":
        return straight_through(latent, lambda p: _above_mean(p, made, axis), IDENTITY)
    return straight_through(latent, lambda p: _to_signs(_above_mean(p, made, axis)), IDENTITY)


def sign(x: Tensor, gradient: Gradient = CLIPPED, progress: float = 0.0) -> Tensor:
    r"""The sign, of zero too: -1 or +1.

    .. math:: y = +1 \text{ for } x \ge 0, \text{ else } -1

    Args:
        x: floating tensor of any shape; NaN reads as -1.
        gradient: stands for the derivative.
        progress: how far training has come, 0 to 1; `Tanh` looks at it.

    Example:
        >>> sign(torch.tensor([-0.5, 0.0, 3.0]))
        tensor([-1.,  1.,  1.])

    Source: Courbariaux et al., BinaryNet, arXiv 1602.02830, eqs. 1 and 4.
    """
    made = _compute_dtype(x)
    return straight_through(x, lambda v: _signs_of(v, made), lambda v: gradient(v, progress))


def stochastic_sign(x: Tensor) -> Tensor:
    r"""-1 or +1 at random, the more often +1 the larger the input; the identity as its gradient.

    .. math:: P(y = +1) = \operatorname{clip}((x + 1) / 2, 0, 1)

    Source: Courbariaux et al., BinaryConnect, arXiv 1511.00363, eqs. 2 and 3.
    """
    made = _compute_dtype(x)
    return straight_through(x, lambda v: _to_signs((torch.rand_like(v) < (v + 1) / 2).to(made)), IDENTITY)


def _mean_magnitude(w: Tensor, per: Per, axis: int) -> Tensor:
    """The mean of |w|, of a whole layer or for each index of `axis`: a scalar, or (outputs)."""
    magnitude = _wide(w.abs())
    if per == "layer":
        return magnitude.mean().clamp_min(SMALLEST_SCALE)
    others = [a for a in range(w.dim()) if a != axis]
    return magnitude.mean(others).clamp_min(SMALLEST_SCALE)


def _along(scale: Tensor, w: Tensor, axis: int) -> Tensor:
    """A scale for each output in a form that is broadcast against the weight."""
    if scale.dim() == 0:
        return scale
    shape = [1] * w.dim()
    shape[axis] = -1
    return scale.view(shape)


def scaled_sign(
    w: Tensor,
    per: Per = "output",
    gradient: Gradient = IDENTITY,
    axis: int = 0,
    share: bool = False,
    progress: float = 0.0,
) -> Codes:
    r"""Signs times the mean magnitude, the nearest a binary tensor comes to `w` in the least-squares sense.

    .. math:: \tilde w = \alpha \operatorname{sign}(w), \quad \alpha = \operatorname{mean} |w|, \qquad
              \frac{\partial L}{\partial w} = \frac{\partial L}{\partial \tilde w} \, g(w), \text{ or with share }
              \frac{\partial L}{\partial \tilde w} \left( \frac 1 n + \alpha \, g(w) \right)

    Args:
        w: latent weights.
        per: a scale for each ``"output"`` (XNOR-Net) or one for the ``"layer"`` (DoReFa).
        gradient: g.
        axis: of the outputs.
        share: XNOR-Net's gradient, in which each weight has its 1/n of the scale's, n weights to a scale.
        progress: how far training has come, 0 to 1; `Tanh` looks at it.

    Returns:
        Codes -1 and +1, and the scale (outputs) or (). The sign of 0 is +1, where code with ``torch.sign`` has 0, which is no bit.

    Source: Rastegari et al., XNOR-Net, arXiv 1603.05279, section 3.1, the gradient as stated there (the mean's own would sum over the n weights).
    Its authors' code also takes the mean over the input channels from the latents, clips them to -1..1 and multiplies the gradient by n, which Adam
    does not see; the paper has none of the three. Without share: Zhou et al., DoReFa-Net, arXiv 1606.06160, eqs. 7 and 8 (identity), and the PyTorch
    code of Bi-Real Net and ReActNet (clipped); the paper of Bi-Real Net, arXiv 1808.00278, section 3.3, multiplies by alpha too.
    """
    with torch.no_grad():
        scale = _mean_magnitude(w, per, axis)
        wide = _along(scale, w, axis)
    n = w.numel() // scale.numel()

    def factor(v: Tensor) -> Tensor | None:
        # What arrives is the gradient of the signs, scale * dL/dw~; dL/dw~ is asked for.
        g = gradient(v, progress)
        if share:
            return 1 / (n * wide) + (1 if g is None else g)
        return 1 / wide if g is None else g / wide

    made = _compute_dtype(w)
    return Codes(straight_through(w, lambda v: _signs_of(v, made), factor), scale)


def centered_sign(w: Tensor) -> Codes:
    r"""Signs of what lies above and below the layer's mean, times the mean magnitude; the identity as its gradient.

    .. math:: \tilde w = \beta \operatorname{sign}(w - \operatorname{mean}(w)), \qquad \beta = \operatorname{mean} |w|

    Source: Wang et al., BitNet, arXiv 2310.11453, eqs. 1 to 3, and 12 for beta, which is of the weights before the mean is taken from them. The sign
    of 0 is -1, there and here.
    """
    with torch.no_grad():
        scale = _mean_magnitude(w, "layer", 0)
    made = _compute_dtype(w)
    return Codes(straight_through(w, lambda v: _to_signs(_above_mean(v, made)), lambda v: 1 / scale), scale)


def ternary(w: Tensor) -> Codes:
    r"""-1, 0 or +1 times the mean magnitude; the identity as its gradient.

    .. math:: \tilde w = \gamma \operatorname{clip}(\operatorname{round}(w / \gamma), -1, 1), \qquad \gamma = \operatorname{mean} |w|

    Returns:
        Codes -2, 0 and 2, the sums of two planes of signs, and half of gamma. Halves round to even: ``|w| = gamma / 2`` gives 0.

    Source: Ma et al., BitNet b1.58, arXiv 2402.17764, eqs. 1 to 3, whose small number is added to gamma, here its lower bound.
    """
    with torch.no_grad():
        scale = _mean_magnitude(w, "layer", 0)
    made = _compute_dtype(w)
    half = scale / 2
    return Codes(
        straight_through(w, lambda v: (_wide(v) / scale).round_().clamp_(-1, 1).mul_(2).to(made), lambda v: 1 / half),
        half,
    )


def _quantize_unit(x: Tensor, bits: int, made: torch.dtype) -> Tensor:
    """The level, 0 to 2^bits - 1, of each element of a tensor of 0 to 1; the identity as its gradient with respect to level / top."""
    top = (1 << bits) - 1
    return straight_through(
        x, lambda v: (_wide(v) * top).round().nan_to_num(0.0).to(made), lambda v: torch.full_like(v, top)
    )


def k_bit_weights(w: Tensor, bits: int) -> Codes:
    r"""Weights of k bits, evenly spaced from -1 to 1.

    .. math:: \tilde w = 2 \operatorname{quantize}_k \left( \frac{\tanh w}{2 \max |\tanh w|} + \frac 1 2 \right) - 1, \qquad
              \operatorname{quantize}_k(r) = \frac{\operatorname{round}((2^k - 1) r)}{2^k - 1};

    with one bit `scaled_sign` of the layer instead, as in the paper.

    Returns:
        Codes, odd integers from 1 - 2^k to 2^k - 1, and the scale 1 / (2^k - 1). Halves round to even: a latent of 0 gives the code +1.

    Source: Zhou et al., DoReFa-Net, arXiv 1606.06160, eqs. 5, 7 and 9. The gradient goes through the tanh and the maximum, as in its authors' code.
    """
    if bits == 1:
        return scaled_sign(w, "layer")
    top = (1 << bits) - 1
    t = torch.tanh(_wide(w))
    high = t.abs().max()
    unit = t / (2 * torch.where(high > 0, high, 1.0)) + 0.5  # zeros have nothing to be divided by
    codes = 2 * _quantize_unit(unit, bits, _compute_dtype(w)) - top
    return Codes(codes, torch.tensor(1 / top, device=w.device))


def k_bit_activations(x: Tensor, bits: int) -> Codes:
    r"""Activations of k bits, evenly spaced from 0 to 1; the gradient passes inside.

    .. math:: y = \operatorname{quantize}_k(\operatorname{clip}(x, 0, 1))

    Returns:
        Codes 0 to 2^k - 1, and the scale 1 / (2^k - 1). NaN reads as 0; halves round to even.

    Source: Zhou et al., DoReFa-Net, arXiv 1606.06160, eq. 11, behind an activation that is bounded to 0..1.
    """
    level = _quantize_unit(x.clamp(0, 1), bits, _compute_dtype(x))
    return Codes(level, torch.tensor(1 / ((1 << bits) - 1), device=x.device))


def absmax(x: Tensor, bits: int = 8, axes: tuple[int, ...] = (-1,)) -> Codes:
    r"""Activations of 8 or 16 bits, with one scale for all elements along `axes`; the identity as its gradient.

    .. math:: q = \operatorname{clip}(\operatorname{round}(x \, t / m), -t, t), \quad y = q \, m / t, \quad m = \max |x|, \quad t = 2^{bits - 1} - 1

    Args:
        x: floating tensor of any shape.
        bits: 8 or 16.
        axes: what shares a scale: the last axis of rows, all axes but the first of images.

    Rows of zeros give zeros; NaN or infinity makes its whole row NaN. Under autocast a product of 16-bit codes has autocast's
    precision, and none of them fits into float16.

    Source: Wang et al., BitNet, arXiv 2310.11453, eqs. 4 and 5, as the code of BitNet b1.58 has it: rounded, with t = 127 rather than 128, one scale
    for each token, and signed behind every nonlinearity.
    """
    top = (1 << (bits - 1)) - 1
    with torch.no_grad():
        high = _wide(x.abs().amax(axes, keepdim=True)).clamp_min(SMALLEST_RANGE)
        # A number over a tensor would be its reciprocal times the number, which rounds twice; the engine divides.
        inverse, scale = torch.tensor(float(top), device=high.device) / high, high / top
    # bfloat16 cannot hold levels beyond 256: those of 16 bits are float32.
    made = _compute_dtype(x) if bits == 8 else high.dtype
    q = straight_through(
        x, lambda v: (_wide(v) * inverse).round().clamp(-top, top).to(made), lambda v: inverse.to(v.dtype)
    )
    return Codes(q, scale)


def standardized_sign(w: Tensor, gradient: Gradient = CLIPPED, axis: int = 0, progress: float = 0.0) -> Codes:
    r"""Scaled signs of weights that are standardised for each output first, so that a network needs no batch normalisation.

    .. math:: \hat w = \frac{w - \mu}{\sigma \sqrt n}, \qquad \tilde w = \operatorname{mean} |\hat w| \cdot \operatorname{sign}(\hat w), \qquad
              \frac{\partial L}{\partial \hat w} = \frac{\partial L}{\partial \tilde w} \, g(\hat w)

    mu, sigma: mean and deviation of the n weights of an output. From w^ to w the gradient goes through mean and deviation.

    Args:
        w: latent weights.
        gradient: g. It looks at w^, whose deviation is 1 / sqrt(n): the clipped gradient hardly ever clips, as in the authors' code.
        axis: of the outputs.
        progress: how far training has come, 0 to 1; `Tanh` looks at it.

    Returns:
        Codes -1 and +1, and the scale (outputs).

    Source: Chen et al., BNN - BN = ?, arXiv 2104.08215, section 3, and its authors' code; Brock et al., arXiv 2101.08692, for the standardisation.
    """
    others = [a for a in range(w.dim()) if a != axis]
    n = w.numel() // w.shape[axis]
    wide = _wide(w)
    centred = wide - wide.mean(others, keepdim=True)
    standard = centred / (centred.square().mean(others, keepdim=True).add(SMALLEST_SCALE).sqrt() * n**0.5)
    with torch.no_grad():
        scale = _mean_magnitude(standard, "output", axis)
    along, made = _along(scale, w, axis), _compute_dtype(w)

    def factor(v: Tensor) -> Tensor:
        g = gradient(v, progress)
        return 1 / along if g is None else g / along

    return Codes(straight_through(standard, lambda v: _signs_of(v, made), factor), scale)


# The classes: a function with its options, and the bits of what it gives. `planes` are the weights of the bit planes whose sum the codes are.


@dataclass(frozen=True)
class MeanThreshold:
    """`binarize` as a quantiser of weights.

    Args:
        values: how a bit reads.
        per: ``"layer"`` (the paper): one mean for the whole tensor; ``"output"``: one for the weights of each output.
    """

    values: Values = "01"
    per: Per = "layer"
    planes: ClassVar[tuple[int, ...]] = (1,)

    def __post_init__(self) -> None:
        if self.values not in VALUES:
            raise ValueError(f"[MeanThreshold] values={self.values!r}: use '01' or 'pm1'")
        if self.per not in ("layer", "output"):
            raise ValueError(f"[MeanThreshold] per={self.per!r}: use 'layer' or 'output'")

    def __repr__(self) -> str:
        """As in the paper where nothing else is said."""
        per = "" if self.per == "layer" else f", per={self.per!r}"
        return f"MeanThreshold(values={self.values!r}{per})"

    def __call__(self, w: Tensor, axis: int = 0, training: bool = True, progress: float = 0.0) -> Codes:
        return Codes(binarize(w, self.values, axis=axis if self.per == "output" else None))


@dataclass(frozen=True)
class Sign:
    """`sign` as a quantiser of weights or of activations; stochastic: `stochastic_sign` while training.

    In use the sign is always the deterministic one: BinaryConnect's authors run the network of the stochastic variant with its float weights,
    which is no binary network.
    """

    gradient: Gradient = CLIPPED
    stochastic: bool = False
    values: ClassVar[Values] = "pm1"
    planes: ClassVar[tuple[int, ...]] = (1,)

    def __call__(
        self, x: Tensor, axis: int | tuple[int, ...] = 0, training: bool = True, progress: float = 0.0
    ) -> Codes:
        return Codes(stochastic_sign(x) if self.stochastic and training else sign(x, self.gradient, progress))

    def describe(self) -> dict[str, object]:
        """The `input` of a packed layer."""
        return {"quantizer": "sign"}


@dataclass(frozen=True)
class ScaledSign:
    """`scaled_sign` as a quantiser of weights."""

    per: Per = "output"
    gradient: Gradient = IDENTITY
    share: bool = False
    values: ClassVar[Values] = "pm1"
    planes: ClassVar[tuple[int, ...]] = (1,)

    def __call__(self, w: Tensor, axis: int = 0, training: bool = True, progress: float = 0.0) -> Codes:
        return scaled_sign(w, self.per, self.gradient, axis, self.share, progress)


@dataclass(frozen=True)
class StandardizedSign:
    """`standardized_sign` as a quantiser of weights."""

    gradient: Gradient = CLIPPED
    values: ClassVar[Values] = "pm1"
    planes: ClassVar[tuple[int, ...]] = (1,)

    def __call__(self, w: Tensor, axis: int = 0, training: bool = True, progress: float = 0.0) -> Codes:
        return standardized_sign(w, self.gradient, axis, progress)


@dataclass(frozen=True)
class CenteredSign:
    """`centered_sign` as a quantiser of weights."""

    values: ClassVar[Values] = "pm1"
    planes: ClassVar[tuple[int, ...]] = (1,)

    def __call__(self, w: Tensor, axis: int = 0, training: bool = True, progress: float = 0.0) -> Codes:
        return centered_sign(w)


@dataclass(frozen=True)
class Ternary:
    """`ternary` as a quantiser of weights."""

    values: ClassVar[Values] = "pm1"
    planes: ClassVar[tuple[int, ...]] = (1, 1)

    def __call__(self, w: Tensor, axis: int = 0, training: bool = True, progress: float = 0.0) -> Codes:
        return ternary(w)


@dataclass(frozen=True)
class KBitWeights:
    """`k_bit_weights` as a quantiser of weights, 1 to 8 bits."""

    bits: int = 1
    values: ClassVar[Values] = "pm1"

    def __post_init__(self) -> None:
        _check_bits("KBitWeights", self.bits)

    @property
    def planes(self) -> tuple[int, ...]:
        return tuple(1 << i for i in range(self.bits))

    def __call__(self, w: Tensor, axis: int = 0, training: bool = True, progress: float = 0.0) -> Codes:
        return k_bit_weights(w, self.bits)


WeightQuantizer = MeanThreshold | Sign | ScaledSign | StandardizedSign | CenteredSign | Ternary | KBitWeights


@dataclass(frozen=True)
class KBitActivations:
    """`k_bit_activations` as a quantiser of activations, 1 to 8 bits."""

    bits: int = 2

    def __post_init__(self) -> None:
        _check_bits("KBitActivations", self.bits)

    def __call__(self, x: Tensor, axes: tuple[int, ...] = (-1,), training: bool = True, progress: float = 0.0) -> Codes:
        return k_bit_activations(x, self.bits)

    def describe(self) -> dict[str, object]:
        """The `input` of a packed layer."""
        return {"quantizer": "unit", "bits": self.bits}


@dataclass(frozen=True)
class AbsMax:
    """`absmax` as a quantiser of activations, 8 or 16 bits."""

    bits: int = 8

    def __post_init__(self) -> None:
        if self.bits not in (8, 16):
            raise ValueError(f"[AbsMax] bits={self.bits}: use 8 or 16")

    def __call__(self, x: Tensor, axes: tuple[int, ...] = (-1,), training: bool = True, progress: float = 0.0) -> Codes:
        return absmax(x, self.bits, axes)

    def describe(self) -> dict[str, object]:
        """The `input` of a packed layer."""
        return {"quantizer": "absmax", "bits": self.bits}


ActivationQuantizer = Sign | KBitActivations | AbsMax


def _check_bits(name: str, bits: int) -> None:
    if type(bits) is not int or not 1 <= bits <= 8:
        raise ValueError(f"[{name}] bits={shown(bits)}: use 1 to 8")


def weight_planes(quantizer: WeightQuantizer, w: Tensor, axis: int = 0) -> tuple[Tensor, Tensor | None]:
    """What a quantiser makes of weights in use: the bits of each plane, bool (planes, *w.shape), and the scale.

    The codes are ``sum over p of quantizer.planes[p] * v(bits[p])``, v by `quantizer.values`.
    """
    with torch.no_grad():
        codes, scale = quantizer(w.float(), axis, False)
        planes = quantizer.planes
        if planes == (1,):
            return (codes > 0)[None], scale
        if planes == (1, 1):
            bits = torch.empty((2, *w.shape), dtype=torch.bool, device=w.device)
            torch.ge(codes, 0, out=bits[0])
            torch.gt(codes, 0, out=bits[1])
            return bits, scale
        # The sum of the weights of the planes whose bit is one, at most 255.
        level = codes.add_(sum(planes)).div_(2).round_().to(torch.uint8)
        return torch.stack([(level // c) % 2 == 1 for c in planes]), scale
