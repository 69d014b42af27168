"""The training of a classifier of images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import nn

from onebit.data import load_images
from onebit.errors import OnebitError, RecipeError
from onebit.images import ImageTask
from onebit.models import alexnet, conv_classifier, mlp, mobile_net, resnet, sequence_classifier, vgg
from onebit.schemes import Scheme
from onebit.training.batches import ImageData
from onebit.training.estimation import adapted
from onebit.training.exit_calibration import calibrate_heads
from onebit.training.figures import evaluate, temperature_of
from onebit.training.jobs.job import Job, Note
from onebit.training.objective import Objective
from onebit.training.recipe import CELLS, ImageRecipe
from onebit.training.recipe.images import ImageModel


class ImageJob(Job):
    """Images and their classes."""

    recipe_kind: ClassVar = ImageRecipe
    task_kind: ClassVar = ImageTask

    def __init__(self, recipe: ImageRecipe, note: Note) -> None:
        data, seed = recipe.data, recipe.run.seed
        splits = load_images(data.source, data.image_size, data.channels, data.validation_share, data.train_limit, seed)
        for line in splits.notes:
            note(line)
        height, width = splits.train.pixels.shape[1:3]
        self._splits = splits
        # What the test images are for is to report on: without images set aside nothing can be fitted.
        self._calibrates = recipe.model.calibrate and recipe.data.validation_share > 0
        self.task = task = ImageTask(splits.train.classes, (height, width), data.channels)
        _check_alexnet(recipe.model.name, height, width)
        torch.manual_seed(seed)
        self.model = self.build(recipe, task)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        _check_pooling(self.model, height, width)
        self.data = ImageData(splits, task, recipe)
        self.objective = Objective()
        self.monitor = "val_accuracy" if data.validation_share else None

    @staticmethod
    def build(recipe: ImageRecipe, task: ImageTask) -> nn.Module:
        model, scheme = recipe.model, recipe.scheme.made
        try:
            if model.name == "classifier":
                own = model.given("binary", "widths", "hidden", "kernel_size", "batch_norm", "logit_scale", "exits")
                made: nn.Module = conv_classifier(
                    num_classes=len(task.labels), in_channels=task.channels, scheme=scheme, **own
                )
            else:
                made = _literature(model, scheme if model.binary else None, task)
            return adapted(made, recipe.optimizer.made, model.learned_scales)
        except ValueError as error:
            raise RecipeError(str(error)) from None

    @staticmethod
    def told(result: dict[str, Any]) -> str:
        return f"accuracy {100 * result['test_accuracy']:.2f} % on {result['test_images']} test images"

    def test(self, trained: nn.Module) -> dict[str, Any]:
        assert isinstance(self.task, ImageTask)
        temperature = temperature_of(trained, self._splits.validation, self.task) if self._calibrates else 1.0
        result = evaluate(trained, self._splits.test, replace(self.task, temperature=temperature)).figures()
        own = calibrate_heads(trained, self._splits.validation, self.task) if self._calibrates else {}
        return own | {
            "temperature": temperature,
            "test_accuracy": result["accuracy"],
            "test_loss": result["loss"],
            "test_calibration_error": result["calibration_error"],
            "test_images": len(self._splits.test),
            "train_images": len(self._splits.train),
        }


def _check_pooling(model: nn.Module, height: int, width: int) -> None:
    smallest = 2 ** (sum(isinstance(m, nn.MaxPool2d) for m in model.modules()))
    if min(height, width) < smallest:
        raise OnebitError(
            f"[train] images of {height}x{width} are too small for this network's pooling: use {smallest}x{smallest} or more"
        )


def _check_alexnet(name: str, height: int, width: int) -> None:
    """Refuse images that alexnet's convolution and three pools do not bring to the 6x6 that its dense layers take."""
    sides = [(side + 2 * 2 - 11) // 4 + 1 for side in (height, width)]
    for _ in range(3):
        sides = [(side - 3) // 2 + 1 for side in sides]
    if name == "alexnet" and sides != [6, 6]:
        raise OnebitError(f"[train] images of {height}x{width} do not fit alexnet: use --image-size 224,224")


def _literature(model: ImageModel, scheme: Scheme | None, task: ImageTask) -> nn.Module:
    """One of the literature's networks; without a scheme its float twin."""
    (height, width), channels = task.image_size, task.channels
    common: dict[str, Any] = {"num_classes": len(task.labels), "scheme": scheme, "hybrid": model.hybrid}
    common |= model.given("logit_scale") if scheme is not None else {}
    if model.name == "mlp":
        return mlp(channels * height * width, **common, **model.given("hidden", "pixels"))
    if model.name in CELLS:
        layers = model.hidden or (128,)
        common |= {"hidden": layers[0], "layers": len(layers), "cell": model.name, "image": True}
        return sequence_classifier(channels * width, **common)
    common["in_channels"] = channels
    if model.name == "vgg":
        own = model.given("hidden") if isinstance(model.widths, str) else model.given("hidden", "widths")
        return vgg((height, width), **common, **own)
    if model.name == "alexnet":
        return alexnet(width=model.width, **common)
    if model.name == "mobile-net":
        return mobile_net(width=model.width, small_images=max(height, width) < 96, **common)
    common |= {"small_images": model.small_images, "float_shortcuts": model.float_shortcuts}
    return resnet(int(model.name.removeprefix("resnet")), width=model.width, **common)
