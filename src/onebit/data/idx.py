"""IDX files, the format of MNIST and Fashion-MNIST, with or without gzip."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onebit.data.images import ImageSet
from onebit.errors import DataError
from onebit.images import load_image
from onebit.walk import entries, is_hidden

Part = Literal["train", "test"]
Content = Literal["images", "labels"]
# The published names. The name of the data set may come before them.
FILES: dict[tuple[Part, Content], str] = {
    ("train", "images"): "train-images-idx3-ubyte",
    ("train", "labels"): "train-labels-idx1-ubyte",
    ("test", "images"): "t10k-images-idx3-ubyte",
    ("test", "labels"): "t10k-labels-idx1-ubyte",
}
# The words of a name, separated by dashes, dots and underscores.
_PARTS: dict[str, Part] = {"train": "train", "training": "train", "test": "test", "testing": "test", "t10k": "test"}
_CONTENTS: dict[str, Content] = {"images": "images", "image": "images", "labels": "labels", "label": "labels"}
FASHION_CLASSES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
UBYTE = 0x08


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes.

    Raises:
        DataError: the file is missing, not IDX, truncated, or has another element type.
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
            f"[{path}] claims {math.prod(shape)} bytes of data but has {len(content) - 4 - 4 * axes}: download it again"
        )
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


@dataclass(frozen=True)
class IdxFolder:
    """The IDX files of one data set in a folder.

    Args:
        root: the folder.
        name: the name of the set, which begins the names of its files; empty for MNIST and Fashion-MNIST.
        files: the files that exist.
    """

    root: Path
    name: str
    files: dict[tuple[Part, Content], Path]

    def path(self, part: Part, content: Content) -> Path:
        """One file. Raises DataError if it is missing."""
        if (part, content) not in self.files:
            wanted = (f"{self.name}-" if self.name else "") + FILES[part, content]
            raise DataError(
                f"[{self.root}] lacks {wanted}: looked for that name, also with .gz or .idx at its end, a dot for -idx, or test for t10k"
            )
        return self.files[part, content]


def find_idx(root: Path) -> IdxFolder | None:
    """The IDX files of a folder, with the published names or equivalent ones. None if there are none.

    A file is recognised by the words of its name: train, test or t10k; images or labels; and idx, idx1, idx3 or ubyte. The words before them
    are the name of the set (emnist-letters-train-images-idx3-ubyte). A file may be gzipped. The plain file is preferred if both exist.

    Raises:
        DataError: there are several sets, two files for one part, or IDX files with unclear names.
    """
    visible = [Path(entry) for entry in entries(root) if not is_hidden(entry.name)]
    sets: dict[str, dict[tuple[Part, Content], dict[str, Path]]] = {}
    unknown = []
    for name in (path.name for path in visible if path.is_file()):
        words = re.split(r"[-_.]", name.lower().removesuffix(".gz"))
        if not any(re.fullmatch("idx[0-9]?|ubyte", word) for word in words):
            continue
        parts = [i for i, word in enumerate(words) if word in _PARTS]
        contents = [i for i, word in enumerate(words) if word in _CONTENTS]
        if len(parts) != 1 or len(contents) != 1:
            unknown.append(name)
            continue
        key = _PARTS[words[parts[0]]], _CONTENTS[words[contents[0]]]
        # Names that differ only in separators or in .gz are the same file in several forms. The first is taken.
        forms = sets.setdefault("-".join(words[: min(*parts, *contents)]), {}).setdefault(key, {})
        known = forms.get(form := " ".join(words))
        if known is None or (known.suffix == ".gz" and not name.endswith(".gz")):
            forms[form] = root / name
    if len(sets) > 1:
        found = ", ".join(repr(name) for name in sets)
        raise DataError(f"[{root}] holds IDX files of several sets ({found}): put each into a folder of its own")
    for name, files in sets.items():
        for forms in files.values():
            if len(forms) > 1:
                raise DataError(f"[{root}] {' and '.join(p.name for p in forms.values())} mean the same part: keep one")
        return IdxFolder(root, name, {key: next(iter(forms.values())) for key, forms in files.items()})
    if unknown and not any(path.is_dir() for path in visible):
        raise DataError(f"[{root}] {unknown[0]} does not say what it contains: expected {', '.join(FILES.values())}")
    return None


def load_idx(
    folder: IdxFolder,
    part: Part,
    size: tuple[int, int] | None,
    channels: int,
    classes: tuple[str, ...] | None = None,
) -> ImageSet:
    """The "train" or "test" part of a folder of IDX files.

    Classes are the numbers of the labels, the names of Fashion-MNIST's classes, or the characters of EMNIST's NAME-mapping.txt. EMNIST stores
    its images transposed; they are turned upright.

    Raises:
        DataError: a file is missing or damaged, or the numbers of images and labels differ.
    """
    paths = folder.path(part, "images"), folder.path(part, "labels")
    pixels, labels = read_idx(paths[0]), read_idx(paths[1])
    if pixels.ndim != 3 or labels.ndim != 1 or len(pixels) != len(labels) or 0 in pixels.shape:
        raise DataError(
            f"[{folder.root}] images of shape {pixels.shape} do not fit labels of shape {labels.shape}: check the files"
        )
    notes = []
    if folder.name.startswith("emnist"):
        pixels = pixels.transpose(0, 2, 1)
        notes.append(f"{folder.root}: EMNIST stores its images on their side; they were turned upright")
    known = _class_names(folder)
    present = {value: known.get(value, str(value)) for value in np.unique(labels).tolist()}
    if classes is None:
        classes = FASHION_CLASSES if known.get(0) == FASHION_CLASSES[0] else tuple(dict.fromkeys(present.values()))
    indices = np.full(256, -1, np.int64)
    for value, name in present.items():
        if name not in classes:
            raise DataError(f"[{paths[1]}] has the label {name}, which is not one of the {len(classes)} classes")
        indices[value] = classes.index(name)
    pixels = pixels[..., None]
    if channels == 3 or (size is not None and pixels.shape[1:3] != tuple(size)):
        pixels = np.stack([load_image(image, size, channels) for image in pixels])
    return ImageSet(np.ascontiguousarray(pixels), indices[labels], classes, tuple(notes))


def _class_names(folder: IdxFolder) -> dict[int, str]:
    """The names of label values, if there are any."""
    root = folder.root.absolute()
    if any("fashion" in name.lower() for name in (folder.name, root.name, root.parent.name)):
        return dict(enumerate(FASHION_CLASSES))
    try:
        # A line of EMNIST's mapping: a label and the codes of its characters.
        lines = (folder.root / f"{folder.name}-mapping.txt").read_text("ascii").splitlines()
        return {int(value): chr(int(code)) for value, code, *_ in (line.split() for line in lines if line.strip())}
    except (OSError, ValueError):
        return {}
