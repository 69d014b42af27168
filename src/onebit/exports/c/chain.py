"""The C of steps that change a row of numbers in place."""

from __future__ import annotations

import math
from collections.abc import Callable

from onebit.exports.c.arrays import number
from onebit.exports.c.groups import UNARY
from onebit.exports.c.parts import Parts
from onebit.fileformat import PackedModel
from onebit.program import Step


def chain(steps: list[Step], parts: Parts, model: PackedModel, pointer: Callable[[str], str], place: str) -> list[str]:
    """The lines that change `row`.

    Args:
        steps: the steps, in order.
        parts: where constants and kernels are asked for.
        model: the model.
        pointer: the C of a pointer to a value's floats.
        place: the C of the row's index.
    """
    lines: list[str] = []
    loop: list[str] = []
    length = 0

    def close() -> None:
        if loop:
            lines.append(f"for (int32_t c = 0; c < {length}; ++c) {{")
            lines.append("    float v = row[c];")
            lines.extend(f"    {line}" for line in loop)
            lines.append("    row[c] = v;")
            lines.append("}")
            loop.clear()

    for step in steps:
        length = model.shapes[step.output][-1]
        whole = _of_row(step, parts, length)
        if whole:
            close()
            lines.append(whole)
        else:
            loop.extend(_of_number(step, parts, model, pointer, place))
    close()
    return lines


def _of_row(step: Step, parts: Parts, n: int) -> str:
    a = step.attributes
    if step.op == "softmax":
        parts.need("softmax")
        return f"softmax_row(row, {n});"
    if step.op in ("normalize", "group_normalize", "rms_normalize"):
        kernel = "rms_normalize" if step.op == "rms_normalize" else "normalize"
        parts.need(kernel)
        groups = a.get("groups", 1) if step.op != "normalize" else 1
        call = f"{kernel}_row(row, {n}, {number(a['eps'])});"
        if groups == 1:
            return call
        each = n // groups
        return f"for (int32_t g = 0; g < {groups}; ++g) {kernel}_row(row + g * {each}, {each}, {number(a['eps'])});"
    return ""


def _of_number(step: Step, parts: Parts, model: PackedModel, pointer: Callable[[str], str], place: str) -> list[str]:
    a, t = step.attributes, {role: model.tensors[name] for role, name in step.tensors.items()}
    n = model.shapes[step.output][-1]
    if step.op in UNARY:
        parts.need(step.op)
        return [f"v = {step.op}_of(v);"]
    if step.op == "scale_shift":
        lines = [f"v = v * {parts.floats('scale', t['scale'])}[c];"]
        return lines + ([f"v = v + {parts.floats('shift', t['shift'])}[c];"] if "shift" in t else [])
    if step.op == "scale":
        return [f"v = v * {number(a['factor'])};"]
    if step.op == "clip":
        return [f"v = v < {number(a['low'])} ? {number(a['low'])} : v;", f"v = v > {number(a['high'])} ? {number(a['high'])} : v;"]  # fmt: skip
    if step.op == "prelu":
        return [f"v = v > 0.0f ? v : {parts.floats('slope', t['slope'])}[c] * v;"]
    if step.op == "add_constant":
        return [f"v = v + {parts.floats('constant', t['constant'])}[({place}) * {n} + c];"]
    other = step.inputs[1]
    shape = model.shapes[other]
    sign = "+" if step.op == "add" else "*"
    if math.prod(shape) == math.prod(model.shapes[step.output]):
        return [f"v = v {sign} {pointer(other)}[({place}) * {n} + c];"]
    if shape == (n,):
        return [f"v = v * {pointer(other)}[c];"]
    return [f"v = v * {pointer(other)}[{place}];"]
