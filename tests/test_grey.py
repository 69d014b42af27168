"""Grey pictures of more than 8 bits keep their picture: what 8 bits would show comes out, whatever holds it."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from onebit.errors import DataError
from onebit.images import load_image

PICTURE = np.arange(256, dtype=np.uint8).reshape(16, 16)


def loaded(array, kind, **options):
    buffer = io.BytesIO()
    if kind == "PPM":
        buffer.write(b"P5 %d %d 65535\n" % array.shape[::-1] + array.astype(">u2").tobytes())
        buffer.seek(0)
    else:
        Image.fromarray(array).save(buffer, kind, **options)
    return load_image(buffer, None, 1)[..., 0]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000", "PPM"])
@pytest.mark.parametrize("factor", [1, 16, 257])
def test_integers_of_8_12_and_16_bits(kind, factor):
    assert np.array_equal(loaded(PICTURE.astype(np.uint16) * factor, kind), PICTURE)
    if kind == "TIFF":
        assert np.array_equal(loaded(PICTURE.astype(np.int32) * factor, kind), PICTURE)
        big = (PICTURE.astype(np.uint16) * factor).astype(">u2")
        assert np.array_equal(loaded(big, kind), PICTURE)


@pytest.mark.parametrize("factor", [1 / 255, 1, 16, 257])
def test_floats_up_to_one_and_of_8_12_and_16_bits(factor):
    assert np.array_equal(loaded(PICTURE.astype(np.float32) * np.float32(factor), "TIFF"), PICTURE)


def test_the_mode_that_a_model_sees_is_the_same_in_colour():
    buffer = io.BytesIO()
    Image.fromarray(PICTURE.astype(np.uint16) * 16).save(buffer, "PNG")
    assert np.array_equal(load_image(buffer, None, 3), np.repeat(PICTURE[..., None], 3, 2))


@given(st.integers(1, 65535), st.integers(1, 20))
def test_a_pgm_is_scaled_by_its_maximum(maximum, dark):
    values = np.arange(256) * maximum // 255 // dark
    file = b"P5 16 16 %d\n" % maximum + values.astype(">u2" if maximum > 255 else "u1").tobytes()
    pixels = load_image(io.BytesIO(file), None, 1)
    if maximum < 65535:  # which stands where nothing else is known
        assert np.abs(pixels.ravel() - values * 255 / maximum).max() <= 1


def tiff(array, **tags):
    directory = ImageFileDirectory_v2()
    for tag, value in tags.items():
        directory[int(tag[1:])] = value
    return loaded(array, "TIFF", tiffinfo=directory)


def test_a_tiff_that_says_its_largest_value_keeps_dark_pictures_dark():
    dark = PICTURE.astype(np.uint16)  # of 12 bits
    assert np.array_equal(tiff(dark, _281=4095), PICTURE >> 4)
    assert np.array_equal(tiff(dark, _281=255), PICTURE)
    assert np.array_equal(tiff(dark, _281=65535), PICTURE)


def test_a_tiff_of_12_bits_says_so():
    # Two pixels in three bytes, little-endian: rows of 2 pixels of 0x123 and 0x456.
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((1, 2), np.uint16)).save(buffer, "TIFF")
    image = Image.open(io.BytesIO(buffer.getvalue()))
    content = bytearray(buffer.getvalue())
    at = content.index((258).to_bytes(2, "little") + b"\3\0\1\0\0\0") + 8
    content[at : at + 2] = (12).to_bytes(2, "little")
    start = image.tag_v2[273][0]
    content[start : start + 3] = bytes([0x12, 0x34, 0x56])
    assert load_image(io.BytesIO(bytes(content)), None, 1).ravel().tolist() == [0x12, 0x45]


def test_white_may_be_zero():
    buffer = io.BytesIO()
    Image.fromarray(PICTURE.astype(np.uint16) * 257).save(buffer, "TIFF")
    content = bytearray(buffer.getvalue())
    at = content.index((262).to_bytes(2, "little") + b"\3\0\1\0\0\0") + 8
    content[at] = 0
    assert np.array_equal(load_image(io.BytesIO(bytes(content)), None, 1)[..., 0], 255 - PICTURE)


def test_a_transparent_grey_is_white():
    expected = PICTURE.copy()
    expected[0, 3] = 255
    assert np.array_equal(loaded(PICTURE.astype(np.uint16) * 257, "PNG", transparency=3 * 257), expected)


def test_a_turned_picture_is_scaled_and_turned():
    exif = Image.Exif()
    exif[0x0112] = 3
    for kind in ("PNG", "TIFF"):
        pixels = loaded(PICTURE.astype(np.uint16) * 16, kind, exif=exif)
        assert np.array_equal(pixels, PICTURE[::-1, ::-1])


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        (np.float32([0, 1.2]), "F pixels of 0 to 1.2"),
        (np.float32([0, 300]), "F pixels of 0 to 300"),
        (np.float32([-0.5, 1]), "F pixels of -0.5 to 1"),
        (np.float32([0, 1e6]), "F pixels of 0 to 1e+06"),
        (np.float32([0, np.nan]), "F pixels of nan to nan"),
        (np.float32([0, np.inf]), "F pixels of 0 to inf"),
        (np.float32([-np.inf, 0]), "F pixels of -inf to 0"),
        (np.int32([-5, 100]), "I pixels of -5 to 100"),
        (np.int32([0, 70000]), "I pixels of 0 to 70000"),
    ],
)
def test_a_range_that_says_nothing_is_named(values, seen):
    with pytest.raises(DataError, match=r"\[image\] image: .* pixels of .*: scale them to 0 to ") as raised:
        loaded(values[None], "TIFF")
    assert seen in str(raised.value)


def test_rounding_past_the_ends_is_forgiven():
    assert loaded(np.float32([[-0.001, 1.001]]), "TIFF").ravel().tolist() == [0, 255]
    assert loaded(np.float32([[-0.3, 255.3]]), "TIFF").ravel().tolist() == [0, 255]
    assert loaded(np.zeros((2, 2), np.float32), "TIFF").max() == 0
