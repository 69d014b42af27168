"""Plain numbers, and blocks of 32 weights of four or eight bits with a scale; those with a minimum too become floats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.importing.blocks.coding import Bytes, Coding, Floats, Levels, half, rows_of


def _f32(blocks: Bytes) -> Floats:
    return rows_of(np.ascontiguousarray(blocks).view("<f4")).astype(np.float32)


def _f16(blocks: Bytes) -> Floats:
    return rows_of(np.ascontiguousarray(blocks).view("<f2")).astype(np.float32)


def _bf16(blocks: Bytes) -> Floats:
    # The upper half of a float32.
    upper = np.ascontiguousarray(blocks).view("<u2").astype(np.uint32)
    return rows_of((upper << 16).view(np.float32))


def _q8_0(blocks: Bytes) -> Levels:
    return Levels(rows_of(np.ascontiguousarray(blocks[..., 2:]).view(np.int8)), half(blocks, 0))


def _q4_0(blocks: Bytes) -> Levels:
    return Levels(rows_of(_nibbles(blocks[..., 2:]) - np.int8(8)), half(blocks, 0))


def _q4_1(blocks: Bytes) -> Floats:
    codes = _nibbles(blocks[..., 4:]).astype(np.float32)
    return rows_of(codes * half(blocks, 0)[..., None] + half(blocks, 2)[..., None])


def _nibbles(stored: Bytes) -> NDArray[Any]:
    """The lower halves of all bytes of a block, then the upper ones."""
    return np.concatenate([stored & 15, stored >> 4], axis=-1).astype(np.int8)


F32 = Coding("F32", 1, 4, _f32)
F16 = Coding("F16", 1, 2, _f16)
BF16 = Coding("BF16", 1, 2, _bf16)
Q8_0 = Coding("Q8_0", 32, 34, _q8_0)
Q4_0 = Coding("Q4_0", 32, 18, _q4_0)
Q4_1 = Coding("Q4_1", 32, 20, _q4_1)
