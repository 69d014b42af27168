"""Samples at another rate, by a windowed sinc."""

from __future__ import annotations

from math import gcd

import numpy as np
from numpy.typing import NDArray

# Zero crossings of the sinc on either side, and the window's shape: the stop band lies 80 dB below.
_CROSSINGS = 16
_BETA = 8.0
# The pass band ends so far below half of the lower rate.
_EDGE = 0.94
# Weights that are computed at once.
_MOST = 1 << 20


def resample(samples: NDArray[np.float32], rate: int, new_rate: int) -> NDArray[np.float32]:
    r"""Samples (n,) at `new_rate` in Hz, with what the lower of both rates cannot carry filtered out.

    .. math:: y(t) = \sum_k x_k \, h(t - k), \qquad h(t) = c \operatorname{sinc}(c t) \, w(t)

    with the cutoff c, a Kaiser window w, and t in samples of the old rate.

    Returns:
        float32 (ceil(n * new_rate / rate),).

    Source: Smith, Digital Audio Resampling, ccrma.stanford.edu/~jos/resample.
    """
    if rate == new_rate:
        return samples
    shared = gcd(rate, new_rate)
    up, down = new_rate // shared, rate // shared
    cutoff = _EDGE * min(1.0, up / down)
    half = int(np.ceil(_CROSSINGS / cutoff))
    padded = np.pad(samples, half).astype(np.float64)
    count = -(-len(samples) * up // down)
    result = np.empty(count, np.float32)
    taps = np.arange(-half, half + 1)
    # Outputs whose places differ by whole samples have the same weights.
    step = max(1, _MOST // len(taps))
    for first in range(0, min(up, count), step):
        phases = np.arange(first, min(first + step, up, count))
        whole, part = np.divmod(phases * down, up)
        weights = _kernel(taps - (part / up)[:, None], cutoff, half)  # (phases, taps)
        for phase, start, own in zip(phases, whole, weights, strict=True):
            places = np.arange(start, len(samples) + down, down)[: len(result[phase::up])]
            windows = np.lib.stride_tricks.sliding_window_view(padded, len(taps))
            result[phase::up] = windows[np.minimum(places, len(windows) - 1)] @ own
    return result


def _kernel(t: NDArray[np.float64], cutoff: float, half: int) -> NDArray[np.float64]:
    window = np.i0(_BETA * np.sqrt(np.clip(1 - (t / (half + 1)) ** 2, 0, None))) / np.i0(_BETA)
    kernel = np.asarray(np.sinc(cutoff * t) * window)
    # A constant stays what it is.
    return np.asarray(kernel / kernel.sum(-1, keepdims=True))
