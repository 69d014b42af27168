"""Attention: causal, in which each token sees itself and the tokens before it, and to all rows of a sequence."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from onebit.ops.declared import Boolean, Floats, Integer, Shape, Sizes
from onebit.ops.elementwise import softmax
from onebit.ops.op import Array, Attributes, Op, Precision, Programs, StepReader, Tensors


def round_to_bfloat16(x: Array) -> Array:
    """Round to bfloat16: the nearest numbers with only the upper 16 bits of a float32, ties to even."""
    bits = x.astype(np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isnan(x), x, rounded)


def sees(time: int, window: int | None = None) -> NDArray[np.bool_]:
    """Which tokens (columns) each token (rows) attends to, bool (time, time): itself and those before it, `window` of them at most."""
    seen = np.tril(np.ones((time, time), bool))
    return seen if window is None else np.triu(seen, 1 - window)


def heads_of(step: StepReader, q: Shape) -> tuple[int, int]:
    """The heads of the queries, and those of keys and values."""
    heads = step["heads"]
    kv_heads = step.get("kv_heads", heads)
    if q[-1] % heads:
        raise step.fail(f"heads={heads} does not divide its {q[-1]} features")
    if heads % kv_heads:
        raise step.fail(f"kv_heads={kv_heads} does not divide heads={heads}")
    return heads, kv_heads


def attend(a: Attributes, q: Array, k: Array, v: Array, seen: NDArray[np.bool_], bias: Array | float = 0.0) -> Array:
    """What the queries (n, time, features) take from the values that they see; 0 of those that see nothing."""
    n, time, features = q.shape
    heads, kv_heads = a["heads"], a.get("kv_heads", a["heads"])

    def split(x: Array, heads: int) -> Array:
        return x.reshape(n, x.shape[1], heads, -1).transpose(0, 2, 1, 3)  # (n, heads, time, features / heads)

    q, k, v = split(q, heads), split(k, kv_heads), split(v, kv_heads)
    k, v = (x.repeat(heads // kv_heads, 1) for x in (k, v))
    scores = q @ k.transpose(0, 1, 3, 2) / np.float32(math.sqrt(features // heads)) + np.asarray(bias, np.float32)
    seen = np.asarray(np.broadcast_to(seen, scores.shape))
    weights = np.where(seen.any(-1, keepdims=True), softmax(np.where(seen, scores, np.float32(-np.inf))), np.float32(0))
    # What is not seen adds nothing, not even a NaN: where it can be anything, each row adds what it sees.
    if not seen.all() and not np.isfinite(v).all():
        v = np.where(np.expand_dims(seen.any(-2), -1), v, np.float32(0))
    return (weights @ v).transpose(0, 2, 1, 3).reshape(n, time, features)


class Attention(Op):
    """Attention of queries (n, time, features) to keys and values (n, time, kv_heads * features / heads).

    Neighbouring query heads share a head of keys and values where there are fewer of them. "int8" rounds keys and values to bfloat16.
    """

    name = "attention"
    inputs = 3
    programs = Programs.TOKENS
    attributes = (Integer("heads"), Integer("kv_heads", optional=True), Integer("window", optional=True))

    def shape(self, step: StepReader, q: Shape, k: Shape, v: Shape) -> Shape:
        heads, kv_heads = heads_of(step, q)
        needed = (*q[:-1], q[-1] // heads * kv_heads)
        if not k == v == needed:
            wanted = "equal ones" if kv_heads == heads else f"{needed} of the last two"
            raise step.fail(f"its inputs have shapes {q}, {k} and {v}: needs {wanted}")
        return q

    def run(self, a: Attributes, t: Tensors, precision: Precision, q: Array, k: Array, v: Array) -> Array:
        if precision == "int8":
            k, v = round_to_bfloat16(k), round_to_bfloat16(v)
        return attend(a, q, k, v, sees(q.shape[1], a.get("window")))


class FullAttention(Op):
    """Attention of queries (n, time, features) to all keys and values (n, source, kv_heads * features / heads), in float32.

    A fourth input (n, source) is 0 where a key is not seen. `causal` shows each query the keys up to its own place, `bias` is added to the scores.
    """

    name = "full_attention"
    inputs = 3
    optional_inputs = 1
    programs = Programs.ARRAYS
    attributes = (Integer("heads"), Integer("kv_heads", optional=True), Boolean("causal", optional=True))
    tensors = (Floats("bias", ("heads", "time", "time"), optional=True),)

    def sizes(self, attributes: Attributes, x: Shape) -> Sizes:
        return {"heads": attributes["heads"], "time": x[0]}

    def shape(self, step: StepReader, q: Shape, k: Shape, v: Shape, mask: Shape | None = None) -> Shape:
        if len(q) != 2:
            raise step.fail(f"its input has shape {q}: needs (time, features)")
        heads, kv_heads = heads_of(step, q)
        width = q[-1] // heads * kv_heads
        if k != v or len(k) != 2 or k[1] != width:
            raise step.fail(f"its inputs have shapes {q}, {k} and {v}: needs (source, {width}) of the second and third")
        if mask is not None and mask != k[:1]:
            raise step.fail(f"its mask has shape {mask}: needs {k[:1]}")
        for name, given in (("causal", step.get("causal", False)), ("a bias", step.has_tensor("bias"))):
            if given and k[0] != q[0]:
                raise step.fail(f"takes {name} with as many keys as queries: it has {k[0]} and {q[0]}")
        return q

    def run(
        self, a: Attributes, t: Tensors, precision: Precision, q: Array, k: Array, v: Array, mask: Array | None = None
    ) -> Array:
        seen = np.ones((1, 1, 1, k.shape[1]), bool) if mask is None else (mask != 0)[:, None, None, :]
        if a.get("causal", False):
            seen = seen & sees(q.shape[1])
        return attend(a, q, k, v, seen, t.get("bias", 0.0))


OPS: tuple[Op, ...] = (Attention(), FullAttention())
