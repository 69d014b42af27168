"""Images of another size: nearest pixels, or between pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.ops.declared import Boolean, Choice, Integers, Shape
from onebit.ops.op import Array, Attributes, Op, Precision, Programs, StepReader, Tensors, need_image

ONE, HALF = np.float32(1), np.float32(0.5)


def nearest(inputs: int, outputs: int) -> NDArray[np.int64]:
    """The place that each output takes."""
    scale = np.float32(inputs) / np.float32(outputs)
    return np.minimum((np.arange(outputs, dtype=np.float32) * scale).astype(np.int64), inputs - 1)


def between(inputs: int, outputs: int, align_corners: bool) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """The two places that each output lies between, and the weight of the second."""
    places = np.arange(outputs, dtype=np.float32)
    if align_corners:
        scale = np.float32(inputs - 1) / np.float32(outputs - 1) if outputs > 1 else np.float32(0)
        source = places * scale
    else:
        scale = np.float32(inputs) / np.float32(outputs)
        source = np.maximum((places + HALF) * scale - HALF, np.float32(0))
    first = np.minimum(source.astype(np.int64), inputs - 1)
    share = np.minimum(source - first.astype(np.float32), ONE).astype(np.float32)
    return first, np.minimum(first + 1, inputs - 1), share


class Resize(Op):
    """An image of another size, as PyTorch's `interpolate` gives it."""

    name = "resize"
    programs = Programs.ARRAYS
    attributes = (
        Integers("size", ("height", "width")),
        Choice("mode", ("nearest", "bilinear")),
        Boolean("align_corners", optional=True),
    )

    def shape(self, step: StepReader, x: Shape) -> Shape:
        need_image(step, x)
        if "align_corners" in step and step["mode"] == "nearest":
            raise step.fail("takes align_corners with mode='bilinear' only")
        return (*step["size"], x[2])

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        sides = list(zip(x.shape[1:3], a["size"], strict=True))
        if a["mode"] == "nearest":
            rows, columns = (nearest(*side) for side in sides)
            return x[:, rows][:, :, columns]
        (top, bottom, down), (left, right, across) = (between(*side, a.get("align_corners", False)) for side in sides)
        across = across[:, None]

        def row(lines: Any) -> Array:
            image = x[:, lines]
            return (ONE - across) * image[:, :, left] + across * image[:, :, right]

        down = down[:, None, None]
        return (ONE - down) * row(top) + down * row(bottom)


OPS: tuple[Op, ...] = (Resize(),)
