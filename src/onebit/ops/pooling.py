"""Maxima and means over windows of an image, over all positions, and over channels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onebit.ops.declared import Attribute, Boolean, Shape
from onebit.ops.op import Array, Attributes, Op, Precision, Programs, StepReader, Tensors, need_image
from onebit.ops.windows import DILATION, WINDOW, window_sides, windows


class MaxPool2d(Op):
    """The maximum over each window. Padding is minus infinity."""

    name = "max_pool2d"
    programs = Programs.ARRAYS
    attributes: tuple[Attribute, ...] = WINDOW

    def shape(self, step: StepReader, x: Shape) -> Shape:
        need_image(step, x)
        kernel, padding = step["kernel_size"], step["padding"]
        # A window entirely in the padding would not have a maximum or a mean.
        if max(padding[:2]) >= kernel[0] or max(padding[2:]) >= kernel[1]:
            raise step.fail(f"padding={padding} must be smaller than kernel_size={kernel}")
        return (*window_sides(step, x, (1, 1)), x[2])

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return windows(a, x, -np.inf).max((-2, -1)).astype(np.float32)


class AvgPool2d(MaxPool2d):
    """The mean over each window. Padding counts as zeros or does not count."""

    name = "avg_pool2d"
    attributes = (*WINDOW, Boolean("count_include_pad"))

    def shape(self, step: StepReader, x: Shape) -> Shape:
        step["count_include_pad"]
        return super().shape(step, x)

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        inside = np.full_like(x[:1], 1), 1 if a["count_include_pad"] else 0
        counts = windows(a, *inside).sum((-2, -1))  # 1 for a place that counts, also in the padding if it counts
        return (windows(a, x).sum((-2, -1), dtype=np.float64) / counts).astype(np.float32)


class MeanPool(Op):
    """The mean over all positions: (height, width, channels) or (time, channels) to (channels)."""

    name = "mean_pool"
    programs = Programs.ARRAYS

    def shape(self, step: StepReader, x: Shape) -> Shape:
        if len(x) not in (2, 3):
            raise step.fail(f"its input has shape {x}: needs (height, width, channels) or (time, channels)")
        return (x[-1],)

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return x.mean(tuple(range(1, x.ndim - 1)), dtype=np.float64).astype(np.float32)


class Argmax(Op):
    """The place of the largest number of each row, (..., C) to (..., 1): the first of equal ones. A NaN counts as the largest."""

    name = "argmax"

    def shape(self, step: StepReader, x: Shape) -> Shape:
        return (*x[:-1], 1)

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return x.argmax(-1)[..., None].astype(np.float32)


class MeanMagnitude(Op):
    """XNOR-Net's K (arXiv 1603.05279, section 3.2): the mean of abs(x) over the channels, and for an image then over each window."""

    name = "mean_magnitude"
    attributes = tuple(replace(attribute, optional=True) for attribute in (*WINDOW, DILATION))

    def shape(self, step: StepReader, x: Shape) -> Shape:
        if not any(attribute.name in step for attribute in self.attributes):
            return (*x[:-1], 1)
        need_image(step, x)
        return (*window_sides(step, x, step["dilation"]), 1)

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        means = np.abs(x).mean(-1, keepdims=True, dtype=np.float64)
        return (windows(a, means).mean((-2, -1)) if "kernel_size" in a else means).astype(np.float32)


OPS: tuple[Op, ...] = (Argmax(), MaxPool2d(), AvgPool2d(), MeanPool(), MeanMagnitude())
