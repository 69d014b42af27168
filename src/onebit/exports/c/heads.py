"""The C of heads: what makes the row of a position, before the steps on rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from onebit.exports.c.arrays import bits_of, chunked, grouped_rows, padded, taps
from onebit.exports.c.groups import Group
from onebit.exports.c.parts import Parts
from onebit.exports.c.plan import depthwise, form_of
from onebit.fileformat import PackedModel
from onebit.program import Step


@dataclass
class Made:
    """The C of a head.

    Args:
        before: lines before the loop over positions.
        each: lines for the position `i`, which fill `row`. `at` has its row and column where `places` is set.
        places: whether positions have two numbers.
    """

    each: list[str]
    before: list[str] = field(default_factory=list)
    places: bool = False


@dataclass(frozen=True)
class Where:
    """How the C names things.

    Args:
        floats: of a value: a pointer to its floats.
        bytes: of a value in a form: a pointer to its bytes.
        levels: of the same: how it was quantised.
        scratch: a pointer to a buffer of this function: its type and name.
    """

    floats: Callable[[str], str]
    bytes: Callable[[str, str], str]
    levels: Callable[[str, str], str]
    scratch: Callable[[str, str], str]


def head(g: Group, parts: Parts, model: PackedModel, where: Where) -> Made:
    """The C of a group's head."""
    step = g.head
    if step is None:
        n = model.shapes[g.output][-1]
        if not g.inputs:
            parts.need("pixels")
            return Made([f"take_pixels(pixels + i * {n}, {n}, row);"])
        source = where.floats(g.inputs[0])
        return Made([f"memcpy(row, {source} + i * {n}, {n} * sizeof *row);"])
    return _HEADS[step.op](step, parts, model, where)


def _bias(step: Step, parts: Parts, model: PackedModel) -> tuple[str, str]:
    if "bias" not in step.tensors:
        return "NULL", "0.0f"
    outputs = model.shapes[step.output][-1]
    bits = padded(bits_of(model.tensors[step.tensors["bias"]], outputs))
    return parts.words("bias", bits.reshape(-1)), "-1.0f" if step.attributes["values"] == "pm1" else "0.0f"


def _planes(step: Step, parts: Parts) -> tuple[str, int]:
    planes = list(step.attributes.get("planes", [1]))
    return parts.other("planes", "uint8_t", [str(p) for p in planes], len(planes)), len(planes)


def _levels_from(form: str, parts: Parts, range_of: str = "&range") -> str:
    """The C that fills `levels`."""
    if form == "auto":
        parts.need("levels_auto")
        return f"levels_auto(&levels, {range_of});"
    if form.startswith("absmax"):
        parts.need("levels_absmax")
        return f"levels_absmax(&levels, {range_of}, {2 ** (int(form[6:]) - 1) - 1}.0f);"
    parts.need("levels_unit")
    return f"levels_unit(&levels, {2 ** int(form[4:]) - 1}.0f);"


def _bit_linear(step: Step, parts: Parts, model: PackedModel, where: Where) -> Made:
    a = step.attributes
    inputs, outputs, form = a["in_features"], a["out_features"], form_of(step)
    counts, planes = _planes(step, parts)
    bits = bits_of(model.tensors[step.tensors["weight"]], inputs)
    signed = int(a["values"] == "pm1")
    bias, unset = _bias(step, parts, model)
    parts.need("finish")
    before = [f"int32_t *const sums = {where.scratch('int32_t', 'sums')};"]
    x = f"{where.floats(step.inputs[0])} + i * {inputs}"
    if form == "sign":
        parts.need("dense_signs")
        weight = parts.words("weight", padded(bits).reshape(-1))
        before.append(f"uint32_t *const bits = {where.scratch('uint32_t', 'bits')};")
        each = [f"dense_signs({x}, {inputs}, {weight}, {planes * outputs}, {signed}, bits, sums);"]
        return Made([*each, f"finish_sums(sums, {outputs}, {counts}, {planes}, 1.0f, {bias}, {unset}, row);"], before)
    parts.need("dense")
    weight = parts.words("weight", chunked(bits, 1, planes))
    before += [f"uint32_t *const table = {where.scratch('uint32_t', 'table')};", "struct levels levels;"]
    run = [
        f"dense_row({x}, {inputs}, &levels, {weight}, {planes * outputs}, {signed}, table, sums);",
        f"finish_sums(sums, {outputs}, {counts}, {planes}, levels.scale, {bias}, {unset}, row);",
    ]
    if form.startswith("unit"):
        return Made(run, [*before, _levels_from(form, parts)])
    parts.need("nan_row")
    each = ["struct range range = {0, 0};", f"include(&range, {x}, {inputs});", _levels_from(form, parts)]
    each += ["if (levels.finite) {", *(f"    {line}" for line in run), "} else {", f"    nan_row(row, {outputs});", "}"]
    return Made(each, before)


def _linear(step: Step, parts: Parts, model: PackedModel, where: Where) -> Made:
    a = step.attributes
    parts.need("dense_float")
    weight = parts.floats("weight", model.tensors[step.tensors["weight"]])
    x = f"{where.floats(step.inputs[0])} + i * {a['in_features']}"
    each = [f"dense_float({x}, {a['in_features']}, {weight}, {a['out_features']}, row);"]
    return Made(each + _float_bias(step, parts, model))


def _float_bias(step: Step, parts: Parts, model: PackedModel) -> list[str]:
    bias = f"{parts.floats('bias', model.tensors[step.tensors['bias']])}[c]" if "bias" in step.tensors else "0.0f"
    return [f"for (int32_t c = 0; c < {model.shapes[step.output][-1]}; ++c) row[c] = row[c] + {bias};"]


def window(step: Step, model: PackedModel) -> list[int]:
    """The numbers of a `struct window`."""
    a: Any = step.attributes
    height, width, channels = model.shapes[step.inputs[0]]
    groups = a.get("groups", 1)
    kernel, stride, padding = a.get("kernel_size"), a.get("stride"), a.get("padding")
    dilation = a.get("dilation", [1, 1])
    return [height, width, channels, channels // groups, groups, *kernel, *stride, padding[0], padding[2], *dilation]


def _bit_conv2d(step: Step, parts: Parts, model: PackedModel, where: Where) -> Made:
    a, form = step.attributes, form_of(step)
    groups, outputs = a["groups"], a["out_channels"]
    inputs = math.prod(a["kernel_size"]) * a["in_channels"] // groups
    counts, planes = _planes(step, parts)
    bits = bits_of(model.tensors[step.tensors["weight"]], inputs)
    signed = int(a["values"] == "pm1")
    bias, unset = _bias(step, parts, model)
    of = parts.window(window(step, model))
    image = where.bytes(step.inputs[0], form)
    rows = planes * outputs
    parts.need("finish")
    before = [f"int32_t *const sums = {where.scratch('int32_t', 'sums')};"]
    finish = f"finish_sums(%s, {outputs}, {counts}, {planes}, %s, {bias}, {unset}, row);"
    if form == "sign":
        parts.need("conv_signs")
        weight = parts.words("weight", grouped_rows(bits, groups, planes))
        before.append(f"uint32_t *const bits = {where.scratch('uint32_t', 'bits')};")
        call = f"conv_signs(&{of}, {image}, at[0], at[1], {weight}, {outputs}, {planes}, {signed}, bits, sums);"
        return Made([call, finish % ("sums", "1.0f")], before, True)
    levels = where.levels(step.inputs[0], form)
    if depthwise(step, model.shapes):
        parts.need("depthwise")
        weight = parts.words("weight", taps(bits, planes))
        run = [f"depthwise(&{of}, {image}, at[0], at[1], {levels}.sign, {weight}, {planes}, {signed}, sums);"]
        run.append(finish % ("sums", f"{levels}.scale"))
    else:
        parts.need("conv")
        weight = parts.words("weight", chunked(bits, groups, planes))
        before += [f"uint32_t *const table = {where.scratch('uint32_t', 'table')};"]
        before += [f"uint8_t *const bytes = {where.scratch('uint8_t', 'bytes')};"]
        call = f"conv_pair(&{of}, {image}, at, {levels}.sign, {weight}, {outputs}, {planes}, {signed}, table, bytes, sums);"
        run = [f"if ((i & 1) == 0) {call}", finish % (f"sums + (i & 1) * {rows}", f"{levels}.scale")]
    if form.startswith("unit"):
        return Made(run, before, True)
    parts.need("nan_row")
    each = [
        f"if ({levels}.finite) {{",
        *(f"    {line}" for line in run),
        "} else {",
        f"    nan_row(row, {outputs});",
        "}",
    ]
    return Made(each, before, True)


def _conv2d(step: Step, parts: Parts, model: PackedModel, where: Where) -> Made:
    of, x = parts.window(window(step, model)), where.floats(step.inputs[0])
    weight = parts.floats("weight", model.tensors[step.tensors["weight"]])
    if depthwise(step, model.shapes):
        parts.need("depthwise_float")
        call = f"depthwise_float(&{of}, {x}, at[0], at[1], {weight}, row);"
    else:
        parts.need("conv_float")
        call = f"conv_float(&{of}, {x}, at[0], at[1], {weight}, {step.attributes['out_channels']}, row);"
    return Made([call, *_float_bias(step, parts, model)], places=True)


def _max_pool(step: Step, parts: Parts, model: PackedModel, where: Where) -> Made:
    parts.need("pool")
    of = parts.window(window(step, model))
    return Made([f"max_window(&{of}, {where.floats(step.inputs[0])}, at[0], at[1], row);"], places=True)


def _average(step: Step, parts: Parts, model: PackedModel, where: Where) -> Made:
    parts.need("average")
    of, all_places = parts.window(window(step, model)), int(step.attributes["count_include_pad"])
    return Made(
        [f"average_window(&{of}, {where.floats(step.inputs[0])}, at[0], at[1], {all_places}, row);"], places=True
    )


def _mean_pool(step: Step, parts: Parts, model: PackedModel, where: Where) -> Made:
    parts.need("mean_pool")
    shape = model.shapes[step.inputs[0]]
    x = where.floats(step.inputs[0])
    return Made([f"mean_rows({x} + i, {math.prod(shape[:-1])}, {shape[-1]}, row);"])


def _mean_magnitude(step: Step, parts: Parts, model: PackedModel, where: Where) -> Made:
    x = where.floats(step.inputs[0])
    if "kernel_size" not in step.attributes:
        parts.need("mean_magnitude")
        n = model.shapes[step.inputs[0]][-1]
        return Made([f"row[0] = mean_magnitude({x} + i * {n}, {n});"])
    parts.need("magnitude_window")
    of = parts.window(window(step, model))
    return Made([f"row[0] = magnitude_window(&{of}, {x}, at[0], at[1]);"], places=True)


def _concatenate(step: Step, parts: Parts, model: PackedModel, where: Where) -> Made:
    first, second = (model.shapes[name] for name in step.inputs)
    x, y = (where.floats(name) for name in step.inputs)
    if step.attributes["axis"] == len(first) - 1:
        return Made(
            [
                f"memcpy(row, {x} + i * {first[-1]}, {first[-1]} * sizeof *row);",
                f"memcpy(row + {first[-1]}, {y} + i * {second[-1]}, {second[-1]} * sizeof *row);",
            ]
        )
    n, rows = first[-1], math.prod(first[:-1])
    return Made([f"memcpy(row, i < {rows} ? {x} + i * {n} : {y} + (i - {rows}) * {n}, {n} * sizeof *row);"])


def _prepend(step: Step, parts: Parts, model: PackedModel, where: Where) -> Made:
    n, rows = model.shapes[step.output][-1], step.attributes["rows"]
    constant = parts.floats("constant", model.tensors[step.tensors["constant"]])
    x = where.floats(step.inputs[0])
    return Made([f"memcpy(row, i < {rows} ? {constant} + i * {n} : {x} + (i - {rows}) * {n}, {n} * sizeof *row);"])


def _slice(step: Step, parts: Parts, model: PackedModel, where: Where) -> Made:
    n, of, start = model.shapes[step.output][-1], model.shapes[step.inputs[0]][-1], step.attributes["start"]
    return Made([f"memcpy(row, {where.floats(step.inputs[0])} + i * {of} + {start}, {n} * sizeof *row);"])


def _moved(step: Step, parts: Parts, model: PackedModel, where: Where, axes: list[int]) -> Made:
    """The axes of the input in another order, number by number."""
    shape = model.shapes[step.inputs[0]]
    strides = [math.prod(shape[axis + 1 :]) for axis in axes]
    sizes = [shape[axis] for axis in axes]
    n = model.shapes[step.output][-1]
    index, below = [], 1
    for size, stride in zip(reversed(sizes), reversed(strides), strict=True):
        index.append(f"j / {below} % {size} * {stride}")
        below *= size
    x = where.floats(step.inputs[0])
    lines = [f"for (int32_t c = 0; c < {n}; ++c) {{", f"    const int32_t j = i * {n} + c;"]
    return Made([*lines, f"    row[c] = {x}[{' + '.join(index)}];", "}"])


def _flatten(step: Step, parts: Parts, model: PackedModel, where: Where) -> Made:
    shape = model.shapes[step.inputs[0]]
    return _moved(step, parts, model, where, [len(shape) - 1, *range(len(shape) - 1)])


def _transpose(step: Step, parts: Parts, model: PackedModel, where: Where) -> Made:
    return _moved(step, parts, model, where, list(step.attributes["axes"]))


_HEADS: dict[str, Callable[[Step, Parts, PackedModel, Where], Made]] = {
    "bit_linear": _bit_linear,
    "linear": _linear,
    "bit_conv2d": _bit_conv2d,
    "conv2d": _conv2d,
    "max_pool2d": _max_pool,
    "avg_pool2d": _average,
    "mean_pool": _mean_pool,
    "mean_magnitude": _mean_magnitude,
    "concatenate": _concatenate,
    "prepend": _prepend,
    "slice": _slice,
    "flatten": _flatten,
    "transpose": _transpose,
}
