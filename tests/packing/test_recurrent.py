"""Packed LSTMs and GRUs compute what PyTorch computes, in the reference and in the engine, and what cannot be packed is named."""

import numpy as np
import pytest
import torch
from torch import nn

import onebit
from onebit import ImageTask
from onebit._engine import Engine
from onebit.errors import PackError
from onebit.models import language_lstm, sequence_classifier
from onebit.nn import BinaryGRU, BinaryLSTM
from onebit.packing import pack
from onebit.packing.trace import trace
from onebit.runtime import reference
from onebit.schemes import SCHEMES, BinaryNormalized
from onebit.text import TextTask

TASK = ImageTask(tuple("abcd"), (6, 5), 3, (0.4, 0.5, 0.6), (0.2, 0.3, 0.2))
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 3), np.uint8)
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklm")
TEXT_TASK = TextTask(VOCABULARY, alphabet="words")
TOKENS = np.random.default_rng(0).integers(0, len(VOCABULARY), 12)
# Of the largest logit: sums are added in another order.
CLOSE = 1e-4


def scatter(model):
    """A value of its own for every parameter."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def images():
    x = (PIXELS.astype(np.float32) / 255 - np.array(TASK.mean)) / np.array(TASK.std)
    return torch.tensor(x.astype(np.float32)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("scheme", [None, *(scheme().of_sequences for scheme in SCHEMES.values())])
def test_a_classifier_of_rows_is_the_same_everywhere(tmp_path, cell, scheme):
    model = scatter(sequence_classifier(15, 4, 9, 2, cell, image=True, scheme=scheme))
    with torch.no_grad():
        expected = model(images()).numpy()
    pack(model, tmp_path / "a.onebit", TASK)
    packed = onebit.fileformat.load_model(tmp_path / "a.onebit")
    assert [step.op for step in packed.program.steps if step.op in ("rows", "last")] == ["rows", "last"]
    in_numpy = reference.run(packed.program, packed.tensors, PIXELS, "float32")
    np.testing.assert_allclose(in_numpy, expected, rtol=0, atol=CLOSE * np.abs(expected).max())
    in_engine = onebit.load(tmp_path / "a.onebit", "float32")(PIXELS)
    np.testing.assert_allclose(in_engine, expected, rtol=0, atol=CLOSE * np.abs(expected).max())


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("binary_hidden", [False, True])
@pytest.mark.parametrize("scheme", [None, BinaryNormalized(), BinaryNormalized("pm1"), SCHEMES["BinaryNet"]()])
def test_a_language_model_is_the_same_in_one_pass_and_token_by_token(tmp_path, cell, binary_hidden, scheme):
    model = language_lstm(
        len(VOCABULARY), 12, 7, 10, 2, (8,), cell, scheme=scheme, binary_hidden=binary_hidden, logit_scale=3.0
    )
    with torch.no_grad():
        expected = scatter(model)(torch.from_numpy(TOKENS[None])).numpy()[0]
    pack(model, tmp_path / "a.onebit", TEXT_TASK)
    session = onebit.load(tmp_path / "a.onebit", "float32")
    for one_by_one in (False, True):
        made = session.logits(TOKENS, one_by_one)
        np.testing.assert_allclose(made, expected, rtol=0, atol=CLOSE * np.abs(expected).max())


def test_int8_stays_near_float32(tmp_path):
    model = scatter(language_lstm(len(VOCABULARY), 12, 32, 64, scheme=BinaryNormalized()))
    pack(model, tmp_path / "a.onebit", TEXT_TASK)
    fine, coarse = (onebit.load(tmp_path / "a.onebit", p).logits(TOKENS) for p in ("float32", "int8"))
    assert 0 < np.abs(fine - coarse).max() < 0.15  # of logits with unit deviation


def test_every_parameter_of_the_paper_is_one_bit(tmp_path):
    model = language_lstm(len(VOCABULARY), 12, 16, 24, 2, (20,), scheme=BinaryNormalized())
    report = pack(model, tmp_path / "a.onebit", TEXT_TASK)
    assert report.bit_parameters == report.parameters
    # Of the recurrences a file has a scale and a shift for each sum, here ones and zeros.
    assert {t.name.rsplit(".", 1)[1] for t in report.kept_float} == {"scale", "shift"}
    assert "scales and shifts of the recurrent sums" in str(report)


@pytest.mark.parametrize("scheme", [BinaryNormalized(), SCHEMES["BitNet158"](), SCHEMES["XnorNet"]()])
def test_a_summary_knows_the_bytes_of_a_recurrence(tmp_path, scheme):
    model = scatter(sequence_classifier(15, 4, 9, image=True, scheme=scheme))
    pack(model, tmp_path / "a.onebit", TASK)
    tensors = onebit.fileformat.load_model(tmp_path / "a.onebit").tensors
    rows = {row.name: row for row in onebit.summary(model, (3, 6, 5)).layers}
    own = ("weight", "scale", "shift")
    assert rows["recurrent.layers.0"].packed_bytes == sum(tensors[f"recurrent.layers.0.{part}"].nbytes for part in own)
    assert rows["recurrent.layers.0"].bit_macs == len(scheme.weights.planes) * 6 * 4 * 9 * 9


class Wrapped(nn.Module):
    """A recurrent layer and what is done with its output."""

    def __init__(self, layer, use):
        super().__init__()
        self.layer, self.use = layer, use

    def forward(self, x):
        return self.use(self.layer(x))


def steps_of(layer, use=lambda pair: pair[0], tokens=False):
    with torch.no_grad():
        return trace(Wrapped(layer, use).eval(), (6, 5), tokens=tokens).program.steps


def test_a_sequence_of_features_is_packed_without_an_image():
    assert [step.op for step in steps_of(nn.LSTM(5, 4, batch_first=True))] == ["linear", "lstm"]
    assert [step.op for step in steps_of(BinaryGRU(5, 4), lambda pair: pair[0][:, -1])][-2:] == ["bit_gru", "last"]


def test_a_lstm_without_biases_has_none_in_the_program():
    torch.manual_seed(0)
    layer = nn.GRU(5, 4, bias=False, batch_first=True)
    x = np.random.default_rng(0).standard_normal((2, 6, 5)).astype(np.float32)
    with torch.no_grad():
        made = trace(Wrapped(layer, lambda pair: pair[0]).eval(), (6, 5))
        expected = layer(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(reference.run(made.program, made.tensors, x, "float32"), expected, rtol=1e-4, atol=1e-6)


BOTH = {"num_layers": 2, "batch_first": True, "bidirectional": True}


@pytest.mark.parametrize(
    "layer",
    [
        nn.LSTM(5, 4, **BOTH),
        nn.GRU(5, 4, bias=False, **BOTH),
        BinaryLSTM(5, 4, **BOTH),
        BinaryGRU(5, 4, **BOTH, scheme=SCHEMES["BitNet158"]()),
    ],
    ids=["lstm", "gru", "binary_lstm", "binary_gru"],
)
def test_layers_in_both_directions_give_what_pytorch_gives(layer):
    layer = scatter(layer)
    x = np.random.default_rng(0).standard_normal((3, 6, 5)).astype(np.float32)
    with torch.no_grad():
        made = trace(Wrapped(layer, lambda pair: pair[0]).eval(), (6, 5))
        expected = layer(torch.from_numpy(x))[0].numpy()
    assert [step.op for step in made.program.steps].count("concatenate") == 2
    assert sum(step.attributes.get("reverse", False) for step in made.program.steps) == 2
    np.testing.assert_allclose(reference.run(made.program, made.tensors, x, "float32"), expected, rtol=1e-4, atol=1e-5)
    in_engine = Engine(made.program.to_json(), made.tensors, "float32", 1).run(x)
    np.testing.assert_allclose(in_engine, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "use", "message"),
    [
        (nn.LSTM(5, 4), None, "LSTM with batch_first=False cannot be packed"),
        (nn.LSTM(5, 4, proj_size=2, batch_first=True), None, "proj_size cannot be packed"),
        (BinaryGRU(5, 4), lambda pair: pair[1], "takes the state of layer, which a program does not give"),
        (BinaryGRU(5, 4), lambda pair: pair, "takes the output and the state of layer together"),
        (
            BinaryGRU(5, 4),
            lambda pair: pair[0][:, ::2],
            "the index .* cannot be packed: use numbers and slices of step 1",
        ),
    ],
)
def test_what_cannot_be_packed_is_named(layer, use, message):
    with pytest.raises(PackError, match=message):
        steps_of(layer, use or (lambda pair: pair[0]))


def test_a_layer_in_both_directions_is_refused_over_tokens():
    model = nn.Sequential(nn.Embedding(18, 5))
    model.add_module("1", Wrapped(BinaryLSTM(5, 18, bidirectional=True), lambda pair: pair[0]))
    model.context = 6
    with pytest.raises(PackError, match="use one direction"):
        onebit.packing.to_packed_model(model, TEXT_TASK)
