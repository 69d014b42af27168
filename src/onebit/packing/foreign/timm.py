"""timm's normalisations."""

from __future__ import annotations

from typing import Any

from torch import nn

from onebit.packing.handlers import pack_layer, packs_foreign
from onebit.packing.recorder import Recorder


@packs_foreign("BatchNormAct2d")
def _norm_act(r: Recorder, name: str, layer: Any, x: str) -> str:
    """A batch normalisation followed by an activation."""
    norm = nn.BatchNorm2d(layer.num_features, layer.eps, affine=False, device="meta")
    norm.weight, norm.bias = layer.weight, layer.bias
    norm.running_mean, norm.running_var = layer.running_mean, layer.running_var
    y = pack_layer(r, name, norm, x)
    return pack_layer(r, f"{name}.act", layer.act, pack_layer(r, f"{name}.drop", layer.drop, y))


@packs_foreign("LayerNorm2d")
def _layer_norm_2d(r: Recorder, name: str, layer: Any, x: str) -> str:
    """A layer normalisation over the channels of images; torchvision has one of the same name."""
    norm = nn.LayerNorm(layer.normalized_shape, layer.eps, layer.weight is not None, device="meta")
    norm.weight, norm.bias = layer.weight, layer.bias
    return pack_layer(r, name, norm, x)
