"""The parts between the layers of published networks: learned thresholds, shifts and slopes, normalisations and nonlinearities."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.nn.planes import with_planes
from onebit.quantizers import sign
from onebit.quantizers.gradients import Gradient, Polynomial
from onebit.schemes import Scheme

# The channels per group of a group normalisation, one of the two choices in its paper (arXiv 1803.08494, table 3). It also suits rows.
GROUP_CHANNELS = 16


class ReluSquared(nn.Module):
    r"""The square of a ReLU, whose outputs are mostly zeros.

    .. math:: y = \max(x, 0)^2

    Shape:
        any; the output has the input's.

    Source: So et al., Primer, arXiv 2109.08668, section 4.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()


# The nonlinearities of a transformer block's hidden layer, by the names that options and recipes have.
HIDDEN_ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "silu": nn.SiLU, "relu_squared": ReluSquared}


class RSign(nn.Module):
    r"""RSign: the sign with a learned threshold per channel.

    .. math:: y = +1 \text{ for } x \ge \alpha_c, \text{ else } -1

    Layers of a scheme with `input_shift` have it built in. This is the separate layer.

    Args:
        channels: the number of channels, on axis 1 of the input.
        gradient: the straight-through gradient of the sign.

    Shape:
        (batch, channels, ...) or (batch, channels); the output has the input's.

    Source: Liu et al., ReActNet, arXiv 2003.03488, section 4.2. At the threshold the paper has -1, and its authors' code 0.
    """

    def __init__(self, channels: int, gradient: Gradient | None = None) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(channels))
        self.gradient = gradient or Polynomial()
        self.progress = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return sign(x - _on_channels(self.threshold, x), self.gradient, self.progress)


class RPReLU(nn.Module):
    r"""RPReLU: a PReLU with learned shifts of its input and of its output per channel.

    .. math:: y = f(x - \gamma_c) + \zeta_c, \qquad f(v) = v \text{ for } v > 0, \text{ else } \beta_c v

    Shape:
        (batch, channels, ...); the output has the input's.

    Source: Liu et al., ReActNet, arXiv 2003.03488, section 4.2. Slopes start at 0.25, as in its authors' code.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift_in = nn.Parameter(torch.zeros(channels))
        self.slope = nn.Parameter(torch.full((channels,), 0.25))
        self.shift_out = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        v, slope = x - _on_channels(self.shift_in, x), _on_channels(self.slope, x)
        # PyTorch's own prelu is four times slower on a CPU.
        return slope * v + (1 - slope) * F.relu(v) + _on_channels(self.shift_out, x)


def _on_channels(v: Tensor, x: Tensor) -> Tensor:
    """One number per channel, in x's precision and in a shape that broadcasts against x."""
    return v.to(x.dtype).view(-1, *[1] * (x.dim() - 2))


def norm_of(scheme: Scheme | None, channels: int, image: bool = True) -> nn.Module:
    """The normalisation after a layer in a network of this scheme. A float network (None) has a batch normalisation."""
    kind = "batch" if scheme is None else scheme.norm
    if kind == "batch":
        make = nn.BatchNorm2d if image else nn.BatchNorm1d
        return make(channels) if scheme is None else with_planes(scheme.weights, lambda: make(channels))
    if kind == "group":
        groups = next(g for g in range(max(1, channels // GROUP_CHANNELS), 0, -1) if channels % g == 0)
        return nn.GroupNorm(groups, channels)
    return nn.Identity()


def nonlinearity_of(scheme: Scheme | None, channels: int) -> nn.Module:
    """The nonlinearity after that normalisation. A float network (None) has a ReLU."""
    kind = "relu" if scheme is None else scheme.nonlinearity
    if kind == "relu":
        return nn.ReLU()
    if kind == "hardtanh":
        return nn.Hardtanh()
    if kind == "rprelu":
        return RPReLU(channels)
    return nn.Identity()
