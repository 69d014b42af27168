"""Export an imported or converted language model to GGUF, which llama.cpp runs."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.exports import Check, Written
from onebit.exports.gguf_blocks import F32, encode
from onebit.exports.gguf_tokenizer import tokenizer_metadata
from onebit.exports.language_models import PackedParts
from onebit.fileformat import PackedModel, place_atomically
from onebit.importing.architecture import Architecture
from onebit.importing.blocks import Decoded, Levels, Signs
from onebit.importing.gguf import MAGIC, read_gguf
from onebit.importing.gguf_architecture import gguf_architecture
from onebit.importing.matrices import unpaired
from onebit.importing.parts import GGUF_NAMES, gguf_parts
from onebit.ops.rotary import frequencies
from onebit.progress import report
from onebit.subwords import SubwordTask

_VERSION, _ALIGNMENT = 3, 32
_BOOLEAN, _TEXT, _LIST, _INTEGER, _FLOAT = 7, 8, 9, 4, 6
Encoded = tuple[tuple[int, ...], int, NDArray[np.uint8]]  # shape, type, bytes


def write(model: PackedModel, out: Path, *, check: bool = False) -> Written:
    """Write a language model as GGUF. Weights and scales stay what they are; one scale for a whole matrix is rounded to float16.

    Args:
        model: of `onebit import` or `onebit convert`.
        out: the file.
        check: read the file back and compare its weights.

    Raises:
        OnebitError: it is another kind of model, or its tokenizer has no name in GGUF.
        OSError: the file cannot be written.
    """
    parts = PackedParts(model)
    metadata = _metadata(parts, SubwordTask.from_json(model.task))
    names = list(_tensors(parts))
    # Shapes and types decide the places before the bytes are there; the bytes of each are made twice rather than kept.
    entries, end, values = [], 0, 0
    for name in names:
        shape, kind, content = _encoded(parts, name)
        entries.append((_gguf_name(name), shape, kind, end))
        end += -(-content.nbytes // _ALIGNMENT) * _ALIGNMENT
        values += int(np.prod(shape))
    head = _head(metadata, entries)
    start = -(-len(head) // _ALIGNMENT) * _ALIGNMENT

    def pieces() -> Iterator[tuple[int, bytes | memoryview]]:
        yield 0, head
        for done, (name, entry) in enumerate(zip(names, entries, strict=True)):
            yield start + entry[3], _encoded(parts, name)[2].data
            report("export", done + 1, len(names), "tensors")

    place_atomically(out, start + end, pieces())
    return Written(len(names), values, start + end, _check(parts, out) if check else None)


def _tensors(parts: PackedParts) -> Iterator[str]:
    """Our names of all tensors: `NAME.weight` or `NAME.bias`."""
    yield "embedding.weight"
    for name in GGUF_NAMES:
        for index in range(parts.sizes.layers):
            full = f"blocks.{index}.{name}"
            if parts.has(full) or f"{full}.gain" in parts.model.tensors:
                yield f"{full}.weight"
            if parts.has(full, "bias"):
                yield f"{full}.bias"
    yield "norm.weight"
    if not parts.tied:
        yield "head.weight"
    if (parts.sizes.rotary.scaling or {}).get("kind") == "llama3":
        yield "rope_freqs.weight"


def _gguf_name(name: str) -> str:
    own, _, kind = name.rpartition(".")
    if own.startswith("blocks."):
        _, index, rest = own.split(".", 2)
        return f"blk.{index}.{GGUF_NAMES[rest]}.{kind}"
    return {"embedding": "token_embd", "norm": "output_norm", "head": "output"}.get(own, own) + f".{kind}"


def _encoded(parts: PackedParts, name: str) -> Encoded:
    own, _, kind = name.rpartition(".")
    if own == "rope_freqs":
        factors = _llama3_factors(parts.sizes)
        return factors.shape, F32, factors.view(np.uint8)
    if own not in parts.matrices or kind == "bias":
        vector = parts.vector(own, parts.length(own), kind)
        vector = _paired(parts.sizes, own, vector[:, None])[:, 0] if kind == "bias" else vector
        return vector.shape, F32, np.ascontiguousarray(vector, "<f4").view(np.uint8)
    matrix = parts.matrix(own, *parts.shape(own))
    number, content = encode(_turned(parts.sizes, own, matrix.decoded()), matrix.form in ("levels", "ternary"))
    return (matrix.rows, matrix.columns), number, content


def _turned(sizes: Architecture, name: str, decoded: Decoded) -> Decoded:
    if isinstance(decoded, Signs):
        return Signs(_paired(sizes, name, decoded.bits), _paired(sizes, name, decoded.scales))
    if isinstance(decoded, Levels):
        return Levels(_paired(sizes, name, decoded.codes), _paired(sizes, name, decoded.scales))
    return _paired(sizes, name, decoded)


def _paired(sizes: Architecture, name: str, rows: NDArray[Any]) -> NDArray[Any]:
    """llama's rows of queries and keys stand in pairs there, feature j of a head beside j + half of it."""
    if sizes.family != "llama" or not name.endswith(("attention.q", "attention.k")):
        return rows
    order = np.argsort(unpaired(sizes.head_size, sizes.rotary.rotated))
    return rows.reshape(-1, len(order), *rows.shape[1:])[:, order].reshape(rows.shape)


def _metadata(parts: PackedParts, task: SubwordTask) -> dict[str, Any]:
    sizes, family = parts.sizes, parts.sizes.family
    found: dict[str, Any] = {
        "general.architecture": family,
        "general.alignment": _ALIGNMENT,
        f"{family}.block_count": sizes.layers,
        f"{family}.context_length": sizes.context,
        f"{family}.embedding_length": sizes.width,
        f"{family}.feed_forward_length": sizes.hidden,
        f"{family}.attention.head_count": sizes.heads,
        f"{family}.attention.head_count_kv": sizes.kv_heads,
        f"{family}.attention.key_length": sizes.head_size,
        f"{family}.attention.value_length": sizes.head_size,
        f"{family}.attention.layer_norm_rms_epsilon": float(sizes.eps),
        f"{family}.rope.dimension_count": sizes.rotary.rotated,
        f"{family}.rope.freq_base": float(sizes.rotary.base),
        f"{family}.vocab_size": sizes.vocabulary,
    }
    if sizes.window is not None:
        found[f"{family}.attention.sliding_window"] = sizes.window
    if family == "bitnet":
        found["bitnet.hidden_activation"] = "relu2" if sizes.activation == "relu_squared" else "silu"
    return found | _scaling(sizes) | tokenizer_metadata(task, sizes.vocabulary)


def _scaling(sizes: Architecture) -> dict[str, Any]:
    """Of the rotary positions; Llama 3's is a tensor."""
    scaling = sizes.rotary.scaling
    if scaling is None or scaling["kind"] == "llama3":
        return {}
    prefix = f"{sizes.family}.rope.scaling"
    found: dict[str, Any] = {f"{prefix}.type": scaling["kind"], f"{prefix}.factor": float(scaling["factor"])}
    if scaling["kind"] == "yarn":
        found[f"{prefix}.original_context_length"] = int(scaling["original_context"])
        found |= {f"{prefix}.yarn_{name}": float(scaling[name]) for name in ("beta_fast", "beta_slow")}
        if "attention_factor" in scaling:
            # llama.cpp multiplies the factor of the paper by this one.
            found[f"{prefix}.attn_factor"] = scaling["attention_factor"] / (0.1 * np.log(scaling["factor"]) + 1)
    return found


def _llama3_factors(sizes: Architecture) -> NDArray[np.float32]:
    """What each frequency is divided by."""
    base, rotated = sizes.rotary.base, sizes.rotary.rotated
    plain = frequencies({"base": base}, rotated)[0]
    return (plain / frequencies({"base": base, "scaling": sizes.rotary.scaling}, rotated)[0]).astype("<f4")


def _head(metadata: dict[str, Any], entries: list[tuple[str, tuple[int, ...], int, int]]) -> bytes:
    parts = [MAGIC, struct.pack("<IQQ", _VERSION, len(entries), len(metadata))]
    for key, value in metadata.items():
        kind, content = _value(value)
        parts += [_text(key), struct.pack("<I", kind), content]
    for name, shape, number, start in entries:
        axes = shape[::-1]
        parts += [_text(name), struct.pack(f"<I{len(axes)}QIQ", len(axes), *axes, number, start)]
    return b"".join(parts)


def _text(value: str) -> bytes:
    content = value.encode()
    return struct.pack("<Q", len(content)) + content


def _value(value: Any) -> tuple[int, bytes]:
    """The type of a value of the metadata, and its bytes."""
    if isinstance(value, bool):
        return _BOOLEAN, struct.pack("<?", value)
    if isinstance(value, str):
        return _TEXT, _text(value)
    if isinstance(value, int):
        return _INTEGER, struct.pack("<I", value)
    if isinstance(value, float):
        return _FLOAT, struct.pack("<f", value)
    kind = 5 if isinstance(value[0], int) else _value(value[0])[0]
    content = struct.pack(f"<{len(value)}i", *value) if kind == 5 else b"".join(_value(item)[1] for item in value)
    return _LIST, struct.pack("<IQ", kind, len(value)) + content


def _check(parts: PackedParts, out: Path) -> Check:
    """Read the file back, and compare the values of all matrices."""
    file = read_gguf(out)
    try:
        theirs = gguf_parts(file, gguf_architecture(file))
        values = different = 0
        for name in parts.matrices:
            ours = _floats(_rounded(parts.matrix(name, *parts.shape(name)).decoded()))
            for first, decoded in theirs.matrix(name, *parts.shape(name)).pieces():
                found = _floats(decoded)
                values += found.size
                different += int((found != ours[first : first + len(found)]).sum())
    finally:
        file.close()
    return Check(len(parts.matrices), values, different, "weights")


def _rounded(decoded: Decoded) -> Decoded:
    """With scales of float16, which one scale for a whole matrix is not."""
    return (
        Levels(decoded.codes, decoded.scales.astype(np.float16).astype(np.float32))
        if isinstance(decoded, Levels)
        else decoded
    )


def _floats(decoded: Decoded) -> NDArray[np.float32]:
    return decoded if isinstance(decoded, np.ndarray) else decoded.floats()
