"""Blocks of 256 weights whose groups have quantised scales: ggml's "K" types. They become floats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.importing.blocks.coding import Bytes, Coding, Floats, half, rows_of


def _q4_k(blocks: Bytes) -> Floats:
    return _affine(blocks, _nibbles(blocks[..., 16:144]))


def _q5_k(blocks: Bytes) -> Floats:
    # The fifth bit of group g lies in bit g of 32 bytes.
    fifth = blocks[..., 16:48][..., None, :] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    return _affine(blocks, _nibbles(blocks[..., 48:176]) | fifth << 4)


def _q6_k(blocks: Bytes) -> Floats:
    shape = blocks.shape[:2]
    low = blocks[..., :128].reshape(*shape, 2, 1, 64) >> np.array([0, 4], np.uint8)[:, None] & 15
    high = blocks[..., 128:192].reshape(*shape, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[:, None] & 3
    codes = (low.reshape(*shape, 8, 32) | high.reshape(*shape, 8, 32) << 4).astype(np.int8) - np.int8(32)
    scales = blocks[..., 192:208].view(np.int8).astype(np.float32) * half(blocks, 208)[..., None]
    return rows_of(codes.reshape(*shape, 16, 16).astype(np.float32) * scales[..., None])


def _nibbles(stored: Bytes) -> NDArray[Any]:
    """(rows, blocks, 128) to (rows, blocks, 8, 32): of each 32 bytes the lower halves, then the upper ones."""
    pairs = stored.reshape(*stored.shape[:2], 4, 1, 32) >> np.array([0, 4], np.uint8)[:, None] & 15
    return pairs.reshape(*stored.shape[:2], 8, 32)


def _affine(blocks: Bytes, codes: NDArray[Any]) -> Floats:
    """Codes (rows, blocks, 8, 32) times the scales of their groups, less the groups' minima."""
    scales, minima = _six_bits(blocks[..., 4:16])
    scale, least = half(blocks, 0)[..., None] * scales, half(blocks, 2)[..., None] * minima
    return rows_of(codes.astype(np.float32) * scale[..., None] - least[..., None])


def _six_bits(stored: Bytes) -> tuple[Floats, Floats]:
    """Eight scales and eight minima of six bits each, out of 12 bytes: (rows, blocks, 8) each."""
    d, m, both = stored[..., :4], stored[..., 4:8], stored[..., 8:12]
    scales = np.concatenate([d & 63, both & 15 | d >> 2 & 48], axis=-1)
    minima = np.concatenate([m & 63, both >> 4 | m >> 2 & 48], axis=-1)
    return scales.astype(np.float32), minima.astype(np.float32)


Q4_K = Coding("Q4_K", 256, 144, _q4_k)
Q5_K = Coding("Q5_K", 256, 176, _q5_k)
Q6_K = Coding("Q6_K", 256, 210, _q6_k)
