"""What the arithmetic and the layers that a model calls as functions become in a program."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.packing.activations import ACTIVATIONS
from onebit.packing.attending import added_to_scores
from onebit.packing.called import called, called_as
from onebit.packing.constants import affine
from onebit.packing.handlers import packs_function
from onebit.packing.layers.pooling import largest
from onebit.packing.layouts import arranged, reshaped, settled
from onebit.packing.recorder import Recorder
from onebit.packing.shaping import axis_of, squeeze
from onebit.packing.values import BATCH, Scores, Value


@packs_function("", "contiguous", "float", "clone", "type_as", "to")
def _same(r: Recorder, input: Value, *args: Any, **kwargs: Any) -> Value:
    return input


@packs_function("add", operator.add, operator.iadd, torch.add, "add", "add_")
def _add(r: Recorder, input: Any, other: Any, alpha: float = 1) -> Any:
    if alpha != 1:
        raise r.fail("add with alpha cannot be packed: multiply before")
    return _sum(r, input, other)


def _sum(r: Recorder, first: Any, second: Any) -> Any:
    for scores, added in ((first, second), (second, first)):
        if isinstance(scores, Scores):
            return added_to_scores(r, scores, added)
    if isinstance(first, Value) and isinstance(second, Value):
        x, y = _together(r, first, second)
        if x.shape != y.shape:
            raise r.fail(
                f"a sum of tensors of shapes {first.spelled()} and {second.spelled()} cannot be packed: use equal ones"
            )
        return x.renamed(r.step("add", [x.name, y.name]))
    x, constant = (first, second) if isinstance(first, Value) else (second, first)
    return affine(r, x, None, constant)


def _together(r: Recorder, first: Value, second: Value) -> tuple[Value, Value]:
    """Two tensors in one order, the larger first, as values of the shapes that a step takes."""
    if math.prod(first.shape) < math.prod(second.shape):
        first, second = second, first
    if len(first.axes) != len(second.axes):
        shapes = f"{first.spelled()} and {second.spelled()}"
        raise r.fail(f"tensors of shapes {shapes} cannot be packed together: give them as many axes")
    second = arranged(r, second, first.axes)
    if first.shape == second.shape:
        if r.shape(first.name) != r.shape(second.name):
            first, second = first.renamed(settled(r, first)), second.renamed(settled(r, second))
        return first, second
    return first.renamed(settled(r, first)), second


@packs_function("sub", operator.sub, operator.isub, torch.sub, "sub")
def _subtract(r: Recorder, input: Any, other: Any) -> Value:
    if isinstance(other, Value):
        minus = affine(r, other, -1.0, None)
        return _sum(r, input, minus)
    return affine(r, input, None, -other)


@packs_function("neg", operator.neg, torch.neg, "neg")
def _negative(r: Recorder, input: Value) -> Value:
    return affine(r, input, -1.0, None)


@packs_function("mul", operator.mul, operator.imul, torch.mul, "mul", "mul_")
def _multiply(r: Recorder, input: Any, other: Any) -> Any:
    if isinstance(input, Value) and isinstance(other, Value):
        return _product(r, input, other)
    x, constant = (input, other) if isinstance(input, (Value, Scores)) else (other, input)
    if isinstance(x, Scores):
        return _scaled_scores(r, x, constant)
    if isinstance(constant, (int, float)) and 0 < constant < float("inf"):
        return x.renamed(r.step("scale", [x.name], {"factor": float(constant)}))
    return affine(r, x, constant, None)


def _scaled_scores(r: Recorder, scores: Scores, factor: Any) -> Scores:
    number = factor.item() if isinstance(factor, Tensor) and factor.numel() == 1 else factor
    if not isinstance(number, (int, float)) or not number > 0 or scores.weights:
        raise r.fail("scores of an attention can be packed only times a number above 0")
    return replace(scores, factor=scores.factor * float(number), seen=scores.seen.scaled(float(number)))


def _product(r: Recorder, first: Value, second: Value) -> Value:
    x, y = _together(r, first, second)
    if x.shape == y.shape:
        return x.renamed(r.step("multiply", [x.name, y.name]))
    if y.shape == (*x.shape[:-1], 1):  # a number for each row
        return x.renamed(r.step("multiply", [x.name, settled(r, y)]))
    if y.shape == (*[1] * (len(x.shape) - 1), x.shape[-1]):  # a number for each channel, as of squeeze and excitation
        return x.renamed(r.step("multiply", [x.name, settled(r, Value(y.name, y.shape[-1:], (BATCH, 0)))]))
    raise r.fail(f"a product of tensors of shapes {first.spelled()} and {second.spelled()} cannot be packed")


@packs_function("div", operator.truediv, torch.div, "div")
def _divide(r: Recorder, input: Any, other: Any) -> Any:
    if not isinstance(input, (Value, Scores)) or isinstance(other, Value):
        raise r.fail("a quotient of tensors cannot be packed: divide by a number")
    return _multiply(r, input, 1 / other)


def _activation(op: str) -> Callable[..., Value]:
    """A function of one tensor that is an op."""

    def make(r: Recorder, input: Value, inplace: bool = False) -> Value:
        return input.renamed(r.step(op, [input.name]))

    return make


for _made in ACTIVATIONS:
    if _made.functions:
        packs_function(_made.op, *_made.functions)(_activation(_made.op))


@packs_function("gelu", F.gelu)
def _gelu(r: Recorder, input: Value, approximate: str = "none") -> Value:
    return called_as(r, nn.GELU(approximate), input)


@packs_function("mean((2, 3))", torch.mean, "mean")
def _mean(r: Recorder, input: Value, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Value:
    if dtype is not None:
        raise r.fail("a mean with a dtype cannot be packed: leave it out")
    return _over_positions(r, input, dim, keepdim, lambda name: r.step("mean_pool", [name]), "mean")


@packs_function("max", torch.max, "max")
def _max(r: Recorder, input: Value, dim: Any = None, keepdim: bool = False) -> tuple[Value, None]:
    """The largest numbers along one axis; a program does not give their places."""
    if not isinstance(dim, int):
        raise r.fail("max of two tensors, or over all axes, cannot be packed: use max over one axis, or amax")
    return _amax(r, input, dim, keepdim), None


@packs_function("amax((2, 3))", torch.amax, "amax")
def _amax(r: Recorder, input: Value, dim: Any = (), keepdim: bool = False) -> Value:
    return _over_positions(r, input, dim, keepdim, lambda name: largest(r, name), "amax")


def _over_positions(r: Recorder, x: Value, dim: Any, keepdim: bool, step: Callable[[str], str], word: str) -> Value:
    """What a step makes of the positions of each channel: over height and width, or over any axes, which are brought first."""
    dims = dim if isinstance(dim, (list, tuple)) else [0 if dim is None else dim]
    axes = sorted({axis_of(r, x, axis) for axis in dims})
    count = len(x.shape)
    if not axes or any(x.axes[axis] == BATCH for axis in axes):
        raise r.fail(f"{word} over the batch cannot be packed: name the other axes, as in {word}((2, 3))")
    if len(axes) == count:
        raise r.fail(f"{word} over all axes cannot be packed: leave one, or flatten and use a layer")
    places = sorted(x.axes[axis] for axis in axes)
    if places == list(range(count - 1)) and count in (2, 3):
        y = Value(step(settled(r, x)), (*[1] * (count - 1), x.shape[-1]), x.axes)
        return y if keepdim else squeeze(r, y, axes)
    order = [*places, *(place for place in range(count) if place not in places)]
    x = arranged(r, x, tuple(BATCH if place == BATCH else order.index(place) for place in x.axes))
    rest = x.shape[len(places) :]
    rows = reshaped(r, x.name, (math.prod(x.shape[: len(places)]), math.prod(rest)))
    y = Value(step(rows), (*[1] * len(places), *rest), x.axes)
    return y if keepdim else squeeze(r, y, axes)


@packs_function("argmax", torch.argmax, "argmax")
def _argmax(r: Recorder, input: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    if dim is None:
        raise r.fail("argmax over everything cannot be packed: give dim")
    axis = axis_of(r, input, dim)
    x = _axis_last(r, input, axis)
    y = Value(r.step("argmax", [settled(r, x)]), (*x.shape[:-1], 1), x.axes)
    return y if keepdim else squeeze(r, y, axis)


def _axis_last(r: Recorder, x: Value, axis: int) -> Value:
    """With an axis of PyTorch's as the last of the program."""
    place = x.axes[axis]
    if place == BATCH:
        raise r.fail("an operation along the batch cannot be packed")
    others = [other for other in range(len(x.shape)) if other != place]
    order = {other: number for number, other in enumerate([*others, place])}
    return arranged(r, x, tuple(BATCH if a == BATCH else order[a] for a in x.axes))


def _max_pool(layer: type[nn.Module]) -> Callable[..., Value]:
    """A handler of a function, whose last two arguments stand the other way round in its layer."""

    def handler(
        r: Recorder,
        input: Value,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Value:
        return called_as(r, layer(kernel_size, stride, padding, dilation, return_indices, ceil_mode), input)

    return handler


def _pool(layer: type[nn.Module]) -> Callable[..., Value]:
    """A handler of a function that takes the arguments of its layer."""
    return lambda r, input, *args, **kwargs: called_as(r, layer(*args, **kwargs), input)


packs_function("max_pool1d", F.max_pool1d, torch.max_pool1d)(_max_pool(nn.MaxPool1d))
packs_function("max_pool2d", F.max_pool2d, torch.max_pool2d)(_max_pool(nn.MaxPool2d))
packs_function("max_pool3d", F.max_pool3d, torch.max_pool3d)(_max_pool(nn.MaxPool3d))
packs_function("avg_pool2d", F.avg_pool2d)(_pool(nn.AvgPool2d))
packs_function("avg_pool3d", F.avg_pool3d)(_pool(nn.AvgPool3d))
packs_function("adaptive_avg_pool2d(1)", F.adaptive_avg_pool2d)(_pool(nn.AdaptiveAvgPool2d))
packs_function("adaptive_avg_pool3d(1)", F.adaptive_avg_pool3d)(_pool(nn.AdaptiveAvgPool3d))
packs_function("adaptive_max_pool2d(1)", F.adaptive_max_pool2d)(_pool(nn.AdaptiveMaxPool2d))


@packs_function("interpolate", F.interpolate)
def _interpolate(
    r: Recorder,
    input: Value,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Value:
    if antialias or recompute_scale_factor:
        raise r.fail("interpolate with antialias or recompute_scale_factor cannot be packed")
    return called_as(r, nn.Upsample(size, scale_factor, mode, align_corners), input)


@packs_function("dropout", F.dropout, torch.dropout)
def _dropout(r: Recorder, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    if training and p:
        raise r.fail("a dropout that is always on cannot be packed: call it with training=self.training")
    return input


@packs_function("clamp", torch.clamp, "clamp", "clamp_", torch.clip, "clip")
def _clamp(r: Recorder, input: Value, min: Any = None, max: Any = None) -> Value:
    if not isinstance(min, (int, float)) or not isinstance(max, (int, float)):
        raise r.fail("clamp can be packed only with two numbers: give min and max")
    return input.renamed(r.step("clip", [input.name], {"low": float(min), "high": float(max)}))


@packs_function("hardtanh", F.hardtanh)
def _hardtanh(r: Recorder, input: Value, min_val: float = -1, max_val: float = 1, inplace: bool = False) -> Value:
    return _clamp(r, input, min_val, max_val)


@packs_function("leaky_relu", F.leaky_relu)
def _leaky_relu(r: Recorder, input: Value, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    return called_as(r, nn.LeakyReLU(negative_slope), input)


@packs_function("layer_norm", F.layer_norm)
def _layer_norm(
    r: Recorder,
    input: Value,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Value:
    layer = nn.LayerNorm(list(normalized_shape), eps, weight is not None, bias is not None, device="meta")
    for role, given in (("weight", weight), ("bias", bias)):
        # What is made of a parameter is no parameter of its own.
        part = given if given is None or isinstance(given, nn.Parameter) else nn.Parameter(given.detach())
        setattr(layer, role, part)
    return called(r, r.unique(), layer, input)


@packs_function("relu6", F.relu6)
def _relu6(r: Recorder, input: Value, inplace: bool = False) -> Value:
    return called_as(r, nn.ReLU6(), input)
