"""What the C source can compute, and what it cannot: asked before anything is written."""

from __future__ import annotations

import numpy as np

from onebit.exports.c.groups import HEADS, PLACE_OPS, ROW_OPS, VIEWS
from onebit.fileformat import PackedModel
from onebit.program import Step

SUPPORTED = frozenset({*HEADS, *ROW_OPS, *PLACE_OPS, *VIEWS, "normalize", "group_normalize"})


def unsupported(model: PackedModel) -> list[str]:
    """What has no C: the ops by their names, each once and with its reason where it has one."""
    if model.program.tokens:
        return ["programs over tokens"]
    if model.program.output == model.program.input_name:
        return ["program whose output is its input"]
    found: dict[str, None] = {}
    for step in model.program.steps:
        reason = _reason(step, model)
        if reason is not None:
            found[reason] = None
    return list(found)


def _reason(step: Step, model: PackedModel) -> str | None:
    shape = model.shapes[step.inputs[0]]
    if step.op not in SUPPORTED:
        return step.op
    if "group" in step.attributes:
        return f"{step.op} with scales of groups"
    if step.op == "bit_conv2d" and step.attributes.get("input", {}).get("bits") == 16:
        return "bit_conv2d with inputs of 16 bits"
    if step.op == "group_normalize" and len(shape) == 3:
        return "group_normalize over an image"
    if step.op == "slice" and step.attributes["axis"] not in (0, len(shape) - 1):
        return "slice along a middle axis"
    if step.op == "concatenate" and step.attributes["axis"] not in (0, len(shape) - 1):
        return "concatenate along a middle axis"
    for role, name in step.tensors.items():
        tensor = model.tensors[name]
        if tensor.dtype == np.float32 and not np.isfinite(tensor).all():
            return f"{step.op} with a {role} that is not finite"
    return None
