"""Compare the engine with PyTorch float32 on the paper's image network, 256x256x3, batch 1, in one run.

    python benchmarks/image_network.py [--kernel-size 3] [--threads 1 2] [--repeats 15] [--json FILE]

Prints milliseconds per image (medians of interleaved runs), the packed file's size, the resident memory of a process that loads and runs the
network with either, and the times of a training step of the binary network and of its float twin.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measure import cpu_name, interleaved_medians, print_training_steps, resident_bytes, training_steps

SIZE = 256
CLASSES = 101

# Each runs in its own process, so that only what it needs is in memory.
ENGINE_MEMORY = """
import sys, numpy, onebit
session = onebit.load(sys.argv[1], threads=1)
session(numpy.zeros((1, 256, 256, 3), numpy.uint8))
"""
PYTORCH_MEMORY = """
import sys, torch
from onebit.models import conv_classifier
torch.set_num_threads(1)
model = conv_classifier(int(sys.argv[1]), binary=False).eval()
with torch.inference_mode():
    model(torch.zeros(1, 3, 256, 256))
"""


def pack_random(kernel_size: int, path: Path) -> Any:
    """Pack a network of random bits; gives the report."""
    import onebit

    task = onebit.ImageTask(tuple(map(str, range(CLASSES))), (SIZE, SIZE))
    return onebit.pack(onebit.models.conv_classifier(kernel_size, CLASSES), path, task)


def random_pixels() -> Any:
    """An image, uint8 (1, height, width, 3)."""
    return np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)


def as_float(pixels: Any) -> Any:
    """The same image as the float networks take it, float32 (1, 3, height, width) from -1 to 1."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32) / np.float32(127.5) - 1


def measure_inference(path: Path, kernel_size: int, threads: int, repeats: int) -> dict[str, float]:
    """Milliseconds per image of PyTorch and of the engine, at batch 1."""
    import torch

    import onebit

    torch.set_num_threads(threads)
    twin = onebit.models.conv_classifier(kernel_size, CLASSES, binary=False).eval()
    pixels = random_pixels()
    x = torch.from_numpy(as_float(pixels))
    last = x.contiguous(memory_format=torch.channels_last)
    twin_last = (
        onebit.models.conv_classifier(kernel_size, CLASSES, binary=False).eval().to(memory_format=torch.channels_last)
    )
    int8, float32 = (onebit.load(path, precision, threads) for precision in ("int8", "float32"))
    with torch.inference_mode():
        return interleaved_medians(
            {
                "PyTorch float32": lambda: twin(x),
                "PyTorch float32, channels last": lambda: twin_last(last),
                "engine int8": lambda: int8(pixels),
                "engine float32": lambda: float32(pixels),
            },
            repeats,
        )


def measure_training(kernel_size: int, threads: int, repeats: int) -> dict[str, float]:
    """Milliseconds of a training step (batch 64 of 64x64 images), binary and float twin, float32 and bfloat16, as the trainer runs them."""
    import torch

    import onebit

    torch.set_num_threads(threads)
    x = torch.randn(64, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    target = torch.randint(0, CLASSES, (64,))

    def step(binary: bool, bf16: bool) -> Callable[[], object]:
        model = onebit.models.conv_classifier(kernel_size, CLASSES, binary=binary).to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

        def run() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = torch.nn.functional.cross_entropy(model(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return run

    return training_steps(step, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel-size", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--training-repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    import torch

    import onebit

    torch.manual_seed(0)
    results: dict[str, object] = {"cpu": cpu_name(), "torch": torch.__version__, "onebit": onebit.__version__}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onebit"
        report = pack_random(arguments.kernel_size, path)
        results["file_bytes"] = report.file_bytes
        results["isa"] = onebit.load(path).isa
        print(f"{results['cpu']}, engine {results['isa']}, torch {torch.__version__}")
        print(
            f"file: {report.file_bytes:,} bytes, {report.ratio:.1f} times smaller than {report.bytes_before:,} of float32"
        )
        memory = {
            "engine": resident_bytes(ENGINE_MEMORY, str(path)),
            "PyTorch": resident_bytes(PYTORCH_MEMORY, str(arguments.kernel_size)),
        }
        results["resident_bytes"] = memory
        ratio = memory["PyTorch"] / memory["engine"]
        print(
            f"resident memory: engine {memory['engine'] / 1e6:.1f} MB, PyTorch {memory['PyTorch'] / 1e6:.1f} MB: {ratio:.1f} times less"
        )
        for threads in arguments.threads:
            times = measure_inference(path, arguments.kernel_size, threads, arguments.repeats)
            results[f"inference_ms_{threads}_threads"] = times
            fastest = min(value for name, value in times.items() if name.startswith("PyTorch"))
            for name, value in times.items():
                print(
                    f"{threads} threads, {name:<32} {value:8.2f} ms, {fastest / value:5.2f} x the faster PyTorch float32"
                )
        for threads in arguments.threads:
            times = measure_training(arguments.kernel_size, threads, arguments.training_repeats)
            results[f"training_step_ms_{threads}_threads"] = times
            print_training_steps(times, threads)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
