"""Quantise the inputs of binary layers to integers, as docs/program.md defines it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The quantizers that a binary layer's `input` may name, and the numbers of bits of each.
QUANTIZERS: dict[str, tuple[int, ...]] = {"sign": (), "unit": tuple(range(1, 9)), "absmax": (8, 16)}


def largest_level(kind: Mapping[str, Any] | None) -> int:
    """The largest level of a layer's attribute `input`, or of precision "int8" without the attribute."""
    if kind is None:
        return 255
    if kind["quantizer"] == "sign":
        return 1
    return int((1 << kind["bits"]) - 1 if kind["quantizer"] == "unit" else (1 << (kind["bits"] - 1)) - 1)


def quantize(x: NDArray[np.float32], axes: tuple[int, ...]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Quantise to 8 bits, with one scale for all elements along `axes`.

    Returns:
        The levels, int32 of x's shape, and the scales with `axes` kept. Levels are 0 to 255 if nothing along the axes is negative, and else -127 to
        127. The scale is NaN if an element is NaN or infinite.
    """
    low, high = x.min(axes, keepdims=True), np.abs(x).max(axes, keepdims=True)
    high = np.where(
        high > 1e-30, high, np.where(np.isfinite(high), np.float32(0), high)
    )  # its reciprocal must be finite
    top = np.where(low >= 0, np.float32(255), np.float32(127))
    scale = np.where(high > 0, high / top, np.float32(1)).astype(np.float32)
    inverse = np.where(high > 0, np.float32(1) / scale, np.float32(0)).astype(np.float32)
    q = np.clip(np.rint(x * inverse), np.where(low >= 0, np.float32(0), -top), top)
    finite = np.isfinite(high)
    return np.where(finite, q, 0).astype(np.int32), np.where(finite, scale, np.float32(np.nan)).astype(np.float32)


def quantize_input(
    x: NDArray[np.float32], axes: tuple[int, ...], kind: Mapping[str, Any]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Quantise as a layer's attribute `input` says, or like `quantize` without it."""
    one = np.ones([1] * x.ndim, np.float32)
    if kind["quantizer"] == "sign":
        return np.where(x >= 0, 1, -1).astype(np.int32), one
    top = np.float32(largest_level(kind))
    if kind["quantizer"] == "unit":
        q = np.rint(np.clip(np.nan_to_num(x, nan=0.0), 0, 1).astype(np.float32) * top)
        return q.astype(np.int32), one / top
    high = np.maximum(np.abs(x).max(axes, keepdims=True), np.float32(1e-5)).astype(np.float32)
    finite = np.isfinite(high)
    q = np.where(finite, np.clip(np.rint(x * (top / high)), -top, top), 0).astype(np.int32)
    return q, np.where(finite, high / top, np.float32(np.nan)).astype(np.float32)
