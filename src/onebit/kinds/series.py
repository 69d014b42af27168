"""Sensors' measurements: what is measured on, the figures in words, and the picture of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from onebit.data.arrays import ArraySet, ArraySplits
from onebit.data.series import SUFFIX, Cut, load_series, metrics_of, splits_for
from onebit.errors import DataError
from onebit.kinds.kind import Kind
from onebit.metrics import Metrics
from onebit.printable import printable
from onebit.series import read_csv, windows
from onebit.tasks.series import SeriesClassification, SeriesRegression, SeriesTask

# Windows of a file that are drawn.
SHOWN = 8


class Series(Kind):
    """Windows of measurements, with a class or a number each."""

    inputs: ClassVar[str] = "windows"
    suffixes: ClassVar[tuple[str, ...]] = (SUFFIX,)

    def divided(self, data: str, task: SeriesTask, seed: int) -> ArraySplits:
        cut = Cut(task.length, task.stride, isinstance(task, SeriesClassification))
        parts = load_series(data, cut, task.columns, task.target or None, 0.0, seed)
        return splits_for(parts, task, data)

    def files(self, paths: Sequence[str], task: SeriesTask) -> ArraySet:
        found = [windows(read_csv(path, task.columns).numbers, task.length, task.stride) for path in paths]
        cut = np.concatenate(found)
        if not len(cut):
            raise DataError(f"[{printable(paths[0])}] has no window of {task.length} rows")
        cut = cut[np.unique(np.linspace(0, len(cut) - 1, SHOWN).astype(np.int64))]  # of a long recording from all of it
        return ArraySet(cut, np.zeros(len(cut), np.int64), [None] * len(cut))

    def metrics(self, task: SeriesTask) -> Metrics:
        return metrics_of(task)

    def told(self, figures: dict[str, Any]) -> list[str]:
        return told(figures)

    def draw(self, arrays: ArraySet, outputs: NDArray[np.float32], task: SeriesTask) -> Any:
        from matplotlib.figure import Figure

        columns = 2 if len(arrays) > 1 else 1
        rows = -(-len(arrays) // columns)
        figure = Figure(figsize=(5 * columns, 1.9 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
        for axis in axes.flat[len(arrays) :]:
            axis.set_axis_off()
        for i, axis in enumerate(axes.flat[: len(arrays)]):
            axis.plot(arrays.inputs[i], linewidth=0.8, label=[printable(name) for name in task.columns])
            title, right = _title(outputs[i : i + 1], arrays.answers[i], task)
            axis.set_title(title, fontsize=9, color={True: "green", False: "red", None: "black"}[right])
            axis.tick_params(labelsize=7)
        if len(task.columns) <= 10:
            axes[0, 0].legend(fontsize=7, loc="upper right")
        return figure


def _title(outputs: NDArray[np.float32], answer: Any, task: SeriesTask) -> tuple[str, bool | None]:
    """What a network says of a window, and what it is; whether that is right, None where that is not known."""
    if isinstance(task, SeriesRegression):
        said = f"{float(task.in_units(outputs)[0]):.4g}"
        return (said, None) if answer is None else (f"{said} (it is {answer:.4g})", None)
    assert isinstance(task, SeriesClassification)
    powers = np.exp(outputs[0] - outputs[0].max())
    best = int(outputs[0].argmax())
    said = f"{printable(task.labels[best])}  {100 * powers[best] / powers.sum():.0f} %"
    if answer is None:
        return said, None
    return (said, True) if best == answer else (f"{said} (it is {printable(task.labels[answer])})", False)


def told(figures: dict[str, Any]) -> list[str]:
    """The figures of classes or of numbers in words."""
    if "r2" in figures:
        return [
            f"mean absolute error {figures['mean_absolute_error']:.4g}, root mean square error {figures['root_mean_square_error']:.4g}, "
            f"R2 {figures['r2']:.3f}"
        ]
    lines = [f"accuracy {100 * figures['accuracy']:.2f} %, loss {figures['loss']:.4f}"]
    classes = ", ".join(
        f"{printable(label)} {100 * share:.0f} %" for label, share in list(figures["classes"].items())[:12]
    )
    lines.append(f"right of each class: {classes}")
    lines += [
        f"{printable(right)} taken for {printable(answer)}: {count} times"
        for right, answer, count in figures["confused"]
    ]
    return lines
