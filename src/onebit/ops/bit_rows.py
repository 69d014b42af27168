"""Bit matrices in the form of a file: each row is padded to words of 64 bits, little-endian within a byte."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ROW_ALIGNMENT_BITS = 64


def row_bytes(bits: int) -> int:
    """The bytes of a row of `bits` bits, padded to a multiple of 64 bits."""
    return -(-bits // ROW_ALIGNMENT_BITS) * (ROW_ALIGNMENT_BITS // 8)


def pack_rows(bits: NDArray[Any]) -> NDArray[np.uint8]:
    """Pack a matrix of bits, (rows, n) of bool or 0 and 1, to uint8 (rows, row_bytes(n)), little-endian within a byte."""
    rows, n = bits.shape
    packed = np.zeros((rows, row_bytes(n)), dtype=np.uint8)
    packed[:, : -(-n // 8)] = np.packbits(bits.astype(bool, copy=False), axis=1, bitorder="little")
    return packed


def unpack_rows(packed: NDArray[np.uint8], n: int) -> NDArray[np.uint8]:
    """The inverse of `pack_rows`: uint8 (rows, n) of 0 and 1."""
    return np.unpackbits(packed, axis=1, count=n, bitorder="little")


def read_rows(packed: NDArray[np.uint8], n: int, values: str) -> NDArray[np.int32]:
    """The values of packed bits, int32 (rows, n): 0 and 1 if `values` is "01", -1 and 1 if it is "pm1"."""
    bits = unpack_rows(packed, n).astype(np.int32)
    return bits if values == "01" else 2 * bits - 1


def is_expanded(tensor: NDArray[Any]) -> bool:
    """Whether a tensor of bits holds the numbers that they count, as `onebit.export` writes them, instead of packed rows."""
    return tensor.dtype != np.uint8


def read_row(tensor: NDArray[Any], n: int, values: str) -> NDArray[np.int32]:
    """What the bits of a bias count, int32 (n)."""
    return tensor.astype(np.int32) if is_expanded(tensor) else read_rows(tensor, n, values)[0]
