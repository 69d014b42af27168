"""Small language models with random weights, as folders and as GGUF files, alike on every machine and without PyTorch."""

import json
import zlib

import numpy as np
from gguf_files import floats, gguf

from onebit.fileformat import safetensors_header
from onebit.task import byte_alphabet

VOCABULARY = 300
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "eos_token_id": 256,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 1e6}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_theta": 5e5,
}
WIDE = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 1}
BITNET = {"model_type": "bitnet", "hidden_act": "relu2", "tie_word_embeddings": True, "rope_theta": 5e5}


def packed(linear, mode):
    return {"quant_method": "bitnet", "linear_class": linear, "quantization_mode": mode}


CONFIGS = {
    "llama": {"model_type": "llama", "rope_theta": 1e4},
    "llama, llama3 scaling, tied": {"model_type": "llama", "rope_scaling": LLAMA3, "tie_word_embeddings": True},
    "llama, linear scaling, biases": {
        "model_type": "llama",
        "attention_bias": True,
        "mlp_bias": True,
        "rope_scaling": {"type": "linear", "factor": 4.0},
    },
    "mistral with a window": {"model_type": "mistral", "sliding_window": 16},
    "qwen2": {"model_type": "qwen2", "rope_theta": 1e6},
    "qwen3": {"model_type": "qwen3", "head_dim": 32, "tie_word_embeddings": True, "rope_theta": 1e6},
    "qwen3, yarn": {"model_type": "qwen3", "head_dim": 32, "rope_parameters": YARN},
    "bitnet": BITNET,
    "bitnet, online": BITNET | {"quantization_config": packed("autobitlinear", "online")},
    "bitnet, offline": BITNET | {"quantization_config": packed("autobitlinear", "offline")},
    # Rows of whole blocks of any type.
    "wide qwen3": WIDE | {"model_type": "qwen3", "head_dim": 64, "tie_word_embeddings": True, "rope_theta": 1e6},
    "wide llama": WIDE | {"model_type": "llama"},
    "wide bitnet": WIDE | BITNET | {"quantization_config": packed("autobitlinear", "offline")},
    "falcon-e": {"model_type": "llama", "quantization_config": packed("bitlinear", "offline")},
}


def config(name):
    return SIZES | CONFIGS[name]


def weights(name):
    """The float weights of a model by their names in a folder, (outputs, inputs) each."""
    values = config(name)
    width, hidden, layers = values["hidden_size"], values["intermediate_size"], values["num_hidden_layers"]
    size = values.get("head_dim", width // values["num_attention_heads"])
    q, kv = size * values["num_attention_heads"], size * values["num_key_value_heads"]
    shapes = {"model.embed_tokens.weight": (VOCABULARY, width), "model.norm.weight": (width,)}
    if not values.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (VOCABULARY, width)
    for i in range(layers):
        of = f"model.layers.{i}."
        linear = {
            f"{of}self_attn.{n}_proj": s
            for n, s in zip("qkvo", ((q, width), (kv, width), (kv, width), (width, q)), strict=True)
        }
        linear |= {
            f"{of}mlp.gate_proj": (hidden, width),
            f"{of}mlp.up_proj": (hidden, width),
            f"{of}mlp.down_proj": (width, hidden),
        }
        shapes |= {f"{part}.weight": shape for part, shape in linear.items()}
        biased = [
            p
            for p in linear
            if ("self_attn" in p and values.get("attention_bias")) or ("mlp" in p and values.get("mlp_bias"))
        ]
        if values["model_type"] == "qwen2":
            biased = [p for p in linear if p.endswith(("q_proj", "k_proj", "v_proj"))]
        shapes |= {f"{part}.bias": linear[part][:1] for part in biased}
        norms = {"input_layernorm": width, "post_attention_layernorm": width}
        norms |= {"self_attn.q_norm": size, "self_attn.k_norm": size} if values["model_type"] == "qwen3" else {}
        norms |= {"self_attn.attn_sub_norm": q, "mlp.ffn_sub_norm": hidden} if values["model_type"] == "bitnet" else {}
        shapes |= {f"{of}{norm}.weight": (n,) for norm, n in norms.items()}
    return {n: _random(n, shape) for n, shape in shapes.items()}


def _random(name, shape):
    chance = np.random.default_rng(zlib.crc32(name.encode()))
    values = chance.standard_normal(shape)
    scaled = values * (0.15 if len(shape) == 2 else 0.2) + ("norm" in name)
    return scaled.astype(np.float32)


def is_packed(name, values):
    """Whether a matrix is ternary in the folder."""
    return "_proj.weight" in name and values.get("quantization_config", {}).get("quantization_mode") == "offline"


def ternary(weight):
    """Codes and their scale, as BitNet rounds weights."""
    scale = np.float32(1) / np.abs(weight).mean(dtype=np.float32)
    return np.clip(np.rint(weight * scale), -1, 1).astype(np.int8), np.float32(1) / scale


def stored(name):
    """The tensors of a folder: floats, and for ternary models packed codes with their scales."""
    values, tensors = config(name), {}
    for part, weight in weights(name).items():
        if not is_packed(part, values):
            tensors[part] = weight
            continue
        codes, scale = ternary(weight)
        quarters = (codes + 1).astype(np.uint8).reshape(4, len(codes) // 4, -1)
        tensors[part] = quarters[0] | quarters[1] << 2 | quarters[2] << 4 | quarters[3] << 6
        divides = values["quantization_config"]["linear_class"] == "bitlinear"
        tensors[f"{part}_scale"] = np.array([1 / scale if divides else scale], np.float32)
    return tensors


def tokenizer():
    """A tokenizer of bytes with two merges and an end."""
    tokens = [*byte_alphabet(), "<|end|>", "he", "hel"]
    return {
        "version": "1.0",
        "added_tokens": [
            {
                "id": 256,
                "content": "<|end|>",
                "special": True,
                "normalized": False,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
            }
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)}, "merges": ["h e", "he l"]},
    }


def write_folder(folder, name, tensors=None, values=None):
    """A model as Hugging Face has it."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = stored(name) if tensors is None else tensors
    header = safetensors_header(tensors, {"format": "pt"})
    content = b"".join(np.ascontiguousarray(tensor).tobytes() for tensor in tensors.values())
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + content)
    (folder / "config.json").write_text(json.dumps(config(name) if values is None else values))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "<|end|>", "chat_template": "{{ messages[0].content }}"})
    )
    return folder


NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.attn_sub_norm": "attn_sub_norm",
    "mlp.ffn_sub_norm": "ffn_sub_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    part, kind = name.rsplit(".", 1)
    if part.startswith("model.layers."):
        _, _, index, rest = part.split(".", 3)
        return f"blk.{index}.{NAMES[rest]}.{kind}"
    return f"{NAMES[part]}.{kind}"


def paired(weight, heads):
    """llama's rows in GGUF: feature j of a head beside j + half, as llama.cpp's converter lays them."""
    return weight.reshape(heads, 2, len(weight) // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def gguf_metadata(name):
    values = config(name)
    arch = {"mistral": "llama", "bitnet": "bitnet-b1.58"}.get(values["model_type"], values["model_type"])
    rope = values.get("rope_parameters", {}) | values.get("rope_scaling", {})
    metadata = {
        "general.architecture": arch,
        "general.name": name,
        f"{arch}.block_count": values["num_hidden_layers"],
        f"{arch}.context_length": values["max_position_embeddings"],
        f"{arch}.embedding_length": values["hidden_size"],
        f"{arch}.feed_forward_length": values["intermediate_size"],
        f"{arch}.attention.head_count": values["num_attention_heads"],
        f"{arch}.attention.head_count_kv": values["num_key_value_heads"],
        f"{arch}.attention.layer_norm_rms_epsilon": values["rms_norm_eps"],
        f"{arch}.rope.freq_base": float(rope.get("rope_theta", values.get("rope_theta", 1e4))),
    }
    if "head_dim" in values:
        metadata |= {
            f"{arch}.attention.key_length": values["head_dim"],
            f"{arch}.attention.value_length": values["head_dim"],
        }
    if "sliding_window" in values:
        metadata[f"{arch}.attention.sliding_window"] = values["sliding_window"]
    kind = rope.get("rope_type", rope.get("type", "llama3"))
    if kind != "llama3":
        metadata |= {f"{arch}.rope.scaling.type": kind, f"{arch}.rope.scaling.factor": rope["factor"]}
    if kind == "yarn":
        metadata[f"{arch}.rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
    model = tokenizer()["model"]
    return metadata | {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": list(model["vocab"]),
        "tokenizer.ggml.token_type": [(5, 3 if token == "<|end|>" else 1) for token in model["vocab"]],
        "tokenizer.ggml.merges": model["merges"],
        "tokenizer.ggml.eos_token_id": 256,
    }


def gguf_tensors(name, encode=None):
    """The tensors of a GGUF file; `encode` makes (shape, type, bytes) of a matrix inside blocks, by default floats."""
    values = config(name)
    tensors = {}
    for part, weight in weights(name).items():
        if values["model_type"] in ("llama", "mistral") and part.endswith(
            ("q_proj.weight", "k_proj.weight", "q_proj.bias", "k_proj.bias")
        ):
            weight = paired(weight, values["num_attention_heads" if ".q_proj" in part else "num_key_value_heads"])
        tensors[gguf_name(part)] = encode(weight) if encode and "_proj.weight" in part else floats(weight)
    if values.get("rope_scaling", {}).get("rope_type") == "llama3":
        tensors["rope_freqs.weight"] = floats(llama3_factors(values))
    return tensors


def llama3_factors(values):
    """What llama.cpp's converter stores of Llama 3's scaling."""
    scaling, size = values["rope_scaling"], values["hidden_size"] // values["num_attention_heads"]
    waves = 2 * np.pi * scaling["rope_theta"] ** (np.arange(0, size, 2) / size)
    original, low, high = (
        scaling["original_max_position_embeddings"],
        scaling["low_freq_factor"],
        scaling["high_freq_factor"],
    )
    smooth = (original / waves - low) / (high - low)
    between = 1 / ((1 - smooth) / scaling["factor"] + smooth)
    return np.where(waves < original / high, 1, np.where(waves > original / low, scaling["factor"], between))


def write_gguf(path, name, encode=None, metadata=None, tensors=None):
    """A model as llama.cpp has it."""
    path.write_bytes(gguf(gguf_metadata(name) | (metadata or {}), tensors or gguf_tensors(name, encode)))
    return path


def row_bits(values, width):
    """Codes (..., n) of `width` bits each as bytes, the first code lowest."""
    per_byte = 8 // width
    parts = values.astype(np.uint8).reshape(*values.shape[:-1], -1, per_byte)
    return (parts << np.arange(0, 8, width, dtype=np.uint8)).sum(-1).astype(np.uint8)


def as_q1_0(weight):
    """Type 41: a float16 scale and 128 signs, and what they are worth."""
    blocks = weight.reshape(len(weight), -1, 128)
    scale = np.abs(blocks).mean(-1, keepdims=True).astype(np.float16)
    content = np.concatenate([scale.view(np.uint8), row_bits(blocks >= 0, 1)], -1)
    return (weight.shape, 41, content.tobytes()), np.where(blocks >= 0, 1, -1) * scale.astype(np.float32)


def as_q2_0(weight):
    """Type 42: a float16 scale and 64 codes of two bits."""
    blocks = weight.reshape(len(weight), -1, 64)
    scale = np.abs(blocks).mean(-1, keepdims=True).astype(np.float16)
    codes = np.clip(np.rint(blocks / scale.astype(np.float32)), -1, 2)
    content = np.concatenate([scale.view(np.uint8), row_bits(codes + 1, 2)], -1)
    return (weight.shape, 42, content.tobytes()), codes * scale.astype(np.float32)


def as_tq2_0(weight):
    """Type 35: planes of 32 codes in each half of 256, and a float16 scale."""
    blocks = weight.reshape(len(weight), -1, 256)
    scale = np.abs(blocks).mean(-1, keepdims=True).astype(np.float16)
    codes = np.clip(np.rint(blocks / scale.astype(np.float32)), -1, 1)
    planes = (codes + 1).reshape(*codes.shape[:2], 2, 4, 32).swapaxes(-1, -2)
    content = np.concatenate([row_bits(planes, 2).reshape(*codes.shape[:2], 64), scale.view(np.uint8)], -1)
    return (weight.shape, 35, content.tobytes()), codes * scale.astype(np.float32)


def as_tq1_0(weight):
    """Type 34: five digits of base 3 a byte, as a fraction of 256: 32 and 16 bytes of five, 4 bytes of four, and a float16 scale."""
    blocks = weight.reshape(len(weight), -1, 256)
    scale = np.abs(blocks).mean(-1, keepdims=True).astype(np.float16)
    codes = np.clip(np.rint(blocks / scale.astype(np.float32)), -1, 1)
    digits = (codes + 1).astype(np.int64)

    def packed(part, size):
        places = part.reshape(*part.shape[:2], -1, size)
        powers = 3 ** np.arange(4, 4 - places.shape[2], -1)
        return ((places * powers[:, None]).sum(2) * 256 + 242) // 243

    parts = [packed(digits[..., :160], 32), packed(digits[..., 160:240], 16), packed(digits[..., 240:], 4)]
    content = np.concatenate([*(part.astype(np.uint8) for part in parts), scale.view(np.uint8)], -1)
    return (weight.shape, 34, content.tobytes()), codes * scale.astype(np.float32)


def as_q8_0(weight):
    """Type 8: a float16 scale and 32 bytes."""
    blocks = weight.reshape(len(weight), -1, 32)
    scale = (np.abs(blocks).max(-1, keepdims=True) / 127).astype(np.float16)
    codes = np.clip(np.rint(blocks / scale.astype(np.float32)), -127, 127).astype(np.int8)
    content = np.concatenate([scale.view(np.uint8), codes.view(np.uint8)], -1)
    return (weight.shape, 8, content.tobytes()), codes * scale.astype(np.float32)


def as_i2_s(weight):
    """Type 36: bytes of four codes, 32 weights apart, and one scale after all of them."""
    codes, scale = ternary(weight)
    parts = (codes + 1).astype(np.uint8).reshape(-1, 4, 32)
    content = (parts << np.array([6, 4, 2, 0], np.uint8)[:, None]).sum(1).astype(np.uint8).tobytes()
    return weight.shape, 36, content + np.float32(scale).tobytes() + bytes(28)
