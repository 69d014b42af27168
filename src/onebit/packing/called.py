"""Layers as a model calls them: each gets its input in the order that it needs."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from onebit.nn import BinaryConv1d, BinaryConv2d, BinaryConv3d, BinaryConvTranspose2d, ImageRows, Normalize, RPReLU
from onebit.packing.activations import ACTIVATIONS
from onebit.packing.handlers import is_foreign, pack_layer
from onebit.packing.layers.conv import on_vectors
from onebit.packing.layouts import channels_first, features_last, in_order, reshaped, rows_of, settled
from onebit.packing.recorder import Recorder
from onebit.packing.values import BATCH, Value

# Each number for itself, or with a constant that is the same for all.
ELEMENTWISE = (
    *(kind for activation in ACTIVATIONS for kind in activation.layers),
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.GELU, nn.Hardtanh, nn.Identity, nn.LeakyReLU,
)  # fmt: skip
POINTS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.PReLU, RPReLU)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d,
                BinaryConv1d, BinaryConv2d, BinaryConv3d, BinaryConvTranspose2d)  # fmt: skip
POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d,
         nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
         nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)  # fmt: skip
CHANNELS_FIRST = (*POINTS, *CONVOLUTIONS, *POOLS, nn.Upsample, ImageRows)
FOREIGN_CHANNELS_FIRST = ("BatchNormAct2d", "LayerNorm2d")
ROWS = (nn.Linear, nn.LayerNorm, nn.RMSNorm)


def called(r: Recorder, name: str, layer: nn.Module, x: Value) -> Value:
    """Record a layer of one input."""
    if isinstance(layer, ELEMENTWISE) or (is_foreign(type(layer)) and "GELU" in type(layer).__name__):
        return x.renamed(pack_layer(r, name, layer, x.name))
    foreign = is_foreign(type(layer)) and type(layer).__name__ in FOREIGN_CHANNELS_FIRST
    if isinstance(layer, CHANNELS_FIRST) or foreign or (isinstance(layer, Normalize) and len(x.axes) in (4, 5)):
        return _channels_first(r, name, layer, x)
    if isinstance(layer, (nn.LayerNorm, nn.RMSNorm)) and len(layer.normalized_shape) > 1:
        return _over_last_axes(r, name, layer, x)
    if isinstance(layer, (*ROWS, Normalize)):
        x = features_last(r, x)
        y = pack_layer(r, name, layer, rows_of(r, x))
        return Value(y, (*x.shape[:-1], r.shape(y)[-1]), x.axes)
    if len(x.axes) == 4 and x.axes == (BATCH, 2, 0, 1):
        return Value.of(r, pack_layer(r, name, layer, settled(r, x)))
    x = in_order(r, x)
    y = pack_layer(r, name, layer, settled(r, x))
    rank = len(r.shape(y))
    return Value.of(r, y, (BATCH, *range(rank)) if rank == len(x.shape) else None)


def _channels_first(r: Recorder, name: str, layer: nn.Module, x: Value) -> Value:
    x = channels_first(r, x)
    pixel = all(side == 1 for side in x.shape[:-1]) and r.shape(x.name) == x.shape[-1:]
    if (
        pixel
        and not isinstance(layer, POOLS)
        and (not isinstance(layer, (*CONVOLUTIONS, nn.Upsample)) or on_vectors(r, layer, x.name))
    ):
        y = pack_layer(r, name, layer, x.name)
        return Value(y, (*x.shape[:-1], *r.shape(y)), x.axes)
    y = pack_layer(r, name, layer, settled(r, x))
    shape = r.shape(y)
    if isinstance(layer, ImageRows):
        return Value.of(r, y)
    return Value(y, (*[1] * (len(x.shape) - len(shape)), *shape), x.axes)


def _over_last_axes(r: Recorder, name: str, layer: nn.LayerNorm | nn.RMSNorm, x: Value) -> Value:
    """A normalisation over several axes is one over a row, in which those axes may lie in another order than PyTorch's."""
    shape, count = tuple(layer.normalized_shape), len(layer.normalized_shape)
    if x.lengths[-count:] != shape:
        raise r.fail(f"{type(layer).__name__}({shape}) does not fit a tensor of shape {x.spelled()}")
    leading = len(x.shape) - count
    if min(x.axes[-count:]) != leading:
        x = in_order(r, x)
    order = sorted(range(count), key=lambda axis: x.axes[len(x.axes) - count + axis])
    elements = math.prod(shape)
    bias = getattr(layer, "bias", None)
    if isinstance(layer, nn.RMSNorm):
        row: Any = nn.RMSNorm(elements, layer.eps, layer.weight is not None)
    else:
        row = nn.LayerNorm(elements, layer.eps, layer.weight is not None, bias is not None)
    if layer.weight is not None:
        row.weight = nn.Parameter(layer.weight.detach().permute(order).flatten())
    if bias is not None:
        row.bias = nn.Parameter(bias.detach().permute(order).flatten())
    y = pack_layer(r, name, row, reshaped(r, x.name, (*x.shape[:leading], elements)))
    return x.renamed(y)


def called_as(r: Recorder, layer: nn.Module, x: Value) -> Value:
    """Record a layer without parameters that computes the same as a function."""
    return called(r, "", layer.eval(), x)
