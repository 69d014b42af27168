"""Networks of signs against the engine: their whole numbers, QONNX, Verilog and NIR; and what is no network of signs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import onebit
from onebit import ImageTask
from onebit._engine import Engine
from onebit.errors import OnebitError
from onebit.exports.signs import verilog
from onebit.exports.signs.lower import sign_network
from onebit.exports.signs.network import order_of_channels_first
from onebit.fileformat import save_model
from onebit.models import mlp, vgg
from onebit.nn import BinaryConv2d, BinaryLinear
from onebit.packing import to_packed_model
from onebit.schemes import BinaryNet, ReActNet

FPGA = Path(__file__).parents[3] / "tools" / "fpga"


def task(side):
    return ImageTask(labels=tuple("0123456789"), image_size=(side, side), channels=1)


def unsettled(model):
    """Normalisations of all signs, so that some thresholds fall and some are never met."""
    for layer in model:
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, deviation in ((layer.weight, 1), (layer.bias, 1), (layer.running_mean, 1)):
                nn.init.normal_(tensor, std=deviation)
    return model.eval()


def dense(scheme=None):
    scheme = scheme or BinaryNet()
    layers = [nn.Flatten()]
    for inputs, outputs in ((36, 24), (24, 12), (12, 10)):
        layers += [BinaryLinear(inputs, outputs, scheme=scheme), nn.BatchNorm1d(outputs), nn.Hardtanh()]
    return nn.Sequential(*layers[:-1])


def conv(scheme=None, pool_last=False):
    scheme = scheme or BinaryNet()
    pooled = [nn.MaxPool2d(2), nn.BatchNorm2d(5)]
    return nn.Sequential(
        BinaryConv2d(1, 5, 3, scheme=scheme),
        *(pooled[::-1] if pool_last else pooled),
        BinaryConv2d(5, 4, 2, stride=2, scheme=scheme),
        nn.BatchNorm2d(4),
        nn.Hardtanh(),
        nn.Flatten(),
        BinaryLinear(4 * 2 * 2, 10, scheme=scheme),
        nn.BatchNorm1d(10),
    )


MODELS = {
    "dense": (dense, 6),
    "biases and shifted inputs": (lambda: dense(ReActNet()), 6),
    "pool before the normalisation": (conv, 11),
    "pool after the normalisation": (lambda: conv(pool_last=True), 11),
    "the recipe's": (lambda: mlp(36, 10, (16, 16), BinaryNet(), hybrid=False, pixels="signs").head, 6),
}


@pytest.fixture(params=MODELS, scope="module")
def packed(request):
    torch.manual_seed(4)
    make, side = MODELS[request.param]
    model = make()
    if request.param == "the recipe's":
        model = nn.Sequential(nn.Flatten(), *model)
    return to_packed_model(unsettled(model), task(side))


def pixels(model, count=60):
    return np.random.default_rng(0).integers(0, 256, (count, *model.program.input_shape), np.uint8)


def engine(model, x):
    return Engine(model.program.to_json(), model.tensors, "int8", 1).run(x)


@pytest.mark.parametrize("change", [lambda network: network, order_of_channels_first])
def test_whole_numbers_give_the_engine_s_bits(packed, change):
    network, x = change(sign_network(packed, Path("x"), "qonnx")), pixels(packed)
    found = network.outputs(network.sums(network.signs(x)))
    np.testing.assert_array_equal(found, engine(packed, x))
    assert (found != found[0]).any()
    assert network.products == sum(np.prod(layer.shape[:-1], dtype=int) * layer.weight.size for layer in network.layers)


def test_the_order_of_an_image_s_channels_is_kept():
    """A flatten of the program's own order, which PyTorch's models do not have."""
    from dataclasses import replace

    torch.manual_seed(0)
    packed = to_packed_model(unsettled(conv()), task(11))
    steps = tuple(replace(s, attributes={"order": "hwc"}) if s.op == "flatten" else s for s in packed.program.steps)
    packed = replace(packed, program=replace(packed.program, steps=steps))
    network, x = sign_network(packed, Path("x"), "qonnx"), pixels(packed)
    turned = order_of_channels_first(network)
    assert any(layer.flatten == "hwc" for layer in network.layers)
    for one in (network, turned):
        np.testing.assert_array_equal(one.outputs(one.sums(one.signs(x))), engine(packed, x))


@pytest.mark.parametrize("weights", ["int2", "bipolar"])
def test_qonnx(packed, tmp_path, weights):
    onnx = pytest.importorskip("onnx")
    save_model(packed, tmp_path / "a.onebit")
    has_qonnx = pytest.importorskip("qonnx") is not None
    result = onebit.export(tmp_path / "a.onebit", "qonnx", tmp_path / "a.onnx", weights=weights, check=has_qonnx)
    assert result.passed and result.written.check.values == 320 and "exact in fixed<" in str(result)
    model = onnx.load(tmp_path / "a.onnx")
    kinds = [node.op_type for node in model.graph.node]
    assert (kinds.count("Quant") == 0) == (weights == "bipolar")
    assert {"entry", "finish", "precision"} == {entry.key for entry in model.metadata_props}
    # hls4ml takes no scale below 0, and none but 1 is exact in few bits.
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scales = [constants[node.input[1]] for node in model.graph.node if node.op_type == "BatchNormalization"]
    assert scales and all((scale == 1).all() for scale in scales)


def test_nir(packed, tmp_path):
    nir = pytest.importorskip("nir")
    save_model(packed, tmp_path / "a.onebit")
    result = onebit.export(tmp_path / "a.onebit", "nir", tmp_path / "a.nir", check=True)
    assert result.passed and "one time step" in str(result) and json.dumps(result.to_dict())
    assert sum(isinstance(node, nir.IF) for node in nir.read(tmp_path / "a.nir").nodes.values()) >= 2
    assert not list(tmp_path.glob(".*"))


@pytest.mark.skipif(not shutil.which("iverilog"), reason="needs iverilog")
def test_verilog(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(verilog, "SIMULATORS", ("iverilog",))
    save_model(packed, tmp_path / "a.onebit")
    result = onebit.export(tmp_path / "a.onebit", "verilog", tmp_path / "signs.v", check=True)
    assert result.passed and result.written.latency == len(sign_network(packed, Path("x"), "verilog").layers)
    text = (tmp_path / "signs.v").read_text()
    assert text.count("module signs (") == 1 and "initial" not in text and "readmem" not in text


@pytest.mark.skipif(not (shutil.which("iverilog") and shutil.which("verilator")), reason="needs iverilog and verilator")
def test_two_simulators_agree(tmp_path):
    torch.manual_seed(0)
    layers = [
        nn.Flatten(),
        BinaryLinear(9, 4, scheme=BinaryNet()),
        nn.BatchNorm1d(4),
        BinaryLinear(4, 10, scheme=BinaryNet()),
    ]
    packed = to_packed_model(unsettled(nn.Sequential(*layers)), task(3))
    network = sign_network(packed, Path("x"), "verilog")
    text, signs = "".join(verilog.module(network, "signs")), network.signs(pixels(packed, 20))
    for simulator in verilog.SIMULATORS:
        found = verilog.simulated(network, "signs", text, signs, simulator)
        np.testing.assert_array_equal(found, network.sums(signs))
    # A wrong weight is seen.
    at = text.index("'h", text.index("ones9(w0"))
    wrong = text[: at + 2] + "155" + text[text.index(")", at) :]
    assert not np.array_equal(verilog.simulated(network, "signs", wrong, signs, "iverilog"), network.sums(signs))


@pytest.mark.skipif(not shutil.which("yosys"), reason="needs yosys")
def test_yosys_makes_gates_of_it(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), BinaryLinear(16, 10, scheme=BinaryNet()), nn.BatchNorm1d(10))
    save_model(to_packed_model(unsettled(model), task(4)), tmp_path / "a.onebit")
    onebit.export(tmp_path / "a.onebit", "verilog", tmp_path / "small.v")
    script = "read_verilog small.v; synth_ice40; stat"
    done = subprocess.run(["yosys", "-p", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    cells = int(done.stdout.rpartition("SB_LUT4")[2].split()[0])
    assert 50 < cells < 1000 and "SB_RAM" not in done.stdout.rpartition("Number of cells")[2]


def test_ternary_weights_and_constant_outputs(tmp_path):
    """Weights of two planes, of which some are 0, and a channel whose sign never changes."""
    from onebit.fileformat import PackedModel
    from onebit.program import Program, Step, pack_rows

    rng = np.random.default_rng(0)
    scale, shift = np.ones(9, np.float32), np.linspace(-30, 30, 9, dtype=np.float32)
    half = np.full(1, -0.5, np.float32)
    tensors = {"one": np.ones(1, np.float32), "half": half, "scale": scale, "shift": shift}
    steps = [
        Step("scale_shift", ("x",), "s", {}, {"scale": "one", "shift": "half"}),
        Step("flatten", ("s",), "f", {"order": "hwc"}),
    ]
    value = "f"
    for name, inputs, outputs in (("a", 16, 9), ("b", 9, 2)):
        tensors[name] = pack_rows(rng.integers(0, 2, (2 * outputs, inputs)))
        given = {
            "in_features": inputs,
            "out_features": outputs,
            "values": "pm1",
            "planes": [1, 1],
            "input": {"quantizer": "sign"},
        }
        steps.append(Step("bit_linear", (value,), name, given, {"weight": name}))
        value = name
        if name == "a":
            steps.append(Step("scale_shift", ("a",), "n", {}, {"scale": "scale", "shift": "shift"}))
            value = "n"
    model = PackedModel(
        Program("x", (4, 4, 1), tuple(steps), "b"),
        tensors,
        ImageTask(labels=("a", "b"), image_size=(4, 4), channels=1).to_json(),
    )
    network, x = sign_network(model, Path("x"), "verilog"), pixels(model)
    signs = network.signs(x)
    np.testing.assert_array_equal(network.outputs(network.sums(signs)), engine(model, x))
    assert 0 in network.layers[0].weight and network.layers[0].factor == 2
    if shutil.which("iverilog"):
        text = "".join(verilog.module(network, "v"))
        np.testing.assert_array_equal(verilog.simulated(network, "v", text, signs, "iverilog"), network.sums(signs))
    save_model(model, tmp_path / "a.onebit")
    pytest.importorskip("onnx")
    with pytest.raises(OnebitError, match=r"weights of 0, which are not bipolar: use weights='int2'"):
        onebit.export(tmp_path / "a.onebit", "qonnx", tmp_path / "b", weights="bipolar")


@pytest.mark.parametrize("to", ["qonnx", "verilog", "nir"])
def test_all_that_is_no_sign_is_named(to, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("nir")
    torch.manual_seed(0)
    model = vgg((16, 16), 10, 1, (4,), (8,), scheme=BinaryNet(), hybrid=False)
    save_model(to_packed_model(model.eval(), task(16)), tmp_path / "a.onebit")
    with pytest.raises(OnebitError) as error:
        onebit.export(tmp_path / "a.onebit", to, tmp_path / "b")
    said = str(error.value)
    assert f"has what {to} does not take, and nothing was written: " in said and "\n" not in said
    assert "bit_conv2d: its inputs are not signs" in said
    assert "bit_conv2d (2 steps): padding is not 0, and no sign is 0" in said
    assert [file.name for file in tmp_path.iterdir()] == ["a.onebit"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 10)), "does not take, and nothing was written: linear$"),
        (lambda: nn.Sequential(nn.Flatten(), nn.ReLU()), "the program: has no layer of bits"),
        (
            lambda: nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), BinaryLinear(9, 36, scheme=BinaryNet())),
            "pools before its first",
        ),
        (
            lambda: nn.Sequential(
                nn.Flatten(), BinaryLinear(36, 8, scheme=BinaryNet()), Hump(), BinaryLinear(8, 36, scheme=BinaryNet())
            ),
            "the signs of its numbers neither rise nor fall",
        ),
    ],
)
def test_other_programs_are_refused(model, message):
    torch.manual_seed(0)
    outputs = 36 if "36, " not in message else 10
    made = model().eval()
    with torch.no_grad():
        outputs = made(torch.zeros(1, 1, 6, 6)).shape[1]
    labels = tuple(str(i) for i in range(outputs))
    packed = to_packed_model(made, ImageTask(labels=labels, image_size=(6, 6), channels=1))
    with pytest.raises(OnebitError, match=message):
        sign_network(packed, Path("x"), "qonnx")


class Hump(nn.Module):
    """A function whose sign is not that of its number: GELU has negative results between."""

    def forward(self, x):
        return nn.functional.gelu(x) * 1.0


def test_errors_of_verilog(tmp_path, monkeypatch):
    torch.manual_seed(0)
    save_model(to_packed_model(dense().eval(), task(6)), tmp_path / "a.onebit")
    with pytest.raises(OnebitError, match=r"2nd is no name of a module: use letters, digits and underscores"):
        onebit.export(tmp_path / "a.onebit", "verilog", tmp_path / "2nd.v")
    monkeypatch.setattr(verilog, "MOST_PRODUCTS", 1000)
    with pytest.raises(OnebitError, match=r"has 1,272 products of signs: verilog takes at most 1,000"):
        onebit.export(tmp_path / "a.onebit", "verilog", tmp_path / "b.v")
    monkeypatch.setattr(verilog.shutil, "which", lambda name: None)
    with pytest.raises(OnebitError, match="--check needs a simulator: install iverilog, verilator, or both"):
        onebit.export(tmp_path / "a.onebit", "verilog", tmp_path / "b.v", check=True)
    assert [file.name for file in tmp_path.iterdir()] == ["a.onebit"]


@pytest.mark.parametrize("to", ["qonnx", "nir"])
def test_a_package_that_is_missing_is_named(to, tmp_path, monkeypatch):
    torch.manual_seed(0)
    save_model(to_packed_model(dense().eval(), task(6)), tmp_path / "a.onebit")
    monkeypatch.setitem(sys.modules, {"qonnx": "onnx", "nir": "nir"}[to], None)
    with pytest.raises(OnebitError, match=rf'{to} needs the package \w+: pip install "onebit\[{to}\]"'):
        onebit.export(tmp_path / "a.onebit", to, tmp_path / "b")
