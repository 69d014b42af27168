"""Ops that select, move or join values and compute nothing."""

from __future__ import annotations

import math

import numpy as np

from onebit.ops.declared import MAX_AXES, MAX_AXIS, Choice, Floats, Integer, PerAxis, Shape, Sizes
from onebit.ops.op import Array, Attributes, Op, Precision, Programs, StepReader, Tensors, need_image

AXIS = Integer("axis", least=0, most=MAX_AXES - 1)


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


class Reshape(Op):
    """The same numbers in the same order, in another shape."""

    name = "reshape"
    programs = Programs.ARRAYS
    attributes = (PerAxis("shape", 1, MAX_AXIS),)

    def shape(self, step: StepReader, x: Shape) -> Shape:
        shape = tuple(step["shape"])
        if math.prod(shape) != math.prod(x):
            raise step.fail(f"its input has shape {x}: needs as many elements as {shape}")
        return shape

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return x.reshape(len(x), *a["shape"])


class Transpose(Op):
    """Put the axes into another order: axis i of the output is axis `axes[i]` of the input."""

    name = "transpose"
    programs = Programs.ARRAYS
    attributes = (PerAxis("axes", 0, MAX_AXES - 1),)

    def shape(self, step: StepReader, x: Shape) -> Shape:
        axes = step["axes"]
        if sorted(axes) != list(range(len(x))):
            raise step.fail(
                f"axes={axes} do not fit its input of shape {x}: needs each of its axes once, counted from 0"
            )
        return tuple(x[axis] for axis in axes)

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return x.transpose(0, *(axis + 1 for axis in a["axes"]))


class AlongAxis(Op):
    """An op along one axis, counted from 0."""

    def axis(self, step: StepReader, x: Shape) -> int:
        axis: int = step["axis"]
        if axis >= len(x):
            raise step.fail(f"axis={axis} but its input has shape {x}: needs one of its axes, counted from 0")
        return axis

    def mixes_tokens(self, attributes: Attributes) -> str:
        return "axis=0 would mix tokens: use 1" if attributes.get("axis") == 0 else ""


class Concatenate(AlongAxis):
    """Join two values along an axis."""

    name = "concatenate"
    inputs = 2
    attributes = (AXIS,)

    def shape(self, step: StepReader, x: Shape, y: Shape) -> Shape:
        axis = self.axis(step, x)
        if len(x) != len(y) or x[:axis] != y[:axis] or x[axis + 1 :] != y[axis + 1 :]:
            raise step.fail(f"its inputs have shapes {x} and {y}: needs equal ones but for axis {axis}")
        return (*x[:axis], x[axis] + y[axis], *x[axis + 1 :])

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array, y: Array) -> Array:
        return np.concatenate((x, y), axis=a["axis"] + 1)


class Slice(AlongAxis):
    """Take the places from `start` to before `stop` of an axis."""

    name = "slice"
    attributes = (AXIS, Integer("start", least=0), Integer("stop"))

    def shape(self, step: StepReader, x: Shape) -> Shape:
        axis, start, stop = self.axis(step, x), step["start"], step["stop"]
        if not start < stop <= x[axis]:
            raise step.fail(f"start={start} and stop={stop} do not fit an axis of {x[axis]}")
        return (*x[:axis], stop - start, *x[axis + 1 :])

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return x[(slice(None),) * (a["axis"] + 1) + (slice(a["start"], a["stop"]),)]


class Prepend(Op):
    """Put rows of its own before those of its input, (time, channels)."""

    name = "prepend"
    programs = Programs.ARRAYS
    attributes = (Integer("rows"),)
    tensors = (Floats("constant", ("rows", "C")),)

    def shape(self, step: StepReader, x: Shape) -> Shape:
        if len(x) != 2:
            raise step.fail(f"its input has shape {x}: needs (time, channels)")
        return (x[0] + step["rows"], x[1])

    def sizes(self, attributes: Attributes, x: Shape) -> Sizes:
        return {"rows": attributes["rows"], "C": x[1]}

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return np.concatenate((np.broadcast_to(t["constant"], (len(x), *t["constant"].shape)), x), axis=1)


OPS: tuple[Op, ...] = (Flatten(), Last(), Rows(), Reshape(), Transpose(), Concatenate(), Slice(), Prepend())
