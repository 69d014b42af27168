"""Sessions of packed networks of sensors' measurements: classes or numbers of recordings of any length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import DataError, OnebitError
from onebit.printable import printable
from onebit.runtime.answer import Labels
from onebit.runtime.session import ArraySession, best_labels, softmax
from onebit.series import read_csv, windows
from onebit.tasks.series import SeriesClassification, SeriesRegression, SeriesTask

Recordings = Sequence[str | Path | NDArray[Any]]
# Windows that are computed at once.
BATCH = 64


@dataclass(frozen=True)
class Numbers:
    """What a network predicts of a recording.

    Args:
        numbers: of each window, in the order of time.
    """

    numbers: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {"mean": float(np.mean(self.numbers)), "windows": list(self.numbers)}

    def __str__(self) -> str:
        first = f"{np.mean(self.numbers):.6g}"
        if len(self.numbers) == 1:
            return first
        return f"{first} (the mean of {len(self.numbers)} windows, {min(self.numbers):.6g} to {max(self.numbers):.6g})"


class SeriesSession(ArraySession):
    """A packed network of sensors' measurements in the engine. `load` returns it.

    Call it with windows for the network's outputs:

    Args:
        batch: float32 (n, length, columns), in the units of the training.

    Returns:
        float32 (n, classes), or (n, 1) where it predicts a number: scaled, see `SeriesRegression`.

    Raises:
        DataError: the batch has another shape or type, or holds NaN or infinity.

    Several threads may share a session; their calls run one after the other.
    """

    task: SeriesTask

    def _check_values(self, batch: NDArray[Any]) -> None:
        if batch.dtype == np.float32 and not np.isfinite(batch).all():
            raise DataError(
                "[Session] a batch of bytes, or with NaN or infinity: give float32 in the units of the training"
            )

    def classify(self, recordings: Recordings, top: int = 5) -> list[list[tuple[str, float]]]:
        """Classify recordings of a window or longer.

        Args:
            recordings: CSV files with the columns of the training, or arrays (rows, columns) with the columns in their order.
            top: the number of labels for each recording.

        Returns:
            For each recording its most probable labels with their probabilities, the means over its windows; the most probable first.

        Raises:
            DataError: a recording cannot be read, lacks a column, or is shorter than a window.
            OnebitError: the network predicts a number.

        Example:
            >>> onebit.load("series.onebit").classify(["monday.csv"], top=1)
            [[('...', 0...)]]
        """
        if not isinstance(self.task, SeriesClassification):
            raise OnebitError("[Session.classify] this model predicts a number: use predict")
        if top < 1:
            raise OnebitError(f"[Session.classify] top={top}: use 1 or more")
        labels = self.task.labels
        return [best_labels(softmax(outputs).mean(0), labels, top) for outputs in self._outputs(recordings, "classify")]

    def predict(self, recordings: Recordings) -> list[NDArray[np.float64]]:
        """Predict the numbers of recordings of a window or longer.

        Args:
            recordings: as in `classify`.

        Returns:
            For each recording the number of each of its windows, in the unit of the training's target.

        Raises:
            DataError: a recording cannot be read, lacks a column, or is shorter than a window.
            OnebitError: the network says classes.

        Example:
            >>> onebit.load("speed.onebit").predict(["monday.csv"])[0].shape
            (2,)
        """
        task = self.task
        if not isinstance(task, SeriesRegression):
            raise OnebitError("[Session.predict] this model says classes: use classify")
        return [task.in_units(outputs.astype(np.float64)) for outputs in self._outputs(recordings, "predict")]

    def answer(self, source: str | Path, top: int = 5) -> Labels | Numbers:
        if isinstance(self.task, SeriesRegression):
            return Numbers(tuple(map(float, self.predict([source])[0])))
        return Labels(tuple(self.classify([source], top)[0]))

    def _outputs(self, recordings: Recordings, method: str) -> list[NDArray[np.float32]]:
        if isinstance(recordings, (str, Path, np.ndarray)):
            raise DataError(f"[Session.{method}] give a list of recordings, even for one")
        found = []
        for recording in recordings:
            cut = windows_of(recording, self.task)
            parts = [self(np.ascontiguousarray(cut[i : i + BATCH])) for i in range(0, len(cut), BATCH)]
            found.append(np.concatenate(parts))
        return found


def windows_of(recording: str | Path | NDArray[Any], task: SeriesTask) -> NDArray[np.float32]:
    """The windows of a CSV file or of an array (rows, columns): float32 (n, length, columns). Raises DataError where there are none."""
    if isinstance(recording, np.ndarray):
        where, numbers = "array", recording
        if numbers.ndim != 2 or numbers.shape[1] != len(task.columns) or numbers.dtype.kind not in "fiu":
            raise DataError(
                f"[array] of shape {numbers.shape} and type {numbers.dtype}: give numbers (rows, {len(task.columns)}), "
                f"the columns {', '.join(map(printable, task.columns))}"
            )
        numbers = numbers.astype(np.float32)
        if not np.isfinite(numbers).all():
            raise DataError("[array] holds NaN or infinity: mend or remove these rows")
    else:
        where, numbers = printable(str(recording)), read_csv(recording, task.columns).numbers
    cut = windows(numbers, task.length, task.stride)
    if not len(cut):
        raise DataError(f"[{where}] has {len(numbers)} rows: needs a window of {task.length}")
    return cut
