"""Convolutions and pooling of volumes: a convolution is an op of its own, pooling is that of images, one axis after the others."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from onebit.nn import BinaryConv3d
from onebit.packing.handlers import packs
from onebit.packing.layers.binary import Product, binary_steps
from onebit.packing.layers.conv import window_attributes
from onebit.packing.layers.dense import float_tensors
from onebit.packing.layers.pooling import largest
from onebit.packing.recorder import Recorder


def _need_volume(r: Recorder, layer: nn.Module, x: str) -> None:
    if len(r.shape(x)) != 4:
        kind = type(layer).__name__
        raise r.fail(
            f"{kind} of an input of shape {r.shape(x)} cannot be packed: needs (depth, height, width, channels)"
        )


def _channels_last(weight: Tensor) -> Tensor:
    return weight.permute(0, 2, 3, 4, 1)


@packs(BinaryConv3d)
def _binary(r: Recorder, name: str, layer: BinaryConv3d, x: str) -> str:
    _need_volume(r, layer, x)
    if layer.scheme.input_scale:
        scheme = type(layer.scheme).__name__
        raise r.fail(f"BinaryConv3d with the magnitude of its inputs cannot be packed: use {scheme}(input_scale=False)")
    attributes = window_attributes(r, layer)

    def product(planes: Tensor) -> Product:
        return Product("bit_conv3d", attributes, _channels_last(planes.flatten(0, 1)).flatten(1))

    return binary_steps(r, name, layer, x, product)[0]


@packs(nn.Conv3d)
def _float(r: Recorder, name: str, layer: nn.Conv3d, x: str) -> str:
    _need_volume(r, layer, x)
    weight = _channels_last(layer.weight).flatten(1, 2)  # (out, kd * kh, kw, in / groups)
    return r.step("conv3d", [x], window_attributes(r, layer), **float_tensors(r, name, weight, layer.bias))


def _triple(value: Any) -> list[int]:
    return [value] * 3 if isinstance(value, int) else [int(v) for v in value]


def _pooled(r: Recorder, op: str, layer: nn.MaxPool3d | nn.AvgPool3d, x: str, **more: Any) -> str:
    """Windows along the width first, then along depth and height: a volume is an image of its lines, then one whose pixels are lines."""
    _need_volume(r, layer, x)
    kernel, stride, padding = (_triple(value) for value in (layer.kernel_size, layer.stride, layer.padding))
    depth, height, width, channels = r.shape(x)
    sizes = zip((depth, height, width), kernel, stride, padding, strict=True)
    if layer.ceil_mode and any((side + 2 * p - k) % s for side, k, s, p in sizes):
        raise r.fail(f"{type(layer).__name__} with ceil_mode where windows do not fit cannot be packed: leave it out")
    y = r.step("reshape", [x], {"shape": [depth * height, width, channels]})
    along = {"kernel_size": [1, kernel[2]], "stride": [1, stride[2]], "padding": [0, 0, padding[2], padding[2]]}
    y = r.step(op, [y], {**along, **more})
    width = r.shape(y)[1]
    y = r.step("reshape", [y], {"shape": [depth, height, width * channels]})
    sides = [padding[0], padding[0], padding[1], padding[1]]
    y = r.step(op, [y], {"kernel_size": kernel[:2], "stride": stride[:2], "padding": sides, **more})
    return r.step("reshape", [y], {"shape": [*r.shape(y)[:2], width, channels]})


@packs(nn.MaxPool3d)
def _max_pool(r: Recorder, name: str, layer: nn.MaxPool3d, x: str) -> str:
    if layer.return_indices or _triple(layer.dilation) != [1, 1, 1]:
        raise r.fail("MaxPool3d with return_indices or dilation cannot be packed: leave them out")
    return _pooled(r, "max_pool2d", layer, x)


@packs(nn.AvgPool3d)
def _avg_pool(r: Recorder, name: str, layer: nn.AvgPool3d, x: str) -> str:
    if layer.divisor_override is not None:
        raise r.fail("AvgPool3d with divisor_override cannot be packed: leave it out")
    return _pooled(r, "avg_pool2d", layer, x, count_include_pad=layer.count_include_pad)


@packs(nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d)
def _pool_of_all(r: Recorder, name: str, layer: Any, x: str) -> str:
    kind = type(layer).__name__
    if layer.output_size not in (1, (1, 1, 1)) or getattr(layer, "return_indices", False):
        raise r.fail(f"{kind}({layer.output_size}) cannot be packed: use output_size=1")
    _need_volume(r, layer, x)
    depth, height, width, channels = r.shape(x)
    rows = r.step("reshape", [x], {"shape": [depth * height * width, channels]})
    return largest(r, rows) if kind == "AdaptiveMaxPool3d" else r.step("mean_pool", [rows])
