"""The program of a language model: norms, rotary attention, gated feed-forward parts, with matrices in whatever form they are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.importing.architecture import Architecture
from onebit.importing.kept import Kept, keep
from onebit.importing.parts import Parts
from onebit.program import Program, Step


@dataclass
class Network:
    """A program in the making.

    Args:
        parts: the tensors of the foreign file.
        wide: ``"int8"`` or ``"float32"``, for matrices of four bits and more.
        tied: whether the head is the embedding's table.
    """

    parts: Parts
    wide: str
    tied: bool
    steps: list[Step] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def sizes(self) -> Architecture:
        return self.parts.sizes

    def add(self, op: str, *inputs: str, tensors: dict[str, str] | None = None, **attributes: Any) -> str:
        """Add a step; returns the name of its value."""
        output = f"v{len(self.steps)}"
        self.steps.append(Step(op, inputs, output, attributes, tensors or {}))
        return output

    def norm(self, x: str, name: str, features: int, heads: int = 1) -> str:
        """A root-mean-square norm with a gain; each head by itself if there are several, with one gain for all."""
        gain = np.tile(self.parts.vector(name, features // heads), heads)
        groups: dict[str, Any] = {"groups": heads} if heads > 1 else {}
        normalized = self.add("rms_normalize", x, eps=self.sizes.eps, **groups)
        return self.add("scale_shift", normalized, tensors={"scale": self._vector(f"{name}.gain", gain)})

    def linear(self, x: str, name: str, inputs: int, outputs: int) -> str:
        """A matrix, its one scale if it has one, and its bias if it has one."""
        kept = keep(name, self.parts.matrix(name, outputs, inputs), self.wide)
        self.kept.append(kept)
        y = self._product(x, kept, inputs, outputs)
        biased = self.parts.has(name, "bias")
        if kept.one_scale is None and not biased:
            return y
        scale = np.full(outputs, 1 if kept.one_scale is None else kept.one_scale, np.float32)
        tensors = {"scale": self._vector(f"{name}.factor", scale)}
        if biased:
            tensors["shift"] = self._vector(f"{name}.shift", self.parts.vector(name, outputs, "bias"))
        return self.add("scale_shift", y, tensors=tensors)

    def embedding(self) -> tuple[str, Kept]:
        """The table of tokens; returns its value, and the table for a head that is tied to it."""
        rows, features = self.sizes.vocabulary, self.sizes.width
        table = keep("embedding", self.parts.matrix("embedding", rows, features), self.wide)
        if table.one_scale is not None:
            raise table.matrix.fail("is a table of one scale for all: onebit needs a scale for each group")
        self.kept.append(table)
        tensors = {role: tensor.name for role, tensor in table.planned().items()}
        x = self.add(
            table.table_op, "tokens", tensors=tensors, rows=rows, features=features, of="token", **table.attributes
        )
        return x, table

    def head(self, x: str, table: Kept) -> str:
        rows, features = self.sizes.vocabulary, self.sizes.width
        return self._product(x, table, features, rows) if self.tied else self.linear(x, "head", features, rows)

    def _product(self, x: str, kept: Kept, inputs: int, outputs: int) -> str:
        tensors = {role: tensor.name for role, tensor in kept.planned().items()}
        return self.add(kept.op, x, tensors=tensors, in_features=inputs, out_features=outputs, **kept.attributes)

    def _vector(self, name: str, values: NDArray[np.float32]) -> str:
        self.vectors[name] = values.astype(np.float32)
        return name


def build(parts: Parts, wide: str, context: int, tied: bool) -> tuple[Program, Network]:
    """The program of a model, and what its tensors come from.

    Args:
        parts: the tensors of the foreign file.
        wide: ``"int8"`` or ``"float32"``, for matrices of four bits and more.
        context: the most tokens of a text.
        tied: whether the head is the embedding's table.

    Raises:
        ForeignModelError: a tensor is missing, has another shape, or has no place in the network.
    """
    net = Network(parts, wide, tied)
    x, table = net.embedding()
    for index in range(parts.sizes.layers):
        x = net.add("add", x, _attention(net, x, f"blocks.{index}.attention"))
        x = net.add("add", x, _feed_forward(net, x, f"blocks.{index}.mlp"))
    logits = net.head(net.norm(x, "norm", parts.sizes.width), table)
    parts.check_all_used()
    return Program("tokens", (context,), tuple(net.steps), logits, tokens=True), net


def _attention(net: Network, x: str, name: str) -> str:
    a = net.sizes
    of_queries, of_keys = a.heads * a.head_size, a.kv_heads * a.head_size
    x = net.norm(x, f"{name}.norm", a.width)
    q = net.linear(x, f"{name}.q", a.width, of_queries)
    k = net.linear(x, f"{name}.k", a.width, of_keys)
    v = net.linear(x, f"{name}.v", a.width, of_keys)
    if a.has_head_norms:
        q = net.norm(q, f"{name}.q_norm", of_queries, a.heads)
        k = net.norm(k, f"{name}.k_norm", of_keys, a.kv_heads)
    options: dict[str, Any] = {"base": a.rotary.base}
    options |= {} if a.rotary.rotated == a.head_size else {"rotated": a.rotary.rotated}
    options |= {} if a.rotary.scaling is None else {"scaling": a.rotary.scaling}
    q, k = net.add("rotary", q, heads=a.heads, **options), net.add("rotary", k, heads=a.kv_heads, **options)
    options = {} if a.kv_heads == a.heads else {"kv_heads": a.kv_heads}
    options |= {} if a.window is None else {"window": a.window}
    y = net.add("attention", q, k, v, heads=a.heads, **options)
    if a.has_sub_norms:
        y = net.norm(y, f"{name}.sub_norm", of_queries)
    return net.linear(y, f"{name}.output", of_queries, a.width)


def _feed_forward(net: Network, x: str, name: str) -> str:
    a = net.sizes
    x = net.norm(x, f"{name}.norm", a.width)
    gate = net.add(a.activation, net.linear(x, f"{name}.gate", a.width, a.hidden))
    y = net.add("multiply", gate, net.linear(x, f"{name}.up", a.width, a.hidden))
    if a.has_sub_norms:
        y = net.norm(y, f"{name}.sub_norm", a.hidden)
    return net.linear(y, f"{name}.down", a.hidden, a.width)
