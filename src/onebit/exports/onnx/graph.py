"""An ONNX graph that grows node by node: names, constants, and values of a program with where their channels lie."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onebit.program import Shape, Step

FLOAT, DOUBLE, INT32, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64
# The domain of ops that qonnx defines.
QONNX = "qonnx.custom_op.general"


@dataclass
class Value:
    """A value of the program in the graph.

    An image has a name with channels last, as in the program, or one with channels first, as ONNX's convolutions take it, or both.

    Args:
        shape: without the batch axis, channels last.
        last, first: the names; None until the value is needed so.
    """

    shape: Shape
    last: str | None = None
    first: str | None = None


@dataclass(frozen=True)
class Layer:
    """A step with what it reads.

    Args:
        step: the step.
        tensors: its arrays, by their roles.
        inputs: its input values.
        shape: of its output.
        tokens: whether the program is over tokens.
    """

    step: Step
    tensors: dict[str, NDArray[Any]]
    inputs: list[Value]
    shape: Shape
    tokens: bool

    @property
    def attributes(self) -> Any:
        return self.step.attributes


@dataclass
class Graph:
    """The nodes and constants of a graph.

    Args:
        int2: whether dense weights are written in ONNX's type of 2 bits where they fit.
    """

    int2: bool = False
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    made: dict[Any, str] = field(default_factory=dict)
    _numbers: Any = field(default_factory=itertools.count)

    def inside(self) -> Graph:
        """A graph for the body of a loop: it has nodes of its own, and sees the names and constants of this one."""
        return Graph(self.int2, [], self.constants, dict(self.made), self._numbers)

    def name(self) -> str:
        """A name that no value of a program has: those begin with a letter."""
        return f"_{next(self._numbers)}"

    def node(
        self, op: str, inputs: Sequence[str], outputs: int | Sequence[str] = 1, domain: str = "", **given: Any
    ) -> Any:
        """Add a node; returns the name of its output, or a list of them."""
        names = [self.name() for _ in range(outputs)] if isinstance(outputs, int) else list(outputs)
        self.nodes.append(helper.make_node(op, list(inputs), names, domain=domain or None, **given))
        return names[0] if len(names) == 1 else names

    def once(self, key: Any, make: Any) -> str:
        """The name that `make` returned at its first call with this key."""
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]

    def constant(self, array: Any, dtype: Any = np.float32) -> str:
        """The name of a constant; equal ones are stored once."""
        values = np.asarray(array, dtype, order="C")
        key = ("constant", values.dtype.str, values.shape, sha256(values.tobytes()).digest())

        def store() -> str:
            name = self.name()
            self.constants[name] = numpy_helper.from_array(values, name)
            return name

        return self.once(key, store)

    def int64s(self, *values: int) -> str:
        """A constant for shapes, axes and starts."""
        return self.constant(values, np.int64)

    # Values of the program

    def last(self, value: Value) -> str:
        """The name of a value with its channels last."""
        if value.last is None:
            value.last = self.node("Transpose", [str(value.first)], perm=[0, 2, 3, 1])
        return value.last

    def first(self, value: Value) -> str:
        """The name of an image with its channels first."""
        if value.first is None:
            value.first = self.node("Transpose", [str(value.last)], perm=[0, 3, 1, 2])
        return value.first

    def either(self, value: Value) -> tuple[str, bool]:
        """The name of a value that needs no transposition, and whether its channels are first."""
        return (str(value.first), True) if value.last is None else (value.last, False)

    # Short forms

    def cast(self, name: str, to: int) -> str:
        return self.node("Cast", [name], to=to)

    def reshape(self, name: str, *shape: int) -> str:
        """0 keeps an axis, -1 is what is left."""
        return self.node("Reshape", [name, self.int64s(*shape)])

    def full(self, shape: Sequence[int], number: float) -> str:
        """A constant of equal numbers, which takes no place in the file."""

        def make() -> str:
            value = numpy_helper.from_array(np.array([number], np.float32))
            return self.node("ConstantOfShape", [self.int64s(*shape)], value=value)

        return self.once(("full", tuple(shape), number), make)
