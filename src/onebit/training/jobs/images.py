"""The training of a classifier of images."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from onebit.data import load_images
from onebit.errors import OnebitError, RecipeError
from onebit.images import ImageTask
from onebit.models import alexnet, conv_classifier, mlp, mobile_net, resnet, sequence_classifier, vgg
from onebit.training.batches import ImageData
from onebit.training.figures import evaluate
from onebit.training.jobs.job import Job, Note
from onebit.training.objective import Objective
from onebit.training.recipe import CELLS, ImageRecipe


class ImageJob(Job):
    """Images and their classes."""

    recipe_kind: ClassVar = ImageRecipe
    task_kind: ClassVar = ImageTask

    def __init__(self, recipe: ImageRecipe, note: Note) -> None:
        splits = load_images(
            recipe.data, recipe.image_size, recipe.channels, recipe.validation_share, recipe.train_limit, recipe.seed
        )
        for line in splits.notes:
            note(line)
        height, width = splits.train.pixels.shape[1:3]
        self._splits = splits
        self.task = task = ImageTask(splits.train.classes, (height, width), recipe.channels)
        torch.manual_seed(recipe.seed)
        self.model = self.build(recipe, task)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        _check_pooling(self.model, height, width)
        self.data = ImageData(splits, task, recipe)
        self.objective = Objective()
        self.monitor = "val_accuracy" if recipe.validation_share else None

    @staticmethod
    def build(recipe: ImageRecipe, task: ImageTask) -> nn.Module:
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

    def test(self, trained: nn.Module) -> dict[str, Any]:
        assert isinstance(self.task, ImageTask)
        result = evaluate(trained, self._splits.test, self.task).figures()
        return {
            "test_accuracy": result["accuracy"],
            "test_loss": result["loss"],
            "test_images": len(self._splits.test),
            "train_images": len(self._splits.train),
        }


def _check_pooling(model: nn.Module, height: int, width: int) -> None:
    smallest = 2 ** (sum(isinstance(m, nn.MaxPool2d) for m in model.modules()))
    if min(height, width) < smallest:
        raise OnebitError(
            f"[train] images of {height}x{width} are too small for this network's pooling: use {smallest}x{smallest} or more"
        )


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
            common |= {"hidden": layers[0], "layers": len(layers), "cell": recipe.model, "image": True}
            return sequence_classifier(recipe.channels * width, **common)
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
