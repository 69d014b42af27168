"""A small network of separable convolutions for keywords in speech."""

from __future__ import annotations

from torch import nn

from onebit.models.parts import Network, behind, check, convolution, logits
from onebit.schemes import Scheme

# The blocks that halve time and bands. The source's network keeps its size, and hears a fifth of a second at once where this one hears half.
_HALVING = (0, 2)


def ds_cnn(
    num_classes: int,
    width: int = 64,
    blocks: int = 4,
    scheme: Scheme | None = None,
    hybrid: bool = True,
    logit_scale: float | None = None,
) -> Network:
    """DS-CNN: a convolution over time and bands, then depthwise convolutions, which stay float, and pointwise ones, which are of the scheme.

    A depthwise convolution has 9 weights a channel, where a pointwise one has as many as there are channels: bits would save nothing there.

    Args:
        num_classes: number of logits.
        width: channels of every layer.
        blocks: of a depthwise and a pointwise convolution.
        scheme: a scheme of `onebit.schemes`; None gives the float twin.
        hybrid: the first and the last layer stay float.
        logit_scale: a constant that multiplies the logits.

    Shape:
        (batch, 1, frames, bands) to (batch, num_classes).

    Raises:
        ValueError: a size is not above 0.

    Source: Zhang et al., Hello Edge, arXiv 1711.07128, section 3 and table 1.
    """
    check("ds_cnn", num_classes=num_classes, width=width, blocks=blocks)
    first = None if scheme is None or hybrid else scheme
    layers: list[nn.Module] = [convolution(first, 1, width, 5, 2, 2), *behind(first, width)]
    for index in range(blocks):
        stride = 2 if index in _HALVING else 1
        layers += [convolution(None, width, width, 3, stride, 1, groups=width), *behind(None, width)]
        layers += [convolution(scheme, width, width, 1), *behind(scheme, width)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *logits(scheme, hybrid, width, num_classes)]
    return Network(nn.Sequential(*layers), nn.Sequential(*head), logit_scale)
