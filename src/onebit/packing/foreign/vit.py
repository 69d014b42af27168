"""Hugging Face's vision transformer."""

from __future__ import annotations

from typing import Any

from onebit.packing.attending import attention, split_heads
from onebit.packing.called import called
from onebit.packing.constants import with_constant
from onebit.packing.handlers import packs_foreign
from onebit.packing.layouts import settled
from onebit.packing.recorder import Recorder
from onebit.packing.shaping import with_own_rows
from onebit.packing.values import BATCH, Value

ROWS = (BATCH, 0, 1)


@packs_foreign("ViTForImageClassification")
def _vit(r: Recorder, name: str, model: Any, x: str) -> str:
    """From pixels to logits."""
    prefix = f"{name}." if name else ""
    inner, at = model.vit, f"{prefix}vit"
    patches = called(
        r, f"{at}.embeddings.patch_embeddings.projection", inner.embeddings.patch_embeddings.projection, Value.of(r, x)
    )
    height, width, features = patches.shape
    y = Value(patches.name, (height * width, features), ROWS)
    y = with_own_rows(r, [inner.embeddings.cls_token], y)
    y = with_constant(r, y, inner.embeddings.position_embeddings)
    for index, block in enumerate(inner.layers):
        y = _block(r, f"{at}.layers.{index}", block, y, model.config.num_attention_heads)
    y = called(r, f"{at}.layernorm", inner.layernorm, y)
    first = r.step("slice", [settled(r, y)], {"axis": 0, "start": 0, "stop": 1})
    token = Value(first, (features,), (BATCH, 0))
    return settled(r, called(r, f"{prefix}classifier", model.classifier, token.renamed(settled(r, token))))


def _block(r: Recorder, at: str, block: Any, x: Value, heads: int) -> Value:
    z = called(r, f"{at}.layernorm_before", block.layernorm_before, x)
    parts = {
        word: called(r, f"{at}.attention.{word}", getattr(block.attention, word), z)
        for word in ("q_proj", "k_proj", "v_proj")
    }
    attended = attention(r, *(split_heads(part, heads) for part in parts.values()))
    rows = Value(attended.name, (attended.shape[0], attended.shape[1] * attended.shape[2]), ROWS)
    z = called(r, f"{at}.attention.o_proj", block.attention.o_proj, rows)
    x = x.renamed(r.step("add", [x.name, z.name]))
    z = called(r, f"{at}.mlp.fc1", block.mlp.fc1, called(r, f"{at}.layernorm_after", block.layernorm_after, x))
    z = called(r, f"{at}.mlp.fc2", block.mlp.fc2, called(r, f"{at}.mlp.activation_fn", block.mlp.activation_fn, z))
    return x.renamed(r.step("add", [x.name, z.name]))
