"""Straight-through gradients: replacements for the derivative of a step function, which is zero or undefined.

A gradient is a function of the step's input `x` and of the progress of training (0 to 1). It returns a factor of x's shape, which multiplies the
gradient in the backward pass, or None for 1 everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor


class Gradient(Protocol):
    """A replacement for the derivative of a step function."""

    follows_progress: ClassVar[bool] = False  # whether it changes during training, which then passes it its progress

    def __call__(self, x: Tensor, progress: float = 0.0) -> Tensor | None:
        """The factor of the gradient at each input, or None for 1 everywhere."""


@dataclass(frozen=True)
class Identity(Gradient):
    r"""The gradient passes unchanged.

    .. math:: \partial L / \partial x = \partial L / \partial y

    Source: Hinton's lectures, 2012; Bengio et al., arXiv 1308.3432.
    """

    def __call__(self, x: Tensor, progress: float = 0.0) -> Tensor | None:
        return None


@dataclass(frozen=True)
class Clipped(Gradient):
    r"""The gradient passes where the input is small: the derivative of a hard tanh.

    .. math:: \partial L / \partial x = \partial L / \partial y \cdot [|x| \le limit]

    Source: Courbariaux et al., BinaryNet, arXiv 1602.02830, eq. 4.
    """

    limit: float = 1.0

    def __call__(self, x: Tensor, progress: float = 0.0) -> Tensor:
        return (x.abs() <= self.limit).to(x.dtype)


@dataclass(frozen=True)
class Polynomial(Gradient):
    r"""ApproxSign: the derivative of a quadratic function that approximates the sign.

    .. math:: 2 + 2x \text{ for } -1 \le x < 0, \qquad 2 - 2x \text{ for } 0 \le x < 1, \qquad 0 \text{ elsewhere}

    Source: Liu et al., Bi-Real Net, arXiv 1808.00278, section 3.3.
    """

    def __call__(self, x: Tensor, progress: float = 0.0) -> Tensor:
        return (2 - 2 * x.abs()).clamp_min(0)


@dataclass(frozen=True)
class Swish(Gradient):
    r"""The derivative of the SignSwish function.

    .. math:: \beta \, \frac{2 - \beta x \tanh(\beta x / 2)}{1 + \cosh(\beta x)}

    Source: Darabi et al., BNN+, arXiv 1812.11800, the derivative of ``2 s(bx) (1 + bx (1 - s(bx))) - 1``, s the logistic function.
    """

    beta: float = 5.0

    def __call__(self, x: Tensor, progress: float = 0.0) -> Tensor:
        # cosh overflows from 89 on, where the quotient is already 0
        z = (self.beta * x).clamp(-40, 40)
        return self.beta * (2 - z * torch.tanh(z / 2)) / (1 + torch.cosh(z))


@dataclass(frozen=True)
class Tanh(Gradient):
    r"""EDE: the derivative of a tanh with a slope that grows during training. At first every input learns; at the end it approximates the step.

    .. math:: k \, t \, (1 - \tanh^2(t x)), \qquad t = t_{first} (t_{last} / t_{first})^{progress}, \qquad k = \max(1 / t, 1)

    Source: Qin et al., IR-Net, arXiv 1909.10788, section 3.3, with its first and last slope. Its authors' code for CIFAR-10 starts at 0.001.
    """

    follows_progress: ClassVar[bool] = True
    first: float = 0.1
    last: float = 10.0

    def __call__(self, x: Tensor, progress: float = 0.0) -> Tensor:
        t = self.first * math.pow(self.last / self.first, progress)
        return max(1 / t, 1) * t * (1 - torch.tanh(t * x).square())


@dataclass(frozen=True)
class Power(Gradient):
    r"""ReSTE: the derivative of a power function, which becomes the sign as its exponent falls to 0. At first it is the identity.

    .. math:: \frac 1 o |x|^{(1 - o) / o} \text{ for } m < |x| \le t, \qquad m^{1 / o} / m \text{ for } |x| \le m, \qquad 0 \text{ elsewhere},
              \qquad o = 1 + (o_{last} - 1) (1 - \cos(\tfrac \pi 2 progress))

    Args:
        last: o at the end of training, 1 or more. 1 is the clipped identity.
        limit: t. Inputs further away get no gradient.
        flat: m. Nearer to 0 the slope of the chord takes the place of the derivative, which is infinite at 0.

    Source: Wu et al., ReSTE, arXiv 2308.06689, eqs. 5 to 9, and its authors' code, which has these three values and this schedule of o.
    """

    follows_progress: ClassVar[bool] = True
    last: float = 3.0
    limit: float = 1.5
    flat: float = 0.1

    def __call__(self, x: Tensor, progress: float = 0.0) -> Tensor:
        o = 1 + (self.last - 1) * (1 - math.cos(progress * math.pi / 2))
        size = x.abs()
        # Far below `flat` the derivative overflows in half precision, so it is computed for larger inputs only.
        slope = size.clamp_min(self.flat).pow((1 - o) / o) / o
        slope = torch.where(size > self.flat, slope, self.flat ** (1 / o - 1))
        return torch.where(size <= self.limit, slope, 0.0)


IDENTITY, CLIPPED = Identity(), Clipped()


def passes_at_signs(gradient: Gradient) -> bool:
    """Whether the gradient at -1 and +1 passes unchanged, early and late in training."""
    ones = torch.tensor([-1.0, 1.0])
    factors = [gradient(ones, progress) for progress in (0.0, 1.0)]
    return all(factor is None or bool((factor == 1).all()) for factor in factors)


class _StraightThrough(torch.autograd.Function):
    """Return the codes in the forward pass, and the gradient times a factor in the backward pass.

    Papers write ``x + stop_gradient(codes - x)``. In floating point that sum is not exactly equal to the codes, so they are returned directly.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, step: Callable[[Tensor], Tensor], factor: Callable[[Tensor], Tensor | None]
    ) -> Tensor:
        ctx.factor, ctx.dtype = factor, x.dtype
        ctx.save_for_backward(x)
        return step(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0].to(ctx.dtype)
        factor = ctx.factor(*ctx.saved_tensors)
        return gradient if factor is None else (gradient * factor).to(ctx.dtype), None, None


def straight_through(x: Tensor, step: Callable[[Tensor], Tensor], factor: Callable[[Tensor], Tensor | None]) -> Tensor:
    """Apply `step`, a function without a useful derivative. In the backward pass, `factor` of its input replaces the derivative.

    Args:
        x: floating tensor of any shape.
        step: a function from x to a tensor of the same shape, of any floating dtype.
        factor: a function from x to the factor of the gradient; None passes the gradient unchanged.
    """
    result: Tensor = _StraightThrough.apply(x, step, factor)  # type: ignore[no-untyped-call]
    return result


class _QuantizedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int) -> Tensor:
        ctx.bits = bits
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # In bfloat16 numbers lie as far apart as the levels of 8 bits, so the noise between them would be lost.
        given, levels = gradients[0], (1 << ctx.bits) - 1
        g = given.to(torch.promote_types(given.dtype, torch.float32))
        largest = g.abs().amax(tuple(range(1, g.dim())), keepdim=True).clamp_min(torch.finfo(g.dtype).tiny)
        noise = (torch.rand_like(g) - 0.5) / levels
        share = (g / (2 * largest) + 0.5 + noise).clamp(0, 1)
        return (2 * largest * (torch.round(share * levels) / levels - 0.5)).to(given.dtype), None


def quantize_gradient(x: Tensor, bits: int) -> Tensor:
    r"""The identity. In the backward pass its gradient is stochastically quantised to `bits` bits.

    .. math:: \tilde g = 2 m \left( \operatorname{quantize}_k \left( \frac{g}{2 m} + \frac 1 2 + \frac{\sigma}{2^k - 1} \right) - \frac 1 2 \right),
              \qquad m = \max |g| \text{ of the example}, \quad \sigma \sim U(-\tfrac 1 2, \tfrac 1 2)

    Args:
        x: (batch, ...), floating.
        bits: k, 1 to 8.

    Source: Zhou et al., DoReFa-Net, arXiv 1606.06160, eq. 12. As in the authors' code, the noisy value is clipped to 0..1. No level is 0: a
    gradient of 0 becomes one of the two levels next to it, at random.
    """
    result: Tensor = _QuantizedGradient.apply(x, bits)  # type: ignore[no-untyped-call]
    return result
