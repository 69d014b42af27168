"""Compare the NumPy recurrences with PyTorch's LSTM and GRU, or with PyTorch's parts if it does not have such a layer."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from onebit.program import Program, Step, pack_rows
from onebit.runtime import reference


def layer_of(kind, features, hidden, seed, bidirectional=False):
    torch.manual_seed(seed)
    make = torch.nn.LSTM if kind == "lstm" else torch.nn.GRU
    return make(features, hidden, batch_first=True, bidirectional=bidirectional)


def steps_of(kind, layer, x, suffix="_l0", op=None, **attributes):
    """A program of a PyTorch recurrence: the inputs' gates, then the recurrence `op` of the same kind."""
    w = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    gates, features = w[f"weight_ih{suffix}"].shape
    recurrent = w[f"bias_hh{suffix}"]
    tensors = {
        "w_x": w[f"weight_ih{suffix}"],
        # An LSTM's two biases are one; a GRU's reset gate stands between them.
        "b_x": w[f"bias_ih{suffix}"] + (recurrent if kind == "lstm" and op is None else 0),
        "w_h": w[f"weight_hh{suffix}"],
        "b_h": recurrent,
    }
    roles = {"weight": "w_h"} | ({"shift": "b_h"} if kind == "gru" else {})
    attributes = {"hidden": layer.hidden_size, **attributes}
    linear = {"in_features": features, "out_features": gates}
    steps = (
        Step("linear", ("x",), "gates", linear, {"weight": "w_x", "bias": "b_x"}),
        Step(op or kind, ("gates",), "y", attributes, roles),
    )
    return Program("x", x.shape[1:], steps, "y"), tensors


def run(program, tensors, x, precision="float32"):
    shape = program.shapes(tensors)["y"]
    y = reference.run(program, tensors, x, precision)
    assert y.shape == (len(x), *shape)
    assert y.dtype == np.float32
    return y


def rows(n, time, features, seed=0):
    return np.random.default_rng(seed).standard_normal((n, time, features)).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["lstm", "gru"]),
    time=st.integers(1, 9),
    features=st.integers(1, 9),
    hidden=st.integers(1, 20),
    seed=st.integers(0, 1000),
)
def test_float_recurrences_are_pytorchs(kind, time, features, hidden, seed):
    x = rows(3, time, features, seed)
    layer = layer_of(kind, features, hidden, seed)
    expected = layer(torch.tensor(x))[0].detach().numpy()
    np.testing.assert_allclose(run(*steps_of(kind, layer, x), x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_the_other_direction_is_pytorchs(kind):
    x = rows(2, 7, 5)
    layer = layer_of(kind, 5, 6, 1, bidirectional=True)
    expected = layer(torch.tensor(x))[0].detach().numpy()
    for suffix, reverse, part in (("_l0", False, expected[..., :6]), ("_l0_reverse", True, expected[..., 6:])):
        program, tensors = steps_of(kind, layer, x, suffix, reverse=reverse)
        np.testing.assert_allclose(run(program, tensors, x), part, rtol=1e-5, atol=1e-6)


def binarized(kind, values, hidden=20, seed=0, **attributes):
    """A PyTorch recurrence whose recurrent weights are bits times a scale for each row, and its program with the same bits."""
    x = rows(3, 8, 5, seed)
    layer = layer_of(kind, 5, hidden, seed)
    random = np.random.default_rng(seed)
    count = len(layer.weight_hh_l0)
    bits = random.integers(0, 2, (count, hidden))
    scale = (random.uniform(0.5, 1.5, count) / hidden**0.5).astype(np.float32)
    weights = torch.tensor(bits if values == "01" else 2 * bits - 1).float()
    with torch.no_grad():
        layer.weight_hh_l0.copy_(weights * torch.tensor(scale)[:, None])
    program, tensors = steps_of(kind, layer, x, op=f"bit_{kind}", values=values, **attributes)
    steps = (
        program.steps[0],
        Step(
            f"bit_{kind}",
            ("gates",),
            "y",
            program.steps[1].attributes,
            {"weight": "bits", "scale": "scale", "shift": "b_h"},
        ),
    )
    tensors = tensors | {"bits": pack_rows(bits), "scale": scale}
    return x, layer, weights, Program("x", x.shape[1:], steps, "y"), tensors


@pytest.mark.parametrize("values", ["01", "pm1"])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_binary_recurrences_are_pytorchs_with_such_weights(kind, values):
    x, layer, _, program, tensors = binarized(kind, values)
    expected = layer(torch.tensor(x))[0].detach().numpy()
    np.testing.assert_allclose(run(program, tensors, x), expected, rtol=1e-4, atol=1e-5)
    # 8 bits of the hidden state are close to it, but not it.
    quantised = run(program, tensors, x, "int8")
    assert 1e-5 < np.abs(quantised - expected).max() < 0.05


def by_hand(kind, gates, product):
    """The cells as PyTorch's documentation writes them."""
    h = c = torch.zeros(len(gates), product(None))
    made = []
    for t in range(gates.shape[1]):
        x, s = gates[:, t], product(h)
        if kind == "lstm":
            i, f, g, o = (x + s).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        else:
            (xr, xz, xn), (hr, hz, hn) = x.chunk(3, -1), s.chunk(3, -1)
            r, z = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
            h = (1 - z) * torch.tanh(xn + r * hn) + z * h
        made.append(h)
    return torch.stack(made, 1).numpy()


@pytest.mark.parametrize("values", ["01", "pm1"])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_each_gates_sums_are_normalised(kind, values):
    x, layer, weights, program, tensors = binarized(kind, values, eps=1e-3)
    gates = torch.tensor(x) @ torch.tensor(tensors["w_x"]).T + torch.tensor(tensors["b_x"])

    def product(h):
        if h is None:
            return layer.hidden_size
        sums = (h @ weights.T).reshape(len(h), -1, layer.hidden_size)
        normal = F.layer_norm(sums, (layer.hidden_size,), eps=1e-3).reshape(len(h), -1)
        return normal * torch.tensor(tensors["scale"]) + torch.tensor(tensors["b_h"])

    np.testing.assert_allclose(run(program, tensors, x), by_hand(kind, gates, product), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("eps", [None, 1e-3])
@pytest.mark.parametrize("quantizer", ["sign", "unit", "absmax"])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_states_and_weights_as_the_network_was_trained_with_them(kind, quantizer, eps, precision):
    hidden, planes = 20, [1, 2]
    x, _, _, program, tensors = binarized(kind, "pm1", hidden)
    attributes = {"planes": planes, "input": {"quantizer": quantizer}} | ({"eps": eps} if eps else {})
    if quantizer != "sign":
        attributes["input"]["bits"] = {"unit": 3, "absmax": 16}[quantizer]
    recurrent = program.steps[1]
    step = Step(recurrent.op, ("gates",), "y", {**recurrent.attributes, **attributes}, recurrent.tensors)
    program = Program("x", x.shape[1:], (program.steps[0], step), "y")
    bits = np.random.default_rng(1).integers(0, 2, (2, len(tensors["scale"]), hidden))
    weights = torch.tensor(sum(c * (2 * b - 1) for c, b in zip(planes, bits, strict=True))).float()
    tensors["bits"] = pack_rows(bits.reshape(-1, hidden))
    gates = torch.tensor(x) @ torch.tensor(tensors["w_x"]).T + torch.tensor(tensors["b_x"])

    def quantised(h):
        if quantizer == "sign":
            return torch.where(h >= 0, 1.0, -1.0)
        if quantizer == "unit":
            return (h.clip(0, 1) * 7).round() / 7
        high = h.abs().amax(-1, keepdim=True).clip(1e-5)
        return (h * (32767 / high)).round() * (high / 32767)

    def product(h):
        if h is None:
            return hidden
        sums = (quantised(h) @ weights.T).reshape(len(h), -1, hidden)
        if eps:
            sums = F.layer_norm(sums, (hidden,), eps=eps)
        return sums.reshape(len(h), -1) * torch.tensor(tensors["scale"]) + torch.tensor(tensors["b_h"])

    np.testing.assert_allclose(run(program, tensors, x, precision), by_hand(kind, gates, product), rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_the_first_step_sees_a_state_of_zeros(kind, precision):
    x, layer, _, program, tensors = binarized(kind, "pm1")
    first = run(program, tensors, x, precision)[:, 0]
    expected = layer(torch.tensor(x[:, :1]))[0].detach().numpy()[:, 0]
    np.testing.assert_allclose(first, expected, rtol=1e-5, atol=1e-6)
