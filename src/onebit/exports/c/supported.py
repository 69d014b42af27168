"""What the C source can compute, and what it cannot: asked before anything is written."""

from __future__ import annotations

import math

import numpy as np

from onebit.exports.c.groups import HEADS, PLACE_OPS, ROW_OPS, VIEWS
from onebit.fileformat import PackedModel
from onebit.program import Step

# The engine adds up larger windows in another order.
MOST_PLACES = 256
SUPPORTED = frozenset({*HEADS, *ROW_OPS, *PLACE_OPS, *VIEWS, "normalize", "group_normalize"})


def unsupported(model: PackedModel) -> list[tuple[str, str]]:
    """What has no C: each step's op, and what is wrong with it; "" where the op has no C at all."""
    if model.program.tokens:
        return [("a program", "over tokens")]
    if model.program.output == model.program.input_name:
        return [("a program", "its output is its input")]
    reasons = ((step.op, _reason(step, model)) for step in model.program.steps)
    return [(op, reason) for op, reason in reasons if reason is not None]


def _reason(step: Step, model: PackedModel) -> str | None:
    shape = model.shapes[step.inputs[0]]
    if step.op not in SUPPORTED:
        return ""
    if "group" in step.attributes:
        return "scales of groups"
    if step.op == "bit_conv2d" and step.attributes.get("input", {}).get("bits") == 16:
        return "inputs of 16 bits"
    if step.op == "group_normalize" and len(shape) == 3:
        return "over an image"
    if step.op == "slice" and step.attributes["axis"] not in (0, len(shape) - 1):
        return "along a middle axis"
    if step.op == "concatenate" and step.attributes["axis"] not in (0, len(shape) - 1):
        return "along a middle axis"
    if step.op in ("avg_pool2d", "mean_magnitude") and math.prod(step.attributes.get("kernel_size", [1])) > MOST_PLACES:
        return f"windows of more than {MOST_PLACES} places"
    for role, name in step.tensors.items():
        tensor = model.tensors[name]
        if tensor.dtype == np.float32 and not np.isfinite(tensor).all():
            return f"a {role} that is not finite"
    return None
