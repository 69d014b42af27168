"""The common part of the demos: train a binary network and its float twin, and measure both in turns."""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from onebit.errors import OnebitError
from onebit.tables import lay_out
from onebit.training import Recipe, Run, train
from onebit.training.lock import is_empty

NAMES = ("binary", "float")


def clear(out: Path) -> None:
    """Remove an earlier demo, and nothing else. Raises OnebitError if the folder has other contents."""
    if not is_empty(out) and not (out / "binary").is_dir():
        raise OnebitError(f"[demo] {out} is not empty and is not an earlier demo: give another --out")
    for name in (*NAMES, "samples"):
        shutil.rmtree(out / name, ignore_errors=True)


def train_both(recipe: Recipe, float_rate: float, out: Path, what: str, data: str) -> tuple[Run, Run]:
    """Train the binary network and its float twin, which has another learning rate. `what` and `data` describe them in words."""
    runs = []
    for name, shown in zip(NAMES, (f"{what} of single bits", "float twin"), strict=True):
        print(f"Training the {shown} on {data} ...", file=sys.stderr, flush=True)
        keys: dict[str, Any] = {"binary": True} if name == "binary" else {"binary": False, "learning_rate": float_rate}
        runs.append(train(recipe.override(keys), out / name))
    return runs[0], runs[1]


def in_turns(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median milliseconds of each job on one thread. Jobs take turns."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {name: [] for name in jobs}
    with torch.inference_mode():
        for _ in range(rounds):
            for name, job in jobs.items():
                begin = time.perf_counter()
                job()
                times[name].append(1e3 * (time.perf_counter() - begin))
    torch.set_num_threads(threads)
    return {name: statistics.median(values) for name, values in times.items()}


def bytes_of(model: nn.Module) -> int:
    """Bytes of its parameters at float32."""
    return 4 * sum(p.numel() for p in model.parameters())


def table(rows: list[tuple[str, ...]]) -> str:
    """The comparison, after an empty line."""
    return "\n" + lay_out([("", "float, PyTorch", "binary, PyTorch", "binary, engine int8"), *rows], right=(1, 2, 3))
