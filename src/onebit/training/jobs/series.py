"""The training of networks of sensors' measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.data.arrays import ArraySplits
from onebit.data.series import Cut, classes_of, load_series, metrics_of, splits_for
from onebit.metrics import Metrics
from onebit.models import series_network
from onebit.tasks.series import SeriesClassification, SeriesRegression, SeriesTask
from onebit.training.jobs.arrays import ArrayJob
from onebit.training.objective import Measured, Objective
from onebit.training.recipe.series import SeriesRecipe


@dataclass(frozen=True)
class Numbers(Objective):
    """The mean square error of numbers that are scaled to unit deviation; their mean absolute error is shown in place of an accuracy."""

    def measured(self, outputs: Tensor, target: Tensor, whole: bool = True) -> Measured:
        outputs = outputs.float()
        count = torch.tensor(len(target), device=outputs.device)
        with torch.no_grad():
            off = (outputs - target).abs().sum()
        return Measured(F.mse_loss(outputs, target.to(outputs)), outputs, off, count)

    def figures(self, part: str, loss: float, accuracy: float) -> dict[str, float]:
        return {f"{part}_loss": loss, f"{part}_mean_absolute_error": accuracy}


class SeriesJob(ArrayJob):
    """Windows of measurements, and their classes or numbers."""

    recipe_kind: ClassVar = SeriesRecipe
    task_kind: ClassVar = SeriesTask

    @staticmethod
    def best_by() -> str:
        return "val_loss"  # few recordings make accuracies that are equal by chance

    @property
    def calibrates(self) -> bool:  # type: ignore[override]
        return isinstance(self.task, SeriesClassification) and bool(self._recipe.model.calibrate)

    @staticmethod
    def read(recipe: SeriesRecipe) -> tuple[ArraySplits, SeriesTask]:
        data = recipe.data
        cut = Cut(data.length, data.stride or max(1, data.length // 2), data.task == "classification")
        parts = load_series(data.source, cut, data.columns, data.target, data.validation_share, recipe.run.seed)
        seen = parts.train.numbers
        mean = seen.mean((0, 1), dtype=np.float64)
        std = seen.std((0, 1), dtype=np.float64)
        common: dict[str, Any] = {
            "columns": parts.train.columns,
            "length": cut.length,
            "stride": cut.stride,
            "mean": tuple(map(float, mean)),
            # A column that never changes says nothing; it stays 0.
            "std": tuple(float(s) if s > 1e-12 * max(1.0, abs(m)) else 1.0 for s, m in zip(std, mean, strict=True)),
            "target": data.target or "",
        }
        if cut.classes:
            labels, _ = classes_of(data.source, parts.train)
            task: SeriesTask = SeriesClassification(**common, labels=labels)
        else:
            values = parts.train.values
            task = SeriesRegression(**common, target_mean=float(values.mean()), target_std=float(values.std()) or 1.0)
        return splits_for(parts, task, data.source), task

    @staticmethod
    def network(recipe: SeriesRecipe, task: SeriesTask) -> nn.Module:
        model = recipe.model
        outputs = len(task.labels) if isinstance(task, SeriesClassification) else 1
        scheme = recipe.scheme.made if model.binary else None
        own = model.given("widths", "kernel_size", "hybrid", "logit_scale")
        return series_network(len(task.columns), outputs, task.length, scheme=scheme, **own)

    @staticmethod
    def objective_of(recipe: SeriesRecipe, task: SeriesTask) -> Objective:
        return Objective() if isinstance(task, SeriesClassification) else Numbers()

    @staticmethod
    def told(result: dict[str, Any]) -> str:
        count = result["test_inputs"]
        if "test_accuracy" in result:
            return f"accuracy {100 * result['test_accuracy']:.2f} % on {count} test windows"
        error, r2 = result["test_mean_absolute_error"], result["test_r2"]
        return f"mean absolute error {error:.4g}, R2 {r2:.3f} on {count} test windows"

    @staticmethod
    def metrics(task: SeriesTask) -> Metrics:
        return metrics_of(task)
