"""The figures of a PyTorch network on images and on text, in float32 and evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from onebit.confidence import fit_temperature
from onebit.data import ImageSet
from onebit.data.examples import NOT_COUNTED
from onebit.data.tokens import TextSet
from onebit.images import ImageTask
from onebit.metrics import AnswerMetrics, TextMetrics
from onebit.progress import track
from onebit.text import TextTask, Tokenizer
from onebit.training.batches import EVALUATION_BATCH, Batches, scale_pixels
from onebit.training.windows import InOrder, evaluation_examples


def evaluate(model: nn.Module, images: ImageSet, task: ImageTask) -> AnswerMetrics:
    """What a PyTorch network answers to images, in float32 and evaluation mode; its logits are divided by the task's temperature."""
    metrics = AnswerMetrics()
    for logits, labels in _answers(model, images, task):
        metrics.add((logits / task.temperature).astype(np.float32), labels)
    return metrics


def temperature_of(model: nn.Module, images: ImageSet, task: ImageTask) -> float:
    """The temperature that fits a PyTorch network's confidence to images that it was not trained on; see `onebit.confidence`."""
    answers = list(_answers(model, images, task))
    return fit_temperature(np.concatenate([a for a, _ in answers]), np.concatenate([b for _, b in answers]))


def _answers(model: nn.Module, images: ImageSet, task: ImageTask) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Logits and labels, a batch at a time."""
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        batches = Batches(images, EVALUATION_BATCH)
        for pixels, target in track(batches, "measure", "images", EVALUATION_BATCH, len(images)):
            yield model(scale_pixels(pixels.to(device), task)).float().cpu().numpy(), target.numpy()


def evaluate_text(model: nn.Module, text: TextSet, task: TextTask, context: int, kind: str = "windows") -> TextMetrics:
    """The figures of a PyTorch language model on all of a text, in float32 and evaluation mode.

    Args:
        model: integers (batch, context) to logits (batch, context, vocabulary).
        text: tokens.
        task: the tokenizer.
        context: tokens that the model looks at.
        kind: of examples; see `Examples`.
    """
    device = next(model.parameters()).device
    metrics = TextMetrics(task.description, context, text.tokens_per_byte)
    pad = Tokenizer(task).pad
    model.eval()
    with torch.inference_mode():
        examples = evaluation_examples(text, task, context, kind)
        for inputs, targets in track(InOrder(examples, None), "measure", kind, EVALUATION_BATCH, len(examples)):
            counted = targets != NOT_COUNTED
            targets = torch.where(counted, targets, pad).to(device)
            logits = model(inputs.to(device)).float()  # (batch, time, vocabulary)
            nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
            right = logits.argmax(-1).flatten() == targets.flatten()
            metrics.add(nats.cpu().numpy(), right.cpu().numpy(), counted.flatten().numpy())
    return metrics
