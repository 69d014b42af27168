"""Write known_blocks.json: blocks as ggml's own Python package quantises and reads them, to test our decoders against.

Run it where `gguf` is installed. Q1_0 and Q2_0, which that package lacks, are quantised by llama.cpp itself, through `llama-cpp-python`'s library.
PQ2_0 and PTQ1_0 of PrismML's fork, and I2_S of bitnet.cpp, are written here digit by digit as their sources say.
"""

import base64
import ctypes
import json
from pathlib import Path

import numpy as np

ROWS, COLUMNS = 2, 512
TYPES = {
    "F16": 1,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q8_0": 8,
    "Q4_K": 12,
    "Q5_K": 13,
    "Q6_K": 14,
    "BF16": 30,
    "TQ1_0": 34,
    "TQ2_0": 35,
}
# Where the half precision scales of the types lie that gguf only reads, in blocks of so many bytes.
READ_ONLY = {"Q4_K": ((0, 2), 144), "Q5_K": ((0, 2), 176), "Q6_K": ((208,), 210)}
POWERS = (1, 3, 9, 27, 81)


def text(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def by_gguf(name, weights, rng):
    from gguf import GGMLQuantizationType, quants

    kind = GGMLQuantizationType(TYPES[name])
    if name in READ_ONLY:
        halves, size = READ_ONLY[name]
        raw = rng.integers(0, 256, (ROWS, COLUMNS // 256, size), dtype=np.uint8)
        for start in halves:
            scales = rng.uniform(0.001, 0.1, raw.shape[:2]).astype("<f2")
            raw[..., start : start + 2] = scales.view(np.uint8).reshape(*raw.shape[:2], 2)
        raw = raw.reshape(ROWS, -1)
    else:
        raw = quants.quantize(weights, kind).view(np.uint8).reshape(ROWS, -1)
    values = raw.view("<f2").astype(np.float32) if name == "F16" else quants.dequantize(raw, kind)
    return raw, values


def by_llama(name, weights):
    """Quantised and read back by ggml's functions in C."""
    import llama_cpp

    library = ctypes.CDLL(str(next(Path(llama_cpp.__file__).parent.rglob("libggml-base.so"))))
    size = {"q1_0": 18 / 128, "q2_0": 18 / 64}[name.lower()]
    raw = np.zeros((ROWS, int(COLUMNS * size)), np.uint8)
    values = np.zeros_like(weights)
    pointer = lambda a: a.ctypes.data_as(ctypes.c_void_p)  # noqa: E731
    getattr(library, f"quantize_row_{name.lower()}_ref")(pointer(weights), pointer(raw), ctypes.c_int64(weights.size))
    getattr(library, f"dequantize_row_{name.lower()}")(pointer(raw), pointer(values), ctypes.c_int64(weights.size))
    return raw, values


def trit_byte(trits):
    """Five trits of 0 to 2 as a byte, the first of them the most significant: ceil(256 q / 243)."""
    q = 0
    for trit in trits:
        q = q * 3 + int(trit)
    return (q * 256 + 242) // 243


def ptq1_0(trits, scale):
    """A block of 128 trits: 16 bytes of five, 8 bytes of five, 2 bytes of four."""
    content = [trit_byte([trits[n * 16 + m] for n in range(5)]) for m in range(16)]
    content += [trit_byte([trits[80 + n * 8 + m] for n in range(5)]) for m in range(8)]
    content += [trit_byte([*(trits[120 + n * 2 + h] for n in range(4)), 0]) for h in range(2)]
    return [*content, *np.float16(scale).tobytes()]


def pq2_0(trits, scale):
    codes = [sum(int(trits[4 * i + j]) << 2 * j for j in range(4)) for i in range(32)]
    return [*np.float16(scale).tobytes(), *codes]


def i2_s(trits):
    return [sum(int(trits[p + 32 * g]) << 6 - 2 * g for g in range(4)) for p in range(32)]


def by_hand(rng):
    trits = rng.integers(0, 3, (ROWS, COLUMNS // 128, 128))
    scales = rng.uniform(0.01, 1, (ROWS, COLUMNS // 128)).astype(np.float16)
    values = ((trits - 1) * scales[..., None].astype(np.float32)).astype(np.float32).reshape(ROWS, COLUMNS)
    pairs = [list(zip(t, s, strict=True)) for t, s in zip(trits, scales, strict=True)]
    for name, encode in (("PTQ1_0", ptq1_0), ("PQ2_0", pq2_0)):
        yield name, np.array([[b for t, s in row for b in encode(t, s)] for row in pairs], np.uint8), values
    plain = np.array([[b for t in row for b in i2_s(t)] for row in trits], np.uint8)
    yield "I2_S", plain, (trits - 1).astype(np.float32).reshape(ROWS, COLUMNS)


def main():
    rng = np.random.default_rng(20)
    weights = rng.standard_normal((ROWS, COLUMNS)).astype(np.float32)
    found = {name: by_gguf(name, weights, rng) for name in TYPES}
    found |= {name: by_llama(name, weights) for name in ("Q1_0", "Q2_0")}
    found |= {name: (raw, values) for name, raw, values in by_hand(rng)}
    lines = [
        f'"{name}": ' + json.dumps({"rows": ROWS, "columns": COLUMNS, "bytes": text(raw), "values": text(values)})
        for name, (raw, values) in found.items()
    ]
    Path(__file__).with_name("known_blocks.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
