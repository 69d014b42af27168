"""Compare the binary LSTM and GRU with PyTorch's own on quantised weights, or with plain formulas if PyTorch does not have such a layer."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from onebit.nn import BinaryGRU, BinaryLSTM
from onebit.quantizers import AbsMax, MeanThreshold, ScaledSign, Sign
from onebit.schemes import (
    SCHEMES,
    BinaryConnect,
    BinaryNet,
    BinaryNormalized,
    BinaryWeightNetwork,
    BitNet158,
    DoReFa,
    NormFree,
    Scheme,
    XnorNet,
)

KINDS = {"lstm": (BinaryLSTM, nn.LSTM, 4), "gru": (BinaryGRU, nn.GRU, 3)}
# Their quantised weights are floats, and nothing else happens to inputs, states and sums: PyTorch's own layers compute them.
PLAIN = [
    BinaryWeightNetwork(),
    BinaryNormalized(normalize=None, bias="float"),
    BinaryNormalized(MeanThreshold("pm1"), normalize=None, bias="float"),
    Scheme(ScaledSign("layer"), gain=True),
]


def scatter(module):
    """A value of its own for every parameter."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def quantised(scheme, latent, gain):
    codes, scale = scheme.weights(latent.detach(), 0, False)
    weight = codes if scale is None else codes * scale.view(-1, 1) if scale.dim() else codes * scale
    return weight if gain is None else weight * gain.detach().view(-1, 1)


def float_twin(layer, kind):
    """PyTorch's layer with the quantised weights."""
    twin = KINDS[kind][1](
        layer.input_size, layer.hidden_size, layer.num_layers, True, layer.batch_first, 0.0, layer.bidirectional
    )
    names = [name.removeprefix("weight_ih") for name, _ in twin.named_parameters() if name.startswith("weight_ih")]
    with torch.no_grad():
        for suffix, part in zip(names, layer.layers, strict=True):
            bias = torch.zeros(len(part.weight))
            if part.bias is not None:
                bias[-part.hidden_size :] = part.bias
            parameters = {
                "weight_ih": quantised(layer.scheme, part.inputs.weight, part.inputs.gain),
                "weight_hh": quantised(layer.scheme, part.weight, part.gain),
                "bias_ih": part.inputs.bias if part.inputs.bias is not None else torch.zeros(len(part.weight)),
                "bias_hh": bias,
            }
            for name, value in parameters.items():
                getattr(twin, name + suffix).copy_(value)
    return twin


def assert_same(made, expected):
    """Outputs and states, nested as PyTorch nests them."""
    if isinstance(expected, tuple):
        assert len(made) == len(expected)
        for a, b in zip(made, expected, strict=True):
            assert_same(a, b)
    else:
        torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["lstm", "gru"]),
    scheme=st.sampled_from(PLAIN),
    batch=st.integers(1, 3),
    time=st.integers(1, 6),
    features=st.integers(1, 7),
    hidden=st.integers(1, 9),
    layers=st.integers(1, 3),
    bias=st.booleans(),
    batch_first=st.booleans(),
    bidirectional=st.booleans(),
    started=st.booleans(),
)
def test_it_is_pytorchs_layer_with_the_quantised_weights(
    kind, scheme, batch, time, features, hidden, layers, bias, batch_first, bidirectional, started
):
    layer = scatter(KINDS[kind][0](features, hidden, layers, bias, batch_first, bidirectional, scheme=scheme))
    x = torch.randn((batch, time, features) if batch_first else (time, batch, features))
    state = ()
    if started:
        parts = torch.randn(2 if kind == "lstm" else 1, layers * (1 + bidirectional), batch, hidden)
        state = (tuple(parts) if kind == "lstm" else parts[0],)
    assert_same(layer(x, *state), float_twin(layer, kind)(x, *state))


def standardised(sums, hidden):
    """Each gate's sums to zero mean and unit deviation."""
    gates = sums.view(len(sums), -1, hidden)
    gates = (gates - gates.mean(-1, keepdim=True)) / torch.sqrt(gates.var(-1, keepdim=True, unbiased=False) + 1e-5)
    return gates.flatten(1)


def recur(kind, a, recurrent, hidden):
    """The gates' formulas, (batch, time, ...), from states of zeros; `recurrent` makes the recurrent half of a hidden state."""
    h = c = a.new_zeros(len(a), hidden)
    outputs = []
    for t in range(a.shape[1]):
        u = recurrent(h)
        if kind == "lstm":
            i, f, g, o = (a[:, t] + u).split(hidden, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        else:
            a_r, a_z, a_n = a[:, t].split(hidden, -1)
            u_r, u_z, u_n = u.split(hidden, -1)
            z = (a_z + u_z).sigmoid()
            h = (1 - z) * (a_n + (a_r + u_r).sigmoid() * u_n).tanh() + z * h
        outputs.append(h)
    return torch.stack(outputs, 1)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("values", ["01", "pm1"])
@pytest.mark.parametrize("binary_hidden", [False, True])
def test_a_normalised_scheme_normalises_both_halves_gate_by_gate(kind, values, binary_hidden):
    layer = scatter(KINDS[kind][0](5, 7, scheme=BinaryNormalized(MeanThreshold(values)), binary_hidden=binary_hidden))
    part, x = layer.layers[0], torch.randn(2, 6, 5)

    def read(bits):
        return bits.float() if values == "01" else 2 * bits.float() - 1

    inputs = x.flatten(0, 1) @ read(part.inputs.bits().weight).T + read(part.inputs.bits().bias)
    a = standardised(inputs, 7).view(2, 6, -1)
    weight = read(part.bits().weight)

    def recurrent(h):
        q = torch.where(h >= 0, 1.0, -1.0) if binary_hidden else h
        return standardised(q @ weight.T, 7)

    torch.testing.assert_close(layer(x)[0], recur(kind, a, recurrent, 7), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("scheme", [BinaryConnect(), BinaryNet(), DoReFa(weights=2, activations=32)])
def test_weights_without_magnitude_have_learned_scales_on_normalised_gates(kind, scheme):
    layer = scatter(KINDS[kind][0](5, 7, scheme=scheme)).eval()
    part, x = layer.layers[0], torch.randn(2, 6, 5)
    assert part.inputs.bias is None
    signs = isinstance(scheme.activations, Sign)

    def quantise(v):
        return torch.where(v >= 0, 1.0, -1.0) if signs else v

    sums = quantise(x).flatten(0, 1) @ quantised(scheme, part.inputs.weight, None).T
    a = (standardised(sums, 7) * part.input_norm.weight + part.input_norm.bias).view(2, 6, -1)
    codes = scheme.weights(part.weight, 0, False).codes
    shift = F.pad(part.bias, (14, 0)) if kind == "gru" else 0

    def recurrent(h):
        return standardised(quantise(h) @ codes.T, 7) * part.gain + shift

    torch.testing.assert_close(layer(x)[0], recur(kind, a, recurrent, 7), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scheme", [XnorNet(), DoReFa(1, 2), BitNet158(), NormFree()])
def test_the_hidden_state_is_quantised_as_the_scheme_says(scheme):
    layer = scatter(BinaryGRU(5, 7, scheme=scheme)).eval()
    part, x = layer.layers[0], torch.randn(2, 6, 5)
    weight = quantised(scheme, part.weight, part.gain)

    def recurrent(h):
        if isinstance(scheme.activations, AbsMax):
            high = h.abs().amax(-1, keepdim=True).clamp_min(1e-5)
            q = (h * 127 / high).round() * high / 127
        else:
            q = torch.where(h >= 0, 1.0, -1.0)
        return q @ weight.T + F.pad(part.bias, (14, 0))

    expected = recur("gru", part.inputs(x), recurrent, 7)
    torch.testing.assert_close(layer(x)[0], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_gives_every_parameter_a_gradient(kind, name):
    torch.manual_seed(0)
    layer = KINDS[kind][0](6, 8, 2, scheme=SCHEMES[name]().of_sequences)
    layer(torch.randn(4, 5, 6))[0].square().sum().backward()
    for parameter_name, parameter in layer.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_learned_scales_start_small_on_normalised_sums_only():
    for scheme, start in ((BinaryNet(), 0.1), (NormFree(), 1.0)):
        gain = BinaryLSTM(4, 6, scheme=scheme).layers[0].gain
        torch.testing.assert_close(gain.detach(), torch.full((24,), start))


def test_gradients_are_those_of_the_quantised_weights():
    # The identity stands for the derivative of the bits: what PyTorch's layer gives its weights is what the latents get.
    scheme = BinaryNormalized(MeanThreshold("pm1"), normalize=None, bias="float")
    layer = scatter(BinaryLSTM(3, 4, scheme=scheme))
    twin = float_twin(layer, "lstm")
    x = torch.randn(2, 5, 3)
    layer(x)[0].square().sum().backward()
    twin(x)[0].square().sum().backward()
    torch.testing.assert_close(layer.layers[0].weight.grad, twin.weight_hh_l0.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.layers[0].inputs.weight.grad, twin.weight_ih_l0.grad, rtol=1e-4, atol=1e-5)


def test_the_first_of_two_stages_computes_with_float_weights():
    layer = scatter(BinaryLSTM(3, 4, scheme=BinaryWeightNetwork()))
    part = layer.layers[0]
    twin = float_twin(layer, "lstm")
    part.float_weights = part.inputs.float_weights = True
    with torch.no_grad():
        twin.weight_hh_l0.copy_(part.weight)
        twin.weight_ih_l0.copy_(part.inputs.weight)
    x = torch.randn(2, 5, 3)
    torch.testing.assert_close(layer(x)[0], twin(x)[0], rtol=1e-4, atol=1e-5)


def test_the_state_carries_a_sequence_on():
    for layer in (scatter(BinaryLSTM(5, 8, 2)), scatter(BinaryGRU(5, 8, 2, scheme=BinaryNet()))):
        x = torch.randn(3, 9, 5)
        whole, end = layer(x)
        first, state = layer(x[:, :4])
        second, last = layer(x[:, 4:], state)
        assert_same(torch.cat([first, second], 1), whole)
        assert_same(last, end)


def test_the_future_never_reaches_the_past():
    layer = scatter(BinaryLSTM(5, 8, 2, binary_hidden=True))
    x = torch.randn(1, 6, 5)
    changed = x.clone()
    changed[:, 4:] += 1
    before, after = layer(x)[0], layer(changed)[0]
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4:], after[:, 4:])


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_bfloat16_keeps_states_in_float32(kind):
    layer = scatter(KINDS[kind][0](5, 8))
    x = torch.randn(2, 40, 5)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = layer(x)
    assert y.dtype == torch.float32
    assert all(part.dtype == torch.float32 for part in state)
    assert (y - layer(x)[0]).abs().mean() < 0.03


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("scheme", [BinaryNormalized(), BinaryNet(), BinaryWeightNetwork(), BitNet158()])
def test_a_layer_kept_in_bfloat16_computes_what_its_float32_copy_does(kind, scheme):
    layer = scatter(KINDS[kind][0](5, 8, 2, scheme=scheme)).bfloat16().eval()
    x = torch.randn(2, 6, 5).bfloat16()
    y, state = layer(x)
    assert y.dtype == torch.bfloat16
    assert all(part.dtype == torch.float32 for part in state)
    assert (y - layer.float()(x.float())[0]).abs().mean() < 0.05


def test_every_weight_of_the_paper_is_one_bit():
    layer = BinaryLSTM(6, 8, 2)
    bits = [m for part in layer.layers for m in (part.bits().weight, *part.inputs.bits())]
    assert sum(b.numel() for b in bits) == sum(p.numel() for p in layer.parameters())
    assert all(b.dtype == torch.bool for b in bits)


def test_a_stochastic_sign_is_random_in_training_only():
    layer = BinaryGRU(4, 6, scheme=BinaryConnect(weights=Sign(stochastic=True)))
    x = torch.randn(2, 3, 4)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("scheme", [BinaryNormalized(), BinaryNet(), BinaryConnect(), BinaryWeightNetwork()])
def test_it_learns_to_remember(kind, scheme):
    # The class is the sign of the first step's first feature, four steps before it is asked for.
    torch.manual_seed(0)
    layer, dense = KINDS[kind][0](2, 16, scheme=scheme), nn.Linear(16, 2)
    optimizer = torch.optim.Adam([*layer.parameters(), *dense.parameters()], 0.02)
    for _ in range(120):
        x = torch.randn(64, 5, 2).sign()
        loss = F.cross_entropy(dense(layer(x)[0][:, -1]), (x[:, 0, 0] > 0).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = torch.randn(500, 5, 2).sign()
    assert (dense(layer.eval()(x)[0][:, -1]).argmax(1) == (x[:, 0, 0] > 0)).float().mean() > 0.95


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 0}, r"\[BinaryLSTM\] hidden_size=0: use an integer from 1 up"),
        ({"num_layers": 1.5}, "num_layers=1.5: use an integer"),
        ({"scheme": "BinaryNet"}, "use one of onebit.schemes"),
        ({"scheme": BinaryNormalized(normalize="batch")}, "normalize='batch' would need statistics"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        BinaryLSTM(**{"input_size": 3, "hidden_size": 4, **options})


@pytest.mark.parametrize(
    ("x", "state", "message"),
    [
        ((2, 3), None, r"\[BinaryGRU\] input of shape \(2, 3\): needs \(batch, time, 5\)"),
        ((2, 3, 4), None, r"needs \(batch, time, 5\)"),
        ((2, 0, 5), None, "the sequence is empty"),
        ((2, 3, 5), (1, 3, 6), r"initial state of shape \(1, 3, 6\): needs \(1, 2, 6\)"),
    ],
)
def test_wrong_inputs_are_named(x, state, message):
    with pytest.raises(ValueError, match=message):
        BinaryGRU(5, 6)(torch.zeros(x), None if state is None else torch.zeros(state))
