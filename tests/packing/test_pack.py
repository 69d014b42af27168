"""What is packed computes what was trained, and what cannot be packed is named."""

import numpy as np
import pytest
import torch
from torch import nn

from onebit import ImageTask
from onebit.errors import PackError
from onebit.fileformat import load_model
from onebit.models import conv_classifier
from onebit.nn import BinaryConv1d, BinaryConv2d, BinaryConv3d, BinaryConvTranspose2d, BinaryLinear, Normalize, RPReLU
from onebit.packing import pack, to_packed_model
from onebit.runtime import reference
from onebit.schemes import BinaryNormalized, ReActNet

TASK = ImageTask(tuple("abcde"), (12, 10), 3, (0.4, 0.5, 0.6), (0.2, 0.3, 0.2))
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 12, 10, 3), np.uint8)


def scaled(pixels=PIXELS):
    x = (pixels.astype(np.float32) / 255 - np.array(TASK.mean)) / np.array(TASK.std)
    return torch.tensor(x.astype(np.float32)).permute(0, 3, 1, 2)


def train_a_little(model):
    """Give every parameter and statistic a value of its own."""
    torch.manual_seed(0)
    model.train()
    for _ in range(3):
        model(scaled())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def check(model, rtol=1e-4):
    packed = to_packed_model(train_a_little(model), TASK)
    with torch.no_grad():
        expected = model(scaled()).numpy()
    y = reference.run(packed.program, packed.tensors, PIXELS, "float32")
    assert np.abs(y - expected).max() <= rtol * np.abs(expected).max()
    return packed


@pytest.mark.parametrize("values", ["01", "pm1"])
@pytest.mark.parametrize("normalize", ["channel", "example", "batch", None])
def test_the_classifier_in_every_form(values, normalize):
    check(conv_classifier(3, 5, (6, 9), logit_scale=2.5, scheme=BinaryNormalized(values, normalize=normalize)))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_float_twin(batch_norm):
    check(conv_classifier(3, 5, (6, 9), binary=False, batch_norm=batch_norm))


class Hybrid(nn.Module):
    """A residual network of float and binary layers, with functions between them."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=2, padding="valid", bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.conv = BinaryConv2d(
            8,
            8,
            (3, 2),
            padding="same",
            dilation=2,
            groups=2,
            bias=False,
            scheme=BinaryNormalized("pm1", normalize=None),
        )
        self.own_norm = Normalize("example")
        self.drop = nn.Dropout(0.5)
        self.pool = nn.MaxPool2d(2, stride=1, padding=1)
        self.dense = BinaryLinear(8 * 6 * 5, 7)
        self.out = nn.Linear(7, 5)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.drop(self.own_norm(self.conv(x)))
        x = torch.flatten(self.pool(x), 1)
        return self.out(nn.functional.gelu(self.dense(x))) * 0.5


def test_a_hybrid_packs_and_the_report_names_what_stayed_float(tmp_path):
    model = Hybrid()
    check(model)
    report = pack(model, tmp_path / "hybrid.onebit", TASK)
    names = {tensor.name for tensor in report.kept_float}
    assert {"stem.weight", "norm.scale", "norm.shift", "out.weight", "out.bias"} <= names
    assert not any(name.startswith(("conv", "dense")) for name in names)
    assert report.bit_parameters == sum(p.numel() for m in (model.conv, model.dense) for p in m.parameters())
    assert "stem.weight: 384 (a float layer)" in str(report)
    assert load_model(report.path).task["labels"] == list("abcde")


def test_the_file_is_32_times_smaller(tmp_path):
    model = conv_classifier(3, 5, (32, 64, 128, 256))
    report = pack(model, tmp_path / "a.onebit", TASK)
    assert report.bit_parameters == report.parameters == sum(p.numel() for p in model.parameters())
    assert report.file_bytes == report.path.stat().st_size
    # Rows are padded and the header takes a few kilobytes; the bits themselves are an exact thirty-second.
    assert 31 < report.bytes_before / report.parameter_bytes <= 32
    assert report.ratio > 28


def test_packing_leaves_the_model_training():
    model = conv_classifier(3, 5, (4,)).train()
    to_packed_model(model, TASK)
    assert model.training


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Softplus()), r"1: a layer of type Softplus cannot be packed: use .*ReLU"),
        (nn.Sequential(BinaryConvTranspose2d(3, 5, 3, dilation=2)), "0: ConvTranspose2d with dilation="),
        (
            nn.Sequential(BinaryConv3d(3, 5, 3)),
            r"0: BinaryConv3d of an input of shape .*: needs \(depth, height, width, channels\)",
        ),
        (BinaryConv1d(3, 5, 3), "a convolution over time of an input of shape"),
        (nn.Sequential(nn.Flatten(), nn.Linear(7, 5)), "does not fit an input of shape"),
        (nn.Sequential(nn.AvgPool2d(3, ceil_mode=True)), "AvgPool2d with .* ceil_mode where windows do not fit"),
        (nn.Sequential(BinaryConv2d(3, 5, 3), nn.AdaptiveAvgPool2d(2)), "use output_size=1"),
        (nn.Sequential(nn.Conv2d(3, 5, 3, padding=1, padding_mode="reflect")), "padding_mode='reflect'"),
        (nn.Sequential(nn.MaxPool2d(3, ceil_mode=True)), "MaxPool2d with .* ceil_mode where windows do not fit"),
        (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), "running statistics"),
    ],
)
def test_what_cannot_be_packed_is_named(model, message):
    with pytest.raises(PackError, match=message):
        to_packed_model(model, TASK)


def test_functions_and_control_flow_that_cannot_be_packed_are_named():
    class Sine(nn.Module):
        def forward(self, x):
            return torch.sin(x)

    class Branch(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(PackError, match="the function 'sin' cannot be packed"):
        to_packed_model(Sine(), TASK)
    with pytest.raises(PackError, match="Branch: the function 'sum' cannot be packed"):
        to_packed_model(Branch(), TASK)


def test_latents_with_nan_are_refused():
    model = conv_classifier(3, 5, (4,))
    with torch.no_grad():
        model.features[0].weight[0] = float("nan")
    with pytest.raises(PackError, match=r"features.0.weight hold NaN"):
        to_packed_model(model, TASK)


def test_float_layers_in_bfloat16_are_packed():
    model = train_a_little(nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), BinaryConv2d(8, 8, 3, scheme=ReActNet()), RPReLU(8), nn.GroupNorm(2, 8),
        nn.PReLU(), nn.Flatten(), nn.LayerNorm(384), nn.Linear(384, 5),
    )).bfloat16()  # fmt: skip
    packed = to_packed_model(model, TASK)
    same = to_packed_model(model.float(), TASK)
    assert all(np.array_equal(packed.tensors[name], tensor) for name, tensor in same.tensors.items())
