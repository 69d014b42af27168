"""Load the data that a recipe names, as images for training, validation and test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from onebit.data.folder import composed, find_parts, load_folder
from onebit.data.idx import IdxFolder, find_idx, load_idx
from onebit.data.images import ImageSet, ImageSplits, limit_images, split_images
from onebit.data.named import HUB_SETS, folder_of, load_digits, load_hub
from onebit.errors import DataError
from onebit.images import ImageTask
from onebit.paths import expand

# The test share of a set without its own test part.
TEST_SHARE = 0.2


def load_images(
    data: str,
    size: tuple[int, int] | None = None,
    channels: int = 3,
    validation_share: float = 0.0,
    train_limit: int | None = None,
    seed: int = 0,
) -> ImageSplits:
    """Load labelled images.

    Args:
        data: ``"digits"``, ``"cifar10"``, ``"food101"``, ``"mnist"``, ``"fashion-mnist"``, or the path of a folder. The folder contains one
            folder per class, or train/ and test/ with such folders, or IDX files.
        size: (height, width) to scale to; None keeps the data's own.
        channels: 1 or 3.
        validation_share: the share of the training images that is held out to choose the best epoch. With 0 the test images serve for
            validation too.
        train_limit: the most training images, equally many of each class.
        seed: the seed of the splits.

    Returns:
        The splits. A set without a test part gives a fifth of each class to test.

    Raises:
        DataError: the data do not exist or cannot be used. The message says why.
    """
    train, test = load_parts(data, size, channels, seed)
    notes = tuple(dict.fromkeys([*train.notes, *test.notes]))
    validation = test
    if validation_share > 0:
        train, validation = split_images(train, validation_share, seed + 1, data)
    return ImageSplits(limit_images(train, train_limit, seed), validation, test, data, notes)


def load_parts(
    data: str, size: tuple[int, int] | None, channels: int, seed: int = 0, least_classes: int = 2
) -> tuple[ImageSet, ImageSet]:
    """The training and the test part of `data`; see `load_images`."""
    if path := folder_of(data):
        if idx := _find_idx(path):
            train = load_idx(idx, "train", size, channels)
            return train, load_idx(idx, "test", train.pixels.shape[1:3], channels, train.classes)
        parts = find_parts(path)
        train = load_folder(parts.train if parts else path, size, channels, least_classes=least_classes)
        if parts:
            train = replace(train, notes=(*parts.notes, *train.notes))
        if parts and parts.test:
            return train, load_folder(parts.test, train.pixels.shape[1:3], channels, train.classes)
        return split_images(train, TEST_SHARE, seed, data)
    if data == "digits":
        return split_images(load_digits(size, channels), TEST_SHARE, seed, data)
    if data in HUB_SETS:
        train = load_hub(data, "train", size, channels)
        return train, load_hub(data, "test", train.pixels.shape[1:3], channels)
    if expand(data).exists():
        raise DataError(f"[{data}] is a file: give a folder with one folder of images for each class")
    raise DataError(f"[{data}] there is no such data set: give a folder, or one of digits, {', '.join(HUB_SETS)}")


def has_test_part(data: str) -> bool:
    """Whether `data` has its own test part."""
    if path := folder_of(data):
        parts = None if (idx := _find_idx(path)) else find_parts(path)
        return idx is not None or (parts is not None and parts.test is not None)
    return data in HUB_SETS


def files_read(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders that are read from a folder of images, each with everything below it, and its single files."""
    if idx := _find_idx(folder):
        return [], list(idx.files.values())
    parts = find_parts(folder)
    return [part for part in ((parts.train, parts.test) if parts else (folder,)) if part], []


def load_test_images(data: str, task: ImageTask, seed: int) -> ImageSet:
    """The test part of `data`, with its classes matched by name to those of a trained network.

    Data without a test part give the fifth that training on the same data with the same `seed` holds out;
    `onebit.data.held_out.images_to_measure` checks that the data are the same. If there is a test part, the training part is not read.

    Raises:
        DataError: the data cannot be used, or contain a class that the network does not know.
    """
    images = _own_test_part(data, task)
    if images is None:
        images = load_parts(data, task.image_size, task.channels, seed, least_classes=1)[1]
    return match_classes(images, task, data)


def match_classes(images: ImageSet, task: ImageTask, data: str) -> ImageSet:
    """Images with classes in a trained network's order, matched by name. Raises DataError if the network does not know one."""
    known = {composed(label): index for index, label in enumerate(task.labels)}
    unknown = [name for name in images.classes if composed(name) not in known]
    if unknown:
        raise DataError(
            f"[{data}] has classes that the network does not know: {', '.join(unknown)}; it knows {', '.join(task.labels)}"
        )
    positions = np.array([known[composed(name)] for name in images.classes], np.int64)
    return replace(images, labels=positions[images.labels], classes=task.labels)


def _own_test_part(data: str, task: ImageTask) -> ImageSet | None:
    """The test part of data that have one. The training part is not decoded and may be missing."""
    if path := folder_of(data):
        if idx := _find_idx(path):
            return load_idx(idx, "test", task.image_size, task.channels)
        parts = find_parts(path)
        if parts and parts.test:
            return load_folder(parts.test, task.image_size, task.channels, task.labels)
        return None
    return load_hub(data, "test", task.image_size, task.channels) if data in HUB_SETS else None


def _find_idx(path: Path) -> IdxFolder | None:
    # torchvision puts the files one folder deeper.
    return find_idx(path) or (find_idx(path / "raw") if (path / "raw").is_dir() else None)
