"""Time the products of bits on a GPU, compared with cuBLAS in bfloat16, and a decoder's token.

    python benchmarks/gpu.py [--file books] [--shape 14336 4096] [--out FILE.json]

Prints, for 1 to 4,096 rows, microseconds of quantising the rows and multiplying them with a matrix of bits of SHAPE (outputs, inputs), of cuBLAS
with bfloat16 weights of the same shape, and their ratio; then milliseconds of a token of FILE in one CUDA graph, and in the engine on the CPU.
Needs a GPU, and the extra "gpu".
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import onebit
from onebit.runtime.text import TextSession

ROWS = (1, 2, 8, 16, 64, 256, 1024, 4096)
TOKENS = 200


def products(outputs: int, inputs: int) -> list[dict[str, Any]]:
    """A line for each number of rows. Weights of several layers take turns, so that no cache holds them."""
    import triton

    from onebit.gpu.products import BitMatrix, product, quantize

    rng = np.random.default_rng(0)
    device = torch.device("cuda")
    layers = min(16, max(2, int(512e6 / (outputs * inputs / 8))))
    bits = [rng.integers(0, 256, (outputs, inputs // 8), np.uint8) for _ in range(layers)]
    matrices = [BitMatrix.of(b, inputs, {"values": "pm1"}, device) for b in bits]
    wide = [torch.randn(inputs, outputs, device=device, dtype=torch.bfloat16) for _ in range(min(layers, 8))]
    lines = []
    for rows in ROWS:
        x = torch.randn(rows, inputs, device=device)
        half = x.bfloat16()

        def ours(x: torch.Tensor = x) -> None:
            for matrix in matrices:
                product(matrix, quantize(x), None)

        def theirs(half: torch.Tensor = half) -> None:
            for weight in wide:
                half @ weight

        ours_us = 1e3 * triton.testing.do_bench_cudagraph(ours) / len(matrices)
        theirs_us = 1e3 * triton.testing.do_bench_cudagraph(theirs) / len(wide)
        lines.append({"rows": rows, "onebit_us": ours_us, "cublas_bf16_us": theirs_us, "x": theirs_us / ours_us})
    return lines


def token_ms(file: str, device: str) -> float:
    """Milliseconds of a token of a text that grows."""
    session = onebit.load(file, device=device)
    assert isinstance(session, TextSession)
    with session.sequence() as sequence:
        sequence.feed(np.arange(3, 19, dtype=np.int32))
        token = np.array([5], np.int32)
        sequence.feed(token)
        count = min(TOKENS, session.context - 20)
        start = time.perf_counter()
        for _ in range(count):
            sequence.feed(token)
        return 1e3 * (time.perf_counter() - start) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", default="books")
    parser.add_argument("--shape", type=int, nargs=2, default=(14336, 4096), metavar=("OUTPUTS", "INPUTS"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpu.py: PyTorch sees no GPU")
    import triton

    outputs, inputs = arguments.shape
    name = torch.cuda.get_device_name()
    print(f"{name}, PyTorch {torch.__version__}, Triton {triton.__version__}; {outputs} outputs of {inputs} inputs\n")
    lines = products(outputs, inputs)
    print("| rows | onebit, us | cuBLAS bfloat16, us | x |\n| ---: | ---: | ---: | ---: |")
    for line in lines:
        print(f"| {line['rows']} | {line['onebit_us']:.1f} | {line['cublas_bf16_us']:.1f} | {line['x']:.2f} |")
    tokens = {device: token_ms(arguments.file, device) for device in ("cuda", "cpu")}
    print(f"\n{arguments.file}, a token: {tokens['cuda']:.3f} ms on the GPU, {tokens['cpu']:.3f} ms in the engine")
    if arguments.out:
        arguments.out.write_text(json.dumps({"gpu": name, "products": lines, "token_ms": tokens}, indent=1))


if __name__ == "__main__":
    main()
