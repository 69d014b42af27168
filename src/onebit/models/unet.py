"""A U-Net: a class for each pixel of a picture."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from onebit.models.parts import behind, check, convolution, last, stem
from onebit.schemes import Scheme


def _two(first: list[nn.Module], outputs: int, scheme: Scheme | None) -> nn.Sequential:
    return nn.Sequential(*first, convolution(scheme, outputs, outputs, 3, 1, 1), *behind(scheme, outputs))


class UNet(nn.Module):
    """A U-Net. `unet` builds it."""

    def __init__(
        self, classes: int, channels: int, widths: tuple[int, ...], scheme: Scheme | None, hybrid: bool
    ) -> None:
        super().__init__()

        def begin(inputs: int, outputs: int) -> list[nn.Module]:
            return [convolution(scheme, inputs, outputs, 3, 1, 1), *behind(scheme, outputs)]

        self.first = _two(stem(scheme, hybrid, channels, widths[0], 3, 1, 1), widths[0], scheme)
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), *_two(begin(inputs, outputs), outputs, scheme)) for inputs, outputs in pairs
        )
        self.up = nn.ModuleList(nn.Upsample(scale_factor=2, mode="nearest") for _ in pairs)
        self.join = nn.ModuleList(
            _two(begin(wide + narrow, narrow), narrow, scheme) for narrow, wide in reversed(pairs)
        )
        kind = last(scheme, hybrid)
        self.answer = nn.Conv2d(widths[0], classes, 1) if kind is None else convolution(kind, widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = [self.first(x)]
        for step in self.down:
            kept.append(step(kept[-1]))
        x = kept.pop()
        for larger, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([larger(x), kept.pop()], 1))
        answers: Tensor = self.answer(x)  # (batch, classes, height, width)
        return answers


def unet(
    num_classes: int,
    in_channels: int = 3,
    widths: tuple[int, ...] = (16, 32, 64),
    scheme: Scheme | None = None,
    hybrid: bool = True,
) -> UNet:
    """A small U-Net: two convolutions at each size of the picture, max-pools on the way down, the nearest pixel on the way up.

    Args:
        num_classes: classes of pixels.
        in_channels: 3 for RGB, 1 for grey.
        widths: channels at the whole, a half, a quarter, ... of the picture's sides.
        scheme: a scheme of `onebit.schemes`; None gives the float twin.
        hybrid: the first and the last layer stay float.

    Shape:
        (batch, in_channels, height, width), sides multiples of ``2 ** (len(widths) - 1)``, to (batch, num_classes, height, width). A
        packed program has the channels last.

    Raises:
        ValueError: a size is not above 0.

    Example:
        >>> onebit.models.unet(3)(torch.zeros(1, 3, 32, 48)).shape
        torch.Size([1, 3, 32, 48])

    Source: Ronneberger et al., arXiv 1505.04597, with padding, so that sides stay.
    """
    check("unet", num_classes=num_classes, in_channels=in_channels, widths=widths)
    return UNet(num_classes, in_channels, tuple(widths), scheme, hybrid)
