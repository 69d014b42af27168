"""How a foreign matrix is kept in a `.onebit` file: bits with scales, bytes with scales, or floats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.importing.blocks import Decoded, Levels, Signs
from onebit.importing.matrices import Matrix
from onebit.ops.bit_rows import pack_rows, row_bytes

# The groups that the ops take. A scale of a larger group is written for each of its parts.
GROUPS = (32, 64, 128)
_BYTE_LEVELS = 127
# Their blocks have 16 or 32 levels with a scale and a least one, for 32 weights. Fitting them halves the error of rounding.
_EVEN_LEVELS = ("Q4_1", "Q4_K", "Q5_K")
_LEAST_STEP = 0.01


@dataclass(frozen=True)
class Planned:
    """A tensor of the file that is being written."""

    name: str
    dtype: type[np.generic]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


# The name of a tensor, the first byte in it, and an array of what lies there.
Placed = tuple[str, int, NDArray[Any]]


class Kept(ABC):
    """A matrix in the form of its op.

    Args:
        name: what the names of its tensors begin with.
        matrix: where it comes from.
    """

    op: str  # of a layer
    table_op: str  # of an embedding
    says: str  # for the report

    def __init__(self, name: str, matrix: Matrix) -> None:
        self.name, self.matrix = name, matrix

    @property
    @abstractmethod
    def attributes(self) -> dict[str, Any]:
        """Of the op, without its sizes."""

    @abstractmethod
    def planned(self) -> dict[str, Planned]:
        """Its tensors, by their roles."""

    @abstractmethod
    def placed(self, first: int, decoded: Decoded) -> Iterator[Placed]:
        """What rows from `first` become."""

    @property
    def one_scale(self) -> float | None:
        """A factor of all outputs, which a step of its own applies."""
        return None

    def _at(self, role: str, row: int, values: NDArray[Any]) -> Placed:
        return f"{self.name}.{role}", row * values[:1].nbytes, values


class _Scaled(Kept):
    """With a float16 scale for each group of inputs."""

    def __init__(self, name: str, matrix: Matrix) -> None:
        super().__init__(name, matrix)
        self.group = self._group()

    def _group(self) -> int:
        return max(group for group in GROUPS if self.matrix.group % group == 0)

    def _scales(self, scales: NDArray[np.float32]) -> NDArray[np.float16]:
        """Scales (rows, groups of the source) as the file has them."""
        repeats = self.matrix.columns // self.group // scales.shape[1]
        return np.repeat(scales, repeats, axis=1).astype(np.float16)

    def planned(self) -> dict[str, Planned]:
        rows, columns = self.matrix.rows, self.matrix.columns
        shape, dtype = self._weight()
        return {
            "weight": Planned(f"{self.name}.weight", dtype, shape),
            "scale": Planned(f"{self.name}.scale", np.float16, (rows, columns // self.group)),
        }

    @abstractmethod
    def _weight(self) -> tuple[tuple[int, int], type[np.generic]]:
        """The shape and the type of the weight."""


class KeptSigns(_Scaled):
    """One bit for each weight."""

    op, table_op, says = "bit_linear", "bit_embedding", "bits"

    @property
    def attributes(self) -> dict[str, Any]:
        return {"values": "pm1", "group": self.group}

    def _weight(self) -> tuple[tuple[int, int], type[np.generic]]:
        return (self.matrix.rows, row_bytes(self.matrix.columns)), np.uint8

    def placed(self, first: int, decoded: Decoded) -> Iterator[Placed]:
        if not isinstance(decoded, Signs):
            raise AssertionError("the matrix has no signs")
        # The order of bits is the same, and whole blocks need no padding.
        yield self._at("weight", first, decoded.bits)
        yield self._at("scale", first, self._scales(decoded.scales))


class KeptLevels(_Scaled):
    """Two planes of bits: -1 to 2 as 0 to 3, less one."""

    op, table_op, says = "bit_linear", "bit_embedding", "two bits"

    @property
    def attributes(self) -> dict[str, Any]:
        return {"values": "01", "planes": [1, 2], "zero": 1, "group": self.group}

    def _weight(self) -> tuple[tuple[int, int], type[np.generic]]:
        return (2 * self.matrix.rows, row_bytes(self.matrix.columns)), np.uint8

    def placed(self, first: int, decoded: Decoded) -> Iterator[Placed]:
        codes = _codes(decoded) + np.int8(1)
        yield self._at("weight", first, pack_rows(codes & 1))
        yield self._at("weight", self.matrix.rows + first, pack_rows(codes >> 1))
        yield self._at("scale", first, self._scales(_scales(decoded)))


class KeptTernary(Kept):
    """Two planes of bits and one scale for the matrix, with inputs of 8 bits for each token, as such models are trained."""

    op, table_op, says = "bit_linear", "bit_embedding", "ternary"

    @property
    def attributes(self) -> dict[str, Any]:
        return {"values": "pm1", "planes": [1, 1], "input": {"quantizer": "absmax", "bits": 8}}

    @property
    def one_scale(self) -> float:
        return self.matrix.one_scale() / 2  # the sum of both planes is -2, 0 or 2

    def planned(self) -> dict[str, Planned]:
        shape = (2 * self.matrix.rows, row_bytes(self.matrix.columns))
        return {"weight": Planned(f"{self.name}.weight", np.uint8, shape)}

    def placed(self, first: int, decoded: Decoded) -> Iterator[Placed]:
        codes = _codes(decoded)
        yield self._at("weight", first, pack_rows(codes >= 0))
        yield self._at("weight", self.matrix.rows + first, pack_rows(codes > 0))


class KeptBytes(_Scaled):
    """Eight bits for each weight, with a scale for 32 inputs, or for all where 32 does not divide them."""

    op, table_op, says = "int8_linear", "int8_embedding", "int8"

    def _group(self) -> int:
        return 32 if self.matrix.columns % 32 == 0 else self.matrix.columns

    @property
    def attributes(self) -> dict[str, Any]:
        return {"group": self.group} if self.group == 32 else {}

    def _weight(self) -> tuple[tuple[int, int], type[np.generic]]:
        return (self.matrix.rows, self.matrix.columns), np.int8

    def placed(self, first: int, decoded: Decoded) -> Iterator[Placed]:
        if isinstance(decoded, Levels):
            codes, scales = np.maximum(decoded.codes, np.int8(-_BYTE_LEVELS)), self._scales(decoded.scales)
        else:
            codes, scales = to_bytes(_floats(decoded), self.group, self.matrix.stored.coding.name in _EVEN_LEVELS)
        yield self._at("weight", first, codes)
        yield self._at("scale", first, scales)


class KeptFloats(Kept):
    """Float32, without any loss."""

    op, table_op, says = "linear", "embedding", "float32"

    @property
    def attributes(self) -> dict[str, Any]:
        return {}

    def planned(self) -> dict[str, Planned]:
        return {"weight": Planned(f"{self.name}.weight", np.float32, (self.matrix.rows, self.matrix.columns))}

    def placed(self, first: int, decoded: Decoded) -> Iterator[Placed]:
        yield self._at("weight", first, np.ascontiguousarray(_floats(decoded), np.float32))


def keep(name: str, matrix: Matrix, wide: str) -> Kept:
    """The form for a matrix.

    Args:
        name: what the names of its tensors begin with.
        matrix: where it comes from.
        wide: ``"int8"`` or ``"float32"``, for what has four bits and more.
    """
    if matrix.form == "signs":
        return KeptSigns(name, matrix)
    if matrix.form == "levels":
        return KeptLevels(name, matrix)
    if matrix.form == "ternary":
        return KeptTernary(name, matrix)
    return KeptBytes(name, matrix) if wide == "int8" else KeptFloats(name, matrix)


def to_bytes(
    values: NDArray[np.float32], group: int, even: bool = False
) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """The nearest integers from -127 to 127 and their scales, each for `group` inputs in succession.

    Args:
        values: (outputs, inputs).
        group: inputs of a scale.
        even: whether the values of a group are a few levels with one distance. The scale then fits that distance too.
    """
    parts = values.reshape(len(values), -1, group)
    largest = np.abs(parts).max(-1)
    most = _most_code(parts, largest) if even else np.float32(_BYTE_LEVELS)
    # A scale that float16 rounds down would push the largest weight beyond 127; those that are too large become infinite, and are refused.
    scales = (largest / most).astype(np.float16)
    used = scales.astype(np.float32)
    inverse = np.where(used > 0, 1 / np.where(used > 0, used, 1), 0).astype(np.float32)
    codes = np.clip(np.rint(parts * inverse[..., None]), -_BYTE_LEVELS, _BYTE_LEVELS).astype(np.int8)
    return codes.reshape(values.shape), scales


def _most_code(parts: NDArray[np.float32], largest: NDArray[np.float32]) -> NDArray[np.float32]:
    """The code of the largest value of each group (outputs, groups), so that a whole number of codes lies between two levels, nearly."""
    codes = np.arange((_BYTE_LEVELS + 1) // 2, _BYTE_LEVELS + 1, dtype=np.float32)
    gaps = np.diff(np.sort(parts, -1), axis=-1)
    # Equal levels differ by a rounding of float32.
    step = np.where(gaps > largest[..., None] * np.float32(_LEAST_STEP), gaps, largest[..., None]).min(-1)
    shares = step / np.where(largest > 0, largest, 1)
    off = shares[..., None] * codes
    off -= np.rint(off)
    fitting: NDArray[np.float32] = codes[(np.abs(off) / codes).argmin(-1)]
    return fitting


def _floats(decoded: Decoded) -> NDArray[np.float32]:
    return decoded if isinstance(decoded, np.ndarray) else decoded.floats()


def _codes(decoded: Decoded) -> NDArray[np.int8]:
    if not isinstance(decoded, Levels):
        raise AssertionError("the matrix has no levels")
    return decoded.codes


def _scales(decoded: Decoded) -> NDArray[np.float32]:
    if not isinstance(decoded, Levels):
        raise AssertionError("the matrix has no levels")
    return decoded.scales
