"""A detector of centres: a backbone that halves the picture, a way back up to a quarter of it, and one grid of answers."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from onebit.models.parts import behind, check, convolution, last, stem
from onebit.schemes import Scheme
from onebit.tasks.pictures import BOX_VALUES

# The probability that every cell begins with: most hold no object (arXiv 1708.02002, section 3.3).
_FIRST_SCORE = 0.1


class Stage(nn.Module):
    """Halve a picture, and add what a second convolution finds: one stage of a backbone."""

    def __init__(self, inputs: int, outputs: int, scheme: Scheme | None) -> None:
        super().__init__()
        self.down = nn.Sequential(convolution(scheme, inputs, outputs, 3, 2, 1), *behind(scheme, outputs))
        self.branch = nn.Sequential(convolution(scheme, outputs, outputs, 3, 1, 1), *behind(scheme, outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        found: Tensor = x + self.branch(x)
        return found


class CenterDetector(nn.Module):
    """A detector. `center_detector` builds it."""

    def __init__(
        self, classes: int, channels: int, widths: tuple[int, ...], scheme: Scheme | None, hybrid: bool
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(*stem(scheme, hybrid, channels, widths[0], 3, 2, 1))
        self.stages = nn.ModuleList(Stage(inputs, outputs, scheme) for inputs, outputs in pairwise(widths))
        steps = list(pairwise(widths[:0:-1]))
        self.up = nn.ModuleList(
            nn.Sequential(
                convolution(scheme, inputs, outputs, 3, 1, 1),
                *behind(scheme, outputs),
                nn.Upsample(scale_factor=2, mode="nearest"),
            )
            for inputs, outputs in steps
        )
        width = widths[1]
        self.head = nn.Sequential(convolution(scheme, width, 2 * width, 3, 1, 1), *behind(scheme, 2 * width))
        kind, outputs = last(scheme, hybrid), classes + BOX_VALUES
        answer = nn.Conv2d(2 * width, outputs, 1) if kind is None else convolution(kind, 2 * width, outputs, 1)
        self.answer = answer
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1)) if kind is not None else None
        with torch.no_grad():
            bias = answer.bias if self.bias is None else self.bias
            assert isinstance(bias, Tensor)
            bias[:classes] = -math.log(1 / _FIRST_SCORE - 1)
            bias[classes:] = 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        for step, before in zip(self.up, found[-2::-1], strict=True):
            x = step(x) + before
        x = self.answer(self.head(x))  # (batch, values, rows, columns)
        return x if self.bias is None else x + self.bias


def center_detector(
    num_classes: int,
    in_channels: int = 3,
    widths: tuple[int, ...] = (16, 32, 64, 128),
    scheme: Scheme | None = None,
    hybrid: bool = True,
) -> CenterDetector:
    """A detector without anchors: for each cell of 4x4 pixels a logit for each class, and the box of an object whose centre is there.

    Args:
        num_classes: classes of objects.
        in_channels: 3 for RGB, 1 for grey.
        widths: channels at a half, a quarter, an eighth, ... of the picture's sides; at least two.
        scheme: a scheme of `onebit.schemes`; None gives the float twin.
        hybrid: the first and the last layer stay float.

    Shape:
        (batch, in_channels, height, width), sides multiples of ``2 ** len(widths)``, to (batch, num_classes + 4, height / 4, width / 4). A packed
        program has the channels last; see `onebit.scenes.boxes.decode`.

    Raises:
        ValueError: a size is not above 0, or there are fewer than two widths.

    Example:
        >>> onebit.models.center_detector(3)(torch.zeros(1, 3, 64, 96)).shape
        torch.Size([1, 7, 16, 24])

    Source: Zhou et al., Objects as Points, arXiv 1904.07850, with the additions on the way up of Lin et al., arXiv 1612.03144.
    """
    check("center_detector", num_classes=num_classes, in_channels=in_channels, widths=widths)
    if len(widths) < 2:
        raise ValueError(f"[center_detector] widths={widths}: use two or more, for a half and a quarter of the picture")
    return CenterDetector(num_classes, in_channels, tuple(widths), scheme, hybrid)
