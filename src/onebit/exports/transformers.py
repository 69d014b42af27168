"""Export a ternary language model as a folder that transformers reads: packed weights of two bits, four to a byte."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.exports import Written
from onebit.exports.language_models import PackedParts
from onebit.fileformat import PackedModel, safetensors_header, write_safetensors
from onebit.importing.architecture import Architecture
from onebit.importing.blocks import Levels
from onebit.importing.parts import FOLDER_NAMES
from onebit.subwords import SubwordTask, tokens_of, unpack_tokenizer

_OTHERS = {"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
_PACKED_ROWS = 4  # of a byte
_CLASSES = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "bitnet": "BitNet"}
# The names of yarn's and Llama 3's parameters are those of transformers, but for these.
_SCALING = {"kind": "rope_type", "original_context": "original_max_position_embeddings"}


def write(model: PackedModel, out: Path) -> Written:
    """Write a folder with config.json, model.safetensors and the tokenizer's files.

    Args:
        model: of `onebit import` or `onebit convert`, with ternary weights of one scale for each matrix.
        out: the folder. The table, the head and the norms become float32, packed weights uint8 with their `weight_scale`.

    Raises:
        OnebitError: it is another kind of model, has scales for groups of inputs, or rows that four does not divide.
        OSError: the folder cannot be written.
    """
    parts = PackedParts(model)
    tensors = _tensors(parts)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as made:
        folder = Path(made) / "folder"
        folder.mkdir()
        write_safetensors(folder / "model.safetensors", safetensors_header(tensors, {"format": "pt"}), tensors)
        for name, values in _files(parts, SubwordTask.from_json(model.task)).items():
            (folder / name).write_text(json.dumps(values, indent=2, ensure_ascii=False), "utf-8")
        size = sum(file.stat().st_size for file in folder.iterdir())
        shutil.move(folder, out)
    return Written(len(tensors), sum(tensor.size for tensor in tensors.values()), size, None)


def _tensors(parts: PackedParts) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for name in parts.matrices:
        theirs = _folder_name(name)
        matrix = parts.matrix(name, *parts.shape(name))
        decoded = matrix.decoded()
        if name in _OTHERS:
            found[f"{theirs}.weight"] = decoded if isinstance(decoded, np.ndarray) else decoded.floats()
            continue
        if matrix.form != "ternary" or not isinstance(decoded, Levels):
            raise OnebitError(
                f"[export] {name} is not ternary with one scale for the matrix, which the packed layout needs: "
                "export gguf instead, or convert with --scheme bitnet"
            )
        if matrix.rows % _PACKED_ROWS:
            raise OnebitError(f"[export] {name} has {matrix.rows} rows: four do not divide them; export gguf instead")
        quarters = (decoded.codes + np.int8(1)).astype(np.uint8).reshape(_PACKED_ROWS, -1, matrix.columns)
        found[f"{theirs}.weight"] = quarters[0] | quarters[1] << 2 | quarters[2] << 4 | quarters[3] << 6
        found[f"{theirs}.weight_scale"] = np.array([matrix.one_scale()], np.float32)
        if parts.has(name, "bias"):
            found[f"{theirs}.bias"] = parts.vector(name, matrix.rows, "bias")
    for name in sorted(n.removesuffix(".gain") for n in parts.model.tensors if n.endswith(".gain")):
        found[f"{_folder_name(name)}.weight"] = parts.vector(name, parts.length(name))
    # Wide numbers come first, so that they are aligned.
    return {name: found[name] for name in sorted(found, key=lambda name: (-found[name].dtype.itemsize, name))}


def _folder_name(name: str) -> str:
    if name in _OTHERS:
        return _OTHERS[name]
    _, index, rest = name.split(".", 2)
    return f"model.layers.{index}.{FOLDER_NAMES[rest]}"


def _files(parts: PackedParts, task: SubwordTask) -> dict[str, dict[str, Any]]:
    """The JSON files by their names."""
    tree = unpack_tokenizer(task.tokenizer)
    tokens = tokens_of(tree)
    end = next((i for i in task.ends if tokens[i] in (task.chat_template or "")), task.ends[0])
    begin = task.starts[0] if task.starts else None
    config = _config(parts.sizes, parts.tied) | {"bos_token_id": task.separator, "eos_token_id": end}
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": tokens[end]}
    tokenizer |= {} if begin is None else {"bos_token": tokens[begin]}
    tokenizer |= {} if task.chat_template is None else {"chat_template": task.chat_template}
    tree |= {} if begin is None else {"post_processor": _beginning(tokens[begin], begin)}
    return {
        "config.json": config,
        "generation_config.json": {"eos_token_id": list(task.ends)},
        "tokenizer_config.json": tokenizer,
        "tokenizer.json": tree,
    }


def _beginning(token: str, index: int) -> dict[str, Any]:
    """What puts a token before every text."""
    special: dict[str, Any] = {"SpecialToken": {"id": token, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": kind}} for name, kind in (("A", 0), ("B", 1)))
    named = {token: {"id": token, "ids": [index], "tokens": [token]}}
    pair = [special, first, special, second]
    return {"type": "TemplateProcessing", "single": [special, first], "pair": pair, "special_tokens": named}


def _config(sizes: Architecture, tied: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "architectures": [f"{_CLASSES[sizes.family]}ForCausalLM"],
        "model_type": sizes.family,
        "hidden_size": sizes.width,
        "intermediate_size": sizes.hidden,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "head_dim": sizes.head_size,
        "vocab_size": sizes.vocabulary,
        "max_position_embeddings": sizes.context,
        "rms_norm_eps": sizes.eps,
        "rope_theta": sizes.rotary.base,
        "hidden_act": "relu2" if sizes.activation == "relu_squared" else "silu",
        "tie_word_embeddings": tied,
        "quantization_config": {
            "quant_method": "bitnet",
            "linear_class": "autobitlinear",
            "quantization_mode": "offline",
        },
    }
    if sizes.rotary.scaling is not None:
        found["rope_scaling"] = {_SCALING.get(name, name): value for name, value in sizes.rotary.scaling.items()}
    if sizes.rotary.rotated != sizes.head_size:
        found["partial_rotary_factor"] = sizes.rotary.rotated / sizes.head_size
    if sizes.window is not None:
        found |= {"sliding_window": sizes.window, "use_sliding_window": True}
    return found
