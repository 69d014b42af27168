"""Compare the engine with the NumPy reference: every op, every instruction set, every shape. Test everything that it must refuse."""

import json
import math
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onebit._engine import Engine, isas
from onebit.program import Program, Step, pack_rows
from onebit.runtime import reference

ISAS = [isa["name"] for isa in isas() if isa["supported"]]
rng = np.random.default_rng(0)


def both(program, tensors, x, precision, isa=None, threads=1):
    """The engine's outputs and the reference's."""
    engine = Engine(program.to_json(), tensors, precision, threads, isa)
    program.shapes(tensors)
    return engine.run(x), reference.run(program, tensors, x, precision)


def close(found, expected, tolerance=2e-5):
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=1e-6)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


def convolution(draw_shape, inputs, outputs, kernel, stride, padding, dilation, groups, values, bias, followed):
    attributes = {
        "in_channels": inputs, "out_channels": outputs, "kernel_size": kernel, "stride": stride, "padding": padding,
        "dilation": dilation, "groups": groups, "values": values,
    }  # fmt: skip
    bits = rng.integers(0, 2, (outputs, kernel[0] * kernel[1] * inputs // groups), np.uint8)
    tensors = {"w": pack_rows(bits)}
    names = {"weight": "w"}
    if bias:
        tensors["b"] = pack_rows(rng.integers(0, 2, (1, outputs), np.uint8))
        names["bias"] = "b"
    steps = [Step("bit_conv2d", ("x",), "y0", attributes, names)]
    for index, step in enumerate(followed):
        tensors |= {name: rng.standard_normal(outputs).astype(np.float32) for name in step.tensors.values()}
        steps.append(Step(step.op, (f"y{index}",), f"y{index + 1}", step.attributes, step.tensors))
    return Program("x", draw_shape, tuple(steps), f"y{len(followed)}"), tensors


NORMALIZE = Step("normalize", (), "", {"over": "channel", "eps": 1e-5})
WHOLE = Step("normalize", (), "", {"over": "example", "eps": 1e-5})
AFFINE = Step("scale_shift", (), "", {}, {"scale": "s", "shift": "t"})
RELU = Step("relu", (), "")


def pool(kernel, stride, padding=(0, 0, 0, 0)):
    return Step("max_pool2d", (), "", {"kernel_size": list(kernel), "stride": list(stride), "padding": list(padding)})


FOLLOWED = st.sampled_from([
    (), (RELU,), (NORMALIZE, RELU), (AFFINE, RELU), (WHOLE, RELU), (RELU, NORMALIZE), (AFFINE, AFFINE), (NORMALIZE, RELU, pool((2, 2), (2, 2))),
    (pool((1, 2), (1, 2)), RELU), (RELU, pool((2, 2), (1, 1), (1, 0, 0, 1))),
])  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    groups=st.sampled_from([1, 1, 1, 2, 3]),
    channels=st.tuples(st.integers(1, 9), st.sampled_from([1, 2, 15, 16, 17, 40, 70])),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    values=st.sampled_from(["01", "pm1"]),
    bias=st.booleans(),
    followed=FOLLOWED,
    signed=st.booleans(),
    isa=st.sampled_from(ISAS),
    threads=st.sampled_from([1, 3]),
    precision=st.sampled_from(["int8", "float32"]),
)
def test_convolutions_and_what_is_fused_into_them(
    size, groups, channels, kernel, stride, padding, dilation, values, bias, followed, signed, isa, threads, precision
):
    inputs, outputs = groups * channels[0], groups * channels[1]
    program, tensors = convolution(
        (*size, inputs),
        inputs,
        outputs,
        list(kernel),
        list(stride),
        list(padding),
        list(dilation),
        groups,
        values,
        bias,
        followed,
    )
    try:
        program.shapes(tensors)
    except ValueError:
        return  # a pooling larger than what is left of so small an image
    x = rng.standard_normal((2, *size, inputs)).astype(np.float32)
    found, expected = both(program, tensors, x if signed else np.abs(x), precision, isa, threads)
    # A normalisation of few channels that happen to be equal divides rounding errors by almost nothing.
    if any(step.op == "normalize" for step in followed) and outputs < 15:
        return
    close(found, expected, 1e-3 if NORMALIZE in followed else 2e-5)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("values", ["01", "pm1"])
@pytest.mark.parametrize("inputs", [1, 3, 4, 31, 63, 64, 65, 130, 200])
def test_integer_sums_are_exact(isa, values, inputs):
    # Levels are small integers and the scale is 1, so the engine's float output is the integer sum itself.
    for outputs in (1, 15, 16, 17, 33, 64, 65, 100):
        bits = rng.integers(0, 2, (outputs, inputs), np.uint8)
        step = Step(
            "bit_linear",
            ("x",),
            "y",
            {"in_features": inputs, "out_features": outputs, "values": values},
            {"weight": "w"},
        )
        for low, high in ((-127, 127), (0, 255)):
            x = rng.integers(low, high + 1, (11, inputs)).astype(np.float32)
            x[:, 0] = low or high  # one level at its end makes the scale 1, one below 0 makes the row signed
            engine = Engine(Program("x", (inputs,), (step,), "y").to_json(), {"w": pack_rows(bits)}, "int8", 1, isa)
            weights = bits.astype(np.int64) if values == "01" else 2 * bits.astype(np.int64) - 1
            assert np.array_equal(engine.run(x), x.astype(np.int64) @ weights.T)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("values", ["01", "pm1"])
@pytest.mark.parametrize(
    ("channels", "outputs", "kernel", "stride", "padding"),
    [
        (3, 32, (5, 5), (1, 1), (2, 2, 2, 2)),  # a row of the kernel is 15 inputs
        (3, 70, (7, 7), (2, 2), (3, 2, 3, 2)),  # 21 inputs, at every second pixel
        (1, 40, (3, 16), (1, 3), (1, 1, 0, 7)),  # 16 inputs, which fill a step
        (24, 64, (3, 3), (1, 1), (1, 1, 1, 1)),
        (
            32,
            33,
            (3, 3),
            (2, 1),
            (0, 1, 1, 0),
        ),  # channels that fill steps, and rows of more positions than a call takes
        (40, 50, (2, 3), (1, 2), (0, 0, 1, 1)),
    ],
)
def test_sums_of_convolutions_are_exact_for_any_channels(isa, values, channels, outputs, kernel, stride, padding):
    # As for dense layers: levels are small integers and the scale is 1.
    program, tensors = convolution(
        (9, 61, channels), channels, outputs, list(kernel), list(stride), list(padding), [1, 1], 1, values, False, ()
    )
    for low, high in ((-127, 127), (0, 255)):
        x = rng.integers(low, high + 1, (1, 9, 61, channels)).astype(np.float32)
        x[0, 0, 0, 0] = low or high
        found, expected = both(program, tensors, x, "int8", isa)
        assert np.array_equal(found, np.rint(expected))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_a_large_image_with_several_threads(isa, precision):
    program, tensors = convolution(
        (40, 33, 20), 20, 72, [3, 3], [1, 1], [1] * 4, [1, 1], 1, "pm1", True, (NORMALIZE, RELU, pool((2, 2), (2, 2)))
    )
    x = rng.standard_normal((1, 40, 33, 20)).astype(np.float32)
    one, expected = both(program, tensors, x, precision, isa, 1)
    close(one, expected, 1e-3)
    for threads in (2, 5):
        assert np.array_equal(Engine(program.to_json(), tensors, precision, threads, isa).run(x), one)


KINDS = [None, {"quantizer": "sign"}, *({"quantizer": "unit", "bits": k} for k in (1, 2, 5, 8))]
KINDS += [{"quantizer": "absmax", "bits": 8}, {"quantizer": "absmax", "bits": 16}]
PLANES = [None, [1], [1, 1], [1, 2, 4], [7, 200]]


def with_planes(program, tensors, planes, kind):
    """A program of one binary layer (and what follows it) with weights of several planes and inputs of its own."""
    first = program.steps[0]
    attributes = dict(first.attributes)
    weight = tensors["w"]
    if planes is not None:
        attributes["planes"] = planes
        n = (
            attributes.get("in_features")
            or math.prod(attributes["kernel_size"]) * attributes["in_channels"] // attributes["groups"]
        )
        weight = pack_rows(rng.integers(0, 2, (len(planes) * len(weight), n), np.uint8))
    if kind is not None:
        attributes["input"] = kind
    step = Step(first.op, first.inputs, first.output, attributes, first.tensors)
    changed = Program(program.input_name, program.input_shape, (step, *program.steps[1:]), program.output)
    return changed, tensors | {"w": weight}


@settings(max_examples=200, deadline=None)
@given(
    size=st.tuples(st.integers(4, 9), st.integers(4, 20)),
    groups=st.sampled_from([1, 1, 1, 2, 3]),
    channels=st.tuples(st.sampled_from([1, 3, 8, 16, 31, 32, 64, 70]), st.sampled_from([1, 2, 15, 17, 40, 64, 70])),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    values=st.sampled_from(["01", "pm1"]),
    bias=st.booleans(),
    followed=st.sampled_from(
        [(), (RELU,), (AFFINE, RELU), (AFFINE, pool((2, 2), (2, 2))), (pool((1, 2), (1, 2)), RELU)]
    ),
    kind=st.sampled_from(KINDS),
    planes=st.sampled_from(PLANES),
    isa=st.sampled_from(ISAS),
    threads=st.sampled_from([1, 3]),
    precision=st.sampled_from(["int8", "float32"]),
)
def test_convolutions_with_planes_and_inputs_of_their_own(
    size,
    groups,
    channels,
    kernel,
    stride,
    padding,
    dilation,
    values,
    bias,
    followed,
    kind,
    planes,
    isa,
    threads,
    precision,
):
    inputs, outputs = groups * channels[0], groups * channels[1]
    shapes = map(list, (kernel, stride, padding, dilation))
    program, tensors = convolution((*size, inputs), inputs, outputs, *shapes, groups, values, bias, followed)
    program, tensors = with_planes(program, tensors, planes, kind)
    try:
        program.shapes(tensors)
    except ValueError:
        return  # a kernel or a pooling larger than what is left of so small an image
    x = rng.standard_normal((2, *size, inputs)).astype(np.float32)
    x[0, 0, 0], x[0, 0, 1] = 0.0, -0.0
    found, expected = both(program, tensors, x, precision, isa, threads)
    close(found, expected)
    # Sums of levels whose scale is 1 are the very integers.
    if not followed and kind == {"quantizer": "sign"}:
        assert np.array_equal(found, expected)


@settings(max_examples=200, deadline=None)
@given(
    inputs=st.sampled_from([1, 3, 16, 63, 64, 65, 130, 300, 512, 1100]),
    outputs=st.sampled_from([1, 7, 16, 33, 64, 100, 130]),
    rows=st.sampled_from([1, 2, 5, 7, 40, 70]),
    values=st.sampled_from(["01", "pm1"]),
    followed=st.sampled_from([(), (RELU,), (AFFINE, RELU)]),
    kind=st.sampled_from(KINDS),
    planes=st.sampled_from(PLANES),
    isa=st.sampled_from(ISAS),
    threads=st.sampled_from([1, 3]),
    precision=st.sampled_from(["int8", "float32"]),
)
def test_dense_layers_with_planes_and_inputs_of_their_own(
    inputs, outputs, rows, values, followed, kind, planes, isa, threads, precision
):
    program, tensors = dense(inputs, outputs)
    attributes = dict(program.steps[0].attributes) | {"values": values}
    steps = [Step("bit_linear", ("x",), "y0", attributes, {"weight": "w"})]
    for index, step in enumerate(followed):
        tensors |= {name: rng.standard_normal(outputs).astype(np.float32) for name in step.tensors.values()}
        steps.append(Step(step.op, (f"y{index}",), f"y{index + 1}", step.attributes, step.tensors))
    program, tensors = with_planes(
        Program("x", (rows, inputs), tuple(steps), f"y{len(followed)}"), tensors, planes, kind
    )
    if planes == [7, 200] and kind == {"quantizer": "absmax", "bits": 16} and inputs > 300:
        return refuse("do not fit 32 bits", program.to_json(), tensors, precision)
    x = rng.standard_normal((2, rows, inputs)).astype(np.float32)
    found, expected = both(program, tensors, x, precision, isa, threads)
    close(found, expected)
    if not followed and kind == {"quantizer": "sign"}:
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("kind", KINDS[1:], ids=str)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_has_its_level_or_spoils_its_row(isa, precision, kind, bad):
    program, tensors = with_planes(*dense(40, 20), [1, 1], kind)
    x = rng.standard_normal((3, 40)).astype(np.float32)
    x[1, 7] = bad
    found, expected = both(program, tensors, x, precision, isa)
    assert np.isnan(found[1]).all() == (kind["quantizer"] == "absmax")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    image, image_tensors = convolution((5, 5, 16), 16, 20, [3, 3], [1, 1], [1] * 4, [1, 1], 1, "pm1", False, ())
    image, image_tensors = with_planes(image, image_tensors, None, kind)
    x = rng.standard_normal((2, 5, 5, 16)).astype(np.float32)
    x[1, 2, 2, 3] = bad
    found, expected = both(image, image_tensors, x, precision, isa)
    assert np.isnan(found[1]).all() == (kind["quantizer"] == "absmax")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("channels", [32, 64, 70])
@pytest.mark.parametrize("zero", [False, True])
def test_signs_behind_a_scale_shift_are_those_of_two_roundings(isa, channels, zero):
    # Every third number lies where the sum of its channel turns: x * s + t is 0, or the nearest below.
    image, tensors = convolution((7, 6, channels), channels, 20, [3, 3], [1, 1], [1] * 4, [1, 1], 1, "pm1", False, ())
    image, tensors = with_planes(image, tensors, None, {"quantizer": "sign"})
    scale = (rng.standard_normal(channels) * 10.0 ** rng.integers(-12, 12, channels)).astype(np.float32)
    x = rng.standard_normal((2, 7, 6, channels)).astype(np.float32)
    shift = -(x[0, 3, 3] * scale)
    shift[5] = np.float32(-0.0)
    if zero:
        # There is no threshold for it, and the scale_shift stays: none of its sums is so near to 0 that one rounding less would turn it.
        scale[3] = 0
        x[0, 3, 3] = 1
    else:
        x[:, ::2] = np.nextafter(x[0, 3, 3], np.float32(-np.inf))
        x[:, 1::2] = np.nextafter(x[0, 3, 3], np.float32(np.inf))
        x[0, :, ::2] = x[0, 3, 3]
    x[1, 0, :4] = np.array([np.nan, np.inf, -np.inf, 0], np.float32)[:, None]
    steps = (
        Step("scale_shift", ("x",), "z", {}, {"scale": "s", "shift": "t"}),
        Step("bit_conv2d", ("z",), "y", image.steps[0].attributes, image.steps[0].tensors),
    )
    program = Program("x", image.input_shape, steps, "y")
    tensors |= {"s": scale, "t": shift}
    found, expected = both(program, tensors, x, "int8", isa)
    assert np.array_equal(found, expected)
    plan = Engine(program.to_json(), tensors, "int8", 1, isa).plan()
    assert [line["step"] for line in plan] == (["scale_shift", "bit_conv2d"] if zero else ["scale_shift + bit_conv2d"])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("planes", [[1], [3, 4]])
def test_the_largest_sums_are_exact(isa, planes):
    # Powers of two, so that a float holds them: 65536 inputs of the level -16384 and of those beside it, which fill 31 bits.
    inputs = 2**16 // sum(planes)
    attributes = {
        "in_features": inputs,
        "out_features": 2,
        "values": "pm1",
        "planes": planes,
        "input": {"quantizer": "absmax", "bits": 16},
    }
    bits = np.repeat([[1], [0]] * len(planes), inputs, 1)
    program = Program("x", (1, inputs), (Step("bit_linear", ("x",), "y", attributes, {"weight": "w"}),), "y")
    x = np.full((1, 1, inputs), -1.0, np.float32)
    found, expected = both(program, {"w": pack_rows(bits)}, x, "int8", isa)
    assert np.array_equal(found, expected)
    assert found[0, 0].tolist() == pytest.approx([-inputs * sum(planes), inputs * sum(planes)], rel=1e-6)


IMAGE = rng.standard_normal((3, 6, 5, 4)).astype(np.float32)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("relu", {}), ("gelu", {}), ("softmax", {}), ("mean_pool", {}), ("flatten", {"order": "chw"}), ("flatten", {"order": "hwc"}),
        ("normalize", {"over": "channel", "eps": 1e-5}), ("normalize", {"over": "example", "eps": 1e-3}),
        ("max_pool2d", {"kernel_size": [3, 2], "stride": [2, 1], "padding": [1, 2, 0, 1]}),
        ("avg_pool2d", {"kernel_size": [3, 2], "stride": [2, 1], "padding": [1, 2, 0, 1], "count_include_pad": True}),
        ("avg_pool2d", {"kernel_size": [3, 2], "stride": [2, 1], "padding": [1, 2, 0, 1], "count_include_pad": False}),
        ("mean_magnitude", {"kernel_size": [3, 2], "stride": [2, 1], "padding": [1, 2, 0, 3], "dilation": [2, 1]}),
        ("mean_magnitude", {}), ("sigmoid", {}), ("tanh", {}), ("silu", {}), ("clip", {"low": -0.5, "high": 0.75}), ("rows", {}),
        ("relu_squared", {}), ("group_normalize", {"groups": 1, "eps": 1e-5}), ("group_normalize", {"groups": 2, "eps": 1e-3}),
    ],
)  # fmt: skip
def test_single_ops(isa, op, attributes):
    program = Program("x", IMAGE.shape[1:], (Step(op, ("x",), "y", attributes),), "y")
    close(*both(program, {}, IMAGE, "float32", isa))


ROWS = rng.standard_normal((3, 7, 33)).astype(np.float32)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("relu", {}), ("gelu", {}), ("softmax", {}), ("mean_pool", {}), ("last", {}), ("flatten", {"order": "hwc"}), ("mean_magnitude", {}),
        ("normalize", {"over": "channel", "eps": 1e-5}), ("normalize", {"over": "example", "eps": 1e-3}),
        ("group_normalize", {"groups": 3, "eps": 1e-3}), ("scale", {"factor": 0.3}), ("sigmoid", {}), ("clip", {"low": -1, "high": 0}),
    ],
)  # fmt: skip
def test_single_ops_on_the_rows_of_a_sequence(isa, op, attributes):
    program = Program("x", ROWS.shape[1:], (Step(op, ("x",), "y", attributes),), "y")
    close(*both(program, {}, ROWS, "float32", isa))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("kind", ["bit_linear", "linear"])
def test_dense_layers_on_the_rows_of_a_sequence(isa, precision, kind):
    attributes = {"in_features": 33, "out_features": 21} | ({"values": "pm1"} if kind == "bit_linear" else {})
    bits = rng.integers(0, 2, (21, 33), np.uint8)
    tensors = {
        "w": pack_rows(bits) if kind == "bit_linear" else bits.astype(np.float32),
        "s": rng.standard_normal(21).astype(np.float32),
        "t": rng.standard_normal(21).astype(np.float32),
        "slope": rng.standard_normal(21).astype(np.float32),
    }
    steps = (
        Step(kind, ("x",), "a", attributes, {"weight": "w"}),
        Step("scale_shift", ("a",), "b", {}, {"scale": "s", "shift": "t"}),
        Step("prelu", ("b",), "c", {}, {"slope": "slope"}),
        Step("mean_magnitude", ("c",), "d"),
        Step("multiply", ("c", "d"), "e"),
        Step("multiply", ("e", "b"), "y"),
    )
    close(*both(Program("x", ROWS.shape[1:], steps, "y"), tensors, ROWS, precision, isa, 2))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("op", ["sigmoid", "tanh", "silu"])
def test_smooth_activations_are_accurate(isa, op):
    x = np.concatenate([np.linspace(-80, 80, 4001), np.logspace(-8, 0, 50)]).astype(np.float32)[None]
    wide = x.astype(np.float64)
    expected = np.tanh(wide) if op == "tanh" else 1 / (1 + np.exp(-wide)) * (wide if op == "silu" else 1)
    found = Engine(Program("x", (4051,), (Step(op, ("x",), "y"),), "y").to_json(), {}, "float32", 1, isa).run(x)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    ends = np.array([np.inf, -np.inf, np.nan, 1e30, -1e30], np.float32)[None]
    found = Engine(Program("x", (5,), (Step(op, ("x",), "y"),), "y").to_json(), {}, "float32", 1, isa).run(ends)[0]
    assert np.isnan(found).tolist() == [False, False, True, False, False] or op == "silu"
    if op != "silu":
        np.testing.assert_allclose(found[[0, 1, 3, 4]], [1, 0, 1, 0] if op == "sigmoid" else [1, -1, 1, -1], atol=1e-30)


@pytest.mark.parametrize("isa", ISAS)
def test_powers_of_e_end_as_those_of_float32_do(isa):
    """In subnormals, and in 0 below -103.97: a sign behind them is then that of the reference."""
    x = np.array([-80, -87.5, -88.5, -95, -100, -103.9, -104, -200, -1e38, 100, 1e38], np.float32)
    for op in ("sigmoid", "softmax", "silu"):
        step = Step(op, ("x",), "y")
        rows = np.stack([np.zeros_like(x), x], 1)[None] if op == "softmax" else x.reshape(1, -1, 1)
        found, expected = both(Program("x", rows.shape[1:], (step,), "y"), {}, rows, "float32", isa)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=3e-45)
        assert np.array_equal(np.signbit(found), np.signbit(expected))


@pytest.mark.parametrize("isa", ISAS)
def test_gelu_is_a_negative_zero_where_pytorchs_is(isa):
    x = np.array([-5.7, -6, -9, -14, -100, -1e30], np.float32)[None]
    found = Engine(Program("x", (6,), (Step("gelu", ("x",), "y"),), "y").to_json(), {}, "float32", 1, isa).run(x)
    expected = torch.nn.functional.gelu(torch.tensor(x)).numpy()
    assert np.array_equal(found, expected) and np.signbit(found).all() and np.signbit(expected).all()


# Numbers whose squares, or whose sums, are beyond float32: the reference's means are those of float64.
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", [1e-22, 1e10, 1e19, 2e19, 1e30, 1e38])
@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("normalize", {"over": "channel", "eps": 1e-5}), ("normalize", {"over": "example", "eps": 1e-5}),
        ("normalize", {"over": "channel", "eps": 2.0**-145}), ("group_normalize", {"groups": 2, "eps": 1e-5}), ("mean_pool", {}),
        ("mean_magnitude", {"kernel_size": [2, 2], "stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1]}),
        ("avg_pool2d", {"kernel_size": [2, 2], "stride": [1, 1], "padding": [0, 0, 0, 0], "count_include_pad": True}),
    ],
)  # fmt: skip
def test_means_do_not_overflow(isa, size, op, attributes):
    # A row of one sign, and one of both.
    x = np.tile(np.array([[3, 1, -1, 2], [3, 2, 1, 3]], np.float32) * np.float32(size), (1, 3, 2, 4))
    program = Program("x", x.shape[1:], (Step(op, ("x",), "y", attributes),), "y")
    found, expected = both(program, {}, x, "float32", isa)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("isa", ISAS)
def test_float_layers_and_values_that_are_used_twice(isa):
    conv = {
        "in_channels": 4,
        "out_channels": 4,
        "kernel_size": [3, 3],
        "stride": [1, 1],
        "padding": [1] * 4,
        "dilation": [1, 1],
        "groups": 2,
    }
    tensors = {
        "w": rng.standard_normal((4, 3, 3, 2)).astype(np.float32),
        "b": rng.standard_normal(4).astype(np.float32),
        "m": rng.standard_normal((7, 120)).astype(np.float32),
    }
    steps = (
        Step("conv2d", ("x",), "a", conv, {"weight": "w", "bias": "b"}),
        Step("relu", ("a",), "r"),
        Step("add", ("a", "x"), "s"),
        Step("add", ("r", "s"), "t"),
        Step("add", ("t", "t"), "u"),
        Step("flatten", ("u",), "f", {"order": "chw"}),
        Step("linear", ("f",), "y", {"in_features": 120, "out_features": 7}, {"weight": "m"}),
    )
    close(*both(Program("x", IMAGE.shape[1:], steps, "y"), tensors, IMAGE, "int8", isa, 2))


def dense(inputs=5, outputs=3):
    tensors = {"w": pack_rows(rng.integers(0, 2, (outputs, inputs), np.uint8))}
    step = Step(
        "bit_linear", ("x",), "y", {"in_features": inputs, "out_features": outputs, "values": "01"}, {"weight": "w"}
    )
    return Program("x", (inputs,), (step,), "y"), tensors


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_spoil_their_own_row_only(isa, precision, bad):
    program, tensors = dense(40, 20)
    tensors["w"][:] = pack_rows(np.ones((20, 40), np.uint8))
    x = rng.standard_normal((3, 40)).astype(np.float32)
    x[1, 7] = bad
    found, expected = both(program, tensors, x, precision, isa)
    assert not np.isfinite(found[1]).any()
    close(found[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-38, 1e-31, 3e38])
def test_zeros_and_extremes(value):
    program, tensors = dense()
    close(*both(program, tensors, np.full((2, 5), value, np.float32), "int8"))


def test_pixels_batches_of_none_and_arrays_of_any_layout():
    program, tensors = dense()
    engine = Engine(program.to_json(), tensors, "int8", 1)
    assert engine.run(np.zeros((0, 5), np.float32)).shape == (0, 3)
    pixels = rng.integers(0, 256, (4, 5), np.uint8)
    close(engine.run(pixels), reference.run(program, tensors, pixels, "int8"))
    wide = rng.standard_normal((8, 10)).astype(np.float32)
    assert np.array_equal(engine.run(wide[::2, ::2]), engine.run(np.ascontiguousarray(wide[::2, ::2])))
    unaligned = np.frombuffer(b"x" + wide[:, :5].tobytes(), np.uint8)[1:].view(np.float32).reshape(8, 5)
    assert np.array_equal(engine.run(unaligned), engine.run(np.ascontiguousarray(wide[:, :5])))


def test_one_engine_serves_many_threads():
    program, tensors = convolution(
        (20, 20, 8), 8, 32, [3, 3], [1, 1], [1] * 4, [1, 1], 1, "01", True, (NORMALIZE, RELU)
    )
    engine = Engine(program.to_json(), tensors, "int8", 2)
    images = rng.standard_normal((8, 20, 20, 8)).astype(np.float32)
    expected = [engine.run(images[i : i + 1]) for i in range(8)]
    wrong = []

    def work(i):
        results = [engine.run(images[i : i + 1]) for _ in range(20)]
        wrong.extend(i for result in results if not np.array_equal(result, expected[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def refuse(message, program=None, tensors=None, precision="int8", threads=1, isa=None):
    good, good_tensors = dense()
    text = good.to_json() if program is None else program
    with pytest.raises(ValueError, match=message):
        Engine(text, good_tensors if tensors is None else tensors, precision, threads, isa)


def changed(**changes):
    program = json.loads(dense()[0].to_json())
    program["steps"][0] |= changes
    return json.dumps(program)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("", "ends too early"),
        ("nul", "value was expected"),
        ("1 1", "more after"),
        (changed(op="bit_magic"), "unknown op"),
        (changed(tensors={}), "lacks its tensor"),
        (changed(attributes={}), "lacks the attribute 'in_features'"),
        (changed(attributes={"in_features": 5, "out_features": 1e300, "values": "01"}), "an integer from 1"),
        (changed(op="max_pool2d"), "lacks the attribute|needs .height, width, channels."),
    ],
)
def test_wrong_programs_are_refused(program, message):
    """A few of what tests/conformance holds: the module passes the checker's words on."""
    refuse(message, program)


def test_wrong_tensors_and_arguments_are_refused():
    stray = dense()[1]["w"].copy()
    stray[0, 0] |= 0x80
    refuse("bits set beyond its 5 columns", tensors={"w": stray})
    refuse("is float32: needs uint8", tensors={"w": np.zeros((3, 8), np.float32)})
    refuse("none of uint8, int8, float16 and float32", tensors={"w": np.zeros((3, 8), np.int32)})
    refuse("precision='int4'", precision="int4")
    refuse("threads=0", threads=0)
    refuse("isa='sse9' is unknown: use one of .*scalar", isa="sse9")


def test_sums_that_do_not_fit_32_bits_are_refused():
    program, tensors = with_planes(*dense(65539, 1), None, {"quantizer": "absmax", "bits": 16})
    refuse("sums over 65539 inputs do not fit 32 bits", program.to_json(), tensors)


def test_more_memory_than_the_cap_is_refused():
    refuse(
        "more than the 4294967296 that are allowed",
        Program("x", (30000, 30000, 2), (Step("relu", ("x",), "y"),), "y").to_json(),
    )


def test_padding_that_needs_too_much_memory_is_refused():
    program, tensors = convolution((5, 5, 1), 1, 1, [1, 1], [1 << 24] * 2, [1 << 24] * 4, [1, 1], 1, "01", False, ())
    refuse("padded input .* more than", program.to_json(), tensors)
    with pytest.raises(ValueError, match="padded input .* more than"):
        program.shapes(tensors)


def test_batches_that_do_not_fit_are_refused():
    program, tensors = dense()
    engine = Engine(program.to_json(), tensors, "int8", 1)
    for batch, message in (
        (np.zeros((2, 6), np.float32), "shape"),
        (np.zeros(5, np.float32), "shape"),
        (np.zeros((2, 5)), "neither uint8"),
    ):
        with pytest.raises(ValueError, match=message):
            engine.run(batch)


def test_the_environment_forces_an_instruction_set():
    script = (
        "from onebit.engine_info import instruction_sets; print(*(isa.name for isa in instruction_sets() if isa.used))"
    )
    for isa in ISAS:
        result = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"ONEBIT_ISA": isa},
            capture_output=True,
            text=True,
            check=True,
        )
        assert result.stdout.strip() == isa
    result = subprocess.run(
        [sys.executable, "-m", "onebit", "info", "--engine"],
        env=os.environ | {"ONEBIT_ISA": "sse9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "isa='sse9' is unknown" in result.stderr
    assert "Traceback" not in result.stderr
