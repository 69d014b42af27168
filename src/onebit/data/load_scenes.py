"""Load the data that a recipe for detection or segmentation names, as arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.data.annotated import all_classes, find_annotated, load_annotated
from onebit.data.arrays import ArraySet, ArraySplits
from onebit.data.digit_scenes import NAME, digit_boxes, digit_masks
from onebit.data.load import TEST_SHARE
from onebit.data.masked import find_masked, load_masked
from onebit.data.scenes import BoxSet, MaskSet, SceneSet, split_scenes
from onebit.errors import DataError
from onebit.images import SUFFIXES
from onebit.paths import expand
from onebit.scenes.average_precision import Objects

Size = tuple[int, int]
Parts = tuple[dict[str, Any], tuple[str, ...]]
# Of the files of a folder that decide what is trained on: pictures, masks, annotations, lists of parts and of classes.
SCENE_SUFFIXES = tuple(sorted({*SUFFIXES, ".xml", ".json", ".txt"}))


def _box_parts(root: Path, size: Size, channels: int, classes: tuple[str, ...] | None) -> Parts:
    found = find_annotated(root)
    sets = {part: load_annotated(pairs, size, channels, classes, str(root)) for part, pairs in found.parts.items()}
    if classes is None:
        sets = dict(zip(sets, all_classes(list(sets.values())), strict=True))
    return sets, found.notes


def _mask_parts(root: Path, size: Size, channels: int, classes: tuple[str, ...] | None) -> Parts:
    found = find_masked(root)
    known = found.classes or classes
    sets = {part: load_masked(pairs, size, channels, known) for part, pairs in found.parts.items()}
    names = max((one.classes for one in sets.values()), key=len)
    return {part: MaskSet(one.pixels, one.masks, names, one.notes) for part, one in sets.items()}, found.notes


# For each kind: the scenes of a part that are made on the spot, and the sets of a folder by their parts.
_SOURCES: dict[str, tuple[Callable[[str], SceneSet], Callable[[Path, Size, int, tuple[str, ...] | None], Parts]]] = {
    "detection": (digit_boxes, _box_parts),
    "segmentation": (digit_masks, _mask_parts),
}


def scene_folder(data: str) -> Path | None:
    """The folder that `data` names; None if it names scenes that are made on the spot."""
    path = expand(data)
    if path.is_dir():
        return path
    if data == NAME:
        return None
    if path.exists():
        raise DataError(f"[{data}] is a file: give the folder that has the pictures")
    raise DataError(f"[{data}] there is no such data set: give a folder, or {NAME}")


def load_scenes(
    kind: str,
    data: str,
    size: Size,
    channels: int,
    validation_share: float = 0.0,
    seed: int = 0,
    classes: tuple[str, ...] | None = None,
) -> tuple[ArraySplits, tuple[str, ...]]:
    """Load pictures with boxes or masks.

    Args:
        kind: ``"detection"`` or ``"segmentation"``.
        data: ``"digit-scenes"``, or the path of a folder; docs/detection.md and docs/segmentation.md describe the layouts.
        size: (height, width) to scale to, the whole picture.
        channels: 1 or 3.
        validation_share: the share of the training pictures that is held out to choose the best epoch, where the data have no part for it.
        seed: of the splits.
        classes: of a trained network; None: those of the data.

    Returns:
        The splits and the classes. Data without a test part give a fifth of their pictures to test; a published validation part chooses the
        epoch, or is the test part where there is no other.

    Raises:
        DataError: the data do not exist or cannot be used, or have a class that the network does not know. The message says why.
    """
    root, (made, read) = scene_folder(data), _SOURCES[kind]
    parts: dict[str, Any]
    notes: tuple[str, ...]
    if root is None:
        parts, notes = {part: made(part).at_size(size, channels) for part in ("train", "test")}, ()
    else:
        parts, notes = read(root, size, channels, classes)
    if classes is not None:
        parts = {part: one.with_classes(classes, data) for part, one in parts.items()}
    notes += tuple(note for one in parts.values() for note in one.notes)
    train, validation, test = parts["train"], parts.get("validation"), parts.get("test")
    if test is None:
        test, validation = validation, None
    own_test = test is not None
    if test is None:
        train, test = split_scenes(train, TEST_SHARE, seed, data)
    if validation is None and validation_share > 0:
        train, validation = split_scenes(train, validation_share, seed + 1, data)
    tested = arrays_of(test)
    validated = tested if validation is None else arrays_of(validation)
    splits = ArraySplits(arrays_of(train), validated, tested, data, tuple(dict.fromkeys(notes)), own_test)
    return splits, train.classes


def arrays_of(scenes: SceneSet) -> ArraySet:
    """A set as training and figures take it: boxes as rows that `padded_objects` describes, masks as they are."""
    if isinstance(scenes, BoxSet):
        return ArraySet(scenes.pixels, padded_objects(scenes.objects), list(scenes.objects))
    return ArraySet(scenes.pixels, scenes.masks)


def padded_objects(objects: Sequence[Objects]) -> NDArray[np.float32]:
    """Objects as one array (n, most, 5): class number, left, top, right, bottom; -1 as the class of rows that are none, or not learned."""
    most = max((len(one) for one in objects), default=0)
    rows = np.full((len(objects), max(1, most), 5), -1, np.float32)
    for row, one in zip(rows, objects, strict=True):
        row[: len(one), 0] = np.where(one.ignored, -1, one.labels)
        row[: len(one), 1:] = one.boxes
    return rows


def load_pictures(paths: Sequence[str], size: Size, channels: int) -> NDArray[np.uint8]:
    """Picture files scaled as a whole, (n, height, width, channels). Raises DataError as `load_image` does."""
    from onebit.scenes.pictures import load_whole

    return np.stack([load_whole(path, size, channels)[0] for path in paths])
