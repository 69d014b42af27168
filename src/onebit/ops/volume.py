"""Convolutions of volumes, float and binary."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from onebit.ops import binary
from onebit.ops.conv import check_groups
from onebit.ops.declared import Attribute, Bits, Floats, Integer, Integers, Shape, Sizes, Tensor
from onebit.ops.op import Array, Attributes, Op, Precision, Programs, StepReader, Tensors
from onebit.ops.windows import MAX_VALUE_ELEMENTS


def convolve(x: NDArray[Any], weight: NDArray[Any], a: Attributes) -> NDArray[Any]:
    """x (n, depth, height, width, in), weight (out, kd * kh, kw, in / groups) to (n, depth', height', width', out)."""
    kernel, stride, dilation, padding = a["kernel_size"], a["stride"], a["dilation"], a["padding"]
    x = np.pad(x, ((0, 0), *(tuple(padding[2 * axis : 2 * axis + 2]) for axis in range(3)), (0, 0)))
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    found = sliding_window_view(x, reach, axis=(1, 2, 3))  # (n, depth', height', width', in, kd, kh, kw), undivided
    places = tuple(slice(None, None, step) for step in stride)
    taps = tuple(slice(None, None, step) for step in dilation)
    patches = found[(slice(None), *places, slice(None), *taps)]
    groups = a["groups"]
    rows = patches.reshape(*patches.shape[:4], groups, -1, *kernel).transpose(0, 1, 2, 3, 4, 6, 7, 8, 5)
    rows = rows.reshape(*patches.shape[:4], groups, -1)
    kernels = weight.reshape(groups, weight.shape[0] // groups, -1)
    return np.concatenate([rows[..., g, :] @ kernels[g].T for g in range(groups)], axis=-1)


class Conv3d(Op):
    """A convolution of volumes as in PyTorch (a correlation), with zero padding."""

    name = "conv3d"
    programs = Programs.ARRAYS
    attributes: tuple[Attribute, ...] = (
        Integer("in_channels"),
        Integer("out_channels"),
        Integers("kernel_size", ("kd", "kh", "kw")),
        Integers("stride", ("sd", "sh", "sw")),
        Integers("padding", ("front", "back", "top", "bottom", "left", "right"), 0),
        Integers("dilation", ("dd", "dh", "dw")),
        Integer("groups"),
    )
    tensors: tuple[Tensor, ...] = (
        Floats("weight", ("out", "kd*kh", "kw", "in/groups")),
        Floats("bias", ("out",), optional=True),
    )

    def shape(self, step: StepReader, x: Shape) -> Shape:
        inputs, outputs, _ = step["in_channels"], step["out_channels"], step["groups"]
        if len(x) != 4 or x[3] != inputs:
            raise step.fail(f"in_channels={inputs} but its input has shape {x}: needs (depth, height, width, {inputs})")
        check_groups(step)
        return (*self._sides(step, x), outputs)

    def _sides(self, step: StepReader, x: Shape) -> Shape:
        kernel, stride, dilation, padding = (step[name] for name in ("kernel_size", "stride", "dilation", "padding"))
        padded = [x[axis] + padding[2 * axis] + padding[2 * axis + 1] for axis in range(3)]
        if padded[0] * padded[1] * padded[2] * x[3] > MAX_VALUE_ELEMENTS:
            raise step.fail(f"its padded input has more than {MAX_VALUE_ELEMENTS} elements")
        free = [side - d * (k - 1) - 1 for side, k, d in zip(padded, kernel, dilation, strict=True)]
        if min(free) < 0:
            raise step.fail(f"a kernel of {kernel} with dilation {dilation} does not fit its padded input of shape {x}")
        return tuple(left // s + 1 for left, s in zip(free, stride, strict=True))

    def sizes(self, attributes: Attributes, x: Shape) -> Sizes:
        kd, kh, kw = attributes["kernel_size"]
        of_group = attributes["in_channels"] // attributes["groups"]
        return {"out": attributes["out_channels"], "kd*kh": kd * kh, "kw": kw, "in/groups": of_group}

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return (convolve(x, t["weight"], a) + t.get("bias", 0)).astype("float32")


class BitConv3d(Conv3d):
    """A convolution of volumes with bits as weights and bias."""

    name = "bit_conv3d"
    attributes = (*Conv3d.attributes, *binary.PRODUCT)
    tensors = (
        Bits("weight", ("out", "kd*kh*kw*in/groups"), planes=True),
        Bits("bias", ("1", "out"), optional=True),
    )

    def shape(self, step: StepReader, x: Shape) -> Shape:
        shape = super().shape(step, x)
        binary.check_sums(step, _row(super().sizes(step, x)))
        return shape

    def sizes(self, attributes: Attributes, x: Shape) -> Sizes:
        sizes = super().sizes(attributes, x)
        return {**sizes, "kd*kh*kw*in/groups": _row(sizes), "planes": len(binary.planes_of(attributes))}

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        kd, kh, kw = a["kernel_size"]
        shape = (a["out_channels"], kd * kh, kw, a["in_channels"] // a["groups"])
        return binary.product(a, t, precision, x, shape, (1, 2, 3, 4), lambda x, w: convolve(x, w, a))


def _row(sizes: Sizes) -> int:
    """The number of weights of one output."""
    return sizes["kd*kh"] * sizes["kw"] * sizes["in/groups"]


OPS: tuple[Op, ...] = (Conv3d(), BitConv3d())
