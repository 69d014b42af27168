"""Compare the summary of a model with counts by hand and with the packed file."""

import json
import sys

import pytest
import torch
from torch import nn

import onebit
from onebit import ImageTask
from onebit.cli.main import main
from onebit.errors import OnebitError
from onebit.models import conv_classifier
from onebit.nn import BinaryConv2d, BinaryLinear
from onebit.schemes import BinaryNormalized, BinaryWeightNetwork, BitNet158, DoReFa, ReActNet, XnorNet


def rows(result):
    return {layer.name: layer for layer in result.layers}


def test_counts_by_hand():
    model = nn.Sequential(BinaryConv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4 * 5, 6))
    result = onebit.summary(model, (3, 4, 5))
    conv, dense = result.layers
    assert (conv.kind, conv.parameters, conv.bits) == ("BinaryConv2d", 224, 1)
    assert conv.packed_bytes == 8 * 8 + 8  # 27 bits in a row of 64, and 8 bits of bias in one
    assert (conv.bit_macs, conv.float_macs) == (8 * 4 * 5 * 27, 0)
    assert conv.output_shape == (1, 8, 4, 5)
    assert (dense.bits, dense.float_bytes, dense.packed_bytes) == (32, 4 * 966, 4 * 966)
    assert (dense.bit_macs, dense.float_macs) == (0, 960)
    assert result.total.parameters == 224 + 966
    assert result.other_float_macs == 0


def test_without_an_input_there_are_no_products():
    result = onebit.summary(conv_classifier(3, 5, (4,)))
    assert result.total.bit_macs is None and result.layers[0].output_shape is None
    assert result.total.packed_bytes > 0


@pytest.mark.parametrize(("scheme", "bits"), [(BitNet158(), 2), (DoReFa(weights=3), 3), (XnorNet(), 1)])
def test_a_weight_of_several_bits_counts_them(scheme, bits):
    layer = BinaryLinear(100, 10, bias=False, scheme=scheme)
    (row,) = onebit.summary(layer, (100,)).layers
    assert row.bits == bits
    assert row.bit_macs == bits * 1000
    assert row.packed_bytes == bits * 10 * 16 + 4 * 20  # two words a row, and a scale and a shift of each output


@pytest.mark.parametrize(
    "make",
    [
        lambda: conv_classifier(3, 5, (6, 9)),
        lambda: conv_classifier(3, 5, (6, 9), scheme=BinaryNormalized(normalize="batch")),
        lambda: conv_classifier(3, 5, (6,), binary=False, batch_norm=True),
        lambda: nn.Sequential(
            BinaryConv2d(3, 7, 3, scheme=BinaryWeightNetwork()),
            nn.BatchNorm2d(7),
            BinaryConv2d(7, 5, 1, scheme=BinaryWeightNetwork()),
            nn.Flatten(),
            BinaryLinear(5 * 10 * 8, 5, scheme=BinaryNormalized()),
        ),
    ],
)
def test_packed_bytes_are_those_of_the_file(make, tmp_path):
    model = make()
    task = ImageTask(tuple("abcde"), (12, 10))
    report = onebit.pack(model, tmp_path / "a.onebit", task)
    scaling = 2 * 3 * 4  # of the input: no layer's
    assert onebit.summary(model, (3, 12, 10)).total.packed_bytes == report.parameter_bytes - scaling


def test_a_threshold_folds_into_the_statistics_before_it():
    model = nn.Sequential(nn.BatchNorm1d(6), BinaryLinear(6, 4, bias=False, scheme=ReActNet()))
    first, second = onebit.summary(model, (6,)).layers
    assert first.packed_bytes == 0  # its scale and shift are in the threshold's
    assert second.packed_bytes == 4 * 12 + 4 * 8 + 4 * 8  # and four rows, and a scale and a shift of each output


def test_a_model_that_cannot_be_packed_says_why_and_counts_its_layers_one_by_one():
    model = nn.Sequential(nn.BatchNorm1d(6), BinaryLinear(6, 4, bias=False, scheme=ReActNet()), nn.Bilinear(4, 4, 2))
    model.forward = lambda x: model[2](model[1](model[0](x)), x[:, :4])
    result = onebit.summary(model, (6,))
    first, second, third = (layer.packed_bytes for layer in result.layers)
    assert (first, second, third) == (4 * 12, 4 * 12 + 4 * 8 + 4 * 8, None)
    assert result.total.packed_bytes is None
    assert (
        "[pack] 2: a layer of type Bilinear" in result.not_packed
        and f"cannot be packed: {result.not_packed}" in str(result)
    )


def test_constants_between_layers_are_bytes_of_no_layer():
    result = onebit.summary(nn.Sequential(BinaryLinear(70, 6), nn.LeakyReLU(), nn.Linear(6, 2, bias=False)), (70,))
    assert result.other_packed_bytes == 4 * 6  # its slope for each channel
    assert result.total.packed_bytes == 24 + 6 * 16 + 8 + 4 * 12
    assert "(constants between layers)" in str(result)


@pytest.mark.parametrize(
    "layer",
    [
        BinaryConv2d(3, 8, 3, dilation=2),
        nn.BatchNorm2d(5),
        nn.GroupNorm(2, 6),
        nn.LayerNorm(7),
        nn.PReLU(),
        nn.Embedding(9, 4),
        nn.LSTM(5, 6, batch_first=True),
        onebit.nn.BinaryGRU(5, 6),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_weighs_the_same_with_and_without_an_input(layer):
    size = {
        "BinaryConv2d": (3, 9, 8),
        "BatchNorm2d": (5, 2, 2),
        "GroupNorm": (6, 3, 3),
        "LayerNorm": (7,),
        "PReLU": (1,),
    }
    model, kind = nn.Sequential(layer), type(layer).__name__
    alone = onebit.summary(model).total.packed_bytes
    assert alone > 0
    if kind in size:
        assert onebit.summary(model, size[kind]).total.packed_bytes == alone


def test_a_model_without_values_has_no_packed_bytes():
    result = onebit.summary(nn.Linear(3, 2, device="meta"), (3,))
    assert result.total.packed_bytes is None and "device meta" in result.not_packed


def test_attention_is_counted_beside_the_layers():
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))
    before = onebit.summary(model, (5, 8))
    assert rows(before)["0.self_attn"].float_macs == 4 * 5 * 8 * 8
    onebit.convert(model, keep=())
    after = onebit.summary(model, (5, 8))
    assert before.other_float_macs == after.other_float_macs == 2 * 5 * 5 * 8
    assert after.total.bit_macs == before.total.float_macs - before.other_float_macs
    assert "(products of activations)" in str(after)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(70, 4)
        self.head = nn.Linear(4, 70, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens):
        if tokens.max() > 69:
            raise IndexError("a token too large")
        return self.head(self.table(tokens))


@pytest.mark.parametrize("binary", [True, False])
def test_tokens_shared_weights_and_values_that_matter(binary):
    model = Tied()
    if binary:
        onebit.convert(model, keep=())
    result = onebit.summary(model, (9,), dtype=torch.long)
    table, head = result.layers
    assert (table.parameters, head.parameters) == (280, 0)
    # The thresholds are those of each layer's own outputs: the same latents are other bits in the table than in the head.
    assert head.packed_bytes == (70 * 8 if binary else 0)
    assert table.packed_bytes == (70 * 8 if binary else 4 * 280)
    assert (head.bit_macs, head.float_macs) == ((9 * 280, 0) if binary else (0, 9 * 280))
    with pytest.raises(OnebitError, match=r"Tied does not run on an input of shape \(1, 2\): a token too large"):
        onebit.summary(model, inputs=torch.tensor([[1, 70]]))


def test_the_model_stays_as_it_is():
    model = conv_classifier(3, 5, (4,), scheme=BinaryNormalized(normalize="batch")).train()
    model.features.eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    onebit.summary(model, (3, 8, 8))
    assert model.training and not model.features.training and not model.features[0].training
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
    assert all(not m._forward_hooks for m in model.modules())


def test_a_layer_that_a_model_calls_twice_keeps_its_values():
    layer, tied = nn.Linear(4, 4), nn.Linear(4, 4)
    tied.weight = layer.weight
    model = nn.Sequential(layer, nn.ReLU(), layer, tied)
    before, parameters = layer.weight.clone(), list(model.parameters())
    onebit.summary(model, (4,))
    assert torch.equal(layer.weight, before)
    assert tied.weight is layer.weight
    assert all(p is q for p, q in zip(model.parameters(), parameters, strict=True))


def test_forms_of_the_result(monkeypatch, capsys):
    result = onebit.summary(conv_classifier(3, 5, (4,)), (3, 8, 8))
    read = json.loads(result.to_json())
    assert read["total"]["parameters"] == result.total.parameters == sum(row["parameters"] for row in read["layers"])
    frame = pytest.importorskip("pandas").DataFrame(read["layers"])
    assert result.to_dataframe()["bit_macs"].tolist() == frame["bit_macs"].tolist()
    result.print()
    assert capsys.readouterr().out == f"{result}\n"
    assert "times smaller" in str(result)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(OnebitError, match="needs pandas"):
        result.to_dataframe()


def test_a_terminal_gets_colours_where_rich_is_installed(monkeypatch, capsys):
    rich = pytest.importorskip("rich")
    result = onebit.summary(nn.Linear(3, 4), (3,))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    shown = []
    monkeypatch.setattr(rich, "print", shown.append)
    result.print()
    assert shown == [result] and result.__rich__().row_count == 2
    monkeypatch.setitem(sys.modules, "rich", None)
    result.print()
    assert capsys.readouterr().out == f"{result}\n"


def test_the_command_names_what_is_no_run(tmp_path, capsys):
    assert main(["summary", str(tmp_path)]) == 1
    assert "is not a run folder" in capsys.readouterr().err


@pytest.mark.parametrize("size", [(3, -9, 9), (2.5,), ("3",)])
def test_a_size_that_is_none_is_named(size):
    with pytest.raises(OnebitError, match=r"\[summary\] input_size=.*: use integers from 1 up"):
        onebit.summary(nn.Linear(3, 2), size)
