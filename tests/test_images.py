"""Any picture becomes pixels of the right shape; what is none is refused in one line."""

import io

import numpy as np
import pytest
from PIL import Image

from onebit.errors import DataError, FormatError
from onebit.images import ImageTask, load_image


def picture(size=(20, 10), mode="RGB", colour=(200, 100, 50)):
    return Image.new("RGB", size, colour).convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "LA", "F", "I"])
def test_every_mode_becomes_rgb(mode, tmp_path):
    image = picture() if mode in ("LAB", "HSV") else picture(mode=mode)
    path = tmp_path / "image.tiff"
    (image.convert("RGB") if mode in ("HSV", "LAB") else image).save(path)
    assert load_image(path, (8, 6)).shape == (8, 6, 3)


def test_colours_survive(tmp_path):
    picture().save(tmp_path / "a.png")
    pixels = load_image(tmp_path / "a.png", (5, 5))
    assert (pixels == [200, 100, 50]).all()


def test_grey_has_one_channel(tmp_path):
    picture().save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png", (4, 4), channels=1).shape == (4, 4, 1)


def test_the_centre_is_kept_and_the_shape_not_distorted(tmp_path):
    wide = Image.new("RGB", (30, 10), "black")
    wide.paste("white", (10, 0, 20, 10))
    wide.save(tmp_path / "a.png")
    assert (load_image(tmp_path / "a.png", (10, 10)) == 255).all()


def test_a_single_pixel_fills_the_image(tmp_path):
    picture((1, 1)).save(tmp_path / "a.png")
    assert (load_image(tmp_path / "a.png", (7, 9)) == [200, 100, 50]).all()


def test_transparency_lies_on_white(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert (load_image(tmp_path / "a.png", None) == 255).all()


def test_sixteen_bit_grey_keeps_its_high_byte(tmp_path):
    Image.fromarray(np.full((4, 4), 0x8012, np.uint16)).save(tmp_path / "a.png")
    assert (load_image(tmp_path / "a.png", None, 1) == 0x80).all()


def test_exif_orientation_turns_the_image(tmp_path):
    image = Image.new("RGB", (8, 4), "black")
    image.paste("white", (0, 0, 8, 2))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "a.png", exif=exif)
    pixels = load_image(tmp_path / "a.png", None)
    assert not pixels[:2].any()
    assert (pixels[2:] == 255).all()


def test_arrays_pass_through_the_same_way():
    pixels = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    assert np.array_equal(load_image(pixels, None), pixels)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "not an image"), (b"hello", "not an image"), (None, "no such file")]
)
def test_what_is_no_image_is_refused(tmp_path, content, message):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_image(path, (8, 8))


def test_a_truncated_jpeg_is_refused(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(buffer, "JPEG")
    path = tmp_path / "a.jpg"
    path.write_bytes(buffer.getvalue()[:600])
    with pytest.raises(DataError, match="does not decode"):
        load_image(path, (8, 8))


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    picture((11, 10)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="more than 100 pixels"):
        load_image(tmp_path / "a.png", (8, 8))


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        load_image(tmp_path, (8, 8))


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8)])
def test_arrays_that_are_no_images_are_refused(array):
    with pytest.raises(DataError):
        load_image(array, (8, 8))


def test_a_task_survives_json():
    task = ImageTask(("a", "b"), (32, 48), 3, (0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
    import json

    assert ImageTask.from_json(json.loads(json.dumps(task.to_json()))) == task


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "text"},
        {"labels": "ab"},
        {"labels": []},
        {"image_size": [32]},
        {"channels": 2},
        {"std": [0.0] * 3},
        {"mean": None},
    ],
)
def test_a_damaged_task_is_refused(change):
    values = ImageTask(("a", "b"), (32, 32)).to_json() | {"labels": ["a", "b"]}
    with pytest.raises(FormatError):
        ImageTask.from_json(values | change)


def test_a_plain_task_scales_to_minus_one_to_one():
    task = ImageTask(("a",), (2, 2), 1)
    assert (task.mean, task.std) == ((0.5,), (0.5,))
