"""Make an experiment of the paper smaller by one number, F, above 0 and at most 1. 1 is the paper.

Lengths of the network are multiplied by the square root of F, so that its parameters are multiplied by about F. Amounts are multiplied by F.
"""

from __future__ import annotations

import math
from functools import cache

from onebit.data import load_images
from onebit.data.text import load_text
from onebit.models.classifier import NAMED_WIDTHS
from onebit.training.jobs import decoder_sizes_of
from onebit.training.recipe import ImageRecipe, Recipe, TextRecipe

# The paper's amounts: the two parts of Food-101, and 95 % of 782,208 sentences.
TRAIN_IMAGES, VALIDATION_IMAGES, TRAIN_SENTENCES = 75_750, 25_250, 743_098
# The learning rate is not raised beyond this: at 1e-3 the small recipes of this package learn well.
HIGHEST_RATE = 1e-3
# In steps, as in the small recipes for text: without warm-up, decoders that normalise after each block diverge at a raised rate.
WARMUP = 100
_SIDE, _BLOCKS = 32, 3  # the least side of an image, and the least number of blocks of a classifier


def scale_recipe(recipe: Recipe, scale: float, paper_rate: bool = False) -> Recipe:
    """A recipe at a scale. Scale 1 gives the recipe itself.

    Args:
        recipe: the recipe of one of the paper's experiments.
        scale: above 0, at most 1.
        paper_rate: keep the recipe's learning rate. Otherwise it is divided by F^2, up to 1e-3: Adam moves a latent weight by about the learning
            rate per step, and a smaller experiment has F^2 times the steps.
    """
    if scale == 1:
        return recipe
    rate = recipe.optimizer.learning_rate
    raised = rate if paper_rate else max(rate, min(HIGHEST_RATE, rate / scale**2))
    unit = scale if recipe.schedule.unit == "epoch" else 1
    changes = {
        "epochs": max(2, round(scale * recipe.schedule.epochs)),
        "learning_rate": raised,
        "warmup": math.ceil(unit * recipe.schedule.warmup),
        "decay": None if recipe.schedule.decay is None else math.ceil(unit * recipe.schedule.decay),
    }
    if isinstance(recipe, TextRecipe):
        if raised > rate:
            changes["warmup"] = max(WARMUP, recipe.schedule.warmup)
        return recipe.override(changes | _decoder(recipe, scale))
    assert isinstance(recipe, ImageRecipe)
    return recipe.override(changes | _classifier(recipe, scale))


def _nearest(value: float, step: int, least: int) -> int:
    return max(least, step * round(value / step))


def _classifier(recipe: ImageRecipe, scale: float) -> dict[str, object]:
    assert recipe.data.image_size is not None and isinstance(recipe.model.widths, str)
    whole = recipe.data.image_size[0]
    side = _nearest(scale * whole, 32, _SIDE)
    widths, _ = NAMED_WIDTHS[recipe.model.widths]
    # One block less at the front for each halving of the side, so that the other blocks keep the map sizes of the paper.
    blocks = max(_BLOCKS, len(widths) - round(math.log2(whole / side)))
    return {
        "image_size": (side, side),
        "widths": tuple(_nearest(math.sqrt(scale) * width, 8, 8) for width in widths[-blocks:]),
        "train_limit": max(2, round(scale * TRAIN_IMAGES)),
    }


def _decoder(recipe: TextRecipe, scale: float) -> dict[str, object]:
    sizes = decoder_sizes_of(recipe)
    root = math.sqrt(scale)
    heads = max(2, round(root * sizes["heads"]))
    changes: dict[str, object] = {
        "context": _nearest(root * sizes["context"], 16, 32),
        "blocks": max(2, round(root * sizes["blocks"])),
        "heads": heads,
        "features": _nearest(root * sizes["features"], 4 * heads, 4 * heads),
        "head": tuple(_nearest(root * width, 8, 16) for width in sizes["head"]),
    }
    if isinstance(recipe.data.vocabulary, int):
        changes["vocabulary"] = max(512, round(scale * recipe.data.vocabulary))
    return changes


def fit_to_data(recipe: Recipe, scale: float) -> Recipe:
    """The recipe with keys that depend on the amount of data: the number of validation images, or the steps per epoch of text.

    Raises:
        DataError: the data cannot be used.
    """
    if isinstance(recipe, TextRecipe):
        text = (
            recipe.data.source,
            recipe.data.vocabulary,
            recipe.data.validation_data,
            recipe.data.validation_share,
            recipe.run.seed,
        )
        sentences = min(_count_sentences(*text), max(1, round(scale * TRAIN_SENTENCES)))
        steps = -(-sentences // (recipe.optimizer.batch_size * recipe.optimizer.accumulate))
        return recipe if scale == 1 else recipe.override({"epoch_steps": recipe.schedule.epoch_steps or steps})
    assert isinstance(recipe, ImageRecipe)
    count = _count_images(recipe.data.source, recipe.data.image_size, recipe.data.channels, recipe.run.seed)
    share = max(0.02, min(0.2, scale * VALIDATION_IMAGES / count))
    return recipe if scale == 1 else recipe.override({"validation_share": recipe.data.validation_share or share})


# The rows of a table share their data, which are counted only once.
@cache
def _count_images(data: str, size: tuple[int, int] | None, channels: int, seed: int) -> int:
    return len(load_images(data, size, channels, seed=seed).train)


@cache
def _count_sentences(data: str, vocabulary: int | str, validation: str | None, share: float, seed: int) -> int:
    return load_text(data, vocabulary, "line", validation, share, seed).train.documents


LAW = {
    "table2": (
        "image side F (multiples of 32), one block less at the front for each halving of it (at least 3), widths the square root of F "
        "(multiples of 8), training images and epochs F (at least 2 epochs)"
    ),
    "table5": (
        "features, head, blocks, attention heads and context the square root of F (at least 2 blocks, 2 heads, 32 tokens), "
        "vocabulary F (at least 512), sentences and epochs F (at least 2 epochs)"
    ),
}
