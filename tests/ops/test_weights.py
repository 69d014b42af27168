"""The size of a step: compare with bits counted by hand, and with the bytes of the arrays that the op accepts."""

import json
from pathlib import Path

import numpy as np
import pytest

from onebit.ops import OPS
from onebit.ops.declared import Bits
from onebit.program import Program

CONFORMANCE = Path(__file__).parents[1] / "conformance"
# Of the programs in tests/conformance: three outputs of six inputs with a bias, three kernels of 2 x 2 x 2 and of 2 x 2 x 2 x 2 with a bias, a
# table of 5 x 6 with a bias, and four and three gates of six sums over six states.
BITS = {
    "bit_linear": 3 * 6 + 3,
    "bit_conv2d": 3 * 8 + 3,
    "bit_conv3d": 3 * 16 + 3,
    "bit_conv_transpose2d": 3 * 8 + 3,
    "bit_embedding": 5 * 6 + 6,
    "bit_lstm": 24 * 6,
    "bit_gru": 18 * 6,
    "sparse_linear": 0,
}
ITEM_BYTES = {"U8": 1, "I8": 1, "F16": 2, "F32": 4}


def last_step(op):
    document = json.loads((CONFORMANCE / f"op_{op}.json").read_text())["base"]
    program = Program.from_json(json.dumps(document["program"]))
    return program, program.steps[-1], document["tensors"]


def shape_of_input(program, step, tensors):
    kinds = {"U8": np.uint8, "I8": np.int8, "F16": np.float16, "F32": np.float32}
    arrays = {name: np.full(t["shape"], t.get("fill", 0), kinds[t["dtype"]]) for name, t in tensors.items()}
    return program.shapes(arrays)[step.inputs[0]]


@pytest.mark.parametrize("op", OPS)
def test_bits_and_bytes_are_those_of_the_tensors(op):
    program, step, tensors = last_step(op)
    x = shape_of_input(program, step, tensors)
    assert OPS[op].bits(step.attributes, step.tensors, x) == BITS.get(op, 0)
    own = [tensors[name] for name in step.tensors.values()]
    sizes = OPS[op].sizes(step.attributes, x)
    assert OPS[op].nbytes(sizes, step.tensors) == sum(ITEM_BYTES[t["dtype"]] * np.prod(t["shape"]) for t in own)


def test_planes_count_and_a_bias_that_is_not_there_does_not():
    _, step, _ = last_step("bit_linear")
    attributes = {**step.attributes, "planes": [1, 2, 4]}
    assert OPS["bit_linear"].bits(attributes, {"weight"}, (6,)) == 3 * 18
    sizes = OPS["bit_linear"].sizes(attributes, (6,))
    assert OPS["bit_linear"].nbytes(sizes) == 3 * 3 * 8  # without what is optional


def test_every_op_with_bits_is_counted():
    assert {name for name, op in OPS.items() if any(isinstance(t, Bits) for t in op.tensors)} == set(BITS)


def test_every_op_has_a_name_of_its_own_and_a_formula():
    from onebit.ops.op import Op

    assert all(name == op.name and type(op).run is not Op.run for name, op in OPS.items())
