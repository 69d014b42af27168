"""Load the data that a recipe for detection or segmentation names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from onebit.data.annotated import all_classes, annotated_files, find_annotated, load_annotated
from onebit.data.digit_scenes import NAME, digit_boxes, digit_masks
from onebit.data.load import TEST_SHARE
from onebit.data.masked import find_masked, load_masked, masked_files
from onebit.data.scenes import BoxSet, MaskSet, SceneSplits, split_scenes
from onebit.errors import DataError
from onebit.paths import expand

Size = tuple[int, int]
PART_NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class SceneSource:
    """How the data of a kind of scenes are read.

    Args:
        made: the scenes of a part that are made on the spot.
        parts: the sets that a folder has, by their parts, for classes or for those that occur; and notes.
        files: those of a folder that decide what is trained on.
    """

    made: Callable[[str], Any]
    parts: Callable[[Path, Size, int, tuple[str, ...] | None, tuple[str, ...]], tuple[dict[str, Any], tuple[str, ...]]]
    files: Callable[[Path], list[Path]]


def _box_parts(
    root: Path, size: Size, channels: int, classes: tuple[str, ...] | None, wanted: tuple[str, ...]
) -> tuple[dict[str, BoxSet], tuple[str, ...]]:
    found = find_annotated(root)
    chosen = {part: pairs for part, pairs in found.parts.items() if part in wanted}
    sets = {part: load_annotated(pairs, size, channels, classes, str(root)) for part, pairs in chosen.items()}
    if classes is None:
        sets = dict(zip(sets, all_classes(list(sets.values())), strict=True))
    return sets, found.notes


def _mask_parts(
    root: Path, size: Size, channels: int, classes: tuple[str, ...] | None, wanted: tuple[str, ...]
) -> tuple[dict[str, MaskSet], tuple[str, ...]]:
    found = find_masked(root)
    chosen = {part: pairs for part, pairs in found.parts.items() if part in wanted}
    sets = {part: load_masked(pairs, size, channels, found.classes or classes) for part, pairs in chosen.items()}
    if classes is None and found.classes is None:
        names = max((one.classes for one in sets.values()), key=len)
        sets = {part: MaskSet(one.pixels, one.masks, names, one.notes) for part, one in sets.items()}
    return sets, found.notes


SOURCES: dict[str, SceneSource] = {
    "detection": SceneSource(digit_boxes, _box_parts, annotated_files),
    "segmentation": SceneSource(digit_masks, _mask_parts, masked_files),
}


def scene_folder(data: str) -> Path | None:
    """The folder that `data` names; None if it names scenes that are made on the spot."""
    path = expand(data)
    if data == NAME and not path.is_dir():
        return None
    if path.is_dir():
        return path
    if path.exists():
        raise DataError(f"[{data}] is a file: give the folder that has the pictures")
    raise DataError(f"[{data}] there is no such data set: give a folder, or {NAME}")


def load_scenes(
    kind: str, data: str, size: Size, channels: int, validation_share: float = 0.0, seed: int = 0
) -> SceneSplits[Any]:
    """Load pictures with boxes or masks.

    Args:
        kind: ``"detection"`` or ``"segmentation"``.
        data: ``"digit-scenes"``, or the path of a folder; docs/detection.md and docs/segmentation.md describe the layouts.
        size: (height, width) to scale to, the whole picture.
        channels: 1 or 3.
        validation_share: the share of the training pictures that is held out to choose the best epoch, where the data have no part for it.
        seed: of the splits.

    Returns:
        The splits. Data without a test part give a fifth of their pictures to test; a published validation part chooses the epoch, or is the
        test part where there is no other.

    Raises:
        DataError: the data do not exist or cannot be used. The message says why.
    """
    root, source = scene_folder(data), SOURCES[kind]
    if root is None:
        parts = {part: source.made(part).at_size(size, channels) for part in ("train", "test")}
        notes: tuple[str, ...] = ()
    else:
        parts, notes = source.parts(root, size, channels, None, PART_NAMES)
    notes += tuple(note for one in parts.values() for note in one.notes)
    train, validation, test = (parts.get(part) for part in PART_NAMES)  # of one kind
    train = cast(Any, train)
    if test is None:
        test, validation = validation, None
    if test is None:
        train, test = split_scenes(train, TEST_SHARE, seed, data)
    if validation is None and validation_share > 0:
        train, validation = split_scenes(train, validation_share, seed + 1, data)
    chooses = validation is not None
    return SceneSplits(train, validation if chooses else test, test, chooses, tuple(dict.fromkeys(notes)))


def load_test_scenes(kind: str, data: str, size: Size, channels: int, classes: tuple[str, ...], seed: int) -> Any:
    """The part of `data` to report on, for a network of these classes; the training part is read only where there is no other.

    Raises:
        DataError: the data cannot be used, or have a class that the network does not know.
    """
    root, source = scene_folder(data), SOURCES[kind]
    if root is None:
        return source.made("test").at_size(size, channels).with_classes(classes, data)
    part = test_part(kind, data)
    sets, _ = source.parts(root, size, channels, classes, (part or "train",))
    found = sets[part or "train"]
    return (found if part else split_scenes(found, TEST_SHARE, seed, data)[1]).with_classes(classes, data)


def load_all_scenes(kind: str, data: str, size: Size, channels: int, classes: tuple[str, ...]) -> Any:
    """All pictures of data without a test part, for a network of these classes."""
    root = scene_folder(data)
    assert root is not None
    return SOURCES[kind].parts(root, size, channels, classes, ("train",))[0]["train"].with_classes(classes, data)


def test_part(kind: str, data: str) -> str | None:
    """The name of the part of `data` to report on; None if a share of the training part has to serve."""
    root = scene_folder(data)
    if root is None:
        return "test"
    found = (find_annotated(root) if kind == "detection" else find_masked(root)).parts
    return next((part for part in ("test", "validation") if part in found), None)
