"""Straight-through gradients: used in place of the derivative of a step, which is zero or undefined.

A gradient is a function of the input `x` of the step and of how far training has come (0 to 1), and gives the factor that the gradient is multiplied
with on its way back, of x's shape, or None for one everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor


class Gradient(Protocol):
    """A function in place of the derivative of a step."""

    follows_progress: ClassVar[bool] = False  # whether it changes during training, which passes it the progress

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
    r"""The derivative of a polynomial of second order that looks like a sign: ApproxSign.

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
        # cosh overflows from 89 on; the quotient is 0 far below that
        z = (self.beta * x).clamp(-40, 40)
        return self.beta * (2 - z * torch.tanh(z / 2)) / (1 + torch.cosh(z))


@dataclass(frozen=True)
class Tanh(Gradient):
    r"""The derivative of a tanh whose slope rises during training (EDE): at first every input learns; at the end it is close to the step.

    .. math:: k \, t \, (1 - \tanh^2(t x)), \qquad t = t_{first} (t_{last} / t_{first})^{progress}, \qquad k = \max(1 / t, 1)

    Source: Qin et al., IR-Net, arXiv 1909.10788, section 3.3, with its first and last slope; its authors' code for CIFAR-10 starts at 0.001.
    """

    follows_progress: ClassVar[bool] = True
    first: float = 0.1
    last: float = 10.0

    def __call__(self, x: Tensor, progress: float = 0.0) -> Tensor:
        t = self.first * math.pow(self.last / self.first, progress)
        return max(1 / t, 1) * t * (1 - torch.tanh(t * x).square())


IDENTITY, CLIPPED = Identity(), Clipped()


def passes_at_signs(gradient: Gradient) -> bool:
    """Whether the gradient of weights of -1 and +1 passes unchanged, early and late in training."""
    ones = torch.tensor([-1.0, 1.0])
    factors = [gradient(ones, progress) for progress in (0.0, 1.0)]
    return all(factor is None or bool((factor == 1).all()) for factor in factors)


class _StraightThrough(torch.autograd.Function):
    """The codes forward; backward the gradient times a factor.

    The literature writes ``x + stop_gradient(codes - x)``; in floating point that sum is not exactly the codes, so they are returned themselves.
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
    """Apply `step`, a function without a useful derivative; backward, `factor` of its input takes the place of the derivative.

    Args:
        x: floating tensor of any shape.
        step: from x to a tensor of the same shape, of any floating dtype.
        factor: from x to what the gradient is multiplied with; None passes it unchanged.
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
        # In bfloat16 the levels of 8 bits are as close as its numbers, and noise between them would be lost.
        given, levels = gradients[0], (1 << ctx.bits) - 1
        g = given.to(torch.promote_types(given.dtype, torch.float32))
        largest = g.abs().amax(tuple(range(1, g.dim())), keepdim=True).clamp_min(torch.finfo(g.dtype).tiny)
        noise = (torch.rand_like(g) - 0.5) / levels
        share = (g / (2 * largest) + 0.5 + noise).clamp(0, 1)
        return (2 * largest * (torch.round(share * levels) / levels - 0.5)).to(given.dtype), None


def quantize_gradient(x: Tensor, bits: int) -> Tensor:
    r"""The identity, whose gradient is quantised stochastically to `bits` bits on its way back.

    .. math:: \tilde g = 2 m \left( \operatorname{quantize}_k \left( \frac{g}{2 m} + \frac 1 2 + \frac{\sigma}{2^k - 1} \right) - \frac 1 2 \right),
              \qquad m = \max |g| \text{ of the example}, \quad \sigma \sim U(-\tfrac 1 2, \tfrac 1 2)

    Args:
        x: (batch, ...), floating.
        bits: k, 1 to 8.

    Source: Zhou et al., DoReFa-Net, arXiv 1606.06160, eq. 12. The share is clipped to 0..1, where the noise would leave it, as in the
    authors' code. No level is 0: a gradient of 0 becomes one of the two nearest levels, at random.
    """
    result: Tensor = _QuantizedGradient.apply(x, bits)  # type: ignore[no-untyped-call]
    return result
