"""Sound to numbers, the same way in training and in use: WAV files, their rate, and log-mel spectra. It needs NumPy alone."""

from onebit.sound.log_mel import LogMel, log_mel, one_window
from onebit.sound.resample import resample
from onebit.sound.wav import SUFFIXES, read_wav, write_wav

__all__ = ["SUFFIXES", "LogMel", "log_mel", "one_window", "read_wav", "resample", "write_wav"]
