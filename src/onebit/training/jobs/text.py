"""The training of a language model."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from onebit.data.text import TextSplits, load_text
from onebit.errors import OnebitError, RecipeError
from onebit.images import ImageTask
from onebit.models import decoder_sizes, language_decoder, language_lstm
from onebit.models.decoder import LanguageDecoder
from onebit.text import TextTask
from onebit.training.figures import evaluate_text
from onebit.training.jobs.job import Job, Note
from onebit.training.objective import Objective
from onebit.training.recipe import TextRecipe
from onebit.training.windows import TextData


class TextJob(Job):
    """Texts and their next tokens."""

    recipe_kind: ClassVar = TextRecipe
    task_kind: ClassVar = TextTask

    def __init__(self, recipe: TextRecipe, note: Note) -> None:
        self._recipe = recipe
        self._splits = splits = _load(recipe)
        for line in splits.notes:
            note(line)
        self.task = splits.task
        torch.manual_seed(recipe.seed)
        self.model = self.build(recipe, splits.task)
        if isinstance(self.model, LanguageDecoder):
            self.model.checkpoint_activations = recipe.checkpoint_activations
        self._context = decoder_sizes_of(recipe)["context"]
        self.data = TextData(splits, recipe, self._context)
        self.objective = Objective(splits.validation.tokens_per_byte)
        self.monitor = "val_loss"

    @staticmethod
    def prepare(recipe: TextRecipe) -> None:
        _load(recipe)  # into the cache

    @staticmethod
    def build(recipe: TextRecipe, task: TextTask) -> nn.Module:
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

    def check_start(self, task: ImageTask | TextTask, path: str) -> None:
        if task != self.task:
            raise OnebitError(
                f"[warm_start] {path} has another vocabulary: train on its data, or give both the same vocab.txt"
            )

    def test(self, trained: nn.Module) -> dict[str, Any]:
        recipe, splits = self._recipe, self._splits
        metrics = evaluate_text(trained, splits.validation, splits.task, self._context, recipe.examples)
        shown = metrics.figures(padded=recipe.examples == "sentences")
        figures = {f"validation_{key}": value for key, value in shown.items()}
        seen = recipe.epochs * self.data.batches_per_epoch * recipe.batch_size * self._context
        return {**figures, "train_tokens": len(splits.train), "train_tokens_seen_at_most": seen}


def _load(recipe: TextRecipe) -> TextSplits:
    return load_text(
        recipe.data,
        recipe.vocabulary,
        "line" if recipe.examples == "sentences" else "document",
        recipe.validation_data,
        recipe.validation_share,
        recipe.seed,
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


def decoder_sizes_of(recipe: TextRecipe) -> dict[str, Any]:
    """The sizes of a recipe's decoder: those of its named size, but for what it sets itself."""
    own = {key: getattr(recipe, key) for key in ("context", "blocks", "features", "heads", "head")}
    if recipe.model != "decoder":
        own["heads"] = 1  # which divides all features
    try:
        return decoder_sizes({**decoder_sizes(recipe.size), **{k: v for k, v in own.items() if v is not None}})
    except ValueError as error:
        raise RecipeError(str(error)) from None
