"""What each function that a model calls between its layers becomes in a program."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.packing.activations import ACTIVATIONS

if TYPE_CHECKING:
    from onebit.packing.trace import Builder


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


def _activation(op: str) -> Callable[..., Value]:
    """A function of one tensor that is an op."""

    def make(b: Builder, input: Value, inplace: bool = False) -> Value:
        return Value(b.step(op, [input.name]))

    return make


def _same(b: Builder, input: Value, *args: Any, **kwargs: Any) -> Value:
    return input


def _layer(b: Builder, layer: nn.Module, x: Value) -> Value:
    """What a layer without parameters becomes that does what a function does."""
    return Value(b.layer("", layer.eval(), x.name))


def _add(b: Builder, input: Any, other: Any, alpha: float = 1) -> Value:
    if alpha != 1:
        raise b.fail("add with alpha cannot be packed: multiply before")
    return _sum(b, input, other)


def _sum(b: Builder, first: Any, second: Any) -> Value:
    if isinstance(first, Value) and isinstance(second, Value):
        return Value(b.step("add", [first.name, second.name]))
    x, constant = (first, second) if isinstance(first, Value) else (second, first)
    return _affine(b, x, None, constant)


def _subtract(b: Builder, input: Any, other: Any) -> Value:
    if isinstance(other, Value):
        minus = _affine(b, other, -1.0, None)
        return _sum(b, input, minus)
    return _affine(b, input, None, -other)


def _multiply(b: Builder, input: Any, other: Any) -> Value:
    if isinstance(input, Value) and isinstance(other, Value):
        shapes = b.shape(input.name), b.shape(other.name)
        if sorted(map(len, shapes)) == [1, 3]:
            raise b.fail(
                "a product of an image with a number for each channel (squeeze and excitation) cannot be packed: use a network without it"
            )
        return Value(b.step("multiply", [input.name, other.name]))
    x, constant = (input, other) if isinstance(input, Value) else (other, input)
    if isinstance(constant, (int, float)) and 0 < constant < float("inf"):
        return Value(b.step("scale", [x.name], {"factor": float(constant)}))
    return _affine(b, x, constant, None)


def _divide(b: Builder, input: Any, other: Any) -> Value:
    if not isinstance(input, Value) or isinstance(other, Value):
        raise b.fail("a quotient of tensors cannot be packed: divide by a number")
    return _multiply(b, input, 1 / other)


def _affine(b: Builder, x: Value, scale: Any, shift: Any) -> Value:
    """Numbers, or tensors with one for each channel, as a scale and a shift."""
    channels = b.shape(x.name)[-1]

    def of_channels(constant: Any, empty: float) -> Any:
        if constant is None:
            return np.full(channels, empty, np.float32)
        values = (
            constant.detach().float().cpu().numpy()
            if isinstance(constant, Tensor)
            else np.asarray(constant, np.float32)
        )
        # Images have their channels on the axis before height and width here, rows have them last.
        image = len(b.shape(x.name)) == 3
        if values.size not in (1, channels) or (values.size > 1 and values.shape[-3 if image else -1 :][0] != channels):
            raise b.fail(f"a tensor of shape {values.shape} cannot be packed: use a number, or one for each channel")
        return np.broadcast_to(values.reshape(-1), (channels,))

    return Value(b.scale_shift(x.name, of_channels(scale, 1.0), of_channels(shift, 0.0), b.unique(), "constants"))


def _gelu(b: Builder, input: Value, approximate: str = "none") -> Value:
    return Value(b.gelu(input.name, approximate))


def _flatten(b: Builder, input: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    if start_dim != 1 or end_dim not in (-1, len(b.shape(input.name))):
        raise b.fail("flatten must keep the batch axis and flatten all others: use flatten(1)")
    return Value(b.flatten(input.name))


def _view(b: Builder, input: Any, *shape: Any) -> Any:
    sizes = list(shape[0]) if len(shape) == 1 and isinstance(shape[0], (list, tuple)) else list(shape)
    if isinstance(input, Tensor):
        return input.reshape(sizes)
    if len(sizes) == 2 and isinstance(sizes[0], Size) and sizes[0].axis == 0:
        inner = int(np.prod(b.shape(input.name)))
        if sizes[1] in (-1, inner):
            return Value(b.flatten(input.name))
    raise b.fail("a change of shape cannot be packed but for one that flattens all axes but the batch: use flatten(1)")


def _size(b: Builder, input: Value, dim: int | None = None) -> Any:
    return Size(input) if dim is None else _item(b, Size(input), dim)


def _getattr(b: Builder, owner: Any, name: str) -> Any:
    if isinstance(owner, Value) and name == "shape":
        return Size(owner)
    if isinstance(owner, Value) and name == "logits":
        return owner  # of a model whose result holds them beside others
    if isinstance(owner, Value) and name == "ndim":
        return len(b.shape(owner.name)) + 1
    raise b.fail(f"the attribute {name!r} cannot be packed")


def _item(b: Builder, owner: Any, index: Any) -> Any:
    """The output of a recurrent layer, the last step of a sequence, or an axis of a shape."""
    if isinstance(owner, Pair):
        if index != 0:
            raise b.fail(f"takes the state of {owner.layer}, which a program does not give: take the output, [0]")
        return owner.output
    if isinstance(owner, Value) and index == (slice(None), -1) and len(b.shape(owner.name)) == 2:
        return Value(b.step("last", [owner.name]))
    if not isinstance(owner, Size) or not isinstance(index, int):
        raise b.fail(f"the index {index} cannot be packed: use [:, -1] of a sequence, or [0] of a recurrent layer")
    shape = b.shape(owner.of.name)
    index = index % (len(shape) + 1)
    if index == 0:
        return Size(owner.of, 0)
    return ((shape[2], *shape[:2]) if len(shape) == 3 else shape)[index - 1]  # channels stand first in PyTorch


def _mean(b: Builder, input: Value, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Value:
    count = len(b.shape(input.name)) + 1
    axes = sorted(axis % count for axis in (dim if isinstance(dim, (list, tuple)) else [0 if dim is None else dim]))
    if (count, axes) not in ((4, [2, 3]), (3, [1])) or dtype is not None:
        raise b.fail(
            "a mean cannot be packed but for one over height and width, or over time: use mean((2, 3)) or mean(1)"
        )
    return Value(
        b.step("mean_pool", [input.name])
    )  # kept axes of one are left out: nothing that may follow looks at them


def _softmax(b: Builder, input: Value, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Value:
    return _layer(b, nn.Softmax(dim), input)


def _avg_pool2d(
    b: Builder,
    input: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: Any = None,
) -> Value:
    layer = nn.AvgPool2d(kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return _layer(b, layer, input)


def _max_pool2d(
    b: Builder,
    input: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    return _layer(b, nn.MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode), input)


def _adaptive_avg_pool2d(b: Builder, input: Value, output_size: Any) -> Value:
    return _layer(b, nn.AdaptiveAvgPool2d(output_size), input)


def _dropout(b: Builder, input: Value, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    if training:
        raise b.fail("a dropout that is always on cannot be packed: give it training=self.training")
    return input


def _clamp(b: Builder, input: Value, min: Any = None, max: Any = None) -> Value:
    if not isinstance(min, (int, float)) or not isinstance(max, (int, float)):
        raise b.fail("clamp cannot be packed but with two numbers")
    return Value(b.step("clip", [input.name], {"low": float(min), "high": float(max)}))


def _hardtanh(b: Builder, input: Value, min_val: float = -1, max_val: float = 1, inplace: bool = False) -> Value:
    return _clamp(b, input, min_val, max_val)


def _leaky_relu(b: Builder, input: Value, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    return _layer(b, nn.LeakyReLU(negative_slope), input)


def _layer_norm(
    b: Builder,
    input: Value,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Value:
    layer = nn.LayerNorm(list(normalized_shape), eps, weight is not None, bias is not None, device="meta")
    layer.weight, layer.bias = weight, bias  # type: ignore[assignment]
    return Value(b.layer(b.unique(), layer, input.name))


# Each function: the word for it in an error, empty where an error has no need of it; what becomes of it; and what a graph calls, functions by
# themselves and methods by their names.
_TABLE: tuple[tuple[str, Callable[..., Any], tuple[Any, ...]], ...] = (
    ("add", _add, (operator.add, operator.iadd, torch.add, "add", "add_")),
    ("sub", _subtract, (operator.sub, operator.isub, torch.sub, "sub")),
    ("mul", _multiply, (operator.mul, operator.imul, torch.mul, "mul", "mul_")),
    ("div", _divide, (operator.truediv, torch.div, "div")),
    *((made.op, _activation(made.op), made.functions) for made in ACTIVATIONS if made.functions),
    ("gelu", _gelu, (F.gelu,)),
    ("relu6", lambda b, input, inplace=False: _clamp(b, input, 0, 6), (F.relu6,)),
    ("hardtanh", _hardtanh, (F.hardtanh,)),
    ("hardsigmoid", lambda b, input, inplace=False: _layer(b, nn.Hardsigmoid(), input), (F.hardsigmoid,)),
    ("hardswish", lambda b, input, inplace=False: _layer(b, nn.Hardswish(), input), (F.hardswish,)),
    ("leaky_relu", _leaky_relu, (F.leaky_relu,)),
    ("clamp", _clamp, (torch.clamp, "clamp", "clamp_", torch.clip, "clip")),
    ("softmax(1)", _softmax, (torch.softmax, F.softmax, "softmax")),
    ("flatten(1)", _flatten, (torch.flatten, "flatten")),
    ("", _view, ("view", "reshape", torch.reshape)),
    ("", _size, ("size",)),
    ("", _getattr, (getattr,)),
    ("", _item, (operator.getitem,)),
    ("mean((2, 3))", _mean, (torch.mean, "mean")),
    ("max_pool2d", _max_pool2d, (F.max_pool2d, torch.max_pool2d)),
    ("avg_pool2d", _avg_pool2d, (F.avg_pool2d,)),
    ("adaptive_avg_pool2d(1)", _adaptive_avg_pool2d, (F.adaptive_avg_pool2d,)),
    ("layer_norm", _layer_norm, (F.layer_norm,)),
    ("dropout", _dropout, (F.dropout, torch.dropout)),
    ("", _same, ("contiguous", "float", "clone")),
)
FUNCTIONS: dict[Any, Callable[..., Any]] = {call: make for _, make, calls in _TABLE for call in calls}
KNOWN = ", ".join(word for word, _, _ in _TABLE if word)
