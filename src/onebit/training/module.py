"""The Lightning module that trains a network, binary or float, of any kind."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from onebit.errors import OnebitError
from onebit.nn.binary import binary_layers
from onebit.nn.planes import most_planes, use_planes
from onebit.optim import Bop, Together, bits_and_rest, matrices_and_rest, muon
from onebit.training.compiled import Compiled
from onebit.training.distillation import Teacher
from onebit.training.latents import (
    check_corrected,
    check_latents,
    clip_gradient,
    clip_latents,
    clipped_parameters,
    correct_latents,
    correction_strength,
    follows_progress,
    forget_gradients,
    pull,
    set_progress,
)
from onebit.training.layout import gathered_objects, total
from onebit.training.objective import Objective, counted
from onebit.training.pruning import HeadPruning
from onebit.training.recipe import Recipe
from onebit.training.sharding import ShardedStrategy, shard

# A GPU computes so many steps ahead of the look whether all numbers are finite: reading a number waits for all that computes it.
STEPS_UNSEEN = 10


class TrainingModule(lightning.LightningModule):
    """The objective of a job, Adam, AdamW, Bop or Muon, warm-up and decay; what schemes ask of training; loss and accuracy of each epoch.

    Args:
        model: images (batch, channels, height, width) to logits (batch, classes), tokens (batch, time) to logits (batch, time, vocabulary), or what
            else the objective measures.
        recipe: of the optimizer and the schedule.
        batches_per_epoch: of the training set.
        objective: the loss, and the figures of an epoch.
        teacher: a trained network to learn from, or None.
        note: takes lines for the user.

    Raises:
        OnebitError: the recipe asks for what the network's schemes do not bear, or for features that a network does not have.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        batches_per_epoch: int,
        objective: Objective = Objective(),  # noqa: B008, which is frozen
        teacher: nn.Module | None = None,
        note: Callable[[str], object] = lambda line: None,
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.batches_per_epoch = batches_per_epoch
        self.accumulate = recipe.optimizer.accumulate
        self.steps_per_epoch = -(-batches_per_epoch // self.accumulate)
        self.objective = objective
        self._sums = {"train": self._nothing(), "val": self._nothing()}
        self._unseen: list[tuple[int, Tensor]] = []  # steps and losses
        self._steps_unseen = 1
        self._planes = most_planes(model)
        self._resumed_random: list[Tensor] | None = None
        self._sharded = False
        self.epoch_metrics: dict[str, float] = {}
        self.layers = binary_layers(model)
        self._progressive = [m for m in model.modules() if follows_progress(m)]
        self._clipped = clipped_parameters(model, self.layers)
        self._teacher = None if teacher is None else Teacher(model, teacher, recipe.teacher.features or ())
        self._note = note
        self._compiled: Compiled | None = None
        self._pruning = head_pruning(model, recipe, self.steps_per_epoch)
        # What does not go together is said here, before anything is written.
        self._own_parameters()
        if recipe.optimizer.pull:
            self._pull()
        if recipe.optimizer.cage:
            check_corrected(self.layers.values())

    def configure_model(self) -> None:
        if isinstance(self.trainer.strategy, ShardedStrategy) and not self._sharded:
            self._sharded = True
            if self._pruning is not None:
                raise OnebitError(
                    "[head_share] a network that is sharded is not pruned: use one device, or head_share=1"
                )
            shard(self.model, self.trainer.strategy.device_mesh)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits

    def on_fit_start(self) -> None:
        self._steps_unseen = steps_unseen(self.device)
        if self.recipe.run.compile and self._sharded:
            self._note(
                "[compile] a network that is sharded gathers its latents between its layers: training goes on uncompiled"
            )
        elif self.recipe.run.compile:
            self._compiled = Compiled(self.model, self._note, self.accumulate > 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._look()  # no checkpoint of a loss that is not finite
        checkpoint["batches_per_epoch"] = self.batches_per_epoch
        checkpoint["sums"] = total(self._sums["train"])
        checkpoint["random"] = gathered_objects(self._random_state())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        first = self.global_rank == 0
        self._sums["train"] = self._nothing()
        if first:
            self._sums["train"] += torch.tensor(checkpoint["sums"], dtype=torch.float64).to(self._sums["train"])
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
        torch.manual_seed(self.recipe.run.seed * 1_000_003 + self.current_epoch + self.global_rank * 1_000_000_007)
        self._sums["train"] = self._nothing()
        self._choose_stage()
        if self.recipe.schedule.first_stage_epochs and self.current_epoch == self.recipe.schedule.first_stage_epochs:
            forget_gradients(self.optimizers(use_pl_optimizer=False))  # type: ignore[arg-type]

    def _choose_stage(self) -> None:
        for layer in self.layers.values():
            layer.float_weights = self._first_stage

    @property
    def _first_stage(self) -> bool:
        return self.current_epoch < self.recipe.schedule.first_stage_epochs

    def on_validation_epoch_start(self) -> None:
        use_planes(self.model, self._planes)
        self._look()
        self._sums["val"] = self._nothing()

    def _nothing(self) -> Tensor:
        """Sums to add to, on the device: of losses, right answers and targets."""
        # Apple's GPUs have no float64.
        return torch.zeros(3, dtype=torch.float32 if self.device.type == "mps" else torch.float64, device=self.device)

    def _network(self, x: Tensor, batch_index: int) -> Callable[[Tensor], Tensor]:
        """What computes a batch of training: uncompiled where the batch is not whole, and for the epoch's last, at which layers are looked into."""
        whole = len(x) * self.trainer.world_size == self.recipe.optimizer.batch_size
        usual = whole and batch_index < self.batches_per_epoch - 1
        return self._compiled if self._compiled is not None and usual else self

    def _measure(
        self, batch: tuple[Any, ...], part: str, network: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of a batch, its logits (images or tokens, classes or vocabulary), and how many of them count."""
        found = network(batch[0])
        heads = found if isinstance(found, tuple) else (found,)  # of each exit, and of the network's end
        measured = [self.objective.measured(head.float(), batch[1], whole=len(batch) == 2) for head in heads]
        made = replace(measured[-1], loss=torch.stack([one.loss for one in measured]).mean())
        with torch.no_grad():
            sums = self._sums[part]
            self._sums[part] = sums + torch.stack([made.loss * made.count, made.right, made.count]).to(sums)
        return made.loss, made.logits, made.count

    @property
    def _progress(self) -> float:
        """How far training has come, 0 to 1."""
        return self.global_step / (self.recipe.schedule.epochs * self.steps_per_epoch)

    def training_step(self, batch: tuple[Any, ...], batch_index: int) -> Tensor:
        progress = self._progress
        set_progress(self._progressive, progress)
        if self._planes > 1:
            # Each number in turn, the most first: a resumed run goes on where it was.
            use_planes(self.model, self._planes - self.global_step % self._planes)
        loss, logits, count = self._measure(batch, "train", self._network(batch[0], batch_index))
        self._unseen.append((self.global_step + 1, loss.detach()))
        if len(self._unseen) >= self._steps_unseen:
            self._look()
        # The mean over the processes of what they return is to be the mean over the whole batch.
        by_target: float | Tensor = 1.0
        by_example = 1.0
        if len(batch) > 2:
            examples, targets = batch[2]
            by_target = self.trainer.world_size * count / targets
            by_example = self.trainer.world_size * len(batch[0]) / examples
            loss = by_target * loss
        if self._teacher is not None and (len(batch) == 2 or count):
            which = counted(batch[1])
            soft, apart = self._teacher.losses(batch[0], logits, which, self.recipe.teacher.temperature)
            weight = self.recipe.teacher.weight
            apart = self.recipe.teacher.feature_weight * by_example * apart
            loss = (1 - weight) * loss + weight * by_target * soft + apart
        if self.recipe.optimizer.pull:
            # From nothing to its full strength, so that bits are still free to flip early.
            loss = loss + self.recipe.optimizer.pull * progress * self._pull()
        return loss

    def on_after_backward(self) -> None:
        if self._compiled is None or not self._compiled.unproven:
            return
        # A compiler that loses gradients says nothing, and the network would learn nothing; PyTorch's has done so.
        self._compiled.unproven = False
        if not any(p.grad is not None and bool(p.grad.any()) for p in self.model.parameters()):
            self._note("[compile] torch.compile of this PyTorch loses the gradients: training goes on uncompiled")
            self._compiled = None

    def _look(self) -> None:
        """Stop at the first loss that is not finite, of the steps since the last look."""
        unseen, self._unseen = self._unseen, []
        losses = torch.stack([loss for _, loss in unseen]).tolist() if unseen else []
        for (step, _), loss in zip(unseen, losses, strict=True):
            if not math.isfinite(loss):
                raise OnebitError(
                    f"[train] the loss is {loss} at step {step} (epoch {self.current_epoch + 1}): "
                    "use a lower learning_rate; the last checkpoint stands"
                )

    def _pull(self) -> Tensor:
        return torch.stack([pull(layer) for layer in self.layers.values()]).sum()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        if self._progress >= self.recipe.optimizer.weight_decay_until:
            for group in self.optimizers(use_pl_optimizer=False).param_groups:  # type: ignore[union-attr]
                if "weight_decay" in group:  # not one of bits
                    group["weight_decay"] = 0.0
        pruned = None if self._pruning is None else self._pruning.pruned()
        super().optimizer_step(*args, **kwargs)
        if self._pruning is not None and pruned is not None:
            self._pruning.after_step(self.global_step + 1, pruned)
        if self.recipe.optimizer.name != "bop":
            self._treat_latents()
        if self._steps_unseen > 1:
            if (self.global_step + 1) % self._steps_unseen:
                return
            self._look()  # a loss that was not finite before is the cause
        check_latents(self.layers, f"step {self.global_step + 1} (epoch {self.current_epoch + 1})")

    def _treat_latents(self) -> None:
        """What latents undergo after a step: the correction of CAGE where the recipe asks for it, and their scheme's limits."""
        if self.recipe.optimizer.cage:
            strength = correction_strength(self.recipe.optimizer.cage, self._progress)
            correct_latents(self.layers.values(), self.optimizers(use_pl_optimizer=False), strength)  # type: ignore[arg-type]
        clip_latents(self.layers.values())

    def validation_step(self, batch: tuple[Any, ...], batch_index: int) -> None:
        self._measure(batch, "val", self)

    def on_validation_epoch_end(self) -> None:
        for part, sums in self._sums.items():
            loss, right, count = total(sums)
            if count:
                self.epoch_metrics |= self.objective.figures(part, loss / count, right / count)
        self.epoch_metrics["learning_rate"] = self.optimizers().param_groups[0]["lr"]  # type: ignore[union-attr]
        # A network whose weights are still float, or not yet pruned, must not be chosen: NaN is never the best.
        early = self._first_stage or (self._pruning is not None and not self._pruning.done)
        unfit = {name: math.nan for name in self.epoch_metrics if name.startswith("val_")} if early else {}
        self.log_dict(self.epoch_metrics | unfit)

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        kind: Callable[..., torch.optim.Optimizer] = (
            torch.optim.AdamW if recipe.decoupled_weight_decay else torch.optim.Adam
        )
        momentum: dict[str, Any] = {}
        if recipe.optimizer.name == "sgd":
            kind = torch.optim.SGD
            momentum = {"momentum": recipe.optimizer.momentum, "nesterov": recipe.optimizer.momentum > 0}
        own, rest = self._own_parameters()
        options: dict[str, Any] = {
            "lr": recipe.optimizer.learning_rate,
            "weight_decay": recipe.optimizer.weight_decay,
        }
        # Bits alone leave nothing to Adam, which refuses an empty list.
        parts: list[torch.optim.Optimizer] = (
            [kind(self._groups(rest), fused=True, **options, **momentum)] if rest else []
        )
        if recipe.optimizer.name == "bop":
            parts.append(Bop(own, recipe.optimizer.bop_gamma, recipe.optimizer.bop_threshold))
        elif recipe.optimizer.name == "muon":
            parts.append(muon(own, ns_steps=recipe.optimizer.muon_steps, **options))
        optimizer = Together(parts) if own else parts[0]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _own_parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The parameters of the optimizer that the recipe names, and those that Adam (or SGD) has."""
        name = self.recipe.optimizer.name
        if name in ("adam", "sgd"):
            return [], list(self.parameters())
        return bits_and_rest(self.model) if name == "bop" else matrices_and_rest(self.model)

    def _groups(self, parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
        """The parameters, those of embeddings with a learning rate of their own where the recipe gives them one."""
        rate = self.recipe.optimizer.embedding_rate
        if rate == 1:
            return [{"params": parameters}]
        tables = [m for m in self.model.modules() if isinstance(m, nn.Embedding)]
        own = {id(p) for table in tables for p in table.parameters()}
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if id(p) not in own]},
            {"params": [p for p in parameters if id(p) in own], "lr": rate * self.recipe.optimizer.learning_rate},
        ]
        return [group for group in groups if group["params"]]

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        # Lightning's own refuses fused optimizers in mixed precision, though bfloat16 has no scaled gradients.
        if self.recipe.optimizer.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters(), self.recipe.optimizer.clip)
        for parameter, share, axis in self._clipped:
            clip_gradient(parameter, share, axis)

    def _rate(self, step: int) -> float:
        """The share of the highest learning rate at a step; each of two stages has a whole schedule."""
        recipe = self.recipe
        first, whole = (
            epochs * self.steps_per_epoch for epochs in (recipe.schedule.first_stage_epochs, recipe.schedule.epochs)
        )
        step, length = (step, first) if step < first else (step - first, whole - first)
        unit = self.steps_per_epoch if recipe.schedule.unit == "epoch" else 1
        warmup = recipe.schedule.warmup * unit
        end = recipe.schedule.decay * unit if recipe.schedule.decay is not None else length
        if step < warmup:
            return (step + 1) / warmup
        if recipe.schedule.name == "constant":
            return 1.0
        progress = min(1.0, (step - warmup) / max(1, end - warmup))
        return 1 - progress if recipe.schedule.name == "linear" else 0.5 * (1 + math.cos(math.pi * progress))


def head_pruning(model: nn.Module, recipe: Recipe, steps_per_epoch: int) -> HeadPruning | None:
    """What prunes the last layer as a recipe says; None where it says that all weights stay. Raises OnebitError."""
    own = recipe.optimizer
    if own.head_share == 1:
        return None
    steps = recipe.schedule.epochs * steps_per_epoch
    return HeadPruning(model, own.head_share, own.head_pruning_begins, own.head_pruning_ends, steps)


def steps_unseen(device: torch.device) -> int:
    """How many steps a device computes between two looks at their numbers; on a CPU a look costs nothing."""
    return 1 if device.type == "cpu" else STEPS_UNSEEN
