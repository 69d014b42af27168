"""Batches of text for training and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from onebit.data.examples import NOT_COUNTED, Examples
from onebit.data.text import TextSplits
from onebit.data.tokens import TextSet
from onebit.text import TextTask, Tokenizer
from onebit.training.batches import ALL, Part, TrainingData, part_of
from onebit.training.recipe import TextRecipe

EVALUATION_BATCH = 16


class TextBatches:
    """An iterable of (inputs, targets), int64 (batch, context) each, that goes on where the epoch before it ended.

    Each pass over the text has an order of its own, and windows that begin elsewhere; both depend on the seed and the number of the pass only.

    Args:
        text: tokens.
        task: of the text.
        recipe: kind of examples, batch, seed.
        context: tokens of an example.
        batches: in an epoch; None for as many as make a pass.
        epoch: which.
        part: which of the examples of each batch.
    """

    def __init__(
        self,
        text: TextSet,
        task: TextTask,
        recipe: TextRecipe,
        context: int,
        batches: int | None = None,
        epoch: int = 0,
        part: Part = ALL,
    ) -> None:
        self._text = text
        self._recipe = recipe
        self._context = context
        self._tokenizer = Tokenizer(task)
        examples = self._examples(0)
        self._per_pass = len(examples) - (recipe.data.examples == "windows" and len(examples) > 1)
        self._batches = batches or -(-self._per_pass // recipe.optimizer.batch_size)
        self._epoch = epoch
        self._part = part

    def _examples(self, number: int) -> Examples:
        tokenizer = self._tokenizer
        random = np.random.default_rng((self._recipe.run.seed, number, 1))
        windows = self._recipe.data.examples == "windows" and len(self._text) > 2 * self._context
        offset = int(random.integers(self._context)) if windows else 0
        return Examples(
            self._text, self._context, self._recipe.data.examples, tokenizer.pad, tokenizer.separator, offset
        )

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        size = self._recipe.optimizer.batch_size
        known = -1
        start, end = self._epoch * self._batches, (self._epoch + 1) * self._batches
        for first in range((start + self._part.first) * size, end * size, size):
            chosen: list[int] = []
            for position in range(first, first + size):
                number = position // self._per_pass
                if number != known:
                    if chosen:
                        break  # a batch is of one pass; the rest of it is the next batch's
                    examples = self._examples(number)
                    order = np.random.default_rng((self._recipe.run.seed, number)).permutation(self._per_pass)
                    known = number
                chosen.append(int(order[position % self._per_pass]))
            inputs, targets = examples.take(np.asarray(chosen))
            if self._recipe.data.count_padding:
                targets[targets == NOT_COUNTED] = self._tokenizer.pad
            yield _share(self._part, inputs, targets)


def _share(part: Part, inputs: NDArray[np.int64], targets: NDArray[np.int64]) -> tuple[Any, ...]:
    ours = part.share(len(inputs))
    counted = int((targets != NOT_COUNTED).sum())
    return part.batch(torch.from_numpy(inputs[ours]), torch.from_numpy(targets[ours]), len(inputs), counted)


class InOrder:
    """All examples in the text's order, or the first of them up to a number of tokens."""

    def __init__(self, examples: Examples, tokens: int | None, part: Part = ALL) -> None:
        self._examples = examples
        self._part = part
        self._count = len(examples) if tokens is None else min(len(examples), max(1, tokens // examples.context))

    def __len__(self) -> int:
        return -(-self._count // EVALUATION_BATCH)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for first in range(0, self._count, EVALUATION_BATCH):
            inputs, targets = self._examples.take(np.arange(first, min(first + EVALUATION_BATCH, self._count)))
            yield _share(self._part, inputs, targets)


class TextData(TrainingData):
    """The text of a recipe, divided into parts."""

    def __init__(self, splits: TextSplits, recipe: TextRecipe, context: int) -> None:
        super().__init__()
        self.splits = splits
        self.recipe = recipe
        self.context = context

    def batches(self, epoch: int, part: Part = ALL) -> TextBatches:
        """The batches of an epoch."""
        count = (
            None
            if self.recipe.schedule.epoch_steps is None
            else self.recipe.schedule.epoch_steps * self.recipe.optimizer.accumulate
        )
        return TextBatches(self.splits.train, self.splits.task, self.recipe, self.context, count, epoch, part)

    @property
    def batches_per_epoch(self) -> int:
        return len(self.batches(0))

    def train_dataloader(self) -> TextBatches:
        if self.trainer is None:
            return self.batches(0)
        return self.batches(self.trainer.current_epoch, part_of(self.trainer, self.batches_per_epoch))

    def val_dataloader(self) -> InOrder:
        examples = evaluation_examples(
            self.splits.validation, self.splits.task, self.context, self.recipe.data.examples
        )
        return InOrder(examples, self.recipe.data.validation_tokens, part_of(self.trainer))


def evaluation_examples(text: TextSet, task: TextTask, context: int, kind: str) -> Examples:
    """The examples that a text is evaluated by."""
    tokenizer = Tokenizer(task)
    return Examples(
        text, context, "sentences" if kind == "sentences" else "windows", tokenizer.pad, tokenizer.separator
    )
