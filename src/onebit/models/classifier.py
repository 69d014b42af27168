"""The paper's convolutional classifier (algorithm 7) and its float twin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from onebit.models.adaptive import ExitClassifier, check_exits, pooled_head
from onebit.nn import BinaryConv2d, BinaryLinear
from onebit.nn.arguments import chosen_scheme
from onebit.nn.planes import most_planes, use_planes
from onebit.schemes import Scheme

# Channels of the blocks of two convolutions, then the dense layers before the last. The paper lists the second network. But it counts
# 5,132,165 parameters at 3x3 and 13,505,925 at 5x5, which are exactly those of the first network. So it trained the first.
NAMED_WIDTHS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "counted": ((32, 64, 128, 256, 512), (512, 256)),
    "listed": ((32, 64, 64, 128, 256), (256, 256)),
}
# The float twin's dropout after its first two dense layers (the paper's table 1).
TWIN_DROPOUT = (0.4, 0.3)


class ConvClassifier(nn.Module):
    """Blocks of two convolutions and a max-pool, a global average, and dense layers. `conv_classifier` builds it."""

    def __init__(self, features: nn.Sequential, head: nn.Sequential, logit_scale: float | None = None) -> None:
        super().__init__()
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = head
        self.logit_scale = logit_scale

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.flatten(self.pool(self.features(x))))  # (batch, classes)
        return logits if self.logit_scale is None else logits * self.logit_scale


def conv_classifier(
    kernel_size: int = 3,
    num_classes: int = 101,
    widths: str | Sequence[int] = "counted",
    binary: bool = True,
    in_channels: int = 3,
    *,
    batch_norm: bool = False,
    hidden: Sequence[int] | None = None,
    logit_scale: float | None = None,
    exits: Sequence[int] = (),
    scheme: Scheme | None = None,
    **old: Any,
) -> ConvClassifier | ExitClassifier:
    """The paper's image classifier: blocks of two 'same' convolutions with ReLU and a 2x2 max-pool (not after the last block), the mean
    over all positions, then dense layers.

    Args:
        kernel_size: side of every convolution's kernel.
        num_classes: number of logits.
        widths: ``"counted"`` (the network with the paper's number of parameters: 5,132,165 at 3x3, 13,505,925 at 5x5), ``"listed"``
            (the widths that the paper prints: 1,403,653 at 3x3), or the channels of each block.
        binary: False gives the float twin: the same shape without normalisation, with dropout 0.4 and 0.3 after the first two dense layers.
        in_channels: 3 for RGB, 1 for grey.
        batch_norm: for the float twin only: a batch normalisation with learned scale and shift after every layer but the last.
        hidden: widths of the dense layers before the last. The default is that of the named network, or the last block's width and half of it.
        logit_scale: a constant that multiplies the logits. Normalised logits have unit deviation, which limits confidence.
        exits: the blocks, counted from 1, after which there is a head of its own, at which a packed network may end; see `ExitClassifier`.
        scheme: the scheme of the binary layers, which must normalise sums. The default is the paper's, `BinaryNormalized()`.

    Shape:
        (batch, in_channels, height, width), float, to logits (batch, num_classes).

    Raises:
        ValueError: a size is not positive, a name is unknown, or the options contradict each other.

    Example:
        >>> sum(p.numel() for p in conv_classifier(3).parameters())
        5132165

    Source: arXiv 2509.07025, algorithm 7.
    """
    if isinstance(widths, str):
        if widths not in NAMED_WIDTHS:
            raise ValueError(f"[conv_classifier] widths={widths!r}: use 'counted', 'listed' or a list of channels")
        blocks, dense = NAMED_WIDTHS[widths]
    else:
        blocks = tuple(widths)
        if not blocks:
            raise ValueError("[conv_classifier] widths is empty: give the channels of at least one block")
        dense = (blocks[-1], max(1, blocks[-1] // 2))
    dense = dense if hidden is None else tuple(hidden)
    for name, sizes in (
        ("kernel_size", (kernel_size,)),
        ("num_classes", (num_classes,)),
        ("widths", blocks),
        ("hidden", dense),
    ):
        if any(size < 1 for size in sizes):
            raise ValueError(f"[conv_classifier] {name}={sizes if len(sizes) > 1 else sizes[0]}: use numbers from 1 up")
    if binary and batch_norm:
        raise ValueError(
            "[conv_classifier] batch_norm=True applies to the float twin: use normalize='batch' in a binary network"
        )

    places = check_exits(exits, len(blocks))
    chosen = chosen_scheme("conv_classifier", scheme, old)

    def conv(inputs: int, outputs: int) -> list[nn.Module]:
        if binary:
            return [BinaryConv2d(inputs, outputs, kernel_size, padding="same", scheme=chosen), nn.ReLU()]
        norm = [nn.BatchNorm2d(outputs)] if batch_norm else []
        return [_glorot(nn.Conv2d(inputs, outputs, kernel_size, padding="same")), *norm, nn.ReLU()]

    def linear(inputs: int, outputs: int) -> nn.Module:
        return BinaryLinear(inputs, outputs, scheme=chosen) if binary else _glorot(nn.Linear(inputs, outputs))

    parts: list[list[nn.Module]] = []
    channels = in_channels
    for index, width in enumerate(blocks):
        parts.append(conv(channels, width) + conv(width, width))
        if index < len(blocks) - 1:
            parts[-1].append(nn.MaxPool2d(2))
        channels = width
    head: list[nn.Module] = []
    for index, width in enumerate(dense):
        head.append(linear(channels, width))
        if batch_norm:
            head.append(nn.BatchNorm1d(width))
        head.append(nn.ReLU())
        if not binary and index < len(TWIN_DROPOUT):
            head.append(nn.Dropout(TWIN_DROPOUT[index]))
        channels = width
    head.append(linear(channels, num_classes))
    if places:
        heads = [pooled_head(blocks[place - 1], num_classes, linear) for place in places]
        heads.append(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head))
        made = ExitClassifier([nn.Sequential(*part) for part in parts], heads, places, logit_scale)
        use_planes(made, most_planes(made))
        return made
    features = [layer for part in parts for layer in part]
    return ConvClassifier(nn.Sequential(*features), nn.Sequential(*head), logit_scale)


def _glorot(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    """Initialise a float layer in the same way as the latent weights of its binary twin."""
    torch.nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        torch.nn.init.zeros_(layer.bias)
    return layer
