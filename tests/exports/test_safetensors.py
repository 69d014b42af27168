"""Compare exported weights with PyTorch's layers and with bits by hand, and test every error."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import onebit
from onebit import ImageTask
from onebit.errors import FormatError, OnebitError
from onebit.exports.safetensors import read
from onebit.models import language_decoder, language_lstm, resnet
from onebit.nn import BinaryConv2d, BinaryLinear
from onebit.packing import pack
from onebit.schemes import BinaryNormalized, BitNet158, DoReFa, ReActNet
from onebit.text import TextTask

TASK = ImageTask(labels=("a", "b", "c"), image_size=(6, 5))
LARGER = ImageTask(labels=("a", "b", "c"), image_size=(8, 8))
WORDS = TextTask(vocabulary=("[PAD]", "[UNK]", "[SEP]", "a", "b", "c", "d"), alphabet="words")
SIZES = {"vocabulary": 7, "context": 12, "blocks": 2, "features": 32, "heads": 2}


def conv(scheme=None):
    return torch.nn.Sequential(
        BinaryConv2d(3, 8, 3, padding=1, groups=1, scheme=scheme),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        BinaryLinear(8 * 6 * 5, 3, scheme=scheme),
    )


def made(tmp_path, model, task=TASK):
    torch.manual_seed(0)
    pack(model, tmp_path / "a.onebit", task)
    return tmp_path / "a.onebit", tmp_path / "a.safetensors"


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize(
    ("make", "task"),
    [
        (conv, TASK),
        (lambda: conv(BinaryNormalized("bipolar")), TASK),
        (lambda: conv(BitNet158()), TASK),
        (lambda: conv(DoReFa(weights=8, activations=2)), TASK),
        (lambda: resnet(8, 3, scheme=ReActNet()), LARGER),
        (lambda: language_decoder(SIZES), WORDS),
        (lambda: language_decoder(SIZES, scheme=BitNet158()), WORDS),
        (lambda: language_lstm(7, 12, 16, 24), WORDS),
    ],
)
def test_the_exported_file_computes_what_the_packed_one_does(tmp_path, make, task, dtype):
    file, out = made(tmp_path, make(), task)
    result = onebit.export(file, "safetensors", out, dtype=dtype, check=True)
    assert result.passed and result.written.check.different == 0 and result.written.check.values > 0
    tensors = load_file(out)
    assert result.written.tensors == len(tensors) and result.written.bytes == out.stat().st_size
    assert result.written.values == sum(tensor.size for tensor in tensors.values())
    assert {tensor.dtype.name for tensor in tensors.values()} <= {
        "float32",
        *(["int8", "int16"] if dtype == "int8" else []),
    }
    assert "all equal" in str(result) and json.loads(json.dumps(result.to_dict()))["format"] == "safetensors"


def test_pytorch_computes_with_the_weights(tmp_path):
    model = conv(BinaryNormalized("bipolar", normalize=None)).eval()
    file, out = made(tmp_path, model)
    onebit.export(file, "safetensors", out)
    t = {name: torch.from_numpy(values) for name, values in load_file(out).items()}
    x = torch.randn(2, 3, 6, 5)
    with torch.no_grad():
        y = F.conv2d(x, t["0.weight"].permute(0, 3, 1, 2), t["0.bias"], padding=1).relu()
        y = F.linear(y.flatten(1), t["3.weight"], t["3.bias"])
        assert torch.allclose(y, model(x), atol=1e-4)


def test_the_metadata_says_what_each_tensor_is(tmp_path):
    file, out = made(tmp_path, conv(BitNet158()))
    onebit.export(file, "safetensors", out, dtype="int8")
    with safe_open(str(out), "numpy") as opened:
        metadata = opened.metadata()
        assert set(np.unique(opened.get_tensor("3.weight"))) == {-2, 0, 2}  # two bits of -1 and 1; the scale is half
    about = json.loads(metadata["tensors"])
    assert about["0.weight"]["axes"] == ["out", "kh", "kw", "in/groups"] and about["0.weight"]["op"] == "bit_conv2d"
    assert about["0.weight"]["counts"].startswith("the sum over 2 bits")
    assert json.loads(metadata["task"])["labels"] == ["a", "b", "c"]
    assert metadata["onebit_version"] == onebit.__version__ and metadata["onebit_export"] == "1"
    assert {name for step in json.loads(metadata["program"])["steps"] for name in step["tensors"].values()} == set(
        about
    )


def test_one_file_gives_the_same_bytes_twice(tmp_path):
    file, out = made(tmp_path, conv())
    onebit.export(file, "safetensors", out)
    onebit.export(file, "safetensors", tmp_path / "b.safetensors")
    assert out.read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_shared_table_that_counts_something_else_in_each_layer_is_there_twice(tmp_path):
    from dataclasses import replace

    from onebit.exports.safetensors import write
    from onebit.fileformat import load_model

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), BinaryLinear(90, 90), torch.nn.ReLU(), BinaryLinear(90, 3))
    file, out = made(tmp_path, model)
    packed = load_model(file)
    first = next(step for step in packed.program.steps if step.op == "bit_linear")
    again = replace(first, inputs=(first.output,), output="again", attributes={**first.attributes, "values": "pm1"})
    place = packed.program.steps.index(first)
    after = [
        replace(step, inputs=tuple("again" if name == first.output else name for name in step.inputs))
        for step in packed.program.steps[place + 1 :]
    ]
    assert first.attributes["values"] == "01"
    program = replace(packed.program, steps=(*packed.program.steps[: place + 1], again, *after))
    written = write(replace(packed, program=program), out, check=True)
    assert written.check.passed
    name = first.tensors["weight"]
    tensors = read(out)[1]
    assert set(np.unique(tensors[name])) == {0, 1} and set(np.unique(tensors[f"{name}.again"])) == {-1, 1}


def test_the_check_finds_a_weight_that_differs(tmp_path, monkeypatch):
    from onebit.exports import safetensors

    file, out = made(tmp_path, conv(BinaryNormalized("bipolar", normalize=None)))
    real = safetensors.read

    def damaged(path):
        program, tensors = real(path)
        return program, {name: -values if name == "3.weight" else values for name, values in tensors.items()}

    monkeypatch.setattr(safetensors, "read", damaged)
    result = onebit.export(file, "safetensors", out, check=True)
    assert not result.passed and "DIFFERENT" in str(result)


def test_what_cannot_be_is_named(tmp_path):
    file, out = made(tmp_path, conv())
    for to, options, message in [
        ("coreml", {}, "format 'coreml' is unknown: use safetensors"),
        ("safetensors", {"bits": 3}, "safetensors has no option 'bits': use dtype, check"),
        ("safetensors", {"dtype": "int4"}, "dtype='int4': use 'float32' or 'int8'"),
    ]:
        with pytest.raises(OnebitError, match=r"^\[export\] ") as stopped:
            onebit.export(file, to, out, **options)
        assert message in str(stopped.value) and not out.exists()
    with pytest.raises(OnebitError, match="is a folder: give the name of a file in it"):
        onebit.export(file, "safetensors", tmp_path)
    out.write_text("mine")
    with pytest.raises(OnebitError, match="exists: give another name, or delete it first"):
        onebit.export(file, "safetensors", out)
    assert out.read_text() == "mine"


def test_a_damaged_and_a_foreign_file(tmp_path):
    file, out = made(tmp_path, conv())
    file.write_bytes(file.read_bytes()[:-9])
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "foreign.onebit")
    for path in (file, tmp_path / "foreign.onebit"):
        with pytest.raises(FormatError):
            onebit.export(path, "safetensors", out)
    assert not out.exists()
