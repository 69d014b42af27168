"""The Triton kernels: quantise rows, and multiply rows of levels with rows of bits.

The sums are exact integers, the same as the engine's. Each float operation is rounded by itself, as docs/program.md says: launches switch the
fusion of products and sums off.

Bits lie in words of 32, input `32 w + k` at bit `k` of word `w`. Levels are stored in the order in which a word's bits come out four at a time:
`(word >> lane) & 0x01010101` holds the bits `lane`, `lane + 8`, `lane + 16` and `lane + 24`, so the level of input `32 w + 8 b + lane` stands at
`32 w + 4 lane + b`.
"""

# Triton reads these functions' sources: they are typed by what it compiles, not by annotations.
# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl

# Adding and subtracting 1.5 * 2^23 rounds to the nearest integer, ties to even, below 2^22.
_ROUND = tl.constexpr(12582912.0)
DYNAMIC, SIGN, UNIT, ABSMAX = (tl.constexpr(n) for n in range(4))


@triton.jit
def _rounded(x):
    return (x + _ROUND) - _ROUND


@triton.jit
def quantize_rows(
    x, q, scale, offset, total, inputs, padded, top, KIND: tl.constexpr, BLOCK: tl.constexpr
):  # one program for each row
    """float32 (rows, inputs) to levels int8 (rows, padded), their scales, what was subtracted from them, and their sums."""
    row = tl.program_id(0).to(tl.int64)
    low, high, bad = 0.0, 0.0, 0
    for start in range(0, inputs, BLOCK):
        i = start + tl.arange(0, BLOCK)
        v = tl.load(x + row * inputs + i, mask=i < inputs, other=0.0)
        bad += tl.sum(((v != v) | (tl.abs(v) == float("inf"))).to(tl.int32))
        v = tl.where(v == v, v, 0.0)
        low = tl.minimum(low, tl.min(v))
        high = tl.maximum(high, tl.max(tl.abs(v)))
    signed = low < 0
    if KIND == DYNAMIC:
        most = tl.where(signed, 127.0, 255.0)
        some = high > 1e-30
        s = tl.where(some, tl.div_rn(high, most), 1.0)
        factor = tl.where(some, tl.div_rn(1.0, s), 0.0)
        shift = tl.where(signed, 0, 128)
    elif KIND == ABSMAX:
        most = top
        high = tl.maximum(high, 1e-5)
        factor, s = tl.div_rn(most, high), tl.div_rn(high, most)
        shift = 0
    elif KIND == UNIT:
        most, factor, s = top, top, tl.div_rn(1.0, top)
        shift = 128
    else:
        most, factor, s = 1.0, 1.0, 1.0
        shift = 0
    if KIND == DYNAMIC or KIND == ABSMAX:  # noqa: SIM109 - Triton compiles no membership
        s = tl.where(bad > 0, float("nan"), s)
    added = 0
    for start in range(0, padded, BLOCK):
        i = start + tl.arange(0, BLOCK)
        v = tl.load(x + row * inputs + i, mask=i < inputs, other=0.0)
        if KIND == SIGN:
            level = tl.where(v >= 0, 1.0, -1.0)
        elif KIND == UNIT:
            v = tl.where(v == v, v, 0.0)
            level = _rounded(tl.minimum(tl.maximum(v, 0.0), 1.0) * factor)
        else:
            v = tl.where(bad > 0, 0.0, v)
            level = _rounded(v * factor)
            level = tl.minimum(tl.maximum(level, tl.where(signed, -most, -most * (KIND == ABSMAX))), most)
        level = tl.where(i < inputs, level, 0.0).to(tl.int32)
        added += tl.sum(level)
        place = i // 32 * 32 + i % 8 * 4 + i % 32 // 8
        tl.store(q + row * padded + place, (level - shift).to(tl.int8), mask=i < padded)
    tl.store(scale + row, s)
    tl.store(offset + row, shift)
    tl.store(total + row, added)


@triton.jit
def _dot4(bits, levels, sums, DP4A: tl.constexpr):
    """Add the products of four bytes of 0 and 1 with four signed bytes."""
    if DP4A:
        sums = tl.inline_asm_elementwise(
            "dp4a.s32.s32 $0, $1, $2, $3;",
            "=r,r,r,r",
            [bits, levels, sums],
            dtype=tl.int32,
            is_pure=True,
            pack=1,
        )
    else:
        for b in tl.static_range(4):
            sums += ((bits >> (8 * b)) & 1) * ((levels << (24 - 8 * b)) >> 24)
    return sums


@triton.jit
def _finish(dot, ones, offset, total, PM1: tl.constexpr):
    """Sums over bits of 0 and 1 with shifted levels to the layer's sums."""
    dot += offset * ones
    if PM1:
        dot = 2 * dot - total
    return dot


@triton.jit
def gemv(
    words, ones, q, offset, total, scale, bias, out, outputs, length,
    PM1: tl.constexpr, SCALED: tl.constexpr, BIASED: tl.constexpr, DP4A: tl.constexpr,
    BLOCK_O: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """A few rows: int32 words (outputs, length) times levels, four to an int32 (rows, 8 * length), to (rows, outputs)."""
    o = tl.program_id(0) * BLOCK_O + tl.arange(0, BLOCK_O)
    row = tl.program_id(1)
    inside = o < outputs
    sums = tl.zeros((BLOCK_O, BLOCK_W), tl.int32)
    for start in range(0, length, BLOCK_W):
        w = start + tl.arange(0, BLOCK_W)
        there = w < length
        bits = tl.load(
            words + o[:, None].to(tl.int64) * length + w[None, :], mask=inside[:, None] & there[None, :], other=0
        )
        for lane in tl.static_range(8):
            levels = tl.load(q + row * length * 8 + w * 8 + lane, mask=there, other=0)
            levels = tl.broadcast_to(levels[None, :], (BLOCK_O, BLOCK_W))
            sums = _dot4((bits >> lane) & 0x01010101, levels, sums, DP4A)
    dot = _finish(
        tl.sum(sums, 1), tl.load(ones + o, mask=inside, other=0), tl.load(offset + row), tl.load(total + row), PM1
    )
    place = out + row.to(tl.int64) * outputs + o
    if SCALED:
        y = tl.load(scale + row) * dot.to(tl.float32)
        if BIASED:
            y += tl.load(bias + o, mask=inside, other=0.0)
        tl.store(place, y, mask=inside)
    else:
        tl.store(place, dot, mask=inside)


@triton.jit
def gemm(
    words, ones, q, offset, total, scale, bias, out, rows, outputs, length,
    PM1: tl.constexpr, SCALED: tl.constexpr, BIASED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Many rows: as `gemv`, with tiles of levels int8 (rows, 32 * length) on the tensor cores."""
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, 32 * BLOCK_W)
    bit = k % 4 * 8 + k % 32 // 4
    sums = tl.zeros((BLOCK_M, BLOCK_N), tl.int32)
    for start in range(0, length, BLOCK_W):
        w = start + k // 32
        there = w < length
        levels = tl.load(
            q + m[:, None].to(tl.int64) * length * 32 + start * 32 + k[None, :],
            mask=(m < rows)[:, None] & there[None, :],
            other=0,
        )
        found = tl.load(
            words + n[None, :].to(tl.int64) * length + w[:, None], mask=(n < outputs)[None, :] & there[:, None], other=0
        )
        sums = tl.dot(levels, ((found >> bit[:, None]) & 1).to(tl.int8), sums, out_dtype=tl.int32)
    inside_m, inside_n = m < rows, n < outputs
    ones_n = tl.load(ones + n, mask=inside_n, other=0)[None, :]
    offset_m = tl.load(offset + m, mask=inside_m, other=0)[:, None]
    total_m = tl.load(total + m, mask=inside_m, other=0)[:, None]
    dot = _finish(sums, ones_n, offset_m, total_m, PM1)
    place = out + m[:, None].to(tl.int64) * outputs + n[None, :]
    inside = inside_m[:, None] & inside_n[None, :]
    if SCALED:
        y = tl.load(scale + m, mask=inside_m, other=0.0)[:, None] * dot.to(tl.float32)
        if BIASED:
            y += tl.load(bias + n, mask=inside_n, other=0.0)[None, :]
        tl.store(place, y, mask=inside)
    else:
        tl.store(place, dot, mask=inside)
