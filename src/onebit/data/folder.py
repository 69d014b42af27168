"""Images in folders, one folder a class: ROOT/CLASS/*.jpg, or ROOT/train/CLASS/ and ROOT/test/CLASS/."""

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

# Decoding fewer files than this is quicker than looking for a cache.
CACHE_FROM_FILES = 2000
# Changes when the same file would give other pixels.
_CACHE_FORMAT = 2
_TRAIN, _TEST, _VALIDATION = {"train", "training"}, {"test", "testing"}, {"val", "valid", "validation"}


@dataclass(frozen=True)
class Parts:
    """The folders of a root that is divided into train/ and perhaps test/; and a sentence on what is not read."""

    train: Path
    test: Path | None
    notes: tuple[str, ...] = ()


def find_parts(root: Path) -> Parts | None:
    """train/ (or training/) and test/ (or testing/) of `root` in any case, None where its folders are classes.

    A folder of such a name with images in it is a class. So is one with no more than one folder in it, where others hold images too.

    Raises:
        DataError: train/ could be a class or a part.
    """
    folders = _folders(root)
    trains, tests = ([f for f in folders if f.name.lower() in names] for names in (_TRAIN, _TEST))
    if len(trains) != 1 or len(tests) > 1:
        return None
    train, test = trains[0], tests[0] if tests else None
    # Images that lie about beside the classes of both parts do not make classes of the parts.
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
                f"[{root}] {train.name}/ holds folders ({_some(inside)}), and {_some(classes)} beside it hold images: put the images of a class "
                f"named {train.name} into it directly, or move the other folders away from a training part"
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
    """Decode every image under `root`/CLASS/, in folders of any depth.

    Hidden files and folders are left out (see `onebit.walk`), as are files that do not end as images; a note of the set says so.

    Args:
        root: the folder that holds one folder for each class.
        size: (height, width), or None for the size of the first image.
        channels: 1 or 3.
        classes: the names to expect, of which some may be missing; default those that are there, each of which must hold images.
        least_classes: with fewer there is an error; not with `classes`.

    Raises:
        DataError: too few classes, an empty class, or images that do not decode (the first is named, all are counted).
    """
    found = _class_folders(root)
    if classes is None and len(found) < least_classes:
        only = next(iter(found.values()))
        if only.name.lower() in _TEST | _VALIDATION and _folders(only) and not _has_images(only):
            raise DataError(f"[{root}] holds {only.name}/ and no train/: put the images to train on into train/CLASS")
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
            raise DataError(f"[{folder}] holds no image: fill it or remove it; images end in {_ENDINGS}")
        hidden += tree.hidden
        other += [file for file in tree.files if not _is_image(file)]
        files += members
        labels += [label] * len(members)
    if not files:
        raise DataError(f"[{root}] holds no image: images end in {_ENDINGS}")
    # A hidden file that is no picture (.DS_Store, .directory) is nobody's loss.
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
    """The name of a class with its accents composed (NFC): macOS spells the same name of a folder in another way."""
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
        raise DataError(f"[{root}] holds images and no folders: give a folder with one folder of images for each class")
    if not found:
        raise DataError(
            f"[{root}] has no folders: put the images of each class into a folder of the class's name, or IDX files under their published names"
        )
    return found


def _some(folders: Sequence[Path]) -> str:
    names = [folder.name for folder in folders]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _decode(files: Sequence[Path], size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Decode with one thread a core (Pillow releases the lock); many files are kept decoded in the cache."""
    cache = _cache_file(files, size, channels) if len(files) >= CACHE_FROM_FILES else None
    shape = (len(files), *size, channels)
    with contextlib.suppress(OSError):  # no cache, or none that may be read
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
        # Without room or permission the images are in memory all the same; only the next start is slower.
        with contextlib.suppress(OSError):
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(cache, pixels.data)
    return pixels


def _cache_file(files: Sequence[Path], size: tuple[int, int], channels: int) -> Path | None:
    """Where these files' pixels are kept, named by everything that could change them; None where a file or the home is not there."""
    key = hashlib.sha256(f"{_CACHE_FORMAT} {size} {channels}".encode())
    try:
        for file in files:
            status = file.stat()
            key.update(os.fsencode(file.resolve()) + f" {status.st_size} {status.st_mtime_ns}\n".encode())
        return cache_folder() / f"images-{key.hexdigest()[:32]}.u8"
    except OSError:
        return None
