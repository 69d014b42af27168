"""The Lightning module that trains a network, binary or float: a classifier of images, or of next tokens."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.data.examples import NOT_COUNTED
from onebit.errors import OnebitError
from onebit.nn.bits import binary_layers
from onebit.optim import Bop, Together, bits_and_rest
from onebit.training.distillation import Teacher
from onebit.training.latents import (
    check_latents,
    clip_gradient,
    clip_latents,
    clipped_parameters,
    forget_gradients,
    pull,
    set_progress,
)
from onebit.training.layout import gathered_objects, total
from onebit.training.recipe import Recipe, TextRecipe
from onebit.training.sharding import ShardedStrategy, shard


class Classifier(lightning.LightningModule):
    """Cross-entropy, Adam, AdamW or Bop, warm-up and decay; what schemes ask of training; loss and accuracy of each epoch.

    Args:
        model: images (batch, channels, height, width) to logits (batch, classes), or tokens (batch, time) to logits (batch, time, vocabulary).
        recipe: of the optimiser and the schedule.
        batches_per_epoch: of the training set.
        tokens_per_byte: of the validation text, for bits per byte; None for images.
        teacher: a trained network to learn from, or None.

    Raises:
        OnebitError: the recipe asks for what the network's schemes do not bear, or for features that a network does not have.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        batches_per_epoch: int,
        tokens_per_byte: float | None = None,
        teacher: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.batches_per_epoch = batches_per_epoch
        accumulate = recipe.accumulate if isinstance(recipe, TextRecipe) else 1
        self.steps_per_epoch = -(-batches_per_epoch // accumulate)
        self.tokens_per_byte = tokens_per_byte
        self._sums = {"train": [0.0, 0.0, 0.0], "val": [0.0, 0.0, 0.0]}  # loss, right answers, targets
        self._resumed_random: list[Tensor] | None = None
        self._sharded = False
        self.epoch_metrics: dict[str, float] = {}
        self.layers = binary_layers(model)
        self._progressive = [m for m in model.modules() if isinstance(getattr(m, "progress", None), float)]
        self._clipped = clipped_parameters(model, self.layers)
        self._teacher = None if teacher is None else Teacher(model, teacher, recipe.distill_features or ())
        # What does not go together is said here, before anything is written.
        if recipe.optimizer == "bop":
            bits_and_rest(model)
        if recipe.pull:
            self._pull()

    def configure_model(self) -> None:
        if isinstance(self.trainer.strategy, ShardedStrategy) and not self._sharded:
            self._sharded = True
            shard(self.model, self.trainer.strategy.device_mesh)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["batches_per_epoch"] = self.batches_per_epoch
        checkpoint["sums"] = total(self._sums["train"], self.device)
        checkpoint["random"] = gathered_objects(self._random_state())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        first = self.global_rank == 0
        self._sums["train"] = checkpoint["sums"] if first else [0.0, 0.0, 0.0]
        # Another number of processes draws for itself: it divides the batch in another way.
        states = checkpoint["random"]
        self._resumed_random = states[self.global_rank] if len(states) == self.trainer.world_size else None

    def on_train_start(self) -> None:
        # An epoch that is resumed within does not start; one that does has its own seed.
        self._choose_stage()
        if self._resumed_random is not None:
            for state, restore in zip(
                self._resumed_random, (torch.set_rng_state, torch.cuda.set_rng_state), strict=False
            ):
                restore(state)

    def _random_state(self) -> list[Tensor]:
        """Of the CPU, and of the GPU where the network is on one."""
        return [torch.get_rng_state()] + ([torch.cuda.get_rng_state()] if self.device.type == "cuda" else [])

    def on_train_epoch_start(self) -> None:
        # Dropout's draws depend on the epoch alone, so that a resumed run repeats what an uninterrupted one does.
        # Each process draws for examples of its own.
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.current_epoch + self.global_rank * 1_000_000_007)
        self._sums["train"] = [0.0, 0.0, 0.0]
        self._choose_stage()
        if self.recipe.first_stage_epochs and self.current_epoch == self.recipe.first_stage_epochs:
            forget_gradients(self.optimizers(use_pl_optimizer=False))  # type: ignore[arg-type]

    def _choose_stage(self) -> None:
        for layer in self.layers.values():
            layer.float_weights = self._first_stage

    @property
    def _first_stage(self) -> bool:
        return self.current_epoch < self.recipe.first_stage_epochs

    def on_validation_epoch_start(self) -> None:
        self._sums["val"] = [0.0, 0.0, 0.0]

    def _measure(self, batch: tuple[Any, ...], part: str) -> tuple[Tensor, Tensor, int]:
        """The loss of a batch, its logits (images or tokens, classes or vocabulary), and how many of them count."""
        x, target = batch[:2]
        target = target.flatten()
        logits = self(x).float().flatten(0, -2)
        count = int((target != NOT_COUNTED).sum())
        # A share of a small batch may hold nothing that counts, of which there is no mean.
        loss = (
            F.cross_entropy(logits, target, ignore_index=NOT_COUNTED) if count or len(batch) == 2 else 0 * logits.sum()
        )
        sums = self._sums[part]
        sums[0] += loss.item() * count
        sums[1] += int((logits.argmax(1) == target).sum())
        sums[2] += count
        return loss, logits, count

    def training_step(self, batch: tuple[Any, ...], batch_index: int) -> Tensor:
        progress = self.global_step / (self.recipe.epochs * self.steps_per_epoch)
        set_progress(self._progressive, progress)
        loss, logits, count = self._measure(batch, "train")
        # The mean over the processes of what they return is to be the mean over the whole batch.
        by_target, by_example = 1.0, 1.0
        if len(batch) > 2:
            examples, targets = batch[2]
            by_target = self.trainer.world_size * count / targets
            by_example = self.trainer.world_size * len(batch[0]) / examples
        if not math.isfinite(loss.item()):
            raise OnebitError(
                f"[train] the loss is {loss.item()} at step {self.global_step + 1} (epoch {self.current_epoch + 1}): "
                "use a lower learning_rate; the last checkpoint stands"
            )
        if by_target != 1:
            loss = by_target * loss
        if self._teacher is not None and count:
            counted = batch[1].flatten() != NOT_COUNTED
            soft, apart = self._teacher.losses(batch[0], logits, counted, self.recipe.distill_temperature)
            weight = self.recipe.distill_weight
            apart = self.recipe.distill_feature_weight * by_example * apart
            loss = (1 - weight) * loss + weight * by_target * soft + apart
        if self.recipe.pull:
            # From nothing to its full strength, so that bits are still free to flip early.
            loss = loss + self.recipe.pull * progress * self._pull()
        return loss

    def _pull(self) -> Tensor:
        return torch.stack([pull(layer) for layer in self.layers.values()]).sum()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.recipe.optimizer != "bop":
            clip_latents(self.layers.values())
        check_latents(self.layers, f"step {self.global_step + 1} (epoch {self.current_epoch + 1})")

    def validation_step(self, batch: tuple[Any, ...], batch_index: int) -> None:
        self._measure(batch, "val")

    def on_validation_epoch_end(self) -> None:
        for part, sums in self._sums.items():
            loss, right, count = total(sums, self.device)
            if count:
                self.epoch_metrics[f"{part}_loss"] = loss / count
                self.epoch_metrics[f"{part}_accuracy"] = right / count
        if self.tokens_per_byte is not None:
            bits = self.epoch_metrics["val_loss"] / math.log(2)
            self.epoch_metrics["val_bits_per_byte"] = bits * self.tokens_per_byte
        self.epoch_metrics["learning_rate"] = self.optimizers().param_groups[0]["lr"]  # type: ignore[union-attr]
        # A network whose weights are still float is none to choose: NaN is never the best.
        unfit = {"val_loss": math.nan, "val_accuracy": math.nan} if self._first_stage else {}
        self.log_dict(self.epoch_metrics | unfit)

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        kind = torch.optim.AdamW if isinstance(recipe, TextRecipe) else torch.optim.Adam
        bits, rest = bits_and_rest(self.model) if recipe.optimizer == "bop" else ([], list(self.parameters()))
        # Bits alone leave nothing to Adam, which refuses an empty list.
        adam = [kind(rest, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)] if rest else []
        optimizer: torch.optim.Optimizer = (
            Together([*adam, Bop(bits, recipe.bop_gamma, recipe.bop_threshold)]) if bits else adam[0]
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        # Lightning's own refuses fused optimisers in mixed precision, though bfloat16 has no scaled gradients.
        if isinstance(self.recipe, TextRecipe) and self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters(), self.recipe.clip)
        for parameter, share, axis in self._clipped:
            clip_gradient(parameter, share, axis)

    def _rate(self, step: int) -> float:
        """The share of the highest learning rate at a step; each of two stages has a whole schedule."""
        recipe = self.recipe
        first, whole = (epochs * self.steps_per_epoch for epochs in (recipe.first_stage_epochs, recipe.epochs))
        step, length = (step, first) if step < first else (step - first, whole - first)
        unit = self.steps_per_epoch if recipe.schedule_unit == "epoch" else 1
        warmup = recipe.warmup * unit
        end = recipe.decay * unit if recipe.decay is not None else length
        if step < warmup:
            return (step + 1) / warmup
        if recipe.schedule == "constant":
            return 1.0
        progress = min(1.0, (step - warmup) / max(1, end - warmup))
        return 1 - progress if recipe.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
