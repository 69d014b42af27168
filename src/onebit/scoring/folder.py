"""The folder that scores are written to: one Parquet file for each part, what failed beside them, and a manifest by which a run is taken up again.

    DIR/part-00000.parquet, ...            scores, in the order of the records; `read_parquet(DIR)` reads them all
    DIR/_errors/part-00003.parquet, ...    id, path and reason of what failed, for parts where something did
    DIR/_manifest.json                     the model, the options and the parts

A part is done when its scores are there: its errors are written before them, and each file whole or not at all.
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
    """A folder of scores, begun or taken up by `open_folder`.

    Args:
        path: of the folder.
        parts: all of them.
        done: the numbers of those that were scored before.
    """

    path: Path
    parts: Sequence[Part]
    done: frozenset[int]

    @property
    def missing(self) -> list[int]:
        """The numbers of the parts that are still to be scored."""
        return [index for index in range(len(self.parts)) if index not in self.done]

    @property
    def errors(self) -> Path:
        """Where the records that failed are listed."""
        return self.path / ERRORS

    def write(self, index: int, scored: Scored) -> None:
        """Write a part, its errors first; raises OSError where it cannot be written."""
        if scored.scored + scored.failed != self.parts[index].records:
            found = scored.scored + scored.failed
            raise OnebitError(f"[score] part {index} came back with {found} of {self.parts[index].records} records")
        errors = self.errors / _name(index)
        if scored.errors:
            self.errors.mkdir(exist_ok=True)
            write_atomically(errors, scored.errors)
        else:
            errors.unlink(missing_ok=True)
        write_atomically(self.path / _name(index), scored.scores)

    def counts(self) -> tuple[int, int]:
        """How many records were scored and how many failed, in all parts that are done."""
        scored = failed = 0
        for index, part in enumerate(self.parts):
            file = self.path / _name(index)
            if file.is_file():
                rows = _rows(file)
                scored, failed = scored + rows, failed + part.records - rows
        return scored, failed

    def first_error(self) -> str:
        """The id and reason of the first record that failed."""
        file = min(self.errors.glob("part-*.parquet"))
        row = pq.read_table(file).slice(0, 1).to_pylist()[0]
        return f"{row['id']}: {row['reason']}"


@contextlib.contextmanager
def open_folder(
    path: Path, model: dict[str, Any], parts: Sequence[Part], overwrite: bool = False
) -> Iterator[ScoreFolder]:
    """Begin a folder of scores, or take one up.

    Args:
        path: made where it is missing.
        model: what must be the same for scores to go together: the model's digest and the options, as plain JSON values.
        parts: of the data.
        overwrite: removes the scores that are there and begins anew.

    Raises:
        DataError: something else is in the folder, or scores of another model, other options or other data; or another run is writing to it.
        OSError: it cannot be written.
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
            left.unlink()  # begun by a run that was killed
        done = frozenset(index for index in range(len(parts)) if (path / _name(index)).is_file())
        yield ScoreFolder(path, parts, done)


def _name(index: int) -> str:
    return f"part-{index:05d}.parquet"


def _rows(file: Path) -> int:
    try:
        return int(pq.read_metadata(file).num_rows)
    except (OSError, pa.ArrowException):
        raise DataError(f"[{file}] is damaged: remove it and run again, which scores that part once more") from None


def _read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest of a folder, None where nothing has begun; raises DataError where something else is there."""
    file = path / MANIFEST
    if not file.exists():
        if any(not name.name.startswith(f".{MANIFEST}.") for name in path.iterdir()):
            raise DataError(f"[{path}] holds other files and no scores: give a new or empty folder with --out")
        return None
    try:
        manifest = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("parts"), list):
        raise DataError(f"[{file}] is damaged: remove the folder, or give another one with --out")
    return manifest


def _compare(path: Path, manifest: dict[str, Any], wanted: dict[str, Any]) -> None:
    # As JSON would give it back: a tuple is a list there.
    wanted = json.loads(json.dumps(wanted))
    ending = "use --overwrite to begin anew, or give another folder with --out"
    for key, value in wanted.items():
        if manifest.get(key) == value:
            continue
        if key == "parts":
            raise DataError(f"[{path}] was begun with other data, or they have changed since: {ending}")
        if key == "model":
            raise DataError(f"[{path}] was begun with another model: {ending}")
        before = manifest.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            key = next(name for name in value if value[name] != before.get(name))
            before, value = before.get(key), value[key]
        raise DataError(f"[{path}] was begun with {key}={before!r}, not {value!r}: {ending}")


def _manifest_text(manifest: dict[str, Any]) -> bytes:
    # A line for each part, so that a person can read it.
    parts = ",\n    ".join(json.dumps(entry) for entry in manifest["parts"])
    rest = json.dumps({key: value for key, value in manifest.items() if key != "parts"}, indent=2)
    return f'{rest[:-2]},\n  "parts": [\n    {parts}\n  ]\n}}\n'.encode()


def _remove(path: Path) -> None:
    """Remove scores; the manifest goes last, so that a run killed meanwhile still finds the folder to be one of scores."""
    for file in path.glob("part-*.parquet"):
        file.unlink()
    if (path / ERRORS).is_dir():
        shutil.rmtree(path / ERRORS)
    (path / MANIFEST).unlink()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps a second run out of the folder for as long as this one lives."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"[{path}] another run is writing to it: wait for its end, or give another folder"
            ) from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(descriptor)
