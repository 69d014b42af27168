"""What the benchmarks measure with: side by side, in one run, medians."""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPORT = "\nprint([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmRSS')][0])"


def resident_bytes(program: str, argument: str) -> int:
    """The resident memory of a fresh process after it ran `program`."""
    result = subprocess.run(
        [sys.executable, "-c", program + REPORT, argument], capture_output=True, text=True, check=True
    )
    return int(result.stdout.split()[-1]) * 1024


def interleaved_medians(jobs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Milliseconds of each job: medians over rounds in which all take turns, so that the machine's moods hit all alike.

    In each round a job runs three times and the last two count: in the first, threads of the job before may still be spinning.
    """
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            job()
            for _ in range(2):
                start = time.perf_counter()
                job()
                times[name].append((time.perf_counter() - start) * 1e3)
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
    """Train, unless it is done already; go on where an earlier start was stopped."""
    if (out / "result.json").exists():
        return
    if (out / "recipe.yaml").exists():
        words = [*words, "--resume"]
    with out.with_suffix(".log").open("a") as log:
        log.write(" ".join(words) + "\n")
        log.flush()
        status = subprocess.run(words, stdout=log, stderr=log, check=False).returncode
    print(f"{time.strftime('%H:%M:%S')} {name}: {'done' if status == 0 else f'failed, exit {status}'}", flush=True)


def cpu_name() -> str:
    """The processor's name, as the operating system tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
