"""The binary convolution."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from onebit.binarize import Values, binarize
from onebit.nn.bits import Bits, check_choices, layer_bits, start_latents
from onebit.nn.normalize import Normalize
from onebit.normalize import Over


class BinaryConv2d(nn.Conv2d):
    r"""A convolution of single bits, followed by a normalisation: the paper's BNCVL without its activation.

    .. math:: y = \operatorname{Normalize}(W_b * x + b_b)

    The parameters `weight` and `bias` are the latents that the optimiser updates; `bits` gives what computes.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: as for `torch.nn.Conv2d`; padding is with zeros.
        values: ``"01"`` or ``"pm1"``, how a bit reads.
        normalize: ``"channel"``, ``"example"``, ``"batch"`` or None; see `Normalize`. With {0,1} values "example" hardly learns.
        eps: of the normalisation.

    Shape:
        (batch, in_channels, height, width) to (batch, out_channels, height', width').

    Raises:
        ValueError: `values` or `normalize` is unknown, or the groups do not divide the channels.

    Example:
        >>> BinaryConv2d(3, 64, 3, padding="same")(torch.randn(8, 3, 32, 32)).shape
        torch.Size([8, 64, 32, 32])

    Source: arXiv 2509.07025, algorithm 3. Latents start as there: Glorot-uniform weights, zero biases.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | Literal["same", "valid"] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        values: Values = "01",
        normalize: Over | None = "channel",
        eps: float = 1e-5,
    ) -> None:
        check_choices("BinaryConv2d", values, normalize)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if groups < 1 or channels % groups:
                divisors = ", ".join(str(d) for d in range(1, min(channels, 64) + 1) if channels % d == 0)
                raise ValueError(
                    f"[BinaryConv2d] groups={groups} does not divide {name}={channels}: use one of {divisors}"
                )
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.values = values
        self.normalize = None if normalize is None else Normalize(normalize, out_channels, eps)

    def reset_parameters(self) -> None:
        start_latents(self.weight, self.bias, 1.0)

    def bits(self) -> Bits:
        """The bits of the weight (out, in / groups, height, width) and of the bias (out), as bool tensors."""
        return layer_bits(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else binarize(self.bias, self.values)
        y = self._conv_forward(x, binarize(self.weight, self.values), bias)
        return y if self.normalize is None else self.normalize(y)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, values={self.values!r}"  # type: ignore[no-untyped-call]
