"""Compare the NumPy reference with PyTorch's own operations."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from onebit.ops.quantize import quantize, quantize_input
from onebit.program import Program, Step, pack_rows
from onebit.runtime import reference

rng = np.random.default_rng(0)


def run(op, x, attributes=None, precision="float32", inputs=("x",), **tensors):
    step = Step(op, inputs, "y", attributes or {}, {role: role for role in tensors})
    program = Program("x", x.shape[1:], (step,), "y")
    shape = program.shapes(tensors)["y"]
    y = reference.run(program, tensors, x, precision)
    assert y.shape == (len(x), *shape)
    assert y.dtype == np.float32
    return y


def read(bits, values):
    return torch.tensor(bits if values == "01" else 2.0 * bits - 1).float()


@settings(max_examples=60, deadline=None)
@given(
    groups=st.integers(1, 2),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    values=st.sampled_from(["01", "pm1"]),
)
def test_convolutions(groups, channels, kernel, stride, padding, dilation, values):
    inputs, outputs = groups * channels[0], groups * channels[1]
    x = rng.standard_normal((2, 7, 6, inputs)).astype(np.float32)
    weight = rng.integers(0, 2, (outputs, *kernel, channels[0]))
    bias = rng.integers(0, 2, outputs)
    attributes = {
        "in_channels": inputs,
        "out_channels": outputs,
        "kernel_size": list(kernel),
        "stride": list(stride),
        "padding": list(padding),
        "dilation": list(dilation),
        "groups": groups,
    }
    top, bottom, left, right = padding
    image = F.pad(torch.tensor(x).permute(0, 3, 1, 2), (left, right, top, bottom))
    kernels = read(weight, values).permute(0, 3, 1, 2)
    expected = F.conv2d(image, kernels, read(bias, values), stride, 0, dilation, groups).permute(0, 2, 3, 1).numpy()
    bits = {"weight": pack_rows(weight.reshape(outputs, -1)), "bias": pack_rows(bias[None])}
    np.testing.assert_allclose(
        run("bit_conv2d", x, attributes | {"values": values}, **bits), expected, rtol=1e-4, atol=1e-4
    )
    floats = {"weight": read(weight, values).numpy(), "bias": read(bias, values).numpy()}
    np.testing.assert_allclose(run("conv2d", x, attributes, **floats), expected, rtol=1e-4, atol=1e-4)


KINDS = [
    {"quantizer": "sign"},
    {"quantizer": "unit", "bits": 1},
    {"quantizer": "unit", "bits": 3},
    {"quantizer": "unit", "bits": 8},
]
KINDS += [{"quantizer": "absmax", "bits": 8}, {"quantizer": "absmax", "bits": 16}]


def quantised(x, kind, axes):
    """What the networks of the literature compute in training, in PyTorch: levels in float, and their scale."""
    if kind["quantizer"] == "sign":
        return torch.where(x >= 0, 1.0, -1.0), torch.tensor(1.0)
    if kind["quantizer"] == "unit":
        top = 2.0 ** kind["bits"] - 1
        return torch.round(x.clamp(0, 1) * top), torch.tensor(1 / top)
    top = 2.0 ** (kind["bits"] - 1) - 1
    high = x.abs().amax(axes, keepdim=True).clamp(min=1e-5)
    # A number over a tensor is the reciprocal times the number in PyTorch, which is rounded twice.
    return torch.round(x * (torch.tensor(top) / high)).clamp(-top, top), high / top


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind['quantizer']}{kind.get('bits', '')}")
@pytest.mark.parametrize("planes", [[1], [1, 1], [1, 2, 4]])
@pytest.mark.parametrize("values", ["01", "pm1"])
def test_inputs_of_their_own_and_planes_in_both_precisions(values, planes, kind, precision):
    x = rng.standard_normal((3, 6, 5, 4)).astype(np.float32)
    x[0, 0, 0, :2] = 0.0, -0.0
    bits = rng.integers(0, 2, (len(planes), 6, 3, 3, 2))
    bias = rng.integers(0, 2, 6)
    attributes = {
        "in_channels": 4, "out_channels": 6, "kernel_size": [3, 3], "stride": [1, 2], "padding": [1] * 4, "dilation": [1, 1],
        "groups": 2, "values": values, "planes": planes, "input": kind,
    }  # fmt: skip
    weight = sum(c * read(plane, values) for c, plane in zip(planes, bits, strict=True))
    q, scale = quantised(torch.tensor(x), kind, (1, 2, 3))
    sums = F.conv2d(q.permute(0, 3, 1, 2).double(), weight.permute(0, 3, 1, 2).double(), None, (1, 2), 1, 1, 2)
    expected = (scale * sums.permute(0, 2, 3, 1) + read(bias, values)).numpy()
    tensors = {"weight": pack_rows(bits.reshape(len(planes) * 6, 18)), "bias": pack_rows(bias[None])}
    np.testing.assert_allclose(run("bit_conv2d", x, attributes, precision, **tensors), expected, rtol=1e-6, atol=1e-5)

    rows = x.reshape(3, 5, 24)
    attributes = {"in_features": 24, "out_features": 6, "values": values, "planes": planes, "input": kind}
    bits = rng.integers(0, 2, (len(planes), 6, 24))
    weight = sum(c * read(plane, values) for c, plane in zip(planes, bits, strict=True))
    q, scale = quantised(torch.tensor(rows), kind, -1)
    tensors = {"weight": pack_rows(bits.reshape(-1, 24)), "bias": pack_rows(bias[None])}
    expected = (scale * (q.double() @ weight.double().T) + read(bias, values)).numpy()
    np.testing.assert_allclose(
        run("bit_linear", rows, attributes, precision, **tensors), expected, rtol=1e-6, atol=1e-5
    )


def test_what_is_no_number_has_its_level():
    x = np.array([[np.nan, np.inf, -np.inf, -0.0, 0.5]], np.float32)
    levels = {
        "sign": ({"quantizer": "sign"}, [-1, 1, -1, 1, 1]),
        "unit": ({"quantizer": "unit", "bits": 2}, [0, 3, 0, 0, 2]),
    }
    for kind, expected in levels.values():
        assert quantize_input(x, (1,), kind)[0].tolist() == [expected]
    assert np.isnan(quantize_input(x, (1,), {"quantizer": "absmax", "bits": 8})[1]).all()
    small, scale = quantize_input(np.full((1, 2), 1e-6, np.float32), (1,), {"quantizer": "absmax", "bits": 8})
    assert small.tolist() == [[13, 13]]
    assert scale.item() == np.float32(1e-5) / np.float32(127)


@pytest.mark.parametrize("values", ["01", "pm1"])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_planes_alone_are_the_sum_of_their_layers(values, precision):
    x = rng.standard_normal((4, 100)).astype(np.float32)
    bits = rng.integers(0, 2, (2, 8, 100))
    attributes = {"in_features": 100, "out_features": 8, "values": values}
    both = run("bit_linear", x, attributes | {"planes": [3, 5]}, precision, weight=pack_rows(bits.reshape(16, 100)))
    one, other = (run("bit_linear", x, attributes, precision, weight=pack_rows(plane)) for plane in bits)
    np.testing.assert_allclose(both, 3 * one + 5 * other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("values", ["01", "pm1"])
def test_dense_int8_is_exact_on_the_levels(values):
    x = (rng.integers(-127, 128, (4, 100)) / 64).astype(np.float32)
    x[:, 0] = 127 / 64  # so that the scale is a power of two and the levels are exact
    weight = rng.integers(0, 2, (8, 100))
    attributes = {"in_features": 100, "out_features": 8, "values": values}
    y = run("bit_linear", x, attributes, "int8", weight=pack_rows(weight))
    assert np.array_equal(y, x @ read(weight, values).numpy().T)


def test_levels_of_what_is_never_negative_are_0_to_255():
    q, scale = quantize(np.array([[0.0, 1.0, 2.0, 255.0]], np.float32), (1,))
    assert q.tolist() == [[0, 1, 2, 255]]
    assert scale.item() == 1


def test_halves_round_to_even_and_signs_are_kept():
    q, _ = quantize(np.array([[0.5, 1.5, -2.5, -127.0]], np.float32), (1,))
    assert q.tolist() == [[0, 2, -2, -127]]


def test_each_row_has_its_scale_and_zeros_stay_zeros():
    q, scale = quantize(np.array([[0.0, 0.0], [1.0, -2.0]], np.float32), (1,))
    assert q.tolist() == [[0, 0], [64, -127]]
    assert scale[0] == 1


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_row_with_nan_gives_nan_and_leaves_the_others(precision):
    x = np.ones((2, 3), np.float32)
    x[0, 1] = np.nan
    attributes = {"in_features": 3, "out_features": 2, "values": "01"}
    y = run("bit_linear", x, attributes, precision, weight=pack_rows(np.ones((2, 3), np.uint8)))
    assert np.isnan(y[0]).all()
    np.testing.assert_allclose(y[1], 3, rtol=1e-6)


IMAGE = rng.standard_normal((2, 6, 5, 3)).astype(np.float32)
TORCH_IMAGE = torch.tensor(IMAGE).permute(0, 3, 1, 2)


def last(x):
    return x.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(
    ("op", "attributes", "expected"),
    [
        ("relu", {}, F.relu(TORCH_IMAGE)),
        ("gelu", {}, F.gelu(TORCH_IMAGE)),
        ("softmax", {}, F.softmax(TORCH_IMAGE, 1)),
        (
            "normalize",
            {"over": "channel", "eps": 1e-5},
            F.layer_norm(TORCH_IMAGE.permute(0, 2, 3, 1), (3,)).permute(0, 3, 1, 2),
        ),
        ("normalize", {"over": "example", "eps": 1e-5}, F.layer_norm(TORCH_IMAGE, (3, 6, 5))),
        (
            "max_pool2d",
            {"kernel_size": [3, 2], "stride": [2, 1], "padding": [1, 1, 0, 0]},
            F.max_pool2d(TORCH_IMAGE, (3, 2), (2, 1), (1, 0)),
        ),
    ],
)
def test_ops_on_images(op, attributes, expected):
    np.testing.assert_allclose(run(op, IMAGE, attributes), last(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", ["sigmoid", "tanh", "silu", "relu_squared"])
def test_smooth_activations(op):
    x = np.concatenate([np.linspace(-20, 20, 801), np.logspace(-8, 0, 50)]).astype(np.float32)[None]
    functions = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "silu": F.silu, "relu_squared": lambda x: F.relu(x) ** 2}
    expected = functions[op](torch.tensor(x))
    np.testing.assert_allclose(run(op, x), expected, rtol=1e-6, atol=1e-12)


def test_clip_and_prelu():
    assert np.array_equal(run("clip", IMAGE, {"low": -0.5, "high": 1}), np.clip(IMAGE, -0.5, 1))
    assert np.isnan(run("clip", np.full((1, 2), np.nan, np.float32), {"low": 0, "high": 1})).all()
    slope = rng.standard_normal(3).astype(np.float32)
    np.testing.assert_allclose(
        run("prelu", IMAGE, slope=slope), last(F.prelu(TORCH_IMAGE, torch.tensor(slope))), rtol=1e-6
    )
    np.testing.assert_allclose(
        run("prelu", IMAGE[0, 0], slope=slope), F.prelu(torch.tensor(IMAGE[0, 0]), torch.tensor(slope))
    )


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pad=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    counts=st.booleans(),
)
def test_average_pooling(kernel, stride, pad, counts):
    pad = (min(pad[0], kernel[0] // 2), min(pad[1], kernel[1] // 2))  # PyTorch takes no more
    attributes = {
        "kernel_size": list(kernel),
        "stride": list(stride),
        "padding": [pad[0], pad[0], pad[1], pad[1]],
        "count_include_pad": counts,
    }
    expected = F.avg_pool2d(TORCH_IMAGE, kernel, stride, pad, count_include_pad=counts)
    np.testing.assert_allclose(run("avg_pool2d", IMAGE, attributes), last(expected), rtol=1e-5, atol=1e-6)


def test_average_pooling_with_padding_on_one_side():
    attributes = {"kernel_size": [2, 2], "stride": [1, 1], "padding": [1, 0, 0, 1], "count_include_pad": False}
    y = run("avg_pool2d", np.ones((1, 3, 3, 1), np.float32), attributes)
    assert np.array_equal(y, np.ones((1, 3, 3, 1), np.float32))


@pytest.mark.parametrize("groups", [1, 3])
def test_rms_normalize_is_pytorchs(groups):
    x = rng.standard_normal((2, 5, 12)).astype(np.float32)
    parts = torch.tensor(x).reshape(2, 5, groups, -1)
    expected = F.rms_norm(parts, (12 // groups,), eps=1e-3).reshape(x.shape).numpy()
    np.testing.assert_allclose(run("rms_normalize", x, {"eps": 1e-3, "groups": groups}), expected, rtol=1e-5)
    x[0, 1, 2] = np.inf
    y = run("rms_normalize", x, {"eps": 1e-3})
    assert np.isnan(y[0, 1]).all()
    assert np.isfinite(np.delete(y.reshape(10, 12), 1, 0)).all()


def test_a_gain_needs_no_shift():
    x = np.float32([[1, -2, -0.0]])
    scale = np.float32([2, 0.5, 3])
    y = run("scale_shift", x, scale=scale)
    assert np.array_equal(y.view(np.uint32), (x * scale).view(np.uint32))


@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
def test_the_mean_magnitude_of_an_image_is_xnor_nets_k(stride, dilation):
    attributes = {"kernel_size": [3, 2], "stride": list(stride), "padding": [2, 2, 1, 1], "dilation": list(dilation)}
    kernel = torch.full((1, 1, 3, 2), 1 / 6)
    expected = F.conv2d(TORCH_IMAGE.abs().mean(1, keepdim=True), kernel, None, stride, (2, 1), dilation)
    np.testing.assert_allclose(run("mean_magnitude", IMAGE, attributes), last(expected), rtol=1e-5)


def test_the_mean_magnitude_of_rows():
    for x in (IMAGE, IMAGE[:, 0], IMAGE[:, 0, 0]):
        np.testing.assert_allclose(run("mean_magnitude", x), np.abs(x).mean(-1, keepdims=True), rtol=1e-6)


def product(x, factor_steps):
    steps = (*factor_steps, Step("multiply", ("x", "f"), "y"))
    program = Program("x", x.shape[1:], steps, "y")
    assert program.shapes({})["y"] == x.shape[1:]
    return reference.run(program, {}, x, "float32")


def test_products_of_values():
    np.testing.assert_allclose(product(IMAGE, [Step("relu", ("x",), "f")]), IMAGE * np.maximum(IMAGE, 0), rtol=1e-6)
    mean = np.abs(IMAGE).mean(-1, keepdims=True)
    np.testing.assert_allclose(product(IMAGE, [Step("mean_magnitude", ("x",), "f")]), IMAGE * mean, rtol=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_normalization(groups):
    image = rng.standard_normal((2, 4, 5, 6)).astype(np.float32) * 3 + 1
    attributes = {"groups": groups, "eps": 1e-3}
    expected = F.group_norm(torch.tensor(image).permute(0, 3, 1, 2), groups, eps=1e-3)
    np.testing.assert_allclose(run("group_normalize", image, attributes), last(expected), rtol=1e-4, atol=1e-5)
    row = image[:, 0, 0]
    expected = F.group_norm(torch.tensor(row), groups, eps=1e-3)
    np.testing.assert_allclose(run("group_normalize", row, attributes), expected, rtol=1e-4, atol=1e-5)
    # Of rows side by side, each by itself.
    rows = image[:, 0]
    expected = F.group_norm(torch.tensor(rows).reshape(-1, 6), groups, eps=1e-3).reshape(rows.shape)
    np.testing.assert_allclose(run("group_normalize", rows, attributes), expected, rtol=1e-4, atol=1e-5)


def test_an_image_as_a_sequence():
    assert np.array_equal(run("rows", IMAGE), torch.tensor(IMAGE).reshape(2, 6, 15))
    steps = IMAGE[:, 0]
    assert np.array_equal(run("last", steps), steps[:, -1])
    np.testing.assert_allclose(run("mean_pool", steps), steps.mean(1), rtol=1e-5, atol=1e-7)


def test_pooling_flattening_adding_scaling():
    np.testing.assert_allclose(run("mean_pool", IMAGE), TORCH_IMAGE.mean((2, 3)), rtol=1e-5, atol=1e-6)
    assert np.array_equal(run("flatten", IMAGE, {"order": "chw"}), TORCH_IMAGE.flatten(1))
    assert np.array_equal(run("flatten", IMAGE, {"order": "hwc"}), IMAGE.reshape(2, -1))
    assert np.array_equal(run("add", IMAGE, inputs=("x", "x")), 2 * IMAGE)
    scale, shift = rng.standard_normal((2, 3)).astype(np.float32)
    np.testing.assert_allclose(run("scale_shift", IMAGE, scale=scale, shift=shift), IMAGE * scale + shift, rtol=1e-6)


def test_pixels_become_0_to_1():
    assert np.array_equal(run("relu", np.array([[0, 51, 255]], np.uint8)), np.array([[0, 0.2, 1]], np.float32))
