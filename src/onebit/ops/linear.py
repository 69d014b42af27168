"""Dense layers, float and binary."""

from __future__ import annotations

from onebit.ops import binary
from onebit.ops.declared import Attribute, Bits, Floats, Integer, Shape, Sizes, Tensor
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
    attributes = (*Linear.attributes, *binary.PRODUCT)
    tensors = (Bits("weight", ("out", "in"), planes=True), Bits("bias", ("1", "out"), optional=True))

    def shape(self, step: StepReader, x: Shape) -> Shape:
        shape = super().shape(step, x)
        binary.check_sums(step, step["in_features"])
        return shape

    def sizes(self, attributes: Attributes, x: Shape) -> Sizes:
        return {**super().sizes(attributes, x), "planes": len(binary.planes_of(attributes))}

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        shape = (a["out_features"], a["in_features"])
        return binary.product(a, t, precision, x, shape, (x.ndim - 1,), lambda x, w: x @ w.T)


OPS: tuple[Op, ...] = (Linear(), BitLinear())
