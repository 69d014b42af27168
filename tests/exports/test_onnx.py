"""ONNX files against the bounds of random programs, the engine and onnx's own checker; and what is refused."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import onebit
import onebit.exports.onnx
import onebit.runtime.reference
from onebit.cli.main import main
from onebit.errors import OnebitError
from onebit.exports import Agreement
from onebit.program import Program, Step, pack_rows

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onebit.exports.onnx import IR, OPSET  # noqa: E402
from onebit.exports.onnx.check import session  # noqa: E402
from onebit.exports.onnx.steps import WRITERS, graph_of  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / "differential"))
import error_bounds  # noqa: E402
import random_programs  # noqa: E402

DIGITS = Path(__file__).parents[2] / "web" / "digits.onebit"


def run(program, tensors, x, int2=False):
    """The outputs of a program, as onnxruntime computes them from its graph."""
    model = SimpleNamespace(program=program, tensors=tensors, shapes=program.shapes(tensors))
    versions = (25, 13) if int2 else (OPSET, IR)
    opset = [onnx.helper.make_opsetid("", versions[0])]
    file = onnx.helper.make_model(graph_of(model, Path("x"), int2), opset_imports=opset, ir_version=versions[1])
    onnx.checker.check_model(file)
    return session(file.SerializeToString()).run(None, {"input": x})[0], file


@pytest.mark.parametrize("first", range(0, 240, 40))
def test_random_programs_are_within_the_bounds_of_float32(first):
    for seed in range(first, first + 40):
        case = random_programs.make(seed)
        if not case.program.steps or not {step.op for step in case.program.steps} <= set(WRITERS):
            continue
        # Masks, biases and causal attention over arrays are refused by name.
        if any(step.op == "full_attention" and (step.attributes.get("causal") or step.tensors or len(step.inputs) > 3)
               for step in case.program.steps):  # fmt: skip
            continue
        x = case.x[None] if case.program.tokens else case.x
        with np.errstate(all="ignore"):
            expected = error_bounds.run(case.program, case.tensors, x, "float32")[case.program.output]
        if case.program.tokens:
            given = x.astype(np.int64)
        else:
            given = x.astype(np.float32) / np.float32(255 if x.dtype == np.uint8 else 1)
        found, _ = run(case.program, case.tensors, given)
        # A runtime may take other approximations of e^x, and other ways with what is no number.
        size = np.abs(expected.x[np.isfinite(expected.x)]).max(initial=0)
        with np.errstate(all="ignore"):
            near = np.abs(found - expected.x) <= 4 * expected.error + 2e-6 * size
        assert found.shape == expected.x.shape, seed
        assert (near | ~np.isfinite(expected.x) | np.isinf(expected.error)).all(), seed


def test_the_random_programs_have_every_op_that_is_written():
    used = {step.op for seed in range(600) for step in random_programs.make(seed).program.steps}
    tokens_only = {"rotary", "attention", "embedding", "bit_embedding", "int8_embedding"}
    assert set(WRITERS) <= used | tokens_only


def binary(inputs, outputs, **attributes):
    """A program of one layer of bits, its tensors, and the numbers that the bits count."""
    rng = np.random.default_rng(1)
    planes = attributes.get("planes", [1])
    bits = rng.integers(0, 2, (len(planes) * outputs, inputs))
    values = 2 * bits - 1 if attributes.get("values", "pm1") == "pm1" else bits
    numbers = np.tensordot(planes, values.reshape(len(planes), outputs, inputs), 1)
    given = {"in_features": inputs, "out_features": outputs, "values": "pm1", **attributes}
    step = Step("bit_linear", ("x",), "y", given, {"weight": "w"})
    return Program("x", (inputs,), (step,), "y"), {"w": pack_rows(bits)}, numbers


@pytest.mark.parametrize(
    "attributes", [{}, {"values": "01"}, {"planes": [1, 1]}, {"planes": [1, 2, 4], "values": "01"}]
)
def test_weights_are_exact_and_take_a_bit_each(attributes):
    program, tensors, numbers = binary(70, 33, **attributes)
    x = np.random.default_rng(0).integers(-9, 10, (4, 70)).astype(np.float32)
    found, file = run(program, tensors, x)
    np.testing.assert_array_equal(found, x @ numbers.T)
    packed = max(tensor.ByteSize() for tensor in file.graph.initializer)
    assert packed < len(attributes.get("planes", [1])) * 70 * 33 / 8 + 40


@pytest.mark.parametrize("bits", [8, 16])
def test_sums_that_float32_does_not_hold_are_exact(bits):
    program, tensors, _ = binary(3000, 5, input={"quantizer": "absmax", "bits": bits}, planes=[1, 2, 4])
    x = np.random.default_rng(0).normal(size=(2, 3000)).astype(np.float32)
    found, _ = run(program, tensors, x)
    expected = onebit.runtime.reference.run(program, tensors, x, "float32")
    np.testing.assert_array_equal(found, expected)


def test_two_bits_are_fast_and_not_exact():
    program, tensors, numbers = binary(1024, 64)
    x = np.random.default_rng(0).normal(size=(1, 1024)).astype(np.float32)
    found, file = run(program, tensors, x, int2=True)
    assert [tensor.data_type for tensor in file.graph.initializer if tensor.ByteSize() > 1024] == [
        onnx.TensorProto.INT2
    ]
    np.testing.assert_allclose(found, x @ numbers.T, atol=2)
    program, tensors, _ = binary(64, 8, planes=[1, 2])  # -3 to 3 do not fit two bits
    _, file = run(program, tensors, x[:, :64], int2=True)
    assert onnx.TensorProto.INT2 not in [tensor.data_type for tensor in file.graph.initializer]


@pytest.mark.parametrize("file", [DIGITS, "books-10m"])
def test_packed_files_are_checked_and_stay_small(file, tmp_path):
    result = onebit.export(file, "onnx", tmp_path / "a.onnx", check=True)
    written = result.written
    assert result.passed and written.check.relative < 1e-5 and written.check.changed == 0
    assert written.ratio <= 1.1 and written.bytes == (tmp_path / "a.onnx").stat().st_size
    assert "of the packed file" in str(result) and "onnxruntime" in str(result) and json.dumps(result.to_dict())
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert json.loads(model.metadata_props[0].value)["kind"] in ("image-classification", "text-generation")


def test_the_command_says_that_two_bits_are_not_exact(tmp_path, capsys):
    out = tmp_path / "a.onnx"
    assert main(["export", "onnx", str(DIGITS), "--out", str(out), "--weights", "int2", "--check"]) == 0
    printed = capsys.readouterr().out
    assert "outputs are not exact" in printed and "0 of 16 answers differ" in printed


def test_what_differs_fails():
    wrong = Agreement("onnxruntime 1", 2, 0.5, 1e-4, 1, 2)
    assert not wrong.passed and "DIFFERENT: allowed is 1e-04" in str(wrong)
    rounded = Agreement("onnxruntime 1", 16, 0.0, 1e-4, 0, 16, 1)
    assert rounded.passed and "are all equal" in str(rounded) and "1 examples left out" in str(rounded)


def test_all_that_is_lacking_is_named_and_nothing_is_written(tmp_path, monkeypatch):
    from onebit.exports.onnx import steps

    out = tmp_path / "a.onnx"
    for op in ("bit_conv2d", "flatten"):
        monkeypatch.delitem(steps.WRITERS, op)
    with pytest.raises(
        OnebitError, match=r"onnx does not take, and nothing was written: bit_conv2d \(\d+ steps\); flatten$"
    ):
        onebit.export(DIGITS, "onnx", out)
    program, tensors, _ = binary(1 << 16, 1, input={"quantizer": "absmax", "bits": 8}, planes=[1, 31])
    with pytest.raises(OnebitError, match="bit_linear: sums that float32 does not hold"):
        run(program, tensors, None)
    assert not out.exists()


def test_errors(tmp_path, monkeypatch):
    with pytest.raises(OnebitError, match="weights='int4': use 'bits' or 'int2'"):
        onebit.export(DIGITS, "onnx", tmp_path / "a", weights="int4")
    monkeypatch.setattr(onebit.exports.onnx, "MOST_BYTES", 1000)
    with pytest.raises(OnebitError, match=r"bytes as ONNX: a file of ONNX has at most 1,000"):
        onebit.export(DIGITS, "onnx", tmp_path / "a")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(OnebitError, match=r'onnx needs the package onnx: pip install "onebit\[onnx\]"'):
        onebit.export(DIGITS, "onnx", tmp_path / "a")
    assert not list(tmp_path.iterdir())
