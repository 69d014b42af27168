"""A packed classifier of sounds in the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import DataError, OnebitError
from onebit.runtime.answer import Labels
from onebit.runtime.session import ArraySession, best_labels, softmax
from onebit.sound import LogMel, log_mel, one_window, read_wav, resample
from onebit.sound.wav import RATES
from onebit.tasks.sound import SoundTask


class SoundSession(ArraySession):
    """A packed classifier of sounds in the engine. `onebit.load` returns it.

    Call it with a batch of log-mel spectra, float32 (n, frames, bands, 1), for logits (n, classes); or give recordings to `classify`.

    Several threads may share a session; their calls run one after the other.
    """

    task: SoundTask

    def spectrum(self, recording: str | Path | NDArray[Any], rate: int | None = None) -> NDArray[np.float32]:
        """The spectrum of a recording as the network takes it, float32 (frames, bands, 1).

        Args:
            recording: the path of a WAV file of any rate and number of channels, or samples (n,) from -1 to 1 of one channel.
            rate: of the samples, in Hz; None: that of the task.

        Raises:
            DataError: the recording cannot be read, is empty or silent, or the samples are not numbers.
        """
        task = self.task
        if isinstance(recording, (str, Path)):
            if rate is not None:
                raise DataError(f"[sound] rate={rate} with a file, which says its own: leave it out")
            name = str(recording)
            samples, rate = read_wav(recording)
        else:
            name, samples, rate = "the recording", _samples(recording), task.sample_rate if rate is None else rate
            if type(rate) is not int or not RATES[0] <= rate <= RATES[1]:
                raise DataError(f"[sound] rate={rate}: needs an integer from {RATES[0]} to {RATES[1]}")
        if (samples == samples[0]).all():
            raise DataError(f"[sound] {name}: is silent, all its samples are the same: record it again")
        heard = one_window(resample(samples, rate, task.sample_rate), task.samples)
        return log_mel(heard, features(task))[..., None]

    def classify(
        self, recording: str | Path | NDArray[Any], rate: int | None = None, top: int = 5
    ) -> list[tuple[str, float]]:
        """Say what is heard in a recording. One longer than the task's window is judged by its loudest part.

        Args:
            recording, rate: see `spectrum`.
            top: the most labels.

        Returns:
            The most probable labels with their probabilities, the most probable first.

        Raises:
            DataError: the recording cannot be used.
            OnebitError: `top` is below 1.

        Example:
            >>> onebit.load("keywords.onebit").classify("yes.wav", top=1)
            [('...', 0...)]
        """
        if top < 1:
            raise OnebitError(f"[classify] top={top}: use 1 or more")
        probabilities = softmax(self(self.spectrum(recording, rate)[None]))[0]
        return best_labels(probabilities, self.task.labels, top)

    def answer(self, source: str | Path, top: int = 5) -> Labels:
        return Labels(tuple(self.classify(source, top=top)))

    def _check_values(self, batch: NDArray[Any]) -> None:
        if batch.dtype == np.float32 and not np.isfinite(batch).all():
            raise DataError("[Session] a batch with NaN or infinite values: give spectra, as from spectrum()")


def features(task: SoundTask) -> LogMel:
    """How a task's recordings become spectra."""
    names = ("sample_rate", "samples", "frame", "hop", "bands", "low_hz", "high_hz", "floor")
    return LogMel(**{name: getattr(task, name) for name in names})


def _samples(recording: Any) -> NDArray[np.float32]:
    if not isinstance(recording, np.ndarray) or recording.ndim != 1 or recording.dtype.kind != "f":
        found = (
            f"{recording.dtype} {recording.shape}" if isinstance(recording, np.ndarray) else type(recording).__name__
        )
        raise DataError(f"[sound] a recording of {found}: give a path, or floats (n,) from -1 to 1 of one channel")
    if not recording.size:
        raise DataError("[sound] the recording is empty: it has no samples")
    if not np.isfinite(recording).all():
        raise DataError("[sound] the recording has samples that are not numbers (NaN or infinite)")
    return recording.astype(np.float32)
