"""The memory cap: the most memory of a program is known at load, and a run never takes more."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebit._engine import Decoder, Engine, isas
from onebit.program import Program, Step, pack_rows

ISAS = [isa["name"] for isa in isas() if isa["supported"]]
LEVELS = [None, {"quantizer": "sign"}, {"quantizer": "unit", "bits": 2}, {"quantizer": "absmax", "bits": 16}]
rng = np.random.default_rng(0)


def convolution(
    shape, outputs, kernel, stride, padding, dilation=(1, 1), groups=1, binary=False, levels=None, values="pm1"
):
    """A step from "x" to "y", and its tensors."""
    inputs = shape[2] // groups
    attributes = {
        "in_channels": shape[2], "out_channels": outputs, "kernel_size": list(kernel), "stride": list(stride), "padding": list(padding),
        "dilation": list(dilation), "groups": groups,
    }  # fmt: skip
    if not binary:
        weight = np.ones((outputs, *kernel, inputs), np.float32)
        return Step("conv2d", ("x",), "y", attributes, {"weight": "w"}), {"w": weight}
    attributes |= {"values": values} | ({"input": levels} if levels else {})
    bits = rng.integers(0, 2, (outputs, kernel[0] * kernel[1] * inputs), np.uint8)
    return Step("bit_conv2d", ("x",), "y", attributes, {"weight": "w"}), {"w": pack_rows(bits)}


def holds(runner, run):
    """Nothing takes more than was promised; a cap of the promise is enough, and of a byte less is not."""
    assert runner.memory_bytes <= runner.most_bytes
    run()
    assert runner.memory_bytes <= runner.most_bytes


@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize(
    ("channels", "padding", "options"),
    [
        (1, 23000, {}),
        (1, 23000, {"binary": True}),
        (32, 4000, {"binary": True, "levels": {"quantizer": "sign"}}),
        (32, 4000, {"binary": True, "levels": {"quantizer": "unit", "bits": 1}, "values": "pm1"}),
        (32, 4000, {"binary": True, "levels": {"quantizer": "absmax", "bits": 16}}),
    ],
)
def test_padding_counts(precision, channels, padding, options):
    step, tensors = convolution((1, 1, channels), 1, (1, 1), (1 << 24, 1 << 24), (padding,) * 4, **options)
    program = Program("x", (1, 1, channels), (step,), "y")
    program.shapes(tensors)
    with pytest.raises(ValueError, match=r"need \d+ bytes, more than the 67108864 that are allowed: raise memory_cap"):
        Engine(program.to_json(), tensors, precision, 1, memory_cap=64 << 20)


def test_weights_count_before_they_are_copied():
    # One output of 2^20 floats: the engine's panels hold 16.
    inputs = 1 << 20
    step = Step("linear", ("x",), "y", {"in_features": inputs, "out_features": 1}, {"weight": "w"})
    program, tensors = Program("x", (2, inputs), (step,), "y"), {"w": np.zeros((1, inputs), np.float32)}
    with pytest.raises(ValueError, match="more than the 67108864 that are allowed"):
        Engine(program.to_json(), tensors, "int8", 1, memory_cap=64 << 20)
    tokens = Program("x", (4,), (
        Step("embedding", ("x",), "e", {"rows": 4, "features": 64, "of": "token"}, {"weight": "e"}),
        Step("linear", ("e",), "y", {"in_features": 64, "out_features": 1 << 18}, {"weight": "v"}),
    ), "y", tokens=True)  # fmt: skip
    tensors = {"e": np.zeros((4, 64), np.float32), "v": np.zeros((1 << 18, 64), np.float32)}
    with pytest.raises(ValueError, match="more than the 50000000 that are allowed"):
        Decoder(tokens.to_json(), tensors, "int8", 1, memory_cap=50_000_000)


@settings(max_examples=120, deadline=None)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 30)),
    groups=st.sampled_from([1, 1, 2]),
    channels=st.sampled_from([1, 3, 16, 32, 64]),
    outputs=st.sampled_from([1, 20, 70]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(2, 9)] * 4),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    binary=st.booleans(),
    levels=st.sampled_from(LEVELS),
    values=st.sampled_from(["01", "pm1"]),
    pooled=st.booleans(),
    isa=st.sampled_from(ISAS),
    threads=st.sampled_from([1, 3]),
    precision=st.sampled_from(["int8", "float32"]),
)
def test_images_take_no_more_than_they_promise(
    size,
    groups,
    channels,
    outputs,
    kernel,
    stride,
    padding,
    dilation,
    binary,
    levels,
    values,
    pooled,
    isa,
    threads,
    precision,
):
    shape = (*size, groups * channels)
    step, tensors = convolution(
        shape, groups * outputs, kernel, stride, padding, dilation, groups, binary, levels, values
    )
    steps = [step]
    if pooled:
        window = {"kernel_size": [2, 2], "stride": [2, 2], "padding": [0, 0, 0, 0]}
        steps += [Step("relu", ("y",), "r"), Step("max_pool2d", ("r",), "p", window)]
    program = Program("x", shape, tuple(steps), steps[-1].output)
    try:
        program.shapes(tensors)
    except ValueError:
        return
    engine = Engine(program.to_json(), tensors, precision, threads, isa)
    x = rng.standard_normal((2, *shape)).astype(np.float32)
    holds(engine, lambda: engine.run(x))
    Engine(program.to_json(), tensors, precision, threads, isa, engine.most_bytes)
    with pytest.raises(ValueError, match="memory_cap"):
        Engine(program.to_json(), tensors, precision, threads, isa, engine.most_bytes - 1)


def over_rows(kind, features, outputs, levels, values):
    """A step from "x" to "y" of a dense layer or a recurrence, and its tensors; the width of its input."""
    if kind in ("linear", "bit_linear"):
        attributes, count, inputs, width = (
            {"in_features": features, "out_features": outputs},
            outputs,
            features,
            features,
        )
    else:
        gates = 4 if kind.endswith("lstm") else 3
        attributes, count, inputs, width = {"hidden": outputs}, gates * outputs, outputs, gates * outputs
    tensors, names = {}, {"weight": "w"}
    if kind.startswith("bit_"):
        attributes |= {"values": values} | ({"input": levels} if levels else {})
        tensors["w"] = pack_rows(rng.integers(0, 2, (count, inputs), np.uint8))
        if kind != "bit_linear":
            names |= {"scale": "s", "shift": "t"}
    else:
        tensors["w"] = rng.standard_normal((count, inputs)).astype(np.float32)
        if kind == "gru":
            names["shift"] = "t"
    tensors |= {name: np.ones(count, np.float32) for name in names.values() if name != "w"}
    return Step(kind, ("x",), "y", attributes, names), tensors, width


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(["linear", "bit_linear", "bit_linear", "lstm", "gru", "bit_lstm", "bit_gru"]),
    features=st.sampled_from([5, 32, 64, 200]),
    outputs=st.sampled_from([1, 20, 70]),
    rows=st.sampled_from([1, 3, 7, 40, 300]),
    levels=st.sampled_from(LEVELS),
    values=st.sampled_from(["01", "pm1"]),
    isa=st.sampled_from(ISAS),
    threads=st.sampled_from([1, 3]),
    precision=st.sampled_from(["int8", "float32"]),
)
def test_rows_and_tokens_take_no_more_than_they_promise(
    kind, features, outputs, rows, levels, values, isa, threads, precision
):
    step, tensors, width = over_rows(kind, features, outputs, levels, values)
    program = Program("x", (rows, width), (step,), "y")
    program.shapes(tensors)
    engine = Engine(program.to_json(), tensors, precision, threads, isa)
    holds(engine, lambda: engine.run(rng.standard_normal((2, rows, width)).astype(np.float32)))

    embedding = Step("embedding", ("t",), "x", {"rows": 9, "features": width, "of": "token"}, {"weight": "e"})
    tensors["e"] = rng.standard_normal((9, width)).astype(np.float32)
    attended = Step("attention", ("x", "x", "x"), "a", {"heads": 1})
    after = Step("add", ("a", "x"), "b")
    program = Program(
        "t",
        (300,),
        (embedding, attended, after, Step(step.op, ("b",), "y", step.attributes, step.tensors)),
        "y",
        tokens=True,
    )
    program.shapes(tensors)
    decoder = Decoder(program.to_json(), tensors, precision, threads, isa)
    # Keys, values and states grow with a text: a block of 64 tokens of them is counted.
    first = decoder.open()
    holds(decoder, lambda: decoder.extend([first], [1], np.zeros(1, np.int32), all=True))
    of_block = decoder.memory_bytes
    decoder.extend([first], [min(rows, 299)], np.zeros(min(rows, 299), np.int32), all=True)
    decoder.close(first)
    assert decoder.memory_bytes <= decoder.most_bytes
    assert of_block <= decoder.most_bytes


def test_honest_networks_fit_the_default_cap():
    # As wide as the largest that the recipes train: 256x256 images, and a decoder of 12 blocks of 768 features with 30,000 tokens.
    shape = (256, 256, 64)
    for options in ({}, {"binary": True}, {"binary": True, "levels": {"quantizer": "sign"}}):
        step, tensors = convolution(shape, 64, (5, 5), (1, 1), (2, 2, 2, 2), **options)
        for precision in ("int8", "float32"):
            engine = Engine(Program("x", shape, (step,), "y").to_json(), tensors, precision, 16)
            assert engine.most_bytes < 300 << 20
    rows, width = 30522, 768
    tensors = {"e": np.zeros((rows, 96), np.uint8), "w": np.zeros((rows, 96), np.uint8)}
    steps = (
        Step(
            "bit_embedding",
            ("t",),
            "x",
            {"rows": rows, "features": width, "of": "token", "values": "pm1"},
            {"weight": "e"},
        ),
        Step("attention", ("x", "x", "x"), "a", {"heads": 12}),
        Step("bit_linear", ("a",), "y", {"in_features": width, "out_features": rows, "values": "pm1"}, {"weight": "w"}),
    )
    decoder = Decoder(Program("t", (1024,), steps, "y", tokens=True).to_json(), tensors, "int8", 16)
    assert decoder.most_bytes < 100 << 20
