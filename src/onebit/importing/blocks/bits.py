"""Blocks of one bit for each weight."""

from __future__ import annotations

import numpy as np

from onebit.importing.blocks.coding import Bytes, Coding, Signs, half


def _q1_0(blocks: Bytes) -> Signs:
    # A half, then 16 bytes. Bit j % 8 of byte j / 8, from the least significant, is weight j: the order of our own files.
    return Signs(np.ascontiguousarray(blocks[..., 2:]).reshape(len(blocks), -1), half(blocks, 0))


Q1_0 = Coding("Q1_0", 128, 18, _q1_0)
