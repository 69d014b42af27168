"""Binary convolutions over one, two and three axes, and transposed convolutions."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from onebit.nn.arguments import chosen_scheme
from onebit.nn.binary import BinaryLayer
from onebit.schemes import Scheme

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
Size = int | tuple[int, ...]


class _BinaryConvolution(BinaryLayer):
    of_images = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        scheme: Scheme | None = None,
        **old: Any,
    ) -> None:
        name = type(self).__name__
        self.scheme = chosen_scheme(name, scheme, old)
        for key, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if groups < 1 or channels % groups:
                divisors = ", ".join(str(d) for d in range(1, min(channels, 64) + 1) if channels % d == 0)
                raise ValueError(f"[{name}] groups={groups} does not divide {key}={channels}: use one of {divisors}")
        sizes = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        super().__init__(*sizes, bias, padding_mode, device, dtype)
        self.set_up()

    def fitting(self: Any, scheme: Scheme) -> Scheme:
        name, problem = type(scheme).__name__, ""
        if self.groups > 1:
            problem = f"groups={self.groups}: {name} scales by the mean over all channels"
        elif self.padding_mode != "zeros":
            problem = f"padding_mode={self.padding_mode!r}: {name} scales by windows with zero padding"
        if problem and scheme.input_scale:
            raise ValueError(f"[{type(self).__name__}] {problem}: use {name}(input_scale=False)")
        return scheme

    def product(self: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._conv_forward(x, weight, bias)

    def input_magnitude(self: Any, x: Tensor) -> Tensor:
        """XNOR-Net's K: the mean of |x| over the channels, then over each window, padding included."""
        window = x.new_full((1, 1, *self.kernel_size), 1 / self.weight[0, 0].numel())
        mean = x.abs().mean(1, keepdim=True)
        return _CONVOLUTIONS[x.dim() - 2](mean, window, None, self.stride, self.padding, self.dilation)


class BinaryConv2d(_BinaryConvolution, nn.Conv2d):
    r"""A binary convolution. A normalisation follows by default. It is the paper's BNCVL without its activation.

    .. math:: y = \operatorname{Normalize}(W_b * x + b_b)

    Args:
        in_channels, ..., dtype: as in `torch.nn.Conv2d`. Padding is applied after the quantizer of the inputs: zero padding adds nothing, also with
            signs. groups=in_channels is a depthwise convolution.
        scheme: a scheme of `onebit.schemes`; see `BinaryLinear`. With {0,1} bits, a normalisation over the example learns poorly.

    Shape:
        (batch, in_channels, height, width) to (batch, out_channels, height', width').

    Raises:
        ValueError: the groups do not divide the channels, or the scheme does not fit them.

    Example:
        >>> BinaryConv2d(3, 64, 3, padding="same")(torch.randn(8, 3, 32, 32)).shape
        torch.Size([8, 64, 32, 32])

    Source: arXiv 2509.07025, algorithm 3. Latent weights start as there: Glorot-uniform weights, zero biases.
    """


class BinaryConv1d(_BinaryConvolution, nn.Conv1d):
    """`BinaryConv2d` over one axis: (batch, in_channels, time) to (batch, out_channels, time'). Arguments and errors are the same."""


class BinaryConv3d(_BinaryConvolution, nn.Conv3d):
    """`BinaryConv2d` over three axes: (batch, in_channels, depth, height, width) to the same. Arguments and errors are the same."""


class BinaryConvTranspose2d(BinaryLayer, nn.ConvTranspose2d):
    """A binary transposed convolution. It has the arguments of `torch.nn.ConvTranspose2d`, and a scheme.

    Raises:
        ValueError: there are groups, or the scheme scales by the inputs' magnitudes, which is defined only for windows.
    """

    output_axis = 1
    of_images = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        scheme: Scheme | None = None,
        **old: Any,
    ) -> None:
        self.scheme = chosen_scheme(type(self).__name__, scheme, old)
        sizes = (in_channels, out_channels, kernel_size, stride, padding, output_padding, groups)
        super().__init__(*sizes, bias, dilation, padding_mode, device, dtype)  # type: ignore[arg-type]
        self.set_up()

    def fitting(self, scheme: Scheme) -> Scheme:
        if self.groups != 1:
            raise ValueError(f"[BinaryConvTranspose2d] groups={self.groups}: use 1")
        if scheme.input_scale:
            text = f"{type(scheme).__name__} scales by the magnitude of each window"
            raise ValueError(f"[BinaryConvTranspose2d] {text}: use {type(scheme).__name__}(input_scale=False)")
        return scheme

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None:
            raise ValueError("[BinaryConvTranspose2d] output_size is not supported: use output_padding")
        return super().forward(x)

    def product(self: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        sizes = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return F.conv_transpose2d(x, weight, bias, *sizes)
