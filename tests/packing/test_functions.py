"""Functions between layers, and what other libraries' networks are made of."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import onebit
from onebit import ImageTask, TextTask
from onebit._engine import Engine
from onebit.errors import PackError
from onebit.fileformat import load_model
from onebit.nn import BinaryConv2d, BinaryLinear
from onebit.packing import to_packed_model
from onebit.packing.trace import trace
from onebit.runtime import reference
from onebit.schemes import BinaryNormalized, BinaryWeightNetwork, BitNet158, DoReFa, ReActNet, XnorNet
from onebit.text import PAD, SEPARATOR, UNKNOWN

TASK = ImageTask(tuple("abcde"), (12, 10))


class Calls(nn.Module):
    """A convolution, a function, and a dense layer."""

    def __init__(self, function, features=6 * 12 * 10):
        super().__init__()
        self.function = function
        self.conv = BinaryConv2d(3, 6, 3, padding=1, scheme=BinaryWeightNetwork())
        self.gain = nn.Parameter(torch.randn(6))
        self.places = nn.Parameter(torch.randn(1, 6, 12, 10))
        self.square = nn.Parameter(torch.randn(120, 120) / 10)
        self.gelu, self.up, self.drop = nn.GELU("tanh"), nn.Upsample(scale_factor=2), nn.Dropout(0.5)
        self.head = nn.Linear(features, 5)

    def forward(self, x):
        y = self.function(self, self.conv(x))
        return self.head(y.view(y.size(0), -1))


def check(model, task=TASK):
    torch.manual_seed(0)
    packed = to_packed_model(model.eval(), task)
    engine = Engine(packed.program.to_json(), packed.tensors, "float32", 1)
    pixels = np.random.default_rng(0).integers(0, 256, (3, *task.image_size, 3), np.uint8)
    x = torch.tensor((pixels / 255 - 0.5) / 0.5, dtype=torch.float32).permute(0, 3, 1, 2).contiguous()
    with torch.no_grad():
        expected = model(x).numpy()
    assert np.isfinite(expected).all()
    for y in (reference.run(packed.program, packed.tensors, pixels, "float32"), engine.run(pixels)):
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    return packed


FUNCTIONS = {
    "relu": lambda m, y: F.relu(y, inplace=True),
    "silu": lambda m, y: F.silu(y),
    "gelu": lambda m, y: F.gelu(y) + F.gelu(y, approximate="tanh"),
    "gelu_layer": lambda m, y: m.gelu(y),
    "hard": lambda m, y: F.hardswish(y) + F.hardsigmoid(y) + F.relu6(4 * y) + F.hardtanh(y, -0.5, 0.25),
    "leaky_relu": lambda m, y: F.leaky_relu(y, 0.3),
    "sigmoid_tanh": lambda m, y: torch.sigmoid(y) * y.tanh(),
    "clamp": lambda m, y: y.clamp(-0.2, 0.3).clamp_(min=-0.1, max=0.2),
    "constants": lambda m, y: (2 - (y * -3 + 1) / 7) - 0.25 * y,
    "channels": lambda m, y: y * m.gain.reshape(1, -1, 1, 1) + torch.abs(m.gain)[:, None, None],
    "squeeze_and_excitation": lambda m, y: torch.sigmoid(y.mean((2, 3), keepdim=True)) * y,
    "rows_scaled": lambda m, y: y * torch.sigmoid(y[:, 2:3]),
    "flat_and_back": lambda m, y: y.flatten(2).unflatten(2, (12, 10)),
    "turned": lambda m, y: F.relu(y.permute(0, 2, 3, 1)).transpose(1, 2).permute(0, 3, 2, 1),
    "shuffled": lambda m, y: y.view(y.shape[0], 2, 3, 12, 10).transpose(1, 2).reshape(y.shape),
    "parts": lambda m, y: torch.cat([y.chunk(3, 1)[2], F.relu(y[:, :4])], 1),
    "split": lambda m, y: torch.cat([torch.split(y, [1, 2, 3], dim=1)[2], y.split(3, dim=1)[0]], dim=1),
    "lines": lambda m, y: torch.cat([y[:, :, 5:], y[:, :, :5]], 2) + torch.cat([y[..., 5:], y[..., :5]], -1),
    "unbound": lambda m, y: torch.stack([y.unbind(1)[i] for i in (3, 1, 2, 0, 5, 4)], 1),
    "squeezed": lambda m, y: y[:, 0].unsqueeze(1).squeeze(1)[:, None] * y - y,
    "constant": lambda m, y: y + m.places,
    "pooled_most": lambda m, y: y * F.adaptive_max_pool2d(y, 1) - y.amax((2, 3), keepdim=True) * y,
    "resized": lambda m, y: F.interpolate(
        F.interpolate(y, size=(7, 20)), (12, 10), mode="bilinear", align_corners=True
    ),
    "scaled_up": lambda m, y: (
        F.avg_pool2d(F.interpolate(y, scale_factor=2, mode="bilinear"), 2) + m.up(F.avg_pool2d(y, 2))
    ),
    "attention": lambda m, y: F.scaled_dot_product_attention(y, F.relu(y), 2 * y),
    "attention_by_hand": lambda m, y: m.drop((y @ F.relu(y).transpose(-2, -1) * 0.5).softmax(-1)) @ y,
    "softmax": lambda m, y: y.softmax(1) + F.softmax(y, 3) + torch.softmax(y.flatten(2), -1).view(y.shape),
    "linear": lambda m, y: F.linear(y.flatten(2), m.square, m.square[0]).view(y.shape),
    "mixed": lambda m, y: (y.flatten(2) @ m.square).transpose(1, 2).reshape(y.size(0), 12, 10, 6).permute(0, 3, 1, 2),
    "difference": lambda m, y: y - F.relu(y),
    "dropout": lambda m, y: F.dropout(y, 0.5, m.training),
    "contiguous": lambda m, y: y.contiguous().reshape(y.shape[0], 720).flatten(1),
    "assertion": lambda m, y: (torch._assert(y.ndim == 4, "images"), y)[1],
}
SMALLER = {
    "mean": (lambda m, y: y.mean((2, 3)), 6),
    "mean_kept": (lambda m, y: y.mean((-2, -1), keepdim=True), 6),
    "mean_of_channels": (lambda m, y: y.mean(1), 12 * 10),
    "mean_of_columns": (lambda m, y: y.mean(-1, keepdim=True), 6 * 12),
    "mean_of_two": (lambda m, y: y.mean((1, 3)), 12),
    "mean_of_rows": (lambda m, y: y.flatten(2).mean(2), 6),
    "most_of_channels": (lambda m, y: y.amax((1, -1)), 12),
    "max": (lambda m, y: y.max(2)[0], 6 * 10),
    "adaptive": (lambda m, y: F.adaptive_avg_pool2d(y, 1), 6),
    "avg_pool": (lambda m, y: F.avg_pool2d(y, 2, ceil_mode=True), 6 * 6 * 5),
    "max_pool": (lambda m, y: F.max_pool2d(y, 3, stride=3, padding=1), 6 * 4 * 4),
    "layer_norm_of_all": (lambda m, y: F.layer_norm(y, (6, 12, 10), m.places[0], m.places[0] + 1), 6 * 12 * 10),
    "layer_norm_of_images": (lambda m, y: F.layer_norm(y, (12, 10), m.places[0, 0], m.places[0, 1]), 6 * 12 * 10),
    "layer_norm": (lambda m, y: F.layer_norm(y.mean((2, 3)), (6,), m.gain, m.gain), 6),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions(function):
    check(Calls(function))


@pytest.mark.parametrize(("function", "features"), SMALLER.values(), ids=SMALLER)
def test_functions_that_change_the_shape(function, features):
    check(Calls(function, features))


@pytest.mark.parametrize("make", [nn.Conv2d, BinaryConv2d])
def test_a_convolution_of_pixels_of_what_was_pooled_is_a_dense_layer(make):
    class Pooled(nn.Sequential):
        def forward(self, x):
            return self[2](self[1](self[0](x).mean((2, 3), keepdim=True)).flatten(1))

    packed = check(Pooled(nn.Conv2d(3, 6, 3), make(6, 7, 1), nn.Linear(7, 5)))
    assert packed.program.steps[-2 if make is nn.Conv2d else -3].op.endswith("linear")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda m, y: torch.cumsum(y, 1), "the function 'cumsum' cannot be packed: use a layer, or transpose"),
        (lambda m, y: torch.cat([y, y]), "an operation along the batch cannot be packed"),
        (lambda m, y: torch.cat([y, y[:, :, 1:]], 1), "do not fit each other"),
        (lambda m, y: torch.cat([y, m.gain.reshape(1, 6, 1, 1)], 1), "only as rows before those of"),
        (lambda m, y: y.permute(0, 1, 2), "does not fit a tensor of shape"),
        (lambda m, y: y.transpose(1, 4), "the axis 4 cannot be packed"),
        (lambda m, y: y + y.mean((2, 3)), "give them as many axes"),
        (lambda m, y: y[:, ::2], "slices of step 1"),
        (lambda m, y: y[1:], "keep the batch"),
        (lambda m, y: y @ y.transpose(2, 3), "only as an attention"),
        (lambda m, y: (y @ y.transpose(2, 3)) @ y, r"with a softmax\(-1\) of the first two"),
        (lambda m, y: F.scaled_dot_product_attention(y, y, y, torch.rand(3, 12)), "does not fit an attention of"),
        (
            lambda m, y: F.scaled_dot_product_attention(y, y[:, :, 1:], y[:, :, 1:], is_causal=True),
            "a causal attention of 12 queries to 11 keys",
        ),
        (lambda m, y: F.interpolate(y, scale_factor=2, mode="bicubic"), r"Upsample\(mode='bicubic'\) cannot be packed"),
        (lambda m, y: F.interpolate(y, scale_factor=1.3), "use whole sizes"),
        (lambda m, y: y.expand(-1, 12, -1, -1), "leave it to the sum or product that follows"),
        (lambda m, y: y.add(y, alpha=2), "add with alpha"),
        (lambda m, y: 1 / y, "divide by a number"),
        (lambda m, y: y * m.head.weight, "use a number, or one for each channel"),
        (lambda m, y: y.flatten(0, 1), r"use flatten\(1\)"),
        (lambda m, y: y.reshape(-1, 3), "does not keep the batch first"),
        (lambda m, y: y.mean(0), r"mean over the batch cannot be packed"),
        (lambda m, y: y.amax((1, 2, 3)), r"amax over all axes cannot be packed"),
        (lambda m, y: y.max(), r"use max over one axis, or amax"),
        (lambda m, y: F.dropout(y, 0.5), "training=self.training"),
        (lambda m, y: y.clamp(min=0), "two numbers"),
        (lambda m, y: y.T, "the attribute 'T' cannot be packed"),
        (lambda m, y: y.relu(1, 2, 3), "cannot be packed with these arguments"),
        (lambda m, y: F.max_pool2d(y, 7, ceil_mode=True), "ceil_mode where windows do not fit"),
    ],
)
def test_what_cannot_be_packed_is_named(function, message):
    with pytest.raises(PackError, match=rf"\[pack\] \w+: .*{message}"):
        to_packed_model(Calls(function), TASK)


class Doubling(BinaryLinear):
    def forward(self, x):
        return super().forward(x) * 2


def test_a_layer_with_a_forward_of_its_own_is_not_taken_for_the_one_it_derives_from():
    with pytest.raises(PackError):
        to_packed_model(nn.Sequential(nn.Flatten(), Doubling(360, 5)), TASK)

    class Act(nn.BatchNorm2d):
        def forward(self, x):
            return torch.relu(super().forward(x))

    with pytest.raises(PackError):
        to_packed_model(nn.Sequential(Act(3), nn.Flatten(), nn.Linear(360, 5)), TASK)


class BatchNormAct2d(nn.BatchNorm2d):
    """timm's, as far as a packed model is concerned."""

    def __init__(self, channels):
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.SiLU()

    def forward(self, x):
        return self.act(self.drop(F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)))


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x):
        return F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps).permute(
            0, 3, 1, 2
        )


BatchNormAct2d.__module__ = LayerNorm2d.__module__ = "timm.layers.norm_act"


def test_norms_of_timm():
    norm, layer_norm = BatchNormAct2d(6), LayerNorm2d(6)
    with torch.no_grad():
        for p in (norm.weight, norm.bias, norm.running_mean, layer_norm.weight, layer_norm.bias):
            p.normal_()
    check(nn.Sequential(nn.Conv2d(3, 6, 3), norm, layer_norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)))


class Tied(nn.Module):
    context = 6

    def __init__(self, vocabulary):
        super().__init__()
        self.table = nn.Embedding(vocabulary, 8)
        self.body = nn.Linear(8, 8)
        self.head = nn.Linear(8, vocabulary, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens):
        return self.head(F.gelu(self.body(self.table(tokens))))


@pytest.mark.parametrize(
    ("scheme", "stored"),
    [
        (None, 1),
        (BinaryNormalized(normalize=None), 1),
        (BinaryWeightNetwork(), 1),
        (BitNet158(), 3),
        (DoReFa(3, 32), 4),
    ],
)
def test_tied_weights_are_stored_once_and_embeddings_may_have_several_planes(scheme, stored):
    torch.manual_seed(0)
    model = Tied(11).eval()
    if scheme is not None:
        onebit.convert(model, scheme, keep="body")
    result = trace(model, (6,), tokens=True)
    tables = [name for name in result.tensors if name.startswith(("table.weight", "head.weight"))]
    # Several planes lie side by side in a dense layer, and each by itself in an embedding.
    assert len(tables) == stored
    tokens = np.arange(5)[None]
    with torch.no_grad():
        expected = model(torch.tensor(tokens)).numpy()
    np.testing.assert_allclose(
        reference.run(result.program, result.tensors, tokens, "float32"), expected, rtol=1e-4, atol=1e-5
    )


def test_a_layer_that_is_the_whole_model():
    check(nn.Sequential(nn.Flatten(), nn.Linear(360, 5)))
    result = trace(BinaryLinear(7, 5).eval(), (7,))
    assert [step.op for step in result.program.steps] == ["bit_linear", "normalize"]


def words(count):
    return TextTask((PAD, UNKNOWN, SEPARATOR, *(f"w{i}" for i in range(count - 3))), alphabet="words")


@pytest.mark.parametrize("scheme", [None, BitNet158(), BinaryWeightNetwork(), XnorNet(), ReActNet()])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu2"])
def test_gpt2(scheme, activation, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=30, n_positions=8, n_embd=12, n_layer=2, n_head=3, activation_function=activation
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    if scheme is not None:
        onebit.convert(model, scheme)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    onebit.pack(model, tmp_path / "gpt2.onebit", words(30))
    packed = load_model(tmp_path / "gpt2.onebit")
    tokens = np.random.default_rng(0).integers(0, 30, 7)
    with torch.no_grad():
        expected = model(torch.tensor(tokens[None])).logits[0].numpy()
    session = onebit.load(tmp_path / "gpt2.onebit", "float32")
    for y in (reference.run(packed.program, packed.tensors, tokens[None], "float32")[0], session.logits(tokens, True)):
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert not any(name.startswith("lm_head") for name in packed.tensors)  # tied


def test_gpt2_with_projections_normalised_together_says_what_it_lacks():
    transformers = pytest.importorskip("transformers")
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=30, n_positions=8, n_embd=12, n_layer=1, n_head=3)
    )
    onebit.convert(model)
    with pytest.raises(PackError, match=r"h.0.attn.c_attn normalises over several projections at once, .*BitNet\(\)"):
        to_packed_model(model, words(30))
