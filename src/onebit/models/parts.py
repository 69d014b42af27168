"""The parts of the published networks: a layer of a scheme or its float twin, and the layers after it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from onebit.nn import BinaryConv2d, BinaryLinear, nonlinearity_of, norm_of
from onebit.quantizers import AbsMax
from onebit.schemes import Scheme


def convolution(
    scheme: Scheme | None, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1
) -> nn.Module:
    """A convolution without a bias, because a normalisation follows. It is float if the scheme is None."""
    if scheme is None:
        layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        return layer
    # If nothing follows, the layer needs its bias.
    bias = scheme.norm is None and scheme.normalize is None
    return BinaryConv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=bias, scheme=scheme)


def stem(
    scheme: Scheme | None, hybrid: bool, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0
) -> list[nn.Module]:
    """A network's first convolution and the layers after it. They are float in a hybrid network."""
    layer = convolution(first(scheme, hybrid), inputs, outputs, kernel, stride, padding)
    if scheme is not None and scheme.norm is None and isinstance(layer, nn.Conv2d) and layer.bias is None:
        layer.register_parameter(
            "bias", nn.Parameter(torch.zeros(outputs))
        )  # no normalisation follows that would have one
    return [layer, *behind(scheme, outputs)]


def dense(scheme: Scheme | None, inputs: int, outputs: int) -> nn.Module:
    """A dense layer with a bias. It is float if the scheme is None."""
    return nn.Linear(inputs, outputs) if scheme is None else BinaryLinear(inputs, outputs, scheme=scheme)


def behind(scheme: Scheme | None, channels: int, image: bool = True) -> list[nn.Module]:
    """The normalisation and the nonlinearity after a layer in a network of the scheme, without those that do nothing."""
    found = [norm_of(scheme, channels, image), nonlinearity_of(scheme, channels)]
    return [layer for layer in found if not isinstance(layer, nn.Identity)]


def first(scheme: Scheme | None, hybrid: bool) -> Scheme | None:
    """The scheme of a first layer: None (float) in a hybrid network, or else one for pixels, with 8 bits if the scheme quantises inputs."""
    if scheme is None or hybrid:
        return None
    inputs = None if scheme.activations is None else AbsMax(8)
    return replace(with_float_inputs(scheme), activations=inputs)


def with_float_inputs(scheme: Scheme) -> Scheme:
    """The scheme with its weights only."""
    return replace(scheme, activations=None, input_normalize=False, input_shift=False, input_scale=False)


def last(scheme: Scheme | None, hybrid: bool) -> Scheme | None:
    """The scheme of a last layer: None (float) in a hybrid network."""
    return None if hybrid else scheme


def logits(scheme: Scheme | None, hybrid: bool, inputs: int, classes: int) -> list[nn.Module]:
    """A network's last layer. If the network is not hybrid, a normalisation follows, because sums of bits are too large for logits."""
    kind = last(scheme, hybrid)
    norm = norm_of(kind, classes, image=False) if kind is not None else nn.Identity()
    return [dense(kind, inputs, classes), *([] if isinstance(norm, nn.Identity) else [norm])]


def check(name: str, **numbers: int | float | tuple[int, ...]) -> None:
    """Raise ValueError if a size is not above 0."""
    for key, value in numbers.items():
        values = value if isinstance(value, tuple) else (value,)
        if not values or any(v <= 0 for v in values):
            raise ValueError(f"[{name}] {key}={value}: use numbers above 0")


class Network(nn.Module):
    """Convolutions, a head, and a constant factor of the logits. The functions of this package return it."""

    def __init__(self, features: nn.Sequential, head: nn.Sequential, logit_scale: float | None = None) -> None:
        super().__init__()
        self.features = features
        self.head = head
        self.logit_scale = logit_scale

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))  # (batch, classes)
        return logits if self.logit_scale is None else logits * self.logit_scale
