"""The binary dense layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.nn.bits import Bits, choose_scheme, compute, layer_bits, set_up, start_latents
from onebit.nn.normalize import Normalize
from onebit.normalize import Over
from onebit.quantizers import Values
from onebit.schemes import Scheme


class BinaryLinear(nn.Linear):
    r"""A dense layer of single bits; by default followed by a normalisation: the paper's BNFCL without its activation.

    .. math:: y = \operatorname{Normalize}(W_b x + b_b)

    The parameters `weight` and `bias` are the latents that the optimiser updates; `bits` gives what computes.

    Args:
        in_features, out_features: sizes of the last axis.
        bias: whether to add a (binary) bias.
        values: ``"01"`` or ``"pm1"``, how a bit reads.
        normalize: ``"channel"`` (the same as ``"example"`` here), ``"batch"`` or None.
        eps: of the normalisation.
        latent_spread: of the initial weight latents, as a multiple of Glorot's: a learning rate in disguise, since a bit flips when its
            latent crosses the mean.
        scheme: another method of the literature, from `onebit.schemes`; it says then what a bit reads as and what is normalised.

    Shape:
        (batch, ..., in_features) to (batch, ..., out_features); with ``"batch"`` (batch, in_features) only.

    Raises:
        ValueError: an option is unknown or out of range.

    Example:
        >>> BinaryLinear(784, 10)(torch.randn(32, 784)).shape
        torch.Size([32, 10])

    Source: arXiv 2509.07025, algorithms 1 and 2. Latents start as there: Glorot-uniform weights, zero biases.
    """

    scheme: Scheme
    normalize: Normalize | None
    threshold: nn.Parameter | None
    gain: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        values: Values = "01",
        normalize: Over | None = "channel",
        eps: float = 1e-5,
        latent_spread: float = 1.0,
        scheme: Scheme | None = None,
    ) -> None:
        chosen = choose_scheme("BinaryLinear", scheme, values, normalize, eps, latent_spread)
        self.latent_spread = latent_spread  # before the base class starts the latents
        super().__init__(in_features, out_features, bias)
        set_up(self, chosen, in_features, out_features)

    def reset_parameters(self) -> None:
        start_latents(self.weight, self.bias, self.latent_spread)

    def bits(self) -> Bits:
        """The bits of the weight ([planes,] out_features, in_features) and of the bias (out_features), as bool tensors."""
        return layer_bits(self.weight, self.bias, self.scheme)

    def forward(self, x: Tensor) -> Tensor:
        return compute(self, x, F.linear)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scheme={self.scheme}"


class BinaryTransposedLinear(nn.Module):
    r"""A `BinaryLinear` whose latents lie as (in_features, out_features): what GPT-2's layers, called Conv1D there, are converted to.

    .. math:: y = x W_b + b_b

    Args:
        in_features, out_features, bias, scheme: see `BinaryLinear`.

    Shape:
        (batch, ..., in_features) to (batch, ..., out_features).
    """

    scheme: Scheme
    normalize: Normalize | None
    threshold: nn.Parameter | None
    gain: nn.Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, scheme: Scheme | None = None) -> None:
        chosen = choose_scheme("BinaryTransposedLinear", scheme, "01", "channel", 1e-5)
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        start_latents(self.weight, self.bias, 1.0)
        set_up(self, chosen, in_features, out_features, axis=1)

    def bits(self) -> Bits:
        """The bits of the weight ([planes,] in_features, out_features) and of the bias (out_features), as bool tensors."""
        return layer_bits(self.weight, self.bias, self.scheme, axis=1)

    def forward(self, x: Tensor) -> Tensor:
        return compute(self, x, lambda v, weight, bias: F.linear(v, weight.t(), bias), axis=1)

    def extra_repr(self) -> str:
        return f"in_features={len(self.weight)}, out_features={self.weight.shape[1]}, bias={self.bias is not None}, scheme={self.scheme}"
