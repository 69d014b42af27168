"""Functions for benchmarks: medians of jobs that run side by side in one run."""

from __future__ import annotations

import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

Name = TypeVar("Name")
REPORT = "\nprint([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmRSS')][0])"


def resident_bytes(program: str, argument: str) -> int:
    """The resident memory of a fresh process after it ran `program`."""
    result = subprocess.run(
        [sys.executable, "-c", program + REPORT, argument], capture_output=True, text=True, check=True
    )
    return int(result.stdout.split()[-1]) * 1024


def timed(job: Callable[[], object], runs: int = 2, least_ms: float = 0.0) -> list[float]:
    """Milliseconds of some runs of a job. A first run does not count, because threads of the job before may still spin.

    A run shorter than `least_ms` is repeated until it takes that long, and its time is the mean: a clock and a sleeping thread cost
    microseconds, as much as a small product.
    """
    start = time.perf_counter()
    job()
    first_ms = (time.perf_counter() - start) * 1e3
    if first_ms < least_ms:
        # The first run is slower than those after it: ask a few of them how many fit.
        start = time.perf_counter()
        for _ in range(3):
            job()
        first_ms = (time.perf_counter() - start) / 3 * 1e3
    count = max(1, math.ceil(least_ms / first_ms))
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        for _ in range(count):
            job()
        times.append((time.perf_counter() - start) / count * 1e3)
    return times


def interleaved(turns: Mapping[Name, Callable[[], list[float]]], repeats: int) -> dict[Name, list[float]]:
    """The times of each turn, over rounds in which all take turns, so that changes of the machine's load affect all alike."""
    times: dict[Name, list[float]] = {name: [] for name in turns}
    for _ in range(repeats):
        for name, turn in turns.items():
            times[name] += turn()
    return times


def interleaved_medians(jobs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Milliseconds of each job: medians over rounds in which all take turns; see `timed`."""
    times = interleaved({name: partial(timed, job) for name, job in jobs.items()}, repeats)
    return {name: statistics.median(values) for name, values in times.items()}


def training_steps(step: Callable[[bool, bool], Callable[[], object]], repeats: int) -> dict[str, float]:
    """Milliseconds of a training step, binary and float twin, float32 and bfloat16; `step(binary, bf16)` makes one."""
    jobs = {
        f"{'binary' if binary else 'float twin'}, {'bfloat16' if bf16 else 'float32'}": step(binary, bf16)
        for bf16 in (False, True)
        for binary in (False, True)
    }
    return interleaved_medians(jobs, repeats)


def print_training_steps(times: dict[str, float], threads: int) -> None:
    """A line for each precision: both times and their ratio."""
    for kind in ("float32", "bfloat16"):
        binary, twin = times[f"binary, {kind}"], times[f"float twin, {kind}"]
        print(
            f"{threads} threads, training step, {kind}: binary {binary:.0f} ms, twin {twin:.0f} ms: {binary / twin:.2f} x"
        )


def train_run(name: str, words: list[str], out: Path) -> None:
    """Train unless the run is already finished. Continues a run that was stopped."""
    if (out / "result.json").exists():
        return
    if (out / "recipe.yaml").exists():
        words = [*words, "--resume"]
    with out.with_suffix(".log").open("a") as log:
        log.write(" ".join(words) + "\n")
        log.flush()
        status = subprocess.run(words, stdout=log, stderr=log, check=False).returncode
    print(f"{time.strftime('%H:%M:%S')} {name}: {'done' if status == 0 else f'failed, exit {status}'}", flush=True)


def mean_and_spread(values: Sequence[float], digits: int = 1) -> str:
    """The mean, and the standard deviation where there are several."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def _cpu_info(key: str) -> str:
    """The operating system's entry with this name for the first processor; empty if there is none."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == key), "")


def cpu_name() -> str:
    """The processor's name, as the operating system tells it."""
    return _cpu_info("model name") or platform.processor()


def cpu_features() -> list[str]:
    """The processor's vector and matrix instructions, as the operating system names them."""
    return [flag for flag in _cpu_info("flags").split() if flag.startswith(("avx", "amx", "fma", "f16c"))]


def pin(threads: int) -> None:
    """Keep this process, and all that it starts, on this many of its processors."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
