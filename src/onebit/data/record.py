"""What a network was trained on, by its fingerprint: kept with a run and in its packed file, so that either is measured on what it has not seen."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import unicodedata
from collections.abc import Iterable
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

# Raised when the same files would be divided otherwise: what was set aside of them before is then no longer known.
_DIVISION = 1
# Of a text of any size: its length, its beginning and its end.
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class DataRecord:
    """What a network was trained on, and what was set aside to test it on.

    Args:
        data: the fingerprint of the whole.
        validation: of the other text that a language model was validated on; None where a part of the data was set aside.
        seed: of the division.
        share: of the data that was set aside, above 0 and below 1; with another text to validate on it says nothing.
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
        """The record from the values of `to_json`; raises FormatError where they do not describe one."""
        kinds: dict[str, Any] = {"data": str, "validation": str | None, "seed": int, "share": float}
        fits = isinstance(values, dict) and all(type(values.get(key)) is not bool for key in kinds)
        if not fits or not all(isinstance(values.get(key), kind) for key, kind in kinds.items()):
            raise FormatError("[training] the record of the training's data is damaged: pack the run again")
        if not 0 < values["share"] < 1 or values["seed"] < 0:
            raise FormatError("[training] the record of the training's data is damaged: pack the run again")
        return cls(**{key: values.get(key) for key in kinds})


def fingerprint_images(data: str) -> str | None:
    """What changes when images are added to, removed from or renamed in what is read of what `data` names; None where it is not there.

    Of files it knows names below the folder and sizes, so that a folder may be moved or copied. Of a folder with train/ and test/, or with IDX files,
    only those count: runs may lie in it.

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
    """What changes when a text or the texts of a folder change; None where there are none. Hidden files do not count."""
    if source == "python":  # another Python has other texts
        return f"name {source} {platform.python_version()}"
    if source in WIKITEXT:
        return f"name {source}"
    path = expand(source)
    if path.is_dir():
        return _of_files(path, walk(path).files)
    return fingerprint_file(path)


def fingerprint_file(path: Path) -> str | None:
    """Of a file's length, beginning and end, wherever it lies and whatever it is called; None where it is not there."""
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
        with contextlib.suppress(OSError):  # a link to nothing
            # macOS spells accents in another way than the place that a folder is copied to.
            name = unicodedata.normalize("NFC", path.relative_to(root).as_posix())
            found.append(f"{name}\0{path.stat().st_size}")
    key = hashlib.sha256(f"{_DIVISION}\n".encode())
    for line in sorted(found):
        key.update(line.encode(errors="surrogateescape") + b"\n")
    return f"folder {key.hexdigest()[:32]}"
