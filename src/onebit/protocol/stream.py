"""A single stream: one inference after the other, for so long and so often as the protocol asks for; and its energy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onebit.protocol.counters import Meter, find
from onebit.protocol.report import Energy

SECONDS, RUNS = 10.0, 1000
WARM_UP = 20
IDLE_SECONDS = 2.0
# With fewer steps of a counter an energy is mostly its resolution.
LEAST_STEPS = 100


@dataclass(frozen=True)
class Stream:
    """What a stream took.

    Args:
        runs, seconds: how many, and how long all took.
        p50_ms, p90_ms, p99_ms: of an inference.
        energy: of an inference.
    """

    runs: int
    seconds: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    energy: Energy


def single_stream(
    infer: Callable[[int], object],
    seconds: float = SECONDS,
    runs: int = RUNS,
    sys: Path = Path("/sys"),
    gpu: bool = False,
    idle_seconds: float = IDLE_SECONDS,
) -> Stream:
    """Run one inference after the other.

    Args:
        infer: computes the i-th inference.
        seconds, runs: the least time and number; both must be reached.
        sys: the folder of the system's files.
        gpu: whether the work is on a GPU.
        idle_seconds: how long the idle machine is measured, before and after.
    """
    for i in range(WARM_UP):
        infer(i)
    counter, reason = find(sys, gpu)
    if counter is None:
        times = _timed(infer, seconds, runs)
        return _stream(times, Energy(None, None, None, None, None, 0, reason))
    meter = Meter(counter)
    with meter.running():
        idle = [_idle_watts(meter, idle_seconds)]
        first, steps = meter.joules(), meter.steps
        times = _timed(infer, seconds, runs)
        joules, moved = meter.joules() - first, meter.steps - steps
        idle.append(_idle_watts(meter, idle_seconds))
    took, mean = float(np.sum(times)), sum(idle) / 2
    if moved < LEAST_STEPS:
        reason = f"{counter.name} moved {moved} times: needs {LEAST_STEPS}; measure for longer"
        return _stream(times, Energy(None, None, mean, counter.name, counter.resolution, moved, reason))
    own = joules - mean * took
    # What the two idle times differ by, over the run, may be the work's or not.
    deviation = abs(idle[0] - idle[1]) / 2 * took
    count = len(times)
    return _stream(times, Energy(own / count, deviation / count, mean, counter.name, counter.resolution, moved, None))


def _timed(infer: Callable[[int], object], seconds: float, runs: int) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + seconds
    begun = time.perf_counter()
    while begun < end or len(times) < runs:
        infer(len(times))
        now = time.perf_counter()
        times.append(now - begun)
        begun = now
    return times


def _idle_watts(meter: Meter, seconds: float) -> float:
    first, begun = meter.joules(), time.perf_counter()
    time.sleep(seconds)
    return (meter.joules() - first) / (time.perf_counter() - begun)


def _stream(times: list[float], energy: Energy) -> Stream:
    p50, p90, p99 = (float(value) * 1e3 for value in np.percentile(times, (50, 90, 99)))
    return Stream(len(times), float(np.sum(times)), p50, p90, p99, energy)
