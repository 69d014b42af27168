"""Scales of groups: the numbers of formats that people have, and a file that keeps them."""

import numpy as np
import pytest

from onebit._engine import Engine
from onebit.fileformat import PackedModel, load_model, save_model
from onebit.ops import OPS
from onebit.program import Program, Step, pack_rows
from onebit.runtime import reference

rng = np.random.default_rng(0)
OUT, IN = 70, 256


def layer(op, attributes, **tensors):
    sizes = {"in_features": IN, "out_features": OUT}
    step = Step(op, ("x",), "y", sizes | attributes, {role: role for role in tensors})
    return Program("x", (IN,), (step,), "y"), tensors


def scales(group):
    return rng.uniform(-0.1, 0.1, (OUT, IN // group)).astype(np.float16)


def spread(scale):
    """A scale for each weight, float64."""
    return scale.astype(np.float64).repeat(IN // scale.shape[1], 1)


def layers():
    """Layers with the weights that they stand for."""
    signs, scale = rng.integers(0, 2, (OUT, IN)), scales(128)
    yield (
        layer("bit_linear", {"values": "pm1", "group": 128}, weight=pack_rows(signs), scale=scale),
        (2 * signs - 1) * spread(scale),
    )
    codes, scale = rng.integers(0, 4, (OUT, IN)), scales(64)
    planes = np.concatenate([codes & 1, codes >> 1])
    attributes = {"values": "01", "planes": [1, 2], "zero": 1, "group": 64}
    yield layer("bit_linear", attributes, weight=pack_rows(planes), scale=scale), (codes - 1) * spread(scale)
    bytes_, scale = rng.integers(-128, 128, (OUT, IN)).astype(np.int8), scales(32)
    yield layer("int8_linear", {"group": 32}, weight=bytes_, scale=scale), bytes_ * spread(scale)
    scale = scales(IN)
    yield layer("int8_linear", {}, weight=bytes_, scale=scale), bytes_ * spread(scale)


@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("precision, tolerance", [("float32", 1e-6), ("int8", 0.02)])
def test_layers_multiply_by_the_weights_that_they_stand_for(precision, tolerance, rows):
    for (program, tensors), weight in layers():
        program = Program("x", (rows, IN), program.steps, "y")
        x = rng.standard_normal((1, rows, IN)).astype(np.float32)
        expected = x @ weight.T
        for y in (
            reference.run(program, tensors, x, precision),
            Engine(program.to_json(), tensors, precision, 2, "").run(x),
        ):
            assert np.abs(y - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.parametrize("op, group", [("int8_embedding", None), ("int8_embedding", 32), ("bit_embedding", 64)])
def test_an_embedding_is_exact(op, group):
    rows, features = 5, 128
    attributes = {"rows": rows, "features": features, "of": "token"} | ({"group": group} if group else {})
    scale = rng.uniform(-0.1, 0.1, (rows, features // (group or features))).astype(np.float16)
    if op == "int8_embedding":
        levels = weight = rng.integers(-128, 128, (rows, features)).astype(np.int8)
    else:
        levels = rng.integers(0, 4, (rows, features))
        weight = pack_rows(np.concatenate([levels & 1, levels >> 1]))
        levels, attributes = levels - 1, attributes | {"values": "01", "planes": [1, 2], "zero": 1}
    table = OPS[op].table(attributes, {"weight": weight, "scale": scale})
    assert np.array_equal(table, levels * scale.astype(np.float64).repeat(features // scale.shape[1], 1))


def test_a_file_keeps_scales_and_bytes_and_tied_tables(tmp_path):
    table = {
        "table": rng.integers(-128, 128, (9, 64)).astype(np.int8),
        "scale": rng.uniform(0, 1, (9, 2)).astype(np.float16),
    }
    names = {"weight": "table", "scale": "scale"}
    steps = (
        Step("int8_embedding", ("t",), "e", {"rows": 9, "features": 64, "of": "token", "group": 32}, names),
        Step("int8_linear", ("e",), "y", {"in_features": 64, "out_features": 9, "group": 32}, names),
    )
    model = PackedModel(Program("t", (4,), steps, "y", tokens=True), table, {"kind": "other"})
    save_model(model, tmp_path / "m.onebit")
    again = load_model(tmp_path / "m.onebit")
    assert again.program == model.program
    assert {name: tensor.dtype for name, tensor in again.tensors.items()} == {"table": np.int8, "scale": np.float16}
    assert all(np.array_equal(again.tensors[name], table[name]) for name in table)
