"""The figures of a detector and of a network for the class of each pixel, summed over batches of outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.scenes.average_precision import Objects, average_precisions, mean_average_precision
from onebit.scenes.boxes import Found, decode
from onebit.scenes.mask_figures import MaskMetrics
from onebit.tasks.pictures import DetectionTask, SegmentationTask

# The least score that counts for average precision, which looks at all thresholds; less sure boxes hardly change it.
LEAST_SCORE = 0.01


class DetectionMetrics:
    """What a detector finds in pictures of its own size, and the figures that follow.

    Args:
        task: of the detector.
    """

    def __init__(self, task: DetectionTask) -> None:
        self._task = task
        self._found: list[Found] = []
        self._objects: list[Objects] = []

    def add(self, outputs: NDArray[np.float32], answers: Sequence[Any], groups: Sequence[str] | None = None) -> None:
        """Add outputs (n, rows, columns, classes + 4) and the `Objects` of each picture."""
        height, width = self._task.image_size
        self._found += [decode(grid, LEAST_SCORE, width, height) for grid in outputs]
        self._objects += answers

    def figures(self) -> dict[str, Any]:
        """The mean average precision at an overlap of 0.5, that of each class with objects, and their number."""
        precisions = average_precisions(self._found, self._objects, len(self._task.labels))
        by_class = dict(zip(self._task.labels, precisions.tolist(), strict=True))
        return {
            "mean_average_precision": mean_average_precision(precisions),
            "average_precisions": {label: value for label, value in by_class.items() if value == value},
            "objects": sum(int((~one.ignored).sum()) for one in self._objects),
        }


class SegmentationMetrics:
    """The classes that a network gives to pixels, and the figures that follow.

    Args:
        task: of the network.
    """

    def __init__(self, task: SegmentationTask) -> None:
        self._labels = task.labels
        self._masks = MaskMetrics(len(task.labels))

    def add(self, outputs: NDArray[np.float32], answers: Sequence[Any], groups: Sequence[str] | None = None) -> None:
        """Add outputs (n, height, width, classes) and the masks of the pictures."""
        self._masks.add(outputs.argmax(-1), np.asarray(answers))

    def figures(self) -> dict[str, Any]:
        """The mean intersection over union, the share of right pixels, and the intersection over union of each class that occurs."""
        by_class = dict(zip(self._labels, self._masks.shares.tolist(), strict=True))
        return {
            "mean_overlap": self._masks.mean_share,
            "accuracy": self._masks.accuracy,
            "overlaps": {label: value for label, value in by_class.items() if value == value},
        }
