"""What each function that a model calls between its layers becomes in a program."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.packing.activations import ACTIVATIONS
from onebit.packing.handlers import pack_layer, packs_function
from onebit.packing.recorder import Recorder


@dataclass(frozen=True)
class Value:
    """A value of the program, by its name."""

    name: str


@dataclass(frozen=True)
class Pair:
    """What a recurrent layer gives: its output, and a state that a program does not give.

    Args:
        layer: its name.
        output: the value.
    """

    layer: str
    output: Value

    @property
    def misuse(self) -> str:
        """What is wrong where it is used as one tensor."""
        return f"takes the output and the state of {self.layer} together: take the output, [0]"


@dataclass(frozen=True)
class Size:
    """The shape of a value, or the axis of it that was asked for."""

    of: Value
    axis: int | None = None


@packs_function("", "contiguous", "float", "clone")
def _same(r: Recorder, input: Value, *args: Any, **kwargs: Any) -> Value:
    return input


def _layer(r: Recorder, layer: nn.Module, x: Value) -> Value:
    """The steps of a layer without parameters that computes the same as a function."""
    return Value(pack_layer(r, "", layer.eval(), x.name))


@packs_function("add", operator.add, operator.iadd, torch.add, "add", "add_")
def _add(r: Recorder, input: Any, other: Any, alpha: float = 1) -> Value:
    if alpha != 1:
        raise r.fail("add with alpha cannot be packed: multiply before")
    return _sum(r, input, other)


def _sum(r: Recorder, first: Any, second: Any) -> Value:
    if isinstance(first, Value) and isinstance(second, Value):
        return Value(r.step("add", [first.name, second.name]))
    x, constant = (first, second) if isinstance(first, Value) else (second, first)
    return _affine(r, x, None, constant)


@packs_function("sub", operator.sub, operator.isub, torch.sub, "sub")
def _subtract(r: Recorder, input: Any, other: Any) -> Value:
    if isinstance(other, Value):
        minus = _affine(r, other, -1.0, None)
        return _sum(r, input, minus)
    return _affine(r, input, None, -other)


@packs_function("mul", operator.mul, operator.imul, torch.mul, "mul", "mul_")
def _multiply(r: Recorder, input: Any, other: Any) -> Value:
    if isinstance(input, Value) and isinstance(other, Value):
        # A number for each channel, as squeeze and excitation gives it, comes second.
        first, second = sorted((input.name, other.name), key=lambda name: -len(r.shape(name)))
        return Value(r.step("multiply", [first, second]))
    x, constant = (input, other) if isinstance(input, Value) else (other, input)
    if isinstance(constant, (int, float)) and 0 < constant < float("inf"):
        return Value(r.step("scale", [x.name], {"factor": float(constant)}))
    return _affine(r, x, constant, None)


@packs_function("div", operator.truediv, torch.div, "div")
def _divide(r: Recorder, input: Any, other: Any) -> Value:
    if not isinstance(input, Value) or isinstance(other, Value):
        raise r.fail("a quotient of tensors cannot be packed: divide by a number")
    return _multiply(r, input, 1 / other)


def _affine(r: Recorder, x: Value, scale: Any, shift: Any) -> Value:
    """Numbers, or tensors with one for each channel, as a scale and a shift."""
    channels = r.shape(x.name)[-1]

    def of_channels(constant: Any, empty: float) -> Any:
        if constant is None:
            return np.full(channels, empty, np.float32)
        values = (
            constant.detach().float().cpu().numpy()
            if isinstance(constant, Tensor)
            else np.asarray(constant, np.float32)
        )
        # Images have their channels on the axis before height and width here, rows have them last.
        image = len(r.shape(x.name)) == 3
        if values.size not in (1, channels) or (values.size > 1 and values.shape[-3 if image else -1 :][0] != channels):
            raise r.fail(f"a tensor of shape {values.shape} cannot be packed: use a number, or one for each channel")
        return np.broadcast_to(values.reshape(-1), (channels,))

    return Value(r.scale_shift(x.name, of_channels(scale, 1.0), of_channels(shift, 0.0), r.unique(), "constants"))


def _activation(op: str) -> Callable[..., Value]:
    """A function of one tensor that is an op."""

    def make(r: Recorder, input: Value, inplace: bool = False) -> Value:
        return Value(r.step(op, [input.name]))

    return make


for _made in ACTIVATIONS:
    if _made.functions:
        packs_function(_made.op, *_made.functions)(_activation(_made.op))


@packs_function("gelu", F.gelu)
def _gelu(r: Recorder, input: Value, approximate: str = "none") -> Value:
    return _layer(r, nn.GELU(approximate), input)


@packs_function("flatten(1)", torch.flatten, "flatten")
def _flatten(r: Recorder, input: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    if start_dim != 1 or end_dim not in (-1, len(r.shape(input.name))):
        raise r.fail("flatten must keep the batch axis and flatten all others: use flatten(1)")
    return _layer(r, nn.Flatten(), input)


@packs_function("", "view", "reshape", torch.reshape)
def _view(r: Recorder, input: Any, *shape: Any) -> Any:
    sizes = list(shape[0]) if len(shape) == 1 and isinstance(shape[0], (list, tuple)) else list(shape)
    if isinstance(input, Tensor):
        return input.reshape(sizes)
    if len(sizes) == 2 and isinstance(sizes[0], Size) and sizes[0].axis == 0:
        inner = int(np.prod(r.shape(input.name)))
        if sizes[1] in (-1, inner):
            return _layer(r, nn.Flatten(), input)
    raise r.fail("only a change of shape that flattens all axes after the batch can be packed: use flatten(1)")


@packs_function("", "size")
def _size(r: Recorder, input: Value, dim: int | None = None) -> Any:
    return Size(input) if dim is None else _item(r, Size(input), dim)


@packs_function("", getattr)
def _getattr(r: Recorder, owner: Any, name: str) -> Any:
    if isinstance(owner, Value) and name == "shape":
        return Size(owner)
    if isinstance(owner, Value) and name == "logits":
        return owner  # of a model whose result holds other values too
    if isinstance(owner, Value) and name == "ndim":
        return len(r.shape(owner.name)) + 1
    raise r.fail(f"the attribute {name!r} cannot be packed")


@packs_function("", operator.getitem)
def _item(r: Recorder, owner: Any, index: Any) -> Any:
    """The output of a recurrent layer, the last step of a sequence, or an axis of a shape."""
    if isinstance(owner, Pair):
        if index != 0:
            raise r.fail(f"takes the state of {owner.layer}, which a program does not give: take the output, [0]")
        return owner.output
    if isinstance(owner, Value) and index == (slice(None), -1) and len(r.shape(owner.name)) == 2:
        return Value(r.step("last", [owner.name]))
    if not isinstance(owner, Size) or not isinstance(index, int):
        raise r.fail(f"the index {index} cannot be packed: use [:, -1] of a sequence, or [0] of a recurrent layer")
    shape = r.shape(owner.of.name)
    index = index % (len(shape) + 1)
    if index == 0:
        return Size(owner.of, 0)
    return ((shape[2], *shape[:2]) if len(shape) == 3 else shape)[index - 1]  # channels come first in PyTorch


@packs_function("mean((2, 3))", torch.mean, "mean")
def _mean(r: Recorder, input: Value, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Value:
    count = len(r.shape(input.name)) + 1
    axes = sorted(axis % count for axis in (dim if isinstance(dim, (list, tuple)) else [0 if dim is None else dim]))
    if (count, axes) not in ((4, [2, 3]), (3, [1])) or dtype is not None:
        raise r.fail("only a mean over height and width, or over time, can be packed: use mean((2, 3)) or mean(1)")
    return Value(
        r.step("mean_pool", [input.name])
    )  # axes of length one that keepdim leaves are dropped: no step that may follow reads them


@packs_function("softmax(1)", torch.softmax, F.softmax, "softmax")
def _softmax(r: Recorder, input: Value, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Value:
    return _layer(r, nn.Softmax(dim), input)


@packs_function("avg_pool2d", F.avg_pool2d)
def _avg_pool2d(
    r: Recorder,
    input: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: Any = None,
) -> Value:
    layer = nn.AvgPool2d(kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return _layer(r, layer, input)


@packs_function("max_pool2d", F.max_pool2d, torch.max_pool2d)
def _max_pool2d(
    r: Recorder,
    input: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    return _layer(r, nn.MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode), input)


@packs_function("adaptive_avg_pool2d(1)", F.adaptive_avg_pool2d)
def _adaptive_avg_pool2d(r: Recorder, input: Value, output_size: Any) -> Value:
    return _layer(r, nn.AdaptiveAvgPool2d(output_size), input)


@packs_function("dropout", F.dropout, torch.dropout)
def _dropout(r: Recorder, input: Value, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    if training:
        raise r.fail("a dropout that is always on cannot be packed: call it with training=self.training")
    return input


@packs_function("clamp", torch.clamp, "clamp", "clamp_", torch.clip, "clip")
def _clamp(r: Recorder, input: Value, min: Any = None, max: Any = None) -> Value:
    if not isinstance(min, (int, float)) or not isinstance(max, (int, float)):
        raise r.fail("clamp can be packed only with two numbers: give min and max")
    return Value(r.step("clip", [input.name], {"low": float(min), "high": float(max)}))


@packs_function("hardtanh", F.hardtanh)
def _hardtanh(r: Recorder, input: Value, min_val: float = -1, max_val: float = 1, inplace: bool = False) -> Value:
    return _clamp(r, input, min_val, max_val)


@packs_function("leaky_relu", F.leaky_relu)
def _leaky_relu(r: Recorder, input: Value, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    return _layer(r, nn.LeakyReLU(negative_slope), input)


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
    layer.weight, layer.bias = weight, bias  # type: ignore[assignment]
    return Value(pack_layer(r, r.unique(), layer, input.name))


@packs_function("relu6", F.relu6)
def _relu6(r: Recorder, input: Value, inplace: bool = False) -> Value:
    return _layer(r, nn.ReLU6(), input)
