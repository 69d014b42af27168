"""Language models of billions of parameters with random weights: write one as GGUF, and measure memory, load and speed of an imported one.

    python benchmarks/large_models.py write bonsai-1.7b random.gguf
    onebit import random.gguf --trust --out random.onebit
    python benchmarks/large_models.py measure random.onebit [--threads 1 2] [--prompt 512] [--context 8192] [--cache int8] [--json FILE]

`write` knows the shapes of Bonsai 1.7B, 4B and 8B (bits in groups of 128, Q1_0) and of BitNet b1.58 2B4T (ternary, I2_S, with a float16
table). Speed and memory do not depend on the weights. `measure` runs each number of threads in a process of its own. It prints the seconds of a
load from a warm cache of the disk, the resident memory after it, and after a prompt and some tokens. It prints the milliseconds of a token and
of a prompt, and with `--context` those of a token after 128 and after so many tokens. Times are those of the clock, then those that the
process used: on a busy machine with one thread, the second say more.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32, F16, I2_S, Q1_0 = 0, 1, 36, 41
TEXT, LIST, WHOLE, REAL, FLAG = 8, 9, 4, 6, 7  # types of metadata
ALIGNMENT = 32


@dataclass(frozen=True)
class Shape:
    """The sizes of a network, and how its matrices and its table are stored."""

    architecture: str
    layers: int
    width: int
    hidden: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int
    matrices: int = Q1_0
    table: int = Q1_0
    tied: bool = True
    head_size: int = 128


SHAPES = {
    "bonsai-1.7b": Shape("qwen3", 28, 2048, 6144, 16, 8, 151936, 32768),
    "bonsai-4b": Shape("qwen3", 36, 2560, 9728, 32, 8, 151936, 32768),
    "bonsai-8b": Shape("qwen3", 36, 4096, 12288, 32, 8, 151936, 65536, tied=False),
    "bitnet-2b4t": Shape("bitnet-b1.58", 30, 2560, 6912, 20, 5, 128256, 4096, I2_S, F16),
}
# A network of this shape runs in a second: for tests.
TINY = Shape("qwen3", 2, 256, 512, 4, 2, 512, 16384, head_size=64)


def tensors(shape: Shape) -> list[tuple[str, tuple[int, ...], int]]:
    """The name, the shape and the type of each tensor."""
    s, width, q, kv = shape, shape.width, shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    found: list[tuple[str, tuple[int, ...], int]] = [("token_embd.weight", (s.vocabulary, width), s.table)]
    found.append(("output_norm.weight", (width,), F32))
    if not s.tied:
        found.append(("output.weight", (s.vocabulary, width), s.table))
    norms = {"attn_norm": width, "ffn_norm": width}
    norms |= (
        {"attn_q_norm": s.head_size, "attn_k_norm": s.head_size}
        if s.architecture == "qwen3"
        else {"attn_sub_norm": q, "ffn_sub_norm": s.hidden}
    )
    matrices = {"attn_q": (q, width), "attn_k": (kv, width), "attn_v": (kv, width), "attn_output": (width, q)}
    matrices |= {"ffn_gate": (s.hidden, width), "ffn_up": (s.hidden, width), "ffn_down": (width, s.hidden)}
    for block in range(s.layers):
        found += [(f"blk.{block}.{name}.weight", (size,), F32) for name, size in norms.items()]
        found += [(f"blk.{block}.{name}.weight", size, s.matrices) for name, size in matrices.items()]
    return found


def content(size: tuple[int, ...], kind: int, chance: np.random.Generator) -> NDArray[np.uint8]:
    """Random weights whose products with normalised inputs stay of a size."""
    if kind == F32:
        return np.ones(size, np.float32).view(np.uint8)
    rows, columns = size
    if kind == F16:
        pieces = [chance.integers(-127, 128, (min(4096, rows - r), columns)) for r in range(0, rows, 4096)]
        return np.concatenate([(piece * (0.02 / 127)).astype("<f2").view(np.uint8).reshape(-1) for piece in pieces])
    if kind == Q1_0:
        blocks = chance.integers(0, 256, (rows * columns // 128, 18), dtype=np.uint8)
        scales = chance.uniform(0.5, 1.5, (len(blocks), 1)) * columns**-0.5
        blocks[:, :2] = scales.astype("<f2").view(np.uint8)
        return blocks.reshape(-1)
    # A code of two bits has a value of 0 to 2: draw from all bytes whose four codes have.
    known = [b for b in range(256) if all(b >> shift & 3 < 3 for shift in (0, 2, 4, 6))]
    codes = np.array(known, np.uint8)[chance.integers(0, len(known), rows * columns // 4, dtype=np.uint8)]
    scale = np.full(8, (1.5 / columns) ** 0.5, "<f4")
    return np.concatenate([codes, scale.view(np.uint8)])


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def pair(key: str, value: Any) -> bytes:
    """A key of the metadata with its value."""
    head = text(key)
    if isinstance(value, str):
        return head + struct.pack("<I", TEXT) + text(value)
    if isinstance(value, bool):
        return head + struct.pack("<IB", FLAG, value)
    if isinstance(value, int):
        return head + struct.pack("<II", WHOLE, value)
    if isinstance(value, float):
        return head + struct.pack("<If", REAL, value)
    kind = TEXT if isinstance(value[0], str) else WHOLE
    items = [text(item) if kind == TEXT else struct.pack("<I", item) for item in value]
    return head + struct.pack("<IIQ", LIST, kind, len(value)) + b"".join(items)


def metadata(shape: Shape) -> dict[str, Any]:
    from onebit.task import byte_alphabet

    tokens = [*byte_alphabet(), "<|endoftext|>", "ab"]
    tokens += [f"<|unused {i}|>" for i in range(len(tokens), shape.vocabulary)]
    sizes = {"block_count": shape.layers, "context_length": shape.context, "embedding_length": shape.width}
    sizes |= {"feed_forward_length": shape.hidden, "attention.head_count": shape.heads}
    sizes |= {"attention.head_count_kv": shape.kv_heads, "attention.key_length": shape.head_size}
    found: dict[str, Any] = {"general.architecture": shape.architecture, "general.name": "random"}
    found |= {f"{shape.architecture}.{key}": value for key, value in sizes.items()}
    found[f"{shape.architecture}.attention.value_length"] = shape.head_size
    found[f"{shape.architecture}.attention.layer_norm_rms_epsilon"] = 1e-6
    found[f"{shape.architecture}.rope.freq_base"] = 1e6
    tokenizer = {"model": "gpt2", "pre": "qwen2", "tokens": tokens, "merges": ["a b"], "eos_token_id": 256}
    # Type 3 is a control token, 5 one that is not used.
    tokenizer["token_type"] = [1] * 256 + [3] + [1] + [5] * (len(tokens) - 258)
    return found | {f"tokenizer.ggml.{key}": value for key, value in tokenizer.items()}


def write(shape: Shape, path: Path, seed: int = 0) -> None:
    """Write a GGUF file of random weights."""
    chance, found = np.random.default_rng(seed), metadata(shape)
    infos, offset = b"", 0
    for name, size, kind in tensors(shape):
        elements = int(np.prod(size))
        stored = {F32: elements * 4, F16: elements * 2, I2_S: elements // 4 + 32, Q1_0: elements // 128 * 18}[kind]
        infos += text(name) + struct.pack(f"<I{len(size)}QIQ", len(size), *size[::-1], kind, offset)
        offset += stored + -stored % ALIGNMENT
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors(shape)), len(found))
    head += b"".join(pair(key, value) for key, value in found.items()) + infos
    with path.open("wb") as file:
        file.write(head + bytes(-len(head) % ALIGNMENT))
        for _, size, kind in tensors(shape):
            data = content(size, kind, chance)
            file.write(data.data)
            file.write(bytes(-data.nbytes % ALIGNMENT))


# What a measured process does. It prints one line of JSON.
PROCESS = """
import json, statistics, sys, time
import numpy as np
import onebit, onebit.runtime.text, onebit._engine

path, threads, prompt, context, cache = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] or None

def resident():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {"MB": int(lines["VmRSS"].split()[0]) // 1024, "peak MB": int(lines["VmHWM"].split()[0]) // 1024}

def timed(job):
    start, used = time.perf_counter(), time.process_time()
    job()
    return (time.perf_counter() - start) * 1e3, (time.process_time() - used) * 1e3

def token_ms(sequence, count):
    times = [timed(lambda: sequence.feed([i % 200])) for i in range(count)]
    return [statistics.median(of) for of in zip(*times)]

found = {"threads": threads, "before": resident()}
start, used = time.perf_counter(), time.process_time()
session = onebit.load(path, threads=threads, cache=cache)
found["load s"] = [time.perf_counter() - start, time.process_time() - used]
found["cache"] = session.cache
with session.sequence() as sequence:
    sequence.feed([1])
    found["after load"] = resident()
    sequence.feed([1] * 8)
    found["token ms"] = token_ms(sequence, 24)
chance = np.random.default_rng(1)
if prompt:
    tokens = chance.integers(0, 200, prompt).tolist()
    with session.sequence() as sequence:
        found["prompt ms"] = timed(lambda: sequence.feed(tokens))
        found["after prompt"] = resident()
if context:
    with session.sequence() as sequence:
        sequence.feed(chance.integers(0, 200, 128).tolist())
        found["token ms at 128"] = token_ms(sequence, 12)
        found["long prompt ms"] = timed(lambda: sequence.feed(chance.integers(0, 200, context - 140).tolist()))
        found[f"token ms at {context}"] = token_ms(sequence, 12)
        found["after context"] = resident()
print(json.dumps(found))
"""


def measure(path: Path, threads: int, prompt: int, context: int, cache: str) -> dict[str, Any]:
    """The figures of one process."""
    with path.open("rb") as file:  # into the disk's cache
        while file.read(1 << 24):
            pass
    arguments = [str(path), str(threads), str(prompt), str(context), cache]
    result = subprocess.run([sys.executable, "-c", PROCESS, *arguments], capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(result.stderr)
    found: dict[str, Any] = json.loads(result.stdout)
    return {"file": path.name, "file MB": path.stat().st_size >> 20} | found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    writer = verbs.add_parser("write", help="write a GGUF file of random weights")
    writer.add_argument("shape", choices=[*SHAPES, "tiny"])
    writer.add_argument("out", type=Path)
    meter = verbs.add_parser("measure", help="measure an imported model")
    meter.add_argument("file", type=Path)
    meter.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    meter.add_argument("--prompt", type=int, default=512, help="tokens of a prompt; 0: none")
    meter.add_argument("--context", type=int, default=0, help="measure a token after so many; 0: do not")
    meter.add_argument("--cache", choices=("", "bf16", "int8"), default="")
    meter.add_argument("--json", type=Path, help="write the figures there too")
    args = parser.parse_args()
    if args.verb == "write":
        return write((SHAPES | {"tiny": TINY})[args.shape], args.out)
    found = []
    for threads in args.threads:
        found.append(measure(args.file, threads, args.prompt, args.context, args.cache))
        for name, value in found[-1].items():
            print(f"{name:24}", [round(v, 3) for v in value] if isinstance(value, list) else value)
        print(flush=True)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
