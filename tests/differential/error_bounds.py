"""Compute a program with a bound of the float32 error of each number.

What an implementation gives must lie within the bounds. They follow from how often it may round, and never from what was found: an op
that docs/program.md defines to the last bit has the bound 0 where its inputs have. A number that is nearer to a threshold of a quantizer than its
bound may fall on either side of it: the level's bound is then the distance of both levels, and nothing is left out. Where the documents promise
nothing (sums with infinities, overflow), the bound is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onebit.ops import OPS
from onebit.ops.attention import round_to_bfloat16, sees
from onebit.ops.bit_rows import read_rows
from onebit.ops.conv import convolve
from onebit.ops.conv_transpose import reached, spread
from onebit.ops.exit import certainty
from onebit.ops.grouped import LEVELS
from onebit.ops.op import Precision
from onebit.ops.quantize import quantize, quantize_input
from onebit.ops.recurrence import Recurrence
from onebit.ops.resize import between
from onebit.ops.rotary import tables
from onebit.ops.volume import convolve as convolve_volume
from onebit.ops.windows import windows
from onebit.program import Program, Step

U = 2.0**-24  # half a unit in the last place, relative
TINY = 2.0**-148  # the same of numbers so small that float32 has fewer digits
LARGEST = 3.3e38
# Sums over rows have so many parts at most that grow one after the other: pieces of 4096 in 16 lanes.
MOST_IN_TURN = 320
# Of e^x, and of what is made of it: relative, and where it ends in numbers of few digits.
POWER, SMALLEST_POWER = 12 * U, 4 * TINY


@dataclass(frozen=True)
class Value:
    """Numbers and how far off each may be.

    Args:
        x: float32, as the documents give them.
        error: float64 of the same shape; 0 where every bit is promised, infinite where nothing is.
        sums: of a product: what follows may be fused into it and is then rounded once less.
    """

    x: Any
    error: Any
    sums: bool = False


def exactly(x: Any) -> Value:
    return Value(x, np.zeros(x.shape))


def _rounding(y: Any) -> Any:
    return U * np.abs(y.astype(np.float64)) + TINY


def _closed(y: Any, error: Any, sums: bool = False) -> Value:
    """A result; nothing is promised near and beyond the largest number that is not exact."""
    y = np.asarray(y, np.float32)
    error = np.where(np.isnan(error), np.inf, np.broadcast_to(error, y.shape))
    unsure = (error > 0) & ~(np.abs(y.astype(np.float64)) + error < LARGEST)
    return Value(y, np.where(unsure, np.inf, error), sums)


def _promised(y: Any, error: Any) -> Value:
    """The result of one operation: exact where its operands are, else rounded from some number within the error."""
    error = np.where(np.isnan(error), np.inf, error)
    return _closed(y, np.where(error > 0, error + 2 * (_rounding(y) + U * error), 0))


def _finite(v: Value) -> tuple[Any, Any]:
    """Numbers for sums: what is no number may become anything in them."""
    good = np.isfinite(v.x)
    return np.where(good, v.x, 0).astype(np.float64), np.where(good, v.error, np.inf)


def add(a: Value, b: Value) -> Value:
    return _promised(a.x + b.x, a.error + b.error)


def multiply(a: Value, b: Value) -> Value:
    if b.x.ndim == 2 and b.x.ndim < a.x.ndim:  # a number for each channel
        b = Value(*(z.reshape(len(z), *[1] * (a.x.ndim - 2), -1) for z in (b.x, b.error)))
    error = np.abs(a.x) * b.error + np.abs(b.x) * a.error + a.error * b.error
    return _promised(a.x * b.x, np.where((a.error == 0) & (b.error == 0), 0, error))


def sigmoid(v: Value) -> Value:
    return _smooth(v, lambda x: 1 / (1 + np.exp(-x)), 0.25)


def tanh(v: Value) -> Value:
    return _smooth(v, np.tanh, 1)


def _smooth(v: Value, function: Any, slope: float) -> Value:
    y = function(v.x.astype(np.float64))
    return _closed(y, slope * v.error + POWER * np.abs(y) + SMALLEST_POWER)


def _silu(v: Value) -> Value:
    x, e = _finite(v)
    y = x / (1 + np.exp(-x))
    return _closed(y, 1.1 * e + POWER * np.abs(y) + SMALLEST_POWER * (1 + np.abs(x)))


def _hard_sigmoid(v: Value) -> Value:
    y = np.clip(v.x + np.float32(3), np.float32(0), np.float32(6)) / np.float32(6)
    return _promised(y, np.where(v.error > 0, v.error / 6 + 4 * U, 0))


def _gelu(v: Value) -> Value:
    x, e = _finite(v)
    y = x / 2 * (1 + np.frompyfunc(math.erf, 1, 1)(x / math.sqrt(2)).astype(np.float64))
    # The engine's polynomial is good to 1.5e-7, times x / 2; 1 + erf, as the reference and PyTorch compute it, to as much.
    return _closed(y, 1.13 * e + 2.5e-7 * np.abs(x) + 8 * _rounding(y))


def _softmax_bounds(scores: Any, error: Any, seen: Any = True) -> tuple[Any, Any]:
    """The softmax over the last axis of what is seen, and its bounds."""
    from_top = np.where(seen, scores, -np.inf)
    from_top = from_top - from_top.max(-1, keepdims=True)
    p = np.exp(from_top)
    p /= p.sum(-1, keepdims=True)
    worst = np.where(seen, error, 0).max(-1, keepdims=True)
    relative = (
        np.expm1(np.minimum(error + worst, 700))
        + POWER
        + scores.shape[-1] * U
        + 3 * U * np.where(p > 0, np.abs(from_top), 0)
    )
    return p, np.where(seen, np.minimum(p * relative, 1 + 1e-6) + SMALLEST_POWER, 0)


def _softmax(v: Value) -> Value:
    x, e = _finite(v)
    p, error = _softmax_bounds(x, e)
    return _closed(p, np.where(np.isinf(e).any(-1, keepdims=True), np.inf, error))


def _normalized(v: Value, axes: tuple[int, ...], eps: float) -> Value:
    x, e = _finite(v)
    n = min(math.prod(v.x.shape[i] for i in axes), MOST_IN_TURN) + 8

    def mean(y: Any) -> Any:
        return y.mean(axes, keepdims=True)

    d = x - mean(x)
    d_error = e + mean(e) + n * U * mean(np.abs(x)) + 2 * U * np.abs(d)
    variance = mean(d * d)
    v_error = mean(2 * np.abs(d) * d_error + d_error**2) + n * U * variance
    root = np.sqrt(variance + eps)
    least = np.sqrt(np.maximum(variance - v_error, 0) + eps)
    y = d / root
    error = d_error / least + np.abs(d) * (1 / least - 1 / root) + 8 * U * np.abs(y)
    # One that is no number makes all of them so.
    nothing, unknown = (z.any(axes, keepdims=True) for z in (~np.isfinite(v.x), np.isinf(v.error)))
    error = np.where(unknown, np.inf, np.where(nothing, 0, error))
    return _closed(np.where(nothing & ~unknown, np.nan, y), error)


def _rms_normalized(v: Value, groups: int, eps: float) -> Value:
    shape = (*v.x.shape[:-1], groups, v.x.shape[-1] // groups)
    x, e = (z.reshape(shape) for z in _finite(v))
    n = min(shape[-1], MOST_IN_TURN) + 8
    squares = (x * x).mean(-1, keepdims=True)
    off = (2 * np.abs(x) * e + e * e).mean(-1, keepdims=True) + n * U * squares
    root, least = np.sqrt(squares + eps), np.sqrt(np.maximum(squares - off, 0) + eps)
    y = x / root
    error = e / least + np.abs(x) * (1 / least - 1 / root) + 8 * U * np.abs(y)
    nothing, unknown = (z.reshape(shape).any(-1, keepdims=True) for z in (~np.isfinite(v.x), np.isinf(v.error)))
    error = np.where(unknown, np.inf, np.where(nothing, 0, error))
    return _closed(
        np.where(nothing & ~unknown, np.nan, y).reshape(v.x.shape), np.broadcast_to(error, shape).reshape(v.x.shape)
    )


def _rotated(step: Step, v: Value) -> Value:
    """The tables are promised to the last bit, and so are sums of products that are rounded one by one."""
    a, time = step.attributes, v.x.shape[1]
    shape = (*v.x.shape[:2], a["heads"], v.x.shape[2] // a["heads"])
    rotated = a.get("rotated", shape[-1])
    half = rotated // 2
    cosine, sine = (np.abs(table[:, None].astype(np.float64)) for table in tables(a, rotated, time))
    e, size = v.error.reshape(shape), np.abs(v.x.astype(np.float64)).reshape(shape)

    def turned(z: Any) -> Any:
        first, second = z[..., :half], z[..., half:rotated]
        return np.concatenate((first * cosine + second * sine, second * cosine + first * sine, z[..., rotated:]), -1)

    off = np.where(np.isinf(e), np.inf, turned(np.where(np.isinf(e), 0, e)))
    pairs = np.isinf(e[..., :half]) | np.isinf(e[..., half:rotated])
    off[..., :half] = np.where(pairs, np.inf, off[..., :half])
    off[..., half:rotated] = np.where(pairs, np.inf, off[..., half:rotated])
    off = np.where(off > 0, off + 3 * U * turned(size) + 3 * TINY, 0)
    return _closed(_computed(step, v.x), off.reshape(v.x.shape))


def _group_normalized(v: Value, groups: int, eps: float) -> Value:
    shape = (*v.x.shape[:-1], groups, v.x.shape[-1] // groups)
    axes = (1, 2, 4) if v.x.ndim == 4 else (len(shape) - 1,)
    y = _normalized(Value(v.x.reshape(shape), v.error.reshape(shape)), axes, eps)
    return Value(y.x.reshape(v.x.shape), y.error.reshape(v.x.shape))


def _outwards(v: Value) -> tuple[Any, Any]:
    """The least and the largest float32 that each number may be."""
    low, high = (v.x - v.error).astype(np.float32), (v.x + v.error).astype(np.float32)
    low, high = np.nextafter(low, np.float32(-np.inf)), np.nextafter(high, np.float32(np.inf))
    return np.where(v.error > 0, low, v.x), np.where(v.error > 0, high, v.x)


@dataclass(frozen=True)
class _Levels:
    """Quantised inputs: levels and their scales as the documents give them; what level times scale may be off; rows of which all is known to be NaN,
    and those of which nothing is known."""

    q: Any
    scale: Any
    error: Any
    nothing: Any
    unknown: Any


def quantized(v: Value, axes: tuple[int, ...], kind: Mapping[str, Any] | None) -> _Levels:
    q, scale = quantize(v.x, axes) if kind is None else quantize_input(v.x, axes, kind)
    low, high = _outwards(v)
    none = np.zeros(scale.shape, bool)
    if kind is not None and kind["quantizer"] != "absmax":
        ends = [quantize_input(end, axes, kind)[0] for end in (low, high)]
        return _Levels(q, scale, np.maximum(ends[1] - q, q - ends[0]) * scale.astype(np.float64), none, none)
    unknown = np.isinf(v.error).any(axes, keepdims=True)
    nothing = ~np.isfinite(v.x).all(axes, keepdims=True) & ~unknown
    x, e = np.where(np.isfinite(v.x), v.x, 0).astype(np.float64), np.where(np.isinf(v.error), 0, v.error)
    size = np.abs(x)
    most, least = (size + e).max(axes, keepdims=True), np.maximum(size - e, 0).max(axes, keepdims=True)
    if kind is None:
        # Whether any number is negative decides between two scales.
        surely, perhaps = (x + e < 0).any(axes, keepdims=True), (x - e < 0).any(axes, keepdims=True)
        top = np.where(surely | (low.min(axes, keepdims=True) < 0), 127.0, 255.0)
        either = perhaps & ~surely
    else:
        top = np.full(scale.shape, 2.0 ** (kind["bits"] - 1) - 1)
        most, least = np.maximum(most, 1e-5), np.maximum(least, 1e-5)
        either = none
    s_low, s_high = least / top * (1 - 4 * U), most / top * (1 + 4 * U)
    ends = [
        np.clip(np.rint(end / np.where((end < 0) == (sign < 0), s_low, s_high).clip(1e-45)), -top, top)
        for end, sign in ((x - e, -1), (x + e, 1))
    ]
    off = np.maximum(np.maximum(ends[1] - q, q - ends[0]), 0) * s_high + np.abs(q) * (s_high - s_low)
    off = np.where(either, e + most / 127, off)
    off = np.where(most < 1e-29, 2 * (size + e), off)  # below 1e-30 all levels are 0
    exact = (e == 0).all(axes, keepdims=True)
    return _Levels(q, scale, np.where(exact, 0, off), nothing, unknown)


def _weights(step: Step, tensors: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """What the bits of a layer weigh, float64; what the planes of a weight weigh together; the bias."""
    a = step.attributes
    planes = np.array(a.get("planes", [1]), np.float64)
    bits = read_rows(tensors["weight"], math.prod(shape[1:]), a["values"]).reshape(len(planes), *shape)
    bias = np.zeros(shape[0], np.float32)
    if "bias" in tensors:
        bias = read_rows(tensors["bias"], shape[0], a["values"])[0].astype(np.float32)
    return (
        np.tensordot(planes, bits.astype(np.float64), 1),
        np.tensordot(planes, np.abs(bits).astype(np.float64), 1),
        bias,
    )


def _filled(tensors: Mapping[str, Any], shape: tuple[int, ...]) -> Any:
    """The weight of a sparse layer with its zeros, float64."""
    weight = np.zeros(shape)
    weight[np.unpackbits(tensors["mask"], axis=1, count=shape[1], bitorder="little") == 1] = tensors["weight"]
    return weight


def _product(step: Step, tensors: Mapping[str, Any], v: Value, precision: str) -> Value:
    a = step.attributes
    volume = step.op.endswith("conv3d")
    convolution = step.op.endswith("2d") or volume
    if volume:
        kd, kh, kw = a["kernel_size"]
        shape: tuple[int, ...] = (a["out_channels"], kd * kh, kw, a["in_channels"] // a["groups"])
    elif convolution:
        shape = (a["out_channels"], *a["kernel_size"], a["in_channels"] // a["groups"])
    else:
        shape = (a["out_features"], a["in_features"])

    def apply(x: Any, w: Any) -> Any:
        if step.op.endswith("transpose2d"):
            return spread(x, w, a)
        if volume:
            return convolve_volume(x, w, a)
        return convolve(x, w, a) if convolution else x @ w.T

    bits = step.op.startswith("bit_")
    if bits:
        weight, size, bias = _weights(step, tensors, shape)
    else:
        weight = _filled(tensors, shape) if "mask" in tensors else tensors["weight"].astype(np.float64)
        size, bias = np.abs(weight), tensors.get("bias", np.float32(0))
    if bits and (precision == "int8" or "input" in a):
        axes = tuple(range(1, v.x.ndim)) if convolution else (v.x.ndim - 1,)
        levels = quantized(v, axes, a.get("input"))
        sums = apply(levels.q.astype(np.float64), weight)
        scaled = levels.scale * sums.astype(np.float32)
        nothing = levels.nothing
        if step.op.endswith("transpose2d"):
            scaled = np.where(reached(v.x, a), scaled, np.float32(0))
            nothing = nothing & reached(v.x, a)
        y = (scaled + bias).astype(np.float32)
        off = apply(levels.error, np.abs(weight))
        # A processor may scale and add with one rounding.
        off = (
            off * (1 + 8 * U)
            + np.where(off > 0, 2 * _rounding(scaled), 0)
            + np.where(bias != 0, _rounding(scaled) + 2 * _rounding(y), 0)
        )
        off = np.where(off > 0, off + _rounding(y), 0)
        y = np.where(nothing, np.float32(np.nan), y)
        return _closed(y, np.where(levels.unknown, np.inf, np.where(nothing, 0, off)), sums=True)
    x, e = _finite(v)
    n = math.prod(shape[1:]) + len(a.get("planes", [1])) + 4
    y = apply(x, weight) + bias
    # Of -1 and 1 an engine may take twice the sum of some and take off that of all.
    all_of = apply(np.abs(x), size) * (3 if a.get("values") == "pm1" else 1)
    off = apply(e, size)
    error = off * (1 + n * U) + n * U * (all_of + np.abs(bias)) + n * TINY + _rounding(y)
    return _closed(y, np.where(all_of < LARGEST, error, np.inf), sums=True)


def _grouped(step: Step, tensors: Mapping[str, Any], v: Value, precision: Any) -> Value:
    """A layer with a scale for each group of inputs."""
    a = step.attributes
    shape = (a["out_features"], a["in_features"])
    if step.op == "int8_linear":
        weight, bias = tensors["weight"].astype(np.float64), np.zeros(shape[0], np.float32)
    else:
        weight, _, bias = _weights(step, tensors, shape)
        weight = weight - a.get("zero", 0)
    scale = np.abs(tensors["scale"].astype(np.float64))
    groups = scale.shape[1]
    size = shape[1] // groups
    y = _computed(step, v.x, tensors, precision)
    error, sizes = np.zeros(y.shape), np.zeros(y.shape)
    nothing, unknown = np.zeros((*y.shape[:-1], 1), bool), np.zeros((*y.shape[:-1], 1), bool)
    for g in range(groups):
        part, own = slice(g * size, (g + 1) * size), np.abs(weight[:, g * size : (g + 1) * size])
        of_group = Value(v.x[..., part], v.error[..., part])
        if precision == "int8":
            levels = quantized(of_group, (v.x.ndim - 1,), LEVELS)
            nothing, unknown = nothing | levels.nothing, unknown | levels.unknown
            known = np.where(levels.unknown | levels.nothing, 0, levels.scale)
            sizes = sizes + scale[:, g] * ((np.abs(levels.q) * known) @ own.T)
            error = error + scale[:, g] * (np.where(levels.unknown, 0, levels.error) @ own.T)
            continue
        x, e = _finite(of_group)
        # An engine may take off `zero` from each weight or from the sum.
        sizes = sizes + scale[:, g] * (np.abs(x) @ (own + 2 * a.get("zero", 0)).T) * (
            3 if a.get("values") == "pm1" else 1
        )
        error = error + scale[:, g] * (e @ own.T)
    # Each group is rounded twice, and all sums of floats as often as they have terms.
    n = 3 * groups + 4 + (0 if precision == "int8" else size + len(a.get("planes", [1])))
    error = error * (1 + n * U) + n * U * (sizes + error + np.abs(bias)) + n * TINY
    error = np.where(sizes < LARGEST, error, np.inf)
    y = np.where(nothing & ~unknown, np.float32(np.nan), y)
    return _closed(y, np.where(unknown, np.inf, np.where(nothing, 0, error)), sums=True)


def _scale_shift(v: Value, scale: Any, shift: Any) -> Value:
    y = v.x * scale + shift
    # Nothing is promised of 0 times a number that may be anything.
    known = np.where(np.isinf(v.error), 0, v.error)
    error = np.where(np.isinf(v.error), np.inf, np.abs(scale) * known)
    if v.sums or np.any(error > 0):
        fewer = _rounding(v.x * scale) + _rounding(y)
        error = np.where(((error > 0) | v.sums) & ~(np.isnan(y) & (v.error == 0)), error + 2 * fewer, 0)
    return _closed(y, error)


def _resized(step: Step, v: Value) -> Value:
    """Every bit is promised where the inputs' are."""
    a, y = step.attributes, _computed(step, v.x)
    known = np.where(np.isinf(v.error), 0, v.error)
    error = np.zeros(y.shape)
    unknown = np.zeros(y.shape, bool)
    sides = [between(n, m, a.get("align_corners", False)) for n, m in zip(v.x.shape[1:3], a["size"], strict=True)]
    for line in sides[0][:2]:
        for column in sides[1][:2]:
            size = np.abs(np.where(np.isfinite(v.x), v.x, 0)).astype(np.float64)
            corner = (slice(None), line[:, None], column)
            error = error + np.where(known.any(), known[corner] + 4 * U * size[corner] + TINY, 0)
            unknown |= np.isinf(v.error[corner])
    touched = np.zeros(y.shape, bool)
    for line in sides[0][:2]:
        for column in sides[1][:2]:
            touched |= v.error[:, line[:, None], column] > 0
    return _closed(y, np.where(unknown, np.inf, np.where(touched, error, 0)))


def _pooled(step: Step, v: Value) -> Value:
    a = step.attributes
    if step.op == "max_pool2d":
        error = windows(a, v.error, 0.0).max((-2, -1))
        return _closed(_computed(step, v.x), error)
    x, e = _finite(v)
    if step.op == "mean_magnitude":
        n = min(x.shape[-1], MOST_IN_TURN) + 8
        means = np.abs(x).mean(-1, keepdims=True)
        error = e.mean(-1, keepdims=True) + n * U * means + TINY
        if "kernel_size" not in a:
            return _closed(means, error + _rounding(means))
        y = windows(a, means, 0).mean((-2, -1))
        return _closed(y, windows(a, error, 0).mean((-2, -1)) + _rounding(y))
    counts = windows(a, np.full_like(x[:1], 1), 1 if a["count_include_pad"] else 0).sum((-2, -1))
    n = math.prod(a["kernel_size"]) + 4
    y, size, off = (windows(a, z, 0).sum((-2, -1)) / counts for z in (x, np.abs(x), e))
    return _closed(y, off + n * U * size + _rounding(y))


def _recurrence(step: Step, tensors: Mapping[str, Any], gates: Value, precision: str) -> Value:
    a, hidden = step.attributes, step.attributes["hidden"]
    n, time, outputs = gates.x.shape
    bits = step.op.startswith("bit_")
    sizes = {"in_features": hidden, "out_features": outputs}
    dense = Step("bit_linear" if bits else "linear", (), "", {**a, **sizes}, {"weight": "weight"})
    named = {"weight": tensors["weight"]} | ({} if bits or "shift" not in tensors else {"bias": tensors["shift"]})

    def product(h: Value) -> Value:
        s = _product(dense, named, h, precision)
        if not bits:
            return s
        if "eps" in a:
            s = _group_normalized(s, outputs // hidden, a["eps"])
        return _scale_shift(s, tensors["scale"], tensors["shift"])

    def part(v: Value, i: int) -> Value:
        return Value(v.x[:, i * hidden : (i + 1) * hidden], v.error[:, i * hidden : (i + 1) * hidden])

    one = exactly(np.ones((n, hidden), np.float32))
    h = c = exactly(np.zeros((n, hidden), np.float32))
    rows: list[Value] = [h] * time
    for t in reversed(range(time)) if a.get("reverse") else range(time):
        given, s = Value(gates.x[:, t], gates.error[:, t]), product(h)
        if outputs == 4 * hidden:
            i, f, g, o = (part(add(given, s), k) for k in range(4))
            c = add(multiply(sigmoid(f), c), multiply(sigmoid(i), tanh(g)))
            h = multiply(sigmoid(o), tanh(c))
        else:
            r, z = (sigmoid(add(part(given, k), part(s, k))) for k in range(2))
            new = tanh(add(part(given, 2), multiply(r, part(s, 2))))
            h = add(multiply(add(one, Value(-z.x, z.error)), new), multiply(z, h))
        rows[t] = h
    return Value(np.stack([row.x for row in rows], 1), np.stack([row.error for row in rows], 1))


def _kept(v: Value, heads: int, precision: str, cache: str | None) -> Value:
    """Keys or values as they are kept."""
    if precision == "float32":
        return v
    if cache == "int8":
        parts = v.x.reshape(*v.x.shape[:-1], heads, -1)
        most = (np.abs(parts) + v.error.reshape(parts.shape)).max(-1, keepdims=True)
        return Value(v.x, v.error + np.broadcast_to(most / 127 * 0.51, parts.shape).reshape(v.x.shape))
    y = round_to_bfloat16(v.x)
    low, high = (round_to_bfloat16(end).astype(np.float64) for end in _outwards(v))
    return _closed(y, np.where(v.error > 0, np.maximum(high - y, y - low), 0))


def _full_attention(a: Mapping[str, Any], tensors: Mapping[str, Any], inputs: list[Value]) -> Value:
    q, k, v, *masks = inputs
    seen = np.ones((len(q.x), 1, 1, k.x.shape[1]), bool)
    if masks:
        seen = (masks[0].x != 0)[:, None, None]
    if a.get("causal"):
        seen = seen & sees(q.x.shape[1])
    y = _attention(a, q, k, v, "float32", None, seen, tensors.get("bias"))
    # Where a number of the mask may be 0 or not, the result may be anything.
    return Value(y.x, np.full_like(y.error, np.inf)) if masks and bool((masks[0].error != 0).any()) else y


def _attention(
    a: Mapping[str, Any],
    q: Value,
    k: Value,
    v: Value,
    precision: str,
    cache: str | None,
    shown: Any = None,
    bias: Any = None,
) -> Value:
    n, time, features = q.x.shape
    source = k.x.shape[1]
    heads, kv_heads = a["heads"], a.get("kv_heads", a["heads"])
    d = features // heads

    def split(value: Value) -> tuple[Any, Any]:
        x, e = _finite(value)
        own = x.shape[-1] // d
        x, e = (y.reshape(n, y.shape[1], own, d).transpose(0, 2, 1, 3).repeat(heads // own, 1) for y in (x, e))
        return x, e

    (qx, qe), (kx, ke), (vx, ve) = (
        split(q),
        split(_kept(k, kv_heads, precision, cache)),
        split(_kept(v, kv_heads, precision, cache)),
    )
    if cache == "int8":  # queries and weights may be rounded to 16 bits of the largest
        qe = qe + np.abs(qx).max(-1, keepdims=True) * 2.0**-15

    def dot(a: Any, b: Any) -> Any:
        return a @ b.transpose(0, 1, 3, 2)

    scores, size = dot(qx, kx) / math.sqrt(d), dot(np.abs(qx), np.abs(kx)) / math.sqrt(d)
    error = (dot(np.abs(qx), ke) + dot(qe, np.abs(kx) + ke)) / math.sqrt(d) + (d + 6) * U * size + TINY
    if bias is not None:
        scores = scores + bias
        error = error + U * (np.abs(scores) + np.abs(bias))
    # Engines compute whole blocks of tokens, also where a window or a mask hides some.
    everything = np.ones((time, source), bool)
    before, seen = (sees(time), sees(time, a.get("window"))) if shown is None else (everything, shown)
    something = np.broadcast_to(seen, scores.shape).any(-1, keepdims=True)
    seen = seen | ~something
    # One row that may be anything makes all rows after it so.
    unknown = np.where(before, ~(error < 1e30) | ~(size < LARGEST), False).any(-1, keepdims=True)
    p, p_error = _softmax_bounds(scores, np.where(unknown, 0, error), seen)
    p, p_error = np.where(something, p, 0), np.where(something, p_error, 0)  # 0 where nothing is seen
    y, sizes = p @ vx, p @ np.abs(vx)
    endless = np.where(before[..., None], np.isinf(ve)[:, :, None], False).any(-2)  # (n, heads, time, d)
    ve = np.where(np.isinf(ve), 0, ve)
    off = p_error @ (np.abs(vx) + ve) + p @ ve + (source + 6) * U * sizes + _rounding(y)
    if cache == "int8":
        off = off + (p * np.abs(vx).max(-1)[:, :, None]).max(-1, keepdims=True) * time * 2.0**-15
    off = np.where(unknown | endless, np.inf, off)
    y, off = (z.transpose(0, 2, 1, 3).reshape(n, time, features) for z in (y, off))
    return _closed(y, off)


def _computed(step: Step, x: Any, tensors: Mapping[str, Any] | None = None, precision: Precision = "float32") -> Any:
    """What the reference makes of a value."""
    return OPS[step.op].run(step.attributes, tensors or {}, precision, x)


def _moved(step: Step, v: Value) -> Value:
    """Ops that only put numbers elsewhere, or choose some."""
    return Value(_computed(step, v.x), _computed(step, v.error))


def _largest_place(step: Step, v: Value) -> Value:
    """Exact where no other number of a row can be the largest."""
    y = _computed(step, v.x)
    ordered = np.sort(np.where(np.isnan(v.x), np.inf, v.x), -1)
    gap = ordered[..., -1:] - ordered[..., -2:-1] if ordered.shape[-1] > 1 else np.full(y.shape, np.inf)
    sure = (gap > 2 * v.error.max(-1, keepdims=True)) | (v.error == 0).all(-1, keepdims=True)
    return Value(y, np.where(sure, 0.0, np.inf))


def _one(step: Step, tensors: Mapping[str, Any], inputs: list[Value], precision: str, cache: str | None) -> Value:
    a, v = step.attributes, inputs[0]
    match step.op:
        case "bit_linear" | "int8_linear" if "scale" in tensors:
            return _grouped(step, tensors, v, precision)
        case (
            "bit_linear"
            | "bit_conv2d"
            | "bit_conv_transpose2d"
            | "linear"
            | "sparse_linear"
            | "conv2d"
            | "conv_transpose2d"
            | "conv3d"
            | "bit_conv3d"
        ):
            return _product(step, tensors, v, precision)
        case "add":
            return add(*inputs)
        case "multiply":
            return multiply(*inputs)
        case "attention":
            return _attention(a, inputs[0], inputs[1], inputs[2], precision, cache)
        case "full_attention":
            return _full_attention(a, tensors, inputs)
        case "add_constant":
            return add(v, exactly(tensors["constant"].reshape(1, *v.x.shape[1:])))
        case "prepend":
            rows = np.zeros((len(v.x), *tensors["constant"].shape))
            return Value(_computed(step, v.x, tensors), np.concatenate((rows, v.error), axis=1))
        case "concatenate":
            return Value(
                *(
                    np.concatenate(pair, axis=a["axis"] + 1)
                    for pair in ([z.x for z in inputs], [z.error for z in inputs])
                )
            )
        case "resize" if a["mode"] == "bilinear":
            return _resized(step, v)
        case "scale_shift":
            return _scale_shift(v, tensors["scale"], tensors.get("shift", np.float32(-0.0)))
        case "relu" | "clip":
            # After either the order of roundings is as before.
            y = _computed(step, v.x, tensors)
            return Value(y, v.error)
        case "relu_squared":
            positive = Value(np.maximum(v.x, 0), v.error)
            return multiply(positive, positive)
        case "scale":
            return _promised(v.x * np.float32(a["factor"]), v.error * a["factor"])
        case "prelu":
            y = _computed(step, v.x, tensors)
            return _promised(y, np.where(v.error > 0, v.error * np.maximum(np.abs(tensors["slope"]), 1), 0))
        case "normalize":
            return _normalized(v, (v.x.ndim - 1,) if a["over"] == "channel" else tuple(range(1, v.x.ndim)), a["eps"])
        case "rms_normalize":
            return _rms_normalized(v, a.get("groups", 1), a["eps"])
        case "rotary":
            return _rotated(step, v)
        case "group_normalize":
            return _group_normalized(v, a["groups"], a["eps"])
        case "sigmoid":
            return sigmoid(v)
        case "tanh":
            return tanh(v)
        case "silu":
            return _silu(v)
        case "hard_sigmoid":
            return _hard_sigmoid(v)
        case "hard_swish":
            return multiply(v, _hard_sigmoid(v))
        case "gelu":
            return _gelu(v)
        case "exit":
            return replace(v, sums=False)
        case "softmax":
            return _softmax(v)
        case "max_pool2d" | "avg_pool2d" | "mean_magnitude":
            return _pooled(step, v)
        case "argmax":
            return _largest_place(step, v)
        case "mean_pool":
            x, e = _finite(v)
            axes = tuple(range(1, x.ndim - 1))
            y = x.mean(axes)
            return _closed(y, e.mean(axes) + 1e-12 * np.abs(x).mean(axes) + _rounding(y))
        case op if isinstance(OPS[op], Recurrence):
            return _recurrence(step, tensors, v, precision)
        case _:
            return _moved(step, v)


def run(
    program: Program, tensors: Mapping[str, Any], batch: Any, precision: str, cache: str | None = None
) -> dict[str, Value]:
    """All values of a program, with bounds; arguments as those of `onebit.runtime.reference.run`."""
    values: dict[str, Value] = {}
    if not program.tokens:
        x = batch.astype(np.float32) / np.float32(255) if batch.dtype == np.uint8 else batch.astype(np.float32)
        values[program.input_name] = exactly(x)
    with np.errstate(all="ignore"):
        for step in program.steps:
            named = {role: tensors[name] for role, name in step.tensors.items()}
            if step.op in ("embedding", "bit_embedding", "int8_embedding"):
                values[step.output] = exactly(_computed(step, batch, named))
            else:
                values[step.output] = _one(step, named, [values[name] for name in step.inputs], precision, cache)
    _end_early(program, values)
    return values


def _end_early(program: Program, values: dict[str, Value]) -> None:
    """Give the output the values of the exits at which the program ends; of an example that is too near to a threshold nothing is promised."""
    result = values[program.output]
    x, error = result.x.copy(), result.error.copy()
    going_on = np.ones(len(x), bool)
    for step in program.steps:
        if step.op != "exit":
            continue
        value, limit = values[step.output], float(np.float32(step.attributes["threshold"]))
        with np.errstate(all="ignore"):
            sure, off = certainty(value.x), value.error.max(-1, initial=0)
            near = np.abs(sure - limit) <= sure * np.expm1(np.minimum(2 * off, 700)) + 1e-12
        near |= np.isinf(off)
        error[going_on & near] = np.inf
        ends = going_on & ~near & (sure > limit)
        x[ends], error[ends] = value.x[ends], value.error[ends]
        going_on &= ~near & ~ends
    values[program.output] = replace(result, x=x, error=error)


def outside(found: Any, expected: Value) -> Any:
    """Where a result is not within its bounds."""
    with np.errstate(all="ignore"):
        near = np.abs(found.astype(np.float64) - expected.x) <= expected.error
    return ~(near | (found == expected.x) | (np.isnan(found) & np.isnan(expected.x)) | np.isinf(expected.error))
