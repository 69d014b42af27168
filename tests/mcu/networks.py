"""The networks that run on emulated cores: that of handwritten digits, one with signs, and single layers whose instructions are counted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onebit.exports.c import groups
from onebit.exports.c.plan import plan
from onebit.exports.c.source import Source, write
from onebit.fileformat import PackedModel, load_model
from onebit.program import Program, Step, pack_rows

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Network:
    """A model, whether its inputs are pixels, its source, its products and the bytes that it needs."""

    model: PackedModel
    pixels: bool
    source: Source
    products: int

    def inputs(self, count: int) -> Any:
        """Random inputs, the first of them all 0."""
        rng = np.random.default_rng(7)
        shape = (count, *self.model.program.input_shape)
        x = (
            rng.integers(0, 256, shape, dtype=np.uint8)
            if self.pixels
            else rng.standard_normal(shape).astype(np.float32)
        )
        x[1:2] = 0
        return x


def made(model: PackedModel, pixels: bool) -> Network:
    grouped = groups.group(groups.one_row(model), pixels)
    planned = plan(model, grouped, None)
    return Network(model, pixels, write(model, grouped, planned, "net", pixels), planned.products)


def dense(quantizer: str | None, inputs: int = 256, outputs: int = 64) -> PackedModel:
    """One dense layer, with inputs of 8 bits or of one."""
    bits = np.random.default_rng(3).integers(0, 2, (outputs, inputs))
    attributes = {"in_features": inputs, "out_features": outputs, "values": "pm1"}
    if quantizer is not None:
        attributes["input"] = {"quantizer": quantizer}
    step = Step("bit_linear", ("x",), "y", attributes, {"weight": "w"})
    return PackedModel(Program("x", (inputs,), (step,), "y"), {"w": pack_rows(bits)}, {"kind": "layer"})


def network(name: str) -> Network:
    """A network by its name in golden.json."""
    if name == "digits":
        return made(load_model(ROOT / "web" / "digits.onebit"), True)
    if name == "signs":
        return made(load_model(ROOT / "tests" / "written_by_0_1_0" / "binary_activations.onebit"), True)
    return made(dense("sign" if name == "dense, 1-bit inputs" else None), False)


NAMES = ("digits", "signs", "dense, 1-bit inputs", "dense, 8-bit inputs")
