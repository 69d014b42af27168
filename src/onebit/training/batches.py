"""Batches of images, made by indexing whole arrays so that data never holds training up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onebit.data import ImageSet, ImageSplits
from onebit.images import ImageTask
from onebit.training.recipe import ImageRecipe

EVALUATION_BATCH = 256


def scale_pixels(pixels: NDArray[np.uint8] | Tensor, task: ImageTask) -> Tensor:
    """Pixels (batch, height, width, channels) to what a network sees: float32 (batch, channels, height, width), channels last in memory."""
    # Arrays may be mapped from a file and not writable, of which PyTorch warns.
    x = (torch.from_numpy(pixels.astype(np.float32)) if isinstance(pixels, np.ndarray) else pixels.float()).div_(255)
    x = x.sub_(torch.tensor(task.mean, device=x.device)).div_(torch.tensor(task.std, device=x.device))
    return x.permute(0, 3, 1, 2)


class Part(NamedTuple):
    """Which part of an epoch's batches a process is to see.

    Args:
        rank, world: its number, and of how many; each has its share of every batch.
        first: the number of the batch to begin with; those before it are passed over.
    """

    rank: int = 0
    world: int = 1
    first: int = 0

    def share(self, count: int) -> slice:
        """Which of so many examples; of fewer than there are processes, some have none."""
        return slice(self.rank * count // self.world, (self.rank + 1) * count // self.world)

    def batch(self, x: Tensor, target: Tensor, examples: int, targets: int) -> tuple[Any, ...]:
        """A share as it is passed on: with the numbers of examples and of counted targets of the whole batch, where there are more shares."""
        return (x, target) if self.world == 1 else (x, target, (examples, targets))


ALL = Part()


def part_of(trainer: lightning.Trainer | None, batches: int | None = None) -> Part:
    """The part of a trainer's process; of so many batches to train on those that follow a checkpoint within the epoch."""
    if trainer is None:
        return ALL
    # Before an epoch begins this counts the one before, all of it.
    seen = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return Part(trainer.global_rank, trainer.world_size, 0 if batches is None else seen % batches)


class Batches:
    """An iterable of (pixels, labels); with an epoch it is shuffled and augmented, differently in each epoch and alike in each run.

    The pixels are bytes (batch, height, width, channels), which `scale_pixels` is to scale on the device that computes: a quarter of
    what floats would take on the way there.

    Labels that are mixed or smoothed are float32 (batch, classes), each row a distribution; others are int64 (batch,).

    Args:
        images: the set.
        batch_size: of all batches but the last.
        augment: see `ImageRecipe`.
        seed, epoch: of order and augmentation; epoch None keeps the set's order.
        part: which of the images of each batch.
        mixup, smoothing: see `ImageRecipe`; of training only.
    """

    def __init__(
        self,
        images: ImageSet,
        batch_size: int,
        augment: str = "none",
        seed: int = 0,
        epoch: int | None = None,
        part: Part = ALL,
        mixup: float = 0.0,
        smoothing: float = 0.0,
    ) -> None:
        self._images = images
        self._batch_size = batch_size
        self._augment = augment
        self._seed = seed
        self._epoch = epoch
        self._part = part
        self._mixup = mixup
        self._smoothing = smoothing

    def __len__(self) -> int:
        return -(-len(self._images) // self._batch_size)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        random = np.random.default_rng((self._seed, self._epoch or 0))
        height, width = self._images.pixels.shape[1:3]
        order = np.arange(len(self._images)) if self._epoch is None else random.permutation(len(self._images))
        for number, start in enumerate(range(0, len(order), self._batch_size)):
            chosen = order[start : start + self._batch_size]
            if len(chosen) == 1 and len(order) > 1 and self._epoch is not None:
                chosen = np.append(chosen, order[0])  # statistics over a batch need more than one image
            # Drawn for all images, also of batches that are passed over, so that what each is shifted by depends on nothing else.
            moves = draw_moves(self._augment, len(chosen), height, width, random)
            mixed = random.beta(self._mixup, self._mixup) if self._mixup else 0.0
            if number < self._part.first:
                continue
            share = self._part.share(len(chosen))
            ours = np.arange(share.start, share.stop)
            pixels, labels = self._moved(chosen, moves, ours)
            if mixed or self._smoothing:
                labels = smooth(labels, len(self._images.classes), self._smoothing)
            if mixed:
                # The order is random already, so that the next image of the batch is any.
                others, theirs = self._moved(chosen, moves, (ours + 1) % len(chosen))
                pixels = mix_pixels(pixels, others, mixed)
                labels += mixed * (smooth(theirs, len(self._images.classes), self._smoothing) - labels)
            yield self._part.batch(torch.from_numpy(pixels), torch.from_numpy(labels), len(chosen), len(chosen))

    def _moved(
        self, chosen: NDArray[np.int64], moves: list[NDArray[Any]], which: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """Images of a batch as they are augmented, and their labels; `which` are their places in the batch."""
        pixels = move_images(self._images.pixels[chosen[which]], [move[which] for move in moves])
        return pixels, self._images.labels[chosen[which]]


def smooth(labels: NDArray[np.int64], classes: int, share: float) -> NDArray[np.float32]:
    """Labels as distributions (n, classes): a share of each is spread over all classes alike.

    Source: Szegedy et al., arXiv 1512.00567, section 7.
    """
    rows = np.full((len(labels), classes), share / classes, np.float32)
    rows[np.arange(len(labels)), labels] += 1 - share
    return rows


def mix_pixels(ours: NDArray[np.uint8], theirs: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """Images with a share of others in them, rounded to bytes.

    Source: Zhang et al., mixup, arXiv 1710.09412, section 2.
    """
    part = round(256 * share)  # keeps the sums in integers of 16 bits, which are faster than floats
    mixed = ours.astype(np.uint16) * (256 - part) + theirs.astype(np.uint16) * part + 128
    return (mixed >> 8).astype(np.uint8)


def draw_moves(how: str, count: int, height: int, width: int, random: np.random.Generator) -> list[NDArray[Any]]:
    """For each of so many images whether it is mirrored ("flip"), and where its shifted copy begins too ("crop-flip"); of "none" nothing."""
    moves: list[NDArray[Any]] = [] if how == "none" else [random.random(count) < 0.5]
    if how == "crop-flip":
        moves += [random.integers(0, 2 * (side // 8) + 1, count) for side in (height, width)]
    return moves


def move_images(pixels: NDArray[np.uint8], moves: list[NDArray[Any]], beyond: int = 0) -> NDArray[np.uint8]:
    """Mirror and shift images, each by up to an eighth of its side, as `draw_moves` has drawn; `beyond` is what comes in from outside."""
    if moves:
        pixels = np.where(moves[0][:, None, None, None], pixels[:, :, ::-1], pixels)
    if len(moves) > 1:
        height, width = pixels.shape[1:3]
        down, right = height // 8, width // 8
        padded = np.pad(pixels, ((0, 0), (down, down), (right, right), (0, 0)), constant_values=beyond)
        rows = moves[1][:, None] + np.arange(height)  # (batch, height)
        columns = moves[2][:, None] + np.arange(width)
        pixels = padded[np.arange(len(pixels))[:, None, None], rows[:, :, None], columns[:, None, :]]
    return pixels


class TrainingData(lightning.LightningDataModule):
    """What is trained and validated on, as Lightning asks for it.

    The trainer must ask for the training batches anew in every epoch (``reload_dataloaders_every_n_epochs=1``): their order depends on it.
    """

    @property
    def batches_per_epoch(self) -> int:
        """Batches that are trained on in an epoch."""
        raise NotImplementedError


class ImageData(TrainingData):
    """The images of a recipe, divided into parts."""

    def __init__(self, splits: ImageSplits, task: ImageTask, recipe: ImageRecipe) -> None:
        super().__init__()
        self.splits = splits
        self.task = task
        self.recipe = recipe

    @property
    def batches_per_epoch(self) -> int:
        return len(Batches(self.splits.train, self.recipe.optimizer.batch_size))

    def train_dataloader(self) -> Batches:
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        recipe = self.recipe
        part = part_of(self.trainer, self.batches_per_epoch)
        data = recipe.data
        return Batches(
            self.splits.train,
            recipe.optimizer.batch_size,
            data.augment,
            recipe.run.seed,
            epoch,
            part,
            data.mixup,
            data.label_smoothing,
        )

    def val_dataloader(self) -> Batches:
        return Batches(self.splits.validation, EVALUATION_BATCH, part=part_of(self.trainer))

    def on_after_batch_transfer(self, batch: tuple[Any, ...], dataloader_idx: int) -> tuple[Any, ...]:
        return (scale_pixels(batch[0], self.task), *batch[1:])
