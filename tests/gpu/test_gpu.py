"""The GPU's kernels and networks compute what the reference does: here in Triton's interpreter, and on a GPU where there is one."""

# ruff: noqa: E402 - Triton reads its settings when it is imported

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("needs Triton: make gpu-test", allow_module_level=True)

import torch

HAS_GPU = torch.cuda.is_available()
if not HAS_GPU:
    os.environ["TRITON_INTERPRET"] = "1"
DEVICE = "cuda" if HAS_GPU else "cpu"

import json
from pathlib import Path

import onebit
from onebit.errors import OnebitError
from onebit.fileformat import PackedModel, load_model, save_model
from onebit.gpu.engine import GpuDecoder, GpuEngine
from onebit.gpu.network import Network, Place
from onebit.gpu.products import BitMatrix, in_kernel_order, product, quantize
from onebit.models import language_decoder
from onebit.ops.bit_rows import pack_rows, unpack_rows
from onebit.ops.linear import BitLinear
from onebit.packing import to_packed_model
from onebit.program import Program
from onebit.runtime import reference
from onebit.text import Tokenizer, train_vocabulary

CONFORMANCE = Path(__file__).parents[1] / "conformance"
# Of float ops: other orders of additions, other exponentials.
CLOSE = {"rtol": 2e-5, "atol": 2e-6}
DTYPES = {"U8": np.uint8, "I8": np.int8, "F16": np.float16, "F32": np.float32}
KINDS = [
    {},
    {"planes": [1, 1]},
    {"planes": [1, 2, 4], "input": {"quantizer": "unit", "bits": 4}},
    {"input": {"quantizer": "sign"}},
    {"input": {"quantizer": "absmax", "bits": 8}},
]


def bits(rng, rows, columns):
    return pack_rows(rng.integers(0, 2, (rows, columns)))


@pytest.mark.parametrize("values", ["01", "pm1"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 100, 17), (3, 64, 5), (20, 130, 70)])
def test_products_are_the_references_bit_for_bit(values, kind, rows, inputs, outputs):
    rng = np.random.default_rng(rows)
    attributes = {"in_features": inputs, "out_features": outputs, "values": values, **kind}
    planes = len(kind.get("planes", [1]))
    tensors = {"weight": bits(rng, planes * outputs, inputs), "bias": bits(rng, 1, outputs)}
    bias = torch.from_numpy(unpack_rows(tensors["bias"], outputs)[0].astype(np.float32)).to(DEVICE)
    bias = 2 * bias - 1 if values == "pm1" else bias
    weight = BitMatrix.of(tensors["weight"], inputs, attributes, torch.device(DEVICE))
    x = rng.normal(size=(rows, inputs)).astype(np.float32)
    if rows > 1:
        x[1] = np.abs(x[1])  # levels of 0 to 255
    if rows > 2:
        x[2] = 0
    if rows > 4:
        x[3, 5], x[4, 6] = np.nan, np.inf
    with np.errstate(all="ignore"):
        wanted = BitLinear().run(attributes, tensors, "int8", x)
    found = product(weight, quantize(torch.from_numpy(x).to(DEVICE), kind.get("input")), bias)
    assert np.array_equal(found.cpu().numpy(), wanted, equal_nan=True)


def test_dense_weights_and_the_order_of_levels():
    rng = np.random.default_rng(1)
    attributes = {"in_features": 70, "out_features": 9, "values": "pm1", "planes": [1, 2]}
    packed = bits(rng, 18, 70)
    dense = BitMatrix.of(packed, 70, attributes, torch.device(DEVICE)).dense().cpu().numpy()
    signs = 2.0 * unpack_rows(packed, 70) - 1
    assert np.array_equal(dense, signs[:9] + 2 * signs[9:])
    levels = torch.arange(70, dtype=torch.int8)[None]
    ordered = in_kernel_order(levels)[0]
    assert [int(ordered[4 * lane + b]) for lane in range(8) for b in range(4)] == [
        8 * b + lane for lane in range(8) for b in range(4)
    ]


def programs():
    found = []
    for path in sorted(CONFORMANCE.glob("op_*.json")):
        base = json.loads(path.read_text())["base"]
        found.append(pytest.param(base, id=path.stem))
    return found


@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("base", programs())
def test_each_op_is_the_references(base, precision):
    rng = np.random.default_rng(3)
    tensors = {}
    for name, t in base["tensors"].items():
        kind = DTYPES[t["dtype"]]
        tensors[name] = (
            rng.normal(size=t["shape"]).astype(kind)
            if kind is np.float32
            else np.full(t["shape"], t.get("fill", 0), kind)
        )  # bits beyond a row would be refused
    program = Program.from_json(json.dumps(base["program"]))
    shapes = program.shapes(tensors)
    try:
        network = Network(program, tensors, shapes, precision, torch.device(DEVICE))
    except OnebitError as error:
        pytest.skip(str(error))
    if program.tokens:
        x = np.arange(program.input_shape[0]) % 2
        place = Place(torch.arange(len(x), device=DEVICE), network.caches(), None)
        found = network.run(torch.from_numpy(x)[None].to(DEVICE), place)
        x = x[None]
    else:
        x = rng.normal(size=(2, *program.input_shape)).astype(np.float32)
        found = network.run(torch.from_numpy(x).to(DEVICE))
    assert np.allclose(found.cpu().numpy(), reference.run(program, tensors, x, precision), **CLOSE)


def conv(tensors, **attributes):
    given = {
        "in_channels": 6, "out_channels": 4, "kernel_size": [3, 2], "stride": [2, 1], "padding": [1, 0, 1, 1],
        "dilation": [1, 1], "groups": 1, "values": "pm1", **attributes,
    }  # fmt: skip
    step = {"op": "bit_conv2d", "inputs": ["x"], "output": "y", "attributes": given, "tensors": tensors}
    return Program.from_json(json.dumps({"input": {"name": "x", "shape": [7, 5, 6]}, "steps": [step], "output": "y"}))


@pytest.mark.parametrize(
    "kind", [*KINDS, {"groups": 2}, {"groups": 2, "values": "01"}, {"dilation": [2, 1]}, {"values": "01"}], ids=str
)
def test_convolutions_are_the_references_bit_for_bit(kind):
    rng = np.random.default_rng(4)
    row, rows = 6 * 6 // kind.get("groups", 1), 4 * len(kind.get("planes", [1]))
    tensors = {"w": bits(rng, rows, row), "b": bits(rng, 1, 4)}
    program = conv({"weight": "w", "bias": "b"}, **kind)
    x = rng.normal(size=(3, 7, 5, 6)).astype(np.float32)
    x[1] = np.abs(x[1])
    network = Network(program, tensors, program.shapes(tensors), "int8", torch.device(DEVICE))
    found = network.run(torch.from_numpy(x).to(DEVICE)).cpu().numpy()
    assert np.array_equal(found, reference.run(program, tensors, x, "int8"))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    task = train_vocabulary(["the cat sat on the mat, and the dog sat on the cat.\n" * 50], 270)
    torch.manual_seed(0)
    sizes = {"vocabulary": Tokenizer(task).size, "context": 24, "blocks": 1, "features": 16, "heads": 2}
    model = language_decoder({**sizes, "head": (16,)}, positions="rotary").eval()
    path = tmp_path_factory.mktemp("gpu") / "cat.onebit"
    packed = to_packed_model(model, task)
    save_model(packed, path)
    return path


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_a_decoder_is_the_engines_token_by_token_and_at_once(decoder, precision):
    model = load_model(decoder)
    wanted = onebit.load(decoder, precision=precision, threads=1).logits([2, 5, 9, 30, 31, 40])
    tokens = np.array([2, 5, 9, 30, 31, 40], np.int32)
    gpu = GpuDecoder(model, precision, DEVICE)
    whole, parts = gpu.open(), gpu.open()
    at_once = gpu.extend([whole], [6], tokens, all=True)
    pieces = [gpu.extend([parts], [n], tokens[i : i + n], all=True) for i, n in ((0, 3), (3, 1), (4, 1), (5, 1))]
    for found in (at_once, np.concatenate(pieces)):
        assert np.allclose(found, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())
    assert gpu.length(whole) == 6 and gpu.isa
    gpu.cut(whole, 4)
    again = gpu.extend([whole, parts], [2, 1], np.concatenate((tokens[4:], tokens[:1])))
    assert np.allclose(again[0], wanted[-1], rtol=1e-3, atol=1e-3 * np.abs(wanted).max())
    copied = gpu.restore(4, np.frombuffer(gpu.save(gpu.fork(whole, 4)), np.uint8))
    assert np.array_equal(gpu.extend([copied], [2], tokens[4:]), again[:1])
    with pytest.raises(ValueError, match="do not fit"):
        gpu.extend([copied], [30], np.zeros(30, np.int32))
    with pytest.raises(ValueError, match="do not hold"):
        gpu.restore(3, np.zeros(5, np.uint8))


def test_a_session_generates_what_the_engine_does(decoder):
    texts = [
        "".join(onebit.load(decoder, precision="float32", device=device).generate("the", 8, temperature=0))
        for device in ("cpu", DEVICE)
    ]
    if not HAS_GPU:  # "cpu" is the engine
        model = load_model(decoder)
        session = onebit.load(decoder, precision="float32", threads=1)
        session._engine = GpuDecoder(model, "float32", "cpu")
        texts[1] = "".join(session.generate("the", 8, temperature=0))
    assert texts[0] == texts[1]


def test_an_image_network_takes_pixels():
    rng = np.random.default_rng(5)
    tensors = {"w": bits(rng, 4, 36), "b": bits(rng, 1, 4)}
    model = PackedModel(conv({"weight": "w", "bias": "b"}), tensors, {"kind": "other"})
    batch = rng.integers(0, 256, (2, 7, 5, 6), np.uint8)
    engine = GpuEngine(model, "int8", DEVICE)
    assert np.array_equal(engine.run(batch), reference.run(model.program, tensors, batch, "int8"))
    # As in the GPU's memory: 4 rows of 8 bytes, and a bias of floats.
    assert engine.memory_bytes == 4 * 8 + 4 * 4 and engine.plan() == []


def test_what_a_gpu_does_not_run_is_named():
    step = {
        "op": "gru", "inputs": ["x"], "output": "y", "attributes": {"hidden": 2},
        "tensors": {"weight": "w", "shift": "s"},
    }  # fmt: skip
    program = Program.from_json(json.dumps({"input": {"name": "x", "shape": [3, 6]}, "steps": [step], "output": "y"}))
    tensors = {"w": np.zeros((6, 2), np.float32), "s": np.zeros(6, np.float32)}
    with pytest.raises(OnebitError, match=r"\[load\] gru: a GPU does not run this"):
        Network(program, tensors, program.shapes(tensors), "int8", torch.device(DEVICE))


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cuda:99", 3])
def test_a_device_that_is_not_there_is_one_line(decoder, device):
    with pytest.raises(OnebitError, match=r"^\[load\] device=") as caught:
        onebit.load(decoder, device=device)
    assert "\n" not in str(caught.value)


def test_an_int8_cache_is_refused(decoder):
    script = f"import onebit; onebit.load({str(decoder)!r}, device='cuda', cache='int8')"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "cache='int8'" in ran.stderr or "PyTorch sees no GPU" in ran.stderr
