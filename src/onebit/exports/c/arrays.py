"""Constants of C, in flash: floats that read back exactly, and bits in the order in which the kernels read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.exports.c.plan import TABLE_INPUTS
from onebit.ops.bit_rows import unpack_rows

_LINE = 120


def number(x: float) -> str:
    """A float32 as C writes it, with all its digits."""
    text = f"{float(np.float32(x)):.9g}"
    return text + ("f" if any(c in text for c in ".e") else ".0f")


def constant(kind: str, name: str, items: Sequence[str]) -> str:
    """The definition of a constant array."""
    lines, line = [], "   "
    for item in items:
        if len(line) + len(item) + 2 > _LINE:
            lines.append(line)
            line = "   "
        line += f" {item},"
    return f"static const {kind} {name}[{len(items)}] = {{\n" + "\n".join([*lines, line]) + "\n};\n"


def floats(name: str, values: NDArray[Any]) -> str:
    """An array of floats."""
    return constant("float", name, [number(float(v)) for v in values.astype(np.float32).reshape(-1)])


def words(name: str, bits: NDArray[Any]) -> str:
    """An array of words of bits, given as zeros and ones in words of 32."""
    packed = np.packbits(bits.reshape(-1, 32), axis=1, bitorder="little").view("<u4").reshape(-1)
    return constant("uint32_t", name, [f"0x{word:08X}u" for word in packed])


def bits_of(rows: NDArray[Any], n: int) -> NDArray[Any]:
    """The bits of a tensor's rows, (rows, n), as zeros and ones."""
    return (np.asarray(unpack_rows(rows, n)) != 0).astype(np.uint8)


def padded(bits: NDArray[Any]) -> NDArray[Any]:
    """Rows of bits with zeros to whole words."""
    return np.pad(bits, ((0, 0), (0, -bits.shape[1] % 32)))


def chunked(bits: NDArray[Any], groups: int, planes: int) -> NDArray[Any]:
    """Rows of bits (planes * outputs, inputs) as [group][chunk][plane][row of the group][words], in one row."""
    rows, inputs = bits.shape
    of_group = rows // planes // groups
    parts = []
    by = bits.reshape(planes, groups, of_group, inputs)
    for g in range(groups):
        for first in range(0, inputs, TABLE_INPUTS):
            chunk = by[:, g, :, first : first + TABLE_INPUTS].reshape(planes * of_group, -1)
            parts.append(padded(chunk).reshape(-1))
    return np.concatenate(parts)


def grouped_rows(bits: NDArray[Any], groups: int, planes: int) -> NDArray[Any]:
    """Rows of bits as [group][plane][row of the group][words], in one row."""
    rows, inputs = bits.shape
    by = bits.reshape(planes, groups, rows // planes // groups, inputs).transpose(1, 0, 2, 3)
    return padded(by.reshape(rows, inputs)).reshape(-1)


def taps(bits: NDArray[Any], planes: int) -> NDArray[Any]:
    """Rows of bits of a depthwise convolution as [plane][tap][words of channels], in one row."""
    rows, inputs = bits.shape
    by = bits.reshape(planes, rows // planes, inputs).transpose(0, 2, 1).reshape(planes * inputs, -1)
    return padded(by).reshape(-1)
