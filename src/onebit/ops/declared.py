"""The declarations of ops: attributes with their limits, and tensors with their types and shapes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from onebit.ops.bit_rows import row_bytes
from onebit.ops.quantize import QUANTIZERS

Shape = tuple[int, ...]
# The lengths of a step's axes, by their names in docs/program.md.
Sizes = Mapping[str, int]

# No axis, attribute or value of a useful model is larger. The limit keeps every product of two far from 64 bits.
MAX_AXIS = 1 << 24
MAX_AXES = 4
MAX_PLANES = 8
MAX_PLANES_SUM = 255
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Attribute(ABC):
    """An attribute of an op.

    Args:
        name: its name in the program.
        optional: whether a step may leave it out.
    """

    name: str
    optional: bool = field(default=False, kw_only=True)

    @abstractmethod
    def fault(self, value: Any) -> str:
        """The fault of a plain JSON value, as a text that says what is needed; empty if the value is valid."""


@dataclass(frozen=True)
class Integer(Attribute):
    """An integer from `least` to `most`."""

    least: int = field(default=1, kw_only=True)
    most: int = field(default=MAX_AXIS, kw_only=True)

    def fault(self, value: Any) -> str:
        right = _is_size(value, self.least) and value <= self.most
        return "" if right else f"needs an integer from {self.least} to {self.most}"


@dataclass(frozen=True)
class GroupSize(Attribute):
    """The number of inputs that share a scale."""

    ALLOWED: ClassVar[tuple[int, ...]] = (32, 64, 128)

    def fault(self, value: Any) -> str:
        return "" if type(value) is int and value in self.ALLOWED else "use 32, 64 or 128"


@dataclass(frozen=True)
class Integers(Attribute):
    """A list of integers from `least` to 2^24, one per entry of `places`."""

    places: tuple[str, ...]
    least: int = 1

    def fault(self, value: Any) -> str:
        whole = isinstance(value, list) and all(_is_size(v, self.least) for v in value)
        if whole and len(value) == len(self.places):
            return ""
        return f"needs a list of {len(self.places)} integers from {self.least} to {MAX_AXIS}"


@dataclass(frozen=True)
class PerAxis(Attribute):
    """A list of an integer from `least` to `most` for each axis of a value, of which there are 1 to 4."""

    least: int
    most: int

    def fault(self, value: Any) -> str:
        whole = isinstance(value, list) and all(_is_size(v, self.least) and v <= self.most for v in value)
        if whole and 1 <= len(value) <= MAX_AXES:
            return ""
        return f"needs a list of 1 to {MAX_AXES} integers from {self.least} to {self.most}"


@dataclass(frozen=True)
class Number(Attribute):
    """A finite float32 number, above 0 if `positive`."""

    positive: bool = False

    def fault(self, value: Any) -> str:
        if not self.positive:
            return "" if _fits_float32(value) else "needs a finite number"
        # Engines compute in float32, where a number that is too small becomes 0.
        right = _fits_float32(value) and np.float32(float(value)) > 0
        return "" if right else "needs a finite number above 0"


@dataclass(frozen=True)
class Boolean(Attribute):
    """True or false."""

    def fault(self, value: Any) -> str:
        return "" if type(value) is bool else "use true or false"


@dataclass(frozen=True)
class Choice(Attribute):
    """One of a few words."""

    allowed: tuple[str, ...]

    def fault(self, value: Any) -> str:
        right = isinstance(value, str) and value in self.allowed
        return "" if right else f"use {' or '.join(map(repr, self.allowed))}"


@dataclass(frozen=True)
class Planes(Attribute):
    """The weights of a binary layer's bit planes: 1 to 8 integers from 1 on, with a sum of at most 255."""

    def fault(self, value: Any) -> str:
        whole = isinstance(value, list) and all(type(c) is int and c >= 1 for c in value)
        if whole and 1 <= len(value) <= MAX_PLANES and sum(value) <= MAX_PLANES_SUM:
            return ""
        return f"needs 1 to {MAX_PLANES} integers from 1 whose sum is at most {MAX_PLANES_SUM}"


@dataclass(frozen=True)
class Quantizer(Attribute):
    """The quantizer of a binary layer's inputs, with its number of bits if there is a choice."""

    def fault(self, value: Any) -> str:
        if not isinstance(value, dict) or value.get("quantizer") not in list(QUANTIZERS):
            return f"needs a quantizer, one of {', '.join(map(repr, QUANTIZERS))}"
        widths = QUANTIZERS[value["quantizer"]]
        taken = {"quantizer", "bits"} if widths else {"quantizer"}
        if set(value) != taken:
            return f"{value['quantizer']!r} takes {' and '.join(sorted(taken))}"
        if widths and (type(value["bits"]) is not int or value["bits"] not in widths):
            return f"its bits are one of {', '.join(map(str, widths))}"
        return ""


@dataclass(frozen=True)
class RotaryScaling(Attribute):
    """What slows the angles of rotary positions for contexts longer than those of the training."""

    # The fields of each kind besides its own; all but `attention_factor` are needed.
    FIELDS: ClassVar[dict[str, tuple[str, ...]]] = {
        "linear": ("factor",),
        "yarn": ("factor", "original_context", "beta_fast", "beta_slow", "attention_factor"),
        "llama3": ("factor", "original_context", "high_freq_factor", "low_freq_factor"),
    }
    OPTIONAL: ClassVar[str] = "attention_factor"
    # The first of them is above the second.
    ORDERED: ClassVar[tuple[tuple[str, str], ...]] = (
        ("beta_fast", "beta_slow"),
        ("high_freq_factor", "low_freq_factor"),
    )

    def fault(self, value: Any) -> str:
        if not isinstance(value, dict) or value.get("kind") not in list(self.FIELDS):
            return f"needs a kind, one of {', '.join(map(repr, self.FIELDS))}"
        fields = self.FIELDS[value["kind"]]
        if {"kind", *fields} - {self.OPTIONAL} != set(value) - {self.OPTIONAL} or set(value) - {"kind", *fields}:
            needed = [name for name in fields if name != self.OPTIONAL]
            more = f", and perhaps {self.OPTIONAL}" if self.OPTIONAL in fields else ""
            return f"{value['kind']!r} takes kind, {', '.join(needed)}{more}"
        for name in fields:
            if name in value and (fault := self._field_fault(name, value[name])):
                return f"its {name} {fault}"
        for larger, smaller in self.ORDERED:
            if larger in value and not np.float32(value[larger]) > np.float32(value[smaller]):
                return f"its {larger} is not above its {smaller}"
        return ""

    def _field_fault(self, name: str, value: Any) -> str:
        if name == "original_context":
            return Integer(name).fault(value)
        fault = Number(name, True).fault(value)
        # A smaller factor would turn a pair by more than one radian a token.
        if name == "factor" and (fault or np.float32(value) < 1):
            return "needs a finite number from 1"
        return fault


@dataclass(frozen=True)
class Tensor(ABC):
    """A tensor of an op.

    Args:
        role: its name in a step.
        axes: the names of its sizes; "1" is 1.
        optional: whether a step may leave it out.
    """

    role: str
    axes: tuple[str, ...]
    optional: bool = field(default=False, kw_only=True)

    @property
    @abstractmethod
    def dtype(self) -> type[np.generic]:
        """Of the array in the file."""

    @abstractmethod
    def shape(self, sizes: Sizes) -> Shape:
        """Of the array in the file."""

    def lengths(self, sizes: Sizes) -> Shape:
        """The number of parameters along each axis."""
        return tuple(1 if axis == "1" else sizes[axis] for axis in self.axes)

    def parameters(self, sizes: Sizes) -> int:
        """The number of parameters in the tensor."""
        return math.prod(self.lengths(sizes))

    def nbytes(self, sizes: Sizes) -> int:
        """The size of the tensor in a file, in bytes."""
        return math.prod(self.shape(sizes)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Floats(Tensor):
    """A float32 tensor."""

    @property
    def dtype(self) -> type[np.generic]:
        return np.float32

    def shape(self, sizes: Sizes) -> Shape:
        return self.lengths(sizes)


@dataclass(frozen=True)
class Halves(Floats):
    """A float16 tensor: scales."""

    @property
    def dtype(self) -> type[np.generic]:
        return np.float16


@dataclass(frozen=True)
class Bytes(Floats):
    """A tensor of signed bytes."""

    @property
    def dtype(self) -> type[np.generic]:
        return np.int8


@dataclass(frozen=True)
class Bits(Tensor):
    """A bit matrix, uint8 in padded rows. With `planes`, the rows of each plane follow those of the plane before."""

    planes: bool = False

    @property
    def dtype(self) -> type[np.generic]:
        return np.uint8

    def lengths(self, sizes: Sizes) -> Shape:
        rows, n = super().lengths(sizes)
        return (sizes["planes"] * rows if self.planes else rows), n

    def shape(self, sizes: Sizes) -> Shape:
        rows, n = self.lengths(sizes)
        return rows, row_bytes(n)


def _is_size(value: Any, least: int) -> bool:
    return type(value) is int and least <= value <= MAX_AXIS


def _fits_float32(value: Any) -> bool:
    if type(value) not in (int, float):
        return False
    try:
        # Compared in float64, as an engine reads it. The comparison is false for NaN.
        return -FLOAT32_MAX <= float(value) <= FLOAT32_MAX
    except OverflowError:
        return False
