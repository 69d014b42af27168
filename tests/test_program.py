"""Bit rows, JSON, and every check on a program."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebit.errors import FormatError
from onebit.program import Program, Step, pack_rows, row_bytes, unpack_rows


@given(st.integers(1, 5), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_rows_of_bits_survive_packing(rows, n, seed):
    bits = np.random.default_rng(seed).integers(0, 2, (rows, n), np.uint8)
    packed = pack_rows(bits)
    assert packed.shape == (rows, row_bytes(n))
    assert packed.shape[1] % 8 == 0
    assert np.array_equal(unpack_rows(packed, n), bits)


def test_the_layout_on_disk_is_the_documented_one():
    bits = np.zeros((1, 70), np.uint8)
    bits[0, [0, 9, 69]] = 1
    packed = pack_rows(bits)[0]
    assert packed.tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0]


def dense(**changes):
    attributes = {"in_features": 5, "out_features": 3, "values": "01"} | changes.pop("attributes", {})
    return Step("bit_linear", ("x",), "y", attributes, changes.pop("tensors", {"weight": "w", "bias": "b"}))


TENSORS = {
    "w": pack_rows(np.ones((3, 5), np.uint8)),
    "b": pack_rows(np.ones((1, 3), np.uint8)),
    "f": np.ones(5, np.float32),
}


def conv(**changes):
    attributes = {
        "in_channels": 2,
        "out_channels": 4,
        "kernel_size": [3, 3],
        "stride": [1, 1],
        "padding": [1, 1, 1, 1],
        "dilation": [1, 1],
        "groups": 1,
        "values": "pm1",
    }
    return Step("bit_conv2d", ("x",), "y", attributes | changes, {"weight": "w"})


CONV_TENSORS = {"w": pack_rows(np.ones((4, 18), np.uint8))}
IMAGE = (6, 7, 2)


def test_shapes_of_a_convolution():
    assert Program("x", IMAGE, (conv(),), "y").shapes(CONV_TENSORS)["y"] == (6, 7, 4)
    strided = conv(stride=[2, 3], padding=[0, 0, 0, 1])
    assert Program("x", IMAGE, (strided,), "y").shapes(CONV_TENSORS)["y"] == (2, 2, 4)


def test_a_program_survives_json():
    program = Program("x", (5,), (dense(),), "y")
    again = Program.from_json(program.to_json())
    assert again == program
    assert again.shapes(TENSORS) == {"x": (5,), "y": (3,)}


pool = {"kernel_size": [2, 2], "stride": [2, 2], "padding": [0, 0, 0, 0]}


@pytest.mark.parametrize(
    ("shape", "steps", "message"),
    [
        ((5,), [Step("convolve", ("x",), "y")], "unknown op"),
        ((5,), [Step("relu", ("z",), "y")], "before any step makes it"),
        ((5,), [Step("relu", ("x",), "x")], "a second time"),
        ((5,), [Step("relu", ("x", "x"), "y")], "has 2 inputs: needs 1"),
        ((5,), [Step("add", ("x",), "y")], "has 1 inputs: needs 2"),
        ((5,), [Step("relu", ("x",), "z")], "output 'y' is made by no step"),
        ((5,), [Step("relu", ("x",), "y", {"slope": 1})], "does not take: 'slope'"),
        ((5,), [Step("relu", ("x",), "y", {}, {"weight": "w"})], "does not take: 'tensor weight'"),
        ((6,), [dense()], r"in_features=5 but its input has shape \(6,\)"),
        ((5,), [dense(attributes={"values": "02"})], "values='02': use '01' or 'pm1'"),
        ((5,), [dense(attributes={"in_features": 0})], "needs an integer from 1"),
        ((5,), [dense(attributes={"in_features": True})], "needs an integer from 1"),
        ((5,), [dense(attributes={"in_features": 5.0})], "needs an integer from 1"),
        ((5,), [dense(attributes={"in_features": 10**30})], "needs an integer from 1"),
        ((5,), [dense(attributes={"out_features": 4})], r"has shape \(3, 8\): needs \(4, 8\)"),
        ((5,), [dense(tensors={"bias": "b"})], "lacks its tensor 'weight'"),
        ((5,), [dense(tensors={"weight": "nothing"})], "'nothing' is not in the file"),
        ((5,), [dense(tensors={"weight": "f"})], "is float32: needs uint8"),
        ((5,), [Step("normalize", ("x",), "y", {"over": "channel", "eps": 0})], "finite number above 0"),
        ((5,), [Step("normalize", ("x",), "y", {"over": "batch", "eps": 1})], "over='batch'"),
        ((5,), [Step("normalize", ("x",), "y", {"over": "channel"})], "lacks the attribute 'eps'"),
        ((5,), [Step("mean_pool", ("x",), "y")], "needs \\(height, width, channels\\)"),
        ((5,), [Step("flatten", ("x",), "y", {"order": "chw"})], "order='chw'"),
        (IMAGE, [Step("max_pool2d", ("x",), "y", pool | {"padding": [2, 0, 0, 0]})], "smaller than kernel_size"),
        (IMAGE, [Step("max_pool2d", ("x",), "y", pool | {"kernel_size": [7, 7]})], "does not fit"),
        (IMAGE, [Step("max_pool2d", ("x",), "y", pool | {"stride": [0, 1]})], "integers from 1"),
        (IMAGE, [Step("max_pool2d", ("x",), "y", pool | {"stride": 2})], "list of 2 integers"),
        ((1 << 20, 1 << 20), [Step("relu", ("x",), "y")], "more than"),
        ((5,), [Step("normalize", ("x",), "y", {"over": "channel", "eps": 1e-60})], "finite number above 0"),
        ((5,), [Step("normalize", ("x",), "y", {"over": "channel", "eps": 10**400})], "finite number above 0"),
        ((5,), [Step("clip", ("x",), "y", {"low": 1, "high": 1})], "low=1.0 is not below high=1.0"),
        ((5,), [Step("clip", ("x",), "y", {"low": 0})], "lacks the attribute 'high'"),
        ((5,), [Step("clip", ("x",), "y", {"low": float("nan"), "high": 1})], "low=nan: needs a finite number"),
        ((5,), [Step("clip", ("x",), "y", {"low": True, "high": 1})], "low=True: needs a finite number"),
        ((5,), [Step("clip", ("x",), "y", {"low": 0, "high": 10**400})], "needs a finite number"),
        ((6,), [Step("prelu", ("x",), "y", {}, {"slope": "f"})], r"has shape \(5,\): needs \(6,\)"),
        ((5,), [Step("prelu", ("x",), "y")], "lacks its tensor 'slope'"),
        ((5,), [Step("multiply", ("x",), "y")], "has 1 inputs: needs 2"),
        (
            IMAGE,
            [Step("mean_pool", ("x",), "m"), Step("multiply", ("m", "x"), "y")],
            "needs equal ones, 1 as the second's last axis",
        ),
        (
            (5,),
            [Step("mean_magnitude", ("x",), "y", pool | {"dilation": [1, 1]})],
            "needs \\(height, width, channels\\)",
        ),
        (IMAGE, [Step("mean_magnitude", ("x",), "y", pool)], "lacks the attribute 'dilation'"),
        (IMAGE, [Step("mean_magnitude", ("x",), "y", pool | {"dilation": [6, 1]})], "does not fit"),
        (IMAGE, [Step("avg_pool2d", ("x",), "y", pool)], "lacks the attribute 'count_include_pad'"),
        (IMAGE, [Step("avg_pool2d", ("x",), "y", pool | {"count_include_pad": 1})], "use true or false"),
        (
            IMAGE,
            [Step("avg_pool2d", ("x",), "y", pool | {"count_include_pad": True, "padding": [0, 0, 0, 2]})],
            "smaller than kernel_size",
        ),
        (IMAGE, [Step("last", ("x",), "y")], "needs \\(time, channels\\)"),
        ((5,), [Step("rows", ("x",), "y")], "needs \\(height, width, channels\\)"),
        ((5,), [Step("group_normalize", ("x",), "y", {"groups": 2, "eps": 1e-5})], "groups=2 does not divide its 5"),
        ((5,), [Step("group_normalize", ("x",), "y", {"groups": 0, "eps": 1e-5})], "needs an integer from 1"),
        ((1, 1, 1, 5), [Step("group_normalize", ("x",), "y", {"groups": 1, "eps": 1e-5})], "its input has shape"),
    ],
)
def test_what_does_not_fit_is_named(shape, steps, message):
    with pytest.raises(FormatError, match=message):
        Program("x", shape, tuple(steps), "y").shapes(TENSORS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": 3}, "groups=3 does not divide"),
        ({"in_channels": 3}, "in_channels=3 but its input has shape"),
        ({"kernel_size": [9, 9]}, "does not fit its padded input"),
        ({"padding": [1, 1, 1, -1]}, "integers from 0"),
    ],
)
def test_convolutions_that_do_not_fit_are_named(changes, message):
    with pytest.raises(FormatError, match=message):
        Program("x", IMAGE, (conv(**changes),), "y").shapes(CONV_TENSORS)


@pytest.mark.parametrize("op", ["avg_pool2d", "last", "rows", "mean_pool", "max_pool2d"])
def test_what_would_mix_tokens_is_refused(op):
    embed = Step("embedding", ("x",), "e", {"rows": 3, "features": 5, "of": "token"}, {"weight": "table"})
    program = Program("x", (7,), (embed, Step(op, ("e",), "y")), "y", tokens=True)
    with pytest.raises(FormatError, match="has no meaning for tokens"):
        program.shapes({"table": np.ones((3, 5), np.float32)})


PLANES = {"w": pack_rows(np.ones((9, 5), np.uint8))}
QUANTIZERS = [{"quantizer": "sign"}, *({"quantizer": "unit", "bits": k} for k in range(1, 9))]
QUANTIZERS += [{"quantizer": "absmax", "bits": k} for k in (8, 16)]


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_planes_and_inputs_of_their_own_survive_json(kind):
    step = dense(attributes={"planes": [1, 2, 4], "input": kind}, tensors={"weight": "w"})
    program = Program.from_json(Program("x", (5,), (step,), "y").to_json())
    assert program.steps == (step,)
    assert program.shapes(PLANES)["y"] == (3,)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"planes": 3}, "planes=3: needs 1 to 8 integers"),
        ({"planes": []}, "needs 1 to 8 integers"),
        ({"planes": [1] * 9}, "needs 1 to 8 integers"),
        ({"planes": [1, 0, 1]}, "needs 1 to 8 integers"),
        ({"planes": [1, True, 1]}, "needs 1 to 8 integers"),
        ({"planes": [1, 2.0, 1]}, "needs 1 to 8 integers"),
        ({"planes": [128, 127, 1]}, "sum is at most 255"),
        ({"planes": [1, 1]}, r"has shape \(9, 8\): needs \(6, 8\)"),
        ({"input": "sign"}, "input='sign': needs a quantizer, one of 'sign', 'unit', 'absmax'"),
        ({"input": {}}, "needs a quantizer"),
        ({"input": {"quantizer": ["sign"]}}, "needs a quantizer"),
        ({"input": {"quantizer": "sgn"}}, "needs a quantizer"),
        ({"input": {"quantizer": "sign", "bits": 1}}, "'sign' takes quantizer"),
        ({"input": {"quantizer": "unit"}}, "'unit' takes bits and quantizer"),
        ({"input": {"quantizer": "unit", "bits": 8, "scale": 1}}, "'unit' takes bits and quantizer"),
        ({"input": {"quantizer": "unit", "bits": 9}}, "its bits are one of 1, 2, 3, 4, 5, 6, 7, 8"),
        ({"input": {"quantizer": "unit", "bits": True}}, "its bits are one of"),
        ({"input": {"quantizer": "absmax", "bits": 4}}, "its bits are one of 8, 16"),
    ],
)
def test_planes_and_inputs_that_do_not_fit_are_named(attributes, message):
    step = dense(attributes={"planes": [1, 1, 1]} | attributes, tensors={"weight": "w"})
    with pytest.raises(FormatError, match=message):
        Program("x", (5,), (step,), "y").shapes(PLANES)


def test_sums_that_do_not_fit_32_bits_are_refused():
    def shapes(inputs, **more):
        attributes = {"in_features": inputs, "out_features": 1, **more}
        program = Program("x", (inputs,), (dense(attributes=attributes, tensors={"weight": "w"}),), "y")
        return program.shapes({"w": pack_rows(np.ones((1, inputs), np.uint8))})

    most = 2**31 // (2**15 - 1)
    absmax = {"quantizer": "absmax", "bits": 16}
    assert shapes(most, input=absmax)["y"] == (1,)
    with pytest.raises(FormatError, match=f"sums over {most + 1} inputs do not fit 32 bits"):
        shapes(most + 1, input=absmax)
    with pytest.raises(FormatError, match="do not fit 32 bits"):
        shapes(2**31 // (255 * 255) + 1, planes=[255])
    assert shapes(2**31 // (255 * 255), planes=[255])["y"] == (1,)


def test_bits_beyond_a_row_are_refused():
    tensors = TENSORS | {"w": TENSORS["w"].copy()}
    tensors["w"][1, 0] |= 1 << 5
    with pytest.raises(FormatError, match="bits set beyond its 5 columns"):
        Program("x", (5,), (dense(),), "y").shapes(tensors)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"input": 1, "steps": [], "output": "x"}',
        '{"input": {"name": "x", "shape": [0]}, "steps": [], "output": "x"}',
        '{"input": {"name": "x", "shape": [2.5]}, "steps": [], "output": "x"}',
        '{"input": {"name": "x", "shape": [2]}, "steps": [3], "output": "x"}',
        '{"input": {"name": "x", "shape": [2]}, "steps": [{"op": "relu", "inputs": "x", "output": "y"}], "output": "x"}',
        '{"input": {"name": "x", "shape": [2]}, "steps": [{"op": "relu", "inputs": [1], "output": "y"}], "output": "x"}',
        '{"input": {"name": "x", "shape": [2]}, "steps": [], "output": null}',
        "[" * 100_000,
    ],
)
def test_damaged_json_is_refused(text):
    with pytest.raises(FormatError):
        Program.from_json(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda t: st.lists(t) | st.dictionaries(st.text(), t)
    )
)
def test_arbitrary_json_never_crashes(tree):
    with pytest.raises(FormatError):
        Program.from_json(json.dumps(tree))
