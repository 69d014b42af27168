"""Ops that select or move values and compute nothing."""

from __future__ import annotations

import math

from onebit.ops.declared import Choice, Shape
from onebit.ops.op import Array, Attributes, Op, Precision, Programs, StepReader, Tensors, need_image


class Flatten(Op):
    """Flatten all axes into one. "chw" lists channel after channel."""

    name = "flatten"
    programs = Programs.ARRAYS
    attributes = (Choice("order", ("hwc", "chw")),)

    def shape(self, step: StepReader, x: Shape) -> Shape:
        if step["order"] == "chw" and len(x) != 3:
            raise step.fail(f"order='chw' but its input has shape {x}: needs (height, width, channels)")
        return (math.prod(x),)

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return (x.transpose(0, 3, 1, 2) if a["order"] == "chw" else x).reshape(len(x), math.prod(x.shape[1:]))


class Last(Op):
    """Take the last row: (time, channels) to (channels)."""

    name = "last"
    programs = Programs.ARRAYS

    def shape(self, step: StepReader, x: Shape) -> Shape:
        if len(x) != 2:
            raise step.fail(f"its input has shape {x}: needs (time, channels)")
        return (x[1],)

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return x[:, -1]


class Rows(Op):
    """Turn each line of an image into a row: (height, width, channels) to (height, width * channels)."""

    name = "rows"
    programs = Programs.ARRAYS

    def shape(self, step: StepReader, x: Shape) -> Shape:
        need_image(step, x)
        return (x[0], x[1] * x[2])

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return x.reshape(*x.shape[:2], -1)


OPS: tuple[Op, ...] = (Flatten(), Last(), Rows())
