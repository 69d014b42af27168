"""The binary dense layer."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from onebit.binarize import Values, binarize
from onebit.nn.bits import Bits, check_choices, layer_bits, start_latents
from onebit.nn.normalize import Normalize
from onebit.normalize import Over


class BinaryLinear(nn.Linear):
    r"""A dense layer of single bits, followed by a normalisation: the paper's BNFCL without its activation.

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

    Shape:
        (batch, ..., in_features) to (batch, ..., out_features); with ``"batch"`` (batch, in_features) only.

    Raises:
        ValueError: `values` or `normalize` is unknown, or `latent_spread` is not positive.

    Example:
        >>> BinaryLinear(784, 10)(torch.randn(32, 784)).shape
        torch.Size([32, 10])

    Source: arXiv 2509.07025, algorithms 1 and 2. Latents start as there: Glorot-uniform weights, zero biases.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        values: Values = "01",
        normalize: Over | None = "channel",
        eps: float = 1e-5,
        latent_spread: float = 1.0,
    ) -> None:
        check_choices("BinaryLinear", values, normalize, latent_spread)
        self.latent_spread = latent_spread  # before the base class starts the latents
        super().__init__(in_features, out_features, bias)
        self.values = values
        self.normalize = None if normalize is None else Normalize(normalize, out_features, eps)

    def reset_parameters(self) -> None:
        start_latents(self.weight, self.bias, self.latent_spread)

    def bits(self) -> Bits:
        """The bits of the weight (out_features, in_features) and of the bias (out_features), as bool tensors."""
        return layer_bits(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else binarize(self.bias, self.values)
        y = F.linear(x, binarize(self.weight, self.values), bias)
        return y if self.normalize is None else self.normalize(y)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, values={self.values!r}"
