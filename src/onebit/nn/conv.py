"""Binary convolutions over one, two and three axes, transposed, and separable."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from onebit.nn.activations import nonlinearity_of, norm_of
from onebit.nn.bits import Bits, choose_scheme, compute, layer_bits, set_up, start_latents
from onebit.nn.normalize import Normalize
from onebit.normalize import Over
from onebit.quantizers import Values
from onebit.schemes import Scheme

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def check_transposed(groups: int, scheme: Scheme) -> None:
    """Raises ValueError where a transposed convolution of a scheme is not defined."""
    if groups != 1:
        raise ValueError(f"[BinaryConvTranspose2d] groups={groups}: use 1")
    if scheme.input_scale:
        name = type(scheme).__name__
        raise ValueError(
            f"[BinaryConvTranspose2d] {name} scales by the magnitude of each window: use {name}(input_scale=False)"
        )


def check_groups(layer: str, in_channels: int, out_channels: int, groups: int, scheme: Scheme) -> None:
    """Raises ValueError where the groups do not divide the channels, or the scheme has no meaning for them."""
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if groups < 1 or channels % groups:
            divisors = ", ".join(str(d) for d in range(1, min(channels, 64) + 1) if channels % d == 0)
            raise ValueError(f"[{layer}] groups={groups} does not divide {name}={channels}: use one of {divisors}")
    if groups > 1 and scheme.input_scale:
        name = type(scheme).__name__
        raise ValueError(
            f"[{layer}] groups={groups}: {name} scales by the mean over all channels: use {name}(input_scale=False)"
        )


def _forward(layer: Any, x: Tensor) -> Tensor:
    def magnitude(v: Tensor) -> Tensor:
        """XNOR-Net's K: the mean of |v| over the channels, then over each window, padding included."""
        window = v.new_full((1, 1, *layer.kernel_size), 1 / layer.weight[0, 0].numel())
        mean = v.abs().mean(1, keepdim=True)
        return _CONVOLUTIONS[v.dim() - 2](mean, window, None, layer.stride, layer.padding, layer.dilation)

    return compute(layer, x, layer._conv_forward, magnitude, image=True)


class BinaryConv2d(nn.Conv2d):
    r"""A convolution of single bits; by default followed by a normalisation: the paper's BNCVL without its activation.

    .. math:: y = \operatorname{Normalize}(W_b * x + b_b)

    The parameters `weight` and `bias` are the latents that the optimiser updates; `bits` gives what computes.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: as for `torch.nn.Conv2d`; padding is with zeros, behind the
            quantiser of the inputs: a padded place adds nothing, under signs too. groups=in_channels is a depthwise convolution.
        values: ``"01"`` or ``"pm1"``, how a bit reads.
        normalize: ``"channel"``, ``"example"``, ``"batch"`` or None; see `Normalize`. With {0,1} values "example" hardly learns.
        eps: of the normalisation.
        scheme: another method of the literature, from `onebit.schemes`; it says then what a bit reads as and what is normalised.
        latent_spread: of the initial weight latents, as a multiple of Glorot's; see `BinaryLinear`.

    Shape:
        (batch, in_channels, height, width) to (batch, out_channels, height', width').

    Raises:
        ValueError: an option is unknown or out of range, or the groups do not divide the channels.

    Example:
        >>> BinaryConv2d(3, 64, 3, padding="same")(torch.randn(8, 3, 32, 32)).shape
        torch.Size([8, 64, 32, 32])

    Source: arXiv 2509.07025, algorithm 3. Latents start as there: Glorot-uniform weights, zero biases.
    """

    scheme: Scheme
    normalize: Normalize | None
    threshold: nn.Parameter | None
    gain: nn.Parameter | None

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
        scheme: Scheme | None = None,
        latent_spread: float = 1.0,
    ) -> None:
        chosen = choose_scheme("BinaryConv2d", scheme, values, normalize, eps, latent_spread)
        check_groups("BinaryConv2d", in_channels, out_channels, groups, chosen)
        self.latent_spread = latent_spread  # before the base class starts the latents
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        set_up(self, chosen, in_channels, out_channels)

    def reset_parameters(self) -> None:
        start_latents(self.weight, self.bias, self.latent_spread)

    def bits(self) -> Bits:
        """The bits of the weight ([planes,] out, in / groups, height, width) and of the bias (out), as bool tensors."""
        return layer_bits(self.weight, self.bias, self.scheme)

    def forward(self, x: Tensor) -> Tensor:
        return _forward(self, x)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scheme={self.scheme}"  # type: ignore[no-untyped-call]


class BinaryConv1d(nn.Conv1d):
    """`BinaryConv2d` over one axis: (batch, in_channels, time) to (batch, out_channels, time'). Arguments and errors as there."""

    scheme: Scheme
    normalize: Normalize | None
    threshold: nn.Parameter | None
    gain: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | Literal["same", "valid"] = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        values: Values = "01",
        normalize: Over | None = "channel",
        eps: float = 1e-5,
        scheme: Scheme | None = None,
    ) -> None:
        chosen = choose_scheme("BinaryConv1d", scheme, values, normalize, eps)
        check_groups("BinaryConv1d", in_channels, out_channels, groups, chosen)
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        set_up(self, chosen, in_channels, out_channels)

    def reset_parameters(self) -> None:
        start_latents(self.weight, self.bias, 1.0)

    def bits(self) -> Bits:
        """The bits of the weight ([planes,] out, in / groups, kernel) and of the bias (out), as bool tensors."""
        return layer_bits(self.weight, self.bias, self.scheme)

    def forward(self, x: Tensor) -> Tensor:
        return _forward(self, x)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scheme={self.scheme}"  # type: ignore[no-untyped-call]


class BinaryConv3d(nn.Conv3d):
    """`BinaryConv2d` over three axes: (batch, in_channels, depth, height, width) to the same. Arguments and errors as there."""

    scheme: Scheme
    normalize: Normalize | None
    threshold: nn.Parameter | None
    gain: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int, int],
        stride: int | tuple[int, int, int] = 1,
        padding: int | tuple[int, int, int] | Literal["same", "valid"] = 0,
        dilation: int | tuple[int, int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        values: Values = "01",
        normalize: Over | None = "channel",
        eps: float = 1e-5,
        scheme: Scheme | None = None,
    ) -> None:
        chosen = choose_scheme("BinaryConv3d", scheme, values, normalize, eps)
        check_groups("BinaryConv3d", in_channels, out_channels, groups, chosen)
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        set_up(self, chosen, in_channels, out_channels)

    def reset_parameters(self) -> None:
        start_latents(self.weight, self.bias, 1.0)

    def bits(self) -> Bits:
        """The bits of the weight ([planes,] out, in / groups, depth, height, width) and of the bias (out), as bool tensors."""
        return layer_bits(self.weight, self.bias, self.scheme)

    def forward(self, x: Tensor) -> Tensor:
        return _forward(self, x)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scheme={self.scheme}"  # type: ignore[no-untyped-call]


class BinaryConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution of single bits: `torch.nn.ConvTranspose2d`'s arguments, then `BinaryConv2d`'s.

    Shape:
        (batch, in_channels, height, width) to (batch, out_channels, height', width').

    Raises:
        ValueError: as `BinaryConv2d`; with groups; or the scheme scales by the inputs' magnitudes, which is defined for windows only.
    """

    scheme: Scheme
    normalize: Normalize | None
    threshold: nn.Parameter | None
    gain: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        output_padding: int | tuple[int, int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, int] = 1,
        values: Values = "01",
        normalize: Over | None = "channel",
        eps: float = 1e-5,
        scheme: Scheme | None = None,
    ) -> None:
        chosen = choose_scheme("BinaryConvTranspose2d", scheme, values, normalize, eps)
        check_transposed(groups, chosen)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation
        )
        set_up(self, chosen, in_channels, out_channels, axis=1)

    def reset_parameters(self) -> None:
        start_latents(self.weight, self.bias, 1.0)

    def bits(self) -> Bits:
        """The bits of the weight ([planes,] in, out, height, width) and of the bias (out), as bool tensors."""
        return layer_bits(self.weight, self.bias, self.scheme, axis=1)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None:
            raise ValueError("[BinaryConvTranspose2d] output_size: use output_padding")

        def product(v: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            # The base class types the padding as if 'same' were possible here.
            return F.conv_transpose2d(
                v,
                weight,
                bias,
                self.stride,
                self.padding,  # type: ignore[arg-type]
                self.output_padding,
                self.groups,
                self.dilation,  # type: ignore[arg-type]
            )

        return compute(self, x, product, image=True, axis=1)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scheme={self.scheme}"  # type: ignore[no-untyped-call]


class BinarySeparableConv2d(nn.Sequential):
    """A depthwise convolution and one of a pixel, each with what its scheme puts behind a layer.

    Args:
        in_channels, out_channels: of the whole.
        kernel_size, stride, padding: of the depthwise convolution.
        scheme: of both; default the paper's. The depthwise one takes no scale from its inputs (XNOR-Net's K is one for all channels).

    Shape:
        (batch, in_channels, height, width) to (batch, out_channels, height', width').

    Source: Howard et al., MobileNets, arXiv 1704.04861.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 1,
        scheme: Scheme | None = None,
    ) -> None:
        chosen = choose_scheme("BinarySeparableConv2d", scheme, "01", "channel", 1e-5)
        alone = chosen if not chosen.input_scale else replace(chosen, input_scale=False)
        super().__init__(
            BinaryConv2d(
                in_channels, in_channels, kernel_size, stride, padding, groups=in_channels, bias=False, scheme=alone
            ),
            norm_of(chosen, in_channels),
            nonlinearity_of(chosen, in_channels),
            BinaryConv2d(in_channels, out_channels, 1, bias=False, scheme=chosen),
            norm_of(chosen, out_channels),
            nonlinearity_of(chosen, out_channels),
        )
