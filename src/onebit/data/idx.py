"""IDX files, the form in which MNIST and Fashion-MNIST are published, gzipped or not."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onebit.data.images import ImageSet
from onebit.errors import DataError
from onebit.images import load_image

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
FASHION_CLASSES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
UBYTE = 0x08


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes.

    Raises:
        DataError: the file is missing, not IDX, of another element type, or truncated.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"[{path}] cannot be read: {error}") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UBYTE or not 1 <= content[3] <= 4:
        raise DataError(f"[{path}] is not an IDX file of unsigned bytes")
    axes = content[3]
    if len(content) < 4 + 4 * axes:
        raise DataError(f"[{path}] is truncated: download it again")
    shape = struct.unpack(f">{axes}I", content[4 : 4 + 4 * axes])
    if len(content) != 4 + 4 * axes + math.prod(shape):
        raise DataError(
            f"[{path}] says {math.prod(shape)} bytes of data but has {len(content) - 4 - 4 * axes}: download it again"
        )
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def find_idx(root: Path, name: str) -> Path | None:
    """The file of the published name, gzipped or not, with the published dash or the dot that some copies have."""
    for variant in (name, name.replace("-idx", ".idx")):
        for suffix in ("", ".gz"):
            if (root / (variant + suffix)).is_file():
                return root / (variant + suffix)
    return None


def load_idx(
    root: Path, part: str, size: tuple[int, int] | None, channels: int, classes: tuple[str, ...] | None
) -> ImageSet:
    """The "train" or "test" part of a folder of IDX files.

    Raises:
        DataError: a file is missing or damaged, or images and labels differ in number.
    """
    paths = [find_idx(root, name) for name in FILES[part]]
    if paths[0] is None or paths[1] is None:
        missing = FILES[part][0 if paths[0] is None else 1]
        raise DataError(f"[{root}] lacks {missing} (or {missing}.gz)")
    pixels, labels = read_idx(paths[0]), read_idx(paths[1])
    if pixels.ndim != 3 or labels.ndim != 1 or len(pixels) != len(labels) or not len(pixels):
        raise DataError(
            f"[{root}] images of shape {pixels.shape} and labels of shape {labels.shape} do not fit together"
        )
    names = classes or tuple(str(i) for i in range(int(labels.max()) + 1))
    if int(labels.max()) >= len(names):
        raise DataError(f"[{paths[1]}] has the label {labels.max()}, but there are {len(names)} classes")
    pixels = pixels[..., None]
    if channels == 3 or (size is not None and pixels.shape[1:3] != tuple(size)):
        pixels = np.stack([load_image(image, size, channels) for image in pixels])
    return ImageSet(np.ascontiguousarray(pixels), labels.astype(np.int64), names)
