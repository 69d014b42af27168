"""The training of a classifier of texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from onebit.data.arrays import ArraySplits
from onebit.data.text_classes import (
    Form,
    TextMetrics,
    arrays_of,
    load_texts,
    split_texts,
    splits_of,
    task_vocabulary,
    tokenizer_of,
)
from onebit.models import text_classifier
from onebit.tasks.text_classes import TextClassification
from onebit.training.jobs.arrays import ArrayJob
from onebit.training.objective import Measured, Objective
from onebit.training.recipe.text_classes import TextClassesRecipe


@dataclass(frozen=True)
class LastToken(Objective):
    """The cross-entropy of the class at each text's last token."""

    def measured(self, outputs: Tensor, target: Tensor, whole: bool = True) -> Measured:
        at = torch.arange(len(target), device=outputs.device)
        return super().measured(outputs[at, target[:, 1]], target[:, 0], whole)


class TextClassesJob(ArrayJob):
    """Texts and their classes."""

    recipe_kind: ClassVar = TextClassesRecipe
    task_kind: ClassVar = TextClassification

    @staticmethod
    def read(recipe: TextClassesRecipe) -> tuple[ArraySplits, TextClassification]:
        data, context, seed = recipe.data, recipe.model.context, recipe.run.seed
        found = load_texts(data.source, Form(data.text_column, data.label_column, data.unit))
        train, test = split_texts(found, seed)
        vocabulary = task_vocabulary([text for text, _ in train], data.vocabulary)
        labels = tuple(sorted({label for _, label in train}))
        task = TextClassification(labels, vocabulary, context, data.text_column, data.label_column, data.unit)
        tokenizer = tokenizer_of(vocabulary)
        seen, held = (arrays_of(part, labels, tokenizer, context, data.source) for part in (train, test))
        return splits_of(seen, held, data.validation_share, seed, data.source), task

    @staticmethod
    def network(recipe: TextClassesRecipe, task: TextClassification) -> nn.Module:
        model = recipe.model
        vocabulary = task.vocabulary.count("\n") + 1
        own = model.given("blocks", "features", "heads")
        return text_classifier(len(task.labels), vocabulary, task.context, model.binary, recipe.scheme.made, **own)

    @staticmethod
    def objective_of(recipe: TextClassesRecipe, task: TextClassification) -> Objective:
        return LastToken()

    @staticmethod
    def told(result: dict[str, Any]) -> str:
        return f"accuracy {100 * result['test_accuracy']:.2f} % on {result['test_inputs']} test texts"

    @staticmethod
    def metrics(task: TextClassification) -> TextMetrics:
        return TextMetrics(task.labels)
