"""Run folders: what a training leaves, and reading it again."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from onebit.data.record import DataRecord
from onebit.errors import DataError, OnebitError, shown
from onebit.fileformat import write_atomically
from onebit.images import ImageTask
from onebit.nn import set_calibration
from onebit.paths import expand
from onebit.printable import printable
from onebit.tasks.kinds import KINDS
from onebit.text import TextTask
from onebit.training.exit_calibration import KEY
from onebit.training.jobs import AnyTask, build_model, job_kind
from onebit.training.recipe import Recipe, load_recipe
from onebit.training.sources import read_fingerprints, record_of


@dataclass(frozen=True)
class Run:
    """A run folder, read. `str` is a line with its result.

    Args:
        path: the folder.
        recipe: what was trained.
        task: labels, size and scaling; or the tokenizer.
        model: of the checkpoint, in evaluation mode, float32, on the CPU.
        epochs: how many the checkpoint has had.
        known: the fingerprints of what it was trained on; see `onebit.training.sources`. None for a run of an older onebit.
    """

    path: Path
    recipe: Recipe
    task: AnyTask
    model: nn.Module
    epochs: int
    known: dict[str, str | None] | None = None

    def __str__(self) -> str:
        result, shown = self.result(), printable(self.path)
        if not result:
            return f"{shown}: not finished (epoch {self.epochs} of {self.recipe.schedule.epochs})"
        when = f"(epoch {result['chosen_epoch']} of {result['epochs']}), {result['seconds']:.0f} s"
        return f"{shown}: {job_kind(self.recipe).told(result)} {when}"

    def to_dict(self) -> dict[str, Any]:
        """As plain values, without the network: the folder, the recipe, the epochs and the result."""
        return {
            "path": str(self.path),
            "recipe": self.recipe.to_dict(),
            "epochs": self.epochs,
            "result": self.result(),
        }

    @property
    def record(self) -> DataRecord | None:
        """What the network was trained on; None where that is not known."""
        return record_of(self.recipe, self.known)

    @property
    def training(self) -> dict[str, Any] | None:
        """The record as plain values, for `onebit.pack`."""
        record = self.record
        return None if record is None else record.to_json()

    def curves(self) -> list[dict[str, float]]:
        """A row for each epoch: loss and accuracy in training and validation, learning rate, seconds."""
        with (self.path / "curves.csv").open(newline="") as file:
            return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]

    def result(self) -> dict[str, Any]:
        """What the finished run wrote to result.json; empty where it has not finished. Raises OnebitError if it is damaged."""
        return _result(self.path)


def _result(folder: Path) -> dict[str, Any]:
    path = folder / "result.json"
    try:
        values = json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise OnebitError(f"[{path}] damaged: {error}") from None
    if not isinstance(values, dict):
        raise OnebitError(f"[{path}] damaged: it is not an object")
    return values


def with_temperature(task: AnyTask, folder: Path) -> AnyTask:
    """The task with what was fitted when training ended; an older run has no temperature."""
    if isinstance(task, TextTask):
        return task
    value = _result(folder).get("temperature", 1.0)
    try:
        return replace(task, temperature=value)
    except DataError:
        raise OnebitError(
            f"[{folder / 'result.json'}] temperature={shown(value)}: damaged, needs a number above 0"
        ) from None


def _calibrate(model: nn.Module, folder: Path) -> None:
    """Give the heads of a network what was fitted when training ended; a network without exits has nothing."""
    try:
        set_calibration(model, _result(folder).get(KEY, {}))
    except ValueError as error:
        raise OnebitError(f"[{folder / 'result.json'}] {KEY}: damaged: {error}") from None


def read_task(values: Any) -> AnyTask:
    """A task from its JSON values, of whichever kind; raises FormatError where they describe none."""
    kind = values.get("kind") if isinstance(values, dict) else None
    if isinstance(kind, str) and kind in KINDS:
        return KINDS[kind].from_json(values)
    return TextTask.from_json(values) if kind == "text-generation" else ImageTask.from_json(values)


def load_run(path: str | Path, which: Literal["best", "last"] = "best") -> Run:
    """Read a run folder.

    Args:
        path: the folder.
        which: "best" by validation accuracy (of text by validation loss); the last where the run kept no best, having had no validation images of
            its own.

    Raises:
        OnebitError: it is not a run folder, has no checkpoint yet, or is damaged.
    """
    path = expand(path)
    if not (path / "recipe.yaml").is_file() or not (path / "task.json").is_file():
        raise OnebitError(f"[{path}] is not a run folder: give one that 'onebit train' made")
    recipe = load_recipe(path / "recipe.yaml")
    try:
        task = read_task(json.loads((path / "task.json").read_text()))
    except ValueError as error:
        raise OnebitError(f"[{path / 'task.json'}] damaged: {error}") from None
    file = path / "checkpoints" / f"{which}.ckpt"
    if which == "best" and not file.exists():
        file = path / "checkpoints" / "last.ckpt"
    if not file.exists():
        raise OnebitError(f"[{path}] has no checkpoint yet: let it train for an epoch")
    model = build_model(recipe, task)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        state = {key.removeprefix("model."): value for key, value in content["state_dict"].items()}
        model.load_state_dict(state)
        epochs = min(
            int(content["epoch"]) + 1, recipe.schedule.epochs
        )  # Lightning counts one more when training has ended
    except Exception as error:  # torch.load and load_state_dict raise many kinds, several lines each
        reason = " ".join(str(error).split())[:200]
        raise OnebitError(f"[{file}] damaged, or of another recipe ({reason})") from None
    _calibrate(model, path)
    return Run(path, recipe, with_temperature(task, path), model.eval(), epochs, read_fingerprints(path))


def write_json(path: Path, values: Any) -> None:
    """Write plain values as JSON, whole or not at all."""
    write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())
