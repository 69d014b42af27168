"""Elastic binarisation: the scale of each output is a parameter with a gradient of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from onebit.errors import shown
from onebit.quantizers.codes import Codes, Values, along
from onebit.quantizers.gradients import straight_through
from onebit.quantizers.weights import ScaledSign, WeightQuantizer


@dataclass(frozen=True)
class Elastic(WeightQuantizer):
    r"""The bits of another quantizer, with a learned scale instead of its own. The scale is the layer's `gain`.

    .. math:: \tilde w = \alpha \operatorname{sign}(w), \qquad
              \frac{\partial L}{\partial w} = \frac{\partial L}{\partial \tilde w} \, [|w| \le \alpha], \qquad
              \frac{\partial L}{\partial \alpha} = \frac 1 {\sqrt N} \sum \frac{\partial L}{\partial \tilde w} \operatorname{sign}(w)

    N is the number of weights of the layer. At the beginning alpha is the other quantizer's scale: for signs the mean of abs(w). A layer that is
    normalised for each channel divides alpha out again.

    Args:
        of: a quantizer of one bit. Its threshold takes the place of 0.

    Raises:
        ValueError: the quantizer has several bits, or is elastic already.

    Example:
        >>> from onebit.schemes import Scheme
        >>> Scheme(weights=Elastic(), gain=True).weights.learned_scale
        True

    Source: Liu et al., ParetoQ, arXiv 2502.02631, and its authors' code (`LsqBinaryTernaryExtension`); Liu et al., BiT, arXiv 2205.13016, for the
    elastic binarisation; Esser et al., LSQ, arXiv 1902.08153, for the factor of alpha's gradient.
    """

    of: WeightQuantizer = field(default_factory=ScaledSign)

    def __post_init__(self) -> None:
        if not isinstance(self.of, WeightQuantizer) or self.of.bits > 1 or isinstance(self.of, Elastic):
            raise ValueError(
                f"[Elastic] of={shown(self.of)}: use a quantizer of weights of one bit, such as ScaledSign()"
            )

    @property
    def values(self) -> Values:
        return self.of.values

    @property
    def planes(self) -> tuple[int, ...]:
        return self.of.planes

    @property
    def keeps_magnitude(self) -> bool:
        return self.of.keeps_magnitude

    @property
    def learned_scale(self) -> bool:
        return True

    def __call__(self, w: Tensor, axis: int = 0, training: bool = True, progress: float = 0.0) -> Codes:
        return Codes(self.of(w, axis, training, progress).codes)

    def scale_axes(self, w: Tensor, axis: int) -> list[int] | None:
        return self.of.scale_axes(w, axis)

    def centre(self, w: Tensor, axis: int = 0) -> Tensor:
        return self.of.centre(w, axis)

    def first_scale(self, w: Tensor, axis: int = 0) -> Tensor:
        """The scale of each output at the beginning, (outputs)."""
        with torch.no_grad():
            scale = self.of(w, axis, False).scale
            ones = w.new_ones(w.shape[axis])
            return ones if scale is None else ones * scale.to(w)

    def bounded(self, w: Tensor, scale: Tensor, axis: int = 0) -> Tensor:
        """The latent weights, whose gradient passes only within plus and minus the scale (outputs) of the threshold."""

        def factor(v: Tensor) -> Tensor:
            return ((v - self.centre(v, axis)).abs() <= along(scale.detach(), v, axis)).to(v.dtype)

        return straight_through(w, lambda v: v.view_as(v), factor)

    @staticmethod
    def eased(scale: Tensor, w: Tensor) -> Tensor:
        """The scale (outputs), whose gradient is divided by the root of the number of weights."""
        share = w.numel() ** -0.5
        return straight_through(scale, lambda v: v.view_as(v), lambda v: torch.full_like(v, share))
