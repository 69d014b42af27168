"""Estimators against their formulas by hand, with every quantizer of one bit, and learned scales against ParetoQ's gradient by hand."""

import math

import pytest
import torch
from torch import nn

import onebit
from onebit.conversion import to_float
from onebit.nn import BinaryLinear
from onebit.quantizers import (
    EDE,
    BinaryRelax,
    CenteredSign,
    Elastic,
    KBitWeights,
    MeanThreshold,
    ReSTE,
    ScaledSign,
    Sign,
    StandardizedSign,
    StochasticBits,
    Ternary,
    distances,
)
from onebit.quantizers.gradients import IDENTITY, Power, Tanh
from onebit.schemes import BinaryConnect, BinaryNormalized, BinaryWeightNetwork, Scheme, parse_estimator

QUANTIZERS = [
    MeanThreshold(),
    MeanThreshold("bipolar", per="output"),
    MeanThreshold("bipolar", scale="inputs"),
    Sign(IDENTITY),
    ScaledSign(),
    ScaledSign("layer"),
    CenteredSign(),
    StandardizedSign(),
    KBitWeights(1),
]
ESTIMATORS = [ReSTE(), EDE(), BinaryRelax(), StochasticBits()]


@pytest.fixture
def w():
    torch.manual_seed(0)
    return (torch.randn(5, 8) * 0.05 + 0.01).requires_grad_()


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=repr)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_training_ends_with_the_quantizers_own_bits(quantizer, estimator, w):
    codes, scale = estimator(quantizer, w, 0, 1.0)
    own = quantizer(w, 0, True, 1.0)
    assert torch.equal(codes, own.codes)
    assert scale is None if own.scale is None else torch.equal(scale, own.scale)


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=repr)
def test_distances_are_in_units_of_their_mean(quantizer, w):
    u = distances(quantizer, w, 0)
    centred = w.detach() - quantizer.centre(w.detach(), 0)
    axes = quantizer.scale_axes(w, 0) or [1]
    torch.testing.assert_close(u.abs().mean(axes), torch.ones(u.abs().mean(axes).shape))
    assert torch.equal(u > 0, centred > 0)
    torch.testing.assert_close(distances(quantizer, 100 * w, 0), u)


@pytest.mark.parametrize(
    ("estimator", "gradient"), [(ReSTE(2.0, 1.2), Power(2.0, 1.2)), (EDE(0.2, 5.0), Tanh(0.2, 5.0))]
)
@pytest.mark.parametrize("progress", [0.0, 0.4, 1.0])
def test_a_shaped_gradient_is_the_quantizers_times_the_factor_at_the_distance(estimator, gradient, progress, w):
    given = torch.randn(5, 8)
    codes = estimator(ScaledSign(), w, 0, progress).codes
    assert torch.equal(codes, w.detach().sign())
    codes.backward(given)
    alpha = w.detach().abs().mean(1, keepdim=True)
    torch.testing.assert_close(w.grad, given / alpha * gradient(w.detach() / alpha, progress))


@pytest.mark.parametrize(("values", "read"), [("bipolar", lambda v: v), ("unipolar", lambda v: (v + 1) / 2)])
@pytest.mark.parametrize("progress", [0.0, 0.3, 0.6])
def test_binary_relax_is_its_formula(values, read, progress, w):
    estimator = BinaryRelax(first=0.5, last=20.0, until=0.75)
    codes = estimator(MeanThreshold(values), w, 0, progress).codes
    strength = 0.5 * 40 ** (progress / 0.75)
    centred = w.detach() - w.detach().mean()
    u = centred / centred.abs().mean()
    torch.testing.assert_close(codes, read((u + strength * u.sign()) / (1 + strength)))
    given = torch.randn(5, 8)
    codes.backward(given)
    assert torch.equal(w.grad, given)


def test_stochastic_bits_have_their_chances():
    torch.manual_seed(0)
    u = torch.tensor([[-2.0, -0.9, -0.1, 0.1, 0.9, 2.0]])  # their mean magnitude is 1
    w = (3 * u).repeat(4000, 1).requires_grad_()
    for progress, spread in ((0.0, 1.0), (0.375, 0.5)):
        codes = StochasticBits(until=0.75)(Sign(IDENTITY), w, 0, progress).codes
        assert set(codes.unique().tolist()) == {-1.0, 1.0}
        chances = ((u[0] / spread + 1) / 2).clamp(0, 1)
        torch.testing.assert_close((codes > 0).float().mean(0), chances, rtol=0, atol=0.03)
    given = torch.randn_like(w)
    codes.backward(given)
    assert torch.equal(w.grad, given)


def test_a_layer_estimates_in_training_only():
    torch.manual_seed(0)
    layer = BinaryLinear(8, 5, scheme=BinaryConnect(estimator="BinaryRelax"))
    assert layer.scheme.estimator == BinaryRelax()
    assert not torch.equal(layer.weight_codes().codes.abs(), torch.ones(5, 8))
    layer.progress = 0.9
    assert torch.equal(layer.weight_codes().codes, layer.weight.sign())
    layer.progress = 0.0
    layer.eval()
    assert torch.equal(layer.weight_codes().codes, layer.weight.sign())


def test_learned_scales_have_paretoqs_gradients():
    torch.manual_seed(0)
    layer = BinaryLinear(8, 5, bias=False, scheme=Scheme(weights=Elastic(ScaledSign()), gain=True))
    w = layer.weight.detach().clone()
    alpha = w.abs().mean(1)
    torch.testing.assert_close(layer.gain.detach(), alpha)
    x, given = torch.randn(3, 8), torch.randn(3, 5)
    y = layer(x)
    torch.testing.assert_close(y, x @ (alpha[:, None] * w.sign()).T)
    y.backward(given)
    of_weights = given.T @ x  # (outputs, inputs)
    torch.testing.assert_close(layer.gain.grad, (of_weights * w.sign()).sum(1) / math.sqrt(40))
    inside = w.abs() <= alpha[:, None]
    torch.testing.assert_close(layer.weight.grad, of_weights * inside)
    assert 0 < inside.float().mean() < 1


def test_learned_scales_start_at_the_scale_of_any_scheme():
    w = torch.randn(5, 8)
    for quantizer in QUANTIZERS:
        scale = quantizer(w, 0, False).scale
        first = Elastic(quantizer).first_scale(w, 0)
        assert first.shape == (5,)
        torch.testing.assert_close(first, torch.ones(5) * (1.0 if scale is None else scale))


def test_a_converted_layer_starts_at_the_scale_of_its_weights_and_turns_back():
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, 3))
    scale = model[1].weight.detach().abs().mean(1)
    onebit.convert(model, Scheme(weights=Elastic(ScaledSign()), gain=True, estimator="StochasticBits"))
    torch.testing.assert_close(model[1].gain.detach(), scale)
    x = torch.randn(4, 8)
    y = model.eval()(x)
    to_float(model, "quantized")
    torch.testing.assert_close(model(x), y)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("straight-through", None),
        ("ReSTE", ReSTE()),
        ("ReSTE(last=2, limit=100)", ReSTE(2, 100)),
        ("EDE(first=0.001)", EDE(0.001)),
        ("BinaryRelax(first=0.02, until=0.5)", BinaryRelax(0.02, until=0.5)),
        ("StochasticBits", StochasticBits()),
    ],
)
def test_estimators_are_read_from_text(text, made):
    assert parse_estimator(text) == made


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: parse_estimator("reste"), "estimator='reste': use straight-through, ReSTE, EDE, BinaryRelax, StochasticBits"),
        (lambda: parse_estimator("ReSTE(o=3)"), "estimator='ReSTE': ReSTE has no option 'o': use last, limit"),
        (lambda: parse_estimator("ReSTE(3)"), "estimator='ReSTE(3)': write a name, or Name(option=value, ...)"),
        (lambda: ReSTE(last=0.5), "[ReSTE] last=0.5: use a number 1 or more"),
        (lambda: EDE(first=0), "[EDE] first=0: use a number above 0"),
        (lambda: BinaryRelax(until=1.5), "[BinaryRelax] until=1.5: use a number above 0, at most 1"),
        (lambda: StochasticBits(first="much"), "[StochasticBits] first='much': use a number above 0"),
        (lambda: BinaryNormalized(estimator=3), "[BinaryNormalized] estimator=3: use ReSTE, EDE,"),
        (lambda: Scheme(weights=Ternary(), estimator=ReSTE()), "it fits weights of one bit, these have 2"),
        (lambda: Scheme(weights=Elastic()), "its scale is the layer's gain: use gain=True with it"),
        (lambda: Elastic(Ternary()), "[Elastic] of=Ternary(): use a quantizer of weights of one bit"),
        (lambda: Elastic(Elastic()), "use a quantizer of weights of one bit, such as ScaledSign()"),
    ],
)  # fmt: skip
def test_wrong_options_are_named(make, message):
    with pytest.raises(ValueError) as raised:
        make()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_scheme_shows_its_estimator():
    assert repr(BinaryWeightNetwork(estimator=ReSTE(2))) == "BinaryWeightNetwork(estimator=ReSTE(last=2, limit=1.5))"
