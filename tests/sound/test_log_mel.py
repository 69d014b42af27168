"""Rates and spectra, against formulas and sums written out."""

import numpy as np
import pytest

from onebit.sound import LogMel, log_mel, one_window, resample
from onebit.sound.log_mel import filters


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 15999])
def test_a_tone_stays_itself_at_another_rate(rate):
    tone = np.sin(2 * np.pi * 440 * np.arange(rate // 4) / rate).astype(np.float32)
    made = resample(tone, rate, 16000)
    assert made.dtype == np.float32
    assert len(made) == -(-len(tone) * 16000 // rate)
    wanted = np.sin(2 * np.pi * 440 * np.arange(len(made)) / 16000)
    np.testing.assert_allclose(made[300:-300], wanted[300:-300], atol=5e-4)


def test_what_the_new_rate_cannot_carry_is_gone():
    tone = np.sin(2 * np.pi * 10_000 * np.arange(48_000) / 48_000).astype(np.float32)
    assert np.abs(resample(tone, 48_000, 16_000)[300:-300]).max() < 1e-3


def test_a_few_samples_and_one():
    for count in (1, 2, 7):
        for rate in (1000, 8000, 768_000):
            assert len(resample(np.ones(count, np.float32), rate, 16_000)) == -(-count * 16_000 // rate)


def test_the_spectrum_is_the_sum_that_its_formula_says():
    how = LogMel(sample_rate=2000, samples=128, frame=32, hop=16, bands=5, high_hz=900)
    sound = np.random.default_rng(0).normal(size=128).astype(np.float32)
    made = log_mel(sound, how)
    assert made.shape == (how.frames, 5) == (7, 5)
    t, window = np.arange(32), 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(32) + 0.5) / 32)
    mel = filters(how)
    for frame in (0, 3, 6):
        x = sound[16 * frame : 16 * frame + 32] * window
        power = [abs(sum(x * np.exp(-2j * np.pi * f * t / 32))) ** 2 / 32 for f in range(17)]
        np.testing.assert_allclose(made[frame], np.log(1e-6 + mel @ power), rtol=1e-5)


def test_forty_bands_of_ninety_eight_frames_and_triangles_that_meet():
    how = LogMel()
    assert log_mel(np.zeros(16000, np.float32), how).shape == (98, 40)
    between = filters(how)[:, 20:200]  # above the narrow first bands
    np.testing.assert_allclose(between.sum(0), 1, atol=1e-9)


def test_a_window_of_any_recording():
    short = one_window(np.float32([0.5, -0.25]), 6)
    np.testing.assert_array_equal(short, np.float32([0, 0, 1, -0.5, 0, 0]))
    long = np.zeros(50_000, np.float32)
    long[30_000:31_000] = 0.1
    assert (one_window(long, 16_000) == 1).sum() == 1000
    assert not one_window(np.zeros(10, np.float32), 16).any()
