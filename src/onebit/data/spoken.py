"""Sounds that are made on the spot: tones that move, and words of espeak-ng where that program is installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onebit.errors import DataError
from onebit.progress import track
from onebit.sound import read_wav

NAMES = ("tones", "words")
WORDS = ("yes", "no", "up", "down", "left", "right")
VOICES = ("m1", "m2", "m3", "m4", "m5", "m6", "f1", "f2", "f3", "f4", "f5", "croak")
TONES = ("rising", "falling", "steady", "warble", "pulses", "noise")
_RATE = 16_000
_OF_EACH = 50
_PROGRAM = "espeak-ng"


class Recording(NamedTuple):
    """Samples (n,) with their rate in Hz, what is heard, and whose voice it is."""

    samples: NDArray[np.float32]
    rate: int
    label: str
    speaker: str


def tones(seed: int = 0) -> Iterator[Recording]:
    """Six kinds of tones, 50 of each: of any pitch, loudness and length, with harmonics and some noise."""
    random = np.random.default_rng((seed, 1))
    for label in TONES:
        for index in range(_OF_EACH):
            yield Recording(_tone(label, random), _RATE, label, f"synth{index % 5}")


def _tone(label: str, random: np.random.Generator) -> NDArray[np.float32]:
    count = int(random.uniform(0.4, 0.9) * _RATE)
    t = np.arange(count) / _RATE
    hz = random.uniform(200, 1200) * np.ones(count)
    if label in ("rising", "falling"):
        sweep = np.linspace(0, random.uniform(0.8, 1.5), count)
        hz = hz * 2.0 ** (sweep if label == "rising" else sweep[::-1])
    if label == "warble":
        hz = hz * 2.0 ** (0.25 * np.sin(2 * np.pi * random.uniform(5, 9) * t))
    phase = 2 * np.pi * np.cumsum(hz) / _RATE
    sound = sum(np.sin(k * phase + random.uniform(0, 6)) / k ** random.uniform(1, 2) for k in range(1, 5))
    if label == "pulses":
        sound = sound * (np.sin(2 * np.pi * random.uniform(5, 9) * t) > 0)
    if label == "noise":
        sound = random.normal(size=count)
    noise = random.normal(size=count) * 10 ** random.uniform(-2.5, -1)
    return (random.uniform(0.1, 0.5) * (sound + noise)).astype(np.float32)


def has_espeak() -> bool:
    """Whether the program that speaks the words is installed."""
    return shutil.which(_PROGRAM) is not None


def words() -> Iterator[Recording]:
    """Six words by twelve voices of espeak-ng at four speeds and pitches, 288 recordings in a few seconds.

    Raises:
        DataError: the program is not installed, or fails.
    """
    if not has_espeak():
        raise DataError("[words] espeak-ng is not installed: install it, or use the data set tones")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "word.wav"
        jobs = [(word, voice, i) for voice in VOICES for word in WORDS for i in range(4)]
        for word, voice, index in track(jobs, "speak", "words"):
            manner = ["-s", str(120 + 25 * index), "-p", str(30 + 13 * (3 - index))]
            words = [_PROGRAM, "-v", f"en+{voice}", *manner, "-w", str(file), word]
            try:
                subprocess.run(words, check=True, capture_output=True, timeout=20)
            except (OSError, subprocess.SubprocessError) as error:
                raise DataError(f"[words] espeak-ng fails ({error}): use the data set tones") from None
            yield Recording(*read_wav(file), word, voice)
