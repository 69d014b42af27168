"""Attention over tokens, in which each sees those before it."""

from __future__ import annotations

from onebit.nn import CausalAttention
from onebit.packing.handlers import pack_layer, packs
from onebit.packing.recorder import Recorder


@packs(CausalAttention)
def _attention(r: Recorder, name: str, layer: CausalAttention, x: str) -> str:
    projected = [pack_layer(r, f"{name}.{part}", getattr(layer, part), x) for part in ("query", "key", "value")]
    return pack_layer(r, f"{name}.out", layer.out, r.step("attention", projected, {"heads": layer.heads}))
