"""Language models of given sizes with random weights, as GGUF files, because speed does not depend on the weights.

The tokenizer has one merge. Ternary codes are a third zeros, and scales are such that numbers stay in their ranges.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

ALIGNMENT = 32


@dataclass(frozen=True)
class Sizes:
    """A model's sizes. Where it is `tied`, the `vocabulary` rows of the embedding serve the outputs too."""

    architecture: str
    layers: int
    width: int
    hidden: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    context: int = 4096
    tied: bool = True


SHAPES = {
    "small": Sizes("qwen3", 4, 512, 1536, 8, 4, 64, 8192),
    "bonsai-1.7b": Sizes("qwen3", 28, 2048, 6144, 16, 8, 128, 151936, 32768),
    "bonsai-4b": Sizes("qwen3", 36, 2560, 9728, 32, 8, 128, 151936, 32768),
    "bonsai-8b": Sizes("qwen3", 36, 4096, 12288, 32, 8, 128, 151936, 65536, tied=False),
    "books-10m": Sizes("qwen3", 6, 256, 512, 4, 4, 64, 4096),
    "bitnet-2b4t": Sizes("bitnet", 30, 2560, 6912, 20, 5, 128, 128256),
}


@dataclass(frozen=True)
class Type:
    """A type of blocks: its number in GGUF, what a block holds and takes, and what makes random blocks (n, bytes) with a scale.

    Some types have bytes before each row or after the whole matrix: a float32 scale.
    """

    number: int
    weights: int
    bytes: int
    blocks: Callable[[np.random.Generator, int, float], Any]
    before_row: int = 0
    after_matrix: int = 0

    def size(self, rows: int, columns: int) -> int:
        return rows * (columns // self.weights * self.bytes + self.before_row) + self.after_matrix

    def random(self, rng: np.random.Generator, rows: int, columns: int) -> bytes:
        scale = columns**-0.5
        content = self.blocks(rng, rows * columns // self.weights, scale)
        one = np.array([scale], "<f4")
        if self.before_row:
            first = np.broadcast_to(one.view(np.uint8), (rows, self.before_row))
            content = np.concatenate([first, content.reshape(rows, -1)], axis=1)
        return bytes(content.tobytes()) + (one.tobytes() + bytes(self.after_matrix))[: self.after_matrix]


def _joined(*parts: Any) -> Any:
    return np.concatenate(parts, axis=1)


def _scales(rng: np.random.Generator, count: int, scale: float) -> Any:
    return (rng.uniform(0.5, 1.5, (count, 1)) * scale).astype("<f2").view(np.uint8)


def _bytes(rng: np.random.Generator, count: int, width: int) -> Any:
    return rng.integers(0, 256, (count, width), np.uint8)


# The bytes of four codes 0, 1 and 2, and those of five or four ternary digits: fractions b / 256, rounded up.
_CODES = np.array([b for b in range(256) if all(b >> shift & 3 != 3 for shift in (0, 2, 4, 6))], np.uint8)
_FIVE = np.array([-(-i * 256 // 243) for i in range(243)], np.uint8)
_FOUR = np.array([-(-i * 3 * 256 // 243) for i in range(81)], np.uint8)


def _of(table: Any, rng: np.random.Generator, count: int, width: int) -> Any:
    return table[rng.integers(0, len(table), (count, width), np.uint8)]


TYPES = {
    "Q1_0": Type(41, 128, 18, lambda rng, n, s: _joined(_scales(rng, n, s), _bytes(rng, n, 16))),
    "Q2_0": Type(42, 64, 18, lambda rng, n, s: _joined(_scales(rng, n, s), _of(_CODES, rng, n, 16))),
    "TQ1_0": Type(
        34, 256, 54, lambda rng, n, s: _joined(_of(_FIVE, rng, n, 48), _of(_FOUR, rng, n, 4), _scales(rng, n, s))
    ),
    "TQ2_0": Type(35, 256, 66, lambda rng, n, s: _joined(_of(_CODES, rng, n, 64), _scales(rng, n, s))),
    "Q8_0": Type(8, 32, 34, lambda rng, n, s: _joined(_scales(rng, n, s / 64), _bytes(rng, n, 32))),
    "Q4_0": Type(2, 32, 18, lambda rng, n, s: _joined(_scales(rng, n, s / 4), _bytes(rng, n, 16))),
    "F16": Type(1, 1, 2, lambda rng, n, s: (rng.standard_normal((n, 1)) * s).astype("<f2").view(np.uint8)),
    # Of bitnet.cpp and of ik_llama.cpp.
    "I2_S": Type(36, 128, 32, lambda rng, n, s: _of(_CODES, rng, n, 32), after_matrix=32),
    "IQ2_BN": Type(135, 64, 16, lambda rng, n, s: _of(_CODES, rng, n, 16), before_row=4),
}


def matrices(sizes: Sizes) -> Iterator[tuple[str, int, int]]:
    """The name, outputs and inputs of every matrix; those with a row for each token first."""
    q, kv = sizes.heads * sizes.head, sizes.kv_heads * sizes.head
    yield "token_embd", sizes.vocabulary, sizes.width
    if not sizes.tied:
        yield "output", sizes.vocabulary, sizes.width
    for i in range(sizes.layers):
        yield f"blk.{i}.attn_q", q, sizes.width
        yield f"blk.{i}.attn_k", kv, sizes.width
        yield f"blk.{i}.attn_v", kv, sizes.width
        yield f"blk.{i}.attn_output", sizes.width, q
        yield f"blk.{i}.ffn_gate", sizes.hidden, sizes.width
        yield f"blk.{i}.ffn_up", sizes.hidden, sizes.width
        yield f"blk.{i}.ffn_down", sizes.width, sizes.hidden


def norms(sizes: Sizes) -> Iterator[tuple[str, int]]:
    """The name and the size of every normalisation."""
    yield "output_norm", sizes.width
    for i in range(sizes.layers):
        yield f"blk.{i}.attn_norm", sizes.width
        yield f"blk.{i}.ffn_norm", sizes.width
        if sizes.architecture == "qwen3":
            yield f"blk.{i}.attn_q_norm", sizes.head
            yield f"blk.{i}.attn_k_norm", sizes.head
        else:
            yield f"blk.{i}.attn_sub_norm", sizes.heads * sizes.head
            yield f"blk.{i}.ffn_sub_norm", sizes.hidden


def bytes_of_a_token(sizes: Sizes, kind: str, head: str) -> int:
    """The bytes of matrices that a token reads, in the file's types. Of an embedding that does not serve the outputs it reads a row."""
    read = [matrix for matrix in matrices(sizes) if sizes.tied or matrix[0] != "token_embd"]
    return sum(type_of(name, kind, head).size(*shape) for name, *shape in read)


def type_of(matrix: str, kind: str, head: str) -> Type:
    """The type of a matrix: that of layers, or that of embedding and outputs."""
    return TYPES[head if matrix in ("token_embd", "output") else kind]


def _text(value: str) -> bytes:
    content = value.encode()
    return struct.pack("<Q", len(content)) + content


def _pair(key: str, value: Any) -> bytes:
    """A key with its value: a text, a whole number, a float, or a list of texts or of int32."""
    if isinstance(value, str):
        return _text(key) + struct.pack("<I", 8) + _text(value)
    if isinstance(value, int):
        return _text(key) + struct.pack("<II", 4, value)
    if isinstance(value, float):
        return _text(key) + struct.pack("<If", 6, value)
    texts = all(isinstance(part, str) for part in value)
    content = b"".join(map(_text, value)) if texts else struct.pack(f"<{len(value)}i", *value)
    return _text(key) + struct.pack("<IIQ", 9, 8 if texts else 5, len(value)) + content


def _metadata(sizes: Sizes, architecture: str) -> bytes:
    # GPT-2's characters for bytes, so that every text has tokens.
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    tokens = [*letters, letters[0] + letters[1], *(f"<|{i}|>" for i in range(257, sizes.vocabulary))]
    values = {
        "general.architecture": architecture,
        "general.name": "random weights",
        f"{architecture}.block_count": sizes.layers,
        f"{architecture}.context_length": sizes.context,
        f"{architecture}.embedding_length": sizes.width,
        f"{architecture}.feed_forward_length": sizes.hidden,
        f"{architecture}.attention.head_count": sizes.heads,
        f"{architecture}.attention.head_count_kv": sizes.kv_heads,
        f"{architecture}.attention.key_length": sizes.head,
        f"{architecture}.attention.value_length": sizes.head,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{architecture}.rope.freq_base": 1e6,
        f"{architecture}.rope.dimension_count": sizes.head,
        f"{architecture}.vocab_size": sizes.vocabulary,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * 257 + [3] * (sizes.vocabulary - 257),
        "tokenizer.ggml.merges": [f"{letters[0]} {letters[1]}"],
        "tokenizer.ggml.eos_token_id": 257,
    }
    return struct.pack("<Q", len(values)) + b"".join(_pair(key, value) for key, value in values.items())


def _info(name: str, shape: tuple[int, ...], number: int, offset: int) -> bytes:
    axes = shape[::-1]
    return _text(f"{name}.weight") + struct.pack(f"<I{len(axes)}QIQ", len(axes), *axes, number, offset)


def _pad(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % ALIGNMENT))


def write_model(path: Path, sizes: Sizes, kind: str, head: str, architecture: str | None = None) -> None:
    """Write a model.

    Args:
        path: the file.
        sizes: the model's.
        kind: the type of the matrices inside layers, a name of TYPES.
        head: the type of the embedding and of the outputs.
        architecture: the name that the file gives its architecture, where an engine wants another than `sizes` has.
    """
    rng, infos, offset = np.random.default_rng(0), [], 0
    for name, size in norms(sizes):
        infos.append(_info(name, (size,), 0, offset))
        offset += -(-size * 4 // ALIGNMENT) * ALIGNMENT
    for name, rows, columns in matrices(sizes):
        of = type_of(name, kind, head)
        infos.append(_info(name, (rows, columns), of.number, offset))
        offset += -(-of.size(rows, columns) // ALIGNMENT) * ALIGNMENT
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQ", 3, len(infos)) + _metadata(sizes, architecture or sizes.architecture))
        file.write(b"".join(infos))
        _pad(file)
        for _, size in norms(sizes):
            file.write(np.ones(size, "<f4").tobytes())
            _pad(file)
        for name, rows, columns in matrices(sizes):
            of = type_of(name, kind, head)
            file.write(of.random(rng, rows, columns))
            _pad(file)
