"""Latent weights to their bits: one function and one thin class for each of the literature's ways."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from onebit.errors import shown
from onebit.quantizers.codes import (
    SMALLEST_SCALE,
    Codes,
    Per,
    Values,
    above_mean,
    along,
    axes_that_share,
    binarize,
    check_bits,
    compute_dtype,
    mean_magnitude,
    quantize_unit,
    sign,
    signs_of,
    stochastic_sign,
    to_signs,
    values_named,
    widened,
)
from onebit.quantizers.gradients import CLIPPED, IDENTITY, Gradient, passes_at_signs, straight_through


class WeightQuantizer(ABC):
    """A quantizer of weights, with all facts that the rest of onebit needs.

    A class derives from this and defines the abstract members; `Scheme` refuses one that lacks a member. Nothing else needs to change: training,
    packing and the recurrent layers use these members.
    """

    @property
    @abstractmethod
    def values(self) -> Values:
        """How a bit reads."""

    @property
    @abstractmethod
    def planes(self) -> tuple[int, ...]:
        """The weights of the bit planes whose sum the codes are, one for each bit of a weight."""

    @property
    @abstractmethod
    def keeps_magnitude(self) -> bool:
        """Whether codes times scale are about as large as the latents. Bare codes are of order 1, whatever the layer's size."""

    @abstractmethod
    def __call__(self, w: Tensor, axis: int = 0, training: bool = True, progress: float = 0.0) -> Codes:
        """Quantise weights.

        Args:
            w: latent weights.
            axis: of the outputs.
            training: false in use, where nothing is drawn at random.
            progress: how far training has come, 0 to 1.
        """

    @abstractmethod
    def scale_axes(self, w: Tensor, axis: int) -> list[int] | None:
        """The axes along which weights share the distance of their two values from the centre; None where it is always 1."""

    @property
    def bits(self) -> int:
        """Bits of a weight."""
        return len(self.planes)

    @property
    def flips_freely(self) -> bool:
        """Whether a weight of -1 or +1 that changes its sign flips its own bit and no other, under a gradient that passes there: what `Bop` needs."""
        return False

    def centre(self, w: Tensor, axis: int = 0) -> Tensor:
        """What latents are compared with, in a form that is broadcast against them; 0 unless a quantizer says otherwise."""
        return w.new_zeros(())


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
        progress: share of training that is done, 0 to 1; `Tanh` uses it.

    Returns:
        Codes -1 and +1, and the scale (outputs) or (). The sign of 0 is +1; ``torch.sign`` gives 0, which is not a bit.

    Source: Rastegari et al., XNOR-Net, arXiv 1603.05279, section 3.1, the gradient as stated there (the mean's own would sum over the n weights).
    Its authors' code also takes the mean over the input channels from the latents, clips them to -1..1 and multiplies the gradient by n, which Adam
    does not see; the paper has none of the three. Without share: Zhou et al., DoReFa-Net, arXiv 1606.06160, eqs. 7 and 8 (identity), and the PyTorch
    code of Bi-Real Net and ReActNet (clipped); the paper of Bi-Real Net, arXiv 1808.00278, section 3.3, multiplies by alpha too.
    """
    with torch.no_grad():
        scale = mean_magnitude(w, per, axis)
        wide = along(scale, w, axis)
    n = w.numel() // scale.numel()

    def factor(v: Tensor) -> Tensor | None:
        # What arrives is the gradient of the signs, scale * dL/dw~; dL/dw~ is asked for.
        g = gradient(v, progress)
        if share:
            return 1 / (n * wide) + (1 if g is None else g)
        return 1 / wide if g is None else g / wide

    made = compute_dtype(w)
    return Codes(straight_through(w, lambda v: signs_of(v, made), factor), scale)


def centered_sign(w: Tensor) -> Codes:
    r"""Signs of the weights minus the layer's mean, times the mean magnitude; the identity as its gradient.

    .. math:: \tilde w = \beta \operatorname{sign}(w - \operatorname{mean}(w)), \qquad \beta = \operatorname{mean} |w|

    Source: Wang et al., BitNet, arXiv 2310.11453, eqs. 1 to 3, and 12 for beta, which is of the weights before the mean is taken from them. The sign
    of 0 is -1, there and here.
    """
    with torch.no_grad():
        scale = mean_magnitude(w, "layer", 0)
    made = compute_dtype(w)
    return Codes(straight_through(w, lambda v: to_signs(above_mean(v, made)), lambda v: 1 / scale), scale)


def ternary(w: Tensor) -> Codes:
    r"""-1, 0 or +1 times the mean magnitude; the identity as its gradient.

    .. math:: \tilde w = \gamma \operatorname{clip}(\operatorname{round}(w / \gamma), -1, 1), \qquad \gamma = \operatorname{mean} |w|

    Returns:
        Codes -2, 0 and 2, the sums of two planes of signs, and half of gamma. Halves round to even: ``|w| = gamma / 2`` gives 0.

    Source: Ma et al., BitNet b1.58, arXiv 2402.17764, eqs. 1 to 3, whose small number is added to gamma, here its lower bound.
    """
    with torch.no_grad():
        scale = mean_magnitude(w, "layer", 0)
    made = compute_dtype(w)
    half = scale / 2
    return Codes(
        straight_through(w, lambda v: (widened(v) / scale).round_().clamp_(-1, 1).mul_(2).to(made), lambda v: 1 / half),
        half,
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
    t = torch.tanh(widened(w))
    high = t.abs().max()
    unit = t / (2 * torch.where(high > 0, high, 1.0)) + 0.5  # all latents may be zero
    codes = 2 * quantize_unit(unit, bits, compute_dtype(w)) - top
    return Codes(codes, torch.tensor(1 / top, device=w.device))


def standardized_sign(w: Tensor, gradient: Gradient = CLIPPED, axis: int = 0, progress: float = 0.0) -> Codes:
    r"""Scaled signs of weights that are standardised for each output first, so that a network needs no batch normalisation.

    .. math:: \hat w = \frac{w - \mu}{\sigma \sqrt n}, \qquad \tilde w = \operatorname{mean} |\hat w| \cdot \operatorname{sign}(\hat w), \qquad
              \frac{\partial L}{\partial \hat w} = \frac{\partial L}{\partial \tilde w} \, g(\hat w)

    mu, sigma: mean and deviation of the n weights of an output. From w^ to w the gradient goes through mean and deviation.

    Args:
        w: latent weights.
        gradient: g. It gets w^, whose deviation is 1 / sqrt(n), so the clipped gradient hardly ever clips, as in the authors' code.
        axis: of the outputs.
        progress: share of training that is done, 0 to 1; `Tanh` uses it.

    Returns:
        Codes -1 and +1, and the scale (outputs).

    Source: Chen et al., BNN - BN = ?, arXiv 2104.08215, section 3, and its authors' code; Brock et al., arXiv 2101.08692, for the standardisation.
    """
    others = [a for a in range(w.dim()) if a != axis]
    n = w.numel() // w.shape[axis]
    wide = widened(w)
    centred = wide - wide.mean(others, keepdim=True)
    standard = centred / (centred.square().mean(others, keepdim=True).add(SMALLEST_SCALE).sqrt() * n**0.5)
    with torch.no_grad():
        scale = mean_magnitude(standard, "output", axis)
    each, made = along(scale, w, axis), compute_dtype(w)

    def factor(v: Tensor) -> Tensor:
        g = gradient(v, progress)
        return 1 / each if g is None else g / each

    return Codes(straight_through(standard, lambda v: signs_of(v, made), factor), scale)


@dataclass(frozen=True)
class MeanThreshold(WeightQuantizer):
    """`binarize` as a quantizer of weights.

    Args:
        values: how a bit reads, ``"unipolar"`` as 0 or 1 (the paper), ``"bipolar"`` as -1 or +1; ``"01"`` and ``"pm1"`` are read too.
        per: ``"layer"`` (the paper): one mean for the whole tensor; ``"output"``: one for the weights of each output.
        scale: a constant that the sums are multiplied with, for layers without a normalisation: a number above 0, or ``"inputs"``, one over the
            square root of the weights of an output, which keeps sums of inputs of unit deviation at unit deviation. It depends on the layer's shape
            alone, so that every parameter stays a bit. None (the paper): 1.

    Raises:
        ValueError: an argument has another value.
    """

    values: Values = "unipolar"
    per: Per = "layer"
    scale: float | Literal["inputs"] | None = None
    planes: ClassVar[tuple[int, ...]] = (1,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", values_named("MeanThreshold", self.values))
        if self.per not in ("layer", "output"):
            raise ValueError(f"[MeanThreshold] per={self.per!r}: use 'layer' or 'output'")
        number = isinstance(self.scale, (int, float)) and not isinstance(self.scale, bool)
        if not (self.scale in (None, "inputs") or (number and 0 < float(self.scale or 0) < math.inf)):
            raise ValueError(f"[MeanThreshold] scale={shown(self.scale)}: use 'inputs', a number above 0 or None")

    def __repr__(self) -> str:
        """As in the paper where nothing else is said."""
        per = "" if self.per == "layer" else f", per={self.per!r}"
        scale = "" if self.scale is None else f", scale={self.scale!r}"
        return f"MeanThreshold(values={self.values!r}{per}{scale})"

    @property
    def keeps_magnitude(self) -> bool:
        return self.scale == "inputs"  # that of latents which start as Glorot's do

    def __call__(self, w: Tensor, axis: int = 0, training: bool = True, progress: float = 0.0) -> Codes:
        codes = binarize(w, self.values, axis=axis if self.per == "output" else None)
        if self.scale is None:
            return Codes(codes)
        scale = (w.numel() / w.shape[axis]) ** -0.5 if self.scale == "inputs" else self.scale
        return Codes(codes, torch.tensor(scale, device=w.device))

    def scale_axes(self, w: Tensor, axis: int) -> list[int] | None:
        return axes_that_share(self.per, w, axis)

    def centre(self, w: Tensor, axis: int = 0) -> Tensor:
        return w.mean(axes_that_share(self.per, w, axis), keepdim=True)


@dataclass(frozen=True)
class Sign(WeightQuantizer):
    """`sign` as a quantizer of weights or of activations; stochastic: `stochastic_sign` while training.

    In use the sign is always the deterministic one: BinaryConnect's authors run the network of the stochastic variant with its float weights,
    which is not a binary network.
    """

    gradient: Gradient = CLIPPED
    stochastic: bool = False
    signed: ClassVar[bool] = True  # of activations: negative inputs keep their sign
    values: ClassVar[Values] = "bipolar"
    planes: ClassVar[tuple[int, ...]] = (1,)
    keeps_magnitude: ClassVar[bool] = False

    def __call__(
        self, x: Tensor, axis: int | tuple[int, ...] = 0, training: bool = True, progress: float = 0.0
    ) -> Codes:
        return Codes(stochastic_sign(x) if self.stochastic and training else sign(x, self.gradient, progress))

    def scale_axes(self, w: Tensor, axis: int) -> list[int] | None:
        return None

    @property
    def flips_freely(self) -> bool:
        return self.stochastic or passes_at_signs(self.gradient)  # random signs pass the identity

    def describe(self) -> dict[str, object]:
        """The `input` of a packed layer."""
        return {"quantizer": "sign"}


@dataclass(frozen=True)
class ScaledSign(WeightQuantizer):
    """`scaled_sign` as a quantizer of weights."""

    per: Per = "output"
    gradient: Gradient = IDENTITY
    share: bool = False
    values: ClassVar[Values] = "bipolar"
    planes: ClassVar[tuple[int, ...]] = (1,)
    keeps_magnitude: ClassVar[bool] = True

    def __call__(self, w: Tensor, axis: int = 0, training: bool = True, progress: float = 0.0) -> Codes:
        return scaled_sign(w, self.per, self.gradient, axis, self.share, progress)

    def scale_axes(self, w: Tensor, axis: int) -> list[int] | None:
        return axes_that_share(self.per, w, axis)

    @property
    def flips_freely(self) -> bool:
        return passes_at_signs(self.gradient)


@dataclass(frozen=True)
class StandardizedSign(WeightQuantizer):
    """`standardized_sign` as a quantizer of weights."""

    gradient: Gradient = CLIPPED
    values: ClassVar[Values] = "bipolar"
    planes: ClassVar[tuple[int, ...]] = (1,)
    keeps_magnitude: ClassVar[bool] = True

    def __call__(self, w: Tensor, axis: int = 0, training: bool = True, progress: float = 0.0) -> Codes:
        return standardized_sign(w, self.gradient, axis, progress)

    def scale_axes(self, w: Tensor, axis: int) -> list[int] | None:
        return axes_that_share("output", w, axis)

    def centre(self, w: Tensor, axis: int = 0) -> Tensor:
        return w.mean(axes_that_share("output", w, axis), keepdim=True)


@dataclass(frozen=True)
class CenteredSign(WeightQuantizer):
    """`centered_sign` as a quantizer of weights."""

    values: ClassVar[Values] = "bipolar"
    planes: ClassVar[tuple[int, ...]] = (1,)
    keeps_magnitude: ClassVar[bool] = True

    def __call__(self, w: Tensor, axis: int = 0, training: bool = True, progress: float = 0.0) -> Codes:
        return centered_sign(w)

    def scale_axes(self, w: Tensor, axis: int) -> list[int] | None:
        return axes_that_share("layer", w, axis)

    def centre(self, w: Tensor, axis: int = 0) -> Tensor:
        return w.mean(axes_that_share("layer", w, axis), keepdim=True)


@dataclass(frozen=True)
class Ternary(WeightQuantizer):
    """`ternary` as a quantizer of weights."""

    values: ClassVar[Values] = "bipolar"
    planes: ClassVar[tuple[int, ...]] = (1, 1)
    keeps_magnitude: ClassVar[bool] = True

    def __call__(self, w: Tensor, axis: int = 0, training: bool = True, progress: float = 0.0) -> Codes:
        return ternary(w)

    def scale_axes(self, w: Tensor, axis: int) -> list[int] | None:
        return axes_that_share("layer", w, axis)


@dataclass(frozen=True)
class KBitWeights(WeightQuantizer):
    """`k_bit_weights` as a quantizer of weights, 1 to 8 bits."""

    bits: int = 1
    values: ClassVar[Values] = "bipolar"

    def __post_init__(self) -> None:
        check_bits("KBitWeights", self.bits)

    @property
    def planes(self) -> tuple[int, ...]:
        return tuple(1 << i for i in range(self.bits))

    @property
    def keeps_magnitude(self) -> bool:
        return self.bits == 1  # several bits are levels from -1 to 1

    def __call__(self, w: Tensor, axis: int = 0, training: bool = True, progress: float = 0.0) -> Codes:
        return k_bit_weights(w, self.bits)

    def scale_axes(self, w: Tensor, axis: int) -> list[int] | None:
        return axes_that_share("layer", w, axis) if self.bits == 1 else None

    @property
    def flips_freely(self) -> bool:
        return self.bits == 1


def weight_planes(quantizer: WeightQuantizer, w: Tensor, axis: int = 0) -> tuple[Tensor, Tensor | None]:
    """What a quantizer makes of weights in use: the bits of each plane, bool `(planes, *w.shape)`, and the scale.

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
