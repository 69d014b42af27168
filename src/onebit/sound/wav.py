"""Read WAV files of any width, rate and number of channels. Every fault is one line that names the file."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onebit.errors import DataError
from onebit.fileformat import write_atomically
from onebit.paths import expand

SUFFIXES = (".wav", ".wave")

# An hour of stereo at 48 kHz and 16 bits is 691 MB. What is classified is a second.
MAX_BYTES = 1 << 28
RATES = (1_000, 768_000)
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_OTHERS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 17: "ADPCM", 85: "MP3"}
_ADVICE = "convert it to PCM first, for example with 'ffmpeg -i IN OUT.wav'"


def read_wav(source: str | Path) -> tuple[NDArray[np.float32], int]:
    """Read a WAV file as one channel, the mean of its channels.

    Args:
        source: the path of a file of PCM with 8, 16, 24 or 32 bits, or of floats with 32 or 64.

    Returns:
        float32 samples (n,) from -1 to 1, and their rate in Hz. Floats may lie beyond.

    Raises:
        DataError: the file cannot be read, is not such a file, is damaged or empty. Bytes that are missing at the end of the samples are not a
            fault, because programs that stream write lengths before they know them.
    """
    path = expand(source)
    try:
        if path.is_dir():
            raise DataError("is a folder, not a recording")
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"has more than {MAX_BYTES >> 20} MB: cut it")
        data = path.read_bytes()
        return _decoded(data)
    except DataError as error:
        raise DataError(f"[sound] {source}: {error}") from None
    except FileNotFoundError:
        raise DataError(f"[sound] {source}: no such file") from None
    except OSError as error:
        raise DataError(f"[sound] {source}: cannot be read: {error.strerror}") from None


def _decoded(data: bytes) -> tuple[NDArray[np.float32], int]:
    if data[:4] not in (b"RIFF", b"RF64") or data[8:12] != b"WAVE":
        raise DataError(f"is not a WAV file: {_ADVICE}")
    found: dict[bytes, memoryview] = {}
    place, view = 12, memoryview(data)
    while place + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        found.setdefault(name, view[place + 8 : place + 8 + size])
        place += 8 + size + size % 2
    if b"fmt " not in found or len(found[b"fmt "]) < 16:
        raise DataError("is damaged: it does not say how its samples are written")
    if b"data" not in found:
        raise DataError("is damaged: it has no samples")
    form, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", found[b"fmt "])
    if form == _EXTENSIBLE and len(found[b"fmt "]) >= 26:
        (form,) = struct.unpack_from("<H", found[b"fmt "], 24)
    if form not in (_PCM, _FLOAT):
        raise DataError(f"has samples of {_OTHERS.get(form, f'format {form}')}, which are not read: {_ADVICE}")
    known = (8, 16, 24, 32) if form == _PCM else (32, 64)
    if bits not in known:
        raise DataError(f"has samples of {bits} bits: needs {', '.join(map(str, known[:-1]))} or {known[-1]}")
    if not channels:
        raise DataError("is damaged: it has 0 channels")
    if block != channels * bits // 8:
        raise DataError(f"is damaged: {channels} channels of {bits} bits do not take {block} bytes a sample")
    if not RATES[0] <= rate <= RATES[1]:
        raise DataError(f"has {rate} samples a second: needs {RATES[0]} to {RATES[1]}")
    count = len(found[b"data"]) // block
    if not count:
        raise DataError("is empty: it has no samples")
    samples = _numbers(found[b"data"][: count * block], form, bits).reshape(count, channels)
    if not np.isfinite(samples).all():
        raise DataError("has samples that are not numbers (NaN or infinite)")
    return samples.mean(1, dtype=np.float64).astype(np.float32), rate


def _numbers(data: memoryview, form: int, bits: int) -> NDArray[np.float32]:
    """All samples, of all channels in turn."""
    if form == _FLOAT:
        with np.errstate(over="ignore"):  # becomes infinite, which is refused
            return np.frombuffer(data, f"<f{bits // 8}").astype(np.float32)
    if bits == 8:  # without a sign
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / np.float32(128)
    if bits == 24:
        parts = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int32)
        whole = parts[:, 0] << 8 | parts[:, 1] << 16 | parts[:, 2] << 24  # the sign is at the top
        return whole.astype(np.float32) / np.float32(1 << 31)
    return np.frombuffer(data, f"<i{bits // 8}").astype(np.float32) / np.float32(1 << (bits - 1))


def write_wav(path: str | Path, samples: NDArray[np.floating], rate: int) -> None:
    """Write samples (n,) from -1 to 1 as one channel of 16 bits, whole or not at all."""
    data = np.clip(np.rint(np.asarray(samples) * 32767), -32768, 32767).astype("<i2").tobytes()
    fmt = struct.pack("<HHIIHH", _PCM, 1, rate, 2 * rate, 2, 16)
    head = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVE"
    write_atomically(
        expand(path), head + b"fmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", len(data)) + data
    )
