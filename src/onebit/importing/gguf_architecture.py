"""The architecture of a GGUF file, out of its metadata."""

from __future__ import annotations

import math

import numpy as np

from onebit.errors import ForeignModelError
from onebit.importing.architecture import MAX_LAYERS, Architecture, Fields, Rotary, check, refuse_architecture
from onebit.importing.gguf import GGUF
from onebit.strict_json import excerpt

# The names of bitnet.cpp's fork and of llama.cpp itself. Only the fork's are certain to have squared ReLUs.
_FAMILIES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "bitnet": "bitnet",
    "bitnet-25": "bitnet",
    "bitnet-b1.58": "bitnet",
}
# Microsoft's model of 2025, which llama.cpp's own converter does not mark.
_SIZES_OF_2B = (2560, 6912)
_ROTARY_FACTORS = "rope_freqs.weight"


def gguf_architecture(file: GGUF) -> Architecture:
    """Read the sizes and options of a GGUF file's model.

    Raises:
        ForeignModelError: onebit does not run the architecture, or a value is missing or wrong.
    """
    where = str(file.path)
    name = Fields(file.metadata, where).text("general.architecture")
    if name not in _FAMILIES:
        raise refuse_architecture(where, name, tuple(_FAMILIES))
    fields = Fields(file.metadata, where, f"{name}.")
    if fields.whole("expert_count", 0, 0):
        raise refuse_architecture(where, f"{name} with experts (MoE)", tuple(_FAMILIES))
    width, heads = fields.whole("embedding_length"), fields.whole("attention.head_count")
    head_size = fields.whole("attention.key_length", max(width // heads, 1))
    if fields.whole("attention.value_length", head_size) != head_size:
        raise fields.fail("keys and values have heads of different sizes: onebit needs equal ones")
    context, hidden = fields.whole("context_length"), fields.whole("feed_forward_length")
    if "token_embd.weight" not in file.tensors:
        raise fields.fail("the tensor 'token_embd.weight' is missing: the file is damaged, or not a whole model")
    family = _FAMILIES[name]
    return check(
        Architecture(
            family=family,
            layers=fields.whole("block_count", most=MAX_LAYERS),
            width=width,
            hidden=hidden,
            heads=heads,
            kv_heads=fields.whole("attention.head_count_kv", heads),
            head_size=head_size,
            vocabulary=file.tensors["token_embd.weight"].rows,
            context=context,
            eps=fields.real("attention.layer_norm_rms_epsilon", 1e-5),
            rotary=_rotary(file, fields, head_size, context),
            activation=_activation(name, fields, (width, hidden)),
            window=_window(fields, context),
            interleaved=family == "llama",
            int8_inputs=family == "bitnet" or any(tensor.coding.name == "I2_S" for tensor in file.tensors.values()),
        ),
        where,
    )


def _activation(name: str, fields: Fields, sizes: tuple[int, int]) -> str:
    if _FAMILIES[name] != "bitnet":
        return "silu"
    given = fields.text("hidden_activation", "")
    if given and given not in ("relu2", "relu_sqr", "silu"):
        raise fields.fail(f"hidden_activation={excerpt(given)}: onebit has relu2 and silu")
    squared = given in ("relu2", "relu_sqr") if given else name != "bitnet" or sizes == _SIZES_OF_2B
    return "relu_squared" if squared else "silu"


def _window(fields: Fields, context: int) -> int | None:
    window = fields.whole("attention.sliding_window", 0, 0)
    return window if 0 < window < context else None


def _rotary(file: GGUF, fields: Fields, head_size: int, context: int) -> Rotary:
    base = fields.real("rope.freq_base", 10000.0)
    rotated = fields.whole("rope.dimension_count", head_size)
    factor = fields.real("rope.scaling.factor", fields.real("rope.scale_linear", 1.0))
    kind = fields.text("rope.scaling.type", "linear")
    if kind not in ("none", "linear", "yarn"):
        raise fields.fail(f"rope.scaling.type={excerpt(kind)}: onebit has none, linear, yarn and llama3")
    if _ROTARY_FACTORS in file.tensors:
        return Rotary(base, rotated, _llama3(file, base, rotated, context))
    if kind == "none" or factor == 1:
        return Rotary(base, rotated)
    if kind == "linear":
        return Rotary(base, rotated, {"kind": "linear", "factor": factor})
    scaling = {
        "kind": "yarn",
        "factor": factor,
        "original_context": fields.whole("rope.scaling.original_context_length", context),
        "beta_fast": fields.real("rope.scaling.yarn_beta_fast", 32.0),
        "beta_slow": fields.real("rope.scaling.yarn_beta_slow", 1.0),
    }
    attention = fields.real("rope.scaling.attn_factor", 1.0)
    if attention != 1:
        # llama.cpp multiplies the factor of the paper by this one.
        scaling["attention_factor"] = attention * (0.1 * math.log(factor) + 1)
    return Rotary(base, rotated, scaling)


def _llama3(file: GGUF, base: float, rotated: int, context: int) -> dict[str, float | str]:
    """The parameters of Llama 3's scaling. GGUF stores only what they make of each frequency, so the few in use are tried."""
    tensor = file.tensors[_ROTARY_FACTORS]
    if tensor.shape != (rotated // 2,):
        raise tensor.fail(f"has the shape {tensor.shape}: needs ({rotated // 2},)")
    found = tensor.floats()
    factor = round(float(found.max()), 3)
    for original in (8192, 4096, 16384, 32768):
        turns = original * base ** (-np.arange(0, rotated, 2) / rotated) / (2 * math.pi)
        share = np.clip((turns - 1) / 3, 0, 1)
        expected = 1 / ((1 - share) / factor + share) if factor >= 1 else np.zeros(rotated // 2)
        if np.allclose(found, expected, rtol=1e-4, atol=0):
            parts = {"factor": factor, "original_context": original, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
            return {"kind": "llama3", **parts}
    message = "its factors of the rotary frequencies are not those of Llama 3: import the folder of safetensors instead"
    raise ForeignModelError(f"[{file.path}] tensor {_ROTARY_FACTORS!r}: {message}")
