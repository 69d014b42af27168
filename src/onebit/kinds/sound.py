"""Classifiers of sounds, as evaluation, verification and pictures ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from onebit.answer_metrics import LabelMetrics
from onebit.data.arrays import ArraySet, ArraySplits
from onebit.data.sound import divided, read_sounds, spectrum_of
from onebit.kinds.kind import Kind
from onebit.printable import printable
from onebit.runtime.session import softmax
from onebit.runtime.sound import features
from onebit.sound import SUFFIXES, read_wav
from onebit.tasks.sound import SoundTask

_BARS = 5
_GROUPS_SHOWN = 12


class SoundKind(Kind):
    """Recordings and their classes."""

    inputs: ClassVar = "recordings"
    suffixes: ClassVar = SUFFIXES

    def divided(self, data: str, task: SoundTask, seed: int) -> ArraySplits:
        sounds = read_sounds(data, features(task), task.file_names)
        return divided(sounds, data, task.labels, task.test_speakers, task.test_takes, seed)

    def files(self, paths: Sequence[str], task: SoundTask) -> ArraySet:
        spectra = np.stack([spectrum_of(*read_wav(path), features(task)) for path in paths])
        return ArraySet(spectra, np.full(len(spectra), -1))

    def metrics(self, task: SoundTask) -> LabelMetrics:
        return LabelMetrics(task.labels)

    def told(self, figures: dict[str, Any]) -> list[str]:
        lines = [
            f"accuracy {100 * figures['accuracy']:.2f} %, loss {figures['loss']:.4f}",
            f"confidence {100 * figures['confidence']:.1f} % on average; expected calibration error "
            f"{100 * figures['calibration_error']:.1f} points",
        ]
        groups = figures["groups"]
        if groups:
            each = [f"{printable(name)} {100 * share:.1f} %" for name, share in list(groups.items())[:_GROUPS_SHOWN]]
            rest = f" and {len(groups) - _GROUPS_SHOWN} more" if len(groups) > _GROUPS_SHOWN else ""
            lines.append(f"by speaker: {', '.join(each)}{rest}")
        if figures["confused"]:
            pairs = [f"{printable(a)} for {printable(b)} {n}x" for b, a, n in figures["confused"]]
            lines.append(f"most often taken: {', '.join(pairs)}")
        return lines

    def draw(self, arrays: ArraySet, outputs: NDArray[np.float32], task: SoundTask) -> Any:
        """Each spectrum above the bars of its most probable labels; the right one is green."""
        from matplotlib.figure import Figure

        columns = min(4, len(arrays))
        rows = -(-len(arrays) // columns)
        figure = Figure(figsize=(3 * columns, 3.4 * rows), layout="constrained")
        grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=(3, 2) * rows)
        for axes in grid.flat:
            axes.set_axis_off()
        seconds = task.samples / task.sample_rate
        for index, (spectrum, scores) in enumerate(zip(arrays.inputs, softmax(outputs), strict=True)):
            row, column = divmod(index, columns)
            above, below = grid[2 * row, column], grid[2 * row + 1, column]
            above.set_axis_on()
            below.set_axis_on()
            above.imshow(
                spectrum[..., 0].T, origin="lower", aspect="auto", extent=(0, seconds, 0, task.bands), cmap="magma"
            )
            right = int(arrays.targets[index])
            told = [task.labels[right]] if right >= 0 else []
            told += [arrays.groups[index]] if arrays.groups is not None else []
            above.set_title(printable(", ".join(told)), fontsize=10)
            above.set_xlabel("seconds", fontsize=8)
            above.set_ylabel("mel band", fontsize=8)
            best = np.argsort(-scores, kind="stable")[:_BARS][::-1]
            colours = ["tab:green" if i == right else "0.6" if right < 0 else "tab:red" for i in best]
            below.barh([printable(task.labels[i]) for i in best], scores[best], color=colours)
            below.set_xlim(0, 1)
            for axes in (above, below):
                axes.tick_params(labelsize=8)
            below.spines[["top", "right"]].set_visible(False)
        return figure
