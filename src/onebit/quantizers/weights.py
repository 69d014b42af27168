"""Quantise latent weights to bits: one function and one thin class per published method."""

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
    """A quantizer of weights, with all properties that the rest of onebit needs.

    A subclass defines the abstract members; `Scheme` refuses a class that lacks one. Training, packing and the recurrent layers use only these
    members, so a new quantizer needs no changes elsewhere.
    """

    @property
    @abstractmethod
    def values(self) -> Values:
        """The values of a bit, "unipolar" or "bipolar"."""

    @property
    @abstractmethod
    def planes(self) -> tuple[int, ...]:
        """The weight of each bit plane. The codes are the weighted sum of the planes."""

    @property
    @abstractmethod
    def keeps_magnitude(self) -> bool:
        """Whether codes times scale are about as large as the latent weights. Bare codes have magnitude 1, whatever the layer's size."""

    @abstractmethod
    def __call__(self, w: Tensor, axis: int = 0, training: bool = True, progress: float = 0.0) -> Codes:
        """Quantise weights.

        Args:
            w: latent weights.
            axis: the axis of the outputs.
            training: false outside training, where nothing is random.
            progress: the progress of training, 0 to 1.
        """

    @abstractmethod
    def scale_axes(self, w: Tensor, axis: int) -> list[int] | None:
        """The axes along which weights share the distance of their two values from the centre. None if the distance is always 1."""

    @property
    def bits(self) -> int:
        """The number of bits per weight."""
        return len(self.planes)

    @property
    def flips_freely(self) -> bool:
        """Whether the quantizer suits `Bop`: a weight of -1 or +1 that changes sign flips only its own bit, and the gradient passes there."""
        return False

    @property
    def constant_scale(self) -> bool:
        """Whether the scale is one number that training does not change: then a packed file need not hold it for each output."""
        return False

    @property
    def learned_scale(self) -> bool:
        """Whether the scale is a parameter of the layer, its `gain`, instead of following from the latent weights; see `Elastic`."""
        return False

    def centre(self, w: Tensor, axis: int = 0) -> Tensor:
        """The threshold of latent weights, in a shape that broadcasts against them. It is 0 unless a quantizer overrides this."""
        return w.new_zeros(())


def scaled_sign(
    w: Tensor,
    per: Per = "output",
    gradient: Gradient = IDENTITY,
    axis: int = 0,
    share: bool = False,
    progress: float = 0.0,
) -> Codes:
    r"""Signs times the mean magnitude: the best binary approximation of `w` in the least-squares sense.

    .. math:: \tilde w = \alpha \operatorname{sign}(w), \quad \alpha = \operatorname{mean} |w|, \qquad
              \frac{\partial L}{\partial w} = \frac{\partial L}{\partial \tilde w} \, g(w), \text{ or with share }
              \frac{\partial L}{\partial \tilde w} \left( \frac 1 n + \alpha \, g(w) \right)

    Args:
        w: latent weights.
        per: one scale per ``"output"`` (XNOR-Net), or one for the ``"layer"`` (DoReFa).
        gradient: g.
        axis: the axis of the outputs.
        share: use XNOR-Net's gradient, in which each of the n weights of a scale gets 1/n of the scale's gradient.
        progress: the progress of training, 0 to 1. `Tanh` uses it.

    Returns:
        Codes -1 and +1, and the scale (outputs) or (). The sign of 0 is +1. Code with ``torch.sign`` has 0 there, which is not a bit.

    Source: Rastegari et al., XNOR-Net, arXiv 1603.05279, section 3.1, with the gradient as stated there (the exact gradient of the mean would sum
    over the n weights). Its authors' code also subtracts the mean over the input channels from the latent weights, clips them to -1..1, and
    multiplies the gradient by n, which does not affect Adam. The paper does none of the three. Without `share`: Zhou et al., DoReFa-Net, arXiv
    1606.06160, eqs. 7 and 8 (identity), and the PyTorch code of Bi-Real Net and ReActNet (clipped). The paper of Bi-Real Net, arXiv 1808.00278,
    section 3.3, also multiplies by alpha.
    """
    with torch.no_grad():
        scale = mean_magnitude(w, per, axis)
        wide = along(scale, w, axis)
    n = w.numel() // scale.numel()

    def factor(v: Tensor) -> Tensor | None:
        # The incoming gradient is that of the signs, scale * dL/dw~. The formula needs dL/dw~.
        g = gradient(v, progress)
        if share:
            return 1 / (n * wide) + (1 if g is None else g)
        return 1 / wide if g is None else g / wide

    made = compute_dtype(w)
    return Codes(straight_through(w, lambda v: signs_of(v, made), factor), scale)


def centered_sign(w: Tensor) -> Codes:
    r"""Signs relative to the layer's mean, times the mean magnitude. The gradient is the identity.

    .. math:: \tilde w = \beta \operatorname{sign}(w - \operatorname{mean}(w)), \qquad \beta = \operatorname{mean} |w|

    Source: Wang et al., BitNet, arXiv 2310.11453, eqs. 1 to 3, and 12 for beta, which is computed before the mean is subtracted. The sign of 0 is
    -1, as in the paper.
    """
    with torch.no_grad():
        scale = mean_magnitude(w, "layer", 0)
    made = compute_dtype(w)
    return Codes(straight_through(w, lambda v: to_signs(above_mean(v, made)), lambda v: 1 / scale), scale)


def ternary(w: Tensor) -> Codes:
    r"""-1, 0 or +1 times the mean magnitude. The gradient is the identity.

    .. math:: \tilde w = \gamma \operatorname{clip}(\operatorname{round}(w / \gamma), -1, 1), \qquad \gamma = \operatorname{mean} |w|

    Returns:
        Codes -2, 0 and 2, the sums of two planes of signs, and half of gamma. Halves round to even: ``|w| = gamma / 2`` gives 0.

    Source: Ma et al., BitNet b1.58, arXiv 2402.17764, eqs. 1 to 3. The paper adds a small number to gamma; here it is gamma's lower bound.
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
    r"""Quantise weights to k bits, evenly spaced from -1 to 1.

    .. math:: \tilde w = 2 \operatorname{quantize}_k \left( \frac{\tanh w}{2 \max |\tanh w|} + \frac 1 2 \right) - 1, \qquad
              \operatorname{quantize}_k(r) = \frac{\operatorname{round}((2^k - 1) r)}{2^k - 1};

    with one bit it is `scaled_sign` of the layer, as in the paper.

    Returns:
        Codes, odd integers from 1 - 2^k to 2^k - 1, and the scale 1 / (2^k - 1). Halves round to even, so a latent weight of 0 gives the code +1.

    Source: Zhou et al., DoReFa-Net, arXiv 1606.06160, eqs. 5, 7 and 9. The gradient goes through the tanh and the maximum, as in its authors' code.
    """
    if bits == 1:
        return scaled_sign(w, "layer")
    top = (1 << bits) - 1
    t = torch.tanh(widened(w))
    high = t.abs().max()
    unit = t / (2 * torch.where(high > 0, high, 1.0)) + 0.5  # avoid division by zero
    codes = 2 * quantize_unit(unit, bits, compute_dtype(w)) - top
    return Codes(codes, torch.tensor(1 / top, device=w.device))


def standardized_sign(w: Tensor, gradient: Gradient = CLIPPED, axis: int = 0, progress: float = 0.0) -> Codes:
    r"""Scaled signs of weights that are first standardised per output, so that a network does not need batch normalisation.

    .. math:: \hat w = \frac{w - \mu}{\sigma \sqrt n}, \qquad \tilde w = \operatorname{mean} |\hat w| \cdot \operatorname{sign}(\hat w), \qquad
              \frac{\partial L}{\partial \hat w} = \frac{\partial L}{\partial \tilde w} \, g(\hat w)

    mu and sigma are the mean and deviation of the n weights of an output. From w^ to w the gradient goes through both.

    Args:
        w: latent weights.
        gradient: g. Its input is w^, with deviation 1 / sqrt(n), so a clipped gradient almost never clips, as in the authors' code.
        axis: the axis of the outputs.
        progress: the progress of training, 0 to 1. `Tanh` uses it.

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
        values: the values of a bit: ``"unipolar"`` is 0 or 1 (the paper), ``"bipolar"`` is -1 or +1. ``"01"`` and ``"pm1"`` mean the same.
        per: ``"layer"`` (the paper) uses one mean for the whole tensor; ``"output"`` uses one mean per output.
        scale: a constant factor of the sums, for layers without normalisation: a number above 0, or ``"inputs"``, which is one over the square
            root of the number of weights of an output. It keeps sums of inputs of unit deviation at unit deviation. It depends only on the
            layer's shape, so every parameter stays one bit. None (the paper) is 1.

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
        """Only the options that differ from the paper's."""
        per = "" if self.per == "layer" else f", per={self.per!r}"
        scale = "" if self.scale is None else f", scale={self.scale!r}"
        return f"MeanThreshold(values={self.values!r}{per}{scale})"

    @property
    def keeps_magnitude(self) -> bool:
        return self.scale == "inputs"  # the magnitude of Glorot's initial latent weights

    @property
    def constant_scale(self) -> bool:
        return self.scale is not None

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
    """`sign` as a quantizer of weights or of activations. With `stochastic` it is `stochastic_sign` during training.

    Outside training the sign is always deterministic. BinaryConnect's authors run the stochastic variant with its float weights, which is not a
    binary network.
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
        return self.stochastic or passes_at_signs(self.gradient)  # random signs use the identity as gradient

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
        return self.bits == 1  # several bits give levels from -1 to 1

    def __call__(self, w: Tensor, axis: int = 0, training: bool = True, progress: float = 0.0) -> Codes:
        return k_bit_weights(w, self.bits)

    def scale_axes(self, w: Tensor, axis: int) -> list[int] | None:
        return axes_that_share("layer", w, axis) if self.bits == 1 else None

    @property
    def flips_freely(self) -> bool:
        return self.bits == 1


def weight_planes(quantizer: WeightQuantizer, w: Tensor, axis: int = 0) -> tuple[Tensor, Tensor | None]:
    """The quantised weights outside training: the bits of each plane, bool `(planes, *w.shape)`, and the scale.

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
        # The sum of the plane weights with a set bit, at most 255.
        level = codes.add_(sum(planes)).div_(2).round_().to(torch.uint8)
        return torch.stack([(level // c) % 2 == 1 for c in planes]), scale
