"""Float and binary tables with one row per token or position."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.ops import grouped
from onebit.ops.binary import VALUES, planes_of, read_bias, read_weight
from onebit.ops.declared import Attribute, Bits, Bytes, Choice, Floats, Halves, Integer, Planes, Shape, Sizes, Tensor
from onebit.ops.op import Array, Attributes, Op, Precision, Programs, StepReader, Tensors


class Embedding(Op):
    """y[t] = w[token t], or y[t] = w[t] for the position t, from 0."""

    name = "embedding"
    programs = Programs.TOKENS_THEMSELVES
    attributes: tuple[Attribute, ...] = (Integer("rows"), Integer("features"), Choice("of", ("token", "position")))
    tensors: tuple[Tensor, ...] = (Floats("weight", ("rows", "features")),)

    def shape(self, step: StepReader, x: Shape) -> Shape:
        rows, features = step["rows"], step["features"]
        if step["of"] == "position" and rows < x[0]:
            raise step.fail(f"has {rows} rows for {x[0]} positions: needs one for each")
        return (x[0], features)

    def sizes(self, attributes: Attributes, x: Shape) -> Sizes:
        return {name: attributes[name] for name in ("rows", "features")}

    def table(self, a: Attributes, t: Tensors) -> Array:
        """All rows, float32 (rows, features)."""
        return t["weight"]

    def run(self, a: Attributes, t: Tensors, precision: Precision, tokens: NDArray[Any]) -> Array:
        positions = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
        return self.table(a, t)[tokens.astype(np.int64) if a["of"] == "token" else positions]


class BitEmbedding(Embedding):
    """A table of bits, with a row of bits that is added to each row."""

    name = "bit_embedding"
    attributes = (*Embedding.attributes, VALUES, Planes("planes", optional=True), grouped.GROUP, grouped.ZERO)
    tensors = (
        Bits("weight", ("rows", "features"), planes=True),
        Bits("bias", ("1", "features"), optional=True),
        Halves("scale", ("rows", "groups"), optional=True),
    )

    def shape(self, step: StepReader, x: Shape) -> Shape:
        shape = super().shape(step, x)
        step["values"]
        step.get("planes")
        grouped.check_bits(step, step["features"])
        return shape

    def sizes(self, attributes: Attributes, x: Shape) -> Sizes:
        groups = grouped.groups_of(attributes, attributes["features"])
        return {**super().sizes(attributes, x), "planes": len(planes_of(attributes)), "groups": groups}

    def table(self, a: Attributes, t: Tensors) -> Array:
        levels = read_weight(a, t["weight"], (a["rows"], a["features"])) - np.int32(a.get("zero", 0))
        table = grouped.table(levels, t["scale"]) if "group" in a else levels.astype(np.float32)
        return table + read_bias(a, t, a["features"]).astype(np.float32) if "bias" in t else table


class Int8Embedding(Embedding):
    """A table of signed bytes, with a scale for each row or each group of its features."""

    name = "int8_embedding"
    attributes = (*Embedding.attributes, grouped.GROUP)
    tensors = (Bytes("weight", ("rows", "features")), Halves("scale", ("rows", "groups")))

    def shape(self, step: StepReader, x: Shape) -> Shape:
        shape = super().shape(step, x)
        grouped.check_group(step, step["features"])
        return shape

    def sizes(self, attributes: Attributes, x: Shape) -> Sizes:
        groups = grouped.groups_of(attributes, attributes["features"])
        return {**super().sizes(attributes, x), "groups": groups}

    def table(self, a: Attributes, t: Tensors) -> Array:
        return grouped.table(t["weight"].astype(np.int32), t["scale"])


OPS: tuple[Op, ...] = (Embedding(), BitEmbedding(), Int8Embedding())
