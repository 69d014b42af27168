"""IDX files with any name that tells their contents."""

import gzip
import struct

import numpy as np
import pytest

from onebit.data import load_images, load_test_images
from onebit.errors import DataError
from onebit.images import ImageTask

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 7, 5), np.uint8)
LABELS = (np.arange(12) % 4).astype(np.uint8)
PUBLISHED = {"train": "train", "test": "t10k", "images": "images-idx3-ubyte", "labels": "labels-idx1-ubyte"}


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(folder, template="{part}-{content}", parts=("train", "test"), words=PUBLISHED, labels=LABELS):
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        for content, array in (("images", PIXELS), ("labels", labels)):
            name = template.format(part=words[part], content=words[content])
            data = idx(array)
            (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{part}-{content}", PUBLISHED),
        ("{part}-{content}.gz", PUBLISHED),
        ("{part}-{content}.idx", PUBLISHED),
        ("qmnist-{part}-{content}.gz", {**PUBLISHED, "test": "test"}),
        ("{part}-{content}.idx3-ubyte", {"train": "train", "test": "t10k", "images": "images", "labels": "labels"}),
        ("{part}_{content}.idx.gz", {"train": "Train", "test": "Test", "images": "Images", "labels": "Labels"}),
    ],
)
def test_names_that_say_what_they_hold(tmp_path, template, words):
    write(tmp_path, template, words=words)
    (tmp_path / "README.txt").write_text("x")
    (tmp_path / "._train-images-idx3-ubyte").write_bytes(b"\0\5\26\7")
    splits = load_images(str(tmp_path), channels=1)
    for part in (splits.train, splits.test):
        assert np.array_equal(part.pixels[..., 0], PIXELS)
        assert np.array_equal(part.labels, LABELS)
    assert splits.train.classes == ("0", "1", "2", "3")


def test_emnist_is_upright_and_has_letters(tmp_path):
    write(tmp_path, "emnist-letters-{part}-{content}.gz", words={**PUBLISHED, "test": "test"}, labels=LABELS + 1)
    (tmp_path / "emnist-letters-mapping.txt").write_text("1 65 97\n2 66 98\n3 67 99\n4 68 100\n")
    splits = load_images(str(tmp_path), channels=1)
    assert np.array_equal(splits.train.pixels[..., 0], PIXELS.transpose(0, 2, 1))
    assert splits.train.classes == ("A", "B", "C", "D")
    assert np.array_equal(splits.test.labels, LABELS)
    assert splits.notes == (f"{tmp_path}: EMNIST stores its images on their side; they were turned upright",)
    (tmp_path / "emnist-letters-mapping.txt").unlink()
    assert load_images(str(tmp_path), channels=1).train.classes == ("1", "2", "3", "4")


def test_torchvisions_folders(tmp_path):
    write(tmp_path / "FashionMNIST" / "raw")
    (tmp_path / "FashionMNIST" / "processed").mkdir()
    assert load_images(str(tmp_path / "FashionMNIST"), channels=1).train.classes[0] == "T-shirt"


def test_to_test_the_test_part_is_enough(tmp_path):
    write(tmp_path, parts=("test",))
    task = ImageTask(("3", "2", "1", "0"), (7, 5), 1)
    assert np.array_equal(load_test_images(str(tmp_path), task, 0).labels, 3 - LABELS)
    with pytest.raises(DataError, match=r"lacks train-images-idx3-ubyte: looked for that name, also with .gz"):
        load_images(str(tmp_path), channels=1)


def refuses(folder, message):
    with pytest.raises(DataError, match=message) as raised:
        load_images(str(folder), channels=1)
    assert "\n" not in str(raised.value)


def test_what_is_missing_or_unclear_is_named(tmp_path):
    write(tmp_path / "one", parts=("train",))
    refuses(tmp_path / "one", r"one\] lacks t10k-images-idx3-ubyte: looked for")
    write(tmp_path / "letters", "emnist-letters-{part}-{content}", parts=("train",))
    refuses(tmp_path / "letters", "lacks emnist-letters-t10k-images-idx3-ubyte: looked for")
    write(tmp_path / "letters", "emnist-digits-{part}-{content}")
    refuses(tmp_path / "letters", r"several sets \('emnist-digits', 'emnist-letters'\): put each into a folder")
    write(tmp_path / "twice")
    write(tmp_path / "twice", words={**PUBLISHED, "test": "test"})
    refuses(tmp_path / "twice", "t10k-images-idx3-ubyte and test-images-idx3-ubyte mean the same part: keep one")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "images.idx3-ubyte").write_bytes(idx(PIXELS))
    refuses(tmp_path / "odd", "images.idx3-ubyte does not say what it contains: expected train-images-idx3-ubyte, ")
    (tmp_path / "none").mkdir()
    refuses(tmp_path / "none", "has no folders: put .* or IDX files under their published names")


def test_images_without_pixels_are_refused(tmp_path):
    write(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((12, 0, 5), np.uint8)))
    refuses(tmp_path, r"images of shape \(12, 0, 5\) do not fit labels of shape \(12,\)")


def test_a_label_of_the_test_part_alone_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(LABELS + 1))
    refuses(tmp_path, "t10k-labels-idx1-ubyte. has the label 4, which is not one of the 4 classes")
