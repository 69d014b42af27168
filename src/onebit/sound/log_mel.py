"""Log-mel spectra: what networks hear. Training and use call the same functions, and a task holds all their parameters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from onebit.tasks.sound import SoundTask

_LOUDEST_STEP = 160


@dataclass(frozen=True)
class LogMel:
    """How samples become a spectrum over time; the defaults are those of a `SoundTask`.

    Args:
        sample_rate: in Hz.
        samples: of the window of time that is heard.
        frame, hop: samples of each frame, and from one frame to the next.
        bands: bands of the mel scale.
        low_hz, high_hz: where the bands begin and end.
        floor: added to each band's power before the logarithm.
    """

    sample_rate: int = SoundTask.sample_rate
    samples: int = SoundTask.samples
    frame: int = SoundTask.frame
    hop: int = SoundTask.hop
    bands: int = SoundTask.bands
    low_hz: float = SoundTask.low_hz
    high_hz: float = SoundTask.high_hz
    floor: float = SoundTask.floor

    @property
    def frames(self) -> int:
        """The number of frames."""
        return 1 + (self.samples - self.frame) // self.hop

    @property
    def bins(self) -> int:
        """Samples of the Fourier transform: the power of two from `frame` up."""
        return 1 << (self.frame - 1).bit_length()


def one_window(samples: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Samples (count,) of a recording of any length, scaled to a largest magnitude of 1.

    A longer recording gives its loudest part, and a shorter one lies in the middle of silence.
    """
    if len(samples) > count:
        power = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
        starts = np.arange(0, len(samples) - count + 1, _LOUDEST_STEP)
        start = int(starts[np.argmax(power[starts + count] - power[starts])])
        samples = samples[start : start + count]
    missing = count - len(samples)
    samples = np.pad(samples, (missing // 2, missing - missing // 2))
    largest = np.abs(samples).max()
    return np.asarray(samples / largest if largest > 0 else samples, np.float32)


def log_mel(samples: NDArray[np.float32], how: LogMel) -> NDArray[np.float32]:
    r"""The log-mel spectra of windows of sound.

    .. math:: y_{t,m} = \ln \Big( \text{floor} + \tfrac{1}{N} \sum_f M_{m,f} \, \big| \operatorname{FFT}(w \cdot x_t)_f \big|^2 \Big)

    with Hann's window w, frames x_t of N samples, and triangles M of area-free height 1 on the mel scale.

    Args:
        samples: (..., how.samples), from -1 to 1.
        how: the parameters.

    Returns:
        float32 (..., frames, bands).

    Source: Davis and Mermelstein, IEEE Trans. ASSP 28(4), 1980; the scale is 2595 log10(1 + f / 700).
    """
    places = np.arange(how.frames)[:, None] * how.hop + np.arange(how.frame)
    frames = samples[..., places].astype(np.float64) * _window(how.frame)
    power = np.abs(np.fft.rfft(frames, how.bins)) ** 2 / how.frame  # (..., frames, bins / 2 + 1)
    return np.log(how.floor + power @ filters(how).T).astype(np.float32)


@lru_cache(8)
def _window(count: int) -> NDArray[np.float64]:
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(count) + 0.5) / count))


@lru_cache(8)
def filters(how: LogMel) -> NDArray[np.float64]:
    """The weights of each bin of the Fourier transform in each band, (bands, bins / 2 + 1): triangles that meet at their feet."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (how.low_hz, how.high_hz))
    edges = 700 * (10 ** (np.linspace(low, high, how.bands + 2) / 2595) - 1)  # in Hz
    hz = np.arange(how.bins // 2 + 1) * how.sample_rate / how.bins
    rise = (hz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - hz) / (edges[2:] - edges[1:-1])[:, None]
    return np.asarray(np.clip(np.minimum(rise, fall), 0, None))
