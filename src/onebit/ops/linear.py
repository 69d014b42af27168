"""Dense layers, float and binary."""

from __future__ import annotations

import numpy as np

from onebit.ops import binary, grouped
from onebit.ops.declared import Attribute, Bits, Bytes, Floats, Halves, Integer, Shape, Sizes, Tensor
from onebit.ops.op import Array, Attributes, Op, Precision, StepReader, Tensors, channels_of


class Linear(Op):
    """y[..., o] = sum_i w[o, i] x[..., i] + b[o]."""

    name = "linear"
    attributes: tuple[Attribute, ...] = (Integer("in_features"), Integer("out_features"))
    tensors: tuple[Tensor, ...] = (Floats("weight", ("out", "in")), Floats("bias", ("out",), optional=True))

    def shape(self, step: StepReader, x: Shape) -> Shape:
        inputs, outputs = step["in_features"], step["out_features"]
        if channels_of(step, x) != inputs:
            raise step.fail(f"in_features={inputs} but its input has shape {x}")
        return (*x[:-1], outputs)

    def sizes(self, attributes: Attributes, x: Shape) -> Sizes:
        return {"out": attributes["out_features"], "in": attributes["in_features"]}

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return (x @ t["weight"].T + t.get("bias", 0)).astype("float32")


class BitLinear(Linear):
    """A dense layer with bits as weights and bias."""

    name = "bit_linear"
    attributes = (*Linear.attributes, *binary.PRODUCT, grouped.GROUP, grouped.ZERO)
    tensors = (
        Bits("weight", ("out", "in"), planes=True),
        Bits("bias", ("1", "out"), optional=True),
        Halves("scale", ("out", "groups"), optional=True),
    )

    def shape(self, step: StepReader, x: Shape) -> Shape:
        shape = super().shape(step, x)
        binary.check_sums(step, step["in_features"])
        grouped.check_bits(step, step["in_features"])
        return shape

    def sizes(self, attributes: Attributes, x: Shape) -> Sizes:
        groups = grouped.groups_of(attributes, attributes["in_features"])
        return {**super().sizes(attributes, x), "planes": len(binary.planes_of(attributes)), "groups": groups}

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        shape = (a["out_features"], a["in_features"])
        if "group" in a:
            weight = binary.read_weight(a, t["weight"], shape) - np.int32(a.get("zero", 0))
            return grouped.product(x, weight, t["scale"], precision) + binary.read_bias(a, t, shape[0])
        return binary.product(a, t, precision, x, shape, (x.ndim - 1,), lambda x, w: x @ w.T)


class Int8Linear(Linear):
    """A dense layer with signed bytes as weights, and a scale for each row or each group of inputs."""

    name = "int8_linear"
    attributes = (*Linear.attributes, grouped.GROUP)
    tensors = (Bytes("weight", ("out", "in")), Halves("scale", ("out", "groups")))

    def shape(self, step: StepReader, x: Shape) -> Shape:
        shape = super().shape(step, x)
        grouped.check_group(step, step["in_features"])
        if step["in_features"] > grouped.MOST_INT8_INPUTS:
            raise step.fail(f"has rows of {step['in_features']} weights: needs at most {grouped.MOST_INT8_INPUTS}")
        return shape

    def sizes(self, attributes: Attributes, x: Shape) -> Sizes:
        groups = grouped.groups_of(attributes, attributes["in_features"])
        return {**super().sizes(attributes, x), "groups": groups}

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return grouped.product(x, t["weight"].astype(np.int32), t["scale"], precision)


OPS: tuple[Op, ...] = (Linear(), BitLinear(), Int8Linear())
