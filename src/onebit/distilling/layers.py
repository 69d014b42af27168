"""Dense layers whose weights are signs or ternary, with a learned scale for each group of inputs."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.importing.blocks import Levels, Signs
from onebit.ops.bit_rows import pack_rows
from onebit.quantizers.codes import compute_dtype

Levelled = Literal["bits", "ternary"]
# Of float16, which the scales are stored in.
_LEAST_SCALE = 2.0**-24
# The scales of a normal distribution settle to three digits in so many rounds.
_ROUNDS = 12


def codes_of(w: Tensor, scale: Tensor, levels: Levelled) -> Tensor:
    """The codes -1 and 1, or -1, 0 and 1, of weights (..., group) with their scales (..., 1)."""
    if levels == "bits":
        return torch.where(w >= 0, 1.0, -1.0)
    return (w / scale).round_().clamp_(-1, 1)


def best_scales(w: Tensor, group: int, levels: Levelled) -> Tensor:
    r"""The scales (outputs, groups) at which the squares of what rounding changes are least, up to a local optimum.

    .. math:: s = \frac{\sum w q}{\sum q^2}, \qquad q = \operatorname{codes}(w / s), \text{ in turns}

    Args:
        w: weights (outputs, inputs).
        group: the inputs that share a scale.
        levels: of the codes. The scale of signs is the mean magnitude.
    """
    parts = _groups(w, w.shape[1] // group)
    scale = parts.abs().mean(-1, keepdim=True).clamp_min(_LEAST_SCALE)
    for _ in range(_ROUNDS if levels == "ternary" else 0):
        q = codes_of(parts, scale, levels)
        scale = ((parts * q).sum(-1, keepdim=True) / q.square().sum(-1, keepdim=True).clamp_min(1)).clamp_min(
            _LEAST_SCALE
        )
    return scale.squeeze(-1)


def _groups(w: Tensor, count: int) -> Tensor:
    """(outputs, inputs) to (outputs, groups, inputs of a group)."""
    return w.view(len(w), count, -1)


class _Quantized(torch.autograd.Function):
    """Codes times scales. Nothing but the parameters is kept for the way back."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, scale: Tensor, levels: Levelled, made: torch.dtype) -> Tensor:
        ctx.save_for_backward(w, scale)
        ctx.levels = levels
        each = stored_scale(scale)[..., None]
        return (codes_of(_groups(w, scale.shape[1]), each, levels) * each).flatten(1).to(made)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        w, scale = ctx.saved_tensors
        g = gradients[0].float()
        each = stored_scale(scale)[..., None]
        parts = _groups(w, scale.shape[1])
        q = codes_of(parts, each, ctx.levels)
        if ctx.levels == "ternary":
            u = parts / each
            q = torch.where(u.abs() < 1, q - u, q)
        return g, (_groups(g, scale.shape[1]) * q).sum(-1), None, None


def stored_scale(scale: Tensor) -> Tensor:
    """The scales as a file has them."""
    return scale.clamp_min(_LEAST_SCALE).half().float()


class GroupScaledLinear(nn.Module):
    r"""A dense layer of signs or ternary weights, with a float bias if one is given.

    .. math:: y = W_q x + b, \qquad W_q = s \operatorname{codes}(W / s), \qquad
              \frac{\partial L}{\partial W} = \frac{\partial L}{\partial W_q}, \qquad
              \frac{\partial L}{\partial s} = \sum \frac{\partial L}{\partial W_q} \left( q - \frac W s [|W| < s] \right)

    The last sum is over a group; for signs it is without the second term.

    Args:
        weight: the latent weights to start from, (outputs, inputs).
        group: the number of inputs that share a scale.
        levels: ``"bits"`` or ``"ternary"``.
        bias: the biases to start from, (outputs), or None.

    Shape:
        (..., inputs) to (..., outputs).

    Source: Esser et al., LSQ, arXiv 1902.08153, eq. 3, for the gradient of the scale; Liu et al., ParetoQ, arXiv 2502.02631, learn the scale of
    signs. The latents' gradient is the identity, as in BitNet, because clipping it would leave weights beyond the scale where they are.
    """

    def __init__(self, weight: Tensor, group: int, levels: Levelled, bias: Tensor | None = None) -> None:
        super().__init__()
        self.group, self.levels = group, levels
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.scale = nn.Parameter(best_scales(self.weight.detach(), group, levels))

    def forward(self, x: Tensor) -> Tensor:
        made = compute_dtype(self.weight)
        weight: Tensor = _Quantized.apply(self.weight, self.scale, self.levels, made)  # type: ignore[no-untyped-call]
        return F.linear(x, weight, self.bias)

    def decoded(self) -> Signs | Levels:
        """The weights as a file has them."""
        with torch.no_grad():
            scale = stored_scale(self.scale)
            codes = codes_of(_groups(self.weight, scale.shape[1]), scale[..., None], self.levels).flatten(1)
        scales = scale.cpu().numpy()
        if self.levels == "bits":
            return Signs(pack_rows((codes > 0).cpu().numpy()), scales)
        return Levels(codes.to(torch.int8).cpu().numpy(), scales)

    def extra_repr(self) -> str:
        return f"in_features={self.weight.shape[1]}, out_features={self.weight.shape[0]}, levels={self.levels}, group={self.group}"
