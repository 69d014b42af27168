"""Images in folders, one folder a class: ROOT/CLASS/*.jpg, or ROOT/train/CLASS/ and ROOT/test/CLASS/."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onebit.data.images import ImageSet
from onebit.errors import DataError
from onebit.fileformat import write_atomically
from onebit.images import SUFFIXES, load_image

# Decoding fewer files than this is quicker than looking for a cache.
CACHE_FROM_FILES = 2000


def class_folders(root: Path) -> tuple[str, ...]:
    """The names of the classes under `root`: its folders, sorted, hidden ones left out.

    Raises:
        DataError: there are fewer than two.
    """
    names = tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")))
    if not names:
        raise DataError(f"[{root}] has no folders: put the images of each class into a folder of the class's name")
    if len(names) == 1:
        raise DataError(f"[{root}] has one class only, {names[0]!r}: a classifier needs at least two")
    return names


def has_split(root: Path) -> bool:
    """Whether `root` holds train/ (and perhaps test/) rather than classes."""
    return (root / "train").is_dir() and not any(p.suffix.lower() in SUFFIXES for p in (root / "train").iterdir())


def load_folder(
    root: Path, size: tuple[int, int] | None, channels: int, classes: Sequence[str] | None = None
) -> ImageSet:
    """Decode every image under `root`/CLASS/.

    Args:
        root: the folder that holds one folder for each class.
        size: (height, width), or None for the size of the first image.
        channels: 1 or 3.
        classes: the names to expect; default those that are there.

    Raises:
        DataError: no class, one class only, an empty class, or images that do not decode (the first is named, all are counted).
    """
    found = class_folders(root)
    if classes is not None and set(found) - set(classes):
        unknown = ", ".join(sorted(set(found) - set(classes)))
        raise DataError(f"[{root}] has classes that were not trained: {unknown}; allowed: {', '.join(classes)}")
    names = tuple(classes) if classes is not None else found
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        members = (
            sorted(p for p in (root / name).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if name in found
            else []
        )
        if not members and classes is None:
            raise DataError(
                f"[{root / name}] holds no image: fill it or remove it; images end in {', '.join(sorted(SUFFIXES))}"
            )
        files += members
        labels += [label] * len(members)
    if not files:
        raise DataError(f"[{root}] holds no image")
    if size is None:
        size = load_image(files[0], None, channels).shape[:2]
    return ImageSet(_decode(files, size, channels), np.array(labels, np.int64), names)


def _decode(files: Sequence[Path], size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Decode with one thread a core (Pillow releases the lock); many files are kept decoded in the user's cache."""
    cache = _cache_file(files, size, channels) if len(files) >= CACHE_FROM_FILES else None
    shape = (len(files), *size, channels)
    if cache is not None and cache.exists() and cache.stat().st_size == int(np.prod(shape)):
        return np.memmap(cache, np.uint8, "r", shape=shape)
    pixels = np.empty(shape, np.uint8)
    broken: list[DataError] = []

    def decode(index: int) -> None:
        try:
            pixels[index] = load_image(files[index], size, channels)
        except DataError as error:
            broken.append(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode, range(len(files)), chunksize=64))
    if broken:
        more = f" ({len(broken)} files in all do not)" if len(broken) > 1 else ""
        raise DataError(f"{min(broken, key=str)}; remove it or replace it{more}")
    if cache is not None:
        # Without room or permission the images are in memory all the same; only the next start is slower.
        with contextlib.suppress(OSError):
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(cache, pixels.data)
    return pixels


def _cache_file(files: Sequence[Path], size: tuple[int, int], channels: int) -> Path:
    """Where these files' pixels are kept: named by everything that could change them."""
    key = hashlib.sha256(f"{size} {channels}".encode())
    for file in files:
        status = file.stat()
        key.update(f"{file.resolve()} {status.st_size} {status.st_mtime_ns}\n".encode())
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "onebit" / f"images-{key.hexdigest()[:32]}.u8"
