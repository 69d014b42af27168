"""Dense layers of floats of which most weights are 0: the places of the others, and their values."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from onebit.ops.bit_rows import is_expanded, row_bytes, unpack_rows
from onebit.ops.declared import Bits, Floats, Integer, Shape, Sizes
from onebit.ops.linear import Linear
from onebit.ops.op import Array, Attributes, Op, Precision, StepReader, Tensors


class SparseLinear(Linear):
    """y[..., o] = sum of w[k] x[..., i] over the ones of row o of the mask + b[o]; one number k, counted over all rows, is in column i."""

    name = "sparse_linear"
    attributes = (*Linear.attributes, Integer("kept"))
    tensors = (Bits("mask", ("out", "in")), Floats("weight", ("kept",)), Floats("bias", ("out",), optional=True))

    def sizes(self, attributes: Attributes, x: Shape) -> Sizes:
        return {**super().sizes(attributes, x), "kept": attributes["kept"]}

    def check(self, step: StepReader, inputs: Sequence[Shape], tokens: bool, integers: Sequence[bool] = ()) -> Shape:
        shape = super().check(step, inputs, tokens, integers)
        ones = int(np.unpackbits(step.tensor("mask")).sum(dtype=np.int64))
        if ones != step["kept"]:
            raise step.fail(f"its mask has {ones} ones: needs kept={step['kept']}; the file is damaged")
        return shape

    def bits(self, attributes: Attributes, roles: Collection[str], x: Shape) -> int:
        return 0  # the mask says where parameters are, and is none

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        places = t["mask"] if is_expanded(t["mask"]) else unpack_rows(t["mask"], a["in_features"])
        y = np.zeros((*x.shape[:-1], a["out_features"]), np.float32)
        first = 0
        for output, row in enumerate(places):
            (kept,) = np.nonzero(row)
            y[..., output] = x[..., kept] @ t["weight"][first : first + len(kept)]
            first += len(kept)
        return (y + t.get("bias", 0)).astype("float32")


def filled(a: Attributes, t: Tensors) -> Array:
    """The weight of a sparse layer with its zeros, float32 (outputs, inputs)."""
    weight = np.zeros((a["out_features"], a["in_features"]), np.float32)
    weight[unpack_rows(t["mask"], a["in_features"]) == 1] = t["weight"]
    return weight


def sparse_bytes(weight: NDArray[np.float32]) -> int:
    """The bytes of a weight (outputs, inputs) stored as a mask and the values that are not 0."""
    outputs, inputs = weight.shape
    return outputs * row_bytes(inputs) + weight.itemsize * int(np.count_nonzero(weight))


OPS: tuple[Op, ...] = (SparseLinear(),)
