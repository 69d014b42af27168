"""Hugging Face's GPT-2."""

from __future__ import annotations

from typing import Any

from onebit.packing.handlers import pack_layer, packs_foreign
from onebit.packing.layers.dense import transposed_steps
from onebit.packing.layers.embedding import embedding
from onebit.packing.recorder import Recorder


@packs_foreign("Conv1D")
def _conv1d(r: Recorder, name: str, layer: Any, x: str) -> str:
    """A dense layer, whose weight is stored as (inputs, outputs)."""
    return transposed_steps(r, name, layer, x)[0]


@packs_foreign("GPT2LMHeadModel")
def _gpt2(r: Recorder, name: str, model: Any, x: str) -> str:
    """The step from tokens to logits, without the model's own caching and masking."""
    prefix = f"{name}." if name else ""
    config, inner = model.config, model.transformer
    if config.add_cross_attention or not config.scale_attn_weights or config.scale_attn_by_inverse_layer_idx:
        raise r.fail(
            "a GPT-2 with cross-attention, or with another scale of the attention than 1 / sqrt(d), cannot be packed"
        )
    heads, width = config.num_attention_heads, config.hidden_size
    thirds = [slice(i * width, (i + 1) * width) for i in range(3)]
    where = f"{prefix}transformer"
    tokens = pack_layer(r, f"{where}.wte", inner.wte, x)
    y = r.step("add", [tokens, embedding(r, f"{where}.wpe", inner.wpe, x, "position")])
    for index, block in enumerate(inner.h):
        at = f"{where}.h.{index}"
        z = pack_layer(r, f"{at}.ln_1", block.ln_1, y)
        projected = transposed_steps(r, f"{at}.attn.c_attn", block.attn.c_attn, z, thirds)
        z = r.step("attention", projected, {"heads": heads})
        y = r.step("add", [y, pack_layer(r, f"{at}.attn.c_proj", block.attn.c_proj, z)])
        z = pack_layer(r, f"{at}.mlp.c_fc", block.mlp.c_fc, pack_layer(r, f"{at}.ln_2", block.ln_2, y))
        z = pack_layer(r, f"{at}.mlp.c_proj", block.mlp.c_proj, pack_layer(r, f"{at}.mlp.act", block.mlp.act, z))
        y = r.step("add", [y, z])
    return pack_layer(r, f"{prefix}lm_head", model.lm_head, pack_layer(r, f"{where}.ln_f", inner.ln_f, y))
