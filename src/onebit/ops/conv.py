"""Convolutions of images, float and binary."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.ops import binary
from onebit.ops.declared import Attribute, Bits, Floats, Integer, Shape, Sizes, Tensor
from onebit.ops.op import Array, Attributes, Op, Precision, Programs, StepReader, Tensors
from onebit.ops.windows import DILATION, WINDOW, window_sides, windows


def convolve(x: NDArray[Any], weight: NDArray[Any], a: Attributes) -> NDArray[Any]:
    """x (n, height, width, in), weight (out, kh, kw, in / groups) to (n, height', width', out)."""
    kh, kw = a["kernel_size"]
    patches = windows(a, x)  # (n, height', width', in, kh, kw)
    n, height, width = patches.shape[:3]
    outputs, groups = weight.shape[0] // a["groups"], a["groups"]
    patches = patches.reshape(n, height, width, groups, -1, kh, kw)
    rows = patches.transpose(0, 1, 2, 3, 5, 6, 4).reshape(n, height, width, groups, -1)
    kernels = weight.reshape(groups, outputs, -1)
    parts = [rows[..., g, :] @ kernels[g].T for g in range(groups)]
    return np.concatenate(parts, axis=-1)


def check_groups(step: StepReader) -> None:
    """Refuse groups that do not divide the channels."""
    inputs, outputs, groups = step["in_channels"], step["out_channels"], step["groups"]
    if inputs % groups or outputs % groups:
        raise step.fail(f"groups={groups} does not divide in_channels={inputs} and out_channels={outputs}")


class Conv2d(Op):
    """A convolution as in PyTorch (a correlation), with zero padding."""

    name = "conv2d"
    programs = Programs.ARRAYS
    attributes: tuple[Attribute, ...] = (
        Integer("in_channels"),
        Integer("out_channels"),
        *WINDOW,
        DILATION,
        Integer("groups"),
    )
    tensors: tuple[Tensor, ...] = (
        Floats("weight", ("out", "kh", "kw", "in/groups")),
        Floats("bias", ("out",), optional=True),
    )

    def shape(self, step: StepReader, x: Shape) -> Shape:
        inputs, outputs, _ = step["in_channels"], step["out_channels"], step["groups"]
        if len(x) != 3 or x[2] != inputs:
            raise step.fail(f"in_channels={inputs} but its input has shape {x}: needs (height, width, {inputs})")
        check_groups(step)
        return (*self.sides(step, x), outputs)

    def sides(self, step: StepReader, x: Shape) -> tuple[int, int]:
        """The height and the width of the output."""
        return window_sides(step, x, step["dilation"])

    def apply(self, x: NDArray[Any], weight: NDArray[Any], a: Attributes) -> NDArray[Any]:
        """The sums of products, without a bias."""
        return convolve(x, weight, a)

    def sizes(self, attributes: Attributes, x: Shape) -> Sizes:
        kh, kw = attributes["kernel_size"]
        of_group = attributes["in_channels"] // attributes["groups"]
        return {"out": attributes["out_channels"], "kh": kh, "kw": kw, "in/groups": of_group}

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return (self.apply(x, t["weight"], a) + t.get("bias", 0)).astype("float32")


class BitConv2d(Conv2d):
    """A convolution with bits as weights and bias."""

    name = "bit_conv2d"
    attributes = (*Conv2d.attributes, *binary.PRODUCT)
    tensors = (Bits("weight", ("out", "kh*kw*in/groups"), planes=True), Bits("bias", ("1", "out"), optional=True))

    def shape(self, step: StepReader, x: Shape) -> Shape:
        shape = super().shape(step, x)
        binary.check_sums(step, _row(super().sizes(step, x)))
        return shape

    def sizes(self, attributes: Attributes, x: Shape) -> Sizes:
        sizes = super().sizes(attributes, x)
        return {**sizes, "kh*kw*in/groups": _row(sizes), "planes": len(binary.planes_of(attributes))}

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        shape = (a["out_channels"], *a["kernel_size"], a["in_channels"] // a["groups"])
        axes = tuple(range(1, x.ndim))
        return binary.product(a, t, precision, x, shape, axes, lambda x, w: self.apply(x, w, a))


def _row(sizes: Sizes) -> int:
    """The number of weights of one output."""
    return sizes["kh"] * sizes["kw"] * sizes["in/groups"]


OPS: tuple[Op, ...] = (Conv2d(), BitConv2d())
