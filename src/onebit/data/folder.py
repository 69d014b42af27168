"""Images in folders, one folder per class: ROOT/CLASS/*.jpg, or ROOT/train/CLASS/ and ROOT/test/CLASS/."""

from __future__ import annotations

import contextlib
import hashlib
import os
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onebit.data.cache import cache_folder
from onebit.data.images import ImageSet
from onebit.errors import DataError
from onebit.fileformat import write_atomically
from onebit.images import SUFFIXES, decode_image, load_image, quiet_pillow
from onebit.progress import report
from onebit.walk import entries, is_hidden, note_of_left_out, walk

# Decoding fewer files than this is faster than looking for a cache.
CACHE_FROM_FILES = 2000
# Increase it when the same file would give other pixels.
_CACHE_FORMAT = 2
_TRAIN, _TEST, _VALIDATION = {"train", "training"}, {"test", "testing"}, {"val", "valid", "validation"}


@dataclass(frozen=True)
class Parts:
    """The folders of a root with train/ and perhaps test/, and a sentence about what is not read."""

    train: Path
    test: Path | None
    notes: tuple[str, ...] = ()


def find_parts(root: Path) -> Parts | None:
    """train/ (or training/) and test/ (or testing/) of `root`, in upper or lower case. None if its folders are classes.

    A folder with such a name is a class if it contains images. It is also a class if it contains at most one folder and other folders
    contain images.

    Raises:
        DataError: train/ could be a class or a part of the data.
    """
    folders = _folders(root)
    trains, tests = ([f for f in folders if f.name.lower() in names] for names in (_TRAIN, _TEST))
    if len(trains) != 1 or len(tests) > 1:
        return None
    train, test = trains[0], tests[0] if tests else None
    # A few images next to the class folders of both parts do not turn the parts into classes.
    alike = test is not None and {f.name for f in _folders(train)} & {f.name for f in _folders(test)}
    if not alike and _has_images(train):
        return None
    if test is not None and not alike and _has_images(test):
        test = None
    rest = [f for f in folders if f not in (train, test)]
    if test is None:
        classes = [f for f in rest if f.name.lower() not in _VALIDATION and any(map(_is_image, walk(f).files))]
        inside = _folders(train)
        if classes and len(inside) > 1:
            raise DataError(
                f"[{root}] {train.name}/ contains folders ({_some(inside)}), and {_some(classes)} next to it contain images: put the images of a "
                f"class {train.name} into it directly, or move the other folders away from a training part"
            )
        if classes:
            return None
    note = f"{root}: {_some(rest)} left out: {train.name}/ is trained on" + (f", {test.name}/ tested" if test else "")
    return Parts(train, test, (note,) if rest else ())


def load_folder(
    root: Path,
    size: tuple[int, int] | None,
    channels: int,
    classes: Sequence[str] | None = None,
    least_classes: int = 2,
) -> ImageSet:
    """Decode every image under `root`/CLASS/, at any depth.

    Hidden files and folders (see `onebit.walk`) and files without an image's suffix are skipped. A note of the set says so.

    Args:
        root: the folder with one folder per class.
        size: (height, width), or None for the size of the first image.
        channels: 1 or 3.
        classes: the expected class names; some may be missing. The default is all folders, and then each must contain images.
        least_classes: the least number of classes. It is not checked with `classes`.

    Raises:
        DataError: there are too few classes, a class is empty, or images do not decode (the message names the first and counts all).
    """
    found = _class_folders(root)
    if classes is None and len(found) < least_classes:
        only = next(iter(found.values()))
        if only.name.lower() in _TEST | _VALIDATION and _folders(only) and not _has_images(only):
            raise DataError(f"[{root}] has {only.name}/ but no train/: put the training images into train/CLASS")
        raise DataError(f"[{root}] has one class only, {next(iter(found))!r}: a classifier needs at least two")
    if classes is not None and set(found) - set(map(composed, classes)):
        unknown = ", ".join(sorted(set(found) - set(map(composed, classes))))
        raise DataError(f"[{root}] has classes that were not trained: {unknown}; allowed: {', '.join(classes)}")
    names = tuple(classes) if classes is not None else tuple(sorted(found))
    files: list[Path] = []
    labels: list[int] = []
    hidden = [Path(entry) for entry in entries(root) if is_hidden(entry.name)]
    other = [Path(entry) for entry in entries(root) if not is_hidden(entry.name) and _is_image(Path(entry))]
    for label, name in enumerate(names):
        folder = found.get(composed(name))
        if folder is None:
            continue
        tree = walk(folder)
        members = [file for file in tree.files if _is_image(file)]
        if not members and classes is None:
            raise DataError(f"[{folder}] contains no images: fill it or remove it; images end in {_ENDINGS}")
        hidden += tree.hidden
        other += [file for file in tree.files if not _is_image(file)]
        files += members
        labels += [label] * len(members)
    if not files:
        raise DataError(f"[{root}] contains no images: images end in {_ENDINGS}")
    # Hidden files that are not pictures (.DS_Store, .directory) do not need a note.
    hidden = [path for path in hidden if _is_image(path) or path.is_dir()]
    left = [[path.relative_to(root).as_posix() for path in paths] for paths in (hidden, other)]
    notes = note_of_left_out(str(root), *left)
    if size is None:
        size = load_image(files[0], None, channels).shape[:2]
    return ImageSet(_decode(files, size, channels), np.array(labels, np.int64), names, tuple(notes))


_ENDINGS = ", ".join(sorted(SUFFIXES))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _has_images(folder: Path) -> bool:
    return any(_is_image(Path(entry)) and not is_hidden(entry.name) for entry in entries(folder))


def _folders(root: Path) -> list[Path]:
    return [Path(entry) for entry in entries(root) if not is_hidden(entry.name) and Path(entry).is_dir()]


def composed(name: str) -> str:
    """The name of a class with composed accents (NFC). macOS spells the names of folders in another form."""
    return unicodedata.normalize("NFC", name)


def _class_folders(root: Path) -> dict[str, Path]:
    """The folder of each class, at least one."""
    found: dict[str, Path] = {}
    for folder in _folders(root):
        name = composed(folder.name)
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f"[{root}] the name of the folder {os.fsencode(name)!r} is not UTF-8: rename it") from None
        if name in found:
            raise DataError(f"[{root}] has two folders named {name!r}, spelled in two ways: make them one")
        found[name] = folder
    if not found and _has_images(root):
        raise DataError(
            f"[{root}] contains images but no folders: give a folder with one folder of images for each class"
        )
    if not found:
        raise DataError(
            f"[{root}] has no folders: put the images of each class into a folder of the class's name, or IDX files under their published names"
        )
    return found


def _some(folders: Sequence[Path]) -> str:
    names = [folder.name for folder in folders]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _decode(files: Sequence[Path], size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Decode with one thread per core (Pillow releases the GIL). The pixels of many files are kept in the cache."""
    cache = _cache_file(files, size, channels) if len(files) >= CACHE_FROM_FILES else None
    shape = (len(files), *size, channels)
    with contextlib.suppress(OSError):  # there is no cache, or it cannot be read
        if cache is not None and cache.stat().st_size == int(np.prod(shape)):
            return np.memmap(cache, np.uint8, "r", shape=shape)
    pixels = np.empty(shape, np.uint8)
    broken: list[DataError] = []

    def decode(index: int) -> None:
        try:
            pixels[index] = decode_image(files[index], size, channels)
        except DataError as error:
            broken.append(error)

    with quiet_pillow(), ThreadPoolExecutor(os.cpu_count()) as pool:
        for count, _ in enumerate(pool.map(decode, range(len(files)), chunksize=64), 1):
            report("read", count, len(files), "images")
    if broken:
        more = f" ({len(broken)} files in all do not)" if len(broken) > 1 else ""
        raise DataError(f"{min(broken, key=str)}; remove it or replace it{more}")
    if cache is not None:
        # Without space or permission the images are still in memory, and only the next start is slower.
        with contextlib.suppress(OSError):
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(cache, pixels.data)
    return pixels


def _cache_file(files: Sequence[Path], size: tuple[int, int], channels: int) -> Path | None:
    """The cache file of these files' pixels, named after everything that affects them. None if a file or the home folder is missing."""
    key = hashlib.sha256(f"{_CACHE_FORMAT} {size} {channels}".encode())
    try:
        for file in files:
            status = file.stat()
            key.update(os.fsencode(file.resolve()) + f" {status.st_size} {status.st_mtime_ns}\n".encode())
        return cache_folder() / f"images-{key.hexdigest()[:32]}.u8"
    except OSError:
        return None
