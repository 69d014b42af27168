"""The recurrent networks: shapes, causality, what is binary in them, and wrong options."""

import pytest
import torch
from torch import nn

from onebit.models import language_lstm, sequence_classifier
from onebit.nn import BinaryEmbedding, BinaryGRU, BinaryLinear, BinaryLSTM, BinaryRecurrence
from onebit.schemes import SCHEMES, BinaryNet, BinaryNormalized


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("name", [None, *SCHEMES])
def test_both_networks_run_and_learn_in_every_scheme(cell, name):
    scheme = None if name is None else SCHEMES[name]().of_sequences
    classifier = sequence_classifier(6, 3, 8, 2, cell, scheme=scheme)
    assert classifier(torch.randn(2, 5, 6)).shape == (2, 3)
    model = language_lstm(30, 9, 8, 12, cell=cell, scheme=scheme)
    logits = model(torch.randint(0, 30, (2, 9)))
    assert logits.shape == (2, 9, 30)
    logits.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_the_lines_of_an_image_are_the_steps():
    torch.manual_seed(0)
    whole = sequence_classifier(3 * 5, 4, 8, image=True, scheme=BinaryNormalized()).eval()
    rows = sequence_classifier(3 * 5, 4, 8, scheme=BinaryNormalized()).eval()
    rows.load_state_dict(whole.state_dict())
    image = torch.randn(2, 3, 7, 5)
    lines = torch.stack([torch.stack([image[:, :, y, x] for x in range(5)], 1).flatten(1) for y in range(7)], 1)
    torch.testing.assert_close(whole(image), rows(lines))


@pytest.mark.parametrize("scheme", [None, BinaryNormalized()])
def test_the_future_never_reaches_the_past(scheme):
    model = language_lstm(40, 12, 16, 16, 2, (20,), scheme=scheme, logit_scale=3.0)
    tokens = torch.randint(0, 40, (2, 12))
    changed = tokens.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % 40
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :7], after[:, :7], rtol=0, atol=1e-6)
    assert not torch.allclose(before[:, 7:], after[:, 7:])


def test_every_parameter_is_of_a_binary_layer_unless_the_ends_are_to_stay_float():
    binary = (BinaryLinear, BinaryEmbedding, BinaryRecurrence)
    model = language_lstm(40, 12, 16, 16, 2, (20,), scheme=BinaryNormalized())
    held = {p for m in model.modules() if isinstance(m, binary) for p in m.parameters()}
    assert set(model.parameters()) == held
    hybrid = language_lstm(40, 12, 16, 16, 2, (20,), scheme=BinaryNet(), hybrid=True)
    assert type(hybrid.embedding) is nn.Embedding
    assert [type(m) for m in hybrid.head] == [BinaryLinear, nn.Hardtanh, nn.Linear]
    assert type(sequence_classifier(6, scheme=BinaryNet(), hybrid=False).head) is BinaryLinear


def test_the_twin_has_the_same_shape_and_nothing_binary():
    twin = language_lstm(40, 12, 16, 24, 2, cell="gru", logit_scale=3.0)
    assert type(twin.recurrent) is nn.GRU
    assert twin.logit_scale is None
    model = language_lstm(40, 12, 16, 24, 2, cell="gru", scheme=BinaryNormalized(), logit_scale=3.0)
    assert isinstance(model.recurrent, BinaryGRU)
    weights = [
        sorted(tuple(sorted(p.shape)) for p in m.parameters() if p.dim() == 2 and p.shape[0] != 1)
        for m in (twin, model)
    ]
    assert weights[0] == weights[1]


def test_a_hidden_state_of_bits_is_handed_on():
    model = sequence_classifier(6, scheme=BinaryNormalized(), binary_hidden=True)
    assert isinstance(model.recurrent, BinaryLSTM)
    assert model.recurrent.layers[0].quantizer is not None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: language_lstm(40, cell="rnn"), r"\[language_lstm\] cell='rnn': use 'lstm' or 'gru'"),
        (lambda: language_lstm(40, hidden=0), r"\[language_lstm\] hidden=0: use numbers above 0"),
        (lambda: language_lstm(40, head=(8, 0)), r"head=\(8, 0\)"),
        (lambda: sequence_classifier(6, layers=0), r"\[sequence_classifier\] layers=0"),
    ],
)
def test_wrong_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
