"""Segmentation: the data it is measured on, intersection over union, and its picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from onebit.data.arrays import ArraySet, ArraySplits
from onebit.data.load_scenes import SCENE_SUFFIXES, load_pictures, load_scenes
from onebit.kinds.kind import Kind
from onebit.kinds.picture_grid import picture_grid
from onebit.metrics import Metrics
from onebit.printable import printable
from onebit.scenes.drawing import draw_mask
from onebit.scenes.metrics import SegmentationMetrics
from onebit.tasks.pictures import SegmentationTask


class Segmentation(Kind):
    """A class for each pixel."""

    inputs: ClassVar[str] = "pictures"
    suffixes: ClassVar[tuple[str, ...]] = SCENE_SUFFIXES

    def divided(self, data: str, task: SegmentationTask, seed: int) -> ArraySplits:
        return load_scenes("segmentation", data, task.image_size, task.channels, seed=seed, classes=task.labels)[0]

    def files(self, paths: Sequence[str], task: SegmentationTask) -> ArraySet:
        pixels = load_pictures(paths, task.image_size, task.channels)
        return ArraySet(pixels, np.zeros(pixels.shape[:3], np.uint8))

    def metrics(self, task: SegmentationTask) -> Metrics:
        return SegmentationMetrics(task)

    def told(self, figures: dict[str, Any]) -> list[str]:
        first = f"mIoU {100 * figures['mean_overlap']:.2f} %, {100 * figures['accuracy']:.2f} % of the pixels right"
        each = [f"{printable(label)} {100 * value:.1f} %" for label, value in figures["overlaps"].items()]
        return [first, "intersection over union: " + ", ".join(each)]

    def draw(self, arrays: ArraySet, outputs: NDArray[np.float32], task: SegmentationTask) -> Any:
        masks = outputs.argmax(-1).astype(np.uint8)
        count = len(task.labels)
        return picture_grid([draw_mask(pixels, mask, count) for pixels, mask in zip(arrays.inputs, masks, strict=True)])
