"""The kinds of recipes by the names that files have for them."""

from __future__ import annotations

from onebit.training.recipe.images import ImageRecipe
from onebit.training.recipe.pictures import DetectionRecipe, SegmentationRecipe
from onebit.training.recipe.recipe import Recipe
from onebit.training.recipe.series import SeriesRecipe
from onebit.training.recipe.sound import SoundRecipe
from onebit.training.recipe.text import TextRecipe
from onebit.training.recipe.text_classes import TextClassesRecipe

KINDS: dict[str, type[Recipe]] = {
    kind.kind: kind
    for kind in (
        ImageRecipe,
        TextRecipe,
        SoundRecipe,
        DetectionRecipe,
        SegmentationRecipe,
        SeriesRecipe,
        TextClassesRecipe,
    )
}
