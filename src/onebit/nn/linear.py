"""The binary dense layer."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.nn.arguments import chosen_scheme
from onebit.nn.binary import BinaryLayer
from onebit.schemes import Scheme


class BinaryLinear(BinaryLayer, nn.Linear):
    r"""A binary dense layer. A normalisation follows by default. It is the paper's BNFCL without its activation.

    .. math:: y = \operatorname{Normalize}(W_b x + b_b)

    The parameters `weight` and `bias` are the latent weights that the optimizer updates. `bits` returns the bits of the forward pass.

    Args:
        in_features, out_features, bias, device, dtype: as in `torch.nn.Linear`. The scheme says whether the bias is bits or floats.
        scheme: a scheme of `onebit.schemes`. It chooses the values of a bit, the normalisation, and the spread of the initial latent weights.
            The default is the paper's, `BinaryNormalized()`.

    Shape:
        (batch, ..., in_features) to (batch, ..., out_features). Batch statistics are over all rows.

    Raises:
        ValueError: the scheme is not a scheme.

    Example:
        >>> BinaryLinear(784, 10)(torch.randn(32, 784)).shape
        torch.Size([32, 10])

    Source: arXiv 2509.07025, algorithms 1 and 2. Latent weights start as there: Glorot-uniform weights, zero biases.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        scheme: Scheme | None = None,
        **old: Any,
    ) -> None:
        self.scheme = chosen_scheme(type(self).__name__, scheme, old)
        super().__init__(in_features, out_features, bias, device, dtype)
        self.set_up()

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)


class BinaryTransposedLinear(BinaryLayer):
    r"""A `BinaryLinear` with latent weights of shape (in_features, out_features). GPT-2's layers, called Conv1D there, become this.

    .. math:: y = x W_b + b_b

    Args:
        in_features, out_features, bias, scheme: see `BinaryLinear`.

    Shape:
        (batch, ..., in_features) to (batch, ..., out_features).
    """

    output_axis = 1

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, scheme: Scheme | None = None) -> None:
        super().__init__()
        self.scheme = chosen_scheme(type(self).__name__, scheme, {})
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.reset_parameters()
        self.set_up()

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight.t(), bias)

    def extra_repr(self) -> str:
        rows, columns = self.weight.shape
        return f"in_features={rows}, out_features={columns}, bias={self.bias is not None}, scheme={self.scheme}"
