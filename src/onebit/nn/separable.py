"""A binary separable convolution."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from onebit.nn.activations import nonlinearity_of, norm_of
from onebit.nn.arguments import chosen_scheme
from onebit.nn.conv import BinaryConv2d
from onebit.schemes import Scheme


class BinarySeparableConv2d(nn.Sequential):
    """A depthwise and a pointwise convolution, each with the normalisation and nonlinearity of its scheme.

    Args:
        in_channels, out_channels: the channels of the input and of the output.
        kernel_size, stride, padding: those of the depthwise convolution.
        scheme: the scheme of both. The default is the paper's. The depthwise convolution is not scaled by its inputs, because XNOR-Net's K is the
            same for all channels.

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
        both = chosen_scheme("BinarySeparableConv2d", scheme, {})
        alone = replace(both, input_scale=False)
        sizes = (in_channels, in_channels, kernel_size, stride, padding)
        super().__init__(
            BinaryConv2d(*sizes, groups=in_channels, bias=False, scheme=alone),
            norm_of(both, in_channels),
            nonlinearity_of(both, in_channels),
            BinaryConv2d(in_channels, out_channels, 1, bias=False, scheme=both),
            norm_of(both, out_channels),
            nonlinearity_of(both, out_channels),
        )
