"""The common parts of binary layers: attributes that give values to bits and inputs, limits of sums, and the product."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.ops.bit_rows import is_expanded, read_row, read_rows
from onebit.ops.declared import Choice, Planes, Quantizer, Shape
from onebit.ops.op import Array, Attributes, Precision, StepReader, Tensors
from onebit.ops.quantize import largest_level, quantize, quantize_input

# An int32 can hold the sum of 2^23 products of 8 bits. 2^22 leaves room for the shift of signed activations.
MAX_ROW = 1 << 22
# With integer inputs, the sums of a binary layer are 32-bit integers.
MAX_SUM = (1 << 31) - 1
VALUES = Choice("values", ("01", "pm1"))
PRODUCT = (VALUES, Planes("planes", optional=True), Quantizer("input", optional=True))


def planes_of(attributes: Attributes) -> list[int]:
    """The weights of a layer's bit planes; [1] if the step does not have the attribute."""
    return list(attributes.get("planes", [1]))


def check_sums(step: StepReader, inputs: int) -> None:
    """Refuse a layer with so many inputs per output that its sums may not fit their integers."""
    if inputs > MAX_ROW:
        raise step.fail(f"has rows of {inputs} weights: needs at most {MAX_ROW}")
    step["values"]  # read here, and so checked before the planes
    planes, level = planes_of(step), largest_level(step.get("input"))
    if ("planes" in step or "input" in step) and inputs * sum(planes) * level > MAX_SUM:
        raise step.fail(f"its sums over {inputs} inputs do not fit 32 bits: use fewer bits or smaller planes")


def read_weight(a: Attributes, tensor: NDArray[Any], shape: Shape) -> NDArray[np.int32]:
    """What the bits of a weight count, int32 `shape`: the sum over its planes."""
    if is_expanded(tensor):
        return tensor.astype(np.int32)
    planes = planes_of(a)
    bits = read_rows(tensor, math.prod(shape[1:]), a["values"]).reshape(len(planes), *shape)
    weight: NDArray[np.int32] = np.tensordot(np.array(planes, np.int32), bits, 1)
    return weight


def read_bias(a: Attributes, t: Tensors, outputs: int) -> NDArray[np.int32]:
    """What the bits of a layer's bias count, int32 (outputs); 0 without one."""
    return read_row(t["bias"], outputs, a["values"]) if "bias" in t else np.zeros(outputs, np.int32)


def product(
    a: Attributes,
    t: Tensors,
    precision: Precision,
    x: Array,
    shape: Shape,
    axes: tuple[int, ...],
    apply: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]],
) -> Array:
    """The sums of a binary layer with its bias.

    Args:
        a, t: the attributes and tensors of the step.
        precision: ``"int8"`` quantises x; ``"float32"`` does so only if the step has an `input`.
        x: the inputs.
        shape: the shape of the weight, outputs first.
        axes: the axes of x that share a scale.
        apply: a function from x and the weight to the sums.
    """
    weight = read_weight(a, t["weight"], shape)
    bias = read_bias(a, t, shape[0])
    if precision == "float32" and "input" not in a:
        return (apply(x, weight.astype(np.float32)) + bias).astype(np.float32)
    q, scale = quantize_input(x, axes, a["input"]) if "input" in a else quantize(x, axes)
    sums = apply(q, weight)  # exact: int32
    return (scale * sums.astype(np.float32) + bias.astype(np.float32)).astype(np.float32)
