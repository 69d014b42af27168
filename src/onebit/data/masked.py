"""Folders of pictures with masks: an image of class numbers for each picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onebit.data.annotated import PARTS
from onebit.data.scenes import MaskSet
from onebit.errors import DataError
from onebit.images import MAX_PIXELS, SUFFIXES, decode_image, quiet_pillow
from onebit.printable import printable
from onebit.processors import cores
from onebit.progress import report
from onebit.scenes.mask_figures import NOT_COUNTED_PIXEL
from onebit.scenes.pictures import scaled, scaled_mask
from onebit.tasks.pictures import MOST_CLASSES
from onebit.walk import entries, is_hidden

_PICTURES = ("images", "imgs", "jpegimages", "pictures")
_MASKS = ("masks", "labels", "annotations", "segmentationclass")
CLASSES_FILE = "classes.txt"
LAYOUT = "needs images/ and masks/ with files of the same names, in it or in train/ and test/ in it (valid/ too where there is one)"
# What tools add to the name of a picture to name its mask.
_ENDING = re.compile(r"[_-](mask|masks|label|labels|seg|gt)$", re.IGNORECASE)


@dataclass(frozen=True)
class Masked:
    """The pictures of a folder with their masks, by their parts: "train", perhaps "validation" and "test"."""

    parts: dict[str, list[tuple[Path, Path]]]
    classes: tuple[str, ...] | None
    notes: tuple[str, ...] = ()


def find_masked(root: Path) -> Masked:
    """Find the pictures and masks of a folder, and the names of its classes, a line each in classes.txt.

    Raises:
        DataError: no layout fits, or a mask has no picture.
    """
    folders = {one.name.lower(): Path(one) for one in entries(root) if not is_hidden(one.name) and Path(one).is_dir()}
    bases = {part: folders[name] for part, names in PARTS.items() for name in names if name in folders}
    if "train" not in bases:
        bases = {"train": root}
    parts: dict[str, list[tuple[Path, Path]]] = {}
    notes: list[str] = []
    for part, base in bases.items():
        parts[part] = _pairs(base, notes)
    return Masked(parts, _classes(root), tuple(notes))


def load_masked(
    pairs: Sequence[tuple[Path, Path]], size: tuple[int, int], channels: int, classes: tuple[str, ...] | None
) -> MaskSet:
    """Decode pictures and masks, scaled as a whole.

    Args:
        pairs: at least one picture and its mask.
        size: (height, width).
        channels: 1 or 3.
        classes: names of the class numbers; None: the numbers that occur, from 0 to the largest.

    Raises:
        DataError: a file does not decode, a mask has another size than its picture, is not an image of class numbers, or has a number without a
            class.
    """
    pixels = np.empty((len(pairs), *size, channels), np.uint8)
    masks = np.empty((len(pairs), *size), np.uint8)
    largest = np.zeros(len(pairs), np.int64)
    broken: list[DataError] = []

    def decode(index: int) -> None:
        picture, mask = pairs[index]
        try:
            image, numbers = decode_image(picture, None, channels), read_mask(mask)
            if image.shape[:2] != numbers.shape:
                raise DataError(
                    f"[{mask}] has {numbers.shape[1]}x{numbers.shape[0]} pixels, and its picture {picture.name} "
                    f"{image.shape[1]}x{image.shape[0]}: a mask has a number for each pixel of the picture"
                )
            counted = numbers[numbers != NOT_COUNTED_PIXEL]
            largest[index] = counted.max(initial=0)
            if classes is not None and largest[index] >= len(classes):
                raise DataError(
                    f"[{mask}] has the class number {largest[index]}: there are {len(classes)} classes, 0 to {len(classes) - 1}; "
                    f"{NOT_COUNTED_PIXEL} marks pixels that do not count"
                )
            pixels[index], masks[index] = scaled(image, size), scaled_mask(numbers, size)
        except DataError as error:
            broken.append(error)

    with quiet_pillow(), ThreadPoolExecutor(cores()) as pool:
        for count, _ in enumerate(pool.map(decode, range(len(pairs))), 1):
            report("read", count, len(pairs), "images")
    if broken:
        more = f" ({len(broken)} pictures in all cannot be used)" if len(broken) > 1 else ""
        raise DataError(f"{min(broken, key=str)}{more}")
    names = classes or tuple(str(number) for number in range(max(1, int(largest.max())) + 1))
    return MaskSet(pixels, masks, names)


def read_mask(path: Path) -> NDArray[np.uint8]:
    """The class numbers of a mask (height, width): the values of a grey image, or the numbers of a palette's colours.

    Raises:
        DataError: it does not decode, or is an image of colours.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"[{path}] has more than {MAX_PIXELS} pixels: make it smaller first")
            if image.mode not in ("L", "P", "1", "I;16", "I"):
                raise DataError(
                    f"[{path}] is an image of colours ({image.mode}): needs a grey image of class numbers, or one with a palette"
                )
            numbers = np.asarray(image)
    except DataError:
        raise
    except Exception as error:  # decoders raise all kinds of errors on damaged input
        raise DataError(f"[{path}] does not decode ({error or type(error).__name__}): replace it") from None
    if numbers.size and int(numbers.max()) > NOT_COUNTED_PIXEL:
        raise DataError(f"[{path}] has the class number {int(numbers.max())}: needs 0 to {NOT_COUNTED_PIXEL}")
    return numbers.astype(np.uint8)


def _pairs(base: Path, notes: list[str]) -> list[tuple[Path, Path]]:
    folders = {one.name.lower(): Path(one) for one in entries(base) if not is_hidden(one.name) and Path(one).is_dir()}
    images, masks = (next((folders[name] for name in names if name in folders), None) for names in (_PICTURES, _MASKS))
    if images is None or masks is None:
        raise DataError(f"[{base}] has no pictures with masks: {LAYOUT}")
    pictures = _files(images)
    pairs = []
    for stem, mask in _files(masks).items():
        picture = pictures.get(stem) or pictures.get(_ENDING.sub("", stem))
        if picture is None:
            raise DataError(
                f"[{mask}] has no picture: there is no image file named {stem} in {images}; add it, or remove the mask"
            )
        pairs.append((picture, mask))
    if not pairs:
        raise DataError(f"[{masks}] contains no masks: {LAYOUT}")
    used = {picture for picture, _ in pairs}
    without = sorted(picture.name for picture in pictures.values() if picture not in used)
    if without:
        count = "1 picture without a mask" if len(without) == 1 else f"{len(without)} pictures without masks"
        notes.append(f"{printable(base)}: left out {count}, the first {printable(without[0])}")
    return pairs


def _files(folder: Path) -> dict[str, Path]:
    files = [Path(one) for one in entries(folder) if not is_hidden(one.name)]
    return {file.stem: file for file in files if file.suffix.lower() in SUFFIXES}


def _classes(root: Path) -> tuple[str, ...] | None:
    path = root / CLASSES_FILE
    if not path.is_file():
        return None
    try:
        names = tuple(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError):
        raise DataError(f"[{path}] is not a text in UTF-8: needs the name of a class in each line") from None
    if len(set(names)) != len(names) or not 2 <= len(names) <= MOST_CLASSES:
        raise DataError(
            f"[{path}] has {len(names)} names, {len(set(names))} of them different: needs 2 to {MOST_CLASSES} different ones"
        )
    return names
