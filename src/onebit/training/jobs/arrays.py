"""The training of what every kind of task but images and text is: arrays in, arrays out."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from onebit.confidence import fit_temperature
from onebit.data.arrays import ArraySet, ArraySplits
from onebit.errors import RecipeError
from onebit.metrics import Metrics
from onebit.tasks.array_task import ArrayTask
from onebit.training.arrays import ArrayData, Augment, outputs_of
from onebit.training.estimation import adapted
from onebit.training.jobs.job import Job, Note
from onebit.training.objective import Objective
from onebit.training.recipe import Recipe


class ArrayJob(Job):
    """Arrays and what is to be said of them. A kind of task has a subclass that says how they are read, and what the network is."""

    task_kind: ClassVar[type[ArrayTask]]
    calibrates: ClassVar[bool] = False
    """Whether a temperature is fitted to the validation part at the end; of outputs that are logits of classes."""

    task: ArrayTask

    def __init__(self, recipe: Any, note: Note) -> None:
        self._recipe = recipe
        self._splits, self.task = self.read(recipe)
        for line in self._splits.notes:
            note(line)
        torch.manual_seed(recipe.run.seed)
        self.model = self.build(recipe, self.task)
        batch_size = recipe.optimizer.batch_size
        self.data = ArrayData(self._splits, self.task, batch_size, recipe.run.seed, self.augment(recipe, self.task))
        self.objective = self.objective_of(recipe, self.task)
        # What the test part is for is to report on: without a part set aside nothing can be chosen or fitted.
        self._validates = self._splits.validation is not self._splits.test
        self.monitor = self.best_by() if self._validates else None

    @staticmethod
    @abstractmethod
    def read(recipe: Any) -> tuple[ArraySplits, Any]:
        """The data of a recipe, and the task that describes them; raises DataError."""

    @staticmethod
    @abstractmethod
    def network(recipe: Any, task: Any) -> nn.Module:
        """The network that a recipe describes; raises ValueError where its sizes do not fit."""

    @classmethod
    def build(cls, recipe: Recipe, task: Any) -> nn.Module:
        try:
            return adapted(cls.network(recipe, task), recipe.optimizer.made, recipe.model.learned_scales)
        except ValueError as error:
            raise RecipeError(str(error)) from None

    @staticmethod
    def augment(recipe: Any, task: Any) -> Augment | None:
        """What is changed of inputs in training."""
        return None

    @staticmethod
    def objective_of(recipe: Any, task: Any) -> Objective:
        """The loss, and the figures of an epoch."""
        return Objective()

    @staticmethod
    def best_by() -> str:
        """The figure that chooses the best epoch; the highest counts, or the lowest of one that ends in "_loss"."""
        return "val_accuracy"

    @staticmethod
    @abstractmethod
    def metrics(task: Any) -> Metrics:
        """Takes outputs, and gives the figures of a test."""

    def test(self, trained: nn.Module) -> dict[str, Any]:
        temperature = 1.0
        if self.calibrates and self._validates:
            temperature = _temperature(trained, self._splits.validation, self.task)
        task = replace(self.task, temperature=temperature)
        metrics = self.metrics(task)
        for outputs, part in outputs_of(trained, self._splits.test, task):
            metrics.add(outputs, part.answers, part.groups)
        figures = {
            f"test_{name}": value for name, value in metrics.figures().items() if isinstance(value, (int, float))
        }
        counts = {f"{name}_inputs": len(getattr(self._splits, name)) for name in ("test", "train")}
        return {**({"temperature": temperature} if self.calibrates else {}), **figures, **counts}


def _temperature(model: nn.Module, arrays: ArraySet, task: ArrayTask) -> float:
    answers = [(outputs, part.targets) for outputs, part in outputs_of(model, arrays, task)]
    return fit_temperature(np.concatenate([a for a, _ in answers]), np.concatenate([b for _, b in answers]))
