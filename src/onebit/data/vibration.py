"""Vibrations of a machine that are made on the spot: three accelerations of a rotating shaft, sound or with one of three faults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 1000
COLUMNS = ("x", "y", "z")
CONDITIONS = ("bearing", "misaligned", "normal", "unbalance")
# Recordings of each condition, and rows of each.
COUNT, ROWS = 24, 1024
# How often the balls of a bearing meet its fault in a turn, and what the blows set ringing.
BLOWS_PER_TURN, RINGING_HZ = 3.6, 180.0


@dataclass(frozen=True)
class Vibration:
    """A recording.

    Args:
        name: of its own.
        condition: one of `CONDITIONS`.
        speed: turns in a second.
        numbers: float32 (ROWS, 3), in g.
    """

    name: str
    condition: str
    speed: float
    numbers: NDArray[np.float32]


def vibrations(count: int = COUNT) -> Iterator[Vibration]:
    """So many recordings of each condition, the same each time."""
    random = np.random.default_rng(2026)
    for condition in CONDITIONS:
        for number in range(count):
            speed = float(random.uniform(15, 45))
            yield Vibration(
                f"{condition}-{number:02}", condition, round(speed, 3), _recording(condition, speed, random)
            )


def _recording(condition: str, speed: float, random: np.random.Generator) -> NDArray[np.float32]:
    t = np.arange(ROWS) / RATE_HZ
    phase = 2 * np.pi * (speed * t + random.uniform())
    loud = random.uniform(0.6, 1.4)
    turning = random.uniform(0.2, 0.4) + (random.uniform(0.4, 0.8) if condition == "unbalance" else 0)
    twice = random.uniform(0.05, 0.15) + (random.uniform(0.3, 0.6) if condition == "misaligned" else 0)
    x = turning * np.cos(phase) + 0.3 * twice * np.cos(2 * phase)
    y = turning * np.sin(phase) + 0.3 * twice * np.sin(2 * phase)
    z = 0.2 * turning * np.sin(phase + 1) + twice * np.cos(2 * phase + random.uniform(0, 6))
    if condition == "bearing":
        blow = _ringing(t, BLOWS_PER_TURN * speed, random) * random.uniform(0.5, 1.0)
        x, y, z = x + 0.6 * blow, y + blow, z + 0.4 * blow
    noise = random.normal(0, 0.12, (ROWS, 3))
    return (loud * np.stack([x, y, z], 1) + noise).astype(np.float32)


def _ringing(t: NDArray[np.float64], rate: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Blows at a rate in Hz, each of which rings and dies away."""
    since = np.mod(t + random.uniform(0, 1 / rate), 1 / rate)
    ringing: NDArray[np.float64] = np.exp(-since * 150) * np.sin(2 * np.pi * RINGING_HZ * since)
    return ringing
