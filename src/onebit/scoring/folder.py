"""The output folder: one Parquet file per part, lists of the records that failed, and a manifest that lets a later run continue.

    DIR/part-00000.parquet, ...            scores, in the order of the records; `read_parquet(DIR)` reads them all
    DIR/_errors/part-00003.parquet, ...    id, path and reason of each record that failed
    DIR/_manifest.json                     the model, the options and the parts

A part is done when its scores exist: its errors are written first, and each file is written atomically.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from onebit.errors import DataError, OnebitError
from onebit.fileformat import write_atomically
from onebit.scoring.parts import Part
from onebit.scoring.worker import Scored

MANIFEST, ERRORS = "_manifest.json", "_errors"
_FORMAT = 1


@dataclass(frozen=True)
class ScoreFolder:
    """A folder of scores, which `open_folder` creates or continues.

    Args:
        path: the folder.
        parts: all parts.
        done: the indices of the parts that were scored before.
    """

    path: Path
    parts: Sequence[Part]
    done: frozenset[int]

    @property
    def missing(self) -> list[int]:
        """The indices of the parts that still need scores."""
        return [index for index in range(len(self.parts)) if index not in self.done]

    @property
    def errors(self) -> Path:
        """The folder that lists the records that failed."""
        return self.path / ERRORS

    def write(self, index: int, scored: Scored) -> None:
        """Write a part, its errors first. Raises OSError if it cannot be written."""
        if scored.scored + scored.failed != self.parts[index].records:
            found = scored.scored + scored.failed
            raise OnebitError(f"[score] part {index} returned {found} of {self.parts[index].records} records")
        errors = self.errors / _name(index)
        if scored.errors:
            self.errors.mkdir(exist_ok=True)
            write_atomically(errors, scored.errors)
        else:
            errors.unlink(missing_ok=True)
        write_atomically(self.path / _name(index), scored.scores)

    def counts(self) -> tuple[int, int]:
        """The numbers of scored and of failed records, in all parts that are done."""
        scored = failed = 0
        for index, part in enumerate(self.parts):
            file = self.path / _name(index)
            if file.is_file():
                rows = _rows(file)
                scored, failed = scored + rows, failed + part.records - rows
        return scored, failed

    def first_error(self) -> str:
        """The id of the first record that failed, with the reason."""
        file = min(self.errors.glob("part-*.parquet"))
        row = pq.read_table(file).slice(0, 1).to_pylist()[0]
        return f"{row['id']}: {row['reason']}"


@contextlib.contextmanager
def open_folder(
    path: Path, model: dict[str, Any], parts: Sequence[Part], overwrite: bool = False
) -> Iterator[ScoreFolder]:
    """Create a folder of scores, or continue one.

    Args:
        path: the folder; it is created if it is missing.
        model: the model's digest and the options, as plain JSON values. They must be the same for all scores in the folder.
        parts: the parts of the data.
        overwrite: remove existing scores and start again.

    Raises:
        DataError: the folder contains other files, or scores of another model, other options or other data, or another run is writing to it.
        OSError: the folder cannot be written.
    """
    if path.exists() and not path.is_dir():
        raise DataError(f"[{path}] is a file: give a folder with --out")
    path.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        manifest = _read_manifest(path)
        if manifest is not None and overwrite:
            _remove(path)
            manifest = None
        entries = [{"file": _name(i), "records": part.records, "data": part.digest} for i, part in enumerate(parts)]
        wanted = {"format": _FORMAT, **model, "parts": entries}
        if manifest is None:
            write_atomically(path / MANIFEST, _manifest_text(wanted))
        else:
            _compare(path, manifest, wanted)
        for left in [*path.glob(".*.part"), *path.glob(f"{ERRORS}/.*.part")]:
            left.unlink()  # left by a run that was killed
        done = frozenset(index for index in range(len(parts)) if (path / _name(index)).is_file())
        yield ScoreFolder(path, parts, done)


def _name(index: int) -> str:
    return f"part-{index:05d}.parquet"


def _rows(file: Path) -> int:
    try:
        return int(pq.read_metadata(file).num_rows)
    except (OSError, pa.ArrowException):
        raise DataError(f"[{file}] is damaged: remove it and run again to score that part again") from None


def _read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest of a folder, or None if the folder is new. Raises DataError if it contains other files."""
    file = path / MANIFEST
    if not file.exists():
        if any(not name.name.startswith(f".{MANIFEST}.") for name in path.iterdir()):
            raise DataError(f"[{path}] contains other files and no scores: give a new or empty folder with --out")
        return None
    try:
        manifest = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("parts"), list):
        raise DataError(f"[{file}] is damaged: remove the folder, or give another one with --out")
    return manifest


def _compare(path: Path, manifest: dict[str, Any], wanted: dict[str, Any]) -> None:
    # In the form that JSON gives back: tuples become lists.
    wanted = json.loads(json.dumps(wanted))
    ending = "use --overwrite to start again, or give another folder with --out"
    for key, value in wanted.items():
        if manifest.get(key) == value:
            continue
        if key == "parts":
            raise DataError(f"[{path}] was started with other data, or the data have changed: {ending}")
        if key == "model":
            raise DataError(f"[{path}] was started with another model: {ending}")
        before = manifest.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            key = next(name for name in value if value[name] != before.get(name))
            before, value = before.get(key), value[key]
        raise DataError(f"[{path}] was started with {key}={before!r}, not {value!r}: {ending}")


def _manifest_text(manifest: dict[str, Any]) -> bytes:
    # One line per part, so that it is readable.
    parts = ",\n    ".join(json.dumps(entry) for entry in manifest["parts"])
    rest = json.dumps({key: value for key, value in manifest.items() if key != "parts"}, indent=2)
    return f'{rest[:-2]},\n  "parts": [\n    {parts}\n  ]\n}}\n'.encode()


def _remove(path: Path) -> None:
    """Remove scores. The manifest goes last, so that the folder is still recognised if this run is killed."""
    for file in path.glob("part-*.parquet"):
        file.unlink()
    if (path / ERRORS).is_dir():
        shutil.rmtree(path / ERRORS)
    (path / MANIFEST).unlink()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep a second run out of the folder while this one runs."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"[{path}] another run is writing to it: wait until it ends, or give another folder"
            ) from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(descriptor)
