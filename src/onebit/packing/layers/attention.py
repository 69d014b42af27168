"""Attention over tokens, in which each sees those before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from onebit.nn import CausalAttention, RotaryPositions
from onebit.packing.handlers import pack_layer, packs
from onebit.packing.layers.norm import floats
from onebit.packing.recorder import Recorder


@packs(CausalAttention)
def _attention(r: Recorder, name: str, layer: CausalAttention, x: str) -> str:
    q, k, v = (pack_layer(r, f"{name}.{part}", getattr(layer, part), x) for part in ("query", "key", "value"))
    if layer.query_norm is not None and layer.key_norm is not None:
        q = _head_norm(r, f"{name}.query_norm", layer.query_norm, q, layer.heads)
        k = _head_norm(r, f"{name}.key_norm", layer.key_norm, k, layer.kv_heads)
    if layer.turn_query is not None and layer.turn_key is not None:
        q = pack_layer(r, f"{name}.turn_query", layer.turn_query, q)
        k = pack_layer(r, f"{name}.turn_key", layer.turn_key, k)
    heads = {"heads": layer.heads} | ({} if layer.kv_heads == layer.heads else {"kv_heads": layer.kv_heads})
    y = r.step("attention", [q, k, v], heads)
    if layer.out_norm is not None:
        y = pack_layer(r, f"{name}.out_norm", layer.out_norm, y)
    return pack_layer(r, f"{name}.out", layer.out, y)


@packs(RotaryPositions)
def _rotary(r: Recorder, name: str, layer: RotaryPositions, x: str) -> str:
    turned: dict[str, Any] = {} if layer.rotated is None else {"rotated": layer.rotated}
    turned |= {} if layer.scaling is None else {"scaling": layer.scaling}
    return r.step("rotary", [x], {"heads": layer.heads, "base": layer.base, **turned})


def _head_norm(r: Recorder, name: str, layer: nn.Module, x: str, heads: int) -> str:
    """Record the norm of each head by itself, whose scale is the same for all heads."""
    if not isinstance(layer, nn.RMSNorm) or layer.weight is None:
        raise r.fail(
            f"{name} is of type {type(layer).__name__}: heads are packed with nn.RMSNorm and its learned scale"
        )
    eps = torch.finfo(torch.float32).eps if layer.eps is None else layer.eps
    y = r.step("rms_normalize", [x], {"eps": eps, **({"groups": heads} if heads > 1 else {})})
    return r.scale_shift(y, np.tile(floats(layer.weight), heads), None, name, "learned scale of an RMS normalisation")
