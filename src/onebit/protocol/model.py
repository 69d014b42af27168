"""Products of a program, and the energy that a model says they take. A model is not a measurement."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onebit.fileformat import PackedModel
from onebit.ops.binary import planes_of

SOURCE = "M. Horowitz, Computing's Energy Problem, ISSCC 2014, figure 1.1.9: 45 nm, 0.9 V"
# Picojoules of an operation, and what it stands for here.
TABLE: dict[str, tuple[float, str]] = {
    "sign": (0.03 / 8, "a product of two signs: an eighth of an 8-bit addition (0.03 pJ)"),
    "bit": (0.1, "a product of a bit and a number of 8 bits: a 32-bit addition"),
    "add": (0.9, "a product of a bit and a float: a float32 addition"),
    "int8": (0.3, "a product of numbers of 8 bits: a multiplication (0.2 pJ) and a 32-bit addition"),
    "float": (4.6, "a product of floats: a float32 multiplication (3.7 pJ) and addition (0.9 pJ)"),
    "byte": (162.5, "a byte of weights from DRAM, once for an inference: 1.3 nJ for 64 bits"),
}


@dataclass(frozen=True)
class Products:
    """Products of an inference.

    Args:
        sign: of signs and bits of weights.
        bit: of numbers and bits of weights, counted for each plane.
        float: of floats, attention's left out.
        weights: how many numbers the weights of these products are.
    """

    sign: int = 0
    bit: int = 0
    float: int = 0
    weights: int = 0

    @property
    def total(self) -> int:
        return self.sign + self.bit + self.float


def products_of(model: PackedModel) -> Products:
    """The products of weights in an inference of a program over arrays."""
    counts = {"sign": 0, "bit": 0, "float": 0, "weights": 0}
    for step in model.program.steps:
        a = step.attributes
        shape = model.shapes[step.output]
        positions = math.prod(shape[:-1])
        if step.op.endswith("linear"):
            products = positions * a["in_features"] * a["out_features"]
        elif "conv_transpose2d" in step.op:
            height, width, inputs = model.shapes[step.inputs[0]]
            products = height * width * inputs * math.prod(a["kernel_size"]) * a["out_channels"] // a["groups"]
        elif "kernel_size" in a and "out_channels" in a:
            products = positions * a["out_channels"] * math.prod(a["kernel_size"]) * a["in_channels"] // a["groups"]
        elif step.op.endswith(("lstm", "gru")):
            products = shape[0] * a["hidden"] ** 2 * (4 if step.op.endswith("lstm") else 3)
        else:
            continue
        counts["weights"] += products // max(positions, 1) if "conv" not in step.op else _kernel(a)
        if not step.op.startswith("bit_"):
            kind = "float"
        else:
            kind = "sign" if a.get("input", {}).get("quantizer") == "sign" else "bit"
            products *= len(planes_of(a))
        counts[kind] += products
    return Products(**counts)


def _kernel(a: Mapping[str, Any]) -> int:
    return int(math.prod(a["kernel_size"]) * a["out_channels"] * a["in_channels"] // a["groups"])


def modelled_joules(products: Products, packed_bytes: int, engine: str) -> float:
    """The energy of an inference by `TABLE`. Activations, control and leakage are left out.

    Args:
        products: of the network.
        packed_bytes: of its packed weights, which onebit reads.
        engine: "onebit int8" and so on: onnxruntime multiplies numbers where the network has bits.
    """
    if engine == "onnxruntime float32":
        counts = {"float": products.total, "byte": 4 * products.weights}
    elif engine == "onnxruntime int8":
        counts = {"int8": products.total, "byte": products.weights}
    else:
        of_bits = "add" if engine == "onebit float32" else "bit"
        counts = {"sign": products.sign, of_bits: products.bit, "float": products.float, "byte": packed_bytes}
    return sum(TABLE[name][0] * count for name, count in counts.items()) * 1e-12
