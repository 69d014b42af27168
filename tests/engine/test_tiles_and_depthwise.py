"""Transposed convolutions whose kernel is their stride, and depthwise convolutions of many taps, against the reference."""

import numpy as np
import pytest

from onebit._engine import Engine
from onebit.program import Program, Step, pack_rows
from onebit.runtime import reference

RANDOM = np.random.default_rng(0)


def compared(step, tensors, shape, precision):
    program = Program("x", shape, (step,), "y")
    x = RANDOM.standard_normal((2, *shape)).astype(np.float32)
    expected = reference.run(program, tensors, x, precision)
    for threads in (1, 2):
        made = Engine(program.to_json(), tensors, precision, threads).run(x)
        np.testing.assert_allclose(made, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("kernel", "channels", "outputs"), [([2, 2], 32, 16), ([3, 1], 5, 7), ([1, 4], 70, 3)])
@pytest.mark.parametrize("bits", [{}, {"planes": [1, 2]}, {"input": {"quantizer": "sign"}}, None])
def test_a_transposed_convolution_of_tiles(bits, kernel, channels, outputs, bias, precision):
    attributes = {"in_channels": channels, "out_channels": outputs, "kernel_size": kernel, "stride": kernel}
    attributes |= {"padding": [0] * 4, "output_padding": [0, 0], "groups": 1}
    if bits is None:
        op = "conv_transpose2d"
        tensors = {"w": RANDOM.standard_normal((outputs, *kernel, channels)).astype(np.float32)}
        tensors |= {"b": RANDOM.standard_normal(outputs).astype(np.float32)} if bias else {}
    else:
        op = "bit_conv_transpose2d"
        rows = len(bits.get("planes", [1])) * outputs
        tensors = {"w": pack_rows(RANDOM.integers(0, 2, (rows, kernel[0] * kernel[1] * channels)))}
        tensors |= {"b": pack_rows(RANDOM.integers(0, 2, (1, outputs)))} if bias else {}
        attributes |= {"values": "pm1", **bits}
    names = {"weight": "w", "bias": "b"} if bias else {"weight": "w"}
    compared(Step(op, ("x",), "y", attributes, names), tensors, (5, 6, channels), precision)


@pytest.mark.parametrize("kernel", [[1, 1], [1, 2], [3, 3], [5, 5], [8, 16], [12, 11]])
@pytest.mark.parametrize("channels", [2, 15, 16, 17, 63, 64, 65, 100, 130])
def test_a_depthwise_convolution_of_bytes(kernel, channels):
    attributes = {"in_channels": channels, "out_channels": channels, "kernel_size": kernel, "stride": [1, 2]}
    attributes |= {"padding": [1, 0, 2, 1], "dilation": [1, 1], "groups": channels, "values": "01"}
    tensors = {"w": pack_rows(RANDOM.integers(0, 2, (channels, kernel[0] * kernel[1])))}
    step = Step("bit_conv2d", ("x",), "y", attributes, {"weight": "w"})
    compared(step, tensors, (kernel[0] + 3, kernel[1] + 4, channels), "int8")
