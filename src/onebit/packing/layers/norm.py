"""Normalisations, and the scales and shifts of layers: each ends as a scale and a shift of each channel where it can."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from onebit.nn import Normalize, PlaneNorms
from onebit.packing.handlers import pack_layer, packs
from onebit.packing.recorder import Recorder
from onebit.program import Shape

Floats = NDArray[np.float32]


def floats(tensor: Tensor) -> Floats:
    """A parameter as a NumPy array of float32."""
    return tensor.detach().float().cpu().numpy()


def scaled(r: Recorder, name: str, x: str, scale: Floats | None, shift: Floats | None, constant: bool = False) -> str:
    """Record a layer's scale, () or (channels), and its float bias, (channels); None for what it lacks.

    A scale that is one constant needs no float for each channel.
    """
    if scale is None and shift is None:
        return x
    if constant and scale is not None and shift is None:
        return r.step("scale", [x], {"factor": float(scale.flat[0])})
    channels = r.shape(x)[-1]
    full = np.ones(channels, np.float32) if scale is None else np.broadcast_to(scale, (channels,))
    reasons = [] if scale is None else ["the scale of the weights"]
    reasons += [] if shift is None else ["a float bias"]
    empty = np.zeros(channels, np.float32)
    return r.scale_shift(x, full, empty if shift is None else shift, name, " and ".join(reasons))


@packs(PlaneNorms)
def _in_use(r: Recorder, name: str, layer: PlaneNorms, x: str) -> str:
    return pack_layer(r, name, layer.norm, x)


@packs(Normalize)
def normalized(r: Recorder, name: str, layer: Normalize | PlaneNorms, x: str) -> str:
    """Record a normalisation without parameters."""
    if isinstance(layer, PlaneNorms):
        return _in_use(r, name, layer, x)
    if layer.over != "batch":
        over = "channel" if layer.over == "channel" or len(r.shape(x)) == 1 else "example"
        return r.step("normalize", [x], {"over": over, "eps": layer.eps})
    return _running_statistics(r, name, layer, x, None, None)


@packs(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
def _batch_norm(r: Recorder, name: str, layer: Any, x: str) -> str:
    if layer.running_mean is None or layer.running_var is None:
        raise r.fail("a batch normalisation without running statistics cannot be packed: use track_running_stats=True")
    return _running_statistics(r, name, layer, x, layer.weight, layer.bias)


def _running_statistics(
    r: Recorder,
    name: str,
    layer: Any,
    x: str,
    weight: Tensor | None,
    bias: Tensor | None,
) -> str:
    """Fold running mean and variance, and a learned scale and shift where there is one, to one scale and shift for each channel."""
    scale = (layer.running_var.detach().double() + layer.eps).rsqrt()
    if weight is not None:
        scale = scale * weight.detach().double()
    shift = -layer.running_mean.detach().double() * scale
    if bias is not None:
        shift = shift + bias.detach().double()
    reason = "running statistics of a batch normalisation"
    return r.scale_shift(x, scale.cpu().numpy(), shift.cpu().numpy(), name, reason)


@packs(nn.LayerNorm)
def _layer_norm(r: Recorder, name: str, layer: nn.LayerNorm, x: str) -> str:
    shape: Shape = layer.normalized_shape
    if len(shape) != 1 or r.shape(x)[-1] != shape[0]:
        raise r.fail(f"LayerNorm({shape}) cannot be packed: normalise over the last axis")
    y = r.step("normalize", [x], {"over": "channel", "eps": layer.eps})
    return _learned(r, name, layer, y, "learned scale and shift of a layer normalisation")


@packs(nn.RMSNorm)
def _rms_norm(r: Recorder, name: str, layer: nn.RMSNorm, x: str) -> str:
    shape: Shape = layer.normalized_shape
    if len(shape) != 1 or r.shape(x)[-1] != shape[0]:
        raise r.fail(f"RMSNorm({shape}) cannot be packed: normalise over the last axis")
    # Without an eps PyTorch takes that of the precision it computes in.
    y = r.step("rms_normalize", [x], {"eps": torch.finfo(torch.float32).eps if layer.eps is None else layer.eps})
    if layer.weight is None:
        return y
    return r.scale_shift(y, floats(layer.weight), None, name, "learned scale of an RMS normalisation")


def groups_of_rows(r: Recorder, name: str, layer: nn.GroupNorm, x: str) -> str:
    """Equal groups of channels normalised, of rows each by itself."""
    y = r.step("group_normalize", [x], {"groups": layer.num_groups, "eps": layer.eps})
    return _learned(r, name, layer, y, "learned scale and shift of a group normalisation")


@packs(nn.GroupNorm)
def _group_norm(r: Recorder, name: str, layer: nn.GroupNorm, x: str) -> str:
    shape = r.shape(x)
    image = shape
    if len(shape) == 4:  # a volume is normalised as an image of all its lines
        image = (shape[0] * shape[1], *shape[2:])
    elif len(shape) == 2 and not r.tokens:  # of rows the step would take each by itself
        image = (shape[0], 1, shape[1])
    if image != shape:
        x = r.step("reshape", [x], {"shape": list(image)})
    y = r.step("group_normalize", [x], {"groups": layer.num_groups, "eps": layer.eps})
    if image != shape:
        y = r.step("reshape", [y], {"shape": list(shape)})
    return _learned(r, name, layer, y, "learned scale and shift of a group normalisation")


def _learned(r: Recorder, name: str, layer: nn.LayerNorm | nn.GroupNorm, y: str, reason: str) -> str:
    if layer.weight is None:
        return y
    weight = floats(layer.weight)
    shift = np.zeros_like(weight) if layer.bias is None else floats(layer.bias)
    return r.scale_shift(y, weight, shift, name, reason)
