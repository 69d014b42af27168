"""CSV files of measurements to windows of numbers, the same way in training and in use."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onebit.errors import DataError, shown
from onebit.paths import expand
from onebit.printable import printable

DELIMITERS = ",;\t|"
# Columns of these names count rows or tell when one was measured: a network would learn them by heart.
CLOCKS = ("time", "timestamp", "date", "datetime", "index", "seconds", "millis", "")
LARGEST = float(np.finfo(np.float32).max)
# A file is read whole.
MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Recording:
    """The rows of one CSV file.

    Args:
        name: of the file, for messages.
        columns: the names of the columns of numbers, in their order.
        numbers: float32 (rows, columns).
        target: what the target column says of each row, a text each; None without one.
    """

    name: str
    columns: tuple[str, ...]
    numbers: NDArray[np.float32]
    target: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.numbers)


def read_csv(path: str | Path, columns: Sequence[str] | None = None, target: str | None = None) -> Recording:
    """Read a CSV file whose first line names its columns.

    Args:
        path: the file, in UTF-8; cells are divided by commas, semicolons, tabs or `|`, whichever the first line has most of.
        columns: the columns of numbers; None: all but the target and those that tell the time (`CLOCKS`).
        target: the column that says what each row is; None: there is none.

    Raises:
        DataError: the file cannot be read, lacks a column, or has a cell that is not a finite number. It names the file, the line and the column.

    Example:
        >>> read_csv("walk.csv", target="activity").columns
        ('x', 'y', 'z')
    """
    path = expand(path)
    where = printable(path)
    lines = _lines(path, where)
    number, header = next(lines, (0, []))
    if not header:
        raise DataError(f"[{where}] is empty: needs a line with the names of the columns, then rows of numbers")
    names = _checked_names(where, header)
    if columns is None:
        columns = [name for name in names if name != target and name.lower() not in CLOCKS]
    wanted = [*columns, *([] if target is None else [target])]
    missing = next((name for name in wanted if name not in names), None)
    if missing is not None:
        raise DataError(f"[{where}] has no column {shown(missing)}: it has {', '.join(map(shown, names))}")
    if not columns:
        raise DataError(f"[{where}] has no column of numbers to look at: name them with --columns")
    places = [names.index(name) for name in columns]
    targets: list[str] | None = None if target is None else []
    place = -1 if target is None else names.index(target)
    rows: list[list[float]] = []
    for number, cells in lines:
        if len(cells) != len(names):
            raise DataError(
                f"[{where}] line {number} has {len(cells)} cells: needs {len(names)}, as its first line has"
            )
        rows.append(_numbers(where, number, cells, places, names))
        if targets is not None:
            said = cells[place].strip()
            if not said:
                raise DataError(f"[{where}] line {number}, column {shown(target)}: is empty, and every row needs one")
            targets.append(said)
    if not rows:
        raise DataError(f"[{where}] has the names of columns but no row of numbers")
    numbers = np.array(rows, np.float32)
    return Recording(str(path), tuple(columns), numbers, None if targets is None else tuple(targets))


def _lines(path: Path, where: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of each line that is not blank, with its number."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"[{where}] has more than {MOST_BYTES >> 20:,} MB: divide it into several files")
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            delimiter = max(DELIMITERS, key=first.count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, cells
    except UnicodeDecodeError:
        raise DataError(f"[{where}] is not text in UTF-8: save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise DataError(f"[{where}] is not CSV: {error}") from None
    except OSError as error:
        raise DataError(f"[{where}] cannot be read: {error.strerror}") from None


def _checked_names(where: str, header: Sequence[str]) -> list[str]:
    names = [name.strip() for name in header]
    if all(_number(name) is not None for name in names):
        raise DataError(f"[{where}] line 1 has numbers alone: needs the names of the columns there")
    twice = next((name for i, name in enumerate(names) if name and name in names[:i]), None)
    if twice is not None:
        raise DataError(f"[{where}] has two columns of the name {shown(twice)}: rename one")
    return names


def _numbers(where: str, line: int, cells: Sequence[str], places: Sequence[int], names: Sequence[str]) -> list[float]:
    found = []
    for place in places:
        value = _number(cells[place])
        if value is None or not math.isfinite(value) or abs(value) > LARGEST:
            said = cells[place].strip()
            fault = f"{shown(said)} is not a finite number" if said else "is empty"
            raise DataError(
                f"[{where}] line {line}, column {shown(names[place])}: {fault}; mend or remove the row, or leave the column out with --columns"
            )
        found.append(value)
    return found


def _number(text: str) -> float | None:
    """The number that a cell holds, or None. Python's own reading takes 1_000 too, which no other program writes."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def starts_of(rows: int, length: int, stride: int) -> range:
    """The first rows of the windows of a recording."""
    return range(0, rows - length + 1, stride)


def windows(numbers: NDArray[np.float32], length: int, stride: int) -> NDArray[np.float32]:
    """The windows of rows (rows, columns): float32 (windows, length, columns); none where there are fewer rows than `length`."""
    starts = starts_of(len(numbers), length, stride)
    if not len(starts):
        return np.empty((0, length, numbers.shape[1]), np.float32)
    return np.stack([numbers[start : start + length] for start in starts])
