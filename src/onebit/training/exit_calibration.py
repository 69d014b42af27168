"""Temperatures and thresholds of the heads of a network with exits, from images that it was not trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from onebit.confidence import fit_temperature
from onebit.data import ImageSet
from onebit.early_exits import calibrated_thresholds
from onebit.images import ImageTask
from onebit.nn import AfterExits, heads_of, most_planes, set_calibration, use_planes
from onebit.ops.exit import certainty
from onebit.training.batches import EVALUATION_BATCH, Batches, scale_pixels

# The name of what is written to a run's result.json.
KEY = "calibration"


def calibrate_heads(model: nn.Module, images: ImageSet, task: ImageTask) -> dict[str, Any]:
    """Fit a temperature for each head, and a threshold for each exit with which no accuracy is lost, for each number of planes.

    The last head with all planes keeps the temperature 1, because the task has its own.

    Returns:
        What `set_calibration` takes, under `KEY`; empty for a network without exits.
    """
    heads = heads_of(model)
    if not heads:
        return {}
    most, found = most_planes(model), {}
    for planes in range(1, most + 1):
        use_planes(model, planes)
        for head in heads:
            head.adjust()
        logits, labels = _answers(model, images, task)
        temperatures = [fit_temperature(own, labels) for own in logits]
        divided = [own / temperature for own, temperature in zip(logits, temperatures, strict=True)]
        sure = np.stack([certainty(own) for own in divided], 1)
        right = np.stack([own.argmax(1) == labels for own in divided], 1)
        thresholds = calibrated_thresholds(sure, right)
        if planes == most:
            temperatures[-1] = 1.0
        found[str(planes)] = {"temperatures": temperatures, "thresholds": thresholds}
    set_calibration(model, found)
    return {KEY: found}


def _answers(model: nn.Module, images: ImageSet, task: ImageTask) -> tuple[list[NDArray[Any]], NDArray[Any]]:
    """The logits of every head, and the labels."""
    device = next(model.parameters()).device
    ends = [m for m in model.modules() if isinstance(m, AfterExits)]
    parts, labels = [], []
    model.eval()
    try:
        for end in ends:
            end.all_heads = True
        with torch.inference_mode():
            for pixels, target in Batches(images, EVALUATION_BATCH):
                answers = model(scale_pixels(pixels.to(device), task))
                parts.append([logits.float().cpu().numpy() for logits in answers])
                labels.append(target.numpy())
    finally:
        for end in ends:
            end.all_heads = False
    return [np.concatenate(head) for head in zip(*parts, strict=True)], np.concatenate(labels)
