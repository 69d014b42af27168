"""Convolutions of images, binary and float."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from onebit.nn import BinaryConv2d
from onebit.packing.handlers import packs
from onebit.packing.layers.binary import Product, binary_steps
from onebit.packing.layers.dense import dense_product, float_tensors, linear_step
from onebit.packing.recorder import Recorder


def pair(value: Any) -> list[int]:
    """A number for height and width."""
    return [value, value] if isinstance(value, int) else [int(v) for v in value]


def _padding(r: Recorder, layer: nn.Conv2d) -> list[int]:
    """[top, bottom, left, right] of a convolution; 'same' puts the odd one at the end, as PyTorch does."""
    if layer.padding_mode != "zeros":
        raise r.fail(f"padding_mode={layer.padding_mode!r} cannot be packed: use 'zeros'")
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    if layer.padding == "same":
        sides = []
        for kernel, dilation in zip(layer.kernel_size, layer.dilation, strict=True):
            total = dilation * (kernel - 1)
            sides += [total // 2, total - total // 2]
        return sides
    vertical, horizontal = pair(layer.padding)
    return [vertical, vertical, horizontal, horizontal]


def _attributes(r: Recorder, layer: nn.Conv2d) -> dict[str, Any]:
    return {
        "in_channels": layer.in_channels,
        "out_channels": layer.out_channels,
        "kernel_size": pair(layer.kernel_size),
        "stride": pair(layer.stride),
        "padding": _padding(r, layer),
        "dilation": pair(layer.dilation),
        "groups": layer.groups,
    }


def _on_vectors(r: Recorder, layer: nn.Conv2d, x: str) -> bool:
    """Whether a convolution of single pixels is given images of one pixel, which are vectors here: it is a dense layer then."""
    plain = pair(layer.kernel_size) == [1, 1] and layer.groups == 1 and not any(_padding(r, layer))
    return plain and len(r.shape(x)) == 1


@packs(BinaryConv2d)
def _binary(r: Recorder, name: str, layer: BinaryConv2d, x: str) -> str:
    if _on_vectors(r, layer, x):
        return binary_steps(r, name, layer, x, dense_product)[0]
    attributes = _attributes(r, layer)

    def product(planes: Tensor) -> Product:
        rows = planes.flatten(0, 1).permute(0, 2, 3, 1).flatten(1)  # channels last, as images are
        return Product("bit_conv2d", attributes, rows)

    window = {key: attributes[key] for key in ("kernel_size", "stride", "padding", "dilation")}
    return binary_steps(r, name, layer, x, product, window)[0]


@packs(nn.Conv2d)
def _float(r: Recorder, name: str, layer: nn.Conv2d, x: str) -> str:
    if _on_vectors(r, layer, x):
        return linear_step(r, name, x, layer.weight.flatten(1), layer.bias)
    tensors = float_tensors(r, name, layer.weight.permute(0, 2, 3, 1), layer.bias)
    return r.step("conv2d", [x], _attributes(r, layer), **tensors)
