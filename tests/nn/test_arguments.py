"""Keyword arguments of version 0.1.0 still work, and warn with what to write instead."""

import pytest
import torch

from onebit.models import conv_classifier, language_decoder, language_lstm
from onebit.nn import (
    BinaryAttention,
    BinaryConv1d,
    BinaryConv2d,
    BinaryConv3d,
    BinaryConvTranspose2d,
    BinaryEmbedding,
    BinaryGRU,
    BinaryLinear,
    BinaryLSTM,
    BinaryTransformerBlock,
)
from onebit.schemes import BinaryNet, BinaryNormalized, XnorNet

OLD = {"values": "pm1", "normalize": "example", "eps": 1e-3, "latent_spread": 0.5}
NOW = BinaryNormalized("pm1", normalize="example", eps=1e-3, latent_spread=0.5)


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        (BinaryLinear, (4, 6)),
        (BinaryConv1d, (4, 6, 3)),
        (BinaryConv2d, (4, 6, 3)),
        (BinaryConv3d, (4, 6, 3)),
        (BinaryConvTranspose2d, (4, 6, 3)),
        (BinaryEmbedding, (4, 6)),
    ],
)
def test_old_options_are_parts_of_the_scheme(kind, sizes):
    torch.manual_seed(0)
    with pytest.warns(
        DeprecationWarning, match=rf"\[{kind.__name__}\] values, .*: write scheme=BinaryNormalized\("
    ) as w:
        layer = kind(*sizes, **OLD)
    assert w[0].filename == __file__
    torch.manual_seed(0)
    other = kind(*sizes, scheme=NOW)
    assert layer.scheme == other.scheme
    assert torch.equal(layer.weight, other.weight)


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: BinaryAttention(8, 2, **OLD), lambda layer: layer.query),
        (lambda: BinaryTransformerBlock(8, 2, **OLD), lambda layer: layer.expand),
        (lambda: conv_classifier(3, 4, (2,), **OLD), lambda model: model.head[0]),
        (lambda: language_decoder("tiny", **OLD), lambda model: model.blocks[0].expand),
    ],
)
def test_old_options_reach_the_layers(make, part):
    with pytest.warns(DeprecationWarning, match=r"write scheme="):
        assert part(make()).scheme == NOW


@pytest.mark.parametrize("kind", [BinaryLSTM, BinaryGRU])
def test_a_spread_given_with_a_scheme_goes_into_it(kind):
    with pytest.warns(DeprecationWarning, match=r"write scheme=XnorNet\(latent_spread=0.5\)"):
        layer = kind(3, 4, scheme=XnorNet(), latent_spread=0.5)
    assert layer.scheme == XnorNet(latent_spread=0.5)


def test_a_float_twin_has_no_use_for_them():
    with pytest.warns(DeprecationWarning, match=r"\[language_lstm\] latent_spread: write scheme="):
        model = language_lstm(20, 4, 4, 4, latent_spread=0.5)
    assert isinstance(model.recurrent, torch.nn.LSTM)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: BinaryLinear(2, 2, values="±1"), ValueError, r"values='±1': use "),
        (lambda: BinaryConv2d(2, 2, 3, normalize="layer"), ValueError, r"normalize='layer': use 'channel'"),
        (lambda: BinaryEmbedding(3, 3, latent_spread=0), ValueError, r"latent_spread=0: use a number above 0"),
        (lambda: BinaryConv1d(4, 4, 3, values="pm1", scheme=BinaryNet()), ValueError, r"give BinaryNet\(...\) them"),
        (lambda: BinaryConv3d(4, 4, 3, normalize=None, scheme=BinaryNet()), ValueError, r"give BinaryNet\(...\) them"),
        (lambda: BinaryLinear(4, 4, eps=1e-3, scheme=BinaryNet()), ValueError, r"give BinaryNet\(...\) them"),
        (lambda: conv_classifier(3, 4, (2,), True, 3, "pm1"), TypeError, "positional arguments"),
        (lambda: language_decoder("tiny", True, "pm1"), TypeError, "positional arguments"),
        (lambda: language_lstm(20, spread=1), TypeError, r"\[language_lstm\] unknown argument 'spread'"),
        (lambda: BinaryLinear(4, 4, spread=1), TypeError, r"\[BinaryLinear\] unknown argument 'spread': use the arg"),
    ],
)
def test_options_that_say_nothing_or_two_things_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
