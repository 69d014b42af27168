"""The networks of packed_families.py, written out: they need PyTorch only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class UNet(nn.Module):
    """Three levels with two convolutions each, of 16 to 64 channels (arXiv 1505.04597)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = self.block(3, 16), self.block(16, 32), self.block(32, 64)
        self.up_b, self.up_a = nn.ConvTranspose2d(64, 32, 2, 2), nn.ConvTranspose2d(32, 16, 2, 2)
        self.d, self.e, self.head = self.block(64, 32), self.block(32, 16), nn.Conv2d(16, 4, 1)
        self.pool = nn.MaxPool2d(2)

    def block(self, inputs: int, outputs: int) -> nn.Module:
        parts: list[nn.Module] = []
        for before in (inputs, outputs):
            parts += [nn.Conv2d(before, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        return nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(self.pool(a))
        y = self.up_b(self.c(self.pool(b)))
        y = self.up_a(self.d(torch.cat([y, b], 1)))
        return self.head(self.e(torch.cat([y, a], 1))).mean((2, 3))


def depthwise() -> nn.Module:
    """Six depthwise 3x3 convolutions of 96 channels; the first layer makes them of three."""
    layers: list[nn.Module] = [nn.Conv2d(3, 96, 3, padding=1, bias=False)]
    for _ in range(6):
        layers += [nn.Conv2d(96, 96, 3, padding=1, groups=96, bias=False), nn.BatchNorm2d(96), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 4))


class Squeeze(nn.Module):
    """Squeeze and excitation, with a quarter of the channels in multiples of 8."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        few = max(8, (channels // 4 + 4) // 8 * 8)
        self.fc1, self.fc2 = nn.Conv2d(channels, few, 1), nn.Conv2d(few, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))))


class Inverted(nn.Module):
    """An inverted residual block: wider, depthwise, narrower."""

    def __init__(
        self, inputs: int, kernel: int, wide: int, outputs: int, squeezes: bool, swish: bool, stride: int
    ) -> None:
        super().__init__()
        activation = nn.Hardswish if swish else nn.ReLU
        parts: list[nn.Module] = []
        if wide != inputs:
            parts += [nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), activation()]
        parts += [
            nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            activation(),
        ]
        if squeezes:
            parts.append(Squeeze(wide))
        self.layers = nn.Sequential(*parts, nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.adds else y


def mobilenet_v3_small() -> nn.Module:
    """MobileNetV3-Small (arXiv 1905.02244, table 2) of 4 classes."""
    rows = [
        (3, 16, 16, True, False, 2),
        (3, 72, 24, False, False, 2),
        (3, 88, 24, False, False, 1),
        (5, 96, 40, True, True, 2),
    ]
    rows += [(5, 240, 40, True, True, 1)] * 2 + [(5, 120, 48, True, True, 1), (5, 144, 48, True, True, 1)]
    rows += [(5, 288, 96, True, True, 2)] + [(5, 576, 96, True, True, 1)] * 2
    parts: list[nn.Module] = [nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish()]
    inputs = 16
    for kernel, wide, outputs, squeezes, swish, stride in rows:
        parts.append(Inverted(inputs, kernel, wide, outputs, squeezes, swish, stride))
        inputs = outputs
    parts += [
        nn.Conv2d(96, 576, 1, bias=False),
        nn.BatchNorm2d(576),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ]
    return nn.Sequential(*parts, nn.Linear(576, 1024), nn.Hardswish(), nn.Linear(1024, 4))


class Block(nn.Module):
    """A block of a vision transformer that normalises first."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.qkv, self.proj = nn.Linear(features, 3 * features), nn.Linear(features, features)
        self.mlp = nn.Sequential(nn.Linear(features, 4 * features), nn.GELU(), nn.Linear(4 * features, features))

    def forward(self, x: Tensor) -> Tensor:
        batch, rows, features = x.shape
        q, k, v = (
            self.qkv(self.norm1(x))
            .reshape(batch, rows, 3, self.heads, features // self.heads)
            .permute(2, 0, 3, 1, 4)
            .unbind(0)
        )
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, rows, features)
        x = x + self.proj(y)
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """ViT-Tiny: 12 blocks of 192 features and 3 heads over patches of 16 x 16 (arXiv 2012.12877)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 192, 16, 16)
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, 192)), nn.Parameter(torch.randn(1, 197, 192))
        self.blocks = nn.Sequential(*[Block(192, 3) for _ in range(12)])
        self.norm, self.head = nn.LayerNorm(192), nn.Linear(192, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


# Each with the side of its images, and whether OpenVINO is told that it is a transformer.
NETWORKS: dict[str, tuple[Callable[[], Any], int, bool]] = {
    "ViT-tiny": (ViT, 224, True),
    "MobileNetV3-small": (mobilenet_v3_small, 224, False),
    "U-Net": (UNet, 128, False),
    "depthwise 3x3": (depthwise, 64, False),
}
