"""Types of four bits and more, which become floats: plain numbers, and blocks with a scale of 32 weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.importing.blocks.coding import Bytes, Coding, Floats, half, rows_of


def _f32(blocks: Bytes) -> Floats:
    return rows_of(np.ascontiguousarray(blocks).view("<f4")).astype(np.float32)


def _f16(blocks: Bytes) -> Floats:
    return rows_of(np.ascontiguousarray(blocks).view("<f2")).astype(np.float32)


def _bf16(blocks: Bytes) -> Floats:
    # The upper half of a float32.
    upper = np.ascontiguousarray(blocks).view("<u2").astype(np.uint32)
    return rows_of((upper << 16).view(np.float32))


def _q8_0(blocks: Bytes) -> Floats:
    return _scaled(blocks[..., 2:].view(np.int8), half(blocks, 0))


def _q4_0(blocks: Bytes) -> Floats:
    return _scaled(_nibbles(blocks[..., 2:]) - np.int8(8), half(blocks, 0))


def _q4_1(blocks: Bytes) -> Floats:
    return _scaled(_nibbles(blocks[..., 4:]), half(blocks, 0), half(blocks, 2))


def _nibbles(stored: Bytes) -> NDArray[Any]:
    """The lower halves of all bytes of a block, then the upper ones."""
    return np.concatenate([stored & 15, stored >> 4], axis=-1).astype(np.int8)


def _scaled(codes: NDArray[Any], scale: Floats, least: Floats | None = None) -> Floats:
    values = codes.astype(np.float32) * scale[..., None]
    return rows_of(values if least is None else values + least[..., None])


F32 = Coding("F32", 1, 4, _f32)
F16 = Coding("F16", 1, 2, _f16)
BF16 = Coding("BF16", 1, 2, _bf16)
Q8_0 = Coding("Q8_0", 32, 34, _q8_0)
Q4_0 = Coding("Q4_0", 32, 18, _q4_0)
Q4_1 = Coding("Q4_1", 32, 20, _q4_1)
