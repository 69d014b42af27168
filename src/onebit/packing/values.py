"""What the nodes of a model's graph are while it is recorded: values of the program, and what has no value of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from onebit.packing.masks import EVERYTHING, Seen
from onebit.packing.recorder import Recorder
from onebit.program import Shape

BATCH = -1
Axes = tuple[int, ...]


def standard_axes(rank: int) -> Axes:
    """The axes of a tensor whose value has so many: images and volumes have channels first in PyTorch and last in a program."""
    return (BATCH, rank - 1, *range(rank - 1)) if rank > 2 else (BATCH, *range(rank))


@dataclass(frozen=True)
class Value:
    """A tensor of the model as the program holds it.

    A change of shape or of the order of axes costs a step only where what follows needs the numbers in another order.

    Args:
        name: the value of the program.
        shape: the numbers of that value, in their order, are seen in this shape.
        axes: for each axis of PyTorch's tensor the axis of `shape` that it is; BATCH for the batch.
    """

    name: str
    shape: Shape
    axes: Axes

    @classmethod
    def of(cls, r: Recorder, name: str, axes: Axes | None = None) -> Value:
        """A value of the program in the standard order, or in another."""
        shape = r.shape(name)
        return cls(name, shape, standard_axes(len(shape)) if axes is None else axes)

    def length(self, axis: int) -> int | None:
        """The length of an axis of PyTorch's tensor; None for the batch."""
        place = self.axes[axis]
        return None if place == BATCH else self.shape[place]

    @property
    def lengths(self) -> tuple[int | None, ...]:
        """The shape of PyTorch's tensor; None for the batch."""
        return tuple(self.length(axis) for axis in range(len(self.axes)))

    def spelled(self) -> str:
        """The shape for an error."""
        return f"({', '.join('batch' if n is None else str(n) for n in self.lengths)})"

    def renamed(self, name: str) -> Value:
        """Another value of the same shape and order."""
        return replace(self, name=name)


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
    """The shape of a value, or the axis of it that was asked for: the batch, of which a program does not know the length."""

    of: Value
    axis: int | None = None


@dataclass(frozen=True)
class Scores:
    """The products of queries with keys on their way to an attention; no step computes them by themselves.

    Args:
        queries, keys: with axes of (batch, heads, rows, features).
        factor: by which the products are multiplied.
        weights: whether they have become the weights of values, by a softmax.
        seen: what a mask shows of them, and what is added to them.
    """

    MISUSE: ClassVar[str] = (
        "a product of tensors can be packed only as an attention: a softmax(-1), and a product with values"
    )

    queries: Value
    keys: Value
    factor: float = 1.0
    weights: bool = False
    seen: Seen = EVERYTHING
