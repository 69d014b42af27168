"""Time the conversion and packing of models of 100 million parameters: `python benchmarks/convert.py`.

There are two models: GPT-2 of 124 million parameters, built from its configuration (if `transformers` is installed), and as many in dense layers.
For comparison, the same run times reading every parameter once and writing the float32 model as safetensors.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

import onebit
from onebit import ImageTask, TextTask
from onebit.schemes import BinaryWeightNetwork, BitNet, BitNet158, Scheme
from onebit.text import PAD, SEPARATOR, UNKNOWN

SCHEMES: tuple[Scheme, ...] = (BinaryWeightNetwork(), BitNet(), BitNet158())


def gpt2() -> tuple[nn.Module, TextTask]:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config()
    task = TextTask((PAD, UNKNOWN, SEPARATOR, *(f"w{i}" for i in range(config.vocab_size - 3))), alphabet="words")
    return GPT2LMHeadModel(config), task


def dense() -> tuple[nn.Module, ImageTask]:
    layers = [nn.Linear(3072, 3072) for _ in range(13)]
    task = ImageTask(tuple(map(str, range(10))), (32, 32))
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(3072, 10)), task


def seconds(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def measure(model: nn.Module, task: ImageTask | TextTask, scheme: Scheme, repeats: int) -> dict[str, float]:
    """Medians of rounds in which all jobs take turns."""
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeats):
            jobs: dict[str, Callable[[], object]] = {
                "read": lambda: [p.detach().abs().max() for p in model.parameters()],
                "save": lambda: save_file(
                    {str(i): p.detach() for i, p in enumerate(model.parameters())}, Path(folder) / "float.safetensors"
                ),
                "convert": lambda: onebit.convert(model, scheme, keep=()),
                "pack": lambda: onebit.pack(model, Path(folder) / "model.onebit", task),
                "to_float": lambda: onebit.to_float(model),
            }
            for name, job in jobs.items():
                times.setdefault(name, []).append(seconds(job))
        size = (Path(folder) / "model.onebit").stat().st_size
    return {name: statistics.median(values) for name, values in times.items()} | {"bytes": size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    makers: dict[str, Callable[[], tuple[nn.Module, ImageTask | TextTask]]] = {"GPT-2": gpt2, "dense layers": dense}
    for name, make in makers.items():
        try:
            model, task = make()
        except ImportError as error:
            print(f"{name}: absent, {error}")
            continue
        parameters = sum(p.numel() for p in model.parameters())
        print(f"{name}, {parameters:,} parameters, {args.threads} threads; seconds, medians of {args.repeats} rounds")
        print(
            f"{'scheme':<24}{'read':>8}{'save float32':>14}{'convert':>9}{'pack':>8}{'to_float':>10}{'file, bytes':>14}"
        )
        for scheme in SCHEMES:
            t = measure(model, task, scheme, args.repeats)
            print(
                f"{type(scheme).__name__:<24}{t['read']:>8.2f}{t['save']:>14.2f}{t['convert']:>9.2f}{t['pack']:>8.2f}"
                f"{t['to_float']:>10.2f}{t['bytes']:>14,.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
