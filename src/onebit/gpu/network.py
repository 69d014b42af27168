"""A program on a device: the tensors of its steps, and the functions that compute them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onebit.errors import OnebitError
from onebit.gpu.functions import FUNCTIONS, attend
from onebit.gpu.layers import BINARY, FLOAT
from onebit.gpu.products import BitMatrix
from onebit.ops import OPS
from onebit.ops.bit_rows import read_row
from onebit.ops.declared import Bits
from onebit.ops.rotary import tables
from onebit.program import Program, Step, Tensors

_PLAIN = FUNCTIONS | FLOAT
_OF_TOKENS = ("attention", "rotary", "embedding", "bit_embedding")


@dataclass
class Place:
    """Where in a text the tokens of a run stand.

    positions: int64 (tokens), on the device.
    caches: of each attention its keys and values (context, features).
    length: how many rows of the caches are read; None for all of them, of which those after a token's own place are masked.
    """

    positions: Tensor
    caches: dict[str, tuple[Tensor, Tensor]]
    length: int | None


class Network:
    """A program whose tensors lie on a device.

    Args:
        program: a program that its `shapes` has checked.
        tensors: of the file.
        shapes: of the program's values.
        precision: ``"int8"`` or ``"float32"``.
        device: of PyTorch.

    Raises:
        OnebitError: the program has steps that only the engine computes. All of their ops are named.
    """

    def __init__(
        self, program: Program, tensors: Tensors, shapes: dict[str, Any], precision: str, device: torch.device
    ) -> None:
        _refuse(program)
        self.program, self.precision, self.device = program, precision, device
        self.context = program.input_shape[0]
        self._put = _Tensors(tensors, device)
        self._steps = [(step, self._computed(step, shapes)) for step in program.steps]
        self.memory_bytes = self._put.nbytes

    def caches(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Empty keys and values of a text, for each attention."""
        kind = torch.float32 if self.precision == "float32" else torch.bfloat16
        return {
            step.output: (make(), make())
            for step, make in ((step, partial(self._cache, step, kind)) for step, _ in self._steps)
            if step.op == "attention"
        }

    def run(self, x: Tensor, place: Place | None = None) -> Tensor:
        """Compute float32 (n, *input shape), or tokens int64 (1, tokens) at a place."""
        values: dict[str, Tensor] = {self.program.input_name: x}
        for step, compute in self._steps:
            values[step.output] = compute(*(values[name] for name in step.inputs), place=place)
        return values[self.program.output]

    def _cache(self, step: Step, kind: torch.dtype) -> Tensor:
        return torch.zeros(self.context, self._kv_features[step.output], dtype=kind, device=self.device)

    def _computed(self, step: Step, shapes: dict[str, Any]) -> Callable[..., Tensor]:
        a, t = step.attributes, self._put.of_step(step)
        if step.op in BINARY:
            return partial(_without_place, partial(BINARY[step.op], a, t, self.precision))
        if step.op in _PLAIN:
            return partial(_without_place, partial(_PLAIN[step.op], a, t))
        if step.op == "attention":
            features = shapes[step.inputs[1]][-1]
            self._kv_features = {**getattr(self, "_kv_features", {}), step.output: features}
            return partial(_attention, step)
        if step.op == "rotary":
            heads = a["heads"]
            rotated = a.get("rotated", shapes[step.output][-1] // heads)
            turns = [torch.from_numpy(np.ascontiguousarray(table)) for table in tables(a, rotated, self.context)]
            return partial(_rotary, heads, rotated, *(table.to(self.device) for table in turns))
        table = t["weight"].dense() if step.op == "bit_embedding" else t["weight"]
        return partial(_embedding, a["of"], table + t["bias"] if "bias" in t else table)


class _Tensors:
    """The tensors of a file on a device, each once."""

    def __init__(self, tensors: Tensors, device: torch.device) -> None:
        self._tensors, self._device = tensors, device
        self._made: dict[tuple[str, str], Any] = {}

    def of_step(self, step: Step) -> dict[str, Any]:
        """By their roles."""
        return {role: self._of(step, role, name) for role, name in step.tensors.items()}

    @property
    def nbytes(self) -> int:
        kept = (value.words if isinstance(value, BitMatrix) else value for value in self._made.values())
        return sum(tensor.numel() * tensor.element_size() for tensor in kept)

    def _of(self, step: Step, role: str, name: str) -> Any:
        # An embedding and a head may share rows of bits that they read with other attributes.
        key = (name, f"{role} {step.op} {step.attributes.get('values')} {step.attributes.get('planes')}")
        if key not in self._made:
            self._made[key] = self._placed(step, role, self._tensors[name])
        return self._made[key]

    def _placed(self, step: Step, role: str, array: Any) -> Any:
        a = step.attributes
        declared = next(tensor for tensor in OPS[step.op].tensors if tensor.role == role)
        if not isinstance(declared, Bits):
            return torch.from_numpy(np.array(array)).to(self._device)
        if role == "bias":
            outputs = a.get("out_features", a.get("out_channels", a.get("features")))
            return torch.from_numpy(read_row(array, outputs, a["values"]).astype(np.float32)).to(self._device)
        inputs = a.get("in_features", a.get("features"))
        if inputs is None:
            inputs = math.prod(a["kernel_size"]) * a["in_channels"] // a["groups"]
        return BitMatrix.of(array, inputs, a, self._device)


def _refuse(program: Program) -> None:
    known = {*BINARY, *_PLAIN, *_OF_TOKENS}
    lacking = {step.op for step in program.steps if step.op not in known}
    lacking |= {f"{step.op} with groups of scales" for step in program.steps if "group" in step.attributes}
    wide = {"quantizer": "absmax", "bits": 16}
    lacking |= {f"{step.op} with inputs of 16 bits" for step in program.steps if step.attributes.get("input") == wide}
    if not (program.tokens or program.takes_one_array):
        lacking.add("several inputs or outputs, or integers")
    masked = (
        s
        for s in program.steps
        if s.op == "full_attention" and (len(s.inputs) > 3 or s.tensors or s.attributes.get("causal"))
    )
    lacking |= {f"{step.op} with a mask or a bias" for step in masked}
    if lacking:
        raise OnebitError(
            f"[load] {', '.join(sorted(lacking))}: a GPU does not run this here; leave device out to run on the CPU"
        )


def _without_place(compute: Callable[..., Tensor], *inputs: Tensor, place: Place | None) -> Tensor:
    return compute(*inputs)


def _embedding(of: str, table: Tensor, tokens: Tensor, *, place: Place) -> Tensor:
    return table[tokens if of == "token" else place.positions[None]]


def _attention(step: Step, q: Tensor, k: Tensor, v: Tensor, *, place: Place) -> Tensor:
    keys, values = place.caches[step.output]
    keys.index_copy_(0, place.positions, k[0].to(keys.dtype))
    values.index_copy_(0, place.positions, v[0].to(values.dtype))
    keys, values = keys[: place.length], values[: place.length]
    own, all_places = place.positions[:, None], torch.arange(len(keys), device=q.device)
    seen = all_places <= own
    if "window" in step.attributes:
        seen &= all_places > own - step.attributes["window"]
    return attend(step.attributes, q, keys[None].float(), values[None].float(), seen)


def _rotary(heads: int, rotated: int, cosines: Tensor, sines: Tensor, x: Tensor, *, place: Place) -> Tensor:
    parts = x.view(*x.shape[:2], heads, -1)
    half = rotated // 2
    cosine, sine = cosines[place.positions][:, None], sines[place.positions][:, None]  # (tokens, 1, half)
    first, second = parts[..., :half], parts[..., half:rotated]
    turned = (first * cosine - second * sine, second * cosine + first * sine, parts[..., rotated:])
    return torch.cat(turned, -1).view(x.shape)
