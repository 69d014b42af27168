"""Layers with products: dense layers, convolutions, transposed convolutions, embeddings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from onebit.errors import OnebitError
from onebit.exports.onnx.graph import FLOAT, Graph, Layer, Value
from onebit.exports.onnx.weights import bias, scaled, weight
from onebit.ops.binary import planes_of
from onebit.ops.bit_rows import row_bytes
from onebit.ops.quantize import largest_level
from onebit.ops.sparse import filled

# float32 holds every whole number up to here.
EXACT = 1 << 24


class Inexact(OnebitError):
    """A layer whose sums float32 does not hold."""


def quantized(g: Graph, x: str, kind: Any, axes: tuple[int, ...]) -> tuple[str, str | None]:
    """The levels of a layer's inputs, and the scale of a level; None if that is 1. `axes` are those that share a scale."""
    if kind["quantizer"] == "sign":
        positive = g.node("GreaterOrEqual", [x, g.constant(0)])
        return g.node("Where", [positive, g.constant(1), g.constant(-1)]), None
    top = largest_level(kind)
    if kind["quantizer"] == "unit":
        number = g.node("Where", [g.node("IsNaN", [x]), g.constant(0), x])
        inside = g.node("Clip", [number, g.constant(0), g.constant(1)])
        return g.node("Round", [g.node("Mul", [inside, g.constant(top)])]), g.constant(np.float32(1) / np.float32(top))
    largest = g.node("ReduceMax", [g.node("Abs", [x]), g.int64s(*axes)], keepdims=1)
    high = g.node("Max", [largest, g.constant(1e-5)])
    levels = g.node("Round", [g.node("Mul", [x, g.node("Div", [g.constant(top), high])])])
    return g.node("Clip", [levels, g.constant(-top), g.constant(top)]), g.node("Div", [high, g.constant(top)])


def sums(g: Graph, layer: Layer, x: str, inputs: int, axes: tuple[int, ...], apply: Callable[[str], str]) -> str:
    """The sums of a layer of bits: `apply` is the product with its weight, `inputs` the number of weights of an output."""
    a = layer.attributes
    if "input" not in a:
        return apply(x)
    levels, scale = quantized(g, x, a["input"], axes)
    most = inputs * sum(planes_of(a))
    top = largest_level(a["input"])
    if most * top < EXACT:
        exact = whole(g, apply(levels))
    else:
        exact = _in_two(g, levels, most, top, apply)
    return exact if scale is None else g.node("Mul", [exact, scale])


def whole(g: Graph, sums: str) -> str:
    """Whole numbers as they are. Without this node a runtime may fold what follows into the weights, and would round otherwise."""
    return str(g.node("Round", [sums]))


def _in_two(g: Graph, levels: str, most: int, top: int, apply: Callable[[str], str]) -> str:
    """Sums that float32 does not hold: those of the levels' upper and lower digits, added as integers and rounded once."""
    base = 1 << ((top.bit_length() + 1) // 2)
    if most * max(base, top // base + 1) >= EXACT:
        raise Inexact("sums that float32 does not hold")
    upper = g.node("Floor", [g.node("Div", [levels, g.constant(base)])])
    lower = g.node("Sub", [levels, g.node("Mul", [upper, g.constant(base)])])
    parts = [g.cast(whole(g, apply(part)), 6) for part in (upper, lower)]
    together = g.node("Add", [g.node("Mul", [parts[0], g.constant(base, np.int32)]), parts[1]])
    return g.cast(together, FLOAT)


def plus(g: Graph, x: str, bias: str | None) -> str:
    return x if bias is None else g.node("Add", [x, bias])


def linear(g: Graph, layer: Layer) -> Value:
    t = layer.tensors
    product = g.node("MatMul", [g.last(layer.inputs[0]), g.constant(t["weight"].T)])
    return Value(layer.shape, plus(g, product, g.constant(t["bias"]) if "bias" in t else None))


def sparse_linear(g: Graph, layer: Layer) -> Value:
    """With its zeros: ONNX's sparse tensors reach few runtimes."""
    return linear(g, replace(layer, tensors={**layer.tensors, "weight": filled(layer.attributes, layer.tensors)}))


def bit_linear(g: Graph, layer: Layer) -> Value:
    a, t = layer.attributes, layer.tensors
    shape = (a["out_features"], a["in_features"])
    x = g.last(layer.inputs[0])
    own = bias(g, a, t, shape[0])
    if "group" in a:
        levels = weight(g, a, t["weight"], shape, (0, 1), a.get("zero", 0))
        turned = g.node("Transpose", [scaled(g, levels, t["scale"], shape)], perm=[1, 0])
        return Value(layer.shape, plus(g, g.node("MatMul", [x, turned]), own))
    matrix = weight(g, a, t["weight"], shape, (1, 0))
    y = sums(g, layer, x, shape[1], (-1,), lambda part: g.node("MatMul", [part, matrix]))
    return Value(layer.shape, plus(g, y, own))


def int8_linear(g: Graph, layer: Layer) -> Value:
    t = layer.tensors
    levels = g.cast(g.constant(t["weight"], np.int8), FLOAT)
    matrix = g.node("Transpose", [scaled(g, levels, t["scale"], t["weight"].shape)], perm=[1, 0])
    return Value(layer.shape, g.node("MatMul", [g.last(layer.inputs[0]), matrix]))


def _window(a: Any) -> dict[str, Any]:
    top, bottom, left, right = a["padding"]
    return {"kernel_shape": a["kernel_size"], "strides": a["stride"], "pads": [top, left, bottom, right]}


def _convolve(a: Any) -> tuple[str, dict[str, Any]]:
    given = {**_window(a), "group": a["groups"]}
    if "output_padding" in a:
        return "ConvTranspose", {**given, "output_padding": a["output_padding"]}
    return "Conv", {**given, "dilations": a["dilation"]}


def _float_kernel(a: Any, w: Any) -> Any:
    """The weight (out, kh, kw, in / groups) in the order of ONNX."""
    if "output_padding" not in a:
        return w.transpose(0, 3, 1, 2)
    out, kh, kw, inputs = w.shape
    parts = w.reshape(a["groups"], out // a["groups"], kh, kw, inputs)
    return parts.transpose(0, 4, 1, 2, 3).reshape(a["groups"] * inputs, out // a["groups"], kh, kw)


def _of_channels(g: Graph, bias: str | None) -> str | None:
    return None if bias is None else g.reshape(bias, -1, 1, 1)


def conv(g: Graph, layer: Layer) -> Value:
    a, t = layer.attributes, layer.tensors
    op, given = _convolve(a)
    inputs = [g.first(layer.inputs[0]), g.constant(_float_kernel(a, t["weight"]))]
    if "bias" in t:
        inputs.append(g.constant(t["bias"]))
    return Value(layer.shape, first=g.node(op, inputs, **given))


def bit_conv(g: Graph, layer: Layer) -> Value:
    a, t = layer.attributes, layer.tensors
    op, given = _convolve(a)
    kh, kw = a["kernel_size"]
    out, inputs, groups = a["out_channels"], a["in_channels"] // a["groups"], a["groups"]
    if op == "Conv":
        kernel = weight(g, a, t["weight"], (out, kh, kw, inputs), (0, 3, 1, 2))
    else:
        # (groups * out of a group, ...) to (groups, in, out of a group, kh, kw), the first two as one axis
        parts = weight(g, a, t["weight"], (groups, out // groups, kh, kw, inputs), (0, 4, 1, 2, 3))
        kernel = g.reshape(parts, groups * inputs, out // groups, kh, kw)
    x = g.first(layer.inputs[0])
    y = sums(g, layer, x, kh * kw * inputs, (1, 2, 3), lambda part: g.node(op, [part, kernel], **given))
    return Value(layer.shape, first=plus(g, y, _of_channels(g, bias(g, a, t, out))))


def conv3d(g: Graph, layer: Layer) -> Value:
    """Volumes have channels last between the steps, and are turned around each convolution."""
    a, t = layer.attributes, layer.tensors
    inputs = a["in_channels"] // a["groups"]
    shape = (a["out_channels"], *a["kernel_size"], inputs)
    padding = a["padding"]
    given = {"kernel_shape": a["kernel_size"], "strides": a["stride"], "dilations": a["dilation"], "group": a["groups"]}
    given["pads"] = [*padding[0::2], *padding[1::2]]
    x = g.node("Transpose", [g.last(layer.inputs[0])], perm=[0, 4, 1, 2, 3])
    if layer.step.op == "conv3d":
        kernel = g.constant(t["weight"].reshape(shape).transpose(0, 4, 1, 2, 3))
        y = g.node("Conv", [x, kernel, *([g.constant(t["bias"])] if "bias" in t else [])], **given)
    else:
        kernel = weight(g, a, t["weight"], shape, (0, 4, 1, 2, 3))
        row = inputs * math.prod(a["kernel_size"])
        y = sums(g, layer, x, row, (1, 2, 3, 4), lambda part: g.node("Conv", [part, kernel], **given))
        own = bias(g, a, t, shape[0])
        y = plus(g, y, None if own is None else g.reshape(own, -1, 1, 1, 1))
    return Value(layer.shape, g.node("Transpose", [y], perm=[0, 2, 3, 4, 1]))


def embedding(g: Graph, layer: Layer) -> Value:
    return _rows(g, layer, g.constant(layer.tensors["weight"]), lambda rows: rows)


def bit_embedding(g: Graph, layer: Layer) -> Value:
    """The rows that are needed are unpacked, not the table."""
    a, t = layer.attributes, layer.tensors
    rows, features, planes = a["rows"], a["features"], len(planes_of(a))
    width = -(-features // 8)
    packed = t["weight"].reshape(planes, rows, row_bytes(features))[:, :, :width].transpose(1, 0, 2)
    table = g.constant(packed, np.uint8)  # (rows, planes, bytes)

    def numbers(found: str) -> str:
        spread = g.node("Unsqueeze", [found, g.int64s(-1)])
        shifts = g.constant(np.arange(8), np.uint8)
        ones = g.node("BitwiseAnd", [g.node("BitShift", [spread, shifts], direction="RIGHT"), g.constant(1, np.uint8)])
        ones = g.cast(g.reshape(ones, 0, 0, planes, width * 8), FLOAT)
        if width * 8 != features:
            ones = g.node("Slice", [ones, g.int64s(0), g.int64s(features), g.int64s(3)])
        factor = 1 if a["values"] == "01" else 2
        offset = a.get("zero", 0) + (0 if factor == 1 else sum(planes_of(a)))
        weighed = g.node("Mul", [ones, g.constant([[factor * plane] for plane in planes_of(a)])])
        levels = g.node("ReduceSum", [weighed, g.int64s(2)], keepdims=0)
        levels = g.node("Sub", [levels, g.constant(offset)])
        if "scale" in t:
            scales = g.cast(_gathered(g, layer, g.constant(t["scale"], np.float16)), FLOAT)
            levels = _times_groups(g, levels, scales, t["scale"].shape[1], features)
        return plus(g, levels, bias(g, a, t, features))

    return _rows(g, layer, table, numbers)


def int8_embedding(g: Graph, layer: Layer) -> Value:
    t, features = layer.tensors, layer.attributes["features"]

    def numbers(found: str) -> str:
        scales = g.cast(_gathered(g, layer, g.constant(t["scale"], np.float16)), FLOAT)
        return _times_groups(g, g.cast(found, FLOAT), scales, t["scale"].shape[1], features)

    return _rows(g, layer, g.constant(t["weight"], np.int8), numbers)


def _times_groups(g: Graph, levels: str, scales: str, groups: int, features: int) -> str:
    parts = g.reshape(levels, 0, 0, groups, features // groups)
    return g.reshape(g.node("Mul", [parts, g.node("Unsqueeze", [scales, g.int64s(-1)])]), 0, 0, features)


def _places(g: Graph, tokens: str) -> str:
    """The positions 0, 1, ... of each token, of the shape of the tokens."""

    def make() -> str:
        time = g.node("Squeeze", [g.node("Shape", [tokens], start=1, end=2)])
        counted = g.node("Range", [g.constant(0, np.int64), time, g.constant(1, np.int64)])
        return str(g.node("Expand", [counted, g.node("Shape", [tokens])]))

    return g.once("places", make)


def _gathered(g: Graph, layer: Layer, table: str) -> str:
    tokens = g.last(layer.inputs[0])
    rows = tokens if layer.attributes["of"] == "token" else _places(g, tokens)
    return str(g.node("Gather", [table, rows]))


def _rows(g: Graph, layer: Layer, table: str, numbers: Callable[[str], str]) -> Value:
    return Value(layer.shape, numbers(_gathered(g, layer, table)))


WRITERS: dict[str, Callable[[Graph, Layer], Value]] = {
    "linear": linear,
    "sparse_linear": sparse_linear,
    "bit_linear": bit_linear,
    "int8_linear": int8_linear,
    "conv2d": conv,
    "conv_transpose2d": conv,
    "conv3d": conv3d,
    "bit_conv3d": conv3d,
    "bit_conv2d": bit_conv,
    "bit_conv_transpose2d": bit_conv,
    "embedding": embedding,
    "bit_embedding": bit_embedding,
    "int8_embedding": int8_embedding,
}
