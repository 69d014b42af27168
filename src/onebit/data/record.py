"""A fingerprint of the training data. Run folders and packed files keep it, so that both are measured on held-out data only."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onebit.data.load import files_read
from onebit.data.named import HUB_SETS, folder_of
from onebit.data.text import WIKITEXT
from onebit.errors import FormatError
from onebit.images import SUFFIXES
from onebit.paths import expand
from onebit.walk import walk

# Increase it when the same files would be divided in another way. What was held out before is then no longer known.
_DIVISION = 1
# The fingerprint of a text of any size reads its length, its beginning and its end.
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class DataRecord:
    """The training data of a network, and the part that was held out.

    Args:
        data: the fingerprint of all the data.
        validation: the fingerprint of a separate validation text; None if a part of the data was held out.
        seed: the seed of the division.
        share: the share of the data that was held out, above 0 and below 1. It has no meaning with a separate validation text.
    """

    data: str
    validation: str | None
    seed: int
    share: float

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> DataRecord:
        """The record from the values of `to_json`. Raises FormatError if they do not describe one."""
        kinds: dict[str, Any] = {"data": str, "validation": str | None, "seed": int, "share": float}
        fits = isinstance(values, dict) and all(type(values.get(key)) is not bool for key in kinds)
        if not fits or not all(isinstance(values.get(key), kind) for key, kind in kinds.items()):
            raise FormatError("[training] the record of the training's data is damaged: pack the run again")
        if not 0 < values["share"] < 1 or values["seed"] < 0:
            raise FormatError("[training] the record of the training's data is damaged: pack the run again")
        return cls(**{key: values.get(key) for key in kinds})


def fingerprint_images(data: str) -> str | None:
    """A fingerprint of the images of `data`, which changes when images are added, removed or renamed. None if there are none.

    It depends on the names and sizes of files below the folder, so that the folder may be moved or copied. In a folder with train/ and test/, or
    with IDX files, only those count, because it may also contain runs.

    Raises:
        DataError: the folder cannot be read.
    """
    path = folder_of(data)
    if path is None:
        return f"name {data}" if data in ("digits", *HUB_SETS) else None
    folders, files = files_read(path)
    files += [file for folder in folders for file in walk(folder).files if file.suffix.lower() in SUFFIXES]
    return _of_files(path, files)


def fingerprint_text(source: str) -> str | None:
    """A fingerprint of a text, or of the texts in a folder. None if there are none. Hidden files do not count."""
    if source == "python":  # another version of Python has other texts
        return f"name {source} {platform.python_version()}"
    if source in WIKITEXT:
        return f"name {source}"
    path = expand(source)
    if path.is_dir():
        return _of_files(path, walk(path).files)
    return fingerprint_file(path)


def fingerprint_files(data: str, suffixes: Collection[str] = ()) -> str | None:
    """A fingerprint of a file, or of the files below a folder by their names and sizes. None if there are none.

    Args:
        data: the path.
        suffixes: of the files that count, in lower case; empty: all that are not hidden.
    """
    path = expand(data)
    if not path.is_dir():
        return fingerprint_file(path)
    return _of_files(path, (file for file in walk(path).files if not suffixes or file.suffix.lower() in suffixes))


def fingerprint_file(path: Path) -> str | None:
    """A fingerprint of a file's length, beginning and end, independent of its path. None if there is no file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        key = hashlib.sha256(f"{_DIVISION} {size}\n".encode())
        key.update(file.read(_READ_BYTES))
        file.seek(max(0, size - _READ_BYTES))
        key.update(file.read(_READ_BYTES))
    return f"file {key.hexdigest()[:32]}"


def _of_files(root: Path, files: Iterable[Path]) -> str:
    found = []
    for path in files:
        with contextlib.suppress(OSError):  # a broken link
            # macOS spells accents in another form than the system that a folder is copied to.
            name = unicodedata.normalize("NFC", path.relative_to(root).as_posix())
            found.append(f"{name}\0{path.stat().st_size}")
    key = hashlib.sha256(f"{_DIVISION}\n".encode())
    for line in sorted(found):
        key.update(line.encode(errors="surrogateescape") + b"\n")
    return f"folder {key.hexdigest()[:32]}"
