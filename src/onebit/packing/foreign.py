"""Layers and models of other libraries, told by the names of their types, so that none of those libraries need be there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import nn

from onebit.nn import BinaryMultiheadAttention
from onebit.packing.activations import ACTIVATIONS
from onebit.packing.layers import embedding, transposed_parts

if TYPE_CHECKING:
    from onebit.packing.trace import Builder

NO_ATTENTION = (
    "it has attention over all positions, and a program has only that over tokens in which each sees those before it: "
    "use onebit.nn.BinaryAttention, or a network of convolutions"
)


def _norm_act(b: Builder, name: str, layer: Any, x: str) -> str:
    """timm's batch normalisation with an activation behind it."""
    norm = nn.BatchNorm2d(layer.num_features, layer.eps, affine=False, device="meta")
    norm.weight, norm.bias = layer.weight, layer.bias
    norm.running_mean, norm.running_var = layer.running_mean, layer.running_var
    y = b.layer(name, norm, x)
    return b.layer(f"{name}.act", layer.act, b.layer(f"{name}.drop", layer.drop, y))


def _layer_norm_2d(b: Builder, name: str, layer: Any, x: str) -> str:
    """timm's and torchvision's layer normalisation over the channels of images."""
    norm = nn.LayerNorm(layer.normalized_shape, layer.eps, layer.weight is not None, device="meta")
    norm.weight, norm.bias = layer.weight, layer.bias
    return b.layer(name, norm, x)


def _conv1d(b: Builder, name: str, layer: Any, x: str) -> str:
    """GPT-2's dense layer."""
    return transposed_parts(b, name, layer, x, [slice(None)])[0]


def _gelu_of(approximate: str) -> Callable[..., str]:
    return lambda b, name, layer, x: b.gelu(x, approximate)


def _gpt2(b: Builder, name: str, model: Any, x: str) -> str:
    """Hugging Face's GPT2LMHeadModel: the step from tokens to logits, without its ways of caching and masking."""
    prefix = f"{name}." if name else ""
    config, inner = model.config, model.transformer
    if config.add_cross_attention or not config.scale_attn_weights or config.scale_attn_by_inverse_layer_idx:
        raise b.fail(
            "a GPT-2 with cross-attention or an attention scaled otherwise than by 1 / sqrt(d) cannot be packed"
        )
    heads, width = config.num_attention_heads, config.hidden_size
    thirds = [slice(i * width, (i + 1) * width) for i in range(3)]
    where = f"{prefix}transformer"
    tokens = b.layer(f"{where}.wte", inner.wte, x)
    y = b.step("add", [tokens, embedding(b, f"{where}.wpe", inner.wpe, x, "position")])
    for index, block in enumerate(inner.h):
        at = f"{where}.h.{index}"
        z = b.layer(f"{at}.ln_1", block.ln_1, y)
        projected = transposed_parts(b, f"{at}.attn.c_attn", block.attn.c_attn, z, thirds)
        z = b.step("attention", projected, {"heads": heads})
        y = b.step("add", [y, b.layer(f"{at}.attn.c_proj", block.attn.c_proj, z)])
        z = b.layer(f"{at}.mlp.c_fc", block.mlp.c_fc, b.layer(f"{at}.ln_2", block.ln_2, y))
        z = b.layer(f"{at}.mlp.c_proj", block.mlp.c_proj, b.layer(f"{at}.mlp.act", block.mlp.act, z))
        y = b.step("add", [y, z])
    return b.layer(f"{prefix}lm_head", model.lm_head, b.layer(f"{where}.ln_f", inner.ln_f, y))


LIBRARIES = ("timm", "torchvision", "transformers")
FOREIGN: dict[str, Callable[..., str]] = {
    "BatchNormAct2d": _norm_act,
    "LayerNorm2d": _layer_norm_2d,
    "Conv1D": _conv1d,
    "GELUActivation": _gelu_of("none"),
    "NewGELUActivation": _gelu_of("tanh"),
    "GELUTanh": _gelu_of("tanh"),
    "PytorchGELUTanh": _gelu_of("tanh"),
    "GPT2LMHeadModel": _gpt2,
    **{name: activation.pack_layer for activation in ACTIVATIONS for name in activation.foreign},
}


def context_of(model: nn.Module) -> int | None:
    """The most tokens that a language model can look at, by its own word or by its configuration's."""
    config = getattr(model, "config", None)
    context = getattr(model, "context", getattr(config, "max_position_embeddings", None))
    return context if type(context) is int and context >= 1 else None


def what_lacks(model: nn.Module) -> str:
    """Why a model cannot be packed, where its kind tells; else nothing."""
    for module in model.modules():
        if isinstance(module, nn.Transformer):
            return "it takes two sequences, and a program has one input"
        if isinstance(module, (nn.MultiheadAttention, BinaryMultiheadAttention)):
            return NO_ATTENTION
        if hasattr(module, "config") and hasattr(module, "main_input_name"):  # a model of Hugging Face's
            name = type(module).__name__
            if name in FOREIGN:
                return ""
            decoder = getattr(module.config, "is_decoder", False) or "CausalLM" in name or "LMHead" in name
            return (
                f"{name}, whose forward cannot be traced: of Hugging Face's models GPT2LMHeadModel can be packed"
                if decoder
                else NO_ATTENTION
            )
    return ""
