"""What every task of the table of kinds is: a description of inputs that are arrays, and of what a network answers to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, ClassVar, Self

from onebit.errors import DataError, FormatError, shown
from onebit.strict_json import excerpt

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ArrayTask(ABC):
    """A task whose inputs become arrays of one shape. A run folder and a packed file contain it.

    A subclass is a frozen dataclass with the fields that its JSON holds: numbers, texts, and tuples of them.

    Args:
        temperature: what the network's logits are divided by, where the kind of task fits one; see `onebit.confidence`. Packing makes a step of it,
            so the task of a packed file has 1.

    Raises:
        DataError: a field does not fit the others.
    """

    kind: ClassVar[str]
    """Its name in files."""
    tokens: ClassVar[bool] = False
    """Whether the program takes tokens in place of numbers."""

    temperature: float = field(default=1.0, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        fault = self.fault(self.to_json())
        if fault:
            raise DataError(f"[{type(self).__name__}] {fault}")
        value = self.temperature
        if isinstance(value, bool) or not isinstance(value, Real) or not 1e-30 <= value <= 1e30:
            raise DataError(f"[{type(self).__name__}] temperature={shown(value)}: needs a number above 0")
        object.__setattr__(self, "temperature", float(value))  # also one of NumPy

    @property
    @abstractmethod
    def input_shape(self) -> Shape:
        """The shape of one input as the program takes it: (height, width, channels), (time, features), or (time,) of tokens."""

    @property
    def scaling(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each of the last axis's features, which the program takes away; empty: the inputs are as the network sees them."""
        return (), ()

    @classmethod
    @abstractmethod
    def fault(cls, values: dict[str, Any]) -> str | None:
        """A fault in the fields of JSON, or None."""

    @abstractmethod
    def output_fault(self, shape: Shape) -> str | None:
        """What is wrong with outputs of this shape, or None."""

    def fit_fault(self, input_shape: Shape, output_shape: Shape, tokens: bool) -> str | None:
        """What is wrong with a program of these shapes, or None."""
        if tokens != self.tokens or input_shape != self.input_shape:
            return f"has inputs of {list(self.input_shape)}, but the program takes {list(input_shape)}"
        return self.output_fault(output_shape)

    def to_json(self) -> dict[str, Any]:
        """The task as plain JSON values, with its kind and without its temperature."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "temperature"}
        return {"kind": self.kind, **values}

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """The task from the values of `to_json`. Raises FormatError if they do not describe one."""
        if not isinstance(values, dict) or values.get("kind") != cls.kind:
            kind = values.get("kind") if isinstance(values, dict) else values
            raise FormatError(f"[task] kind {excerpt(kind)}: only {cls.kind!r} is known here")
        fault = cls.fault(values)
        if fault:
            raise FormatError(f"[task] {fault}; the file is damaged")
        return cls.of_json(values)

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Self:
        """The task of values that have been checked."""
        names = [one.name for one in fields(cls) if one.name != "temperature" and one.name in values]
        return cls(**{name: _as_tuples(values[name]) for name in names})


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value
