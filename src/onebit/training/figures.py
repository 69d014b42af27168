"""The figures of a PyTorch network on images and on text, in float32 and evaluation mode."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

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
    """What a PyTorch network answers to images, in float32 and evaluation mode."""
    metrics = AnswerMetrics()
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        batches = Batches(images, EVALUATION_BATCH)
        for pixels, target in track(batches, "measure", "images", EVALUATION_BATCH, len(images)):
            metrics.add(model(scale_pixels(pixels.to(device), task)).float().cpu().numpy(), target.numpy())
    return metrics


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
