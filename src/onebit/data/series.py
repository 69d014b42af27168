"""Windows of sensors' measurements for training and for measuring: CSV files in folders, one CSV file, or a data set by its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.answer_metrics import LabelMetrics
from onebit.data.arrays import ArraySet, ArraySplits, divide
from onebit.data.load import TEST_SHARE
from onebit.data.vibration import COLUMNS, vibrations
from onebit.errors import DataError, shown
from onebit.metrics import Metrics
from onebit.paths import expand
from onebit.regression_metrics import NumberMetrics
from onebit.series import Recording, read_csv, starts_of
from onebit.tasks.series import SeriesClassification, SeriesRegression, SeriesTask
from onebit.walk import walk

SETS = ("vibration",)
SUFFIX = ".csv"
# With fewer recordings of a class than this, recordings are cut into pieces, and these are divided.
FEWEST_RECORDINGS = 5
# Pieces that a recording is cut into.
PIECES = 10
PARTS = ("train", "test")


@dataclass(frozen=True)
class Cut:
    """How recordings become windows.

    Args:
        length, stride: rows.
        classes: whether windows have a class (a number otherwise).
    """

    length: int
    stride: int
    classes: bool


@dataclass(frozen=True)
class Windows:
    """Windows of recordings.

    Args:
        columns: their names.
        numbers: float32 (n, length, columns).
        said: what each is: the class, or the number as a text.
        pieces: of each the name of what is not to be divided: its recording, or the piece of it.
        notes: what a user should know.
    """

    columns: tuple[str, ...]
    numbers: NDArray[np.float32]
    said: tuple[str, ...]
    pieces: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def take(self, chosen: NDArray[np.int64]) -> Windows:
        """Some of the windows."""
        said, pieces = (tuple(part[i] for i in chosen) for part in (self.said, self.pieces))
        return replace(self, numbers=self.numbers[chosen], said=said, pieces=pieces)

    @property
    def values(self) -> NDArray[np.float64]:
        """What the windows are, as numbers."""
        return np.array([float(text) for text in self.said])


@dataclass(frozen=True)
class SeriesParts:
    """The windows to train on, to choose the best epoch by, and to report on; whether the data say which these are."""

    train: Windows
    validation: Windows | None
    test: Windows
    own_test: bool


def load_series(
    data: str,
    cut: Cut,
    columns: Sequence[str] | None,
    target: str | None,
    validation_share: float,
    seed: int,
) -> SeriesParts:
    """Read the windows of a data set, a CSV file, or a folder of them, and divide them.

    Whole recordings go to one part. Where a class has few recordings each of them is cut into pieces, and pieces go to one part, so that windows of
    different parts share no row. A folder with the folders train and test has its own parts.

    Args:
        data: "vibration", a CSV file, a folder of them, or a folder with a folder of them for each class.
        cut: how recordings become windows.
        columns: names; None: all columns of numbers.
        target: the column that says what a row is; None: folders are the classes (of "vibration": its condition, or its speed).
        validation_share: of what is not for tests; 0: none.
        seed: of the division.

    Raises:
        DataError: the data cannot be used; it names the file, the line and the column.
    """
    source = None if data in SETS else expand(data)
    if source is not None and source.is_dir() and all((source / part).is_dir() for part in PARTS):
        train, test = (_windows(_of_files(source / part, columns, target, cut), cut, data) for part in PARTS)
        own_test = True
    else:
        found = _made(cut, columns, target) if source is None else _of_files(source, columns, target, cut)
        train, test = _divided(_windows(found, cut, data), cut, TEST_SHARE, seed)
        own_test = False
    validation = None
    if validation_share:
        train, validation = _divided(train, cut, validation_share, seed + 1)
    return SeriesParts(train, validation, test, own_test)


def splits_of(parts: SeriesParts, targets: Sequence[NDArray[np.generic]], truth: bool, source: str) -> ArraySplits:
    """The parts as arrays.

    Args:
        parts: of `load_series`.
        targets: of train, validation (or test again) and test: classes, or numbers scaled.
        truth: whether the figures compare with the windows' own numbers in place of the targets.
    """
    train, validation, test = (
        ArraySet(part.numbers, target, list(part.values) if truth else None)
        for part, target in zip((parts.train, parts.validation or parts.test, parts.test), targets, strict=True)
    )
    validation = test if parts.validation is None else validation
    return ArraySplits(train, validation, test, source, parts.train.notes, parts.own_test)


def _made(cut: Cut, columns: Sequence[str] | None, target: str | None) -> list[tuple[Recording, str]]:
    chosen = list(COLUMNS if columns is None else columns)
    unknown = next((name for name in chosen if name not in COLUMNS), None)
    if unknown is not None:
        raise DataError(f"[vibration] has no column {shown(unknown)}: it has {', '.join(COLUMNS)}")
    known = "condition" if cut.classes else "speed"
    if target not in (None, known):
        raise DataError(f"[vibration] has no target {shown(target)} for this task: leave it out, or use {known}")
    places = [COLUMNS.index(name) for name in chosen]
    return [
        (Recording(one.name, tuple(chosen), one.numbers[:, places]), one.condition if cut.classes else str(one.speed))
        for one in vibrations()
    ]


def _of_files(source: Path, columns: Sequence[str] | None, target: str | None, cut: Cut) -> list[tuple[Recording, str]]:
    """The recordings of a file or a folder, each with its class where folders say it."""
    if not source.exists():
        raise DataError(f"[{source}] is not there: give a CSV file, a folder of them, or {', '.join(SETS)}")
    files = [source] if source.is_file() else [f for f in walk(source).files if f.suffix.lower() == SUFFIX]
    if not files:
        raise DataError(f"[{source}] has no file that ends in {SUFFIX}")
    if target is None and not cut.classes:
        raise DataError(f"[{source}] does not say what to predict: name the column of the numbers with --target")
    if target is None and (source.is_file() or any(file.parent == source for file in files)):
        raise DataError(
            f"[{source}] does not say what its rows are: name the column of the classes with --target, or put files into a folder for each class"
        )
    found: list[tuple[Recording, str]] = []
    for file in files:
        recording = read_csv(file, columns, target)
        if columns is None:
            columns = recording.columns
        found.append((recording, "" if target is not None else file.relative_to(source).parts[0]))
    return found


def _windows(found: list[tuple[Recording, str]], cut: Cut, data: str) -> Windows:
    """The windows of all recordings, in pieces none of which shares a row with another."""
    classes = [
        said for recording, said in found for said in ([said] if recording.target is None else set(recording.target))
    ]
    few = not cut.classes and len(found) < FEWEST_RECORDINGS
    few = few or (cut.classes and any(classes.count(one) < FEWEST_RECORDINGS for one in set(classes)))
    numbers: list[NDArray[np.float32]] = []
    said: list[str] = []
    pieces: list[str] = []
    short = 0
    for recording, of_file in found:
        size = max(cut.length, -(-len(recording) // PIECES)) if few else len(recording)
        before = len(numbers)
        for first in range(0, len(recording), size):
            rows = min(size, len(recording) - first)
            for start in starts_of(rows, cut.length, cut.stride):
                place = slice(first + start, first + start + cut.length)
                what = of_file if recording.target is None else _said(recording.target[place], cut, recording.name)
                if what is not None:
                    numbers.append(recording.numbers[place])
                    said.append(what)
                    pieces.append(f"{recording.name} {first}" if few else recording.name)
        short += len(numbers) == before
    if not numbers:
        longest = max(len(recording) for recording, _ in found)
        raise DataError(
            f"[{data}] has no window of {cut.length} rows, at most {longest} rows a file: use a smaller --length"
        )
    notes = (
        (f"{data}: {short} of {len(found)} files give no window of {cut.length} rows and are left out",)
        if short
        else ()
    )
    if cut.classes and len(set(said)) < 2:
        raise DataError(f"[{data}] has one class alone, {shown(said[0])}: needs two or more")
    return Windows(found[0][0].columns, np.stack(numbers), tuple(said), tuple(pieces), notes)


def _said(target: tuple[str, ...], cut: Cut, name: str) -> str | None:
    """What a window of rows is: their class, None where it changes; or the number of the last row."""
    if cut.classes:
        return target[0] if len(set(target)) == 1 else None
    try:
        if np.isfinite(float(target[-1])):
            return target[-1]
    except ValueError:
        pass
    raise DataError(f"[{name}] its target {shown(target[-1])} is not a finite number: mend or remove the row")


def _divided(windows: Windows, cut: Cut, share: float, seed: int) -> tuple[Windows, Windows]:
    """Divide whole pieces at random, with the same share of each class; of every class some windows on both sides."""
    names = list(dict.fromkeys(windows.pieces))
    of = dict(zip(reversed(windows.pieces), reversed(windows.said), strict=True))
    rest, chosen = divide([of[name] if cut.classes else "" for name in names], share, seed)
    if not len(chosen):
        raise DataError(
            f"[split] {len(names)} recordings or pieces of them are too few to set a part aside: give longer or more recordings"
        )
    kept = {names[i] for i in rest}
    inside = np.array([piece in kept for piece in windows.pieces])
    return windows.take(np.flatnonzero(inside)), windows.take(np.flatnonzero(~inside))


def classes_of(
    data: str, windows: Windows, labels: Sequence[str] | None = None
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The names of the classes in order, and each window's number among them; raises DataError for one that a network does not know."""
    labels = sorted(set(windows.said)) if labels is None else labels
    unknown = next((said for said in windows.said if said not in labels), None)
    if unknown is not None:
        raise DataError(
            f"[{data}] has the class {shown(unknown)}, which the network does not know: it has {', '.join(map(shown, labels))}"
        )
    place = {label: i for i, label in enumerate(labels)}
    return tuple(labels), np.array([place[said] for said in windows.said], np.int64)


def metrics_of(task: SeriesTask) -> Metrics:
    """Takes outputs of a network of this task, and gives the figures."""
    if isinstance(task, SeriesClassification):
        return LabelMetrics(task.labels)
    assert isinstance(task, SeriesRegression)
    return NumberMetrics(task.in_units)


def splits_for(parts: SeriesParts, task: SeriesTask, source: str) -> ArraySplits:
    """The parts as a network of this task is trained and measured on them."""
    sets = (parts.train, parts.validation or parts.test, parts.test)
    if isinstance(task, SeriesClassification):
        return splits_of(parts, [classes_of(source, part, task.labels)[1] for part in sets], False, source)
    assert isinstance(task, SeriesRegression)
    mean, std = task.target_mean, task.target_std
    scaled: list[NDArray[Any]] = [((part.values - mean) / std).astype(np.float32)[:, None] for part in sets]
    return splits_of(parts, scaled, True, source)
