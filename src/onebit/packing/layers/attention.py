"""Attention over tokens, in which each sees those before it."""

from __future__ import annotations

from onebit.nn import CausalAttention, RotaryPositions
from onebit.packing.handlers import pack_layer, packs
from onebit.packing.recorder import Recorder


@packs(CausalAttention)
def _attention(r: Recorder, name: str, layer: CausalAttention, x: str) -> str:
    q, k, v = (pack_layer(r, f"{name}.{part}", getattr(layer, part), x) for part in ("query", "key", "value"))
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
    turned = {} if layer.rotated is None else {"rotated": layer.rotated}
    return r.step("rotary", [x], {"heads": layer.heads, "base": layer.base, **turned})
