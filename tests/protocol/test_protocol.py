"""The protocol on a small network and its twin, its JSON, its products, and every error."""

import importlib.util
import json

import pytest
import torch
from torch import nn

from onebit import ImageTask
from onebit.cli.main import main
from onebit.errors import OnebitError
from onebit.fileformat import load_model
from onebit.models import mlp, vgg
from onebit.packing import pack, to_packed_model
from onebit.protocol import protocol
from onebit.protocol.model import TABLE, Products, modelled_joules, products_of
from onebit.protocol.report import SCHEMA
from onebit.schemes import BinaryNet

TASK = ImageTask(labels=tuple("0123456789"), image_size=(8, 8), channels=1)
HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A network of signs and its float twin."""
    folder = tmp_path_factory.mktemp("protocol")
    torch.manual_seed(0)
    for name, scheme in (("bits", BinaryNet()), ("floats", None)):
        model = mlp(64, 10, (16,), scheme, hybrid=scheme is None, pixels="signs")
        pack(model.eval(), folder / f"{name}.onebit", TASK)
    return folder / "bits.onebit", folder / "floats.onebit"


def fits(value, schema):
    """Whether a value fits the part of JSON Schema that the schema uses."""
    if "const" in schema:
        return value == schema["const"]
    kinds = {"object": dict, "array": list, "string": str, "number": (int, float), "integer": int, "null": type(None)}
    names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(isinstance(value, kinds[name]) for name in names):
        return False
    if isinstance(value, dict):
        known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        if set(schema.get("required", ())) - set(value) or (more is False and set(value) - set(known)):
            return False
        return all(
            fits(part, known.get(name, more)) for name, part in value.items() if name in known or more is not True
        )
    return not isinstance(value, list) or all(fits(part, schema["items"]) for part in value)


def test_contenders_see_the_same_images(files, capsys):
    bits, floats = files
    report = protocol(bits, "digits", twin=floats, seconds=0.05, runs=30)
    names = [one.name for one in report.contenders]
    assert names[:2] == ["onebit int8", "onebit float32"] and "onebit float32 (float twin)" in names
    by_name = {one.name: one for one in report.contenders}
    packed = load_model(bits)
    for one in report.contenders:
        assert (
            one.images == report.contenders[0].images == 1797
            and one.runs >= 30
            and one.p50_ms <= one.p90_ms <= one.p99_ms
        )
        assert one.peak_bytes > 10_000_000 and one.file_bytes > 0
    assert by_name["onebit int8"].accuracy == by_name["onebit float32"].accuracy
    assert by_name["onebit int8"].sign_products == 64 * 16 + 16 * 10 == products_of(packed).total
    if HAS_ONNX:
        assert by_name["onnxruntime float32"].accuracy == by_name["onebit int8"].accuracy
        twin = by_name["onnxruntime float32 (float twin)"]
        assert twin.accuracy == by_name["onebit float32 (float twin)"].accuracy
        assert by_name["onnxruntime int8 (float twin)"].file_bytes < twin.file_bytes
        assert by_name["onnxruntime int8 (float twin)"].modelled_joules < twin.modelled_joules
    assert by_name["onebit int8"].modelled_joules < by_name["onebit float32 (float twin)"].modelled_joules
    values = json.loads(json.dumps(report.to_dict()))
    assert fits(values, SCHEMA)
    values["contenders"][0]["energy"]["joules"] = "none"
    assert not fits(values, SCHEMA)
    shown = str(report)
    assert "by a model, not measured" in shown and "MLPerf" not in shown
    if report.contenders[0].energy.joules is None:
        assert "energy was not measured: " in shown


def test_the_command(files, capsys):
    words = ["bench", str(files[0]), "--protocol", "--data", "digits", "--seconds", "0.01", "--json"]
    assert main(words) == 0
    assert fits(json.loads(capsys.readouterr().out), SCHEMA)


def test_products_are_counted_by_kind():
    torch.manual_seed(0)
    model = to_packed_model(vgg((8, 8), 10, 1, (4,), (8,), BinaryNet(), hybrid=True).eval(), TASK)
    products = products_of(model)
    first, second = 64 * 9 * 4, 64 * 9 * 4 * 4
    assert products.float == first + 8 * 10 and products.sign == second + 4 * 4 * 4 * 8 and products.bit == 0
    assert products.weights == 9 * 4 + 9 * 16 + 64 * 8 + 80


def test_the_model_of_energy_is_its_table():
    products = Products(sign=1000, bit=100, float=10, weights=500)
    expected = 1000 * 0.00375 + 100 * 0.1 + 10 * 4.6 + 70 * 162.5
    assert modelled_joules(products, 70, "onebit int8") == pytest.approx(expected * 1e-12)
    expected = 1110 * 4.6 + 2000 * 162.5
    assert modelled_joules(products, 70, "onnxruntime float32") == pytest.approx(expected * 1e-12)
    assert all(meaning for _, meaning in TABLE.values())


def test_errors(files, tmp_path, capsys):
    bits, _ = files
    with pytest.raises(OnebitError, match="the protocol takes classifiers of images"):
        protocol("books-10m", "digits")
    pack(nn.Sequential(nn.Flatten(), nn.Linear(36, 10)), tmp_path / "a.onebit", ImageTask(TASK.labels, (6, 6), 1))
    with pytest.raises(OnebitError, match="has another task than"):
        protocol(bits, "digits", twin=tmp_path / "a.onebit")
    assert main(["bench", str(bits), "--protocol"]) == 1
    assert "--protocol needs --data, the images to measure" in capsys.readouterr().err
