"""Sparse dense layers: compare the reference and the engine with a dense product, and refuse masks that do not fit."""

import numpy as np
import pytest

from onebit._engine import Engine
from onebit.errors import FormatError
from onebit.program import Program, Step, pack_rows
from onebit.runtime import reference


def made(outputs, inputs, share, rows=()):
    rng = np.random.default_rng(outputs)
    weight = rng.standard_normal((outputs, inputs)).astype(np.float32)
    weight[rng.random((outputs, inputs)) >= share] = 0
    weight[0, 0] = 1
    bias = rng.standard_normal(outputs).astype(np.float32)
    tensors = {"m": pack_rows(weight != 0), "w": weight[weight != 0], "b": bias}
    attributes = {"in_features": inputs, "out_features": outputs, "kept": len(tensors["w"])}
    step = Step("sparse_linear", ("x",), "y", attributes, {"mask": "m", "weight": "w", "bias": "b"})
    return Program("x", (*rows, inputs), (step,), "y"), tensors, weight, bias


def computed(program, tensors, x, threads=1):
    for precision in ("float32", "int8"):
        yield reference.run(program, tensors, x, precision)
        yield Engine(program.to_json(), tensors, precision, threads).run(x)


@pytest.mark.parametrize(
    ("outputs", "inputs", "share"), [(10, 512, 0.05), (3, 7, 0.5), (300, 130, 0.2), (5, 64, 1.0), (70, 1, 0.3)]
)
@pytest.mark.parametrize("rows", [(), (9,)])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_weights_that_are_stored_are_multiplied(outputs, inputs, share, rows, threads):
    program, tensors, weight, bias = made(outputs, inputs, share, rows)
    x = np.random.default_rng(1).standard_normal((2, *rows, inputs)).astype(np.float32)
    expected = x.astype(np.float64) @ weight.T.astype(np.float64) + bias
    for y in computed(program, tensors, x, threads):
        assert y.shape == expected.shape
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_an_input_without_a_weight_is_not_read():
    program, tensors, weight, _ = made(4, 70, 0.1)
    unread = np.flatnonzero((weight == 0).all(0))
    assert len(unread)
    x = np.zeros((1, 70), np.float32)
    x[0, unread] = np.nan
    for y in computed(program, tensors, x):
        assert np.isfinite(y).all()


@pytest.mark.parametrize("change", [-1, 1])
def test_a_mask_of_other_weights_is_refused(change):
    program, tensors, *_ = made(4, 70, 0.1)
    step = program.steps[0]
    kept = step.attributes["kept"] + change
    attributes = {**step.attributes, "kept": kept}
    wrong = Program("x", (70,), (Step("sparse_linear", ("x",), "y", attributes, step.tensors),), "y")
    tensors["w"] = np.zeros(kept, np.float32)
    words = f"its mask has {kept - change} ones: needs kept={kept}; the file is damaged"
    with pytest.raises(FormatError, match=words):
        wrong.shapes(tensors)
    with pytest.raises(ValueError, match=words):
        Engine(wrong.to_json(), tensors, "int8", 1)
