"""Detection: the data it is measured on, mean average precision, and its picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from onebit.data.arrays import ArraySet, ArraySplits
from onebit.data.load_scenes import SCENE_SUFFIXES, load_pictures, load_scenes, padded_objects
from onebit.kinds.kind import Kind
from onebit.kinds.picture_grid import picture_grid
from onebit.metrics import Metrics
from onebit.printable import printable
from onebit.scenes.average_precision import Objects
from onebit.scenes.boxes import decode, named
from onebit.scenes.drawing import draw_boxes
from onebit.scenes.metrics import DetectionMetrics
from onebit.tasks.pictures import DetectionTask

# The least score of a box that is shown.
SHOWN_SCORE = 0.3


class Detection(Kind):
    """Boxes around objects."""

    inputs: ClassVar[str] = "pictures"
    suffixes: ClassVar[tuple[str, ...]] = SCENE_SUFFIXES

    def divided(self, data: str, task: DetectionTask, seed: int) -> ArraySplits:
        return load_scenes("detection", data, task.image_size, task.channels, seed=seed, classes=task.labels)[0]

    def files(self, paths: Sequence[str], task: DetectionTask) -> ArraySet:
        none = Objects(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool))
        objects = [none] * len(paths)
        return ArraySet(load_pictures(paths, task.image_size, task.channels), padded_objects(objects), objects)

    def metrics(self, task: DetectionTask) -> Metrics:
        return DetectionMetrics(task)

    def told(self, figures: dict[str, Any]) -> list[str]:
        first = f"mAP at 0.5 {100 * figures['mean_average_precision']:.2f} %"
        each = [f"{printable(label)} {100 * value:.1f} %" for label, value in figures["average_precisions"].items()]
        return [first, f"{figures['objects']} objects; average precision: " + ", ".join(each)]

    def draw(self, arrays: ArraySet, outputs: NDArray[np.float32], task: DetectionTask) -> Any:
        height, width = task.image_size
        pictures = []
        for pixels, grid in zip(arrays.inputs, outputs, strict=True):
            boxes = named(decode(grid, SHOWN_SCORE, width, height), task.labels)
            pictures.append(draw_boxes(pixels, boxes, task.labels))
        return picture_grid(pictures)
