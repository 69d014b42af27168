"""The NumPy reference: every op of docs/program.md in plain code, to be read and to be tested against. Not fast."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from onebit.op_checks import RECURRENT_OPS
from onebit.program import Program, Step, Tensors, unpack_rows
from onebit.runtime.recurrence import Product, recur, sigmoid

Array = NDArray[np.float32]
Precision = Literal["int8", "float32"]


def run(program: Program, tensors: Tensors, batch: NDArray[Any], precision: Precision = "int8") -> Array:
    """Run a program on a batch.

    Args:
        program: checked by its `shapes`.
        tensors: name to array.
        batch: (n, *input shape): uint8, which is divided by 255, or float32; of a program over tokens, integers (n, time).
        precision: ``"int8"`` quantises the inputs of the binary layers, ``"float32"`` does not.

    Returns:
        float32 (n, *output shape); (n, time, features) of a program over tokens.
    """
    x: NDArray[Any]
    if program.tokens:
        x = batch
    else:
        x = batch.astype(np.float32) / np.float32(255) if batch.dtype == np.uint8 else batch.astype(np.float32)
    values: dict[str, Array] = {program.input_name: x}
    with np.errstate(all="ignore"):  # NaN and infinity are results here, not accidents
        for step in program.steps:
            named = {role: tensors[name] for role, name in step.tensors.items()}
            inputs = [values[name] for name in step.inputs]
            if step.op in ("bit_linear", "bit_conv2d"):
                values[step.output] = _binary(step, named, inputs[0], precision)
            elif step.op in RECURRENT_OPS:
                product = recurrent_product(step, named, precision)
                values[step.output] = recur(step.op, inputs[0], product, step.attributes.get("reverse", False))
            elif step.op == "attention":
                q, k, v = inputs
                values[step.output] = _attention(step.attributes["heads"], q, k, v, precision)
            else:
                values[step.output] = _OPS[step.op](step.attributes, named, *inputs)
    return values[program.output]


def quantize(x: Array, axes: tuple[int, ...]) -> tuple[NDArray[np.int32], Array]:
    """Quantise to 8 bits, with one scale for all elements along `axes`.

    Returns:
        The levels, int32 of x's shape (0 to 255 where nothing along the axes is negative, else -127 to 127), and the scales with `axes` kept.
        Where an element is NaN or infinite the scale is NaN.
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


def quantize_input(x: Array, axes: tuple[int, ...], kind: Mapping[str, Any]) -> tuple[NDArray[np.int32], Array]:
    """Quantise as a layer's attribute `input` says; as `quantize` else."""
    one = np.ones([1] * x.ndim, np.float32)
    if kind["quantizer"] == "sign":
        return np.where(x >= 0, 1, -1).astype(np.int32), one
    if kind["quantizer"] == "unit":
        top = np.float32(2 ** kind["bits"] - 1)
        q = np.rint(np.clip(np.nan_to_num(x, nan=0.0), 0, 1).astype(np.float32) * top)
        return q.astype(np.int32), one / top
    top = np.float32(2 ** (kind["bits"] - 1) - 1)
    high = np.maximum(np.abs(x).max(axes, keepdims=True), np.float32(1e-5)).astype(np.float32)
    finite = np.isfinite(high)
    q = np.where(finite, np.clip(np.rint(x * (top / high)), -top, top), 0).astype(np.int32)
    return q, np.where(finite, high / top, np.float32(np.nan)).astype(np.float32)


def _binary(step: Step, tensors: Mapping[str, NDArray[Any]], x: Array, precision: Precision) -> Array:
    a = step.attributes
    convolution = step.op == "bit_conv2d"
    if convolution:
        shape = (a["out_channels"], *a["kernel_size"], a["in_channels"] // a["groups"])
    else:
        shape = (a["out_features"], a["in_features"])
    planes = a.get("planes", [1])
    bits = _read_bits(tensors["weight"], math.prod(shape[1:]), a["values"]).reshape(len(planes), *shape)
    weight = np.tensordot(np.array(planes, np.int32), bits, 1)  # (outputs, ...): int32
    bias = _read_bits(tensors["bias"], shape[0], a["values"])[0] if "bias" in tensors else np.zeros(shape[0], np.int32)
    apply = _convolve if convolution else _dense
    if precision == "float32" and "input" not in a:
        return (apply(x, weight.astype(np.float32), a) + bias).astype(np.float32)
    axes = tuple(range(1, x.ndim)) if convolution else (x.ndim - 1,)
    q, scale = quantize_input(x, axes, a["input"]) if "input" in a else quantize(x, axes)
    sums = apply(q, weight, a)  # exact: int32
    return (scale * sums.astype(np.float32) + bias.astype(np.float32)).astype(np.float32)


def _read_bits(packed: NDArray[np.uint8], n: int, values: str) -> NDArray[np.int32]:
    bits = unpack_rows(packed, n).astype(np.int32)
    return bits if values == "01" else 2 * bits - 1


def _dense(x: NDArray[Any], weight: NDArray[Any], attributes: Mapping[str, Any]) -> NDArray[Any]:
    return x @ weight.T


def _convolve(x: NDArray[Any], weight: NDArray[Any], a: Mapping[str, Any]) -> NDArray[Any]:
    """x (n, height, width, in), weight (out, kh, kw, in / groups) to (n, height', width', out)."""
    (top, bottom, left, right), (sh, sw), (dh, dw) = a["padding"], a["stride"], a["dilation"]
    kh, kw = a["kernel_size"]
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    windows = sliding_window_view(x, (dh * (kh - 1) + 1, dw * (kw - 1) + 1), axis=(1, 2))
    windows = windows[:, ::sh, ::sw, :, ::dh, ::dw]  # (n, height', width', in, kh, kw)
    n, height, width = windows.shape[:3]
    outputs, groups = weight.shape[0] // a["groups"], a["groups"]
    windows = windows.reshape(n, height, width, groups, -1, kh, kw)
    rows = windows.transpose(0, 1, 2, 3, 5, 6, 4).reshape(n, height, width, groups, -1)
    kernels = weight.reshape(groups, outputs, -1)
    parts = [rows[..., g, :] @ kernels[g].T for g in range(groups)]
    return np.concatenate(parts, axis=-1)


def _normalize(a: Mapping[str, Any], tensors: Mapping[str, Any], x: Array) -> Array:
    axes = (x.ndim - 1,) if a["over"] == "channel" else tuple(range(1, x.ndim))
    mean = x.mean(axes, keepdims=True, dtype=np.float64)
    variance = np.square(x - mean).mean(axes, keepdims=True)
    return ((x - mean) / np.sqrt(variance + a["eps"])).astype(np.float32)


def recurrent_product(step: Step, tensors: Mapping[str, NDArray[Any]], precision: Precision) -> Product:
    """From the hidden states (n, hidden) of a recurrence to their part of its gates."""
    a, weight = step.attributes, tensors["weight"]
    if step.op in ("lstm", "gru"):
        return lambda h: (h @ weight.T + tensors.get("shift", np.float32(0))).astype(np.float32)
    # The product is a bit_linear's, with what that may say of its weights and inputs.
    sizes = {"in_features": a["hidden"], "out_features": len(tensors["scale"])}
    dense = Step("bit_linear", (), "", {**a, **sizes}, {"weight": "weight"})

    def product(h: Array) -> Array:
        sums = _binary(dense, {"weight": weight}, h, precision)
        if "eps" in a:
            gates = sums.reshape(len(h), -1, a["hidden"])
            sums = _normalize({"over": "channel", "eps": a["eps"]}, {}, gates).reshape(sums.shape)
        return (sums * tensors["scale"] + tensors["shift"]).astype(np.float32)

    return product


def _attention(heads: int, q: Array, k: Array, v: Array, precision: Precision) -> Array:
    """Causal: each token sees itself and those before it; (n, time, features) each."""
    if precision == "int8":
        k, v = round_to_bfloat16(k), round_to_bfloat16(v)
    n, time, features = q.shape
    q, k, v = (
        x.reshape(n, time, heads, -1).transpose(0, 2, 1, 3) for x in (q, k, v)
    )  # (n, heads, time, features / heads)
    scores = q @ k.transpose(0, 1, 3, 2) / np.float32(math.sqrt(features // heads))
    scores = np.where(np.tril(np.ones((time, time), bool)), scores, np.float32(-np.inf))
    return (_softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(n, time, features)


def round_to_bfloat16(x: Array) -> Array:
    """The nearest numbers with the upper 16 bits of a float32 only, ties to even."""
    bits = x.astype(np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isnan(x), x, rounded)


def _embedding(a: Mapping[str, Any], tensors: Mapping[str, Any], tokens: NDArray[Any]) -> Array:
    if "values" in a:
        table = _read_bits(tensors["weight"], a["features"], a["values"]).astype(np.float32)
        if "bias" in tensors:
            table = table + _read_bits(tensors["bias"], a["features"], a["values"])[0].astype(np.float32)
    else:
        table = tensors["weight"]
    rows = tokens if a["of"] == "token" else np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    return table[rows]


def _gelu(x: Array) -> Array:
    erf = np.frompyfunc(math.erf, 1, 1)(x / math.sqrt(2)).astype(np.float32)
    return (x * np.float32(0.5) * (1 + erf)).astype(np.float32)


def _softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True)).astype(np.float32)


def _windows(a: Mapping[str, Any], x: Array, outside: float) -> Array:
    """All windows of an image (n, height, width, channels): (n, height', width', channels, kh, kw)."""
    (top, bottom, left, right), (sh, sw), (kh, kw) = a["padding"], a["stride"], a["kernel_size"]
    dh, dw = a.get("dilation", (1, 1))
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=outside)
    windows = sliding_window_view(x, (dh * (kh - 1) + 1, dw * (kw - 1) + 1), axis=(1, 2))
    return windows[:, ::sh, ::sw, :, ::dh, ::dw]


def _max_pool2d(a: Mapping[str, Any], tensors: Mapping[str, Any], x: Array) -> Array:
    return _windows(a, x, -np.inf).max((-2, -1)).astype(np.float32)


def _avg_pool2d(a: Mapping[str, Any], tensors: Mapping[str, Any], x: Array) -> Array:
    inside = np.full_like(x[:1], 1), 1 if a["count_include_pad"] else 0
    counts = _windows(a, *inside).sum((-2, -1))  # 1 where a place counts, on the padding too if it does
    return (_windows(a, x, 0).sum((-2, -1), dtype=np.float64) / counts).astype(np.float32)


def _mean_magnitude(a: Mapping[str, Any], tensors: Mapping[str, Any], x: Array) -> Array:
    means = np.abs(x).mean(-1, keepdims=True, dtype=np.float64)
    return (_windows(a, means, 0).mean((-2, -1)) if "kernel_size" in a else means).astype(np.float32)


def _group_normalize(a: Mapping[str, Any], tensors: Mapping[str, Any], x: Array) -> Array:
    groups = x.reshape(*x.shape[:-1], a["groups"], -1)  # (n, ..., groups, channels of one)
    image = x.ndim == 4
    axes = (1, 2, 4) if image else (groups.ndim - 1,)
    mean = groups.mean(axes, keepdims=True, dtype=np.float64)
    variance = np.square(groups - mean).mean(axes, keepdims=True)
    return ((groups - mean) / np.sqrt(variance + a["eps"])).astype(np.float32).reshape(x.shape)


def _mean_pool(a: Mapping[str, Any], tensors: Mapping[str, Any], x: Array) -> Array:
    return x.mean(tuple(range(1, x.ndim - 1)), dtype=np.float64).astype(np.float32)


def _flatten(a: Mapping[str, Any], tensors: Mapping[str, Any], x: Array) -> Array:
    return (x.transpose(0, 3, 1, 2) if a["order"] == "chw" else x).reshape(len(x), math.prod(x.shape[1:]))


def _bias(tensors: Mapping[str, Any]) -> Any:
    return tensors.get("bias", np.float32(0))


_OPS: dict[str, Callable[..., Array]] = {
    "add": lambda a, t, x, y: x + y,
    "avg_pool2d": _avg_pool2d,
    "bit_embedding": _embedding,
    "clip": lambda a, t, x: np.clip(x, np.float32(a["low"]), np.float32(a["high"])),
    "conv2d": lambda a, t, x: (_convolve(x, t["weight"], a) + _bias(t)).astype(np.float32),
    "embedding": _embedding,
    "flatten": _flatten,
    "gelu": lambda a, t, x: _gelu(x),
    "group_normalize": _group_normalize,
    "last": lambda a, t, x: x[:, -1],
    "linear": lambda a, t, x: (_dense(x, t["weight"], a) + _bias(t)).astype(np.float32),
    "max_pool2d": _max_pool2d,
    "mean_magnitude": _mean_magnitude,
    "mean_pool": _mean_pool,
    "multiply": lambda a, t, x, y: x * y,
    "normalize": _normalize,
    "prelu": lambda a, t, x: np.where(x > 0, x, x * t["slope"]),
    "relu": lambda a, t, x: np.maximum(x, np.float32(0)),
    "rows": lambda a, t, x: x.reshape(*x.shape[:2], -1),
    "scale": lambda a, t, x: x * np.float32(a["factor"]),
    "scale_shift": lambda a, t, x: (x * t["scale"] + t["shift"]).astype(np.float32),
    "sigmoid": lambda a, t, x: sigmoid(x),
    "silu": lambda a, t, x: x * sigmoid(x),
    "softmax": lambda a, t, x: _softmax(x),
    "tanh": lambda a, t, x: np.tanh(x),
}
