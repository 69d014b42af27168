"""Ops that keep the shape of their first input: functions of one value, and arithmetic with numbers, channels and other values."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from onebit.ops.declared import Floats, Number, Shape, Sizes
from onebit.ops.op import Array, Attributes, Op, Precision, Programs, StepReader, Tensors, channels_of


def sigmoid(x: Array) -> Array:
    """`1 / (1 + e^-x)`."""
    return (1 / (1 + np.exp(-x.astype(np.float64)))).astype(np.float32)


def softmax(x: Array) -> Array:
    """Softmax over the last axis."""
    powers = np.exp(x - x.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True)).astype(np.float32)


def _gelu(x: Array) -> Array:
    erf = np.frompyfunc(math.erf, 1, 1)(x / math.sqrt(2)).astype(np.float32)
    return (x * np.float32(0.5) * (1 + erf)).astype(np.float32)


def hard_sigmoid(x: Array) -> Array:
    """`min(max(x + 3, 0), 6) / 6`."""
    return np.clip(x + np.float32(3), np.float32(0), np.float32(6)) / np.float32(6)


class Function(Op):
    """y = function(x), an op that is only a name and a formula."""

    def __init__(self, name: str, function: Callable[[Array], Array]) -> None:
        self.name = name
        self._function = function

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return self._function(x)


class Clip(Op):
    """y = min(max(x, low), high)."""

    name = "clip"
    attributes = (Number("low"), Number("high"))

    def shape(self, step: StepReader, x: Shape) -> Shape:
        # Engines compare in float32.
        low, high = (float(np.float32(step[name])) for name in ("low", "high"))
        if low >= high:
            raise step.fail(f"low={low!r} is not below high={high!r}")
        return x

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return np.clip(x, np.float32(a["low"]), np.float32(a["high"]))


class Scale(Op):
    """y = x * factor."""

    name = "scale"
    attributes = (Number("factor", True),)

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return x * np.float32(a["factor"])


class PerChannel(Op):
    """An op with tensors of one number per channel."""

    def shape(self, step: StepReader, x: Shape) -> Shape:
        channels_of(step, x)
        return x

    def sizes(self, attributes: Attributes, x: Shape) -> Sizes:
        return {"C": x[-1]}


class ScaleShift(PerChannel):
    """y[..., c] = x[..., c] * scale[c] + shift[c], or without the shift."""

    name = "scale_shift"
    tensors = (Floats("scale", ("C",)), Floats("shift", ("C",), optional=True))

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        scaled = (x * t["scale"]).astype(np.float32)
        return (scaled + t["shift"]).astype(np.float32) if "shift" in t else scaled


class PRelu(PerChannel):
    """y[..., c] = x > 0 ? x : slope[c] * x."""

    name = "prelu"
    tensors = (Floats("slope", ("C",)),)

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return np.where(x > 0, x, x * t["slope"])


class Add(Op):
    """y = x0 + x1, of equal shapes."""

    name = "add"
    inputs = 2

    def shape(self, step: StepReader, x: Shape, y: Shape) -> Shape:
        if x != y:
            raise step.fail(f"its inputs have shapes {x} and {y}: needs equal ones")
        return x

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array, y: Array) -> Array:
        return x + y


class AddConstant(Op):
    """y = x + constant, of equal shapes; the tensor has a row for each of x's."""

    name = "add_constant"
    programs = Programs.ARRAYS
    tensors = (Floats("constant", ("rows", "C")),)

    def sizes(self, attributes: Attributes, x: Shape) -> Sizes:
        return {"rows": math.prod(x[:-1]), "C": x[-1]}

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return (x + t["constant"].reshape(x.shape[1:])).astype(np.float32)


class Multiply(Op):
    """y = x0 * x1, of equal shapes, or with one number of x1 per row or per channel of x0."""

    name = "multiply"
    inputs = 2

    def shape(self, step: StepReader, x: Shape, y: Shape) -> Shape:
        if y not in (x, (*x[:-1], 1), x[-1:]):
            raise step.fail(
                f"its inputs have shapes {x} and {y}: needs equal ones, 1 as the second's last axis, or that axis alone"
            )
        return x

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array, y: Array) -> Array:
        by_channel = y.ndim == 2 and y.shape[1] == x.shape[-1]
        return x * (y.reshape(len(y), *[1] * (x.ndim - 2), -1) if by_channel else y)


OPS: tuple[Op, ...] = (
    Function("gelu", _gelu),
    Function("hard_sigmoid", hard_sigmoid),
    Function("hard_swish", lambda x: x * hard_sigmoid(x)),
    Function("relu", lambda x: np.maximum(x, np.float32(0))),
    Function("relu_squared", lambda x: np.square(np.maximum(x, np.float32(0)))),
    Function("sigmoid", sigmoid),
    Function("silu", lambda x: x * sigmoid(x)),
    Function("softmax", softmax),
    Function("tanh", np.tanh),
    Clip(),
    Scale(),
    ScaleShift(),
    PRelu(),
    Add(),
    AddConstant(),
    Multiply(),
)
