"""The architecture of a Hugging Face folder, out of its config.json."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from onebit.importing.architecture import MAX_LAYERS, Architecture, Fields, Rotary, check, refuse_architecture
from onebit.importing.folder import Folder
from onebit.strict_json import excerpt

# Mistral is llama with a window.
_FAMILIES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "bitnet": "bitnet"}
_ACTIVATIONS = {"silu": "silu", "swish": "silu", "relu2": "relu_squared"}


@dataclass(frozen=True)
class Packing:
    """How a folder stores its ternary matrices.

    Args:
        masters: whether the file holds float masters, which are rounded in each forward pass ("online").
        divides: whether a matrix is its codes divided by `weight_scale`, instead of times it.
    """

    masters: bool
    divides: bool


def folder_architecture(folder: Folder) -> Architecture:
    """Read the sizes and options of a folder's model.

    Raises:
        ForeignModelError: onebit does not run the architecture, or a value is missing or wrong.
    """
    where = str(folder.path / "config.json")
    fields = Fields(folder.config, where)
    name = fields.text("model_type")
    if name not in _FAMILIES:
        raise refuse_architecture(where, name, tuple(_FAMILIES))
    width, heads = fields.whole("hidden_size"), fields.whole("num_attention_heads")
    head_size = fields.whole("head_dim", max(width // heads, 1))
    context = fields.whole("max_position_embeddings")
    activation = fields.text("hidden_act", "silu")
    if activation not in _ACTIVATIONS:
        raise fields.fail(f"hidden_act={excerpt(activation)}: onebit has {', '.join(_ACTIVATIONS)}")
    return check(
        Architecture(
            family=_FAMILIES[name],
            layers=fields.whole("num_hidden_layers", most=MAX_LAYERS),
            width=width,
            hidden=fields.whole("intermediate_size"),
            heads=heads,
            kv_heads=fields.whole("num_key_value_heads", heads),
            head_size=head_size,
            vocabulary=fields.whole("vocab_size"),
            context=context,
            eps=fields.real("rms_norm_eps", 1e-6),
            rotary=_rotary(fields, head_size, context),
            activation=_ACTIVATIONS[activation],
            window=_window(fields, name, context),
            int8_inputs=packing(folder) is not None,
        ),
        where,
    )


def packing(folder: Folder) -> Packing | None:
    """How the ternary matrices are stored; None for a model of floats.

    Raises:
        ForeignModelError: the quantisation is of another method.
    """
    fields = Fields(folder.config, str(folder.path / "config.json"))
    given = fields.get("quantization_config")
    if given is None:
        return None
    inner = Fields(given if isinstance(given, dict) else {}, fields.where, "")
    method = inner.text("quant_method", "")
    if method != "bitnet":
        raise fields.fail(
            f"quantization_config: its method is {excerpt(method)}: onebit reads bitnet, or a GGUF file of the model"
        )
    linear, mode = inner.text("linear_class", "bitlinear"), inner.text("quantization_mode", "offline")
    if linear not in ("bitlinear", "autobitlinear") or mode not in ("online", "offline"):
        raise fields.fail(
            f"quantization_config: linear_class={excerpt(linear)}, quantization_mode={excerpt(mode)} are not known"
        )
    if inner.get("use_rms_norm"):
        raise fields.fail(
            "quantization_config: use_rms_norm puts a norm into each matrix, which onebit does not import"
        )
    return Packing(masters=linear == "autobitlinear" and mode == "online", divides=linear == "bitlinear")


def _window(fields: Fields, name: str, context: int) -> int | None:
    if name != "mistral" and fields.get("use_sliding_window") is not True:
        return None
    if fields.get("sliding_window") is None:
        return None
    if name != "mistral" and (fields.get("max_window_layers") or 0) > 0:
        raise fields.fail("use_sliding_window holds for some layers only, which onebit does not import")
    window = fields.whole("sliding_window")
    return window if window < context else None


def _rotary(fields: Fields, head_size: int, context: int) -> Rotary:
    """Both ways of writing it: `rope_theta` with `rope_scaling`, and today's `rope_parameters`."""
    given: Any = fields.get("rope_parameters") or fields.get("rope_scaling") or {}
    if not isinstance(given, dict):
        raise fields.fail(f"rope_scaling={excerpt(given)}: needs an object")
    scaling = Fields(given, fields.where)
    default = {"bitnet": 500000.0}.get(fields.text("model_type"), 10000.0)
    base = scaling.real("rope_theta", fields.real("rope_theta", default))
    partial = scaling.real("partial_rotary_factor", fields.real("partial_rotary_factor", 1.0))
    rotated = int(head_size * partial)
    kind = scaling.text("rope_type", scaling.text("type", "default"))
    if kind == "default":
        return Rotary(base, rotated)
    if kind not in ("linear", "yarn", "llama3"):
        raise fields.fail(f"the rotary positions are scaled by {excerpt(kind)}: onebit has linear, yarn and llama3")
    found: dict[str, Any] = {"kind": kind, "factor": scaling.real("factor")}
    if kind == "linear":
        return Rotary(base, rotated, found)
    found["original_context"] = scaling.whole("original_max_position_embeddings", context)
    if kind == "llama3":
        found |= {name: scaling.real(name) for name in ("low_freq_factor", "high_freq_factor")}
        return Rotary(base, rotated, found)
    if scaling.get("truncate") is False:
        raise fields.fail("yarn with truncate=false: onebit rounds the ends of the ramp")
    found |= {"beta_fast": scaling.real("beta_fast", 32.0), "beta_slow": scaling.real("beta_slow", 1.0)}
    attention = _attention_factor(scaling, found["factor"])
    return Rotary(base, rotated, found if attention is None else found | {"attention_factor": attention})


def _attention_factor(scaling: Fields, factor: float) -> float | None:
    if scaling.get("attention_factor") is not None:
        return scaling.real("attention_factor")
    if not (scaling.get("mscale") and scaling.get("mscale_all_dim")):
        return None  # the paper's
    parts = [0.1 * scaling.real(name) * math.log(factor) + 1 for name in ("mscale", "mscale_all_dim")]
    return parts[0] / parts[1]
