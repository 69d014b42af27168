"""Folders of pictures with masks as users have them, and each kind of wrong one with its one line."""

import numpy as np
import pytest
from PIL import Image

from onebit.data.load_scenes import load_scenes
from onebit.data.masked import find_masked, load_masked, read_mask
from onebit.errors import DataError
from onebit.scenes.drawing import palette_image


def fill(root, count=5, classes=3, ending=""):
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.new("RGB", (40, 30), (index, 50, 0)).save(root / "images" / f"{index}.jpg")
        numbers = np.zeros((30, 40), np.uint8)
        numbers[5:20, 10:30] = index % classes
        Image.fromarray(numbers).save(root / "masks" / f"{index}{ending}.png")
    return root


def load(root, classes=None):
    return load_masked(find_masked(root).parts["train"], (30, 40), 3, classes)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_is_divided_and_its_classes_are_numbers_or_names(tmp_path):
    splits, classes = load_scenes("segmentation", str(fill(tmp_path)), (15, 20), 1, validation_share=0.3)
    assert [len(one) for one in (splits.train, splits.validation, splits.test)] == [3, 1, 1]
    assert classes == ("0", "1", "2") and splits.train.targets.shape == (3, 15, 20)
    (tmp_path / "classes.txt").write_text("ground\ncat\n\ndog\n")
    splits, classes = load_scenes("segmentation", str(tmp_path), (15, 20), 1)
    assert classes == ("ground", "cat", "dog")
    again, _ = load_scenes("segmentation", str(tmp_path), (15, 20), 1, classes=classes)
    assert (again.test.targets == splits.test.targets).all()
    with pytest.raises(DataError, match="masks are numbers, which must mean the same"):
        load_scenes("segmentation", str(tmp_path), (15, 20), 1, classes=("ground", "dog", "cat"))


def test_parts_and_names_with_endings(tmp_path):
    for part in ("train", "valid", "test"):
        fill(tmp_path / part, ending="_mask")
    splits, _ = load_scenes("segmentation", str(tmp_path), (30, 40), 3)
    assert splits.own_test and len(splits.validation) == 5


def test_palettes_give_numbers_and_255_does_not_count(tmp_path):
    fill(tmp_path)
    numbers = np.full((30, 40), 255, np.uint8)
    numbers[:4] = 2
    palette_image(numbers, 3).save(tmp_path / "masks" / "0.png")
    assert (read_mask(tmp_path / "masks" / "0.png") == numbers).all()
    assert load(tmp_path).classes == ("0", "1", "2")


def test_pictures_without_masks_are_left_out_and_said(tmp_path):
    fill(tmp_path)
    (tmp_path / "masks" / "3.png").unlink()
    assert find_masked(tmp_path).notes == (f"{tmp_path}: left out 1 picture without a mask, the first 3.jpg",)


def test_wrong_masks_are_one_line(tmp_path):
    fill(tmp_path)
    path = tmp_path / "masks" / "2.png"

    def refused(image, reason, classes=None):
        image.save(path)
        with pytest.raises(DataError, match=reason) as error:
            load(tmp_path, classes)
        assert str(path) in one_line(error)

    refused(
        Image.new("L", (30, 40)), "has 30x40 pixels, and its picture 2.jpg 40x30: a mask has a number for each pixel"
    )
    refused(Image.new("RGB", (40, 30)), "is an image of colours")
    refused(Image.new("L", (40, 30), 9), "has the class number 9: there are 3 classes, 0 to 2", ("a", "b", "c"))
    refused(Image.fromarray(np.full((30, 40), 300, np.uint16)), "has the class number 300: needs 0 to 255")
    path.write_bytes(b"\x89PNG nothing")
    with pytest.raises(DataError, match="does not decode"):
        load(tmp_path)
    path.unlink()
    Image.new("L", (40, 30)).save(tmp_path / "masks" / "other.png")
    with pytest.raises(DataError, match="there is no image file named other"):
        find_masked(tmp_path)


def test_wrong_folders_are_one_line(tmp_path):
    with pytest.raises(DataError, match="has no pictures with masks: needs images/ and masks/"):
        find_masked(tmp_path)
    fill(tmp_path, 0)
    with pytest.raises(DataError, match="contains no masks"):
        find_masked(tmp_path)
    fill(tmp_path)
    (tmp_path / "classes.txt").write_text("cat\ncat\n")
    with pytest.raises(DataError, match="has 2 names, 1 of them different"):
        find_masked(tmp_path)
    (tmp_path / "classes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is not a text in UTF-8"):
        find_masked(tmp_path)
