"""Convert binary layers back to PyTorch's own."""

import pytest
import torch
from torch import nn

import onebit
from onebit.nn import BinaryEmbedding, BinaryLinear, BinaryTransposedLinear
from onebit.schemes import SCHEMES, BinaryNormalized, BinaryWeightNetwork, BitNet158, NormFree, ReActNet, XnorNet


def model():
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "linear": nn.Linear(6, 8),
            "conv": nn.Conv2d(3, 4, 3, bias=False),
            "back": nn.ConvTranspose2d(4, 3, 2),
            "table": nn.Embedding(9, 6, padding_idx=0),
            "attention": nn.MultiheadAttention(8, 2, batch_first=True),
            "cross": nn.MultiheadAttention(8, 2, kdim=5, vdim=3, bias=False),
        }
    )


@pytest.mark.parametrize("scheme", [pytest.param(kind(), id=name) for name, kind in SCHEMES.items()])
def test_latents_come_back_as_they_were(scheme):
    network = model()
    types = [type(m) for m in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    report = onebit.convert(network, scheme, keep=())
    back = onebit.to_float(network)
    assert back.converted == report.converted
    assert [type(m) for m in network.modules()] == types
    assert list(network.state_dict()) == list(state)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in state.items())
    x = torch.randn(2, 3, 8)
    network["attention"](x, x, x)
    assert network["table"].padding_idx == 0


@pytest.mark.parametrize("scheme", [BinaryWeightNetwork(), BitNet158(activations=None, input_normalize=False)])
@pytest.mark.parametrize("name", ["linear", "conv", "back", "table"])
def test_quantized_weights_compute_what_the_bits_do(scheme, name):
    network = model()
    onebit.convert(network, scheme, keep=())
    x = {
        "linear": torch.randn(2, 6),
        "conv": torch.randn(1, 3, 5, 5),
        "back": torch.randn(1, 4, 5, 5),
        "table": torch.tensor([[1, 2]]),
    }[name]
    before = network[name](x)
    onebit.to_float(network, "quantized")
    torch.testing.assert_close(network[name](x), before, rtol=1e-4, atol=1e-5)


def test_quantized_attention_computes_what_the_bits_do():
    network = model()
    onebit.convert(network, BinaryWeightNetwork(), keep=())
    x, k, v = torch.randn(2, 3, 8), torch.randn(4, 2, 5), torch.randn(4, 2, 3)
    before = network["attention"](x, x, x)[0], network["cross"](x.transpose(0, 1), k, v)[0]
    onebit.to_float(network, "quantized")
    after = network["attention"](x, x, x)[0], network["cross"](x.transpose(0, 1), k, v)[0]
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_biases_of_bits_and_gains_are_in_the_quantized_weights():
    layer = BinaryLinear(5, 4, scheme=BinaryNormalized(normalize=None, gain=True))
    with torch.no_grad():
        layer.gain.copy_(torch.tensor([1.0, 2, 3, 4]))
        layer.bias.normal_()
    x = torch.randn(3, 5)
    before = layer(x)
    onebit.to_float(layer, "quantized")
    assert type(layer) is nn.Linear
    torch.testing.assert_close(layer(x), before)


def test_the_report_says_what_is_lost():
    network = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    for layer, scheme in zip(network, (BinaryNormalized(), XnorNet(), NormFree(), BinaryWeightNetwork()), strict=True):
        onebit.convert(layer, scheme, keep=())
    lost = [layer.reason for layer in onebit.to_float(network)]
    assert lost[0] == "without its normalisation over the channel"
    assert "the magnitudes of its inputs" in lost[1] and "its inputs by Sign" in lost[1]
    assert "learned thresholds" in lost[2] and "a learned gain" in lost[2]
    assert lost[3] == ""


def test_layers_that_were_never_converted():
    network = nn.Sequential(BinaryEmbedding(7, 4), BinaryTransposedLinear(4, 3))
    with torch.no_grad():
        network[0].bias.normal_()
    table, bias, weight = (p.detach().clone() for p in (network[0].weight, network[0].bias, network[1].weight))
    onebit.to_float(network)
    assert [type(m) for m in network] == [nn.Embedding, nn.Linear]
    torch.testing.assert_close(network[0].weight, table + bias)
    torch.testing.assert_close(network[1](torch.eye(4)) - network[1].bias, weight)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scheme", [BinaryNormalized(), BinaryWeightNetwork(norm=None), ReActNet()])
def test_a_recurrence_comes_back(kind, bias, scheme):
    torch.manual_seed(0)
    network = nn.Sequential(kind(5, 4, num_layers=2, bias=bias, bidirectional=True))
    x = torch.randn(6, 3, 5)
    before, weights = network[0](x), [w.clone() for w in network.parameters() if w.dim() == 2]
    onebit.convert(network, scheme, keep=())
    report = onebit.to_float(network)
    assert type(network[0]) is kind and report.converted == ("0",)
    assert all(map(torch.equal, weights, [w for w in network.parameters() if w.dim() == 2]))
    if kind is nn.GRU and bias and scheme.bias == "bits":
        return  # one bias served both halves of the candidate, which a float GRU keeps apart
    torch.testing.assert_close(network[0](x)[0], before[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_quantized_recurrence_computes_what_the_bits_do(kind):
    torch.manual_seed(0)
    network = nn.Sequential(kind(5, 4)).eval()
    onebit.convert(network, BinaryWeightNetwork(norm=None), keep=())
    x = torch.randn(6, 3, 5)
    before = network[0](x)
    onebit.to_float(network, "quantized")
    torch.testing.assert_close(network[0](x)[0], before[0], rtol=1e-4, atol=1e-5)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.table.weight


@pytest.mark.parametrize("values", ["latents", "quantized"])
def test_tied_weights_stay_tied_where_both_compute_the_same(values):
    network = Tied()
    onebit.convert(network, BinaryNormalized(), keep=())
    onebit.to_float(network, values)
    assert network.head.weight is network.table.weight
    assert (set(network.head.weight.flatten().tolist()) <= {0.0, 1.0}) == (values == "quantized")


def test_a_tie_is_cut_where_scales_differ():
    network = Tied()
    onebit.convert(network, BinaryWeightNetwork(), keep=())
    onebit.to_float(network, "quantized")
    assert network.table.weight.abs().std(0).max() < 1e-6  # a scale for each feature
    assert network.head.weight.abs().std(1).max() < 1e-6  # a scale for each token


def test_an_unknown_choice_is_named():
    with pytest.raises(ValueError, match="use 'latents' or 'quantized'"):
        onebit.to_float(nn.Sequential(), "bits")


def test_a_learned_threshold_leaves_nothing_behind():
    network = nn.Sequential(nn.Linear(4, 4))
    onebit.convert(network, ReActNet(), keep=())
    onebit.to_float(network)
    assert set(network.state_dict()) == {"0.weight", "0.bias"}
    assert not hasattr(network[0], "scheme")


@pytest.mark.parametrize("model", [None, 3, nn.Linear, [nn.Linear(2, 2)]])
def test_what_is_not_a_model_is_refused(model):
    with pytest.raises(ValueError, match=r"^\[to_float\] \w+ is not a PyTorch model: give an nn.Module"):
        onebit.to_float(model)
    with pytest.raises(ValueError, match=r"^\[to_float\] values=tensor\(\[0., 0.\]\): use 'latents' or 'quantized'"):
        onebit.to_float(nn.Sequential(), values=torch.zeros(2))
