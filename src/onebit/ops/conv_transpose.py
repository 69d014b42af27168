"""Transposed convolutions of images, float and binary."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.ops import binary
from onebit.ops.conv import BitConv2d, Conv2d
from onebit.ops.declared import Attribute, Integer, Integers, Shape
from onebit.ops.op import Array, Attributes, Op, Precision, StepReader, Tensors
from onebit.ops.windows import MAX_VALUE_ELEMENTS, WINDOW

# An engine computes a convolution for each remainder by the stride, in both axes.
MAX_STRIDE = 64


def spread(x: NDArray[Any], weight: NDArray[Any], a: Attributes) -> NDArray[Any]:
    """x (n, height, width, in), weight (out, kh, kw, in / groups) to (n, height', width', out): each pixel adds its products to a window."""
    (kh, kw), (sh, sw), groups = a["kernel_size"], a["stride"], a["groups"]
    top, bottom, left, right = a["padding"]
    more_down, more_across = a["output_padding"]
    n, height, width, inputs = x.shape
    outputs = weight.shape[0]
    sides = ((height - 1) * sh + kh + more_down, (width - 1) * sw + kw + more_across)
    y = np.zeros((n, *sides, groups, outputs // groups), np.result_type(x, weight))
    parts = x.reshape(n, height, width, groups, inputs // groups)
    kernels = weight.reshape(groups, outputs // groups, kh, kw, inputs // groups)
    for r in range(kh):
        for c in range(kw):
            products = np.einsum("nhwgi,goi->nhwgo", parts, kernels[:, :, r, c])
            y[:, r : r + (height - 1) * sh + 1 : sh, c : c + (width - 1) * sw + 1 : sw] += products
    return y[:, top : sides[0] - bottom, left : sides[1] - right].reshape(
        n, sides[0] - top - bottom, sides[1] - left - right, outputs
    )


def reached(x: NDArray[Any], a: Attributes) -> NDArray[Any]:
    """x (n, height, width, in) to (1, height', width', 1): the places that pixels can add to. A stride longer than the kernel leaves gaps."""
    (top, bottom, left, right), more = a["padding"], a["output_padding"]
    rows, columns = (
        np.arange((side - 1) * stride + kernel + end) % stride < kernel
        for side, stride, kernel, end in zip(x.shape[1:3], a["stride"], a["kernel_size"], more, strict=True)
    )
    return np.outer(rows[top : len(rows) - bottom], columns[left : len(columns) - right])[None, :, :, None]


class ConvTranspose2d(Conv2d):
    """A transposed convolution as in PyTorch. `padding` is what is cut off the output, `output_padding` what is added at its end."""

    name = "conv_transpose2d"
    attributes: tuple[Attribute, ...] = (
        Integer("in_channels"),
        Integer("out_channels"),
        *WINDOW,
        Integers("output_padding", ("oh", "ow"), 0),
        Integer("groups"),
    )

    def sides(self, step: StepReader, x: Shape) -> tuple[int, int]:
        kernel, stride = step["kernel_size"], step["stride"]
        (top, bottom, left, right), more = step["padding"], step["output_padding"]
        if max(stride) > MAX_STRIDE:
            raise step.fail(f"stride={stride} is too large for a transposed convolution: needs at most {MAX_STRIDE}")
        if more[0] >= stride[0] or more[1] >= stride[1]:
            raise step.fail(f"output_padding={more} must be smaller than stride={stride}")
        if (x[0] + 2 * (kernel[0] - 1)) * (x[1] + 2 * (kernel[1] - 1)) * x[2] > MAX_VALUE_ELEMENTS:
            raise step.fail(f"its padded input has more than {MAX_VALUE_ELEMENTS} elements")
        height, width = (
            (side - 1) * s + k + o - cut
            for side, s, k, o, cut in zip(x, stride, kernel, more, (top + bottom, left + right), strict=False)
        )
        if min(height, width) < 1:
            raise step.fail(f"padding={step['padding']} leaves nothing of its output: use less")
        return height, width

    def apply(self, x: NDArray[Any], weight: NDArray[Any], a: Attributes) -> NDArray[Any]:
        return spread(x, weight, a)


class BitConvTranspose2d(BitConv2d, ConvTranspose2d):
    """A transposed convolution with bits as weights and bias."""

    name = "bit_conv_transpose2d"
    attributes = (*ConvTranspose2d.attributes, *binary.PRODUCT)

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        y = super().run(a, t, precision, x)
        # Into a gap comes no scale either, not even one that is not a number.
        return np.where(reached(x, a), y, binary.read_bias(a, t, a["out_channels"]).astype(np.float32))


OPS: tuple[Op, ...] = (ConvTranspose2d(), BitConvTranspose2d())
