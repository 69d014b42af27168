"""The training of a language model."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from onebit.data.text import TextSplits, load_text
from onebit.data.tokens import Unit
from onebit.errors import OnebitError, RecipeError
from onebit.models import decoder_sizes, language_decoder, language_lstm
from onebit.models.decoder import LanguageDecoder
from onebit.text import TextTask
from onebit.training.estimation import adapted
from onebit.training.figures import evaluate_text
from onebit.training.jobs.job import AnyTask, Job, Note
from onebit.training.objective import Objective
from onebit.training.recipe import TextRecipe
from onebit.training.recipe.text import OF_BLOCKS
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
        torch.manual_seed(recipe.run.seed)
        self.model = self.build(recipe, splits.task)
        if isinstance(self.model, LanguageDecoder):
            self.model.checkpoint_activations = recipe.run.checkpoint_activations
        self._context = decoder_sizes_of(recipe)["context"]
        self.data = TextData(splits, recipe, self._context)
        self.objective = Objective(splits.validation.tokens_per_byte)
        self.monitor = "val_loss"

    @staticmethod
    def prepare(recipe: TextRecipe) -> None:
        _load(recipe)  # into the cache

    @staticmethod
    def build(recipe: TextRecipe, task: TextTask) -> nn.Module:
        model, scheme = recipe.model, recipe.scheme.made
        sizes = {**decoder_sizes_of(recipe), "vocabulary": len(task.vocabulary)}
        if model.name != "decoder":
            return _recurrent(recipe, sizes)
        own = model.given(
            "form", "residual_scale", "embedding_widening", "head_widening", "embedding_spread", "pre_norm"
        )
        own |= model.given(*OF_BLOCKS)
        try:
            made = language_decoder(sizes, model.binary, scheme=scheme, **own, **model.given("logit_scale"))
            return adapted(made, recipe.optimizer.made, model.learned_scales)
        except ValueError as error:
            raise RecipeError(str(error)) from None

    def check_start(self, task: AnyTask, path: str) -> None:
        if task != self.task:
            raise OnebitError(
                f"[warm_start] {path} has another vocabulary: train on its data, or give both the same vocab.txt"
            )

    @staticmethod
    def told(result: dict[str, Any]) -> str:
        return (
            f"{result['validation_bits_per_byte']:.3f} bits per byte, perplexity {result['validation_perplexity']:.2f} and accuracy "
            f"{100 * result['validation_accuracy']:.2f} % on {result['validation_tokens']:,} validation tokens "
            f"({result['validation_tokenizer']}; context {result['validation_context']})"
        )

    def test(self, trained: nn.Module) -> dict[str, Any]:
        recipe, splits = self._recipe, self._splits
        metrics = evaluate_text(trained, splits.validation, splits.task, self._context, recipe.data.examples)
        shown = metrics.figures(padded=recipe.data.examples == "sentences")
        figures = {f"validation_{key}": value for key, value in shown.items()}
        seen = recipe.schedule.epochs * self.data.batches_per_epoch * recipe.optimizer.batch_size * self._context
        return {**figures, "train_tokens": len(splits.train), "train_tokens_seen_at_most": seen}


def _load(recipe: TextRecipe) -> TextSplits:
    data = recipe.data
    unit: Unit = "line" if data.examples == "sentences" else "document"
    return load_text(data.source, data.vocabulary, unit, data.validation_data, data.validation_share, recipe.run.seed)


def _recurrent(recipe: TextRecipe, sizes: dict[str, Any]) -> nn.Module:
    model = recipe.model
    scheme = recipe.scheme.made if model.binary else None
    shape = {
        "features": (model.embedding_widening or 1) * sizes["features"],
        "hidden": model.hidden or sizes["features"],
        "layers": sizes["blocks"],
        "head": tuple(model.head_widening * width for width in model.head or ()),
    }
    own = model.given("hybrid", "binary_hidden", "logit_scale", "embedding_spread")
    try:
        made = language_lstm(sizes["vocabulary"], sizes["context"], cell=model.name, scheme=scheme, **shape, **own)
        return adapted(made, recipe.optimizer.made, model.learned_scales)
    except ValueError as error:
        raise RecipeError(str(error)) from None


def decoder_sizes_of(recipe: TextRecipe) -> dict[str, Any]:
    """The sizes of a recipe's decoder: those of its named size, but for what it sets itself."""
    own = recipe.model.given("context", "blocks", "features", "heads", "head")
    if recipe.model.name != "decoder":
        own["heads"] = 1  # which divides all features
    try:
        return decoder_sizes({**decoder_sizes(recipe.model.size), **own})
    except ValueError as error:
        raise RecipeError(str(error)) from None
