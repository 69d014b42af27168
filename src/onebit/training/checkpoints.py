"""Checkpoints: when they are written, whole or not at all, and whether one is of the network that is to go on from it."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from onebit.errors import OnebitError
from onebit.fileformat import write_atomically


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that a full disk or an interruption never leaves half written."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, buffer.getbuffer())
        except OSError as error:
            raise OnebitError(
                f"[{path}] the checkpoint cannot be written ({error.strerror}); the one before it stands: make room, and go on with --resume"
            ) from None


class Checkpoints(Checkpoint):
    """Writes best.ckpt and last.ckpt after each epoch, and last.ckpt within one after so many steps.

    Lightning's own callback writes last.ckpt before it knows whether the epoch is the best, or forgets within an epoch which was.

    Args:
        folder: of the files.
        monitor: the metric whose best epoch is kept, in which NaN is never the best; None: last.ckpt only.
        highest: whether the highest is the best, or the lowest.
        steps: between two checkpoints within an epoch; None for none.
    """

    def __init__(self, folder: Path, monitor: str | None, highest: bool, steps: int | None) -> None:
        self._folder = folder
        self._monitor = monitor
        self._sign = 1 if highest else -1
        self._steps = steps
        self._best = -math.inf

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best = state_dict["best"]

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Between two batches of one step there are gradients, which no checkpoint holds; after an epoch's last batch its own follows.
        whole_step = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        due = self._steps is not None and trainer.global_step % self._steps == 0
        if due and whole_step and batch_idx + 1 < pl_module.batches_per_epoch:
            trainer.save_checkpoint(self._folder / "last.ckpt")

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        if self._monitor is not None:
            score = self._sign * trainer.callback_metrics[self._monitor].item()
            # The best goes first: where the run ends in between, the epoch is trained again, and is the best again.
            if score > self._best:
                self._best = score
                trainer.save_checkpoint(self._folder / "best.ckpt")
        trainer.save_checkpoint(self._folder / "last.ckpt")


def check_checkpoint(file: Path, model: nn.Module, batches_per_epoch: int, epochs: int) -> None:
    """Refuse a checkpoint that training cannot go on from, and clear away what a write that was cut short has left next to it.

    Raises:
        OnebitError: it is damaged, of another network or other data, or of a later epoch than the run is to have.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        state = {name.removeprefix("model."): value for name, value in content["state_dict"].items()}
        batches = content["batches_per_epoch"]
        begun = content["loops"]["fit_loop"]["epoch_progress"]["current"]["ready"]
    except Exception as error:  # torch.load raises many kinds, several lines each
        reason = " ".join(str(error).split())[:100]
        raise OnebitError(
            f"[{file}] damaged, or no checkpoint of 'onebit train' ({reason}): delete it to begin anew, or give another --out"
        ) from None
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for name in sorted(shapes | state, key=str):
        there = tuple(state[name].shape) if name in state else "nothing"
        here = shapes.get(name, "nothing")
        if there != here:
            raise OnebitError(
                f"[{file}] is of another network: {name} is {there} there and {here} here: resume with the recipe that it was trained with"
            )
    if batches != batches_per_epoch:
        raise OnebitError(
            f"[{file}] is of other data: an epoch had {batches} batches, and has {batches_per_epoch}: give the same data, or another --out"
        )
    if begun > epochs:
        raise OnebitError(
            f"[{file}] is of epoch {begun}, and epochs={epochs}: resume with epochs={begun} or more, or give another --out"
        )
    for part in file.parent.glob(".*.part"):
        part.unlink(missing_ok=True)
