"""Folders of real users: with files of other programs, links, odd names, and parts that could be classes."""

import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from onebit.data import load_images, load_test_images
from onebit.data.folder import find_parts, load_folder
from onebit.errors import DataError
from onebit.images import ImageTask
from onebit.walk import walk

LEAVINGS = [".ipynb_checkpoints", ".thumbnails", ".Trash-0", ".git", "@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN"]


def fill(folder, count=3, suffix=".png"):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (4, 4), (i, len(folder.name), 0)).save(folder / f"{i}{suffix}")


@pytest.fixture
def animals(tmp_path):
    for name in ("cat", "dog"):
        fill(tmp_path / "animals" / name)
    return tmp_path / "animals"


@pytest.mark.parametrize("name", LEAVINGS)
def test_hidden_folders_are_left_out_and_said(animals, name):
    fill(animals / "cat" / name, 5)
    fill(animals / name / "cat", 5)
    splits = load_images(str(animals))
    assert splits.train.classes == ("cat", "dog")
    assert len(splits.train) + len(splits.test) == 6
    first = min(name, f"cat/{name}")
    assert splits.notes == (f"{animals}: left out 2 hidden files or folders, the first {first}",)


def test_hidden_files_are_left_out_and_said(animals):
    (animals / "cat" / "._0.png").write_bytes(b"\0\5\26\7")
    (animals / "cat" / ".DS_Store").write_bytes(b"\0")  # not a picture: nothing to say
    (animals / ".DS_Store").write_bytes(b"\0")
    (animals / "dog" / "notes.txt").write_text("x")
    fill(animals, 1)  # beside the classes
    images = load_folder(animals, None, 3)
    assert len(images) == 6
    assert images.notes == (
        f"{animals}: left out 1 hidden file or folder, the first cat/._0.png and 2 other files, the first 0.png",
    )


def test_hidden_ones_are_left_out_of_both_parts(tmp_path):
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            fill(tmp_path / part / name)
        fill(tmp_path / part / "dog" / ".ipynb_checkpoints")
    splits = load_images(str(tmp_path))
    assert (len(splits.train), len(splits.test), len(splits.notes)) == (6, 6, 2)
    test = load_test_images(str(tmp_path), ImageTask(("cat", "dog"), (4, 4)), 0)
    assert len(test) == 6
    assert "left out 1 hidden" in " ".join(test.notes)


def test_links_are_followed_and_loops_end(animals, tmp_path):
    fill(tmp_path / "elsewhere" / "cow")
    (animals / "cow").symlink_to(tmp_path / "elsewhere" / "cow")
    (animals / "cat" / "more").symlink_to(animals / "cat")
    (animals / "cat" / "all").symlink_to(animals / "dog")
    images = load_folder(animals, None, 3)
    assert np.bincount(images.labels).tolist() == [6, 3, 3]


def test_a_link_to_nothing_is_named(animals):
    (animals / "cat" / "gone.png").symlink_to("nothing.png")
    with pytest.raises(DataError, match=r"cat/gone.png: no such file"):
        load_folder(animals, None, 3)


def test_a_file_that_vanishes_is_named(animals, monkeypatch):
    found = walk(animals / "cat").files
    monkeypatch.setattr("onebit.data.folder.CACHE_FROM_FILES", 1)
    monkeypatch.setattr(
        "onebit.data.folder.walk", lambda folder: (os.path.lexists(found[0]) and found[0].unlink(), walk_of(found))[1]
    )
    with pytest.raises(DataError, match=r"cat/0.png: no such file"):
        load_folder(animals, (4, 4), 3)


def walk_of(files):
    from onebit.walk import Tree

    return Tree(list(files), [])


def test_a_pipe_is_not_waited_for(animals):
    os.mkfifo(animals / "cat" / "pipe.png")
    assert len(load_folder(animals, None, 3)) == 6


def test_an_unreadable_folder_is_named(animals, monkeypatch):
    scan = os.scandir

    def refuse(folder):
        if str(folder).endswith("inner"):
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    (animals / "cat" / "inner").mkdir()
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"cat/inner\] cannot be read: Permission denied"):
        load_folder(animals, None, 3)


def test_names_that_are_not_text(animals):
    fill(animals / os.fsdecode(b"caf\xe9"))
    with pytest.raises(DataError, match=r"the name of the folder b'caf\\xe9' is not UTF-8: rename it"):
        load_folder(animals, None, 3)


def test_two_spellings_of_a_name_are_one(tmp_path):
    for part, form in (("train", "NFC"), ("test", "NFD")):
        for name in ("caf\u00e9", "bar"):
            fill(tmp_path / part / unicodedata.normalize(form, name))
    assert load_images(str(tmp_path)).test.classes == ("bar", "caf\u00e9")
    (tmp_path / "train" / "cafe\u0301").mkdir()
    with pytest.raises(DataError, match="two folders named 'caf\u00e9', spelled in two ways"):
        load_images(str(tmp_path))


@pytest.mark.parametrize("suffix", [".PNG", ".JPG", ".Jpeg", ".jfif", ".TIF"])
def test_endings_count_in_any_case(tmp_path, suffix):
    for name in "ab":
        fill(tmp_path / name, suffix=".png")
        for file in list((tmp_path / name).iterdir()):
            file.rename(file.with_suffix(suffix))
    assert len(load_folder(tmp_path, None, 3)) == 6


@pytest.mark.parametrize(("train", "test"), [("Train", "Test"), ("training", "testing"), ("TRAIN", "test")])
def test_parts_have_several_names(tmp_path, train, test):
    for part in (train, test):
        for name in ("cat", "dog"):
            fill(tmp_path / part / name)
    assert load_images(str(tmp_path)).test.classes == ("cat", "dog")
    fill(tmp_path / train, 1)  # an image that lies about
    assert load_images(str(tmp_path)).train.classes == ("cat", "dog")


def test_a_class_named_train(tmp_path):
    fill(tmp_path / "bus")
    fill(tmp_path / "train" / "2019")
    assert load_images(str(tmp_path)).train.classes == ("bus", "train")
    fill(tmp_path / "train" / "2020")
    with pytest.raises(
        DataError, match=r"train/ contains folders \(2019, 2020\), and bus next to it contain images: put"
    ):
        load_images(str(tmp_path))
    fill(tmp_path / "train")
    assert load_images(str(tmp_path)).train.classes == ("bus", "train")


def test_folders_beside_the_parts_are_said(tmp_path):
    for name in ("cat", "dog"):
        fill(tmp_path / "train" / name)
        fill(tmp_path / "val" / name)
    (tmp_path / "annotations").mkdir()
    parts = find_parts(tmp_path)
    assert parts.train == tmp_path / "train"
    assert parts.notes == (f"{tmp_path}: annotations, val left out: train/ is trained on",)


def test_one_class_is_enough_to_test_on(tmp_path):
    for name in ("cat", "dog"):
        fill(tmp_path / "train" / name)
    fill(tmp_path / "test" / "cat")
    assert np.bincount(load_images(str(tmp_path)).test.labels).tolist() == [3]
    task = ImageTask(("cat", "dog"), (4, 4))
    assert len(load_test_images(str(tmp_path), task, 0)) == 3
    assert set(load_test_images(str(tmp_path / "test"), task, 0).labels) == {0}
    with pytest.raises(DataError, match="has one class only, 'cat': a classifier needs at least two"):
        load_images(str(tmp_path / "test"))
    with pytest.raises(DataError, match="contains images but no folders: give a folder with one folder of images for"):
        load_test_images(str(tmp_path / "test" / "cat"), task, 0)


def test_a_test_part_without_a_training_part_is_not_a_class(tmp_path):
    fill(tmp_path / "test" / "cat")
    fill(tmp_path / "test" / "dog")
    with pytest.raises(DataError, match=r"has test/ but no train/: put the training images into train/CLASS"):
        load_images(str(tmp_path))
    fill(tmp_path / "test")
    with pytest.raises(DataError, match="has one class only, 'test'"):
        load_images(str(tmp_path))
