"""The training of networks that find objects in pictures: boxes, and the class of each pixel."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from onebit.data.arrays import ArraySplits
from onebit.data.load_scenes import load_scenes
from onebit.metrics import Metrics
from onebit.models import center_detector, unet
from onebit.scenes.mask_figures import NOT_COUNTED_PIXEL
from onebit.scenes.metrics import DetectionMetrics, SegmentationMetrics
from onebit.tasks.pictures import DetectionTask, SegmentationTask
from onebit.training.arrays import Augment
from onebit.training.batches import draw_moves, move_images
from onebit.training.jobs.arrays import ArrayJob
from onebit.training.jobs.picture_objectives import BoxObjective, PixelObjective
from onebit.training.objective import Objective
from onebit.training.recipe.pictures import DetectionRecipe, SegmentationRecipe

# A box of which less than this share is still in the shifted picture is not learned there.
_LEAST_LEFT = 0.25


class DetectionJob(ArrayJob):
    """Pictures and the boxes of their objects."""

    recipe_kind: ClassVar = DetectionRecipe
    task_kind: ClassVar = DetectionTask

    @staticmethod
    def read(recipe: DetectionRecipe) -> tuple[ArraySplits, DetectionTask]:
        splits, classes = _load(recipe)
        return splits, DetectionTask(classes, recipe.data.image_size, recipe.data.channels)

    @staticmethod
    def network(recipe: DetectionRecipe, task: DetectionTask) -> nn.Module:
        model, scheme = recipe.model, recipe.scheme.made
        return center_detector(
            len(task.labels), task.channels, model.widths, scheme if model.binary else None, model.hybrid
        )

    @staticmethod
    def augment(recipe: DetectionRecipe, task: DetectionTask) -> Augment | None:
        how = recipe.data.augment

        def moved(pixels: NDArray[Any], objects: NDArray[Any], random: np.random.Generator) -> Any:
            moves = draw_moves(how, len(pixels), pixels.shape[1], pixels.shape[2], random)
            return move_images(pixels, moves), move_objects(objects, moves, *task.image_size)

        return None if how == "none" else moved

    @staticmethod
    def objective_of(recipe: DetectionRecipe, task: DetectionTask) -> Objective:
        return BoxObjective(classes=len(task.labels))

    @staticmethod
    def best_by() -> str:
        return "val_loss"

    @staticmethod
    def metrics(task: DetectionTask) -> Metrics:
        return DetectionMetrics(task)

    @staticmethod
    def told(result: dict[str, Any]) -> str:
        return (
            f"mAP at 0.5 {100 * result['test_mean_average_precision']:.2f} % on {result['test_inputs']} test pictures"
        )


class SegmentationJob(ArrayJob):
    """Pictures and the class of each of their pixels."""

    recipe_kind: ClassVar = SegmentationRecipe
    task_kind: ClassVar = SegmentationTask

    @staticmethod
    def read(recipe: SegmentationRecipe) -> tuple[ArraySplits, SegmentationTask]:
        splits, classes = _load(recipe)
        return splits, SegmentationTask(classes, recipe.data.image_size, recipe.data.channels)

    @staticmethod
    def network(recipe: SegmentationRecipe, task: SegmentationTask) -> nn.Module:
        model, scheme = recipe.model, recipe.scheme.made
        return unet(len(task.labels), task.channels, model.widths, scheme if model.binary else None, model.hybrid)

    @staticmethod
    def augment(recipe: SegmentationRecipe, task: SegmentationTask) -> Augment | None:
        how = recipe.data.augment

        def moved(pixels: NDArray[Any], masks: NDArray[Any], random: np.random.Generator) -> Any:
            moves = draw_moves(how, len(pixels), pixels.shape[1], pixels.shape[2], random)
            # What comes in from outside of the picture has no class.
            return move_images(pixels, moves), move_images(masks[..., None], moves, NOT_COUNTED_PIXEL)[..., 0]

        return None if how == "none" else moved

    @staticmethod
    def objective_of(recipe: SegmentationRecipe, task: SegmentationTask) -> Objective:
        return PixelObjective()

    @staticmethod
    def metrics(task: SegmentationTask) -> Metrics:
        return SegmentationMetrics(task)

    @staticmethod
    def told(result: dict[str, Any]) -> str:
        return f"mIoU {100 * result['test_mean_overlap']:.2f} % on {result['test_inputs']} test pictures"


def _load(recipe: DetectionRecipe | SegmentationRecipe) -> tuple[ArraySplits, tuple[str, ...]]:
    data, seed = recipe.data, recipe.run.seed
    return load_scenes(recipe.kind, data.source, data.image_size, data.channels, data.validation_share, seed)


def move_objects(objects: NDArray[Any], moves: list[NDArray[Any]], height: int, width: int) -> NDArray[Any]:
    """Boxes (batch, most, 5) moved as `move_images` moves their pictures; of boxes that leave the picture the class becomes -1."""
    made = objects.copy()
    if moves:
        mirrored = moves[0][:, None]
        made[..., 1] = np.where(mirrored, width - objects[..., 3], objects[..., 1])
        made[..., 3] = np.where(mirrored, width - objects[..., 1], objects[..., 3])
    if len(moves) > 1:
        made[..., 2::2] += (height // 8 - moves[1])[:, None, None]
        made[..., 1::2] += (width // 8 - moves[2])[:, None, None]
        before = (made[..., 3] - made[..., 1]) * (made[..., 4] - made[..., 2])
        made[..., 1:] = np.clip(made[..., 1:], 0, [width, height] * 2)
        left = (made[..., 3] - made[..., 1]) * (made[..., 4] - made[..., 2])
        made[..., 0] = np.where(left >= _LEAST_LEFT * before, made[..., 0], -1)
    return made
