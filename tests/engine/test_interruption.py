"""Ctrl-C ends a long computation at any place, and the engine can be used again. Windows as large as an image cost little."""

import contextlib
import json
import signal
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from onebit._engine import Decoder, Engine
from onebit.cli.main import main
from onebit.fileformat import PackedModel, save_model
from onebit.images import ImageTask
from onebit.program import Program, Step
from onebit.runtime import reference

rng = np.random.default_rng(0)


@contextlib.contextmanager
def interrupted(after=0.3):
    """Expects that what runs within is ended by a signal, soon after it comes."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    begun = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - begun < after + 5  # on a machine that has much else to do


def convolution(size, channels, kernel, source="x", made="y"):
    attributes = {
        "in_channels": channels, "out_channels": channels, "kernel_size": [kernel] * 2, "stride": [1, 1], "padding": [kernel // 2] * 4,
        "dilation": [1, 1], "groups": 1,
    }  # fmt: skip
    step = Step("conv2d", (source,), made, attributes, {"weight": "w"})
    return step, {"w": rng.standard_normal((channels, kernel, kernel, channels)).astype(np.float32)}


@pytest.mark.parametrize("threads", [1, 3])
def test_one_long_step_ends(threads):
    step, tensors = convolution(400, 64, 15)
    engine = Engine(Program("x", (400, 400, 64), (step,), "y").to_json(), tensors, "int8", threads)
    x = np.ones((1, 400, 400, 64), np.float32)
    with interrupted():
        engine.run(x)
    with interrupted():
        engine.run(x)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_long_batch_ends_and_the_engine_goes_on(threads):
    step, tensors = convolution(32, 32, 3)
    program = Program("x", (32, 32, 32), (step, Step("mean_pool", ("y",), "z")), "z")
    engine = Engine(program.to_json(), tensors, "int8", threads)
    x = rng.standard_normal((2, 32, 32, 32)).astype(np.float32)
    expected = engine.run(x)
    batch = np.broadcast_to(x[:1], (300, 32, 32, 32)).copy()
    with interrupted():
        while True:
            engine.run(batch)
    np.testing.assert_array_equal(engine.run(x), expected)


def test_waiting_for_a_turn_ends():
    step, tensors = convolution(80, 64, 15)
    engine = Engine(Program("x", (80, 80, 64), (step,), "y").to_json(), tensors, "int8", 1)
    x = np.ones((1, 80, 80, 64), np.float32)
    # Signals reach the main thread only: another one's computation goes on to its end.
    other = threading.Thread(target=engine.run, args=(x,))
    other.start()
    time.sleep(0.05)
    with interrupted(0.1):
        while True:
            engine.run(x)
    other.join()


def test_a_long_text_ends_and_appends_nothing():
    embedding = Step("embedding", ("t",), "x", {"rows": 9, "features": 256, "of": "token"}, {"weight": "e"})
    # Behind the last attention only the last row would go on.
    attentions = (Step("attention", ("x",) * 3, "a", {"heads": 1}), Step("attention", ("a",) * 3, "y", {"heads": 1}))
    program = Program("t", (16384,), (embedding, *attentions), "y", tokens=True)
    tensors = {"e": rng.standard_normal((9, 256)).astype(np.float32)}
    text = rng.integers(0, 9, 16384).astype(np.int32)
    decoder, fresh = (Decoder(program.to_json(), tensors, "int8", 1) for _ in range(2))
    sequence, other = decoder.open(), fresh.open()
    decoder.extend([sequence], [3], text[:3])
    with interrupted():
        decoder.extend([sequence], [len(text) - 3], text[3:])
    assert decoder.length(sequence) == 3
    fresh.extend([other], [3], text[:3])
    np.testing.assert_array_equal(decoder.extend([sequence], [50], text[3:53]), fresh.extend([other], [50], text[3:53]))


def test_classify_says_that_it_was_interrupted(tmp_path, capsys):
    shape = (300, 300, 3)
    steps = [Step("conv2d", ("x",), "y", {
        "in_channels": 3, "out_channels": 64, "kernel_size": [1, 1], "stride": [1, 1], "padding": [0] * 4, "dilation": [1, 1], "groups": 1,
    }, {"weight": "v"})]  # fmt: skip
    step, tensors = convolution(300, 64, 15, "y", "z")
    tensors["v"] = np.ones((64, 1, 1, 3), np.float32)
    program = Program("x", shape, (*steps, step, Step("mean_pool", ("z",), "m")), "m")
    task = ImageTask(tuple(str(i) for i in range(64)), (300, 300)).to_json()
    save_model(PackedModel(program, tensors, task), tmp_path / "slow.onebit")
    Image.new("RGB", (300, 300)).save(tmp_path / "a.png")
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.7)
    try:
        status = main(["classify", str(tmp_path / "slow.onebit"), *[str(tmp_path / "a.png")] * 20])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert status == 130
    assert "onebit: interrupted" in capsys.readouterr().err


def test_a_window_as_large_as_the_image_is_quick():
    window = {"kernel_size": [1001, 1001], "stride": [1, 1], "padding": [500] * 4}
    engine = Engine(
        Program("x", (1000, 1000, 1), (Step("max_pool2d", ("x",), "y", window),), "y").to_json(), {}, "float32", 1
    )
    x = rng.standard_normal((1, 1000, 1000, 1)).astype(np.float32)
    # A window at the middle sees all, one at a corner a quarter and its middle lines.
    found = engine.run(x)[0, :, :, 0]
    assert found.shape == (1000, 1000)
    assert found[500, 500] == x.max()
    assert found[0, 0] == x[0, :501, :501].max()
    assert found[999, 0] == x[0, 499:, :501].max()


def test_a_program_of_many_steps_loads_quickly():
    def step(op, inputs, output):
        return {"op": op, "inputs": inputs, "output": output, "attributes": {}}

    # All of the first half's values are needed until the second half has added them up.
    count = 15000
    steps = [step("relu", ["x"], f"v{i}") for i in range(count)]
    steps += [step("add", [f"s{i - 1}" if i > 1 else "v0", f"v{i}"], f"s{i}") for i in range(1, count)]
    program = json.dumps({"input": {"name": "x", "shape": [1]}, "steps": steps, "output": f"s{count - 1}"})
    begun = time.monotonic()
    engine = Engine(program, {}, "float32", 1)
    assert time.monotonic() - begun < 20
    assert engine.run(np.ones((1, 1), np.float32)) == count


@settings(max_examples=100, deadline=None)
@given(
    op=st.sampled_from(["max_pool2d", "avg_pool2d", "mean_magnitude"]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    channels=st.sampled_from([1, 3, 17]),
    kernel=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    stride=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    padding=st.tuples(*[st.integers(0, 49)] * 4),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    counts=st.booleans(),
    nan=st.booleans(),
)
def test_large_windows_equal_the_reference(op, size, channels, kernel, stride, padding, dilation, counts, nan):
    window = {"kernel_size": list(kernel), "stride": list(stride), "padding": list(padding)}
    if op == "mean_magnitude":
        window["dilation"] = list(dilation)
    elif op == "avg_pool2d":
        window["count_include_pad"] = counts
    program = Program("x", (*size, channels), (Step(op, ("x",), "y", window),), "y")
    try:
        program.shapes({})
    except ValueError:
        return
    x = rng.standard_normal((1, *size, channels)).astype(np.float32)
    if nan:
        x[0, 0, 0, 0] = np.nan
    engine = Engine(program.to_json(), {}, "float32", 1)
    np.testing.assert_allclose(engine.run(x), reference.run(program, {}, x, "float32"), rtol=1e-5, atol=1e-6)
    assert engine.memory_bytes <= engine.most_bytes
