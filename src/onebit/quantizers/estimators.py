"""Estimators: how training takes the step from latent weights to bits. They compose with every quantizer of weights of one bit.

Plain training is straight-through: it computes with bits, and moves latent weights by the bits' gradient. This gradient is biased: it is right for
the mean of a bit that flips to and fro, not for the bit that stays at the end. An estimator changes the backward pass (`ReSTE`, `EDE`) or the
forward pass (`BinaryRelax`, `StochasticBits`) while training goes on. Each ends in the quantizer's own bits, which are what packing takes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from onebit.errors import shown
from onebit.quantizers.codes import SMALLEST_SCALE, Codes, axes_that_share, widened
from onebit.quantizers.gradients import Gradient, Power, Tanh, straight_through
from onebit.quantizers.weights import WeightQuantizer


class Estimator(ABC):
    """A way to train the bits of a quantizer. A subclass defines `__call__`."""

    follows_progress: ClassVar[bool] = True  # training passes it its progress

    @abstractmethod
    def __call__(self, quantizer: WeightQuantizer, w: Tensor, axis: int = 0, progress: float = 0.0) -> Codes:
        """The codes of the forward pass in training, with their gradient.

        Args:
            quantizer: of one bit.
            w: latent weights.
            axis: the axis of the outputs.
            progress: the progress of training, 0 to 1.
        """


def distances(quantizer: WeightQuantizer, w: Tensor, axis: int = 0) -> Tensor:
    r"""How far latent weights are from their threshold, in units of the mean distance of those that share a scale.

    .. math:: u = \frac{w - c}{\operatorname{mean} |w - c|}

    Without this unit a rule that compares w with a constant would depend on the spread of the initial latent weights. A quantizer whose two values
    are always 1 apart from the centre takes the mean of each output.
    """
    with torch.no_grad():
        wide = widened(w)
        centred = wide - quantizer.centre(wide, axis)
        axes = quantizer.scale_axes(w, axis)
        shared = axes_that_share("output", w, axis) if axes is None else axes
        return centred / centred.abs().mean(shared, keepdim=True).clamp_min(SMALLEST_SCALE)


def _shaped(quantizer: WeightQuantizer, w: Tensor, axis: int, progress: float, gradient: Gradient) -> Codes:
    """The quantizer's codes, with another factor of their gradient."""
    u = distances(quantizer, w, axis)

    def factor(_: Tensor) -> Tensor | None:
        g = gradient(u, progress)
        return None if g is None else g.to(w.dtype)

    return quantizer(straight_through(w, lambda v: v.view_as(v), factor), axis, True, progress)


def _replaced(codes: Tensor, values: Tensor) -> Tensor:
    """Other values of -1 to +1 for the codes, with the codes' gradient."""
    made = values.to(codes.dtype)
    return straight_through(codes, lambda _: made, lambda _: None)


def _read(signs: Tensor, quantizer: WeightQuantizer) -> Tensor:
    """Numbers of the reading -1 and +1 in the quantizer's reading."""
    return signs if quantizer.values == "bipolar" else (signs + 1) / 2


@dataclass(frozen=True)
class ReSTE(Estimator):
    """`Power` as the gradient of every weight, at its distance from the threshold; see `distances`.

    The authors' code takes the latent weight itself. Latent weights that start at Glorot's spread stay far below 0.1. There the factor is the same
    for all, and Adam divides it out.

    Source: Wu et al., arXiv 2308.06689.
    """

    last: float = 3.0
    limit: float = 1.5

    def __post_init__(self) -> None:
        _check(self, "last", 1.0)
        _check(self, "limit", 0.0)

    def __call__(self, quantizer: WeightQuantizer, w: Tensor, axis: int = 0, progress: float = 0.0) -> Codes:
        return _shaped(quantizer, w, axis, progress, Power(self.last, self.limit))


@dataclass(frozen=True)
class EDE(Estimator):
    """`Tanh` as the gradient of every weight, at its distance from the threshold; see `distances`.

    Source: Qin et al., IR-Net, arXiv 1909.10788, section 3.3. IR-Net standardises the weights of an output, which is what the distance is for here.
    """

    first: float = 0.1
    last: float = 10.0

    def __post_init__(self) -> None:
        _check(self, "first", 0.0)
        _check(self, "last", 0.0)

    def __call__(self, quantizer: WeightQuantizer, w: Tensor, axis: int = 0, progress: float = 0.0) -> Codes:
        return _shaped(quantizer, w, axis, progress, Tanh(self.first, self.last))


@dataclass(frozen=True)
class BinaryRelax(Estimator):
    r"""Compute with a mean of latent weights and bits, which comes to lie at the bits. The gradient is that of the quantizer.

    .. math:: \tilde w = \frac{u + \lambda \operatorname{sign}(u)}{1 + \lambda}, \qquad
              \lambda = \lambda_{first} (\lambda_{last} / \lambda_{first})^{progress / until}

    u is the distance from the threshold; see `distances`.

    Args:
        first: lambda at the beginning. 0.02 is nearly a float network, 1 is half way.
        last: lambda at the end of this phase.
        until: the share of training that this phase takes. Bits alone train after it.

    Source: Yin et al., BinaryRelax, arXiv 1801.06313, algorithm 1, and its authors' code: lambda grows from 1 to about 50.
    """

    first: float = 1.0
    last: float = 50.0
    until: float = 0.75

    def __post_init__(self) -> None:
        _check(self, "first", 0.0)
        _check(self, "last", 0.0)
        _check(self, "until", 0.0, 1.0)

    def __call__(self, quantizer: WeightQuantizer, w: Tensor, axis: int = 0, progress: float = 0.0) -> Codes:
        codes, scale = quantizer(w, axis, True, progress)
        if progress >= self.until:
            return Codes(codes, scale)
        strength = self.first * math.pow(self.last / self.first, progress / self.until)
        with torch.no_grad():
            u = distances(quantizer, w, axis)
            relaxed = _read(u.add(torch.where(u > 0, strength, -strength)).div_(1 + strength), quantizer)
        return Codes(_replaced(codes, relaxed), scale)


@dataclass(frozen=True)
class StochasticBits(Estimator):
    r"""Draw each bit anew in each step, from chances that become certain. The gradient is that of the quantizer.

    .. math:: P(+1) = \operatorname{clip} \left( \frac{u / t + 1}{2}, 0, 1 \right), \qquad t = t_{first} (1 - progress / until)

    u is the distance from the threshold; see `distances`.

    Args:
        first: t at the beginning. At 1, a latent weight at the mean distance has a certain bit.
        until: the share of training until the bits are certain.

    Source: Courbariaux et al., BinaryConnect, arXiv 1511.00363, eqs. 2 and 3, with t = 1 throughout and latent weights clipped to -1..1. There the
    network keeps its float weights in use; here the chances become certain, since a packed network has only bits.
    """

    first: float = 1.0
    until: float = 0.75

    def __post_init__(self) -> None:
        _check(self, "first", 0.0)
        _check(self, "until", 0.0, 1.0)

    def __call__(self, quantizer: WeightQuantizer, w: Tensor, axis: int = 0, progress: float = 0.0) -> Codes:
        codes, scale = quantizer(w, axis, True, progress)
        spread = self.first * (1 - progress / self.until)
        if spread <= 0:
            return Codes(codes, scale)
        with torch.no_grad():
            u = distances(quantizer, w, axis)
            drawn = torch.where(torch.rand_like(u).mul_(2 * spread).sub_(spread).add_(u) > 0, 1.0, -1.0)
        return Codes(_replaced(codes, _read(drawn, quantizer)), scale)


def _check(
    estimator: ReSTE | EDE | BinaryRelax | StochasticBits, option: str, least: float, most: float = math.inf
) -> None:
    """Refuse an option that is not a number within its limits. Above 0, but 1 itself is allowed."""
    value = getattr(estimator, option)
    fits = type(value) in (int, float) and least <= value <= most and 0 < value < math.inf
    if not fits:
        low = f"{least:g} or more" if least else "above 0"
        high = "" if most == math.inf else f", at most {most:g}"
        raise ValueError(f"[{type(estimator).__name__}] {option}={shown(value)}: use a number {low}{high}")


ESTIMATORS: dict[str, type[Estimator]] = {kind.__name__: kind for kind in (ReSTE, EDE, BinaryRelax, StochasticBits)}
