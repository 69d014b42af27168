"""Damaged metadata do not change the pixels, whatever Pillow raises. Every other damage gives an error of one line."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from onebit.errors import DataError
from onebit.images import load_image

WIDTH, HEIGHT = 8, 4


def exif_of_a_phone():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # a quarter of a turn
    exif[ExifTags.Base.Make] = "phone"
    exif[ExifTags.Base.XResolution] = exif[ExifTags.Base.YResolution] = IFDRational(72, 1)
    exif.get_ifd(ExifTags.IFD.Exif).update({0x829A: IFDRational(1, 100), 0x9204: IFDRational(-1, 3), 0x9286: b"note"})
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (1.0, 2.0, 3.0), 5: b"\0"})
    return exif


def encoded(kind, exif):
    image = Image.new("RGB", (WIDTH, HEIGHT), "black")
    image.paste("white", (0, 0, WIDTH, HEIGHT // 2))
    buffer = io.BytesIO()
    image.save(buffer, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    return buffer.getvalue()


def damaged(content, random):
    changed = bytearray(content)
    for _ in range(random.integers(1, 4)):
        changed[random.integers(len(changed))] = random.integers(256)
    return bytes(changed)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_pixels_are_read_whatever_the_exif_holds(kind):
    random = np.random.default_rng(0)
    exif = exif_of_a_phone().tobytes()
    shapes = [
        load_image(io.BytesIO(encoded(kind, exif[:6] + damaged(exif[6:], random))), None).shape for _ in range(1000)
    ]
    assert set(shapes) == {(HEIGHT, WIDTH, 3), (WIDTH, HEIGHT, 3)}
    assert shapes.count((WIDTH, HEIGHT, 3)) > 400  # many still say how to turn it


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "TGA", "JPEG2000"])
def test_any_damage_is_one_line_or_pixels(kind):
    random = np.random.default_rng(0)
    content = encoded(kind, exif_of_a_phone())
    refused = 0
    for _ in range(700):
        try:
            pixels = load_image(io.BytesIO(damaged(content, random)), (5, 6))
        except DataError as error:
            assert str(error).startswith("[image] image: ")
            assert str(error) != "[image] image: does not decode ()"
            refused += 1
        else:
            assert pixels.shape == (5, 6, 3)
    assert refused < 700


def test_a_field_of_a_wrong_type_leaves_the_orientation(tmp_path):
    exif = bytearray(exif_of_a_phone().tobytes())
    at = exif.index(b"\x01\x1a\x00\x05") if b"\x01\x1a\x00\x05" in exif else exif.index(b"\x1a\x01\x05\x00")
    exif[at + 2 : at + 4] = exif[at + 2 : at + 4].replace(b"\x05", b"\x0b")  # a rational becomes a float
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG", bytes(exif)))
    assert load_image(tmp_path / "a.jpg", None).shape == (WIDTH, HEIGHT, 3)


def test_exif_of_nonsense_is_left_out(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded("PNG", b"garbage"))
    assert load_image(tmp_path / "a.png", None).shape == (HEIGHT, WIDTH, 3)


def test_pillow_stays_quiet(tmp_path, recwarn):
    exif = exif_of_a_phone().tobytes()
    (tmp_path / "a.tif").write_bytes(encoded("TIFF", exif_of_a_phone())[:-6])
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG", exif[:40]))
    load_image(tmp_path / "a.jpg", None)
    with pytest.raises(DataError):
        load_image(tmp_path / "a.tif", None)
    assert not [str(w.message) for w in recwarn.list]
