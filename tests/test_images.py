"""Any picture becomes pixels of the right shape. Other files are refused in one line."""

import io
import struct

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
    monkeypatch.setattr("onebit.images.MAX_PIXELS", 100)
    picture((11, 10)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="a.png: 11x10 is more than 100 pixels"):
        load_image(tmp_path / "a.png", (8, 8))


def test_a_large_jpeg_is_decoded_smaller(tmp_path, monkeypatch):
    wide = Image.linear_gradient("L").resize((320, 160)).convert("RGB")
    wide.save(tmp_path / "a.jpg")
    whole = load_image(tmp_path / "a.jpg", (16, 16)).astype(int)
    monkeypatch.setattr("onebit.images.MAX_PIXELS", 1000)
    assert np.abs(load_image(tmp_path / "a.jpg", (16, 16)) - whole).max() <= 4
    with pytest.raises(DataError, match="160x80 is more than 1000 pixels"):
        load_image(tmp_path / "a.jpg", (70, 70))  # would become coarse
    with pytest.raises(DataError, match="320x160 is more than 1000 pixels"):
        load_image(tmp_path / "a.jpg", None)
    monkeypatch.setattr("onebit.images.MAX_JPEG_PIXELS", 50000)
    with pytest.raises(DataError, match="320x160 is more than 50000 pixels"):
        load_image(tmp_path / "a.jpg", (16, 16))


def test_the_limits_of_pixels_hold_for_the_header_of_a_tiny_file(tmp_path):
    buffer = io.BytesIO()
    picture((8, 8)).save(buffer, "JPEG")
    content = bytearray(buffer.getvalue())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", 9900, 9000)
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match="9000x9900 is more than 67108864 pixels"):
        load_image(tmp_path / "a.jpg", (32, 32))
    content[at : at + 4] = struct.pack(">HH", 65500, 65500)
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match="more than 33554432 pixels"):
        load_image(tmp_path / "a.jpg", (32, 32))


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_an_image_without_pixels_is_refused(tmp_path, kind):
    path = tmp_path / "a.png"
    picture().convert("P").save(path, kind)
    content = bytearray(path.read_bytes())
    at = {"PNG": 16, "BMP": 18}[kind]
    content[at : at + 4] = b"\0\0\0\0"
    path.write_bytes(content)
    with pytest.raises(DataError, match="a.png: "):
        load_image(path, (8, 8))


def test_what_cannot_be_read_says_why(tmp_path):
    with pytest.raises(DataError, match=r"\[image\] .*: cannot be read: File name too long"):
        load_image(tmp_path / ("a" * 300), (8, 8))
    (tmp_path / "a.png").symlink_to("a.png")
    with pytest.raises(DataError, match="a.png: cannot be read: Too many levels of symbolic links"):
        load_image(tmp_path / "a.png", (8, 8))


def test_postscript_is_not_run(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EOF\n")
    with pytest.raises(DataError, match="not an image that Pillow can read"):
        load_image(tmp_path / "a.jpg", (8, 8))


def test_of_an_animation_the_first_picture_counts(tmp_path):
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    for kind in ("gif", "webp", "png", "tiff"):
        options = {"lossless": True} if kind == "webp" else {}
        frames[0].save(tmp_path / f"a.{kind}", save_all=True, append_images=frames[1:], **options)
        assert (load_image(tmp_path / f"a.{kind}", None) == [255, 0, 0]).all()


@pytest.mark.parametrize("mode", ["P", "L", "LA", "PA", "RGB"])
def test_every_kind_of_transparency_lies_on_white(tmp_path, mode):
    if mode in ("LA", "PA"):
        image = Image.new(mode[0], (4, 4), 0)
        image.putalpha(0)
        image.save(path := tmp_path / ("a.png" if mode == "LA" else "a.tiff"))
    else:
        Image.new(mode, (4, 4), 0).save(path := tmp_path / "a.png", transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert (load_image(path, None) == 255).all()


def test_lab_becomes_the_colour_that_it_names(tmp_path):
    Image.new("LAB", (4, 4), (138, 0, 0)).save(tmp_path / "a.tiff")
    assert load_image(tmp_path / "a.tiff", None).shape == (4, 4, 3)


def test_an_image_of_pillow_is_taken():
    assert (load_image(picture(), (5, 5)) == [200, 100, 50]).all()


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
