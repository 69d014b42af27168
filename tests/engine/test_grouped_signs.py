"""Convolutions in groups with inputs of one and two bits give in every way of computing what the reference gives."""

import numpy as np
import pytest

from onebit._engine import Engine
from onebit.program import Program, Step, pack_rows
from onebit.runtime import reference

SIGN, TWO_BITS = {"quantizer": "sign"}, {"quantizer": "unit", "bits": 2}


@pytest.mark.parametrize("fused", [(), ("scale_shift", "relu"), ("relu", "max_pool2d"), ("normalize",)])
@pytest.mark.parametrize(("groups", "of_group", "outputs"), [(2, 32, 10), (3, 64, 33), (2, 100, 8)])
@pytest.mark.parametrize("given", [SIGN, TWO_BITS])
@pytest.mark.parametrize("values", ["01", "pm1"])
def test_groups_are_counted(values, given, groups, of_group, outputs, fused):
    random = np.random.default_rng(0)
    channels, made = groups * of_group, groups * outputs
    attributes = {"in_channels": channels, "out_channels": made, "kernel_size": [3, 2], "stride": [1, 2]}
    attributes |= {
        "padding": [1, 0, 1, 1],
        "dilation": [1, 1],
        "groups": groups,
        "values": values,
        "input": given,
        "planes": [1, 2],
    }
    tensors = {
        "w": pack_rows(random.integers(0, 2, (2 * made, 6 * of_group))),
        "b": pack_rows(random.integers(0, 2, (1, made))),
    }
    tensors |= {name: random.standard_normal(made).astype(np.float32) for name in ("scale", "shift")}
    window = {"kernel_size": [2, 2], "stride": [2, 2], "padding": [0] * 4}
    steps = [Step("bit_conv2d", ("x",), "y", attributes, {"weight": "w", "bias": "b"})]
    for op in fused:
        more = {"max_pool2d": window, "normalize": {"over": "channel", "eps": 1e-5}}.get(op, {})
        named = {"scale": "scale", "shift": "shift"} if op == "scale_shift" else {}
        steps.append(Step(op, (steps[-1].output,), f"after_{op}", more, named))
    program = Program("x", (7, 9, channels), tuple(steps), steps[-1].output)
    x = random.standard_normal((2, 7, 9, channels)).astype(np.float32)
    expected = reference.run(program, tensors, x, "float32")
    for threads in (1, 2):
        found = Engine(program.to_json(), tensors, "float32", threads).run(x)
        if "normalize" in fused:
            np.testing.assert_allclose(found, expected, atol=1e-5)
        else:
            np.testing.assert_array_equal(found, expected)
