"""The Lightning module that trains a classifier, binary or float."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.errors import OnebitError
from onebit.training.recipe import Recipe


class Classifier(lightning.LightningModule):
    """Cross-entropy, Adam, warm-up and decay; loss and accuracy of each epoch.

    Args:
        model: images (batch, channels, height, width) to logits (batch, classes).
        recipe: of the optimiser and the schedule.
        steps_per_epoch: of the training set.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, steps_per_epoch: int) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.steps_per_epoch = steps_per_epoch
        self._sums = {"train": [0.0, 0.0, 0.0], "val": [0.0, 0.0, 0.0]}  # loss, right answers, images
        self.epoch_metrics: dict[str, float] = {}

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits

    def on_train_epoch_start(self) -> None:
        # Dropout's draws depend on the epoch alone, so that a resumed run repeats what an uninterrupted one does.
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.current_epoch)
        self._sums["train"] = [0.0, 0.0, 0.0]

    def on_validation_epoch_start(self) -> None:
        self._sums["val"] = [0.0, 0.0, 0.0]

    def _measure(self, batch: tuple[Tensor, Tensor], part: str) -> Tensor:
        x, target = batch
        logits = self(x).float()
        loss = F.cross_entropy(logits, target)
        sums = self._sums[part]
        sums[0] += loss.item() * len(target)
        sums[1] += int((logits.argmax(1) == target).sum())
        sums[2] += len(target)
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        loss = self._measure(batch, "train")
        if not math.isfinite(loss.item()):
            raise OnebitError(
                f"[train] the loss is {loss.item()} at step {self.global_step + 1} (epoch {self.current_epoch + 1}): "
                "use a lower learning_rate; the last epoch's checkpoint stands"
            )
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        self._measure(batch, "val")

    def on_validation_epoch_end(self) -> None:
        for part, (loss, right, images) in self._sums.items():
            if images:
                self.epoch_metrics[f"{part}_loss"] = loss / images
                self.epoch_metrics[f"{part}_accuracy"] = right / images
        self.epoch_metrics["learning_rate"] = self.optimizers().param_groups[0]["lr"]  # type: ignore[union-attr]
        self.log_dict(self.epoch_metrics)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(
            self.parameters(), lr=self.recipe.learning_rate, weight_decay=self.recipe.weight_decay, fused=True
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        """The share of the highest learning rate at a step."""
        recipe = self.recipe
        unit = self.steps_per_epoch if recipe.schedule_unit == "epoch" else 1
        warmup = recipe.warmup * unit
        end = recipe.decay * unit if recipe.decay is not None else recipe.epochs * self.steps_per_epoch
        if step < warmup:
            return (step + 1) / warmup
        if recipe.schedule == "constant":
            return 1.0
        progress = min(1.0, (step - warmup) / max(1, end - warmup))
        return 1 - progress if recipe.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
