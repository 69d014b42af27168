"""Read the records of a part. A record that cannot be read is returned with the reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from onebit.errors import DataError
from onebit.scoring.columns import Columns, open_parquet
from onebit.scoring.parts import Part

# The number of records to read together, and to run together if they are images. It is small because images and texts may be large.
CHUNK_RECORDS = 32


@dataclass(frozen=True)
class Record:
    """One image or text.

    Args:
        id: its name in the output, unless its table has an `id`.
        path: the file that it comes from.
        content: encoded bytes, a text, or the file with the content.
        problem: the reason why there is no content.
    """

    id: str
    path: str
    content: bytes | str | Path | None = None
    problem: str = ""


@dataclass(frozen=True)
class Chunk:
    """Some records, and the columns to copy along with them (empty if a table could not be read)."""

    records: list[Record]
    carried: pa.RecordBatch | None = None


def read_part(part: Part, columns: Columns | None = None) -> Iterator[Chunk]:
    """The records of a part in chunks, in order, and exactly as many as the part says.

    Args:
        part: the part.
        columns: the columns of a Parquet file.
    """
    source = part.source
    if part.kind == "files":
        pairs = zip(source["names"], source["paths"], strict=True)
        yield from _chunks(Record(printable(name), printable(path), Path(path)) for name, path in pairs)
    elif part.kind == "lines":
        yield from _chunks(_read_lines(part))
    elif part.kind == "rows":
        assert columns is not None
        yield from _read_rows(part, columns)
    else:
        yield Chunk([Record(printable(source["name"]), printable(source["path"]), problem=source["reason"])])


def printable(path: str) -> str:
    """A path as text that any file can hold: bytes that are not UTF-8 become \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _chunks(records: Iterator[Record]) -> Iterator[Chunk]:
    chunk: list[Record] = []
    for record in records:
        chunk.append(record)
        if len(chunk) == CHUNK_RECORDS:
            yield Chunk(chunk)
            chunk = []
    if chunk:
        yield Chunk(chunk)


def _read_lines(part: Part) -> Iterator[Record]:
    source = part.source
    name, path = printable(source["name"]), printable(source["path"])
    numbers = iter(range(source["first"] + 1, source["first"] + part.records + 1))
    left = source["end"] - source["start"]
    problem = f"[{path}] became shorter while being read"
    try:
        with Path(source["path"]).open("rb") as file:
            file.seek(source["start"])
            while left > 0 and (line := file.readline(left)):
                left -= len(line)
                yield Record(f"{name}:{next(numbers)}", path, line.rstrip(b"\r\n"))
    except OSError as error:
        problem = f"[{path}] cannot be read: {error.strerror}"
    for number in numbers:
        yield Record(f"{name}:{number}", path, problem=problem)


def _read_rows(part: Part, columns: Columns) -> Iterator[Chunk]:
    source = part.source
    name, path = printable(source["name"]), printable(source["path"])
    folder = Path(source["path"]).parent  # paths in a table are relative to its folder
    done = 0
    try:
        for batch in _batches(part, columns):
            values = batch.column(columns.content).to_pylist()
            first = source["first"] + done
            records = [_row(f"{name}:{first + i}", path, value, columns, folder) for i, value in enumerate(values)]
            yield Chunk(records, batch.select([column for column, _ in columns.carried]) if columns.carried else None)
            done += len(records)
        problem = f"[{path}] has fewer rows than it had"
    except (DataError, OSError, pa.ArrowException, UnicodeDecodeError) as error:
        # Records that were already returned stay. The rest of the part has no readable content.
        problem = str(error) if isinstance(error, DataError) else f"[{path}] is damaged ({str(error).splitlines()[0]})"
    rest = range(source["first"] + done, source["first"] + part.records)
    yield from _chunks(Record(f"{name}:{number}", path, problem=problem) for number in rest)


def _batches(part: Part, columns: Columns) -> Iterator[pa.RecordBatch]:
    """Only the part's rows, one chunk at a time."""
    skip, left = part.source["skip"], part.records
    with open_parquet(Path(part.source["path"])) as table:
        groups = table.iter_batches(CHUNK_RECORDS, row_groups=part.source["groups"], columns=columns.names)
        for batch in groups:
            wanted = batch.slice(min(skip, len(batch)))[:left]
            skip -= min(skip, len(batch))
            left -= len(wanted)
            if len(wanted):
                yield wanted
            if not left:
                return


def _row(id_: str, path: str, value: Any, columns: Columns, folder: Path) -> Record:
    if columns.type == "struct" and value is not None:
        path = value.get("path") or path
        value = value["bytes"] if value["bytes"] is not None or not value.get("path") else folder / value["path"]
    elif columns.type == "path" and value is not None:
        value = folder / value
        path = str(value)
    return Record(id_, path, value, "null: the table has no value here" if value is None else "")
