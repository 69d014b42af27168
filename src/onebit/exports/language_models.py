"""The architecture and the matrices of a packed language model, read back out of its program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.fileformat import PackedModel
from onebit.importing.architecture import Architecture, Rotary
from onebit.importing.blocks import Decoded, Levels, Signs
from onebit.importing.matrices import Matrix
from onebit.importing.network import build
from onebit.importing.parts import Parts
from onebit.ops.bit_rows import unpack_rows
from onebit.program import Step

_LAYERS = ("bit_linear", "int8_linear", "linear", "bit_embedding", "int8_embedding", "embedding")


class Unfit(Exception):
    """The program is not that of an imported language model."""


class PackedMatrix(Matrix):
    """A matrix of a packed file.

    Args:
        step: its op.
        tensors: of the file.
        factor: the one scale that a step of its own applies; None for none.
    """

    def __init__(self, step: Step, tensors: dict[str, NDArray[Any]], factor: float | None) -> None:
        a = step.attributes
        self.rows, self.columns = _shape(a)
        self._weight = tensors[step.tensors["weight"]]
        self._scale = tensors[step.tensors["scale"]] if "scale" in step.tensors else None
        self._factor = factor
        self._group = int(a.get("group", self.columns))
        self.name = step.tensors["weight"].removesuffix(".weight")
        self.kind = self._form = self._form_of(step.op, a)

    @staticmethod
    def _form_of(op: str, a: Any) -> str:
        if op.startswith("int8"):
            return "bytes"
        if not op.startswith("bit"):
            return "floats"
        if "group" not in a:
            return "ternary"
        return "levels" if "zero" in a else "signs"

    @property
    def form(self) -> str:
        return self._form

    @property
    def group(self) -> int:
        return self._group

    def one_scale(self) -> float:
        return 2 * (self._factor or 0.0)

    def pieces(self) -> Iterator[tuple[int, Decoded]]:
        yield 0, self.decoded()

    def decoded(self) -> Decoded:
        """All weights, with the scales of the file."""
        if self._scale is None and self._form == "floats":
            return self._weight
        if self._form == "ternary":
            plus, more = np.split(self._weight, 2)
            sums = unpack_rows(plus, self.columns) + unpack_rows(more, self.columns)
            return Levels(sums.astype(np.int8) - np.int8(1), np.full((self.rows, 1), self.one_scale(), np.float32))
        assert self._scale is not None
        scales = self._scale.astype(np.float32)
        if self._form == "signs":
            return Signs(self._weight[:, : self.columns // 8], scales)
        if self._form == "bytes":
            return Levels(self._weight, scales)
        low, high = np.split(self._weight, 2)
        codes = unpack_rows(low, self.columns) + 2 * unpack_rows(high, self.columns)
        return Levels(codes.astype(np.int8) - np.int8(1), scales)


class PackedParts(Parts):
    """The tensors of a packed language model by the names of `onebit.importing.parts`.

    Args:
        model: the model.

    Raises:
        OnebitError: it is not a language model that `onebit import` or `onebit convert` has made.
    """

    def __init__(self, model: PackedModel) -> None:
        self.model = model
        self._matrices: dict[str, Step] = {}
        for step in model.program.steps:
            if step.op in _LAYERS and "weight" in step.tensors:
                self._matrices.setdefault(step.tensors["weight"].removesuffix(".weight"), step)
        try:
            sizes = _sizes(model)
        except (Unfit, KeyError, StopIteration, IndexError):
            raise _refusal() from None
        names = {name: name for name in [*self._matrices, *(n.rpartition(".")[0] for n in model.tensors)]}
        super().__init__(sizes, {}, names, None, "export")
        self.tied = "head" not in self._matrices
        wide = "float32" if any(step.op in ("linear", "embedding") for step in self._matrices.values()) else "int8"
        try:
            program, net = build(self, wide, model.program.input_shape[0], self.tied)
        except (OnebitError, KeyError, AssertionError):
            raise _refusal() from None
        used = {t.name for kept in net.kept for t in kept.planned().values()} | net.vectors.keys()
        # All of it is there, and nothing else: what is written computes the same.
        if program != model.program or used != model.tensors.keys():
            raise _refusal()

    def matrix(self, name: str, rows: int, columns: int) -> PackedMatrix:
        factor = self.model.tensors.get(f"{name}.factor")
        made = PackedMatrix(self._matrices[name], self.model.tensors, None if factor is None else float(factor[0]))
        if (made.rows, made.columns) != (rows, columns):
            raise Unfit
        return made

    @property
    def matrices(self) -> tuple[str, ...]:
        """The names of all matrices, the table's among them."""
        return tuple(self._matrices)

    def shape(self, name: str) -> tuple[int, int]:
        """The rows and columns of a matrix."""
        return _shape(self._matrices[name].attributes)

    def length(self, name: str) -> int:
        """The numbers of a bias, or of a norm's gain: those of one head for norms of heads."""
        if name in self._matrices:
            return self.shape(name)[0]
        if name.endswith(("q_norm", "k_norm")):
            return self.sizes.head_size
        if name.endswith("attention.sub_norm"):
            return self.sizes.heads * self.sizes.head_size
        return self.sizes.hidden if name.endswith("mlp.sub_norm") else self.sizes.width

    def vector(self, name: str, length: int, kind: str = "weight") -> NDArray[np.float32]:
        found = self.model.tensors[f"{name}.{'shift' if kind == 'bias' else 'gain'}"]
        if kind != "bias" and found.shape != (length,):
            # The gain of a head stands there for all heads.
            if found.size % length or not np.array_equal(np.tile(found[:length], found.size // length), found):
                raise Unfit
            return found[:length]
        return found

    def has(self, name: str, kind: str = "weight") -> bool:
        return f"{name}.shift" in self.model.tensors if kind == "bias" else name in self._matrices

    def check_all_used(self) -> None:
        """Nothing: the programs are compared."""


def _shape(a: Mapping[str, Any]) -> tuple[int, int]:
    return (a["rows"], a["features"]) if "rows" in a else (a["out_features"], a["in_features"])


def _refusal() -> OnebitError:
    return OnebitError(
        "[export] is not a language model of onebit import or onebit convert: only those have a form there"
    )


def _sizes(model: PackedModel) -> Architecture:
    """What the first block and the table say; raises an error of several kinds for another program."""
    steps = model.program.steps
    if not model.program.tokens or model.task.get("kind") != "language-model":
        raise Unfit

    def first(op: str) -> Any:
        return next(step.attributes for step in steps if step.op == op)

    def layer(name: str) -> Any:
        return next(s.attributes for s in steps if s.tensors.get("weight") == f"blocks.0.{name}.weight")

    table = steps[0].attributes
    rotary, attention = first("rotary"), first("attention")
    blocks = {int(n.split(".")[1]) for n in model.tensors if n.startswith("blocks.")}
    q, heads = layer("attention.q")["out_features"], attention["heads"]
    found = Architecture(
        family="llama",
        layers=len(blocks),
        width=table["features"],
        hidden=layer("mlp.gate")["out_features"],
        heads=heads,
        kv_heads=attention.get("kv_heads", heads),
        head_size=q // heads,
        vocabulary=table["rows"],
        context=model.program.input_shape[0],
        eps=first("rms_normalize")["eps"],
        rotary=Rotary(rotary["base"], rotary.get("rotated", q // heads), rotary.get("scaling")),
        activation="relu_squared" if any(s.op == "relu_squared" for s in steps) else "silu",
        window=attention.get("window"),
        int8_inputs=any("input" in s.attributes for s in steps),
    )
    if "blocks.0.attention.q_norm.gain" in model.tensors:
        return replace(found, family="qwen3")
    if "blocks.0.attention.sub_norm.gain" in model.tensors:
        return replace(found, family="bitnet")
    return replace(found, family="qwen2" if "blocks.0.attention.q.shift" in model.tensors else "llama")
