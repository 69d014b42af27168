"""Products of rows of numbers with matrices of bits, with exact sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
from numpy.typing import NDArray
from torch import Tensor

from onebit.gpu import kernels
from onebit.ops.bit_rows import unpack_rows
from onebit.ops.quantize import largest_level

# Up to so many rows each one reads the weights by itself: the tensor cores want tiles of 16.
GEMV_ROWS = 8
_KINDS = {"sign": kernels.SIGN, "unit": kernels.UNIT, "absmax": kernels.ABSMAX}


@dataclass(frozen=True)
class BitMatrix:
    """Rows of bits on a device.

    words: int32 (planes * outputs, words), as in the file, eight bytes of padding at most.
    ones: int32 (planes * outputs): how many bits of each row are 1.
    planes: what each plane counts.
    pm1: whether a bit is read as -1 or +1, instead of 0 or 1.
    inputs: weights of a row.
    """

    words: Tensor
    ones: Tensor
    planes: tuple[int, ...]
    pm1: bool
    inputs: int

    @classmethod
    def of(
        cls, packed: NDArray[np.uint8], inputs: int, attributes: Mapping[str, Any], device: torch.device
    ) -> BitMatrix:
        """The weight of a step on a device. `packed` is uint8 (planes * outputs, bytes), as in a file."""
        words = torch.from_numpy(np.array(packed)).view(torch.int32)
        ones = torch.from_numpy(unpack_rows(packed, inputs).sum(1, dtype=np.int32))
        planes = tuple(attributes.get("planes", [1]))
        return cls(words.to(device), ones.to(device), planes, attributes["values"] == "pm1", inputs)

    @property
    def outputs(self) -> int:
        return len(self.words) // len(self.planes)

    def dense(self) -> Tensor:
        """All weights, float32 (outputs, inputs)."""
        shifts = torch.arange(32, device=self.words.device, dtype=torch.int32)
        bits = (self.words[:, :, None] >> shifts & 1).flatten(1)[:, : self.inputs].float()
        values = 2 * bits - 1 if self.pm1 else bits
        counts = torch.tensor(self.planes, device=bits.device, dtype=torch.float32)
        return (values.view(len(self.planes), self.outputs, -1) * counts[:, None, None]).sum(0)


@dataclass(frozen=True)
class Levels:
    """Quantised rows: `q` int8 (rows, 32 * words) in the kernels' order, `offset`, `total` int32 (rows), `scale` float32 (rows)."""

    q: Tensor
    scale: Tensor
    offset: Tensor
    total: Tensor


def quantize(x: Tensor, kind: Mapping[str, Any] | None = None) -> Levels:
    """Quantise the rows of float32 (rows, inputs), as docs/program.md says of `input`, and of "int8" where `kind` is None."""
    rows, inputs = x.shape
    padded = -(-inputs // 64) * 64
    q = torch.empty(rows, padded, dtype=torch.int8, device=x.device)
    each = [torch.empty(rows, dtype=dtype, device=x.device) for dtype in (torch.float32, torch.int32, torch.int32)]
    found = Levels(q, *each)
    code = kernels.DYNAMIC if kind is None else _KINDS[kind["quantizer"]]
    block = min(4096, triton.next_power_of_2(padded))
    kernels.quantize_rows[(rows,)](
        x.contiguous(), q, found.scale, found.offset, found.total, inputs, padded, float(largest_level(kind)),
        KIND=code, BLOCK=block, enable_fp_fusion=False,
    )  # fmt: skip
    return found


def in_kernel_order(levels: Tensor) -> Tensor:
    """Pad int8 (rows, inputs) to whole words of 64 bits and put it into the order of the kernels."""
    padded = torch.nn.functional.pad(levels, (0, -levels.shape[1] % 64))
    return padded.view(len(levels), -1, 4, 8).transpose(2, 3).reshape(len(levels), -1).contiguous()


def product(weight: BitMatrix, x: Levels, bias: Tensor | None) -> Tensor:
    """`scale * sum + bias`, float32 (rows, outputs), each operation rounded, of exact sums."""
    single = weight.planes == (1,)
    sums = _sums(weight, x, bias, scaled=single)
    if single:
        return sums
    counts = torch.tensor(weight.planes, device=sums.device, dtype=torch.int32)
    added = (sums.view(len(sums), len(weight.planes), -1) * counts[:, None]).sum(1, dtype=torch.int32)
    y = x.scale[:, None] * added.float()
    return y if bias is None else y + bias


def _sums(weight: BitMatrix, x: Levels, bias: Tensor | None, scaled: bool) -> Tensor:
    rows, (outputs, length) = len(x.q), weight.words.shape
    out = torch.empty(rows, outputs, dtype=torch.float32 if scaled else torch.int32, device=x.q.device)
    given = bias if bias is not None and scaled else x.scale
    how: dict[str, Any] = {"PM1": weight.pm1, "SCALED": scaled, "BIASED": bias is not None and scaled}
    factors = (x.offset, x.total, x.scale, given, out)
    if rows <= GEMV_ROWS:
        # A warp reads a row's words side by side; the dot products of four are an instruction of GPUs, not of the interpreter.
        block_w = min(32, triton.next_power_of_2(length))
        blocks = {"BLOCK_O": 16, "BLOCK_W": block_w, "DP4A": out.device.type == "cuda"}
        grid = (triton.cdiv(outputs, 16), rows)
        kernels.gemv[grid](
            weight.words, weight.ones, x.q.view(torch.int32), *factors, outputs, length, **how, **blocks,
            enable_fp_fusion=False,
        )  # fmt: skip
        return out
    blocks = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_W": 2}
    tiles = (triton.cdiv(rows, blocks["BLOCK_M"]), triton.cdiv(outputs, blocks["BLOCK_N"]))
    kernels.gemm[tiles](
        weight.words, weight.ones, x.q, *factors, rows, outputs, length, **how, **blocks, enable_fp_fusion=False
    )
    return out
