"""Weights of bits in ONNX's standard operators: bytes are shifted and masked, and become floats when a runtime loads the file."""

from __future__ import annotations

import math
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from onebit.exports.onnx.graph import FLOAT, Graph
from onebit.ops.binary import planes_of, read_bias
from onebit.ops.bit_rows import unpack_rows
from onebit.program import Shape

_SHIFTS = np.arange(8, dtype=np.uint8)
# ONNX's type of 2 bits holds these.
_INT2 = (-2, 1)


def bit_array(a: Any, packed: NDArray[np.uint8], shape: Shape) -> NDArray[np.uint8]:
    """The bits of a weight as 0 and 1, (planes, *shape). A row in the file has as many bits as the shape and the number of rows say."""
    n = len(planes_of(a)) * math.prod(shape) // len(packed)
    return unpack_rows(packed, n).reshape(len(planes_of(a)), *shape)


def unpacked(g: Graph, bits: NDArray[np.uint8]) -> str:
    """Floats 0 and 1 of a graph, of the bits' shape, from one eighth of a byte each."""
    packed = np.packbits(bits.reshape(-1), bitorder="little")
    shifted = g.node(
        "BitShift", [g.constant(packed[:, None], np.uint8), g.constant(_SHIFTS, np.uint8)], direction="RIGHT"
    )
    ones = g.node("BitwiseAnd", [shifted, g.constant(1, np.uint8)])
    if packed.size * 8 != bits.size:
        ones = g.node("Slice", [g.reshape(ones, -1), g.int64s(0), g.int64s(bits.size)])
    return g.reshape(g.cast(ones, FLOAT), *bits.shape)


def counted(g: Graph, ones: str, a: Any, shape: Shape, zero: int = 0) -> str:
    """What bits count, of `shape`: the floats 0 and 1 of `ones`, (planes, *shape), times the planes, less what "pm1" and `zero` take off."""
    planes = planes_of(a)
    factor = 1 if a["values"] == "01" else 2
    offset = zero + (0 if factor == 1 else sum(planes))
    if len(planes) > 1:
        rows = g.reshape(ones, len(planes), -1)
        ones = g.node("MatMul", [g.constant([[factor * plane for plane in planes]]), rows])
    elif factor * planes[0] != 1:
        ones = g.node("Mul", [ones, g.constant(factor * planes[0])])
    if offset:
        ones = g.node("Sub", [ones, g.constant(offset)])
    return g.reshape(ones, *shape) if len(planes) > 1 else ones


def weight(g: Graph, a: Any, packed: NDArray[np.uint8], shape: Shape, axes: tuple[int, ...], zero: int = 0) -> str:
    """A weight of bits with its axes in the order `axes`, as floats; `shape` has the outputs first. Equal ones are made once."""
    key = ("weight", a["values"], tuple(planes_of(a)), zero, axes, shape, sha256(packed.tobytes()).digest())

    def make() -> str:
        bits = bit_array(a, packed, shape).transpose(0, *(axis + 1 for axis in axes))
        turned = tuple(shape[axis] for axis in axes)
        flat = bits[0] if len(bits) == 1 else bits
        if g.int2 and len(axes) == 2 and (name := _two_bits(g, a, bits, zero)) is not None:
            return name
        return counted(g, unpacked(g, flat), a, turned, zero)

    return g.once(key, make)


def _two_bits(g: Graph, a: Any, bits: NDArray[np.uint8], zero: int) -> str | None:
    """A weight in ONNX's type of 2 bits with one scale, or None if it has numbers that do not fit."""
    values = 1 if a["values"] == "01" else 2
    levels = np.tensordot(np.array(planes_of(a)), values * bits.astype(np.int32) - (values - 1), 1) - zero
    scale = int(np.gcd.reduce(levels, axis=None)) or 1
    levels //= scale
    if levels.min() < _INT2[0] or levels.max() > _INT2[1]:
        return None
    codes = np.zeros(-(-levels.size // 4) * 4, np.uint8)
    codes[: levels.size] = levels.reshape(-1) & 3
    packed = (codes[0::4] | codes[1::4] << 2 | codes[2::4] << 4 | codes[3::4] << 6).astype(np.uint8)
    name = g.name()
    g.constants[name] = TensorProto(name=name, dims=levels.shape, data_type=TensorProto.INT2, raw_data=packed.tobytes())
    return str(g.node("DequantizeLinear", [name, g.constant(scale)]))


def bias(g: Graph, a: Any, tensors: dict[str, Any], outputs: int) -> str | None:
    """A bias of bits as floats, or None without one."""
    if "bias" not in tensors:
        return None
    return g.cast(g.constant(read_bias(a, tensors, outputs), np.int8), FLOAT)


def scaled(g: Graph, levels: str, scale: NDArray[np.float16], shape: Shape) -> str:
    """Whole numbers (outputs, inputs) of a graph times the scales of their groups, as floats: exact."""
    groups = g.cast(g.constant(scale[:, :, None], np.float16), FLOAT)
    parts = g.node("Mul", [g.reshape(levels, *scale.shape, -1), groups])
    return g.reshape(parts, *shape)
