"""Float and binary tables with one row per token or position."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.ops.binary import VALUES, read_weight
from onebit.ops.bit_rows import read_row
from onebit.ops.declared import Attribute, Bits, Choice, Floats, Integer, Shape, Sizes, Tensor
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
        return self.table(a, t)[tokens if a["of"] == "token" else positions]


class BitEmbedding(Embedding):
    """A table of bits, with a row of bits that is added to each row."""

    name = "bit_embedding"
    attributes = (*Embedding.attributes, VALUES)
    tensors = (Bits("weight", ("rows", "features")), Bits("bias", ("1", "features"), optional=True))

    def table(self, a: Attributes, t: Tensors) -> Array:
        table = read_weight(a, t["weight"], (a["rows"], a["features"])).astype(np.float32)
        if "bias" in t:
            table = table + read_row(t["bias"], a["features"], a["values"]).astype(np.float32)
        return table


OPS: tuple[Op, ...] = (Embedding(), BitEmbedding())
