"""Compare a training step of a binary network with its float twin's: the same shape, precision and settings, in turns.

    python benchmarks/training_speed.py --networks tiny,mini,cifar10 --steps 9 --out training-speed.json

A network and its twin take steps in turns, so that changes of the machine's load affect both alike. The ratio is the median over neighbouring steps.
The first steps do not count. A compiled network is compiled in them, and the time is printed. The data are noise of the recipe's shape in the
recipe's batches. The last column is the share of a step that waits for a batch. On a CUDA device the rate of a large bfloat16 product is measured
too, and the share of it that a step achieves, at 6 operations per parameter and token.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.data import ImageSet
from onebit.data.examples import NOT_COUNTED
from onebit.data.tokens import TextSet
from onebit.images import ImageTask
from onebit.text import TextTask
from onebit.training import ImageRecipe, Recipe, TextRecipe, load_recipe
from onebit.training.batches import Batches, scale_pixels
from onebit.training.compiled import Compiled
from onebit.training.jobs import build_model, decoder_sizes_of
from onebit.training.memory import keep_freed_memory
from onebit.training.windows import TextBatches

# Names of the table, the recipes that they stand for, and how many classes or tokens these have.
NETWORKS = {
    "tiny": ("tiny", 1024),
    "mini": ("mini", 4096),
    "small": ("paper-wikitext103-small", 30522),
    "cifar10": ("cifar10", 10),
    "images": ("images", 10),
    "cnn-3x3": ("paper-food101-3x3", 101),
}
WARM_UP = 2
GEMM = 8192  # side of the product that tells a GPU's rate


def endless(recipe: Recipe, classes: int) -> tuple[ImageTask | TextTask, Iterable[tuple[Tensor, Tensor]]]:
    """Noise in the recipe's batches."""
    random = np.random.default_rng(0)
    if isinstance(recipe, TextRecipe):
        task = TextTask(("[PAD]", "[UNK]", "[SEP]", *(f"t{i}" for i in range(classes - 3))), "words")
        context = decoder_sizes_of(recipe)["context"]
        tokens = random.integers(3, classes, 64 * recipe.optimizer.batch_size * context + 1, dtype=np.uint16)
        text = TextSet(tokens, "noise", len(tokens), 1, 0, 0)
        return task, TextBatches(text, task, recipe.override({"examples": "windows"}), context, 10**6)
    assert isinstance(recipe, ImageRecipe)
    size = recipe.data.image_size or (32, 32)
    labels = tuple(str(i) for i in range(classes))
    pixels = random.integers(0, 256, (8 * recipe.optimizer.batch_size, *size, recipe.data.channels), dtype=np.uint8)
    images = ImageSet(pixels, random.integers(classes, size=len(pixels)), labels)
    shape = ImageTask(labels, size, recipe.data.channels)

    def batches() -> Iterable[tuple[Tensor, Tensor]]:
        for epoch in range(10**6):
            yield from Batches(images, recipe.optimizer.batch_size, recipe.data.augment, 0, epoch)

    return shape, batches()


class Trained:
    """A network in training: `step` takes a batch and gives seconds, of the wait for the batch and of the rest."""

    def __init__(self, recipe: Recipe, classes: int, device: torch.device, compiled: bool, bf16: bool) -> None:
        task, batches = endless(recipe, classes)
        self.task = task
        self.batches = iter(batches)
        torch.manual_seed(recipe.run.seed)
        self.model = build_model(recipe, task).to(device).train()
        if isinstance(recipe, ImageRecipe):
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as training does
        self.network: Callable[[Tensor], Tensor] = self.model
        if compiled:
            self.network = Compiled(self.model, lambda line: print(f"note: {line}", file=sys.stderr))
        kind = torch.optim.AdamW if isinstance(recipe, TextRecipe) else torch.optim.Adam
        self.optimizer = kind(self.model.parameters(), lr=recipe.optimizer.learning_rate, fused=True)
        self.clip = recipe.optimizer.clip if isinstance(recipe, TextRecipe) else None
        self.device = device
        self.bf16 = bf16
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.rows = 0  # tokens or images of a step
        self.wait = True  # for the device, at the end of each step

    def step(self) -> tuple[float, float]:
        start = time.perf_counter()
        x, target = next(self.batches)
        waited = time.perf_counter() - start
        x, target = x.to(self.device), target.to(self.device).flatten()
        if isinstance(self.task, ImageTask):
            x = scale_pixels(x, self.task)
        self.rows = len(target)
        with torch.autocast(self.device.type, torch.bfloat16, self.bf16):
            logits = self.network(x).float().flatten(0, -2)
            loss = F.cross_entropy(logits, target, ignore_index=NOT_COUNTED)
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        if self.device.type == "cuda" and self.wait:
            torch.cuda.synchronize()
        return waited, time.perf_counter() - start - waited


def measure(name: str, arguments: argparse.Namespace, device: torch.device, compiled: bool) -> dict[str, Any]:
    """A row of the table."""
    source, classes = NETWORKS[name]
    recipe = load_recipe(source)
    if arguments.batch is not None:
        recipe = recipe.override({"batch_size": arguments.batch})
    twin = recipe.override({"binary": False})
    if isinstance(recipe, ImageRecipe) and recipe.scheme.made.normalize == "batch":
        twin = twin.override({"batch_norm": True})  # what normalises over the batch is compared with what does so too
    bf16 = arguments.precision == "bf16"
    pair = [Trained(own, classes, device, compiled, bf16) for own in (recipe, twin)]
    start = time.perf_counter()
    for _ in range(WARM_UP):
        for trained in pair:
            trained.step()
    warm = time.perf_counter() - start
    times: list[list[tuple[float, float]]] = [[], []]
    for _ in range(arguments.steps):
        for trained, own in zip(pair, times, strict=True):
            own.append(trained.step())
    binary, floats = ([work for _, work in own] for own in times)
    seconds = statistics.median(binary)
    return {
        "network": name,
        "compiled": compiled,
        "batch": recipe.optimizer.batch_size,
        "parameters": pair[0].parameters,
        "binary_ms": 1e3 * seconds,
        "float_ms": 1e3 * statistics.median(floats),
        "ratio": statistics.median(a / b for a, b in zip(binary, floats, strict=True)),
        "waits": statistics.median(wait / (wait + work) for wait, work in times[0]),
        "warm_up_seconds": warm,
        "flops": 6 * pair[0].parameters * pair[0].rows / seconds if isinstance(recipe, TextRecipe) else None,
    }


def product_rate(device: torch.device) -> float:
    """Operations a second of a large bfloat16 product on a GPU."""
    a, b = (torch.randn(GEMM, GEMM, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(20):
        torch.cuda.synchronize()
        start = time.perf_counter()
        torch.mm(a, b)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 2 * GEMM**3 / statistics.median(times)


def table(rows: list[dict[str, Any]], rate: float | None) -> str:
    """Markdown."""
    heads = [
        "network",
        "batch",
        "compiled",
        "binary, ms",
        "float twin, ms",
        "ratio",
        "waits for data",
        "of the bf16 rate",
    ]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for row in rows:
        share = "" if rate is None or row["flops"] is None else f"{row['flops'] / rate:.1%}"
        cells = [row["network"], str(row["batch"]), "yes" if row["compiled"] else "no", f"{row['binary_ms']:.0f}"]
        cells += [f"{row['float_ms']:.0f}", f"{row['ratio']:.2f}", f"{row['waits']:.1%}", share]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="tiny,mini,cifar10", help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--modes", default="eager,compiled")
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--batch", type=int, help="instead of the recipe's")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("bf16", "float32"), default="bf16")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    for key, known in (("networks", NETWORKS), ("modes", ("eager", "compiled"))):
        wrong = [word for word in getattr(arguments, key).split(",") if word not in known]
        if wrong:
            parser.error(f"--{key} {wrong[0]}: use {', '.join(known)}")
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as training does
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rate = product_rate(device) if device.type == "cuda" else None
    rows = []
    for name in arguments.networks.split(","):
        for mode in arguments.modes.split(","):
            rows.append(measure(name, arguments, device, mode == "compiled"))
            print(f"{name} {mode}: {json.dumps(rows[-1])}", file=sys.stderr)
            if arguments.out is not None:
                arguments.out.write_text(
                    json.dumps({"device": str(device), "rate": rate, "rows": rows}, indent=1) + "\n"
                )
    print(table(rows, rate))


if __name__ == "__main__":
    main()
