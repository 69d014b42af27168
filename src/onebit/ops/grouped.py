"""Weights with a scale for each group of inputs: integers of a few bits times a float16 for every 32, 64 or 128 of them.

With integer inputs the sum of a group is exact. One fused multiply-add for each group, in float32 and in the order of the groups, makes the output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.ops.declared import GroupSize, Integer
from onebit.ops.op import Array, Attributes, Precision, StepReader
from onebit.ops.quantize import quantize_input

GROUP = GroupSize("group", optional=True)
ZERO = Integer("zero", most=255, optional=True)
LEVELS: Mapping[str, Any] = {"quantizer": "absmax", "bits": 8}
# With rows of this length a sum of products of bytes fits 32 bits: 2^17 * 127 * 128 < 2^31.
MOST_INT8_INPUTS = 1 << 17


def groups_of(attributes: Attributes, inputs: int) -> int:
    """The number of groups of a row; 1 if the step does not say."""
    return inputs // int(attributes.get("group", inputs))


def check_group(step: StepReader, inputs: int) -> None:
    """Refuse groups that do not fill a row."""
    if "group" in step and inputs % step["group"]:
        raise step.fail(f"group={step['group']} does not divide its {inputs} inputs")


def check_bits(step: StepReader, inputs: int) -> None:
    """Refuse attributes of groups of bits that do not fit each other."""
    check_group(step, inputs)
    if ("group" in step) != step.has_tensor("scale"):
        raise step.fail("takes group and its tensor 'scale' together")
    if "zero" in step and ("group" not in step or step["values"] != "01"):
        raise step.fail("takes zero with group and values='01' only")
    if "group" in step and "input" in step:
        raise step.fail("takes no input with group: each group has a scale of its own")


def product(x: Array, weight: NDArray[np.int32], scale: NDArray[np.float16], precision: Precision) -> Array:
    """The sums of a layer, float32 (..., outputs).

    Args:
        x: the inputs, (..., inputs).
        weight: whole numbers, (outputs, inputs).
        scale: of each group of inputs, (outputs, groups).
        precision: ``"int8"`` quantises each group of x as `absmax` of 8 bits does.
    """
    outputs, groups = scale.shape
    size = weight.shape[1] // groups
    y = np.zeros((*x.shape[:-1], outputs), np.float32)
    for g in range(groups):
        part, own = x[..., g * size : (g + 1) * size], weight[:, g * size : (g + 1) * size]
        if precision == "int8":
            q, of_level = quantize_input(part, (x.ndim - 1,), LEVELS)
            sums = of_level * (q @ own.T).astype(np.float32)
        else:
            sums = part @ own.T.astype(np.float32)
        # The product is exact in float64, so that almost always the sum is rounded as a fused one is.
        y = (scale[:, g].astype(np.float64) * sums + y).astype(np.float32)
    return y


def table(weight: NDArray[np.int32], scale: NDArray[np.float16]) -> Array:
    """Whole numbers times the scales of their groups, float32 (rows, inputs): exact."""
    rows, groups = scale.shape
    parts = weight.reshape(rows, groups, -1).astype(np.float32) * scale.astype(np.float32)[:, :, None]
    return parts.reshape(weight.shape)
