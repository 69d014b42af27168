"""Weights as the blocks of GGUF, so that every weight and scale stays what it is. `onebit.importing.blocks` reads them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onebit.importing.blocks import Decoded, Levels, Signs

F32, Q4_0, Q8_0, TQ2_0, Q1_0, Q2_0 = 0, 2, 8, 35, 41, 42
NAMES = {F32: "F32", Q4_0: "Q4_0", Q8_0: "Q8_0", TQ2_0: "TQ2_0", Q1_0: "Q1_0", Q2_0: "Q2_0"}


def encode(decoded: Decoded, few_bits: bool) -> tuple[int, NDArray[np.uint8]]:
    """A type of blocks that holds a matrix, and its bytes.

    Signs with a scale for 128 inputs become Q1_0; with one for 64 they become Q2_0, and with one for 32 Q4_0. Levels become TQ2_0 where scales hold
    for 256 inputs and no level is 2, else Q2_0, or Q4_0 with a scale for 32. Bytes become Q8_0. What fits none of them becomes F32.

    Args:
        decoded: of all rows.
        few_bits: whether levels are -1 to 2, rather than bytes.
    """
    if isinstance(decoded, np.ndarray):
        return F32, _bytes(decoded.astype("<f4"))
    columns = decoded.bits.shape[1] * 8 if isinstance(decoded, Signs) else decoded.codes.shape[1]
    group = columns // decoded.scales.shape[1]
    if isinstance(decoded, Signs):
        if group % 128 == 0 and columns % 128 == 0:
            return Q1_0, _q1_0(decoded.bits, _for_each(decoded.scales, columns, 128))
        codes = (np.unpackbits(decoded.bits, axis=1, bitorder="little").astype(np.int8) << 1) - np.int8(1)
        decoded, few_bits = Levels(codes, decoded.scales), True
    if not few_bits:
        if group % 32 or columns % 32:
            return F32, _bytes(decoded.floats().astype("<f4"))
        return Q8_0, _q8_0(decoded.codes, _for_each(decoded.scales, columns, 32))
    return _levels(decoded, group)


def _levels(levels: Levels, group: int) -> tuple[int, NDArray[np.uint8]]:
    codes, columns = levels.codes, levels.codes.shape[1]
    if columns % 256 == 0 and group % 128 == 0 and levels.codes.max(initial=0) < 2:
        scales = _for_each(levels.scales, columns, 128).reshape(len(codes), -1, 2)
        if np.array_equal(scales[..., 0], scales[..., 1]):
            return TQ2_0, _tq2_0(codes, scales[..., 0])
    if group % 64 == 0 and columns % 64 == 0:
        return Q2_0, _q2_0(codes, _for_each(levels.scales, columns, 64))
    if group % 32 == 0 and columns % 32 == 0:
        return Q4_0, _q4_0(codes, _for_each(levels.scales, columns, 32))
    return F32, _bytes(levels.floats().astype("<f4"))


def _for_each(scales: NDArray[np.float32], columns: int, size: int) -> NDArray[np.float16]:
    """The scales of blocks of `size` weights, (rows, blocks)."""
    return np.repeat(scales, columns // size // scales.shape[1], axis=1).astype("<f2")


def _q1_0(bits: NDArray[np.uint8], scales: NDArray[np.float16]) -> NDArray[np.uint8]:
    return _joined(scales, bits.reshape(*scales.shape, 16))


def _q2_0(codes: NDArray[np.int8], scales: NDArray[np.float16]) -> NDArray[np.uint8]:
    stored = (codes + np.int8(1)).astype(np.uint8).reshape(*scales.shape, 16, 4)
    return _joined(scales, _packed(stored, 2))


def _tq2_0(codes: NDArray[np.int8], scales: NDArray[np.float16]) -> NDArray[np.uint8]:
    planes = (codes + np.int8(1)).astype(np.uint8).reshape(*scales.shape, 2, 4, 32).swapaxes(-1, -2)
    return _joined(scales, _packed(planes, 2).reshape(*scales.shape, 64), scales_last=True)


def _q4_0(codes: NDArray[np.int8], scales: NDArray[np.float16]) -> NDArray[np.uint8]:
    halves = (codes + np.int8(8)).astype(np.uint8).reshape(*scales.shape, 2, 16).swapaxes(-1, -2)
    return _joined(scales, _packed(halves, 4))


def _q8_0(codes: NDArray[np.int8], scales: NDArray[np.float16]) -> NDArray[np.uint8]:
    return _joined(scales, np.ascontiguousarray(codes).view(np.uint8).reshape(*scales.shape, 32))


def _packed(stored: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """(..., codes of a byte) to (...); the first code lies lowest."""
    found = np.zeros(stored.shape[:-1], np.uint8)
    for place in range(stored.shape[-1]):
        found |= stored[..., place] << np.uint8(bits * place)
    return found


def _joined(scales: NDArray[np.float16], content: NDArray[np.uint8], scales_last: bool = False) -> NDArray[np.uint8]:
    halves = np.ascontiguousarray(scales).view(np.uint8).reshape(*scales.shape, 2)
    return np.concatenate([content, halves] if scales_last else [halves, content], -1).reshape(-1)


def _bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)
