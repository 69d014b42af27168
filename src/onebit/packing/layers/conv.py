"""Convolutions of images and of sequences, binary and float."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from onebit.nn import BinaryConv1d, BinaryConv2d, BinaryConvTranspose2d
from onebit.packing.handlers import packs
from onebit.packing.layers.binary import Product, binary_steps
from onebit.packing.layers.dense import dense_product, float_tensors, linear_step
from onebit.packing.recorder import Recorder


def pair(value: Any) -> list[int]:
    """A number for height and width."""
    return [value, value] if isinstance(value, int) else [int(v) for v in value]


def of_line(r: Recorder, x: str) -> str:
    """A sequence (time, channels) as an image of one column."""
    if len(r.shape(x)) != 2:
        raise r.fail(
            f"a convolution over time of an input of shape {r.shape(x)} cannot be packed: needs (time, channels)"
        )
    time, channels = r.shape(x)
    return r.step("reshape", [x], {"shape": [time, 1, channels]})


def to_line(r: Recorder, x: str) -> str:
    """The sequence again."""
    time, _, channels = r.shape(x)
    return r.step("reshape", [x], {"shape": [time, channels]})


def _padding(r: Recorder, layer: Any) -> list[int]:
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
    sides = [int(side) for side in layer.padding] if not isinstance(layer.padding, int) else [layer.padding] * 2
    return [side for side in sides for _ in range(2)]


def window_attributes(r: Recorder, layer: Any) -> dict[str, Any]:
    """Channels and window of a convolution over one axis or more, as its step has them."""
    padding = _padding(r, layer)
    attributes = {name: list(getattr(layer, name)) for name in ("kernel_size", "stride", "dilation")}
    if isinstance(layer, nn.Conv1d):  # of an image of one column
        attributes = {name: [*values, 1] for name, values in attributes.items()}
        padding = [*padding[:2], 0, 0]
    channels = {"in_channels": layer.in_channels, "out_channels": layer.out_channels, "groups": layer.groups}
    return {**channels, **attributes, "padding": padding}


def on_vectors(r: Recorder, layer: Any, x: str) -> bool:
    """Whether a convolution of single pixels is given images of one pixel, which are vectors here: it is a dense layer then."""
    if not isinstance(layer, (nn.Conv1d, nn.Conv2d)):
        return False
    plain = set(layer.kernel_size) == {1} and layer.groups == 1 and not any(_padding(r, layer))
    return plain and len(r.shape(x)) == 1


def _rows(weight: Tensor) -> Tensor:
    """A weight with its channels last, as images are; that of a sequence for an image of one column."""
    return (weight[..., None] if weight.dim() == 3 else weight).permute(0, 2, 3, 1)


@packs(BinaryConv1d, BinaryConv2d)
def _binary(r: Recorder, name: str, layer: BinaryConv1d | BinaryConv2d, x: str) -> str:
    if on_vectors(r, layer, x):
        return binary_steps(r, name, layer, x, dense_product)[0]
    if isinstance(layer, nn.Conv1d):
        x = of_line(r, x)
    attributes = window_attributes(r, layer)

    def product(planes: Tensor) -> Product:
        rows = _rows(planes.flatten(0, 1)).flatten(1)
        return Product("bit_conv2d", attributes, rows)

    window = {key: attributes[key] for key in ("kernel_size", "stride", "padding", "dilation")}
    y = binary_steps(r, name, layer, x, product, window)[0]
    return to_line(r, y) if isinstance(layer, nn.Conv1d) else y


@packs(nn.Conv1d, nn.Conv2d)
def _float(r: Recorder, name: str, layer: nn.Conv1d | nn.Conv2d, x: str) -> str:
    if on_vectors(r, layer, x):
        return linear_step(r, name, x, layer.weight.flatten(1), layer.bias)
    line = isinstance(layer, nn.Conv1d)
    tensors = float_tensors(r, name, _rows(layer.weight), layer.bias)
    y = r.step("conv2d", [of_line(r, x) if line else x], window_attributes(r, layer), **tensors)
    return to_line(r, y) if line else y


def _transposed_attributes(r: Recorder, layer: nn.ConvTranspose2d) -> dict[str, Any]:
    if set(layer.dilation) != {1}:
        raise r.fail(f"ConvTranspose2d with dilation={layer.dilation} cannot be packed: use 1")
    attributes = {name: list(getattr(layer, name)) for name in ("kernel_size", "stride", "output_padding")}
    channels = {"in_channels": layer.in_channels, "out_channels": layer.out_channels, "groups": layer.groups}
    return {**channels, **attributes, "padding": _padding(r, layer)}


def _outputs_first(weight: Tensor, groups: int) -> Tensor:
    """A transposed convolution's weight (inputs, outputs / groups, kh, kw) as (outputs, kh, kw, inputs / groups)."""
    parts = weight.view(groups, -1, *weight.shape[1:])  # (groups, inputs / groups, outputs / groups, kh, kw)
    return parts.permute(0, 2, 3, 4, 1).flatten(0, 1)


@packs(nn.ConvTranspose2d)
def _float_transposed(r: Recorder, name: str, layer: nn.ConvTranspose2d, x: str) -> str:
    tensors = float_tensors(r, name, _outputs_first(layer.weight, layer.groups), layer.bias)
    return r.step("conv_transpose2d", [x], _transposed_attributes(r, layer), **tensors)


@packs(BinaryConvTranspose2d)
def _binary_transposed(r: Recorder, name: str, layer: BinaryConvTranspose2d, x: str) -> str:
    attributes = _transposed_attributes(r, layer)

    def product(planes: Tensor) -> Product:
        rows = planes.flatten(0, 1).permute(0, 2, 3, 1).flatten(1)  # outputs are first already
        return Product("bit_conv_transpose2d", attributes, rows)

    return binary_steps(r, name, layer, x, product)[0]
