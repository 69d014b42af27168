"""Causal attention: each token sees itself and the tokens before it."""

from __future__ import annotations

import math

import numpy as np

from onebit.ops.declared import Integer, Shape
from onebit.ops.elementwise import softmax
from onebit.ops.op import Array, Attributes, Op, Precision, Programs, StepReader, Tensors


def round_to_bfloat16(x: Array) -> Array:
    """Round to bfloat16: the nearest numbers with only the upper 16 bits of a float32, ties to even."""
    bits = x.astype(np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isnan(x), x, rounded)


class Attention(Op):
    """Attention of queries, keys and values, (n, time, features) each. "int8" rounds keys and values to bfloat16."""

    name = "attention"
    inputs = 3
    programs = Programs.TOKENS
    attributes = (Integer("heads"),)

    def shape(self, step: StepReader, q: Shape, k: Shape, v: Shape) -> Shape:
        if not q == k == v:
            raise step.fail(f"its inputs have shapes {q}, {k} and {v}: needs equal ones")
        heads = step["heads"]
        if q[-1] % heads:
            raise step.fail(f"heads={heads} does not divide its {q[-1]} features")
        return q

    def run(self, a: Attributes, t: Tensors, precision: Precision, q: Array, k: Array, v: Array) -> Array:
        if precision == "int8":
            k, v = round_to_bfloat16(k), round_to_bfloat16(v)
        n, time, features = q.shape
        heads = a["heads"]
        q, k, v = (
            x.reshape(n, time, heads, -1).transpose(0, 2, 1, 3) for x in (q, k, v)
        )  # (n, heads, time, features / heads)
        scores = q @ k.transpose(0, 1, 3, 2) / np.float32(math.sqrt(features // heads))
        scores = np.where(np.tril(np.ones((time, time), bool)), scores, np.float32(-np.inf))
        return (softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(n, time, features)


OPS: tuple[Op, ...] = (Attention(),)
