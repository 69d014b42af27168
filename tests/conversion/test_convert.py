"""Conversion of any model: what becomes binary, what does not and why, and that nothing else changes."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

import onebit
from onebit.errors import OnebitError
from onebit.nn import BinaryConv2d, BinaryEmbedding, BinaryLinear, BinaryMultiheadAttention, BinaryTransposedLinear
from onebit.schemes import (
    SCHEMES,
    BinaryConnect,
    BinaryNet,
    BinaryNormalized,
    BinaryWeightNetwork,
    Bipolar,
    NormFree,
    ReActNet,
    XnorNet,
)


class Conv1D(nn.Module):
    """GPT-2's dense layer, as Hugging Face writes it."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(nx, nf))
        self.bias = nn.Parameter(torch.randn(nf))

    def forward(self, x):
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(*x.shape[:-1], self.nf)


def mlp():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


def reasons(report):
    return {layer.name: layer.reason for layer in report if not layer.converted}


LAYERS = [
    (lambda: nn.Linear(6, 8), (4, 6)),
    (lambda: nn.Conv1d(4, 6, 3, padding="same"), (2, 4, 9)),
    (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), (2, 4, 7, 8)),
    (lambda: nn.Conv3d(4, 6, 2, stride=2), (2, 4, 5, 6, 4)),
    (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2), (2, 4, 5, 6)),
    (lambda: Conv1D(8, 6), (2, 3, 6)),
    (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 7, 8)),
]


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_a_converted_layer_computes_with_the_signs_of_its_weight(make, shape):
    model = nn.Sequential(make())
    twin = make()
    twin.load_state_dict(model[0].state_dict())
    assert onebit.convert(model, BinaryConnect(), keep=()).converted == ("0",)
    with torch.no_grad():
        twin.weight.copy_(torch.where(twin.weight >= 0, 1.0, -1.0))
    x = torch.randn(shape)
    torch.testing.assert_close(model(x), twin(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scheme", [pytest.param(kind(), id=name) for name, kind in SCHEMES.items()])
@pytest.mark.parametrize(("make", "shape"), LAYERS[:6])
def test_every_scheme_converts_every_layer_or_says_why_not(scheme, make, shape):
    model = nn.Sequential(make())
    report = onebit.convert(model, scheme, keep=())
    if not report.converted:
        assert "use" in report.layers[0].reason and scheme.input_scale
        return
    model(torch.randn(shape)).square().sum().backward()
    assert model[0].weight.grad.isfinite().all()


def test_an_embedding_keeps_its_options():
    model = nn.Sequential(nn.Embedding(10, 6, padding_idx=2, scale_grad_by_freq=True))
    report = onebit.convert(model, BinaryWeightNetwork(), keep=())
    assert "row 2, the padding, becomes bits too" in report.layers[0].reason
    latent = model[0].weight.detach()
    tokens = torch.tensor([[1, 2, 1]])
    expected = F.embedding(tokens, latent.sign() * latent.abs().mean(0)).masked_fill(tokens[..., None] == 2, 0)
    expected[0, 1] = latent.abs().mean(0) * torch.where(latent[2] >= 0, 1.0, -1.0)
    torch.testing.assert_close(model(tokens), expected)
    onebit.convert(
        other := nn.Sequential(nn.Embedding(10, 6, padding_idx=2, scale_grad_by_freq=True)), BinaryConnect(), keep=()
    )
    with torch.no_grad():
        other[0].weight.fill_(0.5)
    other(tokens).sum().backward()
    # Twice the token 1, its gradient divided by two; none for the padding.
    assert torch.equal(other[0].weight.grad.sum(1), torch.tensor([0.0, 6, 0, 0, 0, 0, 0, 0, 0, 0]))


def test_first_and_last_stay_by_default():
    model = mlp()
    report = onebit.convert(model)
    assert [type(model[i]) for i in (0, 2, 4)] == [nn.Linear, BinaryLinear, nn.Linear]
    assert reasons(report) == {"0": "kept: the first layer", "4": "kept: the last layer"}
    assert model[2].scheme == Bipolar()
    assert len(report) == 3
    assert "1 of 3 layers converted, 72 of 155 parameters" in str(report)


@pytest.mark.parametrize(
    "layer", [nn.Embedding(5, 4), nn.MultiheadAttention(4, 2), nn.LSTM(4, 4), nn.GRU(4, 4), Conv1D(4, 4)]
)
def test_statistics_of_a_batch_are_not_for_models_of_sequences(layer):
    model = nn.Sequential(nn.Linear(4, 4), layer)
    assert onebit.convert(model, keep=()).converted == ("0", "1")
    assert model[0].scheme == Bipolar(normalize="channel")


def test_statistics_of_a_batch_are_over_all_rows_of_a_dense_layer():
    layer = nn.Linear(6, 4)
    onebit.convert(layer, keep=())
    x = torch.randn(3, 5, 6)
    y = layer(x)
    torch.testing.assert_close(y.mean((0, 1)), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(y.var((0, 1), correction=0), torch.ones(4), rtol=1e-3, atol=0)
    layer.eval()
    torch.testing.assert_close(layer(x)[1], layer(x[1]))


def test_what_to_keep_and_where():
    model = nn.ModuleDict({"stem": mlp(), "body": mlp(), "head": mlp()})
    report = onebit.convert(model, where=lambda name, layer: layer.out_features == 8, keep=["stem", "body.?", "last"])
    assert report.converted == ("head.0", "head.2")
    assert reasons(report)["stem.2"] == "kept: 'stem'"
    assert reasons(report)["body.4"] == "kept: 'body.?'"
    assert onebit.convert(mlp(), where=lambda name, layer: name != "2", keep="first").converted == ("4",)
    with pytest.raises(
        ValueError, match=r"keep='tail' matches no layer: use 'first', 'last' or names such as '0', '2'"
    ):
        onebit.convert(mlp(), keep=["tail"])
    with pytest.raises(ValueError, match="use one of onebit.schemes"):
        onebit.convert(mlp(), "BinaryNet")


class Doubling(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("layer", "scheme", "reason"),
    [
        (nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), None, "computed from other tensors"),
        (nn.utils.parametrizations.orthogonal(nn.Linear(4, 4)), None, "computed from other tensors"),
        (prune.l1_unstructured(nn.Linear(4, 4), "weight", 3), None, "computed from other tensors"),
        (nn.Embedding(4, 4, max_norm=1), None, "max_norm rescales"),
        (nn.Embedding(4, 4, sparse=True), None, "sparse=True"),
        (nn.Embedding(4, 4), BinaryNormalized(normalize="batch"), "applies to images"),
        (nn.Conv2d(4, 4, 3, groups=2), XnorNet(), r"use XnorNet\(input_scale=False\)"),
        (nn.Conv2d(4, 4, 3, padding_mode="reflect"), XnorNet(), "windows with zero padding"),
        (nn.ConvTranspose2d(4, 4, 3), XnorNet(), "magnitude of each window"),
        (nn.ConvTranspose2d(4, 4, 3, groups=2), None, "groups=2: use 1"),
        (nn.MultiheadAttention(4, 2, add_bias_kv=True), None, "add_bias_kv"),
        (nn.MultiheadAttention(4, 2, add_zero_attn=True), None, "add_zero_attn"),
        (nn.MultiheadAttention(4, 2), BinaryNormalized(normalize="batch"), "applies to images"),
        (nn.LSTM(4, 4, num_layers=2, dropout=0.1), None, "dropout between its layers"),
        (nn.LSTM(4, 4, proj_size=2), None, "proj_size"),
        (nn.GRU(4, 4), BinaryNormalized(normalize="batch"), "per time step"),
        (nn.LazyLinear(4), None, "run the model once first"),
        (nn.Linear(4, 4, dtype=torch.complex64), None, "torch.complex64"),
        (Doubling(4, 4), None, "a Linear with its own forward"),
        (nn.Bilinear(3, 3, 3), None, "no binary form is known; contains weight, bias"),
        (nn.LayerNorm(4), None, "vectors with one number per channel stay float"),
        (BinaryLinear(4, 4), None, "is already binary"),
    ],
)
def test_what_is_not_converted_says_why(layer, scheme, reason):
    before = type(layer)
    report = onebit.convert(nn.Sequential(layer), scheme, keep=())
    assert [r.converted for r in report] == [False]
    assert re.search(reason, report.layers[0].reason)
    assert type(layer) is before


def test_the_attention_of_a_layer_that_is_not_converted_keeps_its_projection():
    model = nn.Sequential(nn.MultiheadAttention(4, 2, add_bias_kv=True))
    onebit.convert(model, keep=())
    assert not any(isinstance(m, BinaryLinear) for m in model.modules())
    x = torch.randn(3, 1, 4)
    model[0](x, x, x)


def test_what_is_no_model_is_named():
    with pytest.raises(ValueError, match=r"\[convert\] int is not a PyTorch model: give an nn.Module"):
        onebit.convert(3)


def test_latents_that_are_not_finite_are_named_and_nothing_is_converted():
    model = mlp()
    with torch.no_grad():
        model[4].weight[1, 1] = float("nan")
    with pytest.raises(OnebitError, match=r"\[convert\] 4.weight contains NaN or infinity"):
        onebit.convert(model, keep=())
    assert not any(isinstance(m, BinaryLinear) for m in model.modules())
    with torch.no_grad():
        model[4].weight.fill_(3e38)  # its sum overflows, its elements are sound
    assert len(onebit.convert(model, keep=()).converted) == 3


def test_modules_parameters_hooks_and_flags_stay():
    model = mlp().to(torch.bfloat16).eval()
    model[0].weight.requires_grad_(False)
    calls = []
    model[2].register_forward_hook(lambda *args: calls.append("layer"))
    modules, parameters = list(model.modules()), list(model.parameters())
    state = {name: value.clone() for name, value in model.state_dict().items()}
    onebit.convert(model, NormFree(), keep=())
    assert list(model.modules()) == modules
    assert all(any(p is q for q in model.parameters()) for p in parameters)
    assert not model[0].weight.requires_grad and not model[0].threshold.requires_grad
    assert model[2].threshold.requires_grad and model[2].gain.dtype == torch.bfloat16
    assert not any(m.training for m in model.modules())
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
    assert model(torch.randn(2, 6, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert calls == ["layer"]


def test_statistics_lie_beside_the_latents():
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).to(torch.float64).eval()
    onebit.convert(model, BinaryNormalized(normalize="batch"), keep=())
    assert model[0].normalize.running_mean.dtype == torch.float64
    assert not model[0].normalize.training


def test_on_another_device():
    model = mlp().to("meta")
    assert len(onebit.convert(model, ReActNet(), keep=()).converted) == 3
    assert model[0].threshold.device.type == "meta"


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens):
        return self.head(self.body(self.table(tokens)))


def test_tied_weights_stay_tied():
    model = Tied()
    assert onebit.convert(model, keep=()).converted == ("table", "body", "head")
    assert model.head.weight is model.table.weight
    assert isinstance(model.table, BinaryEmbedding) and isinstance(model.head, BinaryLinear)
    model(torch.tensor([[1, 2]])).sum().backward()
    assert sum(p.numel() for p in model.parameters()) == 28 + 20


def test_a_weight_is_bits_in_all_its_layers_or_in_none():
    report = onebit.convert(Tied(), keep="last")
    assert report.converted == ("body",)
    assert reasons(report)["table"] == "its weight is also that of head, which stays"


@pytest.mark.parametrize("scheme", [BinaryNormalized(), BinaryNet(), XnorNet()])
@pytest.mark.parametrize("norm_first", [True, False])
def test_a_transformer_computes_with_bits_in_evaluation_too(scheme, norm_first):
    torch.manual_seed(0)
    model = nn.Transformer(12, 2, 2, 1, 16, batch_first=True, dropout=0.0, norm_first=norm_first)
    onebit.convert(model, scheme, keep=())
    assert sum(isinstance(m, BinaryMultiheadAttention) for m in model.modules()) == 4
    source, target = torch.randn(2, 5, 12), torch.randn(2, 4, 12)
    padding = torch.tensor([[False] * 5, [False, False, False, True, True]])
    options = {"src_key_padding_mask": padding, "tgt_mask": model.generate_square_subsequent_mask(4)}
    trained = model(source, target, **options, memory_key_padding_mask=padding)
    model.eval()
    with torch.no_grad():
        used = model(source, target, **options, memory_key_padding_mask=padding)
    torch.testing.assert_close(used, trained, rtol=1e-4, atol=1e-4)


def test_the_fast_path_does_not_pass_by_a_single_binary_layer():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(12, 2, 16, dropout=0.0, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2).eval()
    x, padding = torch.randn(2, 5, 12), torch.tensor([[False] * 5, [False, False, False, True, True]])
    with torch.no_grad():
        before = encoder(x, src_key_padding_mask=padding)
        onebit.convert(encoder, where=lambda name, layer: name.endswith("linear1"), keep=())
        after = encoder(x, src_key_padding_mask=padding)
        slow = encoder.train()(x, src_key_padding_mask=padding)
        torch.testing.assert_close(after, slow, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(after[0], before[0], atol=1e-2)
        onebit.to_float(encoder.eval())
        torch.testing.assert_close(encoder(x, src_key_padding_mask=padding), before, rtol=1e-4, atol=1e-5)
    assert encoder.use_nested_tensor and encoder.layers[0].activation_relu_or_gelu == 1


def test_the_table_puts_layers_of_a_kind_on_one_line():
    model = nn.Sequential(*(mlp() for _ in range(20)), Conv1D(3, 3))
    text = str(onebit.convert(model, keep="last"))
    lines = text.splitlines()
    assert len(lines) == 3 + 2
    assert lines[3].split() == ["*.*", "Linear", "60", "3,100", "yes"]
    assert lines[4].split()[:5] == ["20", "Conv1D", "1", "12", "no"]
    assert isinstance(model[0][0], BinaryLinear) and not isinstance(model[20], BinaryTransposedLinear)


def test_a_model_that_is_one_layer_and_a_shared_module():
    layer = nn.Conv2d(3, 4, 3)
    report = onebit.convert(layer, keep=())
    assert isinstance(layer, BinaryConv2d) and "(the model)" in str(report)
    shared = nn.Linear(3, 3)
    assert onebit.convert(nn.Sequential(shared, shared), keep=()).converted == ("0",)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_a_recurrence_computes_with_scaled_signs(kind, bias, batch_first):
    torch.manual_seed(0)
    options = {"num_layers": 2, "bias": bias, "batch_first": batch_first, "bidirectional": True}
    model, twin = nn.Sequential(kind(5, 4, **options)), kind(5, 4, **options)
    twin.load_state_dict(model[0].state_dict())
    for name, weight in twin.named_parameters():
        if "weight" in name:
            weight.data = weight.sign() * weight.abs().mean(1, keepdim=True)
    report = onebit.convert(model.eval(), BinaryWeightNetwork(norm=None), keep=())
    assert "not packed sequences" in report.layers[0].reason
    x = torch.randn(3, 6, 5)
    torch.testing.assert_close(model[0](x), twin(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scheme", [BinaryNormalized(), BinaryNet(), BinaryWeightNetwork()])
def test_the_biases_of_a_recurrence_are_kept(scheme):
    model = nn.Sequential(nn.GRU(5, 4))
    b_ih, b_hh = model[0].bias_ih_l0.detach().clone(), model[0].bias_hh_l0.detach().clone()
    onebit.convert(model, scheme, keep=())
    part = model[0].layers[0]
    kept = (part.inputs if part.inputs.bias is not None else part.input_norm).bias
    own = 4 if part.bias is not None else 0
    torch.testing.assert_close(kept[: 12 - own], (b_ih + b_hh)[: 12 - own])
    if own:
        torch.testing.assert_close(torch.cat([kept[8:], part.bias]), torch.cat([b_ih[8:], b_hh[8:]]))


@pytest.mark.parametrize("keep", [None, 3, [3], [None], b"first", torch.zeros(2), nn.Linear])
def test_what_is_kept_is_named_by_texts(keep):
    model = mlp()
    with pytest.raises(ValueError, match=r"^\[convert\] keep=.*: use 'first', 'last' and names of layers"):
        onebit.convert(model, keep=keep)
    with pytest.raises(ValueError, match=r"^\[convert\] where=.*: give a function of a layer's name and the layer"):
        onebit.convert(model, where="0")
    assert onebit.convert(model, keep={"first"}).converted == ("2", "4")
