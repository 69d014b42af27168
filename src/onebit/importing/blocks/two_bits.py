"""Blocks of two bits for each weight: the code less one is the level."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.importing.blocks.coding import Bytes, Coding, Levels, half, rows_of

# Where the four weights of a byte lie, the first weight's bits first.
_LOW_FIRST = np.array([0, 2, 4, 6], np.uint8)
_HIGH_FIRST = _LOW_FIRST[::-1]


def _levels(codes: Bytes) -> NDArray[Any]:
    return rows_of((codes & 3).astype(np.int8) - np.int8(1))


def _q2_0(blocks: Bytes) -> Levels:
    # A half, then the codes; bits 2 (j % 4) of byte j / 4 are weight j.
    return Levels(_levels(blocks[..., 2:, None] >> _LOW_FIRST), half(blocks, 0))


def _tq2_0(blocks: Bytes) -> Levels:
    # Two halves of 32 bytes; bits 2 l of byte m of half h are weight 128 h + 32 l + m. The half precision scale is last.
    halves = blocks[..., :64].reshape(*blocks.shape[:2], 2, 1, 32)
    return Levels(_levels(halves >> _LOW_FIRST[:, None]), half(blocks, 64))


def _i2_s(blocks: Bytes) -> Levels:
    # Byte p holds the weights p, p + 32, p + 64 and p + 96 from the upper bits down. The one scale of the tensor lies after all blocks.
    codes = _levels(blocks[..., None, :] >> _HIGH_FIRST[:, None])
    return Levels(codes, np.ones((len(codes), 1), np.float32))


# Type 42 of ggml is the first of these; an older fork wrote the second under the same number, and writes it as PQ2_0 today.
Q2_0 = Coding("Q2_0", 64, 18, _q2_0)
Q2_0_G128 = Coding("Q2_0 of 128", 128, 34, _q2_0)
PQ2_0 = Coding("PQ2_0", 128, 34, _q2_0)
TQ2_0 = Coding("TQ2_0", 256, 66, _tq2_0)
I2_S = Coding("I2_S", 128, 32, _i2_s, tail_bytes=32)
