"""Batches of arrays and their targets, and the outputs of a PyTorch network for them: the training of every kind of task but images and text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from onebit.data.arrays import ArraySet, ArraySplits
from onebit.progress import track
from onebit.tasks.array_task import ArrayTask
from onebit.training.batches import EVALUATION_BATCH, Part, TrainingData, part_of

# Changes inputs (batch, ...) and targets (batch, ...) of a batch, by draws of a generator.
Augment = Callable[[NDArray[Any], NDArray[Any], np.random.Generator], tuple[NDArray[Any], NDArray[Any]]]


def to_network(inputs: NDArray[Any] | Tensor, task: ArrayTask) -> Tensor:
    """Inputs as the program takes them to what a network sees: scaled, and (batch, channels, height, width) where they are pictures."""
    x = torch.from_numpy(np.ascontiguousarray(inputs)) if isinstance(inputs, np.ndarray) else inputs
    if task.tokens:
        return x.long()
    x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
    mean, std = task.scaling
    if mean:
        x = (x - torch.tensor(mean, device=x.device)) / torch.tensor(std, device=x.device)
    return x.permute(0, 3, 1, 2) if x.dim() == 4 else x


def from_network(outputs: Tensor) -> NDArray[np.float32]:
    """What a network gives as the program gives it: of maps (batch, channels, height, width) the channels last."""
    last = outputs.movedim(1, -1) if outputs.dim() == 4 else outputs
    return last.float().cpu().numpy()


class ArrayBatches:
    """An iterable of (inputs, targets); with an epoch it is shuffled and augmented, differently in each epoch and alike in each run.

    Args:
        arrays: the set.
        batch_size: of all batches but the last.
        augment: of training; None: nothing is changed.
        seed, epoch: of order and augmentation; epoch None keeps the set's order.
        part: which of the inputs of each batch.
    """

    def __init__(
        self,
        arrays: ArraySet,
        batch_size: int,
        augment: Augment | None = None,
        seed: int = 0,
        epoch: int | None = None,
        part: Part = Part(),  # noqa: B008, which is frozen
    ) -> None:
        self._arrays = arrays
        self._batch_size = batch_size
        self._augment = augment
        self._seed = seed
        self._epoch = epoch
        self._part = part

    def __len__(self) -> int:
        return -(-len(self._arrays) // self._batch_size)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        count = len(self._arrays)
        seed = (self._seed, self._epoch or 0)
        order = np.arange(count) if self._epoch is None else np.random.default_rng(seed).permutation(count)
        for number in range(self._part.first, len(self)):
            chosen = order[number * self._batch_size : (number + 1) * self._batch_size]
            if len(chosen) == 1 and count > 1 and self._epoch is not None:
                chosen = np.append(chosen, order[0])  # statistics over a batch need more than one input
            inputs, targets = self._arrays.inputs[chosen], self._arrays.targets[chosen]
            if self._augment is not None and self._epoch is not None:
                # Each process changes all of a batch, so that its share does not hang on how many processes there are.
                inputs, targets = self._augment(inputs, targets, np.random.default_rng((*seed, number)))
            share = self._part.share(len(chosen))
            x, y = (torch.from_numpy(np.ascontiguousarray(part[share])) for part in (inputs, targets))
            yield self._part.batch(x, y, len(chosen), len(chosen))


class ArrayData(TrainingData):
    """The arrays of a recipe, divided into parts.

    Args:
        splits: the parts.
        task: says how a network sees them.
        batch_size, seed: of the recipe.
        augment: what is changed in training.
    """

    def __init__(
        self, splits: ArraySplits, task: ArrayTask, batch_size: int, seed: int, augment: Augment | None = None
    ) -> None:
        super().__init__()
        self.splits = splits
        self.task = task
        self._batch_size = batch_size
        self._seed = seed
        self._augment = augment

    @property
    def batches_per_epoch(self) -> int:
        return len(ArrayBatches(self.splits.train, self._batch_size))

    def train_dataloader(self) -> ArrayBatches:
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        part = part_of(self.trainer, self.batches_per_epoch)
        return ArrayBatches(self.splits.train, self._batch_size, self._augment, self._seed, epoch, part)

    def val_dataloader(self) -> ArrayBatches:
        return ArrayBatches(self.splits.validation, EVALUATION_BATCH, part=part_of(self.trainer))

    def on_after_batch_transfer(self, batch: tuple[Any, ...], dataloader_idx: int) -> tuple[Any, ...]:
        return (to_network(batch[0], self.task), *batch[1:])


def outputs_of(
    model: nn.Module, arrays: ArraySet, task: ArrayTask, work: str = "measure"
) -> Iterator[tuple[NDArray[np.float32], ArraySet]]:
    """The outputs of a PyTorch network in float32 and evaluation mode, divided by the task's temperature, a batch at a time."""
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        firsts = range(0, len(arrays), EVALUATION_BATCH)
        for first in track(firsts, work, "inputs", EVALUATION_BATCH, len(arrays)):
            part = arrays.take(np.arange(first, min(first + EVALUATION_BATCH, len(arrays))))
            outputs = from_network(model(to_network(part.inputs, task).to(device)))
            yield outputs / np.float32(task.temperature), part
