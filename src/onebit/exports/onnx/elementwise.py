"""Functions of one number, normalisation, and ops that choose, move, join or pool."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from onebit.exports.onnx.graph import Graph, Layer, Value
from onebit.exports.onnx.products import plus
from onebit.ops.resize import nearest
from onebit.program import Shape


def _kept(layer: Layer, name: str, first: bool) -> Value:
    return Value(layer.shape, first=name) if first else Value(layer.shape, name)


def _named(op: str, **given: Any) -> Callable[[Graph, Layer], Value]:
    """An op that ONNX has by this name."""

    def write(g: Graph, layer: Layer) -> Value:
        x, first = g.either(layer.inputs[0])
        return _kept(layer, g.node(op, [x], **given), first)

    return write


def _composed(make: Callable[[Graph, str, Any], str]) -> Callable[[Graph, Layer], Value]:
    """A function of each number that ONNX has in parts."""

    def write(g: Graph, layer: Layer) -> Value:
        x, first = g.either(layer.inputs[0])
        return _kept(layer, make(g, x, layer.attributes), first)

    return write


def _hard_sigmoid(g: Graph, x: str, a: Any) -> str:
    inside = g.node("Clip", [g.node("Add", [x, g.constant(3)]), g.constant(0), g.constant(6)])
    return g.node("Div", [inside, g.constant(6)])


def _relu_squared(g: Graph, x: str, a: Any) -> str:
    positive = g.node("Relu", [x])
    return g.node("Mul", [positive, positive])


def _softmax(g: Graph, layer: Layer) -> Value:
    x, first = g.either(layer.inputs[0])
    return _kept(layer, g.node("Softmax", [x], axis=1 if first else -1), first)


def _per_channel(g: Graph, array: Any, first: bool) -> str:
    return g.constant(array.reshape(-1, 1, 1) if first else array)


def _prelu(g: Graph, layer: Layer) -> Value:
    x, first = g.either(layer.inputs[0])
    return _kept(layer, g.node("PRelu", [x, _per_channel(g, layer.tensors["slope"], first)]), first)


def _scale_shift(g: Graph, layer: Layer) -> Value:
    x, first = g.either(layer.inputs[0])
    y = g.node("Mul", [x, _per_channel(g, layer.tensors["scale"], first)])
    shift = layer.tensors.get("shift")
    return _kept(layer, plus(g, y, None if shift is None else _per_channel(g, shift, first)), first)


def _two(g: Graph, layer: Layer, op: str) -> Value:
    x, y = layer.inputs
    if x.last is None and y.last is None:
        return Value(layer.shape, first=g.node(op, [g.first(x), g.first(y)]))
    return Value(layer.shape, g.node(op, [g.last(x), g.last(y)]))


def _multiply(g: Graph, layer: Layer) -> Value:
    x, y = layer.inputs
    if x.shape == y.shape or len(y.shape) != 1:
        return _two(g, layer, "Mul")
    numbers, first = g.last(y), g.either(x)[1]
    between = [1] * (len(x.shape) - 1)
    by_channel = y.shape[0] == x.shape[-1]
    if by_channel and not first:
        return Value(layer.shape, g.node("Mul", [g.last(x), g.reshape(numbers, 0, *between, -1)]))
    if by_channel:
        return Value(layer.shape, first=g.node("Mul", [g.first(x), g.reshape(numbers, 0, -1, *between)]))
    return Value(layer.shape, g.node("Mul", [g.last(x), numbers]))  # (n, 1) of (n, C)


def _add_constant(g: Graph, layer: Layer) -> Value:
    constant = g.constant(layer.tensors["constant"].reshape(layer.shape))
    return Value(layer.shape, g.node("Add", [g.last(layer.inputs[0]), constant]))


# Normalisation


def centred(g: Graph, x: str, axes: tuple[int, ...], eps: float) -> str:
    over = g.int64s(*axes)
    apart = g.node("Sub", [x, g.node("ReduceMean", [x, over], keepdims=1)])
    # The square is a product and not a power, so that no runtime takes this for its own op, which may sum squares of x.
    return _divided(g, apart, over, eps)


def _divided(g: Graph, x: str, over: str, eps: float) -> str:
    mean = g.node("ReduceMean", [g.node("Mul", [x, x]), over], keepdims=1)
    return g.node("Div", [x, g.node("Sqrt", [g.node("Add", [mean, g.constant(eps)])])])


def _normalize(g: Graph, layer: Layer) -> Value:
    a = layer.attributes
    x, first = g.either(layer.inputs[0])
    if a["over"] == "example":
        axes = tuple(range(1, len(layer.shape) + 1))
    else:
        axes = (1,) if first else (-1,)
    return _kept(layer, centred(g, x, axes, a["eps"]), first)


def _kept_axes(layer: Layer) -> tuple[int, ...]:
    """The axes of a reshape that keep the rows of a value: those of tokens have no fixed length."""
    return (0,) * len(layer.shape) if layer.tokens else (0, *layer.shape[:-1])


def _group_normalize(g: Graph, layer: Layer) -> Value:
    a, x = layer.attributes, layer.inputs[0]
    groups = a["groups"]
    if len(layer.shape) == 3:
        height, width, channels = layer.shape
        parts = g.reshape(g.first(x), 0, groups, -1)
        y = centred(g, parts, (2,), a["eps"])
        return Value(layer.shape, first=g.reshape(y, 0, channels, height, width))
    parts = g.reshape(g.last(x), *_kept_axes(layer), groups, layer.shape[-1] // groups)
    y = centred(g, parts, (-1,), a["eps"])
    return Value(layer.shape, g.reshape(y, *_kept_axes(layer), layer.shape[-1]))


def _rms_normalize(g: Graph, layer: Layer) -> Value:
    a, x = layer.attributes, g.last(layer.inputs[0])
    groups = a.get("groups", 1)
    if groups == 1:
        return Value(layer.shape, _divided(g, x, g.int64s(-1), a["eps"]))
    parts = g.reshape(x, *_kept_axes(layer), groups, layer.shape[-1] // groups)
    y = _divided(g, parts, g.int64s(-1), a["eps"])
    return Value(layer.shape, g.reshape(y, *_kept_axes(layer), layer.shape[-1]))


# Pooling


def _pads(a: Any) -> dict[str, Any]:
    top, bottom, left, right = a["padding"]
    return {"kernel_shape": a["kernel_size"], "strides": a["stride"], "pads": [top, left, bottom, right]}


def _max_pool(g: Graph, layer: Layer) -> Value:
    return Value(layer.shape, first=g.node("MaxPool", [g.first(layer.inputs[0])], **_pads(layer.attributes)))


def _avg_pool(g: Graph, layer: Layer) -> Value:
    a = layer.attributes
    y = g.node("AveragePool", [g.first(layer.inputs[0])], **_pads(a), count_include_pad=int(a["count_include_pad"]))
    return Value(layer.shape, first=y)


def _mean_pool(g: Graph, layer: Layer) -> Value:
    x, first = g.either(layer.inputs[0])
    axes = (2, 3) if first else tuple(range(1, len(layer.inputs[0].shape)))
    return Value(layer.shape, g.node("ReduceMean", [x, g.int64s(*axes)], keepdims=0))


def _mean_magnitude(g: Graph, layer: Layer) -> Value:
    a = layer.attributes
    x, first = g.either(layer.inputs[0])
    if "kernel_size" not in a:
        return _kept(layer, _mean_of(g, x, first), first)
    image = _mean_of(g, g.first(layer.inputs[0]), True)
    kernel = g.full((1, 1, *a["kernel_size"]), 1)
    total = g.node("Conv", [image, kernel], **_pads(a), dilations=a["dilation"])
    return Value(layer.shape, first=g.node("Div", [total, g.constant(math.prod(a["kernel_size"]))]))


def _mean_of(g: Graph, x: str, first: bool) -> str:
    return str(g.node("ReduceMean", [g.node("Abs", [x]), g.int64s(1 if first else -1)], keepdims=1))


# Shapes


def _flatten(g: Graph, layer: Layer) -> Value:
    x = layer.inputs[0]
    source = g.first(x) if layer.attributes["order"] == "chw" else g.last(x)
    return Value(layer.shape, g.reshape(source, 0, -1))


def _shaped(g: Graph, layer: Layer) -> Value:
    return Value(layer.shape, g.reshape(g.last(layer.inputs[0]), 0, *layer.shape))


def _transpose(g: Graph, layer: Layer) -> Value:
    axes = [0, *(axis + 1 for axis in layer.attributes["axes"])]
    return Value(layer.shape, g.node("Transpose", [g.last(layer.inputs[0])], perm=axes))


def _concatenate(g: Graph, layer: Layer) -> Value:
    x, y = layer.inputs
    axis = layer.attributes["axis"]
    if x.last is None and y.last is None:
        return Value(layer.shape, first=g.node("Concat", [g.first(x), g.first(y)], axis=(2, 3, 1)[axis]))
    return Value(layer.shape, g.node("Concat", [g.last(x), g.last(y)], axis=axis + 1))


def _slice(g: Graph, layer: Layer) -> Value:
    a = layer.attributes
    x, first = g.either(layer.inputs[0])
    axis = (2, 3, 1)[a["axis"]] if first else a["axis"] + 1
    return _kept(layer, g.node("Slice", [x, g.int64s(a["start"]), g.int64s(a["stop"]), g.int64s(axis)]), first)


def _last(g: Graph, layer: Layer) -> Value:
    return Value(layer.shape, g.node("Gather", [g.last(layer.inputs[0]), g.constant(-1, np.int64)], axis=1))


def _prepend(g: Graph, layer: Layer) -> Value:
    x, constant = g.last(layer.inputs[0]), layer.tensors["constant"]
    shape = g.node("Concat", [g.node("Shape", [x], start=0, end=1), g.int64s(*constant.shape)], axis=0)
    rows = g.node("Expand", [g.constant(constant), shape])
    return Value(layer.shape, g.node("Concat", [rows, x], axis=1))


def _resize(g: Graph, layer: Layer) -> Value:
    a, x = layer.attributes, layer.inputs[0]
    sides: Shape = x.shape[:2]
    if a["mode"] == "nearest":
        name, first = g.either(x)
        for axis, (before, after) in enumerate(zip(sides, a["size"], strict=True)):
            places = g.constant(nearest(before, after), np.int32)
            name = g.node("Gather", [name, places], axis=axis + (2 if first else 1))
        return _kept(layer, name, first)
    way = "align_corners" if a.get("align_corners", False) else "half_pixel"
    size = g.node("Concat", [g.node("Shape", [g.first(x)], start=0, end=2), g.int64s(*a["size"])], axis=0)
    y = g.node("Resize", [g.first(x), "", "", size], mode="linear", coordinate_transformation_mode=way)
    return Value(layer.shape, first=y)


WRITERS: dict[str, Callable[[Graph, Layer], Value]] = {
    "relu": _named("Relu"),
    "relu_squared": _composed(_relu_squared),
    "gelu": _named("Gelu"),
    "hard_sigmoid": _composed(_hard_sigmoid),
    "hard_swish": _composed(lambda g, x, a: g.node("Mul", [x, _hard_sigmoid(g, x, a)])),
    "sigmoid": _named("Sigmoid"),
    "tanh": _named("Tanh"),
    "silu": _composed(lambda g, x, a: g.node("Mul", [x, g.node("Sigmoid", [x])])),
    "softmax": _softmax,
    "clip": _composed(lambda g, x, a: g.node("Clip", [x, g.constant(a["low"]), g.constant(a["high"])])),
    "scale": _composed(lambda g, x, a: g.node("Mul", [x, g.constant(a["factor"])])),
    "prelu": _prelu,
    "scale_shift": _scale_shift,
    "add": lambda g, layer: _two(g, layer, "Add"),
    "add_constant": _add_constant,
    "multiply": _multiply,
    "normalize": _normalize,
    "group_normalize": _group_normalize,
    "rms_normalize": _rms_normalize,
    "max_pool2d": _max_pool,
    "avg_pool2d": _avg_pool,
    "mean_pool": _mean_pool,
    "mean_magnitude": _mean_magnitude,
    "flatten": _flatten,
    "rows": _shaped,
    "reshape": _shaped,
    "transpose": _transpose,
    "concatenate": _concatenate,
    "slice": _slice,
    "last": _last,
    "prepend": _prepend,
    "resize": _resize,
}
