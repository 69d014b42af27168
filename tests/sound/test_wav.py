"""WAV files of every width, and a line for each thing that can be wrong with one."""

import struct
import wave

import numpy as np
import pytest

from onebit.errors import DataError
from onebit.sound import read_wav, write_wav


def riff(fmt=None, data=b"\0\0" * 8, more=b""):
    fmt = struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16) if fmt is None else fmt
    body = b"WAVE" + more + b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def head(form=1, channels=1, rate=8000, block=2, bits=16):
    return struct.pack("<HHIIHH", form, channels, rate, rate * block % 2**32, block, bits)


@pytest.mark.parametrize(("bits", "error"), [(8, 1.5 / 100), (16, 1e-4), (24, 1e-6), (32, 1e-6)])
def test_pcm_of_each_width_as_the_standard_library_writes_it(tmp_path, bits, error):
    wanted = np.sin(np.arange(100)).astype(np.float64) * 0.9
    levels = np.rint(wanted * (2 ** (bits - 1) - 1)).astype(np.int64)
    rows = [int(v + (128 if bits == 8 else 0)).to_bytes(bits // 8, "little", signed=bits != 8) for v in levels]
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(bits // 8)
        file.setframerate(44100)
        file.writeframes(b"".join(rows))
    samples, rate = read_wav(tmp_path / "a.wav")
    assert rate == 44100
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, wanted, atol=error)


@pytest.mark.parametrize("bits", [32, 64])
def test_floats_and_the_mean_of_channels(tmp_path, bits):
    both = np.array([[0.5, -0.25], [1.0, 0.0]], f"<f{bits // 8}")
    (tmp_path / "a.wav").write_bytes(riff(head(3, 2, 48000, bits // 4, bits), both.tobytes()))
    np.testing.assert_array_equal(read_wav(tmp_path / "a.wav")[0], np.float32([0.125, 0.5]))


def test_extensible_headers_other_chunks_and_lengths_of_streams(tmp_path):
    extensible = head(0xFFFE) + struct.pack("<HHIH", 22, 16, 4, 1) + b"\0" * 14
    content = riff(extensible, struct.pack("<2h", 16384, -16384), more=b"LIST" + struct.pack("<I", 3) + b"abc\0")
    place = content.rindex(b"data") + 4
    (tmp_path / "a.wav").write_bytes(content[:place] + b"\xff\xff\xff\xff" + content[place + 4 :])
    np.testing.assert_array_equal(read_wav(tmp_path / "a.wav")[0], np.float32([0.5, -0.5]))


def test_what_is_written_is_read(tmp_path):
    samples = np.linspace(-1, 1, 1000).astype(np.float32)
    write_wav(tmp_path / "a.wav", samples, 16000)
    read, rate = read_wav(tmp_path / "a.wav")
    assert rate == 16000
    np.testing.assert_allclose(read, samples, atol=1e-4)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnframes(), file.getframerate(), file.getsampwidth()) == (1000, 16000, 2)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not a WAV file"),
        (b"ID3 mp3", "is not a WAV file"),
        (b"RIFX\0\0\0\0WAVE", "is not a WAV file"),
        (riff()[:20], "does not say how its samples are written"),
        (riff()[:36], "it has no samples"),
        (riff(data=b""), "is empty"),
        (riff(data=b"\0"), "is empty"),
        (riff(head(7, bits=8, block=1)), "mu-law"),
        (riff(head(85)), "MP3"),
        (riff(head(999)), "format 999"),
        (riff(head(bits=12)), "samples of 12 bits"),
        (riff(head(3, bits=16)), "samples of 16 bits: needs 32 or 64"),
        (riff(head(channels=0, block=0)), "0 channels"),
        (riff(head(block=3)), "do not take 3 bytes"),
        (riff(head(rate=0)), "has 0 samples a second"),
        (riff(head(rate=2**31)), "samples a second: needs 1000 to 768000"),
        (riff(head(3, bits=32, block=4), np.float32([0, np.nan]).tobytes()), "are not numbers"),
        (riff(head(3, bits=64, block=8), np.float64([1e300]).tobytes()), "are not numbers"),
    ],
)
def test_a_line_for_each_fault(tmp_path, content, said):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_wav(tmp_path / "a.wav")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"[sound] {tmp_path / 'a.wav'}: ")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_wav(tmp_path / "none.wav")
    with pytest.raises(DataError, match="is a folder"):
        read_wav(tmp_path)


def test_any_cut_or_changed_header_is_read_or_refused_in_one_line(tmp_path):
    whole = riff(data=np.arange(50, dtype="<i2").tobytes())
    random = np.random.default_rng(0)
    for trial in range(300):
        changed = bytearray(whole[: random.integers(0, len(whole) + 1)] if trial % 2 else whole)
        for place in random.integers(0, 44, 3):
            if place < len(changed):
                changed[place] = random.integers(0, 256)
        (tmp_path / "a.wav").write_bytes(changed)
        try:
            samples, rate = read_wav(tmp_path / "a.wav")
        except DataError as error:
            assert "\n" not in str(error)
        else:
            assert len(samples)
            assert 1000 <= rate <= 768000
