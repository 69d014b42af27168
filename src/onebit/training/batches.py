"""Batches of images, made by indexing whole arrays so that data never holds training up."""

from __future__ import annotations

from collections.abc import Iterator

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onebit.data import ImageSet, ImageSplits
from onebit.images import ImageTask
from onebit.training.recipe import ImageRecipe

EVALUATION_BATCH = 256


def scale_pixels(pixels: NDArray[np.uint8], task: ImageTask) -> Tensor:
    """Pixels (batch, height, width, channels) to what a network sees: float32 (batch, channels, height, width), channels last in memory."""
    x = torch.from_numpy(pixels.astype(np.float32)).div_(255)
    x = x.sub_(torch.tensor(task.mean)).div_(torch.tensor(task.std))
    return x.permute(0, 3, 1, 2)


class Batches:
    """An iterable of (images, labels); with an epoch it is shuffled and augmented, differently in each epoch and alike in each run.

    Args:
        images: the set.
        task: scaling.
        batch_size: of all batches but the last.
        augment: see `ImageRecipe`.
        seed, epoch: of order and augmentation; epoch None keeps the set's order.
    """

    def __init__(
        self,
        images: ImageSet,
        task: ImageTask,
        batch_size: int,
        augment: str = "none",
        seed: int = 0,
        epoch: int | None = None,
    ) -> None:
        self._images = images
        self._task = task
        self._batch_size = batch_size
        self._augment = augment
        self._seed = seed
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-len(self._images) // self._batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        random = np.random.default_rng((self._seed, self._epoch or 0))
        order = np.arange(len(self._images)) if self._epoch is None else random.permutation(len(self._images))
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            if len(chosen) == 1 and len(order) > 1 and self._epoch is not None:
                chosen = np.append(chosen, order[0])  # statistics over a batch need more than one image
            pixels = augment_images(self._images.pixels[chosen], self._augment, random)
            yield scale_pixels(pixels, self._task), torch.from_numpy(self._images.labels[chosen])


def augment_images(pixels: NDArray[np.uint8], how: str, random: np.random.Generator) -> NDArray[np.uint8]:
    """Mirror half of the images ("flip"), and shift each by up to an eighth of its side too ("crop-flip")."""
    if how == "none":
        return pixels
    flip = random.random(len(pixels)) < 0.5
    pixels = np.where(flip[:, None, None, None], pixels[:, :, ::-1], pixels)
    if how == "crop-flip":
        height, width = pixels.shape[1:3]
        down, right = height // 8, width // 8
        padded = np.pad(pixels, ((0, 0), (down, down), (right, right), (0, 0)))
        top = random.integers(0, 2 * down + 1, len(pixels))
        left = random.integers(0, 2 * right + 1, len(pixels))
        rows = top[:, None] + np.arange(height)  # (batch, height)
        columns = left[:, None] + np.arange(width)
        pixels = padded[np.arange(len(pixels))[:, None, None], rows[:, :, None], columns[:, None, :]]
    return pixels


class ImageData(lightning.LightningDataModule):
    """The splits of a recipe's data as Lightning wants them.

    The trainer must ask for the training batches anew in every epoch (``reload_dataloaders_every_n_epochs=1``): their order depends on it.
    """

    def __init__(self, splits: ImageSplits, task: ImageTask, recipe: ImageRecipe) -> None:
        super().__init__()
        self.splits = splits
        self.task = task
        self.recipe = recipe

    def train_dataloader(self) -> Batches:
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        return Batches(
            self.splits.train, self.task, self.recipe.batch_size, self.recipe.augment, self.recipe.seed, epoch
        )

    def val_dataloader(self) -> Batches:
        return Batches(self.splits.validation, self.task, EVALUATION_BATCH)

    def test_dataloader(self) -> Batches:
        return Batches(self.splits.test, self.task, EVALUATION_BATCH)
