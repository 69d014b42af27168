"""Sliding windows over an image, for convolutions and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from onebit.ops.declared import Attribute, Integers, Shape
from onebit.ops.op import Attributes, StepReader

# No value of a useful model is larger, and the product of its axes is far from 64 bits.
MAX_VALUE_ELEMENTS = 1 << 31
WINDOW: tuple[Attribute, ...] = (
    Integers("kernel_size", ("kh", "kw")),
    Integers("stride", ("sh", "sw")),
    Integers("padding", ("top", "bottom", "left", "right"), 0),
)
DILATION = Integers("dilation", ("dh", "dw"))


def window_sides(step: StepReader, x: Shape, dilation: Sequence[int]) -> tuple[int, int]:
    """The (height, width) of the output of a sliding window."""
    kernel, stride = step["kernel_size"], step["stride"]
    top, bottom, left, right = step["padding"]
    if (x[0] + top + bottom) * (x[1] + left + right) * x[2] > MAX_VALUE_ELEMENTS:
        raise step.fail(f"its padded input has more than {MAX_VALUE_ELEMENTS} elements")
    sides = []
    for side, before, after, k, s, d in zip(x, (top, left), (bottom, right), kernel, stride, dilation, strict=False):
        free = side + before + after - d * (k - 1) - 1
        if free < 0:
            raise step.fail(
                f"a kernel of {kernel} with dilation {list(dilation)} does not fit its padded input of shape {x}"
            )
        sides.append(free // s + 1)
    return sides[0], sides[1]


def windows(a: Attributes, x: NDArray[Any], outside: float = 0) -> NDArray[Any]:
    """All windows of an image (n, height, width, channels): (n, height', width', channels, kh, kw). The padding has the value `outside`."""
    (top, bottom, left, right), (sh, sw), (kh, kw) = a["padding"], a["stride"], a["kernel_size"]
    dh, dw = a.get("dilation", (1, 1))
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=outside)
    found = sliding_window_view(x, (dh * (kh - 1) + 1, dw * (kw - 1) + 1), axis=(1, 2))
    return found[:, ::sh, ::sw, :, ::dh, ::dw]
