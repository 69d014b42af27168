"""Divide the records to score into parts. The same data give the same parts, and each part becomes one output file."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from onebit.errors import DataError
from onebit.images import SUFFIXES
from onebit.scoring.columns import Columns, find_columns, open_parquet
from onebit.walk import note_of_left_out, walk

Kind = Literal["image", "text"]
# The default number of parts: many enough to keep workers busy and to lose little when a run is killed, and few enough to avoid many files.
_PARTS = 64
_LEAST_RECORDS, _MOST_RECORDS = 16, 1024
# Each part of a row group decodes it from its beginning, so it is cut into few parts.
_PARTS_OF_A_ROW_GROUP = 16
_READ_BYTES = 1 << 24


@dataclass(frozen=True)
class Part:
    """Records that are read, scored and written together.

    Args:
        kind: "files" (a record each), "lines" (of a text file), "rows" (of a Parquet file), or "unreadable" (a Parquet file that does not open).
        records: the number of records.
        source: their place, as plain JSON values.
        digest: a value that changes with the names, sizes or times of the files.
    """

    kind: Literal["files", "lines", "rows", "unreadable"]
    records: int
    source: dict[str, Any]
    digest: str

    def to_json(self) -> str:
        return json.dumps([self.kind, self.records, self.source, self.digest])

    @classmethod
    def from_json(cls, text: str) -> Part:
        return cls(*json.loads(text))


@dataclass(frozen=True)
class Plan:
    """All parts in the order of the records, the columns to read (Parquet only), and notes for the user, one sentence each."""

    parts: list[Part]
    columns: Columns | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def records(self) -> int:
        return sum(part.records for part in self.parts)


@dataclass(frozen=True)
class _File:
    name: str
    path: Path
    mark: tuple[int, int]  # size and time of modification: a file with the same values counts as unchanged


def plan(
    kind: Kind,
    data: Sequence[str | Path],
    lines: bool = False,
    column: str | None = None,
    keep: Sequence[str] = (),
    part_records: int | None = None,
) -> Plan:
    """Find the records and divide them into parts.

    Args:
        kind: the input of the model.
        data: folders and files. If there are Parquet files among them, only those are read.
        lines: each line of a text file is a record, instead of each file.
        column, keep: the column of Parquet files to score, and the columns to copy to the output.
        part_records: the most records per part (row groups of millions take more). The default depends on the number of records.

    Raises:
        DataError: the data do not exist, have no records, or their columns do not fit.
    """
    files, explicit, hidden = _find([Path(path) for path in data])
    shown = ", ".join(str(path) for path in data)
    tables = [file for file in files if file.path.suffix.lower() == ".parquet"]
    if not tables and (column is not None or keep):
        raise DataError("[score] --column and --keep apply to Parquet files, and there are none: leave them out")
    if lines and (tables or kind == "image"):
        raise DataError("[score] --lines applies to text files: leave it out")
    if tables:
        tables = [file for file in tables if not any(part.startswith("_") for part in Path(file.name).parts[:-1])]
        chosen, what = tables, "Parquet files"
        odd = [file for file in files if file.name in explicit and file.path.suffix.lower() != ".parquet"]
        if odd:
            raise DataError(f"[{odd[0].path}] is given together with Parquet files: score one kind of data at a time")
    elif kind == "image":
        chosen = [file for file in files if file.name in explicit or file.path.suffix.lower() in SUFFIXES]
        what = "images"
    else:
        chosen, what = files, "text files"
    if not chosen:
        ending = f": images end in {', '.join(sorted(SUFFIXES))}" if kind == "image" else ""
        raise DataError(f"[{shown}] contains no {what}{ending}")
    # A hidden file that would not be read anyway (.DS_Store among images) does not need a note.
    endings = {".parquet"} if tables else SUFFIXES if kind == "image" else None
    lost = [name for name, path in hidden if path.is_dir() or endings is None or path.suffix.lower() in endings]
    kept = {file.name for file in chosen}
    notes = note_of_left_out(shown, lost, [file.name for file in files if file.name not in kept])
    if tables:
        columns, parts = _rows(chosen, kind, column, keep, part_records)
    else:
        columns, parts = None, _lines(chosen, part_records) if lines else _files(chosen, part_records)
    if not parts:
        raise DataError(f"[{shown}] has no records: its {what} are empty")
    return Plan(parts, columns, notes)


def _find(data: Sequence[Path]) -> tuple[list[_File], set[str], list[tuple[str, Path]]]:
    """All files, each once and sorted within each folder, the names of files that the user named directly, and the hidden files."""
    found: dict[str, _File] = {}
    explicit: set[str] = set()
    hidden: dict[Path, str] = {}
    for root in data:
        if root.is_dir():
            # The names of records in a single folder do not change when the folder is moved.
            prefix = "" if len(data) == 1 else f"{root.as_posix()}/"
            tree = walk(root)
            members = [(prefix + path.relative_to(root).as_posix(), path) for path in tree.files]
            for path in tree.hidden:
                hidden.setdefault(path.absolute(), prefix + path.relative_to(root).as_posix())
        elif root.exists():
            explicit.add(name := root.name if len(data) == 1 else root.as_posix())
            members = [(name, root)]
        else:
            raise DataError(f"[{root}] no such file or folder")
        for name, path in members:
            absolute = path.absolute()
            try:
                status = path.stat()
                if not stat.S_ISREG(status.st_mode):
                    continue  # opening a pipe would block
                mark = (status.st_size, status.st_mtime_ns)
            except OSError:
                mark = (-1, -1)  # a broken link is a record that fails
            found.setdefault(str(absolute), _File(name, absolute, mark))
    return list(found.values()), explicit, [(name, path) for path, name in hidden.items()]


def _part(
    kind: Literal["files", "lines", "rows", "unreadable"], records: int, source: dict[str, Any], mark: Any
) -> Part:
    # The digest does not depend on paths, so that moved data are the same data.
    named = {key: value for key, value in source.items() if key not in ("path", "paths", "reason")}
    return Part(kind, records, source, hashlib.sha256(json.dumps([kind, named, mark]).encode()).hexdigest()[:16])


def _size(total: int, part_records: int | None) -> int:
    return part_records or min(_MOST_RECORDS, max(_LEAST_RECORDS, -(-total // _PARTS)))


def _files(files: Sequence[_File], part_records: int | None) -> list[Part]:
    size = _size(len(files), part_records)
    parts = []
    for first in range(0, len(files), size):
        some = files[first : first + size]
        source = {"names": [file.name for file in some], "paths": [str(file.path) for file in some]}
        parts.append(_part("files", len(some), source, [file.mark for file in some]))
    return parts


def _lines(files: Sequence[_File], part_records: int | None) -> list[Part]:
    unreadable: dict[str, str] = {}
    counts = []
    for file in files:
        try:
            counts.append(sum(1 for _ in _line_ends(file.path, 1)))
        except OSError as error:
            unreadable[file.name] = f"[{file.path}] cannot be read: {error.strerror}"
            counts.append(1)
    size = _size(sum(counts), part_records)
    parts = []
    for file, count in zip(files, counts, strict=True):
        source = {"name": file.name, "path": str(file.path)}
        if file.name in unreadable:
            parts.append(_part("unreadable", 1, {**source, "reason": unreadable[file.name]}, file.mark))
            continue
        start, first = 0, 0
        for end in _line_ends(file.path, size):
            number = min(size, count - first)
            parts.append(_part("lines", number, {**source, "start": start, "end": end, "first": first}, file.mark))
            start, first = end, first + number
    return parts


def _line_ends(path: Path, every: int) -> Iterator[int]:
    """The end of each `every`-th line, in bytes, and the end of the file."""
    lines, offset, last = 0, 0, 0
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
            for end in ends[every - 1 - lines % every :: every].tolist():
                yield (last := offset + end)
            lines += len(ends)
            offset += len(data)
    if offset > last:
        yield offset


def _rows(
    files: Sequence[_File], kind: Kind, column: str | None, keep: Sequence[str], part_records: int | None
) -> tuple[Columns | None, list[Part]]:
    groups: dict[str, list[int]] = {}
    problems: dict[str, str] = {}
    columns: Columns | None = None
    for file in files:
        try:
            with open_parquet(file.path) as table:
                schema, metadata = table.schema_arrow, table.metadata
        except DataError as error:
            problems[file.name] = str(error)
            continue
        if metadata.num_rows:  # without rows a column may have no type
            columns = find_columns(schema, file.path, kind, column, keep, columns)
        groups[file.name] = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    if columns is None and problems:
        raise DataError(next(iter(problems.values())))
    size = _size(sum(sum(rows) for rows in groups.values()), part_records)
    parts = []
    for file in files:
        source = {"name": file.name, "path": str(file.path)}
        if file.name in problems:
            parts.append(_part("unreadable", 1, {**source, "reason": problems[file.name]}, file.mark))
            continue
        number = 0
        for chosen, skip, rows in _ranges(groups[file.name], size):
            where = {"groups": chosen, "skip": skip, "first": number}
            parts.append(_part("rows", rows, {**source, **where}, file.mark))
            number += rows
    return columns, parts


def _ranges(groups: Sequence[int], size: int) -> Iterator[tuple[list[int], int, int]]:
    """(row groups, rows to skip, rows to take): small row groups are joined, large ones are cut."""
    waiting: list[int] = []
    rows = 0
    for index, count in enumerate(groups):
        if waiting and rows + count > size:
            yield waiting, 0, rows
            waiting, rows = [], 0
        if count > size:
            step = max(size, -(-count // _PARTS_OF_A_ROW_GROUP))
            for skip in range(0, count, step):
                yield [index], skip, min(step, count - skip)
        elif count:
            waiting.append(index)
            rows += count
    if waiting:
        yield waiting, 0, rows
