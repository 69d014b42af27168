"""Families of networks, written as their authors write them: each converts, trains for a step, packs, and gives what PyTorch gives."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import onebit
from onebit import ImageTask
from onebit._engine import Engine
from onebit.packing import to_packed_model
from onebit.runtime import reference
from onebit.schemes import BinaryWeightNetwork, BitNet158

SIDE = 16
TASK = ImageTask(tuple("abcde"), (SIDE, SIDE))


class UNet(nn.Module):
    """Down by pooling, up by a transposed convolution and by up-sampling, with what passes by (arXiv 1505.04597)."""

    def __init__(self):
        super().__init__()
        self.first, self.down, self.bottom = self.block(3, 8), self.block(8, 12), self.block(12, 16)
        self.up = nn.ConvTranspose2d(16, 12, 3, stride=2, padding=1, output_padding=1)
        self.middle, self.last = self.block(24, 12), self.block(20, 8)
        self.wider = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.head = nn.Conv2d(8, 5, 1)

    def block(self, inputs, outputs):
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())

    def forward(self, x):
        first = self.first(x)
        down = self.down(F.max_pool2d(first, 2))
        y = self.up(self.bottom(F.max_pool2d(down, 2)))
        y = self.middle(torch.cat([y, down], dim=1))
        y = self.last(torch.cat([self.wider(y), first], dim=1))
        return self.head(y).mean((2, 3))


class Squeeze(nn.Module):
    """Squeeze and excitation (arXiv 1709.01507), with the view of its authors."""

    def __init__(self, channels):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(nn.Linear(channels, 8), nn.ReLU(), nn.Linear(8, channels), nn.Hardsigmoid())

    def forward(self, x):
        b, c, _, _ = x.size()
        y = self.fc(self.pool(x).view(b, c)).view(b, c, 1, 1)
        return x * y.expand_as(x)


class MobileNetV3(nn.Module):
    """Inverted residuals with depthwise convolutions, hard swish, squeeze and excitation (arXiv 1905.02244)."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.blocks = nn.ModuleList([self.block(8, 24, 3), self.block(8, 16, 5)])
        self.classifier = nn.Sequential(nn.Conv2d(8, 32, 1), nn.Hardswish(), nn.Flatten(), nn.Linear(32, 5))

    def block(self, channels, wide, kernel):
        return nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.Hardswish(),
            nn.Conv2d(wide, wide, kernel, padding=kernel // 2, groups=wide, bias=False), nn.BatchNorm2d(wide), Squeeze(wide), nn.Hardswish(),
            nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.classifier(F.adaptive_avg_pool2d(x, 1))


class Attention(nn.Module):
    """As vision transformers have it: one projection for all three."""

    def __init__(self, features, heads, fused):
        super().__init__()
        self.heads, self.fused = heads, fused
        self.qkv, self.proj = nn.Linear(features, 3 * features), nn.Linear(features, features)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        batch, rows, features = x.shape
        qkv = self.qkv(x).reshape(batch, rows, 3, self.heads, features // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.0)
        else:
            y = self.drop((q * (features // self.heads) ** -0.5 @ k.transpose(-2, -1)).softmax(dim=-1)) @ v
        return self.proj(y.transpose(1, 2).reshape(batch, rows, features))


class ViT(nn.Module):
    """Patches, the token of a class, learned positions, blocks that normalise first (arXiv 2010.11929)."""

    def __init__(self, fused=True, features=24):
        super().__init__()
        self.patches = nn.Conv2d(3, features, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, features))
        self.positions = nn.Parameter(torch.randn(1, 17, features))
        self.norms = nn.ModuleList([nn.LayerNorm(features) for _ in range(5)])
        self.attention = nn.ModuleList([Attention(features, 3, fused) for _ in range(2)])
        self.mlp = nn.ModuleList(
            [nn.Sequential(nn.Linear(features, 48), nn.GELU(), nn.Linear(48, features)) for _ in range(2)]
        )
        self.head = nn.Linear(features, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        for i in range(2):
            x = x + self.attention[i](self.norms[2 * i](x))
            x = x + self.mlp[i](self.norms[2 * i + 1](x))
        return self.head(self.norms[4](x)[:, 0])


class Encoder(nn.Module):
    """PyTorch's own encoder over patches, and a cross-attention of one learned query."""

    def __init__(self, norm_first):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True, norm_first=norm_first, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(16), enable_nested_tensor=False)
        self.cross = nn.MultiheadAttention(16, 4, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.encoder(self.patches(x).flatten(2).transpose(1, 2))
        pooled, _ = self.cross(x.mean(1, keepdim=True), x, x, need_weights=False)
        return self.head(pooled.squeeze(1))


class Sound(nn.Module):
    """Convolutions over time: the lines of the image are channels."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(3 * SIDE, 24, 5, padding=2), nn.BatchNorm1d(24), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(24, 24, 3, padding=2, dilation=2, groups=24), nn.Conv1d(24, 20, 1), nn.GELU(),
            nn.AvgPool1d(3, 2, padding=1), nn.Conv1d(20, 16, 3, stride=2, padding="valid"), nn.AdaptiveMaxPool1d(1), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.layers(x.flatten(1, 2)))


class Film(nn.Module):
    """Residual blocks of volumes, as R3D has them (arXiv 1711.11248): the colours of the image are its time."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(1, 8, 3, (1, 2, 2), 1, bias=False), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d((1, 2, 2))
        )
        self.wide = self.block(8, 8, 1)
        self.deep = self.block(8, 16, 2)
        self.passing = nn.Sequential(nn.Conv3d(8, 16, 1, 2, bias=False), nn.BatchNorm3d(16))
        self.depthwise = nn.Conv3d(16, 16, (1, 3, 3), padding="same", groups=16)
        self.pool, self.head = nn.AdaptiveAvgPool3d(1), nn.Linear(16, 5)

    def block(self, inputs, outputs, stride):
        return nn.Sequential(
            nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm3d(outputs), nn.ReLU(),
            nn.Conv3d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm3d(outputs),
        )  # fmt: skip

    def forward(self, x):
        x = self.stem(x.unsqueeze(1))
        x = F.relu(x + self.wide(x))
        x = self.depthwise(F.relu(self.passing(x) + self.deep(x)))
        return self.head(self.pool(x).flatten(1))


class Mixer(nn.Module):
    """Dense layers over patches and over features (arXiv 2105.01601)."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, stride=4)
        self.norms = nn.ModuleList([nn.LayerNorm(12), nn.LayerNorm(12)])
        self.over_rows = nn.Sequential(nn.Linear(16, 20), nn.GELU(), nn.Linear(20, 16))
        self.over_features = nn.Sequential(nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 12))
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.over_rows(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        return self.head((x + self.over_features(self.norms[1](x))).mean(dim=1))


MODELS = {
    "unet": UNet,
    "mobilenetv3": MobileNetV3,
    "vit": ViT,
    "vit_by_hand": lambda: ViT(fused=False),
    "encoder": lambda: Encoder(False),
    "encoder_norm_first": lambda: Encoder(True),
    "conv1d": Sound,
    "mixer": Mixer,
    "conv3d": Film,
}


def trained(model, scheme):
    """Converted, and trained for a step, in which every latent moves."""
    report = onebit.convert(model, scheme)
    parts = [model.get_submodule(name) for name in report.converted]
    weights = [weight for part in parts for weight in part.parameters() if weight.dim() > 1]
    before = [weight.detach().clone() for weight in weights]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    loss = F.cross_entropy(model.train()(torch.randn(4, 3, SIDE, SIDE)), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    optimizer.step()
    assert math.isfinite(loss.item())
    assert weights
    assert all(not torch.equal(weight, old) for weight, old in zip(weights, before, strict=True))
    return model.eval()


@pytest.mark.parametrize("scheme", [BinaryWeightNetwork(), BitNet158()], ids=["signs", "ternary"])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_family_packs(make, scheme):
    torch.manual_seed(0)
    model = trained(make(), scheme)
    packed = to_packed_model(model, TASK)
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    x = torch.tensor((pixels / 255 - 0.5) / 0.5, dtype=torch.float32).permute(0, 3, 1, 2).contiguous()
    with torch.no_grad():
        expected = model(x).numpy()
    scale = np.abs(expected).max()
    own_levels = any("input" in step.attributes for step in packed.program.steps)
    bound = 0.05 if own_levels else 1e-4  # a number near a threshold may fall on its other side
    for precision, most in (("float32", bound), ("int8", 0.1)):
        engine = Engine(packed.program.to_json(), packed.tensors, precision, 2).run(pixels)
        assert np.abs(engine - expected).max() <= most * scale
        computed = reference.run(packed.program, packed.tensors, pixels, precision)
        assert np.abs(engine - computed).max() <= (bound if precision == "float32" else 0.05) * scale
