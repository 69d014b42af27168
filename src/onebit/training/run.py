"""Run folders: what a training leaves behind, and reading it again."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from onebit.data.record import DataRecord
from onebit.errors import OnebitError, RecipeError
from onebit.fileformat import write_atomically
from onebit.images import ImageTask
from onebit.models import (
    alexnet,
    conv_classifier,
    decoder_sizes,
    language_decoder,
    language_lstm,
    mlp,
    mobile_net,
    resnet,
    sequence_classifier,
    vgg,
)
from onebit.paths import expand
from onebit.printable import printable
from onebit.text import TextTask
from onebit.training.recipe import CELLS, ImageRecipe, Recipe, TextRecipe, load_recipe
from onebit.training.sources import read_fingerprints, record_of


@dataclass(frozen=True)
class Run:
    """A run folder, read. `str` is a line with its result.

    Args:
        path: the folder.
        recipe: what was trained.
        task: labels, size and scaling; or the tokenizer.
        model: of the checkpoint, in evaluation mode, float32, on the CPU.
        epochs: how many the checkpoint has behind it.
        known: the fingerprints of what it was trained on; see `onebit.training.sources`. None for a run of an older onebit.
    """

    path: Path
    recipe: Recipe
    task: ImageTask | TextTask
    model: nn.Module
    epochs: int
    known: dict[str, str | None] | None = None

    def __str__(self) -> str:
        result, shown = self.result(), printable(self.path)
        if not result:
            return f"{shown}: not finished (epoch {self.epochs} of {self.recipe.epochs})"
        when = f"(epoch {result['chosen_epoch']} of {result['epochs']}), {result['seconds']:.0f} s"
        if "test_images" in result:
            return (
                f"{shown}: accuracy {100 * result['test_accuracy']:.2f} % on {result['test_images']} test images {when}"
            )
        return (
            f"{shown}: {result['validation_bits_per_byte']:.3f} bits per byte, perplexity {result['validation_perplexity']:.2f} and accuracy "
            f"{100 * result['validation_accuracy']:.2f} % on {result['validation_tokens']:,} validation tokens "
            f"({result['validation_tokenizer']}; context {result['validation_context']}) {when}"
        )

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
        """What the finished run wrote to result.json; empty where it has not finished."""
        path = self.path / "result.json"
        return json.loads(path.read_text()) if path.exists() else {}


def build_model(recipe: Recipe, task: ImageTask | TextTask) -> nn.Module:
    """The network that a recipe describes, for the classes or the vocabulary of a task."""
    if isinstance(recipe, TextRecipe) and isinstance(task, TextTask):
        if recipe.model != "decoder":
            return _recurrent_language_model(recipe, len(task.vocabulary))
        return language_decoder(
            {**decoder_sizes_of(recipe), "vocabulary": len(task.vocabulary)},
            binary=recipe.binary,
            scheme=recipe.composed_scheme,
            residual_scale=recipe.residual_scale,
            logit_scale=recipe.logit_scale,
            embedding_widening=recipe.embedding_widening,
            head_widening=recipe.head_widening,
            embedding_spread=recipe.embedding_spread,
            pre_norm=recipe.pre_norm,
        )
    if not isinstance(recipe, ImageRecipe) or not isinstance(task, ImageTask):
        raise OnebitError("[run] its recipe and its task are of different kinds: the folder is damaged")
    if recipe.model != "classifier":
        return _literature(recipe, task)
    return conv_classifier(
        kernel_size=recipe.kernel_size,
        num_classes=len(task.labels),
        widths=recipe.widths,
        binary=recipe.binary,
        in_channels=recipe.channels,
        batch_norm=recipe.batch_norm,
        hidden=recipe.hidden,
        logit_scale=recipe.logit_scale,
        scheme=recipe.composed_scheme,
    )


def _recurrent_language_model(recipe: TextRecipe, vocabulary: int) -> nn.Module:
    scheme = recipe.composed_scheme if recipe.binary else None
    sizes = decoder_sizes_of(recipe)
    features = sizes["features"]
    try:
        return language_lstm(
            vocabulary,
            sizes["context"],
            features=recipe.embedding_widening * features,
            hidden=recipe.hidden or features,
            layers=sizes["blocks"],
            head=tuple(recipe.head_widening * width for width in recipe.head or ()),
            cell=recipe.model,
            scheme=scheme,
            hybrid=recipe.hybrid,
            binary_hidden=recipe.binary_hidden,
            logit_scale=recipe.logit_scale,
            embedding_spread=recipe.embedding_spread,
        )
    except ValueError as error:
        raise RecipeError(str(error)) from None


def _literature(recipe: ImageRecipe, task: ImageTask) -> nn.Module:
    """One of the literature's networks."""
    common: dict[str, Any] = {
        "num_classes": len(task.labels),
        "scheme": recipe.composed_scheme if recipe.binary else None,
        "hybrid": recipe.hybrid,
        "logit_scale": recipe.logit_scale if recipe.binary else None,
    }
    hidden: dict[str, Any] = {} if recipe.hidden is None else {"hidden": recipe.hidden}
    height, width = task.image_size
    try:
        if recipe.model == "mlp":
            return mlp(recipe.channels * height * width, **common, **hidden)
        if recipe.model in CELLS:
            layers = recipe.hidden or (128,)
            sizes = (recipe.channels * width, common.pop("num_classes"), layers[0], len(layers), recipe.model, True)
            return sequence_classifier(*sizes, **common)
        if recipe.model == "vgg":
            widths: dict[str, Any] = {} if isinstance(recipe.widths, str) else {"widths": recipe.widths}
            return vgg((height, width), in_channels=recipe.channels, **common, **hidden, **widths)
        common |= {"in_channels": recipe.channels, "width": recipe.width}
        if recipe.model == "alexnet":
            return alexnet(**common)
        if recipe.model == "mobile-net":
            return mobile_net(small_images=max(height, width) < 96, **common)
        return resnet(int(recipe.model.removeprefix("resnet")), **common)
    except ValueError as error:
        raise RecipeError(str(error)) from None


def decoder_sizes_of(recipe: TextRecipe) -> dict[str, Any]:
    """The sizes of a recipe's decoder: those of its named size, but for what it sets itself."""
    own = {key: getattr(recipe, key) for key in ("context", "blocks", "features", "heads", "head")}
    if recipe.model != "decoder":
        own["heads"] = 1  # which divides all features
    try:
        return decoder_sizes({**decoder_sizes(recipe.size), **{k: v for k, v in own.items() if v is not None}})
    except ValueError as error:
        raise RecipeError(str(error)) from None


def read_task(values: Any) -> ImageTask | TextTask:
    """A task from its JSON values, of whichever kind; raises FormatError where they describe none."""
    kind = values.get("kind") if isinstance(values, dict) else None
    return TextTask.from_json(values) if kind == "text-generation" else ImageTask.from_json(values)


def load_run(path: str | Path, which: Literal["best", "last"] = "best") -> Run:
    """Read a run folder.

    Args:
        path: the folder.
        which: "best" by validation accuracy (of text by validation loss); the last where the run kept no best, having had no validation images of
            its own.

    Raises:
        OnebitError: it is no run folder, has no checkpoint yet, or is damaged.
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
        epochs = min(int(content["epoch"]) + 1, recipe.epochs)  # Lightning counts one more when training has ended
    except Exception as error:  # torch.load and load_state_dict raise many kinds, several lines each
        reason = " ".join(str(error).split())[:200]
        raise OnebitError(f"[{file}] damaged, or of another recipe ({reason})") from None
    return Run(path, recipe, task, model.eval(), epochs, read_fingerprints(path))


def write_json(path: Path, values: Any) -> None:
    """Write plain values as JSON, whole or not at all."""
    write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())
