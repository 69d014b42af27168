"""Blocks of ternary digits, five to a byte.

A byte b holds the digits d0, d1, ... of a fraction b / 256 = 0.d0d1d2... to the base 3, rounded up. So digit k is the integer part of
3 (b 3^k mod 256) / 256: the shifts below need no division.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.importing.blocks.coding import Bytes, Coding, Levels, half, rows_of

_POWERS = np.array([1, 3, 9, 27, 81], np.uint8)


def _digits(stored: Bytes, count: int) -> NDArray[Any]:
    """The first `count` digits of bytes (rows, blocks, m) less one, int8 (rows, blocks, count * m): digit 0 of all bytes first."""
    shifted = stored[..., None, :] * _POWERS[:count, None]  # modulo 256
    digits = (shifted.astype(np.uint16) * 3 >> 8).astype(np.int8) - np.int8(1)
    return digits.reshape(*stored.shape[:2], -1)


def _tq1_0(blocks: Bytes) -> Levels:
    parts = [_digits(blocks[..., :32], 5), _digits(blocks[..., 32:48], 5), _digits(blocks[..., 48:52], 4)]
    return Levels(rows_of(np.concatenate(parts, axis=-1)), half(blocks, 52))


def _ptq1_0(blocks: Bytes) -> Levels:
    parts = [_digits(blocks[..., :16], 5), _digits(blocks[..., 16:24], 5), _digits(blocks[..., 24:26], 4)]
    return Levels(rows_of(np.concatenate(parts, axis=-1)), half(blocks, 26))


TQ1_0 = Coding("TQ1_0", 256, 54, _tq1_0)
PTQ1_0 = Coding("PTQ1_0", 128, 28, _ptq1_0)
