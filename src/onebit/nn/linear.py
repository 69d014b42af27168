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
    r"""A dense layer of single bits; by default followed by a normalisation: the paper's BNFCL without its activation.

    .. math:: y = \operatorname{Normalize}(W_b x + b_b)

    The parameters `weight` and `bias` are the latents that the optimiser updates; `bits` gives what computes.

    Args:
        in_features, out_features, bias, device, dtype: as for `torch.nn.Linear`. The bias is bits, or floats, as the scheme says.
        scheme: the method, from `onebit.schemes`: the values of a bit, the normalisation, the spread of the first latents.
            Default: the paper's, `BinaryNormalized()`.

    Shape:
        (batch, ..., in_features) to (batch, ..., out_features). Statistics over the batch are over all of its rows.

    Raises:
        ValueError: `scheme` is not a scheme.

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
    r"""A `BinaryLinear` whose latents are stored as (in_features, out_features). GPT-2's Conv1D layers are converted to it.

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
