"""Compare the optimizer without latent weights with its formula, and test several optimizers together."""

import math

import pytest
import torch
from torch import nn

from onebit.errors import OnebitError
from onebit.nn import BinaryConv2d, BinaryLinear
from onebit.optim import Bop, Together, bits_and_rest, muon
from onebit.quantizers import MeanThreshold, ScaledSign, Sign
from onebit.quantizers.gradients import Clipped, Polynomial
from onebit.schemes import SCHEMES, BinaryConnect, BinaryNet, DoReFa, Scheme, XnorNet

PLAIN = Scheme(weights=Sign())


def test_bop_flips_where_the_formula_says():
    torch.manual_seed(0)
    w = nn.Parameter(torch.randn(50))
    bop = Bop([w], gamma=0.3, threshold=0.1)
    bits, mean = [1 if v >= 0 else -1 for v in w.tolist()], [0.0] * 50
    assert w.tolist() == bits
    flips = 0
    for _ in range(20):
        w.grad = torch.randn(50)
        for i, g in enumerate(w.grad.tolist()):
            mean[i] = 0.7 * mean[i] + 0.3 * g
            if abs(mean[i]) > 0.1 and math.copysign(1, mean[i]) == bits[i]:
                bits[i] = -bits[i]
                flips += 1
        bop.step()
        assert w.tolist() == bits
    assert 100 < flips < 900


def test_bop_with_a_higher_threshold_flips_less():
    def flips(threshold):
        torch.manual_seed(0)
        w = nn.Parameter(torch.randn(1000))
        bop, count = Bop([w], gamma=0.1, threshold=threshold), 0
        for _ in range(10):
            before, w.grad = w.detach().clone(), torch.randn(1000)
            bop.step()
            count += int((w != before).sum())
        return count

    assert flips(0.0) > flips(0.1) > flips(0.4) > 0
    assert flips(10.0) == 0


def test_zero_starts_as_plus_one_and_stays_without_a_gradient():
    w = nn.Parameter(torch.tensor([0.0, -0.0, -1e-9]))
    bop = Bop([w])
    bop.step()
    assert w.tolist() == [1, 1, -1]


@pytest.mark.parametrize("options", [{"gamma": 0}, {"gamma": 1.5}, {"gamma": math.nan}, {"threshold": -1}])
def test_bop_refuses(options):
    with pytest.raises(ValueError, match=rf"\[Bop\] {next(iter(options))}="):
        Bop([nn.Parameter(torch.ones(1))], **options)


def network(scheme=PLAIN):
    return nn.Sequential(
        BinaryConv2d(1, 4, 3, scheme=scheme), nn.BatchNorm2d(4), nn.Flatten(), BinaryLinear(16, 3, scheme=scheme)
    )


def parts(model):
    bits, rest = bits_and_rest(model)
    return Together([torch.optim.Adam(rest, lr=0.01), Bop(bits, gamma=0.1)])


def train(model, optimizer, steps):
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(torch.randn(8, 1, 4, 4)), torch.randint(3, (8,)))
        optimizer.step(lambda loss=loss: loss.backward())
        schedule.step()


def test_each_parameter_goes_to_one_optimiser():
    model = network()
    bits, rest = bits_and_rest(model)
    assert [p.shape for p in bits] == [(4, 1, 3, 3), (3, 16)]
    assert {id(p) for p in bits} | {id(p) for p in rest} == {id(p) for p in model.parameters()}
    assert len(rest) == 4  # two biases, and the batch normalisation's two


def test_together_does_what_each_does_alone():
    torch.manual_seed(0)
    model = network()
    bias = model[3].bias.detach().clone()
    optimizer = parts(model)
    train(model, optimizer, 5)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01 / 6, 0.1 / 6])
    assert model[3].weight.abs().eq(1).all()
    assert not model[3].bias.eq(bias).any()
    assert optimizer.optimizers[0].param_groups[0] is optimizer.param_groups[0]


def test_together_goes_on_from_its_state():
    def run(steps, state=None):
        torch.manual_seed(0)
        model = network()
        optimizer = parts(model)
        if state is not None:
            model.load_state_dict(state[0])
            optimizer.load_state_dict(state[1])
        torch.manual_seed(1)
        train(model, optimizer, steps)
        return model.state_dict(), optimizer.state_dict()

    once = run(3)
    resumed, fresh = run(2, once), run(2, (once[0], parts(network()).state_dict()))
    torch.manual_seed(0)
    model = network()
    optimizer = parts(model)
    torch.manual_seed(1)
    train(model, optimizer, 3)
    torch.manual_seed(1)
    train(model, optimizer, 2)
    whole = model.state_dict()
    assert all(torch.equal(whole[key], resumed[0][key]) for key in whole)
    assert not all(torch.equal(whole[key], fresh[0][key]) for key in whole)


def test_forgetting_drops_both_states():
    model = network()
    optimizer = parts(model)
    train(model, optimizer, 1)
    assert all(part.state for part in optimizer.optimizers)
    optimizer.forget()
    assert not any(part.state for part in optimizer.optimizers)


FITTING = {"BinaryConnect", "BinaryWeightNetwork", "BinaryNet", "XnorNet", "DoReFa", "BiRealNet", "ReActNet"}


@pytest.mark.parametrize("name", SCHEMES)
def test_schemes_fit_bop_where_a_bit_is_a_weights_own_sign(name):
    model = nn.Sequential(BinaryLinear(6, 5, scheme=SCHEMES[name]()))
    if name not in FITTING:
        with pytest.raises(OnebitError, match=rf"\[Bop\] 0: {name} does not take the sign .*: use optimizer=adam, or "):
            bits_and_rest(model)
        return
    optimizer = parts(model) if len(bits_and_rest(model)[1]) else None
    assert optimizer is not None
    # The scale of -1 and +1 is 1: what the layer computes with is its weights as they are.
    layer, weights = model[0], model[0].weight
    codes, scale = layer.scheme.weights(weights)
    assert torch.equal(codes if scale is None else codes * scale.view(-1, *[1] * bool(scale.dim())), weights)
    codes.sum().backward()
    assert weights.grad.gt(0).all()


@pytest.mark.parametrize(
    ("scheme", "fits"),
    [
        (Scheme(weights=Sign(Polynomial())), False),  # no gradient at all at -1 and +1
        (Scheme(weights=Sign(Clipped(0.5))), False),
        (Scheme(weights=Sign(Clipped(2.0))), True),
        (Scheme(weights=Sign(Polynomial(), stochastic=True)), True),  # its gradient is the identity
        (Scheme(weights=ScaledSign("layer", Polynomial())), False),
        (DoReFa(weights=2), False),
        (Scheme(weights=MeanThreshold("pm1")), False),
        (BinaryConnect(), True),
        (BinaryNet(), True),
        (XnorNet(), True),
    ],
)
def test_gradients_have_to_pass_at_plus_and_minus_one(scheme, fits):
    model = nn.Sequential(BinaryLinear(6, 5, scheme=scheme))
    if fits:
        assert len(bits_and_rest(model)[0]) == 1
    else:
        with pytest.raises(OnebitError, match="use optimizer=adam"):
            bits_and_rest(model)


def test_a_float_network_has_no_bits():
    with pytest.raises(OnebitError, match="has no binary layers"):
        bits_and_rest(nn.Linear(2, 2))


@pytest.mark.parametrize("shape", [(12, 5), (5, 12)])
def test_a_step_of_muon_is_the_orthogonal_matrix_of_the_gradient(shape):
    torch.manual_seed(0)
    w = nn.Parameter(torch.zeros(shape))
    w.grad = torch.randn(shape)
    left, _, right = torch.linalg.svd(w.grad, full_matrices=False)
    muon([w], lr=0.1, weight_decay=0.0, ns_steps=5).step()
    step = -w.detach() / (0.1 * 0.2 * max(shape) ** 0.5)
    # In the gradient's own axes it is diagonal, with values near 1.
    own = left.T @ step @ right.T
    assert (own.diag() > 0.6).all() and (own.diag() < 1.3).all()
    assert (own - own.diag().diag()).abs().max() < 0.05


def test_an_old_pytorch_has_no_muon(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(OnebitError, match=r"\[muon\] PyTorch .* has no Muon: use 2.9 or later"):
        muon([nn.Parameter(torch.zeros(2, 2))])
