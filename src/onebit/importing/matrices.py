"""The weight matrices of foreign files, each in pieces of rows, whatever way the file stores it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import ForeignModelError
from onebit.importing.blocks import Decoded, Levels, Signs
from onebit.importing.stored import StoredTensor

_PACKED_ROWS = 4  # of a byte in Hugging Face's packing


class Matrix(ABC):
    """A matrix of weights, outputs by inputs.

    stored: the tensor in the file.
    rows, columns: outputs and inputs.
    kind: how the file stores it, for the report.
    """

    stored: StoredTensor
    rows: int
    columns: int
    kind: str

    @property
    @abstractmethod
    def form(self) -> str:
        """``"signs"``, ``"levels"`` (both with a scale for each group), ``"ternary"`` (one scale for all), ``"bytes"`` or ``"floats"``."""

    @abstractmethod
    def pieces(self) -> Iterator[tuple[int, Decoded]]:
        """All rows, in pieces, each with the number of its first row. The scales of "ternary" pieces are the one of the matrix."""

    @abstractmethod
    def one_scale(self) -> float:
        """The scale of a "ternary" matrix, its only one."""

    @property
    def group(self) -> int:
        """The number of inputs that share a scale."""
        return self.stored.coding.weights

    def fail(self, message: str) -> ForeignModelError:
        return self.stored.fail(message)


@dataclass(frozen=True)
class Plain(Matrix):
    """A matrix as a file's blocks hold it.

    Args:
        stored: the tensor.
        turned: (features of a head, features that turn) where rows stand in pairs, as llama's queries and keys do in GGUF; the first halves of the
            pairs come first here.
    """

    stored: StoredTensor
    turned: tuple[int, int] | None = None

    @property
    def rows(self) -> int:  # type: ignore[override]
        return self.stored.rows

    @property
    def columns(self) -> int:  # type: ignore[override]
        return self.stored.columns

    @property
    def kind(self) -> str:  # type: ignore[override]
        return self.stored.coding.name

    @property
    def form(self) -> str:
        coding = self.stored.coding
        if coding.tail_bytes:
            return "ternary"
        if coding.is_few_bits:
            return "signs" if coding.bits_per_weight < 1.5 else "levels"
        return "bytes" if coding.name in ("Q8_0", "Q4_0") else "floats"

    def pieces(self) -> Iterator[tuple[int, Decoded]]:
        if self.turned is None:
            yield from self.stored.pieces()
            return
        order = unpaired(*self.turned)
        for first, decoded in self.stored.pieces(len(order)):
            yield first, _reordered(decoded, order)

    def one_scale(self) -> float:
        found = self.stored.decode(0, 1)
        if not isinstance(found, Levels):
            raise AssertionError("only levels have a scale")
        return float(found.scales[0, 0])


@dataclass(frozen=True)
class Packed(Matrix):
    """Ternary weights in Hugging Face's packing: bits 2 i of row r are weight row i * (rows / 4) + r, plus one.

    Args:
        stored: uint8 (rows / 4, columns).
        scale: one scale for the matrix, as it multiplies the codes.
    """

    stored: StoredTensor
    scale: float
    kind = "packed ternary"
    form = "ternary"

    @property
    def rows(self) -> int:  # type: ignore[override]
        return self.stored.rows * _PACKED_ROWS

    @property
    def columns(self) -> int:  # type: ignore[override]
        return self.stored.columns

    def pieces(self) -> Iterator[tuple[int, Decoded]]:
        for first, content in self.stored.pieces():
            packed = np.asarray(content, np.uint8)
            for part in range(_PACKED_ROWS):
                stored = packed >> (2 * part) & 3
                if np.any(stored == 3):
                    raise self.fail(
                        "holds a code of 3: ternary weights have 0 to 2; the file is damaged, or not packed"
                    )
                codes = stored.astype(np.int8) - np.int8(1)
                yield part * self.stored.rows + first, _with_scale(codes, self.scale)

    def one_scale(self) -> float:
        return self.scale


class Masters(Matrix):
    """Float weights that a model rounds to ternary ones in each forward pass: `clip(round(w / mean(abs(w))))` times that mean.

    Args:
        stored: the floats.
    """

    kind = "float masters"
    form = "ternary"

    def __init__(self, stored: StoredTensor) -> None:
        self.stored, self.rows, self.columns = stored, stored.rows, stored.columns
        self._scale: float | None = None

    def one_scale(self) -> float:
        if self._scale is None:
            total = sum(float(np.abs(_floats(part)).sum(dtype=np.float64)) for _, part in self.stored.pieces())
            mean = np.float32(max(total / (self.rows * self.columns), 1e-5))
            self._scale = float(1 / np.float32(1 / mean))  # as the model's code rounds it
        return self._scale

    def pieces(self) -> Iterator[tuple[int, Decoded]]:
        scale = self.one_scale()
        inverse = np.float32(1 / np.float32(scale))
        for first, part in self.stored.pieces():
            codes = np.clip(np.rint(_floats(part) * inverse), -1, 1).astype(np.int8)
            yield first, _with_scale(codes, scale)


def _floats(decoded: Decoded) -> NDArray[np.float32]:
    return decoded if isinstance(decoded, np.ndarray) else decoded.floats()


def _with_scale(codes: NDArray[np.int8], scale: float) -> Levels:
    return Levels(codes, np.full((len(codes), 1), scale, np.float32))


def unpaired(head_size: int, rotated: int) -> NDArray[np.int64]:
    """For each row of a head in halves, its row where features j and j + rotated / 2 stand side by side."""
    turned = np.arange(rotated).reshape(-1, 2).T.reshape(-1)
    return np.concatenate([turned, np.arange(rotated, head_size)])


def _reordered(decoded: Decoded, order: NDArray[np.int64]) -> Decoded:
    """Reorder the rows of each head alike."""

    def rows(values: NDArray[Any]) -> NDArray[Any]:
        return values.reshape(-1, len(order), values.shape[-1])[:, order].reshape(values.shape)

    if isinstance(decoded, np.ndarray):
        return rows(decoded)
    if isinstance(decoded, Signs):
        return replace(decoded, bits=rows(decoded.bits), scales=rows(decoded.scales))
    return replace(decoded, codes=rows(decoded.codes), scales=rows(decoded.scales))
