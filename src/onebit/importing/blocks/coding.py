"""What the bytes of a tensor in a foreign file mean: blocks of a fixed number of weights, each of a fixed number of bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Signs:
    """Weights of -1 and +1 with a scale for each group of inputs.

    Args:
        bits: uint8 (rows, n / 8), least significant first; a 1 is +1.
        scales: float32 (rows, groups). Each holds for n / groups weights in succession.
    """

    bits: Bytes
    scales: Floats

    def floats(self) -> Floats:
        """The weights, float32 (rows, n)."""
        signs = np.unpackbits(self.bits, axis=1, bitorder="little").astype(np.float32) * 2 - 1
        return _scaled(signs, self.scales)


@dataclass(frozen=True)
class Levels:
    """Weights of small integers with a scale for each group of inputs.

    Args:
        codes: int8 (rows, n). Ternary types have -1 to 1; those of two bits may hold a 2.
        scales: float32 (rows, groups). Each holds for n / groups weights in succession.
    """

    codes: NDArray[np.int8]
    scales: Floats

    def floats(self) -> Floats:
        """The weights, float32 (rows, n)."""
        return _scaled(self.codes.astype(np.float32), self.scales)


Decoded = Signs | Levels | Floats


@dataclass(frozen=True)
class Coding:
    """A type of blocks.

    Args:
        name: as its authors call it.
        weights: of a block. Rows consist of whole blocks.
        block_bytes: of a block.
        decode: from uint8 (rows, blocks, block_bytes) to the weights of the rows.
        tail_bytes: what follows after the blocks of a whole tensor.
    """

    name: str
    weights: int
    block_bytes: int
    decode: Callable[[Bytes], Decoded]
    tail_bytes: int = 0

    def row_bytes(self, n: int) -> int:
        """The bytes of a row of n weights."""
        return n // self.weights * self.block_bytes

    @property
    def is_few_bits(self) -> bool:
        """Whether a weight has one bit or two."""
        return self.bits_per_weight < 3

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.block_bytes / self.weights


def half(blocks: Bytes, start: int) -> Floats:
    """The IEEE half at byte `start` of each block, float32 (rows, blocks)."""
    return np.ascontiguousarray(blocks[..., start : start + 2]).view("<f2")[..., 0].astype(np.float32)


def rows_of(values: NDArray[Any]) -> NDArray[Any]:
    """(rows, blocks, ...) to (rows, n)."""
    return values.reshape(len(values), -1)


def _scaled(values: Floats, scales: Floats) -> Floats:
    rows, groups = scales.shape
    return (values.reshape(rows, groups, -1) * scales[..., None]).reshape(rows, -1)
